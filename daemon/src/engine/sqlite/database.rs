//! The database as the orders see it: one transaction for a batch of them, and what is kept in memory beside
//! it.
//!
//! Which orders make a batch, and what happens when one cannot be written, is the committer's business.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pool_proto::{Refusal, State};
use rusqlite::{Connection, Error, Result};

use super::columns::signed;
use super::connection::SoundConnection;
use super::environments::Environments;
use super::insert::Inserted;
use super::plain::PlainJobs;
use super::prune::History;
use super::records::Layout;
use super::values::Values;
use super::{
    arrays, attempts, callbacks, deadlines, dependents, edit, insert, keys, meta, pace, places, prune,
    queries, records, retry, schedules, turns, waits,
};
use crate::engine::{Answer, Change, Chore, Detail, Fence, Insertion, Move, Order, Question, ValueFile};
use crate::job::{JobId, Place, Work};

/// See the module's description.
#[derive(Debug)]
pub struct Database {
    pub connection: SoundConnection,
    layout: Layout,
    environments: Environments,
    /// How often the connection had been opened anew when the environments were last right.
    reopened: u64,
    history: History,
    plain: PlainJobs,
    /// Of the history as it is committed, for others to see.
    ended_output_bytes: Arc<AtomicU64>,
}

/// A batch that was rolled back.
#[derive(Debug)]
pub struct BatchError {
    /// The order at which it failed, unless it was the commit.
    pub at: Option<usize>,
    pub error: Error,
}

impl Database {
    pub fn new(connection: SoundConnection, layout: Layout, history: History) -> Self {
        let ended_output_bytes = Arc::new(AtomicU64::new(history.census.all().bytes));
        let (environments, reopened) = (Environments::default(), connection.reopened());
        let plain = PlainJobs::default();
        Self { connection, layout, environments, reopened, history, plain, ended_output_bytes }
    }

    /// What all ended jobs have written; kept up to date.
    pub fn ended_output_bytes(&self) -> Arc<AtomicU64> {
        self.ended_output_bytes.clone()
    }

