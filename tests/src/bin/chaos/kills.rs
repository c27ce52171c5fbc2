//! Who is killed, and what has to be true when poold is started again.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use pool_tests::{Daemon, alive, children, send, wait_until};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::disk::Disk;
use super::load::Stage;
use super::pools::{self, Containment, MOST_PROGRAMS, WARM};

/// How long the one who is left may take to kill everything.
const PATIENCE: Duration = Duration::from_secs(2);

/// Kills of these need no part of poold to die.
pub const OF_OTHERS: [&str; 10] = [
    "worker",
    "job",
    "program",
    "every program",
    "worker and program",
    "program, stopped",
    "worker, stopped",
    "nobody: another configuration",
    "client",
    "several clients",
];

/// Kills somebody every now and then.
pub fn kill_for(
    daemon: &mut Daemon,
    time: Duration,
    random: &mut StdRng,
    stage: &Stage,
    containment: Containment,
) {
    let end = Instant::now() + time;
    let mut clients: Vec<Child> = Vec::new();
    let mut stopped: Vec<i32> = Vec::new();
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(random.random_range(50..500)));
        go_on(daemon, &mut stopped);
        disturb(random, stage);
        if stage.disk.as_ref().is_some_and(Disk::is_calm) {
            continue;
        }
        clients.push(waiting_client(daemon, random));
        let name = match random.random_range(0..20) {
            0 => {
                let (programs, version) = (random.random_range(1..=MOST_PROGRAMS), random.random_range(0..3));
                pools::reconfigure(daemon, containment, &stage.ledgers, programs, version);
                "nobody: another configuration"
            }
            // It takes a while, and somebody else may be killed before it is over.
            1 => {
                daemon.signal(Signal::SIGTERM);
                "nobody: told to end"
            }
            _ => kill_somebody(daemon, random, &mut clients, &mut stopped),
        };
        *stage.known().kills.entry(name).or_default() += 1;
        if !OF_OTHERS.contains(&name) && stage.disk.as_ref().is_some_and(Disk::is_or_was_full) {
            stage.known().die_unwritten();
        }
        clients.retain_mut(|client| matches!(client.try_wait(), Ok(None)));
        // Whoever notices a death needs a moment for it.
        thread::sleep(Duration::from_millis(5));
        if !daemon.is_running() {
            restart(daemon, stage, containment);
        }
    }
    go_on(daemon, &mut stopped);
    clients.iter_mut().for_each(end_client);
    if stage.disk.as_ref().is_some_and(Disk::is_or_was_full) {
        stage.known().die_unwritten();
    }
    stage.disk.iter().for_each(Disk::give_back);
    // Whoever was killed last may not have ended yet, and a daemon that was told to end may do so at any
    // time: the reckoning is with one that stays.
    if daemon.is_running() {
        send(daemon.guardian(), Signal::SIGKILL);
    }
    restart(daemon, stage, containment);
}

/// Fills the disk, gives it back, sets the clock, now and then.
fn disturb(random: &mut StdRng, stage: &Stage) {
    if let Some(disk) = &stage.disk {
        disk.give_back_in_time();
        if random.random_bool(0.02) && disk.fill(random) {
            stage.known().count("full disks", 1);
        }
    }
    if let Some(clock) = &stage.clock
        && random.random_bool(0.04)
    {
        clock.jump(random);
        stage.known().count("clock jumps", 1);
    }
}

/// Nobody else has got the number of one that has ended meanwhile.
fn go_on(daemon: &Daemon, stopped: &mut Vec<i32>) {
    let ours = daemon.processes();
    stopped.drain(..).filter(|pid| ours.contains(pid)).for_each(|pid| send(pid, Signal::SIGCONT));
}

fn waiting_client(daemon: &Daemon, random: &mut StdRng) -> Child {
    let on_disconnect = if random.random_bool(0.5) { "cancel" } else { "detach" };
    let mut client = daemon.ctl(&[
        "--no-start",
        "submit",
        "--wait",
        "--on-disconnect",
        on_disconnect,
        "--",
        "sleep",
        "0.2",
    ]);
    client
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("poolctl can be started")
}

fn end_client(client: &mut Child) {
    // It may have ended by itself.
    let _ = client.kill();
    let _ = client.wait();
}

