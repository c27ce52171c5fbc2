//! The remover: a thread that removes files of jobs.
//!
//! unlink(2) of a file of some gigabytes takes the kernel a second. The supervisor's loop hands such work
//! over and goes on; nothing that it does waits for this thread, and no channel between the two can be full.
//!
//! So the memory for what is handed over is bounded in another way. Files of single attempts and inputs come
//! one for each end of a job or submission. Only pruning can name many at once, and pruning asks
//! [`Remover::has_room`] first; where there is none, it goes on when `notify` is called.
//!
//! What is still to be removed when poold dies is left: the store has forgotten these jobs by then.
//! [`MAX_PENDING`] bounds that as well. At an orderly end nothing is left, since [`Remover::close`] waits for
//! the thread.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use super::layout::{folder, paths, stdin_path};
use crate::job::{Claim, KEPT_ATTEMPTS, Unit};

/// Attempts of a job whose output may be there: those that are kept, and some before them where supervisors
/// have died in between.
const LEFT_ATTEMPTS: usize = 2 * KEPT_ATTEMPTS as usize;

/// With so many orders waiting there is no room for those of another page of history.
const MAX_PENDING: usize = 1000;

/// What the thread is told.
#[derive(Debug)]
enum FileOrder {
    /// Remove the output of all attempts of a job or a callback.
    Forget { unit: Unit, attempts: u32 },
    /// Remove the output of one attempt.
    RemoveOutput(Claim),
    /// Remove a spooled standard input.
    RemoveStdin(String),
}

/// See the module's description.
#[derive(Debug)]
pub struct Remover {
    orders: Sender<FileOrder>,
    /// Orders that have been given and not been carried out.
    pending: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Remover {
    /// Starts the thread. `notify` is called by the thread when there is room again.
    ///
    /// # Errors
    /// Those of pthread_create(3).
    pub fn start(state_dir: &Path, notify: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (orders, received) = channel();
        let pending = Arc::new(AtomicUsize::new(0));
        let (state_dir, theirs) = (state_dir.to_owned(), pending.clone());
        let thread = thread::Builder::new()
            .name("remover".to_owned())
            .spawn(move || work(&state_dir, &received, &theirs, notify))?;
        Ok(Self { orders, pending, thread })
    }

    /// Removes the output of all attempts of a job or a callback that history has forgotten.
    pub fn forget(&self, unit: Unit, attempts: u32) {
        self.order(FileOrder::Forget { unit, attempts });
    }

    /// Removes the output of one attempt. A client that reads it has it open.
    pub fn remove_output(&self, claim: Claim) {
        self.order(FileOrder::RemoveOutput(claim));
    }

    /// Removes a spooled standard input that no job needs any more.
    pub fn remove_stdin(&self, token: String) {
        self.order(FileOrder::RemoveStdin(token));
    }

    /// Whether another page of history may be forgotten. Where not, `notify` is called when it may be.
    pub fn has_room(&self) -> bool {
        self.pending.load(Ordering::Acquire) < MAX_PENDING
    }

    /// Carries out what has been ordered, then ends.
    pub fn close(self) {
        // The end of the channel, which the thread reads after all orders.
        drop(self.orders);
        if self.thread.join().is_err() {
            tracing::error!("bug: the thread that removes files has panicked");
        }
    }

    fn order(&self, order: FileOrder) {
        // Counted before the thread can have carried it out.
        self.pending.fetch_add(1, Ordering::AcqRel);
        if self.orders.send(order).is_err() {
            tracing::error!(
                "bug: the thread that removes files has ended; files are left in the state directory"
            );
        }
    }
}

fn work(state_dir: &Path, orders: &Receiver<FileOrder>, pending: &AtomicUsize, notify: impl Fn()) {
    let mut folders = FolderCache::default();
    for order in orders {
        match order {
            FileOrder::Forget { unit, attempts } => folders.forget(state_dir, unit, attempts),
            FileOrder::RemoveOutput(claim) => remove_output(state_dir, claim),
            FileOrder::RemoveStdin(token) => remove(&stdin_path(state_dir, &token)),
        }

        // An owner that has just found no room must hear of it when there is room: it looked before this
        // order was done, so that this order, or a later one, takes the count from the limit to below it.
        let before = pending.fetch_sub(1, Ordering::AcqRel);
        if before == MAX_PENDING {
            notify();
        }
    }
}

/// The last folder looked at, and whether it is there: that of many calls which have written nothing is not.
#[derive(Debug, Default)]
struct FolderCache {
    path: PathBuf,
    is_there: bool,
}

impl FolderCache {
    fn forget(&mut self, state_dir: &Path, unit: Unit, attempts: u32) {
        let path = folder(state_dir, unit);
        // A folder that was missing may have been made since.
        if self.path != path || !self.is_there {
            self.is_there = path.exists();
            self.path = path;
        }
        if !self.is_there {
            return;
        }

        let kept = match unit {
            Unit::Job(_) => LEFT_ATTEMPTS,
            Unit::Callback(_) => usize::MAX,
        };
        (1..=attempts).rev().take(kept).for_each(|attempt| remove_output(state_dir, Claim { unit, attempt }));
    }
}

fn remove_output(state_dir: &Path, claim: Claim) {
    let (stdout, stderr) = paths(state_dir, claim);
    remove(&stdout);
    remove(&stderr);
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "cannot remove a file of a job that is over");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::files::{output, spool};
    use crate::job::{CallbackId, JobId};

