//! One job after the other, from its line to its end and to its callbacks.

use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::{MemoryLimit, MemoryLimiter, On, OnCrash, ResultKind, State};

use super::Trial;
use crate::engine::orders::*;
use crate::engine::{Answer, CallbackEnd, CallbackRun, Dequeued, Detail, Fence, Interrupted, Move};
use crate::job::{
    CallbackId, Holdup, JobId, Needs, Place, ProcessId, Retries, Start, StopReason, Tie, Tries, Until, Work,
};

pub fn a_job_goes_from_its_line_to_its_end(trial: &mut Trial) {
    trial.insert(1, vec![work(&["a", "b c"], &[]); 2]);
    let queued = trial.record(1);
    assert_eq!((queued.state, queued.attempt, queued.pid), (State::Queued, 0, None));
    assert_eq!(queued.argv, Some(vec!["a".into(), "b c".into()]));

    trial.quietly(vec![start(1, 1)]);
    let running = trial.record(1);
    assert_eq!((running.state, running.attempt, running.slot), (State::Running, 1, Some(1)));
    assert_eq!((running.worker_pid, running.pid, running.result), (Some(10), Some(11), None));
    let limit = |by| Some(MemoryLimit { bytes: 1 << 30, by });
    assert_eq!(
        (queued.memory_limit, running.memory_limit),
        (limit(None), limit(Some(MemoryLimiter::Cgroup)))
    );
    assert_eq!(trial.line(), [2]);

    trial.quietly(vec![stop(1, 1, StopReason::TimedOut)]);
    let stopping = trial.record(1);
    assert_eq!((stopping.state, stopping.result), (State::Stopping, None), "an intent is no result");

    let ended = trial.answer(end(1, 1, outcome(State::TimedOut, ResultKind::Timeout, NOW_US + 3_000_000)));
    let Answer::Ended {
        id: JobId(1),
        record: Some(record),
        callbacks,
        dequeued: None,
        stdin,
        next: None,
        ..
    } = ended
    else {
        panic!("{ended:?}")
    };
    assert_eq!((record.state, record.result), (State::TimedOut, Some(ResultKind::Timeout)));
    assert_eq!((record.exit_code, record.reason.as_deref()), (Some(3), Some("because")));
    assert_eq!((record.wall_s, record.usage.map(|usage| usage.user_s)), (Some(2.0), Some(0.5)));
    assert_eq!((callbacks, stdin.as_deref()), (vec![], Some("token")));
    assert_eq!(trial.record(1), *record);
    trial.restart();
    assert_eq!((trial.record(1), trial.line()), (*record, vec![2]));
}

pub fn a_move_whose_fence_does_not_hold_is_lost_and_changes_nothing(trial: &mut Trial) {
    trial.insert(1, vec![work(&["a"], &[(On::Done, "x")]); 3]);
    let lost = |id| vec![Answer::Lost { id: JobId(id) }];
    trial.quietly(vec![start(1, 1), crash(1, 1, 1, "died"), start(1, 2), start(2, 1)]);

    let before = trial.record(1);
    for late in [start(1, 1), stop(1, 1, StopReason::Canceled), finish(1), wait(1, 1, 1, NOW_US)] {
        assert_eq!(trial.run(vec![late]), lost(1), "another attempt has the job");
    }
    assert_eq!(trial.run(vec![cancel(1)]), lost(1), "it is not idle");
    assert_eq!(trial.record(1), before);

    trial.run(vec![finish(2)]);
    let before = trial.record(2);
    let queued = || change(moved(2, 1, Place::Queued { again: false }));
    for late in [start(2, 2), queued(), hold(2, 1, 1, "died"), claim(2, 2), finish(2), cancel(2)] {
        assert_eq!(trial.run(vec![late]), lost(2), "what has ended stays as it is");
    }
    assert_eq!((trial.record(2), trial.line()), (before, vec![3]));

    assert_eq!(trial.run(vec![finish(9)]), lost(9), "there is no such job");
    assert_eq!(trial.run(vec![cancel(9)]), lost(9));
    let woken = trial.answer(wake(i64::MAX, 10));
    assert_eq!(woken, Answer::Woken { jobs: vec![], callbacks: vec![], next_us: None }, "and none waits");
}

