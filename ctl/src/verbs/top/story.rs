//! A job that is open: its story, and the end of its log.

use pool_proto::Record;

use super::job::Micros;
use super::log::Log;
use crate::tell::record::{describe, id_of};

/// While events of the job come, its record is read at most that often.
const PAUSE_US: Micros = 500_000;

/// What of the job is on a narrow screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    Log,
    Story,
}

/// See the module's description.
#[derive(Debug)]
pub struct Story {
    pub id: u64,
    pub record: Option<Box<Record>>,
    /// What is known of it, a fact a line.
    pub lines: Vec<String>,
    pub attempt: Option<u32>,
    /// Why there is no log.
    pub no_log: Option<String>,
    /// Its stdout and its stderr.
    pub logs: [Log; 2],
    pub stream: usize,
    pub pane: Pane,
    /// Whether the end of the log stays on the screen.
    pub is_following: bool,
    /// The first line of the log, and of the story, on the screen.
    pub log_top: usize,
    pub story_top: usize,
    /// The user has chosen the stream.
    is_chosen: bool,
    /// The record is to be read, and was asked for last at that time.
    is_stale: bool,
    asked_us: Option<Micros>,
}

impl Story {
    /// A job whose story is about to be read.
    pub fn of(id: u64) -> Self {
        Self {
            id,
            record: None,
            lines: Vec::new(),
            attempt: None,
            no_log: None,
            logs: Default::default(),
            stream: 0,
            pane: Pane::Log,
            is_following: true,
            log_top: 0,
            story_top: 0,
            is_chosen: false,
            is_stale: true,
            asked_us: None,
        }
    }

    /// The job's id as people write it.
    pub fn shown_id(&self) -> String {
        self.record.as_ref().map_or_else(|| self.id.to_string(), |record| id_of(record))
    }

    /// Something has happened to the job.
    pub fn doubt(&mut self) {
        self.is_stale = true;
    }

    /// The time of the last reading says nothing any more.
    pub fn on_clock_set_back(&mut self) {
        self.asked_us = None;
    }

    /// The id whose story is to be read now.
    pub fn wanted(&mut self, now: Micros) -> Option<u64> {
        if !self.is_stale || self.asked_us.is_some_and(|asked| now < asked + PAUSE_US) {
            return None;
        }
        (self.is_stale, self.asked_us) = (false, Some(now));
        Some(self.id)
    }

    /// When the story is to be read.
    pub fn due(&self) -> Option<Micros> {
        self.is_stale.then(|| self.asked_us.map_or(0, |asked| asked + PAUSE_US))
    }

    /// Takes what is known of the job.
    pub fn take(&mut self, record: Box<Record>, why: Option<String>) {
        self.lines = describe(&record, why).lines().map(ToOwned::to_owned).collect();
        self.record = Some(record);
        self.choose();
    }

    /// Whether an attempt runs.
    pub fn is_running(&self) -> bool {
        self.record.as_ref().is_some_and(|record| !record.state.is_terminal() && record.started_at.is_some())
    }

    /// Takes what was written.
    pub fn write(&mut self, stream: usize, bytes: &[u8]) {
        if let Some(log) = self.logs.get_mut(stream) {
            log.add(bytes);
        }
        self.choose();
    }

    /// Shows the stream in which there is something, unless the user has chosen one.
    fn choose(&mut self) {
        if !self.is_chosen && self.logs[self.stream].len() == 0 && self.logs[1 - self.stream].len() > 0 {
            self.stream = 1 - self.stream;
        }
    }

    /// The other stream.
    pub fn turn_stream(&mut self) {
        self.stream = 1 - self.stream;
        self.is_chosen = true;
        self.is_following = true;
    }

    /// The other pane.
    pub fn turn_pane(&mut self) {
        self.pane = match self.pane {
            Pane::Log => Pane::Story,
            Pane::Story => Pane::Log,
        };
    }

    /// Scrolls what is on the screen, with room for so many lines. `by`: lines down, or up.
    pub fn scroll(&mut self, by: isize, height: usize) {
        match self.pane {
            Pane::Log => {
                let last = self.logs[self.stream].len().saturating_sub(height);
                let top = if self.is_following { last } else { self.log_top };
                self.log_top = top.saturating_add_signed(by).min(last);
                self.is_following = self.log_top == last && by > 0;
            }
            Pane::Story => {
                let last = self.lines.len().saturating_sub(1);
                self.story_top = self.story_top.saturating_add_signed(by).min(last);
            }
        }
    }

    /// The lines of the log on a screen with room for so many.
    pub fn log_lines(&self, height: usize) -> Vec<String> {
        let log = &self.logs[self.stream];
        let last = log.len().saturating_sub(height);
        log.from(if self.is_following { last } else { self.log_top.min(last) }, height)
    }
}
