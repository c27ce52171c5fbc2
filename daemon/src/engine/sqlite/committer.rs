//! The thread of the backing: gathers orders into batches, commits them, and sends the answers; and what it
//! does when it cannot.
//!
//! ```text
//! healthy ── a batch fails ──▶ failing: new jobs are refused, reads are answered from what is committed,
//!    ▲                            │      every other change is kept in the backlog, in order, and tried again
//!    └── a write of some size ────┘      with the next batch or after a second
//! ```
//!
//! A batch is *written* when its transaction is in the log, and *synced* when the disk has it. Where that is
//! promised, it is answered when it is synced; urgent insertions are told before, so that their jobs start
//! meanwhile. Of a batch that is written and cannot be synced nothing more is told until the log is mended:
//! it is neither refused nor written again, unless it turns out to be lost.
//!
//! While healthy it sleeps until something comes. It never gives up a change, and answers none that is not
//! written. A backlog is written in pieces, a small one first: while the disk is full, each attempt costs no
//! more than that piece, however long the backlog is. Damage is for good: new jobs are refused until poold is
//! started on a sound database. What cannot be read is told to whoever asked, so that it holds up nobody
//! else.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicBool};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use pool_proto::Refusal;

use super::backlog::Backlog;
use super::database::{BatchError, Database};
use super::hold::Hold;
use super::values::Keeper;
use super::{CloseError, Notify, fault};
use crate::engine::{
    Answer, Change, Chore, Edited, JobEdit, NotAssigned, NotEdited, Order, Question, Told, ValueFile,
};
use crate::job::{RequestId, Term};

/// Orders in one batch, each job counted, so that the first one of it does not wait for long.
const BATCH: usize = 4096;

/// Bytes in one batch, those of the last message apart, so that neither memory nor the log grows with them.
const BATCH_BYTES: usize = 32 << 20;

/// A message of more bytes is a batch by itself.
const LARGE: usize = if cfg!(test) { 64 << 10 } else { 1 << 20 };

/// Orders in the first piece of a backlog that is written; each further one is twice as large, up to a batch.
const FIRST_PIECE: usize = 16;

/// Where nothing is synced and others are at it, it is worth a moment to write theirs along: a transaction
/// takes longer than what is in it. A sync would take that long anyway.
const LINGER: Duration = Duration::from_micros(200);

/// How long starts and ends wait for others, where nobody waits for one of them alone: those of a queue that
/// is being worked off. The slots do not wait for it. A transaction costs as much as six of them, a sync far
/// more.
const LINGER_OVER_ENDS: Duration = Duration::from_micros(500);
const LINGER_OVER_SYNCED_ENDS: Duration = Duration::from_micros(1500);

/// How long what is kept rests when nothing comes.
const RETRY: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(1) };

/// Between failed attempts at least so many times what one takes, so that refusing does not become the
/// thread's whole work.
const REST: u32 = 10;

/// What the thread is sent.
pub enum Message {
    Orders(Vec<Order>),
    /// Something that a test does to the database.
    #[cfg(test)]
    Inspect(Box<dyn FnOnce(&rusqlite::Connection) + Send>),
}

impl Message {
    fn bytes(&self) -> usize {
        match self {
            Self::Orders(orders) => orders.iter().map(Order::bytes).sum(),
            #[cfg(test)]
            Self::Inspect(_) => 0,
        }
    }

    pub fn can_linger(&self) -> bool {
        match self {
            Self::Orders(orders) => orders.iter().all(Order::can_linger),
            #[cfg(test)]
            Self::Inspect(_) => false,
        }
    }
}

/// The database cannot be written.
#[derive(Debug)]
struct Failing {
    reason: String,
    /// A batch that comes earlier is not tried.
    rest_until: Instant,
    /// When it is tried again though nothing comes.
    retry_at: Instant,
    /// The database is damaged.
    for_good: bool,
}

/// Orders that could not be written, and why: those that are left of a batch.
struct Unwritten {
    rest: Vec<Order>,
    error: rusqlite::Error,
}

