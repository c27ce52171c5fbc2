//! Whether poold is there, whether it answers, whether its version is right, and what it says of its own
//! condition.

use std::io;
use std::path::Path;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::sys::time::TimeVal;
use pool_proto::location::check_socket_path;
use pool_proto::methods::Status;
use pool_proto::methods::service::GetInterfaceDescription;
use pool_proto::methods::{DESCRIPTION, INTERFACE, Ping, Pong};
use pool_proto::nouns::Condition;
use pool_proto::{Client, ClientError, Refusal};

use super::Check;
use crate::link::connect::{Holder, Link, is_absent};
use crate::link::units;

/// A poold that takes longer for a reply hangs. In seconds.
const PATIENCE_S: i64 = 5;

/// The answer of poold.
pub enum Asked {
    Condition {
        client: Box<Client>,
        condition: Box<Condition>,
        /// Whether its description of the protocol is the same as ours.
        same_protocol: bool,
    },
    /// A poold that is too old to tell more.
    Older {
        pong: Pong,
    },
    None {
        why: Silence,
    },
}

/// Why nobody has answered.
pub enum Silence {
    /// The path cannot be that of a socket.
    Impossible(String),
    /// Nobody listens.
    Connect(io::Error),
    /// A process listens, and does not answer as poold would. With the pid of the process, if it is known.
    Call(ClientError, Option<i32>),
}

/// Asks poold for its condition.
pub fn ask(link: &Link) -> Asked {
    if let Err(reason) = check_socket_path(&link.socket()) {
        return Asked::None { why: Silence::Impossible(reason) };
    }
    let mut client = match link.find() {
        Ok(client) => client,
        Err(error) => return Asked::None { why: Silence::Connect(error) },
    };

    let peer =
        getsockopt(&client, sockopt::PeerCredentials).ok().map(|peer| peer.pid()).filter(|&pid| pid > 0);

    // The kernel accepts connections for a stopped poold, too. So the reply needs a limit.
    _ = setsockopt(&client, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE_S, 0));

    let answered = match client.request(&Status {}) {
        Ok(condition) => {
            let same_protocol = has_same_protocol(&mut client);
            Ok(Asked::Condition { client: Box::new(client), condition: Box::new(condition), same_protocol })
        }
        Err(ClientError::Refused(Refusal::MethodNotFound { .. })) => {
            client.request(&Ping {}).map(|pong| Asked::Older { pong })
        }
        Err(error) => Err(error),
    };
    answered.unwrap_or_else(|error| Asked::None { why: Silence::Call(error, peer) })
}

fn has_same_protocol(client: &mut Client) -> bool {
    client
        .request(&GetInterfaceDescription { interface: INTERFACE.to_owned() })
        .is_ok_and(|described| described.description == DESCRIPTION)
}

/// The checks of what poold says, or of why it says nothing.
pub fn look(link: &Link, answer: &Asked, state_dir: Option<&Path>) -> Vec<Check> {
    match answer {
        Asked::Condition { condition, same_protocol, .. } => {
            let mut checks = vec![running(condition), version(&condition.version, *same_protocol)];
            checks.extend([
                store(condition),
                clients(condition),
                output(condition),
                configuration(condition),
                leftovers(condition),
            ]);
            checks
        }
        Asked::Older { pong } => {
            let running = Check::ok("daemon", format!("poold {}, pid {}", pong.version, pong.pid));
            vec![running, version(&pong.version, false)]
        }
        Asked::None { why } => vec![silence(link, why, state_dir)],
    }
}

fn running(condition: &Condition) -> Check {
    let Condition { version, pid, started_at, accepting, .. } = condition;
    let text = format!("poold {version}, pid {pid}, supervisor since {started_at}");
    if *accepting {
        Check::ok("daemon", text)
    } else {
        Check::note("daemon", format!("{text}, is shutting down and accepts no jobs"))
            .advise("wait for its end, or end it now with `poolctl shutdown --now`")
    }
}

fn version(theirs: &str, same_protocol: bool) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    match (theirs == ours, same_protocol) {
        (true, true) => {
            let text = format!("poolctl and poold are both {ours} and speak the same protocol");
            Check::ok("version", text)
        }
        (true, false) => {
            let text = format!("poolctl and poold are both {ours}, but of different builds");
            Check::warning("version", text)
                .advise("end poold with `poolctl shutdown` so that the new one is started")
        }
        (false, _) => {
            let advice = "install both of one version, then end poold with `poolctl shutdown` so that the \
                          new one is started";
            Check::warning("version", format!("poolctl is {ours}, poold is {theirs}")).advise(advice)
        }
    }
}

fn store(condition: &Condition) -> Check {
    match (&condition.store_failure, condition.durability.as_str()) {
        (Some(reason), _) => Check::problem(
            "store",
            format!("poold cannot write its database, so new jobs are refused: {reason}"),
        )
        .advise("remove the cause; poold then goes on by itself"),
        (None, "power") => Check::ok("store", "accepted jobs survive a power cut"),
        (None, _) => Check::ok(
            "store",
            "accepted jobs survive the death of poold, but a power cut only with `durability = \"power\"`",
        ),
    }
}

