//! Stories of attempts that stand still, since somebody has paused them or their pool.

use std::time::Duration;

use pool_proto::methods::Reply;
use pool_proto::nouns::OnDisconnect;
use pool_proto::{Record, Refusal, State};

use super::clients::Heard;
use super::delayed::Death;
use super::scenarios::{slot, submit_attached};
use super::specs::{EXITED, SECOND, call, mixed, settings, work};
use super::workers::{Sent, begin, end_as, sent_to};
use super::world::World;
use crate::job::{JobId, StopReason, Work};

fn record(world: &mut World, id: u64) -> Record {
    let request = world.get(id);
    world.settle();
    match world.replies(request) {
        [Heard::Other(reply)] => match &**reply {
            Reply::Got(got) => Record::clone(&got.record),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn set_frozen(world: &mut World, id: u64, frozen: bool) -> Vec<Heard> {
    let request = world.set_frozen(id, frozen);
    world.settle();
    world.replies(request).to_vec()
}

#[test]
fn the_timeout_of_a_frozen_attempt_stands_still() {
    let mut world = World::up(1);
    let timeout = Some(10 * SECOND);
    submit_attached(&mut world, Work { timeout, ..work() }, OnDisconnect::Detach);
    begin(&mut world, 1);
    world.advance(4 * SECOND);
    assert_eq!(set_frozen(&mut world, 1, true), [Heard::Done]);
    assert!(record(&mut world, 1).frozen_since.is_some());
    // Once more is no change, and no second beginning.
    world.advance(3600 * SECOND);
    assert_eq!(set_frozen(&mut world, 1, true), [Heard::Done]);
    assert_eq!((world.state(1), sent_to(&world, 1)), (State::Running, vec![Sent::Freeze]));

    set_frozen(&mut world, 1, false);
    set_frozen(&mut world, 1, false);
    assert_eq!(record(&mut world, 1).frozen_since, None);
    world.advance(6 * SECOND - Duration::from_nanos(1));
    assert_eq!(sent_to(&world, 1), [Sent::Freeze, Sent::Thaw]);
    world.advance(Duration::from_nanos(1));
    assert_eq!(sent_to(&world, 1), [Sent::Freeze, Sent::Thaw, Sent::Terminate]);
    end_as(&mut world, 1, EXITED);
    assert_eq!(world.state(1), State::TimedOut);
    world.assert_idle();
}

#[test]
fn an_attempt_that_is_frozen_before_its_start_is_told_has_all_of_its_timeout_left() {
    let mut world = World::up(1);
    submit_attached(&mut world, Work { timeout: Some(SECOND), ..work() }, OnDisconnect::Detach);
    set_frozen(&mut world, 1, true);
    begin(&mut world, 1);
    world.advance(60 * SECOND);
    set_frozen(&mut world, 1, false);
    world.advance(SECOND - Duration::from_nanos(1));
    assert_eq!(sent_to(&world, 1), [Sent::Freeze, Sent::Thaw]);
    world.advance(Duration::from_nanos(1));
    assert_eq!(sent_to(&world, 1), [Sent::Freeze, Sent::Thaw, Sent::Terminate]);
    end_as(&mut world, 1, EXITED);
    world.assert_idle();
}

#[test]
fn a_cancel_of_a_frozen_attempt_is_told_at_once_and_it_is_frozen_no_more() {
    let mut world = World::up(1);
    submit_attached(&mut world, Work { kill_after: 2 * SECOND, ..work() }, OnDisconnect::Detach);
    begin(&mut world, 1);
    set_frozen(&mut world, 1, true);
    world.cancel(&[1]);
    world.settle();
    assert_eq!(sent_to(&world, 1), [Sent::Freeze, Sent::Terminate]);
    assert_eq!((world.stopping(1), record(&mut world, 1).frozen_since), (Some(StopReason::Canceled), None));
    let refusal = Refusal::NotRunning { id: 1, state: "stopping".to_owned() };
    assert_eq!(set_frozen(&mut world, 1, true), [Heard::Refused(refusal)]);
    world.advance(2 * SECOND);
    assert_eq!(sent_to(&world, 1), [Sent::Freeze, Sent::Terminate, Sent::Kill]);
    end_as(&mut world, 1, EXITED);
    assert_eq!(world.state(1), State::Canceled);
    world.assert_idle();
}

#[test]
fn what_does_not_run_and_what_is_a_call_cannot_be_frozen() {
    let mut world = World::new(mixed(1));
    world.submit(vec![work(), work()]);
    world.submit(vec![call()]);
    world.settle();
    let not_running = |id, state: &str| [Heard::Refused(Refusal::NotRunning { id, state: state.to_owned() })];
    assert_eq!(set_frozen(&mut world, 2, true), not_running(2, "queued"));
    begin(&mut world, 1);
    end_as(&mut world, 1, EXITED);
    assert_eq!(set_frozen(&mut world, 1, false), not_running(1, "succeeded"));
    let told = set_frozen(&mut world, 3, true);
    assert!(format!("{told:?}").contains("is a call"), "{told:?}");
}

#[test]
fn what_is_frozen_with_its_pool_goes_on_with_it_and_what_is_frozen_by_itself_does_not() {
    let mut world = World::up(3);
    world.submit(vec![work(); 4]);
    world.settle();
    (1..=3).for_each(|id| begin(&mut world, id));
    set_frozen(&mut world, 1, true);
    let request = world.freeze_pool("default");
    world.settle();
    assert_eq!(world.replies(request), [Heard::Done]);
    assert_eq!([1, 2, 3].map(|id| sent_to(&world, id)), [const { [Sent::Freeze] }; 3]);
    assert_eq!(world.state(4), State::Queued);

    // One of them goes on by itself, and one stays frozen by itself.
    set_frozen(&mut world, 2, false);
    set_frozen(&mut world, 3, true);
    end_as(&mut world, 2, EXITED);
    assert_eq!(world.state(4), State::Queued, "the pool is still paused");
    world.set_paused(&["default"], false);
    world.settle();
    assert_eq!([1, 3].map(|id| sent_to(&world, id)), [const { [Sent::Freeze] }; 2]);
    assert!(world.running_jobs().contains(&4) && sent_to(&world, 4).is_empty());
}

#[test]
fn a_pool_that_is_paused_already_can_be_frozen_and_goes_on_when_it_is_resumed() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    begin(&mut world, 1);
    world.set_paused(&["default"], true);
    world.settle();
    assert_eq!(sent_to(&world, 1), []);
    world.freeze_pool("default");
    world.settle();
    assert_eq!(sent_to(&world, 1), [Sent::Freeze]);
    world.set_paused(&["default"], false);
    world.settle();
    assert_eq!(sent_to(&world, 1), [Sent::Freeze, Sent::Thaw]);
    end_as(&mut world, 1, EXITED);
    world.assert_idle();
}

#[test]
fn the_attempt_after_a_frozen_one_that_died_is_not_frozen() {
    let mut world = World::new(settings(1));
    world.settle();
    world.submit(vec![work()]);
    world.settle();
    begin(&mut world, 1);
    set_frozen(&mut world, 1, true);
    world.worker_lost(slot(0));
    world.worker_up(slot(0));
    world.settle();
    begin(&mut world, 1);
    assert_eq!(record(&mut world, 1).frozen_since, None);

    set_frozen(&mut world, 1, true);
    world.die(Death::Kill);
    world.settle();
    begin(&mut world, 1);
    assert_eq!((record(&mut world, 1).frozen_since, record(&mut world, 1).attempt), (None, 3));
    assert_eq!(world.core().frozen_since_us(JobId(1)), None);
}
