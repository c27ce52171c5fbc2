//! The simulated clients: their connections, what they ask for, and what they are told, each reply checked as
//! it comes.

use std::collections::{BTreeMap, BTreeSet};

use pool_proto::methods::{
    AddPool, Altered, CallbacksAltered, Cancel, DropCallbacks, Edit, Events, Explained, Get, Hold, List,
    Move, Other, Output, Release, Remove, RemovePool, Reply, Request, RestartPool, Retry, RetryCallbacks,
    SetFrozen, SetLabelLimit, SetPaused, Shutdown, ShutdownMode, Signal, Submit, SubmitMany, Submitted, Wait,
    Why,
};
use pool_proto::nouns::{
    Brief, CallProgress, ExplanationKind, Happening, HappeningKind, OnDisconnect, Progress, ProgressEvent,
    ReadyWhen,
};
use pool_proto::{Record, Refusal, State};

use super::specs::as_submitted;
use super::world::World;
use crate::desk::{self, ConnectionId};
use crate::job::{JobId, RequestId, UserId, Work};
use crate::shell::turn::{Inbox, Input};

/// The user that the simulated daemon and its clients run as.
pub const OWNER: UserId = UserId::new(1000);

/// What a client makes of a reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// `existing`: the places of those that were there before.
    Accepted {
        ids: Vec<u64>,
        existing: Vec<usize>,
    },
    /// Nothing was submitted: this job is there, in that state.
    Skipped {
        id: JobId,
        state: State,
    },
    Started {
        id: JobId,
        attempt: u32,
    },
    Progress {
        id: JobId,
        progress: CallProgress,
    },
    Ended(Box<Record>),
    Brief(Box<Brief>),
    Canceled(Vec<Record>),
    Done,
    Refused(Refusal),
    /// Something has happened that it listens to.
    Happening(Box<Happening>),
    /// A file for a standard input.
    Spooled {
        token: String,
    },
    /// An attempt's output was opened.
    Output {
        id: JobId,
        attempt: u32,
    },
    /// A job's standard input was opened.
    Input {
        id: JobId,
        attempt: u32,
    },
    Other(Box<Reply>),
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients {
    /// Each with the requests that came over it and are not over.
    pub connections: BTreeMap<ConnectionId, BTreeSet<RequestId>>,
    /// What each request has been told, and whether that was all. Without those whose clients have gone.
    pub told: BTreeMap<RequestId, (Vec<Heard>, bool)>,
    /// Requests whose clients are yet to read what was sent.
    pub unread: BTreeSet<RequestId>,
    /// Ids that some client knows to be accepted.
    pub accepted: BTreeSet<JobId>,
    /// All ids that some client has been given for a new job, since the first start.
    given: BTreeSet<JobId>,
    /// The last of them that an earlier daemon has given out.
    last_before: Option<JobId>,
    /// Ids that some client has been told the end of, and how.
    pub ended: BTreeMap<JobId, (u32, State)>,
    /// The cursors that some listener was told, since the first start.
    pub cursors: Vec<String>,
    /// The numbers of those that this daemon has told with what has happened.
    numbers: BTreeSet<u64>,
    /// Listeners that were there before, and the cursors up to which they have heard all.
    back: BTreeMap<RequestId, String>,
    /// Standard inputs on the disk.
    pub spooled: BTreeSet<String>,
    next_connection: usize,
    next_request: u64,
}

impl Clients {
    /// After the daemon's death: nobody is connected, and what was promised stands.
    pub fn outlive_daemon(self, needed: impl Fn(&str) -> bool) -> Self {
        let Self { accepted, given, ended, cursors, mut spooled, next_connection, next_request, .. } = self;
        let last_before = given.last().copied();
        spooled.retain(|token| needed(token));
        let none = Self::default();
        Self { accepted, given, last_before, ended, cursors, spooled, next_connection, next_request, ..none }
    }
}

/// A request to wait for these jobs.
pub fn ends_of(ids: &[u64]) -> Wait {
    Wait { ids: ids.to_vec(), ..Wait::default() }
}

