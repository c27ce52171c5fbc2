//! Standard inputs on their way in: files that a client writes before the job that will read them is submitted.
//!
//! A file belongs to the connection that opened it until a job names its token; what no job has named goes with its connection.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mio::Token;

use crate::job::RequestId;
use crate::output;

/// All spooled files that belong to no job yet.
#[derive(Debug)]
pub struct Spool {
    state_dir: PathBuf,
    /// Tells this start's tokens from those of earlier ones.
    prefix: String,
    next: u64,
    unclaimed: HashMap<Token, Vec<String>>,
    /// Named by a submission that the store has not answered.
    submitted: HashMap<RequestId, String>,
}

impl Spool {
    /// `started_us`: a number that no earlier start has had.
    pub fn new(state_dir: &Path, started_us: i64) -> Self {
        let prefix = format!("{started_us:x}");
        Self {
            state_dir: state_dir.to_owned(),
            prefix,
            next: 1,
            unclaimed: HashMap::new(),
            submitted: HashMap::new(),
        }
    }

    /// Removes what an earlier start has left that no job needs.
    pub fn remove_all_but(&self, needed: &HashSet<String>) {
        let folder = output::stdin_path(&self.state_dir, "");
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if let Some(token) = entry.file_name().to_str().filter(|token| !needed.contains(*token)) {
                self.remove(token);
            }
        }
    }

    /// A new file for a connection's client to write: its token, and the file.
    ///
    /// # Errors
    /// Those of openat2(2).
    pub fn open(&mut self, connection: Token) -> io::Result<(String, File)> {
        let token = format!("{}-{}", self.prefix, self.next);
        self.next += 1;
        let path = output::stdin_path(&self.state_dir, &token);
        let file = output::create_stdin(&path)?;
        self.unclaimed.entry(connection).or_default().push(token.clone());
        Ok((token, file))
    }

    /// A submission names a token; false when it is none of this connection's.
    pub fn claim(&mut self, connection: Token, call: RequestId, token: &str) -> bool {
        let Some(tokens) = self.unclaimed.get_mut(&connection) else { return false };
        let Some(at) = tokens.iter().position(|other| other == token) else { return false };
        self.submitted.insert(call, tokens.swap_remove(at));
        true
    }

    /// The submission has been answered: its file is the job's, or nobody's.
    pub fn settle(&mut self, call: RequestId, accepted: bool) {
        if let Some(token) = self.submitted.remove(&call)
            && !accepted
        {
            self.remove(&token);
        }
    }

    /// A connection is gone.
    pub fn close(&mut self, connection: Token) {
        for token in self.unclaimed.remove(&connection).unwrap_or_default() {
            self.remove(&token);
        }
    }

    /// Removes a file that no job needs any more.
    pub fn remove(&self, token: &str) {
        let path = output::stdin_path(&self.state_dir, token);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "cannot remove a spooled standard input");
        }
    }
}
