//! What users see of job arrays: one id and many elements, whatever is killed in between.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use pool_proto::{Record, State};
use pool_tests::{Daemon, Setup, wait_until};
use serde_json::{Value, json};

/// Submits an array, and returns its id.
fn array(daemon: &Daemon, indices: &str, options: &[&str], script: &str) -> u64 {
    daemon.submit(&[&["--array", indices], options, &["--", "sh", "-c", script]].concat())
}

/// An element, or elements, as they are written.
fn of(array: u64, index: impl std::fmt::Display) -> String {
    format!("{array}.{index}")
}

fn shown(daemon: &Daemon, id: &str) -> Record {
    serde_json::from_str(&daemon.ok(&["show", "--json", id])).unwrap()
}

fn counts(daemon: &Daemon, id: u64) -> [u32; 3] {
    let array = daemon.record(id).array.expect("it is an array");
    [array.succeeded, array.failed, array.canceled].map(Option::unwrap_or_default)
}

#[test]
fn an_array_has_one_id_and_its_elements_know_who_they_are() {
    let daemon = Daemon::start(2);
    let script =
        "echo $POOL_ARRAY_ID $POOL_ARRAY_INDEX $POOL_ARRAY_COUNT; exit $(( POOL_ARRAY_INDEX == 20 ? 7 : 0 ))";
    let id = array(&daemon, "0-29:10,99", &["-n", "sweep"], script);
    let waited = daemon.run(&["wait", &id.to_string()]);
    assert_eq!(
        (waited.code, waited.stderr.trim()),
        (7, &*format!("poolctl: job {id} failed: 1 of 4 elements failed"))
    );

    let lines: String = [0, 10, 20, 99].map(|index| format!("{id} {index} 4\n")).concat();
    assert_eq!(daemon.ok(&["logs", &id.to_string()]), lines, "in the order of the indices");
    assert_eq!(daemon.ok(&["logs", &of(id, 99)]), format!("{id} 99 4\n"));
    assert_eq!(daemon.run(&["wait", &of(id, "0-10")]).code, 0);
    assert_eq!(daemon.run(&["wait", &of(id, "10-20")]).code, 7);
    let element = shown(&daemon, &of(id, 20));
    assert_eq!(
        (element.state, element.exit_code, element.name.unwrap().to_string()),
        (State::Failed, Some(7), "sweep".to_owned())
    );
    let document: Value = serde_json::from_str(&daemon.ok(&["show", "--json", &id.to_string()])).unwrap();
    let told = json!({
        "id": id, "elements": 4, "indices": "0-20:10,99", "first_id": id + 1, "unfolded": 4,
        "succeeded": 3, "failed": 1, "canceled": 0,
    });
    assert_eq!(document["array"], told);
    assert_eq!((&document["exit_code"], &document["reason"]), (&json!(7), &json!("1 of 4 elements failed")));
    assert!(
        daemon.ok(&["show", &id.to_string()]).contains("elements   4 (0-20:10,99): 3 succeeded, 1 failed\n")
    );
    assert!(daemon.ok(&["show", &of(id, 20)]).contains(&format!("element    {id}.20 of 4\n")));
    let listed = daemon.ok(&["ls"]);
    for name in [id.to_string(), of(id, 0), of(id, 99)] {
        assert!(listed.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}: {listed}");
    }

    let no_element = daemon.run(&["show", &of(id, 5)]);
    assert_eq!(no_element.code, 125);
    assert!(
        no_element.stderr.contains(&format!("array {id} has no element 5: its indices are 0-20:10,99")),
        "{}",
        no_element.stderr
    );
    let no_array = daemon.run(&["cancel", &of(id + 1, 0)]);
    assert!(no_array.stderr.contains("is no array"), "{}", no_array.stderr);
}

