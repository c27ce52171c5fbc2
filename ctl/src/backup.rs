//! `poolctl backup`: copies poold's database while poold leaves it alone.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::libc::O_NOFOLLOW;
use pool_proto::interface::{Backup, BackupBegun, EndBackup, SCHEMA};

use crate::connect::Link;
use crate::print;

/// Makes a backup, under another name until it is whole.
///
/// # Errors
/// When the file exists, or the copy is not what it should be: then there is none.
pub fn run(link: &Link, file: &Path, as_json: bool) -> anyhow::Result<u8> {
    if fs::symlink_metadata(file).is_ok() {
        bail!("{} exists already: name a new file", file.display());
    }
    let mut client = link.connect_only()?;
    let part = Part::create(file)?;
    let begun = client.call(&Backup {})?;
    copy(&begun, &part.file)
        .with_context(|| format!("cannot copy {} to {}", begun.path, part.path.display()))?;
    client.call(&EndBackup {})?;
    part.become_file(file)?;
    report(file, begun.bytes, as_json)?;
    Ok(0)
}

fn copy(begun: &BackupBegun, to: &File) -> io::Result<()> {
    let from = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(&begun.path)?;
    let copied = io::copy(&mut from.take(begun.bytes), &mut &*to)?;
    if copied != begun.bytes {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than poold says"));
    }
    to.sync_all()
}

fn report(file: &Path, bytes: u64, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print::json(&serde_json::json!({ "schema": SCHEMA, "file": file, "bytes": bytes }));
    }
    print::text(&format!(
        "{}: {bytes} bytes; jobs, callbacks and environments, without output\n",
        file.display()
    ))
}

/// A copy that is not whole yet; removed unless it becomes so.
struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    fn create(file: &Path) -> anyhow::Result<Self> {
        let mut path = OsString::from(file);
        path.push(".part");
        let path = PathBuf::from(path);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let hint = || {
            format!("cannot create {}: remove it, should it be there, or name another file", path.display())
        };
        let file = file.with_context(hint)?;
        Ok(Self { path, file })
    }

    /// Never in the place of another file, and on disk when it is there.
    fn become_file(self, file: &Path) -> anyhow::Result<()> {
        let renamed = renameat2(AT_FDCWD, &self.path, AT_FDCWD, file, RenameFlags::RENAME_NOREPLACE);
        renamed.with_context(|| format!("cannot name the copy {}", file.display()))?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("cannot sync {}", folder.display()))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It is gone when it has got its name.
        let _ = fs::remove_file(&self.path);
    }
}
