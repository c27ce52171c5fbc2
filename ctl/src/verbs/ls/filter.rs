//! Which jobs are listed.

use clap::Args;
use pool_proto::methods::List;
use pool_proto::{OsText, State};

use crate::cli::moment::Moment;
use crate::cli::states::{ACTIVE, ENDED, StateGroup, WAITING};
use crate::cli::values::{os_text, parse_codes, parse_label};

/// The options that say which jobs: those to which all of it applies.
#[derive(Debug, Args)]
pub struct FilterOptions {
    /// Only jobs in this state; or failed (and timed out, and lost), active (not ended), waiting, ended; may
    /// be repeated
    #[arg(short, long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<StateGroup>,

    /// Only jobs of this pool
    #[arg(short, long)]
    pool: Option<String>,

    /// Only jobs with this label
    #[arg(short, long, value_parser = parse_label)]
    label: Option<String>,

    /// Only jobs of this name, in which * stands for any text and ? for one character
    #[arg(long, value_name = "NAME", value_parser = os_text())]
    name: Option<OsText>,

    /// Only jobs that had not ended before this time: 2h (ago), 09:00, '2026-12-01 09:00'
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,

    /// Only jobs that were submitted before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,

    /// Only jobs that have ended with one of these codes, such as 1-123,137
    #[arg(long, value_name = "CODES", value_parser = parse_codes)]
    exit_code: Option<String>,
}

impl FilterOptions {
    /// The request that lists them.
    ///
    /// # Errors
    /// When the times are in the wrong order.
    pub fn list(&self) -> anyhow::Result<List> {
        let states: Vec<State> = State::ALL
            .into_iter()
            .filter(|state| self.state.iter().any(|group| group.states().contains(state)))
            .collect();
        if let (Some(since), Some(until)) = (&self.since, &self.until)
            && since.unix_micros() > until.unix_micros()
        {
            anyhow::bail!(crate::cli::UsageError::new("--until is before --since: no job can be in between"));
        }
        Ok(List {
            states: (!states.is_empty()).then_some(states),
            pool: self.pool.clone(),
            label: self.label.clone(),
            name: self.name.clone(),
            since: self.since.as_ref().map(|since| since.as_rfc3339().to_owned()),
            until: self.until.as_ref().map(|until| until.as_rfc3339().to_owned()),
            exit_codes: self.exit_code.clone(),
            ..List::default()
        })
    }

    /// Whether all jobs are listed.
    pub fn is_open(&self) -> bool {
        self.list().is_ok_and(|list| list == List::default())
    }
}

/// The same jobs in parts: what runs, what waits, and what has ended. A part that no job can be of is left
/// out.
pub fn split(list: &List) -> Vec<List> {
    let of = |part: &[State]| {
        let asked = |state: &State| list.states.as_ref().is_none_or(|states| states.contains(state));
        let states: Vec<State> = part.iter().copied().filter(asked).collect();
        (!states.is_empty()).then(|| List { states: Some(states), ..list.clone() })
    };
    [&ACTIVE[..], &WAITING, &ENDED].into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_what_waits_and_what_has_ended_are_parts() {
        let of = |states: &[State]| List { states: Some(states.to_vec()), ..List::default() };
        let all = split(&List::default());
        assert_eq!((all.len(), &all[0]), (3, &of(&ACTIVE)));
        let states: usize = all.iter().flat_map(|part| &part.states).map(Vec::len).sum();
        assert_eq!(states, State::ALL.len());
        assert_eq!(split(&of(&[State::Failed])), [of(&[State::Failed])]);
    }
}
