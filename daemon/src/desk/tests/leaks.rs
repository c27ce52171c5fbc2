//! Whatever clients do, and whenever they go: once all of them have gone and the engine has answered, nothing
//! of them is left, and each request was told its last reply once. The model is the outside: it knows which
//! requests are open, what is owed an answer, and whose each input is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::engine::{Detail, Turns};
use crate::job::{LineKey, Place};

/// What a client, the engine or a worker does next.
#[derive(Debug, Clone)]
enum Step {
    Connect,
    Ask {
        connection: usize,
        kind: usize,
        more: bool,
        id: u64,
    },
    /// The first that is owed an answer gets it.
    Answer {
        how: u8,
    },
    End {
        id: u64,
        is_read: bool,
    },
    Start {
        id: u64,
    },
    Lose {
        id: u64,
    },
    Drain {
        request: usize,
    },
    TooSlow {
        request: usize,
    },
    Close {
        connection: usize,
    },
    EndTurn,
    Wait {
        ms: u64,
    },
}

/// What is owed an answer.
#[derive(Debug)]
enum Owed {
    Jobs(RequestId, Vec<Arc<Work>>),
    /// They are written, and not synced.
    Sync(RequestId),
    Records(RequestId, Vec<JobId>),
    /// Who has so many keys.
    Keepers(RequestId, usize),
    Page(RequestId),
    Line(RequestId, LineKey),
    Pace(RequestId, Arc<str>),
    Release(RequestId),
    Pool(RequestId),
    Hold(RequestId),
    LetGo(Option<RequestId>),
    /// A file could not be opened, which is told later.
    Failure(Event),
    Measure,
}

struct Outside {
    bench: Bench,
    /// The requests of each connection that were not replied to in full.
    open: BTreeMap<ConnectionId, BTreeSet<RequestId>>,
    owed: VecDeque<Owed>,
    /// Inputs that nobody has removed, with the connection or the request that has named them.
    spooled: BTreeSet<String>,
    /// Names of inputs that could not be opened.
    unopened: BTreeSet<String>,
    /// So many files were to be opened.
    opened: u64,
    /// The input that each request has named.
    named: BTreeMap<RequestId, String>,
    next_job: u64,
}

impl Outside {
    fn new(limit: bool) -> Self {
        let limit = std::num::NonZeroU64::new(100).filter(|_| limit);
        Self {
            bench: Bench::with(Config { max_total_output_bytes: limit, ..config() }),
            open: BTreeMap::new(),
            owed: VecDeque::new(),
            spooled: BTreeSet::new(),
            unopened: BTreeSet::new(),
            opened: 0,
            named: BTreeMap::new(),
            next_job: 1,
        }
    }

    fn handle(&mut self, event: Event) {
        let effects = self.bench.desk.handle(self.bench.now, event, &self.bench.core);
        self.take_in(effects);
    }

