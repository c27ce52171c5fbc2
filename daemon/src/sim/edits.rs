//! Stories of jobs that are edited before they begin.

use pool_proto::methods::Edit;
use pool_proto::nouns::{Dependency, HappeningKind, Job, On};
use pool_proto::{Refusal, ResultKind, State};

use super::clients::{Heard, refused};
use super::queue::retried;
use super::specs::{EXITED, SECOND, call, mixed, work};
use super::workers::submit;
use super::world::{DEFAULT, World};
use crate::core::SlotId;
use crate::job::{Exit, JobId, RequestId, Work};

const SLOT: SlotId = SlotId { lane: DEFAULT, index: 0 };

/// Pools of one slot each: "default", "other", and "warm".
fn pools() -> World {
    let mut world = World::new(mixed(1));
    world.settle();
    world
}

fn edit(world: &mut World, id: u64, set: Job) -> RequestId {
    let request = world.edit(Edit { id, set: Some(set), ..Edit::default() });
    world.settle();
    request
}

fn is_done(world: &World, request: RequestId) -> bool {
    matches!(world.replies(request).last(), Some(Heard::Done))
}

fn end_all(world: &mut World) {
    while !world.running().is_empty() {
        for (slot, _) in world.running() {
            world.attempt_ended(slot, EXITED);
        }
        world.settle();
    }
}

fn end_one(world: &mut World) -> Vec<u64> {
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    world.running_jobs()
}

fn after(id: u64, on: On) -> Job {
    Job { after: Some(vec![Dependency { id, on: Some(on) }]), ..Job::default() }
}

#[test]
fn a_queued_job_is_another_one_in_its_place_over_a_kill() {
    let mut world = pools();
    submit(&mut world, vec![work(); 4]);
    let listening = world.listen();
    world.settle();
    let set = Job { priority: Some(5), argv: vec!["other".into()], timeout_s: Some(7.0), ..Job::default() };
    let request = edit(&mut world, 3, set);
    assert!(is_done(&world, request), "{:?}", world.replies(request));
    let heard = world.replies(listening).iter().any(|heard| match heard {
        Heard::Happening(happening) => happening.event == HappeningKind::Edited && happening.id == Some(3),
        _ => false,
    });
    assert!(heard);
    world.crash();
    world.settle();
    let record = world.record(3);
    assert_eq!((record.priority, record.argv), (5, Some(vec!["other".into()])));
    assert_eq!(world.work_of(JobId(3)).timeout, Some(7 * SECOND));
    end_all(&mut world);
    world.assert_idle();
    world.assert_empty();
}

#[test]
fn the_priority_decides_anew_about_its_turn() {
    let mut world = pools();
    submit(&mut world, vec![work(); 4]);
    edit(&mut world, 4, Job { priority: Some(1), ..Job::default() });
    edit(&mut world, 2, Job { priority: Some(-1), ..Job::default() });
    let order = [end_one(&mut world), end_one(&mut world), end_one(&mut world)];
    assert_eq!(order, [[4], [3], [2]]);
    end_all(&mut world);
    world.assert_idle();
}

#[test]
fn a_job_may_come_into_another_pool_and_get_labels() {
    let mut world = pools();
    submit(&mut world, vec![work(); 3]);
    let set = Job { pool: Some("other".to_owned()), exclusive: Some(vec!["l".to_owned()]), ..Job::default() };
    edit(&mut world, 3, set);
    assert_eq!(world.running_jobs(), [1, 3]);
    edit(&mut world, 2, Job { labels: Some(vec!["l".to_owned()]), ..Job::default() });
    assert_eq!(end_one(&mut world), [3], "one of the label runs");
    world.settle();
    end_all(&mut world);
    assert_eq!([1, 2, 3].map(|id| world.state(id)), [State::Succeeded; 3]);
    world.assert_idle();
}

#[test]
fn what_it_waits_for_may_be_another_thing() {
    let mut world = pools();
    submit(&mut world, vec![work(); 4]);
    edit(&mut world, 2, Job { delay_s: Some(1.0), ..Job::default() });
    edit(&mut world, 3, after(1, On::Failure));
    edit(&mut world, 4, after(1, On::Success));
    assert_eq!([2, 3, 4].map(|id| world.state(id)), [State::Scheduled, State::Blocked, State::Blocked]);
    let request = world.edit(Edit { id: 3, unset: Some(vec!["after".to_owned()]), ..Edit::default() });
    world.settle();
    assert!(is_done(&world, request) && world.state(3) == State::Queued);
    assert_eq!(end_one(&mut world), [3]);
    assert_eq!(world.state(4), State::Queued);
    edit(&mut world, 4, after(1, On::Failure));
    assert_eq!(world.record(4).result, Some(ResultKind::DepFailed));
    world.advance(SECOND);
    world.settle();
    assert_eq!(end_one(&mut world), [2]);
    end_all(&mut world);
    world.assert_idle();
    world.assert_empty();
}

#[test]
fn its_deadlines_count_from_the_edit() {
    let mut world = pools();
    submit(&mut world, vec![work(); 3]);
    world.advance(5 * SECOND);
    world.settle();
    edit(&mut world, 2, Job { deadline_s: Some(2.0), ..Job::default() });
    edit(&mut world, 3, Job { start_within_s: Some(3.0), ..Job::default() });
    world.advance(SECOND);
    world.settle();
    assert_eq!([2, 3].map(|id| world.state(id)), [State::Queued; 2]);
    world.advance(SECOND);
    world.settle();
    assert_eq!([2, 3].map(|id| world.state(id)), [State::TimedOut, State::Queued]);
    world.advance(SECOND);
    world.settle();
    assert_eq!(world.state(3), State::Canceled);
    end_all(&mut world);
    world.assert_idle();
}

