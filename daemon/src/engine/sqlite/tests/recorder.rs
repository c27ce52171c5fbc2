//! SQLite's way to the disk, wrapped: what it does to the files of a directory that is being recorded is
//! remembered, in order, and its syncs fail where a test wants that. Everything else goes straight through.
//! Besides `kernel` this is where unsafe code is, and only in tests.
//!
//! See <https://www.sqlite.org/vfs.html>. It is made for a store as ours: no shared memory (exclusive
//! locking), no mapped files.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_int, c_void};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::Duration;

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

/// What has been done to the files, each by its name in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Open(String),
    Write {
        file: String,
        offset: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: String,
        size: usize,
    },
    Sync(String),
    /// A sync has failed: what was written since the last one that did not may be on the disk or not, in
    /// part, and the kernel will not try again. `evicts`: none of it is, and the kernel has forgotten it, so
    /// that what is read is the old.
    SyncFailed {
        file: String,
        evicts: bool,
    },
    SyncDir,
    Delete(String),
    /// So many answers have been given by now, and whether the store is failing.
    Told {
        answers: usize,
        is_failing: bool,
    },
}

/// What is known of a directory that is being recorded.
#[derive(Debug, Default)]
struct Records {
    events: Vec<Event>,
    /// What each file had in it when it was last synced.
    synced: BTreeMap<String, Vec<u8>>,
    /// So many of the next syncs fail.
    failures: usize,
    evicts: bool,
    /// The disk is full: no write gets through.
    is_full: bool,
    /// The syncs of a log take their time.
    holds_syncs: bool,
    /// Files of values are taken for synced that are not.
    forgets_values: bool,
}

type Events = Arc<Mutex<Records>>;

impl Records {
    fn takes_failure(&mut self) -> bool {
        let fails = self.failures > 0;
        self.failures = self.failures.saturating_sub(1);
        fails
    }
}

/// A recording of one directory, until it is dropped.
#[derive(Debug)]
pub struct Recording {
    dir: PathBuf,
    events: Events,
}

static RECORDINGS: Mutex<Vec<(PathBuf, Events)>> = Mutex::new(Vec::new());
static REAL: AtomicPtr<sqlite3_vfs> = AtomicPtr::new(ptr::null_mut());

impl Recording {
    pub fn of(dir: &Path) -> Self {
        install();
        let (dir, events) = (dir.canonicalize().unwrap(), Events::default());
        RECORDINGS.lock().unwrap().push((dir.clone(), events.clone()));
        Self { dir, events }
    }

    pub fn told(&self, answers: usize, is_failing: bool) {
        self.events.lock().unwrap().events.push(Event::Told { answers, is_failing });
    }

    /// The next syncs fail, so many of them.
    pub fn fail_syncs(&self, count: usize, evicts: bool) {
        let mut records = self.events.lock().unwrap();
        (records.failures, records.evicts) = (count, evicts);
    }

    /// The disk is full from now on, or not any more.
    pub fn fill_disk(&self, is_full: bool) {
        self.events.lock().unwrap().is_full = is_full;
    }

    /// What is committed is not synced from now on, or is again.
    pub fn hold_syncs(&self, holds: bool) {
        self.events.lock().unwrap().holds_syncs = holds;
    }

    /// Files of values are not synced from now on.
    pub fn forget_values(&self) {
        self.events.lock().unwrap().forgets_values = true;
    }

    pub fn count_syncs(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, Event::Sync(_))).count()
    }

    pub fn len(&self) -> usize {
        self.events.lock().unwrap().events.len()
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().events.clone()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDINGS.lock().unwrap().retain(|(dir, _)| *dir != self.dir);
    }
}

