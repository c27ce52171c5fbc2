//! The database as the operations see it: one transaction for a batch of them, and what is kept in memory beside it.
//!
//! Which operations make a batch, and what happens when one cannot be written, is the committer's business.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pool_proto::Refusal;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, Result, ffi};

use super::backup::Hold;
use super::environments::Environments;
use super::home::Home;
use super::jobs::{self, Inserted, Provided};
pub use super::prune::History;
use super::prune::{self, Limits};
use super::records::{self, Layout};
use super::{Durability, FILE_NAME, callbacks, fault, log, opening, queries};
use crate::job::{CallbackId, JobId, Outcome, RequestId, Work};
use crate::scheduler::store_op::{Start, StoreAnswer, StoreOp};

/// Pages of the write-ahead log beyond which it is written back into the database, 8 MiB. Afterwards it is written from its beginning
/// again, and overwriting syncs faster than growing does.
const WAL_PAGES: i64 = if cfg!(test) { 64 } else { 2048 };

/// Operations after which the log's length is looked at: one takes less than two pages of it.
const LOOK_EVERY: usize = WAL_PAGES as usize / 8;

/// How much room there must be on the disk for it not to count as full.
const PROBE_BYTES: i64 = 64 << 10;

/// What the log has before its pages, and before each of them (<https://www.sqlite.org/fileformat2.html#walformat>).
const LOG_HEADER: i64 = 32;
const FRAME_HEADER: i64 = 24;

/// See the module's description.
#[derive(Debug)]
pub struct Database {
    /// None while it cannot be opened anew.
    connection: Option<Connection>,
    /// A sync has failed, or may have: see [`log`].
    is_suspect: bool,
    layout: Layout,
    home: Home,
    environments: Environments,
    history: History,
    /// Of the history as it is committed, for others to see.
    ended_output_bytes: Arc<AtomicU64>,
    /// Operations since the log's length was last looked at.
    changes: usize,
    /// The length of the log, in pages, at which it is next written back.
    checkpoint_at: i64,
    durability: Durability,
    /// Whether the next commit is synced; SQLite's own default.
    syncs: bool,
}

/// A batch that was rolled back.
#[derive(Debug)]
pub struct BatchError {
    /// The operation at which it failed, unless it was the commit.
    pub at: Option<usize>,
    pub error: Error,
}

impl Database {
    /// `is_suspect`: the last one who had it open did not close it in order.
    pub fn new(
        connection: Connection,
        layout: Layout,
        home: Home,
        history: History,
        durability: Durability,
        is_suspect: bool,
    ) -> Self {
        let (environments, checkpoint_at) = (Environments::default(), WAL_PAGES);
        let ended_output_bytes = Arc::new(AtomicU64::new(history.output_bytes));
        Self {
            connection: Some(connection),
            is_suspect,
            layout,
            home,
            environments,
            history,
            ended_output_bytes,
            changes: 0,
            checkpoint_at,
            durability,
            syncs: true,
        }
    }

    /// What all ended jobs have written; kept up to date.
    pub fn ended_output_bytes(&self) -> Arc<AtomicU64> {
        self.ended_output_bytes.clone()
    }

    pub fn state_dir(&self) -> &std::path::Path {
        &self.layout.state_dir
    }

    /// Whether what is written now will be found by the next start.
    pub fn check_home(&self) -> Result<()> {
        self.home.check()
    }

    pub fn connection(&self) -> Result<&Connection> {
        opened(&self.connection)
    }

    /// Carries out all operations in one transaction, or none.
    pub fn commit(&mut self, ops: &[StoreOp]) -> Result<Vec<StoreAnswer>, BatchError> {
        let history = self.history;
        self.transact(ops).inspect_err(|failed| {
            self.history = history;
            self.environments.clear();
            // After some errors SQLite has rolled back by itself.
            if self.connection().is_ok_and(|connection| !connection.is_autocommit())
                && let Err(error) = self.run("ROLLBACK")
            {
                tracing::error!(%error, "cannot roll back");
            }
            self.note(&failed.error);
            // At once, so that what is refused now is not found in the log by the next start.
            if let Err(error) = self.mend() {
                tracing::debug!(%error, "the log cannot be written anew");
            }
        })
    }

