//! Attempts of a job before its latest one, a line each.

use std::fmt::Write;

use pool_proto::nouns::{Attempt, ResultKind};
use pool_proto::text::unix_micros;

use super::when::{of_seconds, short};
use crate::term::text::printable;

/// The attempts as lines; nothing where there are none.
pub fn describe_attempts(attempts: &[Attempt]) -> String {
    let mut text = String::new();
    for attempt in attempts {
        let line = printable(&line_of(attempt, &attempt.ended_at), usize::MAX);
        writeln!(text, "earlier    {line}").expect("a string takes everything");
    }
    text
}

/// An attempt, how it ended, and when: `ended_at`, as the reader wants to see it.
pub fn line_of(attempt: &Attempt, ended_at: &str) -> String {
    let end = match (attempt.result, &attempt.reason, attempt.signal, attempt.exit_code) {
        (_, Some(reason), _, _) => reason.clone(),
        (ResultKind::Timeout, ..) => "its time was up".to_owned(),
        (_, _, Some(signal), _) => format!("signal {signal}"),
        (_, _, _, Some(code)) => format!("exit code {code}"),
        (result, ..) => result.as_str().to_owned(),
    };
    let took = attempt.started_at.as_deref().and_then(unix_micros).zip(unix_micros(&attempt.ended_at));
    let took = took
        .map(|(start, end)| format!(", after {}", short(of_seconds(end.saturating_sub(start) as f64 / 1e6))));
    format!("{}: {end}{}; ended {ended_at}", attempt.attempt, took.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_is_a_line_that_says_how_it_ended() {
        let failed = Attempt {
            attempt: 1,
            started_at: Some("2026-11-28T10:00:00.000000Z".to_owned()),
            ended_at: "2026-11-28T10:00:12.000000Z".to_owned(),
            result: ResultKind::ExitCode,
            exit_code: Some(3),
            signal: None,
            reason: None,
        };
        let died = Attempt {
            attempt: 2,
            started_at: None,
            result: ResultKind::Lost,
            exit_code: None,
            reason: Some("its worker died".to_owned()),
            ..failed.clone()
        };
        let text = describe_attempts(&[failed, died]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "earlier    1: exit code 3, after 12s; ended 2026-11-28T10:00:12.000000Z",
                "earlier    2: its worker died; ended 2026-11-28T10:00:12.000000Z",
            ]
        );
    }
}
