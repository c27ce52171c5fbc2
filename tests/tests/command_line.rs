//! What a user sees of a command line that is wrong, and of a result that cannot be printed.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use pool_proto::State;
use pool_tests::{Daemon, Said};

#[test]
fn an_unknown_option_is_never_a_program() {
    let daemon = Daemon::start(1);
    let refused = |arguments: &[&str], wanted: &str| {
        let said = daemon.run(arguments);
        assert_eq!(said.code, 2, "{arguments:?}: {said:?}");
        assert!(
            said.stdout.is_empty() && only_line(&said.stderr).contains(wanted),
            "{arguments:?}: {said:?}"
        );
    };

    refused(&["submit", "--colour", "red", "--", "true"], "there is no option --colour");
    refused(&["submit", "--wiat", "true"], "there is no option --wiat: did you mean --wait?");
    refused(&["run", "--timout=3", "true"], "there is no option --timout: did you mean --timeout?");
    refused(&["run", "-x", "true"], "there is no option -x");
    refused(&["run", "-1", "true"], "there is no option -1");
    refused(&["map", "--hlat", "soon,fail=1", "echo", ":::", "1"], "did you mean --halt?");
    refused(&["pool", "add", "zz", "--worker", "2", "--", "cat"], "did you mean --workers?");
    refused(&["call", "q", "m", "1", "--timeot", "2s"], "did you mean --timeout?");
    refused(&["call", "q", "m", "-x"], "comes after --");
    refused(&["wait", "-5"], "there is no option -5");

    assert_eq!(daemon.run(&["show", "1"]).code, 125, "nothing was submitted");
    assert!(!daemon.ok(&["pool", "ls"]).contains("zz"));

    // `--` is the way to a program of such a name, and what follows the program is the program's.
    let said = daemon.run(&["run", "--", "--wait"]);
    assert!(said.code == 127 && said.stderr.contains("--wait"), "{said:?}");
    assert_eq!(daemon.ok(&["run", "echo", "-n", "--wiat", "--json"]), "--wiat --json");
    assert_eq!(daemon.ok(&["map", "echo", "-n", ":::", "--json"]), "--json");
}

#[test]
fn options_of_a_call_may_follow_its_parameters() {
    let daemon = Daemon::start(1);
    daemon.ok(&["pool", "add", "q", "--", "cat"]);
    let id = daemon.ok(&["call", "--async", "q", "m", "1", "-2.5", "-t", "90s", "--", "-t"]);
    let record = daemon.record(id.trim().parse().unwrap());
    assert_eq!(record.params.unwrap().get(), r#"[1,-2.5,"-t"]"#);
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let daemon = Daemon::start(1);
    let said = |arguments: &[&str]| {
        let Said { code, stderr, .. } = daemon.run(arguments);
        assert_eq!(code, 2, "{arguments:?}");
        only_line(&stderr).to_owned()
    };
    let limit = "poolctl: --limit 0: write 1 or more, or leave it out for all";
    assert_eq!(said(&["ls", "--limit", "0"]), limit);
    assert_eq!(said(&["ls", "--limit=0"]), limit);
    assert_eq!(said(&["run", "--on-crash", "x", "true"]), "poolctl: --on-crash x: write requeue, fail, hold");
    assert_eq!(said(&["sumbit", "true"]), "poolctl: there is no verb sumbit: did you mean submit?");
    for (arguments, wanted) in [
        (
            &["logs"][..],
            "<SELECTOR>... is missing: write `poolctl logs <SELECTOR>...`; `poolctl logs --help` has examples",
        ),
        (
            &["schedule", "add", "x", "--", "true"],
            "--every <DURATION> or --cron <TIMES> is missing: `poolctl schedule add --help` has examples",
        ),
        (&["pool", "ls", "foo"], "`poolctl pool ls` takes no word \"foo\": see `poolctl pool ls --help`"),
        (&["pool", "nope"], "there is no verb nope: `poolctl pool --help` lists the verbs"),
        (&["stop", "1"], "there is no verb stop: did you mean cancel or pause?"),
        (&["submit", "--timeout", "--", "true"], "--timeout needs a value: write --timeout <DURATION>"),
        (&["ls", "--color"], "--color needs a value: write auto, always, never"),
        (&["ls", "-q", "--format", "x"], "--quiet does not go with --format: leave one of them out"),
        (&["ls", "-w", "7"], "--watch does not go with SELECTOR: leave one of them out"),
        (&["ls", "--json=x"], "--json takes no value x"),
        (&["submit", "--priority", "x", "--", "true"], "--priority x: write a whole number"),
        (
            &["wait", "1", "--timeout", "x"],
            "--timeout x: \"x\" is no duration: write seconds, or 500ms, 30m, 1h30m",
        ),
        (
            &["logs", "nope"],
            "\"nope\" names no job: write 12, 3-9, 12.4, last, all, @label, name:x, state:failed or pool:x",
        ),
        (
            &["signal", "USR1", "1"],
            "\"USR1\" is a signal: the signal comes last, as in `poolctl signal 12 USR1`",
        ),
        (&["help", "exit-code"], "there is no verb and no topic \"exit-code\": did you mean exit-codes?"),
        (&["man", "shw"], "there is no page poolctl-shw: did you mean show?"),
    ] {
        assert_eq!(said(arguments), format!("poolctl: {wanted}"), "{arguments:?}");
    }
    // A verb that ends things is not what somebody meant who wrote something else.
    let lists = "poolctl: there is no verb sh: `poolctl --help` lists the verbs";
    assert_eq!(said(&["sh"]), lists);
    assert!(!said(&["run", "--\u{1b}[31m", "true"]).contains('\u{1b}'));
}

/// The one line that poolctl has printed.
fn only_line(text: &str) -> &str {
    let line = text.strip_suffix('\n').unwrap_or(text);
    assert!(!line.contains('\n'), "{text}");
    line
}

/// Runs poolctl with a stdout that takes nothing, in each of the ways in which a stdout does that. `{}` in an
/// argument is the number of the way.
fn unheard(daemon: &Daemon, arguments: &[&str]) -> Vec<Said> {
    let ctl = |way: &str| {
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.replace("{}", way)).collect();
        daemon.ctl(&arguments.iter().map(String::as_str).collect::<Vec<&str>>())
    };

    let mut full = ctl("0");
    full.stdout(File::options().write(true).open("/dev/full").unwrap());
    let mut broken = ctl("1");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    broken.stdout(writer);

    let mut said = Vec::new();
    for mut command in [full, broken, with_closed_stdout(&ctl("2"))] {
        let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        said.push(Said { code: output.status.code().unwrap(), stdout: String::new(), stderr });
    }
    said
}

