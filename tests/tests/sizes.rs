//! What users see when something is large, or many: the history, results, messages, queues, the log.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use pool_proto::methods::{Pools, Submit, SubmitMany, Wait};
use pool_proto::nouns::{Job, ProgressEvent};
use pool_proto::{Client, ClientError, Json, Refusal, State};
use pool_tests::{Daemon, MARK, Setup, alive, children, run, send, wait_for, wait_until};

const MIB: usize = 1 << 20;

/// A program whose one method returns a text of so many bytes.
const LARGE: &str = "
import sys, json
for line in sys.stdin:
    call = json.loads(line)
    print(json.dumps({'jsonrpc': '2.0', 'id': call['id'], 'result': 'x' * call['params'][0]}), flush=True)
";

/// A daemon with a warm pool "p" of two such programs.
fn large(more: &str) -> Daemon {
    let setup = Setup::new().quiet().workers(1);
    let env =
        format!("{{ {MARK} = {:?}, PATH = {:?} }}", setup.mark(), std::env::var("PATH").unwrap_or_default());
    let command = serde_json::to_string(&["python3", "-c", LARGE]).unwrap();
    setup.config(&format!("{more}[pool.p]\nworkers = 2\ncommand = {command}\nenv = {env}\n")).start()
}

fn call_for(bytes: usize) -> Job {
    Job {
        pool: Some("p".to_owned()),
        method: Some("large".to_owned()),
        params: Json::parse(&format!("[{bytes}]")).ok(),
        ..Job::default()
    }
}

/// The memory that the supervisor has in use, in bytes.
fn memory(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.supervisor())).unwrap();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")).unwrap();
    kib.parse::<usize>().unwrap() * 1024
}

/// Without looking at records, which are large here.
fn wait_until_idle(daemon: &Daemon) {
    wait_until("nothing is queued, and nothing runs", || {
        let pools = daemon.client().request(&Pools {}).expect("pools are told").pools;
        pools.iter().all(|pool| pool.queued == 0 && pool.running == 0)
    });
}

/// Blocks the only slot of the default pool.
fn block(daemon: &Daemon) -> u64 {
    let blocker = daemon.submit_sh("exec sleep 1000");
    daemon.wait_record(blocker, "it runs", |record| record.state == State::Running);
    blocker
}

#[test]
fn bytes_cost_output_and_never_the_records_of_others() {
    let daemon = Setup::new().workers(1).config("[history]\nmax_output_bytes = 1000000\n").start();
    let keyed = daemon.submit(&["--key", "k", "--", "echo", "mine"]);
    assert_eq!(daemon.run(&["wait", &keyed.to_string()]).code, 0);

    // A hole takes no room on the disk.
    let hollow = daemon.submit_sh("truncate -s 11G /proc/self/fd/1");
    assert_eq!(daemon.run(&["wait", &hollow.to_string()]).code, 0);
    let first = daemon.submit_sh("head -c 600000 /dev/zero");
    assert_eq!(daemon.run(&["wait", &first.to_string()]).code, 0);
    let second = daemon.submit_sh("head -c 600000 /dev/zero");
    assert_eq!(daemon.run(&["wait", &second.to_string()]).code, 0);

    let first = daemon.wait_record(first, "its output goes", |record| record.output_pruned);
    assert_eq!((first.state, first.stdout), (State::Succeeded, None));
    let gone = daemon.run(&["logs", &first.id.to_string()]);
    assert!(gone.code != 0 && gone.stderr.contains("max_output_bytes"), "{gone:?}");
    assert!(!daemon.record(second).output_pruned && !daemon.record(hollow).output_pruned);
    let output = daemon.state_dir().join("output/0");
    wait_until("the files are gone", || !output.join(format!("{}.1.out", first.id)).exists());

    // One that is larger than all that may stay costs nobody else's.
    let alone = daemon.submit_sh("head -c 1500000 /dev/zero");
    daemon.wait_record(alone, "its output goes", |record| record.output_pruned);
    assert!(!daemon.record(second).output_pruned);
    assert_eq!(daemon.ok(&["logs", &keyed.to_string()]), "mine\n");
    assert_eq!(daemon.submit(&["--key", "k", "--", "echo", "mine"]), keyed, "the key is still known");
}