fn kill_somebody(
    daemon: &Daemon,
    random: &mut StdRng,
    clients: &mut Vec<Child>,
    stopped: &mut Vec<i32>,
) -> &'static str {
    let guardian = daemon.guardian();
    let supervisor = children(guardian).first().copied();
    let workers = supervisor.map(children).unwrap_or_default();
    let worker = workers.choose(random).copied();
    let job = worker.and_then(|worker| children(worker).choose(random).copied());
    let programs: Vec<i32> =
        workers.iter().filter(|&&worker| keeps_program(worker)).copied().flat_map(children).collect();
    let program = programs.choose(random).copied();
    let of = |victims: &[Option<i32>]| victims.iter().flatten().copied().collect::<Vec<i32>>();
    let everybody = || [of(&[Some(guardian), supervisor]), workers.clone()].concat();
    let (name, victims) = match random.random_range(0..32) {
        0..6 => ("worker", of(&[worker])),
        6..9 => ("job", of(&[job])),
        9..11 => ("supervisor", of(&[supervisor])),
        11 => ("supervisor and worker", of(&[supervisor, worker])),
        12 => ("worker and job", of(&[worker, job])),
        13 => ("every worker", workers.clone()),
        14 => ("guardian", vec![guardian]),
        15 => ("guardian and supervisor", of(&[Some(guardian), supervisor])),
        16 => ("guardian and worker", of(&[Some(guardian), worker])),
        17 => ("supervisor and every worker", [of(&[supervisor]), workers.clone()].concat()),
        18..20 => {
            // In one instant: nobody sees another die.
            everybody().into_iter().for_each(|pid| send(pid, Signal::SIGSTOP));
            ("everybody", everybody())
        }
        20..23 => ("program", of(&[program])),
        23 => ("every program", programs),
        24 => ("worker and program", of(&[program.and_then(parent), program])),
        25 => ("supervisor and program", of(&[supervisor, program])),
        26..28 => {
            let victim = if random.random_bool(0.7) {
                ("program, stopped", program)
            } else {
                ("worker, stopped", worker)
            };
            victim.1.into_iter().for_each(|pid| send(pid, Signal::SIGSTOP));
            stopped.extend(victim.1);
            return victim.0;
        }
        28 => {
            clients.drain(..).for_each(|mut client| end_client(&mut client));
            return "several clients";
        }
        _ => {
            let index = random.random_range(0..clients.len());
            end_client(&mut clients.swap_remove(index));
            return "client";
        }
    };
    victims.into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
    name
}

/// Whether it is a worker of the warm pool.
fn keeps_program(worker: i32) -> bool {
    fs::read_to_string(format!("/proc/{worker}/cmdline"))
        .is_ok_and(|command| command.contains(&format!("\0{WARM}/")))
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The daemon's main process has ended. What is left of it when nobody was left to kill it goes with the next
/// start.
fn restart(daemon: &mut Daemon, stage: &Stage, containment: Containment) {
    daemon.wait();
    let locks = [daemon.state_dir(), daemon.path("socket.lock")];
    wait_until("the end of all that is poold's own", || locks.iter().all(|lock| is_free(lock)));
    let patience = Instant::now() + if containment == Containment::Pid { PATIENCE } else { Duration::ZERO };
    while !daemon.owned_processes().is_empty() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(5));
    }
    let left = daemon.owned_processes();
    if containment == Containment::Pid && !left.is_empty() {
        stage
            .known()
            .breaches
            .push(format!("the kernel has not ended what was in a pid namespace: {}", describe(&left)));
    }
    stage.known().count("processes left for the next start", left.len() as u64);
    // A start has files to make.
    stage.disk.iter().for_each(Disk::give_back);
    daemon.restart();
    // A worker ends by itself, once it notices that its supervisor has gone; what it ran may not be there any
    // more.
    let (workers, others): (Vec<i32>, Vec<i32>) = left.into_iter().partition(|&pid| is_worker(pid));
    let mut survivors: Vec<i32> = others.into_iter().filter(|&pid| alive(pid) && !is_dying(pid)).collect();
    let patience = Instant::now() + PATIENCE;
    while workers.iter().any(|&pid| alive(pid)) && Instant::now() < patience {
        thread::sleep(Duration::from_millis(5));
    }
    survivors.extend(workers.into_iter().filter(|&pid| alive(pid)));
    if !survivors.is_empty() {
        stage.known().breaches.push(format!("orphans of a dead daemon: {}", describe(&survivors)));
    }
}

fn is_worker(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|command| command.starts_with("poold\0worker\0"))
}

/// Whether no process of poold's is left that could hold the lock, not even one that is about to end.
fn is_free(lock: &Path) -> bool {
    File::open(lock).is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_ok())
}

/// Whether it has been killed, has no memory any more, and is only not yet a zombie.
fn is_dying(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|command| command.is_empty())
}

/// What they are, for whoever has to find out why they are there.
pub fn describe(pids: &[i32]) -> String {
    let read = |pid: i32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let one = |&pid: &i32| {
        let stat = read(pid, "stat");
        let state: String = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).chars().take(8).collect();
        let command = read(pid, "cmdline").replace(['\0', '\n'], " ");
        format!("\n  {pid} ({state}, in {}) {command:.80}", read(pid, "wchan"))
    };
    pids.iter().map(one).collect()
}
