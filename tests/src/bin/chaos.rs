//! A soak: the real daemon under load from many clients while everything that it is made of is killed at random, and jobs that do what
//! they should not. At the end every accepted id is reconciled with what jobs and callbacks have written down themselves; any breach of
//! what poold promises is printed and makes the exit code 1.
//!
//! `cargo run --release -p pool-tests --bin chaos -- --minutes 10 --seed 7`

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use comfy_table::{Table, presets};
use nix::sys::signal::Signal;
use pool_proto::interface::{Get, Job, ProgressEvent, SubmitMany, Wait};
use pool_proto::{Client, Record, State};
use pool_tests::{Daemon, MARK, Setup, alive, send};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Kills poold, its parts, jobs and clients at random, under load, and reconciles what is left
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
    /// Slots of the pool
    #[arg(long, default_value_t = 4)]
    workers: u32,
}

/// What a job does, and how it has to end.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    script: &'static str,
    timeout_s: Option<f64>,
    state: State,
}

const KINDS: [Kind; 10] = [
    Kind { name: "succeeds", script: "", timeout_s: None, state: State::Succeeded },
    Kind { name: "fails", script: "exit 3", timeout_s: None, state: State::Failed },
    Kind { name: "sleeps", script: "sleep 0.05", timeout_s: None, state: State::Succeeded },
    Kind {
        name: "double-forks",
        script: "(setsid sh -c 'trap \"\" TERM INT HUP; sleep 600' >/dev/null 2>&1 &); sleep 0.03",
        timeout_s: None,
        state: State::Succeeded,
    },
    Kind {
        name: "writes much",
        script: "head -c 1000000 /dev/zero; head -c 300000 /dev/zero >&2",
        timeout_s: None,
        state: State::Succeeded,
    },
    Kind { name: "closes its stdio", script: "exec >&- 2>&- <&-; sleep 0.03", timeout_s: None, state: State::Succeeded },
    Kind {
        name: "ignores TERM",
        script: "trap '' TERM; (trap '' TERM; sleep 600) & sleep 600",
        timeout_s: Some(0.1),
        state: State::TimedOut,
    },
    Kind {
        name: "forks a swarm",
        script: "i=0; while [ $i -lt 30 ]; do (setsid sleep 600 >/dev/null 2>&1 &); i=$((i+1)); done",
        timeout_s: None,
        state: State::Succeeded,
    },
    Kind { name: "kills itself", script: "kill -9 $$", timeout_s: None, state: State::Failed },
    Kind {
        name: "stops itself",
        script: "(sleep 0.05; kill -CONT $$) & kill -STOP $$; wait",
        timeout_s: None,
        state: State::Succeeded,
    },
];

/// What clients know, written by themselves.
#[derive(Debug, Default)]
struct Known {
    /// Accepted: what the job does, and whether it has a callback.
    accepted: BTreeMap<u64, (usize, bool)>,
    /// Told to some waiter.
    ended: HashMap<u64, State>,
    left_for_the_next_start: usize,
    breaches: Vec<String>,
}

/// The files that jobs and callbacks write into, a line each.
#[derive(Debug)]
struct Ledgers {
    started: PathBuf,
    done: PathBuf,
    callbacks: PathBuf,
}

impl Ledgers {
    fn new(dir: &Path) -> Self {
        Self { started: dir.join("started"), done: dir.join("done"), callbacks: dir.join("callbacks") }
    }

