//! The user that poold runs as, looked up in the user database.

use std::path::PathBuf;

use nix::unistd::{User, geteuid};

use crate::desk::Account;

/// What the user database knows of the user of this process.
pub fn own() -> Account {
    let Some(user) = User::from_uid(geteuid()).ok().flatten() else { return Account::default() };
    let text = |path: PathBuf| path.into_os_string().into_string().ok();
    Account { name: Some(user.name), home: text(user.dir), shell: text(user.shell) }
}
