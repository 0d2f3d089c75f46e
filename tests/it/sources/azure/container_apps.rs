//! Container Apps.

use serde_json::{Value, json};
use tagwarden::sources::AzureService::ContainerApps;

use super::{Estate, children, id, put, template};

const APPS: &str = "Microsoft.App/containerApps";
const JOBS: &str = "Microsoft.App/jobs";
const POOLS: &str = "Microsoft.App/sessionPools";

/// An app with an earlier revision, a job that ran with other images once, and a session pool.
pub(super) async fn shop() -> Estate {
    let estate = Estate::new().await;
    estate.change(|resources| {
        put(
            resources,
            APPS,
            "api",
            &template(&["api=contoso.azurecr.io/shop/api:v3"], &["seed=contoso.azurecr.io/shop/seed:v1"]),
        );
        let revisions = [
            ("api--3", template(&["api=contoso.azurecr.io/shop/api:v3"], &[])),
            ("api--2", template(&["api=contoso.azurecr.io/shop/api:v2", "proxy=contoso.azurecr.io/proxy:1"], &[])),
        ];
        children(resources, &id(APPS, "api"), "revisions", &revisions);
        put(resources, JOBS, "nightly", &template(&["run=contoso.azurecr.io/shop/nightly:v1"], &[]));
        let mut odd = template(&["run=contoso.azurecr.io/shop/nightly:hotfix"], &[]);
        odd["status"] = json!("Succeeded");
        children(resources, &id(JOBS, "nightly"), "executions", &[("a", odd), ("b", json!({ "status": "Failed" }))]);
        put(resources, JOBS, "never-run", &template(&["run=contoso.azurecr.io/shop/never:v1"], &[]));
        children(resources, &id(JOBS, "never-run"), "executions", &[]);
        let custom = template(&["sandbox=contoso.azurecr.io/sandbox:v1"], &[])["template"].take();
        put(resources, POOLS, "own", &json!({ "containerType": "CustomContainer", "customContainerTemplate": custom }));
        put(resources, POOLS, "python", &json!({ "containerType": "PythonLTS", "customContainerTemplate": null }));
    });
    estate
}

#[tokio::test]
async fn everything_that_could_start_again_is_claimed() {
    let estate = shop().await;
    let expected = [
        "container app api [api] contoso.azurecr.io/shop/api:v3",
        "container app api [seed] contoso.azurecr.io/shop/seed:v1",
        "job execution nightly/a [run] contoso.azurecr.io/shop/nightly:hotfix",
        "job never-run [run] contoso.azurecr.io/shop/never:v1",
        "job nightly [run] contoso.azurecr.io/shop/nightly:v1",
        "revision api/api--2 [api] contoso.azurecr.io/shop/api:v2",
        "revision api/api--2 [proxy] contoso.azurecr.io/proxy:1",
        "revision api/api--3 [api] contoso.azurecr.io/shop/api:v3",
        "session pool own [sandbox] contoso.azurecr.io/sandbox:v1",
    ];
    assert_eq!(estate.claims(ContainerApps).await, expected);
    estate.change(|resources| resources.page = 1);
    assert_eq!(estate.claims(ContainerApps).await, expected, "page by page");
    for _ in 0..12 {
        let throttled = (429, vec![("retry-after", "0".to_owned())], String::new());
        estate.change(|resources| resources.instead.push_back(throttled));
    }
    assert_eq!(estate.claims(ContainerApps).await, expected, "throttled");
}

type Break = Box<dyn FnOnce(&Estate)>;

#[tokio::test]
async fn what_is_not_told_in_full_fails_the_source() {
    let denied = |path: String| move |estate: &Estate| estate.deny(path);
    let subscription = format!("/subscriptions/{}", super::SUBSCRIPTION);
    let foreign = |path: String| {
        move |estate: &Estate| {
            let page = json!({ "value": [], "nextLink": "https://elsewhere.example/next" });
            estate.change(|resources| drop(resources.single.insert(path, page)));
        }
    };
    let rows: Vec<(Break, &str)> = vec![
        (Box::new(denied(subscription.clone())), "give"),
        (Box::new(denied(format!("{subscription}/resources"))), "role `Reader`"),
        (Box::new(denied(format!("{subscription}/providers/{JOBS}"))), "role `Reader`"),
        (Box::new(denied(format!("{subscription}/providers/{POOLS}"))), "role `Reader`"),
        (Box::new(denied(format!("{}/revisions", id(APPS, "api")))), "api/revisions answered 403"),
        (Box::new(denied(format!("{}/executions", id(JOBS, "never-run")))), "never-run/executions answered 403"),
        (Box::new(foreign(format!("{}/revisions", id(APPS, "api")))), "another server, elsewhere.example"),
        (Box::new(foreign(format!("{subscription}/providers/{APPS}"))), "another server, elsewhere.example"),
    ];
    for (happens, words) in rows {
        let estate = shop().await;
        happens(&estate);
        estate.fails(ContainerApps, words).await;
    }
}

#[tokio::test]
async fn what_is_not_understood_fails_the_source_by_name() {
    let rows: [(&str, Value, &str); 6] = [
        (
            APPS,
            json!({}),
            "container app odd (resource group rg-shop, subscription 33333333-3333-3333-3333-333333333333): it has no containers",
        ),
        (APPS, template(&[], &[]), "container app odd"),
        (APPS, template(&["web="], &[]), "container `web` names no image"),
        (JOBS, Value::Null, "job odd"),
        (POOLS, json!({ "containerType": "CustomContainer" }), "session pool odd"),
        (POOLS, json!({}), "session pool odd"),
    ];
    for (kind, properties, words) in rows {
        let estate = shop().await;
        estate.change(|resources| {
            put(resources, kind, "odd", &properties);
            children(resources, &id(kind, "odd"), if kind == APPS { "revisions" } else { "executions" }, &[]);
        });
        estate.fails(ContainerApps, words).await;
    }
    // An execution that may still run must tell what it runs.
    let estate = shop().await;
    estate.change(|resources| {
        children(resources, &id(JOBS, "nightly"), "executions", &[("c", json!({ "status": "Running" }))]);
    });
    estate.fails(ContainerApps, "job execution nightly/c").await;
}
