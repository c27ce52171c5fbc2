//! (tests) Compares the table of methods with the interface's description: each method; each member of its
//! parameters and of its reply, whether the member may be left out, and the member's type; and the errors.

mod expected;
mod schema;
mod varlink;

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{DESCRIPTION, INTERFACE, Method, REPLIES, ROWS};
use crate::refusal::Refusal;
use expected::{Expected, Leaf, expected};
use varlink::{Description, Member, MemberType};

/// A row of the table.
pub struct MethodRow {
    /// The method's full name.
    name: &'static str,
    /// The name of its reply.
    reply: &'static str,
    parameters: Expectation,
    replied: Expectation,
}

/// What a type expects at the member that a path of names leads to.
type Expectation = fn(&[&str]) -> Expected;

pub const fn row<M: Method + for<'a> Deserialize<'a>>(reply: &'static str) -> MethodRow {
    MethodRow { name: M::NAME, reply, parameters: expected::<M>, replied: expected::<M::Reply> }
}

#[test]
fn the_table_and_the_description_have_the_same_methods() {
    let described = Description::parse(DESCRIPTION);
    let described: BTreeSet<String> =
        described.methods.keys().map(|name| format!("{INTERFACE}.{name}")).collect();
    let listed: BTreeSet<String> = ROWS.iter().map(|row| row.name.to_owned()).collect();
    assert_eq!(listed, described);
    assert_eq!(super::Request::NAMES.len(), listed.len(), "no method has two rows");
}

#[test]
fn parameters_replies_and_errors_are_as_described() {
    assert_eq!(differences(&Description::parse(DESCRIPTION)), Vec::<String>::new());
}

/// A test that cannot fail is none: each change of one member's name, type or optionality is found.
#[test]
fn a_change_of_the_description_is_found() {
    for (old, new) in [
        ("job: Job, on_disconnect", "work: Job, on_disconnect"),
        ("round: ?string,", ""),
        ("(id: int, signal: int)", "(id: int, signal: ?int)"),
        ("after: ?int,\n  limit", "after: int,\n  limit"),
        ("workers: int,\n  queued", "workers: string,\n  queued"),
        ("(fraction: ?float", "(fraction: ?int"),
        ("(drain, now)", "(drain, now, later)"),
        ("env: ?[string]string,\n  umask", "env: ?[]string,\n  umask"),
        ("callbacks: []Callback", "callbacks: Callback"),
        ("error NoSuchJob (id", "error NoSuchJob (job"),
        ("error Draining ()", "error Drains ()"),
        ("error Draining ()", "error Draining (limit: int)"),
        ("error QueueFull (pool: string, ", "error QueueFull ("),
    ] {
        assert!(DESCRIPTION.contains(old), "{old:?} is in the description");
        let changed = Description::parse(&DESCRIPTION.replace(old, new));
        assert_ne!(differences(&changed), Vec::<String>::new(), "{old:?} has become {new:?}");
    }
}

#[test]
fn each_reply_is_the_reply_of_a_method() {
    let listed: BTreeSet<&str> = REPLIES.iter().copied().collect();
    let used: BTreeSet<&str> = ROWS.iter().map(|row| row.reply).collect();
    assert_eq!(listed, used);
}

/// Lists that are optional in the description, and empty in Rust where they are left out.
const EMPTY_WHERE_LEFT_OUT: [&str; 5] = [
    "Submit.job.argv",
    "AddSchedule.schedule.job.argv",
    "Schedules.schedules.schedule.job.argv",
    "Edit.set.argv",
    "Definition.job.argv",
];

/// Words of the description that Rust passes on as a text.
const TEXT_IN_RUST: [&str; 1] = ["Status.durability"];

/// Where the table and the description differ, as sentences.
fn differences(description: &Description) -> Vec<String> {
    let mut differences = Vec::new();
    for row in ROWS {
        let name = row.name.strip_prefix("io.poold.").expect("each method is of this interface");
        let Some((parameters, reply)) = description.methods.get(name) else { continue };
        compare(description, parameters, name, &[], row.parameters, &mut differences);
        compare(description, reply, name, &[], row.replied, &mut differences);
    }
    compare_errors(description, &mut differences);
    differences
}

