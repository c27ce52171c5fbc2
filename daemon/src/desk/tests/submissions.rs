//! Submissions: accepted, denied, refused, abandoned; and what becomes of the input that was spooled for
//! them.

use super::*;

/// A job that reads the input of that token.
fn reads(token: &str) -> Job {
    Job { stdin: Some(token.to_owned()), ..job() }
}

/// A client that has spooled an input.
fn spooled(bench: &mut Bench) -> ConnectionId {
    let connection = bench.connect();
    let (_, told) = bench.ask(connection, Request::Spool);
    assert_eq!(told, ["1 spooled abc-1"]);
    connection
}

#[test]
fn a_submission_is_replied_to_when_its_job_is_kept() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (request, told) = bench.ask(connection, submit(job()));
    assert_eq!(told, ["submit 1 of 1"]);
    assert_eq!(bench.accept(request, 7, 1, &[]), [r#"1 {"event":"accepted","existing":false,"id":7}"#]);
    assert_eq!(bench.leave(connection, &[]), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn an_attached_client_hears_of_the_start_and_the_end() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (request, _) = bench.ask_more(connection, submit(job()));
    assert_eq!(bench.accept(request, 7, 1, &[]), [r#"1 {"event":"accepted","existing":false,"id":7} ..."#]);
    assert_eq!(bench.handle(Event::Fact(Fact::Started { id: JobId(7), attempt: 1 })), ["1 started 7/1"]);
    assert_eq!(
        bench.ended(7, Some(record(7, "succeeded"))),
        [r#"1 {"attempt":1,"event":"ended","id":7,"record":"7 succeeded"}"#]
    );
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn of_a_job_that_is_not_synced_nothing_is_told_until_it_is() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (request, _) = bench.ask_more(connection, submit(job()));
    assert_eq!(bench.write(request, 7, 1), [""; 0]);
    assert_eq!(bench.handle(Event::Fact(Fact::Started { id: JobId(7), attempt: 1 })), [""; 0]);
    assert!(bench.desk.awaited().contains(&JobId(7)), "its end is waited for already");
    assert_eq!(
        bench.synced(request),
        [r#"1 {"event":"accepted","existing":false,"id":7} ..."#, "1 started 7/1"]
    );
    bench.ended(7, Some(record(7, "succeeded")));
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn the_reply_to_a_client_that_does_not_stay_waits_for_the_sync_as_well() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (first, _) = bench.ask(connection, submit(job()));
    let (second, _) = bench.ask(connection, submit(job()));
    assert_eq!((bench.write(first, 7, 1), bench.write(second, 8, 1)), (vec![], vec![]));
    assert_eq!(bench.synced(first), [r#"1 {"event":"accepted","existing":false,"id":7}"#]);
    // The client goes, and nobody is told.
    bench.leave(connection, &[second]);
    assert_eq!(bench.synced(second), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn a_list_is_replied_to_with_a_list_even_of_one() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (request, told) = bench.ask(connection, request("SubmitMany", json!({"jobs": [{"argv": ["true"]}]})));
    assert_eq!(told, ["submit 1 of 1"]);
    assert_eq!(bench.accept(request, 7, 1, &[]), [r#"1 {"existing":[],"ids":[7],"results":[]}"#]);
    let (_, told) = bench.ask(connection, super::request("SubmitMany", json!({"jobs": []})));
    assert_eq!(told, [r#"2 {"existing":[],"ids":[],"results":[]}"#]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn the_ends_of_a_batch_are_told_together_at_the_end_of_the_turn() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let many = json!({"jobs": [{"argv": ["true"]}, {"argv": ["true"]}, {"argv": ["true"]}]});
    let (request, _) = bench.ask_more(connection, request("SubmitMany", many));
    // The second has another job's key, which may have ended long ago.
    assert_eq!(
        bench.accept(request, 7, 3, &[(1, 3)]),
        [r#"1 {"existing":[1],"ids":[7,3,9],"results":[]} ..."#, "1 asks 3"]
    );
    assert_eq!(bench.got(request, vec![record(3, "failed")], &[]), [""; 0]);
    assert_eq!(bench.ended(9, Some(record(9, "succeeded"))), [""; 0]);
    assert_eq!(
        bench.end_turn(),
        [
            r#"1 {"existing":[],"ids":[],"results":[{"id":3,"state":"failed"},{"id":9,"state":"succeeded"}]} ..."#
        ]
    );
    assert_eq!(bench.end_turn(), [""; 0]);
    bench.ended(7, Some(record(7, "lost")));
    assert_eq!(bench.end_turn(), [r#"1 {"existing":[],"ids":[],"results":[{"id":7,"state":"lost"}]}"#]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn what_cannot_be_accepted_is_refused_and_leaves_nothing() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let both = json!({"jobs": [{"argv": ["true"]}, {"method": "f", "pool": "square", "durability": "none"}]});
    let refusals = [
        (submit(Job::default()), false, "InvalidJob", "argv"),
        (submit(Job { pool: Some("gpu".into()), ..job() }), false, "NoSuchPool", "gpu"),
        (submit(Job { tie: Some("client".into()), ..job() }), false, "InvalidJob", "with \\\"more\\\""),
        (
            submit_with(Job { tie: Some("pool".into()), ..job() }, OnDisconnect::Cancel),
            true,
            "InvalidJob",
            "one tie",
        ),
        (submit(reads("abc-9")), false, "InvalidJob", "no token"),
        (
            request("SubmitMany", json!({"jobs": [{"argv": ["true"], "stdin": "abc-1"}]})),
            true,
            "InvalidJob",
            "cannot share",
        ),
        (
            request("SubmitMany", json!({"jobs": [{"argv": ["true"], "tie": "client"}]})),
            false,
            "InvalidJob",
            "SubmitMany with",
        ),
        (request("SubmitMany", both), false, "InvalidJob", "all kept on disk"),
    ];
    for (asked, more, name, about) in refusals {
        let (request, told) = bench.ask_for(connection, asked, more);
        let is_told = told.len() == 1
            && told[0].starts_with(&format!("{request} refused {name}"))
            && told[0].contains(about);
        assert!(is_told, "{name} about {about}: {told:?}");
    }
    assert_eq!(bench.leave(connection, &[]), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn denials_are_told_in_the_words_of_the_interface() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let pool: Arc<str> = Arc::from("default");
    let denials = [
        (Denial::Draining, "refused Draining {}"),
        (
            Denial::QueueFull { pool: pool.clone(), limit: 5 },
            r#"refused QueueFull {"limit":5,"pool":"default"}"#,
        ),
        (Denial::PoolDraining { pool: pool.clone() }, r#"refused PoolDraining {"pool":"default"}"#),
        (Denial::PoolGone { pool }, r#"refused NoSuchPool {"pool":"default"}"#),
    ];
    for (denial, words) in denials {
        let (request, _) = bench.ask(connection, submit(job()));
        assert_eq!(bench.denied(request, denial), [format!("{request} {words}")]);
    }
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

// ---- spooled inputs ----

#[test]
fn an_input_goes_with_its_connection_until_a_job_names_it() {
    let mut bench = Bench::new();
    let connection = spooled(&mut bench);
    let (_, told) = bench.ask(connection, submit(Job { argv: Vec::new(), ..reads("abc-1") }));
    assert!(told[0].contains("InvalidJob"), "{told:?}");
    let other = bench.connect();
    let (_, told) = bench.ask(other, submit(reads("abc-1")));
    assert!(told[0].contains("no token"), "another connection's: {told:?}");
    assert_eq!(bench.leave(other, &[]), [""; 0]);
    assert_eq!(bench.leave(connection, &[]), ["remove abc-1"]);
    assert!(bench.is_empty());
}

#[test]
fn an_input_that_an_accepted_job_has_named_is_the_jobs() {
    let mut bench = Bench::new();
    let connection = spooled(&mut bench);
    let (request, _) = bench.ask(connection, submit(reads("abc-1")));
    let (_, told) = bench.ask(connection, submit(reads("abc-1")));
    assert!(told[0].contains("no token"), "it is taken: {told:?}");
    assert_eq!(bench.accept(request, 7, 1, &[]).len(), 1);
    assert_eq!(bench.leave(connection, &[]), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn an_input_is_removed_when_its_job_is_not_kept() {
    let full = Denial::QueueFull { pool: Arc::from("default"), limit: 5 };
    type Happens<'a> = &'a dyn Fn(&mut Bench, RequestId) -> Vec<String>;
    let happenings: [(&str, Happens<'_>); 4] = [
        ("the queue is full", &|bench, request| bench.denied(request, full.clone())),
        ("poold drains", &|bench, request| bench.denied(request, Denial::Draining)),
        ("it cannot be stored", &|bench, request| bench.refused(request)),
        ("another job has the key", &|bench, request| bench.accept(request, 7, 1, &[(0, 3)])),
    ];
    for (why, happens) in happenings {
        let mut bench = Bench::new();
        let connection = spooled(&mut bench);
        let (request, _) = bench.ask(connection, submit(reads("abc-1")));
        let told = happens(&mut bench, request);
        assert_eq!((told.len(), told[0].as_str()), (2, "remove abc-1"), "{why}: {told:?}");
        assert_eq!(bench.leave(connection, &[]), [""; 0], "{why}: it is removed once");
        assert!(bench.is_empty(), "{why}");
    }
}

#[test]
fn an_input_outlives_its_client_if_the_job_is_kept_all_the_same() {
    type Happens<'a> = &'a dyn Fn(&mut Bench, RequestId) -> Vec<String>;
    let happenings: [(&str, Happens<'_>, &[&str]); 4] = [
        ("accepted", &|bench, request| bench.accept(request, 7, 1, &[]), &[]),
        (
            "another job has the key",
            &|bench, request| bench.accept(request, 7, 1, &[(0, 3)]),
            &["remove abc-1"],
        ),
        ("refused", &|bench, request| bench.refused(request), &["remove abc-1"]),
        ("denied", &|bench, request| bench.denied(request, Denial::Draining), &["remove abc-1"]),
    ];
    for (why, happens, expected) in happenings {
        let mut bench = Bench::new();
        let connection = spooled(&mut bench);
        let (request, _) = bench.ask(connection, submit(reads("abc-1")));
        assert_eq!(bench.leave(connection, &[request]), ["forsaken 2"], "{why}");
        assert_eq!(happens(&mut bench, request), expected, "{why}");
        assert!(bench.is_empty(), "{why}");
    }
}

#[test]
fn an_input_that_could_not_be_opened_is_nobodys() {
    let mut bench = Bench::new();
    let connection = spooled(&mut bench);
    let failed = Event::SpoolFailed {
        request: RequestId(1),
        token: "abc-1".to_owned(),
        reason: "disk full".to_owned(),
    };
    assert_eq!(bench.handle(failed), [r#"1 refused StoreFailed {"reason":"disk full"}"#]);
    assert_eq!(bench.leave(connection, &[]), [""; 0]);
}

// ---- clients that go ----

#[test]
fn a_client_that_goes_takes_along_what_is_tied_to_it() {
    let many = json!({"jobs": [{"argv": ["true"]}, {"argv": ["true"]}]});
    let asked: [(Request, usize, &[&str]); 4] = [
        (submit(job()), 1, &[]),
        (submit_with(job(), OnDisconnect::Detach), 1, &[]),
        (submit_with(job(), OnDisconnect::Cancel), 1, &["client gone of 7"]),
        (request("SubmitMany", many), 2, &["client gone of 7 8"]),
    ];
    for (asked, count, expected) in asked {
        let mut bench = Bench::new();
        let connection = bench.connect();
        let (request, _) = bench.ask_more(connection, asked);
        bench.accept(request, 7, count, &[]);
        assert_eq!(bench.leave(connection, &[request]), expected);
        assert_eq!(bench.ended(7, None), [""; 0], "nobody waits for it");
        assert!(bench.is_empty());
    }
}

#[test]
fn a_client_that_goes_before_its_jobs_are_accepted_takes_them_along_all_the_same() {
    let many = json!({"jobs": [{"argv": ["true"]}, {"argv": ["true"]}]});
    let asked: [(Request, usize, &[&str]); 3] = [
        (submit_with(job(), OnDisconnect::Detach), 1, &[]),
        (submit_with(job(), OnDisconnect::Cancel), 1, &["client gone of 7"]),
        (request("SubmitMany", many), 2, &["client gone of 7 8"]),
    ];
    for (asked, count, expected) in asked {
        let mut bench = Bench::new();
        let connection = bench.connect();
        let (request, _) = bench.ask_more(connection, asked);
        assert_eq!(bench.leave(connection, &[request]), ["forsaken 1"]);
        // The acceptance was on its way already when the core heard of that.
        assert_eq!(bench.accept(request, 7, count, &[]), expected);
        assert!(bench.is_empty());
    }
}

#[test]
fn a_batch_whose_client_goes_leaves_alone_what_has_ended() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let many = json!({"jobs": [{"argv": ["true"]}, {"argv": ["true"]}]});
    let (request, _) = bench.ask_more(connection, request("SubmitMany", many));
    bench.accept(request, 7, 2, &[]);
    bench.ended(8, Some(record(8, "succeeded")));
    assert_eq!(bench.leave(connection, &[request]), ["client gone of 7"]);
    assert_eq!(bench.end_turn(), [""; 0], "nobody is told");
    assert!(bench.is_empty());
}

#[test]
fn the_user_of_a_connection_is_asked_for_his_rights() {
    let mut bench = Bench::new();
    let connection = ConnectionId(77);
    bench.handle(Event::Connected { connection, uid: UserId::new(0) });
    let (_, told) = bench.ask(connection, submit(job()));
    assert_eq!(told, [r#"1 refused NotOwner {"owner":1000,"uid":0}"#]);
    assert_eq!(bench.leave(connection, &[]), [""; 0]);
    assert!(bench.is_empty());
}

fn keyed(key: &str, pool: &str) -> Job {
    Job { key: Some(key.into()), pool: Some(pool.to_owned()), ..job() }
}

#[test]
fn what_cannot_be_accepted_is_answered_with_the_jobs_that_have_its_keys() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (request, told) = bench.ask(connection, submit(keyed("k", "gone")));
    assert_eq!(told, ["1 asks who has k"]);
    assert_eq!(bench.keepers(request, &[7]), [r#"1 {"event":"accepted","existing":true,"id":7}"#]);

    let (request, told) = bench.ask(connection, submit(keyed("k", "gone")));
    assert_eq!(told, ["2 asks who has k"]);
    assert_eq!(bench.keepers(request, &[0]), [r#"2 refused NoSuchPool {"pool":"gone"}"#]);

    // One that waits is told of the end of the job that is there.
    let (request, _) = bench.ask_more(connection, submit(keyed("k", "gone")));
    assert_eq!(
        bench.keepers(request, &[7]),
        [r#"3 {"event":"accepted","existing":true,"id":7} ..."#, "3 asks 7"]
    );
    bench.got(request, vec![record(7, "succeeded")], &[]);

    let many = |keys: [&str; 2]| {
        let jobs = keys.map(|key| json!({"argv": ["true"], "pool": "gone", "key": key}));
        super::request("SubmitMany", json!({ "jobs": jobs }))
    };
    let (request, told) = bench.ask(connection, many(["a", "b"]));
    assert_eq!(told, ["4 asks who has a b"]);
    assert_eq!(bench.keepers(request, &[8, 9]), [r#"4 {"existing":[0,1],"ids":[8,9],"results":[]}"#]);
    let (request, _) = bench.ask(connection, many(["a", "b"]));
    assert_eq!(bench.keepers(request, &[8, 0]), [r#"5 refused NoSuchPool {"pool":"gone"}"#]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn what_the_core_denies_may_be_a_repetition_and_its_input_is_removed_once() {
    let mut bench = Bench::new();
    let connection = spooled(&mut bench);
    let reads = Job { stdin: Some("abc-1".to_owned()), ..keyed("k", "default") };
    let (request, _) = bench.ask(connection, submit(reads));
    let key = Some(crate::job::Key { text: "k".into(), round: None });
    let jobs = vec![Arc::new(Work { key, ..Work::clone(&work()) })];
    assert_eq!(bench.denied_of(request, Denial::Draining, jobs.clone()), ["2 asks who has k"]);
    assert_eq!(
        bench.keepers(request, &[7]),
        ["remove abc-1", r#"2 {"event":"accepted","existing":true,"id":7}"#]
    );

    let (request, _) = bench.ask(connection, submit(keyed("k", "default")));
    assert_eq!(bench.denied_of(request, Denial::Draining, jobs.clone()), ["3 asks who has k"]);
    assert_eq!(bench.keepers(request, &[0]), ["3 refused Draining {}"]);

    // A client that goes meanwhile is told nothing.
    let (request, _) = bench.ask(connection, submit(keyed("k", "default")));
    bench.denied_of(request, Denial::Draining, jobs);
    bench.leave(connection, &[request]);
    assert_eq!(bench.keepers(request, &[7]), [""; 0]);
    assert!(bench.is_empty());
}

#[test]
fn a_key_that_no_client_may_use_is_not_looked_up() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    for job in [
        keyed("schedule:x", "default"),
        keyed("", "default"),
        Job { tie: Some("client".to_owned()), ..keyed("k", "default") },
        Job { pool: Some("gone".to_owned()), ..job() },
    ] {
        let (_, told) = bench.ask(connection, submit(job));
        assert!(matches!(&*told, [told] if told.contains("refused")), "{told:?}");
    }
}
