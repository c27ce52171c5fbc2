//! Notices that an attempt does nothing: it writes no output, and none of its processes uses CPU time.
//!
//! It looks once in each period, so an attempt whose idle timeout is ten minutes costs its worker a wake-up
//! every ten minutes, and one that is over before that costs none. What has happened between two looks has
//! happened at the second one: so an attempt is idle for at least one period, and for less than two, when that
//! is noticed.

use std::time::{Duration, Instant};

/// What an attempt has done so far. It changes with each write and with each use of the CPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signs {
    /// CPU time, in whatever unit.
    pub cpu: u64,
    /// Of each file of output: its length, and when it was written to, in nanoseconds since 1970.
    pub output: [(u64, i128); 2],
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct IdleWatch {
    attempt: Option<Watched>,
}

/// The attempt that runs.
#[derive(Debug)]
struct Watched {
    period: Duration,
    seen: Signs,
    /// When to look; none once it has been found idle.
    due: Option<Instant>,
}

impl IdleWatch {
    /// An attempt begins, which may do nothing for so long.
    pub fn begin(&mut self, period: Option<Duration>) {
        let watched = |period| Watched { period, seen: Signs::default(), due: after(period) };
        self.attempt = period.map(watched);
    }

    /// The attempt is over.
    pub fn end(&mut self) {
        self.attempt = None;
    }

    /// The attempt stands still, and is not looked at meanwhile.
    pub fn rest(&mut self) {
        self.attempt.iter_mut().for_each(|attempt| attempt.due = None);
    }

    /// It goes on, and has a whole period to do something.
    pub fn go_on(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            (attempt.seen, attempt.due) = (Signs::default(), after(attempt.period));
        }
    }

    /// When to call [`look`](Self::look) next.
    pub fn due(&self) -> Option<Instant> {
        self.attempt.as_ref()?.due
    }

    /// Whether the attempt has done nothing since the last look. Once that is so, nobody looks any more.
    pub fn look(&mut self, signs: Signs) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        let is_idle = attempt.seen == signs;
        attempt.seen = signs;
        attempt.due = if is_idle { None } else { after(attempt.period) };
        is_idle
    }
}

/// A time that no clock reaches never comes.
fn after(period: Duration) -> Option<Instant> {
    Instant::now().checked_add(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_idle_when_a_whole_period_has_changed_nothing() {
        let period = Duration::from_secs(600);
        let signs = |cpu, length, at| Signs { cpu, output: [(length, at), (0, 0)] };
        let mut watch = IdleWatch::default();
        watch.begin(None);
        assert!(watch.due().is_none() && !watch.look(signs(0, 0, 0)), "nobody wants to know");

        watch.begin(Some(period));
        let due = watch.due().unwrap();
        assert!(due > Instant::now() + period / 2 && due <= Instant::now() + period);
        for sign in [signs(1, 0, 0), signs(2, 0, 0), signs(2, 5, 7), signs(2, 5, 8), signs(2, 4, 8)] {
            assert!(!watch.look(sign), "it has done something");
            assert!(watch.due().is_some());
        }
        assert!(watch.look(signs(2, 4, 8)));
        assert_eq!(watch.due(), None, "it is told once");

        watch.go_on();
        assert!(watch.due().is_some());
        watch.rest();
        assert_eq!(watch.due(), None);
        watch.go_on();
        assert!(!watch.look(signs(2, 4, 8)) && watch.look(signs(2, 4, 8)));

        watch.begin(Some(Duration::MAX));
        assert_eq!(watch.due(), None);
        watch.begin(Some(period));
        watch.end();
        assert_eq!(watch.due(), None);
    }
}
