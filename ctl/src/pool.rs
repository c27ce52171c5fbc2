//! The pools: listed, added, removed.

use comfy_table::{ContentArrangement, Table, presets};
use pool_proto::interface::{AddPool, Pool, Pools, ReadyWhen, RemovePool, SCHEMA};

use crate::cli::{self, AddPoolOptions};
use crate::connect::Link;
use crate::list::{LONGEST, lines, printable};
use crate::print;
use crate::submit::{cwd, environment, utf8};

/// `pool ls --json`.
#[derive(serde::Serialize)]
struct PoolsDocument<'a> {
    schema: u32,
    pools: &'a [Pool],
}

/// Lists the pools and their slots.
///
/// # Errors
/// When poold or stdout is gone.
pub fn list(link: &Link, as_json: bool) -> anyhow::Result<u8> {
    let pools = link.connect()?.call(&Pools {})?.pools;
    if as_json {
        print::json(&PoolsDocument { schema: SCHEMA, pools: &pools })?;
        return Ok(0);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.add_row([
        "POOL",
        "SLOT",
        "STATE",
        "PID",
        "PROGRAM",
        "CALLS",
        "JOB",
        "QUEUED",
        "CONTAINMENT",
        "REASON",
    ]);
    for pool in &pools {
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
                of_pool(pool.containment.as_str().to_owned()),
                printable(slot.reason.as_deref().unwrap_or_default(), LONGEST),
            ]);
        }
    }
    print::text(&lines(&table))?;
    Ok(0)
}

/// Adds a warm pool.
///
/// # Errors
/// When there is another one of that name, or something is wrong with it.
pub fn add(link: &Link, options: AddPoolOptions) -> anyhow::Result<u8> {
    let command = options
        .command
        .iter()
        .map(|argument| utf8("argument", argument))
        .collect::<anyhow::Result<Vec<String>>>()?;
    let pool = AddPool {
        name: options.name,
        workers: options.workers.get(),
        command,
        cwd: Some(cwd(options.cwd.as_deref())?),
        env: Some(environment(&options.env, options.env_mode)?),
        ready: Some(match options.ready {
            cli::ReadyWhen::Started => ReadyWhen::Started,
            cli::ReadyWhen::Notify => ReadyWhen::Notify,
        }),
        start_timeout_s: options.start_timeout.map(|timeout| timeout.as_secs_f64()),
        max_calls: options.max_calls,
        max_age_s: options.max_age.map(|age| age.as_secs_f64()),
        max_rss_bytes: options.max_rss,
        timeout_s: options.timeout.map(|timeout| timeout.as_secs_f64()),
        kill_after_s: options.kill_after.map(|grace| grace.as_secs_f64()),
        retries: options.retries,
        backoff_s: options.backoff.map(|backoff| backoff.as_secs_f64()),
        durability: Some(options.durability.into()),
    };
    link.connect()?.call(&pool)?;
    Ok(0)
}

/// Removes a pool that was added.
///
/// # Errors
/// When there is none, or it is in the configuration.
pub fn remove(link: &Link, name: String) -> anyhow::Result<u8> {
    link.connect()?.call(&RemovePool { name })?;
    Ok(0)
}
