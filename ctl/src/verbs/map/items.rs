//! The items, one after the other: values of the command line, or lines of a file or of stdin, which is read
//! only as far as items are needed. With several sources, each combination of their values is an item: the
//! last source goes round first, and only the first source is read as it is needed.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pool_proto::OsText;
use regex::bytes::Regex;

/// The number of bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// One item: the map runs one job for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The place of the item, counted from 1.
    pub number: u64,
    /// The values of the item, at least one: as many as there are sources, or columns.
    pub values: Vec<OsText>,
}

impl Item {
    /// The item as people see it: its values, separated by spaces.
    pub fn text(&self) -> Cow<'_, OsText> {
        self.joined(" ")
    }

    /// The text that tells the item from others.
    pub fn identity(&self) -> Cow<'_, OsText> {
        self.joined("\0")
    }

    /// The number of bytes of all values.
    pub fn len(&self) -> usize {
        self.values.iter().map(OsText::len).sum()
    }

    fn joined(&self, separator: &str) -> Cow<'_, OsText> {
        match &self.values[..] {
            [value] => Cow::Borrowed(value),
            values => {
                let bytes: Vec<Cow<'_, [u8]>> = values.iter().map(OsText::to_bytes).collect();
                Cow::Owned(OsText::from_bytes(&bytes.join(separator.as_bytes())))
            }
        }
    }
}

/// What one source, or several that are linked, give at a time: a value of each.
pub type Values = Vec<OsText>;

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
    first: Source,
    /// The other sources. All that they give is known.
    others: Vec<Vec<Values>>,
    /// The number of combinations of the other sources.
    combinations: u64,
    /// What of the first source is combined with the others, and the next combination.
    current: Option<(Values, u64)>,
    /// Splits values into columns.
    column_separator: Option<Regex>,
    count: u64,
}

#[derive(Debug)]
enum Source {
    Given(std::vec::IntoIter<Values>),
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
    pub fn given(values: Vec<Values>) -> Self {
        Self::of(Source::Given(values.into_iter()))
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
        Ok(Self::of(Source::Read(reader)))
    }

    fn of(first: Source) -> Self {
        let (others, current, column_separator) = (Vec::new(), None, None);
        Self { first, others, combinations: 1, current, column_separator, count: 0 }
    }

    /// The items combined with what other sources give. None if nobody could count the combinations.
    pub fn combined(mut self, others: Vec<Vec<Values>>) -> Option<Self> {
        let count = |product: u64, other: &Vec<Values>| product.checked_mul(other.len() as u64);
        self.combinations = others.iter().try_fold(1, count)?;
        self.others = others;
        Some(self)
    }

    /// The items with each value split into columns.
    pub fn split(self, column_separator: Regex) -> Self {
        Self { column_separator: Some(column_separator), ..self }
    }

    /// The items in random order, all of them read.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn shuffled(mut self) -> anyhow::Result<Self> {
        let mut values = Vec::new();
        while let Some(item) = self.wait_next()? {
            values.push(item.values);
        }
        fastrand::shuffle(&mut values);
        Ok(Self::given(values))
    }

    /// The next item, if it has come. Never blocks.
    pub fn next(&mut self) -> NextItem {
        let (current, combination) = match self.current.take() {
            Some(current) => current,
            None if self.combinations == 0 => return NextItem::End,
            None => match self.first.next() {
                Some(Some(values)) => (values, 0),
                Some(None) => return NextItem::End,
                None => return NextItem::Later,
            },
        };

        // The combination is a number, and each of the other sources a digit of it, the last source the last.
        let (mut digits, mut rest) = (Vec::with_capacity(self.others.len()), combination);
        for other in self.others.iter().rev() {
            let base = other.len() as u64;
            digits.push(&other[(rest % base) as usize]);
            rest /= base;
        }
        let others = digits.into_iter().rev().flatten().cloned();

        let is_last = combination + 1 == self.combinations;
        let (current, kept) = if is_last { (current, None) } else { (current.clone(), Some(current)) };
        let mut values = current;
        values.extend(others);
        self.current = kept.map(|kept| (kept, combination + 1));

        if let Some(separator) = &self.column_separator {
            values = values.iter().flat_map(|value| columns(value, separator)).collect();
        }
        self.count += 1;
        NextItem::Item(Item { number: self.count, values })
    }

    /// The next item, waited for. None at the end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn wait_next(&mut self) -> anyhow::Result<Option<Item>> {
        loop {
            match self.next() {
                NextItem::Item(item) => return Ok(Some(item)),
                NextItem::End => return Ok(None),
                NextItem::Later => {
                    // Another process may have made our stdin non-blocking.
                    if let Some(fd) = self.readable() {
                        poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::NONE)
                            .context("cannot wait for items")?;
                    }
                    self.fill()?;
                }
            }
        }
    }

    /// All that the source gives, waited for.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn all_values(mut self) -> anyhow::Result<Vec<OsText>> {
        let mut all = Vec::new();
        while let Some(item) = self.wait_next()? {
            all.extend(item.values);
        }
        Ok(all)
    }

    /// The descriptor that becomes readable when more items may come.
    pub fn readable(&self) -> Option<BorrowedFd<'_>> {
        match &self.first {
            Source::Read(reader) if !reader.is_over => Some(reader.file.as_fd()),
            Source::Read(_) | Source::Given(_) => None,
        }
    }

    /// Reads once. Blocks unless [`readable`](Self::readable) is readable.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn fill(&mut self) -> anyhow::Result<()> {
        let Source::Read(reader) = &mut self.first else { return Ok(()) };
        reader.fill().with_context(|| format!("cannot read {}", reader.name))
    }

    /// How many items have been taken.
    pub fn taken(&self) -> u64 {
        self.count
    }

    /// The number of all items, if it can be known without waiting for them. Asked before the first is taken.
    pub fn total(&self) -> Option<u64> {
        let total = match &self.first {
            Source::Given(items) => Some(items.len() as u64),
            Source::Read(reader) => reader.total().ok().flatten(),
        };
        total?.checked_mul(self.combinations)
    }
}

