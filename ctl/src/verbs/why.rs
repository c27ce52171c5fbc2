//! `poolctl why`: says what jobs wait for.

use clap::Args;
use pool_proto::methods::{Get, List, MAX_EXPLAINED, Why};
use pool_proto::nouns::{Explanation, ExplanationKind, SCHEMA};
use pool_proto::{Client, ClientError, State};

use super::Context;
use super::selection::{Scope, Selection, each_page, elements_of, is_unknown};
use crate::cli::selector::{Selector, selector};
use crate::exit::ExitReason;
use crate::term::json;
use crate::term::text::{self, printable};

/// Say what jobs wait for, or what they do instead
#[derive(Debug, Args)]
pub struct WhyOptions {
    /// Jobs by 12, 3-9, last, all, @label, name:x, state:x or pool:x; of several those that have not ended
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,
}

/// What `--json` prints of a job.
#[derive(Debug, serde::Serialize)]
struct Document<'a> {
    schema: u32,
    #[serde(flatten)]
    explanation: &'a Explanation,
}

impl WhyOptions {
    /// Prints a sentence for each job, or a document with `--json`. Jobs that do not exist are named.
    ///
    /// # Errors
    /// When poold has gone, or cannot read its store.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let mut selection = Selection::find(&mut client, &self.jobs, Scope::LIVING)?;
        selection.leave_out_absent(&mut client)?;
        for ids in selection.ids().chunks(MAX_EXPLAINED) {
            for mut explanation in explain(&mut client, ids)? {
                if explanation.kind == ExplanationKind::Running {
                    explanation.reason += &held_elements(&mut client, explanation.id)?;
                }
                print(&explanation, context.as_json)?;
            }
        }
        Ok(selection.exit())
    }
}

/// What poold says of these jobs. If one of them has been pruned meanwhile, each is asked for by itself.
fn explain(client: &mut Client, ids: &[u64]) -> Result<Vec<Explanation>, ClientError> {
    match client.request(&Why { ids: ids.to_vec() }) {
        Err(error) if is_unknown(&error) => {}
        told => return Ok(told?.jobs),
    }
    let mut told = Vec::new();
    for &id in ids {
        match client.request(&Why { ids: vec![id] }) {
            Err(error) if is_unknown(&error) => {}
            one => told.extend(one?.jobs),
        }
    }
    Ok(told)
}

/// What is said besides of a job that is an array, of those of its elements that are held: nothing else tells
/// why the array does not end.
fn held_elements(client: &mut Client, id: u64) -> Result<String, ClientError> {
    let Ok(record) = client.request(&Get { id }).map(|got| got.record) else { return Ok(String::new()) };
    let has_held = record.array.as_deref().is_some_and(|array| array.held.is_some());
    let Some(elements) = elements_of(&record).filter(|_| has_held) else { return Ok(String::new()) };
    let (mut count, mut indices) = (0, None::<(u32, u32)>);
    let list = List { states: Some(vec![State::Held]), pool: Some(record.pool.clone()), ..List::default() };
    each_page(client, &list, |jobs| {
        for job in jobs.iter().filter(|job| elements.contains(job.id)) {
            count += 1;
            let index = job.array.as_deref().and_then(|array| array.index).unwrap_or_default();
            let (first, last) = indices.unwrap_or((index, index));
            indices = Some((first.min(index), last.max(index)));
        }
        Ok::<(), ClientError>(())
    })?;
    Ok(match indices {
        None => String::new(),
        Some((first, last)) if first == last => {
            format!("; 1 is held: `poolctl release {id}.{first}` lets it go")
        }
        Some((first, last)) => {
            format!("; {count} are held: `poolctl release {id}.{first}-{last}` lets them go")
        }
    })
}

fn print(explanation: &Explanation, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return json::print(&Document { schema: SCHEMA, explanation });
    }
    text::print(&format!("{}\n", printable(&explanation.reason, usize::MAX)))
}
