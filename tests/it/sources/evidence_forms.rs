//! Evidence as people have it: whatever names an image in use keeps it, what is not understood keeps what it could mean,
//! and nothing else stays.

mod documents;
mod image_builds;
mod texts;
mod variables;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tagwarden::domain::{Holder, Verdict};
use tagwarden::sources::{ImageReferences, MentionEffect, SourceEvidence, TextSettings, UnresolvedEffect};

use super::{folder, query, retained_tags, set};

/// The registry of all cases: every tag is old and selected, and nothing names the tags `gone`.
const REGISTRY: &str = r#"
lesson: one registry for all forms of evidence
policies: |
  - { name: old, select: { tags: ["*"] }, keep: none, mode: enforce }
registry: { hosts: [contoso.azurecr.io] }
repositories:
  charts/api: { tags: { "1.2.3_build.5": a 90d, gone: b 90d } }
  shop/api: { tags: { v1: c 90d, v3: d 90d, main: e 90d, "42": f 90d, latest: g 90d, gone: h 90d } }
  shop/web: { tags: { v1: i 90d, gone: j 90d } }
  shop/worker: { tags: { v7: k 90d, gone: l 90d } }
  base/dotnet: { tags: { "8.0": m 90d, gone: n 90d } }
expect: ""
"#;

/// What it is, the files, and what stays: tags as `repository:tag`, and `?repository` where all others are undecided.
type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], &'c str);