fn with_closed_stdout(ctl: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" >&-", "sh"]).arg(ctl.get_program()).args(ctl.get_args());
    shell
}

#[test]
fn a_result_that_cannot_be_printed_is_told_with_the_error() {
    let daemon = Daemon::start(1);
    daemon.ok(&["pool", "add", "q", "--", "sh", "-c", "cat > /dev/null"]);

    let mut next = 1;
    for arguments in [&["submit", "true"][..], &["--json", "submit", "true"], &["call", "--async", "q", "m"]]
    {
        for said in unheard(&daemon, arguments) {
            assert_eq!(said.code, 74, "{arguments:?}: {said:?}");
            let wanted = format!("; job {next} was accepted");
            assert!(only_line(&said.stderr).ends_with(&wanted), "{arguments:?}: {said:?}");
            next += 1;
        }
    }

    // Of many jobs, too.
    let file = daemon.path_text("jobs");
    fs::write(&file, "{\"argv\":[\"true\"]}\n{\"argv\":[\"true\"]}\n").unwrap();
    for said in unheard(&daemon, &["submit", "--from", &file]) {
        assert_eq!(said.code, 74, "{said:?}");
        let wanted = format!("; 2 jobs were accepted, the last ones are {next}-{}", next + 1);
        assert!(only_line(&said.stderr).ends_with(&wanted), "{said:?}");
        next += 2;
    }

    let backup = daemon.path_text("backup");
    for (way, said) in unheard(&daemon, &["backup", &format!("{backup}-{{}}")]).iter().enumerate() {
        assert!(said.code == 74 && said.stderr.contains("is whole"), "{said:?}");
        assert!(fs::metadata(format!("{backup}-{way}")).is_ok());
    }

    for said in unheard(&daemon, &["--json", "cancel", "1"]) {
        assert!(said.code == 74 && said.stderr.contains("the jobs have ended"), "{said:?}");
    }

    // What has changed nothing may be repeated.
    let codes = |arguments: &[&str]| unheard(&daemon, arguments).iter().map(|said| said.code).collect();
    let read: Vec<i32> = codes(&["show", "1"]);
    assert_eq!(read, [125, 141, 125]);
}

#[test]
fn a_job_whose_output_cannot_be_passed_on_is_named() {
    let daemon = Daemon::start(1);
    let go = daemon.path_text("go");
    let script = format!("echo out; until [ -e {go} ]; do sleep 0.01; done");

    let mut ctl = daemon.ctl(&["run", "--", "sh", "-c", &script]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = ctl.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(74), "{stderr}");
    assert!(stderr.contains("; job 1 was accepted and goes on: `poolctl wait 1`"), "{stderr}");

    fs::write(&go, "").unwrap();
    daemon.wait_record(1, "goes on", |record| record.state == State::Succeeded);

    // Nothing is lost where nothing is printed.
    assert!(with_closed_stdout(&daemon.ctl(&["run", "true"])).status().unwrap().success());
}

#[test]
fn a_stderr_that_takes_nothing_changes_no_exit_code() {
    let daemon = Daemon::start(1);
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let code = |arguments: &[&str]| daemon.ctl(arguments).stderr(full()).status().unwrap().code();
    assert_eq!(code(&["run", "no-such-program"]), Some(127));
    assert_eq!(code(&["show", "77"]), Some(125));
    assert_eq!(code(&["show"]), Some(2));

    let both = daemon.ctl(&["submit", "true"]).stderr(full()).stdout(full()).status().unwrap();
    assert_eq!(both.code(), Some(74));
}
