//! What happens when there is too much of something: clients that wait, stall or hardly read, output. It is
//! refused in so many words, with code 75 where it is worth trying again; poold's memory stays bounded, and
//! whoever has nothing to do with it notices nothing.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::geteuid;
use pool_proto::methods::{Ping, Submit, SubmitMany};
use pool_proto::nouns::{Job, ProgressEvent};
use pool_proto::{Client, ClientError, Refusal, ResultKind, State};
use pool_tests::{Daemon, Setup, alive, line_of, run, skip, wait_for, wait_until};

const MIB: u64 = 1 << 20;

fn job(argv: &[&str], pool: &str) -> Job {
    Job {
        argv: argv.iter().map(|&word| word.into()).collect(),
        pool: Some(pool.to_owned()),
        ..Job::default()
    }
}

/// The memory that the supervisor has in use, in bytes.
fn memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.supervisor())).unwrap();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

fn can_open(descriptors: u64) -> bool {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < descriptors {
        skip(&format!("{descriptors} descriptors are needed, the limit is {hard}"));
        return false;
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    true
}

/// Somebody who submits one short job after the other to the pool "quick", each to its end, whatever the
/// others do.
struct Bystander {
    is_over: &'static AtomicBool,
    ended: &'static AtomicUsize,
    thread: JoinHandle<Vec<Duration>>,
}

impl Bystander {
    fn start(daemon: &Daemon) -> Self {
        let mut client = daemon.client();
        let is_over: &AtomicBool = Box::leak(Box::default());
        let ended: &AtomicUsize = Box::leak(Box::default());
        let thread = thread::spawn(move || {
            let mut times = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let start = Instant::now();
                submit_and_wait(&mut client, &job(&["true"], "quick"));
                times.push(start.elapsed());
                ended.fetch_add(1, Ordering::Relaxed);
            }
            times
        });
        Self { is_over, ended, thread }
    }

    /// Its jobs still come to their ends, whatever the others are doing right now.
    fn assert_unharmed(&self) {
        let before = self.ended.load(Ordering::Relaxed);
        wait_until("the bystander's next jobs have ended", || {
            self.ended.load(Ordering::Relaxed) >= before + 10
        });
    }

    /// It ends; how long its jobs took, from submission to end, is for whoever reads it.
    fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        let mut times = self.thread.join().expect("every job of the bystander's has ended well");
        times.sort_unstable();
        let (median, worst) = (times[times.len() / 2], *times.last().unwrap());
        eprintln!("{} jobs meanwhile, median {median:?}, worst {worst:?}", times.len());
    }
}

fn submit_and_wait(client: &mut Client, job: &Job) {
    client.send(&Submit { job: job.clone(), on_disconnect: None, obstacles: None }, true).unwrap();
    loop {
        let (progress, more) = client.receive::<Submit>().unwrap();
        if !more {
            assert_eq!(
                (progress.event, progress.record.unwrap().state),
                (ProgressEvent::Ended, State::Succeeded)
            );
            return;
        }
    }
}

#[test]
fn five_thousand_blocked_submits_each_get_their_own_end() {
    const WAITERS: usize = 5000;
    if !can_open(WAITERS as u64 + 1000) {
        return;
    }
    let daemon = Setup::new().quiet().workers(2).config("[pool.quick]\nworkers = 1").start();
    let go = daemon.path_text("go");
    for _ in 0..2 {
        daemon.submit_sh(&format!("until [ -e {go} ]; do sleep 0.05; done"));
    }
    let bystander = Bystander::start(&daemon);
    let submit = Submit { job: job(&["true"], "default"), on_disconnect: None, obstacles: None };
    let mut waiters: Vec<Client> = (0..WAITERS).map(|_| daemon.client()).collect();
    waiters.iter_mut().for_each(|waiter| waiter.send(&submit, true).unwrap());
    let accepted = |waiter: &mut Client| waiter.receive::<Submit>().unwrap().0.id;
    let ids: Vec<u64> = waiters.iter_mut().map(accepted).collect();
    let used = memory(&daemon);
    eprintln!("{} KiB with {WAITERS} waiters", used / 1024);
    assert!(used < 96 * MIB, "{used} bytes for {WAITERS} waiters");
    bystander.assert_unharmed();
    fs::write(&go, "").unwrap();
    for (waiter, id) in waiters.iter_mut().zip(ids) {
        let last = std::iter::from_fn(|| Some(waiter.receive::<Submit>().unwrap()))
            .find(|(_, more)| !more)
            .unwrap()
            .0;
        assert_eq!((last.event, last.id), (ProgressEvent::Ended, id));
        assert_eq!(last.record.unwrap().state, State::Succeeded);
    }
    bystander.end();
}

