//! Locks by which one poold knows of another: on the state directory, and on the socket. The kernel drops
//! them with the last process that holds them, so that no lock outlives its daemon, however the daemon ends.
//!
//! The lock on the state directory belongs to the directory itself, which nobody can remove under it. Guardian
//! and supervisor hold it. The files `lock` and `SOCKET.lock` are the guardian's alone: by the first a start
//! tells a poold that lives from one whose guardian is dead and whose supervisor is about to end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use pool_proto::place::{self, Place};
use pool_proto::{location, own_file};

use super::trace::Trace;
use crate::job::ProcessId;
use crate::kernel;

/// How long a start waits for what a dead guardian has left: a sweep takes its patience, and then what has ended
/// is still written.
const DYING: Duration = Duration::from_secs(20);

/// From one look at a lock of such a poold to the next. flock(2) knows no timeout.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// No look at a lock takes that long, nor do the last steps of a process that ends.
const A_MOMENT: Duration = Duration::from_millis(200);

/// After so long somebody who reads stderr is told.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// A file that stays locked as long as this process lives, and names its pid.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
    trace: Trace,
}

impl Lock {
    /// Takes the lock. `what`: what is locked, and `flag`, how another is chosen, for the message.
    ///
    /// # Errors
    /// That another poold has it, or what open(2) and flock(2) say.
    pub fn take(path: &Path, what: &str, flag: &str) -> anyhow::Result<Self> {
        let cannot = || format!("cannot use {what}: cannot open {}", path.display());
        let file = open_note(path).with_context(cannot)?;
        match lock_soon(file) {
            Ok(file) => Ok(Self { file, trace: Trace::of(path).with_context(cannot)? }),
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                // Only for the message.
                let _ = file.read_to_string(&mut text);
                let pid = text.lines().next().and_then(|pid| pid.parse().ok());
                Err(taken(pid, what, flag))
            }
            Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// Whether the file is where others look for it.
    pub fn is_in_place(&self) -> bool {
        self.trace.is_in_place()
    }

    pub fn path(&self) -> &Path {
        self.trace.path()
    }

    /// Writes the guardian's pid, and the socket where it is known.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn write(&mut self, socket: Option<&Path>) -> io::Result<()> {
        let pid = i32::try_from(std::process::id()).expect("pids are positive and fit pid_t");
        self.file.rewind()?;
        self.file.set_len(0)?;
        self.file.write_all(&Place { pid, socket: socket.map(Path::to_owned) }.to_bytes())
    }

    /// Says no longer that anybody is there.
    fn clear(&self) {
        // Best effort: whoever goes by it finds nobody.
        let _ = self.file.set_len(0);
    }
}

/// The lock on the state directory, and the file in it that says where this poold is.
#[derive(Debug)]
pub struct StateLock {
    dir: PathBuf,
    /// Device and inode of the directory that is locked.
    identity: (u64, u64),
    note: Lock,
}

impl StateLock {
    /// Takes the lock; waits for a poold whose guardian is dead. Returns besides what is to be held by the
    /// supervisor, too; the first is the directory.
    ///
    /// # Errors
    /// That another poold lives, or does not end.
    pub fn take(dir: &Path) -> anyhow::Result<(Self, Vec<OwnedFd>)> {
        let what = format!("the state directory {}", dir.display());
        let (held, is_locked) = lock_directory(dir, &what)?;
        let mut note = Lock::take(&dir.join(place::FILE_NAME), &what, "--state-dir")?;
        let found = File::from(held.try_clone()?).metadata()?;
        let identity = (found.dev(), found.ino());
        note.write(None).with_context(|| format!("cannot write {}", note.path().display()))?;

        let mut locks = vec![held];
        if !is_locked {
            locks.push(note.file.try_clone().context("cannot hold the lock")?.into());
        }
        Ok((Self { dir: dir.to_owned(), identity, note }, locks))
    }

    pub fn note(&self) -> &Path {
        self.note.path()
    }

