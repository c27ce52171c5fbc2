//! Stories about jobs that take several slots of their pool.

use pool_proto::nouns::{ExplanationKind, OnCrash};
use pool_proto::{Refusal, State};

use super::clients::{Heard, accepted, refused, why};
use super::specs::{SECOND, array, pool, settings, work};
use super::workers::{begin, end, end_all, end_as, running, submit};
use super::world::{DEFAULT, World};
use crate::core::SlotId;
use crate::job::{Exit, JobId, Labels, Needs, Unit, Work};
use crate::start::config::{Config, PoolConfig};

fn wide(slots: u32) -> Work {
    Work { needs: Needs { slots, ..Needs::default() }, ..work() }
}

fn labeled(slots: u32, labels: &str) -> Work {
    Work { needs: Needs { slots, ..Needs::of_labels(Labels::parse(labels)) }, ..work() }
}

fn urgent(work: Work) -> Work {
    Work { priority: 1, ..work }
}

/// How many slots of the default pool that job has.
fn slots_of(world: &World, id: u64) -> usize {
    world.core().slots_of("default").iter().filter(|slot| slot.job == Some(id)).count()
}

fn resize(world: &mut World, workers: u32) {
    world.reread(settings(workers));
    world.settle();
}

fn backfilling(workers: u32) -> World {
    let mut config: Config = settings(workers);
    config.pool.insert("default".to_owned(), PoolConfig { backfill: true, ..PoolConfig::default() });
    let mut world = World::new(config);
    world.settle();
    world
}

#[test]
fn slots_are_gathered_and_nothing_behind_starts_meanwhile() {
    let mut world = World::up(4);
    submit(&mut world, vec![work(), work(), wide(3), work()]);
    assert_eq!(running(&world), [1, 2], "two slots are free, and kept");
    let (kind, reason) = why(&mut world, 3);
    assert_eq!(kind, ExplanationKind::Line);
    assert!(
        reason.contains("1st in line; it takes 3 slots") && reason.contains("2 of 4 slots are busy"),
        "{reason}"
    );
    assert!(why(&mut world, 4).1.contains("free slots are kept for job 3"));

    end(&mut world, 1);
    assert_eq!((running(&world), slots_of(&world, 3)), (vec![2, 3], 3));
    assert_eq!(world.core().slots_of("default").iter().filter(|slot| slot.job.is_none()).count(), 0);
    assert!(why(&mut world, 4).1.contains("4 of 4 slots are busy (jobs 2, 3)"));
    end(&mut world, 2);
    assert_eq!(running(&world), [3, 4]);
    end(&mut world, 3);
    assert_eq!((running(&world), slots_of(&world, 3)), (vec![4], 0));
    end_all(&mut world);
}

#[test]
fn wide_jobs_one_after_the_other_and_beside_each_other() {
    let mut world = World::up(4);
    submit(&mut world, vec![wide(2), wide(2), wide(4), wide(2), work(), work(), work()]);
    assert_eq!(running(&world), [1, 2]);
    end(&mut world, 2);
    assert_eq!(running(&world), [1], "job 4 would fit, and waits");
    end(&mut world, 1);
    assert_eq!(running(&world), [3]);
    end(&mut world, 3);
    assert_eq!(running(&world), [4, 5, 6]);
    end_all(&mut world);
}

#[test]
fn what_is_more_urgent_goes_before_a_job_that_gathers() {
    let mut world = World::up(2);
    submit(&mut world, vec![work(), wide(2), work()]);
    submit(&mut world, vec![urgent(work()), urgent(wide(2))]);
    assert_eq!(running(&world), [1, 4]);
    end(&mut world, 1);
    end(&mut world, 4);
    assert_eq!(running(&world), [5]);
    end(&mut world, 5);
    assert_eq!(running(&world), [2]);
    end_all(&mut world);
}

