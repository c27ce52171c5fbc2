//! Is poold there, does it answer, is it the right one, and how does it say it is?

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::sys::stat::{major, minor};
use nix::sys::time::TimeVal;
use pool_proto::condition::{Condition, Status};
use pool_proto::interface::{DESCRIPTION, INTERFACE, Method, Ping, Pong};
use pool_proto::location::check_socket_path;
use pool_proto::{Client, ClientError, Refusal};
use serde::{Deserialize, Serialize};

use super::Check;
use crate::connect::Link;

/// Whoever takes longer for a reply hangs, in seconds.
const PATIENCE_S: i64 = 5;

/// What came of asking.
pub enum Answer {
    Condition {
        client: Box<Client>,
        condition: Box<Condition>,
        /// It describes its protocol as we do.
        same_protocol: bool,
    },
    /// It is too old to tell more.
    Older {
        pong: Pong,
    },
    None {
        why: Silence,
    },
}

/// Why nobody has answered.
pub enum Silence {
    /// There can be no such socket.
    Impossible(String),
    /// Nobody listens.
    Connect(io::Error),
    /// Somebody listens, and does not answer as poold would. The pid of who does, where that is known.
    Call(ClientError, Option<i32>),
}

/// Asks poold, if there is one.
pub fn ask(link: &Link) -> Answer {
    if let Err(reason) = check_socket_path(link.socket()) {
        return Answer::None { why: Silence::Impossible(reason) };
    }
    let mut client = match link.open() {
        Ok(client) => client,
        Err(error) => return Answer::None { why: Silence::Connect(error) },
    };
    let peer =
        getsockopt(&client, sockopt::PeerCredentials).ok().map(|peer| peer.pid()).filter(|&pid| pid > 0);
    // One that is stopped still has its connections accepted, by the kernel.
    _ = setsockopt(&client, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE_S, 0));
    let answered = match client.call(&Status {}) {
        Ok(condition) => {
            let same_protocol = has_same_protocol(&mut client);
            Ok(Answer::Condition { client: Box::new(client), condition: Box::new(condition), same_protocol })
        }
        Err(ClientError::Refused(Refusal::MethodNotFound { .. })) => {
            client.call(&Ping {}).map(|pong| Answer::Older { pong })
        }
        Err(error) => Err(error),
    };
    answered.unwrap_or_else(|error| Answer::None { why: Silence::Call(error, peer) })
}

/// Of the interface that every Varlink service has.
#[derive(Serialize)]
struct GetInterfaceDescription {
    interface: &'static str,
}

#[derive(Deserialize)]
struct Described {
    description: String,
}

impl Method for GetInterfaceDescription {
    const NAME: &'static str = "org.varlink.service.GetInterfaceDescription";
    type Reply = Described;
}

fn has_same_protocol(client: &mut Client) -> bool {
    client
        .call(&GetInterfaceDescription { interface: INTERFACE })
        .is_ok_and(|described| described.description == DESCRIPTION)
}

/// What it says of itself; or why it says nothing.
pub fn look(link: &Link, answer: &Answer, state_dir: Option<&Path>) -> Vec<Check> {
    match answer {
        Answer::Condition { condition, same_protocol, .. } => {
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
        Answer::Older { pong } => {
            let running = Check::ok("daemon", format!("poold {}, pid {}", pong.version, pong.pid));
            vec![running, version(&pong.version, false)]
        }
        Answer::None { why } => vec![silence(link, why, state_dir)],
    }
}

fn running(condition: &Condition) -> Check {
    let Condition { version, pid, started_at, accepting, .. } = condition;
    let text = format!("poold {version}, pid {pid}, supervisor since {started_at}");
    if *accepting {
        Check::ok("daemon", text)
    } else {
        Check::note("daemon", format!("{text}, is shutting down and accepts no jobs"))
            .advise("wait for its end, or hurry it with `poolctl shutdown --now`")
    }
}

fn version(theirs: &str, same_protocol: bool) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    match (theirs == ours, same_protocol) {
        (true, true) => Check::ok("version", format!("poolctl and poold are both {ours} and speak the same protocol")),
        (true, false) => Check::warning("version", format!("poolctl and poold are both {ours}, but of different builds"))
            .advise("end poold with `poolctl shutdown` so that the new one is started"),
        (false, _) => Check::warning("version", format!("poolctl is {ours}, poold is {theirs}"))
            .advise("install both of one version, then end poold with `poolctl shutdown` so that the new one is started"),
    }
}

