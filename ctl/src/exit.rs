//! The exit codes of poolctl, each with its reason.

/// Why poolctl ends. Each reason has one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// Everything succeeded: 0.
    Success,

    /// The job's own code. 126 and 127 are among these codes: poold reports 126 for a command that cannot be
    /// executed, and 127 for a command that does not exist.
    Job(u8),

    /// Signal N ended the job, or told poolctl to end: 128 + N, as in a shell.
    Signal(i32),

    /// Some items of a map have failed, a method has returned an error, or `doctor` has found a fault: 1.
    Unwell,

    /// With `--fail-count`: this many items of a map have failed. 101 stands for more than 100.
    Failures(u64),

    /// The command line is wrong: 2, the code of clap.
    Usage,

    /// Something was done, and its result could not be printed: 74, which is `EX_IOERR` of sysexits.h.
    Untold,

    /// poold refuses for now: 75, which is `EX_TEMPFAIL` of sysexits.h.
    RefusedForNow,

    /// A timeout or a deadline is over: 124, the code of timeout(1).
    TimedOut,

    /// poolctl or poold failed: 125.
    Failed,

    /// The reader of our output has gone: 141, the code that a shell gives to SIGPIPE.
    BrokenPipe,
}

impl ExitReason {
    /// [`ExitReason::Failures`] counts failed items up to this number.
    const MOST_FAILURES: u64 = 101;

    /// The code as a number.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Job(code) => code,
            Self::Signal(signal) => (128 + signal).clamp(0, 255) as u8,
            Self::Unwell => 1,
            Self::Failures(count) => count.min(Self::MOST_FAILURES) as u8,
            Self::Usage => 2,
            Self::Untold => 74,
            Self::RefusedForNow => 75,
            Self::TimedOut => 124,
            Self::Failed => 125,
            Self::BrokenPipe => 128 + 13,
        }
    }

    /// Whether the code is 0, whatever the reason.
    pub fn is_success(self) -> bool {
        self.code() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_as_the_manual_has_them() {
        let codes = [
            ExitReason::Success,
            ExitReason::Unwell,
            ExitReason::Usage,
            ExitReason::Untold,
            ExitReason::RefusedForNow,
            ExitReason::TimedOut,
            ExitReason::Failed,
        ];
        assert_eq!(codes.map(ExitReason::code), [0, 1, 2, 74, 75, 124, 125]);
        assert_eq!(
            [ExitReason::Job(127), ExitReason::Signal(9), ExitReason::BrokenPipe].map(ExitReason::code),
            [127, 137, 141]
        );
        assert_eq!([1, 100, 101, 70_000].map(|count| ExitReason::Failures(count).code()), [1, 100, 101, 101]);
        assert!(ExitReason::Job(0).is_success() && !ExitReason::Failures(1).is_success());
    }
}