pub fn an_idle_fence_holds_in_line_and_while_waiting(trial: &mut Trial) {
    trial.insert(1, vec![retried_work(3); 4]);
    trial.quietly(vec![start(2, 1), wait(2, 1, 1, NOW_US + 5), start(3, 1), hold(3, 1, 1, "died")]);
    for (id, holdup) in [(1, Some(Holdup::None)), (2, Some(Holdup::Time)), (3, None)] {
        let Answer::Ended { id: ended, dequeued, record: None, .. } = trial.answer(cancel(id)) else {
            panic!("job {id} is idle")
        };
        let line = holdup.map(|holdup| Dequeued { pool: Arc::from("default"), holdup });
        assert_eq!((ended, dequeued), (JobId(id), line), "job {id}");
    }
    let kept = trial.record(2);
    assert_eq!((kept.state, kept.attempt, kept.retried), (State::Canceled, 1, 1), "its tries are kept");
    assert_eq!((kept.due_at, trial.record(3).crashes), (None, 1));

    let held = Move::new(JobId(4), Fence::Idle, Place::Waiting(Until::Person), Tries::default());
    trial.quietly(vec![change(Move { reason: Some("later".to_owned()), ..held })]);
    assert_eq!((trial.record(4).state, trial.line()), (State::Held, vec![]));
    assert_eq!(trial.restart().queued, [].into());
}

pub fn a_start_that_must_not_happen_twice_is_confirmed(trial: &mut Trial) {
    trial.insert(1, vec![work(&["a"], &[])]);
    assert_eq!(
        trial.answer(claim(1, 1)),
        Answer::Placed { id: JobId(1), attempt: 1, worker: ProcessId::new(10) }
    );
    let restored = trial.restart();
    let interrupted = &restored.interrupted[0];
    assert_eq!((interrupted.tries.attempts, interrupted.process), (1, None));

    trial.quietly(vec![start(1, 1)]);
    assert_eq!(trial.record(1).pid, Some(11));
    // It was not started after all, which takes its count back.
    let untried = Move {
        tries: Tries::default(),
        reason: Some("no room".to_owned()),
        ..moved(1, 1, Place::Queued { again: true })
    };
    trial.quietly(vec![change(untried)]);
    let record = trial.record(1);
    assert_eq!((record.state, record.attempt, record.started_at), (State::Retrying, 0, None));
    assert_eq!((record.reason.as_deref(), record.last_crash), (Some("no room"), None));
    assert_eq!(trial.line(), [1]);
    assert_eq!(
        trial.answer(claim(1, 1)),
        Answer::Placed { id: JobId(1), attempt: 1, worker: ProcessId::new(10) }
    );
}

pub fn a_start_may_be_told_with_what_follows_it(trial: &mut Trial) {
    trial.insert(1, vec![call(false), call(false), retried_call(), call(false)]);
    let ended = Place::Ended(outcome(State::Succeeded, ResultKind::Success, NOW_US + 3_000_000));
    let end = Move { start: Some(a_start()), want: Detail::Record, ..moved(1, 1, ended) };
    let Answer::Ended { record: Some(record), stdin: None, .. } = trial.answer(change(end)) else {
        panic!("it has ended")
    };
    assert_eq!((record.attempt, record.pid, record.wall_s), (1, Some(11), Some(2.0)));

    let stopping = Place::Stopping(StopReason::Canceled);
    trial.quietly(vec![change(Move { start: Some(a_start()), ..moved(2, 1, stopping) })]);
    assert_eq!((trial.record(2).state, trial.record(2).pid), (State::Stopping, Some(11)));

    let tries = Tries { attempts: 1, retried: 1, ..Tries::default() };
    let waiting = moved(3, 1, Place::Waiting(Until::Time { due_us: NOW_US }));
    trial.quietly(vec![change(Move { tries, start: Some(a_start()), ..waiting })]);
    let record = trial.record(3);
    assert_eq!((record.state, record.attempt, record.pid), (State::Retrying, 1, None));
    assert_eq!(record.memory_limit.and_then(|limit| limit.by), None, "nothing runs");

    let interrupted = trial.restart().interrupted;
    assert_eq!(interrupted.iter().map(|job| job.id.0).collect::<Vec<u64>>(), [2]);
    assert_eq!(trial.line(), [4]);
}

