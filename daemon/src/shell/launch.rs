//! What a worker is told of an attempt: command, files, and the variables that tell the attempt who it is.

use std::path::Path;
use std::sync::Arc;

use pool_proto::location::{SOCKET_VARIABLE, SUBMIT_DIR_VARIABLE};
use pool_proto::nouns::ArrayInfo;
use pool_proto::{OsText, Record};

use crate::core::SlotId;
use crate::engine::CallbackRun;
use crate::files::layout;
use crate::job::{Claim, Items, Unit, Work, items_variable};
use crate::worker::protocol::{Run, Stdin};

/// Which daemon's an attempt is, so that no start takes another one's for what is left of its own. A socket
/// may have had other owners.
pub const DAEMON_VARIABLE: &str = "POOL_DAEMON";

/// Where this daemon is.
#[derive(Debug)]
pub struct Site {
    pub state_dir: std::path::PathBuf,
    /// Absolute; in every job's environment.
    pub socket: OsText,
    /// See [`crate::kernel::daemon_name`]; likewise.
    pub daemon: String,
}

/// A job's attempt.
pub fn job(site: &Site, slot: SlotId, claim: Claim, work: &Work, items: &Items, argv: &[OsText]) -> Box<Run> {
    let id = match claim.unit {
        Unit::Job(id) => id.0,
        Unit::Callback(_) => unreachable!("callbacks have a launch of their own"),
    };
    let stdin = match (&work.stdin, work.input) {
        (Some(token), _) => Stdin::File(layout::stdin_path(&site.state_dir, token).into()),
        (None, Some(input)) => Stdin::Live(input),
        (None, None) => Stdin::Null,
    };
    let mut variables = vec![
        ("POOL_JOB_ID".into(), id.to_string().into()),
        ("POOL_ATTEMPT".into(), claim.attempt.to_string().into()),
        ("POOL_NAME".into(), work.name.clone().unwrap_or_default()),
        ("POOL_SLOT".into(), slot.index.to_string().into()),
        ("POOL_SLOTS".into(), work.needs.slots.to_string().into()),
        (SOCKET_VARIABLE.into(), site.socket.clone()),
        (DAEMON_VARIABLE.into(), site.daemon.as_str().into()),
    ];
    if let Some(element) = work.element() {
        variables.extend(array_variables(&element.info()));
    }
    let of_items =
        |(name, items): (&Arc<str>, &Vec<Arc<str>>)| (items_variable(name).into(), items.join(",").into());
    variables.extend(items.iter().map(of_items));
    variables.extend(submit_dir(work));
    let run = run(&site.state_dir, claim, argv.to_vec(), work.cwd.clone(), false, variables, stdin);
    Box::new(Run { merge: work.merge, ..*run })
}

