//! Stories: what happens in which order, and what everybody is told.

use std::time::Duration;

use pool_proto::methods::Wait;
use pool_proto::nouns::{On, OnDisconnect};
use pool_proto::{Refusal, ResultKind, State};

use super::clients::{Heard, accepted, ends_of, refused};
use super::specs::{EXITED, SECOND, pool, settings, with_callback, work};
use super::workers::{Sent, run_callback, sent_to};
use super::world::{DEFAULT, World};
use crate::core::{Event, LaneId, PoolId, SlotId};
use crate::engine::Delivery;
use crate::engine::{Answer, Told, WINDOW};
use crate::job::{CallbackId, Exit, JobId, RequestId, Retries, Stage, StopReason, Tie, Unit, Work};
use crate::start::config::Config;

pub fn slot(index: u32) -> SlotId {
    SlotId { lane: DEFAULT, index }
}

/// Submits and waits for the end.
pub fn submit_attached(world: &mut World, work: Work, on_disconnect: OnDisconnect) -> RequestId {
    let tie = if on_disconnect == OnDisconnect::Cancel { Some(Tie::Client) } else { work.tie };
    let request = world.submit_and_wait(&Work { tie, ..work }, on_disconnect);
    world.settle();
    request
}

pub fn ended_as(reply: Option<&Heard>) -> (State, Option<ResultKind>) {
    match reply {
        Some(Heard::Ended(record)) => (record.state, record.result),
        other => panic!("an end was expected, not {other:?}"),
    }
}

// ---- accepting and running ----

#[test]
fn a_job_runs_when_it_is_written_and_is_accepted_when_it_is_synced() {
    let mut world = World::up(1);
    let call = world.submit(vec![work()]);
    assert!((world.replies(call).is_empty(), world.running().is_empty()) == (true, true));
    world.store_step();
    assert!(world.running().is_empty(), "the core has not heard of it yet");
    world.answer_step();
    assert_eq!((world.replies(call), world.running_jobs()), (&[][..], vec![1]));
    world.store_step();
    world.answer_step();
    assert_eq!(world.replies(call), [accepted(1, 1)]);
}

#[test]
fn what_the_store_refuses_is_refused_and_its_id_is_not_given_out_again() {
    let mut world = World::up(1);
    let call = world.submit(vec![work(); 2]);
    world.store_refuses();
    world.settle();
    assert!(matches!(refused(world.replies(call).first()), Refusal::StoreFailed { .. }));
    let call = world.submit(vec![work()]);
    world.settle();
    assert_eq!(world.replies(call), [accepted(3, 1)]);
}

#[test]
fn two_slots_run_two_jobs_at_a_time_in_turn() {
    let mut world = World::up(2);
    world.submit(vec![work(); 5]);
    world.settle();
    assert_eq!(world.running_jobs(), [1, 2]);
    world.attempt_ended(slot(1), EXITED);
    assert_eq!(world.running_jobs(), [1, 3]);
    world.attempt_ended(slot(0), EXITED);
    assert_eq!(world.running_jobs(), [4, 3]);
    world.attempt_ended(slot(0), EXITED);
    world.attempt_ended(slot(0), EXITED);
    world.attempt_ended(slot(1), EXITED);
    world.settle();
    world.assert_idle();
}

#[test]
fn free_slots_are_used_in_turn_the_longest_idle_first() {
    let mut world = World::up(3);
    for turn in 0..6 {
        world.submit(vec![work()]);
        world.settle();
        let (used, _) = world.running()[0];
        assert_eq!(used, slot(turn % 3));
        world.attempt_ended(used, EXITED);
        world.settle();
    }
}

#[test]
fn a_queue_longer_than_the_window_runs_in_order() {
    let mut world = World::up(1);
    let count = 3 * WINDOW as u64 + 7;
    world.submit(vec![work(); count as usize]);
    world.settle();
    for id in 1..=count {
        assert_eq!(world.running_jobs(), [id]);
        world.attempt_ended(slot(0), EXITED);
        world.settle();
    }
    world.assert_idle();
}

#[test]
fn a_pool_holds_up_no_other() {
    let mut world = World::up(1);
    world.submit(vec![work(), work(), Work { pool: "other".into(), ..work() }]);
    world.settle();
    assert_eq!(world.running_jobs(), [1, 3]);
}

