//! The blobs that one repository uses, with the removals and deletions that would stop using them.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::graph::{Graph, Node, Traversal, index};
use crate::domain::{
    Claims, Deletion, Digest, DigestSet, Gap, GapTarget, Manifest, ManifestDetail, Registry, RegistryName, Removal,
    Repository, SourceOutcome, TagPosition, TagVerdict, Verdict,
};

/// The blobs of one repository. The default is a repository that was not read completely.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepositoryBlobs {
    /// True if the repository was read completely. Otherwise no blob in its registry can be attributed.
    pub is_complete: bool,
    /// True if the blobs of some manifests are unknown: such an image counts as a single blob.
    pub is_estimated: bool,
    /// The removals whose bytes are unknown, as positions in the list of removals.
    pub unsized_removals: Vec<u32>,
    /// The deletions whose bytes are unknown, as positions in the list of deletions. Retained ones are among them.
    pub unsized_deletions: Vec<u32>,
    /// The blobs, each once.
    pub uses: Vec<BlobUse>,
}

/// The use of a blob by one repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobUse {
    /// The beginning of its digest, see [`Digest::prefix`].
    pub blob: u128,
    /// Its length in bytes.
    pub size: u64,
    /// The first removal whose image needs it, as a position in the list of removals.
    pub removal: Option<u32>,
    /// True if a manifest needs it that the removals leave in use.
    pub kept_by_removals: bool,
    /// The first deletion that needs it, as a position in the list of deletions.
    pub deletion: Option<u32>,
    /// True if a manifest needs it that the deletions leave in place.
    pub kept_by_deletions: bool,
}

/// The digests that sources claim in one registry, in any repository.
#[derive(Debug, Clone, Default)]
pub struct ClaimedDigests<'a>(DigestSet<&'a Digest>);

impl<'a> ClaimedDigests<'a> {
    /// Collects the claimed digests of the sources that protect a registry.
    #[must_use]
    pub fn of(claims: &'a Claims, registry: &RegistryName) -> Self {
        let sources = claims.sources.iter().filter(|source| source.covers(registry));
        Self(sources.flat_map(SourceOutcome::claims).filter_map(|claim| claim.image.digest.as_ref()).collect())
    }

    fn claims(&self, graph: &Graph<'_>, node: Node) -> bool {
        let config = graph.manifest(node).and_then(|manifest| manifest.config.as_deref());
        self.0.contains(graph.digest(node)) || config.is_some_and(|config| self.0.contains(config))
    }
}

/// Lists the blobs of one repository. Only the gaps of `registry` are used.
///
/// `verdicts`, `removals` and `deletions` are those of this repository, and the positions in the first two agree. A
/// manifest without tags is not freed by removing tags, so the removals keep it; the deletions keep all that they do
/// not delete.
#[must_use]
pub fn blob_uses(
    registry: &Registry,
    repository: &Repository,
    claimed: &ClaimedDigests<'_>,
    verdicts: &[TagVerdict],
    removals: &[Removal],
    deletions: &[Deletion],
) -> RepositoryBlobs {
    if !was_read_completely(registry, repository) {
        return RepositoryBlobs::default();
    }
    let mut uses = BlobUses::for_images(repository.manifests.len());
    let (freed, unsized_removals) = add_removals(repository, claimed, (verdicts, removals), &mut uses);
    let (deleted, unsized_deletions) = add_deletions(repository, deletions, &mut uses);
    let mut is_estimated = false;
    for (digest, manifest) in &repository.manifests {
        is_estimated |= manifest.detail != ManifestDetail::Full;
        let (is_freed, is_deleted) = (freed.contains(digest), deleted.contains(digest));
        for (blob, size) in stored_blobs(digest, manifest) {
            let found = uses.entry(blob, size);
            found.kept_by_removals |= !is_freed;
            found.kept_by_deletions |= !is_deleted;
        }
    }
    RepositoryBlobs { is_complete: true, is_estimated, unsized_removals, unsized_deletions, uses: uses.list }
}

/// Returns true if every tag of the repository and its manifest were read, as far as the gaps of the registry and of
/// the repository show.
pub(super) fn was_read_completely(registry: &Registry, repository: &Repository) -> bool {
    let hides = |gap: &Gap| gap.may_hide_tag() || gap.target == GapTarget::Catalogue;
    let mut named = repository.tags.iter().filter_map(|tag| tag.digest.as_ref());
    !registry.gaps.iter().chain(&repository.gaps).any(hides)
        && named.all(|digest| repository.manifests.contains_key(digest))
}

/// Blobs in the order of their first occurrence.
struct BlobUses {
    positions: HashMap<u128, u32, RandomState>,
    list: Vec<BlobUse>,
}

impl BlobUses {
    /// Creates an empty list with room for one blob of each image. Growing would hold two lists for a moment.
    fn for_images(images: usize) -> Self {
        let positions = HashMap::with_capacity_and_hasher(images, RandomState::default());
        Self { positions, list: Vec::with_capacity(images) }
    }

