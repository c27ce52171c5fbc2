//! What a job needs besides its turn: room for its labels, slots, and resources of its pool.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Labels;

/// What a job needs besides its turn. Most jobs need one slot and nothing else, which takes no memory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Needs {
    /// Each of them may have a limit, over all pools.
    pub labels: Labels,
    /// Of its pool, each with how many of it.
    pub resources: Resources,
    /// Slots of its pool, at least 1.
    pub slots: u32,
}

/// Something that keeps jobs in their lines which need it. Slots and items that others have do not: a job is
/// offered all the same, and its pool gathers what it takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Limit {
    /// How many slots the pool has, or how many items of that resource, for a job that needs so many.
    Capacity {
        resource: Option<Arc<str>>,
        amount: u32,
    },
    Label(Arc<str>),
}

/// Between parts of the text of needs. No label and no resource has it.
const SEPARATOR: char = ',';

/// Before an amount in the text of needs. No label and no resource has it.
const AMOUNT: char = '=';

impl Default for Needs {
    fn default() -> Self {
        Self { labels: Labels::NONE, resources: Resources::NONE, slots: 1 }
    }
}

impl Needs {
    /// Room for these labels, and a slot.
    pub fn of_labels(labels: Labels) -> Self {
        Self { labels, ..Self::default() }
    }

    /// Needs in one text, as [`Display`](fmt::Display) writes them.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let (mut labels, mut resources, mut slots) = (Vec::new(), Vec::new(), 1);
        for part in text.split(SEPARATOR) {
            match part.split_once(AMOUNT) {
                None => labels.push(Arc::from(part)),
                Some(("", amount)) => slots = amount.parse().ok()?,
                Some((resource, amount)) => resources.push((Arc::from(resource), amount.parse().ok()?)),
            }
        }
        let (labels, resources) = (labels.into_iter().collect(), resources.into_iter().collect());
        Some(Self { labels, resources, slots })
    }

    /// Whether a job needs one slot and nothing else.
    pub fn are_plain(&self) -> bool {
        self.slots == 1 && self.labels.is_empty() && self.resources.is_empty()
    }

    /// What bounds such a job. First what it may never have.
    pub fn limits(&self) -> impl Iterator<Item = Limit> {
        let slots = (self.slots > 1).then_some(Limit::Capacity { resource: None, amount: self.slots });
        let capacity =
            |(name, amount): &Amount| Limit::Capacity { resource: Some(name.clone()), amount: *amount };
        let capacities = slots.into_iter().chain(self.resources.iter().map(capacity));
        let labels = self.labels.iter().map(|label| Limit::Label(label.clone()));
        capacities.chain(labels)
    }

    /// What they take in memory, nearly.
    pub fn bytes(&self) -> usize {
        self.labels.bytes()
            + self.resources.iter().map(|(name, _)| name.len() + 2 * size_of::<usize>()).sum::<usize>()
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is_first = true;
        let mut separate = |formatter: &mut fmt::Formatter<'_>| match std::mem::take(&mut is_first) {
            true => Ok(()),
            false => write!(formatter, "{SEPARATOR}"),
        };
        for label in self.labels.iter() {
            separate(formatter)?;
            formatter.write_str(label)?;
        }
        for (name, amount) in self.resources.iter() {
            separate(formatter)?;
            write!(formatter, "{name}{AMOUNT}{amount}")?;
        }
        if self.slots > 1 {
            separate(formatter)?;
            write!(formatter, "{AMOUNT}{}", self.slots)?;
        }
        Ok(())
    }
}

/// Resources of a pool, by name, each once, with how many items of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resources(Option<Arc<[Amount]>>);

/// How much of a resource, by its name.
type Amount = (Arc<str>, u32);

/// Items of resources, by the names of these, each in its order.
pub type Items = BTreeMap<Arc<str>, Vec<Arc<str>>>;

/// What the names of the variables begin with that tell an attempt which items it has.
pub const ITEMS_VARIABLE: &str = "POOL_RESOURCE_";

/// The variable that tells an attempt which items of that resource it has.
pub fn items_variable(resource: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    ITEMS_VARIABLE.chars().chain(resource.chars().map(letter)).collect()
}

impl Resources {
    pub const NONE: Self = Self(None);

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Amount> {
        self.0.iter().flat_map(|resources| resources.iter())
    }