#[test]
fn what_a_map_or_a_cancel_leaves_behind_prunes_nobody_else_and_what_is_pruned_is_called_so() {
    let daemon = large("[history]\nmax_jobs = 20\n");
    let mine = daemon.submit(&["--", "sh", "-c", "exit 3"]);
    assert_eq!(daemon.run(&["wait", &mine.to_string()]).code, 3);

    let mut map = daemon.ctl(&["map", "--call", "p", "large"]);
    let mut map = map.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let items: String = (1..=100).map(|item| format!("{item}\n")).collect();
    map.stdin.take().unwrap().write_all(items.as_bytes()).unwrap();
    let mut values = String::new();
    map.stdout.take().unwrap().read_to_string(&mut values).unwrap();
    assert!(map.wait().unwrap().success());
    assert_eq!(values.lines().count(), 100);

    block(&daemon);
    let queued: Vec<String> = (0..40).map(|_| daemon.submit(&["--", "true"]).to_string()).collect();
    let mut cancel = vec!["cancel"];
    cancel.extend(queued.iter().map(String::as_str));
    daemon.run(&cancel);
    // What somebody waits for stays until he knows of it: one more that ends has the rest looked at.
    wait_until("what was canceled first is gone", || {
        let one_more = daemon.submit(&["--", "true"]).to_string();
        daemon.run(&["cancel", &one_more]);
        daemon.run(&["show", &queued[0]]).code != 0
    });

    assert_eq!(daemon.record(mine).exit_code, Some(3));
    let pruned = daemon.run(&["show", &queued[0]]);
    assert!(pruned.stderr.contains("has been pruned"), "{pruned:?}");
    let unknown = daemon.run(&["show", "999999"]);
    assert!(unknown.stderr.contains("there is no job 999999"), "{unknown:?}");
}

#[test]
fn who_reads_slowly_is_told_all_of_it_and_costs_nobody_any_memory() {
    const CALLS: usize = 16;
    const BYTES: usize = 5 * MIB;
    let daemon = large("");
    let mut client = daemon.client();
    let jobs = vec![call_for(BYTES); CALLS];
    let ids = client.request(&SubmitMany { jobs, defaults: None, obstacles: None }).unwrap().ids;
    wait_until_idle(&daemon);
    let before = memory(&daemon);

    let mut waiter = daemon.client();
    waiter.send(&Wait { ids: ids.clone(), ..Wait::default() }, true).unwrap();
    for _ in 0..5 {
        daemon.ok(&["ping"]);
        std::thread::sleep(Duration::from_millis(100));
    }
    let used = memory(&daemon).saturating_sub(before);
    assert!(used < 48 * MIB, "{used} bytes for one who does not read");

    let mut told = BTreeSet::new();
    loop {
        let (progress, more) = waiter.receive::<Wait>().expect("nobody who reads is dropped");
        assert_eq!(progress.event, ProgressEvent::Ended);
        assert_eq!(progress.record.unwrap().value.unwrap().get().len(), BYTES + 2);
        assert!(told.insert(progress.id), "job {} is told twice", progress.id);
        if !more {
            break;
        }
    }
    assert_eq!(told, ids.iter().copied().collect());
    let listed = daemon.ok(&["--json", "ls"]);
    assert!(listed.len() > CALLS * BYTES, "{} bytes", listed.len());
    assert_eq!(daemon.run(&["wait", &format!("{}-{}", ids[0], ids[CALLS - 1])]).code, 0);
}

#[test]
fn a_map_of_large_values_gets_each_of_them() {
    const CALLS: usize = 24;
    let daemon = large("");
    let mut map = daemon.ctl(&["map", "-k", "--call", "p", "large"]);
    let mut map = map.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let items = format!("{MIB}\n").repeat(CALLS);
    map.stdin.take().unwrap().write_all(items.as_bytes()).unwrap();

    // A reader who takes his time: poolctl reads no more than it can hold.
    let mut stdout = map.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert!(map.wait().unwrap().success());
    assert_eq!(1 + rest.len(), CALLS * (MIB + 3), "each value in quotes, on a line");
}

#[test]
fn thousands_that_have_ended_are_waited_for_in_one_go() {
    const JOBS: usize = 12_000;
    let daemon = Setup::new().quiet().workers(1).start();
    block(&daemon);
    let jobs = vec![Job { argv: vec!["true".into()], ..Job::default() }; JOBS];
    let ids = daemon.client().request(&SubmitMany { jobs, defaults: None, obstacles: None }).unwrap().ids;
    let range = format!("{}-{}", ids[0], ids[JOBS - 1]);
    let canceled = daemon.run(&["--json", "cancel", &range]);
    assert_eq!(canceled.code, 0, "{}", canceled.stderr);
    let waited = daemon.run(&["--json", "wait", &range]);
    assert_eq!(waited.stdout.lines().count(), JOBS, "{}", waited.stderr);
}

