//! The nouns that every layer of the daemon shares, as plain data.
//!
//! * [`ids`]: the names by which jobs, callbacks, requests, attempts, processes and users are told apart;
//! * [`work`]: what a job is to do;
//! * [`edit`]: what is to be changed of that before it begins;
//! * [`array`]: one job that stands for many;
//! * [`labels`]: what a job shares limits with, and the line that it waits in;
//! * [`needs`]: what a job needs besides its turn: room for its labels, slots, resources;
//! * [`tries`]: how often it was and may be tried;
//! * [`place`]: where it is meanwhile;
//! * [`steer`]: what a client wants of the input of what runs;
//! * [`pause`]: that a pool starts nothing, because somebody wants that;
//! * [`queued`]: how many are queued, by what keeps them from their line;
//! * [`filter`]: which jobs a listing is about;
//! * [`schedule`], [`timing`]: what is kept of a schedule, and when its times are;
//! * [`outcome`]: how attempts and jobs end.

mod array;
mod edit;
mod filter;
mod ids;
mod labels;
mod needs;
mod outcome;
mod pause;
mod place;
mod queued;
mod schedule;
mod steer;
mod timing;
mod tries;
mod work;

pub use array::{ArrayPart, ArrayPlan, ArrayTally, Element, array_label, array_of_label};
pub use edit::{Edit, Unfit};
pub use filter::{Filter, Traits};
pub use ids::{CallbackId, Claim, GroupId, IdMap, IdSet, JobId, Process, ProcessId, RequestId, Unit, UserId};
pub use labels::{Labels, LineKey};
pub use needs::{Capacity, ITEMS_VARIABLE, Items, Limit, Needs, Resources, Shortfall, items_variable};
pub use outcome::{
    Answered, Ended, Exit, Outcome, PastAttempt, SpawnFailure, Stage, StopReason, TIMED_OUT, Term, Verdict,
};
pub use pause::Pause;
pub use place::{Holdup, Place, Start, Unmet, Until, micros};
pub use queued::Queued;
pub use schedule::{KeptSchedule, LastFiring};
pub use steer::Steer;
pub use timing::Timing;
pub use tries::{ExitCodes, KEPT_ATTEMPTS, MAX_BACKOFF, Position, Ready, Retries, Tries};
pub use work::{
    After, Call, Conditions, Environment, Isolate, JobKind, Key, LARGE_VALUE, NewCallback, NotBefore,
    Program, Tie, Unique, Wear, Work,
};
