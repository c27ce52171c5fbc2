//! How poolctl finds poold, and how it starts the user's own poold if none is running.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context, bail};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;
use pool_proto::location::{PLACE_TAKEN, check_socket_path, default_socket};
use pool_proto::{Client, ClientError};

use super::deadline::Deadline;
use super::homecoming::Homecoming;

/// How long poolctl waits for a poold that is being restarted.
pub const RECONNECT: Duration = Duration::from_secs(30);

/// How long poolctl waits for a poold that another poolctl has started.
const STARTING: Duration = Duration::from_secs(5);

/// Where poold listens, and whether poolctl may start it.
#[derive(Debug, Clone)]
pub struct Link {
    socket: PathBuf,
    is_named: bool,
    may_start: bool,
}

impl Link {
    /// `named`: the socket that the user has named. poolctl starts a poold only at the default socket, never
    /// at a named one.
    pub fn new(named: Option<PathBuf>, no_start: bool) -> Self {
        let is_named = named.is_some();
        Self { socket: named.unwrap_or_else(default_socket), is_named, may_start: !is_named && !no_start }
    }

    /// The path at which poold listens, or would listen.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether the user has named the socket.
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    /// Connects to poold, and starts poold if none is running and poolctl may start one.
    ///
    /// # Errors
    /// When there is no poold. The message says what to do.
    pub fn connect(&self) -> anyhow::Result<Client> {
        check_socket_path(&self.socket).map_err(anyhow::Error::msg)?;
        match self.open() {
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

    /// Connects to the socket. At the default socket only a server of this user or of root is accepted,
    /// because the server is told the user's whole environment. A user who names a socket has chosen whom to
    /// trust.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn open(&self) -> io::Result<Client> {
        let client = Client::connect(&self.socket)?;
        if !self.is_named {
            let server = getsockopt(&client, PeerCredentials)?.uid();
            if server != geteuid().as_raw() && server != 0 {
                return Err(io::Error::other(format!("it is served by uid {server}, not by you")));
            }
        }
        Ok(client)
    }

    /// Connects to a running poold, and never starts one.
    ///
    /// # Errors
    /// When no poold is running.
    pub fn connect_only(&self) -> anyhow::Result<Client> {
        check_socket_path(&self.socket).map_err(anyhow::Error::msg)?;
        self.open().map_err(|error| self.explain(error))
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

    fn explain(&self, error: io::Error) -> anyhow::Error {
        let socket = self.socket.display();
        if is_absent(&error) {
            return anyhow::anyhow!("no poold listens at {socket}: start it with `poold --socket {socket}`");
        }
        anyhow::Error::from(error).context(format!("cannot connect to poold at {socket}"))
    }

    fn start(&self) -> anyhow::Result<Client> {
        let program = beside_us("poold").unwrap_or_else(|| "poold".into());
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
            eprintln!("poolctl: started poold, socket {}", self.socket.display());
            return self.open().map_err(|error| self.explain(error));
        }

        let message = String::from_utf8_lossy(&said.stderr);
        // Another poolctl was quicker. The poold that it has started may not listen yet.
        if message.contains(PLACE_TAKEN)
            && let Ok(client) = self.reconnect_within(STARTING)
        {
            return Ok(client);
        }

        bail!("no poold is running, and it could not be started: {}", message.trim_end())
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

fn beside_us(name: &str) -> Option<PathBuf> {
    let path = env::current_exe().ok()?.with_file_name(name);
    path.exists().then_some(path)
}
