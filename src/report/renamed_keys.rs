//! Keys and labels of the version before, in plans and in the evidence that journals keep.

use serde_json::Value;

/// Old and new keys of plans and journals of the version before.
const RENAMED_KEYS: [(&str, &str); 13] = [
    ("particulars", "info"),
    ("sku", "tier"),
    ("odd_names", "invalid_names"),
    ("known_from", "ability_origin"),
    ("misses", "shortfalls"),
    ("doubt", "uncertainty"),
    ("due", "eligible"),
    ("waiting", "pending"),
    ("next_at", "next_eligible_at"),
    ("due_at", "eligible_at"),
    ("goes", "deletable"),
    ("along", "dependents"),
    ("stays", "retain_reasons"),
];

/// Renames the keys and labels of a plan or a reason of the version before.
pub(super) fn rename_keys(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(rename_keys).collect(),
        Value::Object(entries) => {
            let rename = |(key, value): (String, Value)| {
                let value =
                    if key == "kind" && value == "let-go" { Value::from("not-kept") } else { rename_keys(value) };
                let renamed = RENAMED_KEYS.iter().find(|(old, _)| *old == key).map(|(_, new)| (*new).to_owned());
                (renamed.unwrap_or(key), value)
            };
            entries.into_iter().map(rename).collect()
        }
        other => other,
    }
}
