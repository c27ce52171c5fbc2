//! Which folder may know of which: the house stays a house for as long as this test is green. ARCHITECTURE.md
//! draws the same picture.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder below `src`, and what of the crate its sources may name. A name with `::` is a part of a folder.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("job", &[]),
    ("core", &["job", "engine"]),
    ("engine", &["job"]),
    ("desk", &["job", "core", "engine", "start::config"]),
    ("files", &["job", "kernel"]),
    ("kernel", &["job"]),
    ("worker", &["job", "kernel", "files", "start::cli"]),
    ("aside", &[]),
    ("fleet", &["job", "core", "kernel", "aside", "worker::protocol"]),
    ("server", &["job", "aside"]),
    ("start", &["job", "core", "kernel", "files", "shell", "worker"]),
    (
        "shell",
        &[
            "job",
            "core",
            "desk",
            "engine",
            "files",
            "kernel",
            "aside",
            "fleet",
            "server",
            "worker::protocol",
            "start",
        ],
    ),
    ("sim", &["job", "core", "desk", "engine", "shell::turn", "start::config"]),
];

/// The machines know of the engine only what stands at its seam.
const BEHIND_THE_SEAM: &[&str] = &["engine::sqlite", "engine::memory", "engine::front"];

/// What the two machines may not do: they have no clock, no files, no threads, no kernel.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::thread",
    "std::process",
    "Instant",
    "SystemTime",
    "nix::sys",
    "mio::",
    "libc::",
    "rusqlite",
];
const PURE: &[&str] = &["job", "core", "desk"];

#[test]
fn every_folder_imports_only_what_it_may() {
    let folders: BTreeSet<String> = folders().collect();
    let known: BTreeSet<String> = MAY_IMPORT.iter().map(|(folder, _)| (*folder).to_owned()).collect();
    assert_eq!(folders, known, "a folder without directions, or directions without a folder");

    let mut faults = Vec::new();
    for (folder, allowed) in MAY_IMPORT {
        for (path, text) in sources(folder) {
            for import in imports(&text) {
                let is_own = import == *folder || import.starts_with(&format!("{folder}::"));
                let is_allowed =
                    |allowed: &&str| import == *allowed || import.starts_with(&format!("{allowed}::"));
                let is_behind = PURE.contains(folder) && BEHIND_THE_SEAM.contains(&import.as_str());
                if is_behind || !is_own && !allowed.iter().any(is_allowed) {
                    faults.push(format!("{} imports crate::{import}", path.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_machines_are_pure() {
    let mut faults = Vec::new();
    for folder in PURE {
        for (path, text) in sources(folder) {
            let found = IMPURE.iter().filter(|name| code(&text).any(|line| line.contains(**name)));
            faults.extend(found.map(|name| format!("{} names {name}", path.display())));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn folders() -> impl Iterator<Item = String> {
    let entries = fs::read_dir(src()).expect("the sources are there").flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.map(|entry| entry.file_name().into_string().expect("folders have plain names"))
}

/// The sources of a folder, but for tests, which may look further.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    let mut open = vec![src().join(folder)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("the folder is there").flatten() {
            let path = entry.path();
            let name = entry.file_name().into_string().expect("files have plain names");
            if path.is_dir() && name != "tests" && name != "conformance" {
                open.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let text = fs::read_to_string(&path).expect("it is readable");
                sources.push((path, text));
            }
        }
    }
    sources
}

/// The lines of a source up to its tests, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let body = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    body.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// What follows `crate::` in a source, up to two names deep.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in code(text) {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            if line[..at].ends_with("pub(in ") {
                continue;
            }
            let is_of_name =
                |character: char| character.is_alphanumeric() || character == '_' || character == ':';
            let path: String = rest.chars().take_while(|&character| is_of_name(character)).collect();
            let names: Vec<&str> = path.split("::").filter(|name| !name.is_empty()).take(2).collect();
            if rest.starts_with('{') {
                panic!("write one import a folder: {line}");
            }
            found.insert(names.join("::"));
        }
    }
    found
}