    /// An error may say that what was written is not what is on the disk.
    fn note(&mut self, error: &Error) {
        self.is_suspect |= fault::is_of_sync(error);
    }

    /// After a sync has failed: has the whole log written anew, and looks at it as the next start would. Nothing is committed or written back
    /// before that has succeeded.
    fn mend(&mut self) -> Result<()> {
        if !self.is_suspect {
            return Ok(());
        }
        self.check_home()?;
        let file = self.layout.state_dir.join(FILE_NAME);
        if self.connection.is_some() {
            let (pages, _) = self.log_length("PRAGMA wal_checkpoint(NOOP)")?;
            let page: i64 = self.connection()?.pragma_query_value(None, "page_size", |row| row.get(0))?;
            let length = if pages > 0 { LOG_HEADER + pages * (FRAME_HEADER + page) } else { 0 };
            let rewritten = log::rewrite(&file, length.unsigned_abs());
            rewritten.map_err(|error| {
                failure(ffi::SQLITE_IOERR_FSYNC, format!("its log cannot be synced: {error}"))
            })?;
        }
        self.environments.clear();
        if let Some(connection) = self.connection.take() {
            // What could be read of the log may be less than what it is thought to hold.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.close().map_err(|(_, error)| error)?;
        }
        self.connection = Some(opening::reopen(&file)?);
        (self.syncs, self.is_suspect) = (true, false);
        Ok(())
    }

