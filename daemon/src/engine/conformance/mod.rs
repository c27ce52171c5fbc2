//! What every backing must do, as stories that are run against each: [`Memory`] and [`Sqlite`], and whatever
//! comes third.
//!
//! A story knows no more than the contract: answers come in the order of the orders, a fence that does not
//! hold changes nothing, a wait ends with its trigger, and what was answered is there after a restart. A new
//! backing implements [`Stage`] and gets a module below.

mod arrays;
mod callbacks;
mod conditions;
mod edits;
mod life;
mod line;
mod listings;
mod reruns;
mod upkeep;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use pool_proto::Record;
use tempfile::TempDir;

use super::memory::Memory;
use super::orders::*;
use super::sqlite::{Durability, Options, Sqlite, ValueFiles};
use super::{Answer, Backing, Boot, Order, Restored, Told};
use crate::job::{CallbackId, JobId, RequestId};

/// A request that no story makes: the answer to it comes after all answers to what was asked before.
const FENCE: u64 = u64::MAX;

/// A backing on trial, and how a story waits for it and starts it anew.
trait Stage {
    fn backing(&mut self) -> &mut dyn Backing;

    /// Returns once there may be something to hear.
    fn wait(&mut self);

    /// Ends the backing in order and starts it anew, as far as it lasts.
    fn restart(&mut self) -> Restored;
}

/// A stage, and what stories do on it.
struct Trial(Box<dyn Stage>);

impl Trial {
    /// Carries out orders; the answers to them.
    fn run(&mut self, mut orders: Vec<Order>) -> Vec<Answer> {
        orders.push(records(FENCE, &[]));
        self.0.backing().submit(orders);
        let mut answers = Vec::new();
        loop {
            while let Some(told) = self.0.backing().next() {
                match told {
                    Told::Answer(Answer::Got { request: RequestId(FENCE), .. }) => return answers,
                    Told::Answer(answer) => answers.push(answer),
                    told => panic!("{told:?} after {answers:?}"),
                }
            }
            self.0.wait();
        }
    }

    /// The answer to an order that has just one.
    fn answer(&mut self, order: Order) -> Answer {
        let mut answers = self.run(vec![order]);
        match (answers.pop(), answers.is_empty()) {
            (Some(answer), true) => answer,
            other => panic!("one answer expected, not {other:?} after {answers:?}"),
        }
    }

    /// Carries out orders that nobody is told of.
    fn quietly(&mut self, orders: Vec<Order>) {
        assert_eq!(self.run(orders), [], "nobody waits for an answer");
    }

    fn insert(&mut self, first: u64, jobs: Vec<std::sync::Arc<crate::job::Work>>) {
        let inserted = self.answer(insert(first, first * 10, jobs));
        assert!(matches!(inserted, Answer::Inserted { .. }), "{inserted:?}");
    }

    fn record(&mut self, id: u64) -> Record {
        match self.answer(records(1, &[id])) {
            Answer::Got { mut records, .. } => records.pop().expect("there is such a job"),
            other => panic!("{other:?}"),
        }
    }

