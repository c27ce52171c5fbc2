//! Stories about labels and their limits, over all pools.

use pool_proto::Refusal;
use pool_proto::State;
use pool_proto::methods::Request;

use super::clients::{Heard, accepted, refused};
use super::delayed::Death;
use super::specs::{SECOND, call, mixed, settings, work};
use super::workers::{end, end_as, running, submit};
use super::world::World;
use crate::engine::WINDOW;
use crate::job::{Exit, JobId, Labels, Needs, Retries, Tie, Work};
use crate::start::config::{Config, LimitConfig};

fn labeled(labels: &str) -> Work {
    Work { needs: Needs::of_labels(Labels::parse(labels)), ..work() }
}

fn elsewhere(labels: &str) -> Work {
    Work { pool: "other".into(), ..labeled(labels) }
}

fn exclusive(labels: &str) -> Work {
    Work { exclusive: Labels::parse(labels), ..labeled(labels) }
}

fn limit(world: &mut World, label: &str, limit: Option<u32>) {
    let request = world.set_limit(label, limit);
    world.settle();
    assert_eq!(world.replies(request), [Heard::Done]);
}

/// Ends what runs, the first one first, until nothing does; ids in the order of the ends.
fn run_all(world: &mut World) -> Vec<u64> {
    let mut order = Vec::new();
    while let Some(&id) = running(world).first() {
        order.push(id);
        end(world, id);
    }
    order
}

/// So many jobs of a label run at a time.
fn with_limit(mut config: Config, label: &str, running: u32) -> Config {
    let running = std::num::NonZeroU32::new(running).expect("a limit is 1 or more");
    config.limit.insert(label.to_owned(), LimitConfig { running });
    config
}

#[test]
fn so_many_of_a_label_run_and_others_go_past_them() {
    let mut world = World::up(4);
    limit(&mut world, "gpu", Some(2));
    submit(&mut world, vec![labeled("gpu"), labeled("gpu"), labeled("gpu"), labeled("gpu"), work(), work()]);
    assert_eq!(running(&world), [1, 2, 5, 6]);
    end(&mut world, 5);
    assert_eq!(running(&world), [1, 2, 6], "a slot stays free");
    end(&mut world, 2);
    assert_eq!(running(&world), [1, 3, 6], "they keep their order");
    end(&mut world, 1);
    assert_eq!(running(&world), [3, 4, 6]);
    run_all(&mut world);
    world.assert_idle();
}

#[test]
fn a_limit_counts_in_all_pools_together() {
    let mut world = World::up(2);
    limit(&mut world, "gpu", Some(1));
    submit(&mut world, vec![elsewhere("gpu"), labeled("gpu"), elsewhere("gpu"), labeled("gpu")]);
    assert_eq!(run_all(&mut world), [1, 2, 3, 4], "the turn goes by the order of submission");
    world.assert_idle();
}

#[test]
fn what_a_busy_pool_has_been_offered_takes_no_room_from_others() {
    let mut world = World::up(1);
    limit(&mut world, "gpu", Some(1));
    submit(&mut world, vec![work(), labeled("gpu"), elsewhere("gpu")]);
    assert_eq!(running(&world), [1, 3], "the slot of job 2 is busy");
    end(&mut world, 1);
    assert_eq!(running(&world), [3]);
    end(&mut world, 3);
    assert_eq!(running(&world), [2]);
    world.cancel(&[2]);
    run_all(&mut world);
    world.assert_idle();
}

#[test]
fn a_job_with_several_labels_needs_room_in_all_of_them() {
    let mut world = World::up(4);
    limit(&mut world, "gpu", Some(1));
    limit(&mut world, "db", Some(1));
    submit(
        &mut world,
        vec![labeled("gpu"), labeled("db"), labeled("db,gpu"), labeled("db"), labeled("free")],
    );
    assert_eq!(running(&world), [1, 2, 5], "a label without a limit holds up nobody");
    end(&mut world, 5);
    end(&mut world, 1);
    assert_eq!(running(&world), [2]);
    end(&mut world, 2);
    assert_eq!(running(&world), [3], "it was there before job 4");
    end(&mut world, 3);
    assert_eq!(running(&world), [4]);
    end(&mut world, 4);
    world.assert_idle();
}

