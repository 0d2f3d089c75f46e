//! Online garbage collection: a manifest that may have lost its last reference is reviewed after a day, and deleted if nothing
//! in its repository leads to it (`docs/spec/gitlab/online-garbage-collection.md` of the registry).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::demo::registry::content::Content;
use crate::domain::Digest;

/// The manifests that are to be reviewed, with the time from which on.
#[derive(Debug, Default)]
pub(super) struct ReviewQueue(BTreeMap<(String, Digest), Timestamp>);

impl ReviewQueue {
    /// Puts a review off to a time, or adds it.
    pub(super) fn add(&mut self, repository: &str, digest: Digest, due: Timestamp) {
        self.0.insert((repository.to_owned(), digest), due);
    }

    /// Reviews what is due; what a deleted manifest led to is reviewed later, in its turn. Blobs stay.
    pub(super) fn review(&mut self, now: Timestamp, after: SignedDuration, content: &mut Content) {
        while let Some((key, due)) = self.next_due(now) {
            self.0.remove(&key);
            let (repository, digest) = key;
            if is_referenced(content, &repository, &digest) {
                continue;
            }
            let Some(manifest) = content.manifest(&repository, &digest) else { continue };
            let led_to = manifest.children.iter().map(|child| child.digest.clone()).chain(manifest.subject.clone());
            for next in led_to.collect::<Vec<_>>() {
                self.add(&repository, next, due + after);
            }
            content.delete_manifest(&repository, &digest);
        }
    }

    fn next_due(&self, now: Timestamp) -> Option<((String, Digest), Timestamp)> {
        let due = self.0.iter().filter(|(_, due)| **due <= now).min_by_key(|(_, due)| **due);
        due.map(|(key, due)| (key.clone(), *due))
    }
}

/// Returns true if a tag names a manifest, an index of its repository lists it, or something there refers to it.
fn is_referenced(content: &Content, repository: &str, digest: &Digest) -> bool {
    let is_tagged = content.manifest(repository, digest).is_some_and(|manifest| !manifest.tags.is_empty());
    let mut others = content.manifests(repository);
    is_tagged
        || others.any(|(_, other)| {
            other.subject.as_ref() == Some(digest) || other.children.iter().any(|child| child.digest == *digest)
        })
}