/// A batch that is written and could not be synced, with the answers that it is to get.
struct Unsynced {
    batch: Vec<Order>,
    answers: Vec<Answer>,
}

/// See the module's description.
pub struct Committer {
    database: Database,
    state_dir: PathBuf,
    inbox: Receiver<Message>,
    outbox: Sender<Told>,
    notify: Notify,
    /// Removes files of values.
    keeper: Arc<Keeper>,
    /// Files that are not removed as long as somebody copies the database, and so what it speaks of.
    to_remove: Vec<ValueFile>,
    /// Empty while healthy.
    backlog: Backlog,
    /// None while healthy. Nothing is written before it is settled.
    unsynced: Option<Unsynced>,
    /// Insertions that were told when they were written, and could not be synced since. None while healthy.
    told_early: Vec<RequestId>,
    failing: Option<Failing>,
    hold: Hold,
    /// Something was removed, so that the file may be larger than what is in it.
    may_shrink: bool,
    /// What has come while the file was made smaller, or is to be a batch by itself.
    next: Option<Message>,
    /// How many messages the last batch was made of.
    messages: usize,
    /// Something has come that is not to wait for others.
    hurry: Arc<AtomicBool>,
    /// Something was sent that `notify` has not told of.
    sent: bool,
}

impl Committer {
    /// `abandoned`: files of values that nobody needs.
    pub fn new(
        database: Database,
        inbox: Receiver<Message>,
        outbox: Sender<Told>,
        hurry: Arc<AtomicBool>,
        notify: Notify,
        keeper: Arc<Keeper>,
        abandoned: Vec<ValueFile>,
    ) -> Self {
        let state_dir = database.state_dir().to_owned();
        Self {
            database,
            state_dir,
            inbox,
            outbox,
            notify,
            keeper,
            to_remove: abandoned,
            backlog: Backlog::default(),
            unsynced: None,
            told_early: Vec::new(),
            failing: None,
            hold: Hold::None,
            may_shrink: true,
            next: None,
            messages: 0,
            hurry,
            sent: false,
        }
    }

