//! A disk for poold's state, and only for that, which is full now and then: a tmpfs in a mount namespace of
//! the soak's own, made no larger than what is in it, and large again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::statvfs;
use rand::RngExt;
use rand::rngs::StdRng;

/// More than all records of a long soak and the output that is kept of them.
const BYTES: u64 = 8 << 30;

/// poold looks once a second whether there is room again.
const LOOKS: Duration = Duration::from_secs(2);

/// So long after there is room again poold may still refuse.
const PATIENCE: Duration = Duration::from_secs(15);

/// See the module's description.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
    room: Mutex<Room>,
}

#[derive(Debug, Default)]
struct Room {
    /// Full until then.
    full_until: Option<Instant>,
    given_back: Option<Instant>,
    /// Nobody is to be killed until then.
    calm_until: Option<Instant>,
}

impl Disk {
    /// Mounts it at a folder that it makes.
    ///
    /// # Errors
    /// Why it is not to be had.
    pub fn mount(at: &Path) -> Result<Self, String> {
        let none = None::<&str>;
        // Of the thread that starts all others.
        unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
            .map_err(|error| format!("no mount namespace: {error}"))?;
        fs::create_dir(at).map_err(|error| error.to_string())?;
        let options = format!("mode=700,size={BYTES}");
        mount(Some("chaos"), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .map_err(|error| format!("no tmpfs: {error}"))?;
        Ok(Self { at: at.to_owned(), room: Mutex::default() })
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().expect("nobody panics")
    }

    /// Whether it is full, or has been of late: whatever poold cannot do is explained.
    pub fn is_or_was_full(&self) -> bool {
        let room = self.room();
        room.full_until.is_some() || room.given_back.is_some_and(|at| at.elapsed() < PATIENCE)
    }

    /// Whether poold is to live through it, until it has noticed that there is room again.
    pub fn is_calm(&self) -> bool {
        self.room().calm_until.is_some_and(|until| until > Instant::now())
    }

    /// Full from now on, for a while; false where it is so already.
    pub fn fill(&self, random: &mut StdRng) -> bool {
        let mut room = self.room();
        if room.full_until.is_some() {
            return false;
        }
        let time = Duration::from_millis(random.random_range(200..5000));
        room.full_until = Some(Instant::now() + time);
        room.calm_until = random.random_bool(0.5).then(|| Instant::now() + time + LOOKS);
        // What is written between a look and a cut is not cut off.
        let is_cut = (0..1000).any(|_| self.used().and_then(|used| self.resize(used)).is_ok());
        assert!(is_cut, "a tmpfs can be made as small as what is in it");
        true
    }

    /// Where its time is over.
    pub fn give_back_in_time(&self) {
        if self.room().full_until.is_some_and(|until| until <= Instant::now()) {
            self.give_back();
        }
    }

    pub fn give_back(&self) {
        let mut room = self.room();
        if room.full_until.take().is_some() {
            self.resize(BYTES).expect("a tmpfs can be made larger");
            room.given_back = Some(Instant::now());
        }
    }

    fn used(&self) -> io::Result<u64> {
        let all = statvfs(&self.at)?;
        Ok((all.blocks() - all.blocks_free()) * all.fragment_size())
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        let (none, options) = (None::<&str>, format!("size={bytes}"));
        Ok(mount(none, &self.at, none, MsFlags::MS_REMOUNT, Some(options.as_str()))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever uses it still has it until he ends.
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}
