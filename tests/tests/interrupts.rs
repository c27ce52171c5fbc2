//! What users see of signals to a poolctl that waits, and of a poolctl that has to start the daemon itself.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::{
    Cleanup, Daemon, Setup, alive, blocks, handles, is_root_or_skip, line_of, run, send, wait_until,
};

/// A blocking submit whose job is up.
fn waiting(daemon: &Daemon, script: &str) -> Child {
    let ready = daemon.path_text("ready");
    let _ = fs::remove_file(&ready);
    let script = format!("{script}\necho $$ >{ready}; while :; do sleep 0.02; done");
    let mut client = daemon.ctl(&["submit", "--wait", "--kill-after", "100ms", "--", "sh", "-c", &script]);
    let client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    line_of(ready.as_ref());
    client
}

fn pid(client: &Child) -> i32 {
    i32::try_from(client.id()).unwrap()
}

/// Sends a signal again and again until the client has taken it over: before, it does what it always does,
/// which ends the test.
fn interrupt(daemon: &Daemon, client: &Child, signal: Signal) {
    wait_until("the client has taken over its signals", || handles(pid(client), signal));
    assert!(daemon.client().request(&pool_proto::methods::Ping {}).is_ok());
    send(pid(client), signal);
}

#[test]
fn the_first_interrupt_goes_to_the_job() {
    let daemon = Daemon::start(1);
    let mut client = waiting(&daemon, "trap 'exit 42' INT");
    interrupt(&daemon, &client, Signal::SIGINT);
    assert_eq!(client.wait().unwrap().code(), Some(42));
    let mut client = waiting(&daemon, "");
    interrupt(&daemon, &client, Signal::SIGINT);
    assert_eq!(client.wait().unwrap().code(), Some(128 + 2), "as if it had been run in place");
}

#[test]
fn the_second_interrupt_ends_the_job_whatever_it_does() {
    let daemon = Daemon::start(1);
    let noticed = daemon.path_text("noticed");
    let mut client = waiting(&daemon, &format!("trap 'echo >{noticed}' INT; trap '' TERM"));
    interrupt(&daemon, &client, Signal::SIGINT);
    line_of(noticed.as_ref());
    send(pid(&client), Signal::SIGINT);
    assert_eq!(client.wait().unwrap().code(), Some(128 + 9));
    assert_eq!(daemon.record(1).state, State::Canceled);
}

#[test]
fn a_termination_goes_to_the_job() {
    let daemon = Daemon::start(1);
    let mut client = waiting(&daemon, "trap 'exit 43' TERM");
    interrupt(&daemon, &client, Signal::SIGTERM);
    assert_eq!(client.wait().unwrap().code(), Some(43));
}

#[test]
fn an_interrupt_reaches_the_job_though_nobody_reads_its_output() {
    let daemon = Daemon::start(1);
    let mut client =
        daemon.ctl(&["submit", "--wait", "--", "sh", "-c", "head -c 3000000 /dev/zero; exec sleep 600"]);
    let mut client = client.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let record = daemon.wait_record(1, "it runs", |record| record.state == State::Running);
    wait_until("there is more output than a pipe holds", || {
        fs::metadata(record.stdout.as_ref().unwrap().path.to_path()).is_ok_and(|file| file.len() == 3_000_000)
    });
    interrupt(&daemon, &client, Signal::SIGINT);
    daemon.wait_record(1, "it has been interrupted", |record| record.signal == Some(2));
    let mut output = Vec::new();
    std::io::Read::read_to_end(client.stdout.as_mut().unwrap(), &mut output).unwrap();
    assert_eq!((output.len(), client.wait().unwrap().code()), (3_000_000, Some(128 + 2)));
}

#[test]
fn an_interrupt_while_the_job_is_queued_cancels_it() {
    let daemon = Daemon::start(1);
    let blocker = daemon.submit_sh("exec sleep 600");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut client =
            daemon.ctl(&["submit", "--wait", "--", "true"]).stderr(Stdio::null()).spawn().unwrap();
        interrupt(&daemon, &client, signal);
        assert_eq!(client.wait().unwrap().code(), Some(125));
    }
    for id in [2, 3] {
        let record = daemon.record(id);
        assert_eq!((record.state, record.attempt), (State::Canceled, 0));
    }
    daemon.wait_record(blocker, "it runs", |record| record.state == State::Running);
}

