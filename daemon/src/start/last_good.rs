//! The configuration that a supervisor begins with: that of the file, or the last good one, where the file
//! has become a bad one since.
//!
//! The text of a configuration that is in force goes to the guardian, in a file in memory over the lifeline
//! ([`hand_on`]), and from there to the next supervisor. So a mistake in the file ends poold neither at
//! SIGHUP nor later, when the supervisor dies.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Context;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::config::Config;
use super::handover;

/// A configuration to begin with.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// What is to be handed on; none where the guardian has it.
    pub text: Option<String>,
    /// What is wrong with the file, where this is the last good configuration.
    pub fault: Option<String>,
}

/// Reads the file, and where that fails the last good configuration. Without a `path` there are the defaults.
///
/// # Errors
/// What is wrong with the file, where there is no last good one.
pub fn load(path: Option<&Path>, optional: bool, last_good: Option<OwnedFd>) -> anyhow::Result<Loaded> {
    let Some(path) = path else {
        return Ok(Loaded { config: Config::default(), text: None, fault: None });
    };
    let error = match Config::read(path, optional) {
        Ok((config, text)) => return Ok(Loaded { config, text: Some(text), fault: None }),
        Err(error) => error,
    };
    let Some(last_good) = last_good else { return Err(error) };
    let text = read(last_good).context("cannot read the last good configuration")?;
    let config = Config::parse(&text).context("in the last good configuration")?;
    Ok(Loaded { config, text: None, fault: Some(format!("{error:#}")) })
}

/// Gives the guardian the text of the configuration in force.
///
/// # Errors
/// Those of memfd_create(2), write(2) and sendmsg(2).
pub fn hand_on(lifeline: &OwnedFd, text: &str) -> io::Result<()> {
    let mut file = File::from(memfd_create(c"poold-config", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    handover::send_config(lifeline, &file.into())
}

/// Every supervisor reads it from its beginning: they share the offset.
fn read(file: OwnedFd) -> io::Result<String> {
    let file = File::from(file);
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_bad_file_gives_way_to_the_last_good_configuration_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "max_queued = 7\n").unwrap();
        let first = load(Some(&path), false, None).unwrap();
        assert_eq!((first.config.max_queued, first.fault), (7, None));

        let (guardian, supervisor) = handover::lifeline().unwrap();
        hand_on(&supervisor, "max_queued = 6\n").unwrap();
        hand_on(&supervisor, &first.text.unwrap()).unwrap();
        drop(supervisor);
        let kept = handover::last_config(&guardian).expect("what a dead supervisor has sent is there");

        for text in ["max_quwued = 8\n", "max_queued = \"many\"\n"] {
            fs::write(&path, text).unwrap();
            assert!(load(Some(&path), false, None).is_err());
            let next = load(Some(&path), false, Some(kept.try_clone().unwrap())).unwrap();
            assert_eq!((next.config.max_queued, next.text), (7, None));
            assert!(next.fault.unwrap().contains("config.toml"));
        }
        fs::remove_file(&path).unwrap();
        assert!(load(Some(&path), false, Some(kept.try_clone().unwrap())).unwrap().fault.is_some());
        let optional = load(Some(&path), true, Some(kept)).unwrap();
        assert_eq!(
            (optional.text.as_deref(), optional.fault),
            (Some(""), None),
            "a file that may be missing"
        );
    }
}
