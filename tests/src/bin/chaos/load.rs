//! The clients: they submit, repeat themselves, cancel, go away, and wait, over every death of poold's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pool_proto::methods::{Cancel, List, Release, Submit, SubmitMany, Wait};
use pool_proto::nouns::{Brief, IfExists, Job, OnDisconnect, Progress, ProgressEvent, TIE_TO_CLIENT};
use pool_proto::{Client, ClientError, Refusal, State};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::clock::Clock;
use super::disk::Disk;
use super::kinds::{self, CLINGS, Kind, SHARES};
use super::known::{Fate, Known};
use super::ledgers::Ledgers;
use super::pools::{MOST_ITEMS, RESOURCE};

/// What names begin with whose jobs may be replaced.
pub const REPLACED: &str = "replaced";

/// Labels of which one job at a time may run.
const ALONE: [&str; 2] = ["alone", "alone-too"];

/// A label of which so many jobs at a time may run, or fewer.
pub const FEW: &str = "few";
pub const FEW_PLACES: u32 = 2;

const NOT_REPLACED: [IfExists; 3] = [IfExists::Skip, IfExists::Join, IfExists::Queue];
const ALL_CHOICES: [IfExists; 4] = [IfExists::Skip, IfExists::Join, IfExists::Queue, IfExists::Replace];

/// No job takes longer, whatever is killed meanwhile.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What all clients share.
#[derive(Debug)]
pub struct Stage {
    pub socket: PathBuf,
    pub mark: String,
    pub ledgers: Ledgers,
    pub disk: Option<Disk>,
    pub clock: Option<Clock>,
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

    /// A refusal has to have a reason of ours.
    pub(super) fn refused(&self, refusal: &Refusal) {
        let is_explained = match refusal {
            Refusal::Draining {} | Refusal::ShuttingDown {} => true,
            Refusal::StoreFailed { .. } => self.disk.as_ref().is_some_and(Disk::is_or_was_full),
            _ => false,
        };
        let mut known = self.known();
        if is_explained {
            known.count("submissions refused, as may be", 1);
        } else {
            known.breaches.push(format!("a submission was refused: {refusal}"));
        }
    }

    /// None when it is over.
    pub(super) fn connect(&self) -> Option<Client> {
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
    pub(super) stage: &'s Stage,
    number: u64,
    round: u64,
    begun: Instant,
    pub(super) random: StdRng,
}

impl<'s> Attendant<'s> {
    pub fn new(stage: &'s Stage, number: u64, random: StdRng) -> Self {
        Self { stage, number, round: 0, begun: Instant::now(), random }
    }

    /// Until it is over.
    pub fn attend(mut self) {
        while let Some(client) = self.stage.connect() {
            self.round += 1;
            self.begun = Instant::now();
            match self.random.random_range(0..20) {
                0 => self.go_away(client),
                1 => self.follow(client),
                2..5 => self.repeat(client),
                5 => self.stay(client),
                6 => self.keep_in_memory(client),
                7 => self.cling(client),
                8..11 => self.share_names(client),
                11..13 => self.run_again(client),
                13..15 => self.unfold(client),
                _ => self.submit(client),
            }
        }
        self.stage.clients.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn kinds(&mut self, most: usize) -> Vec<Kind> {
        let count = self.random.random_range(1..most);
        (0..count).map(|_| kinds::any(&mut self.random)).collect()
    }

    pub(super) fn jobs(&self, kinds: &[Kind]) -> Vec<Job> {
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
            self.queue_by_name(job);
            self.put_off(job);
            self.limit(job);
        }
        // Whether a call that was cut off was carried out is not known; such jobs run, but nobody was
        // promised anything.
        let submitted = match client.request(&SubmitMany { jobs, defaults: None, obstacles: None }) {
            Ok(submitted) => submitted,
            Err(ClientError::Refused(refusal)) => return self.stage.refused(&refusal),
            Err(_) => return,
        };
        self.accept(&submitted.ids, &kinds);
        let mut ids = submitted.ids.clone();
        if self.random.random_bool(0.4) {
            let mut later = self.follow_up(&mut client, &submitted.ids);
            if self.random.random_bool(0.5) && !later.is_empty() {
                later.extend(self.follow_up(&mut client, &later.clone()));
            }
            ids.extend(later);
        }
        if self.random.random_bool(0.3) {
            let ids: Vec<u64> =
                submitted.ids.iter().copied().filter(|_| self.random.random_bool(0.3)).collect();
            self.cancel(&mut client, ids);
        }
        self.wait_for_all(client, ids);
    }

