//! What a job that is queued waits for, for somebody at a terminal: one line on stderr, after a moment, which
//! is brought up to date from time to time and goes when the job starts.

use std::time::Duration;

use pool_proto::methods::Why;
use pool_proto::nouns::ExplanationKind;

use crate::link::connect::Link;
use crate::link::deadline::Deadline;
use crate::term::progress::ProgressLines;

/// Most jobs start sooner.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the line stands before poold is asked anew.
const REFRESH: Duration = Duration::from_secs(5);

/// How long poold may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// See the module's description.
#[derive(Debug)]
pub struct QueueLine {
    due: Deadline,
    is_shown: bool,
}

impl QueueLine {
    /// No job is waited for yet.
    pub fn new() -> Self {
        Self { due: Deadline::NEVER, is_shown: false }
    }

    /// The job has been accepted, or is asked for anew, and has not started as far as is known.
    pub fn begin(&mut self, lines: &ProgressLines) {
        if lines.are_seen() {
            self.due = Deadline::after(PATIENCE);
        }
    }

    /// When to look.
    pub fn due(&self) -> Deadline {
        self.due
    }

    /// Shows the line, if it is time. What other lines tell, the obstacles, is not told once more.
    pub fn look(&mut self, link: &Link, id: u64, lines: &mut ProgressLines) {
        if !self.due.is_over() {
            return;
        }
        self.due = Deadline::after(REFRESH);
        let link = link.clone();
        let asked = Deadline::after(ANSWER)
            .bound(move || link.open().ok()?.request(&Why { ids: vec![id] }).ok()?.jobs.into_iter().next());
        let told = asked.ok().flatten();
        let is_queued = |kind| matches!(kind, ExplanationKind::Line | ExplanationKind::Limit);
        match told.filter(|told| is_queued(told.kind)) {
            Some(told) => {
                lines.note_text(id, &told.reason);
                self.is_shown = true;
            }
            None => self.clear(id, lines),
        }
    }

    /// The job has started, or ended, or poold has gone.
    pub fn end(&mut self, id: u64, lines: &mut ProgressLines) {
        self.due = Deadline::NEVER;
        self.clear(id, lines);
    }

    fn clear(&mut self, id: u64, lines: &mut ProgressLines) {
        if std::mem::take(&mut self.is_shown) {
            lines.end(id);
        }
    }
}
