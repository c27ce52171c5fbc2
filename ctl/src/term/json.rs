//! JSON for programs: one value on one line, and documents that are printed page by page.

use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;

use super::text::{self, CANNOT_WRITE};

/// Prints a value as one line of JSON.
///
/// # Errors
/// Those of write(2).
pub fn print(value: &impl Serialize) -> anyhow::Result<()> {
    let mut stdout = text::stdout()?;
    serde_json::to_writer(&mut stdout, value)
        .map_err(io::Error::from)
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush())
        .context(CANNOT_WRITE)
}

/// A document with an array that is printed page by page: `{"schema":1,"jobs":[...]}`.
#[derive(Debug)]
pub struct Pages {
    is_first: bool,
}

impl Pages {
    /// Prints the beginning of a document whose array has that name.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn begin(schema: u32, name: &str) -> anyhow::Result<Self> {
        text::print(&format!("{{\"schema\":{schema},\"{name}\":["))?;
        Ok(Self { is_first: true })
    }

    /// Prints the values of one page.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn add(&mut self, values: &[impl Serialize]) -> anyhow::Result<()> {
        let mut page = String::new();
        for value in values {
            if !std::mem::replace(&mut self.is_first, false) {
                page.push(',');
            }
            page += &serde_json::to_string(value).context("a value is no JSON")?;
        }
        text::print(&page)
    }

    /// Prints the end of the document.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn end(self) -> anyhow::Result<()> {
        text::print("]}\n")
    }
}
