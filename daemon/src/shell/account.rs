//! The user that poold runs as, looked up in the user database.

use nix::unistd::{User, geteuid};

use crate::desk::Account;

/// What the user database knows of the user of this process.
pub fn own() -> Account {
    let Some(user) = User::from_uid(geteuid()).ok().flatten() else { return Account::default() };
    Account { name: Some(user.name), home: Some(user.dir.into()), shell: Some(user.shell.into()) }
}
