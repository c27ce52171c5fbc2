//! Files that poold keeps for itself. A file of somebody else, a link, a FIFO or a device in such a place is an
//! error: nothing is read from there, and nothing written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;

/// Opens such a file; a new one is for its owner only. `options` must not truncate: what is truncated would be
/// so before it is looked at.
///
/// # Errors
/// What is wrong with the file, as a sentence, or those of open(2).
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = options.mode(0o600).custom_flags(flags.bits()).open(path).map_err(explain)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it belongs to uid {}", metadata.uid()),
        ));
    }
    Ok(file)
}

fn explain(error: io::Error) -> io::Error {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ELOOP) => io::Error::other("it is a link, or behind too many"),
        // A FIFO that nobody reads, or a socket.
        Some(Errno::ENXIO) => io::Error::other("it is no plain file"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_plain_file_is_opened() {
        let dir = std::env::temp_dir().join(format!("own-file-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let [plain, link, fifo] = ["plain", "link", "fifo"].map(|name| dir.join(name));
        let open = |path: &Path| super::open(path, OpenOptions::new().read(true).append(true).create(true));
        open(&plain).unwrap();
        open(&plain).unwrap();

        std::os::unix::fs::symlink(&plain, &link).unwrap();
        assert!(open(&link).unwrap_err().to_string().contains("link"));

        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(open(&fifo).unwrap_err().to_string().contains("plain"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
