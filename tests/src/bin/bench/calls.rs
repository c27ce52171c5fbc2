//! Calls to a warm pool beside Python's ProcessPoolExecutor. `warm/warm.py` measures both, by turns: so the
//! caller is Python on either side, and the same function is called.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pool_tests::poold;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::figures::{Benchmark, Goal, Subject, compare};
use super::stage::Stage;

const MAP: &str = "ProcessPoolExecutor, map(chunksize=1)";
const SUBMIT: &str = "ProcessPoolExecutor, submit().result()";
const PINNED: &str = "ProcessPoolExecutor, submit().result(), on one core";

/// For each side the values of each round.
type Sides = BTreeMap<String, Vec<Vec<f64>>>;

/// A part of the configuration: a pool of that name whose programs have the functions of `warm/functions.py`.
pub fn pool(name: &str, durability: &str) -> String {
    let program = folder().join("functions.py");
    format!("[pool.{name}]\nworkers = 2\ndurability = {durability:?}\ncommand = [\"python3\", {program:?}]\n")
}

const THROUGHPUT: &[&str] =
    &["calls/s", "CPU us per call: caller", "CPU us: workers", "CPU us: poold's loop", "CPU us: store"];

/// Many calls at once.
pub fn calls(stage: &Stage) -> Benchmark {
    let found: Sides = measure(stage, "throughput");
    let subject = |what: &str| {
        let subject = Subject::new(what, THROUGHPUT);
        match what {
            MAP => subject,
            "SubmitMany, \"crash\"" => subject.beside(MAP).goal(Goal::LeastTimes(5.0)),
            "poolctl map -k, \"crash\"" => subject.beside(MAP).goal(Goal::LeastTimes(4.0)),
            _ => subject.beside(MAP),
        }
    };
    let title = "calls of a warm Python function, 2 workers";
    compare(title, found.into_iter().map(|(what, rounds)| (subject(&what), rounds)).collect())
}

const LATENCY: &[&str] = &["p50 us", "p99 us"];

/// One call after another.
pub fn call(stage: &Stage) -> Benchmark {
    let found: Sides = measure(stage, "latency");
    let subject = |what: &str| {
        let subject = Subject::new(what, LATENCY);
        match what {
            SUBMIT | PINNED => subject,
            "SubmitMany of one, \"none\"" => subject.beside(SUBMIT).goal(Goal::MostTimes(1.0)),
            "SubmitMany of one, \"none\", on one core" => subject.beside(PINNED).goal(Goal::MostTimes(1.0)),
            _ if what.ends_with("on one core") => subject.beside(PINNED),
            _ => subject.beside(SUBMIT),
        }
    };
    let title = "one call of a warm Python function, waited for";
    compare(title, found.into_iter().map(|(what, rounds)| (subject(&what), rounds)).collect())
}

const MEMORY: &[&str] = &["MiB resident, idle", "MiB with calls queued"];

/// The caller's side of many queued calls.
pub fn queued_calls(stage: &Stage) -> Benchmark {
    let found: Sides = measure(stage, "memory");
    let subject = |what: &str| Subject::new(what, MEMORY);
    let title = format!("memory, {} calls queued", if stage.is_quick { 10_000 } else { 100_000 });
    compare(title, found.into_iter().map(|(what, rounds)| (subject(&what), rounds)).collect())
}

/// What becomes of twelve calls in an accident, on each side.
#[derive(Debug, Deserialize, Serialize)]
pub struct Accident {
    pub what: String,
    pub peer: String,
    pub poold: String,
}

pub fn accidents(stage: &Stage) -> Vec<Accident> {
    measure(stage, "accidents")
}

/// Runs a part of `warm/warm.py`.
fn measure<T: DeserializeOwned>(stage: &Stage, part: &str) -> T {
    let binaries = poold().parent().expect("a program is in a folder");
    let mut command = Command::new("python3");
    command.arg(folder().join("warm.py")).arg(part).arg("--binaries").arg(binaries);
    command.args(["--rounds", &stage.rounds.to_string()]);
    command.args(stage.is_quick.then_some("--quick"));
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("Python can be started");
    assert!(output.status.success(), "warm.py {part} fails");
    serde_json::from_slice(&output.stdout).expect("warm.py prints JSON")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/bench/warm")
}