#[test]
fn the_end_of_a_job_says_how_it_ended() {
    let cases = [
        (Exit::Code(0), State::Succeeded, ResultKind::Success),
        (Exit::Code(7), State::Failed, ResultKind::ExitCode),
        (Exit::Signal { signal: 9, core: false }, State::Failed, ResultKind::Signal),
        (Exit::Signal { signal: 6, core: true }, State::Failed, ResultKind::CoreDump),
    ];
    for (exit, state, result) in cases {
        let mut world = World::up(1);
        let call = submit_attached(&mut world, work(), OnDisconnect::Detach);
        world.attempt_ended(slot(0), exit);
        world.settle();
        assert_eq!(world.replies(call)[1], Heard::Started { id: JobId(1), attempt: 1 });
        assert_eq!(ended_as(world.replies(call).last()), (state, Some(result)));
        world.assert_idle();
    }
}

// ---- not being able to start ----

#[test]
fn a_command_that_cannot_be_executed_has_the_codes_of_the_shell() {
    for (errno, code) in [(libc::ENOENT, 127), (libc::EACCES, 126), (libc::ENOEXEC, 126)] {
        let mut world = World::up(1);
        let call = submit_attached(&mut world, work(), OnDisconnect::Detach);
        world.attempt_failed(slot(0), Stage::Exec, errno);
        world.settle();
        let Some(Heard::Ended(record)) = world.replies(call).last() else { panic!("it has ended") };
        assert_eq!((record.state, record.exit_code, record.attempt), (State::Failed, Some(code), 1));
        world.assert_idle();
    }
}

#[test]
fn a_directory_that_is_gone_is_an_error_and_no_attempt() {
    let mut world = World::up(1);
    let call = submit_attached(&mut world, work(), OnDisconnect::Detach);
    world.attempt_failed(slot(0), Stage::Cwd, libc::ENOENT);
    world.settle();
    let Some(Heard::Ended(record)) = world.replies(call).last() else { panic!("it has ended") };
    assert_eq!((record.result, record.attempt, record.exit_code), (Some(ResultKind::Error), 0, None));
    assert!(record.reason.as_ref().unwrap().contains("cannot enter the directory"));
}

#[test]
fn a_shortage_of_processes_is_waited_out_and_nothing_is_counted() {
    let mut world = World::up(1);
    let call = submit_attached(&mut world, work(), OnDisconnect::Detach);
    for pause_ms in [100, 200, 400] {
        world.attempt_failed(slot(0), Stage::Fork, libc::EAGAIN);
        world.settle();
        assert_eq!(world.state(1), State::Retrying);
        world.advance(Duration::from_millis(pause_ms - 1));
        assert_eq!(world.running(), []);
        world.advance(Duration::from_millis(1));
        assert_eq!(world.running_jobs(), [1]);
    }
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    let Some(Heard::Ended(record)) = world.replies(call).last() else { panic!("it has ended") };
    assert_eq!((record.state, record.attempt, record.crashes), (State::Succeeded, 1, 0));
    world.assert_idle();
}

// ---- being ended ----

#[test]
fn a_timeout_is_term_then_a_grace_then_kill_and_counts_from_the_start_of_the_command() {
    let mut world = World::up(1);
    let call = submit_attached(
        &mut world,
        Work { timeout: Some(SECOND), kill_after: 2 * SECOND, ..work() },
        OnDisconnect::Detach,
    );
    world.advance(5 * SECOND);
    world.attempt_started(slot(0));
    world.advance(SECOND - Duration::from_nanos(1));
    assert_eq!(sent_to(&world, 1), []);
    world.advance(Duration::from_nanos(1));
    assert_eq!(sent_to(&world, 1), [Sent::Terminate]);
    world.settle();
    assert_eq!((world.state(1), world.stopping(1)), (State::Stopping, Some(StopReason::TimedOut)));
    world.advance(2 * SECOND);
    assert_eq!(sent_to(&world, 1), [Sent::Terminate, Sent::Kill]);
    world.attempt_ended(slot(0), Exit::Signal { signal: 9, core: false });
    world.settle();
    assert_eq!(ended_as(world.replies(call).last()), (State::TimedOut, Some(ResultKind::Timeout)));
    world.assert_idle();
}

#[test]
fn a_job_that_makes_a_success_of_its_timeout_has_timed_out_all_the_same() {
    let mut world = World::up(1);
    let call = submit_attached(&mut world, Work { timeout: Some(SECOND), ..work() }, OnDisconnect::Detach);
    world.attempt_started(slot(0));
    world.advance(SECOND);
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    assert_eq!(ended_as(world.replies(call).last()), (State::TimedOut, Some(ResultKind::Timeout)));
}