    /// Until every handle is gone and everything submitted has been carried out.
    pub fn run(mut self) -> Result<(), CloseError> {
        loop {
            match self.wait() {
                Ok(message) => {
                    let batch = self.gather(message);
                    self.process_up_to_holds(batch);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
            if self.retry_at().is_some_and(|at| Instant::now() >= at) {
                self.retry();
            }
            self.tell();
            self.remove_values();
            self.database.connection.checkpoint(&mut self.hold);
            self.database.connection.lengthen();
            self.shrink();
        }
    }

    /// Nobody needs them any more: not what is on the disk, nor a copy of it that is being made.
    fn remove_values(&mut self) {
        if !self.to_remove.is_empty() && !self.hold.is_held() {
            self.keeper.remove(std::mem::take(&mut self.to_remove));
        }
    }

    /// Gives back to the disk what removed jobs have left free in the file, a little at a time, for as long
    /// as nobody wants anything.
    fn shrink(&mut self) {
        while self.may_shrink && self.next.is_none() && self.failing.is_none() && !self.hold.is_held() {
            self.next = self.inbox.try_recv().ok();
            if self.next.is_some() {
                return;
            }
            match self.database.connection.shrink() {
                Ok(has_more) => self.may_shrink = has_more,
                Err(error) => {
                    tracing::warn!(%error, "cannot make the database's file smaller");
                    self.may_shrink = false;
                }
            }
            self.database.connection.checkpoint(&mut self.hold);
        }
    }

    /// A batch ends where the file is to be held or let go, which happens after everything that was asked
    /// before.
    fn process_up_to_holds(&mut self, batch: Vec<Order>) {
        let is_hold = |order: &Order| matches!(order, Order::Chore(Chore::Hold { .. } | Chore::LetGo { .. }));
        if !batch.iter().any(is_hold) {
            return self.process(batch);
        }
        let mut before = Vec::new();
        for order in batch {
            if !is_hold(&order) {
                before.push(order);
                continue;
            }
            self.process(std::mem::take(&mut before));
            self.hold_or_let_go(order);
        }
        self.process(before);
    }

    fn hold_or_let_go(&mut self, order: Order) {
        let answer = match order {
            Order::Chore(Chore::Hold { request, holder }) => {
                let bytes = match &self.failing {
                    // A copy without what was asked before would be a copy of the past.
                    Some(failing) if self.owes() => {
                        Err(Refusal::StoreFailed { reason: failing.reason.clone() })
                    }
                    _ => self.hold.begin(holder, &mut self.database.connection, &self.state_dir),
                };
                Answer::Held { request, bytes }
            }
            Order::Chore(Chore::LetGo { request, holder }) => {
                Answer::LetGo { request, whole: self.hold.end(holder) }
            }
            _ => return,
        };
        self.answer(answer);
    }

    fn wait(&mut self) -> Result<Message, RecvTimeoutError> {
        if let Some(message) = self.next.take() {
            return Ok(message);
        }
        match self.retry_at() {
            None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
        }
    }

    /// None when there is nothing to be won by waiting.
    fn retry_at(&self) -> Option<Instant> {
        let failing = self.failing.as_ref()?;
        (!failing.for_good || self.owes()).then_some(failing.retry_at)
    }

    /// Whether something is kept that is to be answered later.
    fn owes(&self) -> bool {
        !self.backlog.is_empty() || self.unsynced.is_some()
    }

    fn is_damaged(&self) -> bool {
        self.failing.as_ref().is_some_and(|failing| failing.for_good)
    }

    /// What has come meanwhile, or comes in a moment, goes into the same batch. Not so what is large: it is a
    /// batch by itself, and what has come before is not held up by it.
    fn gather(&mut self, first: Message) -> Vec<Order> {
        let syncs = self.database.connection.syncs();
        if self.messages > 1 && !syncs && !first.can_linger() {
            thread::sleep(LINGER);
        }
        let time = if syncs { LINGER_OVER_SYNCED_ENDS } else { LINGER_OVER_ENDS };

        let mut batch = Vec::new();
        let (mut size, mut bytes) = (0, 0);
        self.messages = 0;
        self.hurry.store(false, atomic::Ordering::Release);
        let (mut next, mut lingers) = (Some(first), true);
        while let Some(message) = next {
            let is_large = message.bytes() > LARGE;
            if is_large && !batch.is_empty() {
                self.next = Some(message);
                break;
            }
            self.messages += 1;
            lingers &= message.can_linger();
            match message {
                Message::Orders(orders) => {
                    size += orders.iter().map(Order::weight).sum::<usize>();
                    bytes += orders.iter().map(Order::bytes).sum::<usize>();
                    batch.extend(orders);
                }
                #[cfg(test)]
                Message::Inspect(inspect) => inspect(self.database.connection.get().expect("it is open")),
            }
            let has_room = size < BATCH && bytes < BATCH_BYTES && !is_large;
            next = if has_room { self.inbox.try_recv().ok() } else { None };
            if next.is_none() && has_room && std::mem::take(&mut lingers) {
                self.linger(time);
                next = self.inbox.try_recv().ok();
            }
        }
        batch
    }

    /// Sleeps, unless something comes that is in a hurry. Each of the others would cost a wake-up.
    fn linger(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.hurry.load(atomic::Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }

    fn process(&mut self, batch: Vec<Order>) {
        if batch.iter().all(Order::is_read) {
            return self.set_aside(batch);
        }
        let now = Instant::now();
        if self.failing.as_ref().is_some_and(|failing| now < failing.rest_until) {
            return self.set_aside(batch);
        }

        let batch = if self.is_damaged() { self.refuse_inserts(batch) } else { batch };
        let has_insert = batch.iter().any(is_insert);
        let rest = match self.write_backlog() {
            Ok(()) => self.write(batch),
            Err(error) => Err(Unwritten { rest: batch, error }),
        };
        match rest {
            // Small changes may find room where nothing else does; only new jobs prove that there is some.
            Ok(()) if has_insert => self.recovered(),
            Ok(()) => {}
            Err(Unwritten { rest, error }) => {
                self.failed(&error);
                self.set_aside(rest);
                // Without the new jobs, the others may find room; and a log may be mended at once.
                if (has_insert || self.unsynced.is_some())
                    && let Err(error) = self.write_backlog()
                {
                    self.failed(&error);
                }
                if let Some(failing) = &mut self.failing {
                    failing.rest_until = Instant::now() + (now.elapsed() * REST).min(RETRY);
                }
            }
        }
    }

    /// The rest of a batch.
    fn refuse_inserts(&mut self, batch: Vec<Order>) -> Vec<Order> {
        let mut rest = Vec::with_capacity(batch.len());
        for order in batch {
            let request = match &order {
                Order::Change(Change::Insert(insertion)) => {
                    self.to_remove.extend(insertion.files.iter().map(|(_, file)| file.clone()));
                    insertion.request
                }
                Order::Change(
                    Change::SetPool { request, .. }
                    | Change::SetPause { request, .. }
                    | Change::SetWorkers { request, .. }
                    | Change::SetSchedules { request, .. }
                    | Change::SetLimit { request, .. },
                ) => *request,
                _ => {
                    rest.push(order);
                    continue;
                }
            };
            let reason = self.failing.as_ref().map_or_else(String::new, |failing| failing.reason.clone());
            self.answer(refused(request, reason));
        }
        rest
    }

    /// Without the disk: new jobs are refused, reads answered, everything else kept. Reads alone never need
    /// more than this.
    fn set_aside(&mut self, batch: Vec<Order>) {
        for order in self.refuse_inserts(batch) {
            let is_barred = match &order {
                Order::Fetch { .. } => self.unsynced.is_some() || self.backlog.bars_fetches(),
                // Who waits for a job would be told of an end that is not synced, who repeats a submission of
                // a job that is not.
                Order::Question(Question::Records { .. } | Question::Keepers { .. }) => {
                    self.unsynced.is_some()
                }
                _ => false,
            };
            if order.is_read() && !is_barred {
                self.read(order);
            } else {
                self.backlog.push(order);
            }
        }
    }

    /// Answers from what is committed.
    fn read(&mut self, order: Order) {
        match self.database.apply(&order) {
            Ok(answer) => answer.into_iter().for_each(|answer| self.answer(answer)),
            Err(error) if fault::is_of_database(&error) => {
                self.failed(&error);
                if let Some(order) = self.unread(order, &error) {
                    self.backlog.push(order);
                }
            }
            Err(error) => self.reject(order, &error),
        }
    }

    /// Writes what is kept, and answers it; in pieces, of which those that fail stay.
    fn write_backlog(&mut self) -> rusqlite::Result<()> {
        self.settle_unsynced()?;
        let mut size = FIRST_PIECE;
        while !self.backlog.is_empty() {
            let piece = self.backlog.take(size);
            if let Err(Unwritten { rest, error }) = self.write(piece) {
                self.backlog.put_back(rest);
                // What was written may have barred them.
                if self.unsynced.is_none() {
                    for fetch in self.backlog.take_fetches() {
                        self.read(fetch);
                    }
                }
                return Err(error);
            }
            size = (size * 2).min(BATCH);
        }
        Ok(())
    }

    /// Has the log mended after a failed sync. What was written is synced then, and is answered; or is lost,
    /// and is to be written again.
    fn settle_unsynced(&mut self) -> rusqlite::Result<()> {
        let Some(Unsynced { batch, answers }) = self.unsynced.take() else { return Ok(()) };
        match self.database.settle() {
            Ok(true) => {
                self.to_remove.extend(self.database.values().take_freed());
                self.answer_all(answers);
            }
            Ok(false) => self.backlog.put_back(batch),
            Err(error) => {
                self.unsynced = Some(Unsynced { batch, answers });
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes a batch, and answers it.
    fn write(&mut self, mut batch: Vec<Order>) -> Result<(), Unwritten> {
        while !batch.is_empty() {
            match self.database.commit(&batch) {
                Ok(answers) => return self.sync(batch, answers),
                // The one at fault must not hold up the others.
                Err(BatchError { at: Some(index), error }) if !fault::is_of_database(&error) => {
                    let order = batch.remove(index);
                    self.reject(order, &error);
                }
                Err(BatchError { at: Some(index), error })
                    if batch[index].is_read() || fault::is_damage(&error) =>
                {
                    let order = batch.remove(index);
                    if let Some(order) = self.unread(order, &error) {
                        batch.insert(index, order);
                    }
                    return Err(Unwritten { rest: batch, error });
                }
                Err(BatchError { error, .. }) => return Err(Unwritten { rest: batch, error }),
            }
        }
        Ok(())
    }

    /// Syncs what is written, where that is promised, and answers it.
    fn sync(&mut self, batch: Vec<Order>, mut answers: Vec<Answer>) -> Result<(), Unwritten> {
        self.leave_out_told(&mut answers);
        let is_awaited = || batch.iter().any(Order::is_promise) || self.database.values().has_freed();
        if self.database.connection.syncs() && is_awaited() {
            if batch.iter().any(Order::is_urgent_insertion) {
                self.tell_early(&mut answers);
            }
            if let Err(error) = self.database.sync() {
                self.told_early.extend(answers.iter().filter_map(synced_request));
                self.unsynced = Some(Unsynced { batch, answers });
                return Err(Unwritten { rest: Vec::new(), error });
            }
        }
        self.to_remove.extend(self.database.values().take_freed());
        self.answer_all(answers);
        Ok(())
    }

    /// Tells the new jobs among these answers, which are written and not synced, so that they start
    /// meanwhile. All of them, since none is to overtake another one of its line; but none that comes after a
    /// look into a line, which did not see it.
    fn tell_early(&mut self, answers: &mut [Answer]) {
        let is_look = |answer: &Answer| matches!(answer, Answer::Fetched { .. });
        let before_any_look = answers.iter().position(is_look).unwrap_or(answers.len());
        for answer in &mut answers[..before_any_look] {
            if let &mut Answer::Inserted { request, ref mut is_synced, .. } = answer {
                *is_synced = false;
                let inserted = std::mem::replace(answer, Answer::Synced { request });
                self.answer(inserted);
            }
        }
        self.tell();
    }

    /// What was told early, was lost by a failed sync, and has been written again, is not told twice.
    fn leave_out_told(&self, answers: &mut [Answer]) {
        for answer in answers {
            if let &mut Answer::Inserted { request, .. } = answer
                && self.told_early.contains(&request)
            {
                *answer = Answer::Synced { request };
            }
        }
    }

    fn answer_all(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            if let Some(request) = synced_request(&answer) {
                self.told_early.retain(|&other| other != request);
            }
            self.answer(answer);
        }
    }

    /// The database fails an order: what can be said of it to whoever asked, or else the order, to be tried
    /// again.
    fn unread(&mut self, order: Order, error: &rusqlite::Error) -> Option<Order> {
        let reason = fault::explain(error, &self.state_dir);
        let answer = match order {
            Order::Question(
                Question::Records { request, .. }
                | Question::Page { request, .. }
                | Question::Counts { request }
                | Question::Line { request, .. }
                | Question::Pace { request, .. }
                | Question::Dependents { request, .. }
                | Question::Attempts { request, .. }
                | Question::Keepers { request, .. }
                | Question::Definition { request, .. }
                | Question::Callbacks { request, .. }
                | Question::CountHeld { request },
            ) => Answer::Refused { request, refusal: Refusal::StoreUnreadable { reason } },
            // Only what is in memory already can still be run.
            Order::Fetch { line, .. } if fault::is_damage(error) => {
                Answer::Fetched { line, jobs: Vec::new(), complete: true }
            }
            Order::Overdue { term, .. } if fault::is_damage(error) => nothing_overdue(term),
            Order::Chore(Chore::Prune(_)) => nothing_pruned(),
            order => return Some(order),
        };
        self.answer(answer);
        None
    }

    fn retry(&mut self) {
        match self.write_backlog().and_then(|()| self.database.connection.probe()) {
            Ok(()) => self.recovered(),
            Err(error) => {
                self.failed(&error);
                if let Some(failing) = &mut self.failing {
                    failing.retry_at = Instant::now() + RETRY;
                }
            }
        }
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        if self.is_damaged() {
            return; // Whatever else is wrong, that is what has to be mended.
        }
        let (reason, for_good) = (fault::explain(error, &self.state_dir), fault::is_damage(error));
        match &mut self.failing {
            Some(failing) if !for_good => failing.reason = reason,
            _ => {
                self.send(Told::Failing { reason: reason.clone() });
                let now = Instant::now();
                self.failing = Some(Failing { reason, rest_until: now, retry_at: now + RETRY, for_good });
            }
        }
    }

    fn recovered(&mut self) {
        if !self.is_damaged() && self.failing.take().is_some() {
            self.send(Told::Recovered);
        }
    }

    /// A mistake of ours: whoever waits for an answer gets one that does not promise anything.
    fn reject(&mut self, order: Order, error: &rusqlite::Error) {
        let reason = fault::explain(error, &self.state_dir);
        let unreadable =
            |request, reason| Some(Answer::Refused { request, refusal: Refusal::StoreUnreadable { reason } });
        let (what, answer) = match order {
            Order::Change(change) => match change {
                Change::Insert(insertion) => {
                    self.to_remove.extend(insertion.files.into_iter().map(|(_, file)| file));
                    ("insert", Some(refused(insertion.request, reason)))
                }
                // Nothing has changed. An attempt that was to be confirmed never starts; the next start of
                // poold finds its job queued.
                Change::Move(moved) => {
                    self.to_remove.extend(moved.file);
                    (moved.to.state().as_str(), Some(Answer::Lost { id: moved.id }))
                }
                Change::Hold { request, ids } => {
                    let others = ids.into_iter().map(|id| (id, None)).collect();
                    ("hold", Some(Answer::Withheld { request, held: Vec::new(), others }))
                }
                Change::Assign { request, ids, pool, .. } => {
                    let others = ids.into_iter().map(|id| (id, NotAssigned::Missing)).collect();
                    (
                        "assign",
                        Some(Answer::Assigned { request, pool, jobs: Vec::new(), unfit: Vec::new(), others }),
                    )
                }
                Change::Edit(change) => {
                    let JobEdit { request, id, .. } = *change;
                    ("edit", Some(Answer::Edited { request, id, edited: Edited::Not(NotEdited::Missing) }))
                }
                Change::Retry { request, .. } => ("retry", Some(refused(request, reason))),
                Change::Remove { request, .. } => ("remove", Some(refused(request, reason))),
                Change::Release { request, .. } => ("release", Some(refused(request, reason))),
                Change::Wake { .. } => {
                    ("wake", Some(Answer::Woken { jobs: Vec::new(), callbacks: Vec::new(), next_us: None }))
                }
                Change::Resolve { .. } => {
                    ("resolve", Some(Answer::Resolved { jobs: Vec::new(), failed: Vec::new(), more: false }))
                }
                Change::Unfold { array, .. } => ("unfold", Some(Answer::Lost { id: array })),
                Change::Fold { array, .. } => ("fold", Some(Answer::Lost { id: array })),
                Change::SetClock { .. } => ("set of the clock", None),
                Change::SetLimit { request, .. } => ("limit", Some(refused(request, reason))),
                Change::BeginCallback { .. } => ("begin of a callback", None),
                Change::EndCallback { .. } => ("end of a callback", None),
                Change::AlterCallbacks { request, .. } => {
                    ("alteration of callbacks", Some(refused(request, reason)))
                }
                Change::SetPool { request, .. } => ("set of a pool", Some(refused(request, reason))),
                Change::SetPause { request, .. } => ("set of a pause", Some(refused(request, reason))),
                Change::SetWorkers { request, .. } => ("set of workers", Some(refused(request, reason))),
                Change::SetSchedules { request, .. } => ("set of schedules", Some(refused(request, reason))),
            },
            Order::Question(Question::Records { request, .. }) => ("records", unreadable(request, reason)),
            Order::Question(Question::Definition { request, .. }) => {
                ("definition", unreadable(request, reason))
            }
            Order::Question(Question::Page { request, .. }) => ("page", unreadable(request, reason)),
            Order::Question(Question::Counts { request }) => ("counts", unreadable(request, reason)),
            Order::Question(Question::Line { request, .. }) => ("line", unreadable(request, reason)),
            Order::Question(Question::Pace { request, .. }) => ("pace", unreadable(request, reason)),
            Order::Question(Question::Dependents { request, .. }) => {
                ("dependents", unreadable(request, reason))
            }
            Order::Question(Question::Attempts { request, .. }) => ("attempts", unreadable(request, reason)),
            Order::Question(Question::Keepers { request, .. }) => ("keepers", unreadable(request, reason)),
            Order::Question(Question::Callbacks { request, .. }) => {
                ("callbacks", unreadable(request, reason))
            }
            Order::Question(Question::CountHeld { request }) => {
                ("count of held jobs", unreadable(request, reason))
            }
            Order::Fetch { line, .. } => {
                ("fetch", Some(Answer::Fetched { line, jobs: Vec::new(), complete: true }))
            }
            Order::Overdue { term, .. } => ("overdue", Some(nothing_overdue(term))),
            Order::Chore(chore) => match chore {
                Chore::Prune(_) => ("prune", Some(nothing_pruned())),
                Chore::Booted(_) => ("booted", None),
                Chore::ReserveIds { .. } => ("reserve of ids", None),
                Chore::Hold { .. } | Chore::LetGo { .. } => ("hold", None),
            },
        };
        tracing::error!(%error, "bug: `{what}` cannot be carried out; ignored");
        answer.into_iter().for_each(|answer| self.answer(answer));
    }

    fn answer(&mut self, answer: Answer) {
        if let Answer::Pruned { jobs, outputs, .. } = &answer {
            self.may_shrink |= !jobs.is_empty() || !outputs.is_empty();
        }
        self.send(Told::Answer(answer));
    }

    fn send(&mut self, told: Told) {
        // Nobody listens any more while the backing is being closed.
        self.sent |= self.outbox.send(told).is_ok();
    }

    fn tell(&mut self) {
        if std::mem::take(&mut self.sent) {
            (self.notify)();
        }
    }

    fn finish(mut self) -> Result<(), CloseError> {
        let written = self.write_backlog().and_then(|()| self.database.connection.check_home());
        let written = written.map_err(|error| {
            let reason = fault::explain(&error, &self.state_dir);
            let unsynced = self.unsynced.iter().flat_map(|unsynced| &unsynced.batch);
            let unsynced = unsynced.filter(|order| !order.is_read()).count();
            match self.backlog.count_changes() + unsynced {
                0 => CloseError::Gone { reason },
                changes => CloseError::Unwritten { changes, reason },
            }
        });
        self.database.connection.close();
        self.keeper.remove(self.to_remove);
        written
    }
}

fn refused(request: RequestId, reason: String) -> Answer {
    Answer::Refused { request, refusal: Refusal::StoreFailed { reason } }
}

fn nothing_overdue(term: Term) -> Answer {
    Answer::Overdue { term, jobs: Vec::new(), last: None, next_us: None }
}

fn nothing_pruned() -> Answer {
    Answer::Pruned { jobs: Vec::new(), callbacks: Vec::new(), outputs: Vec::new(), more: false }
}

fn synced_request(answer: &Answer) -> Option<RequestId> {
    match answer {
        Answer::Synced { request } => Some(*request),
        _ => None,
    }
}

fn is_insert(order: &Order) -> bool {
    matches!(order, Order::Change(Change::Insert(_)))
}
