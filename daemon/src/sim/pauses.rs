//! Stories of pools that are paused and resumed; and what clients know of it, to which every start of an
//! attempt is held.

use std::collections::{BTreeMap, BTreeSet};

use pool_proto::methods::{DrainPool, RemovePool, Request, SetPaused};
use pool_proto::nouns::OnCrash;
use pool_proto::{Refusal, State};

use super::clients::{Heard, refused};
use super::delayed::Death;
use super::specs::{EXITED, SECOND, call, mixed, settings, work};
use super::world::{WARM, World};
use crate::core::{LaneId, PoolId, SlotId};
use crate::job::{Claim, Exit, JobId, RequestId, Retries, Unit, Work};

/// The pools that some client knows to be paused, over all crashes.
#[derive(Debug, Default)]
pub struct KnownPauses {
    pools: BTreeSet<String>,
    /// Pauses that nobody has been told of yet.
    asked: BTreeMap<RequestId, BTreeSet<String>>,
}

impl KnownPauses {
    /// A client asks for this. From here on nothing is known of a pool that is to be resumed or removed.
    pub fn note_request(&mut self, request: RequestId, asked: &Request) {
        match asked {
            Request::SetPaused(SetPaused { pools, paused: true, .. }) => {
                self.asked.insert(request, pools.iter().cloned().collect());
            }
            Request::SetPaused(SetPaused { pools, paused: false, .. }) => {
                pools.iter().for_each(|pool| self.forget(pool));
            }
            Request::RemovePool(RemovePool { name }) => self.forget(name),
            _ => {}
        }
    }

    fn forget(&mut self, pool: &str) {
        self.pools.remove(pool);
        self.asked.values_mut().for_each(|pools| _ = pools.remove(pool));
    }

    /// A client is told that what it has asked for is done.
    pub fn note_reply(&mut self, request: RequestId) {
        self.pools.extend(self.asked.remove(&request).unwrap_or_default());
    }

    pub fn contains(&self, pool: &str) -> bool {
        self.pools.contains(pool)
    }

    pub fn iter(&self) -> impl Iterator<Item = &String> {
        self.pools.iter()
    }
}

const SLOT: SlotId = SlotId { lane: LaneId::Pool(PoolId(0)), index: 0 };

fn pause(world: &mut World, pool: &str) {
    let request = world.set_paused(&[pool], true);
    world.settle();
    assert_eq!(world.replies(request), [Heard::Done]);
}

fn resume(world: &mut World, pool: &str) {
    let request = world.set_paused(&[pool], false);
    world.settle();
    assert_eq!(world.replies(request), [Heard::Done]);
}

fn end(world: &mut World, slot: SlotId) {
    world.attempt_ended(slot, EXITED);
    world.settle();
}

#[test]
fn a_paused_pool_finishes_what_it_runs_and_starts_nothing() {
    let mut world = World::up(1);
    world.submit(vec![work(); 2]);
    world.settle();
    let request = world.set_paused(&["default"], true);
    assert_eq!(world.replies(request), [], "it is not kept yet");
    end(&mut world, SLOT);
    assert_eq!((world.state(1), world.running_jobs()), (State::Succeeded, vec![]));
    assert_eq!(world.replies(request), [Heard::Done]);
    world.submit(vec![work(), Work { pool: "other".into(), ..work() }]);
    world.settle();
    assert_eq!(world.running_jobs(), [4], "another pool goes on");
    let other = world.running()[0].0;
    end(&mut world, other);

    resume(&mut world, "default");
    for id in [2, 3] {
        assert_eq!(world.running_jobs(), [id]);
        end(&mut world, SLOT);
    }
    world.assert_idle();
    world.assert_empty();
}

#[test]
fn a_pool_stays_paused_over_a_crash_and_a_power_cut() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    pause(&mut world, "default");
    for death in [Death::Kill, Death::PowerCut] {
        world.die(death);
        world.settle();
        assert_eq!((world.running_jobs(), world.state(1)), (vec![], State::Queued), "its attempt has died");
    }
    resume(&mut world, "default");
    world.crash();
    world.settle();
    assert_eq!(world.running_jobs(), [1], "and it stays resumed");
}

