//! The plan's id, which makes an approved plan recognisable and an edited one useless.

use std::io;

use sha2::{Digest as _, Sha256};

use super::{PlanDocument, SCHEMA};

/// Gives a document its id: `sha256:` over its JSON with an empty id.
pub fn assign_plan_id(document: &mut PlanDocument) {
    document.id = String::new();
    document.id = plan_id(document);
}

/// Reads a document back and makes sure that it is exactly what was sealed.
///
/// # Errors
/// When it is no plan, a plan of another version, or was edited in any way, white space aside.
pub fn read_plan(text: &str) -> Result<PlanDocument, PlanReadError> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| PlanReadError::NotJson(error.to_string()))?;
    let schema = value.get("schema").and_then(serde_json::Value::as_str).unwrap_or_default();
    if schema != SCHEMA {
        return Err(PlanReadError::OtherSchema(schema.to_owned()));
    }
    let document: PlanDocument =
        serde_json::from_str(text).map_err(|error| PlanReadError::NotAPlan(error.to_string()))?;
    let mut unsealed = document.clone();
    assign_plan_id(&mut unsealed);
    // The second comparison finds what the shape does not know and would drop: keys that somebody added.
    if unsealed.id != document.id || serde_json::to_value(&document).ok().as_ref() != Some(&value) {
        return Err(PlanReadError::Edited { stated: document.id, computed: unsealed.id });
    }
    Ok(document)
}

/// Why a text is no plan that can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanReadError {
    /// It is no JSON.
    #[error("the plan is no JSON: {0}")]
    NotJson(String),
    /// It is another kind of document.
    #[error("the plan's schema is `{0}`, and this version reads `{SCHEMA}`")]
    OtherSchema(String),
    /// It lacks what a plan has.
    #[error("this is no plan: {0}")]
    NotAPlan(String),
    /// It was changed after it was made.
    #[error("the plan was edited: it says that it is {stated}, and its content is {computed}; make a new plan instead")]
    Edited {
        /// The id in it.
        stated: String,
        /// The id of its content.
        computed: String,
    },
}

fn plan_id(document: &PlanDocument) -> String {
    // JSON is written in small pieces, and hashed in large ones.
    let mut writer = io::BufWriter::with_capacity(16 << 10, HashWriter(Sha256::new()));
    let written = serde_json::to_writer(&mut writer, document).map_err(io::Error::from);
    match written.and_then(|()| writer.into_inner().map_err(io::IntoInnerError::into_error)) {
        Ok(HashWriter(hash)) => format!("sha256:{}", hex(&hash.finalize())),
        // Neither the shape (string keys only) nor the writer can fail; an id that matches nothing is the safe answer.
        Err(error) => format!("unsealed:{error}"),
    }
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
