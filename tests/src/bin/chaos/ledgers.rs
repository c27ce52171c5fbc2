//! What jobs and callbacks write down themselves: files with a line for each run.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use pool_proto::nouns::{IfExists, Job, JobDurability};
use pool_proto::{Json, OsText};
use pool_tests::MARK;

use super::kinds::{Kind, Rule, Work};
use super::pools::WARM;

/// See the module's description.
#[derive(Debug)]
pub struct Ledgers {
    started: PathBuf,
    done: PathBuf,
    callbacks: PathBuf,
    /// Runs that were not alone with their unique name, with a label of which one job at a time may run, or
    /// with an item of a resource.
    overlaps: PathBuf,
    program: PathBuf,
}

/// What is in them: how many lines there are for each key.
#[derive(Debug)]
pub struct Written {
    /// By job and attempt; programs do not know which one it is.
    pub started: HashMap<(u64, String), usize>,
    pub done: HashMap<(u64, String), usize>,
    /// By job and kind of end.
    pub callbacks: HashMap<(u64, String), usize>,
    /// The job of each start, in order.
    pub order: Vec<u64>,
    pub overlaps: Vec<String>,
}

impl Ledgers {
    pub fn new(dir: &Path) -> Self {
        let [started, done, callbacks, overlaps, program] =
            ["started", "done", "callbacks", "overlaps", "program.py"].map(|name| dir.join(name));
        Self { started, done, callbacks, overlaps, program }
    }

    pub fn write_program(&self) {
        fs::write(&self.program, include_str!("program.py")).expect("the program can be written");
    }

    /// The command of the program that takes the calls.
    pub fn program(&self) -> Vec<OsText> {
        let paths = [&self.program, &self.started, &self.done, &self.program.with_extension("seen")];
        [OsText::from("python3")].into_iter().chain(paths.map(|path| path.as_path().into())).collect()
    }

