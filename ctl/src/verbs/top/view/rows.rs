//! The tables: pools with their slots, the queue, the jobs that have ended.

use pool_proto::nouns::SlotState;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::super::cursor::Row;
use super::super::job::{Job, Micros};
use super::super::model::Model;
use super::super::plan::{Plan, Tab};
use super::super::pools::{PoolRow, SlotRow};
use super::palette::Palette;
use super::pen::Pen;
use super::text::grouped;
use crate::tell::when;
use crate::term::style::Tone;
use crate::term::width::cell;

/// Columns for labels, where there is room for them.
const LABELS: usize = 20;
const WIDE: usize = 110;

/// The width of the bar of busy slots.
const BAR: usize = 12;

const ID: usize = 8;
const STATE: usize = 11;
const POOL: usize = 10;
const TIME: usize = 10;
const SLOT: usize = 5;
const CLOCK: usize = 8;

/// Draws the table of the tab.
pub fn draw(model: &Model, palette: Palette, plan: &Plan, buffer: &mut Buffer) {
    draw_heads(model, palette, plan.columns, buffer);
    let (rows, selected) = model.seen_rows();
    if rows.is_empty() {
        let said = match model.tab {
            _ if !model.is_read() => "reading ...",
            _ if !model.filter.is_empty() => "no row fits the filter: Esc shows all",
            Tab::Queue => "no job waits",
            Tab::Ended => "no job has ended",
            Tab::Pools | Tab::Charts => "",
        };
        let line = Rect { height: plan.rows.height.min(1), ..plan.rows };
        Pen::at(buffer, line).write(&format!(" {said}"), palette.of(Tone::Faint));
    }

    for (place, row) in rows.iter().enumerate() {
        let line = Rect { y: plan.rows.y + place as u16, height: 1, ..plan.rows };
        match row {
            Row::Pool(name) => {
                model.pools.find(name).into_iter().for_each(|pool| draw_pool(pool, palette, line, buffer));
            }
            Row::Slot(pool, number) => {
                let slot = model.pools.slot(pool, *number);
                slot.into_iter().for_each(|slot| draw_slot(slot, model.now, palette, line, buffer));
            }
            Row::Job(_) => {
                model.job_of(row).into_iter().for_each(|job| draw_job(job, model, palette, line, buffer));
            }
        }
        if selected == Some(place) {
            buffer.set_style(line, palette.selected());
        }
    }
}

fn draw_heads(model: &Model, palette: Palette, line: Rect, buffer: &mut Buffer) {
    let style = palette.of(Tone::Heading);
    let mut pen = Pen::at(buffer, line);
    match model.tab {
        Tab::Pools => {
            pen.right("SLOT", SLOT, style).right("JOB", ID, style).left("STATE", STATE, style);
            pen.right("TIME", TIME, style);
        }
        Tab::Queue => {
            pen.right("ID", ID, style).left("STATE", STATE, style).left("POOL", POOL, style);
            pen.left("SINCE", CLOCK, style);
        }
        Tab::Ended => {
            pen.right("ID", ID, style).left("RESULT", STATE, style).left("POOL", POOL, style);
            pen.left("ENDED", CLOCK, style).right("TIME", TIME, style);
        }
        Tab::Charts => return,
    }
    if usize::from(line.width) >= WIDE {
        pen.left("LABELS", LABELS, style);
    }
    pen.write("NAME / COMMAND", style);
}

fn draw_pool(pool: &PoolRow, palette: Palette, line: Rect, buffer: &mut Buffer) {
    let (busy, all) = (pool.busy(), pool.slots.len());
    let filled = (busy * BAR).div_ceil(all.max(1)).min(BAR);
    let bar = format!("[{}{}]", "#".repeat(filled), ".".repeat(BAR - filled));
    let mut pen = Pen::at(buffer, line);
    pen.left(&cell(&pool.name, 2 + SLOT + ID), 2 + SLOT + ID, palette.of(Tone::Heading));
    pen.write(&bar, palette.of(Tone::Running));
    pen.write(&format!(" {busy}/{all} busy, {} queued", grouped(pool.queued)), Style::new());
    if pool.is_paused {
        pen.write(", paused", palette.of(Tone::Attention));
    }
    if !pool.resources.is_empty() {
        pen.write("; ", Style::new()).rest(&pool.resources, Style::new());
    }
}

fn draw_slot(slot: &SlotRow, now: Micros, palette: Palette, line: Rect, buffer: &mut Buffer) {
    let mut pen = Pen::at(buffer, line);
    pen.right(&slot.number.to_string(), SLOT, palette.of(Tone::Faint));
    let Some(job) = &slot.job else {
        let tone = if slot.state == SlotState::Failed { Tone::Bad } else { Tone::Attention };
        pen.right("", ID, Style::new()).write(&slot.state.as_str().replace('_', " "), palette.of(tone));
        if let Some(reason) = &slot.reason {
            pen.write(": ", Style::new()).rest(reason, Style::new());
        }
        return;
    };
    pen.right(&job.shown_id(), ID, Style::new());
    draw_state(job, palette, &mut pen);
    pen.right(&job.ran_us(now).map(running_time).unwrap_or_default(), TIME, Style::new());
    draw_work(job, palette, line, &mut pen);
}

fn draw_job(job: &Job, model: &Model, palette: Palette, line: Rect, buffer: &mut Buffer) {
    let mut pen = Pen::at(buffer, line);
    pen.right(&job.shown_id(), ID, Style::new());
    draw_state(job, palette, &mut pen);
    pen.left(&cell(&job.pool, POOL), POOL, Style::new());
    let at = if model.tab == Tab::Ended { &job.ended_at } else { &job.submitted_at };
    pen.left(&at.as_deref().map(when::clock).unwrap_or_default(), CLOCK, palette.of(Tone::Faint));
    if model.tab == Tab::Ended {
        let time = job.ran_us(model.now).map(|time| when::short(duration(time)));
        pen.right(&time.unwrap_or_default(), TIME, Style::new());
    }
    draw_work(job, palette, line, &mut pen);
}

fn draw_state(job: &Job, palette: Palette, pen: &mut Pen<'_>) {
    pen.left(&format!("{} {}", job.mark(), job.word()), STATE, palette.of_job(job));
}

fn draw_work(job: &Job, palette: Palette, line: Rect, pen: &mut Pen<'_>) {
    if usize::from(line.width) >= WIDE {
        pen.left(&cell(&job.labels.join(" "), LABELS), LABELS, palette.of(Tone::Faint));
    }
    pen.rest(job.work.as_deref().unwrap_or("..."), Style::new());
    if let Some(note) = job.note.as_deref().filter(|_| pen.room() > 3) {
        pen.write("  ", Style::new()).rest(note, palette.of(Tone::Faint));
    }
}

/// The time of something that runs, in whole seconds, since it is drawn once a second.
fn running_time(time: Micros) -> String {
    when::age(duration(time))
}

fn duration(time: Micros) -> std::time::Duration {
    std::time::Duration::from_micros(time.max(0).unsigned_abs())
}
