//! Jobs that are edited before they begin, and what a job is to do.

use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::{Limits, On, ResultKind, State};

use super::Trial;
use crate::engine::orders::*;
use crate::engine::{Answer, Definition, Edited, NotEdited, Order, Question, Revised};
use crate::job::{
    After, Conditions, Edit, ExitCodes, Holdup, JobId, JobKind, Labels, LineKey, Needs, NotBefore, RequestId,
    Retries, Unfit, Until, Work,
};

fn plain() -> Arc<Work> {
    Arc::new(Work { tie: None, stdin: None, ..Work::clone(&work(&["a"], &[])) })
}

fn start_of(id: u64) -> Order {
    start(id, 1)
}

fn succeed(id: u64) -> Order {
    end(id, 1, outcome(State::Succeeded, ResultKind::Success, NOW_US + 3_000_000))
}

fn edited(trial: &mut Trial, id: u64, change: Edit) -> Edited {
    match trial.answer(edit(4, id, 500, change)) {
        Answer::Edited { request: RequestId(4), id: JobId(told), edited } if told == id => edited,
        other => panic!("{other:?}"),
    }
}

fn done(trial: &mut Trial, id: u64, change: Edit) -> Revised {
    match edited(trial, id, change) {
        Edited::Done(revised) => *revised,
        other => panic!("{other:?}"),
    }
}

fn defined(trial: &mut Trial, id: u64) -> Definition {
    let question = Order::Question(Question::Definition { request: RequestId(1), id: JobId(id) });
    match trial.answer(question) {
        Answer::Defined { definition: Some(definition), .. } => *definition,
        other => panic!("{other:?}"),
    }
}

pub fn what_waits_may_be_edited(trial: &mut Trial) {
    trial.insert(1, vec![plain(), plain(), plain()]);
    let change = Edit {
        pool: Some(("other".into(), false)),
        name: Some(None),
        argv: Some(vec!["b".into()]),
        cwd: Some("/".into()),
        set_variables: [("A".into(), "1".into())].into(),
        umask: Some(0o77),
        limits: Some(Limits { memory_bytes: Some(7), ..Limits::default() }),
        timeout: Some(None),
        idle_timeout: Some(Some(Duration::from_secs(9))),
        kill_after: Some(Duration::from_secs(8)),
        priority: Some(5),
        labels: Some([Arc::from("l")].into_iter().collect()),
        exclusive: [Arc::from("l")].into_iter().collect(),
        retries: Some(3),
        backoff: Some(Duration::from_secs(2)),
        jitter: Some(100),
        retry_on: Some(ExitCodes::parse("75").unwrap()),
        ..Edit::default()
    };
    let revised = done(trial, 2, change);
    assert_eq!(
        revised.from.map(|from| (from.pool.to_string(), from.holdup)),
        Some(("default".to_owned(), Holdup::None))
    );
    let line = LineKey { pool: "other".into(), needs: Needs::of_labels(Labels::parse("l")) };
    assert_eq!(
        (revised.now.until, revised.now.line.clone(), revised.now.position.priority.0),
        (None, line.clone(), 5)
    );
    assert_eq!((trial.line(), trial.restart().limits.get("l")), (vec![1, 3], Some(&1)));

    let Answer::Fetched { mut jobs, .. } = trial.answer(fetch_line(line)) else { panic!("it is there") };
    let ready = jobs.pop().expect("it is there");
    let work = &ready.work;
    assert_eq!(
        (ready.id, &work.kind, work.name.as_ref()),
        (JobId(2), &JobKind::Exec(vec!["b".into()]), None)
    );
    assert_eq!((work.timeout, work.idle_timeout), (None, Some(Duration::from_secs(9))));
    assert_eq!((work.kill_after, work.priority), (Duration::from_secs(8), 5));
    let wanted = Retries {
        allowed: 3,
        backoff: Duration::from_secs(2),
        jitter: 100,
        on: ExitCodes::parse("75").unwrap(),
    };
    assert_eq!(work.retries, wanted);
    let variables = &work.environment.variables;
    assert_eq!((variables.len(), variables["A"].as_escaped(), work.environment.umask), (2, "1", 0o77));
    assert_eq!(work.environment.limits, Limits { memory_bytes: Some(7), ..Limits::default() });
    assert_eq!(defined(trial, 1).work.environment, plain().environment, "the others keep theirs");
    assert_eq!((trial.record(2).priority, trial.record(2).pool), (5, "other".to_owned()));
}

