//! What the system knows of a user. getent(1) is asked, a program of its own: a statically linked poolctl
//! cannot look into the databases of nsswitch.conf(5) itself.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A user, as passwd(5) has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswdEntry {
    /// The login name.
    pub name: OsString,
    /// The home directory.
    pub home: PathBuf,
}

impl PasswdEntry {
    /// None where nobody has that uid. Where there is no getent(1), /etc/passwd alone is looked at.
    pub fn of(uid: u32) -> Option<Self> {
        let mut getent = Command::new("getent");
        getent.arg("passwd").arg(uid.to_string()).stdin(Stdio::null()).stderr(Stdio::null());
        let lines = match getent.output() {
            Ok(said) => said.stdout,
            Err(_) => fs::read("/etc/passwd").ok()?,
        };
        lines.split(|&byte| byte == b'\n').find_map(|line| Self::parse(line, uid))
    }

    fn parse(line: &[u8], uid: u32) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b':');
        let name = fields.next()?;
        let is_it = std::str::from_utf8(fields.nth(1)?).ok()?.parse() == Ok(uid);
        let home = fields.nth(2).filter(|home| is_it && !home.is_empty())?;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some(Self { name: text(name), home: text(home).into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_passwd_has_it() {
        let line = b"ann:x:1000:100:Ann,,,:/home/ann:/bin/sh";
        let ann = PasswdEntry { name: "ann".into(), home: "/home/ann".into() };
        assert_eq!(PasswdEntry::parse(line, 1000), Some(ann));
        for (line, uid) in [(&line[..], 100), (b"", 0), (b"a:x:1", 1), (b"a:x:1:1:::", 1), (b"#a:x:y:", 0)] {
            assert_eq!(PasswdEntry::parse(line, uid), None);
        }
    }

    #[test]
    fn root_is_known_everywhere() {
        assert_eq!(PasswdEntry::of(0).map(|root| root.name), Some("root".into()));
        assert_eq!(PasswdEntry::of(u32::MAX - 7), None);
    }
}