#[test]
fn an_idle_attempt_ends_like_one_whose_time_is_up_and_says_why() {
    let mut world = World::up(1);
    let idle = Work { idle_timeout: Some(SECOND), kill_after: 2 * SECOND, ..work() };
    let retried = Work { retries: Retries::new(1, SECOND), ..idle };
    let call = submit_attached(&mut world, retried, OnDisconnect::Detach);
    world.attempt_idle(slot(0));
    world.settle();
    assert_eq!((world.state(1), world.stopping(1)), (State::Stopping, Some(StopReason::Idle)));
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    assert_eq!(world.state(1), State::Retrying, "an attempt is idle, not its job");

    world.advance(SECOND);
    world.settle();
    world.attempt_idle(slot(0));
    assert_eq!(sent_to(&world, 1), [Sent::Terminate; 2]);
    // What is told once more is no second reason.
    world.attempt_idle(slot(0));
    world.advance(2 * SECOND);
    assert_eq!(sent_to(&world, 1), [Sent::Terminate, Sent::Terminate, Sent::Kill]);
    world.attempt_ended(slot(0), Exit::Signal { signal: 9, core: false });
    world.settle();
    let last = world.replies(call).last();
    assert_eq!(ended_as(last), (State::TimedOut, Some(ResultKind::Timeout)));
    let Some(Heard::Ended(record)) = last else { panic!("{last:?}") };
    assert!(record.reason.as_ref().is_some_and(|reason| reason.contains("idle timeout")), "{record:?}");
    world.assert_idle();
}

#[test]
fn a_cancel_of_an_idle_attempt_is_heard_and_an_end_of_it_that_comes_first_counts() {
    let mut world = World::up(1);
    let retries = Retries::new(5, SECOND);
    world.submit(vec![Work { idle_timeout: Some(SECOND), retries, ..work() }]);
    world.settle();
    world.attempt_idle(slot(0));
    world.cancel(&[1]);
    world.settle();
    assert_eq!(world.stopping(1), Some(StopReason::Canceled), "no other attempt follows");
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    assert_eq!(world.state(1), State::Canceled);
    world.assert_idle();
}

#[test]
fn a_cancel_ends_what_runs_what_waits_and_what_is_far_down_the_queue() {
    let mut world = World::up(1);
    let far = 2 * WINDOW as u64;
    world.submit(vec![work(); far as usize]);
    world.settle();
    world.attempt_started(slot(0));
    let call = world.cancel(&[1, 2, far]);
    world.settle();
    assert_eq!(
        (world.state(1), world.state(2), world.state(far)),
        (State::Stopping, State::Canceled, State::Canceled)
    );
    assert_eq!(world.replies(call), [], "the answer comes when all of them have ended");
    world.attempt_ended(slot(0), Exit::Signal { signal: 15, core: false });
    world.settle();
    let [Heard::Canceled(records)] = world.replies(call) else { panic!("{:?}", world.replies(call)) };
    assert_eq!(records.iter().map(|record| record.id).collect::<Vec<u64>>(), [1, 2, far]);
    assert!(records.iter().all(|record| record.state == State::Canceled));
    assert_eq!(world.running_jobs(), [3]);
}

#[test]
fn a_cancel_of_something_unknown_cancels_nothing() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    let call = world.cancel(&[1, 9]);
    world.settle();
    assert_eq!(refused(world.replies(call).first()), &Refusal::NoSuchJob { id: 9, pruned: None });
    assert_eq!((world.state(1), sent_to(&world, 1)), (State::Queued, vec![]));
}

#[test]
fn a_cancel_before_the_command_is_executed_still_ends_it() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    let call = world.cancel(&[1]);
    world.settle();
    assert_eq!(sent_to(&world, 1), [Sent::Terminate]);
    world.attempt_failed(slot(0), Stage::Setup, libc::ECANCELED);
    world.settle();
    assert!(matches!(world.replies(call), [Heard::Canceled(records)] if records[0].state == State::Canceled));
    world.assert_idle();
}

#[test]
fn the_death_of_an_attached_client_cancels_only_if_it_said_so() {
    for (on_disconnect, sent) in
        [(OnDisconnect::Detach, vec![]), (OnDisconnect::Cancel, vec![Sent::Terminate])]
    {
        let mut world = World::up(1);
        let call = submit_attached(&mut world, work(), on_disconnect);
        world.attempt_started(slot(0));
        world.disconnect(call);
        world.settle();
        assert_eq!(sent_to(&world, 1), sent);
        world.attempt_ended(slot(0), EXITED);
        world.settle();
        world.assert_idle();
    }
}