impl World {
    // ---- what clients do ----

    pub fn connect(&mut self) -> ConnectionId {
        if let Some((&connection, _)) = self.clients.connections.last_key_value()
            && self.shares_connections
        {
            return connection;
        }
        let connection = ConnectionId(self.clients.next_connection);
        self.clients.next_connection += 1;
        if self.lives() {
            self.clients.connections.insert(connection, BTreeSet::new());
            self.turn([Input::Desk(desk::Event::Connected { connection, uid: OWNER })]);
        }
        connection
    }

    /// Over a connection that is there. `more`: the client takes any number of replies.
    pub fn ask_over(&mut self, connection: ConnectionId, asked: Request, more: bool) -> RequestId {
        self.clients.next_request += 1;
        let request = RequestId(self.clients.next_request);
        self.clients.told.insert(request, (Vec::new(), false));
        if let Some(requests) = self.clients.connections.get_mut(&connection) {
            requests.insert(request);
            self.known_pauses.note_request(request, &asked);
            self.turn([Input::Desk(desk::Event::Asked { connection, request, asked, more })]);
        }
        request
    }

    /// Over a connection of its own, for one reply.
    pub fn ask(&mut self, asked: Request) -> RequestId {
        let connection = self.connect();
        self.ask_over(connection, asked, false)
    }

    /// Over a connection of its own, for any number of replies.
    pub fn ask_for_more(&mut self, asked: Request) -> RequestId {
        let connection = self.connect();
        self.ask_over(connection, asked, true)
    }

    /// Submits without waiting for the ends.
    pub fn submit(&mut self, jobs: Vec<Work>) -> RequestId {
        let mut jobs: Vec<_> = jobs.iter().map(as_submitted).collect();
        if jobs.len() == 1
            && let Some(job) = jobs.pop()
        {
            return self.ask(Request::Submit(Box::new(Submit { job, on_disconnect: None, obstacles: None })));
        }
        self.ask(Request::SubmitMany(Box::new(SubmitMany { jobs, defaults: None, obstacles: None })))
    }

    /// Submits, and waits for the ends in few words.
    pub fn submit_batch(&mut self, jobs: Vec<Work>) -> RequestId {
        let jobs = jobs.iter().map(as_submitted).collect();
        self.ask_for_more(Request::SubmitMany(Box::new(SubmitMany { jobs, defaults: None, obstacles: None })))
    }

    /// Submits, and waits for the end.
    pub fn submit_and_wait(&mut self, work: &Work, on_disconnect: OnDisconnect) -> RequestId {
        let submit = Submit { job: as_submitted(work), on_disconnect: Some(on_disconnect), obstacles: None };
        self.ask_for_more(Request::Submit(Box::new(submit)))
    }

    /// Has a standard input spooled, and then submits work that reads it.
    pub fn submit_with_input(&mut self, work: Work) -> RequestId {
        let connection = self.connect();
        let spool = self.ask_over(connection, Request::Spool, false);
        let token = match self.clients.told[&spool].0.last() {
            Some(Heard::Spooled { token }) => token.clone(),
            _ => return spool,
        };
        let job = as_submitted(&Work { stdin: Some(token), ..work });
        self.ask_over(
            connection,
            Request::Submit(Box::new(Submit { job, on_disconnect: None, obstacles: None })),
            false,
        )
    }

    pub fn wait(&mut self, wait: Wait) -> RequestId {
        self.ask_for_more(Request::Wait(wait))
    }

    pub fn cancel(&mut self, ids: &[u64]) -> RequestId {
        self.ask(Request::Cancel(Cancel { ids: ids.to_vec(), ..Cancel::default() }))
    }

    pub fn signal(&mut self, id: u64, signal: i32) -> RequestId {
        self.ask(Request::Signal(Signal { id, signal }))
    }

