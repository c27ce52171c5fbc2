//! From a job's record to an exit code, and to the sentence that explains it.

use pool_proto::{OsText, Record, ResultKind, State};

use super::record::id_of;
use crate::exit::ExitReason;

/// The exit code for the end of a job:
///
/// | the job | code |
/// |---|---|
/// | ended by itself | its own code; 126 or 127 if its command could not be executed or does not exist |
/// | was ended by signal N | 128 + N |
/// | timed out, or had not begun in time | 124 |
/// | was canceled | as its process ended; 125 if the job never ran |
/// | could not be started, is lost, or failed with code 0 | 125 |
pub fn exit_of(record: &Record) -> ExitReason {
    if record.result == Some(ResultKind::Timeout) {
        return ExitReason::TimedOut;
    }
    match (record.exit_code, record.signal) {
        // The job ended by itself with code 0, and has failed all the same: it wrote too much output, for
        // example.
        (Some(0), _) if record.state == State::Failed => ExitReason::Failed,
        (Some(code), _) => ExitReason::Job(code.clamp(0, 255) as u8),
        (None, Some(signal)) => ExitReason::Signal(signal),
        (None, None) => ExitReason::Failed,
    }
}

/// What poolctl prints about the end besides the exit code. None for a job that ran and ended by itself.
pub fn remark(record: &Record) -> Option<String> {
    let id = id_of(record);
    match (record.result?, &record.reason) {
        (ResultKind::Success, _) => None,
        (ResultKind::ExitCode | ResultKind::Signal | ResultKind::CoreDump, None) => None,
        (ResultKind::Canceled, None) => Some(canceled(record)),
        (ResultKind::Timeout, Some(reason)) if record.state == State::Canceled => {
            Some(format!("{}: {reason}", canceled(record)))
        }
        (ResultKind::Timeout, _) => Some(timed_out(record)),
        (ResultKind::Canceled, Some(reason)) => Some(format!("{}: {reason}", canceled(record))),
        (_, Some(reason)) => Some(format!("job {id}: {reason}")),
        (kind, None) => Some(format!("job {id}: {}", kind.as_str())),
    }
}

/// Where more is told of jobs that have failed: the first of them, and how many there are.
pub fn pointer(id: u64, failed: u64) -> String {
    match failed {
        0 | 1 => format!("`poolctl show {id}` tells more"),
        failed => format!("`poolctl show {id}` tells more of the first of {failed} that did not succeed"),
    }
}

/// What is said of a call that has succeeded, and whose value is gone.
pub fn result_pruned(id: u64) -> String {
    format!(
        "job {id} has succeeded, but the history has removed its result to make room ([history] max_output_bytes)"
    )
}

/// What is said when nothing was submitted, since that job has the unique name.
pub fn skipped_for(id: u64, state: State, name: Option<&OsText>) -> String {
    let name = name.map(OsText::to_string).unwrap_or_default();
    let said =
        format!("job {id} ({}) has the unique name {name:?}, so nothing was submitted", state.as_str());
    match state {
        State::Held => format!("{said}: `poolctl release {id}` lets it run, `poolctl cancel {id}` ends it"),
        _ => said,
    }
}

/// How a job ended, as a sentence.
pub fn sentence(record: &Record) -> String {
    match record.state {
        State::TimedOut => timed_out(record),
        State::Canceled => canceled(record),
        state => format!("job {} {}: {}", id_of(record), state.as_str(), summary(record)),
    }
}

/// `reason`: its deadline was over; a timeout of an attempt has none.
fn timed_out(record: &Record) -> String {
    // An array has no attempts of its own.
    let has_started = record.attempt > 0 || record.started_at.is_some();
    let when = if has_started { "" } else { " before it had started" };
    let why = record.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("job {} timed out{when}{why}", id_of(record))
}

/// A job that has had an attempt and has no start waited for its next one, was held, or has just been
/// started.
fn canceled(record: &Record) -> String {
    // An array of which only some elements were canceled need not have been canceled itself.
    let of_array = record
        .array
        .as_deref()
        .filter(|array| array.index.is_none() && record.result == Some(ResultKind::Canceled));
    if let Some((count, all)) = of_array.and_then(|array| Some((array.canceled?, array.elements)))
        && (1..all).contains(&count)
    {
        let were = if count == 1 { "was" } else { "were" };
        return format!("job {}: {count} of {all} elements {were} canceled", id_of(record));
    }
    let when = match (record.started_at.is_some(), record.attempt) {
        (true, _) => " while it ran",
        (false, 0) => " before it had started",
        (false, _) => "",
    };
    format!("job {} was canceled{when}", id_of(record))
}

/// How a job ended, in a few words.
pub fn summary(record: &Record) -> String {
    match (record.exit_code, record.signal) {
        _ if record.state == State::TimedOut => "timed out".to_owned(),
        _ if record.state == State::Canceled => "canceled".to_owned(),
        // What is known of an array is how many of its elements have failed.
        _ if record.array.as_ref().is_some_and(|array| array.index.is_none()) && record.reason.is_some() => {
            record.reason.clone().unwrap_or_default()
        }
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => record.reason.clone().unwrap_or_else(|| record.state.as_str().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(
        state: State,
        result: ResultKind,
        exit_code: Option<i32>,
        signal: Option<i32>,
        reason: Option<&str>,
    ) -> Record {
        let mut value = serde_json::json!({
            "schema": 1, "id": 7, "pool": "default", "argv": ["a"], "cwd": "/", "attempt": 1, "crashes": 0,
            "on_crash": "requeue",
            "submitted_at": "", "callbacks": [], "state": "failed",
        });
        value["exit_code"] = exit_code.into();
        value["signal"] = signal.into();
        value["reason"] = reason.into();
        Record { state, result: Some(result), ..serde_json::from_value(value).unwrap() }
    }

    #[test]
    fn codes_and_remarks() {
        use ResultKind::{Canceled, CoreDump, Error, ExitCode, Lost, Signal, Success, Timeout};
        let cases = [
            (record(State::Succeeded, Success, Some(0), None, None), 0, None),
            (record(State::Failed, ExitCode, Some(3), None, None), 3, None),
            (
                record(State::Failed, Error, Some(0), None, Some("its output exceeded")),
                125,
                Some("its output exceeded"),
            ),
            (
                record(State::Failed, ExitCode, Some(127), None, Some("cannot execute \"x\"")),
                127,
                Some("cannot execute"),
            ),
            (record(State::Failed, Signal, None, Some(9), None), 137, None),
            (record(State::Failed, CoreDump, None, Some(11), None), 139, None),
            (record(State::TimedOut, Timeout, Some(0), None, None), 124, Some("job 7 timed out")),
            (record(State::Canceled, Canceled, None, Some(15), None), 143, Some("job 7 was canceled")),
            (record(State::Canceled, Canceled, None, None, None), 125, Some("canceled")),
            (record(State::Lost, Lost, None, None, Some("given up")), 125, Some("given up")),
            (record(State::Failed, Error, None, None, Some("cannot enter")), 125, Some("cannot enter")),
        ];
        for (record, code, wanted) in cases {
            assert_eq!(exit_of(&record).code(), code, "{record:?}");
            match (remark(&record), wanted) {
                (None, None) => {}
                (Some(remark), Some(wanted)) => assert!(remark.contains(wanted), "{remark}"),
                other => panic!("{record:?}: {other:?}"),
            }
        }
    }
}
