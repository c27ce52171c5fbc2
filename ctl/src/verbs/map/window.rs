//! The jobs in flight. There are just enough of them that no slot waits for the map.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pool_proto::methods::Pools;
use pool_proto::nouns::{DEFAULT_POOL, OnDisconnect};
use pool_proto::{Client, ClientError};

use super::batch::BatchLane;
use super::lane::{InFlight, Lane, LaneEvent, Load};
use super::single::SingleLane;
use super::template::Template;
use crate::link::connect::Link;
use crate::link::deadline::Deadline;
use crate::link::session::{Session, Turn};

/// The number of jobs in flight: for each slot one that runs and one that waits, and some that are on their
/// way to the disk or back.
const PER_SLOT: usize = 2;
const ON_THE_WAY: usize = 24;

/// When only this many jobs are left besides those for the slots, the window is filled at one go. Jobs that
/// come together are synced together.
const LOW: usize = 8;

/// The number of descriptors of a lane, and of everything else.
const FILES_OF_LANE: u64 = 3;
const OTHER_FILES: u64 = 192;

/// The same numbers for calls, which are sent in batches, and the number of lanes besides one for each slot.
const CALLS: usize = 4096;
const CALLS_OF_BATCH: usize = 512;
const MORE_LANES: usize = 8;

/// Bytes of items in one batch, and in flight, the last item's apart.
const BATCH_BYTES: usize = 1 << 20;
const BYTES_IN_FLIGHT: usize = 64 << 20;

/// How fast jobs are submitted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// The most that are in flight, and so the most that run.
    pub at_a_time: Option<usize>,
    /// The least time from one submission to the next.
    pub delay: Duration,
}

/// Whether one more job may be submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Now,
    At(Instant),
    /// Not before one of those in flight has ended.
    None,
}

/// See the module's description.
pub struct Window<'a> {
    link: &'a Link,
    template: Template,
    on_disconnect: OnDisconnect,
    lanes: Vec<Box<dyn Lane<'a> + 'a>>,
    max_lanes: usize,
    /// The places of lanes for which poold has no connection.
    turned_away: BTreeSet<usize>,
    /// The number of jobs in flight, including those that are gathered for the next lane.
    in_flight: usize,
    gathered: Vec<Load>,
    /// The bytes of the items that are gathered, and of all in flight.
    gathered_bytes: usize,
    bytes: usize,
    /// The number of jobs that go together.
    batch: usize,
    /// The slots of the pool.
    slots: usize,
    /// How many jobs may be in flight: now, and when poold takes everything that we send.
    size: usize,
    full_size: usize,
    /// The number of jobs at which the window is filled again (see [`LOW`]).
    low: usize,
    is_filling: bool,
    /// The least time from one submission to the next, and when that is over.
    delay: Duration,
    next_at: Option<Instant>,
    /// What poold has refused for now.
    again: VecDeque<Load>,
}

impl<'a> Window<'a> {
    /// Connects to poold, or starts poold.
    ///
    /// # Errors
    /// When there is no poold.
    pub fn open(
        link: &'a Link,
        template: Template,
        on_disconnect: OnDisconnect,
        pace: Pace,
    ) -> anyhow::Result<Self> {
        let mut client = link.connect()?;

        // If the pool does not exist, poold refuses the first job.
        let slots =
            slots(&mut client, template.common().pool.as_deref().unwrap_or(DEFAULT_POOL))?.unwrap_or(1);

        // What is in flight may run. A job that is submitted ahead of a free slot would start right after
        // another one, without the delay.
        let most = pace.at_a_time.unwrap_or(usize::MAX);
        let most = if pace.delay.is_zero() { most } else { most.min(slots.max(1)) };

        let (size, low, max_lanes, batch) = if template.is_call() {
            let (size, max_lanes) = (CALLS.max(slots * PER_SLOT).min(most), slots + MORE_LANES);
            // A lane takes the next calls when all that it has have ended, so few calls go on many lanes.
            let batch =
                if size < CALLS { (size / max_lanes).clamp(1, CALLS_OF_BATCH) } else { CALLS_OF_BATCH };
            (size, usize::MAX, max_lanes, batch)
        } else {
            let size = (slots * PER_SLOT + ON_THE_WAY).min(affordable()).min(most);
            (size, slots + slots / 2 + LOW, size, 1)
        };

        let mut window = Self {
            link,
            template,
            on_disconnect,
            lanes: Vec::new(),
            max_lanes,
            turned_away: BTreeSet::new(),
            in_flight: 0,
            gathered: Vec::new(),
            gathered_bytes: 0,
            bytes: 0,
            batch,
            slots: slots.max(1),
            size,
            full_size: size,
            low,
            is_filling: true,
            delay: pace.delay,
            next_at: None,
            again: VecDeque::new(),
        };

        window.add_lane(Session::new(link, client));
        Ok(window)
    }

