//! Paths of fields in a document: `items[].spec.image`.

use std::fmt;
use std::str::FromStr;

use serde_json::Value as Json;

use super::document::{Node, Value};

/// The path to fields of a document: keys separated by dots, `*` for every key of a map. Lists on the way are
/// traversed, with or without `[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    text: String,
    keys: Vec<String>,
}

/// Error for an invalid path of fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid field path; write one like `spec.template` or `spec.containers[*].image`")]
pub struct InvalidPath(String);

impl FromStr for FieldPath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let path = text.strip_prefix("$.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
        let key = |part: &str| {
            let mut key = part;
            while let Some(inner) = key.strip_suffix("[]").or_else(|| key.strip_suffix("[*]")) {
                key = inner;
            }
            let sound = !key.contains(['[', ']', '"', '\'', ' ']) && (!key.is_empty() || part.starts_with('['));
            sound.then(|| key.to_owned()).ok_or_else(|| InvalidPath(text.to_owned()))
        };
        let keys: Vec<String> = path.split('.').map(key).collect::<Result<_, _>>()?;
        // A list at the top has no key.
        let keys = keys.into_iter().filter(|key| !key.is_empty()).collect();
        Ok(Self { text: text.to_owned(), keys })
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FieldPath {
    /// Returns a normal form of the path: `items.image` for `$.items[*].image`.
    #[must_use]
    pub fn keys(&self) -> String {
        self.keys.join(".")
    }

    /// Returns all nodes at the end of the path, with lists flattened.
    pub(super) fn find<'n>(&self, document: &'n Node) -> Vec<&'n Node> {
        let mut found = Vec::new();
        follow(&self.keys, document, &mut found);
        found
    }

    /// Does the same for JSON without line numbers.
    pub(super) fn find_json<'v>(&self, document: &'v Json) -> Vec<&'v Json> {
        let mut found = Vec::new();
        follow_json(&self.keys, document, &mut found);
        found
    }
}

fn follow<'n>(keys: &[String], node: &'n Node, found: &mut Vec<&'n Node>) {
    match (&node.value, keys) {
        (Value::List(nodes), _) => nodes.iter().for_each(|node| follow(keys, node, found)),
        (_, []) => found.push(node),
        (Value::Map(entries), [key, rest @ ..]) => {
            let here = entries.iter().filter(|(_, name, _)| key == "*" || name == key);
            here.for_each(|(_, _, node)| follow(rest, node, found));
        }
        _ => {}
    }
}

fn follow_json<'v>(keys: &[String], value: &'v Json, found: &mut Vec<&'v Json>) {
    match (value, keys) {
        (Json::Array(values), _) => values.iter().for_each(|value| follow_json(keys, value, found)),
        (_, []) => found.push(value),
        (Json::Object(entries), [key, rest @ ..]) => {
            let here = entries.iter().filter(|(name, _)| key == "*" || *name == key);
            here.for_each(|(_, value)| follow_json(rest, value, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::{Format, parse};
    use super::*;

    #[test]
    fn paths_lead_through_maps_and_lists() {
        let text =
            r#"{"items": [{"image": "a", "all": {"x": "b", "y": ["c", "d"]}}, {"image": null}, 7], "image": "e"}"#;
        let document = &parse(text, Format::Json).unwrap()[0];
        for (path, expected) in [
            ("items[].image", "a -"),
            ("items.image", "a -"),
            (".image", "e"),
            ("$.items[*].all.*", "b c d"),
            ("items[].all.y[]", "c d"),
            ("items[].other", ""),
            ("image.deeper", ""),
        ] {
            let found: Vec<&str> = path
                .parse::<FieldPath>()
                .unwrap()
                .find(document)
                .into_iter()
                .map(|node| if let Value::Text(text) = &node.value { text } else { "-" })
                .collect();
            assert_eq!(found.join(" "), expected, "{path}");
            let json: Json = serde_json::from_str(text).unwrap();
            let path: FieldPath = path.parse().unwrap();
            let found: Vec<&str> =
                path.find_json(&json).into_iter().map(|value| value.as_str().unwrap_or("-")).collect();
            assert_eq!(found.join(" "), expected, "{path}");
        }
        let list = &parse(r#"[{"image": "a"}]"#, Format::Json).unwrap()[0];
        assert_eq!("[].image".parse::<FieldPath>().unwrap().find(list).len(), 1);
        for wrong in ["", ".", "a..b", "a[0].b", "a[?(@.b)]", "a b", "a."] {
            assert!(wrong.parse::<FieldPath>().is_err(), "{wrong:?}");
        }
    }
}
