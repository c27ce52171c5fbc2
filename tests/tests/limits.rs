//! A job runs with the nice value, the CPUs and the resource limits of the shell that submitted it.

use std::collections::BTreeMap;
use std::process::Command;

use pool_proto::methods::Submit;
use pool_proto::nouns::{Job, Limit, Limits, MemoryLimiter, ResultKind};
use pool_proto::own_limits::own_limits;
use pool_tests::{Daemon, Said, Setup, run};

/// Says what it was started with, each limit soft and hard.
const TELL: &str = "nice; grep Cpus_allowed_list /proc/self/status; \
                    grep -E 'open files|core file|cpu time|file size|pending' /proc/self/limits";

/// Less than anybody has; a shell's own words for it.
const LESS: &str = "ulimit -Sn 77; ulimit -Hn 88; ulimit -t 500; ulimit -Sf 1000; ulimit -c 0";

/// Runs a command in a shell that has first done `prelude`.
fn within(prelude: &str, command: &Command) -> Said {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{prelude}; exec \"$@\""), "bash"]);
    shell.arg(command.get_program()).args(command.get_args());
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    run(shell.envs(set))
}

fn tell() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", TELL]);
    command
}

/// A CPU that we may use.
fn a_cpu() -> String {
    let cpus = own_limits().cpus.expect("the kernel tells");
    cpus.split(['-', ',']).next_back().expect("a list has an end").to_owned()
}

#[test]
fn a_job_has_the_limits_of_its_submitter() {
    let daemon = Daemon::start(1);
    let prelude = format!("{LESS}; renice -n 7 $$ >/dev/null; taskset -pc {} $$ >/dev/null", a_cpu());

    let in_place = within(&prelude, &daemon.ctl(&["run", "--", "sh", "-c", TELL]));
    let directly = within(&prelude, &tell());
    assert_eq!(in_place, directly);
    assert!(directly.stdout.starts_with("7\n") && directly.stdout.contains(" 77 "), "{directly:?}");

    let next = daemon.run(&["run", "--", "sh", "-c", TELL]);
    assert_eq!(next, run(&mut tell()), "the next job in the slot has those of its own submitter");
}

#[test]
fn a_job_has_more_than_poold_where_its_submitter_has() {
    // What has been lowered can be raised again without a privilege: soft limits and CPUs.
    let limited = format!("ulimit -Sn 200; exec taskset -c {} \"$@\"", a_cpu());
    let daemon = Setup::new().wrapper(&["bash", "-c", &limited, "bash"]).start();
    assert_eq!(daemon.run(&["run", "--", "sh", "-c", TELL]), run(&mut tell()));
}

#[test]
fn a_job_keeps_its_limits_over_retries_and_restarts() {
    let mut daemon = Daemon::start(1);
    let (go, told) = (daemon.path_text("go"), daemon.path_text("told"));
    let script = format!("[ -e {go} ] || exit 1; {{ {TELL}; }} > {told}");
    let options = ["submit", "--retries", "1000", "--backoff", "10ms", "--", "sh", "-c", &script];
    let id = within(LESS, &daemon.ctl(&options)).stdout.trim().to_owned();

    daemon.wait_record(id.parse().unwrap(), "retried", |record| record.retried > 1);
    daemon.kill_all();
    std::fs::write(&go, "").unwrap();
    daemon.restart();
    daemon.ok(&["wait", &id]);
    assert_eq!(std::fs::read_to_string(told).unwrap(), within(LESS, &tell()).stdout);
}

