//! What the user sees and what is asked of poold, without either.

use pool_proto::nouns::{Happening, HappeningKind, Pool, Resource, ResourceItem, Slot, SlotState, Tier};
use pool_proto::{Record, State};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::style::Color;

use super::job::{Micros, micros};
use super::model::{Mode, Model, Presence};
use super::plan::Tab;
use super::view::draw;
use super::view::palette::Palette;
use super::wish::{Act, Reading, Wish};
use crate::tell::when;
use crate::term::width::columns;

const AT: &str = "2026-11-26T20:30:00.000000Z";
const SECOND: Micros = 1_000_000;

fn start() -> Micros {
    micros(AT).unwrap()
}

/// The time so many milliseconds after the start, as poold tells it.
fn at(millis: i64) -> String {
    let seconds = millis.div_euclid(1000);
    format!("2026-11-26T20:{:02}:{:02}.{:03}000Z", 30 + seconds / 60, seconds % 60, millis.rem_euclid(1000))
}

fn event(kind: HappeningKind, id: u64, millis: i64) -> Happening {
    Happening { id: Some(id), pool: Some("default".into()), ..Happening::new(kind, at(millis)) }
}

fn started(id: u64, slot: u32, millis: i64) -> Happening {
    Happening { slot: Some(slot), attempt: Some(1), ..event(HappeningKind::Started, id, millis) }
}

fn ended(id: u64, state: State, exit_code: i32, millis: i64) -> Happening {
    Happening { state: Some(state), exit_code: Some(exit_code), ..event(HappeningKind::Ended, id, millis) }
}

fn record(id: u64, state: State, argv: &[&str]) -> Record {
    let value = serde_json::json!({
        "schema": 1, "id": id, "pool": "default", "argv": argv, "cwd": "/", "attempt": 1, "crashes": 0,
        "on_crash": "requeue", "submitted_at": AT, "callbacks": [], "state": state.as_str(),
    });
    serde_json::from_value(value).unwrap()
}

fn slot(number: u32, state: SlotState, job: Option<u64>) -> Slot {
    Slot { slot: number, pid: None, state, job, reason: None, program_pid: None, calls: None }
}

fn pool(name: &str, queued: u64, slots: Vec<Slot>) -> Pool {
    Pool {
        name: name.to_owned(),
        workers: slots.len() as u32,
        queued,
        running: 0,
        containment: Tier::Subreaper,
        containment_note: None,
        paused: false,
        paused_since: None,
        backfill: false,
        resources: Vec::new(),
        too_small_for: None,
        gathering_for: None,
        paused_by: None,
        draining_since: None,
        draining_by: None,
        command: None,
        slots,
    }
}

fn pools() -> Vec<Pool> {
    let broken = Slot { reason: Some("cannot be started".into()), ..slot(1, SlotState::BackingOff, None) };
    let item = |item: &str, job| ResourceItem { item: item.to_owned(), job, removed: None };
    let card = Resource { name: "card".to_owned(), items: vec![item("0", Some(5)), item("1", None)] };
    let gpu = pool("gpu", 2, vec![slot(0, SlotState::Idle, None), broken]);
    vec![
        pool("default", 1_000_000, (0..4).map(|number| slot(number, SlotState::Idle, None)).collect()),
        Pool { paused: true, resources: vec![card], ..gpu },
    ]
}

/// A model of a poold with two pools, that tells what happens.
fn model(size: (u16, u16)) -> Model {
    let mut model = Model::new(start(), size);
    model.hear(&Happening::new(HappeningKind::Listening, AT.to_owned()));
    assert_eq!(model.wishes(), [Wish::ReadAll { changes: 0 }]);
    let condition = serde_json::json!({
        "version": "0.1.0", "pid": 1, "supervisor_pid": 2, "started_at": AT, "accepting": true,
        "state_dir": "/s", "socket": "/k", "config": null, "config_error": null, "durability": "fsync",
        "store_failure": null, "clients": 1, "max_clients": 9, "max_open_files": 9, "max_queued": 9,
        "swept": { "groups": 0, "processes": 0, "spared": 0 }, "pools": pools(),
    });
    let condition = Box::new(serde_json::from_value(condition).unwrap());
    model.take(Reading::Condition { condition, changes: 0 });
    model
}

