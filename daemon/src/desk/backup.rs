//! Backups, as clients ask for them: the engine leaves its file alone for as long as the client's connection
//! lives, and the client copies it. Nothing passes through poold, and nothing is written for a client.

use pool_proto::Refusal;
use pool_proto::methods::{BackupBegun, Empty};

use super::event::ConnectionId;
use super::request::Open;
use super::{Desk, Effect};
use crate::engine::Chore;
use crate::job::RequestId;

impl Desk {
    pub(super) fn on_backup(&mut self, connection: ConnectionId, request: RequestId) {
        if let Some(client) = self.clients.get_mut(&connection) {
            client.may_hold = true;
        }
        self.requests.insert(request, Open::BackingUp);
        // What was asked for before is to be in the copy: the engine carries out everything in order.
        self.effects.push(Effect::Chore(Chore::Hold { request, holder: connection.0 }));
    }

    pub(super) fn on_end_backup(&mut self, connection: ConnectionId, request: RequestId) {
        if let Some(client) = self.clients.get_mut(&connection) {
            client.may_hold = false;
        }
        self.requests.insert(request, Open::EndingBackup);
        self.effects.push(Effect::Chore(Chore::LetGo { request: Some(request), holder: connection.0 }));
    }

    /// The file is left alone from now on, or not. A client that has gone meanwhile has let it go with its
    /// connection.
    pub(super) fn on_held(&mut self, request: RequestId, held: Result<u64, Refusal>) {
        if self.close(request).is_none() {
            return;
        }
        match held {
            Ok(bytes) => self.reply(request, BackupBegun { path: self.daemon.database.clone(), bytes }, true),
            Err(refusal) => self.refuse(request, refusal),
        }
    }

    /// `whole`: whether the file was left alone until now.
    pub(super) fn on_let_go(&mut self, request: RequestId, whole: Result<(), Refusal>) {
        if self.close(request).is_none() {
            return;
        }
        match whole {
            Ok(()) => self.reply(request, Empty {}, true),
            Err(refusal) => self.refuse(request, refusal),
        }
    }
}
