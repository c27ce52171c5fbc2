//! Following a job: its output as it comes, its end when it comes, over restarts of poold and of the job.
//!
//! For each attempt poold hands over descriptors of the two files that the attempt writes. They are read here, woken by inotify(7); poold
//! takes no part. Files are watched only once an attempt has run for a moment ([`UNWATCHED_MS`]): to close an inotify instance takes the
//! kernel some 10 ms, several times what a short job takes.
//!
//! When the connection breaks, poold is being restarted: the wait is taken up again by the job's id, and the output where it was left, or
//! from the beginning of the next attempt.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::write;
use pool_proto::interface::{OnDisconnect, Pools, Progress, ProgressEvent, Slot, SlotState, Submit, Wait};
use pool_proto::{Client, ClientError, Record, Refusal};

use crate::connect::{Link, not_known_whether_accepted};
use crate::interrupt::{self, Interrupts};
use crate::progress_lines::ProgressLines;

/// Where inotify is not to be had (128 instances a user, unless raised), growing files are looked at so often.
const WITHOUT_INOTIFY_MS: u16 = 100;

/// For so long after its start an attempt's files are not watched, so its first output may come so much late.
const UNWATCHED_MS: u16 = 10;

/// A call that has not ended by then may be waiting for a program that cannot start, which is looked at once.
const EXPLAINED_AFTER_MS: u16 = 1000;

/// So much a pipe takes at once when it takes anything; more may have to wait for its reader.
const PIPE_BUF: usize = 4096;

/// Which of a job's streams go to our own.
#[derive(Debug, Clone, Copy)]
pub struct Sinks {
    /// The job's stdout goes to our stdout.
    stdout: bool,
    /// The job's stderr goes to...
    stderr: Option<Target>,
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Stdout,
    Stderr,
}

impl Sinks {
    /// Each to its own.
    pub fn both() -> Self {
        Self { stdout: true, stderr: Some(Target::Stderr) }
    }

    /// One of them, to our stdout.
    pub fn one(stderr: bool) -> Self {
        Self { stdout: !stderr, stderr: stderr.then_some(Target::Stdout) }
    }
}

/// One growing file, and where it goes.
#[derive(Debug)]
struct Tail {
    file: File,
    offset: u64,
    /// None once the reader of our output has gone.
    target: Option<Target>,
}

#[derive(Debug)]
struct Attempt {
    number: u32,
    tails: Vec<Tail>,
    watched: bool,
}

/// See the module's description.
pub struct Follower<'a> {
    link: &'a Link,
    client: Client,
    sinks: Sinks,
    id: Option<u64>,
    attempt: Option<Attempt>,
    inotify: Option<Inotify>,
    interrupts: Option<Interrupts>,
    /// The job gets our signals (see [`Interrupts`]), and learns of the end of whoever reads our output.
    is_in_place: bool,
    /// The job is tied to us: when poold is back, we take up the tie again.
    on_disconnect: OnDisconnect,
    /// What is sent again when the connection breaks before the job has been accepted.
    submission: Option<Submit>,
    /// The warm pool that a call waits in, until it has been looked at.
    unexplained: Option<String>,
    progress: ProgressLines,
    buffer: Vec<u8>,
}

impl<'a> Follower<'a> {
    /// The job of a `Submit` that has been sent with `more`, as if it had been run in place: what becomes of us becomes of it.
    pub fn in_place(link: &'a Link, client: Client, on_disconnect: OnDisconnect) -> Self {
        Self { is_in_place: true, on_disconnect, ..Self::new(link, client, Sinks::both()) }
    }

    /// The same, where the submission may be sent again when its reply is lost.
    pub fn repeating(self, submission: Submit) -> Self {
        Self { submission: Some(submission), ..self }
    }

    /// The same of a call, to a program of that pool.
    pub fn calling(self, pool: Option<String>) -> Self {
        Self { unexplained: pool, ..self }
    }

    /// A job that is there already, for which a `Wait` has been sent with `more` and `output`.
    pub fn of_job(link: &'a Link, client: Client, sinks: Sinks, id: u64) -> Self {
        Self { id: Some(id), ..Self::new(link, client, sinks) }
    }

    fn new(link: &'a Link, client: Client, sinks: Sinks) -> Self {
        Self {
            link,
            client,
            sinks,
            id: None,
            attempt: None,
            inotify: None,
            interrupts: None,
            is_in_place: false,
            on_disconnect: OnDisconnect::Detach,
            submission: None,
            unexplained: None,
            progress: ProgressLines::of_one(),
            buffer: vec![0; 256 * 1024],
        }
    }

