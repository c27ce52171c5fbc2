//! The jobs that the selectors of a command line name. A range takes the jobs that exist. An id that is
//! written alone names a job that should exist; if it does not, poolctl says so and does the rest. Likewise a
//! selector that names no job.

mod find;

use std::collections::{HashMap, HashSet};

use pool_proto::methods::{Absent, Altered, Get, List, Listed, MAX_ABSENT, MAX_RELEASED};
use pool_proto::nouns::Entry;
use pool_proto::{Client, ClientError, Method, Record, Refusal, State};

use crate::cli::ids::IdRange;
use crate::cli::selector::Selector;
use crate::exit::ExitReason;
use crate::term::ask;
use crate::term::text::say;

pub use find::{Named, Scope, check_pool, find, find_one};

/// See the module's description.
#[derive(Debug)]
pub struct Selection {
    named: Vec<Named>,
    /// The jobs, in the order of the command line.
    ids: Vec<u64>,
    /// What was named in vain: single ids, and the first ids of ranges without a job.
    in_vain: Vec<u64>,
    /// A selector names no job.
    is_short: bool,
}

impl Selection {
    /// The jobs of these selectors, where all of them are ids: poold need not be asked.
    pub fn of_ids(selectors: &[Selector]) -> Option<Self> {
        let named: Option<Vec<Named>> = selectors.iter().map(|one| one.ids().map(Named::Range)).collect();
        named.map(Self::new)
    }

    fn new(named: Vec<Named>) -> Self {
        let mut seen = HashSet::new();
        let ids = named.iter().flat_map(Named::ids).filter(|&id| seen.insert(id)).collect();
        Self { named, ids, in_vain: Vec::new(), is_short: false }
    }

    /// The jobs that the selectors name. One that names none is said.
    ///
    /// # Errors
    /// When an array or a pool does not exist, and when poold has gone.
    pub fn find(client: &mut Client, selectors: &[Selector], scope: Scope) -> anyhow::Result<Self> {
        let (mut named, mut is_short) = (Vec::new(), false);
        for selector in selectors {
            match find(client, selector, scope)? {
                Ok(found) => named.push(found),
                Err(why_none) => {
                    say(why_none);
                    is_short = true;
                }
            }
        }
        Ok(Self { is_short, ..Self::new(named) })
    }

    /// The jobs that the selectors name, and that exist. What is named in vain is said.
    ///
    /// # Errors
    /// See [`find`](Self::find).
    pub fn find_existing(client: &mut Client, selectors: &[Selector], scope: Scope) -> anyhow::Result<Self> {
        let mut selection = Self::find(client, selectors, scope)?;
        selection.leave_out_absent(client)?;
        Ok(selection)
    }

    /// What the selectors have come to, one after the other.
    pub fn named(&self) -> &[Named] {
        &self.named
    }

    /// The same with others in the place of some of them.
    pub fn with(self, named: Vec<Named>) -> Self {
        Self { is_short: self.is_short, ..Self::new(named) }
    }

