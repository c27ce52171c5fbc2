//! Stories about jobs that take items of their pool's resources, and that each item is with one attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pool_proto::methods::Edit;
use pool_proto::nouns::{CallbackFor, ExplanationKind, Job, OnCrash, Tier};
use pool_proto::{Refusal, State};

use super::clients::{Heard, refused, why};
use super::specs::{EXITED, SECOND, array_of, pool, settings, work};
use super::workers::{Worker, begin, end, end_all, end_as, running, submit};
use super::world::World;
use crate::job::{Exit, Items, JobId, Labels, Needs, Retries, Unit, Work};
use crate::start::config::{Config, PoolConfig};

impl World {
    /// No item is with two attempts of a pool, each attempt has what its job takes, and the core knows so.
    pub(super) fn check_items(&self) {
        let mut seen: BTreeSet<(&Arc<str>, &Arc<str>, &Arc<str>)> = BTreeSet::new();
        for (slot, (_, worker)) in &self.workers {
            let claim = match worker {
                Worker::Busy { claim, .. } => claim,
                Worker::Dying { claim: Some(claim), .. } | Worker::Condemned { claim: Some(claim) } => claim,
                _ => continue,
            };
            let Some((pool, items)) = self.handed_items.get(claim) else { continue };
            for (name, items) in items {
                for item in items {
                    let is_first = seen.insert((pool, name, item));
                    assert!(is_first, "{claim} in {slot:?} has {item} of {name}, and so has another");
                }
            }
            let Unit::Job(id) = claim.unit else { continue };
            let takes = self.work_kept(id).map(|work| work.needs.resources.clone()).unwrap_or_default();
            let has = |(name, items): (&Arc<str>, &Vec<Arc<str>>)| (name.clone(), items.len() as u32);
            assert_eq!(items.iter().map(has).collect::<crate::job::Resources>(), takes, "{claim}");
        }

        let active: BTreeSet<JobId> = self.core().running().map(|(id, _)| id).collect();
        for pool in self.core().audit_pools() {
            for view in self.core().audit_items(pool.id) {
                let mut held: BTreeMap<JobId, u32> = BTreeMap::new();
                view.holders().for_each(|id| *held.entry(id).or_default() += 1);
                for (id, amount) in held {
                    assert!(active.contains(&id), "job {id} has {amount} of {}, and does not run", view.name);
                    let takes = self.work_kept(id).map_or(0, |work| work.needs.resources.amount(&view.name));
                    assert_eq!(amount, takes, "what job {id} has of {}", view.name);
                }
            }
        }
    }
}

fn taking(text: &str) -> Work {
    Work { needs: Needs::parse(text).expect("it is written so"), ..work() }
}

/// The default pool with so many workers and these resources.
fn config(workers: u32, resources: &[(&str, &[&str])], backfill: bool) -> Config {
    let mut config = settings(workers);
    config.pool.insert("default".to_owned(), with(resources, backfill));
    config
}

fn with(resources: &[(&str, &[&str])], backfill: bool) -> PoolConfig {
    let items = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect();
    let resources = resources.iter().map(|&(name, all)| (name.to_owned(), items(all))).collect();
    PoolConfig { resources, backfill, ..PoolConfig::default() }
}

fn up(config: Config) -> World {
    let mut world = World::new(config);
    world.settle();
    world
}

fn gpus(workers: u32) -> World {
    up(config(workers, &[("gpu", &["0", "1"]), ("tape", &["a"])], false))
}

/// What the attempt of a job was told, as `gpu=0,1 tape=a`.
fn items(world: &World, id: u64) -> String {
    let told = |(claim, (_, items)): (&crate::job::Claim, &(Arc<str>, Items))| {
        (claim.unit == Unit::Job(JobId(id))).then(|| (claim.attempt, items.clone()))
    };
    let latest = world.handed_items.iter().filter_map(told).max_by_key(|(attempt, _)| *attempt);
    let (_, items) = latest.expect("it was handed to a worker");
    let each: Vec<String> = items.iter().map(|(name, items)| format!("{name}={}", items.join(","))).collect();
    each.join(" ")
}