    /// Returns the job's record when it has ended and all its output is out.
    ///
    /// # Errors
    /// When poold refuses, or is gone and does not come back.
    pub fn attend(mut self) -> anyhow::Result<Record> {
        loop {
            while let Some(progress) = self.next_progress()? {
                if let Some(record) = self.on_progress(progress)? {
                    while self.pump()? {}
                    self.progress.clear();
                    return Ok(record);
                }
            }
            if self.is_in_place
                && self.interrupts.is_none()
                && let Some(id) = self.id
            {
                self.interrupts = Some(Interrupts::of_job(id, self.link)?);
            }
            let has_more = self.pump()?;
            self.progress.show();
            if !self.wait(has_more)? && !has_more {
                self.settle_in();
            }
        }
    }

    /// The job takes its time: from now on signals are acted on, and its files are watched.
    fn settle_in(&mut self) {
        match &mut self.interrupts {
            Some(interrupts) if interrupts.are_only_noted() => interrupts.attend(),
            Some(_) | None => self.explain(),
        }
        self.watch();
    }

    /// Says so when a call waits for a program that cannot start; otherwise it would seem to hang.
    fn explain(&mut self) {
        let (Some(name), Some(id)) = (self.unexplained.take(), self.id) else { return };
        let Ok(pools) = self.link.reconnect().and_then(|mut client| Ok(client.call(&Pools {})?.pools)) else {
            return;
        };
        let is_down = |slot: &Slot| {
            matches!(slot.state, SlotState::BackingOff | SlotState::Failed | SlotState::Starting)
        };
        let slots = pools.iter().find(|pool| pool.name == name).map_or(&[][..], |pool| &pool.slots);
        let reason = slots.iter().find_map(|slot| slot.reason.as_deref());
        if let Some(reason) = reason.filter(|_| slots.iter().all(is_down)) {
            eprintln!("poolctl: job {id} waits, as no program of the pool {name:?} is up: {reason}");
        }
    }

