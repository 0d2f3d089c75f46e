//! Custom resources: which, and where in them images stand.

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::super::{FieldPath, SourceError, told};
use super::client::{Cluster, Refusal};
use super::images::pod_images;
use super::list::{Resource, root};
use super::objects::{Reading, WireMeta};

/// A kind of custom resource with images in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomResource {
    /// Its API group, such as `argoproj.io`.
    pub group: String,
    /// Its version, such as `v1alpha1`.
    pub version: String,
    /// Its kind, such as `Rollout`.
    pub kind: String,
    /// Where images stand in it.
    pub paths: Vec<FieldPath>,
    /// Whether a cluster may do without this kind.
    pub optional: bool,
}

/// One object with all its fields.
#[derive(Deserialize)]
pub(super) struct WireAny {
    pub(super) metadata: WireMeta,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

impl WireAny {
    /// Notes the images at those paths, and gives how many texts were found there. A path leads to references,
    /// or to something with pod specifications in it.
    pub(super) fn note(self, paths: &[FieldPath], reading: &mut Reading<'_>) -> usize {
        let whole = Value::Object(self.rest);
        let mut count = 0;
        for path in paths {
            for value in path.find_json(&whole) {
                match value {
                    Value::Null => {}
                    Value::String(text) => {
                        count += 1;
                        reading.written("", text);
                    }
                    Value::Array(_) | Value::Object(_) => {
                        pod_images(value, &mut |container, image| {
                            count += 1;
                            reading.written(container, image);
                        });
                    }
                    Value::Bool(_) | Value::Number(_) => {
                        let what = format!("`{path}` is `{value}`, which is no image; correct `paths`");
                        reading.note("", super::images::Seen::Problem(what));
                    }
                }
            }
        }
        count
    }
}

/// The resources of one version of a group.
#[derive(Deserialize)]
struct WireResources {
    resources: Vec<WireResource>,
}

#[derive(Deserialize)]
struct WireResource {
    name: String,
    kind: String,
    namespaced: bool,
}

/// The resource of a kind, as the cluster says; nothing where it has none and may do without.
pub(super) async fn discover(cluster: &Cluster, custom: &CustomResource) -> Result<Option<Resource>, SourceError> {
    let CustomResource { group, version, kind, optional, .. } = custom;
    let known: WireResources = match cluster.get(&root(group, version)).await {
        Ok(known) => known,
        Err(Refusal { status: Some(StatusCode::NOT_FOUND), .. }) => WireResources { resources: Vec::new() },
        Err(refusal) => return Err(refusal.error),
    };
    // `rollouts/status` and the like are parts of a resource.
    let found = known.resources.iter().find(|resource| resource.kind == *kind && !resource.name.contains('/'));
    match found {
        Some(resource) => {
            let named = Resource::of(group, version, &resource.name, kind);
            Ok(Some(Resource { namespaced: resource.namespaced, ..named }))
        }
        None if *optional => Ok(None),
        None => {
            let kinds: Vec<String> = known.resources.into_iter().map(|resource| resource.kind).collect();
            let known = if kinds.is_empty() { "nothing".to_owned() } else { told(kinds).join(", ") };
            let message = format!(
                "this cluster has no kind {kind} in {group}/{version}, where it has {known}; correct `custom`, or write \
                 `optional = true` if a cluster may do without"
            );
            Err(SourceError { kind: "unknown-kind", message })
        }
    }
}
