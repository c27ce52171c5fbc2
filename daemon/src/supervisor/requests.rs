//! What clients ask for, passed to whom it concerns, and the replies on their way back.

use std::fs::File;
use std::os::fd::OwnedFd;

use mio::Token;
use nix::libc::SIGRTMAX;
use pool_proto::interface::{
    self, Empty, Got, Listed, OnDisconnect, OutputOpened, Pong, PoolsListed, Progress, ProgressEvent,
    ShutdownMode, ShuttingDown, Spooled, Submitted, TIE_TO_CLIENT,
};
use pool_proto::{Record, Refusal};

use super::Supervisor;
use super::admission::complete;
use crate::job::{Claim, JobId, RequestId, Unit};
use crate::output;
use crate::scheduler::store_op::{ListQuery, StoreAnswer, StoreOp};
use crate::scheduler::{Event, Reply, Watch};
use crate::server::Request;

/// Records in one reply of a listing.
const PAGE: u32 = 500;

/// Without `more`, a listing is one reply; this is its greatest length.
const SINGLE_PAGE: u32 = 1000;

/// A question to the store that a client's call waits for.
#[derive(Debug)]
pub enum Query {
    Get,
    Output,
    Absent,
    Events,
    /// `left`: how many records the client still wants.
    List {
        query: ListQuery,
        left: u32,
    },
}

impl Supervisor {
    pub(super) fn on_request(&mut self, connection: Token, call: RequestId, request: Request) {
        match request {
            Request::Ping => self.on_ping(call),
            Request::Submit(submit) => self.on_submit(connection, call, *submit),
            Request::SubmitMany(many) => self.on_submit_many(call, *many),
            Request::Spool => self.on_spool(connection, call),
            Request::Wait(wait) => {
                let any = wait.any.unwrap_or(false);
                let watch = match (self.server.wants_more(call), wait.output, wait.progress) {
                    (true, Some(true), _) => Watch::Output,
                    (true, _, Some(true)) => Watch::Progress,
                    (_, _, _) => Watch::Nothing,
                };
                let attached = wait.on_disconnect == Some(OnDisconnect::Cancel);
                self.handle(Event::Wait { call, ids: job_ids(wait.ids), any, watch, attached });
            }
            Request::Get(get) => self.ask(call, Query::Get, StoreOp::Get { call, ids: vec![JobId(get.id)] }),
            Request::Output(output) => {
                self.ask(call, Query::Output, StoreOp::Get { call, ids: vec![JobId(output.id)] })
            }
            Request::List(list) => self.on_list(call, list),
            Request::Cancel(cancel) => self.handle(Event::Cancel { call, ids: job_ids(cancel.ids) }),
            Request::Signal(signal) => self.on_signal_request(call, &signal),
            Request::Release(release) => self.handle(Event::Release { call, ids: job_ids(release.ids) }),
            Request::Pools => {
                let pools = self.scheduler.pools(|pool| self.containment.describe(pool));
                self.server.reply(call, &PoolsListed { pools }, Vec::new(), true);
            }
            Request::Status => self.on_status(call),
            Request::Events(events) => self.on_events(call, events),
            Request::Absent(absent) => self.on_absent(call, absent),
            Request::AddPool(added) => self.on_add_pool(call, *added),
            Request::RemovePool(remove) => self.on_remove_pool(call, remove),
            Request::Backup => self.on_backup(connection, call),
            Request::EndBackup => self.on_end_backup(connection, call),
            Request::Shutdown(shutdown) => self.on_shutdown(call, shutdown.mode),
        }
    }

    fn on_ping(&mut self, call: RequestId) {
        let pong = Pong {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.guardian_pid,
            state_dir: self.place.state_dir.to_string_lossy().into_owned(),
        };
        self.server.reply(call, &pong, Vec::new(), true);
    }

