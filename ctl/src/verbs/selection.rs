//! The jobs that the ids and ranges of a command line name. A range takes the jobs that exist. An id that is
//! written alone names a job that should exist; if it does not, poolctl says so and does the rest.

use std::collections::{HashMap, HashSet};

use pool_proto::methods::{Absent, Altered, Get, List, MAX_ABSENT, MAX_RELEASED};
use pool_proto::{Client, ClientError, Method, Record, Refusal};

use crate::cli::ids::IdRange;
use crate::exit::ExitReason;
use crate::term::text::say;

/// See the module's description.
#[derive(Debug)]
pub struct Selection {
    ranges: Vec<IdRange>,
    /// The jobs, in the order of the command line.
    ids: Vec<u64>,
    /// What was named in vain: single ids, and the first ids of ranges without a job.
    in_vain: Vec<u64>,
}

impl Selection {
    /// All ids that are named.
    pub fn of(ranges: &[IdRange]) -> Self {
        let mut named = HashSet::new();
        let ids = ranges.iter().flat_map(IdRange::ids).filter(|&id| named.insert(id)).collect();
        Self { ranges: ranges.to_vec(), ids, in_vain: Vec::new() }
    }

    /// The jobs that are left, in the order of the command line.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// What was named in vain: single ids, and the first ids of ranges without a job.
    pub fn in_vain(&self) -> &[u64] {
        &self.in_vain
    }

    /// The exit code of a verb that has done the rest.
    pub fn exit(&self) -> ExitReason {
        if self.in_vain.is_empty() { ExitReason::Success } else { ExitReason::Failed }
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
        for range in &self.ranges {
            let first = range.first();
            if range.ids().any(|id| left.contains(&id)) || self.in_vain.contains(&first) {
                continue;
            }

            self.in_vain.push(first);
            if named == MOST_NAMED {
                more += 1;
                continue;
            }
            named += 1;
            match range.is_single() {
                true => why(first).into_iter().for_each(say),
                false => say(format_args!("none of the jobs {range} {what}")),
            }
        }
        if more > 0 {
            say(format_args!("and {more} more"));
        }
    }
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
    client.send(list, true).map_err(ClientError::from)?;
    loop {
        let (page, more) = client.receive::<List>()?;
        take(&page.jobs)?;
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
    fits: impl Fn(&Record) -> bool,
) -> Result<Vec<u64>, ClientError> {
    let mut ids = Vec::new();
    each_page(client, list, |jobs| {
        ids.extend(jobs.iter().filter(|record| fits(record)).map(|record| record.id));
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
