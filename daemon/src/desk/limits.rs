//! Limits of labels, as clients set them. A limit is in force from the request on, before it is on disk: so
//! the core hears of limits, and of jobs that bring one along, in the order in which the engine keeps them. A
//! limit that cannot be kept is undone.

use std::collections::BTreeSet;
use std::sync::Arc;

use pool_proto::Refusal;
use pool_proto::methods::{Empty, LabelLimitsListed, MAX_LIMITS, SetLabelLimit};
use pool_proto::nouns::{LabelLimit, LimitSource};

use super::request::Open;
use super::{Desk, Effect};
use crate::core::{self, Core, LimitView};
use crate::engine::Change;
use crate::job::{Labels, RequestId, Work};
use crate::start::config::label_fault;

/// A limit on its way to the disk, on behalf of a request.
#[derive(Debug)]
pub struct LimitChange {
    label: Arc<str>,
    /// The limit that had been set before; none where none had been.
    before: Option<u32>,
    /// Its client has gone. The change is made all the same.
    pub is_forsaken: bool,
}

impl Desk {
    pub(super) fn on_limits(&mut self, request: RequestId, core: &Core) {
        let limits = core.limits().into_iter().map(describe).collect();
        self.reply(request, LabelLimitsListed { limits }, true);
    }

    pub(super) fn on_set_limit(&mut self, request: RequestId, asked: SetLabelLimit, core: &Core) {
        let SetLabelLimit { label, limit } = asked;
        let known = core.limit_of(&label);
        if let Err(refusal) = check(&label, limit, known.as_ref(), core) {
            return self.refuse(request, refusal);
        }

        let before = known.filter(|known| known.is_set).map(|known| known.limit);
        let label: Arc<str> = Arc::from(label);
        let change = LimitChange { label: label.clone(), before, is_forsaken: false };
        self.requests.insert(request, Open::SettingLimit(change));
        self.command(core::Event::SetLimit { label: label.clone(), limit });
        let label = label.to_string();
        self.effects.push(Effect::Change(Change::SetLimit { request, label, limit }));
    }

    /// A limit is kept.
    pub(super) fn on_limit_set(&mut self, request: RequestId) {
        let is_forsaken = matches!(self.requests.get(request), Some(open) if open.is_forsaken());
        if is_forsaken {
            self.requests.remove(request);
        } else {
            self.reply(request, Empty {}, true);
        }
    }

    /// A limit cannot be kept: the one before is in force again, unless another one is on its way.
    pub(super) fn undo_limit(&mut self, label: Arc<str>, before: Option<u32>) {
        let is_later = |open: &Open| matches!(open, Open::SettingLimit(change) if change.label == label);
        if let Some(&next) = self.requests.that(is_later).first()
            && let Some(Open::SettingLimit(change)) = self.requests.get_mut(next)
        {
            change.before = before;
            return;
        }
        self.command(core::Event::SetLimit { label, limit: before });
    }
}

impl LimitChange {
    /// The label, and the limit that had been set before.
    pub fn limit_before(&self) -> (Arc<str>, Option<u32>) {
        (self.label.clone(), self.before)
    }
}

fn check(label: &str, limit: Option<u32>, known: Option<&LimitView>, core: &Core) -> Result<(), Refusal> {
    let invalid = |reason| Err(Refusal::InvalidLimit { reason });
    if let Some(why) = label_fault(label) {
        return invalid(why);
    }
    match (limit, known) {
        (Some(0), _) => invalid(format!("the limit of the label {label:?} must be 1 or more")),
        (Some(_), None) if core.count_limits() >= MAX_LIMITS => invalid(too_many()),
        (None, None) => Err(Refusal::NoSuchLimit { label: label.to_owned() }),
        (None, Some(known)) if !known.is_set => Err(Refusal::LimitConfigured { label: label.to_owned() }),
        (_, _) => Ok(()),
    }
}

fn too_many() -> String {
    format!("{MAX_LIMITS} labels have limits, which is the most: remove one with `poolctl limit rm`")
}

/// Whether new jobs can be exclusive for what they name. What has a limit of one already needs none.
pub(super) fn check_exclusive(jobs: &mut [Arc<Work>], core: &Core) -> Result<(), Refusal> {
    let mut new: BTreeSet<Arc<str>> = BTreeSet::new();
    for (index, work) in jobs.iter_mut().enumerate().filter(|(_, work)| !work.exclusive.is_empty()) {
        let exclusive = without_limit(index, &work.exclusive, core)?;
        new.extend(exclusive.iter().cloned());
        check_count(index, new.len(), core)?;
        if exclusive != work.exclusive {
            Arc::make_mut(work).exclusive = exclusive;
        }
    }
    Ok(())
}

/// The same of labels for which one job is to be exclusive: those of them that get a limit with it.
pub(super) fn check_exclusive_labels(index: usize, labels: &Labels, core: &Core) -> Result<Labels, Refusal> {
    let exclusive = without_limit(index, labels, core)?;
    check_count(index, exclusive.iter().count(), core)?;
    Ok(exclusive)
}

fn without_limit(index: usize, labels: &Labels, core: &Core) -> Result<Labels, Refusal> {
    let mut unlimited = Vec::new();
    for label in labels.iter() {
        match core.limit_of(label).map(|known| known.limit) {
            None => unlimited.push(label.clone()),
            Some(1) => {}
            Some(limit) => {
                let reason = format!(
                    "{limit} jobs of the label {label:?} may run at a time: `poolctl limit set {label} 1` \
                     lets one at a time run, or name it as a label"
                );
                return Err(Refusal::InvalidJob { index, field: "exclusive".to_owned(), reason });
            }
        }
    }
    Ok(unlimited.into_iter().collect())
}

fn check_count(index: usize, new: usize, core: &Core) -> Result<(), Refusal> {
    if new > 0 && core.count_limits() + new > MAX_LIMITS {
        return Err(Refusal::InvalidJob { index, field: "exclusive".to_owned(), reason: too_many() });
    }
    Ok(())
}

fn describe(limit: LimitView) -> LabelLimit {
    let LimitView { label, limit, is_set, running } = limit;
    LabelLimit {
        label: label.to_string(),
        limit,
        source: if is_set { LimitSource::Set } else { LimitSource::Config },
        running: running.into_iter().map(|id| id.0).collect(),
    }
}
