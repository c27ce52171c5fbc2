//! Jobs that have not begun, and are to be other ones in part; and what a job is to do.

use std::sync::Arc;

use super::{Memory, OutgoingCallback};
use crate::engine::{
    Answer, Assigned, Definition, Dequeued, Edited, JobEdit, NotEdited, Released, Revised, deadline_us,
    due_us, start_by_us,
};
use crate::job::{
    ArrayPart, CallbackId, Conditions, IdSet, JobId, Labels, NewCallback, NotBefore, Place, RequestId, Until,
    Work,
};

impl Memory {
    pub(super) fn edit(&mut self, change: &JobEdit) {
        let edited = self.edited(change);
        self.answer(Answer::Edited { request: change.request, id: change.id, edited });
    }

    fn edited(&mut self, change: &JobEdit) -> Edited {
        let &JobEdit { id, ref edit, ref times, .. } = change;
        let Some(row) = self.jobs.get(&id) else { return Edited::Not(NotEdited::Missing) };
        if !matches!(row.place, Place::Queued { .. } | Place::Waiting(_)) {
            return Edited::Not(NotEdited::Beyond(row.place.state()));
        }
        let (from, holdup) = (row.work.pool.clone(), row.place.holdup());
        let needs = row.work.needs.clone();
        let at = Assigned { position: row.position(id), needs, from: from.clone(), holdup };
        let work = match edit.apply(&row.work) {
            Ok(work) => work,
            Err(unfit) => return Edited::Kept(at, NotEdited::Unfit(unfit)),
        };
        let has_been_tried = row.tries.attempts > 0
            || matches!(row.place, Place::Queued { again: true } | Place::Waiting(Until::Time { .. }));
        if edit.has_conditions() && has_been_tried {
            return Edited::Kept(at, NotEdited::Tried);
        }
        for after in edit.after.iter().flatten() {
            if after.id >= id {
                return Edited::Kept(at, NotEdited::PriorLater(after.id));
            }
            if let Some(ArrayPart::Element(element)) = row.work.array.as_deref()
                && let Some(kept) = self.arrays.get(&element.array)
                && !element.may_follow(after.id, kept.tally.first)
            {
                return Edited::Kept(at, NotEdited::PriorWithArray(after.id));
            }
            if !self.has(after.id) {
                return Edited::Kept(at, NotEdited::PriorGone(after.id));
            }
        }

        self.leave_place(id);
        self.put_work(id, work);
        if edit.deadline.is_some() || edit.start_within.is_some() {
            self.put_terms(change);
        }
        self.put_callbacks(change);
        for label in edit.exclusive.iter() {
            self.limits.entry(label.to_string()).or_insert(1);
        }
        let failed = edit.after.as_ref().and_then(|wanted| {
            self.forget_after(id);
            let mut failed = Vec::new();
            let after = self.depend(id, wanted, &mut failed);
            let row = self.jobs.get_mut(&id)?;
            row.unmet.others = after.len() as u32;
            (row.after, row.depends_on) = (after, wanted.clone());
            failed.pop().map(|(_, prior)| prior)
        });

        let Some(row) = self.jobs.get_mut(&id) else { return Edited::Not(NotEdited::Missing) };
        if let Some(start) = edit.start {
            row.unmet.start_us = start.map(|start| due_us(times, start));
            row.at_us = match start {
                Some(NotBefore::At { us }) => Some(us),
                Some(NotBefore::Delay(_)) | None => None,
            };
        }
        if edit.has_conditions() {
            row.place = row.unmet.place();
        }
        let until = match row.place {
            Place::Waiting(until) => Some(until),
            _ => None,
        };
        let revised = Revised {
            from: holdup.map(|holdup| Dequeued { pool: from, holdup }),
            now: Released { position: row.position(id), line: row.work.line(), until },
            deadline_us: edit.deadline.map(|_| row.deadline_us),
            start_by_us: edit.start_within.map(|_| row.start_by_us),
            exclusive: edit.exclusive.clone(),
            failed,
        };
        self.take_place(id);
        Edited::Done(Box::new(revised))
    }

