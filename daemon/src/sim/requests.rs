//! Stories of requests and of what hangs on them: spooled inputs, listings, listeners, volatile jobs; and of
//! the order in which effects are carried out.

use pool_proto::methods::{List, Listed, Release, Reply, Request, Submit};
use pool_proto::nouns::{Happening, HappeningKind, OnCrash};
use pool_proto::{Refusal, State};

use super::clients::{Heard, accepted, refused};
use super::specs::{EXITED, as_submitted, call, mixed, settings, work};
use super::world::{WARM, World};
use crate::core::{Effect, Event, SlotId};
use crate::engine::Change;
use crate::job::{JobId, Place, ProcessId, RequestId, Work};
use crate::start::config::Config;

// ---- spooled inputs ----

#[test]
fn a_spooled_input_lasts_as_long_as_its_job_and_over_a_restart() {
    let mut world = World::up(1);
    world.submit_with_input(work());
    world.settle();
    world.crash();
    world.settle();
    assert_eq!((world.running_jobs(), world.clients.spooled.len()), (vec![1], 1));
    world.attempt_ended(world.running()[0].0, EXITED);
    world.settle();
    assert!(world.clients.spooled.is_empty());
    world.assert_empty();
}

#[test]
fn a_spooled_input_goes_with_a_submission_that_is_refused() {
    let mut world = World::new(Config { max_queued: 1, ..settings(1) });
    world.submit(vec![work()]);
    let full = world.submit_with_input(work());
    assert!(matches!(refused(world.replies(full).last()), Refusal::QueueFull { .. }));
    assert!(world.clients.spooled.is_empty(), "though its client is still there");

    // The backing refuses, too.
    let mut world = World::up(1);
    let request = world.submit_with_input(work());
    world.store_refuses();
    world.settle();
    assert!(matches!(refused(world.replies(request).last()), Refusal::StoreFailed { .. }));
    assert!(world.clients.spooled.is_empty());
}

#[test]
fn a_spooled_input_that_nobody_names_goes_with_its_connection() {
    let mut world = World::up(1);
    let connection = world.connect();
    world.ask_over(connection, Request::Spool, false);
    assert_eq!(world.clients.spooled.len(), 1);
    let token = world.clients.spooled.first().cloned();
    let job = as_submitted(&Work { stdin: token, ..work() });
    let other = world.ask(Request::Submit(Box::new(Submit { job, on_disconnect: None, obstacles: None })));
    assert!(
        matches!(refused(world.replies(other).last()), Refusal::InvalidJob { .. }),
        "it is another one's"
    );
    world.close(connection);
    assert!(world.clients.spooled.is_empty());
}

// ---- volatile jobs ----

#[test]
fn volatile_calls_run_in_line_with_the_others_and_are_gone_with_the_daemon() {
    let mut world = World::new(mixed(1));
    world.settle();
    let slot = SlotId { lane: WARM, index: 0 };
    world.submit(vec![call()]);
    world.settle();
    let batch = world.submit_batch(vec![Work { volatile: true, ..call() }; 2]);
    world.settle();
    assert_eq!(world.replies(batch), [accepted(2, 2)]);
    for id in [1, 2] {
        assert_eq!(world.running_jobs(), [id]);
        world.answered(slot, Ok("1"));
        world.settle();
    }
    assert!(matches!(world.replies(batch).last(), Some(Heard::Brief(brief)) if brief.id == 2));

    world.crash();
    world.settle();
    assert!(!world.has(JobId(2)) && !world.has(JobId(3)) && world.has(JobId(1)));
    let request = world.submit(vec![call()]);
    world.settle();
    let Some(Heard::Accepted { ids, .. }) = world.replies(request).first() else { panic!("it is accepted") };
    assert!(ids[0] > 3, "no id is given out twice");
}

#[test]
fn nobody_is_told_of_a_volatile_call_before_its_id_is_set_aside() {
    let mut world = World::new(mixed(1));
    world.settle();
    let request = world.submit(vec![Work { volatile: true, ..call() }]);
    assert_eq!(world.replies(request), []);
    world.settle();
    assert_eq!(world.replies(request), [accepted(1, 1)]);

    world.set_disk_full(true);
    world.answer_step();
    // Ids have been set aside for many.
    let request = world.submit(vec![Work { volatile: true, ..call() }]);
    assert_eq!(world.replies(request), [accepted(2, 1)]);
}