#[test]
fn a_pause_that_nobody_was_told_of_is_gone_with_the_daemon() {
    let mut world = World::up(1);
    world.set_paused(&["default"], true);
    world.crash();
    world.submit(vec![work()]);
    world.settle();
    assert_eq!(world.running_jobs(), [1]);
}

#[test]
fn a_pause_that_cannot_be_kept_is_refused_and_undone() {
    let mut world = World::up(1);
    let request = world.set_paused(&["default"], true);
    world.store_refuses();
    world.settle();
    assert!(matches!(refused(world.replies(request).last()), Refusal::StoreFailed { .. }));
    world.submit(vec![work()]);
    world.settle();
    assert_eq!(world.running_jobs(), [1]);

    // Nor is a pool resumed that the disk has as paused.
    pause(&mut world, "default");
    end(&mut world, SLOT);
    world.submit(vec![work()]);
    world.settle();
    let request = world.set_paused(&["default"], false);
    world.store_refuses();
    world.settle();
    assert!(matches!(refused(world.replies(request).last()), Refusal::StoreFailed { .. }));
    assert!(world.running_jobs().is_empty());
}

#[test]
fn to_pause_and_resume_twice_changes_nothing() {
    let mut world = World::up(1);
    resume(&mut world, "default");
    pause(&mut world, "default");
    let since = world.paused_since("default");
    world.advance(10 * SECOND);
    pause(&mut world, "default");
    assert_eq!(world.paused_since("default"), since);

    let unknown = world.set_paused(&["other", "none"], true);
    let no_such_pool = Refusal::NoSuchPool { pool: "none".to_owned() };
    assert_eq!(refused(world.replies(unknown).last()), &no_such_pool);
    world.settle();
    assert_eq!(world.paused_since("other"), None, "all or none");
    let callbacks = world.set_paused(&["callbacks"], true);
    assert!(matches!(refused(world.replies(callbacks).last()), Refusal::NoSuchPool { .. }));
}

#[test]
fn a_pause_and_its_end_that_cross_on_their_way_to_the_disk_come_true_in_their_order() {
    let mut world = World::up(1);
    let requests = [true, false, true].map(|paused| world.set_paused(&["default"], paused));
    world.settle();
    assert!(requests.iter().all(|&request| world.replies(request) == [Heard::Done]));
    world.submit(vec![work()]);
    world.settle();
    assert!(world.running_jobs().is_empty());
    resume(&mut world, "default");
    assert_eq!(world.running_jobs(), [1]);
}

/// A world whose one slot has job 2, and job 3 ahead.
fn quick() -> World {
    let mut world = World::handing_ahead(settings(1));
    world.settle();
    world.submit(vec![work(); 4]);
    world.settle();
    end(&mut world, SLOT);
    assert_eq!((world.running_jobs(), world.ahead.len()), (vec![2], 1));
    world
}

#[test]
fn what_is_ahead_is_called_back_and_the_pause_is_told_when_it_is_back() {
    let mut world = quick();
    let request = world.set_paused(&["default"], true);
    world.settle();
    assert_eq!(world.called_back, [Claim { unit: Unit::Job(JobId(3)), attempt: 1 }]);
    assert_eq!(world.replies(request), [], "its worker may begin with it yet");
    world.give_back(SLOT);
    world.settle();
    assert_eq!(world.replies(request), [Heard::Done]);
    end(&mut world, SLOT);
    assert_eq!((world.running_jobs(), world.record(3).attempt), (vec![], 0));
}

#[test]
fn what_has_begun_before_it_could_be_given_back_runs_on() {
    let mut world = quick();
    let request = world.set_paused(&["default"], true);
    world.settle();
    end(&mut world, SLOT);
    assert_eq!((world.running_jobs(), world.replies(request)), (vec![3], &[Heard::Done][..]));
    end(&mut world, SLOT);
    assert_eq!((world.running_jobs(), world.state(4)), (vec![], State::Queued));
}

