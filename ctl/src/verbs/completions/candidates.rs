//! What may stand at a place of the command line: the jobs, pools, labels and schedules that poold has now.
//!
//! Whoever presses Tab waits for this. poold answers within some milliseconds; one that is stuck has
//! [`PATIENCE`], and poolctl never starts one.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use pool_proto::location::named_socket;
use pool_proto::methods::{Callbacks, LabelLimits, List, ListOrder, Pools, Schedules};
use pool_proto::nouns::limits::RESOURCES;
use pool_proto::nouns::{CallbackRecord, HappeningKind};
use pool_proto::{Client, OsText, Record, State};

use crate::cli::signal;
use crate::cli::states::GROUPS;
use crate::help::topics::TOPICS;
use crate::link::connect::Link;
use crate::link::deadline::Deadline;
use crate::tell::record::{id_of, work_line};
use crate::tell::row::Column;
use crate::term::text::printable;

/// How long poold may take: longer than that nobody waits for a word.
const PATIENCE: Duration = Duration::from_millis(250);

/// The number of jobs that are offered: the newest ones.
const MOST: u32 = 100;

/// Adds to each word of the command line what may stand there. `socket`: what the words name. `is_option`:
/// the word begins like an option. Where it does not, options stand back behind whatever else may stand
/// there.
pub fn with_candidates(root: Command, socket: Option<&OsStr>, is_option: bool) -> Command {
    let asked = Asked { socket: socket.map(PathBuf::from), is_option };
    root.mut_subcommands(|verb| {
        let name = verb.get_name().to_owned();
        in_verb(by_one_name(verb), &name, &asked)
    })
    .mut_args(|arg| in_arg(arg, "", &asked))
}

/// A verb with two names is offered once, by its own; the other one where nothing else begins like it.
fn by_one_name(verb: Command) -> Command {
    match verb.get_name() {
        "submit" => verb.visible_alias(None).alias("add"),
        "cancel" => verb.visible_alias(None).alias("kill"),
        _ => verb,
    }
}

/// The value of `--socket` among these words.
pub fn socket_of(words: &[OsString]) -> Option<OsString> {
    let place = words.iter().position(|word| word == "--socket");
    let after = place.and_then(|place| words.get(place + 1).cloned());
    let joined = || words.iter().find_map(|word| Some(word.to_str()?.strip_prefix("--socket=")?.into()));
    after.or_else(joined)
}

fn in_verb(verb: Command, path: &str, asked: &Asked) -> Command {
    verb.mut_args(|arg| in_arg(arg, path, asked)).mut_subcommands(|inner| {
        let path = format!("{path} {}", inner.get_name());
        in_verb(inner, &path, asked)
    })
}

fn in_arg(arg: Arg, verb: &str, asked: &Asked) -> Arg {
    let arg = if arg.is_positional() { arg } else { arg.hide(!asked.is_option) };
    let value = arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str().to_owned());
    let value = value.unwrap_or_else(|| arg.get_id().as_str().to_uppercase());
    let noun = match value.trim_start_matches("[+]").trim_end_matches("|-") {
        "ID" | "JOB" | "JOBS" => Noun::Job(states_for(verb)),
        "SELECTOR" | "IDS" => Noun::Selector(states_for(verb)),
        "CALLBACK" => Noun::Callback(verb == "callbacks retry"),
        "SIGNAL" => Noun::Signal,
        "POOL" | "POOLS" => Noun::Pool,
        "NAME" if verb.starts_with("pool ") && verb != "pool add" => Noun::Pool,
        "NAME" if verb.starts_with("schedule ") && verb != "schedule add" => Noun::Schedule,
        "LABEL" | "LABELS" => Noun::Label,
        "STATE" | "STATES" => Noun::State,
        "FILE" | "PATH" => Noun::Path,
        "DIR" => Noun::Directory,
        "COMMAND" | "COMMAND [::: ITEM]" if arg.is_positional() => Noun::Program,
        "NAME=SOFT[:HARD]" => Noun::Resource,
        "TOPIC" => Noun::Topic,
        "KIND" if verb == "events" => Noun::Kind,
        "COLUMN" | "COLUMNS" => Noun::Column,
        _ => return arg,
    };
    arg.add(ArgValueCompleter::new(Candidates { noun, asked: asked.clone() }))
}

/// The states of the jobs with which a verb can do something; all states where that is any job.
fn states_for(verb: &str) -> &'static [State] {
    use State::{
        Blocked, Canceled, Failed, Held, Lost, Queued, Retrying, Running, Scheduled, Succeeded, TimedOut,
    };
    match verb {
        "wait" | "cancel" | "why" => &[Running, Queued, Retrying, Held, Scheduled, Blocked],
        "hold" | "move" | "edit" => &[Queued, Retrying, Held, Scheduled, Blocked],
        "release" => &[Held],
        "pause" | "resume" | "signal" | "send" | "attach" => &[Running],
        "retry" | "rm" => &[Failed, TimedOut, Lost, Canceled, Succeeded],
        _ => &[],
    }
}

