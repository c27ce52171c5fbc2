//! What clients do with jobs that are there already: others are to run after them, and they are run again.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use pool_proto::methods::{Get, Retry, SubmitMany};
use pool_proto::nouns::{Dependency, On};
use pool_proto::{Client, ClientError, Refusal};
use rand::RngExt;
use rand::seq::IndexedRandom;

use super::kinds::{self, Kind};
use super::load::{Attendant, PATIENCE};

impl Attendant<'_> {
    /// Jobs that are to run after some of these, if they succeed, if they do not, or however they end.
    pub(super) fn follow_up(&mut self, client: &mut Client, prior: &[u64]) -> Vec<u64> {
        let kinds = self.kinds(6);
        let mut jobs = self.jobs(&kinds);
        let mut all_after: Vec<Vec<Dependency>> = Vec::new();
        for job in &mut jobs {
            let ids: BTreeSet<u64> =
                (0..2).map(|_| *prior.choose(&mut self.random).expect("there are some")).collect();
            let on = |random: &mut _| *[On::Done, On::Success, On::Failure].choose(random).expect("three");
            let after: Vec<Dependency> =
                ids.into_iter().map(|id| Dependency { id, on: Some(on(&mut self.random)) }).collect();
            job.after = Some(after.clone());
            all_after.push(after);
            self.put_off(job);
            self.limit(job);
        }
        let ids = match client.request(&SubmitMany { jobs, defaults: None, obstacles: None }) {
            Ok(submitted) => submitted.ids,
            // The history has forgotten it already.
            Err(ClientError::Refused(Refusal::NoSuchJob { .. })) => Vec::new(),
            Err(ClientError::Refused(refusal)) => {
                self.stage.refused(&refusal);
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        self.accept(&ids, &kinds);
        let mut known = self.stage.known();
        known.after.extend(ids.iter().copied().zip(all_after));
        known.count("jobs after others", ids.len() as u64);
        ids
    }

    /// Submits some, and runs them again when they have ended.
    pub(super) fn run_again(&mut self, mut client: Client) {
        let kinds: Vec<Kind> =
            (0..self.random.random_range(1..5)).map(|_| kinds::any_repeatable(&mut self.random)).collect();
        let mut jobs = self.jobs(&kinds);
        jobs.iter_mut().for_each(|job| self.limit(job));
        let ids = match client.request(&SubmitMany { jobs, defaults: None, obstacles: None }) {
            Ok(submitted) => submitted.ids,
            Err(ClientError::Refused(refusal)) => return self.stage.refused(&refusal),
            Err(_) => return,
        };
        self.accept(&ids, &kinds);
        self.wait_for_all(client, ids.clone());
        for round in 1..=self.random.random_range(1..3) {
            if !self.begin_round(&ids, round) {
                return;
            }
            let Some(client) = self.stage.connect() else { return };
            self.wait_for_all(client, ids.clone());
        }
    }

    /// Has jobs that have ended run again, over every death of poold's. False when it is over.
    fn begin_round(&mut self, ids: &[u64], round: u32) -> bool {
        ids.iter().for_each(|&id| self.stage.known().begin_round(id, round));
        let mut left = ids.to_vec();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if Instant::now() > deadline {
                self.stage.known().breaches.push(format!("jobs {left:?} are not run again"));
                return false;
            }
            let Some(mut client) = self.stage.connect() else { return false };
            // What a lost reply was about may have been done.
            let mut has_begun = |id| client.request(&Get { id }).is_ok_and(|got| got.record.reruns == round);
            let begun: Vec<u64> = left.iter().copied().filter(|&id| has_begun(id)).collect();
            left.retain(|id| !begun.contains(id));
            let mut known = self.stage.known();
            begun.iter().for_each(|&id| _ = known.rounds.insert(id, (round, round)));
            known.count("jobs run again by hand", begun.len() as u64);
            drop(known);
            if left.is_empty() {
                return true;
            }
            // Jobs whose callbacks are on their way have to wait, and are asked for again.
            if let Err(ClientError::Refused(refusal)) = client.request(&Retry { ids: left.clone() }) {
                self.stage.refused(&refusal);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
