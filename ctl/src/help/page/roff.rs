//! A page as a manual page, in the macros of man(7).

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::plain::named;
use super::{Block, Line, Style};

/// What stands at the top and bottom of every page.
pub const SOURCE: &str = concat!("poold ", env!("CARGO_PKG_VERSION"));

/// A whole page: its name, the section of the manual, what it is in one line, and its text.
pub fn page(name: &str, section: &str, title: &str, blocks: &[Block]) -> String {
    let mut roff = Roff::new();
    add_name(&mut roff, name, title);
    if !matches!(blocks.first(), Some(Block::Heading(_))) {
        roff.control("SH", ["DESCRIPTION"]);
    }
    add(&mut roff, blocks);
    first_line(name, section) + &roff.to_roff()
}

/// The line that every page begins with. It has no date, so that a page is the same whenever it is made; the
/// library would leave out the empty place of the date.
pub fn first_line(name: &str, section: &str) -> String {
    format!(".TH \"{}\" \"{section}\" \"\" \"{SOURCE}\" \"poold\"\n", name.to_uppercase())
}

/// Adds the section NAME.
pub fn add_name(roff: &mut Roff, name: &str, title: &str) {
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {title}"))]);
}

/// Adds the parts of a page.
pub fn add(roff: &mut Roff, blocks: &[Block]) {
    let mut is_first = true;
    for block in blocks {
        // A section begins a paragraph by itself.
        let begins = !std::mem::replace(&mut is_first, matches!(block, Block::Heading(_)));
        match block {
            Block::Heading(heading) => _ = roff.control("SH", [heading.to_uppercase().as_str()]),
            Block::Paragraph(line) => {
                if begins {
                    roff.control("PP", []);
                }
                roff.text(inlines(line));
            }
            Block::Code(code) => {
                if begins {
                    roff.control("PP", []);
                }
                add_code(roff, code);
            }
            Block::Items(items) => {
                for item in items {
                    roff.control("IP", ["\\(bu", "2"]);
                    roff.text(inlines(item));
                }
            }
            Block::Table { header, rows } => {
                for row in rows {
                    roff.control("TP", []);
                    roff.text(row.first().map(inlines).unwrap_or_default());
                    let cells = row.iter().enumerate().skip(1).filter(|(_, cell)| !cell.is_empty());
                    for (index, (column, cell)) in cells.enumerate() {
                        if index > 0 {
                            roff.control("br", []);
                        }
                        roff.text(inlines(&named(header, column, cell)));
                    }
                }
            }
        }
    }
}

/// Adds lines that stay as they are.
pub fn add_code(roff: &mut Roff, code: &str) {
    roff.control("RS", ["4"]);
    roff.control("nf", []);
    for line in code.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.control("RE", []);
}

/// Another topic of `poolctl help` has a page, too.
fn inlines(line: &Line) -> Vec<Inline> {
    let of_span = |span: &super::Span| match span.style {
        Style::Plain => roman(span.text.as_str()),
        Style::Strong => italic(span.text.as_str()),
        Style::Code => match span.text.strip_prefix("poolctl help ") {
            Some(topic) if super::super::topics::Topic::named(topic).is_some() => {
                bold(format!("poolctl-{topic}(7)"))
            }
            _ => bold(span.text.as_str()),
        },
    };
    line.iter().map(of_span).collect()
}
