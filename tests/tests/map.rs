//! What users see of `map`: a command for each of many items.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::{Daemon, MARK, Said, Setup, handles, line_of, run, send, wait_until};

/// With these lines on its stdin.
fn fed(daemon: &Daemon, arguments: &[&str], input: &[u8]) -> Said {
    let path = daemon.path("input");
    fs::write(&path, input).unwrap();
    let mut command = daemon.ctl(arguments);
    let child = command
        .stdin(File::open(&path).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

fn pid(client: &Child) -> i32 {
    i32::try_from(client.id()).unwrap()
}

fn lines(daemon: &Daemon, name: &str) -> Vec<String> {
    fs::read_to_string(daemon.path(name)).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
}

/// How many jobs are in that state.
fn jobs(daemon: &Daemon, state: &str) -> usize {
    let listed: serde_json::Value =
        serde_json::from_str(&daemon.ok(&["--json", "ls", "--state", state])).unwrap();
    listed["jobs"].as_array().unwrap().len()
}

/// A shell's loop that ends when there is such a file.
fn until(path: &str) -> String {
    format!("while ! [ -e {path} ]; do sleep 0.02; done")
}

#[test]
fn items_come_from_the_command_line_from_a_file_or_from_stdin() {
    let daemon = Daemon::start(2);
    assert_eq!(daemon.ok(&["map", "-k", "echo", "x", ":::", "a b", "", "c"]), "x a b\nx \nx c\n");
    assert_eq!(fed(&daemon, &["map", "-k", "--", "echo"], b"a\n\nlast").stdout, "a\n\nlast\n");
    assert_eq!(fed(&daemon, &["map", "-k", "-a", "-", "--", "echo"], b"a\n").stdout, "a\n");
    assert_eq!(fed(&daemon, &["map", "-k", "-0", "--", "printf", "<%s>"], b"a\nb\0c\0").stdout, "<a\nb><c>");
    let file = daemon.path_text("input");
    fs::write(&file, "from a file\n").unwrap();
    assert_eq!(daemon.ok(&["map", "--arg-file", &file, "echo"]), "from a file\n");
    let nothing = fed(&daemon, &["map", "--", "false"], b"");
    assert_eq!((nothing.code, nothing.stdout.as_str(), nothing.stderr.as_str()), (0, "", ""));
}

#[test]
fn the_item_takes_its_place_and_no_shell_sees_it() {
    let daemon = Daemon::start(2);
    let said = daemon.ok(&["map", "-k", "--", "echo", "{#}:{}", "{}.old", ":::", "$HOME", "{#}"]);
    assert_eq!(said, "1:$HOME $HOME.old\n2:{#} {#}.old\n");
    assert_eq!(daemon.ok(&["map", "echo", "{#}", ":::", "a"]), "1\n");
    let options =
        ["map", "-n", "n", "-E", "V=w", "-C", "/", "sh", "-c", "echo $POOL_NAME $V $PWD {}", ":::", "i"];
    assert_eq!(daemon.ok(&options), "n w / i\n");
}

#[test]
fn items_of_several_sources_are_all_combinations() {
    let daemon = Daemon::start(2);
    let said = daemon.ok(&["map", "-k", "--tag", "echo", "<{}>", ":::", "a", "b", ":::", "1", "2"]);
    assert_eq!(said, "a 1\t<a 1>\na 2\t<a 2>\nb 1\t<b 1>\nb 2\t<b 2>\n");
    // By themselves the values are arguments, one each.
    assert_eq!(daemon.ok(&["map", "-k", "printf", "[%s]", ":::", "a b", ":::", "c"]), "[a b][c]");
    assert_eq!(
        daemon.ok(&["map", "-k", "echo", "{2}-{1}{#}", ":::", "a", "b", ":::+", "1", "2"]),
        "1-a1\n2-b2\n"
    );

    let file = daemon.path_text("names");
    fs::write(&file, b"d/x.c\nd/caf\xe9.h\n").unwrap();
    let said = fed(&daemon, &["map", "-k", "echo", "{1/.} {2//}", "::::", &file, "-"], b"a/b\nc\n").stdout;
    assert_eq!(said, "x a\nx .\ncaf\u{fffd} a\ncaf\u{fffd} .\n");

    let columns = ["map", "-k", "--colsep", r"\t", "--", "echo", "{2},{1},{3}"];
    assert_eq!(fed(&daemon, &columns, b"a\tb\nc\td\te\n").stdout, "b,a,\nd,c,e\n");
    // What is no place of a value stays as it is.
    assert_eq!(daemon.ok(&["map", "echo", "{2} ${3}", "{}", ":::", "a"]), "{2} ${3} a\n");
}

#[test]
fn a_dry_run_shows_the_commands_and_runs_none() {
    let daemon = Daemon::start(1);
    let marked = daemon.path_text("marked");
    let said = daemon.ok(&["map", "--dry-run", "--", "touch", &marked, "{}", ":::", "a b", "$x"]);
    assert_eq!(said, format!("touch {marked} 'a b'\ntouch {marked} '$x'\n"));
    let said = daemon.ok(&["--json", "map", "--dry-run", "-p", "p", "--", "echo", "{#}", ":::", "a"]);
    assert_eq!(said, "{\"argv\":[\"echo\",\"1\"],\"pool\":\"p\"}\n");
    let call = daemon.run(&["map", "--dry-run", "--call", "p", "m", ":::", "1", "x", ":::", "\"y\""]);
    assert_eq!((call.code, call.stdout.as_str()), (1, "poolctl call -- p m 1 '\"y\"'\n"));
    assert!(call.stderr.contains("item 2 (x \"y\") is no JSON value"), "{call:?}");
    assert!(!daemon.path("marked").exists() && daemon.ok(&["--json", "ls"]).contains("\"jobs\":[]"));
}

#[test]
fn items_in_random_order_are_all_run() {
    let daemon = Daemon::start(2);
    let items: String = (100..200).map(|number| format!("{number}\n")).collect();
    let said = fed(&daemon, &["map", "-k", "--shuf", "--", "echo"], items.as_bytes()).stdout;
    assert_ne!(said, items);
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, items.lines().collect::<Vec<_>>());
}

#[test]
fn so_many_of_a_map_run_at_a_time() {
    let daemon = Daemon::start(4);
    fs::create_dir(daemon.path("running")).unwrap();
    let script = format!(
        "cd {}; touch running/$1; ls running | wc -l >> counts; {}; rm running/$1",
        daemon.path_text("."),
        until("go")
    );
    let arguments = ["map", "-j", "2", "--", "sh", "-c", &script, "sh", "{}", ":::", "1", "2", "3", "4", "5"];
    let mut map = daemon.ctl(&arguments).spawn().unwrap();
    wait_until("two run", || lines(&daemon, "counts").len() == 2);
    // A start is told a little later than it is seen.
    wait_until("two are told to run", || (jobs(&daemon, "running"), jobs(&daemon, "queued")) == (2, 0));
    fs::write(daemon.path("go"), "").unwrap();
    assert_eq!(map.wait().unwrap().code(), Some(0));
    let counts: Vec<usize> =
        lines(&daemon, "counts").iter().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!((counts.len(), counts.iter().max()), (5, Some(&2)));
}

#[test]
fn a_delay_keeps_submissions_apart() {
    let daemon = Daemon::start(2);
    let start = Instant::now();
    assert_eq!(daemon.ok(&["map", "-k", "--delay", "0.2", "echo", ":::", "1", "2", "3"]), "1\n2\n3\n");
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
}

#[test]
fn the_job_log_is_one_of_gnu_parallel() {
    let daemon = Daemon::start(1);
    let log = daemon.path_text("joblog");
    let script = "case $1 in ok) printf 12345;; term) kill -TERM $$;; *) exit $1;; esac";
    let run = |log: &str, items: &[&str]| {
        let common = ["map", "-k", "--joblog", log, "--", "sh", "-c", script, "sh", "{}", ":::"];
        daemon.run(&[&common, items].concat())
    };
    assert_eq!(run(&log, &["ok", "7", "term"]).code, 1);
    assert_eq!(run(&format!("+{log}"), &["a\nb"]).code, 1);

    let rows: Vec<Vec<String>> = lines(&daemon, "joblog")
        .iter()
        .map(|line| line.split('\t').map(ToOwned::to_owned).collect())
        .collect();
    let names = ["Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command"];
    assert_eq!((rows[0].as_slice(), rows.len()), (names.map(ToOwned::to_owned).as_slice(), 5));

    let mut told: Vec<[&str; 5]> =
        rows[1..].iter().map(|row| [0, 1, 5, 6, 7].map(|it| row[it].as_str())).collect();
    // Ends that come at the same time may be heard in another order.
    told[..3].sort_unstable();
    let wanted = [
        ["1", ":", "5", "0", "0"],
        ["2", ":", "0", "7", "0"],
        ["3", ":", "0", "0", "15"],
        ["1", ":", "0", "2", "0"],
    ];
    assert_eq!(told, wanted);
    for row in &rows[1..] {
        let (start, runtime): (f64, f64) = (row[2].parse().unwrap(), row[3].trim().parse().unwrap());
        assert!(start > 1.7e9 && (0.0..60.0).contains(&runtime), "{row:?}");
    }
    assert!(rows[2][8].ends_with("sh 7") && rows[2][8].starts_with("sh -c 'case"), "{rows:?}");
}

#[test]
fn output_comes_as_jobs_end_or_in_the_order_of_the_items() {
    let daemon = Daemon::start(2);
    let script = format!(
        "[ {{}} = b ] && touch {0}; {1}; [ {{}} = a ] && {2}; echo {{}}",
        daemon.path_text("b"),
        until(&daemon.path_text("b")),
        {
            // The first one ends after the second, and is known to.
            until(&daemon.path_text("a"))
        }
    );
    for (order, expected) in [(&["map"][..], ["b", "a"]), (&["map", "-k"], ["a", "b"])] {
        for name in ["a", "b"] {
            let _ = fs::remove_file(daemon.path(name));
        }
        let mut client = daemon.ctl(&[order, &["sh", "-c", &script, ":::", "a", "b"]].concat());
        let client = client.stdout(Stdio::piped()).spawn().unwrap();
        wait_until("the second has ended", || jobs(&daemon, "succeeded") % 2 == 1);
        fs::write(daemon.path("a"), "").unwrap();
        let output = client.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn output_is_never_mixed_within_a_job_and_may_be_tagged() {
    let daemon = Daemon::start(2);
    // Each waits for the other before each line.
    let dir = daemon.path_text("");
    let script = format!(
        "cd {dir}; for i in 1 2 3; do echo $i; touch {{}}$i; [ -e x$i -a -e y$i ] || {}; done; printf end",
        { "while ! [ -e x$i -a -e y$i ]; do sleep 0.01; done" }
    );
    let said = daemon.run(&["map", "-k", "--tag", "--", "sh", "-c", &script, ":::", "x", "y"]);
    let expected: String = ["x", "y"]
        .map(|item| ["1", "2", "3", "end"].map(|line| format!("{item}\t{line}\n")).concat())
        .concat();
    assert_eq!((said.code, said.stdout), (0, expected));
    let said = daemon.run(&["map", "--tag", "--", "sh", "-c", "echo out; echo err >&2", ":::", "a"]);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("a\tout\n", "a\terr\n"));
}

#[test]
fn long_output_comes_whole_however_slowly_it_is_read() {
    let daemon = Daemon::start(2);
    let script = "head -c 700000 /dev/zero | tr '\\0' {}";
    let items = ["1", "2", "3", "4", "5", "6"];
    let mut client = daemon.ctl(&[&["map", "-k", "sh", "-c", script, ":::"][..], &items].concat());
    let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
    wait_until("all have ended", || jobs(&daemon, "succeeded") == items.len());
    let mut output = Vec::new();
    client.stdout.as_mut().unwrap().read_to_end(&mut output).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(0));
    let expected: Vec<u8> = items.iter().flat_map(|item| vec![item.as_bytes()[0]; 700_000]).collect();
    assert!(output == expected, "{} bytes", output.len());
}

#[test]
fn the_exit_code_tells_of_failures_and_counts_them_when_asked() {
    let daemon = Daemon::start(2);
    let said = daemon.run(&["map", "-k", "sh", "-c", "echo {}; exit {}", ":::", "0", "3", "0"]);
    assert_eq!((said.code, said.stdout.as_str()), (1, "0\n3\n0\n"));
    assert_eq!(said.stderr, "poolctl: 1 of 3 failed; first job 2 (3), exit code 3\n");
    assert_eq!(daemon.run(&["map", "--fail-count", "sh", "-c", "exit {}", ":::", "0", "3", "4"]).code, 2);
    let many = "false\n".repeat(105);
    assert_eq!(fed(&daemon, &["map", "--fail-count", "--", "sh", "-c"], many.as_bytes()).code, 101);
    let said = daemon.run(&["map", "--", "/no/such/command", ":::", "a"]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("cannot execute \"/no/such/command\""), "{said:?}");
    let said = daemon.run(&["map", "--timeout", "50ms", "--", "sleep", ":::", "600"]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("timed out"), "{said:?}");
}

#[test]
fn halting_soon_waits_for_what_runs_and_halting_now_ends_it() {
    let daemon = Daemon::start(2);
    let slow = daemon.path_text("slow");
    let go = daemon.path_text("go");
    // The first one runs when the second one fails.
    let script = format!(
        "case {{}} in 1) touch {slow}; {}; echo whole;; 2) {}; exit 7;; *) sleep 600;; esac",
        until(&go),
        until(&slow)
    );
    let map =
        |options: &[&str]| daemon.ctl(&[&["map"], options, &["sh", "-c", &script, ":::", "1", "2"]].concat());
    let mut client =
        map(&["--halt", "soon,fail=1"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    daemon.wait_record(2, "it fails", |record| record.state == State::Failed);
    fs::write(&go, "").unwrap();
    let mut output = String::new();
    client.stdout.as_mut().unwrap().read_to_string(&mut output).unwrap();
    assert_eq!((client.wait().unwrap().code(), output.as_str()), (Some(7), "whole\n"));

    for options in [["--halt", "now,fail=1"], ["--max-fails", "0"]] {
        fs::remove_file(&slow).unwrap();
        let _ = fs::remove_file(&go);
        let said = run(&mut map(&options));
        assert_eq!((said.code, said.stdout.as_str()), (7, ""), "{said:?}");
        assert!(said.stderr.contains("1 of 1 failed"), "what was canceled has not failed: {said:?}");
    }
    assert_eq!((jobs(&daemon, "canceled"), jobs(&daemon, "failed")), (2, 3));

    // Nothing more is submitted.
    let items = "1\n".repeat(200);
    let said = fed(&daemon, &["map", "--halt", "soon,done=3", "--", "echo"], items.as_bytes());
    let count = said.stdout.lines().count();
    assert!(said.code == 0 && (3..100).contains(&count), "{count} ran: {}", said.stderr);
    let said = daemon.run(&[
        "map",
        "--halt",
        "now,success=1",
        "--",
        "sh",
        "-c",
        "{}",
        ":::",
        "false",
        "true",
        "exec sleep 600",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(daemon.run(&["map", "--halt", "now", "true", ":::", "a"]).code, 2);
}

#[test]
fn input_is_read_no_further_than_it_is_needed() {
    let daemon = Daemon::start(2);
    let go = daemon.path_text("go");
    let (end, mut ours) = std::io::pipe().unwrap();
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut client = daemon.ctl(&["map", "-k", "--", "sh", "-c", &format!("{}; echo $1", until(&go)), "sh"]);
    let client = client.stdin(OwnedFd::from(end)).stdout(Stdio::piped()).spawn().unwrap();
    let mut expected = String::new();
    let mut write_all_that_goes = || {
        for number in 0.. {
            let line = format!("{number:0>1000}\n");
            match ours.write(line.as_bytes()) {
                Ok(count) if count == line.len() => expected.push_str(&line),
                Ok(count) => panic!("{count} bytes of a line that is shorter than PIPE_BUF"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    };
    write_all_that_goes();
    wait_until("all slots are taken", || jobs(&daemon, "running") == 2);
    wait_until("jobs wait for a slot", || jobs(&daemon, "queued") >= 2);
    // What has been read has left room in the pipe, once.
    write_all_that_goes();
    let total = jobs(&daemon, "running") + jobs(&daemon, "queued");
    assert!(total <= 2 * 2 + 24, "{total} jobs in flight");
    assert!(expected.len() <= 3 * 64 * 1024, "{} bytes were taken", expected.len());
    drop(ours);
    fs::write(&go, "").unwrap();
    let output = client.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout) == expected);
}

#[test]
fn jobs_of_a_map_that_dies_end_unless_it_can_be_resumed() {
    let daemon = Daemon::start(1);
    for (options, state) in [(&["map"][..], State::Canceled), (&["map", "--resume", "m"], State::Succeeded)] {
        let (up, go) = (daemon.path("up"), daemon.path_text("go"));
        let script = format!("echo >{}; {}", up.display(), until(&go));
        let mut client = daemon.ctl(&[options, &["sh", "-c", &script, ":::", "a"]].concat()).spawn().unwrap();
        line_of(&up);
        client.kill().unwrap();
        client.wait().unwrap();
        if state == State::Succeeded {
            fs::write(&go, "").unwrap();
        }
        let id = if state == State::Succeeded { 2 } else { 1 };
        daemon.wait_record(id, "its end", |record| record.state == state);
        fs::remove_file(&up).unwrap();
    }
}

#[test]
fn a_map_that_was_cut_off_goes_on_by_item() {
    let daemon = Daemon::start(2);
    let (runs, stop) = (daemon.path_text("runs"), daemon.path_text("stop"));
    // "f" fails the first time; "s" keeps the first run from its end.
    let script = format!(
        "echo {{}} >>{runs}; case {{}} in f) [ $(grep -c f {runs}) -ge 2 ] || exit 1;; s) {};; esac; echo out {{}}",
        until(&stop)
    );
    let map = |items: &[&str]| {
        daemon.ctl(&[&["map", "-k", "--resume", "m", "sh", "-c", &script, ":::"], items].concat())
    };
    let mut client = map(&["a", "f", "b", "a", "s", "c"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(client.stdout.take().unwrap());
    let mut line = String::new();
    for expected in ["out a\n", "out b\n", "out a\n"] {
        line.clear();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, expected);
    }
    client.kill().unwrap();
    client.wait().unwrap();
    fs::write(&stop, "").unwrap();
    wait_until("what was in flight has ended", || jobs(&daemon, "running") + jobs(&daemon, "queued") == 0);

    let said = run(&mut map(&["d", "c", "a", "b", "s", "a", "a", "f"]));
    let expected = ["d", "c", "a", "b", "s", "a", "a", "f"].map(|item| format!("out {item}\n")).concat();
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, expected.as_str(), ""));
    let mut ran = lines(&daemon, "runs");
    ran.sort_unstable();
    assert_eq!(ran, ["a", "a", "a", "b", "c", "d", "f", "f", "s"], "what has succeeded is not run again");

    // The same name for something else is not silently the same.
    let said = daemon.run(&["map", "--resume", "m", "echo", ":::", "a"]);
    assert_eq!(said.stdout, "out a\n");
    assert!(said.stderr.contains("in an earlier run, with another command"), "{said:?}");
}

#[test]
fn a_map_outlives_its_poold() {
    let mut daemon = Setup::new().config("crash_limit = 100").start();
    let items: String = (0..300).map(|number| format!("{number}\n")).collect();
    fs::write(daemon.path("items"), &items).unwrap();
    for resume in [&[][..], &["--resume", "m"]] {
        let before = jobs(&daemon, "succeeded");
        let file = daemon.path_text("items");
        let mut client = daemon.ctl(&[&["map", "-k", "-a", &file], resume, &["echo"]].concat());
        let client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        for part in 1..4 {
            wait_until("some have ended", || jobs(&daemon, "succeeded") >= before + part * 20);
            if part == 2 {
                daemon.signal(Signal::SIGKILL);
                daemon.wait();
                wait_until("all of poold is gone", || daemon.owned_processes().is_empty());
                daemon.restart();
            } else {
                send(daemon.supervisor(), Signal::SIGKILL);
            }
        }
        let output = client.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), items, "{said}");
    }
}

#[test]
fn the_first_interrupt_goes_to_what_runs_and_the_second_one_ends_it() {
    let daemon = Daemon::start(1);
    let (up, noticed) = (daemon.path("up"), daemon.path("noticed"));
    let start = |trap: &str| {
        let script = format!("trap '{trap}' INT; echo >{}; while :; do sleep 0.02; done", up.display());
        let mut client =
            daemon.ctl(&["map", "--kill-after", "100ms", "sh", "-c", &script, ":::", "a", "b", "c"]);
        let client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        line_of(&up);
        wait_until("the others wait for its slot", || jobs(&daemon, "queued") == 2);
        assert!(handles(pid(&client), Signal::SIGINT) && handles(pid(&client), Signal::SIGTERM));
        fs::remove_file(&up).unwrap();
        send(pid(&client), Signal::SIGINT);
        client
    };
    let output = start("echo done; exit 5").wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice(), output.stderr.as_slice()),
        (Some(130), &b"done\n"[..], &b""[..])
    );
    let client = start(&format!("echo >{}", noticed.display()));
    line_of(&noticed);
    send(pid(&client), Signal::SIGINT);
    assert_eq!(client.wait_with_output().unwrap().status.code(), Some(130));
    let states: Vec<State> = (1..=6).map(|id| daemon.record(id).state).collect();
    assert_eq!(
        states,
        [State::Failed, State::Canceled, State::Canceled, State::Canceled, State::Canceled, State::Canceled]
    );
}

#[test]
fn when_nobody_reads_the_output_the_rest_is_canceled_quietly() {
    let daemon = Daemon::start(2);
    let (end, ours) = std::io::pipe().unwrap();
    let mut client = daemon.ctl(&[
        "map",
        "--",
        "sh",
        "-c",
        "[ {} = 1 ] && echo line && exit; exec sleep 600",
        ":::",
        "1",
        "2",
        "3",
        "4",
    ]);
    let client = client.stdout(OwnedFd::from(ours)).stderr(Stdio::piped()).spawn();
    let client = client.unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(end);
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "line\n");
    // Without one more line that could not be written.
    drop(reader);
    let output = client.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), &b""[..]));
    assert_eq!((jobs(&daemon, "succeeded"), jobs(&daemon, "canceled")), (1, 3));
}

