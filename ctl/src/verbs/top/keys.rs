//! The keys: one table, from which keys are read and the help is written.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    NextTab,
    PreviousTab,
    Tab(usize),
    Open,
    Back,
    Filter,
    Sort,
    Reverse,
    Follow,
    Stream,
    Cancel,
    Hold,
    Retry,
    Edit,
    Pause,
    Mouse,
    Redraw,
    Help,
    Suspend,
    Quit,
}

/// A line of the help: the name of the keys, what they do, and the keys.
pub struct Binding {
    pub name: &'static str,
    pub help: &'static str,
    keys: &'static [(KeyModifiers, KeyCode, Action)],
}

const PLAIN: KeyModifiers = KeyModifiers::NONE;
const CONTROL: KeyModifiers = KeyModifiers::CONTROL;

/// All keys, in the order of the help.
pub const BINDINGS: &[Binding] = &[
    Binding {
        name: "up down, k j",
        help: "select another row; scroll a job's text",
        keys: &[
            (PLAIN, KeyCode::Up, Action::Up),
            (PLAIN, KeyCode::Char('k'), Action::Up),
            (PLAIN, KeyCode::Down, Action::Down),
            (PLAIN, KeyCode::Char('j'), Action::Down),
        ],
    },
    Binding {
        name: "PgUp PgDn, g G",
        help: "a page; the first, the last",
        keys: &[
            (PLAIN, KeyCode::PageUp, Action::PageUp),
            (PLAIN, KeyCode::PageDown, Action::PageDown),
            (PLAIN, KeyCode::Char(' '), Action::PageDown),
            (PLAIN, KeyCode::Home, Action::First),
            (PLAIN, KeyCode::Char('g'), Action::First),
            (PLAIN, KeyCode::End, Action::Last),
            (PLAIN, KeyCode::Char('G'), Action::Last),
        ],
    },
    Binding {
        name: "1 2 3 4, Tab",
        help: "pools, queue, ended, charts; in a job: log, story",
        keys: &[
            (PLAIN, KeyCode::Char('1'), Action::Tab(0)),
            (PLAIN, KeyCode::Char('2'), Action::Tab(1)),
            (PLAIN, KeyCode::Char('3'), Action::Tab(2)),
            (PLAIN, KeyCode::Char('4'), Action::Tab(3)),
            (PLAIN, KeyCode::Tab, Action::NextTab),
            (PLAIN, KeyCode::Right, Action::NextTab),
            (PLAIN, KeyCode::BackTab, Action::PreviousTab),
            (PLAIN, KeyCode::Left, Action::PreviousTab),
        ],
    },
    Binding {
        name: "Enter, l",
        help: "open the job: its log as it comes, and its story",
        keys: &[(PLAIN, KeyCode::Enter, Action::Open), (PLAIN, KeyCode::Char('l'), Action::Open)],
    },
    Binding {
        name: "Esc",
        help: "back; show all rows again",
        keys: &[(PLAIN, KeyCode::Esc, Action::Back), (PLAIN, KeyCode::Backspace, Action::Back)],
    },
    Binding {
        name: "/",
        help: "filter rows by words: id, pool, state, name, @label",
        keys: &[(PLAIN, KeyCode::Char('/'), Action::Filter)],
    },
    Binding {
        name: "s S",
        help: "sort by the next column; turn the order round",
        keys: &[(PLAIN, KeyCode::Char('s'), Action::Sort), (PLAIN, KeyCode::Char('S'), Action::Reverse)],
    },
    Binding {
        name: "f o",
        help: "follow the log's end or not; its other stream",
        keys: &[(PLAIN, KeyCode::Char('f'), Action::Follow), (PLAIN, KeyCode::Char('o'), Action::Stream)],
    },
    Binding {
        name: "p",
        help: "pause or resume a pool, or a running job",
        keys: &[(PLAIN, KeyCode::Char('p'), Action::Pause)],
    },
    Binding {
        name: "h",
        help: "hold a job that has not started, or release it",
        keys: &[(PLAIN, KeyCode::Char('h'), Action::Hold)],
    },
    Binding {
        name: "c",
        help: "cancel a job (asks)",
        keys: &[(PLAIN, KeyCode::Char('c'), Action::Cancel), (PLAIN, KeyCode::Delete, Action::Cancel)],
    },
    Binding {
        name: "r",
        help: "run a job that has ended once more",
        keys: &[(PLAIN, KeyCode::Char('r'), Action::Retry)],
    },
    Binding {
        name: "e",
        help: "edit a job that has not started",
        keys: &[(PLAIN, KeyCode::Char('e'), Action::Edit)],
    },
    Binding {
        name: "m, Ctrl-L",
        help: "leave the mouse to the terminal, or take it; draw anew",
        keys: &[(PLAIN, KeyCode::Char('m'), Action::Mouse), (CONTROL, KeyCode::Char('l'), Action::Redraw)],
    },
    Binding {
        name: "q, Ctrl-C, Ctrl-Z",
        help: "quit; quit; suspend. Jobs go on",
        keys: &[
            (PLAIN, KeyCode::Char('q'), Action::Quit),
            (CONTROL, KeyCode::Char('c'), Action::Quit),
            (CONTROL, KeyCode::Char('z'), Action::Suspend),
        ],
    },
    Binding { name: "?", help: "this help", keys: &[(PLAIN, KeyCode::Char('?'), Action::Help)] },
];

/// What the key is for. A shifted letter comes as another letter.
pub fn action_of(key: KeyEvent) -> Option<Action> {
    let modifiers = key.modifiers & (KeyModifiers::CONTROL | KeyModifiers::ALT);
    let all = BINDINGS.iter().flat_map(|binding| binding.keys);
    all.into_iter()
        .find(|(with, code, _)| (*with, *code) == (modifiers, key.code))
        .map(|(_, _, action)| *action)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_is_for_two_things() {
        let mut seen = HashSet::new();
        for (with, code, _) in BINDINGS.iter().flat_map(|binding| binding.keys) {
            assert!(seen.insert((*with, *code)), "{code:?}");
        }
    }

    #[test]
    fn the_help_fits_80_columns() {
        for Binding { name, help, .. } in BINDINGS {
            assert!(name.len() <= 18 && help.len() <= 56, "{name}: {help}");
        }
    }
}
