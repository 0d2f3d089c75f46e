//! So much of GraphQL as questions without variables and fragments need, and the part of zot's schema that is answered.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use serde_json::{Map, Value, json};

/// A field of a question, with its arguments and what is asked of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) arguments: BTreeMap<String, Value>,
    pub(super) selection: Vec<Field>,
}

/// Parses a question.
pub(super) fn parse(text: &str) -> Result<Vec<Field>, String> {
    let mut parser = Parser { rest: text.chars().peekable() };
    parser.expect('{')?;
    let fields = parser.selection()?;
    if parser.next_character().is_some() { Err("Unexpected text after the question".into()) } else { Ok(fields) }
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Parser<'_> {
    /// Skips what separates, and looks at the next character.
    fn next_character(&mut self) -> Option<char> {
        while self.rest.next_if(|next| next.is_whitespace() || *next == ',').is_some() {}
        self.rest.peek().copied()
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.next_character() {
            Some(found) if found == wanted => {
                self.rest.next();
                Ok(())
            }
            found => Err(format!("Expected {wanted}, found {found:?}")),
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        self.next_character() == Some(wanted) && self.expect(wanted).is_ok()
    }

    fn name(&mut self) -> Result<String, String> {
        self.next_character();
        let mut name = String::new();
        while let Some(next) = self.rest.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
            name.push(next);
        }
        if name.is_empty() { Err(format!("Expected Name, found {:?}", self.rest.peek())) } else { Ok(name) }
    }

    /// Parses fields up to the closing brace.
    fn selection(&mut self) -> Result<Vec<Field>, String> {
        let mut fields = Vec::new();
        while !self.take('}') {
            let name = self.name()?;
            let mut arguments = BTreeMap::new();
            if self.take('(') {
                while !self.take(')') {
                    let argument = self.name()?;
                    self.expect(':')?;
                    arguments.insert(argument, self.value()?);
                }
            }
            let selection = if self.take('{') { self.selection()? } else { Vec::new() };
            fields.push(Field { name, arguments, selection });
        }
        Ok(fields)
    }

    fn value(&mut self) -> Result<Value, String> {
        match self.next_character() {
            Some('"') => {
                self.rest.next();
                let mut text = String::new();
                for next in self.rest.by_ref() {
                    match next {
                        '"' => return Ok(Value::String(text)),
                        '\\' => return Err("escapes are not understood here".into()),
                        _ => text.push(next),
                    }
                }
                Err("Unterminated string".into())
            }
            Some('{') => {
                self.rest.next();
                let mut found = Map::new();
                while !self.take('}') {
                    let key = self.name()?;
                    self.expect(':')?;
                    found.insert(key, self.value()?);
                }
                Ok(Value::Object(found))
            }
            _ => {
                let word = self.name()?;
                Ok(word.parse::<u64>().map_or_else(|_| json!({ "enum": word }), Value::from))
            }
        }
    }
}

/// The name of a field, and its type if that has fields itself.
type SchemaField = (&'static str, Option<&'static str>);

/// The types of the schema that are answered, with their fields.
const SCHEMA: [(&str, &[SchemaField]); 9] = [
    ("Query", &[("ImageList", Some("PaginatedImagesResult")), ("ExpandedRepoInfo", Some("RepoInfo"))]),
    ("PaginatedImagesResult", &[("Page", Some("PageInfo")), ("Results", Some("ImageSummary"))]),
    ("PageInfo", &[("TotalCount", None), ("ItemCount", None)]),
    ("RepoInfo", &[("Images", Some("ImageSummary")), ("Summary", Some("RepoSummary"))]),
    ("RepoSummary", &[("Name", None)]),
    (
        "ImageSummary",
        &[
            ("RepoName", None),
            ("Tag", None),
            ("Digest", None),
            ("MediaType", None),
            ("ArtifactType", None),
            ("Manifests", Some("ManifestSummary")),
            ("Size", None),
            ("DownloadCount", None),
            ("LastPullTimestamp", None),
            ("PushTimestamp", None),
            ("TaggedTimestamp", None),
            ("IsDeletable", None),
            ("Referrers", Some("Referrer")),
        ],
    ),
    (
        "ManifestSummary",
        &[
            ("Digest", None),
            ("ConfigDigest", None),
            ("Size", None),
            ("DownloadCount", None),
            ("ArtifactType", None),
            ("Platform", Some("Platform")),
            ("Referrers", Some("Referrer")),
        ],
    ),
    ("Platform", &[("Os", None), ("Arch", None)]),
    ("Referrer", &[("MediaType", None), ("ArtifactType", None), ("Size", None), ("Digest", None)]),
];

