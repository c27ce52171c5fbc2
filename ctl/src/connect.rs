//! Finding poold, and starting the user's own where there is none.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, bail};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;
use pool_proto::location::{PLACE_TAKEN, check_socket_path, default_socket};
use pool_proto::{Client, ClientError};

/// How long a restarting poold is waited for.
const RECONNECT: Duration = Duration::from_secs(30);

/// How long a poold that somebody else is starting is waited for.
const STARTING: Duration = Duration::from_secs(5);

/// Where poold is, and what to do when it is not there.
#[derive(Debug, Clone)]
pub struct Link {
    socket: PathBuf,
    is_named: bool,
    may_start: bool,
}

impl Link {
    /// `named`: the socket that the user named. Only their own daemon is ever started, never one that they named.
    pub fn new(named: Option<PathBuf>, no_start: bool) -> Self {
        let is_named = named.is_some();
        Self { socket: named.unwrap_or_else(default_socket), is_named, may_start: !is_named && !no_start }
    }

    /// Where poold listens, or should.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether the user has named it.
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    /// Connects, and starts poold if need be.
    ///
    /// # Errors
    /// When there is none, with what to do.
    pub fn connect(&self) -> anyhow::Result<Client> {
        check_socket_path(&self.socket).map_err(anyhow::Error::msg)?;
        match self.open() {
            Ok(client) => Ok(client),
            Err(error) if is_absent(&error) && self.may_start => self.start(),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Connects. Nobody else's server is taken for the user's own poold: it would be told their whole environment. Whoever names a socket
    /// has chosen whom to trust.
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

    /// Connects to a poold that is there.
    ///
    /// # Errors
    /// When there is none.
    pub fn connect_only(&self) -> anyhow::Result<Client> {
        check_socket_path(&self.socket).map_err(anyhow::Error::msg)?;
        self.open().map_err(|error| self.explain(error))
    }

    /// Connects again after the connection was lost: poold is being restarted, or is gone for good.
    ///
    /// # Errors
    /// When it has not come back.
    pub fn reconnect(&self) -> anyhow::Result<Client> {
        self.reconnect_within(RECONNECT)
    }

    fn reconnect_within(&self, patience: Duration) -> anyhow::Result<Client> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            match self.open() {
                Ok(client) => return Ok(client),
                Err(error) if is_absent(&error) && start.elapsed() < patience => {
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(error) => return Err(error).context(ClientError::Disconnected(None)),
            }
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
        // What a service manager has told our own service is not meant for it.
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
        // Another poolctl was quicker; the poold that it has started may still be on its way.
        if message.contains(PLACE_TAKEN)
            && let Ok(client) = self.reconnect_within(STARTING)
        {
            return Ok(client);
        }
        bail!("no poold is running, and it could not be started: {}", message.trim_end())
    }
}

/// For a connection that broke before the reply came.
pub fn not_known_whether_accepted(error: ClientError) -> anyhow::Error {
    match error {
        ClientError::Disconnected(_) => anyhow::Error::from(error)
            .context("it is not known whether the job was accepted; `poolctl ls` tells"),
        other => other.into(),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn beside_us(name: &str) -> Option<PathBuf> {
    let path = env::current_exe().ok()?.with_file_name(name);
    path.exists().then_some(path)
}
