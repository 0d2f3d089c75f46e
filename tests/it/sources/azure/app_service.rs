//! App Service and Functions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tagwarden::sources::AzureService::AppService;

use super::{Estate, children, id, put};
use crate::support::azure::Resources;

const SITES: &str = "Microsoft.Web/sites";

/// Puts an app with its configuration, its slots and its sidecars.
pub(super) fn site(
    resources: &mut Resources,
    name: &str,
    runs: &Value,
    slots: &[(&str, Value)],
    beside: &[(&str, &str)],
) {
    let at = id(SITES, name);
    put(resources, SITES, name, &json!({ "reserved": true }));
    resources
        .single
        .insert(format!("{at}/config/web"), json!({ "id": format!("{at}/config/web"), "properties": runs }));
    let plain: Vec<(&str, Value)> = slots.iter().map(|(slot, _)| (*slot, json!({ "reserved": true }))).collect();
    children(resources, &at, "slots", &plain);
    for (slot, runs) in slots {
        let path = format!("{at}/slots/{slot}/config/web");
        resources.single.insert(path.clone(), json!({ "id": path, "properties": runs }));
        children(resources, &format!("{at}/slots/{slot}"), "sitecontainers", &[]);
    }
    let beside: Vec<(&str, Value)> = beside.iter().map(|(name, image)| (*name, json!({ "image": image }))).collect();
    children(resources, &at, "sitecontainers", &beside);
}

pub(super) fn linux(text: &str) -> Value {
    json!({ "linuxFxVersion": text, "windowsFxVersion": null })
}

async fn shop() -> Estate {
    let estate = Estate::new().await;
    let compose = "services:\n  web:\n    image: contoso.azurecr.io/web:v1\n  cache:\n    image: redis\n";
    estate.change(|resources| {
        let slots = [
            ("staging", linux("DOCKER|contoso.azurecr.io/api:v3")),
            ("old", linux("DOCKER|contoso.azurecr.io/api:v1")),
        ];
        site(resources, "api", &linux("DOCKER|contoso.azurecr.io/api:v2"), &slots, &[]);
        site(resources, "several", &linux(&format!("COMPOSE|{}", STANDARD.encode(compose))), &[], &[]);
        let beside = [("main", "contoso.azurecr.io/main:v1"), ("sidecar", "contoso.azurecr.io/otel:v1")];
        site(resources, "beside", &linux("sitecontainers"), &[], &beside);
        site(resources, "code", &linux("NODE|20-lts"), &[], &[]);
        site(resources, "unset", &linux("DOCKER|"), &[], &[]);
        // On Windows sidecars are not known, and in an environment of Container Apps neither are slots.
        let windows = json!({ "linuxFxVersion": "", "windowsFxVersion": "DOCKER|contoso.azurecr.io/win:v1" });
        site(resources, "windows", &windows, &[], &[]);
        put_again(resources, "windows", &json!({ "reserved": false }));
        resources.errors.insert(format!("{}/sitecontainers", id(SITES, "windows")), (404, "NotFound"));
        site(resources, "function", &linux("DOCKER|contoso.azurecr.io/function:v1"), &[], &[]);
        put_again(resources, "function", &json!({ "managedEnvironmentId": "/subscriptions/x" }));
        resources.lists.remove(&format!("{}/slots", id(SITES, "function")));
        resources.lists.remove(&format!("{}/sitecontainers", id(SITES, "function")));
    });
    estate
}

/// Gives a site that is there other properties.
fn put_again(resources: &mut Resources, name: &str, properties: &Value) {
    for list in resources.lists.values_mut() {
        list.retain(|one| one["id"] != id(SITES, name));
    }
    put(resources, SITES, name, properties);
}

#[tokio::test]
async fn apps_slots_and_sidecars_claim_what_they_run() {
    let estate = shop().await;
    let answer = estate.ask(AppService).await.unwrap();
    assert_eq!(
        super::shown(&answer),
        [
            "app api [] contoso.azurecr.io/api:v2",
            "app beside [main] contoso.azurecr.io/main:v1",
            "app beside [sidecar] contoso.azurecr.io/otel:v1",
            "app function [] contoso.azurecr.io/function:v1",
            "app several [cache] redis:latest",
            "app several [web] contoso.azurecr.io/web:v1",
            "app windows [] contoso.azurecr.io/win:v1",
            "deployment slot api/old [] contoso.azurecr.io/api:v1",
            "deployment slot api/staging [] contoso.azurecr.io/api:v3",
        ]
    );
    assert_eq!(answer.notes.len(), 1);
    assert!(answer.notes[0].starts_with("app unset (resource group rg-shop"), "{}", answer.notes[0]);
}

#[tokio::test]
async fn every_list_and_configuration_must_be_readable() {
    let api = id(SITES, "api");
    for path in [
        format!("{api}/config/web"),
        format!("{api}/slots"),
        format!("{api}/sitecontainers"),
        format!("{api}/slots/old/config/web"),
        format!("{api}/slots/staging/sitecontainers"),
        format!("{}/config/web", id(SITES, "code")),
        format!("{}/sitecontainers", id(SITES, "windows")),
    ] {
        let estate = shop().await;
        estate.deny(path.clone());
        estate.fails(AppService, &format!("{path} answered 403")).await;
    }
    // On Linux, no list of sidecars is no answer.
    let estate = shop().await;
    estate.change(|resources| drop(resources.lists.remove(&format!("{api}/sitecontainers"))));
    estate.fails(AppService, "sitecontainers answered 404").await;
}

#[tokio::test]
async fn what_an_app_runs_is_understood_or_told() {
    for (runs, words) in [
        (linux("COMPOSE|%%%"), "its `compose` file is not valid base64"),
        (linux(&format!("COMPOSE|{}", STANDARD.encode("services: {}"))), "names no image"),
        (linux("WASM|contoso.azurecr.io/api:v1"), "none of the known forms"),
        (json!({ "linuxFxVersion": 7 }), "which is not text"),
        (json!({}), "does not tell what it runs"),
    ] {
        let estate = shop().await;
        estate.change(|resources| site(resources, "odd", &runs, &[], &[]));
        let error = estate.ask(AppService).await.unwrap_err();
        assert!(error.chain().starts_with("app odd (resource group rg-shop"), "{error}");
        assert!(error.chain().contains(words), "{error}");
    }
    let estate = shop().await;
    estate.change(|resources| site(resources, "odd", &linux("sitecontainers"), &[], &[("main", "")]));
    estate.fails(AppService, "container `main` names no image").await;
}
