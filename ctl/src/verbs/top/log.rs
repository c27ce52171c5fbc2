//! The end of a job's output, as lines for a screen.

use std::collections::VecDeque;

use pool_proto::terminal::printable;

/// No more lines than that are kept, and no more characters of a line.
const MOST_LINES: usize = 5000;
const MOST_CHARACTERS: usize = 2000;

/// Lines of one stream.
#[derive(Debug, Default)]
pub struct Log {
    pub lines: VecDeque<String>,
    /// What has come of the line that has no end yet.
    open: Vec<u8>,
}

impl Log {
    /// Takes bytes that have been written.
    pub fn add(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            // A line without end is a line of its own here, lest it takes all memory.
            if self.open.len() < MOST_CHARACTERS * 4 {
                self.open.extend_from_slice(part);
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.open);
                self.lines.push_back(shown(line.strip_suffix(b"\n").unwrap_or(&line)));
            }
        }
        let surplus = self.lines.len().saturating_sub(MOST_LINES);
        self.lines.drain(..surplus);
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many lines there are, with the one that has no end yet.
    pub fn len(&self) -> usize {
        self.lines.len() + usize::from(!self.open.is_empty())
    }

    /// The lines from that one on.
    pub fn from(&self, first: usize, count: usize) -> Vec<String> {
        let open = (!self.open.is_empty()).then(|| shown(&self.open));
        self.lines.iter().cloned().chain(open).skip(first).take(count).collect()
    }
}

/// A line as a terminal would leave it: without colours, with what was written last after a carriage return,
/// and with nothing in it that would control the terminal.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    let text = text.rsplit('\r').next().unwrap_or(text);
    let plain = without_sequences(text).replace('\t', "    ");
    let end = plain.char_indices().nth(MOST_CHARACTERS).map_or(plain.len(), |(place, _)| place);
    printable(&plain[..end]).into_owned()
}

/// The text without the control sequences (ECMA-48, CSI) that colour it.
fn without_sequences(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = rest.find("\x1b[") {
        plain += &rest[..place];
        let sequence = &rest[place + 2..];
        let end = sequence.find(|c: char| matches!(c, '\x40'..='\x7e'));
        rest = end.map_or("", |end| &sequence[end + 1..]);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_parts() {
        let mut log = Log::default();
        log.add(b"one\ntw");
        log.add(b"o\n\nend");
        assert_eq!(log.from(0, 9), ["one", "two", "", "end"]);
        assert_eq!((log.len(), log.from(1, 2)), (4, vec!["two".to_owned(), String::new()]));
        for _ in 0..MOST_LINES {
            log.add(b"x\n");
        }
        assert_eq!((log.len(), log.from(0, 1)), (MOST_LINES, vec!["endx".to_owned()]));
    }

    #[test]
    fn nothing_of_a_line_controls_the_terminal() {
        let mut log = Log::default();
        log.add(b"\x1b[31mred\x1b[0m\n10%\r100%\r\n\x1b]0;title\x07\n\ta\xff\n\x1b[9999");
        let wanted = ["red", "100%", "\\u{1b}]0;title\\u{7}", "    a\u{fffd}", ""];
        assert_eq!(log.from(0, 9), wanted);
    }

    #[test]
    fn a_line_without_end_takes_little() {
        let mut log = Log::default();
        for _ in 0..1000 {
            log.add(&[b'x'; 4096]);
        }
        assert!(log.open.len() < 20_000);
        assert_eq!(log.from(0, 1)[0].len(), MOST_CHARACTERS);
    }
}
