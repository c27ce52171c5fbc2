//! Between our types and SQLite's columns: ids, durations, and names of states, read off a row one after the other.

use std::time::Duration;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Error, Result, Row};

use crate::job::{CallbackId, JobId};

macro_rules! id_column {
    ($id:ident) => {
        impl ToSql for $id {
            fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
                // A client may ask for any id; one beyond SQLite's integers becomes a negative one, which there is not.
                Ok(ToSqlOutput::from(self.0.cast_signed()))
            }
        }

        impl FromSql for $id {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let id = value.as_i64()?;
                u64::try_from(id).map($id).map_err(|_| FromSqlError::OutOfRange(id))
            }
        }
    };
}

id_column!(JobId);
id_column!(CallbackId);

/// A duration in microseconds; what does not fit is as good as for ever.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A size or count; what does not fit is cut.
pub fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The columns of a row, taken in the order in which they were selected.
pub struct Columns<'r> {
    row: &'r Row<'r>,
    next: usize,
}

impl<'r> Columns<'r> {
    pub fn new(row: &'r Row<'r>) -> Self {
        Self { row, next: 0 }
    }

    pub fn take<T: FromSql>(&mut self) -> Result<T> {
        let value = self.row.get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// A size or count.
    pub fn size(&mut self) -> Result<Option<u64>> {
        Ok(self.take::<Option<i64>>()?.map(|value| value.max(0).unsigned_abs()))
    }

    /// A duration in microseconds.
    pub fn duration(&mut self) -> Result<Option<Duration>> {
        Ok(self.size()?.map(Duration::from_micros))
    }

    /// A text that stands for something else.
    pub fn parse<T>(&mut self, parse: impl FnOnce(&str) -> Option<T>) -> Result<T> {
        self.parse_optional(parse)?.ok_or_else(|| unreadable(self.next - 1, "a null"))
    }

    pub fn parse_optional<T>(&mut self, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>> {
        let index = self.next;
        self.next += 1;
        let Some(text) = self.row.get_ref(index)?.as_str_or_null()? else { return Ok(None) };
        parse(text).map(Some).ok_or_else(|| unreadable(index, text))
    }
}

fn unreadable(column: usize, text: &str) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, format!("{text:?} was not expected here").into())
}
