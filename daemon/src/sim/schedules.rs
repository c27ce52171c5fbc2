//! Stories of schedules: each of their times has one job, whatever dies.

use std::time::Duration;

use pool_proto::methods::{
    AddSchedule, RemoveSchedules, Reply, Request, RunSchedule, Schedules, SetSchedulesPaused,
};
use pool_proto::nouns::{Job, Missed, Overlap, Schedule, ScheduleState};
use pool_proto::{Refusal, State};

use super::clients::{Heard, accepted, refused};
use super::delayed::Death;
use super::scenarios::slot;
use super::specs::EXITED;
use super::world::World;
use crate::job::{JobId, RequestId};

const EVERY: Duration = Duration::from_secs(600);

impl World {
    /// Adds a schedule, or replaces it.
    pub fn add_schedule(
        &mut self,
        name: &str,
        every: Duration,
        overlap: Overlap,
        missed: Missed,
    ) -> RequestId {
        let schedule = Schedule {
            name: name.to_owned(),
            every_s: Some(every.as_secs_f64()),
            overlap: Some(overlap),
            missed: Some(missed),
            job: Job { argv: vec!["a".into()], ..Job::default() },
            ..Schedule::default()
        };
        self.ask(Request::AddSchedule(Box::new(AddSchedule { schedule, replace: Some(true) })))
    }

    pub fn pause_schedule(&mut self, name: &str, paused: bool) -> RequestId {
        let names = vec![name.to_owned()];
        self.ask(Request::SetSchedulesPaused(SetSchedulesPaused { names, paused }))
    }

    pub fn remove_schedule(&mut self, name: &str) -> RequestId {
        self.ask(Request::RemoveSchedules(RemoveSchedules { names: vec![name.to_owned()] }))
    }
}

fn assert_done(world: &mut World, request: RequestId) {
    world.settle();
    assert_eq!(world.replies(request), [Heard::Done]);
}

fn add(world: &mut World, overlap: Overlap, missed: Missed) {
    let request = world.add_schedule("often", EVERY, overlap, missed);
    assert_done(world, request);
}

fn run(world: &mut World, name: &str) -> RequestId {
    let request = world.ask(Request::RunSchedule(RunSchedule { name: name.to_owned() }));
    world.settle();
    request
}

