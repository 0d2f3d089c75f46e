//! Reading of documents in JSON and YAML: their scalars, each in the context of its keys and the scalars beside it.

use std::collections::HashMap;

use super::assignments::{Reader, set_to_unknown};
use super::decoder::decode;
use super::mapping::{Entry, Frame};
use super::nearby_words::{self, nearby_words};
use super::occurrences::{scan, scan_hosts};
use super::placeholder;
use super::reference_collector::{Place, ReferenceCollector, ScalarId};
use super::running_text::{self, TextContext, VariableUses};
use super::split_references::{collect_from_mapping, collect_keyed, is_registry_key, registries};
use super::usage::{Usage, is_image_key};
use super::variables::Definitions;
use crate::domain::ImageReference;
use crate::sources::document::{Node, Value};
use crate::sources::known_hosts::KnownHosts;

/// Keys whose values do not concern images and look like tags.
const IGNORED_KEYS: [&str; 3] = ["apiVersion", "schemaVersion", "resourceVersion"];

/// Keys whose nested scalars count as adjacent to those of the mapping: Flux writes the tag there, and attestations
/// write digests by their algorithms.
const NESTED_KEYS: [&str; 2] = ["digest", "ref"];

/// Keys of mappings that define variables.
const DEFINITION_KEYS: [&str; 14] = [
    "args",
    "build-args",
    "build_args",
    "env",
    "inputs",
    "locals",
    "matrix",
    "parameters",
    "params",
    "set_fact",
    "substitute",
    "variables",
    "vars",
    "with",
];

/// Keys whose mappings contain nothing but variables.
const VARIABLE_KEYS: [&str; 4] = ["env", "locals", "variables", "vars"];

/// Keys of a definition beside or instead of its value.
const VALUE_KEYS: [&str; 3] = ["value", "default", "defaultValue"];

/// Longest list whose scalars are adjacent, such as the arguments of a command.
const MOST_ITEMS: usize = 64;

/// A walk through the documents of one text.
pub(super) struct Walk<'w, 'n> {
    pub(super) name: &'w str,
    pub(super) hosts: &'w KnownHosts,
    pub(super) found: &'w mut ReferenceCollector,
    /// The path to the current position of the walk.
    frames: Vec<Frame<'n>>,
    /// The values of lists of names and values around it.
    pairs: Vec<&'n str>,
    registries: Vec<&'n str>,
    /// The uses of variables, if the walk collects these.
    uses: Option<VariableUses>,
    /// True for running text that happens to parse as a document: its references were collected already.
    is_parts_only: bool,
}

impl<'w, 'n> Walk<'w, 'n> {
    pub(super) fn new(name: &'w str, hosts: &'w KnownHosts, found: &'w mut ReferenceCollector) -> Self {
        let (frames, pairs, registries) = (Vec::new(), Vec::new(), Vec::new());
        Self { name, hosts, found, frames, pairs, registries, uses: None, is_parts_only: false }
    }

    /// Adds the references in the documents whose parts are under separate keys, and nothing else.
    pub(super) fn read_parts(&mut self, documents: &'n [Node]) {
        self.is_parts_only = true;
        self.read(documents);
    }

    /// Adds the references in the documents.
    pub(super) fn read(&mut self, documents: &'n [Node]) {
        self.registries = registries(documents, self.hosts);
        for document in documents {
            self.node(document);
        }
    }

    /// Returns the uses of variables in the documents.
    pub(super) fn uses(mut self, documents: &'n [Node]) -> VariableUses {
        self.uses = Some(VariableUses::default());
        for document in documents {
            self.node(document);
        }
        self.uses.unwrap_or_default()
    }

    fn node(&mut self, node: &'n Node) {
        match &node.value {
            Value::Map(entries) => self.map(entries),
            Value::List(nodes) => self.list(nodes),
            Value::Text(text) => self.scalar(node, text, "", &[text.as_str()]),
            Value::Null | Value::Literal(_) => {}
        }
    }

    fn map(&mut self, entries: &'n [Entry]) {
        if self.uses.is_none() {
            self.parts(entries);
        }
        let mut unit: Option<Vec<&str>> = None;
        for (line, key, node) in entries {
            self.frames.push(Frame { key, entries });
            if self.uses.is_none() && !self.is_parts_only && key.contains('/') && self.hosts.is_prefix_of(key) {
                self.key(*line, key, node, entries);
            }
            match &node.value {
                Value::Text(text) if may_have_reference(text) => {
                    let unit = unit.get_or_insert_with(|| values_of(entries, &self.pairs));
                    self.scalar(node, text, "", unit);
                }
                _ => self.node(node),
            }
            self.frames.pop();
        }
    }

