//! Drift and orphans: told with their severity, and without any consequence.

use std::fmt::Write as _;
use std::fs;

use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::report::{DriftView, Format, render};

use crate::workflow::{WorkflowFixture, image};

const RECORDS: &str = "[sources.releases]\nkind = \"release-records\"\npaths = [\"releases.json\"]";

/// A walk whose records are these references, with `@NAME` for the digest of that tag and `HOST` for the registry.
async fn recorded(references: &[&str]) -> WorkflowFixture {
    let walk = WorkflowFixture::new().await;
    walk.settings("approved", "", RECORDS);
    let mut list = String::new();
    for reference in references {
        let mut text = reference.replace("HOST", walk.registry.host());
        if let Some((name, tag)) = text.clone().split_once("@candidate-") {
            text = format!("{name}@{}", walk.digest("shop/api", &format!("candidate-{tag}")));
        }
        let comma = if list.is_empty() { "" } else { "," };
        write!(list, "{comma}{{\"image\": \"{text}\", \"service\": \"api\"}}").unwrap();
    }
    fs::write(walk.path("releases.json"), format!("[{list}]")).unwrap();
    walk
}

async fn found(walk: &WorkflowFixture) -> Vec<DriftView> {
    let ended = walk.try_plan().await.unwrap();
    assert_eq!(ended.outcome.exit_code(), 0, "no finding changes the exit code");
    ended.document.findings
}

fn short(found: &[DriftView]) -> Vec<String> {
    let one = |found: &DriftView| {
        let tag = found.tag.as_deref().unwrap_or("-");
        format!("{} {} {}:{tag}", found.severity, found.kind, found.repository)
    };
    found.iter().map(one).collect()
}

/// A name for the case, the records, what happens to the registry, and what is found then.
type Row = (&'static str, &'static [&'static str], fn(&WorkflowFixture), &'static [&'static str]);

const ROWS: &[Row] = &[
    ("all as recorded", &["HOST/shop/api:release-1", "HOST/shop/api:candidate-1@candidate-1"], |_| (), &[]),
    (
        "a tag that moved",
        &["HOST/shop/api:candidate-1@candidate-1", "HOST/shop/api:release-1"],
        |walk| {
            let digest = walk.digest("shop/api", "candidate-1");
            assert!(walk.registry.move_tag("shop/api", "other", &digest));
            assert!(walk.registry.move_tag("shop/api", "candidate-1", &walk.digest("shop/api", "candidate-6")));
        },
        &["warning drift shop/api:candidate-1"],
    ),
    (
        "a tag that moved and left its image without one",
        &["HOST/shop/api:candidate-1@candidate-1"],
        |walk| assert!(walk.registry.move_tag("shop/api", "candidate-1", &walk.digest("shop/api", "candidate-6"))),
        &["warning drift shop/api:candidate-1", "warning untagged shop/api:candidate-1"],
    ),
    (
        "a tag that is not there",
        &["HOST/shop/api:release-9", "HOST/shop/api:release-1"],
        |_| (),
        &["warning image-missing shop/api:release-9"],
    ),
    (
        "a repository that is not there",
        &["HOST/shop/old:release-9", "HOST/shop/api:release-1"],
        |_| (),
        &["warning image-missing shop/old:release-9"],
    ),
    (
        "a tag that is gone, of an image that has another",
        &["HOST/shop/api:candidate-5@candidate-5"],
        |walk| {
            assert!(walk.registry.move_tag("shop/api", "release-2", &walk.digest("shop/api", "candidate-5")));
            assert!(walk.registry.delete_tag("shop/api", "candidate-5"));
        },
        &["info tag-missing shop/api:candidate-5"],
    ),
    (
        "an image without a tag",
        &["HOST/shop/api@candidate-5"],
        |walk| assert!(walk.registry.delete_tag("shop/api", "candidate-5")),
        &["warning untagged shop/api:-"],
    ),
    (
        "an image that was collected",
        &["HOST/shop/api@candidate-5"],
        |walk| {
            assert!(walk.registry.delete_tag("shop/api", "candidate-5"));
            let _ = walk.registry.collect_garbage();
        },
        &["warning image-missing shop/api:-"],
    ),
    ("a digest on its last tag", &["HOST/shop/api@candidate-1"], |_| (), &["info last-tag shop/api:candidate-1"]),
    ("a digest on a tag that stays anyway", &["HOST/shop/api@candidate-6"], |_| (), &[]),
    ("another registry's", &["elsewhere.example/shop/api:release-9", "HOST/shop/api:release-1"], |_| (), &[]),
];

#[tokio::test]
async fn what_is_not_as_it_was_recorded_is_found() {
    for (what, references, happens, expected) in ROWS {
        let walk = recorded(references).await;
        happens(&walk);
        assert_eq!(short(&found(&walk).await), *expected, "{what}");
    }
}

/// What was not read says nothing: neither is a tag gone that could not be listed, nor an image that was not asked for.
#[tokio::test]
async fn what_could_not_be_read_is_not_called_gone() {
    for path in ["tags/list", "manifests/sha256"] {
        let walk = recorded(&["HOST/shop/api:release-9@candidate-1", "HOST/shop/api:release-8"]).await;
        assert!(walk.registry.delete_tag("shop/api", "candidate-1"));
        walk.registry.inject(Fault::on(path, FaultKind::status(500)));
        let ended = walk.try_plan().await.unwrap();
        let gone = ended.document.findings.iter().filter(|found| found.digest.is_some());
        assert_eq!(gone.count(), 0, "{path}: {:?}", ended.document.findings);
    }
}

#[tokio::test]
async fn one_image_of_many_holders_is_one_finding() {
    let walk = recorded(&["HOST/shop/api:release-9", "HOST/shop/api:release-1"]).await;
    let host = walk.registry.host();
    let record = |service: u32| format!("{{\"image\": \"{host}/shop/api:release-9\", \"service\": \"s{service}\"}}");
    let list: Vec<String> = (0..5).map(record).collect();
    fs::write(walk.path("releases.json"), format!("[{}]", list.join(","))).unwrap();
    let found = found(&walk).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].holder.ends_with(" and 4 more"), "{}", found[0].holder);
}

#[tokio::test]
async fn every_report_has_the_findings() {
    let walk = recorded(&["HOST/shop/api:release-9", "HOST/shop/api:release-1"]).await;
    walk.put("shop/web", "release-1", &image("web", 3));
    let plan = walk.plan().await;
    for format in [Format::Text, Format::Json, Format::Markdown, Format::Html] {
        let report = render(&plan, format);
        assert!(report.contains("is not in the registry, and is used"), "{}: {report}", format.label());
    }
}
