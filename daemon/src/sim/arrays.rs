//! Stories of job arrays: nothing of them is lost or doubled, whatever dies in between.

use pool_proto::State;
use pool_proto::methods::Wait;
use pool_proto::nouns::{CallbackFor, On, OnDisconnect};

use super::clients::{Heard, ends_of};
use super::delayed::Death;
use super::specs::{EXITED, SECOND, array, array_of, mixed, with_callback, work};
use super::workers::{begin, end_as, run_callback, running, submit};
use super::world::World;
use crate::job::{Conditions, Exit, JobId, Labels, Needs, Place, Retries, Tie, Work};

/// Ends what runs, the first one first, until nothing does; ids in the order of the ends.
fn run_all(world: &mut World) -> Vec<u64> {
    let mut order = Vec::new();
    while let Some(&id) = running(world).first() {
        order.push(id);
        end_as(world, id, EXITED);
    }
    order
}

fn counts(world: &World, id: u64) -> [u32; 3] {
    let array = world.record(id).array.expect("it is an array");
    [array.succeeded, array.failed, array.canceled].map(Option::unwrap_or_default)
}

fn states(world: &World, ids: impl IntoIterator<Item = u64>) -> Vec<State> {
    ids.into_iter().map(|id| world.record(id).state).collect()
}

#[test]
fn elements_run_in_order_in_the_place_of_their_array() {
    let mut world = World::up(2);
    submit(&mut world, vec![work()]);
    submit(&mut world, vec![array("0-9")]);
    submit(&mut world, vec![work(), work()]);
    let urgent = Work { priority: 1, ..work() };
    submit(&mut world, vec![urgent]);
    assert_eq!(running(&world), [1, 3], "a free slot takes the first element");
    end_as(&mut world, 1, EXITED);
    assert_eq!(running(&world), [3, 15], "what goes first, does so");
    end_as(&mut world, 15, EXITED);
    assert_eq!(world.state(2), State::Running);
    let order = run_all(&mut world);
    let expected: Vec<u64> = (3..=12).collect();
    assert_eq!(order.iter().copied().filter(|id| expected.contains(id)).collect::<Vec<u64>>(), expected);
    assert_eq!(order[order.len() - 2..], [13, 14]);
    assert_eq!((world.state(2), counts(&world, 2)), (State::Succeeded, [10, 0, 0]));
    world.check_ends();
    world.assert_idle();
}

#[test]
fn an_array_costs_what_is_near_its_slots() {
    let mut world = World::up(1);
    submit(&mut world, vec![array("0-999999")]);
    submit(&mut world, vec![work()]);
    for id in 2..50 {
        assert_eq!(running(&world), [id]);
        end_as(&mut world, id, EXITED);
    }
    let kept = world.disk().jobs().count();
    assert!(kept < 70, "{kept} jobs are kept");
    world.cancel(&[1]);
    world.settle();
    end_as(&mut world, 50, Exit::Signal { signal: 15, core: false });
    assert_eq!(run_all(&mut world), [1_000_002]);
    assert_eq!((world.state(1), counts(&world, 1)), (State::Canceled, [48, 0, 999_952]));
    world.assert_idle();
}

#[test]
fn the_end_of_an_array_is_told_once_with_its_callback() {
    let mut world = World::up(2);
    let array = array_of(with_callback(On::Failure), "1-3", CallbackFor::Array);
    let waiting = world.submit_and_wait(&array, OnDisconnect::Detach);
    world.settle();
    end_as(&mut world, 2, EXITED);
    end_as(&mut world, 3, Exit::Code(7));
    assert!(!world.is_answered(waiting));
    end_as(&mut world, 4, Exit::Code(3));
    let Some(Heard::Ended(record)) = world.replies(waiting).last() else { panic!("it has ended") };
    assert_eq!((record.state, record.exit_code), (State::Failed, Some(7)));
    assert_eq!(record.reason.as_deref(), Some("2 of 3 elements failed"));
    run_callback(&mut world, 1, EXITED);
    world.settle();
    world.check_ends();
    world.assert_idle();
}

#[test]
fn each_element_may_have_a_callback() {
    let mut world = World::up(1);
    submit(
        &mut world,
        vec![array_of(with_callback(On::Done), "1-2", CallbackFor::Element), with_callback(On::Done)],
    );
    end_as(&mut world, 2, EXITED);
    // That of the job beside it was given its id first.
    run_callback(&mut world, 1, EXITED);
    end_as(&mut world, 3, Exit::Code(1));
    run_callback(&mut world, 2, EXITED);
    end_as(&mut world, 4, EXITED);
    run_callback(&mut world, 3, EXITED);
    world.settle();
    world.check_ends();
    world.assert_idle();
}

