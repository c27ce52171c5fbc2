//! The connection to the database, kept sound: what is committed through it is what the next start would
//! find.
//!
//! A commit writes: it survives the death of poold. A sync of the log brings all that is committed to the
//! disk. The two are apart (`PRAGMA synchronous = NORMAL`), so that something can be done between them.
//!
//! It knows when a sync has failed and mends that, when the log has become long, and whether the files are
//! still in their place. What is written is others' business.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, Result, ffi};

use super::hold::Hold;
use super::home::Home;
use super::{Durability, FILE_NAME, fault, log, opening};

/// Pages of the write-ahead log beyond which it is written back into the database, 8 MiB. Afterwards it is
/// written from its beginning again, and overwriting syncs faster than growing does.
const WAL_PAGES: i64 = if cfg!(test) { 64 } else { 2048 };

/// Changes after which the log's length is looked at: one takes less than two pages of it, but for what is
/// large of it; and bytes of that.
const LOOK_EVERY: usize = WAL_PAGES as usize / 8;
const LOOK_EVERY_BYTES: usize = WAL_PAGES as usize * 1024;

/// Free pages that the file may have, besides a quarter of all: what is removed is soon needed again.
const FREE_PAGES: i64 = if cfg!(test) { 16 } else { 1024 };

/// Free pages that are given back in one transaction.
const PAGES_AT_ONCE: i64 = 512;

/// SQLite's number for it: free pages are given back when they are asked for.
pub const INCREMENTAL: i64 = 2;

/// How much room there must be on the disk for it not to count as full.
const PROBE_BYTES: i64 = 64 << 10;

/// What the log is made longer by at first, ahead of what is to come, in bytes. Then it is doubled, up to the
/// length at which it is written from its beginning again.
const LENGTHEN_BY: u64 = 512 << 10;
const LENGTHEN_TO: u64 = (WAL_PAGES as u64 * 5) << 10;

/// What the log has before its pages, and before each of them
/// (<https://www.sqlite.org/fileformat2.html#walformat>).
const LOG_HEADER: i64 = 32;
const FRAME_HEADER: i64 = 24;

/// See the module's description.
#[derive(Debug)]
pub struct SoundConnection {
    /// None while it cannot be opened anew.
    connection: Option<Connection>,
    /// How often it was opened anew: what was committed without a sync may be gone then.
    reopened: u64,
    /// A sync has failed, or may have: see [`log`].
    is_suspect: bool,
    /// The pages of the log when it was last written anew.
    rewritten_pages: i64,
    /// Not all of them could be read again: what was committed without a sync is gone.
    has_lost: bool,
    /// The log, for syncs.
    log: Option<File>,
    state_dir: PathBuf,
    home: Home,
    /// How long the log is known to be, in bytes: from [`LENGTHEN_TO`] on it is made no longer.
    log_length: u64,
    /// Changes since the log's length was last looked at.
    changes: usize,
    bytes: usize,
    /// The length of the log, in pages, at which it is next written back.
    checkpoint_at: i64,
    durability: Durability,
}

impl SoundConnection {
    /// `is_suspect`: the last one who had it open did not close it in order.
    pub fn new(
        connection: Connection,
        state_dir: PathBuf,
        home: Home,
        durability: Durability,
        is_suspect: bool,
    ) -> Self {
        Self {
            connection: Some(connection),
            reopened: 0,
            is_suspect,
            rewritten_pages: 0,
            has_lost: false,
            log: None,
            state_dir,
            home,
            log_length: 0,
            changes: 0,
            bytes: 0,
            checkpoint_at: WAL_PAGES,
            durability,
        }
    }

    pub fn get(&self) -> Result<&Connection> {
        let anew = || failure(ffi::SQLITE_CANTOPEN, "it could not be opened anew".to_owned());
        self.connection.as_ref().ok_or_else(anew)
    }

    /// How often it was opened anew. What is known of rows by heart is then to be forgotten.
    pub fn reopened(&self) -> u64 {
        self.reopened
    }

    /// Whether what is written now will be found by the next start.
    pub fn check_home(&self) -> Result<()> {
        self.home.check()
    }

    /// Whether what is promised is synced before it is answered.
    pub fn syncs(&self) -> bool {
        self.durability == Durability::Power
    }

    /// Begins a transaction of so many changes, which hold so many bytes.
    pub fn begin(&mut self, changes: usize, bytes: usize) -> Result<()> {
        self.check_home()?;
        self.mend()?;
        self.run("BEGIN IMMEDIATE")?;
        self.changes += changes;
        self.bytes += bytes;
        Ok(())
    }

