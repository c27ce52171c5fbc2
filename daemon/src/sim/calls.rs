//! Stories about warm pools: calls, and the lives of resident programs.

use std::time::Duration;

use pool_proto::methods::Wait;
use pool_proto::nouns::{CallProgress, OnCrash, OnDisconnect, ReadyWhen, Slot, SlotState, Tier};
use pool_proto::{Json, Record, Refusal, State};

use super::clients::{Heard, ends_of, refused};
use super::specs::{call, large_call, mixed, pool, program, warm, work};
use super::workers::{Sent, Worker, pass_deadline, sent_to};
use super::world::{WARM, World};
use crate::core::{Event, SlotId};
use crate::engine::{Change, Order};
use crate::job::{JobId, LARGE_VALUE, Place, Program, RequestId, Wear, Work};
use crate::start::config::Config;

const SLOT: SlotId = SlotId { lane: WARM, index: 0 };

fn one_program(program: &Program) -> Config {
    let mut config = mixed(1);
    config.pool.insert("warm".to_owned(), warm(program, 1));
    config
}

/// A world with one resident program, which is ready.
fn up(program: &Program) -> World {
    let mut world = World::new(one_program(program));
    world.settle();
    world
}

fn lasting() -> Program {
    Program { wear: Wear::default(), ..program() }
}

fn slot(world: &World) -> Slot {
    world.core().pools(|_| (Tier::Subreaper, None))[2].slots[0].clone()
}

fn submit(world: &mut World, work: Work) -> RequestId {
    let call = world.submit_and_wait(&work, OnDisconnect::Detach);
    world.settle();
    call
}

fn record(world: &World, call: RequestId) -> Record {
    match world.replies(call).last() {
        Some(Heard::Ended(record)) => (**record).clone(),
        other => panic!("an end was expected, not {other:?}"),
    }
}

#[test]
fn a_call_returns_its_value() {
    let mut world = up(&lasting());
    let waiter = submit(&mut world, call());
    assert_eq!(slot(&world).state, SlotState::Busy);
    world.answered(SLOT, Ok("49"));
    world.settle();
    let record = record(&world, waiter);
    assert_eq!((record.state, record.exit_code, record.attempt), (State::Succeeded, Some(0), 1));
    assert_eq!(record.value, Some(Json::parse("49").unwrap()));
    assert!(record.started_at.is_some(), "its start is told with its end");
    assert_eq!((slot(&world).state, slot(&world).calls), (SlotState::Idle, Some(1)));
    world.assert_idle();
}

