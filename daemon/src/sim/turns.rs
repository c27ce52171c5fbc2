//! Stories of unique names: one job of a name at a time, and what becomes of the others.

use pool_proto::nouns::{HappeningKind, IfExists, OnCrash, OnDisconnect};
use pool_proto::{ResultKind, State};

use super::clients::{Heard, accepted};
use super::queue::retried;
use super::scenarios::{ended_as, slot, submit_attached};
use super::specs::{EXITED, SECOND, settings, work};
use super::workers::{begin, end, end_as};
use super::world::World;
use crate::core::Event;
use crate::job::{Exit, JobId, RequestId, Tie, Unique, Work};

fn named(if_exists: IfExists) -> Work {
    Work { unique: Some(Unique { name: "nightly".into(), if_exists }), ..work() }
}

fn submit(world: &mut World, jobs: Vec<Work>) -> Vec<Heard> {
    let call = world.submit(jobs);
    world.settle();
    assert!(world.is_answered(call));
    world.replies(call).to_vec()
}

fn last(world: &World, call: RequestId) -> (State, Option<ResultKind>) {
    ended_as(world.replies(call).last())
}

#[test]
fn what_is_skipped_is_not_submitted_and_nobody_waits() {
    let mut world = World::up(2);
    assert_eq!(submit(&mut world, vec![named(IfExists::Skip)]), [accepted(1, 1)]);
    begin(&mut world, 1);
    let call = submit_attached(&mut world, named(IfExists::Skip), OnDisconnect::Detach);
    assert_eq!(world.replies(call), [Heard::Skipped { id: JobId(1), state: State::Running }]);
    assert!(world.is_answered(call));

    let batch = world.submit_batch(vec![named(IfExists::Skip), work()]);
    world.settle();
    assert_eq!(world.replies(batch), [Heard::Accepted { ids: vec![1, 4], existing: vec![0] }]);
    end(&mut world, 4);
    assert!(world.is_answered(batch), "it waits for job 4 alone");
    let batch = world.submit_batch(vec![named(IfExists::Skip); 2]);
    world.settle();
    assert!(world.is_answered(batch));

    end(&mut world, 1);
    assert_eq!(submit(&mut world, vec![named(IfExists::Skip)]), [accepted(7, 1)], "it has ended");
    end(&mut world, 7);
    world.assert_idle();
}

#[test]
fn a_skipped_submission_leaves_no_input() {
    let mut world = World::up(1);
    world.submit(vec![named(IfExists::Queue)]);
    world.settle();
    let skipped = world.submit_with_input(named(IfExists::Skip));
    let waiting = world.submit_with_input(named(IfExists::Queue));
    world.settle();
    assert!(matches!(world.replies(skipped), [Heard::Skipped { .. }]));
    assert_eq!(world.replies(waiting), [accepted(3, 1)]);
    assert_eq!(world.clients.spooled.len(), 1);
    end(&mut world, 1);
    end(&mut world, 3);
    world.assert_idle();
    world.assert_empty();
}

#[test]
fn who_joins_hears_what_becomes_of_the_job_that_there_is() {
    let mut world = World::up(2);
    world.submit(vec![named(IfExists::Skip)]);
    world.settle();
    begin(&mut world, 1);
    let call = submit_attached(&mut world, named(IfExists::Join), OnDisconnect::Detach);
    let existing = Heard::Accepted { ids: vec![1], existing: vec![0] };
    assert_eq!(world.replies(call), [existing, Heard::Started { id: JobId(1), attempt: 1 }]);
    end_as(&mut world, 1, Exit::Code(1));
    assert_eq!(last(&world, call), (State::Failed, Some(ResultKind::ExitCode)));
    world.assert_idle();
}