#[test]
fn a_job_with_several_labels_does_not_starve() {
    let mut world = World::up(4);
    limit(&mut world, "gpu", Some(1));
    limit(&mut world, "db", Some(1));
    submit(&mut world, vec![labeled("gpu"), labeled("db"), labeled("db,gpu")]);
    // There is always another one that waits for either label.
    for round in 0..40 {
        submit(&mut world, vec![labeled("gpu"), labeled("db"), work()]);
        let running = running(&world);
        if running.contains(&3) {
            assert!(round > 2, "at first it holds up nobody");
            end(&mut world, 3);
            run_all(&mut world);
            return world.assert_idle();
        }
        // Only one of the two labels has room at a time.
        let label = if round % 2 == 0 { "gpu" } else { "db" };
        let is_of = |id: &&u64| world.record(**id).labels == Some(vec![label.to_owned()]);
        let of_label = running.iter().find(is_of).copied();
        let plain = running.iter().find(|&&id| world.record(id).labels.is_none()).copied();
        of_label.into_iter().chain(plain).for_each(|id| end(&mut world, id));
    }
    panic!("job 3 waits for ever");
}

#[test]
fn a_limit_can_be_changed_while_jobs_run() {
    let mut world = World::up(4);
    submit(&mut world, vec![labeled("gpu"); 6]);
    assert_eq!(running(&world), [1, 2, 3, 4], "it has none");
    limit(&mut world, "gpu", Some(2));
    assert_eq!(running(&world), [1, 2, 3, 4], "what runs goes on");
    end(&mut world, 1);
    end(&mut world, 2);
    assert_eq!(running(&world), [3, 4]);
    limit(&mut world, "gpu", Some(3));
    assert_eq!(running(&world), [3, 4, 5]);
    limit(&mut world, "gpu", Some(1));
    end(&mut world, 3);
    end(&mut world, 4);
    assert_eq!(running(&world), [5]);
    limit(&mut world, "gpu", None);
    assert_eq!(running(&world), [5, 6]);
    run_all(&mut world);
    world.assert_idle();
}

#[test]
fn limits_and_what_they_hold_back_outlive_the_daemon() {
    let mut world = World::up(3);
    limit(&mut world, "gpu", Some(1));
    submit(&mut world, vec![labeled("gpu"), labeled("gpu"), work()]);
    for death in [Death::Kill, Death::PowerCut] {
        world.die(death);
        world.settle();
        assert_eq!(running(&world), [1, 3], "after a start nothing of before counts");
    }
    assert_eq!(world.record(2).labels, Some(vec!["gpu".to_owned()]));
    assert_eq!(run_all(&mut world), [1, 2, 3]);
    world.assert_idle();
}

#[test]
fn a_limit_that_cannot_be_kept_is_undone() {
    let mut world = World::up(2);
    limit(&mut world, "gpu", Some(1));
    submit(&mut world, vec![labeled("gpu"); 2]);
    let request = world.set_limit("gpu", None);
    world.store_refuses();
    world.settle();
    assert!(matches!(refused(world.replies(request).last()), Refusal::StoreFailed { .. }));
    end(&mut world, 1);
    submit(&mut world, vec![labeled("gpu")]);
    assert_eq!(running(&world), [2], "one may run as before");

    let requests = [world.set_limit("gpu", Some(2)), world.set_limit("gpu", Some(3))];
    world.store_refuses();
    world.settle();
    assert!(matches!(refused(world.replies(requests[0]).last()), Refusal::StoreFailed { .. }));
    assert_eq!(world.replies(requests[1]), [Heard::Done]);
    assert_eq!(
        (world.disk().limits()["gpu"], world.core().limit_of("gpu").map(|gpu| gpu.limit)),
        (3, Some(3))
    );
    run_all(&mut world);
    world.assert_idle();
}

