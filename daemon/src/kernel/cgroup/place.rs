//! This daemon's control groups: found wherever a group of version 2 can be written, and one made below it
//! for each slot. No fixed path, no controllers needed; where there are none to be had, everything works
//! without.
//!
//! ```text
//!   the group that poold was started in
//!    └─ poold-DEV-INODE        named after the state directory: no two living daemons share one
//!        ├─ main               guardian, supervisor and workers; only where memory is switched on here
//!        ├─ pool-default-0     what slot 0 of the pool "default" runs
//!        └─ callbacks-0
//! ```
//!
//! A controller can be switched on only in a group that has no processes of its own (cgroups(7), "no internal
//! processes"), and what is in it besides poold is not ours to move. So that is done where poold has the
//! group to itself, as in a unit with `Delegate=yes`; otherwise what somebody else has switched on is used,
//! and the groups hold processes together without counting memory.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::unistd::{getpid, getppid};
use pool_proto::own_file;

use super::group::{Group, below, members, remove, write};
use crate::job::ProcessId;
use crate::kernel::identity::daemon_name;
use crate::kernel::{PATIENCE, read_proc};

const MAIN: &str = "main";

/// Where in the state directory the path of the groups is noted, for a start from somewhere else.
const NOTE: &str = "cgroup";

/// Longer than any path.
const MAX_NOTE: u64 = 8 << 10;

/// The group that this process was started in, and the place of this daemon's below it.
#[derive(Debug)]
pub struct GroupsPlace {
    /// The group that this process is in.
    here: PathBuf,
    /// The group that poold was started in.
    base: PathBuf,
    /// `poold-DEV-INODE`.
    name: String,
    note: PathBuf,
}

/// This daemon's groups.
#[derive(Debug)]
pub struct DaemonGroups {
    place: GroupsPlace,
    ours: PathBuf,
    has_memory: bool,
}

impl GroupsPlace {
    /// # Errors
    /// Why there is none, as a sentence.
    pub fn find(state_dir: &Path) -> Result<Self, String> {
        let read = |path: &str| read_proc(path).map_err(|error| format!("cannot read {path}: {error}"));
        let (mounts, membership) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
        let own = own_path(&membership).ok_or("the kernel has no control groups of version 2")?;
        // Whichever mount shows the group must show this process in it.
        let is_ours = |path: &PathBuf| members(path).contains(&own_pid());
        let here = candidates(&mounts, own).into_iter().find(is_ours);
        let here = here.ok_or("no mounted file system of type cgroup2 shows the group that poold is in")?;
        let name = daemon_name(state_dir)
            .map_err(|error| format!("cannot look at {}: {error}", state_dir.display()))?;
        // A supervisor that is started anew is where the last one has put the guardian.
        let main = Path::new(&name).join(MAIN);
        let base = here.ancestors().nth(if here.ends_with(main) { 2 } else { 0 }).unwrap_or(&here).to_owned();
        Ok(Self { here, base, name, note: state_dir.join(NOTE) })
    }

    /// Kills what is in the groups that an earlier daemon of the same state directory has left, and removes
    /// them. Returns how many of them had something in them.
    pub fn kill_leftovers(&self) -> usize {
        let noted = self.read_note().map(|text| PathBuf::from(text.trim_end()));
        let noted = noted.filter(|path| path.file_name().is_some_and(|name| name == self.name.as_str()));
        let ours = self.base.join(&self.name);
        let places = [Some(ours.clone()), noted.filter(|path| *path != ours)];
        places.into_iter().flatten().map(|path| self.kill_below(&path)).sum()
    }

