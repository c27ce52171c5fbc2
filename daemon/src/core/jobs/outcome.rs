//! What the end of a process means for its job.

use nix::errno::Errno;
use pool_proto::Json;
use pool_proto::nouns::{OnCrash, ResultKind, State};

use crate::job::{
    Answered, ArrayTally, Ended, Exit, JobId, JobKind, Outcome, PastAttempt, SpawnFailure, Stage, StopReason,
    Tie, Verdict, Work,
};

/// The outcome of an attempt that ran; none when the job stays queued for the next start of the daemon.
///
/// The intent wins: what was being ended because its time was up has timed out, whatever it made of SIGTERM.
/// What was being ended because the daemon ends was interrupted, even with code 0: many programs take SIGTERM
/// for a reason to leave their work and end well.
pub fn of_end(ended: &Ended, stopping: Option<StopReason>, on_crash: OnCrash) -> Option<Outcome> {
    let (exit_code, signal) = match ended.exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal { signal, .. } => (None, Some(signal)),
    };
    let verdict = ended.verdict.filter(|_| matches!(stopping, None | Some(StopReason::Shutdown)));
    let (state, result) = match (stopping, ended.exit) {
        (
            Some(
                StopReason::Canceled
                | StopReason::Untied(_)
                | StopReason::Replaced(_)
                | StopReason::Dependency(_),
            ),
            _,
        ) => (State::Canceled, ResultKind::Canceled),
        (Some(StopReason::Late), _) => (State::Canceled, ResultKind::Timeout),
        (Some(StopReason::TimedOut | StopReason::Idle | StopReason::Deadline), _) => {
            (State::TimedOut, ResultKind::Timeout)
        }
        (Some(StopReason::Shutdown) | None, _)
            if matches!(verdict, Some(Verdict::OomKill | Verdict::TooMuchMemory { .. })) =>
        {
            (State::Failed, ResultKind::OomKill)
        }
        (Some(StopReason::Shutdown) | None, _) if verdict.is_some() => (State::Failed, ResultKind::Error),
        (Some(StopReason::Shutdown), _) if on_crash != OnCrash::Fail => return None,
        (Some(StopReason::Shutdown), Exit::Code(0)) => (State::Failed, ResultKind::Lost),
        (None, Exit::Code(0)) => (State::Succeeded, ResultKind::Success),
        (Some(StopReason::Shutdown) | None, Exit::Code(_)) => (State::Failed, ResultKind::ExitCode),
        (Some(StopReason::Shutdown) | None, Exit::Signal { core: false, .. }) => {
            (State::Failed, ResultKind::Signal)
        }
        (Some(StopReason::Shutdown) | None, Exit::Signal { core: true, .. }) => {
            (State::Failed, ResultKind::CoreDump)
        }
    };
    let reason = match stopping {
        _ if verdict.is_some() => verdict.map(explain_verdict),
        Some(StopReason::Untied(tie)) => Some(untied(tie)),
        Some(StopReason::Replaced(by)) => Some(replaced(by)),
        Some(StopReason::Dependency(on)) => Some(dependency(on)),
        Some(StopReason::Deadline) => Some(PAST_DEADLINE.to_owned()),
        Some(StopReason::Idle) => Some(IDLE.to_owned()),
        Some(StopReason::Late) => Some(TOO_LATE.to_owned()),
        Some(StopReason::Shutdown) if state == State::Failed => Some(not_repeated("poold was told to end")),
        Some(StopReason::Shutdown | StopReason::Canceled | StopReason::TimedOut) | None => None,
    };
    Some(Outcome {
        state,
        result,
        exit_code,
        signal,
        reason,
        usage: Some(ended.usage),
        stdout_bytes: Some(ended.stdout_bytes),
        stderr_bytes: Some(ended.stderr_bytes),
        disk_bytes: ended.disk_bytes,
        answer: None,
        ended_us: ended.ended_us,
    })
}

/// Why a job has timed out whose deadline was over.
pub const PAST_DEADLINE: &str = "it had not ended by its deadline";

/// Why an attempt has timed out that did nothing.
pub const IDLE: &str = "it wrote nothing and used no CPU for as long as its idle timeout";

/// Why a job was canceled that had not begun in time.
pub const TOO_LATE: &str = "it had not begun in time (start-within)";

/// Why a job is held that was interrupted by the end of the daemon.
pub const TOLD_TO_END: &str = "poold was told to end while it ran";

fn explain_verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::OomKill => "memory ran out, and the kernel killed a process of it".to_owned(),
        Verdict::TooMuchMemory { limit } => {
            format!("it needed more memory than its limit of {limit} bytes, and the kernel killed it")
        }
        Verdict::TooMuchOutput { limit } => {
            format!("its output exceeded {limit} bytes (max_output_bytes), so it was ended")
        }
    }
}

