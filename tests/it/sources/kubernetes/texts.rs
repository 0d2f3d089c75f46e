//! Images that stand in other strings than those of images: environment, arguments, annotations, settings of programs.

use std::time::Duration;

use serde_json::{Value, json};
use tagwarden::domain::{Reason, SourceOutcome, SourceState, Verdict};
use tagwarden::engine::evaluate;
use tagwarden::sources::{
    GatherContext, KubernetesSettings, MentionEffect, SourceKind, SourceSettings, TextException, TextSettings,
    UnresolvedEffect, gather_about,
};

use super::source_with;
use crate::scenarios::shape::Scenario;
use crate::support::kubernetes::ApiServer;

/// Two services, whose tags are old and selected.
const REGISTRY: &str = r#"
lesson: two services
policies: |
  - { name: old, select: { tags: ["*"] }, keep: none, mode: enforce }
registry: { hosts: [contoso.azurecr.io] }
repositories:
  shop/api: { tags: { v1: a 90d, v7: b 90d, latest: c 90d, gone: d 90d } }
  shop/worker: { tags: { v3: e 90d, v7: f 90d, 4.2.0: g 90d, gone: h 90d } }
expect: ""
"#;

/// The effect of a cluster: each tag that stays with the reason for it, `service/*` where all of a repository stay
/// undecided, and the notes.
pub(super) async fn effect(settings: KubernetesSettings, texts: TextSettings) -> (String, Vec<String>) {
    let scenario: Scenario = serde_saphyr::from_str(REGISTRY).unwrap();
    let stage = scenario.stage("cluster");
    let registry = &stage.inventory.registries[0];
    let hosts = vec![(registry.name.clone(), registry.hosts.clone())];
    let of = SourceSettings {
        name: "aks".parse().unwrap(),
        kind: SourceKind::Kubernetes(Box::new(settings.clone())),
        registries: None,
        max_age: None,
        allow_empty: true,
        min_claims: None,
        deadline: Duration::from_mins(1),
        texts: texts.clone(),
    };
    let known = GatherContext { hosts: &hosts, inventory: &stage.inventory, untagged: &[] };
    let claims = gather_about(vec![(of, Box::new(source_with(settings, texts)))], known, stage.now, stage.now).await;
    let [SourceOutcome { state: SourceState::Complete { notes, .. }, .. }] = &claims.sources[..] else {
        panic!("{claims:?}")
    };
    let verdicts = evaluate(&stage.rules, &stage.inventory, &claims, stage.now);
    let mut lines = Vec::new();
    for (position, repository) in (0..).zip(&registry.repositories) {
        let service = repository.name.as_str().trim_start_matches("shop/");
        let own: Vec<_> = verdicts.tags.iter().filter(|found| found.position.repository == position).collect();
        if own.iter().all(|found| found.verdict == Verdict::Undecided) {
            lines.push(format!("{service}/*"));
            continue;
        }
        for found in own.iter().filter(|found| found.verdict != Verdict::Expired) {
            let reason = match (found.verdict, &found.reasons[0]) {
                (Verdict::Protected, Reason::Claimed(_)) => "claimed",
                (Verdict::Protected, Reason::Mentioned(_)) => "mentioned",
                (Verdict::Undecided, _) => "open",
                other => panic!("{other:?}"),
            };
            lines.push(format!("{service}:{} {reason}", repository.tags[found.position.tag as usize].name));
        }
    }
    let notes = notes.iter().filter(|note| !note.starts_with("hosts that no registry is known by"));
    (lines.join(", "), notes.cloned().collect())
}

/// A deployment of that name whose only container runs an image from elsewhere. `more` is laid over the container.
pub(super) fn deployment(name: &str, more: &Value) -> Value {
    let mut container = json!({"name": "main", "image": "ghcr.io/other/thing:1"});
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "kind": "Deployment", "metadata": {"namespace": "shop", "name": name},
        "spec": {"replicas": 0, "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}},
    })
}

