//! The files that the attempts of one slot write to.
//!
//! Making a name takes a file system longer than a short job runs, and has the next sync of the database
//! write the file system's journal. So a slot keeps two blank files:
//!
//! ```text
//!   slots/pool.default.0.out ── an attempt writes nothing ─▶ it stays, for the next attempt
//!                          └─── has written, takes its time, or is looked at ─▶ 42/42137.1.out
//! ```
//!
//! An attempt gets a description of its own of a blank file. The file is another attempt's next only if it is
//! as it was when it was made and nobody else can write to it; and once it may have been opened by a reader
//! it has a name. Where the start of an attempt was told before its end, it is *lent*: a reader may open it
//! until the supervisor has heard of the end. What an attempt leaves that dies with its worker gets its name
//! by [`adopt`].

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, renameat};
use nix::libc;
use nix::sys::stat::{SFlag, fstatat};
use nix::unistd::linkat;

use super::layout::{
    OUTPUT_DEPTH, SLOTS, check_state_dir, open_beneath, open_folder_beneath, open_or_create_beneath,
    remove_odd,
};
use crate::kernel;

/// Standard output and standard error.
const SUFFIXES: [&str; 2] = ["out", "err"];

/// A regular file that only its owner may read and write, as it is made.
const PLAIN: u32 = SFlag::S_IFREG.bits() | 0o600;

/// See the module's description.
#[derive(Debug)]
pub struct SlotOutput {
    paths: [PathBuf; 2],
    blanks: [Option<Blank>; 2],
    /// An attempt is over whose file could not get its name: while that is so, there is none for the next.
    unnamed: [Option<PathBuf>; 2],
    /// The names of what the last attempt has left blank, where readers may open it.
    lent: [Option<PathBuf>; 2],
}

/// A blank file, and the description that the next attempt is to have of it, opened while nobody waited.
#[derive(Debug)]
struct Blank {
    file: File,
    next: Option<File>,
}

impl From<File> for Blank {
    fn from(file: File) -> Self {
        Self { file, next: None }
    }
}

/// An attempt's two files.
#[derive(Debug)]
pub struct AttemptOutput {
    pub files: [File; 2],
    /// The names that they have, or are to have where they need one.
    names: [PathBuf; 2],
    is_named: bool,
}

/// How an attempt is over.
#[derive(Debug, Clone, Copy)]
pub struct Over {
    /// Nothing of it is left that could still write.
    pub is_gone: bool,
    /// Its start was told before its end: see the module's description.
    pub is_lent: bool,
}

impl Over {
    /// It has not been begun with.
    pub const UNTOUCHED: Self = Self { is_gone: true, is_lent: false };
}

impl SlotOutput {
    /// `prefix`: of the paths of the blank files.
    pub fn new(prefix: &Path) -> Self {
        Self { paths: blank_paths(prefix), blanks: [None, None], unnamed: [None, None], lent: [None, None] }
    }

    /// The files for an attempt, empty; and what had to be removed that lay in the place of one of the names,
    /// and was no plain file.
    ///
    /// # Errors
    /// Those of openat2(2) and unlink(2).
    pub fn begin(&mut self, names: [PathBuf; 2]) -> io::Result<(AttemptOutput, Vec<PathBuf>)> {
        self.name_left()?;
        let odd = clear_names(&names)?;
        let files = [self.open(0)?, self.open(1)?];
        Ok((AttemptOutput { files, names, is_named: false }, odd))
    }

    /// The attempt takes its time, or somebody looks at its files: they get their names.
    ///
    /// # Errors
    /// Those of rename(2).
    pub fn name(&mut self, attempt: &mut AttemptOutput) -> io::Result<()> {
        if !attempt.is_named {
            self.name_one(0, &attempt.names[0])?;
            self.name_one(1, &attempt.names[1])?;
            attempt.is_named = true;
        }
        Ok(())
    }

    /// The attempt is over.
    ///
    /// # Errors
    /// Those of rename(2); the next attempts have them, too, until the files could get their names.
    pub fn end(&mut self, attempt: AttemptOutput, over: Over) -> io::Result<()> {
        self.lent = [None, None];
        let AttemptOutput { files, names, is_named } = attempt;
        drop(files);
        if is_named {
            return Ok(());
        }
        for (which, name) in names.into_iter().enumerate() {
            let is_left =
                self.blanks[which].as_ref().is_some_and(|blank| !over.is_gone || !is_blank(&blank.file));
            if is_left {
                self.unnamed[which] = Some(name);
            } else if over.is_lent {
                self.lent[which] = Some(name);
            }
        }
        self.name_left()
    }

