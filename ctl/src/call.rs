//! Calls to the resident program of a warm pool.

use anyhow::bail;
use pool_proto::interface::{Job, OnDisconnect, Submit, TIE_TO_CLIENT};
use pool_proto::{Json, Record};

use crate::cli::{CallOptions, UsageError};
use crate::connect::Link;
use crate::list::printable;
use crate::submit::{common_of, cwd, detach, environment, new_round, own_umask, wait};
use crate::{cli, outcome, print};

/// Calls, and prints the value, or with `--async` the id.
///
/// # Errors
/// Whatever kept the call from being accepted, or its end from being told.
pub fn run(link: &Link, options: &CallOptions, as_json: bool) -> anyhow::Result<u8> {
    let is_tied = options.tie.as_deref() == Some(TIE_TO_CLIENT);
    if is_tied && options.detach {
        bail!(UsageError(
            "--tie client goes without --async: with it there is no client to be tied to".to_owned()
        ));
    }
    let on_disconnect = if is_tied { OnDisconnect::Cancel } else { OnDisconnect::Detach };
    let submit = Submit { job: job_of(options)?, on_disconnect: Some(on_disconnect) };
    let client = link.connect()?;
    if options.detach {
        return detach(link, client, &submit, as_json);
    }
    let record = wait(link, client, submit)?;
    tell(&record)?;
    Ok(outcome::exit_code(&record))
}

fn job_of(options: &CallOptions) -> anyhow::Result<Job> {
    Ok(Job {
        method: Some(options.method.clone()),
        params: params_of(options)?,
        durability: options.durability.map(Into::into),
        pool: Some(options.pool.clone()),
        // For its callbacks.
        cwd: Some(cwd(None)?),
        env: Some(environment(&[], cli::EnvMode::All)?),
        umask: Some(own_umask()),
        tie: options.tie.clone(),
        key: options.key.clone(),
        round: options.rerun_failed.then(new_round),
        ..common_of(&options.common)
    })
}

/// Each parameter is JSON where it can be read as such, text otherwise.
fn params_of(options: &CallOptions) -> anyhow::Result<Option<Json>> {
    if let Some(params) = &options.params {
        let json =
            Json::parse(params).map_err(|error| UsageError(format!("--params is no JSON: {error}")))?;
        if !json.get().trim_start().starts_with(['[', '{']) {
            bail!(UsageError(format!("--params takes an array or an object: write [{}]", json.get())));
        }
        return Ok(Some(json));
    }
    let values: Vec<Json> = options.param.iter().map(|param| value_of(param)).collect();
    Ok((!values.is_empty()).then(|| {
        let texts: Vec<&str> = values.iter().map(Json::get).collect();
        Json::parse(&format!("[{}]", texts.join(","))).expect("values in brackets are an array")
    }))
}

/// JSON where it can be read as such, text otherwise.
pub fn value_of(param: &str) -> Json {
    Json::parse(param).unwrap_or_else(|_| {
        let text = serde_json::to_string(param).expect("text can be written as JSON");
        Json::parse(&text).expect("it has just been written as JSON")
    })
}

fn tell(record: &Record) -> anyhow::Result<()> {
    if record.state == pool_proto::State::Succeeded {
        return print::text(&format!("{}\n", record.value.as_ref().map_or("null", Json::get)));
    }
    let remark = match &record.error {
        Some(error) => Some(format!("job {}: {}", record.id, describe_error(error))),
        None => outcome::remark(record),
    };
    remark.into_iter().for_each(|remark| eprintln!("poolctl: {remark}"));
    Ok(())
}

/// A JSON-RPC error for people; one with more to it, or of another shape, as it is.
pub fn describe_error(error: &Json) -> String {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Plain {
        code: i64,
        message: String,
    }
    match serde_json::from_str(error.get()) {
        Ok(Plain { code, message }) => format!("{} (error {code})", printable(&message, usize::MAX)),
        Err(_) => printable(error.get(), usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn params(arguments: &[&str]) -> Option<String> {
        let cli = cli::Cli::try_parse_from([&["poolctl", "call", "p", "m"], arguments].concat()).unwrap();
        let cli::Verb::Call(options) = cli.verb else { panic!("another verb") };
        params_of(&options).unwrap().map(|params| params.get().to_owned())
    }

    #[test]
    fn parameters_are_json_where_they_can_be() {
        assert_eq!(params(&[]), None);
        assert_eq!(
            params(&["7", "-1", "a b", "{\"n\":1}", "null", ""]).as_deref(),
            Some(r#"[7,-1,"a b",{"n":1},null,""]"#)
        );
        assert_eq!(params(&["--params", "{\"n\": 7}"]).as_deref(), Some("{\"n\": 7}"));
    }

    #[test]
    fn errors_are_told_in_full() {
        let describe = |text: &str| describe_error(&Json::parse(text).unwrap());
        assert_eq!(
            describe(r#"{"code":-32601,"message":"no such method"}"#),
            "no such method (error -32601)"
        );
        assert_eq!(
            describe(r#"{"code":1,"message":"no","data":[1]}"#),
            r#"{"code":1,"message":"no","data":[1]}"#
        );
    }
}
