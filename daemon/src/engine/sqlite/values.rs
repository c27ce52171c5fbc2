//! Large values, which have files of their own: in a row there is the file's token instead, as
//! `@BYTES TOKEN`. No JSON begins so. What the files are, and where, is the business of whoever opens the
//! store.
//!
//! ```text
//!   keep ──▶ written, synced ──▶ the row is committed ──▶ ... ──▶ the row goes, is synced ──▶ removed
//!                   └── no row speaks of it after all, or poold dies: the next start ──────────▶ removed
//! ```
//!
//! A row speaks only of a file that is there and synced, and a file is removed only when it is synced that no
//! row speaks of it. The table `value_files` has all tokens, so that a start need not look through all jobs.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use pool_proto::{Json, WeakJson};
use rusqlite::{Connection, Result};

use crate::engine::{Told, ValueFile};
use crate::job::{JobId, LARGE_VALUE};

/// Remembered values beyond which those that nobody holds are looked for.
const REMEMBERED: usize = 64;

/// How the files are made and found, each by its token in the state directory.
#[derive(Debug, Clone, Copy)]
pub struct ValueFiles {
    /// Writes a value, and syncs it, where the last argument says so, with its name.
    pub write: fn(&Path, &str, &[u8], bool) -> io::Result<()>,
    /// Reads a value of so many bytes.
    pub read: fn(&Path, &str, usize) -> io::Result<String>,
    pub remove: fn(&Path, &str),
    pub list: fn(&Path) -> Vec<String>,
}

/// What a value is of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Params,
    /// What a call has returned, or its error.
    Answer,
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Self::Params => "params",
            Self::Answer => "answer",
        }
    }
}

/// The values as the rows have them.
#[derive(Debug)]
pub struct Values {
    state_dir: PathBuf,
    files: ValueFiles,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What others hold in memory anyway need not be read.
    at_hand: HashMap<ValueFile, WeakJson>,
    /// Files of which no row speaks any more: by the transaction under way, and by those before it, which may
    /// not be synced.
    freed: Vec<ValueFile>,
    unsynced: Vec<ValueFile>,
}

impl Values {
    pub fn new(state_dir: &Path, files: ValueFiles) -> Self {
        Self { state_dir: state_dir.to_owned(), files, state: RefCell::default() }
    }

    /// What the row of a job has instead of the value, which is in that file.
    pub fn keep(
        &self,
        connection: &Connection,
        id: JobId,
        part: Part,
        value: &Json,
        file: &ValueFile,
    ) -> Result<String> {
        let insert = "INSERT OR REPLACE INTO value_files (job, part, token) VALUES (?1, ?2, ?3)";
        connection.prepare_cached(insert)?.execute((id, part.as_str(), &**file))?;

        let at_hand = &mut self.state.borrow_mut().at_hand;
        if at_hand.len() >= REMEMBERED {
            at_hand.retain(|_, value| !value.is_gone());
        }
        at_hand.insert(file.clone(), value.downgrade());
        Ok(mark(value, file))
    }

    /// The value that a row has as this text.
    ///
    /// # Errors
    /// Why there is none, as a sentence for people, where its file is damaged or missing. None where the row
    /// is.
    pub fn read(&self, text: &str) -> std::result::Result<Json, Option<String>> {
        let Some(mark) = text.strip_prefix('@') else { return Json::parse(text).map_err(|_| None) };
        let (bytes, token) = mark.split_once(' ').ok_or(None)?;
        let bytes = bytes.parse().map_err(|_| None)?;
        let known = self.state.borrow().at_hand.get(token).and_then(WeakJson::upgrade);
        if let Some(value) = known {
            return Ok(value);
        }

        let text = (self.files.read)(&self.state_dir, token, bytes);
        let value = text.and_then(|text| Json::from_text(text).map_err(io::Error::from));
        value.map_err(|error| {
            let path = self.state_dir.join("values").join(token);
            let reason = format!("its file {} cannot be read: {error}", path.display());
            tracing::error!(reason, "a value is lost");
            Some(reason)
        })
    }

    /// No row speaks of that file, nor will one.
    pub fn give_up(&self, file: &ValueFile) {
        self.state.borrow_mut().freed.push(file.clone());
    }

    /// The row of a job that may have large values goes, or its values do, or one of them; whether there was
    /// one.
    pub fn free(&self, connection: &Connection, id: JobId, part: Option<Part>) -> Result<bool> {
        let select = "SELECT token FROM value_files WHERE job = ?1 AND (?2 IS NULL OR part = ?2)";
        let part = part.map(Part::as_str);
        let mut select = connection.prepare_cached(select)?;
        let tokens = select.query_map((id, part), |row| row.get::<_, String>(0))?;
        let tokens = tokens.map(|token| token.map(ValueFile::from)).collect::<Result<Vec<_>>>()?;
        if tokens.is_empty() {
            return Ok(false);
        }
        let delete = "DELETE FROM value_files WHERE job = ?1 AND (?2 IS NULL OR part = ?2)";
        connection.prepare_cached(delete)?.execute((id, part))?;
        self.state.borrow_mut().freed.extend(tokens);
        Ok(true)
    }

    /// What the transaction has freed is free once it is synced.
    pub fn committed(&self) {
        let state = &mut *self.state.borrow_mut();
        state.unsynced.append(&mut state.freed);
    }

