//! Long lives from a seed, and short ones that end at every place where they can.
//!
//! Each life is the steps of [`property`](super::property), drawn from its seed alone: the same seed is the
//! same life, effect by effect.
//!
//! ```console
//! $ cargo test -p poold --release simulation -- --nocapture                              # some fixed seeds
//! $ POOLD_SIM_MINUTES=60 cargo test -p poold --release simulation -- --nocapture         # fresh ones
//! $ POOLD_SIM_SEED=7 cargo test -p poold --release simulation -- --nocapture             # that one again
//! ```

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use pool_proto::Record;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::delayed::Death;
use super::property::roomy;
use super::property::{Step, come_to_rest, step, take};
use super::world::World;

/// Steps of a long life, and of one that is cut at every place.
const LONG: usize = 400;
const SHORT: usize = 32;

/// Seeds that are always tried. Fresh ones are for those who search.
const FIXED: std::ops::Range<u64> = 0..7;

#[test]
fn a_long_life_keeps_every_promise() {
    for_each_seed(|seed| {
        let mut world = World::handing_ahead(roomy(2));
        for step in steps(seed).take(LONG) {
            take(&mut world, step);
        }
        come_to_rest(&mut world);
        world.drain();
        assert!(world.exited, "there is nothing left to drain");
    });
}

#[test]
fn a_crash_after_any_effect_breaks_no_promise() {
    for_each_seed(|seed| {
        let story: Vec<Step> = steps(seed).filter(is_short).take(SHORT).collect();
        let whole = tell(&story, None);
        for cut in 1..=whole.performed {
            let left = tell(&story, Some(cut)).delayed().steps_left();
            for (steps, death) in
                (0..=left).flat_map(|steps| [(steps, Death::Kill), (steps, Death::PowerCut)])
            {
                let mut world = tell(&story, Some(cut));
                assert!(world.dead, "the same story is told in the same way");
                world.bury(steps, death);
                come_to_rest(&mut world);
            }
        }
    });
}

/// The same events have the same effects, so that a seed is worth printing.
#[test]
fn a_seed_is_one_life() {
    for_each_seed(|seed| {
        let lives = [(); 2].map(|()| {
            let story: Vec<Step> = steps(seed).take(LONG).collect();
            let world = tell(&story, None);
            let records: Vec<Record> = world.disk().jobs().map(|id| world.record(id.0)).collect();
            (world.performed, world.signals, records)
        });
        assert_eq!(lives[0], lives[1]);
    });
}

/// The story up to the cut, if there is one.
fn tell(story: &[Step], cut_at: Option<usize>) -> World {
    let mut world = World::handing_ahead(roomy(2));
    world.cut_at = cut_at.filter(|&at| at > world.performed);
    world.dead = cut_at.is_some() && world.cut_at.is_none();
    for step in story {
        if world.dead {
            break;
        }
        take(&mut world, step.clone());
    }
    world
}

/// A story that is told hundreds of times has no crashes of its own, and no crowds.
fn is_short(step: &Step) -> bool {
    match step {
        Step::Submit { count, .. } => *count < 10,
        Step::Dies { .. } | Step::DiesWithin { .. } => false,
        _ => true,
    }
}

fn steps(seed: u64) -> impl Iterator<Item = Step> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let strategy = step();
    std::iter::from_fn(move || {
        Some(strategy.new_tree(&mut runner).expect("steps are not filtered").current())
    })
}

fn for_each_seed(live: impl Fn(u64)) {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name}: {text:?} is no number")))
    };
    if let Some(seed) = number("POOLD_SIM_SEED") {
        return live_once(seed, &live);
    }
    let fresh = std::iter::repeat_with(|| RandomState::new().hash_one(0));
    match number("POOLD_SIM_MINUTES") {
        Some(minutes) => {
            let (start, limit) = (Instant::now(), Duration::from_secs(60 * minutes));
            fresh.take_while(|_| start.elapsed() < limit).for_each(|seed| live_once(seed, &live));
        }
        None => FIXED.for_each(|seed| live_once(seed, &live)),
    }
}

fn live_once(seed: u64, live: &impl Fn(u64)) {
    println!("seed {seed}");
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| live(seed))) {
        eprintln!("this was seed {seed}: POOLD_SIM_SEED={seed} repeats it");
        resume_unwind(panic);
    }
}
