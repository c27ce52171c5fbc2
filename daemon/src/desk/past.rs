//! What has happened of late, for listeners that come back: each happening has a number, and the latest ones
//! are kept in memory, so that a listener that names the last one that it has heard hears what came after it.
//!
//! Nothing is kept, and nothing counted, before somebody listens; and no more once so much has happened since
//! the last listener left that whoever comes back would have missed some of it anyway. So those who never
//! listen pay nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use pool_proto::nouns::Happening;

/// So many happenings are kept at most.
pub const MAX_KEPT: usize = 10_000;

/// What they take at most, nearly.
const MAX_BYTES: usize = 8 << 20;

/// See the module's description.
#[derive(Debug)]
pub struct Past {
    /// What cursors of this supervisor begin with, and those of no other one.
    start: String,
    /// The number of the latest happening, from 1 on.
    latest: u64,
    /// The latest ones, in order.
    kept: VecDeque<Arc<Happening>>,
    bytes: usize,
    /// The number of the latest happening when the last listener left. None while somebody listens.
    left_at: Option<u64>,
    is_kept: bool,
}

/// What came after a cursor.
#[derive(Debug)]
pub struct Since {
    /// Why some of it is not known any more, as a sentence.
    pub gap: Option<String>,
    pub happenings: Vec<Arc<Happening>>,
}

/// The cursor is none that this poold, or an earlier one, can have given out.
#[derive(Debug, PartialEq, Eq)]
pub struct NoCursor;

impl Past {
    /// `started_us`: a number that no earlier start has had.
    pub fn new(started_us: i64) -> Self {
        Self {
            start: format!("{started_us:x}"),
            latest: 0,
            kept: VecDeque::new(),
            bytes: 0,
            left_at: None,
            is_kept: false,
        }
    }

    /// Whether what happens is to be told to [`note`](Self::note).
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Somebody hears all that happens from now on.
    pub fn on_listening(&mut self) {
        (self.is_kept, self.left_at) = (true, None);
    }

    /// Nobody listens any more.
    pub fn on_last_left(&mut self) {
        self.left_at = Some(self.latest);
    }

    /// Something has happened that nobody will be told: no listener hears of it by coming back.
    pub fn lose(&mut self) {
        self.latest += 1;
        self.kept.clear();
        self.bytes = 0;
    }

    /// The cursor of the latest happening.
    pub fn cursor(&self) -> String {
        format!("{}-{}", self.start, self.latest)
    }

    /// Keeps what has happened, with its cursor.
    pub fn note(&mut self, happening: Arc<Happening>) -> Arc<Happening> {
        if !self.is_kept {
            return happening;
        }
        self.latest += 1;
        let cursor = Some(self.cursor());
        let happening = Arc::new(Happening { cursor, ..Arc::unwrap_or_clone(happening) });
        self.bytes += bytes_of(&happening);
        self.kept.push_back(happening.clone());
        while self.kept.len() > MAX_KEPT || self.bytes > MAX_BYTES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= bytes_of(&oldest);
        }
        if self.left_at.is_some_and(|left_at| left_at < self.before_kept()) {
            self.lose();
            self.is_kept = false;
        }
        happening
    }

    /// The number of the happening before the first that is kept.
    fn before_kept(&self) -> u64 {
        self.latest - self.kept.len() as u64
    }

    /// What came after that cursor.
    ///
    /// # Errors
    /// Where that is none.
    pub fn since(&self, cursor: &str) -> Result<Since, NoCursor> {
        let (start, number) = cursor.split_once('-').ok_or(NoCursor)?;
        let is_start = !start.is_empty() && start.chars().all(|char| char.is_ascii_hexdigit());
        let number: u64 = number.parse().ok().filter(|_| is_start).ok_or(NoCursor)?;
        let all = || self.kept.iter().cloned().collect();
        if start != self.start {
            let gap = "the cursor is of an earlier start of poold".to_owned();
            return Ok(Since { gap: Some(gap), happenings: all() });
        }
        match number.checked_sub(self.before_kept()) {
            _ if number > self.latest => Err(NoCursor),
            Some(known) => {
                let after = usize::try_from(known).unwrap_or(usize::MAX);
                Ok(Since { gap: None, happenings: self.kept.iter().skip(after).cloned().collect() })
            }
            None => {
                let gap = format!("more has happened since than is kept ({MAX_KEPT} events)");
                Ok(Since { gap: Some(gap), happenings: all() })
            }
        }
    }
}

