//! Image ids of a cluster over Azure Container Registry, which lists manifests without their configurations: what is read
//! to tell which image runs, and what stays where that cannot be told.

use serde_json::{Value, json};
use tagwarden::demo::registry::{AcrOptions, Fault, FaultKind};
use tagwarden::workflow::DecisionInput;

use super::*;
use crate::support::kubernetes::{ApiServer, fixture};

/// The walk over Azure with a cluster as its source.
struct Cluster {
    walk: WorkflowFixture,
    server: ApiServer,
}

impl Cluster {
    async fn new() -> Self {
        Self::with(|options| options).await
    }

    async fn with(change: impl FnOnce(AcrOptions) -> AcrOptions) -> Self {
        let walk = WorkflowFixture::azure(change).await;
        let server = ApiServer::start().await;
        server.settings("");
        let kubeconfig = server.folder.path().join("kubeconfig");
        let source = format!(
            "[sources.aks]\nkind = \"kubernetes\"\nkubeconfig = \"{}\"\ncontext = \"prod\"\nallow_empty = true",
            kubeconfig.display()
        );
        walk.settings("enforce", "", &source);
        Self { walk, server }
    }

    fn put(&self, objects: Vec<Value>) {
        self.server.world.lock().unwrap().put(objects);
    }

    /// A pod whose container has that image and reports that id.
    fn runs(&self, name: &str, image: &str, id: &str) {
        let image = image.replace('~', self.walk.registry.host());
        self.put(vec![json!({
            "kind": "Pod", "metadata": { "namespace": "shop", "name": name },
            "spec": { "containers": [{ "name": "app", "image": image }] },
            "status": { "containerStatuses": [{ "name": "app", "image": image, "imageID": id }] },
        })]);
    }

    /// The number of manifests that were pulled.
    fn pulls(&self) -> usize {
        let requests = self.walk.registry.requests();
        requests.iter().filter(|request| request.path.contains("/manifests/")).count()
    }

    /// The explanation of a tag, as text.
    async fn explained(&self, tag: &str) -> String {
        let app = self.walk.open().await.unwrap();
        let named = app.find_tag_ref(&format!("main/shop/api:{tag}")).unwrap();
        let decision = app.decide_repository(&named.registry, &named.repository, None).await.unwrap();
        app.close().await;
        report::explanation(&decision.document, "main", "shop/api", tag).unwrap()
    }
}

/// The digest of an image's configuration.
fn config(image: &Image) -> String {
    let manifest: Value = serde_json::from_slice(&image.bytes).unwrap();
    manifest["config"]["digest"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_pods_of_kube_system_decide_nothing() {
    let cluster = Cluster::new().await;
    let mut list: Value = serde_json::from_str(&fixture("aks_kube_system_pods")).unwrap();
    let pods = list["items"].as_array_mut().unwrap().drain(..);
    cluster.put(
        pods.map(|mut pod| {
            pod["kind"] = "Pod".into();
            pod
        })
        .collect(),
    );
    cluster.runs("nginx", "docker.io/library/nginx:1.27", &Digest::of(b"nginx").to_string());
    let came = cluster.walk.run().await;
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
    // Only what is journaled for an undo was pulled.
    assert_eq!(cluster.pulls(), 4);
}

#[tokio::test]
async fn an_id_with_our_name_protects_what_has_that_configuration() {
    let cluster = Cluster::new().await;
    let running = config(&image("candidate-1", 99));
    cluster.runs("api", "~/shop/api:moved", &running);
    let plan = cluster.walk.plan().await;
    let kept = plan.kept.iter().find(|kept| kept.tag == "candidate-1").unwrap();
    assert_eq!(kept.verdict, "protected", "{kept:?}");
    assert_eq!(plan.removals.len(), 3);
    // Each once: the next plan has them from its cache.
    assert_eq!(cluster.pulls(), 4);
    cluster.walk.plan().await;
    assert_eq!(cluster.pulls(), 4);
    let text = cluster.explained("candidate-1").await;
    assert!(text.contains("by configuration digest: prod: shop/Pod/api, container app"), "{text}");
    assert_eq!(cluster.pulls(), 4);
    let came = cluster.walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()), (0, vec!["-", "done", "done", "done"]), "{}", came.text);
    // The plan of the next run does not list what is gone by now.
    let app = cluster.walk.open().await.unwrap();
    let came = StepResult::from_result(app.run(&()).await);
    app.close().await;
    cluster.walk.audit(None).await;
    assert_eq!((came.code, came.labels()), (0, vec!["-"; 4]), "{}", came.text);
    assert_eq!(cluster.walk.remaining_tags(), ["candidate-1"]);
}

