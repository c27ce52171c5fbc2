//! The desk, event by event: what goes in, and the lines that come out. [`Bench`] is the one helper; a line
//! is an effect as [`line`] writes it.

mod leaks;
mod listening;
mod pools;
mod reading;
mod room;
mod submissions;
mod waiting;
mod why;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use pool_proto::methods::Submit;
use pool_proto::nouns::{Job, OnDisconnect, Swept};
use pool_proto::{Record, Refusal, Request};
use serde_json::{Value, json};

use super::*;
use crate::core::{Denial, LaneId, PoolId, SlotId};
use crate::engine::{Change, Conditional, Offer, Page, Restored, Turns};
use crate::job::{Place, Position, ProcessId, Ready, Tries, Work};

/// The user that everything belongs to.
pub const OWNER: UserId = UserId::new(1000);

/// A desk, the core that it looks at, and the ids of what comes next.
pub struct Bench {
    pub desk: Desk,
    pub core: Core,
    pub now: Now,
    next_request: u64,
    next_connection: usize,
}

/// A configuration with a warm pool beside the default one.
pub fn config() -> Config {
    let square = "[pool.square]\nworkers = 1\ncommand = [\"square\"]\n";
    Config { workers: NonZeroU32::new(2), ..Config::parse(square).unwrap() }
}

