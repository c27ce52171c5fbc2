//! Boots of the machine, and the clock of what waits.

use std::time::Duration;

use crate::job::micros;

/// A boot of the machine. What waits for a time is written down as microseconds since 1970, lest another boot
/// forget it; but as long as one boot lasts these go by its beginning and by what has passed since, however
/// the wall's clock is set meanwhile, and over any number of starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boot {
    /// None where the kernel does not tell.
    pub id: Option<String>,
    /// When it began, in microseconds since 1970, as the first start in it has reckoned; none in what was
    /// written before this was kept.
    pub began_us: Option<i64>,
}

impl Boot {
    /// This boot, as the clocks have it now. `wall_us`: in microseconds since 1970.
    pub fn found(id: Option<String>, wall_us: i64, since_boot: Duration) -> Self {
        Self { id, began_us: Some(wall_us.saturating_sub(micros(since_boot))) }
    }

    /// This boot, as a start has it that finds what the last one has written.
    #[must_use]
    pub fn after(self, last: &Self) -> Self {
        let is_the_same = self.id.is_some() && self.id == last.id;
        let began_us = last.began_us.filter(|_| is_the_same).or(self.began_us);
        Self { began_us, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(id: Option<&str>, began_us: Option<i64>) -> Boot {
        Boot { id: id.map(str::to_owned), began_us }
    }

    #[test]
    fn the_clock_of_a_boot_goes_on_until_the_next_one() {
        let now = boot(Some("a"), Some(7));
        assert_eq!(now.clone().after(&boot(Some("a"), Some(5))), boot(Some("a"), Some(5)));
        assert_eq!(now.clone().after(&boot(Some("a"), None)), now);
        assert_eq!(now.clone().after(&boot(Some("b"), Some(5))), now);
        assert_eq!(now.clone().after(&boot(None, Some(5))), now);
        let unknown = boot(None, Some(7));
        assert_eq!(unknown.clone().after(&boot(None, Some(5))), unknown);
    }
}
