//! One control group (cgroups(7), version 2): whether anything is in it, and ending all that is. What is in
//! it cannot leave it by forking, by a session of its own or by another parent.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, fstat};

use crate::job::ProcessId;
use crate::kernel::end::{open_pidfd, send_signal};

/// While what has been killed takes its time, it is killed again after so long.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// Whether processes can be started in a group, and will run there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Usable,
    /// What is in it stands still, and so would what is started in it.
    Frozen,
    /// It has been removed.
    Gone,
}

/// A group that is there.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    folder: OwnedFd,
    events: File,
}

impl Group {
    /// # Errors
    /// Those of open(2): there is no such group.
    pub fn open(path: &Path) -> io::Result<Self> {
        let folder = open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self { folder, events: File::open(path.join("cgroup.events"))?, path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// To start processes in it.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Urgent data (`POLLPRI`) on it means that the answer of [`is_populated`](Self::is_populated) may be
    /// another now.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Whether a process is in it or below it that has not ended. A group that has been removed holds none.
    pub fn is_populated(&self) -> bool {
        let mut buffer = [0; 256];
        let count = self.events.read_at(&mut buffer, 0).unwrap_or(0);
        buffer[..count].split(|&byte| byte == b'\n').any(|line| line == b"populated 1")
    }

    /// Whether there are groups below it.
    pub fn has_folders(&self) -> bool {
        // A folder counts itself, the entry for it, and each folder in it.
        fstat(&self.folder).is_ok_and(|folder| folder.st_nlink > 2)
    }

    /// Whether there are groups below it, or it is gone itself.
    pub fn is_altered(&self) -> bool {
        self.has_folders() || self.condition() == Condition::Gone
    }

    pub fn condition(&self) -> Condition {
        let mut buffer = [0; 256];
        let Ok(count) = self.events.read_at(&mut buffer, 0) else { return Condition::Gone };
        let is_frozen = buffer[..count].split(|&byte| byte == b'\n').any(|line| line == b"frozen 1");
        if is_frozen { Condition::Frozen } else { Condition::Usable }
    }

    /// The files by which somebody may set limits or change what the group is, with what they say.
    pub fn settings(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let writable = entries.map(|entry| entry.path()).filter(|path| {
            is_setting(path)
                && fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o200 != 0)
        });
        let mut settings: Vec<_> =
            writable.filter_map(|path| fs::read(&path).ok().map(|text| (path, text))).collect();
        settings.sort_unstable();
        settings
    }

    /// Sends SIGKILL to all that is in it or below it. False when that is not allowed for anything of it.
    pub fn kill(&self) -> bool {
        match write(&self.path.join("cgroup.kill"), "1") {
            // Linux before 5.14.
            Err(error) if error.kind() == io::ErrorKind::NotFound => kill_each(&self.path),
            Err(error) => {
                let group = self.path.display();
                tracing::warn!(%error, %group, "cannot kill what is in a control group");
                false
            }
            Ok(()) => true,
        }
    }

    /// Kills all that is in it, and returns when nothing is left, or nothing that may be killed, or when
    /// `patience` is over. True when nothing is left.
    pub fn end(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while self.is_populated() {
            let left = until.saturating_duration_since(Instant::now());
            if !self.kill() || left.is_zero() {
                return false;
            }

            // An empty group is told at once. While what has been killed takes its time, it is killed again
            // now and then.
            let timeout = PollTimeout::try_from(left.min(KILL_AGAIN)).unwrap_or(PollTimeout::ZERO);
            let mut ready = [PollFd::new(self.events(), PollFlags::POLLPRI)];
            if let Err(error) = poll(&mut ready, timeout)
                && error != Errno::EINTR
            {
                return false;
            }
        }
        true
    }
}

/// Kills process by process, for kernels that cannot kill a group. What a process has forked meanwhile is
/// found by the next call.
fn kill_each(path: &Path) -> bool {
    let mut is_any_killed = false;
    for pid in members(path) {
        // Looked at once more when the descriptor holds it, lest the pid has come to mean another.
        if let Some(pidfd) = open_pidfd(pid)
            && members(path).contains(&pid)
        {
            is_any_killed |= send_signal(&pidfd, Signal::SIGKILL);
        }
    }
    for group in below(path) {
        is_any_killed |= kill_each(&group);
    }
    is_any_killed
}

/// Writes to one of a group's files, which is there or not: none can be created.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all(text.as_bytes())
}

/// Whether what a writable file says is what somebody has written there, rather than what happens in the
/// group.
fn is_setting(path: &Path) -> bool {
    const COMMANDS: [&str; 4] = ["cgroup.procs", "cgroup.threads", "cgroup.kill", "memory.reclaim"];
    const COUNTERS: [&str; 5] = ["stat", "current", "peak", "events", "pressure"];

    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let last = name.rsplit('.').next().unwrap_or(name);
    !COMMANDS.contains(&name) && !COUNTERS.contains(&last)
}

/// The processes in the group itself.
pub fn members(path: &Path) -> Vec<ProcessId> {
    let list = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|line| line.parse().ok()).map(ProcessId::new).collect()
}

/// The groups right below one.
pub fn below(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Removes a group with all below it, where nothing is in them any more.
///
/// # Errors
/// Those of rmdir(2); that it is not there is none.
pub fn remove(path: &Path) -> io::Result<()> {
    for group in below(path) {
        remove(&group)?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::kernel::PATIENCE;
    use crate::kernel::cgroup::place::tests::group_or_skip;

    #[test]
    fn what_is_in_a_group_ends_with_it() {
        let Some(scratch) = group_or_skip("group-end") else { return };
        for kill in [Group::kill as fn(&Group) -> bool, |group| kill_each(group.path())] {
            let path = scratch.path().join("slot");
            fs::create_dir_all(path.join("inner")).unwrap();
            let group = Group::open(&path).unwrap();
            assert!(!group.is_populated() && group.is_altered());
            let mut children: Vec<_> =
                (0..2).map(|_| Command::new("sleep").arg("600").spawn().unwrap()).collect();
            for (child, place) in children.iter().zip([path.clone(), path.join("inner")]) {
                write(&place.join("cgroup.procs"), &child.id().to_string()).unwrap();
            }
            assert!(group.is_populated());
            assert!(kill(&group));
            for child in &mut children {
                assert!(!child.wait().unwrap().success());
            }
            assert!(group.end(PATIENCE));
            assert!(!group.is_populated());
            remove(&path).unwrap();
            assert!(group.is_altered() && !group.is_populated());
        }
    }
}
