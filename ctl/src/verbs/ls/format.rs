//! Columns by name, and the templates of `--format`.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::SystemTime;

use anyhow::Context as _;
use pool_proto::Record;
use pool_proto::terminal::printable;
use serde_json::Value;

use crate::tell::row::{Column, Row};
use crate::verbs::nearest::near;

/// The column of that name.
///
/// # Errors
/// The nearest name, and all names.
pub fn parse_column(name: &str) -> Result<Column, String> {
    let column = Column::ALL.into_iter().find(|column| column.name() == name.replace('-', "_"));
    column.ok_or_else(|| {
        let names: Vec<&str> = Column::ALL.iter().map(|column| column.name()).collect();
        no_such("column", name, &names)
    })
}

fn no_such(kind: &str, name: &str, names: &[&str]) -> String {
    let near = near(name, names).map(|known| format!("did you mean {known}? ")).unwrap_or_default();
    format!("there is no {kind} {name:?}: {near}there are {}", names.join(", "))
}

/// Text with fields in it: `{id} {name}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Column(Column),
    /// A member of a record's JSON.
    Member(String),
}

/// Reads a template: a name in braces is a field, `{{` and `}}` are braces, and `\t`, `\n` and `\\` are what
/// they are in C.
///
/// # Errors
/// When a field does not exist, or a brace stands alone.
pub fn parse_template(text: &str) -> Result<Template, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' | '}' if rest.next_if_eq(&c).is_some() => plain.push(c),
            '}' => return Err("there is a } alone: write }} for the character".to_owned()),
            '{' => {
                let name: String = std::iter::from_fn(|| rest.next_if(|&c| c != '}')).collect();
                if rest.next().is_none() {
                    return Err(format!("{{{name} has no }}: write {{{{ for the character"));
                }
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(field(&name)?);
            }
            '\\' => match rest.next() {
                Some('t') => plain.push('\t'),
                Some('n') => plain.push('\n'),
                Some('\\') => plain.push('\\'),
                _ => return Err("after \\ comes t, n or another \\".to_owned()),
            },
            c => plain.push(c),
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(Template(pieces))
}

/// A member of a record's JSON goes before a column, but for those that say more as a column.
fn field(name: &str) -> Result<Piece, String> {
    let members = members();
    let is_member = members.iter().any(|member| member == name) && !["exit_code", "labels"].contains(&name);
    if is_member {
        return Ok(Piece::Member(name.to_owned()));
    }
    parse_column(name).map(Piece::Column).map_err(|_| {
        let columns = Column::ALL.iter().map(|column| column.name());
        let names: BTreeSet<&str> = members.iter().map(String::as_str).chain(columns).collect();
        let names: Vec<&str> = names.into_iter().collect();
        no_such("field", name, &names)
    })
}

/// The names of a record's members.
fn members() -> Vec<String> {
    let record = serde_json::json!({
        "schema": 1, "id": 1, "state": "queued", "pool": "", "cwd": "", "attempt": 0, "crashes": 0,
        "on_crash": "requeue", "submitted_at": "", "callbacks": [],
    });
    let record = Record::deserialize_from(record);
    record.and_then(|record| Some(record.as_object()?.keys().cloned().collect())).unwrap_or_default()
}

/// A record, read and written again: so it has all its members.
trait Rewritten {
    fn deserialize_from(value: Value) -> Option<Value>;
}

impl Rewritten for Record {
    fn deserialize_from(value: Value) -> Option<Value> {
        serde_json::from_value::<Self>(value).ok().and_then(|record| serde_json::to_value(record).ok())
    }
}

impl Template {
    /// The line of a job, with a newline. Nothing in it can control a terminal but what the template has.
    ///
    /// # Errors
    /// When the record has no form in JSON.
    pub fn line(&self, row: &Row, now: SystemTime) -> anyhow::Result<String> {
        let has_members = self.0.iter().any(|piece| matches!(piece, Piece::Member(_)));
        let record = match has_members {
            true => serde_json::to_value(&row.record).context("a record has no form in JSON")?,
            false => Value::Null,
        };
        let mut line = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => line += text,
                Piece::Column(column) => line += &printable(&row.cell(*column, now)),
                // A name may be no UTF-8; then the protocol escapes it.
                Piece::Member(name) if name == "name" => line += &printable(&row.cell(Column::Name, now)),
                Piece::Member(name) => line += &printable(&plain(&record[name.as_str()])),
            }
        }
        line.push('\n');
        Ok(line)
    }
}

/// A value as it is written by itself.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_template(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_with_fields() {
        let record = serde_json::json!({
            "schema": 1, "id": 7, "state": "failed", "pool": "gpu", "name": "a\nb", "cwd": "/", "attempt": 2,
            "argv": ["sh", "-c", "x y"], "crashes": 0, "on_crash": "requeue", "submitted_at": "",
            "callbacks": [], "result": "exit-code", "exit_code": 3, "labels": ["a", "b"],
        });
        let row = Row::of(serde_json::from_value(record).unwrap());
        let line = |text: &str| parse_template(text).unwrap().line(&row, SystemTime::now()).unwrap();
        assert_eq!(line("{id} {name}"), "7 a\\nb\n");
        assert_eq!(line("{{{state}}}\\t{exit_code}"), "{failed}\t3\n");
        assert_eq!(line("{command}|{labels}|{attempt}|{signal}"), "sh -c 'x y'|a,b|2|\n");
        for (text, wanted) in
            [("{nam}", "did you mean name?"), ("{id", "{id has no }"), ("a}", "alone"), ("\\x", "after \\")]
        {
            let error = parse_template(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        assert!(parse_column("tiem").unwrap_err().contains("did you mean time?"));
    }
}