#[test]
fn what_is_queued_behind_another_runs_in_its_turn_and_others_do_not_wait_for_it() {
    let mut world = World::up(2);
    let listener = world.listen();
    submit(&mut world, vec![named(IfExists::Queue); 3]);
    submit(&mut world, vec![Work { priority: -5, ..work() }]);
    assert_eq!(world.running_jobs(), [1, 4]);
    end(&mut world, 4);
    let urgent = Work { priority: 9, ..named(IfExists::Queue) };
    assert_eq!(submit(&mut world, vec![urgent]), [accepted(5, 1)]);
    for id in [1, 2, 3, 5] {
        assert_eq!(world.running_jobs(), [id], "in the order of submission");
        end(&mut world, id);
    }
    world.assert_idle();

    let told = |kind| {
        let happenings = world.replies(listener).iter().filter_map(|heard| match heard {
            Heard::Happening(happening) if happening.event == kind => Some(happening),
            _ => None,
        });
        let told = happenings.map(|told| (told.id.unwrap(), told.reason.clone().unwrap_or_default()));
        told.collect::<Vec<(u64, String)>>()
    };
    let waits = |id: u64| format!("waits until job {id} has ended");
    let submitted = [(1, String::new()), (2, waits(1)), (3, waits(2)), (4, String::new()), (5, waits(3))];
    assert_eq!(told(HappeningKind::Submitted), submitted);
    let released = [(2, 1), (3, 2), (5, 3)].map(|(id, after)| (id, format!("job {after} has ended")));
    assert_eq!(told(HappeningKind::Released), released);
}

#[test]
fn a_job_has_its_turn_until_it_has_ended_for_good() {
    let mut world = World::up(2);
    let first = Work { unique: named(IfExists::Queue).unique, ..retried(1) };
    submit(&mut world, vec![first, Work { on_crash: OnCrash::Hold, ..named(IfExists::Queue) }]);
    submit(&mut world, vec![named(IfExists::Queue)]);
    world.attempt_ended(slot(0), Exit::Code(1));
    world.settle();
    assert_eq!(
        (world.state(1), world.running_jobs()),
        (State::Retrying, vec![]),
        "job 1 waits for its retry"
    );
    world.advance(SECOND);
    world.settle();
    assert_eq!(world.running_jobs(), [1]);
    end_as(&mut world, 1, Exit::Code(1));
    assert_eq!(world.running_jobs(), [2]);

    begin(&mut world, 2);
    world.crash();
    world.settle();
    assert_eq!((world.state(2), world.running_jobs()), (State::Held, vec![]));
    world.cancel(&[2]);
    world.settle();
    assert_eq!(world.running_jobs(), [3]);
    end(&mut world, 3);
    world.assert_idle();
}

#[test]
fn what_waits_can_be_canceled_and_has_no_turn_to_pass_on() {
    let mut world = World::up(2);
    submit(&mut world, vec![named(IfExists::Queue); 4]);
    let call = world.cancel(&[2, 3]);
    world.settle();
    assert!(world.is_answered(call));
    assert_eq!((world.running_jobs(), world.record(4).waits_for), (vec![1], Some(1)));
    end(&mut world, 1);
    assert_eq!(world.running_jobs(), [4]);
    end(&mut world, 4);
    world.assert_idle();
}

/// The end of the one before is on its way to the disk when the one that waits for it is canceled, and the
/// other way round.
#[test]
fn a_turn_that_comes_while_the_job_is_being_canceled_is_passed_on() {
    for steps in 0..4 {
        let mut world = World::up(1);
        submit(&mut world, vec![named(IfExists::Queue); 3]);
        world.attempt_ended(slot(0), EXITED);
        world.store_steps(steps);
        // The core alone, which knows nothing of the job before its turn has come.
        world.handle(Event::Cancel { id: JobId(2), unstarted: false });
        let call = world.cancel(&[2]);
        world.settle();
        while let Some(&id) = world.running_jobs().first() {
            assert!(id > 1);
            end(&mut world, id);
        }
        assert_eq!(
            (world.state(2), world.state(3)),
            (State::Canceled, State::Succeeded),
            "after {steps} steps"
        );
        assert!(world.is_answered(call), "after {steps} steps");
        world.assert_idle();
    }
}

