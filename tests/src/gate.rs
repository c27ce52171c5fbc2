//! Jobs that run until the test opens their gate, and what tests ask about them.

use std::fs::File;

use pool_proto::State;

use crate::Daemon;

/// A job with these options that runs until the test opens the gate. `first`: what its shell does before.
///
/// # Panics
/// Where it is not accepted.
pub fn gated(daemon: &Daemon, options: &[&str], first: &str, gate: &str) -> u64 {
    let script = format!("{first}until [ -e {} ]; do sleep 0.02; done", daemon.path_text(gate));
    daemon.submit(&[options, &["--", "sh", "-c", &script]].concat())
}

/// Lets the jobs go that wait at this gate.
///
/// # Panics
/// Where there is no room for it.
pub fn open(daemon: &Daemon, gate: &str) {
    File::create(daemon.path(gate)).expect("a file can be made");
}

/// Waits until a job runs.
///
/// # Panics
/// When it never does.
pub fn runs(daemon: &Daemon, id: u64) {
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
}

/// What a job does.
///
/// # Panics
/// Where there is none.
pub fn state(daemon: &Daemon, id: u64) -> State {
    daemon.record(id).state
}

/// Waits for the end of jobs, all of which succeed.
///
/// # Panics
/// Where one does not.
pub fn wait(daemon: &Daemon, ids: &[u64]) {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    let words: Vec<&str> = ["wait"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    assert_eq!(daemon.run(&words).code, 0, "{words:?}");
}
