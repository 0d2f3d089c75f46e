//! The Code Quality report of GitLab: <https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format>.

use serde_json::{Value, json};

use super::{Annotation, AnnotationLevel, fingerprints};

/// Renders all annotations. Each needs a file and a line: `fallback` and the first line stand for missing ones.
pub(super) fn render(annotations: &[Annotation], fallback: &str) -> String {
    let issues = annotations.iter().zip(fingerprints(annotations)).map(|(annotation, fingerprint)| {
        let place = annotation.place.as_ref();
        json!({
            "description": annotation.words(),
            "check_name": annotation.rule,
            "fingerprint": fingerprint,
            "severity": match annotation.level {
                AnnotationLevel::Error => "major",
                AnnotationLevel::Warning => "minor",
                AnnotationLevel::Note => "info",
            },
            "location": {
                "path": place.map_or(fallback, |place| &place.file),
                "lines": { "begin": place.map_or(1, |place| place.line.max(1)) },
            },
        })
    });
    format!("{:#}\n", Value::Array(issues.collect()))
}