    /// The supervisor has heard of the end of the last attempt, and nobody has opened what that has left
    /// blank.
    pub fn take_back(&mut self) {
        self.lent = [None, None];
    }

    /// What the last attempt has left blank has been opened by a reader, or may be: it stays that attempt's,
    /// and gets its name before the next attempt.
    pub fn leave_lent(&mut self) {
        for (unnamed, lent) in self.unnamed.iter_mut().zip(&mut self.lent) {
            *unnamed = unnamed.take().or(lent.take());
        }
    }

    /// Makes the blank files that are missing, and opens both, while nobody waits for them.
    pub fn prepare(&mut self) {
        // Where that fails, the next attempt has the error.
        if self.name_left().is_err() {
            return;
        }
        for which in [0, 1] {
            if self.blanks[which].is_none() {
                // No folder is made: the state directory may be another one now.
                self.blanks[which] = create(&self.paths[which], open_beneath).ok().map(Blank::from);
            }
            if let Some(blank) = &mut self.blanks[which] {
                blank.next = describe(&blank.file).ok();
            }
        }
    }

    fn open(&mut self, which: usize) -> io::Result<File> {
        let blank = self.fill(which)?;
        let opened = blank.next.take().map_or_else(|| describe(&blank.file), Ok);
        opened.or_else(|_| {
            // It may have been made unreadable meanwhile.
            self.blanks[which] = None;
            self.fill(which)?.file.try_clone()
        })
    }

    fn fill(&mut self, which: usize) -> io::Result<&mut Blank> {
        let blank = match self.blanks[which].take() {
            Some(blank) => blank,
            None => create(&self.paths[which], open_or_create_beneath)?.into(),
        };
        Ok(self.blanks[which].insert(blank))
    }

    /// What ended attempts have left gets its names.
    fn name_left(&mut self) -> io::Result<()> {
        for which in [0, 1] {
            if let Some(name) = self.unnamed[which].take() {
                self.name_one(which, &name).inspect_err(|_| self.unnamed[which] = Some(name))?;
            }
        }
        Ok(())
    }

    fn name_one(&mut self, which: usize, name: &Path) -> io::Result<()> {
        if let Some(blank) = &self.blanks[which] {
            give_name(&self.paths[which], &blank.file, name)?;
            self.blanks[which] = None;
        }
        Ok(())
    }
}

/// A description of its own of a file that is open: what an attempt does to its flags ends with it.
fn describe(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().append(true).custom_flags(libc::O_NOCTTY).open(path)
}

fn give_name(path: &Path, blank: &File, name: &Path) -> io::Result<()> {
    // Where it is not in its place, that may be another state directory, in which nothing is made.
    let is_there = fs::symlink_metadata(path).is_ok();
    let folder = open_folder_beneath(name, OUTPUT_DEPTH, is_there)?;
    let new = file_name(name)?;
    let rename = || renameat(AT_FDCWD, path, &folder, new);
    match rename() {
        // Somebody has removed it, as he could remove it later.
        Err(Errno::ENOENT) if blank.metadata()?.nlink() == 0 => Ok(()),
        // Somebody has moved it.
        Err(Errno::ENOENT) => {
            let path = format!("/proc/self/fd/{}", blank.as_raw_fd());
            Ok(linkat(AT_FDCWD, path.as_str(), &folder, new, AtFlags::AT_SYMLINK_FOLLOW)?)
        }
        Err(Errno::EISDIR | Errno::ENOTEMPTY) => {
            remove_odd(name, OUTPUT_DEPTH)?;
            Ok(rename()?)
        }
        renamed => Ok(renamed?),
    }
}

/// Removes what lies in the place of an attempt's names: an attempt of the same number that nobody knows of
/// may have left it. Returns the names where that was no plain file.
fn clear_names(names: &[PathBuf; 2]) -> io::Result<Vec<PathBuf>> {
    let mut odd = Vec::new();
    let folder = match open_folder_beneath(&names[0], OUTPUT_DEPTH, false) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The folder is made when it is needed; the state directory is not.
            check_state_dir(&names[0], OUTPUT_DEPTH)?;
            return Ok(odd);
        }
        Err(_) => {
            remove_odd(&names[0], OUTPUT_DEPTH)?;
            return Ok(names.to_vec());
        }
    };
    for name in names {
        let file_name = file_name(name)?;
        let found = match fstatat(&folder, file_name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::ENOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        if found.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() || found.st_nlink != 1 {
            odd.push(name.clone());
        }
        remove_odd(name, OUTPUT_DEPTH)?;
    }
    Ok(odd)
}

