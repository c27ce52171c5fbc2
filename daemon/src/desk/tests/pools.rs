//! Pools that are added at run time, and a configuration that is read anew.

use super::*;

fn add(name: &str, workers: u32) -> Request {
    request("AddPool", json!({"name": name, "workers": workers, "command": ["cube"]}))
}

fn remove(name: &str) -> Request {
    request("RemovePool", json!({"name": name}))
}

fn set(bench: &mut Bench, request: RequestId) -> Vec<String> {
    bench.handle(Event::Answer(Answer::Kept { request }))
}

#[test]
fn a_pool_is_there_when_it_is_kept() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (adds, told) = bench.ask(connection, add("cube", 2));
    assert_eq!(told, ["1 keeps pool cube"]);
    assert_eq!(set(&mut bench, adds), ["configure cube square", "1 {}"]);
    assert!(bench.desk.config().pool.contains_key("cube"));

    let (_, told) = bench.ask(connection, add("cube", 2));
    assert_eq!(told, ["2 {}"], "it is there already");
    let (_, told) = bench.ask(connection, add("cube", 3));
    assert_eq!(told, [r#"3 refused PoolExists {"pool":"cube"}"#]);

    let (removes, told) = bench.ask(connection, remove("cube"));
    assert_eq!(told, ["4 forgets pool cube"]);
    assert_eq!(set(&mut bench, removes), ["configure square", "4 {}"]);
    let (_, told) = bench.ask(connection, remove("cube"));
    assert_eq!(told, [r#"5 refused NoSuchPool {"pool":"cube"}"#]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn a_restart_is_told_twice_or_refused() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let restart = |name: &str| request("RestartPool", json!({"name": name}));
    let (_, told) = bench.ask(connection, restart("square"));
    assert_eq!(told, [r#"1 {"calls":[]}"#, "restart square"]);
    let (waits, told) = bench.ask_more(connection, restart("square"));
    assert_eq!(told, [r#"2 {"calls":[]} ..."#, "restart square"]);
    let told = bench.handle(Event::Fact(Fact::Restarted { request: RequestId(1), result: Ok(()) }));
    assert!(told.is_empty(), "nobody waits: {told:?}");
    let told = bench.handle(Event::Fact(Fact::Restarted { request: waits, result: Ok(()) }));
    assert_eq!(told, [r#"2 {"calls":[]}"#]);
    let (waits, _) = bench.ask_more(connection, restart("square"));
    let told = bench.handle(Event::Fact(Fact::Restarted { request: waits, result: Err("no".to_owned()) }));
    assert_eq!(told, [r#"3 refused NotRestarted {"pool":"square","reason":"no"}"#]);

    let (_, told) = bench.ask(connection, restart("cube"));
    assert_eq!(told, [r#"4 refused NoSuchPool {"pool":"cube"}"#]);
    let (_, told) = bench.ask(connection, restart("default"));
    assert!(told[0].starts_with(r#"5 refused InvalidPool {"field":"name""#), "{told:?}");
    bench.ask_more(connection, restart("square"));
    bench.leave(connection, &[RequestId(6)]);
    assert!(bench.is_empty());
}

#[test]
fn a_pool_that_is_changing_is_changed_by_nobody_else() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (adds, _) = bench.ask(connection, add("cube", 2));
    let (_, told) = bench.ask(connection, add("cube", 2));
    assert_eq!(told, [r#"2 refused PoolExists {"pool":"cube"}"#]);
    assert_eq!(bench.refused(adds), [r#"1 refused StoreFailed {"reason":"disk full"}"#]);
    let (_, told) = bench.ask(connection, add("cube", 2));
    assert_eq!(told, ["3 keeps pool cube"]);
}

#[test]
fn the_configuration_has_the_say() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    for name in ["square", "default"] {
        let refusal = format!(r#"PoolConfigured {{"pool":"{name}"}}"#);
        let (request, told) = bench.ask(connection, add(name, 2));
        assert_eq!(told, [format!("{request} refused {refusal}")]);
        let (request, told) = bench.ask(connection, remove(name));
        assert_eq!(told, [format!("{request} refused {refusal}")]);
    }
    let (_, told) = bench.ask(connection, add("no spaces", 2));
    assert!(told[0].contains(r#"refused InvalidPool {"field":"name""#), "{told:?}");
    let (_, told) = bench.ask(connection, add("cube", 0));
    assert!(told[0].contains(r#"refused InvalidPool {"field":"workers""#), "{told:?}");
    bench.core.handle(bench.now, core::Event::Drain);
    let (_, told) = bench.ask(connection, add("cube", 2));
    assert_eq!(told, ["7 refused Draining {}"]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn a_pool_is_added_though_its_client_has_gone() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (adds, _) = bench.ask(connection, add("cube", 2));
    assert_eq!(bench.leave(connection, &[adds]), [""; 0]);
    assert_eq!(set(&mut bench, adds), ["configure cube square"]);
    assert!(bench.is_empty());

    let connection = bench.connect();
    let (removes, _) = bench.ask(connection, remove("cube"));
    bench.leave(connection, &[removes]);
    assert_eq!(bench.refused(removes), [""; 0]);
    assert!(bench.desk.config().pool.contains_key("cube"));
    assert!(bench.is_empty());
}

#[test]
fn added_pools_join_a_configuration_that_is_read_anew() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (adds, _) = bench.ask(connection, add("cube", 2));
    set(&mut bench, adds);

    let read = Config::parse("[pool.build]\nworkers = 1\n").unwrap();
    assert_eq!(bench.handle(Event::Reread(Ok(Box::new(read)))), ["configure build cube"]);
    assert_eq!(bench.handle(Event::Reread(Err("line 1".to_owned()))), [""; 0]);
    assert!(bench.desk.config().pool.contains_key("build"), "the old one stays in force");

    let read = Config::parse("[pool.cube]\nworkers = 7\ncommand = [\"other\"]\n").unwrap();
    assert_eq!(bench.handle(Event::Reread(Ok(Box::new(read)))), ["configure cube"]);
    assert_eq!(bench.desk.config().pool["cube"].workers.unwrap().get(), 7, "the file has the say");
}

#[test]
fn added_pools_are_found_by_a_start() {
    let value = json!({"name": "cube", "workers": 2, "command": ["cube"]}).to_string();
    let stored = [("cube".to_owned(), value), ("broken".to_owned(), "{".to_owned())].into();
    let mut config = config();
    AddedPools::restored(&stored).join(&mut config);
    assert_eq!(config.pool.keys().collect::<Vec<_>>(), ["cube", "square"]);
}

fn set_paused(pools: &[&str], paused: bool) -> Request {
    request("SetPaused", json!({"pools": pools, "paused": paused}))
}

#[test]
fn a_pause_is_in_force_at_once_and_told_when_it_is_kept() {
    let mut bench = Bench::new();
    let connection = bench.connect();
    let (pauses, told) = bench.ask(connection, set_paused(&["square", "default", "square"], true));
    assert_eq!(told, ["pause default", "pause square", "1 pauses default square"]);
    assert_eq!(set(&mut bench, pauses), ["pause default", "pause square", "1 {}"]);
    let (_, told) = bench.ask(connection, set_paused(&["square"], true));
    assert_eq!(told, ["2 {}"], "it is paused already");

    let (resumes, told) = bench.ask(connection, set_paused(&["square"], false));
    assert_eq!(told, ["pause square", "3 resumes square"], "until that is kept it stays paused");
    let (again, told) = bench.ask(connection, set_paused(&["square"], false));
    assert_eq!(told, ["pause square", "4 resumes square"], "nobody has kept it yet");
    assert_eq!(set(&mut bench, resumes), ["resume square", "3 {}"]);
    assert_eq!(set(&mut bench, again), ["resume square", "4 {}"]);

    let (_, told) = bench.ask(connection, set_paused(&["square", "cube"], true));
    assert_eq!(told, [r#"5 refused NoSuchPool {"pool":"cube"}"#]);
    let (refused, _) = bench.ask(connection, set_paused(&["square"], true));
    let refusal = Refusal::StoreFailed { reason: "full".to_owned() };
    let told = bench.handle(Event::Answer(Answer::Refused { request: refused, refusal }));
    assert_eq!(told, [r#"6 refused StoreFailed {"reason":"full"}"#, "resume square"]);
    bench.leave(connection, &[]);
    assert!(bench.is_empty());
}

#[test]
fn a_pause_is_kept_and_told_to_listeners_though_its_client_has_gone() {
    let mut bench = Bench::new();
    let (connection, listener) = (bench.connect(), bench.connect());
    let (listens, _) = bench.ask_more(listener, request("Events", json!({})));
    let none = Answer::Got { request: listens, records: vec![], missing: vec![], rest: vec![] };
    bench.handle(Event::Answer(none));
    let (pauses, _) = bench.ask(connection, set_paused(&["square"], true));
    bench.leave(connection, &[pauses]);
    let told = set(&mut bench, pauses);
    assert_eq!(told, [r#"1 hears {"event":"pool_paused","pool":"square"}"#, "pause square"]);
    bench.leave(listener, &[listens]);
    assert!(bench.is_empty());
}