#[test]
fn what_cannot_be_stays_as_it_is_and_runs() {
    let mut world = pools();
    submit(&mut world, vec![retried(1), work(), work()]);
    submit(&mut world, vec![Work { pool: "warm".into(), ..call() }, Work { pool: "warm".into(), ..call() }]);
    let pool = |name: &str| Job { pool: Some(name.to_owned()), ..Job::default() };
    let waiting = [4, 5].into_iter().find(|id| !world.running_jobs().contains(id)).expect("one slot");
    for (id, set, said) in [
        (1, pool("other"), "runs"),
        (2, pool("warm"), "is a command"),
        (waiting, pool("other"), "is a call"),
        (waiting, Job { idle_timeout_s: Some(1.0), ..Job::default() }, "no process of its own"),
        (2, Job { retry_on_exit: Some("3".to_owned()), ..Job::default() }, "without retries"),
        (2, after(3, On::Done), "submitted before it"),
        (2, after(2, On::Done), "submitted before it"),
    ] {
        let request = edit(&mut world, id, set);
        let refusal = refused(world.replies(request).last());
        assert!(matches!(refusal, Refusal::NotEdited { .. }), "{refusal:?}");
        assert!(refusal.to_string().contains(said), "{said}: {refusal}");
    }
    let request = edit(&mut world, 9, pool("other"));
    assert!(matches!(refused(world.replies(request).last()), Refusal::NoSuchJob { id: 9, .. }));
    let request = edit(&mut world, 2, pool("none"));
    assert!(matches!(refused(world.replies(request).last()), Refusal::NoSuchPool { .. }));
    let request = edit(&mut world, 2, Job { key: Some("k".into()), ..Job::default() });
    assert!(matches!(refused(world.replies(request).last()), Refusal::InvalidJob { .. }));

    world.attempt_ended(SLOT, Exit::Code(1));
    world.settle();
    assert_eq!(world.state(1), State::Retrying);
    let request = edit(&mut world, 1, Job { delay_s: Some(1.0), ..Job::default() });
    assert!(refused(world.replies(request).last()).to_string().contains("has had an attempt"));
    let request = edit(&mut world, 1, Job { priority: Some(3), ..Job::default() });
    assert!(is_done(&world, request));
    world.advance(60 * SECOND);
    world.settle();
    assert!(end_one(&mut world).contains(&1), "its priority is the greatest");
    end_all(&mut world);
    world.assert_idle();
}

#[test]
fn whether_what_is_ahead_is_edited_is_its_workers_word() {
    for is_in_time in [true, false] {
        let mut world = World::handing_ahead(mixed(1));
        world.settle();
        submit(&mut world, vec![work(); 3]);
        world.attempt_ended(SLOT, EXITED);
        world.settle();
        assert!(world.ahead.contains_key(&SLOT), "the slot has job 3 ahead");
        let request = edit(&mut world, 3, Job { priority: Some(9), ..Job::default() });
        assert!(!world.is_answered(request));
        if is_in_time {
            world.give_back(SLOT);
            world.settle();
            assert!(is_done(&world, request));
        } else {
            world.attempt_ended(SLOT, EXITED);
            world.settle();
            assert!(matches!(refused(world.replies(request).last()), Refusal::NotEdited { .. }));
        }
        assert_eq!(world.record(3).priority, if is_in_time { 9 } else { 0 });
        end_all(&mut world);
        world.assert_idle();
        world.assert_empty();
    }
}

#[test]
fn a_job_that_is_edited_before_it_is_there_stays_and_runs() {
    let mut world = pools();
    let request =
        world.edit(Edit { id: 1, set: Some(Job { priority: Some(9), ..Job::default() }), ..Edit::default() });
    world.submit(vec![work()]);
    world.store_writes(2);
    world.settle();
    assert!(matches!(refused(world.replies(request).last()), Refusal::NoSuchJob { .. }));
    assert_eq!((world.running_jobs(), world.record(1).priority), (vec![1], 0));
    end_all(&mut world);
    world.assert_idle();
}

#[test]
fn a_deadline_that_passes_while_it_is_taken_away_ends_nothing() {
    let mut world = pools();
    submit(&mut world, vec![work(), Work { deadline: Some(SECOND), ..work() }]);
    world.advance(2 * SECOND);
    let unset = Some(vec!["deadline_s".to_owned()]);
    let request = world.edit(Edit { id: 2, unset, ..Edit::default() });
    world.settle();
    assert!(is_done(&world, request), "the edit was on its way when the engine told whose time is over");
    assert_eq!(world.state(2), State::Queued);
    end_all(&mut world);
    assert_eq!(world.state(2), State::Succeeded);
    world.assert_idle();
}

#[test]
fn a_deadline_that_passes_while_something_else_is_edited_ends_the_job() {
    let mut world = pools();
    submit(&mut world, vec![work(), Work { deadline: Some(SECOND), ..work() }]);
    world.advance(2 * SECOND);
    edit(&mut world, 2, Job { priority: Some(5), ..Job::default() });
    assert_eq!(world.state(2), State::TimedOut);
    end_all(&mut world);
    world.assert_idle();
}

#[test]
fn a_deadline_that_passes_while_a_job_is_held_ends_it() {
    let mut world = pools();
    submit(&mut world, vec![work(), Work { deadline: Some(SECOND), ..work() }]);
    world.advance(2 * SECOND);
    world.hold(&[2]);
    world.settle();
    assert_eq!(world.state(2), State::TimedOut);
    end_all(&mut world);
    world.assert_idle();
}
