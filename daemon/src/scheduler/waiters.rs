//! The calls that wait for the ends of jobs, and which jobs somebody waits for.

use pool_proto::Record;
use pool_proto::interface::{Brief, OnDisconnect};

use super::event::Reply;
use crate::job::{IdMap, IdSet, JobId, RequestId};

/// What a waiting call is told, and when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Told of each start and of the end of its one job.
    Attached(OnDisconnect),
    /// Told of each end, and what it watches; over with the last end, with `any` with the first.
    /// With `attached`, jobs that are tied to their client end with it.
    Wait { any: bool, watch: Watch, attached: bool },
    /// Told of each end in few words; over with the last.
    Batch,
    /// Told of all ends at once.
    Cancel,
    /// Waits for no end, only to hear from the store why a job cannot be sent a signal.
    Signal,
}

/// What a waiting call is told of besides ends: each has what those before it have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watch {
    Nothing,
    /// How far calls have come.
    Progress,
    /// Each start, with the attempt's output.
    Output,
}

/// An end, told in full or in few words.
#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    Record(&'a Record),
    Brief(&'a Brief),
}

#[derive(Debug)]
struct Waiter {
    kind: Kind,
    remaining: IdSet<JobId>,
    /// Records kept for one reply at the end.
    collected: Vec<Record>,
}

/// All waiting calls.
#[derive(Debug, Default)]
pub struct Waiters {
    calls: IdMap<RequestId, Waiter>,
    jobs: IdMap<JobId, Vec<RequestId>>,
}

impl Kind {
    pub fn watch(self) -> Watch {
        match self {
            Self::Attached(_) => Watch::Output,
            Self::Wait { watch, .. } => watch,
            Self::Batch | Self::Cancel | Self::Signal => Watch::Nothing,
        }
    }
}

impl Waiters {
    pub fn add(&mut self, call: RequestId, kind: Kind, ids: &[JobId]) {
        let remaining: IdSet<JobId> = ids.iter().copied().collect();
        for &id in &remaining {
            self.jobs.entry(id).or_default().push(call);
        }
        self.calls.insert(call, Waiter { kind, remaining, collected: Vec::new() });
    }

    /// Whether anybody waits for the job who wants its whole record.
    pub fn wants_record(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|calls| calls.iter().any(|call| self.calls[call].kind != Kind::Batch))
    }

    /// Whether anybody waits for the job who wants its end in few words.
    pub fn wants_brief(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|calls| calls.iter().any(|call| self.calls[call].kind == Kind::Batch))
    }

    pub fn kind(&self, call: RequestId) -> Option<Kind> {
        self.calls.get(&call).map(|waiter| waiter.kind)
    }

    /// Whether the call still waits for the job.
    pub fn waits_for(&self, call: RequestId, id: JobId) -> bool {
        self.calls.get(&call).is_some_and(|waiter| waiter.remaining.contains(&id))
    }

    /// The calls that wait for the job's end.
    pub fn calls_for(&self, id: JobId) -> Vec<RequestId> {
        self.jobs.get(&id).cloned().unwrap_or_default()
    }

    /// The calls that watch so much of the job.
    pub fn watchers(&self, id: JobId, watch: Watch) -> Vec<RequestId> {
        let watches = |call: &&RequestId| self.calls[*call].kind.watch() >= watch;
        self.jobs.get(&id).into_iter().flatten().filter(watches).copied().collect()
    }

    /// Forgets a call; returns its kind and the jobs it still waited for, in order.
    pub fn remove(&mut self, call: RequestId) -> Option<(Kind, Vec<JobId>)> {
        let waiter = self.calls.remove(&call)?;
        for id in &waiter.remaining {
            self.forget(*id, call);
        }
        let mut remaining: Vec<JobId> = waiter.remaining.into_iter().collect();
        remaining.sort_unstable();
        Some((waiter.kind, remaining))
    }

    /// All calls are over.
    pub fn drain(&mut self) -> Vec<RequestId> {
        self.jobs.clear();
        let mut calls: Vec<RequestId> = self.calls.drain().map(|(call, _)| call).collect();
        calls.sort_unstable();
        calls
    }

    /// A job has ended: the reply to one call, if it still waits for it and is to be told now; true when it is the last.
    pub fn ended_for(
        &mut self,
        call: RequestId,
        id: JobId,
        end: End<'_>,
    ) -> Option<(RequestId, Reply, bool)> {
        let waiter = self.calls.get_mut(&call)?;
        if !waiter.remaining.remove(&id) {
            return None;
        }
        let done = waiter.remaining.is_empty();
        let in_full = |end: End<'_>| match end {
            End::Record(record) => record.clone(),
            End::Brief(_) => unreachable!("whoever wants the record has it read"),
        };
        let (reply, last) = match waiter.kind {
            Kind::Attached(_) => (Some(Reply::Ended(Box::new(in_full(end)))), true),
            Kind::Wait { any, .. } => (Some(Reply::Ended(Box::new(in_full(end)))), any || done),
            Kind::Batch => (Some(Reply::Brief(Box::new(end.in_brief()))), done),
            Kind::Cancel => {
                waiter.collected.push(in_full(end));
                let all = done.then(|| {
                    let mut records = std::mem::take(&mut waiter.collected);
                    records.sort_unstable_by_key(|record| record.id);
                    Reply::Canceled(records)
                });
                (all, done)
            }
            Kind::Signal => (None, false),
        };
        self.forget(id, call);
        if last {
            self.remove(call);
        }
        reply.map(|reply| (call, reply, last))
    }

    fn forget(&mut self, id: JobId, call: RequestId) {
        if let Some(calls) = self.jobs.get_mut(&id) {
            calls.retain(|&other| other != call);
            if calls.is_empty() {
                self.jobs.remove(&id);
            }
        }
    }
}

impl End<'_> {
    fn in_brief(self) -> Brief {
        match self {
            Self::Brief(brief) => brief.clone(),
            Self::Record(record) => Brief {
                id: record.id,
                state: record.state,
                value: record.value.clone(),
                error: record.error.clone(),
                exit_code: record.exit_code,
                signal: record.signal,
                reason: record.reason.clone(),
            },
        }
    }
}