/// The same, where jobs run, wait and have ended, two minutes later.
fn busy(size: (u16, u16)) -> Model {
    let mut model = model(size);
    model.hear(&started(7, 0, 100));
    model.hear(&started(8, 2, 60_000));
    model.hear(&started(9, 1, 61_000));
    model.hear(&ended(9, State::Failed, 101, 61_250));
    model.hear(&started(10, 1, 62_000));
    model.hear(&ended(10, State::Succeeded, 0, 62_007));
    let argv = ["sh", "-c", "echo 'one two three four five six'; \x1b[31mexec sleep 600"];
    model.take(Reading::Running(vec![record(7, State::Running, &argv)]));
    let wide = Record { name: Some("日本語のジョブ".into()), ..record(8, State::Running, &["x"]) };
    model.take(Reading::Jobs(vec![wide, record(9, State::Failed, &["make", "-j4"])]));
    let mut queued: Vec<Record> = (11..15).map(|id| record(id, State::Queued, &["job"])).collect();
    queued[2].priority = 5;
    queued[3].state = State::Held;
    queued[1].labels = Some(vec!["night".to_owned()]);
    model.take(Reading::Queue { after: 0, jobs: queued, next: Some(14) });
    model.advance(start() + 120 * SECOND);
    model.wishes();
    model
}

fn press(model: &mut Model, keys: &[KeyCode]) {
    for &code in keys {
        model.press(KeyEvent::new(code, KeyModifiers::NONE));
        model.settle();
    }
}

fn type_text(model: &mut Model, text: &str) {
    press(model, &text.chars().map(KeyCode::Char).collect::<Vec<_>>());
}

fn click(model: &mut Model, column: u16, row: u16) {
    let kind = MouseEventKind::Down(MouseButton::Left);
    model.point(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE });
    model.settle();
}

/// The screen as text.
fn picture(model: &mut Model) -> String {
    let mut terminal = Terminal::new(TestBackend::new(model.size.0, model.size.1)).unwrap();
    model.settle();
    terminal.draw(|frame| draw(model, Palette { has_color: true }, frame.buffer_mut())).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let (mut line, mut x) = (String::new(), 0);
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            line += symbol;
            // A wide character covers the cell behind it.
            x += columns(symbol).max(1) as u16;
        }
        line.trim_end().to_owned()
    };
    let lines = (0..buffer.area.height).map(line).collect::<Vec<_>>().join("\n");
    // The time of the day is that of this machine's zone.
    [61_250, 62_007, 0]
        .iter()
        .fold(lines, |text, &millis| text.replace(&when::clock(&at(millis)), &at(millis)[11..19]))
}

fn assert_picture(name: &str, model: &mut Model) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../../../tests/snapshots/top");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, picture(model)));
}

#[test]
fn pictures_of_80_columns() {
    let mut model = busy((80, 24));
    assert_picture("pools", &mut model);
    press(&mut model, &[KeyCode::Char('2'), KeyCode::Down]);
    assert_picture("queue", &mut model);
    press(&mut model, &[KeyCode::Char('3')]);
    assert_picture("ended", &mut model);
    press(&mut model, &[KeyCode::Char('4')]);
    assert_picture("charts", &mut model);
    press(&mut model, &[KeyCode::Char('?')]);
    assert_picture("help", &mut model);

    press(&mut model, &[KeyCode::Esc, KeyCode::Char('1'), KeyCode::Down, KeyCode::Enter]);
    model.take(Reading::Opened { id: 7, attempt: Ok(2) });
    model.take(Reading::Written { stream: 0, bytes: b"one\n\x1b[1mtwo\x1b[0m\nthr".to_vec() });
    model.take(Reading::Written { stream: 1, bytes: b"a warning\n".to_vec() });
    assert_picture("log", &mut model);
    model.take(Reading::Story { record: Box::new(record(7, State::Running, &["a", "b c"])), why: None });
    press(&mut model, &[KeyCode::Tab]);
    assert_picture("story", &mut model);
}

