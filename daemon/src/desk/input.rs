//! The standard input of running jobs, which clients write: opened, ended, resized. What is written goes from
//! the client to the job; poold passes on a descriptor, and no byte.

use pool_proto::methods::{Empty, Resize};
use pool_proto::nouns::Input;
use pool_proto::{Refusal, State};

use super::request::Open;
use super::signal::not_running;
use super::{Desk, Effect};
use crate::core::{self, Core, Reach};
use crate::engine::Question;
use crate::job::{JobId, RequestId, Steer};

/// Why a job has no input.
const NOT_OPEN: &str =
    "was submitted without an input that stays open: submit it with --stdin open, or with --pty";

impl Desk {
    pub(super) fn on_open_input(&mut self, request: RequestId, id: JobId, core: &Core) {
        if let Some((attempt, input)) = self.input_of(request, id, core) {
            self.effects.push(Effect::ReplyInput { request, id, attempt, input });
        }
    }

    pub(super) fn on_input_missing(&mut self, request: RequestId, id: JobId, reason: String, core: &Core) {
        match core.input_of(id) {
            Some(_) => self.refuse(request, no_input(id, &reason)),
            // It has ended since.
            None => self.on_open_input(request, id, core),
        }
    }

    pub(super) fn on_close_input(&mut self, request: RequestId, id: JobId, core: &Core) {
        match self.input_of(request, id, core) {
            Some((_, Input::Pipe)) => self.steer(request, id, Steer::CloseInput),
            Some((_, Input::Terminal)) => {
                self.refuse(request, no_input(id, "has a terminal, whose input ends with a Ctrl-D"));
            }
            None => {}
        }
    }

    pub(super) fn on_resize(&mut self, request: RequestId, asked: &Resize, core: &Core) {
        let &Resize { id, rows, columns } = asked;
        if rows == 0 || columns == 0 {
            let parameter = "rows, columns: must be greater than 0".to_owned();
            return self.refuse(request, Refusal::InvalidParameter { parameter });
        }
        let id = JobId(id);
        match self.input_of(request, id, core) {
            Some((_, Input::Terminal)) => self.steer(request, id, Steer::Resize { rows, columns }),
            Some((_, Input::Pipe)) => self.refuse(request, no_input(id, "has a pipe, which has no size")),
            None => {}
        }
    }

    fn steer(&mut self, request: RequestId, id: JobId, steer: Steer) {
        self.command(core::Event::Steer { id, steer });
        self.reply(request, Empty {}, true);
    }

    /// The attempt of a running job, and what its input is; else the client is told why not.
    fn input_of(&mut self, request: RequestId, id: JobId, core: &Core) -> Option<(u32, Input)> {
        match core.reachable(id) {
            Reach::Running if core.attempt_of(id).is_some() => {
                let input = core.input_of(id);
                if input.is_none() {
                    self.refuse(request, no_input(id, NOT_OPEN));
                }
                return input;
            }
            Reach::Running if core.is_begun_array(id) => {
                self.refuse(request, no_input(id, "is an array: name one of its elements"));
            }
            Reach::Running | Reach::NotHanded => self.refuse(request, not_running(id, State::Queued)),
            Reach::Unknown => {
                self.requests.insert(request, Open::Signaling);
                self.ask(Question::Records { request, ids: vec![id] });
            }
        }
        None
    }
}

fn no_input(id: JobId, why: &str) -> Refusal {
    Refusal::NoInput { id: id.0, reason: format!("job {id} {why}") }
}
