//! How many columns of a terminal a text takes, and texts that are cut to a number of columns. Nothing that
//! comes out of [`cell`] can control a terminal.

use std::borrow::Cow;
use std::os::fd::AsFd;

use pool_proto::terminal::{is_shown, printable};
use terminal_size::{Height, Width, terminal_size_of};
use unicode_width::UnicodeWidthChar;

/// What stands in the place of what is cut off.
pub const ELLIPSIS: &str = "...";

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns, at least 1.
    pub columns: usize,
    /// Rows, at least 1.
    pub rows: usize,
}

impl Size {
    /// What is taken for the size of a terminal that does not tell its own.
    pub const USUAL: Self = Self { columns: 80, rows: 24 };

    /// The size of the terminal at stdout. None if stdout is no terminal.
    pub fn of_stdout() -> Option<Self> {
        super::stream::Stream::Stdout.is_terminal().then(|| Self::of(std::io::stdout()))
    }

    /// The size of the terminal at stderr, of which it is known that it is one.
    pub fn of_stderr() -> Self {
        Self::of(std::io::stderr())
    }

    fn of(terminal: impl AsFd) -> Self {
        let told = terminal_size_of(terminal).filter(|(width, height)| width.0 > 0 && height.0 > 0);
        let size =
            told.map(|(Width(columns), Height(rows))| Self { columns: columns.into(), rows: rows.into() });
        size.unwrap_or(Self::USUAL)
    }
}

/// The columns that a text takes which [`cell`] or [`printable`] has made.
pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

fn columns_of(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// Foreign text for one cell of at most `width` columns: on one line, with everything escaped that cannot be
/// seen, and cut with an ellipsis. Only as much of a long text is looked at as the cell can hold.
pub fn cell(text: &str, width: usize) -> String {
    // A character that takes no column is a mark on the one before it. Some marks for each are enough.
    let most = width.saturating_mul(4).saturating_add(64);
    let end = text.char_indices().nth(most).map_or(text.len(), |(place, _)| place);
    let shown = printable(&text[..end]);
    let mut cut = cut(&shown, width).into_owned();
    if end < text.len() && cut.len() == shown.len() {
        let room = columns(&cut).min(width.saturating_sub(ELLIPSIS.len()));
        cut.truncate(place_of(&cut, room));
        cut += &ELLIPSIS[..ELLIPSIS.len().min(width)];
    }
    close(cut)
}

/// Text without control characters in lines of at most `width` columns, broken between words. The first line
/// stands behind `indent` columns of something else, and the others are indented as far. A longer word is not
/// broken.
pub fn wrap(text: &str, indent: usize, width: usize) -> String {
    let (mut wrapped, mut column) = (String::new(), 0);
    for word in text.split(' ') {
        let length = columns(word);
        if column > 0 && indent + column + 1 + length > width {
            wrapped += &format!("\n{:indent$}", "");
            column = 0;
        } else if column > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped += word;
        column += length;
    }
    wrapped
}

/// A text without control characters, cut to at most `width` columns, with an ellipsis if there is room.
pub fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if place_of(text, width) == text.len() {
        return Cow::Borrowed(text);
    }
    let kept = &text[..place_of(text, width.saturating_sub(ELLIPSIS.len()))];
    Cow::Owned(format!("{kept}{}", &ELLIPSIS[..ELLIPSIS.len().min(width)]))
}

/// Up to where the text takes at most `width` columns.
fn place_of(text: &str, width: usize) -> usize {
    let mut taken = 0;
    for (place, c) in text.char_indices() {
        taken += columns_of(c);
        if taken > width {
            return place;
        }
    }
    text.len()
}

/// The text with spaces behind it up to `width` columns.
pub fn left(text: &str, width: usize) -> String {
    format!("{text}{:1$}", "", width.saturating_sub(columns(text)))
}

/// The text with spaces before it up to `width` columns.
pub fn right(text: &str, width: usize) -> String {
    format!("{:1$}{text}", "", width.saturating_sub(columns(text)))
}

/// Ends right-to-left text with a mark that takes no column: without it a terminal that knows directions
/// would show numbers of the next cell before the text.
fn close(mut text: String) -> String {
    if text.chars().any(is_right_to_left) {
        text.push('\u{200e}');
    }
    text
}

/// Whether the character is of a script that is written from right to left. Unicode keeps these blocks for
/// such scripts.
fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}'
        | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
        && is_shown(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_cut_at_its_width() {
        for (text, width, wanted) in [
            ("abc", 3, "abc"),
            ("abcdef", 5, "ab..."),
            ("abcdef", 2, ".."),
            ("abcdef", 0, ""),
            // Each of these characters takes two columns.
            ("日本語日本", 10, "日本語日本"),
            ("日本語日本", 9, "日本語..."),
            ("日本語日本", 8, "日本..."),
            // The mark belongs to the letter before it.
            ("cafe\u{301}s", 5, "cafe\u{301}s"),
            ("a\nb\u{1b}[31m", 80, "a\\nb\\u{1b}[31m"),
            ("\u{202e}x", 80, "\\u{202e}x"),
        ] {
            let cell = cell(text, width);
            assert_eq!(cell, wanted, "{text}");
            assert!(columns(&cell) <= width);
        }
    }

    #[test]
    fn a_long_text_is_not_read_to_its_end() {
        let text = "x".repeat(100 << 20);
        let started = std::time::Instant::now();
        assert_eq!(cell(&text, 10), "xxxxxxx...");
        assert!(started.elapsed().as_millis() < 100);
        // Marks without end take no column, and are cut all the same.
        let marks = format!("a{}", "\u{301}".repeat(10_000));
        let cell = cell(&marks, 10);
        assert!(cell.len() < 500 && cell.ends_with("..."), "{}", cell.len());
    }

    #[test]
    fn sentences_are_broken_between_words() {
        assert_eq!(wrap("one two three", 11, 80), "one two three");
        assert_eq!(wrap("one two three", 3, 10), "one two\n   three");
        assert_eq!(wrap("one two three", 2, 1), "one\n  two\n  three");
    }

    #[test]
    fn cells_are_padded_by_columns() {
        assert_eq!(left("日本", 6), "日本  ");
        assert_eq!(right("日本", 6), "  日本");
        assert_eq!(left("too long", 3), "too long");
    }

    #[test]
    fn right_to_left_text_does_not_turn_its_neighbours() {
        let cell = cell("שלום", 20);
        assert_eq!(cell, "שלום\u{200e}");
        assert_eq!(columns(&cell), 4);
        assert_eq!(left(&cell, 6), "שלום\u{200e}  ");
    }
}
