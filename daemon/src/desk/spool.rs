//! Standard inputs on their way in: files that a client writes before the job that will read them is
//! submitted. Here are their names.
//!
//! ```text
//!   Spool ──▶ unclaimed: its connection's ── Submit names it ──▶ the submission's ── accepted ──▶ the job's
//!                 │ the connection closes                          │ refused, or another job has the key
//!                 └────────────────────────▶ removed ◀─────────────┘
//! ```
//!
//! A token always has one owner, and goes with it.

use super::event::ConnectionId;
use super::{Desk, Effect};
use crate::job::RequestId;

/// The names of spooled inputs: no two of one state directory are the same.
#[derive(Debug)]
pub struct Tokens {
    /// Tells this start's tokens from those of earlier ones.
    prefix: String,
    next: u64,
}

impl Tokens {
    /// `started_us`: a number that no earlier start has had.
    pub fn new(started_us: i64) -> Self {
        Self { prefix: format!("{started_us:x}"), next: 1 }
    }

    fn make(&mut self) -> String {
        let token = format!("{}-{}", self.prefix, self.next);
        self.next += 1;
        token
    }
}

impl Desk {
    pub(super) fn on_spool(&mut self, connection: ConnectionId, request: RequestId) {
        let token = self.tokens.make();
        if let Some(client) = self.clients.get_mut(&connection) {
            client.unclaimed.push(token.clone());
        }
        self.close(request);
        self.effects.push(Effect::ReplySpooled { request, token });
    }

    /// There is no file of that name.
    pub(super) fn on_spool_failed(&mut self, request: RequestId, token: &str, reason: String) {
        for client in self.clients.values_mut() {
            client.unclaimed.retain(|other| other != token);
        }
        self.refuse(request, pool_proto::Refusal::StoreFailed { reason });
    }

    /// A submission names a token; none where it is none of this connection's.
    pub(super) fn claim_spooled(&mut self, connection: ConnectionId, token: &str) -> Option<String> {
        let unclaimed = &mut self.clients.get_mut(&connection)?.unclaimed;
        let at = unclaimed.iter().position(|other| other == token)?;
        Some(unclaimed.swap_remove(at))
    }
}