#[test]
fn failed_elements_are_run_again_and_the_array_with_them() {
    let daemon = Daemon::start(2);
    let script = format!("[ -e {} ] || exit 3", daemon.path_text("mended"));
    let id = array(&daemon, "1-3", &[], &format!("[ $POOL_ARRAY_INDEX = 2 ] || {{ {script}; }}"));
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 3);
    fs::write(daemon.path("mended"), "").unwrap();
    daemon.ok(&["retry", &of(id, 1)]);
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 3, "another one has failed");
    assert_eq!(counts(&daemon, id), [2, 1, 0]);
    daemon.ok(&["retry", &id.to_string()]);
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
    assert_eq!((counts(&daemon, id), daemon.record(id).reruns), ([3, 0, 0], 2));
    assert_eq!((shown(&daemon, &of(id, 2)).attempt, shown(&daemon, &of(id, 3)).attempt), (1, 2));
    let nothing = daemon.run(&["retry", &id.to_string()]);
    assert_eq!(nothing.code, 125);
    let words = format!("job {id} is an array of which all elements have succeeded, so none is run again");
    assert!(nothing.stderr.contains(&words), "{}", nothing.stderr);
    assert!(nothing.stderr.contains(&format!("`poolctl retry --new {id}`")), "{}", nothing.stderr);
    daemon.ok(&["rm", &id.to_string()]);
    assert_eq!(daemon.ok(&["ls"]).lines().count(), 1, "the elements have gone with it");
}

#[test]
fn a_callback_tells_the_end_of_the_array_or_of_each_element() {
    let daemon = Daemon::start(2);
    let file = daemon.path_text("told");
    let told =
        format!("echo $POOL_JOB_ID $POOL_ARRAY_ID $POOL_ARRAY_INDEX/$POOL_ARRAY_COUNT $POOL_STATE >>{file}");
    let lines = || fs::read_to_string(&file).unwrap_or_default();
    let id = array(&daemon, "5-6", &["--on-done", &told], "true");
    wait_until("it is told once", || lines() == format!("{id} {id} /2 succeeded\n"));
    let id = array(
        &daemon,
        "5-6",
        &["--on-done", &told, "--callback-for", "element"],
        "exit $((POOL_ARRAY_INDEX - 5))",
    );
    let all =
        |ends: &str| ends.lines().skip(1).map(ToOwned::to_owned).collect::<std::collections::BTreeSet<_>>();
    let wanted = [format!("{} {id} 5/2 succeeded", id + 1), format!("{} {id} 6/2 failed", id + 2)].into();
    wait_until("each is told", || all(&lines()) == wanted);
    let refused = daemon.run(&["submit", "--callback-for", "element", "--", "true"]);
    assert_eq!(refused.code, 2);
}

#[test]
fn so_many_elements_run_at_a_time_and_the_rest_can_be_ended() {
    let daemon = Daemon::start(4);
    let gate = daemon.path_text("gate");
    let id = array(&daemon, "0-999999%2", &[], &format!("until [ -e {gate} ]; do sleep 0.02; done"));
    daemon.wait_record(id + 2, "the second one runs", |record| record.state == State::Running);
    assert_eq!(daemon.run(&["run", "--", "true"]).code, 0, "another job goes past them");
    assert_eq!(shown(&daemon, &of(id, 2)).state, State::Queued);
    let why = daemon.ok(&["why", &of(id, 2)]);
    assert!(
        why.contains(&format!("array {id} has 2 elements running at a time, 2 run ({}, {})", id + 1, id + 2)),
        "{why}"
    );
    let why = daemon.ok(&["why", &of(id, 999_999)]);
    assert!(why.contains(&format!("an element of array {id}")), "{why}");
    assert!(daemon.ok(&["why", &id.to_string()]).contains("0 of 1000000 elements have ended"));

    daemon.ok(&["cancel", &of(id, "3-4"), &of(id, 500_000)]);
    let canceled = shown(&daemon, &of(id, 500_000));
    assert_eq!((canceled.state, canceled.array.unwrap().index), (State::Canceled, Some(500_000)));
    assert_eq!(counts(&daemon, id), [0, 0, 3]);
    let dependent = daemon.submit(&["--after", &format!("afterany:{}", of(id, 700_000)), "--", "true"]);
    let other = daemon.submit(&["--after", &format!("afternotok:{id}"), "--", "true"]);
    assert_eq!(daemon.record(dependent).state, State::Blocked);

    let begun = Instant::now();
    daemon.ok(&["cancel", &id.to_string()]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!((daemon.record(id).state, counts(&daemon, id)), (State::Canceled, [0, 0, 1_000_000]));
    assert_eq!(daemon.run(&["wait", &dependent.to_string(), &other.to_string()]).code, 0);
    assert_eq!(shown(&daemon, &of(id, 999_999)).state, State::Canceled);
    // Elements that never ran leave nothing behind.
    assert!(daemon.ok(&["ls"]).lines().count() < 2000);
}

#[test]
fn a_million_elements_are_accepted_at_once_and_take_no_memory() {
    let daemon = Daemon::start(1);
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.supervisor())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    daemon.ok(&["run", "--", "true"]);
    let before = resident();
    let begun = Instant::now();
    let ids: Vec<u64> = (0..10).map(|_| array(&daemon, "0-999999", &["--hold"], "true")).collect();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB for ten million elements");
    assert_eq!(shown(&daemon, &of(ids[9], 999_999)).state, State::Held);
    let size = fs::metadata(daemon.state_dir().join("poold.db")).unwrap().len();
    assert!(size < 4 << 20, "{size} bytes");
}