    fn on_submit(&mut self, connection: Token, call: RequestId, submit: interface::Submit) {
        if let Err(refusal) = self.check_output_room() {
            return self.server.refuse(call, &refusal);
        }
        let interface::Submit { mut job, on_disconnect } = submit;
        let attached = self.server.wants_more(call).then(|| on_disconnect.unwrap_or_default());
        if attached == Some(OnDisconnect::Cancel) {
            if job.tie.as_deref().is_some_and(|tie| tie != TIE_TO_CLIENT) {
                let reason =
                    "a job has one tie, and on_disconnect \"cancel\" is that to its client: leave one of them out".to_owned();
                return self
                    .server
                    .refuse(call, &Refusal::InvalidJob { index: 0, field: "tie".to_owned(), reason });
            }
            job.tie.get_or_insert_with(|| TIE_TO_CLIENT.to_owned());
        }
        let is_tied = job.tie.as_deref() == Some(TIE_TO_CLIENT);
        if is_tied && attached.is_none() {
            let reason =
                "only a client that waits for the job's end can be tied to: call Submit with \"more\""
                    .to_owned();
            return self
                .server
                .refuse(call, &Refusal::InvalidJob { index: 0, field: "tie".to_owned(), reason });
        }
        let attached =
            attached.map(|on_disconnect| if is_tied { OnDisconnect::Cancel } else { on_disconnect });
        let token = job.stdin.clone();
        let admitted = self.admission.admit(job, 0, &self.config, |name| self.scheduler.open_pool(name));
        let admitted =
            admitted.and_then(|work| self.claim_stdin(connection, call, 0, token.as_deref()).map(|()| work));
        match admitted {
            Ok(work) => self.handle(Event::Submit { call, jobs: vec![work], attached }),
            Err(refusal) => self.server.refuse(call, &refusal),
        }
        self.settle_unless_taken(call);
    }

    fn on_submit_many(&mut self, call: RequestId, many: interface::SubmitMany) {
        if let Err(refusal) = self.check_output_room() {
            return self.server.refuse(call, &refusal);
        }
        if many.jobs.is_empty() {
            return self.server.reply(call, &Submitted::default(), Vec::new(), true);
        }
        let is_batch = self.server.wants_more(call);
        let defaults = many.defaults.unwrap_or_default();
        let mut jobs = Vec::with_capacity(many.jobs.len());
        for (index, job) in many.jobs.into_iter().enumerate() {
            let job = complete(job, &defaults);
            let alone = [
                (
                    "stdin",
                    job.stdin.is_some(),
                    "several jobs cannot share one standard input: submit such a job by itself",
                ),
                (
                    "tie",
                    job.tie.as_deref() == Some(TIE_TO_CLIENT) && !is_batch,
                    "only a client that waits can be tied to: call SubmitMany with \"more\", or submit such a job by itself",
                ),
            ];
            if let Some((field, _, reason)) = alone.into_iter().find(|&(_, is_set, _)| is_set) {
                let refusal =
                    Refusal::InvalidJob { index, field: field.to_owned(), reason: reason.to_owned() };
                return self.server.refuse(call, &refusal);
            }
            match self.admission.admit(job, index, &self.config, |name| self.scheduler.open_pool(name)) {
                Ok(work) => jobs.push(work),
                Err(refusal) => return self.server.refuse(call, &refusal),
            }
        }
        if let Some(index) = jobs.iter().position(|work| work.volatile != jobs[0].volatile) {
            let reason =
                "the jobs of one message are all kept on disk, or none is: submit the others by themselves"
                    .to_owned();
            return self
                .server
                .refuse(call, &Refusal::InvalidJob { index, field: "durability".to_owned(), reason });
        }
        self.bulk.insert(call);
        self.handle(if is_batch {
            Event::SubmitBatch { call, jobs }
        } else {
            Event::Submit { call, jobs, attached: None }
        });
    }

