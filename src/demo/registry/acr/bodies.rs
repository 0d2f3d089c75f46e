//! Bodies of responses: exactly the fields of the real registry, absent where those are absent.

use jiff::Timestamp;
use serde::Serialize;

use super::super::content::{Attributes, Child, Content, Manifest, ManifestRow, Tag};
use super::truncate_to_100_nanoseconds;
use crate::domain::Digest;

/// A part of a repository, with its registry and repository.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Envelope<'a> {
    pub(super) registry: &'a str,
    pub(super) image_name: &'a str,
    #[serde(flatten)]
    pub(super) body: Body<'a>,
}

/// The one other field of an envelope.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Body<'a> {
    Tags(Vec<TagBody<'a>>),
    Tag(TagBody<'a>),
    Manifests(Vec<ManifestBody<'a>>),
    Manifest(ManifestBody<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TagBody<'a> {
    name: &'a str,
    digest: String,
    created_time: String,
    last_update_time: String,
    signed: bool,
    changeable_attributes: AttributesBody,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ManifestBody<'a> {
    digest: String,
    image_size: u64,
    created_time: String,
    last_update_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    os: Option<&'a str>,
    media_type: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<&'a str>,
    changeable_attributes: AttributesBody,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    references: Vec<ChildBody<'a>>,
}

#[derive(Serialize)]
struct ChildBody<'a> {
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    os: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "Azure has these four, each of which can be switched by itself")]
pub(super) struct AttributesBody {
    delete_enabled: bool,
    write_enabled: bool,
    read_enabled: bool,
    list_enabled: bool,
}

impl From<Attributes> for AttributesBody {
    fn from(Attributes { delete, write, read, list }: Attributes) -> Self {
        Self { delete_enabled: delete, write_enabled: write, read_enabled: read, list_enabled: list }
    }
}

impl<'a> TagBody<'a> {
    pub(super) fn new(name: &'a str, tag: &Tag) -> Self {
        Self {
            name,
            digest: tag.digest.to_string(),
            created_time: format_time(tag.created),
            last_update_time: format_time(tag.updated),
            signed: false,
            changeable_attributes: tag.attributes.into(),
        }
    }
}

impl<'a> ManifestBody<'a> {
    /// Creates the list entry of a manifest, with no more than `most_tags` of its tags.
    pub(super) fn new(
        content: &Content,
        repository: &str,
        (digest, manifest): (&Digest, &'a Manifest),
        most_tags: usize,
    ) -> Self {
        let listed = |tag: &&str| content.tag(repository, tag).is_some_and(|tag| tag.attributes.list);
        Self {
            digest: digest.to_string(),
            image_size: manifest.image_size,
            created_time: format_time(manifest.created),
            last_update_time: format_time(manifest.updated),
            architecture: manifest.architecture.as_deref(),
            os: manifest.os.as_deref(),
            media_type: &manifest.media_type,
            tags: manifest.tags.iter().map(|tag| &**tag).filter(listed).take(most_tags).collect(),
            changeable_attributes: manifest.attributes.into(),
            references: Vec::new(),
        }
    }

    /// Creates the list entry of a generated manifest.
    pub(super) fn of_row(row: &'a ManifestRow, most_tags: usize) -> Self {
        Self {
            digest: row.digest.to_string(),
            image_size: row.image_size,
            created_time: format_time(row.created),
            last_update_time: format_time(row.updated),
            architecture: row.architecture,
            os: row.os,
            media_type: row.media_type,
            tags: row.tags.iter().map(String::as_str).take(most_tags).collect(),
            changeable_attributes: Attributes::default().into(),
            references: Vec::new(),
        }
    }

    /// Adds its children, which only the details of a single manifest contain.
    pub(super) fn with_children(self, children: &'a [Child]) -> Self {
        let child = |child: &'a Child| ChildBody {
            digest: child.digest.to_string(),
            architecture: child.architecture.as_deref(),
            os: child.os.as_deref(),
        };
        Self { references: children.iter().map(child).collect(), ..self }
    }
}

/// Formats a time with up to seven digits after the second, without trailing zeros.
pub(super) fn format_time(time: Timestamp) -> String {
    truncate_to_100_nanoseconds(time).to_string()
}
