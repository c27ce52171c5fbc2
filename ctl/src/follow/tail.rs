//! The two files that an attempt writes, and how much of them has been passed on.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use pool_proto::output_times::{self, Marks};
use rustix::fs::fgetxattr;

use crate::term::outlet::Outlet;

/// One growing file, and the stream that it goes to.
#[derive(Debug)]
struct Tail {
    file: File,
    offset: u64,
    /// None if the file is not passed on, or the reader of the stream has gone.
    target: Option<Outlet>,
    /// The reader of the stream has gone.
    is_unheard: bool,
}

/// See the module's description.
#[derive(Debug)]
pub struct Attempt {
    number: u32,
    tails: Vec<Tail>,
    is_watched: bool,
    /// It goes on with none of the files of the one before.
    is_new: bool,
}

/// A last part of what an attempt has written.
#[derive(Debug, Clone, Copy)]
pub enum Last {
    Lines(usize),
    Bytes(u64),
    /// What was written since this time, in microseconds since 1970.
    Since(i64),
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
    /// The files of an attempt. The output of the same attempt, which poold tells again after a restart, goes
    /// on where it stopped. An attempt whose start poold had not written down when it died is repeated under
    /// its number: its files are other ones, which begin anew.
    ///
    /// # Errors
    /// When the last line of the attempt before cannot be written.
    pub fn new(
        number: u32,
        files: [File; 2],
        targets: [Option<Outlet>; 2],
        before: Option<Self>,
    ) -> anyhow::Result<Self> {
        let before_number = before.as_ref().map(|before| before.number);
        let mut before = before.into_iter().flat_map(|before| before.tails);
        let (mut tails, mut is_new) = (Vec::new(), true);
        for (file, target) in files.into_iter().zip(targets) {
            let mut tail = Tail { file, offset: 0, target, is_unheard: false };
            match before.next() {
                Some(known) if before_number == Some(number) && known.is_same_file(&tail) => {
                    is_new = false;
                    tail.offset = known.offset;
                    tail.target = known.target.or(tail.target);
                }
                Some(mut over) => over.finish()?,
                None => {}
            }
            tails.push(tail);
        }
        Ok(Self { number, tails, is_watched: false, is_new })
    }