/// Somebody has cut a file short, written all of it anew, and syncs it and its directory.
pub fn rewritten(path: &Path) -> io::Result<()> {
    let Some((events, file)) = recorded(path) else { return Ok(()) };
    let bytes = fs::read(path)?;
    let mut records = events.lock().unwrap();
    let (size, offset) = (bytes.len(), 0);
    records.events.push(Event::Truncate { file: file.clone(), size });
    records.events.push(Event::Write { file: file.clone(), offset, bytes: bytes.clone() });
    if records.takes_failure() {
        records.events.push(Event::SyncFailed { file, evicts: false });
        return Err(io::ErrorKind::Other.into());
    }
    records.events.extend([Event::Sync(file.clone()), Event::SyncDir]);
    records.synced.insert(file, bytes);
    Ok(())
}

/// Somebody syncs a log that is open.
pub fn synced(log: &File) -> io::Result<()> {
    let path = fs::read_link(format!("/proc/self/fd/{}", log.as_raw_fd()))?;
    let Some((events, file)) = recorded(&path) else { return Ok(()) };
    wait_for_leave(&events);
    let mut records = events.lock().unwrap();
    if records.takes_failure() {
        let evicts = records.evicts;
        if evicts {
            log.set_len(0)?;
            log.write_all_at(records.synced.get(&file).map_or(&[], Vec::as_slice), 0)?;
        }
        records.events.push(Event::SyncFailed { file, evicts });
        return Err(io::ErrorKind::Other.into());
    }
    records.synced.insert(file.clone(), fs::read(path)?);
    records.events.push(Event::Sync(file));
    Ok(())
}

/// Waits while a test holds up the syncs of a log.
fn wait_for_leave(events: &Events) {
    while events.lock().unwrap().holds_syncs {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Where a value is.
fn value_path(dir: &Path, token: &str) -> PathBuf {
    dir.join("values").join(token)
}

/// Writes the file of a value.
pub fn write_value(dir: &Path, token: &str, text: &[u8], syncs: bool) -> io::Result<()> {
    let path = value_path(dir, token);
    let Some((events, _)) = recorded(&dir.canonicalize()?.join(token)) else {
        fs::create_dir_all(dir.join("values"))?;
        return fs::write(path, text);
    };
    let mut records = events.lock().unwrap();
    if records.is_full {
        return Err(io::ErrorKind::StorageFull.into());
    }
    fs::create_dir_all(dir.join("values"))?;
    fs::write(path, text)?;
    let file = format!("values/{token}");
    records.events.push(Event::Open(file.clone()));
    records.events.push(Event::Write { file: file.clone(), offset: 0, bytes: text.to_vec() });
    if syncs && !records.forgets_values {
        records.events.extend([Event::Sync(file), Event::SyncDir]);
    }
    Ok(())
}

pub fn read_value(dir: &Path, token: &str, bytes: usize) -> io::Result<String> {
    let text = fs::read_to_string(value_path(dir, token))?;
    if text.len() == bytes { Ok(text) } else { Err(io::ErrorKind::InvalidData.into()) }
}

pub fn remove_value(dir: &Path, token: &str) {
    fs::remove_file(value_path(dir, token)).expect("it is there");
    if let Some((events, _)) = dir.canonicalize().ok().and_then(|dir| recorded(&dir.join(token))) {
        events.lock().unwrap().events.push(Event::Delete(format!("values/{token}")));
    }
}

/// The tokens of the values that are there, in order.
pub fn list_values(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(value_path(dir, "")).into_iter().flatten().flatten();
    let mut tokens: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    tokens.sort();
    tokens
}

/// The recording that a file belongs to, and its name there.
fn recorded(path: &Path) -> Option<(Events, String)> {
    let recordings = RECORDINGS.lock().unwrap();
    let (_, events) = recordings.iter().find(|(dir, _)| path.parent() == Some(dir))?;
    Some((events.clone(), path.file_name()?.to_str()?.to_owned()))
}

fn path_of(name: &CStr) -> &Path {
    Path::new(name.to_str().expect("temporary paths are UTF-8"))
}

/// Puts the wrapper in front of SQLite's own way, once for this process.
fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the default VFS is valid for as long as the process lives, and so is the copy of it that is
        // leaked here: SQLite keeps the pointer. Methods that are copied look at nothing of the structure but
        // what is copied, too.
        unsafe {
            let real = ffi::sqlite3_vfs_find(ptr::null());
            REAL.store(real, Ordering::SeqCst);
            let wrapper = sqlite3_vfs {
                szOsFile: (*real).szOsFile + size_of::<Wrapped>() as c_int,
                pNext: ptr::null_mut(),
                zName: c"recorder".as_ptr(),
                xOpen: Some(open),
                xDelete: Some(delete),
                ..*real
            };
            assert_eq!(ffi::sqlite3_vfs_register(Box::leak(Box::new(wrapper)), 1), ffi::SQLITE_OK);
        }
    });
}

