//! What the screen shows, and what it takes to know that. Pure: events, readings, keys and the time come in,
//! wishes go out. `hear.rs` has the events, `take.rs` the readings, `command.rs` the keys and the mouse.

use pool_proto::nouns::SlotState;

use super::cursor::{Cursor, Row};
use super::ended::EndedJobs;
use super::filter::Filter;
use super::history::History;
use super::job::{Job, Micros};
use super::plan::{Plan, Tab};
use super::pools::Pools;
use super::queue::Queue;
use super::sort::Order;
use super::story::Story;
use super::wish::{Act, Wish};

const SECOND_US: Micros = 1_000_000;

/// A message at the bottom stays for as long.
const MESSAGE_US: Micros = 6 * SECOND_US;

/// A job must have been on the screen for as long before its record is read: in a stream of short jobs
/// nobody would see it.
const LINGER_US: Micros = 300_000;

/// The pools are read again when nothing has happened for a second, or after five seconds of events: events
/// do not tell whether a job that was submitted counts as queued.
const QUIET_US: Micros = SECOND_US;
const OFTEN_US: Micros = 5 * SECOND_US;

/// Whether poold is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It tells what happens.
    Here,
    /// It is away since then.
    Away(Micros),
}

/// What takes the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The rows, or a job.
    Look,
    /// The help.
    Help,
    /// The filter is being typed; the text before.
    Filter(String),
    /// A question, and what is done if the answer is yes.
    Confirm(String, Act),
}

/// When the pools are to be read again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    pub since: Micros,
    pub last: Micros,
}

/// See the module's description.
#[derive(Debug)]
pub struct Model {
    pub now: Micros,
    pub size: (u16, u16),
    pub presence: Presence,
    /// The version of poold.
    pub version: String,
    /// What somebody has to look at, as poold tells it.
    pub warning: Option<String>,
    pub pools: Pools,
    pub queue: Queue,
    pub ended: EndedJobs,
    pub history: History,
    pub tab: Tab,
    pub order: Order,
    pub filter: Filter,
    pub mode: Mode,
    /// The job that is open.
    pub story: Option<Story>,
    pub message: Option<(String, Micros)>,
    pub has_mouse: bool,
    pub(super) cursors: [Cursor; 4],
    /// The rows of the tab, as they were settled last.
    pub(super) rows: Vec<Row>,
    pub(super) doubt: Option<Doubt>,
    pub(super) is_read: bool,
    /// Something that is seen may have changed.
    pub(super) is_dirty: bool,
    pub(super) wishes: Vec<Wish>,
}

impl Model {
    /// Nothing is known yet.
    pub fn new(now: Micros, size: (u16, u16)) -> Self {
        let mut model = Self {
            now,
            size,
            presence: Presence::Here,
            version: String::new(),
            warning: None,
            pools: Pools::default(),
            queue: Queue::default(),
            ended: EndedJobs::default(),
            history: History::begin(now),
            tab: Tab::default(),
            order: Order::default(),
            filter: Filter::default(),
            mode: Mode::Look,
            story: None,
            message: None,
            has_mouse: true,
            cursors: Default::default(),
            rows: Vec::new(),
            doubt: None,
            is_read: false,
            is_dirty: true,
            wishes: Vec::new(),
        };
        model.queue.forget();
        model
    }

    /// Where things are on the screen.
    pub fn plan(&self) -> Plan {
        Plan::of(self.size, self.tab)
    }

    /// The terminal has another size.
    pub fn resize(&mut self, size: (u16, u16)) {
        self.size = size;
        self.is_dirty = true;
    }

    /// Whether the first reading has come.
    pub fn is_read(&self) -> bool {
        self.is_read
    }

    /// What is wanted since it was asked last.
    pub fn wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// Whether the screen is to be drawn, which is then taken for done.
    pub fn take_dirt(&mut self) -> bool {
        std::mem::take(&mut self.is_dirty)
    }

    /// Tells the user something at the bottom.
    pub fn tell(&mut self, message: impl Into<String>) {
        self.message = Some((message.into(), self.now));
        self.is_dirty = true;
    }

    // ---- time ----

