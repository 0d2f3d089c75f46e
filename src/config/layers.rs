//! The file merged with the environment, each value with its place.
//!
//! The `config` crate merges the layers without places, so these are looked up: those of the file in its TOML tree,
//! those of the environment by variable.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use config::{Config, Environment, File, FileFormat, Value as Layer, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::policy::{Entry, MERGE_CONFLICT, MERGE_CONFLICT_HELP, Node, Place, Problems, Value, merge_conflict};

/// The prefix of all variables of the settings, followed by [`SEPARATOR`].
const PREFIX: &str = "TAGWARDEN";
/// The separator after the prefix and between keys.
const SEPARATOR: &str = "__";

/// A variable by the path of its key, in one spelling.
type Variables = BTreeMap<Vec<String>, (String, String)>;

/// Returns the settings' tree: the file, overridden by the variables of the environment. Variables with an empty value
/// count as unset.
pub(super) fn merge_layers(text: &str, environment: &[(String, String)], problems: &mut Problems) -> Option<Node> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if let Some(span) = merge_conflict(text).filter(|_| !errors.is_empty()) {
        problems.add(&Place::Text(span), MERGE_CONFLICT).help(MERGE_CONFLICT_HELP);
        return None;
    }
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let (message, help) = describe_syntax_error(error.message(), text, span.clone());
        let problem = problems.add(&Place::Text(span), format!("no valid TOML: {message}"));
        if let Some(help) = help {
            problem.help(help);
        }
    }
    if !errors.is_empty() {
        return None;
    }
    let file = table_node(table);
    let before = problems.count();
    refuse_large_numbers(&file, problems);
    if problems.count() > before {
        return None;
    }
    let variables = variables(environment, problems);
    let source: HashMap<String, String> = variables.values().cloned().collect();
    let merged = Config::builder()
        .add_source(File::from_str(text, FileFormat::Toml))
        .add_source(Environment::with_prefix(PREFIX).separator(SEPARATOR).source(Some(source)))
        .build();
    let Ok(merged) = merged else {
        // Its message could quote a value of the file or of a variable.
        problems
            .add(&Place::File, "the settings cannot be read together with the variables `TAGWARDEN__…`")
            .help("a variable may set a key that is a table in the file, or the other way round");
        return None;
    };
    Some(locate(&merged.cache, Some(&file), &mut Vec::new(), &variables))
}

/// Returns the message about invalid TOML at a place of the text, and the remedy for it.
fn describe_syntax_error(message: &str, text: &str, span: Range<usize>) -> (String, Option<Cow<'static, str>>) {
    let place = text.get(span.clone()).unwrap_or_default();
    let (before, after) = text.split_at_checked(span.start).unwrap_or_default();
    let line = format!(
        "{}{}",
        before.rsplit('\n').next().unwrap_or_default(),
        after.lines().next().filter(|_| !after.starts_with('\n')).unwrap_or_default()
    );
    if let Some(help) = mistaken_notation(&line) {
        return (message.to_owned(), Some(help));
    }
    let (message, help) = describe_parser_error(message, place);
    (message, help.map(Cow::Borrowed))
}

/// Returns the remedy for a line that is not written in TOML; it never shows the value, which may be a secret.
fn mistaken_notation(line: &str) -> Option<Cow<'static, str>> {
    let code = line.split('#').next().unwrap_or_default();
    let typographic = ['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{ab}', '\u{bb}'];
    if code.contains(typographic) && !code.contains('"') {
        return Some("these are typographic quotes; write straight ones, `\"`".into());
    }
    let code = code.trim_start();
    let key = code.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-')).next()?;
    let rest = code.get(key.len()..)?.trim_start();
    let has_value = !rest.is_empty() && !rest.starts_with(['=', '.', '[', ']', '{', '}', ',']);
    (!key.is_empty() && has_value && !rest.contains('=')).then(|| format!("write `{key} = …`").into())
}

