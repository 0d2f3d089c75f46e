//! Lists to their end or not at all, and what each policy of a registry means.

use serde_json::{Value, json};
use tagwarden::azure::Arm;
use tagwarden::domain::{PermissionMode, RegistryInfo, RetentionDays, ServiceTier};
use tagwarden::http_client::{RequestError, RequestErrorKind};
use tagwarden::registry::providers::{RegistryResource, registry_info, storage_usage};

use super::PATIENCE;
use crate::support::azure::{Entra, ResourceManager};

const SUBSCRIPTION: &str = "33333333-3333-3333-3333-333333333333";
const REGISTRIES: &str = "/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/rg-registries/providers/\
                          Microsoft.ContainerRegistry/registries";

async fn both() -> (Entra, ResourceManager) {
    let entra = Entra::start().await;
    let manager = ResourceManager::start(&entra).await;
    (entra, manager)
}

fn numbers(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!(number)).collect()
}

async fn listed(arm: &Arm) -> Result<Vec<u64>, RequestError> {
    arm.list("/things", "2025-11-01").await
}

#[tokio::test]
async fn a_list_is_read_to_its_end() {
    let (entra, manager) = both().await;
    manager.resources.lock().unwrap().lists.insert("/things".into(), numbers(25));
    manager.resources.lock().unwrap().page = 10;
    let arm = Arm::new(&manager.credential(&entra), PATIENCE).unwrap();
    assert_eq!(listed(&arm).await.unwrap(), (0..25).collect::<Vec<u64>>());
    let asked = ["/things?api-version=2025-11-01", "&$skiptoken=10", "&$skiptoken=20"];
    for (asked, end) in manager.requests().iter().zip(asked) {
        assert!(asked.starts_with("/things?") && asked.ends_with(end), "{asked}");
    }
    assert_eq!((manager.requests().len(), entra.request_count()), (3, 1));
    // The last page may say so with an empty link.
    let body = json!({ "value": [1], "nextLink": "" }).to_string();
    manager.resources.lock().unwrap().instead.push_back((200, vec![], body));
    assert_eq!(listed(&arm).await.unwrap(), [1]);
}

#[tokio::test]
async fn part_of_a_list_is_no_list() {
    let (entra, manager) = both().await;
    let arm = Arm::new(&manager.credential(&entra), PATIENCE).unwrap();
    let here = manager.url.as_str();
    let other_port = manager.url.port().unwrap() ^ 1;
    let pages = [
        (json!({ "value": [1], "nextLink": "https://elsewhere.example/things" }), "another server, elsewhere.example"),
        (json!({ "value": [1], "nextLink": format!("http://127.0.0.1:{other_port}/things") }), "another server"),
        (json!({ "value": [1], "nextLink": here.replacen("http:", "https:", 1) }), "another server"),
        (json!({ "value": [1], "nextLink": here.replacen("//", "//x@", 1) }), "another server"),
        (json!({ "value": [1], "nextLink": "http://[x" }), "not a valid URL"),
        (json!({ "value": [1], "nextLink": format!("{here}things?api-version=2025-11-01") }), "in a circle"),
        (json!({ "nextLink": null }), "missing field `value`"),
        (json!({ "value": ["one"] }), "invalid type"),
        (json!("<html>"), "invalid type"),
    ];
    for (page, words) in pages {
        manager.resources.lock().unwrap().instead.push_back((200, vec![], page.to_string()));
        let error = listed(&arm).await.unwrap_err();
        assert_eq!(error.kind, RequestErrorKind::Malformed, "{error}");
        assert!(error.chain().contains(words), "{error}");
    }
    assert_eq!(manager.requests().len(), 9, "no link was followed");
}