    /// It is that time now. Finds the rows of now, and wishes for what these lack.
    pub fn advance(&mut self, now: Micros) {
        let is_next_second = now / SECOND_US != self.now / SECOND_US;
        let is_due = self.reading_due().is_some_and(|due| now >= due);
        if now < self.now {
            self.on_clock_set_back();
        }
        self.now = now;
        if is_next_second {
            self.is_dirty |= self.is_ticking();
            self.history.advance(now);
        }
        if self.message.as_ref().is_some_and(|(_, since)| now >= since + MESSAGE_US) {
            self.message = None;
            self.is_dirty = true;
        }
        if self.doubt.is_some_and(|doubt| now >= doubt_due(doubt)) {
            self.doubt = None;
            self.wishes.push(Wish::ReadPools { changes: self.pools.changes() });
        }
        if let Some(id) = self.story.as_mut().and_then(|story| story.wanted(now)) {
            self.wishes.push(Wish::ReadStory(id));
        }
        if self.is_dirty || is_next_second || is_due {
            self.settle();
        }
    }

    /// What was to be done at a time is done at once.
    fn on_clock_set_back(&mut self) {
        self.message = None;
        if self.doubt.take().is_some() {
            self.wishes.push(Wish::ReadPools { changes: self.pools.changes() });
        }
        self.story.iter_mut().for_each(Story::on_clock_set_back);
        self.queue.on_clock_set_back();
        self.is_dirty = true;
    }

    /// When the time alone changes something.
    pub fn due(&self) -> Option<Micros> {
        let next_second = self.is_ticking().then_some((self.now / SECOND_US + 1) * SECOND_US);
        let message = self.message.as_ref().map(|(_, since)| since + MESSAGE_US);
        let doubt = self.doubt.map(doubt_due);
        let story = self.story.as_ref().and_then(Story::due);
        [next_second, message, doubt, story, self.reading_due()].into_iter().flatten().min()
    }

    /// When the rows on the screen lack something that is to be read then.
    fn reading_due(&self) -> Option<Micros> {
        if self.presence != Presence::Here || !self.is_read {
            return None;
        }
        let queue = if self.tab == Tab::Queue { self.queue.due(self.bottom()) } else { None };
        let lacking = self.seen_jobs().filter(|job| job.work.is_none() && !job.is_asked);
        let record = lacking.filter_map(|job| job.seen_us).min().map(|seen| seen + LINGER_US);
        [queue, record].into_iter().flatten().min()
    }

    /// Whether there is a clock, or a moving chart, on the screen.
    fn is_ticking(&self) -> bool {
        if matches!(self.presence, Presence::Away(_)) {
            return true;
        }
        if let Some(story) = &self.story {
            return story.is_running();
        }
        let is_chart = self.tab == Tab::Charts || self.plan().strip.is_some();
        // The rate stands on each screen.
        let is_moving = !self.history.is_flat() && (is_chart || self.history.rate() > 0.0);
        is_moving || self.seen_jobs().any(|job| job.is_active() && !job.is_frozen)
    }

    /// Counts of the pools may be wrong.
    pub(super) fn doubt(&mut self) {
        let since = self.doubt.map_or(self.now, |doubt| doubt.since);
        self.doubt = Some(Doubt { since, last: self.now });
    }

    // ---- rows ----

    /// Finds the rows of now, and wishes for what these lack.
    pub fn settle(&mut self) {
        self.history.set_queued(self.pools.queued());
        self.rows = self.find_rows();
        let height = usize::from(self.plan().rows.height);
        self.cursors[self.tab as usize].settle(&self.rows, height);

        if self.presence != Presence::Here || !self.is_read {
            return;
        }
        if self.tab == Tab::Queue
            && let Some(after) = self.queue.wanted(self.bottom(), self.now)
        {
            self.wishes.push(Wish::ReadQueue { after });
        }

        let lacking: Vec<u64> =
            self.seen_jobs().filter(|job| job.work.is_none() && !job.is_asked).map(|job| job.id).collect();
        let now = self.now;
        let mut wanted = Vec::new();
        for id in lacking {
            let Some(job) = self.job_mut(id) else { continue };
            let seen = *job.seen_us.get_or_insert(now);
            if now >= seen + LINGER_US {
                job.is_asked = true;
                wanted.push(id);
            }
        }
        if !wanted.is_empty() {
            self.wishes.push(Wish::ReadJobs(wanted));
        }
    }