/// All schedules, as a client is told of them.
fn told(world: &mut World) -> Vec<ScheduleState> {
    let request = world.ask(Request::Schedules(Schedules { name: None }));
    world.settle();
    match world.replies(request) {
        [Heard::Other(reply)] => match &**reply {
            Reply::SchedulesListed(listed) => listed.schedules.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// The keys of all jobs on the disk, in order.
fn keys(world: &World) -> Vec<String> {
    let disk = world.disk();
    let mut keys: Vec<String> =
        disk.jobs().filter_map(|id| Some(disk.key_of(id)?.text.as_escaped().to_owned())).collect();
    keys.sort();
    keys
}

fn end(world: &mut World) {
    world.attempt_ended(slot(0), EXITED);
    world.settle();
}

#[test]
fn each_time_has_its_job_and_no_other_moment() {
    let mut world = World::up(1);
    add(&mut world, Overlap::Skip, Missed::RunOnce);
    world.advance(EVERY - Duration::from_micros(1));
    world.settle();
    assert_eq!(keys(&world), Vec::<String>::new());
    world.advance(Duration::from_micros(1));
    world.settle();
    assert_eq!((keys(&world).len(), world.running_jobs()), (1, vec![1]));
    assert_eq!(world.record(1).name, Some("often".into()));

    // The job is not over: the next time is skipped.
    world.advance(EVERY);
    world.settle();
    assert_eq!(keys(&world).len(), 1);
    end(&mut world);
    world.advance(EVERY);
    world.settle();
    assert_eq!(keys(&world).len(), 2);
    end(&mut world);
    let request = world.remove_schedule("often");
    assert_done(&mut world, request);
    world.advance(EVERY * 3);
    world.settle();
    world.assert_idle();
}

/// Whatever of a firing the store has taken when all dies, the time has one job in the end.
#[test]
fn a_death_at_any_moment_fires_no_time_twice_and_loses_none() {
    for death in [Death::Kill, Death::PowerCut] {
        for missed in [Missed::RunOnce, Missed::RunAll] {
            for steps in 0..6 {
                let mut world = World::up(1);
                add(&mut world, Overlap::Allow, missed);
                world.advance(EVERY);
                world.store_steps(steps);
                world.die(death);
                world.settle();
                world.tick();
                world.settle();
                assert_eq!(keys(&world).len(), 1, "{death:?} after {steps} steps");
                world.advance(EVERY);
                world.settle();
                assert_eq!(keys(&world).len(), 2, "{death:?} after {steps} steps");
            }
        }
    }
}

#[test]
fn what_was_missed_while_nothing_ran_is_made_up_for_as_wanted() {
    for (missed, count) in [(Missed::RunOnce, 1), (Missed::Skip, 0), (Missed::RunAll, 3)] {
        let mut world = World::up(1);
        add(&mut world, Overlap::Allow, missed);
        // poold was away for that long.
        world.now.monotonic += EVERY * 7 / 2;
        world.now.wall_us += (EVERY * 7 / 2).as_micros() as i64;
        world.crash();
        for _ in 0..5 {
            world.tick();
            world.settle();
        }
        assert_eq!(keys(&world).len(), count, "{missed:?}");
        world.advance(EVERY / 2);
        world.settle();
        assert_eq!(keys(&world).len(), count + 1, "{missed:?}: the next time is on time");
    }
}

#[test]
fn a_pause_leaves_times_out_and_survives_a_death() {
    let mut world = World::up(1);
    add(&mut world, Overlap::Queue, Missed::RunAll);
    let request = world.pause_schedule("often", true);
    assert_done(&mut world, request);
    world.crash();
    world.settle();
    world.advance(EVERY * 2);
    world.settle();
    assert_eq!(keys(&world).len(), 0);
    let request = world.pause_schedule("often", false);
    assert_done(&mut world, request);
    world.tick();
    world.settle();
    assert_eq!(keys(&world).len(), 0);
    world.advance(EVERY);
    world.settle();
    assert_eq!(keys(&world).len(), 1);

    // With "queue" one runs after the other; a run besides the times is no time.
    let request = run(&mut world, "often");
    assert_eq!(world.replies(request), [accepted(2, 1)]);
    assert_eq!((world.state(2), keys(&world).len()), (State::Queued, 1));
    end(&mut world);
    assert_eq!(world.running_jobs(), [2]);
    end(&mut world);

    let request = run(&mut world, "never");
    let refusal = Refusal::NoSuchSchedule { schedule: "never".to_owned() };
    assert_eq!(refused(world.replies(request).first()), &refusal);
}

/// A time comes while a change is on its way to the disk, which answers at any moment: both hold, in what is
/// told and after a death.
#[test]
fn a_time_that_comes_while_its_schedule_is_changed_undoes_nothing_and_is_not_forgotten() {
    for change in ["pause", "replace", "remove"] {
        for (before, between) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (0, 2), (2, 1), (1, 2)] {
            let what = format!("{change} after {before} steps, and {between}");
            let mut world = World::up(1);
            add(&mut world, Overlap::Allow, Missed::RunOnce);
            world.advance(EVERY);
            world.store_steps(before);
            let request = match change {
                "pause" => world.pause_schedule("often", true),
                "replace" => world.add_schedule("often", EVERY * 2, Overlap::Allow, Missed::RunOnce),
                _ => world.remove_schedule("often"),
            };
            world.store_steps(between);
            assert_done(&mut world, request);

            let told = told(&mut world);
            world.crash();
            world.settle();
            assert_eq!(self::told(&mut world), told, "{what}: after a death");
            match change {
                "pause" => assert!(told[0].paused && told[0].last.is_some(), "{what}: {told:?}"),
                "replace" => {
                    assert_eq!(told[0].schedule.every_s, Some(1200.0), "{what}");
                    assert!(told[0].last.is_some(), "{what}: {told:?}");
                }
                _ => assert_eq!(told, [], "{what}"),
            }
        }
    }
}

#[test]
fn a_firing_that_a_full_disk_refuses_is_tried_again() {
    let mut world = World::up(1);
    add(&mut world, Overlap::Allow, Missed::RunOnce);
    world.set_disk_full(true);
    world.advance(EVERY);
    world.settle();
    assert!(!world.has(JobId(1)));
    world.set_disk_full(false);
    world.settle();
    world.advance(Duration::from_secs(60));
    world.settle();
    assert_eq!(keys(&world).len(), 1);
}

#[test]
fn a_clock_that_is_set_back_fires_nothing_twice_and_one_that_was_wrong_does_not_stop_anything() {
    let hours = |hours: i64| hours * 3_600_000_000;
    for (back, fires) in [(1, false), (100, true)] {
        let mut world = World::up(1);
        add(&mut world, Overlap::Allow, Missed::RunOnce);
        world.now.wall_us += hours(back);
        world.tick();
        world.settle();
        assert_eq!(keys(&world).len(), 1);
        world.now.wall_us -= hours(back);
        world.set_clock();
        world.settle();
        world.advance(EVERY);
        world.settle();
        assert_eq!(keys(&world).len(), 1 + usize::from(fires), "set back by {back} h");
    }
}
