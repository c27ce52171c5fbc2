//! `poolctl retry`: runs jobs that have ended once more, or copies of them.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use anyhow::bail;
use clap::Args;
use pool_proto::methods::{Altered, Defined, Definition, Get, List, Other, Retry, Submit};
use pool_proto::nouns::{Entry, IfExists, Job, SCHEMA};
use pool_proto::{Client, ClientError, ResultKind, State};
use serde_json::json;

use super::Context;
use super::selection::{
    Named, Scope, Selection, alter, check_pool, confirmed, count_jobs, each_of, elements_of, ids_of,
    job_named_alone, why_unmade,
};
use crate::cli::UsageError;
use crate::cli::choices::YesOption;
use crate::cli::selector::Selector;
use crate::exit::ExitReason;
use crate::link::connect::not_known_whether_accepted;
use crate::term::text::{self, hint, say};

/// Run jobs that have ended once more, under their ids
#[derive(Debug, Args)]
pub struct RetryOptions {
    /// Jobs by 12, 3-9, last, all, @label, name:x, state:x or pool:x; of several those that have ended; or
    /// the word failed: all jobs that have failed, timed out or were lost, and those that were canceled
    /// because of them
    #[arg(required = true, value_name = "SELECTOR")]
    jobs: Vec<Wanted>,

    /// With the word failed: of this pool only
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,

    /// Submit copies as new jobs, and print their ids
    ///
    /// The jobs themselves stay as they are. A copy has all options of its job but --key, --hold, --delay,
    /// --at and a tie to a client or a job.
    #[arg(long)]
    new: bool,

    #[command(flatten)]
    yes: YesOption,
}

/// A word of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Failed,
    Jobs(Selector),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "failed" => Ok(Self::Failed),
            _ => text.parse().map(Self::Jobs).map_err(|error: String| format!("{error}, or failed")),
        }
    }
}

impl RetryOptions {
    /// Runs jobs once more. Jobs that cannot be run again are named.
    ///
    /// # Errors
    /// When poold has gone, or refuses.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let selectors = self.jobs.iter().filter_map(|wanted| match wanted {
            Wanted::Jobs(selector) => Some(selector.clone()),
            Wanted::Failed => None,
        });
        let selectors: Vec<Selector> = selectors.collect();
        if self.pool.is_some() && !self.jobs.contains(&Wanted::Failed) {
            bail!(UsageError::new("--pool goes with the word failed: leave it out, or write `retry failed`"));
        }
        let mut client = context.link.connect()?;
        let found = Selection::find(
            &mut client,
            &selectors,
            Scope::ENDED.with(|job| !is_unfolded(job), " that has ended"),
        )?;
        let (mut selection, of_arrays) = name_elements(&mut client, found)?;

        let mut ids = selection.ids().to_vec();
        ids.extend(of_arrays);
        if self.jobs.contains(&Wanted::Failed) {
            let named: HashSet<u64> = ids.iter().copied().collect();
            if let Some(pool) = &self.pool {
                check_pool(&mut client, pool)?;
            }
            let failed = failed(&mut client, self.pool.as_deref())?;
            if failed.is_empty() {
                hint("no job has failed");
            }
            ids.extend(failed.into_iter().filter(|id| !named.contains(id)));
        }
        let mut seen = HashSet::new();
        ids.retain(|&id| seen.insert(id));
        // A job that was to run after another one looks at that when the other one runs again already.
        ids.sort_unstable();

        if !self.is_wanted(&selection, ids.len()) {
            return Ok(ExitReason::Unwell);
        }

        let Altered { ids: again, others } = match self.new {
            true => copy_each(context, &mut client, &ids)?,
            false => alter(&mut client, &ids, |ids| Retry { ids })?,
        };
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

impl RetryOptions {
    /// Whether somebody at the terminal, if there is one, wants so many jobs run again.
    fn is_wanted(&self, selection: &Selection, count: usize) -> bool {
        let question = |count| match self.new {
            true => format!("submit copies of {}?", count_jobs(count)),
            false => format!("run {} again?", count_jobs(count)),
        };
        match self.jobs.contains(&Wanted::Failed) && count > 1 {
            true => self.yes.yes || confirmed(|| question(count)),
            false => selection.is_wanted(self.yes.yes, |_| question(count)),
        }
    }
}

