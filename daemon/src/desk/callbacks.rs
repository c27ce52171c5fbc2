//! Callbacks by themselves: `Callbacks`, `GetCallback`, `RetryCallbacks`, `DropCallbacks`.

use pool_proto::Refusal;
use pool_proto::methods::{
    CallbackGot, Callbacks, CallbacksAltered, CallbacksListed, MAX_CALLBACKS, MAX_RELEASED, OtherCallback,
};
use pool_proto::nouns::CallbackRecord;

use super::request::Open;
use super::sentence;
use super::{Desk, Effect};
use crate::engine::{CallbackPage, CallbackWish, Change, Delivery, Question};
use crate::job::{CallbackId, RequestId};

impl Desk {
    pub(super) fn on_callbacks(&mut self, request: RequestId, asked: &Callbacks) {
        let &Callbacks { failed, after, limit } = asked;
        let limit = limit.unwrap_or(MAX_CALLBACKS);
        if !(1..=MAX_CALLBACKS).contains(&limit) {
            let parameter = format!("limit: from 1 to {MAX_CALLBACKS}");
            return self.refuse(request, Refusal::InvalidParameter { parameter });
        }
        let after = CallbackId(after.unwrap_or(0).min(i64::MAX as u64));
        let page = CallbackPage::Open { failed: failed == Some(true), after, limit };
        self.requests.insert(request, Open::ListingCallbacks);
        self.ask(Question::Callbacks { request, page });
    }

    pub(super) fn on_get_callback(&mut self, request: RequestId, id: CallbackId) {
        self.requests.insert(request, Open::GettingCallback(id));
        self.ask(Question::Callbacks { request, page: CallbackPage::One(id) });
    }

    pub(super) fn on_read_callbacks(
        &mut self,
        request: RequestId,
        mut callbacks: Vec<CallbackRecord>,
        next: Option<CallbackId>,
    ) {
        match (self.requests.get(request), callbacks.pop()) {
            (Some(&Open::GettingCallback(CallbackId(id))), None) => {
                self.refuse(request, Refusal::NoSuchCallback { id });
            }
            (Some(Open::GettingCallback(_)), Some(callback)) => {
                self.reply(request, CallbackGot { callback: Box::new(callback) }, true);
            }
            (Some(Open::ListingCallbacks), last) => {
                callbacks.extend(last);
                self.reply(request, CallbacksListed { callbacks, next: next.map(|id| id.0) }, true);
            }
            // Its client has gone.
            (_, _) => {}
        }
    }

    pub(super) fn on_alter_callbacks(&mut self, request: RequestId, mut ids: Vec<u64>, wish: CallbackWish) {
        ids.sort_unstable();
        ids.dedup();
        if ids.len() > MAX_RELEASED {
            let parameter = format!("ids: at most {MAX_RELEASED} at once");
            return self.refuse(request, Refusal::InvalidParameter { parameter });
        }
        if ids.is_empty() {
            return self.reply(request, CallbacksAltered::default(), true);
        }
        let ids = ids.into_iter().map(CallbackId).collect();
        self.requests.insert(request, Open::AlteringCallbacks);
        self.effects.push(Effect::Change(Change::AlterCallbacks { request, ids, wish }));
    }

    pub(super) fn on_callbacks_altered(
        &mut self,
        request: RequestId,
        wish: CallbackWish,
        ids: &[CallbackId],
        others: &[(CallbackId, Option<Delivery>)],
    ) {
        let Some(Open::AlteringCallbacks) = self.requests.get(request) else { return };
        let others = others.iter().map(|&(id, delivery)| OtherCallback {
            id: id.0,
            state: delivery.map(|delivery| delivery.as_str().to_owned()),
            reason: sentence::callback_not_altered(id, wish, delivery),
        });
        let others = others.collect();
        self.reply(request, CallbacksAltered { ids: ids.iter().map(|id| id.0).collect(), others }, true);
    }
}
