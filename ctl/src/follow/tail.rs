//! The two files that an attempt writes, and how much of them has been passed on.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::PollTimeout;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::term::stream::{PIPE_BUF, Stream};

/// One growing file, and the stream that it goes to.
#[derive(Debug)]
struct Tail {
    file: File,
    offset: u64,
    /// None if the file is not passed on, or the reader of the stream has gone.
    target: Option<Stream>,
    /// The reader of the stream has gone.
    is_unheard: bool,
}

/// See the module's description.
#[derive(Debug)]
pub struct Attempt {
    number: u32,
    tails: Vec<Tail>,
    is_watched: bool,
}

/// The result of passing on output.
#[derive(Debug, Clone, Copy)]
pub struct Pumped {
    /// There may be more.
    pub has_more: bool,
    /// A reader of our output has gone.
    pub is_unheard: bool,
}

impl Attempt {
    /// The files of an attempt. If `before` is the same attempt, which poold tells again after a restart, the
    /// output goes on where it stopped.
    pub fn new(number: u32, files: [File; 2], targets: [Option<Stream>; 2], before: Option<Self>) -> Self {
        let known = before.filter(|before| before.number == number);
        let offsets: Vec<u64> =
            known.iter().flat_map(|before| before.tails.iter().map(|tail| tail.offset)).collect();

        let tails = files.into_iter().zip(targets).enumerate().map(|(index, (file, target))| {
            let offset = offsets.get(index).copied().unwrap_or(0);
            Tail { file, offset, target, is_unheard: false }
        });
        Self { number, tails: tails.collect(), is_watched: false }
    }

    /// Whether [`watch`](Self::watch) has been called, even if inotify is not available.
    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// How much the attempt has written to streams whose readers have gone.
    pub fn unheard_bytes(&self) -> u64 {
        let unheard = self.tails.iter().filter(|tail| tail.is_unheard);
        unheard.filter_map(|tail| tail.file.metadata().ok()).map(|file| file.len()).sum()
    }

    /// Watches the files. `inotify` is none afterwards if it is not available.
    pub fn watch(&mut self, inotify: &mut Option<Inotify>) {
        if self.is_watched {
            return;
        }
        self.is_watched = true;

        if inotify.is_none() {
            *inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        }
        let Some(watcher) = &*inotify else { return };
        let watch = |tail: &Tail| {
            let path = format!("/proc/self/fd/{}", tail.file.as_raw_fd());
            watcher.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY).is_ok()
        };
        if !self.tails.iter().filter(|tail| tail.target.is_some()).all(watch) {
            *inotify = None;
        }
    }

    /// Passes on output, at most one buffer of each file. `before_a_block` is called before a write that may
    /// have to wait for its reader.
    ///
    /// # Errors
    /// When a file cannot be read, or our output not be written.
    pub fn pump(
        &mut self,
        buffer: &mut [u8],
        mut before_a_block: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Pumped> {
        let mut pumped = Pumped { has_more: false, is_unheard: false };
        for tail in &mut self.tails {
            let Some(target) = tail.target else { continue };

            let count = tail.read(buffer, &mut pumped)?;
            if count == 0 {
                continue;
            }

            if count > PIPE_BUF || !target.is_ready(PollTimeout::ZERO).unwrap_or(false) {
                before_a_block()?;
            }
            match target.write_all(&buffer[..count]) {
                Err(Errno::EPIPE) => {
                    tail.target = None;
                    tail.is_unheard = true;
                    pumped.is_unheard = true;
                }
                other => other.context("cannot write the job's output")?,
            }
        }
        Ok(pumped)
    }
}

impl Tail {
    fn read(&mut self, buffer: &mut [u8], pumped: &mut Pumped) -> anyhow::Result<usize> {
        let count = self.file.read_at(buffer, self.offset).context("cannot read the job's output")?;
        if count == 0 && self.offset > 0 {
            // The file is smaller than before: the job has emptied it, as a shell does for `> /dev/stderr`.
            let size = self.file.metadata().context("cannot look at the job's output")?.len();
            if size < self.offset {
                self.offset = 0;
                pumped.has_more |= size > 0;
            }
        }
        pumped.has_more |= count == buffer.len();
        self.offset += count as u64;
        Ok(count)
    }
}
