//! What users see of each tier of containment: whoever is killed, nothing of the attempt is left. Each job
//! here has a grandchild that was forked twice, leads a session of its own, ignores whatever can be ignored
//! and has cleared its environment. They are known by what they sleep on.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::Signal;
use pool_proto::nouns::{Pool, SlotState, Tier};
use pool_proto::{Record, State};
use pool_tests::{
    Daemon, Setup, alive, children, is_root_or_skip, line_of, send, skip, wait_for, wait_until,
};

const CGROUP: &str = "";
const PID: &str = "[pool.default]\nisolate = \"pid\"\n";
const PID_ALONE: &str = "cgroup = \"off\"\n[pool.default]\nisolate = \"pid\"\n";
const NEITHER: &str = "cgroup = \"off\"\n";

/// An ordinary user whom nobody else is.
const USER: u32 = 64_207;

/// Through poolctl: the daemon may be somebody else's.
fn pools(daemon: &Daemon) -> Vec<Pool> {
    let mut document: serde_json::Value =
        serde_json::from_str(&daemon.ok(&["pool", "ls", "--json"])).unwrap();
    serde_json::from_value(document["pools"].take()).unwrap()
}

fn pool(daemon: &Daemon) -> Pool {
    pools(daemon).remove(0)
}

fn record(daemon: &Daemon, id: u64) -> Record {
    serde_json::from_str(&daemon.ok(&["show", &id.to_string(), "--json"])).unwrap()
}

/// A number of seconds that nobody else sleeps for.
fn tag() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("7{:07}.{:03}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The processes, as seen from here, that have the tag on their command line.
fn tagged(tag: &str) -> Vec<i32> {
    let has_tag = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(tag.len()).any(|part| part == tag.as_bytes())
            && !line.starts_with(b"/proc")
            && alive(*pid)
    };
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(has_tag).collect()
}

/// A job with its grandchild.
struct Family {
    id: u64,
    tag: String,
    /// As seen from here.
    job: i32,
    worker: i32,
}

