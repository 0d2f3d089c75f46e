//! The bodies of answers, with the published names alone. What is empty is left out, as in all JSON of Google.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::ArtifactRepository;
use super::route::RepositoryId;
use crate::demo::image::media_type;
use crate::demo::registry::content::Manifest;
use crate::domain::Digest;

/// Most tags that a version tells.
const MAX_RELATED_TAGS: usize = 100;

/// `Repository`.
pub(super) fn repository(id: &RepositoryId, repository: &ArtifactRepository, size: u64) -> Value {
    let mut row = json!({
        "name": id.resource(),
        "format": repository.format,
        "mode": repository.mode,
        "createTime": "2025-01-01T00:00:00.000000Z",
        "updateTime": "2025-01-01T00:00:00.000000Z",
        "registryUri": format!("{}-docker.pkg.dev/{}", id.location, id.in_references()),
        "sizeBytes": size.to_string(),
    });
    if repository.immutable_tags {
        row["dockerConfig"] = json!({ "immutableTags": true });
    }
    if repository.cleanup_policies.as_object().is_some_and(|policies| !policies.is_empty()) {
        row["cleanupPolicies"] = repository.cleanup_policies.clone();
    }
    if repository.cleanup_policy_dry_run {
        row["cleanupPolicyDryRun"] = json!(true);
    }
    row
}

/// Escapes a name for a part of a resource.
pub(super) fn escape(name: &str) -> String {
    name.replace('/', "%2F")
}

/// `Package`.
pub(super) fn package(id: &RepositoryId, package: &str) -> Value {
    json!({
        "name": format!("{}/packages/{}", id.resource(), escape(package)),
        "createTime": "2025-01-01T00:00:00.000000Z",
        "updateTime": "2025-01-01T00:00:00.000000Z",
    })
}

/// `Tag`.
pub(super) fn tag(id: &RepositoryId, package: &str, tag: &str, digest: &Digest) -> Value {
    let parent = format!("{}/packages/{}", id.resource(), escape(package));
    json!({ "name": format!("{parent}/tags/{tag}"), "version": format!("{parent}/versions/{digest}") })
}

/// The common members of a `DockerImage` and the metadata of a `Version`.
fn details(manifest: &Manifest, uploaded: Timestamp) -> Map<String, Value> {
    let own: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    let mut row = Map::new();
    row.insert("imageSizeBytes".into(), json!(manifest.image_size.to_string()));
    row.insert("mediaType".into(), json!(manifest.media_type));
    row.insert("buildTime".into(), json!(uploaded.to_string()));
    // Where there is a subject, the media type stands for a missing type of artifact.
    let artifact = own["artifactType"].as_str().filter(|kind| !kind.is_empty());
    let artifact = artifact.or_else(|| manifest.subject.is_some().then_some(manifest.media_type.as_str()));
    row.extend(artifact.map(|kind| ("artifactType".to_owned(), json!(kind))));
    row
}

/// `DockerImage`.
pub(super) fn image(
    id: &RepositoryId,
    package: &str,
    digest: &Digest,
    manifest: &Manifest,
    uploaded: Timestamp,
) -> Value {
    let mut row = details(manifest, uploaded);
    let name = format!("{}@{digest}", escape(package));
    row.insert("name".into(), json!(format!("{}/dockerImages/{name}", id.resource())));
    row.insert(
        "uri".into(),
        json!(format!("{}-docker.pkg.dev/{}/{package}@{digest}", id.location, id.in_references())),
    );
    row.insert("uploadTime".into(), json!(uploaded.to_string()));
    row.insert("updateTime".into(), json!(uploaded.to_string()));
    if !manifest.tags.is_empty() {
        row.insert("tags".into(), json!(manifest.tags.iter().collect::<Vec<_>>()));
    }
    let is_index = matches!(manifest.media_type.as_str(), media_type::OCI_INDEX | media_type::DOCKER_LIST);
    if is_index && !manifest.children.is_empty() {
        let children = manifest.children.iter().map(|child| {
            let mut row = json!({ "digest": child.digest.to_string(), "mediaType": media_type::OCI_MANIFEST });
            for (key, value) in [("os", &child.os), ("architecture", &child.architecture)] {
                if let Some(value) = value {
                    row[key] = json!(value);
                }
            }
            row
        });
        row.insert("imageManifests".into(), children.collect());
    }
    Value::Object(row)
}

/// `Version`, in the view that was asked for.
pub(super) fn version(
    id: &RepositoryId,
    package: &str,
    (digest, manifest): (&Digest, &Manifest),
    uploaded: Timestamp,
    is_full: bool,
) -> Value {
    let mut row = json!({
        "name": format!("{}/packages/{}/versions/{digest}", id.resource(), escape(package)),
        "createTime": uploaded.to_string(),
        "updateTime": uploaded.to_string(),
    });
    if is_full {
        let mut metadata = details(manifest, uploaded);
        let name = format!("{}/dockerImages/{}@{digest}", id.resource(), escape(package));
        metadata.insert("name".into(), json!(name));
        row["metadata"] = Value::Object(metadata);
        if !manifest.tags.is_empty() {
            let tags = manifest.tags.iter().take(MAX_RELATED_TAGS).map(|name| tag(id, package, name, digest));
            row["relatedTags"] = tags.collect();
        }
    }
    row
}
