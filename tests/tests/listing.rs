//! What users see of `ls`, and of small things that are printed.

use pool_tests::{Daemon, run};

fn ids(table: &str) -> Vec<u64> {
    table.lines().skip(1).map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_limit_takes_the_newest_jobs() {
    let daemon = Daemon::start(2);
    assert_eq!(ids(&daemon.ok(&["ls", "--limit", "3"])), [0_u64; 0]);
    let jobs = daemon.path_text("jobs");
    let line = |id: u32| format!("{{\"argv\":[\"{}\"]}}\n", if id % 50 == 1 { "false" } else { "true" });
    std::fs::write(&jobs, (1..=700).map(line).collect::<String>()).unwrap();
    daemon.ok(&["submit", "--from", &jobs]);
    daemon.run(&["wait", "1-700"]);

    assert_eq!(ids(&daemon.ok(&["ls", "--limit", "3"])), [698, 699, 700]);
    assert_eq!(ids(&daemon.ok(&["ls", "--limit", "600"])), (101..=700).collect::<Vec<u64>>());
    assert_eq!(ids(&daemon.ok(&["ls", "--state", "failed", "--limit", "2"])), [601, 651]);
    assert_eq!(ids(&daemon.ok(&["ls", "--state", "failed", "--limit", "99"])).len(), 14);
    assert_eq!(ids(&daemon.ok(&["ls", "--state", "lost", "--limit", "2"])), [0_u64; 0]);
    assert_eq!(ids(&daemon.ok(&["ls"])).len(), 700);
}

#[test]
fn a_listing_is_of_the_jobs_that_are_named() {
    let daemon = Daemon::start(2);
    daemon.ok(&["submit", "-l", "night", "--", "true"]);
    daemon.ok(&["submit", "--", "true"]);
    daemon.ok(&["submit", "--array", "0-3", "--", "sh", "-c", "exit $(( POOL_ARRAY_INDEX == 2 ))"]);
    let last = daemon.submit(&["-l", "night", "--", "true"]);
    daemon.run(&["wait", "1-3", &last.to_string()]);

    let listed = |arguments: &[&str]| -> Vec<String> {
        let told = daemon.ok(&[&["ls", "--format", "{id}"], arguments].concat());
        told.lines().map(ToOwned::to_owned).collect()
    };
    assert_eq!(listed(&["last", "1-2"]), ["1", "2", "8"]);
    assert_eq!(listed(&["3"]), ["3", "4", "5", "6", "7"], "an array comes with its elements");
    assert_eq!(listed(&["3", "--state", "failed"]), ["3", "6"]);
    assert_eq!(listed(&["3.1-2"]), ["5", "6"]);
    assert_eq!(listed(&["@night", "2", "-n", "2"]), ["2", "8"]);
    assert_eq!(listed(&["@night", "2", "--sort", "-id"]), ["8", "2", "1"]);
    assert_eq!(daemon.ok(&["ls", "-q", "@night"]), "1\n8\n");
    assert_eq!(daemon.ok(&["ls", "3", "-s", "failed", "--columns", "state"]), "STATE\nfailed\nfailed\n");
    assert_eq!(listed(&["1", "--label", "other"]), [""; 0]);

    let said = daemon.run(&["ls", "-q", "77", "1"]);
    assert_eq!((said.code, said.stdout.as_str()), (125, "1\n"));
    assert!(said.stderr.contains("job 77"), "{said:?}");
}

#[test]
fn columns_do_not_jump_between_pages() {
    let daemon = Daemon::start(2);
    let jobs = daemon.path_text("jobs");
    let line = |id: u32| {
        let program = if id == 600 { "no-such-program-at-all" } else { "true" };
        format!("{{\"argv\":[\"{program}\"],\"name\":\"NAME\"}}\n")
    };
    std::fs::write(&jobs, (1..=700).map(line).collect::<String>()).unwrap();
    daemon.ok(&["submit", "--from", &jobs]);
    daemon.run(&["wait", "1-700"]);

    let table = daemon.ok(&["ls"]);
    let header = table.lines().next().unwrap().find("COMMAND").unwrap();
    let shifted: Vec<&str> = table.lines().skip(1).filter(|line| line.find("NAME") != Some(header)).collect();
    assert!(shifted.iter().all(|line| line.starts_with("600 ")), "{shifted:?}");
}

#[test]
fn a_callback_that_was_given_up_is_seen_in_a_listing() {
    let daemon = pool_tests::Setup::new().config("[callbacks]\nattempts = 1\n").start();
    let id = daemon.submit(&["--on-done", "exit 1", "--", "true"]);
    daemon.wait_record(id, "its callback has failed", |record| {
        record.callbacks.iter().all(|callback| callback.state == "failed")
    });
    assert!(daemon.ok(&["ls"]).contains("success, callback failed"));
}

#[test]
fn a_wait_whose_time_is_up_prints_a_document() {
    let daemon = Daemon::start(1);
    let ended = daemon.submit_sh("exit 0").to_string();
    daemon.ok(&["wait", &ended]);
    let id = daemon.submit_sh("exec sleep 600").to_string();
    let said = daemon.run(&["--json", "wait", "--timeout", "0", &id]);
    assert_eq!(said.code, 124, "{said:?}");
    let document: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(document, serde_json::json!({ "schema": 1, "timed_out": true, "ids": [2] }));
    daemon.ok(&["cancel", &id]);
}

#[test]
fn units_and_empty_variables_are_understood() {
    let daemon = Daemon::start(1);
    daemon.ok(&["pool", "add", "--max-rss", "100M", "q", "--", "cat"]);
    // This command line is wrong, and nothing else is wrong with it.
    let said = run(daemon.setup().program("poolctl").args(["run", "--async", "true"]).env("POOL_SOCKET", ""));
    assert!(said.code == 2 && said.stderr.contains("run waits"), "{said:?}");
    let document: serde_json::Value = serde_json::from_str(&daemon.ok(&["--json", "ping"])).unwrap();
    assert_eq!(document["schema"], 1);
}
