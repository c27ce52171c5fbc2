//! The binaries under test, built once per test program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// poold, as just built.
pub fn poold() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("poold"))
}

/// poolctl, as just built.
pub fn poolctl() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("poolctl"))
}

/// The folder of the optimized binaries, if they are there and no source is newer than they are. Builds
/// nothing.
pub fn optimized() -> Option<PathBuf> {
    let folder = poold().parent()?.parent()?.join("release");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources = ["proto", "daemon", "ctl", "Cargo.toml", "Cargo.lock", ".cargo"];
    let newest = sources.iter().filter_map(|name| newest(&root.join(name))).max()?;

    let built = |name| fs::metadata(folder.join(name)).and_then(|metadata| metadata.modified()).ok();
    let is_new = |name| built(name).is_some_and(|built| built > newest);
    (is_new("poold") && is_new("poolctl")).then_some(folder)
}

/// When a file, or the youngest one in a folder, was last changed.
fn newest(path: &Path) -> Option<SystemTime> {
    if !path.is_dir() {
        return fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    }
    fs::read_dir(path).ok()?.flatten().filter_map(|entry| newest(&entry.path())).max()
}

/// `cargo test` does not build other packages' binaries, so that a stale one might be tested.
fn built(name: &str) -> PathBuf {
    let test_program = std::env::current_exe().expect("a test program knows its path");
    // target/PROFILE/deps/TEST, or target/PROFILE/chaos
    let folder = test_program.parent().expect("a program is in a folder");
    let folder =
        if folder.ends_with("deps") { folder.parent().expect("deps is in target/PROFILE") } else { folder };
    static BUILD: OnceLock<()> = OnceLock::new();
    BUILD.get_or_init(|| {
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--package", "poold", "--package", "poolctl"]);
        // Where cargo finds its configuration, as well.
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        command.arg("--target-dir").arg(folder.parent().expect("PROFILE is in target"));
        if folder.ends_with("release") {
            command.arg("--release");
        }
        let status = command.status().expect("cargo can be started");
        assert!(status.success(), "poold and poolctl cannot be built");
    });
    folder.join(name)
}