fn describe_parser_error(message: &str, place: &str) -> (String, Option<&'static str>) {
    let is_name = !place.is_empty() && place.len() <= 60 && !place.contains(['"', '\'', '=', '\n']);
    match message {
        "duplicate key" if is_name => {
            let help = "keep one of the two; a table such as `[registries.NAME]` stands only once";
            (format!("`{place}` is written twice"), Some(help))
        }
        "duplicate key" => (message.to_owned(), Some("keep one of the two")),
        _ if message.contains("string, expected") => {
            (message.to_owned(), Some("close the text with the quote that it begins with, on the same line"))
        }
        _ if message.starts_with("unclosed table") => (message.to_owned(), Some("close the line with `]`")),
        _ if message.starts_with("unclosed array") => (message.to_owned(), Some("close the list with `]`")),
        _ if message.starts_with("string values must be quoted") => (message.to_owned(), Some("put it in quotes")),
        _ => (message.to_owned(), None),
    }
}

/// Notes whole numbers beyond the range of TOML, at which the library fails without a place.
fn refuse_large_numbers(node: &Node, problems: &mut Problems) {
    match &node.value {
        Value::Integer(number) if i64::try_from(*number).is_err() => {
            let message = format!("a number out of range: whole numbers are from {} to {}", i64::MIN, i64::MAX);
            problems.add(&node.at, message).help("write a smaller number");
        }
        Value::List(nodes) => nodes.iter().for_each(|node| refuse_large_numbers(node, problems)),
        Value::Map(entries) => entries.iter().for_each(|entry| refuse_large_numbers(&entry.node, problems)),
        _ => {}
    }
}

/// Returns the variables for the settings, by the path of their key.
fn variables(environment: &[(String, String)], problems: &mut Problems) -> Variables {
    let mut found = Variables::new();
    for (name, value) in environment {
        let Some(key) = key_of(name) else { continue };
        if value.is_empty() {
            continue;
        }
        let path: Vec<String> = key.split(SEPARATOR).map(normalize_key).collect();
        if path.iter().any(String::is_empty) {
            problems.add(&Place::Variable(name.as_str().into()), "a key with an empty part");
        } else if let Some((other, _)) = found.insert(path, (name.clone(), value.clone())) {
            problems
                .add(&Place::Variable(name.as_str().into()), format!("sets the same key as {other}"))
                .help("keep one of the two");
        }
    }
    found
}

/// Returns the key that a variable sets, without the prefix; `None` for other variables.
pub(super) fn key_of(name: &str) -> Option<&str> {
    let (prefix, rest) = name.split_at_checked(PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PREFIX).then(|| rest.strip_prefix(SEPARATOR)).flatten()
}

/// Normalizes keys that a shell cannot distinguish: `Contoso-EU` becomes `CONTOSO_EU`.
pub(super) fn normalize_key(key: &str) -> String {
    key.to_ascii_lowercase().replace(['-', '.'], "_")
}

/// Returns the merged layers as a tree with places. `file` is the same place in the file, if present.
fn locate(layer: &Layer, file: Option<&Node>, path: &mut Vec<String>, variables: &Variables) -> Node {
    let of_file = file.map_or(&[][..], |node| match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    });
    let ValueKind::Table(table) = &layer.kind else {
        return match (variables.get(path), file) {
            (Some((name, value)), _) => {
                Node { at: Place::Variable(name.as_str().into()), value: Value::Text(value.clone()) }
            }
            (None, Some(file)) => file.clone(),
            (None, None) => Node { at: Place::File, value: Value::Text(layer.to_string()) },
        };
    };
    let mut entries: Vec<Entry> = Vec::new();
    for (key, layer) in merge_keys(table, of_file) {
        let of_file = of_file.iter().find(|entry| entry.key == key);
        path.push(normalize_key(&key));
        let at = of_file.map_or_else(|| first_variable(path, variables), |entry| entry.at.clone());
        entries.push(Entry { key, at, node: locate(&layer, of_file.map(|entry| &entry.node), path, variables) });
        path.pop();
    }
    let is_table = file.filter(|node| matches!(node.value, Value::Map(_)));
    let at = is_table.map_or_else(|| first_variable(path, variables), |node| node.at.clone());
    Node { at, value: Value::Map(entries) }
}

