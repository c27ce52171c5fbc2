//! What holds the attempts of a pool together on top of the subreapers: control groups wherever they can be
//! had. What cannot be had is no error: it is told with the pools, and with what would help.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pool_proto::nouns::{DEFAULT_POOL, Tier};

use crate::core::{LaneId, SlotId};
use crate::job::Isolate;
use crate::kernel::{DaemonGroups, GroupsPlace};
use crate::start::config::{CgroupUse, Config};

/// See the module's description.
#[derive(Debug)]
pub struct Containment {
    groups: Option<DaemonGroups>,
    /// Why there are no groups.
    without: String,
    /// By the pool's name. As it was when the pool was first seen: its workers are not restarted for it.
    isolate: BTreeMap<String, Isolate>,
    leftovers: usize,
    is_changed: bool,
    /// Groups of programs made so far.
    programs: u64,
}

impl Containment {
    /// Kills what an earlier daemon of this state directory has left in its groups, and makes our own.
    pub fn set_up(state_dir: &Path, config: &Config) -> Self {
        let place = GroupsPlace::find(state_dir);
        let killed = place.as_ref().map_or(0, GroupsPlace::kill_leftovers);
        if killed > 0 {
            tracing::warn!(
                groups = killed,
                "what an earlier poold had left behind in its control groups was killed"
            );
        }
        let groups = match config.cgroup {
            CgroupUse::Auto => place.and_then(GroupsPlace::set_up),
            CgroupUse::Off => Err("the configuration says `cgroup = \"off\"`".to_owned()),
        };
        let mut isolate: BTreeMap<String, Isolate> =
            config.pool.iter().map(|(name, pool)| (name.clone(), pool.isolate)).collect();
        // There even where nobody has configured it.
        isolate.entry(DEFAULT_POOL.to_owned()).or_default();
        match groups {
            Ok(groups) => {
                tracing::info!(memory = groups.has_memory(), "attempts run in control groups");
                Self {
                    groups: Some(groups),
                    without: String::new(),
                    isolate,
                    leftovers: killed,
                    is_changed: true,
                    programs: 0,
                }
            }
            Err(without) => {
                tracing::info!("attempts run without control groups: {without}");
                Self { groups: None, without, isolate, leftovers: killed, is_changed: true, programs: 0 }
            }
        }
    }

    /// The groups in which an earlier daemon had left something.
    pub fn leftovers(&self) -> usize {
        self.leftovers
    }

    /// The configuration has been read anew: takes in the pools that have come.
    pub fn configure(&mut self, config: &Config) {
        for (name, pool) in &config.pool {
            let known = *self.isolate.entry(name.clone()).or_insert(pool.isolate);
            self.is_changed = true;
            if known != pool.isolate {
                tracing::warn!(pool = name, "`isolate` takes effect with the next start");
            }
        }
    }

    /// What a slot's worker is to have to itself. Callbacks' have nothing.
    pub fn isolate_of(&self, slot: SlotId, lane: &str) -> Isolate {
        match slot.lane {
            LaneId::Pool(_) => self.isolate.get(lane).copied().unwrap_or_default(),
            LaneId::Callbacks => Isolate::None,
        }
    }

    /// The group for a slot's attempts, named after its lane, or for one resident program; none where they
    /// run without.
    pub fn group_of(&mut self, slot: SlotId, lane: &str, is_of_program: bool) -> Option<PathBuf> {
        let groups = self.groups.as_ref()?;
        self.programs += u64::from(is_of_program);
        let name = match slot.lane {
            // It may run beside its successor.
            LaneId::Pool(_) if is_of_program => format!("program-{lane}-{}-{}", slot.index, self.programs),
            LaneId::Pool(_) => format!("pool-{lane}-{}", slot.index),
            LaneId::Callbacks => format!("callbacks-{}", slot.index),
        };
        match groups.of_slot(&name) {
            Ok(path) => {
                self.is_changed |= !self.without.is_empty();
                self.without.clear();
                Some(path)
            }
            Err(error) => {
                tracing::warn!(%error, name, "a slot goes without a control group");
                self.is_changed = true;
                self.without = format!("the control group of a slot could not be made: {error}");
                None
            }
        }
    }

    /// The same for every pool that is configured.
    pub fn describe_all(&self, config: &Config) -> BTreeMap<String, (Tier, Option<String>)> {
        let names = config.pool.keys().map(String::as_str).chain([DEFAULT_POOL]);
        names.map(|name| (name.to_owned(), self.describe(name))).collect()
    }

    /// Whether that has changed since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// The tier in force for a pool's attempts, and why it is no higher one.
    pub fn describe(&self, pool: &str) -> (Tier, Option<String>) {
        if self.isolate.get(pool) == Some(&Isolate::Pid) {
            return (Tier::PidNamespace, None);
        }
        if !self.without.is_empty() {
            return (Tier::Subreaper, Some(format!("no control groups: {}", self.without)));
        }
        let raise = format!(
            "what runs when all of poold is killed in one instant ends with the next start; with `isolate = \"pid\"` in \
             [pool.{pool}] it would end at once"
        );
        (Tier::Cgroup, Some(raise))
    }

    /// At an orderly end: nothing runs any more.
    pub fn remove(&self) {
        if let Some(groups) = &self.groups {
            groups.remove();
        }
    }
}