    /// The same, and with each array that is named alone and has ended those of its elements that are kept.
    /// What poold says of an array that has not ended is all that there is to say.
    ///
    /// # Errors
    /// When poold has gone, or cannot read its store.
    pub fn with_elements(self, client: &mut Client) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for jobs in &self.named {
            all.push(jobs.clone());
            let Named::Range(range) = jobs else { continue };
            let array = job_named_alone(client, *range).filter(|record| record.state.is_terminal());
            let Some(elements) = array.as_ref().and_then(elements_of) else { continue };
            each_of(client, elements, |element| {
                all.push(Named::Range(IdRange::between(element.id, element.id)));
            })?;
        }
        Ok(self.with(all))
    }

    /// Whether to go on, where more than one job was not named by its id: somebody at the terminal is asked.
    /// `question`: what is done with so many jobs.
    pub fn is_wanted(&self, yes: bool, question: impl FnOnce(usize) -> String) -> bool {
        let is_lookup = |named: &&Named| matches!(named, Named::Jobs { .. });
        let looked_up: HashSet<u64> = self.named.iter().filter(is_lookup).flat_map(Named::ids).collect();
        yes || looked_up.len() < 2 || confirmed(|| question(self.ids.len()))
    }

    /// The jobs that are left, as ranges of ids.
    pub fn ranges(&self) -> Vec<IdRange> {
        let mut ids = self.ids.clone();
        ids.sort_unstable();
        let is_next = |id: &u64, next: &u64| id + 1 == *next;
        let range = |ids: &[u64]| Some(IdRange::between(*ids.first()?, *ids.last()?));
        ids.chunk_by(is_next).filter_map(range).collect()
    }

    /// The jobs that are left, in the order of the command line.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// What was named in vain: single ids, and the first ids of ranges without a job.
    pub fn in_vain(&self) -> &[u64] {
        &self.in_vain
    }

    /// Of these jobs those that are named alone, and of ranges those that run.
    ///
    /// # Errors
    /// When poold has gone, or cannot read its store.
    pub fn running(&self, client: &mut Client) -> Result<Vec<u64>, ClientError> {
        let is_open = |named: &&Named| matches!(named, Named::Range(range) if !range.is_single());
        let mut named: HashSet<u64> =
            self.named.iter().filter(|named| !is_open(named)).flat_map(Named::ids).collect();
        if self.named.iter().any(|named| is_open(&named)) {
            let running = List { states: Some(vec![State::Running]), ..List::default() };
            named.extend(ids_of(client, &running, |_| true)?);
        }
        Ok(self.ids.iter().copied().filter(|id| named.contains(id)).collect())
    }

    /// The exit code of a verb that has done the rest.
    pub fn exit(&self) -> ExitReason {
        if self.in_vain.is_empty() && !self.is_short { ExitReason::Success } else { ExitReason::Failed }
    }

    /// Whether a request about all of the jobs would hold poold up.
    pub fn are_many(&self) -> bool {
        self.ids.len() > MANY
    }

    /// Has something done with the jobs, and names those with which it was not done. `what`: what can be done
    /// with a job, as the end of a sentence.
    ///
    /// # Errors
    /// When poold has gone, or refuses.
    pub fn alter<M: Method<Reply = Altered>>(
        mut self,
        client: &mut Client,
        request: impl Fn(Vec<u64>) -> M,
        what: &str,
    ) -> Result<ExitReason, ClientError> {
        let Altered { ids, others } = alter(client, &self.ids, request)?;
        let mut others: HashMap<u64, String> =
            others.into_iter().map(|other| (other.id, other.reason)).collect();
        self.leave_out_others(&ids.into_iter().collect(), |id| others.remove(&id), what);
        Ok(self.exit())
    }

    /// Leaves out the jobs that do not exist before poold is asked for all of them, if they are many.
    ///
    /// # Errors
    /// When poold has gone, or cannot read its store.
    pub fn leave_out_if_many(&mut self, client: &mut Client) -> anyhow::Result<()> {
        if self.are_many() {
            self.leave_out_absent(client)?;
        }
        Ok(())
    }

    /// Leaves out the jobs that do not exist, after poold has refused with `error` because of one of them.
    ///
    /// # Errors
    /// When poold refuses, or knows all of the jobs by now.
    pub fn leave_out_unknown(&mut self, client: &mut Client, error: ClientError) -> anyhow::Result<()> {
        let count = self.ids.len();
        self.leave_out_absent(client)?;
        if self.ids.len() == count { Err(error.into()) } else { Ok(()) }
    }

    /// Leaves out the jobs that do not exist.
    ///
    /// # Errors
    /// When poold has gone, or cannot read its store.
    pub fn leave_out_absent(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let mut absent = HashSet::new();
        for some in self.ids.chunks(MAX_ABSENT) {
            absent.extend(client.request(&Absent { ids: some.to_vec() })?.ids);
        }
        self.keep(|id| !absent.contains(&id), |id| why_unknown(client, id), "exists");
        Ok(())
    }

    /// Leaves out the jobs that are not among `kept`. `why` says of a single id why its job is not.
    pub fn leave_out_others(
        &mut self,
        kept: &HashSet<u64>,
        why: impl FnMut(u64) -> Option<String>,
        what: &str,
    ) {
        self.keep(|id| kept.contains(&id), why, what);
    }

    fn keep(
        &mut self,
        is_kept: impl Fn(u64) -> bool,
        mut why: impl FnMut(u64) -> Option<String>,
        what: &str,
    ) {
        self.ids.retain(|&id| is_kept(id));

        let left: HashSet<u64> = self.ids.iter().copied().collect();
        let (mut named, mut more) = (0, 0);
        for jobs in &self.named {
            let Some(first) = jobs.ids().next() else { continue };
            if jobs.ids().any(|id| left.contains(&id)) || self.in_vain.contains(&first) {
                continue;
            }

            self.in_vain.push(first);
            if named == MOST_NAMED {
                more += 1;
                continue;
            }
            named += 1;
            match jobs {
                Named::Range(range) if range.is_single() => why(first).into_iter().for_each(say),
                Named::Range(range) => say(format_args!("none of the jobs {range} {what}")),
                Named::Jobs { selector, .. } => say(format_args!("none of the jobs of {selector} {what}")),
            }
        }
        if more > 0 {
            say(format_args!("and {more} more"));
        }
    }
}

/// The elements of an array by their ids, if that job is one.
pub fn elements_of(record: &Record) -> Option<IdRange> {
    let array = record.array.as_deref()?;
    let first = array.first_id?;
    Some(IdRange::between(first, first + u64::from(array.elements.saturating_sub(1))))
}

