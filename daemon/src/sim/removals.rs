//! Stories of jobs that have ended and are removed because somebody wants that.

use pool_proto::State;
use pool_proto::nouns::{On, OnDisconnect};

use super::clients::{ends_of, refused};
use super::specs::{EXITED, call, mixed, work};
use super::workers::{begin, run_callback};
use super::world::{DEFAULT, World};
use crate::core::SlotId;
use crate::job::{JobId, NewCallback, RequestId, Work};

const SLOT: SlotId = SlotId { lane: DEFAULT, index: 0 };

fn remove(world: &mut World, ids: &[u64]) -> RequestId {
    let request = world.remove(ids);
    world.settle();
    request
}

#[test]
fn what_has_ended_goes_and_what_lives_stays() {
    let mut world = World::up(1);
    let callbacks = vec![NewCallback { on: On::Done, command: "callback".into() }];
    world.submit(vec![Work { callbacks, ..work() }, work(), work()]);
    world.settle();
    begin(&mut world, 1);
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    begin(&mut world, 2);

    let request = remove(&mut world, &[1, 2, 3, 9, 1]);
    let (gone, mut stay) = world.altered_ids(request);
    stay.sort_unstable();
    assert_eq!((gone, stay), (vec![], vec![1, 2, 3, 9]), "a callback of job 1 has yet to run");
    run_callback(&mut world, 1, EXITED);
    world.settle();
    let request = remove(&mut world, &[1]);
    assert_eq!(world.altered_ids(request), (vec![1], vec![]));
    assert!(!world.has(JobId(1)));
    world.crash();
    world.settle();
    assert!(!world.has(JobId(1)));
    let request = world.get(1);
    world.settle();
    refused(world.replies(request).last());
}

#[test]
fn nothing_goes_that_somebody_waits_for() {
    let mut world = World::up(2);
    world.submit_and_wait(&work(), OnDisconnect::Detach);
    world.submit(vec![work()]);
    world.settle();
    let waiting = world.wait(ends_of(&[1, 2]));
    world.settle();
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    let request = remove(&mut world, &[1]);
    assert_eq!(world.altered_ids(request).0, [1], "who has been told of an end does not wait for it");
    let request = remove(&mut world, &[2]);
    assert_eq!(world.altered_ids(request), (vec![], vec![2]));
    world.attempt_ended(SlotId { index: 1, ..SLOT }, EXITED);
    world.settle();
    assert!(world.is_answered(waiting));
    let request = remove(&mut world, &[2]);
    assert_eq!(world.altered_ids(request).0, [2]);
    world.assert_idle();
    world.assert_empty();
}

#[test]
fn a_wait_that_comes_after_a_removal_is_told_that_there_is_no_such_job() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    let request = world.remove(&[1]);
    let waiting = world.wait(ends_of(&[1]));
    world.settle();
    assert_eq!(world.altered_ids(request).0, [1]);
    refused(world.replies(waiting).last());
    world.assert_idle();
}

#[test]
fn calls_that_are_kept_in_memory_go_as_well() {
    let mut world = World::new(mixed(1));
    world.settle();
    world.submit(vec![Work { pool: "warm".into(), volatile: true, ..call() }]);
    world.submit(vec![work()]);
    world.settle();
    for (slot, _) in world.running() {
        world.attempt_ended(slot, EXITED);
    }
    world.settle();
    let ended: Vec<u64> = [1, 2].into_iter().filter(|&id| world.state(id) == State::Succeeded).collect();
    assert_eq!(ended, [1, 2]);
    let request = remove(&mut world, &ended);
    assert_eq!(world.altered_ids(request).0, ended);
}
