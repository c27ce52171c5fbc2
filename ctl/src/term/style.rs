//! Colours of what is printed: by what a text says, and only where a terminal shows them. `--color` decides,
//! then NO_COLOR and TERM (<https://no-color.org>).

use std::borrow::Cow;
use std::env;
use std::sync::atomic::{AtomicU8, Ordering};

use clap::ValueEnum;

use super::stream::Stream;

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb
    #[default]
    Auto,
    /// Also in a pipe or a file
    Always,
    /// Nowhere
    Never,
}

/// What `--color` says. It is kept here, since each printed word would have to be given it otherwise.
static CHOICE: AtomicU8 = AtomicU8::new(ColorChoice::Auto as u8);

/// Sets what `--color` says.
pub fn choose(choice: ColorChoice) {
    CHOICE.store(choice as u8, Ordering::Relaxed);
}

/// Whether colours go to this stream. It looks at the stream and the environment, so ask once a view.
pub fn has_color(stream: Stream) -> bool {
    match CHOICE.load(Ordering::Relaxed) {
        choice if choice == ColorChoice::Always as u8 => true,
        choice if choice == ColorChoice::Never as u8 => false,
        _ => {
            let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
            let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
            !is_set("NO_COLOR") && !is_dumb && stream.is_terminal()
        }
    }
}

/// What a text says, which is what its colour shows. The colours are the first eight, which every terminal
/// and every theme has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    Plain,
    /// It is at work.
    Running,
    /// It waits for its turn.
    Waiting,
    /// It waits for a person, or somebody should look at it.
    Attention,
    /// It has ended well.
    Good,
    /// It has failed.
    Bad,
    /// It matters less.
    Faint,
    /// A heading.
    Heading,
}

impl Tone {
    /// The parameters of the escape sequence SGR (ECMA-48).
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Running => "36",
            Self::Waiting => "34",
            Self::Attention => "33",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Faint => "2",
            Self::Heading => "1",
        }
    }

    /// The text in its colour, if `has_color`.
    pub fn paint(self, text: &str, has_color: bool) -> Cow<'_, str> {
        match self.code() {
            "" => Cow::Borrowed(text),
            _ if !has_color || text.is_empty() => Cow::Borrowed(text),
            code => Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_color_stays_as_it_is() {
        assert_eq!(Tone::Bad.paint("x", false), "x");
        assert_eq!(Tone::Plain.paint("x", true), "x");
        assert_eq!(Tone::Bad.paint("", true), "");
        assert_eq!(Tone::Bad.paint("x", true), "\x1b[31mx\x1b[0m");
    }
}
