//! Rules in JSON, or in the YAML that some tools take as well.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ImportError, ImportOptions, unreadable};

/// Keys of an object that its shape does not know.
pub(super) type UnknownKeys = BTreeMap<String, Value>;

/// The JSON documents of a text, one after another.
///
/// # Errors
/// The place of what is not JSON.
pub(super) fn documents(text: &str, options: &ImportOptions, help: &str) -> Result<Vec<Value>, ImportError> {
    let documents: Result<Vec<Value>, serde_json::Error> =
        serde_json::Deserializer::from_str(text).into_iter().collect();
    match documents {
        Ok(documents) if documents.is_empty() => {
            Err(unreadable(options, "", "the file is empty").with_help(help.to_owned()))
        }
        Ok(documents) => Ok(documents),
        Err(error) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            Err(unreadable(options, &place, "not valid JSON").caused_by(error).with_help(help.to_owned()))
        }
    }
}

/// One part of a document in the shape that the tool documents.
///
/// # Errors
/// The place of what has another shape.
pub(super) fn shaped<T: DeserializeOwned>(
    value: &Value,
    place: &str,
    options: &ImportOptions,
    help: &str,
) -> Result<T, ImportError> {
    T::deserialize(value).map_err(|error| {
        unreadable(options, place, "not of the documented form").caused_by(error).with_help(help.to_owned())
    })
}

/// The widest line of an original.
const WIDTH: usize = 110;

/// The original of a rule for a comment, broken between its values where one line is too long.
pub(super) fn original(value: &Value) -> Vec<String> {
    let mut lines = vec![String::new()];
    for part in value.to_string().replace(",\"", ",\n\"").lines() {
        match lines.last_mut() {
            Some(line) if line.is_empty() || line.len() + part.len() < WIDTH => line.push_str(part),
            _ => lines.push(format!("  {part}")),
        }
    }
    lines
}

/// The unknown keys as a list for a remark.
pub(super) fn key_list(keys: &UnknownKeys) -> String {
    keys.keys().map(|key| format!("`{}`", key.escape_debug())).collect::<Vec<_>>().join(", ")
}

/// A duration as tools write it: `30d`, `2592000s`, `168h`, `1h30m`; in seconds, a fraction rounded up.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end =
            rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |end| digits + end);
        let unit = match rest[digits..unit_end].trim() {
            "w" => 604_800.0,
            "d" | "day" | "days" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "µs" => 0.000_001,
            "ns" => 0.000_000_001,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[unit_end..];
    }
    whole_seconds(total)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both ends are checked")]
fn whole_seconds(seconds: f64) -> Option<u64> {
    (seconds.is_finite() && (0.0..1e15).contains(&seconds)).then(|| seconds.ceil() as u64)
}