/// What it takes in memory, nearly.
fn bytes_of(happening: &Happening) -> usize {
    let Happening { at, pool, name, reason, progress, cursor, .. } = happening;
    let texts = [Some(at), pool.as_ref(), reason.as_ref(), cursor.as_ref()];
    let progress = progress.as_ref().and_then(|progress| progress.text.as_ref());
    size_of::<Happening>()
        + texts.into_iter().flatten().map(String::len).sum::<usize>()
        + name.as_ref().map_or(0, |name| name.len())
        + progress.map_or(0, |text| text.len())
}

#[cfg(test)]
mod tests {
    use pool_proto::nouns::HappeningKind;

    use super::*;

    fn happening(id: u64) -> Arc<Happening> {
        Arc::new(Happening { id: Some(id), ..Happening::new(HappeningKind::Ended, String::new()) })
    }

    fn listened() -> Past {
        let mut past = Past::new(0xabc);
        past.on_listening();
        past
    }

    fn ids(since: Result<Since, NoCursor>) -> (Vec<u64>, bool) {
        let since = since.expect("it is a cursor");
        (since.happenings.iter().filter_map(|happening| happening.id).collect(), since.gap.is_some())
    }

    #[test]
    fn who_comes_back_hears_what_came_after() {
        let mut past = listened();
        assert_eq!((past.cursor().as_str(), ids(past.since("abc-0"))), ("abc-0", (vec![], false)));
        let cursors: Vec<String> = (1..=3).filter_map(|id| past.note(happening(id)).cursor.clone()).collect();
        assert_eq!(cursors, ["abc-1", "abc-2", "abc-3"]);
        assert_eq!(ids(past.since("abc-1")), (vec![2, 3], false));
        assert_eq!(ids(past.since("abc-3")), (vec![], false));
        assert_eq!(ids(past.since("abd-1")), (vec![1, 2, 3], true), "of an earlier start");
        for none in ["abc-4", "abc", "abc-", "-1", "abc-x", "x-1", ""] {
            assert_eq!(past.since(none).err(), Some(NoCursor), "{none:?}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_gap_is_told() {
        let mut past = listened();
        for id in 1..=MAX_KEPT as u64 + 5 {
            past.note(happening(id));
        }
        let (all, gap) = ids(past.since("abc-4"));
        assert_eq!((all.len(), all[0], gap), (MAX_KEPT, 6, true));
        assert!(!ids(past.since("abc-5")).1);

        let long = "x".repeat(1 << 20);
        for id in 0..20 {
            past.note(Arc::new(Happening { reason: Some(long.clone()), ..Happening::clone(&happening(id)) }));
        }
        assert!(past.kept.len() < 9 && past.bytes <= MAX_BYTES, "{}", past.kept.len());
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let mut past = Past::new(0xabc);
        assert_eq!(past.note(happening(1)).cursor, None);
        past.on_listening();
        past.note(happening(2));
        past.on_last_left();
        for id in 3..3 + MAX_KEPT as u64 - 1 {
            past.note(happening(id));
        }
        assert!(past.is_kept() && !ids(past.since("abc-1")).1, "somebody may come back");
        past.note(happening(9));
        past.note(happening(10));
        assert!(!past.is_kept() && past.kept.is_empty());
        past.on_listening();
        let at_the_end = format!("abc-{}", MAX_KEPT + 2);
        assert_eq!(ids(past.since(&at_the_end)), (vec![], true), "some went by while nothing was kept");
    }

    #[test]
    fn what_nobody_was_told_is_a_gap() {
        let mut past = listened();
        past.note(happening(1));
        past.lose();
        past.note(happening(2));
        assert_eq!(ids(past.since("abc-1")), (vec![2], true));
        assert_eq!(ids(past.since("abc-2")), (vec![2], false));
    }
}