#[test]
fn a_client_that_dies_before_its_job_is_on_disk_takes_it_along_if_it_said_so() {
    let mut world = World::up(1);
    let call = world.submit_and_wait(&work(), OnDisconnect::Cancel);
    world.disconnect(call);
    world.settle();
    assert_eq!(world.state(1), State::Canceled);
    world.assert_idle();
}

#[test]
fn a_signal_goes_to_a_running_job_and_to_no_other() {
    let mut world = World::up(1);
    world.submit(vec![work(), work()]);
    world.settle();
    let signal = |world: &mut World, id| {
        let call = world.signal(id, 10);
        world.settle();
        world.replies(call).last().map(|reply| format!("{reply:?}")).unwrap()
    };
    assert_eq!(signal(&mut world, 1), "Done", "its command may run without our knowing yet");
    world.attempt_started(slot(0));
    assert_eq!(signal(&mut world, 1), "Done");
    assert_eq!(sent_to(&world, 1), [Sent::Signal(10), Sent::Signal(10)]);
    assert!(signal(&mut world, 2).contains("NotRunning"));
    assert!(signal(&mut world, 3).contains("NoSuchJob"));
}

// ---- waiting ----

#[test]
fn a_wait_for_all_tells_of_each_end_and_a_wait_for_any_of_the_first() {
    let mut world = World::up(2);
    world.submit(vec![work(); 3]);
    world.settle();
    let all = world.wait(ends_of(&[1, 2, 3]));
    let any = world.wait(Wait { any: Some(true), ..ends_of(&[1, 2, 3]) });
    world.settle();
    world.attempt_ended(slot(1), EXITED);
    world.settle();
    assert_eq!((world.replies(any).len(), world.is_answered(any), world.is_answered(all)), (1, true, false));
    world.attempt_ended(slot(0), EXITED);
    world.attempt_ended(slot(1), EXITED);
    world.settle();
    assert_eq!((world.replies(all).len(), world.is_answered(all)), (3, true));
    world.assert_idle();
}

#[test]
fn a_wait_for_what_has_ended_is_answered_at_once_and_no_end_slips_through() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    // The end is told between the question and the store's answer to it.
    world.attempt_started(slot(0));
    world.settle();
    let call = world.wait(ends_of(&[1]));
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    assert_eq!((world.replies(call).len(), world.is_answered(call)), (1, true));
    let late = world.wait(Wait { output: Some(true), ..ends_of(&[1]) });
    world.settle();
    assert!(matches!(world.replies(late), [Heard::Started { attempt: 1, .. }, Heard::Ended(_)]));
    world.assert_idle();
}

#[test]
fn a_wait_for_nothing_or_for_something_unknown_is_refused() {
    let mut world = World::up(1);
    for (wanted, expected) in [(vec![], "InvalidParameter"), (vec![4], "NoSuchJob")] {
        let call = world.wait(ends_of(&wanted));
        world.settle();
        assert!(format!("{:?}", world.replies(call)).contains(expected));
    }
    world.assert_idle();
}

// ---- callbacks ----

#[test]
fn callbacks_run_in_the_order_of_the_ends_one_after_the_other() {
    let mut world = World::up(3);
    world.submit(vec![with_callback(On::Done); 3]);
    world.settle();
    for index in [2, 0, 1] {
        world.attempt_ended(slot(index), EXITED);
    }
    for callback in [3, 1, 2] {
        run_callback(&mut world, callback, EXITED);
    }
    world.assert_idle();
}

#[test]
fn a_callback_that_fails_is_repeated_with_growing_pauses_and_then_given_up() {
    let mut world = World::up(1);
    world.submit(vec![with_callback(On::Done)]);
    world.settle();
    world.attempt_ended(slot(0), EXITED);
    for pause in [SECOND, 2 * SECOND] {
        run_callback(&mut world, 1, Exit::Code(1));
        world.advance(pause - Duration::from_nanos(1000));
        world.settle();
        assert_eq!(world.running(), []);
        world.advance(Duration::from_nanos(1000));
    }
    run_callback(&mut world, 1, Exit::Code(1));
    assert_eq!(world.delivery(1), (Delivery::Failed, 3));
    world.assert_idle();
}