    fn take_in(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { request, last, .. } => self.replied(request, last),
                Effect::Refuse { request, .. } => self.replied(request, true),
                Effect::Tell { request, .. } | Effect::ReplyStarted { request, .. } => {
                    self.replied(request, false)
                }
                Effect::AwaitDrained { request } => self.replied(request, false),
                Effect::ReplyCondition { request, .. } => self.replied(request, true),
                Effect::ReplyOutput { request, id, attempt, named, .. } => {
                    if self.opens() {
                        self.replied(request, true);
                    } else {
                        let reason = String::new();
                        let missing = Event::OutputMissing { request, id, attempt, named, reason };
                        self.owed.push_back(Owed::Failure(missing));
                    }
                }
                Effect::ReplyInput { request, id, .. } => {
                    if self.opens() {
                        self.replied(request, true);
                    } else {
                        let missing = Event::InputMissing { request, id, reason: String::new() };
                        self.owed.push_back(Owed::Failure(missing));
                    }
                }
                Effect::ReplySpooled { request, token } => {
                    if self.opens() {
                        self.replied(request, true);
                        assert!(self.spooled.insert(token), "a token is given once");
                    } else {
                        self.unopened.insert(token.clone());
                        let failed = Event::SpoolFailed { request, token, reason: String::new() };
                        self.owed.push_back(Owed::Failure(failed));
                    }
                }
                Effect::RemoveSpooled { token } => {
                    let is_there = self.spooled.remove(&token) || self.unopened.remove(&token);
                    assert!(is_there, "{token} is removed once, and is nobody's");
                }
                Effect::Command(core::Event::Submit { request, jobs }) => {
                    self.owed.push_back(Owed::Jobs(request, jobs));
                }
                Effect::Ask(Question::Records { request, ids }) => {
                    self.owed.push_back(Owed::Records(request, ids))
                }
                Effect::Ask(Question::Page { request, .. }) => self.owed.push_back(Owed::Page(request)),
                Effect::Ask(Question::Keepers { request, keys }) => {
                    self.owed.push_back(Owed::Keepers(request, keys.len()));
                }
                Effect::Ask(
                    Question::Dependents { .. }
                    | Question::Attempts { .. }
                    | Question::CountHeld { .. }
                    | Question::Counts { .. }
                    | Question::Callbacks { .. }
                    | Question::Definition { .. },
                ) => {}
                Effect::Ask(Question::Pace { request, pool }) => {
                    self.owed.push_back(Owed::Pace(request, pool));
                }
                Effect::Ask(Question::Line { request, line }) => {
                    self.owed.push_back(Owed::Line(request, line))
                }
                Effect::Change(Change::Release { request, .. }) => {
                    self.owed.push_back(Owed::Release(request))
                }
                Effect::Change(Change::SetPool { request, .. } | Change::SetPause { request, .. }) => {
                    self.owed.push_back(Owed::Pool(request))
                }
                Effect::Change(Change::SetLimit { request, .. }) => self.owed.push_back(Owed::Pool(request)),
                Effect::Chore(Chore::Hold { request, .. }) => self.owed.push_back(Owed::Hold(request)),
                Effect::Chore(Chore::LetGo { request, .. }) => self.owed.push_back(Owed::LetGo(request)),
                Effect::Measure { .. } => self.owed.push_back(Owed::Measure),
                Effect::Command(_)
                | Effect::Change(_)
                | Effect::Chore(_)
                | Effect::Prune
                | Effect::Configure(_)
                | Effect::Ending { .. } => {}
            }
        }
    }

    /// Whether a file can be opened.
    fn opens(&mut self) -> bool {
        self.opened += 1;
        !self.opened.is_multiple_of(4)
    }

    /// Only who has not gone and was not told the last reply is told anything.
    fn replied(&mut self, request: RequestId, last: bool) {
        let open = self.open.values_mut().find(|requests| requests.contains(&request));
        let open = open.unwrap_or_else(|| panic!("{request} is over, and is told something"));
        if last {
            open.remove(&request);
        }
    }

    fn connections(&self) -> Vec<ConnectionId> {
        self.open.keys().copied().collect()
    }

    fn requests(&self) -> Vec<RequestId> {
        self.open.values().flatten().copied().collect()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Connect => {
                let connection = self.bench.connect();
                self.open.insert(connection, BTreeSet::new());
            }
            Step::Ask { connection, kind, more, id } => self.ask(connection, kind, more, id),
            Step::Answer { how } => {
                if let Some(owed) = self.owed.pop_front() {
                    self.answer(owed, how);
                }
            }
            Step::End { id, is_read } => self.end(id, is_read),
            Step::Start { id } => self.handle(Event::Fact(Fact::Started { id: JobId(id), attempt: 1 })),
            Step::Lose { id } => self.handle(Event::Fact(Fact::Lost { id: JobId(id) })),
            Step::Drain { request } => self.with(request, |request| Event::Drained { request }),
            Step::TooSlow { request } => {
                let listens = |request: &RequestId| {
                    matches!(self.bench.desk.requests.get(*request), Some(Open::Listening(_)))
                };
                let listening: Vec<RequestId> = self.requests().into_iter().filter(listens).collect();
                if !listening.is_empty() {
                    let request = listening[request % listening.len()];
                    self.handle(Event::TooSlow { request });
                }
            }
            Step::Close { connection } => {
                let connections = self.connections();
                if !connections.is_empty() {
                    self.close(connections[connection % connections.len()]);
                }
            }
            Step::EndTurn => {
                let effects = self.bench.desk.end_turn();
                self.take_in(effects);
            }
            Step::Wait { ms } => self.bench.now.monotonic += Duration::from_millis(ms),
        }
    }

    fn with(&mut self, request: usize, event: impl Fn(RequestId) -> Event) {
        let requests = self.requests();
        if !requests.is_empty() {
            self.handle(event(requests[request % requests.len()]));
        }
    }

    fn ask(&mut self, connection: usize, kind: usize, more: bool, id: u64) {
        let connections = self.connections();
        if connections.is_empty() {
            return;
        }
        let connection = connections[connection % connections.len()];
        let tokens: Vec<String> = self.spooled.iter().cloned().collect();
        let token = tokens.get(usize::try_from(id).unwrap()).cloned();
        let key = id.is_multiple_of(2).then(|| format!("key {id}"));
        let one = json!({"argv": ["true"], "key": key});
        let asked = match kind {
            0 => Request::Ping,
            1 => submit(Job { stdin: token.clone(), key: key.map(Into::into), ..job() }),
            2 => submit_with(Job { stdin: token.clone(), ..job() }, OnDisconnect::Cancel),
            3 => request("SubmitMany", json!({"jobs": [one, one, one]})),
            4 => Request::Spool,
            5 => request("Wait", json!({"ids": [id, id + 1], "output": true})),
            6 => request("Wait", json!({"ids": [id, id + 1], "any": true, "on_disconnect": "cancel"})),
            7 => request("Get", json!({"id": id})),
            8 => request("List", json!({})),
            9 => request("Output", json!({"id": id})),
            10 => request("Cancel", json!({"ids": [id, id + 2]})),
            11 => match id % 4 {
                0 => request("OpenInput", json!({"id": id})),
                1 => request("CloseInput", json!({"id": id})),
                2 => request("Resize", json!({"id": id, "rows": 5, "columns": 9})),
                _ => request("Signal", json!({"id": id, "signal": 15})),
            },
            12 if id.is_multiple_of(2) => request("Hold", json!({"ids": [id]})),
            12 if id.is_multiple_of(3) => request("Remove", json!({"ids": [id]})),
            12 if id.is_multiple_of(5) => request("Move", json!({"ids": [id], "pool": "default"})),
            12 => request("Release", json!({"ids": [id]})),
            13 if id.is_multiple_of(2) => Request::Settings,
            13 => Request::Pools,
            14 => Request::Status,
            15 => request("Absent", json!({"ids": [id, id + 1]})),
            16 => request("Events", json!({})),
            17 => Request::Backup,
            18 => Request::EndBackup,
            19 => request("AddPool", json!({"name": format!("p{id}"), "workers": 1, "command": ["x"]})),
            20 => request("RemovePool", json!({"name": format!("p{id}")})),
            21 => request("Why", json!({"ids": [id, id + 1]})),
            22 => request("SetPaused", json!({"pools": ["square"], "paused": id.is_multiple_of(2)})),
            _ => request("RestartPool", json!({"name": "square"})),
        };

        let request = RequestId(self.bench.next_request);
        self.bench.next_request += 1;
        self.open.get_mut(&connection).unwrap().insert(request);
        if let (1 | 2, Some(token)) = (kind, token) {
            self.named.insert(request, token);
        }
        self.handle(Event::Asked { connection, request, asked, more });
    }

    fn answer(&mut self, owed: Owed, how: u8) {
        let refuse = how.is_multiple_of(5);
        let refused = |request| {
            Event::Answer(Answer::Refused {
                request,
                refusal: Refusal::StoreFailed { reason: String::new() },
            })
        };
        match owed {
            Owed::Jobs(request, _) if refuse => self.handle(refused(request)),
            Owed::Jobs(request, jobs) if how.is_multiple_of(7) => {
                self.handle(Event::Fact(Fact::Denied { request, denial: Denial::Draining, jobs }));
            }
            Owed::Jobs(request, jobs) => {
                let first = JobId(self.next_job);
                self.next_job += jobs.len() as u64;
                let is_other = how.is_multiple_of(3);
                let existing = if is_other { vec![(0, JobId(u64::from(how)))] } else { Vec::new() };
                // From here on the input is the job's; where another job has the key, nobody's.
                if !is_other && let Some(token) = self.named.get(&request) {
                    assert!(self.spooled.remove(token), "the job has its input");
                }
                let (turns, waiting, is_synced) = (Turns::default(), Vec::new(), how.is_multiple_of(2));
                let inserted = Fact::Inserted { request, first, jobs, existing, turns, waiting, is_synced };
                self.handle(Event::Fact(inserted));
                if !is_synced {
                    self.owed.push_back(Owed::Sync(request));
                }
            }
            Owed::Sync(request) => self.handle(Event::Fact(Fact::Synced { request })),
            Owed::Records(request, _) | Owed::Page(request) | Owed::Line(request, _) if refuse => {
                self.handle(refused(request));
            }
            Owed::Keepers(request, _) if refuse => self.handle(refused(request)),
            Owed::Keepers(request, count) => {
                let keepers = vec![how.is_multiple_of(2).then_some(JobId(u64::from(how))); count];
                self.handle(Event::Answer(Answer::Keepers { request, keepers }));
            }
            Owed::Records(request, ids) => self.got(request, &ids, how),
            Owed::Page(request) => {
                let records = vec![record(1, "failed")];
                let next = (how % 2 == 1).then_some(JobId(1));
                self.handle(Event::Answer(Answer::Listed { request, records, entries: Vec::new(), next }));
            }
            Owed::Pace(request, pool) => {
                let pace = crate::engine::Pace::default();
                self.handle(Event::Answer(Answer::Pace { request, pool, pace }));
            }
            Owed::Line(request, line) => {
                let head = (1..u64::from(how % 8)).map(|id| position(id, 0)).collect();
                self.handle(Event::Answer(Answer::Line { request, line, head }));
            }
            Owed::Release(request) | Owed::Pool(request) if refuse => self.handle(refused(request)),
            Owed::Release(request) => {
                self.handle(Event::Fact(Fact::Released { request, jobs: Vec::new() }));
            }
            Owed::Pool(request) => self.handle(Event::Answer(Answer::Kept { request })),
            Owed::Hold(request) => {
                let bytes = if refuse { Err(Refusal::BackupUnderWay {}) } else { Ok(1) };
                self.handle(Event::Answer(Answer::Held { request, bytes }));
            }
            Owed::LetGo(request) => self.handle(Event::Answer(Answer::LetGo { request, whole: Ok(()) })),
            // Where the client has gone meanwhile, its refusal is for nobody: the server has forgotten the
            // request.
            Owed::Failure(event) => self.fail(event),
            Owed::Measure => self.handle(Event::Measured { ended: u64::from(how), running: 0 }),
        }
    }

    fn fail(&mut self, event: Event) {
        let (Event::OutputMissing { request, .. }
        | Event::InputMissing { request, .. }
        | Event::SpoolFailed { request, .. }) = event
        else {
            unreachable!("nothing else fails later")
        };
        if self.requests().contains(&request) {
            self.handle(event);
        } else {
            self.bench.handle(event);
        }
    }

    /// In two parts, as from two engines.
    fn got(&mut self, request: RequestId, ids: &[JobId], how: u8) {
        let states = ["queued", "running", "succeeded", "failed"];
        let (first, second) = ids.split_at(usize::from(how) % (ids.len() + 1));
        let is_missing = how % 4 == 3;
        let missing: Vec<JobId> = second.iter().copied().filter(|_| is_missing).collect();
        let of = |ids: &[JobId]| -> Vec<Record> {
            ids.iter().map(|id| record(id.0, states[usize::from(how / 2) % 4])).collect()
        };
        let second = if is_missing { Vec::new() } else { of(second) };
        if !first.is_empty() {
            let records = of(first);
            self.handle(Event::Answer(Answer::Got {
                request,
                records,
                missing: Vec::new(),
                rest: Vec::new(),
            }));
        }
        if ids.is_empty() || !second.is_empty() || !missing.is_empty() {
            self.handle(Event::Answer(Answer::Got { request, records: second, missing, rest: Vec::new() }));
        }
    }

    /// A job ends as the core and the engine have it: seen by the desk, then kept.
    fn end(&mut self, id: u64, is_read: bool) {
        let outcome =
            crate::core::jobs::outcome::of_stop(crate::job::StopReason::Canceled, 5).expect("it is final");
        let mut effect = moved(id, Place::Ended(Box::new(outcome)));
        let told = self.bench.desk.overhear(self.bench.now, &mut effect);
        self.take_in(told);
        let core::Effect::Change(Change::Move(moved)) = effect else { unreachable!("it is a move") };
        let record = (moved.want == Detail::Record && is_read).then(|| Box::new(record(id, "canceled")));
        self.handle(Event::Fact(Fact::Ended { id: JobId(id), record }));
    }

    fn close(&mut self, connection: ConnectionId) {
        let requests = self.open.remove(&connection).expect("it is there");
        for request in requests {
            self.handle(Event::Disconnected { request });
        }
        self.handle(Event::Closed { connection });
    }
}

