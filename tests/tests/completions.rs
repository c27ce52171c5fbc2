//! `poolctl completions`, in the shells themselves: verbs, options, and what poold has at that moment.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pool_tests::{Daemon, Setup, run, send, skip, wait_until};

/// What fish would offer for the last of these words: it needs no shell to be asked.
fn offered(daemon: &Daemon, words: &[&str]) -> Vec<String> {
    let mut command = daemon.setup().program("poolctl");
    command.env("POOL_SOCKET", daemon.socket()).env("POOLCTL_COMPLETE", "fish").args(["--", "poolctl"]);
    let said = run(command.args(words));
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{words:?}");
    said.stdout.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
}

/// poold has some time to answer, which a machine under load may not give it at once.
fn assert_offered(daemon: &Daemon, words: &[&str], wanted: &[&str]) {
    wait_until(&format!("{words:?} is completed with {wanted:?}"), || offered(daemon, words) == wanted);
}

fn daemon_with_jobs() -> Daemon {
    let daemon = Setup::new().workers(1).config("[pool.gpu]\nworkers = 1").start();
    daemon.ok(&["submit", "-n", "train", "-l", "night", "--", "sleep", "1000"]);
    daemon.ok(&["submit", "--hold", "--", "true"]);
    daemon.ok(&["submit", "--wait", "--pool", "gpu", "--", "true"]);
    daemon.ok(&["limit", "set", "disk", "2"]);
    daemon.ok(&["schedule", "add", "nightly", "--cron", "0 3 * * *", "--", "true"]);
    daemon
}

#[test]
fn what_poold_has_is_offered() {
    let daemon = daemon_with_jobs();

    assert_offered(&daemon, &["show", ""], &["3", "2", "1", "last", "all"]);
    assert_offered(&daemon, &["cancel", ""], &["2", "1", "last", "all"]);
    assert_offered(&daemon, &["release", ""], &["2", "last", "all"]);
    assert_offered(&daemon, &["rm", ""], &["3", "last", "all"]);
    assert_offered(&daemon, &["cancel", "1", "@n"], &["@night"]);
    assert_offered(&daemon, &["hold", "pool:"], &["pool:default", "pool:gpu"]);
    assert_offered(&daemon, &["cancel", "name:"], &["name:train"]);
    assert_offered(&daemon, &["rm", "state:e"], &["state:ended"]);
    assert_offered(&daemon, &["show", "n"], &["name:"]);
    assert_offered(&daemon, &["submit", "--after", "3,any:@n"], &["3,any:@night"]);
    assert_offered(&daemon, &["submit", "--pool", ""], &["default", "gpu"]);
    assert_offered(&daemon, &["pool", "pause", "g"], &["gpu"]);
    assert_offered(&daemon, &["submit", "--label", ""], &["disk", "night"]);
    assert_offered(&daemon, &["schedule", "show", ""], &["nightly"]);
    assert_offered(&daemon, &["ls", "--state", "ti"], &["timed_out"]);
    assert_offered(&daemon, &["help", "exit"], &["exit-codes"]);
    assert_offered(&daemon, &["events", "--kind", "ended,ga"], &["ended,gap"]);
    assert_offered(&daemon, &["ls", "--columns", "id,sta"], &["id,state", "id,started"]);
    // An element by its array and its index, as `ls` shows it.
    let array = daemon.submit(&["--array", "7-8", "--pool", "gpu", "--", "true"]);
    daemon.run(&["wait", &array.to_string()]);
    let elements = [8, 7].map(|index| format!("{array}.{index}"));
    assert_offered(&daemon, &["show", &format!("{array}.")], &[&*elements[0], &*elements[1]]);
}

#[test]
fn verbs_options_and_programs_are_offered() {
    let daemon = Daemon::start(1);
    assert_eq!(offered(&daemon, &["shutd"]), ["shutdown"]);
    let verbs = offered(&daemon, &[""]);
    assert!(verbs.contains(&"submit".to_owned()) && !verbs.contains(&"add".to_owned()), "{verbs:?}");
    assert_eq!(offered(&daemon, &["ad"]), ["add"]);
    assert_eq!(offered(&daemon, &["submit", "--start-"]), ["--start-within"]);
    assert!(offered(&daemon, &["run", "--", "tru"]).contains(&"true".to_owned()));
    assert_eq!(offered(&daemon, &["run", "--", "cat", "/etc/passw"])[0], "/etc/passwd");
}

