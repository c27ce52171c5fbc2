//! The loop: what comes in goes to the model, what the model wants is done, and the screen is drawn when
//! something on it has changed. Nothing is decided here but when: under load events are read five times a
//! second and the screen is drawn ten times; a key is answered at once; without events nothing happens at
//! all.

use std::os::fd::BorrowedFd;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use pool_proto::Client;
use ratatui::crossterm::event::Event;
use signal_hook::consts::{SIGHUP, SIGTSTP};
use signal_hook::low_level::emulate_default_handler;

use super::errands::{Brought, Errands};
use super::feed::{Feed, FeedNews};
use super::job::Micros;
use super::model::Model;
use super::signals::{Noted, Signals};
use super::tail::Tail;
use super::view;
use super::view::palette::Palette;
use super::wish::{Reading, Wish};
use crate::exit::ExitReason;
use crate::link::connect::Link;
use crate::link::deadline::Deadline;
use crate::term::screen::{Screen, wait_for_enter};
use crate::term::text::say;

/// The time between two pictures, if no key was pressed.
const FRAME: Duration = Duration::from_millis(100);

/// The time between two readings of events, or of a log. What comes meanwhile is read at once.
const GATHER: Duration = Duration::from_millis(200);

/// See the module's description.
pub struct Stage<'a> {
    link: &'a Link,
    model: Model,
    palette: Palette,
    screen: Screen,
    signals: Signals,
    feed: Feed<'a>,
    errands: Errands,
    tail: Option<Tail>,
    /// Events and logs are read from then on.
    next_reading: Instant,
    /// The screen is drawn from then on.
    next_frame: Instant,
    is_dirty: bool,
    exit: Option<ExitReason>,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, Default)]
struct Ready {
    /// The terminal has gone.
    is_gone: bool,
    keys: bool,
    signals: bool,
    errands: bool,
    feed: bool,
    tail: bool,
}

impl<'a> Stage<'a> {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Those of the terminal, and of connecting to poold once more.
    pub fn open(link: &'a Link, clients: [Client; 2], palette: Palette) -> anyhow::Result<Self> {
        let [events, readings] = clients;
        let signals = Signals::note()?;
        let errands = Errands::start(link, readings)?;
        let feed = Feed::open(link, events);
        let screen = Screen::open()?;
        let model = Model::new(now(), screen.size()?);
        let start = Instant::now();
        Ok(Self {
            link,
            model,
            palette,
            screen,
            signals,
            feed,
            errands,
            tail: None,
            next_reading: start,
            next_frame: start,
            is_dirty: true,
            exit: None,
        })
    }

    /// Shows everything until the user quits, or a signal ends it.
    ///
    /// # Errors
    /// When the terminal takes nothing, or poold refuses to tell what happens.
    pub fn run(mut self) -> anyhow::Result<ExitReason> {
        loop {
            match self.turn() {
                // The terminal has gone, and its signal is on its way.
                Err(error) if is_hangup(&error) => return Ok(ExitReason::Signal(SIGHUP)),
                other => other?,
            }
            if let Some(exit) = self.exit {
                return Ok(exit);
            }
        }
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        self.model.advance(now());
        for wish in self.model.wishes() {
            self.grant(wish)?;
        }
        if self.exit.is_some() {
            return Ok(());
        }
        self.draw()?;
        let ready = self.wait()?;
        self.serve(ready)
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        self.is_dirty |= self.model.take_dirt();
        let start = Instant::now();
        if self.is_dirty && start >= self.next_frame {
            self.model.settle();
            self.screen.draw(self.model.size, |buffer| view::draw(&self.model, self.palette, buffer))?;
            self.is_dirty = false;
            self.next_frame = start + FRAME;
        }
        Ok(())
    }