    /// Files that the last poold has left of large values that nobody needs.
    pub fn abandoned_values(&self) -> Vec<ValueFile> {
        let found = self.connection.get().and_then(|open| self.layout.values.abandoned(open));
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot look for files of values that nobody needs");
            Vec::new()
        })
    }

    pub fn values(&self) -> &Values {
        &self.layout.values
    }

    pub fn state_dir(&self) -> &std::path::Path {
        &self.layout.state_dir
    }

    /// Carries out all orders in one transaction, or none. They are written then; that they are synced is the
    /// business of [`sync`](Self::sync).
    pub fn commit(&mut self, orders: &[Order]) -> Result<Vec<Answer>, BatchError> {
        self.transact(orders).inspect_err(|failed| {
            self.history.census.roll_back();
            self.layout.values.rolled_back();
            self.environments.clear();
            self.plain.clear();
            self.connection.roll_back(&failed.error);
        })
    }

    fn transact(&mut self, orders: &[Order]) -> Result<Vec<Answer>, BatchError> {
        let whole = |error| BatchError { at: None, error };
        let bytes = orders.iter().map(Order::bytes).sum();
        self.connection.begin(orders.len(), bytes).map_err(whole)?;

        let mut answers = Vec::with_capacity(orders.len());
        for (index, order) in orders.iter().enumerate() {
            let answer = self.apply(order).map_err(|error| BatchError { at: Some(index), error })?;
            answers.extend(answer);
        }

        self.connection.commit().map_err(whole)?;
        self.history.census.commit();
        self.layout.values.committed();
        self.publish();
        Ok(answers)
    }

    /// Brings all that is committed to the disk.
    pub fn sync(&mut self) -> Result<()> {
        self.connection.sync()
    }

    /// After a sync that has failed: mends the log. False where what was committed last is not in it any
    /// more.
    pub fn settle(&mut self) -> Result<bool> {
        let is_kept = self.connection.settle()?;
        if !is_kept {
            self.layout.values.lost();
            self.plain.clear();
            self.history = History::read(self.connection.get()?)?;
            self.publish();
        }
        Ok(is_kept)
    }

    fn publish(&self) {
        self.ended_output_bytes.store(self.history.census.all().bytes, Ordering::Relaxed);
    }

    /// Carries out one order: a change only within [`commit`](Self::commit), a read anywhere.
    pub fn apply(&mut self, order: &Order) -> Result<Option<Answer>> {
        if self.reopened != self.connection.reopened() {
            self.reopened = self.connection.reopened();
            self.environments.clear();
        }

        let Self { connection, layout, environments, history, plain, .. } = self;
        if let Order::Change(change) = order
            && !matches!(change, Change::Insert(_) | Change::Move(_))
        {
            plain.clear();
        }
        let syncs = connection.syncs();
        let connection = connection.get()?;
        match order {
            Order::Change(change) => match change {
                Change::Insert(insertion) => {
                    let answer = insert_jobs(connection, environments, layout, syncs, insertion)?;
                    if let Answer::Inserted { existing, .. } = &answer {
                        plain.add(insertion, existing);
                    }
                    Ok(Some(answer))
                }
                Change::Move(moved) => place(connection, environments, layout, history, plain, moved),
                Change::Hold { request, ids } => {
                    let (held, others) = waits::hold(connection, ids)?;
                    Ok(Some(Answer::Withheld { request: *request, held, others }))
                }
                Change::Assign { request, ids, pool, is_warm } => {
                    let places::Moved { jobs, unfit, others } =
                        places::assign(connection, ids, pool, *is_warm)?;
                    Ok(Some(Answer::Assigned { request: *request, pool: pool.clone(), jobs, unfit, others }))
                }
                Change::Edit(change) => {
                    let edited = edit::edit(connection, environments, &layout.values, change)?;
                    Ok(Some(Answer::Edited { request: change.request, id: change.id, edited }))
                }
                Change::Retry { request, ids, times, closed } => {
                    let retry::Round { jobs, failed, others, arrays } =
                        retry::retry(connection, &layout.values, history, ids, times, closed)?;
                    Ok(Some(Answer::Retried { request: *request, jobs, failed, others, arrays }))
                }
                Change::Remove { request, ids } => {
                    prune::remove(connection, environments, &layout.values, history, *request, ids).map(Some)
                }
                Change::Release { request, ids, closed } => {
                    let request = *request;
                    let released = waits::release(connection, ids, closed)?;
                    Ok(Some(match released {
                        Ok(jobs) => Answer::Released { request, jobs },
                        Err(refusal) => Answer::Refused { request, refusal },
                    }))
                }
                Change::Wake { until_us, limit } => {
                    let woken = waits::wake(connection, environments, &layout.values, *until_us, *limit)?;
                    let waits::Woken { jobs, callbacks, next_us } = woken;
                    Ok(Some(Answer::Woken { jobs, callbacks, next_us }))
                }
                Change::Resolve { limit } => {
                    let resolved = dependents::resolve(connection, *limit)?;
                    let dependents::Resolved { jobs, failed, more } = resolved;
                    Ok(Some(Answer::Resolved { jobs, failed, more }))
                }
                Change::Unfold { array, limit, now_us } => {
                    let unfolded = arrays::unfold(connection, *array, *limit, *now_us)?;
                    Ok(Some(match unfolded {
                        Some(arrays::Unfolded { tally, jobs, tie }) => {
                            Answer::Unfolded { tally: Box::new(tally), jobs, tie }
                        }
                        None => Answer::Lost { id: *array },
                    }))
                }
                Change::Fold { array, reason, after, limit } => {
                    let folded = arrays::fold(connection, *array, *reason, *after, *limit)?;
                    Ok(Some(match folded {
                        Some(arrays::Folded { tally, living, more }) => {
                            Answer::Folded { tally: Box::new(tally), living, more }
                        }
                        None => Answer::Lost { id: *array },
                    }))
                }
                Change::SetClock { ahead_us } => {
                    waits::set_clock(connection, *ahead_us)?;
                    Ok(Some(Answer::ClockSet { next_us: waits::next_due(connection)? }))
                }
                Change::BeginCallback { id } => {
                    let run = callbacks::begin(connection, environments, layout, *id)?;
                    Ok(run.map(|run| Answer::CallbackBegun(Box::new(run))))
                }
                Change::EndCallback { id, end, exit_code } => {
                    callbacks::end(connection, *id, *end, *exit_code).map(|()| None)
                }
                Change::AlterCallbacks { request, ids, wish } => {
                    let (ids, others) = callbacks::alter(connection, ids, *wish)?;
                    Ok(Some(Answer::CallbacksAltered { request: *request, wish: *wish, ids, others }))
                }
                Change::SetPool { request, name, value } => {
                    meta::set_pool(connection, name, value.as_deref())?;
                    Ok(Some(Answer::Kept { request: *request }))
                }
                Change::SetPause { request, pools, pause } => {
                    meta::set_pause(connection, pools, pause.as_ref())?;
                    Ok(Some(Answer::Kept { request: *request }))
                }
                Change::SetWorkers { request, pool, workers } => {
                    meta::set_workers(connection, pool, *workers)?;
                    Ok(Some(Answer::Kept { request: *request }))
                }
                Change::SetSchedules { request, schedules: all } => {
                    for (name, schedule) in all {
                        schedules::set(connection, name, schedule.as_ref())?;
                    }
                    Ok(Some(Answer::Kept { request: *request }))
                }
                Change::SetLimit { request, label, limit } => {
                    meta::set_limit(connection, label, *limit)?;
                    Ok(Some(Answer::Kept { request: *request }))
                }
            },
            Order::Question(Question::Records { request, ids }) => {
                let (records, missing, rest) = queries::get(connection, layout, ids)?;
                Ok(Some(Answer::Got { request: *request, records, missing, rest }))
            }
            Order::Question(Question::Definition { request, id }) => {
                let definition =
                    edit::definition(connection, environments, &layout.values, *id)?.map(Box::new);
                Ok(Some(Answer::Defined { request: *request, id: *id, definition }))
            }
            Order::Question(Question::Page { request, page }) => {
                let (records, entries, next) = match page.is_brief {
                    true => {
                        let (entries, next) = queries::list_in_brief(connection, page)?;
                        (Vec::new(), entries, next)
                    }
                    false => {
                        let (records, next) = queries::list(connection, layout, page)?;
                        (records, Vec::new(), next)
                    }
                };
                Ok(Some(Answer::Listed { request: *request, records, entries, next }))
            }
            Order::Question(Question::Counts { request }) => {
                let counts = queries::count(connection)?;
                let failed_callbacks = callbacks::count_failed(connection)?;
                Ok(Some(Answer::Tallied { request: *request, counts, failed_callbacks }))
            }
            Order::Question(Question::Line { request, line }) => {
                let head = queries::line_head(connection, line)?;
                Ok(Some(Answer::Line { request: *request, line: line.clone(), head }))
            }
            Order::Question(Question::Pace { request, pool }) => {
                let pace = pace::pace(connection, pool)?;
                Ok(Some(Answer::Pace { request: *request, pool: pool.clone(), pace }))
            }
            Order::Question(Question::Dependents { request, id, limit }) => {
                let (dependents, more) = dependents::list(connection, *id, *limit)?;
                Ok(Some(Answer::Dependents { request: *request, dependents, more }))
            }
            Order::Question(Question::Attempts { request, id }) => {
                let attempts = attempts::list(connection, *id)?;
                Ok(Some(Answer::Attempts { request: *request, attempts }))
            }
            Order::Question(Question::Keepers { request, keys }) => {
                let keepers = keys.iter().map(|key| keys::keeper(connection, key));
                let keepers = keepers.collect::<rusqlite::Result<Vec<_>>>()?;
                Ok(Some(Answer::Keepers { request: *request, keepers }))
            }
            Order::Question(Question::Callbacks { request, page }) => {
                let (callbacks, next) = callbacks::read(connection, layout, page)?;
                Ok(Some(Answer::Callbacks { request: *request, callbacks, next }))
            }
            Order::Question(Question::CountHeld { request }) => {
                Ok(Some(Answer::Counted { request: *request, held: queries::count_held(connection)? }))
            }
            Order::Fetch { line, after, limit } => {
                let (jobs, complete) =
                    queries::fetch(connection, environments, &layout.values, line, *after, *limit)?;
                Ok(Some(Answer::Fetched { line: line.clone(), jobs, complete }))
            }
            Order::Overdue { term, after, until_us, limit } => {
                let (jobs, next_us) = deadlines::overdue(connection, *term, *after, *until_us, *limit)?;
                let last = jobs.last().copied();
                let jobs = jobs.into_iter().map(|(_, id)| id).collect();
                Ok(Some(Answer::Overdue { term: *term, jobs, last, next_us }))
            }
            Order::Chore(chore) => match chore {
                Chore::Booted(boot) => meta::booted(connection, boot).map(|()| None),
                Chore::ReserveIds { below } => {
                    meta::reserve_ids(connection, *below)?;
                    Ok(Some(Answer::IdsReserved { below: *below }))
                }
                Chore::Prune(room) => {
                    prune::prune(connection, environments, &layout.values, history, room).map(Some)
                }
                // They are about the file, not about what is in it: the committer keeps them out of batches.
                Chore::Hold { .. } | Chore::LetGo { .. } => Ok(None),
            },
        }
    }
}