pub fn a_crash_is_remembered_until_somebody_releases_the_job(trial: &mut Trial) {
    trial.insert(1, vec![work(&["a"], &[])]);
    trial.quietly(vec![start(1, 1), crash(1, 1, 1, "died")]);
    let record = trial.record(1);
    assert_eq!((record.state, record.crashes, record.reason.as_deref()), (State::Queued, 1, Some("died")));

    let tries = Tries { attempts: 2, crashes: 1, ..Tries::default() };
    trial.quietly(vec![change(Move { tries, ..moved(1, 2, Place::Running(a_start())) })]);
    let record = trial.record(1);
    assert_eq!((record.reason, record.last_crash.as_deref()), (None, Some("attempt 1: died")));

    trial.quietly(vec![hold(1, 2, 2, "died again")]);
    let record = trial.record(1);
    assert_eq!((record.state, record.crashes, record.pid), (State::Held, 2, None));
    assert_eq!(record.last_crash.as_deref(), Some("attempt 1: died"));
    trial.run(vec![release(5, &[1])]);
    let record = trial.record(1);
    assert_eq!((record.state, record.attempt, record.crashes), (State::Queued, 2, 0));
    assert_eq!((record.reason, record.last_crash), (None, None));
}

pub fn callbacks_become_pending_once_and_are_delivered_until_that_succeeds(trial: &mut Trial) {
    let callbacks = [(On::Done, "done"), (On::Success, "success"), (On::Failure, "failure")];
    trial.insert(1, vec![work(&["a"], &callbacks), work(&["b"], &[(On::Done, "b")])]);
    let Answer::Ended { record: Some(record), callbacks, .. } = trial.answer(finish(1)) else {
        panic!("it has ended")
    };
    assert_eq!(callbacks, [CallbackId(10), CallbackId(12)]);
    let states: Vec<&str> = record.callbacks.iter().map(|callback| callback.state.as_str()).collect();
    assert_eq!(states, ["pending", "skipped", "pending"]);
    assert_eq!(trial.run(vec![finish(1)]), [Answer::Lost { id: JobId(1) }], "no second time");
    assert_eq!(trial.restart().callbacks, [CallbackId(10), CallbackId(12)]);

    let Answer::CallbackBegun(run) = trial.answer(begin_callback(10)) else { panic!("it is pending") };
    let CallbackRun { id, attempt, earlier: 0, command, work: of, record } = *run else { panic!("{run:?}") };
    assert_eq!((id, attempt, command.as_escaped(), record.id), (CallbackId(10), 1, "done", 1));
    assert_eq!((of.cwd.as_escaped(), of.callbacks.len()), ("/tmp", 0));
    assert_eq!(trial.restart().callbacks, [CallbackId(10), CallbackId(12)], "it was interrupted");

    let Answer::CallbackBegun(run) = trial.answer(begin_callback(10)) else { panic!("it is pending") };
    assert_eq!(run.attempt, 2);
    trial.quietly(vec![end_callback(10, CallbackEnd::Again { due_us: NOW_US + 9 })]);
    let restored = trial.restart();
    assert_eq!(
        (restored.callbacks, restored.waiting_callbacks),
        (vec![CallbackId(12)], vec![CallbackId(10)])
    );
    assert_eq!(restored.next_due_us, Some(NOW_US + 9));
    let woken = trial.answer(wake(NOW_US + 8, 10));
    assert_eq!(woken, Answer::Woken { jobs: vec![], callbacks: vec![], next_us: Some(NOW_US + 9) });
    let woken = trial.answer(wake(NOW_US + 9, 10));
    assert_eq!(woken, Answer::Woken { jobs: vec![], callbacks: vec![CallbackId(10)], next_us: None });
    assert_eq!(trial.restart().callbacks, [CallbackId(10), CallbackId(12)]);

    // A second end of the same attempt is ignored, and so is a begin of what is over.
    trial.run(vec![begin_callback(10), begin_callback(12)]);
    trial.quietly(vec![
        end_callback(10, CallbackEnd::Delivered),
        end_callback(10, CallbackEnd::Again { due_us: NOW_US }),
        begin_callback(10),
        end_callback(12, CallbackEnd::Failed),
        begin_callback(11),
    ]);
    let told = trial.record(1).callbacks.into_iter();
    let told: Vec<(String, u32, Option<i32>)> =
        told.map(|callback| (callback.state, callback.attempts, callback.exit_code)).collect();
    let wanted = [("delivered", 3, Some(0)), ("skipped", 0, None), ("failed", 1, Some(1))];
    assert_eq!(told, wanted.map(|(state, attempts, code)| (state.to_owned(), attempts, code)));

    let restored = trial.restart();
    assert_eq!((restored.callbacks, restored.waiting_callbacks), (vec![], vec![]));
    assert_eq!((restored.next_callback, restored.next_due_us), (14, None));
}

