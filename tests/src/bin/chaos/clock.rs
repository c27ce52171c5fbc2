//! The wall clock that poold sees, set forward and back by hours: libfaketime, loaded into poold and nothing
//! else, goes by a file.

use std::fs;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// No deadline and no history is longer than that which is not meant to be over.
const MOST_S: i64 = 20 * 3600;

/// See the module's description.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// A clock that is right, in a file of that folder.
    ///
    /// # Errors
    /// Why it is not to be had.
    pub fn new(dir: &Path) -> Result<Self, String> {
        if !Path::new(LIBRARY).exists() {
            return Err("libfaketime is not installed (apt-get install faketime)".to_owned());
        }
        let clock = Self { file: dir.join("clock") };
        clock.set(0);
        Ok(clock)
    }

    /// What poold is started through.
    pub fn wrapper(&self) -> [String; 6] {
        [
            "env".to_owned(),
            format!("LD_PRELOAD={LIBRARY}"),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file.display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "DONT_FAKE_MONOTONIC=1".to_owned(),
        ]
    }

    /// Sets it to some other time.
    pub fn jump(&self, random: &mut StdRng) {
        self.set(random.random_range(-MOST_S..=MOST_S));
    }

    /// Nobody reads half of it.
    fn set(&self, offset_s: i64) {
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{offset_s:+}")).expect("the clock can be written");
        fs::rename(next, &self.file).expect("the clock can be written");
    }
}
