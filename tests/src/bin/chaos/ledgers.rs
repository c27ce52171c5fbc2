//! What jobs and callbacks write down themselves: files with a line for each run.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use pool_proto::interface::Job;
use pool_tests::MARK;

use super::kinds::Kind;

/// See the module's description.
#[derive(Debug)]
pub struct Ledgers {
    started: PathBuf,
    done: PathBuf,
    callbacks: PathBuf,
}

/// What is in them: how many lines there are for each key.
#[derive(Debug)]
pub struct Written {
    /// By job and attempt.
    pub started: HashMap<(u64, String), usize>,
    pub done: HashMap<(u64, String), usize>,
    /// By job and kind of end.
    pub callbacks: HashMap<(u64, String), usize>,
}

impl Ledgers {
    pub fn new(dir: &Path) -> Self {
        Self { started: dir.join("started"), done: dir.join("done"), callbacks: dir.join("callbacks") }
    }

    /// A job that writes into them and does as its kind does.
    pub fn job(&self, kind: Kind, mark: &str) -> Job {
        let line = |path: &Path| format!("echo \"$POOL_JOB_ID $POOL_ATTEMPT\" >>{}", path.display());
        let script = format!("{}\n{}\n{}", line(&self.started), kind.script, line(&self.done));
        let callback = |on: &str| Some(vec![format!("echo \"$POOL_JOB_ID {on}\" >>{}", self.callbacks.display())]);
        let env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), (MARK, mark)];
        Job {
            argv: vec!["sh".into(), "-c".into(), script],
            cwd: Some("/".into()),
            env: Some(env.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            timeout_s: kind.timeout_s,
            kill_after_s: Some(0.05),
            on_crash: Some(kind.on_crash),
            on_done: callback("done"),
            on_success: callback("success"),
            on_failure: callback("failure"),
            ..Job::default()
        }
    }

    pub fn read(&self) -> Written {
        Written { started: count(&self.started), done: count(&self.done), callbacks: count(&self.callbacks) }
    }
}

fn count(path: &Path) -> HashMap<(u64, String), usize> {
    let mut counts = HashMap::new();
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        if let Some((id, rest)) = line.split_once(' ')
            && let Ok(id) = id.parse()
        {
            *counts.entry((id, rest.to_owned())).or_default() += 1;
        }
    }
    counts
}
