//! The verbs in the order of `poolctl --help`: by what people want to do.

/// Verbs that belong together.
pub struct Group {
    /// The heading.
    pub title: &'static str,
    /// Their names.
    pub verbs: &'static [&'static str],
}

/// All groups, in order. A test holds that every verb is in exactly one of them.
pub const GROUPS: &[Group] = &[
    Group { title: "Submit jobs", verbs: &["submit", "run", "map", "call", "schedule"] },
    Group {
        title: "See jobs",
        verbs: &["ls", "show", "logs", "wait", "why", "deps", "events", "stats", "plot", "top"],
    },
    Group {
        title: "Change jobs",
        verbs: &[
            "cancel", "retry", "edit", "move", "hold", "release", "pause", "resume", "signal", "send",
            "attach", "rm", "prune",
        ],
    },
    Group { title: "Pools, limits, callbacks", verbs: &["pool", "limit", "callbacks"] },
    Group { title: "The daemon", verbs: &["doctor", "config", "ping", "backup", "shutdown"] },
    Group { title: "Help", verbs: &["help", "completions", "man", "schema"] },
];
