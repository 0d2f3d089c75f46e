//! A file as a tree of values with their places, before they are interpreted.
//!
//! Deserializing a file into types directly would stop at its first mistake. The tree allows every mistake to be found:
//! a file is parsed into it by the rules of its format alone, and interpreted in one pass over it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, MergeKeyPolicy, NonFiniteFloatPolicy, Spanned};

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) value: Value,
}

/// The place of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the file, at these bytes; empty for the start of something longer.
    Text(Range<usize>),
    /// In the environment, in this variable.
    Variable(Arc<str>),
    /// The file as a whole.
    File,
}

/// The content of a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file, duplicates included.
    Map(Vec<Entry>),
}

/// One key of a map with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Place,
    pub(crate) node: Node,
}

impl Value {
    /// Returns its type in words, without its content.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// Describes the value: `the text "5"`.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".into(),
            Self::Bool(value) => format!("the boolean `{value}`"),
            Self::Integer(value) => format!("the number `{value}`"),
            Self::Float(value) => format!("the number `{value:?}`"),
            Self::Text(value) => format!("the text `{}`", shorten(value)),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a map".into(),
        }
    }
}

/// Returns at most sixty characters of a text, on one line.
pub(crate) fn shorten(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(60).collect();
    if line.len() < text.len() { line + "…" } else { line }
}

/// Why a text is not valid YAML for a tree, and the place.
#[derive(Debug)]
pub(crate) struct YamlError {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: Option<&'static str>,
}

/// Parses one YAML document.
///
/// Booleans are those of YAML 1.2 (`yes` and `on` are texts), aliases are followed within a budget, merge keys and
/// unknown types are refused, and duplicate keys are kept in the tree to be reported.
pub(crate) fn parse_yaml(text: &str) -> Result<Node, YamlError> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        with_snippet: false,
        // Else a file with more than 32 lines of comments in a row would not be read.
        emit_comments: false,
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: 32,
            max_nodes: 500_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
        },
    };
    serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options)
        .map(Node::from)
        .map_err(|e| describe_error(text, &e))
}

const TOO_LARGE: &str = "too large or too deeply nested to be a policy file";
const TOO_LARGE_HELP: &str = "aliases count as often as they are used: write it out, or split the file";

fn describe_error(text: &str, error: &Error) -> YamlError {
    if let Some(span) = merge_conflict(text) {
        return YamlError { span, message: MERGE_CONFLICT.to_owned(), help: Some(MERGE_CONFLICT_HELP) };
    }
    let error = match error.without_snippet() {
        Error::AliasError { error, .. } => error,
        error => error,
    };
    let location = error.location().unwrap_or(Location::UNKNOWN);
    let span = match bytes(&location) {
        Some(span) if span != (0..0) => span,
        _ => offset(text, &location)..offset(text, &location),
    };
    let wording = error.to_string();
    let (message, help) = match error {
        Error::Budget { .. } if wording.contains("Documents") => (
            "more than one YAML document in a file".to_owned(),
            Some("write all policies of a file under one `policies:`, without `---` between them"),
        ),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. } => (TOO_LARGE.to_owned(), Some(TOO_LARGE_HELP)),
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            ("an alias that contains itself".to_owned(), Some("write the value out"))
        }
        Error::MergeKeyNotAllowed { .. } => {
            ("merge keys (`<<`) are not read".to_owned(), Some("write the keys out in each policy"))
        }
        Error::UnknownAnchor { .. } => (
            "an alias (`*name`) without its anchor".to_owned(),
            Some("in YAML a `*` at the start of a value is an alias: put globs in quotes, such as \"*-lts\""),
        ),
        Error::UnsupportedTag { tag, .. } => (
            format!("unknown YAML type `{}`", shorten(tag)),
            Some("in YAML a `!` at the start of a value is a type: put exclusions in quotes, such as \"!*-hold\""),
        ),
        _ if wording.starts_with("recursion limit") => (TOO_LARGE.to_owned(), Some(TOO_LARGE_HELP)),
        _ if wording.starts_with("tabs") || wording.contains("found a tab") || is_indented_by_tab(text, span.start) => {
            ("a tab where YAML wants spaces".to_owned(), Some("indent with spaces"))
        }
        _ if wording.contains("unclosed quote") => {
            ("no valid YAML: unclosed quote".to_owned(), Some("end the text with the quote with which it begins"))
        }
        _ if wording.contains("content after single-quoted") => {
            (format!("no valid YAML: {}", without_place(&wording)), Some(APOSTROPHE_HELP))
        }
        _ => {
            let message = without_place(&wording);
            let help = dash_help(text, span.start)
                .or_else(|| indentation_help(text, span.start, message))
                .or_else(|| quoting_help(text, span.start))
                .or_else(|| message.contains("mapping values").then_some(COLON_HELP));
            (format!("no valid YAML: {message}"), help)
        }
    };
    YamlError { span, message, help }
}

/// The message about a file with an unfinished merge.
pub(crate) const MERGE_CONFLICT: &str = "the marks of an unfinished merge";
/// The remedy for that.
pub(crate) const MERGE_CONFLICT_HELP: &str =
    "decide between the two sides, and remove the lines with `<<<<<<<`, `=======` and `>>>>>>>`";

