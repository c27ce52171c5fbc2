//! Stories of pools that are added, removed, and made smaller while something happens in them.

use pool_proto::methods::{AddPool, Request};
use pool_proto::{Refusal, State};

use super::clients::{Heard, refused};
use super::specs::{EXITED, SECOND, call, mixed, settings, work};
use super::world::{WARM, World};
use crate::core::{LaneId, PoolId, SlotId};
use crate::job::Work;

fn pools(world: &World) -> Vec<String> {
    world.core().audit_pools().into_iter().map(|pool| pool.name.to_string()).collect()
}

fn call_of(pool: &str) -> Work {
    Work { pool: pool.into(), ..call() }
}

#[test]
fn a_pool_that_is_added_runs_calls_and_is_there_after_a_restart() {
    let mut world = World::up(1);
    let request = world.add_pool("added", 1);
    assert_eq!(world.replies(request), [], "it is not kept yet");
    world.settle();
    assert_eq!(world.replies(request), [Heard::Done]);
    world.submit(vec![call_of("added")]);
    world.settle();
    assert_eq!(world.running_jobs(), [1]);

    world.crash();
    world.settle();
    assert_eq!(pools(&world), ["default", "added", "other"]);
    let slot = world.running()[0].0;
    world.attempt_ended(slot, EXITED);
    world.settle();
    assert_eq!(world.state(1), State::Succeeded);
    world.assert_idle();
}

#[test]
fn what_cannot_be_added_or_removed_is_refused() {
    let mut world = World::up(1);
    world.add_pool("added", 1);
    world.settle();
    let other = world.add_pool("added", 2);
    assert!(matches!(refused(world.replies(other).last()), Refusal::PoolExists { .. }));
    let configured = world.remove_pool("other");
    assert!(matches!(refused(world.replies(configured).last()), Refusal::PoolConfigured { .. }));
    let unknown = world.remove_pool("third");
    assert!(matches!(refused(world.replies(unknown).last()), Refusal::NoSuchPool { .. }));
}

/// Work of each event does not grow with pools that were there once.
#[test]
fn a_pool_that_is_gone_is_forgotten_however_many_there_were() {
    let mut world = World::up(1);
    for number in 0..50 {
        let name = format!("pool-{number}");
        world.add_pool(&name, 2);
        world.settle();
        world.submit(vec![call_of(&name); 3]);
        world.settle();
        while let Some(&(slot, _)) = world.running().first() {
            world.attempt_ended(slot, EXITED);
            world.settle();
        }
        world.remove_pool(&name);
        world.settle();
        assert_eq!(pools(&world), ["default", "other"]);
    }
    world.assert_idle();
    world.assert_empty();
}

#[test]
fn a_pool_that_is_removed_with_jobs_keeps_them_for_when_it_is_back() {
    let mut world = World::up(1);
    world.add_pool("added", 1);
    world.settle();
    world.submit(vec![call_of("added"); 3]);
    world.settle();
    world.remove_pool("added");
    world.settle();
    let (slot, _) = world.running()[0];
    world.attempt_ended(slot, EXITED);
    world.settle();
    assert_eq!(
        (pools(&world), world.running_jobs()),
        (vec!["default".to_owned(), "other".to_owned()], vec![])
    );
    assert_eq!(world.core().unserved("added"), 2);

    world.add_pool("added", 1);
    world.settle();
    for id in [2, 3] {
        assert_eq!(world.running_jobs(), [id]);
        let (slot, _) = world.running()[0];
        world.attempt_ended(slot, EXITED);
        world.settle();
    }
    world.assert_idle();
}

/// A program that fails again and again waits longer each time before it is started anew. Nobody starts it
/// for a pool that has gone.
#[test]
fn a_pool_that_is_removed_while_its_program_backs_off_starts_it_no_more() {
    let mut world = World::new(mixed(1));
    world.settle();
    let slot = SlotId { lane: WARM, index: 0 };
    world.worker_lost(slot);
    world.settle();
    world.worker_lost(slot);
    world.submit(vec![call()]);
    world.settle_store();
    assert!(!world.workers.contains_key(&slot), "it waits before it is started anew");

    world.reread(settings(1));
    world.advance(10 * SECOND);
    world.settle();
    assert!(!world.workers.contains_key(&slot), "nobody wants it any more");
    assert_eq!((world.running_jobs(), world.state(1)), (vec![], State::Queued));
    assert_eq!(pools(&world), ["default", "other"]);
}

#[test]
fn a_pool_that_is_made_smaller_while_a_worker_backs_off_has_no_more_than_it_is_to_have() {
    let mut world = World::up(3);
    let lane = LaneId::Pool(PoolId(0));
    for index in [1, 2] {
        let slot = SlotId { lane, index };
        world.worker_lost(slot);
        world.settle();
        world.worker_lost(slot);
        assert!(!world.workers.contains_key(&slot));
    }
    world.reread(settings(1));
    world.advance(10 * SECOND);
    world.settle();
    let workers = world.workers.keys().filter(|slot| slot.lane == lane).count();
    assert_eq!(workers, 1);

    world.reread(settings(3));
    world.settle();
    world.submit(vec![work(); 3]);
    world.settle();
    assert_eq!(world.running_jobs().len(), 3, "and they come back");
}

#[test]
fn a_pool_is_refused_whose_settings_make_no_sense() {
    let mut world = World::up(1);
    let request = world.ask(Request::AddPool(Box::new(AddPool {
        name: "a b".to_owned(),
        workers: 1,
        command: vec!["program".into()],
        cwd: None,
        env: None,
        ready: None,
        start_timeout_s: None,
        start_attempts: None,
        max_calls: None,
        max_age_s: None,
        max_rss_bytes: None,
        timeout_s: None,
        kill_after_s: None,
        retries: None,
        backoff_s: None,
        jitter: None,
        retry_on_exit: None,
        no_retry_on_exit: None,
        start_within_s: None,
        durability: None,
    })));
    assert!(matches!(refused(world.replies(request).last()), Refusal::InvalidPool { .. }));
}