    /// A client pauses a running job, or lets it go on.
    pub fn set_frozen(&mut self, id: u64, frozen: bool) -> RequestId {
        self.ask(Request::SetFrozen(SetFrozen { id, frozen }))
    }

    /// A client pauses a pool with what runs in it.
    pub fn freeze_pool(&mut self, pool: &str) -> RequestId {
        let pools = vec![pool.to_owned()];
        self.ask(Request::SetPaused(SetPaused { pools, paused: true, freeze: Some(true) }))
    }

    /// Somebody wants jobs held.
    pub fn hold(&mut self, ids: &[u64]) -> RequestId {
        self.ask(Request::Hold(Hold { ids: ids.to_vec() }))
    }

    /// Somebody has jobs that have ended removed.
    pub fn remove(&mut self, ids: &[u64]) -> RequestId {
        self.ask(Request::Remove(Remove { ids: ids.to_vec() }))
    }

    /// Somebody wants jobs in another pool.
    pub fn move_to(&mut self, ids: &[u64], pool: &str) -> RequestId {
        self.ask(Request::Move(Move { ids: ids.to_vec(), pool: pool.to_owned() }))
    }

    /// Somebody wants a job to be another one.
    pub fn edit(&mut self, edit: Edit) -> RequestId {
        self.ask(Request::Edit(Box::new(edit)))
    }

    /// Somebody has jobs that have ended run again.
    pub fn retry(&mut self, ids: &[u64]) -> RequestId {
        self.ask(Request::Retry(Retry { ids: ids.to_vec() }))
    }

    /// Somebody has callbacks run again.
    pub fn retry_callbacks(&mut self, ids: &[u64]) -> RequestId {
        self.ask(Request::RetryCallbacks(RetryCallbacks { ids: ids.to_vec() }))
    }

    /// Somebody drops callbacks.
    pub fn drop_callbacks(&mut self, ids: &[u64]) -> RequestId {
        self.ask(Request::DropCallbacks(DropCallbacks { ids: ids.to_vec() }))
    }

    /// Somebody lets held jobs run again.
    pub fn release(&mut self, ids: &[u64]) -> RequestId {
        self.ask(Request::Release(Release { ids: ids.to_vec() }))
    }

    pub fn get(&mut self, id: u64) -> RequestId {
        self.ask(Request::Get(Get { id }))
    }

    pub fn list(&mut self, list: List) -> RequestId {
        self.ask_for_more(Request::List(Box::new(list)))
    }

    pub fn output(&mut self, id: u64) -> RequestId {
        self.ask(Request::Output(Output { id, attempt: None }))
    }

    /// A warm pool is added at run time.
    pub fn add_pool(&mut self, name: &str, workers: u32) -> RequestId {
        let add = AddPool {
            name: name.to_owned(),
            workers,
            command: vec!["program".into()],
            cwd: None,
            env: None,
            ready: Some(ReadyWhen::Notify),
            start_timeout_s: None,
            start_attempts: None,
            max_calls: Some(3),
            max_age_s: None,
            max_rss_bytes: None,
            timeout_s: None,
            kill_after_s: None,
            retries: None,
            backoff_s: None,
            jitter: None,
            retry_on_exit: None,
            no_retry_on_exit: None,
            start_within_s: None,
            durability: None,
        };
        self.ask(Request::AddPool(Box::new(add)))
    }

    pub fn remove_pool(&mut self, name: &str) -> RequestId {
        self.ask(Request::RemovePool(RemovePool { name: name.to_owned() }))
    }

    /// Somebody wants new programs in a pool, and to know when they are there.
    pub fn restart_pool(&mut self, name: &str) -> RequestId {
        self.ask_for_more(Request::RestartPool(RestartPool { name: name.to_owned() }))
    }

    /// Pools are paused, or resumed.
    pub fn set_paused(&mut self, pools: &[&str], paused: bool) -> RequestId {
        let pools = pools.iter().map(|pool| (*pool).to_owned()).collect();
        self.ask(Request::SetPaused(SetPaused { pools, paused, freeze: None }))
    }

