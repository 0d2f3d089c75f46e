//! From a cluster to verdicts: the accidents of those who compared strings.

use serde_json::{Value, json};
use tagwarden::domain::{Claim, Claims, Digest, Holder, Naming, SourceOutcome, SourceState, Verdict};
use tagwarden::engine::evaluate;

use super::ask;
use crate::scenarios::shape::Scenario;
use crate::support::kubernetes::ApiServer;

/// The registry: a letter for each image, all of it old and selected.
const REGISTRY: &str = r#"
lesson: one registry for all cases
policies: |
  - { name: old, select: { tags: ["*"] }, keep: none, mode: enforce }
registry: { hosts: [contoso.azurecr.io] }
repositories:
  team/shop/api:
    tags: { v1: a 90d, v2: b 90d, multi: index 90d, amd: amd 90d, v3: c 90d }
    manifests: { index: { children: [amd, arm] }, c: { config: cfg } }
  mirror/api: { tags: { copy: b 90d, other: d 90d } }
  api: { tags: { v1: e 90d } }
expect: ""
"#;

fn pod_spec(list: &str, image: &str) -> Value {
    let mut spec = json!({"containers": [{"name": "other", "image": "ghcr.io/other/thing:1"}]});
    let container = json!([{"name": "it", "image": image}]);
    if list == "volumes" {
        spec["volumes"] = json!([{"name": "it", "image": {"reference": image}}]);
    } else {
        spec[list] = container;
    }
    spec
}

fn object(kind: &str, spec: &Value) -> Value {
    let metadata = json!({"namespace": "shop", "name": "it"});
    match kind {
        "ControllerRevision" => {
            json!({"kind": kind, "metadata": metadata, "data": {"spec": {"template": {"spec": spec}}}})
        }
        "PodTemplate" => json!({"kind": kind, "metadata": metadata, "template": {"spec": spec}}),
        "CronJob" => {
            json!({"kind": kind, "metadata": metadata, "spec": {"suspend": true, "jobTemplate": {"spec": {"template": {"spec": spec}}}}})
        }
        "Pod" => json!({"kind": kind, "metadata": metadata, "spec": spec}),
        _ => json!({"kind": kind, "metadata": metadata, "spec": {"replicas": 0, "template": {"spec": spec}}}),
    }
}

fn running(image_id: &str) -> Value {
    let mut pod = object("Pod", &pod_spec("containers", "ghcr.io/other/thing:1"));
    pod["status"] =
        json!({"containerStatuses": [{"name": "it", "image": "ghcr.io/other/thing:1", "imageID": image_id}]});
    pod
}

fn digest(name: &str) -> String {
    Digest::of(name.as_bytes()).to_string()
}

/// A pod that reports images of its containers: list, name, image of the specification, image and id of the status.
fn reporting(containers: &[(&str, &str, &str, &str, &str)]) -> Value {
    let mut pod = object("Pod", &json!({}));
    for (list, name, image, reported, id) in containers {
        let (spec, status) = match *list {
            "init" => ("initContainers", "initContainerStatuses"),
            "ephemeral" => ("ephemeralContainers", "ephemeralContainerStatuses"),
            _ => ("containers", "containerStatuses"),
        };
        let push = |list: &mut Value, entry: Value| match list {
            Value::Array(entries) => entries.push(entry),
            other => *other = json!([entry]),
        };
        if !image.is_empty() {
            push(&mut pod["spec"][spec], json!({ "name": name, "image": image }));
        }
        push(&mut pod["status"][status], json!({ "name": name, "image": reported, "imageID": id }));
    }
    pod
}

