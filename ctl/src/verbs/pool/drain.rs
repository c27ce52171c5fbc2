//! `poolctl pool drain`.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use pool_proto::methods::DrainPool;
use pool_proto::text::parse_duration;

use crate::exit::ExitReason;
use crate::link::deadline::Deadline;
use crate::term::text::say;
use crate::verbs::Context;

/// Let a pool take no new jobs, and wait until it is empty
///
/// Submissions to the pool are refused with code 75 until `pool resume NAME`, or until poold ends, and none
/// of its jobs is released or run again. The pool works off what it has. Returns when nothing runs in it and
/// nothing is queued there that could be started: held, blocked and scheduled jobs stay, and so does the
/// queue of a paused pool.
#[derive(Debug, Args)]
pub struct DrainPoolOptions {
    /// Wait at most this long, and exit with code 124; the drain goes on
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,

    /// The pool's name
    name: String,
}

impl DrainPoolOptions {
    /// Drains the pool.
    ///
    /// # Errors
    /// When there is no such pool, when somebody lets it take jobs again, or poold ends.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let deadline = self.timeout.map_or(Deadline::NEVER, Deadline::after);
        client.send(&DrainPool { pool: self.name.clone() }, true)?;
        loop {
            let mut fds = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, deadline.poll_timeout()) {
                Ok(0) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("cannot wait for poold"),
                Ok(_) => break,
            }
            if deadline.is_over() {
                let name = &self.name;
                say(format_args!(
                    "the pool {name} is not empty yet, and takes no new jobs: `poolctl pool ls`"
                ));
                return Ok(ExitReason::TimedOut);
            }
        }
        client.receive::<DrainPool>()?;
        Ok(ExitReason::Success)
    }
}