fn env(entries: &[(&str, &str)]) -> Value {
    let entries = entries.iter().map(|(name, value)| json!({"name": name, "value": value}));
    json!({ "env": entries.collect::<Vec<_>>() })
}

/// The same object with labels and annotations of its own.
fn about(mut object: Value, labels: &Value, annotations: &Value) -> Value {
    object["metadata"]["labels"] = labels.clone();
    object["metadata"]["annotations"] = annotations.clone();
    object
}

async fn effect_of(objects: Vec<Value>, texts: TextSettings) -> (String, Vec<String>) {
    let server = ApiServer::start().await;
    server.world.lock().unwrap().put(objects);
    effect(server.settings(""), texts).await
}

type Case<'a> = (&'a str, Vec<Value>, &'a str);

async fn check(cases: Vec<Case<'_>>) {
    for (name, objects, expected) in cases {
        assert_eq!(effect_of(objects, TextSettings::default()).await.0, expected, "{name}");
    }
}

/// Pods of one template have mostly the same labels and annotations, which are read once.
#[tokio::test]
async fn each_label_and_annotation_of_the_pods_of_one_template_counts() {
    let pod = |name: &str, annotations: &Value| {
        let mut pod = about(deployment(name, &json!({})), &json!({"app": "it"}), annotations);
        pod["kind"] = "Pod".into();
        pod["spec"] = pod["spec"]["template"]["spec"].take();
        pod["metadata"]["ownerReferences"] = json!([{"kind": "ReplicaSet", "name": "it-1", "controller": true}]);
        pod
    };
    let (none, first, second) = (json!({}), json!({"x/image": V7}), json!({"x/image": V3}));
    check(vec![
        ("the same", vec![pod("it-a", &first), pod("it-b", &first)], "worker:v7 claimed"),
        ("only in the last", vec![pod("it-a", &none), pod("it-b", &none), pod("it-c", &first)], "worker:v7 claimed"),
        ("two", vec![pod("it-a", &first), pod("it-b", &second)], "worker:v3 claimed, worker:v7 claimed"),
        // A key that is a pod's own in a specification.
        ("a host name", vec![pod("it-a", &none), pod("it-b", &json!({"hostname": V7}))], "worker:v7 claimed"),
    ])
    .await;
}

const WORKER: &str = "contoso.azurecr.io/shop/worker";
const V7: &str = "contoso.azurecr.io/shop/worker:v7";
const V3: &str = "contoso.azurecr.io/shop/worker:v3";

fn operator(more: &Value) -> Vec<Value> {
    vec![deployment("operator", more)]
}

#[tokio::test]
async fn every_string_of_a_pod_template_counts() {
    let pod = |name: &str, env: &Value| {
        let mut pod = deployment("it", env);
        pod["kind"] = "Pod".into();
        pod["spec"] = pod["spec"]["template"]["spec"].take();
        pod["metadata"]["name"] = name.into();
        let owner = json!({"kind": "ReplicaSet", "name": "it-1", "controller": true});
        pod["metadata"]["ownerReferences"] = json!([owner]);
        pod
    };
    let in_json = json!({"worker": {"image": V7}}).to_string();
    let annotated = about(deployment("it", &json!({})), &json!({}), &json!({"x/image": V7}));
    check(vec![
        ("an environment variable", operator(&env(&[("RELATED_IMAGE_WORKER", V7)])), "worker:v7 claimed"),
        ("an argument", operator(&json!({"args": ["run", format!("--image={V7}")]})), "worker:v7 claimed"),
        ("a script", operator(&json!({"command": ["sh", "-c", format!("set -e\nrun {V7}\n")]})), "worker:v7 claimed"),
        ("JSON in a variable", operator(&env(&[("IMAGES", &*in_json)])), "worker:v7 claimed"),
        ("an annotation", vec![annotated], "worker:v7 claimed"),
        (
            "pods of one controller that differ",
            vec![pod("it-1-a", &env(&[("I", V7)])), pod("it-1-b", &env(&[("I", V3)]))],
            "worker:v3 claimed, worker:v7 claimed",
        ),
        ("an image without a tag", operator(&json!({"image": "contoso.azurecr.io/shop/api"})), "api:latest claimed"),
        ("the host alone", operator(&env(&[("REGISTRY", "contoso.azurecr.io"), ("TAG", "v7")])), ""),
        ("another host", operator(&env(&[("IMAGE", "ghcr.io/shop/other:v7")])), ""),
    ])
    .await;
}