    /// Waits until there is something to do.
    fn wait(&self) -> anyhow::Result<Ready> {
        let may_read = Instant::now() >= self.next_reading;
        let feed = self.feed.fd();
        let tail = self.tail.as_ref().and_then(Tail::fd);
        let frame = if self.is_dirty { Deadline::at(self.next_frame) } else { Deadline::NEVER };
        let reading = if may_read { Deadline::NEVER } else { Deadline::at(self.next_reading) };
        let model = self.model.due().map_or(Deadline::NEVER, |due| {
            Deadline::after(Duration::from_micros((due - now()).max(0).unsigned_abs()))
        });
        let until = frame.or(reading).or(model).or(self.feed.due());

        Screen::with_fd(|keys| {
            let mut awaited: Vec<BorrowedFd<'_>> = vec![keys, self.signals.fd(), self.errands.fd()];
            awaited.extend(feed.filter(|_| may_read));
            awaited.extend(tail.filter(|_| may_read));
            let mut fds: Vec<PollFd<'_>> =
                awaited.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
            match poll(&mut fds, until.poll_timeout()) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("cannot wait for keys and events"),
            }
            let is_ready = |place: usize| fds.get(place).is_some_and(|fd| fd.any().unwrap_or(false));
            let may_read = Instant::now() >= self.next_reading;
            let is_gone = fds[0].revents().is_some_and(|found| found.contains(PollFlags::POLLHUP));
            Ok(Ready {
                is_gone,
                keys: is_ready(0),
                signals: is_ready(1),
                errands: is_ready(2),
                feed: may_read,
                tail: may_read && tail.is_some(),
            })
        })
    }

    fn serve(&mut self, ready: Ready) -> anyhow::Result<()> {
        if ready.signals {
            for noted in self.signals.take() {
                self.heed(noted)?;
                // A terminal that has gone sends SIGCONT, too.
                if self.exit.is_some() {
                    return Ok(());
                }
            }
        }
        if ready.is_gone {
            self.exit = Some(ExitReason::Signal(SIGHUP));
            return Ok(());
        }
        if ready.keys {
            self.read_keys()?;
        }
        if ready.errands {
            // What was read is true for the time after all events that have come by now.
            let brought = self.errands.take();
            self.read_events()?;
            brought.into_iter().for_each(|brought| self.take(brought));
        }
        if ready.feed {
            self.read_events()?;
        }
        if ready.tail
            && let Some(tail) = &mut self.tail
        {
            tail.read(|reading| self.model.take(reading));
        }
        Ok(())
    }

    fn read_events(&mut self) -> anyhow::Result<()> {
        let model = &mut self.model;
        model.advance(now());
        let mut has_heard = false;
        self.feed.turn(|news| {
            has_heard = true;
            match news {
                FeedNews::Heard(happening) => model.hear(&happening),
                FeedNews::Missed => model.on_missed(),
                FeedNews::Lost => model.on_lost(),
            }
        })?;
        if has_heard {
            self.next_reading = Instant::now() + GATHER;
        }
        Ok(())
    }

    fn read_keys(&mut self) -> anyhow::Result<()> {
        let mut count = 0;
        loop {
            match self.screen.next_event() {
                Ok(Some(Event::Key(key))) => self.model.press(key),
                Ok(Some(Event::Mouse(mouse))) => self.model.point(mouse),
                Ok(Some(Event::Resize(columns, rows))) => self.model.resize((columns, rows)),
                Ok(Some(_)) => {}
                Ok(None) => break,
                // The terminal has gone.
                Err(_) => {
                    self.exit = Some(ExitReason::Signal(SIGHUP));
                    break;
                }
            }
            count += 1;
        }
        if count > 0 {
            self.next_frame = Instant::now();
        }
        Ok(())
    }

    fn heed(&mut self, noted: Noted) -> anyhow::Result<()> {
        match noted {
            Noted::End(signal) => self.exit = Some(ExitReason::Signal(signal)),
            Noted::Stop => self.suspend()?,
            // Whoever has stopped us, the terminal was another process's meanwhile.
            Noted::Continued => self.resume()?,
            Noted::Resized => self.model.resize(self.screen.size()?),
        }
        Ok(())
    }

    fn suspend(&mut self) -> anyhow::Result<()> {
        self.screen.leave();
        emulate_default_handler(SIGTSTP).context("cannot stop")?;
        self.resume()
    }

    fn resume(&mut self) -> anyhow::Result<()> {
        self.screen.enter()?;
        self.model.resize(self.screen.size()?);
        self.next_frame = Instant::now();
        Ok(())
    }

    fn take(&mut self, brought: Brought) {
        match brought {
            Brought::Reading(reading) => self.model.take(reading),
            Brought::Output { id, attempt, files } => {
                if self.model.story.as_ref().is_none_or(|story| story.id != id) {
                    return;
                }
                self.model.take(Reading::Opened { id, attempt: Ok(attempt) });
                let mut tail = Tail::of(files);
                tail.read(|reading| self.model.take(reading));
                self.tail = Some(tail);
            }
        }
    }

    fn grant(&mut self, wish: Wish) -> anyhow::Result<()> {
        match wish {
            Wish::CloseLog => self.tail = None,
            Wish::Act(act) => self.errands.act(act)?,
            Wish::Edit(id) => self.edit(id)?,
            Wish::SetMouse(has_mouse) => self.screen.set_mouse(has_mouse)?,
            Wish::Redraw => self.screen.clear()?,
            Wish::Suspend => self.suspend()?,
            Wish::Quit => self.exit = Some(ExitReason::Success),
            Wish::ReadAll { .. }
            | Wish::ReadPools { .. }
            | Wish::ReadQueue { .. }
            | Wish::ReadJobs(_)
            | Wish::ReadStory(_)
            | Wish::OpenLog(_) => self.errands.read(wish),
        }
        Ok(())
    }

    /// Has the user edit a job with the verb `edit`, on the terminal as it was.
    fn edit(&mut self, id: u64) -> anyhow::Result<()> {
        self.screen.leave();
        let program = std::env::current_exe().context("cannot find poolctl")?;
        let edited = Command::new(program)
            .arg("--socket")
            .arg(self.link.socket())
            .args(["edit", &id.to_string()])
            .status();
        match edited {
            Ok(status) if status.success() => {}
            Ok(_) => {
                say("Enter goes back");
                wait_for_enter();
            }
            Err(error) => self.model.tell(format!("poolctl edit cannot be started: {error}")),
        }
        self.resume()
    }
}

fn is_hangup(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    code == Some(nix::libc::EIO)
}

/// The time, in microseconds since 1970.
fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}
