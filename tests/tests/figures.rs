//! `poolctl stats` and `poolctl plot`: how jobs went over a time.

use pool_tests::{Daemon, Setup};
use serde_json::Value;

fn stats(daemon: &Daemon, arguments: &[&str]) -> Value {
    let words: Vec<&str> = ["--json", "stats"].into_iter().chain(arguments.iter().copied()).collect();
    serde_json::from_str(&daemon.ok(&words)).unwrap()
}

#[test]
fn stats_count_ends_by_pool_label_and_name() {
    let daemon = Setup::new().workers(2).config("[pool.gpu]\nworkers = 1\n").start();
    for (options, code) in
        [(&["-n", "a", "-l", "x"][..], 0), (&["-n", "a", "-p", "gpu"], 3), (&["-n", "b", "-l", "x"], 0)]
    {
        let exit = format!("exit {code}");
        let words = [&["run"], options, &["--", "sh", "-c", &exit]].concat();
        assert_eq!(daemon.run(&words).code, code);
    }

    let row = |document: &Value, name: &str| {
        let rows = document["rows"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {document}"))
    };
    let by_pool = stats(&daemon, &[]);
    assert_eq!((&row(&by_pool, "default")["ended"], &row(&by_pool, "gpu")["failed"]), (&2.into(), &1.into()));
    assert!(row(&by_pool, "gpu")["utilisation"].as_f64().unwrap() > 0.0);
    assert!(row(&by_pool, "gpu")["ran_s"]["p99"].as_f64().unwrap() > 0.0);

    assert_eq!(row(&stats(&daemon, &["--by", "label"]), "x")["ended"], 2);
    let by_name = stats(&daemon, &["--by", "name", "--since", "1h"]);
    assert_eq!((&row(&by_name, "a")["ended"], &row(&by_name, "a")["failed"]), (&2.into(), &1.into()));
    assert_eq!(stats(&daemon, &["--pool", "gpu"])["rows"].as_array().unwrap().len(), 1);

    let text = daemon.ok(&["stats"]);
    assert!(text.contains("POOL") && text.contains("gpu"), "{text}");
    let said = daemon.run(&["stats", "--since", "1h", "--until", "2h"]);
    assert_eq!(said.code, 2, "{said:?}");
}

#[test]
fn plot_draws_a_bar_a_job() {
    let daemon = Daemon::start(2);
    assert_eq!(daemon.run(&["run", "-n", "<a & b>", "--", "sh", "-c", "exit 3"]).code, 3);
    daemon.ok(&["run", "--", "true"]);

    let path = daemon.path_text("day.svg");
    assert_eq!(daemon.ok(&["plot", "-o", &path]), "");
    let drawing = std::fs::read_to_string(&path).unwrap();
    assert!(drawing.starts_with("<svg") && drawing.trim_end().ends_with("</svg>"), "{drawing}");
    assert!(drawing.contains("job 1, exit code 3, ") && drawing.contains("&lt;a &amp; b&gt;"), "{drawing}");
    assert!(drawing.contains("default/0") && drawing.contains("default/1"), "{drawing}");
    assert!(drawing.contains("jobs that ran: 2, 1 of them failed"), "{drawing}");

    let said = daemon.run(&["plot", "-o", "/nowhere/day.svg"]);
    assert_eq!(said.code, 125);
    assert!(said.stderr.contains("cannot write /nowhere/day.svg"), "{said:?}");
}
