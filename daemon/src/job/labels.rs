//! The labels of a job, and the line that they put the job into.

use std::fmt;
use std::sync::Arc;

use super::Needs;

/// The labels of a job, in order, each once. Most jobs have none, which takes no memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Option<Arc<[Arc<str>]>>);

/// Between labels in their text. No label has it.
const SEPARATOR: char = ',';

impl Labels {
    pub const NONE: Self = Self(None);

    /// The labels in one text, as [`Display`](fmt::Display) writes them.
    pub fn parse(text: &str) -> Self {
        text.split(SEPARATOR).filter(|label| !label.is_empty()).map(Arc::from).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn has(&self, label: &str) -> bool {
        self.iter().any(|other| **other == *label)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().flat_map(|labels| labels.iter())
    }

    /// What they take in memory, nearly.
    pub fn bytes(&self) -> usize {
        self.iter().map(|label| label.len() + size_of::<Arc<str>>()).sum()
    }

    /// As records have them; none where there are none.
    pub fn to_names(&self) -> Option<Vec<String>> {
        self.0.as_ref().map(|labels| labels.iter().map(ToString::to_string).collect())
    }
}

impl FromIterator<Arc<str>> for Labels {
    fn from_iter<I: IntoIterator<Item = Arc<str>>>(labels: I) -> Self {
        let mut labels = Vec::from_iter(labels);
        labels.sort_unstable();
        labels.dedup();
        Self((!labels.is_empty()).then(|| labels.into()))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, label) in self.iter().enumerate() {
            if place > 0 {
                write!(formatter, "{SEPARATOR}")?;
            }
            formatter.write_str(label)?;
        }
        Ok(())
    }
}

/// Which line: what waits in one pool and needs the same, whether its labels have limits or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineKey {
    pub pool: Arc<str>,
    pub needs: Needs,
}

impl LineKey {
    /// The line of the jobs that need one slot and nothing else.
    pub fn plain(pool: &Arc<str>) -> Self {
        Self { pool: pool.clone(), needs: Needs::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_in_order_and_each_is_there_once() {
        let labels: Labels = ["gpu", "db", "gpu"].map(Arc::from).into_iter().collect();
        assert_eq!((labels.to_string().as_str(), labels.is_empty()), ("db,gpu", false));
        assert_eq!(Labels::parse("gpu,db"), labels);
        assert_eq!((Labels::parse(""), Labels::NONE.to_string().as_str()), (Labels::NONE, ""));
    }
}
