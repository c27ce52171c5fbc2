//! The end of processes: who descends from this one, signals to them, burying them, and having patience with
//! those that do not end.
//!
//! * [`tree`]: descendants, and signals to them;
//! * [`reap`]: the one place that calls waitpid(2), which it never lets block;
//! * [`stuck`]: processes that do not end though they were killed;
//! * [`sweep`]: a worker, a guardian or a dying supervisor ends all that is below it;
//! * [`orphans`]: a supervisor ends what dead workers have left behind, while other workers live;
//! * [`leftovers`]: a start ends what a dead daemon has left behind.

mod leftovers;
mod orphans;
mod reap;
mod stuck;
mod sweep;
mod tree;

pub use leftovers::{Evidence, Leftover, Recorded, kill_leftovers};
pub use orphans::Orphans;
pub(super) use reap::bury;
pub use reap::{Reaped, reap_one, stopped_one, was_killed_unexecuted};
pub use stuck::{PATIENCE, Stuck};
pub use sweep::Sweeper;
pub use tree::{
    Descendant, continue_child, cpu_ticks_of_tree, freeze, is_ending, is_stopped, kill_child, outer_pid,
    resident_bytes_below, signal_group, signal_tree, start_ticks_of,
};
pub(super) use tree::{open_pidfd, send_signal};
