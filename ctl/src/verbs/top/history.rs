//! What has happened in each of the last seconds: how many jobs have ended and failed, and how many were
//! queued.

use std::collections::VecDeque;

use super::job::Micros;

/// So many seconds are kept.
pub const SECONDS: usize = 600;

const SECOND_US: Micros = 1_000_000;

/// One second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Second {
    pub ended: u64,
    pub failed: u64,
    pub queued: u64,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct History {
    /// The last one has not passed yet.
    seconds: VecDeque<Second>,
    /// The second, since 1970, of the last one.
    last: i64,
}

impl History {
    /// Begins with the second of this moment.
    pub fn begin(now: Micros) -> Self {
        Self { seconds: VecDeque::from([Second::default()]), last: now / SECOND_US }
    }

    /// Lets the time pass up to now.
    pub fn advance(&mut self, now: Micros) {
        let passed = now / SECOND_US - self.last;
        if passed <= 0 {
            return;
        }
        let queued = self.current().queued;
        for _ in 0..passed.min(SECONDS as i64) {
            self.seconds.push_back(Second { queued, ..Second::default() });
        }
        let surplus = self.seconds.len().saturating_sub(SECONDS);
        self.seconds.drain(..surplus);
        self.last = now / SECOND_US;
    }

    fn current(&mut self) -> &mut Second {
        if self.seconds.is_empty() {
            self.seconds.push_back(Second::default());
        }
        self.seconds.back_mut().expect("there is one")
    }

    /// A job has ended.
    pub fn count(&mut self, is_failure: bool) {
        let second = self.current();
        second.ended += 1;
        second.failed += u64::from(is_failure);
    }

    /// So many jobs are queued.
    pub fn set_queued(&mut self, queued: u64) {
        self.current().queued = queued;
    }

    /// The last seconds that have passed, at most so many, the oldest first.
    pub fn passed(&self, count: usize) -> impl ExactSizeIterator<Item = Second> + '_ {
        let end = self.seconds.len().saturating_sub(1);
        (end.saturating_sub(count)..end).map(|place| self.seconds[place])
    }

    /// How many jobs ended each second, over the last ten.
    pub fn rate(&self) -> f64 {
        let passed = self.passed(10);
        let seconds = passed.len().max(1);
        passed.map(|second| second.ended).sum::<u64>() as f64 / seconds as f64
    }

    /// Whether a picture of the last seconds stays the same while the time passes.
    pub fn is_flat(&self) -> bool {
        let Some(last) = self.seconds.back() else { return true };
        self.seconds.iter().all(|second| second.ended == 0 && second.queued == last.queued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_pass() {
        let mut history = History::begin(SECOND_US);
        history.count(false);
        history.count(true);
        history.set_queued(7);
        assert_eq!(history.passed(10).len(), 0, "it has not passed yet");

        history.advance(3 * SECOND_US);
        history.set_queued(5);
        history.advance(4 * SECOND_US + 1);
        let passed: Vec<Second> = history.passed(10).collect();
        let wanted =
            [(2, 1, 7), (0, 0, 7), (0, 0, 5)].map(|(ended, failed, queued)| Second { ended, failed, queued });
        assert_eq!(passed, wanted);
        assert!((history.rate() - 2.0 / 3.0).abs() < 1e-9 && !history.is_flat());
        assert_eq!(history.passed(1).next(), Some(wanted[2]));

        history.advance(5000 * SECOND_US);
        assert!(history.is_flat() && history.passed(SECONDS).len() == SECONDS - 1);
    }
}
