//! `poolctl release`: queues held jobs again.

use std::collections::HashSet;

use clap::Args;
use pool_proto::methods::{Get, List, MAX_RELEASED, Release};
use pool_proto::{Client, ClientError, Refusal, State};

use super::Context;
use super::selection::{Scope, Selection, ids_of, unmade_of};
use crate::cli::selector::{Selector, selector};
use crate::exit::ExitReason;

/// Queue held jobs again
#[derive(Debug, Args)]
pub struct ReleaseOptions {
    /// Jobs by 12, 3-9, last, all, @label, name:x, state:x or pool:x; of several those that are held
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,
}

impl ReleaseOptions {
    /// Queues held jobs again. Jobs that are not held, or do not exist, are named.
    ///
    /// # Errors
    /// When poold has gone, or cannot write its store.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let mut selection = Selection::find(&mut client, &self.jobs, Scope::HELD)?;
        let mut released = HashSet::new();
        'look: loop {
            let mut kept = held(&mut client)?;
            kept.extend(&released);
            selection.leave_out_others(&kept, |id| Some(why_not(&mut client, id)), "is held");

            let left = selection.ids().iter().copied().filter(|id| !released.contains(id));
            let left: Vec<u64> = left.collect();
            for some in left.chunks(MAX_RELEASED) {
                match client.request(&Release { ids: some.to_vec() }) {
                    // Another client has released or canceled a job in this moment.
                    Err(ClientError::Refused(Refusal::NotHeld { .. })) => continue 'look,
                    Err(error) => return Err(error.into()),
                    Ok(_) => released.extend(some),
                }
            }
            return Ok(selection.exit());
        }
    }
}

/// The ids of all held jobs.
fn held(client: &mut Client) -> Result<HashSet<u64>, ClientError> {
    let list = List { states: Some(vec![State::Held]), ..List::default() };
    Ok(ids_of(client, &list, |_| true)?.into_iter().collect())
}

fn why_not(client: &mut Client, id: u64) -> String {
    match client.request(&Get { id }) {
        Ok(got) => match (unmade_of(&got.record), got.record.state) {
            (Some(array), State::Held) => format!(
                "job {id} is an element of array {array}, which is held and has not come to it: `poolctl release \
                 {array}` releases the array"
            ),
            (_, state) if state.is_terminal() => {
                format!("job {id} has ended ({}), so it is not held", state.as_str())
            }
            (_, state) => format!("job {id} is {}, not held", state.as_str()),
        },
        Err(error) => error.to_string(),
    }
}