    fn next_progress(&mut self) -> anyhow::Result<Option<Progress>> {
        match self.client.next_reply::<Wait>() {
            Ok(reply) => Ok(reply.map(|(progress, _)| progress)),
            Err(ClientError::Refused(Refusal::ShuttingDown {})) if self.id.is_some() => {
                let id = self.id.unwrap_or_default();
                Err(ClientError::Refused(Refusal::ShuttingDown {}))
                    .with_context(|| format!("job {id} has not ended"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn on_progress(&mut self, progress: Progress) -> anyhow::Result<Option<Record>> {
        match progress.event {
            ProgressEvent::Accepted => self.id = Some(progress.id),
            ProgressEvent::Started => self.on_started(&progress)?,
            ProgressEvent::Progress => {
                progress.progress.iter().for_each(|told| self.progress.note(progress.id, told))
            }
            ProgressEvent::Ended => {
                let record = progress.record.context("poold told of an end without a record")?;
                return Ok(Some(*record));
            }
        }
        Ok(None)
    }

    fn on_started(&mut self, progress: &Progress) -> anyhow::Result<()> {
        let number = progress.attempt.unwrap_or_default();
        if progress.descriptors != Some(2) {
            eprintln!(
                "poolctl: the output of job {} cannot be followed: poold could not open it",
                progress.id
            );
            return Ok(());
        }
        let stdout = File::from(self.client.take_descriptor()?);
        let stderr = File::from(self.client.take_descriptor()?);
        // What the attempt before had still to say.
        while self.pump()? {}
        let known = self.attempt.take().filter(|attempt| attempt.number == number);
        let offsets: Vec<u64> =
            known.iter().flat_map(|attempt| attempt.tails.iter().map(|tail| tail.offset)).collect();
        let targets = [self.sinks.stdout.then_some(Target::Stdout), self.sinks.stderr];
        let tails = [stdout, stderr].into_iter().zip(targets).enumerate();
        let tails = tails.map(|(index, (file, target))| Tail {
            file,
            target,
            offset: offsets.get(index).copied().unwrap_or(0),
        });
        self.attempt = Some(Attempt { number, tails: tails.collect(), watched: false });
        Ok(())
    }

    /// Passes on what there is, a buffer of each stream; true when there may be more.
    fn pump(&mut self) -> anyhow::Result<bool> {
        let mut has_more = false;
        let mut is_unheard = false;
        for tail in self.attempt.iter_mut().flat_map(|attempt| &mut attempt.tails) {
            let Some(target) = tail.target else { continue };
            let count =
                tail.file.read_at(&mut self.buffer, tail.offset).context("cannot read the job's output")?;
            if count == 0 {
                // Smaller than it was: the job has emptied it, as a shell does for `> /dev/stderr`.
                let size = tail.file.metadata().context("cannot look at the job's output")?.len();
                if size < tail.offset {
                    tail.offset = 0;
                    has_more |= size > 0;
                }
                continue;
            }
            has_more |= count == self.buffer.len();
            tail.offset += count as u64;
            // Whoever reads our output may take their time, which is no reason to be deaf.
            if let Some(interrupts) = &mut self.interrupts
                && (count > PIPE_BUF || !is_ready(target, PollTimeout::ZERO).unwrap_or(false))
            {
                interrupts.attend();
            }
            match pass_on(target, &self.buffer[..count]) {
                Err(Errno::EPIPE) => {
                    tail.target = None;
                    is_unheard = true;
                }
                other => other.context("cannot write the job's output")?,
            }
        }
        if is_unheard {
            self.on_unheard()?;
        }
        Ok(has_more)
    }

    /// Whoever reads our output has had enough: in place, the job's next write would have brought it SIGPIPE.
    fn on_unheard(&self) -> anyhow::Result<()> {
        match self.id {
            Some(id) if self.is_in_place => interrupt::break_pipe(id, self.link),
            Some(_) | None => return Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
        }
        Ok(())
    }

    /// Has the attempt's files watched.
    fn watch(&mut self) {
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| !attempt.watched) else { return };
        attempt.watched = true;
        if self.inotify.is_none() {
            self.inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        }
        let Some(inotify) = &self.inotify else { return };
        let watch = |tail: &Tail| {
            let path = format!("/proc/self/fd/{}", tail.file.as_raw_fd());
            inotify.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY).is_ok()
        };
        if !attempt.tails.iter().filter(|tail| tail.target.is_some()).all(watch) {
            self.inotify = None;
        }
    }

    /// Until something has happened; false when nothing has for as long as it makes sense to wait, which with output at hand is not at all.
    fn wait(&mut self, has_more: bool) -> anyhow::Result<bool> {
        let mut fds = vec![PollFd::new(self.client.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.inotify.iter().map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN)));
        let timeout = match &self.attempt {
            _ if has_more => PollTimeout::ZERO,
            Some(Attempt { watched: false, .. }) => PollTimeout::from(UNWATCHED_MS),
            Some(_) if self.inotify.is_none() => PollTimeout::from(WITHOUT_INOTIFY_MS),
            // One that waits for a slot.
            None if self.interrupts.as_ref().is_some_and(Interrupts::are_only_noted) => {
                PollTimeout::from(UNWATCHED_MS)
            }
            None if self.unexplained.is_some() => PollTimeout::from(EXPLAINED_AFTER_MS),
            Some(_) | None => PollTimeout::NONE,
        };
        match poll(&mut fds, timeout) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait"),
        }
        let from_poold = fds[0].any().unwrap_or(false);
        if let Some(inotify) = &self.inotify {
            // What has changed is read anyway; this only empties the queue.
            let _ = inotify.read_events();
        }
        if from_poold {
            self.fill()?;
        }
        Ok(true)
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        match (self.client.fill(), self.id) {
            (Ok(true), _) => Ok(()),
            (Ok(false) | Err(ClientError::Disconnected(_)), Some(id)) => self.resume(id),
            (Ok(false) | Err(ClientError::Disconnected(_)), None) if self.submission.is_some() => {
                self.submit_again()
            }
            (Ok(false), None) => Err(not_known_whether_accepted(ClientError::Disconnected(None))),
            (Err(error), _) => Err(not_known_whether_accepted(error)),
        }
    }

    fn submit_again(&mut self) -> anyhow::Result<()> {
        self.client = self.link.reconnect()?;
        if let Some(submission) = &self.submission {
            self.client.send(submission, true)?;
        }
        Ok(())
    }

    fn resume(&mut self, id: u64) -> anyhow::Result<()> {
        self.progress.clear();
        self.client = self
            .link
            .reconnect()
            .with_context(|| format!("job {id} was accepted and will run when poold is back"))?;
        let on_disconnect = Some(self.on_disconnect);
        self.client
            .send(&Wait { ids: vec![id], output: Some(true), on_disconnect, ..Wait::default() }, true)?;
        Ok(())
    }
}

/// Waits until a write would not block; false when that is not so in time.
fn is_ready(target: Target, timeout: PollTimeout) -> nix::Result<bool> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let stream = match target {
        Target::Stdout => stdout.as_fd(),
        Target::Stderr => stderr.as_fd(),
    };
    match poll(&mut [PollFd::new(stream, PollFlags::POLLOUT)], timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error),
    }
}

fn pass_on(target: Target, mut bytes: &[u8]) -> nix::Result<()> {
    while !bytes.is_empty() {
        let result = match target {
            Target::Stdout => write(io::stdout(), bytes),
            Target::Stderr => write(io::stderr(), bytes),
        };
        match result {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            // Somebody has made our stream non-blocking; it is still ours to wait for.
            Err(Errno::EAGAIN) => _ = is_ready(target, PollTimeout::NONE)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
