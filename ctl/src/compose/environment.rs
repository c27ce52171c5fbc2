//! What a job takes over from the caller of poolctl: the directory, the variables and the umask.

use std::collections::BTreeMap;
use std::env;
use std::path::{self, Path};

use anyhow::{Context, bail};
use nix::sys::stat::{Mode, umask};
use pool_proto::OsText;
use pool_proto::location::SUBMIT_DIR_VARIABLE;

use crate::cli::UsageError;
use crate::cli::choices::EnvMode;

/// The directory that the user has named, or our current directory.
///
/// # Errors
/// When the path names no directory.
pub fn cwd(named: Option<&Path>) -> anyhow::Result<OsText> {
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

    Ok(path.into())
}

/// The variables of a job: those of our environment, unless `mode` leaves them out, and those that the user
/// has named.
///
/// # Errors
/// When a named variable does not exist, or has no name.
pub fn environment(named: &[OsText], mode: EnvMode) -> anyhow::Result<BTreeMap<OsText, OsText>> {
    let mut variables = BTreeMap::new();
    if mode == EnvMode::All {
        let all = env::vars_os().map(|(name, value)| (OsText::from(name), OsText::from(value)));
        // Wine makes names such as `=C:`. No shell passes them on either.
        variables.extend(all.filter(|(name, _)| !name.is_empty() && !name.as_escaped().contains('=')));
    }

    if let Ok(here) = env::current_dir() {
        variables.insert(SUBMIT_DIR_VARIABLE.into(), here.into());
    }

    variables.extend(named_variables(named)?);
    Ok(variables)
}

/// The variables that the user has named, with the values that they have there, or here.
///
/// # Errors
/// As for [`environment`].
pub fn named_variables(named: &[OsText]) -> anyhow::Result<BTreeMap<OsText, OsText>> {
    let mut variables = BTreeMap::new();
    for setting in named {
        let escaped = setting.as_escaped();
        if escaped.is_empty() || escaped.starts_with('=') {
            bail!(UsageError(format!("--env {setting:?}: a variable needs a name: write NAME=VALUE")));
        }
        let part = |text: &str| OsText::from_escaped(text.to_owned());
        let (name, value) = match escaped.split_once('=') {
            Some((name, value)) => (part(name), part(value)),
            None => match env::var_os(setting.to_os_string()) {
                Some(value) => (setting.clone(), value.into()),
                None => bail!(UsageError(format!(
                    "--env {setting}: there is no such variable; write {setting}=VALUE to set it"
                ))),
            },
        };
        variables.insert(name, value);
    }

    Ok(variables)
}

/// Our umask. It can be read only by setting it. No other thread runs yet that could create a file meanwhile.
pub fn own_umask() -> u32 {
    let own = umask(Mode::empty());
    umask(own);
    own.bits()
}
