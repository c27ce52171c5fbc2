//! SQLite's way to the disk, wrapped: what it does to the files of a directory that is being recorded is remembered, in order. Everything
//! else goes straight through. The only unsafe code outside `process`, and only in tests.
//!
//! See <https://www.sqlite.org/vfs.html>. It is made for a store as ours: no shared memory (exclusive locking), no mapped files.

use std::ffi::{CStr, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, Once};

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
    SyncDir,
    Delete(String),
    /// So many answers have been given by now.
    Told(usize),
}

type Events = Arc<Mutex<Vec<Event>>>;

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

    pub fn told(&self, answers: usize) {
        self.events.lock().unwrap().push(Event::Told(answers));
    }

    pub fn len(&self) -> usize {
        self.events.lock().unwrap().len()
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDINGS.lock().unwrap().retain(|(dir, _)| *dir != self.dir);
    }
}

/// The recording that a file belongs to, and its name there.
fn recorded(path: &CStr) -> Option<(Events, String)> {
    let path = Path::new(path.to_str().ok()?);
    let recordings = RECORDINGS.lock().unwrap();
    let (_, events) = recordings.iter().find(|(dir, _)| path.parent() == Some(dir))?;
    Some((events.clone(), path.file_name()?.to_str()?.to_owned()))
}

/// Puts the wrapper in front of SQLite's own way, once for this process.
fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the default VFS is valid for as long as the process lives, and so is the copy of it that is leaked here: SQLite keeps
        // the pointer. Methods that are copied look at nothing of the structure but what is copied, too.
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
    /// As SQLite does for a log or journal that it may have created (`UNIXFILE_DIRSYNC`): with the first sync of the file comes one of
    /// its directory.
    syncs_dir: bool,
}

impl Log {
    fn push(&self, event: impl FnOnce(String) -> Event) {
        self.events.lock().unwrap().push(event(self.name.clone()));
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
    // SAFETY: SQLite passes a name that ends with NUL, or none, and memory of the size that `install` asked for.
    unsafe {
        let open = (*real).xOpen.expect("every VFS opens files");
        let recorded = if name.is_null() { None } else { recorded(CStr::from_ptr(name)) };
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
        (delete(real, name, sync_dir), recorded(CStr::from_ptr(name)))
    };
    if let (ffi::SQLITE_OK, Some((events, short))) = (result, recorded) {
        let mut events = events.lock().unwrap();
        events.push(Event::Delete(short));
        events.extend((sync_dir != 0).then_some(Event::SyncDir));
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
            // SAFETY: SQLite calls this with a file that `open` has set up, behind which is one of the real VFS.
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

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, count: c_int, offset: sqlite3_int64) -> c_int {
    // SAFETY: as for all methods, and `from` points to `count` bytes.
    unsafe {
        let result = real_write(file, from, count, offset);
        if result == ffi::SQLITE_OK {
            let bytes = std::slice::from_raw_parts(from.cast::<u8>(), count as usize).to_vec();
            (*(*file.cast::<Wrapped>()).log).push(|file| Event::Write { file, offset: offset as usize, bytes });
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
        let result = real_sync(file, flags);
        if result == ffi::SQLITE_OK {
            let log = &mut *(*file.cast::<Wrapped>()).log;
            log.push(Event::Sync);
            if std::mem::take(&mut log.syncs_dir) {
                log.push(|_| Event::SyncDir);
            }
        }
        result
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: as for all methods; a file is closed once, and not used afterwards.
    unsafe {
        drop(Box::from_raw((*file.cast::<Wrapped>()).log));
        real_close(file)
    }
}
