//! A resident program as the supervisor sees it: calls go straight into its standard input, answers come
//! straight from its standard output. Its worker only holds it; a call passes through as few processes as it
//! can.
//!
//! A long answer is read elsewhere ([`aside`](crate::aside)). Until then the program's output is not read any
//! further. Where the program has ended, the answer is read here, at once.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::pipe::{Receiver, Sender};
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use nix::sys::stat::fstat;
use pool_proto::Json;
use pool_proto::nouns::ReadyWhen;
use pool_proto::wire::frame::Decoder;

use super::FleetEvent;
use super::outgoing::Outgoing;
use super::rpc::{self, MAX_LINE, ProgramMessage};
use crate::aside::{LARGE, TURN};
use crate::core::SlotId;
use crate::job::{Call, Claim, JobId, Process, ProcessId, Program, SpawnFailure, Stage, Unit};
use crate::kernel;

/// The file of its standard error is begun anew once it is longer, in bytes, and no more of one call is kept.
const LOG_BYTES: u64 = 1 << 20;

/// So often at most its memory is looked at.
const LOOK_AT_MEMORY: Duration = Duration::from_millis(100);

/// So much of its standard error is searched for its last words, in bytes.
const LAST_WORDS: u64 = 1024;

/// Bytes read at once; after so many reads others have their turn.
const READ: usize = 64 * 1024;
const READS: usize = TURN / READ;

/// What a line says, or what is wrong with it.
pub type Heard = Result<ProgramMessage, String>;

/// A long line. It is read elsewhere, or here, whichever comes first.
#[derive(Debug)]
struct LongLine {
    line: Arc<Vec<u8>>,
    /// It has been handed to whoever reads it elsewhere.
    is_handed: bool,
}

/// What a program wrote to its standard error during a call: the part of its log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogPart {
    pub offset: u64,
    pub bytes: u64,
}

/// See the module's description.
#[derive(Debug)]
pub struct ResidentLink {
    program: Arc<Program>,
    /// None once it takes no more input, or is let go.
    stdin: Option<Sender>,
    /// None once it has closed it.
    stdout: Option<Receiver>,
    lines: Decoder,
    /// The next line, of which it is not known yet what it says.
    long: Option<LongLine>,
    /// What it has said is read into this.
    buffer: Box<[u8]>,
    out: Outgoing,
    /// Its standard error, a file without a name.
    log: File,
    /// Where in it the current call's part begins: at the end of the one before.
    log_mark: u64,
    process: Option<Process>,
    /// All that its worker has started is the program, or was started by it.
    worker: Option<ProcessId>,
    ready: bool,
    /// The call that it has been handed and has not answered.
    call: Option<Claim>,
    /// When its input was closed, some of that call had not been read.
    was_unread: bool,
    last_answered: Option<JobId>,
    memory_seen_at: Option<Instant>,
    /// The program has broken the protocol, and is listened to no more.
    broken: bool,
    /// What it has written last, where that was no whole line.
    unfinished_line: Option<String>,
    /// What became of it, once that is known.
    epitaph: Option<String>,
}

impl ResidentLink {
    pub fn new(program: Arc<Program>, stdin: Sender, stdout: Receiver, log: File) -> Self {
        Self {
            program,
            stdin: Some(stdin),
            stdout: Some(stdout),
            lines: Decoder::of_lines(MAX_LINE),
            long: None,
            buffer: vec![0; READ].into_boxed_slice(),
            out: Outgoing::default(),
            log,
            log_mark: 0,
            process: None,
            worker: None,
            ready: false,
            call: None,
            was_unread: false,
            last_answered: None,
            memory_seen_at: None,
            broken: false,
            unfinished_line: None,
            epitaph: None,
        }
    }