fn reread(world: &mut World, config: Config) {
    world.reread(config);
    world.settle();
}

fn too_small_for(world: &World) -> Option<String> {
    world.core().pools(|_| (Tier::Subreaper, None))[0].too_small_for.clone()
}

fn edit(world: &mut World, id: u64, set: Job) -> Option<Heard> {
    let request = world.edit(Edit { id, set: Some(set), ..Edit::default() });
    world.settle();
    world.replies(request).last().cloned()
}

#[test]
fn items_are_handed_out_and_nothing_behind_starts_before_who_waits_for_them() {
    let mut world = gpus(4);
    submit(
        &mut world,
        vec![taking("gpu=1"), taking("gpu=1,tape=1"), taking("tape=1"), taking("gpu=1"), work()],
    );
    assert_eq!(
        (running(&world), items(&world, 1), items(&world, 2)),
        (vec![1, 2], "gpu=0".into(), "gpu=1 tape=a".into())
    );
    let (kind, reason) = why(&mut world, 3);
    assert_eq!(kind, ExplanationKind::Line);
    assert!(
        reason.contains("it takes 1 of tape: 1 of 1 is taken (job 2); pool default: 2 of 4 slots"),
        "{reason}"
    );
    let (_, reason) = why(&mut world, 5);
    assert!(reason.contains("free slots are kept for job 3, which waits for tape"), "{reason}");

    end(&mut world, 1);
    assert_eq!(running(&world), [2], "job 4 could have 0, and job 5 needs nothing");
    end(&mut world, 2);
    assert_eq!(
        (running(&world), items(&world, 3), items(&world, 4)),
        (vec![3, 4, 5], "tape=a".into(), "gpu=0".into())
    );
    end_all(&mut world);
}

#[test]
fn a_job_starts_when_all_that_it_takes_is_free_at_once() {
    let mut world = gpus(3);
    world.set_limit("db", Some(1));
    world.settle();
    submit(&mut world, vec![taking("gpu=1"), taking("db"), taking("db,gpu=2,=2"), taking("gpu=1")]);
    assert_eq!(running(&world), [1, 2, 4], "job 3 waits for its label first, and holds up nobody");
    end(&mut world, 2);
    assert_eq!(running(&world), [1, 4]);
    submit(&mut world, vec![Work { pool: "other".into(), ..taking("db") }]);
    assert_eq!(running(&world), [1, 4], "a job that gathers has the room of its label");
    end(&mut world, 1);
    assert_eq!(running(&world), [4], "two slots are free, and one item");
    end(&mut world, 4);
    assert_eq!((running(&world), items(&world, 3)), (vec![3], "gpu=0,1".into()));
    end_all(&mut world);
}

#[test]
fn what_is_more_urgent_takes_items_first_and_who_goes_leaves_them() {
    let mut world = gpus(4);
    submit(&mut world, vec![taking("gpu=1"), taking("gpu=2"), taking("gpu=1"), work()]);
    assert_eq!(running(&world), [1]);
    submit(&mut world, vec![Work { priority: 1, ..taking("gpu=1") }]);
    assert_eq!(running(&world), [1, 5]);
    world.cancel(&[2]);
    world.settle();
    assert_eq!(running(&world), [1, 5], "job 3 waits");
    world.hold(&[3]);
    world.settle();
    assert_eq!(running(&world), [1, 4, 5]);
    world.release(&[3]);
    end(&mut world, 5);
    assert_eq!((running(&world), items(&world, 3)), (vec![1, 3, 4], "gpu=1".into()));
    end_all(&mut world);
}

