//! What poolctl says about itself: the order of the verbs, their examples, the topics of `poolctl help`, and
//! the manual pages.
//!
//! The verbs themselves are described where their options are. This folder gets them as clap's commands, and
//! it is asked only when somebody wants help: a short job costs nothing of it.

pub mod examples;
pub mod groups;
pub mod headings;
pub mod man;
pub mod page;
pub mod settings;
pub mod topics;

use std::fmt::Write;

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command};

/// Verbs that print nothing but what they show on a terminal.
const NO_JSON: &[&str] = &["top", "attach"];

/// The help of each verb ends with this line.
const OF_ALL_VERBS: &str = "Of all verbs: --socket, --color, --no-start, --trust-uid (see poolctl --help)";

/// The command line with its help: verbs and options in groups, examples, and what to read next. `--help` and
/// `-h` are the same, and short; the manual pages have the rest. Options of all verbs are hidden in the help
/// of each.
pub fn dressed(root: Command) -> Command {
    let template = overview(&root);
    root.disable_help_flag(true)
        .disable_help_subcommand(true)
        .arg(
            Arg::new("help")
                .short('h')
                .long("help")
                .help("Print help")
                .global(true)
                .display_order(1000)
                .action(ArgAction::HelpShort),
        )
        .mut_args(|option| match option.get_id().as_str() {
            "json" => option.display_order(900),
            "help" | "version" => option,
            _ => option.hide(true),
        })
        .help_template(template)
        .mut_subcommands(|verb| {
            let name = verb.get_name().to_owned();
            dressed_verb(verb, &name)
        })
}

fn dressed_verb(verb: Command, name: &str) -> Command {
    let about = verb.get_long_about().or(verb.get_about()).cloned().unwrap_or_default();
    let verb = match verb.has_subcommands() {
        true => {
            let template = of_group(&verb);
            verb.help_template(template)
        }
        false => verb,
    };
    let verb = match NO_JSON.contains(&name) {
        // In the place of the one of all verbs.
        true => verb.arg(Arg::new("json").long("json").action(ArgAction::SetTrue).hide(true)),
        false => verb,
    };
    verb.about(about)
        .after_help(after(name))
        .disable_help_subcommand(true)
        .mut_args(|arg| match headings::of(name, &arg) {
            Some(heading) => arg.help_heading(heading),
            None => arg,
        })
        .mut_args(|arg| match (name, arg.get_long()) {
            ("run", Some("wait" | "async" | "quiet" | "from")) => arg.hide(true),
            ("edit", Some(_)) => without_default(arg),
            _ => arg,
        })
        .mut_subcommands(|inner| {
            let name = format!("{name} {}", inner.get_name());
            dressed_verb(inner, &name)
        })
}

/// The option without the words on its default: what is not named stays as the job has it.
fn without_default(arg: Arg) -> Arg {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let Some((before, rest)) = help.split_once(" [default: ") else { return arg };
    let after = rest.split_once(']').map_or("", |(_, after)| after);
    arg.help(format!("{before}{after}"))
}

/// The help of a verb that has verbs of its own: a line for each of these.
fn of_group(verb: &Command) -> StyledStr {
    let width = verb.get_subcommands().map(|inner| inner.get_name().len()).max().unwrap_or(0);
    let mut text = format!("{{about}}\n\n{} {{usage}}\n\n{}\n", heading("Usage:"), heading("Commands:"));
    for inner in verb.get_subcommands() {
        let about = inner.get_about().map(ToString::to_string).unwrap_or_default();
        _ = writeln!(text, "  {}  {about}", literal(&format!("{:width$}", inner.get_name())));
    }
    _ = write!(text, "\n{}\n{{options}}{{after-help}}", heading("Options:"));
    text.into()
}

/// What stands below the options of a verb.
fn after(verb: &str) -> StyledStr {
    let mut text = String::new();
    if let Some(help) = examples::of(verb) {
        _ = writeln!(text, "{}", heading("Examples:"));
        let width = help.examples.iter().map(|(line, _)| line.len()).filter(|&length| length < 56).max();
        for (line, remark) in help.examples {
            _ = match remark.is_empty() {
                true => writeln!(text, "  {line}"),
                false => writeln!(text, "  {line:width$}  # {remark}", width = width.unwrap_or(0)),
            };
        }
        if !help.topics.is_empty() {
            let topics: Vec<String> =
                help.topics.iter().map(|topic| format!("poolctl help {topic}")).collect();
            _ = writeln!(text, "\nMore: {}", topics.join(", "));
        }
        text.push('\n');
    }
    text += OF_ALL_VERBS;
    text.into()
}

/// The template of `poolctl --help`.
fn overview(root: &Command) -> StyledStr {
    let mut text = format!("{{about}}\n\n{} poolctl [OPTIONS] VERB ...\n", heading("Usage:"));
    for group in groups::GROUPS {
        _ = writeln!(text, "\n{}", heading(&format!("{}:", group.title)));
        for name in group.verbs {
            let Some(verb) = root.find_subcommand(name) else { continue };
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            _ = writeln!(text, "  {}  {about}", literal(&format!("{name:11}")));
        }
    }
    _ = writeln!(text, "\n{}", heading("Topics of `poolctl help`:"));
    let names: Vec<&str> = topics::TOPICS.iter().map(|topic| topic.name).collect();
    for line in page::plain::wrapped(&names.join(", "), 76) {
        _ = writeln!(text, "  {line}");
    }
    _ = writeln!(text, "\n{}", heading("Options of all verbs:"));
    for option in root.get_arguments().filter(|option| option.is_global_set()) {
        let is_flag = matches!(option.get_action(), ArgAction::SetTrue);
        let value = option.get_value_names().and_then(|names| names.first()).filter(|_| !is_flag);
        let value = value.map_or(String::new(), |value| format!(" {value}"));
        let name = format!("--{}{value}", option.get_long().unwrap_or_default());
        let about = option.get_help().map(ToString::to_string).unwrap_or_default();
        _ = writeln!(text, "  {}  {about}", literal(&format!("{name:17}")));
    }
    _ = write!(
        text,
        "\nWithout --socket and POOL_SOCKET, poolctl speaks to your own poold, and starts one if\n\
         none is running. `poolctl VERB --help` has options and examples; `poolctl help agents` is\n\
         a short guide for programs."
    );
    text.into()
}

/// clap takes the styles off where help does not go to a terminal.
fn heading(text: &str) -> String {
    format!("\u{1b}[1m\u{1b}[4m{text}\u{1b}[0m")
}

fn literal(text: &str) -> String {
    format!("\u{1b}[1m{text}\u{1b}[0m")
}