/// Returns the entries of a merged table by key; a key from the environment joins the equivalent key of the file.
fn merge_keys(table: &config::Map<String, Layer>, of_file: &[Entry]) -> BTreeMap<String, Layer> {
    let is_in_file = |key: &str| of_file.iter().any(|entry| entry.key == key);
    let mut joined: BTreeMap<String, Layer> =
        table.iter().filter(|(key, _)| is_in_file(key)).map(|(key, layer)| (key.clone(), layer.clone())).collect();
    for (key, layer) in table.iter().filter(|(key, _)| !is_in_file(key)) {
        let meant = of_file
            .iter()
            .find(|entry| normalize_key(&entry.key) == normalize_key(key))
            .map_or(key, |entry| &entry.key);
        match joined.get_mut(meant) {
            Some(under) => overlay(under, layer),
            None => drop(joined.insert(meant.clone(), layer.clone())),
        }
    }
    joined
}

fn overlay(under: &mut Layer, over: &Layer) {
    match (&mut under.kind, &over.kind) {
        (ValueKind::Table(under), ValueKind::Table(over)) => {
            for (key, over) in over {
                match under.get_mut(key) {
                    Some(under) => overlay(under, over),
                    None => drop(under.insert(key.clone(), over.clone())),
                }
            }
        }
        _ => *under = over.clone(),
    }
}

/// Returns the first variable that sets something at or below a path.
fn first_variable(path: &[String], variables: &Variables) -> Place {
    variables
        .iter()
        .find(|(key, _)| key.starts_with(path))
        .map_or(Place::File, |(_, (name, _))| Place::Variable(name.as_str().into()))
}

fn table_node(table: Spanned<DeTable<'_>>) -> Node {
    let at = Place::Text(table.span());
    let mut entries: Vec<Entry> = table.into_inner().into_iter().map(|(key, value)| entry(key, value)).collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    Node { at, value: Value::Map(entries) }
}

fn entry(key: Spanned<Cow<'_, str>>, value: Spanned<DeValue<'_>>) -> Entry {
    let at = Place::Text(key.span());
    Entry { key: key.into_inner().into_owned(), at, node: value_node(value) }
}

fn value_node(value: Spanned<DeValue<'_>>) -> Node {
    let span: Range<usize> = value.span();
    let value = match value.into_inner() {
        DeValue::Table(table) => return table_node(Spanned::new(span, table)),
        DeValue::Array(array) => Value::List(array.into_iter().map(value_node).collect()),
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Integer(number) => match i128::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
            Ok(number) => Value::Integer(number),
            // Only because it is too long.
            Err(_) => Value::Integer(i128::MAX),
        },
        DeValue::Float(number) => number
            .as_str()
            .replace('_', "")
            .parse()
            .map_or_else(|_| Value::Text(number.as_str().to_owned()), Value::Float),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
    };
    Node { at: Place::Text(span), value }
}

/// Returns variables that were probably intended for the settings but are not read: one underscore instead of two.
pub(super) fn unread_variables(environment: &[(String, String)]) -> Vec<String> {
    environment
        .iter()
        .filter(|(name, _)| {
            let rest = name.split_at_checked(PREFIX.len() + 1).filter(|(prefix, _)| *prefix == "TAGWARDEN_");
            rest.is_some_and(|(_, rest)| !rest.starts_with('_') && !["LOG", "LOG_FORMAT", "CONFIG"].contains(&rest))
        })
        .map(|(name, _)| {
            format!("{name} is not read: settings in the environment have two underscores, `TAGWARDEN__…`")
        })
        .collect()
}
