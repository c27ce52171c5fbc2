//! The types that the methods share. What a member means is said in the interface's description, once.

pub mod array;
pub mod attempt;
pub mod callback;
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
pub mod setting;
pub mod state;

pub use array::{ArrayInfo, ArraySpec, CallbackFor, Indices, MAX_ELEMENTS};
pub use attempt::Attempt;
pub use callback::CallbackRecord;
pub use condition::{Condition, Ending, Incident, Stuck, Swept};
pub use explanation::{Estimate, Explanation, ExplanationKind};
pub use happening::{Happening, HappeningKind};
pub use job::{
    DEFAULT_POOL, Dependency, IfExists, Input, Job, JobDurability, MAX_KEY, MAX_LABEL, MAX_LABELS, OnCrash,
    OnDisconnect, TIE_TO_CLIENT, is_label,
};
pub use label::{LabelLimit, LimitSource};
pub use limits::{Limit, Limits, MemoryLimiter};
pub use pool::{MAX_RESOURCE, Pool, ReadyWhen, Resource, ResourceItem, Slot, SlotState, Tier, is_resource};
pub use progress::{Obstacle, ObstacleKind, Progress, ProgressEvent};
pub use record::{Brief, CallProgress, Callback, Entry, MemoryLimit, On, OutputFile, Record, SCHEMA, Usage};
pub use schedule::{Firing, Missed, Overlap, Schedule, ScheduleState};
pub use setting::{Setting, SettingSource};
pub use state::{ResultKind, State};
