//! JSON and YAML as trees with line numbers.
//!
//! Scalars keep their written form, since `1.10` names another tag than `1.1`, and a map keeps every entry, since its
//! reader decides whether a duplicate key is an error.

use std::collections::HashMap;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

/// Deeper or larger documents are not evidence written by a person or a pipeline.
const MAX_DEPTH: usize = 100;
const MOST_NODES: usize = 2_000_000;

/// One value with the line it begins on, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) value: Value,
}

/// The content of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    /// A number or a boolean, as written.
    Literal(String),
    Text(String),
    List(Vec<Node>),
    /// Every entry in order: the line of its key, the key, its value.
    Map(Vec<(u32, String, Node)>),
}

/// A part that cannot be read, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) line: u32,
    pub(super) message: String,
}

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    /// One JSON value on each line.
    JsonLines,
    /// YAML, also several documents.
    Yaml,
}

impl Format {
    /// Returns the format for a file name's extension.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "json" => Some(Self::Json),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

impl Node {
    /// Returns the value of a key, also one merged in with YAML's `<<`.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        let own = entries.iter().find(|(_, name, _)| name == key).map(|(_, _, value)| value);
        own.or_else(|| {
            let merged = entries.iter().filter(|(_, name, _)| name == "<<").map(|(_, _, value)| value);
            merged.flat_map(Node::list_or_self).find_map(|map| map.get(key))
        })
    }

    /// Describes the kind of value.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Literal(text) => format!("`{text}`"),
            Value::Text(text) => format!("`{}`", text.chars().take(80).collect::<String>()),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
        }
    }

    fn list_or_self(&self) -> &[Node] {
        if let Value::List(nodes) = &self.value { nodes } else { std::slice::from_ref(self) }
    }

    /// Returns the number of values in it, and its depth.
    fn extent(&self) -> (usize, usize) {
        let add = |(count, depth): (usize, usize), node: &Node| {
            let (more, deep) = node.extent();
            (count + more, depth.max(deep + 1))
        };
        match &self.value {
            Value::List(nodes) => nodes.iter().fold((1, 1), add),
            Value::Map(entries) => entries.iter().map(|(_, _, value)| value).fold((1, 1), add),
            Value::Null | Value::Literal(_) | Value::Text(_) => (1, 1),
        }
    }
}

/// Parses all documents of a text.
pub(super) fn parse(text: &str, format: Format) -> Result<Vec<Node>, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Json => parse_json(text, 1).map(|node| vec![node]),
        Format::JsonLines => text
            .lines()
            .zip(1..)
            .filter(|(line, _)| !line.trim().is_empty())
            .map(|(line, number)| parse_json(line, number))
            .collect(),
        Format::Yaml => parse_yaml(text),
    }
}

/// Parses strict JSON; `first` is the number of its first line.
fn parse_json(text: &str, first: u32) -> Result<Node, Problem> {
    let document = JsonText { text, first, breaks: text.match_indices('\n').map(|(at, _)| at).collect() };
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| document.problem(0, &error))?;
    document.node(raw, 0)
}

/// A JSON text, to find lines in.
struct JsonText<'a> {
    text: &'a str,
    first: u32,
    breaks: Vec<usize>,
}

impl<'a> JsonText<'a> {
    fn node(&self, raw: &'a RawValue, depth: usize) -> Result<Node, Problem> {
        let source = raw.get();
        // `raw` borrows from `text`, so the distance of their beginnings is its place.
        let at = source.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        let line = self.line(at);
        let problem = |error: serde_json::Error| self.problem(at, &error);
        if depth > MAX_DEPTH {
            return Err(Problem { line, message: format!("it is nested more than {MAX_DEPTH} levels deep") });
        }
        let value = match source.as_bytes().first() {
            Some(b'{') => {
                let Entries(entries) = serde_json::from_str(source).map_err(problem)?;
                let entry = |(key, value)| {
                    let value = self.node(value, depth + 1)?;
                    Ok((value.line, key, value))
                };
                Value::Map(entries.into_iter().map(entry).collect::<Result<_, _>>()?)
            }
            Some(b'[') => {
                let nodes: Vec<&RawValue> = serde_json::from_str(source).map_err(problem)?;
                Value::List(nodes.into_iter().map(|node| self.node(node, depth + 1)).collect::<Result<_, _>>()?)
            }
            Some(b'"') => Value::Text(serde_json::from_str(source).map_err(problem)?),
            Some(b'n') => Value::Null,
            _ => Value::Literal(source.into()),
        };
        Ok(Node { line, value })
    }

