//! What poolctl prints about an outcome, a record, a pool, an event and an error: text for people and JSON
//! documents.

pub mod error;
pub mod event;
pub mod limit;
pub mod outcome;
pub mod pool;
pub mod record;
pub mod schedule;
pub mod shell;
