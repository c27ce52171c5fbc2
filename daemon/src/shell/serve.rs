//! What the desk wants done: replies, with the descriptors that travel beside them, and whatever else a
//! request asks for.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use pool_proto::methods::{InputOpened, OutputOpened, Reply, Spooled};
use pool_proto::nouns::{self, Condition, Progress, ProgressEvent, Stuck};
use pool_proto::{OsText, Record};

use super::turn::{Inbox, Input};
use super::{Shell, clock};
use crate::core;
use crate::desk::{self, MAX_UNREAD};
use crate::engine::large_bytes;
use crate::files::{layout, output, slot_output, spool};
use crate::job::{Claim, JobId, RequestId, Unit};
use crate::server::is_shortage;

/// Why there is no log of a call that is kept in memory alone.
const NO_LOG: &str = "the call is kept in memory alone (durability \"none\"), and nothing of what its \
                      program writes to standard error is kept with it";

impl Shell {
    pub(super) fn serve_clients(&mut self, effect: desk::Effect, inbox: &mut Inbox) {
        match effect {
            desk::Effect::Reply { request, reply, last } => {
                self.server.reply_large(request, large_bytes_of(&reply), reply, last);
                self.tell_if_full(request, last, inbox);
            }
            desk::Effect::Refuse { request, refusal } => {
                self.server.refuse(request, &self.engine.explain(refusal));
            }
            desk::Effect::Tell { request, happening } => {
                if self.server.unread(request) > MAX_UNREAD {
                    inbox.push_back(Input::Desk(desk::Event::TooSlow { request }));
                } else {
                    self.server.reply(request, &*happening, Vec::new(), false);
                }
            }
            desk::Effect::ReplyStarted { request, id, attempt } => {
                self.reply_started(request, id, attempt);
                self.tell_if_full(request, false, inbox);
            }
            desk::Effect::ReplyOutput { request, id, attempt, named, log, written } => {
                let opened = match log && self.engine.is_volatile(id) {
                    true => Err(NO_LOG.to_owned()),
                    false => self
                        .reply_output(request, id, attempt, log, written)
                        .map_err(|error| format!("its files cannot be opened: {error}")),
                };
                if let Err(reason) = opened {
                    let missing = desk::Event::OutputMissing { request, id, attempt, named, reason };
                    inbox.push_back(Input::Desk(missing));
                }
            }
            desk::Effect::ReplyInput { request, id, attempt, input } => {
                self.reply_input(request, id, attempt, input, inbox);
            }
            desk::Effect::ReplyCondition { request, condition } => {
                let condition = Condition { stuck: self.stuck(), ..*condition };
                self.server.reply(request, &condition, Vec::new(), true);
            }
            desk::Effect::ReplySpooled { request, token } => {
                if let Err(error) = self.reply_spooled(request, token.clone()) {
                    let dir = self.site.state_dir.display();
                    let reason = format!("no file for the standard input in {dir}: {error}");
                    inbox.push_back(Input::Desk(desk::Event::SpoolFailed { request, token, reason }));
                }
            }
            desk::Effect::AwaitDrained { request } => self.server.notify_drained(request),

            desk::Effect::Ask(question) => self.engine.ask(question),
            desk::Effect::Change(change) => self.engine.change(change),
            desk::Effect::Chore(chore) => self.engine.chore(chore),
            desk::Effect::RemoveSpooled { token } => self.remover.remove_stdin(token),
            desk::Effect::Measure { running } => self.measurer.measure(running),
            desk::Effect::Prune => self.engine.prune(clock::now().wall_us),
            desk::Effect::Configure(config) => {
                let settings = self.configure(*config, inbox);
                inbox.push_back(Input::Core(core::Event::Configure(settings)));
            }
            desk::Effect::Ending { soon: true } => self.service_manager.stopping(),
            desk::Effect::Ending { soon: false } => self.service_manager.draining(),

            desk::Effect::Command(_) => unreachable!("commands are for the core"),
        }
    }