/// Compares the members that are described with those that Rust expects where `path` leads to, and so on
/// below them.
fn compare(
    description: &Description,
    members: &[Member],
    method: &str,
    path: &[&str],
    expectation: Expectation,
    differences: &mut Vec<String>,
) {
    let place = |path: &[&str]| [&[method], path].concat().join(".");
    let Leaf::Object(known) = expectation(path).leaf else {
        return differences.push(format!("{} is no object in Rust", place(path)));
    };
    let named: BTreeSet<String> = members.iter().map(|member| member.name.clone()).collect();
    for name in known.symmetric_difference(&named) {
        differences.push(format!("{}: {name} is only in one", place(path)));
    }

    for member in members.iter().filter(|member| known.contains(&member.name)) {
        let path = [path, &[member.name.as_str()]].concat();
        let (kind, expected) = (&member.kind, expectation(&path));
        let is_text = expected.leaf == Leaf::Text && TEXT_IN_RUST.contains(&place(&path).as_str());
        let is_absent_as_empty = EMPTY_WHERE_LEFT_OUT.contains(&place(&path).as_str());
        if kind.optional != (expected.optional || is_absent_as_empty)
            || (kind.list, kind.dictionary) != (expected.list, expected.dictionary)
            || !fits(description, kind, &expected.leaf) && !is_text
        {
            differences.push(format!("{} is {kind}, and in Rust {expected:?}", place(&path)));
        }
        if let Some(members) = description.types.get(&kind.name) {
            compare(description, members, method, &path, expectation, differences);
        }
    }
}

/// Whether the description's word for a type fits what Rust expects; the members of an object are compared
/// elsewhere.
fn fits(description: &Description, kind: &MemberType, leaf: &Leaf) -> bool {
    match (kind.name.as_str(), leaf) {
        ("", Leaf::OneOf(words)) => *words == kind.one_of,
        ("bool", Leaf::Bool) | ("int", Leaf::Int) | ("float", Leaf::Float) => true,
        // Some words are only told in a comment, where Varlink's enumerations, which know no hyphen, cannot
        // hold them.
        ("string", Leaf::Text | Leaf::OneOf(_)) => true,
        ("object", Leaf::Json | Leaf::Object(_)) => true,
        (name, Leaf::Object(_)) => description.types.contains_key(name),
        _ => false,
    }
}

/// Compares the errors that are described with the names of [`Refusal`], and the members of each.
fn compare_errors(description: &Description, differences: &mut Vec<String>) {
    let Leaf::OneOf(known) = expected::<Refusal>(&["error"]).leaf else { panic!("a refusal has a name") };
    let own: BTreeSet<String> =
        known.iter().filter_map(|name| name.strip_prefix("io.poold.")).map(str::to_owned).collect();
    let named: BTreeSet<String> = description.errors.keys().cloned().collect();
    for name in own.symmetric_difference(&named) {
        differences.push(format!("the error {name} is only in one"));
    }

    // Each member of a refusal is needed, and serde passes over members that a refusal does not have. So a
    // refusal that is read from the described members and written again shows the same members only if they
    // agree.
    for (name, members) in description.errors.iter().filter(|(name, _)| own.contains(*name)) {
        let parameters: serde_json::Map<_, _> =
            members.iter().map(|member| (member.name.clone(), sample(&member.kind))).collect();
        let wanted = serde_json::json!({ "error": format!("{INTERFACE}.{name}"), "parameters": parameters });
        match serde_json::from_value::<Refusal>(wanted.clone()) {
            Ok(refusal) if serde_json::to_value(&refusal).is_ok_and(|written| written == wanted) => {}
            Ok(refusal) => differences.push(format!("the error {name} is {refusal:?} in Rust")),
            Err(error) => differences.push(format!("the error {name}: {error}")),
        }
    }
}

fn sample(kind: &MemberType) -> serde_json::Value {
    match kind.name.as_str() {
        "int" => 7.into(),
        "string" => "text".into(),
        "bool" => true.into(),
        other => panic!("no error has a member of the type {other}"),
    }
}