impl Family {
    /// The first attempt stays for ever, a second one succeeds at once.
    fn start(daemon: &Daemon, keep_environment: bool) -> Self {
        let (tag, ready) = (tag(), daemon.path_text("ready"));
        let clear = if keep_environment { "" } else { "env -i" };
        let script = format!(
            "[ $POOL_ATTEMPT = 1 ] || exit 0
             trap '' TERM INT HUP
             ({clear} setsid sh -c \"trap '' TERM INT HUP; echo >>{ready}; while :; do /bin/sleep {tag}; done\" >/dev/null 2>&1 &)
             until [ -s {ready} ]; do sleep 0.01; done
             while :; do sleep {tag}; done"
        );
        let id = daemon.submit(&["--kill-after", "50ms", "--", "sh", "-c", &script]);
        line_of(ready.as_ref());
        let record =
            wait_for("it runs", || Some(record(daemon, id)).filter(|record| record.state == State::Running));
        let family = Self { id, tag, job: record.pid.unwrap(), worker: record.worker_pid.unwrap() };
        wait_until("job, grandchild, and what they sleep in", || tagged(&family.tag).len() == 4);
        fs::remove_file(ready).unwrap();
        family
    }

    fn left(&self) -> Vec<i32> {
        tagged(&self.tag)
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        tagged(&self.tag).into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
    }
}

fn ended(daemon: &Daemon, id: u64) -> Record {
    daemon.run(&["wait", &id.to_string()]);
    record(daemon, id)
}

/// The table of who is killed; `at_once`: what becomes of the grandchild when all of ours are killed in one
/// instant.
fn nothing_is_left(setup: impl Fn() -> Setup, tier: Tier, at_once: AtOnce) {
    let mut daemon = setup().start();
    assert_eq!(pool(&daemon).containment, tier, "{:?}", pool(&daemon).containment_note);

    let family = Family::start(&daemon, false);
    assert!(family.left().contains(&family.job), "pids are told as everybody sees them");
    assert!(children(family.worker).contains(&family.job));
    assert_eq!(pool(&daemon).slots[0].pid, Some(family.worker));
    send(family.job, Signal::SIGKILL);
    let record = ended(&daemon, family.id);
    assert_eq!((family.left(), record.state, record.signal), (Vec::new(), State::Failed, Some(9)));

    let one_of_ours: [fn(&Daemon, &Family) -> Vec<i32>; 3] = [
        |_, family| vec![family.worker],
        |daemon, _| vec![daemon.supervisor()],
        |daemon, _| [daemon.workers(), vec![daemon.supervisor()]].concat(),
    ];
    for victims in one_of_ours {
        let family = Family::start(&daemon, false);
        victims(&daemon, &family).into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
        let record = ended(&daemon, family.id);
        assert_eq!(
            (family.left(), record.state, record.attempt),
            (Vec::new(), State::Succeeded, 2),
            "{record:?}"
        );
    }

    let family = Family::start(&daemon, false);
    send(daemon.guardian(), Signal::SIGKILL);
    daemon.wait();
    wait_until("nothing is left after the guardian", || {
        family.left().is_empty() && daemon.processes().is_empty()
    });
    daemon.restart();
    assert_eq!(ended(&daemon, family.id).attempt, 2);

    let family = Family::start(&daemon, at_once == AtOnce::LeftIfCleared);
    daemon.kill_in_one_instant();
    match at_once {
        AtOnce::Gone => wait_until("nothing is left", || family.left().is_empty()),
        AtOnce::Left | AtOnce::LeftIfCleared => {
            assert!(!family.left().is_empty(), "there is something to be swept")
        }
    }
    daemon.restart();
    assert_eq!((family.left(), ended(&daemon, family.id).attempt), (Vec::new(), 2));
}

/// What becomes of a grandchild when all of ours are killed in one instant.
#[derive(Clone, Copy, PartialEq)]
enum AtOnce {
    /// It goes with them.
    Gone,
    /// It goes with the next start.
    Left,
    /// It goes with the next start, which knows it by its environment.
    LeftIfCleared,
}

/// A control group that may be given away, or none here.
struct Delegated(PathBuf);

impl Delegated {
    fn new(owner: u32) -> Option<Self> {
        let group = own_group()?.join(format!("poold-test-{}", tag()));
        fs::create_dir(&group).ok()?;
        for name in ["", "cgroup.procs", "cgroup.subtree_control"] {
            std::os::unix::fs::chown(group.join(name), Some(owner), Some(owner)).unwrap();
        }
        Some(Self(group))
    }

