//! The state directory: its owner and its permissions, the free space, and whether the database is one of
//! poold.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{Statvfs, statvfs};
use nix::unistd::geteuid;

use super::{Check, Level};

/// The first bytes of an SQLite database, and the place at which a database of poold has "pool"
/// (<https://sqlite.org/fileformat.html>).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const APPLICATION_ID: (usize, &[u8; 4]) = (68, b"pool");

/// The length of a log that should be emptied: nobody rotates the log of a daemon in the background.
const LONG_LOG: u64 = 100 << 20;

/// A smaller database is not the reason where a disk is full.
const LARGE: u64 = 64 << 20;

/// The checks of the state directory and of its files.
pub fn look(dir: &Path) -> Vec<Check> {
    let shown = dir.display();
    let metadata = match fs::symlink_metadata(dir) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![
                Check::note("state-directory", format!("{shown} is not there"))
                    .advise("poold creates it at its first start"),
            ];
        }
        Err(error) => {
            return vec![Check::problem("state-directory", format!("{shown} cannot be checked: {error}"))];
        }
    };

    let mut checks = vec![directory(dir, &metadata)];
    checks.extend(permissions(dir, &metadata, checks[0].level));
    checks.extend([database(dir), log(dir)].into_iter().flatten());
    checks.extend(room(dir));
    checks
}

fn directory(dir: &Path, metadata: &Metadata) -> Check {
    let (shown, us) = (dir.display(), geteuid().as_raw());
    let (mode, owner) = (mode(metadata), metadata.uid());
    if !metadata.is_dir() {
        return Check::problem("state-directory", format!("{shown} is no directory"))
            .advise("choose another with --state-dir");
    }

    if owner != us && us != 0 {
        return Check::problem("state-directory", format!("{shown} belongs to uid {owner}"))
            .advise("choose a directory of your own");
    }

    if mode & 0o077 != 0 {
        let text = format!("{shown} has mode {mode:03o}: others can see commands, environments and output");
        return Check::problem("state-directory", text).advise(format!("`chmod 700 {shown}`"));
    }
    Check::ok("state-directory", format!("{shown}, mode {mode:03o}"))
}

/// Checks the permissions of the files. As long as the directory is closed to others, nobody else gets to
/// them.
fn permissions(dir: &Path, owner: &Metadata, directory: Level) -> Vec<Check> {
    let names =
        ["poold.db", "poold.db-wal", "poold.db-shm", "poold.log", "output", "output/callbacks", "stdin"];
    let found =
        names.iter().filter_map(|name| Some((dir.join(name), fs::symlink_metadata(dir.join(name)).ok()?)));
    let (mut open, mut foreign): (Vec<PathBuf>, Vec<PathBuf>) = (Vec::new(), Vec::new());
    for (path, metadata) in found {
        if metadata.is_symlink() || metadata.uid() != owner.uid() {
            foreign.push(path);
        } else if mode(&metadata) & 0o077 != 0 {
            open.push(path);
        }
    }
    let list =
        |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");

    let mut checks = Vec::new();
    if !foreign.is_empty() {
        let text = format!("links, or files of another user: {}", list(&foreign));
        checks.push(
            Check::problem("permissions", text)
                .advise("poold creates no such files; find out who has put them there"),
        );
    }

    if !open.is_empty() {
        let text = format!("others may read or write {}", list(&open));
        let check = if directory >= Level::Problem {
            Check::problem("permissions", text)
        } else {
            Check::warning("permissions", text)
        };
        checks.push(check.advise(format!("`chmod go= {}`", list(&open))));
    }

    if checks.is_empty() {
        checks.push(Check::ok("permissions", "only the owner can use the files"));
    }
    checks
}

/// Checks the database. None if it cannot be read; the check of permissions tells why.
fn database(dir: &Path) -> Option<Check> {
    let path = dir.join("poold.db");
    let shown = path.display();
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(
                Check::note("database", format!("{shown} is not there"))
                    .advise("poold creates it at its first start"),
            );
        }
        Err(_) => return None,
    };

    let mut head = [0; 100];
    let (at, id) = APPLICATION_ID;
    let is_whole = file.read_exact(&mut head).is_ok() && head.starts_with(MAGIC);
    // A new database is still in its log, until that is first written back.
    let is_ours = head[at..at + id.len()] == *id || head[at..at + id.len()] == [0; 4];
    Some(match (is_whole, is_ours) {
        (true, true) => {
            let log = fs::metadata(dir.join("poold.db-wal")).map_or(0, |log| log.len());
            let bytes = file.metadata().map_or(0, |file| file.len());
            let text = format!("{} MiB, and {} MiB of log", bytes >> 20, log >> 20);
            match statvfs(dir) {
                Ok(system) if bytes + log > free_bytes(&system).max(LARGE) => {
                    Check::warning("database", format!("{text}, more than is free on its disk")).advise(
                        "make room, or have less kept: `[history]` in the configuration has max_jobs and \
                     max_age; a backup goes to another disk",
                    )
                }
                Ok(_) | Err(_) => Check::ok("database", text),
            }
        }
        (true, false) => Check::problem("database", format!("{shown} belongs to another program"))
            .advise("choose another state directory"),
        (false, _) => Check::problem("database", format!("{shown} is no database, or damaged"))
            .advise("put a backup in its place while poold is not running (`poolctl backup` makes them)"),
    })
}

fn log(dir: &Path) -> Option<Check> {
    let path = dir.join("poold.log");
    let bytes = fs::metadata(&path).ok()?.len();
    let text = format!("{}, {} MiB", path.display(), bytes >> 20);
    Some(match bytes {
        LONG_LOG.. => Check::note("log", text)
            .advise(format!("`: >{}` empties it, and poold goes on writing", path.display())),
        _ => Check::ok("log", text),
    })
}

fn room(dir: &Path) -> Vec<Check> {
    const SCARCE: u64 = 16 << 20;
    const LOW: u64 = 1 << 30;
    const SCARCE_FILES: u64 = 100;
    let Ok(system) = statvfs(dir) else { return Vec::new() };
    let (free, all) = (free_bytes(&system), system.blocks() * system.fragment_size());

    let advice = "make room; with less, poold accepts no new jobs, and `[history]` in the configuration \
                  says how much is kept";
    let percent = |part: u64, whole: u64| (part as f64 / whole.max(1) as f64 * 100.0).round();
    let text = format!("{} MiB are free ({} %)", free >> 20, percent(free, all));

    let mut checks = vec![match free {
        ..SCARCE => Check::problem("disk-space", text).advise(advice),
        ..LOW if free < all / 20 => Check::warning("disk-space", text).advise(advice),
        _ => Check::ok("disk-space", text),
    }];

    // Some file systems create inodes when they are needed, and have no number of them.
    let (free, all) = (system.files_available(), system.files());
    if all > 0 {
        let text = format!("{free} files can be made ({} %)", percent(free, all));
        checks.push(match free {
            ..SCARCE_FILES => Check::problem("inodes", text).advise(advice),
            _ if free < all / 100 => Check::warning("inodes", text).advise(advice),
            _ => Check::ok("inodes", text),
        });
    }
    checks
}

fn free_bytes(system: &Statvfs) -> u64 {
    system.blocks_available() * system.fragment_size()
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}
