//! Container Instances.

use serde_json::{Value, json};
use tagwarden::sources::AzureService::ContainerInstances;

use super::{Estate, SUBSCRIPTION, children, id, put};

const GROUPS: &str = "Microsoft.ContainerInstance/containerGroups";
const PROFILES: &str = "Microsoft.ContainerInstance/containerGroupProfiles";

pub(super) fn group(containers: &[(&str, &str)], first: &[(&str, &str)]) -> Value {
    let all = |all: &[(&str, &str)]| -> Vec<Value> {
        all.iter().map(|(name, image)| json!({ "name": name, "properties": { "image": image } })).collect()
    };
    json!({ "provisioningState": "Stopped", "containers": all(containers), "initContainers": all(first) })
}

#[tokio::test]
async fn groups_and_profiles_claim_what_they_would_pull() {
    let estate = Estate::new().await;
    estate.change(|resources| {
        let whole = group(
            &[("web", "contoso.azurecr.io/web:v1"), ("log", "fluentd")],
            &[("init", "contoso.azurecr.io/init:v1")],
        );
        put(resources, GROUPS, "batch", &whole);
        put(resources, PROFILES, "pool", &group(&[("web", "contoso.azurecr.io/web:v3")], &[]));
        let first = group(&[("web", "contoso.azurecr.io/web:v2")], &[]);
        children(resources, &id(PROFILES, "pool"), "revisions", &[("1", first)]);
    });
    assert_eq!(
        estate.claims(ContainerInstances).await,
        [
            "container group batch [init] contoso.azurecr.io/init:v1",
            "container group batch [log] fluentd:latest",
            "container group batch [web] contoso.azurecr.io/web:v1",
            "container group profile pool [web] contoso.azurecr.io/web:v3",
            "container group profile pool/1 [web] contoso.azurecr.io/web:v2",
        ]
    );
    estate.deny(format!("{}/revisions", id(PROFILES, "pool")));
    estate.fails(ContainerInstances, "pool/revisions answered 403").await;
}

#[tokio::test]
async fn a_group_that_is_not_understood_fails_the_source() {
    for (properties, words) in [
        (json!({}), "container group odd"),
        (group(&[], &[("init", "a")]), "it has no containers"),
        (json!({ "containers": [{ "name": "web" }] }), "container `web` names no image"),
        (json!({ "containers": "none" }), "invalid type"),
    ] {
        let estate = Estate::new().await;
        estate.change(|resources| put(resources, GROUPS, "odd", &properties));
        estate.fails(ContainerInstances, words).await;
    }
}

#[tokio::test]
async fn a_cloud_without_profiles_is_no_failure() {
    let estate = Estate::new().await;
    estate.change(|resources| {
        put(resources, GROUPS, "batch", &group(&[("web", "contoso.azurecr.io/web:v1")], &[]));
        let path = format!("/subscriptions/{SUBSCRIPTION}/providers/{PROFILES}");
        resources.errors.insert(path, (404, "InvalidResourceType"));
    });
    assert_eq!(estate.claims(ContainerInstances).await.len(), 1);
    // A version that is too new for this cloud says nothing about what is there.
    estate.change(|resources| {
        resources.refused_versions.insert("2025-09-01".into());
    });
    estate.fails(ContainerInstances, "NoRegisteredProviderFound").await;
}
