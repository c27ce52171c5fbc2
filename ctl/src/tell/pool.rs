//! What poolctl prints about pools and their slots.

use pool_proto::nouns::{Pool, SCHEMA};

use crate::term::table;
use crate::term::text::{LONGEST, printable};

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

/// A table with a row for each slot.
pub fn table_of(pools: &[Pool]) -> String {
    let mut table = table::empty();
    table.add_row([
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
    ]);
    for pool in pools {
        for slot in &pool.slots {
            let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
            let pid = |pid: Option<i32>| pid.map(|pid| pid.to_string()).unwrap_or_default();
            let of_pool = |text: String| if slot.slot == 0 { text } else { String::new() };
            table.add_row([
                pool.name.clone(),
                slot.slot.to_string(),
                slot.state.as_str().to_owned(),
                pid(slot.pid),
                pid(slot.program_pid),
                number(slot.calls),
                number(slot.job),
                of_pool(pool.queued.to_string()),
                of_pool(pool.paused_since.clone().unwrap_or_default()),
                of_pool(pool.containment.as_str().to_owned()),
                printable(slot.reason.as_deref().unwrap_or_default(), LONGEST),
            ]);
        }
    }
    table::lines(&table)
}
