//! `poolctl schema`: the JSON Schema of what `--json` prints.

use anyhow::bail;
use clap::Args;

use super::Context;
use crate::cli::UsageError;
use crate::exit::ExitReason;
use crate::term::{json, text};

/// The schema. The test of the suite `schema` holds what every verb prints to it, and a test of the protocol
/// its types to the interface's description.
const SCHEMA: &str = include_str!("../../schema.json");

/// Print the JSON Schema of what --json prints
///
/// Members may be added to any object; none is taken away, and none changes its meaning, while `schema` is
/// the same number.
#[derive(Debug, Args)]
pub struct SchemaOptions {
    /// The words of a verb, such as `pool ls`, for the schema of what that verb prints
    #[arg(value_name = "VERB")]
    words: Vec<String>,
}

impl SchemaOptions {
    /// Prints the schema.
    ///
    /// # Errors
    /// When the verb prints no JSON, or stdout takes nothing.
    pub fn run(self, _context: &Context) -> anyhow::Result<ExitReason> {
        if self.words.is_empty() {
            text::print(SCHEMA)?;
            return Ok(ExitReason::Success);
        }

        let mut schema: serde_json::Value = serde_json::from_str(SCHEMA)?;
        let verb = self.words.join(" ");
        let Some(name) = schema["verbs"][&verb].as_str().map(str::to_owned) else {
            let verbs: Vec<&str> = schema["verbs"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(verb, _)| verb.as_str())
                .filter(|verb| !verb.is_empty())
                .collect();
            bail!(UsageError::new(format!("{verb:?} prints no JSON; these verbs do: {}", verbs.join(", "))));
        };
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("verbs");
            schema.remove("oneOf");
            schema.insert("$ref".to_owned(), name.into());
        }
        json::print(&schema)?;
        Ok(ExitReason::Success)
    }
}
