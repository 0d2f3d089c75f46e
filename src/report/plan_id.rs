//! The id of a plan, which identifies an approved plan and reveals edits.

use std::io;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::plan_chunks::{chunk_hashes, plan_head};
use super::renamed_keys::rename_keys;
use super::{PlanDocument, SCHEMA};
use crate::domain::{Cause, InvalidText, chain};

/// Sets the id of a document: `sha256:` over its head (its JSON with an empty id and its two long lists empty) and the
/// hashes of its chunks. So a plan can be written, checked and applied in parts.
pub fn assign_plan_id(document: &mut PlanDocument) {
    document.id = String::new();
    let hashes = chunk_hashes(document).collect::<io::Result<Vec<String>>>();
    document.id = match hashes {
        Ok(hashes) => plan_id(document, hashes.iter().map(String::as_str)),
        Err(error) => format!("unsealed:{}", chain(&error)),
    };
}

/// Sets the id from known hashes of the chunks, in the plan's order.
pub(super) fn assign_plan_id_by_hashes<'h>(document: &mut PlanDocument, hashes: impl Iterator<Item = &'h str>) {
    document.id = String::new();
    document.id = plan_id(document, hashes);
}

/// Parses a document and verifies that it is unchanged.
///
/// # Errors
/// Returns [`PlanReadError`] if the text is not a plan, is a plan of another version, or was edited in any way, white
/// space aside.
pub fn read_plan(text: &str) -> Result<PlanDocument, PlanReadError> {
    let value: Value = serde_json::from_str(text).map_err(|error| PlanReadError::NotJson(error.into()))?;
    let schema = value.get("schema").and_then(Value::as_str).unwrap_or_default();
    if schema != SCHEMA {
        return Err(PlanReadError::OtherSchema(schema.to_owned()));
    }
    let document: PlanDocument = serde_json::from_str(text).map_err(|error| PlanReadError::NotAPlan(error.into()))?;
    let mut unsealed = document.clone();
    assign_plan_id(&mut unsealed);
    // Comparing the values also detects added keys, which parsing would drop.
    let written = serde_json::to_value(&document).ok();
    let current = unsealed.id == document.id && written.as_ref() == Some(&value);
    if !current && !is_older_plan(text, &document.id, written.as_ref(), value) {
        return Err(PlanReadError::Edited { stated: document.id, computed: unsealed.id });
    }
    Ok(document)
}

/// Why a text is not a trustworthy plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanReadError {
    /// The bytes are not text.
    #[error("the plan is not readable text")]
    NotText(#[from] InvalidText),
    /// The text is not JSON.
    #[error("the plan is not JSON")]
    NotJson(#[source] Cause),
    /// It is another kind of document.
    #[error("the plan {}, and this version reads `{SCHEMA}`", describe_schema(.0))]
    OtherSchema(String),
    /// It lacks what a plan has.
    #[error("this is not a plan")]
    NotAPlan(#[source] Cause),
    /// It was changed after it was made.
    #[error("the plan was edited: it says that it is {stated}, and its content is {computed}; make a new plan instead")]
    Edited {
        /// The id in it.
        stated: String,
        /// The id of its content.
        computed: String,
    },
}

impl PlanReadError {
    /// Returns true for a text that never was a plan, such as its report in another format.
    #[must_use]
    pub fn is_another_file(&self) -> bool {
        match self {
            Self::NotText(_) | Self::NotJson(_) => true,
            Self::OtherSchema(schema) => !schema.starts_with("tagwarden.plan/"),
            // It has the schema of a plan.
            Self::NotAPlan(_) | Self::Edited { .. } => false,
        }
    }
}

fn plan_id<'h>(document: &PlanDocument, hashes: impl Iterator<Item = &'h str>) -> String {
    match plan_head(document) {
        Ok(head) => {
            let mut hash = Sha256::new();
            hash.update(head.as_bytes());
            for chunk in hashes {
                hash.update(b"\n");
                hash.update(chunk.as_bytes());
            }
            format!("sha256:{}", hex(&hash.finalize()))
        }
        // The document has string keys only, so this cannot fail; an id that matches nothing is the safe result.
        Err(error) => format!("unsealed:{}", chain(&error)),
    }
}

/// Returns true for an unedited plan of the version before, which has other keys. Its id depends on its own text only.
fn is_older_plan(text: &str, id: &str, written: Option<&Value>, value: Value) -> bool {
    text_id(text, id) == id && written == Some(&rename_keys(value))
}

/// Returns `sha256:` over the text without white space and with an empty id.
fn text_id(text: &str, id: &str) -> String {
    let mut compact = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in text.chars() {
        if in_string || !character.is_ascii_whitespace() {
            compact.push(character);
        }
        if in_string {
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else {
            in_string = character == '"';
        }
    }
    let unsealed = compact.replacen(&format!("\"id\":\"{id}\""), "\"id\":\"\"", 1);
    format!("sha256:{}", hex(&Sha256::digest(unsealed.as_bytes())))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

pub(super) struct HashWriter(pub(super) Sha256);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
/// Describes the schema that a plan names, for a sentence about the plan.
fn describe_schema(schema: &str) -> String {
    if schema.is_empty() { "has no `schema`".to_owned() } else { format!("has the schema `{schema}`") }
}
