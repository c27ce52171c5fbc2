//! Arrays: whoever submits one knows each of its elements, which has to end like any job, and once; the array
//! tells at its end how many have ended in which way.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use pool_proto::methods::{Get, SubmitMany};
use pool_proto::nouns::CallbackFor;
use pool_proto::{Client, ClientError, Record, State};
use pool_tests::Daemon;
use rand::RngExt;

use super::kinds;
use super::known::Known;
use super::load::{Attendant, PATIENCE};

impl Attendant<'_> {
    /// Submits an array, and waits for its elements; cancels some.
    pub(super) fn unfold(&mut self, mut client: Client) {
        let kind = kinds::any_repeatable(&mut self.random);
        let mut job = self.jobs(&[kind]).remove(0);
        let last = self.random.random_range(0..30);
        let at_once = if self.random.random_bool(0.5) { "%2" } else { "" };
        job.array = Some(format!("0-{last}{at_once}"));
        job.callback_for = Some(CallbackFor::Element);
        self.limit(&mut job);
        let many = SubmitMany { jobs: vec![job], defaults: None, obstacles: None };
        let id = match client.request(&many) {
            Ok(submitted) => submitted.ids[0],
            Err(ClientError::Refused(refusal)) => return self.stage.refused(&refusal),
            Err(_) => return,
        };
        let Some((mut client, first)) = self.first_element(client, id) else { return };

        let elements: Vec<u64> = (first..=first + last).collect();
        self.accept(&elements, &vec![kind; elements.len()]);
        let mut known = self.stage.known();
        known.arrays.insert(id, elements.clone());
        known.count("elements of arrays", elements.len() as u64);
        drop(known);
        if self.random.random_bool(0.3) {
            let some = elements.iter().copied().filter(|_| self.random.random_bool(0.2)).collect();
            self.cancel(&mut client, some);
        }
        self.wait_for_all(client, elements);
    }

    /// The id of the first element of an array, over every death of poold's.
    fn first_element(&self, mut client: Client, id: u64) -> Option<(Client, u64)> {
        loop {
            match client.request(&Get { id }) {
                Ok(got) => return Some((client, got.record.array.and_then(|array| array.first_id)?)),
                Err(ClientError::Refused(refusal)) => {
                    self.stage
                        .known()
                        .breaches
                        .push(format!("array {id} was accepted and is gone: {refusal}"));
                    return None;
                }
                Err(_) => client = self.stage.connect()?,
            }
        }
    }
}

/// Compares what arrays tell of their elements with what these tell.
pub fn check(daemon: &Daemon, records: &HashMap<u64, Record>, known: &mut Known) {
    for (id, elements) in std::mem::take(&mut known.arrays) {
        let states: Vec<State> = elements.iter().filter_map(|id| Some(records.get(id)?.state)).collect();
        let Some(record) = ended(daemon, id) else {
            known.breaches.push(format!("array {id} does not end, or is gone"));
            continue;
        };
        let told = record.array.as_deref().map(|array| [array.succeeded, array.failed, array.canceled]);
        let count =
            |is_one: fn(State) -> bool| Some(states.iter().filter(|state| is_one(**state)).count() as u32);
        let is_failure = |state| matches!(state, State::Failed | State::TimedOut | State::Lost);
        let counts = [
            count(|state| state == State::Succeeded),
            count(is_failure),
            count(|state| state == State::Canceled),
        ];
        let has_succeeded = states.iter().all(|state| *state == State::Succeeded);
        if told != Some(counts) || (record.state == State::Succeeded) != has_succeeded {
            known
                .breaches
                .push(format!("array {id} is {:?}, and tells {told:?} of {counts:?}", record.state));
        }
    }
}

fn ended(daemon: &Daemon, id: u64) -> Option<Record> {
    let deadline = Instant::now() + PATIENCE;
    let mut client = daemon.client();
    loop {
        let record = *client.request(&Get { id }).ok()?.record;
        if record.state.is_terminal() {
            return Some(record);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