#[test]
fn a_limit_of_the_configuration_holds_until_another_one_is_set() {
    let mut world = World::new(with_limit(settings(3), "gpu", 1));
    world.settle();
    submit(&mut world, vec![labeled("gpu"); 4]);
    assert_eq!(running(&world), [1]);
    let request = world.set_limit("gpu", None);
    assert!(matches!(refused(world.replies(request).last()), Refusal::LimitConfigured { .. }));
    limit(&mut world, "gpu", Some(2));
    assert_eq!(running(&world), [1, 2]);
    world.crash();
    world.settle();
    assert_eq!(running(&world), [1, 2]);
    limit(&mut world, "gpu", None);
    end(&mut world, 1);
    assert_eq!(running(&world), [2], "the configuration's applies again");
    world.reread(with_limit(settings(3), "gpu", 2));
    assert_eq!(running(&world), [2, 3]);
    world.reread(settings(3));
    assert_eq!(running(&world), [2, 3, 4]);
    let request = world.set_limit("gpu", None);
    assert!(matches!(refused(world.replies(request).last()), Refusal::NoSuchLimit { .. }));
    run_all(&mut world);
    world.assert_idle();
}

#[test]
fn a_job_that_is_exclusive_brings_a_limit_of_one_along() {
    let mut world = World::up(3);
    submit(&mut world, vec![exclusive("db"), exclusive("db"), labeled("db")]);
    assert_eq!((running(&world), world.disk().limits()["db"]), (vec![1], 1));
    world.crash();
    world.settle();
    assert_eq!(running(&world), [1]);
    limit(&mut world, "db", Some(2));
    assert_eq!(running(&world), [1, 2], "who sets a limit has the last word");
    let request = world.submit(vec![exclusive("db")]);
    assert!(matches!(refused(world.replies(request).last()), Refusal::InvalidJob { .. }));
    limit(&mut world, "db", Some(1));
    let request = world.submit(vec![exclusive("db")]);
    world.settle();
    assert_eq!(world.replies(request), [accepted(4, 1)]);
    assert_eq!(run_all(&mut world), [1, 2, 3, 4]);
    world.assert_idle();
}

#[test]
fn calls_have_labels_too_in_memory_alone_or_not() {
    let mut world = World::new(mixed(3));
    world.settle();
    limit(&mut world, "gpu", Some(1));
    let of_gpu = |volatile| Work { needs: Needs::of_labels(Labels::parse("gpu")), volatile, ..call() };
    submit(&mut world, vec![of_gpu(true); 2]);
    submit(&mut world, vec![of_gpu(false), labeled("gpu")]);
    assert_eq!(run_all(&mut world), [1, 2, 3, 4]);
    world.assert_idle();
}

#[test]
fn an_attempt_that_is_being_ended_counts_until_nothing_of_it_is_left() {
    let mut world = World::up(2);
    limit(&mut world, "gpu", Some(1));
    submit(&mut world, vec![labeled("gpu"); 2]);
    world.cancel(&[1]);
    world.settle();
    assert_eq!(running(&world), [1]);
    end_as(&mut world, 1, Exit::Signal { signal: 15, core: false });
    assert_eq!((world.state(1), running(&world)), (State::Canceled, vec![2]));
    run_all(&mut world);
    world.assert_idle();
}

#[test]
fn a_job_that_fails_gives_its_room_to_others_until_its_next_attempt() {
    let mut world = World::up(2);
    limit(&mut world, "gpu", Some(1));
    let retries = Retries { allowed: 1, backoff: SECOND, ..Retries::NONE };
    let retried = Work { retries, ..labeled("gpu") };
    submit(&mut world, vec![retried, labeled("gpu"), labeled("gpu")]);
    end_as(&mut world, 1, Exit::Code(1));
    assert_eq!(running(&world), [2]);
    world.advance(SECOND);
    world.settle();
    assert_eq!((world.state(1), running(&world)), (State::Retrying, vec![2]), "its time has come");
    assert_eq!(run_all(&mut world), [2, 1, 3], "it is in its old place");
    world.assert_idle();
}

#[test]
fn what_was_offered_and_is_canceled_takes_no_room() {
    let mut world = World::up(1);
    limit(&mut world, "gpu", Some(1));
    submit(&mut world, vec![work(), labeled("gpu"), labeled("gpu")]);
    world.cancel(&[2]);
    world.settle();
    end(&mut world, 1);
    assert_eq!(running(&world), [3]);
    end(&mut world, 3);
    world.assert_idle();
}

