//! Tagwarden's own documents: plans and reports name every tag that would be removed, so as evidence they would retain
//! all of them forever.

use super::super::document::{Node, Value};

/// The beginning of the `schema` of Tagwarden's own documents.
const SCHEMA_PREFIX: &str = "tagwarden.";

/// The schema of release records, which are evidence.
const RELEASES_SCHEMA: &str = "tagwarden.releases/";

/// Texts that only the reports contain, in their first lines.
const REPORT_HEADINGS: [&str; 10] = [
    "Simulation: it cannot be applied; as of ",
    "Dry run: nothing is removed; ",
    "Plan for approval: only `tagwarden apply` of it removes; ",
    "Plan in mode enforce: `run` and `serve` remove what their own plans list; ",
    "## Tagwarden plan",
    "### Tagwarden: ",
    "<title>Tagwarden plan ",
    "<title>Tagwarden run ",
    "registry,repository,tag,digest,verdict,policy,",
    "run,time,action,registry,repository,tag,digest,policy,outcome,",
];

/// Returns true for a text that is a report of Tagwarden or contains one.
pub(super) fn is_report(text: &str) -> bool {
    // Nearly all texts contain none of these words and skip the second check.
    let words = [
        "agwarden",
        "nothing is removed",
        "Simulation: it cannot be applied",
        "Plan in mode enforce",
        "registry,repository,tag,",
    ];
    let may_be = words.iter().any(|word| text.contains(word));
    may_be
        && text
            .lines()
            .any(|line| REPORT_HEADINGS.iter().any(|head| line.contains(head)) || is_run(line) || has_schema(line))
}

/// Returns true if one of the documents is Tagwarden's.
pub(super) fn is_document(documents: &[Node]) -> bool {
    documents.iter().filter_map(|document| document.get("schema")).any(|schema| match &schema.value {
        Value::Text(text) => text.starts_with(SCHEMA_PREFIX) && !text.starts_with(RELEASES_SCHEMA),
        _ => false,
    })
}

/// Returns true for the first line of the report of a run: `Tagwarden run in mode enforce: done`.
fn is_run(line: &str) -> bool {
    let rest = line.split_once("Tagwarden ").map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split_once(" in mode ")).is_some_and(|(command, rest)| {
        command.bytes().all(|byte| byte.is_ascii_lowercase())
            && ["dry-run", "approved", "enforce"]
                .iter()
                .any(|mode| rest.strip_prefix(mode).is_some_and(|rest| rest.starts_with(':')))
    })
}

/// Returns true for a line with `"schema": "tagwarden.plan/1"`, wherever the document is.
fn has_schema(line: &str) -> bool {
    let rest = line.split_once("\"schema\"").map(|(_, rest)| rest.trim_start_matches([' ', ':']));
    let schema = rest.and_then(|rest| rest.strip_prefix('"'));
    schema.is_some_and(|schema| schema.starts_with(SCHEMA_PREFIX) && !schema.starts_with(RELEASES_SCHEMA))
}

#[cfg(test)]
mod tests {
    use super::super::super::document::{Format, parse};
    use super::*;

    #[test]
    fn own_documents_are_known_from_others() {
        for (text, expected) in [
            ("2026-11-23 Dry run: nothing is removed; as of 2026-11-23 03:00 UTC", true),
            ("x\n## Tagwarden plan\n", true),
            ("log: Tagwarden run in mode enforce: done", true),
            ("{\n  \"schema\": \"tagwarden.plan/1\",", true),
            ("{\"schema\":\"tagwarden.inventory/1\"}", true),
            ("registry,repository,tag,digest,verdict,policy,enforce\n", true),
            ("{\"schema\":\"tagwarden.releases/1\"}", false),
            ("image: contoso.azurecr.io/ops/tagwarden:v1", false),
            ("we run Tagwarden in mode enforce now", false),
            ("registry,repository,tag,\ncontoso,shop/api,v1", false),
        ] {
            assert_eq!(is_report(text), expected, "{text}");
        }
        for (text, expected) in [
            ("schema: tagwarden.plan/1\ntags: []\n", true),
            ("a: 1\n---\nschema: tagwarden.diff/1\n", true),
            ("schema: tagwarden.releases/1\nreleases: []\n", false),
            ("schema: other\n", false),
            ("deep: { schema: tagwarden.plan/1 }\n", false),
        ] {
            assert_eq!(is_document(&parse(text, Format::Yaml).unwrap()), expected, "{text}");
        }
    }
}
