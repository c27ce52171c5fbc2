//! The named errors of the interface: what the daemon replies when it does not do what a client asked for.

use serde::{Deserialize, Serialize};

/// A named error with its parameters. serde writes a refusal with the members `error` and `parameters`, as
/// they are in a Varlink reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", content = "parameters")]
#[allow(missing_docs, reason = "the interface description says what each parameter means")]
pub enum Refusal {
    /// The message is no JSON, or does not have Varlink's shape.
    #[serde(rename = "io.poold.InvalidMessage")]
    #[error("poold could not read the message: {reason}")]
    InvalidMessage { reason: String },

    /// The message is longer than the limit, in bytes.
    #[serde(rename = "io.poold.FrameTooLarge")]
    #[error(
        "the message is longer than {limit} bytes: send fewer jobs at once, and large input with --stdin"
    )]
    FrameTooLarge { limit: usize },

    /// The daemon serves another user.
    #[serde(rename = "io.poold.NotOwner")]
    #[error(
        "this poold serves uid {owner} only, you are uid {uid}: start your own poold, or name its \
         socket with --socket or POOL_SOCKET"
    )]
    NotOwner { uid: u32, owner: u32 },

    /// As many clients are connected as the limit allows.
    #[serde(rename = "io.poold.TooManyClients")]
    #[error("{limit} clients are connected, which is the limit of poold: try again later")]
    TooManyClients { limit: usize },

    /// A job cannot be accepted; `index` is the place of the job in the message.
    #[serde(rename = "io.poold.InvalidJob")]
    #[error("{}: {reason}", in_words(field))]
    InvalidJob { index: usize, field: String, reason: String },

    /// No pool of that name exists.
    #[serde(rename = "io.poold.NoSuchPool")]
    #[error("there is no pool {pool:?}: `poolctl pool ls` lists all pools")]
    NoSuchPool { pool: String },

    /// A pool of that name exists already, with other settings.
    #[serde(rename = "io.poold.PoolExists")]
    #[error(
        "a pool {pool:?} with other settings exists already: remove that pool first, or choose another name"
    )]
    PoolExists { pool: String },

    /// The pool is defined in the configuration file, which alone may change it.
    #[serde(rename = "io.poold.PoolConfigured")]
    #[error("{}", configured(pool))]
    PoolConfigured { pool: String },

    /// A pool cannot be added.
    #[serde(rename = "io.poold.InvalidPool")]
    #[error("{}", of_pool(field, reason))]
    InvalidPool { field: String, reason: String },

    /// The programs of a pool could not be replaced.
    #[serde(rename = "io.poold.NotRestarted")]
    #[error(
        "a new program of the pool {pool:?} could not be started: {reason}; programs that took calls before \
         go on, and poold tries again"
    )]
    NotRestarted { pool: String, reason: String },

    /// A schedule of that name exists already, with other settings.
    #[serde(rename = "io.poold.ScheduleExists")]
    #[error(
        "a schedule {schedule:?} with other settings exists already: replace it (--replace), or choose another \
         name"
    )]
    ScheduleExists { schedule: String },

    /// The schedule is defined in the configuration file, which alone may change it.
    #[serde(rename = "io.poold.ScheduleConfigured")]
    #[error(
        "the schedule {schedule:?} is defined in the configuration file of poold: change the file, then \
         send SIGHUP to poold; `poolctl schedule pause` works without that"
    )]
    ScheduleConfigured { schedule: String },

    /// A schedule cannot be added.
    #[serde(rename = "io.poold.InvalidSchedule")]
    #[error("{}", of_pool(field, reason))]
    InvalidSchedule { field: String, reason: String },

    /// No callback of that id exists.
    #[serde(rename = "io.poold.NoSuchCallback")]
    #[error("there is no callback {id}: `poolctl callbacks ls` lists callbacks that have not been delivered")]
    NoSuchCallback { id: u64 },

    /// No schedule of that name exists.
    #[serde(rename = "io.poold.NoSuchSchedule")]
    #[error("there is no schedule {schedule:?}: `poolctl schedule ls` lists all schedules")]
    NoSuchSchedule { schedule: String },

    /// A label cannot have that name, or that limit.
    #[serde(rename = "io.poold.InvalidLimit")]
    #[error("{reason}")]
    InvalidLimit { reason: String },

    /// A limit that is not there was to be removed.
    #[serde(rename = "io.poold.NoSuchLimit")]
    #[error("no limit of the label {label:?} was set: `poolctl limit ls` lists all limits")]
    NoSuchLimit { label: String },

    /// The limit is defined in the configuration file, and nobody has set another one.
    #[serde(rename = "io.poold.LimitConfigured")]
    #[error(
        "the limit of the label {label:?} is defined in the configuration file of poold: change the file, then \
         send SIGHUP to poold, or set another limit with `poolctl limit set`"
    )]
    LimitConfigured { label: String },

    /// No job of that id exists.
    #[serde(rename = "io.poold.NoSuchJob")]
    #[error("{}", absent(*id, *pruned))]
    NoSuchJob {
        id: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pruned: Option<bool>,
    },

    /// A signal was to be sent to a job that does not run.
    #[serde(rename = "io.poold.NotRunning")]
    #[error("job {id} {}, and this takes a running job: `poolctl show {id}` tells more of it", is_in(state))]
    NotRunning { id: u64, state: String },

    /// A running job has no standard input that a client could open, end or resize.
    #[serde(rename = "io.poold.NoInput")]
    #[error("{reason}")]
    NoInput { id: u64, reason: String },

    /// A job that is not held was to be released.
    #[serde(rename = "io.poold.NotHeld")]
    #[error("job {id} is not held, so it cannot be released; nothing was changed")]
    NotHeld { id: u64 },

    /// A job cannot be edited so, or not any more. Nothing was changed.
    #[serde(rename = "io.poold.NotEdited")]
    #[error("{reason}")]
    NotEdited {
        id: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
        reason: String,
    },

    /// The output of a job cannot be read.
    #[serde(rename = "io.poold.NoOutput")]
    #[error("job {id} has no output: {reason}")]
    NoOutput { id: u64, reason: String },

    /// The daemon accepts nothing more.
    #[serde(rename = "io.poold.Draining")]
    #[error("poold is shutting down and accepts nothing more: try again after its next start")]
    Draining {},

    /// Somebody drains the pool, which takes no new jobs meanwhile.
    #[serde(rename = "io.poold.PoolDraining")]
    #[error(
        "the pool {pool:?} is being drained and takes no new jobs: try again later, or let it take jobs again \
         with `poolctl pool resume {pool}`"
    )]
    PoolDraining { pool: String },

    /// The pool has as many queued jobs as its limit allows; no job of the message was accepted.
    #[serde(rename = "io.poold.QueueFull")]
    #[error("{limit} jobs are queued in the pool {pool:?}, which is the limit (max_queued): try again later")]
    QueueFull { pool: String, limit: u64 },

    /// The calls that are kept in memory alone take as much of it as they may; no job of the message was
    /// accepted. `limit`: in bytes.
    #[serde(rename = "io.poold.MemoryFull")]
    #[error(
        "the calls that are kept in memory alone take {limit} bytes, which is the limit: try again later"
    )]
    MemoryFull { limit: u64 },

    /// The output of all jobs has reached its limit; no job of the message was accepted.
    #[serde(rename = "io.poold.OutputFull")]
    #[error(
        "the output of all jobs takes more than {limit} bytes, which is the limit (max_total_output_bytes): \
         try again later"
    )]
    OutputFull { limit: u64 },

    /// Clients have left too much unfinished or unread, and this connection has held the most for the longest
    /// time.
    #[serde(rename = "io.poold.Overloaded")]
    #[error(
        "more than {limit} bytes of clients' messages are unfinished or unread, and this connection has held \
         the most: try again later"
    )]
    Overloaded { limit: usize },

    /// The client has read events too slowly; later events are not told to it.
    #[serde(rename = "io.poold.EventsMissed")]
    #[error(
        "more than {limit} bytes of events were not read, so poold stopped telling them: \
         `poolctl events --since CURSOR` goes on after the last event that was read"
    )]
    EventsMissed { limit: usize },

    /// Another client is making a backup.
    #[serde(rename = "io.poold.BackupUnderWay")]
    #[error("another backup is under way: try again when that backup is done")]
    BackupUnderWay {},

    /// The copy that the client has made is worthless.
    #[serde(rename = "io.poold.BackupSpoiled")]
    #[error("the backup cannot be used, make another one: {reason}")]
    BackupSpoiled { reason: String },

    /// The store cannot be written.
    #[serde(rename = "io.poold.StoreFailed")]
    #[error("poold cannot write its store, so nothing was accepted: {reason}")]
    StoreFailed { reason: String },

    /// The store cannot be read.
    #[serde(rename = "io.poold.StoreUnreadable")]
    #[error("poold cannot read its store: {reason}")]
    StoreUnreadable { reason: String },

    /// The daemon ended while the request waited.
    #[serde(rename = "io.poold.ShuttingDown")]
    #[error("poold has shut down; jobs that have not ended stay queued for its next start")]
    ShuttingDown {},

    /// Varlink: no interface of that name exists.
    #[serde(rename = "org.varlink.service.InterfaceNotFound")]
    #[error("poold has no interface {interface:?}; its own is io.poold")]
    InterfaceNotFound { interface: String },

    /// Varlink: no method of that name exists.
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    #[error("poold has no method {method:?}; poolctl and poold may be of different versions")]
    MethodNotFound { method: String },

    /// Varlink: the method cannot be requested in this way.
    #[serde(rename = "org.varlink.service.MethodNotImplemented")]
    #[error("poold does not implement {method:?}; `poolctl help protocol` tells of its methods")]
    MethodNotImplemented { method: String },

    /// Varlink: a parameter is missing or of the wrong type.
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    #[error("invalid parameter: {parameter}")]
    InvalidParameter { parameter: String },

    /// Varlink: the method replies more than once and must be requested with `more`.
    #[serde(rename = "org.varlink.service.ExpectedMore")]
    #[error("the method must be requested with \"more\"")]
    ExpectedMore {},
}

