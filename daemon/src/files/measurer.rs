//! The measurer: a thread that adds up how much running jobs have written.
//!
//! stat(2) of some thousand files on a slow disk takes a second. The supervisor's loop hands that over and
//! goes on. It is a thread of its own, since the one that removes files may be busy with a large one for
//! long, and a submission waits for the sum.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::layout::job_paths;
use super::slot_output::unnamed_bytes;
use crate::job::JobId;

/// Running jobs, each with its latest attempt.
type Running = Vec<(JobId, u32)>;

/// See the module's description. Its thread ends by itself when this is dropped.
#[derive(Debug)]
pub struct Measurer {
    orders: Sender<Running>,
    /// The latest sum, until it is taken.
    measured: Arc<Mutex<Option<u64>>>,
}

impl Measurer {
    /// Starts the thread. `notify` is called by the thread when a sum can be taken.
    ///
    /// # Errors
    /// Those of pthread_create(3).
    pub fn start(state_dir: &Path, notify: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (orders, received) = channel();
        let measured = Arc::new(Mutex::new(None));
        let (state_dir, theirs) = (state_dir.to_owned(), measured.clone());
        thread::Builder::new()
            .name("measurer".to_owned())
            .spawn(move || work(&state_dir, &received, &theirs, notify))?;
        Ok(Self { orders, measured })
    }

    /// Has the output of running jobs added up: of the attempts named, and of those before them, which a
    /// crash may have cut off. Whoever asks waits for the sum before asking again.
    pub fn measure(&self, running: Running) {
        if self.orders.send(running).is_err() {
            tracing::error!("bug: the thread that measures files has ended");
        }
    }

    /// The sum that was asked for, in bytes, once it is there.
    pub fn take_measured(&self) -> Option<u64> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn work(state_dir: &Path, orders: &Receiver<Running>, measured: &Mutex<Option<u64>>, notify: impl Fn()) {
    for running in orders {
        let sum = measure(state_dir, &running);
        *measured.lock().unwrap_or_else(PoisonError::into_inner) = Some(sum);
        notify();
    }
}

fn measure(state_dir: &Path, running: &[(JobId, u32)]) -> u64 {
    let attempts = running.iter().flat_map(|&(id, last)| (1..=last).map(move |attempt| (id, attempt)));
    let size = |path: PathBuf| {
        fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks().saturating_mul(512))
    };
    attempts
        .map(|(id, attempt)| job_paths(state_dir, id, attempt))
        .map(|(stdout, stderr)| size(stdout).saturating_add(size(stderr)))
        .fold(unnamed_bytes(state_dir), u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::files::layout::paths;
    use crate::files::output;
    use crate::job::{Claim, Unit};

    fn write(state_dir: &Path, unit: Unit, attempt: u32, text: &[u8]) {
        let (stdout, _) = paths(state_dir, Claim { unit, attempt });
        output::create(&stdout).unwrap().0.write_all(text).unwrap();
    }

    #[test]
    fn the_output_of_running_jobs_is_added_up_and_told() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), Unit::Job(JobId(1)), 1, b"12345");
        write(dir.path(), Unit::Job(JobId(1)), 2, b"123");
        write(dir.path(), Unit::Job(JobId(2)), 1, b"not asked for");
        let (hollow, _) = paths(dir.path(), Claim { unit: Unit::Job(JobId(3)), attempt: 1 });
        output::create(&hollow).unwrap().0.set_len(11 << 30).unwrap();
        let (told, hears) = mpsc::channel();
        let measurer = Measurer::start(dir.path(), move || _ = told.send(())).unwrap();
        assert_eq!(measurer.take_measured(), None);

        measurer.measure(vec![(JobId(1), 2), (JobId(3), 1)]);
        hears.recv_timeout(Duration::from_secs(60)).unwrap();
        // What a file takes on the disk depends on the file system, and a hole takes nothing anywhere.
        let on_disk = |attempt| {
            let (stdout, _) = paths(dir.path(), Claim { unit: Unit::Job(JobId(1)), attempt });
            fs::metadata(stdout).unwrap().blocks() * 512
        };
        assert_eq!(measurer.take_measured(), Some(on_disk(1) + on_disk(2)));
        assert_eq!(measurer.take_measured(), None, "it is taken once");
    }
}
