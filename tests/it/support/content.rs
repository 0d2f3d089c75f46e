//! Content of registries: blobs, images, indexes, referrers.

use serde_json::{Value, json};
use tagwarden::domain::Digest;

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Bytes with the digest and the type that they go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

impl Content {
    pub(crate) fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self { digest: Digest::of(&bytes), media_type: media_type.into(), bytes }
    }

    pub(crate) fn json(media_type: &str, json: &Value) -> Self {
        Self::new(media_type, serde_json::to_vec_pretty(json).unwrap())
    }

    /// What points to this content.
    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest.to_string(), "size": self.bytes.len()})
    }
}

/// An image configuration created at that time; empty for none. `salt` makes it differ from others.
pub(crate) fn config(created: &str, salt: &str) -> Content {
    let mut json =
        json!({"os": "linux", "architecture": "amd64", "author": salt, "rootfs": {"type": "layers", "diff_ids": []}});
    if !created.is_empty() {
        json["created"] = created.into();
    }
    Content::json(CONFIG, &json)
}

/// A layer of these bytes.
pub(crate) fn layer(bytes: &str) -> Content {
    Content::new(LAYER, bytes)
}

/// An image of that configuration and those layers.
pub(crate) fn image(config: &Content, layers: &[&Content]) -> Content {
    let layers: Vec<Value> = layers.iter().map(|layer| layer.descriptor()).collect();
    Content::json(
        IMAGE,
        &json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config.descriptor(), "layers": layers}),
    )
}

/// An index of those manifests.
pub(crate) fn index(children: &[&Content]) -> Content {
    let manifests: Vec<Value> = children.iter().map(|child| child.descriptor()).collect();
    Content::json(INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}))
}

/// An artifact that refers to `subject`.
pub(crate) fn referrer(subject: &Content, kind: &str) -> Content {
    let empty = Content::new("application/vnd.oci.empty.v1+json", "{}");
    Content::json(
        IMAGE,
        &json!({
            "schemaVersion": 2, "mediaType": IMAGE, "artifactType": kind, "config": empty.descriptor(),
            "layers": [empty.descriptor()], "subject": subject.descriptor(),
        }),
    )
}
