//! What a plan and a run are told before anything is removed: lifecycle policies, pull-through caches, and rights.

use super::{fixture, image as build, put};
use crate::workflow::WorkflowFixture;

const POLICIES: &str =
    "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep: [{ newest: 1 }]\n    mode: enforce\n";
const SWEEPS: &str = r#"{"rules":[{"rulePriority":3,"selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":30},"action":{"type":"expire"}}]}"#;
const UNTAGGED: &str = r#"{"rules":[{"rulePriority":3,"selection":{"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":1},"action":{"type":"expire"}}]}"#;

/// Three builds in each repository, each with another tag.
fn fill(walk: &WorkflowFixture, repositories: &[&str]) {
    for repository in repositories {
        for number in 1..=3 {
            let tag = format!("build-{number}");
            let image = build(&format!("{repository} {tag}"), 50);
            put(&walk.registry, repository, &tag, &image, 50 - number);
            assert!(walk.registry.move_tag(repository, &format!("release-{number}"), &image.digest));
        }
    }
    walk.snapshot_tags();
}

#[tokio::test]
async fn lifecycle_policies_and_caches_are_refused_by_name() {
    let walk = fixture(
        |mut options| {
            options.lifecycle.insert("shop/swept".to_owned(), SWEEPS.to_owned());
            options.lifecycle.insert("shop/api".to_owned(), UNTAGGED.to_owned());
            options.caches.insert("quay".to_owned(), "quay.io".to_owned());
            options.denied.push(("GetLifecyclePolicy".to_owned(), "shop/hidden".to_owned()));
            options
        },
        "",
        POLICIES,
    )
    .await;
    fill(&walk, &["shop/api", "shop/swept", "shop/hidden", "quay/org/app"]);
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 8);
    let notes: Vec<&str> = plan.registries[0].notes.iter().map(|note| &*note.message).collect();
    for phrase in [
        "its rule 3 deletes images beyond the newest 30",
        "quay/org/app is a pull-through cache of quay.io",
        "`ecr:GetLifecyclePolicy`",
    ] {
        assert!(notes.iter().any(|note| note.contains(phrase)), "{phrase}: {notes:?}");
    }
    assert_eq!(notes.len(), 3, "a rule for untagged images deletes nothing that Tagwarden leaves: {notes:?}");
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 3, "{}", came.text);
    let done: Vec<&String> = came.tags.iter().filter(|(_, label)| *label == "done").map(|(tag, _)| tag).collect();
    assert_eq!(done, ["shop/api:build-1", "shop/api:build-2"], "{}", came.text);

    walk.settings("approved", "accept = [\"untagged-retention\"]", "");
    let plan = walk.plan().await;
    let notes: Vec<&str> = plan.registries[0].notes.iter().map(|note| &*note.message).collect();
    assert!(notes.len() == 1 && notes[0].contains("pull-through cache"), "{notes:?}");
}

#[tokio::test]
async fn a_missing_right_to_remove_is_named_and_the_others_go_on() {
    let walk = fixture(
        |mut options| {
            options.denied.push(("BatchDeleteImage".to_owned(), "shop/web".to_owned()));
            options
        },
        "",
        POLICIES,
    )
    .await;
    fill(&walk, &["shop/api", "shop/web"]);
    let plan = walk.plan().await;
    let came = walk.apply(&plan).await;
    assert_ne!(came.code, 0, "{}", came.text);
    assert!(came.text.contains("`ecr:BatchDeleteImage`"), "{}", came.text);
    let done: Vec<&String> = came.tags.iter().filter(|(_, label)| *label == "done").map(|(tag, _)| tag).collect();
    assert_eq!(done, ["shop/api:build-1", "shop/api:build-2"], "{}", came.text);
}
