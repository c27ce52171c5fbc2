//! The topics of `poolctl help`. Each is a file of `ctl/docs/`, which is a manual page, too: that file is the
//! only place where its facts are told.

use super::page::{Block, parse};

/// See the module's description.
pub struct Topic {
    /// The name: `poolctl help NAME`, poolctl-NAME(7), `ctl/docs/NAME.md`.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

macro_rules! topics {
    ($($name:literal),* $(,)?) => {
        /// All topics, in the order in which a new user may want them.
        pub const TOPICS: &[Topic] = &[
            $(Topic { name: $name, text: include_str!(concat!("../../docs/", $name, ".md")) },)*
        ];
    };
}

topics![
    "agents",
    "submitting",
    "once",
    "waiting-for",
    "retry",
    "edit",
    "limits",
    "labels",
    "arrays",
    "pools",
    "slots",
    "resources",
    "schedules",
    "callbacks",
    "map",
    "warm-pools",
    "input",
    "signals",
    "listing",
    "selectors",
    "time",
    "exit-codes",
    "environment",
    "files",
    "containment",
    "top",
    "trouble",
    "protocol",
];

impl Topic {
    /// The topic of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TOPICS.iter().find(|topic| topic.name == name)
    }

    /// What it is about, in one line.
    pub fn title(&self) -> String {
        let first = self.text.lines().next().unwrap_or_default();
        first.split_once(": ").map_or(first, |(_, title)| title).to_owned()
    }

    /// The text below the title.
    pub fn blocks(&self) -> Vec<Block> {
        let below = self.text.split_once('\n').map_or("", |(_, below)| below);
        parse(below)
    }
}
