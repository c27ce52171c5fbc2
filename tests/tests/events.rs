//! What a client that listens is told: every transition once, in order, of what it asked for and nothing
//! else.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use pool_proto::methods::Events;
use pool_proto::methods::{Pools, SubmitMany};
use pool_proto::nouns::{Happening, HappeningKind};
use pool_proto::nouns::{Job, OnCrash};
use pool_proto::{Client, ClientError, Refusal, ResultKind, State};
use pool_tests::{Daemon, Setup, line_of, send};

/// A client that listens, and has been told that it hears everything from now on.
struct Listener(Client);

impl Listener {
    fn start(daemon: &Daemon, pools: Option<&[&str]>, ids: Option<&[u64]>) -> Self {
        let mut client = daemon.client();
        let pools = pools.map(|pools| pools.iter().map(ToString::to_string).collect());
        client.send(&Events { pools, ids: ids.map(<[u64]>::to_vec), since: None }, true).unwrap();
        let mut listener = Self(client);
        assert_eq!(listener.next().event, HappeningKind::Listening);
        listener
    }

    fn next(&mut self) -> Happening {
        let (happening, more) = self.0.receive::<Events>().unwrap();
        assert!(more && happening.at.ends_with('Z'), "{happening:?}");
        happening
    }

    /// All up to one of this kind, that one included.
    fn until(&mut self, kind: HappeningKind) -> Vec<Happening> {
        let mut all = Vec::new();
        while all.last().is_none_or(|last: &Happening| last.event != kind) {
            all.push(self.next());
        }
        all
    }
}

fn kinds(happenings: &[Happening]) -> Vec<HappeningKind> {
    happenings.iter().map(|happening| happening.event).collect()
}

#[test]
fn a_jobs_life_is_told_from_its_submission_to_its_callback() {
    let daemon = Daemon::start(1);
    let mut listener = Listener::start(&daemon, None, None);
    daemon.run(&["submit", "--wait", "--name", "it", "--on-done", "true", "--", "sh", "-c", "exit 3"]);
    let all = listener.until(HappeningKind::CallbackDelivered);
    assert_eq!(
        kinds(&all),
        [
            HappeningKind::Submitted,
            HappeningKind::Started,
            HappeningKind::Ended,
            HappeningKind::CallbackDelivered
        ]
    );
    assert!(
        all.iter().all(|happening| happening.id == Some(1) && happening.pool.as_deref() == Some("default")),
        "{all:#?}"
    );
    let [submitted, started, ended, delivered] = &all[..] else { unreachable!() };
    assert_eq!(submitted.name, Some("it".into()));
    assert_eq!((started.attempt, started.slot), (Some(1), Some(0)));
    assert_eq!(
        (ended.state, ended.result, ended.exit_code),
        (Some(State::Failed), Some(ResultKind::ExitCode), Some(3))
    );
    assert_eq!((delivered.callback, delivered.exit_code), (Some(1), Some(0)));
}

#[test]
fn a_worker_that_dies_is_told_with_what_becomes_of_its_job() {
    let daemon = Daemon::start(1);
    let id = daemon.submit_sh("[ $POOL_ATTEMPT = 2 ] || exec sleep 600");
    // It runs before anybody listens.
    let worker =
        daemon.wait_record(id, "it runs", |record| record.state == State::Running).worker_pid.unwrap();
    let mut listener = Listener::start(&daemon, Some(&["default"]), None);
    send(worker, Signal::SIGKILL);
    let all = listener.until(HappeningKind::Ended);
    let find = |kind| {
        all.iter()
            .find(|happening| happening.event == kind)
            .unwrap_or_else(|| panic!("no {kind:?}: {all:#?}"))
    };
    let how = format!("its worker {worker} was killed by signal 9");
    assert_eq!(
        (find(HappeningKind::WorkerLost).pid, find(HappeningKind::WorkerLost).reason.as_ref()),
        (Some(worker), Some(&how))
    );
    let requeued = find(HappeningKind::Requeued);
    assert_eq!((requeued.id, requeued.pool.as_deref()), (Some(id), Some("default")));
    assert_eq!(requeued.reason.as_ref(), Some(&how));
    assert!(find(HappeningKind::WorkerUp).pid.is_some_and(|pid| pid != worker));
    assert_eq!(
        (find(HappeningKind::Started).attempt, find(HappeningKind::Ended).state),
        (Some(2), Some(State::Succeeded))
    );
}