    pub fn commit(&self) -> Result<()> {
        self.run("COMMIT")
    }

    /// Brings all that is committed to the disk. Where that fails, [`settle`](Self::settle) tells whether it
    /// is committed still.
    pub fn sync(&mut self) -> Result<()> {
        self.sync_log().map_err(|error| {
            (self.is_suspect, self.has_lost) = (true, false);
            // Where the files have gone in between, that is what has to be mended.
            self.check_home().err().unwrap_or_else(|| not_synced(&error))
        })
    }

    fn sync_log(&mut self) -> io::Result<()> {
        log::sync(self.log()?)
    }

    fn log(&mut self) -> io::Result<&File> {
        let log = match self.log.take() {
            Some(log) => log,
            None => log::open(&log::path_of(&self.state_dir.join(FILE_NAME)))?,
        };
        Ok(self.log.insert(log))
    }

    /// Mends the log after a sync that has failed; whether what was committed before that sync is there. The
    /// kernel may have forgotten it.
    pub fn settle(&mut self) -> Result<bool> {
        self.check_home()?;
        self.mend()?;
        Ok(!std::mem::take(&mut self.has_lost))
    }

    /// After an error, with which SQLite may have rolled back by itself.
    pub fn roll_back(&mut self, error: &Error) {
        if self.get().is_ok_and(|connection| !connection.is_autocommit())
            && let Err(error) = self.run("ROLLBACK")
        {
            tracing::error!(%error, "cannot roll back");
        }
        self.note(error);

        // At once, so that what is refused now is not found in the log by the next start.
        if let Err(error) = self.mend() {
            tracing::debug!(%error, "the log cannot be written anew");
        }
    }

    /// An error may say that what was written is not what is on the disk.
    fn note(&mut self, error: &Error) {
        self.is_suspect |= fault::is_of_sync(error);
    }

    /// After a sync has failed: has the whole log written anew, and looks at it as the next start would.
    /// Nothing is committed or written back before that has succeeded.
    fn mend(&mut self) -> Result<()> {
        if !self.is_suspect {
            return Ok(());
        }
        self.check_home()?;
        let file = self.state_dir.join(FILE_NAME);
        if self.connection.is_some() {
            let (pages, _) = self.log_pages("PRAGMA wal_checkpoint(NOOP)")?;
            let page: i64 = self.get()?.pragma_query_value(None, "page_size", |row| row.get(0))?;
            let length = if pages > 0 { LOG_HEADER + pages * (FRAME_HEADER + page) } else { 0 };
            log::rewrite(&file, length.unsigned_abs()).map_err(|error| not_synced(&error))?;
            self.rewritten_pages = pages;
        }
        (self.log, self.log_length) = (None, 0);
        if let Some(connection) = self.connection.take() {
            // What could be read of the log may be less than what it is thought to hold.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.close().map_err(|(_, error)| error)?;
        }
        self.connection = Some(opening::reopen(&file)?);
        self.reopened += 1;
        let (pages, _) = self.log_pages("PRAGMA wal_checkpoint(NOOP)")?;
        self.has_lost |= pages < self.rewritten_pages;
        self.is_suspect = false;
        Ok(())
    }

    fn run(&self, statement: &str) -> Result<()> {
        self.get()?.prepare_cached(statement)?.execute([])?;
        Ok(())
    }

    /// Whether there is room on the disk again: writes something and takes it back.
    pub fn probe(&mut self) -> Result<()> {
        self.mend()?;
        let probe = |this: &Self| {
            this.get()?.prepare_cached("UPDATE meta SET probe = zeroblob(?1)")?.execute([PROBE_BYTES])?;
            this.run("UPDATE meta SET probe = NULL")
        };
        probe(self).inspect_err(|error| self.note(error))
    }

    /// Writes the log back into the database once it has become long. For when nobody waits for an answer.
    pub fn checkpoint(&mut self, hold: &mut Hold) {
        match self.checkpoint_if_long(hold) {
            Ok(()) => {}
            // Nothing is lost, the log only grows on. Should there be no room for that either, the next
            // commit fails and says so.
            Err(error) => {
                tracing::warn!(%error, "cannot write the log back into the database");
                self.note(&error);
                self.checkpoint_at += WAL_PAGES;
            }
        }
    }