    fn add_lane(&mut self, session: Session<'a>) -> usize {
        self.lanes.push(if self.template.is_call() {
            Box::new(BatchLane::new(session, self.on_disconnect))
        } else {
            Box::new(SingleLane::new(session, self.on_disconnect))
        });
        self.lanes.len() - 1
    }

    /// Whether one more job may be submitted. `left`: so many ends may be enough for the map to halt. Then
    /// jobs are submitted ahead of those that run only as far as the jobs before them cannot be enough.
    pub fn room(&mut self, left: Option<u64>) -> Room {
        let ahead = left.map(|left| usize::try_from(left.saturating_sub(1)).unwrap_or(usize::MAX));
        if ahead.is_some_and(|ahead| self.in_flight >= self.slots.saturating_add(ahead)) {
            return Room::None;
        }

        self.is_filling = if self.is_filling {
            self.in_flight < self.size
        } else {
            self.in_flight <= self.low.min(self.size - 1)
        };
        let has_room =
            self.is_filling && self.bytes < BYTES_IN_FLIGHT && (!self.gathered.is_empty() || self.has_lane());

        match self.next_at.filter(|&at| at > Instant::now()) {
            _ if !has_room => Room::None,
            Some(at) => Room::At(at),
            None => Room::Now,
        }
    }

    fn has_lane(&self) -> bool {
        self.lanes.len() < self.max_lanes || self.idle_lane().is_some()
    }

    fn idle_lane(&self) -> Option<usize> {
        let is_free = |place: &usize| self.lanes[*place].is_idle() && !self.turned_away.contains(place);
        (0..self.lanes.len()).find(is_free)
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.in_flight == 0
    }

    /// Whether items wait to be submitted again.
    pub fn has_refused(&self) -> bool {
        !self.again.is_empty()
    }

    /// Submits an item, together with others or at the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// When poold is there but does not let us connect.
    pub fn submit(&mut self, load: Load) -> anyhow::Result<()> {
        // A large item has a message to itself: with others it might be too much for one.
        if self.gathered_bytes + load.item.len() > BATCH_BYTES {
            self.flush()?;
        }
        self.gathered_bytes += load.item.len();
        self.bytes += load.item.len();
        self.gathered.push(load);
        self.in_flight += 1;
        if !self.delay.is_zero() {
            self.next_at = Instant::now().checked_add(self.delay);
        }
        if self.gathered.len() >= self.batch || self.gathered_bytes > BATCH_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// # Errors
    /// Those of [`submit`](Self::submit).
    pub fn flush(&mut self) -> anyhow::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let lane = match self.idle_lane() {
            Some(place) => place,
            None => {
                let session = Session::open(self.link)?;
                self.add_lane(session)
            }
        };
        self.gathered_bytes = 0;
        self.lanes[lane].start(&self.template, std::mem::take(&mut self.gathered));
        Ok(())
    }

    /// Submits an item that was refused before. False if there is none.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit).
    pub fn resubmit(&mut self) -> anyhow::Result<bool> {
        let Some(load) = self.again.pop_front() else { return Ok(false) };
        self.submit(load)?;
        Ok(true)
    }

    /// The connected lanes with something in flight: their places and their descriptors.
    pub fn busy(&self) -> Vec<(usize, BorrowedFd<'_>)> {
        let busy = self.lanes.iter().enumerate().filter(|(_, lane)| !lane.is_idle());
        busy.filter_map(|(place, lane)| Some((place, lane.session().fd()?))).collect()
    }

