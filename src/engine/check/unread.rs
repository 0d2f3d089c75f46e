//! Unread manifests, seen from a removal: nothing is removed while an unread manifest could contain it.

use std::collections::BTreeSet;

use super::evidence::RepositoryEvidence;
use super::ties::Ties;
use super::{TagRemoval, TagSet, Violation, image};
use crate::domain::{
    Digest, DigestMap, DigestSet, Manifest, Registry, Removal, RemovalMethod, Repository, UnlistedContent, UnreadKind,
    is_docker_list_type,
};
use crate::engine::placed_digests::PlacedDigests;

/// Checks whether an unread index or artifact could contain a removed tag.
pub(super) fn check_unread(
    registry: &Registry,
    ties: &Ties<'_>,
    going: &[TagRemoval<'_>],
    (evidence, placed): (&RepositoryEvidence<'_, '_>, &PlacedDigests),
    findings: &mut Vec<Violation>,
) {
    let repository = ties.repository;
    let mut unread: DigestMap<&Digest, UnreadKind> = repository.unread().collect();
    if registry.removal == RemovalMethod::DeleteManifest {
        let partial = repository
            .manifests
            .iter()
            .filter(|(_, manifest)| repository.unlisted_content(manifest) == Some(UnlistedContent::Indexes));
        unread.extend(partial.map(|(digest, _)| (digest, UnreadKind::Index)));
    }
    let manifests = || repository.manifests.values();
    let hidden: BTreeSet<UnlistedContent> = manifests().filter_map(|one| repository.unlisted_content(one)).collect();
    let nothing_unread = unread.is_empty() && hidden.is_empty() && !manifests().any(Manifest::is_index_by_list);
    if nothing_unread || going.is_empty() {
        return;
    }
    let unlisted = evidence.unlisted_in_use(repository, hidden);
    let held = UnreadContent { unlisted, ..UnreadContent::new(registry, ties, going, evidence, unread) };
    let loose = evidence.uncertain_evidence(repository, placed);
    for one in going {
        let ids = loose.may_match(one.digest, None, true).is_some();
        if let Some(by) = held.retained_by(one, ids) {
            findings.push(Violation::ProtectedTag { image: one.image(), by });
        }
    }
}

/// Checks whether a removal would be enforced although an unread index may contain it, and the removal of that index's
/// tag is a dry run, or refused.
pub(super) fn check_enforced_unread(
    registry: &Registry,
    ties: &Ties<'_>,
    (removals, really): (&[&Removal], &[&Removal]),
    findings: &mut Vec<Violation>,
) {
    let repository = ties.repository;
    if !repository.unread().any(|(_, kind)| kind == UnreadKind::Index) {
        return;
    }
    let really_gone = TagSet::of(repository, really.iter().map(|removal| removal.position.tag));
    let on_paper = removals.iter().filter(|removal| !really_gone.contains(removal.position.tag));
    let staying = on_paper.filter_map(|removal| repository.manifests.get_key_value(&removal.digest));
    let staying: Vec<&Digest> = staying.map(|(digest, _)| digest).collect();
    let kept = kept_with(ties, staying, registry.removal == RemovalMethod::DeleteManifest);
    let unread = repository.unread().find(|(digest, kind)| *kind == UnreadKind::Index && kept.contains(digest));
    if let Some((index, _)) = unread {
        let why = format!("unread: {index} may hold it");
        let found = really.iter().map(|removal| Violation::WronglyEnforced { image: image(removal), why: why.clone() });
        findings.extend(found);
    }
}

/// The unread manifests of a repository, and what they could contain after the removal of some of its tags.
struct UnreadContent<'a> {
    repository: &'a Repository,
    unread: DigestMap<&'a Digest, UnreadKind>,
    /// An unread manifest that is, or may be, retained: it could contain anything.
    staying: Option<&'a Digest>,
    /// True if something is in use that no tag of its own explains.
    used_inside: bool,
    /// What may be in use and is not listed.
    unlisted: BTreeSet<UnlistedContent>,
    /// True if something in use has no tag, and no manifest is known to list it.
    unexplained: bool,
    /// True if an image in a retained index is decided like any other.
    judged_alike: bool,
}

