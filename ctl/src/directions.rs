//! Which folder may know of which: no circle comes into the house for as long as this test is green.
//! ARCHITECTURE.md draws the same picture.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The parts of the crate in order, and what each may name. Whatever a part may name stands above it.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("entry", &[]),
    ("exit", &[]),
    ("term", &[]),
    ("cli", &[]),
    ("help", &[]),
    ("tell", &["exit", "term"]),
    ("compose", &["cli"]),
    ("link", &["term"]),
    ("follow", &["term", "link"]),
    ("verbs", &["exit", "term", "cli", "help", "tell", "compose", "link", "follow"]),
    ("main", &["entry", "exit", "term", "cli", "verbs"]),
];

#[test]
fn every_folder_imports_only_what_it_may() {
    let found: BTreeSet<String> = parts().collect();
    let known: BTreeSet<String> = MAY_IMPORT.iter().map(|(part, _)| (*part).to_owned()).collect();
    assert_eq!(found, known, "a part without directions, or directions without a part");

    let mut faults = Vec::new();
    for (part, allowed) in MAY_IMPORT {
        for (path, text) in sources(part) {
            let imports = imports(&text).into_iter();
            let wrong = imports.filter(|import| import != part && !allowed.contains(&import.as_str()));
            faults.extend(wrong.map(|import| format!("{} imports crate::{import}", path.display())));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn there_is_no_circle() {
    let mut above = BTreeSet::new();
    for (part, allowed) in MAY_IMPORT {
        assert!(allowed.iter().all(|name| above.contains(name)), "{part} names what stands below it");
        above.insert(*part);
    }
}

#[test]
fn only_term_prints() {
    let prints = |line: &str| {
        // Those to stderr end with the same letters.
        ["println!", "print!", "stdout().lock()"].iter().any(|it| line.contains(it))
    };
    for (part, path) in entries(&src()) {
        // This file names what it looks for.
        if part == "term" || part == "directions.rs" {
            continue;
        }
        for (path, text) in files_of(&path) {
            let found = code(&text).find(|line| prints(line));
            assert!(found.is_none(), "{}: {found:?}", path.display());
        }
    }
}

#[test]
fn a_verb_knows_no_other_verb() {
    // `run` is `submit` by another name.
    let exceptions = [("run.rs", "submit")];
    let verbs: BTreeSet<String> = entries(&src().join("verbs"))
        .into_iter()
        .map(|(name, _)| name.trim_end_matches(".rs").to_owned())
        .filter(|name| {
            !["mod", "board", "ending", "nearest", "overview", "selection", "submission"]
                .contains(&name.as_str())
        })
        .collect();

    for (name, path) in entries(&src().join("verbs")) {
        let own = name.trim_end_matches(".rs");
        for (path, text) in files_of(&path).into_iter().filter(|_| own != "mod") {
            for verb in verbs.iter().filter(|verb| *verb != own) {
                let is_excepted = exceptions.contains(&(name.as_str(), verb.as_str()));
                let names = [format!("crate::verbs::{verb}"), format!("super::{verb}::")];
                // Within a folder `super` is the verb itself.
                let names =
                    if path.parent() == Some(&src().join("verbs")) { &names[..] } else { &names[..1] };
                let found = code(&text).find(|line| names.iter().any(|name| line.contains(name.as_str())));
                assert!(is_excepted || found.is_none(), "{}: {found:?}", path.display());
            }
        }
    }
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).expect("the folder is there").flatten();
    entries
        .map(|entry| (entry.file_name().into_string().expect("sources have plain names"), entry.path()))
        .collect()
}

/// The folders and files right below `src`, but for this one.
fn parts() -> impl Iterator<Item = String> {
    let names = entries(&src()).into_iter().map(|(name, _)| name.trim_end_matches(".rs").to_owned());
    names.filter(|name| name != "directions")
}

fn sources(part: &str) -> Vec<(PathBuf, String)> {
    let file = src().join(format!("{part}.rs"));
    files_of(&if file.exists() { file } else { src().join(part) })
}

/// A source, or all those of a folder, with their texts.
fn files_of(path: &Path) -> Vec<(PathBuf, String)> {
    if path.is_dir() {
        return entries(path).into_iter().flat_map(|(_, path)| files_of(&path)).collect();
    }
    vec![(path.to_owned(), fs::read_to_string(path).expect("a source is readable"))]
}

/// The lines of a source without its comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// The parts of the crate that a source names, by `crate::` or by way of `super::`.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in code(text) {
        for name in names_after("crate::", line) {
            assert!(!name.is_empty(), "write one import a folder: {line}");
            found.insert(name);
        }
        // No module within a part has the name of a part, so such a name is the part's.
        let is_part = |name: &String| MAY_IMPORT.iter().any(|(part, _)| part == name);
        found.extend(names_after("super::", line).into_iter().filter(is_part));
    }
    found
}

/// What follows a prefix, each time that the line has it: a name, or nothing for a brace.
fn names_after(prefix: &str, line: &str) -> Vec<String> {
    let is_of_name = |character: &char| character.is_alphanumeric() || *character == '_';
    let rests = line.match_indices(prefix).map(|(at, _)| &line[at + prefix.len()..]);
    rests.map(|rest| rest.chars().take_while(is_of_name).collect()).collect()
}
