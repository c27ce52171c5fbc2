//! The jobs as people want to see them: what runs, what waits, what has ended. Each part is one request that
//! poold answers from an index, so the view costs the same beside a million jobs.

use std::collections::HashSet;

use pool_proto::methods::{Count, Counted, List, ListOrder, MAX_EXPLAINED, Pools, StateCount, Why};
use pool_proto::nouns::{ExplanationKind, Pool};
use pool_proto::{Client, ClientError, Record, State};

use super::selection::is_unknown;
use crate::cli::states::{ACTIVE, ENDED, FAILED, WAITING};
use crate::tell::row::Row;

/// What is shown.
#[derive(Debug, Clone)]
pub struct Board {
    /// What runs, for the longest first.
    pub active: Vec<Row>,
    /// What waits, the next to start first; then what waits for something else, the newest first.
    pub waiting: Vec<Row>,
    /// What has ended, the latest first.
    pub ended: Vec<Row>,
    /// All jobs of poold, whatever the board is of.
    pub counts: Counted,
    /// The pools.
    pub pools: Vec<Pool>,
    /// Whether there are more jobs than are shown.
    pub has_more: bool,
}

impl Board {
    /// Reads at most so many jobs of each part. `wanted`: which jobs; its order and its places do not count.
    ///
    /// # Errors
    /// When poold has gone, or cannot read its store.
    pub fn read(client: &mut Client, wanted: &List, most: usize) -> Result<Self, ClientError> {
        let pools = client.request(&Pools {})?.pools;
        let counts = client.request(&Count {})?;
        // One more, so that it is seen that there are more.
        let limit = most + 1;
        let mut active = part(client, wanted, &ACTIVE, ListOrder::Oldest, limit)?;
        active.sort_by(|one, other| one.started_at.cmp(&other.started_at));
        let waiting = waiting(client, wanted, &pools, limit)?;
        let ended = ended(client, wanted, limit)?;

        let has_more = [active.len(), waiting.len(), ended.len()].iter().any(|&count| count > most);
        let rows = |records: Vec<Record>| records.into_iter().take(most).map(Row::of).collect::<Vec<Row>>();
        let mut board = Self {
            active: rows(active),
            waiting: rows(waiting),
            ended: rows(ended),
            counts,
            pools,
            has_more,
        };
        board.find_places(client)?;
        Ok(board)
    }

    /// Leaves so many rows. What runs comes first; what waits and what has ended share the rest.
    pub fn fit(&mut self, rows: usize) {
        let parts = [self.active.len(), self.waiting.len(), self.ended.len()];
        let [active, waiting, ended] = shares(parts, rows);
        self.has_more |= parts.iter().sum::<usize>() > active + waiting + ended;
        self.active.truncate(active);
        self.waiting.truncate(waiting);
        self.ended.truncate(ended);
    }

    /// All rows, in their order.
    pub fn rows(self) -> Vec<Row> {
        [self.active, self.waiting, self.ended].into_iter().flatten().collect()
    }

