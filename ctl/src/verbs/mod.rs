//! The verbs. Each verb has a file or a folder, which owns its arguments and what it does. A new verb is a
//! new file, and here a module and a row of [`verbs!`].

mod backup;
mod call;
mod cancel;
mod deps;
mod doctor;
mod events;
mod hold;
mod limit;
mod logs;
mod ls;
mod map;
mod mv;
mod pause;
mod ping;
mod pool;
mod prune;
mod release;
mod retry;
mod rm;
mod run;
mod schedule;
mod selection;
mod show;
mod shutdown;
mod submission;
mod submit;
mod wait;
mod why;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Command, FromArgMatches, Parser, Subcommand};
use pool_proto::location::named_socket;

use crate::exit::ExitReason;
use crate::link::connect::Link;

/// Submits jobs to poold, waits for them, and shows them.
///
/// Without --socket and POOL_SOCKET, poolctl speaks to your own poold, and starts one if none is running.
#[derive(Debug, Parser)]
#[command(name = "poolctl", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    common: CommonOptions,
    #[command(subcommand)]
    verb: Verb,
}

/// The options of all verbs.
#[derive(Debug, Args)]
struct CommonOptions {
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
    /// Reads the command line.
    ///
    /// # Errors
    /// What clap has to say, `--help` included.
    pub fn read() -> Result<Self, clap::Error> {
        let words: Vec<OsString> = std::env::args_os().collect();
        Self::read_one_verb(&words).map_or_else(|| Self::try_parse_from(&words), Ok)
    }

    /// Reads a command line with the options of its verb alone, since those of all verbs are most of what
    /// there is to do before a short job. None where that is not to be had: whoever knows all verbs says why.
    fn read_one_verb(words: &[OsString]) -> Option<Self> {
        let mut rest = words.iter().skip(1);
        let verb = loop {
            match rest.next()?.to_str()? {
                "--json" | "--no-start" => {}
                "--socket" | "--trust-uid" => _ = rest.next(),
                word if word.starts_with("--socket=") || word.starts_with("--trust-uid=") => {}
                word => break Verb::described(word)?,
            }
        };
        let command = CommonOptions::augment_args(Command::new("poolctl")).subcommand(verb);
        Self::from_arg_matches(&command.try_get_matches_from(words).ok()?).ok()
    }

    /// Does what the command line says.
    ///
    /// # Errors
    /// The errors of the verb.
    pub fn run(self) -> anyhow::Result<ExitReason> {
        let CommonOptions { socket, json, no_start, trust_uid } = self.common;
        let link = Link::new(socket.or_else(named_socket), trust_uid, no_start);
        let context = Context { link, as_json: json };
        self.verb.run(&context)
    }
}

/// A row names a verb and its options. The help and the other names of the verb stand at its options.
macro_rules! verbs {
    ($($(#[$attribute:meta])* $verb:ident($name:literal, $options:ty);)*) => {
        #[derive(Debug, Subcommand)]
        enum Verb {
            $($(#[$attribute])* #[command(name = $name)] $verb(Box<$options>),)*
        }

        impl Verb {
            /// The verb of that name, as clap sees it.
            fn described(name: &str) -> Option<Command> {
                match name {
                    $($name => Some(<$options>::augment_args(Command::new($name))),)*
                    _ => None,
                }
            }

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
    Submit("submit", submit::SubmitOptions);
    Run("run", run::RunOptions);
    Map("map", map::MapOptions);
    Call("call", call::CallOptions);
    Wait("wait", wait::WaitOptions);
    Show("show", show::ShowOptions);
    Why("why", why::WhyOptions);
    Deps("deps", deps::DepsOptions);
    Ls("ls", ls::ListOptions);
    Events("events", events::EventsOptions);
    Logs("logs", logs::LogsOptions);
    #[command(visible_alias = "kill")]
    Cancel("cancel", cancel::CancelOptions);
    Retry("retry", retry::RetryOptions);
    Rm("rm", rm::RemoveOptions);
    Prune("prune", prune::PruneOptions);
    Move("move", mv::MoveOptions);
    Hold("hold", hold::HoldOptions);
    Release("release", release::ReleaseOptions);
    Pause("pause", pause::PauseOptions);
    Resume("resume", pause::ResumeOptions);
    Schedule("schedule", schedule::ScheduleOptions);
    Pool("pool", pool::PoolOptions);
    Limit("limit", limit::LimitOptions);
    Backup("backup", backup::BackupOptions);
    Doctor("doctor", doctor::DoctorOptions);
    Ping("ping", ping::PingOptions);
    Shutdown("shutdown", shutdown::ShutdownOptions);
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
    fn a_verb_alone_is_read_as_among_all() {
        let lines = [
            "submit --wait -- make -j4",
            "--json --socket /s submit --async --name a --key=k -- true",
            "run --no-start --trust-uid 7 -- sh -c x",
            "--trust-uid=7 map -k -- echo {} ::: a b",
            "call square f --json",
            "pool add warm --workers 2 -- cat",
            "limit set gpu 2",
            "ls --all",
            "wait 1 2-4",
            "shutdown --now",
            "SUBMIT -- true",
            "nothing",
            "submit --nothing -- true",
            "ls --help",
            "",
        ];
        for line in lines {
            let words: Vec<OsString> =
                ["poolctl"].into_iter().chain(line.split_whitespace()).map(OsString::from).collect();
            let (alone, among_all) = (Cli::read_one_verb(&words), Cli::try_parse_from(&words).ok());
            assert_eq!(format!("{alone:?}"), format!("{among_all:?}"), "{line}");
        }
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
