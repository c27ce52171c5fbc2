//! Large values, parameters and answers of calls, each in a file that is written once and never changed. What
//! they belong to, and when nobody needs them any more, others know.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::layout::{VALUE_DEPTH, open_at, open_beneath, open_dir, open_or_create_beneath, value_path};

/// Bytes that are brought to the disk at once, so that the syncs of others are not behind a whole value.
const PIECE: usize = 1 << 20;

/// Writes a value; where `syncs`, it is on the disk then, with its name. No file of that token may exist.
///
/// # Errors
/// Those of openat2(2), write(2) and fsync(2). There is no such file then.
pub fn write(state_dir: &Path, token: &str, text: &[u8], syncs: bool) -> io::Result<()> {
    let path = value_path(state_dir, token);
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let file = open_or_create_beneath(&path, VALUE_DEPTH, flags)?;
    fill(&file, state_dir, text, syncs).inspect_err(|_| remove(state_dir, token))
}

fn fill(mut file: &File, state_dir: &Path, text: &[u8], syncs: bool) -> io::Result<()> {
    for piece in text.chunks(PIECE) {
        file.write_all(piece)?;
        if syncs {
            file.sync_data()?;
        }
    }
    if syncs {
        file.sync_all()?;
        // The names of the file and of its folder, which may be new.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let state_dir_fd = open_dir(state_dir)?;
        for name in ["values", "."] {
            File::from(open_at(&state_dir_fd, Path::new(name), flags, Mode::empty())?).sync_all()?;
        }
    }
    Ok(())
}

/// Reads a value of so many bytes.
///
/// # Errors
/// Those of openat2(2) and read(2); `InvalidData` where it is not what was written.
pub fn read(state_dir: &Path, token: &str, bytes: usize) -> io::Result<String> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    // A FIFO in its place would keep us waiting for its writer.
    let file = open_beneath(&value_path(state_dir, token), VALUE_DEPTH, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() != bytes as u64 {
        return Err(damaged("it is not what poold has written there"));
    }
    let mut text = Vec::with_capacity(bytes);
    io::Read::read_to_end(&mut io::Read::take(file, bytes as u64), &mut text)?;
    String::from_utf8(text).map_err(|_| damaged("it is no text any more"))
}

/// Removes a value.
pub fn remove(state_dir: &Path, token: &str) {
    let path = value_path(state_dir, token);
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "cannot remove the file of a value that nobody needs");
    }
}

/// The tokens of all values that are there.
pub fn list(state_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(value_path(state_dir, "")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_once_read_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let text = "x".repeat(3 * PIECE / 2);
        write(dir.path(), "a", text.as_bytes(), true).unwrap();
        let again = write(dir.path(), "a", b"", true);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(dir.path(), "a", text.len()).unwrap(), text);
        assert_eq!(list(dir.path()), ["a"]);

        let damaged = read(dir.path(), "a", text.len() - 1).unwrap_err();
        assert_eq!(damaged.kind(), io::ErrorKind::InvalidData);
        remove(dir.path(), "a");
        assert_eq!(read(dir.path(), "a", text.len()).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(list(dir.path()).is_empty());
    }

    #[test]
    fn no_link_is_followed() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(elsewhere.path().join("a"), "[1]").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("values")).unwrap();
        read(dir.path(), "a", 3).unwrap_err();
        write(dir.path(), "b", b"[1]", true).unwrap_err();
        assert!(!elsewhere.path().join("b").exists());
    }
}
