//! Requests to poold beside its events, on threads: the screen never waits for an answer. Readings are one
//! thread's, over one connection. What is done to jobs and pools has a thread each time, since a cancel waits
//! for the job's end.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use anyhow::Context;
use pool_proto::methods::{
    Cancel, Get, Hold, List, Output, Pools, Release, Retry, SetFrozen, SetPaused, Status, Why,
};
use pool_proto::{Client, ClientError, Record, State};

use super::ended;
use super::queue::{PAGE, QUEUED};
use super::wish::{Act, Reading, Wish};
use crate::link::connect::Link;
use crate::tell::outcome;

/// What has come of an errand.
#[derive(Debug)]
pub enum Brought {
    /// For the model.
    Reading(Reading),
    /// The output of the latest attempt of a job.
    Output { id: u64, attempt: u32, files: [File; 2] },
}

/// See the module's description.
pub struct Errands {
    link: Link,
    to_reader: Sender<Wish>,
    back: Back,
    brought: Receiver<Brought>,
    wake: UnixStream,
}

/// The way back from the threads.
struct Back {
    sender: Sender<Brought>,
    wake: UnixStream,
}

impl Back {
    fn bring(&self, brought: Brought) {
        // Nobody is there any more when poolctl ends.
        if self.sender.send(brought).is_ok() {
            // One byte that is unread is as good as many.
            let _ = (&self.wake).write(&[0]);
        }
    }

    fn read(&self, reading: Reading) {
        self.bring(Brought::Reading(reading));
    }

    fn another(&self) -> std::io::Result<Self> {
        Ok(Self { sender: self.sender.clone(), wake: self.wake.try_clone()? })
    }
}

impl Errands {
    /// Starts the thread that reads.
    ///
    /// # Errors
    /// Those of socketpair(2) and of a new thread.
    pub fn start(link: &Link, client: Client) -> anyhow::Result<Self> {
        const WHAT: &str = "cannot start a thread for readings";
        let (wake, far) = UnixStream::pair().context(WHAT)?;
        wake.set_nonblocking(true).context(WHAT)?;
        far.set_nonblocking(true).context(WHAT)?;
        let (sender, brought) = mpsc::channel();
        let back = Back { sender, wake: far };
        let (to_reader, wishes) = mpsc::channel();
        let mut reader =
            Reader { link: link.clone(), client: Some(client), back: back.another().context(WHAT)? };
        let run = move || wishes.iter().for_each(|wish: Wish| reader.grant(&wish));
        thread::Builder::new().name("readings".to_owned()).spawn(run).context(WHAT)?;
        Ok(Self { link: link.clone(), to_reader, back, brought, wake })
    }

    /// Has something read.
    pub fn read(&self, wish: Wish) {
        // The reader ends with poolctl.
        let _ = self.to_reader.send(wish);
    }

    /// Has something done.
    ///
    /// # Errors
    /// Those of a new thread.
    pub fn act(&self, act: Act) -> anyhow::Result<()> {
        let (link, back) = (self.link.clone(), self.back.another()?);
        let run = move || {
            let done =
                link.open().map_err(ClientError::from).and_then(|mut client| perform(&mut client, &act));
            back.read(match done {
                Ok(Ok(message)) => Reading::Done(act, message),
                Ok(Err(reason)) => Reading::Refused(reason),
                Err(error) => Reading::Refused(format!("{:#}", anyhow::Error::from(error))),
            });
        };
        thread::Builder::new().name("act".to_owned()).spawn(run).context("cannot start a thread")?;
        Ok(())
    }

    /// Becomes readable when something was brought.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// What was brought.
    pub fn take(&mut self) -> Vec<Brought> {
        let mut buffer = [0; 64];
        while (&self.wake).read(&mut buffer).is_ok_and(|count| count > 0) {}
        self.brought.try_iter().collect()
    }
}

/// The thread that reads.
struct Reader {
    link: Link,
    /// None after poold has gone.
    client: Option<Client>,
    back: Back,
}

impl Reader {
    fn grant(&mut self, wish: &Wish) {
        // The poold that is connected may be the one before: the next one is asked, too.
        for _ in 0..2 {
            let client = match self.client.take() {
                Some(client) => Ok(client),
                None => self.link.open(),
            };
            let Ok(mut client) = client else { break };
            match read(&mut client, wish, &self.back) {
                Err(ClientError::Disconnected(_)) => {}
                Err(error) => {
                    self.client = Some(client);
                    self.back.read(Reading::Failed);
                    return self.back.read(Reading::Refused(format!("{:#}", anyhow::Error::from(error))));
                }
                Ok(()) => return self.client = Some(client),
            }
        }
        self.back.read(Reading::Failed);
    }
}

