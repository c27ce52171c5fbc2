//! What users see when something is wrong: a message that says what to do, the documented exit code, and
//! nothing half done.

use std::fs;
use std::path::Path;
use std::process::Command;

use pool_proto::State;
use pool_proto::methods::List;
use pool_tests::{Daemon, Said, Setup, is_root_or_skip, poolctl, poold, run, wait_until};

fn assert_says(said: &Said, code: i32, words: &[&str]) {
    assert_eq!(said.code, code, "{said:?}");
    for word in words {
        assert!(said.stderr.contains(word), "{word:?} is missing: {said:?}");
    }
    assert_eq!(said.stdout, "");
    assert!(!said.stderr.contains("panicked"), "{said:?}");
}

#[test]
fn an_unknown_id_is_named() {
    let daemon = Daemon::start(1);
    for arguments in [
        ["show", "99"].as_slice(),
        &["logs", "99"],
        &["wait", "99"],
        &["cancel", "99"],
        &["logs", "-f", "99"],
    ] {
        assert_says(&daemon.run(arguments), 125, &["there is no job 99", "poolctl ls"]);
    }
    // What is asked of the others is done.
    let id = daemon.submit_sh("exec sleep 600");
    assert_says(&daemon.run(&["cancel", &id.to_string(), "99"]), 125, &["there is no job 99"]);
    assert!(daemon.record(id).state.is_terminal());
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let daemon = Daemon::start(1);
    let cases: [&[&str]; 12] = [
        &["submit", "--wait", "--"],
        &["submit"],
        &["submit", "--wait", "--async", "--", "true"],
        &["submit", "--timeout", "soon", "--", "true"],
        &["submit", "--from", "-", "--", "true"],
        &["submit", "--cwd", "/no/such/directory", "--", "true"],
        &["wait"],
        &["wait", "one"],
        &["cancel", "7-3"],
        &["ls", "--state", "bogus"],
        &["shutdown", "--now", "--drain"],
        &["nonsense"],
    ];
    for arguments in cases {
        let said = daemon.run(arguments);
        assert_eq!(said.code, 2, "{arguments:?}: {said:?}");
        assert!(!said.stderr.is_empty() && said.stdout.is_empty(), "{arguments:?}: {said:?}");
    }
    assert!(daemon.client().request(&List::default()).unwrap().jobs.is_empty());
}

#[test]
fn what_a_job_cannot_have_is_refused() {
    let daemon = Daemon::start(1);
    assert_says(&daemon.run(&["submit", "--", ""]), 2, &["name a program"]);
    assert_says(
        &daemon.run(&["submit", "--pool", "nowhere", "--", "true"]),
        125,
        &["no pool \"nowhere\"", "pool ls"],
    );
    assert_says(&daemon.run(&["submit", "--stdin", "/no/such/file", "--", "cat"]), 125, &["/no/such/file"]);
    assert_says(&daemon.run(&["submit", "--from", "/no/such/file"]), 125, &["/no/such/file"]);
    let lines = daemon.path("jobs");
    fs::write(&lines, "{\"argv\":[\"true\"]}\n{\"argv\":[\"true\"],\"nmae\":\"x\"}\n").unwrap();
    assert_says(&daemon.run(&["submit", "--from", lines.to_str().unwrap()]), 2, &["jobs:2", "nmae"]);
    assert!(daemon.client().request(&List::default()).unwrap().jobs.is_empty(), "nothing was accepted");
}

#[test]
fn a_directory_that_is_gone_is_an_error_of_the_job() {
    let daemon = Daemon::start(1);
    let (folder, go) = (daemon.path("folder"), daemon.path_text("go"));
    fs::create_dir(&folder).unwrap();
    let blocker = daemon.submit_sh(&format!("until [ -e {go} ]; do sleep 0.01; done"));
    let id = daemon.submit(&["--cwd", folder.to_str().unwrap(), "--", "true"]);
    fs::remove_dir(&folder).unwrap();
    fs::write(&go, "").unwrap();
    daemon.ok(&["wait", &blocker.to_string()]);
    let said = daemon.run(&["wait", &id.to_string()]);
    assert_eq!(said.code, 125);
    let record = daemon.record(id);
    assert_eq!((record.state, record.attempt), (State::Failed, 0));
    assert!(record.reason.unwrap().contains("cannot enter the directory"));

    // And where poolctl itself stands in one.
    let script = format!("mkdir {0} && cd {0} && rmdir {0} && exec \"$@\"", folder.display());
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, "sh"])
        .arg(poolctl())
        .arg("--socket")
        .arg(daemon.socket())
        .args(["submit", "--", "true"]);
    assert_says(&run(&mut command), 125, &["your current directory is gone", "--cwd"]);
}

