//! Workers that are stopped when all above them die, as by somebody who had begun to end everything and did
//! not live to do it.
//!
//! A test program of its own, since it adopts what loses its parent. A process group with a parent in its
//! session is none that the kernel itself would continue (setpgid(2), orphaned process groups); so it is in a
//! container whose first process has started poold.

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::Signal;
use pool_tests::{Setup, send, wait_until};

#[test]
fn stopped_workers_end_though_nobody_is_left_to_kill_them() {
    set_child_subreaper(true).unwrap();
    for config in ["", "cgroup = \"off\""] {
        let mut daemon = Setup::new().workers(2).config(config).start();
        daemon.ok(&["run", "--", "true"]);
        let (guardian, supervisor, workers) = (daemon.guardian(), daemon.supervisor(), daemon.workers());
        assert_eq!(workers.len(), 3);
        let all = [&[guardian, supervisor], &workers[..]].concat();
        all.iter().for_each(|&pid| send(pid, Signal::SIGSTOP));
        [guardian, supervisor].into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
        daemon.wait();
        wait_until("the end of all workers", || daemon.processes().is_empty());
    }
}