    /// The pipes are told under these tokens.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn register(&mut self, registry: &Registry, stdin: Token, stdout: Token) -> io::Result<()> {
        self.stdin.iter_mut().try_for_each(|pipe| registry.register(pipe, stdin, Interest::WRITABLE))?;
        self.stdout.iter_mut().try_for_each(|pipe| registry.register(pipe, stdout, Interest::READABLE))
    }

    /// Its worker has executed it.
    pub fn started(
        &mut self,
        process: Process,
        slot: SlotId,
        worker: ProcessId,
        events: &mut Vec<FleetEvent>,
    ) {
        (self.process, self.worker) = (Some(process), Some(worker));
        self.log_mark = self.log_bytes();
        if self.program.ready == ReadyWhen::Started || self.ready {
            self.ready = true;
            events.push(FleetEvent::ProgramReady { slot, worker, process });
        }
    }

    /// Hands it a call; goes out with the next [`flush`](Self::flush). False when it cannot get it any more.
    pub fn hand(&mut self, claim: Claim, id: JobId, call: &Call) -> bool {
        if self.stdin.is_none() || self.stdout.is_none() || self.broken {
            return false;
        }
        self.trim_log();
        self.call = Some(claim);
        rpc::encode(id, call, &mut self.out);
        true
    }

    /// What belongs to calls that have been answered is kept no longer than it takes little room.
    pub fn trim_log(&mut self) {
        if self.log_mark > LOG_BYTES && self.log.set_len(0).is_ok() {
            self.log_mark = 0;
        }
    }

    fn log_bytes(&self) -> u64 {
        fstat(&self.log).map_or(0, |found| found.st_size.unsigned_abs())
    }

    /// Sends what the pipe takes, and no more than is its turn; true when it may take more.
    pub fn flush(&mut self) -> bool {
        let Some(stdin) = &mut self.stdin else {
            self.out.clear();
            return false;
        };
        match self.out.flush(stdin, TURN) {
            Ok(has_more) => return has_more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The program is dead or dying: a program that does not read cannot be called.
            Err(_) => self.let_go_unheard(),
        }
        false
    }

    /// It has closed its standard input, or, rarely, has room in it again. The call that it has may still be
    /// answered, unless it has not even read it.
    pub fn look_at_stdin(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        let is_done = self.call.is_none() || kernel::unread_bytes(stdin) > 0;
        if is_done && kernel::is_unread_for_good(stdin) {
            self.let_go_unheard();
        }
    }

    fn let_go_unheard(&mut self) {
        self.epitaph.get_or_insert_with(|| "its program had closed its standard input".to_owned());
        self.let_go();
    }

    /// The program gets no more input, which tells it to end.
    pub fn let_go(&mut self) {
        self.was_unread = self.has_unread_call();
        (self.stdin, self.out) = (None, Outgoing::default());
    }

    /// It lives on with its standard output closed: the call that it has read in full has failed, and is not
    /// to be repeated as if the program had died.
    pub fn unheard(&mut self, slot: SlotId, worker: ProcessId) -> Option<FleetEvent> {
        let during = self.call.filter(|_| self.is_unheard() && !self.has_unread_call())?;
        let how =
            "its program closed its standard output during the call, so that it cannot answer it".to_owned();
        self.broken = true;
        Some(FleetEvent::Misbehaved { slot, worker, during: Some(during), how })
    }

    /// Whether it has a call, and can answer no more.
    pub fn is_unheard(&self) -> bool {
        self.call.is_some() && self.stdout.is_none()
    }

    /// Whether it has not read all of the call that it was handed last: then it cannot have begun with it,
    /// and its death is not that call's fault. What is in a pipe stays there when its reader dies.
    pub fn has_unread_call(&self) -> bool {
        let is_in_pipe = self.stdin.as_ref().is_some_and(|stdin| kernel::unread_bytes(stdin) > 0);
        self.call.is_some() && (self.was_unread || !self.out.is_empty() || is_in_pipe)
    }

    pub fn is_let_go(&self) -> bool {
        self.stdin.is_none() || self.stdout.is_none()
    }

    /// Takes in what it has said; true when there may be more. `is_open`: it has not closed its standard
    /// output, as far as is known.
    pub fn read(
        &mut self,
        is_open: bool,
        slot: SlotId,
        worker: ProcessId,
        events: &mut Vec<FleetEvent>,
    ) -> bool {
        for _ in 0..READS {
            if self.long.is_some() {
                return false;
            }
            let Some(stdout) = &mut self.stdout else { return false };
            match stdout.read(&mut self.buffer) {
                Ok(0) => {
                    self.take_unfinished_line(slot, events);
                    self.stdout = None;
                    self.epitaph
                        .get_or_insert_with(|| "its program had closed its standard output".to_owned());
                    return false;
                }
                Ok(_) if self.broken => {}
                Ok(count) => {
                    let is_too_long = self.lines.extend(&self.buffer[..count]).is_err();
                    self.take_lines(slot, worker, events);
                    while is_too_long && self.read_long_line(slot, worker, events) {}
                    if is_too_long && !self.broken {
                        self.breach(
                            slot,
                            worker,
                            "wrote a line of more than 16 MiB to its standard output".to_owned(),
                            events,
                        );
                    }
                    // The pipe is empty now; whatever comes next is told anew (epoll(7)).
                    if is_open && count < READ {
                        return false;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Its last line may lack its end, as a shell's `printf` leaves it: an answer is an answer.
    fn take_unfinished_line(&mut self, slot: SlotId, events: &mut Vec<FleetEvent>) {
        let line = self.lines.unfinished();
        if line.is_empty() || self.broken {
            return;
        }
        if let Ok(ProgramMessage::Answer { id, result }) = rpc::decode(line)
            && let Some(claim) = self.call.take_if(|claim| claim.unit == Unit::Job(id))
        {
            events.push(self.answered(slot, claim, id, result));
        } else {
            let shown = rpc::shown(line);
            self.unfinished_line = Some(format!("; its last line has no end: {shown}"));
        }
    }

    /// Takes in all that it has said and will say, for it has ended.
    pub fn read_to_end(&mut self, slot: SlotId, worker: ProcessId, events: &mut Vec<FleetEvent>) {
        loop {
            let had_long = self.read_long_line(slot, worker, events);
            let has_more = self.read(false, slot, worker, events) || self.long.is_some();
            if !had_long && !has_more {
                return;
            }
        }
    }

    /// A long line that is to be read elsewhere, and handed to [`on_read`](Self::on_read); each once.
    pub fn long_line(&mut self) -> Option<Arc<Vec<u8>>> {
        let long = self.long.as_mut().filter(|long| !long.is_handed)?;
        long.is_handed = true;
        Some(long.line.clone())
    }

    /// A long line has been read elsewhere. False where it has been read here meanwhile.
    pub fn on_read(
        &mut self,
        line: &Arc<Vec<u8>>,
        heard: Heard,
        slot: SlotId,
        worker: ProcessId,
        events: &mut Vec<FleetEvent>,
    ) -> bool {
        if self.long.take_if(|long| Arc::ptr_eq(&long.line, line)).is_none() {
            return false;
        }
        let stray = stray(&heard, self.call, line);
        self.heed(heard, stray, slot, worker, events);
        self.take_lines(slot, worker, events);
        true
    }

    /// Reads the long line here, and what follows it; false where there is none.
    fn read_long_line(&mut self, slot: SlotId, worker: ProcessId, events: &mut Vec<FleetEvent>) -> bool {
        let Some(LongLine { line, .. }) = self.long.take() else { return false };
        let heard = rpc::decode(&line);
        let stray = stray(&heard, self.call, &line);
        self.heed(heard, stray, slot, worker, events);
        self.take_lines(slot, worker, events);
        true
    }

    /// Up to a long line.
    fn take_lines(&mut self, slot: SlotId, worker: ProcessId, events: &mut Vec<FleetEvent>) {
        while !self.broken
            && self.long.is_none()
            && let Some(length) = self.lines.next_length()
        {
            if length > LARGE {
                self.long =
                    self.lines.take_frame().map(|line| LongLine { line: line.into(), is_handed: false });
                return;
            }
            let call = self.call;
            let Some(line) = self.lines.next_frame() else { return };
            let heard = rpc::decode(line);
            let stray = stray(&heard, call, line);
            self.heed(heard, stray, slot, worker, events);
        }
    }

    /// Does what a line asks for. `stray`: see [`stray`].
    fn heed(
        &mut self,
        heard: Heard,
        stray: Option<String>,
        slot: SlotId,
        worker: ProcessId,
        events: &mut Vec<FleetEvent>,
    ) {
        match heard {
            Ok(ProgramMessage::Other) => {}
            Ok(ProgramMessage::Ready) => {
                let was_ready = std::mem::replace(&mut self.ready, true);
                if let Some(process) = self.process.filter(|_| !was_ready) {
                    events.push(FleetEvent::ProgramReady { slot, worker, process });
                }
            }
            Ok(ProgramMessage::Progress(progress)) => {
                events.extend(self.call.map(|claim| FleetEvent::Progressed { slot, claim, progress }));
            }
            Ok(ProgramMessage::Answer { id, result }) => match (stray, self.call) {
                (None, Some(claim)) => {
                    self.call = None;
                    events.push(self.answered(slot, claim, id, result));
                }
                (shown, during) => {
                    let is_second = self.last_answered == Some(id);
                    let what = if is_second {
                        "answered a call for a second time"
                    } else {
                        "answered a call that it does not have"
                    };
                    let how = format!("its program {what}: {}", shown.unwrap_or_default());
                    // A second answer is the fault of an earlier call, not of the current one.
                    let during = during.filter(|_| !is_second);
                    self.broken = true;
                    events.push(FleetEvent::Misbehaved { slot, worker, during, how });
                }
            },
            Err(what) => self.breach(slot, worker, what, events),
        }
    }

    /// The program has answered the call that it had.
    fn answered(&mut self, slot: SlotId, claim: Claim, id: JobId, result: Result<Json, Json>) -> FleetEvent {
        self.last_answered = Some(id);

        // What it has written since the last answer belongs to this call.
        let end = self.log_bytes();
        // It has been emptied since.
        let offset = self.log_mark.min(end);
        self.log_mark = end;
        let log = LogPart { offset, bytes: end.saturating_sub(offset) };

        FleetEvent::Answered { slot, claim, result, log, rss_bytes: self.memory() }
    }

    fn breach(&mut self, slot: SlotId, worker: ProcessId, what: String, events: &mut Vec<FleetEvent>) {
        self.broken = true;
        events.push(FleetEvent::Misbehaved {
            slot,
            worker,
            during: self.call,
            how: format!("its program {what}"),
        });
    }

    fn memory(&mut self) -> Option<u64> {
        self.program.wear.max_rss_bytes?;
        if self.memory_seen_at.is_some_and(|at| at.elapsed() < LOOK_AT_MEMORY) {
            return None;
        }
        self.memory_seen_at = Some(Instant::now());
        Some(kernel::resident_bytes_below(self.worker?))
    }

    /// Copies a part of its standard error, the end of it where it is long.
    ///
    /// # Errors
    /// Those of read(2) and write(2).
    pub fn copy_log(&self, part: LogPart, into: &mut File) -> io::Result<u64> {
        let bytes = part.bytes.min(LOG_BYTES);
        let mut text = vec![0; usize::try_from(bytes).unwrap_or(0)];
        self.log.read_exact_at(&mut text, part.offset + part.bytes - bytes)?;
        into.write_all(&text)?;
        Ok(bytes)
    }

    /// The program could not be executed.
    pub fn failed(&mut self, failure: SpawnFailure) {
        let why = Errno::from_raw(failure.errno).desc();
        let what = match failure.stage {
            Stage::Exec => format!("cannot execute {:?}", self.program.command[0]),
            Stage::Cwd => format!("cannot enter the directory {:?}", self.program.cwd),
            Stage::Killed => "its process was killed before it could execute its command".to_owned(),
            Stage::Frozen => "poold's control group is frozen (cgroup.freeze)".to_owned(),
            Stage::Fork | Stage::Stdin | Stage::Output | Stage::Setup => "no process for it".to_owned(),
        };
        self.epitaph = Some(format!("its program could not be started: {what}: {why}"));
    }

    /// The program has ended by itself, `how`.
    pub fn ended(&mut self, how: &str) {
        let pid = self.process.map(|process| format!(" {}", process.pid)).unwrap_or_default();
        self.epitaph = Some(format!("its program{pid} {how}"));
    }

    /// What became of it, as a sentence, with the last thing it said.
    pub fn epitaph(&self) -> Option<String> {
        let epitaph = self.epitaph.clone()? + self.unfinished_line.as_deref().unwrap_or_default();
        Some(match self.last_words() {
            Some(words) => format!("{epitaph}; the last that it wrote: {}", rpc::shown(words.as_bytes())),
            None => epitaph,
        })
    }

    /// The last line of its standard error.
    fn last_words(&self) -> Option<String> {
        let bytes = self.log_bytes();
        let start = bytes.saturating_sub(LAST_WORDS);
        let mut text = vec![0; usize::try_from(bytes - start).ok()?];
        self.log.read_exact_at(&mut text, start).ok()?;
        let text = String::from_utf8_lossy(&text);
        text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
    }
}

/// What may be shown of a line that answers a call which the program does not have; none for any other line.
fn stray(heard: &Heard, call: Option<Claim>, line: &[u8]) -> Option<String> {
    let Ok(ProgramMessage::Answer { id, .. }) = heard else { return None };
    let is_its_call = call.is_some_and(|claim| claim.unit == Unit::Job(*id));
    (!is_its_call).then(|| rpc::shown(line))
}

#[cfg(test)]
mod tests {
    use mio::unix::pipe;
    use nix::fcntl::{FcntlArg, fcntl};

    use super::*;
    use crate::core::LaneId;
    use crate::job::{Environment, Wear};

    const SLOT: SlotId = SlotId { lane: LaneId::Callbacks, index: 0 };

    /// A program that has a call, whose answer is long, and another call's answer behind it.
    struct Scene {
        link: ResidentLink,
        events: Vec<FleetEvent>,
        _stdin: Receiver,
        stdout: Option<Sender>,
    }

    impl Scene {
        fn new() -> Self {
            let program = Program {
                command: vec!["program".into()],
                cwd: "/".into(),
                environment: Arc::new(Environment::default()),
                ready: ReadyWhen::Started,
                start_timeout: Duration::from_secs(1),
                start_attempts: 1,
                wear: Wear::default(),
            };
            let (stdin, theirs) = pipe::new().unwrap();
            let (mut stdout, ours) = pipe::new().unwrap();
            fcntl(&stdout, FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
            let log = tempfile::tempfile().unwrap();
            let mut link = ResidentLink::new(Arc::new(program), stdin, ours, log);
            link.hand(claim(), JobId(7), &Call { method: "m".to_owned(), params: None, lost: None });

            let text = "x".repeat(LARGE);
            stdout
                .write_all(format!("{{\"id\":7,\"result\":\"{text}\"}}\n{{\"id\":8}}\n").as_bytes())
                .unwrap();
            Self { link, events: Vec::new(), _stdin: theirs, stdout: Some(stdout) }
        }

        fn read(&mut self) {
            while self.link.read(true, SLOT, ProcessId::new(1), &mut self.events) {}
        }

        fn on_read(&mut self, line: &Arc<Vec<u8>>) -> bool {
            self.link.on_read(line, rpc::decode(line), SLOT, ProcessId::new(1), &mut self.events)
        }

        /// The call is answered, and what follows is a breach.
        fn is_answered(&self) -> bool {
            use FleetEvent::{Answered, Misbehaved};
            matches!(&self.events[..], [Answered { result: Ok(_), .. }, Misbehaved { during: None, .. }])
        }
    }

    fn claim() -> Claim {
        Claim { unit: Unit::Job(JobId(7)), attempt: 1 }
    }

    #[test]
    fn what_follows_a_long_answer_is_heard_after_it() {
        let mut scene = Scene::new();
        scene.read();
        assert!(scene.events.is_empty(), "the answer is to be read elsewhere");
        let line = scene.link.long_line().expect("it is long");
        assert!(scene.link.long_line().is_none(), "it is handed on once");
        scene.read();
        assert!(scene.events.is_empty());

        assert!(scene.on_read(&line));
        scene.read();
        assert!(scene.is_answered(), "{:?}", scene.events);
    }

    #[test]
    fn a_program_that_has_ended_is_heard_to_its_end() {
        let mut scene = Scene::new();
        scene.stdout = None;
        scene.link.read_to_end(SLOT, ProcessId::new(1), &mut scene.events);
        assert!(scene.is_answered(), "{:?}", scene.events);
    }

    #[test]
    fn an_answer_that_is_being_read_elsewhere_is_heard_once() {
        let mut scene = Scene::new();
        scene.read();
        let line = scene.link.long_line().expect("it is long");
        scene.stdout = None;
        scene.link.read_to_end(SLOT, ProcessId::new(1), &mut scene.events);
        assert!(scene.is_answered(), "{:?}", scene.events);

        assert!(!scene.on_read(&line), "it has been read");
        assert!(scene.is_answered(), "{:?}", scene.events);
    }
}
