//! Documents in the texts of files: JSON and YAML, also with the templates of Go and Jinja in them.

use std::fmt::Write as _;

use crate::sources::document::{Format, Node, Problem, Value, parse};

/// The content of a text.
#[derive(Debug)]
pub(super) enum Parsed {
    /// Documents.
    Documents(Vec<Node>),
    /// Running text, which may happen to parse as a document.
    RunningText(Vec<Node>),
    /// A document that its templates make unparsable.
    Templates(Problem),
}

/// The mark in place of a template; it has no meaning in YAML. Its number and a `_` follow.
const MARK: &str = "$TEMPLATE_";

/// Larger running text is not parsed as a document.
const LARGEST: usize = 8 << 20;

/// Parses the documents in a text of that name.
///
/// # Errors
/// Returns the problem if the text should be JSON or YAML and is not.
pub(super) fn parse_documents(name: &str, text: &str, format: Option<Format>) -> Result<Parsed, Problem> {
    let Some(format) = format else { return Ok(parse_running_text(name, text)) };
    let mut parsed = parse(text, format);
    if format == Format::Json && parsed.is_err() {
        // Editors and compilers write comments into their settings.
        parsed = parsed.or_else(|problem| parse(&without_comments(text), format).map_err(|_| problem));
    }
    if format != Format::Yaml || !is_template(text) {
        return parsed.map(Parsed::Documents);
    }
    match parsed {
        Ok(nodes) if !nodes.iter().any(has_empty_key) => Ok(Parsed::Documents(nodes)),
        parsed => match (parse_templated(text), parsed) {
            (Ok(nodes), _) | (Err(_), Ok(nodes)) => Ok(Parsed::Documents(nodes)),
            (Err(problem), Err(_)) => Ok(Parsed::Templates(problem)),
        },
    }
}

/// Parses a text whose name does not show its format.
fn parse_running_text(name: &str, text: &str) -> Parsed {
    if text.len() > LARGEST {
        return Parsed::RunningText(Vec::new());
    }
    let parsed = parse(text, Format::Yaml).ok().filter(|nodes| !is_template(text) || !nodes.iter().any(has_empty_key));
    let nodes = parsed.or_else(|| is_template(text).then(|| parse_templated(text).ok()).flatten()).unwrap_or_default();
    if !nodes.iter().any(|node| matches!(node.value, Value::Map(_) | Value::List(_))) {
        return Parsed::RunningText(Vec::new());
    }
    let file = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let by_name = [".yaml", ".yml", ".json", ".gotmpl", ".tpl", ".tmpl", ".j2"].iter().any(|end| file.contains(end));
    let start = text.trim_start();
    let by_start = ["{", "[", "---", "apiVersion:", "kind:"].iter().any(|mark| start.starts_with(mark));
    if by_name || by_start { Parsed::Documents(nodes) } else { Parsed::RunningText(nodes) }
}