/// Returns what is wrong with a question: fields that a type does not have, by the schema and by what a release lacks.
pub(super) fn validate(fields: &[Field], of: &str, missing: &[(&str, &str)]) -> Vec<String> {
    let known = SCHEMA.iter().find(|(name, _)| *name == of).map_or(&[][..], |(_, fields)| fields);
    let mut problems = Vec::new();
    for field in fields {
        let name = field.name.as_str();
        match known.iter().find(|(known, _)| *known == name && !missing.contains(&(of, name))) {
            None => problems.push(format!("Cannot query field \"{name}\" on type \"{of}\".")),
            Some((_, None)) if !field.selection.is_empty() => {
                problems.push(format!(
                    "Field \"{name}\" must not have a selection since type \"String\" has no subfields."
                ));
            }
            Some((_, Some(kind))) if field.selection.is_empty() => {
                problems.push(format!("Field \"{name}\" of type \"{kind}\" must have a selection of subfields."));
            }
            Some((_, Some(kind))) => problems.extend(validate(&field.selection, kind, missing)),
            Some((_, None)) => {}
        }
    }
    problems
}

/// Returns the part of an answer that was asked for.
pub(super) fn select(whole: &Value, selection: &[Field]) -> Value {
    match whole {
        Value::Array(rows) => rows.iter().map(|row| select(row, selection)).collect(),
        Value::Object(fields) if !selection.is_empty() => {
            let part = |field: &Field| {
                (field.name.clone(), select(fields.get(&field.name).unwrap_or(&Value::Null), &field.selection))
            };
            Value::Object(selection.iter().map(part).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_parsed_and_held_against_the_schema() {
        let text = "{ ImageList(repo:\"shop/api\", requestedPage:{limit:2,offset:4,sortBy:ALPHABETIC_ASC}) {Page{TotalCount} Results{Tag Referrers{Digest}}} }";
        let fields = parse(text).unwrap();
        assert_eq!(fields[0].arguments["repo"], "shop/api");
        assert_eq!(fields[0].arguments["requestedPage"]["offset"], 4);
        assert_eq!(validate(&fields, "Query", &[]), Vec::<String>::new());
        for (text, expected) in [
            ("{ImageList(repo:\"a\"){Results{Tags}}}", "Cannot query field \"Tags\" on type \"ImageSummary\"."),
            (
                "{ImageList(repo:\"a\"){Results}}",
                "Field \"Results\" of type \"ImageSummary\" must have a selection of subfields.",
            ),
            ("{DeleteTag(repo:\"a\"){Tag}}", "Cannot query field \"DeleteTag\" on type \"Query\"."),
        ] {
            assert_eq!(validate(&parse(text).unwrap(), "Query", &[]), [expected], "{text}");
        }
        let older = [("ImageSummary", "TaggedTimestamp")];
        let newer = parse("{ImageList(repo:\"a\"){Results{TaggedTimestamp}}}").unwrap();
        assert_eq!(validate(&newer, "Query", &older).len(), 1);
        for text in ["query Q {A}", "{A", "{A}}", "{A(b:\"c)}", "", "{A(b:$c){D}}"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
