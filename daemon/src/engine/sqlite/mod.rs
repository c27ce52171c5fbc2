//! The backing on disk: jobs, callbacks and environments in SQLite, and the only module that speaks SQL.
//!
//! [`Sqlite`] is the daemon's handle of a thread that owns the database. Orders go down and are written by
//! group commit: while one batch is being synced, the next gathers. Answers come up in the same order, each
//! after what it speaks of is on disk, and a callback of the daemon's tells that there are some. Urgent
//! insertions are told before, when they are written.
//!
//! ```text
//! Sqlite ── submit ──▶ channel ──▶ committer: one batch, one transaction, one sync ──▶ answers ──▶ Sqlite
//!                                    │ cannot be written
//!                                    └──▶ new jobs are refused, reads go on,
//!                                         other changes are kept in the backlog and written later
//! ```
//!
//! An order is matched twice: where it is carried out ([`database`]), and where it is said of one that cannot
//! be ([`committer`]). It decides nothing: which job runs when, and what an interrupted one becomes, is the
//! core's business. Besides its database it has the files of large values ([`values`]): output and spooled
//! input belong to others, who are told when they can go.

mod arrays;
mod attempts;
mod backlog;
mod callbacks;
mod columns;
mod committer;
mod connection;
mod database;
mod deadlines;
mod dependents;
mod edit;
mod environments;
mod fault;
mod hold;
mod home;
mod insert;
mod keys;
mod listed;
mod log;
mod meta;
mod opening;
mod pace;
mod places;
mod plain;
mod prune;
mod queries;
mod records;
mod restore;
mod retry;
mod schedules;
mod schema;
#[cfg(test)]
mod tests;
mod turns;
mod values;
mod waits;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use committer::{Committer, Message};
pub use fault::is_full_disk;
pub use opening::OpenError;
use values::Keeper;
pub use values::ValueFiles;

use pool_proto::Json;

use super::{Backing, Boot, Order, Restored, Told};
use crate::job::{CallbackId, JobId};

/// The database's name in the state directory.
pub const FILE_NAME: &str = "poold.db";

/// What is called when something was told.
type Notify = Arc<dyn Fn() + Send + Sync>;

/// What an answered change survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: every batch that promises something is synced.
    Power,
    /// The death of every process of ours, but not that of the machine: the kernel writes when it likes.
    Crash,
}

/// How a database is opened.
#[derive(Debug, Clone)]
pub struct Options {
    pub durability: Durability,
    /// The files of an attempt's stdout and stderr below the state directory, as records name them.
    pub output_paths: fn(&Path, JobId, u32) -> (PathBuf, PathBuf),
    /// The same of a callback.
    pub callback_paths: fn(&Path, CallbackId, u32) -> (PathBuf, PathBuf),
    /// Brings a spooled standard input to the disk, given its token, before the job that needs it is
    /// accepted.
    pub sync_stdin: fn(&Path, &str) -> io::Result<()>,
    /// How large values get files of their own.
    pub values: ValueFiles,
    /// This boot of the machine, and what has passed of it: by its clock, nothing that waits is due later
    /// than its backoff from now.
    pub boot: Boot,
    pub since_boot: Duration,
}

/// What went wrong at the end.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    #[error(
        "{changes} changes could not be written, so the next start runs their jobs or callbacks again: {reason}"
    )]
    Unwritten { changes: usize, reason: String },
    /// All of it was, but into files that the next start does not find.
    #[error("what is written is lost to the next start: {reason}")]
    Gone { reason: String },
    #[error("the store's thread has panicked")]
    Panicked,
}

/// The handle of the thread that has the database.
#[derive(Debug)]
pub struct Sqlite {
    orders: Sender<Message>,
    told: Receiver<Told>,
    /// See [`Committer`]: it may be lingering.
    hurry: Arc<AtomicBool>,
    ended_output_bytes: Arc<AtomicU64>,
    keeper: Arc<Keeper>,
    thread: JoinHandle<Result<(), CloseError>>,
}

impl Sqlite {
    /// Opens the database in `state_dir`, or creates it, and starts the thread. `notify` is called on that
    /// thread, and on that of the large values, after something can be taken.
    ///
    /// # Errors
    /// What is wrong with the directory or the file, and what to do about it. The file is then as it was.
    pub fn open(
        state_dir: &Path,
        options: Options,
        notify: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Self, Restored), OpenError> {
        let (files, syncs) = (options.values, options.durability == Durability::Power);
        let (database, restored) = opening::open(state_dir, options)?;
        // Before the first new one is written.
        let abandoned = database.abandoned_values();
        let (orders, inbox) = mpsc::channel();
        let (outbox, told) = mpsc::channel();
        let ended_output_bytes = database.ended_output_bytes();
        let hurry = Arc::<AtomicBool>::default();
        let notify: Notify = Arc::new(notify);
        let keeper = Keeper::new(state_dir, files, syncs, outbox.clone(), notify.clone());
        let keeper = Arc::new(keeper);
        let committer =
            Committer::new(database, inbox, outbox, hurry.clone(), notify, keeper.clone(), abandoned);
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || committer.run())
            .map_err(OpenError::Thread)?;
        Ok((Self { orders, told, hurry, ended_output_bytes, keeper, thread }, restored))
    }

    /// What all ended jobs have written, as of the last commit.
    pub fn ended_output_bytes(&self) -> u64 {
        self.ended_output_bytes.load(Ordering::Relaxed)
    }

    /// Carries out everything submitted, writes what was kept if that is possible now, and closes the
    /// database.
    ///
    /// # Errors
    /// What could not be written.
    pub fn close(self) -> Result<(), CloseError> {
        drop(self.orders);
        let closed = self.thread.join().unwrap_or(Err(CloseError::Panicked));
        self.keeper.close();
        closed
    }
}

impl Backing for Sqlite {
    fn submit(&mut self, orders: Vec<Order>) {
        let message = Message::Orders(orders);
        let can_linger = message.can_linger();
        if self.orders.send(message).is_err() {
            tracing::error!("the store's thread is gone: changes are lost");
        }
        if !can_linger {
            self.hurry.store(true, Ordering::Release);
            self.thread.thread().unpark();
        }
    }

    fn keep(&mut self, ticket: u64, values: Vec<Json>) {
        self.keeper.keep(ticket, values);
    }

    fn next(&mut self) -> Option<Told> {
        self.told.try_recv().ok()
    }
}
