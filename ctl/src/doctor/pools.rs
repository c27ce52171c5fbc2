//! The pools: which tier of containment is in force, which slots are down, how full the queues are.

use pool_proto::condition::Condition;
use pool_proto::interface::{Pool, SlotState};

use super::Check;

pub fn look(condition: &Condition) -> Vec<Check> {
    let each = |pool| [containment(pool), slots(pool), queue(pool, condition.max_queued)];
    condition.pools.iter().flat_map(each).collect()
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
    let check = match down.iter().find_map(|slot| slot.reason.as_deref()) {
        _ if down.is_empty() => Check::ok("slots", format!("{up} of {all} are up, {} run a job", pool.running)),
        Some(reason) => {
            Check::problem("slots", format!("{up} of {all} are up: {reason}")).advise("mend that; poold tries again by itself")
        }
        None => Check::note("slots", format!("{up} of {all} are up, the others are being started")),
    };
    check.of(&pool.name)
}

fn queue(pool: &Pool, max_queued: u64) -> Check {
    let queued = pool.queued;
    let check = if queued >= max_queued {
        Check::problem("queue", format!("{queued} jobs wait, which is as many as may; more are refused"))
    } else if queued > max_queued / 10 * 9 {
        Check::warning("queue", format!("{queued} jobs wait, of at most {max_queued}"))
    } else {
        return Check::ok("queue", format!("{queued} jobs wait, of at most {max_queued}")).of(&pool.name);
    };
    check.of(&pool.name).advise("give the pool more workers, or raise `max_queued`")
}

fn is_up(state: SlotState) -> bool {
    match state {
        SlotState::Idle | SlotState::Busy | SlotState::Recycling => true,
        SlotState::Down | SlotState::Starting | SlotState::BackingOff | SlotState::Failed => false,
    }
}
