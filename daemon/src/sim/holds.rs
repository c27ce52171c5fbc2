//! Stories of jobs that are held while they wait.

use std::time::Duration;

use pool_proto::State;
use pool_proto::nouns::{HappeningKind, OnCrash};

use super::clients::Heard;
use super::queue::retried;
use super::specs::{EXITED, SECOND, call, mixed, settings, work};
use super::workers::begin;
use super::world::{DEFAULT, World};
use crate::core::SlotId;
use crate::job::{Conditions, Exit, NotBefore, RequestId, Work};

const SLOT: SlotId = SlotId { lane: DEFAULT, index: 0 };

fn hold(world: &mut World, ids: &[u64]) -> RequestId {
    let request = world.hold(ids);
    world.settle();
    request
}

fn held(world: &World, request: RequestId) -> Vec<u64> {
    let (held, others) = world.altered(request);
    assert_eq!(others, []);
    held
}

/// The one slot has job 1; whatever is submitted waits behind it.
fn behind_one(jobs: Vec<Work>) -> World {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    begin(&mut world, 1);
    world.submit(jobs);
    world.settle();
    world
}

fn end(world: &mut World, exit: Exit) {
    world.attempt_ended(SLOT, exit);
    world.settle();
}

#[test]
fn what_is_held_lets_others_go_before_it_and_has_its_old_place_when_it_is_released() {
    let mut world = behind_one(vec![work(); 3]);
    let listening = world.listen();
    world.settle();
    let request = hold(&mut world, &[2, 3, 2]);
    assert_eq!(held(&world, request), [2, 3]);
    assert_eq!([2, 3, 4].map(|id| world.state(id)), [State::Held, State::Held, State::Queued]);
    let happened = world.replies(listening).iter().filter_map(|heard| match heard {
        Heard::Happening(happening) if happening.event == HappeningKind::Held => happening.id,
        _ => None,
    });
    assert_eq!(happened.collect::<Vec<u64>>(), [2, 3]);
    let again = hold(&mut world, &[3]);
    assert_eq!(held(&world, again), [3], "a job that is held is held");

    world.release(&[3]);
    world.settle();
    end(&mut world, EXITED);
    assert_eq!(world.running_jobs(), [3]);
    world.crash();
    world.settle();
    assert_eq!((world.state(2), world.running_jobs()), (State::Held, vec![3]));
    world.release(&[2]);
    world.settle();
    end(&mut world, EXITED);
    assert_eq!(world.running_jobs(), [2]);
    end(&mut world, EXITED);
    end(&mut world, EXITED);
    world.assert_idle();
    world.assert_empty();
}

#[test]
fn what_runs_has_ended_or_never_was_is_not_held() {
    let mut world = behind_one(vec![work()]);
    end(&mut world, EXITED);
    begin(&mut world, 2);
    let request = hold(&mut world, &[1, 2, 9]);
    let (held, others) = world.altered(request);
    let mut others: Vec<_> = others.iter().map(|other| (other.id, other.state)).collect();
    others.sort_unstable_by_key(|&(id, _)| id);
    assert_eq!(held, [0; 0]);
    assert_eq!(others, [(1, Some(State::Succeeded)), (2, Some(State::Running)), (9, None)]);
    end(&mut world, EXITED);
    world.assert_idle();
}

#[test]
fn what_is_held_while_it_waits_waits_for_the_rest_when_it_is_released() {
    let delay = Conditions { start: Some(NotBefore::Delay(SECOND)), ..Conditions::default() };
    let scheduled = || Work { conditions: Some(Box::new(delay.clone())), ..work() };
    let mut world = World::up(1);
    world.submit(vec![retried(1), scheduled(), scheduled()]);
    world.settle();
    end(&mut world, Exit::Code(1));
    assert_eq!([1, 2, 3].map(|id| world.state(id)), [State::Retrying, State::Scheduled, State::Scheduled]);
    let request = hold(&mut world, &[1, 2, 3]);
    assert_eq!(held(&world, request), [1, 2, 3]);
    world.release(&[2]);
    world.settle();
    assert_eq!(world.state(2), State::Scheduled);
    world.advance(2 * SECOND);
    world.settle();
    assert_eq!(world.running_jobs(), [2], "no time ends the wait of what is held");
    end(&mut world, EXITED);
    world.release(&[1, 3]);
    world.settle();
    end(&mut world, EXITED);
    world.advance(Duration::from_millis(1));
    world.settle();
    end(&mut world, EXITED);
    assert_eq!((world.record(1).attempt, world.state(3)), (2, State::Succeeded));
    world.assert_idle();
}

