//! Removals of signatures and the like, after the image that they accompany.

use std::collections::BTreeSet;

use super::removal_queue::{RemainingTags, leaves_tag_absent};
use super::untag::{LazyManifest, remove_tag};
use super::{RemovalResult, RemovalTask, RepositoryContext};
use crate::domain::{Digest, Manifest, Outcome, Repository, SkipReason, TagName, UnreadKind};
use crate::state::StateError;

/// Removes companions once no remaining tag names their image, directly or inside an index.
pub(super) async fn remove_companions(
    site: &RepositoryContext<'_>,
    tags: &RemainingTags,
    mut companions: Vec<RemovalTask>,
    applied: &mut Vec<RemovalResult>,
) -> Result<(), StateError> {
    // In rounds, because a signature of an SBOM waits for the SBOM's own tag.
    while !companions.is_empty() {
        let left = still_reachable(site.repository, applied);
        let (free, bound): (Vec<RemovalTask>, Vec<RemovalTask>) = companions
            .into_iter()
            .partition(|order| order.removal.companion_of.as_ref().is_none_or(|subject| !left.may_contain(subject)));
        if free.is_empty() {
            for order in bound {
                let skip = site.stop_reason().unwrap_or_else(|| {
                    SkipReason::Kept(
                        "the image that it accompanies still has a tag, or is part of one that has".to_owned(),
                    )
                });
                applied.push(site.journal_result(order, Outcome::Skipped(skip)).await?);
            }
            return Ok(());
        }
        for order in free {
            applied.push(remove_tag(site, tags, order, &LazyManifest::default()).await?);
        }
        companions = bound;
    }
    Ok(())
}

/// The manifests that remaining tags still lead to.
struct RemainingDigests {
    digests: BTreeSet<Digest>,
    /// True if the contents of an index among them are unknown.
    has_unread: bool,
}

impl RemainingDigests {
    fn may_contain(&self, digest: &Digest) -> bool {
        self.has_unread || self.digests.contains(digest)
    }
}

/// Returns all digests that tags not known to be removed still reach.
fn still_reachable(repository: &Repository, applied: &[RemovalResult]) -> RemainingDigests {
    let gone: BTreeSet<&TagName> = applied
        .iter()
        .filter(|applied| leaves_tag_absent(&applied.outcome))
        .map(|applied| &applied.removal.tag)
        .collect();
    let left = repository.tags.iter().filter(|tag| !gone.contains(&tag.name));
    let digests = reachable_from(repository, left.filter_map(|tag| tag.digest.clone()).collect());
    let unread =
        |digest: &Digest| repository.manifests.get(digest).and_then(Manifest::unread_kind) == Some(UnreadKind::Index);
    let has_unread = digests.iter().any(unread);
    RemainingDigests { digests, has_unread }
}

/// Returns the given digests and everything that their indexes contain.
pub(super) fn reachable_from(repository: &Repository, mut open: Vec<Digest>) -> BTreeSet<Digest> {
    let mut reached = BTreeSet::new();
    while let Some(digest) = open.pop() {
        if let Some(manifest) = repository.manifests.get(&digest) {
            open.extend(manifest.children.iter().filter(|child| !reached.contains(*child)).cloned());
        }
        reached.insert(digest);
    }
    reached
}
