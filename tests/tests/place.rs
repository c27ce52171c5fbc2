//! Where poold is, and whose: one poold for a user whatever the environment says, a socket that comes back, a
//! state directory that two never share, files that are poold's own, servers that are trusted.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::{
    Cleanup, Daemon, MARK, Said, Setup, alive, is_root_or_skip, marked, poolctl, run, send, wait_until,
};

/// A user with a home, who has no poold yet.
struct Home {
    setup: Setup,
    uid: u32,
    _cleanup: Cleanup,
}

/// Somebody who has no home.
const USER: u32 = 54_417;

impl Home {
    fn new() -> Option<Self> {
        // Each is another user: without a runtime directory a user's socket is at one place for all homes.
        static NEXT: AtomicU32 = AtomicU32::new(USER + 1);

        if !is_root_or_skip("become a user with an empty home") {
            return None;
        }
        let uid = NEXT.fetch_add(1, Ordering::Relaxed);
        let setup = Setup::new().user(uid);
        let cleanup = Cleanup(setup.mark().to_owned());
        let home = Self { setup, uid, _cleanup: cleanup };
        home.mkdir("runtime");
        Some(home)
    }

    fn path(&self, name: &str) -> String {
        self.setup.dir().join(name).to_str().unwrap().to_owned()
    }

    fn mkdir(&self, name: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
        chown(self.path(name), Some(self.uid), Some(self.uid)).unwrap();
    }

    /// A program of poold's with this user's home and nothing else.
    fn command(&self, name: &str, variables: &[(&str, &str)]) -> Command {
        let mut command = self.setup.program(name);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.setup.dir()).current_dir("/");
        command.env(MARK, self.setup.mark()).envs(variables.iter().copied());
        command
    }

    fn ctl(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Said {
        run(self.command("poolctl", variables).args(arguments))
    }

    /// Starts the user's poold in a session.
    fn start(&self) -> String {
        let runtime = self.path("runtime");
        let said = self.ctl(&[("XDG_RUNTIME_DIR", &runtime)], &["submit", "--", "sleep", "600"]);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.stderr.contains("started poold"), "{said:?}");
        runtime
    }

    fn state(&self, name: &str) -> String {
        self.path(&format!(".local/state/poold/{name}"))
    }

    fn guardian(&self) -> i32 {
        fs::read_to_string(self.state("lock")).unwrap().lines().next().unwrap().parse().unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        marked(self.setup.mark()).into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
        wait_until("nothing is left", || marked(self.setup.mark()).is_empty());
        let _ = fs::remove_dir_all(format!("/tmp/poold-{}", self.uid));
    }
}

fn ok(said: &Said) {
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
}

#[test]
fn whatever_the_environment_says_a_user_has_one_poold() {
    let Some(home) = Home::new() else { return };
    home.start();
    home.mkdir("elsewhere");
    let elsewhere = home.path("elsewhere");
    let environments: [&[(&str, &str)]; 5] = [
        &[],
        &[("XDG_RUNTIME_DIR", &elsewhere)],
        &[("XDG_RUNTIME_DIR", "/root")],
        &[("XDG_RUNTIME_DIR", "/nowhere/at/all")],
        &[("TMPDIR", &elsewhere)],
    ];
    for environment in environments {
        ok(&home.ctl(environment, &["ls"]));
        ok(&home.ctl(environment, &["ping"]));
        let said = home.ctl(environment, &["doctor", "-v"]);
        assert!(said.stdout.contains("ok       daemon"), "{environment:?}: {said:?}");
        assert!(!said.stdout.contains("problem  daemon"), "{environment:?}: {said:?}");
    }
    ok(&home.ctl(&[], &["cancel", "1"]));
}