    fn job(&self, kind: Kind, with_callback: bool, mark: &str) -> Job {
        let line = |path: &Path| format!("echo \"$POOL_JOB_ID $POOL_ATTEMPT\" >>{}", path.display());
        let script = format!("{}\n{}\n{}", line(&self.started), kind.script, line(&self.done));
        let callback = format!("echo \"$POOL_JOB_ID $POOL_CALLBACK_ID\" >>{}", self.callbacks.display());
        let env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), (MARK, mark)];
        Job {
            argv: vec!["sh".into(), "-c".into(), script],
            cwd: Some("/".into()),
            env: Some(env.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            timeout_s: kind.timeout_s,
            kill_after_s: Some(0.05),
            on_done: with_callback.then(|| vec![callback]),
            ..Job::default()
        }
    }

    /// How many lines each id has.
    fn count(path: &Path) -> HashMap<u64, usize> {
        let mut counts = HashMap::new();
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            if let Some(id) = line.split(' ').next().and_then(|word| word.parse().ok()) {
                *counts.entry(id).or_default() += 1;
            }
        }
        counts
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    println!("seed {}, {} minutes, {} clients, {} slots", options.seed, options.minutes, options.clients, options.workers);
    let mut daemon =
        Setup::new().workers(options.workers).config("crash_limit = 1000000\n[callbacks]\nbackoff = \"10ms\"\n").quiet().start();
    let ledgers = Ledgers::new(daemon.dir());
    let known = Mutex::new(Known::default());
    let over = AtomicBool::new(false);
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut kills = BTreeMap::new();
    thread::scope(|scope| {
        for _ in 0..options.clients {
            let (known, over, ledgers) = (&known, &over, &ledgers);
            let (socket, mark, seed) = (daemon.socket(), daemon.mark().to_owned(), random.random());
            scope.spawn(move || attend(&socket, &mark, ledgers, known, over, StdRng::seed_from_u64(seed)));
        }
        kill_for(&mut daemon, Duration::from_secs_f64(options.minutes * 60.0), &mut random, &mut kills, &known);
        over.store(true, Ordering::Relaxed);
    });
    let known = known.into_inner().expect("no client has panicked");
    reconcile(&mut daemon, &ledgers, known, &kills)
}

// ---- clients ----

/// Submits jobs and waits for them, again and again, until it is over.
fn attend(socket: &Path, mark: &str, ledgers: &Ledgers, known: &Mutex<Known>, over: &AtomicBool, mut random: StdRng) {
    while !over.load(Ordering::Relaxed) {
        let kinds: Vec<usize> = (0..random.random_range(1..20)).map(|_| random.random_range(0..KINDS.len())).collect();
        let with_callback = random.random_bool(0.5);
        let jobs = kinds.iter().map(|&kind| ledgers.job(KINDS[kind], with_callback, mark)).collect();
        let Some(mut client) = connect(socket, over) else { return };
        // Whether a call that was cut off was carried out is not known; such jobs run, but nobody was promised anything.
        let Ok(submitted) = client.call(&SubmitMany { jobs, defaults: None }) else { continue };
        let accepted = submitted.ids.iter().copied().zip(kinds.iter().map(|&kind| (kind, with_callback)));
        known.lock().expect("nobody panics").accepted.extend(accepted);
        wait_for_all(socket, client, submitted.ids, known);
    }
}

fn connect(socket: &Path, over: &AtomicBool) -> Option<Client> {
    while !over.load(Ordering::Relaxed) {
        match Client::connect(socket) {
            Ok(client) => return Some(client),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
    None
}

/// Waits for the ends of jobs, over restarts, and writes down what it is told.
fn wait_for_all(socket: &Path, mut client: Client, mut left: Vec<u64>, known: &Mutex<Known>) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !left.is_empty() {
        if Instant::now() > deadline {
            return known.lock().expect("nobody panics").breaches.push(format!("jobs {left:?} do not end"));
        }
        let sent = client.send(&Wait { ids: left.clone(), any: None, output: None, on_disconnect: None }, true);
        while sent.is_ok()
            && let Ok((progress, more)) = client.receive::<Wait>()
        {
            if progress.event == ProgressEvent::Ended
                && let Some(record) = progress.record
            {
                left.retain(|&id| id != record.id);
                let mut known = known.lock().expect("nobody panics");
                let before = known.ended.insert(record.id, record.state);
                if before.is_some_and(|state| state != record.state) {
                    known.breaches.push(format!("job {} was told to be {before:?}, then {:?}", record.id, record.state));
                }
            }
            if !more {
                break;
            }
        }
        if !left.is_empty() {
            thread::sleep(Duration::from_millis(10));
            if let Ok(again) = Client::connect(socket) {
                client = again;
            }
        }
    }
}

// ---- kills ----

fn kill_for(
    daemon: &mut Daemon,
    time: Duration,
    random: &mut StdRng,
    kills: &mut BTreeMap<&'static str, u64>,
    known: &Mutex<Known>,
) {
    let end = Instant::now() + time;
    let mut clients: Vec<Child> = Vec::new();
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(random.random_range(50..500)));
        clients.push(waiting_client(daemon));
        let (name, victims) = choose(daemon, random, &mut clients);
        victims.iter().for_each(|&pid| send(pid, Signal::SIGKILL));
        *kills.entry(name).or_default() += 1;
        for client in &mut clients {
            let _ = client.try_wait();
        }
        thread::sleep(Duration::from_millis(5));
        if !daemon.is_running() {
            restart(daemon, known);
        }
    }
    for client in &mut clients {
        let _ = client.kill();
        let _ = client.wait();
    }
    if !daemon.is_running() {
        restart(daemon, known);
    }
}