    /// Says where this poold is; puts the file that says so in its place again.
    ///
    /// # Errors
    /// Those of open(2), flock(2) and write(2).
    pub fn announce(&mut self, socket: &Path) -> anyhow::Result<()> {
        if !self.note.is_in_place() {
            let found = fs::metadata(&self.dir)?;
            if (found.dev(), found.ino()) != self.identity {
                bail!("another state directory is in the place of this poold's");
            }
            let path = self.dir.join(place::FILE_NAME);
            // A link, say. The directory is ours alone.
            if open_note(&path).is_err() {
                let _ = fs::remove_file(&path);
            }
            self.note = Lock::take(&path, "the state directory", "--state-dir")?;
        }
        Ok(self.note.write(Some(socket))?)
    }

    pub fn is_in_place(&self) -> bool {
        self.note.is_in_place()
    }

    /// At the end: nobody listens any more.
    pub fn clear(&self) {
        self.note.clear();
    }
}

/// Locks the directory itself. False where the file system locks no directories: NFS takes a lock for one on
/// bytes, and a directory cannot be opened for writing.
fn lock_directory(dir: &Path, what: &str) -> anyhow::Result<(OwnedFd, bool)> {
    let open = || {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        OpenOptions::new().read(true).custom_flags(flags.bits()).open(dir)
    };
    let since = Instant::now();
    let mut is_told = false;
    loop {
        let directory = open().with_context(|| format!("cannot use {what}"))?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => {
                let copy = locked.try_clone().context("cannot hold the lock")?;
                // Dropping the guard would unlock the directory for every copy.
                std::mem::forget(locked);
                return Ok((copy.into(), true));
            }
            Err((_, Errno::EWOULDBLOCK)) => {}
            Err((directory, _)) => return Ok((directory.into(), false)),
        }

        // Whoever looks at the lock holds it for a moment, too (`place::is_held`).
        let pid = Place::read(dir).map(|place| place.pid);
        // In this order: who is gone by the second look has left the lock.
        let is_ending = pid.is_some_and(|pid| kernel::is_ending(ProcessId::new(pid)));
        if !is_ending && is_guarded(dir) {
            return Err(taken(pid, what, "--state-dir"));
        }
        if since.elapsed() > DYING {
            let who = location::PLACE_TAKEN;
            bail!(
                "{who} uses {what}: its guardian is dead, but its other processes do not end; \
                 `fuser {}` names them",
                dir.display()
            );
        }
        if since.elapsed() > TELL_AFTER && !is_told {
            is_told = true;
            // Nobody may be reading.
            let _ = writeln!(
                io::stderr(),
                "poold: waiting for the last processes of a poold whose guardian was killed"
            );
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Whether a guardian has the state directory. One that has been killed has it until it has ended.
fn is_guarded(dir: &Path) -> bool {
    let note = own_file::open(&dir.join(place::FILE_NAME), OpenOptions::new().read(true));
    note.is_ok_and(|note| {
        // Shared: two that look at once do not take each other for a guardian.
        matches!(Flock::lock(note, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
    })
}

/// Locks a file that others look at, who lock it for a moment, or that somebody has who is just ending.
///
/// # Errors
/// Those of flock(2), with the file.
pub fn lock_soon(mut file: File) -> Result<Flock<File>, (File, Errno)> {
    let since = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((again, Errno::EWOULDBLOCK)) if since.elapsed() < A_MOMENT => file = again,
            other => return other,
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn open_note(path: &Path) -> io::Result<File> {
    own_file::open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))
}

fn taken(pid: Option<i32>, what: &str, flag: &str) -> anyhow::Error {
    let taken = location::PLACE_TAKEN;
    let (who, kill) = match pid {
        Some(pid) => (format!("{taken} (pid {pid})"), format!(" or `kill {pid}`")),
        None => (taken.to_owned(), String::new()),
    };
    anyhow::anyhow!("{who} uses {what}: end it with `poolctl shutdown`{kill}, or choose another with {flag}")
}
