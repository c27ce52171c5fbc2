//! Opening the database: creating the file, refusing what is not ours to write, the settings, and bringing an
//! older one up to date.
//!
//! A file that is refused is left exactly as it was. Damage is found where it is read; a full check would
//! take as long as the history.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::connection::{INCREMENTAL, SoundConnection};
use super::database::Database;
use super::home::Home;
use super::log;
use super::prune::History;
use super::records::Layout;
use super::values::Values;
use super::{FILE_NAME, Options, deadlines, dependents, meta, restore, schema, waits};
use crate::engine::Restored;
use crate::job::micros;

/// For another process that has the file: a database tool may be about to finish.
const PATIENCE: Duration = Duration::from_secs(1);

/// A database of an earlier poold with no more in use than this, in bytes, is rewritten so that it can
/// shrink. It is rewritten in memory.
const REWRITTEN_BYTES: i64 = 64 << 20;

/// The write-ahead log is cut to this size when a burst is over.
const WAL_SIZE_LIMIT: i64 = 64 << 20;

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use the state directory {dir:?}; create it, or name another with --state-dir")]
    Directory { dir: PathBuf, source: io::Error },
    #[error(
        "cannot create or use {file:?}; it must be a plain file of yours in a directory that you can write, \
         or name another with --state-dir"
    )]
    Create { file: PathBuf, source: io::Error },
    #[error(
        "cannot open {file:?}; it must be a plain file that may be read and written, in a directory that may be written"
    )]
    Access { file: PathBuf, source: rusqlite::Error },
    #[error(
        "{file:?} may only be read; make it and its directory writable, or name another with --state-dir"
    )]
    ReadOnly { file: PathBuf },
    #[error("{file:?} is in use by another process; end that one first (`fuser` names it)")]
    InUse { file: PathBuf },
    #[error("{file:?} belongs to another program; move it away, or name another directory with --state-dir")]
    Foreign { file: PathBuf },
    #[error(
        "{file:?} was written by a newer poold (its format is {found}, this one knows {known}); \
         start that one, or name another directory with --state-dir"
    )]
    Newer { file: PathBuf, found: i64, known: usize },
    #[error("{file:?} is damaged or no database; restore it from a backup, or move it away to begin anew")]
    Damaged { file: PathBuf, source: rusqlite::Error },
    #[error("cannot read or write {file:?}; check the disk and the room on it")]
    Failed { file: PathBuf, source: rusqlite::Error },
    #[error("cannot start the database's thread")]
    Thread(#[source] io::Error),
}

impl OpenError {
    /// Whether another process has the database, so that it is not ours to say what has become of its jobs.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

/// Opens or creates the database, and reads what a start needs.
pub fn open(state_dir: &Path, options: Options) -> Result<(Database, Restored), OpenError> {
    // SQLite's own refusal to follow links goes for the whole path, and a link on the way to the directory is
    // the user's own affair.
    let dir = fs::canonicalize(state_dir)
        .map_err(|source| OpenError::Directory { dir: state_dir.to_owned(), source })?;
    let file = dir.join(FILE_NAME);
    create(&dir, &file).map_err(|source| OpenError::Create { file: file.clone(), source })?;
    let layout = Layout {
        state_dir: state_dir.to_owned(),
        output_paths: options.output_paths,
        callback_paths: options.callback_paths,
        sync_stdin: options.sync_stdin,
        values: Values::new(state_dir, options.values),
    };
    let is_suspect = log::is_left(&file);
    let connection = connect(&file)?;
    let version = check_version(&connection, &file)?;
    let (restored, history) =
        prepare(&connection, version, &options).map_err(|error| explain(error, &file))?;
    if let Err(error) = make_shrinkable(&connection) {
        tracing::warn!(%error, "the database's file will not become smaller for now: it cannot be rewritten");
    }
    let home =
        Home::of(&layout.state_dir.join(FILE_NAME)).map_err(|source| OpenError::Directory { dir, source })?;
    let mut connection =
        SoundConnection::new(connection, state_dir.to_owned(), home, options.durability, is_suspect);
    if version < schema::current() {
        // Otherwise a sync that fails later might take the tables along, and nothing could be mended.
        connection.sync().map_err(|error| explain(error, &file))?;
    }
    Ok((Database::new(connection, layout, history), restored))
}

/// Opens a database anew that was open a moment ago.
pub fn reopen(file: &Path) -> rusqlite::Result<Connection> {
    let connection = open_connection(file)?;
    configure(&connection)?;
    // Reads the log: what is there from now on is what a start would find.
    connection.query_row("SELECT next_job FROM meta", [], |row| row.get::<_, i64>(0))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(connection)
}

/// Settings, migration and everything that a start needs to know. Only when all of it can be read is anything
/// changed for good.
fn prepare(
    connection: &Connection,
    version: usize,
    options: &Options,
) -> rusqlite::Result<(Restored, History)> {
    configure(connection)?;
    let transaction = connection.unchecked_transaction()?;
    schema::migrate(&transaction, version)?;
    let boot = options.boot.clone().after(&meta::last_boot(&transaction)?);
    if let Some(began_us) = boot.began_us {
        let now_us = began_us.saturating_add(micros(options.since_boot));
        waits::bound(&transaction, now_us)?;
        deadlines::bound(&transaction, now_us)?;
    }
    dependents::look_again(&transaction)?;
    let restored = restore::read(&transaction)?;
    let history = History::read(&transaction)?;
    transaction.commit()?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok((restored, history))
}

/// Earlier ones made files that never become smaller; a new file is right from its first page on.
fn make_shrinkable(connection: &Connection) -> rusqlite::Result<()> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let in_use = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
    if pragma("auto_vacuum")? == INCREMENTAL || in_use > REWRITTEN_BYTES {
        return Ok(());
    }
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.execute_batch("VACUUM")
}