#[test]
fn a_job_whose_start_is_written_down_first_starts_before_the_pause_is_told_or_not_at_all() {
    let mut world = World::up(1);
    world.submit(vec![Work { on_crash: OnCrash::Fail, ..work() }]);
    // Its start is on its way to the disk, ahead of the pause.
    while world.core().running().count() == 0 {
        assert!(world.store_step() || world.answer_step());
    }
    let request = world.set_paused(&["default"], true);
    world.settle();
    assert_eq!((world.running_jobs(), world.replies(request)), (vec![1], &[Heard::Done][..]));
}

#[test]
fn a_drain_keeps_the_queued_jobs_of_a_paused_pool() {
    let mut world = World::up(1);
    world.submit(vec![work(); 3]);
    world.settle();
    pause(&mut world, "default");
    world.drain();
    world.settle();
    assert!(!world.exited, "a job runs");
    let holds = world.core().holds().expect("it drains");
    assert_eq!((holds.running, holds.queued, holds.kept), (vec![JobId(1)], 0, 2));
    end(&mut world, SLOT);
    assert!(world.exited);

    world.crash();
    world.settle();
    assert_eq!((world.running_jobs(), world.state(2)), (vec![], State::Queued), "it is paused as before");
}

#[test]
fn a_pause_lets_a_drain_go_on_that_waits_for_the_queue() {
    let mut world = World::up(1);
    world.submit(vec![work(); 3]);
    world.settle();
    world.drain();
    pause(&mut world, "default");
    end(&mut world, SLOT);
    assert!(world.exited);
}

#[test]
fn a_pool_that_goes_from_the_configuration_and_comes_back_is_paused_as_before() {
    let mut world = World::new(mixed(1));
    world.settle();
    world.submit(vec![Work { pool: "other".into(), ..work() }]);
    world.settle();
    pause(&mut world, "other");
    let slot = world.running()[0].0;
    let mut without = mixed(1);
    without.pool.remove("other");
    world.reread(without);
    end(&mut world, slot);
    pause(&mut world, "other");
    world.reread(mixed(1));
    world.submit(vec![Work { pool: "other".into(), ..work() }]);
    world.settle();
    assert!(world.running_jobs().is_empty());
    resume(&mut world, "other");
    assert_eq!(world.running_jobs(), [2]);
}

#[test]
fn the_pause_of_a_pool_that_is_not_configured_any_more_can_be_ended() {
    let mut world = World::new(mixed(1));
    world.settle();
    pause(&mut world, "other");
    world.config.pool.remove("other");
    world.crash();
    world.settle();
    assert!(world.paused_since("other").is_some());
    resume(&mut world, "other");
    let again = world.set_paused(&["other"], true);
    assert!(matches!(refused(world.replies(again).last()), Refusal::NoSuchPool { .. }));
}

#[test]
fn the_pause_of_a_pool_that_was_added_goes_with_the_pool() {
    let mut world = World::up(1);
    world.add_pool("added", 1);
    world.settle();
    pause(&mut world, "added");
    world.submit(vec![Work { pool: "added".into(), ..call() }]);
    world.remove_pool("added");
    let late = world.set_paused(&["added"], true);
    assert!(matches!(refused(world.replies(late).last()), Refusal::NoSuchPool { .. }), "it is being removed");
    world.settle();
    assert_eq!(world.paused_since("added"), None);
    world.add_pool("added", 1);
    world.settle();
    assert_eq!(world.running_jobs(), [1]);
}

#[test]
fn the_programs_of_a_paused_pool_stay_up_and_their_calls_wait() {
    let mut world = World::new(mixed(1));
    world.settle();
    pause(&mut world, "warm");
    world.submit(vec![call()]);
    world.settle();
    let slot = SlotId { lane: WARM, index: 0 };
    assert!(world.workers.contains_key(&slot));
    assert!(world.running_jobs().is_empty());
    resume(&mut world, "warm");
    assert_eq!(world.running_jobs(), [1]);
}