    /// The limit of a label is set, or removed.
    pub fn set_limit(&mut self, label: &str, limit: Option<u32>) -> RequestId {
        self.ask(Request::SetLabelLimit(SetLabelLimit { label: label.to_owned(), limit }))
    }

    /// Since when a pool is paused, as it is kept.
    pub fn paused_since(&self, pool: &str) -> Option<i64> {
        self.disk().pauses().get(pool).map(|pause| pause.since_us)
    }

    /// Somebody wants to know what happens.
    pub fn listen(&mut self) -> RequestId {
        self.ask_for_more(Request::Events(Events::default()))
    }

    /// Somebody who has listened before is back, and has heard all up to that cursor.
    pub fn listen_since(&mut self, cursor: &str) -> RequestId {
        let since = Some(cursor.to_owned());
        let request = self.ask_for_more(Request::Events(Events { since, ..Events::default() }));
        self.clients.back.insert(request, cursor.to_owned());
        request
    }

    /// All that this listener was told.
    pub fn happenings(&self, request: RequestId) -> Vec<Happening> {
        let told = self.replies(request).iter().filter_map(|heard| match heard {
            Heard::Happening(happening) => Some((**happening).clone()),
            _ => None,
        });
        told.collect()
    }

    /// A drain begins when the backing has counted what is held.
    pub fn drain(&mut self) -> RequestId {
        let request = self.ask(Request::Shutdown(Shutdown { mode: ShutdownMode::Drain }));
        self.settle_store();
        request
    }

    /// The client of a request goes.
    pub fn disconnect(&mut self, request: RequestId) {
        let over = |(_, requests): &(&ConnectionId, &BTreeSet<RequestId>)| requests.contains(&request);
        let connection = self.clients.connections.iter().find(over).map(|(&connection, _)| connection);
        self.close(connection.expect("the request is not over"));
    }

    /// A connection goes, and all its requests before it. What follows from the end of one of them may be
    /// told to another that is yet to end; the server has nobody to send it to.
    pub fn close(&mut self, connection: ConnectionId) {
        let Some(requests) = self.clients.connections.remove(&connection) else { return };
        let ends = requests.iter().map(|&request| Input::Desk(desk::Event::Disconnected { request }));
        let ends: Vec<Input> = ends.chain([Input::Desk(desk::Event::Closed { connection })]).collect();
        self.turn(ends);
        for request in requests {
            self.clients.told.remove(&request);
            self.clients.unread.remove(&request);
        }
    }

    pub fn close_all(&mut self) {
        for connection in self.clients.connections.keys().copied().collect::<Vec<_>>() {
            self.close(connection);
        }
    }

    /// A client reads what it was sent last.
    pub fn read(&mut self, request: RequestId) {
        if self.clients.unread.remove(&request) {
            self.turn([Input::Desk(desk::Event::Drained { request })]);
        }
    }

    /// A client that listens does not read what it is told.
    pub fn fall_behind(&mut self, request: RequestId) {
        self.turn([Input::Desk(desk::Event::TooSlow { request })]);
    }

    // ---- what is to be seen ----

    pub fn replies(&self, request: RequestId) -> &[Heard] {
        &self.clients.told[&request].0
    }