#[test]
fn with_backfill_others_pass_that_take_none_of_what_it_needs() {
    let mut world = up(config(6, &[("gpu", &["0"]), ("tape", &["a"])], true));
    let jobs = [taking("gpu=1"), taking("gpu=1"), taking("gpu=1,tape=1"), taking("tape=1")];
    submit(&mut world, [jobs.to_vec(), vec![work(); 5]].concat());
    assert_eq!(running(&world), [1, 4, 5, 6, 7], "four have passed job 2");
    end(&mut world, 5);
    assert_eq!(running(&world), [1, 4, 6, 7]);
    end(&mut world, 1);
    assert_eq!(running(&world), [2, 4, 6, 7, 8, 9], "now job 3 is passed");
    end_all(&mut world);
}

#[test]
fn an_attempt_has_its_items_until_nothing_of_it_is_left() {
    let mut world = gpus(2);
    submit(&mut world, vec![taking("gpu=2"), taking("gpu=1")]);
    begin(&mut world, 1);
    world.cancel(&[1]);
    world.settle();
    assert_eq!(running(&world), [1], "it is being ended");
    end_as(&mut world, 1, Exit::Signal { signal: 15, core: false });
    assert_eq!((running(&world), world.state(1)), (vec![2], State::Canceled));

    begin(&mut world, 2);
    let slot = world.slot_of(Unit::Job(JobId(2)));
    submit(&mut world, vec![taking("gpu=2")]);
    world.worker_dying(slot);
    world.check();
    world.worker_lost(slot);
    world.settle();
    assert_eq!(
        (running(&world), items(&world, 2)),
        (vec![2], "gpu=0".into()),
        "it is queued again, and first"
    );
    assert_eq!(world.record(2).crashes, 1);
    end_all(&mut world);
}

#[test]
fn a_retry_asks_for_its_items_anew() {
    let mut world = gpus(2);
    submit(&mut world, vec![Work { retries: Retries::new(1, SECOND), ..taking("gpu=1") }, taking("gpu=2")]);
    end_as(&mut world, 1, Exit::Code(1));
    assert_eq!((running(&world), world.state(1)), (vec![2], State::Retrying));
    world.advance(SECOND);
    world.settle();
    assert_eq!(running(&world), [2]);
    end(&mut world, 2);
    assert_eq!((running(&world), items(&world, 1)), (vec![1], "gpu=0".into()));
    end_all(&mut world);
}

#[test]
fn one_that_must_not_run_twice_has_its_items_while_its_start_is_written_down() {
    let mut world = gpus(2);
    world.submit(vec![Work { on_crash: OnCrash::Fail, ..taking("gpu=2") }, taking("gpu=1")]);
    world.settle();
    assert_eq!((running(&world), items(&world, 1)), (vec![1], "gpu=0,1".into()));
    let slot = world.slot_of(Unit::Job(JobId(1)));
    world.worker_lost(slot);
    world.settle();
    assert_eq!((world.state(1), running(&world)), (State::Failed, vec![2]));
    end_all(&mut world);
}

#[test]
fn each_element_of_an_array_takes_its_own() {
    let mut world = gpus(4);
    submit(&mut world, vec![array_of(taking("gpu=1"), "0-4", CallbackFor::Array)]);
    assert_eq!(running(&world), [2, 3]);
    assert_eq!((items(&world, 2), items(&world, 3)), ("gpu=0".into(), "gpu=1".into()));
    end(&mut world, 3);
    assert_eq!((running(&world), items(&world, 4)), (vec![2, 4], "gpu=1".into()));
    end_all(&mut world);
}