    /// Now and then: the job waits for a time, or for somebody.
    pub(super) fn put_off(&mut self, job: &mut Job) {
        job.delay_s = self.random.random_bool(0.1).then(|| self.random.random_range(0.0..1.0));
        job.hold = self.random.random_bool(0.02).then_some(true);
    }

    /// Now and then: what the job takes is limited.
    pub(super) fn limit(&mut self, job: &mut Job) {
        if self.random.random_bool(0.2) {
            let label = *ALONE.choose(&mut self.random).expect("there are some");
            self.stage.ledgers.give_label(job, label);
        }
        if self.random.random_bool(0.2) {
            self.stage.ledgers.give_limited_label(job, FEW, FEW_PLACES);
        }
        // Calls take neither.
        if job.method.is_none() && self.random.random_bool(0.1) {
            self.stage.ledgers.give_slots(job, 2);
        }
        if job.method.is_none() && self.random.random_bool(0.2) {
            let amount = self.random.random_range(1..=MOST_ITEMS);
            self.stage.ledgers.give_items(job, RESOURCE, amount);
        }
    }

    pub(super) fn accept(&self, ids: &[u64], kinds: &[Kind]) {
        let mut known = self.stage.known();
        ids.iter().zip(kinds).for_each(|(&id, &kind)| known.accept(id, kind, Some(self.begun)));
    }

    /// Now and then: jobs of one name end all the same, one after the other.
    fn queue_by_name(&mut self, job: &mut Job) {
        if self.random.random_bool(0.05) {
            let name = format!("name-{}", self.random.random_range(0..6));
            self.stage.ledgers.give_name(job, &name, IfExists::Queue);
        }
    }

    pub(super) fn cancel(&mut self, client: &mut Client, ids: Vec<u64>) {
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
            self.queue_by_name(job);
        }
        let mut many = SubmitMany { jobs, defaults: None, obstacles: None };
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
        self.wait_for_all(client, ids.clone());
        if self.random.random_bool(0.5)
            && let Some(client) = self.stage.connect()
        {
            many.jobs.iter_mut().for_each(|job| job.round = Some("the next".to_owned()));
            self.go_another_round(client, &many, &ids, &kinds);
        }
    }

    /// Of jobs that have ended those that have not succeeded are added anew, once.
    fn go_another_round(&mut self, client: Client, many: &SubmitMany, ids: &[u64], kinds: &[Kind]) {
        let Some((client, others)) = self.insist(client, many) else { return };
        self.accept(&others, kinds);
        let Some((client, again)) = self.insist(client, many) else { return };
        let mut known = self.stage.known();
        for ((&id, &other), &third) in ids.iter().zip(&others).zip(&again) {
            let Some(&state) = known.ended.get(&id) else { continue };
            known.count("jobs of another round", u64::from(id != other));
            if (other == id) != (state == State::Succeeded) || other < id || third != other {
                let text =
                    format!("job {id} is {state:?}, another round of its key is {other}, then {third}");
                known.breaches.push(text);
            }
        }
        drop(known);
        self.wait_for_all(client, others);
    }

