//! What users see of resources: items of which each is with one job at a time.

use std::fs;

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::gate::{self, open, runs, state, wait};
use pool_tests::{Daemon, Setup, run, wait_until};
use serde_json::Value;

const GPUS: &str = "[pool.default.resources]\ngpu = [\"0\", \"1\"]\ntape-drive = [\"st0\"]\n";

/// A job with these options that tells its items and runs until the test makes the file of that name.
fn gated(daemon: &Daemon, options: &[&str], gate: &str) -> u64 {
    gate::gated(daemon, options, &format!("{TELL}; "), gate)
}

const TELL: &str = "echo ${POOL_RESOURCE_GPU-none} ${POOL_RESOURCE_TAPE_DRIVE-none}";

fn logs(daemon: &Daemon, id: u64) -> String {
    daemon.ok(&["logs", &id.to_string()])
}

fn why(daemon: &Daemon, id: u64) -> String {
    daemon.ok(&["why", &id.to_string()])
}

fn pool(daemon: &Daemon) -> Value {
    let pools: Value = serde_json::from_str(&daemon.ok(&["pool", "ls", "--json"])).unwrap();
    pools["pools"][0].clone()
}

/// Who has which item of the first resource, as `0:7 1:-`.
fn holders(daemon: &Daemon) -> String {
    let holder = |item: &Value| {
        let job = item["job"].as_u64().map_or_else(|| "-".to_owned(), |id| id.to_string());
        format!("{}:{job}", item["item"].as_str().unwrap())
    };
    let pool = pool(daemon);
    let items = pool["resources"][0]["items"].as_array().cloned().unwrap_or_default();
    items.iter().map(holder).collect::<Vec<String>>().join(" ")
}

fn reread(daemon: &Daemon, config: &str) {
    fs::write(daemon.path("config.toml"), config).unwrap();
    daemon.signal(Signal::SIGHUP);
}

#[test]
fn items_are_handed_out_shown_and_given_back() {
    let daemon = Setup::new().workers(4).config(GPUS).start();
    let first = gated(&daemon, &["--resource", "gpu"], "first");
    runs(&daemon, first);
    let second = gated(&daemon, &["--resource", "gpu=1", "--resource", "tape-drive"], "second");
    runs(&daemon, second);
    let both = gated(&daemon, &["--resource", "gpu=2"], "both");
    let behind = daemon.submit(&["--", "true"]);
    assert_eq!(holders(&daemon), format!("0:{first} 1:{second}"));
    let said = why(&daemon, both);
    assert!(
        said.contains(&format!("it takes 2 of gpu: 2 of 2 are taken (jobs {first}, {second})")),
        "{said}"
    );
    assert!(
        why(&daemon, behind).contains(&format!("free slots are kept for job {both}, which waits for gpu"))
    );
    assert_eq!(pool(&daemon)["gathering_for"].as_u64(), Some(both));
    let said = daemon.ok(&["pool", "ls"]);
    assert!(said.contains("busy; gpu 2 of 2, tape-drive 1 of 1"), "{said}");
    let shown = daemon.ok(&["show", &second.to_string()]);
    assert!(shown.contains("resources  gpu=1 (1), tape-drive=1 (st0)\n"), "{shown}");

    open(&daemon, "first");
    wait(&daemon, &[first]);
    assert_eq!((state(&daemon, both), state(&daemon, behind)), (State::Queued, State::Queued));
    open(&daemon, "second");
    runs(&daemon, both);
    open(&daemon, "both");
    wait(&daemon, &[second, both, behind]);
    let told = [first, second, both].map(|id| logs(&daemon, id));
    assert_eq!(told, ["0 none\n", "1 st0\n", "0,1 none\n"]);
    let shown = daemon.ok(&["show", &both.to_string()]);
    assert!(shown.contains("resources  gpu=2\n"), "{shown}");
    wait_until("all items are free", || holders(&daemon) == "0:- 1:-");
    let said = daemon.ok(&["pool", "ls"]);
    assert!(said.contains("idle; gpu 0 of 2, tape-drive 0 of 1"), "{said}");
}

