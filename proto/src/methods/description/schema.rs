//! (tests) The JSON Schema that `poolctl schema` prints has the protocol's types as the description has them.
//! What poolctl's own documents look like is written by hand in the same file.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Map, Value, json};

use super::super::DESCRIPTION;
use super::varlink::{Description, Member, MemberType};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ctl/schema.json");

/// Replies that are documents of poolctl by themselves, each with the method.
const REPLIES: [(&str, &str); 1] = [("Happening", "Events")];

/// Documents of poolctl that are a type, or a reply, with the member `schema` besides.
const DOCUMENTS: [(&str, &str); 4] = [
    ("CallbackDocument", "CallbackRecord"),
    ("ExplanationDocument", "Explanation"),
    ("ScheduleDocument", "ScheduleState"),
    ("SettingsDocument", "Settings"),
];

#[test]
fn the_schema_has_the_types_of_the_description() {
    let text = fs::read_to_string(FILE).expect("the schema is there");
    let mut schema: Value = serde_json::from_str(&text).expect("the schema is JSON");
    let told = schema["$defs"].as_object_mut().expect("the schema has definitions");

    let wanted = definitions(&Description::parse(DESCRIPTION));
    let is_equal = wanted.iter().all(|(name, definition)| told.get(name) == Some(definition));
    if is_equal {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_SCHEMA").is_some(),
        "ctl/schema.json is not as the description has it: run this test with UPDATE_SCHEMA=1"
    );
    told.extend(wanted);
    fs::write(FILE, format!("{schema:#}\n")).expect("the schema can be written");
}

fn definitions(description: &Description) -> BTreeMap<String, Value> {
    let types = description.types.iter().map(|(name, members)| (name.clone(), object(members, false)));
    let replies =
        REPLIES.map(|(name, method)| (name.to_owned(), object(&description.methods[method].1, false)));
    let documents = DOCUMENTS.map(|(name, of)| {
        let members = description.types.get(of).unwrap_or_else(|| &description.methods[of].1);
        (name.to_owned(), object(members, true))
    });
    types.chain(replies).chain(documents).collect()
}

fn object(members: &[Member], is_document: bool) -> Value {
    let mut properties: Map<String, Value> =
        members.iter().map(|member| (member.name.clone(), kind(&member.kind))).collect();
    let mut required: Vec<&str> =
        members.iter().filter(|member| !member.kind.optional).map(|member| member.name.as_str()).collect();
    if is_document {
        properties.insert("schema".to_owned(), json!({ "type": "integer" }));
        required.push("schema");
    }
    json!({ "type": "object", "properties": properties, "required": required })
}

fn kind(kind: &MemberType) -> Value {
    let one = match kind.name.as_str() {
        "" => json!({ "enum": kind.one_of }),
        "int" => json!({ "type": "integer" }),
        "float" => json!({ "type": "number" }),
        "bool" => json!({ "type": "boolean" }),
        "string" => json!({ "type": "string" }),
        "object" => json!({}),
        name => json!({ "$ref": format!("#/$defs/{name}") }),
    };
    let all = match (kind.list, kind.dictionary) {
        (true, _) => json!({ "type": "array", "items": one }),
        (_, true) => json!({ "type": "object", "additionalProperties": one }),
        _ => one,
    };
    if kind.optional { json!({ "anyOf": [all, { "type": "null" }] }) } else { all }
}