    /// What is told by and by waits for a client that has much to read.
    fn tell_if_full(&self, request: RequestId, last: bool, inbox: &mut Inbox) {
        if !last && self.server.is_full(request) {
            inbox.push_back(Input::Desk(desk::Event::Full { request }));
        }
    }

    /// Where the files cannot be opened the client still learns of the start, and later of the end.
    fn reply_started(&mut self, request: RequestId, id: JobId, attempt: u32) {
        let opened = match self.open_output(id, attempt, [None; 2]) {
            Err(error) if is_shortage(&error) => {
                // Those of a whole turn may be on their way.
                self.server.flush_descriptors();
                self.open_output(id, attempt, [None; 2])
            }
            opened => opened,
        };
        let files = opened.unwrap_or_else(|error| {
            tracing::warn!(job = %id, attempt, %error, "cannot open the output for a client");
            Vec::new()
        });
        let descriptors = u32::try_from(files.len()).ok();
        let started = Progress {
            event: ProgressEvent::Started,
            id: id.0,
            attempt: Some(attempt),
            descriptors,
            record: None,
            existing: None,
            state: None,
            progress: None,
            obstacle: None,
        };
        self.server.reply(request, &started, files, false);
    }

    fn stuck(&self) -> Vec<Stuck> {
        let slots = self.fleet.stalled().into_iter().map(|(slot, what)| Stuck {
            pool: self.pool_of(slot).map(|name| name.to_string()),
            slot: Some(slot.index),
            pid: None,
            what,
        });
        let processes = self.fleet.stuck().into_iter().map(|stuck| Stuck {
            pool: None,
            slot: None,
            pid: Some(stuck.process.pid.get()),
            what: format!("a killed process ({}) does not end: {}", stuck.command, stuck.hindrance),
        });
        slots.chain(processes).collect()
    }

    fn reply_output(
        &mut self,
        request: RequestId,
        id: JobId,
        attempt: u32,
        log: bool,
        written: [Option<u64>; 2],
    ) -> io::Result<()> {
        let files = if log { self.open_log(id, attempt)? } else { self.open_output(id, attempt, written)? };
        self.server.reply(request, &OutputOpened { attempt, descriptors: 2 }, files, true);
        Ok(())
    }

    fn reply_input(
        &mut self,
        request: RequestId,
        id: JobId,
        attempt: u32,
        input: nouns::Input,
        inbox: &mut Inbox,
    ) {
        match self.fleet.open_input(Claim { unit: Unit::Job(id), attempt }) {
            Ok(pipe) => {
                let opened = InputOpened { attempt, input, descriptors: 1 };
                self.server.reply(request, &opened, vec![pipe], true);
            }
            Err(error) => {
                // Its input has got its end; or nobody has the pipe open for reading any more.
                let is_over =
                    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENXIO);
                let reason = match is_over {
                    true => "reads no more input".to_owned(),
                    false => format!("has a standard input that cannot be opened: {error}"),
                };
                inbox.push_back(Input::Desk(desk::Event::InputMissing { request, id, reason }));
            }
        }
    }

    fn reply_spooled(&mut self, request: RequestId, token: String) -> io::Result<()> {
        let file = spool::create(&self.site.state_dir, &token)?;
        self.server.reply(request, &Spooled { token, descriptors: 1 }, vec![file.into()], true);
        Ok(())
    }

    /// `written`: so many bytes, where the attempt has ended and that is known. What has not been written to
    /// has no file.
    fn open_output(
        &mut self,
        id: JobId,
        attempt: u32,
        written: [Option<u64>; 2],
    ) -> io::Result<Vec<OwnedFd>> {
        let claim = Claim { unit: Unit::Job(id), attempt };
        let nothing = || File::open("/dev/null");
        if self.silent.contains(&claim) {
            return Ok(vec![nothing()?.into(), nothing()?.into()]);
        }

        let (stdout, stderr) = layout::paths(&self.site.state_dir, claim);
        // First: its worker is to give the files to no other attempt from here on.
        let slot = self.fleet.look_at_output(claim);
        let blanks = slot.map(|slot| slot_output::blank_paths(&self.slot_prefix(slot)));

        let open = |which: usize, name: &Path| {
            let named = found(output::open(name))?;
            let file = match (named, &blanks) {
                (None, Some(blanks)) => {
                    let blank = match output::open(&blanks[which]) {
                        // The attempt is over, and its worker finds out at this moment whether it is blank.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                        opened => found(opened)?,
                    };
                    // It may have got its name just now, and another blank file its place.
                    found(output::open(name))?.or(blank)
                }
                (named, _) => named,
            };
            match file {
                Some(file) => Ok(file),
                None if written[which].is_none_or(|bytes| bytes == 0) => nothing(),
                None => Err(io::ErrorKind::NotFound.into()),
            }
        };
        Ok(vec![open(0, &stdout)?.into(), open(1, &stderr)?.into()])
    }

    /// Of a call there is what its program has written to standard error, if anything.
    fn open_log(&self, id: JobId, attempt: u32) -> io::Result<Vec<OwnedFd>> {
        let (_, stderr) = layout::paths(&self.site.state_dir, Claim { unit: Unit::Job(id), attempt });
        let nothing = || File::open("/dev/null");
        let log = found(output::open(&stderr))?.map_or_else(nothing, Ok);
        Ok(vec![nothing()?.into(), log?.into()])
    }
}

