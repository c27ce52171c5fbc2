//! `poolctl shutdown`: ends poold.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use pool_proto::methods::{Ping, Pools, Shutdown, ShutdownMode, Status};
use pool_proto::nouns::Ending;
use pool_proto::{Client, ClientError};

use super::Context;
use super::selection::{confirmed, count_jobs};
use crate::cli::choices::YesOption;
use crate::exit::ExitReason;
use crate::link::connect::Link;
use crate::link::deadline::{Deadline, TimeUp};
use crate::term::bar::Bar;
use crate::term::text::say;

/// When poolctl first says what the end of poold waits for, and how often it looks whether that has changed.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const NEXT_LOOK: Duration = Duration::from_secs(5);

/// The same, where somebody looks at a bar.
const BAR_LOOK: Duration = Duration::from_secs(1);

/// End poold
#[derive(Debug, Args)]
pub struct ShutdownOptions {
    /// Accept nothing more, finish all jobs, deliver all callbacks, then end. What cannot run is kept for the
    /// next start [default]
    #[arg(long, conflicts_with = "now")]
    drain: bool,

    /// End running jobs now (SIGTERM, then SIGKILL). They and all queued jobs run after the next start of
    /// poold
    #[arg(long)]
    now: bool,

    #[command(flatten)]
    yes: YesOption,
}

impl ShutdownOptions {
    /// Ends poold, and returns when its main process has ended.
    ///
    /// # Errors
    /// When no poold is running.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect_only()?;
        if self.now && !self.yes.yes && !is_wanted(&mut client)? {
            return Ok(ExitReason::Unwell);
        }
        let pid = client.request(&Ping {})?.pid;

        // The process is opened before it is told to end. Afterwards its pid could name another process.
        let main_process = open_pidfd(pid).with_context(|| format!("cannot watch poold, pid {pid}"))?;

        let mode = if self.now { ShutdownMode::Now } else { ShutdownMode::Drain };
        client.send(&Shutdown { mode }, true)?;
        let mut waiter = Waiter::new(&context.link, self.now);
        let mut kept = None;
        loop {
            let from_poold = match waiter.wait(&main_process, kept.is_none().then_some(&client))? {
                Woken::Ended => break,
                Woken::Replied => true,
                Woken::Nothing => false,
            };
            // Its connection ends with poold.
            if from_poold && !client.fill().unwrap_or(false) {
                kept.get_or_insert(0);
            }
            while let Some((told, _)) = client.next_reply::<Shutdown>()? {
                kept = kept.or(told.kept);
            }
        }

        waiter.bar.finish();
        if let Some(kept) = kept.filter(|&kept| kept > 0 && !self.now) {
            let what = if kept == 1 {
                "1 job or callback is".to_owned()
            } else {
                format!("{kept} jobs and callbacks are")
            };
            say(format_args!("poold has ended; {what} kept for its next start"));
        }
        Ok(ExitReason::Success)
    }
}

/// Whether somebody at the terminal, if there is one, wants several running jobs to be ended.
fn is_wanted(client: &mut Client) -> Result<bool, ClientError> {
    let pools = client.request(&Pools {})?.pools;
    let running = pools.iter().map(|pool| pool.running as usize).sum();
    let question = || format!("end {}? They run again after the next start of poold.", count_jobs(running));
    Ok(running < 2 || confirmed(question))
}

/// What has happened.
enum Woken {
    /// poold has ended.
    Ended,
    /// It has said something.
    Replied,
    Nothing,
}

/// Waits for the end of poold, and says what that waits for.
struct Waiter<'a> {
    link: &'a Link,
    look_at: Instant,
    said: String,
    bar: Bar,
    /// What there was to be done at the first look, and what has come since.
    total: u64,
    /// What runs is being ended, and not waited for to its own end.
    is_now: bool,
}

