//! The clients: they submit, repeat themselves, cancel, go away, and wait, over every death of poold's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pool_proto::methods::{Cancel, List, Release, Submit, SubmitMany, Wait};
use pool_proto::nouns::{Brief, IfExists, Job, OnDisconnect, ProgressEvent};
use pool_proto::{Client, ClientError, Refusal, State};
use rand::RngExt;
use rand::rngs::StdRng;

use super::kinds::{self, CLINGS, Kind};
use super::known::{Fate, Known};
use super::ledgers::Ledgers;

/// No job takes longer, whatever is killed meanwhile.
const PATIENCE: Duration = Duration::from_secs(300);

/// What all clients share.
#[derive(Debug)]
pub struct Stage {
    pub socket: PathBuf,
    pub mark: String,
    pub ledgers: Ledgers,
    pub known: Mutex<Known>,
    /// No more is to be begun.
    pub is_over: AtomicBool,
    /// Clients that have not left.
    pub clients: AtomicUsize,
}

impl Stage {
    pub fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics")
    }

    /// None when it is over.
    fn connect(&self) -> Option<Client> {
        while !self.is_over.load(Ordering::Relaxed) {
            match Client::connect(&self.socket) {
                Ok(client) => return Some(client),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
        None
    }
}

/// One client.
pub struct Attendant<'s> {
    stage: &'s Stage,
    number: u64,
    round: u64,
    random: StdRng,
}

impl<'s> Attendant<'s> {
    pub fn new(stage: &'s Stage, number: u64, random: StdRng) -> Self {
        Self { stage, number, round: 0, random }
    }

    /// Until it is over.
    pub fn attend(mut self) {
        while let Some(client) = self.stage.connect() {
            self.round += 1;
            match self.random.random_range(0..12) {
                0 => self.go_away(client),
                1 => self.follow(client),
                2..5 => self.repeat(client),
                5 => self.stay(client),
                6 => self.keep_in_memory(client),
                _ => self.submit(client),
            }
        }
        self.stage.clients.fetch_sub(1, Ordering::Relaxed);
    }

    fn kinds(&mut self, most: usize) -> Vec<Kind> {
        let count = self.random.random_range(1..most);
        (0..count).map(|_| kinds::any(&mut self.random)).collect()
    }

    fn jobs(&self, kinds: &[Kind]) -> Vec<Job> {
        kinds.iter().map(|&kind| self.stage.ledgers.job(kind, &self.stage.mark)).collect()
    }

    /// Submits many and waits for them; cancels some.
    fn submit(&mut self, mut client: Client) {
        let kinds = self.kinds(20);
        let mut jobs = self.jobs(&kinds);
        for job in &mut jobs {
            // No drain comes, so that this changes nothing.
            job.tie = self.random.random_bool(0.1).then(|| "pool".to_owned());
            job.priority = Some(self.random.random_range(-1..=1));
            if self.random.random_bool(0.03) {
                // They end all the same, one after the other.
                job.unique = Some(format!("name {}", self.random.random_range(0..6)).into());
                job.if_exists = Some(IfExists::Queue);
            }
        }
        // Whether a call that was cut off was carried out is not known; such jobs run, but nobody was
        // promised anything.
        let Ok(submitted) = client.request(&SubmitMany { jobs, defaults: None, obstacles: None }) else {
            return;
        };
        self.accept(&submitted.ids, &kinds);
        if self.random.random_bool(0.3) {
            let ids: Vec<u64> =
                submitted.ids.iter().copied().filter(|_| self.random.random_bool(0.3)).collect();
            self.cancel(&mut client, ids);
        }
        self.wait_for_all(client, submitted.ids);
    }

    fn accept(&self, ids: &[u64], kinds: &[Kind]) {
        let mut known = self.stage.known();
        ids.iter().zip(kinds).for_each(|(&id, &kind)| known.accept(id, kind));
    }

    fn cancel(&mut self, client: &mut Client, ids: Vec<u64>) {
        if ids.is_empty() {
            return;
        }
        self.stage.known().cancel(&ids);
        let Ok(canceled) = client.request(&Cancel { ids, ..Cancel::default() }) else { return };
        let mut known = self.stage.known();
        known.count("jobs canceled on request", canceled.jobs.len() as u64);
        for record in canceled.jobs.iter().filter(|record| !record.state.is_terminal()) {
            known.breaches.push(format!("job {} was to be over and is {:?}", record.id, record.state));
        }
    }

