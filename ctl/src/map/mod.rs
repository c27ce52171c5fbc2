//! `map`: a command for each of any number of items, through a pool.
//!
//! ```text
//! items ──▶ template ──▶ lanes (jobs in flight) ──▶ results ──▶ stdout, stderr
//!           resume                   │
//!                                    └──▶ tally: when to stop, exit code
//! ```
//!
//! One loop waits for all of them at once. Each stage takes only what the next has room for: a bounded number of jobs is in flight, a
//! bounded amount of output waits to be printed, and no item is read before it is needed. So memory does not grow with the input.
//!
//! How it ends early:
//!
//! | what | what runs | what has not started |
//! |---|---|---|
//! | `--halt soon`, an error, an item that is no text | is waited for | stays as it is, if it is accepted, and is waited for |
//! | first SIGINT or SIGTERM | gets it | is canceled |
//! | second one, `--halt now`, nobody reads our stdout | is canceled | is canceled |
//! | our death | is canceled; with `--resume` goes on | likewise |

mod batch;
mod halt;
mod items;
mod lane;
mod options;
mod printer;
mod progress;
mod results;
mod resume;
mod single;
mod stop;
mod template;
mod window;

use std::io;
use std::os::fd::AsFd;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pool_proto::interface::OnDisconnect;
use pool_proto::{ClientError, Refusal, State};

use self::halt::{Ends, Halt, Tally, Urgency};
use self::items::{Items, Next};
use self::lane::{Ended, Event, Load};
use self::printer::Target;
use self::progress::Progress;
use self::results::{Results, Style};
use self::resume::{Occurrences, Resume};
use self::stop::{Signals, Stop};
use self::template::Template;
use self::window::Window;
use crate::cli::UsageError;
use crate::connect::Link;
use crate::outcome;
use crate::submit::{job_of, utf8};

pub use self::options::MapOptions;

/// Comes before the items on the command line.
const SEPARATOR: &str = ":::";

/// With a bar, the time that goes on is shown so often.
const TICK_MS: u16 = 500;

/// Runs the map to its end.
///
/// # Errors
/// Whatever kept items from being read, jobs from being accepted, or output from being written.
pub fn run(link: &Link, options: MapOptions, as_json: bool) -> anyhow::Result<u8> {
    let (command, items) = split(&options)?;
    let mut job = job_of(&options.job, command)?;
    if let Some([pool, method]) = options.call.as_deref() {
        job.pool = Some(pool.clone());
        job.method = Some(method.clone());
    }
    let resume = options.resume.clone().map(|name| Resume::new(name, options.call.as_deref()));
    let occurrences = resume.is_some().then(Occurrences::default);
    // A map that can be resumed is not undone by our death.
    let on_disconnect = if resume.is_some() { OnDisconnect::Detach } else { OnDisconnect::Cancel };
    let progress = if options.bar { Progress::on_stderr(items.total()) } else { Progress::hidden() };
    let halt = match options.max_fails {
        Some(count) => {
            Halt::After { urgency: Urgency::Now, ends: Ends::Fail, count: count.saturating_add(1) }
        }
        None => options.halt,
    };
    let template = Template::new(job, resume);
    let stop = Stop::of(template.is_call());
    let map = Map {
        window: Window::open(link, template, on_disconnect)?,
        link,
        items: Some(items),
        occurrences,
        results: Results::new(Style { keep_order: options.keep_order, tag: options.tag, json: as_json }),
        tally: Tally::new(halt),
        progress,
        signals: Signals::noted()?,
        stop,
        error: None,
    };
    map.run(options.fail_count)
}

/// The command, and where its items come from.
fn split(options: &MapOptions) -> anyhow::Result<(Vec<String>, Items)> {
    let mut words =
        options.command.iter().map(|word| utf8("argument", word)).collect::<anyhow::Result<Vec<String>>>()?;
    let place = words.iter().position(|word| word == SEPARATOR);
    let given = place.map(|place| words.split_off(place).split_off(1));
    if options.call.is_some() && !words.is_empty() {
        bail!(UsageError("--call names what is called: there is no command besides".to_owned()));
    }
    if words.is_empty() && options.call.is_none() {
        bail!(UsageError(
            "there is no command before the items: write `poolctl map -- COMMAND ::: ITEM...`".to_owned()
        ));
    }
    let items = match given {
        Some(_) if options.arg_file.is_some() => {
            bail!(UsageError("items come from --arg-file or after `:::`, not from both".to_owned()))
        }
        Some(items) if items.iter().any(|item| item == SEPARATOR) => {
            bail!(UsageError(
                "`:::` may be given once: there are no combinations of several lists of items".to_owned()
            ))
        }
        Some(items) => Items::given(items),
        None => Items::read(options.arg_file.as_deref(), if options.null { 0 } else { b'\n' })?,
    };
    Ok((words, items))
}

struct Map<'a> {
    link: &'a Link,
    window: Window<'a>,
    /// None once all have been taken.
    items: Option<Items>,
    /// Only where keys are made of them.
    occurrences: Option<Occurrences>,
    results: Results,
    tally: Tally,
    progress: Progress,
    signals: Signals,
    stop: Stop,
    /// What went wrong first.
    error: Option<anyhow::Error>,
}

