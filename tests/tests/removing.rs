//! What users see of jobs that have ended and are removed by hand.

use pool_proto::methods::Wait;
use pool_proto::nouns::ProgressEvent;
use pool_tests::{Daemon, Setup, wait_until};

fn exists(daemon: &Daemon, id: u64) -> bool {
    daemon.run(&["show", &id.to_string()]).code == 0
}

fn ended(daemon: &Daemon, options: &[&str], script: &str) -> u64 {
    let id = daemon.submit(&[options, &["--", "sh", "-c", script]].concat());
    daemon.wait_record(id, "it has ended", |record| record.state.is_terminal());
    id
}

#[test]
fn records_and_output_go_and_what_has_not_ended_stays() {
    let mut daemon = Setup::new().workers(1).start();
    let done = ended(&daemon, &[], "echo output");
    let path = daemon.record(done).stdout.unwrap().path.to_string();
    wait_until("its output has a name", || std::fs::exists(&path).unwrap());
    let held = daemon.submit(&["--hold", "--", "true"]);

    let said = daemon.run(&["rm", &done.to_string(), &held.to_string(), "99"]);
    assert_eq!((said.code, said.stdout.as_str()), (125, ""), "{said:?}");
    let wanted = format!("job {held} is held: only a job that has ended can be removed");
    assert!(said.stderr.contains(&wanted) && said.stderr.contains("there is no job 99"), "{said:?}");
    assert!(!exists(&daemon, done));
    wait_until("its output is gone", || !std::fs::exists(&path).unwrap());
    let said = daemon.run(&["show", &done.to_string()]);
    assert!(said.stderr.contains("has been pruned"), "{said:?}");

    daemon.kill_all();
    daemon.restart();
    assert!(!exists(&daemon, done) && exists(&daemon, held));
    assert!(daemon.submit(&["--", "true"]) > held, "ids only grow");
    assert_eq!(daemon.run(&["rm", &format!("{done}-{held}")]).code, 125, "none of them can be removed");
}

#[test]
fn jobs_are_removed_by_what_they_are() {
    let daemon = Setup::new().workers(1).config("[pool.other]\nworkers = 1\n").start();
    let fine = ended(&daemon, &["--name", "nightly"], "exit 0");
    let failed = ended(&daemon, &["--name", "nightly"], "exit 1");
    let other = ended(&daemon, &["--pool", "other"], "exit 0");
    let last = ended(&daemon, &["--label", "gpu"], "exit 0");
    let left = |jobs: [u64; 4]| jobs.map(|id| exists(&daemon, id));
    let jobs = [fine, failed, other, last];

    let said = daemon.run(&["prune"]);
    assert!(said.code == 2 && said.stderr.contains("--older"), "{said:?}");
    let said = daemon.run(&["prune", "--state", "queued"]);
    assert!(said.code == 2 && said.stderr.contains("jobs do not end in a state"), "{said:?}");
    assert_eq!(daemon.ok(&["prune", "--older", "1h"]), "0 jobs removed\n");
    assert_eq!(daemon.ok(&["prune", "--older", "0s", "--dry-run"]), format!("{fine}-{last}\n"));
    assert_eq!(daemon.ok(&["prune", "--state", "succeeded", "--name", "nightly"]), "1 job removed\n");
    assert_eq!(left(jobs), [false, true, true, true]);
    assert_eq!(daemon.ok(&["prune", "--pool", "other"]), "1 job removed\n");
    assert_eq!(daemon.ok(&["prune", "--state", "failed,lost"]), "1 job removed\n");
    assert_eq!(left(jobs), [false, false, false, true]);
    assert_eq!(daemon.ok(&["prune", "--label", "cpu"]), "0 jobs removed\n");
    assert_eq!(daemon.ok(&["prune", "--older", "0s", "--label", "gpu"]), "1 job removed\n");
}

#[test]
fn what_a_client_waits_for_is_not_removed() {
    let daemon = Daemon::start(1);
    let gate = daemon.path_text("gate");
    let id = daemon.submit_sh(&format!("until [ -e {gate} ]; do sleep 0.02; done"));
    let mut client = daemon.client();
    client.send(&Wait { ids: vec![id], obstacles: Some(true), ..Wait::default() }, true).unwrap();
    let (heard, _) = client.receive::<Wait>().unwrap();
    assert_eq!(heard.event, ProgressEvent::Waiting);
    let said = daemon.run(&["rm", &id.to_string()]);
    let wanted = format!("a client waits for job {id}, so it is not removed");
    assert!(said.code == 125 && said.stderr.contains(&wanted), "{said:?}");
    std::fs::File::create(&gate).unwrap();
    let (heard, _) = client.receive::<Wait>().unwrap();
    assert_eq!(heard.event, ProgressEvent::Ended);
    daemon.ok(&["rm", &id.to_string()]);
    assert!(!exists(&daemon, id));
}
