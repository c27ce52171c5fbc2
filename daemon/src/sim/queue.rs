//! Stories about the order of a queue, and about attempts that fail and are followed by others.

use std::time::Duration;

use pool_proto::State;
use pool_proto::nouns::{On, OnCrash, OnDisconnect};

use super::clients::Heard;
use super::specs::{EXITED, SECOND, call, mixed, settings, work};
use super::workers::run_callback;
use super::world::{DEFAULT, WARM, World};
use crate::core::{Event, LaneId, PoolId, SlotId};
use crate::engine::WINDOW;
use crate::job::{Exit, ExitCodes, JobId, NewCallback, Retries, Stage, Tie, Unit, Work};

const SLOT: SlotId = SlotId { lane: DEFAULT, index: 0 };

fn of_priority(priority: i32) -> Work {
    Work { priority, ..work() }
}

pub fn retried(allowed: u32) -> Work {
    Work { retries: Retries::new(allowed, SECOND), ..work() }
}

/// Runs what is to run in the one slot, to its end; ids in the order of the starts.
fn run_all(world: &mut World) -> Vec<u64> {
    let mut order = Vec::new();
    while let Some(&id) = world.running_jobs().first() {
        order.push(id);
        world.attempt_ended(SLOT, EXITED);
        world.settle();
    }
    order
}

fn fail(world: &mut World) {
    world.attempt_ended(SLOT, Exit::Code(1));
    world.settle();
}

fn pass(world: &mut World, time: Duration) {
    world.advance(time);
    world.settle();
}

#[test]
fn the_highest_priority_goes_first_and_equal_ones_in_order() {
    let mut world = World::up(1);
    world.submit(vec![of_priority(0)]);
    world.settle();
    world.submit([0, -5, 7, 0, 7].map(of_priority).to_vec());
    world.settle();
    assert_eq!(run_all(&mut world), [1, 4, 6, 2, 5, 3]);
    world.assert_idle();
}

#[test]
fn a_job_overtakes_a_queue_that_is_longer_than_the_window() {
    let mut world = World::up(1);
    let count = WINDOW as u64 + 100;
    world.submit(vec![of_priority(0); count as usize]);
    world.settle();
    // More of them than the window holds: what was in it goes back to the store.
    world.submit(vec![of_priority(1); WINDOW + 10]);
    world.settle();
    world.submit(vec![of_priority(2), of_priority(-1)]);
    world.settle();
    let (urgent, last) = (count + WINDOW as u64 + 11, count + WINDOW as u64 + 12);
    let wanted = [1, urgent].into_iter().chain(count + 1..urgent).chain(2..=count).chain([last]);
    assert_eq!(run_all(&mut world), wanted.collect::<Vec<u64>>());
    world.assert_idle();
}

#[test]
fn what_is_pushed_out_while_a_page_is_fetched_is_fetched_again() {
    let mut world = World::up(1);
    let count = WINDOW as u64 + 100;
    world.submit(vec![of_priority(0); count as usize]);
    world.settle();
    while !world.is_fetching() {
        world.attempt_ended(SLOT, EXITED);
        while world.answer_step() {}
        if !world.is_fetching() {
            world.settle();
        }
    }
    let running = world.running_jobs();
    world.submit(vec![of_priority(1); WINDOW + 10]);
    world.settle();
    assert_eq!(world.running_jobs(), running);
    let first = *running.first().expect("one runs");
    let urgent = count + 1..=count + WINDOW as u64 + 10;
    let wanted = [first].into_iter().chain(urgent).chain(first + 1..=count);
    assert_eq!(run_all(&mut world), wanted.collect::<Vec<u64>>());
    world.assert_idle();
}

#[test]
fn a_failed_job_is_tried_again_with_growing_pauses_and_then_has_failed() {
    let mut world = World::up(1);
    let callbacks = vec![NewCallback { on: On::Failure, command: "callback".into() }];
    let call = world.submit_and_wait(&Work { callbacks, ..retried(2) }, OnDisconnect::Detach);
    world.submit(vec![work()]);
    world.settle();
    fail(&mut world);
    assert_eq!((world.state(1), world.running_jobs()), (State::Retrying, vec![2]), "others go on meanwhile");
    world.attempt_ended(SLOT, EXITED);
    pass(&mut world, SECOND - Duration::from_millis(1));
    assert_eq!(world.running(), []);
    pass(&mut world, Duration::from_millis(1));
    assert_eq!(world.running_jobs(), [1]);
    fail(&mut world);
    pass(&mut world, SECOND);
    assert_eq!(world.running(), [], "the second pause is twice as long");
    pass(&mut world, SECOND);
    fail(&mut world);
    assert_eq!((world.state(1), world.record(1).attempt), (State::Failed, 3));
    let starts = world.replies(call).iter().filter(|reply| matches!(reply, Heard::Started { .. })).count();
    assert!(
        starts == 3 && world.is_answered(call),
        "its client is told of each start, and of one end: {:?}",
        world.replies(call)
    );
    run_callback(&mut world, 1, EXITED);
    assert_eq!(world.delivery(1).1, 1, "its callback runs once");
    world.assert_idle();
}

