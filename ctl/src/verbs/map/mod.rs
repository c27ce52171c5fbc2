//! `poolctl map`: runs a command for each of any number of items, through a pool.
//!
//! ```text
//! items ──▶ template ──▶ lanes (jobs in flight) ──▶ results ──▶ stdout, stderr
//!           resume                   │
//!                                    └──▶ tally: when to stop, exit code
//! ```
//!
//! One loop waits for all stages at once. Each stage takes only what the next stage has room for: a bounded
//! number of jobs is in flight, a bounded amount of output waits to be printed, and no item is read before it
//! is needed. So memory does not grow with the input.
//!
//! How a map ends early:
//!
//! | cause | running jobs | jobs that have not started |
//! |---|---|---|
//! | an error, a pool whose program cannot start | is waited for | is waited for, if it is accepted |
//! | `--halt soon` | is waited for | is canceled |
//! | first SIGINT or SIGTERM | gets it | is canceled |
//! | second one, `--halt now`, nobody reads our stdout | is canceled | is canceled |
//! | one while poold is away | is canceled when poold is back; a second one ends us | likewise |
//! | our death | is canceled; with `--resume` goes on | likewise |

mod batch;
mod errands;
mod halt;
mod items;
mod joblog;
mod lane;
mod options;
mod places;
mod results;
mod resume;
mod signals;
mod single;
mod sources;
mod stop;
mod template;
mod window;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use pool_proto::nouns::OnDisconnect;
use pool_proto::{ClientError, Refusal, State};

use self::halt::{Tally, Urgency};
use self::items::{Items, NextItem};
use self::joblog::JobLog;
use self::lane::{EndedItem, LaneEvent, Load, Returned};
use self::options::Asked;
use self::results::{Results, Style};
use self::resume::{Occurrences, Resume};
use self::signals::Signals;
use self::stop::Stop;
use self::template::Template;
use self::window::{Room, Window};
use super::Context;
use crate::compose::job::job_of;
use crate::exit::ExitReason;
use crate::link::deadline::Deadline;
use crate::link::session::Turn;
use crate::tell::outcome::pointer;
use crate::tell::shell::command_line;
use crate::term::bar::Bar;
use crate::term::json;
use crate::term::obstacles::Obstacles;
use crate::term::printer::Printing;
use crate::term::stream::Stream;
use crate::term::text::{self, CANNOT_WRITE, Untold, hint, say};

pub use self::options::MapOptions;

/// How often the bar shows the time that has passed.
const TICK: Duration = Duration::from_millis(500);

impl MapOptions {
    /// Runs the map to its end.
    ///
    /// # Errors
    /// When items cannot be read, jobs are not accepted, or output cannot be written.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let Asked { command, items, values } = self.asked()?;
        let mut job = job_of(&self.job, command)?;
        if let Some([pool, method]) = self.call.as_deref() {
            job.pool = Some(pool.clone());
            job.method = Some(method.clone());
        }

        let resume = self.resume.clone().map(|name| Resume::new(name, self.call.as_deref()));
        let occurrences = resume.is_some().then(Occurrences::default);
        // The jobs of a map that can be resumed go on when poolctl dies.
        let on_disconnect = if resume.is_some() { OnDisconnect::Detach } else { OnDisconnect::Cancel };

        let template = Template::new(job, resume, values);
        if self.dry_run {
            return dry_run(&template, items, context.as_json);
        }

        let bar = if self.bar { Bar::on_stderr(items.total()) } else { Bar::hidden() };
        let stop = Stop::new(&context.link, template.is_call());
        let style = Style { keep_order: self.keep_order, tag: self.tag, json: context.as_json };
        let window = Window::open(&context.link, template, on_disconnect, self.pace())?;
        let map = Map {
            window,
            items: Some(items),
            occurrences,
            results: Results::new(style),
            tally: Tally::new(self.halt()),
            joblog: self.joblog.as_deref().map(JobLog::open).transpose()?,
            bar,
            signals: Signals::noted()?,
            stop,
            obstacles: Obstacles::of_many(),
            first_failed: None,
            error: None,
        };
        map.run(self.fail_count)
    }
}

/// Prints the command of each item instead of running it. No poold is asked.
fn dry_run(template: &Template, mut items: Items, as_json: bool) -> anyhow::Result<ExitReason> {
    let mut exit = ExitReason::Success;
    while let Some(item) = items.wait_next()? {
        if let Some(fault) = template.fault(&item) {
            say(fault);
            exit = ExitReason::Unwell;
        } else if as_json {
            json::print(&template.described(item))?;
        } else {
            text::print(&format!("{}\n", command_line(&template.as_command(&item))))?;
        }
    }
    Ok(exit)
}

/// What the loop waits for besides the jobs in flight.
struct Wants {
    /// Items that have not come yet.
    items: bool,
    /// When the next item may be submitted.
    due: Deadline,
}

