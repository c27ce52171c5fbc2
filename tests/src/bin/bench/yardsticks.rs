//! What poold is compared with: the bare system calls, and other programs that do the like.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use pool_tests::{run, wait_until};
use tempfile::TempDir;

use super::stage::{SLOTS, timed_ms};

/// Starts a program, waits for its end: what no one can do without. The standard library uses posix_spawn(3).
pub fn spawn() {
    let status = Command::new("/bin/true").status().expect("/bin/true can be started");
    assert!(status.success());
}

/// The same in two loops at once.
pub fn spawn_loops(count: usize) {
    let each = count / SLOTS as usize;
    thread::scope(|scope| {
        (0..SLOTS).for_each(|_| drop(scope.spawn(move || (0..each).for_each(|_| spawn()))))
    });
}

/// `xargs -n 1 WORDS` over so many lines, so many of it at a time.
pub fn xargs(count: usize, at_a_time: u32, words: &[&str]) {
    let mut command = Command::new("xargs");
    command.args(["-P", &at_a_time.to_string(), "-n", "1"]).args(words).stdin(Stdio::piped());
    let mut child = command.spawn().expect("xargs can be started");
    let lines: String = (0..count).map(|number| format!("{number}\n")).collect();
    child.stdin.take().expect("it is piped").write_all(lines.as_bytes()).expect("xargs reads");
    assert!(child.wait().expect("it is our child").success());
}

/// Python's ThreadPoolExecutor with subprocess.run; only the jobs are timed, not Python's start.
pub fn python_threads(count: usize) -> f64 {
    let program = "
import subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
count = int(sys.argv[1])
with ThreadPoolExecutor(2) as executor:
    start = time.perf_counter()
    list(executor.map(lambda _: subprocess.run(['/bin/true'], check=True), range(count)))
    print(count / (time.perf_counter() - start))
";
    let said = run(Command::new("python3").args(["-c", program, &count.to_string()]));
    said.stdout.trim().parse().unwrap_or_else(|_| panic!("{said:?}"))
}

/// A task-spooler of our own.
#[derive(Debug)]
pub struct TaskSpooler(TempDir);

impl TaskSpooler {
    pub fn start() -> Self {
        let spooler =
            Self(tempfile::Builder::new().prefix("poold-tsp-").tempdir().expect("a temporary directory"));
        assert_eq!(run(&mut spooler.command(&["-S", &SLOTS.to_string()])).code, 0);
        spooler
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tsp");
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("TS_SOCKET", self.0.path().join("socket")).env("TMPDIR", self.0.path());
        command.env("TS_MAXFINISHED", "10").env("TS_SAVELIST", "/dev/null").env("TS_MAXCONN", "60000");
        command
    }

    pub fn submit_and_wait(&self) {
        let status = self.command(&["-nf", "/bin/true"]).status().expect("tsp can be started");
        assert!(status.success());
    }

    /// A submit after another; then waits until none is left.
    pub fn run_all(&self, count: usize) {
        for _ in 0..count {
            assert!(self.command(&["-n", "/bin/true"]).status().expect("tsp can be started").success());
        }
        wait_until("the end of all of tsp's jobs", || {
            let list =
                self.command(&["-l"]).stdout(Stdio::piped()).output().expect("tsp can be started").stdout;
            let list = String::from_utf8_lossy(&list).into_owned();
            list.lines().all(|line| !matches!(line.split_whitespace().nth(1), Some("queued" | "running")))
        });
    }
}

impl Drop for TaskSpooler {
    fn drop(&mut self) {
        let _ = self.command(&["-K"]).status();
    }
}

/// A file that 4 KiB are appended to and synced: the least that keeps anything over a power cut.
#[derive(Debug)]
pub struct SyncedFile {
    file: File,
    path: PathBuf,
}

impl SyncedFile {
    pub fn new(path: PathBuf) -> Self {
        Self { file: File::create(&path).expect("a file can be made"), path }
    }

    /// How long each of so many takes, in milliseconds.
    pub fn append(&mut self, count: usize) -> Vec<f64> {
        let append = || {
            (&self.file).write_all(&[7; 4096]).expect("there is room");
            self.file.sync_data().expect("it can be synced");
        };
        (0..count).map(|_| timed_ms(append)).collect()
    }
}

impl Drop for SyncedFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Ends a command of ours that would not end by itself.
pub fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}
