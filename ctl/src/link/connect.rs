//! How poolctl finds poold, and how it starts the user's own poold if none is running.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context, bail};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;
use pool_proto::location::{PLACE_TAKEN, check_socket_path, default_socket, default_state_dir};
use pool_proto::place::{self, Place};
use pool_proto::{Client, ClientError};

use super::deadline::Deadline;
use super::homecoming::Homecoming;
use super::{silence, units};
use crate::term::text::say;

/// How long poolctl waits for a poold that is being restarted.
pub const RECONNECT: Duration = Duration::from_secs(30);

/// How long poolctl waits for a poold that lives and does not listen: it starts, or has lost its socket and
/// is putting it in its place again.
const STARTING: Duration = Duration::from_secs(5);

/// Where poold listens, and whether poolctl may start it.
#[derive(Debug, Clone)]
pub struct Link {
    /// The socket that the user has named.
    named: Option<PathBuf>,
    /// Where the user's poold listens, unless its state directory says otherwise.
    default: PathBuf,
    /// The user's own.
    state_dir: Option<PathBuf>,
    /// Whose servers are told the user's environment, besides the user's own and root's.
    trusted: Vec<u32>,
    may_start: bool,
}

impl Link {
    /// `named`: the socket that the user has named. poolctl starts a poold only at the default socket, never
    /// at a named one.
    pub fn new(named: Option<PathBuf>, trusted: Vec<u32>, no_start: bool) -> Self {
        Self {
            may_start: named.is_none() && !no_start,
            named,
            default: default_socket(),
            state_dir: default_state_dir(),
            trusted,
        }
    }

    /// The path at which poold listens, or would listen.
    pub fn socket(&self) -> PathBuf {
        self.socket_by(self.told())
    }

    fn socket_by(&self, told: Option<PathBuf>) -> PathBuf {
        self.named.clone().or(told).unwrap_or_else(|| self.default.clone())
    }

    /// Whether the user has named the socket.
    pub fn is_named(&self) -> bool {
        self.named.is_some()
    }

    /// Where the user's poold listens, as its state directory says, whatever the environment says.
    /// None where the user has named a socket.
    fn told(&self) -> Option<PathBuf> {
        let state_dir = self.state_dir.as_deref().filter(|_| self.named.is_none())?;
        Place::read(state_dir)?.socket
    }