#[test]
fn completing_starts_no_poold_and_waits_for_none() {
    let setup = Setup::new();
    let home = setup.dir().join("home");
    fs::create_dir(&home).unwrap();
    let mut command = setup.program("poolctl");
    command.env("POOLCTL_COMPLETE", "fish").args(["--", "poolctl", "cancel", ""]);
    command.env_remove("POOL_SOCKET").env("HOME", &home).env("XDG_STATE_HOME", home.join("state"));
    let said = run(command.env("XDG_RUNTIME_DIR", &home));
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);

    // A poold that does not answer is not waited for.
    let daemon = daemon_with_jobs();
    send(daemon.supervisor(), Signal::SIGSTOP);
    let begun = Instant::now();
    let words = offered(&daemon, &["cancel", ""]);
    let took = begun.elapsed();
    send(daemon.supervisor(), Signal::SIGCONT);
    assert!(!words.contains(&"1".to_owned()), "{words:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// A shell whose `poolctl` is ours; none where there is no such shell.
fn shell(name: &str, daemon: &Daemon) -> Option<Command> {
    let is_there = Command::new(name).arg("--version").output().is_ok();
    if !is_there {
        skip(&format!("there is no {name}"));
        return None;
    }
    let poolctl = daemon.setup().program("poolctl");
    let folder = Path::new(poolctl.get_program()).parent().expect("it is named by its path").to_owned();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(name);
    command.env("PATH", path).env("POOL_SOCKET", daemon.socket()).env("HOME", daemon.dir());
    command.env("TERM", "vt100");
    Some(command)
}

#[test]
fn bash_completes() {
    let daemon = daemon_with_jobs();
    let Some(mut bash) = shell("bash", &daemon) else { return };
    let script = r#"
        source <(poolctl completions bash)
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9
        "$(complete -p poolctl | sed 's/.*-F \([^ ]*\).*/\1/')" poolctl "${!#}" cancel
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let said = run(bash.args(["--norc", "-c", script, "bash", "poolctl", "cancel", ""]));
    assert_eq!((said.code, said.stdout.as_str()), (0, "2\n1\nlast\nall\n"), "{said:?}");

    // bash takes `:` and `=` for ends of words; an `@` belongs to what it replaces, wherever that stands.
    for (line, words, wanted) in [
        ("poolctl hold pool:g", &["poolctl", "hold", "pool", ":", "g"][..], "gpu\n"),
        ("poolctl submit --pool=g", &["poolctl", "submit", "--pool", "=", "g"], "gpu\n"),
        ("poolctl submit --after any:@n", &["poolctl", "submit", "--after", "any", ":", "@n"], "@night\n"),
    ] {
        let mut bash = shell("bash", &daemon).expect("it was there");
        let script = format!("COMP_LINE='{line}'; COMP_POINT={}; {script}", line.len());
        let said = run(bash.args(["--norc", "-c", &script, "bash"]).args(words));
        assert_eq!((said.code, said.stdout.as_str()), (0, wanted), "{line}: {said:?}");
    }
}

#[test]
fn fish_completes() {
    let daemon = daemon_with_jobs();
    let Some(mut fish) = shell("fish", &daemon) else { return };
    let script = "poolctl completions fish | source; complete -C 'poolctl cancel '; \
                  complete -C 'poolctl submit --pool g'";
    let said = run(fish.args(["--no-config", "-c", script]));
    assert_eq!(
        said.stdout,
        "2\theld true\n1\trunning train\nlast\tthe newest job\nall\tall that this can be done with\ngpu\n",
        "{said:?}"
    );
}

#[test]
fn zsh_completes() {
    let daemon = daemon_with_jobs();
    let Some(mut zsh) = shell("zsh", &daemon) else { return };
    // Its completion runs only in a line editor, which runs only at a terminal: zsh has a module for that.
    let script = r"
        zmodload zsh/zpty
        zpty z zsh -f -i
        zpty -w z 'autoload -U compinit; compinit -u -D; source <(poolctl completions zsh); print RE''ADY'
        zpty -r -m z line '*READY*'
        zpty -w -n z $'poolctl schedule show nig\t'
        zpty -r -m z line '*nightly*'
        print -r -- ${line[(ws:poolctl:)-1]}
        zpty -d z
    ";
    let said = run(zsh.args(["-f", "-c", script]));
    assert!(said.stdout.contains("nightly"), "{said:?}");

    // Where it is a file of $fpath, the first Tab reads that.
    let functions = daemon.path("functions");
    fs::create_dir(&functions).unwrap();
    fs::write(functions.join("_poolctl"), daemon.ok(&["completions", "zsh"])).unwrap();
    let mut zsh = shell("zsh", &daemon).expect("it was there");
    let sourced = "autoload -U compinit; compinit -u -D; source <(poolctl completions zsh);";
    assert!(script.contains(sourced));
    let script = script.replace(sourced, "fpath=(~/functions $fpath); autoload -U compinit; compinit -u -D;");
    let said = run(zsh.args(["-f", "-c", &script]));
    assert!(said.stdout.contains("nightly"), "{said:?}");
}
