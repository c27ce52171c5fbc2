//! Backups: while somebody copies the database's file, it is left alone.
//!
//! A commit goes into the log; the file itself changes only when the log is written back, and nobody but us
//! does that. So a copy needs no help but that we write back everything first, and then nothing until it is
//! made: no commit waits for it. A copy that takes too long is given up before the log grows without end.

use std::path::Path;

use pool_proto::Refusal;

use super::connection::SoundConnection;
use super::fault;

/// Pages that the log may have while the file is held, 1 GiB.
const MAX_LOG: i64 = if cfg!(test) { 512 } else { 1 << 18 };

/// Who copies the file, if anybody does.
#[derive(Debug, Default)]
pub enum Hold {
    #[default]
    None,
    By(usize),
    /// It took too long.
    Spoiled(usize),
}

impl Hold {
    /// The file is to be left alone.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::By(_))
    }

    /// Everything that is committed goes into the file, which is then held; its length in bytes.
    pub fn begin(
        &mut self,
        holder: usize,
        connection: &mut SoundConnection,
        state_dir: &Path,
    ) -> Result<u64, Refusal> {
        if matches!(*self, Self::By(other) if other != holder) {
            return Err(Refusal::BackupUnderWay {});
        }
        *self = Self::None;
        let length = connection
            .make_whole()
            .map_err(|error| Refusal::StoreFailed { reason: fault::explain(&error, state_dir) })?;
        *self = Self::By(holder);
        Ok(length)
    }

    /// Whether the file was left alone all the while.
    pub fn end(&mut self, holder: usize) -> Result<(), Refusal> {
        let reason = match *self {
            Self::By(by) if by == holder => {
                *self = Self::None;
                return Ok(());
            }
            Self::Spoiled(by) if by == holder => {
                *self = Self::None;
                "it took so long that poold had to change the file again; try again when there is less to do"
            }
            Self::None | Self::By(_) | Self::Spoiled(_) => "it was not begun on this connection",
        };
        Err(Refusal::BackupSpoiled { reason: reason.to_owned() })
    }

    /// Gives up a hold during which the log has grown too long.
    pub fn limit(&mut self, log_pages: i64) {
        if let Self::By(holder) = *self
            && log_pages > MAX_LOG
        {
            tracing::warn!("a backup takes too long and is given up");
            *self = Self::Spoiled(holder);
        }
    }
}
