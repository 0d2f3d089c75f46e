//! Images in other strings of Azure's resources, and invalid ones where images stand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tagwarden::domain::{Inventory, SourceState};
use tagwarden::sources::AzureService::{self, AppService, ContainerApps, ContainerInstances};
use tagwarden::sources::{
    GatherContext, Source as _, SourceEvidence, SourceKind, SourceSettings, TextException, TextSettings,
    UnresolvedEffect, gather_about,
};

use super::app_service::{linux, site};
use super::container_instances::group;
use super::{Estate, SUBSCRIPTION, children, id, now, put, shown, template};
use crate::scenarios::shape::Scenario;

const APPS: &str = "Microsoft.App/containerApps";
const GROUPS: &str = "Microsoft.ContainerInstance/containerGroups";
const WORKER: &str = "contoso.azurecr.io/shop/worker";

const REGISTRY: &str = r#"
lesson: one service
policies: |
  - { name: old, select: { tags: ["*"] }, keep: none, mode: enforce }
registry: { hosts: [contoso.azurecr.io] }
repositories:
  shop/worker: { tags: { v3: a 90d, v7: b 90d, gone: c 90d } }
expect: ""
"#;

/// An app whose only container is from elsewhere. `more` is laid over the container.
async fn app(more: Value) -> Estate {
    let estate = Estate::new().await;
    let mut properties = template(&["main=ghcr.io/other/thing:1"], &[]);
    let container = properties["template"]["containers"][0].as_object_mut().unwrap();
    container.extend(more.as_object().unwrap().clone());
    estate.change(|resources| {
        put(resources, APPS, "it", &properties);
        children(resources, &id(APPS, "it"), "revisions", &[]);
    });
    estate
}

/// A container group whose only container is from elsewhere, with environment.
async fn container_group(image: &str, env: Value) -> Estate {
    let estate = Estate::new().await;
    let mut properties = group(&[("main", image)], &[]);
    properties["containers"][0]["properties"]["environmentVariables"] = env;
    estate.change(|resources| put(resources, GROUPS, "it", &properties));
    estate
}

async fn web_app(runs: Value) -> Estate {
    let estate = Estate::new().await;
    estate.change(|resources| site(resources, "it", &runs, &[], &[]));
    estate
}

async fn evidence(estate: &Estate, service: AzureService, texts: TextSettings) -> SourceEvidence {
    estate.source(service, &[SUBSCRIPTION], &[], texts).query(now()).await.unwrap()
}

/// The claims on images of ours, what is left open, and the tags that are mentioned.
async fn effect(estate: &Estate, service: AzureService) -> String {
    let found = evidence(estate, service, TextSettings::default()).await;
    let claims = shown(&found).into_iter().filter(|line| line.contains("shop/worker"));
    let mut lines: Vec<String> = claims.map(|line| line.replace("contoso.azurecr.io/shop/", "")).collect();
    let open = found.unresolved.iter().map(|open| format!("open {}", open.path.parts().collect::<Vec<_>>().join("*")));
    lines.extend(open);
    let scenario: Scenario = serde_saphyr::from_str(REGISTRY).unwrap();
    let stage = scenario.stage("azure");
    lines.extend(mentions(estate, service, &stage.inventory).await);
    lines.join(", ")
}

async fn mentions(estate: &Estate, service: AzureService, inventory: &Inventory) -> Vec<String> {
    let registry = &inventory.registries[0];
    let hosts = vec![(registry.name.clone(), registry.hosts.clone())];
    let settings = SourceSettings {
        name: "azure".parse().unwrap(),
        kind: SourceKind::Azure(service, estate.scope(&[SUBSCRIPTION], &[])),
        registries: None,
        max_age: None,
        allow_empty: true,
        min_claims: None,
        deadline: std::time::Duration::from_mins(1),
        texts: TextSettings::default(),
    };
    let source = estate.source(service, &[SUBSCRIPTION], &[], TextSettings::default());
    let known = GatherContext { hosts: &hosts, inventory, untagged: &[] };
    let claims = gather_about(vec![(settings, Box::new(source))], known, now(), now()).await;
    let SourceState::Complete { mentions, .. } = &claims.sources[0].state else { panic!("{claims:?}") };
    mentions.iter().map(|mention| format!("mentions {}", mention.text)).collect()
}