/// A message that is valid however long it is made.
fn begin_message(daemon: &Daemon, bytes: usize) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    // One that is dropped meanwhile finds out when it reads.
    let _ = stream.write_all(&vec![b' '; bytes]);
    stream
}

fn finish_message(mut stream: UnixStream) -> String {
    let _ = stream.write_all(b"{\"method\":\"io.poold.Ping\"}\0");
    let mut reply = Vec::new();
    let mut buffer = [0; 4096];
    while !reply.ends_with(b"\0") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => reply.extend(&buffer[..count]),
        }
    }
    String::from_utf8(reply).unwrap()
}

#[test]
fn a_thousand_clients_that_stall_in_the_middle_of_long_messages_are_given_up_in_part() {
    if !can_open(3000) {
        return;
    }
    let daemon = Setup::new().quiet().workers(1).config("[pool.quick]\nworkers = 1").start();
    let bystander = Bystander::start(&daemon);
    let slight = begin_message(&daemon, 100);
    let stalled: Vec<UnixStream> = (0..1000).map(|_| begin_message(&daemon, MIB as usize)).collect();
    wait_until("everything is read", || daemon.client().request(&Ping {}).is_ok());
    bystander.assert_unharmed();
    let used = memory(&daemon);
    eprintln!("{} KiB with 1000 clients in the middle of a megabyte each", used / 1024);
    assert!(used < 400 * MIB, "{used} bytes");
    assert!(finish_message(slight).contains("pid"), "a small message harms nobody");
    let replies: Vec<String> = stalled.into_iter().map(finish_message).collect();
    let given_up = replies.iter().filter(|reply| reply.contains("io.poold.Overloaded")).count();
    let served = replies.iter().filter(|reply| reply.contains("pid")).count();
    assert_eq!(given_up + served, replies.len(), "{replies:?}");
    assert!((200..=256).contains(&served), "{served} of them fit");
    // There is room again for the longest of messages.
    assert!(finish_message(begin_message(&daemon, 15 << 20)).contains("pid"));
    bystander.end();
}

#[test]
fn clients_that_hardly_read_a_long_listing_hold_up_nobody() {
    let daemon = Setup::new().quiet().workers(1).config("[pool.quick]\nworkers = 1").start();
    daemon.submit_sh(&format!("until [ -e {} ]; do sleep 0.05; done", daemon.path_text("go")));
    let mut client = daemon.client();
    let jobs = vec![job(&["true", &"x".repeat(1000)], "default"); 10_000];
    let ids = client.request(&SubmitMany { jobs, defaults: None, obstacles: None }).unwrap().ids;
    let before = memory(&daemon);
    let bystander = Bystander::start(&daemon);
    let mut readers: Vec<UnixStream> =
        (0..20).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    for reader in &mut readers {
        reader.write_all(b"{\"method\":\"io.poold.List\",\"parameters\":{},\"more\":true}\0").unwrap();
    }
    // One byte a second, three seconds long.
    for _ in 0..3 {
        let second = Instant::now();
        readers.iter_mut().for_each(|reader| reader.read_exact(&mut [0]).unwrap());
        wait_until("a second has passed", || second.elapsed() > Duration::from_secs(1));
    }
    let used = memory(&daemon).saturating_sub(before);
    eprintln!("{} KiB for {} slow readers", used / 1024, readers.len());
    assert!(used < 80 * MIB, "{used} bytes for {} readers", readers.len());
    bystander.assert_unharmed();
    bystander.end();
    // Whoever reads on gets all of it.
    let mut listing = String::new();
    let reader = &mut readers[0];
    reader.shutdown(std::net::Shutdown::Write).unwrap();
    reader.read_to_string(&mut listing).unwrap();
    let last = format!("\"id\":{},", ids.last().unwrap());
    let states = listing.matches("\"state\":\"queued\"").count();
    assert!(listing.contains(&last) && states == ids.len(), "{states} queued jobs are listed");
}

