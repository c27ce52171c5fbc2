//! The user that poold runs as, looked up in the user database, and what processes get from poold.

use nix::unistd::{User, geteuid};

use pool_proto::own_limits::own_limits;

use crate::desk::Account;

/// What the user database knows of the user of this process. `nofile`: the soft limit of open files that jobs
/// get: poold has raised its own.
pub fn own(nofile: u64) -> Account {
    let mut limits = own_limits();
    let open_files = limits.resources.as_mut().and_then(|resources| resources.get_mut("nofile"));
    open_files.into_iter().for_each(|limit| limit.soft = i64::try_from(nofile).is_ok().then_some(nofile));

    let Some(user) = User::from_uid(geteuid()).ok().flatten() else {
        return Account { limits, ..Account::default() };
    };
    Account { limits, name: Some(user.name), home: Some(user.dir.into()), shell: Some(user.shell.into()) }
}