    fn line(&self, at: usize) -> u32 {
        self.first + number(self.breaks.partition_point(|end| *end < at))
    }

    /// Returns an error in a part that begins at `at`, located in the whole text.
    fn problem(&self, at: usize, error: &serde_json::Error) -> Problem {
        let inner = number(error.line().saturating_sub(1));
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        Problem { line: self.line(at) + inner, message }
    }
}

/// The entries of a JSON object, duplicates and all.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A list or a map being parsed.
struct OpenNode {
    node: Node,
    anchor: usize,
    /// The key of the next value.
    key: Option<(u32, String)>,
}

fn parse_yaml(text: &str) -> Result<Vec<Node>, Problem> {
    let mut documents = Vec::new();
    let mut open: Vec<OpenNode> = Vec::new();
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut nodes = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| Problem { line: number(error.marker().line()), message: error.info() })?;
        let (line, too_large) =
            (number(span.start.line()), |message: String| Err(Problem { line: start_line(&span), message }));
        let (node, anchor) = match event {
            Event::SequenceStart(_, anchor, _) => {
                open.push(OpenNode { node: Node { line, value: Value::List(Vec::new()) }, anchor, key: None });
                if open.len() > MAX_DEPTH {
                    return too_large(format!("it is nested more than {MAX_DEPTH} levels deep"));
                }
                continue;
            }
            Event::MappingStart(_, anchor, _) => {
                open.push(OpenNode { node: Node { line, value: Value::Map(Vec::new()) }, anchor, key: None });
                if open.len() > MAX_DEPTH {
                    return too_large(format!("it is nested more than {MAX_DEPTH} levels deep"));
                }
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(closed) = open.pop() else { continue };
                (closed.node, closed.anchor)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let text_by_tag = tag.is_some_and(|tag| tag.to_string().ends_with("str"));
                let value = scalar(text.into_owned(), style == ScalarStyle::Plain && !text_by_tag);
                (Node { line, value }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(named) = anchors.get(&anchor) else {
                    return too_large("an alias stands inside what it names".into());
                };
                let (count, depth) = named.extent();
                nodes += count;
                if open.len() + depth > MAX_DEPTH {
                    return too_large(format!("it is nested more than {MAX_DEPTH} levels deep"));
                }
                (Node { line, value: named.value.clone() }, 0)
            }
            _ => continue,
        };
        nodes += 1;
        if nodes > MOST_NODES {
            return too_large(format!("it holds more than {MOST_NODES} values, those repeated by aliases included"));
        }
        if anchor > 0 {
            anchors.insert(anchor, node.clone());
        }
        attach(node, &mut open, &mut documents);
    }
    Ok(documents)
}

/// Attaches a finished node to its parent.
fn attach(node: Node, open: &mut [OpenNode], documents: &mut Vec<Node>) {
    let Some(parent) = open.last_mut() else { return documents.push(node) };
    match (&mut parent.node.value, parent.key.take()) {
        (Value::List(nodes), _) => nodes.push(node),
        (Value::Map(entries), Some((line, key))) => entries.push((line, key, node)),
        (_, _) => {
            let key = match node.value {
                Value::Text(text) | Value::Literal(text) => text,
                Value::Null | Value::List(_) | Value::Map(_) => String::new(),
            };
            parent.key = Some((node.line, key));
        }
    }
}