#[test]
fn a_better_job_is_offered_though_another_one_has_been() {
    let mut world = World::up(1);
    limit(&mut world, "gpu", Some(1));
    submit(&mut world, vec![work(), labeled("gpu"), labeled("gpu,db")]);
    submit(&mut world, [1, 3, 2].map(|priority| Work { priority, ..labeled("gpu,db") }).to_vec());
    assert_eq!(run_all(&mut world), [1, 5, 6, 4, 2, 3]);
    world.assert_idle();
}

#[test]
fn a_client_that_does_not_come_back_holds_up_no_label() {
    let mut world = World::up(2);
    limit(&mut world, "gpu", Some(1));
    let tied = Work { tie: Some(Tie::Client), ..labeled("gpu") };
    world.submit_and_wait(&tied, pool_proto::nouns::OnDisconnect::Cancel);
    submit(&mut world, vec![labeled("gpu")]);
    assert_eq!(running(&world), [1]);
    world.crash();
    world.settle();
    assert_eq!(running(&world), [2], "job 1 waits for its client");
    run_all(&mut world);
    world.advance(20 * SECOND);
    world.settle();
    assert_eq!(world.state(1), State::Canceled);
    world.assert_idle();
}

#[test]
fn lines_that_are_longer_than_their_windows_keep_their_order() {
    let mut world = World::up(1);
    let labels = ["a", "b", "a,b", "c"];
    let count = 3 * WINDOW;
    submit(&mut world, (0..count).map(|at| labeled(labels[at % labels.len()])).collect());
    assert_eq!(run_all(&mut world), (1..=count as u64).collect::<Vec<u64>>());
    world.assert_idle();

    // Nor is that lost over a start, or by limits that come and go.
    submit(&mut world, (0..count).map(|at| labeled(labels[at % labels.len()])).collect());
    world.crash();
    world.settle();
    limit(&mut world, "b", Some(1));
    assert_eq!(run_all(&mut world), (count as u64 + 1..=2 * count as u64).collect::<Vec<u64>>());
    world.assert_idle();
}

#[test]
fn very_many_lines_share_what_is_held_of_them() {
    let mut world = World::up(1);
    let count = 3 * WINDOW as u64;
    submit(&mut world, (0..count).map(|at| labeled(&format!("label-{at}"))).collect());
    for label in 0..count {
        world.set_limit(&format!("label-{label}"), Some(1));
    }
    world.settle();
    let held = (1..=count).filter(|&id| world.engine_knows(JobId(id))).count();
    assert!(held < WINDOW + 50, "{held} jobs are held of {count}");
    world.crash();
    world.settle();
    assert_eq!(run_all(&mut world), (1..=count).collect::<Vec<u64>>());
    world.assert_idle();
}

#[test]
fn a_drain_waits_for_what_a_limit_holds_back() {
    let mut world = World::up(2);
    limit(&mut world, "gpu", Some(1));
    submit(&mut world, vec![labeled("gpu"); 3]);
    world.drain();
    world.settle();
    assert!(!world.exited);
    assert_eq!(run_all(&mut world), [1, 2, 3]);
    assert!(world.exited);
}

#[test]
fn a_drain_ends_what_is_tied_to_the_pool_and_holds_the_room_that_others_wait_for() {
    let mut world = World::up(3);
    limit(&mut world, "gpu", Some(1));
    let service = Work { tie: Some(Tie::Pool), ..labeled("gpu") };
    submit(&mut world, vec![service, labeled("gpu"), work()]);
    world.drain();
    world.settle();
    assert_eq!((running(&world), world.stopping(1)), (vec![1, 3], None), "job 3 may need it");
    end(&mut world, 3);
    end_as(&mut world, 1, Exit::Signal { signal: 15, core: false });
    assert_eq!((world.state(1), running(&world)), (State::Canceled, vec![2]));
    end(&mut world, 2);
    assert!(world.exited);
}

#[test]
fn limits_are_listed_with_what_runs() {
    let mut world = World::new(with_limit(settings(3), "db", 4));
    world.settle();
    limit(&mut world, "gpu", Some(2));
    submit(&mut world, vec![labeled("gpu"); 3]);
    let request = world.ask(Request::LabelLimits);
    let told = format!("{:?}", world.replies(request));
    assert!(told.contains(r#"label: "db", limit: 4, source: Config, running: []"#), "{told}");
    assert!(told.contains(r#"label: "gpu", limit: 2, source: Set, running: [1, 2]"#), "{told}");
    run_all(&mut world);
}
