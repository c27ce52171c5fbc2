//! The verbs. Each verb has a file or a folder, which owns its arguments and what it does. A new verb is a
//! new file, and here a module and a row of [`verbs!`].

mod attach;
mod backup;
mod board;
mod call;
mod callbacks;
mod cancel;
mod completions;
mod config;
mod deps;
mod doctor;
mod edit;
mod ending;
mod events;
mod help;
mod hold;
mod limit;
mod logs;
mod ls;
mod man;
mod map;
mod mv;
mod nearest;
mod overview;
mod pause;
mod ping;
mod plot;
mod pool;
mod prune;
mod release;
mod retry;
mod rm;
mod run;
mod schedule;
mod schema;
mod selection;
mod send;
mod show;
mod shutdown;
mod signal;
mod stats;
mod submission;
mod submit;
mod top;
mod wait;
mod why;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::exit;

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use pool_proto::location::named_socket;

use crate::exit::ExitReason;
use crate::help::dressed;
use crate::link::connect::Link;
use crate::term::style::{self, ColorChoice};

/// Submits jobs to poold, waits for them, and shows them.
///
/// Without --socket and POOL_SOCKET, poolctl speaks to your own poold, and starts one if none is running.
#[derive(Debug, Parser)]
#[command(name = "poolctl", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    common: CommonOptions,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// The options of all verbs.
#[derive(Debug, Args)]
struct CommonOptions {
    /// The socket of poold [default: $POOL_SOCKET, else your own]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,

    /// Use colours: auto, always or never [default: auto]
    #[arg(long, global = true, value_name = "WHEN", value_enum)]
    color: Option<ColorChoice>,

    /// Never start a poold
    #[arg(long, global = true)]
    no_start: bool,

    /// Also speak to a poold of this user; may be repeated
    ///
    /// Without it, poolctl speaks to your own poold and to root's.
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
        let words = ours(std::env::args_os().collect());
        if completions::is_asked() {
            completions::complete(|| dressed(command()))?;
            exit(0);
        }
        Self::read_one_verb(&words).map_or_else(|| Self::read_among_all(&words), Ok)
    }

    /// Reads a command line with the options and the help of all verbs.
    ///
    /// # Errors
    /// What clap has to say, `--help` included.
    pub fn read_among_all(words: &[OsString]) -> Result<Self, clap::Error> {
        Self::from_arg_matches(&dressed(command()).try_get_matches_from(ours(words.to_vec()))?)
    }

    /// Reads a command line with the options of its verb alone, since those of all verbs are most of what
    /// there is to do before a short job. None where that is not to be had: whoever knows all verbs says why.
    fn read_one_verb(words: &[OsString]) -> Option<Self> {
        let verb = Verb::described(words.get(place_of_verb(words)?)?.to_str()?)?;
        let command = CommonOptions::augment_args(Command::new("poolctl"))
            .disable_help_subcommand(true)
            .subcommand(verb);
        Self::from_arg_matches(&command.try_get_matches_from(words).ok()?).ok()
    }

    /// Does what the command line says.
    ///
    /// # Errors
    /// The errors of the verb.
    pub fn run(self) -> anyhow::Result<ExitReason> {
        let CommonOptions { socket, json, color, no_start, trust_uid } = self.common;
        color.into_iter().for_each(style::choose);
        let link = Link::new(socket.or_else(named_socket), trust_uid, no_start);
        let context = Context { link, as_json: json };
        let done = match self.verb {
            Some(verb) => verb.run(&context),
            None => overview::run(&context),
        };
        done.map_err(|error| nearest::explain(error, &context.link))
    }
}

/// The command line of all verbs, without their help.
fn command() -> Command {
    <Cli as CommandFactory>::command()
}

/// Where the verb stands among the words of a command line.
fn place_of_verb(words: &[OsString]) -> Option<usize> {
    let mut rest = words.iter().enumerate().skip(1);
    loop {
        let (place, word) = rest.next()?;
        match word.to_str()? {
            "--json" | "--no-start" => {}
            "--socket" | "--trust-uid" | "--color" => _ = rest.next(),
            word if ["--socket=", "--trust-uid=", "--color="].iter().any(|it| word.starts_with(it)) => {}
            _ => return Some(place),
        }
    }
}