    /// The jobs with which was done what the request has asked for, and the others.
    pub fn altered(&self, request: RequestId) -> (Vec<u64>, Vec<Other>) {
        match self.replies(request) {
            [Heard::Other(reply)] => match &**reply {
                Reply::Altered(Altered { ids, others }) => (ids.clone(), others.clone()),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// The ids of both.
    pub fn altered_ids(&self, request: RequestId) -> (Vec<u64>, Vec<u64>) {
        let (ids, others) = self.altered(request);
        (ids, others.iter().map(|other| other.id).collect())
    }

    /// The callbacks that are as somebody wanted, and what is said of the others.
    pub fn altered_callbacks(&self, request: RequestId) -> (Vec<u64>, Vec<String>) {
        match self.replies(request) {
            [Heard::Other(reply)] => match &**reply {
                Reply::CallbacksAltered(CallbacksAltered { ids, others }) => {
                    (ids.clone(), others.iter().map(|other| other.reason.clone()).collect())
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    pub fn is_answered(&self, request: RequestId) -> bool {
        self.clients.told[&request].1
    }

    /// Requests that are not over.
    pub fn open_requests(&self) -> Vec<RequestId> {
        self.clients.told.iter().filter(|(_, (_, over))| !over).map(|(&request, _)| request).collect()
    }

    /// Whether the request is told what happens, which has no end.
    pub fn is_listening(&self, request: RequestId) -> bool {
        self.replies(request).iter().any(|heard| matches!(heard, Heard::Happening(_)))
    }

    // ---- what they are told ----

    pub(super) fn serve_clients(&mut self, effect: desk::Effect, inbox: &mut Inbox) {
        match effect {
            desk::Effect::Reply { request, reply, last } => self.hear_reply(request, reply, last),
            desk::Effect::Refuse { request, refusal } => self.hear(request, Heard::Refused(refusal), true),
            desk::Effect::Tell { request, happening } => {
                self.hear(request, Heard::Happening(Box::new((*happening).clone())), false);
            }
            desk::Effect::ReplyStarted { request, id, attempt } => {
                self.hear(request, Heard::Started { id, attempt }, false);
            }
            desk::Effect::ReplyCondition { request, condition } => {
                self.hear_reply(request, Reply::Condition(condition), true);
            }
            desk::Effect::ReplyOutput { request, id, attempt, named, log: _, written: _ } => {
                if self.outputs_are_missing {
                    let reason = "too many open files".to_owned();
                    let missing = desk::Event::OutputMissing { request, id, attempt, named, reason };
                    inbox.push_back(Input::Desk(missing));
                } else {
                    self.hear(request, Heard::Output { id, attempt }, true);
                }
            }
            desk::Effect::ReplyInput { request, id, attempt, input: _ } => {
                if self.outputs_are_missing {
                    let reason = "reads no more".to_owned();
                    inbox.push_back(Input::Desk(desk::Event::InputMissing { request, id, reason }));
                } else {
                    self.hear(request, Heard::Input { id, attempt }, true);
                }
            }
            desk::Effect::ReplySpooled { request, token } => {
                if self.engine().durable().is_full() {
                    let reason = "no space left on device".to_owned();
                    inbox.push_back(Input::Desk(desk::Event::SpoolFailed { request, token, reason }));
                } else {
                    assert!(
                        self.clients.spooled.insert(token.clone()),
                        "the token {token} is given out twice"
                    );
                    self.hear(request, Heard::Spooled { token }, true);
                }
            }
            desk::Effect::AwaitDrained { request } => _ = self.clients.unread.insert(request),
            desk::Effect::RemoveSpooled { token } => self.remove_spooled(&token),

            desk::Effect::Ask(question) => self.engine_mut().ask(question),
            desk::Effect::Change(change) => self.engine_mut().change(change),
            desk::Effect::Chore(chore) => self.engine_mut().chore(chore),
            desk::Effect::Prune => {
                let wall_us = self.now.wall_us;
                self.engine_mut().prune(wall_us);
            }
            desk::Effect::Measure { .. } => {
                inbox.push_back(Input::Desk(desk::Event::Measured { ended: 0, running: 0 }));
            }
            desk::Effect::Configure(config) => inbox.push_back(self.configure(*config)),
            desk::Effect::Ending { .. } => {}
            desk::Effect::Command(_) => unreachable!("commands are for the core"),
        }
    }

    pub(super) fn remove_spooled(&mut self, token: &str) {
        assert!(self.clients.spooled.remove(token), "the standard input {token} is removed and is not there");
    }

    fn hear_reply(&mut self, request: RequestId, reply: Reply, last: bool) {
        let heard = match reply {
            Reply::Progress(Progress { event, id, record, existing, state, progress, .. }) => match event {
                ProgressEvent::Accepted => {
                    let existing = if existing == Some(true) { vec![0] } else { Vec::new() };
                    Heard::Accepted { ids: vec![id], existing }
                }
                ProgressEvent::Skipped => {
                    Heard::Skipped { id: JobId(id), state: state.expect("that is what is told") }
                }
                ProgressEvent::Started => panic!("a start is told with its output"),
                ProgressEvent::Progress => {
                    let progress = progress.expect("that is what is told");
                    Heard::Progress { id: JobId(id), progress }
                }
                ProgressEvent::Waiting => panic!("nobody asks for obstacles"),
                ProgressEvent::Ended => Heard::Ended(record.expect("an end comes with its record")),
            },
            Reply::Submitted(Submitted { ids, existing, skipped: _, results, obstacles: _ }) => {
                let briefs = results.len();
                if !ids.is_empty() || briefs == 0 {
                    self.hear(request, Heard::Accepted { ids, existing }, last && briefs == 0);
                }
                for (index, brief) in results.into_iter().enumerate() {
                    self.hear(request, Heard::Brief(Box::new(brief)), last && index + 1 == briefs);
                }
                return;
            }
            Reply::Canceled(canceled) => Heard::Canceled(canceled.jobs),
            Reply::Empty(_) => Heard::Done,
            Reply::Happening(happening) => Heard::Happening(Box::new((*happening).clone())),
            other => Heard::Other(Box::new(other)),
        };
        self.hear(request, heard, last);
    }

    /// A listener that is back has missed nothing of what anybody else was told, or is told that it has.
    fn hear_cursor(&mut self, request: RequestId, happening: &Happening) {
        let Some(cursor) = &happening.cursor else { return };
        self.clients.cursors.push(cursor.clone());
        let split = |cursor: &str| {
            let (start, number) = cursor.split_once('-').expect("a cursor has two parts");
            (start.to_owned(), number.parse::<u64>().expect("it is a number"))
        };
        let (start, latest) = split(cursor);
        if happening.event != HappeningKind::Listening {
            self.clients.numbers.insert(latest);
            return;
        }

        let Some(since) = self.clients.back.remove(&request) else { return };
        let told = self.happenings(request);
        if told.first().is_some_and(|first| first.event == HappeningKind::Gap) {
            return;
        }
        let (before, since) = split(&since);
        assert_eq!(before, start, "a gap is told to those of an earlier daemon");
        let told: BTreeSet<u64> = told.iter().filter_map(|one| Some(split(one.cursor.as_ref()?).1)).collect();
        for number in self.clients.numbers.range(since + 1..=latest) {
            assert!(told.contains(number), "{request} has missed {number}, since {since}: {told:?}");
        }
    }

    fn hear(&mut self, request: RequestId, heard: Heard, last: bool) {
        match &heard {
            Heard::Accepted { ids, existing } => self.hear_acceptance(ids, existing),
            Heard::Ended(record) => self.hear_end(JobId(record.id), record.state, Some(record.reruns)),
            Heard::Canceled(records) => {
                let told = |record: &Record| (JobId(record.id), record.state, Some(record.reruns));
                let told: Vec<_> = records.iter().map(told).collect();
                told.into_iter().for_each(|(id, state, round)| self.hear_end(id, state, round));
            }
            Heard::Brief(brief) => self.hear_end(JobId(brief.id), brief.state, None),
            Heard::Skipped { id, .. } => assert!(self.is_synced(*id), "job {id} is there, and is not kept"),
            Heard::Happening(happening) => {
                let is_synced = happening.id.is_none_or(|id| self.is_synced(JobId(id)));
                assert!(is_synced, "{happening:?} is told of a job that a power cut may take");
                self.hear_cursor(request, &(**happening).clone());
            }
            Heard::Done => self.known_pauses.note_reply(request),
            Heard::Started { .. }
            | Heard::Progress { .. }
            | Heard::Refused(_)
            | Heard::Spooled { .. }
            | Heard::Output { .. }
            | Heard::Input { .. }
            | Heard::Other(_) => {}
        }

        let told = self.clients.told.get_mut(&request);
        let (replies, over) =
            told.unwrap_or_else(|| panic!("{heard:?} for {request}, whose client has gone"));
        assert!(!*over, "{heard:?} after the last reply to {request}");
        if let Heard::Started { id, .. } = heard {
            let has_ended = |earlier: &Heard| matches!(earlier, Heard::Ended(record) if record.id == id.0);
            assert!(!replies.iter().any(has_ended), "{request} is told that job {id} starts after its end");
            assert!(!replies.contains(&heard), "{request} is told twice that {heard:?}");
        }
        replies.push(heard);
        *over = last;

        if last {
            self.clients.connections.values_mut().for_each(|requests| _ = requests.remove(&request));
            self.clients.unread.remove(&request);
        }
    }

    fn hear_acceptance(&mut self, ids: &[u64], existing: &[usize]) {
        for (place, id) in ids.iter().copied().map(JobId).enumerate() {
            assert!(self.is_synced(id), "job {id} is accepted before it is synced");
            if !existing.contains(&place) && !existing.iter().any(|&other| ids[other] == id.0) {
                let before = self.clients.last_before;
                assert!(before.is_none_or(|last| last < id), "the id {id} is given out after {before:?}");
                assert!(self.clients.given.insert(id), "the id {id} is given out twice");
            }
            self.clients.accepted.insert(id);
        }
    }

    /// Whether no power cut takes the job. A volatile one may be forgotten when somebody is told of its end.
    fn is_synced(&self, id: JobId) -> bool {
        self.delayed().synced().exists(id) || !self.disk().has(id)
    }

    /// `round`: how often the job had been run again by then, where that is told.
    fn hear_end(&mut self, id: JobId, state: State, round: Option<u32>) {
        assert!(state.is_terminal(), "job {id} has ended, and is {state:?}");
        // A volatile job may be forgotten by the time that somebody is told of it. Who is told of an end may
        // be told late: the job may have been run again since.
        for memory in [Some(self.delayed().synced()), self.memory_of(id)].into_iter().flatten() {
            let Some(place) = memory.place_of(id) else { continue };
            let rounds = memory.reruns_of(id);
            let is_last = round.map_or(rounds == 0, |round| round == rounds);
            assert!(
                round.is_none_or(|round| round <= rounds),
                "an end of job {id} is told before it is synced"
            );
            assert!(
                !is_last || place.state() == state,
                "the end of job {id} is told as it is not kept: {state:?}"
            );
        }
        // An end in few words does not say of which round it is.
        let Some(round) = round.or_else(|| (self.reruns_of(id) == 0).then_some(0)) else { return };
        let before = self.clients.ended.insert(id, (round, state));
        let is_same = |before: (u32, State)| before.0 != round || before.1 == state;
        assert!(before.is_none_or(is_same), "job {id} ends twice: {before:?}, {state:?}");
    }

    /// How often a job has been run again, as is kept.
    pub fn reruns_of(&self, id: JobId) -> u32 {
        self.memory_of(id).map_or(0, |memory| memory.reruns_of(id))
    }
}

/// `count` new jobs from `first` on are accepted.
pub fn accepted(first: u64, count: u64) -> Heard {
    Heard::Accepted { ids: (first..first + count).collect(), existing: Vec::new() }
}

/// A refusal, where that was the reply.
pub fn refused(heard: Option<&Heard>) -> &Refusal {
    match heard {
        Some(Heard::Refused(refusal)) => refusal,
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

/// What a job waits for, as `Why` says it.
pub fn why(world: &mut World, id: u64) -> (ExplanationKind, String) {
    let request = world.ask(Request::Why(Why { ids: vec![id] }));
    world.settle();
    match world.replies(request).last() {
        Some(Heard::Other(reply)) => match &**reply {
            Reply::Explained(Explained { jobs }) => (jobs[0].kind, jobs[0].reason.clone()),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}