    /// Asks for the places in lines of the jobs that are shown, and sorts by them.
    fn find_places(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let queued = self.waiting.iter().filter(|row| row.record.state == State::Queued);
        let ids: Vec<u64> = queued.map(|row| row.record.id).take(MAX_EXPLAINED).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let told = match client.request(&Why { ids }) {
            Ok(told) => told.jobs,
            // One of them has gone in this moment.
            Err(error) if is_unknown(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        for explanation in told.into_iter().filter(|told| told.kind == ExplanationKind::Line) {
            if let Some(row) = self.waiting.iter_mut().find(|row| row.record.id == explanation.id) {
                row.place = explanation.position;
            }
        }
        let is_queued = |row: &Row| row.record.state == State::Queued;
        // Of those with the same place the newest comes first, as everywhere.
        self.waiting.sort_by_key(|row| {
            let place = row.place.unwrap_or(u32::MAX);
            (!is_queued(row), place, u64::MAX - row.record.id)
        });
        Ok(())
    }
}

/// How many rows each part gets. The first part may take all but a third; what one does not need goes to the
/// others.
fn shares(parts: [usize; 3], rows: usize) -> [usize; 3] {
    let [active, waiting, ended] = parts;
    let kept = (rows / 3).min(waiting + ended);
    let active = active.min(rows - kept);
    let rest = rows - active;
    let waiting_kept = (rest / 2).min(waiting);
    let ended = ended.min(rest - waiting_kept);
    let waiting = waiting.min(rest - ended);
    [active, waiting, ended]
}

/// The states of a part that are asked for. None if none of them is.
fn states_of(wanted: &List, part: &[State]) -> Option<Vec<State>> {
    let asked = |state: &State| wanted.states.as_ref().is_none_or(|states| states.contains(state));
    let states: Vec<State> = part.iter().copied().filter(asked).collect();
    (!states.is_empty()).then_some(states)
}

/// Some jobs in these states. poold may find few on a page, though there are more.
fn part(
    client: &mut Client,
    wanted: &List,
    states: &[State],
    order: ListOrder,
    limit: usize,
) -> Result<Vec<Record>, ClientError> {
    let Some(states) = states_of(wanted, states) else { return Ok(Vec::new()) };
    let mut list = List { states: Some(states), order: Some(order), after: None, ..wanted.clone() };
    let mut jobs = Vec::new();
    loop {
        list.limit = u32::try_from(limit - jobs.len()).ok();
        let page = client.request(&list)?;
        jobs.extend(page.jobs);
        match page.next.filter(|_| jobs.len() < limit) {
            Some(next) => list.after = Some(next),
            None => return Ok(jobs),
        }
    }
}

/// What waits, those in lines first.
fn waiting(
    client: &mut Client,
    wanted: &List,
    pools: &[Pool],
    limit: usize,
) -> Result<Vec<Record>, ClientError> {
    let mut jobs = Vec::new();
    if states_of(wanted, &[State::Queued]).is_some() {
        if is_open(wanted) {
            let of_pool = |pool: &&Pool| wanted.pool.as_ref().is_none_or(|wanted| *wanted == pool.name);
            for pool in pools.iter().filter(|pool| pool.queued > 0).filter(of_pool) {
                let (states, pool) = (Some(vec![State::Queued]), Some(pool.name.clone()));
                let list = List { states, pool, order: Some(ListOrder::Line), ..List::default() };
                jobs.extend(
                    client.request(&List { limit: u32::try_from(limit.min(1000)).ok(), ..list })?.jobs,
                );
            }
            jobs.sort_by_key(|job| (std::cmp::Reverse(job.priority), job.id));
            jobs.truncate(limit);
        } else {
            jobs = part(client, wanted, &[State::Queued], ListOrder::Newest, limit)?;
        }
    }
    let left = limit.saturating_sub(jobs.len());
    if left > 0 {
        // Those for a predecessor are queued, and in no line.
        let known: HashSet<u64> = jobs.iter().map(|job| job.id).collect();
        let others = part(client, wanted, &WAITING[1..], ListOrder::Newest, left)?;
        jobs.extend(others.into_iter().filter(|job| !known.contains(&job.id)));
    }
    Ok(jobs)
}

/// What has ended. By its end where poold finds it so, which is without filters; what has failed has an index
/// of its own.
fn ended(client: &mut Client, wanted: &List, limit: usize) -> Result<Vec<Record>, ClientError> {
    let takes_success = states_of(wanted, &[State::Succeeded]).is_some();
    if !takes_success || !is_open(wanted) || limit > 1000 {
        return part(client, wanted, &ENDED, ListOrder::Newest, limit);
    }
    let Some(states) = states_of(wanted, &ENDED) else { return Ok(Vec::new()) };
    let states = (states.len() < ENDED.len()).then_some(states);
    let list =
        List { states, order: Some(ListOrder::Ended), limit: u32::try_from(limit).ok(), ..wanted.clone() };
    Ok(client.request(&list)?.jobs)
}

/// Whether jobs are asked for by state and pool alone.
fn is_open(wanted: &List) -> bool {
    let List {
        label,
        name,
        since,
        until,
        exit_codes,
        states: _,
        pool: _,
        order: _,
        after: _,
        limit: _,
        brief: _,
    } = wanted;
    label.is_none() && name.is_none() && since.is_none() && until.is_none() && exit_codes.is_none()
}

/// The counts in one line: "3 running, 3 queued, 3 failed, 1 succeeded".
pub fn counts_line(counts: &Counted) -> String {
    let of = |states: &[State]| {
        let counts = counts.states.iter().filter(|count| states.contains(&count.state));
        counts.fold((0, false), |(jobs, more), StateCount { jobs: others, more: has_more, .. }| {
            (jobs + others, more || *has_more)
        })
    };
    let parts = [
        (of(&ACTIVE), "running"),
        (of(&[State::Queued]), "queued"),
        (of(&[State::Retrying]), "retrying"),
        (of(&[State::Scheduled]), "scheduled"),
        (of(&[State::Blocked]), "blocked"),
        (of(&[State::Held]), "held"),
        (of(&FAILED), "failed"),
        (of(&[State::Canceled]), "canceled"),
        (of(&[State::Succeeded]), "succeeded"),
    ];
    let parts = parts.into_iter().filter(|((jobs, more), _)| *jobs > 0 || *more);
    let parts: Vec<String> =
        parts.map(|((jobs, more), word)| format!("{jobs}{} {word}", if more { "+" } else { "" })).collect();
    if parts.is_empty() { "no jobs".to_owned() } else { parts.join(", ") }
}

/// That callbacks were given up, and who shows them.
pub fn callbacks_line(counts: &Counted) -> Option<String> {
    let failed = match counts.failed_callbacks? {
        0 => return None,
        1 => "1 callback has failed".to_owned(),
        failed => format!("{failed} callbacks have failed"),
    };
    Some(format!("{failed} (poolctl callbacks ls --failed)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_leaves_room_for_the_rest() {
        assert_eq!(shares([3, 3, 3], 20), [3, 3, 3]);
        assert_eq!(shares([30, 30, 30], 20), [14, 3, 3]);
        assert_eq!(shares([30, 0, 0], 20), [20, 0, 0]);
        assert_eq!(shares([2, 30, 1], 20), [2, 17, 1]);
        assert_eq!(shares([0, 1, 30], 20), [0, 1, 19]);
        assert_eq!(shares([5, 5, 5], 0), [0, 0, 0]);
    }

    #[test]
    fn counts_are_one_line() {
        let count = |state, jobs, more| StateCount { state, jobs, more };
        let counts = Counted {
            states: vec![
                count(State::Queued, 3, false),
                count(State::Running, 2, false),
                count(State::Stopping, 1, false),
                count(State::Failed, 1, false),
                count(State::TimedOut, 2, false),
                count(State::Succeeded, 99_980, true),
            ],
            failed_callbacks: Some(2),
        };
        assert_eq!(counts_line(&counts), "3 running, 3 queued, 3 failed, 99980+ succeeded");
        assert_eq!(counts_line(&Counted::default()), "no jobs");
        let told = "2 callbacks have failed (poolctl callbacks ls --failed)";
        assert_eq!(callbacks_line(&counts).as_deref(), Some(told));
        assert_eq!(callbacks_line(&Counted { failed_callbacks: Some(0), ..counts }), None);
    }
}