#[test]
fn a_full_queue_slows_a_map_down() {
    let daemon = Setup::new().config("max_queued = 2").start();
    let items: String = (0..60).map(|number| format!("{number}\n")).collect();
    let said = fed(&daemon, &["map", "-k", "--", "echo"], items.as_bytes());
    assert_eq!((said.code, said.stdout, said.stderr), (0, items, String::new()));
}

#[test]
fn what_is_wrong_is_said() {
    let daemon = Daemon::start(2);
    let wrong = |arguments: &[&str], code: i32, message: &str| {
        let said = daemon.run(arguments);
        assert_eq!(said.code, code, "{said:?}");
        assert!(said.stderr.contains(message), "{said:?}");
    };
    wrong(&["map", ":::", "a"], 2, "no command before the items");
    wrong(&["map", "echo", ":::+", "a", ":::", "b"], 2, "the source before it");
    wrong(&["map", "echo", "::::"], 2, "followed by no file");
    wrong(&["map", "-j0", "echo", ":::", "a"], 2, "write 1 or more");
    wrong(&["map", "--colsep", "(", "echo", ":::", "a"], 2, "what stands between columns");
    wrong(&["map", "--joblog", "/no/such/log", "echo", ":::", "a"], 125, "cannot write the job log");
    wrong(&["map", "--joblog", "l", "--call", "p", "m", ":::", "1"], 2, "--call");
    wrong(&["map", "-a", "/dev/null", "echo", ":::", "a"], 2, "not from both");
    wrong(&["map", "-a", "/no/such/file", "echo"], 125, "cannot read /no/such/file");
    wrong(&["map", "-p", "nowhere", "echo", ":::", "a"], 125, "there is no pool \"nowhere\"");
    wrong(&["map", "--resume", "m", "--halt", "soon", "echo", ":::", "a"], 2, "such as now,fail=1");
}