impl Refusal {
    /// Whether the same request may succeed later. poolctl then exits with 75 (`EX_TEMPFAIL` of sysexits.h).
    pub fn is_temporary(&self) -> bool {
        let is_full = matches!(
            self,
            Self::TooManyClients { .. }
                | Self::QueueFull { .. }
                | Self::PoolDraining { .. }
                | Self::MemoryFull { .. }
                | Self::OutputFull { .. }
        );
        is_full || matches!(self, Self::Draining {} | Self::BackupUnderWay {} | Self::Overloaded { .. })
    }
}

/// What a member of a job or of a pool is called on poolctl's command line.
fn in_words(field: &str) -> String {
    match field {
        "argv" | "command" => "the command".to_owned(),
        "params" => "the parameters".to_owned(),
        "method" => "the method".to_owned(),
        "limits" | "umask" => format!("the {field}"),
        "time_zone" => "--tz".to_owned(),
        "resources" => "--resource".to_owned(),
        "input" => "--stdin open, --pty".to_owned(),
        _ => {
            let option = ["_s", "_bytes"].iter().find_map(|unit| field.strip_suffix(unit)).unwrap_or(field);
            format!("--{}", option.replace('_', "-"))
        }
    }
}

/// A pool and a schedule have their names without an option. What is wrong with it is a sentence of its own.
fn of_pool(field: &str, reason: &str) -> String {
    if field == "name" { reason.to_owned() } else { format!("{}: {reason}", in_words(field)) }
}

