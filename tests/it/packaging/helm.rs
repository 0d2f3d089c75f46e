//! The chart, rendered and linted by Helm's own code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use tagwarden::sources::{Preset, kubernetes_rights};
use tagwarden::{config, policy};

use super::kubernetes::{check_pods, check_probes, check_template};
use crate::support::clients;
use crate::support::manifests::{documents, typed};

const EXAMPLE: &str = include_str!("../../../deploy/helm/example-values.yaml");
const REPLICAS: &str = include_str!("../../../deploy/helm/example-replicas.yaml");

/// What Helm makes of the chart.
async fn helm(values: &Value) -> Value {
    clients::run("helm_chart.py", &["deploy/helm/tagwarden", &values.to_string()], Path::new("/")).await
}

/// Lays values over others, as Helm does with its files of values.
fn lay(over: Value, under: &mut Value) {
    match (over, under) {
        (Value::Object(over), Value::Object(under)) => {
            over.into_iter().for_each(|(key, value)| lay(value, under.entry(key).or_insert(Value::Null)));
        }
        (over, under) => *under = over,
    }
}

/// The values of the example, and over them others.
fn over_example(values: Value) -> Value {
    let mut all = documents(EXAMPLE).remove(0);
    lay(values, &mut all);
    all
}

/// The documents that Helm renders of the example with these values, by kind and name, all of them known to the API.
async fn rendered(values: Value) -> BTreeMap<String, Value> {
    let saw = helm(&over_example(values)).await;
    assert!(saw["error"].is_null(), "{saw:#}");
    let serious = |message: &&Value| message["severity"].as_i64().unwrap() > 1;
    let messages: Vec<&Value> = saw["lint"]["messages"].as_array().unwrap().iter().filter(serious).collect();
    assert!(messages.is_empty() && saw["lint"]["errors"] == json!([]), "{saw:#}");
    assert_eq!(saw["app_version"], env!("CARGO_PKG_VERSION"));
    let mut found = BTreeMap::new();
    for (file, text) in saw["rendered"].as_object().unwrap() {
        if file.ends_with("NOTES.txt") {
            continue;
        }
        for document in documents(text.as_str().unwrap()).into_iter().filter(|document| !document.is_null()) {
            let kind = document["kind"].as_str().unwrap();
            match kind {
                "ServiceAccount" => drop(typed::<ServiceAccount>(&document)),
                "ClusterRole" => drop(typed::<ClusterRole>(&document)),
                "ClusterRoleBinding" => drop(typed::<ClusterRoleBinding>(&document)),
                "ConfigMap" => drop(typed::<ConfigMap>(&document)),
                "PersistentVolumeClaim" => drop(typed::<PersistentVolumeClaim>(&document)),
                "Deployment" => drop(typed::<Deployment>(&document)),
                "Service" => drop(typed::<Service>(&document)),
                "NetworkPolicy" => drop(typed::<NetworkPolicy>(&document)),
                "PodDisruptionBudget" => drop(typed::<PodDisruptionBudget>(&document)),
                "ServiceMonitor" => {}
                other => panic!("nobody checks a {other}"),
            }
            let name = document["metadata"]["name"].as_str().unwrap();
            assert!(found.insert(format!("{kind} {name}"), document).is_none());
        }
    }
    found
}

fn deployment(rendered: &BTreeMap<String, Value>) -> Deployment {
    typed(&rendered["Deployment nightly-tagwarden"])
}

/// Group and resource of every rule, all of them only listed.
fn listed(rendered: &BTreeMap<String, Value>) -> BTreeSet<(String, String)> {
    let role: ClusterRole = typed(&rendered["ClusterRole platform-nightly-tagwarden-read-workloads"]);
    let mut all = BTreeSet::new();
    for rule in role.rules.unwrap() {
        assert_eq!(rule.verbs, ["list"]);
        for group in rule.api_groups.iter().flatten() {
            all.extend(rule.resources.iter().flatten().map(|resource| (group.clone(), resource.clone())));
        }
    }
    all
}

