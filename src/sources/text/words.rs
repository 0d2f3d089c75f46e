//! Splitting texts into words.

use super::decoder::{SOFT_BREAK, decode};
use super::mapping::Entry;
use crate::domain::TextIndexBuilder;
use crate::sources::document::{Node, Value};

/// Most words of one mapping. Larger mappings are data, in which adjacency means nothing.
const MOST_WORDS: usize = 4096;

/// Adds the words of a text, line by line.
pub(in crate::sources) fn add_lines(index: &mut TextIndexBuilder, place: u32, text: &str) {
    add_decoded(index, place, text, &decode(text));
}

/// Adds the words of a text whose decoded form is known.
pub(super) fn add_decoded(index: &mut TextIndexBuilder, place: u32, text: &str, decoded: &str) {
    add(index, place, decoded);
    // A backslash may be a part of a path: `C:\new` is not only `ew`.
    if text.contains('\\') && text != decoded {
        let mut words: Vec<(u32, &str)> = Vec::new();
        for (line, number) in text.lines().zip(1..).filter(|(line, _)| line.contains('\\')) {
            words.clear();
            words.extend(split(line).map(|word| (number, word)));
            index.add_unit(place, &words);
        }
    }
}

fn add(index: &mut TextIndexBuilder, place: u32, text: &str) {
    let mut words: Vec<(u32, &str)> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        for part in line.split(SOFT_BREAK) {
            words.clear();
            words.extend(split(strip_api_version(part)).map(|word| (number, word)));
            index.add_unit(place, &words);
        }
    }
}

/// Returns the line without an API version, which every object of a cluster has, and which looks like a tag.
fn strip_api_version(line: &str) -> &str {
    let key = line.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '-' | '"' | '\'' | '{' | '#'));
    let rest = key.strip_prefix("apiVersion").map(|rest| rest.trim_start_matches(['"', '\'']));
    let Some(value) = rest.and_then(|rest| rest.strip_prefix(':')) else { return line };
    let value = value.trim_start_matches([' ', '"', '\'']);
    let end = value.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-'))).unwrap_or(value.len());
    let version = value[..end].rsplit('/').next().unwrap_or_default();
    let is_version = version.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if is_version { &value[end..] } else { line }
}

/// Adds the scalars of each mapping as adjacent. Their words are known from their lines.
pub(super) fn add_mappings(index: &mut TextIndexBuilder, place: u32, node: &Node) {
    match &node.value {
        Value::List(nodes) => nodes.iter().for_each(|node| add_mappings(index, place, node)),
        Value::Map(entries) => {
            add_mapping(index, place, entries);
            for (_, _, node) in entries {
                add_mappings(index, place, node);
            }
        }
        Value::Null | Value::Literal(_) | Value::Text(_) => {}
    }
}

fn add_mapping(index: &mut TextIndexBuilder, place: u32, entries: &[Entry]) {
    let mut words: Vec<(u32, &str)> = Vec::new();
    for (line, key, node) in entries {
        let (Value::Text(value) | Value::Literal(value)) = &node.value else { continue };
        // A sentence is complete in its own line.
        let single = [(*line, key.as_str()), (node.line, value.as_str())].into_iter();
        let single = single.filter(|(_, text)| !text.trim().contains(char::is_whitespace));
        words.extend(single.flat_map(|(line, text)| split(text).map(move |word| (line, word))));
        if words.len() > MOST_WORDS {
            return;
        }
    }
    index.add_adjacent(place, &words);
}

/// Returns the words of a text.
pub(in crate::sources) fn words(text: &str) -> impl Iterator<Item = &str> {
    split(text)
}

/// Returns the words of a line, consisting of the characters of tags, and `+`, which stands for `_` in the versions of
/// charts.
fn split(line: &str) -> impl Iterator<Item = &str> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'+');
    let mut rest = line;
    // All of these are ASCII, so bytes are enough, and faster than characters.
    std::iter::from_fn(move || {
        loop {
            let start = rest.bytes().position(is_word)?;
            let end = rest[start..].bytes().position(|byte| !is_word(byte)).map_or(rest.len(), |length| start + length);
            let word = &rest[start..end];
            rest = &rest[end..];
            if word.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
                return Some(word);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{TextPlace, TextScope};
    use crate::sources::document::{Format, parse};

    fn index(add: impl FnOnce(&mut TextIndexBuilder, u32)) -> crate::domain::TextIndex {
        let mut index = TextIndexBuilder::new(TextScope::Source);
        let place = index.add_place(TextPlace::File("a".into()));
        add(&mut index, place);
        index.finish()
    }

    #[test]
    fn words_are_those_that_people_read() {
        for (text, expected) in [
            ("shop/api:v1 (now)", "shop api v1 now"),
            ("a=1.2.3+build.5;b", "a 1.2.3+build.5 b"),
            ("-- . v1. --", "v1."),
        ] {
            assert_eq!(words(text).collect::<Vec<_>>().join(" "), expected, "{text}");
        }
        let found =
            index(|index, place| add_lines(index, place, "{\"m\":\"v7\\nnew\"} C:\\new\n\u{1b}[32mv8\u{1b}[0m"));
        for word in ["v7", "new", "v8"] {
            assert!(!found.find(word).is_empty(), "{word}");
        }
        assert!(found.find("32mv8").is_empty());
    }

    #[test]
    fn the_scalars_of_a_mapping_stand_beside_each_other() {
        let of = |text: &str| {
            index(|index, place| {
                for node in parse(text, Format::Yaml).unwrap() {
                    add_mappings(index, place, &node);
                }
            })
        };
        for (text, expected) in [
            ("name: api\ntag: latest\n", true),
            ("name: shop/api\ntag: latest\n", true),
            ("api: latest\n", true),
            ("name: api\ninner:\n  tag: latest\n", false),
            ("name: api\nnote: the latest news\n", false),
            ("- name: api\n- tag: latest\n", false),
        ] {
            assert_eq!(!of(text).find_adjacent("api", "latest").is_empty(), expected, "{text}");
        }
    }
}
