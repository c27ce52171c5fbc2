//! The pools: their tier of containment, the slots that are down, how full the queues are, and what is
//! paused.

use pool_proto::nouns::{Condition, Incident, Pool, Slot, SlotState, Stuck};

use super::Check;

/// Three checks for each pool, and one more where jobs wait for its pause to end, or take more than it has;
/// then what is stuck anywhere, and what was.
pub fn look(condition: &Condition) -> Vec<Check> {
    let each = |pool| {
        let checks = [containment(pool), slots(pool), queue(pool, condition.max_queued)];
        checks.into_iter().chain(too_small(pool)).chain(pause(pool)).chain(drain(pool))
    };
    let pools = condition.pools.iter().flat_map(each);
    pools.chain(stuck(condition)).chain(incidents(condition)).collect()
}

fn stuck(condition: &Condition) -> Vec<Check> {
    let check = |Stuck { pool, slot, pid, what }: &Stuck| {
        let text = match (pid, slot) {
            (Some(pid), _) => format!("process {pid}: {what}"),
            (None, Some(slot)) => format!("slot {slot}: {what}"),
            (None, None) => what.clone(),
        };
        let check = Check::warning("stuck", text);
        match pool {
            Some(pool) => check.of(pool),
            None => check,
        }
    };
    match condition.stuck.as_slice() {
        [] => vec![Check::ok("stuck", "no slot stands still, and no killed process is left")],
        stuck => stuck.iter().map(check).collect(),
    }
}

/// poold has mended these by itself; they may happen again.
fn incidents(condition: &Condition) -> Vec<Check> {
    let check = |Incident { at, pool, slot, what }: &Incident| {
        let subject = pool.as_deref().unwrap_or("callbacks");
        Check::note("incident", format!("slot {slot}, {at}: {what}")).of(subject)
    };
    condition.incidents.iter().map(check).collect()
}

fn containment(pool: &Pool) -> Check {
    let tier = pool.containment.as_str();
    let check = match &pool.containment_note {
        Some(note) => Check::note("containment", format!("{tier}; {note}")),
        None => Check::ok("containment", tier),
    };
    check.of(&pool.name)
}

fn slots(pool: &Pool) -> Check {
    let down: Vec<_> = pool.slots.iter().filter(|slot| !is_up(slot.state)).collect();
    let (up, all) = (pool.slots.len() - down.len(), pool.slots.len());

    let mend = "remove the cause; poold tries again by itself";

    let check = match (down.is_empty(), reason_among(down), reason_among(pool.slots.iter().collect())) {
        (true, _, None) => Check::ok("slots", format!("{up} of {all} are up, {} run a job", pool.running)),
        (true, _, Some(reason)) => {
            let what = format!(
                "{up} of {all} are up, but a program that is worn, or has other settings now, is not \
                 replaced: {reason}"
            );
            Check::warning("slots", what).advise(mend)
        }
        (false, Some(reason), _) => {
            Check::problem("slots", format!("{up} of {all} are up: {reason}")).advise(mend)
        }
        (false, None, _) => {
            Check::note("slots", format!("{up} of {all} are up, the others are being started"))
        }
    };
    check.of(&pool.name)
}

fn reason_among(slots: Vec<&Slot>) -> Option<&str> {
    slots.into_iter().find_map(|slot| slot.reason.as_deref())
}

fn queue(pool: &Pool, max_queued: u64) -> Check {
    let queued = pool.queued;
    let check = if queued >= max_queued {
        Check::problem("queue", format!("{queued} jobs wait, which is the limit; poold refuses more"))
    } else if queued > max_queued / 10 * 9 {
        Check::warning("queue", format!("{queued} of at most {max_queued} jobs wait"))
    } else {
        return Check::ok("queue", format!("{queued} of at most {max_queued} jobs wait")).of(&pool.name);
    };
    check.of(&pool.name).advise("give the pool more workers, or raise `max_queued`")
}

fn pause(pool: &Pool) -> Option<Check> {
    let since = pool.paused_since.as_deref().filter(|_| pool.queued > 0)?;
    let by = pool.paused_by.map(|uid| format!(", by uid {uid}")).unwrap_or_default();
    let text = format!("{} queued jobs wait, because the pool is paused since {since}{by}", pool.queued);
    let advice = format!("`poolctl pool resume {}` lets it go on", pool.name);
    Some(Check::note("pause", text).of(&pool.name).advise(advice))
}

fn too_small(pool: &Pool) -> Option<Check> {
    let takes = pool.too_small_for.as_deref()?;
    let text = format!("a job waits that {takes}: it cannot run");
    let advice =
        "give the pool more, or edit, move or cancel such jobs: `poolctl ls --state queued`, `poolctl why`";
    Some(Check::warning("capacity", text).of(&pool.name).advise(advice))
}

fn drain(pool: &Pool) -> Option<Check> {
    let since = pool.draining_since.as_deref()?;
    let by = pool.draining_by.map(|uid| format!(", by uid {uid}")).unwrap_or_default();
    let text = format!("the pool takes no new jobs, because it is being drained since {since}{by}");
    let advice = format!("`poolctl pool resume {}` lets it take jobs again", pool.name);
    Some(Check::note("drain", text).of(&pool.name).advise(advice))
}

fn is_up(state: SlotState) -> bool {
    match state {
        SlotState::Idle | SlotState::Busy | SlotState::Recycling => true,
        SlotState::Down | SlotState::Starting | SlotState::BackingOff | SlotState::Failed => false,
    }
}