    fn claim_stdin(
        &mut self,
        connection: Token,
        call: RequestId,
        index: usize,
        token: Option<&str>,
    ) -> Result<(), Refusal> {
        match token {
            Some(token) if !self.spool.claim(connection, call, token) => {
                let reason = format!("{token:?} is no token that Spool gave on this connection");
                Err(Refusal::InvalidJob { index, field: "stdin".to_owned(), reason })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A submission that the scheduler refused at once leaves no file behind.
    fn settle_unless_taken(&mut self, call: RequestId) {
        if !self.scheduler.is_serving() {
            self.spool.settle(call, false);
        }
    }

    fn on_spool(&mut self, connection: Token, call: RequestId) {
        match self.spool.open(connection) {
            Ok((token, file)) => {
                self.server.reply(call, &Spooled { token, descriptors: 1 }, vec![file.into()], true)
            }
            Err(error) => {
                let reason =
                    format!("no file for the standard input in {}: {error}", self.place.state_dir.display());
                self.server.refuse(call, &Refusal::StoreFailed { reason });
            }
        }
    }

    fn on_signal_request(&mut self, call: RequestId, signal: &interface::Signal) {
        if signal.signal < 1 || signal.signal > SIGRTMAX() {
            let parameter = format!("signal: {} is none, see signal(7)", signal.signal);
            return self.server.refuse(call, &Refusal::InvalidParameter { parameter });
        }
        self.handle(Event::Signal { call, id: JobId(signal.id), signal: signal.signal });
    }

    fn on_shutdown(&mut self, call: RequestId, mode: ShutdownMode) {
        self.server.reply(call, &ShuttingDown { pid: self.guardian_pid }, Vec::new(), true);
        tracing::info!(?mode, "told to end by a client");
        match mode {
            ShutdownMode::Drain => {
                self.service_manager.draining();
                self.handle(Event::Drain);
            }
            ShutdownMode::Now => {
                self.service_manager.stopping();
                self.handle(Event::Stop);
            }
        }
    }

    fn on_list(&mut self, call: RequestId, list: interface::List) {
        if list.limit == Some(0) {
            let parameter = "limit: at least 1, or none".to_owned();
            return self.server.refuse(call, &Refusal::InvalidParameter { parameter });
        }
        let wanted = list.limit.unwrap_or(if self.server.wants_more(call) { u32::MAX } else { SINGLE_PAGE });
        let page = if self.server.wants_more(call) { PAGE } else { SINGLE_PAGE };
        let query = ListQuery {
            states: list.states.unwrap_or_default(),
            pool: list.pool,
            after: list.after.map(|after| JobId(after.min(i64::MAX as u64))),
            limit: wanted.min(page),
        };
        self.ask(call, Query::List { query: query.clone(), left: wanted }, StoreOp::List { call, query });
    }

    fn ask(&mut self, call: RequestId, query: Query, op: StoreOp) {
        self.queries.insert(call, query);
        self.ops.extend(self.volatile.take(op));
    }

    /// The store's answer to [`ask`](Self::ask).
    pub(super) fn on_query_answer(&mut self, call: RequestId, answer: StoreAnswer) {
        let query = self.queries.remove(&call);
        match (query, answer) {
            (Some(Query::Get), StoreAnswer::Got { mut records, missing, .. }) => match records.pop() {
                Some(mut record) => {
                    record.progress = self.scheduler.progress_of(JobId(record.id));
                    self.server.reply(call, &Got { record: Box::new(record) }, Vec::new(), true);
                }
                None => self.refuse_missing(call, &missing),
            },
            (Some(Query::Output), StoreAnswer::Got { records, missing, .. }) => match records.first() {
                Some(record) => self.reply_output(call, record),
                None => self.refuse_missing(call, &missing),
            },
            (Some(Query::Events), StoreAnswer::Got { .. }) => self.begin_events(call),
            (Some(Query::Absent), StoreAnswer::Got { missing, .. }) => self.reply_absent(call, &missing),
            (Some(Query::List { query, left }), StoreAnswer::Listed { mut records, next, .. }) => {
                let next = self.volatile.join(&query, &mut records, next);
                self.reply_page(call, query, left, records, next);
            }
            (_, _) => tracing::error!(%call, "the store answered what was not asked"),
        }
    }

    fn refuse_missing(&mut self, call: RequestId, missing: &[JobId]) {
        let id = missing.first().map_or(0, |id| id.0);
        self.server.refuse(call, &Refusal::NoSuchJob { id });
    }

    fn reply_page(
        &mut self,
        call: RequestId,
        query: ListQuery,
        left: u32,
        records: Vec<Record>,
        next: Option<JobId>,
    ) {
        let left = left.saturating_sub(u32::try_from(records.len()).unwrap_or(u32::MAX));
        let goes_on = next.is_some() && left > 0 && self.server.wants_more(call);
        let page = Listed { jobs: records, next: next.map(|id| id.0) };
        self.server.reply(call, &page, Vec::new(), !goes_on);
        if goes_on {
            let query = ListQuery { after: next, limit: left.min(PAGE), ..query };
            self.queries.insert(call, Query::List { query, left });
            // The next page is read when the client has read this one.
            self.server.notify_drained(call);
        }
    }

    /// The client has read the last page.
    pub(super) fn continue_listing(&mut self, call: RequestId) {
        if let Some(Query::List { query, .. }) = self.queries.get(&call) {
            self.ops.push(StoreOp::List { call, query: query.clone() });
        }
    }

    fn reply_output(&mut self, call: RequestId, record: &Record) {
        let id = JobId(record.id);
        if record.attempt == 0 {
            let reason = format!("it is {} and has not started", record.state.as_str());
            return self.server.refuse(call, &Refusal::NoOutput { id: id.0, reason });
        }
        let opened = match record.method {
            Some(_) => self.open_log(id, record.attempt),
            None => self.open_output(id, record.attempt),
        };
        match opened {
            Ok(files) => {
                let opened = OutputOpened { attempt: record.attempt, descriptors: 2 };
                self.server.reply(call, &opened, files, true);
            }
            // The next attempt has begun since the store was asked.
            Err(_) if self.scheduler.attempt_of(id).is_some_and(|attempt| attempt > record.attempt) => {
                self.ask(call, Query::Output, StoreOp::Get { call, ids: vec![id] });
            }
            Err(error) => {
                let reason = format!("its files cannot be opened: {error}");
                self.server.refuse(call, &Refusal::NoOutput { id: id.0, reason });
            }
        }
    }

    /// Of a call there is what its program has written to standard error, if anything.
    fn open_log(&self, id: JobId, attempt: u32) -> std::io::Result<Vec<OwnedFd>> {
        let (_, stderr) = output::paths(&self.place.state_dir, Claim { unit: Unit::Job(id), attempt });
        let nothing = || File::open("/dev/null");
        let log = match output::open(&stderr) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => nothing(),
            other => other,
        };
        Ok(vec![nothing()?.into(), log?.into()])
    }

    fn open_output(&self, id: JobId, attempt: u32) -> std::io::Result<Vec<OwnedFd>> {
        let (stdout, stderr) = output::paths(&self.place.state_dir, Claim { unit: Unit::Job(id), attempt });
        Ok(vec![output::open(&stdout)?.into(), output::open(&stderr)?.into()])
    }

    /// What the scheduler has to tell a client.
    pub(super) fn reply(&mut self, call: RequestId, reply: Reply, last: bool) {
        let progress = |event, id: JobId| Progress {
            event,
            id: id.0,
            attempt: None,
            descriptors: None,
            record: None,
            existing: None,
            progress: None,
        };
        match reply {
            Reply::Accepted { first, count: 1, existing } if !self.bulk.remove(&call) => {
                let id = existing.first().map_or(first, |&(_, id)| id);
                let existing = Some(!existing.is_empty());
                let accepted = Progress { existing, ..progress(ProgressEvent::Accepted, id) };
                self.server.reply(call, &accepted, Vec::new(), last);
            }
            Reply::Accepted { first, count, existing } => {
                let mut ids: Vec<u64> = (first.0..).take(count).collect();
                existing.iter().for_each(|&(place, id)| ids[place] = id.0);
                let existing = existing.into_iter().map(|(place, _)| place).collect();
                self.server.reply(call, &Submitted { ids, existing, results: Vec::new() }, Vec::new(), last);
            }
            Reply::Started { id, attempt } => {
                // Where the files cannot be opened the client still learns of the start, and later of the end.
                let files = self.open_output(id, attempt).unwrap_or_else(|error| {
                    tracing::warn!(job = %id, attempt, %error, "cannot open the output for a client");
                    Vec::new()
                });
                let descriptors = u32::try_from(files.len()).ok();
                let started =
                    Progress { attempt: Some(attempt), descriptors, ..progress(ProgressEvent::Started, id) };
                self.server.reply(call, &started, files, last);
            }
            Reply::Progress { id, progress: of_call } => {
                let told = Progress { progress: Some(of_call), ..progress(ProgressEvent::Progress, id) };
                self.server.reply(call, &told, Vec::new(), last);
            }
            // They travel together, at the end of the turn.
            Reply::Brief(brief) => {
                let (briefs, is_last) = self.briefs.entry(call).or_default();
                briefs.push(*brief);
                *is_last |= last;
            }
            Reply::Ended(record) => {
                let id = JobId(record.id);
                let ended = Progress {
                    attempt: Some(record.attempt),
                    record: Some(record),
                    ..progress(ProgressEvent::Ended, id)
                };
                self.server.reply(call, &ended, Vec::new(), last);
            }
            Reply::Canceled(jobs) => self.server.reply(call, &interface::Canceled { jobs }, Vec::new(), last),
            Reply::Done => self.server.reply(call, &Empty {}, Vec::new(), last),
            Reply::Refused(refusal) => {
                self.bulk.remove(&call);
                self.server.refuse(call, &refusal);
            }
        }
    }
}

fn job_ids(ids: Vec<u64>) -> Vec<JobId> {
    ids.into_iter().map(JobId).collect()
}