#[test]
fn when_a_job_that_gathers_goes_the_others_go_on_at_once() {
    let mut world = World::up(2);
    submit(&mut world, vec![work(), wide(2), work(), wide(2), work(), wide(2), work()]);
    assert_eq!(running(&world), [1]);
    world.cancel(&[2]);
    world.settle();
    assert_eq!(running(&world), [1, 3]);
    end(&mut world, 3);
    assert_eq!(running(&world), [1]);
    world.hold(&[4]);
    world.settle();
    assert_eq!(running(&world), [1, 5]);
    end(&mut world, 5);
    let moved = world.move_to(&[6], "other");
    world.settle();
    assert_eq!((running(&world), world.altered_ids(moved).0), (vec![1, 7], vec![6]));
    assert!(why(&mut world, 6).1.contains("takes 2 slots, and the pool \"other\" has 1"));
    world.cancel(&[4, 6]);
    end_all(&mut world);
}

#[test]
fn a_pool_that_is_paused_gathers_for_nobody() {
    let mut world = World::up(2);
    let limited = world.set_limit("gpu", Some(1));
    world.settle();
    assert_eq!(world.replies(limited), [Heard::Done]);
    submit(&mut world, vec![work(), labeled(2, "gpu"), work()]);
    assert_eq!((running(&world), world.core().gathers("default").map(|it| it.id)), (vec![1], Some(JobId(2))));
    submit(&mut world, vec![Work { pool: "other".into(), ..labeled(1, "gpu") }]);
    assert_eq!(running(&world), [1], "a job that gathers has the room of its labels");
    world.set_paused(&["default"], true);
    world.settle();
    assert_eq!((running(&world), world.core().gathers("default").map(|it| it.id)), (vec![1, 4], None));
    world.set_paused(&["default"], false);
    world.settle();
    assert_eq!(running(&world), [1, 3, 4], "job 2 waits for the label now, and holds up nobody");
    end_all(&mut world);
}

#[test]
fn with_backfill_others_pass_so_many_times() {
    let mut world = backfilling(4);
    submit(&mut world, [vec![work(), wide(4), wide(2)], vec![work(); 6], vec![wide(3)]].concat());
    assert_eq!(running(&world), [1, 3, 4], "jobs 3 and 4 fit");
    end(&mut world, 4);
    assert_eq!(running(&world), [1, 3, 5]);
    end(&mut world, 5);
    assert_eq!(running(&world), [1, 3, 6], "the fourth, and the last one");
    end(&mut world, 6);
    end(&mut world, 1);
    assert_eq!(running(&world), [3]);
    end(&mut world, 3);
    assert_eq!(running(&world), [2]);
    end_all(&mut world);
}

#[test]
fn an_array_that_passes_begins_and_its_elements_pass_one_by_one() {
    let mut world = backfilling(3);
    submit(&mut world, vec![work(), wide(3), array("0-7"), work()]);
    assert_eq!((running(&world), world.state(3)), (vec![1, 4, 5], State::Running), "elements of job 3");
    end(&mut world, 4);
    end(&mut world, 5);
    assert_eq!(running(&world), [1, 6, 7], "the third, and the last one");
    end(&mut world, 6);
    end(&mut world, 7);
    assert_eq!(running(&world), [1]);
    end_all(&mut world);
    assert_eq!((world.record(3).attempt, world.state(3)), (0, State::Succeeded));
}

#[test]
fn what_passes_takes_no_label_of_the_job_that_gathers() {
    let mut world = backfilling(3);
    world.set_limit("gpu", Some(2));
    world.settle();
    submit(&mut world, vec![work(), labeled(3, "gpu"), labeled(1, "gpu"), labeled(1, "db")]);
    assert_eq!(running(&world), [1, 4]);
    end_all(&mut world);
}