/// The verbs that users of other queues know, and ours. None of them ends poold.
const PEERS: [(&str, &[&str]); 11] = [
    ("status", &["ls"]),
    ("list", &["ls"]),
    ("st", &["ls"]),
    ("log", &["logs"]),
    ("tail", &["logs", "-f"]),
    ("follow", &["logs", "-f"]),
    ("info", &["show"]),
    ("restart", &["retry"]),
    ("group", &["pool"]),
    ("groups", &["pool"]),
    ("parallel", &["pool"]),
];

/// The command line with our verb in the place of a peer's.
fn ours(mut words: Vec<OsString>) -> Vec<OsString> {
    if let Some(place) = place_of_verb(&words)
        && let Some((_, verb)) = PEERS.iter().find(|(name, _)| words[place] == *name)
    {
        words.splice(place..=place, verb.iter().map(OsString::from));
    }
    words
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
    Top("top", top::TopOptions);
    Events("events", events::EventsOptions);
    Logs("logs", logs::LogsOptions);
    Stats("stats", stats::StatsOptions);
    Plot("plot", plot::PlotOptions);
    #[command(visible_alias = "kill")]
    Cancel("cancel", cancel::CancelOptions);
    Retry("retry", retry::RetryOptions);
    Rm("rm", rm::RemoveOptions);
    Prune("prune", prune::PruneOptions);
    Edit("edit", edit::EditOptions);
    Move("move", mv::MoveOptions);
    Hold("hold", hold::HoldOptions);
    Release("release", release::ReleaseOptions);
    Send("send", send::SendOptions);
    Attach("attach", attach::AttachOptions);
    Pause("pause", pause::PauseOptions);
    Resume("resume", pause::ResumeOptions);
    Signal("signal", signal::SignalOptions);
    Schedule("schedule", schedule::ScheduleOptions);
    Pool("pool", pool::PoolOptions);
    Limit("limit", limit::LimitOptions);
    Callbacks("callbacks", callbacks::CallbacksOptions);
    Backup("backup", backup::BackupOptions);
    Config("config", config::ConfigOptions);
    Doctor("doctor", doctor::DoctorOptions);
    Ping("ping", ping::PingOptions);
    Shutdown("shutdown", shutdown::ShutdownOptions);
    Help("help", help::HelpOptions);
    Completions("completions", completions::CompletionsOptions);
    Man("man", man::ManOptions);
    Schema("schema", schema::SchemaOptions);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
        dressed(command()).debug_assert();
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
            "--color never ls",
            "--color=always ls --color auto",
            "ls --all",
            "wait 1 2-4",
            "signal 1 2-4 USR1",
            "shutdown --now",
            "SUBMIT -- true",
            "nothing",
            "submit --nothing -- true",
            "ls --help",
        ];
        for line in lines {
            let words: Vec<OsString> =
                ["poolctl"].into_iter().chain(line.split_whitespace()).map(OsString::from).collect();
            let (alone, among_all) = (Cli::read_one_verb(&words), Cli::try_parse_from(&words).ok());
            assert_eq!(format!("{alone:?}"), format!("{among_all:?}"), "{line}");
        }
        assert!(Cli::read_among_all(&["poolctl".into()]).is_ok_and(|cli| cli.verb.is_none()));
    }

    #[test]
    fn the_words_of_peers_lead_to_verbs() {
        for (_, verb) in PEERS {
            assert!(Verb::described(verb[0]).is_some(), "{verb:?}");
            assert_ne!(verb[0], "shutdown");
        }
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<OsString>>();
        assert_eq!(
            ours(words("poolctl --json --socket /s tail 7")),
            words("poolctl --json --socket /s logs -f 7")
        );
        assert_eq!(ours(words("poolctl submit -- tail 7")), words("poolctl submit -- tail 7"));
    }

    #[test]
    fn every_verb_says_what_it_does() {
        fn check(command: &clap::Command) {
            for verb in command.get_subcommands() {
                assert!(verb.get_about().is_some(), "{} has no help", verb.get_name());
                check(verb);
            }
        }
        check(&command());
    }
}
