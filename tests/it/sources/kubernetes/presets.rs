//! Custom resources that are known by their project, and those whose images stand in parts.

use serde_json::{Value, json};
use tagwarden::sources::{CustomResource, KubernetesSettings, Preset, TextException, TextSettings, UnresolvedEffect};

use super::texts::effect;
use super::{ask, shown};
use crate::support::kubernetes::ApiServer;

const WORKER: &str = "contoso.azurecr.io/shop/worker";

/// A kind of a preset: its root, plural and kind, and an object of it.
type Kind = (Preset, &'static str, &'static str, &'static str, Value);

fn pod(image: &str) -> Value {
    json!({"spec": {"containers": [{"name": "app", "image": image}]}})
}

async fn with(kinds: Vec<Kind>) -> (ApiServer, KubernetesSettings) {
    let server = ApiServer::start().await;
    let mut presets: Vec<Preset> = Vec::new();
    for (preset, root, plural, kind, mut object) in kinds {
        object["metadata"] = json!({"namespace": "shop", "name": "it"});
        server.world.lock().unwrap().add(root, plural, kind, vec![object]);
        presets.push(preset);
    }
    let settings = KubernetesSettings { presets, ..server.settings("") };
    (server, settings)
}

#[tokio::test]
async fn kinds_of_presets_say_what_they_would_start() {
    let v7 = format!("{WORKER}:v7");
    let argo = "apis/argoproj.io/v1alpha1";
    let flux = "apis/image.toolkit.fluxcd.io/v1";
    let cases: Vec<Kind> = vec![
        (Preset::ArgoCd, argo, "applications", "Application", json!({"status": {"summary": {"images": [v7]}}})),
        (
            Preset::ArgoCd,
            argo,
            "applications",
            "Application",
            json!({"spec": {"source": {"repoURL": "contoso.azurecr.io/shop", "chart": "worker", "targetRevision": "v7"}}}),
        ),
        (Preset::ArgoRollouts, argo, "rollouts", "Rollout", json!({"spec": {"template": pod(&v7)}})),
        (
            Preset::ArgoWorkflows,
            argo,
            "workflowtemplates",
            "WorkflowTemplate",
            json!({"spec": {"templates": [{"name": "main", "script": {"image": v7, "source": "true"}}]}}),
        ),
        (
            Preset::Flux,
            flux,
            "imagepolicies",
            "ImagePolicy",
            json!({"status": {"latestRef": {"name": WORKER, "tag": "v7"}}}),
        ),
        (
            Preset::Flux,
            "apis/image.toolkit.fluxcd.io/v1beta2",
            "imagepolicies",
            "ImagePolicy",
            json!({"status": {"latestImage": v7}}),
        ),
        (
            Preset::Flux,
            "apis/kustomize.toolkit.fluxcd.io/v1",
            "kustomizations",
            "Kustomization",
            json!({"spec": {"images": [{"name": WORKER, "newTag": "v7"}]}}),
        ),
        (
            Preset::Flux,
            "apis/source.toolkit.fluxcd.io/v1",
            "ocirepositories",
            "OCIRepository",
            json!({"spec": {"url": format!("oci://{WORKER}"), "ref": {"tag": "v7"}}}),
        ),
        (
            Preset::Flux,
            "apis/helm.toolkit.fluxcd.io/v2",
            "helmreleases",
            "HelmRelease",
            json!({"spec": {"values": {"image": {"repository": WORKER, "tag": "v7"}}}}),
        ),
        (
            Preset::Tekton,
            "apis/tekton.dev/v1",
            "tasks",
            "Task",
            json!({"spec": {"steps": [{"name": "a", "image": v7}]}}),
        ),
        (Preset::Knative, "apis/serving.knative.dev/v1", "revisions", "Revision", pod(&v7)),
        (
            Preset::Keda,
            "apis/keda.sh/v1alpha1",
            "scaledjobs",
            "ScaledJob",
            json!({"spec": {"jobTargetRef": {"template": pod(&v7)}}}),
        ),
        (
            Preset::OpenShift,
            "apis/image.openshift.io/v1",
            "imagestreams",
            "ImageStream",
            json!({"status": {"tags": [{"tag": "live", "items": [{"dockerImageReference": v7}]}]}}),
        ),
    ];
    for case in cases {
        let name = format!("{} {} {}", case.3, case.1, case.4);
        let (_server, settings) = with(vec![case]).await;
        let (found, notes) = effect(settings, TextSettings::default()).await;
        assert_eq!(found, "worker:v7 claimed", "{name}: {notes:?}");
        assert_eq!(notes, [""; 0], "{name}");
    }
}

#[tokio::test]
async fn placeholders_leave_open_what_they_stand_for() {
    let argo = "apis/argoproj.io/v1alpha1";
    let open = format!("{WORKER}:{{{{inputs.parameters.tag}}}}");
    let cases: Vec<Kind> = vec![
        (
            Preset::ArgoWorkflows,
            argo,
            "workflowtemplates",
            "WorkflowTemplate",
            json!({"spec": {"templates": [{"name": "main", "container": {"name": "", "image": open}}]}}),
        ),
        (
            Preset::ArgoCd,
            argo,
            "applicationsets",
            "ApplicationSet",
            json!({"spec": {"template": {"spec": {"source": {"helm": {"parameters": [{"name": "image", "value": open}]}}}}}}),
        ),
        (
            Preset::Tekton,
            "apis/tekton.dev/v1beta1",
            "tasks",
            "Task",
            json!({"spec": {"steps": [{"name": "run", "image": format!("{WORKER}:$(params.tag)")}]}}),
        ),
    ];
    for case in cases {
        let kind = case.3;
        let (_server, settings) = with(vec![case]).await;
        assert_eq!(effect(settings.clone(), TextSettings::default()).await.0, "worker/*", "{kind}");
        let exception = TextException {
            paths: None,
            kinds: vec![kind.to_owned()],
            mentions: None,
            unresolved: Some(UnresolvedEffect::Note),
        };
        let texts = TextSettings { exceptions: vec![exception], ..TextSettings::default() };
        let (found, notes) = effect(settings, texts).await;
        assert_eq!(found, "", "{kind}");
        assert!(notes.concat().contains(&format!("{kind} shop/it")), "{kind}: {notes:?}");
    }
}

#[tokio::test]
async fn a_cluster_may_lack_kinds_of_a_preset() {
    let rollout = json!({"spec": {"template": pod("contoso.azurecr.io/api:1")}});
    let (server, settings) =
        with(vec![(Preset::ArgoRollouts, "apis/argoproj.io/v1alpha1", "rollouts", "Rollout", rollout)]).await;
    let settings = KubernetesSettings { presets: vec![Preset::ArgoRollouts, Preset::Keda], ..settings };
    let answer = ask(settings.clone()).await.unwrap();
    assert_eq!(shown(&answer.claims), ["Rollout shop/it app ~/api:1"]);
    assert_eq!(answer.notes, ["this cluster has no kind of the preset `keda`"]);
    // What it has must be readable.
    server.world.lock().unwrap().denied.insert("rollouts".into());
    let error = ask(settings).await.unwrap_err();
    assert_eq!(error.kind, "denied");
    assert!(error.chain().contains("rollouts.argoproj.io") && error.chain().contains("rbac-presets.yaml"), "{error}");
}

#[tokio::test]
async fn an_object_at_a_path_says_an_image_in_parts() {
    let tool =
        |name: &str, image: Value| json!({"metadata": {"namespace": "shop", "name": name}, "spec": {"image": image}});
    let server = ApiServer::start().await;
    server.world.lock().unwrap().add(
        "apis/tools.example/v1",
        "tools",
        "Tool",
        vec![
            tool("whole", json!("contoso.azurecr.io/shop/api:v1")),
            tool("parts", json!({"registry": "contoso.azurecr.io", "repository": "shop/worker", "tag": "v7"})),
            tool("hostless", json!({"repository": "shop/worker", "tag": "v3", "pullPolicy": "Always"})),
            tool("nothing", json!({"pullPolicy": "Always"})),
            tool("open", json!({"repository": "contoso.azurecr.io/shop/other", "tag": "$(TAG)"})),
        ],
    );
    let custom = vec![CustomResource {
        group: "tools.example".into(),
        version: "v1".into(),
        kind: "Tool".into(),
        paths: vec!["spec.image".parse().unwrap()],
        optional: false,
    }];
    let settings = KubernetesSettings { custom, ..server.settings("") };
    let answer = ask(settings.clone()).await.unwrap();
    let claimed = shown(&answer.claims);
    for line in
        ["Tool shop/whole ~/shop/api:v1", "Tool shop/parts ~/shop/worker:v7", "Tool shop/hostless shop/worker:v3"]
    {
        assert!(claimed.contains(&line.to_owned()), "{line}: {claimed:?}");
    }
    let open: Vec<_> = answer.unresolved.iter().map(|open| open.path.parts().collect::<Vec<_>>().join("*")).collect();
    assert!(!open.is_empty() && open.iter().all(|path| path == "shop/other"), "{open:?}");
    let nameless = answer.notes.iter().filter(|note| note.contains("names no image"));
    assert_eq!(
        nameless.collect::<Vec<_>>(),
        ["Tool shop/nothing: `spec.image` leads to an object that names no image"]
    );
    let (found, _) = effect(settings, TextSettings::default()).await;
    assert_eq!(found, "api:v1 claimed, worker:v3 claimed, worker:v7 claimed");
}