    fn list(&mut self, nodes: &'n [Node]) {
        let around = self.pairs.len();
        self.pairs.extend(nodes.iter().filter_map(pair).filter_map(|(_, value)| text_of(value)));
        if self.uses.is_none() && self.pairs.len() > around {
            self.named_parts(nodes);
        }
        let texts: Vec<&'n str> = nodes.iter().filter_map(text_of).collect();
        let unit = if texts.len() <= MOST_ITEMS { &texts[..] } else { &[] };
        let mut command = String::new();
        for node in nodes {
            match &node.value {
                Value::Text(text) => {
                    let own = [text.as_str()];
                    self.scalar(node, text, &command, if unit.is_empty() { &own } else { unit });
                    // Adjacent words matter only within one command.
                    if text.trim().contains(char::is_whitespace) || command.len() > 2000 {
                        command.clear();
                    } else {
                        if command.is_empty() && matches!(text.as_str(), "build" | "push" | "tag") {
                            command.push_str("docker ");
                        }
                        command.push_str(text);
                        command.push(' ');
                    }
                }
                _ => self.node(node),
            }
        }
        self.pairs.truncate(around);
    }

    /// Parses the parts of images in a mapping.
    fn parts(&mut self, entries: &'n [Entry]) {
        self.parts_of(entries.iter().map(|(_, key, node)| (key.as_str(), node)), entries);
        // `image.repository` beside `image.tag`.
        let dotted = entries.iter().filter(|(_, key, _)| key.contains('.')).map(|(_, key, node)| (key.as_str(), node));
        for group in groups(dotted) {
            self.parts_of(group.into_iter(), entries);
        }
    }

    /// Parses the parts of images in a list of names and values.
    fn named_parts(&mut self, nodes: &'n [Node]) {
        for group in groups(nodes.iter().filter_map(pair)) {
            self.parts_of(group.into_iter(), &[]);
        }
    }

    fn parts_of(&mut self, parts: impl Iterator<Item = (&'n str, &'n Node)>, entries: &'n [Entry]) {
        let (name, hosts, frames, pairs) = (self.name, self.hosts, &self.frames, &self.pairs);
        let place = |line| {
            // Variables are not unresolved by themselves; their uses may be.
            let is_variables = frames.last().is_some_and(|frame| VARIABLE_KEYS.contains(&frame.key));
            let usage = if is_variables { Usage::Output } else { Usage::in_mapping(frames, name) };
            Place { line, scalar: ScalarId::default(), usage, is_image: true, defines: None }
        };
        let words = |own: &ImageReference| nearby_words(values_of(entries, pairs).into_iter(), own, hosts);
        collect_from_mapping(parts, hosts, &self.registries, place, words, self.found);
    }

    /// Parses a key that is a repository.
    fn key(&mut self, line: u32, key: &'n str, node: &'n Node, entries: &'n [Entry]) {
        if collect_keyed(line, key, node, self.found) {
            return;
        }
        let usage = Usage::in_mapping(&self.frames, self.name);
        let place = Place { line, scalar: ScalarId::default(), usage, is_image: false, defines: None };
        for seen in scan_hosts(key, self.hosts) {
            if placeholder::has_placeholder(seen.text) {
                self.found.add_placeholders(seen.text, place);
                continue;
            }
            let left = self.found.add_literal(seen.text, seen.ending, line, "");
            let inner: &[Entry] = if let Value::Map(inner) = &node.value { inner } else { entries };
            let (hosts, pairs) = (self.hosts, &self.pairs);
            self.found
                .add_open(seen.text, left, place, |own| nearby_words(values_of(inner, pairs).into_iter(), own, hosts));
        }
    }

    /// Parses a text. `before` are the words before it in a list, and `unit` the texts adjacent to it.
    fn scalar(&mut self, node: &Node, text: &str, before: &str, unit: &[&str]) {
        if self.is_parts_only || !may_have_reference(text) {
            return;
        }
        let (key, up) = (self.key_at(0), self.key_at(1));
        let text = decode(text);
        let is_long = text.trim_end().contains('\n');
        let is_step = key == "build" && up == "steps";
        let around = TextContext {
            line_offset: node.line.saturating_sub(1),
            scalar: ScalarId::of(node),
            usage: Usage::in_mapping(&self.frames, self.name),
            before: if is_step { "docker build" } else { before },
            unit: if is_long { &[] } else { unit },
            is_image: !is_long && is_image_key(key),
            defines: if is_long { None } else { self.defined_variable() },
        };
        if let Some(uses) = &mut self.uses {
            uses.read(&text, &around);
            return;
        }
        // The path of a registry is not a repository.
        if is_registry_key(key) && around.usage == Usage::Named {
            let around = TextContext { usage: Usage::Run, ..around };
            return running_text::collect_references(&text, self.name, self.hosts, &around, self.found);
        }
        running_text::collect_references(&text, self.name, self.hosts, &around, self.found);
        if around.is_image {
            self.image(node, text.trim(), around.usage);
        }
    }

