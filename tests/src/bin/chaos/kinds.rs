//! What the jobs of the soak do, and how each has to end.

use pool_proto::State;
use pool_proto::interface::OnCrash;

/// See the module's description.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    pub script: &'static str,
    pub timeout_s: Option<f64>,
    /// How it ends where nobody kills or cancels it.
    pub state: State,
    pub on_crash: OnCrash,
}

const PLAIN: Kind = Kind { name: "succeeds", script: "", timeout_s: None, state: State::Succeeded, on_crash: OnCrash::Requeue };

/// Those that are submitted by chance.
pub const KINDS: [Kind; 14] = [
    PLAIN,
    Kind { name: "fails", script: "exit 3", state: State::Failed, ..PLAIN },
    Kind { name: "sleeps", script: "sleep 0.05", ..PLAIN },
    Kind {
        name: "double-forks",
        script: "(setsid sh -c 'trap \"\" TERM INT HUP; sleep 600' >/dev/null 2>&1 &); sleep 0.03",
        ..PLAIN
    },
    Kind { name: "writes much", script: "head -c 1000000 /dev/zero; head -c 300000 /dev/zero >&2", ..PLAIN },
    Kind { name: "writes too much", script: "yes", state: State::Failed, ..PLAIN },
    Kind { name: "closes its stdio", script: "exec >&- 2>&- <&-; sleep 0.03", ..PLAIN },
    Kind {
        name: "ignores TERM",
        script: "trap '' TERM; (trap '' TERM; sleep 600) & sleep 600",
        timeout_s: Some(0.1),
        state: State::TimedOut,
        ..PLAIN
    },
    Kind {
        name: "forks a swarm",
        script: "i=0; while [ $i -lt 30 ]; do (setsid sleep 600 >/dev/null 2>&1 &); i=$((i+1)); done",
        ..PLAIN
    },
    Kind {
        name: "is a fork bomb for a while",
        script: "bomb() { [ $1 -eq 0 ] || { bomb $(($1-1)) & bomb $(($1-1)) & }; exec sleep 600; }
                 (bomb 4 >/dev/null 2>&1) & sleep 0.05",
        ..PLAIN
    },
    Kind { name: "kills itself", script: "kill -9 $$", state: State::Failed, ..PLAIN },
    Kind { name: "stops itself", script: "(sleep 0.05; kill -CONT $$) & kill -STOP $$; wait", ..PLAIN },
    Kind { name: "must not run twice", script: "sleep 0.05", on_crash: OnCrash::Fail, ..PLAIN },
    Kind { name: "is held after a crash", script: "sleep 0.05", on_crash: OnCrash::Hold, ..PLAIN },
];

/// One that is tied to something which ends before it.
pub const CLINGS: Kind = Kind { name: "clings", script: "sleep 600", state: State::Canceled, ..PLAIN };
