//! A lane that carries one command at a time, whose output comes as descriptors.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Context;
use pool_proto::interface::{OnDisconnect, Progress, ProgressEvent, Submit, Wait};
use pool_proto::{Client, ClientError};

use super::lane::{End, Ended, Event, Job, Lane, Load};
use super::template::Template;
use crate::connect::Link;

#[derive(Debug)]
struct Flight {
    load: Load,
    /// Once it is accepted.
    id: Option<u64>,
    existing: bool,
    started: bool,
    /// Of the latest attempt: stdout and stderr.
    files: Option<(File, File)>,
}

/// See the module's description.
#[derive(Debug)]
pub struct Single {
    client: Client,
    on_disconnect: OnDisconnect,
    flight: Option<Flight>,
}

impl Single {
    pub fn new(client: Client, on_disconnect: OnDisconnect) -> Self {
        Self { client, on_disconnect, flight: None }
    }

    fn send(&mut self, template: &Template) -> io::Result<()> {
        let Some(flight) = &self.flight else { return Ok(()) };
        let on_disconnect = Some(self.on_disconnect);
        match flight.id {
            Some(id) => self
                .client
                .send(&Wait { ids: vec![id], output: Some(true), on_disconnect, ..Wait::default() }, true),
            None => self.client.send(&Submit { job: template.whole(&flight.load), on_disconnect }, true),
        }
    }
}

impl Lane for Single {
    fn start(&mut self, template: &Template, loads: Vec<Load>) {
        let flight = |load| Flight { load, id: None, existing: false, started: false, files: None };
        self.flight = loads.into_iter().next().map(flight);
        let _ = self.send(template);
    }

    fn is_idle(&self) -> bool {
        self.flight.is_none()
    }

    fn jobs(&self) -> Vec<Job> {
        self.flight
            .iter()
            .filter_map(|flight| Some(Job { id: flight.id?, started: flight.started }))
            .collect()
    }

    fn fill(&mut self) -> Result<bool, ClientError> {
        match self.client.fill() {
            Err(ClientError::Disconnected(_)) => Ok(false),
            other => other,
        }
    }

    fn next(&mut self, _template: &Template) -> Result<Option<Event>, ClientError> {
        while let Some(flight) = &mut self.flight {
            let Some((progress, _)) = self.client.next_reply::<Wait>()? else { break };
            let Progress { event, id, descriptors, record, existing, .. } = progress;
            match event {
                ProgressEvent::Accepted => {
                    flight.id = Some(id);
                    flight.existing = existing.unwrap_or(false);
                    return Ok(Some(Event::Accepted(vec![id])));
                }
                ProgressEvent::Started => {
                    flight.started = true;
                    flight.files = match descriptors {
                        Some(2) => Some((
                            self.client.take_descriptor()?.into(),
                            self.client.take_descriptor()?.into(),
                        )),
                        Some(_) | None => None,
                    };
                }
                // Commands tell of none.
                ProgressEvent::Progress => {}
                ProgressEvent::Ended => {
                    let record = record
                        .ok_or_else(|| ClientError::Unexpected("an end without a record".to_owned()))?;
                    let ended = |Flight { load, existing, files, .. }| {
                        Event::Ended(Ended { item: load.item, existing, end: End::Command { record, files } })
                    };
                    return Ok(self.flight.take().map(ended));
                }
            }
        }
        Ok(None)
    }

    fn reconnect(&mut self, link: &Link, template: &Template) -> anyhow::Result<()> {
        self.client = link.reconnect().context("the map is cut off")?;
        let _ = self.send(template);
        Ok(())
    }

    fn give_up(&mut self) -> Vec<Load> {
        self.flight.take().map(|flight| flight.load).into_iter().collect()
    }
}

impl AsFd for Single {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}
