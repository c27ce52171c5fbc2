//! The life of a job in the core, from its submission to its end.

pub mod array;
pub mod attempt;
pub mod call;
pub mod crash;
pub mod ending;
pub mod freeze;
pub mod outcome;
pub mod rerun;
pub mod retry;
pub mod stop;
pub mod submission;
