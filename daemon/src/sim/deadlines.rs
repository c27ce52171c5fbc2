//! Stories of deadlines: a job is over by then, wherever it is.

use std::time::Duration;

use pool_proto::nouns::{IfExists, On, OnCrash, OnDisconnect};
use pool_proto::{ResultKind, State};

use super::queue::retried;
use super::scenarios::{ended_as, submit_attached};
use super::specs::{EXITED, SECOND, call, mixed, settings, work};
use super::workers::{Sent, begin, end_as, run_callback, sent_to};
use super::world::{DEFAULT, World};
use crate::core::SlotId;
use crate::core::jobs::outcome::{PAST_DEADLINE, TOO_LATE};
use crate::engine::Delivery;
use crate::job::{Conditions, Exit, NewCallback, NotBefore, Retries, Stage, Unique, Work};

const TIMED_OUT: (State, Option<ResultKind>) = (State::TimedOut, Some(ResultKind::Timeout));

fn within(deadline: Duration) -> Work {
    Work { deadline: Some(deadline), ..work() }
}

fn submit(world: &mut World, work: Work) {
    world.submit(vec![work]);
    world.settle();
}

fn pass(world: &mut World, time: Duration) {
    world.advance(time);
    world.settle();
}

/// It has ended by its deadline, and says so.
fn assert_past_deadline(world: &World, id: u64) {
    let record = world.record(id);
    assert_eq!((record.state, record.result), TIMED_OUT, "job {id}");
    assert_eq!(record.reason.as_deref(), Some(PAST_DEADLINE), "job {id}");
}

#[test]
fn a_queued_job_ends_by_its_deadline_and_its_callbacks_run() {
    let mut world = World::up(1);
    submit(&mut world, work());
    let callbacks = vec![NewCallback { on: On::Failure, command: "callback".into() }];
    let waiter = submit_attached(&mut world, Work { callbacks, ..within(5 * SECOND) }, OnDisconnect::Detach);
    pass(&mut world, 5 * SECOND - Duration::from_millis(1));
    assert_eq!(world.state(2), State::Queued);
    pass(&mut world, Duration::from_millis(1));
    assert_eq!(ended_as(world.replies(waiter).last()), TIMED_OUT);
    assert_past_deadline(&world, 2);
    run_callback(&mut world, 1, EXITED);
    assert_eq!(world.delivery(1).0, Delivery::Delivered);
    end_as(&mut world, 1, EXITED);
    world.assert_idle();
}

#[test]
fn a_running_job_is_ended_as_at_its_timeout_and_not_tried_again() {
    let mut world = World::up(1);
    submit(&mut world, Work { kill_after: SECOND, deadline: Some(3 * SECOND), ..retried(5) });
    begin(&mut world, 1);
    pass(&mut world, 3 * SECOND);
    assert_eq!((world.state(1), sent_to(&world, 1)), (State::Stopping, vec![Sent::Terminate]));
    pass(&mut world, SECOND);
    assert_eq!(sent_to(&world, 1), [Sent::Terminate, Sent::Kill]);
    end_as(&mut world, 1, Exit::Signal { signal: 9, core: false });
    assert_past_deadline(&world, 1);
    world.assert_idle();
}

/// Its timeout has come first, and another attempt would follow.
#[test]
fn an_attempt_that_is_being_ended_already_is_the_last_one() {
    for is_killed in [false, true] {
        let mut world = World::up(1);
        let timeout = Some(SECOND);
        submit(
            &mut world,
            Work { timeout, kill_after: 2 * SECOND, deadline: Some(4 * SECOND), ..retried(5) },
        );
        begin(&mut world, 1);
        pass(&mut world, if is_killed { SECOND } else { Duration::from_millis(2500) });
        assert_eq!(sent_to(&world, 1), [Sent::Terminate]);
        pass(&mut world, 3 * SECOND);
        end_as(&mut world, 1, Exit::Signal { signal: 15, core: false });
        assert_past_deadline(&world, 1);
        world.assert_idle();
    }
}

#[test]
fn a_client_that_cancels_what_has_timed_out_is_heard() {
    let mut world = World::up(1);
    submit(&mut world, Work { timeout: Some(SECOND), ..retried(5) });
    begin(&mut world, 1);
    pass(&mut world, SECOND);
    let canceled = world.cancel(&[1]);
    world.settle();
    end_as(&mut world, 1, Exit::Signal { signal: 15, core: false });
    assert!(world.is_answered(canceled), "it is not tried again");
    assert_eq!(world.state(1), State::Canceled);
    world.assert_idle();
}