#[tokio::test]
async fn the_example_is_sound() {
    let rendered = rendered(json!({})).await;
    let kinds: Vec<&str> = rendered.keys().map(|name| name.split(' ').next().unwrap()).collect();
    let expected = [
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "ConfigMap",
        "Deployment",
        "PersistentVolumeClaim",
        "ServiceAccount",
    ];
    assert_eq!(kinds, expected);
    let pod = check_pods(&deployment(&rendered));
    assert!(check_probes(&pod));
    let needed = |helm: bool, configmaps: bool, presets: &[Preset]| -> BTreeSet<(String, String)> {
        let rights = kubernetes_rights(helm, configmaps, presets).into_iter();
        rights.map(|(group, resource)| (group.to_owned(), resource.to_owned())).collect()
    };
    assert_eq!(listed(&rendered), needed(false, false, &[]));
    for (option, expected) in [
        ("helmReleases", needed(true, false, &[])),
        ("configMaps", needed(false, true, &[])),
        ("presets", needed(false, false, &Preset::ALL)),
    ] {
        assert_eq!(listed(&self::rendered(json!({ "rbac": { option: true } })).await), expected, "{option}");
    }

    // As the container sees it: settings, environment, policies.
    let folder = tempfile::tempdir().unwrap();
    let map: ConfigMap = typed(&rendered["ConfigMap nightly-tagwarden"]);
    let file = folder.path().join("tagwarden.toml");
    std::fs::write(&file, &map.data.unwrap()["tagwarden.toml"]).unwrap();
    let environment = pod.containers[0].env.clone().unwrap();
    let environment = environment.into_iter().map(|variable| (variable.name, variable.value.unwrap()));
    let settings = config::load(&file, environment).unwrap();
    let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
    assert!(mounts.iter().any(|mount| settings.state.path().unwrap().starts_with(&mount.mount_path)));
    assert!(mounts.iter().any(|mount| settings.policies == Path::new(&mount.mount_path)));
    assert!(settings.listen.ip().is_loopback());
    let map: ConfigMap = typed(&rendered["ConfigMap nightly-tagwarden-policies"]);
    for (name, text) in map.data.unwrap() {
        policy::parse(&name, &text).unwrap();
    }
}

#[tokio::test]
async fn an_exposed_page_has_a_token_and_is_probed_over_http() {
    let secret = json!({ "existingSecret": "tagwarden", "status": { "expose": true, "port": 8080, "serviceMonitor": { "enabled": true } },
        "networkPolicy": { "enabled": true } });
    let rendered = rendered(secret).await;
    let pod = check_pods(&deployment(&rendered));
    assert!(!check_probes(&pod));
    let container = &pod.containers[0];
    let variable = |name: &str| {
        let found = container.env.as_ref().unwrap().iter().find(|variable| variable.name == name);
        found.and_then(|variable| variable.value.clone()).unwrap_or_default()
    };
    assert_eq!(variable("TAGWARDEN__LISTEN"), "0.0.0.0:8080");
    let mounts = container.volume_mounts.as_ref().unwrap();
    let secrets = mounts.iter().find(|mount| mount.name == "secrets").unwrap();
    assert_eq!(variable("TAGWARDEN__LISTEN_TOKEN_FILE"), format!("{}/listen-token", secrets.mount_path));
    let paths: Vec<String> = [&container.startup_probe, &container.liveness_probe, &container.readiness_probe]
        .map(|probe| probe.as_ref().unwrap().http_get.as_ref().unwrap().path.clone().unwrap())
        .to_vec();
    assert_eq!(paths, ["/healthz", "/healthz", "/readyz"]);
    let service: Service = typed(&rendered["Service nightly-tagwarden"]);
    assert_eq!(service.spec.unwrap().ports.unwrap()[0].port, 8080);
    let policy: NetworkPolicy = typed(&rendered["NetworkPolicy nightly-tagwarden"]);
    assert_eq!(policy.spec.unwrap().ingress.unwrap().len(), 1);
    assert_eq!(
        rendered["ServiceMonitor nightly-tagwarden"]["spec"]["endpoints"][0]["authorization"]["credentials"]["name"],
        "tagwarden"
    );
}

