//! A lane that carries one command at a time. The output of the command comes as descriptors.

use std::fs::File;

use pool_proto::ClientError;
use pool_proto::methods::{Submit, Wait};
use pool_proto::nouns::{OnDisconnect, Progress, ProgressEvent};

use super::lane::{EndedItem, InFlight, Lane, LaneEvent, Load, Returned};
use super::template::Template;
use crate::link::session::Session;

#[derive(Debug)]
struct Flight {
    load: Load,
    /// The id of the job, when it is accepted.
    id: Option<u64>,
    existing: bool,
    started: bool,
    /// The stdout and stderr of the latest attempt.
    files: Option<(File, File)>,
}

/// See the module's description.
#[derive(Debug)]
pub struct SingleLane<'a> {
    session: Session<'a>,
    on_disconnect: OnDisconnect,
    flight: Option<Flight>,
}

impl<'a> SingleLane<'a> {
    /// An idle lane on this connection.
    pub fn new(session: Session<'a>, on_disconnect: OnDisconnect) -> Self {
        Self { session, on_disconnect, flight: None }
    }

    fn ask(&mut self, template: &Template) {
        let Some(flight) = &self.flight else { return };
        let on_disconnect = Some(self.on_disconnect);
        match flight.id {
            Some(id) => {
                let wait = Wait {
                    ids: vec![id],
                    output: Some(true),
                    obstacles: Some(true),
                    on_disconnect,
                    ..Wait::default()
                };
                self.session.ask(&wait);
            }
            None => {
                let job = template.whole(&flight.load);
                self.session.ask(&Submit { job, on_disconnect, obstacles: Some(true) });
            }
        }
    }
}

impl<'a> Lane<'a> for SingleLane<'a> {
    fn start(&mut self, template: &Template, loads: Vec<Load>) {
        let flight = |load| Flight { load, id: None, existing: false, started: false, files: None };
        self.flight = loads.into_iter().next().map(flight);
        self.ask(template);
    }

    fn is_idle(&self) -> bool {
        self.flight.is_none()
    }

    fn jobs(&self) -> Vec<InFlight> {
        self.flight
            .iter()
            .filter_map(|flight| Some(InFlight { id: flight.id?, started: flight.started }))
            .collect()
    }

    fn session(&self) -> &Session<'a> {
        &self.session
    }

    fn session_mut(&mut self) -> &mut Session<'a> {
        &mut self.session
    }

    fn next(&mut self, _template: &Template) -> Result<Option<LaneEvent>, ClientError> {
        while let Some(flight) = &mut self.flight {
            let Some((progress, _)) = self.session.next_reply::<Wait>()? else { break };
            let Progress { event, id, descriptors, record, existing, obstacle, .. } = progress;
            match event {
                ProgressEvent::Accepted => {
                    flight.id = Some(id);
                    flight.existing = existing.unwrap_or(false);
                    return Ok(Some(LaneEvent::Accepted(vec![id])));
                }
                ProgressEvent::Started => {
                    flight.started = true;
                    flight.files = match descriptors {
                        Some(2) => Some((
                            self.session.take_descriptor()?.into(),
                            self.session.take_descriptor()?.into(),
                        )),
                        Some(_) | None => None,
                    };
                }
                // Commands have no progress, and those of a map no unique names.
                ProgressEvent::Progress | ProgressEvent::Skipped => {}
                ProgressEvent::Waiting => {
                    if let Some(obstacle) = obstacle {
                        return Ok(Some(LaneEvent::Obstacle(obstacle)));
                    }
                }
                ProgressEvent::Ended => {
                    let record = record
                        .ok_or_else(|| ClientError::Unexpected("an end without a record".to_owned()))?;
                    let ended = |Flight { load, existing, files, .. }| {
                        LaneEvent::Ended(EndedItem {
                            item: load.item,
                            existing,
                            end: Returned::Command { record, files },
                        })
                    };
                    return Ok(self.flight.take().map(ended));
                }
            }
        }
        Ok(None)
    }

    fn ask_again(&mut self, template: &Template) {
        self.ask(template);
    }

    fn give_up(&mut self) -> Vec<Load> {
        self.flight.take().map(|flight| flight.load).into_iter().collect()
    }
}