    /// The places of the lanes with something in flight whose poold is away.
    pub fn away(&self) -> Vec<usize> {
        let is_away = |place: &usize| {
            let lane = &self.lanes[*place];
            !lane.is_idle() && lane.session().is_away()
        };
        (0..self.lanes.len()).filter(is_away).collect()
    }

    /// Whether poold is away, as far as the lanes with something in flight know.
    pub fn is_away(&self) -> bool {
        !self.away().is_empty()
    }

    /// When the next turn of the first of these lanes is due: the others follow it.
    pub fn due(&self) -> Deadline {
        self.away().first().map_or(Deadline::NEVER, |&place| self.lanes[place].session().due())
    }

    /// All accepted jobs in flight.
    pub fn accepted(&self) -> Vec<InFlight> {
        self.lanes.iter().flat_map(|lane| lane.jobs()).collect()
    }

    /// The ids of the accepted jobs of one lane.
    pub fn accepted_on(&self, place: usize) -> Vec<u64> {
        self.lanes[place].jobs().iter().map(|job| job.id).collect()
    }

    /// What the jobs are made from.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// Reads what poold has sent on a lane. While poold is away, looks whether poold is back, and then asks
    /// again.
    ///
    /// # Errors
    /// When poold does not come back.
    pub fn turn(&mut self, place: usize) -> anyhow::Result<Turn> {
        let lane = &mut self.lanes[place];
        let turn = match lane.session_mut().turn() {
            Err(error) if lane.session().is_away() => return Err(error.context("the map is cut off")),
            other => other?,
        };

        if turn == Turn::Back {
            lane.ask_again(&self.template);
            // The other lanes look for poold at once, too.
            self.lanes.iter_mut().for_each(|lane| lane.session_mut().hurry());
        }
        Ok(turn)
    }

    /// The next thing that poold has said on a lane.
    ///
    /// # Errors
    /// When poold refuses.
    pub fn next(&mut self, lane: usize) -> Result<Option<LaneEvent>, ClientError> {
        let event = self.lanes[lane].next(&self.template)?;
        if let Some(LaneEvent::Ended(ended)) = &event {
            self.in_flight -= 1;
            self.bytes -= ended.item.len();
            self.size = self.full_size.min(self.size + 1);
        }
        Ok(event)
    }

    /// Takes the items off a lane that poold has refused, and submits them again later, fewer at a time.
    /// False if there will never be room for them. `is_turned_away`: poold has no connection for this lane, so
    /// that those which there are have to do.
    pub fn shrink(&mut self, lane: usize, is_turned_away: bool) -> bool {
        let loads = self.lanes[lane].give_up();

        if is_turned_away {
            self.turned_away.insert(lane);
            self.max_lanes = self.lanes.len();
            if self.turned_away.len() == self.lanes.len() {
                self.in_flight -= loads.len();
                return false;
            }
        }

        let count = loads.len();
        self.in_flight -= count;
        self.bytes -= bytes_of(&loads);
        self.again.extend(loads);

        self.batch = self.batch.min(count.div_ceil(2)).max(1);
        self.size = self.in_flight.max(self.batch);
        // Where others have a connection, what this one had is theirs, though none of them is at work just
        // now.
        is_turned_away || self.in_flight > 0 || count > 1
    }

    /// Gives up the items of a lane.
    pub fn give_up(&mut self, lane: usize) {
        let loads = self.lanes[lane].give_up();
        self.in_flight -= loads.len();
        self.bytes -= bytes_of(&loads);
    }
}

fn bytes_of(loads: &[Load]) -> usize {
    loads.iter().map(|load| load.item.len()).sum()
}

fn slots(client: &mut Client, pool: &str) -> Result<Option<usize>, ClientError> {
    let pools = client.request(&Pools {})?.pools;
    Ok(pools.into_iter().find(|known| known.name == pool).map(|pool| pool.workers as usize))
}

/// The number of lanes for which we may have descriptors, after raising that limit.
fn affordable() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(limit.saturating_sub(OTHER_FILES) / FILES_OF_LANE).unwrap_or(usize::MAX).max(1)
}