    fn put_work(&mut self, id: JobId, work: Work) {
        let Some(row) = self.jobs.get_mut(&id) else { return };
        let bytes = work.own_bytes();
        self.living_bytes = self.living_bytes - row.bytes + bytes;
        (row.work, row.bytes) = (Arc::new(work), bytes);
    }

    fn put_terms(&mut self, change: &JobEdit) {
        let &JobEdit { id, ref edit, ref times, .. } = change;
        let Some(row) = self.jobs.get_mut(&id) else { return };
        if edit.deadline.is_some() {
            let us = deadline_us(times.counted_from_us, &row.work);
            if let Some(us) = std::mem::replace(&mut row.deadline_us, us) {
                self.deadlines.remove(&(us, id));
            }
            self.deadlines.extend(us.map(|us| (us, id)));
        }
        if edit.start_within.is_some() {
            let us = start_by_us(times.counted_from_us, &row.work);
            if let Some(us) = std::mem::replace(&mut row.start_by_us, us) {
                self.starts.remove(&(us, id));
            }
            self.starts.extend(us.map(|us| (us, id)));
        }
    }

    fn put_callbacks(&mut self, change: &JobEdit) {
        let &JobEdit { id, ref edit, first_callback, .. } = change;
        let Some(row) = self.jobs.get_mut(&id) else { return };
        self.next_callback = self.next_callback.max(first_callback.0 + edit.count_callbacks() as u64);
        let mut ids = (first_callback.0..).map(CallbackId);
        for (on, commands) in &edit.callbacks {
            let is_of_kind = |callback: &CallbackId| {
                self.callbacks.get(callback).is_some_and(|callback| callback.callback.on == *on)
            };
            let gone: IdSet<CallbackId> = row.callbacks.iter().copied().filter(is_of_kind).collect();
            row.callbacks.retain(|callback| !gone.contains(callback));
            gone.iter().for_each(|callback| _ = self.callbacks.remove(callback));
            for (command, callback_id) in commands.iter().zip(ids.by_ref()) {
                let callback = NewCallback { on: *on, command: command.clone() };
                self.callbacks.insert(callback_id, OutgoingCallback::new(id, callback));
                row.callbacks.push(callback_id);
            }
        }
    }

    /// What a job is to do.
    pub(super) fn define(&mut self, request: RequestId, id: JobId) {
        let definition = self.definition(id).map(Box::new);
        self.answer(Answer::Defined { request, id, definition });
    }

    fn definition(&self, id: JobId) -> Option<Definition> {
        let row = self.jobs.get(&id)?;
        let start = row.unmet.start_us.map(|us| NotBefore::At { us: row.at_us.unwrap_or(us) });
        let conditions = Conditions { hold: row.unmet.hold, start, after: row.depends_on.clone() };
        let callbacks = row.callbacks.iter().filter_map(|callback| self.callbacks.get(callback));
        let of_elements = self.arrays.get(&id).into_iter().flat_map(|array| &array.callbacks);
        Some(Definition {
            work: Work {
                key: None,
                unique: row.unique.clone(),
                conditions: (conditions != Conditions::default()).then(|| Box::new(conditions)),
                exclusive: Labels::NONE,
                callbacks: callbacks.map(|callback| &callback.callback).chain(of_elements).cloned().collect(),
                ..Work::clone(&row.work)
            },
            state: row.place.state(),
            attempts: row.tries.attempts,
            may_lack_params: row.is_stripped && row.work.call().is_some_and(|call| call.params.is_none()),
        })
    }

    /// No volatile job is edited.
    pub(super) fn refuse_edit(&mut self, change: &JobEdit) {
        let edited = Edited::Not(NotEdited::Volatile);
        self.answer(Answer::Edited { request: change.request, id: change.id, edited });
    }
}
