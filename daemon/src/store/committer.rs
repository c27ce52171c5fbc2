//! The store's thread: gathers operations into batches, commits them, and sends the answers; and what it does when it cannot.
//!
//! ```text
//! healthy ── a batch fails ──▶ failing: new jobs are refused, reads are answered from what is committed, every other change is kept,
//!    ▲                            │      in order, and tried again with the next batch or after a second
//!    └── a write of some size ────┘
//! ```
//!
//! While healthy it sleeps until something comes. It never gives up a change, and answers none that is not written. Damage is for good: new
//! jobs are refused until poold is started on a sound database. What cannot be read is told to whoever asked, so that it holds up nobody
//! else.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use pool_proto::Refusal;

use super::backup::Hold;
use super::database::{BatchError, Database};
use super::{CloseError, StoreEvent, fault};
use crate::job::RequestId;
use crate::scheduler::store_op::{StoreAnswer, StoreOp};

/// Operations in one batch, each job counted, so that the first one of it does not wait for long.
const BATCH: usize = 4096;

/// See [`Committer::linger`].
const LINGER: Duration = Duration::from_micros(200);
const LINGER_OVER_ENDS: Duration = Duration::from_micros(500);

/// So many ends and nothing else are those of a queue that is being worked off.
const MANY_ENDS: usize = 8;

/// How long what is kept rests when nothing comes.
const RETRY: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(1) };

/// Between failed attempts at least so many times what one takes, so that refusing does not become the thread's whole work.
const REST: u32 = 10;

/// What the thread is sent.
pub enum Message {
    Ops(Vec<StoreOp>),
    /// See [`Store::hold`](super::Store::hold) and [`Store::let_go`](super::Store::let_go).
    Hold(usize),
    LetGo(usize),
    /// Something that a test does to the database.
    #[cfg(test)]
    Inspect(Box<dyn FnOnce(&rusqlite::Connection) + Send>),
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

/// See the module's description.
pub struct Committer {
    database: Database,
    state_dir: PathBuf,
    inbox: Receiver<Message>,
    outbox: Sender<StoreEvent>,
    notify: Box<dyn Fn() + Send>,
    /// What is to be written, in order; empty between batches while healthy.
    kept: Vec<StoreOp>,
    failing: Option<Failing>,
    hold: Hold,
    /// What is asked of it, in order.
    holds: Vec<Message>,
    /// How many messages the last batch was made of.
    messages: usize,
    /// It held many ends, and nothing that a client waits to have accepted.
    only_ends: bool,
    /// Something was sent that `notify` has not told of.
    sent: bool,
}

impl Committer {
    pub fn new(
        database: Database,
        inbox: Receiver<Message>,
        outbox: Sender<StoreEvent>,
        notify: Box<dyn Fn() + Send>,
    ) -> Self {
        let state_dir = database.state_dir().to_owned();
        Self {
            database,
            state_dir,
            inbox,
            outbox,
            notify,
            kept: Vec::new(),
            failing: None,
            hold: Hold::None,
            holds: Vec::new(),
            messages: 0,
            only_ends: false,
            sent: false,
        }
    }

