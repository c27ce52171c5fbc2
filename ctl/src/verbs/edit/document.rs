//! A job as a TOML document, for an editor; and what has been changed in it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use pool_proto::methods::{Defined, Edit};
use pool_proto::nouns::{Dependency, Job, Limit, Limits, On, OnCrash};
use pool_proto::text::{parse_bytes, parse_duration};
use pool_proto::{Json, OsText};
use serde::Deserialize;
use toml::Value;

use crate::cli::after::Dependencies;
use crate::cli::times::At;

/// What a job is to do, as far as an editor can change it. A member that is left out is one that the job does
/// not have.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Document {
    command: Option<Vec<OsText>>,
    method: Option<String>,
    params: Option<String>,
    name: Option<OsText>,
    pool: Option<String>,
    cwd: Option<OsText>,
    priority: Option<i32>,
    labels: Option<Vec<String>>,
    slots: Option<u32>,
    resources: Option<BTreeMap<String, u32>>,
    timeout: Option<Span>,
    idle_timeout: Option<Span>,
    kill_after: Option<Span>,
    deadline: Option<Span>,
    start_within: Option<Span>,
    at: Option<String>,
    after: Option<Vec<String>>,
    retries: Option<u32>,
    backoff: Option<Span>,
    jitter: Option<f64>,
    retry_on_exit: Option<String>,
    on_crash: Option<OnCrash>,
    mem: Option<Bytes>,
    nice: Option<i32>,
    cpus: Option<String>,
    rlimit: Option<BTreeMap<String, ResourceLimit>>,
    on_done: Option<Vec<OsText>>,
    on_success: Option<Vec<OsText>>,
    on_failure: Option<Vec<OsText>>,
}

/// A duration, as text or as a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "Scalar")]
struct Span(Duration);

/// A number of bytes, as text or as a number.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "Scalar")]
struct Bytes(u64);

/// As an option has it: `64`, `64:128`, `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "Scalar")]
struct ResourceLimit(Limit);

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Whole(u64),
    Part(f64),
    Text(String),
}

