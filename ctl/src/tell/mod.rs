//! What poolctl prints about an outcome, a record, a pool, a callback, an event and an error: text for people
//! and JSON documents.

pub mod attempt;
pub mod callback;
pub mod error;
pub mod event;
pub mod limit;
pub mod outcome;
pub mod pool;
pub mod postmortem;
pub mod record;
pub mod row;
pub mod schedule;
pub mod sheet;
pub mod shell;
pub mod when;
