//! Stories of keys: a submission that is repeated, and one that is meant anew.

use pool_proto::nouns::OnDisconnect;
use pool_proto::{Refusal, ResultKind, State};

use super::clients::{Heard, accepted, refused};
use super::scenarios::{ended_as, slot, submit_attached};
use super::specs::{EXITED, settings, work};
use super::world::World;
use crate::job::{Exit, JobId, Key, Tie, Work};
use crate::start::config::Config;

fn keyed(text: &str, round: Option<&str>) -> Work {
    Work { key: Some(Key { text: text.into(), round: round.map(ToOwned::to_owned) }), ..work() }
}

/// Submits and lets the store answer; what the client is told.
fn submit(world: &mut World, jobs: Vec<Work>) -> Vec<Heard> {
    let call = world.submit(jobs);
    world.settle();
    assert!(world.is_answered(call));
    world.replies(call).to_vec()
}

/// `count` jobs with ids from `first` on, and in place of some others that were there before.
fn existing(first: u64, count: u64, existing: &[(usize, u64)]) -> Heard {
    let mut ids: Vec<u64> = (first..first + count).collect();
    existing.iter().for_each(|&(place, id)| ids[place] = id);
    Heard::Accepted { ids, existing: existing.iter().map(|&(place, _)| place).collect() }
}

#[test]
fn a_repeated_submission_is_answered_with_the_job_that_there_is() {
    let mut world = World::up(1);
    assert_eq!(submit(&mut world, vec![keyed("a", None)]), [accepted(1, 1)]);
    assert_eq!(submit(&mut world, vec![keyed("a", None)]), [existing(2, 1, &[(0, 1)])], "while it runs");
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    assert_eq!(
        submit(&mut world, vec![keyed("a", None)]),
        [existing(3, 1, &[(0, 1)])],
        "and when it has ended"
    );
    world.assert_idle();
    assert_eq!(submit(&mut world, vec![keyed("b", None)]), [accepted(4, 1)]);
}

#[test]
fn only_the_new_ones_of_a_batch_run_and_two_of_one_key_are_one() {
    let mut world = World::up(1);
    submit(&mut world, vec![keyed("a", None)]);
    let jobs = vec![work(), keyed("b", None), keyed("a", None), keyed("b", None), work()];
    assert_eq!(submit(&mut world, jobs), [existing(2, 5, &[(2, 1), (3, 3)])]);
    for id in [1, 2, 3, 6] {
        assert_eq!(world.running_jobs(), [id]);
        world.attempt_ended(slot(0), EXITED);
        world.settle();
    }
    world.assert_idle();
}

#[test]
fn a_failed_job_gives_way_to_one_of_another_round_once() {
    let mut world = World::up(1);
    submit(&mut world, vec![keyed("a", Some("monday"))]);
    assert_eq!(
        submit(&mut world, vec![keyed("a", Some("tuesday"))]),
        [existing(2, 1, &[(0, 1)])],
        "it has not ended"
    );
    world.attempt_ended(slot(0), Exit::Code(1));
    world.settle();
    assert_eq!(
        submit(&mut world, vec![keyed("a", Some("monday"))]),
        [existing(3, 1, &[(0, 1)])],
        "its own round"
    );
    assert_eq!(submit(&mut world, vec![keyed("a", None)]), [existing(4, 1, &[(0, 1)])], "no round at all");
    assert_eq!(submit(&mut world, vec![keyed("a", Some("tuesday"))]), [accepted(5, 1)]);
    assert_eq!((world.record(1).key.as_ref(), world.running_jobs()), (None, vec![5]));
    world.attempt_ended(slot(0), Exit::Code(1));
    world.settle();
    assert_eq!(
        submit(&mut world, vec![keyed("a", Some("tuesday"))]),
        [existing(6, 1, &[(0, 5)])],
        "a repeated reply that was lost"
    );
    world.assert_idle();
}

