//! `poolctl ping`: asks whether poold is there.

use clap::Args;
use pool_proto::OsText;
use pool_proto::methods::Ping;
use pool_proto::nouns::SCHEMA;
use serde_json::json;

use super::Context;
use crate::exit::ExitReason;
use crate::term::json;
use crate::term::text::{self, printable};

/// Ask whether poold is there
#[derive(Debug, Args)]
pub struct PingOptions {}

impl PingOptions {
    /// Prints who answers at the socket. Never starts a poold.
    ///
    /// # Errors
    /// When no poold answers.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let pong = context.link.connect_only()?.request(&Ping {})?;

        let socket = OsText::from(context.link.socket());
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