/// A callback's attempt: what the job had, and how it ended.
pub fn callback(site: &Site, claim: Claim, callback: &CallbackRun) -> Box<Run> {
    let CallbackRun { id, attempt, earlier: _, command, work, record } = callback;
    let record_text = serde_json::to_string(record).expect("a record has string keys only");
    let number = |value: Option<i32>| value.map_or_else(OsText::default, |value| value.to_string().into());
    let path = |file: &Option<pool_proto::nouns::OutputFile>| {
        file.as_ref().map(|file| file.path.clone()).unwrap_or_default()
    };
    let variables = [
        ("POOL_JOB_ID", record.id.to_string().into()),
        ("POOL_ATTEMPT", record.attempt.to_string().into()),
        ("POOL_NAME", record.name.clone().unwrap_or_default()),
        ("POOL_SLOT", record.slot.map(|slot| slot.to_string()).unwrap_or_default().into()),
        (SOCKET_VARIABLE, site.socket.clone()),
        (DAEMON_VARIABLE, site.daemon.as_str().into()),
        ("POOL_RESULT", record.result.map_or("", |result| result.as_str()).into()),
        ("POOL_STATE", record.state.as_str().into()),
        ("POOL_EXIT_CODE", number(record.exit_code)),
        ("POOL_SIGNAL", number(record.signal)),
        ("POOL_STDOUT_PATH", path(&record.stdout)),
        ("POOL_STDERR_PATH", path(&record.stderr)),
        ("POOL_DURATION_MS", duration_ms(record).into()),
        (
            "POOL_MAX_RSS",
            record.usage.map(|usage| usage.max_rss_bytes.to_string()).unwrap_or_default().into(),
        ),
        ("POOL_CALLBACK_ID", id.to_string().into()),
        ("POOL_CALLBACK_ATTEMPT", attempt.to_string().into()),
        ("POOL_RERUNS", record.reruns.to_string().into()),
    ];
    let of_array = record.array.iter().flat_map(|array| array_variables(array));
    let variables = variables.into_iter().map(|(name, value)| (name.into(), value));
    let variables = variables.chain(of_array).chain(submit_dir(work)).collect();
    let argv = vec!["/bin/sh".into(), "-c".into(), command.clone()];
    let run = run(&site.state_dir, claim, argv, work.cwd.clone(), true, variables, Stdin::Text(record_text));
    // What has not been written to has no file, but a name in the environment.
    let is_missing = |file: &&pool_proto::nouns::OutputFile| file.bytes.is_none_or(|bytes| bytes == 0);
    let missing = [&record.stdout, &record.stderr].into_iter().flatten().filter(is_missing);
    Box::new(Run { present: missing.map(|file| file.path.clone()).collect(), ..*run })
}

/// Which element of an array it is, or how many an array has.
fn array_variables(array: &ArrayInfo) -> Vec<(OsText, OsText)> {
    let number = |name: &str, value: u64| (name.into(), value.to_string().into());
    let mut variables =
        vec![number("POOL_ARRAY_ID", array.id), number("POOL_ARRAY_COUNT", array.elements.into())];
    variables.extend(array.index.map(|index| number("POOL_ARRAY_INDEX", index.into())));
    variables
}

/// Where it was submitted: poolctl says so in the environment, since the job may have been told to start
/// elsewhere.
fn submit_dir(work: &Work) -> Option<(OsText, OsText)> {
    let is_known = work.environment.variables.contains_key(SUBMIT_DIR_VARIABLE);
    (!is_known).then(|| (SUBMIT_DIR_VARIABLE.into(), work.cwd.clone()))
}

/// Whether variables, each as `NAME=value`, are those of an attempt, or a resident program, of the daemon of
/// that name.
pub fn is_of_attempt(variables: &[&[u8]], daemon: &str) -> bool {
    let has_name = |name: &str| {
        variables
            .iter()
            .any(|variable| variable.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"=")))
    };
    let daemon = format!("{DAEMON_VARIABLE}={daemon}");
    let is_of_job = has_name("POOL_JOB_ID") && has_name("POOL_ATTEMPT");
    let is_of_program = has_name("POOL_POOL") && has_name("POOL_SLOT");
    (is_of_job || is_of_program) && variables.contains(&daemon.as_bytes())
}

fn duration_ms(record: &Record) -> String {
    record.wall_s.map(|seconds| format!("{:.0}", seconds * 1000.0)).unwrap_or_default()
}

fn run(
    state_dir: &Path,
    claim: Claim,
    argv: Vec<OsText>,
    cwd: OsText,
    lenient: bool,
    variables: Vec<(OsText, OsText)>,
    stdin: Stdin,
) -> Box<Run> {
    let (stdout, stderr) = layout::paths(state_dir, claim);
    let (stdout, stderr) = (stdout.into(), stderr.into());
    Box::new(Run {
        claim,
        argv,
        cwd,
        lenient,
        variables,
        stdin,
        stdout,
        stderr,
        merge: false,
        present: Vec::new(),
        max_output_bytes: None,
        idle_timeout: None,
    })
}
