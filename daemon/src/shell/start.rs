//! The supervisor's start. Its order is held by types: each phase is made from the one before, which is then
//! gone.
//!
//! ```text
//! Watching ──▶ Checked ──▶ Opened ──▶ Cleared ──▶ Started
//!    │           │           │          │          └ the machines know what the engine has found, and have begun
//!    │           │           │          └ nothing runs that an earlier daemon of this state directory has left:
//!    │           │           │            who holds the database may kill it, and nobody else
//!    │           │           └ the engine has read what it needs, and changed nothing
//!    │           └ the state directory is the one that the guardian has locked
//!    └ before the first child: no end of one goes unnoticed
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use mio::net::UnixListener;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Waker};
use nix::sys::stat::fstat;
use nix::unistd::{geteuid, getppid};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use super::account;
use super::alarm::{Alarm, WallWatch};
use super::clock;
use super::containment::Containment;
use super::launch::Site;
use super::recovery::{self, Recovery};
use super::reload::{affordable_clients, check_open_files, history_limits};
use super::service_manager::ServiceManager;
use super::turn::{Input, Machines};
use super::{ALARM, FIRST_WORKER, LIFELINE, LISTENER, SIGNALS, Shell, Supervisor, THREADS, WALL};
use crate::core::Core;
use crate::desk::{self, AddedPools, Admission, Daemon, Desk, Found, Rights};
use crate::engine::sqlite::{self, Durability, Options as SqliteOptions, Sqlite, ValueFiles};
use crate::engine::{Boot, Chore, Engine, Restored};
use crate::files::measurer::Measurer;
use crate::files::remover::Remover;
use crate::files::timekeeper::Timekeeper;
use crate::files::{layout, slot_output, spool, values};
use crate::fleet::Fleet;
use crate::job::{ProcessId, UserId};
use crate::kernel;
use crate::server::Server;
use crate::start::cli::SupervisorOptions;
use crate::start::config::{Config, DurabilityName};
use crate::start::guardian;
use crate::start::handover::Handover;
use crate::start::last_good::Loaded;
use crate::start::readiness::Readiness;

/// A supervisor that serves.
pub struct Started {
    pub supervisor: Supervisor,
    pub poll: Poll,
    pub signals: Signals,
}

/// Runs through all phases.
///
/// # Errors
/// What keeps it from serving; the state directory is then as it was, but for leftovers that are dead.
pub fn start(options: SupervisorOptions, loaded: Loaded, handover: Handover) -> anyhow::Result<Started> {
    Watching::begin(options, loaded, handover)?.check()?.open()?.sweep()?.serve()
}

/// What every phase hands on.
struct Ground {
    options: SupervisorOptions,
    config: Config,
    /// For the guardian: the configuration's text.
    config_text: Option<String>,
    /// Why it is not that of the file.
    config_fault: Option<String>,
    listener: OwnedFd,
    lifeline: OwnedFd,
    locks: Vec<OwnedFd>,
    readiness: Readiness,
    poll: Poll,
    /// For all threads but this one: a poll has one waker.
    waker: Arc<Waker>,
    signals: Signals,
    /// The soft limit of open files that jobs are to have.
    nofile: u64,
}

/// Signals and the guardian's end are noticed from here on.
struct Watching(Ground);

/// The state directory is ours.
struct Checked {
    ground: Ground,
    daemon: String,
}

/// The engine has read what it needs.
struct Opened {
    checked: Checked,
    boot: Boot,
    /// A database that cannot be read is an error, but what is left of a dead daemon goes all the same. Not
    /// so where another process has the database: then that daemon is not dead.
    engine: anyhow::Result<(Sqlite, Restored)>,
}

/// Nothing of an earlier daemon runs.
struct Cleared {
    checked: Checked,
    containment: Containment,
    sqlite: Sqlite,
    restored: Restored,
    recovery: Recovery,
}