#[test]
fn whether_what_is_ahead_is_held_is_its_workers_word() {
    for is_in_time in [true, false] {
        let mut world = World::handing_ahead(settings(1));
        world.settle();
        world.submit(vec![work(); 4]);
        world.settle();
        end(&mut world, EXITED);
        assert!(world.ahead.contains_key(&SLOT), "the slot has job 3 ahead");
        let first = hold(&mut world, &[3, 4]);
        let second = hold(&mut world, &[3]);
        assert!(!world.is_answered(first) && !world.is_answered(second));
        assert_eq!((world.called_back.len(), world.state(4)), (1, State::Held));
        if is_in_time {
            world.give_back(SLOT);
            world.settle();
            assert_eq!((held(&world, first), held(&world, second)), (vec![4, 3], vec![3]));
            end(&mut world, EXITED);
            assert_eq!(world.running(), []);
            world.release(&[3, 4]);
            world.settle();
        } else {
            end(&mut world, EXITED);
            assert_eq!(world.altered(first).0, [4]);
            assert_eq!(world.altered(second).1[0].state, Some(State::Running));
            world.release(&[4]);
            world.settle();
        }
        end(&mut world, EXITED);
        end(&mut world, EXITED);
        world.assert_idle();
        world.assert_empty();
    }
}

#[test]
fn what_was_ahead_of_a_worker_that_has_died_is_held() {
    let mut world = World::handing_ahead(settings(1));
    world.settle();
    world.submit(vec![work(); 3]);
    world.settle();
    end(&mut world, EXITED);
    let request = world.hold(&[3]);
    world.worker_died(SLOT, false);
    world.settle();
    assert_eq!(held(&world, request), [3]);
    end(&mut world, EXITED);
    world.release(&[3]);
    world.settle();
    end(&mut world, EXITED);
    world.assert_idle();
}

#[test]
fn a_start_that_is_being_written_down_does_not_come() {
    let mut world = World::up(1);
    world.submit(vec![Work { on_crash: OnCrash::Fail, ..work() }, work()]);
    while world.core().running().next().is_none() {
        assert!(world.store_step() || world.answer_step());
    }
    assert_eq!(world.running(), [], "the engine has yet to confirm it");
    let request = hold(&mut world, &[1]);
    assert_eq!((held(&world, request), world.running_jobs()), (vec![1], vec![2]));
    end(&mut world, EXITED);
    world.release(&[1]);
    world.settle();
    end(&mut world, EXITED);
    assert_eq!(world.record(1).attempt, 1);
    world.assert_idle();
}

#[test]
fn a_call_that_is_kept_in_memory_alone_is_not_held() {
    let mut world = World::new(mixed(1));
    world.settle();
    let volatile = || Work { pool: "warm".into(), volatile: true, ..call() };
    world.submit(vec![volatile(), volatile(), volatile(), volatile()]);
    world.settle();
    let waiting: Vec<u64> = (1..=4).filter(|id| !world.running_jobs().contains(id)).collect();
    let request = hold(&mut world, &waiting);
    let (held, others) = world.altered(request);
    assert!(held.is_empty() && others.iter().all(|other| other.state == Some(State::Queued)), "{others:?}");
    for _ in 0..4 {
        for (slot, _) in world.running() {
            world.attempt_ended(slot, EXITED);
        }
        world.settle();
    }
    world.assert_idle();
}

#[test]
fn a_job_that_is_named_before_it_is_there_is_not_held_and_runs() {
    let mut world = World::up(1);
    let request = world.hold(&[1]);
    world.submit(vec![work()]);
    world.store_writes(2);
    world.settle();
    assert_eq!((world.altered(request).0, world.running_jobs()), (vec![], vec![1]));
    end(&mut world, EXITED);
    world.assert_idle();
}

#[test]
fn a_job_that_is_named_before_its_insertion_is_told_is_held_all_the_same() {
    let mut world = World::up(1);
    world.submit(vec![work(); 12]);
    let request = world.hold(&[12]);
    world.store_step();
    while world.answer_step() {}
    world.settle();
    assert_eq!(held(&world, request), [12]);
    for id in 1..12 {
        assert_eq!(world.running_jobs(), [id]);
        end(&mut world, EXITED);
    }
    assert_eq!((world.running(), world.state(12)), (vec![], State::Held));
    world.release(&[12]);
    world.settle();
    end(&mut world, EXITED);
    world.assert_idle();
}