    const SOON: Duration = Duration::from_secs(60);

    fn write(state_dir: &Path, unit: Unit, attempt: u32, text: &[u8]) -> PathBuf {
        let (stdout, _) = paths(state_dir, Claim { unit, attempt });
        output::create(&stdout).unwrap().0.write_all(text).unwrap();
        stdout
    }

    #[test]
    fn what_is_ordered_is_done_at_an_orderly_end() {
        let dir = tempfile::tempdir().unwrap();
        let (job, callback) = (Unit::Job(JobId(7)), Unit::Callback(CallbackId(7)));
        let gone = [
            write(dir.path(), job, 1, b"one"),
            write(dir.path(), job, 2, b"two"),
            write(dir.path(), callback, 1, b"three"),
            write(dir.path(), Unit::Job(JobId(8)), 1, b"four"),
        ];
        let kept = write(dir.path(), Unit::Job(JobId(8)), 2, b"five");
        spool::create(dir.path(), "token").unwrap();

        let remover = Remover::start(dir.path(), || {}).unwrap();
        remover.forget(job, 2);
        remover.forget(callback, 1);
        remover.remove_output(Claim { unit: Unit::Job(JobId(8)), attempt: 1 });
        remover.remove_stdin("token".to_owned());
        // Of these there is nothing, not even a folder.
        remover.forget(Unit::Job(JobId(999_999)), 3);
        remover.close();
        assert!(gone.iter().all(|path| !path.exists()) && kept.exists());
        assert!(!stdin_path(dir.path(), "token").exists());
    }

    #[test]
    fn whoever_finds_no_room_hears_when_there_is_some() {
        let dir = tempfile::tempdir().unwrap();
        let (orders, received) = channel();
        let pending = Arc::new(AtomicUsize::new(0));
        let (go, waits) = mpsc::channel::<()>();
        let (told, hears) = mpsc::channel();
        let (state_dir, theirs) = (dir.path().to_owned(), pending.clone());
        let thread = thread::spawn(move || {
            waits.recv().unwrap();
            work(&state_dir, &received, &theirs, || told.send(()).unwrap());
        });
        let remover = Remover { orders, pending, thread };

        (0..MAX_PENDING as u64).for_each(|id| remover.forget(Unit::Job(JobId(id)), 1));
        assert!(!remover.has_room());
        go.send(()).unwrap();
        hears.recv_timeout(SOON).unwrap();
        assert!(remover.has_room());
        remover.close();
    }
}