#[test]
fn cancels_holds_and_releases_are_told() {
    let daemon = Daemon::start(1);
    let mut listener = Listener::start(&daemon, None, None);
    let running = daemon.submit_sh("exec sleep 600");
    let queued = daemon.submit_sh("true");
    daemon.wait_record(running, "it runs", |record| record.state == State::Running);
    daemon.ok(&["cancel", &queued.to_string()]);
    daemon.ok(&["cancel", &running.to_string()]);
    let all = listener.until(HappeningKind::Stopping);
    let ended = all.iter().find(|happening| happening.event == HappeningKind::Ended).unwrap();
    assert_eq!(
        (ended.id, ended.state, ended.pool.as_deref()),
        (Some(queued), Some(State::Canceled), Some("default"))
    );
    assert_eq!(all.last().unwrap().reason.as_deref(), Some("it was canceled"));
    assert_eq!(listener.until(HappeningKind::Ended).last().unwrap().id, Some(running));

    let id =
        daemon.submit(&["--on-crash", "hold", "--", "sh", "-c", "[ $POOL_ATTEMPT = 2 ] || exec sleep 600"]);
    let worker = daemon.wait_record(id, "it runs", |record| record.pid.is_some()).worker_pid.unwrap();
    send(worker, Signal::SIGKILL);
    let held = listener.until(HappeningKind::Held).pop().unwrap();
    assert!(held.id == Some(id) && held.reason.unwrap().contains("poolctl release"));
    daemon.ok(&["release", &id.to_string()]);
    let all: Vec<Happening> = listener
        .until(HappeningKind::Ended)
        .into_iter()
        .filter(|happening| happening.id == Some(id))
        .collect();
    assert_eq!(kinds(&all), [HappeningKind::Released, HappeningKind::Started, HappeningKind::Ended]);
    assert_eq!(all[0].pool.as_deref(), Some("default"));
}

#[test]
fn a_callback_that_fails_is_told_each_time() {
    let daemon = Setup::new().workers(1).config("[callbacks]\nattempts = 2\nbackoff = \"10ms\"\n").start();
    let mut listener = Listener::start(&daemon, None, None);
    daemon.submit(&["--on-done", "exit 4", "--", "true"]);
    let all = listener.until(HappeningKind::CallbackFailed);
    let told = all
        .iter()
        .filter(|happening| happening.callback == Some(1))
        .map(|happening| (happening.event, happening.exit_code, happening.id));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            (HappeningKind::CallbackRetrying, Some(4), Some(1)),
            (HappeningKind::CallbackFailed, Some(4), Some(1))
        ]
    );
}

#[test]
fn calls_and_the_programs_that_take_them_are_told() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/square.py");
    let path = std::env::var("PATH").unwrap_or_default();
    let setup = Setup::new();
    let env = format!("{{ {} = {:?}, PATH = {path:?} }}", pool_tests::MARK, setup.mark());
    let daemon = setup
        .config(&format!("[pool.p]\nworkers = 1\ncommand = [\"python3\", {program:?}]\nenv = {env}\n"))
        .start();
    let mut listener = Listener::start(&daemon, Some(&["p"]), None);
    daemon.ok(&["call", "p", "slow_square", "3", "0.2"]);
    let all = listener.until(HappeningKind::Ended);
    let told: Vec<&Happening> = all.iter().filter(|happening| happening.id == Some(1)).collect();
    let fractions: Vec<f64> = told.iter().filter_map(|told| told.progress.as_ref()?.fraction).collect();
    assert_eq!(fractions, [0.25, 0.5, 0.75, 1.0], "{told:#?}");
    assert_eq!(
        told.iter()
            .map(|told| told.event)
            .filter(|kind| *kind != HappeningKind::Progress)
            .collect::<Vec<_>>(),
        [HappeningKind::Submitted, HappeningKind::Started, HappeningKind::Ended]
    );
    assert_eq!(told.last().unwrap().state, Some(State::Succeeded));

    daemon.ok(&["call", "p", "square", "3"]);
    assert_eq!(
        kinds(&listener.until(HappeningKind::Ended)),
        [HappeningKind::Submitted, HappeningKind::Started, HappeningKind::Ended],
        "a short one has a start, too"
    );

    daemon.ok(&["call", "--durability", "none", "p", "square", "3"]);
    assert_eq!(
        kinds(&listener.until(HappeningKind::Ended)),
        [HappeningKind::Submitted, HappeningKind::Started, HappeningKind::Ended],
        "in memory alone, too"
    );

    let slots = daemon.client().request(&Pools {}).unwrap().pools.remove(1).slots;
    send(slots[0].program_pid.unwrap(), Signal::SIGKILL);
    let all = listener.until(HappeningKind::ProgramReady);
    assert!(all.last().unwrap().pid.is_some_and(|pid| Some(pid) != slots[0].program_pid), "{all:#?}");
    assert_eq!(
        kinds(&all),
        [HappeningKind::WorkerLost, HappeningKind::WorkerUp, HappeningKind::ProgramReady]
    );
}

