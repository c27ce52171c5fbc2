//! What users see when the machine runs short of something: disk, processes, room for one client more.
//! Nothing is lost, and it is said.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use pool_proto::State;
use pool_proto::methods::{List, Wait};
use pool_proto::nouns::ProgressEvent;
use pool_tests::{Daemon, Setup, is_root_or_skip, line_of, run, wait_until};

/// Somebody who runs nothing else on this machine.
fn lonely() -> u32 {
    100_000 + std::process::id()
}

fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// A daemon whose state is on a disk of four megabytes, and the way to that disk, which is only to be seen
/// through the daemon's eyes.
fn on_a_small_disk() -> (Daemon, PathBuf) {
    on_a_disk("size=4m")
}

/// The same with a disk that is limited in that way.
fn on_a_disk(limit: &str) -> (Daemon, PathBuf) {
    let setup = Setup::new().workers(1);
    let state_dir = setup.dir().join("state");
    fs::create_dir(&state_dir).unwrap();
    let mount = format!("mount -t tmpfs -o {limit},mode=700 tmpfs {} && exec \"$@\"", state_dir.display());
    let daemon =
        setup.wrapper(&["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount, "sh"]).start();
    let inside =
        PathBuf::from(format!("/proc/{}/root", daemon.guardian())).join(state_dir.strip_prefix("/").unwrap());
    (daemon, inside)
}

#[test]
fn a_full_disk_refuses_new_jobs_runs_on_and_is_overcome() {
    if !is_root_or_skip("mount a small disk") {
        return;
    }
    let (daemon, inside) = on_a_small_disk();
    let (go, told) = (daemon.path_text("go"), daemon.path_text("told"));
    let script = format!("until [ -e {go} ]; do sleep 0.01; done; exit 3");
    let running =
        daemon.submit(&["--on-done", &format!("echo $POOL_EXIT_CODE >{told}"), "--", "sh", "-c", &script]);
    daemon.wait_record(running, "it runs", |record| record.state == State::Running);

    let filler = inside.join("filler");
    fill(&filler);
    // A log that has room left takes some more; then it is over.
    let mut accepted = 1;
    let refused =
        (0..10_000).map(|_| daemon.run(&["submit", "--", "true", &"x".repeat(2000)])).find(|said| {
            accepted += u64::from(said.code == 0);
            said.code != 0
        });
    let refused = refused.expect("a full disk takes no more jobs");
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(refused.stderr.contains("nothing was accepted: the disk is full; free space in"), "{refused:?}");
    daemon.ok(&["ls"]);
    fs::write(&go, "").unwrap();
    wait_until("the running job has ended", || {
        daemon.ok(&["pool", "ls", "--json"]).contains("\"running\":0") || accepted > 1
    });

    fs::remove_file(&filler).unwrap();
    wait_until("jobs are accepted again", || {
        let said = daemon.run(&["submit", "--wait", "--", "sh", "-c", "exit 4"]);
        assert!(said.code == 4 || said.stderr.contains("disk is full"), "{said:?}");
        said.code == 4
    });
    assert_eq!(line_of(told.as_ref()), "3", "its end was kept, and its callback run");
    assert_eq!(daemon.record(running).exit_code, Some(3));
    // Whatever was accepted has run.
    for id in 2..=accepted {
        assert_eq!(daemon.record(id).state, State::Succeeded, "job {id}");
    }
}

#[test]
fn a_supervisor_that_dies_on_a_full_disk_is_started_again_when_there_is_room() {
    if !is_root_or_skip("mount a small disk") {
        return;
    }
    let (daemon, inside) = on_a_small_disk();
    let id = daemon.submit(&["--hold", "--", "sh", "-c", "exit 3"]);
    let filler = inside.join("filler");
    fill(&filler);
    pool_tests::send(daemon.supervisor(), Signal::SIGKILL);
    wait_until("it cannot start", || daemon.log().contains("cannot start: "));

    fs::remove_file(&filler).unwrap();
    daemon.ok(&["release", &id.to_string()]);
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 3);
    assert!(pool_tests::alive(daemon.guardian()), "it has not given up");
}

#[test]
fn a_job_that_fills_the_disk_ends_when_there_is_room_to_write_that_down() {
    if !is_root_or_skip("mount a small disk") {
        return;
    }
    let (daemon, inside) = on_a_small_disk();
    let mut client = daemon.ctl(&["submit", "--wait", "--", "sh", "-c", "head -c 8000000 /dev/zero; exit 5"]);
    let mut client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the disk is full", || daemon.log().contains("the store cannot be written"));
    // The end of the job is known and cannot be written, so it is not told: after a power cut it would have
    // to be unsaid.
    daemon.ok(&["ping"]);
    assert!(client.try_wait().unwrap().is_none());
    File::options().write(true).open(inside.join("output/0/1.1.out")).unwrap().set_len(0).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(5));
    assert!(daemon.log().contains("the store can be written again"));
}

