//! Walks through the strings of an object: units of words, images of containers, and texts of several lines.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value as Json;

use super::{TextImage, TextImageKind, Unit};
use crate::domain::ImageReference;
use crate::sources::document::{Node, Value};
use crate::sources::image_syntax::{ParsedImage, parse_image};
use crate::sources::text;

/// Keys whose values do not concern images: bookkeeping of the API server and of `kubectl`.
const IGNORED_KEYS: [&str; 6] = [
    "creationTimestamp",
    "kubectl.kubernetes.io/last-applied-configuration",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

/// The key of an API version, which looks like a tag.
const VERSION: &str = "apiVersion";

/// Field names that every pod template has: as keys they do not count as words, or a repository of that name would be
/// mentioned everywhere. Sorted.
const POD_TEMPLATE_FIELDS: [&str; 32] = [
    "annotations",
    "args",
    "command",
    "container",
    "containers",
    "cpu",
    "data",
    "env",
    "image",
    "images",
    "key",
    "kind",
    "labels",
    "limits",
    "memory",
    "metadata",
    "name",
    "namespace",
    "operator",
    "path",
    "port",
    "ports",
    "protocol",
    "requests",
    "resources",
    "selector",
    "spec",
    "tag",
    "template",
    "type",
    "value",
    "volumes",
];

/// The role of a node in a pod template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Plain,
    Container,
    Volume,
    ImageVolume,
}

/// Findings of a walk besides the units that it added.
#[derive(Debug, Default)]
pub(super) struct WalkResult {
    /// The images of containers and volumes.
    pub(super) images: Vec<TextImage>,
    /// The containers and volumes, with their first and last lines.
    pub(super) containers: Vec<(u32, u32, Box<str>)>,
    /// The texts of several lines, with the lines of their nodes.
    pub(super) multiline: Vec<(u32, String)>,
    /// True if a unit is new for the object.
    pub(super) is_new: bool,
}

/// A walk through a part of one object.
struct Walk<'a> {
    /// Strings that were parsed as images before.
    read: &'a [&'a str],
    units: &'a mut HashMap<u64, Unit>,
    own: &'a mut HashSet<u64>,
    result: WalkResult,
    /// True inside JSON in a string.
    is_in_json: bool,
}

/// The strings of a unit.
#[derive(Default)]
struct Words {
    text: String,
    has_words: bool,
}

/// Adds the units of a part of an object. Everything handled elsewhere is removed from the part: images of containers,
/// texts of several lines, and irrelevant values.
pub(super) fn walk(
    part: &mut Node,
    read: &[&str],
    units: &mut HashMap<u64, Unit>,
    own: &mut HashSet<u64>,
) -> WalkResult {
    let mut walk = Walk { read, units, own, result: WalkResult::default(), is_in_json: false };
    walk.value(part, Role::Plain, "");
    walk.result
}

/// Adds words as a unit of an object.
pub(super) fn add_words(text: &str, units: &mut HashMap<u64, Unit>, own: &mut HashSet<u64>) {
    let hash = hash_of(text, false);
    units.entry(hash).or_insert_with(|| Unit { text: text.into(), by_line: false });
    own.insert(hash);
}

/// Converts a value into a node. Its lines are numbers in the order of the values; a text of several lines takes as
/// many.
pub(in crate::sources) fn from_json(value: Json) -> Node {
    let mut next = 1;
    node(value, &mut next)
}

fn node(value: Json, next: &mut u32) -> Node {
    let line = *next;
    *next += 1;
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Literal(value.to_string()),
        Json::Number(number) => Value::Literal(number.to_string()),
        Json::String(text) => {
            *next += breaks(&text);
            Value::Text(text)
        }
        Json::Array(values) => Value::List(values.into_iter().map(|value| node(value, next)).collect()),
        Json::Object(map) => {
            let entry = |(key, value)| {
                let node = node(value, next);
                (node.line, key, node)
            };
            Value::Map(map.into_iter().map(entry).collect())
        }
    };
    Node { line, value }
}

