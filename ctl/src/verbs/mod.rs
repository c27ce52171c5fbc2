//! The verbs. Each verb has a file or a folder, which owns its arguments and what it does. A new verb is a
//! new file, and here a module and a row of [`verbs!`].

mod backup;
mod call;
mod cancel;
mod doctor;
mod events;
mod logs;
mod ls;
mod map;
mod ping;
mod pool;
mod release;
mod run;
mod selection;
mod show;
mod shutdown;
mod submission;
mod submit;
mod wait;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use pool_proto::location::named_socket;

use crate::exit::ExitReason;
use crate::link::connect::Link;

/// Submits jobs to poold, waits for them, and shows them.
///
/// Without --socket and POOL_SOCKET, poolctl speaks to your own poold, and starts one if none is running.
#[derive(Debug, Parser)]
#[command(name = "poolctl", version, max_term_width = 100)]
pub struct Cli {
    /// The socket of poold [default: $POOL_SOCKET, else that of your own poold]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,

    /// Never start a poold
    #[arg(long, global = true)]
    no_start: bool,

    /// Also speak to a poold that this user runs, not only to your own and to root's; may be repeated
    #[arg(long, global = true, value_name = "UID")]
    trust_uid: Vec<u32>,

    #[command(subcommand)]
    verb: Verb,
}

/// What the options of all verbs say.
#[derive(Debug)]
pub struct Context {
    /// Where poold is.
    pub link: Link,
    /// Whether to print documents for programs instead of text for people.
    pub as_json: bool,
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// The errors of the verb.
    pub fn run(self) -> anyhow::Result<ExitReason> {
        let link = Link::new(self.socket.or_else(named_socket), self.trust_uid, self.no_start);
        let context = Context { link, as_json: self.json };
        self.verb.run(&context)
    }
}

/// A row names a verb and its options. The help and the other names of the verb stand at its options.
macro_rules! verbs {
    ($($(#[$attribute:meta])* $verb:ident($options:ty);)*) => {
        #[derive(Debug, Subcommand)]
        enum Verb {
            $($(#[$attribute])* $verb(Box<$options>),)*
        }

        impl Verb {
            fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
                match self {
                    $(Self::$verb(options) => options.run(context),)*
                }
            }
        }
    };
}

// In the order of the help.
verbs! {
    #[command(visible_alias = "add")]
    Submit(submit::SubmitOptions);
    Run(run::RunOptions);
    Map(map::MapOptions);
    Call(call::CallOptions);
    Wait(wait::WaitOptions);
    Show(show::ShowOptions);
    Ls(ls::ListOptions);
    Events(events::EventsOptions);
    Logs(logs::LogsOptions);
    #[command(visible_alias = "kill")]
    Cancel(cancel::CancelOptions);
    Release(release::ReleaseOptions);
    Pool(pool::PoolOptions);
    Backup(backup::BackupOptions);
    Doctor(doctor::DoctorOptions);
    Ping(ping::PingOptions);
    Shutdown(shutdown::ShutdownOptions);
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_says_what_it_does() {
        fn check(command: &clap::Command) {
            for verb in command.get_subcommands() {
                assert!(verb.get_about().is_some(), "{} has no help", verb.get_name());
                check(verb);
            }
        }
        check(&Cli::command());
    }
}