#[tokio::test]
async fn a_reference_without_a_tag_leaves_its_repository_open() {
    let args = |args: &[&str]| operator(&json!({ "args": args }));
    let repository = format!("--repository={WORKER}");
    check(vec![
        ("a tag that is filled in", operator(&env(&[("IMAGE", &*format!("{WORKER}:$(TAG)"))])), "worker/*"),
        ("no tag", operator(&env(&[("IMAGE", WORKER)])), "worker/*"),
        ("a tag in another variable", operator(&env(&[("IMAGE", WORKER), ("TAG", "v7")])), "worker:v7 claimed"),
        ("a tag beside it", args(&[&*repository, "--tag=v7"]), "worker:v7 mentioned"),
        (
            "a placeholder beside it",
            args(&[&*repository, "--tag=$(TAG)", "--api=v3"]),
            "worker:4.2.0 open, worker:gone open, worker:v3 mentioned, worker:v7 open",
        ),
        (
            "the tag of another image beside it",
            args(&[WORKER, "contoso.azurecr.io/shop/api:v7"]),
            "api:v7 claimed, worker:4.2.0 open, worker:gone open, worker:v3 open, worker:v7 mentioned",
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_tag_is_mentioned_in_the_object_that_names_its_repository() {
    let labels = |name: &str, labels: &Value| about(deployment(name, &json!({})), labels, &json!({}));
    let template_labels = |labels: Value| {
        let mut object = deployment("it", &json!({}));
        object["spec"]["template"]["metadata"]["labels"] = labels;
        vec![object]
    };
    let mut two = deployment("it", &json!({ "image": "contoso.azurecr.io/shop/api:v7" }));
    two["spec"]["template"]["spec"]["initContainers"] = json!([{"name": "up", "image": V3}]);
    let field = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}});
    let applied = json!({"spec": {"containers": [{"name": "main", "image": V3}]}}).to_string();
    let applied = json!({"kubectl.kubernetes.io/last-applied-configuration": applied});
    check(vec![
        (
            "the version in a label",
            vec![labels("x", &json!({"app.kubernetes.io/name": "worker", "app.kubernetes.io/version": "4.2.0"}))],
            "worker:4.2.0 mentioned",
        ),
        (
            "the version of another service",
            vec![
                labels("api", &json!({"app.kubernetes.io/version": "4.2.0"})),
                deployment("worker", &json!({"image": V3})),
            ],
            "worker:v3 claimed",
        ),
        (
            "a version of the API",
            operator(
                &json!({"image": "contoso.azurecr.io/shop/api:v7", "env": [{"name": "NODE", "valueFrom": field}]}),
            ),
            "api:v7 claimed",
        ),
        ("what kubectl applied", vec![about(deployment("worker", &json!({})), &json!({}), &applied)], ""),
        ("the tags of two containers", vec![two], "api:v7 claimed, worker:v3 claimed"),
        (
            "an everyday word beside it",
            template_labels(json!({"app": "api", "track": "latest"})),
            "api:latest mentioned",
        ),
        ("an everyday word elsewhere", operator(&json!({"args": ["api"], "command": ["latest"]})), ""),
    ])
    .await;
}

#[tokio::test]
async fn the_settings_say_what_texts_do() {
    let open = || deployment("it", &env(&[("IMAGE", "contoso.azurecr.io/shop/worker:$(TAG)")]));
    let mention = || deployment("it", &env(&[("WORKER", "worker"), ("VERSION", "v7")]));
    let except = |kinds: &[&str], mentions, unresolved| TextSettings {
        exceptions: vec![TextException {
            paths: None,
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            mentions,
            unresolved,
        }],
        ..TextSettings::default()
    };
    let note = UnresolvedEffect::Note;
    let report = MentionEffect::Report;
    for (name, object, texts, expected, told) in [
        ("open", open(), TextSettings::default(), "worker/*", ""),
        ("noted", open(), TextSettings { unresolved: note, ..TextSettings::default() }, "", "keeps nothing"),
        ("noted by kind", open(), except(&["Job", "Deployment"], None, Some(note)), "", "Deployment shop/it: `"),
        ("of another kind", open(), except(&["ReplicaSet"], None, Some(note)), "worker/*", ""),
        ("mentioned", mention(), TextSettings::default(), "worker:v7 mentioned", ""),
        (
            "reported",
            mention(),
            TextSettings { mentions: report, ..TextSettings::default() },
            "",
            "Deployment shop/it: `v7`",
        ),
        ("off", mention(), TextSettings { mentions: MentionEffect::Off, ..TextSettings::default() }, "", ""),
        ("off by kind", mention(), except(&["Deployment"], Some(MentionEffect::Off), None), "", ""),
    ] {
        let (found, notes) = effect_of(vec![object], texts).await;
        assert_eq!(found, expected, "{name}");
        assert!(notes.concat().contains(told), "{name}: {notes:?}");
        assert_eq!(notes.is_empty(), told.is_empty(), "{name}: {notes:?}");
    }
}

#[tokio::test]
async fn maps_of_settings_are_read_where_that_is_asked_for() {
    let map = |data: Value| json!({"metadata": {"namespace": "shop", "name": "settings"}, "data": data});
    let cases = [
        (json!({"worker.image": "contoso.azurecr.io/shop/worker:v7"}), "worker:v7 claimed"),
        (json!({"jobs.yaml": "jobs:\n  - image: contoso.azurecr.io/shop/worker:v7\n"}), "worker:v7 claimed"),
        (
            json!({"values.yaml": "image:\n  repository: contoso.azurecr.io/shop/worker\n  tag: v7\n"}),
            "worker:v7 claimed",
        ),
        (json!({"service": "worker", "version": "v7"}), "worker:v7 mentioned"),
        (json!({"notes": "worker is\nat v7\n"}), "worker:v7 mentioned"),
        (json!({"image": "contoso.azurecr.io/shop/worker:${TAG}"}), "worker/*"),
        (json!({"log": "info"}), ""),
    ];
    for (data, expected) in cases {
        let server = ApiServer::start().await;
        server.world.lock().unwrap().add("api/v1", "configmaps", "ConfigMap", vec![map(data.clone())]);
        let settings = server.settings("");
        assert_eq!(effect(settings.clone(), TextSettings::default()).await.0, "", "{data}");
        assert_eq!(server.world.lock().unwrap().count("configmaps"), 0);
        let settings = KubernetesSettings { configmaps: true, ..settings };
        assert_eq!(effect(settings, TextSettings::default()).await.0, expected, "{data}");
    }
    // The right is one of its own.
    let server = ApiServer::start().await;
    server.world.lock().unwrap().add("api/v1", "configmaps", "ConfigMap", Vec::new());
    server.world.lock().unwrap().denied.insert("configmaps".into());
    let settings = KubernetesSettings { configmaps: true, ..server.settings("") };
    let error = super::ask(settings).await.unwrap_err();
    assert_eq!(error.kind, "denied");
    assert!(error.chain().contains("list configmaps") && error.chain().contains("rbac-configmaps.yaml"), "{error}");
}
