//! How a start went, told to who waits for it: `poold --daemonize` returns when poold serves, or with what keeps
//! it from serving.
//!
//! A pipe: one byte, the exit code, and for a failed start its message. A pipe that ends without it says that
//! poold has ended without a word, killed perhaps.

use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::os::fd::OwnedFd;

/// The exit code of a start that went well.
const READY: u8 = 0;

/// The exit code of one that did not: what the guardian ends with.
const FAILED: u8 = 1;

/// The writing end, where somebody waits. What cannot be told is told nobody: who waited has gone.
#[derive(Debug)]
pub struct Readiness(Option<File>);

impl Readiness {
    /// `pipe`: none where nobody waits.
    pub fn new(pipe: Option<OwnedFd>) -> Self {
        Self(pipe.map(File::from))
    }

    /// A second writing end; the first word counts.
    pub fn second(&self) -> Self {
        Self(self.0.as_ref().and_then(|pipe| pipe.try_clone().ok()))
    }

    /// poold serves.
    pub fn ready(self) {
        self.tell(&[READY]);
    }

    /// poold does not serve.
    pub fn failed(self, message: &str) {
        self.tell(&[&[FAILED][..], message.as_bytes()].concat());
    }

    fn tell(self, bytes: &[u8]) {
        if let Some(mut pipe) = self.0 {
            let _ = pipe.write_all(bytes);
        }
    }
}

/// Waits for the word.
///
/// # Errors
/// The message of a start that failed. None where poold has ended without one.
pub fn wait(mut pipe: PipeReader) -> Result<(), Option<String>> {
    let mut code = [0];
    if pipe.read_exact(&mut code).is_err() {
        return Err(None);
    }
    if code == [READY] {
        return Ok(());
    }

    let mut message = Vec::new();
    // As much of it as there is.
    let _ = pipe.read_to_end(&mut message);
    Err(Some(String::from_utf8_lossy(&message).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn who_waits_is_told_how_it_went() {
        let told = |tell: fn(Readiness)| {
            let (reader, writer) = io::pipe().unwrap();
            tell(Readiness::new(Some(writer.into())));
            wait(reader)
        };
        assert!(told(Readiness::ready).is_ok());
        assert_eq!(told(|pipe| pipe.failed("no room")).unwrap_err(), Some("no room".to_owned()));
        assert_eq!(told(drop).unwrap_err(), None);
    }
}