#[test]
fn a_listing_has_volatile_and_other_jobs_in_order() {
    let mut world = World::new(mixed(1));
    world.settle();
    for volatile in [false, true, false, true] {
        world.submit(vec![Work { volatile, ..call() }]);
        world.settle();
    }
    let request = world.list(List { limit: Some(3), ..List::default() });
    world.settle();
    let listed = |heard: &Heard| match heard {
        Heard::Other(reply) => match &**reply {
            Reply::Listed(Listed { jobs, .. }) => jobs.iter().map(|job| job.id).collect::<Vec<u64>>(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(world.replies(request).iter().flat_map(listed).collect::<Vec<u64>>(), [1, 2, 3]);
}

// ---- releases ----

#[test]
fn a_release_of_what_is_not_held_changes_nothing_and_one_that_is_named_twice_is_released_once() {
    let mut world = World::up(1);
    world.submit(vec![Work { on_crash: OnCrash::Hold, ..work() }, work()]);
    world.settle();
    world.worker_lost(world.running()[0].0);
    world.settle();
    assert_eq!(world.state(1), State::Held);
    for ids in [vec![1, 2], vec![99, 1]] {
        let request = world.ask(Request::Release(Release { ids }));
        world.settle();
        assert!(matches!(refused(world.replies(request).last()), Refusal::NotHeld { .. }));
        assert_eq!(world.state(1), State::Held);
    }
    let twice = world.release(&[1, 1]);
    world.settle();
    assert_eq!(world.replies(twice), [Heard::Done]);
    while let Some(&(slot, _)) = world.running().first() {
        world.attempt_ended(slot, EXITED);
        world.settle();
    }
    assert_eq!(world.state(1), State::Succeeded);
    world.assert_idle();
    world.assert_empty();
}

// ---- listeners, and clients that go ----

#[test]
fn who_listens_hears_what_happens_in_its_order() {
    let mut world = World::up(1);
    let listener = world.listen();
    world.settle();
    world.submit(vec![work()]);
    world.settle();
    world.attempt_ended(world.running()[0].0, EXITED);
    world.settle();
    let kind = |heard: &Heard| match heard {
        Heard::Happening(happening) => happening.event,
        other => panic!("{other:?}"),
    };
    let heard: Vec<HappeningKind> = world.replies(listener).iter().map(kind).collect();
    let wanted =
        [HappeningKind::Listening, HappeningKind::Submitted, HappeningKind::Started, HappeningKind::Ended];
    assert_eq!(heard, wanted);
    world.assert_empty();
}

/// What came after that cursor, by one who has listened all the time.
fn after(told: &[Happening], cursor: &str) -> Vec<Happening> {
    let place = told.iter().position(|happening| happening.cursor.as_deref() == Some(cursor));
    told[place.expect("it was told") + 1..].to_vec()
}

/// What a listener that is back was told before it was told that it listens, and whether there was a gap.
fn caught_up(world: &World, request: RequestId) -> (Vec<Happening>, bool) {
    let mut told = world.happenings(request);
    assert_eq!(told.pop().map(|last| last.event), Some(HappeningKind::Listening));
    let gap = told.first().is_some_and(|first| first.event == HappeningKind::Gap);
    told.retain(|happening| happening.event != HappeningKind::Gap);
    (told, gap)
}

#[test]
fn who_comes_back_hears_what_it_has_missed() {
    let mut world = World::up(2);
    let (always, leaves) = (world.listen(), world.listen());
    world.submit(vec![work()]);
    world.settle();
    let cursor = world.happenings(leaves).last().and_then(|last| last.cursor.clone()).expect("it has one");
    world.disconnect(leaves);
    world.submit(vec![work(); 2]);
    world.settle();
    while let Some(&(slot, _)) = world.running().first() {
        world.attempt_ended(slot, EXITED);
        world.settle();
    }
    let back = world.listen_since(&cursor);
    world.settle();
    let (told, gap) = caught_up(&world, back);
    assert_eq!((told.len() > 6, gap), (true, false), "{told:#?}");
    assert_eq!(told, after(&world.happenings(always), &cursor));

    // Nobody listens for a while, and nothing is missed all the same.
    let cursor = told.last().and_then(|last| last.cursor.clone()).expect("it has one");
    world.disconnect(back);
    world.disconnect(always);
    world.submit(vec![work()]);
    world.settle();
    world.attempt_ended(world.running()[0].0, EXITED);
    world.settle();
    let back = world.listen_since(&cursor);
    world.settle();
    let (told, gap) = caught_up(&world, back);
    let kinds: Vec<HappeningKind> = told.iter().map(|happening| happening.event).collect();
    assert_eq!(kinds, [HappeningKind::Submitted, HappeningKind::Started, HappeningKind::Ended]);
    assert_eq!((told[2].state, gap), (Some(pool_proto::State::Succeeded), false));

    world.disconnect(back);
    world.assert_empty();
}

#[test]
fn who_comes_back_to_another_poold_is_told_that_something_is_missing() {
    let mut world = World::up(1);
    let listener = world.listen();
    world.settle();
    let cursor = world.happenings(listener)[0].cursor.clone().expect("it has one");
    world.now.wall_us += 1;
    world.crash();
    let back = world.listen_since(&cursor);
    world.settle();
    let (_, gap) = caught_up(&world, back);
    assert!(gap);

    let none = world.listen_since("7");
    assert!(matches!(refused(world.replies(none).last()), Refusal::InvalidParameter { .. }));
}

#[test]
fn a_connection_that_goes_takes_all_its_requests_along() {
    let mut world = World::up(1);
    world.shares_connections = true;
    world.submit(vec![work()]);
    world.listen();
    world.list(List::default());
    world.get(1);
    world.wait(super::clients::ends_of(&[1]));
    world.submit_batch(vec![work(); 2]);
    world.remove_pool("other");
    world.add_pool("added", 1);
    world.close_all();
    while let Some(&(slot, _)) = world.running().first() {
        world.attempt_ended(slot, EXITED);
        world.settle();
    }
    world.settle();
    assert_eq!(world.desk().held(), Vec::<&str>::new());
}

#[test]
fn what_was_submitted_in_one_message_leaves_nothing_behind() {
    let mut world = World::up(1);
    let alone = world.submit(vec![work()]);
    let many = world.submit(vec![work(); 3]);
    world.settle();
    assert_eq!((world.replies(alone), world.replies(many)), (&[accepted(1, 1)][..], &[accepted(2, 3)][..]));
    while let Some(&(slot, _)) = world.running().first() {
        world.attempt_ended(slot, EXITED);
        world.settle();
    }
    world.assert_idle();
    world.assert_empty();
}

// ---- the order of effects ----

/// The slot of a dead worker was once given to another job before the dead one's job was queued again: what
/// came of the next worker's start was handled while that start was carried out, and so overtook the effects
/// that followed it. There is no way to do that now.
#[test]
#[should_panic(expected = "no turn is under way")]
fn an_outside_cannot_reach_into_the_machines_while_it_does_something_for_them() {
    let mut world = World::up(1);
    (world.spawns_at_once, world.reenters) = (true, true);
    world.submit(vec![work(); 2]);
    world.settle();
    world.worker_lost(world.running()[0].0);
}

/// And what would come of it: the next worker takes the second job before it is written down what has become
/// of the first.
#[test]
fn effects_that_are_handled_within_others_overtake_those_that_follow() {
    let order = |reenters: bool| {
        let mut world = World::up(1);
        world.submit(vec![work(); 2]);
        world.settle();
        let (slot, _) = world.running()[0];
        let event = world.lose_worker(slot, false).expect("there is such a worker");
        let up = Event::WorkerUp { slot, pid: ProcessId::new(999) };
        let mut order = Vec::new();
        carry_out(&mut world, event, &mut Some(up), reenters, &mut order);
        order
    };
    let (queued, runs) = ("job 1 is queued again".to_owned(), "job 2 attempt 1 runs".to_owned());
    assert_eq!(order(true), [runs.clone(), queued.clone()]);
    assert_eq!(order(false), [queued, runs]);
}

/// The core alone, in a shell that handles what comes of a worker's start within that effect, or after all
/// effects of the event.
fn carry_out(
    world: &mut World,
    event: Event,
    up: &mut Option<Event>,
    reenters: bool,
    order: &mut Vec<String>,
) {
    let mut later = None;
    for effect in world.handle_in_core(event) {
        match effect {
            Effect::SpawnWorker { .. } if reenters => {
                if let Some(up) = up.take() {
                    carry_out(world, up, &mut None, reenters, order);
                }
            }
            Effect::SpawnWorker { .. } => later = up.take(),
            Effect::Change(Change::Move(moved)) if matches!(moved.to, Place::Queued { .. }) => {
                order.push(format!("job {} is queued again", moved.id));
            }
            Effect::Run { claim, .. } => order.push(format!("{claim} runs")),
            _ => {}
        }
    }
    if let Some(up) = later {
        carry_out(world, up, &mut None, reenters, order);
    }
}