    /// Connects to poold, and starts poold if none is running and poolctl may start one.
    ///
    /// # Errors
    /// When there is no poold. The message says what to do.
    pub fn connect(&self) -> anyhow::Result<Client> {
        self.check()?;
        match self.find_heeding_silence() {
            Ok(client) => Ok(client),
            Err(error) if is_absent(&error) && self.may_start => self.start(),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Connects like [`connect`](Self::connect), but only until the deadline. Both steps may take long: a
    /// stopped poold accepts no connection once its backlog is full, and a starting poold may have much to
    /// restore.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), or [`TimeUp`](super::deadline::TimeUp). A poold that is starting
    /// then goes on starting.
    pub fn connect_before(&self, deadline: Deadline) -> anyhow::Result<Client> {
        let link = self.clone();
        deadline.bound(move || link.connect())?
    }

    /// Connects to a running poold, which may be about to listen. Never starts one.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn find(&self) -> io::Result<Client> {
        self.find_by(self.told())
    }

    fn find_by(&self, told: Option<PathBuf>) -> io::Result<Client> {
        let until = Deadline::after(STARTING);
        let mut opened = self.open_by(told);
        while let Err(error) = &opened
            && is_absent(error)
            && self.holder().is_some()
            && !until.is_over()
        {
            thread::sleep(Duration::from_millis(20));
            opened = self.open();
        }
        opened
    }

    /// Who uses the state directory that poolctl goes by: a poold that lives, whether it listens or not.
    pub fn holder(&self) -> Option<Holder> {
        let state_dir = self.state_dir.as_deref()?;
        let holder = Holder::of(state_dir)?;
        // A socket that the user has named may be that of any poold.
        let is_meant =
            |named: &PathBuf| holder.place.as_ref().is_some_and(|place| place.socket.as_ref() == Some(named));
        self.named.as_ref().is_none_or(is_meant).then_some(holder)
    }

    /// Connects to the socket: the named one, or the one that the state directory tells of, or else the
    /// default one. Only a server of this user or of root, or of a user whom this user trusts, is accepted,
    /// because the server is told the user's whole environment. Nothing has been sent before that is known.
    ///
    /// # Errors
    /// Those of connect(2), or whose server it is.
    pub fn open(&self) -> io::Result<Client> {
        self.open_by(self.told())
    }

    fn open_by(&self, told: Option<PathBuf>) -> io::Result<Client> {
        if let Some(named) = &self.named {
            return self.open_at(named).inspect_err(|_| self.knock());
        }

        let told = told.filter(|told| *told != self.default);
        let at_told = told.map(|told| self.open_at(&told));
        match at_told {
            Some(Ok(client)) => Ok(client),
            // The directory may tell of a poold that is no more.
            Some(Err(_)) | None => self.open_at(&self.default).inspect_err(|_| self.knock()),
        }
    }

    fn open_at(&self, socket: &Path) -> io::Result<Client> {
        let client = Client::connect(socket)?;
        let server = getsockopt(&client, PeerCredentials)?.uid();
        if server != geteuid().as_raw() && server != 0 && !self.trusted.contains(&server) {
            return Err(io::Error::other(format!(
                "it is served by uid {server}, not by you; nothing was sent to it (--trust-uid {server} trusts it)"
            )));
        }
        Ok(client)
    }

    /// A poold that has lost its socket looks after it.
    fn knock(&self) {
        if let Some(state_dir) = self.state_dir.as_deref().filter(|_| self.holder().is_some()) {
            // Best effort: poold may have been told already.
            let _ = place::knock(state_dir);
        }
    }

    /// Connects to a running poold, and never starts one.
    ///
    /// # Errors
    /// When no poold is running.
    pub fn connect_only(&self) -> anyhow::Result<Client> {
        self.check()?;
        self.find_heeding_silence().map_err(|error| self.explain(error))
    }

    /// Connects like [`find`](Self::find). If the first reply, or that to a later request that has only one,
    /// does not come, poolctl says so.
    fn find_heeding_silence(&self) -> io::Result<Client> {
        let told = self.told();
        silence::begin(&self.socket_by(told.clone()));
        match self.find_by(told) {
            Ok(mut client) => {
                client.set_vigil(Some(&silence::VIGIL), true);
                Ok(client)
            }
            Err(error) => {
                silence::end();
                Err(error)
            }
        }
    }

    /// Connects again after the connection was lost: poold is being restarted, or is gone for good. This
    /// blocks; a caller that also waits for other things uses a [`Session`](super::session::Session).
    ///
    /// # Errors
    /// When poold has not come back in time.
    pub fn reconnect(&self) -> anyhow::Result<Client> {
        self.reconnect_within(RECONNECT)
    }

    fn reconnect_within(&self, patience: Duration) -> anyhow::Result<Client> {
        let mut homecoming = Homecoming::awaited(patience);
        loop {
            if let Some(client) = homecoming.look(self)? {
                return Ok(client);
            }
            thread::sleep(homecoming.due().left().unwrap_or_default());
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        check_socket_path(self.named.as_ref().unwrap_or(&self.default)).map_err(anyhow::Error::msg)
    }

    fn explain(&self, error: io::Error) -> anyhow::Error {
        let path = self.socket();
        let socket = path.display();
        if !is_absent(&error) {
            return anyhow::Error::from(error).context(format!("cannot connect to poold at {socket}"));
        }
        if let Some(holder) = self.holder() {
            return anyhow::anyhow!("{holder}, but nobody listens at {socket}: `poolctl doctor` says more");
        }
        match units::start_command().filter(|_| !self.is_named()) {
            Some(start) => anyhow::anyhow!("no poold listens at {socket}: start it with `{start}`"),
            None => anyhow::anyhow!("no poold listens at {socket}: start it with `poold --socket {socket}`"),
        }
    }

    fn start(&self) -> anyhow::Result<Client> {
        // A poold behind the service manager's back would keep the units from starting.
        if let Some(start) = units::start_command() {
            bail!(
                "no poold is running, and systemd starts it here: `{start}`{}",
                if units::is_systemd_running() {
                    ""
                } else {
                    "; where systemd does not run, `poold --daemonize`"
                }
            );
        }

        let program = daemon_program();
        let mut command = Command::new(&program);
        command.arg("--daemonize").stdin(Stdio::null());
        // These variables tell our own service what its service manager wants. They are not meant for poold.
        for name in [
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
            "STATE_DIRECTORY",
        ] {
            command.env_remove(name);
        }

        let said = command.output();
        let said = said
            .with_context(|| format!("no poold is running, and {} cannot be started", program.display()))?;

        if said.status.success() {
            say(format_args!("started poold, socket {}", self.socket().display()));
            return self.find_heeding_silence().map_err(|error| self.explain(error));
        }

        let message = String::from_utf8_lossy(&said.stderr);
        // Another poolctl was quicker. The poold that it has started may not listen yet.
        if message.contains(PLACE_TAKEN)
            && let Ok(client) = self.reconnect_within(STARTING)
        {
            return Ok(client);
        }

        let message: Vec<&str> = message.lines().collect();
        bail!("no poold is running, and it could not be started: {}", message.join("; "))
    }
}

/// A poold that holds the lock of a state directory.
#[derive(Debug)]
pub struct Holder {
    state_dir: PathBuf,
    /// None while its file is missing.
    place: Option<Place>,
}

impl Holder {
    /// None where nobody does.
    pub fn of(state_dir: &Path) -> Option<Self> {
        place::is_held(state_dir)
            .then(|| Self { state_dir: state_dir.to_owned(), place: Place::read(state_dir) })
    }

    /// The guardian's pid, where it is known.
    pub fn pid(&self) -> Option<i32> {
        self.place.as_ref().map(|place| place.pid)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "poold")?;
        if let Some(pid) = self.pid() {
            write!(to, ", pid {pid},")?;
        }
        write!(to, " holds the lock of {}", self.state_dir.display())
    }
}

/// The error for a connection that broke before the reply to a submission came.
pub fn not_known_whether_accepted(error: ClientError) -> anyhow::Error {
    match error {
        ClientError::Disconnected(_) => anyhow::Error::from(error)
            .context("it is not known whether the job was accepted; `poolctl ls` tells"),
        other => other.into(),
    }
}

/// Whether connect(2) failed because nobody listens at the socket.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// The poold that poolctl starts: the one beside it, or that of $PATH.
pub fn daemon_program() -> PathBuf {
    beside_us("poold").unwrap_or_else(|| "poold".into())
}

fn beside_us(name: &str) -> Option<PathBuf> {
    let path = env::current_exe().ok()?.with_file_name(name);
    path.exists().then_some(path)
}