    /// The jobs in the line of the pool that the tests' jobs are of.
    fn line(&mut self) -> Vec<u64> {
        match self.answer(fetch(None, 1000)) {
            Answer::Fetched { jobs, complete: true, .. } => jobs.iter().map(|job| job.id.0).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn restart(&mut self) -> Restored {
        self.0.restart()
    }
}

/// Answers at once, and does not last; its restart is that of the daemon's machines alone.
struct InMemory(Memory);

impl Stage for InMemory {
    fn backing(&mut self) -> &mut dyn Backing {
        &mut self.0
    }

    fn wait(&mut self) {
        panic!("everything is answered at once");
    }

    fn restart(&mut self) -> Restored {
        self.0.restored()
    }
}

/// In a directory of its own.
struct OnDisk {
    dir: TempDir,
    sqlite: Option<Sqlite>,
    notified: Receiver<()>,
}

impl OnDisk {
    fn open(dir: &Path) -> (Sqlite, Receiver<()>, Restored) {
        fn callback_paths(dir: &Path, id: CallbackId, attempt: u32) -> (PathBuf, PathBuf) {
            (dir.join(format!("{id}.{attempt}.out")), dir.join(format!("{id}.{attempt}.err")))
        }
        fn output_paths(dir: &Path, id: JobId, attempt: u32) -> (PathBuf, PathBuf) {
            (dir.join(format!("{id}.{attempt}.out")), dir.join(format!("{id}.{attempt}.err")))
        }
        let options = Options {
            durability: Durability::Crash,
            output_paths,
            callback_paths,
            sync_stdin: |_, _| Ok(()),
            values: ValueFiles {
                write: |_, _, _, _| Err(io::ErrorKind::StorageFull.into()),
                read: |_, _, _| Err(io::ErrorKind::NotFound.into()),
                remove: |_, _| (),
                list: |_| Vec::new(),
            },
            boot: Boot { id: None, began_us: Some(NOW_US) },
            since_boot: Duration::from_secs(1),
        };
        let (notify, notified) = mpsc::channel();
        let (sqlite, restored) = Sqlite::open(dir, options, move || _ = notify.send(())).expect("it opens");
        (sqlite, notified, restored)
    }
}

impl Stage for OnDisk {
    fn backing(&mut self) -> &mut dyn Backing {
        self.sqlite.as_mut().expect("it is open between restarts")
    }

    fn wait(&mut self) {
        self.notified.recv_timeout(Duration::from_secs(30)).expect("it goes on");
    }

    fn restart(&mut self) -> Restored {
        let sqlite = self.sqlite.take().expect("it is open between restarts");
        sqlite.close().expect("everything can be written");
        let (sqlite, notified, restored) = Self::open(self.dir.path());
        (self.sqlite, self.notified) = (Some(sqlite), notified);
        restored
    }
}

fn in_memory() -> Trial {
    Trial(Box::new(InMemory(Memory::default())))
}

fn on_disk() -> Trial {
    let dir = tempfile::tempdir().unwrap();
    let (sqlite, notified, _) = OnDisk::open(dir.path());
    Trial(Box::new(OnDisk { dir, sqlite: Some(sqlite), notified }))
}

/// A test for each story, on a stage.
macro_rules! tests {
    ($make:path; $($file:ident { $($story:ident,)+ })+) => {
        $($(
            #[test]
            fn $story() {
                super::$file::$story(&mut $make());
            }
        )+)+
    };
}

/// All stories, on a stage.
macro_rules! stories {
    ($make:path) => {
        tests! {
            $make;
            edits {
                what_waits_may_be_edited,
                what_an_edit_makes_it_wait_for_is_waited_for,
                what_does_not_suit_a_job_is_not_made_of_it,
                a_job_is_told_as_it_was_submitted_and_edited,
            }
            arrays {
                an_array_is_unfolded_in_its_place_a_piece_at_a_time,
                an_element_is_what_its_array_was_submitted_as,
                an_element_that_is_not_made_is_told_and_may_be_ended,
                an_array_is_folded_and_its_elements_are_named_in_pieces,
                elements_are_run_again_and_their_array_goes_on,
                what_is_to_run_after_an_element_that_is_never_made_is_settled,
                a_start_finds_how_far_an_array_has_come,
            }
            callbacks {
                what_was_given_up_is_pending_again_and_its_job_kept,
                what_is_dropped_does_not_begin,
                callbacks_are_told_page_by_page,
                failed_callbacks_are_counted,
            }
            conditions {
                a_job_begins_after_others_as_they_have_ended,
                what_a_job_is_to_run_after_may_have_ended_and_must_exist,
                a_job_waits_for_one_thing_after_the_other,
                a_plain_job_has_others_after_it_all_the_same,
                who_is_to_run_after_a_job_is_told_and_no_more,
                a_turn_may_come_while_a_job_waits_for_something_else,
                what_fails_takes_those_along_that_need_its_success,
                what_waits_is_held_and_waits_for_the_rest_when_it_is_released,
                what_waits_may_come_into_another_pool,
                a_job_is_due_by_the_clock_on_the_wall,
                what_waits_for_a_time_of_the_walls_clock_follows_that,
            }
            life {
                a_job_goes_from_its_line_to_its_end,
                a_move_whose_fence_does_not_hold_is_lost_and_changes_nothing,
                an_idle_fence_holds_in_line_and_while_waiting,
                a_start_that_must_not_happen_twice_is_confirmed,
                a_start_may_be_told_with_what_follows_it,
                a_crash_is_remembered_until_somebody_releases_the_job,
                callbacks_become_pending_once_and_are_delivered_until_that_succeeds,
                a_start_finds_what_was_interrupted,
            }
            line {
                new_jobs_are_added_all_or_none,
                a_key_is_held_by_one_job,
                who_has_a_key_is_told_as_an_insertion_would_find_it,
                what_is_held_is_counted,
                a_unique_name_is_one_jobs_at_a_time,
                who_joins_a_name_joins_the_job_that_takes_the_place_of_others,
                a_wait_for_another_job_ends_with_its_end,
                what_is_replaced_is_known_until_it_has_ended,
                a_key_decides_before_a_unique_name,
                who_has_not_ended_by_its_deadline_is_told,
                who_has_not_begun_in_time_is_told,
                a_line_goes_by_priority_and_then_by_id,
                what_has_the_same_labels_is_a_line_of_its_own,
                what_takes_as_many_slots_and_resources_is_a_line_of_its_own,
                the_beginning_of_a_line_is_told_and_no_more,
                how_a_pool_works_off_its_jobs_is_told,
                a_wait_for_a_time_ends_when_it_has_come,
                a_wait_for_a_person_ends_with_a_release,
                an_attempt_may_end_a_wait_itself,
            }
            listings {
                a_brief_listing_has_the_same_jobs,
                the_newest_come_first_on_request,
                filters_let_through_what_fits,
                a_pool_is_listed_as_its_lines_will_be_taken,
                the_latest_end_comes_first_on_request,
                jobs_are_counted_by_state,
            }
            reruns {
                a_job_that_has_ended_begins_a_new_round,
    attempts_that_others_follow_are_told_in_order, what_is_of_a_closed_pool_is_neither_released_nor_run_again,
                what_cannot_be_run_again_stays_as_it_is,
                what_was_canceled_for_another_jobs_sake_looks_at_that_job_anew,
            }
            upkeep {
                answers_come_in_the_order_of_the_orders,
                questions_are_answered_in_their_order_and_page_by_page,
                jobs_of_several_states_are_listed_in_their_order,
                what_ended_first_is_pruned_first,
                too_many_bytes_cost_output_and_results_and_leave_the_records,
                what_somebody_waits_for_is_spared_and_keys_and_failures_go_last,
                a_pool_that_is_flooded_pays_for_it,
                a_job_with_a_callback_to_deliver_is_not_pruned,
                pools_ids_and_the_boot_are_kept,
                workers_are_kept_until_they_are_reset_or_the_pool_is_forgotten,
                schedules_are_kept_until_they_are_forgotten,
                pauses_are_kept_until_the_pool_is_resumed_or_forgotten,
                limits_are_kept_and_an_exclusive_job_brings_one_along,
                a_backup_is_answered_and_ends_once,
                what_has_ended_is_removed_by_name,
            }
        }
    };
}

mod memory {
    stories!(super::in_memory);
}

mod sqlite {
    stories!(super::on_disk);
}
