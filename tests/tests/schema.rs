//! `poolctl schema`: what every verb prints with `--json` is as the schema says, with no member more; and
//! documents about ends: `wait --tail`, `submit --wait --json`.

use std::collections::BTreeSet;

use jsonschema::Validator;
use pool_tests::{Daemon, Said, Setup, run};
use serde_json::{Value, json};

/// The schema, in which no object may have a member that it does not name.
struct Schema {
    whole: Value,
    seen: BTreeSet<String>,
}

impl Schema {
    fn of(daemon: &Daemon) -> Self {
        let mut whole: Value = serde_json::from_str(&daemon.ok(&["schema"])).unwrap();
        for definition in whole["$defs"].as_object_mut().unwrap().values_mut() {
            if definition.get("properties").is_some() {
                definition["additionalProperties"] = json!(false);
            }
        }
        Self { whole, seen: BTreeSet::new() }
    }

    /// Each line of what the verb prints is as the schema has it.
    fn check(&mut self, verb: &str, said: &Said) {
        assert_eq!(said.stderr, "", "{verb}");
        let name = self.whole["verbs"][verb]
            .as_str()
            .unwrap_or_else(|| panic!("the schema lacks {verb}"))
            .to_owned();
        let mut schema = self.whole.clone();
        let object = schema.as_object_mut().unwrap();
        object.remove("verbs");
        object.insert("$ref".to_owned(), name.into());
        let validator: Validator = jsonschema::validator_for(&schema).unwrap();

        assert!(!said.stdout.is_empty(), "{verb} prints nothing: {said:?}");
        for line in said.stdout.lines() {
            let document: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{verb}: {error}: {line}"));
            let faults: Vec<String> = validator
                .iter_errors(&document)
                .map(|fault| format!("{} at {}", fault, fault.instance_path()))
                .collect();
            assert!(faults.is_empty(), "{verb}: {faults:#?}\n{document:#}");
        }
        self.seen.insert(verb.to_owned());
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_document_is_as_the_schema_says() {
    let config = "[pool.gpu]\nworkers = 1\n\n[limit.night]\nrunning = 3\n";
    let daemon = Setup::new().workers(2).config(config).start();
    let mut schema = Schema::of(&daemon);
    let mut check = |verb: &str, arguments: &[&str]| {
        let words: Vec<&str> = ["--json"]
            .into_iter()
            .chain(verb.split_terminator(' '))
            .chain(arguments.iter().copied())
            .collect();
        let said = daemon.run(&words);
        schema.check(verb, &said);
        said
    };

    check(
        "submit",
        &[
            "-l",
            "night",
            "-n",
            "a",
            "--on-done",
            "true",
            "--retries",
            "1",
            "--",
            "sh",
            "-c",
            "echo out; echo err >&2",
        ],
    );
    check("submit", &["--key", "k", "--", "true"]);
    check("submit", &["--key", "k", "--", "true"]);
    check("submit", &["--wait", "--mem", "1G", "--rlimit", "core=0", "--", "echo", "waited"]);
    check("run", &["--", "sh", "-c", "exit 3"]);
    check("wait", &["1-2"]);
    check("wait", &["--tail", "3", "1"]);
    daemon.ok(&["submit", "--hold", "--unique", "u", "--", "true"]);
    daemon.ok(&["submit", "--after", "5", "--deadline", "1h", "--", "true"]);
    check("show", &["1"]);
    check("show", &["6"]);
    check("ls", &[]);
    check("ls", &["--limit", "2"]);
    check("", &[]);
    check("why", &["1-6"]);
    check("deps", &["6"]);
    check("limit ls", &[]);
    check("pool ls", &[]);
    check("map", &["echo", ":::", "a", "b"]);
    check("map", &["--dry-run", "echo", ":::", "a", "b"]);
    daemon.ok(&["schedule", "add", "nightly", "--cron", "0 3 * * *", "--", "true"]);
    check("schedule run", &["nightly"]);
    check("schedule ls", &[]);
    check("schedule show", &["nightly"]);
    check("events", &["1"]);
    check("stats", &[]);
    check("stats", &["--by", "label", "--since", "1h"]);
    check("ping", &[]);
    check("callbacks ls", &[]);
    check("callbacks show", &["1"]);
    check("config show", &[]);
    check("config check", &[&daemon.path_text("config.toml")]);
    check("backup", &[&daemon.path_text("backup.db")]);
    check("doctor", &[]);
    check("retry", &["--new", "1"]);
    check("cancel", &["5"]);
    check("prune", &["--older", "0s", "--dry-run"]);
    check("prune", &["--older", "0s"]);

    daemon.ok(&["pool", "add", "square", "--", "python3", &square()]);
    check("call", &["--async", "square", "square", "7"]);
    check("call", &["square", "square", "7"]);
    check("pool ls", &[]);

    let said = daemon.run(&["--json", "submit", "--hold", "--", "true"]);
    schema.check("submit", &said);
    let id = lines(&said.stdout)[0]["id"].to_string();
    for arguments in [
        &["--json", "wait", "--timeout", "10ms", &id][..],
        &["--json", "wait", "--timeout", "10ms", "--tail", "2", &id],
    ] {
        let said = daemon.run(arguments);
        assert_eq!(said.code, 124, "{said:?}");
        schema.check("wait", &Said { stderr: String::new(), ..said });
    }

    let listed: BTreeSet<String> = schema.whole["verbs"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(schema.seen, listed, "every verb of the schema is tried");
}

fn square() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/programs/square.py").to_owned()
}

#[test]
fn the_schema_of_one_verb_stands_alone() {
    let daemon = Daemon::start(1);
    let schema: Value = serde_json::from_str(&daemon.ok(&["schema", "pool", "ls"])).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let pools: Value = serde_json::from_str(&daemon.ok(&["--json", "pool", "ls"])).unwrap();
    assert!(validator.is_valid(&pools), "{pools}");
    assert!(!validator.is_valid(&json!({ "schema": 1 })));

    let said = daemon.run(&["schema", "logs"]);
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("\"logs\" prints no JSON; these verbs do: backup, "), "{said:?}");
}

#[test]
fn wait_tells_state_and_end_of_the_log_in_one_document() {
    let daemon = Daemon::start(1);
    let id = daemon.submit_sh("seq 100; printf 'a\\nb\\nlast' >&2; exit 3").to_string();
    let said = daemon.run(&["--json", "wait", "--tail", "2", &id]);
    assert_eq!(said.code, 3);
    let document: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(document["timed_out"], false);
    let job = &document["jobs"][0];
    assert_eq!((&job["record"]["state"], &job["record"]["exit_code"]), (&json!("failed"), &json!(3)));
    assert_eq!((&job["stdout"], &job["stderr"]), (&json!("99\n100\n"), &json!("b\nlast")));

    // The time is up: the same document, of what is known by then.
    let id = daemon.submit_sh("echo begun; sleep 1000").to_string();
    daemon.wait_record(id.parse().unwrap(), "output", |record| {
        record.attempt == 1 && record.started_at.is_some()
    });
    let said = daemon.run(&["--json", "wait", "--timeout", "1s", "--tail", "5", &id]);
    assert_eq!(said.code, 124, "{said:?}");
    let document: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(document["timed_out"], true);
    assert_eq!(document["jobs"][0]["record"]["state"], "running");
    assert_eq!(document["jobs"][0]["stdout"], "begun\n");

    // One that has not begun has no output.
    let waiting = daemon.submit(&["--", "true"]).to_string();
    let said = daemon.run(&["--json", "wait", "--timeout", "0", "--tail", "5", &waiting]);
    let document: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(document["jobs"][0]["stdout"], Value::Null);

    let text = daemon.run(&["wait", "--timeout", "0", "--tail", "5", &id]);
    assert_eq!(text.stdout, format!("==> job {id} stdout <==\nbegun\n"));
}

#[test]
fn submit_and_wait_is_one_document() {
    let daemon = Daemon::start(1);
    let said =
        daemon.run(&["--json", "submit", "--wait", "--", "sh", "-c", "echo out; printf '\\377' >&2; exit 7"]);
    assert_eq!(said.code, 7, "{said:?}");
    let document: Value = serde_json::from_str(&said.stdout).unwrap();
    let job = &document["jobs"][0];
    assert_eq!((&job["stdout"], &job["stderr"]), (&json!("out\n"), &json!("\u{fffd}")));
    assert_eq!(job["record"]["exit_code"], 7);

    daemon.ok(&["submit", "--hold", "--unique", "u", "--", "true"]);
    let skipped = daemon.run(&["--json", "run", "--unique", "u", "--", "true"]);
    assert_eq!(skipped.code, 0);
    assert_eq!(lines(&skipped.stdout)[0]["skipped"], true);
}

#[test]
fn a_configuration_is_printed_checked_and_shown() {
    let setup = Setup::new();
    let file = setup.dir().join("poold.toml");
    let poolctl = |arguments: &[&str]| run(setup.program("poolctl").args(arguments));
    let init = poolctl(&["config", "init"]);
    assert_eq!(init.code, 0);
    assert!(init.stdout.contains("\n#kill_after = \"10s\"\n"), "{}", init.stdout);

    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        poolctl(&["config", "check", file.to_str().unwrap()])
    };
    let good = check(&init.stdout);
    assert_eq!((good.code, good.stderr.as_str()), (0, ""), "{good:?}");
    for (text, said) in [
        ("retries = 1\nworkes = 2\n", "line 2, column 1"),
        ("retries = \"x\"\n", "line 1, column 11"),
        (
            "[pool.build]\nworkers = 2\ncwd = \"/\"\n",
            "line 3, column 1: [pool.build] cwd: only a warm pool has it",
        ),
    ] {
        let bad = check(text);
        assert_eq!(bad.code, 1, "{bad:?}");
        assert!(bad.stderr.contains(said) && !bad.stderr.contains("poold: "), "{bad:?}");
    }
    let doubted = check(
        "workers = 2\n[pool.gpu]\nworkers = 1\n[pool.gpu.resources]\ndevice = [0]\n\
         [schedule.a]\nevery = \"1h\"\ncommand = [\"true\"]\npool = \"nope\"\n\
         [schedule.b]\nevery = \"1h\"\ncommand = [\"true\"]\nslots = 99\n\
         [schedule.c]\nevery = \"1h\"\ncommand = [\"true\"]\npool = \"gpu\"\nresources = { device = 2 }\n\
         [schedule.d]\nevery = \"1h\"\ncommand = [\"true\"]\npool = \"gpu\"\nresources = { device = 1 }\n",
    );
    assert_eq!(doubted.code, 0, "{doubted:?}");
    assert!(!doubted.stdout.contains("nothing is wrong"), "{doubted:?}");
    for said in [
        "[schedule.a] pool: there is no [pool.nope]; unless `poolctl pool add`",
        "[schedule.b] slots: its job takes 99 slots, and the pool \"default\" has 2; unless `poolctl pool set`",
        "[schedule.c] resources: its job takes 2 of \"device\", and the pool \"gpu\" has 1",
    ] {
        assert!(doubted.stderr.contains(said), "{said}: {doubted:?}");
    }
    assert!(!doubted.stderr.contains("schedule.d"), "{doubted:?}");
    check("workes = 2\n");

    let json = run(setup.program("poolctl").args(["--json", "config", "check"]).arg(&file));
    let document: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((json.code, &document["valid"]), (1, &json!(false)));

    let daemon = Setup::new().workers(3).config("kill_after = \"5s\"\n[pool.gpu]\nworkers = 1\n").start();
    daemon.ok(&["pool", "set", "gpu", "--workers", "2"]);
    daemon.ok(&["limit", "set", "night", "4"]);
    let shown = daemon.ok(&["config", "show"]);
    let source = |setting: &str| {
        let line = shown
            .lines()
            .find(|line| line.starts_with(setting))
            .unwrap_or_else(|| panic!("{setting}: {shown}"));
        line.split_once("  # ").unwrap().1.to_owned()
    };
    assert_eq!(source("kill_after = \"5s\""), format!("{}, line 1", daemon.path_text("config.toml")));
    assert_eq!(source("stop_grace = \"10s\""), "default");
    assert_eq!(source("workers = 3"), "poold --workers");
    assert_eq!(source("workers = 2"), "poolctl pool set");
    assert_eq!(source("running = 4"), "poolctl limit set");
    // It is a file that poold would read.
    let check = check(&shown);
    assert_eq!(check.code, 0, "{check:?}\n{shown}");
}
