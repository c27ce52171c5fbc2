//! The interface's named errors: what the daemon says when it does not do what it was asked.

use serde::{Deserialize, Serialize};

/// A named error, with its parameters; as serde writes it, it has the members `error` and `parameters` of a Varlink reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", content = "parameters")]
#[allow(missing_docs, reason = "the interface description says what each parameter means")]
pub enum Refusal {
    /// The message is no JSON, or not of Varlink's shape.
    #[serde(rename = "io.poold.InvalidMessage")]
    #[error("poold could not read the message: {reason}")]
    InvalidMessage { reason: String },

    /// The message is longer than the limit, in bytes.
    #[serde(rename = "io.poold.FrameTooLarge")]
    #[error("the message is longer than {limit} bytes: send less at once, and large input with --stdin")]
    FrameTooLarge { limit: usize },

    /// Somebody else's daemon.
    #[serde(rename = "io.poold.NotOwner")]
    #[error(
        "this poold serves uid {owner} only, you are uid {uid}: start your own, or name its socket with --socket or POOL_SOCKET"
    )]
    NotOwner { uid: u32, owner: u32 },

    /// More clients are connected than the limit.
    #[serde(rename = "io.poold.TooManyClients")]
    #[error("{limit} clients are connected, which is poold's limit: try again later")]
    TooManyClients { limit: usize },

    /// A job that cannot be accepted; `index` is its place in the message.
    #[serde(rename = "io.poold.InvalidJob")]
    #[error("{field}: {reason}")]
    InvalidJob { index: usize, field: String, reason: String },

    /// No pool of that name.
    #[serde(rename = "io.poold.NoSuchPool")]
    #[error("there is no pool {pool:?}: `poolctl pool ls` lists those that there are")]
    NoSuchPool { pool: String },

    /// A pool of that name is there already, and is another one.
    #[serde(rename = "io.poold.PoolExists")]
    #[error("there is a pool {pool:?} already, with other settings: remove it first, or choose another name")]
    PoolExists { pool: String },

    /// The configuration file has the say over this pool.
    #[serde(rename = "io.poold.PoolConfigured")]
    #[error("the pool {pool:?} is in poold's configuration: change it there, and have it read anew (SIGHUP)")]
    PoolConfigured { pool: String },

    /// A pool that cannot be added.
    #[serde(rename = "io.poold.InvalidPool")]
    #[error("{field}: {reason}")]
    InvalidPool { field: String, reason: String },

    /// No job of that id.
    #[serde(rename = "io.poold.NoSuchJob")]
    #[error("there is no job {id}: `poolctl ls` lists those that there are")]
    NoSuchJob { id: u64 },

    /// A signal for a job that does not run.
    #[serde(rename = "io.poold.NotRunning")]
    #[error("job {id} is {state}, not running")]
    NotRunning { id: u64, state: String },

    /// A job that is not held cannot be released.
    #[serde(rename = "io.poold.NotHeld")]
    #[error("job {id} is not held, so there is nothing to release; nothing was changed")]
    NotHeld { id: u64 },

    /// A job's output cannot be read.
    #[serde(rename = "io.poold.NoOutput")]
    #[error("job {id} has no output: {reason}")]
    NoOutput { id: u64, reason: String },

    /// Nothing more is accepted.
    #[serde(rename = "io.poold.Draining")]
    #[error("poold is shutting down and accepts nothing more: try again when it has been started anew")]
    Draining {},

    /// A pool's queue is as long as it may be; nothing of the message was accepted.
    #[serde(rename = "io.poold.QueueFull")]
    #[error("{limit} jobs are queued in the pool {pool:?}, which is its limit (max_queued): try again later")]
    QueueFull { pool: String, limit: u64 },

    /// The output of all jobs takes as much as it may; nothing of the message was accepted.
    #[serde(rename = "io.poold.OutputFull")]
    #[error(
        "the output of all jobs takes more than {limit} bytes, which is its limit (max_total_output_bytes): try again later"
    )]
    OutputFull { limit: u64 },

    /// Clients have left too much unfinished or unread, and this one is among those that hold most for longest.
    #[serde(rename = "io.poold.Overloaded")]
    #[error(
        "more than {limit} bytes of clients' messages are unfinished or unread, and this connection held up most: try again later"
    )]
    Overloaded { limit: usize },

    /// A client has read events too slowly: nothing that happened later is told to it.
    #[serde(rename = "io.poold.EventsMissed")]
    #[error(
        "more than {limit} bytes of events were not read: what happened since is not told; ask again to go on from now"
    )]
    EventsMissed { limit: usize },

    /// One backup at a time.
    #[serde(rename = "io.poold.BackupUnderWay")]
    #[error("another backup is under way: try again when it is done")]
    BackupUnderWay {},

    /// The copy is worthless.
    #[serde(rename = "io.poold.BackupSpoiled")]
    #[error("the backup is worthless: {reason}")]
    BackupSpoiled { reason: String },

    /// The store cannot be written.
    #[serde(rename = "io.poold.StoreFailed")]
    #[error("poold cannot write its store, nothing was accepted: {reason}")]
    StoreFailed { reason: String },

    /// The store cannot be read.
    #[serde(rename = "io.poold.StoreUnreadable")]
    #[error("poold cannot read its store: {reason}")]
    StoreUnreadable { reason: String },

    /// The daemon ended while the call waited.
    #[serde(rename = "io.poold.ShuttingDown")]
    #[error("poold has shut down; what has not ended stays queued for its next start")]
    ShuttingDown {},

    /// Varlink: no such interface.
    #[serde(rename = "org.varlink.service.InterfaceNotFound")]
    #[error("poold has no interface {interface:?}")]
    InterfaceNotFound { interface: String },

    /// Varlink: no such method.
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    #[error("poold has no method {method:?}; poolctl and poold may be of different versions")]
    MethodNotFound { method: String },

    /// Varlink: the method cannot be called in this way.
    #[serde(rename = "org.varlink.service.MethodNotImplemented")]
    #[error("poold does not implement {method:?}")]
    MethodNotImplemented { method: String },

    /// Varlink: a parameter is missing or of the wrong type.
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    #[error("invalid parameter: {parameter}")]
    InvalidParameter { parameter: String },

    /// Varlink: the method replies more than once and must be called with `more`.
    #[serde(rename = "org.varlink.service.ExpectedMore")]
    #[error("the method must be called with \"more\"")]
    ExpectedMore {},
}

