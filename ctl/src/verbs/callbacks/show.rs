//! `poolctl callbacks show`.

use std::fs::File;

use clap::Args;
use pool_proto::methods::GetCallback;
use pool_proto::nouns::{CallbackRecord, OutputFile};
use pool_proto::{ClientError, Refusal};

use super::wanted::{Wanted, wanted};
use crate::exit::ExitReason;
use crate::tell::callback::{CallbackDocument, lines_of, lines_of_output};
use crate::term::text::say;
use crate::term::{json, text};
use crate::verbs::Context;
use crate::verbs::ending::{last, open};

/// So many lines of each stream are shown.
const LINES: usize = 10;

/// Show callbacks: commands, attempts, the end of their output
#[derive(Debug, Args)]
pub struct ShowCallbackOptions {
    /// Callbacks by 7 or 3-9; failed: all that poold has given up; those of jobs by job:12, last, @label and
    /// others
    #[arg(required = true, value_name = "CALLBACK", value_parser = wanted())]
    callbacks: Vec<Wanted>,
}

impl ShowCallbackOptions {
    /// Shows the callbacks. Of a range those that exist.
    ///
    /// # Errors
    /// When poold has gone, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let (mut exit, mut is_first) = (ExitReason::Success, true);
        for wanted in &self.callbacks {
            let Some(found) = wanted.find(&mut client)? else {
                exit = ExitReason::Failed;
                continue;
            };
            let (mut is_any, mut why_none) = (false, None);
            for &id in &found.ids {
                let callback = match client.request(&GetCallback { id }) {
                    Ok(got) => *got.callback,
                    Err(error @ ClientError::Refused(Refusal::NoSuchCallback { .. })) => {
                        why_none = Some(error);
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                is_any = true;
                show(context, callback, !is_first)?;
                is_first = false;
            }
            if found.must_fit && !is_any {
                exit = ExitReason::Failed;
                match (found.name, why_none) {
                    (Some(name), _) => say(format_args!("none of the callbacks {name} exists")),
                    (None, why) => why.into_iter().for_each(say),
                }
            }
        }
        Ok(exit)
    }
}

fn show(context: &Context, mut callback: CallbackRecord, with_gap: bool) -> anyhow::Result<()> {
    let [stdout, stderr] = opened(&mut callback);
    if context.as_json {
        return json::print(&CallbackDocument::of(&callback));
    }
    let mut told = if with_gap { "\n".to_owned() } else { String::new() };
    told += &lines_of(&callback);
    for (name, file) in [("stdout", stdout), ("stderr", stderr)] {
        let lines = file.as_ref().and_then(|file| last(file, Some(LINES)));
        told += &lines_of_output(name, lines.as_deref().unwrap_or_default());
    }
    text::print(&told)
}

/// The files of its output, with their sizes in the record; those to which nothing was written do not exist.
fn opened(callback: &mut CallbackRecord) -> [Option<File>; 2] {
    [&mut callback.stdout, &mut callback.stderr].map(|named| {
        let file = named.as_ref().and_then(open);
        let bytes = file.as_ref().and_then(|file| Some(file.metadata().ok()?.len()));
        *named = named.take().filter(|_| bytes.is_some()).map(|named| OutputFile { bytes, ..named });
        file
    })
}
