//! From options to a job of the protocol: what a job takes over from the caller, and the input that poold
//! gets before the job.

pub mod environment;
pub mod job;
pub mod params;
pub mod stdin;
