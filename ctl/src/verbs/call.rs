//! `poolctl call`: calls the resident program of a warm pool.

use anyhow::bail;
use clap::Args;
use pool_proto::methods::Submit;
use pool_proto::nouns::{Job, OnDisconnect};
use pool_proto::{Json, OsText, Record, State};

use super::Context;
use super::submission::{after_others, detach, stand_in};
use crate::cli::UsageError;
use crate::cli::choices::{DurabilityChoice, EnvMode};
use crate::cli::job::{CommonOptions, ConditionOptions, LikeOptions};
use crate::cli::values::{os_text, parse_tie};
use crate::compose::environment::{cwd, environment, own_umask};
use crate::compose::job::{common_of, conditional, like, on_disconnect};
use crate::compose::params::parse_value;
use crate::exit::ExitReason;
use crate::follow::Sinks;
use crate::tell::error::describe_error;
use crate::tell::outcome::{exit_of, pointer, remark, result_pruned};
use crate::term::text::{self, hint, say};

/// Call a method of a warm pool, and print its value as JSON
#[derive(Debug, Args)]
pub struct CallOptions {
    /// Wait for the value and print it [default]
    ///
    /// An error goes to stderr, with exit code 1.
    #[arg(short = 'W', long)]
    wait: bool,

    /// Print the id as soon as the call is on disk
    #[arg(long = "async", conflicts_with = "wait")]
    detach: bool,

    #[command(flatten)]
    common: CommonOptions,

    /// Where poold keeps the call [default: as its pool has it]
    #[arg(long, value_enum)]
    durability: Option<DurabilityChoice>,

    /// The parameters as one JSON array or object
    #[arg(long, value_name = "JSON", conflicts_with = "param")]
    params: Option<String>,

    /// End the call with the client (poolctl), a job, or the pool
    ///
    /// client is poolctl; job:ID another job; pool all other jobs, when poold shuts down.
    #[arg(long, value_name = "client|job:ID|pool", value_parser = parse_tie)]
    tie: Option<String>,

    #[command(flatten)]
    conditions: ConditionOptions,

    #[command(flatten)]
    like: LikeOptions,

    /// The warm pool
    #[arg(value_name = "POOL")]
    pool: String,

    /// The method
    method: String,

    /// The parameters of the method. Each is read as JSON if possible, and is text otherwise
    #[arg(allow_negative_numbers = true, value_parser = os_text())]
    param: Vec<OsText>,
}

impl CallOptions {
    /// Calls the method, and prints the value; with `--async` prints the id.
    ///
    /// # Errors
    /// When the call is not accepted, or its end cannot be told.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut job = self.job()?;
        let policy = on_disconnect(&job, OnDisconnect::Detach, !self.detach, "without --async")?;
        let mut client = context.link.connect()?;
        after_others(&mut client, &self.conditions, &mut job)?;
        let submit = Submit { job, on_disconnect: Some(policy), obstacles: Some(true) };
        if self.detach {
            return detach(context, client, &submit, false);
        }

        let Some(record) = stand_in(context, client, submit, Sinks::both())? else {
            return Ok(ExitReason::Success);
        };
        let id = record.id;
        let told = tell(&record);
        text::or_untold(told, format_args!("job {id} has ended, and `poolctl show {id}` has its value"))?;
        if record.state != State::Succeeded && record.state != State::Canceled {
            hint(pointer(id, 1));
        }
        Ok(exit_of(&record))
    }

    fn job(&self) -> anyhow::Result<Job> {
        let job = Job {
            method: Some(self.method.clone()),
            params: self.params()?,
            durability: self.durability.map(Into::into),
            pool: Some(self.pool.clone()),
            // The callbacks of the call run with these.
            cwd: Some(cwd(None)?),
            env: Some(environment(&[], EnvMode::All)?),
            umask: Some(own_umask()),
            tie: self.tie.clone(),
            ..common_of(&self.common)
        };
        Ok(conditional(&self.conditions, like(&self.like, job)))
    }

    /// The parameters as one JSON array or object, if there are any.
    fn params(&self) -> anyhow::Result<Option<Json>> {
        if let Some(params) = &self.params {
            let json =
                parse_value(params).map_err(|error| UsageError(format!("--params is no JSON: {error}")))?;
            if !json.get().trim_start().starts_with(['[', '{']) {
                bail!(UsageError(format!("--params takes an array or an object: write [{}]", json.get())));
            }
            return Ok(Some(json));
        }

        let values: Vec<Json> = self.param.iter().map(value_of).collect();
        Ok((!values.is_empty()).then(|| {
            let texts: Vec<&str> = values.iter().map(Json::get).collect();
            Json::parse(&format!("[{}]", texts.join(","))).expect("values in brackets are an array")
        }))
    }
}

/// A parameter as JSON if it can be read as JSON, and otherwise as text.
fn value_of(param: &OsText) -> Json {
    Json::parse(param.as_escaped()).unwrap_or_else(|_| {
        let text = serde_json::to_string(param).expect("text can be written as JSON");
        Json::parse(&text).expect("it has just been written as JSON")
    })
}

fn tell(record: &Record) -> anyhow::Result<()> {
    if record.state == State::Succeeded && record.output_pruned {
        bail!("{}", result_pruned(record.id));
    }
    if record.state == State::Succeeded {
        return text::print(&text::value_line(record.value.as_ref()));
    }

    let remark = match &record.error {
        Some(error) => Some(format!("job {}: {}", record.id, describe_error(error))),
        None => remark(record),
    };
    remark.into_iter().for_each(say);
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Verb};

    fn params(arguments: &[&str]) -> Option<String> {
        let cli = Cli::try_parse_from([&["poolctl", "call", "p", "m"], arguments].concat()).unwrap();
        let Some(Verb::Call(options)) = cli.verb else { panic!("another verb") };
        options.params().unwrap().map(|params| params.get().to_owned())
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
}
