//! From selectors to the jobs that they name. poold is asked page by page, and of the jobs only the ids are
//! kept.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use anyhow::bail;
use pool_proto::methods::{Get, List, ListOrder, Pools};
use pool_proto::nouns::{ArrayInfo, Entry, Indices};
use pool_proto::{Client, ClientError, Record, Refusal, State};

use super::{each_brief_page, each_page};
use crate::cli::UsageError;
use crate::cli::ids::{IdRange, MAX_IDS};
use crate::cli::selector::Selector;
use crate::cli::states::{ENDED, LIVING, WAITING};
use crate::verbs::nearest::near;

/// With which jobs a verb can do something: those that `all` names, and of the others that are not named by
/// their ids those that are taken.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    all: Kind,
    other: Kind,
    fits: Fits,
    /// Which those are that fit, behind "no job".
    described: Option<&'static str>,
}

/// Which of the jobs of a kind fit.
#[derive(Debug, Clone, Copy)]
enum Fits {
    /// What a brief listing tells is enough to know.
    InBrief(fn(&Entry) -> bool),
    InFull(fn(&Record) -> bool),
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Any,
    Living,
    Waiting,
    Held,
    Running,
    Ended,
}

impl Scope {
    /// All jobs.
    pub const ANY: Self = Self::of(Kind::Any);
    /// Jobs that have not ended.
    pub const LIVING: Self = Self::of(Kind::Living);
    /// Jobs of which no attempt runs.
    pub const WAITING: Self = Self::of(Kind::Waiting);
    /// Jobs that are held.
    pub const HELD: Self = Self::of(Kind::Held);
    /// Jobs that run.
    pub const RUNNING: Self = Self::of(Kind::Running);
    /// Jobs that have ended.
    pub const ENDED: Self = Self::of(Kind::Ended);
    /// Jobs whose ends somebody wants: one that has failed before does not get lost. Without a word that says
    /// which, only those that are still to come.
    pub const AWAITED: Self = Self { all: Kind::Living, ..Self::ANY };

    const fn of(kind: Kind) -> Self {
        Self { all: kind, other: kind, fits: Fits::InBrief(|_| true), described: None }
    }

    /// Only those that fit as well. `described`: which those are, behind "no job".
    pub const fn with(self, fits: fn(&Entry) -> bool, described: &'static str) -> Self {
        Self { fits: Fits::InBrief(fits), described: Some(described), ..self }
    }

    /// The same where their records have to be read for it.
    pub const fn with_records(self, fits: fn(&Record) -> bool, described: &'static str) -> Self {
        Self { fits: Fits::InFull(fits), described: Some(described), ..self }
    }

    fn describe(&self, kind: Kind) -> &'static str {
        self.described.unwrap_or(kind.described())
    }
}

impl Kind {
    fn states(self) -> Option<&'static [State]> {
        match self {
            Self::Any => None,
            Self::Living => Some(&LIVING),
            Self::Waiting => Some(&WAITING),
            Self::Held => Some(&[State::Held]),
            Self::Running => Some(&[State::Running]),
            Self::Ended => Some(&ENDED),
        }
    }

    /// The jobs of it, after "no job".
    fn described(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Living => " that has not ended",
            Self::Waiting => " that waits",
            Self::Held => " that is held",
            Self::Running => " that runs",
            Self::Ended => " that has ended",
        }
    }
}

/// The jobs that a selector names.
#[derive(Debug, Clone)]
pub enum Named {
    /// By their ids, whether they exist or not.
    Range(IdRange),
    /// By something else.
    Jobs { selector: String, ids: Vec<u64> },
}

impl Named {
    /// All ids.
    pub fn ids(&self) -> Ids<'_> {
        match self {
            Self::Range(range) => Ids::Range(range.ids()),
            Self::Jobs { ids, .. } => Ids::List(ids.iter()),
        }
    }
}

/// Ids, one after the other.
pub enum Ids<'a> {
    Range(RangeInclusive<u64>),
    List(std::slice::Iter<'a, u64>),
}

impl Iterator for Ids<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Self::Range(range) => range.next(),
            Self::List(ids) => ids.next().copied(),
        }
    }
}

