//! The scheduler, tested as what it is: events in, effects out, no clock, no disk.
//!
//! [`world`] is everything around it, simulated: a store in memory and workers that do what a test says. [`scenarios`] and
//! [`deaths`] are stories told through it; [`property`] lets chance tell them, and [`simulation`] goes on with that for as long as one
//! likes, from a seed. [`invariants`] has what is checked after each step.

mod calls;
mod deaths;
mod invariants;
mod keys;
mod property;
mod queue;
mod scenarios;
mod simulation;
mod store;
mod ties;
mod world;

/// What the scheduler's sources may not name: whatever does I/O, reads a clock or starts a thread.
#[test]
fn the_scheduler_is_pure() {
    const FOREIGN: [&str; 12] = [
        "std::fs",
        "std::io",
        "std::net",
        "std::os",
        "std::process",
        "std::thread",
        "Instant",
        "SystemTime",
        "mio::",
        "rusqlite",
        "tracing",
        "nix::sys",
    ];
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/scheduler");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            for name in FOREIGN {
                assert!(!source.contains(name), "{} names {name}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 5, "the sources are where they are looked for");
}
