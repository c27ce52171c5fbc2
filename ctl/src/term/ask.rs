//! Questions to somebody at the terminal.

use std::io::{self, IsTerminal, Write};

/// Whether somebody can be asked.
pub fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks, on stderr. An empty answer is `default`; the end of the input is a no.
pub fn ask(question: &str, default: bool) -> bool {
    let choice = if default { "[Y/n]" } else { "[y/N]" };
    _ = write!(io::stderr(), "{question} {choice} ");
    let mut answer = String::new();
    if !io::stdin().read_line(&mut answer).is_ok_and(|bytes| bytes > 0) {
        _ = writeln!(io::stderr());
        return false;
    }
    match answer.trim_start().chars().next() {
        Some('y' | 'Y') => true,
        Some('n' | 'N') => false,
        Some(_) | None => default,
    }
}
