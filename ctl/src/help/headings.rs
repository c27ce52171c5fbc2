//! The headings under which the options of the verbs that submit jobs stand. They have dozens of options, and
//! most of them in common.

use clap::Arg;

/// The verbs whose options have headings.
pub const VERBS: &[&str] = &["submit", "run", "map", "call", "schedule add"];

/// Options that stand first, without a heading of their own.
#[cfg(test)]
pub const FIRST: &[&str] = &[
    "wait",
    "async",
    "from",
    "pool",
    "name",
    "json",
    "help",
    "params",
    "durability",
    "every",
    "cron",
    "tz",
    "overlap",
    "missed",
    "replace",
    "jobs",
    "halt",
    "max-fails",
    "fail-count",
    "resume",
    "call",
    "array",
    "quiet",
    "parsable",
    "pty",
];

/// The heading of each other option, by its long name.
const HEADINGS: &[(&str, &[&str])] = &[
    (
        "Items and output",
        &["arg-file", "null", "colsep", "shuf", "keep-order", "tag", "bar", "joblog", "dry-run"],
    ),
    ("Where it runs", &["cwd", "env", "env-mode", "stdin", "pty", "merge"]),
    (
        "When it runs",
        &[
            "after",
            "delay",
            "at",
            "hold",
            "priority",
            "label",
            "exclusive",
            "slots",
            "resource",
            "start-within",
        ],
    ),
    ("Only once", &["key", "rerun-failed", "unique", "if-exists"]),
    (
        "Limits",
        &["timeout", "idle-timeout", "deadline", "kill-after", "mem", "nice", "rlimit", "cpus", "max-output"],
    ),
    (
        "When it fails",
        &[
            "retries",
            "backoff",
            "jitter",
            "retry-on-exit",
            "no-retry-on-exit",
            "on-crash",
            "on-disconnect",
            "tie",
        ],
    ),
    ("Callbacks", &["on-done", "on-success", "on-failure", "on-start", "callback-for"]),
];

/// The heading of an option of this verb.
pub fn of(verb: &str, arg: &Arg) -> Option<&'static str> {
    if !VERBS.contains(&verb) {
        return None;
    }
    let name = arg.get_long()?;
    HEADINGS.iter().find(|(_, names)| names.contains(&name)).map(|(heading, _)| *heading)
}
