//! The shell texts of scripts, and of the YAML or JSON of tasks.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// The shell text of a file.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) scripts: Vec<String>,
    /// A task or a timer in it is switched off.
    pub(super) is_disabled: bool,
}

impl Texts {
    /// Takes all of the text, or the texts of a YAML or JSON document.
    pub(super) fn read(&mut self, text: &str) {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_default();
        // `echo "as planned: acr purge …"` is valid YAML, too.
        let is_key = |key: &String| !key.contains(char::is_whitespace);
        let is_structured = |document: &Value| match document {
            Value::Object(entries) => entries.keys().all(is_key),
            other => other.is_array() || other.is_null(),
        };
        if documents.iter().all(is_structured) && documents.iter().any(|document| !document.is_null()) {
            for document in &documents {
                self.collect(document);
            }
        } else {
            self.scripts.push(text.to_owned());
        }
    }

    fn collect(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.scripts.push(text.clone()),
            Value::Array(values) => values.iter().for_each(|value| self.collect(value)),
            Value::Object(entries) => {
                for (key, value) in entries {
                    let encoded = value.as_str().filter(|_| key == "encodedTaskContent");
                    let decoded = encoded.and_then(|text| BASE64_STANDARD.decode(text).ok());
                    match decoded.and_then(|bytes| String::from_utf8(bytes).ok()) {
                        Some(text) => self.read(&text),
                        None => self.collect(value),
                    }
                    match value.as_str() {
                        Some(schedule) if key == "schedule" => self.scripts.push(format!("--schedule '{schedule}'")),
                        Some("Disabled") if key == "status" => self.is_disabled = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}