/// The outcome of a call that has been answered: code 0 with a value, 1 with an error.
pub fn of_answer(answered: Answered, ended_us: i64) -> Outcome {
    let Answered { result, stderr_bytes, rss_bytes: _ } = answered;
    let (state, kind, exit_code) = match result {
        Ok(_) => (State::Succeeded, ResultKind::Success, 0),
        Err(_) => (State::Failed, ResultKind::Error, 1),
    };
    Outcome {
        exit_code: Some(exit_code),
        stderr_bytes: Some(stderr_bytes),
        disk_bytes: stderr_bytes,
        answer: Some(result),
        ..without_process(state, kind, None, ended_us)
    }
}

/// The code of errors that poold makes itself: the first of those that JSON-RPC 2.0 leaves to implementations
/// (section 5.1).
const SERVER_ERROR: i32 = -32000;

/// The outcome of a call during which its program broke the protocol.
pub fn of_breach(how: &str, ended_us: i64) -> Outcome {
    let error = serde_json::json!({ "code": SERVER_ERROR, "message": how }).to_string();
    let error = Json::parse(&error).expect("it has just been made as JSON");
    let outcome = without_process(State::Failed, ResultKind::Error, Some(how.to_owned()), ended_us);
    Outcome { exit_code: Some(1), answer: Some(Err(error)), ..outcome }
}

/// The outcome of an array of which nothing is left to run. `stopping`: it was being ended, for this reason.
pub fn of_array(tally: &ArrayTally, stopping: Option<StopReason>, ended_us: i64) -> Outcome {
    if let Some(outcome) = stopping.and_then(|reason| of_stop(reason, ended_us)) {
        return outcome;
    }
    let ArrayTally { elements, failed, canceled, worst, .. } = *tally;
    let canceled = canceled + if tally.drops { elements - tally.made } else { 0 };
    let of_all = |count: u32, what: &str| format!("{count} of {elements} elements {what}");
    match (failed, canceled) {
        (0, 0) => Outcome {
            exit_code: Some(0),
            ..without_process(State::Succeeded, ResultKind::Success, None, ended_us)
        },
        (0, canceled) => {
            let verb = if canceled == 1 { "was canceled" } else { "were canceled" };
            let reason = Some(of_all(canceled, verb));
            without_process(State::Canceled, ResultKind::Canceled, reason, ended_us)
        }
        (failed, _) => {
            let reason = Some(of_all(failed, "failed"));
            let outcome = without_process(State::Failed, ResultKind::ExitCode, reason, ended_us);
            Outcome { exit_code: Some(worst.max(1).into()), ..outcome }
        }
    }
}

/// An error may be as long as a message; of one that is quoted, so many characters are.
const QUOTED: usize = 200;

/// How an attempt has failed, in few words.
pub fn in_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome { reason: Some(reason), .. } => reason.clone(),
        Outcome { answer: Some(Err(error)), .. } => {
            let quoted: String = error.get().chars().take(QUOTED).collect();
            let cut = if quoted.len() < error.get().len() { "..." } else { "" };
            format!("error {quoted}{cut}")
        }
        Outcome { state: State::TimedOut, .. } => "its time was up".to_owned(),
        Outcome { signal: Some(signal), .. } => format!("signal {signal}"),
        Outcome { exit_code: Some(code), .. } => format!("exit code {code}"),
        Outcome { result, .. } => result.as_str().to_owned(),
    }
}

/// The outcome of a job that its pool cannot run: a command in a warm pool, or a call in another one. It was
/// submitted before the configuration was changed.
pub fn of_mismatch(work: &Work, ended_us: i64) -> Outcome {
    let pool = &work.pool;
    let reason = match work.kind {
        JobKind::Exec(_) => format!("the pool {pool:?} has a resident program now and runs no commands"),
        JobKind::Call(_) => format!("the pool {pool:?} has no resident program any more"),
    };
    without_process(State::Failed, ResultKind::Error, Some(reason), ended_us)
}

/// The outcome of a call whose program cannot be started, and what became of it.
pub fn of_hopeless(work: &Work, why: &str, ended_us: i64) -> Outcome {
    let reason = format!("the program of the pool {:?} cannot be started: {why}", work.pool);
    without_process(State::Failed, ResultKind::Error, Some(reason), ended_us)
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
        disk_bytes: 0,
        answer: None,
        ended_us,
    }
}