#[test]
fn every_way_to_submit_takes_items() {
    let schedule = "[schedule.never]\nevery = \"1d\"\ncommand = [\"true\"]\nresources = { gpu = 2 }\n";
    let daemon = Setup::new().workers(2).config(&format!("{GPUS}{schedule}")).start();
    let tell = ["sh", "-c", TELL];
    let said = daemon.run(&[&["run", "--resource", "gpu=2", "--"][..], &tell].concat());
    assert_eq!((said.code, said.stdout.as_str()), (0, "0,1 none\n"));
    assert_eq!(daemon.run(&[&["run", "--"][..], &tell].concat()).stdout, "none none\n");
    let map =
        ["map", "-k", "--resource", "gpu=2", "--", "sh", "-c", "echo $POOL_RESOURCE_GPU {}", ":::", "a", "b"];
    assert_eq!(daemon.ok(&map), "0,1 a\n0,1 b\n");
    let text = "{\"argv\":[\"true\"]}\n{\"argv\":[\"true\"],\"resources\":{\"gpu\":2}}\n";
    fs::write(daemon.path("jobs"), text).unwrap();
    let ids = daemon.ok(&["submit", "--resource", "tape-drive", "--from", &daemon.path_text("jobs")]);
    let ids: Vec<u64> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
    wait(&daemon, &ids);
    let taken = |id: u64| daemon.record(id).resources.unwrap().into_keys().collect::<Vec<String>>().join(" ");
    assert_eq!((taken(ids[0]), taken(ids[1])), ("tape-drive".into(), "gpu".into()));
    daemon.ok(&["schedule", "add", "often", "--every", "1h", "--resource", "gpu", "--", "true"]);
    for (name, amount) in [("often", 1), ("never", 2)] {
        let id: u64 = daemon.ok(&["schedule", "run", name]).trim().parse().unwrap();
        assert_eq!(daemon.record(id).resources.unwrap()["gpu"], amount, "{name}");
        wait(&daemon, &[id]);
    }

    // A job inside of such a job has nothing of it.
    let path = format!(
        "PATH={}:{}",
        pool_tests::poolctl().parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let inner = format!("poolctl run -- sh -c '{TELL}'");
    let said = daemon.run(&["run", "--resource", "gpu", "--env", &path, "--", "sh", "-c", &inner]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "none none\n"), "{said:?}");
}