    /// None where there is no note of poold's.
    fn read_note(&self) -> Option<String> {
        let mut text = String::new();
        let note = own_file::open(&self.note, OpenOptions::new().read(true)).ok()?;
        note.take(MAX_NOTE).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// In the place of whatever is there: a job of this user can put anything into the state directory.
    fn write_note(&self, ours: &Path) -> io::Result<()> {
        match fs::remove_file(&self.note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut note = own_file::open(&self.note, OpenOptions::new().write(true).create_new(true))?;
        writeln!(note, "{}", ours.display())
    }

    fn kill_below(&self, ours: &Path) -> usize {
        // All are killed before any is waited for, so that processes which do not end cost a start the
        // patience once.
        let paths: Vec<PathBuf> =
            below(ours).into_iter().filter(|path| !self.here.starts_with(path)).collect();
        let groups = paths.iter().filter_map(|path| Group::open(path).ok());
        let populated: Vec<Group> = groups.filter(Group::is_populated).collect();
        for group in &populated {
            group.kill();
        }

        let until = Instant::now() + PATIENCE;
        for group in &populated {
            if !group.end(until.saturating_duration_since(Instant::now())) {
                tracing::error!(
                    group = %group.path().display(),
                    "a control group of an earlier poold holds processes that do not end; \
                     poold no longer waits for them"
                );
            }
        }

        paths.iter().for_each(|path| remove_or_warn(path));
        if !self.here.starts_with(ours) {
            remove_or_warn(ours);
        }
        populated.len()
    }

    /// Makes this daemon's group, with the memory controller where it can be had.
    ///
    /// # Errors
    /// Why that cannot be done, and what to do about it, as a sentence.
    pub fn set_up(self) -> Result<DaemonGroups, String> {
        let ours = self.base.join(&self.name);
        let denied = |error: io::Error| {
            let base = self.base.display();
            format!(
                "the control group {base} cannot be written ({error}): \
                 start poold in one that is delegated to it"
            )
        };
        match fs::create_dir(&ours) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(denied(error)),
            _ => {}
        }
        // Who starts a process in another group must be able to write the nearest group above both.
        let is_writable =
            OpenOptions::new().write(true).open(self.base.join("cgroup.procs")).map(drop).map_err(denied);
        let kind = fs::read_to_string(ours.join("cgroup.type")).unwrap_or_default();
        let problem = match is_writable {
            Ok(()) if !matches!(kind.trim_end(), "domain" | "domain threaded") => {
                Some(format!("the control group {} is for threads only", self.base.display()))
            }
            Ok(()) => None,
            Err(problem) => Some(problem),
        };
        if let Some(problem) = problem {
            remove_or_warn(&ours);
            return Err(problem);
        }
        if let Err(error) = self.write_note(&ours) {
            tracing::warn!(%error, path = %self.note.display(), "cannot note where the control groups are");
        }
        let mut groups = DaemonGroups { place: self, ours, has_memory: false };
        groups.has_memory = groups.switch_memory_on();
        Ok(groups)
    }
}

impl DaemonGroups {
    /// A new group for a slot, which nothing runs in.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn of_slot(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.ours.join(name);
        // A group that has been killed is not as good as new (see `spawn::is_usable`).
        if let Err(error) = remove(&path) {
            let group = path.display();
            tracing::warn!(%error, %group, "cannot remove a control group; another one takes its place");
            return create_beside(&path);
        }
        match fs::create_dir(&path) {
            // Somebody has removed ours.
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(&path)?,
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        Ok(path)
    }

    /// Whether the groups count the memory of what is in them.
    pub fn has_memory(&self) -> bool {
        self.has_memory
    }

    /// Removes all of them at an orderly end: no attempt runs any more.
    pub fn remove(&self) {
        let slots = below(&self.ours).into_iter().filter(|path| !path.ends_with(MAIN));
        slots.for_each(|path| end_and_remove(&path));
        if self.ours.join(MAIN).exists() {
            self.move_back();
        }
        remove_or_warn(&self.ours);
        // The note may never have been written.
        let _ = fs::remove_file(&self.place.note);
    }

    fn switch_memory_on(&self) -> bool {
        let GroupsPlace { base, here, .. } = &self.place;
        if !has_word(&base.join("cgroup.controllers"), "memory") {
            return false;
        }
        let is_on = has_word(&base.join("cgroup.subtree_control"), "memory");
        if !is_on
            && let Err(error) =
                self.move_into_main().and_then(|moved| if moved { enable(base, "+memory") } else { Ok(()) })
        {
            let group = here.display();
            tracing::warn!(%error, %group, "cannot switch the memory controller on; memory is not counted");
            self.move_back();
            return false;
        }
        enable(&self.ours, "+memory").is_ok() && has_word(&self.ours.join("cgroup.subtree_control"), "memory")
    }