fn insert_jobs(
    connection: &Connection,
    environments: &mut Environments,
    layout: &Layout,
    syncs: bool,
    insertion: &Insertion,
) -> Result<Answer> {
    let &Insertion { request, first, first_callback, ref jobs, .. } = insertion;
    let give_up = || insertion.files.iter().for_each(|(_, file)| layout.values.give_up(file));
    if syncs && let Err(refusal) = sync_stdin(layout, jobs) {
        give_up();
        return Ok(Answer::Refused { request, refusal });
    }

    let refusal = match insert::insert(connection, environments, &layout.values, insertion)? {
        Inserted::All { existing, turns, conditions } => {
            let (jobs, is_synced) = (jobs.clone(), true);
            return Ok(Answer::Inserted { request, first, jobs, existing, turns, conditions, is_synced });
        }
        Inserted::HangsOnNothing(JobId(id)) => Refusal::NoSuchJob { id, pruned: None },
        Inserted::IdsGivenOut => {
            let what = "bug: insertion under ids that were given out before; refused";
            tracing::error!(job = %first, callback = %first_callback, "{what}");
            let reason = format!(
                "the ids from {first} on were given out before; please report this as a defect of poold"
            );
            Refusal::StoreFailed { reason }
        }
    };
    give_up();
    Ok(Answer::Refused { request, refusal })
}

