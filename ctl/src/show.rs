//! One job: its record, its output.

use std::fmt::Write;
use std::fs::File;
use std::io;

use pool_proto::Record;
use pool_proto::interface::{Get, OnCrash, Output, Wait};

use crate::call::describe_error;
use crate::cli::LogsOptions;
use crate::connect::Link;
use crate::follow::{Follower, Sinks};
use crate::list::{command_line, printable, work_line};
use crate::{outcome, print};

/// Prints a job's record.
///
/// # Errors
/// When there is no such job.
pub fn run(link: &Link, id: u64, as_json: bool) -> anyhow::Result<u8> {
    let record = link.connect()?.call(&Get { id })?.record;
    if as_json {
        print::json(&record)?
    } else {
        print::text(&describe(&record))?
    }
    Ok(0)
}

/// Prints a job's output.
///
/// # Errors
/// When there is no such job, or it has not started and is not to be followed.
pub fn logs(link: &Link, options: &LogsOptions) -> anyhow::Result<u8> {
    let mut client = link.connect()?;
    if options.follow {
        client.send(&Wait { ids: vec![options.id], output: Some(true), ..Wait::default() }, true)?;
        Follower::of_job(link, client, Sinks::one(options.stderr), options.id).attend()?;
        return Ok(0);
    }
    client.call(&Output { id: options.id })?;
    let stdout = client.take_descriptor()?;
    let stderr = client.take_descriptor()?;
    let mut file = File::from(if options.stderr { stderr } else { stdout });
    io::copy(&mut file, &mut io::stdout().lock())?;
    Ok(0)
}

fn describe(record: &Record) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            writeln!(text, "{name:<10} {}", printable(&value, usize::MAX))
                .expect("a string takes everything");
        }
    };
    line("id", Some(record.id.to_string()));
    line("name", record.name.clone());
    line("key", record.key.clone());
    line("state", Some(record.state.as_str().to_owned()));
    line("result", record.result.map(|result| format!("{} ({})", result.as_str(), outcome::summary(record))));
    line("reason", record.reason.clone());
    line("command", record.argv.as_deref().map(command_line));
    line("call", record.method.as_ref().map(|_| work_line(record)));
    line("progress", record.progress.as_ref().map(print::progress));
    line("value", record.value.as_ref().map(|value| value.get().to_owned()));
    line("error", record.error.as_ref().map(describe_error));
    line("directory", Some(record.cwd.clone()));
    line(
        "pool",
        Some(record.slot.map_or(record.pool.clone(), |slot| format!("{}, slot {slot}", record.pool))),
    );
    line("attempt", Some(record.attempt.to_string()));
    line("retries", (record.retries > 0).then(|| format!("{} of {}", record.retried, record.retries)));
    line("due", record.due_at.clone());
    line("priority", (record.priority != 0).then(|| record.priority.to_string()));
    line("crashes", (record.crashes > 0).then(|| record.crashes.to_string()));
    line("crashed", record.last_crash.clone());
    line("tie", record.tie.clone());
    line("on crash", (record.on_crash != OnCrash::Requeue).then(|| record.on_crash.as_str().to_owned()));
    line("pid", record.pid.map(|pid| pid.to_string()));
    line("worker", record.worker_pid.map(|pid| pid.to_string()));
    line("submitted", Some(record.submitted_at.clone()));
    line("started", record.started_at.clone());
    line("ended", record.ended_at.clone());
    line("duration", record.wall_s.map(|seconds| format!("{seconds:.3} s")));
    line(
        "usage",
        record.usage.map(|usage| {
            let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let largest = mebibytes(usage.max_rss_bytes);
            let all =
                usage.memory_peak_bytes.map(|bytes| format!(", {:.1} MiB all together", mebibytes(bytes)));
            let all = all.unwrap_or_default();
            format!(
                "{:.3} s user, {:.3} s system, {largest:.1} MiB the largest process{all}",
                usage.user_s, usage.sys_s
            )
        }),
    );
    for (name, file) in [("stdout", &record.stdout), ("stderr", &record.stderr)] {
        let describe = |file: &pool_proto::interface::OutputFile| match file.bytes {
            Some(bytes) => format!("{} ({bytes} bytes)", file.path),
            None => file.path.clone(),
        };
        line(name, file.as_ref().map(describe));
    }
    for callback in &record.callbacks {
        let code = callback.exit_code.map(|code| format!(", exit code {code}")).unwrap_or_default();
        let (id, on, state, attempts) =
            (callback.id, callback.on.as_str(), &callback.state, callback.attempts);
        line("callback", Some(format!("{id}, on {on}: {state}, attempts: {attempts}{code}")));
    }
    text
}