/// A page of a line.
fn fetch_line(line: LineKey) -> Order {
    Order::Fetch { line, after: None, limit: 9 }
}

pub fn what_an_edit_makes_it_wait_for_is_waited_for(trial: &mut Trial) {
    let held = Arc::new(Work {
        conditions: Some(Box::new(Conditions { hold: true, ..Conditions::default() })),
        ..Work::clone(&plain())
    });
    trial.insert(1, vec![plain(), plain(), plain(), held]);
    let delay = |seconds| Some(Some(NotBefore::Delay(Duration::from_secs(seconds))));
    let revised = done(trial, 2, Edit { start: delay(5), ..Edit::default() });
    let due_us = NOW_US + 5_000_000;
    assert_eq!(revised.now.until, Some(Until::Start { due_us }));
    assert_eq!((trial.line(), trial.record(2).state), (vec![1, 3], State::Scheduled));
    let after = |id, on| Edit { after: Some(vec![After { id: JobId(id), on }]), ..Edit::default() };
    assert_eq!(done(trial, 2, after(1, On::Success)).now.until, Some(Until::Others));
    assert_eq!((trial.record(2).state, trial.restart().next_due_us), (State::Blocked, None));
    assert_eq!(done(trial, 3, after(1, On::Failure)).failed, None);
    let revised = done(trial, 4, Edit { start: delay(7), ..after(1, On::Done) });
    assert_eq!((revised.from, revised.now.until), (None, Some(Until::Person)), "it is held as before");

    trial.run(vec![start_of(1), succeed(1)]);
    let Answer::Resolved { jobs, failed, .. } =
        trial.answer(Order::Change(crate::engine::Change::Resolve { limit: 9 }))
    else {
        panic!("it is answered")
    };
    assert_eq!(
        jobs.iter().map(|job| (job.position.id.0, job.until)).collect::<Vec<_>>(),
        [(2, Some(Until::Start { due_us }))]
    );
    assert_eq!(failed, [(JobId(3), JobId(1))]);
    let revised = done(trial, 3, after(1, On::Success));
    assert_eq!((revised.now.until, revised.failed), (None, None), "that has ended so");
    assert_eq!(trial.restart().failed, []);
    assert_eq!(done(trial, 3, after(1, On::Failure)).failed, Some(JobId(1)));
    assert_eq!(trial.restart().failed, [(JobId(3), JobId(1))], "a start finds it");
    assert_eq!(done(trial, 2, Edit { start: Some(None), ..Edit::default() }).now.until, None);
    assert_eq!((trial.line(), trial.restart().next_due_us), (vec![2], None));
    let Answer::Released { jobs, .. } = trial.answer(release(5, &[4])) else { panic!("it is released") };
    assert_eq!(jobs[0].until, Some(Until::Start { due_us: NOW_US + 7_000_000 }));

    let second = Some(Some(Duration::from_secs(1)));
    let revised = done(trial, 2, Edit { deadline: second, start_within: second, ..Edit::default() });
    assert_eq!(
        (revised.deadline_us, revised.start_by_us),
        (Some(Some(NOW_US + 1_000_000)), Some(Some(NOW_US + 1_000_000)))
    );
    let found = trial.restart();
    let found = (Some(found.next_deadline_us), Some(found.next_start_by_us));
    assert_eq!(found, (revised.deadline_us, revised.start_by_us));
    let none = Edit { deadline: Some(None), start_within: Some(None), ..Edit::default() };
    let revised = done(trial, 2, none);
    assert_eq!((revised.deadline_us, revised.start_by_us), (Some(None), Some(None)));
    let revised = done(trial, 2, Edit { priority: Some(1), ..Edit::default() });
    assert_eq!((revised.deadline_us, revised.start_by_us), (None, None), "it was not about them");
    let found = trial.restart();
    assert_eq!((found.next_deadline_us, found.next_start_by_us), (None, None));
}

