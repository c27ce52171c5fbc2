//! The types that the methods share. What a member means is said in the interface's description, once.

pub mod condition;
pub mod explanation;
pub mod happening;
pub mod job;
pub mod label;
pub mod limits;
pub mod pool;
pub mod progress;
pub mod record;
pub mod schedule;
pub mod state;

pub use condition::{Condition, Ending, Incident, Stuck, Swept};
pub use explanation::{Explanation, ExplanationKind};
pub use happening::{Happening, HappeningKind};
pub use job::{
    DEFAULT_POOL, Dependency, IfExists, Job, JobDurability, MAX_KEY, MAX_LABEL, MAX_LABELS, OnCrash,
    OnDisconnect, TIE_TO_CLIENT, is_label,
};
pub use label::{LabelLimit, LimitSource};
pub use limits::{Limit, Limits, MemoryLimiter};
pub use pool::{Pool, ReadyWhen, Slot, SlotState, Tier};
pub use progress::{Obstacle, ObstacleKind, Progress, ProgressEvent};
pub use record::{Brief, CallProgress, Callback, MemoryLimit, On, OutputFile, Record, SCHEMA, Usage};
pub use schedule::{Firing, Missed, Overlap, Schedule, ScheduleState};
pub use state::{ResultKind, State};