/// Gives what is left of an attempt that died with its worker the attempt's names, where it has written
/// anything; the rest is removed. `prefix`: of the slot's blank files.
///
/// # Errors
/// Those of rename(2) and unlink(2).
pub fn adopt(prefix: &Path, names: Option<[PathBuf; 2]>) -> io::Result<()> {
    let paths = blank_paths(prefix);
    for (which, path) in paths.iter().enumerate() {
        let has_output = fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0);
        let adopted = match names.as_ref().filter(|_| has_output) {
            Some(names) => {
                let new = file_name(&names[which])?;
                let folder = open_folder_beneath(&names[which], OUTPUT_DEPTH, true)?;
                renameat(AT_FDCWD, path, &folder, new).map_err(io::Error::from)
            }
            None => fs::remove_file(path),
        };
        match adopted {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes what slots have left whose attempts nobody knows of.
///
/// # Errors
/// Those of readdir(3) and unlink(2).
pub fn clear(state_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(state_dir.join(SLOTS))? {
        let entry = entry?;
        let name = entry.file_name();
        // Nothing else is made here by poold.
        if name.as_bytes().starts_with(b"pool.") || name.as_bytes().starts_with(b"callbacks.") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What slots hold that has no name yet, in bytes.
pub fn unnamed_bytes(state_dir: &Path) -> u64 {
    let entries = fs::read_dir(state_dir.join(SLOTS)).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).fold(0, u64::saturating_add)
}

/// The paths of a slot's blank files.
pub fn blank_paths(prefix: &Path) -> [PathBuf; 2] {
    SUFFIXES.map(|suffix| {
        let mut path = prefix.as_os_str().to_owned();
        path.push(".");
        path.push(suffix);
        PathBuf::from(path)
    })
}

/// Nothing that lies there is opened.
fn create(path: &Path, open: fn(&Path, usize, OFlag) -> io::Result<File>) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_EXCL;
    match open(path, OUTPUT_DEPTH, flags) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove_odd(path, OUTPUT_DEPTH)?;
            open(path, OUTPUT_DEPTH, flags)
        }
        created => created,
    }
}

/// Whether a file is as it was when it was made, and nobody else can write to it.
fn is_blank(file: &File) -> bool {
    let is_plain = |found: fs::Metadata| found.len() == 0 && found.nlink() == 1 && found.mode() == PLAIN;
    file.metadata().is_ok_and(is_plain) && kernel::is_only_writer(file)
}

