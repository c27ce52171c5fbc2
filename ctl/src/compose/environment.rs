//! What a job takes over from the caller of poolctl: the directory, the variables and the umask.

use std::collections::BTreeMap;
use std::env;
use std::path::{self, Path};

use anyhow::{Context, bail};
use nix::sys::stat::{Mode, umask};
use pool_proto::location::SUBMIT_DIR_VARIABLE;

use crate::cli::choices::EnvMode;
use crate::cli::{UsageError, utf8};

/// The directory that the user has named, or our current directory.
///
/// # Errors
/// When the path names no directory, or is not UTF-8.
pub fn cwd(named: Option<&Path>) -> anyhow::Result<String> {
    let path = match named {
        Some(path) => {
            let path = path::absolute(path)
                .with_context(|| format!("cannot tell the whole path of {}", path.display()))?;
            if !path.is_dir() {
                bail!(UsageError(format!("{} is no directory: name one with --cwd", path.display())));
            }
            path
        }
        None => env::current_dir()
            .context("your current directory is gone: cd elsewhere, or name one with --cwd")?,
    };

    utf8("directory", path.as_os_str())
}

/// The variables of a job: those of our environment, unless `mode` leaves them out, and those that the user
/// has named.
///
/// # Errors
/// When a named variable does not exist, has no name, or is not UTF-8.
pub fn environment(named: &[String], mode: EnvMode) -> anyhow::Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    if mode == EnvMode::All {
        for (name, value) in env::vars_os() {
            match (name.into_string(), value.into_string()) {
                // Wine makes such names, `=C:` for one. No shell passes them on either.
                (Ok(name), Ok(_)) if name.is_empty() || name.contains('=') => {}
                (Ok(name), Ok(value)) => _ = variables.insert(name, value),
                (Ok(name), Err(_)) => {
                    eprintln!("poolctl: the variable {name} is left out: its value is not UTF-8")
                }
                (Err(name), _) => {
                    eprintln!("poolctl: the variable {} is left out: its name is not UTF-8", name.display())
                }
            }
        }
    }

    if let Some(here) = env::current_dir().ok().and_then(|path| path.into_os_string().into_string().ok()) {
        variables.insert(SUBMIT_DIR_VARIABLE.to_owned(), here);
    }

    for setting in named {
        if setting.is_empty() || setting.starts_with('=') {
            bail!(UsageError(format!("--env {setting:?}: a variable needs a name: write NAME=VALUE")));
        }
        let (name, value) = match setting.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => match env::var_os(setting) {
                Some(value) => (setting.as_str(), utf8("variable", &value)?),
                None => bail!(UsageError(format!(
                    "--env {setting}: there is no such variable; write {setting}=VALUE to set it"
                ))),
            },
        };
        variables.insert(name.to_owned(), value);
    }

    Ok(variables)
}

/// Our umask. It can be read only by setting it. No other thread runs yet that could create a file meanwhile.
pub fn own_umask() -> u32 {
    let own = umask(Mode::empty());
    umask(own);
    own.bits()
}
