//! The room for output: who waits for a measure, and who is refused.

use std::num::NonZeroU64;

use super::*;

fn limited() -> Bench {
    Bench::with(Config { max_total_output_bytes: NonZeroU64::new(100), ..config() })
}

#[test]
fn without_a_limit_no_submission_waits() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    bench.ask(connection, Request::Status);
    let (_, told) = bench.ask(connection, submit(job()));
    assert_eq!(told, ["submit 2 of 1"]);
}

#[test]
fn submissions_wait_for_one_measure_and_are_carried_out_in_order() {
    let mut bench = limited();
    bench.run(7);
    let connection = bench.connect();
    let (_, told) = bench.ask(connection, submit(job()));
    assert_eq!(told, ["measure 1"]);
    let many = json!({"jobs": [{"argv": ["true"]}, {"argv": ["true"]}]});
    let (_, told) = bench.ask(connection, request("SubmitMany", many));
    assert_eq!(told, [""; 0], "the measure is under way");
    let (_, told) = bench.ask(connection, request("Shutdown", json!({"mode": "drain"})));
    assert_eq!(told, [""; 0], "it does not overtake them");
    let (_, told) = bench.ask(connection, request("List", json!({})));
    assert_eq!(told, [""; 0], "nor does any other request of their connection");
    assert_eq!(
        bench.measured(60, 40),
        ["submit 1 of 1", "submit 2 of 2", "3 asks how many are held", "4 asks 1000 after 0"]
    );
}

#[test]
fn a_measure_lasts_for_a_tenth_of_a_second() {
    let mut bench = limited();
    let connection = bench.connect();
    bench.ask(connection, submit(job()));
    bench.measured(0, 0);
    bench.now.monotonic += Duration::from_millis(99);
    let (_, told) = bench.ask(connection, submit(job()));
    assert_eq!(told, ["submit 2 of 1"]);
    bench.now.monotonic += Duration::from_millis(1);
    let (_, told) = bench.ask(connection, submit(job()));
    assert_eq!(told, ["measure 0"]);
}

#[test]
fn beyond_the_limit_submissions_are_refused_and_the_history_makes_room_once() {
    let mut bench = limited();
    let connection = bench.connect();
    bench.ask(connection, submit(job()));
    bench.ask(connection, request("SubmitMany", json!({"jobs": [{"argv": ["true"]}]})));
    assert_eq!(
        bench.measured(60, 41),
        ["prune", r#"1 refused OutputFull {"limit":100}"#, r#"2 refused OutputFull {"limit":100}"#]
    );
    let (_, told) = bench.ask(connection, submit(job()));
    assert_eq!(told, [r#"3 refused OutputFull {"limit":100}"#]);

    bench.now.monotonic += Duration::from_millis(100);
    bench.ask(connection, submit(job()));
    assert_eq!(bench.measured(60, 40), ["submit 4 of 1"]);
}

#[test]
fn what_waits_for_a_measure_goes_with_its_client() {
    let mut bench = limited();
    let connection = bench.connect();
    bench.ask(connection, Request::Spool);
    let (request, _) = bench.ask(connection, submit(Job { stdin: Some("abc-1".to_owned()), ..job() }));
    assert_eq!(bench.leave(connection, &[request]), ["remove abc-1"]);
    assert_eq!(bench.measured(0, 0), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn what_waits_for_a_measure_at_the_end_is_told_so() {
    let mut bench = limited();
    let connection = bench.connect();
    bench.ask(connection, submit(job()));
    bench.ask(connection, Request::Status);
    let told = bench.handle(Event::Fact(Fact::Exiting));
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], "1 refused Draining {}");
    assert!(told[1].contains("max_clients"), "{told:?}");
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}