fn file_name(path: &Path) -> io::Result<&OsStr> {
    path.file_name().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const GONE: Over = Over::UNTOUCHED;
    const LENT: Over = Over { is_gone: true, is_lent: true };

    fn slot(dir: &Path) -> SlotOutput {
        SlotOutput::new(&dir.join("output/slots/pool.default.0"))
    }

    fn names(dir: &Path, id: u64) -> [PathBuf; 2] {
        SUFFIXES.map(|suffix| dir.join(format!("output/0/{id}.1.{suffix}")))
    }

    fn inode(file: &File) -> u64 {
        file.metadata().unwrap().ino()
    }

    #[test]
    fn whoever_writes_nothing_leaves_no_name_and_the_next_one_has_the_same_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut slot = slot(dir.path());
        let (silent, odd) = slot.begin(names(dir.path(), 1)).unwrap();
        assert!(odd.is_empty());
        let inodes = silent.files.each_ref().map(inode);
        slot.end(silent, GONE).unwrap();
        assert!(!dir.path().join("output/0").exists());

        let (mut talkative, _) = slot.begin(names(dir.path(), 2)).unwrap();
        assert_eq!(talkative.files.each_ref().map(inode), inodes);
        talkative.files[0].write_all(b"said").unwrap();
        slot.end(talkative, GONE).unwrap();
        assert_eq!(fs::read(&names(dir.path(), 2)[0]).unwrap(), b"said");
        assert!(!names(dir.path(), 2)[1].exists());

        let (next, _) = slot.begin(names(dir.path(), 3)).unwrap();
        assert_ne!(inode(&next.files[0]), inodes[0], "it is the talkative one's");
        assert_eq!(inode(&next.files[1]), inodes[1]);
    }

    #[test]
    fn a_file_that_somebody_else_can_write_to_is_nobody_elses_next() {
        let dir = tempfile::tempdir().unwrap();
        let mut slot = slot(dir.path());
        let (attempt, _) = slot.begin(names(dir.path(), 1)).unwrap();
        let mut kept = attempt.files[0].try_clone().unwrap();
        let inodes = attempt.files.each_ref().map(inode);
        slot.end(attempt, GONE).unwrap();
        kept.write_all(b"late").unwrap();

        let (next, _) = slot.begin(names(dir.path(), 2)).unwrap();
        assert_ne!(inode(&next.files[0]), inodes[0]);
        assert_eq!(inode(&next.files[1]), inodes[1]);
        assert_eq!(fs::read(&names(dir.path(), 1)[0]).unwrap(), b"late", "it is its own");
        slot.end(next, Over { is_gone: false, ..GONE }).unwrap();
        let (last, _) = slot.begin(names(dir.path(), 3)).unwrap();
        assert_ne!(inode(&last.files[1]), inodes[1], "something was left that may still write");
    }

    #[test]
    fn whoever_looks_at_a_file_looks_at_one_with_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut slot = slot(dir.path());
        let (mut attempt, _) = slot.begin(names(dir.path(), 1)).unwrap();
        let inodes = attempt.files.each_ref().map(inode);
        slot.name(&mut attempt).unwrap();
        assert!(names(dir.path(), 1).iter().all(|name| name.exists()));
        attempt.files[1].write_all(b"later").unwrap();
        slot.end(attempt, GONE).unwrap();
        assert_eq!(fs::read(&names(dir.path(), 1)[1]).unwrap(), b"later");

        let (next, _) = slot.begin(names(dir.path(), 2)).unwrap();
        assert!(next.files.each_ref().map(inode).iter().all(|other| !inodes.contains(other)));
    }

    #[test]
    fn what_a_reader_may_have_opened_is_nobody_elses_until_the_end_has_been_heard_of() {
        let dir = tempfile::tempdir().unwrap();
        let mut slot = slot(dir.path());
        let begin = |slot: &mut SlotOutput, id| slot.begin(names(dir.path(), id)).unwrap().0;
        let (quiet, told) = (begin(&mut slot, 1), LENT);
        let inodes = quiet.files.each_ref().map(inode);
        slot.end(quiet, told).unwrap();

        // Heard of, and nobody has looked.
        slot.take_back();
        let mut half = begin(&mut slot, 2);
        assert_eq!(half.files.each_ref().map(inode), inodes);
        half.files[0].write_all(b"said").unwrap();
        slot.end(half, told).unwrap();

        // The next one comes ahead of the news; or somebody has looked.
        slot.leave_lent();
        let mut next = begin(&mut slot, 3);
        assert!(next.files.each_ref().map(inode).iter().all(|other| !inodes.contains(other)));
        assert!(names(dir.path(), 2).iter().all(|name| name.exists()), "a late reader finds it, empty");

        // What comes late for an attempt before takes nothing from the one that runs.
        slot.leave_lent();
        next.files[0].write_all(b"its own").unwrap();
        slot.end(next, GONE).unwrap();
        assert_eq!(fs::read(&names(dir.path(), 3)[0]).unwrap(), b"its own");
    }

    #[test]
    fn what_lies_in_the_place_of_a_name_is_not_taken_for_output() {
        let dir = tempfile::tempdir().unwrap();
        let mut slot = slot(dir.path());
        let [out, err] = names(dir.path(), 1);
        fs::create_dir_all(err.join("a folder")).unwrap();
        fs::write(&out, "of an attempt that nobody knows of").unwrap();
        let (attempt, odd) = slot.begin([out.clone(), err.clone()]).unwrap();
        assert_eq!(odd, std::slice::from_ref(&err));
        assert!(!out.exists() && !err.exists());
        slot.end(attempt, GONE).unwrap();

        // A folder that is removed while an attempt runs is made anew.
        let (mut attempt, _) = slot.begin(names(dir.path(), 2)).unwrap();
        fs::remove_dir_all(dir.path().join("output/0")).unwrap();
        attempt.files[0].write_all(b"x").unwrap();
        slot.end(attempt, GONE).unwrap();
        assert_eq!(fs::read(&names(dir.path(), 2)[0]).unwrap(), b"x");
    }

    #[test]
    fn what_a_killed_attempt_had_written_gets_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().join("output/slots/pool.default.0");
        let mut slot = SlotOutput::new(&prefix);
        let (mut attempt, _) = slot.begin(names(dir.path(), 1)).unwrap();
        attempt.files[0].write_all(b"so far").unwrap();
        adopt(&prefix, Some(names(dir.path(), 1))).unwrap();
        assert_eq!(fs::read(&names(dir.path(), 1)[0]).unwrap(), b"so far");
        assert!(blank_paths(&prefix).iter().all(|path| !path.exists()));
        adopt(&prefix, None).unwrap();
    }
}
