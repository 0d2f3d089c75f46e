//! An imitation of a Kubernetes API server on loopback: lists in pages, reviews, discovery, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tagwarden::sources::{Access, Helm, KubernetesSettings};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::azure::Tls;
use super::certificate::certified;

/// The recorded answers, by file name.
pub(crate) fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/kubernetes/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The resources that are built in: where they are listed, their kind, and the fixture.
pub(crate) const BUILT_IN: [(&str, &str, &str); 11] = [
    ("api/v1", "pods", "Pod"),
    ("api/v1", "replicationcontrollers", "ReplicationController"),
    ("api/v1", "podtemplates", "PodTemplate"),
    ("api/v1", "secrets", "Secret"),
    ("apis/apps/v1", "deployments", "Deployment"),
    ("apis/apps/v1", "replicasets", "ReplicaSet"),
    ("apis/apps/v1", "statefulsets", "StatefulSet"),
    ("apis/apps/v1", "daemonsets", "DaemonSet"),
    ("apis/apps/v1", "controllerrevisions", "ControllerRevision"),
    ("apis/batch/v1", "jobs", "Job"),
    ("apis/batch/v1", "cronjobs", "CronJob"),
];

/// Something that goes wrong.
#[derive(Clone)]
pub(crate) enum Fault {
    /// A status, with headers and a body.
    Status(u16, Vec<(&'static str, &'static str)>, String),
    /// The answer is cut in its middle.
    Cut,
    /// It takes so long.
    Slow(Duration),
}

/// One resource and its objects.
struct Resource {
    kind: String,
    namespaced: bool,
    objects: Vec<Value>,
}

/// What the server holds and how it behaves.
#[derive(Default)]
pub(crate) struct ClusterState {
    /// By group version and plural, such as `apis/apps/v1` and `deployments`.
    resources: BTreeMap<(String, String), Resource>,
    /// The token that is good; nothing where none is asked for.
    pub(crate) token: Option<String>,
    /// After so many more requests the token is this one.
    pub(crate) next_token: Option<(usize, String, Option<PathBuf>)>,
    /// Plurals that may not be listed, in a namespace (`shop/pods`) or anywhere (`pods`).
    pub(crate) denied: BTreeSet<String>,
    /// Whether reviews are refused, too.
    pub(crate) no_reviews: bool,
    /// Most objects of a page, whatever is asked for.
    pub(crate) most: Option<usize>,
    /// What happens to requests whose path and query hold a text, how often.
    pub(crate) faults: Vec<(&'static str, usize, Fault)>,
    /// After so many more requests every connection breaks.
    pub(crate) requests_left: Option<usize>,
    /// What arrived: method, path and query.
    pub(crate) asked: Vec<String>,
}

impl ClusterState {
    /// Puts objects into a resource.
    pub(crate) fn add(&mut self, root: &str, plural: &str, kind: &str, objects: Vec<Value>) {
        let key = (root.to_owned(), plural.to_owned());
        let empty = || Resource { kind: kind.into(), namespaced: true, objects: Vec::new() };
        self.resources.entry(key).or_insert_with(empty).objects.extend(objects);
    }

    /// The same for a kind without namespaces.
    pub(crate) fn add_cluster_wide(&mut self, root: &str, plural: &str, kind: &str, objects: Vec<Value>) {
        self.add(root, plural, kind, objects);
        self.resources.get_mut(&(root.to_owned(), plural.to_owned())).unwrap().namespaced = false;
    }

    /// Puts objects of built-in kinds, each by its own `kind`.
    pub(crate) fn put(&mut self, objects: Vec<Value>) {
        for object in objects {
            let kind = object["kind"].as_str().unwrap().to_owned();
            let (root, plural, _) = BUILT_IN.iter().find(|(_, _, known)| *known == kind).unwrap();
            self.add(root, plural, &kind, vec![object]);
        }
    }

    /// Takes a resource away.
    pub(crate) fn remove_resource(&mut self, root: &str, plural: &str) {
        self.resources.remove(&(root.to_owned(), plural.to_owned()));
    }

    pub(crate) fn fault(&mut self, path: &'static str, times: usize, fault: Fault) {
        self.faults.push((path, times, fault));
    }

