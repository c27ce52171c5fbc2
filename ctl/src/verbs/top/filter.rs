//! What the user wants to see: words that a row must have, all of them. A word `@gpu` is a label.

use super::job::Job;

/// See the module's description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    text: String,
    words: Vec<String>,
}

impl Filter {
    /// As the user has typed it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Sets what the user has typed.
    pub fn set(&mut self, text: String) {
        self.words = text.split_whitespace().map(str::to_lowercase).collect();
        self.text = text;
    }

    /// Whether everything is shown.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether a job is shown.
    pub fn fits(&self, job: &Job) -> bool {
        self.words.iter().all(|word| match word.strip_prefix('@') {
            Some(label) => job.labels.iter().any(|other| other.to_lowercase().starts_with(label)),
            None => {
                let has = |text: &str| text.to_lowercase().contains(word.as_str());
                job.id.to_string().starts_with(word.as_str())
                    || job.element.as_ref().is_some_and(|element| element.starts_with(word.as_str()))
                    || has(&job.pool)
                    || has(&job.word())
                    || has(job.state.as_str())
                    || job.work.as_deref().is_some_and(has)
                    || job.labels.iter().any(|label| has(label))
            }
        })
    }

    /// Whether a pool is shown although no job of it is.
    pub fn fits_pool(&self, name: &str) -> bool {
        self.words.iter().all(|word| name.to_lowercase().contains(word.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use pool_proto::State;

    use super::*;

    #[test]
    fn a_row_must_have_all_words() {
        let mut job = Job::bare(12, "gpu", State::Running);
        job.work = Some("Train --fast".to_owned());
        job.labels = vec!["night".to_owned()];
        for (text, wanted) in [
            ("", true),
            ("train gpu", true),
            ("train cpu", false),
            ("run 12", true),
            ("2", false),
            ("@night", true),
            ("@gpu", false),
        ] {
            let mut filter = Filter::default();
            filter.set(text.to_owned());
            assert_eq!(filter.fits(&job), wanted, "{text}");
        }
    }
}