#[test]
fn a_listener_hears_only_of_what_it_named() {
    let daemon = Setup::new().workers(1).config("[pool.build]\nworkers = 1\n").start();
    let mut build = Listener::start(&daemon, Some(&["build"]), None);
    let mut second = Listener::start(&daemon, None, Some(&[2]));
    let mut neither = Listener::start(&daemon, Some(&["build"]), Some(&[1]));
    for arguments in [&["--", "true"][..], &["--", "true"], &["--pool", "build", "--", "true"]] {
        let id = daemon.submit(arguments);
        daemon.ok(&["wait", &id.to_string()]);
    }
    let life = [HappeningKind::Submitted, HappeningKind::Started, HappeningKind::Ended];
    for (listener, id) in [(&mut build, 3), (&mut second, 2)] {
        let all = listener.until(HappeningKind::Ended);
        assert_eq!(kinds(&all), life);
        assert!(all.iter().all(|happening| happening.id == Some(id)), "{all:#?}");
    }
    daemon.ok(&["shutdown"]);
    assert!(matches!(neither.0.receive::<Events>(), Err(ClientError::Refused(Refusal::ShuttingDown {}))));

    let daemon = Daemon::start(1);
    let mut client = daemon.client();
    client.send(&Events { pools: Some(vec!["none".into()]), ..Events::default() }, true).unwrap();
    let refused = client.receive::<Events>();
    assert!(matches!(refused, Err(ClientError::Refused(Refusal::NoSuchPool { pool })) if pool == "none"));
    assert!(matches!(
        daemon.client().request(&Events::default()),
        Err(ClientError::Refused(Refusal::ExpectedMore {}))
    ));
}