    /// Returns the blob with that digest, which has the size of its first occurrence.
    fn entry(&mut self, digest: &Digest, size: u64) -> &mut BlobUse {
        let next = u32::try_from(self.list.len()).expect("a repository uses fewer than 2^32 blobs");
        let blob = digest.prefix();
        let at = *self.positions.entry(blob).or_insert(next);
        if at == next {
            self.list.push(BlobUse {
                blob,
                size,
                removal: None,
                kept_by_removals: false,
                deletion: None,
                kept_by_deletions: false,
            });
        }
        &mut self.list[index(at)]
    }
}

/// Adds the blobs of the images whose tags are removed. Returns the manifests that are no longer in use, and the
/// removals whose bytes are unknown.
fn add_removals<'a>(
    repository: &'a Repository,
    claimed: &ClaimedDigests<'_>,
    (verdicts, removals): (&[TagVerdict], &[Removal]),
    uses: &mut BlobUses,
) -> (DigestSet<&'a Digest>, Vec<u32>) {
    let mut positions: Vec<(TagPosition, u32)> =
        removals.iter().zip(0..).map(|(removal, at)| (removal.position, at)).collect();
    positions.sort_unstable();
    let removal_of = |found: &TagVerdict| {
        let at = positions.binary_search_by_key(&found.position, |&(position, _)| position).ok()?;
        (found.verdict == Verdict::Expired).then(|| positions[at].1)
    };
    let mut is_sized = vec![false; removals.len()];
    let mut freed = DigestSet::default();
    if verdicts.iter().any(|found| removal_of(found).is_some()) {
        let graph = Graph::of_read(repository, &[]);
        let retained = verdicts.iter().filter(|found| removal_of(found).is_none());
        let retained = retained.filter_map(|found| graph.of_tag(found.position.tag));
        let claimed = graph.nodes().filter(|&node| claimed.claims(&graph, node));
        let kept = graph.reachable(retained.chain(claimed), Traversal::Down);
        let mut seen = vec![false; kept.len()];
        for found in verdicts {
            let Some(removal) = removal_of(found) else { continue };
            is_sized[index(removal)] = true;
            graph.walk(graph.of_tag(found.position.tag), Traversal::Down, |node| {
                let is_new = !std::mem::replace(&mut seen[index(node)], true);
                if let (true, Some(manifest)) = (is_new, graph.manifest(node)) {
                    if !kept[index(node)] {
                        freed.insert(graph.digest(node));
                    }
                    if manifest.detail.is_unsized() {
                        is_sized[index(removal)] = false;
                    }
                    for (blob, size) in stored_blobs(graph.digest(node), manifest) {
                        uses.entry(blob, size).removal.get_or_insert(removal);
                    }
                }
                is_new
            });
        }
    }
    let unknown = (0..).zip(is_sized).filter(|(_, is_sized)| !is_sized).map(|(removal, _)| removal);
    (freed, unknown.collect())
}

/// Adds the blobs of deleted manifests. Returns these, and the deletions whose bytes are unknown.
fn add_deletions<'a>(
    repository: &Repository,
    deletions: &'a [Deletion],
    uses: &mut BlobUses,
) -> (DigestSet<&'a Digest>, Vec<u32>) {
    let (mut deleted, mut unknown) = (DigestSet::default(), Vec::new());
    for (position, deletion) in (0..).zip(deletions) {
        if !deletion.is_deletable() {
            unknown.push(position);
            continue;
        }
        let dependents = deletion.dependents.iter().map(|dependent| &dependent.digest);
        let all = std::iter::once(&deletion.digest).chain(dependents);
        deleted.extend(all.clone());
        for digest in all {
            let read = repository.manifests.get_key_value(digest);
            let Some((digest, manifest)) = read.filter(|(_, manifest)| !manifest.detail.is_unsized()) else {
                unknown.push(position);
                break;
            };
            for (blob, size) in stored_blobs(digest, manifest) {
                uses.entry(blob, size).deletion.get_or_insert(position);
            }
        }
    }
    (deleted, unknown)
}

