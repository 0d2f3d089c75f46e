//! What GitLab says of itself: garbage collection, cleanup policies and rights.

use serde_json::json;
use tagwarden::demo::registry::{Fault, FaultKind, GitlabOptions, GitlabProject, GitlabRole, GitlabScope};
use tagwarden::domain::{RemovalObstacle, RetentionDays};
use tagwarden::registry::RegistrySettings;

use super::{API, api, image, options, put, reader, reader_of, request_counts, settings_with_api, start, user};
use crate::registry::name;

async fn rules(settings: RegistrySettings) -> Vec<String> {
    let info = reader_of(settings).registry_info().await.unwrap().unwrap();
    assert_eq!(info.untagged_retention, RetentionDays::Days(1), "its garbage collection, whatever else is known");
    info.cleanup_rules.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn without_the_api_cleanup_policies_are_said_to_be_unknown() {
    let registry = start(options()).await;
    let info = reader(&registry.url()).registry_info().await.unwrap().unwrap();
    assert_eq!(info.untagged_retention, RetentionDays::Days(1));
    assert!(info.cleanup_rules[0].contains("is not known: add `api`"), "{:?}", info.cleanup_rules);
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn cleanup_policies_are_told_by_project() {
    let policy = json!({ "cadence": "7d", "enabled": true, "keep_n": 10, "older_than": "30d", "name_regex": "pr-.*",
                         "name_regex_keep": null, "next_run_at": "2026-11-21T21:42:58.658Z" });
    let backend = GitlabProject { cleanup_policy: policy, ..GitlabProject::new(7) };
    let hidden = GitlabProject { cleanup_policy: json!(null), ..GitlabProject::new(9) };
    let options = options()
        .with_project("shop/backend", backend)
        .with_project("shop/web", GitlabProject::new(8))
        .with_project("shop/hidden", hidden);
    let registry = start(options).await;
    for repository in [API, "shop/backend", "shop/backend/worker", "shop/web", "shop/hidden/a"] {
        put(&registry, repository, "v1", &image("one", 9), 5);
    }
    let mut settings = settings_with_api(&registry.url());
    settings.repositories =
        [API, "shop/backend", "shop/backend/worker", "shop/web", "shop/hidden/a"].map(name).to_vec();
    let told = rules(settings.clone()).await;
    assert_eq!(
        told,
        [
            "the cleanup policy of project shop/backend removes tags that match `pr-.*` and are older than 30d, every 7d, but \
             the 10 newest of each repository, but `latest` and protected ones",
            "whether a cleanup policy of project shop/hidden removes tags by itself is not known: GitLab shows its user none",
        ],
        "a policy that is off is none"
    );
    let asked = request_counts(&registry);
    assert_eq!(asked["GET /jwt/auth"], 3, "one token tells which project holds all repositories below its path");
    assert_eq!(asked["GET /api/v4/projects/7"], 1);
    registry.inject(Fault::on("/api/v4/projects/8", FaultKind::status(403)));
    let told = rules(settings).await;
    assert!(told[2].contains("project shop/web") && told[2].contains("scope `read_api`"), "{told:?}");
}

#[tokio::test]
async fn one_list_of_repositories_serves_policies_and_catalogue() {
    let registry = start(options()).await;
    put(&registry, API, "v1", &image("one", 9), 5);
    let settings = settings_with_api(&registry.url());
    let settings = RegistrySettings { repositories: Vec::new(), namespaces: vec!["shop".into()], ..settings };
    let reader = reader_of(settings);
    reader.registry_info().await.unwrap();
    reader.catalogue().await.unwrap();
    let listed = |registry: &tagwarden::demo::registry::EmbeddedRegistry| request_counts(registry)["GET /api/v4/groups/shop/registry/repositories"];
    assert_eq!(listed(&registry), 1);
    reader.catalogue().await.unwrap();
    assert_eq!(listed(&registry), 2, "what is asked for later is read anew");
}

#[tokio::test]
async fn missing_rights_are_told_by_repository() {
    for (scopes, role, phrase) in [
        (vec![GitlabScope::Api], GitlabRole::Maintainer, None),
        (vec![GitlabScope::Api], GitlabRole::Developer, Some("the role Maintainer in the project")),
        (vec![GitlabScope::ReadApi], GitlabRole::Owner, Some("its token the scope `api`")),
        (
            vec![GitlabScope::ReadRegistry, GitlabScope::WriteRegistry],
            GitlabRole::Owner,
            Some("its token the scope `api`"),
        ),
    ] {
        let registry = start(GitlabOptions { users: vec![user(&scopes, role)], ..options() }).await;
        put(&registry, API, "v1", &image("one", 9), 5);
        let missing = reader(&registry.url()).missing_rights(&[api()]).await;
        let words = match missing.get(&api()) {
            Some(RemovalObstacle::Denied { message }) => Some(message.clone()),
            None => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(words.is_some(), phrase.is_some(), "{scopes:?} {role:?}: {words:?}");
        assert!(words.is_none_or(|words| words.contains(phrase.unwrap())), "{scopes:?} {role:?}");
        let repository = super::read(&registry).await;
        assert_eq!((repository.tags.len(), repository.gaps.len()), (1, 0), "whoever may read can plan");
    }
    let registry = start(options()).await;
    registry.inject(Fault::on("/jwt/auth", FaultKind::status(500)));
    let missing = reader(&registry.url()).missing_rights(&[api()]).await;
    assert!(matches!(missing[&api()], RemovalObstacle::CheckFailed { .. }), "{missing:?}");
}