#[test]
fn a_retry_in_a_paused_pool_waits_and_a_deadline_ends_what_is_queued() {
    let mut world = World::up(1);
    let retried = crate::job::Retries::new(1, SECOND);
    world.submit(vec![Work { retries: retried, ..work() }]);
    world.submit(vec![Work { deadline: Some(5 * SECOND), ..work() }]);
    world.settle();
    pause(&mut world, "default");
    world.attempt_ended(SLOT, crate::job::Exit::Code(1));
    world.settle();
    world.advance(2 * SECOND);
    world.settle();
    assert_eq!((world.running_jobs(), world.state(1)), (vec![], State::Retrying));
    world.advance(4 * SECOND);
    world.settle();
    assert_eq!(world.state(2), State::TimedOut);
    resume(&mut world, "default");
    assert_eq!(world.running_jobs(), [1]);
}

#[test]
fn a_drained_pool_takes_nothing_new_and_says_when_it_is_empty() {
    let mut world = World::new(settings(1));
    world.settle();
    let failing = Work { retries: Retries::new(1, 60 * SECOND), ..work() };
    world.submit(vec![work(), failing, work()]);
    world.settle();
    let drain = |world: &mut World| {
        let request = world.ask_for_more(Request::DrainPool(DrainPool { pool: "default".to_owned() }));
        world.settle();
        request
    };
    let first = drain(&mut world);
    let refused_one = world.submit(vec![work()]);
    world.settle();
    assert!(matches!(refused(world.replies(refused_one).last()), Refusal::PoolDraining { .. }));
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    let second = drain(&mut world);
    world.attempt_ended(SLOT, Exit::Code(1));
    world.settle();
    assert!(!world.is_answered(first) && !world.is_answered(second));
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    assert!(world.is_answered(first) && world.is_answered(second), "the retry is a long time off");
    let request = drain(&mut world);
    assert!(world.is_answered(request));

    world.advance(60 * SECOND);
    world.settle();
    assert_eq!(world.running_jobs(), [2], "what it has it works off");
    let request = drain(&mut world);
    world.set_paused(&["default"], false);
    world.settle();
    assert!(matches!(refused(world.replies(request).last()), Refusal::InvalidPool { .. }));
    world.attempt_ended(SLOT, EXITED);
    world.submit(vec![work()]);
    world.settle();
    assert_eq!(world.running_jobs(), [4]);
    drain(&mut world);
    world.crash();
    world.settle();
    world.submit(vec![work()]);
    world.settle();
    assert_eq!(world.state(5), State::Queued, "a drain ends with the daemon");
    while !world.running().is_empty() {
        world.attempt_ended(SLOT, EXITED);
        world.settle();
    }
    world.assert_idle();
}

#[test]
fn a_drained_pool_releases_nothing_and_runs_nothing_again() {
    let mut world = World::new(settings(1));
    world.settle();
    world.submit(vec![work(), work(), work()]);
    world.settle();
    world.attempt_ended(SLOT, EXITED);
    world.hold(&[3]);
    world.ask_for_more(Request::DrainPool(DrainPool { pool: "default".to_owned() }));
    world.settle();
    let wish = |world: &mut World| {
        world.retry(&[1]);
        let released = world.release(&[3]);
        world.settle();
        released
    };
    let released = wish(&mut world);
    assert!(matches!(refused(world.replies(released).last()), Refusal::PoolDraining { .. }));
    assert_eq!((world.state(1), world.state(3)), (State::Succeeded, State::Held), "as a submission");
    world.set_paused(&["default"], false);
    world.settle();
    wish(&mut world);
    assert_eq!((world.state(1), world.state(3)), (State::Queued, State::Queued));
    while !world.running().is_empty() {
        world.attempt_ended(SLOT, EXITED);
        world.settle();
    }
    world.check_ends();
    world.assert_idle();
}
