//! What any client sees of the protocol: Varlink as others speak it, named errors, and no client that can
//! harm another.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::{fs, io};

use pool_proto::methods::{Get, List, Output, Ping, Pools, Submit, SubmitMany, Wait};
use pool_proto::nouns::{Job, ProgressEvent};
use pool_proto::{Client, ClientError, Refusal};
use pool_tests::{Daemon, PATIENCE, Setup, install, is_root_or_skip, poolctl, run, skip, wait_until};
use serde_json::{Value, json};

/// A client that knows nothing but bytes.
struct Raw(UnixStream);

impl Raw {
    fn connect(daemon: &Daemon) -> Self {
        let stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    fn send(&mut self, text: impl ToString) -> &mut Self {
        self.0.write_all(format!("{}\0", text.to_string()).as_bytes()).unwrap();
        self
    }

    /// The next message; none at the end of the stream.
    fn read(&mut self) -> Option<Value> {
        let mut bytes = Vec::new();
        let mut byte = [0];
        loop {
            match self.0.read(&mut byte) {
                Ok(0) => return None,
                Ok(_) if byte[0] == 0 => return Some(serde_json::from_slice(&bytes).unwrap()),
                Ok(_) => bytes.push(byte[0]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
    }

    fn error(&mut self) -> String {
        self.read().expect("a reply")["error"].as_str().expect("an error").to_owned()
    }

    fn assert_served(&mut self) {
        let reply = self.send(json!({ "method": "io.poold.Ping" })).read().unwrap();
        assert!(reply["parameters"]["pid"].is_u64(), "{reply}");
    }

    fn assert_closed(&mut self) {
        assert_eq!(self.read(), None);
    }
}

fn job(argv: &[&str]) -> Job {
    Job { argv: argv.iter().map(|&word| word.into()).collect(), ..Job::default() }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Refusal {
    match result {
        Err(ClientError::Refused(refusal)) => refusal,
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

// ---- Varlink ----

#[test]
fn the_service_describes_itself() {
    let daemon = Daemon::start(1);
    let mut raw = Raw::connect(&daemon);
    let info = raw.send(json!({ "method": "org.varlink.service.GetInfo" })).read().unwrap();
    assert_eq!(info["parameters"]["interfaces"], json!(["org.varlink.service", "io.poold"]));
    assert_eq!(info["parameters"]["version"], env!("CARGO_PKG_VERSION"));
    for (interface, member) in [("io.poold", "method SubmitMany"), ("org.varlink.service", "method GetInfo")]
    {
        let call = json!({ "method": "org.varlink.service.GetInterfaceDescription", "parameters": { "interface": interface } });
        let reply = raw.send(call).read().unwrap();
        let text = reply["parameters"]["description"].as_str().unwrap();
        assert!(text.contains(&format!("interface {interface}\n")) && text.contains(member), "{text}");
    }
    let call = json!({ "method": "org.varlink.service.GetInterfaceDescription", "parameters": { "interface": "a.b" } });
    assert_eq!(raw.send(call).error(), "org.varlink.service.InterfaceNotFound");
}

/// Somebody else's client: the package `varlink` of PyPI.
#[test]
fn pythons_varlink_speaks_with_it() {
    let has_varlink = Command::new("python3")
        .args(["-c", "import varlink"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_varlink {
        skip("python3 has no package `varlink` (python3 -m pip install varlink)");
        return;
    }
    let daemon = Daemon::start(1);
    let address = format!("unix:{}", daemon.socket().display());
    let varlink = |arguments: &[&str]| {
        let said = run(Command::new("python3").args(["-m", "varlink.cli"]).args(arguments));
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        said.stdout
    };
    assert!(varlink(&["info", &address]).contains("io.poold"));
    assert!(varlink(&["help", &format!("{address}/io.poold")]).contains("method Submit(job: Job"));
    let submit = format!("{address}/io.poold.Submit");
    let parameters = json!({ "job": { "argv": ["sh", "-c", "exit 5"] } }).to_string();
    let once: Value = serde_json::from_str(&varlink(&["call", &submit, &parameters])).unwrap();
    assert_eq!((&once["event"], &once["id"]), (&json!("accepted"), &json!(1)));
    let more = varlink(&["call", "-m", &submit, &parameters]);
    let replies: Vec<Value> =
        serde_json::Deserializer::from_str(&more).into_iter().map(Result::unwrap).collect();
    let events: Vec<&str> = replies.iter().map(|reply| reply["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["accepted", "started", "ended"]);
    assert_eq!(replies[2]["record"]["exit_code"], 5);
}

#[test]
fn calls_on_one_connection_are_answered_in_order_and_oneway_ones_not_at_all() {
    let daemon = Daemon::start(1);
    let mut raw = Raw::connect(&daemon);
    let submit = |oneway: bool| json!({ "method": "io.poold.Submit", "parameters": { "job": { "argv": ["true"] } }, "oneway": oneway });
    let wait = json!({ "method": "io.poold.Wait", "parameters": { "ids": [1] } });
    raw.send(submit(false))
        .send(submit(true))
        .send(wait)
        .send(submit(false))
        .send(json!({ "method": "io.poold.Pools" }));
    assert_eq!(raw.read().unwrap()["parameters"]["id"], 1);
    let ended = raw.read().unwrap();
    assert_eq!((&ended["parameters"]["event"], &ended["parameters"]["id"]), (&json!("ended"), &json!(1)));
    assert_eq!(raw.read().unwrap()["parameters"]["id"], 3, "the oneway call was carried out");
    assert!(raw.read().unwrap()["parameters"]["pools"].is_array());
}

// ---- refusals ----

#[test]
fn what_is_wrong_with_a_call_has_a_name_and_the_connection_goes_on() {
    let daemon = Daemon::start(1);
    let mut raw = Raw::connect(&daemon);
    let submit = |job: Value| json!({ "method": "io.poold.Submit", "parameters": { "job": job } });
    let cases = [
        (json!({ "method": "io.poold.Nothing" }), "org.varlink.service.MethodNotFound"),
        (json!({ "method": "com.example.Ping" }), "org.varlink.service.InterfaceNotFound"),
        (json!({ "method": "Ping" }), "org.varlink.service.InterfaceNotFound"),
        (json!({ "method": "io.poold.Get" }), "org.varlink.service.InvalidParameter"),
        (
            json!({ "method": "io.poold.Get", "parameters": { "id": "one" } }),
            "org.varlink.service.InvalidParameter",
        ),
        (
            json!({ "method": "io.poold.Get", "parameters": { "id": -1 } }),
            "org.varlink.service.InvalidParameter",
        ),
        (
            json!({ "method": "io.poold.Get", "parameters": { "id": 1, "x": 2 } }),
            "org.varlink.service.InvalidParameter",
        ),
        (json!({ "method": "io.poold.Get", "parameters": [1] }), "org.varlink.service.InvalidParameter"),
        (json!({ "method": "io.poold.Get", "parameters": { "id": 99 } }), "io.poold.NoSuchJob"),
        (json!({ "method": "io.poold.Wait", "parameters": { "ids": [99] } }), "io.poold.NoSuchJob"),
        (
            json!({ "method": "io.poold.Wait", "parameters": { "ids": [] } }),
            "org.varlink.service.InvalidParameter",
        ),
        (json!({ "method": "io.poold.Cancel", "parameters": { "ids": [99] } }), "io.poold.NoSuchJob"),
        (json!({ "method": "io.poold.Output", "parameters": { "id": 99 } }), "io.poold.NoSuchJob"),
        (
            json!({ "method": "io.poold.Signal", "parameters": { "id": 99, "signal": 15 } }),
            "io.poold.NoSuchJob",
        ),
        (
            json!({ "method": "io.poold.Signal", "parameters": { "id": 99, "signal": 99 } }),
            "org.varlink.service.InvalidParameter",
        ),
        (
            json!({ "method": "io.poold.List", "parameters": { "states": ["bogus"] } }),
            "org.varlink.service.InvalidParameter",
        ),
        (
            json!({ "method": "io.poold.Shutdown", "parameters": { "mode": "soon" } }),
            "org.varlink.service.InvalidParameter",
        ),
        (json!({ "method": "io.poold.Ping", "upgrade": true }), "org.varlink.service.MethodNotImplemented"),
        (submit(json!({ "argv": [] })), "io.poold.InvalidJob"),
        (submit(json!({ "argv": [""] })), "io.poold.InvalidJob"),
        (submit(json!({ "argv": ["a\u{0}b"] })), "io.poold.InvalidJob"),
        (submit(json!({ "argv": ["true"], "cwd": "relative" })), "io.poold.InvalidJob"),
        (submit(json!({ "argv": ["true"], "env": { "A=B": "c" } })), "io.poold.InvalidJob"),
        (submit(json!({ "argv": ["true"], "umask": 4096 })), "io.poold.InvalidJob"),
        (submit(json!({ "argv": ["true"], "timeout_s": -1 })), "io.poold.InvalidJob"),
        (submit(json!({ "argv": ["true"], "stdin": "../../etc/passwd" })), "io.poold.InvalidJob"),
        (submit(json!({ "argv": ["true"], "pool": "nowhere" })), "io.poold.NoSuchPool"),
        (submit(json!({ "argv": "true" })), "org.varlink.service.InvalidParameter"),
        (submit(json!({ "argv": ["true"], "prioritee": 1 })), "org.varlink.service.InvalidParameter"),
    ];
    for (call, wanted) in cases {
        assert_eq!(raw.send(&call).error(), wanted, "{call}");
    }
    raw.assert_served();
    assert_eq!(daemon.client().request(&List::default()).unwrap().jobs, [], "nothing was accepted");
}

#[test]
fn what_is_no_message_is_named_and_ends_the_connection() {
    let daemon = Daemon::start(1);
    for text in [
        "",
        "rubbish",
        "{",
        "[]",
        "42",
        "{\"parameters\":{}}",
        "{\"method\":7}",
        "{\"method\":\"io.poold.Ping\"}}",
    ] {
        let mut raw = Raw::connect(&daemon);
        assert_eq!(raw.send(text).error(), "io.poold.InvalidMessage", "{text:?}");
        raw.assert_closed();
    }
    let mut raw = Raw::connect(&daemon);
    raw.0.write_all(b"{\"method\":\"\xff\xfe\"}\0").unwrap();
    assert_eq!(raw.error(), "io.poold.InvalidMessage");
    // Nested beyond all measure: a recursive reader would run out of stack.
    let mut raw = Raw::connect(&daemon);
    let deep = format!(
        "{{\"method\":\"io.poold.Get\",\"parameters\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(raw.send(deep).read().unwrap()["error"].is_string());
    daemon.ok(&["ping"]);
}

#[test]
fn a_message_over_the_limit_is_refused_before_it_is_all_there() {
    let daemon = Daemon::start(1);
    let mut raw = Raw::connect(&daemon);
    let piece = vec![b'x'; 1 << 20];
    // The daemon answers and closes while there is still something coming; that may surface as EPIPE here.
    for _ in 0..17 {
        if raw.0.write_all(&piece).is_err() {
            break;
        }
    }
    let reply = raw.read().expect("a reply");
    assert_eq!(
        (&reply["error"], &reply["parameters"]["limit"]),
        (&json!("io.poold.FrameTooLarge"), &json!(16 << 20))
    );
    daemon.ok(&["ping"]);
    // One just below it is served.
    let mut client = daemon.client();
    let long = "x".repeat(1 << 20);
    let jobs = vec![Job { env: Some([("LONG".into(), long.into())].into()), ..job(&["true"]) }; 15];
    assert_eq!(client.request(&SubmitMany { jobs, defaults: None, obstacles: None }).unwrap().ids.len(), 15);
}

#[test]
fn many_jobs_are_accepted_all_or_none() {
    let daemon = Daemon::start(1);
    let mut client = daemon.client();
    let bad = [job(&[]), Job { pool: Some("nowhere".to_owned()), ..job(&["true"]) }];
    for bad in bad {
        let jobs = vec![job(&["true"]), job(&["true"]), bad];
        let refusal = refusal(client.request(&SubmitMany { jobs, defaults: None, obstacles: None }));
        assert!(
            matches!(refusal, Refusal::InvalidJob { index: 2, .. } | Refusal::NoSuchPool { .. }),
            "{refusal:?}"
        );
    }
    assert!(client.request(&List::default()).unwrap().jobs.is_empty());
    let submitted = client
        .request(&SubmitMany { jobs: vec![job(&["true"]); 2], defaults: None, obstacles: None })
        .unwrap();
    assert_eq!(submitted.ids, [1, 2]);
}

// ---- replies that go on, and descriptors ----

#[test]
fn a_submit_with_more_tells_of_start_and_end_and_hands_over_the_output() {
    let daemon = Daemon::start(1);
    let mut client = daemon.client();
    client
        .send(
            &Submit {
                job: job(&["sh", "-c", "echo out; echo err >&2"]),
                on_disconnect: None,
                obstacles: None,
            },
            true,
        )
        .unwrap();
    let (accepted, goes_on) = client.receive::<Submit>().unwrap();
    assert_eq!((accepted.event, accepted.id, goes_on), (ProgressEvent::Accepted, 1, true));
    let (started, goes_on) = client.receive::<Submit>().unwrap();
    assert_eq!(
        (started.event, started.attempt, started.descriptors, goes_on),
        (ProgressEvent::Started, Some(1), Some(2), true)
    );
    let mut outputs =
        [client.take_descriptor().unwrap(), client.take_descriptor().unwrap()].map(fs::File::from);
    let (ended, goes_on) = client.receive::<Submit>().unwrap();
    assert_eq!((ended.event, goes_on), (ProgressEvent::Ended, false));
    let texts = outputs.each_mut().map(|file| io::read_to_string(file).unwrap());
    assert_eq!(texts, ["out\n", "err\n"]);
    assert!(outputs[0].write_all(b"x").is_err(), "they can only be read");
    client.request(&Output { id: 1, attempt: None }).unwrap();
    let again = fs::File::from(client.take_descriptor().unwrap());
    assert_eq!(io::read_to_string(again).unwrap(), "out\n");
}

#[test]
fn a_wait_tells_of_each_end_and_without_more_of_the_last() {
    let daemon = Daemon::start(1);
    let mut client = daemon.client();
    let jobs = vec![job(&["true"]); 3];
    client.request(&SubmitMany { jobs, defaults: None, obstacles: None }).unwrap();
    client.send(&Wait { ids: vec![1, 2, 3, 2], ..Wait::default() }, true).unwrap();
    let mut told = Vec::new();
    loop {
        let (progress, goes_on) = client.receive::<Wait>().unwrap();
        told.push(progress.id);
        if !goes_on {
            break;
        }
    }
    told.sort_unstable();
    assert_eq!(told, [1, 2, 3]);
    assert!(
        client
            .request(&Wait { ids: vec![1, 2], ..Wait::default() })
            .unwrap()
            .record
            .unwrap()
            .state
            .is_terminal()
    );
}

#[test]
fn listings_go_page_by_page() {
    let daemon = Daemon::start(1);
    let mut client = daemon.client();
    let jobs = vec![job(&["true"]); 2500];
    client.request(&SubmitMany { jobs, defaults: None, obstacles: None }).unwrap();
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page = client.request(&List { after, limit: Some(700), ..List::default() }).unwrap();
        assert!(page.jobs.len() <= 700);
        ids.extend(page.jobs.iter().map(|record| record.id));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(ids, (1..=2500).collect::<Vec<u64>>());
    client.send(&List::default(), true).unwrap();
    let mut streamed = Vec::new();
    loop {
        let (page, goes_on) = client.receive::<List>().unwrap();
        streamed.extend(page.jobs.iter().map(|record| record.id));
        if !goes_on {
            break;
        }
    }
    assert_eq!(streamed, ids);
    client.request(&Ping {}).unwrap();
    daemon.ok(&["shutdown", "--now"]);
}

// ---- clients that harm nobody ----

#[test]
fn a_client_that_stalls_in_the_middle_of_a_message_holds_up_nobody() {
    let daemon = Daemon::start(1);
    let mut stalled: Vec<Raw> = (0..50).map(|_| Raw::connect(&daemon)).collect();
    for raw in &mut stalled {
        raw.0.write_all(b"{\"method\":\"io.poold.Pi").unwrap();
    }
    assert_eq!(daemon.run(&["submit", "--wait", "--", "true"]).code, 0);
    // And goes on where it was.
    stalled[0].0.write_all(b"ng\"}\0").unwrap();
    assert!(stalled[0].read().unwrap()["parameters"]["pid"].is_u64());
}

#[test]
fn a_client_that_never_reads_holds_up_nobody_and_fills_no_memory() {
    let daemon = Daemon::start(1);
    let long = "x".repeat(10_000);
    let jobs = vec![job(&["true", &long]); 1000];
    daemon.client().request(&SubmitMany { jobs, defaults: None, obstacles: None }).unwrap();
    let mut greedy = Raw::connect(&daemon);
    greedy.0.set_nonblocking(true).unwrap();
    let call = format!("{}\0", json!({ "method": "io.poold.List", "more": true }));
    // Ten megabytes a listing; asked for until the daemon takes no more.
    let asked = (0..100_000).take_while(|_| greedy.0.write_all(call.as_bytes()).is_ok()).count();
    eprintln!("asked {asked} {:?}", std::time::SystemTime::now());
    assert!(asked < 100_000, "the daemon stops reading from somebody who does not read");
    for _ in 0..10 {
        daemon.ok(&["ping"]);
    }
    eprintln!("pinged {:?}", std::time::SystemTime::now());
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.supervisor())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 200 << 10, "{kib} KiB for a client that does not read");
    eprintln!("drop {:?}", std::time::SystemTime::now());
    drop(greedy);
    daemon.ok(&["shutdown", "--now"]);
}

#[test]
fn a_client_that_goes_in_the_middle_of_anything_leaves_nothing_behind() {
    let daemon = Daemon::start(1);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", daemon.supervisor())).unwrap().count();
    daemon.ok(&["ping"]);
    let before = descriptors();
    for text in [
        "{\"method\"",
        "{\"method\":\"io.poold.Spool\"}\0",
        "{\"method\":\"io.poold.List\",\"more\":true}\0{",
        "\0\0\0",
    ] {
        for _ in 0..20 {
            Raw::connect(&daemon).0.write_all(text.as_bytes()).unwrap();
        }
    }
    wait_until("all of it is closed", || descriptors() <= before);
    let spooled = || fs::read_dir(daemon.state_dir().join("stdin")).map_or(0, Iterator::count);
    wait_until("no input is left that nobody took", || spooled() == 0);
}

#[test]
fn there_is_a_limit_to_clients_and_it_is_told() {
    let daemon = Setup::new().config("max_clients = 3\n").start();
    let mut clients: Vec<Client> = (0..3).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.request(&Ping {}).unwrap();
    }
    assert_eq!(refusal(daemon.client().request(&Ping {})), Refusal::TooManyClients { limit: 3 });
    let said = daemon.run(&["ping"]);
    assert_eq!(said.code, 75, "{said:?}");
    clients.pop();
    wait_until("there is room again", || daemon.run(&["ping"]).code == 0);
    clients[0].request(&Pools {}).unwrap();
}

#[test]
fn another_user_is_told_that_this_daemon_is_not_theirs() {
    if !is_root_or_skip("become somebody else") {
        return;
    }
    let daemon = Daemon::start(1);
    // They can only come so far where somebody has opened the way.
    fs::set_permissions(daemon.dir(), fs::Permissions::from_mode(0o711)).unwrap();
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(poolctl_for_all(&daemon));
        run(command.arg("--no-start").arg("--socket").arg(daemon.socket()).args(arguments))
    };
    let said = as_nobody(&["ping"]);
    assert_eq!(said.code, 125, "{said:?}");
    assert!(said.stderr.contains("Permission denied"), "{said:?}");
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    for arguments in
        [["ping"].as_slice(), &["submit", "--wait", "--", "true"], &["ls"], &["shutdown", "--now"]]
    {
        let said = as_nobody(arguments);
        assert_eq!(said.code, 125, "{said:?}");
        assert!(said.stderr.contains("this poold serves uid 0 only, you are uid 65534"), "{said:?}");
    }
    assert!(daemon.client().request(&List::default()).unwrap().jobs.is_empty());
    assert!(matches!(
        daemon.client().request(&Get { id: 1 }),
        Err(ClientError::Refused(Refusal::NoSuchJob { .. }))
    ));
}

/// poolctl where everybody may execute it, which root's build directory need not be.
fn poolctl_for_all(daemon: &Daemon) -> std::path::PathBuf {
    let copy = daemon.path("poolctl");
    install(poolctl(), &copy);
    copy
}
