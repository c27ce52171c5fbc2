//! Submitting one job: what is taken over from the caller, and how its end comes back.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use nix::sys::stat::{Mode, umask};
use pool_proto::interface::{Job, OnDisconnect, Spool, Submit, TIE_TO_CLIENT};
use pool_proto::location::SUBMIT_DIR_VARIABLE;
use pool_proto::{Client, ClientError, Record};

use crate::cli::{self, CommonOptions, EnvMode, JobOptions, SubmitOptions, UsageError};
use crate::connect::{Link, not_known_whether_accepted};
use crate::follow::Follower;
use crate::{bulk, outcome, print};

/// Submits what the command line says.
///
/// # Errors
/// Whatever kept the job from being accepted, or its end from being told.
pub fn run(link: &Link, options: SubmitOptions, as_json: bool) -> anyhow::Result<u8> {
    if let Some(file) = &options.from {
        if options.wait {
            bail!(UsageError(
                "many jobs cannot be waited for as if they were one: submit them, then `poolctl wait` for the ids".to_owned()
            ));
        }
        let defaults = Job { tie: options.tie.clone(), ..job_of(&options.job, Vec::new())? };
        return bulk::run(link, file, defaults, as_json);
    }
    let command = options
        .command
        .iter()
        .map(|argument| utf8("argument", argument))
        .collect::<anyhow::Result<Vec<String>>>()?;
    let mut job = job_of(&options.job, command)?;
    job.tie = options.tie.clone();
    job.key = options.key.clone();
    job.round = options.rerun_failed.then(new_round);
    let mut client = link.connect()?;
    if let Some(path) = &options.stdin {
        job.stdin = Some(spool(&mut client, path)?);
    }
    let is_tied = options.tie.as_deref() == Some(TIE_TO_CLIENT);
    if is_tied && !options.wait {
        bail!(UsageError(
            "--tie client goes with --wait: without it there is no client to be tied to".to_owned()
        ));
    }
    let on_disconnect = match options.on_disconnect {
        cli::OnDisconnect::Detach if !is_tied => OnDisconnect::Detach,
        cli::OnDisconnect::Detach | cli::OnDisconnect::Cancel => OnDisconnect::Cancel,
    };
    if job.key.is_some() && on_disconnect == OnDisconnect::Cancel {
        bail!(UsageError(
            "--key names a job that others may wait for, too: it goes without --tie client and --on-disconnect cancel".to_owned()
        ));
    }
    let submit = Submit { job, on_disconnect: Some(on_disconnect) };
    if options.wait {
        let record = wait(link, client, submit)?;
        if let Some(remark) = outcome::remark(&record) {
            eprintln!("poolctl: {remark}");
        }
        return Ok(outcome::exit_code(&record));
    }
    detach(link, client, &submit, as_json)
}

/// Submits, and prints the id.
///
/// # Errors
/// Whatever kept the job from being accepted.
pub fn detach(link: &Link, mut client: Client, submit: &Submit, as_json: bool) -> anyhow::Result<u8> {
    let accepted = loop {
        match client.call(submit) {
            Err(ClientError::Disconnected(_)) if is_repeatable(submit) => client = link.reconnect()?,
            other => break other.map_err(not_known_whether_accepted)?,
        }
    };
    if as_json {
        let existing = accepted.existing.filter(|_| submit.job.key.is_some());
        let id = serde_json::json!({ "id": accepted.id });
        let with_key = |existing| serde_json::json!({ "id": accepted.id, "existing": existing });
        print::json(&existing.map_or(id, with_key))?;
    } else {
        print::text(&format!("{}\n", accepted.id))?;
    }
    Ok(0)
}

/// It can be sent again when its reply is lost: its key tells poold that it is the same one. A spooled input is gone with its connection.
fn is_repeatable(submit: &Submit) -> bool {
    submit.job.key.is_some() && submit.job.stdin.is_none()
}

/// Submits, and stands in for the job until its end.
///
/// # Errors
/// Whatever kept the job from being accepted, or its end from being told.
pub fn wait(link: &Link, mut client: Client, submit: Submit) -> anyhow::Result<Record> {
    client.send(&submit, true)?;
    let pool = submit.job.pool.clone().filter(|_| submit.job.method.is_some());
    let follower = Follower::in_place(link, client, submit.on_disconnect.unwrap_or_default()).calling(pool);
    let follower = if is_repeatable(&submit) { follower.repeating(submit) } else { follower };
    follower.attend()
}

/// The job, with all that it takes over from the caller.
///
/// # Errors
/// When that is not there, or is no text.
pub fn job_of(options: &JobOptions, argv: Vec<String>) -> anyhow::Result<Job> {
    Ok(Job {
        argv,
        pool: options.pool.clone(),
        cwd: Some(cwd(options.cwd.as_deref())?),
        env: Some(environment(&options.env, options.env_mode)?),
        umask: Some(own_umask()),
        ..common_of(&options.common)
    })
}

/// What a command and a call have in common.
pub fn common_of(options: &CommonOptions) -> Job {
    let some = |commands: &[String]| (!commands.is_empty()).then(|| commands.to_vec());
    Job {
        name: options.name.clone(),
        timeout_s: options.timeout.map(|timeout| timeout.as_secs_f64()),
        kill_after_s: options.kill_after.map(|grace| grace.as_secs_f64()),
        on_crash: Some(options.on_crash.into()),
        priority: options.priority,
        retries: options.retries,
        backoff_s: options.backoff.map(|backoff| backoff.as_secs_f64()),
        on_done: some(&options.on_done),
        on_success: some(&options.on_success),
        on_failure: some(&options.on_failure),
        ..Job::default()
    }
}

/// A round of submitting that nobody else is in.
pub fn new_round() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// # Errors
/// When it is no directory, or its path no text.
pub fn cwd(named: Option<&Path>) -> anyhow::Result<String> {
    let path = match named {
        Some(path) => {
            let path = std::path::absolute(path)
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

/// # Errors
/// When a variable that is named is not there, or is no text.
pub fn environment(named: &[String], mode: EnvMode) -> anyhow::Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    if mode == EnvMode::All {
        for (name, value) in env::vars_os() {
            match (name.into_string(), value.into_string()) {
                // Such as Wine makes, `=C:`; no shell passes them on either.
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

/// There is no way to read it without setting it; nothing else runs yet.
pub fn own_umask() -> u32 {
    let own = umask(Mode::empty());
    umask(own);
    own.bits()
}

/// # Errors
/// When it is not UTF-8, with what to do.
pub fn utf8(what: &str, text: &std::ffi::OsStr) -> anyhow::Result<String> {
    OsString::from(text).into_string().map_err(|text| {
        let message = format!(
            "the {what} {} is not UTF-8, which is all that poold carries: pass it through a file or --stdin",
            text.display()
        );
        UsageError(message).into()
    })
}

/// Hands the job's standard input to poold, which keeps it until the job has run; returns its token.
fn spool(client: &mut Client, path: &Path) -> anyhow::Result<String> {
    let is_ours = path == Path::new("-");
    let source = if is_ours {
        None
    } else {
        Some(File::open(path).with_context(|| format!("cannot read {}", path.display()))?)
    };
    let spooled = client.call(&Spool {})?;
    let mut target = File::from(client.take_descriptor()?);
    let copied = match source {
        Some(mut file) => io::copy(&mut file, &mut target),
        None => io::copy(&mut io::stdin().lock(), &mut target),
    };
    copied
        .and_then(|_| target.sync_data())
        .with_context(|| format!("cannot hand over the standard input from {}", path.display()))?;
    Ok(spooled.token)
}
