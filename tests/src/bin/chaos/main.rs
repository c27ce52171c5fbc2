//! A soak: the real daemon under load from many clients while everything that it is made of is killed at
//! random, and jobs and resident programs that do what they should not. At the end every accepted id is
//! reconciled with what jobs, programs and callbacks have written down themselves; any breach of what poold
//! promises is printed and makes the exit code 1.
//!
//! `cargo run --release -p pool-tests --bin chaos -- --minutes 10 --seed 7 --containment pid`

mod kills;
mod kinds;
mod known;
mod ledgers;
mod load;
mod pools;
mod reckoning;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use comfy_table::{Table, presets};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

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
    /// Slots of the pool of commands
    #[arg(long, default_value_t = 4)]
    workers: u32,
    /// What keeps a job's processes together
    #[arg(long, value_enum, default_value_t = Containment::Auto)]
    containment: Containment,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let Options { minutes, seed, clients, workers, containment } = options;
    println!(
        "seed {seed}, {minutes} minutes, {clients} clients, {workers} slots, containment {containment:?}"
    );
    let (mut daemon, ledgers) = pools::start(workers, containment);
    if let Some(why) = containment.is_missing(&daemon) {
        println!("this containment is not to be had here: {why}");
        return ExitCode::from(2);
    }
    let mut random = StdRng::seed_from_u64(seed);
    let stage = Stage {
        socket: daemon.socket(),
        mark: daemon.mark().to_owned(),
        ledgers,
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
        kills::kill_for(
            &mut daemon,
            Duration::from_secs_f64(minutes * 60.0),
            &mut random,
            &stage,
            containment,
        );
        stage.is_over.store(true, Ordering::Relaxed);
    });
    let Stage { ledgers, known, .. } = stage;
    let known: Known = known.into_inner().expect("no client has panicked");
    show(&reckoning::reckon(&daemon, || ledgers.read(), known))
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
