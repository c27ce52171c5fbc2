//! What users see of jobs that are named by something else than their ids.

use pool_proto::State;
use pool_tests::terminal::Terminal;
use pool_tests::{Daemon, Setup};

/// Jobs 1 to 3 run (`build`, `build-docs` with the label gpu, and another one with it), 4 is held in the pool
/// gpu, 5 has failed, and 6 to 9 are an array with three elements that is held.
fn busy() -> Daemon {
    let daemon = Setup::new().workers(3).config("[pool.gpu]\nworkers = 1\n").start();
    for options in [&["-n", "build"][..], &["-n", "build-docs", "-l", "gpu"], &["-l", "gpu"]] {
        let id = daemon.submit(&[options, &["--", "sleep", "600"]].concat());
        daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    }
    daemon.submit(&["-p", "gpu", "--hold", "-n", "train", "--", "true"]);
    let failed = daemon.submit(&["-p", "gpu", "--", "sh", "-c", "exit 3"]);
    daemon.wait_record(failed, "it has failed", |record| record.state == State::Failed);
    daemon.submit(&["--array", "0-2", "--hold", "--", "true"]);
    daemon
}

/// The ids that `show` finds.
fn shown(daemon: &Daemon, selectors: &[&str]) -> Vec<u64> {
    let told = daemon.ok(&[&["show", "--json"], selectors].concat());
    let records = told.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    records.map(|record| record["id"].as_u64().unwrap()).collect()
}

fn states(daemon: &Daemon, ids: &[u64]) -> Vec<State> {
    ids.iter().map(|&id| daemon.record(id).state).collect()
}

#[test]
fn jobs_are_named_by_what_they_are_and_each_is_taken_once() {
    let daemon = busy();
    for (selectors, wanted) in [
        (&["last"][..], &[6][..]),
        (&["last-3"], &[4, 5, 6]),
        (&["last-900"], &[1, 2, 3, 4, 5, 6]),
        (&["all"], &[1, 2, 3, 4, 5, 6]),
        (&["@gpu"], &[2, 3]),
        (&["name:build*"], &[1, 2]),
        (&["name:build"], &[1]),
        (&["state:running"], &[1, 2, 3]),
        (&["state:ended"], &[5]),
        (&["pool:gpu"], &[4, 5]),
        (&["@gpu", "3-4", "name:?rain", "last", "5"], &[2, 3, 4, 6, 5]),
    ] {
        assert_eq!(shown(&daemon, selectors), wanted, "{selectors:?}");
    }
    assert_eq!(daemon.ok(&["why", "all"]).lines().count(), 5, "of those that have not ended");

    // The elements of an array are no newer than it.
    daemon.ok(&["release", "last"]);
    daemon.ok(&["cancel", "1"]);
    assert_eq!(daemon.run(&["wait", "last"]).code, 0);
    assert_eq!(shown(&daemon, &["last-2"]), [5, 6]);
    let after = daemon.submit(&["--", "true"]);
    assert_eq!(shown(&daemon, &["last-3"]), [5, 6, after]);
}

#[test]
fn a_verb_takes_those_with_which_it_can_do_something() {
    let daemon = busy();
    daemon.ok(&["hold", "state:waiting"]);
    let said = daemon.run(&["hold", "@gpu", "all"]);
    assert_eq!(said.code, 125);
    assert_eq!(said.stderr, "poolctl: @gpu names no job that waits\n");

    daemon.ok(&["release", "pool:gpu"]);
    daemon.wait_record(4, "it was released", |record| record.state == State::Succeeded);
    daemon.ok(&["pause", "name:build*"]);
    let frozen = [1, 2, 3].map(|id| daemon.record(id).frozen_since.is_some());
    assert_eq!(frozen, [true, true, false]);
    daemon.ok(&["resume", "all"]);

    let blocked = daemon.submit(&["--after", "any:@gpu,name:build,state:ended", "--", "true"]);
    let after: Vec<u64> = daemon.record(blocked).after.unwrap().iter().map(|one| one.id).collect();
    assert_eq!(after, [1, 2, 3], "what has ended is not waited for");
    daemon.ok(&["edit", "state:blocked", "--name", "edited"]);
    assert!(daemon.ok(&["show", "name:edited"]).contains(&format!("id         {blocked}\n")));
    let said = daemon.run(&["edit", "all", "--name", "x"]);
    assert!(said.code == 2 && said.stderr.contains("all is more than one job"), "{said:?}");
    let said = daemon.run(&["edit", "state:waiting", "--name", "x"]);
    assert!(said.code == 2 && said.stderr.contains("names several jobs (6 "), "{said:?}");

    daemon.ok(&["cancel", "name:build*", "@gpu"]);
    assert_eq!(states(&daemon, &[1, 2, 3]), [State::Canceled; 3]);
    assert_eq!(daemon.run(&["wait", "@gpu"]).code, 143, "what has ended before counts");
    daemon.ok(&["cancel", "all"]);
    assert_eq!(states(&daemon, &[6]), [State::Canceled]);
    daemon.ok(&["retry", "state:failed"]);
    daemon.wait_record(5, "it was run again", |record| record.attempt == 2 && record.state.is_terminal());
    assert!(daemon.ok(&["logs", "all"]).is_empty());
    daemon.ok(&["rm", "all"]);
    let said = daemon.run(&["show", "all"]);
    assert_eq!((said.code, said.stderr.as_str()), (125, "poolctl: all: there is no job\n"));
}