    /// Submits jobs with keys until it is known that they are accepted, and perhaps once more.
    fn repeat(&mut self, client: Client) {
        let kinds = self.kinds(10);
        let mut jobs = self.jobs(&kinds);
        for (place, job) in jobs.iter_mut().enumerate() {
            job.key = Some(format!("{}-{}-{place}", self.number, self.round).into());
        }
        let many = SubmitMany { jobs, defaults: None, obstacles: None };
        let Some((client, ids)) = self.insist(client, &many) else { return };
        self.accept(&ids, &kinds);
        let client = if self.random.random_bool(0.5) {
            let Some((client, again)) = self.insist(client, &many) else { return };
            if again != ids {
                self.stage
                    .known()
                    .breaches
                    .push(format!("jobs {ids:?} were submitted again and became {again:?}"));
            }
            client
        } else {
            client
        };
        self.wait_for_all(client, ids);
    }

    fn insist(&mut self, mut client: Client, many: &SubmitMany) -> Option<(Client, Vec<u64>)> {
        loop {
            match client.request(many) {
                Ok(submitted) => {
                    self.stage.known().count("keys submitted again", submitted.existing.len() as u64);
                    return Some((client, submitted.ids));
                }
                Err(ClientError::Refused(Refusal::Draining {} | Refusal::ShuttingDown {})) => {
                    thread::sleep(Duration::from_millis(10));
                    client = self.stage.connect()?;
                }
                Err(ClientError::Refused(refusal)) => {
                    self.stage.known().breaches.push(format!("a submission was refused: {refusal}"));
                    return None;
                }
                Err(_) => client = self.stage.connect()?,
            }
        }
    }

    /// Submits many and hears of their ends on the same connection, for as long as that lasts.
    fn stay(&mut self, mut client: Client) {
        let kinds = self.kinds(20);
        let Ok(()) =
            client.send(&SubmitMany { jobs: self.jobs(&kinds), defaults: None, obstacles: None }, true)
        else {
            return;
        };
        let Ok((submitted, _)) = client.receive::<SubmitMany>() else { return };
        self.accept(&submitted.ids, &kinds);
        let mut left = submitted.ids;
        let is_whole = self.hear(client, |this, brief| {
            left.retain(|&id| id != brief.id);
            this.stage.known().end(brief.id, brief.state);
        });
        if is_whole && !left.is_empty() {
            self.stage
                .known()
                .breaches
                .push(format!("jobs {left:?} are said to have ended and have not been told"));
        }
        if let Some(client) = self.stage.connect() {
            self.wait_for_all(client, left);
        }
    }

    /// Each end that is told on this connection; true when they are all.
    fn hear(&self, mut client: Client, mut on_end: impl FnMut(&Self, Brief)) -> bool {
        while let Ok((told, more)) = client.receive::<SubmitMany>() {
            told.results.into_iter().for_each(|brief| on_end(self, brief));
            if !more {
                return true;
            }
        }
        false
    }

    /// Submits calls that are kept in memory alone, and hears of their ends or of the supervisor's; cancels
    /// some.
    fn keep_in_memory(&mut self, mut client: Client) {
        let kinds: Vec<Kind> =
            (0..self.random.random_range(1..20)).map(|_| kinds::any_volatile(&mut self.random)).collect();
        let jobs = kinds.iter().map(|&kind| self.stage.ledgers.volatile(kind, &self.stage.mark)).collect();
        let Ok(()) = client.send(&SubmitMany { jobs, defaults: None, obstacles: None }, true) else { return };
        let Ok((submitted, _)) = client.receive::<SubmitMany>() else { return };
        submitted
            .ids
            .iter()
            .zip(&kinds)
            .for_each(|(&id, &kind)| self.stage.known().accept_volatile(id, kind));
        if self.random.random_bool(0.3)
            && let Ok(mut other) = Client::connect(&self.stage.socket)
        {
            let ids: Vec<u64> =
                submitted.ids.iter().copied().filter(|_| self.random.random_bool(0.3)).collect();
            self.stage.known().cancel_volatile(&ids);
            // It is refused where poold has died meanwhile and knows nothing of them any more.
            let _ = other.request(&Cancel { ids, ..Cancel::default() });
        }
        let mut left: BTreeMap<u64, Kind> = submitted.ids.into_iter().zip(kinds).collect();
        let is_whole = self.hear(client, |this, brief| {
            let Some(kind) = left.remove(&brief.id) else {
                return this.stage.known().breaches.push(format!("call {} ended twice", brief.id));
            };
            let mut known = this.stage.known();
            known.settle(brief.id, Fate::Ended(brief.state));
            if brief.state == kind.state && !kind.is_right(brief.value.as_ref(), brief.error.as_ref()) {
                known.breaches.push(format!("call {} {} and was told {brief:?}", brief.id, kind.name));
            }
        });
        if !is_whole {
            left.into_keys().for_each(|id| self.stage.known().settle(id, Fate::Gone));
        }
    }

