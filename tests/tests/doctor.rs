//! What `poolctl doctor` tells of installations that are well, and of such that are not: which check, how
//! bad, and what to do.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pool_tests::{Daemon, Said, Setup, alive, is_root_or_skip, run, send, wait_until};
use serde_json::Value;

/// What `doctor --json` has found, and its exit code.
struct Findings {
    code: i32,
    document: Value,
}

impl Findings {
    fn of(daemon: &Daemon, arguments: &[&str]) -> Self {
        Self::read(&daemon.run(&[&["doctor", "--json"], arguments].concat()))
    }

    fn read(said: &Said) -> Self {
        let document: Value =
            serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        Self { code: said.code, document }
    }

    fn checks(&self) -> &Vec<Value> {
        self.document["checks"].as_array().unwrap()
    }

    fn find(&self, check: &str) -> &Value {
        self.checks()
            .iter()
            .find(|found| found["check"] == check)
            .unwrap_or_else(|| panic!("no {check}: {}", self.document))
    }

    /// Whether the check is at that level and says all of this, in what it has found or in what it advises.
    fn assert(&self, check: &str, level: &str, words: &[&str]) {
        let found = self.find(check);
        assert_eq!(found["level"], level, "{found}");
        let text = format!(
            "{}; {}",
            found["message"].as_str().unwrap(),
            found["advice"].as_str().unwrap_or_default()
        );
        for word in words {
            assert!(text.contains(word), "{word:?} is missing: {text}");
        }
    }

