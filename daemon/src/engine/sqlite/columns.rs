//! Between our types and SQLite's columns: ids, durations, and names of states, read off a row by the
//! columns' names.
//!
//! [`columns!`] makes the list of a SELECT and the names by which its columns are read from one list, so that
//! neither can be out of step with the other. A name becomes an index when the program is compiled: by its
//! text SQLite would search for it in each row, past all other columns, and a column that is selected but
//! never read is a warning.

use std::marker::PhantomData;
use std::time::Duration;

use pool_proto::OsText;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Error, Result, Row};

use crate::job::{CallbackId, JobId, ProcessId};

macro_rules! id_column {
    ($id:ident) => {
        impl ToSql for $id {
            fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
                // A client may ask for any id; one beyond SQLite's integers becomes a negative one, which no
                // job has.
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

impl ToSql for ProcessId {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.get()))
    }
}

impl FromSql for ProcessId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i32::column_result(value).map(Self::new)
    }
}

/// A size or count; what does not fit is cut.
pub fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The columns of a SELECT, as an enum, and the statements that select them, as its constants; a column may
/// be given as an expression.
///
/// ```text
/// columns! {
///     Victim { id, output_bytes = "stdout_bytes + stderr_bytes" }
///     OLDEST: "FROM jobs ORDER BY ended_us";
/// }
/// ```
macro_rules! columns {
    ($(#[$attribute:meta])* $name:ident $columns:tt $($statement:ident: $tail:literal;)+) => {
        $crate::engine::sqlite::columns::columns!(@enum $(#[$attribute])* $name $columns);

        impl $name {
            $(pub(super) const $statement: &str =
                $crate::engine::sqlite::columns::columns!(@select $columns $tail);)+
        }
    };
    (@enum $(#[$attribute:meta])* $name:ident { $($column:ident $(= $value:literal)?),+ $(,)? }) => {
        $(#[$attribute])*
        #[allow(non_camel_case_types, reason = "they are named as the columns are")]
        #[derive(Clone, Copy)]
        pub(super) enum $name {
            $($column),+
        }

        impl $crate::engine::sqlite::columns::Column for $name {
            fn index(self) -> usize {
                self as usize
            }
        }
    };
    (@select { $first:ident $(= $first_value:literal)? $(, $column:ident $(= $value:literal)?)* $(,)? } $tail:literal) => {
        concat!(
            "SELECT ", $($first_value, " AS ",)? stringify!($first),
            $(", ", $($value, " AS ",)? stringify!($column),)*
            " ", $tail
        )
    };
}
pub(super) use columns;

/// A column of a SELECT, by its name: see [`columns!`].
pub trait Column: Copy {
    /// Its place in the list.
    fn index(self) -> usize;
}

/// A row, read by the names of its columns.
pub struct Columns<'r, C> {
    row: &'r Row<'r>,
    names: PhantomData<C>,
}

impl<'r, C: Column> Columns<'r, C> {
    /// A row of a statement that selects these columns.
    pub fn of(row: &'r Row<'r>) -> Self {
        Self { row, names: PhantomData }
    }

    pub fn get<T: FromSql>(&self, column: C) -> Result<T> {
        self.row.get(column.index())
    }

    /// Text in its escaped form.
    pub fn os_text(&self, column: C) -> Result<OsText> {
        self.get(column).map(OsText::from_escaped)
    }

    pub fn optional_os_text(&self, column: C) -> Result<Option<OsText>> {
        Ok(self.get::<Option<String>>(column)?.map(OsText::from_escaped))
    }

    /// A size or count.
    pub fn size(&self, column: C) -> Result<Option<u64>> {
        Ok(self.get::<Option<i64>>(column)?.map(|value| value.max(0).unsigned_abs()))
    }

    /// A duration in microseconds.
    pub fn duration(&self, column: C) -> Result<Option<Duration>> {
        Ok(self.size(column)?.map(Duration::from_micros))
    }

    /// A text that stands for something else.
    pub fn parse<T>(&self, column: C, parse: impl FnOnce(&str) -> Option<T>) -> Result<T> {
        self.parse_optional(column, parse)?.ok_or_else(|| unreadable(column, "a null"))
    }

    pub fn parse_optional<T>(&self, column: C, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(text) = self.row.get_ref(column.index())?.as_str_or_null()? else { return Ok(None) };
        parse(text).map(Some).ok_or_else(|| unreadable(column, text))
    }
}

fn unreadable(column: impl Column, text: &str) -> Error {
    let what = format!("{text:?} was not expected here");
    Error::FromSqlConversionFailure(column.index(), Type::Text, what.into())
}