/// Submits a copy of each of these jobs, and prints its id. Those that cannot be copied are the others.
fn copy_each(context: &Context, client: &mut Client, ids: &[u64]) -> anyhow::Result<Altered> {
    let mut altered = Altered::default();
    for &id in ids {
        let submitted = match client.request(&Definition { id }) {
            Ok(defined) => copy_of(defined, index_of(client, id)?).map(|job| {
                let submit = Submit { job, on_disconnect: None, obstacles: None };
                client.request(&submit).map_err(not_known_whether_accepted)
            }),
            Err(ClientError::Refused(refusal)) => {
                let got = client.request(&Get { id });
                Err(got.ok().and_then(|got| why_unmade(&got.record)).unwrap_or_else(|| refusal.to_string()))
            }
            Err(error) => return Err(error.into()),
        };
        let why_not = match submitted {
            Ok(Ok(accepted)) => {
                let copy = accepted.id;
                let line = match context.as_json {
                    true => json!({ "schema": SCHEMA, "id": copy, "copy_of": id }).to_string(),
                    false => copy.to_string(),
                };
                let told = text::print(&(line + "\n"));
                text::or_untold(told, format_args!("job {copy} was accepted, a copy of job {id}"))?;
                altered.ids.push(id);
                continue;
            }
            Ok(Err(error)) => match error.downcast_ref::<ClientError>() {
                Some(ClientError::Refused(refusal)) if !refusal.is_temporary() => refusal.to_string(),
                _ => return Err(error.context(format!("job {id} was not copied"))),
            },
            Err(why_not) => why_not,
        };
        altered.others.push(Other { id, state: None, reason: format!("job {id} is not copied: {why_not}") });
    }
    Ok(altered)
}

/// The index of an element of an array. What has just been pruned has none.
///
/// # Errors
/// When poold has gone.
fn index_of(client: &mut Client, id: u64) -> Result<Option<u32>, ClientError> {
    match client.request(&Get { id }) {
        Ok(got) => Ok(got.record.array.and_then(|array| array.index)),
        Err(ClientError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The copy of a job that has ended. Of an element it is an array of that element alone, since what the
/// element does is said by its `index`.
///
/// # Errors
/// Why there can be none, as a sentence.
fn copy_of(defined: Defined, index: Option<u32>) -> Result<Job, String> {
    let Defined { job, state, attempts, params_pruned } = defined;
    if !state.is_terminal() {
        return Err(format!("it is {}, and has not ended", state.as_str()));
    }
    if job.stdin.is_some() {
        return Err("its standard input was removed when it ended; submit it anew with --stdin".to_owned());
    }
    if params_pruned {
        return Err("the history has removed its parameters to make room".to_owned());
    }
    Ok(Job {
        // A job that has begun has waited for the others already.
        after: job.after.filter(|_| attempts == 0),
        tie: job.tie.filter(|tie| tie == "pool"),
        if_exists: job.unique.is_some().then_some(IfExists::Queue),
        key: None,
        hold: None,
        delay_s: None,
        at: None,
        array: index.map(|index| index.to_string()).or(job.array),
        ..job
    })
}

/// The jobs that are named. In place of an array that is named alone, and has been unfolded, come those of
/// its elements that have ended without success; if some were never unfolded, the array itself as well.
fn name_elements(client: &mut Client, found: Selection) -> anyhow::Result<(Selection, Vec<u64>)> {
    let (mut named, mut elements) = (Vec::new(), Vec::new());
    for jobs in found.named() {
        let record = match jobs {
            Named::Range(range) => job_named_alone(client, *range),
            Named::Jobs { .. } => None,
        };
        let Some((record, all)) = record.and_then(|record| elements_of(&record).map(|all| (record, all)))
        else {
            named.push(jobs.clone());
            continue;
        };
        let before = elements.len();
        each_of(client, all, |element| {
            let has_failed = element.state.is_terminal() && element.state != State::Succeeded;
            elements.extend(has_failed.then_some(element.id));
        })?;
        let info = record.array.as_deref();
        let is_partial = info.is_some_and(|array| array.unfolded < Some(array.elements));
        if is_partial && record.state.is_terminal() || elements.len() == before {
            named.push(jobs.clone());
        }
    }
    Ok((found.with(named), elements))
}

/// The jobs that have ended without success, other than by a client's wish.
fn failed(client: &mut Client, pool: Option<&str>) -> Result<Vec<u64>, ClientError> {
    let states = vec![State::Failed, State::TimedOut, State::Lost, State::Canceled];
    let list = List { states: Some(states), pool: pool.map(ToOwned::to_owned), ..List::default() };
    let is_failed = |job: &Entry| job.state != State::Canceled || job.result == Some(ResultKind::DepFailed);
    ids_of(client, &list, |job| is_failed(job) && !is_unfolded(job))
}

/// Whether the job is an array in whose place its elements are run again.
fn is_unfolded(job: &Entry) -> bool {
    job.array.as_ref().is_some_and(|array| array.unfolded > Some(0))
}