impl Wants {
    const NOTHING: Self = Self { items: false, due: Deadline::NEVER };
}

struct Map<'a> {
    window: Window<'a>,
    /// None when all items have been taken.
    items: Option<Items>,
    /// Only in a map with keys, which are made of items and occurrences.
    occurrences: Option<Occurrences>,
    results: Results,
    tally: Tally,
    joblog: Option<JobLog>,
    bar: Bar,
    signals: Signals,
    stop: Stop,
    obstacles: Obstacles,
    first_failed: Option<u64>,
    /// The first error.
    error: Option<anyhow::Error>,
}

impl Map<'_> {
    fn run(mut self, fail_count: bool) -> anyhow::Result<ExitReason> {
        loop {
            let wants = self.submit()?;
            let blocked = self.print();

            let is_over = self.items.is_none() && !self.window.has_refused();
            if self.window.is_empty() && (is_over || self.stop.is_stopping()) {
                self.results.close();
                if !self.results.printer.has_work() {
                    break;
                }
                if blocked.is_none() {
                    continue;
                }
            }

            self.wait(&wants, blocked)?;
        }

        self.bar.finish();
        if self.stop.is_unheard() {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        if let Some(signal) = self.stop.signal() {
            return Ok(ExitReason::Signal(signal));
        }

        if let Some(summary) = self.tally.summary() {
            say(summary);
        }
        if let Some(id) = self.first_failed {
            hint(pointer(id, self.tally.failed()));
        }
        let exit = self.tally.exit(fail_count);
        Ok(if exit.is_success() && self.results.has_unshown() { ExitReason::Untold } else { exit })
    }

    /// Submits as many items as there is room for.
    fn submit(&mut self) -> anyhow::Result<Wants> {
        let wants = self.gather()?;
        // Items that have come do not wait for items that may come.
        self.window.flush()?;
        Ok(wants)
    }

    fn gather(&mut self) -> anyhow::Result<Wants> {
        while !self.stop.is_stopping() && self.results.has_room() {
            match self.window.room(self.tally.left_to_halt()) {
                Room::Now => {}
                Room::At(due) if self.items.is_some() || self.window.has_refused() => {
                    return Ok(Wants { due: Deadline::at(due), ..Wants::NOTHING });
                }
                Room::At(_) | Room::None => break,
            }
            if self.window.resubmit()? {
                continue;
            }
            let Some(items) = &mut self.items else { break };
            let template = self.window.template();
            match items.next() {
                NextItem::Item(item) => {
                    if let Some(fault) = template.fault(&item) {
                        // It fails by itself; the others go on.
                        self.on_ended(EndedItem { item, existing: false, end: Returned::Unfit(fault) });
                        continue;
                    }
                    let next = |occurrences: &mut Occurrences| occurrences.next(&item.identity());
                    let occurrence = self.occurrences.as_mut().map_or(0, next);
                    self.window.submit(Load { item, occurrence })?;
                }
                NextItem::Later => return Ok(Wants { items: true, ..Wants::NOTHING }),
                NextItem::End => {
                    self.bar.set_total(items.taken());
                    self.items = None;
                }
            }
        }
        Ok(Wants::NOTHING)
    }

    /// Prints as much as the streams take. Returns the stream whose reader has to be waited for.
    fn print(&mut self) -> Option<Stream> {
        if !self.results.printer.has_work() {
            return None;
        }
        let printer = &mut self.results.printer;
        match self.bar.aside(|| printer.print()) {
            Ok(Printing::Done) => None,
            Ok(Printing::Blocked(target)) => Some(target),
            Err(error) => {
                if error.kind() == io::ErrorKind::BrokenPipe {
                    self.on_unheard();
                } else {
                    let error = anyhow::Error::from(error).context(CANNOT_WRITE);
                    self.fail(Untold::new(error, "jobs have run: `poolctl ls` lists them").into());
                    self.results.printer.clear();
                }
                None
            }
        }
    }

    /// Waits until something has happened, and then acts on it.
    fn wait(&mut self, wants: &Wants, blocked: Option<Stream>) -> anyhow::Result<()> {
        let lanes = self.window.busy();
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let output = |target| if blocked == Some(target) { PollFlags::POLLOUT } else { PollFlags::empty() };

        let items = self.items.as_ref().filter(|_| wants.items).and_then(Items::readable);

        // Even without flags, poll(2) tells when the reader of stdout has gone.
        let mut fds = vec![
            PollFd::new(stdout.as_fd(), output(Stream::Stdout)),
            PollFd::new(stderr.as_fd(), output(Stream::Stderr)),
        ];
        fds.extend(self.signals.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(items.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));

        let first_lane = fds.len();
        fds.extend(lanes.iter().map(|&(_, fd)| PollFd::new(fd, PollFlags::POLLIN)));

        // While poold is away, the lanes look for it from time to time. Signals, items and output go on
        // meanwhile.
        let due = self.window.due().or(Deadline::at_some(self.obstacles.due())).or(wants.due);
        let tick = if self.bar.is_shown() { Deadline::after(TICK) } else { Deadline::NEVER };
        match poll(&mut fds, due.or(tick).poll_timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait"),
        }

        let happened = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let is_unheard = fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR));
        let has_items = items.is_some() && happened(&fds[first_lane - 1]);

        let ready: Vec<usize> = lanes
            .iter()
            .zip(&fds[first_lane..])
            .filter(|(_, fd)| happened(fd))
            .map(|(&(lane, _), _)| lane)
            .collect();

        if is_unheard {
            self.on_unheard();
        }
        if has_items
            && let Some(items) = &mut self.items
            && let Err(error) = items.fill()
        {
            self.fail(error);
        }

        for lane in ready {
            self.on_ready(lane)?;
        }
        for lane in self.window.away() {
            // One look is enough for all lanes while poold is away. When it is back, all lanes connect at
            // once.
            if self.on_ready(lane)? == Turn::Idle {
                break;
            }
        }

        // Signals come after the lanes, which know by now whether poold is away.
        for signal in self.signals.taken() {
            self.stop.on_signal(signal, &self.window.accepted(), self.window.is_away())?;
        }
        for line in self.obstacles.lines() {
            self.bar.aside(|| say(line));
        }
        self.bar.tick();
        Ok(())
    }

    /// Acts on what poold has said on this lane.
    fn on_ready(&mut self, lane: usize) -> anyhow::Result<Turn> {
        let turn = self.window.turn(lane)?;
        if turn == Turn::Back {
            // What poold was told of the end of the map may have been lost with it.
            self.stop.on_accepted(&self.window.accepted_on(lane));
        }

        loop {
            match self.window.next(lane) {
                Ok(Some(LaneEvent::Accepted(ids))) => self.stop.on_accepted(&ids),
                Ok(Some(LaneEvent::Ended(ended))) => self.on_ended(ended),
                Ok(Some(LaneEvent::Obstacle(obstacle))) => self.obstacles.note(obstacle),
                Ok(None) => return Ok(turn),
                Err(ClientError::Refused(refusal)) => self.on_refused(lane, refusal),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn on_ended(&mut self, ended: EndedItem) {
        ended.id().into_iter().for_each(|id| self.obstacles.forget(id));
        if let Some(why) = ended.hopeless() {
            // So will all others fail: it is said once, and no more are submitted.
            let left_out = "the calls in flight have failed, and no more were submitted";
            self.fail(anyhow!("{why}; {left_out}"));
            return;
        }
        let is_ours = self.stop.is_canceling() && ended.state() == State::Canceled;
        let argv = self.window.template().argv(&ended.item);
        if let Some(Err(error)) = self.joblog.as_mut().map(|log| log.add(&ended, &argv)) {
            self.joblog = None;
            self.fail(Untold::new(error, "jobs have run: `poolctl ls` lists them").into());
        }

        let remark = ended.remark(&argv).filter(|_| !is_ours);
        if !matches!(ended.state(), State::Succeeded | State::Canceled) {
            self.first_failed = self.first_failed.or(ended.id());
        }
        let enough = if is_ours { None } else { self.tally.count(&ended) };

        self.bar.update(self.tally.done(), self.tally.failed());
        if self.stop.is_unheard() {
            return;
        }
        if let Err(error) = self.results.add(ended, remark.as_deref()) {
            self.fail(error);
        }

        match enough {
            Some(Urgency::Soon) => self.stop.halt(&self.window.accepted()),
            Some(Urgency::Now) => self.stop.now(&self.window.accepted()),
            None => {}
        }
    }

    /// poold has refused the items of a lane. If the queue is full, or there are too many clients, the items
    /// are submitted again when fewer of our jobs are in flight.
    fn on_refused(&mut self, lane: usize, refusal: Refusal) {
        let is_turned_away = matches!(refusal, Refusal::TooManyClients { .. });
        let is_crowded = is_turned_away || matches!(refusal, Refusal::QueueFull { .. });
        if !(is_crowded && self.window.shrink(lane, is_turned_away)) {
            self.window.give_up(lane);
            self.fail(ClientError::Refused(refusal).into());
        }
    }

    /// Nobody reads our stdout any more, so everything is canceled.
    fn on_unheard(&mut self) {
        self.results.printer.clear();
        self.stop.unheard(&self.window.accepted());
    }

    /// Starts no more jobs, and waits for those in flight.
    fn fail(&mut self, error: anyhow::Error) {
        self.error.get_or_insert(error);
        self.stop.soon();
    }
}