#[test]
fn what_runs_keeps_its_items_whatever_the_configuration_says() {
    let mut world = gpus(5);
    submit(&mut world, vec![taking("gpu=1"), taking("gpu=1"), taking("gpu=1"), taking("gpu=2"), work()]);
    assert_eq!(running(&world), [1, 2]);
    reread(&mut world, config(5, &[("gpu", &["1", "7"])], false));
    assert_eq!((running(&world), items(&world, 3)), (vec![1, 2, 3], "gpu=7".into()), "job 2 has 1");
    reread(&mut world, config(5, &[("gpu", &["9"])], false));
    assert_eq!(running(&world), [1, 2, 3, 5], "job 4 holds up nobody: it can never run");
    let (kind, reason) = why(&mut world, 4);
    assert_eq!(kind, ExplanationKind::Pool);
    assert!(reason.contains("it takes 2 of gpu, and the pool \"default\" has 1"), "{reason}");
    assert_eq!(too_small_for(&world).as_deref(), Some("takes 2 of gpu, and the pool has 1"));
    submit(&mut world, vec![taking("gpu=1")]);
    assert_eq!(items(&world, 6), "gpu=9");

    reread(&mut world, config(5, &[], false));
    assert_eq!(too_small_for(&world).as_deref(), Some("takes 2 of gpu, and the pool has 0"));
    let views = world.core().pools(|_| (Tier::Subreaper, None))[0].resources.clone();
    let removed: Vec<&str> =
        views[0].items.iter().filter(|item| item.removed == Some(true)).map(|item| &*item.item).collect();
    assert_eq!(removed, ["0", "1", "7", "9"], "{views:?}");
    [1, 2, 3, 5, 6].into_iter().for_each(|id| end(&mut world, id));
    reread(&mut world, config(5, &[("gpu", &["0", "1"])], false));
    assert_eq!((running(&world), items(&world, 4), too_small_for(&world)), (vec![4], "gpu=0,1".into(), None));
    end_all(&mut world);
}

#[test]
fn a_drain_does_not_wait_for_what_can_never_run() {
    let mut world = gpus(2);
    submit(&mut world, vec![taking("tape=1"), taking("tape=1")]);
    reread(&mut world, config(2, &[], false));
    world.drain();
    world.settle();
    assert!(world.lives());
    end(&mut world, 1);
    assert!(!world.lives(), "job 2 is kept for the next start");
}

#[test]
fn items_and_who_waits_for_them_outlive_the_daemon() {
    let mut world = gpus(3);
    submit(&mut world, vec![taking("gpu=1"), taking("gpu=2"), work()]);
    world.crash();
    world.settle();
    assert_eq!((running(&world), world.core().gathers("default").map(|it| it.id)), (vec![1], Some(JobId(2))));
    end(&mut world, 1);
    assert_eq!((running(&world), items(&world, 2)), (vec![2, 3], "gpu=0,1".into()));
    end_all(&mut world);
}