    /// Parses a text without a host where an image is expected: with a placeholder it does not identify a tag.
    fn image(&mut self, node: &Node, text: &str, usage: Usage) {
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !begins
            || !placeholder::has_placeholder(text)
            || scan(text, self.hosts).iter().any(|seen| seen.span.start == 0)
        {
            return;
        }
        let place = Place { line: node.line, scalar: ScalarId::of(node), usage, is_image: true, defines: None };
        self.found.add_placeholders(text, place);
    }

    fn key_at(&self, up: usize) -> &'n str {
        self.frames.iter().rev().nth(up).map_or("", |frame| frame.key)
    }

    /// Returns the variable that the current value defines.
    fn defined_variable(&self) -> Option<&'n str> {
        let frame = self.frames.last()?;
        if VALUE_KEYS.contains(&frame.key) {
            let name = frame.entries.iter().find(|(_, key, _)| key == "name").and_then(|(_, _, node)| text_of(node));
            let up = if name.is_some() { 1 } else { 2 };
            return Some(name.unwrap_or(self.key_at(1))).filter(|_| is_defining(&self.frames, up));
        }
        is_defining(&self.frames, 1).then_some(frame.key)
    }
}

/// Returns true if the mapping or list under the key `up` frames above defines variables: not the environment of a
/// container, which is not expanded in references.
fn is_defining(frames: &[Frame<'_>], up: usize) -> bool {
    let Some(at) = frames.len().checked_sub(up + 1) else { return false };
    let is_container = frames.iter().any(|frame| matches!(frame.key, "containers" | "initContainers" | "environment"));
    DEFINITION_KEYS.contains(&frames[at].key) && !is_container
}

/// Returns true if a text may contain a reference: each has a slash or a placeholder.
fn may_have_reference(text: &str) -> bool {
    text.bytes().any(|byte| b"/${%#<[\\".contains(&byte))
}

/// Returns the text of a scalar.
pub(super) fn text_of(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) | Value::Literal(text) => Some(text),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// Returns the name and the value in an item of a list of these.
fn pair(node: &Node) -> Option<(&str, &Node)> {
    let Value::Map(entries) = &node.value else { return None };
    let of = |keys: &[&str]| entries.iter().find(|(_, key, _)| keys.contains(&key.as_str())).map(|(_, _, node)| node);
    Some((text_of(of(&["name", "key"])?)?, of(&["value"])?))
}

/// Groups names with a dot by the part before it, which is removed.
fn groups<'n>(named: impl Iterator<Item = (&'n str, &'n Node)>) -> Vec<Vec<(&'n str, &'n Node)>> {
    let mut groups: Vec<Vec<(&'n str, &'n Node)>> = Vec::new();
    // The position of each group, in the order of their beginnings.
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (name, node) in named {
        let (prefix, last) = name.rsplit_once('.').unwrap_or(("", name));
        let place = *places.entry(prefix).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Vec::new());
        }
        groups[place].push((last, node));
    }
    groups.retain(|group| group.len() > 1);
    groups
}