#[test]
fn records_instead_of_output() {
    let daemon = Daemon::start(2);
    let said = daemon.run(&["--json", "map", "-k", "--", "sh", "-c", "echo no; exit {}", ":::", "0", "3"]);
    let records: Vec<serde_json::Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        records.iter().map(|record| record["exit_code"].as_i64().unwrap()).collect::<Vec<_>>(),
        [0, 3]
    );
}

#[test]
fn a_bar_is_for_terminals() {
    let daemon = Daemon::start(2);
    let arguments = ["map", "--bar", "-k", "echo", ":::", "a", "b", "c"];
    let said = daemon.run(&arguments);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("a\nb\nc\n", ""));
    let said = run(&mut daemon.ctl_at_terminal(&arguments));
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("3/3") && said.stdout.contains("/s"), "{said:?}");
    for line in ["a\r\n", "b\r\n", "c\r\n"] {
        assert!(said.stdout.contains(line), "{said:?}");
    }
    // Of these it is known only at their end how many they are.
    let pipe = daemon.path_text("pipe");
    nix::unistd::mkfifo(pipe.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, "1\n2\n3\n4\n")
    });
    let said = run(&mut daemon.ctl_at_terminal(&["map", "--bar", "-a", &pipe, "echo"]));
    assert!(said.code == 0 && said.stdout.contains("4/4"), "{said:?}");
    writer.join().unwrap().unwrap();
}