/// Which poold is asked, and for what.
#[derive(Debug, Clone)]
struct Asked {
    socket: Option<PathBuf>,
    is_option: bool,
}

impl Asked {
    /// What poold says, if there is one that answers in time.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Client) -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let link = Link::new(self.socket.clone().or_else(named_socket), Vec::new(), true);
        let answer = Deadline::after(PATIENCE).bound(move || question(&mut link.open().ok()?));
        answer.ok().flatten()
    }
}

/// What stands at a place.
#[derive(Debug, Clone, Copy)]
enum Noun {
    Job(&'static [State]),
    Selector(&'static [State]),
    /// Of those that have not been delivered; or only of those that were given up.
    Callback(bool),
    Pool,
    Schedule,
    Label,
    State,
    Signal,
    Path,
    Directory,
    Program,
    Resource,
    Topic,
    /// Of an event.
    Kind,
    /// Of a listing.
    Column,
}

struct Candidates {
    noun: Noun,
    asked: Asked,
}

impl ValueCompleter for Candidates {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        self.complete_at(0, current)
    }

    fn complete_at(&self, index: usize, current: &OsStr) -> Vec<CompletionCandidate> {
        match self.noun {
            Noun::Path => PathCompleter::any().complete(current),
            Noun::Directory => PathCompleter::dir().complete(current),
            Noun::Program if index == 0 && !current.as_encoded_bytes().contains(&b'/') => programs(current),
            Noun::Program => PathCompleter::any().complete(current),
            noun => {
                let Some(current) = current.to_str() else { return Vec::new() };
                // The last of several, as in `--state failed,lo` and `3,5`.
                let (before, last) = match current.rsplit_once(',') {
                    Some((before, last)) => (format!("{before},"), last),
                    None => (String::new(), current),
                };
                // `--after any:@gp`.
                let is_kind = |(kind, _): &(&str, &str)| AFTER.contains(kind);
                let (before, last) = match last.split_once(':').filter(is_kind) {
                    Some((kind, last)) => (format!("{before}{kind}:"), last),
                    None => (before, last),
                };
                let named = match noun {
                    Noun::Selector(states) => self.selectors(states, last),
                    Noun::Callback(_) if last.starts_with('@') || last.contains(':') => {
                        self.selectors(&[], last)
                    }
                    noun => self.named(noun),
                };
                let named = named.into_iter().filter(|(name, _)| name.starts_with(last));
                named
                    .map(|(name, help)| {
                        let help = (!help.is_empty()).then(|| help.into());
                        CompletionCandidate::new(before.clone() + &name).help(help)
                    })
                    .collect()
            }
        }
    }
}

impl Candidates {
    /// Names, each with what is said of it.
    fn named(&self, noun: Noun) -> Vec<(String, String)> {
        let alone = |name: &str| (name.to_owned(), String::new());
        match noun {
            Noun::State => State::ALL.iter().map(|state| alone(state.as_str())).collect(),
            Noun::Signal => signal::names().map(alone).collect(),
            Noun::Resource => RESOURCES.iter().map(|(name, _)| alone(&format!("{name}="))).collect(),
            Noun::Kind => HappeningKind::ALL.iter().map(|kind| alone(kind.as_str())).collect(),
            Noun::Column => Column::ALL.iter().map(|column| alone(column.name())).collect(),
            Noun::Topic => TOPICS.iter().map(|topic| (topic.name.to_owned(), topic.title())).collect(),
            Noun::Pool => self
                .asked
                .ask(|poold| Some(poold.request(&Pools {}).ok()?.pools))
                .map_or_else(Vec::new, |pools| pools.iter().map(|pool| alone(&pool.name)).collect()),
            Noun::Schedule => {
                let schedules =
                    self.asked.ask(|poold| Some(poold.request(&Schedules::default()).ok()?.schedules));
                let schedules = schedules.unwrap_or_default();
                schedules.iter().map(|schedule| alone(&schedule.schedule.name)).collect()
            }
            Noun::Label => self.labels(),
            Noun::Job(states) | Noun::Selector(states) => {
                let jobs = self.asked.ask(move |poold| newest(poold, states)).unwrap_or_default();
                jobs.iter().map(|record| (id_of(record), about(record))).collect()
            }
            Noun::Callback(failed) => {
                let asked = Callbacks { failed: Some(failed), limit: Some(MOST), after: None };
                let listed = self.asked.ask(move |poold| Some(poold.request(&asked).ok()?.callbacks));
                let about = |callback: &CallbackRecord| {
                    format!("{} {}", callback.state, printable(&callback.command.to_string(), 40))
                };
                let mut named: Vec<(String, String)> =
                    listed.unwrap_or_default().iter().map(|one| (one.id.to_string(), about(one))).collect();
                named.push(("failed".to_owned(), "all that poold has given up".to_owned()));
                named
            }
            Noun::Path | Noun::Directory | Noun::Program => Vec::new(),
        }
    }

