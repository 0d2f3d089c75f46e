//! Obstacles that a plan and a run are told of before anything is removed: cleanup policies, caches, and rights.

use serde_json::json;
use tagwarden::demo::registry::{ArtifactRepository, Fault};
use tagwarden::domain::RetentionDays;
use tagwarden::registry::{AcceptedRisks, RegistrySettings, connect};

use super::{fixture, image as build, options, put, refusal, request_counts, settings, start};
use crate::registry::quick;
use crate::workflow::{StepResult, WorkflowFixture};

const POLICIES: &str =
    "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep: [{ newest: 1 }]\n    mode: enforce\n";

fn swept() -> ArtifactRepository {
    let condition = json!({ "tagState": "UNTAGGED", "olderThan": "86400s" });
    let policies = json!({ "sweep": { "id": "sweep", "action": "DELETE", "condition": condition } });
    ArtifactRepository { cleanup_policies: policies, ..ArtifactRepository::default() }
}

fn fill(walk: &WorkflowFixture, repositories: &[&str]) {
    for repository in repositories {
        for number in 1..=3 {
            let tag = format!("build-{number}");
            put(&walk.registry, repository, &tag, &build(&format!("{repository} {tag}"), 50), 50 - number);
        }
    }
    walk.snapshot_tags();
}

fn done(came: &StepResult) -> Vec<&String> {
    came.tags.iter().filter(|(_, label)| *label == "done").map(|(tag, _)| tag).collect()
}

#[tokio::test]
async fn cleanup_policies_caches_and_rights_are_refused_by_name() {
    let walk = fixture(
        |mut options| {
            options.denied.push(("artifactregistry.tags.delete".to_owned(), "acme/hidden".to_owned()));
            let remote = ArtifactRepository { mode: "REMOTE_REPOSITORY".to_owned(), ..ArtifactRepository::default() };
            let dry = ArtifactRepository { cleanup_policy_dry_run: true, ..swept() };
            let options = options.repository("acme/swept", swept()).repository("acme/cache", remote);
            options.repository("acme/dry", dry).repository("acme/hidden", ArtifactRepository::default())
        },
        "",
        POLICIES,
    )
    .await;
    fill(&walk, &["acme/shop/api", "acme/swept/api", "acme/cache/library/nginx", "acme/dry/api", "acme/hidden/api"]);
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 10);
    let notes: Vec<&str> = plan.registries[0].notes.iter().map(|note| &*note.message).collect();
    for phrase in [
        "its cleanup policy `sweep` deletes untagged images, 1 day after their push",
        "acme/cache is a remote repository",
        "the identity may not remove tags from acme/hidden: the identity needs `artifactregistry.tags.delete`",
    ] {
        assert!(notes.iter().any(|note| note.contains(phrase)), "{phrase}: {notes:?}");
    }
    assert_eq!(notes.len(), 3, "a policy that only runs dry deletes nothing: {notes:?}");
    let text = tagwarden::report::render(&plan, tagwarden::report::Format::Text);
    assert!(text.contains("cleanup policy `sweep` of acme/swept deletes untagged images"), "{text}");
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 3, "{}", came.text);
    let expected = ["acme/dry/api:build-1", "acme/dry/api:build-2", "acme/shop/api:build-1", "acme/shop/api:build-2"];
    assert_eq!(done(&came), expected, "{}", came.text);

    walk.settings("approved", "accept = [\"untagged-retention\"]", "");
    let plan = walk.plan().await;
    let notes: Vec<&str> = plan.registries[0].notes.iter().map(|note| &*note.message).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
}

#[tokio::test]
async fn facts_of_the_registry_follow_from_the_settings_of_its_repositories() {
    for (repository, accepts, expected) in [
        (ArtifactRepository::default(), true, RetentionDays::Off),
        (swept(), false, RetentionDays::Off),
        (swept(), true, RetentionDays::Days(0)),
        (ArtifactRepository { cleanup_policy_dry_run: true, ..swept() }, true, RetentionDays::Off),
    ] {
        let registry = start(options().repository("acme/shop", repository)).await;
        put(&registry, "acme/shop/api", "v1", &build("one", 9), 5);
        let accepted = AcceptedRisks { retention: accepts, ..AcceptedRisks::default() };
        let settings = RegistrySettings { accepted, ..settings(&registry.url()) };
        let info = connect(settings, quick()).unwrap().reader().registry_info().await.unwrap().unwrap();
        assert_eq!(info.untagged_retention, expected);
        assert!(info.stored_bytes.is_some_and(|bytes| bytes > 0));
        assert_eq!(request_counts(&registry).into_values().sum::<usize>(), 1);
    }
}

#[tokio::test]
async fn a_project_that_cannot_be_read_removes_nothing_and_says_so() {
    let walk = fixture(|options| options, "", POLICIES).await;
    fill(&walk, &["acme/shop/api"]);
    let plan = walk.plan().await;
    walk.registry.inject(Fault::on("/repositories?", refusal(403, "PERMISSION_DENIED", "denied")));
    let came = walk.apply(&plan).await;
    assert_ne!(came.code, 0, "{}", came.text);
    assert_eq!(done(&came), Vec::<&String>::new(), "{}", came.text);
    let blind = tagwarden::report::render(&walk.plan().await, tagwarden::report::Format::Text);
    assert!(blind.contains("`artifactregistry.repositories.list`"), "{blind}");
    walk.registry.clear_faults();
    assert_eq!(done(&walk.apply(&plan).await).len(), 2);
}