#[test]
fn a_hangup_leaves_the_job_alone() {
    let daemon = Daemon::start(1);
    let mut client = waiting(&daemon, "");
    let job: i32 = line_of(&daemon.path("ready")).parse().unwrap();
    send(pid(&client), Signal::SIGHUP);
    assert_eq!(client.wait().unwrap().signal(), Some(1));
    daemon.ok(&["ping"]);
    assert!(alive(job));
    daemon.wait_record(1, "it runs", |record| record.state == State::Running);
}

#[test]
fn interrupting_logs_and_wait_leaves_the_job_alone() {
    let daemon = Daemon::start(1);
    let id = daemon.submit_sh("echo line; exec sleep 600").to_string();
    for arguments in [["logs", "-f", &id], ["wait", "--any", &id]] {
        let mut client = daemon.ctl(&arguments).stdout(Stdio::null()).spawn().unwrap();
        send(pid(&client), Signal::SIGINT);
        client.wait().unwrap();
    }
    daemon.wait_record(1, "it runs", |record| record.state == State::Running);
}

#[test]
fn poolctl_starts_the_users_own_daemon() {
    if !is_root_or_skip("become a user with an empty home") {
        return;
    }
    let setup = Setup::new().user(54_323);
    let home = setup.dir().to_str().unwrap().to_owned();
    let runtime = format!("{home}/runtime");
    let mark = format!("auto-start-{}", std::process::id());
    let _cleanup = Cleanup(mark.clone());
    fs::create_dir(&runtime).unwrap();
    std::os::unix::fs::chown(&runtime, Some(54_323), None).unwrap();
    let ctl = |arguments: &[&str]| {
        let mut command = setup.program("poolctl");
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &home);
        command.env(pool_tests::MARK, &mark).env("XDG_RUNTIME_DIR", &runtime).current_dir("/");
        run(&mut command)
    };
    let first = ctl(&["submit", "--wait", "--", "uname", "-s"]);
    assert_eq!((first.code, first.stdout.as_str()), (0, "Linux\n"), "{first:?}");
    assert!(first.stderr.contains("started poold, socket"), "{first:?}");
    let second = ctl(&["submit", "--wait", "--", "sh", "-c", "echo $POOL_SOCKET; exit 7"]);
    assert_eq!((second.code, second.stderr.as_str()), (7, ""), "{second:?}");
    assert_eq!(second.stdout.trim(), format!("{runtime}/poold/poold.sock"));
    assert!(fs::exists(format!("{home}/.local/state/poold/poold.db")).unwrap());

    // Ten at once on a machine where none runs: one daemon, and everybody is served.
    assert_eq!(ctl(&["shutdown", "--drain"]).code, 0);
    std::thread::scope(|scope| {
        let said: Vec<_> =
            (0..10).map(|_| scope.spawn(|| ctl(&["submit", "--wait", "--", "echo", "hello"]))).collect();
        for said in said {
            let said = said.join().unwrap();
            assert_eq!((said.code, said.stdout.as_str()), (0, "hello\n"), "{said:?}");
        }
    });
    assert_eq!(ctl(&["--no-start", "shutdown", "--now"]).code, 0);
    wait_until("nothing is left", || pool_tests::marked(&mark).is_empty());
    let said = ctl(&["--no-start", "ls"]);
    assert_eq!(said.code, 125, "{said:?}");
}

