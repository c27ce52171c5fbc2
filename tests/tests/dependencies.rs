//! What users see of the graph of jobs: what a job waits for, and what waits for it.

use pool_tests::{Daemon, Setup};
use serde_json::Value;

fn submit(daemon: &Daemon, name: &str, options: &[&str]) -> String {
    daemon.submit(&[&["--name", name], options, &["--", "true"]].concat()).to_string()
}

/// Held at the beginning, so that all others wait.
fn graph(daemon: &Daemon) -> [String; 5] {
    let first = submit(daemon, "first", &["--hold"]);
    let done = submit(daemon, "done", &[]);
    daemon.ok(&["wait", &done]);
    let middle = submit(daemon, "middle", &["--after", &first, "--after", &format!("afterany:{done}")]);
    let last = submit(daemon, "last", &["--after", &format!("{middle},afternotok:{first}")]);
    let other = submit(daemon, "other", &["--after", &middle]);
    [first, done, middle, last, other]
}

#[test]
fn the_graph_of_a_job_is_drawn_in_both_directions_over_a_restart() {
    let mut daemon = Setup::new().workers(1).start();
    let [first, done, middle, last, other] = graph(&daemon);
    let of_middle = format!(
        "{middle} blocked middle\n\
         waits for\n\
         ├─ {first} held first\n\
         └─ {done} succeeded done (however it ends)\n\
         is waited for by\n\
         ├─ {last} blocked last\n\
         └─ {other} blocked other\n"
    );
    assert_eq!(daemon.ok(&["deps", &middle]), of_middle);
    daemon.kill_all();
    daemon.restart();
    assert_eq!(daemon.ok(&["deps", &middle]), of_middle);

    let of_last = format!(
        "{last} blocked last\n\
         waits for\n\
         ├─ {first} held first (if it does not succeed)\n\
         └─ {middle} blocked middle\n\
         \u{20}  ├─ {first} held first, see above\n\
         \u{20}  └─ {done} succeeded done (however it ends)\n"
    );
    assert_eq!(daemon.ok(&["deps", &last]), of_last);
    assert_eq!(
        daemon.ok(&["deps", &done]),
        format!("{done} succeeded done\n"),
        "nobody waits for it any more"
    );
}

#[test]
fn programs_read_the_graph_as_json() {
    let daemon = Daemon::start(1);
    let [first, _, middle, ..] = graph(&daemon);
    let told: Value = serde_json::from_str(&daemon.ok(&["--json", "deps", &first])).unwrap();
    let by = told["waited_for_by"].as_array().unwrap();
    let ids: Vec<u64> = by.iter().map(|node| node["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [3, 4], "{told}");
    assert_eq!((by[0]["state"].as_str(), by[0]["on"].as_str()), (Some("blocked"), Some("success")));
    assert_eq!(by[0]["jobs"][0]["id"], 4);
    assert_eq!(
        (&told["schema"], &told["waits_for"], &told["more"]),
        (&1.into(), &Value::Array(vec![]), &false.into())
    );

    daemon.ok(&["release", &first]);
    daemon.ok(&["wait", &middle]);
    let record = daemon.record(3);
    assert_eq!(record.after, None, "it waits for nothing any more");
    assert_eq!(record.depends_on.map(|others| others.len()), Some(2));
    daemon.ok(&["rm", &first]);
    assert!(daemon.ok(&["deps", &middle]).contains(&format!("├─ {first} pruned")));
    let said = daemon.run(&["deps", "99"]);
    assert!(said.code == 125 && said.stderr.contains("there is no job 99"), "{said:?}");
}

#[test]
fn a_job_that_is_run_again_is_not_waited_for_by_those_that_it_has_counted_for() {
    let daemon = Daemon::start(2);
    let flag = daemon.path_text("flag");
    let first =
        daemon.submit(&["--name", "first", "--", "sh", "-c", &format!("[ ! -e {flag} ] || exec sleep 600")]);
    daemon.ok(&["wait", &first.to_string()]);
    let hindered = submit(&daemon, "hindered", &["--hold"]);
    let after = submit(&daemon, "after", &["--after", &first.to_string(), "--after", &hindered]);
    let held = submit(&daemon, "held", &["--hold", "--after", &first.to_string(), "--after", &hindered]);
    let ran = submit(&daemon, "ran", &["--after", &first.to_string()]);
    daemon.ok(&["wait", &ran]);
    std::fs::write(&flag, "").unwrap();
    daemon.ok(&["retry", &first.to_string()]);
    daemon.wait_record(first, "it runs again", |record| record.state == pool_proto::State::Running);

    let counted = format!("{first} running first, run again; its first end has counted\n");
    for id in [&after, &held] {
        let told = daemon.ok(&["deps", id]);
        assert!(
            told.contains(&counted) && told.contains(&format!("└─ {hindered} held hindered\n")),
            "{told}"
        );
    }
    assert!(daemon.ok(&["deps", &ran]).contains(&counted));
    let told: Value = serde_json::from_str(&daemon.ok(&["--json", "deps", &after])).unwrap();
    let counted = |index: usize| told["waits_for"][index]["has_counted"].as_bool();
    assert_eq!((counted(0), counted(1)), (Some(true), Some(false)), "{told}");
    // What comes after it now waits for it.
    let late = submit(&daemon, "late", &["--after", &first.to_string()]);
    assert!(!daemon.ok(&["deps", &late]).contains("counted"));
}