#[tokio::test]
async fn what_can_be_chosen_ends_where_it_should() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let client = "22222222-2222-2222-2222-222222222222";
    let rendered = rendered(json!({
        "image": { "digest": digest },
        "imagePullSecrets": [{ "name": "pull" }],
        "workloadIdentity": { "clientId": client },
        "persistence": { "enabled": false },
        "rbac": { "extraRules": [{ "apiGroups": ["argoproj.io"], "resources": ["rollouts"], "verbs": ["list"] }] },
        "env": [{ "name": "HTTPS_PROXY", "value": "http://proxy.example:3128" }],
        "podLabels": { "team": "platform" }, "podAnnotations": { "a": "b" }, "priorityClassName": "low",
        "nodeSelector": { "kubernetes.io/arch": "amd64" }, "tolerations": [{ "operator": "Exists" }],
        "affinity": { "nodeAffinity": {} }, "networkPolicy": { "enabled": true },
        "policies": { "two.yml": "# :\n" },
    }))
    .await;
    let deployment = deployment(&rendered);
    let labels = deployment.spec.as_ref().unwrap().template.metadata.as_ref().unwrap().labels.clone().unwrap();
    assert_eq!((labels["azure.workload.identity/use"].as_str(), labels["team"].as_str()), ("true", "platform"));
    let pod = check_pods(&deployment);
    assert!(pod.containers[0].image.as_ref().unwrap().ends_with(&format!("/tagwarden@{digest}")));
    assert!(!rendered.keys().any(|name| name.starts_with("PersistentVolumeClaim")));
    let account: ServiceAccount = typed(&rendered["ServiceAccount nightly-tagwarden"]);
    assert_eq!(account.metadata.annotations.unwrap()["azure.workload.identity/client-id"], client);
    assert!(listed(&rendered).contains(&("argoproj.io".to_owned(), "rollouts".to_owned())));
    let policy: NetworkPolicy = typed(&rendered["NetworkPolicy nightly-tagwarden"]);
    assert!(policy.spec.unwrap().ingress.unwrap_or_default().is_empty());
    let map: ConfigMap = typed(&rendered["ConfigMap nightly-tagwarden-policies"]);
    assert_eq!(map.data.unwrap().len(), 2);
}

/// The example of replicas, and over it other values.
fn over_replicas(values: Value) -> Value {
    let mut all = documents(REPLICAS).remove(0);
    lay(values, &mut all);
    all
}

#[tokio::test]
async fn replicas_share_a_database_and_stand_apart() {
    let rendered = rendered(over_replicas(json!({ "networkPolicy": { "enabled": true } }))).await;
    assert!(!rendered.keys().any(|name| name.starts_with("PersistentVolumeClaim")));
    let deployment = deployment(&rendered);
    let spec = deployment.spec.unwrap();
    assert_eq!(spec.replicas, Some(2));
    // No replica ends before the one that follows it is ready, so one of them always leads.
    let strategy = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } });
    assert_eq!(serde_json::to_value(spec.strategy.as_ref().unwrap()).unwrap(), strategy);
    let pod = check_template(&spec);
    assert!(check_probes(&pod));
    assert!(pod.volumes.as_ref().unwrap().iter().all(|volume| volume.name != "state"));

    let affinity = pod.affinity.unwrap().pod_anti_affinity.unwrap();
    assert!(affinity.required_during_scheduling_ignored_during_execution.is_none(), "one node is enough for a start");
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.unwrap();
    let apart: Vec<(i32, &str)> =
        preferred.iter().map(|term| (term.weight, term.pod_affinity_term.topology_key.as_str())).collect();
    assert_eq!(apart, [(100, "kubernetes.io/hostname"), (50, "topology.kubernetes.io/zone")]);
    assert!(preferred.iter().all(|term| term.pod_affinity_term.label_selector.as_ref() == Some(&spec.selector)));
    let budget: PodDisruptionBudget = typed(&rendered["PodDisruptionBudget nightly-tagwarden"]);
    let budget = budget.spec.unwrap();
    assert_eq!((budget.min_available, budget.selector), (Some(IntOrString::Int(1)), Some(spec.selector)));
    let policy: NetworkPolicy = typed(&rendered["NetworkPolicy nightly-tagwarden"]);
    let ports = policy.spec.unwrap().egress.unwrap().remove(0).ports.unwrap();
    assert!(ports.iter().any(|port| port.port == Some(IntOrString::Int(5432))), "{ports:?}");

    // As the container sees it, with the secret in a folder of the test.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("database-password"), "from the secret").unwrap();
    std::fs::write(folder.path().join("database-ca.pem"), "-----BEGIN CERTIFICATE-----").unwrap();
    let map: ConfigMap = typed(&rendered["ConfigMap nightly-tagwarden"]);
    let file = folder.path().join("tagwarden.toml");
    std::fs::write(&file, &map.data.unwrap()["tagwarden.toml"]).unwrap();
    let secrets = format!("{}/", folder.path().display());
    let environment = pod.containers[0].env.clone().unwrap().into_iter();
    let environment = environment
        .map(|variable| (variable.name, variable.value.unwrap().replace("/run/secrets/tagwarden/", &secrets)))
        .collect::<Vec<_>>();
    for name in ["TAGWARDEN__POSTGRES__PASSWORD_FILE", "TAGWARDEN__POSTGRES__CA_FILE"] {
        assert!(environment.iter().any(|(found, value)| found == name && value.starts_with(&secrets)), "{name}");
    }
    let settings = config::load(&file, environment).unwrap();
    assert_eq!(settings.state.to_string(), "postgres://tagwarden@db.contoso.example/tagwarden");
    assert_eq!(settings.state.path(), None);
}