#[tokio::test]
async fn throttling_is_waited_for_on_every_page() {
    let (entra, manager) = both().await;
    let arm = Arm::new(&manager.credential(&entra), PATIENCE).unwrap();
    manager.resources.lock().unwrap().lists.insert("/things".into(), numbers(3));
    for status in [429, 503, 429, 429, 429, 429] {
        let answer = (status, vec![("retry-after", "0".to_owned())], String::new());
        manager.resources.lock().unwrap().instead.push_back(answer);
    }
    assert_eq!(listed(&arm).await.unwrap(), [0, 1, 2]);
    let hour = (429, vec![("retry-after", "3600".to_owned())], String::new());
    manager.resources.lock().unwrap().instead.push_back(hour);
    let error = listed(&arm).await.unwrap_err();
    assert_eq!(error.kind, RequestErrorKind::Throttled, "{error}");
    assert!(error.chain().contains("when the subscription is less busy"), "{error}");
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once() {
    let (entra, manager) = both().await;
    manager.resources.lock().unwrap().lists.insert("/things".into(), numbers(1));
    let arm = Arm::new(&manager.credential(&entra), PATIENCE).unwrap();
    listed(&arm).await.unwrap();
    entra.directory.lock().unwrap().revoke_all();
    assert_eq!(listed(&arm).await.unwrap(), [0]);
    assert_eq!((entra.request_count(), manager.requests().len()), (2, 3));
    // One that is never accepted is an end, not a circle.
    for _ in 0..2 {
        let body = r#"{"error":{"code":"InvalidAuthenticationTokenTenant","message":"wrong issuer"}}"#.to_owned();
        manager.resources.lock().unwrap().instead.push_back((401, vec![], body));
    }
    let error = listed(&arm).await.unwrap_err();
    assert_eq!(error.kind, RequestErrorKind::Denied, "{error}");
    assert!(error.chain().contains("(InvalidAuthenticationTokenTenant: wrong issuer)"), "{error}");
    assert!(error.chain().contains("check its tenant"), "{error}");
    assert_eq!(manager.requests().len(), 5);
}

#[tokio::test]
async fn a_refusal_names_the_role_that_is_missing() {
    let (entra, manager) = both().await;
    let arm = Arm::new(&manager.credential(&entra), PATIENCE).unwrap();
    manager.resources.lock().unwrap().denied.insert("/things".into());
    let error = listed(&arm).await.unwrap_err();
    assert_eq!(error.kind, RequestErrorKind::Denied, "{error}");
    let whom = entra.application().description();
    for words in ["(AuthorizationFailed: The client", &format!("give {whom} the role `Reader` there")] {
        assert!(error.chain().contains(words), "{error}");
    }
    let error = arm.get::<Value>("/nowhere", "2025-11-01").await.unwrap_err();
    assert_eq!(error.kind, RequestErrorKind::NotFound, "{error}");
    assert!(error.chain().contains("has the role `Reader`"), "{error}");
    assert!(!error.chain().contains("api-version"), "{error}");
}

#[test]
fn tokens_leave_this_machine_only_encrypted() {
    let mut credential = tagwarden::azure::Credential {
        identity: tagwarden::azure::Identity::AzureCli { tenant_id: None },
        environment: tagwarden::azure::AzureEnvironment::default(),
    };
    for (address, fine) in [
        ("http://127.0.0.1:1", true),
        ("http://[::1]:1", true),
        ("http://localhost:1", true),
        ("https://management.example", true),
        ("http://management.example", false),
        ("http://localhost.example", false),
    ] {
        credential.environment.resource_manager = Some(address.parse().unwrap());
        assert_eq!(Arm::new(&credential, PATIENCE).is_ok(), fine, "{address}");
    }
}

/// A registry as the resource manager shows it.
fn registry(name: &str, server: &str, sku: &str, policies: &Value) -> Value {
    json!({
        "name": name, "type": "Microsoft.ContainerRegistry/registries", "location": "westeurope",
        "sku": { "name": sku, "tier": sku },
        "properties": {
            "loginServer": server, "policies": policies, "roleAssignmentMode": "LegacyRegistryPermissions",
            "provisioningState": "Succeeded",
        },
    })
}

/// Puts a registry there, with its usage and two replicas.
fn put(manager: &ResourceManager, registry: &Value) {
    let path = format!("{REGISTRIES}/{}", registry["name"].as_str().unwrap());
    let mut resources = manager.resources.lock().unwrap();
    resources.lists.entry(REGISTRIES.into()).or_default().push(registry.clone());
    resources.single.insert(path.clone(), registry.clone());
    let usage = json!({ "value": [
        { "name": "Webhooks", "limit": 500, "currentValue": 3, "unit": "Count" },
        { "name": "Size", "limit": 107_374_182_400_u64, "currentValue": 12_345_678_901_u64, "unit": "Bytes" },
    ] });
    resources.single.insert(format!("{path}/listUsages"), usage);
    let replications =
        ["West Europe", "uksouth", "northeurope", "UK South"].map(|location| json!({ "location": location }));
    resources.lists.insert(format!("{path}/replications"), replications.into());
}

async fn told(entra: &Entra, manager: &ResourceManager, hosts: &[&str]) -> Result<RegistryInfo, RequestError> {
    let credential = manager.credential(entra);
    let arm = Arm::new(&credential, PATIENCE).unwrap();
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    registry_info(&arm, &resource(credential), &hosts).await
}

fn resource(credential: tagwarden::azure::Credential) -> RegistryResource {
    RegistryResource { subscription: SUBSCRIPTION.into(), resource_group: "rg-registries".into(), credential }
}

#[tokio::test]
async fn a_registry_is_found_by_its_login_server() {
    let (entra, manager) = both().await;
    let policies = json!({ "retentionPolicy": { "days": 7, "status": "enabled" } });
    put(&manager, &registry("other", "other.azurecr.io", "Basic", &json!({})));
    put(&manager, &registry("contoso", "Contoso-a1b2.azurecr.io", "Premium", &policies));
    let found = told(&entra, &manager, &["images.contoso.example", "contoso-a1b2.azurecr.io:443"]).await.unwrap();
    let expected = RegistryInfo {
        subscription: SUBSCRIPTION.into(),
        resource_group: "rg-registries".into(),
        resource: "contoso".into(),
        tier: Some(ServiceTier::Premium),
        untagged_retention: RetentionDays::Days(7),
        soft_delete: RetentionDays::Unknown,
        permissions: Some(PermissionMode::Registry),
        replicas: vec!["northeurope".into(), "uksouth".into()],
        stored_bytes: Some(12_345_678_901),
        cleanup_rules: Vec::new(),
    };
    assert_eq!(found, expected);

    let error = told(&entra, &manager, &["fabrikam.azurecr.io"]).await.unwrap_err();
    assert_eq!(error.kind, RequestErrorKind::NotFound, "{error}");
    assert!(error.chain().contains("there: other.azurecr.io, Contoso-a1b2.azurecr.io"), "{error}");
}

#[tokio::test]
async fn whoever_may_see_the_registry_alone_finds_it_by_its_name() {
    let (entra, manager) = both().await;
    put(&manager, &registry("contoso", "contoso-a1b2.azurecr.io", "Basic", &json!({})));
    put(&manager, &registry("fabrikam", "elsewhere.azurecr.io", "Basic", &json!({})));
    manager.resources.lock().unwrap().denied.insert(REGISTRIES.into());
    let found = told(&entra, &manager, &["contoso-a1b2.azurecr.io"]).await.unwrap();
    assert_eq!(&*found.resource, "contoso");
    let error = told(&entra, &manager, &["fabrikam.azurecr.io"]).await.unwrap_err();
    assert_eq!(error.kind, RequestErrorKind::NotFound, "another one of that name is not it: {error}");
    let error = told(&entra, &manager, &["nobody.azurecr.io"]).await.unwrap_err();
    assert_eq!(error.kind, RequestErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn every_combination_of_policies_has_its_meaning() {
    use RetentionDays::{Days, Off, Unknown};
    let (entra, manager) = both().await;
    let on = |days: i64| json!({ "status": "enabled", "days": days, "lastUpdatedTime": "2026-01-01T00:00:00Z" });
    let cases = [
        ("Premium", json!({ "status": "disabled", "days": 7 }), Off),
        ("Premium", json!({ "status": "Disabled", "days": 7 }), Off),
        ("Premium", on(0), Days(0)),
        ("Premium", on(365), Days(365)),
        ("Premium", json!({ "status": "Enabled", "days": 7 }), Days(7)),
        ("Premium", json!({ "status": "enabled" }), Unknown),
        ("Premium", json!({ "status": "paused", "days": 7 }), Unknown),
        ("Premium", json!({ "days": 7 }), Unknown),
        ("Premium", on(-1), Unknown),
        ("Premium", json!({}), Unknown),
        ("Premium", Value::Null, Unknown),
        ("Basic", Value::Null, Off),
        ("Standard", Value::Null, Off),
        ("Standard", on(7), Days(7)),
        ("Classic", Value::Null, Unknown),
    ];
    for (number, (sku, policy, expected)) in cases.into_iter().enumerate() {
        let name = format!("a{number}");
        let policies = json!({ "retentionPolicy": policy });
        put(&manager, &registry(&name, &name, sku, &policies));
        let found = told(&entra, &manager, &[&name]).await.unwrap();
        assert_eq!(found.untagged_retention, expected, "{sku} {policies}");
    }

    let cases = [
        (json!({ "status": "disabled", "retentionDays": 7 }), Off),
        (json!({ "status": "enabled", "retentionDays": 90 }), Days(90)),
        (json!({ "status": "enabled" }), Unknown),
        (Value::Null, Unknown),
    ];
    for (number, (policy, expected)) in cases.into_iter().enumerate() {
        let name = format!("b{number}");
        put(&manager, &registry(&name, &name, "Basic", &json!({ "softDeletePolicy": policy })));
        assert_eq!(told(&entra, &manager, &[&name]).await.unwrap().soft_delete, expected, "{policy}");
    }

    let modes = [
        (json!("AbacRepositoryPermissions"), Some(PermissionMode::Repositories)),
        (json!("LegacyRegistryPermissions"), Some(PermissionMode::Registry)),
        (json!("SomethingNew"), None),
        (Value::Null, None),
    ];
    for (number, (mode, expected)) in modes.into_iter().enumerate() {
        let name = format!("c{number}");
        let mut registry = registry(&name, &name, "Basic", &Value::Null);
        registry["properties"]["roleAssignmentMode"] = mode;
        put(&manager, &registry);
        assert_eq!(told(&entra, &manager, &[&name]).await.unwrap().permissions, expected);
    }
}

#[tokio::test]
async fn what_is_not_told_is_not_off() {
    let (entra, manager) = both().await;
    let policies = json!({
        "retentionPolicy": { "days": 7, "status": "disabled" },
        "softDeletePolicy": { "retentionDays": 7, "status": "disabled" },
    });
    put(&manager, &registry("contoso", "contoso.azurecr.io", "Premium", &policies));
    assert_eq!(told(&entra, &manager, &["contoso.azurecr.io"]).await.unwrap().soft_delete, RetentionDays::Off);
    // Previews end one day.
    manager.resources.lock().unwrap().refused_versions.insert("2025-05-01-preview".into());
    let found = told(&entra, &manager, &["contoso.azurecr.io"]).await.unwrap();
    assert_eq!((found.soft_delete, found.untagged_retention), (RetentionDays::Unknown, RetentionDays::Off));

    let path = format!("{REGISTRIES}/contoso");
    manager.resources.lock().unwrap().denied.insert(format!("{path}/listUsages"));
    assert_eq!(told(&entra, &manager, &["contoso.azurecr.io"]).await.unwrap().stored_bytes, None);
    // Replicas have no word for not knowing, so not knowing them is an error.
    manager.resources.lock().unwrap().denied.insert(format!("{path}/replications"));
    let error = told(&entra, &manager, &["contoso.azurecr.io"]).await.unwrap_err();
    assert_eq!(error.kind, RequestErrorKind::Denied, "{error}");
    // And a registry that shows as little as can be.
    let bare = json!({ "name": "bare", "properties": { "loginServer": "bare" } });
    put(&manager, &bare);
    let found = told(&entra, &manager, &["bare"]).await.unwrap();
    assert_eq!((found.tier, found.untagged_retention, found.permissions), (None, RetentionDays::Unknown, None));
}

#[tokio::test]
async fn usage_can_be_measured_again() {
    let (entra, manager) = both().await;
    put(&manager, &registry("contoso", "contoso.azurecr.io", "Premium", &json!({})));
    let credential = manager.credential(&entra);
    let arm = Arm::new(&credential, PATIENCE).unwrap();
    let resource = resource(credential);
    assert_eq!(storage_usage(&arm, &resource, "contoso").await.unwrap(), 12_345_678_901);
    for answer in [json!({ "value": [] }), json!({ "value": [{ "name": "Size", "currentValue": -1 }] })] {
        manager.resources.lock().unwrap().single.insert(format!("{REGISTRIES}/contoso/listUsages"), answer);
        assert_eq!(storage_usage(&arm, &resource, "contoso").await.unwrap_err().kind, RequestErrorKind::Malformed);
    }
}
