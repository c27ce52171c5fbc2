//! Where things are on the screen: for the view, which draws them there, and for the mouse.

use ratatui::layout::{Position, Rect};

/// The tabs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tab {
    #[default]
    Pools,
    Queue,
    Ended,
    Charts,
}

impl Tab {
    /// All tabs, in order.
    pub const ALL: [Self; 4] = [Self::Pools, Self::Queue, Self::Ended, Self::Charts];

    /// Its title, with the key that leads there.
    pub fn title(self) -> &'static str {
        match self {
            Self::Pools => " 1 Pools ",
            Self::Queue => " 2 Queue ",
            Self::Ended => " 3 Ended ",
            Self::Charts => " 4 Charts ",
        }
    }
}

/// From this width on a job's log stands beside its story.
const WIDE: u16 = 120;

/// From this height on the tab of pools has charts below.
const HIGH: u16 = 20;

/// The rows of these charts.
const STRIP: u16 = 5;

/// See the module's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    pub header: Rect,
    pub tabs: Rect,
    /// The names of the columns.
    pub columns: Rect,
    pub rows: Rect,
    /// The charts below the pools: none if there is no room.
    pub strip: Option<Rect>,
    /// All between tabs and footer.
    pub body: Rect,
    pub footer: Rect,
}

impl Plan {
    /// The plan of a screen of that size.
    pub fn of(size: (u16, u16), tab: Tab) -> Self {
        let (width, height) = size;
        let line = |y: u16| Rect::new(0, y.min(height), width, u16::from(y < height));
        let body = Rect::new(0, 2.min(height), width, height.saturating_sub(3));
        let strip =
            (tab == Tab::Pools && height >= HIGH).then(|| Rect::new(0, body.bottom() - STRIP, width, STRIP));
        let rows = body.height.saturating_sub(1 + strip.map_or(0, |strip| strip.height));
        Self {
            header: line(0),
            tabs: line(1),
            columns: line(2),
            rows: Rect::new(0, 3.min(height), width, rows),
            strip,
            body,
            footer: Rect { height: u16::from(height > 2), ..line(height.saturating_sub(1)) },
        }
    }

    /// The panes of a job: its story and its log beside each other, or one of them.
    pub fn panes(&self) -> [Option<Rect>; 2] {
        if self.body.width < WIDE {
            return [None, None];
        }
        let story = Rect { width: self.body.width * 2 / 5, ..self.body };
        let log = Rect { x: story.right() + 1, width: self.body.width - story.width - 1, ..self.body };
        [Some(story), Some(log)]
    }

    /// The tab at that place.
    pub fn tab_at(&self, column: u16, row: u16) -> Option<usize> {
        if !self.tabs.contains(Position::new(column, row)) {
            return None;
        }
        let mut end = 0;
        Tab::ALL.iter().position(|tab| {
            end += tab.title().len() as u16;
            column < end
        })
    }

    /// The row at that place, counted from the first on the screen.
    pub fn row_at(&self, column: u16, row: u16) -> Option<usize> {
        let is_in = self.rows.contains(Position::new(column, row));
        is_in.then(|| usize::from(row - self.rows.y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_outside_of_the_screen() {
        for width in [0, 1, 80, 200] {
            for height in 0..60 {
                for tab in Tab::ALL {
                    let plan = Plan::of((width, height), tab);
                    let screen = Rect::new(0, 0, width, height);
                    let parts =
                        [plan.header, plan.tabs, plan.columns, plan.rows, plan.body, plan.footer].into_iter();
                    let panes = plan.panes().into_iter().flatten();
                    for part in parts.chain(plan.strip).chain(panes) {
                        assert_eq!(part.intersection(screen), part, "{width}x{height} {plan:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_mouse_finds_what_is_drawn() {
        let plan = Plan::of((80, 24), Tab::Pools);
        assert_eq!([0, 8, 9, 30, 79].map(|x| plan.tab_at(x, 1)), [Some(0), Some(0), Some(1), Some(3), None]);
        assert_eq!([2, 3, 17, 18].map(|y| plan.row_at(5, y)), [None, Some(0), Some(14), None]);
        assert_eq!((plan.rows.height, plan.strip.map(|strip| strip.y)), (15, Some(18)));
    }
}