impl<'a> UnreadContent<'a> {
    fn new(
        registry: &Registry,
        ties: &Ties<'a>,
        going: &[TagRemoval<'_>],
        evidence: &RepositoryEvidence<'_, '_>,
        unread: DigestMap<&'a Digest, UnreadKind>,
    ) -> Self {
        let repository = ties.repository;
        let whole_manifests = registry.removal == RemovalMethod::DeleteManifest;
        let gone = TagSet::of(repository, going.iter().map(|one| one.removal.position.tag));
        let tags = (0_u32..).zip(&repository.tags);
        let left: DigestSet<&Digest> =
            tags.filter(|(at, _)| !gone.contains(*at)).filter_map(|(_, tag)| tag.digest.as_ref()).collect();
        let tagged: DigestSet<&Digest> = repository.tags.iter().filter_map(|tag| tag.digest.as_ref()).collect();
        let (_, held) = evidence.holds_in(repository);
        let used = |digest: &Digest| {
            evidence.digests.contains(digest) || held.contains(digest) || evidence.mention_of_digest(digest).is_some()
        };
        let met = repository
            .manifests
            .iter()
            .filter(|(digest, manifest)| used(digest) || manifest.config.as_deref().is_some_and(used));
        let met = met.map(|(digest, _)| digest);
        let listed = repository.listed.iter().map(|row| &row.digest).filter(|digest| used(digest));
        let in_use: Vec<&Digest> = met.chain(listed).chain(tagged.iter().copied().filter(|one| used(one))).collect();
        let accounted =
            |digest: &Digest| left.contains(digest) && repository.manifests.get(digest).is_some_and(Manifest::is_index);
        let used_inside = in_use.iter().any(|digest| !accounted(digest));
        let inside: DigestSet<&Digest> =
            repository.manifests.values().flat_map(|manifest| &manifest.children).collect();
        let attached = |digest: &Digest| repository.manifests.get(digest).is_some_and(|one| one.subject.is_some());
        let unexplained =
            in_use.iter().any(|digest| !tagged.contains(digest) && !inside.contains(digest) && !attached(digest));
        let kept = kept_with(ties, left.into_iter().chain(in_use).collect(), whole_manifests);
        let may_refer = |digest: &Digest| {
            let met = repository.manifests.get(digest).map(|manifest| &*manifest.media_type);
            let listed = repository.listed_manifest(digest).map(|row| &*row.media_type);
            !met.or(listed).is_some_and(is_docker_list_type)
        };
        let may_stay = |digest: &Digest, kind: UnreadKind| match kind {
            UnreadKind::Index => {
                whole_manifests || kept.contains(digest) || may_refer(digest) && !tagged.contains(digest)
            }
            UnreadKind::Artifact => whole_manifests,
        };
        let staying = unread.iter().filter(|&(&digest, &kind)| may_stay(digest, kind)).map(|(&digest, _)| digest).min();
        let judged_alike = registry.certainly_keeps_untagged(repository);
        Self { repository, unread, staying, used_inside, unlisted: BTreeSet::new(), unexplained, judged_alike }
    }

    fn retained_by(&self, one: &TagRemoval<'_>, ids: bool) -> Option<String> {
        let manifest = self.repository.manifests.get(one.digest);
        let subject = manifest.and_then(|manifest| manifest.subject.as_deref());
        let accompanies = one.removal.companion_of.is_some() || subject.is_some();
        let of_known_type = manifest.is_some_and(Manifest::is_index);
        if self.unread.contains_key(one.digest) && !of_known_type {
            return Some("it was not read, and may accompany an image that stays".to_owned());
        }
        if let Some(index) = self.staying.filter(|_| accompanies || !self.judged_alike) {
            return Some(format!("unread: {index} may hold it"));
        }
        if self.used_inside || self.unexplained || !self.unlisted.is_empty() || ids {
            let inside = self.unread_inside(one.digest, ids)?;
            return Some(format!("unread: {inside} is in it and may hold an image in use"));
        }
        None
    }

    /// Returns an unread manifest in an image, at any depth: an index, any if a configuration is searched, or what may
    /// contain something in use that is not listed.
    fn unread_inside(&self, digest: &Digest, any: bool) -> Option<&'a Digest> {
        let mut seen = DigestSet::default();
        let mut open = vec![digest];
        while let Some(next) = open.pop() {
            if !seen.insert(next) {
                continue;
            }
            let found = self.unread.get_key_value(next);
            if let Some((found, _)) = found.filter(|(_, kind)| any || self.used_inside && **kind == UnreadKind::Index) {
                return Some(*found);
            }
            let Some((met, manifest)) = self.repository.manifests.get_key_value(next) else { continue };
            let hidden = self.repository.unlisted_content(manifest);
            if hidden.is_some_and(|hidden| self.unlisted.contains(&hidden))
                || self.unexplained && manifest.is_index_by_list()
            {
                return Some(met);
            }
            open.extend(&manifest.children);
        }
        None
    }
}

/// Returns everything that is retained with some digests, see [`Ties::held_by`].
fn kept_with<'a>(ties: &Ties<'a>, mut open: Vec<&'a Digest>, whole_manifests: bool) -> DigestSet<&'a Digest> {
    let mut kept = DigestSet::default();
    while let Some(digest) = open.pop() {
        if kept.insert(digest) {
            open.extend(ties.held_by(digest, whole_manifests));
        }
    }
    kept
}
