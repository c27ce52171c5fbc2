//! Stories of deaths: of workers, of callbacks' workers, of the whole daemon.

use std::time::Duration;

use pool_proto::nouns::{On, OnCrash, OnDisconnect, Usage};
use pool_proto::{ResultKind, State};

use super::clients::{Heard, accepted, ends_of};
use super::scenarios::{ended_as, slot, submit_attached};
use super::specs::{EXITED, SECOND, with_callback, work};
use super::workers::{Sent, run_callback, sent_to};
use super::world::World;
use crate::core::Event;
use crate::engine::Delivery;
use crate::job::{CallbackId, Ended, JobId, Process, ProcessId, Unit, Work};

#[test]
fn a_job_whose_worker_dies_runs_again_before_all_that_came_later_until_the_limit() {
    let mut world = World::up(1);
    let call = submit_attached(&mut world, with_callback(On::Failure), OnDisconnect::Detach);
    world.submit(vec![work()]);
    world.settle();
    for attempt in 1..=3 {
        assert_eq!(world.running_jobs(), [1]);
        world.attempt_started(slot(0));
        assert_eq!(world.replies(call).last(), Some(&Heard::Started { id: JobId(1), attempt }));
        world.worker_lost(slot(0));
        world.settle();
        world.advance(10 * SECOND);
        world.settle();
    }
    let Some(Heard::Ended(record)) = world.replies(call).last() else { panic!("it has ended") };
    assert_eq!(
        (record.state, record.result, record.crashes, record.attempt),
        (State::Lost, Some(ResultKind::Lost), 3, 3)
    );
    assert!(record.reason.as_ref().unwrap().contains("given up after 3 crashes"));
    assert_eq!(world.running_jobs(), [2]);
    assert_eq!(world.delivery(1).0, Delivery::Running);
}

#[test]
fn an_attempt_whose_worker_dies_before_it_can_tell_of_the_start_counts_too() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    for attempt in 1..=3 {
        world.worker_lost(slot(0));
        world.settle();
        assert_eq!(world.record(1).attempt, attempt);
        world.advance(10 * SECOND);
        world.settle();
    }
    assert_eq!(world.state(1), State::Lost);
}

#[test]
fn a_dead_worker_is_replaced_at_once_and_one_that_keeps_dying_ever_later() {
    let mut world = World::up(1);
    world.worker_lost(slot(0));
    assert!(world.workers.contains_key(&slot(0)), "the first death is no condition that lasts");
    world.settle();
    for pause_ms in [50, 100, 200] {
        world.worker_lost(slot(0));
        assert!(!world.workers.contains_key(&slot(0)));
        world.advance(Duration::from_millis(pause_ms));
        world.settle();
    }
    world.submit(vec![work()]);
    world.settle();
    world.attempt_ended(slot(0), EXITED);
    world.worker_lost(slot(0));
    assert!(world.workers.contains_key(&slot(0)), "it has worked in between");
}

#[test]
fn reports_of_an_attempt_that_is_over_are_ignored() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    let (_, stale) = world.running()[0];
    world.worker_lost(slot(0));
    world.settle();
    assert_eq!(world.running_jobs(), [1]);
    let ended = |exit| {
        let usage = Usage::default();
        Ended {
            exit,
            usage,
            stdout_bytes: 0,
            stderr_bytes: 0,
            disk_bytes: 0,
            ended_us: 0,
            ended_since_boot_us: 0,
            verdict: None,
        }
    };
    world.handle(Event::Started {
        slot: slot(0),
        claim: stale,
        process: Process { pid: ProcessId::new(1), start_ticks: None },
        started_us: 0,
        memory_limiter: None,
    });
    world.handle(Event::Ended { slot: slot(0), claim: stale, ended: ended(EXITED) });
    world.settle();
    assert_eq!((world.state(1), world.running_jobs()), (State::Queued, vec![1]));
}

#[test]
fn a_restart_takes_up_everything_where_it_was() {
    let mut world = World::up(2);
    world.submit(vec![with_callback(On::Done); 5]);
    world.settle();
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    world.attempt_started(slot(0));
    world.settle();
    // 1 has ended and its callback runs, 2 has been given out but not started, 3 runs, 4 and 5 wait.
    world.crash();
    assert_eq!(world.record(3).state, State::Running);
    world.settle();
    assert_eq!(world.running_jobs(), [2, 3]);
    assert_eq!((world.record(2).crashes, world.record(3).crashes), (0, 1));
    assert_eq!(
        world.running().last().map(|(_, claim)| claim.attempt),
        Some(2),
        "the callback's second attempt"
    );
    run_callback(&mut world, 1, EXITED);
    let call = world.submit(vec![work()]);
    world.settle();
    assert_eq!(world.replies(call), [accepted(6, 1)]);
}

