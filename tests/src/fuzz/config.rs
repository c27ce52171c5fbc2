//! The configuration: refused with a reason, or settings within their bounds with which the core starts.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::DEFAULT_POOL;
use pool_proto::text::MAX_DURATION;
use poold::core::{Core, Effect, Now, Settings};
use poold::engine::Restored;
use poold::job::Environment;
use poold::start::config::Config;

/// The bytes are the file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::parse(text) {
        Ok(config) => {
            check_durations(&config);
            check_settings(&settings(&config, None));
            let asked_for = settings(&config, NonZeroU32::new(7));
            assert_eq!(asked_for.pools[0].workers, 7, "the command line has the last word");
            assert_same_when_rewritten(text, &config);
            start(&config);
        }
        Err(error) => super::assert_sentence(&format!("{error:#}")),
    }
}

fn settings(config: &Config, workers: Option<NonZeroU32>) -> Settings {
    config.settings(workers, &Arc::new(Environment::default()))
}

fn check_durations(config: &Config) {
    let pools = config
        .pool
        .values()
        .flat_map(|pool| [pool.timeout, pool.kill_after, pool.backoff, pool.start_timeout, pool.max_age]);
    let all = [
        config.timeout,
        Some(config.kill_after),
        Some(config.backoff),
        Some(config.stop_grace),
        Some(config.callbacks.backoff),
        Some(config.callbacks.timeout),
        Some(config.history.max_age),
    ];
    for duration in pools.chain(all).flatten() {
        assert!(duration <= MAX_DURATION, "{duration:?}");
    }
    for name in config.pool.keys() {
        assert_eq!(config.kill_after_of(name), config.pool[name].kill_after.unwrap_or(config.kill_after));
        assert_eq!(config.timeout_of(name), config.pool[name].timeout.or(config.timeout));
    }
}

fn check_settings(settings: &Settings) {
    assert_eq!(&*settings.pools[0].name, DEFAULT_POOL, "the default pool comes first");
    for (index, pool) in settings.pools.iter().enumerate() {
        assert!((1..=4096).contains(&pool.workers), "{pool:?}");
        assert!(
            !pool.name.is_empty() && pool.name.is_ascii() && !pool.name.contains(['/', ' ', '\n', '\0']),
            "{pool:?}"
        );
        let program = pool.program.iter();
        program.for_each(|program| {
            assert!(!program.command.is_empty() && program.cwd.as_escaped().starts_with('/'), "{program:?}")
        });
        assert!(
            !settings.pools[..index].iter().any(|other| other.name == pool.name),
            "{pool:?} is there twice"
        );
    }
    assert!((1..=4096).contains(&settings.callbacks.workers));
    assert!(settings.callbacks.attempts > 0 && settings.crash_limit > 0, "nothing is tried never");
}

/// The same members, written in another way, mean the same.
fn assert_same_when_rewritten(text: &str, config: &Config) {
    let table: toml::Table = text.parse().expect("it has just been read");
    let rewritten = toml::to_string(&table).expect("what was read can be written");
    assert_eq!(&Config::parse(&rewritten).expect("it means the same"), config, "{rewritten}");
    let commented = format!("{text}\n# a comment");
    assert_eq!(&Config::parse(&commented).expect("it means the same"), config, "{commented}");
}

/// The core starts with it: a worker for each slot, and nothing to wait for.
fn start(config: &Config) {
    let settings = settings(config, NonZeroU32::new(1));
    let slots = settings.pools.iter().map(|pool| pool.workers).sum::<u32>() + settings.callbacks.workers;
    let now = Now { monotonic: Duration::from_secs(1), wall_us: 1_700_000_000_000_000 };
    let (core, effects) = Core::restore(settings, Restored::default(), now);
    let spawned = effects.iter().filter(|effect| matches!(effect, Effect::SpawnWorker { .. })).count();
    assert_eq!(spawned, slots as usize);
    assert_eq!(core.next_deadline(), None);
}
