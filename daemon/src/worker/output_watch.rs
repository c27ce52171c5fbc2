//! Notices when an attempt has written more output than it may, or a resident program more to its standard
//! error.
//!
//! It looks at what is in the files. While they grow, it looks again after the time that a fast writer
//! would take for the room that is left, so that one which writes much costs little; while they rest, only
//! when inotify(7) tells of the next write.
//!
//! ```text
//!   begin ──▶ looking, when due ── rests ──▶ resting
//!               ▲    └ grows ┘                  │
//!               └───────── next write ──────────┘
//! ```

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::inotify::{InitFlags, Inotify, WatchDescriptor};

use crate::kernel;

/// Bytes a second, about what the page cache takes.
const FAST: f64 = 4e9;

/// Between two looks; short attempts end before the first one.
const SOONEST: Duration = Duration::from_millis(5);
const LATEST: Duration = Duration::from_secs(1);

/// See the module's description.
#[derive(Debug, Default)]
pub struct OutputWatch {
    /// Made when it is first needed and then kept: closing one takes the kernel milliseconds.
    inotify: Option<Inotify>,
    watches: Vec<WatchDescriptor>,
    attempt: Option<Watched>,
}

/// The attempt that runs.
#[derive(Debug)]
struct Watched {
    limit: u64,
    seen: u64,
    /// When to look; none while it rests.
    due: Option<Instant>,
}

impl OutputWatch {
    /// An attempt is about to write, at most so many bytes.
    pub fn begin(&mut self, limit: Option<u64>) {
        self.attempt =
            limit.map(|limit| Watched { limit, seen: 0, due: Some(Instant::now() + pause(limit)) });
    }

    /// The attempt is over. Returns its limit, if the attempt has written more.
    pub fn end(&mut self, written: u64) -> Option<u64> {
        if let Some(inotify) = &self.inotify {
            // Those that have told of a write are gone already.
            self.watches.drain(..).for_each(|watch| _ = inotify.rm_watch(watch));
        }
        self.attempt.take().map(|attempt| attempt.limit).filter(|&limit| written > limit)
    }

    /// When to call [`look`](Self::look) next.
    pub fn due(&self) -> Option<Instant> {
        self.attempt.as_ref()?.due
    }

    /// When this is readable as well.
    pub fn next_write(&self) -> Option<BorrowedFd<'_>> {
        let is_resting = self.attempt.as_ref().is_some_and(|attempt| attempt.due.is_none());
        self.inotify.as_ref().filter(|_| is_resting).map(AsFd::as_fd)
    }

    /// Whether more has been written to the files than may be. `written`: how much that is.
    pub fn look(&mut self, files: &[BorrowedFd<'_>], written: impl Fn() -> u64) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        let look = written;
        let mut written = look();
        let is_told = attempt.due.is_none();
        if !is_told && written == attempt.seen && watch(&mut self.inotify, &mut self.watches, files).is_ok() {
            attempt.due = None;
            // What was written before the watch was there is not told.
            written = look();
        }
        if is_told || written != attempt.seen || attempt.due.is_some() {
            attempt.due = Some(Instant::now() + pause(attempt.limit.saturating_sub(written)));
        }
        attempt.seen = written;
        written > attempt.limit
    }
}

/// Has the next write to one of the files told, once. Where the user has no inotify instance left, the files
/// are looked at now and then.
fn watch(
    inotify: &mut Option<Inotify>,
    watches: &mut Vec<WatchDescriptor>,
    files: &[BorrowedFd<'_>],
) -> nix::Result<()> {
    let inotify = match inotify {
        Some(inotify) => inotify,
        None => inotify.insert(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?),
    };
    while inotify.read_events().is_ok() {}
    watches.clear();
    for file in files {
        watches.push(kernel::watch_next_write(inotify, file)?);
    }
    Ok(())
}

/// How long nobody needs to look while there is so much room.
fn pause(room: u64) -> Duration {
    Duration::from_secs_f64(room as f64 / FAST).clamp(SOONEST, LATEST)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::super::files::Files;
    use super::*;

    fn look(watch: &mut OutputWatch, files: &Files) -> bool {
        watch.look(&files.output(), || files.written())
    }

    fn is_told(watch: &OutputWatch) -> bool {
        let Some(next_write) = watch.next_write() else { return false };
        poll(&mut [PollFd::new(next_write, PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn it_rests_while_nothing_is_written_and_notices_each_file() {
        let dir = tempfile::tempdir().unwrap();
        let (files, mut stdout, mut stderr) = Files::for_test(dir.path());
        let mut watch = OutputWatch::default();
        watch.begin(Some(10));
        assert!(!look(&mut watch, &files));
        assert_eq!(watch.due(), None, "it rests");
        assert!(!is_told(&watch));
        stdout.write_all(b"12345").unwrap();
        assert!(is_told(&watch));
        assert!(!look(&mut watch, &files));
        assert!(watch.due().is_some() && watch.next_write().is_none(), "it looks");
        stdout.write_all(b"6").unwrap();
        assert!(!look(&mut watch, &files));
        assert!(watch.due().is_some(), "it has grown meanwhile");
        assert!(!look(&mut watch, &files));
        assert_eq!(watch.due(), None, "it rests again");
        assert!(!is_told(&watch), "what was told before is forgotten");
        stderr.write_all(b"7890").unwrap();
        assert!(is_told(&watch));
        assert!(!look(&mut watch, &files), "as much as it may");
        stderr.write_all(b"!").unwrap();
        assert!(look(&mut watch, &files));
        assert_eq!(watch.end(11), Some(10));
        watch.begin(None);
        assert_eq!((watch.due(), watch.end(1 << 40)), (None, None), "no limit");
        watch.begin(Some(10));
        assert_eq!(watch.end(10), None);
    }

    #[test]
    fn the_less_room_the_sooner() {
        assert_eq!(pause(0), SOONEST);
        assert_eq!(pause(400_000_000), Duration::from_millis(100));
        assert_eq!(pause(u64::MAX), LATEST);
    }
}