/// A daemon with a warm pool "p" of two workers that square numbers.
fn warm(more: &str) -> Daemon {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/square.py");
    let setup = Setup::new();
    let env =
        format!("{{ {MARK} = {:?}, PATH = {:?} }}", setup.mark(), std::env::var("PATH").unwrap_or_default());
    setup
        .config(&format!("[pool.p]\nworkers = 2\ncommand = [\"python3\", {program:?}]\nenv = {env}\n{more}"))
        .start()
}

fn numbers(to: u64) -> (String, String) {
    let line = |number: u64| format!("{number}\n");
    ((1..=to).map(line).collect(), (1..=to).map(|number| line(number * number)).collect())
}

#[test]
fn a_method_is_called_for_each_json_value() {
    let daemon = warm("");
    let (items, squares) = numbers(3000);
    let said = fed(&daemon, &["map", "-k", "--call", "p", "square"], items.as_bytes());
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, squares.as_str(), ""));
    assert_eq!(
        daemon.ok(&["map", "--tag", "-k", "--call", "p", "square", ":::", "2", " 3"]),
        "2\t4\n 3\t9\n"
    );

    let said = daemon.run(&["map", "-k", "--call", "p", "square", ":::", "2", "\"x\"", "3"]);
    assert_eq!((said.code, said.stdout.as_str()), (1, "4\n9\n"));
    assert!(said.stderr.contains("(\"x\"): TypeError") && said.stderr.contains("1 of 3 failed"), "{said:?}");
    let said = fed(&daemon, &["map", "-k", "--call", "p", "square"], b"2\nx\n3\n");
    assert_eq!((said.code, said.stdout.as_str()), (1, "4\n9\n"), "the others go on");
    assert!(said.stderr.contains("item 2 (x) is no JSON value"), "{said:?}");
    assert!(said.stderr.contains("1 of 3 failed; first item 2 (x)"), "{said:?}");
    let large = format!("2\n\"{}\"\n[NaN]\n3\n", "x".repeat(17 << 20));
    let said = fed(&daemon, &["map", "-k", "--call", "p", "square"], large.as_bytes());
    assert_eq!((said.code, said.stdout.as_str()), (1, "4\n9\n"));
    for part in
        ["item 2 (\"xxx", "is too large: its job takes 178", "item 3 ([NaN]) is no JSON value", "neither NaN"]
    {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    let said = daemon.run(&["map", "--call", "p", "square", ":::", "2", "x"]);
    assert_eq!((said.code, said.stdout.as_str()), (1, "4\n"), "as from stdin");
    assert!(said.stderr.contains("item 2 (x) is no JSON value"), "{said:?}");
    let brief: serde_json::Value =
        serde_json::from_str(&daemon.ok(&["--json", "map", "--call", "p", "square", ":::", "7"])).unwrap();
    assert_eq!((brief["state"].as_str(), brief["value"].as_i64()), (Some("succeeded"), Some(49)));
    for (arguments, message) in [
        (&["map", "--call", "p", "square", "echo", ":::", "1"][..], "no command besides"),
        (&["map", "-p", "p", "--call", "p", "square", ":::", "1"], "does not go with"),
    ] {
        let said = daemon.run(arguments);
        assert!(said.code == 2 && said.stderr.contains(message), "{said:?}");
    }
}