/// Returns the scalars of a mapping that may state a tag, and those of a list of names and values around it. For data,
/// returns just enough of them to recognize it as such.
fn values_of<'n>(entries: &'n [Entry], pairs: &[&'n str]) -> Vec<&'n str> {
    let told = entries.iter().filter(|(_, key, _)| !IGNORED_KEYS.contains(&key.as_str()));
    let inner = told.clone().filter(|(_, key, _)| NESTED_KEYS.contains(&key.as_str()));
    let inner = inner.filter_map(|(_, _, node)| if let Value::Map(inner) = &node.value { Some(inner) } else { None });
    let inner = inner.flatten().filter_map(|(_, _, node)| text_of(node));
    let all = told.filter_map(|(_, _, node)| text_of(node)).chain(inner).chain(pairs.iter().copied());
    all.take(nearby_words::MOST_TEXTS + 1).collect()
}

/// Adds the variables that documents define.
pub(super) fn define(documents: &[Node], name: &str, file: u32, definitions: &mut Definitions) {
    let base = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let is_vars = name.split('/').any(|part| matches!(part, "group_vars" | "host_vars" | "vars" | "defaults"))
        || base.starts_with("vars.")
        || base.contains("tfvars");
    let mut defining = DefinitionWalk { file, definitions, frames: Vec::new() };
    for document in documents {
        defining.node(document);
        if is_vars {
            defining.define_nested(document, "");
        }
        if base.contains("values") {
            defining.define_nested(document, ".Values.");
        }
        for (key, name) in [("appVersion", ".Chart.AppVersion"), ("version", ".Chart.Version"), ("name", ".Chart.Name")]
        {
            if base.starts_with("chart.y")
                && let Some(node) = document.get(key)
            {
                defining.define_value(name, node);
            }
        }
    }
}

/// Adds the variables that the lines of a text define, numbered from `first`. It must be decoded.
pub(super) fn define_lines(text: &str, first: u32, file: u32, definitions: &mut Definitions) {
    let (mut reader, mut found) = (Reader::default(), Vec::new());
    for (line, number) in text.lines().zip(first..) {
        reader.line(line, &mut found);
        let unknown = set_to_unknown(line).filter(|name| found.iter().all(|one| one.name != *name));
        if let Some(name) = unknown {
            definitions.define(file, name, line, number);
        }
        found.drain(..).for_each(|one| definitions.define(file, one.name, one.value, number));
    }
}

/// Returns true if a mapping contains the inputs of a pipeline step, and not the parameters of the pipeline itself.
fn is_input_of_a_step(frames: &[Frame<'_>]) -> bool {
    let Some(Frame { key, entries }) = frames.last() else { return false };
    let text = |name: &str| entries.iter().find(|(_, key, _)| key == name).and_then(|(_, _, node)| text_of(node));
    match *key {
        "inputs" => text("task").is_some(),
        "with" => !text("uses").is_some_and(|uses| uses.contains("/workflows/")),
        _ => false,
    }
}

/// A walk through documents for variables.
struct DefinitionWalk<'d, 'n> {
    file: u32,
    definitions: &'d mut Definitions,
    frames: Vec<Frame<'n>>,
}

impl<'n> DefinitionWalk<'_, 'n> {
    fn node(&mut self, node: &'n Node) {
        match &node.value {
            Value::Map(entries) => {
                let is_defining = is_defining(&self.frames, 0) && !is_input_of_a_step(&self.frames);
                for (_, key, node) in entries {
                    if is_defining {
                        self.define_value(key, node);
                    }
                    self.frames.push(Frame { key, entries });
                    self.node(node);
                    self.frames.pop();
                }
            }
            Value::List(nodes) => {
                // The environment of containers is such a list, too.
                let is_defining =
                    is_defining(&self.frames, 0) && self.frames.last().is_some_and(|frame| frame.key != "env");
                for node in nodes {
                    let name = node.get("name").and_then(text_of);
                    if let Some(name) = name.filter(|_| is_defining) {
                        self.define_value(name, node);
                    }
                    self.node(node);
                }
            }
            // A script.
            Value::Text(text) if text.contains('\n') => {
                define_lines(&decode(text), node.line, self.file, self.definitions);
            }
            Value::Null | Value::Literal(_) | Value::Text(_) => {}
        }
    }

    /// Defines a variable by a scalar, by each of several, or by the value in a mapping.
    fn define_value(&mut self, name: &str, node: &'n Node) {
        match &node.value {
            Value::Text(text) | Value::Literal(text) => self.definitions.define(self.file, name, text, node.line),
            Value::List(nodes) => {
                for node in nodes.iter().filter(|node| text_of(node).is_some()) {
                    self.define_value(name, node);
                }
            }
            Value::Map(_) => {
                for node in VALUE_KEYS.iter().filter_map(|key| node.get(key)).filter(|node| text_of(node).is_some()) {
                    self.define_value(name, node);
                }
            }
            Value::Null => {}
        }
    }

    /// Defines each scalar by its path.
    fn define_nested(&mut self, node: &'n Node, prefix: &str) {
        let Value::Map(entries) = &node.value else { return };
        for (_, key, node) in entries {
            let name = format!("{prefix}{key}");
            match &node.value {
                Value::Text(_) | Value::Literal(_) => self.define_value(&name, node),
                Value::Map(_) => self.define_nested(node, &format!("{name}.")),
                Value::Null | Value::List(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_dot_are_grouped_in_their_order() {
        let node = Node { line: 1, value: Value::Null };
        let shown = |names: &[String]| {
            let groups = groups(names.iter().map(|name| (name.as_str(), &node)));
            let of = |group: Vec<(&str, &Node)>| group.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ");
            groups.into_iter().map(of).collect::<Vec<_>>()
        };
        for (names, expected) in [
            ("b.image a.image b.tag alone.image a.tag", &["image tag", "image tag"][..]),
            ("image", &[]),
            ("b.x.repository a.y b.x.tag x a.z b.x.digest y", &["repository tag digest", "y z", "x y"]),
        ] {
            let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
            assert_eq!(shown(&names), expected, "{names:?}");
        }
        let parts = |part: &'static str| (0..20_000).map(move |number| format!("service{number}.{part}{number}"));
        let many: Vec<String> = parts("image").chain(parts("tag")).collect();
        let expected: Vec<String> = (0..20_000).map(|number| format!("image{number} tag{number}")).collect();
        assert_eq!(shown(&many), expected);
    }
}