    /// Nothing else is to be done.
    fn assert_all_else_well(&self, but: &[&str]) {
        let unwell = |found: &&Value| found["level"] == "warning" || found["level"] == "problem";
        let others: Vec<_> = self
            .checks()
            .iter()
            .filter(unwell)
            .filter(|found| !but.contains(&found["check"].as_str().unwrap()))
            .collect();
        assert!(others.is_empty(), "{others:?}");
        let is_well = but.is_empty();
        assert_eq!((self.code, &self.document["healthy"]), (i32::from(!is_well), &is_well.into()));
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_healthy_installation_has_nothing_to_be_done() {
    let daemon = Daemon::start(2);
    daemon.ok(&["submit", "--wait", "--stdin", "/dev/null", "--on-done", "true", "--", "true"]);
    let findings = Findings::of(&daemon, &[]);
    findings.assert_all_else_well(&[]);
    findings.assert("daemon", "ok", &[&format!("pid {}", daemon.guardian()), env!("CARGO_PKG_VERSION")]);
    findings.assert("version", "ok", &["the same protocol"]);
    findings.assert("store", "ok", &["power cut"]);
    findings.assert("slots", "ok", &["2 of 2 are up"]);
    findings.assert("stale-files", "ok", &[]);
    findings.assert("leftovers", "ok", &["no process"]);
    assert_eq!(findings.document["state_dir"], daemon.path_text("state"));
    for check in [
        "socket",
        "socket-directory",
        "clients",
        "configuration",
        "queue",
        "state-directory",
        "permissions",
        "database",
    ] {
        findings.assert(check, "ok", &[]);
    }
    for check in ["containment", "disk-space", "kernel", "user-namespaces", "processes"] {
        findings.find(check);
    }

    let folded = daemon.run(&["doctor"]).stdout;
    assert!(folded.starts_with("ok ") && folded.contains("(-v lists them)"), "{folded}");
    assert!(folded.lines().count() < findings.checks().len(), "{folded}");
    let said = daemon.run(&["doctor", "-v"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    assert_eq!(said.stdout.lines().count(), findings.checks().len(), "a line a check: {}", said.stdout);
    let levels = ["ok ", "note "];
    assert!(
        said.stdout.lines().all(|line| levels.iter().any(|level| line.starts_with(level))),
        "{}",
        said.stdout
    );
}

#[test]
fn what_it_prints_as_json_has_a_shape() {
    let daemon = Daemon::start(1);
    let Findings { document, .. } = Findings::of(&daemon, &[]);
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let sorted = |names: &[&str]| {
        let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
        names.sort();
        names
    };
    let mut members = names(&document);
    members.sort();
    assert_eq!(members, sorted(&["schema", "healthy", "socket", "state_dir", "checks"]));
    assert_eq!((&document["schema"], &document["socket"]), (&1.into(), &daemon.path_text("socket").into()));
    for check in document["checks"].as_array().unwrap() {
        let mut members = names(check);
        members.sort();
        assert_eq!(members, sorted(&["check", "subject", "level", "message", "advice"]));
        assert!(["ok", "note", "warning", "problem"].contains(&check["level"].as_str().unwrap()));
        let is_of_a_pool = ["containment", "slots", "queue"].contains(&check["check"].as_str().unwrap());
        assert_eq!(check["subject"] == "default", is_of_a_pool, "{check}");
    }
}

#[test]
fn without_a_daemon_it_says_so_and_starts_none() {
    let mut daemon = Daemon::start(1);
    daemon.ok(&["submit", "--wait", "--", "echo", "output"]);
    daemon.ok(&["shutdown"]);
    daemon.wait();
    let findings = Findings::of(&daemon, &[]);
    findings.assert_all_else_well(&["daemon"]);
    findings.assert("daemon", "problem", &["no poold is running", "start it with `poold --socket "]);
    findings.assert("socket", "note", &["is not there"]);
    findings.assert("state-directory", "note", &["--state-dir"]);
    let state = daemon.path_text("state");
    let findings = Findings::of(&daemon, &["--state-dir", &state]);
    findings.assert("state-directory", "ok", &[&state]);
    findings.assert("stale-files", "note", &["output of 1 jobs"]);
    findings.assert("database", "ok", &[]);
    wait_until("nothing was started", || daemon.processes().is_empty());
}

/// A user's own, which the other verbs start: this one does not.
#[test]
fn a_users_own_is_not_started_either() {
    let setup = Setup::new();
    let home = setup.dir().join("home");
    fs::create_dir(&home).unwrap();
    let mut command = std::process::Command::new(pool_tests::poolctl());
    if nix::unistd::geteuid().is_root() {
        // Root's own place is the machine's, and not a test's business.
        let uid = 64_231;
        let copy = setup.dir().join("poolctl");
        pool_tests::install(pool_tests::poolctl(), &copy);
        [setup.dir(), &home, &copy]
            .into_iter()
            .for_each(|path| std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap());
        command = std::process::Command::new("setpriv");
        command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups"]).arg(copy);
    }
    command.args(["doctor", "--json"]).env("HOME", &home).env("XDG_RUNTIME_DIR", &home);
    for name in ["POOL_SOCKET", "XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    let findings = Findings::read(&run(&mut command));
    findings.assert_all_else_well(&["daemon"]);
    findings.assert("daemon", "problem", &["`poolctl submit` starts it"]);
    findings.assert("state-directory", "note", &["is not there", "poold creates it"]);
    findings.find("runtime-directory");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_socket_that_was_left_behind_and_one_that_was_removed_are_told_apart() {
    let mut daemon = Daemon::start(1);
    let socket = daemon.socket();
    let guardian = daemon.guardian();
    let state = daemon.path_text("state");
    // A guardian that is stopped cannot put its socket in its place again.
    send(guardian, Signal::SIGSTOP);
    fs::remove_file(&socket).unwrap();
    let findings = Findings::of(&daemon, &["--state-dir", &state]);
    findings.assert_all_else_well(&["daemon"]);
    let (who, what) = (format!("pid {guardian}"), format!("`kill {guardian}`"));
    findings.assert("daemon", "problem", &[&who, "holds the lock", "nobody listens", &what]);
    send(guardian, Signal::SIGCONT);
    wait_until("the socket is back", || Findings::of(&daemon, &[]).find("daemon")["level"] == "ok");
    daemon.kill_all();
    let findings = Findings::of(&daemon, &[]);
    findings.assert_all_else_well(&["daemon"]);
    findings.assert("socket", "note", &["poold is not behind it", "the next start replaces it"]);
    findings.assert("daemon", "problem", &["no poold is running"]);
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "").unwrap();
    Findings::of(&daemon, &[]).assert("socket", "problem", &["is no socket"]);
}

#[test]
fn a_poold_that_does_not_answer_is_told_from_one_that_is_not_there() {
    let daemon = Daemon::start(1);
    send(daemon.supervisor(), Signal::SIGSTOP);
    let start = Instant::now();
    let findings = Findings::of(&daemon, &[]);
    assert!(start.elapsed() < Duration::from_secs(20), "it gives up");
    send(daemon.supervisor(), Signal::SIGCONT);
    findings.assert("daemon", "problem", &["it is stopped, or hangs", &format!("pid {}", daemon.guardian())]);
    Findings::of(&daemon, &[]).assert_all_else_well(&[]);
}

#[test]
fn what_others_may_get_at_is_named_with_what_to_do() {
    let daemon = Daemon::start(1);
    let (state, database) = (daemon.state_dir(), daemon.state_dir().join("poold.db"));
    chmod(&database, 0o644);
    let findings = Findings::of(&daemon, &[]);
    findings.assert_all_else_well(&["permissions"]);
    findings.assert("permissions", "warning", &["poold.db", "chmod go= "]);
    chmod(&state, 0o755);
    let findings = Findings::of(&daemon, &[]);
    findings.assert_all_else_well(&["permissions", "state-directory"]);
    findings.assert("state-directory", "problem", &["mode 755", "others can see", "chmod 700"]);
    findings.assert("permissions", "problem", &["poold.db"]);
    chmod(&state, 0o700);
    chmod(&database, 0o600);
    chmod(daemon.dir(), 0o777);
    let findings = Findings::of(&daemon, &[]);
    findings.assert_all_else_well(&["socket-directory"]);
    findings.assert("socket-directory", "problem", &["mode 777", "chmod go-w"]);
    chmod(daemon.dir(), 0o700);
    Findings::of(&daemon, &[]).assert_all_else_well(&[]);
}

#[test]
fn files_that_belong_to_no_job_are_found() {
    let daemon = Setup::new().workers(1).config("[history]\nmax_jobs = 10\n").start();
    for _ in 0..30 {
        daemon.submit(&["--", "echo", "output"]);
    }
    daemon.run(&["wait", "1-30"]);
    wait_until("old jobs are forgotten", || daemon.run(&["show", "1"]).code != 0);
    daemon.ok(&["pool", "add", "warm", "--", "cat"]);
    wait_until("a program's standard error", || daemon.state_dir().join("output/programs").exists());
    Findings::of(&daemon, &[]).assert("stale-files", "ok", &[]);
    let stray = |name: &str| {
        let path = daemon.state_dir().join(name);
        fs::write(&path, "").unwrap();
        path
    };
    let strays = ["output/0/1.1.out", "output/0/notes", "output/lost+found", "output/callbacks/x", "stdin/x"]
        .map(stray);
    let findings = Findings::of(&daemon, &[]);
    findings.assert_all_else_well(&[]);
    findings.assert("stale-files", "note", &["belong to no job", "and 2 more", "remove them"]);
    strays[1..].iter().for_each(|path| fs::remove_file(path).unwrap());
    Findings::of(&daemon, &[]).assert("stale-files", "note", &[strays[0].to_str().unwrap(), "remove it"]);
}

#[test]
fn a_store_that_cannot_be_written_is_a_problem_until_it_can() {
    let daemon = Daemon::start(1);
    let aside = daemon.path("aside");
    fs::rename(daemon.state_dir(), &aside).unwrap();
    daemon.run(&["submit", "--", "true"]);
    let findings = Findings::of(&daemon, &[]);
    assert_eq!(findings.code, 1);
    findings.assert("store", "problem", &["new jobs are refused", "was removed, moved or replaced"]);
    findings.assert("state-directory", "note", &["is not there"]);
    fs::rename(&aside, daemon.state_dir()).unwrap();
    daemon.ok(&["submit", "--wait", "--", "true"]);
    Findings::of(&daemon, &[]).assert_all_else_well(&[]);
}

#[test]
fn a_database_that_is_none_is_named_while_no_poold_runs() {
    let mut daemon = Daemon::start(1);
    daemon.ok(&["shutdown"]);
    daemon.wait();
    let database = daemon.state_dir().join("poold.db");
    fs::write(&database, "no database").unwrap();
    let state = daemon.path_text("state");
    Findings::of(&daemon, &["--state-dir", &state]).assert(
        "database",
        "problem",
        &["damaged", "poolctl backup"],
    );
}

#[test]
fn a_database_that_is_larger_than_what_is_free_is_named() {
    let mut daemon = Daemon::start(1);
    daemon.ok(&["shutdown"]);
    daemon.wait();
    // A hole takes no room.
    let log = fs::File::options().create(true).append(true).open(daemon.state_dir().join("poold.db-wal"));
    log.unwrap().set_len(8 << 40).unwrap();
    let state = daemon.path_text("state");
    Findings::of(&daemon, &["--state-dir", &state]).assert(
        "database",
        "warning",
        &["8388608 MiB of log", "more than is free", "max_jobs"],
    );
}

#[test]
fn a_configuration_that_was_not_taken_over_is_a_problem() {
    let daemon = Daemon::start(1);
    fs::write(daemon.path("config.toml"), "wrkers = 3\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_until("it has been read", || daemon.log().contains("the old configuration stays in force"));
    let findings = Findings::of(&daemon, &[]);
    findings.assert_all_else_well(&["configuration"]);
    findings.assert("configuration", "problem", &["wrkers", "SIGHUP"]);
    fs::write(daemon.path("config.toml"), "").unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_until("it has been mended", || Findings::of(&daemon, &[]).code == 0);
}

#[test]
fn output_beyond_its_limit_is_a_problem() {
    let daemon = Setup::new().workers(1).config("max_total_output_bytes = 1048576\n").start();
    Findings::of(&daemon, &[]).assert("output", "ok", &["0 MiB of at most 1 MiB"]);
    let written = daemon.path_text("written");
    daemon.submit_sh(&format!("head -c 3000000 /dev/zero; echo >{written}; exec sleep 600"));
    wait_until("it has written", || Path::new(&written).exists());
    wait_until("that is seen", || Findings::of(&daemon, &[]).code == 1);
    let findings = Findings::of(&daemon, &[]);
    findings.assert_all_else_well(&["output"]);
    findings.assert(
        "output",
        "problem",
        &["2 MiB of at most 1 MiB", "new jobs are refused", "`max_total_output_bytes`"],
    );
    daemon.ok(&["cancel", "1"]);
}

#[test]
fn the_tier_of_each_pool_and_what_the_start_has_swept_are_told() {
    let mut daemon = Setup::new().workers(1).config("cgroup = \"off\"\n[pool.build]\nworkers = 1\n").start();
    let pid_file = daemon.path_text("pid");
    daemon.submit_sh(&format!(
        "[ $POOL_ATTEMPT = 2 ] || {{ (setsid sh -c 'echo $$ >{pid_file}; exec sleep 600' &); exec sleep 600; }}"
    ));
    let left: i32 = pool_tests::line_of(pid_file.as_ref()).parse().unwrap();
    daemon.wait_record(1, "its start is written", |record| record.started_at.is_some());
    daemon.kill_in_one_instant();
    daemon.restart();
    assert!(!alive(left));
    let findings = Findings::of(&daemon, &[]);
    findings.assert_all_else_well(&[]);
    findings.assert("leftovers", "note", &["the start killed", "1 processes, 0 control groups"]);
    let tiers = findings.checks().iter().filter(|found| found["check"] == "containment");
    let tiers: Vec<_> =
        tiers.map(|found| (&found["subject"], &found["level"], found["message"].as_str().unwrap())).collect();
    assert_eq!(tiers.len(), 2);
    for (pool, level, message) in tiers {
        assert!(pool == "default" || pool == "build");
        assert_eq!(level, "note");
        assert!(
            message.starts_with("subreaper; no control groups: the configuration says `cgroup = \"off\"`"),
            "{message}"
        );
    }
}

#[test]
fn a_slot_that_cannot_be_filled_is_a_problem() {
    if !is_root_or_skip("forbid namespaces") {
        return;
    }
    let forbid = "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all -- \"$@\"";
    let probe = run(std::process::Command::new("unshare").args(["-Ur", "sh", "-c", forbid, "sh", "true"]));
    if probe.code != 0 {
        return pool_tests::skip(&format!("they cannot be forbidden here: {probe:?}"));
    }
    let config = "[pool.apart]\nworkers = 1\nisolate = \"pid\"\n";
    let daemon =
        Setup::new().workers(1).config(config).wrapper(&["unshare", "-Ur", "sh", "-c", forbid, "sh"]).start();
    let findings = Findings::of(&daemon, &[]);
    findings.assert_all_else_well(&["slots"]);
    let slots = findings
        .checks()
        .iter()
        .find(|found| found["check"] == "slots" && found["subject"] == "apart")
        .unwrap();
    assert_eq!(slots["level"], "problem", "{slots}");
    assert!(slots["message"].as_str().unwrap().contains("namespace"), "{slots}");
}