impl Watching {
    fn begin(options: SupervisorOptions, loaded: Loaded, handover: Handover) -> anyhow::Result<Self> {
        kernel::set_child_subreaper().context("cannot become a subreaper")?;
        let nofile = kernel::raise_nofile().context("cannot raise the limit of open files")?;
        let poll = Poll::new().context("cannot make a poll")?;
        let registry = poll.registry();

        let mut signals =
            Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD]).context("cannot handle signals")?;
        kernel::unblock_signals(&guardian::PASSED_ON).context("cannot handle signals")?;
        registry.register(&mut signals, SIGNALS, Interest::READABLE)?;
        registry.register(&mut SourceFd(&handover.lifeline.as_raw_fd()), LIFELINE, Interest::READABLE)?;

        let waker = Arc::new(Waker::new(registry, THREADS)?);

        let Handover { listener, lifeline, locks, last_good: _, readiness } = handover;
        let Loaded { config, text, fault } = loaded;
        Ok(Self(Ground {
            options,
            config,
            config_text: text,
            config_fault: fault,
            listener,
            lifeline,
            locks,
            readiness,
            poll,
            waker,
            signals,
            nofile,
        }))
    }

    fn check(self) -> anyhow::Result<Checked> {
        let Self(ground) = self;
        let state_dir = &ground.options.state_dir;
        check_state_dir(state_dir, &ground.locks)?;

        let daemon = kernel::daemon_name(state_dir).context("cannot look at the state directory")?;
        layout::create_folders(state_dir).map_err(|(path, error)| {
            anyhow::Error::new(error).context(format!("cannot create {}", path.display()))
        })?;
        Ok(Checked { ground, daemon })
    }
}

/// The state directory is the one that the guardian has locked. Where another has taken its place since, or
/// none, a new supervisor must not begin anew as if nothing had been accepted.
fn check_state_dir(state_dir: &Path, locks: &[OwnedFd]) -> anyhow::Result<()> {
    let Some(directory) = locks.first() else { return Ok(()) };
    let held = fstat(directory).context("cannot look at the state directory")?;
    let is_ours =
        fs::metadata(state_dir).is_ok_and(|found| (found.dev(), found.ino()) == (held.st_dev, held.st_ino));
    if !is_ours {
        let dir = state_dir.display();
        bail!(
            "the state directory {dir} was removed, moved or replaced while poold ran: put it back, then start poold again"
        );
    }
    Ok(())
}

impl Checked {
    fn open(self) -> anyhow::Result<Opened> {
        let now = clock::now();
        let boot = Boot::found(kernel::boot_id(), now.wall_us, now.monotonic);
        let options = SqliteOptions {
            durability: match self.ground.config.durability {
                DurabilityName::Power => Durability::Power,
                DurabilityName::Crash => Durability::Crash,
            },
            output_paths: layout::job_paths,
            callback_paths: layout::callback_paths,
            sync_stdin: spool::sync,
            values: ValueFiles {
                write: values::write,
                read: values::read,
                remove: values::remove,
                list: values::list,
            },
            boot: boot.clone(),
            since_boot: now.monotonic,
        };
        let notify = wake(&self.ground.waker);
        let engine = match Sqlite::open(&self.ground.options.state_dir, options, notify) {
            Err(error) if error.is_in_use() => return Err(error.into()),
            other => other.map_err(anyhow::Error::from),
        };
        Ok(Opened { checked: self, boot, engine })
    }
}

impl Opened {
    /// What is left of a dead daemon goes, whatever has become of the database.
    fn sweep(self) -> anyhow::Result<Cleared> {
        let Self { checked, boot, engine } = self;
        let state_dir = &checked.ground.options.state_dir;
        let known = engine.as_ref().ok().map(|(_, restored)| restored);
        let containment = Containment::set_up(state_dir, &checked.ground.config);
        let recovery = recovery::recover(state_dir, &checked.daemon, &boot, known, containment.leftovers());

        let (sqlite, mut restored) = engine?;
        if let Err(error) = slot_output::clear(state_dir) {
            tracing::warn!(%error, "cannot remove the output of attempts that nobody knows of");
        }
        restored.last_end = recovery.last_end;
        restored.boot = boot.after(&restored.boot);
        recovery::measure(&mut restored);
        Ok(Cleared { checked, containment, sqlite, restored, recovery })
    }
}

