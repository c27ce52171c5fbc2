//! Standard inputs on their way in: files that a client writes before the job that will read them is
//! submitted.
//!
//! The part of poold that accepts submissions decides whose a file is, and when nobody needs it any more.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::layout::{STDIN_DEPTH, open_at, open_beneath, open_dir, open_or_create_beneath, stdin_path};

/// Creates the file for a standard input. No file of that token may exist.
///
/// # Errors
/// Those of openat2(2).
pub fn create(state_dir: &Path, token: &str) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    open_or_create_beneath(&stdin_path(state_dir, token), STDIN_DEPTH, flags)
}

/// Opens a spooled standard input for reading.
///
/// # Errors
/// Those of openat2(2); `InvalidData` where it is no plain file any more.
pub fn open(path: &Path) -> io::Result<File> {
    // A FIFO in its place would keep us waiting for its writer.
    let file = open_beneath(path, STDIN_DEPTH, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no plain file any more"));
    }
    Ok(file)
}

/// Brings a spooled standard input to the disk, and its name.
///
/// # Errors
/// Those of openat2(2) and fsync(2).
pub fn sync(state_dir: &Path, token: &str) -> io::Result<()> {
    open(&stdin_path(state_dir, token))?.sync_all()?;

    let folder = open_at(
        &open_dir(state_dir)?,
        Path::new("stdin"),
        OFlag::O_RDONLY | OFlag::O_DIRECTORY,
        Mode::empty(),
    )?;
    File::from(folder).sync_all()
}

/// The tokens of all spooled inputs that are there and are not among the `needed`: what an earlier start has
/// left.
pub fn abandoned(state_dir: &Path, needed: &HashSet<String>) -> Vec<String> {
    let entries = fs::read_dir(stdin_path(state_dir, "")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|token| !needed.contains(token))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn an_input_is_written_once_and_found_when_nobody_needs_it() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), "a").unwrap().write_all(b"text").unwrap();
        create(dir.path(), "b").unwrap();
        assert_eq!(create(dir.path(), "a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        sync(dir.path(), "a").unwrap();

        let mut text = String::new();
        open(&stdin_path(dir.path(), "a")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert_eq!(abandoned(dir.path(), &HashSet::from(["a".to_owned()])), ["b"]);
    }
}
