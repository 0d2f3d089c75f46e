//! What Quay says of itself: time machines, auto-prune, rights and states.

use jiff::SignedDuration;
use serde_json::json;
use tagwarden::demo::registry::{Fault, FaultKind, QuayNamespace, QuayScope, QuayState, QuayToken};
use tagwarden::domain::{RemovalObstacle, RetentionDays};

use super::{TOKEN, image, name, options, put, reader, request_counts, settings, start};
use crate::registry::quick;

fn namespace(days: i64, auto_prune: Vec<serde_json::Value>) -> QuayNamespace {
    QuayNamespace { time_machine: SignedDuration::from_hours(24 * days), auto_prune }
}

#[tokio::test]
async fn the_shortest_time_machine_counts_and_auto_prune_is_told() {
    let token = QuayToken::new(TOKEN, &[QuayScope::RepoRead, QuayScope::OrgAdmin], "shop");
    let registry = start(tagwarden::demo::registry::QuayOptions { tokens: vec![token], ..options() }).await;
    put(&registry, "shop/api", "v1", &image("one", 9), 5);
    put(&registry, "ops/tools", "v1", &image("two", 9), 5);
    let policy = json!({ "uuid": "x", "method": "creation_date", "value": "30d", "tagPattern": null, "tagPatternMatches": true });
    registry.quay(|quay| {
        quay.set_namespace("shop", namespace(14, vec![policy]));
        quay.set_namespace("ops", namespace(2, Vec::new()));
    });
    let mut settings = settings(&registry.url());
    settings.namespaces = vec!["empty".into(), "ops".into(), "shop".into()];
    let reader = tagwarden::registry::connect(settings, quick()).unwrap().reader();
    let info = reader.registry_info().await.unwrap().unwrap();
    assert_eq!(info.untagged_retention, RetentionDays::Days(2));
    let rules: Vec<&str> = info.cleanup_rules.iter().map(|rule| &**rule).collect();
    assert_eq!(rules, ["auto-prune of namespace shop removes tags 30d after their push"]);
}

/// A namespace whose repositories are listed and then not found does not count as the best of the others.
#[tokio::test]
async fn a_time_machine_that_nobody_tells_is_not_known() {
    let registry = start(options()).await;
    for repository in ["shop/api", "ops/aaa", "ops/tools"] {
        put(&registry, repository, "v1", &image("one", 9), 5);
    }
    registry.quay(|quay| {
        quay.set_namespace("shop", namespace(14, Vec::new()));
        quay.set_namespace("ops", namespace(0, Vec::new()));
    });
    let mut settings = settings(&registry.url());
    settings.namespaces = vec!["shop".into(), "ops".into()];
    let reader = tagwarden::registry::connect(settings.clone(), quick()).unwrap().reader();
    let body = r#"{"error_type":"not_found","detail":"Not Found","status":404}"#;
    let missing = || FaultKind::Status { status: 404, headers: Vec::new(), body: body.to_owned() };
    registry.inject(Fault::on("/api/v1/repository/ops/aaa?", missing()));
    let info = reader.registry_info().await.unwrap().unwrap();
    assert_eq!(info.untagged_retention, RetentionDays::Days(0), "another repository of the namespace tells it");
    registry.inject(Fault::on("/api/v1/repository/ops/tools?", missing()));
    let info = reader.registry_info().await.unwrap().unwrap();
    assert_eq!(info.untagged_retention, RetentionDays::Unknown);
    let words = info.cleanup_rules.iter().find(|rule| rule.contains("time machine")).unwrap();
    assert!(words.contains("namespace ops is not known: Quay says that ops/aaa does not exist"), "{words}");
    settings.repositories = vec!["shop/api".parse().unwrap(), "ops/tools".parse().unwrap()];
    settings.namespaces = Vec::new();
    let reader = tagwarden::registry::connect(settings, quick()).unwrap().reader();
    assert_eq!(reader.registry_info().await.unwrap().unwrap().untagged_retention, RetentionDays::Unknown);
}

#[tokio::test]
async fn a_token_without_the_right_to_see_policies_learns_the_time_machine_all_the_same() {
    let registry = start(options()).await;
    put(&registry, "shop/api", "v1", &image("one", 9), 5);
    let info = reader(&registry.url()).registry_info().await.unwrap().unwrap();
    assert_eq!(info.untagged_retention, RetentionDays::Days(14));
    let rules: Vec<&str> = info.cleanup_rules.iter().map(|rule| &**rule).collect();
    assert!(
        rules[0].starts_with("whether auto-prune removes tags of namespace shop by itself is not known"),
        "{rules:?}"
    );
    assert!(rules[0].contains("scope `org:admin`"), "{rules:?}");
    let asked = request_counts(&registry);
    assert_eq!(asked.values().sum::<usize>(), 3, "{asked:?}");
}

#[tokio::test]
async fn a_time_machine_that_is_not_told_is_not_known() {
    let registry = start(options()).await;
    put(&registry, "shop/api", "v1", &image("one", 9), 5);
    let silent = json!({ "namespace": "shop", "name": "api", "state": "NORMAL", "can_write": true }).to_string();
    let answer = FaultKind::Status { status: 200, headers: Vec::new(), body: silent };
    registry.inject(Fault::on("/api/v1/repository/shop/api?", answer));
    let info = reader(&registry.url()).registry_info().await.unwrap().unwrap();
    assert_eq!(info.untagged_retention, RetentionDays::Unknown);
    registry.clear_faults();
    registry.inject(Fault::on("/api/v1/repository/shop/api?", FaultKind::status(403)));
    assert!(reader(&registry.url()).registry_info().await.is_err());
}

#[tokio::test]
async fn missing_rights_and_states_are_told_by_repository() {
    let mut token = QuayToken::new(TOKEN, &[QuayScope::RepoWrite], "shop");
    token.writable = ["api", "mirror", "frozen"].iter().map(|name| format!("shop/{name}")).collect();
    let registry = start(tagwarden::demo::registry::QuayOptions { tokens: vec![token], ..options() }).await;
    for repository in ["api", "mirror", "frozen", "web"] {
        put(&registry, &format!("shop/{repository}"), "v1", &image("one", 9), 5);
    }
    registry.quay(|quay| {
        quay.set_state("shop/mirror", QuayState::Mirror);
        quay.set_state("shop/frozen", QuayState::ReadOnly);
    });
    let names: Vec<_> =
        ["api", "mirror", "frozen", "web", "gone"].iter().map(|it| name(&format!("shop/{it}"))).collect();
    let missing = reader(&registry.url()).missing_rights(&names).await;
    let words = |repository: &str| match missing.get(&name(repository)) {
        Some(RemovalObstacle::Denied { message }) => message.clone(),
        other => format!("{other:?}"),
    };
    assert_eq!((words("shop/api"), words("shop/gone")), ("None".to_owned(), "None".to_owned()));
    assert!(words("shop/mirror").contains("is a mirror"), "{}", words("shop/mirror"));
    assert!(words("shop/frozen").contains("is read-only in Quay"), "{}", words("shop/frozen"));
    assert!(words("shop/web").contains("scope `repo:write`"), "{}", words("shop/web"));
    registry.inject(Fault::on("/api/v1/repository/shop/api?", FaultKind::status(500)));
    let missing = reader(&registry.url()).missing_rights(&[name("shop/api")]).await;
    assert!(matches!(missing[&name("shop/api")], RemovalObstacle::CheckFailed { .. }), "{missing:?}");
}