    /// What is started through this is started in the group.
    fn enter(&self) -> [String; 4] {
        [
            "sh".to_owned(),
            "-c".to_owned(),
            format!("echo 0 >{}/cgroup.procs; exec \"$@\"", self.0.display()),
            "sh".to_owned(),
        ]
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The group that this process is in, where this process may make others in it.
fn own_group() -> Option<PathBuf> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let group = Path::new(mount.split(' ').nth(4)?).join(own);
    let probe = group.join(format!("poold-test-{}", tag()));
    fs::create_dir(&probe).ok()?;
    fs::remove_dir(probe).ok()?;
    Some(group)
}

fn own_group_or_skip() -> Option<PathBuf> {
    let group = own_group();
    if group.is_none() {
        skip("no control group can be made here");
    }
    group
}

fn with(config: &'static str) -> impl Fn() -> Setup {
    move || Setup::new().workers(1).config(config)
}

// ---- the reaper's table ----

#[test]
fn in_control_groups() {
    if own_group_or_skip().is_some() {
        nothing_is_left(with(CGROUP), Tier::Cgroup, AtOnce::Left);
    }
}

#[test]
fn in_control_groups_as_an_ordinary_user() {
    if !is_root_or_skip("give a control group away") || own_group_or_skip().is_none() {
        return;
    }
    let delegated = Delegated::new(USER).unwrap();
    let enter = delegated.enter();
    let enter: Vec<&str> = enter.iter().map(String::as_str).collect();
    nothing_is_left(|| with(CGROUP)().user(USER).wrapper(&enter), Tier::Cgroup, AtOnce::Left);
    wait_until("its groups are gone", || {
        fs::read_dir(&delegated.0).unwrap().flatten().all(|entry| !entry.path().is_dir())
    });
}

#[test]
fn in_pid_namespaces() {
    if is_root_or_skip("make pid namespaces without a user namespace") {
        nothing_is_left(with(PID), Tier::PidNamespace, AtOnce::Gone);
        nothing_is_left(with(PID_ALONE), Tier::PidNamespace, AtOnce::Gone);
    }
}

/// Finds poold's supervisor, and says by which of the places that it is given.
const LOOK: &str = "look() { for place; do for it in $place/[0-9]*; do \
                    grep -aqs super[v]isor $it/cmdline && echo $place leads out; done; done; }; ";

/// All that a job could look at.
const PLACES: &str = "look /proc /proc/[0-9]*/fd/* /proc/[0-9]*/cwd /proc/[0-9]*/root/proc";

#[test]
fn in_a_pid_namespace_nothing_leads_to_the_processes_outside() {
    if !is_root_or_skip("make pid namespaces for certain") {
        return;
    }
    // There is another process table besides that in /proc, in a folder with a blank in its name.
    let setup = with(PID)();
    let other = setup.dir().join("the root").join("proc");
    fs::create_dir_all(&other).unwrap();
    let other = other.to_str().unwrap().to_owned();
    let mount = format!("mount -t proc proc '{other}' && exec \"$@\"");
    let daemon = setup.wrapper(&["unshare", "-m", "sh", "-c", &mount, "sh"]).start();
    let outside =
        pool_tests::run(std::process::Command::new("sh").args(["-c", &format!("{LOOK} look /proc")]));
    assert!(outside.stdout.starts_with("/proc leads out\n"), "it is found where it can be seen: {outside:?}");

    let elsewhere = format!("IFS=; look '{other}'; ls '{other}' | grep -c '^1$'");
    let uncover = format!(
        "for at in '{other}' /proc; do while umount -l \"$at\" 2>/dev/null; do :; done; done; look /proc; \
         {elsewhere}; echo over"
    );
    let script = format!("{LOOK} {PLACES}; ({elsewhere}); unshare -m sh -c \"$1\"");
    let said = daemon.run(&["run", "--", "sh", "-c", &script, "sh", &format!("{LOOK} {uncover}")]);
    assert_eq!(said.stdout, "1\n0\nover\n", "{said:?}");
}

#[test]
fn what_root_mounts_in_a_pid_namespace_ends_with_the_job() {
    if !is_root_or_skip("mount") {
        return;
    }
    for config in [PID, PID_ALONE] {
        let daemon = with(config)().start();
        let folder = daemon.path_text("folder");
        fs::create_dir(&folder).unwrap();
        let harm = "mount -t tmpfs none \"$1\" && touch \"$1/trace\" && mount --bind /bin/false /bin/true \
                    && umount -l /proc && ls \"$1\"";
        let said = daemon.run(&["run", "--", "sh", "-c", harm, "sh", &folder]);
        assert_eq!((said.code, said.stdout.as_str()), (0, "trace\n"), "{said:?}");

        let look = "/bin/true && test -d /proc/1 && ls \"$1\"";
        let said = daemon.run(&["run", "--", "sh", "-c", look, "sh", &folder]);
        assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{said:?}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nor is it outside");
    }
}

#[test]
fn in_a_pid_namespace_pids_are_told_as_they_are_outside() {
    if !is_root_or_skip("make pid namespaces for certain") {
        return;
    }
    let config = format!("{PID}\n[pool.warm]\nworkers = 1\nisolate = \"pid\"\ncommand = [\"cat\"]\n");
    let daemon = Setup::new().workers(1).config(&config).start();
    let comm = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();

    let long = daemon.submit(&["--", "sleep", "1000"]);
    let pid = daemon.wait_record(long, "its pid is told", |record| record.pid.is_some()).pid.unwrap();
    wait_until("it is that process", || comm(pid) == "sleep\n");
    daemon.ok(&["cancel", &long.to_string()]);
    // Of a short one, too, which has ended before anybody could look.
    let inner = daemon.ok(&["run", "--", "sh", "-c", "echo $$"]);
    let told = daemon.record(long + 1).pid.unwrap();
    assert_ne!(told.to_string(), inner.trim());

    let program = wait_for("a program", || {
        pools(&daemon).into_iter().find(|pool| pool.name == "warm")?.slots[0].program_pid
    });
    assert_eq!(comm(program), "cat\n");
}

#[test]
fn in_pid_namespaces_as_an_ordinary_user() {
    if !is_root_or_skip("become somebody else") {
        return;
    }
    let setup = || with(PID_ALONE)().user(USER + 1);
    let daemon = setup().start();
    let is_up = wait_for("the slot is up, or known not to be", || {
        let slot = pool(&daemon).slots.remove(0);
        if slot.reason.is_some() { Some(false) } else { (slot.state == SlotState::Idle).then_some(true) }
    });
    if !is_up {
        return skip("user namespaces are forbidden here");
    }
    let said = daemon.run(&["submit", "--wait", "--", "id", "-u"]);
    assert_eq!(said.stdout, format!("{}\n", USER + 1));
    let said = daemon.run(&["run", "--", "sh", "-c", &format!("{LOOK} {PLACES}; echo over")]);
    assert_eq!(said.stdout, "over\n", "{said:?}");
    drop(daemon);
    nothing_is_left(setup, Tier::PidNamespace, AtOnce::Gone);
}

#[test]
fn with_neither() {
    nothing_is_left(with(NEITHER), Tier::Subreaper, AtOnce::LeftIfCleared);
}

#[test]
fn with_neither_as_an_ordinary_user() {
    if is_root_or_skip("become somebody else") {
        nothing_is_left(|| with(CGROUP)().user(USER + 2), Tier::Subreaper, AtOnce::LeftIfCleared);
    }
}

// ---- fork bombs ----

#[test]
fn many_that_have_been_forked_twice_end_with_their_job() {
    for config in [CGROUP, PID, NEITHER] {
        if config == PID && !nix::unistd::geteuid().is_root() {
            skip("only root can make pid namespaces for certain");
            continue;
        }
        let (daemon, tag) = (with(config)().start(), tag());
        let script = format!("for i in $(seq 150); do (env -i setsid /bin/sleep {tag} &); done");
        assert_eq!(daemon.run(&["submit", "--wait", "--", "sh", "-c", &script]).code, 0);
        assert_eq!(tagged(&tag), Vec::<i32>::new(), "{config}");
    }
}

#[test]
fn a_fork_bomb_ends_with_its_job() {
    if !is_root_or_skip("become somebody else") {
        return;
    }
    let delegated = own_group().and_then(|_| Delegated::new(USER + 3));
    let enter = delegated.as_ref().map(Delegated::enter).unwrap_or_default();
    let enter: Vec<&str> = enter.iter().map(String::as_str).collect();
    for config in [CGROUP, NEITHER] {
        let daemon = with(config)().user(USER + 3).wrapper(&enter).start();
        let (tag, ready) = (tag(), daemon.path_text("ready"));
        let script = format!(
            "ulimit -u 100; bomb() {{ : {tag}; bomb | bomb & }}; bomb 2>/dev/null; echo >{ready}; while :; do :; done"
        );
        let id = daemon.submit(&["--kill-after", "10ms", "--", "bash", "-c", &script]);
        line_of(ready.as_ref());
        wait_until("it has grown", || tagged(&tag).len() > 20);
        daemon.ok(&["cancel", &id.to_string()]);
        assert_eq!(tagged(&tag), Vec::<i32>::new(), "{config}");
        assert_eq!(daemon.run(&["submit", "--wait", "--", "true"]).code, 0);
    }
}

// ---- what a job sees, and what is left of the groups ----

#[test]
fn attempts_run_in_the_group_of_their_slot_and_the_worker_does_not() {
    if own_group_or_skip().is_none() {
        return;
    }
    let mut daemon = Daemon::start(1);
    let group_of = |pid: i32| {
        let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        membership.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
    };
    for _ in 0..2 {
        let family = Family::start(&daemon, false);
        for pid in family.left() {
            assert!(group_of(pid).ends_with("/pool-default-0"), "{}", group_of(pid));
        }
        assert!(!group_of(family.worker).contains("pool-default-0"));
        daemon.ok(&["cancel", &family.id.to_string()]);
        assert_eq!(family.left(), Vec::<i32>::new());
    }
    let note = fs::read_to_string(daemon.state_dir().join("cgroup")).unwrap();
    let groups = PathBuf::from(note.trim_end());
    assert!(groups.join("pool-default-0").is_dir());
    daemon.ok(&["shutdown"]);
    daemon.wait();
    assert!(!groups.exists());
}

#[test]
fn a_job_that_makes_groups_of_its_own_does_not_spoil_the_slots() {
    if own_group_or_skip().is_none() {
        return;
    }
    let daemon = Daemon::start(1);
    daemon.ok(&["ping"]);
    let note = fs::read_to_string(daemon.state_dir().join("cgroup")).unwrap();
    let slot = PathBuf::from(note.trim_end()).join("pool-default-0");
    let (slot, tag) = (slot.display(), tag());
    let script = format!(
        "mkdir {slot}/inner && echo 0 >{slot}/inner/cgroup.procs && (env -i setsid /bin/sleep {tag} &)"
    );
    assert_eq!(daemon.run(&["submit", "--wait", "--", "sh", "-c", &script]).code, 0);
    assert_eq!(tagged(&tag), Vec::<i32>::new());
    let said = daemon.run(&[
        "submit",
        "--wait",
        "--",
        "sh",
        "-c",
        &format!("ls -d {slot}/*/; grep ^0:: /proc/self/cgroup"),
    ]);
    assert!(said.stdout.trim_end().ends_with("/pool-default-0"), "{said:?}");
    assert!(!said.stdout.contains("inner"), "{said:?}");
}

#[test]
fn in_a_pid_namespace_a_job_sees_its_own_processes_only() {
    if !is_root_or_skip("make pid namespaces for certain") {
        return;
    }
    let daemon = with(PID)().start();
    let said = daemon.run(&[
        "submit",
        "--wait",
        "--",
        "sh",
        "-c",
        "ls /proc | grep -c '^[0-9]'; tr '\\0' ' ' </proc/1/cmdline; echo",
    ]);
    let count: u32 = said.stdout.lines().next().unwrap().parse().unwrap();
    assert!(count <= 4, "{said:?}");
    assert!(said.stdout.lines().nth(1).unwrap().starts_with("poold worker"), "{said:?}");
    // It cannot end its worker.
    let id = daemon.submit_sh("kill -KILL 1; kill -STOP 1; sleep 0.05");
    let record = ended(&daemon, id);
    assert_eq!((record.state, record.attempt), (State::Succeeded, 1), "{record:?}");
}

#[test]
fn where_namespaces_are_forbidden_the_slots_stay_down_and_say_why() {
    if !is_root_or_skip("forbid namespaces") {
        return;
    }
    let forbid = "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all -- \"$@\"";
    let probe = pool_tests::run(
        std::process::Command::new("unshare").args(["-Ur", "sh", "-c", forbid, "sh", "true"]),
    );
    if probe.code != 0 {
        return skip(&format!("they cannot be forbidden here: {probe:?}"));
    }
    let config = "[pool.apart]\nworkers = 1\nisolate = \"pid\"\n";
    let daemon =
        Setup::new().workers(1).config(config).wrapper(&["unshare", "-Ur", "sh", "-c", forbid, "sh"]).start();
    let find = |name: &str| pools(&daemon).into_iter().find(|pool| pool.name == name).unwrap();
    let apart = find("apart");
    assert_eq!((apart.slots[0].state, apart.slots[0].pid), (SlotState::Down, None));
    let reason = apart.slots[0].reason.clone().unwrap();
    assert!(reason.contains("namespace"), "{reason}");
    assert!(daemon.ok(&["pool", "ls"]).contains(&reason));
    assert!(daemon.log().contains(&reason["its worker cannot be started: ".len()..]), "{}", daemon.log());
    assert_eq!(find("default").slots[0].reason, None);
    assert_eq!(daemon.run(&["submit", "--wait", "--", "true"]).code, 0);
}
