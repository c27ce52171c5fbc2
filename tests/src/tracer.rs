//! Counts of system calls and of instructions, by strace(1) and valgrind(1).

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use nix::sys::signal::Signal;

use crate::send;

/// How often each system call was made, by name.
pub type Calls = BTreeMap<String, u64>;

/// Whether there is a program of that name that runs here.
pub fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

/// Whether strace(1) is here and may trace.
pub fn can_trace() -> bool {
    let mut command = Command::new("strace");
    command.args(["-c", "-o", "/dev/null", "true"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a command, which has to succeed, with all that it starts; counts their system calls.
///
/// # Panics
/// When the command fails.
pub fn calls_of(command: &Command, folder: &Path) -> Calls {
    let summary = folder.join("calls");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-U", "name,calls", "-o"]).arg(&summary);
    let said = crate::run(of(&mut strace, command));
    assert_eq!(said.code, 0, "{said:?}");
    read(&summary)
}

/// Runs a command, which has to succeed, in valgrind(1); counts the instructions of its own process.
///
/// # Panics
/// When the command fails.
pub fn instructions_of(command: &Command) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    let said = crate::run(of(&mut valgrind, command));
    assert_eq!(said.code, 0, "{said:?}");
    let collected = said.stderr.lines().find_map(|line| line.split_once("Collected : "));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    count.unwrap_or_else(|| panic!("valgrind tells no count: {said:?}"))
}

/// The tracer's command line, followed by that of the command, with the variables that were set for it and no
/// others: cargo's have the dynamic linker look into many folders.
fn of<'a>(tracer: &'a mut Command, command: &Command) -> &'a mut Command {
    tracer.arg(command.get_program()).args(command.get_args());
    tracer.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    tracer.envs(set)
}

/// A strace(1) that counts the system calls of processes that run already.
#[derive(Debug)]
pub struct Tracer {
    strace: Child,
    summary: PathBuf,
    /// What it says. Kept open, since it also says something of each thread at its end.
    said: BufReader<ChildStderr>,
}

impl Tracer {
    /// Counts from now on: the calls of all threads of these processes, not those of their children.
    ///
    /// # Panics
    /// When strace(1) cannot attach.
    pub fn attach(pids: &[i32], folder: &Path) -> Self {
        let summary = folder.join("calls");
        let threads: Vec<String> = pids.iter().flat_map(|&pid| threads(pid)).collect();
        let mut command = Command::new("strace");
        command.args(["-c", "-U", "name,calls", "-o"]).arg(&summary);
        threads.iter().for_each(|thread| _ = command.args(["-p", thread]));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut strace = command.spawn().expect("strace can be started");

        // It says of each thread that it is attached to it; only then does it miss none of the thread's calls.
        let mut said = BufReader::new(strace.stderr.take().expect("it is piped"));
        let lines = said.by_ref().lines().map_while(Result::ok);
        let attached = lines.filter(|line| line.ends_with("attached")).take(threads.len()).count();
        assert_eq!(attached, threads.len(), "strace cannot attach");
        Self { strace, summary, said }
    }

    /// Lets go of the processes.
    ///
    /// # Panics
    /// When strace(1) has failed.
    pub fn finish(mut self) -> Calls {
        send(i32::try_from(self.strace.id()).expect("pids fit"), Signal::SIGINT);
        let _ = self.said.read_to_end(&mut Vec::new());
        self.strace.wait().expect("strace is our child");
        read(&self.summary)
    }
}

fn threads(pid: i32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| task.file_name().into_string().ok()).collect()
}

/// Lines of a name and a number; the head and the sum are no such lines.
fn read(summary: &Path) -> Calls {
    let text = fs::read_to_string(summary).expect("strace has written its summary");
    let counts = text.lines().filter_map(|line| {
        let (name, calls) = line.split_once(char::is_whitespace)?;
        Some((name.to_owned(), calls.trim().parse().ok()?))
    });
    counts.filter(|(name, _)| name != "total").collect()
}