#[test]
fn calls_are_resumed_halted_and_outlive_their_poold() {
    let (items, squares) = numbers(2000);
    for (more, resume) in [("", &[][..]), ("", &["--resume", "m"]), ("durability = \"none\"\n", &[])] {
        let daemon = warm(more);
        let mut client = daemon.ctl(&[&["map", "-k", "--call", "p", "square"], resume].concat());
        let mut client =
            client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(client.stdout.take().unwrap());
        let mut input = client.stdin.take().unwrap();
        let items = items.clone();
        let writer = std::thread::spawn(move || input.write_all(items.as_bytes()));
        let mut said = String::new();
        for _ in 0..2 {
            output.read_line(&mut said).unwrap();
            send(daemon.supervisor(), Signal::SIGKILL);
        }
        output.read_to_string(&mut said).unwrap();
        writer.join().unwrap().unwrap();
        let end = client.wait_with_output().unwrap();
        assert_eq!(
            (end.status.code(), String::from_utf8_lossy(&end.stderr).as_ref()),
            (Some(0), ""),
            "{more}{resume:?}"
        );
        assert!(said == squares, "{more}{resume:?}");
        if !resume.is_empty() {
            let before = jobs(&daemon, "succeeded");
            let again =
                daemon.ok(&["map", "-k", "--resume", "m", "--call", "p", "square", ":::", "2001", "5", "1"]);
            assert_eq!((again.as_str(), jobs(&daemon, "succeeded")), ("4004001\n25\n1\n", before + 1));
            // What another method would return is not known.
            daemon.ok(&["map", "--resume", "m", "--call", "p", "slow_square", ":::", "5"]);
            assert_eq!(jobs(&daemon, "succeeded"), before + 2);
        }
    }
    let daemon = warm("");
    let said =
        daemon.run(&["map", "--halt", "now,fail=1", "--call", "p", "slow_square", ":::", "600", "\"x\""]);
    assert!(said.code == 1 && said.stderr.contains("1 of "), "{said:?}");
}

