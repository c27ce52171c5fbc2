//! What users see of `poolctl signal`.

use pool_proto::State;
use pool_tests::{Daemon, line_of};

/// A job that writes a line for each signal that it gets, and is ready for them.
fn listening(daemon: &Daemon, name: &str) -> (u64, String) {
    let (ready, ledger) = (daemon.path_text(&format!("{name}.ready")), daemon.path_text(name));
    let traps: String =
        ["HUP", "USR1", "USR2"].map(|signal| format!("trap 'echo {signal} >>{ledger}' {signal}\n")).concat();
    let id = daemon.submit_sh(&format!("{traps}\necho >{ready}; while :; do sleep 0.02; done"));
    line_of(ready.as_ref());
    (id, ledger)
}

fn wait_for_line(ledger: &str, wanted: &str) {
    pool_tests::wait_until(wanted, || {
        std::fs::read_to_string(ledger).is_ok_and(|told| told.lines().last() == Some(wanted))
    });
}

#[test]
fn running_jobs_get_the_signal_that_is_named() {
    let daemon = Daemon::start(2);
    let (first, ledger) = listening(&daemon, "first");
    let (second, other) = listening(&daemon, "second");
    let waiting = daemon.submit_sh("exit 0");
    let id = first.to_string();

    for (signal, told) in [("USR1", "USR1"), ("sighup", "HUP"), ("12", "USR2")] {
        assert_eq!(daemon.ok(&["signal", &id, signal]), "");
        wait_for_line(&ledger, told);
    }
    // Of a range those get it that run.
    daemon.ok(&["signal", &format!("{first}-{waiting}"), "USR1"]);
    wait_for_line(&ledger, "USR1");
    wait_for_line(&other, "USR1");

    daemon.ok(&["signal", &id, &second.to_string(), "KILL"]);
    let record = daemon.wait_record(first, "it has ended", |record| record.state.is_terminal());
    assert_eq!((record.state, record.signal), (State::Failed, Some(9)));
}

#[test]
fn a_job_that_does_not_run_and_what_is_no_signal_are_named() {
    let daemon = Daemon::start(1);
    let (running, ledger) = listening(&daemon, "ledger");
    let queued = daemon.submit_sh("exit 0").to_string();
    let held = daemon.submit(&["--hold", "--", "true"]).to_string();
    for (arguments, code, told) in [
        (&[queued.as_str(), "USR1"][..], 125, format!("job {queued} is queued")),
        (&[&held, "USR1"], 125, format!("job {held} is held")),
        (&["99", "USR1"], 125, "there is no job 99".to_owned()),
        (&["50-99", "USR1"], 125, "none of the jobs 50-99 runs".to_owned()),
        (
            &["1", "NONE"],
            2,
            "\"NONE\" is no signal: write a name such as USR1, or a number from 1 to 64".to_owned(),
        ),
        (&["1", "0"], 2, "\"0\" is no signal".to_owned()),
        (&["1"], 2, "<SIGNAL>".to_owned()),
    ] {
        let said = daemon.run(&[&["signal"], arguments].concat());
        assert!(said.code == code && said.stderr.contains(&told), "{arguments:?}: {said:?}");
    }

    // The others get it all the same.
    let said = daemon.run(&["signal", &queued, &running.to_string(), "USR1"]);
    assert!(said.code == 125 && said.stderr.lines().count() == 1, "{said:?}");
    wait_for_line(&ledger, "USR1");
    daemon.ok(&["cancel", &running.to_string()]);
    let ended = daemon.run(&["signal", &running.to_string(), "USR1"]);
    assert!(ended.code == 125 && ended.stderr.contains("canceled"), "{ended:?}");
}
