//! What the jobs of the soak do, and how each has to end.

use pool_proto::nouns::OnCrash;
use pool_proto::{Json, State};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

/// See the module's description.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    pub work: Work,
    pub timeout_s: Option<f64>,
    pub deadline_s: Option<f64>,
    /// It is canceled where it has not begun by then.
    pub start_within_s: Option<f64>,
    pub idle_timeout_s: Option<f64>,
    /// How it ends where nobody kills or cancels it.
    pub state: State,
    pub on_crash: OnCrash,
    pub retries: u32,
    pub rule: Option<Rule>,
    /// A call's parameter.
    pub number: u64,
}

/// Which exit codes are tried again.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    Only(&'static str),
    But(&'static str),
}

/// What is done between the lines that are written down.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    Script(&'static str),
    /// A method of the soak's own program, `program.py`.
    Call(&'static str),
}

const PLAIN: Kind = Kind {
    name: "succeeds",
    work: Work::Script(""),
    timeout_s: None,
    deadline_s: None,
    start_within_s: None,
    idle_timeout_s: None,
    state: State::Succeeded,
    on_crash: OnCrash::Requeue,
    retries: 0,
    rule: None,
    number: 0,
};

/// Those that are submitted by chance, commands and calls in equal parts.
pub fn any(random: &mut StdRng) -> Kind {
    let kinds = if random.random_bool(0.5) { &COMMANDS[..] } else { &CALLS[..] };
    Kind { number: random.random_range(0..1 << 20), ..*kinds.choose(random).expect("there are some") }
}

/// Those that may be kept in memory alone, where nothing can be held.
pub fn any_volatile(random: &mut StdRng) -> Kind {
    std::iter::repeat_with(|| any(random))
        .find(|kind| kind.is_call() && kind.on_crash != OnCrash::Hold)
        .expect("there are some")
}

const COMMANDS: [Kind; 24] = [
    PLAIN,
    Kind { name: "fails", work: Work::Script("exit 3"), state: State::Failed, ..PLAIN },
    Kind { name: "sleeps", work: Work::Script("sleep 0.05"), ..PLAIN },
    Kind {
        name: "double-forks",
        work: Work::Script(
            "(setsid sh -c 'trap \"\" TERM INT HUP; sleep 600' >/dev/null 2>&1 &); sleep 0.03",
        ),
        ..PLAIN
    },
    Kind {
        name: "writes much",
        work: Work::Script("head -c 1000000 /dev/zero; head -c 300000 /dev/zero >&2"),
        ..PLAIN
    },
    Kind {
        name: "writes too much",
        // Once more where the disk is full.
        work: Work::Script("while :; do yes; sleep 0.05; done"),
        state: State::Failed,
        ..PLAIN
    },
    Kind { name: "closes its stdio", work: Work::Script("exec >&- 2>&- <&-; sleep 0.03"), ..PLAIN },
    Kind {
        name: "ignores TERM",
        work: Work::Script("trap '' TERM; (trap '' TERM; sleep 600) & sleep 600"),
        timeout_s: Some(0.1),
        state: State::TimedOut,
        ..PLAIN
    },
    Kind {
        name: "forks a swarm",
        work: Work::Script(
            "i=0; while [ $i -lt 30 ]; do (setsid sleep 600 >/dev/null 2>&1 &); i=$((i+1)); done",
        ),
        ..PLAIN
    },
    Kind {
        name: "is a fork bomb for a while",
        work: Work::Script(
            "bomb() { [ $1 -eq 0 ] || { bomb $(($1-1)) & bomb $(($1-1)) & }; exec sleep 600; }
                 (bomb 4 >/dev/null 2>&1) & sleep 0.05",
        ),
        ..PLAIN
    },
    Kind { name: "kills itself", work: Work::Script("kill -9 $$"), state: State::Failed, ..PLAIN },
    Kind {
        name: "stops itself",
        work: Work::Script("(sleep 0.05; kill -CONT $$) & kill -STOP $$; wait"),
        ..PLAIN
    },
    Kind { name: "fails once", work: Work::Script("[ $POOL_ATTEMPT -gt 1 ] || exit 3"), retries: 1, ..PLAIN },
    Kind {
        name: "fails three times",
        work: Work::Script("exit 3"),
        state: State::Failed,
        retries: 2,
        ..PLAIN
    },
    Kind { name: "must not run twice", work: Work::Script("sleep 0.05"), on_crash: OnCrash::Fail, ..PLAIN },
    Kind {
        name: "is held after a crash",
        work: Work::Script("sleep 0.05"),
        on_crash: OnCrash::Hold,
        ..PLAIN
    },
    Kind {
        name: "outlives its deadline",
        work: Work::Script("sleep 600"),
        deadline_s: Some(0.5),
        state: State::TimedOut,
        retries: 1,
        ..PLAIN
    },
    Kind {
        name: "ends long before its deadline",
        work: Work::Script("sleep 0.05; [ $POOL_ATTEMPT -gt 1 ] || exit 3"),
        deadline_s: Some(1000.0 * 3600.0),
        retries: 1,
        ..PLAIN
    },
    Kind {
        name: "fails with a code that is tried again",
        work: Work::Script("exit 75"),
        state: State::Failed,
        retries: 2,
        rule: Some(Rule::Only("75,100-110")),
        ..PLAIN
    },
    Kind {
        name: "fails with a code that is not tried again",
        work: Work::Script("exit 3"),
        state: State::Failed,
        retries: 2,
        rule: Some(Rule::Only("75,100-110")),
        ..PLAIN
    },
    Kind {
        name: "fails with a code that is not left out",
        work: Work::Script("exit 3"),
        state: State::Failed,
        retries: 1,
        rule: Some(Rule::But("70-80")),
        ..PLAIN
    },
    Kind { name: "is to begin soon", work: Work::Script("sleep 0.02"), start_within_s: Some(0.5), ..PLAIN },
    Kind { name: "begins in time", start_within_s: Some(1000.0 * 3600.0), ..PLAIN },
    Kind {
        name: "does nothing",
        work: Work::Script("exec sleep 600"),
        idle_timeout_s: Some(0.3),
        state: State::TimedOut,
        ..PLAIN
    },
];