impl Scalar {
    fn text(self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Part(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

impl TryFrom<Scalar> for Span {
    type Error = String;

    fn try_from(scalar: Scalar) -> Result<Self, String> {
        parse_duration(&scalar.text()).map(Self)
    }
}

impl TryFrom<Scalar> for Bytes {
    type Error = String;

    fn try_from(scalar: Scalar) -> Result<Self, String> {
        parse_bytes(&scalar.text()).map(Self)
    }
}

impl TryFrom<Scalar> for ResourceLimit {
    type Error = String;

    fn try_from(scalar: Scalar) -> Result<Self, String> {
        scalar.text().parse().map(Self)
    }
}

/// The document of a job, which [`Document::parse`] reads.
pub fn render(id: u64, defined: &Defined) -> String {
    let Defined { job, state, attempts, .. } = defined;
    let mut text = format!(
        "# Job {id}, {}. What you change here is changed in the job. A line that you\n\
         # remove, or put behind a #, is left out from then on. Save and quit to apply\n\
         # it; to leave the job as it is, change nothing. Times count from the edit.\n\
         # Variables: `poolctl edit {id} --env NAME=VALUE`.\n\n",
        state.as_str()
    );
    let mut line = |key: &str, value: Option<Value>, example: &str| {
        _ = match value {
            Some(value) => writeln!(text, "{key} = {value}"),
            None => writeln!(text, "# {key} = {example}"),
        };
    };
    let texts = |texts: &Option<Vec<OsText>>| texts.as_deref().map(|texts| list(texts.iter().map(os_value)));
    let span = |seconds: Option<f64>| seconds.map(span_value);
    let some_text = |text: &Option<String>| text.clone().map(Value::from);

    match &job.method {
        Some(method) => {
            line("method", Some(method.as_str().into()), "");
            let params = job.params.as_ref().map(|params| params.get().into());
            line("params", params, "'[7]'  # JSON: an array, or an object");
        }
        None => line("command", Some(list(job.argv.iter().map(os_value))), ""),
    }
    line("pool", some_text(&job.pool), "\"default\"");
    line("cwd", job.cwd.as_ref().map(os_value), "\"/\"");
    line("name", job.name.as_ref().map(os_value), "\"nightly\"");
    line("priority", job.priority.map(Value::from), "0  # the higher, the sooner");
    let labels = job.labels.as_deref().map(|labels| list(labels.iter().map(|label| label.as_str().into())));
    line("labels", labels, "[\"gpu\"]");
    if job.method.is_none() {
        line("slots", job.slots.map(Value::from), "2");
        let resource = |(name, &amount): (&String, &u32)| (name.clone(), Value::from(amount));
        let resources = job.resources.as_ref().map(|all| Value::Table(all.iter().map(resource).collect()));
        line("resources", resources, "{ gpu = 1 }");
    }
    line("timeout", span(job.timeout_s), "\"30m\"  # of an attempt");
    if job.method.is_none() {
        line("idle-timeout", span(job.idle_timeout_s), "\"10m\"");
    }
    line("kill-after", span(job.kill_after_s), "\"10s\"");
    line("deadline", span(job.deadline_s), "\"2h\"  # for queue and run together");
    if *attempts == 0 {
        line("start-within", span(job.start_within_s), "\"10m\"");
        line("at", some_text(&job.at), "\"tomorrow 09:00\"  # no sooner");
        let after = job.after.as_deref().map(|after| list(after.iter().map(dependency)));
        line("after", after, "[\"afterok:1\", \"afterany:2\"]");
    }
    line("retries", job.retries.map(|retries| i64::from(retries).into()), "0");
    line("backoff", span(job.backoff_s), "\"1s\"");
    line("jitter", job.jitter.map(Value::from), "0.1");
    line("retry-on-exit", some_text(&job.retry_on_exit), "\"75,100-110\"");
    line("on-crash", job.on_crash.map(|policy| policy.as_str().into()), "\"requeue\"");
    if job.method.is_none() {
        let limits = job.set_limits.clone().unwrap_or_default();
        let mem = limits.memory_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX).into());
        line("mem", mem, "\"2G\"");
        line("nice", limits.nice.map(Value::from), "5");
        line("cpus", limits.cpus.map(Value::from), "\"0-3\"");
        let resource = |(name, limit): (String, Limit)| (name, limit_value(limit));
        let resources = limits.resources.map(|all| Value::Table(all.into_iter().map(resource).collect()));
        line("rlimit", resources, "{ nofile = \"64:128\" }");
    }
    line("on-done", texts(&job.on_done), "[\"echo done\"]");
    line("on-success", texts(&job.on_success), "[\"echo done\"]");
    line("on-failure", texts(&job.on_failure), "[\"echo failed\"]");
    text
}

fn list(values: impl Iterator<Item = Value>) -> Value {
    Value::Array(values.collect())
}

fn os_value(text: &OsText) -> Value {
    text.as_escaped().into()
}

fn dependency(after: &Dependency) -> Value {
    let kind = match after.on.unwrap_or(On::Success) {
        On::Success => "afterok",
        On::Failure => "afternotok",
        On::Done => "afterany",
    };
    format!("{kind}:{}", after.id).into()
}

/// In the largest unit that leaves nothing over, as `parse_duration` reads it.
fn span_value(seconds: f64) -> Value {
    let whole = seconds as u64;
    if whole as f64 != seconds {
        return seconds.into();
    }
    let units = [("d", 86_400), ("h", 3_600), ("m", 60)];
    let unit = units.into_iter().find(|&(_, size)| whole > 0 && whole.is_multiple_of(size));
    let (name, size) = unit.unwrap_or(("s", 1));
    format!("{}{name}", whole / size).into()
}

fn limit_value(limit: Limit) -> Value {
    let number = |number: Option<u64>| number.map_or("unlimited".to_owned(), |number| number.to_string());
    format!("{}:{}", number(limit.soft), number(limit.hard)).into()
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// What is wrong with it, with the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            format!("line {line}: {}", error.message().trim_end().replace('\n', "; "))
        })
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What makes this document of that one; none where they say the same.
    ///
    /// # Errors
    /// What is wrong with a value.
    pub fn changes_from(self, before: &Self, id: u64) -> Result<Option<Edit>, String> {
        let (mut set, mut unset) = (Job::default(), Vec::new());
        // A macro, since the members are of many types.
        macro_rules! member {
            ($own:ident, $name:literal, |$value:ident| $assign:expr) => {
                if self.$own != before.$own {
                    match self.$own.clone() {
                        Some($value) => $assign,
                        None => unset.push($name.to_owned()),
                    }
                }
            };
        }
        member!(command, "command", |argv| set.argv = argv);
        member!(method, "method", |method| set.method = Some(method));
        member!(params, "params", |params| {
            let read = Json::parse(&params).map_err(|error| format!("params: no JSON ({error})"))?;
            set.params = Some(read);
        });
        member!(name, "name", |name| set.name = Some(name));
        member!(pool, "pool", |pool| set.pool = Some(pool));
        member!(cwd, "cwd", |cwd| set.cwd = Some(cwd));
        member!(priority, "priority", |priority| set.priority = Some(priority));
        member!(labels, "labels", |labels| set.labels = Some(labels));
        member!(slots, "slots", |slots| set.slots = Some(slots));
        member!(resources, "resources", |resources| set.resources = Some(resources));
        member!(timeout, "timeout_s", |span| set.timeout_s = Some(span.0.as_secs_f64()));
        member!(idle_timeout, "idle_timeout_s", |span| set.idle_timeout_s = Some(span.0.as_secs_f64()));
        member!(kill_after, "kill_after_s", |span| set.kill_after_s = Some(span.0.as_secs_f64()));
        member!(deadline, "deadline_s", |span| set.deadline_s = Some(span.0.as_secs_f64()));
        member!(start_within, "start_within_s", |span| set.start_within_s = Some(span.0.as_secs_f64()));
        member!(at, "at", |at| {
            let at: At = at.parse().map_err(|why| format!("at: {why}"))?;
            set.at = Some(at.as_rfc3339().to_owned());
        });
        member!(after, "after", |after| set.after = Some(dependencies(&after)?));
        member!(retries, "retries", |retries| set.retries = Some(retries));
        member!(backoff, "backoff_s", |span| set.backoff_s = Some(span.0.as_secs_f64()));
        member!(jitter, "jitter", |jitter| set.jitter = Some(jitter));
        member!(retry_on_exit, "retry_on_exit", |codes| set.retry_on_exit = Some(codes));
        member!(on_crash, "on_crash", |policy| set.on_crash = Some(policy));
        member!(on_done, "on_done", |commands| set.on_done = Some(commands));
        member!(on_success, "on_success", |commands| set.on_success = Some(commands));
        member!(on_failure, "on_failure", |commands| set.on_failure = Some(commands));
        if self.limits() != before.limits() {
            set.limits = Some(self.limits());
        }

        let is_changed = set != Job::default() || !unset.is_empty();
        let unset = (!unset.is_empty()).then_some(unset);
        Ok(is_changed.then_some(Edit { id, set: Some(set), set_env: None, unset }))
    }

    fn limits(&self) -> Limits {
        let resources = self.rlimit.iter().flatten().map(|(name, limit)| (name.clone(), limit.0));
        let resources: BTreeMap<String, Limit> = resources.collect();
        Limits {
            nice: self.nice,
            cpus: self.cpus.clone(),
            memory_bytes: self.mem.map(|bytes| bytes.0),
            resources: (!resources.is_empty()).then_some(resources),
        }
    }
}

