//! Where poolctl stands towards the job that it follows, and so what becomes of the job when poolctl leaves.

use pool_proto::nouns::OnDisconnect;

/// Where poolctl stands towards the job that it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// poolctl shows the job's output.
    Onlooker,
    /// The job is as if started here: it gets our signals (see [`interrupt`](super::interrupt)), and SIGPIPE
    /// when the reader of our output has gone. When poolctl dies, this happens to the job; poolctl says so
    /// again when poold is back.
    Owner(OnDisconnect),
    /// Somebody else has submitted the job, and our submission has joined it (`--if-exists join`). It goes on
    /// when poolctl leaves.
    Guest,
}

impl Place {
    /// What becomes of the job when poolctl dies.
    pub fn on_disconnect(self) -> OnDisconnect {
        match self {
            Self::Owner(on_disconnect) => on_disconnect,
            Self::Onlooker | Self::Guest => OnDisconnect::Detach,
        }
    }

    /// What becomes of an accepted job when poolctl leaves it.
    pub fn fate(self, id: u64) -> String {
        match self.on_disconnect() {
            OnDisconnect::Detach => format!("job {id} was accepted and goes on: `poolctl wait {id}`"),
            OnDisconnect::Cancel => format!("job {id} was accepted and is canceled"),
        }
    }
}
