//! What a client does to a running attempt besides signals.

use serde::{Deserialize, Serialize};

/// What a client wants of the standard input of a running attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steer {
    /// Its pipe is to have an end.
    CloseInput,
    /// Its terminal is to have that size, in characters.
    Resize { rows: u16, columns: u16 },
}
