//! What the end of a process means for its job.

use nix::errno::Errno;
use pool_proto::interface::{ResultKind, State};

use crate::job::{Ended, Exit, Outcome, SpawnFailure, Stage, StopReason, Work};

/// The outcome of an attempt that ran; none when the job stays queued for the next start of the daemon.
///
/// The intent wins: what was being ended because its time was up has timed out, whatever it made of SIGTERM. Only when the daemon
/// ends, a job that still managed to finish with code 0 has succeeded.
pub fn of_end(ended: &Ended, stopping: Option<StopReason>) -> Option<Outcome> {
    let (exit_code, signal) = match ended.exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal { signal, .. } => (None, Some(signal)),
    };
    let (state, result) = match (stopping, ended.exit) {
        (Some(StopReason::Canceled), _) => (State::Canceled, ResultKind::Canceled),
        (Some(StopReason::TimedOut), _) => (State::TimedOut, ResultKind::Timeout),
        (Some(StopReason::Shutdown) | None, Exit::Code(0)) => (State::Succeeded, ResultKind::Success),
        (Some(StopReason::Shutdown), Exit::Code(_) | Exit::Signal { .. }) => return None,
        (None, Exit::Code(_)) => (State::Failed, ResultKind::ExitCode),
        (None, Exit::Signal { core: false, .. }) => (State::Failed, ResultKind::Signal),
        (None, Exit::Signal { core: true, .. }) => (State::Failed, ResultKind::CoreDump),
    };
    Some(Outcome {
        state,
        result,
        exit_code,
        signal,
        reason: None,
        usage: Some(ended.usage),
        stdout_bytes: Some(ended.stdout_bytes),
        stderr_bytes: Some(ended.stderr_bytes),
        ended_us: ended.ended_us,
    })
}

/// The outcome of a job that has ended without a process to tell of it.
pub fn without_process(state: State, result: ResultKind, reason: Option<String>, ended_us: i64) -> Outcome {
    Outcome {
        state,
        result,
        exit_code: None,
        signal: None,
        reason,
        usage: None,
        stdout_bytes: None,
        stderr_bytes: None,
        ended_us,
    }
}

/// The outcome of a job that a client canceled before it ran.
pub fn canceled(ended_us: i64) -> Outcome {
    without_process(State::Canceled, ResultKind::Canceled, None, ended_us)
}

/// The outcome of a job that died with its worker or daemon once too often.
pub fn lost(crashes: u32, how: &str, ended_us: i64) -> Outcome {
    let reason = format!("given up after {crashes} crashes; the last: {how}");
    without_process(State::Lost, ResultKind::Lost, Some(reason), ended_us)
}

/// Whether the machine had no room for the attempt, so that the same may succeed later.
pub fn is_shortage(failure: SpawnFailure) -> bool {
    let errno = Errno::from_raw(failure.errno);
    match failure.stage {
        Stage::Fork => matches!(errno, Errno::EAGAIN | Errno::ENOMEM),
        Stage::Files | Stage::Setup => {
            matches!(errno, Errno::ENOSPC | Errno::EDQUOT | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)
        }
        Stage::Cwd | Stage::Exec => false,
    }
}

/// Why an attempt could not be started, as a sentence.
pub fn explain(failure: SpawnFailure, work: &Work) -> String {
    let why = Errno::from_raw(failure.errno).desc();
    match failure.stage {
        Stage::Fork => format!("no new process could be started: {why}"),
        Stage::Files => format!("its files for standard input and output could not be opened: {why}"),
        Stage::Setup => format!("its process could not be set up: {why}"),
        Stage::Cwd => format!("cannot enter the directory {:?}: {why}", work.cwd),
        Stage::Exec => format!("cannot execute {:?}: {why}", work.argv[0]),
    }
}

/// The outcome of a job that could not be started; 127 and 126 are the shell's codes for a command not found and one that cannot be
/// executed (POSIX.1-2024, Shell Command Language, 2.8.2).
pub fn of_failure(failure: SpawnFailure, work: &Work, ended_us: i64) -> Outcome {
    let reason = Some(explain(failure, work));
    match failure.stage {
        Stage::Exec => {
            let missing = Errno::from_raw(failure.errno) == Errno::ENOENT;
            let exit_code = Some(if missing { 127 } else { 126 });
            Outcome { exit_code, ..without_process(State::Failed, ResultKind::ExitCode, reason, ended_us) }
        }
        Stage::Fork | Stage::Files | Stage::Setup | Stage::Cwd => {
            without_process(State::Failed, ResultKind::Error, reason, ended_us)
        }
    }
}
