//! The jobs in flight: so many that no slot waits for us, and no more.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pool_proto::interface::{DEFAULT_POOL, OnDisconnect, Pools};
use pool_proto::{Client, ClientError};

use super::batch::Batch;
use super::lane::{Event, Job, Lane, Load};
use super::single::Single;
use super::template::Template;
use crate::connect::Link;

/// Jobs in flight: for each slot one that runs and one that waits for it, and some that are on their way to the disk or back.
const PER_SLOT: usize = 2;
const ON_THE_WAY: usize = 24;

/// With so many besides those for the slots left, it is filled again at one go: jobs that come together are on disk together.
const LOW: usize = 8;

/// Descriptors: of a lane, and of everything else.
const FILES_OF_LANE: u64 = 3;
const OTHER_FILES: u64 = 192;

/// The same of calls, which are sent in batches; and how many lanes there are besides one for each slot.
const CALLS: usize = 4096;
const CALLS_OF_BATCH: usize = 512;
const MORE_LANES: usize = 8;

/// See the module's description.
pub struct Window<'a> {
    link: &'a Link,
    template: Template,
    on_disconnect: OnDisconnect,
    lanes: Vec<Box<dyn Lane>>,
    max_lanes: usize,
    /// On their way, and those gathered for the next lane.
    in_flight: usize,
    gathered: Vec<Load>,
    /// So many go together.
    batch: usize,
    /// As many as may be in flight: now, and when poold takes all that we send.
    size: usize,
    full_size: usize,
    /// From here on it is filled again (see [`LOW`]).
    low: usize,
    is_filling: bool,
    /// Refused for now.
    again: VecDeque<Load>,
}

impl<'a> Window<'a> {
    /// Connects to poold, or starts it.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(link: &'a Link, template: Template, on_disconnect: OnDisconnect) -> anyhow::Result<Self> {
        let mut client = link.connect()?;
        // One that does not exist is refused when the first job is submitted.
        let slots =
            slots(&mut client, template.common().pool.as_deref().unwrap_or(DEFAULT_POOL))?.unwrap_or(1);
        let (size, low, max_lanes, batch) = if template.is_call() {
            (CALLS.max(slots * PER_SLOT), usize::MAX, slots + MORE_LANES, CALLS_OF_BATCH)
        } else {
            let size = (slots * PER_SLOT + ON_THE_WAY).min(affordable());
            (size, slots + slots / 2 + LOW, size, 1)
        };
        let mut window = Self {
            link,
            template,
            on_disconnect,
            lanes: Vec::new(),
            max_lanes,
            in_flight: 0,
            gathered: Vec::new(),
            batch,
            size,
            full_size: size,
            low,
            is_filling: true,
            again: VecDeque::new(),
        };
        window.add_lane(client);
        Ok(window)
    }

    fn add_lane(&mut self, client: Client) -> usize {
        self.lanes.push(if self.template.is_call() {
            Box::new(Batch::new(client, self.on_disconnect))
        } else {
            Box::new(Single::new(client, self.on_disconnect))
        });
        self.lanes.len() - 1
    }

    pub fn has_room(&mut self) -> bool {
        self.is_filling = if self.is_filling {
            self.in_flight < self.size
        } else {
            self.in_flight <= self.low.min(self.size - 1)
        };
        self.is_filling && (!self.gathered.is_empty() || self.has_lane())
    }

    fn has_lane(&self) -> bool {
        self.lanes.len() < self.max_lanes || self.lanes.iter().any(|lane| lane.is_idle())
    }

    /// Nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.in_flight == 0
    }

    /// Some are to be submitted again.
    pub fn has_refused(&self) -> bool {
        !self.again.is_empty()
    }

    /// Submits it when there are enough of them, or with the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// When poold is gone and does not come back.
    pub fn submit(&mut self, load: Load) -> anyhow::Result<()> {
        self.gathered.push(load);
        self.in_flight += 1;
        if self.gathered.len() >= self.batch { self.flush() } else { Ok(()) }
    }

    /// # Errors
    /// Those of [`submit`](Self::submit).
    pub fn flush(&mut self) -> anyhow::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let lane = match self.lanes.iter().position(|lane| lane.is_idle()) {
            Some(place) => place,
            None => {
                let client = self.link.reconnect()?;
                self.add_lane(client)
            }
        };
        self.lanes[lane].start(&self.template, std::mem::take(&mut self.gathered));
        Ok(())
    }

    /// Submits one that was refused before; false when there is none.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit).
    pub fn resubmit(&mut self) -> anyhow::Result<bool> {
        let Some(load) = self.again.pop_front() else { return Ok(false) };
        self.submit(load)?;
        Ok(true)
    }

    /// The places of the lanes that something may come from.
    pub fn busy(&self) -> Vec<usize> {
        (0..self.lanes.len()).filter(|&lane| !self.lanes[lane].is_idle()).collect()
    }

    pub fn fd(&self, lane: usize) -> BorrowedFd<'_> {
        self.lanes[lane].as_fd()
    }

    /// All that poold has accepted.
    pub fn accepted(&self) -> Vec<Job> {
        self.lanes.iter().flat_map(|lane| lane.jobs()).collect()
    }

    pub fn template(&self) -> &Template {
        &self.template
    }

    /// Reads what a lane has to tell; goes on with another connection when poold has gone.
    ///
    /// # Errors
    /// When poold does not come back.
    pub fn read(&mut self, lane: usize) -> anyhow::Result<()> {
        let lane = &mut self.lanes[lane];
        if lane.fill()? { Ok(()) } else { lane.reconnect(self.link, &self.template) }
    }

    /// The next that it has told.
    ///
    /// # Errors
    /// When poold refuses.
    pub fn next(&mut self, lane: usize) -> Result<Option<Event>, ClientError> {
        let event = self.lanes[lane].next(&self.template)?;
        if let Some(Event::Ended(_)) = event {
            self.in_flight -= 1;
            self.size = self.full_size.min(self.size + 1);
        }
        Ok(event)
    }

    /// There is no room for what this lane carries as long as the others are in flight, or for so much at once: it is submitted again
    /// later. False when there never will be.
    pub fn shrink(&mut self, lane: usize) -> bool {
        let loads = self.lanes[lane].give_up();
        let count = loads.len();
        self.in_flight -= count;
        self.again.extend(loads);
        self.batch = self.batch.min(count.div_ceil(2)).max(1);
        self.size = self.in_flight.max(self.batch);
        self.in_flight > 0 || count > 1
    }

    /// What it carries is not waited for any more.
    pub fn give_up(&mut self, lane: usize) {
        self.in_flight -= self.lanes[lane].give_up().len();
    }
}

fn slots(client: &mut Client, pool: &str) -> Result<Option<usize>, ClientError> {
    let pools = client.call(&Pools {})?.pools;
    Ok(pools.into_iter().find(|known| known.name == pool).map(|pool| pool.workers as usize))
}

/// As many lanes as we may have descriptors for, of which we take what we can get.
fn affordable() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(limit.saturating_sub(OTHER_FILES) / FILES_OF_LANE).unwrap_or(usize::MAX).max(1)
}