#[test]
fn an_attempt_that_writes_too_much_is_ended_with_all_that_it_started() {
    let isolated = if geteuid().is_root() { "pid" } else { "none" };
    let config = format!(
        "max_output_bytes = 2000000\n[pool.small]\nworkers = 1\nmax_output_bytes = 1000\n\
         [pool.apart]\nworkers = 1\nisolate = \"{isolated}\""
    );
    let daemon = Setup::new().workers(1).config(&config).start();
    let workers = daemon.workers();
    let away = daemon.path_text("away");
    let script = format!(
        "setsid sh -c 'echo $$ >{away}; exec sleep 1000' & until [ -s {away} ]; do :; done; exec yes"
    );
    for pool in ["default", "apart"] {
        let said = run(daemon
            .ctl(&["submit", "--wait", "--pool", pool, "--", "sh", "-c", &script])
            .stdout(Stdio::null()));
        assert_eq!(said.code, 137, "{}", said.stderr);
        assert!(
            said.stderr.contains("its output exceeded 2000000 bytes (max_output_bytes)"),
            "{}",
            said.stderr
        );
        assert!(pool == "apart" || !alive(line_of(away.as_ref()).parse().unwrap()), "nothing is left");
        fs::remove_file(&away).unwrap();
    }
    for (id, pool) in [(1, "default"), (2, "apart")] {
        let record = daemon.record(id);
        assert_eq!(
            (record.state, record.result, record.signal),
            (State::Failed, Some(ResultKind::Error), Some(9)),
            "{pool}"
        );
        let bytes = record.stdout.unwrap().bytes.unwrap();
        assert!((2_000_001..500_000_000).contains(&bytes), "{bytes} bytes before it was noticed");
    }
    assert_eq!(daemon.workers(), workers, "no worker was harmed");

    // The pool's own limit; both streams count; what has ended by itself before it was noticed, too.
    let small = |script: &str| daemon.run(&["submit", "--wait", "--pool", "small", "--", "sh", "-c", script]);
    assert_eq!(small("head -c 500 /dev/zero; head -c 500 /dev/zero >&2").code, 0);
    let said = small("head -c 500 /dev/zero; head -c 501 /dev/zero >&2");
    assert!([125, 137].contains(&said.code), "whether it was still there to be killed or not: {said:?}");
    assert!(said.stderr.contains("its output exceeded 1000 bytes"), "{said:?}");
    // One that has been silent for a while.
    let go = daemon.path_text("go");
    let script = format!("until [ -e {go} ]; do sleep 0.05; done; while :; do echo more; done");
    let silent = daemon.submit(&["--pool", "small", "--", "sh", "-c", &script]);
    daemon.wait_record(silent, "it runs", |record| record.state == State::Running);
    fs::write(&go, "").unwrap();
    let silent = daemon.wait_record(silent, "it has ended", |record| record.state.is_terminal());
    assert_eq!(silent.result, Some(ResultKind::Error), "{silent:?}");
}

#[test]
fn the_output_of_all_jobs_has_a_limit_and_history_makes_room() {
    let daemon = Setup::new().workers(2).config("max_total_output_bytes = 1000000").start();
    // Of what has ended, the oldest goes.
    for _ in 0..20 {
        daemon.ok(&["run", "--", "head", "-c", "300000", "/dev/zero"]);
    }
    wait_until("output is removed", || daemon.record(1).output_pruned);
    assert!(!daemon.record(20).output_pruned, "that of the last one is still there");

    let writer = daemon.submit_sh("head -c 1100000 /dev/zero; exec sleep 1000");
    let refused =
        wait_for("a refusal", || Some(daemon.run(&["submit", "--", "true"])).filter(|said| said.code != 0));
    assert_eq!(refused.code, 75, "{refused:?}");
    assert!(
        refused.stderr.contains("more than 1000000 bytes")
            && refused.stderr.contains("max_total_output_bytes"),
        "{refused:?}"
    );
    let many = SubmitMany { jobs: vec![job(&["true"], "default")], defaults: None, obstacles: None };
    let refused = daemon.client().request(&many).map(|submitted| submitted.ids);
    assert!(
        matches!(refused, Err(ClientError::Refused(Refusal::OutputFull { limit: 1_000_000 }))),
        "{refused:?}"
    );
    assert_eq!(daemon.record(writer).state, State::Running, "what runs, runs on");
    daemon.ok(&["cancel", &writer.to_string()]);
    wait_until("there is room again", || daemon.run(&["run", "--", "true"]).code == 0);
}

#[test]
fn what_is_refused_for_now_has_code_75() {
    let refusals = [
        Refusal::TooManyClients { limit: 1 },
        Refusal::QueueFull { pool: "default".into(), limit: 1 },
        Refusal::OutputFull { limit: 1 },
        Refusal::Overloaded { limit: 1 },
        Refusal::Draining {},
    ];
    let dir = tempfile::tempdir().unwrap();
    for (number, refusal) in refusals.into_iter().enumerate() {
        let path = dir.path().join(number.to_string());
        let listener = UnixListener::bind(&path).unwrap();
        let reply = pool_proto::wire::frame::encode(&refusal);
        let poold = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [1];
            while byte != [0] {
                stream.read_exact(&mut byte).unwrap();
            }
            stream.write_all(&reply).unwrap();
        });
        let mut command = std::process::Command::new(pool_tests::poolctl());
        let said = run(command.arg("--socket").arg(&path).args(["submit", "--", "true"]));
        assert_eq!(said.code, 75, "{refusal:?}: {said:?}");
        assert!(said.stderr.contains(&refusal.to_string()), "{refusal:?}: {said:?}");
        poold.join().unwrap();
    }
}
