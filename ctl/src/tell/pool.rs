//! What poolctl prints about pools and their slots.

use std::time::SystemTime;

use pool_proto::nouns::{Pool, Resource, SCHEMA, Slot, SlotState};

use super::when;
use crate::term::style::Tone;
use crate::term::table;
use crate::term::text::{LONGEST, printable};
use crate::term::width::{cell, columns, left, right};

/// The document of `pool ls --json`.
#[derive(Debug, serde::Serialize)]
pub struct PoolsDocument<'a> {
    schema: u32,
    pools: &'a [Pool],
}

impl<'a> PoolsDocument<'a> {
    /// The document of these pools.
    pub fn of(pools: &'a [Pool]) -> Self {
        Self { schema: SCHEMA, pools }
    }
}

/// A line for each pool. `width`: the columns of the terminal, where there is one.
pub fn lines_of(pools: &[Pool], width: Option<usize>, has_color: bool, now: SystemTime) -> String {
    let heading = ["POOL", "WORKERS", "BUSY", "QUEUED", "STATE"].map(ToOwned::to_owned);
    let rows: Vec<([String; 5], Tone)> = pools
        .iter()
        .map(|pool| {
            let (state, tone) = state_of(pool, width, now);
            let numbers = [u64::from(pool.workers), u64::from(pool.running), pool.queued];
            let [workers, busy, queued] = numbers.map(|number| number.to_string());
            ([printable(&pool.name, LONGEST), workers, busy, queued, state], tone)
        })
        .collect();
    let lines = std::iter::once((heading, Tone::Faint)).chain(rows);
    let lines: Vec<([String; 5], Tone)> = lines.collect();
    let widths: [usize; 4] =
        std::array::from_fn(|at| lines.iter().map(|(cells, _)| columns(&cells[at])).max().unwrap_or(0));
    let line = |(cells, tone): &([String; 5], Tone)| {
        let mut line = left(&cells[0], widths[0]);
        for at in 1..4 {
            line += "  ";
            line += &right(&cells[at], widths[at]);
        }
        let room = width.map_or(usize::MAX, |width| width.saturating_sub(columns(&line) + 2));
        format!("{line}  {}\n", tone.paint(&cell(&cells[4], room), has_color))
    };
    lines.iter().map(line).collect()
}

/// What a pool does, or what is wrong with it.
fn state_of(pool: &Pool, width: Option<usize>, now: SystemTime) -> (String, Tone) {
    let is_broken = |slot: &&Slot| match slot.state {
        SlotState::Failed | SlotState::BackingOff => true,
        SlotState::Down => slot.reason.is_some(),
        SlotState::Idle | SlotState::Busy | SlotState::Starting | SlotState::Recycling => false,
    };
    let broken: Vec<&Slot> = pool.slots.iter().filter(is_broken).collect();
    if let Some(slot) = broken.first() {
        let why = slot.reason.as_deref().unwrap_or(slot.state.as_str());
        let how =
            if broken.iter().all(|slot| slot.state == SlotState::Failed) { "failed" } else { "cannot start" };
        let count =
            if broken.len() == 1 { format!("1 slot {how}") } else { format!("{} slots {how}", broken.len()) };
        return (format!("{count}: {}", printable(why, LONGEST)), Tone::Bad);
    }
    let since = |since: &Option<String>| match since.as_deref().map(|since| (since, when::since(since, now)))
    {
        // Elsewhere than on a terminal it may be read much later.
        Some((_, Some(ago))) if width.is_some() => format!(" for {}", when::age(ago)),
        Some((since, _)) => format!(" since {since}"),
        None => String::new(),
    };
    if pool.paused {
        return (format!("paused{}", since(&pool.paused_since)), Tone::Attention);
    }
    if pool.draining_since.is_some() {
        return (format!("draining{}", since(&pool.draining_since)), Tone::Attention);
    }
    if let Some(takes) = &pool.too_small_for {
        return (format!("too small: a job waits that {}", printable(takes, LONGEST)), Tone::Attention);
    }
    let starting =
        pool.slots.iter().filter(|slot| matches!(slot.state, SlotState::Starting | SlotState::Down));
    match starting.count() {
        0 if pool.running > 0 => (with_resources("busy", pool), Tone::Running),
        0 => (with_resources("idle", pool), Tone::Plain),
        1 => ("1 slot is starting".to_owned(), Tone::Attention),
        count => (format!("{count} slots are starting"), Tone::Attention),
    }
}