/// The outcome of a job that was to be ended, and has no process any more, or never had one. None when it
/// stays queued.
pub fn of_stop(stopping: StopReason, ended_us: i64) -> Option<Outcome> {
    let (state, result, reason) = match stopping {
        StopReason::Canceled => (State::Canceled, ResultKind::Canceled, None),
        StopReason::Untied(tie) => (State::Canceled, ResultKind::Canceled, Some(untied(tie))),
        StopReason::Replaced(by) => (State::Canceled, ResultKind::Canceled, Some(replaced(by))),
        StopReason::Dependency(on) => (State::Canceled, ResultKind::DepFailed, Some(dependency(on))),
        StopReason::TimedOut => (State::TimedOut, ResultKind::Timeout, None),
        StopReason::Idle => (State::TimedOut, ResultKind::Timeout, Some(IDLE.to_owned())),
        StopReason::Late => (State::Canceled, ResultKind::Timeout, Some(TOO_LATE.to_owned())),
        StopReason::Deadline => (State::TimedOut, ResultKind::Timeout, Some(PAST_DEADLINE.to_owned())),
        StopReason::Shutdown => return None,
    };
    Some(without_process(state, result, reason, ended_us))
}

fn untied(tie: Tie) -> String {
    match tie {
        Tie::Client => "the client that it was tied to has gone".to_owned(),
        Tie::Job(id) => format!("job {id}, which it was tied to, has ended"),
        Tie::Pool => "poold was shutting down, and all that it was tied to had ended".to_owned(),
    }
}

fn replaced(by: JobId) -> String {
    format!("job {by}, which has the same unique name, has taken its place")
}

fn dependency(on: JobId) -> String {
    format!("job {on} did not end as --after needs")
}

/// An attempt that died with its worker or daemon.
pub fn died(attempt: u32, started_us: Option<i64>, how: &str, ended_us: i64) -> Box<PastAttempt> {
    let outcome = without_process(State::Lost, ResultKind::Lost, Some(how.to_owned()), ended_us);
    Box::new(outcome.as_past(attempt, started_us))
}

/// The outcome of a job that died with its worker or daemon and is not to be repeated.
pub fn crashed(how: &str, ended_us: i64) -> Outcome {
    without_process(State::Failed, ResultKind::Lost, Some(not_repeated(how)), ended_us)
}

fn not_repeated(how: &str) -> String {
    format!("{how} while the job ran. It is not run again (on-crash: fail); part of its work may be done.")
}

/// The outcome of a job that died with its worker or daemon once too often. `crashes`: the last included.
pub fn lost(crashes: u32, how: &str, ended_us: i64) -> Outcome {
    let crashes = if crashes == 1 { "1 crash".to_owned() } else { format!("{crashes} crashes") };
    let reason = format!("given up after {crashes}; the last: {how}");
    without_process(State::Lost, ResultKind::Lost, Some(reason), ended_us)
}

/// Whether the machine had no room for the attempt, or the state directory is not as it should be, so that
/// the same may succeed later.
pub fn is_shortage(failure: SpawnFailure) -> bool {
    let errno = Errno::from_raw(failure.errno);
    match failure.stage {
        Stage::Fork => matches!(errno, Errno::EAGAIN | Errno::ENOMEM),
        Stage::Output | Stage::Killed | Stage::Frozen => true,
        Stage::Stdin | Stage::Setup => {
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
        Stage::Killed => "its process was killed before it could execute its command".to_owned(),
        Stage::Frozen => "poold's control group is frozen (cgroup.freeze)".to_owned(),
        Stage::Stdin => format!("its standard input could not be opened: {why}"),
        Stage::Output => format!(
            "its output files could not be created: {why}; mend \"output\" in poold's state directory"
        ),
        Stage::Setup => format!("its process could not be set up: {why}"),
        Stage::Cwd => format!("cannot enter the directory {:?}: {why}", work.cwd),
        Stage::Exec => match &work.kind {
            JobKind::Exec(argv) => {
                let program = argv[0].to_string();
                // `submit 'make && make install'`: a whole line in one word.
                let is_line = argv.len() == 1 && program.contains([' ', '|', ';', '&', '>', '<', '$']);
                let is_missing = Errno::from_raw(failure.errno) == Errno::ENOENT;
                let hint = if is_line && is_missing {
                    "; no shell reads a command, so write sh -c 'LINE'"
                } else {
                    ""
                };
                format!("cannot execute {:?}: {why}{hint}", argv[0])
            }
            JobKind::Call(call) => format!("cannot call {:?}: {why}", call.method),
        },
    }
}

/// The outcome of a job that could not be started; 127 and 126 are the shell's codes for a command not found
/// and one that cannot be executed (POSIX.1-2024, Shell Command Language, 2.8.2).
pub fn of_failure(failure: SpawnFailure, work: &Work, ended_us: i64) -> Outcome {
    let reason = Some(explain(failure, work));
    match failure.stage {
        Stage::Exec => {
            let missing = Errno::from_raw(failure.errno) == Errno::ENOENT;
            let exit_code = Some(if missing { 127 } else { 126 });
            Outcome { exit_code, ..without_process(State::Failed, ResultKind::ExitCode, reason, ended_us) }
        }
        Stage::Fork
        | Stage::Killed
        | Stage::Frozen
        | Stage::Stdin
        | Stage::Output
        | Stage::Setup
        | Stage::Cwd => without_process(State::Failed, ResultKind::Error, reason, ended_us),
    }
}