#[test]
fn so_many_run_at_a_time_and_others_go_past_them() {
    let mut world = World::up(4);
    submit(&mut world, vec![array("0-5%2")]);
    submit(&mut world, vec![work()]);
    assert_eq!(running(&world), [2, 3, 8]);
    end_as(&mut world, 3, EXITED);
    assert_eq!(running(&world), [2, 4, 8]);
    world.crash();
    world.settle();
    assert_eq!(running(&world).len(), 3, "a start knows it");
    assert_eq!(run_all(&mut world).len(), 6);
    assert_eq!(world.state(1), State::Succeeded);

    // Those that are run again, too.
    submit(&mut world, vec![array("0-5%2")]);
    while let Some(&id) = running(&world).first() {
        end_as(&mut world, id, Exit::Code(1));
    }
    world.retry(&[10, 11, 12, 13, 14, 15]);
    world.settle();
    assert_eq!(running(&world), [10, 11]);
    run_all(&mut world);
    assert_eq!((world.state(9), world.record(9).reruns, counts(&world, 9)), (State::Succeeded, 1, [6, 0, 0]));
    world.assert_idle();
}

#[test]
fn one_element_is_waited_for_and_ended_before_it_is_made() {
    let mut world = World::up(1);
    submit(&mut world, vec![array("0-49")]);
    let last = world.wait(ends_of(&[51]));
    let one = world.wait(ends_of(&[40]));
    world.settle();
    assert!(!world.is_answered(last) && !world.is_answered(one));
    world.cancel(&[40]);
    world.settle();
    assert!(world.is_answered(one));
    assert!(world.disk().jobs().count() < 15, "those before it are not made for its sake");
    let order = run_all(&mut world);
    assert_eq!((order.len(), order.contains(&40)), (49, false));
    assert!(world.is_answered(last));
    assert_eq!((world.state(1), counts(&world, 1)), (State::Canceled, [49, 0, 1]));
    world.check_ends();
    world.assert_idle();
}

#[test]
fn elements_that_are_held_or_ended_early_do_not_keep_the_rest() {
    let mut world = World::up(1);
    submit(&mut world, vec![work(), work(), work()]);
    submit(&mut world, vec![array("0-9")]);
    world.cancel(&[7, 8]);
    world.settle();
    assert_eq!(run_all(&mut world), [1, 2, 3, 5, 6, 9, 10, 11, 12, 13, 14]);

    submit(&mut world, vec![array("0-9")]);
    world.hold(&[17, 18, 19, 20]);
    world.settle();
    assert_eq!(run_all(&mut world).len(), 10 - 3, "those that were made by then are held");
    let held: Vec<u64> = (16..=25).filter(|&id| world.state(id) == State::Held).collect();
    world.release(&held);
    world.settle();
    assert_eq!(run_all(&mut world), held);
    world.check_ends();
    world.assert_idle();
}

#[test]
fn who_waits_for_an_element_that_is_never_made_is_told() {
    let mut world = World::up(1);
    submit(&mut world, vec![array("0-49")]);
    submit(&mut world, vec![Work { tie: Some(Tie::Job(JobId(50))), ..work() }]);
    let waiting = world.wait(Wait { any: Some(false), ..ends_of(&[48, 49]) });
    world.settle();
    world.cancel(&[1]);
    world.settle();
    assert!(world.is_answered(waiting), "though an element runs yet");
    end_as(&mut world, 2, Exit::Signal { signal: 15, core: false });
    assert!(world.is_answered(waiting));
    assert_eq!(states(&world, [1, 2, 48, 52]), [State::Canceled; 4], "and what was tied to one");
    world.check_ends();
    world.assert_idle();
}

#[test]
fn an_array_waits_as_one_job() {
    let mut world = World::up(2);
    let conditions = Some(Box::new(Conditions { hold: true, ..Conditions::default() }));
    submit(&mut world, vec![Work { conditions, ..array("0-3") }]);
    assert_eq!(states(&world, [1, 2, 5]), [State::Held; 3]);
    world.release(&[1]);
    world.settle();
    assert_eq!(run_all(&mut world), [2, 3, 4, 5]);

    submit(&mut world, vec![work(), work(), work()]);
    submit(&mut world, vec![array("0-3")]);
    world.hold(&[9]);
    world.settle();
    assert_eq!(states(&world, [9, 10]), [State::Held; 2]);
    world.release(&[9]);
    world.move_to(&[9], "other");
    world.settle();
    assert_eq!(run_all(&mut world).len(), 7);
    assert_eq!(world.record(12).pool, "other");
    world.check_ends();
    world.assert_idle();
}

#[test]
fn nobody_waits_for_an_array_that_is_over_its_deadline() {
    let mut world = World::up(1);
    submit(&mut world, vec![Work { deadline: Some(5 * SECOND), ..array("0-49") }]);
    begin(&mut world, 2);
    world.advance(6 * SECOND);
    world.settle();
    end_as(&mut world, 2, Exit::Signal { signal: 15, core: false });
    assert_eq!(states(&world, [1, 2, 3]), [State::TimedOut; 3]);
    assert_eq!(world.record(50).state, State::Canceled);
    assert_eq!(run_all(&mut world), Vec::<u64>::new());
    world.assert_idle();
}