    /// A job that writes into them and does as its kind does.
    pub fn job(&self, kind: Kind, mark: &str) -> Job {
        let line = |path: &Path| format!("echo \"$POOL_JOB_ID $POOL_ATTEMPT\" >>{}", path.display());
        let what = match kind.work {
            Work::Script(script) => {
                let script = format!("{}\n{script}\n{}", line(&self.started), line(&self.done));
                Job { argv: vec!["sh".into(), "-c".into(), script.into()], ..Job::default() }
            }
            Work::Call(method) => Job {
                method: Some(method.to_owned()),
                params: Json::parse(&format!("[{}]", kind.number)).ok(),
                pool: Some(WARM.to_owned()),
                ..Job::default()
            },
        };
        let callback = |on: &str| {
            Some(vec![format!("echo \"$POOL_JOB_ID {on}\" >>{}", self.callbacks.display()).into()])
        };
        let env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), (MARK, mark)];
        Job {
            cwd: Some("/".into()),
            env: Some(env.map(|(name, value)| (name.into(), value.into())).into()),
            timeout_s: kind.timeout_s,
            deadline_s: kind.deadline_s,
            kill_after_s: Some(0.05),
            on_crash: Some(kind.on_crash),
            on_done: callback("done"),
            on_success: callback("success"),
            on_failure: callback("failure"),
            start_within_s: kind.start_within_s,
            idle_timeout_s: kind.idle_timeout_s,
            retries: Some(kind.retries),
            backoff_s: Some(0.01),
            jitter: kind.rule.map(|_| 0.5),
            retry_on_exit: kind.rule.and_then(|rule| match rule {
                Rule::Only(codes) => Some(codes.to_owned()),
                Rule::But(_) => None,
            }),
            no_retry_on_exit: kind.rule.and_then(|rule| match rule {
                Rule::But(codes) => Some(codes.to_owned()),
                Rule::Only(_) => None,
            }),
            ..what
        }
    }

    /// The job of a schedule, which sleeps. Where it is to be `alone`, it holds a lock.
    pub fn of_schedule(&self, name: &str, seconds: f64, alone: bool, mark: &str) -> Job {
        let script = format!("sleep {seconds}");
        let env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), (MARK, mark)];
        let mut job = Job {
            argv: vec!["sh".into(), "-c".into(), script.into()],
            env: Some(env.map(|(name, value)| (name.into(), value.into())).into()),
            ..Job::default()
        };
        if alone {
            self.hold_lock(&mut job, name, 9);
        }
        job
    }

    /// Gives it a unique name. A command holds a lock of that name for as long as anything of it lives.
    pub fn give_name(&self, job: &mut Job, name: &str, if_exists: IfExists) {
        job.unique = Some(name.into());
        job.if_exists = Some(if_exists);
        self.hold_lock(job, name, 9);
    }

    /// Gives it a label of which one job at a time may run, in the same way.
    pub fn give_label(&self, job: &mut Job, label: &str) {
        job.exclusive = Some(vec![label.to_owned()]);
        self.hold_lock(job, label, 8);
    }

    /// Gives it a label of which so many jobs at a time may run: each of them holds one of so many locks.
    pub fn give_limited_label(&self, job: &mut Job, label: &str, places: u32) {
        job.labels = Some(vec![label.to_owned()]);
        if let Some(script) = job.argv.get_mut(2) {
            let lock = self.overlaps.with_extension(label);
            let (lock, overlaps) = (lock.display(), self.overlaps.display());
            let text = script.as_escaped();
            *script = format!(
                "n=0
                while ! {{ exec 7>>{lock}.$n; flock -n 7; }}; do
                    n=$((n+1))
                    [ $n -lt {places} ] || {{ echo \"job $POOL_JOB_ID, attempt $POOL_ATTEMPT, as {label}\" >>{overlaps}; break; }}
                done
                {text}"
            )
            .into();
        }
    }

    /// Has it take so many slots, and see that it is told so.
    pub fn give_slots(&self, job: &mut Job, slots: u32) {
        job.slots = Some(slots);
        if let Some(script) = job.argv.get_mut(2) {
            let overlaps = self.overlaps.display();
            let line = format!("echo \"job $POOL_JOB_ID has $POOL_SLOTS slots of {slots}\" >>{overlaps}");
            *script = format!("[ $POOL_SLOTS = {slots} ] || {line}\n{}", script.as_escaped()).into();
        }
    }

    /// Has it take so many items of a resource. It holds a lock for each for as long as anything of it lives.
    pub fn give_items(&self, job: &mut Job, resource: &str, amount: u32) {
        job.resources = Some([(resource.to_owned(), amount)].into());
        if let Some(script) = job.argv.get_mut(2) {
            let lock = self.overlaps.with_extension(resource);
            let (lock, overlaps) = (lock.display(), self.overlaps.display());
            let variable = format!("POOL_RESOURCE_{}", resource.to_uppercase());
            let text = script.as_escaped();
            *script = format!(
                "n=0
                IFS=,
                for item in ${variable}; do
                    n=$((n+1))
                    if [ $n = 1 ]; then exec 6>>{lock}.$item; flock -n 6; else exec 5>>{lock}.$item; flock -n 5; fi ||
                        echo \"job $POOL_JOB_ID, attempt $POOL_ATTEMPT, with {resource} $item\" >>{overlaps}
                done
                unset IFS
                [ $n = {amount} ] || echo \"job $POOL_JOB_ID has ${variable} of {amount}\" >>{overlaps}
                {text}"
            )
            .into();
        }
    }

    fn hold_lock(&self, job: &mut Job, name: &str, descriptor: u32) {
        if let Some(script) = job.argv.get_mut(2) {
            let lock = self.overlaps.with_extension(name);
            let (lock, overlaps) = (lock.display(), self.overlaps.display());
            let line = format!("echo \"job $POOL_JOB_ID, attempt $POOL_ATTEMPT, as {name}\" >>{overlaps}");
            let text = script.as_escaped();
            *script = format!("exec {descriptor}>>{lock}; flock -n {descriptor} || {line}\n{text}").into();
        }
    }

    /// A call that is kept in memory alone.
    pub fn volatile(&self, kind: Kind, mark: &str) -> Job {
        let durability = Some(JobDurability::None);
        Job { durability, on_done: None, on_success: None, on_failure: None, ..self.job(kind, mark) }
    }

    pub fn read(&self) -> Written {
        let [started, done, callbacks] = [&self.started, &self.done, &self.callbacks].map(|path| count(path));
        let lines = |path: &Path| -> Vec<String> {
            fs::read_to_string(path).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
        };
        let job = |line: &String| line.split_once(' ')?.0.parse().ok();
        let order = lines(&self.started).iter().filter_map(job).collect();
        Written { started, done, callbacks, order, overlaps: lines(&self.overlaps) }
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
