//! Signals on a command line: by name, with or without SIG, or by number.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use nix::libc;
use nix::sys::signal::Signal;

/// A signal. The realtime signals are among them, which have no names of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalNumber(pub i32);

/// The realtime signals that are free for programs.
fn realtime() -> RangeInclusive<i32> {
    libc::SIGRTMIN()..=libc::SIGRTMAX()
}

impl FromStr for SignalNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = match name.parse::<i32>() {
            // SIG10 is none.
            Ok(number) => {
                (name.len() == upper.len() && (1..=libc::SIGRTMAX()).contains(&number)).then_some(number)
            }
            Err(_) => named(name),
        };
        number.map(Self).ok_or_else(|| {
            format!(
                "{text:?} is no signal: write a name such as USR1, or a number from 1 to {}",
                libc::SIGRTMAX()
            )
        })
    }
}

/// The number of a signal by its name without SIG.
fn named(name: &str) -> Option<i32> {
    let other_name = match name {
        "POLL" => "IO",
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        name => name,
    };
    if let Ok(signal) = format!("SIG{other_name}").parse::<Signal>() {
        return Some(signal as i32);
    }
    let (min, max) = realtime().into_inner();
    let beyond = |rest: &str, sign: char| match rest.strip_prefix(sign) {
        Some(number) => number.parse::<u8>().ok().map(i32::from),
        None => rest.is_empty().then_some(0),
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => min + beyond(rest, '+')?,
        (_, Some(rest)) => max - beyond(rest, '-')?,
        (None, None) => return None,
    };
    realtime().contains(&number).then_some(number)
}

impl fmt::Display for SignalNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Signal::try_from(self.0) {
            Ok(signal) => formatter.write_str(signal.as_str()),
            Err(_) => write!(formatter, "signal {}", self.0),
        }
    }
}

/// The names of all signals that have one, without SIG.
pub fn names() -> impl Iterator<Item = &'static str> {
    Signal::iterator().map(|signal| signal.as_str().trim_start_matches("SIG"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_name_or_a_number() {
        let number = |text: &str| text.parse::<SignalNumber>().map(|signal| signal.0).ok();
        for (text, wanted) in [
            ("USR1", Some(libc::SIGUSR1)),
            ("SIGUSR1", Some(libc::SIGUSR1)),
            ("sighup", Some(libc::SIGHUP)),
            ("Term", Some(libc::SIGTERM)),
            ("POLL", Some(libc::SIGIO)),
            ("9", Some(9)),
            ("64", Some(64)),
            ("RTMIN", Some(libc::SIGRTMIN())),
            ("SIGRTMIN+3", Some(libc::SIGRTMIN() + 3)),
            ("RTMAX-1", Some(libc::SIGRTMAX() - 1)),
            ("RTMIN+99", None),
            ("RTMIN-1", None),
            ("RTMINX", None),
            ("0", None),
            ("65", None),
            ("-9", None),
            ("SIG9", None),
            ("SIG", None),
            ("", None),
            ("NONE", None),
        ] {
            assert_eq!(number(text), wanted, "{text:?}");
        }
        assert!(names().all(|name| number(name).is_some()));
        assert_eq!(SignalNumber(libc::SIGUSR1).to_string(), "SIGUSR1");
        assert_eq!(SignalNumber(40).to_string(), "signal 40");
    }
}
