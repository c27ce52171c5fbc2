//! The manual pages: poolctl(1) and one page a verb, made of the same descriptions as `--help`; a page a
//! topic; poold(8), and poold.toml(5).

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::page::roff::{self, add_code};
use super::topics::{TOPICS, Topic};
use super::{examples, page, settings};

/// A manual page.
pub struct Page {
    /// Its name without the section: `poolctl-submit`.
    pub name: String,
    /// The section of the manual, from 1 to 8.
    pub section: &'static str,
    /// Its text.
    pub text: String,
}

impl Page {
    /// The name of its file.
    pub fn file(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }
}

/// The page of poold(8). A test of poold holds its options to those that poold has.
const POOLD: &str = include_str!("../../docs/poold.md");

/// All pages. `root`: the command line, [`dressed`](super::dressed).
///
/// # Errors
/// None is known: pages are written into memory.
pub fn pages(root: Command) -> io::Result<Vec<Page>> {
    let mut root = root;
    root.build();
    let mut pages = Vec::new();
    add_verbs(&root, "", &mut pages)?;
    for topic in TOPICS {
        let name = format!("poolctl-{}", topic.name);
        let text = roff::page(&name, "7", &topic.title(), &topic.blocks());
        pages.push(Page { name, section: "7", text });
    }
    let poold = Topic { name: "poold", text: POOLD };
    let text = roff::page("poold", "8", &poold.title(), &poold.blocks());
    pages.push(Page { name: "poold".to_owned(), section: "8", text });
    pages.push(Page { name: "poold.toml".to_owned(), section: "5", text: settings::page() });
    Ok(pages)
}

fn add_verbs(command: &Command, path: &str, pages: &mut Vec<Page>) -> io::Result<()> {
    pages.push(of_command(command, path)?);
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let path = format!("{path} {}", verb.get_name());
        add_verbs(verb, path.trim(), pages)?;
    }
    Ok(())
}

/// `path`: the words of the verb; empty for poolctl itself.
fn of_command(command: &Command, path: &str) -> io::Result<Page> {
    let words = format!("poolctl {path}");
    let name = words.trim().replace(' ', "-");
    // The description begins with the line that says what the verb is.
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let (title, about) = about.split_once("\n\n").unwrap_or((&about, ""));

    let mut roff = Roff::new();
    roff::add_name(&mut roff, &name, title.trim_end_matches('.'));
    roff.control("SH", ["SYNOPSIS"]);
    let usage = command.clone().bin_name(words.trim()).render_usage().to_string();
    roff.text([bold(usage.trim_start_matches("Usage:").trim())]);
    if !about.is_empty() {
        roff.control("SH", ["DESCRIPTION"]);
        roff.text([roman(about)]);
    }
    let mut text = (roff::first_line(&name, "1") + &roff.to_roff()).into_bytes();
    let man = match path {
        "" => Man::new(command.clone().mut_args(|option| option.hide(false))),
        _ => Man::new(command.clone()),
    };
    man.render_options_section(&mut text)?;

    let mut roff = Roff::new();
    if command.has_subcommands() {
        roff.control("SH", ["VERBS"]);
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            roff.control("TP", []);
            roff.text([bold(format!("{name}-{}(1)", verb.get_name()))]);
            roff.text([roman(about.lines().next().unwrap_or_default())]);
        }
    }
    text.extend(roff.to_roff().into_bytes());

    let mut roff = Roff::new();
    let help = examples::of(path);
    if let Some(help) = help {
        roff.control("SH", ["EXAMPLES"]);
        for (index, (line, remark)) in help.examples.iter().enumerate() {
            if index > 0 {
                roff.control("PP", []);
            }
            match remark.is_empty() {
                true => add_code(&mut roff, line),
                false => add_code(&mut roff, &format!("{line}    # {remark}")),
            }
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    let topics = help.map_or(&[][..], |help| help.topics);
    let others = topics.iter().map(|topic| format!("poolctl-{topic}(7)"));
    let others: Vec<_> = [if path.is_empty() { "poold(8)" } else { "poolctl(1)" }.to_owned()]
        .into_iter()
        .chain(["poolctl-exit-codes(7)".to_owned()].into_iter().filter(|_| !topics.contains(&"exit-codes")))
        .chain(others)
        .flat_map(|page| [bold(page), roman(", ")])
        .collect();
    roff.text(&others[..others.len() - 1]);
    text.extend(roff.to_roff().into_bytes());

    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(Page { name, section: "1", text })
}

/// What a page is called that somebody names in one of these ways: `submit`, `pool add`, `poolctl-submit`,
/// `exit-codes`, `poold.toml`.
pub fn name_of(words: &[String]) -> String {
    let name = words.join("-");
    match name.as_str() {
        "" => "poolctl".to_owned(),
        "poolctl" | "poold" | "poold.toml" => name,
        _ if name.starts_with("poolctl-") => name,
        _ => format!("poolctl-{name}"),
    }
}

/// The text of a topic, as `poolctl help` prints it.
pub fn topic_text(topic: &Topic, width: usize, is_styled: bool) -> String {
    page::plain::page(&topic.blocks(), width, is_styled)
}
