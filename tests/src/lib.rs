//! The harness of the integration tests: real binaries, each daemon in a temporary directory of its own,
//! nothing shared between tests.
//!
//! A test waits for conditions, never for time: the daemon's readiness comes as a service manager would get
//! it, everything else through [`wait_until`]. Each daemon and all that it starts carry a mark in their
//! environment, by which [`Daemon::processes`] finds them whoever their parent is by now; when a [`Daemon`]
//! is dropped nothing of it is left, or the test fails.

mod cargo;
pub mod counters;
pub mod fuzz;
pub mod gate;
mod processes;
pub mod terminal;
pub mod tracer;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::mem;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pool_proto::methods::Get;
use pool_proto::{Client, Record};
use tempfile::TempDir;

pub use cargo::{optimized, poolctl, poold};
pub use processes::{alive, blocks, children, handles, marked};

/// The variable that marks a daemon's processes.
pub const MARK: &str = "POOL_TEST_MARK";

/// No condition takes longer on any machine that works.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
///
/// # Panics
/// With `what` when it never does.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until `probe` gives a value.
///
/// # Panics
/// With `what` when it never does.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Says that a test cannot be run here, past the test harness, which keeps what passing tests print to
/// itself.
pub fn skip(why: &str) {
    let test = std::thread::current();
    let _ = writeln!(io::stderr(), "SKIPPED {}: {why}", test.name().unwrap_or("a test"));
}

/// Whether root runs this; says that the test is skipped where not.
pub fn is_root_or_skip(what: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        skip(&format!("only root can {what}"));
    }
    is_root
}

/// What a command has said and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The exit code; 128 + N for signal N.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Puts a copy of a program there, for all to run. Not by this process: what another test starts meanwhile
/// would hold the copy open for writing, and nobody could run it.
pub fn install(program: &Path, to: &Path) {
    let status = Command::new("install").args(["-m", "755"]).args([program, to]).status();
    assert!(status.expect("install(1) is there").success(), "{} cannot be copied", program.display());
}

