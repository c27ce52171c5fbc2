//! The resources of one pool: named items, each of which one attempt has at a time.
//!
//! An attempt has its items from the moment when a slot takes it until nothing of it is left, whatever
//! becomes of the configuration meanwhile: an item that is configured no more is handed to nobody else, and
//! one that comes back while somebody has it is not free. Items are handed out in the order of the
//! configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::job::{IdMap, Items, JobId, Resources};

/// See the module's description.
#[derive(Debug, Default)]
pub struct Stock {
    shelves: BTreeMap<Arc<str>, Shelf>,
    held: IdMap<JobId, Items>,
}

/// One resource.
#[derive(Debug, Default)]
struct Shelf {
    /// None where it is configured no more, and somebody has items of it.
    configured: Option<Vec<Arc<str>>>,
    /// The places in the configuration of those that nobody has.
    free: BTreeSet<usize>,
    /// Who has which item, those included that are configured no more.
    taken: BTreeMap<Arc<str>, JobId>,
}

/// A resource, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceView {
    pub name: Arc<str>,
    /// In the order of the configuration, each with who has it.
    pub items: Vec<(Arc<str>, Option<JobId>)>,
    /// Those that somebody has and that are configured no more.
    pub removed: Vec<(Arc<str>, JobId)>,
}

#[cfg(test)]
impl ResourceView {
    /// The jobs that have items of it; one with several is named several times.
    pub fn holders(&self) -> impl Iterator<Item = JobId> + '_ {
        let of_removed = self.removed.iter().map(|&(_, id)| id);
        self.items.iter().filter_map(|&(_, id)| id).chain(of_removed)
    }
}

impl Shelf {
    fn items(&self) -> &[Arc<str>] {
        self.configured.as_deref().unwrap_or_default()
    }

    fn configure(&mut self, items: Option<Vec<Arc<str>>>) {
        self.configured = items;
        let is_free = |&(_, item): &(usize, &Arc<str>)| !self.taken.contains_key(item);
        self.free = self.items().iter().enumerate().filter(is_free).map(|(place, _)| place).collect();
    }

    fn take(&mut self, id: JobId, amount: u32) -> Vec<Arc<str>> {
        let places: Vec<usize> = self.free.iter().copied().take(amount as usize).collect();
        debug_assert_eq!(places.len(), amount as usize, "job {id} is started when all are free");
        let take = |place: usize| {
            self.free.remove(&place);
            let item = self.items()[place].clone();
            self.taken.insert(item.clone(), id);
            item
        };
        places.into_iter().map(take).collect()
    }

    fn give_back(&mut self, item: &Arc<str>) {
        self.taken.remove(item);
        let place = self.items().iter().position(|other| other == item);
        self.free.extend(place);
    }
}

impl Stock {
    /// The resources of the configuration are these from now on.
    pub fn configure(&mut self, items: &Items) {
        for name in items.keys() {
            self.shelves.entry(name.clone()).or_default();
        }
        for (name, shelf) in &mut self.shelves {
            shelf.configure(items.get(name).cloned());
        }
        self.shelves.retain(|_, shelf| shelf.configured.is_some() || !shelf.taken.is_empty());
    }

    /// How many items of each resource the pool has, whoever has them at the moment.
    pub fn amounts(&self) -> BTreeMap<Arc<str>, u32> {
        let amount = |items: &Vec<Arc<str>>| u32::try_from(items.len()).unwrap_or(u32::MAX);
        let of =
            |(name, shelf): (&Arc<str>, &Shelf)| Some((name.clone(), amount(shelf.configured.as_ref()?)));
        self.shelves.iter().filter_map(of).collect()
    }

    /// Whether all of this is free.
    pub fn has_free(&self, takes: &Resources) -> bool {
        self.lacking(takes).is_none()
    }

    /// The first of these resources of which too little is free.
    pub fn lacking(&self, takes: &Resources) -> Option<Arc<str>> {
        let free = |name: &Arc<str>| self.shelves.get(name).map_or(0, |shelf| shelf.free.len());
        takes.iter().find(|(name, amount)| free(name) < *amount as usize).map(|(name, _)| name.clone())
    }

