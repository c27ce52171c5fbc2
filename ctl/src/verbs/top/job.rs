//! A job as the screen shows it: what events and records have told of it.

use pool_proto::nouns::Happening;
use pool_proto::{OsText, Record, ResultKind, State};

use crate::tell::record::{id_of, work_line};
use crate::tell::when;
use crate::term::text::{LONGEST, printable};

/// A moment, in microseconds since 1970.
pub type Micros = i64;

/// The moment of a time of the protocol.
pub fn micros(text: &str) -> Option<Micros> {
    let since = when::parse(text)?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Micros::try_from(since.as_micros()).ok()
}

/// See the module's description.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub id: u64,
    /// As people write it, where that is not the number alone: of an element its array's id, and its index.
    pub element: Option<String>,
    pub pool: String,
    pub state: State,
    pub result: Option<ResultKind>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// Its name, or else its command. None while nothing has told it: events have no command.
    pub work: Option<String>,
    pub labels: Vec<String>,
    pub priority: i32,
    pub attempt: u32,
    pub submitted_at: Option<String>,
    pub started_us: Option<Micros>,
    pub ended_at: Option<String>,
    pub is_frozen: bool,
    /// Why it is where it is, or how far it has come.
    pub note: Option<String>,
    /// Since when it has been on the screen without its command.
    pub seen_us: Option<Micros>,
    /// Its record was asked for.
    pub is_asked: bool,
}

impl Job {
    /// A job of which nothing is known but this.
    pub fn bare(id: u64, pool: &str, state: State) -> Self {
        Self {
            id,
            element: None,
            pool: pool.to_owned(),
            state,
            result: None,
            exit_code: None,
            signal: None,
            work: None,
            labels: Vec::new(),
            priority: 0,
            attempt: 0,
            submitted_at: None,
            started_us: None,
            ended_at: None,
            is_frozen: false,
            note: None,
            seen_us: None,
            is_asked: false,
        }
    }

    /// What a record tells.
    pub fn of(record: &Record) -> Self {
        let work = record.name.as_ref().map_or_else(|| work_line(record), OsText::to_string);
        let is_element = record.array.as_ref().is_some_and(|array| array.index.is_some());
        Self {
            element: is_element.then(|| id_of(record)),
            result: record.result,
            exit_code: record.exit_code,
            signal: record.signal,
            work: Some(printable(&work, LONGEST)),
            labels: record.labels.clone().unwrap_or_default(),
            priority: record.priority,
            attempt: record.attempt,
            submitted_at: Some(record.submitted_at.clone()),
            started_us: record.started_at.as_deref().and_then(micros),
            ended_at: record.ended_at.clone(),
            is_frozen: record.frozen_since.is_some(),
            note: record.reason.as_deref().map(|reason| printable(reason, LONGEST)),
            ..Self::bare(record.id, &record.pool, record.state)
        }
    }

    /// Its id as people write it.
    pub fn shown_id(&self) -> String {
        self.element.clone().unwrap_or_else(|| self.id.to_string())
    }

    /// Takes what an event tells beyond the kind of the event.
    pub fn hear(&mut self, happening: &Happening) {
        if let Some(pool) = happening.pool.as_ref().filter(|pool| **pool != self.pool) {
            self.pool.clone_from(pool);
        }
        if let (Some(name), None) = (&happening.name, &self.work) {
            self.work = Some(printable(&name.to_string(), LONGEST));
        }
        self.attempt = happening.attempt.unwrap_or(self.attempt);
        self.state = happening.state.unwrap_or(self.state);
        self.result = happening.result.or(self.result);
        self.exit_code = happening.exit_code.or(self.exit_code);
        self.signal = happening.signal.or(self.signal);
        if let Some(reason) = &happening.reason {
            self.note = Some(printable(reason, LONGEST));
        }
    }

    /// Whether it holds a slot.
    pub fn is_active(&self) -> bool {
        matches!(self.state, State::Running | State::Stopping)
    }

    /// How long its attempt has run, or ran, in microseconds.
    pub fn ran_us(&self, now: Micros) -> Option<Micros> {
        let until = match &self.ended_at {
            Some(at) => micros(at)?,
            None if self.is_active() => now,
            None => return None,
        };
        Some((until - self.started_us?).max(0))
    }

    /// Its state in one or two words, and how it ended.
    pub fn word(&self) -> String {
        match (self.state, self.exit_code, self.signal) {
            (State::Running, ..) if self.is_frozen => "paused".to_owned(),
            (State::Succeeded, ..) => "ok".to_owned(),
            (State::TimedOut, ..) => "timeout".to_owned(),
            (State::Failed, Some(code), _) if code != 0 => format!("exit {code}"),
            (State::Failed, _, Some(signal)) => format!("signal {signal}"),
            (State::Queued, ..) if self.priority != 0 => format!("queued {:+}", self.priority),
            (state, ..) => state.as_str().to_owned(),
        }
    }

    /// The character before the state, which tells it without a colour.
    pub fn mark(&self) -> char {
        match self.state {
            State::Running if self.is_frozen => '=',
            State::Running => '>',
            State::Stopping => '!',
            State::Held => '=',
            State::Queued | State::Scheduled | State::Blocked | State::Retrying => '-',
            State::Succeeded => '+',
            State::Failed | State::Canceled | State::TimedOut | State::Lost => 'x',
        }
    }
}
