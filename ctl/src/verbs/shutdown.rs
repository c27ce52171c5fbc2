//! `poolctl shutdown`: ends poold.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use pool_proto::Client;
use pool_proto::methods::{Ping, Shutdown, ShutdownMode, Status};
use pool_proto::nouns::Ending;

use super::Context;
use crate::exit::ExitReason;
use crate::link::connect::Link;
use crate::link::deadline::{Deadline, TimeUp};
use crate::term::text::say;

/// When poolctl first says what the end of poold waits for, and how often it looks whether that has changed.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const NEXT_LOOK: Duration = Duration::from_secs(5);

/// End poold
#[derive(Debug, Args)]
pub struct ShutdownOptions {
    /// Accept nothing more, finish all jobs, deliver all callbacks, then end. What cannot run is kept for the next
    /// start [default]
    #[arg(long, conflicts_with = "now")]
    drain: bool,

    /// End running jobs now (SIGTERM, then SIGKILL). They and all queued jobs run after the next start of
    /// poold
    #[arg(long)]
    now: bool,
}

impl ShutdownOptions {
    /// Ends poold, and returns when its main process has ended.
    ///
    /// # Errors
    /// When no poold is running.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect_only()?;
        let pid = client.request(&Ping {})?.pid;

        // The process is opened before it is told to end. Afterwards its pid could name another process.
        let main_process = open_pidfd(pid).with_context(|| format!("cannot watch poold, pid {pid}"))?;

        let mode = if self.now { ShutdownMode::Now } else { ShutdownMode::Drain };
        client.send(&Shutdown { mode }, true)?;
        let mut waiter =
            Waiter { link: &context.link, look_at: Instant::now() + FIRST_LOOK, said: String::new() };
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
}

impl Waiter<'_> {
    /// Waits until poold has ended or said something on this connection.
    fn wait(&mut self, main_process: &OwnedFd, client: Option<&Client>) -> anyhow::Result<Woken> {
        let mut fds = vec![PollFd::new(main_process.as_fd(), PollFlags::POLLIN)];
        fds.extend(client.map(|client| PollFd::new(client.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, Deadline::at(self.look_at).poll_timeout()) {
            Ok(0) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for the end of poold"),
            Ok(_) if fds[0].any().unwrap_or(false) => return Ok(Woken::Ended),
            Ok(_) => return Ok(Woken::Replied),
        }
        if Deadline::at(self.look_at).is_over() {
            self.say();
            self.look_at = Instant::now() + NEXT_LOOK;
        }
        Ok(Woken::Nothing)
    }

    /// Says what poold waits for, if that is new.
    fn say(&mut self) {
        let link = self.link.clone();
        let asked = Deadline::after(NEXT_LOOK).bound(move || {
            let condition = link.open().ok()?.request(&Status {}).ok()?;
            Some((condition.ending?, condition.store_failure))
        });
        let line = match asked {
            Ok(Some((ending, failure))) => describe(&ending, failure.as_deref()),
            // It has ended, or is about to.
            Ok(None) => return,
            Err(TimeUp) => "poold does not answer; SIGTERM twice to its main process ends it".to_owned(),
        };
        if self.said != line {
            say(&line);
            self.said = line;
        }
    }
}

/// What poold waits for, and what would end that.
fn describe(ending: &Ending, failure: Option<&str>) -> String {
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
    format!(
        "poold ends after {}; `poolctl cancel` ends jobs, `poolctl shutdown --now` does not wait for them",
        parts.join(", ")
    )
}

fn open_pidfd(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes integers and returns a new descriptor, which nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        Errno::result(fd).map(|fd| OwnedFd::from_raw_fd(fd as i32))
    }
}
