//! `poolctl backup`: copies poold's database while poold leaves it alone.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
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

/// Copy poold's database into a new file
///
/// The copy has every job accepted so far, with callbacks and environments. Parameters and results of calls
/// that take more than 256 KiB are files of their own: where there are any, they are copied into a directory
/// beside the new file, FILE.values. Output and spooled input are files, too, and are not in the copy.
#[derive(Debug, Args)]
pub struct BackupOptions {
    /// The new file, which must not exist yet
    file: PathBuf,
}

impl BackupOptions {
    /// Makes a backup. The copy has another name until it is whole.
    ///
    /// # Errors
    /// When the file or its directory of values exists already, or the copy is not whole. Then neither is
    /// left.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let file = self.file.as_path();
        if fs::symlink_metadata(file).is_ok() {
            bail!("{} exists already: name a new file", file.display());
        }

        let [values, values_part] = [".values", ".values.part"].map(|suffix| beside(file, suffix));
        for path in [&values, &values_part] {
            if fs::symlink_metadata(path).is_ok() {
                bail!("{} exists already: name another file, or move it away", path.display());
            }
        }

        let mut client = context.link.connect_only()?;
        let noted = noted()?;
        let part = Part::create(file)?;
        let values_part = Folder(values_part);
        leave_nothing(noted, vec![part.path.clone(), values_part.0.clone()]);

        // Between these two requests poold leaves its database alone.
        let begun = client.request(&Backup {})?;
        copy(&begun, &part.file)
            .with_context(|| format!("cannot copy {} to {}", begun.path, part.path.display()))?;
        let copied = copy_values(&begun, &values_part.0)
            .with_context(|| format!("cannot copy large values to {}", values_part.0.display()))?;
        client.request(&EndBackup {})?;

        // First what the file speaks of.
        if copied > 0 {
            give_name(&values_part.0, &values)?;
        }
        part.become_file(file).inspect_err(|_| _ = fs::remove_dir_all(&values))?;
        let told = report(file, begun.bytes, (copied > 0).then_some(&values), context.as_json);
        text::or_untold(told, format_args!("the backup {} is whole", file.display()))?;
        Ok(ExitReason::Success)
    }
}

/// The signals that end poolctl, noted from now on.
fn noted() -> anyhow::Result<Vec<(i32, UnixStream)>> {
    [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter().map(|signal| Ok((signal, note(signal)?))).collect()
}

/// A signal ends poolctl as ever, and takes the copy along. The stream of an ignored signal is at its end.
fn leave_nothing(noted: Vec<(i32, UnixStream)>, parts: Vec<PathBuf>) {
    for (signal, mut stream) in noted {
        let parts = parts.clone();
        thread::spawn(move || {
            if stream.read(&mut [0]).is_ok_and(|count| count > 0) {
                // They may have got their names by now.
                for part in parts {
                    let _ = fs::remove_file(&part);
                    let _ = fs::remove_dir_all(&part);
                }
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

/// Copies the files of large values, which poold leaves where they are meanwhile; how many. There is no
/// directory where there are none.
fn copy_values(begun: &BackupBegun, to: &Path) -> io::Result<usize> {
    let from = begun.path.to_path().with_file_name("values");
    let entries = match fs::read_dir(&from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut copied = 0;
    for entry in entries {
        let name = entry?.file_name();
        let open = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(from.join(&name));
        // One that is gone was being removed before the backup began.
        let mut value = match open {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            value => value?,
        };
        if copied == 0 {
            DirBuilder::new().mode(0o700).create(to)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to.join(&name))?;
        io::copy(&mut value, &mut file)?;
        file.sync_all()?;
        copied += 1;
    }
    if copied > 0 {
        File::open(to)?.sync_all()?;
    }
    Ok(copied)
}

fn report(file: &Path, bytes: u64, values: Option<&PathBuf>, as_json: bool) -> anyhow::Result<()> {
    let values = values.map(|values| OsText::from(values.as_path()));
    if as_json {
        let mut report = serde_json::json!({ "schema": SCHEMA, "file": OsText::from(file), "bytes": bytes });
        if let Some(values) = values {
            report["values"] = serde_json::json!(values);
        }
        return json::print(&report);
    }
    let shown = |path: &OsText| printable(&path.to_string(), usize::MAX);
    let file = shown(&OsText::from(file));
    let values =
        values.map_or_else(String::new, |values| format!("; large values are in {}", shown(&values)));
    text::print(&format!("{file}: {bytes} bytes; jobs, callbacks and environments, without output{values}\n"))
}

/// A path that begins with that of the file.
fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(file);
    path.push(suffix);
    PathBuf::from(path)
}

/// Gives a copy its name, which must be free, and syncs the directory.
fn give_name(from: &Path, to: &Path) -> anyhow::Result<()> {
    let renamed = renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE);
    renamed.with_context(|| format!("cannot name the copy {}", to.display()))?;

    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot sync {}", folder.display()))
}

/// A directory of values that is not whole yet. It is removed unless it gets its name.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A copy that is not whole yet. It is removed unless it becomes whole.
struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    fn create(file: &Path) -> anyhow::Result<Self> {
        let path = beside(file, ".part");
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let cannot = format!("cannot create {}", path.display());
        let file = match file {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("{cannot}: it is there already; remove it, or name another file")
            }
            file => file.with_context(|| format!("{cannot}: name another file"))?,
        };
        Ok(Self { path, file })
    }

    /// Gives the copy its name, which must be free, and syncs the directory.
    fn become_file(self, file: &Path) -> anyhow::Result<()> {
        give_name(&self.path, file)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // The name is free already if the copy has become the file.
        let _ = fs::remove_file(&self.path);
    }
}