#[test]
fn a_listener_that_does_not_read_is_told_that_it_has_missed_something() {
    let daemon = Setup::new().workers(1).quiet().start();
    let mut slow = Listener::start(&daemon, None, None);
    let mut other = Listener::start(&daemon, None, Some(&[1]));
    let job = |index: usize| {
        let name = Some(format!("{index} {}", "x".repeat(1_000_000)).into());
        Job { argv: vec!["true".into()], name, on_crash: Some(OnCrash::Requeue), ..Job::default() }
    };
    let mut client = daemon.client();
    // Each is told with its name when it is submitted, and again when it has ended.
    for _ in 0..3 {
        client
            .request(&SubmitMany { jobs: (0..8).map(job).collect(), defaults: None, obstacles: None })
            .unwrap();
    }
    daemon.run(&["wait", "1-24"]);
    let mut heard = 0;
    let last = loop {
        match slow.0.receive::<Events>() {
            Ok(_) => heard += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(last, ClientError::Refused(Refusal::EventsMissed { .. })), "{last:?}");
    assert!((20..65).contains(&heard), "{heard}");
    assert_eq!(
        kinds(&other.until(HappeningKind::Ended)),
        [HappeningKind::Submitted, HappeningKind::Started, HappeningKind::Ended],
        "nobody else misses anything"
    );
    // And it can ask again, on the same connection.
    slow.0.send(&Events::default(), true).unwrap();
    assert_eq!(slow.next().event, HappeningKind::Listening);
}

// ---- poolctl ----

struct Reader {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Reader {
    fn start(daemon: &Daemon, arguments: &[&str]) -> Self {
        let log = std::fs::File::create(daemon.path("said")).unwrap();
        let mut command = daemon.ctl(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("there is more").unwrap()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn poolctl_prints_an_object_or_a_line_for_each() {
    let daemon = Daemon::start(1);
    let mut objects = Reader::start(&daemon, &["events", "--json"]);
    assert!(objects.line().starts_with("{\"event\":\"listening\",\"at\":\""));
    let mut lines = Reader::start(&daemon, &["events", "--pool", "default"]);
    assert!(lines.line().ends_with("listening"));
    daemon.run(&["submit", "--wait", "--", "sh", "-c", "exit 3"]);
    let object = |line: String| serde_json::from_str::<serde_json::Value>(&line).unwrap();
    let told: Vec<_> = (0..3).map(|_| object(objects.line())).collect();
    assert_eq!(
        told.iter().map(|told| told["event"].as_str().unwrap()).collect::<Vec<_>>(),
        ["submitted", "started", "ended"]
    );
    assert_eq!(
        (&told[2]["state"], &told[2]["exit_code"], &told[2]["id"]),
        (&"failed".into(), &3.into(), &1.into())
    );
    for words in [["job 1", "submitted"], ["job 1", "started"], ["job 1", "failed"]] {
        let line = lines.line();
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }

    // A supervisor that is started anew is listened to again.
    send(daemon.supervisor(), Signal::SIGKILL);
    assert!(std::iter::repeat_with(|| objects.line()).any(|line| line.contains("\"listening\"")));
    daemon.ok(&["shutdown"]);
    assert_eq!(objects.child.wait().unwrap().code(), Some(125));
    assert_eq!(lines.child.wait().unwrap().code(), Some(125));
    let said = line_of(&daemon.path("said"));
    assert!(said.contains("poold has shut down"), "{said}");
}

/// An object that poolctl prints.
fn object(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap()
}

fn cursor(object: &serde_json::Value) -> String {
    object["cursor"].as_str().expect("each event has a cursor").to_owned()
}

#[test]
fn a_reader_that_comes_back_misses_nothing_or_is_told_so() {
    let daemon = Daemon::start(1);
    let mut reader = Reader::start(&daemon, &["events", "--json"]);
    let listening = cursor(&object(&reader.line()));
    daemon.ok(&["run", "--", "true"]);
    let submitted = object(&reader.line());
    assert_eq!(submitted["event"], "submitted");
    drop(reader);

    // While nobody reads.
    daemon.run(&["run", "--", "false"]);
    let mut reader = Reader::start(&daemon, &["events", "--json", "--since", &cursor(&submitted)]);
    let told: Vec<_> = (0..6).map(|_| object(&reader.line())).collect();
    let told: Vec<String> = told.iter().map(|told| format!("{} {}", told["event"], told["id"])).collect();
    assert_eq!(
        told,
        [
            "\"started\" 1",
            "\"ended\" 1",
            "\"submitted\" 2",
            "\"started\" 2",
            "\"ended\" 2",
            "\"listening\" null"
        ]
    );
    let mut of_job =
        Reader::start(&daemon, &["events", "--json", "--since", &listening, "--kind", "ended", "2"]);
    assert_eq!(object(&of_job.line())["id"], 2);
    assert_eq!(object(&of_job.line())["event"], "listening");
    assert_eq!(of_job.child.wait().unwrap().code(), Some(0), "it is over");

    // A supervisor knows nothing of the one before it, and says so; to who is there as to who comes back.
    send(daemon.supervisor(), Signal::SIGKILL);
    let after = std::iter::repeat_with(|| object(&reader.line()));
    let after: Vec<_> = after.skip_while(|told| told["event"] != "gap").take(1).collect();
    assert_eq!(after[0]["reason"], "the cursor is of an earlier start of poold");
    let mut back = Reader::start(&daemon, &["events", "--since", &listening]);
    assert!(back.line().ends_with("some events are missing: the cursor is of an earlier start of poold"));
    while !back.line().ends_with("listening") {}
    daemon.ok(&["run", "--", "true"]);
    assert!(back.line().contains("submitted"));

    let said = daemon.run(&["events", "--since", "yesterday"]);
    assert!(said.code == 125 && said.stderr.contains("\"yesterday\" is no cursor of an event"), "{said:?}");
}

#[test]
fn poolctl_says_what_is_wrong_with_its_pool() {
    let daemon = Daemon::start(1);
    let said = daemon.run(&["events", "--pool", "none"]);
    assert_eq!(said.code, 125);
    assert!(said.stderr.contains("there is no pool \"none\""), "{said:?}");
}

#[test]
fn a_job_that_does_not_exist_is_named_and_not_waited_for() {
    let daemon = Daemon::start(2);
    let id = daemon.submit(&["--unique", "u", "--", "sleep", "600"]).to_string();
    daemon.ok(&["submit", "--unique", "u", "--", "true"]);
    let other = daemon.submit(&["true"]);
    assert_eq!(other, 3, "the id of what was skipped stays unused");
    daemon.ok(&["wait", "3"]);

    for (unknown, why) in
        [("2", "job 2"), ("0", "job 0"), ("99", "job 99"), ("50-60", "none of the jobs 50-60")]
    {
        for verb in [&["events"][..], &["events", "3"], &["--json", "events"], &["wait"], &["cancel"]] {
            let said = daemon.run(&[verb, &[unknown]].concat());
            assert!(said.code == 125 && said.stderr.contains(why), "{verb:?} {unknown}: {said:?}");
        }
    }
    for unknown in ["0", "2", "99"] {
        for verb in [&["logs"][..], &["logs", "-f"], &["show"]] {
            let said = daemon.run(&[verb, &[unknown]].concat());
            assert!(said.code == 125 && said.stderr.contains(unknown), "{verb:?} {unknown}: {said:?}");
        }
    }

    // Of a range those are waited for that exist.
    daemon.ok(&["cancel", &id]);
    assert_eq!(daemon.run(&["events", "1-9"]).code, 0);
}

#[test]
fn selectors_name_the_jobs_whose_events_are_wanted() {
    let daemon = Daemon::start(1);
    let gate = daemon.path_text("gate");
    let wait = format!("until [ -e {gate} ]; do sleep 0.02; done");
    daemon.submit(&["-l", "x", "--", "sh", "-c", &wait]);
    daemon.submit(&["--", "true"]);
    let mut command = daemon.ctl(&["events", "@x", "--json"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains("listening"));
    std::fs::write(&gate, "").unwrap();
    let told: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(child.wait().unwrap().success());
    assert!(told.iter().all(|line| line.contains("\"id\":1")) && !told.is_empty(), "{told:?}");

    let said = daemon.run(&["events", "name:none"]);
    assert!(said.code == 125 && said.stderr.contains("name:none names no job"), "{said:?}");
    let said = daemon.run(&["events", "last", "state:running"]);
    assert!(said.code == 125 && said.stderr.contains("state:running names no job"), "{said:?}");
}

#[test]
fn the_events_of_an_element_that_never_runs_end_with_its_array() {
    let daemon = Daemon::start(1);
    let id = daemon.submit(&["--array", "0-2999", "--", "sleep", "1000"]);
    daemon.wait_record(id + 1, "it runs", |record| record.state == State::Running);
    let element = format!("{id}.2500");
    let mut before = Reader::start(&daemon, &["events", "--json", &element]);
    assert_eq!(object(&before.line())["event"], "listening");
    daemon.ok(&["cancel", &id.to_string()]);
    assert!(before.child.wait().unwrap().success());
    let after = daemon.run(&["events", "--json", &element]);
    assert_eq!((after.code, after.stdout.lines().count()), (0, 1), "{after:?}");
    let several = daemon.run(&["events", &format!("{id}.0-2999"), &id.to_string()]);
    assert_eq!(several.code, 0, "{several:?}");
}
