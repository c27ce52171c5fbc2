//! Text is bytes: what Linux allows in arguments, names and paths comes out as it went in. And nothing that
//! cannot be seen reaches a terminal.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use pool_proto::OsText;
use pool_proto::methods::Submit;
use pool_proto::nouns::Job;
use pool_proto::terminal::is_shown;
use pool_tests::{Daemon, Setup, wait_until};
use serde_json::Value;

const LATIN: &[u8] = b"caf\xe9";

/// What is no UTF-8, and what looks like some escaped form of it.
fn strange() -> Vec<OsString> {
    let all: Vec<u8> = (1..=255).collect();
    let texts: [&[u8]; 9] = [
        LATIN,
        b"\xff\xfe",
        b"\xed\xa0\x80",
        &all,
        br"caf\xe9",
        br"caf\u0000e9",
        b"caf%E9",
        br"$'caf\351'",
        "caf\u{e9} \u{fffd} \u{f7e9} \u{202e}".as_bytes(),
    ];
    texts.map(|text| OsString::from_vec(text.to_vec())).to_vec()
}

fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// What a successful command has printed.
fn printed(command: &mut Command) -> Vec<u8> {
    let output = output(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn all_with_nuls(texts: &[OsString]) -> Vec<u8> {
    texts.iter().flat_map(|text| [text.as_bytes(), b"\0"].concat()).collect()
}

fn records(daemon: &Daemon) -> Value {
    let jobs = printed(&mut daemon.ctl(&["ls", "--json"]));
    serde_json::from_slice::<Value>(&jobs).unwrap()["jobs"].take()
}

#[test]
fn arguments_come_out_as_they_went_in_over_a_restart_too() {
    let mut daemon = Daemon::start(1);
    let argv = strange();
    let run = |daemon: &Daemon| printed(daemon.ctl(&["run", "--", "printf", r"%s\0"]).args(&argv));
    assert_eq!(run(&daemon), all_with_nuls(&argv));

    // This one waits in the database while poold is away.
    let gate = daemon.path_text("gate");
    daemon.submit_sh(&format!("while ! test -e {gate}; do sleep 0.01; done"));
    printed(daemon.ctl(&["submit", "--name"]).arg(os(LATIN)).args(["--", "printf", r"%s\0"]).args(&argv));
    daemon.kill_all();
    daemon.restart();
    fs::write(&gate, "").unwrap();
    assert_eq!(daemon.run(&["wait", "3"]).code, 0);
    assert_eq!(printed(&mut daemon.ctl(&["logs", "3"])), all_with_nuls(&argv));

    let record = daemon.record(3);
    assert_eq!(record.name, Some(OsText::from_bytes(LATIN)));
    let told: Vec<OsString> = record.argv.unwrap()[2..].iter().map(OsText::to_os_string).collect();
    assert_eq!(told, argv);
    let listed = records(&daemon);
    assert_eq!(listed[2]["argv"][2], "caf\0e9");
    assert_eq!(listed[2]["argv"][6], r"caf\xe9");
}

#[test]
fn directories_and_variables_are_bytes() {
    let daemon = Daemon::start(1);
    let dir = daemon.dir().join(os(b"d\xe9r"));
    fs::create_dir(&dir).unwrap();
    let path = [dir.as_os_str().as_bytes(), b":/usr/bin:/bin"].concat();
    pool_tests::script("#!/bin/sh\npwd\n", &dir.join(os(b"pr\xf6g")));

    let mut command = daemon.ctl(&["run"]);
    command.current_dir(&dir).env("PATH", os(&path)).arg(os(b"pr\xf6g"));
    assert_eq!(printed(&mut command), [dir.as_os_str().as_bytes(), b"\n"].concat());

    // A shell would drop a variable with such a name.
    let mut command = daemon.ctl(&["run", "--env", "A"]);
    command.current_dir(&dir).env("PATH", os(&path)).env("A", os(LATIN)).env(os(b"n\xe4me"), "x");
    let variables = printed(command.arg("--env").arg(os(b"S\xe9t=\xe9=\xff")).args(["env", "-0"]));
    let variables: Vec<&[u8]> = variables.split(|&byte| byte == 0).collect();
    let submit_dir = [b"POOL_SUBMIT_DIR=", dir.as_os_str().as_bytes()].concat();
    let path = [b"PATH=", path.as_slice()].concat();
    for wanted in [b"A=caf\xe9", b"n\xe4me=x".as_slice(), b"S\xe9t=\xe9=\xff", &path, &submit_dir] {
        assert!(variables.contains(&wanted), "{}", String::from_utf8_lossy(wanted));
    }

    // --cwd, and a callback, which gets both.
    let told = daemon.path("told");
    let mut script = b"printf '%s\\0' \"$POOL_NAME\" \"$PWD\" '\xe9' >".to_vec();
    script.extend(told.as_os_str().as_bytes());
    let mut command = daemon.ctl(&["submit", "--on-done"]);
    command.arg(os(&script)).arg("--name").arg(os(LATIN)).arg("--cwd").arg(&dir).arg("true");
    printed(&mut command);
    let wanted = [LATIN, dir.as_os_str().as_bytes(), b"\xe9", b""].join(&0);
    wait_until("the callback has run", || fs::read(&told).is_ok_and(|bytes| bytes == wanted));
    assert_eq!(daemon.record(3).cwd.to_path(), dir);
}

#[test]
fn a_key_of_bytes_is_a_key() {
    let daemon = Daemon::start(1);
    let submit = |key: &[u8]| {
        let id = printed(daemon.ctl(&["submit", "--key"]).arg(os(key)).args(["--", "true"]));
        String::from_utf8(id).unwrap()
    };
    let keys: [&[u8]; 4] = [LATIN, b"caf\xea", br"caf\xe9", "caf\u{e9}".as_bytes()];
    let ids: Vec<String> = keys.iter().map(|key| submit(key)).collect();
    assert_eq!(ids, ["1\n", "2\n", "3\n", "4\n"]);
    assert_eq!(keys.map(submit).to_vec(), ids);
}

#[test]
fn items_and_tags_are_bytes() {
    let daemon = Daemon::start(2);
    let items = strange();
    let run = |arguments: &[&str], input: Vec<u8>| {
        let mut map = daemon.ctl(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        map.stdin.take().unwrap().write_all(&input).unwrap();
        let output = map.wait_with_output().unwrap();
        (output.status.code(), output.stdout)
    };
    let input = all_with_nuls(&items);
    assert_eq!(run(&["map", "-k0", "--", "printf", r"%s\0"], input.clone()), (Some(0), input.clone()));
    // Twice the same map: every job is found again by its key.
    for _ in 0..2 {
        let map = ["map", "-k0", "--resume", "m", "--", "printf", r"x{}\0"];
        assert_eq!(run(&map, b"\xe9\0\xea\0".to_vec()), (Some(0), b"x\xe9\0x\xea\0".to_vec()));
    }
    assert_eq!(records(&daemon).as_array().unwrap().len(), items.len() + 2);

    let mut tagged = daemon.ctl(&["map", "--tag", "--", "echo", ":::"]);
    assert_eq!(printed(tagged.arg(os(LATIN))), b"caf\xe9\tcaf\xe9\n");
    // Halves of a letter come together.
    let mut whole = daemon.ctl(&["map", "--"]);
    whole.arg("printf").arg(os(b"\xc3{}")).arg(":::").arg(os(b"\xa9"));
    assert_eq!(printed(&mut whole), "\u{e9}".as_bytes());
}

#[test]
fn poold_lives_in_directories_of_any_name() {
    let daemon = Setup::new().homed_in(os(b"h\xf6me")).start();
    let dir = daemon.dir().join(os(b"h\xf6me"));
    let ctl = |arguments: &[&str]| daemon.ctl(arguments);

    let script = "printf %s \"$POOL_SOCKET\"; cat";
    let input = dir.join("input");
    fs::write(&input, "in").unwrap();
    let mut run = ctl(&["run", "--on-done", "cat \"$POOL_STDOUT_PATH\" >told", "--stdin"]);
    run.arg(&input).arg("--cwd").arg(&dir).args(["sh", "-c", script]);
    let wanted = [daemon.socket().as_os_str().as_bytes(), b"in"].concat();
    assert_eq!(printed(&mut run), wanted);
    let told = dir.join("told");
    wait_until("the callback has read the output", || fs::read(&told).is_ok_and(|bytes| bytes == wanted));

    assert_eq!(printed(&mut ctl(&["logs", "1"])), wanted);
    let record: pool_proto::Record =
        serde_json::from_slice(&printed(&mut ctl(&["show", "1", "--json"]))).unwrap();
    assert!(record.stdout.unwrap().path.to_path().starts_with(daemon.state_dir()));
    let pong: Value = serde_json::from_slice(&printed(&mut ctl(&["ping", "--json"]))).unwrap();
    assert_eq!(
        serde_json::from_value::<OsText>(pong["state_dir"].clone()).unwrap().to_path(),
        daemon.state_dir()
    );
    for json in [&["doctor", "--json"][..], &["doctor", "-v"]] {
        let doctor = output(&mut ctl(json));
        let text = String::from_utf8(doctor.stdout).unwrap();
        assert!(text.contains("state"), "{text} {}", String::from_utf8_lossy(&doctor.stderr));
    }
    let copy = dir.join(os(b"c\xf6py"));
    printed(ctl(&["backup", "--json"]).arg(&copy));
    assert!(copy.exists());
}

#[test]
fn nothing_that_cannot_be_seen_reaches_a_terminal() {
    const HIDDEN: &str = "\u{1b}[31m\u{7}\u{9b}\u{202e}\u{2066}\u{200b}\u{2028}\u{feff}\u{3164}\n\r\u{7f}";
    let setup = Setup::new()
        .config("[pool.warm]\nworkers = 1\ncommand = [\"PYTHON\"]\n".replace("PYTHON", "cat").as_str());
    let daemon = setup.start();
    let check = |what: &str, output: Output| {
        for text in [output.stdout, output.stderr] {
            let text = String::from_utf8(text).unwrap();
            let hidden = text.chars().find(|&c| c != '\n' && !is_shown(c));
            assert_eq!(hidden, None, "{what}: {text:?}");
        }
    };

    let dir = daemon.dir().join(HIDDEN);
    fs::create_dir(&dir).unwrap();
    let path = dir.to_str().unwrap();
    let missing = format!("{path}/x");
    daemon.run(&["run", "--name", HIDDEN, "--key", HIDDEN, "--cwd", path, "--", "echo", HIDDEN]);
    daemon.run(&["run", "--", HIDDEN]);
    daemon.run(&["run", "--", &missing]);
    daemon.run(&["call", "warm", HIDDEN, HIDDEN, "--async"]);
    let views: [&[&str]; 16] = [
        &["ls"],
        &["ls", "--json"],
        &["show", "1"],
        &["show", "1", "--json"],
        &["show", "2"],
        &["show", "3"],
        &["wait", "2"],
        &["wait", "3", "--json"],
        &["doctor"],
        &["pool", "ls"],
        &["run", "--", &missing],
        &["run", "--cwd", &missing, "true"],
        &["run", "--pool", HIDDEN, "true"],
        &["submit", "--from", &missing],
        &["submit", "--env", HIDDEN, "true"],
        &["map", "--arg-file", &missing, "true"],
    ];
    for view in views {
        check(&format!("{view:?}"), output(&mut daemon.ctl(view)));
    }
    let arguments: [&[&str]; 8] = [
        &[HIDDEN],
        &["show", HIDDEN],
        &["wait", "1", HIDDEN],
        &["submit", "--timeout", HIDDEN, "true"],
        &["ls", "--state", HIDDEN],
        &["submit", &format!("--{HIDDEN}"), "true"],
        &["--socket", &missing, "ping"],
        &["backup", &missing],
    ];
    for arguments in arguments {
        check(&format!("{arguments:?}"), output(&mut daemon.ctl(arguments)));
        check(&format!("poold {arguments:?}"), output(Command::new(pool_tests::poold()).args(arguments)));
    }
    let state = format!("/dev/null/{HIDDEN}");
    let poold: [&[&str]; 3] =
        [&["--state-dir", &state], &["--config", &missing, "--state-dir", &state], &["--socket", &missing]];
    for arguments in poold {
        let mut command = Command::new(pool_tests::poold());
        command.args(arguments).env("HOME", daemon.dir()).env_remove("POOL_SOCKET");
        if arguments.len() == 2 && arguments[0] == "--socket" {
            command.args(["--state-dir", &state]);
        }
        check(&format!("poold {arguments:?}"), output(&mut command));
    }
}

#[test]
fn a_pasted_command_does_what_the_job_does() {
    let daemon = Daemon::start(1);
    let mut command = daemon.ctl(&["submit", "--", "printf", "[%s]"]);
    let words = ["", "$$ `id`", "it's \"q\" \\ !!", "two\nlines\n", "\t\u{1b}", "*", "~", "caf\u{e9}"];
    printed(command.args(words).args(strange()));
    daemon.run(&["wait", "1"]);
    let wanted = printed(&mut daemon.ctl(&["logs", "1"]));

    let shown = String::from_utf8(printed(&mut daemon.ctl(&["show", "1"]))).unwrap();
    let line = shown.lines().find_map(|line| line.strip_prefix("command")).unwrap();
    let listed = String::from_utf8(printed(&mut daemon.ctl(&["ls"]))).unwrap();
    assert!(listed.contains(&line.trim()[..100]), "{listed}");
    for shell in ["sh", "bash"] {
        assert_eq!(printed(Command::new(shell).arg("-c").arg(line)), wanted, "{shell}: {line}");
    }
    assert!(!Path::new("two").exists());
}

#[test]
fn a_job_too_big_to_execute_has_its_callback() {
    let daemon = Daemon::start(1);
    let told = daemon.path_text("told");
    let script = format!("printf '%s %s %s\\n' \"$POOL_TRUNCATED\" \"${{#BIG}}\" \"$POOL_RESULT\" >>{told}");
    let submit = |variables: Vec<(String, String)>| {
        let path = ("PATH".to_owned(), "/usr/bin:/bin".to_owned());
        let env = variables.into_iter().chain([path]).map(|(name, value)| (name.into(), value.into()));
        let job = Job {
            argv: vec!["true".into()],
            env: Some(env.collect()),
            on_done: Some(vec![script.as_str().into()]),
            ..Job::default()
        };
        daemon.client().request(&Submit { job, on_disconnect: None, obstacles: None }).unwrap();
    };
    submit(vec![("BIG".to_owned(), "x".repeat(200 * 1024))]);
    submit((0..100).map(|number| (format!("V{number:03}"), "x".repeat(100_000))).collect());
    let lines = || fs::read_to_string(&told).unwrap_or_default();
    wait_until("both callbacks have run", || lines().lines().count() == 2);
    let lines = lines();
    let (big, many) = lines.split_once('\n').unwrap();
    assert_eq!(big, format!("BIG {} exit-code", 128 * 1024 - 1 - "BIG=".len()));
    assert!(many.contains(" V099 ") && many.trim_end().ends_with("0 exit-code"), "{many}");
}

#[test]
fn the_log_shows_nothing_that_cannot_be_seen() {
    let hidden = "x\u{202e}\u{2066}\u{200b}\u{2028}\u{1b}[31m\ny";
    let daemon = Setup::new().homed_in(hidden.as_ref()).start();
    daemon.run(&["run", "--name", hidden, "--unique", hidden, "--", hidden]);
    daemon.run(&["run", "--pool", hidden, "--", "true"]);
    assert!(daemon.log().contains("/x\\u{202e}\\u{2066}"), "{}", daemon.log());
    let log = daemon.log();
    let unseen = log.chars().find(|&c| c != '\n' && !is_shown(c));
    assert_eq!(unseen, None, "{log}");
    assert!(log.lines().all(|line| line.starts_with("20")), "a line for each record: {log}");
}