    fn checkpoint_if_long(&mut self, hold: &mut Hold) -> Result<()> {
        if self.is_suspect {
            return Ok(()); // The next commit mends that first.
        }
        if self.changes < LOOK_EVERY && self.bytes < LOOK_EVERY_BYTES && !hold.is_held() {
            return Ok(());
        }
        (self.changes, self.bytes) = (0, 0);
        let (pages, written_back) = self.log_pages("PRAGMA wal_checkpoint(NOOP)")?;
        hold.limit(pages);
        if pages >= self.checkpoint_at && pages > written_back && !hold.is_held() {
            self.log_pages("PRAGMA wal_checkpoint(PASSIVE)")?;
            self.checkpoint_at = WAL_PAGES;
        }
        Ok(())
    }

    /// Makes the log longer than what is in it, as long as it grows: where a sync finds that a file has
    /// grown, it has the file system's journal written, too, which takes as long as the sync itself. For when
    /// nobody waits for an answer.
    pub fn lengthen(&mut self) {
        if self.log_length >= LENGTHEN_TO || self.is_suspect || !self.syncs() {
            return;
        }
        if let Err(error) = self.lengthen_if_short() {
            // Nothing is lost, the log only grows by itself.
            tracing::debug!(%error, "the log cannot be made longer ahead");
            self.log_length = LENGTHEN_TO;
        }
    }

    fn lengthen_if_short(&mut self) -> Result<()> {
        let (pages, _) = self.log_pages("PRAGMA wal_checkpoint(NOOP)")?;
        let page: i64 = self.get()?.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let used = (LOG_HEADER + pages * (FRAME_HEADER + page)).unsigned_abs();
        let needed = used + LENGTHEN_BY / 2;
        if self.log_length >= needed {
            return Ok(());
        }

        self.check_home()?;
        let lengthened = self.log().and_then(|log| log::lengthen(log, needed, LENGTHEN_BY, LENGTHEN_TO));
        self.log_length = lengthened.map_err(|error| failure(ffi::SQLITE_IOERR_WRITE, error.to_string()))?;
        // With it goes whatever is committed and was not to be synced: should it fail, that has to be mended.
        self.sync()
    }

    /// Gives some free pages back; whether there are more to give. The last ones are written back at once,
    /// with which the file becomes smaller.
    pub fn shrink(&mut self) -> Result<bool> {
        let pragma =
            |this: &Self, name| this.get()?.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (free, pages) = (pragma(self, "freelist_count")?, pragma(self, "page_count")?);
        let gives = pragma(self, "auto_vacuum")? == INCREMENTAL;
        let excess = free - FREE_PAGES.max(pages / 4);
        if !gives || excess <= 0 {
            return Ok(false);
        }

        let count = excess.min(PAGES_AT_ONCE);
        self.begin(count.unsigned_abs() as usize, 0)?;
        if let Err(error) = self.give_back(count).and_then(|()| self.commit()) {
            self.roll_back(&error);
            return Err(error);
        }
        if excess > count {
            return Ok(true);
        }
        let written_back = self.log_pages("PRAGMA wal_checkpoint(PASSIVE)");
        written_back.inspect_err(|error| self.note(error)).map(|_| false)
    }

    /// A page for each row of the pragma's result.
    fn give_back(&self, pages: i64) -> Result<()> {
        let mut vacuum = self.get()?.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// The log's pages, and how many of them are written back, after a checkpoint of that mode.
    fn log_pages(&self, mode: &str) -> Result<(i64, i64)> {
        let mut checkpoint = self.get()?.prepare_cached(mode)?;
        checkpoint.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
    }

    /// Writes everything that is committed back into the file; its length in bytes.
    pub fn make_whole(&mut self) -> Result<u64> {
        self.check_home()?;
        self.mend()?;
        let (pages, written_back) =
            self.log_pages("PRAGMA wal_checkpoint(PASSIVE)").inspect_err(|error| self.note(error))?;
        if pages != written_back {
            return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None));
        }
        let count: i64 = self.get()?.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let size: i64 = self.get()?.pragma_query_value(None, "page_size", |row| row.get(0))?;
        Ok((count * size).unsigned_abs())
    }

    /// Closes the database. The log is written back and removed; where that fails, the next start does it.
    pub fn close(mut self) {
        let mended = self.mend();
        let Some(connection) = self.connection else { return };
        let kept = mended.or_else(|_| {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(|_| ())
        });
        if let Err(error) = kept.and_then(|()| connection.close().map_err(|(_, error)| error)) {
            tracing::warn!(%error, "cannot close the database in order; the next start mends that");
        }
    }
}

fn not_synced(error: &io::Error) -> Error {
    failure(ffi::SQLITE_IOERR_FSYNC, format!("its log cannot be synced: {error}"))
}

fn failure(code: i32, text: String) -> Error {
    Error::SqliteFailure(ffi::Error::new(code), Some(text))
}
