//! The door: the listening socket, and the word of where it is. Both come back when they are lost.
//!
//! ```text
//!   the socket's own place          where clients look first: a runtime directory, /tmp, a named path
//!   STATE/poold.sock                the spare place, while the own one cannot be had: the runtime directory of
//!                                   a user who has logged out is gone, one in /tmp may be another user's by now
//!   STATE/lock                      says which, and who guards it (`pool_proto::place`)
//! ```
//!
//! A cleaner of temporary files, a logout or a person takes the socket away from a poold that lives on. The
//! guardian is told by inotify(7), and by whoever looks for it in vain (`place::knock`), which is an event of
//! the same kind: nothing polls. It binds the socket anew, and hands it to the supervisor.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, Inotify};
use pool_proto::location::{self, check_socket_path};

use super::lock::{Lock, StateLock};
use super::socket;
use super::trace::Trace;

/// Whether nobody has named the socket; then its directory must be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    ByDefault,
    ByUser,
}

/// See the module's description.
#[derive(Debug)]
pub struct Door {
    own: PathBuf,
    named: Named,
    spare: PathBuf,
    open: Open,
    state: StateLock,
}

/// Where clients are let in now.
#[derive(Debug)]
struct Open {
    at: PathBuf,
    listener: OwnedFd,
    /// None where there is nothing at the path.
    trace: Option<Trace>,
    /// Of the socket's path. None for a service manager's socket, which is not ours to lock or to remove.
    lock: Option<Lock>,
}

impl Door {
    /// Opens the door at its own place; a default one that cannot be had gives way to the spare one.
    ///
    /// # Errors
    /// Why there is neither.
    pub fn open(own: PathBuf, named: Named, state_dir: &Path, state: StateLock) -> anyhow::Result<Self> {
        let spare = state_dir.join(location::SPARE_SOCKET);
        let open = match (socket::prepare_folder(&own, named == Named::ByDefault), named) {
            (Err(error), Named::ByDefault) => Open::bind(&spare, Named::ByUser).map_err(|_| error)?,
            (prepared, _) => prepared.and_then(|()| Open::bind(&own, named))?,
        };
        Ok(Self { own, named, spare, open, state })
    }

    /// The door that a service manager has opened.
    pub fn of_service_manager(
        listener: UnixListener,
        own: PathBuf,
        state_dir: &Path,
        state: StateLock,
    ) -> Self {
        let open =
            Open { at: own.clone(), listener: listener.into(), trace: Trace::of(&own).ok(), lock: None };
        Self { own, named: Named::ByUser, spare: state_dir.join(location::SPARE_SOCKET), open, state }
    }

    /// Where clients are let in.
    pub fn at(&self) -> &Path {
        &self.open.at
    }

    /// Whether that is not where clients look first.
    pub fn is_spare(&self) -> bool {
        self.open.at != self.own
    }

    pub fn listener(&self) -> &OwnedFd {
        &self.open.listener
    }

    /// Says where it is, and in which process.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn announce(&mut self) -> anyhow::Result<()> {
        if let Some(lock) = &mut self.open.lock {
            lock.write(None)?;
        }
        self.state.announce(&self.open.at)
    }

    /// Has inotify tell when something is not where it was. What is watched already stays watched.
    pub fn watch(&self, inotify: &Inotify) {
        let moved =
            AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_DONT_FOLLOW;
        // A socket or file without a name left is IN_ATTRIB: whoever has it open keeps it from being deleted.
        let lost = moved | AddWatchFlags::IN_ATTRIB;
        let folder = self.open.at.parent().unwrap_or(Path::new("/"));
        for (path, flags) in [(self.open.at.as_path(), lost), (self.state.note(), lost), (folder, moved)] {
            if let Err(error) = inotify.add_watch(path, flags) {
                // A knock is heard as long as the note is watched.
                tracing::debug!(%error, path = %path.display(), "cannot watch");
            }
        }
    }

    /// Puts in its place again what is not. Whether there is another listener than before.
    pub fn mend(&mut self) -> bool {
        let is_new = self.mend_socket();
        if (is_new || !self.state.is_in_place())
            && let Err(error) = self.announce()
        {
            tracing::error!("cannot say in the state directory where poold listens: {error:#}");
        }
        is_new
    }

    fn mend_socket(&mut self) -> bool {
        let is_in_place = self.open.is_in_place();
        if is_in_place && self.open.at == self.own {
            return false;
        }

        // The lock of a path goes on being held, unless its file is gone.
        let lock = self.open.lock.take_if(|lock| !is_in_place && lock.is_in_place());
        let at_own = Open::bind_again(&self.own, self.named, lock);
        let opened = match at_own {
            Err(_) if is_in_place => return false,
            Err(error) => {
                let socket = self.own.display();
                tracing::warn!("the socket {socket} is lost, and cannot be put there again: {error:#}");
                Open::bind(&self.spare, Named::ByUser)
            }
            bound => bound,
        };
        match opened {
            Ok(open) => {
                tracing::warn!(socket = %open.at.display(), "the socket was lost; poold listens again");
                std::mem::replace(&mut self.open, open).remove();
                true
            }
            Err(error) => {
                tracing::error!("nobody can connect to poold: {error:#}");
                false
            }
        }
    }

    /// Takes away what is ours, at the end.
    pub fn close(&self) {
        self.state.clear();
        self.open.remove();
    }
}

impl Open {
    fn bind(at: &Path, named: Named) -> anyhow::Result<Self> {
        Self::bind_again(at, named, None)
    }

    /// `lock`: that of a socket, which may be another one's.
    fn bind_again(at: &Path, named: Named, lock: Option<Lock>) -> anyhow::Result<Self> {
        check_socket_path(at).map_err(anyhow::Error::msg)?;
        let lock = match lock.filter(|lock| lock.path() == socket::lock_path(at)) {
            Some(lock) => lock,
            None => socket::lock(at, named == Named::ByDefault)?,
        };
        let (listener, trace) = socket::bind(at)?;
        Ok(Self { at: at.to_owned(), listener: listener.into(), trace: Some(trace), lock: Some(lock) })
    }

    fn is_in_place(&self) -> bool {
        self.trace.as_ref().is_some_and(Trace::is_in_place)
    }

    fn remove(&self) {
        if let (Some(trace), Some(_)) = (&self.trace, &self.lock) {
            trace.remove();
        }
    }
}