/// The image ids of a pod: container, kind of pair, names.
async fn ids(pod: Value) -> Vec<String> {
    let server = ApiServer::start().await;
    server.world.lock().unwrap().put(vec![pod]);
    let answer = ask(server.settings("")).await.unwrap();
    let line = |claim: &Claim| {
        let Holder::Workload { container, .. } = &*claim.holder else { panic!("{claim:?}") };
        let kind = match &claim.naming {
            Naming::ContainerImageId(_) => "paired",
            Naming::ObjectImageId(_) => "unpaired",
            other => panic!("{other:?}"),
        };
        let names = claim.image_id_names().iter().map(|name| format!(" {}", name.to_string().trim_end_matches('/')));
        format!("{container} {kind}{}", names.collect::<String>())
    };
    let mut lines: Vec<String> = answer.claims.iter().filter(|claim| claim.is_image_id()).map(line).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn an_image_id_comes_with_the_names_of_its_container() {
    const API: &str = "contoso.azurecr.io/team/shop/api:v9";
    let id = digest("cfg");
    let id = id.as_str();
    for (containers, expected) in [
        (vec![("", "a", API, API, id)], vec!["a paired contoso.azurecr.io/team/shop/api"]),
        (vec![("", "a", API, id, id)], vec!["a paired contoso.azurecr.io/team/shop/api"]),
        (vec![("", "a", API, id, "")], vec!["a paired contoso.azurecr.io/team/shop/api"]),
        (vec![("", "a", API, "", &id[7..])], vec!["a paired contoso.azurecr.io/team/shop/api"]),
        (
            vec![("", "a", "mirror.example/x:1", API, &*format!("docker://{id}"))],
            vec!["a paired contoso.azurecr.io/team/shop/api mirror.example/x"],
        ),
        (
            vec![("init", "i", API, API, id), ("ephemeral", "e", "busybox", "docker.io/library/busybox:latest", id)],
            vec!["e paired busybox docker.io/library/busybox", "i paired contoso.azurecr.io/team/shop/api"],
        ),
        (
            vec![("", "a", &*format!("{API}@{}", digest("index")), id, id)],
            vec!["a paired contoso.azurecr.io/team/shop/api"],
        ),
        // The specification has no such container.
        (
            vec![("", "a", API, "", ""), ("", "gone", "", "", id)],
            vec!["gone unpaired contoso.azurecr.io/team/shop/api"],
        ),
        (vec![("", "gone", "", "", id)], vec!["gone unpaired"]),
        // Its text says nothing.
        (
            vec![("", "a", API, "", ""), ("", "b", "${IMAGE}", "", id)],
            vec!["b unpaired contoso.azurecr.io/team/shop/api"],
        ),
        // A name goes with the digest.
        (vec![("", "a", API, API, &*format!("contoso.azurecr.io/team/shop/api@{id}"))], vec![]),
    ] {
        assert_eq!(ids(reporting(&containers)).await, expected, "{containers:?}");
    }
}

/// The tags that stay when this is all that the cluster holds.
async fn retained(objects: Vec<Value>) -> Vec<String> {
    let server = ApiServer::start().await;
    server.world.lock().unwrap().put(objects);
    let answer = ask(server.settings("")).await.unwrap();
    let scenario: Scenario = serde_saphyr::from_str(REGISTRY).unwrap();
    let stage = scenario.stage("cluster");
    let answered = SourceState::Complete {
        claims: answer.claims,
        unresolved: answer.unresolved,
        mentions: Vec::new(),
        as_of: None,
        notes: Vec::new(),
    };
    let source = SourceOutcome { name: "aks".parse().unwrap(), kind: "kubernetes", registries: None, state: answered };
    let mut claims = Claims { sources: vec![source], ..Claims::default() };
    claims.sort();
    let verdicts = evaluate(&stage.rules, &stage.inventory, &claims, stage.now);
    let mut staying: Vec<String> = verdicts
        .tags
        .iter()
        .filter(|found| found.verdict != Verdict::Expired)
        .map(|found| {
            assert_eq!(found.verdict, Verdict::Protected);
            let registry = &stage.inventory.registries[found.position.registry as usize];
            let repository = &registry.repositories[found.position.repository as usize];
            format!("{}:{}", repository.name, repository.tags[found.position.tag as usize].name)
        })
        .collect();
    staying.sort();
    staying
}

#[tokio::test]
async fn what_is_used_anywhere_stays() {
    const V1: &str = "contoso.azurecr.io/team/shop/api:v1";
    let by_spec = |kind: &str, list: &str, image: &str| object(kind, &pod_spec(list, image));
    let mut cases: Vec<(String, Value, Vec<&str>)> = Vec::new();
    for kind in [
        "Pod",
        "ReplicationController",
        "PodTemplate",
        "Deployment",
        "ReplicaSet",
        "StatefulSet",
        "DaemonSet",
        "ControllerRevision",
        "Job",
        "CronJob",
    ] {
        cases.push((kind.to_owned(), by_spec(kind, "containers", V1), vec!["team/shop/api:v1"]));
    }
    for list in ["initContainers", "ephemeralContainers", "volumes"] {
        cases.push((list.to_owned(), by_spec("Pod", list, V1), vec!["team/shop/api:v1"]));
    }
    let (a, b, amd, index, config) = (digest("a"), digest("b"), digest("amd"), digest("index"), digest("cfg"));
    let more = [
        (
            "only a digest",
            by_spec("Pod", "containers", &format!("contoso.azurecr.io/team/shop/api@{a}")),
            vec!["team/shop/api:v1"],
        ),
        (
            "tag and digest of another",
            by_spec("Pod", "containers", &format!("{V1}@{b}")),
            vec!["mirror/api:copy", "team/shop/api:v1", "team/shop/api:v2"],
        ),
        (
            "a child of an index runs",
            running(&format!("contoso.azurecr.io/team/shop/api@{amd}")),
            vec!["team/shop/api:amd", "team/shop/api:multi"],
        ),
        (
            "an index runs",
            running(&format!("docker-pullable://contoso.azurecr.io/team/shop/api@{index}")),
            vec!["team/shop/api:amd", "team/shop/api:multi"],
        ),
        (
            "under another repository's name",
            running(&format!("contoso.azurecr.io/mirror/api@{b}")),
            vec!["mirror/api:copy", "team/shop/api:v2"],
        ),
        (
            "under another registry's name",
            running(&format!("mirror.example/x@{b}")),
            vec!["mirror/api:copy", "team/shop/api:v2"],
        ),
        ("by the digest of its configuration", running(&config), vec!["team/shop/api:v3"]),
        (
            "an upper-case host with a port",
            by_spec("Pod", "containers", "Contoso.AzureCR.io:443/team/shop/api:v1"),
            vec!["team/shop/api:v1"],
        ),
        (
            "a nested path is not its last part",
            by_spec("Pod", "containers", "contoso.azurecr.io/api:v1"),
            vec!["api:v1"],
        ),
        ("another registry's tag", by_spec("Pod", "containers", "ghcr.io/team/shop/api:v1"), vec![]),
    ];
    cases.extend(more.into_iter().map(|(name, object, expected)| (name.to_owned(), object, expected)));
    for (name, object, expected) in cases {
        assert_eq!(retained(vec![object]).await, expected, "{name}");
    }
}
