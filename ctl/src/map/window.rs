//! The jobs in flight: so many that no slot waits for us, and no more.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pool_proto::interface::{DEFAULT_POOL, OnDisconnect, Pools};
use pool_proto::{Client, ClientError};

use super::items::Item;
use super::lane::{Event, Job, Lane};
use super::template::Template;
use crate::connect::Link;

/// Jobs in flight: for each slot one that runs and one that waits for it, and some that are on their way to the disk or back.
const PER_SLOT: usize = 2;
const ON_THE_WAY: usize = 8;

/// Descriptors: of a lane, and of everything else.
const FILES_OF_LANE: u64 = 3;
const OTHER_FILES: u64 = 192;

/// See the module's description.
pub struct Window<'a> {
    link: &'a Link,
    template: Template,
    on_disconnect: OnDisconnect,
    lanes: Vec<Lane>,
    /// Busy ones.
    in_flight: usize,
    /// As many as may be busy: now, and when poold takes all that we send.
    size: usize,
    full_size: usize,
    /// Refused for now.
    again: VecDeque<(Item, u32)>,
}

impl<'a> Window<'a> {
    /// Connects to poold, or starts it.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(link: &'a Link, template: Template, on_disconnect: OnDisconnect, pool: Option<&str>) -> anyhow::Result<Self> {
        let mut client = link.connect()?;
        // One that does not exist is refused when the first job is submitted.
        let slots = slots(&mut client, pool.unwrap_or(DEFAULT_POOL))?.unwrap_or(1);
        let size = (slots * PER_SLOT + ON_THE_WAY).min(affordable());
        let lanes = vec![Lane::new(client, on_disconnect)];
        Ok(Self { link, template, on_disconnect, lanes, in_flight: 0, size, full_size: size, again: VecDeque::new() })
    }

    pub fn has_room(&self) -> bool {
        self.in_flight < self.size
    }

    /// Nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.in_flight == 0
    }

    /// # Errors
    /// When poold is gone and does not come back.
    pub fn submit(&mut self, item: Item, occurrence: u32) -> anyhow::Result<()> {
        let lane = match self.lanes.iter_mut().position(|lane| lane.is_idle()) {
            Some(place) => &mut self.lanes[place],
            None => {
                self.lanes.push(Lane::new(self.link.reconnect()?, self.on_disconnect));
                self.lanes.last_mut().expect("one has just been added")
            }
        };
        lane.start(&self.template, item, occurrence);
        self.in_flight += 1;
        Ok(())
    }

    /// Submits one that was refused before; false when there is none.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit).
    pub fn resubmit(&mut self) -> anyhow::Result<bool> {
        let Some((item, occurrence)) = self.again.pop_front() else { return Ok(false) };
        self.submit(item, occurrence)?;
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
        self.lanes.iter().filter_map(Lane::job).collect()
    }

    pub fn argv(&self, item: &Item) -> Vec<String> {
        self.template.argv(item)
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
        let event = self.lanes[lane].next()?;
        if let Some(Event::Ended(_)) = event {
            self.in_flight -= 1;
            self.size = self.full_size.min(self.size + 1);
        }
        Ok(event)
    }

    /// There is no room for this lane's job as long as the others are in flight: it is submitted again later. False when there are none.
    pub fn shrink(&mut self, lane: usize) -> bool {
        if self.in_flight < 2 {
            return false;
        }
        self.again.extend(self.lanes[lane].give_up().map(|flight| (flight.item, flight.occurrence)));
        self.in_flight -= 1;
        self.size = self.in_flight;
        true
    }

    /// Its job is not waited for any more.
    pub fn give_up(&mut self, lane: usize) {
        if self.lanes[lane].give_up().is_some() {
            self.in_flight -= 1;
        }
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
