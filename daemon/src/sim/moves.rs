//! Stories of jobs that are moved into another pool while they wait.

use pool_proto::nouns::HappeningKind;
use pool_proto::{Refusal, State};

use super::clients::{Heard, refused};
use super::queue::retried;
use super::specs::{EXITED, SECOND, call, mixed, work};
use super::workers::submit;
use super::world::{DEFAULT, World};
use crate::core::SlotId;
use crate::job::{Conditions, Exit, NotBefore, RequestId, Work};

const SLOT: SlotId = SlotId { lane: DEFAULT, index: 0 };

/// Pools of one slot each: "default", "other", and "warm".
fn pools() -> World {
    let mut world = World::new(mixed(1));
    world.settle();
    world
}

fn move_to(world: &mut World, ids: &[u64], pool: &str) -> RequestId {
    let request = world.move_to(ids, pool);
    world.settle();
    request
}

fn end_all(world: &mut World) {
    while !world.running().is_empty() {
        for (slot, _) in world.running() {
            world.attempt_ended(slot, EXITED);
        }
        world.settle();
    }
}

#[test]
fn a_queued_job_starts_where_a_slot_is_free_for_it() {
    let mut world = pools();
    submit(&mut world, vec![work(); 3]);
    let listening = world.listen();
    world.settle();
    assert_eq!(world.running_jobs(), [1]);
    let request = move_to(&mut world, &[3, 1], "other");
    assert_eq!((world.altered_ids(request), world.running_jobs()), ((vec![3], vec![1]), vec![1, 3]));
    assert_eq!(&*world.record(3).pool, "other");
    let heard = world.replies(listening).iter().any(|heard| match heard {
        Heard::Happening(happening) => {
            happening.event == HappeningKind::Requeued
                && happening.id == Some(3)
                && happening.pool.as_deref() == Some("other")
        }
        _ => false,
    });
    assert!(heard);
    world.crash();
    world.settle();
    assert_eq!(&*world.record(3).pool, "other");
    end_all(&mut world);
    world.assert_idle();
    world.assert_empty();
}

#[test]
fn what_waits_waits_on_in_the_other_pool() {
    let mut world = pools();
    let delay = Conditions { start: Some(NotBefore::Delay(SECOND)), ..Conditions::default() };
    let held = Conditions { hold: true, ..Conditions::default() };
    let with = |conditions: &Conditions| Work { conditions: Some(Box::new(conditions.clone())), ..work() };
    submit(&mut world, vec![retried(1), with(&delay), with(&held)]);
    world.attempt_ended(SLOT, Exit::Code(1));
    world.settle();
    let request = move_to(&mut world, &[1, 2, 3], "other");
    assert_eq!(world.altered_ids(request).0, [1, 2, 3]);
    assert_eq!([1, 2, 3].map(|id| world.state(id)), [State::Retrying, State::Scheduled, State::Held]);
    world.advance(SECOND);
    world.settle();
    world.release(&[3]);
    world.settle();
    assert_eq!(world.running_jobs(), [1], "the one slot of that pool");
    end_all(&mut world);
    assert_eq!([1, 2, 3].map(|id| world.state(id)), [State::Succeeded; 3]);
    world.assert_idle();
}

#[test]
fn what_a_pool_cannot_run_stays_where_it_is() {
    let mut world = pools();
    submit(&mut world, vec![work(), work()]);
    submit(&mut world, vec![Work { pool: "warm".into(), ..call() }, Work { pool: "warm".into(), ..call() }]);
    let request = move_to(&mut world, &[2], "warm");
    assert_eq!(world.altered_ids(request), (vec![], vec![2]));
    let waiting = [3, 4].into_iter().find(|id| !world.running_jobs().contains(id)).expect("one slot");
    let request = move_to(&mut world, &[waiting, 9], "default");
    assert_eq!(world.altered_ids(request), (vec![], vec![9, waiting]));
    let request = move_to(&mut world, &[2], "none");
    assert_eq!(refused(world.replies(request).last()), &Refusal::NoSuchPool { pool: "none".to_owned() });
    end_all(&mut world);
    world.assert_idle();
}

#[test]
fn whether_what_is_ahead_is_moved_is_its_workers_word() {
    for is_in_time in [true, false] {
        let mut world = World::handing_ahead(mixed(1));
        world.settle();
        submit(&mut world, vec![work(); 3]);
        world.attempt_ended(SLOT, EXITED);
        world.settle();
        assert!(world.ahead.contains_key(&SLOT), "the slot has job 3 ahead");
        let request = move_to(&mut world, &[3], "other");
        assert!(!world.is_answered(request));
        if is_in_time {
            world.give_back(SLOT);
            world.settle();
            assert_eq!((world.altered_ids(request).0, world.running_jobs()), (vec![3], vec![2, 3]));
        } else {
            world.attempt_ended(SLOT, EXITED);
            world.settle();
            assert_eq!((world.altered_ids(request).1, world.running_jobs()), (vec![3], vec![3]));
        }
        end_all(&mut world);
        world.assert_idle();
        world.assert_empty();
    }
}

#[test]
fn a_job_that_is_named_before_it_is_there_stays_and_runs() {
    let mut world = pools();
    let request = world.move_to(&[1], "other");
    world.submit(vec![work()]);
    world.store_writes(2);
    world.settle();
    assert_eq!((world.altered_ids(request).1, world.running_jobs()), (vec![1], vec![1]));
    assert_eq!(&*world.record(1).pool, "default");
    end_all(&mut world);
    world.assert_idle();
}