pub fn a_start_finds_what_was_interrupted(trial: &mut Trial) {
    let of_pool = |pool: &str, tie| {
        let retries = Retries::new(2, Duration::from_secs(5));
        let base = Work::clone(&work(&["a"], &[]));
        let stdin = Some(format!("token of {pool}"));
        Arc::new(Work { pool: pool.into(), tie, on_crash: OnCrash::Hold, retries, stdin, ..base })
    };
    trial.insert(1, vec![of_pool("a", None), of_pool("b", Some(Tie::Client)), of_pool("c", None)]);
    trial.insert(4, vec![of_pool("c", Some(Tie::Job(JobId(3)))), of_pool("c", Some(Tie::Job(JobId(1))))]);
    let nobody = Start { process: None, ..a_start() };
    let tries = Tries { attempts: 4, crashes: 1, retried: 2 };
    trial.quietly(vec![
        change(Move { tries, ..moved(1, 4, Place::Running(nobody)) }),
        start(2, 1),
        stop(2, 1, StopReason::Untied(Tie::Client)),
        start(5, 1),
        wait(5, 1, 1, NOW_US + 5),
    ]);
    trial.run(vec![finish(3)]);

    let restored = trial.restart();
    assert_eq!((restored.next_job, restored.next_callback), (6, 40));
    assert_eq!(
        restored.queued,
        queued("c", &[(Holdup::None, 1), (Holdup::Time, 1)]),
        "one waits for its time"
    );
    let interrupted = |id, pool: &str, tries, process, stopping| Interrupted {
        id: JobId(id),
        pool: pool.to_owned(),
        needs: Needs::default(),
        tries,
        on_crash: OnCrash::Hold,
        retries: Retries::new(2, Duration::from_secs(5)),
        slot: Some(1),
        started_us: Some(a_start().started_us),
        since_boot_us: Some(7),
        lasted: None,
        worker: Some(ProcessId::new(10)),
        process,
        stopping,
    };
    let one = Tries { attempts: 1, ..Tries::default() };
    let stopped = Some(StopReason::Untied(Tie::Client));
    let interrupted =
        [interrupted(1, "a", tries, None, None), interrupted(2, "b", one, a_start().process, stopped)];
    assert_eq!(restored.interrupted, interrupted);
    let tied: Vec<(u64, Tie, Option<&str>, bool)> = restored
        .tied
        .iter()
        .map(|tied| (tied.id.0, tied.tie, tied.queued_in.as_deref(), tied.untied))
        .collect();
    let wanted = [
        (2, Tie::Client, None, false),
        (4, Tie::Job(JobId(3)), Some("c"), true),
        (5, Tie::Job(JobId(1)), Some("c"), false),
    ];
    assert_eq!(tied, wanted);
    assert_eq!(restored.next_due_us, Some(NOW_US + 5));
    assert_eq!(restored.stdin, ["a", "b", "c"].map(|pool| format!("token of {pool}")).into());
}

fn retried_work(allowed: u32) -> Arc<Work> {
    let retries = Retries::new(allowed, Duration::ZERO);
    Arc::new(Work { retries, ..Work::clone(&work(&["a"], &[])) })
}

fn retried_call() -> Arc<Work> {
    let retries = Retries::new(1, Duration::ZERO);
    Arc::new(Work { retries, ..Work::clone(&call(false)) })
}