fn read(client: &mut Client, wish: &Wish, back: &Back) -> Result<(), ClientError> {
    match wish {
        Wish::ReadAll { changes } => {
            let condition = Box::new(client.request(&Status {})?);
            let running = condition.pools.iter().flat_map(|pool| &pool.slots).filter_map(|slot| slot.job);
            let oldest = running.min();
            back.read(Reading::Condition { condition, changes: *changes });
            let states = Some(vec![State::Running, State::Stopping]);
            back.read(Reading::Running(client.request(&List { states, ..List::default() })?.jobs));
            back.read(Reading::Ended(latest_ended(client, oldest)?));
        }
        Wish::ReadPools { changes } => {
            let pools = client.request(&Pools {})?.pools;
            back.read(Reading::Pools { pools, changes: *changes });
        }
        Wish::ReadQueue { after } => {
            let (mut jobs, mut next) = (Vec::new(), Some(*after));
            // A page may be empty although there is another one: it was long enough to look at.
            while let Some(after) = next.filter(|_| jobs.len() < PAGE as usize) {
                let (states, limit) = (Some(QUEUED.to_vec()), Some(PAGE));
                let page = client.request(&List { states, after: Some(after), limit, ..List::default() })?;
                next = page.next;
                jobs.extend(page.jobs);
            }
            back.read(Reading::Queue { after: *after, jobs, next });
        }
        Wish::ReadJobs(ids) => {
            let mut records = Vec::new();
            for &id in ids {
                match client.request(&Get { id }) {
                    Ok(got) => records.push(*got.record),
                    // It was pruned or removed.
                    Err(ClientError::Refused(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            back.read(Reading::Jobs(records));
        }
        Wish::ReadStory(id) => back.read(story(client, *id)?),
        Wish::OpenLog(id) => back.bring(output(client, *id)?),
        // Not readings.
        Wish::CloseLog
        | Wish::Act(_)
        | Wish::Edit(_)
        | Wish::SetMouse(_)
        | Wish::Redraw
        | Wish::Suspend
        | Wish::Quit => {}
    }
    Ok(())
}

fn story(client: &mut Client, id: u64) -> Result<Reading, ClientError> {
    let record = match client.request(&Get { id }) {
        Ok(got) => got.record,
        Err(ClientError::Refused(refusal)) => {
            return Ok(Reading::NoStory { id, reason: refusal.to_string() });
        }
        Err(error) => return Err(error),
    };
    let why = match client.request(&Why { ids: vec![id] }) {
        _ if record.state.is_terminal() => None,
        Ok(told) => told.jobs.into_iter().next().map(|explanation| explanation.reason),
        Err(ClientError::Refused(_)) => None,
        Err(error) => return Err(error),
    };
    Ok(Reading::Story { record, why })
}

fn output(client: &mut Client, id: u64) -> Result<Brought, ClientError> {
    match client.request(&Output { id, attempt: None }) {
        Ok(opened) => {
            let files = [client.take_descriptor()?, client.take_descriptor()?].map(File::from);
            Ok(Brought::Output { id, attempt: opened.attempt, files })
        }
        Err(ClientError::Refused(refusal)) => {
            Ok(Brought::Reading(Reading::Opened { id, attempt: Err(refusal.to_string()) }))
        }
        Err(error) => Err(error),
    }
}

/// Those jobs among the last before the oldest one that runs, or else among the last of all.
fn latest_ended(client: &mut Client, oldest: Option<u64>) -> Result<Vec<Record>, ClientError> {
    let last = match oldest {
        Some(oldest) => oldest,
        None => last_id(client)?,
    };
    let states = State::ALL.into_iter().filter(|state| state.is_terminal()).collect();
    let after = Some(last.saturating_sub(ended::MOST as u64));
    Ok(client.request(&List { states: Some(states), after, ..List::default() })?.jobs)
}

/// The greatest id of all jobs, found by halving: one look costs poold one step in an index.
fn last_id(client: &mut Client) -> Result<u64, ClientError> {
    let (mut low, mut high) = (0, None);
    loop {
        let middle = high.map_or(low * 2 + 64, |high: u64| low + (high - low) / 2);
        let look = List { after: Some(middle), limit: Some(1), ..List::default() };
        match client.request(&look)?.jobs.first() {
            Some(job) => low = job.id,
            None => high = Some(middle),
        }
        if high.is_some_and(|high| high <= low + 1) {
            return Ok(high.unwrap_or(low).max(low));
        }
    }
}

/// Does something. The message says what was done, or why it was not.
fn perform(client: &mut Client, act: &Act) -> Result<Result<String, String>, ClientError> {
    Ok(match act {
        Act::Cancel(id) => {
            let canceled = client.request(&Cancel { ids: vec![*id], ..Cancel::default() })?;
            Ok(canceled.jobs.first().map_or_else(|| format!("job {id} has ended"), outcome::sentence))
        }
        Act::Hold(id) => {
            let altered = client.request(&Hold { ids: vec![*id] })?;
            altered
                .others
                .into_iter()
                .next()
                .map_or(Ok(format!("job {id} is held")), |other| Err(other.reason))
        }
        Act::Release(id) => {
            client.request(&Release { ids: vec![*id] })?;
            Ok(format!("job {id} is released"))
        }
        Act::Retry(id) => {
            let altered = client.request(&Retry { ids: vec![*id] })?;
            let other = altered.others.into_iter().next();
            other.map_or(Ok(format!("job {id} is queued again")), |other| Err(other.reason))
        }
        Act::Freeze(id, frozen) => {
            client.request(&SetFrozen { id: *id, frozen: *frozen })?;
            Ok(format!("job {id} {}", if *frozen { "is paused" } else { "goes on" }))
        }
        Act::Pause(pool, paused) => {
            client.request(&SetPaused { pools: vec![pool.clone()], paused: *paused, freeze: None })?;
            Ok(match paused {
                true => format!("pool {pool} is paused: it starts no more jobs"),
                false => format!("pool {pool} starts jobs again"),
            })
        }
    })
}