#[test]
fn a_kill_in_the_middle_loses_and_doubles_nothing() {
    const ELEMENTS: u64 = 400;
    let mut daemon = Setup::new().workers(4).start();
    let ledger = daemon.path_text("ledger");
    let id =
        array(&daemon, &format!("0-{}", ELEMENTS - 1), &[], &format!("echo $POOL_ARRAY_INDEX >>{ledger}"));
    let written = || fs::read_to_string(&ledger).unwrap_or_default().lines().count() as u64;
    for part in [ELEMENTS / 4, ELEMENTS / 2] {
        wait_until("some have run", || written() >= part);
        daemon.kill_in_one_instant();
        daemon.restart();
    }
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
    assert_eq!(counts(&daemon, id), [ELEMENTS as u32, 0, 0]);
    let mut runs: BTreeMap<u64, u32> = BTreeMap::new();
    for line in fs::read_to_string(&ledger).unwrap().lines() {
        *runs.entry(line.parse().unwrap()).or_default() += 1;
    }
    assert_eq!(runs.len() as u64, ELEMENTS, "each has run");
    // What had not been written at a kill runs again, once for each of them.
    assert!(runs.values().all(|&times| times <= 3), "{runs:?}");
    let elements: Vec<Record> = (id + 1..=id + ELEMENTS).map(|id| daemon.record(id)).collect();
    assert!(elements.iter().all(|element| element.state == State::Succeeded));
}