/// The daemon's main process has ended. What is left of it when nobody was left to kill it goes with the next start.
fn restart(daemon: &mut Daemon, known: &Mutex<Known>) {
    daemon.wait();
    let patience = Instant::now() + Duration::from_secs(2);
    while !daemon.owned_processes().is_empty() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(5));
    }
    let left = daemon.owned_processes();
    let mut known = known.lock().expect("nobody panics");
    known.left_for_the_next_start += left.len();
    daemon.restart();
    let survivors: Vec<i32> = left.into_iter().filter(|&pid| alive(pid)).collect();
    if !survivors.is_empty() {
        known.breaches.push(format!("orphans of a dead daemon: {}", describe(&survivors)));
    }
}

/// What they are, for whoever has to find out why they are there.
fn describe(pids: &[i32]) -> String {
    let read = |pid: i32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let one = |&pid: &i32| {
        let stat = read(pid, "stat");
        let state: String = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).chars().take(8).collect();
        let command = read(pid, "cmdline").replace(['\0', '\n'], " ");
        format!("\n  {pid} ({state}, in {}) {command:.80}", read(pid, "wchan"))
    };
    pids.iter().map(one).collect()
}

fn waiting_client(daemon: &Daemon) -> Child {
    let mut client = daemon.ctl(&["--no-start", "submit", "--wait", "--", "sleep", "0.2"]);
    client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("poolctl can be started")
}

fn choose(daemon: &Daemon, random: &mut StdRng, clients: &mut Vec<Child>) -> (&'static str, Vec<i32>) {
    let guardian = daemon.guardian();
    let supervisor = pool_tests::children(guardian).first().copied();
    let workers = supervisor.map(pool_tests::children).unwrap_or_default();
    let worker = workers.choose(random).copied();
    let job = worker.and_then(|worker| pool_tests::children(worker).choose(random).copied());
    let of = |victims: &[Option<i32>]| victims.iter().flatten().copied().collect::<Vec<i32>>();
    match random.random_range(0..20) {
        0..6 => ("worker", of(&[worker])),
        6..9 => ("job", of(&[job])),
        9..11 => ("supervisor", of(&[supervisor])),
        11 => ("supervisor and worker", of(&[supervisor, worker])),
        12 => ("worker and job", of(&[worker, job])),
        13 => ("every worker", workers),
        14 => ("guardian", vec![guardian]),
        15 => ("guardian and supervisor", of(&[Some(guardian), supervisor])),
        16 => ("guardian and worker", of(&[Some(guardian), worker])),
        _ => {
            let index = random.random_range(0..clients.len());
            let mut client = clients.swap_remove(index);
            let _ = client.kill();
            let _ = client.wait();
            ("client", Vec::new())
        }
    }
}

// ---- the reckoning ----