#[test]
fn pictures_of_200_columns() {
    let mut model = busy((200, 50));
    assert_picture("pools_wide", &mut model);
    press(&mut model, &[KeyCode::Down, KeyCode::Enter]);
    model.take(Reading::Opened { id: 7, attempt: Ok(1) });
    model.take(Reading::Written { stream: 0, bytes: b"one\ntwo\n".to_vec() });
    model.take(Reading::Story { record: Box::new(record(7, State::Running, &["a", "b c"])), why: None });
    assert_picture("story_wide", &mut model);
}

#[test]
fn every_size_can_be_drawn() {
    for width in [1, 7, 40, 80, 119, 120, 200] {
        for height in [1, 2, 3, 4, 5, 10, 19, 20, 24, 60] {
            let mut model = busy((width, height));
            for key in "1234?".chars() {
                press(&mut model, &[KeyCode::Char(key)]);
                picture(&mut model);
            }
            press(&mut model, &[KeyCode::Esc, KeyCode::Char('1'), KeyCode::Down, KeyCode::Enter]);
            picture(&mut model);
            press(&mut model, &[KeyCode::Tab, KeyCode::PageDown, KeyCode::Char('c')]);
            picture(&mut model);
        }
    }
}

#[test]
fn without_colours_there_is_none() {
    let mut model = busy((80, 24));
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    for key in "1234?".chars() {
        press(&mut model, &[KeyCode::Char(key)]);
        let palette = Palette { has_color: false };
        let drawn = terminal.draw(|frame| draw(&model, palette, frame.buffer_mut())).unwrap();
        let is_plain = |color| color == Color::Reset;
        assert!(drawn.buffer.content.iter().all(|cell| is_plain(cell.fg) && is_plain(cell.bg)));
    }
}

#[test]
fn an_idle_screen_has_no_timer() {
    let mut model = model((80, 24));
    model.advance(start());
    assert!(model.take_dirt());
    assert_eq!(model.due(), None);

    // A clock of a running job is one, once a second, where it is seen.
    model.hear(&started(7, 0, 0));
    model.take(Reading::Pools { pools: pools(), changes: 0 });
    model.take(Reading::Jobs(vec![record(7, State::Running, &["x"])]));
    model.advance(start() + 5 * SECOND);
    model.wishes();
    model.take_dirt();
    assert_eq!(model.due(), Some(start() + 6 * SECOND));
    model.advance(start() + 6 * SECOND);
    assert!(model.take_dirt());
    press(&mut model, &[KeyCode::Char('4')]);
    model.hear(&ended(7, State::Succeeded, 0, 6000));
    model.advance(start() + 8 * SECOND);
    model.take_dirt();
    assert_ne!(model.due(), None, "the chart moves");
    model.advance(start() + 700 * SECOND);
    model.take_dirt();
    model.advance(start() + 701 * SECOND);
    assert!(!model.take_dirt());
    assert_eq!(model.due(), None, "the chart is flat, and nothing else moves");
}

#[test]
fn what_is_due_is_done() {
    // Whatever happens: a time that has come and stays due would have the loop run without a pause.
    let mut random = fastrand::Rng::with_seed(7);
    for size in [(80, 24), (200, 150)] {
        let mut model = busy(size);
        let mut now = model.now;
        for step in 0..3000 {
            let id = random.u64(1..200);
            match random.u32(0..12) {
                0..3 => model.hear(&event(HappeningKind::Submitted, id, step)),
                3..6 => model.hear(&started(id, random.u32(0..4), step)),
                6..8 => model.hear(&ended(id, State::Succeeded, 0, step)),
                8 => type_text(&mut model, ["1", "2", "3", "4", "j", "G", "/x"][random.usize(0..7)]),
                9 => press(&mut model, &[KeyCode::Enter, KeyCode::Esc]),
                10 => model.take(Reading::Queue { after: 0, jobs: Vec::new(), next: Some(9) }),
                _ if random.bool() => model.on_lost(),
                _ => model.hear(&Happening::new(HappeningKind::Listening, AT.to_owned())),
            }
            now += random.i64(0..500_000);
            now = now.max(model.due().unwrap_or(now));
            model.advance(now);
            assert!(model.due().is_none_or(|due| due > now), "step {step}: {:?} at {now}", model.due());
        }
    }
}