/// Checks the number of clients. Each client takes a descriptor; so do workers and files.
fn clients(condition: &Condition) -> Check {
    const OWN: u64 = 64;
    let Condition { clients, max_clients, max_open_files, .. } = condition;

    let text = format!("{clients} of at most {max_clients} are connected");
    if clients.saturating_mul(10) >= max_clients.saturating_mul(9) {
        return Check::warning("clients", text).advise("raise `max_clients` in the configuration");
    }

    if *max_open_files < max_clients.saturating_add(OWN) {
        return Check::note("clients", format!("{text}, but poold may open {max_open_files} files only"))
            .advise(
                "raise the hard limit that poold is started with (LimitNOFILE=, ulimit -Hn), or lower \
                 `max_clients`",
            );
    }
    Check::ok("clients", format!("{text}; poold may open {max_open_files} files"))
}

/// Checks the output of all jobs. Beyond the limit new jobs are refused; the history makes room before that.
fn output(condition: &Condition) -> Check {
    let text = format!("the output of all jobs takes {} MiB", condition.output_bytes >> 20);

    let Some(limit) = condition.max_total_output_bytes else { return Check::ok("output", text) };
    let text = format!("{text} of at most {} MiB", limit >> 20);

    if condition.output_bytes <= limit {
        return Check::ok("output", text);
    }
    Check::problem("output", format!("{text}: new jobs are refused"))
        .advise("end the jobs that write so much, or raise `max_total_output_bytes`")
}

fn configuration(condition: &Condition) -> Check {
    let path = condition.config.as_ref();
    match (path, &condition.config_error) {
        (_, Some(error)) => Check::problem(
            "configuration",
            format!("the file cannot be taken over, so the last good configuration is in force: {error}"),
        )
        .advise("correct the file and send SIGHUP to poold"),
        (Some(path), None) if path.to_path().exists() => Check::ok("configuration", path.to_string()),
        (Some(path), None) => Check::ok("configuration", format!("the defaults; there is no {path}")),
        (None, None) => Check::ok("configuration", "the defaults"),
    }
}

fn leftovers(condition: &Condition) -> Check {
    let swept = condition.swept;
    if swept.spared > 0 {
        return Check::warning(
            "leftovers",
            format!("{} processes of a poold that had died could not be killed", swept.spared),
        )
        .advise("they belong to another user; the log names them: end them as that user or as root");
    }

    if (swept.groups, swept.processes) == (0, 0) {
        return Check::ok("leftovers", "the start found no process of an earlier poold");
    }
    let text = format!(
        "the start killed what an earlier poold had left: {} processes, {} control groups",
        swept.processes, swept.groups
    );
    Check::note("leftovers", text).advise("the log names them")
}

fn silence(link: &Link, why: &Silence, state_dir: Option<&Path>) -> Check {
    let path = link.socket();
    let socket = path.display();
    match why {
        Silence::Impossible(reason) => Check::problem("daemon", reason.clone()),
        Silence::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Check::problem("daemon", format!("you may not connect to {socket}"))
                .advise("each poold serves its own user only: start yours")
        }
        Silence::Connect(error) => {
            let holder = state_dir.and_then(Holder::of).or_else(|| link.holder());
            if let Some(holder) = holder.filter(|_| is_absent(error)) {
                let advice = match holder.pid() {
                    Some(pid) => format!(
                        "it may be starting; otherwise see whether it is stopped (`ps -o stat= -p {pid}`), or \
                         end it with `kill {pid}`"
                    ),
                    None => "it may be starting, or its guardian is dead and the rest of it ends; \
                             `fuser` names its processes"
                        .to_owned(),
                };
                return Check::problem("daemon", format!("{holder}, but nobody listens at {socket}"))
                    .advise(advice);
            }
            let start = match (link.is_named(), units::start_command()) {
                (true, _) => {
                    format!("start it with `poold --socket {socket}`, and the --state-dir that it had")
                }
                (false, Some(start)) => format!("`{start}` starts it"),
                (false, None) => "`poolctl submit` starts it, and so does `poold --daemonize`".to_owned(),
            };
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    Check::problem("daemon", "no poold is running").advise(start)
                }
                _ => Check::problem("daemon", format!("poolctl cannot connect to poold: {error}"))
                    .advise(start),
            }
        }
        Silence::Call(ClientError::Disconnected(Some(error)), peer)
            if error.kind() == io::ErrorKind::WouldBlock =>
        {
            let who = peer.map(|pid| format!(", pid {pid},")).unwrap_or_default();
            let text = format!(
                "poold{who} accepts connections, but has not answered for {PATIENCE_S} s: it is \
                 stopped, or hangs"
            );
            let advice = "see whether it or its child is stopped (`ps`); otherwise kill its child, the \
                          supervisor: nothing is lost by that";
            Check::problem("daemon", text).advise(advice)
        }
        Silence::Call(error, _) => Check::problem("daemon", format!("poold did not answer: {error}"))
            .advise("look into the log of poold"),
    }
}