pub fn what_does_not_suit_a_job_is_not_made_of_it(trial: &mut Trial) {
    let failing =
        Arc::new(Work { retries: Retries::new(1, Duration::from_secs(1)), ..Work::clone(&plain()) });
    trial.insert(1, vec![plain(), plain(), call(false), failing]);
    trial.quietly(vec![start_of(1)]);
    let why_not = |trial: &mut Trial, id, change| match edited(trial, id, change) {
        Edited::Not(why_not) => (why_not, false),
        Edited::Kept(at, why_not) => {
            assert_eq!((at.position.id, at.holdup), (JobId(id), Some(Holdup::None)));
            (why_not, true)
        }
        done => panic!("{done:?}"),
    };
    let pool = |is_warm| Edit { pool: Some(("x".into(), is_warm)), ..Edit::default() };
    let after = |id| Edit { after: Some(vec![After { id: JobId(id), on: On::Done }]), ..Edit::default() };
    let unfit = |unfit| (NotEdited::Unfit(unfit), true);
    assert_eq!(why_not(trial, 9, Edit::default()), (NotEdited::Missing, false));
    assert_eq!(why_not(trial, 1, Edit::default()), (NotEdited::Beyond(State::Running), false));
    assert_eq!(why_not(trial, 2, pool(true)), unfit(Unfit::Command));
    assert_eq!(why_not(trial, 3, pool(false)), unfit(Unfit::Call));
    let method = Edit { method: Some("m".to_owned()), ..Edit::default() };
    assert_eq!(why_not(trial, 2, method), unfit(Unfit::Command));
    let limits = Edit { limits: Some(Limits::default()), ..Edit::default() };
    assert_eq!(why_not(trial, 3, limits), unfit(Unfit::CallLimits));
    let idle = Edit { idle_timeout: Some(Some(Duration::from_secs(1))), ..Edit::default() };
    assert_eq!(why_not(trial, 3, idle), unfit(Unfit::CallIdle));
    let callbacks = Edit { callbacks: vec![(On::Done, vec!["c".into()])], ..Edit::default() };
    assert_eq!(why_not(trial, 3, callbacks), unfit(Unfit::CallCallbacks));
    let codes = Edit { retry_on: Some(ExitCodes::parse("1").unwrap()), ..Edit::default() };
    assert_eq!(why_not(trial, 2, codes), unfit(Unfit::NoRetries));
    let labels = (0..17).map(|label| Arc::from(label.to_string())).collect();
    assert_eq!(why_not(trial, 2, Edit { add_labels: labels, ..Edit::default() }), unfit(Unfit::Labels(17)));
    assert_eq!(why_not(trial, 2, after(2)), (NotEdited::PriorLater(JobId(2)), true));
    assert_eq!(why_not(trial, 2, after(3)), (NotEdited::PriorLater(JobId(3)), true));
    assert_eq!(why_not(trial, 2, after(0)), (NotEdited::PriorGone(JobId(0)), true));
    assert_eq!((trial.line(), trial.record(2).argv), (vec![2, 3, 4], Some(vec!["a".into()])));
    assert_eq!(trial.record(3).callbacks, []);
}

pub fn a_job_is_told_as_it_was_submitted_and_edited(trial: &mut Trial) {
    let submitted = Arc::new(Work {
        conditions: Some(Box::new(Conditions {
            hold: false,
            start: Some(NotBefore::At { us: NOW_US + 7 }),
            after: vec![After { id: JobId(1), on: On::Done }],
        })),
        callbacks: work(&["a"], &[(On::Done, "one"), (On::Failure, "two")]).callbacks.clone(),
        ..Work::clone(&plain())
    });
    trial.insert(1, vec![plain()]);
    trial.insert(2, vec![submitted.clone()]);
    let told = defined(trial, 2);
    assert_eq!((told.work, told.state, told.attempts), (Work::clone(&submitted), State::Blocked, 0));

    let callbacks = vec![(On::Done, vec!["three".into(), "four".into()]), (On::Success, vec!["five".into()])];
    done(trial, 2, Edit { callbacks, after: Some(vec![]), start: Some(None), ..Edit::default() });
    let told = defined(trial, 2);
    let commands = told.work.callbacks.iter().map(|one| (one.on, one.command.as_escaped().to_owned()));
    let wanted = [(On::Failure, "two"), (On::Done, "three"), (On::Done, "four"), (On::Success, "five")];
    assert_eq!(commands.collect::<Vec<_>>(), wanted.map(|(on, command)| (on, command.to_owned())));
    assert_eq!((told.work.conditions, told.state), (None, State::Queued));
    trial.run(vec![start_of(2)]);
    let answers = trial.run(vec![succeed(2)]);
    let Some(Answer::Ended { callbacks, .. }) = answers.first() else { panic!("{answers:?}") };
    assert_eq!(callbacks.iter().map(|id| id.0).collect::<Vec<_>>(), [500, 501, 502]);
    assert_eq!(trial.record(2).result, Some(ResultKind::Success));
    let question = Order::Question(Question::Definition { request: RequestId(1), id: JobId(9) });
    assert!(matches!(trial.answer(question), Answer::Defined { definition: None, .. }));
}