#[test]
fn lines_and_schedules_may_be_arrays_and_what_is_none_is_told() {
    let daemon = Daemon::start(2);
    let lines = r#"{"argv":["true"]}
{"argv":["true"],"array":"0-2%1"}
{"argv":["true"]}
"#;
    fs::write(daemon.path("jobs"), lines).unwrap();
    let ids = daemon.ok(&["submit", "--from", &daemon.path_text("jobs")]);
    let ids: Vec<u64> = ids.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(ids, [ids[0], ids[0] + 1, ids[0] + 2]);
    assert_eq!(daemon.run(&["wait", &ids[1].to_string()]).code, 0);
    assert_eq!(counts(&daemon, ids[1]), [3, 0, 0]);
    assert_eq!(daemon.record(ids[1]).array.unwrap().first_id, Some(ids[2] + 1));

    for (indices, why) in
        [("9-1", "smaller index first"), ("x", "no index"), ("0-9%0", "after %"), ("1,1", "each once")]
    {
        let said = daemon.run(&["submit", "--array", indices, "--", "true"]);
        assert_eq!(said.code, 2, "{indices}");
        assert!(said.stderr.contains(why), "{indices}: {}", said.stderr);
    }
    fs::write(daemon.path("wrong"), r#"{"argv":["true"],"array":"9-1"}"#).unwrap();
    let said = daemon.run(&["submit", "--from", &daemon.path_text("wrong")]);
    assert!(
        said.stderr.contains("array: ") && said.stderr.contains("smaller index first"),
        "{}",
        said.stderr
    );
}

#[test]
fn who_waits_for_an_array_in_place_gets_its_code() {
    let daemon = Daemon::start(2);
    let said = daemon.run(&["run", "--array", "0-3", "--", "sh", "-c", "echo out; exit $POOL_ARRAY_INDEX"]);
    assert_eq!((said.code, &*said.stdout), (3, ""), "the greatest of all; output is in the logs");
    assert!(said.stderr.contains("3 of 4 elements failed"), "{}", said.stderr);
    assert_eq!(daemon.run(&["run", "--array", "0-3", "--", "true"]).code, 0);
}

#[test]
fn an_array_that_has_not_ended_is_not_removed_and_neither_is_any_of_it() {
    let daemon = Daemon::start(2);
    let gate = daemon.path_text("gate");
    let script = format!("[ $POOL_ARRAY_INDEX = 0 ] || until [ -e {gate} ]; do sleep 0.02; done; echo out");
    let id = array(&daemon, "0-2", &[], &script);
    daemon.wait_record(id + 1, "it has ended", |record| record.state == State::Succeeded);
    let refused = daemon.run(&["rm", &id.to_string()]);
    assert_eq!(refused.code, 125, "{refused:?}");
    let words = format!("job {id} is running: only a job that has ended can be removed");
    assert!(refused.stderr.contains(&words), "{refused:?}");
    assert_eq!(daemon.ok(&["logs", &of(id, 0)]), "out\n", "its output is there");
    fs::write(&gate, "").unwrap();
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
    daemon.ok(&["rm", &id.to_string()]);
    assert_eq!(daemon.ok(&["ls"]).lines().count(), 1);
}

#[test]
fn who_releases_an_element_of_a_held_array_is_told_to_release_the_array() {
    let daemon = Daemon::start(1);
    let id = array(&daemon, "0-2", &["--hold"], "true");
    let refused = daemon.run(&["release", &of(id, 1)]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(!refused.stderr.contains("is held, not held"), "{refused:?}");
    assert!(refused.stderr.contains(&format!("`poolctl release {id}` releases the array")), "{refused:?}");
    daemon.ok(&["release", &id.to_string()]);
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
}

#[test]
fn what_is_refused_of_an_element_that_never_ran_leads_to_the_array() {
    let daemon = Daemon::start(1);
    let id = array(&daemon, "0-2999", &[], "sleep 1000");
    daemon.wait_record(id + 1, "it runs", |record| record.state == State::Running);
    let refused = |words: &[&str]| {
        let said = daemon.run(&[words, &[&*of(id, 2500)]].concat());
        assert_eq!(said.code, 125, "{words:?}: {said:?}");
        said.stderr
    };
    for verb in [&["edit", "--timeout", "1h"][..], &["retry", "--new"]] {
        let said = refused(verb);
        assert!(said.contains(&format!("an element of array {id}, which has not come to it")), "{said}");
    }
    for verb in ["retry", "rm"] {
        let said = refused(&[verb]);
        assert!(said.contains("an element of an array that has not come to it"), "{said}");
    }
    daemon.ok(&["cancel", &id.to_string()]);
    assert!(refused(&["retry"]).contains("`poolctl retry` of the whole array"));
    let said = refused(&["retry", "--new"]);
    assert!(said.contains(&format!("`poolctl retry {id}` of the whole array runs it, too")), "{said}");
}

#[test]
fn of_an_array_of_which_one_element_is_canceled_that_is_said() {
    let daemon = Daemon::start(2);
    let id = array(&daemon, "0-2", &["--hold"], "true");
    daemon.ok(&["cancel", &of(id, 1)]);
    daemon.ok(&["release", &id.to_string()]);
    let waited = daemon.run(&["wait", &id.to_string()]);
    assert!(waited.stderr.contains(&format!("job {id}: 1 of 3 elements was canceled")), "{waited:?}");
}

#[test]
fn why_an_array_does_not_end_whose_last_elements_are_held_is_told() {
    let daemon = Daemon::start(1);
    let gate = daemon.path_text("gate");
    let script = format!("[ $POOL_ARRAY_INDEX != 0 ] || until [ -e {gate} ]; do sleep 0.02; done");
    let id = array(&daemon, "0-3", &[], &script);
    daemon.wait_record(id + 4, "it is made", |record| record.state == State::Queued);
    daemon.ok(&["hold", &of(id, 1), &of(id, 3)]);
    fs::write(&gate, "").unwrap();
    wait_until("the others have ended", || counts(&daemon, id) == [2, 0, 0]);
    let why = daemon.ok(&["why", &id.to_string()]);
    let words = format!("2 of 4 elements have ended; 2 are held: `poolctl release {id}.1-3` lets them go");
    assert!(why.contains(&words), "{why}");
    daemon.ok(&["release", &of(id, 3)]);
    assert!(daemon.ok(&["why", &id.to_string()]).contains(&format!("1 is held: `poolctl release {id}.1`")));
    let released = daemon.run(&["release", &of(id, "1-3")]);
    assert_eq!(released.code, 0, "{released:?}");
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
}