fn step() -> impl Strategy<Value = Step> {
    let ask = (0_usize..4, 0_usize..24, any::<bool>(), 0_u64..6);
    prop_oneof![
        2 => Just(Step::Connect),
        12 => ask.prop_map(|(connection, kind, more, id)| Step::Ask { connection, kind, more, id }),
        10 => any::<u8>().prop_map(|how| Step::Answer { how }),
        4 => (0_u64..9, any::<bool>()).prop_map(|(id, is_read)| Step::End { id, is_read }),
        2 => (0_u64..9).prop_map(|id| Step::Start { id }),
        1 => (0_u64..9).prop_map(|id| Step::Lose { id }),
        2 => any::<usize>().prop_map(|request| Step::Drain { request }),
        1 => any::<usize>().prop_map(|request| Step::TooSlow { request }),
        2 => any::<usize>().prop_map(|connection| Step::Close { connection }),
        2 => Just(Step::EndTurn),
        2 => (0_u64..200).prop_map(|ms| Step::Wait { ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_left_of_clients_that_have_gone(
        limit in any::<bool>(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut outside = Outside::new(limit);
        outside.take(Step::Connect);
        for step in steps {
            outside.take(step);
        }

        for connection in outside.connections() {
            outside.close(connection);
        }
        while let Some(owed) = outside.owed.pop_front() {
            outside.answer(owed, 1);
        }
        outside.take(Step::EndTurn);

        prop_assert!(outside.bench.is_empty(), "{:#?}", outside.bench.desk);
        prop_assert!(outside.spooled.is_empty(), "{:?} are left", outside.spooled);
    }
}
