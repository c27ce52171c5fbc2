//! What poolctl prints about an event: one line.

use std::fmt::Write;

use pool_proto::nouns::Happening;

use crate::term::{progress as call_progress, text::printable};

/// The line, with a newline at its end.
pub fn describe(happening: &Happening) -> String {
    let Happening {
        event,
        at,
        id,
        pool,
        name,
        attempt,
        slot,
        pid,
        state,
        result,
        exit_code,
        signal,
        reason,
        callback,
        progress,
    } = happening;
    let subject = match (id, pool, slot) {
        (Some(id), _, _) => format!("job {id}"),
        (None, Some(pool), Some(slot)) => format!("slot {pool}/{slot}"),
        (None, None, Some(slot)) => format!("slot callbacks/{slot}"),
        (None, Some(pool), None) => format!("pool {pool}"),
        (None, None, None) => String::new(),
    };

    let mut facts = Vec::new();
    let mut fact =
        |name: &str, value: Option<String>| facts.extend(value.map(|value| format!("{name}{value}")));

    fact("", state.map(|state| state.as_str().to_owned()));
    fact("", result.map(|result| result.as_str().to_owned()).filter(|_| state.is_some()));
    fact("callback ", callback.map(|callback| callback.to_string()));
    fact("attempt ", attempt.map(|attempt| attempt.to_string()));
    fact("pool ", pool.clone().filter(|_| id.is_some()));
    fact("slot ", slot.map(|slot| slot.to_string()).filter(|_| id.is_some()));
    fact("pid ", pid.map(|pid| pid.to_string()));
    fact("exit code ", exit_code.map(|code| code.to_string()));
    fact("signal ", signal.map(|signal| signal.to_string()));
    fact("name ", name.as_ref().map(ToString::to_string));
    fact("", reason.clone());
    fact("", progress.as_ref().map(call_progress::describe));

    let mut line = String::new();
    write!(line, "{at}  {subject:<14}  {:<18}  {}", event.as_str(), facts.join(", "))
        .expect("a string takes everything");
    format!("{}\n", printable(line.trim_end(), usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pool_proto::nouns::HappeningKind;
    use pool_proto::{ResultKind, State};

    #[test]
    fn a_line_says_what_happened_to_whom() {
        let at = "2026-11-26T20:30:00.000000Z".to_owned();
        let ended = Happening {
            id: Some(7),
            pool: Some("default".into()),
            attempt: Some(1),
            state: Some(State::Failed),
            result: Some(ResultKind::ExitCode),
            exit_code: Some(3),
            ..Happening::new(HappeningKind::Ended, at.clone())
        };
        let expected = "2026-11-26T20:30:00.000000Z  job 7           ended               failed, exit-code, \
                        attempt 1, pool default, exit code 3\n";
        assert_eq!(describe(&ended), expected);
        let reason = Some("was killed by signal 9".to_owned());
        let lost = Happening {
            pool: Some("default".into()),
            slot: Some(1),
            pid: Some(5),
            reason,
            ..Happening::new(HappeningKind::WorkerLost, at)
        };
        assert!(
            describe(&lost)
                .ends_with("  slot default/1  worker_lost         pid 5, was killed by signal 9\n"),
            "{}",
            describe(&lost)
        );
        let paused = Happening {
            pool: Some("default".into()),
            ..Happening::new(HappeningKind::PoolPaused, "now".to_owned())
        };
        assert_eq!(describe(&paused), "now  pool default    pool_paused\n");
    }
}