impl Refusal {
    /// Whether the same call may succeed later: poolctl then exits with 75 (`EX_TEMPFAIL` of sysexits.h).
    pub fn is_temporary(&self) -> bool {
        let is_full =
            matches!(self, Self::TooManyClients { .. } | Self::QueueFull { .. } | Self::OutputFull { .. });
        is_full || matches!(self, Self::Draining {} | Self::BackupUnderWay {} | Self::Overloaded { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::DESCRIPTION;

    #[test]
    fn refusals_travel_as_varlink_errors() {
        let refusal = Refusal::NoSuchJob { id: 7 };
        let text = serde_json::to_string(&refusal).unwrap();
        assert_eq!(text, r#"{"error":"io.poold.NoSuchJob","parameters":{"id":7}}"#);
        assert_eq!(serde_json::from_str::<Refusal>(&text).unwrap(), refusal);
        let text = serde_json::to_string(&Refusal::Draining {}).unwrap();
        assert_eq!(text, r#"{"error":"io.poold.Draining","parameters":{}}"#);
        assert_eq!(serde_json::from_str::<Refusal>(&text).unwrap(), Refusal::Draining {});
    }

    #[test]
    fn every_described_error_can_be_read() {
        let names = DESCRIPTION.lines().filter_map(|line| line.strip_prefix("error ")?.split(' ').next());
        for name in names {
            let full = format!("io.poold.{name}");
            let probe = serde_json::json!({ "error": full, "parameters": {} });
            // An unknown name would be reported as such; a known one at most misses its parameters.
            if let Err(error) = serde_json::from_value::<Refusal>(probe) {
                assert!(error.to_string().starts_with("missing field"), "{name}: {error}");
            }
        }
    }
}
