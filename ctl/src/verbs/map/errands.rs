//! What poold is told about the jobs in flight when a map ends early: signals and cancellations. A thread of
//! its own tells poold, one errand after the other. So the map hears signals and prints output even if poold
//! is away, is stopped, or hangs.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use anyhow::Context;
use pool_proto::methods::{Cancel, Signal};
use pool_proto::{Client, ClientError, Refusal};

use crate::link::connect::Link;
use crate::term::text::say;

/// How many times poold may go away before it replies to the signal of one job.
const MAX_LOSSES: u32 = 5;

/// What poold has to be told. The ids are those of accepted jobs.
#[derive(Debug)]
pub enum Errand {
    /// Running jobs get the signal, in this order. Then the others are canceled.
    Interrupt { signal: i32, ids: Vec<u64> },
    /// The jobs are canceled.
    Cancel(Vec<u64>),
    /// The jobs that have not started are canceled.
    CancelUnstarted(Vec<u64>),
}

/// See the module's description.
#[derive(Debug)]
pub struct Errands {
    link: Link,
    /// The way to the thread, from the first errand on: most maps have none.
    thread: Option<Sender<Errand>>,
}

impl Errands {
    /// No errands yet.
    pub fn new(link: Link) -> Self {
        Self { link, thread: None }
    }

    /// Has poold told after all earlier errands. The thread ends with poolctl.
    pub fn add(&mut self, errand: Errand) {
        let (Errand::Interrupt { ids, .. } | Errand::Cancel(ids) | Errand::CancelUnstarted(ids)) = &errand;
        if ids.is_empty() {
            return;
        }

        let link = &self.link;
        let thread = self.thread.get_or_insert_with(|| start(link.clone()));
        thread.send(errand).expect("the thread takes errands for as long as poolctl lives");
    }
}

fn start(link: Link) -> Sender<Errand> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || run(&link, &receiver));
    sender
}

fn run(link: &Link, errands: &Receiver<Errand>) {
    // poold replies to Cancel when the jobs have ended, which the map waits for anyway. The connections stay
    // open until then.
    let mut cancels = Vec::new();

    for errand in errands {
        let told = match errand {
            Errand::Interrupt { signal, ids } => interrupt(link, signal, &ids).map(|ids| (ids, false)),
            Errand::Cancel(ids) => Ok((ids, false)),
            Errand::CancelUnstarted(ids) => Ok((ids, true)),
        };
        let told = told.and_then(|(ids, unstarted)| cancel(link, ids, unstarted, &mut cancels));
        if let Err(error) = told {
            say(format_args!("poold cannot be told what happens to the jobs in flight: {error:#}"));
        }
    }
}

/// Passes the signal on. Returns the jobs that do not run.
fn interrupt(link: &Link, signal: i32, ids: &[u64]) -> anyhow::Result<Vec<u64>> {
    let mut client = link.reconnect()?;
    let mut not_running = Vec::new();
    for &id in ids {
        let mut losses = 0;
        loop {
            match client.request(&Signal { id, signal }) {
                Ok(_) => break,
                Err(ClientError::Refused(Refusal::NotRunning { .. })) => {
                    not_running.push(id);
                    break;
                }
                // The job has been pruned meanwhile, or was kept in the memory of a poold that has gone.
                Err(ClientError::Refused(Refusal::NoSuchJob { .. })) => break,
                // An attempt that got the signal before has died with poold, so no attempt gets it twice.
                Err(ClientError::Disconnected(_)) if losses < MAX_LOSSES => {
                    losses += 1;
                    client = link.reconnect()?;
                }
                Err(error) => return Err(error).with_context(|| format!("job {id} gets no signal")),
            }
        }
    }
    Ok(not_running)
}

fn cancel(link: &Link, ids: Vec<u64>, unstarted: bool, cancels: &mut Vec<Client>) -> anyhow::Result<()> {
    if !ids.is_empty() {
        let mut client = link.reconnect()?;
        client.send(&Cancel { ids, unstarted: Some(unstarted), ..Cancel::default() }, false)?;
        cancels.push(client);
    }
    Ok(())
}
