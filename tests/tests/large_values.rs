//! Parameters and results of calls that are so large that they have files of their own.

use std::fs;
use std::path::{Path, PathBuf};

use pool_proto::methods::{Get, Submit};
use pool_proto::nouns::Job;
use pool_proto::{Json, Record, State};
use pool_tests::{Daemon, Setup, wait_until};

fn setup() -> Setup {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/wicked.py");
    let path = std::env::var("PATH").unwrap_or_default();
    let command = format!("[\"python3\", {program:?}]");
    Setup::new().config(&format!("[pool.p]\nworkers = 1\ncommand = {command}\nenv = {{ PATH = {path:?} }}\n"))
}

fn files(state_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state_dir.join("values")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// A call of "echo" with a megabyte, which is accepted.
fn submit(daemon: &Daemon) -> u64 {
    let params = Json::parse(&format!("[\"{}\"]", "x".repeat(1 << 20))).ok();
    let job = Job { pool: Some("p".into()), method: Some("echo".into()), params, ..Job::default() };
    let submit = Submit { job, on_disconnect: None, obstacles: None };
    daemon.client().request(&submit).expect("it is accepted").id
}

fn record(daemon: &Daemon, id: u64) -> Record {
    *daemon.client().request(&Get { id }).expect("it is told").record
}

fn lengths(record: &Record) -> [Option<usize>; 2] {
    [&record.params, &record.value].map(|json| json.as_ref().map(|json| json.get().len()))
}

const LENGTHS: [Option<usize>; 2] = [Some((1 << 20) + 4); 2];

#[test]
fn they_outlive_every_process_go_into_backups_and_are_removed_with_their_job() {
    let mut daemon = setup().start();
    let id = submit(&daemon);
    daemon.ok(&["wait", &id.to_string()]);
    assert_eq!(files(&daemon.state_dir()).len(), 2);
    assert_eq!(lengths(&record(&daemon, id)), LENGTHS);
    let database = fs::metadata(daemon.state_dir().join("poold.db-wal")).unwrap().len();
    assert!(database < 1 << 20, "they are not in the database: {database}");

    daemon.kill_all();
    fs::write(daemon.state_dir().join("values/abandoned"), "[1]").unwrap();
    daemon.restart();
    assert_eq!(lengths(&record(&daemon, id)), LENGTHS);
    wait_until("what nobody needs to go", || files(&daemon.state_dir()).len() == 2);

    let copy = daemon.path_text("copy");
    assert!(daemon.ok(&["backup", &copy]).contains("copy.values"));
    daemon.ok(&["rm", &id.to_string()]);
    wait_until("the files to go", || files(&daemon.state_dir()).is_empty());

    let restored = setup();
    let state_dir = restored.dir().join("state");
    fs::create_dir_all(state_dir.join("values")).unwrap();
    fs::copy(&copy, state_dir.join("poold.db")).unwrap();
    for entry in fs::read_dir(format!("{copy}.values")).unwrap().flatten() {
        fs::copy(entry.path(), state_dir.join("values").join(entry.file_name())).unwrap();
    }
    let restored = restored.start();
    assert_eq!(lengths(&record(&restored, id)), LENGTHS);
    daemon.ok(&["backup", &daemon.path_text("small")]);
    assert!(!daemon.path("small.values").exists(), "there is nothing to be in it");
}

#[test]
fn a_call_that_has_lost_its_parameters_fails_alone_and_says_why() {
    let mut daemon = setup().start();
    daemon.ok(&["pool", "pause", "p"]);
    let lost = submit(&daemon);
    let [file] = &files(&daemon.state_dir())[..] else { panic!("it has one file") };
    daemon.kill_all();
    fs::write(file, "[1]").unwrap();
    daemon.restart();
    let whole = submit(&daemon);
    daemon.ok(&["pool", "resume", "p"]);
    daemon.ok(&["wait", &whole.to_string()]);

    let record = daemon.wait_record(lost, "its end", |record| record.state == State::Failed);
    let error = record.error.expect("it failed").get().to_owned();
    assert!(
        error.contains("is lost") && error.contains(&*file.file_name().unwrap().to_string_lossy()),
        "{error}"
    );
    assert!(record.reason.is_some_and(|reason| reason.contains("what was passed to the call is lost")));
}