#[test]
fn each_job_of_many_has_them_and_callbacks_have_those_of_poold() {
    let daemon = Daemon::start(2);
    let told = daemon.path_text("told");
    let callback = format!("ulimit -n >> {told}");
    let map = daemon.ctl(&[
        "map",
        "-k",
        "--on-done",
        &callback,
        "--",
        "sh",
        "-c",
        "ulimit -n; : {}",
        ":::",
        "a",
        "b",
    ]);
    assert_eq!(within(LESS, &map).stdout, "77\n77\n");

    // In one message, with one value for all of them.
    let jobs = daemon.path_text("jobs");
    let job = r#"{"argv": ["sh", "-c", "ulimit -n"]}"#;
    std::fs::write(&jobs, format!("{job}\n{job}\n")).unwrap();
    let ids = within(LESS, &daemon.ctl(&["submit", "--from", &jobs])).stdout;
    for id in ids.lines() {
        daemon.ok(&["wait", id]);
        assert_eq!(daemon.ok(&["logs", id]), "77\n");
    }
    assert_eq!(ids.lines().count(), 2);

    daemon.ok(&["shutdown"]);
    let own = run(Command::new("sh").args(["-c", "ulimit -n"])).stdout;
    assert_eq!(std::fs::read_to_string(told).unwrap(), own.repeat(2));
}

/// What cannot be set is set as far as it can.
#[test]
fn limits_beyond_reach_fail_no_job() {
    let daemon = Daemon::start(1);
    // No process may open so many files, nor has a machine so many CPUs; root alone may have such a nice
    // value.
    let beyond = Limit { soft: Some(1 << 40), hard: Some(1 << 41) };
    let limits = Limits {
        memory_bytes: None,
        nice: Some(-3),
        cpus: Some("1000-5000".to_owned()),
        resources: Some(BTreeMap::from([("nofile".to_owned(), beyond)])),
    };
    let script = "ulimit -Hn; ulimit -Sn; nice; grep Cpus_allowed_list /proc/self/status";
    let argv = ["sh", "-c", script].map(Into::into).to_vec();
    let mut client = daemon.client();
    let job = Job { argv, limits: Some(limits), ..Job::default() };
    let id = client.request(&Submit { job, on_disconnect: None, obstacles: None }).unwrap().id;

    daemon.ok(&["wait", &id.to_string()]);
    let told = daemon.ok(&["logs", &id.to_string()]);
    // nice(1) goes as far as it may, too.
    let expected = "ulimit -Hn; ulimit -Hn; nice -n -3 nice; grep Cpus_allowed_list /proc/self/status";
    assert_eq!(told, run(Command::new("sh").args(["-c", expected])).stdout);
}

#[test]
fn a_job_has_the_limits_that_it_is_given() {
    let daemon = Daemon::start(1);
    let cpu = a_cpu();
    let options = ["--nice", "9", "--cpus", &cpu, "--rlimit", "nofile=55:66", "--rlimit", "core=0"];
    let given = daemon.ok(&[&["run"], &options[..], &["--", "sh", "-c", TELL]].concat());
    let wanted = format!(
        "renice -n 9 $$ >/dev/null; taskset -pc {cpu} $$ >/dev/null; ulimit -Sn 55; ulimit -Hn 66; ulimit -c 0"
    );
    assert_eq!(given, within(&wanted, &tell()).stdout);
    assert!(given.starts_with("9\n") && given.contains(" 55 "), "{given}");

    // They stand before those of the submitter, also where they are as poold's own.
    let own = daemon.ok(&["run", "--", "nice"]);
    let within_nice =
        within("renice -n 9 $$ >/dev/null", &daemon.ctl(&["run", "--nice", own.trim(), "--", "nice"]));
    assert_eq!(within_nice.stdout, own);

    let mapped =
        daemon.ok(&["map", "--rlimit", "nofile=55", "sh", "-c", "ulimit -n; ulimit -Hn", ":::", "1"]);
    assert_eq!(mapped, "55\n55\n");
}

