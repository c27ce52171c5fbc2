//! Backups, as clients ask for them: the store leaves its file alone for as long as the client's connection lives, and the client copies it.
//! Nothing passes through poold, and nothing is written for a client.

use mio::Token;
use pool_proto::Refusal;
use pool_proto::interface::{BackupBegun, Empty};

use super::Supervisor;
use crate::job::RequestId;
use crate::store;

impl Supervisor {
    pub(super) fn on_backup(&mut self, connection: Token, call: RequestId) {
        self.backing_up.insert(connection);
        self.backups.push_back(Some(call));
        // What was asked for before is to be in it.
        self.submit_ops();
        self.store.hold(connection.0);
    }

    pub(super) fn on_end_backup(&mut self, connection: Token, call: RequestId) {
        self.backing_up.remove(&connection);
        self.backups.push_back(Some(call));
        self.store.let_go(connection.0);
    }

    /// A connection is gone.
    pub(super) fn abandon_backup(&mut self, connection: Token) {
        if self.backing_up.remove(&connection) {
            self.backups.push_back(None);
            self.store.let_go(connection.0);
        }
    }

    pub(super) fn on_held(&mut self, held: Result<u64, Refusal>) {
        let Some(Some(call)) = self.backups.pop_front() else { return };
        match held {
            Ok(bytes) => {
                let path = self.place.state_dir.join(store::FILE_NAME).to_string_lossy().into_owned();
                self.server.reply(call, &BackupBegun { path, bytes }, Vec::new(), true);
            }
            Err(refusal) => self.server.refuse(call, &refusal),
        }
    }

    pub(super) fn on_let_go(&mut self, let_go: Result<(), Refusal>) {
        let Some(Some(call)) = self.backups.pop_front() else { return };
        match let_go {
            Ok(()) => self.server.reply(call, &Empty {}, Vec::new(), true),
            Err(refusal) => self.server.refuse(call, &refusal),
        }
    }
}
