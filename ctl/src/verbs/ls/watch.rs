//! `ls --watch`: the view, drawn anew when something happens. poold tells what happens; nothing is asked for
//! otherwise. Once a second the times on the screen go on, which asks poold nothing.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use pool_proto::Client;
use pool_proto::methods::{Events, List};

use super::{draw, usable_rows};
use crate::exit::ExitReason;
use crate::link::deadline::Deadline;
use crate::link::session::{News, Subscription};
use crate::tell::row::Column;
use crate::term::redraw::Redraw;
use crate::term::width::Size;
use crate::verbs::Context;
use crate::verbs::board::Board;

/// However much happens, the jobs are read anew no more often than that.
const LEAST: Duration = Duration::from_millis(250);

/// How often times on the screen go on.
const TICK: Duration = Duration::from_secs(1);

/// Shows the view until somebody ends it.
///
/// # Errors
/// When poold has gone for good, or stdout takes nothing.
pub fn run(
    context: &Context,
    list: &List,
    shown: &[Column],
    limit: Option<NonZeroU32>,
) -> anyhow::Result<ExitReason> {
    let pools = list.pool.clone().map(|pool| vec![pool]);
    let mut events =
        Subscription::open(&context.link, Events { pools, ..Events::default() }, Deadline::NEVER)?;
    let mut screen = Redraw::open()?;
    let mut view = View { list, shown, limit, client: None, board: None, is_stale: true, read_at: None };
    loop {
        let is_away = events.is_away();
        let mut failed = None;
        let news = events.next(|| match view.settle(context, &mut screen, is_away) {
            Ok(next) => next,
            Err(error) => {
                failed = Some(error);
                Deadline::after(TICK)
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        match news? {
            News::Reply(..) => view.is_stale = true,
            News::Lost => view.client = None,
            News::Back => view.is_stale = true,
        }
    }
}

struct View<'a> {
    list: &'a List,
    shown: &'a [Column],
    limit: Option<NonZeroU32>,
    client: Option<Client>,
    board: Option<Board>,
    /// Something has happened since the jobs were read.
    is_stale: bool,
    read_at: Option<Instant>,
}

impl View<'_> {
    /// Shows what there is, and reads it anew where it is stale and not too soon. Returns when to do so
    /// again.
    fn settle(&mut self, context: &Context, screen: &mut Redraw, is_away: bool) -> anyhow::Result<Deadline> {
        let size = Size::of_stdout().unwrap_or(Size::USUAL);
        let rows = self.limit.map_or(usable_rows(size), |limit| limit.get() as usize).min(size.rows);
        if self.is_stale && !is_away {
            let next = self.read_at.map(|at| at + LEAST).filter(|&next| next > Instant::now());
            if let Some(next) = next {
                return Ok(Deadline::at(next));
            }
            if self.read(context, rows).is_err() {
                // The subscription finds out what has become of poold.
                self.client = None;
            }
        }
        let drawn = self
            .board
            .clone()
            .map(|board| draw(board, rows, self.shown, size, *self.list == List::default()));
        screen.show(&drawn.unwrap_or_default(), if is_away { "poold is away" } else { "" }, size)?;
        Ok(Deadline::after(TICK))
    }

    fn read(&mut self, context: &Context, rows: usize) -> anyhow::Result<()> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(context.link.open()?),
        };
        self.is_stale = false;
        self.read_at = Some(Instant::now());
        self.board = Some(Board::read(client, self.list, rows)?);
        Ok(())
    }
}