/// Those that end alike in each round, and may run as often as they like.
pub fn any_repeatable(random: &mut StdRng) -> Kind {
    *[COMMANDS[0], COMMANDS[1], COMMANDS[2], COMMANDS[13]].choose(random).expect("there are some")
}

const CALL: Kind = Kind { name: "squares", work: Work::Call("square"), ..PLAIN };

const CALLS: [Kind; 15] = [
    CALL,
    CALL,
    Kind { name: "squares slowly", work: Work::Call("slow"), ..CALL },
    Kind { name: "returns an error", work: Work::Call("fail"), state: State::Failed, ..CALL },
    Kind { name: "returns an error once", work: Work::Call("fail_once"), retries: 1, ..CALL },
    Kind { name: "returns three errors", work: Work::Call("fail"), state: State::Failed, retries: 2, ..CALL },
    Kind { name: "crashes its program once", work: Work::Call("crash_once"), ..CALL },
    Kind {
        name: "crashes its program, and is not to be repeated",
        work: Work::Call("crash"),
        state: State::Failed,
        on_crash: OnCrash::Fail,
        ..CALL
    },
    Kind {
        name: "crashes its program and is held",
        work: Work::Call("crash_once"),
        on_crash: OnCrash::Hold,
        ..CALL
    },
    Kind { name: "must not be called twice", work: Work::Call("slow"), on_crash: OnCrash::Fail, ..CALL },
    Kind { name: "hangs", work: Work::Call("hang"), timeout_s: Some(0.1), state: State::TimedOut, ..CALL },
    Kind {
        name: "hangs until its deadline",
        work: Work::Call("hang"),
        deadline_s: Some(0.5),
        state: State::TimedOut,
        ..CALL
    },
    Kind {
        name: "breeds, and hangs",
        work: Work::Call("breed"),
        timeout_s: Some(0.2),
        state: State::TimedOut,
        ..CALL
    },
    Kind { name: "babbles", work: Work::Call("babble"), state: State::Failed, ..CALL },
    Kind { name: "answers twice", work: Work::Call("repeat"), ..CALL },
];

impl Kind {
    pub fn is_call(&self) -> bool {
        matches!(self.work, Work::Call(_))
    }

    /// How often a job is tried again whose last attempt has ended with a code of its own, or was killed by
    /// us where `was_killed`: at least, and at most.
    pub fn retried(&self, was_killed: bool) -> (u32, u32) {
        match (self.rule, was_killed) {
            // The code of one that was killed is 137.
            (Some(Rule::Only(_)), true) => (0, self.retries),
            (Some(Rule::Only(_)), false) if matches!(self.work, Work::Script("exit 3")) => (0, 0),
            _ => (self.retries, self.retries),
        }
    }

    /// What a call has to have returned, its value or its error's code and message, when it has ended as its
    /// kind does.
    pub fn is_right(&self, value: Option<&Json>, error: Option<&Json>) -> bool {
        let read = |json: Option<&Json>| json.map(|json| serde_json::from_str(json.get()).expect("JSON"));
        let (value, error): (Option<Value>, Option<Value>) = (read(value), read(error));
        match (self.work, self.state) {
            (Work::Call(_), State::Succeeded) => {
                value == Some(json!(self.number * self.number)) && error.is_none()
            }
            (Work::Call("fail"), State::Failed) => {
                error == Some(json!({ "code": 1, "message": self.number.to_string() }))
            }
            (Work::Call("babble"), State::Failed) => {
                value.is_none()
                    && error.is_some_and(|error| {
                        error["message"].as_str().is_some_and(|text| text.contains("this is no answer"))
                    })
            }
            (Work::Script(_) | Work::Call(_), _) => value.is_none() && error.is_none(),
        }
    }
}

/// One that is tied to something which ends before it.
pub const CLINGS: Kind =
    Kind { name: "clings", work: Work::Script("sleep 600"), state: State::Canceled, ..PLAIN };

/// Those of a name that all clients share: whoever gets the id of another one knows what it does.
pub const SHARES: Kind = Kind { name: "shares its name", work: Work::Script("sleep 0.02"), ..PLAIN };