#[test]
fn no_daemon_and_none_wanted() {
    let setup = Setup::new();
    let mut command = Command::new(poolctl());
    command.arg("--no-start").arg("--socket").arg(setup.dir().join("socket")).arg("ls");
    assert_says(&run(&mut command), 125, &["no poold listens at", "poold --socket"]);
    // A named socket means a certain daemon: none is started in its place.
    let mut command = Command::new(poolctl());
    command.arg("--socket").arg(setup.dir().join("socket")).args(["submit", "--", "true"]);
    assert_says(&run(&mut command), 125, &["no poold listens at"]);
}

#[test]
fn a_socket_path_that_is_too_long_is_refused_by_both() {
    let setup = Setup::new();
    let long = setup.dir().join("s".repeat(100));
    let words = ["at most 107", "shorter"];
    assert_says(&run(Command::new(poolctl()).arg("--socket").arg(&long).arg("ls")), 125, &words);
    assert_says(&run(poold_with(&setup).arg("--socket").arg(&long)), 1, &words);
    // One that just fits is served.
    let room = 107 - setup.dir().as_os_str().len() - 1;
    let fits = setup.dir().join("s".repeat(room));
    let mut child = poold_with(&setup).arg("--socket").arg(&fits).spawn().unwrap();
    wait_until("it serves", || {
        run(Command::new(poolctl()).arg("--socket").arg(&fits).args(["--no-start", "ping"])).code == 0
    });
    run(Command::new(poolctl()).arg("--socket").arg(&fits).args(["shutdown", "--now"]));
    assert!(child.wait().unwrap().success());
}

fn poold_with(setup: &Setup) -> Command {
    let mut command = Command::new(poold());
    command.arg("--state-dir").arg(setup.dir().join("state")).env_remove("POOL_SOCKET");
    command
}