#[tokio::test]
async fn every_string_of_a_resource_counts() {
    let v7 = format!("{WORKER}:v7");
    let env = |name: &str, value: &str| json!({"env": [{"name": name, "value": value}]});
    let compose = format!("services:\n  web:\n    image: x:1\n    environment:\n      - IMAGE={v7}\n");
    let group_env = json!([{"name": "IMAGE", "value": v7}]);
    let cases: Vec<(&str, Estate, AzureService, &str)> = vec![
        (
            "env of an app",
            app(env("IMAGE", &v7)).await,
            ContainerApps,
            "container app it [main] worker:v7, mentions v7",
        ),
        (
            "an argument",
            app(json!({"args": [v7]})).await,
            ContainerApps,
            "container app it [main] worker:v7, mentions v7",
        ),
        (
            "env of a group",
            container_group("ghcr.io/other/thing:1", group_env).await,
            ContainerInstances,
            "container group it [main] worker:v7, mentions v7",
        ),
        (
            "a tag that is filled in",
            app(env("IMAGE", &format!("{WORKER}:$(TAG)"))).await,
            ContainerApps,
            "open shop/worker",
        ),
        ("the version of a service", app(env("worker", "v3")).await, ContainerApps, "mentions v3"),
        (
            "environment of a compose file",
            web_app(linux(&format!("COMPOSE|{}", STANDARD.encode(compose)))).await,
            AppService,
            "app it [] worker:v7, mentions v7",
        ),
        (
            "an image without a tag",
            app(json!({"image": WORKER})).await,
            ContainerApps,
            "container app it [main] worker:latest",
        ),
        (
            "the same of a web app",
            web_app(linux(&format!("DOCKER|{WORKER}"))).await,
            AppService,
            "app it [] worker:latest",
        ),
        ("another host", app(env("IMAGE", "ghcr.io/shop/other:v7")).await, ContainerApps, ""),
    ];
    for (name, estate, service, expected) in cases {
        assert_eq!(effect(&estate, service).await, expected, "{name}");
    }
}

#[tokio::test]
async fn an_invalid_image_is_told_and_fails_nothing() {
    let compose = format!("COMPOSE|{}", STANDARD.encode(format!("services:\n a:\n  image: {WORKER}:$TAG\n")));
    let cases: Vec<(Estate, AzureService, &str, &str)> = vec![
        (
            app(json!({"image": "contoso.azurecr.io/Shop/worker:v7"})).await,
            ContainerApps,
            "container app it [main] worker:v7",
            "read as `contoso.azurecr.io/shop/worker:v7`",
        ),
        (
            app(json!({"image": format!("{WORKER}:${{TAG}}")})).await,
            ContainerApps,
            "open shop/worker",
            "filled in elsewhere",
        ),
        (app(json!({"image": "shop worker"})).await, ContainerApps, "", "no registry can hold it"),
        (
            container_group("ghcr.io/Shop/worker:v7", json!([])).await,
            ContainerInstances,
            "",
            "read as `ghcr.io/shop/worker:v7`",
        ),
        (web_app(linux(&compose)).await, AppService, "open shop/worker", "filled in elsewhere"),
        (
            web_app(linux("DOCKER|contoso.azurecr.io/Shop/worker:v7")).await,
            AppService,
            "app it [] worker:v7",
            "read as `contoso.azurecr.io/shop/worker:v7`",
        ),
    ];
    for (estate, service, expected, told) in cases {
        let found = evidence(&estate, service, TextSettings::default()).await;
        let claims = shown(&found).into_iter().filter(|line| line.contains("contoso"));
        let mut lines: Vec<String> = claims.map(|line| line.replace("contoso.azurecr.io/shop/", "")).collect();
        lines.extend(found.unresolved.iter().map(|open| format!("open {}", open.path.parts().collect::<String>())));
        assert_eq!(lines.join(", "), expected, "{:?}", found.notes);
        assert!(found.notes.iter().any(|note| note.contains(told)), "{told}: {:?}", found.notes);
    }
}

#[tokio::test]
async fn open_references_are_noted_where_the_settings_say_so() {
    let estate = app(json!({"args": [format!("{WORKER}:$(TAG)")]})).await;
    for (kind, open) in [("container app", 0), ("revision", 1)] {
        let exception = TextException {
            paths: None,
            kinds: vec![kind.to_owned()],
            mentions: None,
            unresolved: Some(UnresolvedEffect::Note),
        };
        let texts = TextSettings { exceptions: vec![exception], ..TextSettings::default() };
        let found = evidence(&estate, ContainerApps, texts).await;
        assert_eq!(found.unresolved.len(), open, "{kind}");
        assert_eq!(found.notes.len(), 1 - open, "{kind}: {:?}", found.notes);
    }
}