#[test]
fn an_error_is_an_end_like_any_other() {
    let mut world = up(&lasting());
    let waiter = submit(&mut world, call());
    world.answered(SLOT, Err(r#"{"code":1,"message":"no"}"#));
    world.settle();
    let record = record(&world, waiter);
    assert_eq!((record.state, record.exit_code, record.value), (State::Failed, Some(1), None));
    assert_eq!(record.error.unwrap().get(), r#"{"code":1,"message":"no"}"#);
    assert_eq!(slot(&world).state, SlotState::Idle, "the program is as good as before");
}

#[test]
fn the_start_of_a_long_call_is_told_and_so_is_its_progress() {
    let mut world = up(&lasting());
    let waiter = submit(&mut world, call());
    assert_eq!(world.state(1), State::Queued);
    world.advance(Duration::from_millis(2));
    world.settle();
    assert_eq!(world.state(1), State::Running);
    let progress = CallProgress { fraction: Some(0.5), text: None };
    let (_, claim) = world.running()[0];
    world.handle(Event::Progressed { slot: SLOT, claim, progress: progress.clone() });
    assert_eq!(
        world.replies(waiter).last(),
        Some(&Heard::Progress { id: JobId(1), progress: progress.clone() })
    );
    assert_eq!(world.core().progress_of(JobId(1)), Some(progress));
    world.answered(SLOT, Ok("1"));
    world.settle();
    assert_eq!(world.state(1), State::Succeeded);
    world.assert_idle();
}

#[test]
fn who_begins_to_watch_a_call_that_is_half_done_is_told_so_at_once() {
    let mut world = up(&lasting());
    submit(&mut world, call());
    let (_, claim) = world.running()[0];
    let half = CallProgress { fraction: Some(0.5), text: None };
    world.handle(Event::Progressed { slot: SLOT, claim, progress: half.clone() });
    let told = Heard::Progress { id: JobId(1), progress: half };
    let watching = [
        (ends_of(&[1]), vec![]),
        (Wait { progress: Some(true), ..ends_of(&[1]) }, vec![told.clone()]),
        (Wait { output: Some(true), ..ends_of(&[1]) }, vec![told]),
    ];
    for (wait, wanted) in watching {
        let request = world.wait(wait.clone());
        world.settle();
        assert_eq!(world.replies(request), wanted, "{wait:?}");
    }
    world.answered(SLOT, Ok("1"));
    world.settle();
    world.assert_idle();
}

#[test]
fn who_watches_progress_alone_is_told_of_no_start() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    let calls = [
        world.wait(Wait { progress: Some(true), ..ends_of(&[1]) }),
        world.wait(Wait { output: Some(true), ..ends_of(&[1]) }),
    ];
    world.settle();
    world.attempt_started(super::scenarios::slot(0));
    assert_eq!(calls.map(|call| world.replies(call).len()), [0, 1]);
}

#[test]
fn a_timeout_costs_the_program_its_life_and_nobody_else_anything() {
    let mut world = up(&lasting());
    let waiter = submit(&mut world, Work { timeout: Some(Duration::from_secs(1)), ..call() });
    world.submit(vec![call()]);
    world.settle();
    world.advance(Duration::from_secs(1));
    assert_eq!(sent_to(&world, 1), [Sent::Terminate]);
    world.worker_lost(SLOT);
    world.settle();
    assert_eq!(record(&world, waiter).state, State::TimedOut);
    assert_eq!(world.running_jobs(), [2], "the next call has a fresh program at once");
    world.answered(SLOT, Ok("1"));
    world.settle();
    world.assert_idle();
}

#[test]
fn a_program_that_answers_a_canceled_call_goes_all_the_same() {
    let mut world = up(&lasting());
    let waiter = submit(&mut world, call());
    world.cancel(&[1]);
    world.settle();
    assert_eq!(sent_to(&world, 1), [Sent::Terminate]);
    let (pid, _) = world.workers[&SLOT];
    world.answered(SLOT, Ok("1"));
    world.settle();
    assert_eq!(record(&world, waiter).state, State::Canceled);
    assert_ne!(world.workers[&SLOT].0, pid);
    world.assert_idle();
}

#[test]
fn a_worn_program_serves_on_until_its_successor_is_ready() {
    let mut world = up(&Program { wear: Wear { max_calls: Some(1), ..Wear::default() }, ..program() });
    let (first, _) = world.workers[&SLOT];
    world.submit(vec![call(), call(), call()]);
    while world.store_step() || world.answer_step() {}
    world.answered(SLOT, Ok("1"));
    assert_eq!(world.successors.len(), 1, "one call was enough");
    assert_eq!(world.running_jobs(), [2], "and the next one does not wait for it");
    world.successor_steps(SLOT);
    world.successor_steps(SLOT);
    assert_eq!(world.workers[&SLOT].0, first, "a call is not interrupted");
    world.answered(SLOT, Ok("1"));
    assert_ne!(world.workers[&SLOT].0, first);
    assert_eq!(world.running_jobs(), [3], "the third has the successor");
    assert_eq!(world.replaced, [(SLOT, first)]);
    world.answered(SLOT, Ok("1"));
    world.settle();
    world.assert_idle();
}

#[test]
fn a_program_grows_old_while_it_is_idle() {
    let mut world = up(&Program {
        wear: Wear { max_age: Some(Duration::from_secs(60)), ..Wear::default() },
        ..program()
    });
    let (first, _) = world.workers[&SLOT];
    world.advance(Duration::from_secs(60));
    assert_eq!(slot(&world).state, SlotState::Recycling);
    world.settle();
    assert_ne!(world.workers[&SLOT].0, first);
    assert_eq!(slot(&world).state, SlotState::Idle);
}

#[test]
fn a_successor_that_cannot_start_is_tried_again() {
    let mut world = up(&Program { wear: Wear { max_calls: Some(1), ..Wear::default() }, ..program() });
    world.submit(vec![call()]);
    while world.store_step() || world.answer_step() {}
    world.answered(SLOT, Ok("1"));
    for _ in 0..3 {
        world.successor_lost(SLOT);
        assert!(matches!(world.workers[&SLOT].1, Worker::Idle), "the old one serves on");
        let seen = slot(&world);
        assert_eq!(
            (seen.state, seen.reason.as_deref()),
            (SlotState::Recycling, Some("no room")),
            "it says why"
        );
        pass_deadline(&mut world);
        assert_eq!(world.successors.len(), 1);
    }
    world.settle();
    assert_eq!((slot(&world).state, slot(&world).reason), (SlotState::Idle, None));
}

#[test]
fn rubbish_fails_the_call_and_names_itself() {
    let mut world = up(&lasting());
    let waiter = submit(&mut world, call());
    let (pid, _) = world.workers[&SLOT];
    world.misbehaves(SLOT, true);
    world.settle();
    let record = record(&world, waiter);
    assert_eq!((record.state, record.exit_code), (State::Failed, Some(1)));
    assert_eq!(record.error.unwrap().get(), r#"{"code":-32000,"message":"it lies"}"#);
    assert_ne!(world.workers[&SLOT].0, pid);
    assert_eq!(slot(&world).state, SlotState::Idle, "the pool is alive");
    world.assert_idle();
}

#[test]
fn a_second_answer_is_not_the_next_calls_fault() {
    let mut world = up(&lasting());
    let first = submit(&mut world, call());
    world.answered(SLOT, Ok("1"));
    world.settle();
    let second = submit(&mut world, call());
    world.misbehaves(SLOT, false);
    world.settle();
    world.answered(SLOT, Ok("2"));
    world.settle();
    assert_eq!(record(&world, first).value.unwrap().get(), "1");
    let record = record(&world, second);
    assert_eq!((record.state, record.attempt, record.crashes), (State::Succeeded, 2, 1));
}

#[test]
fn a_program_that_dies_takes_its_call_along_by_the_calls_policy() {
    let mut world = up(&lasting());
    submit(&mut world, call());
    world.answered(SLOT, Ok("1"));
    world.settle();
    for (policy, wanted) in [(OnCrash::Fail, State::Failed), (OnCrash::Hold, State::Held)] {
        let id = world.disk().jobs().count() as u64 + 1;
        submit(&mut world, Work { on_crash: policy, ..call() });
        world.worker_lost(SLOT);
        world.settle();
        assert_eq!(world.state(id), wanted);
    }
    pass_deadline(&mut world);
    world.settle();
    let id = world.disk().jobs().count() as u64 + 1;
    world.submit(vec![call(), call()]);
    world.settle();
    world.answered(SLOT, Ok("1"));
    world.settle();
    // It has answered before, so its death is the call's.
    world.worker_lost(SLOT);
    world.settle();
    assert_eq!((world.record(id + 1).crashes, world.running_jobs()), (1, vec![id + 1]), "it is tried again");
}

#[test]
fn a_program_that_cannot_start_does_not_use_up_the_calls() {
    let mut world = up(&lasting());
    let waiter = submit(&mut world, call());
    for death in 1..8u32 {
        // It has not read the call.
        world.worker_died(SLOT, true);
        world.settle();
        assert_eq!((world.record(1).crashes, world.record(1).attempt), (0, 0), "death {death}");
        if death > 1 {
            pass_deadline(&mut world);
            world.settle();
        }
        assert_eq!(world.running_jobs(), [1], "death {death}");
    }

    // It cannot be started, and whoever waits is told.
    world.worker_died(SLOT, true);
    world.settle();
    let told = record(&world, waiter);
    assert_eq!((told.state, told.attempt), (State::Failed, 0));
    assert!(told.reason.unwrap().contains("the program of the pool \"warm\" cannot be started"));

    // It is tried on all the same.
    pass_deadline(&mut world);
    world.settle();
    submit(&mut world, call());
    assert_eq!(world.running_jobs(), [2]);
}

#[test]
fn a_call_that_kills_its_program_is_found_at_once_and_holds_up_no_other() {
    let mut world = up(&lasting());
    let waiter = submit(&mut world, call());
    for _ in 0..3 {
        assert_eq!(world.running_jobs(), [1], "no backoff");
        world.worker_lost(SLOT);
        world.settle();
    }
    assert_eq!(record(&world, waiter).state, State::Lost);
    submit(&mut world, call());
    assert_eq!(world.running_jobs(), [2]);
}

#[test]
fn a_slot_tells_what_keeps_its_program_from_starting() {
    let mut world = World::new(one_program(&lasting()));
    world.worker_up(SLOT);
    assert_eq!(slot(&world).state, SlotState::Starting);
    world.advance(Duration::from_secs(30));
    world.worker_lost(SLOT);
    let told = slot(&world).reason.unwrap();
    assert!(told.contains("not ready within 30 s"), "{told}");
    for _ in 0..4 {
        pass_deadline(&mut world);
        world.worker_up(SLOT);
        world.worker_lost(SLOT);
    }
    assert_eq!(slot(&world).state, SlotState::Failed);
    assert_eq!(slot(&world).reason.as_deref(), Some("was killed"));
    pass_deadline(&mut world);
    world.settle();
    assert_eq!(
        (slot(&world).state, slot(&world).reason),
        (SlotState::Idle, None),
        "it is tried on all the same"
    );
}

#[test]
fn another_program_takes_over_without_a_call_lost() {
    let mut world = up(&lasting());
    let waiter = submit(&mut world, call());
    let (first, _) = world.workers[&SLOT];
    world.reread(one_program(&Program { command: vec!["other".into()], ..lasting() }));
    while !world.successors.values().all(|(_, worker)| matches!(worker, Worker::Idle)) {
        world.successor_steps(SLOT);
    }
    world.answered(SLOT, Ok("1"));
    assert_ne!(world.workers[&SLOT].0, first);
    world.settle();
    assert_eq!(record(&world, waiter).state, State::Succeeded);
    world.assert_idle();
}

#[test]
fn a_batch_is_told_of_each_end_in_few_words() {
    let mut world = up(&lasting());
    let batch = world.submit_batch(vec![call(), call()]);
    world.settle();
    for answer in [Ok("1"), Err("{}")] {
        world.answered(SLOT, answer);
        world.settle();
    }
    let told: Vec<(u64, State, Option<&str>)> = world.replies(batch)[1..]
        .iter()
        .map(|reply| match reply {
            Heard::Brief(brief) => (brief.id, brief.state, brief.value.as_ref().map(Json::get)),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [(1, State::Succeeded, Some("1")), (2, State::Failed, None)]);
    assert!(world.is_answered(batch));
}

#[test]
fn what_a_pool_cannot_run_is_refused_and_has_failed_where_the_pool_has_changed_meanwhile() {
    let mut world = up(&lasting());
    let command = Work { pool: "warm".into(), ..work() };
    let request = world.submit(vec![command.clone()]);
    assert!(matches!(refused(world.replies(request).last()), Refusal::InvalidJob { index: 0, .. }));

    // It ran commands when the job was accepted.
    let mut before = mixed(1);
    before.pool.insert("warm".to_owned(), pool(1));
    let mut world = World::new(before);
    world.submit(vec![command]);
    world.settle_store();
    world.config = one_program(&lasting());
    world.crash();
    let waiter = world.wait(ends_of(&[1]));
    world.settle();
    let record = record(&world, waiter);
    assert_eq!(record.state, State::Failed);
    assert!(record.reason.unwrap().contains("resident program"));
    world.assert_idle();
}

/// Its pool is made smaller and larger again while it has a call: it was one too many for a moment only.
#[test]
fn a_slot_that_was_one_too_many_for_a_moment_gets_the_program_that_has_come_meanwhile() {
    let other = Program { command: vec!["other".into()], ..lasting() };
    let sized = |program: &Program, workers: u32| {
        let mut config = mixed(1);
        config.pool.insert("warm".to_owned(), warm(program, workers));
        config
    };
    let second = SlotId { index: 1, ..SLOT };
    for sizes in [&[1, 2][..], &[2, 1, 2]] {
        let mut world = World::new(sized(&lasting(), 2));
        world.settle();
        world.submit(vec![call(), call()]);
        world.settle();
        let before = [SLOT, second].map(|slot| world.workers[&slot].0);

        for &workers in sizes {
            world.reread(sized(&other, workers));
        }
        for slot in [SLOT, second] {
            world.answered(slot, Ok("1"));
        }
        world.check();
        world.settle();
        let after = [SLOT, second].map(|slot| world.workers[&slot].0);
        assert!(before.iter().all(|pid| !after.contains(pid)), "{sizes:?}: {before:?}, {after:?}");
        world.assert_idle();
    }
}

#[test]
fn a_restart_is_over_when_each_program_is_a_new_one() {
    let mut world = up(&lasting());
    let (first, _) = world.workers[&SLOT];
    let waiter = submit(&mut world, call());
    let restart = world.restart_pool("warm");
    world.successor_steps(SLOT);
    world.successor_steps(SLOT);
    assert_eq!(world.workers[&SLOT].0, first, "a call is not interrupted");

    // The successor is ready, and may be as old as the first one for whoever asks now.
    let again = world.restart_pool("warm");
    assert!(world.successors.is_empty(), "it is being killed");
    world.replaced_lost(0);
    let (second, _) = world.successors[&SLOT];
    world.successor_steps(SLOT);
    world.successor_steps(SLOT);
    for request in [restart, again] {
        assert_eq!(world.replies(request).len(), 1, "the old program has its call");
    }
    world.answered(SLOT, Ok("1"));
    assert_eq!(world.workers[&SLOT].0, second);
    for request in [restart, again] {
        assert!(matches!(world.replies(request), [Heard::Other(_), Heard::Other(_)]));
    }
    world.settle();
    assert_eq!(record(&world, waiter).state, State::Succeeded);
    world.assert_idle();
}

#[test]
fn a_restart_whose_program_cannot_start_says_so_and_loses_nothing() {
    let mut world = up(&lasting());
    let (first, _) = world.workers[&SLOT];
    let restart = world.restart_pool("warm");
    world.successor_steps(SLOT);
    world.successor_lost(SLOT);
    let refusal = refused(world.replies(restart).last());
    assert_eq!(*refusal, Refusal::NotRestarted { pool: "warm".into(), reason: "was killed".into() });
    assert_eq!(world.workers[&SLOT].0, first, "the old one serves on");
    submit(&mut world, call());
    world.answered(SLOT, Ok("1"));
    world.settle();
    assert_ne!(world.workers[&SLOT].0, first, "and is replaced as soon as that can be");
    world.assert_idle();
}

/// What does not say that it is ready has to stay up for a while, and the old one serves meanwhile.
#[test]
fn a_new_program_that_ends_at_once_takes_no_place() {
    let mut world = up(&Program { ready: ReadyWhen::Started, ..lasting() });
    let (first, _) = world.workers[&SLOT];
    let restart = world.restart_pool("warm");
    world.successor_steps(SLOT);
    world.successor_steps(SLOT);
    assert_eq!(world.workers[&SLOT].0, first, "the new one may end at once");
    world.successor_lost(SLOT);
    assert!(matches!(refused(world.replies(restart).last()), Refusal::NotRestarted { .. }));

    let again = world.restart_pool("warm");
    world.successor_steps(SLOT);
    world.successor_steps(SLOT);
    submit(&mut world, call());
    world.answered(SLOT, Ok("1"));
    assert_eq!(world.workers[&SLOT].0, first, "it serves");
    let (second, _) = world.successors[&SLOT];
    world.advance(Duration::from_secs(1));
    assert_eq!(world.workers[&SLOT].0, second);
    assert_eq!(world.replies(again).len(), 2);
    world.settle();
    world.assert_idle();
}

/// What has not taken a call yet is ended for a fresh one, and what waits for its next start has it at once.
#[test]
fn a_restart_waits_for_no_program_that_is_not_ready_and_for_no_backoff() {
    let mut world = up(&lasting());
    world.worker_lost(SLOT);
    world.worker_up(SLOT);
    let (loading, _) = world.workers[&SLOT];
    let restart = world.restart_pool("warm");
    world.worker_lost(SLOT);
    assert_ne!(world.workers[&SLOT].0, loading);
    assert_eq!(world.replies(restart).len(), 1, "it was ended for the restart, which has not failed");
    for _ in 0..3 {
        world.worker_up(SLOT);
        world.worker_lost(SLOT);
        if !world.workers.contains_key(&SLOT) {
            break;
        }
    }
    assert!(!world.workers.contains_key(&SLOT), "it waits for its next start");
    assert!(matches!(refused(world.replies(restart).last()), Refusal::NotRestarted { .. }));

    let again = world.restart_pool("warm");
    assert!(world.workers.contains_key(&SLOT));
    world.settle();
    assert_eq!(world.replies(again).len(), 2);
    world.assert_idle();
}

/// A configuration that is read anew reaches also the program that is about to take a place.
#[test]
fn a_successor_of_the_old_command_gives_way_to_the_new_one() {
    let mut world = up(&Program { wear: Wear { max_calls: Some(1), ..Wear::default() }, ..program() });
    world.submit(vec![call(), call()]);
    world.settle_store();
    world.answered(SLOT, Ok("1"));
    world.successor_steps(SLOT);
    let (of_old_command, _) = world.successors[&SLOT];
    world.reread(one_program(&Program { command: vec!["other".into()], ..lasting() }));
    assert!(world.successors.is_empty());
    world.replaced_lost(0);
    world.answered(SLOT, Ok("1"));
    world.settle();
    assert_ne!(world.workers[&SLOT].0, of_old_command);
    world.assert_idle();
}

#[test]
fn a_successor_that_is_dead_or_being_killed_takes_nobodys_place() {
    let worn_at_once = Program { wear: Wear { max_calls: Some(1), ..Wear::default() }, ..program() };
    let is_late = |world: &mut World| world.advance(Duration::from_secs(30));
    let lies = |world: &mut World| {
        world.successor_steps(SLOT);
        world.successor_misbehaves(SLOT);
    };
    let dies = |world: &mut World| {
        world.successor_steps(SLOT);
        world.successor_dying(SLOT);
    };
    let fates: [fn(&mut World); 3] = [is_late, lies, dies];
    for goes in fates {
        let mut world = up(&worn_at_once);
        let (first, _) = world.workers[&SLOT];
        world.submit(vec![call(), call()]);
        world.settle_store();
        world.answered(SLOT, Ok("1"));
        world.successor_steps(SLOT);
        goes(&mut world);
        assert!(world.successors.is_empty(), "it is gone, or being killed");

        world.answered(SLOT, Ok("1"));
        world.check();
        assert_eq!(world.workers[&SLOT].0, first, "the worn one serves on");
        world.worker_lost(SLOT);
        assert_ne!(world.workers[&SLOT].0, first, "should it die, the slot gets a fresh one");
        world.settle();
        assert_eq!(slot(&world).state, SlotState::Idle);
        world.assert_idle();
    }
}

#[test]
fn what_is_large_is_kept_in_files_and_nobody_else_waits_for_it() {
    let mut world = up(&lasting());
    let large = world.submit_and_wait(&large_call(), OnDisconnect::Detach);
    let small = world.submit_and_wait(&call(), OnDisconnect::Detach);
    let inserted = world.delayed().orders.iter().filter_map(|order| match order {
        Order::Change(Change::Insert(insertion)) => Some(insertion.jobs[0].call()?.large_params().is_some()),
        _ => None,
    });
    assert_eq!(inserted.collect::<Vec<_>>(), [false], "the large one is asked for when its file is there");
    world.settle();

    world.answered(SLOT, Ok("49"));
    world.settle();
    assert!(world.is_answered(small) && !world.is_answered(large));
    let value = format!("[{}49]", " ".repeat(LARGE_VALUE));
    world.answered(SLOT, Ok(&value));
    assert_eq!(slot(&world).state, SlotState::Idle, "it does not wait for its value's file");
    let ends = world.delayed().orders.iter().filter(
        |order| matches!(order, Order::Change(Change::Move(moved)) if matches!(moved.to, Place::Ended(_))),
    );
    assert_eq!(ends.count(), 0);
    world.settle();
    assert_eq!(record(&world, large).value.map(|value| value.get().len()), Some(value.len()));
    world.assert_idle();
}

#[test]
fn a_large_value_on_its_way_to_its_file_dies_with_poold_and_its_call_runs_again() {
    let mut world = up(&lasting());
    world.submit(vec![call()]);
    world.settle();
    world.answered(SLOT, Ok(&format!("[{}49]", " ".repeat(LARGE_VALUE))));
    world.crash();
    world.settle();
    assert_eq!(slot(&world).state, SlotState::Busy);
    world.answered(SLOT, Ok("49"));
    world.settle();
    assert_eq!(world.state(1), State::Succeeded);
}
