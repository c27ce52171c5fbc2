//! What a listing may go by besides a job's place: its name, its time and its exit code.

use pool_proto::nouns::ResultKind;

use super::ExitCodes;

/// What of a job a filter looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traits<'a> {
    /// In its escaped form.
    pub name: Option<&'a str>,
    /// In microseconds since 1970.
    pub submitted_us: i64,
    pub ended_us: Option<i64>,
    /// Of the end.
    pub result: Option<ResultKind>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
}

/// Which jobs are wanted: all of them where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// A name in its escaped form, in which `*` stands for any text and `?` for one character.
    pub name: Option<String>,
    /// In microseconds since 1970: not those that had ended before.
    pub since_us: Option<i64>,
    /// Those that were submitted before.
    pub until_us: Option<i64>,
    /// Those that have ended with one of these.
    pub codes: Option<ExitCodes>,
}

impl Filter {
    /// Whether every job fits.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    pub fn fits(&self, job: &Traits<'_>) -> bool {
        let has_name = |pattern: &String| job.name.is_some_and(|name| matches(pattern, name));
        let lived = |since_us: i64| job.ended_us.is_none_or(|ended_us| ended_us >= since_us);
        self.name.as_ref().is_none_or(has_name)
            && self.since_us.is_none_or(lived)
            && self.until_us.is_none_or(|until_us| job.submitted_us < until_us)
            && self.codes.is_none_or(|codes| job.code().is_some_and(|code| codes.contains(code)))
    }
}

impl Traits<'_> {
    /// The exit code, as poolctl has it; none before the end.
    fn code(&self) -> Option<u8> {
        self.ended_us?;
        Some(match (self.result, self.exit_code, self.signal) {
            (Some(ResultKind::Timeout), ..) => 124,
            // It ended by itself, and has failed all the same.
            (Some(ResultKind::Error), Some(0), _) => 125,
            (_, Some(code), _) => code.clamp(0, 255) as u8,
            (_, None, Some(signal)) => signal.saturating_add(128).clamp(0, 255) as u8,
            (_, None, None) => 125,
        })
    }
}

/// Whether the text is as the pattern says. It takes time in the product of both lengths at most.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to go on with the last `*` one character later.
    let mut again: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let rest = text.clone();
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                again = Some((pattern.clone(), rest.clone()));
                text = rest;
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => {
                let Some((after_star, mut from)) = again.take() else { return false };
                if from.next().is_none() {
                    return false;
                }
                pattern = after_star.clone();
                text = from.clone();
                again = Some((after_star, from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        for (pattern, text, wanted) in [
            ("build", "build", true),
            ("build", "builds", false),
            ("b*", "build", true),
            ("*d", "build", true),
            ("*u*l*", "build", true),
            ("b?ild", "build", true),
            ("b?ild", "bild", false),
            ("*", "", true),
            ("", "", true),
            ("?", "", false),
            ("*a*b", "aab", true),
            ("*ab", "aabab", true),
            ("a*b*c", "a-b-b-d", false),
            ("日*", "日本", true),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
        // Not exponential.
        assert!(!matches(&format!("{}b", "*a".repeat(50)), &"a".repeat(5000)));
    }

    #[test]
    fn codes_are_those_of_poolctl() {
        let ended = Traits { ended_us: Some(9), ..Traits::default() };
        let code = |result, exit_code, signal| {
            Traits { result: Some(result), exit_code, signal, ..ended }.code().unwrap()
        };
        assert_eq!(code(ResultKind::ExitCode, Some(3), None), 3);
        assert_eq!(code(ResultKind::Signal, None, Some(9)), 137);
        assert_eq!(code(ResultKind::Timeout, Some(0), None), 124);
        assert_eq!(code(ResultKind::Error, Some(0), None), 125);
        assert_eq!(code(ResultKind::Lost, None, None), 125);
        assert_eq!(Traits::default().code(), None);
    }

    #[test]
    fn times_take_what_has_lived_between_them() {
        let filter = Filter { since_us: Some(10), until_us: Some(20), ..Filter::default() };
        let fits =
            |submitted_us, ended_us| filter.fits(&Traits { submitted_us, ended_us, ..Traits::default() });
        assert!(fits(5, None) && fits(5, Some(10)) && fits(19, Some(30)));
        assert!(!fits(5, Some(9)) && !fits(20, None));
        assert!(Filter::default().is_open() && !filter.is_open());
    }
}