/// Returns JSON without comments and trailing commas, which some tools write; of the same length, line for line.
fn without_comments(text: &str) -> String {
    let mut out: Vec<u8> = text.as_bytes().to_vec();
    let bytes = text.as_bytes();
    let (mut at, mut comma) = (0, None);
    while at < bytes.len() {
        let rest = &bytes[at..];
        match rest {
            [b'"', ..] => {
                comma = None;
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            [b'/', second @ (b'/' | b'*'), ..] => {
                let close: &[u8] = if *second == b'/' { b"\n" } else { b"*/" };
                let found = rest.windows(close.len()).skip(2).position(|window| window == close);
                let end = found.map_or(rest.len(), |found| found + 2 + close.len());
                for byte in out[at..at + end].iter_mut().filter(|byte| **byte != b'\n') {
                    *byte = b' ';
                }
                at += end;
            }
            [byte, ..] => {
                match byte {
                    b',' => comma = Some(at),
                    b']' | b'}' => {
                        if let Some(comma) = comma.take() {
                            out[comma] = b' ';
                        }
                    }
                    byte if byte.is_ascii_whitespace() => {}
                    _ => comma = None,
                }
                at += 1;
            }
            [] => break,
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// Returns true if YAML took a template for a nested mapping, which leaves an empty key.
fn has_empty_key(node: &Node) -> bool {
    match &node.value {
        Value::Map(entries) => entries.iter().any(|(_, key, node)| key.is_empty() || has_empty_key(node)),
        Value::List(nodes) => nodes.iter().any(has_empty_key),
        Value::Null | Value::Literal(_) | Value::Text(_) => false,
    }
}

/// Parses YAML with its templates removed, and restores them in the scalars.
fn parse_templated(text: &str) -> Result<Vec<Node>, Problem> {
    let (text, templates) = without_templates(text);
    let mut nodes = parse(&text, Format::Yaml)?;
    for node in &mut nodes {
        reinsert_templates(node, &templates);
    }
    Ok(nodes)
}

/// Returns the text with lines of only templates emptied and other templates replaced, line for line, and the
/// templates.
fn without_templates(text: &str) -> (String, Vec<String>) {
    let mut out = String::with_capacity(text.len());
    let mut templates: Vec<String> = Vec::new();
    // The end of the template that the lines are in.
    let mut inside: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let (mut kept, mut rest, mut had_template, mut had_text) = (String::new(), line, inside.is_some(), false);
        loop {
            if let Some(end) = inside {
                let (inner, after) = rest.split_once(end).unwrap_or((rest, ""));
                if let Some(template) = templates.last_mut().filter(|_| end == "}}") {
                    template.push_str(inner.trim_end_matches('\n'));
                }
                if inner.len() == rest.len() {
                    break;
                }
                if let Some(template) = templates.last_mut().filter(|_| end == "}}") {
                    template.push_str("}}");
                }
                (inside, rest) = (None, after);
            }
            // One search for both: with many templates in a line, each would search the other kind up to its end.
            let mut braces = rest.match_indices('{').map(|(at, _)| (at, &rest[at..]));
            let next = braces.find_map(|(at, rest)| {
                ["{{", "{%"].into_iter().find(|open| rest.starts_with(*open)).map(|open| (at, open))
            });
            let Some((at, open)) = next else {
                had_text |= !rest.trim().is_empty();
                kept.push_str(rest);
                break;
            };
            had_text |= !rest[..at].trim().is_empty();
            kept.push_str(&rest[..at]);
            if open == "{{" {
                // Writing to a string cannot fail.
                let _ = write!(kept, "{MARK}{}_", templates.len());
                templates.push(open.to_owned());
            }
            (inside, rest, had_template) = (Some(if open == "{{" { "}}" } else { "%}" }), &rest[at + 2..], true);
        }
        if had_template && !had_text {
            kept.clear();
        }
        out.push_str(kept.trim_end_matches('\n'));
        if line.ends_with('\n') {
            out.push('\n');
        }
    }
    (out, templates)
}

fn reinsert_templates(node: &mut Node, templates: &[String]) {
    match &mut node.value {
        Value::Text(text) => *text = reinserted_text(text, templates),
        Value::List(nodes) => nodes.iter_mut().for_each(|node| reinsert_templates(node, templates)),
        Value::Map(entries) => {
            for (_, key, node) in entries {
                *key = reinserted_text(key, templates);
                reinsert_templates(node, templates);
            }
        }
        Value::Null | Value::Literal(_) => {}
    }
}

fn reinserted_text(text: &str, templates: &[String]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(MARK) {
        out.push_str(before);
        let (number, behind) = after.split_once('_').unwrap_or((after, ""));
        if let Some(template) = number.parse::<usize>().ok().and_then(|number| templates.get(number)) {
            out.push_str(template);
            rest = behind;
        } else {
            out.push_str(MARK);
            rest = after;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_taken_out_line_by_line_and_put_back() {
        for (text, taken_out, scalar) in [
            ("a: {{ .Values.x }}\n", "a: $TEMPLATE_0_\n", "{{ .Values.x }}"),
            ("a: \"x:{{ .a }}-{{ .b }}\"\n", "a: \"x:$TEMPLATE_0_-$TEMPLATE_1_\"\n", "x:{{ .a }}-{{ .b }}"),
            ("{{- if .x }}\na: b\n{{- end }}\n", "\na: b\n\n", "b"),
            ("{{- if eq .a\n  \"x\"\n}}\na: {{ b\n}}\n", "\n\n\na: $TEMPLATE_1_\n\n", "{{ b}}"),
            ("{% if x %}\na: b{% if y %}c{% endif %}\n", "\na: bc\n", "bc"),
            ("a: ${{ x }}\n", "a: $$TEMPLATE_0_\n", "${{ x }}"),
        ] {
            assert_eq!(without_templates(text).0, taken_out, "{text}");
            let nodes = parse_templated(text).unwrap();
            let value = nodes[0].get("a").map(|node| &node.value);
            assert_eq!(value, Some(&Value::Text(scalar.to_owned())), "{text}");
        }
    }

    #[test]
    fn comments_in_json_are_taken_out() {
        for (text, expected) in [
            ("{\"a\": 1, // x\n \"b\": [1, 2,],\n}", "{\"a\": 1,     \n \"b\": [1, 2 ] \n}"),
            ("{/* a\n\"b */\"a\": \"// , ]\"}", "{    \n     \"a\": \"// , ]\"}"),
            ("{\"a\": \"\\\"//\"} // ü", "{\"a\": \"\\\"//\"}      "),
            ("[1, /*", "[1,   "),
        ] {
            assert_eq!(without_comments(text), expected, "{text}");
        }
        let Ok(Parsed::Documents(nodes)) = parse_documents("a.json", "// x\n{\"a\": \"b\",}\n", Some(Format::Json))
        else {
            panic!("not read");
        };
        assert_eq!(nodes[0].get("a").map(|node| (node.line, &node.value)), Some((2, &Value::Text("b".to_owned()))));
        assert!(parse_documents("a.json", "{\"a\": }", Some(Format::Json)).is_err());
    }

    #[test]
    fn a_text_is_a_document_by_its_format_or_its_looks() {
        for (name, text, format, expected) in [
            ("a.yaml", "a: b\n", Some(Format::Yaml), "documents"),
            ("a.yaml", "tag: {{ .x }}\n", Some(Format::Yaml), "documents"),
            ("a.yaml", "{{ if }}\na: [\n", Some(Format::Yaml), "templates"),
            ("a.yaml", "a: [\n", Some(Format::Yaml), "problem"),
            ("a.json", "{{", Some(Format::Json), "problem"),
            ("values.gotmpl", "a: {{ .x }}\n", None, "documents"),
            ("notes.txt", "apiVersion: v1\n", None, "documents"),
            ("notes.txt", "a: b\n", None, "running 1"),
            ("notes.txt", "some words\n", None, "running 0"),
            ("notes.txt", "a: [\n", None, "running 0"),
        ] {
            let shown = match parse_documents(name, text, format) {
                Ok(Parsed::Documents(_)) => "documents".to_owned(),
                Ok(Parsed::RunningText(nodes)) => format!("running {}", nodes.len()),
                Ok(Parsed::Templates(_)) => "templates".to_owned(),
                Err(_) => "problem".to_owned(),
            };
            assert_eq!(shown, expected, "{name}: {text}");
        }
        let Ok(Parsed::Documents(nodes)) = parse_documents("a.yaml", "tag: {{ .x }}\n", Some(Format::Yaml)) else {
            panic!("documents");
        };
        assert_eq!(nodes[0].get("tag").map(|node| &node.value), Some(&Value::Text("{{ .x }}".to_owned())));
    }
}
