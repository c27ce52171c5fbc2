//! What holds the attempts of a pool together on top of the subreapers: control groups wherever they can be had. What cannot be had is no error:
//! it is told with the pools, and with what would help.

use std::path::{Path, PathBuf};

use pool_proto::interface::Tier;

use crate::config::CgroupUse;
use crate::process::{Groups, Place};
use crate::scheduler::{LaneId, SlotId};

/// See the module's description.
#[derive(Debug)]
pub struct Containment {
    groups: Option<Groups>,
    /// Why there are no groups.
    without: String,
}

impl Containment {
    /// Kills what an earlier daemon of this state directory has left in its groups, and makes our own.
    pub fn set_up(state_dir: &Path, usage: CgroupUse) -> Self {
        let place = Place::find(state_dir);
        let killed = place.as_ref().map_or(0, Place::kill_leftovers);
        if killed > 0 {
            tracing::warn!(groups = killed, "what an earlier poold had left behind in its control groups was killed");
        }
        let groups = match usage {
            CgroupUse::Auto => place.and_then(Place::set_up),
            CgroupUse::Off => Err("the configuration says `cgroup = \"off\"`".to_owned()),
        };
        match groups {
            Ok(groups) => {
                tracing::info!(memory = groups.has_memory(), "attempts run in control groups");
                Self { groups: Some(groups), without: String::new() }
            }
            Err(without) => {
                tracing::info!("attempts run without control groups: {without}");
                Self { groups: None, without }
            }
        }
    }

    /// The group for a slot's attempts, named after its lane; none where they run without.
    pub fn group_of(&mut self, slot: SlotId, lane: &str) -> Option<PathBuf> {
        let groups = self.groups.as_ref()?;
        let name = match slot.lane {
            LaneId::Pool(_) => format!("pool-{lane}-{}", slot.index),
            LaneId::Callbacks => format!("callbacks-{}", slot.index),
        };
        match groups.of_slot(&name) {
            Ok(path) => {
                self.without.clear();
                Some(path)
            }
            Err(error) => {
                tracing::warn!(%error, name, "a slot goes without a control group");
                self.without = format!("the control group of a slot could not be made: {error}");
                None
            }
        }
    }

    /// The tier in force for a pool's attempts, and why it is no higher one.
    pub fn describe(&self, _pool: &str) -> (Tier, Option<String>) {
        if !self.without.is_empty() {
            return (Tier::Subreaper, Some(self.without.clone()));
        }
        (Tier::Cgroup, None)
    }

    /// At an orderly end: nothing runs any more.
    pub fn remove(&self) {
        if let Some(groups) = &self.groups {
            groups.remove();
        }
    }
}
