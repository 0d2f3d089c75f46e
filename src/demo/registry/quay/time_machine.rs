//! Removed tags, and the lifetime of their manifests.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::demo::registry::content::Content;
use crate::domain::Digest;

/// A removed tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemovedTag {
    pub(super) repository: String,
    pub(super) tag: String,
    pub(super) digest: Digest,
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
}

/// The removed tags that can be restored.
#[derive(Debug, Default)]
pub(super) struct TimeMachine(Vec<RemovedTag>);

impl TimeMachine {
    pub(super) fn add(&mut self, tag: RemovedTag) {
        self.0.push(tag);
    }

    /// Returns the removed tags of a repository.
    pub(super) fn tags<'a>(&'a self, repository: &'a str) -> impl Iterator<Item = &'a RemovedTag> {
        self.0.iter().filter(move |tag| tag.repository == repository)
    }

    /// Drops tags removed longer ago than their namespace keeps them, and deletes their manifests with children, unless
    /// something else leads there.
    pub(super) fn collect(
        &mut self,
        now: Timestamp,
        window: impl Fn(&str) -> Option<SignedDuration>,
        content: &mut Content,
    ) {
        let due = |tag: &mut RemovedTag| window(&tag.repository).is_some_and(|window| tag.ended + window < now);
        for tag in self.0.extract_if(.., due).collect::<Vec<_>>() {
            let mut held: BTreeSet<Digest> = content.tags(&tag.repository).into_values().collect();
            held.extend(self.tags(&tag.repository).map(|other| other.digest.clone()));
            let held = with_children(content, &tag.repository, held);
            let loose = with_children(content, &tag.repository, [tag.digest.clone()].into());
            for digest in loose.difference(&held) {
                content.delete_manifest(&tag.repository, digest);
            }
        }
    }
}

/// Returns digests with the children of the indexes among them.
fn with_children(content: &Content, repository: &str, digests: BTreeSet<Digest>) -> BTreeSet<Digest> {
    let mut open: Vec<Digest> = digests.into_iter().collect();
    let mut found = BTreeSet::new();
    while let Some(digest) = open.pop() {
        let children = content.manifest(repository, &digest).into_iter().flat_map(|manifest| &manifest.children);
        open.extend(children.map(|child| child.digest.clone()).filter(|child| !found.contains(child)));
        found.insert(digest);
    }
    found
}

/// Returns true if the live tags of a repository lead to a manifest, directly or through an index: only then is it shown.
pub(super) fn is_shown(content: &Content, repository: &str, digest: &Digest) -> bool {
    let live = content.tags(repository).into_values().collect();
    with_children(content, repository, live).contains(digest)
}

const SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];

/// Returns the tags of cosign's signatures of an image.
pub(super) fn companions(digest: &Digest) -> Vec<String> {
    let image = digest.to_string().replace(':', "-");
    SUFFIXES.iter().map(|suffix| format!("{image}.{suffix}")).collect()
}

/// Returns true for the tag of one of cosign's signatures.
pub(super) fn is_companion(tag: &str) -> bool {
    let Some((image, suffix)) = tag.split_once('.') else { return false };
    let hex = image.strip_prefix("sha256-").unwrap_or_default();
    let is_hex = hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    SUFFIXES.contains(&suffix) && hex.len() == 64 && is_hex
}