    fn transact(&mut self, ops: &[StoreOp]) -> Result<Vec<StoreAnswer>, BatchError> {
        let whole = |error| BatchError { at: None, error };
        self.check_home().map_err(whole)?;
        self.mend().map_err(whole)?;
        self.set_sync(self.durability == Durability::Power && ops.iter().any(promises)).map_err(whole)?;
        self.run("BEGIN IMMEDIATE").map_err(whole)?;
        self.changes += ops.len();
        let mut answers = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            let answer = self.apply(op).map_err(|error| BatchError { at: Some(index), error })?;
            answers.extend(answer);
        }
        self.run("COMMIT").map_err(whole)?;
        self.ended_output_bytes.store(self.history.output_bytes, Ordering::Relaxed);
        Ok(answers)
    }

    /// Whether commits from now on wait for the disk. One that does takes all that came before it along.
    fn set_sync(&mut self, sync: bool) -> Result<()> {
        if self.syncs != sync {
            // Never through the statement cache: this pragma takes effect when it is compiled.
            self.connection()?.pragma_update(None, "synchronous", if sync { "FULL" } else { "NORMAL" })?;
            self.syncs = sync;
        }
        Ok(())
    }

    fn run(&self, statement: &str) -> Result<()> {
        self.connection()?.prepare_cached(statement)?.execute([])?;
        Ok(())
    }

    /// Carries out one operation: a change only within [`commit`](Self::commit), a read anywhere.
    pub fn apply(&mut self, op: &StoreOp) -> Result<Option<StoreAnswer>> {
        let Self { connection, layout, environments, history, durability, .. } = self;
        let connection = opened(connection)?;
        match op {
            StoreOp::Insert { call, first, first_callback, jobs, submitted_us } => {
                let (call, first) = (*call, *first);
                if let Err(refusal) = sync_stdin(layout, jobs, *durability) {
                    return Ok(Some(StoreAnswer::Refused { call, refusal }));
                }
                Ok(Some(
                    match jobs::insert(connection, environments, first, *first_callback, jobs, *submitted_us)?
                    {
                        Inserted::All { untied, existing } => {
                            StoreAnswer::Inserted { call, first, jobs: jobs.clone(), untied, existing }
                        }
                        Inserted::TiedToNothing(JobId(id)) => {
                            StoreAnswer::Refused { call, refusal: Refusal::NoSuchJob { id } }
                        }
                        Inserted::IdsGivenOut => ids_given_out_before(call, first, *first_callback),
                    },
                ))
            }
            StoreOp::Booted { boot_id } => jobs::booted(connection, boot_id).map(|()| None),
            StoreOp::Start { id, attempt, slot, worker_pid, process, started_us } => {
                jobs::start(connection, *id, *attempt, (*slot, *worker_pid), *process, *started_us)?;
                Ok(None)
            }
            StoreOp::Claim { id, attempt, slot, worker_pid, started_us } => {
                jobs::start(connection, *id, *attempt, (*slot, *worker_pid), None, *started_us)?;
                Ok(Some(StoreAnswer::Claimed { id: *id, attempt: *attempt, worker_pid: *worker_pid }))
            }
            StoreOp::Hold { id, crashes, reason } => {
                jobs::hold(connection, *id, *crashes, reason).map(|()| None)
            }
            StoreOp::Release { call, ids } => {
                let jobs = jobs::release(connection, environments, ids)?;
                Ok(Some(StoreAnswer::Released { call: *call, jobs }))
            }
            StoreOp::Stopping { id, reason } => jobs::stopping(connection, *id, *reason).map(|()| None),
            StoreOp::Retrying { id, reason } => jobs::retrying(connection, *id, reason).map(|()| None),
            StoreOp::Requeue { id, crashes, reason } => {
                jobs::requeue(connection, *id, *crashes, reason.as_deref()).map(|()| None)
            }
            StoreOp::AttemptFailed { id, retried, reason, start, due_us } => {
                jobs::attempt_failed(connection, *id, *retried, reason, *start, *due_us).map(|()| None)
            }
            StoreOp::TakeDue { until_us, limit } => {
                let (jobs, next_us) = jobs::take_due(connection, environments, *until_us, *limit)?;
                Ok(Some(StoreAnswer::Due { jobs, next_us }))
            }
            StoreOp::Finish { id, outcome, start, want_record } => {
                let finished = self.finish(*id, outcome, *start, *want_record, Provided::NotEnded)?;
                Ok(Some(match finished {
                    Some(answer) => answer,
                    None => self.ended_before(*id, *want_record)?,
                }))
            }
            StoreOp::FinishQueued { id, outcome, want_record } => {
                let finished = self.finish(*id, outcome, None, *want_record, Provided::Queued)?;
                Ok(Some(finished.unwrap_or(StoreAnswer::NotQueued { id: *id })))
            }
            StoreOp::Fetch { pool, after, limit } => {
                let (jobs, complete) = queries::fetch(connection, environments, pool, *after, *limit)?;
                Ok(Some(StoreAnswer::Fetched { pool: pool.clone(), jobs, complete }))
            }
            StoreOp::Get { call, ids } => {
                let (records, missing) = queries::get(connection, layout, ids)?;
                Ok(Some(StoreAnswer::Got { call: *call, records, missing }))
            }
            StoreOp::List { call, query } => {
                let (records, next) = queries::list(connection, layout, query)?;
                Ok(Some(StoreAnswer::Listed { call: *call, records, next }))
            }
            StoreOp::ClaimCallback { id } => {
                let run = callbacks::claim(connection, environments, layout, *id)?;
                Ok(run.map(|run| StoreAnswer::CallbackClaimed(Box::new(run))))
            }
            StoreOp::CallbackEnded { id, end, exit_code } => {
                callbacks::ended(connection, *id, *end, *exit_code).map(|()| None)
            }
            StoreOp::ReserveIds { below } => {
                jobs::reserve_volatile_ids(connection, *below)?;
                Ok(Some(StoreAnswer::IdsReserved { below: *below }))
            }
            StoreOp::SetPool { call, name, value } => {
                match value {
                    Some(value) => {
                        let mut insert = connection
                            .prepare("INSERT OR REPLACE INTO pools (name, value) VALUES (?1, ?2)")?;
                        insert.execute((name, value))?;
                    }
                    None => _ = connection.execute("DELETE FROM pools WHERE name = ?1", [name])?,
                }
                Ok(Some(StoreAnswer::PoolChanged { call: *call }))
            }
            StoreOp::Prune { max_jobs, ended_before_us, max_output_bytes, batch } => {
                let (max_jobs, ended_before_us, max_output_bytes) =
                    (*max_jobs, *ended_before_us, *max_output_bytes);
                let limits = Limits { max_jobs, ended_before_us, max_output_bytes };
                prune::prune(connection, environments, history, limits, *batch).map(Some)
            }
        }
    }

    fn finish(
        &mut self,
        id: JobId,
        outcome: &Outcome,
        start: Option<Start>,
        want_record: bool,
        provided: Provided,
    ) -> Result<Option<StoreAnswer>> {
        let Some(stdin) = jobs::finish(self.connection()?, id, outcome, start, provided)? else {
            return Ok(None);
        };
        self.history.add(outcome);
        let callbacks = callbacks::release(self.connection()?, id, outcome.state, outcome.ended_us)?;
        let record = self.record_if(want_record, id)?;
        Ok(Some(StoreAnswer::Finished { id, record, callbacks, stdin }))
    }

    /// The answer to a mistake: the first end stands, and its callbacks are not run again.
    fn ended_before(&self, id: JobId, want_record: bool) -> Result<StoreAnswer> {
        tracing::error!(job = %id, "a job that has ended, or that there is not, was to be ended; it stays as it is");
        Ok(StoreAnswer::Finished {
            id,
            record: self.record_if(want_record, id)?,
            callbacks: Vec::new(),
            stdin: None,
        })
    }

    fn record_if(&self, wanted: bool, id: JobId) -> Result<Option<Box<pool_proto::Record>>> {
        if !wanted {
            return Ok(None);
        }
        Ok(records::record(self.connection()?, &self.layout, id)?.map(Box::new))
    }

    /// Whether commits that promise something wait for the disk.
    pub fn syncs(&self) -> bool {
        self.durability == Durability::Power
    }

    /// Whether there is room on the disk again: writes something and takes it back.
    pub fn probe(&mut self) -> Result<()> {
        self.mend()?;
        let probe = |database: &Self| {
            database
                .connection()?
                .prepare_cached("UPDATE meta SET probe = zeroblob(?1)")?
                .execute([PROBE_BYTES])?;
            database.run("UPDATE meta SET probe = NULL")
        };
        probe(self).inspect_err(|error| self.note(error))
    }

    /// Writes the log back into the database once it has become long. For when nobody waits for an answer.
    pub fn checkpoint(&mut self, hold: &mut Hold) {
        match self.checkpoint_if_long(hold) {
            Ok(()) => {}
            // Nothing is lost, the log only grows on. Should there be no room for that either, the next commit fails and says so.
            Err(error) => {
                tracing::warn!(%error, "cannot write the log back into the database");
                self.note(&error);
                self.checkpoint_at += WAL_PAGES;
            }
        }
    }

    fn checkpoint_if_long(&mut self, hold: &mut Hold) -> Result<()> {
        if self.is_suspect {
            return Ok(()); // The next commit mends that first.
        }
        if self.changes < LOOK_EVERY && !hold.is_held() {
            return Ok(());
        }
        self.changes = 0;
        let (pages, written_back) = self.log_length("PRAGMA wal_checkpoint(NOOP)")?;
        hold.limit(pages);
        if pages >= self.checkpoint_at && pages > written_back && !hold.is_held() {
            self.log_length("PRAGMA wal_checkpoint(PASSIVE)")?;
            self.checkpoint_at = WAL_PAGES;
        }
        Ok(())
    }

    /// The log's pages, and how many of them are written back, after a checkpoint of that mode.
    fn log_length(&self, mode: &str) -> Result<(i64, i64)> {
        let mut checkpoint = self.connection()?.prepare_cached(mode)?;
        checkpoint.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
    }

    /// Writes everything that is committed back into the file; its length in bytes.
    pub fn make_whole(&mut self) -> Result<u64> {
        self.check_home()?;
        self.mend()?;
        let (pages, written_back) =
            self.log_length("PRAGMA wal_checkpoint(PASSIVE)").inspect_err(|error| self.note(error))?;
        if pages != written_back {
            return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None));
        }
        let count: i64 = self.connection()?.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let size: i64 = self.connection()?.pragma_query_value(None, "page_size", |row| row.get(0))?;
        Ok((count * size).unsigned_abs())
    }

    /// Closes the database. The log is written back and removed; where that fails, the next start does it.
    pub fn close(mut self) {
        let mended = self.mend();
        let Some(connection) = self.connection else { return };
        let kept = mended.or_else(|_| {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(|_| ())
        });
        if let Err(error) = kept.and_then(|()| connection.close().map_err(|(_, error)| error)) {
            tracing::warn!(%error, "cannot close the database in order; the next start mends that");
        }
    }
}