/// What a logout does: the runtime directory is gone, and only root could make it again.
#[test]
fn a_poold_without_its_runtime_directory_listens_in_its_state_directory() {
    let Some(home) = Home::new() else { return };
    let runtime = home.start();
    fs::create_dir(home.path("root")).unwrap();
    chown(home.setup.dir(), Some(0), None).unwrap();
    fs::set_permissions(home.setup.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&runtime, home.path("root/gone")).unwrap();
    // The parent of the socket's directory has moved, which nobody tells of: a client that looks for it does.
    ok(&home.ctl(&[("XDG_RUNTIME_DIR", &runtime)], &["ls"]));
    ok(&home.ctl(&[], &["ls"]));
    assert!(Path::new(&home.state("poold.sock")).exists());

    // Nothing of it stays.
    ok(&home.ctl(&[], &["cancel", "1"]));
    assert_eq!(home.ctl(&[], &["shutdown"]).code, 0);
    wait_until("it ends", || marked(home.setup.mark()).is_empty());
    assert!(!Path::new(&home.state("poold.sock")).exists());
}

#[test]
fn a_socket_that_is_lost_comes_back_and_so_does_the_word_of_where_it_is() {
    let daemon = Daemon::start(1);
    let mut waiting =
        daemon.ctl(&["submit", "--wait", "--", "sleep", "600"]).stdout(Stdio::null()).spawn().unwrap();
    let id = 1;
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    let supervisor = daemon.supervisor();
    let answers = || daemon.run(&["ping"]).code == 0;

    let socket = daemon.socket();
    let losses: [&dyn Fn(); 4] = [
        &|| fs::remove_file(&socket).unwrap(),
        &|| fs::rename(&socket, daemon.path("aside")).unwrap(),
        &|| {
            fs::remove_file(daemon.path("socket.lock")).unwrap();
            fs::remove_file(&socket).unwrap();
        },
        // Another server's, which has gone.
        &|| {
            fs::remove_file(&socket).unwrap();
            drop(UnixListener::bind(&socket).unwrap());
        },
    ];
    for lose in losses {
        lose();
        wait_until("poold is reached again", answers);
    }

    let lock = daemon.path("state/lock");
    let before = fs::read(&lock).unwrap();
    fs::remove_file(&lock).unwrap();
    wait_until("the word is back", || fs::read(&lock).is_ok_and(|text| text == before));

    // The next supervisor has the socket that is there.
    send(supervisor, Signal::SIGKILL);
    wait_until("another supervisor serves", || answers() && daemon.supervisor() != supervisor);
    assert_eq!(waiting.try_wait().unwrap(), None, "who waits goes on waiting");
    daemon.ok(&["cancel", &id.to_string()]);
    waiting.wait().unwrap();
}

#[test]
fn at_its_end_poold_takes_away_its_own_socket_and_no_other() {
    let mut daemon = Daemon::start(1);
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    assert!(!daemon.socket().exists());

    daemon.restart();
    // Somebody else's, while poold cannot look after its own.
    send(daemon.guardian(), Signal::SIGSTOP);
    fs::remove_file(daemon.socket()).unwrap();
    let _other = UnixListener::bind(daemon.socket()).unwrap();
    send(daemon.supervisor(), Signal::SIGTERM);
    send(daemon.guardian(), Signal::SIGCONT);
    daemon.wait();
    assert!(UnixStream::connect(daemon.socket()).is_ok(), "it is the other's");
}

#[test]
fn a_second_poold_is_refused_though_the_lock_file_was_removed() {
    let daemon = Daemon::start(1);
    let id = daemon.submit(&["--", "sleep", "600"]);
    let pid = daemon.wait_record(id, "it runs", |record| record.pid.is_some()).pid.unwrap();
    // So that it does not put anything in its place again meanwhile.
    send(daemon.guardian(), Signal::SIGSTOP);
    fs::remove_file(daemon.path("state/lock")).unwrap();
    let second = |name: &str| {
        let mut command = daemon.setup().program("poold");
        command.arg("--state-dir").arg(daemon.state_dir()).arg("--socket").arg(daemon.path(name));
        run(command.env(MARK, daemon.mark()))
    };
    let said = second("other");
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("another poold"), "{said:?}");
    send(daemon.guardian(), Signal::SIGCONT);
    let word = format!("{}\n{}\n", daemon.guardian(), daemon.socket().display());
    wait_until("the word is back", || {
        fs::read_to_string(daemon.path("state/lock")).is_ok_and(|text| text == word)
    });
    let said = second("other");
    assert!(said.stderr.contains(&format!("another poold (pid {})", daemon.guardian())), "{said:?}");
    assert!(alive(pid), "its job runs on");
    assert_eq!(daemon.record(id).state, State::Running);
}