/// The same, and how many items of each resource are taken: `busy; gpu 1 of 2`.
fn with_resources(state: &str, pool: &Pool) -> String {
    let resources = taken_of(&pool.resources);
    if resources.is_empty() { state.to_owned() } else { format!("{state}; {resources}") }
}

/// How many items of each resource are taken: `gpu 1 of 2, tape 0 of 1`.
pub fn taken_of(resources: &[Resource]) -> String {
    let one = |Resource { name, items }: &Resource| {
        let items = items.iter().filter(|item| item.removed != Some(true));
        let taken = items.clone().filter(|item| item.job.is_some()).count();
        format!("{name} {taken} of {}", items.count())
    };
    resources.iter().map(one).collect::<Vec<String>>().join(", ")
}

/// A table with a row for each slot. `for_people`: a column in which nothing stands is left out.
pub fn slots_of(pools: &[Pool], for_people: bool) -> String {
    let heading = [
        "POOL",
        "SLOT",
        "STATE",
        "PID",
        "PROGRAM",
        "CALLS",
        "JOB",
        "QUEUED",
        "PAUSED SINCE",
        "CONTAINMENT",
        "REASON",
    ];
    let mut rows = vec![heading.map(ToOwned::to_owned)];
    for pool in pools {
        for slot in &pool.slots {
            let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
            let pid = |pid: Option<i32>| pid.map(|pid| pid.to_string()).unwrap_or_default();
            let of_pool = |text: String| if slot.slot == 0 { text } else { String::new() };
            rows.push([
                pool.name.clone(),
                slot.slot.to_string(),
                slot.state.as_str().to_owned(),
                pid(slot.pid),
                pid(slot.program_pid),
                number(slot.calls),
                number(slot.job),
                of_pool(pool.queued.to_string()),
                of_pool(match (&pool.paused_since, &pool.draining_since) {
                    (Some(since), _) => since.clone(),
                    (None, Some(since)) => format!("drained since {since}"),
                    (None, None) => String::new(),
                }),
                of_pool(pool.containment.as_str().to_owned()),
                printable(slot.reason.as_deref().unwrap_or_default(), LONGEST),
            ]);
        }
    }

    let is_used = |column: &usize| rows[1..].iter().any(|row| !row[*column].is_empty());
    let shown: Vec<usize> = (0..heading.len()).filter(|column| !for_people || is_used(column)).collect();
    let mut table = table::empty();
    for row in &rows {
        table.add_row(shown.iter().map(|&column| &row[column]));
    }
    table::lines(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_one_line_that_says_what_is_wrong() {
        let pool = |name: &str, slots: &[(&str, Option<&str>)], members: serde_json::Value| {
            let slots: Vec<_> = slots
                .iter()
                .enumerate()
                .map(|(slot, (state, reason))| {
                    serde_json::json!({ "slot": slot, "state": state, "reason": reason })
                })
                .collect();
            let mut pool = serde_json::json!({
                "name": name, "workers": slots.len(), "queued": 0, "running": 0, "containment": "cgroup",
                "slots": slots,
            });
            let members = members.as_object().unwrap().clone();
            pool.as_object_mut().unwrap().extend(members);
            serde_json::from_value::<Pool>(pool).unwrap()
        };
        let pools = [
            pool(
                "default",
                &[("busy", None), ("idle", None)],
                serde_json::json!({ "running": 1, "queued": 12 }),
            ),
            pool("a", &[("failed", Some("no such\nprogram")), ("failed", None)], serde_json::json!({})),
            pool(
                "b",
                &[("idle", None)],
                serde_json::json!({ "paused": true, "paused_since": "2026-11-26T20:30:00Z" }),
            ),
            pool(
                "c",
                &[("idle", None)],
                serde_json::json!({ "resources": [
                    { "name": "gpu", "items": [
                        { "item": "0", "job": 7 }, { "item": "1" }, { "item": "2", "job": 8, "removed": true },
                    ] },
                    { "name": "tape", "items": [] },
                ] }),
            ),
            pool(
                "d",
                &[("idle", None)],
                serde_json::json!({ "too_small_for": "takes 2 of gpu, and the pool has 1" }),
            ),
        ];
        let now = when::parse("2026-11-26T20:33:00Z").unwrap();
        assert_eq!(
            lines_of(&pools, Some(60), false, now),
            "POOL     WORKERS  BUSY  QUEUED  STATE\n\
             default        2     1      12  busy\n\
             a              2     0       0  2 slots failed: no such\\n...\n\
             b              1     0       0  paused for 3 min\n\
             c              1     0       0  idle; gpu 1 of 2, tape 0 ...\n\
             d              1     0       0  too small: a job waits th...\n"
        );
    }
}