#[test]
fn a_replaced_job_is_ended_and_the_last_one_runs() {
    let mut world = World::up(2);
    let first = submit_attached(&mut world, named(IfExists::Skip), OnDisconnect::Detach);
    begin(&mut world, 1);
    let second = submit_attached(&mut world, named(IfExists::Queue), OnDisconnect::Detach);
    let third = submit_attached(&mut world, named(IfExists::Replace), OnDisconnect::Detach);
    let canceled = (State::Canceled, Some(ResultKind::Canceled));
    assert_eq!(last(&world, second), canceled);
    assert_eq!(world.running_jobs(), [1], "it is being ended");
    let fourth = submit_attached(&mut world, named(IfExists::Replace), OnDisconnect::Detach);
    assert_eq!(last(&world, third), canceled);

    end_as(&mut world, 1, Exit::Signal { signal: 15, core: false });
    assert_eq!((last(&world, first), world.running_jobs()), (canceled, vec![4]));
    let reason = world.record(1).reason.expect("it is told why");
    assert!(reason.contains("job 3"), "{reason}");
    end(&mut world, 4);
    assert_eq!(last(&world, fourth), (State::Succeeded, Some(ResultKind::Success)));
    world.assert_idle();
}

#[test]
fn a_crash_after_any_step_loses_no_replacement_and_runs_nothing_twice() {
    // The submission is on its way, on the disk, or heard of; then the end of the old one is.
    for steps in 0..6 {
        for written in 0..3 {
            let mut world = World::up(1);
            submit(&mut world, vec![named(IfExists::Queue); 2]);
            begin(&mut world, 1);
            world.submit(vec![named(IfExists::Replace)]);
            world.store_steps(steps);
            for _ in 0..written {
                world.store_step();
            }
            world.crash();
            world.settle();

            let is_kept = world.has(JobId(3));
            assert_eq!(is_kept, steps + written > 0, "{steps} steps, {written} written");
            let mut run = Vec::new();
            while let Some(&id) = world.running_jobs().first() {
                run.push(id);
                end(&mut world, id);
            }
            let wanted: &[u64] = if is_kept { &[3] } else { &[1, 2] };
            assert_eq!(run, wanted, "{steps} steps, {written} written");
            world.assert_idle();
        }
    }
}

#[test]
fn a_drain_waits_for_those_whose_turn_comes() {
    let mut world = World::up(1);
    submit(&mut world, vec![named(IfExists::Queue); 2]);
    world.drain();
    world.settle();
    end(&mut world, 1);
    assert!(!world.exited && world.running_jobs() == [2]);
    end(&mut world, 2);
    assert!(world.exited);
}

#[test]
fn a_drain_does_not_wait_behind_a_job_that_it_does_not_wait_for() {
    let mut world = World::up(1);
    submit(
        &mut world,
        vec![Work { on_crash: OnCrash::Hold, ..named(IfExists::Queue) }, named(IfExists::Queue)],
    );
    begin(&mut world, 1);
    world.crash();
    world.settle();
    assert_eq!(world.state(1), State::Held);
    world.drain();
    world.settle();
    assert!(world.exited, "nobody decides");
}

#[test]
fn what_waits_for_another_ends_with_what_it_is_tied_to() {
    let mut world = World::up(2);
    submit(&mut world, vec![work()]);
    submit(&mut world, vec![named(IfExists::Queue)]);
    submit(&mut world, vec![Work { tie: Some(Tie::Job(JobId(1))), ..named(IfExists::Queue) }]);
    submit(&mut world, vec![named(IfExists::Queue)]);
    end(&mut world, 1);
    assert_eq!((world.state(3), world.record(4).waits_for), (State::Canceled, Some(2)));
    end(&mut world, 2);
    end(&mut world, 4);
    world.assert_idle();
}

#[test]
fn those_that_wait_for_others_count_as_queued() {
    let mut config = settings(1);
    config.max_queued = 2;
    let mut world = World::new(config);
    world.settle();
    submit(&mut world, vec![named(IfExists::Queue)]);
    submit(&mut world, vec![named(IfExists::Queue); 2]);
    let refused = submit(&mut world, vec![named(IfExists::Queue)]);
    assert!(matches!(refused[..], [Heard::Refused(_)]), "{refused:?}");
    world.crash();
    world.settle();
    let refused = submit(&mut world, vec![named(IfExists::Queue)]);
    assert!(matches!(refused[..], [Heard::Refused(_)]), "over a restart: {refused:?}");
    for id in [1, 2, 3] {
        assert_eq!(world.running_jobs(), [id]);
        end(&mut world, id);
    }
    world.assert_idle();
}
