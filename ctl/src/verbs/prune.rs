//! `poolctl prune`: removes jobs that have ended, by what they are.

use std::time::{Duration, SystemTime};

use clap::Args;
use pool_proto::methods::{Altered, List, Remove};
use pool_proto::nouns::{Entry, SCHEMA};
use pool_proto::text::{parse_duration, rfc3339, unix_micros};
use pool_proto::{Client, ClientError, OsText, State};

use super::Context;
use super::selection::{alter, check_pool, confirmed, count_jobs, ids_of};
use crate::cli::choices::YesOption;
use crate::cli::ids::in_ranges;
use crate::cli::values::{os_text, parse_ended_state, parse_label};
use crate::exit::ExitReason;
use crate::term::json;
use crate::term::text::{or_untold, print, say};

/// Remove jobs that have ended, by their age, state or label
///
/// Removes their records and their output. A job is removed if all that is given applies to it, unless it has
/// callbacks to be delivered, or is waited for. Says how many jobs are gone.
#[derive(Debug, Args)]
pub struct PruneOptions {
    #[command(flatten)]
    what: What,

    /// Print the ids of the jobs, and remove none
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    yes: YesOption,
}

/// Which jobs: those to which all of it applies.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct What {
    /// Jobs that have ended at least this long ago, such as 12h or 7d; 0s for any time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    older: Option<Duration>,

    /// Jobs that have ended in this state: succeeded, failed, canceled, timed_out or lost; may be repeated
    #[arg(short, long, value_delimiter = ',', value_parser = parse_ended_state)]
    state: Vec<State>,

    /// Jobs of this pool
    #[arg(short, long)]
    pool: Option<String>,

    /// Jobs with this label
    #[arg(long, value_parser = parse_label)]
    label: Option<String>,

    /// Jobs of this name
    #[arg(short, long, value_parser = os_text())]
    name: Option<OsText>,
}

impl What {
    fn states(&self) -> Vec<State> {
        let ended = State::ALL.iter().copied().filter(|state| state.is_terminal());
        if self.state.is_empty() { ended.collect() } else { self.state.clone() }
    }

    /// `now_us`: in microseconds since 1970.
    fn fits(&self, job: &Entry, now_us: i64) -> bool {
        let is_of_name = self.name.as_ref().is_none_or(|name| job.name.as_ref() == Some(name));
        let older_us = self.older.map(|older| i64::try_from(older.as_micros()).unwrap_or(i64::MAX));
        let ended_us = job.ended_at.as_deref().and_then(unix_micros);
        let is_old = older_us
            .is_none_or(|older_us| ended_us.is_some_and(|ended| ended <= now_us.saturating_sub(older_us)));
        job.state.is_terminal() && is_of_name && is_old
    }
}

impl PruneOptions {
    /// Removes jobs, and says how many.
    ///
    /// # Errors
    /// When poold has gone, or refuses, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        if let Some(pool) = &self.what.pool {
            check_pool(&mut client, pool)?;
        }
        let ids = find(&mut client, &self.what)?;
        if self.dry_run {
            if context.as_json {
                json::print(&Pruned { schema: SCHEMA, ids: &ids })?;
            } else if !ids.is_empty() {
                print(&(in_ranges(&ids) + "\n"))?;
            }
            return Ok(ExitReason::Success);
        }

        let question = || format!("remove {} and their output?", count_jobs(ids.len()));
        if ids.len() > 1 && !self.yes.yes && !confirmed(question) {
            return Ok(ExitReason::Unwell);
        }

        let Altered { ids: gone, mut others } = alter(&mut client, &ids, |ids| Remove { ids })?;
        others.sort_unstable_by_key(|other| other.id);
        others.iter().take(MOST_NAMED).for_each(|other| say(&other.reason));
        if others.len() > MOST_NAMED {
            say(format_args!("and {} more", others.len() - MOST_NAMED));
        }
        let told = if context.as_json {
            json::print(&Pruned { schema: SCHEMA, ids: &gone })
        } else {
            print(&format!("{} removed\n", count_jobs(gone.len())))
        };
        or_untold(told, "the jobs are removed")?;
        Ok(ExitReason::Success)
    }
}

/// The document of `--json`: the jobs that are removed, or would be.
#[derive(Debug, serde::Serialize)]
struct Pruned<'a> {
    schema: u32,
    ids: &'a [u64],
}

/// So many of the jobs that stay are named.
const MOST_NAMED: usize = 20;

/// The jobs to which all of it applies, in order.
fn find(client: &mut Client, what: &What) -> Result<Vec<u64>, ClientError> {
    let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let now_us = i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX);
    let (pool, label, name) = (what.pool.clone(), what.label.clone(), what.name.clone());
    // What has ended before that was submitted before; so poold sends few others.
    let until = what.older.map(|older| {
        let older_us = i64::try_from(older.as_micros()).unwrap_or(i64::MAX);
        rfc3339(now_us.saturating_sub(older_us).saturating_add(1))
    });
    let list = List { states: Some(what.states()), pool, label, name, until, ..List::default() };
    ids_of(client, &list, |job| what.fits(job, now_us))
}