/// The array of an element that the array has not come to, or never came to: nothing of the element is kept.
pub fn unmade_of(record: &Record) -> Option<u64> {
    let array = record.array.as_deref()?;
    // A count of elements made is told of an array, and of such an element.
    (array.index.is_some() && array.unfolded.is_some()).then_some(array.id)
}

/// Why nothing can be done with such an element by itself, as a clause.
pub fn why_unmade(record: &Record) -> Option<String> {
    let array = unmade_of(record)?;
    Some(match record.state.is_terminal() {
        true => format!(
            "it is an element of array {array}, which has ended without coming to it: `poolctl retry {array}` of \
             the whole array runs it, too"
        ),
        false => format!(
            "it is an element of array {array}, which has not come to it: try again once `poolctl ls` lists the \
             element, or name the whole array before that begins"
        ),
    })
}

/// The record of the one job that is named, if it exists.
pub fn job_named_alone(client: &mut Client, range: IdRange) -> Option<Record> {
    let id = range.is_single().then(|| range.first())?;
    client.request(&Get { id }).ok().map(|got| *got.record)
}

/// Asks somebody at the terminal. Where nobody is there, it is as if the answer were yes.
pub fn confirmed(question: impl FnOnce() -> String) -> bool {
    if !ask::is_possible() || ask::ask(&question(), false) {
        return true;
    }
    say("nothing was changed");
    false
}

/// `1 job`, `17 jobs`.
pub fn count_jobs(count: usize) -> String {
    if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") }
}

/// So many jobs are looked for in parts before one request names all of them.
const MANY: usize = 2000;

/// The greatest number of ids that are named in vain and told one by one.
const MOST_NAMED: usize = 20;

/// Whether poold refused because a job does not exist.
pub fn is_unknown(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(Refusal::NoSuchJob { .. }))
}

/// Why there is no job of that id, in the words of poold.
pub fn why_unknown(client: &mut Client, id: u64) -> Option<String> {
    client.request(&Get { id }).err().map(|error| error.to_string())
}

/// Calls `take` with each page of a listing, as the pages come.
///
/// # Errors
/// When poold has gone, or cannot read its store; and those of `take`.
pub fn each_page<E: From<ClientError>>(
    client: &mut Client,
    list: &List,
    mut take: impl FnMut(&[Record]) -> Result<(), E>,
) -> Result<(), E> {
    each_reply(client, list, |page| take(&page.jobs))
}

/// Calls `take` with each page of a listing that tells little of each job, as the pages come.
///
/// # Errors
/// When poold has gone, or cannot read its store; and those of `take`.
pub fn each_brief_page<E: From<ClientError>>(
    client: &mut Client,
    list: &List,
    mut take: impl FnMut(&[Entry]) -> Result<(), E>,
) -> Result<(), E> {
    let brief = List { brief: Some(true), ..list.clone() };
    each_reply(client, &brief, |page| take(&page.entries.unwrap_or_default()))
}

fn each_reply<E: From<ClientError>>(
    client: &mut Client,
    list: &List,
    mut take: impl FnMut(Listed) -> Result<(), E>,
) -> Result<(), E> {
    client.send(list, true).map_err(ClientError::from)?;
    loop {
        let (page, more) = client.receive::<List>()?;
        take(page)?;
        if !more {
            return Ok(());
        }
    }
}

/// The ids of the jobs of a listing that fit, in order.
///
/// # Errors
/// When poold has gone, or cannot read its store.
pub fn ids_of(
    client: &mut Client,
    list: &List,
    fits: impl Fn(&Entry) -> bool,
) -> Result<Vec<u64>, ClientError> {
    let mut ids = Vec::new();
    each_brief_page(client, list, |jobs| {
        ids.extend(jobs.iter().filter(|job| fits(job)).map(|job| job.id));
        Ok::<(), ClientError>(())
    })?;
    Ok(ids)
}

/// Asks for something to be done with jobs, some at a time: with which it was done, and the others.
///
/// # Errors
/// When poold has gone, or refuses.
pub fn alter<M: Method<Reply = Altered>>(
    client: &mut Client,
    ids: &[u64],
    request: impl Fn(Vec<u64>) -> M,
) -> Result<Altered, ClientError> {
    let mut altered = Altered::default();
    for some in ids.chunks(MAX_RELEASED) {
        let reply = client.request(&request(some.to_vec()))?;
        altered.ids.extend(reply.ids);
        altered.others.extend(reply.others);
    }
    Ok(altered)
}

/// Calls `take` with each job of the range that exists.
///
/// # Errors
/// When poold has gone, or cannot read its store.
pub fn each_of(
    client: &mut Client,
    range: IdRange,
    mut take: impl FnMut(&Record),
) -> Result<(), ClientError> {
    let mut after = range.first().saturating_sub(1);
    loop {
        let page = client.request(&List { after: Some(after), ..List::default() })?;
        let in_range = page.jobs.iter().filter(|record| range.contains(record.id));
        in_range.for_each(&mut take);

        match page.next.filter(|&next| range.contains(next)) {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}
