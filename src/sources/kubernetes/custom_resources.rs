//! Custom resources: their kinds, and the fields with images.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::super::image_field::ImageField;
use super::super::object_texts::from_json;
use super::super::{FieldPath, SourceError, truncate_messages};
use super::Reader;
use super::claims::ClusterEvidence;
use super::client::{ApiError, Cluster};
use super::images::{joined_image, pod_images};
use super::list::{Resource, api_root};
use super::objects::{ObjectReader, RevisionState, WireMeta};
use super::presets::Preset;

/// A kind of custom resource with images in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomResource {
    /// Its API group, such as `argoproj.io`.
    pub group: String,
    /// Its version, such as `v1alpha1`.
    pub version: String,
    /// Its kind, such as `Rollout`.
    pub kind: String,
    /// The paths of images in it.
    pub paths: Vec<FieldPath>,
    /// True if a cluster may lack this kind.
    pub optional: bool,
}

/// A kind of custom resource that this cluster serves.
#[derive(Debug)]
pub(super) struct ServedKind {
    pub(super) resource: Resource,
    paths: Vec<FieldPath>,
    /// True if the settings name its paths, so that a path without a match is a mistake.
    pub(super) has_configured_paths: bool,
}

/// One object with all its fields.
#[derive(Deserialize)]
pub(super) struct WireCustomObject {
    metadata: WireMeta,
    #[serde(flatten)]
    rest: Map<String, Json>,
}

impl WireCustomObject {
    /// Records the images of an object of that kind, and returns the number of texts at its paths. A path leads to
    /// references, to their parts under separate keys, or to something with pod specifications in it. All other texts
    /// of the object count, too.
    pub(super) fn add_images(self, kind: &ServedKind, reader: &Reader<'_>, found: &mut ClusterEvidence) -> usize {
        let Self { metadata, rest } = self;
        let mut reading = ObjectReader::of(&metadata, &kind.resource.kind, RevisionState::Current, reader.hosts, found);
        let whole = Json::Object(rest);
        let read = add_images_at_paths(&whole, kind, &mut reading);
        let count = read.len();

        let document = from_json(with_metadata(whole, metadata, &kind.resource));
        reader.add_form(&reading.object, std::slice::from_ref(&document), "");
        let read: Vec<&str> = read.iter().map(String::as_str).collect();
        for spot in reading.add_texts(document, &read) {
            let at = spot.line;
            reading.add_text_image(spot, Some(at));
        }
        count
    }
}

/// Records the images at the paths, and returns their texts.
fn add_images_at_paths(whole: &Json, kind: &ServedKind, reading: &mut ObjectReader<'_>) -> Vec<String> {
    let mut read: Vec<String> = Vec::new();
    for path in &kind.paths {
        for value in path.find_json(whole) {
            let before = read.len();
            match value {
                Json::Null => continue,
                Json::String(text) => {
                    reading.add_spec_image("", text);
                    read.push(text.clone());
                }
                Json::Array(_) | Json::Object(_) => {
                    pod_images(value, &mut |container, image| {
                        reading.add_spec_image(container, image);
                        read.push(image.to_owned());
                    });
                    if let Some(image) = joined_image(value) {
                        reading.add_spec_image("", &image);
                        read.push(image);
                    }
                }
                Json::Bool(_) | Json::Number(_) if kind.has_configured_paths => {
                    let what = format!("`{path}` is `{value}`, which is not an image; correct `paths`");
                    reading.add_image("", ImageField::Problem(what));
                }
                Json::Bool(_) | Json::Number(_) => {}
            }
            if read.len() == before && kind.has_configured_paths && value.is_object() {
                reading.add_note("", &format!("`{path}` leads to an object that names no image"));
            }
        }
    }
    read
}