#[tokio::test]
async fn one_replica_with_a_database_needs_no_budget() {
    let url = "postgres://tagwarden@db.contoso.example:6432/tagwarden";
    let values =
        json!({ "state": { "postgres": { "url": url } }, "networkPolicy": { "enabled": true }, "tmpSizeLimit": "9Gi" });
    let rendered = rendered(values).await;
    let absent = ["PodDisruptionBudget", "PersistentVolumeClaim"];
    assert!(!rendered.keys().any(|name| absent.iter().any(|kind| name.starts_with(kind))));
    let deployment = deployment(&rendered);
    let spec = deployment.spec.unwrap();
    assert_eq!(spec.strategy.as_ref().unwrap().type_.as_deref(), Some("RollingUpdate"));
    let pod = check_template(&spec);
    assert!(pod.affinity.is_none());
    let temporary = pod.volumes.unwrap().into_iter().find(|volume| volume.name == "tmp").unwrap();
    assert_eq!(temporary.empty_dir.unwrap().size_limit.unwrap().0, "9Gi");
    let policy: NetworkPolicy = typed(&rendered["NetworkPolicy nightly-tagwarden"]);
    let ports = policy.spec.unwrap().egress.unwrap().remove(0).ports.unwrap();
    assert!(ports.iter().any(|port| port.port == Some(IntOrString::Int(6432))), "{ports:?}");

    // An affinity of your own replaces the default one.
    let own = json!({ "affinity": { "nodeAffinity": {} } });
    let rendered = self::rendered(over_replicas(own)).await;
    let pod = check_template(&self::deployment(&rendered).spec.unwrap());
    assert!(pod.affinity.unwrap().pod_anti_affinity.is_none());
}

/// Values that would make something else of it than was meant are refused, with their place.
#[tokio::test]
async fn values_that_cannot_be_meant_are_refused() {
    assert!(helm(&over_example(json!({}))).await["error"].is_null());
    for (values, told) in [
        (json!({}), "/image/repository"),
        (json!({}), "/settings"),
        (json!({}), "/policies"),
        (over_example(json!({ "image": { "digest": "sha256:1" } })), "/image/digest"),
        (over_example(json!({ "status": { "expose": true } })), "/existingSecret"),
        (over_example(json!({ "replicas": 2 })), "/state/postgres/url"),
        (over_example(over_replicas(json!({ "state": { "postgres": { "url": "" } } }))), "/state/postgres/url"),
        (over_example(json!({ "replicas": 0 })), "/replicas"),
        (over_example(over_replicas(json!({ "existingSecret": "" }))), "/existingSecret"),
        (over_example(json!({ "state": { "postgres": { "url": "mysql://db/tagwarden" } } })), "/state/postgres/url"),
        (over_example(json!({ "policies": { "notes.txt": "x" } })), "notes.txt"),
        (over_example(json!({ "workloadIdentity": { "clientId": "me" } })), "/workloadIdentity/clientId"),
    ] {
        let saw = helm(&values).await;
        assert!(saw["error"].as_str().unwrap_or_default().contains(told), "{values}: {saw}");
    }
    for url in ["postgres://tagwarden:hunter2@db/tagwarden", "postgres://db/tagwarden?user=tagwarden&password=hunter2"]
    {
        let saw = helm(&over_example(over_replicas(json!({ "state": { "postgres": { "url": url } } })))).await;
        let error = saw["error"].as_str().unwrap_or_default();
        assert!(error.contains("state.postgres.passwordKey") && !error.contains("hunter2"), "{saw}");
    }
}