    /// Until every handle is gone and everything submitted has been carried out.
    pub fn run(mut self) -> Result<(), CloseError> {
        loop {
            match self.wait() {
                Ok(message) => {
                    self.linger();
                    let batch = self.gather(message);
                    self.process(batch);
                    self.answer_holds();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
            if self.retry_at().is_some_and(|at| Instant::now() >= at) {
                self.retry();
            }
            self.tell();
            self.database.checkpoint(&mut self.hold);
        }
    }

    /// After everything that had been asked before.
    fn answer_holds(&mut self) {
        for asked in std::mem::take(&mut self.holds) {
            match asked {
                Message::Hold(holder) => {
                    let held = self.hold.begin(holder, &mut self.database);
                    self.send(StoreEvent::Held(held));
                }
                Message::LetGo(holder) => {
                    let let_go = self.hold.end(holder);
                    self.send(StoreEvent::LetGo(let_go));
                }
                _ => {}
            }
        }
    }

    fn wait(&self) -> Result<Message, RecvTimeoutError> {
        match self.retry_at() {
            None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
        }
    }

    /// None when there is nothing to be won by waiting.
    fn retry_at(&self) -> Option<Instant> {
        let failing = self.failing.as_ref()?;
        (!failing.for_good || !self.kept.is_empty()).then_some(failing.retry_at)
    }

    fn is_damaged(&self) -> bool {
        self.failing.as_ref().is_some_and(|failing| failing.for_good)
    }

    /// Where others are at it as well, and no sync takes its time anyway, it is worth a moment to write theirs along: a transaction takes longer
    /// than what is in it. A longer one while a queue is worked off: the slots do not wait for it, and hardly a client for a single one.
    fn linger(&self) {
        if self.messages > 1 && !self.database.syncs() {
            thread::sleep(if self.only_ends { LINGER_OVER_ENDS } else { LINGER });
        }
    }

    /// What has come meanwhile goes into the same batch.
    fn gather(&mut self, first: Message) -> Vec<StoreOp> {
        let mut batch = Vec::new();
        let mut size = 0;
        self.messages = 0;
        let mut next = Some(first);
        while let Some(message) = next {
            self.messages += 1;
            match message {
                Message::Ops(ops) => {
                    size += ops.iter().map(weight).sum::<usize>();
                    batch.extend(ops);
                }
                Message::Hold(_) | Message::LetGo(_) => self.holds.push(message),
                #[cfg(test)]
                Message::Inspect(inspect) => inspect(self.database.connection().expect("it is open")),
            }
            next = if size < BATCH { self.inbox.try_recv().ok() } else { None };
        }
        self.only_ends =
            batch.len() >= MANY_ENDS && batch.iter().all(|op| matches!(op, StoreOp::Finish { .. }));
        batch
    }

    fn process(&mut self, batch: Vec<StoreOp>) {
        if batch.iter().all(is_read) {
            return self.set_aside(batch);
        }
        let now = Instant::now();
        if self.failing.as_ref().is_some_and(|failing| now < failing.rest_until) {
            return self.set_aside(batch);
        }
        let batch = if self.is_damaged() { self.refuse_inserts(batch) } else { batch };
        let has_insert = batch.iter().any(|op| matches!(op, StoreOp::Insert { .. }));
        self.kept.extend(batch);
        match self.write() {
            // Small changes may find room where nothing else does; only new jobs prove that there is some.
            Ok(()) if has_insert => self.recovered(),
            Ok(()) => {}
            Err(error) => {
                self.failed(&error);
                let batch = std::mem::take(&mut self.kept);
                self.set_aside(batch);
                if has_insert && let Err(error) = self.write() {
                    self.failed(&error);
                }
                if let Some(failing) = &mut self.failing {
                    failing.rest_until = Instant::now() + (now.elapsed() * REST).min(RETRY);
                }
            }
        }
    }

    /// The rest of a batch.
    fn refuse_inserts(&mut self, batch: Vec<StoreOp>) -> Vec<StoreOp> {
        let mut rest = Vec::with_capacity(batch.len());
        for op in batch {
            match op {
                StoreOp::Insert { call, .. } | StoreOp::SetPool { call, .. } => {
                    let reason =
                        self.failing.as_ref().map_or_else(String::new, |failing| failing.reason.clone());
                    self.answer(refused(call, reason));
                }
                op => rest.push(op),
            }
        }
        rest
    }

    /// Without the disk: new jobs are refused, reads answered, everything else kept. Reads alone never need more than this.
    fn set_aside(&mut self, batch: Vec<StoreOp>) {
        for op in self.refuse_inserts(batch) {
            match op {
                op if is_read(&op) && !self.is_ahead(&op) => match self.database.apply(&op) {
                    Ok(answer) => answer.into_iter().for_each(|answer| self.answer(answer)),
                    Err(error) if fault::is_of_database(&error) => {
                        self.failed(&error);
                        let kept = self.unread(op, &error);
                        self.kept.extend(kept);
                    }
                    Err(error) => self.reject(op, &error),
                },
                op => self.kept.push(op),
            }
        }
    }

    /// Whether what is kept has to be written before this may be read: the scheduler takes jobs that were put back into the queue from
    /// there, and would not look for them again.
    fn is_ahead(&self, op: &StoreOp) -> bool {
        matches!(op, StoreOp::Fetch { .. }) && self.kept.iter().any(StoreOp::enters_queue)
    }

    /// Writes what is kept, and answers it.
    fn write(&mut self) -> rusqlite::Result<()> {
        while !self.kept.is_empty() {
            match self.database.commit(&self.kept) {
                Ok(answers) => {
                    self.kept.clear();
                    answers.into_iter().for_each(|answer| self.answer(answer));
                }
                // The one at fault must not hold up the others.
                Err(BatchError { at: Some(index), error }) if !fault::is_of_database(&error) => {
                    let op = self.kept.remove(index);
                    self.reject(op, &error);
                }
                Err(BatchError { at: Some(index), error })
                    if is_read(&self.kept[index]) || fault::is_damage(&error) =>
                {
                    let op = self.kept.remove(index);
                    if let Some(op) = self.unread(op, &error) {
                        self.kept.insert(index, op);
                    }
                    return Err(error);
                }
                Err(BatchError { error, .. }) => return Err(error),
            }
        }
        Ok(())
    }

    /// The database fails an operation: what can be said of it to whoever asked, or else the operation, to be tried again.
    fn unread(&mut self, op: StoreOp, error: &rusqlite::Error) -> Option<StoreOp> {
        let reason = fault::explain(error, &self.state_dir);
        let answer = match op {
            StoreOp::Get { call, .. } | StoreOp::List { call, .. } => {
                StoreAnswer::Refused { call, refusal: Refusal::StoreUnreadable { reason } }
            }
            // Only what is in memory already can still be run.
            StoreOp::Fetch { pool, .. } if fault::is_damage(error) => {
                StoreAnswer::Fetched { pool, jobs: Vec::new(), complete: true }
            }
            StoreOp::Prune { .. } => {
                StoreAnswer::Pruned { jobs: Vec::new(), callbacks: Vec::new(), more: false }
            }
            op => return Some(op),
        };
        self.answer(answer);
        None
    }

    fn retry(&mut self) {
        match self.write().and_then(|()| self.database.probe()) {
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
                self.send(StoreEvent::Failing { reason: reason.clone() });
                let now = Instant::now();
                self.failing = Some(Failing { reason, rest_until: now, retry_at: now + RETRY, for_good });
            }
        }
    }

    fn recovered(&mut self) {
        if !self.is_damaged() && self.failing.take().is_some() {
            self.send(StoreEvent::Recovered);
        }
    }

    /// A mistake of ours: whoever waits for an answer gets one that does not promise anything.
    fn reject(&mut self, op: StoreOp, error: &rusqlite::Error) {
        let verb = verb(&op);
        tracing::error!(%error, verb, "the store cannot carry out an operation; it is dropped");
        let answer = match op {
            StoreOp::Insert { call, .. } | StoreOp::SetPool { call, .. } => {
                Some(refused(call, fault::explain(error, &self.state_dir)))
            }
            // It has not been promised, and so never starts; the next start of poold finds it queued.
            StoreOp::Claim { .. } => None,
            StoreOp::Release { call, .. } => Some(StoreAnswer::Released { call, jobs: Vec::new() }),
            StoreOp::Finish { id, .. } | StoreOp::FinishQueued { id, .. } => {
                Some(StoreAnswer::Finished { id, record: None, callbacks: Vec::new(), stdin: None })
            }
            StoreOp::Fetch { pool, .. } => {
                Some(StoreAnswer::Fetched { pool, jobs: Vec::new(), complete: true })
            }
            StoreOp::Get { call, ids } => Some(StoreAnswer::Got { call, records: Vec::new(), missing: ids }),
            StoreOp::List { call, .. } => Some(StoreAnswer::Listed { call, records: Vec::new(), next: None }),
            StoreOp::Prune { .. } => {
                Some(StoreAnswer::Pruned { jobs: Vec::new(), callbacks: Vec::new(), more: false })
            }
            StoreOp::TakeDue { .. } => Some(StoreAnswer::Due { jobs: Vec::new(), next_us: None }),
            StoreOp::Booted { .. }
            | StoreOp::ReserveIds { .. }
            | StoreOp::Start { .. }
            | StoreOp::Hold { .. }
            | StoreOp::Stopping { .. }
            | StoreOp::Retrying { .. }
            | StoreOp::Requeue { .. }
            | StoreOp::AttemptFailed { .. }
            | StoreOp::ClaimCallback { .. }
            | StoreOp::CallbackEnded { .. } => None,
        };
        answer.into_iter().for_each(|answer| self.answer(answer));
    }

    fn answer(&mut self, answer: StoreAnswer) {
        self.send(StoreEvent::Answer(answer));
    }

    fn send(&mut self, event: StoreEvent) {
        // Nobody listens any more while the store is being closed.
        self.sent |= self.outbox.send(event).is_ok();
    }

    fn tell(&mut self) {
        if std::mem::take(&mut self.sent) {
            (self.notify)();
        }
    }

    fn finish(mut self) -> Result<(), CloseError> {
        let written = self.write().and_then(|()| self.database.check_home()).map_err(|error| {
            let reason = fault::explain(&error, &self.state_dir);
            match self.kept.iter().filter(|op| !is_read(op)).count() {
                0 => CloseError::Gone { reason },
                changes => CloseError::Unwritten { changes, reason },
            }
        });
        self.database.close();
        written
    }
}

fn refused(call: RequestId, reason: String) -> StoreAnswer {
    StoreAnswer::Refused { call, refusal: Refusal::StoreFailed { reason } }
}

/// Whether an operation changes nothing.
fn is_read(op: &StoreOp) -> bool {
    matches!(op, StoreOp::Fetch { .. } | StoreOp::Get { .. } | StoreOp::List { .. })
}

fn weight(op: &StoreOp) -> usize {
    match op {
        StoreOp::Insert { jobs, .. } => jobs.len().max(1),
        _ => 1,
    }
}

fn verb(op: &StoreOp) -> &'static str {
    match op {
        StoreOp::Insert { .. } => "insert",
        StoreOp::Booted { .. } => "booted",
        StoreOp::Start { .. } => "start",
        StoreOp::Claim { .. } => "claim",
        StoreOp::Hold { .. } => "hold",
        StoreOp::Release { .. } => "release",
        StoreOp::Stopping { .. } => "stopping",
        StoreOp::Retrying { .. } => "retrying",
        StoreOp::Requeue { .. } => "requeue",
        StoreOp::AttemptFailed { .. } => "attempt-failed",
        StoreOp::TakeDue { .. } => "take-due",
        StoreOp::Finish { .. } => "finish",
        StoreOp::FinishQueued { .. } => "finish-queued",
        StoreOp::Fetch { .. } => "fetch",
        StoreOp::Get { .. } => "get",
        StoreOp::List { .. } => "list",
        StoreOp::ClaimCallback { .. } => "claim-callback",
        StoreOp::CallbackEnded { .. } => "callback-ended",
        StoreOp::SetPool { .. } => "set-pool",
        StoreOp::ReserveIds { .. } => "reserve-ids",
        StoreOp::Prune { .. } => "prune",
    }
}