/// Returns the object as documents write it, with the parts of its metadata that people and tools write.
fn with_metadata(whole: Json, metadata: WireMeta, resource: &Resource) -> Json {
    let rest = match whole {
        Json::Object(rest) => rest,
        other => return other,
    };
    let version = if resource.group.is_empty() {
        resource.version.clone()
    } else {
        format!("{}/{}", resource.group, resource.version)
    };
    let mut about: Map<String, Json> = Map::new();
    about.insert("name".to_owned(), metadata.name.into());
    about.insert("namespace".to_owned(), metadata.namespace.into());
    let more = [("labels", metadata.labels), ("annotations", metadata.annotations)];
    about.extend(more.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    let mut document: Map<String, Json> = Map::new();
    document.insert("apiVersion".to_owned(), version.into());
    document.insert("kind".to_owned(), resource.kind.clone().into());
    document.insert("metadata".to_owned(), Json::Object(about));
    document.extend(rest.into_iter().filter(|(key, _)| key != "apiVersion" && key != "kind"));
    Json::Object(document)
}

/// The resources of one version of a group.
#[derive(Debug, Default, Deserialize)]
struct WireResources {
    resources: Vec<WireResource>,
}

#[derive(Debug, Deserialize)]
struct WireResource {
    name: String,
    kind: String,
    namespaced: bool,
}

/// The resources that a cluster serves; each version of a group is requested once.
pub(super) struct Discovery<'c> {
    cluster: &'c Cluster,
    cache: HashMap<String, WireResources>,
}

impl<'c> Discovery<'c> {
    pub(super) fn new(cluster: &'c Cluster) -> Self {
        Self { cluster, cache: HashMap::new() }
    }

    /// Returns the resources of a version of a group; empty if the cluster does not serve it.
    async fn resources(&mut self, group: &str, version: &str) -> Result<&WireResources, SourceError> {
        match self.cache.entry(api_root(group, version)) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => match self.cluster.get(new.key()).await {
                Ok(read) => Ok(new.insert(read)),
                Err(ApiError { status: Some(StatusCode::NOT_FOUND), .. }) => Ok(new.insert(WireResources::default())),
                Err(refusal) => Err(refusal.error),
            },
        }
    }

    /// Returns the resource of a kind that the settings name; `None` if the cluster lacks it and may.
    pub(super) async fn discover_custom(&mut self, custom: &CustomResource) -> Result<Option<ServedKind>, SourceError> {
        let CustomResource { group, version, kind, paths, optional } = custom;
        let known = self.resources(group, version).await?;
        match known.of_kind(kind) {
            Some(found) => {
                let resource = found.in_group(group, version);
                Ok(Some(ServedKind { resource, paths: paths.clone(), has_configured_paths: true }))
            }
            None if *optional => Ok(None),
            None => {
                let kinds: Vec<String> = known.resources.iter().map(|resource| resource.kind.clone()).collect();
                let known = if kinds.is_empty() { "nothing".to_owned() } else { truncate_messages(kinds).join(", ") };
                let message = format!(
                    "this cluster has no kind {kind} in {group}/{version}, where it has {known}; correct `custom`, or \
                     write `optional = true` if a cluster may do without"
                );
                Err(SourceError::new("unknown-kind", message))
            }
        }
    }

    /// Returns the kinds of a preset that the cluster serves, each in the first served version.
    pub(super) async fn discover_preset(&mut self, preset: Preset) -> Result<Vec<ServedKind>, SourceError> {
        let mut served = Vec::new();
        for wanted in preset.kinds() {
            for version in wanted.versions {
                if let Some(found) = self.resources(wanted.group, version).await?.of_kind(wanted.kind) {
                    let resource = found.in_group(wanted.group, version);
                    served.push(ServedKind { resource, paths: wanted.field_paths(), has_configured_paths: false });
                    break;
                }
            }
        }
        Ok(served)
    }
}

impl WireResources {
    /// Subresources such as `rollouts/status` are skipped.
    fn of_kind(&self, kind: &str) -> Option<&WireResource> {
        self.resources.iter().find(|resource| resource.kind == *kind && !resource.name.contains('/'))
    }
}

impl WireResource {
    fn in_group(&self, group: &str, version: &str) -> Resource {
        Resource { namespaced: self.namespaced, ..Resource::of(group, version, &self.name, &self.kind) }
    }
}

impl ServedKind {
    /// Returns true for the same kind, which a preset and the settings may both name, as two presets may.
    pub(super) fn is_same_kind(&self, other: &Self) -> bool {
        (&self.resource.group, &self.resource.plural) == (&other.resource.group, &other.resource.plural)
    }

    /// Formats its paths as in the settings.
    pub(super) fn format_paths(&self) -> String {
        self.paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}