    /// The place of the last row that is seen.
    fn bottom(&self) -> usize {
        let height = usize::from(self.plan().rows.height);
        self.cursors[self.tab as usize].seen(self.rows.len(), height).end
    }

    fn find_rows(&self) -> Vec<Row> {
        let shown = |job: &&Job| self.filter.is_empty() || self.filter.fits(job);
        match self.tab {
            Tab::Pools => self.find_pool_rows(),
            Tab::Queue => {
                let mut jobs: Vec<&Job> = self.queue.jobs.values().filter(shown).collect();
                jobs.sort_by_key(|job| (-i64::from(job.priority), job.id));
                self.sorted(jobs)
            }
            Tab::Ended => self.sorted(self.ended.jobs.iter().filter(shown).collect()),
            Tab::Charts => Vec::new(),
        }
    }

    fn sorted(&self, mut jobs: Vec<&Job>) -> Vec<Row> {
        self.order.sort(&mut jobs, self.now, Some);
        jobs.into_iter().map(|job| Row::Job(job.id)).collect()
    }

    /// The slots of each pool below its row: those that have a job, or a trouble.
    fn find_pool_rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for pool in &self.pools.all {
            let is_idle = |state| matches!(state, SlotState::Idle);
            let shown = pool.slots.iter().filter(|slot| match &slot.job {
                Some(job) => self.filter.is_empty() || self.filter.fits(job),
                None => !is_idle(slot.state) && self.filter.fits_pool(&pool.name),
            });
            let mut slots: Vec<_> = shown.collect();
            self.order.sort(&mut slots, self.now, |slot| slot.job.as_ref());
            if slots.is_empty() && !self.filter.fits_pool(&pool.name) {
                continue;
            }
            rows.push(Row::Pool(pool.name.clone()));
            rows.extend(slots.into_iter().map(|slot| Row::Slot(pool.name.clone(), slot.number)));
        }
        rows
    }

    /// The rows on the screen, from the top, and which of them is selected.
    pub fn seen_rows(&self) -> (&[Row], Option<usize>) {
        let cursor = &self.cursors[self.tab as usize];
        let seen = cursor.seen(self.rows.len(), usize::from(self.plan().rows.height));
        let selected = cursor.index().checked_sub(seen.start).filter(|place| *place < seen.len());
        (&self.rows[seen], selected)
    }

    /// How many rows there are, and which of them is selected.
    pub fn place(&self) -> (usize, usize) {
        (self.cursors[self.tab as usize].index(), self.rows.len())
    }

    /// The jobs of the rows on the screen.
    fn seen_jobs(&self) -> impl Iterator<Item = &Job> {
        let rows = if self.story.is_some() { &[] } else { self.seen_rows().0 };
        rows.iter().filter_map(|row| self.job_of(row))
    }

    /// The job of a row.
    pub fn job_of(&self, row: &Row) -> Option<&Job> {
        match row {
            Row::Pool(_) => None,
            Row::Slot(pool, number) => self.pools.slot(pool, *number)?.job.as_ref(),
            Row::Job(id) => self.queue.jobs.get(id).or_else(|| self.ended.find(*id)),
        }
    }

    /// The id of a job as people write it.
    pub(super) fn name_of(&self, id: u64) -> String {
        let story = self.story.as_ref().filter(|story| story.id == id && story.record.is_some());
        let of_slot = || self.pools.job(id);
        let job = || self.queue.jobs.get(&id).or_else(|| self.ended.find(id)).or_else(of_slot);
        let name = story.map(Story::shown_id).or_else(|| job().map(Job::shown_id));
        name.unwrap_or_else(|| id.to_string())
    }

    /// The job, wherever it is.
    pub(super) fn job_mut(&mut self, id: u64) -> Option<&mut Job> {
        if let Some(job) = self.queue.jobs.get_mut(&id) {
            return Some(job);
        }
        self.pools.job_mut(id).or_else(|| self.ended.find_mut(id))
    }
}

fn doubt_due(doubt: Doubt) -> Micros {
    (doubt.last + QUIET_US).min(doubt.since + OFTEN_US)
}