#[test]
fn an_interrupt_cancels_calls() {
    let daemon = warm("");
    let mut client = daemon.ctl(&["map", "--call", "p", "slow_square", ":::", "1", "2", "3", "4", "5"]);
    let client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("two run and the others wait", || jobs(&daemon, "running") + jobs(&daemon, "queued") == 5);
    send(pid(&client), Signal::SIGINT);
    let output = client.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(130), &b""[..]));
    assert_eq!(jobs(&daemon, "running") + jobs(&daemon, "queued"), 0);
}

#[test]
fn a_map_that_may_halt_submits_no_more_than_it_needs() {
    let daemon = Daemon::start(2);
    let items = (1..=100).map(|item| format!("{item}\n")).collect::<String>();
    let failing = ["--", "sh", "-c", "exit 3"];
    for (halt, most) in [("soon,fail=1", 2), ("now,fail=1", 2), ("soon,fail=5", 6), ("soon,done=3", 4)] {
        let before = daemon.ok(&["ls"]).lines().count();
        let said = fed(&daemon, &[&["map", "--halt", halt][..], &failing].concat(), items.as_bytes());
        assert!(said.code != 0, "{halt}: {said:?}");
        let submitted = daemon.ok(&["ls"]).lines().count() - before;
        assert!(submitted <= most, "{halt}: {submitted} were submitted");
    }
}

