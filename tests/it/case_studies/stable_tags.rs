//! `prod` and `rollback` move on purpose: each move is recorded with its digest. One that is not shows as drift, and what a
//! rollback goes to survives its tag.

use super::*;

const POLICIES: &str = r#"policies:
  - name: builds
    select: { tags: ["build-*"] }
    keep: [{ newest: 1 }]
    mode: enforce
  - name: stable
    select: { tags: [prod, rollback] }
    keep: all
"#;

const REPOSITORY: &str = "shop/web";

impl WorkflowFixture {
    /// Records that `prod` and `rollback` are at these builds.
    fn records_moves(&self, digests: &[Digest], prod: usize, rollback: usize) {
        let record = |tag: &str, build: usize, status: &str| {
            let image = format!("{}/{REPOSITORY}:{tag}@{}", self.registry.host(), digests[build - 1]);
            json!({"image": image, "service": "web", "environment": "production", "status": status})
        };
        records(self, "web", &[record("prod", prod, "active"), record("rollback", rollback, "rollback")]);
    }

    fn moves(&self, tag: &str, to: &Digest) {
        assert!(self.registry.move_tag(REPOSITORY, tag, to));
        self.snapshot_tags();
    }
}

fn findings(plan: &PlanDocument) -> Vec<String> {
    let one = |found: &report::DriftView| {
        format!("{} {} {}", found.severity, found.kind, found.tag.as_deref().unwrap_or("-"))
    };
    plan.findings.iter().map(one).collect()
}

fn going(plan: &PlanDocument) -> Vec<String> {
    plan.removals.iter().map(|view| view.tag.clone()).collect()
}

#[tokio::test]
async fn every_move_is_recorded_or_shows() {
    let walk = open_fixture(POLICIES, "").await;
    let digests: Vec<Digest> = (1..=6)
        .map(|number| push(&walk.registry, REPOSITORY, &[&format!("build-{number}")], 70 - 10 * number))
        .collect();
    walk.moves("prod", &digests[3]);
    walk.moves("rollback", &digests[2]);
    walk.records_moves(&digests, 4, 3);

    // Every stable tag is at its recorded digest; the builds behind them stay, whatever their age.
    let plan = walk.plan().await;
    assert_eq!(findings(&plan), [""; 0]);
    assert_eq!(going(&plan), ["build-1", "build-2", "build-5"]);
    assert_eq!(verdict(&plan, REPOSITORY, "build-3").0, "protected");
    assert!(verdict(&plan, REPOSITORY, "prod").1.contains("release of web in production"));

    // Somebody moves `prod` and records nothing. Both images stay: the one that runs and the one on record.
    walk.moves("prod", &digests[4]);
    let plan = walk.plan().await;
    assert_eq!(findings(&plan)[0], "warning drift prod");
    assert_eq!(verdict(&plan, REPOSITORY, "build-4").0, "protected");
    let drift = &plan.findings[0];
    let (was, is) = (digests[3].to_string(), digests[4].to_string());
    assert_eq!((drift.digest.as_ref(), drift.actual.as_ref()), (Some(&was), Some(&is)));
    for format in [Format::Text, Format::Markdown, Format::Html] {
        assert!(rendered(&plan, format).contains("shop/web:prod is now at"), "{}", format.label());
    }
    // The move is recorded, with where a rollback goes now.
    walk.moves("rollback", &digests[3]);
    walk.records_moves(&digests, 5, 4);
    let plan = walk.plan().await;
    assert_eq!(
        (findings(&plan), going(&plan)),
        (Vec::new(), vec!["build-1".into(), "build-2".into(), "build-3".into()])
    );

    // The tag `rollback` is lost. Its digest stays, under its last tag, and the report says on what it hangs.
    assert!(walk.registry.delete_tag(REPOSITORY, "rollback"));
    walk.snapshot_tags();
    let plan = walk.plan().await;
    assert_eq!(findings(&plan), ["info last-tag build-4", "info tag-missing rollback"]);
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.tags.len()), (0, 3), "{}", came.text);
    assert_eq!(walk.registry.tags(REPOSITORY)["build-4"], digests[3]);

    // Even without any tag it is there and told, until the registry collects it.
    assert!(walk.registry.delete_tag(REPOSITORY, "build-4"));
    let plan = walk.plan().await;
    assert_eq!(findings(&plan), ["warning untagged rollback"]);
    assert!(walk.registry.manifest(REPOSITORY, &digests[3]).is_some());
}