#[test]
fn counts_are_read_again_when_it_is_quiet() {
    let mut model = model((80, 24));
    model.hear(&event(HappeningKind::Submitted, 7, 0));
    assert_eq!(model.pools.queued(), 1_000_003);
    model.advance(start() + SECOND / 2);
    assert_eq!(model.wishes(), []);
    model.advance(start() + SECOND);
    assert_eq!(model.wishes(), [Wish::ReadPools { changes: 0 }]);

    // Events without a pause: every five seconds.
    let mut readings = 0;
    for step in 10..200 {
        model.advance(start() + step * SECOND / 10);
        model.hear(&event(HappeningKind::Submitted, 7 + step as u64, step * 100));
        readings += model.wishes().iter().filter(|wish| matches!(wish, Wish::ReadPools { .. })).count();
    }
    assert_eq!(readings, 3);
}

#[test]
fn what_has_changed_since_a_reading_was_asked_for_stays() {
    let mut model = model((80, 24));
    let asked_at = model.pools.changes();
    model.hear(&started(7, 0, 0));
    let mut read = pools();
    read[0].slots[1] = slot(1, SlotState::Busy, Some(6));
    read[0].queued = 5;
    model.take(Reading::Pools { pools: read, changes: asked_at });
    let job = |number| model.pools.slot("default", number).unwrap().job.as_ref().map(|job| job.id);
    assert_eq!((job(0), job(1), model.pools.queued()), (Some(7), Some(6), 7));
}

#[test]
fn a_short_job_costs_no_reading() {
    let mut model = model((80, 24));
    model.hear(&started(7, 0, 0));
    model.hear(&started(8, 1, 0));
    model.advance(start() + 1);
    model.hear(&ended(7, State::Succeeded, 0, 100));
    model.advance(start() + SECOND / 5);
    assert_eq!(model.wishes(), []);
    assert_eq!(model.due(), Some(start() + 1 + 300_000));
    model.advance(start() + SECOND / 2);
    model.settle();
    assert_eq!(model.wishes(), [Wish::ReadJobs(vec![8])]);
    model.settle();
    assert_eq!(model.wishes(), [], "once");
}

#[test]
fn a_million_jobs_take_little_room() {
    let mut model = model((80, 24));
    press(&mut model, &[KeyCode::Char('2')]);
    assert_eq!(model.wishes(), [Wish::ReadQueue { after: 0 }]);
    model.take(Reading::Queue { after: 0, jobs: Vec::new(), next: None });
    for id in 1..=100_000 {
        model.hear(&event(HappeningKind::Submitted, id, 0));
    }
    assert_eq!((model.queue.jobs.len(), model.queue.rest), (2000, Some(2000)));
    for id in 1..=2000 {
        model.hear(&started(id, 0, 0));
        model.hear(&ended(id, State::Succeeded, 0, 0));
    }
    assert_eq!((model.queue.jobs.len(), model.ended.jobs.len()), (0, 500));
    assert_eq!(model.pools.queued(), 1_000_002 + 98_000);

    model.advance(start() + 2 * SECOND);
    let wishes = model.wishes();
    assert!(wishes.contains(&Wish::ReadQueue { after: 2000 }), "{wishes:?}");
}