/// The directory's lock may be missing, on NFS; the database's is not.
#[test]
fn nothing_is_killed_by_one_who_does_not_hold_the_database() {
    let daemon = Daemon::start(1);
    let id = daemon.submit(&["--", "sleep", "600"]);
    let pid = daemon.wait_record(id, "it runs", |record| record.pid.is_some()).pid.unwrap();
    // The same directory behind a file system that locks none of its own: the supervisor alone, unlocked.
    let (lifeline, _held) = UnixStream::pair().unwrap();
    let listener = UnixListener::bind(daemon.path("other")).unwrap();
    let inherit = |descriptor: &dyn std::os::fd::AsRawFd| {
        let number = descriptor.as_raw_fd();
        // SAFETY: the number is that of an open descriptor.
        let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        nix::fcntl::fcntl(descriptor, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        number.to_string()
    };
    let mut command = daemon.setup().program("poold");
    command.args(["supervisor", "--config-optional", "--state-dir"]).arg(daemon.state_dir());
    command.arg("--socket").arg(daemon.path("other"));
    command.args(["--listener-fd", &inherit(&listener), "--lifeline-fd", &inherit(&lifeline)]);
    let said = run(command.env(MARK, daemon.mark()));
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.stderr.contains("in use") || said.stdout.contains("in use"), "{said:?}");
    assert!(alive(pid), "the job of the living one runs on");
}

#[test]
fn a_start_right_after_the_guardian_was_killed_succeeds() {
    let mut daemon = Daemon::start(4);
    for _ in 0..5 {
        // Something that takes a moment to end.
        for _ in 0..4 {
            daemon.submit_sh("for i in $(seq 20); do setsid sleep 600 & done; wait");
        }
        // It may still hold its locks when the next one looks.
        send(daemon.guardian(), Signal::SIGKILL);
        daemon.restart();
        daemon.ok(&["ping"]);
    }
    let ids: Vec<String> = (1..=20).map(|id| id.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    daemon.run(&[&["cancel"], ids.as_slice()].concat());
}

#[test]
fn a_start_in_the_background_returns_with_what_keeps_poold_from_serving() {
    let setup = Setup::new().argument("--daemonize").argument("--pid-file");
    let pid_file = setup.dir().join("pid");
    let setup = setup.argument(pid_file.to_str().unwrap());
    let _cleanup = Cleanup(setup.mark().to_owned());
    let state = setup.dir().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(state.join("poold.db"), "no database, and long enough to be seen as none".repeat(100)).unwrap();
    let said = run(&mut setup.command());
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("is damaged or no database"), "{said:?}");

    fs::remove_file(state.join("poold.db")).unwrap();
    for _ in 0..20 {
        let said = run(&mut setup.command());
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
        let pid: i32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(command.contains("--daemonize"), "{command:?}");
        send(pid, Signal::SIGTERM);
        wait_until("it has ended", || !alive(pid));
        assert!(!pid_file.exists());
    }
}