/// Creates an empty file that only its owner may read; SQLite gives the files that it puts beside it the same
/// permissions.
fn create(dir: &Path, file: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    match options.open(file) {
        // A synced file is lost all the same when its name is not on disk.
        Ok(_) => File::open(dir)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }?;
    [file.to_owned(), log::path_of(file)].iter().try_for_each(|path| check(path))
}

/// SQLite would open what is there: for its log it follows links, whatever it was told of the database
/// itself.
fn check(path: &Path) -> io::Result<()> {
    let wrong = |what: &str| Err(io::Error::other(format!("{} {what}", path.display())));
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => wrong("is a link, or no plain file"),
        Ok(found) if found.uid() != geteuid().as_raw() => wrong(&format!("belongs to uid {}", found.uid())),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn open_connection(file: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(PATIENCE)?;
    // Until all that a start needs has been read, not even the log of a daemon that died is to be written
    // back into the file.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Before anything is read. Nobody else can hold up a commit or keep the log from being reset, no second
    // daemon can open the file, and no index of the log has to be shared through a file. Looking in with
    // `sqlite3` takes a copy of *.db and *.db-wal.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    Ok(connection)
}

fn connect(file: &Path) -> Result<Connection, OpenError> {
    let connection =
        open_connection(file).map_err(|source| OpenError::Access { file: file.to_owned(), source })?;
    match connection.is_readonly("main") {
        Ok(false) => Ok(connection),
        Ok(true) => Err(OpenError::ReadOnly { file: file.to_owned() }),
        Err(error) => Err(explain(error, file)),
    }
}

/// The version of a database that is ours, 0 for an empty one.
fn check_version(connection: &Connection, file: &Path) -> Result<usize, OpenError> {
    let read = || {
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((version, application, tables))
    };
    let file = file.to_owned();
    match read().map_err(|error| explain(error, &file))? {
        (0, _, 0) => Ok(0),
        (_, application, _) if application != schema::APPLICATION_ID => Err(OpenError::Foreign { file }),
        (found, ..) => match usize::try_from(found) {
            Ok(version) if version <= schema::current() => Ok(version),
            Ok(_) | Err(_) => Err(OpenError::Newer { file, found, known: schema::current() }),
        },
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // Before the file has its first page.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // What is promised is synced by the committer, when it is committed.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // The committer writes the log back itself, after the answers have gone out.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", WAL_SIZE_LIMIT)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // An I/O error on a mapped page is a SIGBUS instead of an error code.
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "cache_size", -4096)?; // KiB
    // Else SQLite prepares a statement anew for each value that it may choose another index for.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(96);
    Ok(())
}

fn explain(source: rusqlite::Error, file: &Path) -> OpenError {
    let file = file.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) | None => {
            OpenError::Damaged { file, source }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse { file },
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => OpenError::Access { file, source },
        Some(ErrorCode::ReadOnly) => OpenError::ReadOnly { file },
        Some(_) => OpenError::Failed { file, source },
    }
}