/// Returns the first mark that git writes where a merge was not finished.
pub(crate) fn merge_conflict(text: &str) -> Option<Range<usize>> {
    let starts = text.split_inclusive('\n').scan(0, |at, line| {
        *at += line.len();
        Some((*at - line.len(), line.trim_end()))
    });
    let mut marks = starts.skip_while(|(_, line)| !line.starts_with("<<<<<<< "));
    let (start, line) = marks.next()?;
    let mut rest = marks.skip_while(|(_, line)| *line != "=======");
    rest.any(|(_, line)| line.starts_with(">>>>>>> ")).then(|| start..start + line.len())
}

const APOSTROPHE_HELP: &str = "put the text in double quotes, or write an apostrophe within single quotes twice";

/// Help for an entry of a list whose dash touches its key, which makes it a key.
pub(crate) const DASH_HELP: &str = "write a space after the dash: `- newest: 3`";

/// Returns help if the line, or the one before, begins with a dash that touches a word.
fn dash_help(text: &str, at: usize) -> Option<&'static str> {
    let line_end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    let mut lines = text[..line_end].lines().rev().filter(|line| !line.trim().is_empty()).take(2);
    let touches = |line: &str| {
        let word = line.trim_start().strip_prefix('-');
        word.is_some_and(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.contains(':'))
    };
    lines.any(touches).then_some(DASH_HELP)
}

/// Returns a message without the place that the parser puts at its end, because it is shown separately.
fn without_place(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |end| &message[..end])
}

/// Returns true if a tab is among the white space at the start of a line.
fn is_indented_by_tab(text: &str, at: usize) -> bool {
    let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let rest = &text[line_start..];
    rest[..rest.len() - rest.trim_start_matches([' ', '\t']).len()].contains('\t')
}

/// Returns help for the most frequent cause of invalid YAML in a file full of globs: one without quotes.
fn quoting_help(text: &str, at: usize) -> Option<&'static str> {
    let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    line.contains(['*', '!', '{', '[', '%', '@', '`']).then_some("put globs and patterns in quotes")
}

/// Help for a text in which a colon begins a map, as YAML takes it.
const COLON_HELP: &str = "put a text with a colon and a space in it in quotes";

/// Returns help for a line that begins in a column of nothing before it, or where an entry of a list was to follow.
fn indentation_help(text: &str, at: usize, message: &str) -> Option<&'static str> {
    const HELP: &str = "correct the indentation: keys of one map, and entries of one list, begin in the same column";
    let is_about_structure = ["expected key", "expected '-'", "mapping values are not allowed"];
    if !is_about_structure.iter().any(|part| message.contains(part)) {
        return None;
    }
    let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let before =
        text[..line_start].lines().filter(|line| !matches!(line.trim_start().chars().next(), None | Some('#')));
    let opens = before.clone().next_back().is_none_or(|line| line.trim_end().ends_with([':', '-']));
    let columns: Vec<usize> = before.flat_map(key_columns).collect();
    let is_beside = key_columns(line).first().is_some_and(|column| columns.contains(column));
    (message.contains("expected '-'") || !is_beside && !opens).then_some(HELP)
}

/// Returns the columns of a line where an entry of a list or a key begins.
fn key_columns(line: &str) -> Vec<usize> {
    let mut rest = line.trim_start_matches(' ');
    let mut columns = vec![line.len() - rest.len()];
    while let Some(inner) = rest.strip_prefix("- ") {
        rest = inner.trim_start_matches(' ');
        columns.push(line.len() - rest.len());
    }
    columns
}

/// Returns the bytes of a location, if the parser knows them.
fn bytes(location: &Location) -> Option<Range<usize>> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    Some(start..start + usize::try_from(span.byte_len()?).ok()?)
}

/// Returns the byte at which a line and column start; the end of the text if there is no such place.
fn offset(text: &str, location: &Location) -> usize {
    let (Ok(line), Ok(column)) = (usize::try_from(location.line()), usize::try_from(location.column())) else {
        return 0;
    };
    let start = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
    let in_line = text[start..].char_indices().nth(column.saturating_sub(1)).map_or(text.len(), |(at, _)| start + at);
    in_line.min(text.len())
}

/// The target of the YAML deserializer: any value, with places.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl From<Spanned<Raw>> for Node {
    fn from(raw: Spanned<Raw>) -> Self {
        let value = match raw.value {
            Raw::Scalar(value) => value,
            Raw::List(nodes) => Value::List(nodes.into_iter().map(Self::from).collect()),
            Raw::Map(entries) => Value::Map(entries.into_iter().map(Entry::from).collect()),
        };
        Self { at: Place::Text(bytes(&raw.referenced).unwrap_or(0..0)), value }
    }
}

impl From<(Spanned<Raw>, Spanned<Raw>)> for Entry {
    fn from((key, value): (Spanned<Raw>, Spanned<Raw>)) -> Self {
        let key = Node::from(key);
        let text = match key.value {
            Value::Text(text) => text,
            other => other.describe(),
        };
        Self { key: text, at: key.at, node: value.into() }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Integer(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Integer(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = access.next_element()? {
            list.push(node);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = access.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}
