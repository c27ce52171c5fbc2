//! poold: a supervisor daemon that runs jobs in fixed pools of worker processes.
//!
//! In reading order: what is said ([`cli`], [`config`]), what is decided ([`job`], [`scheduler`]), what is kept ([`store`], [`output`]),
//! what runs ([`process`], [`rpc`], [`worker`], [`fleet`]), who is served ([`server`]), and the processes in which all that meets
//! ([`supervisor`], [`guardian`], [`startup`]). ARCHITECTURE.md at the top of the repository has the whole picture.

pub mod cli;
pub mod config;

pub mod job;
pub mod scheduler;

pub mod output;
pub mod store;

pub mod fleet;
pub mod process;
pub mod rpc;
pub mod worker;

pub mod server;

pub mod guardian;
pub mod startup;
pub mod supervisor;
