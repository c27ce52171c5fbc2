//! Control groups (cgroups(7), version 2): where this daemon's groups are, one of them, and what a worker
//! does with the group of its slot.

mod group;
mod place;
mod slot;

pub use group::{Condition as GroupCondition, Group, remove as remove_group};
pub use place::{DaemonGroups, GroupsPlace};
pub use slot::SlotGroup;