    /// Where the group holds guardian and supervisor and nobody else. False when somebody else is in it.
    fn move_into_main(&self) -> io::Result<bool> {
        let own = [own_pid(), ProcessId::new(getppid().as_raw())];
        let there = members(&self.place.base);
        if there.iter().any(|pid| !own.contains(pid)) {
            return Ok(false);
        }
        let main = self.ours.join(MAIN);
        fs::create_dir(&main)?;
        there.into_iter().try_for_each(|pid| write(&main.join("cgroup.procs"), &pid.to_string()))?;
        Ok(true)
    }

    /// Undoes [`move_into_main`](Self::move_into_main). Best effort: a service manager removes the whole
    /// group anyway.
    fn move_back(&self) {
        let (base, main) = (&self.place.base, self.ours.join(MAIN));
        let _ = enable(&self.ours, "-memory").and_then(|()| enable(base, "-memory"));
        for pid in members(&main) {
            let _ = write(&base.join("cgroup.procs"), &pid.to_string());
        }
        let _ = remove(&main);
    }
}

fn own_pid() -> ProcessId {
    ProcessId::new(getpid().as_raw())
}

fn enable(group: &Path, change: &str) -> io::Result<()> {
    write(&group.join("cgroup.subtree_control"), change)
}

fn has_word(path: &Path, word: &str) -> bool {
    fs::read_to_string(path).unwrap_or_default().split_ascii_whitespace().any(|other| other == word)
}

/// Workers are on their way out, and one that has only just started may be trying its group (see
/// `spawn::is_usable`): each does so once, so that the group stays empty after a time or two.
fn end_and_remove(path: &Path) {
    for _ in 0..3 {
        // What does not end now ends no sooner when it is killed once more.
        let has_ended = Group::open(path).is_ok_and(|group| group.end(PATIENCE));
        if remove(path).is_ok() {
            return;
        }
        if !has_ended {
            break;
        }
    }
    remove_or_warn(path);
}

/// A group of another name, where one holds a process that does not end.
fn create_beside(path: &Path) -> io::Result<PathBuf> {
    const NAMES: u32 = 1000;

    let mut last = io::ErrorKind::AlreadyExists.into();
    for number in 2..NAMES {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("-again-{number}"));
        let other = PathBuf::from(name);
        match remove(&other).and_then(|()| fs::create_dir(&other)) {
            Ok(()) => return Ok(other),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn remove_or_warn(path: &Path) {
    if let Err(error) = remove(path) {
        tracing::warn!(%error, group = %path.display(), "cannot remove a control group");
    }
}

/// From /proc/PID/cgroup (cgroups(7)): the path in the hierarchy of version 2, whose number is 0.
fn own_path(membership: &str) -> Option<&str> {
    membership.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Where a path of that hierarchy may be found, from /proc/PID/mountinfo (proc(5)): `36 35 0:28 ROOT POINT
/// OPTIONS ... - TYPE ...`.
fn candidates(mounts: &str, path: &str) -> Vec<PathBuf> {
    let candidate = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let below = Path::new(path).strip_prefix(root).ok()?;
        kind.starts_with("cgroup2 ").then(|| Path::new(&point).join(below))
    };
    mounts.lines().filter_map(candidate).collect()
}

/// Space, tab, newline and backslash are three octal digits after a backslash there.
fn unescape(text: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.into_iter().fold(text.to_owned(), |text, (code, meant)| text.replace(code, meant))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const MOUNTS: &str = "\
23 30 0:21 / /proc rw,nosuid shared:12 - proc proc rw
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:3 master:1 - cgroup2 cgroup2 rw,nsdelegate
42 31 0:38 /docker/abc /mnt/a\\040b rw - cgroup2 none rw
43 31 0:39 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
";

    /// A group of this test's own that goes with it.
    #[derive(Debug)]
    pub struct Scratch(PathBuf);

    impl Scratch {
        pub fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            remove_or_warn(&self.0);
        }
    }

    /// A new group, where this process may make one.
    pub fn group_or_skip(name: &str) -> Option<Scratch> {
        let made = GroupsPlace::find(Path::new("/")).and_then(|place| {
            let path = place.base.join(format!("poold-test-{}-{name}", std::process::id()));
            fs::create_dir(&path).map(|()| Scratch(path)).map_err(|error| error.to_string())
        });
        made.map_err(|why| eprintln!("SKIPPED, for want of a control group: {why}")).ok()
    }

    #[test]
    fn the_own_group_is_looked_for_below_every_mount_that_may_show_it() {
        let membership = "8:pids:/\n4:memory:/other\n0::/docker/abc/x y\n";
        let own = own_path(membership).unwrap();
        assert_eq!(own, "/docker/abc/x y");
        let found = candidates(MOUNTS, own);
        assert_eq!(
            found,
            [PathBuf::from("/sys/fs/cgroup/unified/docker/abc/x y"), PathBuf::from("/mnt/a b/x y")]
        );
        assert_eq!(candidates(MOUNTS, "/"), [PathBuf::from("/sys/fs/cgroup/unified/")]);
    }

    #[test]
    fn where_there_are_none_none_is_found() {
        assert_eq!(own_path("8:pids:/\n10::/x\n"), None);
        assert!(
            candidates(
                "43 31 0:39 / /sys/fs/cgroup/memory rw - cgroup cgroup rw\nrubbish\n- cgroup2 \n",
                "/"
            )
            .is_empty()
        );
    }

    #[test]
    fn leftovers_are_known_by_name_and_others_are_left_alone() {
        let Some(scratch) = group_or_skip("leftovers") else { return };
        let state = tempfile::tempdir().unwrap();
        let name = GroupsPlace::find(state.path()).unwrap().name;
        let note = state.path().join(NOTE);
        let place = || GroupsPlace {
            here: scratch.0.clone(),
            base: scratch.0.clone(),
            name: name.clone(),
            note: note.clone(),
        };
        let groups = place().set_up().unwrap();
        let path = groups.of_slot("pool-default-0").unwrap();
        let other = scratch.0.join("poold-0-0");
        fs::create_dir(&other).unwrap();
        let mut children = [&path, &other].map(|group| {
            let child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
            write(&group.join("cgroup.procs"), &child.id().to_string()).unwrap();
            child
        });

        // A start from somewhere else finds them by the note.
        let elsewhere = scratch.0.join("elsewhere");
        let place = GroupsPlace { here: elsewhere.clone(), base: elsewhere, ..place() };
        assert_eq!((place.kill_leftovers(), place.kill_leftovers()), (1, 0));
        assert!(!path.exists() && other.exists());
        assert!(!children[0].wait().unwrap().success());
        assert!(children[1].try_wait().unwrap().is_none());
        children[1].kill().unwrap();
        children[1].wait().unwrap();
    }

    #[test]
    fn nothing_of_the_groups_stays_after_an_orderly_end() {
        let Some(scratch) = group_or_skip("orderly") else { return };
        let state = tempfile::tempdir().unwrap();
        let place = GroupsPlace {
            here: scratch.0.clone(),
            base: scratch.0.clone(),
            name: "poold-1-2".to_owned(),
            note: state.path().join(NOTE),
        };
        let groups = place.set_up().unwrap();
        let path = groups.of_slot("callbacks-0").unwrap();
        fs::create_dir(path.join("a job's own")).unwrap();
        // What a worker has in it that has not ended yet.
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        write(&path.join("cgroup.procs"), &child.id().to_string()).unwrap();
        groups.remove();
        assert!(!child.wait().unwrap().success());
        assert!(below(&scratch.0).is_empty() && !state.path().join(NOTE).exists());
    }
}
