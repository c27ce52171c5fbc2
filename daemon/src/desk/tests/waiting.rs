//! Waiting, canceling, signals, releases, and the end of the daemon.

use super::*;
use crate::engine::Detail;
use crate::job::Outcome;

fn wait(parameters: Value) -> Request {
    request("Wait", parameters)
}

fn succeeded() -> Place {
    let outcome: Outcome = Outcome {
        state: pool_proto::State::Succeeded,
        result: pool_proto::ResultKind::Success,
        exit_code: Some(0),
        signal: None,
        reason: None,
        usage: None,
        stdout_bytes: None,
        disk_bytes: 0,
        stderr_bytes: None,
        answer: None,
        ended_us: 5,
    };
    Place::Ended(Box::new(outcome))
}

/// How much the answer to an end is to tell, after the desk has seen it.
fn wanted(bench: &mut Bench, id: u64) -> Detail {
    let (_, effect) = bench.overhear(moved(id, succeeded()));
    match effect {
        core::Effect::Change(Change::Move(moved)) => moved.want,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wait_is_told_of_each_end_and_is_over_with_the_last() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (request, told) = bench.ask_more(connection, wait(json!({"ids": [8, 7, 8]})));
    assert_eq!(told, ["1 asks 7 8"]);
    assert_eq!(
        bench.got(request, vec![record(7, "succeeded"), record(8, "running")], &[]),
        [r#"1 {"attempt":1,"event":"ended","id":7,"record":"7 succeeded"} ..."#]
    );
    assert_eq!(
        bench.ended(8, Some(record(8, "failed"))),
        [r#"1 {"attempt":1,"event":"ended","id":8,"record":"8 failed"}"#]
    );
    assert_eq!(bench.got(request, vec![record(8, "failed")], &[]), [""; 0], "it is over");
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn a_wait_for_any_is_over_with_the_first() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (request, _) = bench.ask(connection, wait(json!({"ids": [7, 8], "any": true})));
    assert_eq!(
        bench.got(request, vec![record(7, "succeeded"), record(8, "failed")], &[]),
        [r#"1 {"attempt":1,"event":"ended","id":7,"record":"7 succeeded"}"#]
    );
    assert_eq!(bench.ended(8, None), [""; 0]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn an_end_tells_as_much_as_those_want_who_wait_for_it() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    assert_eq!(wanted(&mut bench, 7), Detail::Nothing);

    let many = json!({"jobs": [{"argv": ["true"]}, {"argv": ["true"]}]});
    let (batch, _) = bench.ask_more(connection, request("SubmitMany", many));
    bench.accept(batch, 7, 2, &[]);
    assert_eq!(wanted(&mut bench, 7), Detail::Nothing, "the few words are known here");
    assert_eq!(bench.ended(7, None), [""; 0]);
    assert_eq!(
        bench.end_turn(),
        [r#"1 {"existing":[],"ids":[],"results":[{"exit_code":0,"id":7,"state":"succeeded"}]} ..."#]
    );

    let (waits, _) = bench.ask(connection, wait(json!({"ids": [8]})));
    assert_eq!(wanted(&mut bench, 8), Detail::Record);
    assert_eq!(bench.ended(8, Some(record(8, "succeeded"))).len(), 1);
    assert_eq!(bench.end_turn(), [r#"1 {"existing":[],"ids":[],"results":[{"id":8,"state":"succeeded"}]}"#]);
    assert_eq!(bench.got(waits, vec![record(8, "succeeded")], &[]), [""; 0]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn an_end_that_was_given_to_the_engine_before_somebody_waited_is_asked_for() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    assert_eq!(wanted(&mut bench, 7), Detail::Nothing);
    let (request, _) = bench.ask(connection, wait(json!({"ids": [7]})));
    // The engine could not write meanwhile, and has read the record before it could.
    assert_eq!(bench.got(request, vec![record(7, "running")], &[]), [""; 0]);
    assert_eq!(bench.ended(7, None), ["1 asks 7"]);
    assert_eq!(bench.got(request, vec![record(7, "succeeded")], &[]).len(), 1);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn the_few_words_of_an_end_go_with_those_who_wanted_them() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let many = json!({"jobs": [{"argv": ["true"]}]});
    let (batch, _) = bench.ask_more(connection, request("SubmitMany", many));
    bench.accept(batch, 7, 1, &[]);
    wanted(&mut bench, 7);
    bench.leave(connection, &[batch]);
    assert!(bench.is_empty());
    assert_eq!(bench.ended(7, None), [""; 0]);
}

#[test]
fn a_start_is_told_once_whichever_way_it_comes() {
    let started = || Event::Fact(Fact::Started { id: JobId(7), attempt: 1 });
    let parameters = json!({"ids": [7], "output": true});

    let mut bench = Bench::new();
    let connection = bench.connect();
    let (request, _) = bench.ask_more(connection, wait(parameters.clone()));
    assert_eq!(bench.handle(started()), ["1 started 7/1"]);
    assert_eq!(bench.got(request, vec![record(7, "running")], &[]), [""; 0]);

    let (request, _) = bench.ask_more(connection, wait(parameters));
    assert_eq!(bench.got(request, vec![record(7, "running")], &[]), ["2 started 7/1"]);
    assert_eq!(bench.handle(started()), [""; 0]);
    let again = Event::Fact(Fact::Started { id: JobId(7), attempt: 2 });
    assert_eq!(bench.handle(again), ["1 started 7/2", "2 started 7/2"]);
}

#[test]
fn a_queued_job_has_no_output_to_be_told_of() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (request, _) = bench.ask_more(connection, wait(json!({"ids": [7], "output": true})));
    let retried = Record { state: pool_proto::State::Retrying, ..record(7, "running") };
    assert_eq!(bench.got(request, vec![retried], &[]), [""; 0]);
}

#[test]
fn progress_is_told_to_those_who_watch_it() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    bench.ask_more(connection, wait(json!({"ids": [7]})));
    bench.ask_more(connection, wait(json!({"ids": [7], "progress": true})));
    bench.ask(connection, wait(json!({"ids": [7], "progress": true})));
    let progress = pool_proto::nouns::CallProgress { fraction: Some(0.5), text: None };
    assert_eq!(
        bench.handle(Event::Fact(Fact::Progressed { id: JobId(7), attempt: 1, progress })),
        [r#"2 {"event":"progress","id":7,"progress":{"fraction":0.5}} ..."#]
    );
}

#[test]
fn a_wait_for_nothing_or_for_something_unknown_is_refused() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (_, told) = bench.ask(connection, wait(json!({"ids": []})));
    assert_eq!(told, [r#"1 refused InvalidParameter {"parameter":"ids: at least one is needed"}"#]);
    let (request, _) = bench.ask(connection, wait(json!({"ids": [7, 9]})));
    assert_eq!(bench.got(request, vec![record(7, "running")], &[9]), [r#"2 refused NoSuchJob {"id":9}"#]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn whoever_takes_the_place_of_a_client_is_told_to_the_core_and_so_is_that_he_has_gone() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (request, told) = bench.ask_more(connection, wait(json!({"ids": [7, 8], "on_disconnect": "cancel"})));
    assert_eq!(told, ["attended 7 8", "1 asks 7 8"]);
    bench.ended(7, Some(record(7, "succeeded")));
    assert_eq!(bench.leave(connection, &[request]), ["client gone of 8"]);
    assert!(bench.is_empty());
}

#[test]
fn a_cancel_ends_each_job_and_is_replied_to_when_all_have_ended() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (request, told) = bench.ask(connection, request("Cancel", json!({"ids": [8, 7, 9]})));
    assert_eq!(told, ["1 asks 7 8 9"]);
    // From two engines.
    assert_eq!(bench.got(request, vec![record(8, "succeeded"), record(9, "running")], &[]), ["cancel 9"]);
    assert_eq!(bench.got(request, vec![record(7, "queued")], &[]), ["cancel 7"]);
    assert_eq!(bench.ended(9, Some(record(9, "canceled"))), [""; 0]);
    // It had ended before the core's word came.
    assert_eq!(bench.handle(Event::Fact(Fact::Lost { id: JobId(7) })), ["1 asks 7"]);
    assert_eq!(
        bench.got(request, vec![record(7, "succeeded")], &[]),
        [r#"1 {"jobs":["7 succeeded","8 succeeded","9 canceled"]}"#]
    );
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn a_client_that_goes_while_it_cancels_changes_nothing() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (request, _) = bench.ask(connection, request("Cancel", json!({"ids": [7]})));
    bench.got(request, vec![record(7, "running")], &[]);
    assert_eq!(bench.leave(connection, &[request]), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn a_signal_goes_to_a_running_job_and_to_no_other() {
    let mut bench = Bench::new();
    bench.run(7);
    let connection = bench.connect();
    let (_, told) = bench.ask(connection, request("Signal", json!({"id": 7, "signal": 15})));
    assert_eq!(told, ["command Signal { id: JobId(7), signal: 15 }", "1 {}"]);

    let (waits, told) = bench.ask(connection, request("Signal", json!({"id": 8, "signal": 15})));
    assert_eq!(told, ["2 asks 8"]);
    assert_eq!(
        bench.got(waits, vec![record(8, "failed")], &[]),
        [r#"2 refused NotRunning {"id":8,"state":"failed"}"#]
    );
    let (waits, _) = bench.ask(connection, request("Signal", json!({"id": 9, "signal": 15})));
    assert_eq!(bench.got(waits, Vec::new(), &[9]), [r#"3 refused NoSuchJob {"id":9}"#]);
    let (_, told) = bench.ask(connection, request("Signal", json!({"id": 7, "signal": 99})));
    assert_eq!(
        told,
        [r#"4 refused InvalidParameter {"parameter":"signal: 99 is no number of a signal, see signal(7)"}"#]
    );
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn held_jobs_are_released_all_or_none() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (releases, told) = bench.ask(connection, request("Release", json!({"ids": [8, 7, 8]})));
    assert_eq!(told, ["1 releases 8 7"], "each once");
    let jobs = vec![(JobId(8), Arc::from("default")), (JobId(7), Arc::from("default"))];
    assert_eq!(bench.handle(Event::Fact(Fact::Released { request: releases, jobs })), ["1 {}"]);

    let (releases, _) = bench.ask(connection, request("Release", json!({"ids": [9]})));
    let refusal = Refusal::NotHeld { id: 9 };
    assert_eq!(
        bench.handle(Event::Answer(Answer::Refused { request: releases, refusal })),
        [r#"2 refused NotHeld {"id":9}"#]
    );

    let (releases, _) = bench.ask(connection, request("Release", json!({"ids": [9]})));
    assert_eq!(bench.leave(connection, &[releases]), [""; 0]);
    let jobs = vec![(JobId(9), Arc::from("default"))];
    assert_eq!(bench.handle(Event::Fact(Fact::Released { request: releases, jobs })), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn whoever_waits_at_the_end_is_told_so() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    bench.ask(connection, wait(json!({"ids": [7]})));
    bench.ask(connection, request("Signal", json!({"id": 7, "signal": 15})));
    bench.ask_more(connection, request("Events", json!({})));
    let (batch, _) = bench.ask_more(connection, request("SubmitMany", json!({"jobs": [{"argv": ["true"]}]})));
    bench.accept(batch, 8, 1, &[]);
    bench.ended(8, Some(record(8, "succeeded")));
    let (pending, _) = bench.ask(connection, submit(job()));
    assert_eq!(
        bench.handle(Event::Fact(Fact::Exiting)),
        [
            r#"4 {"existing":[],"ids":[],"results":[{"id":8,"state":"succeeded"}]}"#,
            "1 refused ShuttingDown {}",
            "2 refused ShuttingDown {}",
            "3 refused ShuttingDown {}",
        ],
        "not the one whose job may be kept yet"
    );
    bench.leave(connection, &[pending]);
}

#[test]
fn a_shutdown_is_replied_to_before_it_begins() {
    for (mode, ending, command) in [("drain", "when all is done", "Drain"), ("now", "soon", "Stop")] {
        let mut bench = Bench::new();
        let connection = bench.connect();
        let (asked, told) = bench.ask(connection, request("Shutdown", json!({"mode": mode})));
        let told = match mode {
            "drain" => {
                assert_eq!(told, ["1 asks how many are held"]);
                bench.handle(Event::Answer(Answer::Counted { request: asked, held: 3 }))
            }
            _ => told,
        };
        assert_eq!(
            told,
            [r#"1 {"pid":10}"#.to_owned(), format!("ending {ending}"), format!("command {command}")]
        );
    }
}

#[test]
fn a_drain_begins_though_nobody_can_count_what_is_held_and_though_its_client_has_gone() {
    let drain = |bench: &mut Bench| {
        let connection = bench.connect();
        (connection, bench.ask(connection, request("Shutdown", json!({"mode": "drain"}))).0)
    };
    let mut bench = Bench::new();
    let (_, asked) = drain(&mut bench);
    assert_eq!(bench.refused(asked), [r#"1 {"pid":10}"#, "ending when all is done", "command Drain"]);

    let mut bench = Bench::new();
    let (connection, asked) = drain(&mut bench);
    bench.leave(connection, &[asked]);
    let counted = Event::Answer(Answer::Counted { request: asked, held: 3 });
    assert_eq!(bench.handle(counted), ["ending when all is done", "command Drain"]);
    assert!(bench.is_empty());
}

#[test]
fn a_client_that_reads_slowly_is_told_slowly_and_misses_nothing() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (request, told) = bench.ask_more(connection, wait(json!({"ids": [6, 7, 8, 9]})));
    assert_eq!(told, ["1 asks 6 7 8 9"]);
    // There was room for one record. The rest is read when the client has read that.
    let told = bench.got_part(request, vec![record(6, "succeeded")], &[7, 8, 9]);
    let ended = |id: u64, more: &str| {
        format!(r#"1 {{"attempt":1,"event":"ended","id":{id},"record":"{id} succeeded"}}{more}"#)
    };
    assert_eq!(told, [ended(6, " ..."), "1 awaits drained".to_owned()]);
    assert_eq!(bench.handle(Event::Drained { request }), ["1 asks 7 8 9"]);
    let running = || record(9, "running");
    assert_eq!(bench.got(request, vec![record(7, "running"), record(8, "running"), running()], &[]), [""; 0]);

    // An end that comes while it has much to read costs no record, and is read later.
    assert_eq!(wanted(&mut bench, 7), Detail::Record);
    assert_eq!(bench.handle(Event::Full { request }), ["1 awaits drained"]);
    assert_eq!(bench.handle(Event::Full { request }), [""; 0]);
    assert_eq!(wanted(&mut bench, 8), Detail::Nothing);
    assert_eq!(bench.ended(7, Some(record(7, "succeeded"))), [""; 0]);
    assert_eq!(bench.ended(8, None), [""; 0]);
    assert_eq!(bench.desk.awaited(), [7, 8, 9].map(JobId), "nothing of them is pruned");
    assert_eq!(bench.handle(Event::Drained { request }), ["1 asks 7 8"]);
    let told = bench.got(request, vec![record(7, "succeeded"), record(8, "succeeded")], &[]);
    assert_eq!(told, [ended(7, " ..."), ended(8, " ...")]);
    assert_eq!(bench.ended(9, Some(record(9, "succeeded"))), [ended(9, "")]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn starts_are_told_a_few_at_a_time_and_before_their_ends() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let ids: Vec<u64> = (1..=9).collect();
    let (request, _) = bench.ask_more(connection, wait(json!({"ids": ids, "output": true})));
    bench.got(request, ids.iter().map(|&id| record(id, "queued")).collect(), &[]);
    for id in 1..=8 {
        let told = bench.handle(Event::Fact(Fact::Started { id: JobId(id), attempt: 1 }));
        assert_eq!(told, [format!("1 started {id}/1")]);
    }
    let ninth = bench.handle(Event::Fact(Fact::Started { id: JobId(9), attempt: 1 }));
    assert_eq!(ninth, ["1 awaits drained"], "its descriptors would be ours for as long as nobody reads");
    assert_eq!(bench.ended(9, Some(record(9, "succeeded"))), [""; 0]);
    assert_eq!(bench.handle(Event::Drained { request }), ["1 started 9/1", "1 asks 9"]);
    let told = bench.got(request, vec![record(9, "succeeded")], &[]);
    assert_eq!(told, [r#"1 {"attempt":1,"event":"ended","id":9,"record":"9 succeeded"} ..."#]);
    bench.leave(connection, &[request]);
    assert!(bench.is_empty());
}
