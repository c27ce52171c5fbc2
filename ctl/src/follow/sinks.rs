//! Where the output of a followed job goes.

use crate::term::outlet::Outlet;
use crate::term::stream::Stream;

/// Which streams of a job go to which of ours.
#[derive(Debug, Clone)]
pub struct Sinks {
    /// Whether the job's stdout goes to our stdout.
    stdout: bool,
    /// Where the job's stderr goes, if anywhere.
    stderr: Option<Stream>,
    /// What each line begins with.
    prefix: Option<String>,
}

impl Sinks {
    /// Each stream goes to its counterpart.
    pub fn both() -> Self {
        Self { stdout: true, stderr: Some(Stream::Stderr), prefix: None }
    }

    /// Both go nowhere.
    pub fn none() -> Self {
        Self { stdout: false, stderr: None, prefix: None }
    }

    /// One stream goes to our stdout, the other nowhere.
    pub fn one(stderr: bool) -> Self {
        Self { stdout: !stderr, stderr: stderr.then_some(Stream::Stdout), prefix: None }
    }

    /// The same, with this before each line.
    pub fn with_prefix(self, prefix: Option<String>) -> Self {
        Self { prefix, ..self }
    }

    /// Where what is said between the output of attempts goes, if there is output at all.
    pub fn rule(&self) -> Option<Outlet> {
        self.outlets().into_iter().flatten().next()
    }

    /// Where stdout goes, and where stderr.
    pub fn outlets(&self) -> [Option<Outlet>; 2] {
        let outlet = |stream| Outlet::new(stream, self.prefix.clone());
        [self.stdout.then(|| outlet(Stream::Stdout)), self.stderr.map(outlet)]
    }
}
