//! The kernel as poold uses it: starting processes, ending whole trees of them, burying them, and holding
//! them in control groups. Only this module makes raw system calls, and only this module calls waitpid(2).
//!
//! * [`spawn`]: from clone(2) to execve(2);
//! * [`end`]: signals to trees of processes, waitpid(2), and processes that do not end;
//! * [`cgroup`]: the control groups of this daemon;
//! * [`clock`]: which clock is for what;
//! * [`descriptors`], [`limits`], [`signals`]: what a process has, and what its children inherit;
//! * [`memory`]: what its allocator keeps;
//! * [`identity`]: what tells this boot, this daemon and this role from all others.

pub mod cgroup;
pub mod clock;
pub mod descriptors;
pub mod end;
pub mod identity;
pub mod limits;
pub mod memory;
pub mod signals;
pub mod spawn;
pub mod terminal;

pub use cgroup::{DaemonGroups, Group, GroupCondition, GroupsPlace, SlotGroup, remove_group};
pub use descriptors::{
    adopt, close_inherited, close_on_exec, is_only_writer, is_unread_for_good, replace, unread_bytes,
    watch_next_write, widen_backlog,
};
pub use end::{
    Descendant, Evidence, Leftover, Orphans, PATIENCE, Reaped, Recorded, Stuck, Sweeper, continue_child,
    cpu_ticks_of_tree, freeze, is_ending, is_stopped, kill_child, kill_leftovers, outer_pid, reap_one,
    resident_bytes_below, signal_group, signal_tree, start_ticks_of, stopped_one, was_killed_unexecuted,
};
pub use identity::{boot_id, daemon_name, own_group, own_user, set_child_subreaper};
pub use limits::{lower_oom_score, max_open_files, raise_nofile, set_nofile};
pub use memory::give_back_free_memory;
pub use signals::{block_signals_of_child, ignore_file_size_signal, unblock_signals};
pub use spawn::{EnvironmentBlock, Launch, OwnProgram, Spawner, die_with_parent};
pub use terminal::{Terminal, resize};

/// A file of proc(5) as text. The names of processes and mounts in it may hold any bytes.
fn read_proc(path: &str) -> std::io::Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}
