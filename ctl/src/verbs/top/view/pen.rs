//! Writing cells on a line of the screen, from left to right.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::term::width::{cell, cut, left, right};

/// See the module's description.
pub struct Pen<'a> {
    buffer: &'a mut Buffer,
    line: Rect,
    x: u16,
}

impl<'a> Pen<'a> {
    /// A pen at the beginning of a line.
    pub fn at(buffer: &'a mut Buffer, line: Rect) -> Self {
        Self { buffer, line, x: line.x }
    }

    /// How many columns are left.
    pub fn room(&self) -> usize {
        usize::from(self.line.right().saturating_sub(self.x))
    }

    /// Writes our own text.
    pub fn write(&mut self, text: &str, style: Style) -> &mut Self {
        if self.line.height > 0 && self.room() > 0 {
            let shown = cut(text, self.room());
            (self.x, _) = self.buffer.set_stringn(self.x, self.line.y, shown, self.room(), style);
        }
        self
    }

    /// Writes a cell of so many columns, and a space behind it.
    pub fn left(&mut self, text: &str, width: usize, style: Style) -> &mut Self {
        self.write(&left(&cut(text, width), width), style).write(" ", Style::new())
    }

    /// The same, with the text at its right.
    pub fn right(&mut self, text: &str, width: usize, style: Style) -> &mut Self {
        self.write(&right(&cut(text, width), width), style).write(" ", Style::new())
    }

    /// Writes foreign text into what is left of the line.
    pub fn rest(&mut self, text: &str, style: Style) -> &mut Self {
        let shown = cell(text, self.room());
        self.write(&shown, style)
    }

    /// Writes our own text at the end of the line, if there is room.
    pub fn end(&mut self, text: &str, style: Style) {
        let width = crate::term::width::columns(text);
        if self.room() > width {
            self.x = self.line.right() - width as u16;
            self.write(text, style);
        }
    }
}
