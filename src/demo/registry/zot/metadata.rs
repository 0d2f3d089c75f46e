//! zot's metadata database: pushes and pulls by manifest, as far as it keeps them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::demo::registry::content::Content;
use crate::domain::Digest;

/// The statistics of a manifest in one repository.
#[derive(Debug, Clone, Default)]
pub(super) struct Statistics {
    pub(super) pushed_at: Timestamp,
    pub(super) downloads: u64,
    pub(super) last_pull: Option<Timestamp>,
}

/// The database.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    statistics: BTreeMap<(String, Digest), Statistics>,
    /// Manifests that lost their statistics with their last tag.
    forgotten: BTreeSet<(String, Digest)>,
}

impl Metadata {
    /// Takes in what was pushed and deleted since.
    pub(super) fn update(&mut self, content: &Content) {
        let exists = |(name, digest): &(String, Digest)| content.manifest(name, digest).is_some();
        self.statistics.retain(|key, _| exists(key));
        self.forgotten.retain(exists);
        let names: Vec<String> = content.repositories().map(str::to_owned).collect();
        for name in names {
            for (digest, manifest) in content.manifests(&name) {
                let key = (name.clone(), digest.clone());
                if !manifest.tags.is_empty() {
                    self.forgotten.remove(&key);
                }
                if !self.forgotten.contains(&key) {
                    let new = || Statistics { pushed_at: manifest.created, ..Statistics::default() };
                    self.statistics.entry(key).or_insert_with(new);
                }
            }
        }
    }

    pub(super) fn get(&self, name: &str, digest: &Digest) -> Statistics {
        self.statistics.get(&(name.to_owned(), digest.clone())).cloned().unwrap_or_default()
    }

    pub(super) fn record_pull(&mut self, name: &str, digest: &Digest, now: Timestamp) {
        if let Some(found) = self.statistics.get_mut(&(name.to_owned(), digest.clone())) {
            found.downloads += 1;
            found.last_pull = Some(now);
        }
    }

    /// Records a push: of a manifest whose statistics are gone it is the first one.
    pub(super) fn record_push(&mut self, name: &str, digest: &Digest, now: Timestamp) {
        let key = (name.to_owned(), digest.clone());
        if self.forgotten.remove(&key) {
            self.statistics.insert(key, Statistics { pushed_at: now, ..Statistics::default() });
        }
    }

    /// Drops the statistics of a manifest that lost its last tag.
    pub(super) fn forget(&mut self, name: &str, digest: &Digest) {
        let key = (name.to_owned(), digest.clone());
        self.statistics.remove(&key);
        self.forgotten.insert(key);
    }
}

/// Returns true for the tags of signatures and of lists of referrers, which are not in the database as images.
pub(super) fn is_signature_tag(tag: &str) -> bool {
    let is_list = tag
        .strip_prefix("sha256-")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_list || signed_image(tag).is_some()
}

/// Returns the image that a tag of cosign signs or describes.
pub(super) fn signed_image(tag: &str) -> Option<Digest> {
    let hex = tag.strip_prefix("sha256-")?;
    let hex = hex.strip_suffix(".sig").or_else(|| hex.strip_suffix(".sbom"))?;
    format!("sha256:{hex}").parse().ok()
}