    /// How many requests with that text arrived.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.asked.iter().filter(|asked| asked.contains(text)).count()
    }
}

/// A running server.
pub(crate) struct ApiServer {
    pub(crate) url: String,
    pub(crate) world: Arc<Mutex<ClusterState>>,
    pub(crate) folder: tempfile::TempDir,
}

impl ApiServer {
    /// One with the built-in resources and nothing in them.
    pub(crate) async fn start() -> Self {
        let mut world = ClusterState::default();
        for (root, plural, kind) in BUILT_IN {
            world.add(root, plural, kind, Vec::new());
        }
        let world = Arc::new(Mutex::new(world));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(world.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, world, folder: tempfile::tempdir().unwrap() }
    }

    /// The address of the same server over TLS, with the folder of a service account that trusts it.
    pub(crate) async fn as_in_a_pod(&self, token: &str) -> Access {
        let certified = certified();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificate = CertificateDer::from_pem_slice(certified.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("https://{}", listener.local_addr().unwrap());
        let listener = Tls { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
        let router = Router::new().fallback(answer).with_state(self.world.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = self.folder.path().join("serviceaccount");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("ca.crt"), &certified.authority).unwrap();
        std::fs::write(folder.join("token"), token).unwrap();
        Access::ServiceAccount { server: Some(server), folder }
    }

    /// One that holds what was recorded.
    pub(crate) async fn recorded() -> Self {
        let server = Self::start().await;
        for (root, plural, kind) in BUILT_IN {
            let file = if plural == "secrets" { "helm_secrets" } else { plural };
            let mut list: Value = serde_json::from_str(&fixture(file)).unwrap();
            let objects = list["items"].as_array_mut().unwrap().drain(..).collect();
            server.world.lock().unwrap().add(root, plural, kind, objects);
        }
        server
    }

    /// Writes a kubeconfig with that token, and settings that use it.
    pub(crate) fn settings(&self, token: &str) -> KubernetesSettings {
        let file = self.folder.path().join("kubeconfig");
        std::fs::write(self.token_file(), token).unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "prod",
            "clusters": [{ "name": "c", "cluster": { "server": self.url } }],
            "users": [{ "name": "u", "user": { "tokenFile": self.token_file() } }],
            "contexts": [{ "name": "prod", "context": { "cluster": "c", "user": "u" } }],
        });
        std::fs::write(&file, config.to_string()).unwrap();
        KubernetesSettings {
            cluster: "prod".into(),
            access: Access::Kubeconfig { files: vec![file], context: Some("prod".into()) },
            namespaces: Vec::new(),
            helm: Helm::IfAllowed,
            custom: Vec::new(),
            presets: Vec::new(),
            configmaps: false,
            timeout: Duration::from_secs(20),
        }
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }
}

async fn answer(State(world): State<Arc<Mutex<ClusterState>>>, request: Request) -> Response {
    let target = request.uri().path_and_query().unwrap().to_string();
    let token = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let method = request.method().to_string();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let fault = {
        let mut world = world.lock().unwrap();
        world.asked.push(format!("{method} {target}"));
        if let Some(left) = &mut world.requests_left {
            if *left == 0 {
                return cut();
            }
            *left -= 1;
        }
        world.rotate_token();
        let fault = world.faults.iter_mut().find(|(path, times, _)| *times > 0 && target.contains(path));
        fault.map(|(_, times, fault)| {
            *times -= 1;
            fault.clone()
        })
    };
    match fault {
        Some(Fault::Status(code, headers, body)) => {
            let mut response = Response::builder().status(code);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            return response.body(Body::from(body)).unwrap();
        }
        Some(Fault::Cut) => return cut(),
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        None => {}
    }
    let world = world.lock().unwrap();
    if world.token.as_ref().is_some_and(|good| token != Some(format!("Bearer {good}"))) {
        return status(401, fixture("error_401"));
    }
    world.respond(&target, &body)
}