#[test]
fn failed_attempts_of_elements_are_repeated() {
    let mut world = World::up(2);
    submit(&mut world, vec![Work { retries: Retries::new(1, SECOND), ..array("0-2") }]);
    end_as(&mut world, 2, Exit::Code(1));
    world.crash();
    world.settle();
    run_all(&mut world);
    world.advance(3 * SECOND);
    world.settle();
    run_all(&mut world);
    assert_eq!((world.state(1), counts(&world, 1)), (State::Succeeded, [3, 0, 0]));
    world.check_ends();
    world.assert_idle();
}

#[test]
fn a_drain_waits_for_the_elements_that_are_to_come() {
    let mut world = World::up(1);
    submit(&mut world, vec![array("0-30")]);
    world.drain();
    world.settle();
    assert!(!world.exited);
    assert_eq!(run_all(&mut world).len(), 31);
    assert!(world.exited);
}

#[test]
fn a_drain_ends_an_array_that_is_tied_to_the_pool() {
    let mut world = World::up(1);
    submit(&mut world, vec![Work { tie: Some(Tie::Pool), ..array("0-30") }]);
    world.drain();
    world.settle();
    end_as(&mut world, 2, Exit::Signal { signal: 15, core: false });
    world.settle();
    assert!(world.exited);
    assert_eq!(world.disk().place_of(JobId(1)).map(Place::state), Some(State::Canceled));
}

#[test]
fn an_array_may_have_labels_and_stand_behind_a_limit() {
    let mut world = World::up(2);
    world.set_limit("gpu", Some(1));
    submit(&mut world, vec![Work { needs: Needs::of_labels(Labels::parse("gpu")), ..work() }]);
    submit(&mut world, vec![Work { needs: Needs::of_labels(Labels::parse("gpu")), ..array("0-3") }]);
    submit(&mut world, vec![work()]);
    assert_eq!(running(&world), [1, 7]);
    assert_eq!(run_all(&mut world), [1, 3, 4, 5, 6, 7]);
    world.assert_idle();
}

#[test]
fn a_repeated_submission_finds_its_array() {
    let mut world = World::up(1);
    let key = || Some(crate::job::Key { text: "k".into(), round: None });
    submit(&mut world, vec![Work { key: key(), ..array("0-3") }]);
    let again = world.submit(vec![Work { key: key(), ..array("0-3") }]);
    world.settle();
    assert!(world.is_answered(again));
    submit(&mut world, vec![work()]);
    assert_eq!(run_all(&mut world), [2, 3, 4, 5, 11], "its ids stay unused");
    world.assert_idle();
}

/// Whatever dies after any effect: each element ends once, and none is left out.
#[test]
fn a_death_between_pieces_loses_and_doubles_nothing() {
    let tell = |cut_at: Option<usize>| {
        let mut world = World::handing_ahead(mixed(2));
        world.settle();
        world.cut_at = cut_at.map(|at| world.performed + at);
        world.submit(vec![array_of(with_callback(On::Done), "0-13%3", CallbackFor::Element)]);
        let mut rounds = 0;
        while !world.dead && rounds < 40 {
            world.settle();
            rounds += 1;
            for (slot, _) in world.running() {
                if world.lives() {
                    let code = i32::from(rounds % 3 == 0);
                    world.attempt_ended(slot, Exit::Code(code));
                }
            }
        }
        world
    };
    let start = {
        let mut world = World::handing_ahead(mixed(2));
        world.settle();
        world.performed
    };
    let whole = tell(None).performed - start;
    for cut in 1..=whole {
        let left = tell(Some(cut)).delayed().steps_left();
        for (steps, death) in (0..=left).flat_map(|steps| [(steps, Death::Kill), (steps, Death::PowerCut)]) {
            let mut world = tell(Some(cut));
            if !world.dead {
                continue;
            }
            world.bury(steps, death);
            super::property::come_to_rest(&mut world);
            if !world.has(JobId(1)) {
                assert!(world.clients.accepted.is_empty(), "it was accepted");
                continue;
            }
            let states = states(&world, 2..=15);
            let count =
                |is_one: fn(&State) -> bool| states.iter().filter(|state| is_one(state)).count() as u32;
            let counted =
                [count(|state| *state == State::Succeeded), count(|state| *state == State::Failed), 0];
            assert_eq!(counts(&world, 1), counted, "{states:?}");
            assert_eq!(counted[0] + counted[1], 14, "{states:?}");
        }
    }
}

#[test]
fn an_element_is_run_again_before_its_array_has_begun() {
    let mut world = World::up(1);
    submit(&mut world, vec![work(), work(), array("0-3")]);
    for is_held in [false, true] {
        if is_held {
            world.hold(&[3]);
            world.settle();
        }
        world.cancel(&[5]);
        world.settle();
        assert_eq!(world.state(5), State::Canceled);
        world.retry(&[5]);
        world.settle();
        let state = if is_held { State::Held } else { State::Queued };
        assert_eq!((world.state(3), world.state(5)), (state, State::Queued));
    }
    world.release(&[3]);
    world.settle();
    let mut order = run_all(&mut world);
    order.sort_unstable();
    assert_eq!(order, [1, 2, 4, 5, 6, 7]);
    assert_eq!(counts(&world, 3), [4, 0, 0]);
    world.assert_idle();
    world.assert_empty();
}