#[test]
fn jobs_move_as_events_tell() {
    let mut model = busy((80, 24));
    model.hear(&Happening { reason: Some("a crash".into()), ..event(HappeningKind::Requeued, 7, 0) });
    let job = &model.queue.jobs[&7];
    assert_eq!((job.state, job.note.as_deref()), (State::Queued, Some("a crash")));
    assert!(model.pools.slot("default", 0).unwrap().job.is_none());
    model.hear(&event(HappeningKind::Held, 7, 0));
    assert_eq!(model.queue.jobs[&7].state, State::Held);
    model.hear(&event(HappeningKind::Requeued, 9, 0));
    assert!(model.ended.find(9).is_none() && model.queue.jobs.contains_key(&9));
    let edited = Happening { pool: Some("gpu".into()), ..event(HappeningKind::Edited, 11, 0) };
    let before = model.pools.find("gpu").unwrap().queued;
    model.hear(&edited);
    let job = &model.queue.jobs[&11];
    assert_eq!((job.pool.as_str(), &job.work), ("gpu", &None), "to be read again");
    assert_eq!(model.pools.find("gpu").unwrap().queued, before + 1);
    model.hear(&event(HappeningKind::Stopping, 8, 0));
    assert_eq!(model.pools.slot("default", 2).unwrap().job.as_ref().unwrap().state, State::Stopping);
    model.hear(&Happening {
        pool: Some("gpu".into()),
        ..Happening::new(HappeningKind::PoolResumed, AT.to_owned())
    });
    assert!(!model.pools.find("gpu").unwrap().is_paused);
}

#[test]
fn a_cancel_is_asked_for_and_may_be_refused() {
    let mut model = busy((80, 24));
    press(&mut model, &[KeyCode::Down, KeyCode::Char('c')]);
    assert!(matches!(&model.mode, Mode::Confirm(question, Act::Cancel(7)) if question.contains("job 7")));
    press(&mut model, &[KeyCode::Enter]);
    assert_eq!((model.wishes(), &model.mode), (vec![], &Mode::Look));
    press(&mut model, &[KeyCode::Char('c'), KeyCode::Char('y')]);
    assert_eq!(model.wishes(), [Wish::Act(Act::Cancel(7))]);
    model.take(Reading::Refused("job 7 has been pruned".to_owned()));
    assert!(picture(&mut model).contains("job 7 has been pruned"));
}

#[test]
fn keys_act_on_what_is_selected() {
    let mut model = busy((80, 24));
    type_text(&mut model, "p");
    assert_eq!(model.wishes(), [Wish::Act(Act::Pause("default".to_owned(), true))]);
    type_text(&mut model, "jp");
    assert_eq!(model.wishes(), [Wish::Act(Act::Freeze(7, true))]);
    model.take(Reading::Done(Act::Freeze(7, true), "job 7 is paused".to_owned()));
    type_text(&mut model, "p");
    assert_eq!(model.wishes(), [Wish::Act(Act::Freeze(7, false))]);
    type_text(&mut model, "Gp");
    type_text(&mut model, "h");
    assert_eq!(model.wishes(), [], "the slot has no job");

    // The queue is by priority; the last job is held.
    type_text(&mut model, "2h");
    let wishes = model.wishes();
    assert!(wishes.contains(&Wish::Act(Act::Hold(13))), "{wishes:?}");
    type_text(&mut model, "Gh");
    assert_eq!(model.wishes(), [Wish::Act(Act::Release(14))]);
    type_text(&mut model, "r");
    assert!(model.message.as_ref().is_some_and(|(message, _)| message.contains("has not ended")));
    type_text(&mut model, "e");
    assert_eq!(model.wishes(), [Wish::Edit(14)]);

    type_text(&mut model, "3r");
    assert_eq!(model.wishes(), [Wish::Act(Act::Retry(10))]);
    type_text(&mut model, "q");
    assert_eq!(model.wishes(), [Wish::Quit]);
}