impl Bench {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: Config) -> Self {
        let now = Now { monotonic: Duration::from_secs(1000), wall_us: 1_000_000 };
        let daemon = Daemon {
            guardian: ProcessId::new(10),
            supervisor: ProcessId::new(11),
            started_us: 0xabc,
            state_dir: "/state".into(),
            database: "/state/poold.db".into(),
            socket: "/run/poold".into(),
            config: None,
            given: Vec::new(),
            max_open_files: 1024,
            swept: Swept::default(),
        };
        let admission = Admission::new(Account::default());
        let settings = config.settings(None, &admission.minimal());
        let (core, _) = Core::restore(settings, Restored { next_job: 1, ..Restored::default() }, now);
        let desk = Desk::new(daemon, Rights::new(OWNER), admission, config, Found::default(), now);
        Self { desk, core, now, next_request: 1, next_connection: 1 }
    }

    pub fn handle(&mut self, event: Event) -> Vec<String> {
        lines(self.desk.handle(self.now, event, &self.core))
    }

    pub fn connect(&mut self) -> ConnectionId {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        assert_eq!(self.handle(Event::Connected { connection, uid: OWNER }), [""; 0]);
        connection
    }

    /// A request with one reply.
    pub fn ask(&mut self, connection: ConnectionId, asked: Request) -> (RequestId, Vec<String>) {
        self.ask_for(connection, asked, false)
    }

    /// A request with any number of replies.
    pub fn ask_more(&mut self, connection: ConnectionId, asked: Request) -> (RequestId, Vec<String>) {
        self.ask_for(connection, asked, true)
    }

    fn ask_for(&mut self, connection: ConnectionId, asked: Request, more: bool) -> (RequestId, Vec<String>) {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let lines = self.handle(Event::Asked { connection, request, asked, more });
        (request, lines)
    }

    /// The client of these requests goes.
    pub fn leave(&mut self, connection: ConnectionId, requests: &[RequestId]) -> Vec<String> {
        let mut lines = Vec::new();
        for &request in requests {
            lines.extend(self.handle(Event::Disconnected { request }));
        }
        lines.extend(self.handle(Event::Closed { connection }));
        lines
    }

    pub fn accept(
        &mut self,
        request: RequestId,
        first: u64,
        count: usize,
        existing: &[(usize, u64)],
    ) -> Vec<String> {
        let existing = existing.iter().map(|&(place, id)| (place, JobId(id))).collect();
        let jobs = vec![work(); count];
        let (first, turns, waiting, is_synced) = (JobId(first), Turns::default(), Vec::new(), true);
        self.handle(Event::Fact(Fact::Inserted { request, first, jobs, existing, turns, waiting, is_synced }))
    }

    /// So many jobs are written, and not synced.
    pub fn write(&mut self, request: RequestId, first: u64, count: usize) -> Vec<String> {
        let (first, jobs, existing) = (JobId(first), vec![work(); count], Vec::new());
        let (turns, waiting, is_synced) = (Turns::default(), Vec::new(), false);
        self.handle(Event::Fact(Fact::Inserted { request, first, jobs, existing, turns, waiting, is_synced }))
    }

    pub fn synced(&mut self, request: RequestId) -> Vec<String> {
        self.handle(Event::Fact(Fact::Synced { request }))
    }

    pub fn got(&mut self, request: RequestId, records: Vec<Record>, missing: &[u64]) -> Vec<String> {
        let missing = missing.iter().map(|&id| JobId(id)).collect();
        self.handle(Event::Answer(Answer::Got { request, records, missing, rest: Vec::new() }))
    }

    /// The engine has read some of what it was asked for.
    pub fn got_part(&mut self, request: RequestId, records: Vec<Record>, rest: &[u64]) -> Vec<String> {
        let rest = rest.iter().map(|&id| JobId(id)).collect();
        self.handle(Event::Answer(Answer::Got { request, records, missing: Vec::new(), rest }))
    }

    pub fn ended(&mut self, id: u64, record: Option<Record>) -> Vec<String> {
        self.handle(Event::Fact(Fact::Ended { id: JobId(id), record: record.map(Box::new) }))
    }

    pub fn refused(&mut self, request: RequestId) -> Vec<String> {
        let refusal = Refusal::StoreFailed { reason: "disk full".to_owned() };
        self.handle(Event::Answer(Answer::Refused { request, refusal }))
    }

    pub fn denied(&mut self, request: RequestId, denial: Denial) -> Vec<String> {
        self.denied_of(request, denial, vec![work()])
    }

    pub fn denied_of(&mut self, request: RequestId, denial: Denial, jobs: Vec<Arc<Work>>) -> Vec<String> {
        self.handle(Event::Fact(Fact::Denied { request, denial, jobs }))
    }

    /// The engine tells who has the keys of a submission.
    pub fn keepers(&mut self, request: RequestId, ids: &[u64]) -> Vec<String> {
        let keepers = ids.iter().map(|&id| (id > 0).then_some(JobId(id))).collect();
        self.handle(Event::Answer(Answer::Keepers { request, keepers }))
    }

    pub fn measured(&mut self, ended: u64, running: u64) -> Vec<String> {
        self.handle(Event::Measured { ended, running })
    }

    /// The core changes something: what is told of it, and the change as it is after the desk has seen it.
    pub fn overhear(&mut self, effect: core::Effect) -> (Vec<String>, core::Effect) {
        let mut effect = effect;
        let told = lines(self.desk.overhear(self.now, &mut effect));
        (told, effect)
    }

    pub fn end_turn(&mut self) -> Vec<String> {
        lines(self.desk.end_turn())
    }

    /// The core accepts the job and hands it to a worker.
    pub fn run(&mut self, id: u64) {
        let slot = SlotId { lane: LaneId::Pool(self.default_pool()), index: 0 };
        let up = core::Event::WorkerUp { slot, pid: ProcessId::new(100) };
        let request = RequestId(1 << 40);
        let jobs = vec![work()];
        let submit = core::Event::Submit { request, jobs: jobs.clone() };
        let (conditions, existing, turns) = (Conditional::default(), Vec::new(), Turns::default());
        let inserted = Answer::Inserted {
            request,
            first: JobId(id),
            jobs,
            existing,
            turns,
            conditions,
            is_synced: true,
        };
        let ready = Ready { id: JobId(id), tries: Tries::default(), work: work() };
        let offers = vec![Offer { ready, start_by: None, bytes: 1 }];
        let offered = core::Event::Offered { pool: Arc::from("default"), offers };
        for event in [up, submit, core::Event::Answer(inserted), offered] {
            self.core.handle(self.now, event);
        }
        assert_eq!(self.core.running().collect::<Vec<_>>(), [(JobId(id), 1)]);
    }

    fn default_pool(&self) -> PoolId {
        let is_default =
            |id: &PoolId| self.core.pool_name(LaneId::Pool(*id)).is_some_and(|name| &*name == "default");
        (0..8).map(PoolId).find(is_default).expect("there is a default pool")
    }

    /// Nothing is left of any client.
    pub fn is_empty(&self) -> bool {
        let desk = &self.desk;
        desk.requests.is_empty()
            && desk.clients.is_empty()
            && desk.brief_at_end.is_empty()
            && (desk.past.is_kept() || desk.overheard.pools.is_empty())
            && desk.unsynced.is_empty()
    }
}

