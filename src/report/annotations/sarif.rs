//! SARIF 2.1.0, for code scanning: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::{Annotation, AnnotationPlace, describe_rule, fingerprints};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// Renders one run with all annotations as its results.
pub(super) fn render(annotations: &[Annotation]) -> String {
    let levels: BTreeMap<&str, &str> =
        annotations.iter().rev().map(|annotation| (annotation.rule, annotation.level.label())).collect();
    let positions: BTreeMap<&str, usize> =
        levels.keys().enumerate().map(|(position, rule)| (*rule, position)).collect();
    let rules = levels.iter().map(|(rule, level)| {
        json!({
            "id": rule,
            "shortDescription": { "text": describe_rule(rule).unwrap_or(rule) },
            "defaultConfiguration": { "level": level },
        })
    });
    let rules: Vec<Value> = rules.collect();
    let results = annotations.iter().zip(fingerprints(annotations)).map(|(annotation, fingerprint)| {
        let locations: Vec<Value> = annotation.place.iter().map(location).collect();
        json!({
            "ruleId": annotation.rule,
            "ruleIndex": positions.get(annotation.rule),
            "level": annotation.level.label(),
            "message": { "text": annotation.words() },
            "locations": locations,
            "partialFingerprints": { "tagwarden/v1": fingerprint },
        })
    });
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": { "name": "Tagwarden", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules },
            },
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Vec<Value>>(),
        }],
    });
    format!("{log:#}\n")
}

fn location(place: &AnnotationPlace) -> Value {
    let artifact = if Path::new(&place.file).is_absolute() {
        json!({ "uri": format!("file://{}", encode(&place.file)) })
    } else {
        json!({ "uri": encode(&place.file), "uriBaseId": "%SRCROOT%" })
    };
    let mut physical = json!({ "artifactLocation": artifact });
    if place.line > 0 {
        physical["region"] = json!({ "startLine": place.line });
        if place.column > 0 {
            physical["region"]["startColumn"] = json!(place.column);
        }
    }
    json!({ "physicalLocation": physical })
}

/// Encodes a path as the path of a URI reference: everything but the characters that RFC 3986 leaves free there. A colon
/// would make the first segment a scheme.
fn encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn paths_become_references() {
        for (path, expected) in [
            ("policies/a.yaml", "policies/a.yaml"),
            ("our rules/50%.yaml", "our%20rules/50%25.yaml"),
            ("a:b#c?.yaml", "a%3Ab%23c%3F.yaml"),
            ("größe.yaml", "gr%C3%B6%C3%9Fe.yaml"),
        ] {
            assert_eq!(encode(path), expected);
        }
    }
}
