//! What poold reaches, beside yardsticks: each benchmark runs poold and what it is compared with by turns, in
//! one run on one machine, for several rounds, and tells medians, spreads and ratios. The ratios are what
//! counts.
//!
//! `cargo run --release -p pool-tests --bin bench -- [NAME...] [--json FILE] [--svg DIR] [--quick]`

mod callbacks;
mod calls;
mod commands;
mod fairness;
mod figures;
mod footprint;
mod growth;
mod machine;
mod plot;
mod stage;
mod submits;
mod table;
mod waits;
mod yardsticks;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;
use clap::builder::PossibleValuesParser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use serde::Serialize;

use calls::Accident;
use figures::{Benchmark, Curve};
use machine::Machine;
use stage::Stage;

/// Measures poold beside its yardsticks. Daemons live in TMPDIR: choose a file system worth measuring
#[derive(Debug, Parser)]
struct Options {
    /// Which benchmarks to run [default: all]
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(ALL.map(|one| one.name)))]
    names: Vec<String>,
    /// Print the names and what they measure
    #[arg(long)]
    list: bool,
    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the curves into this folder
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// How often each side is run [default: 5, with --quick 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Little of everything, in about two minutes: does it work?
    #[arg(long)]
    quick: bool,
}

/// Something to measure.
struct Measurement {
    name: &'static str,
    about: &'static str,
    /// Without Python there is no other side, or no program to call.
    needs_python: bool,
    run: fn(&Stage) -> Found,
}

/// What was found.
#[derive(Default)]
struct Found {
    benchmark: Option<Benchmark>,
    curves: Vec<Curve>,
    accidents: Vec<Accident>,
}

impl From<Benchmark> for Found {
    fn from(benchmark: Benchmark) -> Self {
        Self { benchmark: Some(benchmark), ..Self::default() }
    }
}

const ALL: [Measurement; 18] = [
    measurement("throughput", "many commands that do nothing, beside xargs and others", |stage| {
        commands::throughput(stage).into()
    }),
    measurement("latency", "one such command, waited for, beside tsp and a bare spawn", |stage| {
        commands::latency(stage).into()
    }),
    measurement("cpu", "the CPU time of a job, by process", |stage| commands::cpu(stage).into()),
    measurement("submits", "submits that nobody waits for, beside a sync", |stage| {
        submits::submits(stage).into()
    }),
    measurement("clients", "curves: 1 to 1,000 clients at once", |stage| Found {
        curves: submits::clients(stage),
        ..Found::default()
    }),
    measurement("waiters", "5,000 clients that block at once", |stage| submits::waiters(stage).into()),
    measurement(
        "growth",
        "curves: submit, dispatch, ls, start and memory with up to 1,000,000 queued",
        |stage| {
            let (benchmark, curves) = growth::growth(stage);
            Found { benchmark: Some(benchmark), curves, ..Found::default() }
        },
    ),
    measurement(
        "waits",
        "curves: submit, dispatch, why and memory with up to 1,000,000 in lines, scheduled or blocked",
        |stage| {
            let (benchmark, curves) = waits::waits(stage);
            Found { benchmark: Some(benchmark), curves, ..Found::default() }
        },
    ),
    measurement("chain", "a chain of 100,000 jobs, each after the one before", |stage| {
        waits::chain(stage).into()
    }),
    measurement("fairness", "a blocking submit while 100,000 asynchronous jobs run", |stage| {
        fairness::fairness(stage).into()
    }),
    measurement("large", "a blocking submit beside calls of 15 MiB", |stage| fairness::large(stage).into())
        .in_python(),
    measurement("callbacks", "callbacks a second", |stage| callbacks::callbacks(stage).into()),
    measurement("memory", "the memory of each process", |stage| footprint::memory_of_each(stage).into()),
    measurement("idle", "wake-ups of an idle daemon in 60 s", |stage| footprint::idle(stage).into()),
    measurement("calls", "many calls of a warm function, beside ProcessPoolExecutor", |stage| {
        calls::calls(stage).into()
    })
    .in_python(),
    measurement("call", "one such call, waited for, likewise", |stage| calls::call(stage).into()).in_python(),
    measurement("queued-calls", "memory with 100,000 calls queued, likewise", |stage| {
        calls::queued_calls(stage).into()
    })
    .in_python(),
    measurement("accidents", "what becomes of calls when something dies, likewise", |stage| Found {
        accidents: calls::accidents(stage),
        ..Found::default()
    })
    .in_python(),
];

const fn measurement(name: &'static str, about: &'static str, run: fn(&Stage) -> Found) -> Measurement {
    Measurement { name, about, needs_python: false, run }
}

impl Measurement {
    const fn in_python(self) -> Self {
        Self { needs_python: true, ..self }
    }
}

/// What goes into the file.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    rounds: usize,
    is_quick: bool,
    missing: Vec<&'static str>,
    benchmarks: Vec<Benchmark>,
    curves: Vec<Curve>,
    accidents: Vec<Accident>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.list {
        ALL.iter().for_each(|one| println!("{:14}{}", one.name, one.about));
        return Ok(());
    }
    raise_open_files();
    let rounds = options.rounds.map_or(if options.quick { 2 } else { 5 }, usize::from);
    let stage = Stage::new(rounds, options.quick);
    let mut report = Report {
        machine: Machine::here(),
        rounds,
        is_quick: options.quick,
        missing: stage.missing(),
        benchmarks: Vec::new(),
        curves: Vec::new(),
        accidents: Vec::new(),
    };
    println!("{}; {rounds} rounds", report.machine);
    if options.quick || cfg!(debug_assertions) {
        println!("figures of --quick or of an unoptimized build are not worth keeping");
    }
    report
        .missing
        .iter()
        .for_each(|name| println!("{name} is not here: what is measured beside it is left out"));

    let is_chosen =
        |one: &&Measurement| options.names.is_empty() || options.names.iter().any(|name| name == one.name);
    for one in ALL.iter().filter(is_chosen) {
        if one.needs_python && !stage.has_python {
            println!("\n{}: skipped, since python3 is not here", one.name);
            continue;
        }
        let found = (one.run)(&stage);
        show(&found);
        report.curves.extend(found.curves);
        report.benchmarks.extend(found.benchmark);
        report.accidents.extend(found.accidents);
        // After each one, so that a long run that is cut off has not been in vain.
        write(&report, options.json.as_deref(), options.svg.as_deref())?;
    }
    Ok(())
}

fn show(found: &Found) {
    found.benchmark.iter().for_each(|benchmark| println!("\n{}", table::of_benchmark(benchmark)));
    found.curves.iter().for_each(|curve| println!("\n{}\n{}", curve.title, table::of_curve(curve)));
    for Accident { what, peer, poold } in &found.accidents {
        println!("\n{what}\n    ProcessPoolExecutor: {peer}\n    poold: {poold}");
    }
}

fn write(report: &Report, json: Option<&Path>, svg: Option<&Path>) -> anyhow::Result<()> {
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(report)?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(folder) = svg {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for curve in &report.curves {
            plot::draw(curve, &folder.join(format!("{}.svg", curve.name)))?;
        }
    }
    Ok(())
}

/// As far as it goes: thousands of clients are this one process.
fn raise_open_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
