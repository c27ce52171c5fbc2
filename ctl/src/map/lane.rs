//! A connection that takes one job at a time from its submission to its end, over restarts of poold. A map has as many as it keeps jobs
//! in flight: so each job can be tied to us, and its output comes as descriptors.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Context;
use pool_proto::interface::{OnDisconnect, Progress, ProgressEvent, Submit, Wait};
use pool_proto::{Client, ClientError, Record};

use super::items::Item;
use super::template::Template;
use crate::connect::Link;

/// An item on its way.
#[derive(Debug)]
pub struct Flight {
    pub item: Item,
    /// How many equal items came before.
    pub occurrence: u32,
    /// Once it is accepted.
    id: Option<u64>,
    /// It was there before it was submitted.
    existing: bool,
    started: bool,
    /// Of the latest attempt: stdout and stderr.
    files: Option<(File, File)>,
}

/// One that has not ended, as far as we know.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    pub id: u64,
    pub started: bool,
}

/// An item whose job has ended.
#[derive(Debug)]
pub struct Ended {
    pub item: Item,
    pub record: Box<Record>,
    pub existing: bool,
    pub files: Option<(File, File)>,
}

#[derive(Debug)]
pub enum Event {
    Accepted(u64),
    Ended(Ended),
}

/// See the module's description.
#[derive(Debug)]
pub struct Lane {
    client: Client,
    on_disconnect: OnDisconnect,
    flight: Option<Flight>,
}

impl Lane {
    pub fn new(client: Client, on_disconnect: OnDisconnect) -> Self {
        Self { client, on_disconnect, flight: None }
    }

    pub fn is_idle(&self) -> bool {
        self.flight.is_none()
    }

    /// The job in flight, once it is accepted.
    pub fn job(&self) -> Option<Job> {
        self.flight.as_ref().and_then(|flight| Some(Job { id: flight.id?, started: flight.started }))
    }

    /// Submits the item's job. A connection that is lost meanwhile shows when it is read.
    pub fn start(&mut self, template: &Template, item: Item, occurrence: u32) {
        self.flight = Some(Flight { item, occurrence, id: None, existing: false, started: false, files: None });
        let _ = self.send(template);
    }

    fn send(&mut self, template: &Template) -> io::Result<()> {
        let Some(flight) = &self.flight else { return Ok(()) };
        let on_disconnect = Some(self.on_disconnect);
        match flight.id {
            Some(id) => self.client.send(&Wait { ids: vec![id], any: None, output: Some(true), on_disconnect }, true),
            None => self.client.send(&Submit { job: template.job(&flight.item, flight.occurrence), on_disconnect }, true),
        }
    }

    /// Goes on with another connection. An item of which it is not known whether its job was accepted is submitted once more: without a
    /// key it may run twice then, as an attempt does that died with its daemon.
    ///
    /// # Errors
    /// When poold does not come back.
    pub fn reconnect(&mut self, link: &Link, template: &Template) -> anyhow::Result<()> {
        self.client = link.reconnect().context("the map is cut off")?;
        let _ = self.send(template);
        Ok(())
    }

    /// The next that has happened, of what has been read already.
    ///
    /// # Errors
    /// When poold refuses.
    pub fn next(&mut self) -> Result<Option<Event>, ClientError> {
        while let Some(flight) = &mut self.flight {
            let Some((progress, _)) = self.client.next_reply::<Wait>()? else { break };
            let Progress { event, id, descriptors, record, existing, .. } = progress;
            match event {
                ProgressEvent::Accepted => {
                    flight.id = Some(id);
                    flight.existing = existing.unwrap_or(false);
                    return Ok(Some(Event::Accepted(id)));
                }
                ProgressEvent::Started => {
                    flight.started = true;
                    let has_files = descriptors == Some(2);
                    flight.files = if has_files {
                        Some((self.client.take_descriptor()?.into(), self.client.take_descriptor()?.into()))
                    } else {
                        None
                    };
                }
                // Commands tell of none.
                ProgressEvent::Progress => {}
                ProgressEvent::Ended => {
                    let record = record.ok_or_else(|| ClientError::Unexpected("an end without a record".to_owned()))?;
                    let flight = self.flight.take().map(|Flight { item, existing, files, .. }| (item, existing, files));
                    return Ok(flight.map(|(item, existing, files)| Event::Ended(Ended { item, record, existing, files })));
                }
            }
        }
        Ok(None)
    }

    /// Reads once; false when poold is gone.
    ///
    /// # Errors
    /// When poold is not understood.
    pub fn fill(&mut self) -> Result<bool, ClientError> {
        match self.client.fill() {
            Err(ClientError::Disconnected(_)) => Ok(false),
            other => other,
        }
    }

    /// Takes what is in flight off this lane.
    pub fn give_up(&mut self) -> Option<Flight> {
        self.flight.take()
    }
}

impl AsFd for Lane {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}