    /// What names jobs of these states and begins like that: ids and words, and behind what says so the names
    /// of a kind.
    fn selectors(&self, states: &'static [State], begun: &str) -> Vec<(String, String)> {
        let behind = |kind: &str, names: Vec<(String, String)>| {
            names.into_iter().map(|(name, help)| (format!("{kind}{name}"), help)).collect()
        };
        if begun.starts_with('@') {
            return behind("@", self.labels());
        }
        match begun.split_once(':') {
            Some(("pool", _)) => return behind("pool:", self.named(Noun::Pool)),
            Some(("state", _)) => return behind("state:", states_and_groups(states)),
            Some(("name", _)) => return behind("name:", self.names(states)),
            _ => {}
        }
        let mut selectors = self.named(Noun::Job(states));
        selectors.extend(WORDS.iter().map(|&(word, help)| (word.to_owned(), help.to_owned())));
        if !begun.is_empty() {
            let kinds = ["name:", "state:", "pool:"];
            selectors.extend(kinds.iter().map(|kind| ((*kind).to_owned(), String::new())));
        }
        selectors
    }

    /// The names of the newest jobs in these states.
    fn names(&self, states: &'static [State]) -> Vec<(String, String)> {
        let jobs = self.asked.ask(move |poold| newest(poold, states)).unwrap_or_default();
        let mut names: Vec<(String, String)> = Vec::new();
        for name in jobs.into_iter().filter_map(|record| record.name).map(|name| name.to_string()) {
            if names.iter().all(|(known, _)| *known != name) {
                names.push((name, String::new()));
            }
        }
        names
    }

    /// Labels that have a limit, and those of the newest jobs.
    fn labels(&self) -> Vec<(String, String)> {
        let labels = self.asked.ask(|poold| {
            let limits = poold.request(&LabelLimits {}).ok()?.limits;
            let jobs = newest(poold, &[])?;
            let limited = limits.into_iter().map(|limit| (limit.label, format!("limit {}", limit.limit)));
            let mut labels: Vec<(String, String)> = limited.collect();
            for label in jobs.into_iter().filter_map(|record| record.labels).flatten() {
                if labels.iter().all(|(name, _)| *name != label) {
                    labels.push((label, String::new()));
                }
            }
            Some(labels)
        });
        labels.unwrap_or_default()
    }
}

/// The kinds of an end behind which `--after` has jobs.
const AFTER: [&str; 6] = ["afterok", "ok", "afternotok", "notok", "afterany", "any"];

/// The words that name jobs.
const WORDS: [(&str, &str); 2] = [("last", "the newest job"), ("all", "all that this can be done with")];

/// The states of a verb's jobs, and the words for several.
fn states_and_groups(states: &[State]) -> Vec<(String, String)> {
    let is_of_verb = |state: &State| states.is_empty() || states.contains(state);
    let alone = |name: &str| (name.to_owned(), String::new());
    let mut names: Vec<(String, String)> =
        State::ALL.iter().filter(|state| is_of_verb(state)).map(|state| alone(state.as_str())).collect();
    for (word, of) in GROUPS {
        if of.iter().any(is_of_verb) && names.iter().all(|(name, _)| name != word) {
            names.push(alone(word));
        }
    }
    names
}

/// The newest jobs in these states, or in any, the newest first: one request, however many there are.
fn newest(poold: &mut Client, states: &[State]) -> Option<Vec<Record>> {
    let states = (!states.is_empty()).then(|| states.to_vec());
    let list = List { states, order: Some(ListOrder::Newest), limit: Some(MOST), ..List::default() };
    Some(poold.request(&list).ok()?.jobs)
}

fn about(record: &Record) -> String {
    let work = record.name.as_ref().map_or_else(|| work_line(record), OsText::to_string);
    format!("{} {}", record.state.as_str(), printable(&work, 40))
}

/// Programs in $PATH.
fn programs(current: &OsStr) -> Vec<CompletionCandidate> {
    let begins = |name: &OsStr| name.as_encoded_bytes().starts_with(current.as_encoded_bytes());
    let mut names: Vec<OsString> = Vec::new();
    for directory in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
        let Ok(entries) = directory.read_dir() else { continue };
        let found = entries.flatten().filter(|entry| begins(&entry.file_name()) && can_run(&entry.path()));
        names.extend(found.map(|entry| entry.file_name()));
    }
    names.sort();
    names.dedup();
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn can_run(path: &Path) -> bool {
    path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}