#[test]
fn halting_soon_cancels_what_has_not_started() {
    let daemon = Daemon::start(2);
    let [go, fail] = ["go", "fail"].map(|name| daemon.path_text(name));
    let until = |file: &str| format!("until [ -e {file} ]; do sleep 0.01; done");

    let first = daemon.submit_sh(&until(&go));
    daemon.wait_record(first, "runs", |record| record.state == State::Running);
    let script = format!("{}; exit 3", until(&fail));
    let mut map =
        daemon.ctl(&["map", "--halt", "soon,fail=1", "--", "sh", "-c", &script, ":::", "a", "b", "c"]);
    let map = map.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    daemon.wait_record(2, "runs", |record| record.state == State::Running);
    daemon.wait_record(3, "waits", |record| record.state == State::Queued);

    // The slot of what fails goes to another job, so what the map has submitted ahead still waits.
    daemon.submit(&["--priority", "9", "--", "sh", "-c", &until(&go)]);
    fs::write(&fail, "").unwrap();
    let output = map.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("1 of 1 failed"), "{stderr}");
    assert_eq!(daemon.record(3).state, State::Canceled);
    assert!(daemon.run(&["show", "5"]).code == 125, "nothing more was submitted");
    fs::write(&go, "").unwrap();
}

#[test]
fn a_missing_program_is_told_once_for_each_item() {
    let daemon = Daemon::start(2);
    let said = daemon.run(&["map", "no-such-program", ":::", "a", "b"]);
    assert_eq!((said.code, said.stderr.lines().count()), (1, 3), "{said:?}");
    assert!(!said.stderr.contains("cannot be shown"), "{said:?}");
}
