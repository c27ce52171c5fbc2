//! A soak: the real daemon under load from many clients while everything that it is made of is killed at
//! random, its disk is full now and then, its clock is set, and jobs and resident programs do what they
//! should not. At the end every accepted id is reconciled with what jobs, programs and callbacks have written
//! down themselves; any breach of what poold promises is printed and makes the exit code 1.
//!
//! `cargo run --release -p pool-tests --bin chaos -- --minutes 10 --seed 7 --containment pid`

mod after;
mod arrays;
mod clock;
mod disk;
mod kills;
mod kinds;
mod known;
mod ledgers;
mod load;
mod operator;
mod pools;
mod reckoning;
mod sequels;

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use comfy_table::{Table, presets};
use pool_tests::{Daemon, Setup};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use clock::Clock;
use disk::Disk;
use known::Known;
use load::{Attendant, Stage};
use pools::Containment;
use reckoning::Reckoning;

/// Kills poold, its parts, jobs, programs and clients at random, under load, and reconciles what is left
#[derive(Debug, Parser)]
struct Options {
    /// How long to kill
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Where chance begins; printed, so that a run can be repeated as far as time allows
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Clients that submit at the same time
    #[arg(long, default_value_t = 6)]
    clients: u64,
    /// Slots of the pool of commands: some jobs take two
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..))]
    workers: u32,
    /// What keeps a job's processes together
    #[arg(long, value_enum, default_value_t = Containment::Auto)]
    containment: Containment,
    /// Let the disk never be full
    #[arg(long)]
    no_full_disk: bool,
    /// Do not set the clock
    #[arg(long)]
    no_clock_jumps: bool,
    /// Have poold log all that it does
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let Options { minutes, seed, clients, workers, containment, no_full_disk, no_clock_jumps, verbose } =
        options;
    let setup = Setup::new().workers(workers);
    let setup = if verbose { setup } else { setup.quiet() };
    let disk = obstacle(no_full_disk, || Disk::mount(&setup.dir().join("state")));
    let clock = obstacle(no_clock_jumps, || Clock::new(setup.dir()));
    println!(
        "seed {seed}, {minutes} minutes, {clients} clients, {workers} slots, containment {containment:?}, \
         full disks: {}, clock jumps: {}",
        is_there(&disk),
        is_there(&clock)
    );
    let (mut daemon, ledgers) = pools::start(setup, containment, clock.as_ref().ok());
    if let Some(why) = containment.is_missing(&daemon) {
        println!("this containment is not to be had here: {why}");
        return ExitCode::from(2);
    }
    let mut random = StdRng::seed_from_u64(seed);
    let stage = Stage {
        socket: daemon.socket(),
        mark: daemon.mark().to_owned(),
        ledgers,
        // The disk goes before the daemon, whose folder it is in.
        disk: disk.ok(),
        clock: clock.ok(),
        known: Mutex::default(),
        is_over: AtomicBool::new(false),
        clients: AtomicUsize::new(usize::try_from(clients).expect("so many threads fit")),
    };
    thread::scope(|scope| {
        for number in 0..clients {
            let attendant = Attendant::new(&stage, number, StdRng::seed_from_u64(random.random()));
            scope.spawn(|| attendant.attend());
        }
        scope.spawn(|| load::release(&stage));
        let operator = StdRng::seed_from_u64(random.random());
        scope.spawn(|| operator::operate(&stage, operator));
        kills::kill_for(
            &mut daemon,
            Duration::from_secs_f64(minutes * 60.0),
            &mut random,
            &stage,
            containment,
        );
        stage.is_over.store(true, Ordering::Relaxed);
    });
    let Stage { ledgers, known, clock, .. } = stage;
    let known: Known = known.into_inner().expect("no client has panicked");
    let reckoning = reckoning::reckon(&daemon, || ledgers.read(), clock.is_none(), known);
    if !reckoning.breaches.is_empty() {
        keep_evidence(&daemon);
    }
    show(&reckoning)
}

/// What the daemon had, but for output, outlives it.
fn keep_evidence(daemon: &Daemon) {
    let folder = daemon.dir().with_extension("evidence");
    let script = "mkdir \"$2\" && cd \"$1\" && tar -c --exclude=./state/output --exclude='program.seen*' . | \
                  tar -x -C \"$2\"";
    let kept = Command::new("sh").args(["-c", script, "sh"]).args([daemon.dir(), folder.as_path()]).output();
    println!("what there is to be looked at: {} ({kept:?})", folder.display());
}

fn obstacle<T>(is_unwanted: bool, make: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    if is_unwanted { Err("not wanted".to_owned()) } else { make() }
}

fn is_there<T>(obstacle: &Result<T, String>) -> String {
    obstacle.as_ref().map_or_else(|why| format!("NONE ({why})"), |_| "yes".to_owned())
}

fn show(reckoning: &Reckoning) -> ExitCode {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, count) in &reckoning.figures {
        table.add_row([name.as_str(), &count.to_string()]);
    }
    println!("{table}");
    reckoning.breaches.iter().take(50).for_each(|breach| println!("BREACH: {breach}"));
    if reckoning.breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