#[test]
fn a_job_that_succeeds_in_the_end_has_succeeded_whatever_failed_before() {
    let mut world = World::up(1);
    let job = Work { timeout: Some(SECOND), ..retried(5) };
    world.submit(vec![job]);
    world.settle();
    // It times out, it cannot be executed, and then it works.
    pass(&mut world, SECOND);
    world.attempt_ended(SLOT, Exit::Signal { signal: 15, core: false });
    world.settle();
    pass(&mut world, SECOND);
    world.attempt_failed(SLOT, Stage::Exec, libc::ENOENT);
    world.settle();
    assert_eq!(world.state(1), State::Retrying);
    pass(&mut world, 2 * SECOND);
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    let record = world.record(1);
    assert_eq!((record.state, record.attempt, record.retried), (State::Succeeded, 3, 2));
    world.assert_idle();
}

#[test]
fn a_job_that_waits_for_its_next_attempt_is_canceled_like_any_other() {
    let mut world = World::up(1);
    world.submit(vec![retried(1)]);
    world.submit(vec![Work { tie: Some(Tie::Job(JobId(1))), ..retried(1) }]);
    world.settle();
    fail(&mut world);
    fail(&mut world);
    assert_eq!((world.state(1), world.state(2)), (State::Retrying, State::Retrying));
    let call = world.cancel(&[1]);
    world.settle();
    assert_eq!(
        (world.state(1), world.state(2)),
        (State::Canceled, State::Canceled),
        "and takes along what is tied to it"
    );
    assert!(world.is_answered(call));
    pass(&mut world, SECOND);
    world.assert_idle();
}

#[test]
fn the_pause_survives_the_daemon_and_a_drain_waits_for_what_follows() {
    let mut world = World::up(1);
    world.submit(vec![retried(1)]);
    world.settle();
    fail(&mut world);
    world.crash();
    world.settle();
    assert_eq!(world.running(), []);
    world.drain();
    assert!(!world.exited);
    pass(&mut world, SECOND);
    assert_eq!(world.running_jobs(), [1]);
    fail(&mut world);
    assert_eq!(world.state(1), State::Failed);
    assert!(world.exited);
}

#[test]
fn a_timeout_that_the_daemon_did_not_live_to_see_is_followed_by_another_attempt() {
    let mut world = World::up(1);
    world.submit(vec![Work { timeout: Some(SECOND), ..retried(1) }]);
    world.settle();
    world.attempt_started(SLOT);
    world.settle();
    pass(&mut world, SECOND);
    world.crash();
    world.settle();
    assert_eq!(world.state(1), State::Retrying);
    pass(&mut world, SECOND);
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    assert_eq!(world.state(1), State::Succeeded);
    world.assert_idle();
}

#[test]
fn a_crash_uses_up_no_retry_and_is_not_repeated_where_it_must_not_be() {
    let mut world = World::up(1);
    world.submit(vec![Work { on_crash: OnCrash::Fail, ..retried(5) }]);
    world.settle();
    fail(&mut world);
    pass(&mut world, SECOND);
    assert_eq!(world.running_jobs(), [1], "it failed by itself, which is known");
    world.worker_died(SLOT, false);
    world.settle();
    assert_eq!(world.state(1), State::Failed, "what it has done when its worker died is not");
    world.assert_idle();
}

#[test]
fn a_call_is_tried_again_after_an_error_before_others_of_its_priority() {
    let mut world = World::new(mixed(1));
    world.settle();
    let slot = SlotId { lane: WARM, index: 0 };
    world.submit(vec![Work { retries: Retries::new(1, Duration::ZERO), ..call() }, call(), call()]);
    world.settle();
    world.answered(slot, Err("{\"code\":1,\"message\":\"no\"}"));
    world.settle();
    pass(&mut world, Duration::ZERO);
    assert_eq!(world.slot_of(Unit::Job(JobId(2))), slot, "the next one has begun already");
    world.answered(slot, Ok("1"));
    world.settle();
    assert_eq!(world.running_jobs(), [1]);
    world.answered(slot, Ok("1"));
    world.settle();
    let record = world.record(1);
    assert_eq!((record.state, record.attempt), (State::Succeeded, 2));
}

#[test]
fn a_pool_that_is_gone_keeps_what_waits_for_its_next_attempt() {
    let mut world = World::up(1);
    let other = SlotId { lane: LaneId::Pool(PoolId(1)), index: 0 };
    world.submit(vec![Work { pool: "other".into(), ..retried(1) }]);
    world.settle();
    world.attempt_ended(other, Exit::Code(1));
    world.settle();
    let mut without = settings(1);
    without.pool.clear();
    world.config = without;
    world.crash();
    world.settle();
    pass(&mut world, SECOND);
    assert_eq!(world.running(), []);
    world.reread(settings(1));
    world.settle();
    assert_eq!(world.running_jobs(), [1]);
    world.attempt_ended(other, EXITED);
    world.settle();
    world.assert_idle();
}

