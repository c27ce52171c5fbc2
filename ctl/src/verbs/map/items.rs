//! Where the items come from: the command line, a file or stdin. A file is read only as far as items are
//! needed.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Context;
use pool_proto::OsText;

/// The number of bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// One item: the map runs one job for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The place of the item, counted from 1.
    pub number: u64,
    /// The text of the item.
    pub text: OsText,
}

/// What can be taken now.
#[derive(Debug, PartialEq, Eq)]
pub enum NextItem {
    Item(Item),
    /// The next item has not come yet: see [`Items::readable`].
    Later,
    End,
}

/// See the module's description.
#[derive(Debug)]
pub struct Items {
    source: Source,
    count: u64,
}

#[derive(Debug)]
enum Source {
    Given(std::vec::IntoIter<OsText>),
    Read(Reader),
}

#[derive(Debug)]
struct Reader {
    file: File,
    name: String,
    separator: u8,
    /// Bytes that have been read. Those from `start` on are not taken yet, and there is no separator before
    /// `searched`.
    buffer: Vec<u8>,
    start: usize,
    searched: usize,
    is_over: bool,
}

impl Items {
    /// Items of the command line.
    pub fn given(items: Vec<OsText>) -> Self {
        Self { source: Source::Given(items.into_iter()), count: 0 }
    }

    /// Items of a file. No path and `-` stand for stdin.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn read(path: Option<&Path>, separator: u8) -> anyhow::Result<Self> {
        let (file, name) = match path.filter(|&path| path != Path::new("-")) {
            Some(path) => {
                let name = path.display().to_string();
                (File::open(path).with_context(|| format!("cannot read {name}"))?, name)
            }
            None => (
                File::from(io::stdin().as_fd().try_clone_to_owned().context("there is no stdin")?),
                "stdin".to_owned(),
            ),
        };
        let reader =
            Reader { file, name, separator, buffer: Vec::new(), start: 0, searched: 0, is_over: false };
        Ok(Self { source: Source::Read(reader), count: 0 })
    }

    /// The next item, if it has come. Never blocks.
    pub fn next(&mut self) -> NextItem {
        let text = match &mut self.source {
            Source::Given(items) => items.next(),
            Source::Read(reader) => match reader.cut().map(OsText::from_bytes) {
                None if !reader.is_over => return NextItem::Later,
                item => item,
            },
        };
        let Some(text) = text else { return NextItem::End };

        self.count += 1;
        NextItem::Item(Item { number: self.count, text })
    }

    /// The descriptor that becomes readable when more items may come.
    pub fn readable(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Read(reader) if !reader.is_over => Some(reader.file.as_fd()),
            Source::Read(_) | Source::Given(_) => None,
        }
    }

    /// Reads once. Blocks unless [`readable`](Self::readable) is readable.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn fill(&mut self) -> anyhow::Result<()> {
        let Source::Read(reader) = &mut self.source else { return Ok(()) };
        reader.fill().with_context(|| format!("cannot read {}", reader.name))
    }

    /// How many items have been taken.
    pub fn taken(&self) -> u64 {
        self.count
    }

    /// The number of all items, if it can be known without waiting for them.
    pub fn total(&self) -> Option<u64> {
        match &self.source {
            Source::Given(items) => Some(self.count + items.len() as u64),
            Source::Read(reader) => reader.total().ok().flatten(),
        }
    }
}

impl Reader {
    /// The bytes of the next item. The last item may lack its separator.
    fn cut(&mut self) -> Option<&[u8]> {
        let unsearched = &self.buffer[self.searched..];
        let end = match unsearched.iter().position(|&byte| byte == self.separator) {
            Some(place) => self.searched + place,
            None if self.is_over && self.start < self.buffer.len() => self.buffer.len(),
            None => {
                self.searched = self.buffer.len();
                return None;
            }
        };

        let start = self.start;
        self.start = (end + 1).min(self.buffer.len());
        self.searched = self.start;
        Some(&self.buffer[start..end])
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;

        let length = self.buffer.len();
        self.buffer.resize(length + CHUNK, 0);
        let count = loop {
            match self.file.read(&mut self.buffer[length..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process has made our stdin non-blocking. It is read again when it is readable.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.buffer.truncate(length);
                    return Ok(());
                }
                other => break other,
            }
        };

        self.buffer.truncate(length + count.as_ref().map_or(0, |&count| count));
        self.is_over = count? == 0;
        Ok(())
    }

    /// Counts the separators of a regular file, from the current position on.
    fn total(&self) -> io::Result<Option<u64>> {
        if !self.file.metadata()?.is_file() {
            return Ok(None);
        }

        let mut place = (&self.file).stream_position()?;
        let mut buffer = vec![0; 1024 * 1024];
        let (mut total, mut last) = (0, self.separator);
        loop {
            let count = self.file.read_at(&mut buffer, place)?;
            let Some(&end) = buffer[..count].last() else { break };
            last = end;
            total += buffer[..count].iter().filter(|&&byte| byte == self.separator).count() as u64;
            place += count as u64;
        }

        Ok(Some(total + u64::from(last != self.separator)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn texts(items: &mut Items) -> Vec<OsText> {
        let mut texts = Vec::new();
        loop {
            match items.next() {
                NextItem::Item(item) => {
                    texts.push(item.text);
                    assert_eq!(item.number, texts.len() as u64);
                }
                NextItem::Later => items.fill().unwrap(),
                NextItem::End => return texts,
            }
        }
    }

    fn read(bytes: &[u8], separator: u8) -> Vec<OsText> {
        let (end, mut ours) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(end));
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || ours.write_all(&bytes));
        let reader = Reader {
            file,
            name: "pipe".into(),
            separator,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            is_over: false,
        };
        let texts = texts(&mut Items { source: Source::Read(reader), count: 0 });
        writer.join().unwrap().unwrap();
        texts
    }

    #[test]
    fn a_line_is_an_item_be_it_empty_or_without_an_end() {
        assert_eq!(read(b"a\n\n b \nlast", b'\n'), ["a", "", " b ", "last"]);
        assert_eq!(read(b"a\n", b'\n'), ["a"]);
        assert!(read(b"", b'\n').is_empty());
        assert_eq!(read(b"a\nb\0c\0", 0), ["a\nb", "c"]);
        assert_eq!(read(b"caf\xe9\n", b'\n'), [OsText::from_bytes(b"caf\xe9")]);
        let many: Vec<String> = (0..50_000).map(|number| number.to_string()).collect();
        let wanted: Vec<OsText> = many.iter().map(|text| text.as_str().into()).collect();
        assert_eq!(read(many.join("\n").as_bytes(), b'\n'), wanted);
        let long = "x".repeat(3 * CHUNK);
        assert_eq!(read(format!("{long}\n{long}").as_bytes(), b'\n'), [long.as_str(), &long]);
    }
}
