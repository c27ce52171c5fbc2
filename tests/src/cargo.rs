//! The binaries under test, built once per test program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

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
        command.arg("--manifest-path").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"));
        command.arg("--target-dir").arg(folder.parent().expect("PROFILE is in target"));
        if folder.ends_with("release") {
            command.arg("--release");
        }
        let status = command.status().expect("cargo can be started");
        assert!(status.success(), "poold and poolctl cannot be built");
    });
    folder.join(name)
}
