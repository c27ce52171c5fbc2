//! The units under a real systemd, booted in namespaces of its own by a script that takes `start|run|stop DIR
//! [COMMAND...]`: the one that POOL_TEST_SYSTEMD names, or else the one that lies beside this checkout.
//! Skipped, loudly, where that cannot be done.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pool_tests::{Said, poolctl, poold, run, skip, wait_until};
use serde_json::Value;

/// A booted systemd with the units installed.
struct Box {
    script: PathBuf,
    dir: PathBuf,
}

impl Box {
    fn boot() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let script = std::env::var_os("POOL_TEST_SYSTEMD").map(PathBuf::from);
        let script = script.unwrap_or_else(|| root.join("../shared/tools/systemd-box"));
        if !nix::unistd::geteuid().is_root()
            || !script.exists()
            || !Path::new("/lib/systemd/systemd").exists()
        {
            skip(&format!(
                "a systemd to test with needs root, systemd, and a script that boots it ({})",
                script.display()
            ));
            return None;
        }
        let dir = PathBuf::from(format!("/dev/shm/poold-box-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let this = Self { script, dir };
        let booted = run(Command::new(&this.script).arg("start").arg(&this.dir));
        if booted.code != 0 {
            skip(&format!("systemd does not boot here: {booted:?}"));
            return None;
        }
        this.sh(&format!("cp {} {} /usr/bin/", poold().display(), poolctl().display()));
        let units = root.join("systemd").canonicalize().unwrap();
        this.sh(&format!(
            "rm -rf /var/lib/poold /etc/poold; cp {0}/poold.service {0}/poold.socket /etc/systemd/system/ && systemctl \
             daemon-reload",
            units.display()
        ));
        Some(this)
    }

    fn run(&self, script: &str) -> Said {
        run(Command::new(&self.script).arg("run").arg(&self.dir).args(["sh", "-c", script]))
    }

    /// Runs a shell command, which is to succeed; its stdout.
    fn sh(&self, script: &str) -> String {
        let said = self.run(script);
        let journal =
            || self.run("systemctl status poold.service poold.socket; journalctl --no-pager -n 50").stdout;
        assert_eq!(said.code, 0, "{script}: {said:?}\n{}", journal());
        said.stdout.trim_end().to_owned()
    }

    fn show(&self, property: &str) -> String {
        self.sh(&format!("systemctl show poold.service --property {property} --value"))
    }

    fn record(&self, id: &str) -> Value {
        serde_json::from_str(&self.sh(&format!("poolctl show {id} --json"))).unwrap()
    }

    /// Processes in the box that are poold's or a job's.
    fn processes(&self) -> String {
        self.run("ps -C poold,sleep -o args=").stdout
    }
}

impl Drop for Box {
    fn drop(&mut self) {
        run(Command::new(&self.script).arg("stop").arg(&self.dir));
    }
}

#[test]
fn the_units_work_under_systemd() {
    let Some(systemd) = Box::boot() else { return };

    // The first client starts the service, and is served.
    systemd.sh("systemctl start poold.socket");
    assert_eq!(systemd.show("ActiveState"), "inactive");
    let said = systemd.run("poolctl submit --wait -- sh -c 'echo out; echo err >&2; exit 3'");
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (3, "out\n", "err\n"));
    assert_eq!((systemd.show("ActiveState"), systemd.show("SubState")), ("active".into(), "running".into()));
    assert!(systemd.show("StatusText").starts_with("Serving"), "{}", systemd.show("StatusText"));
    assert_eq!(systemd.sh("stat -c %a /run/poold/poold.sock /var/lib/poold"), "600\n700");