/// Looks up which jobs a selector names. `Err`: why there are none, as a sentence.
///
/// # Errors
/// When an array or a pool does not exist, and when poold has gone.
pub fn find(client: &mut Client, selector: &Selector, scope: Scope) -> anyhow::Result<Result<Named, String>> {
    let all = |kind: Kind| List { states: kind.states().map(<[State]>::to_vec), ..List::default() };
    let (list, kind) = match selector {
        Selector::Ids(range) => return Ok(Ok(Named::Range(resolve_one(client, *range)?))),
        Selector::Last => {
            let newest = newest(client, 1)?.first().copied();
            let range = newest.map(|id| Named::Range(IdRange::between(id, id)));
            return Ok(range.ok_or_else(|| "last: there is no job".to_owned()));
        }
        Selector::Newest(count) => {
            let ids = newest(client, *count as usize)?;
            let named = Named::Jobs { selector: selector.to_string(), ids };
            let is_empty = named.ids().next().is_none();
            return Ok(if is_empty { Err(format!("{selector}: there is no job")) } else { Ok(named) });
        }
        Selector::All => (all(scope.all), scope.all),
        Selector::Label(label) => (List { label: Some(label.clone()), ..all(scope.other) }, scope.other),
        Selector::Name(name) => (List { name: Some(name.clone()), ..all(scope.other) }, scope.other),
        Selector::Pool(pool) => (List { pool: Some(pool.clone()), ..all(scope.other) }, scope.other),
        Selector::State(group, _) => {
            let usable = |state: &State| scope.other.states().is_none_or(|states| states.contains(state));
            let states: Vec<State> = group.states().iter().copied().filter(usable).collect();
            if states.is_empty() {
                let no_job = no_job(selector, scope.describe(scope.other));
                return Ok(Err(no_job));
            }
            (List { states: Some(states), ..List::default() }, scope.other)
        }
    };

    let ids = listed(client, &list, selector, scope.fits)?;
    if !ids.is_empty() {
        return Ok(Ok(Named::Jobs { selector: selector.to_string(), ids }));
    }
    if let Selector::Pool(pool) = selector {
        check_pool(client, pool)?;
    }
    let near = nearest(client, selector)?.map(|near| format!("; did you mean {near}?"));
    Ok(Err(no_job(selector, scope.describe(kind)) + &near.unwrap_or_default()))
}

/// The selector that may have been meant by one that names no job: of a label or a name that one of the
/// newest jobs has.
fn nearest(client: &mut Client, selector: &Selector) -> Result<Option<String>, ClientError> {
    let (wanted, prefix) = match selector {
        Selector::Label(label) => (label.clone(), "@"),
        Selector::Name(name) => (name.to_string(), "name:"),
        _ => return Ok(None),
    };
    let list =
        List { order: Some(ListOrder::Newest), limit: Some(500), brief: Some(true), ..List::default() };
    let jobs = client.request(&list)?.entries.unwrap_or_default();
    let known: BTreeSet<String> = match selector {
        Selector::Label(_) => jobs.into_iter().filter_map(|job| job.labels).flatten().collect(),
        _ => jobs.into_iter().filter_map(|job| job.name).map(|name| name.to_string()).collect(),
    };
    // The name itself is that of jobs with which the verb can do nothing.
    let known: Vec<&str> = known.iter().map(String::as_str).filter(|&name| name != wanted).collect();
    Ok(near(&wanted, &known).map(|near| format!("{prefix}{near}")))
}

fn no_job(selector: &Selector, described: &str) -> String {
    match selector {
        Selector::All => format!("all: there is no job{described}"),
        _ => format!("{selector} names no job{described}"),
    }
}

/// The one job that a selector names. `what` is done with one job, as the end of a sentence.
///
/// # Errors
/// When the selector names none, or several; and when poold has gone.
pub fn find_one(client: &mut Client, selector: &Selector, scope: Scope, what: &str) -> anyhow::Result<u64> {
    let named = find(client, selector, scope)?.map_err(anyhow::Error::msg)?;
    let ids: Vec<u64> = named.ids().take(4).collect();
    match ids[..] {
        [id] => Ok(id),
        _ => {
            let shown: Vec<String> = ids.iter().take(3).map(u64::to_string).collect();
            let more = if ids.len() > shown.len() { " ..." } else { "" };
            let shown = shown.join(" ");
            bail!(UsageError(format!("{selector} names several jobs ({shown}{more}): one job {what}")))
        }
    }
}

