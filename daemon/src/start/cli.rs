//! poold's command line.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::config::{LogLevel, MAX_WORKERS};

/// Runs jobs in fixed pools of worker processes; poolctl submits them.
///
/// poold stays in the foreground unless --daemonize is given. On SIGTERM or SIGINT poold ends: running jobs
/// get SIGTERM, after a grace SIGKILL, and are queued for the next start. A second SIGTERM or SIGINT skips
/// the grace. On SIGHUP poold reads its configuration anew, and in the background opens its log anew.
#[derive(Debug, Parser)]
#[command(name = "poold", version, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    #[command(flatten)]
    pub options: DaemonOptions,

    #[command(subcommand)]
    pub role: Option<Role>,
}

/// What an administrator can say.
#[derive(Debug, Clone, Args)]
pub struct DaemonOptions {
    /// The configuration [default: ~/.config/poold/config.toml, as root /etc/poold/config.toml, where that
    /// exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The socket that clients connect to [default: $POOL_SOCKET, else $XDG_RUNTIME_DIR/poold/poold.sock, as
    /// root /run/poold/poold.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// The directory for jobs, outcomes and output [default: ~/.local/state/poold, as root /var/lib/poold]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// The number of slots of the pool "default" [default: the configuration's, else the number of CPUs]
    #[arg(long, value_name = "N", value_parser = parse_workers)]
    pub workers: Option<NonZeroU32>,

    /// The level of the log, which goes to stderr [default: the configuration's, else info]
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<LogLevel>,

    /// Run in the background, and log to poold.log in the state directory
    #[arg(long)]
    pub daemonize: bool,

    /// With --daemonize: write the pid to this file
    #[arg(long, value_name = "FILE", requires = "daemonize")]
    pub pid_file: Option<PathBuf>,

    /// Read a configuration, say what is wrong with it, and start nothing
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub check_config: Option<PathBuf>,
}

fn parse_workers(text: &str) -> Result<NonZeroU32, String> {
    let workers = text.parse().ok().and_then(NonZeroU32::new);
    workers.filter(|workers| workers.get() <= MAX_WORKERS).ok_or_else(|| format!("write 1 to {MAX_WORKERS}"))
}

/// What poold says to itself; see the modules of these names.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// The guardian's child
    #[command(hide = true)]
    Supervisor(SupervisorOptions),

    /// The supervisor's children
    #[command(hide = true)]
    Worker(WorkerOptions),
}

/// What the guardian tells the supervisor: the same, with all paths absolute and decided.
#[derive(Debug, Clone, Args)]
pub struct SupervisorOptions {
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// The configuration may be missing.
    #[arg(long)]
    pub config_optional: bool,
    #[arg(long)]
    pub socket: PathBuf,
    #[arg(long)]
    pub state_dir: PathBuf,
    #[arg(long)]
    pub workers: Option<NonZeroU32>,
    #[arg(long)]
    pub log: Option<LogLevel>,
    /// What standard error is, in the background.
    #[arg(long)]
    pub log_file: Option<PathBuf>,
    /// Numbers of descriptors that the guardian passes on.
    #[arg(long)]
    pub listener_fd: i32,
    #[arg(long)]
    pub lifeline_fd: i32,
    #[arg(long)]
    pub lock_fd: Vec<i32>,
    #[arg(long)]
    pub last_good_fd: Option<i32>,
    #[arg(long)]
    pub readiness_fd: Option<i32>,
}

/// What the supervisor tells a worker.
#[derive(Debug, Clone, Args)]
pub struct WorkerOptions {
    /// Pool and slot, for those who look at the process list.
    #[arg(long)]
    pub name: String,
    /// The soft limit of open files that jobs are to have.
    #[arg(long)]
    pub nofile: Option<u64>,
    /// What the paths of the slot's blank output files begin with.
    #[arg(long)]
    pub output: PathBuf,
    /// The control group that attempts are started in.
    #[arg(long)]
    pub cgroup: Option<PathBuf>,
    /// For a worker that keeps a resident program: the numbers of the descriptors for the program's standard
    /// streams.
    #[arg(long, num_args = 3)]
    pub program_stdio: Option<Vec<i32>>,
    /// For a worker that is process 1 of a pid namespace: the number of the descriptor over which its
    /// children say that they are there.
    #[arg(long)]
    pub announcements: Option<i32>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The manual page poold(8), whose text is not made of what is here.
    const PAGE: &str = include_str!("../../../ctl/docs/poold.md");

    #[test]
    fn the_manual_page_has_the_options_of_the_help() {
        for option in CommandLine::command().get_arguments() {
            let value = option.get_value_names().and_then(|names| names.first());
            let is_flag = matches!(option.get_action(), clap::ArgAction::SetTrue);
            let value = value.filter(|_| !is_flag).map_or(String::new(), |value| format!(" {value}"));
            let long = option.get_long().expect("every option of poold has a long name");
            let help = option.get_help().map(ToString::to_string).unwrap_or_default();
            let row = format!("| `--{long}{value}` | {help} |\n");
            assert!(PAGE.contains(&row), "ctl/docs/poold.md lacks {row}");
        }
    }
}
