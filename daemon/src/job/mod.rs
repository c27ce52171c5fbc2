//! The nouns that every layer of the daemon shares, as plain data.
//!
//! * [`ids`]: the names by which jobs, callbacks, requests, attempts, processes and users are told apart;
//! * [`work`]: what a job is to do;
//! * [`labels`]: what a job shares limits with, and the line that it waits in;
//! * [`tries`]: how often it was and may be tried;
//! * [`place`]: where it is meanwhile;
//! * [`pause`]: that a pool starts nothing, because somebody wants that;
//! * [`queued`]: how many are queued, by what keeps them from their line;
//! * [`schedule`], [`timing`]: what is kept of a schedule, and when its times are;
//! * [`outcome`]: how attempts and jobs end.

mod ids;
mod labels;
mod outcome;
mod pause;
mod place;
mod queued;
mod schedule;
mod timing;
mod tries;
mod work;

pub use ids::{CallbackId, Claim, GroupId, IdMap, IdSet, JobId, Process, ProcessId, RequestId, Unit, UserId};
pub use labels::{Labels, LineKey};
pub use outcome::{Answered, Ended, Exit, Outcome, SpawnFailure, Stage, StopReason, Term, Verdict};
pub use pause::Pause;
pub use place::{Holdup, Place, Start, Unmet, Until, micros};
pub use queued::Queued;
pub use schedule::{KeptSchedule, LastFiring};
pub use timing::Timing;
pub use tries::{ExitCodes, MAX_BACKOFF, Position, Ready, Retries, Tries};
pub use work::{
    After, Call, Conditions, Environment, Isolate, JobKind, Key, NewCallback, NotBefore, Program, Tie,
    Unique, Wear, Work,
};
