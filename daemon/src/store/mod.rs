//! The store: jobs, callbacks and environments on disk, and the only module that speaks SQL.
//!
//! A [`Store`] is the supervisor's handle of a thread that owns the database (SQLite). Changes go down as [`StoreOp`]s and are written
//! by group commit: while one batch is in its fsync, the next gathers. Answers come up in the same order, each after what it speaks of
//! is on disk, and a callback of the supervisor's tells that there are some.
//!
//! ```text
//! supervisor ── submit ──▶ channel ──▶ committer: one batch, one transaction ──▶ answers ──▶ supervisor
//!                                        │ cannot be written
//!                                        └──▶ new jobs are refused, reads go on, other changes are kept and written later
//! ```
//!
//! It decides nothing: which job runs when, and what an interrupted one becomes, is the scheduler's business. It touches no file but
//! its database: output and spooled input belong to others, who are told when they can go.

mod backup;
mod callbacks;
mod columns;
mod committer;
mod database;
mod environments;
mod fault;
mod home;
mod jobs;
mod keys;
mod log;
mod opening;
mod prune;
mod queries;
mod records;
mod restore;
mod schema;
#[cfg(test)]
mod tests;
mod volatile;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use committer::{Committer, Message};
pub use opening::OpenError;
use pool_proto::Refusal;
pub use volatile::Volatile;

use crate::job::JobId;
use crate::scheduler::store_op::{Restored, StoreAnswer, StoreOp};

/// The database's name in the state directory.
pub const FILE_NAME: &str = "poold.db";

/// What an answered change survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: every batch is synced.
    Power,
    /// The death of every process of ours, but not that of the machine: the kernel writes when it likes.
    Crash,
}

/// How a store is opened.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub durability: Durability,
    /// The files of an attempt's stdout and stderr below the state directory, as records name them.
    pub output_paths: fn(&Path, JobId, u32) -> (PathBuf, PathBuf),
    /// Brings a spooled standard input to the disk, given its token, before the job that needs it is accepted.
    pub sync_stdin: fn(&Path, &str) -> io::Result<()>,
}

/// What comes from the store.
#[derive(Debug, PartialEq)]
pub enum StoreEvent {
    Answer(StoreAnswer),
    /// The database cannot be written. Told once, until [`Recovered`](Self::Recovered); once more when it is found to be damaged, which is
    /// for good.
    Failing {
        reason: String,
    },
    /// Answers to [`Store::hold`] and [`Store::let_go`], in the order in which they were asked.
    Held(Result<u64, Refusal>),
    LetGo(Result<(), Refusal>),
    /// It can be written again, and everything that was kept has been.
    Recovered,
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

/// The handle of the store's thread.
#[derive(Debug)]
pub struct Store {
    ops: Sender<Message>,
    events: Receiver<StoreEvent>,
    ended_output_bytes: Arc<AtomicU64>,
    thread: JoinHandle<Result<(), CloseError>>,
}

impl Store {
    /// Opens the database in `state_dir`, or creates it, and starts the thread. `notify` is called on that thread after answers have
    /// become available.
    ///
    /// # Errors
    /// What is wrong with the directory or the file, and what to do about it. The file is then as it was.
    pub fn open(
        state_dir: &Path,
        options: Options,
        notify: impl Fn() + Send + 'static,
    ) -> Result<(Self, Restored), OpenError> {
        let (database, restored) = opening::open(state_dir, options)?;
        let (ops, inbox) = mpsc::channel();
        let (outbox, events) = mpsc::channel();
        let ended_output_bytes = database.ended_output_bytes();
        let committer = Committer::new(database, inbox, outbox, Box::new(notify));
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || committer.run())
            .map_err(OpenError::Thread)?;
        Ok((Self { ops, events, ended_output_bytes, thread }, restored))
    }

    /// What all ended jobs have written, as of the last commit.
    pub fn ended_output_bytes(&self) -> u64 {
        self.ended_output_bytes.load(Ordering::Relaxed)
    }

    /// Hands over operations, to be carried out in this order. Never blocks.
    pub fn submit(&self, ops: Vec<StoreOp>) {
        if self.ops.send(Message::Ops(ops)).is_err() {
            tracing::error!("the store's thread is gone: changes are lost");
        }
    }

    /// Makes the database's file whole, and leaves it alone until [`let_go`](Self::let_go): a backup copies it, and commits go on into the
    /// log meanwhile. Answered with [`StoreEvent::Held`] and the file's length.
    pub fn hold(&self, holder: usize) {
        _ = self.ops.send(Message::Hold(holder));
    }

    /// Ends the hold of that holder, if it has one. Answered with [`StoreEvent::LetGo`]: whether the file was left alone until now.
    pub fn let_go(&self, holder: usize) {
        _ = self.ops.send(Message::LetGo(holder));
    }

    /// The next event that is there. Never blocks.
    pub fn answer(&self) -> Option<StoreEvent> {
        self.events.try_recv().ok()
    }

    /// All events that are there, in order. Never blocks.
    pub fn answers(&self) -> impl Iterator<Item = StoreEvent> {
        self.events.try_iter()
    }

    /// Carries out everything submitted, writes what was kept if that is possible now, and closes the database.
    ///
    /// # Errors
    /// What could not be written.
    pub fn close(self) -> Result<(), CloseError> {
        drop(self.ops);
        self.thread.join().unwrap_or(Err(CloseError::Panicked))
    }
}
