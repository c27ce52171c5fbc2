//! A page as text for a terminal, or for a file.

use unicode_width::UnicodeWidthStr;

use super::{Block, Line, Span, Style};

/// The text of what stands below a term.
const INDENT: &str = "    ";

/// A page, wrapped at this width. Styles need a terminal; without them, backticks mark what is typed.
pub fn page(blocks: &[Block], width: usize, is_styled: bool) -> String {
    let mut text = String::new();
    for block in blocks {
        if !text.is_empty() {
            text.push('\n');
        }
        match block {
            Block::Heading(heading) if is_styled => {
                text += &format!("\u{1b}[1m\u{1b}[4m{heading}\u{1b}[0m\n")
            }
            Block::Heading(heading) => text += &format!("{heading}\n"),
            Block::Paragraph(line) => add(&mut text, line, width, "", is_styled),
            Block::Code(code) => code.lines().for_each(|line| text += &format!("{INDENT}{line}\n")),
            Block::Items(items) => {
                for item in items {
                    let from = text.len();
                    add(&mut text, item, width, INDENT, is_styled);
                    text.replace_range(from..from + INDENT.len(), "  - ");
                }
            }
            Block::Table { header, rows } => {
                for row in rows {
                    add(&mut text, row.first().map_or(&[], Vec::as_slice), width, "", is_styled);
                    for (column, cell) in row.iter().enumerate().skip(1).filter(|(_, cell)| !cell.is_empty())
                    {
                        let line = named(header, column, cell);
                        add(&mut text, &line, width, INDENT, is_styled);
                    }
                }
            }
        }
    }
    text
}

/// A cell of a table with the name of its column, where a row has more than one cell beside its term.
pub fn named(header: &[Line], column: usize, cell: &Line) -> Line {
    let name: String = header.get(column).into_iter().flatten().map(|span| span.text.as_str()).collect();
    if header.len() < 3 || name.is_empty() {
        return cell.clone();
    }
    let name = Span { text: format!("{name}: "), style: Style::Plain };
    [name].into_iter().chain(cell.iter().cloned()).collect()
}

/// A text without styles, wrapped.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut wrapped = String::new();
    add(&mut wrapped, &[Span { text: text.to_owned(), style: Style::Plain }], width, "", false);
    wrapped.lines().map(str::to_owned).collect()
}

/// Adds the words of a text, as many to a line as fit.
fn add(text: &mut String, line: &[Span], width: usize, indent: &str, is_styled: bool) {
    let line: Vec<Span> = line.iter().map(|span| marked(span, is_styled)).collect();
    let mut column = 0;
    for word in words(&line) {
        let wide: usize = word.iter().map(|(piece, _)| piece.width()).sum();
        if column > 0 && column + 1 + wide > width {
            text.push('\n');
            column = 0;
        }
        match column {
            0 => *text += indent,
            _ => text.push(' '),
        }
        column += wide + if column == 0 { indent.len() } else { 1 };
        for (piece, style) in word {
            match style {
                Style::Plain => *text += piece,
                Style::Code | Style::Strong => *text += &format!("\u{1b}[1m{piece}\u{1b}[0m"),
            }
        }
    }
    text.push('\n');
}

/// Without styles, backticks mark what is typed.
fn marked(span: &Span, is_styled: bool) -> Span {
    match span.style {
        Style::Code if !is_styled => Span { text: format!("`{}`", span.text), style: Style::Plain },
        Style::Strong if !is_styled => Span { text: span.text.clone(), style: Style::Plain },
        _ => span.clone(),
    }
}

/// The words, each of pieces of one style.
fn words(line: &[Span]) -> Vec<Vec<(&str, Style)>> {
    let mut words: Vec<Vec<(&str, Style)>> = Vec::new();
    let mut is_new = true;
    for span in line {
        let mut rest = span.text.as_str();
        while !rest.is_empty() {
            let end = rest.find(' ').unwrap_or(rest.len());
            if end > 0 {
                match words.last_mut().filter(|_| !is_new) {
                    Some(word) => word.push((&rest[..end], span.style)),
                    None => words.push(vec![(&rest[..end], span.style)]),
                }
                is_new = false;
            }
            if end < rest.len() {
                is_new = true;
            }
            rest = rest[end..].strip_prefix(' ').unwrap_or(&rest[end..]);
        }
    }
    words
}
