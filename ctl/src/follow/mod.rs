//! Following a job: passing on its output as it comes, and waiting for its end, over restarts of poold and of
//! the job.
//!
//! For each attempt poold hands over descriptors of the two files that the attempt writes. poolctl reads the
//! files itself, woken by inotify(7); poold takes no part. The files are watched only after an attempt has
//! run for a moment ([`UNWATCHED`]): the kernel needs some 10 ms to close an inotify instance, several times
//! what a short job takes.
//!
//! When the connection breaks, poold is being restarted. poolctl then waits again, by the job's id, and goes
//! on with the output where it stopped, or from the beginning of the next attempt.

mod held;
mod interrupt;
mod place;
mod queue;
mod sinks;
mod tail;
mod typist;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::inotify::Inotify;
use pool_proto::methods::{Submit, Wait};
use pool_proto::nouns::{IfExists, Input, Progress, ProgressEvent};
use pool_proto::{Client, ClientError, Record, Refusal, State};

use self::held::UNANSWERED;
use self::place::Place;
use self::queue::QueueLine;
use self::tail::{Attempt, Pumped};
use self::typist::Typist;
use crate::link::connect::{Link, not_known_whether_accepted};
use crate::link::deadline::Deadline;
use crate::link::session::{Session, Turn};
use crate::term::obstacles::Obstacles;
use crate::term::progress::ProgressLines;
use crate::term::text::{Untold, say};

pub use self::held::HeldSignals;
pub use self::interrupt::{canceled_for, note};
pub use self::sinks::Sinks;
pub use self::tail::{Last, begin_of, has_times};
pub use self::typist::{DETACH, END, open_input};

/// Without inotify (a user has 128 instances, unless the limit is raised), growing files are looked at this
/// often.
const WITHOUT_INOTIFY: Duration = Duration::from_millis(100);

/// The files of an attempt are not watched for this long after its start, so its first output may come this
/// late.
const UNWATCHED: Duration = Duration::from_millis(10);

/// So much of what a job has printed before is shown to who attaches to it, in bytes.
const RECENT: u64 = 64 * 1024;

/// How long a job may take to end by its SIGPIPE, and the time between two looks after that. A job that still
/// writes more between the looks is canceled: it ignores the signal, as Python does, and its output never
/// fails.
const UNHEARD: Duration = Duration::from_secs(1);

/// See the module's description.
pub struct Follower<'a> {
    link: &'a Link,
    session: Session<'a>,
    sinks: Sinks,
    subject: Subject,
    place: Place,
    /// It is an array that is submitted.
    is_array: bool,
    attempt: Option<Attempt>,
    /// The output of the latest attempt could not be opened.
    is_unshown: bool,
    /// When to look whether the job goes on writing what nobody reads, and how much that was at the last
    /// look.
    unheard: Option<(Deadline, Option<u64>)>,
    inotify: Option<Inotify>,
    /// Signals, from the submission of the job until threads act on them.
    held: Option<HeldSignals>,
    obstacles: Obstacles,
    progress: ProgressLines,
    /// What is typed here goes to the job.
    typist: Option<Typist>,
    /// Of the first attempt that is shown, so much of what is there by then; all of it unless set.
    lasts: Vec<Last>,
    queue: QueueLine,
    /// Called with each attempt before its output is passed on.
    before_attempt: Option<BeforeAttempt<'a>>,
    buffer: Vec<u8>,
}

/// What is done before the output of an attempt, by its number, is passed on.
type BeforeAttempt<'a> = Box<dyn FnMut(u32) -> anyhow::Result<()> + 'a>;

/// Threads act on signals from now on, where they were held back and there is a job.
fn take_over(
    held: &mut Option<HeldSignals>,
    id: Option<u64>,
    (place, is_array): (Place, bool),
    link: &Link,
) -> anyhow::Result<()> {
    let (Some(signals), Some(id)) = (&*held, id) else { return Ok(()) };
    if signals.ends_poolctl_alone() {
        say(place.fate(id));
    }
    interrupt::attend(id, place == Place::Guest, is_array, link)?;
    *held = None;
    Ok(())
}