#[test]
fn a_log_that_cannot_be_written_takes_nothing_along() {
    let daemon = Setup::new().workers(1).log_to("/dev/full").start();
    assert_eq!(daemon.run(&["submit", "--wait", "--", "sh", "-c", "exit 3"]).code, 3);
    pool_tests::send(daemon.supervisor(), Signal::SIGKILL);
    assert_eq!(daemon.run(&["submit", "--wait", "--", "sh", "-c", "exit 4"]).code, 4);
}

#[test]
fn a_limit_on_processes_is_waited_out() {
    if !is_root_or_skip("limit somebody else") {
        return;
    }
    // Guardian, supervisor, its threads (store, remover, measurer), one worker, and that of the callbacks.
    let daemon = Setup::new().workers(1).user(lonely()).wrapper(&["prlimit", "--nproc=7:1000"]).start();
    let id: u64 = daemon.ok(&["submit", "--", "sh", "-c", "exit 3"]).trim().parse().unwrap();
    let shown = || daemon.ok(&["show", &id.to_string(), "--json"]);
    wait_until("the attempt waits", || shown().contains("\"state\":\"retrying\""));
    assert!(shown().contains("no new process could be started"), "{}", shown());
    assert!(shown().contains("\"attempt\":0"), "nothing is counted");
    let said = said_first(&daemon, id);
    assert!(said.contains("no new process could be started"), "{said}");
    // They wait in turn, too.
    let next: u64 = daemon.ok(&["submit", "--", "true"]).trim().parse().unwrap();
    for pid in daemon.processes() {
        let lonely = lonely().to_string();
        let mut raise = Command::new("setpriv");
        raise.args(["--reuid", &lonely, "--regid", &lonely, "--clear-groups"]);
        let raised = run(raise.args(["prlimit", "--nproc=1000", "--pid", &pid.to_string()]));
        assert_eq!(raised.code, 0, "{raised:?}");
    }
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 3);
    assert_eq!(daemon.run(&["wait", &next.to_string()]).code, 0);
    assert!(shown().contains("\"attempt\":1"));
}

/// The first line of a client that waits for the job.
fn said_first(daemon: &Daemon, id: u64) -> String {
    let mut client = daemon.ctl(&["wait", "--timeout", "30s", &id.to_string()]);
    let mut client = client.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(client.stderr.take().unwrap()).read_line(&mut line).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    line.trim_end().to_owned()
}

#[test]
fn a_disk_without_inodes_is_waited_out_and_told() {
    if !is_root_or_skip("mount a small disk") {
        return;
    }
    let (daemon, inside) = on_a_disk("nr_inodes=300");
    let fillers: Vec<PathBuf> = (0..300)
        .map(|number| inside.join(format!("filler-{number}")))
        .take_while(|path| File::create(path).is_ok())
        .collect();
    // A slot may have files left for its next job, and no others can be made.
    let ids: Vec<u64> = (0..3).map(|_| daemon.submit(&["--", "echo", "1"])).collect();
    let id = ids[2];
    let said = said_first(&daemon, id);
    assert!(said.contains("No space left on device"), "{said}");

    fillers.iter().for_each(|path| fs::remove_file(path).unwrap());
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
}

