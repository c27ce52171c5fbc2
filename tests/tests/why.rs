//! What users see of `why`: what a job waits for, or does instead, in words and figures.

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_proto::methods::{Submit, SubmitMany};
use pool_proto::nouns::{Dependency, Job};
use pool_tests::{Daemon, Setup, wait_until};
use serde_json::{Value, json};

/// Submits a job over the protocol; its id.
fn submit(daemon: &Daemon, job: Job) -> u64 {
    let job = Job { argv: vec!["true".into()], ..job };
    daemon.client().request(&Submit { job, on_disconnect: None, obstacles: None }).unwrap().id
}

/// A job that runs until it is canceled.
fn occupy(daemon: &Daemon) -> u64 {
    let id = daemon.submit(&["--", "sleep", "1000"]);
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    id
}

fn why(daemon: &Daemon, id: u64) -> String {
    daemon.ok(&["why", &id.to_string()]).trim_end().to_owned()
}

/// What `--json` prints, a document a line.
fn documents(daemon: &Daemon, ids: &str) -> Vec<Value> {
    let printed = daemon.ok(&["--json", "why", ids]);
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The line of `show`.
fn shown(daemon: &Daemon, id: u64) -> Option<String> {
    let shown = daemon.ok(&["show", &id.to_string()]);
    shown.lines().find_map(|line| line.strip_prefix("why        ")).map(ToOwned::to_owned)
}

#[test]
fn a_queued_job_has_its_place_behind_those_that_run() {
    let daemon = Daemon::start(2);
    let busy = [occupy(&daemon), occupy(&daemon)];
    let queued =
        [0, 1, 5].map(|priority| daemon.submit(&["--priority", &priority.to_string(), "--", "true"]));
    let slots = format!("pool default: 2 of 2 slots are busy (jobs {}, {})", busy[0], busy[1]);
    for (id, place) in queued.into_iter().zip(["3rd", "2nd", "1st"]) {
        assert_eq!(why(&daemon, id), format!("job {id} is {place} in line; {slots}"));
    }
    assert_eq!(shown(&daemon, queued[0]), Some(why(&daemon, queued[0])));

    let document = documents(&daemon, &queued[0].to_string()).remove(0);
    let wanted = json!({
        "schema": 1, "id": queued[0], "state": "queued", "kind": "line", "pool": "default", "position": 3,
        "reason": format!("job {} is 3rd in line; {slots}", queued[0]), "busy": busy, "due_at": null,
        "waits_for": null, "label": null, "limit": null, "estimate": null,
    });
    assert_eq!(document, wanted);
}

#[test]
fn about_when_a_queued_job_starts_is_told_from_those_that_have_ended_in_its_pool() {
    let daemon = Setup::new().workers(1).config("[pool.other]\nworkers = 1\n").start();
    let estimate = |id: u64| documents(&daemon, &id.to_string()).remove(0)["estimate"].clone();
    let few: Vec<u64> = (0..4).map(|_| daemon.submit(&["--", "sleep", "0.4"])).collect();
    few.iter().for_each(|id| _ = daemon.ok(&["wait", &id.to_string()]));
    let busy = occupy(&daemon);
    let queued: Vec<u64> = (0..20).map(|_| daemon.submit(&["--", "true"])).collect();
    assert_eq!(estimate(queued[19]), Value::Null, "four are too few");
    daemon.ok(&["pool", "pause", "default"]);
    daemon.ok(&["cancel", &busy.to_string()]);
    assert_eq!(estimate(queued[19]), Value::Null, "and the canceled one is none of them");
    daemon.ok(&["edit", &queued[0].to_string(), "--priority", "9", "--", "sleep", "0.4"]);
    let ids: Vec<String> = queued[1..].iter().map(u64::to_string).collect();
    daemon.ok(&[&["hold"], &*ids.iter().map(String::as_str).collect::<Vec<&str>>()].concat());
    daemon.ok(&["pool", "resume", "default"]);
    daemon.ok(&["wait", &queued[0].to_string()]);

    // Five have run for 0.4 s each.
    let busy = occupy(&daemon);
    daemon.ok(&[&["release"], &*ids.iter().map(String::as_str).collect::<Vec<&str>>()].concat());
    let labeled = daemon.submit(&["--label", "some", "--", "true"]);
    let told = estimate(labeled);
    assert_eq!((&told["before"], &told["from_jobs"]), (&json!(19), &json!(5)), "those of another line count");
    let start_in_s = told["start_in_s"].as_f64().unwrap();
    assert!((6.0..120.0).contains(&start_in_s), "19 jobs of 0.4 s: {told}");
    assert_eq!(estimate(queued[1])["before"], json!(0));
    let sentence = why(&daemon, labeled);
    assert!(
        sentence.contains(
            "; with those of other labels 19 jobs of its pool are before it, and it starts in about "
        ),
        "{sentence}"
    );
    assert!(sentence.ends_with(" s, from the last 5 jobs of this pool"), "{sentence}");

    // What it waits for is no matter of time, or of jobs of another pool.
    daemon.ok(&["hold", &labeled.to_string()]);
    assert_eq!(estimate(labeled), Value::Null);
    daemon.ok(&["move", &queued[1].to_string(), "--pool", "other"]);
    daemon.ok(&["wait", &queued[1].to_string()]);
    daemon.ok(&["pool", "pause", "default"]);
    assert_eq!(estimate(queued[2]), Value::Null);
    daemon.ok(&["cancel", &busy.to_string()]);
}

#[test]
fn a_job_that_runs_and_one_that_has_ended_say_so() {
    let daemon = Daemon::start(1);
    let id = occupy(&daemon);
    let said = why(&daemon, id);
    let begin = format!("job {id} has run for ");
    assert!(said.starts_with(&begin) && said.ends_with(" s (attempt 1, slot 0)"), "{said}");
    assert_eq!(documents(&daemon, &id.to_string())[0]["kind"], "running");
    daemon.ok(&["cancel", &id.to_string()]);
    let said = why(&daemon, id);
    assert!(
        said.starts_with(&format!("job {id} ended ")) && said.ends_with(" ago: canceled, signal 15"),
        "{said}"
    );
    assert_eq!(shown(&daemon, id), None, "`show` says how it has ended anyway");

    let failed = daemon.submit_sh("exit 3");
    daemon.run(&["wait", &failed.to_string()]);
    assert!(why(&daemon, failed).ends_with(" s ago: failed, exit code 3"));
}

#[test]
fn a_job_that_is_being_ended_says_why() {
    let daemon = Daemon::start(1);
    let script = "trap '' TERM; echo deaf; while :; do sleep 0.1; done";
    let id = daemon.submit(&["--kill-after", "1000s", "--", "sh", "-c", script]);
    wait_until("it is deaf", || daemon.run(&["logs", &id.to_string()]).stdout == "deaf\n");
    let mut cancel = daemon.ctl(&["cancel", &id.to_string()]).spawn().unwrap();
    daemon.wait_record(id, "it is being ended", |record| record.state == State::Stopping);
    let said = why(&daemon, id);
    assert!(
        said.starts_with(&format!("job {id} is being ended: it was canceled; it has run for ")),
        "{said}"
    );
    daemon.client().request(&pool_proto::methods::Signal { id, signal: Signal::SIGKILL as i32 }).unwrap();
    cancel.wait().unwrap();
}

#[test]
fn what_a_job_waits_for_is_said() {
    let daemon = Daemon::start(2);
    let prior = occupy(&daemon);
    let held = submit(&daemon, Job { hold: Some(true), ..Job::default() });
    let at = Some("2100-01-01T00:00:00Z".to_owned());
    let scheduled = submit(&daemon, Job { at, ..Job::default() });
    let delayed = submit(&daemon, Job { delay_s: Some(7_800.0), ..Job::default() });
    let after = [prior, held].map(|id| Dependency { id, on: None }).to_vec();
    let blocked = submit(&daemon, Job { after: Some(after), ..Job::default() });
    let retried = daemon.submit(&["--retries", "1", "--backoff", "1h", "--", "false"]);
    daemon.wait_record(retried, "it waits", |record| record.state == State::Retrying);

    let release = format!("`poolctl release {held}` lets it go");
    assert_eq!(why(&daemon, held), format!("job {held} is held: a person has to decide; {release}"));
    let said = why(&daemon, scheduled);
    let begin = format!("job {scheduled} does not start before 2100-01-01T00:00:00Z (in ");
    assert!(said.starts_with(&begin) && said.ends_with(" d)"), "{said}");
    assert!(why(&daemon, delayed).ends_with("Z (in 2 h 9 min)"), "{}", why(&daemon, delayed));
    let said = why(&daemon, blocked);
    assert!(
        said.starts_with(&format!("job {blocked} waits for the end of jobs {prior} (running for ")),
        "{said}"
    );
    assert!(said.ends_with(&format!(" s), {held} (held)")), "{said}");
    let said = why(&daemon, retried);
    assert!(said.starts_with(&format!("job {retried} waits for its next attempt, due at 20")), "{said}");
    assert!(
        said.ends_with("Z (in 59 min): attempt 1 failed (exit code 1); at most 1 more follows"),
        "{said}"
    );
    assert_eq!(shown(&daemon, held), Some(why(&daemon, held)));

    let documents = documents(&daemon, &format!("{held}-{retried}"));
    let kinds: Vec<&str> = documents.iter().map(|document| document["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["held", "scheduled", "scheduled", "blocked", "retry"]);
    assert_eq!(documents[1]["due_at"], json!(daemon.record(scheduled).due_at));
    assert_eq!(documents[3]["waits_for"], json!([prior, held]));
}

#[test]
fn a_job_that_follows_another_one_of_its_name_names_it() {
    let daemon = Daemon::start(2);
    let unique = ["--unique", "nightly", "--if-exists", "queue", "--", "sleep", "1000"];
    let first = daemon.submit(&unique);
    daemon.wait_record(first, "it runs", |record| record.state == State::Running);
    let second = daemon.submit(&unique);
    let said = why(&daemon, second);
    assert!(said.starts_with(&format!("job {second} waits until job {first} (running for ")), "{said}");
    assert!(said.ends_with(", which has the unique name \"nightly\" too, has ended"), "{said}");
    assert_eq!(documents(&daemon, &second.to_string())[0]["waits_for"], json!([first]));
}

/// The program takes each call, and answers none.
const SILENT: &str = "[pool.silent]\nworkers = 1\ncommand = [\"sleep\", \"1000\"]\n";

#[test]
fn calls_in_memory_and_on_disk_stand_in_one_line() {
    let daemon = Setup::new().config(SILENT).start();
    let call = |durability| -> u64 {
        let printed = daemon.ok(&["call", "--async", "--durability", durability, "silent", "m"]);
        printed.trim().parse().unwrap()
    };
    let busy = call("disk");
    daemon.wait_record(busy, "it runs", |record| record.state == State::Running);
    let queued = ["none", "disk", "none", "disk"].map(call);
    for (id, place) in queued.into_iter().zip(["1st", "2nd", "3rd", "4th"]) {
        let wanted = format!("job {id} is {place} in line; pool silent: 1 of 1 slot is busy (job {busy})");
        assert_eq!(why(&daemon, id), wanted);
    }
}

#[test]
fn far_behind_no_place_is_counted() {
    let daemon = Daemon::start(1);
    let busy = occupy(&daemon);
    let job = Job { argv: vec!["true".into()], ..Job::default() };
    let many = SubmitMany { jobs: vec![job; 1002], defaults: None, obstacles: None };
    let ids = daemon.client().request(&many).unwrap().ids;
    let slots = format!("pool default: 1 of 1 slot is busy (job {busy})");
    assert_eq!(why(&daemon, ids[1000]), format!("job {} is 1001st in line; {slots}", ids[1000]));
    let (last, more) = (ids[1001], "more than 1,000 jobs are before it");
    assert_eq!(why(&daemon, last), format!("job {last} is in line, {more}; {slots}"));
    assert_eq!(documents(&daemon, &last.to_string())[0]["position"], Value::Null);

    let all = daemon.ok(&["why", &format!("{}-{last}", ids[0])]);
    assert_eq!(all.lines().count(), 1002, "more than one message can name");
}

#[test]
fn a_pool_that_starts_nothing_says_why() {
    let dying = "[pool.dying]\nworkers = 1\ncommand = [\"/no/such/program\"]\nstart_attempts = 100000\n";
    let daemon = Setup::new().config(dying).start();
    let id: u64 = daemon.ok(&["call", "--async", "dying", "m"]).trim().parse().unwrap();
    let begin = format!("job {id} is 1st in line; no program of the pool \"dying\" is up: ");
    wait_until("its start has failed", || why(&daemon, id).starts_with(&begin));
    assert!(why(&daemon, id).contains("/no/such/program"));
    assert_eq!(documents(&daemon, &id.to_string())[0]["kind"], "pool");

    daemon.ok(&["pool", "add", "removed", "--", "sleep", "1000"]);
    let busy: u64 = daemon.ok(&["call", "--async", "removed", "m"]).trim().parse().unwrap();
    daemon.wait_record(busy, "it runs", |record| record.state == State::Running);
    let left: u64 = daemon.ok(&["call", "--async", "removed", "m"]).trim().parse().unwrap();
    daemon.ok(&["pool", "rm", "removed"]);
    let wanted = format!("job {left} is 1st in line; there is no pool \"removed\" any more");
    assert_eq!(why(&daemon, left), wanted);
    daemon.ok(&["cancel", &busy.to_string(), &left.to_string()]);
}

#[test]
fn a_job_that_does_not_exist_is_named_and_the_rest_is_said() {
    let daemon = Daemon::start(1);
    let id = occupy(&daemon).to_string();
    let said = daemon.run(&["why", "99", &id]);
    assert_eq!((said.code, said.stdout.lines().count()), (125, 1), "{said:?}");
    assert!(said.stderr.contains("job 99"), "{said:?}");
    assert_eq!(said.code, daemon.run(&["show", "99"]).code);
}