fn place(
    connection: &Connection,
    environments: &mut Environments,
    layout: &Layout,
    history: &mut History,
    plain: &mut PlainJobs,
    moved: &Move,
) -> Result<Option<Answer>> {
    let id = moved.id;
    let plain = if matches!(moved.to, Place::Running(_)) { None } else { plain.take(id) };
    let is_plain = plain.is_some();
    let Some(left) = places::place(connection, &layout.values, moved, plain)? else {
        if moved.fence != Fence::Idle {
            let to = moved.to.state().as_str();
            let why = "has ended, is beyond that attempt or does not exist";
            tracing::error!(job = %id, fence = ?moved.fence, "bug: `{to}` for a job that {why}; ignored");
        }
        return Ok(Some(Answer::Lost { id }));
    };

    let Place::Ended(outcome) = &moved.to else {
        let attempt = moved.tries.attempts;
        return Ok(moved.worker_to_confirm().map(|worker| Answer::Placed { id, attempt, worker }));
    };
    let places::Left { line: dequeued, stdin, ended, turn, had_others, array } = left;
    if let Some((group, held_bytes)) = ended {
        history.census.shift(group, 1, signed(held_bytes));
    }
    let read_record = || match moved.want {
        Detail::Nothing => Ok(None),
        Detail::Record => Ok::<_, Error>(records::record(connection, layout, id)?.map(Box::new)),
    };
    if is_plain {
        // Nothing hangs on it: no callbacks, nobody's turn, no array, nobody who waits.
        let (record, callbacks, next, has_dependents, array) =
            (read_record()?, Vec::new(), None, false, None);
        return Ok(Some(Answer::Ended {
            id,
            record,
            callbacks,
            dequeued,
            stdin,
            next,
            has_dependents,
            array,
        }));
    }

    let callbacks = callbacks::release(connection, id, outcome.state, outcome.ended_us)?;
    let (array, has_dropped) = match array {
        None => (None, false),
        Some(array) if array == id => match arrays::close(connection, array)? {
            Some((tally, has_dropped)) => (Some(tally), has_dropped),
            None => (None, false),
        },
        Some(array) => (arrays::count_end(connection, array, outcome)?, false),
    };
    let record = read_record()?;
    let next = match turn {
        Some(name) => turns::pass_on(connection, environments, &layout.values, &name)?,
        None => None,
    };
    if had_others {
        dependents::forget(connection, id)?;
    }
    let has_dependents = dependents::ended(connection, id, outcome.state == State::Succeeded)? || has_dropped;
    let array = array.map(Box::new);
    Ok(Some(Answer::Ended { id, record, callbacks, dequeued, stdin, next, has_dependents, array }))
}

/// A job is not accepted before its input is as safe as it is.
fn sync_stdin(layout: &Layout, jobs: &[Arc<Work>]) -> Result<(), Refusal> {
    jobs.iter().filter_map(|work| work.stdin.as_deref()).try_for_each(|token| {
        (layout.sync_stdin)(&layout.state_dir, token).map_err(|error| {
            let dir = layout.state_dir.join("stdin");
            let reason = format!(
                "the standard input in {} cannot be synced: {error}; mend that and try again",
                dir.display()
            );
            Refusal::StoreFailed { reason }
        })
    })
}
