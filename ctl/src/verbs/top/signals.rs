//! Signals, noted: the loop looks at them when their pipe becomes readable.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::flag;
use signal_hook::low_level::pipe;

/// These end poolctl.
const ENDING: [i32; 4] = [SIGTERM, SIGHUP, SIGINT, SIGQUIT];

/// What a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// End: the number of the signal.
    End(i32),
    /// Stop as a shell does.
    Stop,
    /// The process goes on after a stop.
    Continued,
    /// The terminal may have another size.
    Resized,
}

/// See the module's description.
#[derive(Debug)]
pub struct Signals {
    pipe: UnixStream,
    flags: Vec<(Noted, Arc<AtomicBool>)>,
}

impl Signals {
    /// Notes signals from now on. The second one of those that end poolctl ends it at once: a terminal that
    /// takes nothing cannot keep it.
    ///
    /// # Errors
    /// Those of sigaction(2) and socketpair(2).
    pub fn note() -> anyhow::Result<Self> {
        let (read, write) = UnixStream::pair().context(CANNOT_NOTE)?;
        read.set_nonblocking(true).context(CANNOT_NOTE)?;
        let ending = ENDING.map(|signal| (signal, Noted::End(signal)));
        let others = [(SIGTSTP, Noted::Stop), (SIGCONT, Noted::Continued), (SIGWINCH, Noted::Resized)];
        let mut flags = Vec::new();
        for (signal, noted) in ending.into_iter().chain(others) {
            let flag = Arc::new(AtomicBool::new(false));
            if let Noted::End(_) = noted {
                flag::register_conditional_default(signal, Arc::clone(&flag)).context(CANNOT_NOTE)?;
            }
            // The flag is set before the pipe tells.
            flag::register(signal, Arc::clone(&flag)).context(CANNOT_NOTE)?;
            pipe::register(signal, write.try_clone().context(CANNOT_NOTE)?).context(CANNOT_NOTE)?;
            flags.push((noted, flag));
        }
        Ok(Self { pipe: read, flags })
    }

    /// Becomes readable when a signal has come.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// The signals that have come.
    pub fn take(&mut self) -> Vec<Noted> {
        let mut buffer = [0; 64];
        while self.pipe.read(&mut buffer).is_ok_and(|count| count > 0) {}
        let is_set = |(noted, flag): &(Noted, Arc<AtomicBool>)| match noted {
            // It stays set, so that the next one ends poolctl at once.
            Noted::End(_) => flag.load(Ordering::SeqCst),
            Noted::Stop | Noted::Continued | Noted::Resized => flag.swap(false, Ordering::SeqCst),
        };
        self.flags.iter().filter(|flag| is_set(flag)).map(|(noted, _)| *noted).collect()
    }
}

const CANNOT_NOTE: &str = "cannot handle signals";