/// Resolves a scalar by YAML 1.2's core schema, if it is written plainly.
fn scalar(text: String, plain: bool) -> Value {
    let literal = || {
        let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        matches!(text.as_str(), "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
            || numeric
                && text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
                && text.parse::<f64>().is_ok()
    };
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
        _ if plain && literal() => Value::Literal(text),
        _ => Value::Text(text),
    }
}

fn start_line(span: &Span) -> u32 {
    number(span.start.line())
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every scalar with its line, as text.
    fn lines(node: &Node, out: &mut Vec<String>) {
        match &node.value {
            Value::Null => out.push(format!("{} null", node.line)),
            Value::Literal(text) => out.push(format!("{} {text}", node.line)),
            Value::Text(text) => out.push(format!("{} '{text}'", node.line)),
            Value::List(nodes) => nodes.iter().for_each(|node| lines(node, out)),
            Value::Map(entries) => entries.iter().for_each(|(line, key, node)| {
                out.push(format!("{line} {key}:"));
                lines(node, out);
            }),
        }
    }

    #[test]
    fn json_and_yaml_know_their_lines() {
        let json = "\u{feff}{\n\t\"a\": [1,\n\t\"x\\n\\/\\ud83d\\ude00\"],\n\n \"b\": null, \"b\": 1.10 }\n";
        let yaml =
            "# comment\na: &x\n  - 1\n  - \"x\"\nb: *x\nc: 1.10\n---\n- ~\n- |\n  text\n- !!str 7\n- yes\n- -inf\n";
        let cases = [
            (json, Format::Json, vec!["2 a:", "2 1", "3 'x\n/😀'", "5 b:", "5 null", "5 b:", "5 1.10"]),
            ("{\"a\":1}\n\n [true]\n", Format::JsonLines, vec!["1 a:", "1 1", "3 true"]),
            (
                yaml,
                Format::Yaml,
                vec![
                    "2 a:",
                    "3 1",
                    "4 'x'",
                    "5 b:",
                    "3 1",
                    "4 'x'",
                    "6 c:",
                    "6 1.10",
                    "8 null",
                    "10 'text\n'",
                    "11 '7'",
                    "12 'yes'",
                    "13 '-inf'",
                ],
            ),
        ];
        for (text, format, expected) in cases {
            let mut found = Vec::new();
            parse(text, format).unwrap().iter().for_each(|node| lines(node, &mut found));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        let deep = "[".repeat(200);
        let deep_json = format!("{deep}{}", "]".repeat(200));
        let laughs = (0..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
            let next = n + 1;
            format!("{text}a{next}: &a{next} [{}]\n", [format!("*a{n}").as_str(); 10].join(","))
        });
        let tower = (1..5000).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
            format!("{text}a{n}: &a{n} [[[[[[[[[[[[[[[[[[[[*a{}]]]]]]]]]]]]]]]]]]]]\n", n - 1)
        });
        let cases = [
            ("{\n\"a\": 1,\n}", Format::Json, 3, "key must be a string"),
            ("{}\n{}", Format::Json, 2, "trailing characters"),
            ("", Format::Json, 1, "EOF"),
            ("{}\n\n{", Format::JsonLines, 3, "EOF"),
            ("{\n\"a\": 'x'}", Format::Json, 2, "expected value"),
            ("a: 1\nb: [", Format::Yaml, 2, ""),
            ("a: 1\n b: 2\n", Format::Yaml, 2, ""),
            (deep_json.as_str(), Format::Json, 1, "nested"),
            (deep_json.as_str(), Format::Yaml, 1, "nested"),
            (laughs.as_str(), Format::Yaml, 7, "more than"),
            (tower.as_str(), Format::Yaml, 6, "nested"),
        ];
        for (text, format, line, says) in cases {
            let problem = parse(text, format).unwrap_err();
            assert!(problem.message.contains(says), "{text}: {problem:?}");
            assert_eq!(problem.line, line, "{text}: {problem:?}");
        }
    }
}
