//! Listeners to events: what they are told of, and that nothing goes by untold once they were told so.

use pool_proto::nouns::{CallProgress, HappeningKind};

use super::*;
use crate::engine::{CallbackEnd, CallbackRun, Detail, Fence, Move};
use crate::job::{CallbackId, Claim, Process, Start, StopReason, Unit, Until};

/// A client that listens, and has been told so.
fn listening(bench: &mut Bench, parameters: Value) -> (ConnectionId, RequestId) {
    let connection = bench.connect();
    let (request, told) = bench.ask_more(connection, request("Events", parameters));
    assert_eq!(told, [format!("{request} asks nothing")]);
    assert_eq!(bench.got(request, Vec::new(), &[]), [format!(r#"{request} {{"event":"listening"}} ..."#)]);
    (connection, request)
}

fn start(slot: u32) -> Start {
    let process = Some(Process { pid: ProcessId::new(200), start_ticks: None });
    Start {
        slot,
        worker: ProcessId::new(100),
        process,
        memory_limiter: None,
        started_us: 5,
        since_boot_us: 5,
    }
}

fn run(id: u64) -> core::Effect {
    let slot = SlotId { lane: LaneId::Pool(PoolId(0)), index: 0 };
    let claim = Claim { unit: Unit::Job(JobId(id)), attempt: 1 };
    core::Effect::Run { slot, claim, work: work(), items: Default::default(), ahead: false }
}

fn told(bench: &mut Bench, effect: core::Effect) -> Vec<String> {
    bench.overhear(effect).0
}

#[test]
fn a_listener_must_take_many_replies_and_name_pools_that_exist() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (_, told) = bench.ask(connection, request("Events", json!({})));
    assert_eq!(told, ["1 refused ExpectedMore {}"]);
    let (_, told) = bench.ask_more(connection, request("Events", json!({"pools": ["default", "gpu"]})));
    assert_eq!(told, [r#"2 refused NoSuchPool {"pool":"gpu"}"#]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn without_listeners_nothing_is_told_and_nothing_kept() {
    let mut bench = Bench::new();
    let (told, effect) = bench.overhear(run(7));
    assert_eq!((told, effect), (Vec::new(), run(7)));
    let change = moved(7, Place::Running(start(0)));
    assert_eq!(bench.overhear(change), (Vec::new(), moved(7, Place::Running(start(0)))));
    assert!(bench.is_empty());
}

#[test]
fn a_job_that_is_not_synced_is_followed_when_it_is() {
    let mut bench = Bench::new();
    let (connection, events) = listening(&mut bench, json!({}));
    let client = bench.connect();
    let (submits, _) = bench.ask(client, submit(job()));
    assert_eq!(bench.write(submits, 7, 1), [""; 0]);
    assert_eq!(told(&mut bench, run(7)), [""; 0]);
    assert_eq!(told(&mut bench, moved(7, Place::Running(start(2)))), [""; 0]);
    for fraction in [0.25, 0.5] {
        let progress = CallProgress { fraction: Some(fraction), ..CallProgress::default() };
        let progressed = Fact::Progressed { id: JobId(7), attempt: 1, progress };
        assert_eq!(bench.handle(Event::Fact(progressed)), [""; 0]);
    }
    let others = told(&mut bench, moved(6, Place::Running(start(1))));
    assert_eq!(others.len(), 1, "of another job it is told: {others:?}");
    assert_eq!(
        bench.synced(submits),
        [
            r#"1 hears {"event":"submitted","id":7,"pool":"default"}"#,
            r#"1 hears {"attempt":1,"event":"started","id":7,"pid":200,"pool":"default","slot":2}"#,
            r#"2 {"event":"accepted","existing":false,"id":7}"#,
            r#"1 hears {"attempt":1,"event":"progress","id":7,"pool":"default","progress":{"fraction":0.5}}"#,
        ]
    );
    bench.leave(client, &[]);
    bench.leave(connection, &[events]);
    assert!(bench.is_empty());
}

#[test]
fn a_job_is_followed_from_its_submission_to_its_end() {
    let mut bench = Bench::new();
    let (connection, events) = listening(&mut bench, json!({}));
    let client = bench.connect();
    let (submits, _) = bench.ask(client, submit(job()));
    assert_eq!(
        bench.accept(submits, 7, 2, &[(0, 3)]).first().unwrap(),
        r#"1 hears {"event":"submitted","id":8,"pool":"default"}"#,
        "not the one that was there before"
    );

    assert_eq!(told(&mut bench, run(7)), [""; 0]);
    let happenings = [
        (
            Place::Running(start(2)),
            r#"{"attempt":1,"event":"started","id":7,"pid":200,"pool":"default","slot":2}"#,
        ),
        (
            Place::Stopping(StopReason::TimedOut),
            r#"{"event":"stopping","id":7,"pool":"default","reason":"its time is up"}"#,
        ),
        (Place::Queued { again: false }, r#"{"event":"requeued","id":7,"pool":"default"}"#),
        (Place::Queued { again: true }, r#"{"event":"retrying","id":7,"pool":"default"}"#),
        (Place::Waiting(Until::Time { due_us: 9 }), r#"{"event":"retrying","id":7,"pool":"default"}"#),
        (Place::Waiting(Until::Person), r#"{"event":"held","id":7,"pool":"default"}"#),
    ];
    for (place, happening) in happenings {
        assert_eq!(told(&mut bench, moved(7, place)), [format!("1 hears {happening}")]);
    }

    let jobs = vec![(JobId(7), Arc::from("default"))];
    let released = Event::Fact(Fact::Released { request: RequestId(99), jobs });
    assert_eq!(bench.handle(released), [r#"1 hears {"event":"released","id":7,"pool":"default"}"#]);
    let progress = CallProgress { fraction: Some(0.5), text: None };
    let progressed = Event::Fact(Fact::Progressed { id: JobId(7), attempt: 1, progress });
    assert_eq!(
        bench.handle(progressed),
        [r#"1 hears {"attempt":1,"event":"progress","id":7,"pool":"default","progress":{"fraction":0.5}}"#]
    );
    assert_eq!(
        bench.ended(7, Some(record(7, "failed"))),
        [r#"1 hears {"attempt":1,"event":"ended","id":7,"pool":"default","state":"failed"}"#]
    );
    bench.leave(client, &[]);
    assert_eq!(bench.leave(connection, &[events]), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn a_start_that_is_kept_before_it_happens_is_told_when_it_has_happened() {
    let mut bench = Bench::new();
    listening(&mut bench, json!({}));
    let fence = Fence::Attempt(1);
    let tries = Tries { attempts: 1, ..Tries::default() };
    let claim = Move {
        confirm: true,
        ..Move::new(JobId(7), fence, Place::Running(Start { process: None, ..start(0) }), tries)
    };
    assert_eq!(told(&mut bench, core::Effect::Change(Change::Move(Box::new(claim)))), [""; 0]);
    assert_eq!(told(&mut bench, moved(7, Place::Running(start(0)))).len(), 1);
}

#[test]
fn a_start_that_comes_with_what_has_become_of_it_is_told_before_that() {
    let mut bench = Bench::new();
    listening(&mut bench, json!({}));
    let tries = Tries { attempts: 3, ..Tries::default() };
    let place = Place::Waiting(Until::Time { due_us: 9 });
    let failed = Move {
        start: Some(start(1)),
        reason: Some("exit code 1".to_owned()),
        ..Move::new(JobId(7), Fence::Attempt(3), place, tries)
    };
    assert_eq!(
        told(&mut bench, core::Effect::Change(Change::Move(Box::new(failed)))),
        [
            r#"1 hears {"attempt":3,"event":"started","id":7,"pid":200,"slot":1}"#,
            r#"1 hears {"event":"retrying","id":7,"reason":"exit code 1"}"#
        ]
    );
}

#[test]
fn the_pools_of_jobs_that_run_already_are_known() {
    let mut bench = Bench::new();
    bench.run(7);
    listening(&mut bench, json!({"pools": ["default"]}));
    assert_eq!(
        told(&mut bench, moved(7, Place::Stopping(StopReason::Canceled))),
        [r#"1 hears {"event":"stopping","id":7,"pool":"default","reason":"it was canceled"}"#]
    );
}

#[test]
fn a_listener_hears_only_of_what_it_has_named() {
    let mut bench = Bench::new();
    listening(&mut bench, json!({"pools": ["square"]}));
    listening(&mut bench, json!({"ids": [8]}));
    assert_eq!(bench.ended(7, Some(record(7, "failed"))), [""; 0]);
    let told = bench.ended(8, Some(record(8, "failed")));
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("2 hears"), "{told:?}");
    let square = Record { pool: "square".to_owned(), ..record(9, "failed") };
    let told = bench.ended(9, Some(square));
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("1 hears"), "{told:?}");
}

#[test]
fn an_end_that_was_given_to_the_engine_before_somebody_listened_is_told_all_the_same() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (events, _) = bench.ask_more(connection, request("Events", json!({})));
    assert_eq!(bench.ended(6, None), [""; 0], "it does not count on it yet");
    bench.got(events, Vec::new(), &[]);
    // Its way is longer than that of the answer.
    assert_eq!(bench.ended(7, None), ["1 asks 7"]);
    assert_eq!(
        bench.got(events, vec![record(7, "failed")], &[]),
        [r#"1 hears {"attempt":1,"event":"ended","id":7,"pool":"default","state":"failed"}"#]
    );
    assert_eq!(bench.got(events, Vec::new(), &[8]), [""; 0], "it is forgotten already");
}

#[test]
fn a_listener_has_every_end_tell_the_record() {
    let mut bench = Bench::new();
    listening(&mut bench, json!({"ids": [8]}));
    let outcome = crate::core::jobs::outcome::of_stop(StopReason::Canceled, 5).unwrap();
    let (_, effect) = bench.overhear(moved(7, Place::Ended(Box::new(outcome))));
    let core::Effect::Change(Change::Move(moved)) = effect else { panic!("{effect:?}") };
    assert_eq!(moved.want, Detail::Record);
}

#[test]
fn callbacks_are_told_with_their_jobs() {
    let mut bench = Bench::new();
    let (connection, events) = listening(&mut bench, json!({}));
    let slot = SlotId { lane: LaneId::Callbacks, index: 0 };
    for (end, kind) in [
        (CallbackEnd::Delivered, "callback_delivered"),
        (CallbackEnd::Again { due_us: 9 }, "callback_retrying"),
        (CallbackEnd::Failed, "callback_failed"),
    ] {
        let run = CallbackRun {
            id: CallbackId(4),
            attempt: 1,
            earlier: 0,
            command: "true".into(),
            work: work(),
            record: Box::new(record(7, "failed")),
        };
        assert_eq!(told(&mut bench, core::Effect::RunCallback { slot, run: Box::new(run) }), [""; 0]);
        let ended = Change::EndCallback { id: CallbackId(4), end, exit_code: Some(1) };
        assert_eq!(
            told(&mut bench, core::Effect::Change(ended)),
            [format!(r#"1 hears {{"callback":4,"event":"{kind}","exit_code":1,"id":7,"pool":"default"}}"#)]
        );
    }
    bench.leave(connection, &[events]);
    assert!(bench.is_empty());
}

#[test]
fn workers_are_told_with_their_pools() {
    let mut bench = Bench::new();
    let worker = |lane, pool: Option<&str>| Event::Worker {
        kind: HappeningKind::WorkerLost,
        slot: SlotId { lane, index: 1 },
        pool: pool.map(Arc::from),
        pid: ProcessId::new(100),
        reason: Some("signal 9".to_owned()),
    };
    assert_eq!(bench.handle(worker(LaneId::Callbacks, None)), [""; 0], "nobody listens");
    listening(&mut bench, json!({}));
    assert_eq!(
        bench.handle(worker(LaneId::Pool(PoolId(0)), Some("default"))),
        [r#"1 hears {"event":"worker_lost","pid":100,"pool":"default","reason":"signal 9","slot":1}"#]
    );
    assert_eq!(
        bench.handle(worker(LaneId::Callbacks, None)),
        [r#"1 hears {"event":"worker_lost","pid":100,"reason":"signal 9","slot":1}"#]
    );
}

#[test]
fn a_listener_that_is_too_slow_is_told_so_and_nothing_more() {
    let mut bench = Bench::new();
    let (connection, events) = listening(&mut bench, json!({}));
    assert_eq!(
        bench.handle(Event::TooSlow { request: events }),
        [format!(r#"1 refused EventsMissed {{"limit":{MAX_UNREAD}}}"#)]
    );
    assert_eq!(bench.handle(Event::TooSlow { request: events }), [""; 0]);
    assert_eq!(bench.ended(7, Some(record(7, "failed"))), [""; 0]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}
