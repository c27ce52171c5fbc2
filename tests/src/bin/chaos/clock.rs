//! The wall clock that poold sees, set forward and back by hours: a library of the soak's own (`clock.c`),
//! loaded into poold and nothing else, goes by a file.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::RngExt;
use rand::rngs::StdRng;

/// No deadline and no history is longer than that which is not meant to be over.
const MOST_S: i64 = 20 * 3600;

/// See the module's description.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl Clock {
    /// A clock that is right, in a file of that folder.
    ///
    /// # Errors
    /// Why it is not to be had.
    pub fn new(dir: &Path) -> Result<Self, String> {
        let (source, library, path) = (dir.join("clock.c"), dir.join("clock.so"), dir.join("clock"));
        fs::write(&source, include_str!("clock.c")).map_err(|error| error.to_string())?;
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2", "-o"]).args([&library, &source]);
        match cc.status() {
            Ok(status) if status.success() => {}
            other => return Err(format!("no C compiler: {other:?}")),
        }
        let file = File::create(&path).map_err(|error| error.to_string())?;
        let clock = Self { library, path, file };
        clock.set(0);
        Ok(clock)
    }

    /// What poold is started through.
    pub fn wrapper(&self) -> [String; 3] {
        let (library, path) = (self.library.display(), self.path.display());
        ["env".to_owned(), format!("LD_PRELOAD={library}"), format!("CHAOS_CLOCK={path}")]
    }

    /// Sets it to some other time.
    pub fn jump(&self, random: &mut StdRng) {
        self.set(random.random_range(-MOST_S..=MOST_S));
    }

    fn set(&self, offset_s: i64) {
        self.file.write_all_at(&offset_s.to_ne_bytes(), 0).expect("the clock can be written");
    }
}
