//! A poold that takes connections and does not answer, since it is stopped or busy: poolctl says so after
//! some seconds, whatever it waits for then. A timer of the process does that (alarm(2)): its signal comes
//! also while a system call blocks, and costs short commands less than a thread.

use std::io::stderr;
use std::path::Path;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::unistd::{alarm, write};
use pool_proto::Vigil;
use signal_hook::consts::SIGALRM;
use signal_hook::low_level::register;

/// After so many seconds without a reply poolctl says that it waits.
const PATIENCE_S: u32 = 3;

/// What a connection calls that waits for a reply.
pub static VIGIL: Vigil = Vigil { begin: begin_again, end };

/// Whether the signal of the timer has its handler.
static HAS_HANDLER: OnceLock<bool> = OnceLock::new();

/// Begins to wait for the first reply of the poold at this socket.
pub fn begin(socket: &Path) {
    HAS_HANDLER.get_or_init(|| {
        let message = format!(
            "poolctl: poold at {} has not answered for {PATIENCE_S} s; poolctl waits on (`poolctl doctor` tells \
             more)\n",
            socket.display()
        );
        let tell = move || {
            let before = Errno::last();
            let _ = write(stderr(), message.as_bytes());
            before.set();
        };
        // SAFETY: the handler calls write(2) alone, which is async-signal-safe, with a text that was made
        // before, and leaves errno as it was. Without the handler SIGALRM would end poolctl, so it comes
        // first.
        unsafe { register(SIGALRM, tell) }.is_ok()
    });
    begin_again();
}

/// Begins to wait for a later reply of that poold.
fn begin_again() {
    if HAS_HANDLER.get() == Some(&true) {
        alarm::set(PATIENCE_S);
    }
}

/// The reply has come, or nothing is waited for any more.
pub fn end() {
    alarm::cancel();
}