/// What a registry stores for a manifest: its own bytes, its configuration and its layers. Of one that was only listed,
/// all of that in one piece.
pub(super) fn stored_blobs<'a>(digest: &'a Digest, manifest: &'a Manifest) -> impl Iterator<Item = (&'a Digest, u64)> {
    let own = match manifest.detail {
        ManifestDetail::Full => manifest.size,
        ManifestDetail::Listed { image_size } | ManifestDetail::Unread { image_size, .. } => image_size.unwrap_or(0),
    };
    std::iter::once((digest, own)).chain(manifest.blobs.iter().map(|blob| (&blob.digest, blob.size)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::{Blob, Date, Reasons, RemovalMethod, Tag};

    /// Name, size, and the blobs with their sizes.
    type ImageRow = (&'static str, u64, &'static [(&'static str, u64)]);

    const IMAGES: [ImageRow; 3] = [
        ("removed", 10, &[("shared with deleted", 100), ("base", 1000)]),
        ("retained", 20, &[("base", 1000), ("own", 50)]),
        ("deleted", 5, &[("shared with deleted", 100), ("layer", 7)]),
    ];

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn repository() -> Repository {
        let mut repository = Repository::empty("app".parse().unwrap());
        for (name, size, blobs) in IMAGES {
            let blobs = blobs.iter().map(|&(name, size)| Blob { digest: digest(name), size });
            let manifest = Manifest {
                media_type: "application/vnd.oci.image.manifest.v1+json".into(),
                size,
                config: None,
                blobs: blobs.collect(),
                children: Vec::new(),
                subject: None,
                created_at: None,
                lock: None,
                detail: ManifestDetail::Full,
            };
            repository.manifests.insert(digest(name), manifest);
        }
        for name in ["removed", "retained"] {
            let (name, digest) = (name.parse().unwrap(), Some(digest(name)));
            repository.tags.push(Tag { name, digest, pushed_at: None, first_seen: None, lock: None });
        }
        repository
    }

    /// The uses, with the tag `removed` removed and the image `deleted` deleted.
    fn uses_of(repository: &Repository, claimed: &ClaimedDigests<'_>) -> RepositoryBlobs {
        let registry = Registry::empty("contoso".parse().unwrap(), "acr");
        let position = |tag| TagPosition { registry: 0, repository: 0, tag };
        let verdicts = [(0, Verdict::Expired), (1, Verdict::Retained)].map(|(tag, verdict)| TagVerdict {
            position: position(tag),
            verdict,
            reasons: Reasons::default(),
        });
        let removal = Removal {
            position: position(0),
            registry: registry.name.clone(),
            repository: repository.name.clone(),
            tag: "removed".parse().unwrap(),
            digest: digest("removed"),
            policy: "all".parse().unwrap(),
            policies: [].into(),
            method: RemovalMethod::Untag,
            enforce: true,
            date: Date::Pushed(Timestamp::UNIX_EPOCH),
            companion_of: None,
        };
        let deletion = Deletion {
            registry: registry.name.clone(),
            repository: repository.name.clone(),
            digest: digest("deleted"),
            tag: "deleted".parse().unwrap(),
            untagged_at: Timestamp::UNIX_EPOCH,
            free_since: None,
            eligible_at: Timestamp::UNIX_EPOCH,
            policies: Vec::new(),
            enforce: true,
            dependents: Vec::new(),
            reclaim: None,
            retain_reasons: Vec::new(),
        };
        blob_uses(&registry, repository, claimed, &verdicts, &[removal], &[deletion])
    }

    #[test]
    fn removals_and_deletions_leave_each_others_images_in_use() {
        let found = uses_of(&repository(), &ClaimedDigests::default());
        let expected = [
            // Name, size, removal, kept by removals, deletion, kept by deletions.
            ("removed", 10, Some(0), false, None, true),
            ("shared with deleted", 100, Some(0), true, Some(0), true),
            ("base", 1000, Some(0), true, None, true),
            ("deleted", 5, None, true, Some(0), false),
            ("layer", 7, None, true, Some(0), false),
            ("retained", 20, None, true, None, true),
            ("own", 50, None, true, None, true),
        ];
        let expected = expected.map(|(name, size, removal, kept_by_removals, deletion, kept_by_deletions)| BlobUse {
            blob: digest(name).prefix(),
            size,
            removal,
            kept_by_removals,
            deletion,
            kept_by_deletions,
        });
        assert_eq!(found.uses, expected);
        assert!(found.is_complete && !found.is_estimated);
        assert!(found.unsized_removals.is_empty() && found.unsized_deletions.is_empty());
    }

    #[test]
    fn a_claimed_image_stays_in_use_without_its_tag() {
        let claimed = digest("removed");
        let found = uses_of(&repository(), &ClaimedDigests(DigestSet::from_iter([&claimed])));
        let image = found.uses.iter().find(|one| one.blob == claimed.prefix()).unwrap();
        assert_eq!((image.removal, image.kept_by_removals), (Some(0), true));
    }

    #[test]
    fn images_of_unknown_size_make_removals_and_deletions_unknown() {
        let mut repository = repository();
        for name in ["removed", "deleted"] {
            let manifest = repository.manifests.get_mut(&digest(name)).unwrap();
            manifest.detail = ManifestDetail::Listed { image_size: None };
        }
        let found = uses_of(&repository, &ClaimedDigests::default());
        assert!(found.is_complete && found.is_estimated);
        assert_eq!((found.unsized_removals, found.unsized_deletions), (vec![0], vec![0]));
    }

    #[test]
    fn a_repository_with_an_unread_manifest_has_no_uses() {
        let mut repository = repository();
        repository.manifests.remove(&digest("retained"));
        assert_eq!(uses_of(&repository, &ClaimedDigests::default()), RepositoryBlobs::default());
    }
}