fn opened(connection: &Option<Connection>) -> Result<&Connection> {
    connection.as_ref().ok_or_else(|| failure(ffi::SQLITE_CANTOPEN, "it could not be opened anew".to_owned()))
}

fn failure(code: i32, text: String) -> Error {
    Error::SqliteFailure(ffi::Error::new(code), Some(text))
}

/// Whether somebody is told, when it is written, that it will not be lost. The others only say how far things have come: when a power
/// cut takes one of them away, a job or a callback runs again, which it would have had to anyway.
fn promises(op: &StoreOp) -> bool {
    match op {
        StoreOp::Insert { .. }
        | StoreOp::Claim { .. }
        | StoreOp::Hold { .. }
        | StoreOp::Release { .. }
        | StoreOp::Finish { .. }
        | StoreOp::FinishQueued { .. }
        | StoreOp::SetPool { .. }
        | StoreOp::ReserveIds { .. }
        | StoreOp::Prune { .. } => true,
        StoreOp::Booted { .. }
        | StoreOp::Start { .. }
        | StoreOp::Stopping { .. }
        | StoreOp::Retrying { .. }
        | StoreOp::Requeue { .. }
        | StoreOp::AttemptFailed { .. }
        | StoreOp::TakeDue { .. }
        | StoreOp::Fetch { .. }
        | StoreOp::Get { .. }
        | StoreOp::List { .. }
        | StoreOp::ClaimCallback { .. }
        | StoreOp::CallbackEnded { .. } => false,
    }
}

/// A job is not accepted before its input is as safe as it is.
fn sync_stdin(layout: &Layout, jobs: &[Arc<Work>], durability: Durability) -> Result<(), Refusal> {
    if durability == Durability::Crash {
        return Ok(());
    }
    jobs.iter().filter_map(|work| work.stdin.as_deref()).try_for_each(|token| {
        (layout.sync_stdin)(&layout.state_dir, token).map_err(|error| {
            let dir = layout.state_dir.join("stdin");
            let reason = format!(
                "the standard input in {} cannot be synced: {error}; mend that and try again",
                dir.display()
            );
            Refusal::StoreFailed { reason }
        })
    })
}

fn ids_given_out_before(call: RequestId, first: JobId, first_callback: CallbackId) -> StoreAnswer {
    tracing::error!(job = %first, callback = %first_callback, "ids that were given out before were to be given out again");
    let reason =
        format!("the ids from {first} on were given out before; please report this as a defect of poold");
    StoreAnswer::Refused { call, refusal: Refusal::StoreFailed { reason } }
}