    /// Submits a job that is tied to this client, and goes away before it ends.
    fn go_away(&mut self, mut client: Client) {
        let job = self.stage.ledgers.job(CLINGS, &self.stage.mark);
        let submit = Submit { job, on_disconnect: Some(OnDisconnect::Cancel), obstacles: None };
        let Ok(()) = client.send(&submit, true) else { return };
        let Ok((accepted, _)) = client.receive::<Submit>() else { return };
        self.stage.known().accept(accepted.id, CLINGS);
        if self.random.random_bool(0.7) {
            // Where poold dies it is gone as well.
            let _ = client.receive::<Submit>();
        }
        drop(client);
        self.stage.known().count("clients gone from their jobs", 1);
        if let Some(client) = self.stage.connect() {
            self.wait_for_all(client, vec![accepted.id]);
        }
    }

    /// Submits jobs that are tied to another one.
    fn follow(&mut self, mut client: Client) {
        let kinds = self.kinds(2);
        let Ok(submitted) =
            client.request(&SubmitMany { jobs: self.jobs(&kinds), defaults: None, obstacles: None })
        else {
            return;
        };
        self.accept(&submitted.ids, &kinds);
        let mut ids = submitted.ids;
        let followers = vec![CLINGS; 2];
        let mut jobs = self.jobs(&followers);
        jobs.iter_mut().for_each(|job| job.tie = Some(format!("job:{}", ids[0])));
        if let Ok(submitted) = client.request(&SubmitMany { jobs, defaults: None, obstacles: None }) {
            self.accept(&submitted.ids, &followers);
            self.stage.known().count("jobs tied to another", submitted.ids.len() as u64);
            ids.extend(submitted.ids);
        }
        self.wait_for_all(client, ids);
    }

    /// Waits for the ends of jobs, over restarts, and writes down what it is told.
    fn wait_for_all(&self, mut client: Client, mut left: Vec<u64>) {
        let deadline = Instant::now() + PATIENCE;
        while !left.is_empty() {
            if Instant::now() > deadline {
                return self.stage.known().breaches.push(format!("jobs {left:?} do not end"));
            }
            let sent = client.send(&Wait { ids: left.clone(), ..Wait::default() }, true);
            while sent.is_ok()
                && let Ok((progress, more)) = client.receive::<Wait>()
            {
                if progress.event == ProgressEvent::Ended
                    && let Some(record) = progress.record
                {
                    left.retain(|&id| id != record.id);
                    self.stage.known().end(record.id, record.state);
                }
                if !more {
                    break;
                }
            }
            if !left.is_empty() {
                thread::sleep(Duration::from_millis(10));
                if let Ok(again) = Client::connect(&self.stage.socket) {
                    client = again;
                }
            }
        }
    }
}

/// Somebody who releases what is held, for as long as there are clients.
pub fn release(stage: &Stage) {
    while stage.clients.load(Ordering::Relaxed) > 0 {
        if let Ok(mut client) = Client::connect(&stage.socket) {
            let released = release_held(&mut client);
            stage.known().count("held jobs released", released);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// How many were.
pub fn release_held(client: &mut Client) -> u64 {
    let list = List { states: Some(vec![State::Held]), ..List::default() };
    let held = client.request(&list).map(|listed| listed.jobs).unwrap_or_default();
    // Each by itself: one may have been canceled meanwhile.
    held.iter().filter(|record| client.request(&Release { ids: vec![record.id] }).is_ok()).count() as u64
}
