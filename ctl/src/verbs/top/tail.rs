//! The end of the output of an attempt, as it is written. The kernel tells of each write (inotify(7)).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::wish::Reading;

/// How much of the end is shown at first, and after a burst.
const END: u64 = 256 * 1024;

/// More than that since the last look is a burst.
const BURST: u64 = 4 * END;

/// See the module's description.
#[derive(Debug)]
pub struct Tail {
    files: [File; 2],
    offsets: [u64; 2],
    /// None if the kernel gives none: then only what was written so far is shown.
    watch: Option<Inotify>,
}

impl Tail {
    /// The tails of both files.
    pub fn of(files: [File; 2]) -> Self {
        let offsets = [0, 1].map(|stream: usize| size(&files[stream]).saturating_sub(END));
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok().filter(|watch| {
            files.iter().all(|file| {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                watch.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY).is_ok()
            })
        });
        Self { files, offsets, watch }
    }

    /// Becomes readable when something was written.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Reads what was written since the last time.
    pub fn read(&mut self, mut take: impl FnMut(Reading)) {
        // One read takes all events, which are alike.
        let _ = self.watch.as_ref().map(Inotify::read_events);
        for (stream, file) in self.files.iter().enumerate() {
            let (size, offset) = (size(file), &mut self.offsets[stream]);
            if size < *offset || size - *offset > BURST {
                *offset = size.saturating_sub(END);
                take(Reading::Cleared { stream });
            }
            let mut bytes = vec![0; usize::try_from(size - *offset).unwrap_or(0)];
            // What cannot be read is not shown; the file may have been removed in part.
            let count = file.read_at(&mut bytes, *offset).unwrap_or(0);
            if count > 0 {
                bytes.truncate(count);
                *offset += count as u64;
                take(Reading::Written { stream, bytes });
            }
        }
    }
}

fn size(file: &File) -> u64 {
    file.metadata().map(|file| file.len()).unwrap_or(0)
}
