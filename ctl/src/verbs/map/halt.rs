//! How many items have ended, and how; when a map has enough ends; and the exit code of the map. The
//! conditions are those of GNU parallel's `--halt`.

use std::fmt;
use std::str::FromStr;

use pool_proto::State;

use super::lane::EndedItem;
use crate::exit::ExitReason;

/// When a map starts no more jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    Never,
    After { urgency: Urgency, ends: Ends, count: u64 },
}

/// What happens to running jobs then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// The map waits for them.
    Soon,
    /// The map cancels them.
    Now,
}

/// Which ends are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    Done,
    Success,
    Fail,
}

impl FromStr for Halt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?}: write never, or soon or now with fail=N, success=N or done=N, such as now,fail=1"
            )
        };
        if text == "never" {
            return Ok(Self::Never);
        }

        let (urgency, condition) = text.split_once(',').ok_or_else(wrong)?;
        let (ends, count) = condition.split_once('=').ok_or_else(wrong)?;

        let urgency = match urgency {
            "soon" => Urgency::Soon,
            "now" => Urgency::Now,
            _ => return Err(wrong()),
        };

        let ends = match ends {
            "done" => Ends::Done,
            "success" => Ends::Success,
            "fail" => Ends::Fail,
            _ => return Err(wrong()),
        };

        let count = count.parse().ok().filter(|&count| count > 0).ok_or_else(wrong)?;
        Ok(Self::After { urgency, ends, count })
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::After { urgency, ends, count } = self else { return formatter.write_str("never") };
        let urgency = match urgency {
            Urgency::Soon => "soon",
            Urgency::Now => "now",
        };
        let ends = match ends {
            Ends::Done => "done",
            Ends::Success => "success",
            Ends::Fail => "fail",
        };
        write!(formatter, "{urgency},{ends}={count}")
    }
}

/// Counts the ends of items.
#[derive(Debug)]
pub struct Tally {
    halt: Halt,
    succeeded: u64,
    failed: u64,
    /// The exit of the item that failed first.
    first_exit: ExitReason,
    first_failure: String,
}

impl Tally {
    /// A tally before the first end.
    pub fn new(halt: Halt) -> Self {
        Self { halt, succeeded: 0, failed: 0, first_exit: ExitReason::Success, first_failure: String::new() }
    }

    /// Counts an end that poolctl did not cause. Says how to stop if that is enough.
    pub fn count(&mut self, ended: &EndedItem) -> Option<Urgency> {
        if ended.state() == State::Succeeded {
            self.succeeded += 1;
        } else {
            if self.failed == 0 {
                self.first_exit = ended.exit();
                self.first_failure = ended.summary();
            }
            self.failed += 1;
        }

        match self.halt {
            Halt::After { urgency, ends, count } if self.of(ends) >= count => Some(urgency),
            Halt::Never | Halt::After { .. } => None,
        }
    }

    /// How many more ends may come until the map has enough, at the least. None: it never has.
    pub fn left_to_halt(&self) -> Option<u64> {
        match self.halt {
            Halt::Never => None,
            Halt::After { ends, count, .. } => Some(count.saturating_sub(self.of(ends))),
        }
    }

    fn of(&self, ends: Ends) -> u64 {
        match ends {
            Ends::Done => self.done(),
            Ends::Success => self.succeeded,
            Ends::Fail => self.failed,
        }
    }

    /// How many items have ended.
    pub fn done(&self) -> u64 {
        self.succeeded + self.failed
    }

    /// How many items have failed.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// The sentence at the end of the map. None if no item has failed.
    pub fn summary(&self) -> Option<String> {
        let Self { failed, first_failure, .. } = self;
        (*failed > 0).then(|| format!("{failed} of {} failed; first {first_failure}", self.done()))
    }

    /// | | code |
    /// |---|---|
    /// | no item failed, or `--halt ...,success=N` and N succeeded | 0 |
    /// | `--halt ...,fail=1` and one failed | that item's code |
    /// | `--fail-count` | the number of failed items, 101 for more than 100 |
    /// | otherwise | 1 |
    pub fn exit(&self, fail_count: bool) -> ExitReason {
        match self.halt {
            _ if self.failed == 0 => ExitReason::Success,
            Halt::After { ends: Ends::Success, count, .. } if self.succeeded >= count => ExitReason::Success,
            Halt::After { ends: Ends::Fail, count: 1, .. } => self.first_exit,
            Halt::Never | Halt::After { .. } if fail_count => ExitReason::Failures(self.failed),
            Halt::Never | Halt::After { .. } => ExitReason::Unwell,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_as_text() {
        for text in ["never", "soon,fail=1", "now,fail=3", "now,success=1", "soon,done=20"] {
            assert_eq!(text.parse::<Halt>().map(|halt| halt.to_string()).as_deref(), Ok(text));
        }
        for text in [
            "",
            "now",
            "fail=1",
            "now,fail",
            "now,fail=0",
            "later,fail=1",
            "now,fails=1",
            "now,fail=-1",
            "now,fail=5%",
        ] {
            assert!(text.parse::<Halt>().is_err(), "{text}");
        }
    }

    #[test]
    fn codes() {
        let code = |halt: &str, succeeded, failed, fail_count| {
            let tally = Tally {
                succeeded,
                failed,
                first_exit: ExitReason::Job(7),
                ..Tally::new(halt.parse().unwrap())
            };
            tally.exit(fail_count).code()
        };
        assert_eq!(code("never", 5, 0, true), 0);
        assert_eq!(code("never", 5, 3, false), 1);
        assert_eq!([1, 100, 101, 70_000].map(|failed| code("never", 0, failed, true)), [1, 100, 101, 101]);
        assert_eq!(code("now,fail=1", 5, 2, true), 7);
        assert_eq!(code("now,fail=2", 5, 2, false), 1);
        assert_eq!([code("now,success=1", 1, 2, true), code("now,success=2", 1, 2, true)], [0, 2]);
    }
}