    fn insist(&mut self, mut client: Client, many: &SubmitMany) -> Option<(Client, Vec<u64>)> {
        loop {
            match client.request(many) {
                Ok(submitted) => {
                    self.stage.known().count("keys submitted again", submitted.existing.len() as u64);
                    return Some((client, submitted.ids));
                }
                Err(ClientError::Refused(refusal)) => {
                    self.stage.refused(&refusal);
                    thread::sleep(Duration::from_millis(50));
                    client = self.stage.connect()?;
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
            this.stage.known().end(brief.id, &brief);
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
        self.accept(&[accepted.id], &[CLINGS]);
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

    /// Submits a job that is tied to this client, and stays, over every death of poold's.
    fn cling(&mut self, mut client: Client) {
        let kind = kinds::any(&mut self.random);
        let mut job = self.stage.ledgers.job(kind, &self.stage.mark);
        job.tie = Some(TIE_TO_CLIENT.to_owned());
        let Ok(()) = client.send(&Submit { job, on_disconnect: None, obstacles: None }, true) else { return };
        let Ok((Progress { event: ProgressEvent::Accepted, id, .. }, _)) = client.receive::<Submit>() else {
            return;
        };
        self.accept(&[id], &[kind]);
        let deadline = Instant::now() + PATIENCE;
        while !self.is_end_told(client) {
            if Instant::now() > deadline {
                return self.stage.known().breaches.push(format!("job {id} does not end"));
            }
            self.stage.known().count("clients back at their jobs", 1);
            client = loop {
                match Client::connect(&self.stage.socket) {
                    Ok(client) => break client,
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            };
            let on_disconnect = Some(OnDisconnect::Cancel);
            // A reply that does not come tells as much.
            let _ = client.send(&Wait { ids: vec![id], on_disconnect, ..Wait::default() }, true);
        }
    }

    /// What a client is told that waits for one job, up to the end of the job or of the connection.
    fn is_end_told(&self, mut client: Client) -> bool {
        while let Ok((progress, _)) = client.receive::<Wait>() {
            if let (ProgressEvent::Ended, Some(record)) = (progress.event, progress.record) {
                self.stage.known().end(record.id, &*record);
                return true;
            }
        }
        false
    }

    /// Submits jobs under names that others use as well, and waits for all that bear them in its stead.
    fn share_names(&mut self, mut client: Client) {
        let mut is_skipped = Vec::new();
        let jobs = (0..self.random.random_range(1..6)).map(|_| {
            let mut job = self.stage.ledgers.job(SHARES, &self.stage.mark);
            let (name, choices) = match self.random.random_range(0..4) {
                number @ 0..2 => (format!("shared-{number}"), &NOT_REPLACED[..]),
                number => (format!("{REPLACED}-{number}"), &ALL_CHOICES[..]),
            };
            let if_exists = *choices.choose(&mut self.random).expect("there are some");
            is_skipped.push(if_exists == IfExists::Skip);
            self.stage.ledgers.give_name(&mut job, &name, if_exists);
            job
        });
        let many = SubmitMany { jobs: jobs.collect(), defaults: None, obstacles: None };
        let submitted = match client.request(&many) {
            Ok(submitted) => submitted,
            Err(ClientError::Refused(refusal)) => return self.stage.refused(&refusal),
            Err(_) => return,
        };
        let skipped = submitted.skipped.unwrap_or_default();
        let mut known = self.stage.known();
        for (place, &id) in submitted.ids.iter().enumerate() {
            let is_other = submitted.existing.contains(&place);
            known.accept(id, SHARES, (!is_other).then_some(self.begun));
            if (is_other && is_skipped[place]) != skipped.contains(&place) {
                known
                    .breaches
                    .push(format!("job {id} is skipped, or is not: {:?}, {skipped:?}", many.jobs[place]));
            }
        }
        known.count("jobs skipped or joined", submitted.existing.len() as u64);
        drop(known);
        self.wait_for_all(client, submitted.ids);
    }

    /// Waits for the ends of jobs, over restarts, and writes down what it is told.
    pub(super) fn wait_for_all(&self, mut client: Client, mut left: Vec<u64>) {
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
                    self.stage.known().end(record.id, &*record);
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