/// An open file; the one behind it follows in memory.
#[repr(C)]
struct Wrapped {
    base: sqlite3_file,
    log: *mut Log,
}

struct Log {
    events: Events,
    name: String,
    /// As SQLite does for a log or journal that it may have created (`UNIXFILE_DIRSYNC`): with the first sync
    /// of the file comes one of its directory.
    syncs_dir: bool,
}

impl Log {
    fn push(&self, event: impl FnOnce(String) -> Event) {
        self.events.lock().unwrap().events.push(event(self.name.clone()));
    }
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: *const std::ffi::c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let real = REAL.load(Ordering::SeqCst);
    // SAFETY: SQLite passes a name that ends with NUL, or none, and memory of the size that `install` asked
    // for.
    unsafe {
        let open = (*real).xOpen.expect("every VFS opens files");
        let recorded = if name.is_null() { None } else { recorded(path_of(CStr::from_ptr(name))) };
        let Some((events, short)) = recorded else { return open(real, name, file, flags, out) };
        let wrapped = file.cast::<Wrapped>();
        (*wrapped).base.pMethods = ptr::null();
        let result = open(real, name, wrapped.add(1).cast(), flags, out);
        if result == ffi::SQLITE_OK {
            let kinds = ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL;
            let syncs_dir = flags & ffi::SQLITE_OPEN_CREATE != 0 && flags & kinds != 0;
            let log = Log { events, name: short, syncs_dir };
            log.push(Event::Open);
            (*wrapped).log = Box::into_raw(Box::new(log));
            (*wrapped).base.pMethods = &raw const METHODS;
        }
        result
    }
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const std::ffi::c_char, sync_dir: c_int) -> c_int {
    let real = REAL.load(Ordering::SeqCst);
    // SAFETY: SQLite passes a name that ends with NUL.
    let (result, recorded) = unsafe {
        let delete = (*real).xDelete.expect("every VFS deletes files");
        (delete(real, name, sync_dir), recorded(path_of(CStr::from_ptr(name))))
    };
    if let (ffi::SQLITE_OK, Some((events, short))) = (result, recorded) {
        let mut records = events.lock().unwrap();
        records.synced.remove(&short);
        records.events.push(Event::Delete(short));
        records.events.extend((sync_dir != 0).then_some(Event::SyncDir));
    }
    result
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// A method that does what the file behind does.
macro_rules! pass_on {
    ($name:ident, $method:ident $(, $argument:ident: $type:ty)*) => {
        unsafe extern "C" fn $name(file: *mut sqlite3_file $(, $argument: $type)*) -> c_int {
            // SAFETY: SQLite calls this with a file that `open` has set up, behind which is one of the real
            // VFS.
            unsafe {
                let real = file.cast::<Wrapped>().add(1).cast::<sqlite3_file>();
                (*(*real).pMethods).$method.expect("every file has this method")(real $(, $argument)*)
            }
        }
    };
}

pass_on!(read, xRead, into: *mut c_void, count: c_int, offset: sqlite3_int64);
pass_on!(real_write, xWrite, from: *const c_void, count: c_int, offset: sqlite3_int64);
pass_on!(real_truncate, xTruncate, size: sqlite3_int64);
pass_on!(real_sync, xSync, flags: c_int);
pass_on!(real_close, xClose);
pass_on!(file_size, xFileSize, size: *mut sqlite3_int64);
pass_on!(lock, xLock, level: c_int);
pass_on!(unlock, xUnlock, level: c_int);
pass_on!(check_reserved_lock, xCheckReservedLock, result: *mut c_int);
pass_on!(file_control, xFileControl, op: c_int, argument: *mut c_void);
pass_on!(sector_size, xSectorSize);
pass_on!(device_characteristics, xDeviceCharacteristics);

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    count: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: as for all methods, and `from` points to `count` bytes.
    unsafe {
        let log = &*(*file.cast::<Wrapped>()).log;
        if log.events.lock().unwrap().is_full {
            return ffi::SQLITE_FULL;
        }
        let result = real_write(file, from, count, offset);
        if result == ffi::SQLITE_OK {
            let bytes = std::slice::from_raw_parts(from.cast::<u8>(), count as usize).to_vec();
            log.push(|file| Event::Write { file, offset: offset as usize, bytes });
        }
        result
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: as for all methods.
    unsafe {
        let result = real_truncate(file, size);
        if result == ffi::SQLITE_OK {
            (*(*file.cast::<Wrapped>()).log).push(|file| Event::Truncate { file, size: size as usize });
        }
        result
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: as for all methods; nobody else has the log.
    unsafe {
        let log = &mut *(*file.cast::<Wrapped>()).log;
        let mut records = log.events.lock().unwrap();
        if records.takes_failure() {
            let evicts = records.evicts;
            records.events.push(Event::SyncFailed { file: log.name.clone(), evicts });
            if evicts {
                put(file, records.synced.get(&log.name).map_or(&[], Vec::as_slice));
            }
            return ffi::SQLITE_IOERR_FSYNC;
        }
        let result = real_sync(file, flags);
        if result == ffi::SQLITE_OK {
            records.synced.insert(log.name.clone(), content(file));
            drop(records);
            log.push(Event::Sync);
            if std::mem::take(&mut log.syncs_dir) {
                log.push(|_| Event::SyncDir);
            }
        }
        result
    }
}

/// SQLite reads and writes less than 128 KiB at once.
const CHUNK: usize = 64 * 1024;

/// All that is in a file.
unsafe fn content(file: *mut sqlite3_file) -> Vec<u8> {
    let mut size = 0;
    // SAFETY: as for all methods; each buffer is as long as is said.
    unsafe {
        assert_eq!(file_size(file, &raw mut size), ffi::SQLITE_OK);
        let mut bytes = vec![0_u8; size as usize];
        for (at, chunk) in bytes.chunks_mut(CHUNK).enumerate() {
            let (count, offset) = (chunk.len() as c_int, (at * CHUNK) as sqlite3_int64);
            assert_eq!(read(file, chunk.as_mut_ptr().cast(), count, offset), ffi::SQLITE_OK);
        }
        bytes
    }
}

/// Has that in a file and nothing else.
unsafe fn put(file: *mut sqlite3_file, bytes: &[u8]) {
    // SAFETY: as for all methods; each buffer is as long as is said.
    unsafe {
        assert_eq!(real_truncate(file, bytes.len() as sqlite3_int64), ffi::SQLITE_OK);
        for (at, chunk) in bytes.chunks(CHUNK).enumerate() {
            let (count, offset) = (chunk.len() as c_int, (at * CHUNK) as sqlite3_int64);
            assert_eq!(real_write(file, chunk.as_ptr().cast(), count, offset), ffi::SQLITE_OK);
        }
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: as for all methods; a file is closed once, and not used afterwards.
    unsafe {
        drop(Box::from_raw((*file.cast::<Wrapped>()).log));
        real_close(file)
    }
}
