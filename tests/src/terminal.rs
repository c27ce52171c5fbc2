//! A terminal for one command: a pseudo-terminal, and what it shows, as the library vt100 reads it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, FromRawFd, IntoRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::fcntl::{OFlag, open as open_file};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::termios::{Termios, tcgetattr};
use vt100::{MouseProtocolMode, Parser, Screen};

use crate::{run, send, wait_for, wait_until};

/// See the module's description.
pub struct Terminal {
    child: Child,
    /// None after [`hang_up`](Self::hang_up).
    master: Option<Arc<File>>,
    reader: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    path: String,
    slave: File,
    parser: Arc<Mutex<Parser>>,
    before: Termios,
}

impl Terminal {
    /// Runs a command in a session of its own on a new terminal of that size.
    ///
    /// # Panics
    /// When there is no terminal to be had, or no setsid(1).
    pub fn run(command: &Command, (columns, rows): (u16, u16)) -> Self {
        let (master, path, slave) = open().expect("there is a pseudo-terminal");
        set_size(&path, (columns, rows));
        let before = tcgetattr(&slave).expect("it is a terminal");
        let stdio = || Stdio::from(slave.try_clone().expect("a descriptor can be had"));

        let mut at_terminal = Command::new("setsid");
        at_terminal.arg("--ctty").arg(command.get_program()).args(command.get_args());
        at_terminal.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => at_terminal.env(name, value),
                None => at_terminal.env_remove(name),
            };
        }
        at_terminal.stdin(stdio()).stdout(stdio()).stderr(stdio());
        let child = at_terminal.spawn().expect("setsid(1) is there");

        let parser = Arc::new(Mutex::new(Parser::new(rows, columns, 0)));
        let master = Arc::new(master);
        let is_over = Arc::new(AtomicBool::new(false));
        let (output, shown, end) = (Arc::clone(&master), Arc::clone(&parser), Arc::clone(&is_over));
        let reader = Some(thread::spawn(move || read(&output, &shown, &end)));
        Self { child, master: Some(master), reader, is_over, path, slave, parser, before }
    }

    fn parser(&self) -> MutexGuard<'_, Parser> {
        self.parser.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it shows now.
    pub fn screen(&self) -> Screen {
        self.parser().screen().clone()
    }

    /// Waits until it shows a text.
    ///
    /// # Panics
    /// When it never does.
    pub fn wait_text(&self, text: &str) {
        self.wait_screen(text, |shown| shown.contains(text));
    }

    /// Waits until what it shows satisfies `condition`.
    ///
    /// # Panics
    /// When it never does, with what it shows.
    pub fn wait_screen(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(what, || condition(&self.screen().contents()));
        }));
        assert!(shown.is_ok(), "{what} is not shown:\n{}", self.screen().contents());
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal takes nothing.
    pub fn press(&mut self, keys: &str) {
        let master = self.master.as_ref().expect("the terminal is there");
        (&**master).write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Gives it another size.
    ///
    /// # Panics
    /// When that cannot be done.
    pub fn resize(&self, (columns, rows): (u16, u16)) {
        self.parser().screen_mut().set_size(rows, columns);
        set_size(&self.path, (columns, rows));
    }

    /// Takes the terminal away, as a connection that is lost does.
    pub fn hang_up(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.master = None;
        // It has the last descriptor.
        let _ = self.reader.take().map(JoinHandle::join);
    }

    /// The process of the command.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids fit")
    }

    /// Sends the command a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for the command's end: its exit code, 128 + N for signal N.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> i32 {
        let status = wait_for("the end of the command", || self.child.try_wait().expect("it is our child"));
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    /// Whether a program has the whole screen.
    pub fn is_taken(&self) -> bool {
        self.screen().alternate_screen()
    }

    /// Waits until the terminal is as it was before the command: its modes, its cursor, the mouse, the
    /// screen.
    ///
    /// # Panics
    /// When it does not become so.
    pub fn wait_restored(&self) {
        // The last bytes may still be on their way.
        wait_until("the terminal is as before", || {
            let screen = self.screen();
            !screen.alternate_screen()
                && !screen.hide_cursor()
                && screen.mouse_protocol_mode() == MouseProtocolMode::None
        });
        let now = tcgetattr(&self.slave).expect("it is a terminal");
        assert_eq!(now, self.before, "the modes are as before");
    }
}

/// A pseudo-terminal: its master, and the path of its slave, and the slave. No process inherits them: whoever
/// had the master would keep the terminal from being taken away.
fn open() -> nix::Result<(File, String, File)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let path = ptsname_r(&master)?;
    let slave = open_file(path.as_str(), flags, Mode::empty())?;
    // SAFETY: the descriptor is given up by its owner in the same expression.
    let master = unsafe { File::from_raw_fd(master.into_raw_fd()) };
    Ok((master, path, File::from(slave)))
}

fn set_size(path: &str, (columns, rows): (u16, u16)) {
    let mut stty = Command::new("stty");
    stty.args(["-F", path, "cols", &columns.to_string(), "rows", &rows.to_string()]);
    let said = run(&mut stty);
    assert_eq!(said.code, 0, "{said:?}");
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.hang_up();
    }
}

/// Shows what comes, until the terminal is taken away.
fn read(mut output: &File, shown: &Mutex<Parser>, is_over: &AtomicBool) {
    let mut buffer = [0; 4096];
    while !is_over.load(Ordering::SeqCst) {
        let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(20_u8)).is_ok_and(|ready| ready > 0)
            && let Ok(count @ 1..) = output.read(&mut buffer)
        {
            shown.lock().unwrap_or_else(PoisonError::into_inner).process(&buffer[..count]);
        }
    }
}
