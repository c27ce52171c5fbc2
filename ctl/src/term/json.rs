//! JSON for programs: one value on one line, and documents that are printed page by page.

use anyhow::Context;
use pool_proto::terminal::printable_json;
use serde::Serialize;

use super::text;

/// Prints a value as one line of JSON.
///
/// # Errors
/// Those of write(2).
pub fn print(value: &impl Serialize) -> anyhow::Result<()> {
    text::print(&line(value)?)
}

/// A value as one line of JSON, in which everything that cannot be seen is escaped.
///
/// # Errors
/// When the value has no form in JSON.
pub fn line(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(document(value)? + "\n")
}

fn document(value: &impl Serialize) -> anyhow::Result<String> {
    let document = serde_json::to_string(value).context("a value has no form in JSON")?;
    Ok(printable_json(&document).into_owned())
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
            page += &document(value)?;
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