#[test]
fn a_succeeded_job_keeps_its_key_whatever_the_round() {
    let mut world = World::up(1);
    submit(&mut world, vec![keyed("a", Some("monday"))]);
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    assert_eq!(submit(&mut world, vec![keyed("a", Some("tuesday"))]), [existing(2, 1, &[(0, 1)])]);
}

#[test]
fn who_waits_for_a_job_that_there_is_hears_of_its_start_and_its_end() {
    let mut world = World::up(1);
    submit(&mut world, vec![keyed("a", None)]);
    world.attempt_started(slot(0));
    let call = submit_attached(&mut world, keyed("a", None), OnDisconnect::Detach);
    assert_eq!(world.replies(call), [existing(2, 1, &[(0, 1)]), Heard::Started { id: JobId(1), attempt: 1 }]);
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    assert_eq!(ended_as(world.replies(call).last()), (State::Succeeded, Some(ResultKind::Success)));
    let call = submit_attached(&mut world, keyed("a", None), OnDisconnect::Detach);
    assert_eq!(
        ended_as(world.replies(call).last()),
        (State::Succeeded, Some(ResultKind::Success)),
        "one that has ended"
    );
    assert!(world.is_answered(call));
    world.assert_idle();
}

#[test]
fn a_submission_that_a_crash_cut_off_is_repeated_without_a_second_run() {
    // Cut before the store has it, after, and after its answer.
    for steps in 0..3 {
        let mut world = World::up(1);
        world.submit(vec![keyed("a", Some("r"))]);
        if steps > 0 {
            world.store_step();
        }
        if steps > 1 {
            world.answer_step();
        }
        world.crash();
        world.settle();
        submit(&mut world, vec![keyed("a", Some("r"))]);
        assert_eq!(world.running_jobs(), [1], "after {steps} steps");
        world.attempt_ended(slot(0), EXITED);
        world.settle();
        assert_eq!(world.disk().jobs().count(), 1);
        world.assert_idle();
    }
}

#[test]
fn a_tie_of_a_job_that_is_not_added_does_not_matter() {
    let mut world = World::up(1);
    submit(&mut world, vec![keyed("a", None)]);
    let tied = |key| Work { tie: Some(Tie::Job(JobId(99))), ..keyed(key, None) };
    assert_eq!(submit(&mut world, vec![tied("a")]), [existing(2, 1, &[(0, 1)])]);
    let replies = submit(&mut world, vec![tied("b")]);
    refused(replies.first());
}

#[test]
fn a_repetition_is_answered_where_a_new_job_would_be_refused() {
    let mut world = World::new(Config { max_queued: 2, ..settings(1) });
    world.settle();
    submit(&mut world, vec![keyed("a", None)]);
    submit(&mut world, vec![keyed("b", None), keyed("c", None)]);
    let full = submit(&mut world, vec![keyed("d", None)]);
    assert!(matches!(refused(full.first()), Refusal::QueueFull { .. }));
    for (key, id) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(submit(&mut world, vec![keyed(key, None)]), [existing(id, 1, &[(0, id)])]);
    }
    let both = || vec![keyed("c", None), keyed("a", None)];
    assert_eq!(submit(&mut world, both()), [existing(0, 2, &[(0, 3), (1, 1)])]);
    let one_is_new = submit(&mut world, vec![keyed("a", None), keyed("d", None)]);
    assert!(matches!(refused(one_is_new.first()), Refusal::QueueFull { .. }));

    let waits = submit_attached(&mut world, keyed("a", None), OnDisconnect::Detach);
    world.drain();
    world.settle();
    assert_eq!(submit(&mut world, vec![keyed("b", None)]), [existing(2, 1, &[(0, 2)])], "it drains");
    let late = submit(&mut world, vec![keyed("d", None)]);
    assert_eq!(refused(late.first()), &Refusal::Draining {});
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    assert_eq!(ended_as(world.replies(waits).last()), (State::Succeeded, Some(ResultKind::Success)));
}