#[test]
fn only_the_callbacks_that_match_the_end_run() {
    let cases = [
        (On::Done, EXITED, true),
        (On::Done, Exit::Code(1), true),
        (On::Success, EXITED, true),
        (On::Success, Exit::Code(1), false),
        (On::Failure, EXITED, false),
        (On::Failure, Exit::Code(1), true),
    ];
    for (on, exit, runs) in cases {
        let mut world = World::up(1);
        world.submit(vec![with_callback(on)]);
        world.settle();
        world.attempt_ended(slot(0), exit);
        world.settle();
        let expected = if runs { Delivery::Running } else { Delivery::Skipped };
        assert_eq!(world.delivery(1).0, expected, "{on:?} {exit:?}");
    }
}

#[test]
fn a_callback_that_takes_too_long_is_killed_and_repeated() {
    let mut world = World::up(1);
    world.submit(vec![with_callback(On::Done)]);
    world.settle();
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    world.advance(60 * SECOND);
    assert_eq!(world.signals.last().map(|(_, sent)| *sent), Some(Sent::Kill));
    run_callback(&mut world, 1, Exit::Signal { signal: 9, core: false });
    world.advance(SECOND);
    run_callback(&mut world, 1, EXITED);
    assert_eq!(world.delivery(1).0, Delivery::Delivered);
    world.assert_idle();
}

#[test]
fn a_callback_whose_worker_dies_is_run_again() {
    let mut world = World::up(1);
    world.submit(vec![with_callback(On::Done)]);
    world.settle();
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    world.worker_lost(world.slot_of(Unit::Callback(CallbackId(1))));
    world.settle();
    world.advance(SECOND);
    run_callback(&mut world, 1, EXITED);
    assert_eq!(world.delivery(1).1, 2);
    world.assert_idle();
}

#[test]
fn a_slow_callback_holds_up_no_job() {
    let mut world = World::up(1);
    world.submit(vec![with_callback(On::Done), work()]);
    world.settle();
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    assert_eq!(world.state(2), State::Succeeded);
}

// ---- the end ----

#[test]
fn a_drain_accepts_nothing_more_and_ends_after_the_last_callback() {
    let mut world = World::up(1);
    world.submit(vec![with_callback(On::Done), work()]);
    world.settle();
    world.drain();
    let call = world.submit(vec![work()]);
    assert_eq!(refused(world.replies(call).first()), &Refusal::Draining {});
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    assert!(!world.exited, "the callback still runs");
    run_callback(&mut world, 1, Exit::Code(1));
    assert!(!world.exited, "it is to be repeated");
    world.advance(SECOND);
    run_callback(&mut world, 1, EXITED);
    assert!(world.exited);
}

#[test]
fn a_stop_ends_what_runs_and_leaves_the_queue_for_the_next_start() {
    let mut world = World::up(2);
    world.submit(vec![work(), work(), work()]);
    world.settle();
    world.attempt_started(slot(0));
    world.attempt_started(slot(1));
    world.handle(Event::Stop);
    assert_eq!((sent_to(&world, 1), sent_to(&world, 2)), (vec![Sent::Terminate], vec![Sent::Terminate]));
    // One ends well at SIGTERM, the other has to be killed: both were interrupted.
    world.attempt_ended(slot(0), EXITED);
    world.advance(5 * SECOND);
    assert_eq!(sent_to(&world, 2), [Sent::Terminate, Sent::Kill]);
    world.attempt_ended(slot(1), Exit::Signal { signal: 9, core: false });
    world.settle();
    assert!(world.exited);
    assert_eq!([1, 2, 3].map(|id| world.state(id)), [State::Queued; 3]);
    assert_eq!([1, 2].map(|id| world.record(id).crashes), [0; 2], "an orderly end is no crash");
    world.crash();
    world.settle();
    assert_eq!(world.running_jobs(), [1, 2]);
}

#[test]
fn a_second_stop_hurries() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    world.attempt_started(slot(0));
    world.handle(Event::Stop);
    world.handle(Event::Stop);
    assert_eq!(sent_to(&world, 1), [Sent::Terminate, Sent::Kill]);
}

#[test]
fn a_stop_does_not_wait_for_a_store_that_cannot_be_written() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    world.attempt_ended(slot(0), EXITED);
    world.set_disk_full(true);
    world.answer_step();
    world.handle(Event::Stop);
    assert!(world.exited);
}