#[test]
fn what_is_held_retrying_or_waits_for_another_ends_by_its_deadline() {
    let mut world = World::up(3);
    submit(&mut world, Work { on_crash: OnCrash::Hold, ..within(20 * SECOND) });
    begin(&mut world, 1);
    world.crash();
    world.settle();
    assert_eq!(world.state(1), State::Held);
    let retries = Retries::new(3, 100 * SECOND);
    submit(&mut world, Work { retries, ..within(10 * SECOND) });
    begin(&mut world, 2);
    end_as(&mut world, 2, Exit::Code(1));
    assert_eq!(world.state(2), State::Retrying);
    let unique = Some(Unique { name: "nightly".into(), if_exists: IfExists::Queue });
    submit(&mut world, Work { unique: unique.clone(), ..work() });
    submit(&mut world, Work { unique: unique.clone(), ..within(10 * SECOND) });
    submit(&mut world, Work { unique, ..work() });

    pass(&mut world, 10 * SECOND);
    assert_past_deadline(&world, 2);
    assert_past_deadline(&world, 4);
    assert_eq!((world.state(1), world.record(5).waits_for), (State::Held, Some(3)));
    pass(&mut world, 10 * SECOND);
    assert_past_deadline(&world, 1);
    end_as(&mut world, 3, EXITED);
    end_as(&mut world, 5, EXITED);
    while world.next_deadline().is_some() {
        pass(&mut world, 100 * SECOND);
    }
    world.assert_idle();
}

#[test]
fn calls_have_deadlines_in_memory_too() {
    let mut world = World::new(mixed(1));
    world.settle();
    for volatile in [true, false] {
        let first = world.submit(vec![Work { volatile, ..call() }]);
        let call = Work { volatile, deadline: Some(2 * SECOND), ..call() };
        let batch = world.submit_batch(vec![call.clone(), call.clone()]);
        world.settle();
        let [id] = world.running_jobs()[..] else { panic!("one runs") };
        pass(&mut world, SECOND);
        let later = world.submit_batch(vec![call]);
        world.settle();
        pass(&mut world, SECOND);
        assert!(world.is_answered(batch) && !world.is_answered(later), "volatile: {volatile}");
        for id in [id + 1, id + 2] {
            assert_past_deadline(&world, id);
        }
        pass(&mut world, SECOND);
        assert!(world.is_answered(later));
        end_as(&mut world, id, EXITED);
        assert!(world.is_answered(first));
    }
    world.assert_idle();
}

#[test]
fn a_deadline_that_is_over_when_the_job_is_kept_is_not_missed() {
    let mut world = World::up(1);
    submit(&mut world, work());
    world.submit(vec![within(SECOND)]);
    submit(&mut world, within(2 * SECOND));
    // The next one is kept late: others whose deadlines are later have been looked for.
    world.submit(vec![within(Duration::from_millis(500))]);
    world.advance(3 * SECOND);
    world.settle();
    for id in [2, 3, 4] {
        assert_past_deadline(&world, id);
    }
    end_as(&mut world, 1, EXITED);
    world.assert_idle();
}

#[test]
fn more_than_are_asked_for_at_once_end_all() {
    let mut world = World::up(1);
    submit(&mut world, work());
    const COUNT: usize = 900;
    for _ in 0..5 {
        world.submit(vec![within(SECOND); COUNT / 5]);
    }
    world.settle();
    pass(&mut world, SECOND);
    for id in 2..COUNT as u64 + 2 {
        assert_past_deadline(&world, id);
    }
    end_as(&mut world, 1, EXITED);
    world.assert_idle();
}

#[test]
fn a_crash_at_any_step_loses_no_deadline_and_tries_nothing_again() {
    for is_running in [false, true] {
        for steps in 0..8 {
            let mut world = World::up(1);
            if !is_running {
                submit(&mut world, work());
            }
            submit(&mut world, Work { deadline: Some(2 * SECOND), ..retried(3) });
            let id = if is_running { 1 } else { 2 };
            if is_running {
                begin(&mut world, id);
            }
            world.advance(2 * SECOND);
            world.store_steps(steps);
            world.crash();
            world.settle();
            assert_past_deadline(&world, id);
            while let Some(&other) = world.running_jobs().first() {
                assert_ne!(other, id, "after {steps} steps");
                end_as(&mut world, other, EXITED);
            }
            world.assert_idle();
        }
    }
}

#[test]
fn a_clock_that_is_set_does_not_matter_while_poold_runs() {
    set_the_clock_with_deadlines_under_way(|_| ());
}

#[test]
fn a_clock_that_is_set_does_not_matter_to_the_next_start_of_the_same_boot() {
    set_the_clock_with_deadlines_under_way(|world| {
        world.crash();
        world.settle();
    });
}

/// Sets the clock by hours between two submissions. `later`: what happens then.
fn set_the_clock_with_deadlines_under_way(later: fn(&mut World)) {
    for hours in [-2, 2] {
        let mut world = World::up(1);
        submit(&mut world, work());
        submit(&mut world, within(60 * SECOND));
        world.now.wall_us += hours * 3_600_000_000;
        submit(&mut world, within(60 * SECOND));
        pass(&mut world, 40 * SECOND);
        later(&mut world);
        pass(&mut world, 19 * SECOND);
        assert_eq!((world.state(2), world.state(3)), (State::Queued, State::Queued));
        pass(&mut world, SECOND);
        assert_past_deadline(&world, 2);
        assert_past_deadline(&world, 3);
        end_as(&mut world, 1, EXITED);
        world.assert_idle();
    }
}

