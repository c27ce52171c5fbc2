//! The reckoning of jobs that were to run after others: they have run after them, or not at all, as their
//! ends have wanted it.

use std::collections::HashMap;

use pool_proto::nouns::On;
use pool_proto::{Record, ResultKind, State};

use super::known::Known;
use super::ledgers::Written;
use super::reckoning::is_late;

/// Compares how jobs have ended with the ends of those before them.
pub fn check(records: &HashMap<u64, Record>, written: &Written, known: &mut Known) {
    // The places of each job's first and last start.
    let mut starts: HashMap<u64, (usize, usize)> = HashMap::new();
    for (place, &id) in written.order.iter().enumerate() {
        starts.entry(id).and_modify(|(_, last)| *last = place).or_insert((place, place));
    }

    let (mut breaches, mut in_vain) = (Vec::new(), 0);
    for (id, accepted) in &known.accepted {
        let Some(record) = records.get(id) else { continue };
        let after = known.after.get(id).map_or(&[][..], Vec::as_slice);
        let priors: Vec<(On, &Record)> = after
            .iter()
            .filter_map(|prior| Some((prior.on.unwrap_or(On::Success), records.get(&prior.id)?)))
            .collect();
        if priors.len() < after.len() {
            continue; // One of them is lost, which is told already.
        }

        let is_in_vain = priors.iter().any(|(on, prior)| !on.matches(prior.state));
        in_vain += u64::from(is_in_vain);
        let is_failed = record.result == Some(ResultKind::DepFailed);
        // Something else may have ended it before.
        let ended_before = match record.state {
            State::Canceled => accepted.is_canceled || is_late(accepted, record),
            State::TimedOut => accepted.kind.deadline_s.is_some() && record.attempt == 0,
            _ => false,
        };
        if is_failed != is_in_vain && !(is_in_vain && ended_before) {
            breaches.push(format!(
                "job {id} {} is {:?}, {:?}, after {:?}",
                accepted.kind.name,
                record.state,
                record.result,
                priors.iter().map(|(on, prior)| (prior.id, on, prior.state)).collect::<Vec<_>>()
            ));
        }

        let Some((first, _)) = starts.get(id) else { continue };
        if is_in_vain {
            breaches.push(format!("job {id} {} and has run, after what did not end so", accepted.kind.name));
        }
        let is_early = |prior: &Record| starts.get(&prior.id).is_some_and(|(_, last)| last > first);
        let early = priors.iter().filter(|(_, prior)| is_early(prior));
        breaches.extend(early.map(|(_, prior)| format!("job {id} has run before {} had ended", prior.id)));
    }
    known.breaches.extend(breaches);
    known.count("jobs after others, in vain", in_vain);
}