#[test]
fn a_daemonized_poold_writes_its_pid_and_lets_its_terminal_go() {
    let setup = Setup::new().argument("--daemonize").argument("--pid-file");
    let pid_file = setup.dir().join("pid");
    let setup = setup.argument(pid_file.to_str().unwrap());
    let said = run(&mut setup.command());
    assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{said:?}");
    let ctl = |arguments: &[&str]| {
        let mut command = Command::new(pool_tests::poolctl());
        run(command.arg("--no-start").arg("--socket").arg(setup.dir().join("socket")).args(arguments))
    };
    // It is ready when the command has returned.
    assert_eq!(ctl(&["ping"]).code, 0);
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(fields[4], "0", "it has no terminal");
    assert_eq!(ctl(&["submit", "--wait", "--", "sh", "-c", "exit 5"]).code, 5);
    send(pid, Signal::SIGTERM);
    wait_until("it has ended", || !alive(pid));
    assert!(fs::read_to_string(setup.dir().join("state/poold.log")).unwrap().contains("ended in order"));
}

/// A submission by `arguments` that poold has got, and cannot reply to.
fn unanswered(daemon: &Daemon, arguments: &[&str]) -> Child {
    send(daemon.supervisor(), Signal::SIGSTOP);
    let mut client = daemon.ctl(arguments);
    let client = client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the client holds signals back", || blocks(pid(&client), "poolctl", Signal::SIGINT));
    client
}

const ENDING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

#[test]
fn no_signal_before_the_reply_loses_an_id() {
    let daemon = Daemon::start(1);
    let jobs = daemon.path_text("jobs");
    fs::write(&jobs, "{\"argv\":[\"true\"]}\n{\"argv\":[\"true\"]}\n").unwrap();

    let mut id = 0;
    for signal in ENDING {
        for (arguments, ids) in [
            (&["submit", "true"][..], format!("{}\n", id + 1)),
            (&["submit", "--from", &jobs], format!("{}\n{}\n", id + 2, id + 3)),
            (&["--json", "submit", "true"], format!("{{\"id\":{},\"schema\":1}}\n", id + 4)),
        ] {
            let client = unanswered(&daemon, arguments);
            send(pid(&client), signal);
            send(daemon.supervisor(), Signal::SIGCONT);
            let output = client.wait_with_output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), ids, "{signal}, {arguments:?}");
            assert_eq!(output.status.signal(), Some(signal as i32), "{arguments:?}");
        }
        id += 4;
    }
}

#[test]
fn a_hangup_before_the_reply_names_the_job_that_goes_on() {
    let daemon = Daemon::start(1);
    for (signal, id) in [(Signal::SIGHUP, 1), (Signal::SIGQUIT, 2)] {
        let client = unanswered(&daemon, &["run", "--", "sleep", "600"]);
        send(pid(&client), signal);
        send(daemon.supervisor(), Signal::SIGCONT);
        let output = client.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.signal(), Some(signal as i32), "{stderr}");
        assert!(stderr.contains(&format!("job {id} was accepted and goes on")), "{stderr}");
        daemon.wait_record(id, "it goes on", |record| record.state == State::Running);
        daemon.ok(&["cancel", &id.to_string()]);
    }
}