    // A restart keeps the queue and repeats what it interrupted.
    let blocker = "[ $POOL_ATTEMPT -gt 1 ] || exec sleep 600";
    let workers = systemd.sh("nproc").parse::<usize>().unwrap();
    systemd.sh(&format!("for i in $(seq {workers}); do poolctl submit -- sh -c '{blocker}'; done"));
    systemd.sh("for i in $(seq 20); do poolctl submit -- sh -c 'echo $POOL_JOB_ID >>/var/tmp/ran'; done");
    let first = 2.to_string();
    wait_until("the first one runs", || systemd.record(&first)["state"] == "running");
    let main_pid = systemd.show("MainPID");
    systemd.sh("systemctl restart poold.service");
    assert_ne!(systemd.show("MainPID"), main_pid);
    systemd.sh(&format!("poolctl wait 2-{}", workers + 21));
    assert_eq!(systemd.sh("sort /var/tmp/ran | uniq -c | awk '$1 == 1' | wc -l"), "20");
    let record = systemd.record(&first);
    assert_eq!((&record["attempt"], &record["crashes"]), (&2.into(), &0.into()));

    // A reload is one.
    systemd.sh("mkdir -p /etc/poold && printf '[pool.extra]\\nworkers = 1\\n' >/etc/poold/config.toml");
    systemd.sh("systemctl reload poold.service");
    wait_until("the new pool is there", || systemd.sh("poolctl pool ls").contains("extra"));

    // The main process is killed: systemd starts it anew, and the queue goes on.
    let id = systemd.sh(&format!("poolctl submit -- sh -c '{blocker}'"));
    wait_until("it runs", || systemd.record(&id)["state"] == "running");
    systemd.sh("systemctl kill --kill-whom=main --signal=KILL poold.service");
    systemd.sh(&format!("poolctl wait {id}"));
    assert_eq!(systemd.record(&id)["crashes"], 1);
    assert_eq!(systemd.show("NRestarts"), "1");

    // Jobs run in control groups below the unit's, and when all of poold is killed in one instant nothing
    // stays.
    let pools: Value = serde_json::from_str(&systemd.sh("poolctl pool ls --json")).unwrap();
    assert_eq!(pools["pools"][0]["containment"], "cgroup", "{pools}");
    let script = "[ $POOL_ATTEMPT -gt 1 ] || { (env -i setsid /bin/sleep 777 >/dev/null 2>&1 &); exec /bin/sleep 777; }";
    let id = systemd.sh(&format!("poolctl submit -- sh -c '{script}'"));
    wait_until("both sleep", || systemd.run("pgrep -cx -f '/bin/sleep 777'").stdout == "2\n");
    let pid = systemd.record(&id)["pid"].clone();
    let group = systemd.sh(&format!("sed -n s/^0:://p /proc/{pid}/cgroup"));
    assert!(group.contains("/poold.service/poold-") && group.contains("/pool-default-"), "{group}");
    // systemd may have killed the others when the first one is dead.
    systemd.sh("ours=$(pgrep -f '^(/usr/bin/)?poold'); kill -STOP $ours; kill -KILL $ours || true");
    systemd.sh(&format!("poolctl wait {id}"));
    assert_eq!(systemd.run("pgrep -x -f '/bin/sleep 777'").stdout, "");

    // A supervisor that hangs is noticed.
    systemd.sh("mkdir -p /run/systemd/system/poold.service.d");
    systemd.sh("printf '[Service]\\nWatchdogSec=1s\\n' >/run/systemd/system/poold.service.d/watchdog.conf");
    systemd.sh("systemctl daemon-reload && systemctl restart poold.service");
    let before = systemd.show("MainPID");
    systemd.sh(&format!("kill -STOP $(pgrep --parent {before})"));
    wait_until("it has been replaced", || !["0", &before].contains(&systemd.show("MainPID").as_str()));
    assert_eq!(systemd.run("poolctl submit --wait -- sh -c 'exit 4'").code, 4);

    // A stop leaves nothing, whatever the jobs do.
    let id = systemd
        .sh("poolctl submit --kill-after 1s -- sh -c \"trap '' TERM; (setsid sleep 600 &); sleep 600\"");
    wait_until("it runs", || systemd.record(&id)["state"] == "running");
    systemd.sh("systemctl stop poold.service poold.socket");
    assert_eq!(systemd.show("Result"), "success");
    assert_eq!(systemd.processes(), "");
}