fn store(condition: &Condition) -> Check {
    match (&condition.store_failure, condition.durability.as_str()) {
        (Some(reason), _) => {
            Check::problem("store", format!("nothing can be written, new jobs are refused: {reason}"))
                .advise("mend that; poold goes on by itself")
        }
        (None, "power") => Check::ok("store", "accepted jobs survive a power cut"),
        (None, _) => Check::ok(
            "store",
            "accepted jobs survive the death of poold; a power cut only with `durability = \"power\"`",
        ),
    }
}

/// Each client takes a descriptor; so do workers and files.
fn clients(condition: &Condition) -> Check {
    const OWN: u64 = 64;
    let Condition { clients, max_clients, max_open_files, .. } = condition;
    let text = format!("{clients} of at most {max_clients} are connected");
    if clients.saturating_mul(10) >= max_clients.saturating_mul(9) {
        return Check::warning("clients", text).advise("raise `max_clients` in the configuration");
    }
    if *max_open_files < max_clients.saturating_add(OWN) {
        return Check::note("clients", format!("{text}, but poold may open {max_open_files} files only"))
            .advise("raise the hard limit that it is started with (LimitNOFILE=, ulimit -Hn), or lower `max_clients`");
    }
    Check::ok("clients", format!("{text}; poold may open {max_open_files} files"))
}

/// Beyond the limit new jobs are refused; the history makes room before that.
fn output(condition: &Condition) -> Check {
    let text = format!("that of all jobs takes {} MiB", condition.output_bytes >> 20);
    let Some(limit) = condition.max_total_output_bytes else { return Check::ok("output", text) };
    let text = format!("{text}, of at most {} MiB", limit >> 20);
    if condition.output_bytes <= limit {
        return Check::ok("output", text);
    }
    Check::problem("output", format!("{text}: new jobs are refused"))
        .advise("end the jobs that write so much, or raise `max_total_output_bytes`")
}

fn configuration(condition: &Condition) -> Check {
    let path = condition.config.as_deref();
    match (path, &condition.config_error) {
        (_, Some(error)) => Check::problem(
            "configuration",
            format!("the last reload failed, the old one is in force: {error}"),
        )
        .advise("mend the file and send SIGHUP to poold"),
        (Some(path), None) if Path::new(path).exists() => Check::ok("configuration", path),
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
        .advise("they are another user's: the log names them, end them as that user or as root");
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
    let socket = link.socket().display();
    match why {
        Silence::Impossible(reason) => Check::problem("daemon", reason.clone()),
        Silence::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Check::problem("daemon", format!("you may not connect to {socket}"))
                .advise("each poold serves its own user only: start yours")
        }
        Silence::Connect(error) => {
            let lock = PathBuf::from(format!("{socket}.lock"));
            let locks = [Some(lock), state_dir.map(|dir| dir.join("lock"))];
            if let Some(pid) = locks.into_iter().flatten().find_map(|path| holder(&path)) {
                let text = format!(
                    "poold, pid {pid}, holds its lock, but nobody listens at {socket}: somebody has removed the socket"
                );
                return Check::problem("daemon", text)
                    .advise(format!("end it with `kill {pid}` and start it anew"));
            }
            let start = match link.is_named() {
                true => format!("start it with `poold --socket {socket}`, and the --state-dir that it had"),
                false => "`poolctl submit` starts it, and so does `poold --daemonize`".to_owned(),
            };
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    Check::problem("daemon", "no poold is running").advise(start)
                }
                _ => Check::problem("daemon", format!("poold cannot be connected to: {error}")).advise(start),
            }
        }
        Silence::Call(ClientError::Disconnected(Some(error)), peer)
            if error.kind() == io::ErrorKind::WouldBlock =>
        {
            let who = peer.map(|pid| format!(", pid {pid},")).unwrap_or_default();
            let text = format!(
                "poold{who} accepts connections, but has not answered for {PATIENCE_S} s: it is stopped, or hangs"
            );
            let advice = "see whether it or its child is stopped (`ps`); otherwise kill its child, the supervisor: nothing is lost by that";
            Check::problem("daemon", text).advise(advice)
        }
        Silence::Call(error, _) => {
            Check::problem("daemon", format!("poold did not answer: {error}")).advise("look into its log")
        }
    }
}

/// Who holds the lock, as its file says. The lock itself is only looked at: to try it would keep a starting poold out.
fn holder(path: &Path) -> Option<i32> {
    let file = fs::metadata(path).ok()?;
    let id = format!("{:02x}:{:02x}:{}", major(file.dev()), minor(file.dev()), file.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let is_held = locks.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        words.nth(1) == Some("FLOCK") && words.nth(3) == Some(id.as_str())
    });
    is_held.then(|| fs::read_to_string(path).ok()?.trim().parse().ok()).flatten()
}