    /// Begins with the last part of what the attempt has written by now; with the shortest of several.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn skip_to(&mut self, lasts: &[Last]) -> anyhow::Result<()> {
        for tail in &mut self.tails {
            tail.offset = begin_of(&tail.file, lasts).context("cannot read the job's output")?;
        }
        Ok(())
    }

    /// All of it has been passed on.
    ///
    /// # Errors
    /// When our output cannot be written.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.tails.iter_mut().try_for_each(Tail::finish)
    }

    /// Whether this is the beginning of its output: nothing of it has been passed on before.
    pub fn is_new(&self) -> bool {
        self.is_new
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
            if tail.target.is_none() {
                continue;
            }
            let count = tail.read(buffer, &mut pumped)?;
            let Some(target) = tail.target.as_mut().filter(|_| count > 0) else { continue };

            if target.may_block(count) {
                before_a_block()?;
            }
            match target.write(&buffer[..count]) {
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
    fn is_same_file(&self, other: &Self) -> bool {
        let identity = |tail: &Self| tail.file.metadata().ok().map(|file| (file.dev(), file.ino()));
        identity(self).is_some_and(|own| identity(other) == Some(own))
    }

    /// All of the file has been passed on.
    fn finish(&mut self) -> anyhow::Result<()> {
        match self.target.as_mut().map(Outlet::finish) {
            // Nobody reads it any more.
            None | Some(Err(Errno::EPIPE)) => Ok(()),
            Some(finished) => finished.context("cannot write the job's output"),
        }
    }

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

/// Where the shortest of these last parts of a file of output begins; its beginning, where there are none.
///
/// # Errors
/// Those of reading.
pub fn begin_of(file: &File, lasts: &[Last]) -> io::Result<u64> {
    let begin = |last: &Last| match *last {
        Last::Lines(lines) => begin_of_last(file, lines),
        Last::Bytes(bytes) => Ok(file.metadata()?.len().saturating_sub(bytes)),
        Last::Since(since_us) => begin_since(file, since_us),
    };
    lasts.iter().map(begin).try_fold(0, |latest, begin| Ok(latest.max(begin?)))
}

/// Whether poold has noted when the file was written.
pub fn has_times(file: &File) -> bool {
    times_of(file) != Marks::default()
}

/// Where the line begins in which something was written since that time.
fn begin_since(file: &File, since_us: i64) -> io::Result<u64> {
    let metadata = file.metadata()?;
    let (length, written_us) = (metadata.len(), metadata.mtime() * 1_000_000 + metadata.mtime_nsec() / 1000);
    if written_us.saturating_add(TICK_US) < since_us {
        return Ok(length);
    }
    let begin = times_of(file).begin_since(since_us).unwrap_or(0).min(length);
    let first = begin.saturating_sub(LINE);
    let mut before = vec![0; usize::try_from(begin - first).unwrap_or_default()];
    file.read_exact_at(&mut before, first)?;
    let after_newline = before.iter().rev().position(|&byte| byte == b'\n');
    Ok(after_newline.map_or(begin, |count| begin - count as u64))
}

/// None are noted of an attempt of less than a second, nor where the file system does not take them.
fn times_of(file: &File) -> Marks {
    let mut bytes = vec![0; output_times::MAX_BYTES];
    let count = fgetxattr(file, output_times::ATTRIBUTE, &mut bytes[..]).unwrap_or(0);
    Marks::decode(&bytes[..count])
}

/// Where the last lines of a file begin. It is read backwards, a piece at a time.
///
/// # Errors
/// Those of reading.
fn begin_of_last(file: &File, lines: usize) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut piece = vec![0; PIECE];
    let (mut end, mut found) = (length, 0);
    while end > 0 {
        let begin = end.saturating_sub(PIECE as u64);
        let piece = &mut piece[..usize::try_from(end - begin).unwrap_or(PIECE)];
        file.read_exact_at(piece, begin)?;
        for (place, _) in piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // The end of the last line begins no other one.
            let after = begin + place as u64 + 1;
            if after == length {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(after);
            }
        }
        end = begin;
    }
    Ok(0)
}

/// The time of a file is that of the last tick of the kernel, which is not longer than this, in microseconds.
const TICK_US: i64 = 20_000;

/// A line whose beginning is further back is begun in its middle.
const LINE: u64 = 4096;

/// What is read at once, backwards.
const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_attempt_goes_on_where_it_stopped_unless_its_files_are_other_ones() {
        let file = |text: &str| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        let (stdout, stderr) = (file("tried\n"), file(""));
        let again = || [stdout.try_clone().unwrap(), stderr.try_clone().unwrap()];
        let offsets = |attempt: &Attempt| attempt.tails.iter().map(|tail| tail.offset).collect::<Vec<u64>>();
        let passed_on = || {
            let mut attempt = Attempt::new(2, again(), [None, None], None).unwrap();
            attempt.skip_to(&[Last::Lines(0)]).unwrap();
            Some(attempt)
        };
        for (number, files, wanted) in
            [(2, again(), [6, 0]), (3, again(), [0, 0]), (2, [file("tried\n"), file("")], [0, 0])]
        {
            let attempt = Attempt::new(number, files, [None, None], passed_on()).unwrap();
            assert_eq!(offsets(&attempt), wanted, "{number}");
        }
    }

    #[test]
    fn the_last_lines_begin_behind_the_end_of_another() {
        let long = "x".repeat(PIECE);
        for (text, lines, wanted) in [
            ("a\nb\nc\n".to_owned(), 2, "b\nc\n".to_owned()),
            ("a\nb\nc".to_owned(), 2, "b\nc".to_owned()),
            ("a\nb\n".to_owned(), 9, "a\nb\n".to_owned()),
            ("a\n\n".to_owned(), 1, "\n".to_owned()),
            ("a\n".to_owned(), 0, String::new()),
            (String::new(), 3, String::new()),
            (format!("a\n{long}\nb\n{long}\n"), 3, format!("{long}\nb\n{long}\n")),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let begin = usize::try_from(begin_of_last(&file, lines).unwrap()).unwrap();
            assert_eq!(text[begin..], wanted, "{lines} of {} bytes", text.len());
        }
    }
}