pub fn job() -> Job {
    Job { argv: vec!["true".into()], ..Job::default() }
}

pub fn submit(job: Job) -> Request {
    Request::Submit(Box::new(Submit { job, on_disconnect: None, obstacles: None }))
}

pub fn submit_with(job: Job, on_disconnect: OnDisconnect) -> Request {
    Request::Submit(Box::new(Submit { job, on_disconnect: Some(on_disconnect), obstacles: None }))
}

/// Reads a request as it comes from a client.
pub fn request(method: &str, parameters: Value) -> Request {
    let parameters = serde_json::value::to_raw_value(&parameters).unwrap();
    Request::parse(&format!("io.poold.{method}"), Some(&parameters)).unwrap()
}

/// The work of [`job`].
pub fn work() -> Arc<Work> {
    let pool = |name: &str| Some((Arc::from(name), false));
    Admission::new(Account::default()).admit(job(), 0, &Config::default(), pool).unwrap()
}

pub fn record(id: u64, state: &str) -> Record {
    let has_started = state != "queued";
    let value = json!({
        "schema": 1, "id": id, "state": state, "result": null, "exit_code": null, "signal": null,
        "reason": null,
        "pool": "default", "slot": null, "name": null, "argv": ["true"], "cwd": "/", "tie": null,
        "on_crash": "requeue", "attempt": u32::from(has_started), "crashes": 0, "worker_pid": null, "pid": null,
        "submitted_at": "1970-01-01T00:00:01Z",
        "started_at": has_started.then_some("1970-01-01T00:00:02Z"), "ended_at": null, "wall_s": null,
        "usage": null, "stdout": null, "stderr": null, "callbacks": [],
    });
    serde_json::from_value(value).unwrap()
}

pub fn position(id: u64, priority: i32) -> Position {
    Position { priority: std::cmp::Reverse(priority), id: JobId(id) }
}

// ---- effects as lines ----

pub fn lines(effects: Vec<Effect>) -> Vec<String> {
    effects.iter().map(line).collect()
}

