//! A page of the documentation: Markdown, of which poolctl knows headings, paragraphs, lists, tables and
//! code. One reader, and two ways to show it: on a terminal ([`plain`]), and as a manual page ([`roff`]).

pub mod plain;
pub mod roff;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// How a piece of text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    /// What is typed: words of a command line, names of files and settings.
    Code,
    Strong,
}

/// A piece of text of one style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub text: String,
    pub style: Style,
}

/// Text that is wrapped.
pub type Line = Vec<Span>;

/// A part of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    Heading(String),
    Paragraph(Line),
    /// Lines that stay as they are.
    Code(String),
    Items(Vec<Line>),
    /// A row is shown as a term and what is said of it. Each further column has the name of its header.
    Table {
        header: Vec<Line>,
        rows: Vec<Vec<Line>>,
    },
}

/// Reads a page.
pub fn parse(text: &str) -> Vec<Block> {
    let mut reader = Reader::default();
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        reader.take(event);
    }
    reader.blocks
}

#[derive(Default)]
struct Reader {
    blocks: Vec<Block>,
    line: Line,
    strong: bool,
    /// Where the link leads that is being read, and its text.
    link: Option<(String, String)>,
    code: Option<String>,
    items: Option<Vec<Line>>,
    header: Vec<Line>,
    rows: Vec<Vec<Line>>,
    row: Vec<Line>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Text(text) => match &mut self.code {
                Some(code) => *code += &text,
                None => self.push(&text, if self.strong { Style::Strong } else { Style::Plain }),
            },
            Event::Code(text) => self.push(&text, Style::Code),
            Event::SoftBreak | Event::HardBreak => self.push(" ", Style::Plain),
            Event::Start(tag) => self.begin(tag),
            Event::End(tag) => self.end(tag),
            // Anchors of links, and whatever else only a browser shows.
            _ => {}
        }
    }

    fn begin(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Strong => self.strong = true,
            Tag::Link { dest_url, .. } => self.link = Some((dest_url.to_string(), String::new())),
            Tag::CodeBlock(CodeBlockKind::Fenced(_) | CodeBlockKind::Indented) => {
                self.code = Some(String::new())
            }
            Tag::List(_) => self.items = Some(Vec::new()),
            Tag::Paragraph | Tag::Heading { .. } | Tag::Item | Tag::TableCell => self.line.clear(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Strong => self.strong = false,
            TagEnd::Link => self.end_link(),
            TagEnd::Heading(_) => {
                let text = self.line.drain(..).map(|span| span.text).collect();
                self.blocks.push(Block::Heading(text));
            }
            TagEnd::Paragraph if self.items.is_none() => {
                let line = std::mem::take(&mut self.line);
                self.blocks.push(Block::Paragraph(line));
            }
            TagEnd::Item => {
                let line = std::mem::take(&mut self.line);
                self.items.get_or_insert_default().push(line);
            }
            TagEnd::List(_) => self.blocks.extend(self.items.take().map(Block::Items)),
            TagEnd::CodeBlock => self.blocks.extend(self.code.take().map(Block::Code)),
            TagEnd::TableCell => {
                let line = std::mem::take(&mut self.line);
                self.row.push(line);
            }
            TagEnd::TableHead => self.header = std::mem::take(&mut self.row),
            TagEnd::TableRow => {
                let row = std::mem::take(&mut self.row);
                self.rows.push(row);
            }
            TagEnd::Table => {
                let (header, rows) = (std::mem::take(&mut self.header), std::mem::take(&mut self.rows));
                self.blocks.push(Block::Table { header, rows });
            }
            _ => {}
        }
    }

    /// A link to another page names that page; one that leads out of the documentation, its address.
    fn end_link(&mut self) {
        let Some((link, text)) = self.link.take() else { return };
        match link.split('#').next().and_then(|file| file.strip_suffix(".md")) {
            Some(page) if page.starts_with("../") => {}
            Some(page) => {
                let is_named = text == page;
                if is_named && let Some(last) = self.line.last_mut() {
                    last.text.truncate(last.text.len() - text.len());
                } else {
                    self.push(" (", Style::Plain);
                }
                self.push(&format!("poolctl help {page}"), Style::Code);
                if !is_named {
                    self.push(")", Style::Plain);
                }
            }
            None if link.starts_with("http") => self.push(&format!(" ({link})"), Style::Plain),
            None => {}
        }
    }

    fn push(&mut self, text: &str, style: Style) {
        if let Some((_, of_link)) = &mut self.link {
            *of_link += text;
        }
        match self.line.last_mut() {
            Some(last) if last.style == style => last.text += text,
            _ => self.line.push(Span { text: text.to_owned(), style }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "A `word` of\ntwo lines, [see](time.md), [time](time.md), [out](https://x.org).\n\n## Head\n\n\
        - one\n- **two**\n\n```console\n$ a  b\n```\n\n| code | means |\n|---|---|\n| `0` | all \\| well |\n";

    #[test]
    fn a_page_is_read_in_blocks() {
        let blocks = parse(PAGE);
        assert!(matches!(&blocks[1], Block::Heading(text) if text == "Head"), "{blocks:#?}");
        assert!(matches!(&blocks[2], Block::Items(items) if items.len() == 2), "{blocks:#?}");
        assert_eq!(blocks[3], Block::Code("$ a  b\n".to_owned()));
        let Block::Table { header, rows } = &blocks[4] else { panic!("{blocks:#?}") };
        assert_eq!((header.len(), rows.len()), (2, 1));
    }

    #[test]
    fn on_a_terminal_and_as_a_manual_page() {
        let blocks = parse(PAGE);
        let plain = plain::page(&blocks, 40, false);
        assert_eq!(
            plain,
            "A `word` of two lines, see (`poolctl\nhelp time`), `poolctl help time`, out\n(https://x.org).\n\nHead\n\n  - one\n  - two\n\n    \
             $ a  b\n\n`0`\n    all | well\n"
        );
        assert!(plain::page(&blocks, 40, true).contains("\u{1b}[1mword\u{1b}[0m"));
        let manual = roff::page("x", "7", "a page", &blocks);
        assert!(manual.contains(".SH HEAD") && manual.contains("\\fBword\\fR"), "{manual}");
    }
}