/// What following a job has come to.
pub enum Attended {
    /// The job has ended.
    Ended(Box<Record>),
    /// Nothing was submitted: this job is there, in that state.
    Skipped { id: u64, state: State },
}

/// What is followed.
enum Subject {
    /// A job that is submitted and not accepted yet.
    Submission(Box<Submit>),
    /// The job of that id.
    Job(u64),
}

impl<'a> Follower<'a> {
    /// Submits a job, and follows it as if it were started here: signals to poolctl go to the job.
    pub fn in_place(link: &'a Link, client: Client, submit: Submit, sinks: Sinks) -> Self {
        let on_disconnect = submit.on_disconnect.unwrap_or_default();
        let is_array = submit.job.array.is_some();
        let subject = Subject::Submission(Box::new(submit));
        Self { is_array, ..Self::new(link, client, sinks, subject, Place::Owner(on_disconnect)) }
    }

    /// Follows a job that was accepted before.
    pub fn of_job(link: &'a Link, client: Client, sinks: Sinks, id: u64) -> Self {
        Self::new(link, client, sinks, Subject::Job(id), Place::Onlooker)
    }

    /// What is typed here goes to the job, but for the key that leaves it. Of what the job has printed
    /// before, the end is shown.
    ///
    /// # Errors
    /// See [`Typist::start`].
    pub fn attached(mut self, detach: u8) -> anyhow::Result<Self> {
        self.typist = Some(Typist::start(self.link, detach, self.place)?);
        self.lasts = vec![Last::Bytes(RECENT)];
        Ok(self)
    }

    /// See [`attached`](Self::attached). The job is submitted with a terminal.
    fn type_into_submission(&mut self) -> anyhow::Result<()> {
        let Subject::Submission(submit) = &self.subject else { return Ok(()) };
        if submit.job.input == Some(Input::Terminal) {
            self.typist = Some(Typist::start(self.link, DETACH, self.place)?);
        }
        Ok(())
    }

    fn new(link: &'a Link, client: Client, sinks: Sinks, subject: Subject, place: Place) -> Self {
        Self {
            link,
            session: Session::new(link, client),
            sinks,
            subject,
            place,
            is_array: false,
            attempt: None,
            is_unshown: false,
            unheard: None,
            inotify: None,
            held: None,
            obstacles: Obstacles::of_one(),
            progress: ProgressLines::of_one(),
            typist: None,
            lasts: Vec::new(),
            queue: QueueLine::new(),
            before_attempt: None,
            buffer: vec![0; 256 * 1024],
        }
    }

    /// Begins with these last parts of what the job has written by then; with the shortest of several.
    pub fn showing_last(self, lasts: Vec<Last>) -> Self {
        Self { lasts, ..self }
    }

    /// Calls `before` with the number of each attempt before its output is passed on.
    pub fn announcing(self, before: impl FnMut(u32) -> anyhow::Result<()> + 'a) -> Self {
        Self { before_attempt: Some(Box::new(before)), ..self }
    }

    /// Shows nothing but the output, and obstacles: others have the same terminal.
    pub fn beside_others(self) -> Self {
        Self { progress: ProgressLines::hidden(), ..self }
    }

    /// The id of the job, once it is known.
    fn id(&self) -> Option<u64> {
        match self.subject {
            Subject::Submission(_) => None,
            Subject::Job(id) => Some(id),
        }
    }

    /// The job has not started, as far as is known. Whoever types into it has the terminal to themselves.
    fn expect_start(&mut self) {
        if self.typist.is_none() {
            self.queue.begin(&self.progress);
        }
    }

    /// Sends the request for what is followed, on a new connection.
    fn ask(&mut self) {
        match &self.subject {
            Subject::Submission(submit) => self.session.ask(&**submit),
            Subject::Job(id) => {
                let on_disconnect = Some(self.place.on_disconnect());
                let wait = Wait {
                    ids: vec![*id],
                    output: Some(true),
                    obstacles: Some(true),
                    on_disconnect,
                    ..Wait::default()
                };
                self.session.ask(&wait);
                self.expect_start();
            }
        }
    }