#[test]
fn a_configuration_with_a_mistake_is_named_with_its_place() {
    for (text, words) in [
        ("wrokers = 2\n", ["wrokers", "line 1"]),
        ("workers = 2\nworkers = 3\n", ["workers", "line 2"]),
        ("workers = 0\n", ["nonzero", "line 1"]),
        ("[pool.build]\nworkers = \"two\"\n", ["two", "line 2"]),
        ("timeout = \"soon\"\n", ["soon", "line 1"]),
        ("[pool.build]\n", ["[pool.build]", "workers"]),
        ("[pool.\"a/b\"]\nworkers = 1\n", ["a/b", "letters"]),
        ("durability = \"none\"\n", ["none", "line 1"]),
    ] {
        let setup = Setup::new().config(text);
        assert_says(&run(&mut setup.command()), 1, &[words[0], words[1], "config.toml"]);
        assert!(!setup.dir().join("socket").exists(), "nothing half done");
    }
    let setup = Setup::new();
    assert_says(&run(poold_with(&setup).args(["--config", "/no/such/file"])), 1, &["/no/such/file"]);
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named() {
    let setup = Setup::new();
    let file = setup.dir().join("file");
    fs::write(&file, "").unwrap();
    let socket = setup.dir().join("socket");
    for state_dir in [file.as_path(), &file.join("below"), Path::new("/proc/self/nothing")] {
        let mut command = Command::new(poold());
        command.arg("--socket").arg(&socket).arg("--state-dir").arg(state_dir);
        assert_says(&run(&mut command), 1, &[state_dir.to_str().unwrap(), "--state-dir"]);
        assert!(!socket.exists());
    }
    assert_eq!(fs::read(&file).unwrap(), b"");
}

#[test]
fn an_unwritable_state_directory_is_named() {
    if !is_root_or_skip("give a directory away") {
        return;
    }
    let setup = Setup::new().user(54_321);
    let state_dir = setup.dir().join("state");
    fs::create_dir(&state_dir).unwrap();
    assert_says(&run(&mut setup.command()), 1, &[state_dir.to_str().unwrap(), "--state-dir"]);
}

#[test]
fn a_second_daemon_says_so_and_harms_nothing() {
    let daemon = Daemon::start(1);
    let second = |socket: &Path, state_dir: &Path| {
        let mut command = Command::new(poold());
        command.arg("--socket").arg(socket).arg("--state-dir").arg(state_dir);
        run(&mut command)
    };
    let other = daemon.path("other");
    assert_says(
        &second(&daemon.socket(), &daemon.state_dir()),
        1,
        &["another poold (pid", "poolctl shutdown"],
    );
    assert_says(&second(&daemon.socket(), &other), 1, &["another poold (pid", "poolctl shutdown"]);
    assert_says(
        &second(&daemon.path("socket2"), &daemon.state_dir()),
        1,
        &["another poold (pid", "poolctl shutdown"],
    );
    assert_eq!(daemon.run(&["submit", "--wait", "--", "sh", "-c", "exit 3"]).code, 3);
}

#[test]
fn a_stale_socket_is_replaced_and_anything_else_in_its_place_is_not() {
    let mut daemon = Daemon::start(1);
    daemon.kill_all();
    assert!(daemon.socket().exists(), "it is stale now");
    daemon.restart();
    daemon.ok(&["ping"]);
    let setup = Setup::new();
    let file = setup.dir().join("socket");
    fs::write(&file, "precious").unwrap();
    assert_says(&run(&mut setup.command()), 1, &[file.to_str().unwrap(), "no socket"]);
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let mut daemon = Daemon::start(1);
    daemon.submit(&["--", "true"]);
    daemon.ok(&["wait", "1"]);
    daemon.ok(&["shutdown", "--now"]);
    daemon.wait();
    let file = daemon.state_dir().join("poold.db");
    fs::write(&file, "rubbish").unwrap();
    let mut command = Command::new(poold());
    command.arg("--socket").arg(daemon.socket()).arg("--state-dir").arg(daemon.state_dir());
    assert_says(&run(&mut command), 1, &["poold.db", "damaged or no database", "backup"]);
    assert_eq!(fs::read(&file).unwrap(), b"rubbish");
}

#[test]
fn an_output_nobody_reads_any_more_ends_poolctl_as_it_would_a_command() {
    let daemon = Daemon::start(1);
    let script = "i=0; while :; do echo line $i; i=$((i+1)); done";
    let pipe = format!(
        "{} --socket {} submit --wait -- sh -c '{script}' | head -1",
        poolctl().display(),
        daemon.socket().display()
    );
    assert_eq!(run(Command::new("sh").args(["-c", &pipe])).stdout, "line 0\n");
    let record = daemon.wait_record(1, "it has ended", |record| record.state.is_terminal());
    assert_eq!(record.signal, Some(13), "as in place, where its writes would have failed");
    let pipe = format!("{} --socket {} logs -f 1 | head -1", poolctl().display(), daemon.socket().display());
    assert_eq!(run(Command::new("sh").args(["-c", &pipe])).stdout, "line 0\n");
    for _ in 0..300 {
        daemon.submit(&["--", "true"]);
    }
    let pipe = format!("{} --socket {} ls | head -1", poolctl().display(), daemon.socket().display());
    let said = run(Command::new("sh").args(["-c", &pipe]));
    assert_eq!((said.stdout.lines().count(), said.stderr.as_str()), (1, ""));
}

#[test]
fn refusals_name_what_is_on_the_command_line_and_what_to_do() {
    let daemon = Daemon::start(1);
    let cases: [(&[&str], i32, &str); 5] = [
        (&["pool", "add", "callbacks", "--", "cat"], 125, "poolctl: a pool cannot be named \"callbacks\""),
        (&["pool", "add", "a b", "--", "cat"], 125, "poolctl: a pool cannot be named \"a b\": use letters"),
        (&["pool", "restart", "default"], 125, "poolctl: the pool \"default\" has no resident program"),
        (&["submit", "--name=", "true"], 2, "write a name, or leave the option out"),
        (&["call", "default", "m"], 125, "poolctl: the method: "),
    ];
    for (arguments, code, message) in cases {
        let said = daemon.run(arguments);
        assert!(said.code == code && said.stderr.contains(message), "{arguments:?}: {said:?}");
    }

    if !is_root_or_skip("become a user without an account") {
        return;
    }
    let setup = Setup::new().user(54_321);
    let mut poold = setup.program("poold");
    let said = run(poold.env("HOME", "here").env_remove("XDG_STATE_HOME"));
    let wanted = "HOME is \"here\", which is no absolute path: set HOME to a whole path";
    assert!(said.code == 1 && said.stderr.contains(wanted), "{said:?}");
}

#[test]
fn numbers_and_times_that_cannot_be_are_refused_with_what_to_do() {
    let daemon = Setup::new().workers(1).start();
    for (arguments, code, told) in [
        (&["limit", "set", "gpu", "99999999999"][..], 2, "99999999999: write 4294967295 or less"),
        (&["limit", "set", "gpu", "0"], 2, "0: write 1 or more"),
        (&["pool", "set", "default", "--workers", "0"], 2, "--workers 0: write 1 or more"),
        (&["pool", "set", "default", "--workers", "5000"], 125, "from 1 to 4096"),
        (&["hold", "1-99999999999"], 2, "names more than 1000000 ids: name fewer at once, as 1-1000000"),
        (&["hold", "9-3"], 2, "write the smaller id first, 3-9"),
        (
            &["schedule", "add", "s", "--cron", "@reboot", "--", "true"],
            125,
            "\"@reboot\" names no times: write @hourly",
        ),
    ] {
        assert_says(&daemon.run(arguments), code, &[told]);
    }
    assert_eq!(daemon.ok(&["schedule", "ls"]).lines().count(), 1);
}