/// Puts a script there, for all to run, as [`install`] does.
pub fn script(text: &str, to: &Path) {
    let mut install = Command::new("install");
    let install = install.args(["-m", "755", "/dev/stdin"]).arg(to).stdin(Stdio::piped());
    let mut install = install.spawn().expect("install(1) is there");
    install.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("install(1) reads");
    assert!(install.wait().is_ok_and(|status| status.success()), "{} cannot be written", to.display());
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run(command: &mut Command) -> Said {
    use std::os::unix::process::ExitStatusExt;
    let output = command.stdin(Stdio::null()).output().expect("the command can be started");
    Said {
        code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// How a daemon is to be started.
#[derive(Debug)]
pub struct Setup {
    dir: TempDir,
    mark: String,
    workers: u32,
    config: String,
    arguments: Vec<String>,
    home: OsString,
    wrapper: Vec<String>,
    user: Option<u32>,
    binaries: Option<PathBuf>,
    log: &'static str,
    log_file: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// Two workers, an empty configuration.
    pub fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// The same, with everything of the daemon in that folder.
    pub fn within(folder: &Path) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir =
            tempfile::Builder::new().prefix("poold-").tempdir_in(folder).expect("a temporary directory");
        Self {
            dir,
            mark,
            workers: 2,
            config: String::new(),
            arguments: Vec::new(),
            home: OsString::new(),
            wrapper: Vec::new(),
            user: None,
            binaries: None,
            log: "debug",
            log_file: None,
        }
    }

    /// The number of slots of the pool "default".
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// The configuration, in TOML.
    pub fn config(mut self, text: &str) -> Self {
        self.config = text.to_owned();
        self
    }

    /// One more argument for poold.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Has the socket and the state in a new folder of this name.
    pub fn homed_in(mut self, name: &OsStr) -> Self {
        self.home = name.to_owned();
        fs::create_dir(self.home()).expect("the folder can be made");
        self
    }

    /// A command that poold is started through, such as `prlimit --nproc=20`.
    pub fn wrapper(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(ToString::to_string).collect();
        self
    }

    /// Logs only what somebody has to look at.
    pub fn quiet(mut self) -> Self {
        self.log = "error";
        self
    }

    /// Logs into that file instead of one of its own.
    pub fn log_to(mut self, path: &str) -> Self {
        self.log_file = Some(PathBuf::from(path));
        self
    }

    /// With the poold and the poolctl of that folder instead of those that are built for the test.
    pub fn binaries(mut self, folder: PathBuf) -> Self {
        self.binaries = Some(folder);
        self
    }

    /// As another user, who gets copies of the binaries; only root can.
    pub fn user(mut self, uid: u32) -> Self {
        let binaries = [poold(), poolctl()].map(|path| {
            let copy = self.dir().join(path.file_name().expect("a binary has a name"));
            install(path, &copy);
            copy
        });
        for path in binaries.iter().map(PathBuf::as_path).chain([self.dir()]) {
            std::os::unix::fs::chown(path, Some(uid), Some(uid)).expect("root gives things away");
        }
        self.user = Some(uid);
        self
    }

    /// Where everything of this daemon is.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where its socket and its state are.
    fn home(&self) -> PathBuf {
        self.dir().join(&self.home)
    }

    /// The value of [`MARK`] in the environment of all its processes; those that get another environment have
    /// to be given it.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// A command as the daemon's user: `name` is poold or poolctl.
    pub fn program(&self, name: &str) -> Command {
        if let Some(folder) = &self.binaries {
            return Command::new(folder.join(name));
        }
        let Some(uid) = self.user else {
            return Command::new(if name == "poold" { poold() } else { poolctl() });
        };
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups"]);
        command.arg(self.dir().join(name));
        command
    }

    /// poold's command line, not yet run.
    pub fn command(&self) -> Command {
        let config = self.dir().join("config.toml");
        fs::write(&config, &self.config).expect("the configuration can be written");
        let plain = self.program("poold");
        let mut command = match self.wrapper.split_first() {
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(plain.get_program()).args(plain.get_args());
                command
            }
            None => plain,
        };
        command
            .arg("--socket")
            .arg(self.home().join("socket"))
            .arg("--state-dir")
            .arg(self.home().join("state"))
            .arg("--config")
            .arg(config)
            .args(["--workers", &self.workers.to_string(), "--log", self.log])
            .args(&self.arguments)
            .env(MARK, &self.mark)
            .env_remove("POOL_SOCKET");
        command
    }

    /// Starts the daemon and waits until it serves.
    ///
    /// # Panics
    /// When it does not, with its log.
    pub fn start(self) -> Daemon {
        let child = spawn_and_wait(&self);
        Daemon { setup: self, child }
    }
}

fn spawn_and_wait(setup: &Setup) -> Child {
    let notify_path = setup.dir().join("notify");
    let _ = fs::remove_file(&notify_path);
    let notify = UnixDatagram::bind(&notify_path).expect("a notification socket");
    notify.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    // The daemon may be somebody else.
    fs::set_permissions(&notify_path, fs::Permissions::from_mode(0o777)).expect("it is ours");
    let log = File::options()
        .create(true)
        .append(true)
        .open(setup.log_file.clone().unwrap_or_else(|| setup.dir().join("log")))
        .expect("a log file");
    let mut command = setup.command();
    let child =
        command.env("NOTIFY_SOCKET", &notify_path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut child = child.spawn().expect("poold can be started");
    let mut buffer = [0; 1024];
    loop {
        match notify.recv(&mut buffer) {
            Ok(count) if String::from_utf8_lossy(&buffer[..count]).contains("READY=1") => return child,
            Ok(_) => {}
            // As after a stop that was not ours.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let log = fs::read_to_string(setup.dir().join("log")).unwrap_or_default();
                let _ = child.kill();
                panic!("poold does not get ready ({error}); its log:\n{log}");
            }
        }
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    setup: Setup,
    child: Child,
}

impl Daemon {
    /// With `workers` slots and nothing else set.
    pub fn start(workers: u32) -> Self {
        Setup::new().workers(workers).start()
    }

    /// How it was started.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Where everything of this daemon is; tests may keep their own files there.
    pub fn dir(&self) -> &Path {
        self.setup.dir()
    }

    /// A path in [`dir`](Self::dir).
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// The same as text, for command lines.
    pub fn path_text(&self, name: &str) -> String {
        self.path(name).to_str().expect("temporary paths are UTF-8").to_owned()
    }

    /// The value of [`MARK`] in the environment of all its processes.
    pub fn mark(&self) -> &str {
        &self.setup.mark
    }

    pub fn socket(&self) -> PathBuf {
        self.setup.home().join("socket")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.setup.home().join("state")
    }

    /// What poold has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// poolctl with its socket set and these arguments, not yet run.
    pub fn ctl(&self, arguments: &[&str]) -> Command {
        let mut command = self.setup.program("poolctl");
        command
            .env_remove("POOL_SOCKET")
            .env(MARK, &self.setup.mark)
            .arg("--socket")
            .arg(self.socket())
            .args(arguments);
        command
    }

    /// The same at a terminal of its own, of which stdout is a copy. No argument may need quoting for a
    /// shell.
    pub fn ctl_at_terminal(&self, arguments: &[&str]) -> Command {
        let ctl = self.ctl(arguments);
        let words =
            [ctl.get_program()].into_iter().chain(ctl.get_args()).map(|word| word.to_str().expect("UTF-8"));
        let mut command = Command::new("script");
        command.args(["-qec", &words.collect::<Vec<&str>>().join(" "), "/dev/null"]);
        command.env_remove("POOL_SOCKET").env(MARK, self.mark()).stdin(Stdio::null());
        command
    }

    /// Runs poolctl to its end.
    pub fn run(&self, arguments: &[&str]) -> Said {
        run(&mut self.ctl(arguments))
    }

    /// Runs poolctl, which is to succeed; returns its stdout.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, 0, "poolctl {arguments:?}: {said:?}\nlog:\n{}", self.log());
        said.stdout
    }

    /// Submits a job; returns its id.
    pub fn submit(&self, arguments: &[&str]) -> u64 {
        let stdout = self.ok(&[&["submit", "--async"], arguments].concat());
        stdout.trim_end().parse().expect("submit prints an id")
    }

    /// Submits a shell command; returns its id.
    pub fn submit_sh(&self, script: &str) -> u64 {
        self.submit(&["--", "sh", "-c", script])
    }

    /// A connection of the protocol's own.
    pub fn client(&self) -> Client {
        Client::connect(&self.socket()).expect("the daemon accepts clients")
    }

    /// A job's record.
    pub fn record(&self, id: u64) -> Record {
        *self.client().request(&Get { id }).expect("the job exists").record
    }

    /// Waits until there is such a job, and its record satisfies `condition`.
    pub fn wait_record(&self, id: u64, what: &str, condition: impl Fn(&Record) -> bool) -> Record {
        let record = || self.client().request(&Get { id }).ok().map(|got| *got.record);
        wait_for(&format!("job {id}: {what}"), || record().filter(|record| condition(record)))
    }

    /// The main process.
    pub fn guardian(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids fit")
    }

    /// The guardian's child; waits until there is one.
    pub fn supervisor(&self) -> i32 {
        wait_for("a supervisor", || children(self.guardian()).first().copied())
    }

    /// The supervisor's children.
    pub fn workers(&self) -> Vec<i32> {
        children(self.supervisor())
    }

    /// Every process that this daemon or a job of it has started and that is alive, itself included.
    pub fn processes(&self) -> Vec<i32> {
        marked(&self.setup.mark)
    }

    /// Sends a signal to the main process.
    pub fn signal(&self, signal: Signal) {
        send(self.guardian(), signal);
    }

    /// Whether the main process has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What of [`processes`](Self::processes) is not a poolctl.
    pub fn owned_processes(&self) -> Vec<i32> {
        let is_client =
            |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "poolctl\n");
        self.processes().into_iter().filter(|pid| !is_client(pid)).collect()
    }

    /// Waits for the end of the main process; its exit code, 128 + N for signal N.
    pub fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let status = wait_for("the end of poold", || self.child.try_wait().expect("poold is our child"));
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    /// Starts it anew in the same place, when it has ended or is about to.
    pub fn restart(&mut self) {
        let mut earlier = mem::replace(&mut self.child, spawn_and_wait(&self.setup));
        let _ = earlier.wait();
    }

    /// Kills all of poold in one instant: stopped first, so that none can act on the end of another; children
    /// before parents, whose end would have the kernel continue them. What its jobs leave behind nobody is
    /// there to kill.
    pub fn kill_in_one_instant(&mut self) {
        let ours = [self.workers(), vec![self.supervisor(), self.guardian()]].concat();
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            ours.iter().for_each(|&pid| send(pid, signal));
        }
        self.wait();
        wait_until("all of ours are gone", || !ours.iter().any(|&pid| alive(pid)));
    }

    /// Kills the daemon's main process, waits until nothing is left.
    pub fn kill_all(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        self.wait();
        wait_until("the end of every process of the daemon", || self.processes().is_empty());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let start = Instant::now();
        while !self.processes().is_empty() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
        let left = self.processes();
        for &pid in &left {
            send(pid, Signal::SIGKILL);
        }
        if std::thread::panicking() {
            // The directory goes with the test: its log is all that can tell why.
            let _ = writeln!(io::stderr(), "poold's log:\n{}", self.log());
        } else {
            assert!(left.is_empty(), "left over after the daemon's end: {left:?}");
        }
    }
}

/// Kills whatever carries a mark when a test is over, for daemons that are nobody's [`Daemon`].
#[derive(Debug)]
pub struct Cleanup(pub String);

impl Drop for Cleanup {
    fn drop(&mut self) {
        marked(&self.0).into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
    }
}

/// Sends a signal; a process that is gone is no error.
pub fn send(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Reads a file that a job writes, once it is there and holds a whole line.
pub fn line_of(path: &Path) -> String {
    wait_for(&format!("a line in {}", path.display()), || {
        let mut text = String::new();
        File::open(path).ok()?.read_to_string(&mut text).ok()?;
        text.lines().next().filter(|_| text.ends_with('\n')).map(ToOwned::to_owned)
    })
}