impl Walk<'_> {
    fn value(&mut self, node: &mut Node, role: Role, container: &str) {
        let (line, last) = (node.line, if role == Role::Plain { node.line } else { last_line(node) });
        match &mut node.value {
            Value::Map(entries) => {
                let named = name_of(entries).filter(|_| matches!(role, Role::Container | Role::Volume));
                match named {
                    Some(name) => {
                        // The lines of JSON in a string are not those of the object.
                        if !self.is_in_json {
                            self.result.containers.push((line, last, name.as_str().into()));
                        }
                        self.map(entries, role, &name);
                    }
                    None => self.map(entries, role, container),
                }
            }
            Value::List(nodes) => {
                let mut unit = Words::default();
                for node in &mut *nodes {
                    self.scalar(node, false, container, &mut unit);
                }
                self.add_unit(&unit);
                nodes.iter_mut().filter(|node| is_nested(node)).for_each(|node| self.value(node, role, container));
            }
            Value::Null | Value::Literal(_) | Value::Text(_) => {
                let mut unit = Words::default();
                self.scalar(node, false, container, &mut unit);
                self.add_unit(&unit);
            }
        }
    }

    fn map(&mut self, entries: &mut [(u32, String, Node)], role: Role, container: &str) {
        let mut unit = Words::default();
        for (_, key, node) in &mut *entries {
            if IGNORED_KEYS.contains(&key.as_str()) {
                node.value = Value::Null;
                continue;
            }
            if key.as_str() == VERSION {
                continue;
            }
            if POD_TEMPLATE_FIELDS.binary_search(&key.as_str()).is_err() {
                unit.add(key);
            }
            let is_image =
                matches!((role, key.as_str()), (Role::Container, "image") | (Role::ImageVolume, "reference"));
            self.scalar(node, is_image, container, &mut unit);
        }
        self.add_unit(&unit);
        for (_, key, node) in entries.iter_mut().filter(|(_, _, node)| is_nested(node)) {
            let in_list = matches!(node.value, Value::List(_));
            let inner = match (role, key.as_str()) {
                (_, "containers" | "initContainers" | "ephemeralContainers") if in_list => Role::Container,
                (_, "volumes") if in_list => Role::Volume,
                (Role::Volume, "image") => Role::ImageVolume,
                // Container Instances store everything about a container except its name here.
                (Role::Container, "properties") => Role::Container,
                _ => Role::Plain,
            };
            self.value(node, inner, container);
        }
    }

    /// Adds a string to its unit. A string with several lines, or with JSON in it, forms units of its own.
    fn scalar(&mut self, node: &mut Node, is_image: bool, container: &str, unit: &mut Words) {
        let text = match &node.value {
            Value::Text(text) => text.trim_end_matches(['\r', '\n']),
            Value::Literal(text) if !matches!(text.as_str(), "true" | "false") => text,
            Value::Null | Value::Literal(_) | Value::List(_) | Value::Map(_) => return,
        };
        let (is_known, is_long) = (self.read.contains(&text), text.contains('\n'));
        if is_image || is_known {
            // References in nested strings are not claimed, so their tags must remain words.
            if self.is_in_json && !is_known {
                unit.add(text);
            } else {
                unit.add(&image_words(text));
            }
            if !is_known && !self.is_in_json {
                let what = TextImageKind::SpecField(text.to_owned());
                self.result.images.push(TextImage { container: container.into(), line: node.line, kind: what });
            }
        } else if is_long && text::is_own_document(text) {
            // Tagwarden's own reports name every tag.
        } else {
            match parse_json(text) {
                Some(mut inner) => {
                    let around = std::mem::replace(&mut self.is_in_json, true);
                    self.value(&mut inner, Role::Plain, container);
                    self.is_in_json = around;
                }
                None if is_long => self.insert_unit(text, true),
                None => unit.add(text),
            }
            if !is_long {
                return;
            }
            if !self.is_in_json {
                self.result.multiline.push((node.line, text.to_owned()));
            }
        }
        node.value = Value::Null;
    }

    fn add_unit(&mut self, unit: &Words) {
        if unit.has_words {
            self.insert_unit(&unit.text, false);
        }
    }

    fn insert_unit(&mut self, text: &str, by_line: bool) {
        let hash = hash_of(text, by_line);
        self.units.entry(hash).or_insert_with(|| Unit { text: text.into(), by_line });
        self.result.is_new |= self.own.insert(hash);
    }
}

impl Words {
    fn add(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.has_words {
            self.text.push(' ');
        }
        self.has_words = true;
        self.text.push_str(text);
    }
}

