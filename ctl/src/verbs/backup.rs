//! `poolctl backup`: copies poold's database while poold leaves it alone.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, bail};
use clap::Args;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::libc::O_NOFOLLOW;
use pool_proto::OsText;
use pool_proto::methods::{Backup, BackupBegun, EndBackup};
use pool_proto::nouns::SCHEMA;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::emulate_default_handler;

use super::Context;
use crate::exit::ExitReason;
use crate::follow::note;
use crate::term::json;
use crate::term::text::{self, printable};

/// Copy poold's database, with every job accepted so far, into a new file
///
/// The copy has all jobs, callbacks and environments. Output and spooled input are files of their own, and
/// are not in it.
#[derive(Debug, Args)]
pub struct BackupOptions {
    /// The new file, which must not exist yet
    file: PathBuf,
}

impl BackupOptions {
    /// Makes a backup. The copy has another name until it is whole.
    ///
    /// # Errors
    /// When the file exists already, or the copy is not whole. Then no file is left.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let file = self.file.as_path();
        if fs::symlink_metadata(file).is_ok() {
            bail!("{} exists already: name a new file", file.display());
        }

        let mut client = context.link.connect_only()?;
        let noted = noted()?;
        let part = Part::create(file)?;
        leave_nothing(noted, &part.path);

        // Between these two requests poold leaves its database alone.
        let begun = client.request(&Backup {})?;
        copy(&begun, &part.file)
            .with_context(|| format!("cannot copy {} to {}", begun.path, part.path.display()))?;
        client.request(&EndBackup {})?;

        part.become_file(file)?;
        let told = report(file, begun.bytes, context.as_json);
        text::or_untold(told, format_args!("the backup {} is whole", file.display()))?;
        Ok(ExitReason::Success)
    }
}

/// The signals that end poolctl, noted from now on.
fn noted() -> anyhow::Result<Vec<(i32, UnixStream)>> {
    [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter().map(|signal| Ok((signal, note(signal)?))).collect()
}

/// A signal ends poolctl as ever, and takes the copy along. The stream of an ignored signal is at its end.
fn leave_nothing(noted: Vec<(i32, UnixStream)>, part: &Path) {
    for (signal, mut stream) in noted {
        let part = part.to_owned();
        thread::spawn(move || {
            if stream.read(&mut [0]).is_ok_and(|count| count > 0) {
                // It may have become the file by now.
                let _ = fs::remove_file(part);
                let _ = emulate_default_handler(signal);
            }
        });
    }
}

fn copy(begun: &BackupBegun, to: &File) -> io::Result<()> {
    let from = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(begun.path.to_path())?;
    let copied = io::copy(&mut from.take(begun.bytes), &mut &*to)?;
    if copied != begun.bytes {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than poold says"));
    }
    to.sync_all()
}

fn report(file: &Path, bytes: u64, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return json::print(
            &serde_json::json!({ "schema": SCHEMA, "file": OsText::from(file), "bytes": bytes }),
        );
    }
    let file = printable(&OsText::from(file).to_string(), usize::MAX);
    text::print(&format!("{file}: {bytes} bytes; jobs, callbacks and environments, without output\n"))
}

/// A copy that is not whole yet. It is removed unless it becomes whole.
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

    /// Gives the copy its name, which must be free, and syncs the directory.
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
        // The name is free already if the copy has become the file.
        let _ = fs::remove_file(&self.path);
    }
}
