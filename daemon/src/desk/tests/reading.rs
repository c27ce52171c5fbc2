//! What clients read: records, listings, output, ids that no job has, the daemon's condition; and backups.

use std::collections::BTreeMap;

use pool_proto::nouns::Tier;

use super::*;

fn listed(bench: &mut Bench, request: RequestId, ids: &[u64], next: Option<u64>) -> Vec<String> {
    let records = ids.iter().map(|&id| record(id, "succeeded")).collect();
    bench.handle(Event::Answer(Answer::Listed {
        request,
        records,
        entries: Vec::new(),
        next: next.map(JobId),
    }))
}

#[test]
fn a_record_is_read() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (gets, told) = bench.ask(connection, request("Get", json!({"id": 7})));
    assert_eq!(told, ["1 asks 7"]);
    assert_eq!(bench.got(gets, vec![record(7, "failed")], &[]), [r#"1 {"record":"7 failed"}"#]);

    let (gets, _) = bench.ask(connection, request("Get", json!({"id": 8})));
    assert_eq!(bench.got(gets, Vec::new(), &[8]), [r#"2 refused NoSuchJob {"id":8}"#]);
    let (gets, _) = bench.ask(connection, request("Get", json!({"id": 8})));
    assert_eq!(bench.refused(gets), [r#"3 refused StoreFailed {"reason":"disk full"}"#]);
    let (gets, _) = bench.ask(connection, request("Get", json!({"id": 8})));
    assert_eq!(bench.leave(connection, &[gets]), [""; 0]);
    assert_eq!(bench.got(gets, vec![record(8, "failed")], &[]), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn a_listing_goes_on_when_the_client_has_read_the_page_before() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (lists, told) = bench.ask_more(connection, request("List", json!({"limit": 502})));
    assert_eq!(told, ["1 asks 500 after 0"]);
    let page: Vec<u64> = (1..=500).collect();
    let told = listed(&mut bench, lists, &page, Some(500));
    assert_eq!(told.len(), 2);
    assert!(told[0].ends_with(r#""next":500} ..."#));
    assert_eq!(told[1], "1 awaits drained");

    assert_eq!(bench.handle(Event::Drained { request: lists }), ["1 asks 2 after 500"]);
    assert_eq!(
        listed(&mut bench, lists, &[501, 502], Some(502)),
        [r#"1 {"jobs":["501 succeeded","502 succeeded"],"next":502}"#],
        "so many were wanted"
    );
    assert_eq!(bench.handle(Event::Drained { request: lists }), [""; 0]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn a_listing_ends_with_the_last_job_or_with_its_one_reply() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (lists, told) = bench.ask_more(connection, request("List", json!({})));
    assert_eq!(told, ["1 asks 500 after 0"]);
    assert_eq!(listed(&mut bench, lists, &[1], None), [r#"1 {"jobs":["1 succeeded"]}"#]);

    let (lists, told) = bench.ask(connection, request("List", json!({"after": 1})));
    assert_eq!(told, ["2 asks 1000 after 1"]);
    assert_eq!(listed(&mut bench, lists, &[2], Some(2)), [r#"2 {"jobs":["2 succeeded"],"next":2}"#]);

    let (_, told) = bench.ask(connection, request("List", json!({"limit": 0})));
    assert_eq!(
        told,
        [
            r#"3 refused InvalidParameter {"parameter":"limit: must be 1 or more; without it a page has as many as poold chooses"}"#
        ]
    );
    let (lists, _) = bench.ask_more(connection, request("List", json!({})));
    listed(&mut bench, lists, &[1], Some(1));
    bench.leave(connection, &[lists]);
    assert_eq!(bench.handle(Event::Drained { request: lists }), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn output_is_opened_for_the_attempt_of_the_record() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (opens, told) = bench.ask(connection, request("Output", json!({"id": 7})));
    assert_eq!(told, ["1 asks 7"]);
    assert_eq!(bench.got(opens, vec![record(7, "failed")], &[]), ["1 output 7/1"]);

    let (opens, _) = bench.ask(connection, request("Output", json!({"id": 8})));
    let call = Record { argv: None, method: Some("f".to_owned()), ..record(8, "failed") };
    assert_eq!(bench.got(opens, vec![call], &[]), ["2 log 8/1"]);

    let (opens, _) = bench.ask(connection, request("Output", json!({"id": 9})));
    assert_eq!(
        bench.got(opens, vec![record(9, "queued")], &[]),
        [r#"3 refused NoOutput {"id":9,"reason":"it is queued and has not started"}"#]
    );
    let (opens, _) = bench.ask(connection, request("Output", json!({"id": 9})));
    assert_eq!(bench.got(opens, Vec::new(), &[9]), [r#"4 refused NoSuchJob {"id":9}"#]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn output_of_an_earlier_attempt_is_opened_as_long_as_it_is_kept() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let many = || Record { attempt: 6, ..record(7, "failed") };
    let refused = |told: &str| [format!("1 refused NoOutput {{\"id\":7,\"reason\":\"{told}\"}}")];
    for (attempt, wanted) in [
        (6, ["1 output 7/6".to_owned()]),
        (3, ["1 output 7/3".to_owned()]),
        (
            2,
            refused(
                "the output of attempt 2 is gone: poold keeps that of the last 4 attempts, and attempt 6 is the \
                 latest",
            ),
        ),
        (7, refused("it has had 6 attempts, and no attempt 7")),
        (0, refused("it has had 6 attempts, and no attempt 0")),
    ] {
        let (opens, _) = bench.ask(connection, request("Output", json!({"id": 7, "attempt": attempt})));
        let told =
            bench.got(opens, vec![many()], &[]).join("").replacen(|c: char| c.is_ascii_digit(), "1", 1);
        assert_eq!(told, wanted.join(""), "{attempt}");
    }

    // What is asked for by its number stays that, also where another one has begun.
    let (opens, _) = bench.ask(connection, request("Output", json!({"id": 7, "attempt": 5})));
    bench.got(opens, vec![many()], &[]);
    let (id, reason) = (JobId(7), "gone".to_owned());
    let missing = Event::OutputMissing { request: opens, id, attempt: 5, named: true, reason };
    assert_eq!(bench.handle(missing), [r#"6 refused NoOutput {"id":7,"reason":"gone"}"#]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn output_that_cannot_be_opened_is_refused() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (opens, _) = bench.ask(connection, request("Output", json!({"id": 7})));
    bench.got(opens, vec![record(7, "failed")], &[]);
    let (id, reason) = (JobId(7), "gone".to_owned());
    let missing = Event::OutputMissing { request: opens, id, attempt: 1, named: false, reason };
    assert_eq!(bench.handle(missing), [r#"1 refused NoOutput {"id":7,"reason":"gone"}"#]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn output_of_an_attempt_that_has_been_followed_by_another_is_looked_for_again() {
    let mut bench = Bench::new();
    bench.run(7);
    let slot = SlotId { lane: LaneId::Pool(bench.default_pool()), index: 0 };
    let claim = crate::job::Claim { unit: crate::job::Unit::Job(JobId(7)), attempt: 1 };
    let process = crate::job::Process { pid: ProcessId::new(200), start_ticks: None };
    bench.core.handle(
        bench.now,
        core::Event::Started { slot, claim, process, started_us: 1, memory_limiter: None },
    );

    let connection = bench.connect();
    let (opens, _) = bench.ask(connection, request("Output", json!({"id": 7})));
    bench.got(opens, vec![record(7, "running")], &[]);
    let (id, reason) = (JobId(7), "gone".to_owned());
    let missing = Event::OutputMissing { request: opens, id, attempt: 0, named: false, reason };
    assert_eq!(bench.handle(missing), ["1 asks 7"], "attempt 1 runs");
    assert_eq!(bench.got(opens, vec![record(7, "running")], &[]), ["1 output 7/1"]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn ids_that_no_job_has_are_told_when_all_are_known() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let ids = json!({"ids": [9, 7, 8, 9, u64::MAX]});
    let (seeks, told) = bench.ask(connection, request("Absent", ids));
    assert_eq!(told, ["1 asks 9 7 8"]);
    assert_eq!(bench.got(seeks, vec![record(8, "running")], &[]), [""; 0], "another engine has the others");
    assert_eq!(bench.got(seeks, Vec::new(), &[7, 9]), [r#"1 {"ids":[9,7,18446744073709551615]}"#]);

    let (seeks, told) = bench.ask(connection, request("Absent", json!({"ids": []})));
    assert_eq!(told, ["2 asks nothing"]);
    assert_eq!(bench.got(seeks, Vec::new(), &[]), [r#"2 {"ids":[]}"#]);
    let many: Vec<u64> = (1..=501).collect();
    let (_, told) = bench.ask(connection, request("Absent", json!({"ids": many})));
    assert_eq!(told, [r#"3 refused InvalidParameter {"parameter":"ids: at most 500 at once"}"#]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn a_ping_and_the_pools_are_replied_to_at_once() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (_, told) = bench.ask(connection, Request::Ping);
    assert_eq!(
        told,
        [format!(r#"1 {{"pid":10,"state_dir":"/state","version":"{}"}}"#, env!("CARGO_PKG_VERSION"))]
    );

    let tier = (Tier::PidNamespace, Some("as configured".to_owned()));
    bench.handle(Event::Contained(BTreeMap::from([("square".to_owned(), tier)])));
    let (_, told) = bench.ask(connection, Request::Pools);
    assert!(
        told[0].contains(r#""containment":"pid-namespace","containment_note":"as configured""#),
        "{told:?}"
    );
    assert!(told[0].contains(r#""containment":"subreaper","name":"default""#), "{told:?}");
}

#[test]
fn the_condition_tells_what_is_wrong() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    bench.handle(Event::Failing(Some("disk full".to_owned())));
    bench.handle(Event::Reread(Err("no such member".to_owned())));
    let (_, told) = bench.ask(connection, Request::Status);
    assert_eq!(told, ["measure 0"]);
    let told = bench.measured(30, 12);
    for part in [
        r#""accepting":true"#,
        r#""clients":1"#,
        r#""config_error":"no such member""#,
        r#""output_bytes":42"#,
        r#""pid":10"#,
        r#""store_failure":"disk full""#,
        r#""supervisor_pid":11"#,
    ] {
        assert!(told[0].contains(part), "{part} in {told:?}");
    }

    bench.handle(Event::Failing(None));
    let (_, told) = bench.ask(connection, Request::Status);
    assert!(!told[0].contains("store_failure"), "{told:?}");
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

// ---- backups ----

#[test]
fn a_backup_lasts_until_its_end_is_asked_for() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (holds, told) = bench.ask(connection, Request::Backup);
    assert_eq!(told, ["1 holds for 1"]);
    assert_eq!(
        bench.handle(Event::Answer(Answer::Held { request: holds, bytes: Ok(4096) })),
        [r#"1 {"bytes":4096,"path":"/state/poold.db"}"#]
    );
    let (ends, told) = bench.ask(connection, Request::EndBackup);
    assert_eq!(told, ["let go for 1 and 2"]);
    assert_eq!(bench.handle(Event::Answer(Answer::LetGo { request: Some(ends), whole: Ok(()) })), ["2 {}"]);
    assert_eq!(bench.leave(connection, &[]), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn a_backup_ends_with_its_connection_even_before_it_has_begun() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (holds, _) = bench.ask(connection, Request::Backup);
    assert_eq!(bench.leave(connection, &[holds]), ["let go for 1"]);
    assert_eq!(bench.handle(Event::Answer(Answer::Held { request: holds, bytes: Ok(4096) })), [""; 0]);
    assert_eq!(bench.handle(Event::Answer(Answer::LetGo { request: None, whole: Ok(()) })), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn a_backup_beside_another_and_one_that_was_spoiled_are_refused() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (holds, _) = bench.ask(connection, Request::Backup);
    let refusal = Refusal::BackupUnderWay {};
    assert_eq!(
        bench.handle(Event::Answer(Answer::Held { request: holds, bytes: Err(refusal) })),
        ["1 refused BackupUnderWay {}"]
    );
    let (ends, _) = bench.ask(connection, Request::EndBackup);
    let refusal = Refusal::BackupSpoiled { reason: "it grew".to_owned() };
    assert_eq!(
        bench.handle(Event::Answer(Answer::LetGo { request: Some(ends), whole: Err(refusal) })),
        [r#"2 refused BackupSpoiled {"reason":"it grew"}"#]
    );
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}