#[test]
fn what_a_pool_cannot_take_is_refused() {
    let mut world = gpus(2);
    for (text, said) in [
        ("gpu=3", "takes 3 of \"gpu\", and the pool \"default\" has 2"),
        ("disk=1", "has no resource \"disk\": it has gpu, tape"),
    ] {
        let request = world.submit(vec![taking(text)]);
        world.settle();
        match refused(world.replies(request).last()) {
            Refusal::InvalidJob { index: 0, field, reason } => {
                assert!(field == "resources" && reason.contains(said), "{field}: {reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    let request = world.submit(vec![Work { pool: "other".into(), ..taking("gpu=1") }]);
    world.settle();
    let refusal = refused(world.replies(request).last());
    assert!(refusal.to_string().contains("[pool.other.resources]"), "{refusal}");

    let mut config = super::specs::mixed(2);
    config.pool.insert("other".to_owned(), pool(2));
    let mut world = up(config);
    let call = super::specs::call();
    let request = world.submit(vec![Work { needs: Needs::parse("gpu=1").unwrap(), ..call }]);
    world.settle();
    let refusal = refused(world.replies(request).last());
    assert!(refusal.to_string().contains("a call is answered by a program"), "{refusal}");
}

#[test]
fn slots_and_resources_may_be_edited_and_take_effect_at_once() {
    let mut world = gpus(3);
    submit(&mut world, vec![taking("gpu=2"), taking("=3"), taking("gpu=1"), work()]);
    assert_eq!(running(&world), [1]);
    let slots = |slots| Job { slots: Some(slots), ..Job::default() };
    let gpu = |amount: u32| Job { resources: Some([("gpu".to_owned(), amount)].into()), ..Job::default() };
    assert_eq!(edit(&mut world, 2, slots(2)), Some(Heard::Done));
    assert_eq!((running(&world), world.record(2).slots), (vec![1, 2], 2));
    for (set, said) in [
        (slots(4), "job 3 would take 4 slots, and its pool \"default\" has 3"),
        (gpu(3), "job 3 would take 3 of \"gpu\", and its pool \"default\" has 2"),
    ] {
        let heard = edit(&mut world, 3, set);
        let refusal = refused(heard.as_ref());
        assert!(refusal.to_string().contains(said), "{refusal}");
    }
    assert_eq!(running(&world), [1, 2], "job 3 waits as it did");
    end(&mut world, 2);
    assert_eq!(running(&world), [1]);
    let request = world.edit(Edit { id: 3, unset: Some(vec!["resources".to_owned()]), ..Edit::default() });
    world.settle();
    assert_eq!(world.replies(request).last(), Some(&Heard::Done));
    assert_eq!((running(&world), world.record(3).resources), (vec![1, 3, 4], None));
    submit(&mut world, vec![work(), work()]);
    assert_eq!(edit(&mut world, 5, slots(2)), Some(Heard::Done));
    end(&mut world, 3);
    assert_eq!(running(&world), [1, 4], "job 5 gathers now");
    world.crash();
    world.settle();
    assert_eq!(world.record(5).slots, 2);
    end_all(&mut world);
}

#[test]
fn a_job_that_comes_back_too_wide_for_its_pool_holds_up_nobody() {
    let mut world = up(config(2, &[("gpu", &["0"])], false));
    submit(&mut world, vec![taking("gpu=1"), work(), work(), work()]);
    assert_eq!(running(&world), [1, 2]);
    reread(&mut world, config(2, &[], false));
    begin(&mut world, 1);
    // Somebody else has ended it: it is queued again, in a slot that is free at once.
    let slot = world.slot_of(Unit::Job(JobId(1)));
    world.worker_died(slot, false);
    world.settle();
    assert_eq!(running(&world), [2, 3]);
    assert_eq!(too_small_for(&world).as_deref(), Some("takes 1 of gpu, and the pool has 0"));
    reread(&mut world, config(2, &[("gpu", &["0"])], false));
    end_all(&mut world);
}

#[test]
fn a_label_and_a_resource_may_have_one_name() {
    let mut world = gpus(2);
    let both = Needs { labels: Labels::parse("gpu"), ..Needs::parse("gpu=1").unwrap() };
    submit(&mut world, vec![Work { needs: both, ..work() }, taking("gpu")]);
    assert_eq!((running(&world), items(&world, 1)), (vec![1, 2], "gpu=0".into()));
    assert_eq!(world.record(1).resources, Some([("gpu".to_owned(), 1)].into()));
    end_all(&mut world);
}

#[test]
fn nothing_is_gathered_for_a_job_whose_label_has_no_room_any_more() {
    let mut config = config(1, &[("gpu", &["0"])], false);
    config.pool.insert("other".to_owned(), pool(1));
    let mut world = World::handing_ahead(config);
    world.settle();
    world.set_limit("l", Some(1));
    world.settle();
    let urgent = || Work { priority: 1, ..work() };
    world.submit(vec![work()]);
    world.settle();
    world.submit(vec![urgent(), urgent(), taking("l,gpu=1")]);
    world.settle();
    world.submit(vec![Work { pool: Arc::from("other"), ..taking("l") }]);
    world.settle();
    assert_eq!(world.running_jobs(), [1, 5]);
    // The slot has the third one ahead now, and the fourth would be next.
    end_as(&mut world, 1, EXITED);
    world.check();
    let counts = |world: &World| world.core().audit_labels().get("l").map_or(0, BTreeSet::len);
    assert_eq!((world.running_jobs(), counts(&world)), (vec![2, 5], 1));
    for id in [2, 3, 5] {
        end_as(&mut world, id, EXITED);
    }
    assert_eq!(world.running_jobs(), [4]);
    end_as(&mut world, 4, EXITED);
    world.assert_idle();
}