#[test]
fn a_start_of_poolctls_says_what_keeps_poold_from_serving() {
    let Some(home) = Home::new() else { return };
    home.mkdir(".local");
    home.mkdir(".local/state");
    home.mkdir(".local/state/poold");
    fs::set_permissions(home.state(""), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(home.state("poold.db"), "no database at all".repeat(300)).unwrap();
    chown(home.state("poold.db"), Some(home.uid), Some(home.uid)).unwrap();
    let said = home.ctl(&[], &["submit", "--", "true"]);
    assert_eq!(said.code, 125, "{said:?}");
    assert!(said.stderr.contains("could not be started") && said.stderr.contains("is damaged"), "{said:?}");
    assert!(!said.stderr.contains("not known"), "{said:?}");
}

#[test]
fn files_that_poold_writes_are_its_own_and_no_links() {
    let setup = Setup::new().argument("--daemonize").argument("--pid-file");
    let pid_file = setup.dir().join("pid");
    let setup = setup.argument(pid_file.to_str().unwrap());
    let _cleanup = Cleanup(setup.mark().to_owned());
    let (state, victim) = (setup.dir().join("state"), setup.dir().join("victim"));
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(&victim, "precious").unwrap();

    let in_state =
        ["poold.log", "lock", "poold.db", "poold.db-wal", "output", "stdin"].map(|name| state.join(name));
    for path in in_state.iter().chain([&pid_file, &setup.dir().join("socket.lock")]) {
        // What an earlier start has made.
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
        symlink(&victim, path).unwrap();
        let said = run(&mut setup.command());
        assert_ne!(said.code, 0, "{}: {said:?}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(said.stderr.contains(name), "{name}: {said:?}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{name}");
        wait_until("nothing runs", || marked(setup.mark()).is_empty());
        fs::remove_file(path).unwrap();
    }
    // What is no pid is not overwritten either.
    fs::write(&pid_file, "precious\n").unwrap();
    let said = run(&mut setup.command());
    assert!(said.code != 0 && said.stderr.contains("something else than a pid"), "{said:?}");
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), "precious\n");
    fs::remove_file(&pid_file).unwrap();

    // The note of the control groups is replaced, a FIFO too.
    for plant in [&(|path: &Path| symlink(&victim, path).unwrap()) as &dyn Fn(&Path), &|path| {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    }] {
        let _ = fs::remove_file(state.join("cgroup"));
        plant(&state.join("cgroup"));
        let said = run(&mut setup.command());
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        let pid: i32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        send(pid, Signal::SIGTERM);
        wait_until("it has ended", || marked(setup.mark()).is_empty());
    }
}

#[test]
fn a_directory_that_is_not_its_own_is_refused_and_left_as_it_is() {
    let setup = Setup::new();
    let state = setup.dir().join("state");
    let start = || run(setup.command().stdin(Stdio::null()));
    let refused = |words: &str| {
        let before = fs::metadata(&state).unwrap();
        let said = start();
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stderr.contains(words), "{said:?}");
        let after = fs::metadata(&state).unwrap();
        assert_eq!(
            (before.mode(), before.uid(), before.ctime_nsec()),
            (after.mode(), after.uid(), after.ctime_nsec())
        );
    };
    fs::create_dir(&state).unwrap();
    for mode in [0o777, 0o1777, 0o770, 0o722] {
        fs::set_permissions(&state, fs::Permissions::from_mode(mode)).unwrap();
        refused("others may have put files there");
    }
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(state.join("diary"), "").unwrap();
    refused("holds files that are not poold's");
    fs::remove_file(state.join("diary")).unwrap();

    if is_root_or_skip("give a directory away") {
        chown(&state, Some(USER), None).unwrap();
        refused("belongs to uid 54417");
        chown(&state, Some(0), None).unwrap();
    }
    // An empty one that mkdir(1) has made is taken, and closed.
    let daemon = setup.start();
    assert_eq!(fs::metadata(daemon.state_dir()).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn nothing_is_sent_to_another_users_server() {
    let Some(home) = Home::new() else { return };
    // Root's own poold and that of the user himself are trusted; this is neither.
    let socket = home.path("socket");
    let script = "\
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen(8)
os.chmod(sys.argv[1], 0o777)
print('up', flush=True)
for _ in range(3):
    client, _ = server.accept()
    print(repr(client.recv(1 << 16)), flush=True)
    client.close()
";
    let mut server = Command::new("setpriv");
    server.args([
        &format!("--reuid={}", home.uid),
        &format!("--regid={}", home.uid),
        "--clear-groups",
        "/usr/bin/python3",
        "-c",
        script,
        &socket,
    ]);
    let mut server = server.env(MARK, home.setup.mark()).stdout(Stdio::piped()).spawn().unwrap();
    let mut heard = std::io::BufReader::new(server.stdout.take().unwrap());
    let mut line = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut heard, &mut line).unwrap();
        line
    };
    assert_eq!(line(), "up\n");

    let ctl = |arguments: &[&str]| {
        let mut command = Command::new(poolctl());
        run(command.args(arguments).env("POOL_SOCKET", &socket).env("SECRET", "42"))
    };
    for verb in [&["submit", "--", "true"][..], &["ls"]] {
        let said = ctl(verb);
        assert_eq!(said.code, 125, "{said:?}");
        assert!(
            said.stderr.contains(&format!("served by uid {}", home.uid))
                && said.stderr.contains("--trust-uid"),
            "{said:?}"
        );
        assert_eq!(line(), "b''\n", "not a byte was sent");
    }
    ctl(&["--trust-uid", &home.uid.to_string(), "submit", "--", "true"]);
    assert!(line().contains("SECRET"), "who is trusted is told");
    server.wait().unwrap();
    let mut rest = String::new();
    heard.read_to_string(&mut rest).unwrap();
}

