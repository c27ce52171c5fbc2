//! Lines on the whole terminal that are drawn anew when they change. However poolctl ends, the terminal is as
//! it was before.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Context;
use nix::sys::signal::{Signal, raise};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;

use super::stream::Stream;
use super::text::{CANNOT_WRITE, stdout};
use super::width::{Size, cut};

/// The alternate screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Whether the view has the terminal.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// The terminal while a view has it.
#[derive(Debug)]
pub struct Redraw(());

impl Redraw {
    /// Takes the terminal. From here on a signal that ends poolctl gives the terminal back first.
    ///
    /// # Errors
    /// When the terminal takes nothing, or signals cannot be heard.
    pub fn open() -> anyhow::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT])
            .context("cannot listen to signals")?;
        write(ENTER)?;
        IS_OPEN.store(true, Ordering::SeqCst);
        let redraw = Self(());
        thread::spawn(move || {
            for signal in signals.forever() {
                match signal {
                    SIGTSTP => {
                        leave();
                        // It comes back with SIGCONT.
                        _ = raise(Signal::SIGSTOP);
                    }
                    SIGCONT => {
                        if !IS_OPEN.swap(true, Ordering::SeqCst) {
                            _ = write(ENTER);
                        }
                    }
                    signal => {
                        leave();
                        std::process::exit(128 + signal);
                    }
                }
            }
        });
        Ok(redraw)
    }

    /// Shows these lines, and a remark in the last one. Lines that do not fit are not shown.
    ///
    /// # Errors
    /// When the terminal takes nothing.
    pub fn show(&mut self, lines: &str, remark: &str, size: Size) -> anyhow::Result<()> {
        if !IS_OPEN.load(Ordering::SeqCst) {
            return Ok(());
        }
        // Each line is written over the one before it: so nothing flickers.
        let mut text = "\x1b[H".to_owned();
        let room = size.rows.saturating_sub(1);
        for line in lines.lines().take(room) {
            text += line;
            text += "\x1b[K\r\n";
        }
        text += &cut(remark, size.columns);
        text += "\x1b[J";
        write(&text)
    }
}

impl Drop for Redraw {
    fn drop(&mut self) {
        leave();
    }
}

fn leave() {
    if IS_OPEN.swap(false, Ordering::SeqCst) {
        // In the signal thread the lock of stdout may be held by a write that blocks.
        _ = Stream::Stdout.write_all(LEAVE.as_bytes());
    }
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut stdout = stdout()?;
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context(CANNOT_WRITE)
}