impl<'a> Waiter<'a> {
    fn new(link: &'a Link, is_now: bool) -> Self {
        let (look_at, said) = (Instant::now() + FIRST_LOOK, String::new());
        Self { link, look_at, said, bar: Bar::hidden(), total: 0, is_now }
    }

    /// Waits until poold has ended or said something on this connection.
    fn wait(&mut self, main_process: &OwnedFd, client: Option<&Client>) -> anyhow::Result<Woken> {
        let mut fds = vec![PollFd::new(main_process.as_fd(), PollFlags::POLLIN)];
        fds.extend(client.map(|client| PollFd::new(client.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, Deadline::at(self.look_at).poll_timeout()) {
            Ok(0) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for the end of poold"),
            // First: what poold has said last may still be there, unread, when it has ended.
            Ok(_) if fds.get(1).is_some_and(|client| client.any().unwrap_or(false)) => {
                return Ok(Woken::Replied);
            }
            Ok(_) => return Ok(Woken::Ended),
        }
        if Deadline::at(self.look_at).is_over() {
            self.look();
            let pause = if self.bar.is_shown() { BAR_LOOK } else { NEXT_LOOK };
            self.look_at = Instant::now() + pause;
        }
        Ok(Woken::Nothing)
    }

    /// Says what poold waits for, if that is new. With a bar once: the bar shows the rest.
    fn look(&mut self) {
        let link = self.link.clone();
        let asked = Deadline::after(NEXT_LOOK).bound(move || {
            let condition = link.open().ok()?.request(&Status {}).ok()?;
            Some((condition.ending?, condition.store_failure))
        });
        let line = match asked {
            Ok(Some((ending, failure))) => {
                self.show(&ending);
                if self.bar.is_shown() && !self.said.is_empty() && failure.is_none() {
                    return;
                }
                describe(&ending, failure.as_deref(), self.is_now)
            }
            // It has ended, or is about to.
            Ok(None) => return,
            Err(TimeUp) => "poold does not answer; SIGTERM twice to its main process ends it".to_owned(),
        };
        if self.said != line {
            self.bar.aside(|| say(&line));
            self.said = line;
        }
    }

    /// How much of it is done. What comes meanwhile, such as the next attempt of a job, adds to the whole.
    fn show(&mut self, ending: &Ending) {
        let left = ending.running.len() as u64 + ending.queued + ending.callbacks;
        if self.total == 0 && left > 1 {
            self.bar = Bar::on_stderr(Some(left));
        }
        self.total = self.total.max(left);
        self.bar.set_total(self.total);
        self.bar.update(self.total - left, 0);
    }
}

/// What poold waits for, and what would end that.
fn describe(ending: &Ending, failure: Option<&str>, is_now: bool) -> String {
    let count = |count: u64, one: &str, many: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {many}")),
    };
    let running = match ending.running.as_slice() {
        [] => None,
        [id] => Some(format!("job {id}, which runs")),
        [first, others @ ..] => Some(format!("job {first} and {} more, which run", others.len())),
    };
    let unwritten = count(ending.unwritten, "end that is not written yet", "ends that are not written yet");
    let unwritten = unwritten.map(|unwritten| match failure {
        Some(failure) => format!("{unwritten} ({failure})"),
        None => unwritten,
    });

    let parts = [
        running,
        count(ending.queued, "queued job", "queued jobs"),
        count(ending.callbacks, "callback", "callbacks"),
        unwritten,
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        return "poold is about to end".to_owned();
    }
    let hint = match is_now {
        false => "`poolctl cancel` ends jobs, `poolctl shutdown --now` does not wait for them",
        true => "what runs has got SIGTERM, and gets SIGKILL when its time is over (stop_grace)",
    };
    format!("poold ends after {}; {hint}", parts.join(", "))
}

fn open_pidfd(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes integers and returns a new descriptor, which nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        Errno::result(fd).map(|fd| OwnedFd::from_raw_fd(fd as i32))
    }
}
