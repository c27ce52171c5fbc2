//! The daemon without an outside: its two machines, driven by the function that drives them in the daemon,
//! over a world that does what a test says.
//!
//! [`world`] is everything around them, simulated: a durable backing in memory that is slow, full or gone as
//! told ([`delayed`]), [`workers`] and [`clients`]. [`scenarios`], [`deaths`], [`queue`], [`ties`], [`keys`],
//! [`calls`], [`pools`] and [`requests`] are stories told through it; [`property`] lets chance tell them, and
//! [`simulation`] goes on with that for as long as one likes, from a seed. [`invariants`] has what is checked
//! after each step.

mod calls;
mod clients;
mod deaths;
mod delayed;

mod invariants;
mod keys;
mod pools;

mod property;
mod queue;
mod requests;
mod scenarios;
mod simulation;
mod specs;
mod ties;
mod workers;
mod world;

/// What the sources of the machines may not name: whatever does I/O, reads a clock or starts a thread.
#[test]
fn the_machines_are_pure() {
    const FOREIGN: [&str; 11] = [
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
        "nix::sys",
    ];
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![sources.join("core"), sources.join("desk")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                for name in FOREIGN {
                    assert!(!source.contains(name), "{} names {name}", path.display());
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "the sources are where they are looked for");
}