    /// Returns the record of the job when the job has ended and all its output is written; or what was found
    /// in its place.
    ///
    /// # Errors
    /// When poold refuses, or has gone and does not come back.
    pub fn attend(mut self) -> anyhow::Result<Attended> {
        if self.id().is_none() {
            self.held = Some(HeldSignals::hold()?);
            // Now, so that its thread does not act on what is held back.
            self.type_into_submission()?;
        }
        self.ask();
        loop {
            while let Some(progress) = self.next_progress()? {
                match self.on_progress(progress)? {
                    None => {}
                    Some(Attended::Ended(record)) => {
                        while self.pump()? {}
                        self.attempt.as_mut().map_or(Ok(()), Attempt::finish)?;
                        self.progress.clear();
                        self.held.take().into_iter().for_each(HeldSignals::keep);
                        self.check_shown(&record)?;
                        return Ok(Attended::Ended(record));
                    }
                    Some(skipped @ Attended::Skipped { .. }) => return Ok(skipped),
                }
            }

            let has_more = self.pump()?;
            if let Some(id) = self.id() {
                self.queue.look(self.link, id, &mut self.progress);
            }
            self.progress.show();
            for line in self.obstacles.lines() {
                self.progress.aside(|| say(line));
            }
            if !self.wait(has_more)? && !has_more {
                self.settle_in()?;
            }
        }
    }

    /// The job is not a short one. From now on threads act on signals, and the files of the attempt are
    /// watched.
    fn settle_in(&mut self) -> anyhow::Result<()> {
        self.take_over_signals()?;
        if let Some(attempt) = &mut self.attempt {
            attempt.watch(&mut self.inotify);
        }
        Ok(())
    }

    /// What was held back goes to the job, once there is one.
    fn take_over_signals(&mut self) -> anyhow::Result<()> {
        let id = self.id();
        take_over(&mut self.held, id, (self.place, self.is_array), self.link)
    }

    /// A success whose output was not there to be printed is none.
    fn check_shown(&self, record: &Record) -> anyhow::Result<()> {
        if self.is_unshown && record.state == State::Succeeded {
            let error = anyhow::anyhow!("the output of job {} was not shown", record.id);
            return Err(
                Untold::new(error, format_args!("it has succeeded: `poolctl logs {}`", record.id)).into()
            );
        }
        Ok(())
    }