    pub fn rolled_back(&self) {
        self.state.borrow_mut().freed.clear();
    }

    /// Whether a sync would allow files to be removed.
    pub fn has_freed(&self) -> bool {
        !self.state.borrow().unsynced.is_empty()
    }

    /// What was committed is synced: these files can be removed.
    pub fn take_freed(&self) -> Vec<ValueFile> {
        std::mem::take(&mut self.state.borrow_mut().unsynced)
    }

    /// Some of what was committed is lost, and is written again or not. The files that stay are found by the
    /// next start.
    pub fn lost(&self) {
        self.state.borrow_mut().unsynced.clear();
    }

    /// Files of which no row speaks: what an earlier poold was about to keep, or to remove.
    pub fn abandoned(&self, connection: &Connection) -> Result<Vec<ValueFile>> {
        let found = (self.files.list)(&self.state_dir);
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let mut select = connection.prepare("SELECT token FROM value_files")?;
        let needed = select.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<HashSet<_>>>()?;
        Ok(found.into_iter().filter(|token| !needed.contains(token)).map(ValueFile::from).collect())
    }
}

/// Whether an ended job whose history counts so many bytes may have large values.
pub fn may_have_files(held_bytes: u64) -> bool {
    held_bytes > LARGE_VALUE as u64
}

/// What a row has instead of a value that is in that file.
pub fn mark(value: &Json, file: &ValueFile) -> String {
    format!("@{} {file}", value.get().len())
}

/// What the thread is to do.
#[derive(Debug)]
enum Errand {
    Keep { ticket: u64, values: Vec<Json> },
    Remove(Vec<ValueFile>),
}

/// The thread that writes and removes the files. It begins with the first of them.
pub struct Keeper {
    files: ValueFiles,
    state_dir: PathBuf,
    syncs: bool,
    told: Sender<Told>,
    notify: Arc<dyn Fn() + Send + Sync>,
    /// Tells this start's tokens from those of earlier ones.
    prefix: u128,
    thread: Mutex<Option<(Sender<Errand>, JoinHandle<()>)>>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Keeper").field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}

impl Keeper {
    /// `notify` is called when something was told.
    pub fn new(
        state_dir: &Path,
        files: ValueFiles,
        syncs: bool,
        told: Sender<Told>,
        notify: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (state_dir, prefix) = (state_dir.to_owned(), now.as_micros());
        Self { files, state_dir, syncs, told, notify, prefix, thread: Mutex::default() }
    }

    /// Has values written, each into a file of its own.
    pub fn keep(&self, ticket: u64, values: Vec<Json>) {
        let count = values.len();
        if !self.hand(Errand::Keep { ticket, values }) {
            // They go with their change.
            _ = self.told.send(Told::Kept { ticket, files: vec![None; count] });
            (self.notify)();
        }
    }

    /// Has files removed.
    pub fn remove(&self, files: Vec<ValueFile>) {
        if !files.is_empty() && !self.hand(Errand::Remove(files)) {
            tracing::warn!("files of values are left in the state directory until the next start");
        }
    }

    /// Carries out what has been asked, and ends.
    pub fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((errands, thread)) = thread {
            drop(errands);
            if thread.join().is_err() {
                tracing::error!("bug: the thread that keeps values has panicked");
            }
        }
    }

    fn hand(&self, errand: Errand) -> bool {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            match self.start() {
                Ok(started) => *thread = Some(started),
                Err(error) => tracing::warn!(%error, "no thread for large values"),
            }
        }
        thread.as_ref().is_some_and(|(errands, _)| errands.send(errand).is_ok())
    }

    fn start(&self) -> io::Result<(Sender<Errand>, JoinHandle<()>)> {
        let (errands, handed) = channel();
        let writer = Writer {
            files: self.files,
            state_dir: self.state_dir.clone(),
            syncs: self.syncs,
            told: self.told.clone(),
            notify: self.notify.clone(),
            prefix: self.prefix,
            count: 0,
        };
        let thread = thread::Builder::new().name("values".to_owned()).spawn(move || writer.work(&handed))?;
        Ok((errands, thread))
    }
}

struct Writer {
    files: ValueFiles,
    state_dir: PathBuf,
    syncs: bool,
    told: Sender<Told>,
    notify: Arc<dyn Fn() + Send + Sync>,
    prefix: u128,
    count: u64,
}

impl Writer {
    fn work(mut self, errands: &Receiver<Errand>) {
        for errand in errands {
            match errand {
                Errand::Keep { ticket, values } => {
                    let files = values.iter().map(|value| self.write(value)).collect();
                    if self.told.send(Told::Kept { ticket, files }).is_ok() {
                        (self.notify)();
                    }
                }
                Errand::Remove(files) => {
                    files.iter().for_each(|file| (self.files.remove)(&self.state_dir, file));
                }
            }
        }
    }

    fn write(&mut self, value: &Json) -> Option<ValueFile> {
        self.count += 1;
        let token = format!("{:x}-{}", self.prefix, self.count);
        match (self.files.write)(&self.state_dir, &token, value.get().as_bytes(), self.syncs) {
            Ok(()) => Some(token.into()),
            Err(error) => {
                tracing::warn!(%error, "a large value has no file, and goes into the database");
                None
            }
        }
    }
}
