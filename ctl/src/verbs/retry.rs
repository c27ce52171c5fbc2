//! `poolctl retry`: runs jobs that have ended once more.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use anyhow::bail;
use clap::Args;
use pool_proto::methods::{Altered, List, Retry};
use pool_proto::{Client, ClientError, Record, ResultKind, State};

use super::Context;
use super::selection::{Selection, alter, ids_of};
use crate::cli::UsageError;
use crate::cli::ids::IdRange;
use crate::exit::ExitReason;
use crate::term::text::say;

/// Run jobs that have ended once more, under their ids
#[derive(Debug, Args)]
pub struct RetryOptions {
    /// Ids, or ranges like 3-9, of which those jobs are taken that have ended; or the word failed: all jobs
    /// that have failed, timed out or were lost, and those that were canceled because of them
    #[arg(required = true, value_name = "ID")]
    jobs: Vec<Wanted>,

    /// With the word failed: of this pool only
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
}

/// A word of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Failed,
    Ids(IdRange),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "failed" => Ok(Self::Failed),
            _ => text.parse().map(Self::Ids).map_err(|error: String| format!("{error}, or failed")),
        }
    }
}

impl RetryOptions {
    /// Runs jobs once more. Jobs that cannot be run again are named.
    ///
    /// # Errors
    /// When poold has gone, or refuses.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let ranges = self.jobs.iter().filter_map(|wanted| match wanted {
            Wanted::Ids(range) => Some(*range),
            Wanted::Failed => None,
        });
        if self.pool.is_some() && !self.jobs.contains(&Wanted::Failed) {
            bail!(UsageError::new("--pool goes with the word failed: leave it out, or write `retry failed`"));
        }
        let mut selection = Selection::of(&ranges.collect::<Vec<IdRange>>());
        let mut client = context.link.connect()?;

        let mut ids = selection.ids().to_vec();
        if self.jobs.contains(&Wanted::Failed) {
            let named: HashSet<u64> = ids.iter().copied().collect();
            let failed = failed(&mut client, self.pool.as_deref())?;
            ids.extend(failed.into_iter().filter(|id| !named.contains(id)));
        }
        // A job that was to run after another one looks at that when the other one runs again already.
        ids.sort_unstable();

        let Altered { ids: again, others } = alter(&mut client, &ids, |ids| Retry { ids })?;
        let again = again.into_iter().collect();
        let mut others: HashMap<u64, String> =
            others.into_iter().map(|other| (other.id, other.reason)).collect();

        let named: HashSet<u64> = selection.ids().iter().copied().collect();
        let mut unnamed: Vec<(u64, String)> = Vec::new();
        others.retain(|&id, reason| {
            let is_named = named.contains(&id);
            if !is_named {
                unnamed.push((id, std::mem::take(reason)));
            }
            is_named
        });
        unnamed.sort_unstable();
        unnamed.iter().for_each(|(_, reason)| say(reason));
        selection.leave_out_others(&again, |id| others.remove(&id), "can be run again");
        Ok(if unnamed.is_empty() { selection.exit() } else { ExitReason::Failed })
    }
}

/// The jobs that have ended without success, other than by a client's wish.
fn failed(client: &mut Client, pool: Option<&str>) -> Result<Vec<u64>, ClientError> {
    let states = vec![State::Failed, State::TimedOut, State::Lost, State::Canceled];
    let list = List { states: Some(states), pool: pool.map(ToOwned::to_owned), ..List::default() };
    let is_failed =
        |record: &Record| record.state != State::Canceled || record.result == Some(ResultKind::DepFailed);
    ids_of(client, &list, is_failed)
}
