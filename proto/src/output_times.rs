//! When an attempt wrote its output, as poold notes it beside the file: in the extended attribute
//! [`ATTRIBUTE`] of each of the two files.
//!
//! The attribute is a sequence of marks, oldest first, each of 16 bytes: a time in microseconds since 1970,
//! and how many bytes the file had by then; both little-endian. What stands behind these bytes was written
//! later. There is at most one mark a second of writing. Where there are more than [`MAX_MARKS`], those are
//! left out whose neighbours are nearest for their age: so a time is told to about a fifth of how long ago it
//! was. An attempt of less than a second has none, nor has one whose file system takes no such attributes.

/// The name of the attribute.
pub const ATTRIBUTE: &str = "user.poold.times";

/// The greatest number of marks of a file: some file systems give an attribute little more room.
pub const MAX_MARKS: usize = 96;

/// The greatest length of the attribute, in bytes.
pub const MAX_BYTES: usize = MAX_MARKS * MARK;

const MARK: usize = 16;

/// By this time the file had so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// In microseconds since 1970.
    pub at_us: i64,
    /// The length of the file.
    pub bytes: u64,
}

/// The marks of a file, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks(Vec<Mark>);

impl Marks {
    /// Adds a mark. False where it says nothing new. A file that has become shorter begins anew.
    pub fn add(&mut self, mark: Mark) -> bool {
        match self.0.last() {
            Some(last) if last.bytes == mark.bytes => return false,
            Some(last) if last.bytes > mark.bytes => self.0.clear(),
            Some(_) | None => {}
        }
        self.0.push(mark);
        if self.0.len() > MAX_MARKS {
            self.0.remove(self.least());
        }
        true
    }

    /// The place of the mark that is missed least: never the first nor the last one.
    fn least(&self) -> usize {
        let now_us = self.0.last().map_or(0, |last| last.at_us);
        let gap = |three: &[Mark]| {
            let span = |from: i64, to: i64| to.saturating_sub(from).max(1) as f64;
            span(three[0].at_us, three[2].at_us) / span(three[0].at_us, now_us)
        };
        let gaps = self.0.windows(3).map(gap).enumerate();
        gaps.min_by(|(_, one), (_, other)| one.total_cmp(other)).map_or(0, |(place, _)| place + 1)
    }

    /// Where what was written since this time begins, or a little before that. None where that is not known.
    pub fn begin_since(&self, since_us: i64) -> Option<u64> {
        let before = self.0.iter().rev().find(|mark| mark.at_us <= since_us);
        self.0.first().map(|_| before.map_or(0, |mark| mark.bytes))
    }

    /// As they stand in the attribute.
    pub fn encode(&self) -> Vec<u8> {
        self.0
            .iter()
            .flat_map(|mark| [mark.at_us.to_le_bytes(), mark.bytes.to_le_bytes()])
            .flatten()
            .collect()
    }

    /// From the attribute. What is left of a mark at its end is ignored.
    pub fn decode(bytes: &[u8]) -> Self {
        let eight = |bytes: &[u8]| bytes.try_into().unwrap_or_default();
        let mark = |bytes: &[u8]| Mark {
            at_us: i64::from_le_bytes(eight(&bytes[..8])),
            bytes: u64::from_le_bytes(eight(&bytes[8..])),
        };
        Self(bytes.chunks_exact(MARK).map(mark).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(all: &[(i64, u64)]) -> Marks {
        let mut marks = Marks::default();
        all.iter().for_each(|&(at_us, bytes)| _ = marks.add(Mark { at_us, bytes }));
        marks
    }

    #[test]
    fn what_was_written_since_a_time_begins_at_the_mark_before() {
        assert_eq!(Marks::default().begin_since(5), None);
        let marks = marks(&[(10, 0), (20, 100), (30, 250)]);
        for (since_us, begin) in [(9, 0_u64), (10, 0), (19, 0), (20, 100), (29, 100), (30, 250), (99, 250)] {
            assert_eq!(marks.begin_since(since_us), Some(begin), "{since_us}");
        }
        assert_eq!(Marks::decode(&marks.encode()), marks);
        assert_eq!(Marks::decode(&marks.encode()[..40]).begin_since(99), Some(100));
    }

    #[test]
    fn what_says_nothing_new_is_left_out_and_a_shorter_file_begins_anew() {
        let mut marks = marks(&[(10, 0), (20, 100)]);
        assert!(!marks.add(Mark { at_us: 30, bytes: 100 }));
        assert!(marks.add(Mark { at_us: 40, bytes: 7 }));
        assert_eq!(marks.begin_since(25), Some(0));
        assert_eq!(marks.begin_since(50), Some(7));
    }

    #[test]
    fn however_long_it_writes_times_are_as_fine_as_they_are_near() {
        // A day.
        let all: Vec<(i64, u64)> =
            (0..86_400_i64).map(|second| (second * 1_000_000, second.unsigned_abs())).collect();
        let marks = marks(&all);
        assert!(marks.encode().len() <= MAX_BYTES);
        for (since_us, bytes) in all {
            let begin = marks.begin_since(since_us).unwrap();
            assert!(begin <= bytes, "nothing that was written since then is left out");
            let ago = 86_399 - bytes;
            assert!(bytes - begin <= 1 + ago / 4, "{begin} for {bytes}, {ago} s ago");
        }
    }
}