#[test]
fn a_time_of_the_walls_clock_comes_when_that_clock_says_so() {
    let at = |world: &World, seconds: i64| {
        let us = world.now.wall_us + seconds * 1_000_000;
        let start = Some(NotBefore::At { us });
        Work { conditions: Some(Box::new(Conditions { start, ..Conditions::default() })), ..work() }
    };
    let mut world = World::up(1);
    let job = at(&world, 60);
    submit(&mut world, job);
    // It is set forward, and back again, while poold runs.
    world.now.wall_us += 50_000_000;
    world.set_clock();
    world.settle();
    world.now.wall_us -= 30_000_000;
    world.set_clock();
    world.settle();
    pass(&mut world, 39 * SECOND);
    assert_eq!(world.state(1), State::Scheduled);
    pass(&mut world, SECOND);
    end_as(&mut world, 1, EXITED);

    // And between two lives of poold.
    let job = at(&world, 60);
    submit(&mut world, job);
    world.now.wall_us += 100_000_000;
    world.crash();
    world.settle();
    pass(&mut world, SECOND);
    end_as(&mut world, 2, EXITED);
    world.assert_idle();
}

#[test]
fn on_a_full_disk_a_running_job_is_ended_all_the_same() {
    let mut world = World::up(1);
    submit(&mut world, within(SECOND));
    begin(&mut world, 1);
    world.set_disk_full(true);
    world.settle();
    pass(&mut world, SECOND);
    assert_eq!(sent_to(&world, 1), [Sent::Terminate]);
    end_as(&mut world, 1, Exit::Signal { signal: 15, core: false });
    world.set_disk_full(false);
    world.settle();
    assert_past_deadline(&world, 1);
    world.assert_idle();
}

fn starts_within(start_within: Duration) -> Work {
    Work { start_within: Some(start_within), ..work() }
}

/// It was canceled since it had not begun in time, and says so.
fn assert_late(world: &World, id: u64) {
    let record = world.record(id);
    assert_eq!((record.state, record.result), (State::Canceled, Some(ResultKind::Timeout)), "job {id}");
    assert_eq!((record.reason.as_deref(), record.attempt), (Some(TOO_LATE), 0), "job {id}");
}

#[test]
fn what_has_not_begun_in_time_is_canceled_whatever_it_waits_for() {
    let mut world = World::up(1);
    submit(&mut world, work());
    let held = Conditions { hold: true, ..Conditions::default() };
    submit(&mut world, Work { conditions: Some(Box::new(held)), ..starts_within(SECOND) });
    let delayed = Conditions { start: Some(NotBefore::Delay(5 * SECOND)), ..Conditions::default() };
    submit(&mut world, Work { conditions: Some(Box::new(delayed)), ..starts_within(SECOND) });
    submit(&mut world, starts_within(SECOND));
    pass(&mut world, SECOND - Duration::from_millis(1));
    assert_eq!([2, 3, 4].map(|id| world.state(id)), [State::Held, State::Scheduled, State::Queued]);
    pass(&mut world, Duration::from_millis(1));
    [2, 3, 4].into_iter().for_each(|id| assert_late(&world, id));
    end_as(&mut world, 1, EXITED);
    pass(&mut world, 5 * SECOND);
    world.assert_idle();
}

#[test]
fn what_has_begun_in_time_goes_on_over_a_crash() {
    let mut world = World::up(1);
    submit(&mut world, starts_within(SECOND));
    begin(&mut world, 1);
    pass(&mut world, 2 * SECOND);
    world.crash();
    world.settle();
    assert_eq!(world.running_jobs(), [1]);
    end_as(&mut world, 1, EXITED);
    assert_eq!(world.state(1), State::Succeeded);
    world.assert_idle();
}

#[test]
fn a_start_finds_what_has_not_begun_in_time() {
    let mut world = World::up(1);
    submit(&mut world, work());
    submit(&mut world, starts_within(SECOND));
    world.now.monotonic += 2 * SECOND;
    world.now.wall_us += 2_000_000;
    world.crash();
    world.settle();
    assert_late(&world, 2);
    assert_eq!(world.running_jobs(), [1]);
}

#[test]
fn what_comes_back_without_having_begun_is_canceled_when_its_time_is_over() {
    let mut world = World::up(1);
    submit(&mut world, starts_within(SECOND));
    assert_eq!(world.running_jobs(), [1], "its worker has it");
    pass(&mut world, SECOND);
    assert_eq!(world.state(1), State::Queued, "it may have begun");
    world.attempt_failed(SlotId { lane: DEFAULT, index: 0 }, Stage::Fork, libc::EAGAIN);
    world.settle();
    assert_late(&world, 1);
}

#[test]
fn what_is_ahead_of_its_worker_is_canceled_when_it_comes_back_too_late() {
    let mut world = World::handing_ahead(settings(1));
    world.settle();
    world.submit(vec![work(), work(), starts_within(SECOND)]);
    world.settle();
    end_as(&mut world, 1, EXITED);
    let slot = SlotId { lane: DEFAULT, index: 0 };
    assert!(world.ahead.contains_key(&slot));
    pass(&mut world, SECOND);
    world.give_back(slot);
    world.settle();
    assert_late(&world, 3);
    end_as(&mut world, 2, EXITED);
    world.assert_idle();
}
