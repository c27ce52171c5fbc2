//! Locks by which one poold knows of another: on the state directory, and on the socket. The kernel drops
//! them with the last process that holds them, so that no lock outlives its daemon, however the daemon ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use pool_proto::location;

/// A file that stays locked as long as any process of this daemon lives, and names the guardian's pid.
#[derive(Debug)]
pub struct Lock(Flock<File>);

impl Lock {
    /// Takes the lock. `what`: what is locked, and `flag`, how another is chosen, for the message.
    ///
    /// # Errors
    /// That another poold has it, or what open(2) and flock(2) say.
    pub fn take(path: &Path, what: &str, flag: &str) -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(path);
        let file = file.with_context(|| format!("cannot use {what}: cannot open {}", path.display()))?;

        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self(lock)),
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                // Only for the message.
                let _ = file.read_to_string(&mut pid);
                let pid = pid.trim();
                let taken = location::PLACE_TAKEN;
                let who = if pid.is_empty() { taken.to_owned() } else { format!("{taken} (pid {pid})") };
                let kill = if pid.is_empty() { String::new() } else { format!(" or `kill {pid}`") };
                bail!(
                    "{who} uses {what}: end it with `poolctl shutdown`{kill}, or choose another with {flag}"
                );
            }
            Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// Writes this process's pid into the file, and gives the lock up to be held as a bare descriptor: the
    /// lock belongs to the open file, and lasts until the last copy of the descriptor is closed.
    ///
    /// # Errors
    /// Those of write(2) and dup(2).
    pub fn into_descriptor(mut self) -> io::Result<OwnedFd> {
        self.0.set_len(0)?;
        self.0.rewind()?;
        writeln!(self.0, "{}", std::process::id())?;

        let copy = self.0.try_clone()?;
        // Dropping the guard would unlock the file for every copy.
        std::mem::forget(self.0);
        Ok(copy.into())
    }
}