#[test]
fn a_selector_that_names_no_job_is_told_and_the_rest_is_done() {
    let daemon = busy();
    for (arguments, wanted) in [
        (&["show", "@nobody"][..], "@nobody names no job\n"),
        (&["cancel", "@gpuu"], "@gpuu names no job that has not ended; did you mean @gpu?\n"),
        (&["show", "name:buidl"], "name:buidl names no job; did you mean name:build?\n"),
        (&["ls", "--pool", "nosuch"], "there is no pool \"nosuch\""),
        (&["stats", "--pool", "gpuu"], "did you mean gpu?"),
        (&["cancel", "name:nobody"], "name:nobody names no job that has not ended\n"),
        (&["rm", "state:running"], "state:running names no job that has ended\n"),
        (&["wait", "pool:nosuch"], "there is no pool \"nosuch\": `poolctl pool ls` lists all pools\n"),
        (&["logs", "pool:nosuch", "1"], "there is no pool \"nosuch\""),
        (&["submit", "--after", "@x,pool:nosuch", "--", "true"], "there is no pool \"nosuch\""),
    ] {
        let said = daemon.run(arguments);
        assert!(said.code == 125 && said.stderr.contains(wanted), "{arguments:?}: {said:?}");
    }
    let said = daemon.run(&["cancel", "@nobody", "4"]);
    assert_eq!((said.code, states(&daemon, &[4, 6])), (125, vec![State::Canceled, State::Held]));
    for arguments in [["cancel", "build"], ["wait", "last-0"], ["hold", "state:done"], ["show", "@a b"]] {
        assert_eq!(daemon.run(&arguments).code, 2, "{arguments:?}");
    }
    for id in ["77", "9223372036854775808", "18446744073709551615"] {
        for verb in ["show", "ls", "wait", "cancel", "logs"] {
            let said = daemon.run(&[verb, id]);
            assert!(said.code == 125 && said.stderr.contains(&format!("job {id}")), "{verb}: {said:?}");
        }
    }
    let empty = Daemon::start(1);
    let said = empty.run(&["show", "last"]);
    assert_eq!((said.code, said.stderr.as_str()), (125, "poolctl: last: there is no job\n"));
    let said = empty.run(&["submit", "--after", "last", "--", "true"]);
    assert!(said.code == 125 && said.stderr.contains("last: there is no job"), "{said:?}");
}

#[test]
fn at_a_terminal_somebody_is_asked_before_several_jobs_are_ended() {
    let daemon = busy();
    let answered = |arguments: &[&str], question: &str, answer: &str| {
        let mut terminal = Terminal::run(&daemon.ctl(arguments), (80, 24));
        terminal.wait_text(question);
        terminal.press(answer);
        terminal.wait()
    };
    assert_eq!(answered(&["cancel", "@gpu", "name:build"], "cancel 3 jobs? [y/N]", "\r"), 1);
    assert_eq!(answered(&["cancel", "all"], "cancel 5 jobs? [y/N]", "x\r"), 1);
    assert_eq!(answered(&["shutdown", "--now"], "end 3 jobs?", "n\r"), 1);
    assert_eq!(states(&daemon, &[1, 2, 3, 4]), [State::Running, State::Running, State::Running, State::Held]);

    // Nobody is asked about one job, nor about ids.
    assert_eq!(Terminal::run(&daemon.ctl(&["cancel", "name:train"]), (80, 24)).wait(), 0);
    assert_eq!(Terminal::run(&daemon.ctl(&["cancel", "1-2"]), (80, 24)).wait(), 0);
    assert_eq!(Terminal::run(&daemon.ctl(&["retry", "--yes", "1-2", "@gpu"]), (80, 24)).wait(), 0);
    daemon.wait_record(1, "it runs again", |record| record.state == State::Running);
    assert_eq!(answered(&["cancel", "state:active"], "cancel 4 jobs? [y/N]", "y\r"), 0);
    assert_eq!(states(&daemon, &[1, 2, 3, 4]), [State::Canceled; 4]);

    assert_eq!(answered(&["retry", "failed", "all"], "run 6 jobs again? [y/N]", "n\r"), 1);
    assert_eq!(answered(&["rm", "all"], "remove 6 jobs and their output? [y/N]", "n\r"), 1);
    assert_eq!(answered(&["prune", "--older", "0s"], "remove 6 jobs and their output? [y/N]", "n\r"), 1);
    assert_eq!(daemon.ok(&["ls", "-q"]).lines().count(), 6);
    assert_eq!(answered(&["prune", "--older", "0s"], "remove 6 jobs and their output? [y/N]", "yes\r"), 0);
    assert_eq!(daemon.ok(&["ls", "-q"]), "");
}