impl Source {
    /// What comes next: nothing more at the end. None if it has not come yet.
    fn next(&mut self) -> Option<Option<Values>> {
        match self {
            Self::Given(values) => Some(values.next()),
            Self::Read(reader) => match reader.cut().map(OsText::from_bytes) {
                None if !reader.is_over => None,
                value => Some(value.map(|value| vec![value])),
            },
        }
    }
}

/// The columns of a value, empty ones included.
fn columns(value: &OsText, separator: &Regex) -> Vec<OsText> {
    separator.split(&value.to_bytes()).map(OsText::from_bytes).collect()
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

    use super::super::options::parse_column_separator;
    use super::*;

    fn texts(items: &mut Items) -> Vec<OsText> {
        let mut texts = Vec::new();
        while let Some(item) = items.wait_next().unwrap() {
            texts.push(item.text().into_owned());
            assert_eq!(item.number, texts.len() as u64);
        }
        texts
    }

    /// What a source gives that has these values.
    fn source(values: &[&str]) -> Vec<Values> {
        values.iter().map(|&value| vec![value.into()]).collect()
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
        let texts = texts(&mut Items::of(Source::Read(reader)));
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

    #[test]
    fn every_combination_of_several_sources_is_an_item() {
        let combined = |others: Vec<Vec<Values>>| {
            let items = Items::given(source(&["a", "b"])).combined(others).unwrap();
            let (total, texts) = (items.total().unwrap(), texts(&mut { items }));
            assert_eq!(total, texts.len() as u64);
            texts
        };
        assert_eq!(combined(vec![]), ["a", "b"]);
        assert_eq!(combined(vec![source(&["1", "2"])]), ["a 1", "a 2", "b 1", "b 2"]);
        assert_eq!(
            combined(vec![source(&["1", "2"]), source(&["x", "y"])])[..5],
            ["a 1 x", "a 1 y", "a 2 x", "a 2 y", "b 1 x"]
        );
        assert!(combined(vec![source(&["1"]), vec![]]).is_empty());
        assert_eq!(combined(vec![vec![vec!["1".into(), "x".into()]]]), ["a 1 x", "b 1 x"]);
        let wide = vec![source(&["1"; 1 << 16]); 4];
        assert!(Items::given(source(&["a"])).combined(wide).is_none());
    }

    #[test]
    fn values_are_split_into_columns() {
        let split = |value: &[u8], separator: &str| {
            let regex = parse_column_separator(separator).unwrap();
            let mut items = Items::given(vec![vec![OsText::from_bytes(value)]]).split(regex);
            items.wait_next().unwrap().unwrap().values
        };
        assert_eq!(split(b"a,b,,c", ","), ["a", "b", "", "c"]);
        assert_eq!(split(b"a  b c", r"\s+"), ["a", "b", "c"]);
        assert_eq!(split(b"alone", r"\t"), ["alone"]);
        assert_eq!(split(b"", ","), [""]);
        assert_eq!(split(b"\xff\tx", r"\t"), [OsText::from_bytes(b"\xff"), "x".into()]);
    }

    #[test]
    fn shuffled_items_are_the_same_items() {
        let values: Vec<String> = (0..100).map(|number| format!("{number:02}")).collect();
        let given = || Items::given(values.iter().map(|value| vec![value.as_str().into()]).collect());
        let mut shuffled = texts(&mut given().shuffled().unwrap());
        assert_ne!(shuffled, texts(&mut given()));
        shuffled.sort_unstable();
        assert_eq!(shuffled, texts(&mut given()));
    }

    #[test]
    fn items_are_told_from_others_by_their_values() {
        let item = |values: &[&str]| Item { number: 1, values: values.iter().map(|&it| it.into()).collect() };
        assert_eq!(item(&["a b", "c"]).text(), item(&["a", "b c"]).text());
        assert_ne!(item(&["a b", "c"]).identity(), item(&["a", "b c"]).identity());
        assert_eq!((item(&["a"]).identity().into_owned(), item(&["ab", "c"]).len()), ("a".into(), 3));
    }
}
