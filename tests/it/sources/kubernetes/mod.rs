//! What a Kubernetes cluster says, and what becomes of it when it says it badly.

mod custom_resources;
mod failures;
mod manifests;
mod presets;
mod scale;
mod texts;
mod verdicts;

use std::time::Duration;

use tagwarden::domain::{Claim, Holder};
use tagwarden::registry::RetryPolicy;
use tagwarden::sources::{
    Helm, Kubernetes, KubernetesSettings, Source as _, SourceError, SourceEvidence, TextSettings,
};

use super::now;
use crate::support::kubernetes::ApiServer;

/// Tries three times, without much ado.
fn patience() -> RetryPolicy {
    RetryPolicy {
        max_retries: 2,
        initial_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(5),
        max_total_delay: Duration::from_secs(20),
    }
}

fn source(settings: KubernetesSettings) -> Kubernetes {
    source_with(settings, TextSettings::default())
}

fn source_with(settings: KubernetesSettings, texts: TextSettings) -> Kubernetes {
    let hosts = ["contoso.azurecr.io", "images.contoso.example"].map(String::from).to_vec();
    Kubernetes::with_retry_policy(settings, hosts, texts, false, patience())
}

async fn ask(settings: KubernetesSettings) -> Result<SourceEvidence, SourceError> {
    source(settings).query(now()).await
}

/// Who claims what, sorted, with `~` for the registry and short digests.
fn shown(claims: &[Claim]) -> Vec<String> {
    let line = |claim: &Claim| {
        let Holder::Workload { place, namespace, kind, name, container } = &*claim.holder else {
            panic!("a cluster has workloads: {claim:?}")
        };
        assert_eq!(place, "prod");
        let mut image = claim.image.to_string().replace("contoso.azurecr.io/", "~/");
        if let Some(at) = image.find("sha256:") {
            image = format!("{}{}", &image[..at], &image[at + 7..at + 11]);
        }
        format!("{kind} {namespace}/{name} {container} {image}").replace("  ", " ")
    };
    let mut lines: Vec<String> = claims.iter().map(line).collect();
    lines.sort();
    lines
}

const RECORDED: &[&str] = &[
    // What is kept to go back to.
    "ControllerRevision shop/agent-bdd775f7c agent ~/platform/team/agent:v1.2.3",
    // Suspended.
    "CronJob routes/nightly main ~/routes/nightly:stable",
    "DaemonSet shop/agent agent ~/platform/team/agent:v1.3.0",
    // No replicas; its replica set says nothing more.
    "Deployment shop/asleep app ~/shop/returns:1.4.0",
    "Deployment shop/cart cart ~/shop/cart:release-2026-05-12",
    "Deployment shop/cart cart ~/shop/cart:release-2026-06-01",
    "Deployment shop/cart cart ~/shop/cart@0e88",
    "Deployment shop/cart cart ~/shop/cart@7eaf",
    "Deployment shop/cart debugger ~/tools/debug:2026.11",
    "Deployment shop/cart debugger ~/tools/debug@938b",
    // Under another repository's name.
    "Deployment shop/cart migrate ~/mirror/other@335b",
    "Deployment shop/cart migrate ~/shop/cart-migrations:2026.05.12",
    "Deployment shop/cart model ~/models/ranker:v3",
    // The digest of a configuration.
    "Deployment shop/cart proxy 5dce",
    "Deployment shop/cart proxy ~/infra/proxy@1111",
    "Helm release shop/pricing revision 1 pricing ~/shop/pricing:2.0.0",
    "Helm release shop/pricing revision 2 pricing ~/shop/pricing:2.0.1",
    "Helm release shop/pricing revision 3 pricing ~/shop/pricing:2.1.0",
    "Job routes/once main nginx:latest",
    "Job routes/once main nginx@5be1",
    "PodTemplate routes/tmpl t ~/routes/tmpl:1",
    "ReplicationController routes/legacy l ~/routes/legacy:0.9",
    "StatefulSet shop/db db ~/shop/db:15.2@2222",
    "StatefulSet shop/db db ~/shop/db:15.3",
    "StatefulSet shop/db db ~/shop/db@2763",
];

/// As the list above, in the order of lines.
fn recorded() -> Vec<String> {
    let mut lines: Vec<String> = RECORDED.iter().map(ToString::to_string).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_recorded_cluster_says_all_that_it_uses() {
    let server = ApiServer::recorded().await;
    let answer = ask(server.settings("")).await.unwrap();
    assert_eq!(shown(&answer.claims), recorded());
    assert_eq!(answer.notes, [""; 0]);
    let age = answer.as_of.map(|time| time.duration_since(jiff::Timestamp::UNIX_EPOCH));
    assert!(age.is_some(), "the server tells the time");
}

#[tokio::test]
async fn pages_are_read_to_the_end() {
    let server = ApiServer::recorded().await;
    server.world.lock().unwrap().most = Some(1);
    let answer = ask(server.settings("")).await.unwrap();
    assert_eq!(shown(&answer.claims), recorded());
    let world = server.world.lock().unwrap();
    assert_eq!(world.count("/api/v1/pods?"), 5);
    assert_eq!(world.count("GET"), world.count("limit="));
    assert_eq!(world.count("resourceVersion"), 0);
}

#[tokio::test]
async fn only_the_namespaces_that_are_named_are_read() {
    let server = ApiServer::recorded().await;
    let settings = KubernetesSettings { namespaces: vec!["routes".into()], ..server.settings("") };
    let answer = ask(settings.clone()).await.unwrap();
    let expected: Vec<String> = recorded().into_iter().filter(|line| line.contains(" routes/")).collect();
    assert_eq!(shown(&answer.claims), expected);
    assert_eq!(server.world.lock().unwrap().count("GET /api/v1/pods"), 0);

    let misspelt = KubernetesSettings { namespaces: vec!["rotues".into(), "shop".into()], ..settings };
    let error = ask(misspelt).await.unwrap_err();
    assert_eq!(error.kind, "empty");
    assert!(error.chain().contains("rotues") && !error.chain().contains("shop"), "{error}");
}

#[tokio::test]
async fn releases_of_helm_are_read_where_that_is_allowed() {
    let without: Vec<String> = recorded().into_iter().filter(|line| !line.starts_with("Helm")).collect();
    // How the right is missing, what is asked for, and what comes of it.
    for no_reviews in [false, true] {
        for (helm, expected) in
            [(Helm::Never, Ok("")), (Helm::IfAllowed, Ok("rbac-helm.yaml")), (Helm::Always, Err("secrets"))]
        {
            let server = ApiServer::recorded().await;
            server.world.lock().unwrap().denied.insert("secrets".into());
            server.world.lock().unwrap().no_reviews = no_reviews;
            let answer = ask(KubernetesSettings { helm, ..server.settings("") }).await;
            match (expected, answer) {
                (Ok(note), Ok(answer)) => {
                    assert_eq!(shown(&answer.claims), without);
                    assert_eq!(answer.notes.is_empty(), note.is_empty());
                    assert!(answer.notes.concat().contains(note));
                }
                (Err(what), Err(error)) => {
                    assert_eq!(error.kind, "denied");
                    assert!(error.chain().contains(what), "{error}");
                }
                (expected, answer) => panic!("{expected:?}: {answer:?}"),
            }
        }
    }
}
