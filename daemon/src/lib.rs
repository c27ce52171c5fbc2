//! poold: a supervisor daemon that runs jobs in fixed pools of worker processes.
//!
//! In reading order: the nouns ([`job`]); what is decided, by two pure machines ([`core`], [`desk`]); what is
//! kept ([`engine`], [`files`]); what runs ([`kernel`], [`worker`], [`fleet`]); who is served ([`server`]);
//! what would hold up the loop ([`aside`]); the process in which all that meets ([`shell`]); and how it comes
//! about ([`start`]). ARCHITECTURE.md at the top of the repository has the whole picture.

pub mod job;

pub mod core;
pub mod desk;

pub mod engine;
pub mod files;

pub mod aside;

pub mod fleet;
pub mod kernel;
pub mod worker;

pub mod server;
pub mod shell;

pub mod start;

#[cfg(test)]
mod directions;
#[cfg(test)]
mod sim;
