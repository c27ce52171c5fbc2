//! The nouns that every layer of the daemon shares, as plain data.
//!
//! * [`ids`]: the names by which jobs, callbacks, requests, attempts, processes and users are told apart;
//! * [`work`]: what a job is to do;
//! * [`tries`]: how often it was and may be tried;
//! * [`outcome`]: how attempts and jobs end.

mod ids;
mod outcome;
mod tries;
mod work;

pub use ids::{CallbackId, Claim, GroupId, IdMap, IdSet, JobId, Process, ProcessId, RequestId, Unit, UserId};
pub use outcome::{Answer, Ended, Exit, Outcome, SpawnFailure, Stage, StopReason, Verdict};
pub use tries::{Position, Ready, Retries};
pub use work::{Call, Environment, Isolate, JobKind, Key, NewCallback, Program, Tie, Wear, Work};
