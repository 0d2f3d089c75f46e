//! Harbor's own records of a repository: ids, accessories and pulls.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::demo::registry::content::Content;
use crate::domain::Digest;

/// The records of one repository.
#[derive(Debug, Default)]
pub(super) struct ArtifactTable {
    /// The ids of artifacts, in the order of their pushes.
    ids: BTreeMap<Digest, i64>,
    last_id: i64,
    /// Those that refer to something: their subjects, and their types.
    accessories: BTreeMap<Digest, (Digest, &'static str)>,
    pulls: BTreeMap<Digest, Timestamp>,
    tag_pulls: BTreeMap<String, Timestamp>,
}

impl ArtifactTable {
    /// Takes in what was pushed and deleted since.
    pub(super) fn update(&mut self, repository: &str, content: &Content) {
        let gone = |digest: &Digest| content.manifest(repository, digest).is_none();
        self.ids.retain(|digest, _| !gone(digest));
        self.accessories.retain(|digest, _| !gone(digest));
        let new = content.manifests(repository).filter(|(digest, _)| !self.ids.contains_key(*digest));
        let mut new: Vec<_> = new.map(|(digest, manifest)| (manifest.created, digest)).collect();
        new.sort_unstable();
        for (_, digest) in new {
            self.last_id += 1;
            self.ids.insert(digest.clone(), self.last_id);
        }
        for (digest, manifest) in content.manifests(repository) {
            if self.accessories.contains_key(digest) {
                continue;
            }
            let named = manifest.tags.iter().find_map(|tag| signed_image(tag));
            let signed = named.filter(|image| content.manifest(repository, image).is_some());
            let found = match (&manifest.subject, signed) {
                (Some(subject), _) => (subject.clone(), accessory_type(manifest.artifact_type.as_deref())),
                (None, Some(image)) => (image, "signature.cosign"),
                (None, None) => continue,
            };
            self.accessories.insert(digest.clone(), found);
        }
    }

    pub(super) fn id(&self, digest: &Digest) -> i64 {
        self.ids.get(digest).copied().unwrap_or_default()
    }

    pub(super) fn is_accessory(&self, digest: &Digest) -> bool {
        self.accessories.contains_key(digest)
    }

    /// Those that refer to an artifact, with their types.
    pub(super) fn accessories_of<'a>(
        &'a self,
        subject: &'a Digest,
    ) -> impl Iterator<Item = (&'a Digest, &'static str)> {
        let found = self.accessories.iter().filter(move |(_, (other, _))| other == subject);
        found.map(|(digest, (_, kind))| (digest, *kind))
    }

    /// Those that have accessories, with these.
    pub(super) fn by_subject(&self) -> BTreeMap<&Digest, Vec<(&Digest, &'static str)>> {
        let mut found: BTreeMap<&Digest, Vec<(&Digest, &'static str)>> = BTreeMap::new();
        for (digest, (subject, kind)) in &self.accessories {
            found.entry(subject).or_default().push((digest, kind));
        }
        found
    }

    pub(super) fn record_pull(&mut self, digest: &Digest, reference: &str, now: Timestamp) {
        self.pulls.insert(digest.clone(), now);
        if !reference.contains(':') {
            self.tag_pulls.insert(reference.to_owned(), now);
        }
    }

    pub(super) fn pulled_at(&self, digest: &Digest) -> Option<Timestamp> {
        self.pulls.get(digest).copied()
    }

    pub(super) fn tag_pulled_at(&self, tag: &str) -> Option<Timestamp> {
        self.tag_pulls.get(tag).copied()
    }
}

/// The manifests of a repository that indexes list.
pub(super) fn referenced(repository: &str, content: &Content) -> BTreeSet<Digest> {
    let listed = content.manifests(repository).flat_map(|(_, manifest)| &manifest.children);
    listed.map(|child| child.digest.clone()).collect()
}

/// The image that a tag of cosign says to be signed.
fn signed_image(tag: &str) -> Option<Digest> {
    tag.strip_suffix(".sig")?.strip_prefix("sha256-").and_then(|hex| format!("sha256:{hex}").parse().ok())
}

/// The types of accessories by those of their manifests (Harbor's `middleware/subject`).
fn accessory_type(kind: Option<&str>) -> &'static str {
    match kind {
        Some("application/vnd.cncf.notary.signature") => "signature.notation",
        Some("application/vnd.dev.cosign.artifact.sig.v1+json") => "signature.cosign",
        Some("application/vnd.goharbor.harbor.sbom.v1") => "sbom.harbor",
        _ => "subject.accessory",
    }
}
