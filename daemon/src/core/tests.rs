//! What no engine of today brings about, and the core has to take: event by event. All else is told by the
//! stories of `sim/`.

use std::time::Duration;

use super::*;
use crate::desk::{Account, Admission};
use crate::engine::{Conditional, Offer, Turns};
use crate::job::{ProcessId, Ready, Tries, Work};
use crate::start::config::Config;

const START: Now = Now { monotonic: Duration::from_secs(1000), wall_us: 1_000_000 };

/// A core with one pool of two workers, both of which are up.
fn core() -> Core {
    let callbacks = CallbackSettings {
        workers: 1,
        attempts: 1,
        backoff: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
    };
    let pool = PoolSettings {
        name: "default".into(),
        workers: 2,
        program: None,
        backfill: false,
        resources: Default::default(),
    };
    let settings = Settings {
        pools: vec![pool],
        callbacks,
        crash_limit: 1,
        stop_grace: Duration::from_secs(1),
        limits: BTreeMap::new(),
        max_queued: 10,
        quick: Duration::ZERO,
    };
    let (mut core, _) = Core::restore(settings, Restored { next_job: 1, ..Restored::default() }, START);
    for index in 0..2 {
        let slot = SlotId { lane: LaneId::Pool(PoolId(0)), index };
        core.handle(START, Event::WorkerUp { slot, pid: ProcessId::new(100 + index as i32) });
    }
    core
}

/// A job comes into the engine.
fn insert(core: &mut Core, id: u64) -> Arc<Work> {
    let job = pool_proto::nouns::Job { argv: vec!["true".into()], ..Default::default() };
    let pool = |name: &str| Some((Arc::from(name), false));
    let work = Admission::new(Account::default()).admit(job, 0, &Config::default(), pool).unwrap();
    let (request, jobs) = (RequestId(id), vec![work.clone()]);
    core.handle(START, Event::Submit { request, jobs: jobs.clone() });
    let (conditions, existing, turns) = (Conditional::default(), Vec::new(), Turns::default());
    let inserted =
        Answer::Inserted { request, first: JobId(id), jobs, existing, turns, conditions, is_synced: true };
    core.handle(START, Event::Answer(inserted));
    work
}

#[test]
fn an_offer_whose_time_has_passed_goes_back_and_its_job_stays_in_line() {
    let mut core = core();
    let offer = |id: u64, work: Arc<Work>, start_by| {
        let ready = Ready { id: JobId(id), tries: Tries::default(), work };
        Offer { ready, start_by: Some(start_by), bytes: 1 }
    };
    let late = offer(1, insert(&mut core, 1), START.monotonic);
    let good = offer(2, insert(&mut core, 2), START.monotonic + Duration::from_secs(2));
    let now = Now { monotonic: START.monotonic + Duration::from_secs(1), ..START };

    let offered = Event::Offered { pool: "default".into(), offers: vec![late.clone(), good] };
    let effects = core.handle(now, offered);

    assert!(effects.contains(&Effect::GiveBack(late.ready)), "{effects:?}");
    assert_eq!(core.running().collect::<Vec<_>>(), [(JobId(2), 1)]);
    assert_eq!(core.audit_pools()[0].queued.all(), 1);
}

/// What waits is due when the time has passed, not when somebody's clock says so.
#[test]
fn a_clock_that_is_set_changes_nothing_for_what_waits() {
    let wakes = |core: &mut Core, seconds: u64, wall_us: i64| {
        let now = Now { monotonic: START.monotonic + Duration::from_secs(seconds), wall_us };
        let effects = core.handle(now, Event::Tick);
        effects.into_iter().find_map(|effect| match effect {
            Effect::Change(Change::Wake { until_us, .. }) => Some(until_us),
            _ => None,
        })
    };
    for jump in [-7_200_000_000, 7_200_000_000] {
        let mut core = core();
        let due_us = core.due.after(core.now, Duration::from_secs(60));
        core.wake_for(due_us);
        assert_eq!(wakes(&mut core, 59, START.wall_us + jump), None);
        assert_eq!(wakes(&mut core, 60, START.wall_us + jump), Some(due_us));
    }
}
