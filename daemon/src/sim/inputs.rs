//! Stories of jobs whose standard input clients write while they run.

use pool_proto::methods::{CloseInput, OpenInput, Request, Resize};
use pool_proto::nouns::Input;
use pool_proto::{Refusal, State};

use super::clients::Heard;
use super::specs::{EXITED, array, work};
use super::workers::{Sent, begin, end_as};
use super::world::World;
use crate::job::{RequestId, Steer, Work};

fn with(input: Input) -> Work {
    Work { input: Some(input), ..work() }
}

fn open(world: &mut World, id: u64) -> RequestId {
    world.ask(Request::OpenInput(OpenInput { id }))
}

fn close(world: &mut World, id: u64) -> RequestId {
    world.ask(Request::CloseInput(CloseInput { id }))
}

fn resize(world: &mut World, id: u64, rows: u16) -> RequestId {
    world.ask(Request::Resize(Resize { id, rows, columns: 132 }))
}

/// Why it was refused.
fn why_not(world: &mut World, request: RequestId) -> String {
    world.settle();
    match world.replies(request) {
        [Heard::Refused(Refusal::NotRunning { state, .. })] => state.clone(),
        [Heard::Refused(Refusal::NoInput { reason, .. })] => reason.clone(),
        [Heard::Refused(other)] => other.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_attempt_has_an_input_of_its_own_once_it_has_started() {
    let mut world = World::up(1);
    world.submit(vec![with(Input::Pipe)]);
    world.settle();
    let early = open(&mut world, 1);
    assert_eq!(why_not(&mut world, early), "queued", "it is only starting");
    begin(&mut world, 1);
    for attempt in [1, 2] {
        let opened = open(&mut world, 1);
        world.settle();
        assert!(matches!(world.replies(opened), [Heard::Input { attempt: told, .. }] if *told == attempt));
        close(&mut world, 1);
        world.settle();
        assert_eq!(world.signals.pop().map(|(_, sent)| sent), Some(Sent::Steer(Steer::CloseInput)));
        if attempt == 1 {
            world.crash();
            world.settle();
            begin(&mut world, 1);
        }
    }
    world.outputs_are_missing = true;
    let late = open(&mut world, 1);
    assert_eq!(why_not(&mut world, late), "job 1 reads no more");
    end_as(&mut world, 1, EXITED);
    let late = open(&mut world, 1);
    assert_eq!(why_not(&mut world, late), State::Succeeded.as_str());
    world.assert_idle();
    world.assert_empty();
}

#[test]
fn what_does_not_suit_a_job_is_refused_and_changes_nothing() {
    let mut world = World::up(4);
    world.submit(vec![work(), with(Input::Pipe), with(Input::Terminal), array("0-1")]);
    world.settle();
    [1, 2, 3].into_iter().for_each(|id| begin(&mut world, id));
    let cases = [
        (open(&mut world, 1), "without an input that stays open"),
        (close(&mut world, 1), "without an input that stays open"),
        (resize(&mut world, 2, 24), "has a pipe"),
        (close(&mut world, 3), "Ctrl-D"),
        (resize(&mut world, 3, 0), "greater than 0"),
        (open(&mut world, 4), "name one of its elements"),
        (open(&mut world, 99), "there is no job 99"),
    ];
    for (request, why) in cases {
        let told = why_not(&mut world, request);
        assert!(told.contains(why), "{told:?}: {why}");
    }
    assert!(world.signals.is_empty(), "{:?}", world.signals);
    resize(&mut world, 3, 24);
    world.settle();
    let sent = Sent::Steer(Steer::Resize { rows: 24, columns: 132 });
    assert_eq!(world.signals.pop().map(|(_, sent)| sent), Some(sent));
}