/// The ids of the jobs of a listing that fit, in order.
fn listed(client: &mut Client, list: &List, selector: &Selector, fits: Fits) -> anyhow::Result<Vec<u64>> {
    let mut ids = Vec::new();
    let mut take = |some: &mut dyn Iterator<Item = u64>| {
        ids.extend(some);
        if ids.len() as u64 > MAX_IDS {
            bail!("{selector} names more than {MAX_IDS} jobs: name fewer at once, by ranges of ids");
        }
        Ok(())
    };
    match fits {
        Fits::InBrief(fits) => each_brief_page(client, list, |jobs| {
            take(&mut jobs.iter().filter(|job| fits(job)).map(|job| job.id))
        })?,
        Fits::InFull(fits) => {
            each_page(client, list, |jobs| take(&mut jobs.iter().filter(|job| fits(job)).map(|job| job.id)))?
        }
    }
    Ok(ids)
}

/// The jobs that were submitted last, at most so many, the oldest of them first. An array is one of them, and
/// its elements are none.
fn newest(client: &mut Client, count: usize) -> Result<Vec<u64>, ClientError> {
    let mut ids = Vec::new();
    let page_size = u32::try_from(count.clamp(2, 500)).unwrap_or(500);
    let mut list = List { order: Some(ListOrder::Newest), limit: Some(page_size), ..List::default() };
    'pages: loop {
        let page = client.request(&list)?;
        for record in &page.jobs {
            if ids.len() == count {
                break 'pages;
            }
            if let Some(array) = array_of_element(record) {
                // Between the array and this element there are elements alone.
                list.after = Some(array + 1);
                continue 'pages;
            }
            ids.push(record.id);
        }
        match page.next {
            Some(next) => list.after = Some(next),
            None => break,
        }
    }
    ids.reverse();
    Ok(ids)
}

fn array_of_element(record: &Record) -> Option<u64> {
    record.array.as_deref().filter(|array| array.index.is_some()).map(|array| array.id)
}

/// A pool that never was is a slip of the pen. One that was removed has jobs that are remembered.
///
/// # Errors
/// When there is no such pool, and when poold has gone.
pub fn check_pool(client: &mut Client, name: &str) -> Result<(), ClientError> {
    let pools = client.request(&Pools {})?.pools;
    if pools.iter().any(|pool| pool.name == name) {
        return Ok(());
    }
    let list = List { pool: Some(name.to_owned()), limit: Some(1), brief: Some(true), ..List::default() };
    let mut found = client.request(&list)?;
    // A page may be empty, though there are jobs behind it.
    while let Some(next) = found.next.filter(|_| found.entries.iter().flatten().next().is_none()) {
        found = client.request(&List { after: Some(next), ..list.clone() })?;
    }
    if found.entries.iter().flatten().next().is_some() {
        return Ok(());
    }
    Err(ClientError::Refused(Refusal::NoSuchPool { pool: name.to_owned() }))
}

/// The jobs of a range: elements of arrays by the ids that they have.
///
/// # Errors
/// When an array does not exist, or has no such element; and when poold has gone.
fn resolve_one(client: &mut Client, range: IdRange) -> anyhow::Result<IdRange> {
    let Some(id) = range.array() else { return Ok(range) };
    let record = client.request(&Get { id })?.record;
    let of_whole = |array: &ArrayInfo| Some((array.first_id?, array.indices.clone()?));
    let Some((first_id, written)) = record.array.as_deref().and_then(of_whole) else {
        bail!("job {id} is no array, so it has no elements: write its id alone");
    };
    let indices: Indices = written.parse().map_err(anyhow::Error::msg)?;
    let place_of = |index: u64| u32::try_from(index).ok().and_then(|index| indices.place_of(index));
    let place = place_of(range.first()).or_else(|| range.ids().find_map(place_of));
    let last = place_of(range.last()).or_else(|| range.ids().rev().find_map(place_of));
    let Some((first, last)) = place.zip(last) else {
        let what = if range.is_single() { range.first().to_string() } else { range.to_string() };
        bail!("array {id} has no element {what}: its indices are {written}");
    };
    Ok(IdRange::between(first_id + u64::from(first), first_id + u64::from(last)))
}
