//! What users see when the disk takes its time to remove files: nothing. The thread that removes files is
//! stopped here by a tracer, so that it takes for ever.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use pool_tests::{Daemon, Setup, wait_for, wait_until};

/// The thread of that name, of a process.
fn thread_of(pid: i32, name: &str) -> i32 {
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).ok();
    wait_for("the thread", || {
        let mut all = threads()?.flatten().map(|entry| entry.path());
        let is_it = |path: &PathBuf| {
            fs::read_to_string(path.join("comm")).is_ok_and(|found| found.trim_end() == name)
        };
        all.find(is_it)?.file_name()?.to_str()?.parse().ok()
    })
}

fn output_files(daemon: &Daemon) -> usize {
    fn count(dir: &Path) -> usize {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
    }
    count(&daemon.state_dir().join("output"))
}

#[test]
fn a_disk_that_takes_its_time_to_remove_files_holds_up_nobody() {
    let config = "max_total_output_bytes = 1000000000\n[history]\nmax_jobs = 1\n";
    let daemon = Setup::new().workers(2).config(config).start();
    let thread = Pid::from_raw(thread_of(daemon.supervisor(), "remover"));
    ptrace::seize(thread, Options::empty()).expect("the test may trace what it has started");
    ptrace::interrupt(thread).expect("it is traced");
    waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it is stopped");

    for number in 0..20 {
        let file = daemon.path_text("input");
        fs::write(&file, format!("{number}\n")).unwrap();
        assert_eq!(daemon.ok(&["run", "--stdin", &file, "--", "cat"]), format!("{number}\n"));
        daemon.ok(&["ping"]);
    }
    wait_until("history has forgotten", || daemon.run(&["show", "1"]).code != 0);
    assert!(output_files(&daemon) >= 20, "nothing has been removed yet");

    ptrace::detach(thread, None).expect("it is stopped");
    // What is left of two jobs, and the blank files of three slots.
    wait_until("the files are removed", || output_files(&daemon) <= 8);
    let inputs = || fs::read_dir(daemon.state_dir().join("stdin")).unwrap().count();
    wait_until("the inputs are removed", || inputs() == 0);
}