/// Returns the words of a text that is parsed as an image. If it is understood only the repository counts: its tag is
/// claimed, and does not concern the repositories beside it.
fn image_words(text: &str) -> Cow<'_, str> {
    match parse_image(text) {
        ParsedImage::Image(ImageReference { repository: Some(path), .. }) => Cow::Owned(path.as_str().to_owned()),
        _ => Cow::Borrowed(text),
    }
}

/// Parses a mapping or a list in a string as JSON.
fn parse_json(text: &str) -> Option<Node> {
    let begins = text.trim_start().starts_with(['{', '[']);
    begins.then(|| serde_json::from_str(text).ok()).flatten().map(from_json)
}

fn name_of(entries: &[(u32, String, Node)]) -> Option<String> {
    entries.iter().find_map(|(_, key, node)| match &node.value {
        Value::Text(name) if key == "name" => Some(name.clone()),
        _ => None,
    })
}

fn is_nested(node: &Node) -> bool {
    matches!(node.value, Value::Map(_) | Value::List(_))
}

/// Returns the last line of a value.
fn last_line(node: &Node) -> u32 {
    let inner = match &node.value {
        Value::List(nodes) => nodes.iter().map(last_line).max(),
        Value::Map(entries) => entries.iter().map(|(_, _, node)| last_line(node)).max(),
        Value::Text(text) => Some(node.line + breaks(text)),
        Value::Null | Value::Literal(_) => None,
    };
    inner.unwrap_or_default().max(node.line)
}

fn breaks(text: &str) -> u32 {
    u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX)
}

fn hash_of(text: &str, by_line: bool) -> u64 {
    let mut hasher = DefaultHasher::new();
    (text, by_line).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The units of a value, and the parts handled elsewhere.
    fn walked(json: &str, read: &[&str]) -> Vec<String> {
        let (mut units, mut own) = (HashMap::new(), HashSet::new());
        let mut part = from_json(serde_json::from_str(json).unwrap());
        let found = walk(&mut part, read, &mut units, &mut own);
        let sorted = |text: &str| {
            let mut words: Vec<&str> = text.split(' ').collect();
            words.sort_unstable();
            words.join(" ").replace('\n', "|")
        };
        let mut lines: Vec<String> = units.into_values().map(|unit| sorted(&unit.text)).collect();
        lines.extend(found.images.into_iter().map(|spot| match spot.kind {
            TextImageKind::SpecField(text) => format!("image {text} in {}", spot.container),
            other => format!("{other:?}"),
        }));
        lines.extend(found.multiline.into_iter().map(|(line, text)| format!("{line}: {}", text.replace('\n', "|"))));
        lines.sort();
        lines
    }

    #[test]
    fn strings_that_stand_together_are_a_unit() {
        for (json, expected) in [
            (r#"{"app": "api", "deep": {"name": "x", "value": 7}}"#, &["api app deep", "7 x"][..]),
            (r#"{"args": ["--a", "b", {"env": "c"}], "ready": true}"#, &["--a b", "c", "ready"]),
            (r#"{"apiVersion": "v1", "uid": "u", "kind": "Job", "managedFields": [{"a": "b"}]}"#, &["Job"]),
            (r#"{"notes": "v7\n"}"#, &["notes v7"]),
            (r#"{"a": "x", "notes": "b\nc"}"#, &["3: b|c", "a notes x", "b|c"]),
            (r#"{"json": "{\"image\": \"api\", \"tag\": \"v7\"}"}"#, &["api v7", "json"]),
            (r#"{"j": "{\"containers\":[{\"name\":\"c\",\"image\":\"shop/api:v7\"}]}"}"#, &["c shop/api:v7", "j"]),
            (r#"{"text": "[not json]"}"#, &["[not json] text"]),
            (
                r#"{"containers": [{"name": "c", "image": "x.example/shop/api:v7", "env": [{"name": "A", "value": "b"}]}]}"#,
                &["A b", "c shop/api", "image x.example/shop/api:v7 in c"],
            ),
            (
                r#"{"volumes": [{"name": "v", "image": {"reference": "shop/model:1"}}]}"#,
                &["image shop/model:1 in v", "reference shop/model", "v"],
            ),
            (r#"{"image": "shop/api:v7", "size": "3"}"#, &["3 shop/api:v7 size"]),
            (r#"{"image": "shop/read:v7", "size": "3"}"#, &["3 shop/read size"]),
        ] {
            let mut expected: Vec<&str> = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(walked(json, &["shop/read:v7"]), expected, "{json}");
        }
    }
}
