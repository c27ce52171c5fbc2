//! The configuration, read anew at SIGHUP, and whatever else changes it at run time.

use super::turn::{Inbox, Input};
use super::{Shell, clock};
use crate::core::{PoolSettings, Settings};
use crate::desk;
use crate::engine::HistoryLimits;
use crate::files::log;
use crate::job::Isolate;
use crate::kernel;
use crate::start::config::Config;
use crate::start::last_good;
use crate::worker::protocol::WorkerCommand;

impl Shell {
    /// In the background: the log has been moved away, perhaps. Workers have it open as well.
    pub(super) fn reopen_log(&mut self) {
        if let Some(path) = &self.options.log_file {
            log::reopen(path);
            self.fleet.send_to_all(&WorkerCommand::ReopenLog { path: path.clone() });
        }
    }

    /// Reads the file anew. The desk adds the pools that clients have added, and says from when on the result
    /// is in force.
    pub(super) fn reread_config(&self) -> Option<Input> {
        let path = self.options.config.clone()?;
        let read = Config::read(&path, self.options.config_optional).and_then(|(config, text)| {
            // A start checks it, too: what is in force here must do for the next supervisor.
            check_open_files(&config, &config.settings(self.options.workers, &self.minimal))?;
            Ok((config, text))
        });
        let reread = match read {
            Ok((mut config, text)) => {
                let at_start = |config: &Config| (config.durability, config.log, config.cgroup);
                if at_start(&config) != at_start(&self.config) {
                    tracing::warn!("`durability`, `log` and `cgroup` take effect with the next start");
                    config.keep_until_next_start(&self.config);
                }
                self.hand_on_config(&text);
                tracing::info!(path = %path.display(), "configuration read anew");
                Ok(Box::new(config))
            }
            Err(error) => {
                tracing::error!("{error:#}; the old configuration stays in force");
                Err(format!("{error:#}"))
            }
        };
        Some(Input::Desk(desk::Event::Reread(reread)))
    }

    /// For the next supervisor, should the file be a bad one by then.
    pub(super) fn hand_on_config(&self, text: &str) {
        if let Err(error) = last_good::hand_on(&self.lifeline, text) {
            tracing::warn!(%error, "the guardian cannot be given the configuration to keep");
        }
    }

    /// The configuration is this from now on; what the core needs to know of it.
    pub(super) fn configure(&mut self, config: Config, inbox: &mut Inbox) -> Settings {
        let settings = config.settings(self.options.workers, &self.minimal);
        self.server.set_max_clients(affordable_clients(&config, &settings));
        self.containment.configure(&config);
        self.config = config;
        kernel::give_back_free_memory();
        inbox.extend(self.contained_if_changed());

        self.limit_history(0);
        self.engine.prune(clock::now().wall_us);
        settings
    }

    /// How the attempts of each pool are contained, where that has changed: for the desk, which tells
    /// clients.
    pub(super) fn contained_if_changed(&mut self) -> Option<Input> {
        let is_changed = self.containment.take_changed();
        is_changed.then(|| Input::Desk(desk::Event::Contained(self.containment.describe_all(&self.config))))
    }

    /// How much history may stay, beside so many bytes of output of running jobs.
    pub(super) fn limit_history(&mut self, running_bytes: u64) {
        self.engine.set_history_limits(history_limits(&self.config, running_bytes));
    }
}

/// What the supervisor itself has open, at most: its files, sockets and threads' channels.
const OWN_FILES: u64 = 40;

/// For the output of jobs on its way to clients: two descriptors for each start that is told.
const OUTPUT_FILES: u64 = 16;

/// What a slot takes: the worker's socket, its group's events when it dies; with a program its pipes and its
/// standard error, twice while it is being replaced; in a pid namespace the socket over which pids are told,
/// likewise.
const FILES_OF_SLOT: u64 = 1;
const FILES_OF_WARM_SLOT: u64 = 8;
const FILES_OF_NAMESPACE: u64 = 2;

/// How many clients there may be: as many as the configuration says, and no more than there are descriptors
/// for, beside those that the slots and the output of jobs need.
pub fn affordable_clients(config: &Config, settings: &Settings) -> usize {
    let left =
        kernel::max_open_files().saturating_sub(OWN_FILES + OUTPUT_FILES + files_of_slots(config, settings));
    config.max_clients.min(usize::try_from(left).unwrap_or(usize::MAX)).max(1)
}

/// # Errors
/// Where there are not enough descriptors to serve so many slots: how many there have to be.
pub fn check_open_files(config: &Config, settings: &Settings) -> anyhow::Result<()> {
    const FEW_CLIENTS: u64 = 4;

    let (limit, wanted) = (
        kernel::max_open_files(),
        OWN_FILES + OUTPUT_FILES / 2 + FEW_CLIENTS + files_of_slots(config, settings),
    );
    anyhow::ensure!(
        limit >= wanted,
        "the limit of open files is {limit}, and so many workers need {wanted}: raise the hard limit \
         (LimitNOFILE=, ulimit -Hn), or have fewer workers"
    );
    Ok(())
}

fn files_of_slots(config: &Config, settings: &Settings) -> u64 {
    let is_isolated = |pool: &PoolSettings| {
        config.pool.get(&*pool.name).is_some_and(|configured| configured.isolate == Isolate::Pid)
    };
    let of_pool = |pool: &PoolSettings| {
        let each = if pool.program.is_some() { FILES_OF_WARM_SLOT } else { FILES_OF_SLOT };
        let of_namespace = if is_isolated(pool) { FILES_OF_NAMESPACE } else { 0 };
        u64::from(pool.workers) * (each + of_namespace)
    };
    settings.pools.iter().map(of_pool).sum::<u64>() + u64::from(settings.callbacks.workers) * FILES_OF_SLOT
}

/// See [`Shell::limit_history`].
pub fn history_limits(config: &Config, running_bytes: u64) -> HistoryLimits {
    HistoryLimits {
        max_jobs: config.history.max_jobs,
        max_age: config.history.max_age,
        max_output_bytes: config.max_history_output_bytes(running_bytes),
    }
}
