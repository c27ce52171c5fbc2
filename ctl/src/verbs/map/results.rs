//! The output of ended jobs, until it is printed. The order is that of the ends or of the items, and the
//! output of each job stays together.
//!
//! Short output is kept in memory. Longer output stays in the files of poold, of which we hold descriptors,
//! so it can be printed even if the history of poold has dropped it. The amount is limited: before the map
//! submits more, it asks whether there is [`room`](Results::has_room).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::Context;
use pool_proto::OsText;

use super::lane::{EndedItem, Returned, value_line};
use crate::term::json;
use crate::term::printer::{Content, Piece, Printer};
use crate::term::stream::Stream;
use crate::term::text::printable;

/// Output up to this length is kept in memory.
const SHORT: u64 = 64 * 1024;

/// The most that may wait: items, bytes in memory, descriptors.
const MAX_ITEMS: usize = 16 * 1024;
const MAX_BYTES: usize = 16 * 1024 * 1024;
const MAX_FILES: usize = 128;

/// What is printed for each item.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub keep_order: bool,
    pub tag: bool,
    /// Whether records are printed instead of output.
    pub json: bool,
}

/// See the module's description.
#[derive(Debug)]
pub struct Results {
    style: Style,
    /// The number of the item that is printed next, if the order is that of the items.
    next: u64,
    waiting: BTreeMap<u64, Vec<Piece>>,
    bytes: usize,
    files: usize,
    /// The output of some job could not be opened.
    has_unshown: bool,
    pub printer: Printer,
}

impl Results {
    /// Results before the first end.
    pub fn new(style: Style) -> Self {
        Self {
            style,
            next: 1,
            waiting: BTreeMap::new(),
            bytes: 0,
            files: 0,
            has_unshown: false,
            printer: Printer::default(),
        }
    }

    /// Whether there is room for the output of more jobs.
    pub fn has_room(&self) -> bool {
        let (bytes, files) = self.printer.holds();
        self.waiting.len() < MAX_ITEMS && self.bytes + bytes < MAX_BYTES && self.files + files < MAX_FILES
    }

    /// Whether the output of some job was not there to be printed.
    pub fn has_unshown(&self) -> bool {
        self.has_unshown
    }

    /// Adds the output of an ended job. `remark`: what else to print about the job, on stderr.
    ///
    /// # Errors
    /// When the output cannot be read.
    pub fn add(&mut self, ended: EndedItem, remark: Option<&str>) -> anyhow::Result<()> {
        let number = ended.item.number;
        let pieces = self.pieces(ended, remark)?;
        if !self.style.keep_order {
            self.printer.add(pieces);
            return Ok(());
        }

        let (bytes, files) = held(&pieces);
        self.bytes += bytes;
        self.files += files;
        self.waiting.insert(number, pieces);

        while let Some(pieces) = self.waiting.remove(&self.next) {
            self.release(pieces);
            self.next += 1;
        }
        Ok(())
    }

    /// No more jobs end. Output that waits for earlier items is printed without them.
    pub fn close(&mut self) {
        for pieces in std::mem::take(&mut self.waiting).into_values() {
            self.release(pieces);
        }
    }

    fn release(&mut self, pieces: Vec<Piece>) {
        let (bytes, files) = held(&pieces);
        self.bytes -= bytes;
        self.files -= files;
        self.printer.add(pieces);
    }

    fn pieces(&mut self, ended: EndedItem, remark: Option<&str>) -> anyhow::Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        let say = |target, line: String| Piece::new(target, Content::Bytes(line.into_bytes()));
        if self.style.json {
            let record = match &ended.end {
                Returned::Command { record, .. } => Some(json::line(record)),
                Returned::Call(brief) => Some(json::line(brief)),
                Returned::Unfit(_) => None,
            };
            pieces.extend(record.transpose()?.map(|record| say(Stream::Stdout, record)));
        }

        pieces.extend(
            remark.map(|remark| say(Stream::Stderr, format!("poolctl: {}\n", printable(remark, usize::MAX)))),
        );
        if self.style.json {
            return Ok(pieces);
        }

        let item = ended.item;
        let tag =
            |target| self.style.tag.then(|| [&shown_on(target, &item.text()), b"\t".as_slice()].concat());

        match ended.end {
            Returned::Command { record, files: Some((stdout, stderr)) } => {
                for (target, file) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
                    let content = content(file)
                        .with_context(|| format!("cannot read the output of job {}", record.id))?;
                    pieces.extend(content.map(|content| Piece::new(target, content).tagged(tag(target))));
                }
            }
            // Without a process there is no output, and the remark says why there is none.
            Returned::Command { record, files: None } if record.pid.is_some() => {
                self.has_unshown = true;
                let line = format!(
                    "poolctl: the output of job {} cannot be shown: poold could not open it\n",
                    record.id
                );
                pieces.push(say(Stream::Stderr, line));
            }
            Returned::Command { .. } | Returned::Unfit(_) => {}
            Returned::Call(brief) => pieces
                .extend(value_line(&brief).map(|line| say(Stream::Stdout, line).tagged(tag(Stream::Stdout)))),
        }
        Ok(pieces)
    }
}

/// An item as the stream gets it: the bytes that went in, but nothing that a terminal would not show.
fn shown_on(target: Stream, text: &OsText) -> Cow<'_, [u8]> {
    if target.is_terminal() {
        return printable(&text.to_string(), usize::MAX).into_bytes().into();
    }
    text.to_bytes()
}

/// The content of a file. None if the file is empty.
fn content(file: File) -> std::io::Result<Option<Content>> {
    let size = file.metadata()?.len();
    if size > SHORT {
        return Ok(Some(Content::File { file, offset: 0 }));
    }
    if size == 0 {
        return Ok(None);
    }

    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    let mut length = 0;
    loop {
        match file.read_at(&mut bytes[length..], length as u64)? {
            0 => break,
            count => length += count,
        }
    }

    bytes.truncate(length);
    Ok(Some(Content::Bytes(bytes)))
}

fn held(pieces: &[Piece]) -> (usize, usize) {
    pieces.iter().map(Piece::holds).fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1))
}
