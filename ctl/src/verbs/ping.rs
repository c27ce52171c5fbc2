//! `poolctl ping`: asks whether poold is there.

use std::time::Duration;

use clap::Args;
use pool_proto::OsText;
use pool_proto::methods::Ping;
use pool_proto::nouns::SCHEMA;
use serde_json::json;

use super::Context;
use crate::cli::values::parse_timeout;
use crate::exit::ExitReason;
use crate::link::deadline::{Deadline, TimeUp};
use crate::term::json;
use crate::term::text::{self, printable, say};

/// Ask whether poold is there
#[derive(Debug, Args)]
pub struct PingOptions {
    /// Wait for the answer this long at most, then exit with 124
    #[arg(short, long, value_name = "DURATION", default_value = "5s", value_parser = parse_timeout)]
    timeout: Duration,
}

impl PingOptions {
    /// Prints who answers at the socket. Never starts a poold.
    ///
    /// # Errors
    /// When no poold answers.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let socket = OsText::from(context.link.socket());
        let link = context.link.clone();
        let ping = move || anyhow::Ok(link.connect_only()?.request(&Ping {})?);
        let pong = match Deadline::after(self.timeout).bound(ping) {
            Ok(pong) => pong?,
            Err(TimeUp) => {
                let seconds = self.timeout.as_secs_f64();
                say(format_args!(
                    "poold at {socket} has not answered within {seconds} s; it is stopped, or busy"
                ));
                return Ok(ExitReason::TimedOut);
            }
        };

        if context.as_json {
            json::print(&json!({
                "schema": SCHEMA, "version": pong.version, "pid": pong.pid, "socket": socket, "state_dir": pong.state_dir,
            }))?;
        } else {
            let socket = printable(&socket.to_string(), usize::MAX);
            text::print(&format!("poold {}, pid {}, {socket}\n", pong.version, pong.pid))?;
        }
        Ok(ExitReason::Success)
    }
}