    /// The attempt of a job has so much of them from now on, which is free.
    pub fn take(&mut self, id: JobId, takes: &Resources) {
        let mut items = Items::new();
        for (name, amount) in takes.iter() {
            if let Some(shelf) = self.shelves.get_mut(name) {
                items.insert(name.clone(), shelf.take(id, *amount));
            }
        }
        self.held.insert(id, items);
    }

    /// What the attempt of a job had is free.
    pub fn give_back(&mut self, id: JobId) {
        for (name, items) in self.held.remove(&id).unwrap_or_default() {
            let Some(shelf) = self.shelves.get_mut(&name) else { continue };
            items.iter().for_each(|item| shelf.give_back(item));
            if shelf.configured.is_none() && shelf.taken.is_empty() {
                self.shelves.remove(&name);
            }
        }
    }

    /// What the attempt of a job has.
    pub fn of(&self, id: JobId) -> Option<&Items> {
        self.held.get(&id)
    }

    pub fn is_untouched(&self) -> bool {
        self.held.is_empty()
    }

    pub fn views(&self) -> impl Iterator<Item = ResourceView> + '_ {
        self.shelves.iter().map(|(name, shelf)| {
            let item = |item: &Arc<str>| (item.clone(), shelf.taken.get(item).copied());
            let is_removed = |(item, _): &(&Arc<str>, &JobId)| !shelf.items().contains(item);
            let removed = shelf.taken.iter().filter(is_removed);
            ResourceView {
                name: name.clone(),
                items: shelf.items().iter().map(item).collect(),
                removed: removed.map(|(item, &id)| (item.clone(), id)).collect(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Needs;

    fn items(all: &[(&str, &[&str])]) -> Items {
        all.iter()
            .map(|(name, items)| (Arc::from(*name), items.iter().copied().map(Arc::from).collect()))
            .collect()
    }

    fn takes(text: &str) -> Resources {
        Needs::parse(text).unwrap().resources
    }

    #[test]
    fn items_are_handed_out_in_order_and_come_back() {
        let mut stock = Stock::default();
        stock.configure(&items(&[("gpu", &["b", "a", "c"]), ("tape", &["0"])]));
        stock.take(JobId(1), &takes("gpu=2"));
        assert_eq!(stock.of(JobId(1)), Some(&items(&[("gpu", &["b", "a"])])));
        assert!(!stock.has_free(&takes("gpu=2")) && stock.has_free(&takes("gpu=1,tape=1")));
        assert_eq!(stock.lacking(&takes("gpu=1,tape=2")).as_deref(), Some("tape"));
        stock.take(JobId(2), &takes("gpu=1,tape=1"));
        assert_eq!(stock.of(JobId(2)), Some(&items(&[("gpu", &["c"]), ("tape", &["0"])])));
        stock.give_back(JobId(1));
        stock.take(JobId(3), &takes("gpu=1"));
        assert_eq!(stock.of(JobId(3)), Some(&items(&[("gpu", &["b"])])));
    }

    #[test]
    fn an_item_that_is_configured_no_more_stays_with_who_has_it() {
        let mut stock = Stock::default();
        stock.configure(&items(&[("gpu", &["0", "1"])]));
        stock.take(JobId(1), &takes("gpu=1"));
        stock.configure(&items(&[("gpu", &["1", "2"])]));
        assert_eq!(stock.views().next().unwrap().removed, [("0".into(), JobId(1))]);
        stock.take(JobId(2), &takes("gpu=2"));
        stock.configure(&items(&[]));
        assert_eq!((stock.amounts().len(), stock.lacking(&takes("gpu=1")).is_some()), (0, true));

        stock.configure(&items(&[("gpu", &["0", "3"])]));
        stock.take(JobId(3), &takes("gpu=1"));
        assert_eq!(stock.of(JobId(3)), Some(&items(&[("gpu", &["3"])])), "0 is not free yet");
        [1, 2, 3].into_iter().for_each(|id| stock.give_back(JobId(id)));
        assert!(stock.is_untouched() && stock.has_free(&takes("gpu=2")));
        stock.configure(&items(&[]));
        assert_eq!(stock.views().count(), 0, "nothing is left of what is gone");
    }
}
