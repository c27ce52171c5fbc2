//! What poolctl prints about an event: when, about what, and one phrase.

use pool_proto::nouns::{Happening, HappeningKind};
use pool_proto::{ResultKind, State};

use super::when;
use crate::term::progress as call_progress;
use crate::term::style::Tone;
use crate::term::width::{cell, left};

/// The columns of what an event is about: as many as "pool default" takes.
const SUBJECT: usize = 12;

/// The line, with a newline at its end. `width`: the columns of the terminal, where there is one.
pub fn describe(happening: &Happening, width: Option<usize>, has_color: bool) -> String {
    let at = when::clock(&happening.at);
    let subject = cell(&subject(happening), usize::MAX / 8);
    let subject = left(&subject, SUBJECT);
    let room = width.map_or(usize::MAX / 8, |width| {
        width.saturating_sub(at.len() + crate::term::width::columns(&subject) + 4)
    });
    let (phrase, tone) = phrase(happening);
    let phrase = cell(&phrase, room);
    format!("{at}  {subject}  {}\n", tone.paint(&phrase, has_color)).trim_end().to_owned() + "\n"
}

fn subject(happening: &Happening) -> String {
    match (happening.id, &happening.pool, happening.slot) {
        (Some(id), _, _) => format!("job {id}"),
        (None, Some(pool), Some(slot)) => format!("{pool}/{slot}"),
        (None, None, Some(slot)) => format!("callbacks/{slot}"),
        (None, Some(pool), None) => format!("pool {pool}"),
        (None, None, None) => "poold".to_owned(),
    }
}

/// What has happened, in a phrase, and whether that is good.
fn phrase(happening: &Happening) -> (String, Tone) {
    let name = happening.name.as_ref().map(|name| format!(": {name}")).unwrap_or_default();
    let because = happening.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let callback = happening.callback.map(|callback| format!(" {callback}")).unwrap_or_default();
    let pid = happening.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let pool = happening.pool.as_deref().unwrap_or_default();
    match happening.event {
        HappeningKind::Listening => ("listening".to_owned(), Tone::Faint),
        HappeningKind::Gap => (format!("some events are missing{because}"), Tone::Attention),
        HappeningKind::Submitted => (format!("submitted to {pool}{name}{because}"), Tone::Waiting),
        HappeningKind::Started => {
            let attempt = happening.attempt.filter(|&attempt| attempt > 1);
            let attempt = attempt.map(|attempt| format!(", attempt {attempt}")).unwrap_or_default();
            let slot = happening.slot.map(|slot| format!("/{slot}")).unwrap_or_default();
            (format!("started in {pool}{slot}{pid}{attempt}"), Tone::Running)
        }
        HappeningKind::Progress => {
            let told = happening.progress.as_ref().map(call_progress::describe).unwrap_or_default();
            (format!("has come to {told}"), Tone::Running)
        }
        HappeningKind::Stopping => (format!("is being ended{because}"), Tone::Attention),
        HappeningKind::Requeued => (format!("queued again{because}"), Tone::Attention),
        HappeningKind::Retrying => (format!("failed, is tried again{because}"), Tone::Attention),
        HappeningKind::Held => (format!("held{because}"), Tone::Attention),
        HappeningKind::Released => (format!("released{because}"), Tone::Waiting),
        HappeningKind::Edited => (format!("edited{because}"), Tone::Plain),
        HappeningKind::Ended => ended(happening),
        HappeningKind::CallbackDelivered => (format!("callback{callback} delivered"), Tone::Good),
        HappeningKind::CallbackRetrying => {
            let code = happening.exit_code.map(|code| format!(" with code {code}")).unwrap_or_default();
            (format!("callback{callback} failed{code}, is tried again{because}"), Tone::Attention)
        }
        HappeningKind::CallbackFailed => {
            let code = happening.exit_code.map(|code| format!(" with code {code}")).unwrap_or_default();
            (format!("callback{callback} failed{code}, given up{because}"), Tone::Bad)
        }
        HappeningKind::WorkerUp => (format!("worker is up{pid}"), Tone::Plain),
        HappeningKind::ProgramReady => (format!("program is ready{pid}"), Tone::Plain),
        HappeningKind::WorkerLost => (format!("worker lost{pid}{because}"), Tone::Bad),
        HappeningKind::PoolPaused => ("paused: starts nothing".to_owned(), Tone::Attention),
        HappeningKind::PoolResumed => ("goes on".to_owned(), Tone::Good),
    }
}

fn ended(happening: &Happening) -> (String, Tone) {
    let state = happening.state.map_or("ended", State::as_str).replace('_', " ");
    let because = happening.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let how = match (happening.result, happening.exit_code, happening.signal) {
        (Some(ResultKind::Success | ResultKind::Timeout | ResultKind::Canceled), ..) => because,
        (_, Some(code), _) => format!(": exit code {code}{because}"),
        (_, None, Some(signal)) => format!(": signal {signal}{because}"),
        (_, None, None) => because,
    };
    let tone = match happening.state {
        Some(State::Succeeded) => Tone::Good,
        Some(State::Canceled) | None => Tone::Faint,
        Some(_) => Tone::Bad,
    };
    (state + &how, tone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pool_proto::nouns::HappeningKind;

    const AT: &str = "2026-11-26T20:30:00.000000Z";

    fn told(happening: &Happening) -> String {
        let line = describe(happening, Some(63), false);
        assert!(line.len() <= 64, "{line}");
        line.strip_prefix(&when::clock(AT)).expect("the time comes first").to_owned()
    }

    #[test]
    fn a_line_says_what_happened_to_whom() {
        let of_job = |event| Happening {
            id: Some(7),
            pool: Some("default".into()),
            attempt: Some(1),
            ..Happening::new(event, AT.to_owned())
        };
        let ended = Happening {
            state: Some(State::Failed),
            result: Some(ResultKind::ExitCode),
            exit_code: Some(3),
            ..of_job(HappeningKind::Ended)
        };
        assert_eq!(told(&ended), "  job 7         failed: exit code 3\n");
        let well = Happening {
            state: Some(State::Succeeded),
            result: Some(ResultKind::Success),
            exit_code: Some(0),
            ..of_job(HappeningKind::Ended)
        };
        assert_eq!(told(&well), "  job 7         succeeded\n");
        let started =
            Happening { slot: Some(1), pid: Some(5), attempt: Some(2), ..of_job(HappeningKind::Started) };
        assert_eq!(told(&started), "  job 7         started in default/1, pid 5, attempt 2\n");
        let submitted = Happening {
            name: Some("a\u{1b}[31m and very much more of it".into()),
            ..of_job(HappeningKind::Submitted)
        };
        assert_eq!(told(&submitted), "  job 7         submitted to default: a\\u{1b}[31m an...\n");
        let lost = Happening {
            id: None,
            slot: Some(1),
            pid: Some(5),
            reason: Some("was killed by signal 9".to_owned()),
            ..of_job(HappeningKind::WorkerLost)
        };
        let paused = Happening { id: None, ..of_job(HappeningKind::PoolPaused) };
        assert_eq!(told(&paused), "  pool default  paused: starts nothing\n");
        assert_eq!(told(&lost), "  default/1     worker lost, pid 5: was killed by si...\n");
    }

    #[test]
    fn every_kind_has_a_phrase() {
        for event in HappeningKind::ALL {
            assert!(!phrase(&Happening::new(event, AT.to_owned())).0.is_empty(), "{event:?}");
        }
    }
}