#[tokio::test]
async fn any_platform_of_an_index_may_be_the_one_that_runs() {
    let cluster = Cluster::new().await;
    let multi = tagwarden::demo::image::multi_arch(noon(), |platform| {
        vec![Blob::layer(&format!("multi {}", platform.architecture), 300)]
    });
    cluster.walk.registry.content(|content| {
        content.put_image("shop/api", Some("candidate-0"), &multi);
        let then = content.now() - 2400.hours();
        assert!(content.date_tag("shop/api", "candidate-0", then, then));
    });
    cluster.walk.snapshot_tags();
    // For amd64, for arm64, and an attestation of each.
    let [_, arm, attestations @ ..] = &multi.children[..] else { panic!("{multi:?}") };
    cluster.runs("api", &format!("~/shop/api@{}", Digest::of(b"another")), &config(arm));
    let came = cluster.walk.run().await;
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
    assert!(cluster.walk.registry.tags("shop/api").contains_key("candidate-0"));
    // The index, its two platforms and four other images; not the attestations in it.
    for child in attestations {
        let path = format!("/manifests/{}", child.digest);
        assert!(!cluster.walk.registry.requests().iter().any(|request| request.path.contains(&path)));
    }
}

#[tokio::test]
async fn what_cannot_be_read_stays_and_says_for_whom() {
    let cluster = Cluster::new().await;
    let unread = cluster.walk.digest("shop/api", "candidate-2");
    cluster.runs("api", "~/shop/api:moved", &Digest::of(b"nobody's").to_string());
    cluster.walk.registry.inject(Fault {
        method: None,
        path_contains: format!("/manifests/{unread}"),
        after: 0,
        times: 1000,
        kind: FaultKind::Status { status: 500, headers: Vec::new(), body: String::new() },
    });
    let came = cluster.walk.run().await;
    assert_eq!((came.code, came.labels()), (5, vec!["done", "-", "done", "done"]), "{}", came.text);
    let document = came.result.unwrap().document;
    let kept = document.kept.iter().find(|kept| kept.tag == "candidate-2").unwrap();
    assert_eq!(kept.verdict, "undecided", "{kept:?}");
    for format in [Format::Text, Format::Json, Format::Markdown, Format::Html] {
        let text = report::render(&document, format);
        let named = if format == Format::Json { r#""api""# } else { "api, container app" };
        assert!(text.contains(named), "{format:?} does not name the pod: {text}");
    }
    let text = cluster.explained("candidate-2").await;
    assert!(text.contains("shop/Pod/api, container app") && text.contains("was not read"), "{text}");
}

#[tokio::test]
async fn more_images_than_a_run_may_read_stay_until_the_next() {
    let cluster = Cluster::new().await;
    for number in 0..997 {
        cluster.walk.registry.content(|content| {
            let tag = format!("candidate-x{number}");
            content.put_image("shop/api", Some(&tag), &image(&tag, 200));
            let then = content.now() - (24 * 200).hours();
            assert!(content.date_tag("shop/api", &tag, then, then));
        });
    }
    cluster.walk.snapshot_tags();
    // Besides the repository with 1,001 expiring images a small one, which is decided.
    cluster.walk.registry.content(|content| {
        for (tag, days) in [("candidate-1", 90), ("candidate-2", 80), ("candidate-3", 70)] {
            content.put_image("shop/web", Some(tag), &image(&format!("web {tag}"), days));
            let then = content.now() - (24 * days).hours();
            assert!(content.date_tag("shop/web", tag, then, then));
        }
    });
    cluster.walk.snapshot_tags();
    let nobodys = Digest::of(b"nobody's").to_string();
    cluster.runs("api", "~/shop/api:moved", &nobodys);
    cluster.runs("web", "~/shop/web:moved", &nobodys);
    let plan = cluster.walk.plan().await;
    assert_eq!(cluster.pulls(), 1_000);
    assert_eq!((plan.removals.len(), plan.summary.undecided), (1, 1_001), "{:?}", plan.summary);
    let kept = plan.kept.iter().find(|kept| kept.tag == "candidate-x7").unwrap();
    assert!(format!("{kept:?}").contains("\"api\""), "{kept:?}");
    // What was read is known, so the next run has few left to read.
    let plan = cluster.walk.plan().await;
    assert_eq!((plan.removals.len(), plan.summary.undecided), (1_002, 0), "{:?}", plan.summary);
    assert_eq!(cluster.pulls(), 1_002);
}

#[tokio::test]
async fn recorded_facts_know_what_was_read() {
    let cluster = Cluster::new().await;
    cluster.runs("api", "~/shop/api:moved", &config(&image("candidate-1", 99)));
    cluster.runs("open", "~/shop/other:${TAG}", "");
    let app = cluster.walk.open().await.unwrap();
    let facts = app.read_decision_input(None, &[], &()).await.unwrap();
    let policies = app.policies.policies.clone();
    app.close().await;
    let again = DecisionInput::from_json(&facts.to_json().unwrap()).unwrap();
    assert_eq!(again.claims.sources[0].claims(), facts.claims.sources[0].claims());
    assert_eq!(again.claims.sources[0].unresolved(), facts.claims.sources[0].unresolved());
    assert_eq!(again.claims.sources[0].unresolved().len(), 1);
    let now = format!("{:?}", facts.diff(policies.clone(), policies.clone(), None));
    assert_eq!(
        format!("{:?}", DecisionInput { from_file: false, ..again }.diff(policies.clone(), policies, None)),
        now
    );
}

#[tokio::test]
async fn texts_that_are_no_reference_do_not_stop_a_cluster() {
    let cluster = Cluster::new().await;
    cluster.runs("app", "MyApp:latest", "");
    cluster.runs("open", "~/shop/web:${TAG}", "");
    cluster.walk.registry.content(|content| {
        for (tag, days) in [("candidate-1", 90), ("candidate-2", 80), ("candidate-3", 70)] {
            content.put_image("shop/web", Some(tag), &image(&format!("web {tag}"), days));
            let then = content.now() - (24 * days).hours();
            assert!(content.date_tag("shop/web", tag, then, then));
        }
    });
    cluster.walk.snapshot_tags();
    let came = cluster.walk.run().await;
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
    assert_eq!(cluster.walk.registry.tags("shop/web").len(), 3);
    let document = came.result.unwrap().document;
    let notes = document.sources[0].notes.join("\n");
    assert!(notes.contains("Pod shop/app, app: `MyApp:latest`") && notes.contains("Pod shop/open, app"), "{notes}");
    let kept = document.kept.iter().find(|kept| kept.repository == "shop/web" && kept.tag == "candidate-1").unwrap();
    assert_eq!(kept.verdict, "undecided");
    let text = report::render(&document, Format::Text);
    assert!(text.contains("shop/Pod/open, container app"), "{text}");
}

#[tokio::test]
async fn a_tag_is_named_by_any_name_of_its_registry() {
    let walk = WorkflowFixture::new().await;
    walk.settings("approved", "aliases = [\"contoso.azurecr.io\", \"harbor.contoso.example/acr-proxy\"]", "");
    let app = walk.open().await.unwrap();
    let host = walk.registry.host();
    for (text, expected) in [
        (format!("{host}/shop/api:v1"), Some("main shop/api")),
        ("main/shop/api:v1".to_owned(), Some("main shop/api")),
        ("shop/api:v1".to_owned(), Some("main shop/api")),
        ("harbor.contoso.example/acr-proxy/shop/api:v1".to_owned(), Some("main shop/api")),
        ("contoso.eastus2.geo.azurecr.io/shop/api:v1".to_owned(), Some("main shop/api")),
        ("harbor.contoso.example/shop/api:v1".to_owned(), None),
        ("contosodev.azurecr.io/shop/api:v1".to_owned(), None),
    ] {
        let named = app.find_image(&text).ok().map(|(registry, repository, _)| format!("{registry} {repository}"));
        assert_eq!(named.as_deref(), expected, "{text}");
    }
    app.close().await;
}
