//! What jobs wait for, told to who asks.

use pool_proto::nouns::Dependency;

use super::*;
use crate::engine::{LINE_HEAD, Pace};
use crate::job::LineKey;

fn why(ids: &[u64]) -> Request {
    request("Why", json!({"ids": ids}))
}

/// The engine has read the beginning of the default pool's line.
fn line_read(bench: &mut Bench, request: RequestId, ids: impl IntoIterator<Item = u64>) -> Vec<String> {
    let head = ids.into_iter().map(|id| position(id, 0)).collect();
    let told = bench.handle(Event::Answer(Answer::Line {
        request,
        line: LineKey::plain(&Arc::from("default")),
        head,
    }));
    match told.last() {
        Some(asks) if asks.starts_with(&format!("{request} asks the pace of ")) => {
            let (pool, pace) = (asks.rsplit(' ').next().unwrap_or_default().into(), Pace::default());
            bench.handle(Event::Answer(Answer::Pace { request, pool, pace }))
        }
        _ => told,
    }
}

/// The sentences of one reply.
fn sentences(told: &[String]) -> Vec<String> {
    let (_, reply) = told.last().expect("it is told something").split_once(' ').unwrap();
    let reply: Value = serde_json::from_str(reply).unwrap_or_else(|error| panic!("{error}: {told:?}"));
    let reason = |job: &Value| job["reason"].as_str().unwrap().to_owned();
    reply["jobs"].as_array().unwrap().iter().map(reason).collect()
}

/// What is said of a job of which no other record is read.
fn said_of(record: Record) -> String {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (asks, _) = bench.ask(connection, why(&[record.id]));
    let told = bench.got(asks, vec![record], &[]);
    let said = sentences(&told).remove(0);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
    said
}

#[test]
fn a_job_in_line_has_a_place_and_busy_slots_before_it() {
    let mut bench = Bench::new();
    bench.run(5);
    let connection = bench.connect();
    let (asks, told) = bench.ask(connection, why(&[9, 7, 9]));
    assert_eq!(told, ["1 asks 9 7"], "each once");
    let told = bench.got(asks, vec![record(7, "queued"), record(9, "queued")], &[]);
    assert_eq!(told, ["1 asks the line of default"], "once for both");
    let told = line_read(&mut bench, asks, [6, 7, 8, 9]);
    let why = "pool default: 1 of 2 slots is busy (job 5); slot 1 is down";
    let wanted = [format!("job 9 is 4th in line; {why}"), format!("job 7 is 2nd in line; {why}")];
    assert_eq!(sentences(&told), wanted, "in the order of the ids");
    let members = r#"{"busy":[5],"id":7,"kind":"line","pool":"default","position":2,"#;
    assert!(told[0].contains(members), "{told:?}");
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn beyond_the_beginning_of_a_line_no_place_is_told() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (asks, _) = bench.ask(connection, why(&[5000]));
    bench.got(asks, vec![record(5000, "queued")], &[]);
    let told = line_read(&mut bench, asks, 1..=LINE_HEAD as u64);
    let said = &sentences(&told)[0];
    assert!(said.starts_with("job 5000 is in line, more than 1,000 jobs are before it; pool"), "{said}");
    assert!(!told[0].contains("position"), "{told:?}");
}

#[test]
fn a_job_that_has_left_its_line_meanwhile_is_looked_at_once_more() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (asks, _) = bench.ask(connection, why(&[7]));
    bench.got(asks, vec![record(7, "queued")], &[]);
    assert_eq!(line_read(&mut bench, asks, [8]), ["1 asks 7"]);
    let told = bench.got(asks, vec![record(7, "running")], &[]);
    assert_eq!(sentences(&told), ["job 7 has run for 0 s (attempt 1)"]);

    let (asks, _) = bench.ask(connection, why(&[7]));
    bench.got(asks, vec![record(7, "queued")], &[]);
    line_read(&mut bench, asks, []);
    assert_eq!(bench.got(asks, vec![record(7, "queued")], &[]), ["2 asks the line of default"]);
    let told = line_read(&mut bench, asks, []);
    assert_eq!(
        sentences(&told),
        ["job 7 is just entering or leaving its line"],
        "it is not looked at for ever"
    );
}

