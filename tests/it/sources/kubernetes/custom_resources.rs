//! Custom resources by field paths.

use serde_json::{Value, json};
use tagwarden::sources::{CustomResource, KubernetesSettings, SourceError, SourceEvidence};

use super::{ask, shown};
use crate::support::kubernetes::ApiServer;

fn wanted(group: &str, version: &str, kind: &str, paths: &[&str]) -> CustomResource {
    CustomResource {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        paths: paths.iter().map(|path| path.parse().unwrap()).collect(),
        optional: false,
    }
}

async fn server() -> ApiServer {
    let server = ApiServer::start().await;
    let meta = |name: &str| json!({"namespace": "shop", "name": name});
    let pod = |image: &str| json!({"containers": [{"name": "app", "image": image}], "initContainers": [{"name": "up", "image": format!("{image}-up")}]});
    let mut world = server.world.lock().unwrap();
    let rollout = json!({"metadata": meta("api"), "spec": {"replicas": 0, "template": {"spec": pod("contoso.azurecr.io/api:1")}}});
    world.add("apis/argoproj.io/v1alpha1", "rollouts", "Rollout", vec![rollout]);
    let revision = json!({"metadata": meta("web-1"), "spec": pod("contoso.azurecr.io/web:1")});
    world.add("apis/serving.knative.dev/v1", "revisions", "Revision", vec![revision]);
    let scaled = json!({"metadata": meta("work"), "spec": {"jobTargetRef": {"template": {"spec": pod("contoso.azurecr.io/work:1")}}}});
    world.add("apis/keda.sh/v1alpha1", "scaledjobs", "ScaledJob", vec![scaled]);
    let tool = json!({"metadata": {"name": "tool"}, "spec": {"images": ["contoso.azurecr.io/tool:1", "contoso.azurecr.io/tool:2"], "size": 3}});
    world.add_cluster_wide("apis/tools.example/v1", "tools", "Tool", vec![tool]);
    drop(world);
    server
}

async fn query(server: &ApiServer, custom: Vec<CustomResource>) -> Result<SourceEvidence, SourceError> {
    let namespaces: Vec<String> = Vec::new();
    ask(KubernetesSettings { custom, namespaces, ..server.settings("") }).await
}

#[tokio::test]
async fn custom_resources_are_read_at_the_paths_that_are_named() {
    let server = server().await;
    let custom = vec![
        wanted("argoproj.io", "v1alpha1", "Rollout", &["spec.template"]),
        wanted("serving.knative.dev", "v1", "Revision", &["spec"]),
        wanted("keda.sh", "v1alpha1", "ScaledJob", &["spec.jobTargetRef.template.spec.containers[*].image"]),
        wanted("tools.example", "v1", "Tool", &["spec.images[*]", "spec.none"]),
    ];
    let expected = [
        "Revision shop/web-1 app ~/web:1",
        "Revision shop/web-1 up ~/web:1-up",
        "Rollout shop/api app ~/api:1",
        "Rollout shop/api up ~/api:1-up",
        // At no path that is named, but in a pod template.
        "ScaledJob shop/work up ~/work:1-up",
        "ScaledJob shop/work ~/work:1",
        "Tool /tool ~/tool:1",
        "Tool /tool ~/tool:2",
    ];
    assert_eq!(shown(&query(&server, custom.clone()).await.unwrap().claims), expected);
    // A kind without namespaces is read whole where namespaces are named, too.
    let settings = KubernetesSettings { custom, namespaces: vec!["shop".into()], ..server.settings("") };
    assert_eq!(shown(&ask(settings).await.unwrap().claims), expected);
    assert_eq!(server.world.lock().unwrap().count("/apis/tools.example/v1/namespaces"), 0);
}

#[tokio::test]
async fn a_kind_that_is_not_there_or_a_path_that_leads_nowhere_fails() {
    let server = server().await;
    let nowhere = wanted("argoproj.io", "v1alpha1", "Rollout", &["spec.templat"]);
    let number = wanted("tools.example", "v1", "Tool", &["spec.size"]);
    for (custom, kind, says) in [
        (wanted("argoproj.io", "v1alpha1", "Rolout", &["spec"]), "unknown-kind", "it has Rollout"),
        (wanted("argoproj.io", "v1", "Rollout", &["spec"]), "unknown-kind", "`optional = true`"),
        (nowhere, "empty", "spec.templat"),
        (number, "malformed", "`spec.size` is `3`"),
    ] {
        let error = query(&server, vec![custom]).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.chain().contains(says), "{error}");
    }
    let optional = CustomResource { optional: true, ..wanted("none.example", "v1", "None", &["spec"]) };
    let rollout = wanted("argoproj.io", "v1alpha1", "Rollout", &["spec.template"]);
    let answer = query(&server, vec![optional, rollout.clone()]).await.unwrap();
    assert_eq!(answer.notes, ["this cluster has no None in none.example"]);
    assert_eq!(answer.claims.len(), 2);

    server.world.lock().unwrap().denied.insert("rollouts".into());
    let error = query(&server, vec![rollout]).await.unwrap_err();
    assert_eq!(error.kind, "denied");
    assert!(error.chain().contains("list rollouts.argoproj.io in all namespaces"), "{error}");
}

#[tokio::test]
async fn pods_are_known_by_the_last_of_their_controllers() {
    let server = server().await;
    let owned = |kind: &str, name: &str, by: (&str, &str), image: &str| -> Value {
        let spec = json!({"containers": [{"name": "app", "image": image}]});
        let spec = if kind == "Pod" { spec } else { json!({"template": {"spec": spec}}) };
        let owner = json!({"apiVersion": "x/v1", "kind": by.0, "name": by.1, "controller": true});
        json!({"kind": kind, "metadata": {"namespace": "shop", "name": name, "ownerReferences": [owner]}, "spec": spec})
    };
    server.world.lock().unwrap().put(vec![
        owned("ReplicaSet", "api-1", ("Rollout", "api"), "contoso.azurecr.io/api:1"),
        owned("ReplicaSet", "api-0", ("Rollout", "api"), "contoso.azurecr.io/api:0"),
        owned("Pod", "api-1-x", ("ReplicaSet", "api-1"), "contoso.azurecr.io/api:1"),
        owned("Pod", "kube-proxy-node1", ("Node", "node1"), "contoso.azurecr.io/proxy:1"),
        owned("Pod", "a", ("Pod", "b"), "contoso.azurecr.io/a:1"),
        owned("Pod", "b", ("Pod", "a"), "contoso.azurecr.io/b:1"),
    ]);
    let answer = query(&server, Vec::new()).await.unwrap();
    let shown = shown(&answer.claims);
    for line in
        ["Pod shop/kube-proxy-node1 app ~/proxy:1", "ReplicaSet shop/api-0 app ~/api:0", "Rollout shop/api app ~/api:1"]
    {
        assert!(shown.contains(&line.to_owned()), "{line}: {shown:#?}");
    }
    assert_eq!(shown.len(), 5, "{shown:#?}");
}