#[test]
fn a_retry_and_each_element_of_an_array_take_items_anew() {
    let daemon = Setup::new().workers(3).config(GPUS).start();
    let tries = daemon.path_text("tries");
    let script = format!("echo $POOL_RESOURCE_GPU >>{tries}; [ $POOL_ATTEMPT = 3 ]");
    let options = ["--resource", "gpu", "--retries", "2", "--backoff", "10ms"];
    let id = daemon.submit(&[&options[..], &["--", "sh", "-c", &script]].concat());
    wait(&daemon, &[id]);
    assert_eq!(fs::read_to_string(&tries).unwrap(), "0\n0\n0\n");

    // Each item is a file that whoever has it locks, or fails.
    let dir = daemon.path_text("");
    let script = format!("exec 9>{dir}/gpu$POOL_RESOURCE_GPU && flock -n 9 && sleep 0.01");
    let said = daemon.run(&["run", "--array", "0-39", "--resource", "gpu", "--", "sh", "-c", &script]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(daemon.path("gpu0").exists() && daemon.path("gpu1").exists());
}

#[test]
fn no_item_is_with_two_attempts_whoever_is_killed() {
    let mut daemon = Setup::new()
        .workers(2)
        .config("crash_limit = 9\n\n[pool.default.resources]\ngpu = [\"0\"]\n")
        .start();
    let (lock, trouble, gate) =
        (daemon.path_text("lock"), daemon.path_text("trouble"), daemon.path_text("gate"));
    // What the job leaves running ignores a polite end, and has the item's lock as long as it lives.
    let stubborn = "trap \"\" TERM HUP INT; while :; do sleep 0.05; done";
    let script = format!(
        "exec 9>{lock}; flock -n 9 || echo $POOL_JOB_ID >>{trouble}; setsid sh -c '{stubborn}' & \
         until [ -e {gate} ]; do sleep 0.02; done"
    );
    let ids = [(); 3].map(|()| daemon.submit(&["--resource", "gpu", "--", "sh", "-c", &script]));
    runs(&daemon, ids[0]);
    let worker = daemon.record(ids[0]).worker_pid.unwrap();
    pool_tests::send(worker, Signal::SIGKILL);
    daemon
        .wait_record(ids[0], "it runs again", |record| record.attempt == 2 && record.state == State::Running);

    let supervisor = daemon.supervisor();
    pool_tests::send(supervisor, Signal::SIGKILL);
    daemon
        .wait_record(ids[0], "it runs again", |record| record.attempt == 3 && record.state == State::Running);
    daemon.kill_in_one_instant();
    daemon.restart();
    daemon
        .wait_record(ids[0], "it runs again", |record| record.attempt == 4 && record.state == State::Running);
    assert_eq!(holders(&daemon), format!("0:{}", ids[0]));
    assert_eq!([ids[1], ids[2]].map(|id| state(&daemon, id)), [State::Queued; 2]);
    open(&daemon, "gate");
    wait(&daemon, &ids);
    assert!(!daemon.path("trouble").exists(), "{}", fs::read_to_string(&trouble).unwrap());
}

#[test]
fn what_runs_keeps_its_items_over_another_configuration() {
    let config = |gpus: &str| format!("[pool.default.resources]\ngpu = {gpus}\n");
    let daemon = Setup::new().workers(5).config(&config("[0, 1]")).start();
    let [first, second] = ["first", "second"].map(|gate| gated(&daemon, &["--resource", "gpu"], gate));
    runs(&daemon, second);
    let waiting = gated(&daemon, &["--resource", "gpu=2"], "waiting");
    reread(&daemon, &config("[\"1\", \"7\"]"));
    wait_until("it is read", || holders(&daemon) == format!("1:{second} 7:- 0:{first}"));
    assert_eq!(pool(&daemon)["resources"][0]["items"][2]["removed"], Value::Bool(true));
    reread(&daemon, &config("[\"7\"]"));
    wait_until("nobody waits for it", || daemon.run(&["run", "--", "true"]).code == 0);

    let said = why(&daemon, waiting);
    assert!(said.contains("it takes 2 of gpu, and the pool \"default\" has 1"), "{said}");
    let too_small = "too small: a job waits that takes 2 of gpu, and the pool has 1";
    wait_until("pool ls says so", || daemon.ok(&["pool", "ls"]).contains(too_small));
    let said = daemon.run(&["doctor"]);
    assert!(said.stdout.contains("a job waits that takes 2 of gpu, and the pool has 1"), "{said:?}");
    let said = daemon.run(&["run", "--resource", "gpu", "--", "sh", "-c", TELL]);
    assert_eq!(said.stdout, "7 none\n", "{said:?}");
    let said = daemon.run(&["submit", "--resource", "gpu=2", "--", "true"]);
    assert!(said.stderr.contains("takes 2 of \"gpu\", and the pool \"default\" has 1"), "{said:?}");

    // It may take less now.
    daemon.ok(&["edit", &waiting.to_string(), "--resource", "gpu"]);
    runs(&daemon, waiting);
    assert!(!daemon.ok(&["pool", "ls"]).contains("too small"));
    ["first", "second", "waiting"].iter().for_each(|gate| open(&daemon, gate));
    wait(&daemon, &[first, second, waiting]);
    let told = [first, second, waiting].map(|id| logs(&daemon, id));
    assert_eq!(told, ["0 none\n", "1 none\n", "7 none\n"]);
}

#[test]
fn what_a_pool_cannot_give_is_refused_and_changes_nothing() {
    let warm = "[pool.cat]\nworkers = 1\ncommand = [\"cat\"]\n\n[pool.other]\nworkers = 1\n";
    let daemon = Setup::new().workers(2).config(&format!("{GPUS}{warm}")).start();
    for (words, said) in [
        (
            &["submit", "--resource", "gpu=3", "--", "true"][..],
            "takes 3 of \"gpu\", and the pool \"default\" has 2",
        ),
        (&["submit", "--resource", "disk", "--", "true"], "has no resource \"disk\": it has gpu, tape-drive"),
        (&["submit", "-p", "other", "--resource", "gpu", "--", "true"], "[pool.other.resources]"),
        (&["submit", "--resource", "gpu=0", "--", "true"], "write gpu=1 or more"),
        (&["submit", "--resource", "2=1", "--", "true"], "a letter first"),
        (
            &["submit", "--resource", "gpu", "--resource", "gpu=2", "--", "true"],
            "--resource gpu is given twice",
        ),
        (&["call", "--resource", "gpu", "cat", "m"], "--resource"),
    ] {
        let refused = daemon.run(words);
        assert!(refused.code != 0 && refused.stderr.contains(said), "{words:?}: {refused:?}");
    }
    assert!(!daemon.ok(&["ls"]).contains("true"), "nothing was submitted");
    for (text, said) in [
        (
            "[pool.default.resources]\ngpu = [\"0\", \"0\"]\n",
            "line 1, column 15: [pool.default] resources: \"gpu\" has",
        ),
        ("[pool.default.resources]\n\"g u\" = [\"0\"]\n", "cannot be a resource"),
        ("[pool.default.resources]\na-b = [\"0\"]\na_b = [\"0\"]\n", "have one variable, POOL_RESOURCE_A_B"),
        (
            "[pool.cat]\nworkers = 1\ncommand = [\"cat\"]\nresources = { gpu = [\"0\"] }\n",
            "a call takes none",
        ),
    ] {
        let refused = run(&mut Setup::new().config(text).command());
        assert!(refused.code != 0 && refused.stderr.contains(said), "{text}: {refused:?}");
    }
    let shown = daemon.ok(&["config", "show"]);
    assert!(shown.contains("gpu = [\"0\", \"1\"]"), "{shown}");
}

#[test]
fn slots_and_resources_are_edited_by_options_and_in_an_editor() {
    let daemon = Setup::new().workers(2).config(GPUS).start();
    let first = gated(&daemon, &["--resource", "gpu"], "first");
    runs(&daemon, first);
    let wide = daemon.submit(&["--slots", "2", "--", "sh", "-c", "echo $POOL_SLOTS"]);
    let text = wide.to_string();
    for (options, said) in [
        (["--slots", "3"], "would take 3 slots, and its pool \"default\" has 2"),
        (["--resource", "gpu=3"], "would take 3 of \"gpu\", and its pool \"default\" has 2"),
        (["--resource", "disk"], "would take 1 of \"disk\", and its pool \"default\" has 0"),
    ] {
        let refused = daemon.run(&[&["edit", &text], &options[..]].concat());
        assert!(refused.code != 0 && refused.stderr.contains(said), "{options:?}: {refused:?}");
    }
    assert_eq!((daemon.record(wide).slots, state(&daemon, wide)), (2, State::Queued));
    let said = daemon.run(&["edit", &text, "--slots", "1"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    wait(&daemon, &[wide]);
    assert_eq!(logs(&daemon, wide), "1\n");

    let held = daemon.submit(&["--hold", "--resource", "gpu=2", "--", "sh", "-c", TELL]);
    let text = held.to_string();
    let edit = |script: &str| {
        let editor = format!("edit() {{ sed -i -e '{script}' \"$1\"; }}; edit");
        run(daemon.ctl(&["edit", &text]).env("VISUAL", editor))
    };
    assert_eq!(edit("s/^resources = .*/resources = { tape-drive = 1 }/").code, 0);
    assert_eq!(daemon.record(held).resources, Some([("tape-drive".to_owned(), 1)].into()));
    daemon.ok(&["edit", &text, "--unset", "resource"]);
    assert_eq!(daemon.record(held).resources, None);
    daemon.ok(&["edit", &text, "--resource", "gpu", "--resource", "tape-drive"]);
    daemon.ok(&["release", &text]);
    wait(&daemon, &[held]);
    assert_eq!(logs(&daemon, held), "1 st0\n");
    open(&daemon, "first");
    wait(&daemon, &[first]);
}