    fn next_progress(&mut self) -> anyhow::Result<Option<Progress>> {
        match (self.session.next_reply::<Wait>(), self.id()) {
            (Ok(reply), _) => Ok(reply.map(|(progress, _)| progress)),
            (Err(error @ ClientError::Refused(Refusal::ShuttingDown {})), Some(id)) => {
                Err(error).with_context(|| format!("job {id} has not ended"))
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    fn on_progress(&mut self, progress: Progress) -> anyhow::Result<Option<Attended>> {
        match progress.event {
            ProgressEvent::Accepted => self.on_accepted(&progress),
            ProgressEvent::Skipped => {
                let state = progress.state.context("poold told of a job without its state")?;
                return Ok(Some(Attended::Skipped { id: progress.id, state }));
            }
            ProgressEvent::Started => {
                self.queue.end(progress.id, &mut self.progress);
                self.obstacles.forget(progress.id);
                self.on_started(&progress)?;
            }
            ProgressEvent::Progress => {
                self.queue.end(progress.id, &mut self.progress);
                progress.progress.iter().for_each(|told| self.progress.note(progress.id, told))
            }
            ProgressEvent::Waiting => {
                progress.obstacle.into_iter().for_each(|obstacle| self.obstacles.note(obstacle));
            }
            ProgressEvent::Ended => {
                self.queue.end(progress.id, &mut self.progress);
                let record = progress.record.context("poold told of an end without a record")?;
                return Ok(Some(Attended::Ended(record)));
            }
        }
        Ok(None)
    }

    fn on_accepted(&mut self, progress: &Progress) {
        let is_joined = |submit: &Submit| submit.job.if_exists == Some(IfExists::Join);
        if progress.existing == Some(true)
            && matches!(&self.subject, Subject::Submission(submit) if is_joined(submit))
        {
            self.place = Place::Guest;
        }
        self.subject = Subject::Job(progress.id);
        self.expect_start();
    }

    fn on_started(&mut self, progress: &Progress) -> anyhow::Result<()> {
        let number = progress.attempt.unwrap_or_default();
        self.is_unshown = progress.descriptors != Some(2);
        if self.is_unshown {
            say(format_args!(
                "the output of job {} cannot be followed: poold could not open it",
                progress.id
            ));
            return Ok(());
        }

        let stdout = File::from(self.session.take_descriptor()?);
        let stderr = File::from(self.session.take_descriptor()?);

        // The rest of the output of the attempt before must come before the output of this attempt.
        while self.pump()? {}

        self.unheard = None;
        let mut attempt = Attempt::new(number, [stdout, stderr], self.sinks.outlets(), self.attempt.take())?;
        let lasts = std::mem::take(&mut self.lasts);
        if !lasts.is_empty() {
            attempt.skip_to(&lasts)?;
        }
        if let (Some(before), true) = (&mut self.before_attempt, attempt.is_new()) {
            before(number)?;
        }
        self.attempt = Some(attempt);
        self.typist.iter().for_each(|typist| typist.started(progress.id));
        Ok(())
    }

    /// Passes on output, at most one buffer of each stream. True if there may be more.
    fn pump(&mut self) -> anyhow::Result<bool> {
        let (id, link) = (self.id(), self.link);
        let place = (self.place, self.is_array);
        let Some(attempt) = &mut self.attempt else { return Ok(false) };

        // The reader of our output may be slow. poolctl must not be deaf to signals meanwhile.
        let before_a_block = || take_over(&mut self.held, id, place, link);
        let pumped = attempt.pump(&mut self.buffer, before_a_block);
        let Pumped { has_more, is_unheard } = pumped.map_err(|error| self.untold(error))?;
        if is_unheard {
            self.on_unheard()?;
        }
        Ok(has_more)
    }

    /// The error of output that cannot be passed on. It says what happens to a job that was submitted here.
    fn untold(&self, error: anyhow::Error) -> anyhow::Error {
        match self.id() {
            Some(id) if self.place != Place::Onlooker => Untold::new(error, self.place.fate(id)).into(),
            Some(_) | None => error,
        }
    }

    /// The reader of our output has gone. A job that is started here would get SIGPIPE at its next write, so
    /// this job gets SIGPIPE. poolctl leaves a job that is somebody else's.
    fn on_unheard(&mut self) -> anyhow::Result<()> {
        match (self.place, self.id()) {
            (Place::Owner(_), Some(id)) => {
                interrupt::break_pipe(id, self.link);
                self.unheard = Some((Deadline::after(UNHEARD), None));
                return Ok(());
            }
            (Place::Guest, Some(id)) => say(self.place.fate(id)),
            (Place::Owner(_) | Place::Onlooker | Place::Guest, _) => {}
        }
        Err(io::Error::from(io::ErrorKind::BrokenPipe).into())
    }

    /// The job has had its SIGPIPE. If it goes on writing what nobody reads, it is canceled.
    fn look_at_unheard(&mut self) {
        let (Some((due, before)), Some(attempt), Some(id)) = (self.unheard, &self.attempt, self.id()) else {
            return;
        };
        if !due.is_over() {
            return;
        }

        let written = attempt.unheard_bytes();
        if before.is_none_or(|before| written <= before) {
            self.unheard = Some((Deadline::after(UNHEARD), Some(written)));
            return;
        }
        self.unheard = None;
        say(format_args!("job {id} goes on writing what nobody reads, so it is canceled"));
        interrupt::cancel_unheard(id, self.link);
    }

    /// Waits until something has happened. False if nothing has happened within the patience, which is zero
    /// while there is output to pass on.
    fn wait(&mut self, has_more: bool) -> anyhow::Result<bool> {
        let patience = self.patience(has_more).map_or(Deadline::NEVER, Deadline::after);
        let (due, told) = (self.session.due(), Deadline::at_some(self.obstacles.due()));

        let held = self.held.as_ref().map_or(Deadline::NEVER, HeldSignals::due);
        let unheard = self.unheard.map_or(Deadline::NEVER, |(due, _)| due);

        let mut fds = Vec::with_capacity(3);
        fds.extend(self.session.fd().iter().map(|&fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(self.inotify.iter().map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN)));
        let signal = self.held.as_ref().and_then(HeldSignals::fd);
        fds.extend(signal.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let soonest = due.or(patience).or(held).or(unheard).or(told).or(self.queue.due());
        let count = match poll(&mut fds, soonest.poll_timeout()) {
            Ok(count) => count,
            Err(Errno::EINTR) => return Ok(true),
            Err(error) => return Err(error).context("cannot wait"),
        };

        let from_poold = !self.session.is_away() && fds[0].any().unwrap_or(false);
        if let Some(inotify) = &self.inotify {
            // The files are read in any case. This only empties the queue of events.
            let _ = inotify.read_events();
        }
        if from_poold || due.is_over() {
            self.turn()?;
            return Ok(true);
        }
        if let Some(held) = &self.held {
            if self.id().is_none() {
                held.look(UNANSWERED);
            } else if held.has_come() {
                self.take_over_signals()?;
            }
        }
        self.look_at_unheard();
        Ok(count > 0)
    }

    /// How long to wait when nothing happens. None: without end.
    fn patience(&self, has_more: bool) -> Option<Duration> {
        match &self.attempt {
            _ if has_more => Some(Duration::ZERO),
            Some(attempt) if !attempt.is_watched() => Some(UNWATCHED),
            Some(_) if self.inotify.is_none() => Some(WITHOUT_INOTIFY),
            // The job waits for a slot.
            None if self.held.is_some() && self.id().is_some() => Some(UNWATCHED),
            Some(_) | None => None,
        }
    }

    /// Reads what poold has sent, or looks whether poold is back.
    fn turn(&mut self) -> anyhow::Result<()> {
        match self.session.turn() {
            Ok(Turn::Idle | Turn::Read) => Ok(()),
            Ok(Turn::Lost) => self.on_lost(),
            Ok(Turn::Back) => {
                self.ask();
                Ok(())
            }
            Err(error) => match self.id() {
                Some(id) if self.session.is_away() => {
                    Err(error.context(format!("job {id} was accepted and will run when poold is back")))
                }
                Some(_) | None => Err(error),
            },
        }
    }

    /// poold has gone. A job that was accepted is asked for when poold is back. A job that may have been
    /// accepted is submitted again only if poold can tell that it is the same job.
    fn on_lost(&mut self) -> anyhow::Result<()> {
        self.progress.clear();
        self.queue = QueueLine::new();
        self.obstacles.clear();
        match &self.subject {
            Subject::Job(_) => Ok(()),
            Subject::Submission(submit) if is_repeatable(submit) => Ok(()),
            Subject::Submission(_) => {
                let error = not_known_whether_accepted(ClientError::Disconnected(None));
                // The error is printed later, when the signal has ended poolctl.
                if self.held.as_ref().is_some_and(HeldSignals::has_come) {
                    say(format_args!("{error:#}"));
                }
                Err(error)
            }
        }
    }
}

/// Whether the job can be submitted again when the reply is lost. Its key tells poold that it is the same
/// job. A spooled input is lost with its connection.
pub fn is_repeatable(submit: &Submit) -> bool {
    submit.job.key.is_some() && submit.job.stdin.is_none()
}
