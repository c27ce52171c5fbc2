//! Arrays together with what else a job may have: slots, labels, others to run after, retries, schedules.

use std::fs;

use pool_proto::State;
use pool_tests::{Daemon, wait_until};

fn array(daemon: &Daemon, indices: &str, options: &[&str], script: &str) -> u64 {
    daemon.submit(&[&["--array", indices], options, &["--", "sh", "-c", script]].concat())
}

fn counts(daemon: &Daemon, id: u64) -> [u32; 3] {
    let array = daemon.record(id).array.expect("it is an array");
    [array.succeeded, array.failed, array.canceled].map(Option::unwrap_or_default)
}

/// A command that fails where more than so many of its kind run beside each other.
fn beside_each_other(daemon: &Daemon, most: u32) -> String {
    let dir = daemon.path_text("running");
    fs::create_dir_all(&dir).unwrap();
    format!(
        "touch {dir}/$POOL_JOB_ID; test $(ls {dir} | wc -l) -le {most} || exit 9; sleep 0.05; \
         rm {dir}/$POOL_JOB_ID"
    )
}

#[test]
fn elements_take_several_slots_each_and_so_many_run_at_a_time() {
    let daemon = Daemon::start(5);
    let script = beside_each_other(&daemon, 2);
    let id = array(&daemon, "0-7", &["--slots", "2"], &format!("test $POOL_SLOTS = 2 || exit 8; {script}"));
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0, "two have four of five slots");
    assert_eq!((counts(&daemon, id), daemon.record(id + 8).slots), ([8, 0, 0], 2));

    let script = beside_each_other(&daemon, 1);
    let id = array(&daemon, "0-7%1", &["--slots", "2"], &script);
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
    let refused = daemon.run(&["submit", "--array", "0-7", "--slots", "6", "--", "true"]);
    assert_eq!(refused.code, 125, "none could run");
    assert!(refused.stderr.contains("6 slots"), "{}", refused.stderr);
}

#[test]
fn the_lesser_of_a_label_and_of_so_many_at_a_time_counts() {
    let daemon = Daemon::start(4);
    daemon.ok(&["limit", "set", "tape", "2"]);
    let script = beside_each_other(&daemon, 2);
    let ids = ["0-5%3", "0-5"].map(|indices| array(&daemon, indices, &["-l", "tape"], &script));
    for id in ids {
        assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0, "of both arrays together");
    }
    let script = beside_each_other(&daemon, 1);
    let id = array(&daemon, "0-5%1", &["-l", "tape"], &script);
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
    let labels = daemon.record(id + 1).labels.unwrap_or_default();
    assert!(labels.contains(&"tape".to_owned()), "{labels:?}");
    assert!(!daemon.ok(&["limit", "ls"]).contains('%'), "that of an array is gone with it");
}

#[test]
fn an_array_runs_after_another_one_and_others_after_it() {
    let daemon = Daemon::start(4);
    let ledger = daemon.path_text("ledger");
    let gate = daemon.path_text("gate");
    let first =
        array(&daemon, "0-3", &[], &format!("until [ -e {gate} ]; do sleep 0.02; done; echo 1 >>{ledger}"));
    let second = array(&daemon, "0-3%2", &["--after", &first.to_string()], &format!("echo 2 >>{ledger}"));
    let last =
        daemon.submit(&["--after", &second.to_string(), "--", "sh", "-c", &format!("echo 3 >>{ledger}")]);
    let otherwise = array(&daemon, "0-3", &["--after", &format!("afternotok:{second}")], "true");
    let behind = daemon.submit(&["--after", &format!("afterany:{}", otherwise + 2), "--", "true"]);
    assert_eq!([second, second + 1, last, otherwise].map(|id| daemon.record(id).state), [State::Blocked; 4]);
    fs::write(&gate, "").unwrap();
    assert_eq!(daemon.run(&["wait", &last.to_string()]).code, 0);
    assert_eq!(fs::read_to_string(&ledger).unwrap().replace('\n', ""), "111122223");
    daemon.run(&["wait", &otherwise.to_string(), &behind.to_string()]);
    assert_eq!((daemon.record(otherwise).state, counts(&daemon, otherwise)), (State::Canceled, [0, 0, 4]));
    assert_eq!(daemon.record(behind).state, State::Succeeded, "an element that never ran has ended");

    let failing = array(&daemon, "0-1", &[], "exit $POOL_ARRAY_INDEX");
    let behind = array(&daemon, "0-1", &["--after", &failing.to_string()], "true");
    assert_eq!(daemon.run(&["wait", &behind.to_string()]).code, 125);
    let told = daemon.record(behind).reason.unwrap_or_default();
    assert!(told.contains(&failing.to_string()), "{told}");
}

#[test]
fn each_element_has_its_own_retries() {
    let daemon = Daemon::start(2);
    let tried = daemon.path_text("tried");
    let script =
        format!("[ -e {tried}-$POOL_ARRAY_INDEX ] || {{ touch {tried}-$POOL_ARRAY_INDEX; exit 3; }}");
    let id = array(&daemon, "0-3%2", &["--retries", "1", "--backoff", "10ms"], &script);
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
    assert_eq!(counts(&daemon, id), [4, 0, 0]);
    let tries: Vec<(u32, u32)> = (id + 1..=id + 4)
        .map(|id| daemon.record(id))
        .map(|element| (element.attempt, element.retried))
        .collect();
    assert_eq!(tries, [(2, 1); 4]);

    let told = daemon.path_text("told");
    let callback = format!("echo $POOL_STATE $POOL_EXIT_CODE >>{told}");
    let options = ["--retries", "2", "--backoff", "10ms", "--retry-on-exit", "75", "--on-done", &callback];
    let id = array(&daemon, "0-1", &options, "exit $(( 75 + POOL_ARRAY_INDEX ))");
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 76);
    assert_eq!([id + 1, id + 2].map(|id| daemon.record(id).attempt), [3, 1]);
    wait_until("it is told once, with the greatest code", || {
        fs::read_to_string(&told).is_ok_and(|text| text == "failed 76\n")
    });
}

#[test]
fn a_schedule_submits_an_array_and_waits_for_the_whole_of_it() {
    let daemon = Daemon::start(2);
    let gate = daemon.path_text("gate");
    let script = format!("until [ -e {gate} ]; do sleep 0.02; done; echo $POOL_ARRAY_INDEX");
    let cron = ["schedule", "add", "sweep", "--cron", "0 0 1 1 *", "--array", "3-5%1"];
    daemon.ok(&[&cron[..], &["--", "sh", "-c", &script]].concat());
    let id = daemon.ok(&["schedule", "run", "sweep"]).trim().to_owned();
    daemon.wait_record(id.parse::<u64>().unwrap() + 1, "it runs", |record| record.state == State::Running);
    let said = daemon.run(&["schedule", "run", "sweep"]);
    assert_eq!((said.stdout.trim(), said.code), (&*id, 0));
    assert!(said.stderr.contains("nothing was submitted"), "{}", said.stderr);
    fs::write(&gate, "").unwrap();
    daemon.ok(&["wait", &id]);
    assert_eq!(daemon.ok(&["logs", &id]), "3\n4\n5\n");
    let again = daemon.ok(&["schedule", "run", "sweep"]).trim().to_owned();
    assert_ne!(again, id, "it is over");
    daemon.ok(&["wait", &again]);
    let refused =
        daemon.run(&[&cron[..2], &["bad", "--cron", "0 0 1 1 *", "--array", "9-1", "--", "true"]].concat());
    assert_eq!(refused.code, 2, "{}", refused.stderr);
}