    /// As records have them; none where there are none.
    pub fn to_counts(&self) -> Option<BTreeMap<String, u32>> {
        let resources = self.0.as_ref()?.iter();
        Some(resources.map(|(name, amount)| (name.to_string(), *amount)).collect())
    }

    /// How many of that resource.
    pub fn amount(&self, name: &str) -> u32 {
        self.iter().find(|(other, _)| **other == *name).map_or(0, |&(_, amount)| amount)
    }

    /// Whether one of them is among those.
    pub fn share(&self, others: &Self) -> bool {
        self.iter().any(|(name, _)| others.iter().any(|(other, _)| name == other))
    }
}

/// What a pool has for its jobs, whoever has it at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    pub slots: u32,
    /// How many items of each resource.
    pub resources: BTreeMap<Arc<str>, u32>,
}

/// More than a pool has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// None where slots are meant.
    pub resource: Option<Arc<str>>,
    pub takes: u32,
    pub has: u32,
}

impl fmt::Display for Shortfall {
    /// As a clause: `takes 2 of gpu, and the pool has 1`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, takes, has } = self;
        match resource {
            Some(name) => write!(formatter, "takes {takes} of {name}, and the pool has {has}"),
            None => write!(formatter, "takes {takes} slots, and the pool has {has}"),
        }
    }
}

impl Default for Capacity {
    /// Of a pool of which nothing has been told yet: no job is too wide for it.
    fn default() -> Self {
        Self { slots: u32::MAX, resources: BTreeMap::new() }
    }
}

impl Capacity {
    /// How many items of a resource the pool has.
    pub fn of(&self, resource: &str) -> u32 {
        self.resources.get(resource).copied().unwrap_or(0)
    }

    /// How much room a limit of the pool has; none where everybody may pass.
    pub fn room(&self, limit: &Limit) -> Option<u32> {
        match limit {
            Limit::Label(_) => None,
            Limit::Capacity { resource: None, amount } => (*amount > self.slots).then_some(0),
            Limit::Capacity { resource: Some(name), amount } => (*amount > self.of(name)).then_some(0),
        }
    }

    /// Whether a job with these needs can ever run here.
    pub fn fits(&self, needs: &Needs) -> bool {
        needs.limits().all(|limit| self.room(&limit).is_none())
    }

    /// What of these needs is too much for the pool.
    pub fn shortfall(&self, needs: &Needs) -> Option<Shortfall> {
        if needs.slots > 1 && needs.slots > self.slots {
            return Some(Shortfall { resource: None, takes: needs.slots, has: self.slots });
        }
        let (name, takes) = needs.resources.iter().find(|(name, amount)| *amount > self.of(name))?;
        Some(Shortfall { resource: Some(name.clone()), takes: *takes, has: self.of(name) })
    }
}

impl FromIterator<Amount> for Resources {
    fn from_iter<I: IntoIterator<Item = Amount>>(resources: I) -> Self {
        let mut resources = Vec::from_iter(resources);
        resources.sort_unstable();
        resources.dedup_by(|later, first| later.0 == first.0);
        Self((!resources.is_empty()).then(|| resources.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_needs_is_read_as_it_is_written() {
        for text in ["", "db", "db,gpu", "db,gpu=2", "gpu=2,tape=1", "=4", "db,gpu=1,=3"] {
            assert_eq!(Needs::parse(text).map(|needs| needs.to_string()).as_deref(), Some(text));
        }
        let needs = Needs::parse("db,gpu=2,=3").unwrap();
        assert_eq!((needs.labels.to_string().as_str(), needs.slots), ("db", 3));
        assert_eq!(Needs::parse("=many"), None);
        assert!(Needs::parse("").unwrap().are_plain() && !needs.are_plain());
    }

    #[test]
    fn what_a_job_may_never_have_comes_before_what_it_waits_for() {
        let limits: Vec<Limit> = Needs::parse("db,gpu=2,=3").unwrap().limits().collect();
        let capacity =
            |resource: Option<&str>, amount| Limit::Capacity { resource: resource.map(Arc::from), amount };
        let wanted = [capacity(None, 3), capacity(Some("gpu"), 2), Limit::Label("db".into())];
        assert_eq!(limits, wanted);
    }
}