#[test]
fn a_wide_job_that_dies_or_is_ended_gives_all_its_slots_back() {
    let mut world = World::up(3);
    submit(&mut world, vec![wide(3), work()]);
    begin(&mut world, 1);
    let slot = world.slot_of(Unit::Job(JobId(1)));
    world.worker_lost(slot);
    world.settle();
    assert_eq!((running(&world), slots_of(&world, 1)), (vec![1], 3), "once its worker has been replaced");
    assert_eq!(world.record(1).crashes, 1);
    begin(&mut world, 1);
    world.cancel(&[1]);
    world.settle();
    assert_eq!((running(&world), slots_of(&world, 1)), (vec![1], 3), "until nothing of it is left");
    end_as(&mut world, 1, Exit::Signal { signal: 15, core: false });
    assert_eq!((running(&world), world.state(1)), (vec![2], State::Canceled));
    end_all(&mut world);
}

#[test]
fn a_retry_gathers_its_slots_anew() {
    let mut world = World::up(2);
    let retries = crate::job::Retries::new(1, SECOND);
    submit(&mut world, vec![Work { retries, ..wide(2) }, work(), work()]);
    end_as(&mut world, 1, Exit::Code(1));
    assert_eq!((running(&world), world.state(1)), (vec![2, 3], State::Retrying));
    world.advance(SECOND);
    world.settle();
    end(&mut world, 2);
    assert_eq!(running(&world), [3]);
    end(&mut world, 3);
    assert_eq!((running(&world), slots_of(&world, 1)), (vec![1], 2));
    end_all(&mut world);
}

#[test]
fn a_slot_that_is_lent_may_lose_its_worker() {
    let mut world = World::up(3);
    submit(&mut world, vec![wide(2), work(), work()]);
    assert_eq!(running(&world), [1, 2]);
    let is_lent = |slot: &pool_proto::nouns::Slot| slot.job == Some(1);
    let own = world.slot_of(Unit::Job(JobId(1)));
    let slots = world.core().slots_of("default");
    let lent = slots.iter().filter(|slot| is_lent(slot)).find(|slot| slot.slot != own.index).unwrap().slot;
    world.worker_lost(SlotId { lane: DEFAULT, index: lent });
    world.settle();
    assert_eq!((running(&world), slots_of(&world, 1)), (vec![1, 2], 2), "the new worker is not free either");
    end(&mut world, 1);
    assert_eq!(running(&world), [2, 3]);
    end_all(&mut world);
}

#[test]
fn one_that_must_not_run_twice_has_its_slots_while_its_start_is_written_down() {
    let mut world = World::up(2);
    world.submit(vec![Work { on_crash: OnCrash::Fail, ..wide(2) }, work()]);
    world.settle();
    assert_eq!((running(&world), slots_of(&world, 1)), (vec![1], 2));
    let slot = world.slot_of(Unit::Job(JobId(1)));
    world.worker_lost(slot);
    world.settle();
    assert_eq!((world.state(1), running(&world)), (State::Failed, vec![2]));
    end_all(&mut world);
}