impl Map<'_> {
    fn run(mut self, fail_count: bool) -> anyhow::Result<u8> {
        loop {
            let wants_items = self.submit()?;
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
            self.wait(wants_items, blocked)?;
        }
        self.progress.finish();
        if self.stop.is_unheard() {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        if let Some(signal) = self.stop.signal() {
            return Ok(outcome::of_signal(signal));
        }
        if let Some(summary) = self.tally.summary() {
            eprintln!("poolctl: {summary}");
        }
        Ok(self.tally.code(fail_count))
    }

    /// Submits as much as there is room for; true when more would be if it were there.
    fn submit(&mut self) -> anyhow::Result<bool> {
        let wants_items = self.gather()?;
        // What has come is not kept waiting for what may come.
        self.window.flush()?;
        Ok(wants_items)
    }

    fn gather(&mut self) -> anyhow::Result<bool> {
        while !self.stop.is_stopping() && self.window.has_room() && self.results.has_room() {
            if self.window.resubmit()? {
                continue;
            }
            let Some(items) = &mut self.items else { return Ok(false) };
            let template = self.window.template();
            let next = items.next().and_then(|next| {
                if let Next::Item(item) = &next { template.check(item).map(|()| next) } else { Ok(next) }
            });
            match next {
                Ok(Next::Item(item)) => {
                    let occurrence =
                        self.occurrences.as_mut().map_or(0, |occurrences| occurrences.next(&item.text));
                    self.window.submit(Load { item, occurrence })?;
                }
                Ok(Next::Later) => return Ok(true),
                Ok(Next::End) => {
                    self.progress.set_total(items.taken());
                    self.items = None;
                }
                Err(error) => self.fail(error),
            }
        }
        Ok(false)
    }

    /// Prints what can be printed; tells whose reader has to be waited for.
    fn print(&mut self) -> Option<Target> {
        if !self.results.printer.has_work() {
            return None;
        }
        let printer = &mut self.results.printer;
        match self.progress.aside(|| printer.print()) {
            Ok(printer::State::Done) => None,
            Ok(printer::State::Blocked(target)) => Some(target),
            Err(error) => {
                if error.kind() == io::ErrorKind::BrokenPipe {
                    self.on_unheard();
                } else {
                    self.fail(anyhow::Error::from(error).context("cannot write the output"));
                    self.results.printer.clear();
                }
                None
            }
        }
    }

    /// Until something has happened, which is then seen to.
    fn wait(&mut self, wants_items: bool, blocked: Option<Target>) -> anyhow::Result<()> {
        let lanes = self.window.busy();
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let output = |target| if blocked == Some(target) { PollFlags::POLLOUT } else { PollFlags::empty() };
        let items = self.items.as_ref().filter(|_| wants_items).and_then(Items::readable);
        // Without any flag, stdout still tells that its reader has gone.
        let mut fds = vec![
            PollFd::new(stdout.as_fd(), output(Target::Stdout)),
            PollFd::new(stderr.as_fd(), output(Target::Stderr)),
        ];
        fds.extend(self.signals.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(items.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let first_lane = fds.len();
        fds.extend(lanes.iter().map(|&lane| PollFd::new(self.window.fd(lane), PollFlags::POLLIN)));
        let timeout = if self.progress.is_shown() { PollTimeout::from(TICK_MS) } else { PollTimeout::NONE };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait"),
        }
        let happened = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let is_unheard = fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR));
        let has_items = items.is_some() && happened(&fds[first_lane - 1]);
        let ready: Vec<usize> = lanes
            .into_iter()
            .zip(&fds[first_lane..])
            .filter(|(_, fd)| happened(fd))
            .map(|(lane, _)| lane)
            .collect();
        if is_unheard {
            self.on_unheard();
        }
        for signal in self.signals.taken() {
            self.stop.on_signal(signal, &self.window.accepted(), self.link)?;
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
        self.progress.tick();
        Ok(())
    }

    /// Takes what poold has said on this lane.
    fn on_ready(&mut self, lane: usize) -> anyhow::Result<()> {
        self.window.read(lane)?;
        loop {
            match self.window.next(lane) {
                Ok(Some(Event::Accepted(ids))) => self.stop.on_accepted(&ids, self.link)?,
                Ok(Some(Event::Ended(ended))) => self.on_ended(ended)?,
                Ok(None) => return Ok(()),
                Err(ClientError::Refused(refusal)) => self.on_refused(lane, refusal),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn on_ended(&mut self, ended: Ended) -> anyhow::Result<()> {
        let is_ours = self.stop.is_canceling() && ended.state() == State::Canceled;
        let remark = ended.remark(&self.window.template().argv(&ended.item)).filter(|_| !is_ours);
        let enough = if is_ours { None } else { self.tally.count(&ended) };
        self.progress.update(self.tally.done(), self.tally.failed());
        if self.stop.is_unheard() {
            return Ok(());
        }
        if let Err(error) = self.results.add(ended, remark.as_deref()) {
            self.fail(error);
        }
        match enough {
            Some(Urgency::Soon) => self.stop.soon(),
            Some(Urgency::Now) => self.stop.now(&self.window.accepted(), self.link)?,
            None => {}
        }
        Ok(())
    }

    /// A full queue, or too many clients: with fewer of our jobs in flight there is room.
    fn on_refused(&mut self, lane: usize, refusal: Refusal) {
        let is_crowded = matches!(refusal, Refusal::QueueFull { .. } | Refusal::TooManyClients { .. });
        if !(is_crowded && self.window.shrink(lane)) {
            self.window.give_up(lane);
            self.fail(ClientError::Refused(refusal).into());
        }
    }

    /// Nobody reads our stdout any more: what is left is for nothing.
    fn on_unheard(&mut self) {
        self.results.printer.clear();
        if !self.stop.is_unheard()
            && let Err(error) = self.stop.unheard(&self.window.accepted(), self.link)
        {
            self.fail(error);
        }
    }

    /// Starts nothing more. What is in flight is waited for.
    fn fail(&mut self, error: anyhow::Error) {
        self.error.get_or_insert(error);
        self.stop.soon();
    }
}
