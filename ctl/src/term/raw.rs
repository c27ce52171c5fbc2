//! The terminal as bytes: each key goes on as it is typed, Ctrl-C included. However poolctl ends, but for
//! SIGKILL, the terminal is as it was before.

use std::io::{IsTerminal, stdin};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use ratatui::crossterm::terminal;

use super::screen::before_a_panic;

static IS_RAW: AtomicBool = AtomicBool::new(false);

/// Whether keys come from a terminal.
pub fn has_keys() -> bool {
    stdin().is_terminal()
}

/// Takes the keys.
///
/// # Errors
/// Those of the terminal.
pub fn enter() -> anyhow::Result<()> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| before_a_panic(leave));
    IS_RAW.store(true, Ordering::SeqCst);
    terminal::enable_raw_mode().context("cannot take the terminal's keys")
}

/// Gives them back, where they were taken.
pub fn leave() {
    if IS_RAW.swap(false, Ordering::SeqCst) {
        let _ = terminal::disable_raw_mode();
    }
}

/// Rows and columns, where there is a terminal.
pub fn size() -> Option<(u16, u16)> {
    let (columns, rows) = terminal::size().ok()?;
    (rows > 0 && columns > 0).then_some((rows, columns))
}