/// A poold behind the service manager's back would keep the units from starting.
#[test]
fn where_the_units_are_installed_poolctl_starts_nothing() {
    let Some(home) = Home::new() else { return };
    let units = home.path(".config/systemd/user");
    fs::create_dir_all(&units).unwrap();
    fs::write(format!("{units}/poold.socket"), "[Socket]\n").unwrap();
    let said = home.ctl(&[], &["submit", "--", "true"]);
    assert_eq!(said.code, 125, "{said:?}");
    assert!(said.stderr.contains("`systemctl --user start poold.socket`"), "{said:?}");
    let said = home.ctl(&[], &["doctor"]);
    assert!(said.stdout.contains("systemctl --user start poold.socket"), "{said:?}");
    assert!(marked(home.setup.mark()).is_empty(), "nothing was started");

    // Root's, in a mount namespace where they are installed and where nothing of the machine's is.
    let script = format!(
        "mount -t tmpfs none /etc/systemd && mkdir /etc/systemd/system && touch /etc/systemd/system/poold.socket && \
         mount -t tmpfs none /var/lib && mount -t tmpfs none /run && exec {} ls",
        poolctl().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("mkdir -p /etc/systemd && {script}")]);
    let said = run(command.env_remove("POOL_SOCKET").env(MARK, home.setup.mark()));
    if said.stderr.contains("unshare") || said.stderr.contains("mount:") {
        return pool_tests::skip(&format!("no mount namespace: {said:?}"));
    }
    assert_eq!(said.code, 125, "{said:?}");
    assert!(said.stderr.contains("`systemctl start poold.socket`"), "{said:?}");
    assert!(marked(home.setup.mark()).is_empty(), "nothing was started");
}

#[test]
fn who_holds_the_lock_is_named() {
    let Some(home) = Home::new() else { return };
    home.start();
    let guardian = home.guardian();
    send(guardian, Signal::SIGSTOP);
    fs::remove_file(home.path("runtime/poold/poold.sock")).unwrap();
    let said = home.ctl(&[], &["doctor"]);
    assert!(said.stdout.contains(&format!("poold, pid {guardian}, holds the lock")), "{said:?}");
    let said = home.ctl(&[], &["--no-start", "ls"]);
    assert!(said.stderr.contains(&format!("poold, pid {guardian}, holds the lock")), "{said:?}");
    send(guardian, Signal::SIGCONT);
    ok(&home.ctl(&[], &["ls"]));
}