#[test]
fn rows_are_filtered_and_sorted() {
    let mut model = busy((80, 24));
    type_text(&mut model, "2/@nig");
    assert_eq!(model.seen_rows().0.len(), 1);
    press(&mut model, &[KeyCode::Enter, KeyCode::Char('1')]);
    assert!(picture(&mut model).contains("filter: @nig"));
    press(&mut model, &[KeyCode::Esc, KeyCode::Char('2')]);
    assert_eq!(model.seen_rows().0.len(), 4);
    type_text(&mut model, "/held");
    press(&mut model, &[KeyCode::Esc]);
    assert_eq!(model.seen_rows().0.len(), 4, "as before");

    let first = |model: &Model| model.job_of(&model.seen_rows().0[0]).unwrap().id;
    assert_eq!(first(&model), 13, "by priority");
    type_text(&mut model, "s");
    assert_eq!(first(&model), 11, "by id");
    type_text(&mut model, "S");
    assert_eq!(first(&model), 14);
}

#[test]
fn the_mouse_selects_and_opens() {
    let mut model = busy((80, 24));
    click(&mut model, 20, 4);
    assert_eq!((model.seen_rows().1, model.story.is_some()), (Some(1), false));
    click(&mut model, 20, 4);
    assert_eq!(model.story.as_ref().map(|story| story.id), Some(7));
    let wishes = model.wishes();
    assert!(wishes.contains(&Wish::OpenLog(7)), "{wishes:?}");
    click(&mut model, 12, 1);
    assert_eq!((model.tab, model.story.is_some()), (Tab::Queue, false));
    assert!(model.wishes().contains(&Wish::CloseLog));
    let wheel =
        MouseEvent { kind: MouseEventKind::ScrollDown, column: 1, row: 1, modifiers: KeyModifiers::NONE };
    model.point(wheel);
    model.settle();
    assert_eq!(model.seen_rows().1, Some(3));
    click(&mut model, 20, 20);
    assert_eq!(model.seen_rows().1, Some(3), "there is no row");
}

#[test]
fn poold_may_go_and_come_back() {
    let mut model = busy((80, 24));
    press(&mut model, &[KeyCode::Down, KeyCode::Enter]);
    model.wishes();
    model.on_lost();
    model.advance(start() + 130 * SECOND);
    assert_eq!(model.presence, Presence::Away(start() + 120 * SECOND));
    assert!(picture(&mut model).contains("poold has been away for 10s"));
    assert_eq!(model.due(), Some(start() + 131 * SECOND));

    model.hear(&Happening::new(HappeningKind::Listening, AT.to_owned()));
    let wishes = model.wishes();
    assert!(wishes.iter().any(|wish| matches!(wish, Wish::ReadAll { .. })), "{wishes:?}");
    assert!(wishes.contains(&Wish::OpenLog(7)), "the log goes on: {wishes:?}");
    assert!(!picture(&mut model).contains("away"));
}

#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let mut model = busy((80, 24));
    model.tell("something");
    model.hear(&event(HappeningKind::Submitted, 50, 0));
    model.advance(start() - 3600 * SECOND);
    let wishes = model.wishes();
    assert!(wishes.iter().any(|wish| matches!(wish, Wish::ReadPools { .. })), "{wishes:?}");
    assert!(model.message.is_none());
    assert!(model.due().is_none_or(|due| due <= start() - 3599 * SECOND), "{:?}", model.due());
}

#[test]
fn an_element_of_an_array_is_named_as_people_write_it() {
    let mut model = busy((80, 24));
    let element: Record = {
        let mut value = serde_json::to_value(record(12, State::Queued, &["true"])).unwrap();
        value["array"] = serde_json::json!({ "id": 11, "elements": 3, "index": 0 });
        serde_json::from_value(value).unwrap()
    };
    model.take(Reading::Queue { after: 0, jobs: vec![element], next: None });
    press(&mut model, &[KeyCode::Char('2')]);
    assert!(picture(&mut model).contains("    11.0 - queued"), "{}", picture(&mut model));
    press(&mut model, &[KeyCode::Char('c')]);
    assert!(picture(&mut model).contains("Cancel job 11.0? y / n"));
    press(&mut model, &[KeyCode::Char('y')]);
    model.take(Reading::Done(Act::Hold(12), "job 12 is held".to_owned()));
    assert!(picture(&mut model).contains("job 11.0 is held"));
}
