//! `poolctl pool restart`: has the resident programs of a pool replaced by new ones.

use clap::Args;
use pool_proto::methods::RestartPool;

use crate::exit::ExitReason;
use crate::term::text::say;
use crate::verbs::Context;

/// Replace the programs of a warm pool, as after a change of code
///
/// Returns when the new programs take the calls. The new program is started first. The old one takes calls
/// until the new one is ready, and ends when its last call is over. If a new program does not stay up, the
/// old one goes on, and the exit code is 125. Without `--ready notify` a new program has to stay up for a
/// second before it takes calls.
#[derive(Debug, Args)]
pub struct RestartPoolOptions {
    /// The pool's name
    name: String,
}

impl RestartPoolOptions {
    /// Has the programs replaced, and waits until they are.
    ///
    /// # Errors
    /// When the pool does not exist, has no programs, or a new program cannot be started.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        client.send(&RestartPool { name: self.name }, true)?;
        let (told, _) = client.receive::<RestartPool>()?;
        match told.calls.as_slice() {
            [] => {}
            [call] => say(format_args!("job {call} runs in an old program, which ends with that job")),
            [call, others @ ..] => say(format_args!(
                "job {call} and {} more run in old programs, each of which ends with its job",
                others.len()
            )),
        }
        client.receive::<RestartPool>()?;
        Ok(ExitReason::Success)
    }
}
