//! The whole terminal as one picture that is drawn anew, and the keys and the mouse. However poolctl ends,
//! but for SIGKILL, the terminal is left as it was: [`Screen`] does that when it is dropped, and a panic
//! before it is told.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write, stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, panic};

use anyhow::Context;
use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, DisableMouseCapture, EnableMouseCapture, Event};
use ratatui::crossterm::terminal::{
    self, BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen,
};
use ratatui::crossterm::{execute, queue};
use ratatui::layout::Rect;

use super::stream::open_at_start;

/// A picture is written at once.
const PICTURE: usize = 64 * 1024;

/// With no time at all the library does not even look.
const AT_HAND: Duration = Duration::from_millis(2);

/// Whether the terminal is ours.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// See the module's description.
///
/// The library's own type for a terminal would ask the terminal where its cursor is, and wait for the answer;
/// and it panics where the terminal has gone.
pub struct Screen {
    backend: CrosstermBackend<BufWriter<Stdout>>,
    /// The picture that is shown.
    shown: Buffer,
    has_mouse: bool,
}

impl Screen {
    /// Why there can be no screen here. None if there can be one.
    pub fn obstacle() -> Option<&'static str> {
        if open_at_start().is_err() || !stdout().is_terminal() {
            return Some("standard output is no terminal");
        }
        if !stdin().is_terminal() {
            return Some("standard input is no terminal");
        }
        let is_dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        is_dumb.then_some("the terminal cannot move its cursor (TERM is dumb, or not set)")
    }

    /// Takes the terminal.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn open() -> anyhow::Result<Self> {
        restore_at_a_panic();
        let backend = CrosstermBackend::new(BufWriter::with_capacity(PICTURE, stdout()));
        let mut screen = Self { backend, shown: Buffer::default(), has_mouse: true };
        screen.enter()?;
        Ok(screen)
    }

    /// Takes the terminal again after [`leave`](Self::leave), or when another process may have changed it.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn enter(&mut self) -> anyhow::Result<()> {
        restore();
        IS_OURS.store(true, Ordering::SeqCst);
        let taken = terminal::enable_raw_mode().and_then(|()| execute!(stdout(), EnterAlternateScreen, Hide));
        taken.context(CANNOT_DRAW)?;
        if self.has_mouse {
            execute!(stdout(), EnableMouseCapture).context(CANNOT_DRAW)?;
        }
        self.clear()
    }

    /// Gives the terminal back for a while.
    pub fn leave(&mut self) {
        restore();
    }

    /// Has the next picture drawn in full.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn clear(&mut self) -> anyhow::Result<()> {
        self.shown = Buffer::empty(self.shown.area);
        execute!(stdout(), Clear(ClearType::All)).context(CANNOT_DRAW)
    }

    /// Columns and rows.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn size(&self) -> anyhow::Result<(u16, u16)> {
        terminal::size().context(CANNOT_DRAW)
    }

    /// Draws a picture of that size: what differs from the one before is written.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn draw(&mut self, size: (u16, u16), paint: impl FnOnce(&mut Buffer)) -> anyhow::Result<()> {
        let area = Rect::new(0, 0, size.0, size.1);
        if area != self.shown.area {
            self.shown = Buffer::empty(area);
            self.clear()?;
        }
        let mut picture = Buffer::empty(area);
        paint(&mut picture);

        let backend = &mut self.backend;
        // A terminal that knows it shows nothing of a picture before all of it has come.
        queue!(backend, BeginSynchronizedUpdate).context(CANNOT_DRAW)?;
        backend.draw(self.shown.diff(&picture).into_iter()).context(CANNOT_DRAW)?;
        queue!(backend, EndSynchronizedUpdate).context(CANNOT_DRAW)?;
        Write::flush(backend).context(CANNOT_DRAW)?;
        self.shown = picture;
        Ok(())
    }

    /// Takes the mouse, or leaves it to the terminal.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn set_mouse(&mut self, has_mouse: bool) -> anyhow::Result<()> {
        self.has_mouse = has_mouse;
        let set = match has_mouse {
            true => execute!(stdout(), EnableMouseCapture),
            false => execute!(stdout(), DisableMouseCapture),
        };
        set.context(CANNOT_DRAW)
    }

    /// The next key or click that has come already.
    ///
    /// # Errors
    /// Those of the terminal, which may have gone.
    pub fn next_event(&mut self) -> anyhow::Result<Option<Event>> {
        let next = || if event::poll(AT_HAND)? { event::read().map(Some) } else { Ok(None) };
        next().context("cannot read from the terminal")
    }

    /// Calls `act` with the descriptor that becomes readable with keys and clicks.
    pub fn with_fd<T>(act: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        act(stdin().as_fd())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// The message when the terminal takes nothing. The reason follows it.
const CANNOT_DRAW: &str = "cannot draw on the terminal";

/// Leaves the terminal as it was. Errors are not returned: the terminal may have gone.
fn restore() {
    if IS_OURS.swap(false, Ordering::SeqCst) {
        let _ = execute!(stdout(), DisableMouseCapture, EndSynchronizedUpdate, LeaveAlternateScreen, Show);
        let _ = terminal::disable_raw_mode();
    }
}

/// A panic gives the terminal back first, so that its message can be read.
fn restore_at_a_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| before_a_panic(restore));
}

/// From now on a panic does this before it is told.
pub(super) fn before_a_panic(act: fn()) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        act();
        before(panic);
        let _ = stderr().flush();
    }));
}

/// Waits for a line of the user.
pub fn wait_for_enter() {
    let _ = io::stdin().read_line(&mut String::new());
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Run by the test below, at a terminal.
    #[test]
    #[ignore = "it panics with the screen taken"]
    fn panics() {
        let _screen = Screen::open().expect("it is at a terminal");
        panic!("for the test");
    }

    #[test]
    fn a_panic_leaves_the_terminal_as_it_was_and_is_told_there() {
        let test = env::current_exe().unwrap();
        let command = format!(
            "stty -a; {} --exact term::screen::tests::panics --ignored --nocapture; stty -a",
            test.display()
        );
        // script(1) has a terminal for it.
        let mut script = Command::new("script");
        script.env("TERM", "xterm").args(["--quiet", "--command", &command, "/dev/null"]);
        let Ok(said) = script.stdin(std::process::Stdio::null()).output() else {
            return eprintln!("skipped: there is no script(1)");
        };
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let place = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text:?}: {said:?}"));
        assert!(place("\u{1b}[?1049h") < place("\u{1b}[?1049l"), "{said:?}");
        assert!(
            place("\u{1b}[?1049l") < place("for the test"),
            "told when the screen is given back: {said:?}"
        );
        assert!(said.contains("\u{1b}[?25h") && said.contains("\u{1b}[?1000l"), "cursor, mouse: {said:?}");
        assert_eq!(said.matches("\u{1b}[?1049l").count(), 1, "{said:?}");
        let modes: Vec<&str> = said.lines().filter(|line| line.contains("icanon")).collect();
        assert!(modes.len() == 2 && modes[0] == modes[1], "{modes:?}");
    }
}