/// What may be large of a reply, in bytes.
fn large_bytes_of(reply: &Reply) -> usize {
    let of_records = |records: &[Record]| records.iter().map(large_bytes).sum();
    match reply {
        Reply::Progress(progress) => progress.record.as_deref().map_or(0, large_bytes),
        Reply::Got(got) => large_bytes(&got.record),
        Reply::Listed(listed) => of_records(&listed.jobs),
        Reply::Canceled(canceled) => of_records(&canceled.jobs),
        Reply::Submitted(submitted) => {
            let json = submitted.results.iter().flat_map(|brief| [&brief.value, &brief.error]);
            json.flatten().map(|json| json.get().len()).sum()
        }
        Reply::Defined(defined) => {
            let job = &defined.job;
            let variables = job.env.iter().flatten().map(|(name, value)| name.len() + value.len());
            let argv = job.argv.iter().map(OsText::len);
            argv.chain(variables).sum::<usize>() + job.params.as_ref().map_or(0, |params| params.get().len())
        }
        Reply::Altered(altered) => altered.others.iter().map(|other| other.reason.len()).sum(),
        Reply::CallbacksListed(listed) => {
            listed.callbacks.iter().map(|callback| callback.command.len()).sum()
        }
        Reply::CallbackGot(got) => got.callback.command.len(),
        Reply::CallbacksAltered(altered) => altered.others.iter().map(|other| other.reason.len()).sum(),
        Reply::Explained(explained) => explained.jobs.iter().map(|job| job.reason.len()).sum(),
        Reply::Pong(_)
        | Reply::Spooled(_)
        | Reply::OutputOpened(_)
        | Reply::InputOpened(_)
        | Reply::Empty(_)
        | Reply::PoolsListed(_)
        | Reply::PoolRestarting(_)
        | Reply::SchedulesListed(_)
        | Reply::LabelLimitsListed(_)
        | Reply::Condition(_)
        | Reply::SettingsListed(_)
        | Reply::AbsentIds(_)
        | Reply::Counted(_)
        | Reply::DependentsListed(_)
        | Reply::AttemptsListed(_)
        | Reply::Happening(_)
        | Reply::BackupBegun(_)
        | Reply::ShuttingDown(_) => 0,
    }
}

/// None for a file that there is not.
fn found(opened: io::Result<File>) -> io::Result<Option<File>> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}