#[test]
fn what_its_pool_cannot_take_is_refused() {
    let mut world = World::up(2);
    let request = world.submit(vec![wide(3)]);
    world.settle();
    match refused(world.replies(request).last()) {
        Refusal::InvalidJob { index: 0, field, reason } => {
            assert_eq!(field, "slots");
            assert!(reason.contains("takes 3 slots") && reason.contains("--workers 3"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let request = world.submit(vec![wide(2)]);
    world.settle();
    assert_eq!(world.replies(request), [accepted(1, 1)]);
    end_all(&mut world);
}

#[test]
fn a_pool_that_has_become_too_small_goes_on_with_the_others() {
    let mut world = World::up(3);
    submit(&mut world, vec![work(), wide(3), work(), wide(2)]);
    assert_eq!(running(&world), [1]);
    resize(&mut world, 2);
    assert_eq!(running(&world), [1, 3]);
    let (kind, reason) = why(&mut world, 2);
    assert_eq!(kind, ExplanationKind::Pool);
    assert!(reason.contains("it takes 3 slots, and the pool \"default\" has 2"), "{reason}");
    end(&mut world, 1);
    assert_eq!(running(&world), [3], "job 4 gathers");
    resize(&mut world, 3);
    assert_eq!(running(&world), [3], "job 2 goes first again");
    end(&mut world, 3);
    assert_eq!(running(&world), [2]);
    end_all(&mut world);
}

#[test]
fn a_job_that_runs_keeps_its_slots_when_its_pool_becomes_smaller() {
    let mut world = World::up(3);
    submit(&mut world, vec![wide(3), work()]);
    resize(&mut world, 1);
    assert_eq!((running(&world), slots_of(&world, 1)), (vec![1], 1), "the others have gone");
    resize(&mut world, 3);
    assert_eq!((running(&world), slots_of(&world, 1)), (vec![1], 3), "and are back, and not free");
    resize(&mut world, 1);
    end(&mut world, 1);
    assert_eq!(running(&world), [2]);
    end_all(&mut world);
}

#[test]
fn a_drain_does_not_wait_for_what_can_never_run() {
    let mut world = World::up(3);
    submit(&mut world, vec![work(), wide(3), work()]);
    resize(&mut world, 2);
    assert_eq!(running(&world), [1, 3]);
    world.drain();
    world.settle();
    end(&mut world, 1);
    assert!(world.lives());
    end(&mut world, 3);
    assert!(!world.lives(), "job 2 is kept for the next start");
}

#[test]
fn slots_and_what_gathers_them_outlive_the_daemon() {
    let mut world = World::up(3);
    submit(&mut world, vec![work(), wide(3), work()]);
    world.crash();
    world.settle();
    assert_eq!((running(&world), world.core().gathers("default").map(|it| it.id)), (vec![1], Some(JobId(2))));
    end(&mut world, 1);
    assert_eq!(running(&world), [2]);
    world.crash();
    world.settle();
    assert_eq!((running(&world), slots_of(&world, 2)), (vec![2], 3));
    assert_eq!(world.record(2).slots, 3);
    end_all(&mut world);
}

#[test]
fn nothing_is_handed_out_ahead_past_a_wide_job() {
    let mut world = World::handing_ahead(settings(2));
    world.settle();
    submit(&mut world, vec![work(), work(), work(), wide(2), work(), work()]);
    end(&mut world, 1);
    assert_eq!(running(&world), [2, 3]);
    assert!(world.ahead.is_empty(), "job 5 would be at a worker by now");
    end(&mut world, 2);
    end(&mut world, 3);
    assert_eq!(running(&world), [4]);
    end_all(&mut world);
}

#[test]
fn what_a_slot_has_ahead_is_called_back_for_a_wide_job_that_is_more_urgent() {
    let mut world = World::handing_ahead(settings(2));
    world.settle();
    submit(&mut world, vec![work(); 6]);
    end(&mut world, 1);
    assert!(!world.ahead.is_empty());
    submit(&mut world, vec![urgent(wide(2))]);
    let ahead: Vec<SlotId> = world.ahead.keys().copied().collect();
    ahead.into_iter().for_each(|slot| world.give_back(slot));
    world.settle();
    let others = running(&world);
    others.into_iter().for_each(|id| end(&mut world, id));
    assert_eq!(running(&world), [7]);
    end_all(&mut world);
}

#[test]
fn a_call_has_one_slot() {
    let mut config = super::specs::mixed(2);
    config.pool.insert("other".to_owned(), pool(2));
    let mut world = World::new(config);
    world.settle();
    let request =
        world.submit(vec![Work { needs: Needs { slots: 2, ..Needs::default() }, ..super::specs::call() }]);
    world.settle();
    let refusal = refused(world.replies(request).last());
    assert!(matches!(refusal, Refusal::InvalidJob { field, .. } if field == "slots"), "{refusal:?}");
}