#[test]
fn the_limits_of_a_pool_hold_where_its_jobs_say_nothing_and_for_its_programs() {
    let program = "import os, sys, json, resource\n\
                   for line in sys.stdin:\n \
                   call = json.loads(line)\n \
                   soft = lambda name: resource.getrlimit(name)[0]\n \
                   value = [os.nice(0), soft(resource.RLIMIT_CORE), soft(resource.RLIMIT_AS) > 0]\n \
                   print(json.dumps({'jsonrpc': '2.0', 'id': call['id'], 'result': value}), flush=True)";
    let program = serde_json::to_string(program).unwrap();
    let config = format!(
        "[pool.polite]\nworkers = 1\nnice = 11\nrlimit = {{ nofile = \"44:48\" }}\n\
         [pool.warm]\nworkers = 1\nnice = 12\nrlimit = {{ core = 5 }}\nmem = \"4G\"\n\
         command = [\"python3\", \"-c\", {program}]"
    );
    let daemon = Setup::new().config(&config).start();
    let script = "nice; ulimit -Sn; ulimit -Hn";
    assert_eq!(daemon.ok(&["run", "-p", "polite", "--", "sh", "-c", script]), "11\n44\n48\n");
    let options = ["run", "-p", "polite", "--nice", "13", "--", "sh", "-c", script];
    assert_eq!(daemon.ok(&options), "13\n44\n48\n");
    assert_eq!(daemon.ok(&["call", "warm", "m"]), "[12, 5, true]\n");
}

#[test]
fn a_limit_of_memory_keeps_a_job_from_using_more_and_show_tells_how() {
    let daemon = Setup::new().config("[pool.small]\nworkers = 1\nmem = \"64M\"").start();
    let hungry = "import sys; print(len(bytearray(500_000_000)))";
    let said = daemon.run(&["run", "--mem", "200M", "--", "python3", "-c", hungry]);
    assert!(said.code != 0 && said.stdout.is_empty(), "{said:?}");

    let record = daemon.record(1);
    let limit = record.memory_limit.unwrap();
    assert_eq!(limit.bytes, 200 << 20);
    let shown = daemon.ok(&["show", "1"]);
    match limit.by.unwrap() {
        MemoryLimiter::Cgroup => {
            assert_eq!(record.result, Some(ResultKind::OomKill));
            assert!(said.stderr.contains("its limit of 209715200 bytes"), "{said:?}");
            assert!(shown.contains("at most 209715200 bytes, by its control group"), "{shown}");
        }
        MemoryLimiter::AddressSpace => {
            assert!(said.stderr.contains("MemoryError"), "{said:?}");
            assert!(shown.contains("at most 209715200 bytes of address space"), "{shown}");
        }
    }

    // The next one in the slot has what it asks for, and one that asks for nothing has no limit.
    assert_eq!(daemon.ok(&["run", "--mem", "2G", "--", "python3", "-c", hungry]), "500000000\n");
    assert_eq!(daemon.ok(&["run", "--", "python3", "-c", hungry]), "500000000\n");
    assert_eq!(daemon.record(3).memory_limit, None);
    assert_ne!(daemon.run(&["run", "-p", "small", "--", "python3", "-c", hungry]).code, 0);
    assert_eq!(daemon.record(4).memory_limit.map(|limit| limit.bytes), Some(64 << 20));
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let daemon = Daemon::start(1);
    let cases: [(&[&str], &str); 7] = [
        (&["--nice", "20"], "20"),
        (&["--mem", "0"], "number of bytes"),
        (&["--mem", "lots"], "number of bytes"),
        (&["--rlimit", "files=1"], "there is no resource"),
        (&["--rlimit", "nofile=2:1"], "above the hard"),
        (&["--rlimit", "nofile"], "nofile=1024"),
        (&["--cpus", "all"], "no list of CPUs"),
    ];
    for (options, wanted) in cases {
        let said = daemon.run(&[&["submit"], options, &["--", "true"]].concat());
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.stderr.contains(wanted), "{said:?}");
    }
    assert!(daemon.ok(&["--json", "ls"]).contains("\"jobs\":[]"));
}