#[test]
fn a_job_that_was_being_ended_at_the_crash_is_not_run_again() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    world.attempt_started(slot(0));
    world.cancel(&[1]);
    world.settle();
    world.crash();
    world.settle();
    assert_eq!(world.state(1), State::Canceled);
    world.assert_idle();
}

#[test]
fn a_job_that_crashes_the_daemon_each_time_is_given_up() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    for _ in 0..3 {
        world.settle();
        world.attempt_started(slot(0));
        world.settle();
        world.crash();
    }
    world.settle();
    assert_eq!((world.state(1), world.record(1).crashes), (State::Lost, 3));
    world.assert_idle();
}

#[test]
fn an_attempt_that_its_dead_worker_never_got_does_not_count() {
    let mut world = World::up(1);
    world.submit(vec![work(); 2]);
    world.settle();
    world.worker_died(slot(0), true);
    world.settle();
    let record = world.record(1);
    assert_eq!((record.attempt, record.crashes, world.running_jobs()), (0, 0, vec![1]));
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    assert_eq!(world.state(1), State::Succeeded);
}

#[test]
fn a_worker_that_does_not_do_as_it_is_told_is_killed() {
    let mut world = World::up(1);
    let call = submit_attached(
        &mut world,
        Work { timeout: Some(SECOND), kill_after: SECOND, ..work() },
        OnDisconnect::Detach,
    );
    world.attempt_started(slot(0));
    world.advance(SECOND);
    world.advance(SECOND);
    assert_eq!(sent_to(&world, 1), [Sent::Terminate, Sent::Kill]);
    world.advance(4 * SECOND);
    assert!(world.killed_workers.is_empty());
    world.advance(SECOND);
    assert!(world.killed_workers.contains(&slot(0)));
    world.worker_lost(slot(0));
    world.settle();
    assert_eq!(ended_as(world.replies(call).last()), (State::TimedOut, Some(ResultKind::Timeout)));
    world.assert_idle();
}

#[test]
fn a_worker_that_never_tells_of_the_start_does_not_escape_the_timeout() {
    let mut world = World::up(1);
    let call = submit_attached(
        &mut world,
        Work { timeout: Some(SECOND), kill_after: SECOND, ..work() },
        OnDisconnect::Detach,
    );
    world.advance(11 * SECOND);
    assert_eq!(sent_to(&world, 1), [Sent::Terminate]);
    world.advance(SECOND);
    world.advance(5 * SECOND);
    assert!(world.killed_workers.contains(&slot(0)));
    world.worker_lost(slot(0));
    world.settle();
    assert_eq!(ended_as(world.replies(call).last()), (State::TimedOut, Some(ResultKind::Timeout)));
}

#[test]
fn a_callbacks_worker_that_hangs_is_killed() {
    let mut world = World::up(1);
    world.submit(vec![with_callback(On::Done)]);
    world.settle();
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    let callback = world.slot_of(Unit::Callback(CallbackId(1)));
    world.advance(60 * SECOND);
    world.advance(5 * SECOND);
    assert!(world.killed_workers.contains(&callback));
    world.worker_lost(callback);
    world.settle();
    world.advance(SECOND);
    run_callback(&mut world, 1, EXITED);
    world.assert_idle();
}

#[test]
fn an_end_that_was_kept_on_a_full_disk_is_told_to_those_who_have_come_meanwhile() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    world.set_disk_full(true);
    world.attempt_ended(slot(0), EXITED);
    let call = world.wait(ends_of(&[1]));
    world.settle();
    assert!(!world.is_answered(call), "it is not written yet");
    world.set_disk_full(false);
    world.settle();
    assert!(world.is_answered(call));
}

#[test]
fn a_job_that_a_start_on_a_full_disk_finds_interrupted_runs_when_there_is_room() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    world.attempt_started(slot(0));
    world.settle();
    world.set_disk_full(true);
    world.crash();
    world.settle();
    world.set_disk_full(false);
    world.settle();
    assert_eq!(world.running_jobs(), [1]);
}

/// A worker is forked at once, so its slot is free again in the turn in which the last one's death is told.
#[test]
fn a_job_whose_worker_dies_runs_again_first_though_the_next_worker_is_there_at_once() {
    for on_crash in [OnCrash::Requeue, OnCrash::Fail] {
        let mut world = World::up(1);
        world.spawns_at_once = true;
        world.submit(vec![work(), Work { on_crash, ..work() }, work()]);
        world.settle();
        world.attempt_started(slot(0));
        world.worker_lost(slot(0));
        world.settle();
        assert_eq!(world.running_jobs(), [1], "{on_crash:?}");
    }
}