#[test]
fn a_message_of_many_jobs_with_large_defaults_holds_up_nobody() {
    let daemon = Setup::new().quiet().workers(1).start();
    block(&daemon);
    let job = Job { argv: vec!["true".into()], ..Job::default() };
    let before = memory(&daemon);

    // One environment, however many have it.
    let env = (0..100_000).map(|number| (format!("VARIABLE_{number}").into(), "value".into())).collect();
    let many = SubmitMany {
        obstacles: None,
        jobs: vec![job.clone(); 2000],
        defaults: Some(Job { env: Some(env), ..Job::default() }),
    };
    let ids = daemon.client().request(&many).unwrap().ids;
    assert_eq!(ids.len(), 2000);
    let used = memory(&daemon).saturating_sub(before);
    assert!(used < 200 * MIB, "{used} bytes for one environment");

    // What would be copied is refused before it is.
    let large = Job { argv: vec!["echo".into(), "x".repeat(14 * MIB).into()], ..Job::default() };
    let many = SubmitMany { jobs: vec![Job::default(); 2000], defaults: Some(large), obstacles: None };
    let refused = daemon.client().request(&many);
    assert!(
        matches!(&refused, Err(ClientError::Refused(Refusal::InvalidParameter { parameter }))
                 if parameter.contains("send fewer at once")),
        "{refused:?}"
    );
    let message = format!(
        "{{\"method\":\"io.poold.SubmitMany\",\"parameters\":{{\"jobs\":[{}{{}}]}}}}\0",
        "{},".repeat(4 * MIB)
    );
    let mut client = daemon.client();
    client.send_bytes(message.as_bytes()).unwrap();
    let refused = client.receive::<SubmitMany>();
    assert!(matches!(&refused, Err(ClientError::Refused(Refusal::InvalidParameter { .. }))), "{refused:?}");
    let used = memory(&daemon).saturating_sub(before);
    assert!(used < 400 * MIB, "{used} bytes after refusals");
    daemon.ok(&["ping"]);
}

#[test]
fn a_queue_of_huge_jobs_does_not_need_their_memory() {
    const JOBS: usize = 20;
    let mut daemon = Setup::new().quiet().workers(1).start();
    block(&daemon);
    let submit = |client: &mut Client| {
        let argv = vec!["true".into(), "x".repeat(10 * MIB).into()];
        let submit = Submit { job: Job { argv, ..Job::default() }, on_disconnect: None, obstacles: None };
        client.request(&submit).unwrap().id
    };
    let mut client = daemon.client();
    let ids: Vec<u64> = (0..JOBS).map(|_| submit(&mut client)).collect();
    let used = memory(&daemon);
    assert!(used < 160 * MIB, "{used} bytes for {JOBS} jobs");

    daemon.kill_all();
    daemon.restart();
    assert_eq!(daemon.record(ids[JOBS - 1]).state, State::Queued);
    let used = memory(&daemon);
    assert!(used < 160 * MIB, "{used} bytes after a restart");

    // Each of them has its turn.
    let last = ids[JOBS - 1].to_string();
    daemon.run(&["cancel", "1"]);
    daemon.run(&["wait", &last]);
    assert!(daemon.record(ids[JOBS / 2]).state.is_terminal());
}

#[test]
fn results_count_and_the_disk_gets_back_what_they_took() {
    let daemon = large("[history]\nmax_output_bytes = 10000000\n");
    let mut client = daemon.client();
    let jobs = vec![call_for(4 * MIB); 12];
    let ids = client.request(&SubmitMany { jobs, defaults: None, obstacles: None }).unwrap().ids;
    wait_until_idle(&daemon);
    let size = |name: &str| {
        fs::metadata(daemon.state_dir().join(name)).map_or(0, |metadata| metadata.size() as usize)
    };
    wait_until("the file is smaller", || size("poold.db") < 24 * MIB);
    let kept = ids.iter().filter(|&&id| daemon.record(id).value.is_some()).count();
    assert!((1..=3).contains(&kept), "{kept} results are kept");
    assert!(size("poold.db-wal") <= 80 * MIB, "{} bytes of log", size("poold.db-wal"));
}

#[test]
fn the_log_of_a_daemon_in_the_background_is_opened_anew_at_a_hangup() {
    let setup = Setup::new().argument("--daemonize").argument("--pid-file");
    let pid_file = setup.dir().join("pid");
    let setup = setup.argument(pid_file.to_str().unwrap());
    let said = run(&mut setup.command());
    assert_eq!(said.code, 0, "{said:?}");
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    let supervisor = wait_for("a supervisor", || children(pid).first().copied());
    wait_until("its workers", || !children(supervisor).is_empty());

    let log = setup.dir().join("state/poold.log");
    let moved = setup.dir().join("state/poold.log.1");
    fs::rename(&log, &moved).unwrap();
    send(pid, Signal::SIGHUP);
    let all = || [vec![pid, supervisor], children(supervisor)].concat();
    let writes_to_log = |pid: &i32| fs::read_link(format!("/proc/{pid}/fd/2")).is_ok_and(|path| path == log);
    wait_until("all of them have the new one", || all().iter().all(writes_to_log));
    assert!(fs::read_to_string(&log).unwrap().contains("the log goes on here"));
    assert_eq!(fs::metadata(&log).unwrap().mode() & 0o777, 0o600);

    send(pid, Signal::SIGTERM);
    wait_until("it has ended", || !alive(pid));
    assert!(fs::read_to_string(&log).unwrap().contains("ended in order"));
    assert!(!fs::read_to_string(&moved).unwrap().contains("ended in order"));
}
