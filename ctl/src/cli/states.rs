//! States of jobs by the words that people have for several of them.

use std::str::FromStr;

use pool_proto::State;

use super::values::parse_state;

/// In the states of these an attempt runs.
pub const ACTIVE: [State; 2] = [State::Running, State::Stopping];

/// Jobs in these states wait.
pub const WAITING: [State; 5] =
    [State::Queued, State::Retrying, State::Scheduled, State::Blocked, State::Held];

/// Jobs in these states have not ended.
pub const LIVING: [State; 7] = [
    State::Running,
    State::Stopping,
    State::Queued,
    State::Retrying,
    State::Scheduled,
    State::Blocked,
    State::Held,
];

/// Jobs in these states have ended.
pub const ENDED: [State; 5] =
    [State::Failed, State::TimedOut, State::Lost, State::Canceled, State::Succeeded];

/// Jobs in these states have failed.
pub const FAILED: [State; 3] = [State::Failed, State::TimedOut, State::Lost];

/// The words for several states.
pub const GROUPS: [(&str, &[State]); 4] =
    [("failed", &FAILED), ("active", &LIVING), ("waiting", &WAITING), ("ended", &ENDED)];

/// A state, or several by one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateGroup(Vec<State>);

impl StateGroup {
    /// The states.
    pub fn states(&self) -> &[State] {
        &self.0
    }
}

impl FromStr for StateGroup {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, states)) = GROUPS.iter().find(|(word, _)| *word == text) {
            return Ok(Self(states.to_vec()));
        }
        let state = parse_state(&text.replace('-', "_"));
        state.map(|state| Self(vec![state])).map_err(|error| format!("{error}; or active, waiting, ended"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_words_for_several() {
        let read = |text: &str| text.parse::<StateGroup>().map(|group| group.0);
        assert_eq!(read("failed"), Ok(vec![State::Failed, State::TimedOut, State::Lost]));
        assert_eq!(read("timed-out"), Ok(vec![State::TimedOut]));
        let every = |words: &[&str]| words.iter().map(|word| read(word).unwrap().len()).sum::<usize>();
        assert_eq!(every(&["active", "ended"]), State::ALL.len());
        assert_eq!(every(&["waiting", "running", "stopping"]), every(&["active"]));
        assert!(read("done").unwrap_err().contains("active, waiting, ended"));
    }
}
