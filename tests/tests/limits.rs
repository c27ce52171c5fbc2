//! A job runs with the nice value, the CPUs and the resource limits of the shell that submitted it.

use std::collections::BTreeMap;
use std::process::Command;

use pool_proto::methods::Submit;
use pool_proto::nouns::{Job, Limit, Limits};
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
