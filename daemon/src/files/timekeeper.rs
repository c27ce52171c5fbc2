//! The timekeeper: a thread that notes when running jobs write, beside their output, for whoever wants what
//! was written since a time ([`pool_proto::output_times`]).
//!
//! It takes part from the first attempt on that has lasted for a second. While a file rests, it costs nothing:
//! inotify(7) tells of the next write, once. After that the file is looked at on the second, until it rests
//! again.
//!
//! ```text
//!   begin ──▶ resting ── next write ──▶ written ── on the second ──▶ resting
//!                                          ▲   └── has grown meanwhile ┘
//!                                          └───────────────┘
//! ```

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{InitFlags, Inotify, WatchDescriptor};
use pool_proto::output_times::{ATTRIBUTE, Mark, Marks};
use rustix::fs::{XattrFlags, fsetxattr};

use super::layout::paths;
use super::output;
use crate::job::{Claim, IdSet};
use crate::kernel::{self, clock::wall_us};

/// See the module's description. Its thread ends by itself when this is dropped.
#[derive(Debug)]
pub struct Timekeeper {
    state_dir: PathBuf,
    /// None before the first attempt.
    thread: Option<Handle>,
    /// The attempts that it has in hand.
    begun: IdSet<Claim>,
}

#[derive(Debug)]
struct Handle {
    orders: Sender<Order>,
    wake: Arc<EventFd>,
}

#[derive(Debug)]
enum Order {
    Begin(Claim),
    End(Claim),
    Stop,
}

impl Timekeeper {
    /// Without a thread as yet.
    pub fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned(), thread: None, begun: IdSet::default() }
    }

    /// The attempt has lasted for a while, and its files have their names. Where no thread can be had, nothing
    /// is noted.
    pub fn begin(&mut self, claim: Claim) {
        if self.thread.is_none() {
            match start(&self.state_dir) {
                Ok(thread) => self.thread = Some(thread),
                Err(error) => {
                    tracing::warn!(%error, %claim, "when the job writes is not noted");
                    return;
                }
            }
        }
        self.begun.insert(claim);
        self.order(Order::Begin(claim));
    }

    /// The attempt is over.
    pub fn end(&mut self, claim: Claim) {
        if self.begun.remove(&claim) {
            self.order(Order::End(claim));
        }
    }

    fn order(&self, order: Order) {
        if self.thread.as_ref().is_some_and(|thread| !thread.take(order)) {
            tracing::error!("bug: the thread that notes times has ended");
        }
    }
}

impl Handle {
    /// False where the thread has ended.
    fn take(&self, order: Order) -> bool {
        self.orders.send(order).is_ok() && self.wake.write(1).is_ok()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.take(Order::Stop);
    }
}

fn start(state_dir: &Path) -> io::Result<Handle> {
    let (orders, received) = channel();
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    let keeper = Keeper {
        state_dir: state_dir.to_owned(),
        orders: received,
        wake: wake.clone(),
        inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?,
        streams: HashMap::new(),
        watches: HashMap::new(),
        due: None,
    };
    thread::Builder::new().name("timekeeper".to_owned()).spawn(move || keeper.work())?;
    Ok(Handle { orders, wake })
}

/// Standard output (0) or error (1) of an attempt.
type StreamId = (Claim, usize);

/// What the thread has.
struct Keeper {
    state_dir: PathBuf,
    orders: Receiver<Order>,
    wake: Arc<EventFd>,
    inotify: Inotify,
    streams: HashMap<StreamId, Stream>,
    watches: HashMap<WatchDescriptor, StreamId>,
    /// When to look at what is being written, if anything is.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Stream {
    path: PathBuf,
    marks: Marks,
    /// What tells of the next write.
    watch: Option<WatchDescriptor>,
    /// It was written to after the last look.
    is_written: bool,
}

impl Keeper {
    fn work(mut self) {
        loop {
            let mut ready =
                [self.wake.as_fd(), self.inotify.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut ready, self.timeout()) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return tracing::error!(%error, "when jobs write is not noted any more"),
            }
            self.on_writes();
            if self.due.is_some_and(|due| due <= Instant::now()) {
                self.look_at_written();
            }
            if !self.on_orders() {
                return;
            }
        }
    }

    /// Rounded up: a poll that ends a little early would only be done again.
    fn timeout(&self) -> PollTimeout {
        let Some(due) = self.due else { return PollTimeout::NONE };
        let ms = due.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
        PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
    }

    /// False when it is to stop.
    fn on_orders(&mut self) -> bool {
        let _ = self.wake.read();
        loop {
            match self.orders.try_recv() {
                Ok(Order::Begin(claim)) => self.begin(claim),
                Ok(Order::End(claim)) => self.end(claim),
                Err(TryRecvError::Empty) => return true,
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn begin(&mut self, claim: Claim) {
        let (stdout, stderr) = paths(&self.state_dir, claim);
        for (which, path) in [stdout, stderr].into_iter().enumerate() {
            let stream = Stream { path, marks: Marks::default(), watch: None, is_written: false };
            self.streams.insert((claim, which), stream);
            self.look((claim, which));
        }
    }

    fn end(&mut self, claim: Claim) {
        for which in [0, 1] {
            self.let_go((claim, which));
        }
    }

    fn let_go(&mut self, id: StreamId) {
        if let Some(watch) = self.streams.remove(&id).and_then(|stream| stream.watch) {
            self.watches.remove(&watch);
            let _ = self.inotify.rm_watch(watch);
        }
    }

    fn on_writes(&mut self) {
        while let Ok(events) = self.inotify.read_events() {
            for event in events {
                let id = self.watches.remove(&event.wd);
                if let Some(stream) = id.and_then(|id| self.streams.get_mut(&id)) {
                    (stream.watch, stream.is_written) = (None, true);
                    self.due = self.due.or_else(|| Some(next_second()));
                }
            }
        }
    }

    fn look_at_written(&mut self) {
        self.due = None;
        let is_written = |(id, stream): (&StreamId, &Stream)| stream.is_written.then_some(*id);
        let written: Vec<StreamId> = self.streams.iter().filter_map(is_written).collect();
        written.into_iter().for_each(|id| self.look(id));
    }

    /// Notes how long the file is by now, and has the next write told. A file of which that is not possible is
    /// let go: it is gone, or its file system has no such attributes, or there are no more watches.
    fn look(&mut self, id: StreamId) {
        match self.try_look(id) {
            Ok(true) => self.due = self.due.or_else(|| Some(next_second())),
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(claim = %id.0, %error, "when the job writes is not noted");
                self.let_go(id);
            }
        }
    }

    /// Whether it is being written.
    fn try_look(&mut self, id: StreamId) -> io::Result<bool> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(false) };
        let file = output::open(&stream.path)?;
        let length = || file.metadata().map(|file| file.len());
        let bytes = length()?;
        // The time after the look: what comes behind these bytes was written later.
        if stream.marks.add(Mark { at_us: wall_us(), bytes }) {
            fsetxattr(&file, ATTRIBUTE, &stream.marks.encode(), XattrFlags::empty())?;
        }

        let watch = kernel::watch_next_write(&self.inotify, &file)?;
        self.watches.insert(watch, id);
        stream.watch = Some(watch);
        // What was written before the watch was there is not told.
        stream.is_written = length()? != bytes;
        Ok(stream.is_written)
    }
}

/// All that are written are looked at together.
fn next_second() -> Instant {
    Instant::now() + Duration::from_micros(1_000_000 - wall_us().rem_euclid(1_000_000).unsigned_abs())
}
