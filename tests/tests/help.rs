//! What poolctl says about itself: `--help`, the topics of `poolctl help`, and the manual pages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pool_tests::{Said, Setup, run, skip};

fn poolctl(arguments: &[&str]) -> Said {
    run(Setup::new().program("poolctl").args(arguments))
}

fn ok(arguments: &[&str]) -> String {
    let said = poolctl(arguments);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{arguments:?}");
    said.stdout
}

#[test]
fn help_is_the_same_in_all_its_ways() {
    let help = ok(&["--help"]);
    assert_eq!(ok(&["-h"]), help);
    assert_eq!(ok(&["help"]), help);
    for part in ["Submit jobs:\n  submit  ", "The daemon:\n", "exit-codes", "--socket PATH"] {
        assert!(help.contains(part), "{part}: {help}");
    }

    let submit = ok(&["submit", "--help"]);
    assert_eq!(ok(&["submit", "-h"]), submit);
    assert_eq!(ok(&["help", "submit"]), submit);
    assert_eq!(ok(&["help", "pool", "add"]), ok(&["pool", "add", "--help"]));
}

#[test]
fn a_topic_is_text_and_a_wrong_one_is_said() {
    let codes = ok(&["help", "exit-codes"]);
    assert!(codes.starts_with("exit-codes: what the exit codes of poolctl mean\n"), "{codes}");
    assert!(
        codes.contains("\n126, 127\n    the command could not be executed, or does not exist\n"),
        "{codes}"
    );
    assert!(codes.lines().all(|line| line.chars().count() <= 80), "{codes}");

    let said = poolctl(&["help", "nothing"]);
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("the topics are agents, "), "{said:?}");
}

/// Every link of the documentation, and of the README, leads somewhere.
#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages: Vec<PathBuf> =
        fs::read_dir(root.join("ctl/docs")).unwrap().map(|it| it.unwrap().path()).collect();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    assert!(pages.len() > 15, "{pages:?}");
    pages.push(root.join("README.md"));

    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        let text: String = text.split("```").step_by(2).collect();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if file.starts_with("http") {
                continue;
            }
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let target = fs::read_to_string(&target)
                .unwrap_or_else(|error| panic!("{} links to {link}: {error}", page.display()));
            let is_there = anchor.is_empty() || has_anchor(&target, anchor);
            assert!(is_there, "{} links to {link}, which is not there", page.display());
        }
    }
}

fn has_anchor(text: &str, anchor: &str) -> bool {
    let slug = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect::<String>()
    };
    let headings =
        text.lines().filter_map(|line| Some(slug(line.strip_prefix('#')?.trim_start_matches('#').trim())));
    headings.into_iter().any(|heading| heading == anchor) || text.contains(&format!("id=\"{anchor}\""))
}

#[test]
fn manual_pages_are_sound() {
    let setup = Setup::new();
    let dir = setup.dir().join("man");
    let said = run(setup.program("poolctl").args(["man", "--dir"]).arg(&dir));
    assert_eq!(said.code, 0, "{said:?}");

    let mut pages = Vec::new();
    for section in ["man1", "man5", "man7", "man8"] {
        pages.extend(fs::read_dir(dir.join(section)).unwrap().map(|page| page.unwrap().path()));
    }
    for page in [
        "man1/poolctl.1",
        "man1/poolctl-submit.1",
        "man5/poold.toml.5",
        "man7/poolctl-time.7",
        "man8/poold.8",
    ] {
        assert!(pages.contains(&dir.join(page)), "{page} is missing");
    }
    assert_eq!(ok(&["man", "pool", "add"]), fs::read_to_string(dir.join("man1/poolctl-pool-add.1")).unwrap());
    assert_eq!(poolctl(&["man", "nothing"]).code, 2);

    if Command::new("man").arg("--version").output().is_err() {
        return skip("there is no man(1)");
    }
    for page in pages {
        let mut man = Command::new("man");
        let said =
            run(man.args(["--warnings", "-l"]).arg(&page).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80"));
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{}", page.display());
        assert!(said.stdout.contains("NAME"), "{}: {}", page.display(), said.stdout);
    }
}