#[test]
fn whoever_waits_for_a_queued_job_at_the_end_is_told_so() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    let call = submit_attached(&mut world, work(), OnDisconnect::Detach);
    world.attempt_started(slot(0));
    world.handle(Event::Stop);
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    assert!(world.exited);
    assert_eq!(refused(world.replies(call).last()), &Refusal::ShuttingDown {});
}

// ---- configuration ----

#[test]
fn a_pool_grows_and_shrinks_without_ending_what_runs() {
    let mut world = World::up(1);
    world.submit(vec![work(); 4]);
    world.settle();
    world.reread(settings(3));
    world.settle();
    assert_eq!(world.running_jobs(), [1, 2, 3]);
    world.reread(settings(1));
    world.settle();
    assert_eq!(world.running_jobs(), [1, 2, 3]);
    world.attempt_ended(slot(2), EXITED);
    world.settle();
    assert!(!world.workers.contains_key(&slot(2)));
    world.attempt_ended(slot(0), EXITED);
    assert_eq!(world.running_jobs(), [4, 2]);
    world.reread(settings(3));
    world.settle();
    assert!(world.workers.contains_key(&slot(2)), "a slot that was given up is filled again");
}

#[test]
fn a_pool_that_has_gone_keeps_its_queue_and_takes_it_up_when_it_is_back() {
    let mut world = World::up(1);
    let other = SlotId { lane: LaneId::Pool(PoolId(1)), index: 0 };
    world.submit(vec![Work { pool: "other".into(), ..work() }; 2]);
    world.settle();
    let mut without = settings(1);
    without.pool.remove("other");
    world.reread(without);
    world.attempt_ended(other, EXITED);
    world.settle();
    assert_eq!((world.running_jobs(), world.state(2)), (vec![], State::Queued));
    world.reread(settings(1));
    world.settle();
    assert_eq!(world.running_jobs(), [2]);
}

#[test]
fn a_new_pool_has_slots_of_its_own() {
    let mut world = World::up(1);
    let mut more = settings(1);
    more.pool.insert("third".to_owned(), pool(2));
    world.reread(more);
    world.settle();
    world.submit(vec![Work { pool: "third".into(), ..work() }]);
    world.settle();
    assert_eq!(world.running()[0].0, SlotId { lane: LaneId::Pool(PoolId(2)), index: 0 });
}

#[test]
fn a_page_of_the_queue_that_comes_late_brings_nothing_back_that_was_canceled() {
    let mut world = World::up(1);
    let count = WINDOW as u64 + 100;
    world.submit(vec![work(); count as usize]);
    world.settle();
    // The window runs low, and the next page is on its way when a job on it is canceled.
    while !world.is_fetching() {
        world.attempt_ended(slot(0), EXITED);
        if !world.is_fetching() {
            world.settle();
        }
    }
    while world.store_step() {}
    world.cancel(&[count]);
    while !world.delayed().answers.iter().any(|told| matches!(told, Told::Answer(Answer::Got { .. }))) {
        world.store_step();
    }
    world.settle();
    assert_eq!(world.state(count), State::Canceled);
    while !world.running().is_empty() {
        world.attempt_ended(slot(0), EXITED);
        world.settle();
    }
    world.assert_idle();
}

#[test]
fn a_queue_that_is_full_takes_nothing_of_a_batch_and_goes_on_when_there_is_room() {
    let limits = Config { max_queued: 3, ..settings(1) };
    let mut world = World::new(limits);
    world.submit(vec![work(); 2]);
    // Two are on their way to the store, and count.
    let call = world.submit(vec![work(); 2]);
    assert_eq!(
        refused(world.replies(call).first()),
        &Refusal::QueueFull { pool: "default".to_owned(), limit: 3 }
    );
    let call = world.submit(vec![Work { pool: "other".into(), ..work() }; 3]);
    world.settle_store();
    assert!(
        matches!(world.replies(call), [Heard::Accepted { ids, .. }] if ids.len() == 3),
        "each pool has its own"
    );
    world.submit(vec![work()]);
    world.store_refuses();
    world.settle_store();
    let call = world.submit(vec![work()]);
    world.settle_store();
    assert!(
        matches!(world.replies(call), [Heard::Accepted { ids, .. }] if ids.len() == 1),
        "what was refused takes no room"
    );
    world.cancel(&[1]);
    world.settle_store();
    let call = world.submit(vec![work()]);
    world.settle_store();
    assert!(world.is_answered(call) && matches!(world.replies(call), [Heard::Accepted { .. }]));
}