fn dependencies(named: &[String]) -> Result<Vec<Dependency>, String> {
    let mut all = Vec::new();
    for text in named {
        let after: Dependencies = text.parse().map_err(|why| format!("after: {why}"))?;
        if !after.others().is_empty() {
            return Err("after: name jobs by their ids here".to_owned());
        }
        all.extend(after.each());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use pool_proto::State;

    use super::*;

    fn defined() -> Defined {
        let resources = [("nofile".to_owned(), Limit { soft: Some(64), hard: None })].into();
        let limits =
            Limits { nice: Some(5), memory_bytes: Some(1 << 30), cpus: None, resources: Some(resources) };
        let job = Job {
            argv: vec!["sh".into(), "-c".into(), "echo \"a\n\"".into()],
            pool: Some("default".to_owned()),
            cwd: Some("/tmp".into()),
            name: Some(OsText::from(std::ffi::OsString::from("n\u{e9}"))),
            priority: Some(-3),
            labels: Some(vec!["gpu".to_owned()]),
            timeout_s: Some(5400.0),
            kill_after_s: Some(10.0),
            backoff_s: Some(0.25),
            jitter: Some(0.0),
            retries: Some(2),
            after: Some(vec![Dependency { id: 7, on: Some(On::Done) }]),
            on_crash: Some(OnCrash::Requeue),
            set_limits: Some(limits),
            on_done: Some(vec!["echo".into()]),
            ..Job::default()
        };
        Defined { job, state: State::Queued, attempts: 0, params_pruned: false }
    }

    fn changed(change: impl FnOnce(String) -> String) -> Result<Option<Edit>, String> {
        let text = render(12, &defined());
        let before = Document::parse(&text).expect("it is what we write");
        Document::parse(&change(text))?.changes_from(&before, 12)
    }

    #[test]
    fn what_is_not_changed_is_not_asked_for() {
        assert_eq!(changed(|text| text), Ok(None));
        assert_eq!(changed(|text| text.replace("\"90m\"", "5400")), Ok(None));
        assert!(Document::parse("# nothing\n").unwrap().is_empty());
    }

    #[test]
    fn what_is_changed_is_set_and_what_is_gone_is_unset() {
        let edit = changed(|text| {
            text.replace("priority = -3", "priority = 5")
                .replace("timeout = \"90m\"", "timeout = \"10m\"")
                .replace("name = ", "# name = ")
                .replace("afterany:7", "afterok:3-4")
                .replace("nice = 5", "")
                + "idle-timeout = 90\n"
        });
        let edit = edit.unwrap().unwrap();
        let set = edit.set.unwrap();
        assert_eq!((set.priority, set.timeout_s, set.idle_timeout_s), (Some(5), Some(600.0), Some(90.0)));
        assert_eq!(edit.unset, Some(vec!["name".to_owned()]));
        assert_eq!(set.after.unwrap().iter().map(|after| after.id).collect::<Vec<_>>(), [3, 4]);
        let limits = set.limits.unwrap();
        assert_eq!((limits.nice, limits.memory_bytes), (None, Some(1 << 30)));
        assert!(set.argv.is_empty() && set.pool.is_none());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (wrong, said) in [
            ("timeuot = 5", "unknown field `timeuot`"),
            ("idle-timeout = \"soon\"", "soon"),
            ("idle-timeout =", "line"),
        ] {
            let why = changed(|text| text + wrong).unwrap_err();
            assert!(why.contains(said) && why.contains("line"), "{why}");
        }
        assert!(changed(|text| text.replace("afterany:7", "@gpu")).unwrap_err().contains("ids"));
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for (seconds, text) in [(86_400.0, "\"1d\""), (5400.0, "\"90m\""), (61.0, "\"61s\""), (0.0, "\"0s\"")]
        {
            assert_eq!(span_value(seconds).to_string(), text);
        }
        assert_eq!(span_value(0.25).to_string(), "0.25");
    }
}