fn check(cases: &[Case<'_>]) {
    for (what, files, expected) in cases {
        let folder = folder(files);
        assert_eq!(retained(folder.path(), TextSettings::default()), *expected, "{what}: {files:?}");
    }
}

/// What stays because of the files in a folder.
fn retained(base: &Path, texts: TextSettings) -> String {
    let staying = match retained_tags(set(base, &["**/*"]), true, texts, REGISTRY) {
        Ok(staying) => staying,
        Err(message) => return format!("failed: {message}"),
    };
    let stays: BTreeSet<String> = staying
        .into_iter()
        .map(|(repository, tag, verdict)| match verdict {
            Verdict::Protected => format!("{repository}:{tag}"),
            Verdict::Undecided => format!("?{repository}"),
            other => format!("{} {repository}:{tag}", other.label()),
        })
        .collect();
    stays.into_iter().collect::<Vec<_>>().join(" ")
}

fn evidence(files: &[(&str, &str)], texts: TextSettings) -> SourceEvidence {
    let folder = folder(files);
    let hosts = vec!["contoso.azurecr.io".to_owned()];
    query(&ImageReferences::new(set(folder.path(), &["**/*"]), hosts, texts)).unwrap()
}

#[test]
fn everything_open_names_its_place() {
    let files = [
        ("deploy/api.yaml", "a: 1\nimage: contoso.azurecr.io/shop/api:$(TAG)\n"),
        ("notes.txt", "\n\ncontoso.azurecr.io/shop/web\n"),
    ];
    let answer = evidence(&files, TextSettings::default());
    let mut places: Vec<String> = answer
        .unresolved
        .iter()
        .map(|one| match &*one.holder {
            Holder::File { path, line } => format!("{path}:{line} {}", one.text),
            other => panic!("{other:?}"),
        })
        .collect();
    places.sort();
    assert_eq!(
        places,
        ["deploy/api.yaml:2 contoso.azurecr.io/shop/api:$(TAG)", "notes.txt:3 contoso.azurecr.io/shop/web"]
    );
    assert_eq!(answer.notes, Vec::<String>::new());
}

#[test]
fn settings_say_what_keeps() {
    let open = [("a.yaml", "image: contoso.azurecr.io/shop/api:$(TAG)\n")];
    let beside = [("a.txt", "contoso.azurecr.io/shop/api is at v1")];
    let by = |files: &[(&str, &str)], mentions, unresolved| {
        let folder = folder(files);
        retained(folder.path(), TextSettings { mentions, unresolved, ..TextSettings::default() })
    };
    assert_eq!(by(&open, MentionEffect::Protect, UnresolvedEffect::Keep), "?shop/api");
    assert_eq!(by(&open, MentionEffect::Protect, UnresolvedEffect::Note), "");
    assert_eq!(by(&beside, MentionEffect::Protect, UnresolvedEffect::Keep), "shop/api:latest shop/api:v1");
    // A word that protects nothing settles nothing.
    assert_eq!(by(&beside, MentionEffect::Report, UnresolvedEffect::Keep), "?shop/api shop/api:latest");
    assert_eq!(by(&beside, MentionEffect::Off, UnresolvedEffect::Keep), "?shop/api shop/api:latest");
    let noted = evidence(&open, TextSettings { unresolved: UnresolvedEffect::Note, ..TextSettings::default() });
    assert_eq!(noted.notes, ["a.yaml:1: `contoso.azurecr.io/shop/api:$(TAG)` leaves open which image it means"]);
}

#[test]
fn utf16_is_read_and_other_formats_are_noted() {
    let folder = folder(&[]);
    let utf16 = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    fs::write(folder.path().join("live.txt"), utf16("\u{feff}contoso.azurecr.io/shop/api:v1\r\n")).unwrap();
    fs::write(folder.path().join("logo.png"), b"\x89PNG\r\n\x1a\n\0contoso.azurecr.io/shop/web:v1").unwrap();
    fs::write(folder.path().join("tool.pyc"), b"\xa7\x0d\x0d\n\0\0\0\0\0\0\0\0\0\0\0\0").unwrap();
    assert_eq!(retained(folder.path(), TextSettings::default()), "shop/api:v1");
    let by = |globs: &[&str]| query(&ImageReferences::new(set(folder.path(), globs), vec![], TextSettings::default()));
    let notes = by(&["**/*"]).unwrap().notes;
    assert_eq!(
        notes,
        [
            "logo.png: not text (PNG image), so it does not count",
            "tool.pyc: not text (Python code), so it does not count"
        ]
    );
    // What the settings name was meant to be read.
    assert!(by(&["logo.png"]).unwrap_err().chain().contains("NUL"));
    fs::write(folder.path().join("odd.bin"), b"c\0o\0n\0").unwrap();
    assert!(retained(folder.path(), TextSettings::default()).contains("odd.bin: not text"));
}

/// The reports of these tests, so that a change of their words is noticed here.
#[test]
fn own_reports_do_not_count() {
    let snapshots = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/report/snapshots");
    for name in ["a_plan_for_the_terminal", "a_plan_for_a_ticket", "a_plan_for_a_spreadsheet"] {
        let file = snapshots.join(format!("it__report__{name}.snap"));
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let report = text.splitn(3, "---\n").nth(2).unwrap();
        let log = format!("2026-11-23 03:00 job started\ncontoso.azurecr.io/shop/api:v1\n{report}");
        let answer = evidence(&[("job.log", &log)], TextSettings::default());
        assert_eq!(answer.notes, ["job.log: a document of Tagwarden itself, which does not count"], "{name}");
        assert!(answer.claims.is_empty() && answer.texts.is_empty(), "{name}");
    }
    let plan = r#"{ "schema": "tagwarden.plan/1", "removals": [{ "image": "contoso.azurecr.io/shop/api:v1" }] }"#;
    check(&[
        ("a plan", &[("plan.json", plan)], ""),
        (
            "a pipeline that prints a heading of its own",
            &[(
                "deploy.yml",
                "steps:\n- run: echo \"## Tagwarden plan\" >> $GITHUB_STEP_SUMMARY\n- run: docker run contoso.azurecr.io/shop/api:v1\n",
            )],
            "shop/api:v1",
        ),
        (
            "a plan in a log",
            &[("job.log", "{\n  \"schema\": \"tagwarden.plan/1\",\n  \"image\": \"contoso.azurecr.io/shop/api:v1\"\n")],
            "",
        ),
        (
            "a release record",
            &[(
                "r.json",
                r#"{ "schema": "tagwarden.releases/1", "releases": [{ "image": "contoso.azurecr.io/shop/api:v1" }] }"#,
            )],
            "shop/api:v1",
        ),
    ]);
}