#[test]
fn a_thousand_clients_wait_at_once() {
    // Ours are descriptors of one process.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).unwrap();
    let daemon = Daemon::start(1);
    let go = daemon.path_text("go");
    let id = daemon.submit_sh(&format!("until [ -e {go} ]; do sleep 0.01; done; exit 3"));
    let mut clients: Vec<_> = (0..1000).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.send(&Wait { ids: vec![id], ..Wait::default() }, true).unwrap();
    }
    // Nobody else is held up.
    assert_eq!(daemon.client().request(&List::default()).unwrap().jobs.len(), 1);
    fs::write(&go, "").unwrap();
    for client in &mut clients {
        let (progress, goes_on) = client.receive::<Wait>().unwrap();
        assert_eq!((progress.event, goes_on), (ProgressEvent::Ended, false));
        assert_eq!(progress.record.unwrap().exit_code, Some(3));
    }
}

#[test]
fn many_blocking_submits_at_once_each_get_their_own() {
    let daemon = Daemon::start(2);
    let children: Vec<_> = (0..100)
        .map(|index| {
            let script = format!("echo {index}; exit {index}");
            let mut command = daemon.ctl(&["submit", "--wait", "--", "sh", "-c", &script]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for (index, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), i32::try_from(index).ok(), "{output:?}");
        assert_eq!(output.stdout, format!("{index}\n").as_bytes(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn fifty_megabytes_come_through_unchanged() {
    let daemon = Daemon::start(1);
    let script = "i=0; while [ $i -lt 50 ]; do head -c 1048576 /dev/urandom; i=$((i+1)); done";
    let copy = daemon.path("copy");
    let script = format!("({script}) | tee {}", copy.display());
    let mut child = daemon.ctl(&["submit", "--wait", "--", "sh", "-c", &script]);
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let mut bytes = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(bytes.len(), 50 << 20);
    assert!(bytes == fs::read(copy).unwrap(), "the bytes differ");
}

#[test]
fn a_million_ids_in_one_wait_are_answered() {
    let daemon = Daemon::start(1);
    daemon.submit(&["--", "true"]);
    let said = daemon.run(&["wait", "1-1000000"]);
    assert_eq!(said.code, 0, "a range takes the jobs that exist: {said:?}");
}

// ---- descriptors ----

#[test]
fn where_descriptors_are_short_a_map_prints_all_the_same_or_says_that_it_does_not() {
    // Fewer than the map would like, and next to none.
    for (files, workers) in [("120", 40), ("64", 8)] {
        let limit = format!("--nofile={files}:{files}");
        let daemon = Setup::new().workers(workers).quiet().wrapper(&["prlimit", &limit]).start();
        let items: Vec<String> = (0..300).map(|number| number.to_string()).collect();
        let items: Vec<&str> = items.iter().map(String::as_str).collect();
        let said = daemon.run(&[&["map", "-k", "--", "echo", "{}", ":::"], items.as_slice()].concat());
        assert_eq!(said.code, 0, "{files}: {}", said.stderr);
        assert_eq!(said.stdout.lines().collect::<Vec<_>>(), items, "{files}: {}", said.stderr);
    }
}

#[test]
fn where_descriptors_are_short_clients_are_refused_in_time() {
    let daemon = Setup::new().workers(2).wrapper(&["prlimit", "--nofile=64:64"]).start();
    let held: Vec<_> =
        (0..40).map(|_| std::os::unix::net::UnixStream::connect(daemon.socket()).unwrap()).collect();
    let said = daemon.run(&["submit", "--", "true"]);
    assert_eq!(said.code, 75, "{said:?}");
    drop(held);
    wait_until("there is room again", || daemon.run(&["run", "--", "true"]).code == 0);
}

#[test]
fn too_few_descriptors_for_the_workers_are_named_at_the_start() {
    let setup = Setup::new().workers(400).wrapper(&["prlimit", "--nofile=256:256"]);
    let said = pool_tests::run(&mut setup.command());
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("the limit of open files is 256"), "{said:?}");
}

#[test]
fn a_limit_of_file_sizes_fails_writes_and_kills_nobody() {
    let daemon = Setup::new().workers(1).quiet().wrapper(&["prlimit", "--fsize=400000:400000"]).start();
    let supervisor = daemon.supervisor();
    let long = "x".repeat(100_000);
    let submit = || daemon.run(&["submit", "--", "true", &long]);
    let refused = (0..100).map(|_| submit()).find(|said| said.code != 0).expect("the limit is reached");
    assert!(refused.stderr.contains("cannot write its store"), "{refused:?}");
    assert!(pool_tests::alive(supervisor), "{}", daemon.log());
    daemon.ok(&["ping"]);
}