/// The beginning of an answer.
fn cut() -> Response {
    let pieces = [Ok(r#"{"kind":"PodList","items":["#.to_owned()), Err(io::Error::other("gone"))];
    Response::new(Body::from_stream(futures::stream::iter(pieces)))
}

fn status(code: u16, body: String) -> Response {
    Response::builder().status(code).header("content-type", "application/json").body(Body::from(body)).unwrap()
}

impl ClusterState {
    fn rotate_token(&mut self) {
        match &mut self.next_token {
            Some((0, token, file)) => {
                if let Some(file) = file {
                    std::fs::write(file, &*token).unwrap();
                }
                self.token = Some(std::mem::take(token));
                self.next_token = None;
            }
            Some((left, ..)) => *left -= 1,
            None => {}
        }
    }

    fn is_allowed(&self, plural: &str, namespace: Option<&str>) -> bool {
        let there = namespace.map(|namespace| format!("{namespace}/{plural}"));
        !self.denied.contains(plural) && !there.is_some_and(|there| self.denied.contains(&there))
    }

    fn respond(&self, target: &str, body: &[u8]) -> Response {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = path.trim_start_matches('/');
        if path.ends_with("/selfsubjectaccessreviews") {
            if self.no_reviews {
                return status(403, fixture("error_403_list_replicasets"));
            }
            let review: Value = serde_json::from_slice(body).unwrap();
            let asked = &review["spec"]["resourceAttributes"];
            assert_eq!(asked["verb"], "list");
            let allowed = self.is_allowed(asked["resource"].as_str().unwrap(), asked["namespace"].as_str());
            let file = if allowed { "allowed" } else { "denied" };
            return status(201, fixture(&format!("selfsubjectaccessreview_{file}")));
        }
        if self.resources.keys().any(|(root, _)| root == path) {
            return status(200, self.discovery(path));
        }
        let Some((root, rest)) =
            self.resources.keys().find_map(|(root, _)| Some((root, path.strip_prefix(root)?.strip_prefix('/')?)))
        else {
            return status(404, "404 page not found".into());
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let (namespace, plural) = match parts[..] {
            [plural] => (None, plural),
            ["namespaces", namespace, plural] => (Some(namespace), plural),
            _ => return status(404, "404 page not found".into()),
        };
        let Some(resource) = self.resources.get(&(root.clone(), plural.to_owned())) else {
            return status(
                404,
                r#"{"kind":"Status","message":"the server could not find the requested resource"}"#.into(),
            );
        };
        if !self.is_allowed(plural, namespace) {
            return status(403, fixture("error_403_list_replicasets").replace("replicasets", plural));
        }
        self.list(resource, namespace, query)
    }

    fn discovery(&self, root: &str) -> String {
        let of = self.resources.iter().filter(|((group, _), _)| group == root);
        let resources: Vec<Value> = of
            .flat_map(|((_, plural), resource)| {
                let entry =
                    |name: String| json!({"name": name, "kind": resource.kind, "namespaced": resource.namespaced});
                [entry(format!("{plural}/status")), entry(plural.clone())]
            })
            .collect();
        json!({"kind": "APIResourceList", "resources": resources}).to_string()
    }

    /// A page; the token for the next one is its first position.
    fn list(&self, resource: &Resource, namespace: Option<&str>, query: &str) -> Response {
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(query.as_bytes()).map(|(key, value)| (key.into(), value.into())).collect();
        let helm = query.get("labelSelector").map(|label| label.split_once('=').unwrap());
        let matching: Vec<&Value> = resource
            .objects
            .iter()
            .filter(|object| namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace))
            .filter(|object| helm.is_none_or(|(label, value)| object["metadata"]["labels"][label] == value))
            .collect();
        let from: usize = match query.get("continue").map(|token| token.parse()) {
            Some(Ok(from)) => from,
            Some(Err(_)) => return status(400, fixture("error_400_bad_continue")),
            None => 0,
        };
        let limit: usize = query.get("limit").expect("lists are asked for in pages").parse().unwrap();
        let to = matching.len().min(from + limit.min(self.most.unwrap_or(limit)));
        let next = if to < matching.len() { to.to_string() } else { String::new() };
        let list = json!({
            "kind": format!("{}List", resource.kind), "apiVersion": "v1",
            "metadata": { "resourceVersion": "312", "continue": next },
            "items": matching[from..to],
        });
        status(200, list.to_string())
    }
}
