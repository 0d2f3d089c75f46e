//! Lists of resources: selection, permission checks, and paging.

use std::collections::HashSet;

use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use url::form_urlencoded;

use super::super::SourceError;
use super::claims::ClusterEvidence;
use super::client::{ApiError, Cluster};
use super::objects::{RevisionState, WirePage};

/// A resource that this source lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resource {
    /// The API group; empty for the core.
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) kind: String,
    pub(super) namespaced: bool,
}

/// Group, version, plural and kind of every built-in resource with images in it, with `Historic` for those stored for
/// rollbacks.
pub(super) const WORKLOADS: [(&str, &str, &str, &str, RevisionState); 10] = [
    ("", "v1", "pods", "Pod", RevisionState::Current),
    ("", "v1", "replicationcontrollers", "ReplicationController", RevisionState::Current),
    ("", "v1", "podtemplates", "PodTemplate", RevisionState::Current),
    ("apps", "v1", "deployments", "Deployment", RevisionState::Current),
    ("apps", "v1", "replicasets", "ReplicaSet", RevisionState::Historic),
    ("apps", "v1", "statefulsets", "StatefulSet", RevisionState::Current),
    ("apps", "v1", "daemonsets", "DaemonSet", RevisionState::Current),
    ("apps", "v1", "controllerrevisions", "ControllerRevision", RevisionState::Historic),
    ("batch", "v1", "jobs", "Job", RevisionState::Historic),
    ("batch", "v1", "cronjobs", "CronJob", RevisionState::Current),
];

/// Returns the secrets with Helm's releases.
pub(super) fn secrets() -> Resource {
    Resource::of("", "v1", "secrets", "Secret")
}

/// Returns the maps with settings of programs.
pub(super) fn config_maps() -> Resource {
    Resource::of("", "v1", "configmaps", "ConfigMap")
}

impl Resource {
    pub(super) fn of(group: &str, version: &str, plural: &str, kind: &str) -> Self {
        let [group, version, plural, kind] = [group, version, plural, kind].map(str::to_owned);
        Self { group, version, plural, kind, namespaced: true }
    }

    /// Returns the path of its list.
    fn path(&self, namespace: Option<&str>) -> String {
        let root = api_root(&self.group, &self.version);
        let namespace = namespace.filter(|_| self.namespaced);
        let namespace = namespace.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
        format!("{root}{namespace}/{}", self.plural)
    }

    /// Returns its name with its group, as rules of roles and `kubectl` write it.
    fn display_name(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
}

/// Returns the path of one version of an API group.
pub(super) fn api_root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// The answer of a review.
#[derive(Deserialize)]
struct WireReview {
    status: Option<WireReviewStatus>,
}

#[derive(Deserialize)]
struct WireReviewStatus {
    allowed: bool,
}

/// Returns the missing right to list a resource, in words; `None` if it may be listed, or if reviews are not available:
/// then the list itself is refused.
pub(super) async fn missing_right(
    cluster: &Cluster,
    resource: &Resource,
    namespace: Option<&str>,
) -> Result<Option<String>, SourceError> {
    let mut attributes = json!({ "verb": "list", "group": resource.group, "resource": resource.plural });
    let namespace = namespace.filter(|_| resource.namespaced);
    if let Some(namespace) = namespace {
        attributes["namespace"] = namespace.into();
    }
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": attributes },
    });
    let evidence: WireReview = match cluster.review(&review.to_string()).await {
        Ok(evidence) => evidence,
        Err(ApiError { status: Some(StatusCode::FORBIDDEN | StatusCode::NOT_FOUND), .. }) => return Ok(None),
        Err(refusal) => return Err(refusal.error),
    };
    if evidence.status.is_some_and(|status| status.allowed) {
        return Ok(None);
    }
    let place = namespace.map_or("all namespaces".to_owned(), |namespace| format!("namespace {namespace}"));
    Ok(Some(format!("list {} in {place}", resource.display_name())))
}

/// Most restarts of a list that the server has expired.
const MOST_RESTARTS: usize = 3;

/// The parameters of a list.
pub(super) struct Query<'a> {
    pub(super) resource: &'a Resource,
    pub(super) namespace: Option<&'a str>,
    /// Objects on a page.
    pub(super) page: usize,
    /// A label selector; empty for all.
    pub(super) labels: &'static str,
}

/// Reads a list to its end. If the server has expired it, the list is restarted and earlier pages are dropped. A
/// partial list is never returned.
pub(super) async fn list<T: DeserializeOwned>(
    cluster: &Cluster,
    query: &Query<'_>,
    mut note: impl FnMut(T, &mut ClusterEvidence),
) -> Result<ClusterEvidence, ApiError> {
    let path = query.resource.path(query.namespace);
    let mut restarts = 0;
    'anew: loop {
        let mut found = ClusterEvidence::default();
        let mut next: Option<String> = None;
        let mut seen = HashSet::new();
        loop {
            let page: WirePage<T> = match cluster.get(&page_path(&path, query, next.as_deref())).await {
                Ok(page) => page,
                Err(refusal) if next.is_some() && refusal.status == Some(StatusCode::GONE) => {
                    restarts += 1;
                    if restarts > MOST_RESTARTS {
                        return Err(refusal);
                    }
                    tracing::debug!(list = path, "the server no longer keeps it; beginning anew");
                    continue 'anew;
                }
                Err(refusal) => return Err(refusal),
            };
            if !page.kind.ends_with("List") {
                return Err(malformed(&path, &format!("it is a `{}`, not a list", page.kind)));
            }
            page.items.into_iter().flatten().for_each(|item| note(item, &mut found));
            next = page.metadata.next.filter(|next| !next.is_empty());
            match &next {
                None => return Ok(found),
                Some(token) if !seen.insert(token.clone()) => {
                    return Err(malformed(&path, "its pages lead in a circle"));
                }
                Some(_) => {}
            }
        }
    }
}

fn malformed(path: &str, what: &str) -> ApiError {
    let message = format!("GET {path} was answered with what cannot be understood: {what}");
    ApiError { status: Some(StatusCode::OK), error: SourceError::new("malformed", message) }
}

/// Returns the path of a page, without a `resourceVersion`: with one, a server may ignore the limit, or answer from a
/// stale cache.
fn page_path(path: &str, query: &Query<'_>, next: Option<&str>) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    text.append_pair("limit", &query.page.to_string());
    if !query.labels.is_empty() {
        text.append_pair("labelSelector", query.labels);
    }
    if let Some(next) = next {
        text.append_pair("continue", next);
    }
    format!("{path}?{}", text.finish())
}