fn reconcile(daemon: &mut Daemon, ledgers: &Ledgers, known: Known, kills: &BTreeMap<&'static str, u64>) -> ExitCode {
    let mut breaches = known.breaches;
    let records = settled_records(daemon, &known.accepted, &mut breaches);
    let (started, done, callbacks) =
        (Ledgers::count(&ledgers.started), Ledgers::count(&ledgers.done), Ledgers::count(&ledgers.callbacks));
    let (mut attempted_again, mut uncounted, mut missing, mut repeated) = (0, 0, 0, 0);
    for (&id, &(kind, with_callback)) in &known.accepted {
        let Some(record) = records.get(&id) else { continue };
        let kind = KINDS[kind];
        let runs = started.get(&id).copied().unwrap_or(0);
        // A job that is killed by us may end so.
        let was_killed = record.state == State::Failed && record.signal == Some(9);
        if record.state != kind.state && !was_killed {
            breaches.push(format!("job {id} {} and is {:?}: {:?}", kind.name, record.state, record.reason));
        }
        if known.ended.get(&id) != Some(&record.state) {
            breaches.push(format!("job {id} is {:?}, its waiter was told {:?}", record.state, known.ended.get(&id)));
        }
        if record.state == State::Succeeded && !done.contains_key(&id) {
            breaches.push(format!("job {id} has succeeded and never ran to its end"));
        }
        attempted_again += usize::from(record.attempt > 1);
        uncounted += runs.saturating_sub(record.attempt as usize);
        let told = callbacks.get(&id).copied().unwrap_or(0);
        missing += usize::from(with_callback && told == 0);
        repeated += told.saturating_sub(1);
    }
    // A start may go unrecorded only while the daemon is being killed, and then once for each slot.
    let daemon_kills: u64 =
        kills.iter().filter(|(name, _)| !["worker", "job", "client"].contains(name)).map(|(_, count)| count).sum();
    let slots = daemon.client().call(&pool_proto::interface::Pools {}).map_or(0, |reply| reply.pools[0].workers);
    if uncounted as u64 > daemon_kills * u64::from(slots) {
        breaches.push(format!("{uncounted} runs were not counted as attempts, with {daemon_kills} kills of the daemon"));
    }
    if missing > 0 {
        breaches.push(format!("{missing} callbacks have not run"));
    }
    let orphans = orphans(daemon);
    if !orphans.is_empty() {
        breaches.push(format!("orphans: {}", describe(&orphans)));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, count) in kills {
        table.add_row([format!("killed: {name}"), count.to_string()]);
    }
    let lost = known.accepted.len() - records.len();
    for (name, count) in [
        ("kills survived", kills.values().sum::<u64>() as usize),
        ("jobs accepted", known.accepted.len()),
        ("jobs lost", lost),
        ("jobs attempted again", attempted_again),
        ("runs not counted", uncounted),
        ("left for the next start", known.left_for_the_next_start),
        ("orphans", orphans.len()),
        ("callbacks missing", missing),
        ("callbacks repeated", repeated),
        ("breaches", breaches.len()),
    ] {
        table.add_row([name.to_owned(), count.to_string()]);
    }
    println!("{table}");
    breaches.iter().take(50).for_each(|breach| println!("BREACH: {breach}"));
    if breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The records of all accepted jobs, their callbacks settled.
fn settled_records(daemon: &Daemon, accepted: &BTreeMap<u64, (usize, bool)>, breaches: &mut Vec<String>) -> HashMap<u64, Record> {
    let deadline = Instant::now() + Duration::from_secs(300);
    let mut client = daemon.client();
    let mut records = HashMap::new();
    for &id in accepted.keys() {
        loop {
            let record = match client.call(&Get { id }) {
                Ok(got) => *got.record,
                Err(error) => {
                    breaches.push(format!("job {id} is lost: {error}"));
                    break;
                }
            };
            let is_settled = |state: &str| matches!(state, "delivered" | "failed" | "skipped");
            if record.state.is_terminal() && record.callbacks.iter().all(|callback| is_settled(&callback.state)) {
                records.insert(id, record);
                break;
            }
            if Instant::now() > deadline {
                breaches.push(format!("job {id} or its callbacks do not end: {record:?}"));
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    records
}

/// Processes that are left when nothing runs any more, poold's own apart.
fn orphans(daemon: &Daemon) -> Vec<i32> {
    let supervisor = daemon.supervisor();
    let mut own = vec![daemon.guardian(), supervisor];
    own.extend(pool_tests::children(supervisor));
    let strays = || daemon.processes().into_iter().filter(|pid| !own.contains(pid)).collect::<Vec<i32>>();
    let patience = Instant::now() + Duration::from_secs(10);
    // Jobs whose submitter never learned that they were accepted may still run.
    while !strays().is_empty() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(10));
    }
    strays()
}