/// An effect in few words. Of a record there is its id and state; the time of a happening is left out.
pub fn line(effect: &Effect) -> String {
    match effect {
        Effect::Reply { request, reply, last } => {
            let more = if *last { "" } else { " ..." };
            format!("{request} {}{more}", brief(serde_json::to_value(reply).unwrap()))
        }
        Effect::Refuse { request, refusal } => {
            let value = serde_json::to_value(refusal).unwrap();
            let name = value["error"].as_str().unwrap().rsplit('.').next().unwrap();
            format!("{request} refused {name} {}", brief(value["parameters"].clone()))
        }
        Effect::Tell { request, happening } => {
            format!("{request} hears {}", brief(serde_json::to_value(happening).unwrap()))
        }
        Effect::ReplyStarted { request, id, attempt } => format!("{request} started {id}/{attempt}"),
        Effect::ReplyCondition { request, condition } => {
            format!("{request} {}", brief(serde_json::to_value(condition).unwrap()))
        }
        Effect::ReplyOutput { request, id, attempt, named: _, log, written: _ } => {
            format!("{request} {} {id}/{attempt}", if *log { "log" } else { "output" })
        }
        Effect::ReplyInput { request, id, attempt, input } => {
            format!("{request} {} of {id}/{attempt}", input.as_str())
        }
        Effect::ReplySpooled { request, token } => format!("{request} spooled {token}"),
        Effect::AwaitDrained { request } => format!("{request} awaits drained"),
        Effect::Command(core::Event::Submit { request, jobs }) => {
            format!("submit {request} of {}", jobs.len())
        }
        Effect::Command(core::Event::Cancel { id, unstarted: false }) => format!("cancel {id}"),
        Effect::Command(core::Event::Attended { ids }) => format!("attended {}", list(ids)),
        Effect::Command(core::Event::ClientGone { ids }) => format!("client gone of {}", list(ids)),
        Effect::Command(core::Event::Forsaken { request }) => format!("forsaken {request}"),
        Effect::Command(core::Event::Restart { request: _, pool }) => format!("restart {pool}"),
        Effect::Command(core::Event::SetPause { pool, pause }) => {
            format!("{} {pool}", if pause.is_some() { "pause" } else { "resume" })
        }
        Effect::Command(event) => format!("command {event:?}"),
        Effect::Ask(Question::Records { request, ids }) => format!("{request} asks {}", list(ids)),
        Effect::Ask(Question::Page { request, page: Page { after, limit, .. } }) => {
            format!("{request} asks {limit} after {}", after.map_or(0, |id| id.0))
        }
        Effect::Ask(Question::Definition { request, id }) => format!("{request} asks what {id} is to do"),
        Effect::Ask(Question::Counts { request }) => format!("{request} asks for counts"),
        Effect::Ask(Question::Attempts { request, id }) => format!("{request} asks for attempts of {id}"),
        Effect::Ask(Question::Dependents { request, id, .. }) => format!("{request} asks who waits for {id}"),
        Effect::Ask(Question::Keepers { request, keys }) => {
            let keys: Vec<&str> = keys.iter().map(|key| key.text.as_escaped()).collect();
            format!("{request} asks who has {}", keys.join(" "))
        }
        Effect::Ask(Question::Callbacks { request, page }) => format!("{request} asks for {page:?}"),
        Effect::Ask(Question::CountHeld { request }) => format!("{request} asks how many are held"),
        Effect::Ask(Question::Pace { request, pool }) => format!("{request} asks the pace of {pool}"),
        Effect::Ask(Question::Line { request, line }) => {
            let of_labels = if line.needs.are_plain() { String::new() } else { format!(" ({})", line.needs) };
            format!("{request} asks the line of {}{of_labels}", line.pool)
        }
        Effect::Change(Change::Release { request, ids, .. }) => format!("{request} releases {}", list(ids)),
        Effect::Change(Change::SetPool { request, name, value }) => {
            format!("{request} {} pool {name}", if value.is_some() { "keeps" } else { "forgets" })
        }
        Effect::Change(Change::SetPause { request, pools, pause }) => {
            format!("{request} {} {}", if pause.is_some() { "pauses" } else { "resumes" }, pools.join(" "))
        }
        Effect::Change(change) => format!("{change:?}"),
        Effect::Chore(Chore::Hold { request, holder }) => format!("{request} holds for {holder}"),
        Effect::Chore(Chore::LetGo { request, holder }) => {
            format!(
                "let go for {holder}{}",
                request.map_or(String::new(), |request| format!(" and {request}"))
            )
        }
        Effect::Chore(chore) => format!("{chore:?}"),
        Effect::RemoveSpooled { token } => format!("remove {token}"),
        Effect::Measure { running } => format!("measure {}", running.len()),
        Effect::Prune => "prune".to_owned(),
        Effect::Configure(config) => {
            format!("configure {}", config.pool.keys().cloned().collect::<Vec<String>>().join(" "))
        }
        Effect::Ending { soon } => format!("ending {}", if *soon { "soon" } else { "when all is done" }),
    }
}

fn list(ids: &[JobId]) -> String {
    if ids.is_empty() {
        return "nothing".to_owned();
    }
    ids.iter().map(ToString::to_string).collect::<Vec<String>>().join(" ")
}

/// Without nulls, times, and most of a record.
fn brief(value: Value) -> Value {
    match value {
        Value::Object(members) if members.contains_key("schema") => {
            Value::String(format!("{} {}", members["id"], members["state"].as_str().unwrap()))
        }
        Value::Object(members) => {
            let kept = members
                .into_iter()
                .filter(|(name, value)| !value.is_null() && !["at", "cursor"].contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name, brief(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(brief).collect()),
        other => other,
    }
}

/// A move of the core's.
pub fn moved(id: u64, to: Place) -> core::Effect {
    let tries = Tries { attempts: 1, ..Tries::default() };
    let fence = crate::engine::Fence::Attempt(1);
    core::Effect::Change(Change::Move(Box::new(crate::engine::Move::new(JobId(id), fence, to, tries))))
}
