//! From a job's record to an exit code, and to the sentence that explains it.

use pool_proto::{Record, ResultKind, State};

/// The command line is wrong, as clap has it.
pub const USAGE: u8 = 2;
/// poold refuses for now: `EX_TEMPFAIL` of sysexits.h.
pub const REFUSED_FOR_NOW: u8 = 75;
/// A time was up, as timeout(1) has it.
pub const TIMED_OUT: u8 = 124;
/// poolctl or poold failed.
pub const FAILED: u8 = 125;
/// What a shell makes of SIGPIPE.
pub const BROKEN_PIPE: u8 = 128 + 13;

/// The exit code that tells of this end:
///
/// | the job | code |
/// |---|---|
/// | ended by itself | its own; 126 or 127 where its command could not be executed or found |
/// | was ended by signal N | 128 + N |
/// | timed out | 124 |
/// | was canceled | as it ended; 125 when it never ran |
/// | could not be started, is lost, or failed with code 0 | 125 |
pub fn exit_code(record: &Record) -> u8 {
    if record.state == State::TimedOut {
        return TIMED_OUT;
    }
    match (record.exit_code, record.signal) {
        // It ended by itself, and has failed all the same: with too much output, say.
        (Some(0), _) if record.state == State::Failed => FAILED,
        (Some(code), _) => code.clamp(0, 255) as u8,
        (None, Some(signal)) => of_signal(signal),
        (None, None) => FAILED,
    }
}

/// What a shell makes of an end by a signal.
pub fn of_signal(signal: i32) -> u8 {
    (128 + signal).clamp(0, 255) as u8
}

/// What is worth saying of this end beyond the exit code, which for a job that ran and ended by itself is nothing.
pub fn remark(record: &Record) -> Option<String> {
    let id = record.id;
    match (record.result?, &record.reason) {
        (ResultKind::Success, _) => None,
        (ResultKind::ExitCode | ResultKind::Signal | ResultKind::CoreDump, None) => None,
        (ResultKind::Timeout, _) => Some(format!("job {id} was ended: its time was up")),
        (ResultKind::Canceled, None) => Some(format!("job {id} was canceled")),
        (ResultKind::Canceled, Some(reason)) => Some(format!("job {id} was canceled: {reason}")),
        (_, Some(reason)) => Some(format!("job {id}: {reason}")),
        (kind, None) => Some(format!("job {id}: {}", kind.as_str())),
    }
}

/// How a job ended, in a few words.
pub fn summary(record: &Record) -> String {
    match (record.exit_code, record.signal) {
        _ if record.state == State::TimedOut => "time was up".to_owned(),
        _ if record.state == State::Canceled => "canceled".to_owned(),
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
            "schema": 1, "id": 7, "pool": "default", "argv": ["a"], "cwd": "/", "attempt": 1, "crashes": 0, "on_crash": "requeue",
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
            (record(State::TimedOut, Timeout, Some(0), None, None), 124, Some("time was up")),
            (record(State::Canceled, Canceled, None, Some(15), None), 143, Some("canceled")),
            (record(State::Canceled, Canceled, None, None, None), 125, Some("canceled")),
            (record(State::Lost, Lost, None, None, Some("given up")), 125, Some("given up")),
            (record(State::Failed, Error, None, None, Some("cannot enter")), 125, Some("cannot enter")),
        ];
        for (record, code, wanted) in cases {
            assert_eq!(exit_code(&record), code, "{record:?}");
            match (remark(&record), wanted) {
                (None, None) => {}
                (Some(remark), Some(wanted)) => assert!(remark.contains(wanted), "{remark}"),
                other => panic!("{record:?}: {other:?}"),
            }
        }
    }
}
