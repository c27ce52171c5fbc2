//! `poolctl callbacks retry` and `drop`.

use std::collections::{BTreeSet, HashMap, HashSet};

use clap::Args;
use pool_proto::Method;
use pool_proto::methods::{CallbacksAltered, DropCallbacks, MAX_RELEASED, RetryCallbacks};

use super::wanted::{Found, Wanted, wanted};
use crate::exit::ExitReason;
use crate::term::text::say;
use crate::verbs::Context;

/// Run callbacks again that poold has given up, or that were dropped
///
/// They run after those that are pending already, under their ids, with as many attempts as new ones.
#[derive(Debug, Args)]
pub struct RetryCallbacksOptions {
    /// Callbacks by 7 or 3-9; failed: all that poold has given up; those of jobs by job:12, last, @label and
    /// others
    #[arg(required = true, value_name = "CALLBACK", value_parser = wanted())]
    callbacks: Vec<Wanted>,
}

/// Drop callbacks that wait, or that poold has given up
///
/// They do not run any more, and nobody is reminded of them. `retry` takes it back.
#[derive(Debug, Args)]
pub struct DropCallbacksOptions {
    /// Callbacks by 7 or 3-9; failed: all that poold has given up; those of jobs by job:12, last, @label and
    /// others
    #[arg(required = true, value_name = "CALLBACK", value_parser = wanted())]
    callbacks: Vec<Wanted>,
}

impl RetryCallbacksOptions {
    /// Runs callbacks again. Those that cannot be run again are named.
    ///
    /// # Errors
    /// When poold has gone, or refuses.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        alter(context, &self.callbacks, |ids| RetryCallbacks { ids }, "can be run again")
    }
}

impl DropCallbacksOptions {
    /// Drops callbacks. Those that cannot be dropped are named.
    ///
    /// # Errors
    /// When poold has gone, or refuses.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        alter(context, &self.callbacks, |ids| DropCallbacks { ids }, "can be dropped")
    }
}

/// Has something done with callbacks, and names those with which it was not done. Of a range those are taken
/// with which it can be done.
fn alter<M: Method<Reply = CallbacksAltered>>(
    context: &Context,
    wanted: &[Wanted],
    request: impl Fn(Vec<u64>) -> M,
    what: &str,
) -> anyhow::Result<ExitReason> {
    let mut client = context.link.connect()?;
    let (mut all, mut exit) = (Vec::new(), ExitReason::Success);
    for wanted in wanted {
        match wanted.find(&mut client)? {
            Some(found) => all.push(found),
            None => exit = ExitReason::Failed,
        }
    }

    let ids: BTreeSet<u64> = all.iter().flat_map(|found| &found.ids).copied().collect();
    let ids: Vec<u64> = ids.into_iter().collect();
    let (mut altered, mut others) = (HashSet::new(), HashMap::new());
    for some in ids.chunks(MAX_RELEASED) {
        let reply = client.request(&request(some.to_vec()))?;
        altered.extend(reply.ids);
        others.extend(reply.others.into_iter().map(|other| (other.id, other.reason)));
    }

    for Found { name, ids, must_fit } in all {
        if !must_fit || ids.iter().any(|id| altered.contains(id)) {
            continue;
        }
        exit = ExitReason::Failed;
        match name {
            Some(name) => say(format_args!("none of the callbacks {name} {what}")),
            None => ids.iter().filter_map(|id| others.get(id)).for_each(say),
        }
    }
    Ok(exit)
}