#[test]
fn what_a_job_waits_for_is_told_with_what_that_does() {
    let mut bench = Bench::new();
    bench.now.wall_us = 182_000_000;
    let connection = bench.connect();
    let (asks, _) = bench.ask(connection, why(&[7, 8]));
    let after = [4, 5, 6, 9].map(|id| Dependency { id, on: None }).to_vec();
    let blocked = Record { after: Some(after), ..record(7, "blocked") };
    let unique = Some("nightly".into());
    let following = Record { waits_for: Some(4), unique, ..record(8, "queued") };
    assert_eq!(bench.got(asks, vec![blocked, following], &[]), ["1 asks 4 5 6 4"]);
    let told = bench.got(asks, vec![record(4, "running"), record(5, "held"), record(4, "running")], &[6]);
    let wanted = [
        "job 7 waits for the end of jobs 4 (running for 3 min), 5 (held), 6 and others",
        r#"job 8 waits until job 4 (running for 3 min), which has the unique name "nightly" too, has ended"#,
    ];
    assert_eq!(sentences(&told), wanted);
    assert!(told[0].contains(r#""waits_for":[4,5,6,9]"#), "{told:?}");
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn each_state_has_its_sentence() {
    let held = Record { reason: Some("its worker died".to_owned()), ..record(7, "held") };
    assert_eq!(said_of(held), "job 7 is held: its worker died; `poolctl release 7` lets it go");
    let due_at = Some("1970-01-01T00:00:10.000000Z".to_owned());
    let scheduled = Record { due_at: due_at.clone(), ..record(7, "scheduled") };
    assert_eq!(said_of(scheduled), "job 7 does not start before 1970-01-01T00:00:10Z (in 9 s)");
    let retrying = Record { due_at, reason: Some("exit code 1".to_owned()), ..record(7, "retrying") };
    let said = said_of(retrying);
    assert_eq!(said, "job 7 waits for its next attempt, due at 1970-01-01T00:00:10Z (in 9 s): exit code 1");
    assert_eq!(said_of(record(7, "stopping")), "job 7 is being ended; it has run for 0 s (attempt 1)");

    let ended_at = Some("1970-01-01T00:00:01Z".to_owned());
    let failed = Record { exit_code: Some(3), ended_at: ended_at.clone(), ..record(7, "failed") };
    assert_eq!(said_of(failed), "job 7 ended 0 s ago: failed, exit code 3");
    let reason = Some("its deadline was over".to_owned());
    let timed_out = Record { signal: Some(15), reason, ended_at, ..record(7, "timed_out") };
    assert_eq!(said_of(timed_out), "job 7 ended 0 s ago: timed out, signal 15: its deadline was over");
}

#[test]
fn a_pool_that_is_gone_is_why_its_jobs_wait() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (asks, _) = bench.ask(connection, why(&[7]));
    let queued = Record { pool: "gone".to_owned(), ..record(7, "queued") };
    assert_eq!(bench.got(asks, vec![queued], &[]), ["1 asks the line of gone"]);
    let (line, head) = (LineKey::plain(&Arc::from("gone")), vec![position(7, 0)]);
    let told = bench.handle(Event::Answer(Answer::Line { request: asks, line, head }));
    assert_eq!(sentences(&told), ["job 7 is 1st in line; there is no pool \"gone\" any more"]);
    assert!(told[0].contains(r#""kind":"pool""#), "{told:?}");
}

#[test]
fn a_job_whose_start_is_not_written_yet_has_just_been_started() {
    let mut bench = Bench::new();
    bench.run(7);
    let connection = bench.connect();
    let (asks, _) = bench.ask(connection, why(&[7]));
    let told = bench.got(asks, vec![record(7, "queued")], &[]);
    assert_eq!(sentences(&told), ["job 7 has just been started"]);
}

#[test]
fn who_asks_for_too_much_or_what_does_not_exist_is_refused() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (_, told) = bench.ask(connection, why(&[]));
    assert_eq!(told, [r#"1 {"jobs":[]}"#]);
    let (_, told) = bench.ask(connection, why(&(1..=501).collect::<Vec<u64>>()));
    assert_eq!(told, [r#"2 refused InvalidParameter {"parameter":"ids: at most 500 at once"}"#]);

    let (asks, _) = bench.ask(connection, why(&[7, 8]));
    assert_eq!(bench.got(asks, vec![record(7, "held")], &[8]), [r#"3 refused NoSuchJob {"id":8}"#]);
    let (asks, _) = bench.ask(connection, why(&[7, 8]));
    assert_eq!(bench.got_part(asks, vec![record(7, "held")], &[]), [""; 0], "the other one is on its way");
    assert_eq!(bench.refused(asks), [r#"4 refused StoreFailed {"reason":"disk full"}"#]);
    let (asks, _) = bench.ask(connection, why(&[7, 8]));
    assert_eq!(bench.got_part(asks, vec![record(7, "held")], &[8]), ["5 asks 8"], "there was no room for it");
    assert_eq!(sentences(&bench.got(asks, vec![record(8, "held")], &[])).len(), 2);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}
