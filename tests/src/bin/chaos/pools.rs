//! The daemon that the soak is about: a pool of commands and one of resident programs, in a containment that
//! is to be had.

use std::fs;

use clap::ValueEnum;
use nix::sys::signal::Signal;
use pool_proto::methods::Pools;
use pool_proto::nouns::Tier;
use pool_tests::{Daemon, MARK, Setup};

use super::clock::Clock;
use super::ledgers::Ledgers;
use super::load::{FEW, FEW_PLACES};

/// The pool of resident programs.
pub const WARM: &str = "warm";

/// A second pool of commands, into which jobs are moved, and the slots that it has at most.
pub const OTHER: &str = "other";
pub const MOST_OTHERS: u32 = 4;

/// A resource of both pools of commands. Jobs take so many items at most; the pools never have fewer.
pub const RESOURCE: &str = "gpu";
pub const MOST_ITEMS: u32 = 2;

/// Slots of the pool of programs, at the start and at most.
const PROGRAMS: u32 = 3;
pub const MOST_PROGRAMS: u32 = 4;

/// What keeps a job's processes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Containment {
    /// The best that can be had without asking
    Auto,
    Subreaper,
    Cgroup,
    /// A pid namespace, and no control group
    Pid,
}

impl Containment {
    /// What stands for it in the configuration: of the whole, and of each pool.
    fn settings(self) -> (&'static str, &'static str) {
        match self {
            Self::Auto | Self::Cgroup => ("", ""),
            Self::Subreaper => ("cgroup = \"off\"", ""),
            Self::Pid => ("cgroup = \"off\"", "isolate = \"pid\""),
        }
    }

    fn tier(self) -> Option<Tier> {
        match self {
            Self::Auto => None,
            Self::Subreaper => Some(Tier::Subreaper),
            Self::Cgroup => Some(Tier::Cgroup),
            Self::Pid => Some(Tier::PidNamespace),
        }
    }

    /// Where it is not to be had here.
    pub fn is_missing(self, daemon: &Daemon) -> Option<String> {
        let wanted = self.tier()?;
        let pools = daemon.client().request(&Pools {}).expect("poold has just been started").pools;
        let other = pools.into_iter().find(|pool| pool.containment != wanted)?;
        Some(other.containment_note.unwrap_or_else(|| other.containment.as_str().to_owned()))
    }
}

/// Starts it, and where jobs and programs write down what they do.
pub fn start(mut setup: Setup, containment: Containment, clock: Option<&Clock>) -> (Daemon, Ledgers) {
    if let Some(clock) = clock {
        setup = setup.wrapper(&clock.wrapper().each_ref().map(String::as_str));
    }
    let ledgers = Ledgers::new(setup.dir());
    ledgers.write_program();
    let config = config(containment, &ledgers, setup.mark(), PROGRAMS, 0);
    (setup.config(&config).start(), ledgers)
}

/// Gives it another configuration, which is in force until its next start: more or fewer programs, with
/// another variable, and other items of the resource.
pub fn reconfigure(
    daemon: &Daemon,
    containment: Containment,
    ledgers: &Ledgers,
    programs: u32,
    version: u32,
) {
    let text = config(containment, ledgers, daemon.mark(), programs, version);
    fs::write(daemon.path("config.toml"), text).expect("the configuration can be written");
    daemon.signal(Signal::SIGHUP);
}

/// Nothing is given up and no record is forgotten, so that every end has to be explained. Of output and
/// values only the latest are kept.
fn config(containment: Containment, ledgers: &Ledgers, mark: &str, programs: u32, version: u32) -> String {
    let (of_all, of_each) = containment.settings();
    let command = ledgers.program();
    let items = ["[0, 1, 2]", "[3, 1]", "[2, 0, 3]"][version as usize % 3];
    format!(
        "crash_limit = 1000000
        max_output_bytes = 3000000
        {of_all}
        [history]
        max_jobs = 100000000
        max_output_bytes = 64000000
        [callbacks]
        backoff = \"10ms\"
        attempts = 1000
        [limit.{FEW}]
        running = {FEW_PLACES}
        [pool.default]
        backfill = true
        resources = {{ {RESOURCE} = {items} }}
        {of_each}
        [pool.{OTHER}]
        workers = 2
        resources = {{ {RESOURCE} = [\"a\", \"b\"] }}
        {of_each}
        [pool.{WARM}]
        workers = {programs}
        command = {command:?}
        env = {{ PATH = \"/usr/local/bin:/usr/bin:/bin\", {MARK} = {mark:?}, VERSION = \"{version}\" }}
        ready = \"notify\"
        max_calls = 20
        max_age = \"5s\"
        {of_each}"
    )
}
