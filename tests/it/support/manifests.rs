//! Kubernetes manifests, read as the API would.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The documents of a manifest.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// A document as its kind; a key that the API does not know is missing when it is written again.
#[track_caller]
pub(crate) fn typed<T: DeserializeOwned + Serialize>(document: &Value) -> T {
    let read: T = serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{error}: {document}"));
    let again = serde_json::to_value(&read).unwrap();
    same(document, &again, "");
    read
}

/// Everything of the one is in the other; an empty map or list may be left out.
#[track_caller]
fn same(one: &Value, other: &Value, at: &str) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in one {
                same(value, other.get(key).unwrap_or(&Value::Null), &format!("{at}.{key}"));
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            one.iter().zip(other).for_each(|(one, other)| same(one, other, &format!("{at}[]")));
        }
        (Value::Object(empty), Value::Null) if empty.is_empty() => {}
        (Value::Array(empty), Value::Null) if empty.is_empty() => {}
        _ => assert_eq!(one, other, "{at} is not known to the API"),
    }
}
