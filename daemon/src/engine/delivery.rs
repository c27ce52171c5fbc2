//! How far the delivery of a callback is, and what clients may change about that.
//!
//! ```text
//! Waiting ── job ends ──▶ Pending ◀──▶ Running ──▶ Delivered | Failed
//!                └──▶ Skipped     Pending, Failed ── drop ──▶ Dropped
//!                                 Failed, Dropped ── retry ─▶ Pending
//! ```

use crate::job::CallbackId;

/// How far the delivery of a callback is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Its job has not ended.
    Waiting,
    Pending,
    Running,
    Delivered,
    Failed,
    /// Its job has ended otherwise.
    Skipped,
    /// A client has dropped it.
    Dropped,
}

/// What a client wants of callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackWish {
    /// They run once more, with as many attempts as new ones.
    Retry,
    /// They do not run any more, and nobody is reminded of them.
    Drop,
}

/// Callbacks that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackPage {
    One(CallbackId),
    /// Those that are pending, running or failed, or the failed ones alone; with ids after this one, so many
    /// at most.
    Open {
        failed: bool,
        after: CallbackId,
        limit: u32,
    },
}

impl Delivery {
    /// Those that [`CallbackPage::Open`] is about.
    pub const OPEN: [Self; 3] = [Self::Pending, Self::Running, Self::Failed];

    const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Pending,
        Self::Running,
        Self::Delivered,
        Self::Failed,
        Self::Skipped,
        Self::Dropped,
    ];

    /// As clients see it, and as it is kept.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Dropped => "dropped",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|delivery| delivery.as_str() == text)
    }

    /// What a callback is once the client has what it wants; none where it cannot have that.
    pub fn altered(self, wish: CallbackWish) -> Option<Self> {
        match (wish, self) {
            (CallbackWish::Retry, Self::Failed | Self::Dropped) => Some(Self::Pending),
            (CallbackWish::Drop, Self::Pending | Self::Failed | Self::Dropped) => Some(Self::Dropped),
            _ => None,
        }
    }

    /// Whether the job is kept for it.
    pub fn is_undelivered(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}