#[test]
fn an_ignored_signal_stays_ignored() {
    use std::os::unix::process::CommandExt;

    use nix::sys::signal::{SigHandler, signal};

    let daemon = Daemon::start(1);
    for arguments in [&["submit", "true"][..], &["run", "true"]] {
        send(daemon.supervisor(), Signal::SIGSTOP);
        let mut client = daemon.ctl(arguments);
        let ignore = || {
            // SAFETY: to ignore a signal runs no code.
            ENDING.iter().try_for_each(|&it| unsafe { signal(it, SigHandler::SigIgn) }.map(drop))?;
            Ok(())
        };
        // SAFETY: between fork and exec there are only system calls.
        unsafe { client.pre_exec(ignore) };
        let client = client.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        wait_until("it waits for the reply", || blocks(pid(&client), "poolctl", Signal::SIGHUP));
        ENDING.iter().for_each(|&it| send(pid(&client), it));
        send(daemon.supervisor(), Signal::SIGCONT);
        assert_eq!(client.wait_with_output().unwrap().status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn an_interrupt_before_the_reply_goes_to_the_job() {
    let daemon = Daemon::start(1);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let client = unanswered(&daemon, &["run", "--", "sleep", "600"]);
        send(pid(&client), signal);
        send(daemon.supervisor(), Signal::SIGCONT);
        // It may have been told before it had started.
        let code = client.wait_with_output().unwrap().status.code();
        assert!(code == Some(128 + signal as i32) || code == Some(125), "{code:?}");
    }
    assert!((1..=2).all(|id| daemon.record(id).state.is_terminal()));
}

#[test]
fn an_interrupt_ends_a_client_whom_nobody_answers() {
    let daemon = Daemon::start(1);
    for arguments in [&["submit", "true"][..], &["run", "true"]] {
        let client = unanswered(&daemon, arguments);
        send(pid(&client), Signal::SIGINT);
        let output = client.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.signal(), Some(2), "{stderr}");
        assert!(stderr.contains("it is not known whether the job was accepted"), "{stderr}");
    }
    send(daemon.supervisor(), Signal::SIGCONT);
}

#[test]
fn a_job_that_writes_for_nobody_is_canceled() {
    let daemon = Daemon::start(2);
    // As Python does it; and one that only takes its time.
    let endless = "trap '' PIPE; while :; do echo y; sleep 0.01; done";
    let go = daemon.path_text("go");
    let slow = format!("trap 'echo last' PIPE; echo y; until [ -e {go} ]; do sleep 0.05; done; exit 5");
    let start = |script: &str| {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut client = daemon.ctl(&["run", "--kill-after", "100ms", "--", "bash", "-c", script]);
        let client = client.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        drop(reader);
        client
    };

    let slow = start(&slow);
    wait_until("the slow one is job 1", || daemon.run(&["show", "1"]).code == 0);
    let output = start(endless).wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("goes on writing what nobody reads"), "{stderr}");
    daemon.wait_record(2, "is canceled", |record| record.state == State::Canceled);

    // That took longer than the patience with the other one.
    fs::write(&go, "").unwrap();
    assert_eq!(slow.wait_with_output().unwrap().status.code(), Some(5));
}

#[test]
fn a_small_stack_is_enough() {
    let daemon = Daemon::start(1);
    let limited = |arguments: &[&str]| {
        let ctl = daemon.ctl(arguments);
        let mut command = Command::new("prlimit");
        command.arg("--stack=65536:").arg(ctl.get_program()).args(ctl.get_args());
        command.env_remove("POOL_SOCKET").env(pool_tests::MARK, daemon.mark());
        command
    };
    assert_eq!(run(&mut limited(&["submit", "true"])).stdout, "1\n");
    assert_eq!(run(&mut limited(&["run", "sh", "-c", "exit 3"])).code, 3);

    // Signals are held back as ever.
    send(daemon.supervisor(), Signal::SIGSTOP);
    let client = limited(&["submit", "true"]).stdout(Stdio::piped()).spawn().unwrap();
    wait_until("the client holds signals back", || {
        let tasks = fs::read_dir(format!("/proc/{}/task", client.id())).into_iter().flatten();
        let mut tasks = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse::<i32>().ok());
        // The thread that waits for the other one blocks all of them.
        let blocks = |task, signal| blocks(task, "poolctl", signal);
        tasks.any(|task| blocks(task, Signal::SIGINT) && !blocks(task, Signal::SIGUSR1))
    });
    send(pid(&client), Signal::SIGINT);
    send(daemon.supervisor(), Signal::SIGCONT);
    let output = client.wait_with_output().unwrap();
    assert_eq!((output.stdout.as_slice(), output.status.signal()), (&b"3\n"[..], Some(2)));
}

#[test]
fn a_signal_ends_the_whole_of_an_array() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let daemon = Daemon::start(2);
        let mut client = daemon.ctl(&["run", "--array", "0-5", "--", "sleep", "1000"]);
        let mut client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        daemon.wait_record(2, "an element runs", |record| record.state == State::Running);
        interrupt(&daemon, &client, signal);
        assert_eq!(client.wait().unwrap().code(), Some(code));
        let array = daemon.record(1);
        assert_eq!((array.state, array.array.unwrap().canceled), (State::Canceled, Some(6)));
    }
}
