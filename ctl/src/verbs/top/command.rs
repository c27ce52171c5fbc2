//! The model and its user: keys and the mouse.

use pool_proto::State;
use ratatui::crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use super::cursor::Row;
use super::keys::{Action, action_of};
use super::model::{Mode, Model};
use super::plan::Tab;
use super::story::{Pane, Story};
use super::wish::{Act, Wish};

/// Rows that the wheel moves at once.
const WHEEL: isize = 3;

impl Model {
    /// A key was pressed.
    pub fn press(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        self.is_dirty = true;
        let action = action_of(key);
        // These work whatever takes the keys.
        match action {
            Some(Action::Quit) if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return self.wishes.push(Wish::Quit);
            }
            Some(Action::Suspend) => return self.wishes.push(Wish::Suspend),
            Some(Action::Redraw) => return self.wishes.push(Wish::Redraw),
            _ => {}
        }

        match std::mem::replace(&mut self.mode, Mode::Look) {
            Mode::Look => action.into_iter().for_each(|action| self.act(action)),
            Mode::Help => {}
            Mode::Filter(before) => self.type_filter(key, before),
            Mode::Confirm(_, act) => match key.code {
                KeyCode::Char('y' | 'Y') => self.wishes.push(Wish::Act(act)),
                _ => self.tell("nothing was done"),
            },
        }
    }

    fn type_filter(&mut self, key: KeyEvent, before: String) {
        let mut text = self.filter.text().to_owned();
        match key.code {
            KeyCode::Enter => return,
            KeyCode::Esc => return self.filter.set(before),
            KeyCode::Backspace if text.is_empty() => return,
            KeyCode::Backspace => _ = text.pop(),
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => text.clear(),
            KeyCode::Char(c) if pool_proto::terminal::is_shown(c) => text.push(c),
            _ => {}
        }
        self.filter.set(text);
        self.mode = Mode::Filter(before);
    }

    fn act(&mut self, action: Action) {
        let page = usize::from(self.plan().rows.height).max(2) as isize - 1;
        match action {
            Action::Up => self.step(-1),
            Action::Down => self.step(1),
            Action::PageUp => self.step(-page),
            Action::PageDown => self.step(page),
            // Half of the range, so that no sum overflows.
            Action::First => self.step(isize::MIN / 2),
            Action::Last => self.step(isize::MAX / 2),
            Action::NextTab | Action::PreviousTab if self.story.is_some() => self.turn_pane(),
            Action::NextTab => self.go(self.tab as usize + 1),
            Action::PreviousTab => self.go(self.tab as usize + Tab::ALL.len() - 1),
            Action::Tab(place) => {
                self.close_story();
                self.go(place);
            }
            Action::Open => self.open(),
            Action::Back if self.story.is_some() => self.close_story(),
            Action::Back => self.filter.set(String::new()),
            Action::Filter if self.story.is_none() && self.tab != Tab::Charts => {
                self.mode = Mode::Filter(self.filter.text().to_owned());
            }
            Action::Filter => {}
            Action::Sort => {
                self.order.key = self.order.key.next();
                self.tell(format!("sorted by {}", self.order.key.name()));
            }
            Action::Reverse => self.order.is_reversed = !self.order.is_reversed,
            Action::Follow => match &mut self.story {
                Some(story) => {
                    let height = usize::from(self.size.1.saturating_sub(4));
                    story.log_top = story.logs[story.stream].len().saturating_sub(height);
                    story.is_following = !story.is_following;
                }
                None => self.open(),
            },
            Action::Stream => self.story.iter_mut().for_each(Story::turn_stream),
            Action::Cancel => self.cancel(),
            Action::Hold => self.hold(),
            Action::Retry => self.retry(),
            Action::Edit => self.edit(),
            Action::Pause => self.pause(),
            Action::Mouse => {
                self.has_mouse = !self.has_mouse;
                self.wishes.push(Wish::SetMouse(self.has_mouse));
                self.tell(if self.has_mouse {
                    "the mouse selects rows here"
                } else {
                    "the mouse selects text in the terminal; m takes it back"
                });
            }
            Action::Help => self.mode = Mode::Help,
            Action::Quit => self.wishes.push(Wish::Quit),
            Action::Suspend | Action::Redraw => {}
        }
    }

    /// Selects another row, or scrolls the open job.
    fn step(&mut self, by: isize) {
        let height = usize::from(self.plan().body.height.saturating_sub(1));
        match &mut self.story {
            Some(story) => story.scroll(by, height),
            None => self.cursors[self.tab as usize].step(&self.rows, by),
        }
    }

    fn go(&mut self, place: usize) {
        self.tab = Tab::ALL[place % Tab::ALL.len()];
        self.settle();
    }

    fn turn_pane(&mut self) {
        self.story.iter_mut().for_each(Story::turn_pane);
    }

    // ---- what is done to a job ----

    /// The job that is open, or else selected, with its state.
    fn target(&self) -> Option<(u64, State, bool)> {
        if let Some(story) = &self.story {
            let record = story.record.as_ref()?;
            return Some((story.id, record.state, record.frozen_since.is_some()));
        }
        let job = self.job_of(self.cursors[self.tab as usize].selected()?)?;
        Some((job.id, job.state, job.is_frozen))
    }

    /// The same, or tells that there is none.
    fn target_or_tell(&mut self) -> Option<(u64, State, bool)> {
        let target = self.target();
        if target.is_none() {
            self.tell("no job is selected");
        }
        target
    }

    /// Opens the job that is selected.
    fn open(&mut self) {
        if self.story.is_some() {
            return;
        }
        let Some((id, ..)) = self.target_or_tell() else { return };
        self.story = Some(Story::of(id));
        self.wishes.push(Wish::OpenLog(id));
        self.is_dirty = true;
    }

    /// Closes the job that is open.
    pub(super) fn close_story(&mut self) {
        if self.story.take().is_some() {
            self.wishes.push(Wish::CloseLog);
        }
    }

    fn cancel(&mut self) {
        let Some((id, state, _)) = self.target_or_tell() else { return };
        let name = self.name_of(id);
        if state.is_terminal() {
            return self.tell(format!("job {name} has ended"));
        }
        let ends = if matches!(state, State::Running) { "Its processes are ended. " } else { "" };
        self.mode = Mode::Confirm(format!("Cancel job {name}? {ends}y / n"), Act::Cancel(id));
    }

    fn hold(&mut self) {
        let Some((id, state, _)) = self.target_or_tell() else { return };
        let name = self.name_of(id);
        match state {
            State::Held => self.wishes.push(Wish::Act(Act::Release(id))),
            State::Queued | State::Scheduled | State::Blocked | State::Retrying => {
                self.wishes.push(Wish::Act(Act::Hold(id)));
            }
            State::Running | State::Stopping => self.tell(format!("job {name} runs: p pauses it")),
            _ => self.tell(format!("job {name} has ended")),
        }
    }

    fn retry(&mut self) {
        let Some((id, state, _)) = self.target_or_tell() else { return };
        let name = self.name_of(id);
        match state.is_terminal() {
            true => self.wishes.push(Wish::Act(Act::Retry(id))),
            false => self.tell(format!("job {name} has not ended: r runs a job that has ended once more")),
        }
    }

    fn edit(&mut self) {
        let Some((id, state, _)) = self.target_or_tell() else { return };
        let name = self.name_of(id);
        match state {
            State::Running | State::Stopping => {
                self.tell(format!("job {name} runs: a job can be edited before it starts"));
            }
            state if state.is_terminal() => self.tell(format!("job {name} has ended")),
            _ => {
                self.message = None;
                self.wishes.push(Wish::Edit(id));
            }
        }
    }

    fn pause(&mut self) {
        if self.story.is_none()
            && let Some(Row::Pool(name)) = self.cursors[self.tab as usize].selected()
        {
            let is_paused = self.pools.find(name).is_some_and(|pool| pool.is_paused);
            return self.wishes.push(Wish::Act(Act::Pause(name.clone(), !is_paused)));
        }
        let Some((id, state, is_frozen)) = self.target_or_tell() else { return };
        match state {
            State::Running => self.wishes.push(Wish::Act(Act::Freeze(id, !is_frozen))),
            _ => self.tell("p pauses a pool or a running job; h holds a job that has not started"),
        }
    }

    // ---- the mouse ----

    /// The mouse was clicked, or its wheel turned.
    pub fn point(&mut self, mouse: MouseEvent) {
        match (mouse.kind, &self.mode) {
            (MouseEventKind::ScrollDown, Mode::Look) => self.step(WHEEL),
            (MouseEventKind::ScrollUp, Mode::Look) => self.step(-WHEEL),
            (MouseEventKind::Down(MouseButton::Left), Mode::Look) => self.click(mouse.column, mouse.row),
            (MouseEventKind::Down(_), Mode::Help) => self.mode = Mode::Look,
            _ => return,
        }
        self.is_dirty = true;
    }

    fn click(&mut self, column: u16, row: u16) {
        let plan = self.plan();
        if let Some(place) = plan.tab_at(column, row) {
            self.close_story();
            return self.go(place);
        }
        if let Some(story) = &mut self.story {
            let [story_pane, _] = plan.panes();
            if let Some(pane) = story_pane {
                story.pane = if column < pane.right() { Pane::Story } else { Pane::Log };
            }
            return;
        }
        let Some(place) = plan.row_at(column, row) else { return };
        let cursor = &mut self.cursors[self.tab as usize];
        let seen = cursor.seen(self.rows.len(), usize::from(plan.rows.height));
        let place = seen.start + place;
        if place >= seen.end {
            return;
        }
        // A second click on a row opens it.
        match place == cursor.index() && matches!(self.rows.get(place), Some(Row::Slot(..) | Row::Job(_))) {
            true => self.open(),
            false => cursor.select(&self.rows, place),
        }
    }
}