/// Nothing of it has run, and nobody was told of it: the job is what it was.
#[test]
fn a_retry_that_its_worker_never_got_is_still_a_retry_and_says_why() {
    let mut world = World::up(1);
    world.submit(vec![retried(1)]);
    world.settle();
    fail(&mut world);
    let reason = world.record(1).reason;
    assert!(reason.is_some());

    pass(&mut world, SECOND);
    assert_eq!(world.running_jobs(), [1]);
    world.worker_died(SLOT, true);
    world.settle_store();
    assert_eq!((world.state(1), world.record(1).reason), (State::Retrying, reason));

    world.settle();
    assert_eq!(world.running_jobs(), [1], "it is tried with the next worker");
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    let record = world.record(1);
    assert_eq!((record.state, record.attempt, record.crashes), (State::Succeeded, 2, 0));
    world.assert_idle();
}

#[test]
fn a_stop_gives_back_what_was_offered_before_it_exits() {
    let mut world = World::up(1);
    world.submit(vec![Work { on_crash: OnCrash::Fail, ..work() }; 6]);
    world.store_steps(3);
    world.answer_step();
    assert!(world.is_claiming(), "the first one has a slot, and its worker does not have it yet");
    world.handle(Event::Stop);
    assert!(world.exited, "nothing runs");
    while world.store_step() {}
    world.crash();
    world.settle();
    assert_eq!(run_all(&mut world), [1, 2, 3, 4, 5, 6]);
    world.assert_idle();
}

#[test]
fn what_is_beyond_the_window_takes_the_first_slot_after_it_has_been_read() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    world.submit(vec![work(); 3]);
    world.settle();
    assert_eq!(world.running_jobs(), [2]);

    // More than the window holds, and all of them end as soon as they are there: job 1 has ended.
    world.submit(vec![Work { tie: Some(Tie::Job(JobId(1))), ..of_priority(1) }; WINDOW + 50]);
    world.submit(vec![of_priority(1)]);
    for _ in 0..2 {
        world.store_step();
    }
    for _ in 0..2 {
        world.answer_step();
    }
    world.attempt_ended(SLOT, EXITED);
    assert_eq!(world.running_jobs(), [3], "it was offered before");
    world.settle();
    let urgent = 5 + WINDOW as u64 + 50;
    assert_eq!(run_all(&mut world), [3, urgent, 4]);
    world.assert_idle();
}

#[test]
fn only_some_exit_codes_are_followed_by_another_attempt() {
    let on = ExitCodes::parse("75,100-110,137").expect("they are codes");
    let job = || Work { retries: Retries { on, ..Retries::new(5, SECOND) }, ..work() };
    for (exit, state) in [
        (Exit::Code(75), State::Retrying),
        (Exit::Code(105), State::Retrying),
        (Exit::Signal { signal: 9, core: false }, State::Retrying),
        (Exit::Code(1), State::Failed),
        (Exit::Signal { signal: 15, core: false }, State::Failed),
    ] {
        let mut world = World::up(1);
        world.submit(vec![job()]);
        world.settle();
        world.attempt_ended(SLOT, exit);
        world.settle();
        assert_eq!(world.state(1), state, "after {exit:?}");
    }
}

#[test]
fn a_timeout_is_an_exit_code_as_well() {
    for (codes, state) in [("124", State::Retrying), ("1", State::TimedOut)] {
        let on = ExitCodes::parse(codes).expect("it is a code");
        let retries = Retries { on, ..Retries::new(1, SECOND) };
        let mut world = World::up(1);
        world.submit(vec![Work { retries, timeout: Some(SECOND), ..work() }]);
        world.settle();
        super::workers::begin(&mut world, 1);
        pass(&mut world, SECOND);
        world.attempt_ended(SLOT, Exit::Signal { signal: 15, core: false });
        world.settle();
        assert_eq!(world.state(1), state, "retried on {codes}");
    }
}

#[test]
fn jobs_that_fail_together_are_not_tried_again_together() {
    let mut world = World::up(1);
    let retries = Retries { jitter: 1000, ..Retries::new(1, 10 * SECOND) };
    world.submit(vec![Work { retries, ..work() }; 8]);
    world.settle();
    for _ in 0..8 {
        fail(&mut world);
    }
    let due: Vec<String> = (1..=8).filter_map(|id| world.record(id).due_at).collect();
    let distinct: std::collections::BTreeSet<&String> = due.iter().collect();
    assert_eq!((due.len(), distinct.len()), (8, 8), "{due:?}");
    pass(&mut world, 10 * SECOND - Duration::from_millis(1));
    assert_eq!(world.running(), [], "none waits for less than its backoff");
    pass(&mut world, 10 * SECOND);
    assert_eq!(run_all(&mut world).len(), 8, "and none for more than twice that");
}
