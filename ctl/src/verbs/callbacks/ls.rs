//! `poolctl callbacks ls`.

use clap::Args;
use pool_proto::methods::{Callbacks, GetCallback};
use pool_proto::nouns::{CallbackRecord, SCHEMA};
use pool_proto::{Client, ClientError, Refusal};

use super::wanted::of_jobs;
use crate::cli::selector::{Selector, selector};
use crate::exit::ExitReason;
use crate::tell::callback;
use crate::term::text::hint;
use crate::term::{json, text};
use crate::verbs::Context;

/// List open callbacks, or all callbacks of jobs
///
/// Without jobs: those that wait for their turn or for their next attempt, those that run, and those that
/// poold has given up.
#[derive(Debug, Args)]
pub struct ListCallbacksOptions {
    /// All callbacks of these jobs, in whatever state: 12, 3-9, last, all, @label, name:x, state:x or pool:x
    #[arg(value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,

    /// Only those that poold has given up
    #[arg(long)]
    failed: bool,
}

impl ListCallbacksOptions {
    /// Lists the callbacks.
    ///
    /// # Errors
    /// When poold has gone, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        if !self.jobs.is_empty() {
            return self.list_of_jobs(context, &mut client);
        }
        if context.as_json {
            let mut pages = json::Pages::begin(SCHEMA, "callbacks")?;
            each_page(&mut client, self.failed, |page| pages.add(&page))?;
            pages.end()?;
        } else {
            let mut all = Vec::new();
            each_page(&mut client, self.failed, |page| {
                all.extend(page);
                anyhow::Ok(())
            })?;
            text::print(&callback::table_of(&all))?;
            if all.is_empty() {
                let what = if self.failed { "was given up" } else { "waits, runs or was given up" };
                hint(format_args!("no callback {what}: `poolctl callbacks ls JOB` lists all of a job"));
            }
        }
        Ok(ExitReason::Success)
    }

    fn list_of_jobs(&self, context: &Context, client: &mut Client) -> anyhow::Result<ExitReason> {
        let ids = of_jobs(client, &self.jobs)?;
        let exit = if ids.is_some() { ExitReason::Success } else { ExitReason::Failed };
        let mut listed = Vec::new();
        for id in ids.into_iter().flatten() {
            match client.request(&GetCallback { id }) {
                Ok(got) if self.failed && got.callback.state != "failed" => {}
                Ok(got) => listed.push(*got.callback),
                // It has been pruned with its job in this moment.
                Err(ClientError::Refused(Refusal::NoSuchCallback { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if context.as_json {
            let mut pages = json::Pages::begin(SCHEMA, "callbacks")?;
            pages.add(&listed)?;
            pages.end()?;
        } else if exit == ExitReason::Success {
            text::print(&callback::table_of(&listed))?;
        }
        Ok(exit)
    }
}

/// Calls `take` with each page of the callbacks, in the order of their ids.
///
/// # Errors
/// When poold has gone, or cannot read its store; and those of `take`.
pub fn each_page<E: From<ClientError>>(
    client: &mut Client,
    failed: bool,
    mut take: impl FnMut(Vec<CallbackRecord>) -> Result<(), E>,
) -> Result<(), E> {
    let mut asked = Callbacks { failed: Some(failed), ..Callbacks::default() };
    loop {
        let page = client.request(&asked)?;
        take(page.callbacks)?;
        match page.next {
            Some(next) => asked.after = Some(next),
            None => return Ok(()),
        }
    }
}