impl Cleared {
    fn serve(self) -> anyhow::Result<Started> {
        let Self { checked: Checked { ground, daemon }, mut containment, sqlite, restored, recovery } = self;
        let Ground { options, config, listener, lifeline, locks, readiness, poll, waker, .. } = ground;
        let Ground { config_text, config_fault, signals, nofile, .. } = ground;
        let registry = poll.registry();
        let now = clock::now();

        let remover = start_remover(&options.state_dir, &restored, &waker)?;
        let measurer = Measurer::start(&options.state_dir, wake(&waker)).context("cannot start a thread")?;
        let limits = history_limits(&config, 0);
        let engine = Engine::new(sqlite, &restored, limits);

        let rights = Rights::new(UserId::new(geteuid().as_raw()));
        let added = AddedPools::restored(&restored.pools);
        let mut config = config;
        added.join(&mut config);
        config.join_workers(&restored.workers);
        let admission = Admission::new(account::own(nofile));
        let minimal = admission.minimal();
        let daemon_facts = daemon_facts(&options, now.wall_us, &recovery);
        let (pauses, schedules) = (restored.pauses.clone(), restored.schedules.clone());
        let found = Found { added, pauses, schedules };
        let desk = Desk::new(daemon_facts, rights, admission, config.clone(), found, now);
        containment.configure(&config);

        let settings = config.settings(options.workers, &minimal);
        check_open_files(&config, &settings)?;
        let is_configured = |name: &str| settings.pools.iter().any(|pool| *pool.name == *name);
        for (pool, queued) in restored.queued.iter().filter(|(name, _)| !is_configured(name)) {
            tracing::warn!(%pool, queued = queued.all(), "jobs are queued for a pool that is not configured: they stay there until it is");
        }
        let max_clients = affordable_clients(&config, &settings);
        if max_clients < config.max_clients {
            tracing::info!(
                max_clients,
                configured = config.max_clients,
                "fewer clients: descriptors are short"
            );
        }
        let (interrupted, boot) = (restored.interrupted.len(), restored.boot.clone());
        let (core, effects) = Core::restore(settings, restored, now);

        let listener = StdUnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener);
        let admits = Box::new(move |uid| rights.admits(uid));
        let mut shell = Shell {
            server: Server::new(listener, LISTENER, registry, max_clients, admits, Arc::new(wake(&waker)))?,
            fleet: Fleet::new(registry, FIRST_WORKER, nofile, Arc::new(wake(&waker)))?,
            containment,
            remover,
            measurer,
            timekeeper: Timekeeper::new(&options.state_dir),
            minimal,
            pool_names: BTreeMap::new(),
            service_manager: ServiceManager::from_environment(),
            site: Site {
                state_dir: options.state_dir.clone(),
                socket: options.socket.as_path().into(),
                daemon,
            },
            alarm: Alarm::new(registry, ALARM).context("cannot make a timer")?,
            wall: WallWatch::new(registry, WALL).context("cannot make a timer")?,
            engine,
            silent: Vec::new(),
            exiting: false,
            lifeline,
            _locks: locks,
            options,
            config,
        };

        let mut machines = Machines::new(core, desk);
        machines.begin(effects, &mut shell);
        match (config_text, config_fault) {
            (Some(text), _) => shell.hand_on_config(&text),
            (None, Some(fault)) => {
                tracing::error!("{fault}; poold goes on with the last good configuration");
                machines.inbox.push_back(Input::Desk(desk::Event::Reread(Err(fault))));
            }
            (None, None) => {}
        }
        // Must follow what becomes of the interrupted attempts: their pids belong to an earlier boot,
        // perhaps.
        shell.engine.chore(Chore::Booted(boot));
        shell.engine.prune(clock::now().wall_us);
        machines.turn(&mut shell);
        shell.fleet.flush();
        shell.engine.flush(Vec::new);

        tracing::info!(socket = %shell.options.socket.display(), interrupted, "ready");
        shell.service_manager.ready();
        readiness.ready();
        kernel::give_back_free_memory();
        Ok(Started { supervisor: Supervisor { machines, shell }, poll, signals })
    }
}

/// Starts the thread that removes files, and has it remove what no job needs.
fn start_remover(state_dir: &Path, restored: &Restored, waker: &Arc<Waker>) -> anyhow::Result<Remover> {
    let remover = Remover::start(state_dir, wake(waker)).context("cannot start a thread")?;
    for token in spool::abandoned(state_dir, &restored.stdin) {
        remover.remove_stdin(token);
    }
    Ok(remover)
}

/// What a thread calls that has something for the loop.
fn wake(waker: &Arc<Waker>) -> impl Fn() + Send + Sync + 'static {
    let waker = waker.clone();
    move || {
        if let Err(error) = waker.wake() {
            tracing::error!(%error, "cannot wake the supervisor");
        }
    }
}

/// What the desk tells clients of this daemon that never changes.
fn daemon_facts(options: &SupervisorOptions, started_us: i64, recovery: &Recovery) -> Daemon {
    Daemon {
        guardian: ProcessId::new(getppid().as_raw()),
        supervisor: ProcessId::new(
            i32::try_from(std::process::id()).expect("pids are positive and fit pid_t"),
        ),
        started_us,
        state_dir: options.state_dir.as_path().into(),
        database: options.state_dir.join(sqlite::FILE_NAME).into(),
        socket: options.socket.as_path().into(),
        config: options.config.as_deref().map(Into::into),
        given: given(options),
        max_open_files: kernel::max_open_files(),
        swept: recovery.swept,
    }
}

/// The settings that the command line gives.
fn given(options: &SupervisorOptions) -> Vec<(&'static str, String)> {
    let workers = options.workers.map(|workers| ("workers", workers.to_string()));
    let log = options.log.map(|log| ("log", format!("{:?}", log.as_str())));
    workers.into_iter().chain(log).collect()
}