fn configured(pool: &str) -> String {
    if pool == "default" {
        return "the pool \"default\" is always there: `poolctl pool set default --workers N` changes its size"
            .to_owned();
    }
    format!(
        "the pool {pool:?} is defined in the configuration file of poold: change the file, then send SIGHUP to \
         poold"
    )
}

/// What is said of a job in this state: "is queued", "has ended (failed)".
fn is_in(state: &str) -> String {
    match ["succeeded", "failed", "canceled", "timed_out", "lost"].contains(&state) {
        true => format!("has ended ({state})"),
        false => format!("is {state}"),
    }
}

fn absent(id: u64, pruned: Option<bool>) -> String {
    if pruned == Some(true) {
        format!(
            "job {id} has been pruned, or never existed: the history of poold keeps no more than [history] \
             max_jobs and max_age allow"
        )
    } else {
        format!("there is no job {id}: `poolctl ls` lists the jobs that poold knows")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_called_as_on_the_command_line() {
        let invalid =
            |field: &str| Refusal::InvalidPool { field: field.to_owned(), reason: "why".to_owned() };
        let cases = [
            ("start_timeout_s", "--start-timeout: why"),
            ("max_rss_bytes", "--max-rss: why"),
            ("command", "the command: why"),
            ("name", "why"),
        ];
        for (field, text) in cases {
            assert_eq!(invalid(field).to_string(), text);
        }
    }

    #[test]
    fn refusals_travel_as_varlink_errors() {
        let refusal = Refusal::NoSuchJob { id: 7, pruned: None };
        let text = serde_json::to_string(&refusal).unwrap();
        assert_eq!(text, r#"{"error":"io.poold.NoSuchJob","parameters":{"id":7}}"#);
        assert_eq!(serde_json::from_str::<Refusal>(&text).unwrap(), refusal);
        let text = serde_json::to_string(&Refusal::Draining {}).unwrap();
        assert_eq!(text, r#"{"error":"io.poold.Draining","parameters":{}}"#);
        assert_eq!(serde_json::from_str::<Refusal>(&text).unwrap(), Refusal::Draining {});
    }
}
