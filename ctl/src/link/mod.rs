//! The way to poold: where poold is, how it is started, and how a connection goes on over its restarts.

pub mod connect;
pub mod deadline;
pub mod homecoming;
pub mod session;
mod silence;
pub mod units;
