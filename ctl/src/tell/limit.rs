//! What poolctl prints about limits of labels.

use pool_proto::nouns::LabelLimit;

use crate::term::table;

/// So many of the jobs that run with a label are named.
const NAMED: usize = 8;

/// The document of `limit ls --json`.
#[derive(Debug, serde::Serialize)]
pub struct LimitsDocument<'a> {
    pub schema: u32,
    pub limits: &'a [LabelLimit],
}

/// A table with a row for each limit.
pub fn table_of(limits: &[LabelLimit]) -> String {
    let mut table = table::empty();
    table.add_row(["LABEL", "LIMIT", "RUNNING", "SOURCE", "JOBS"]);
    for LabelLimit { label, limit, source, running } in limits {
        let named: Vec<String> = running.iter().take(NAMED).map(u64::to_string).collect();
        let more = if running.len() > NAMED { ", ..." } else { "" };
        let jobs = format!("{}{more}", named.join(", "));
        table.add_row([
            label.clone(),
            limit.to_string(),
            running.len().to_string(),
            source.as_str().to_owned(),
            jobs,
        ]);
    }
    table::lines(&table)
}
