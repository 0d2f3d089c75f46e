//! Indexes are read only where a decision asks for them, and the decision is the same as if all were read.
//!
//! A registry that knows everything gives an inventory in which nothing is read; what the decision asks for is read, and
//! decided again, until nothing is asked for. The same tags expire then as where everything was read at once. Before that,
//! and where reads fail, fewer do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use proptest::prelude::*;
use tagwarden::domain::{
    AllowUnmatched, Claims, Digest, FactSelector, Gap, GapTarget, Globs, Inventory, Keep, KeepRule, Limits, ListedKind,
    ListedManifest, Manifest, ManifestDetail, MentionedImage, Naming, Policy, PolicyLimits, PolicyMode, Reason,
    Registry, RemovalMethod, Repository, Rules, Selector, SourceOutcome, SourceState, Tag, TagPosition, TagSelector,
    UnlistedManifests, UnreadCause, UnreadKind, Verdict,
};
use tagwarden::engine::Verdicts;

use crate::properties::{IMAGES, RandomFacts, digest, id, random_facts};
use crate::scenarios::shape::registry_info;

const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A world in which every manifest was read, and one that a registry gives that only lists them.
struct Worlds {
    full: RandomFacts,
    lazy: RandomFacts,
    requested: BTreeSet<(u32, u32, Digest)>,
    causes: BTreeMap<Digest, UnreadCause>,
}

impl Worlds {
    fn new(mut full: RandomFacts) -> Self {
        for registry in &mut full.inventory.registries {
            let removal = registry.removal;
            registry.repositories.iter_mut().for_each(|repository| make_possible(repository, removal));
        }
        let mut lazy = full.clone();
        lazy.inventory.registries.iter_mut().flat_map(|registry| &mut registry.repositories).for_each(leave_unread);
        Self { full, lazy, requested: BTreeSet::new(), causes: BTreeMap::new() }
    }

    /// Reads what the decision asks for until it asks for nothing more. `fails` says which reads do.
    fn settle(&mut self, fails: impl Fn(&Digest) -> bool) -> Result<Verdicts, TestCaseError> {
        let expected = self.full.goes().0;
        loop {
            let (verdicts, plan) = self.lazy.decide();
            prop_assert_eq!(self.lazy.findings(&verdicts, &plan), Vec::<String>::new());
            let early = self.lazy.goes().0;
            prop_assert!(early.is_subset(&expected), "{early:?} {expected:?}");
            let mut asked = false;
            for one in &verdicts.unread_indexes {
                if self.requested.insert((one.registry, one.repository, one.digest.clone())) {
                    asked = true;
                    self.causes.insert(one.digest.clone(), one.cause);
                    self.read(one.registry as usize, one.repository as usize, &one.digest, &fails);
                }
            }
            if !asked {
                return Ok(verdicts);
            }
        }
    }

    fn read(&mut self, registry: usize, repository: usize, digest: &Digest, fails: &impl Fn(&Digest) -> bool) {
        let full = &self.full.inventory.registries[registry].repositories[repository];
        let lazy = &mut self.lazy.inventory.registries[registry].repositories[repository];
        if fails(digest) {
            lazy.gaps.push(Gap {
                target: GapTarget::Manifest(digest.clone()),
                kind: "http-500",
                has_help: false,
                message: "".into(),
            });
            lazy.gaps.sort();
        } else if lazy.unlisted == UnlistedManifests::None {
            read_upward(full, lazy, digest);
        } else {
            read_downward(full, lazy, digest);
        }
    }
}

/// Reads an index of a registry that lists tags alone: what it lists is known then, by its type.
fn read_downward(full: &Repository, lazy: &mut Repository, digest: &Digest) {
    let manifest = full.manifests[digest].clone();
    for child in &manifest.children {
        let Some(inner) = full.manifests.get(child) else { continue };
        let mut seen = inner.clone();
        if !inner.children.is_empty() {
            seen.children.clear();
            seen.detail = ManifestDetail::Unread { image_size: None, kind: UnreadKind::Index };
        }
        lazy.manifests.entry(child.clone()).or_insert(seen);
    }
    lazy.manifests.insert(digest.clone(), manifest);
}

/// Takes from a repository what no registry can have: circles, images that refer to others, and, in a registry that only
/// lists, what only reading tells.
fn make_possible(repository: &mut Repository, removal: RemovalMethod) {
    let number = |digest: &Digest| (0..IMAGES).position(|image| crate::properties::digest(image) == *digest);
    let there: BTreeSet<Digest> = repository.manifests.keys().cloned().collect();
    let tagged: BTreeSet<Digest> = repository.tags.iter().filter_map(|tag| tag.digest.clone()).collect();
    for (digest, manifest) in &mut repository.manifests {
        let own = number(digest);
        manifest.children.retain(|child| there.contains(child) && number(child) < own);
        manifest.subject = manifest.subject.take().filter(|subject| number(subject) < own);
        if !manifest.children.is_empty() && tagged.contains(digest) && removal == RemovalMethod::Untag {
            // What a tagged index refers to is not looked for where only the tag goes.
            manifest.subject = None;
        }
        (manifest.config, manifest.created_at, manifest.blobs) = (None, None, [].into());
        manifest.detail = ManifestDetail::Full;
        manifest.media_type = match (manifest.children.is_empty(), manifest.subject.is_some()) {
            (false, false) if own.is_some_and(|own| own % 2 == 0) => DOCKER_LIST.into(),
            (false, _) => OCI_INDEX.into(),
            (true, true) => OCI_IMAGE.into(),
            (true, false) => DOCKER_IMAGE.into(),
        };
        if kind(manifest) == ListedKind::Image {
            manifest.detail = ManifestDetail::Listed { image_size: None };
        }
    }
}

fn kind(manifest: &Manifest) -> ListedKind {
    match &*manifest.media_type {
        OCI_INDEX | DOCKER_LIST => ListedKind::Index,
        OCI_IMAGE => ListedKind::Artifact,
        _ => ListedKind::Image,
    }
}

/// Makes of a repository what a registry lists of it, with its tagged artifacts read.
fn leave_unread(repository: &mut Repository) {
    let full = repository.clone();
    let row = |(digest, manifest): (&Digest, &Manifest)| ListedManifest {
        digest: digest.clone(),
        media_type: Arc::clone(&manifest.media_type),
        image_size: None,
        lock: manifest.lock,
        kind: kind(manifest),
    };
    repository.manifests.clear();
    repository.unlisted = UnlistedManifests::None;
    repository.listed = full.manifests.iter().map(row).collect();
    let tagged: BTreeSet<Digest> = full.tags.iter().filter_map(|tag| tag.digest.clone()).collect();
    repository.include_listed(&tagged);
    repository.include_listed(&full.untagged.keys().cloned().collect());
    for digest in &tagged {
        if full.manifests.get(digest).is_some_and(|manifest| kind(manifest) == ListedKind::Artifact) {
            read_upward(&full, repository, digest);
        }
    }
}

/// Reads a manifest, and what it refers to as far as those are artifacts.
fn read_upward(full: &Repository, lazy: &mut Repository, digest: &Digest) {
    let mut next = Some(digest.clone());
    while let Some(digest) = next.take() {
        let Some(manifest) = full.manifests.get(&digest) else { return };
        lazy.include_listed(&BTreeSet::from([digest.clone()]));
        lazy.include_listed(&manifest.children.iter().chain(manifest.subject.as_deref()).cloned().collect());
        lazy.manifests.insert(digest, manifest.clone());
        next = manifest.subject.as_deref().cloned();
        next = next.filter(|subject| full.manifests.get(subject).is_some_and(|one| kind(one) == ListedKind::Artifact));
    }
}

/// Facts in which manifests may be due for deletion.
fn facts() -> impl Strategy<Value = RandomFacts> {
    let due = prop_oneof![3 => Just(None), 1 => (0..IMAGES).prop_map(Some)];
    (random_facts(), due).prop_map(|(mut facts, due)| {
        for repository in facts.inventory.registries.iter_mut().flat_map(|registry| &mut registry.repositories) {
            let due = due.map(digest).filter(|due| repository.manifests.contains_key(due));
            repository.untagged.extend(due.map(|due| (due, None)));
        }
        facts
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_tags_expire_as_where_everything_was_read(world in facts()) {
        let mut worlds = Worlds::new(world);
        let verdicts = worlds.settle(|_| false)?;
        prop_assert_eq!(worlds.lazy.goes().0, worlds.full.goes().0);
        let waiting = |reason: &Reason| matches!(reason, Reason::IndexUnread { .. });
        prop_assert!(!verdicts.tags.iter().any(|found| found.reasons.iter().any(waiting)));
        // Where an untag leaves the manifest for certain, an untagged index holds no tags, and is not read for them.
        let keeps = |registry: &Registry| registry.repositories.iter().any(|one| registry.certainly_keeps_untagged(one));
        if !worlds.full.inventory.registries.iter().any(keeps) {
            prop_assert!(worlds.lazy.goes().1.is_subset(&worlds.full.goes().1));
        }
    }

    #[test]
    fn what_is_in_use_and_not_listed_is_found(world in random_facts(), listed in any::<bool>()) {
        let unlisted = if listed { UnlistedManifests::InListedIndexes } else { UnlistedManifests::InUnreadIndexes };
        // After each read, and at the end, what expires also does where everything was read at once.
        with_tags_alone(world, unlisted).settle(|_| false)?;
    }

    #[test]
    fn reads_that_fail_only_keep_more(world in facts(), failing in prop::collection::btree_set(0..IMAGES, 0..4)) {
        let failing: BTreeSet<Digest> = failing.into_iter().map(digest).collect();
        Worlds::new(world).settle(|digest| failing.contains(digest))?;
    }
}

/// A registry that lists tags alone: a world of one repository in which everything hangs on tags, and every claimed digest
/// is claimed in that repository.
fn with_tags_alone(mut facts: RandomFacts, unlisted: UnlistedManifests) -> Worlds {
    facts.inventory.registries.truncate(1);
    for registry in &mut facts.inventory.registries {
        registry.repositories.truncate(1);
        registry.gaps.clear();
        for repository in &mut registry.repositories {
            make_possible(repository, registry.removal);
            repository.untagged.clear();
            repository.gaps.clear();
            make_reachable(repository);
            if unlisted == UnlistedManifests::InListedIndexes && registry.removal == RemovalMethod::Untag {
                // The tag of an index within a retained index is decided like any other: that this one contains it is not
                // known, and keeps it in the registry.
                let inner: BTreeSet<Digest> =
                    repository.manifests.values().flat_map(|manifest| manifest.children.clone()).collect();
                let is_index = |digest: &Digest| repository.manifests.get(digest).is_some_and(Manifest::is_index);
                let is_inner = |digest: &Digest| inner.contains(digest) && is_index(digest);
                repository.tags.retain(|tag| !tag.digest.as_ref().is_some_and(is_inner));
            }
            repository.unlisted = UnlistedManifests::None;
        }
    }
    let name = facts.inventory.registries.iter().flat_map(|one| &one.repositories).map(|one| one.name.clone()).next();
    for source in &mut facts.claims.sources {
        let SourceState::Complete { claims, mentions, .. } = &mut source.state else { continue };
        for claim in claims.iter_mut().filter(|claim| claim.image.digest.is_some()) {
            (claim.image.host, claim.image.repository) = (None, name.clone());
            claim.naming = Naming::Written;
        }
        mentions.retain(|mention| matches!(mention.image, MentionedImage::Tag(_)));
    }
    facts.claims.sort();
    let mut lazy = facts.clone();
    for repository in lazy.inventory.registries.iter_mut().flat_map(|registry| &mut registry.repositories) {
        hide_untagged(repository, unlisted);
    }
    Worlds { full: facts, lazy, requested: BTreeSet::new(), causes: BTreeMap::new() }
}

/// Leaves what tags lead to: images, and indexes of images and indexes.
fn make_reachable(repository: &mut Repository) {
    let mut open: Vec<Digest> = repository.tags.iter().filter_map(|tag| tag.digest.clone()).collect();
    let mut reached = BTreeSet::new();
    while let Some(digest) = open.pop() {
        let Some(manifest) = repository.manifests.get_mut(&digest) else { continue };
        if reached.insert(digest) {
            (manifest.subject, manifest.lock) = (None, None);
            manifest.media_type = if manifest.children.is_empty() { DOCKER_IMAGE } else { DOCKER_LIST }.into();
            open.extend(manifest.children.iter().cloned());
        }
    }
    repository.manifests.retain(|digest, _| reached.contains(digest));
}

/// Makes of a repository what a registry tells of its tags: nothing of what indexes contain, or only the images.
fn hide_untagged(repository: &mut Repository, unlisted: UnlistedManifests) {
    let full = repository.clone();
    repository.unlisted = unlisted;
    repository.manifests.clear();
    for digest in full.tags.iter().filter_map(|tag| tag.digest.as_ref()) {
        let Some(manifest) = full.manifests.get(digest) else { continue };
        let mut seen = manifest.clone();
        if !manifest.children.is_empty() {
            seen.children = images_in(&full, digest)
                .into_iter()
                .filter(|_| unlisted == UnlistedManifests::InListedIndexes)
                .collect();
            seen.detail = match unlisted {
                UnlistedManifests::InListedIndexes => ManifestDetail::Listed { image_size: None },
                _ => ManifestDetail::Unread { image_size: None, kind: UnreadKind::Index },
            };
            for child in &seen.children {
                repository.manifests.entry(child.clone()).or_insert_with(|| full.manifests[child].clone());
            }
        }
        repository.manifests.insert(digest.clone(), seen);
    }
}

/// The images in an index at any depth.
fn images_in(full: &Repository, index: &Digest) -> BTreeSet<Digest> {
    let children = full.manifests.get(index).into_iter().flat_map(|manifest| &manifest.children);
    let inside = |child: &Digest| match full.manifests.get(child) {
        Some(manifest) if manifest.children.is_empty() => BTreeSet::from([child.clone()]),
        _ => images_in(full, child),
    };
    children.flat_map(inside).collect()
}

/// A manifest of a world: a number, what it lists, and what it refers to.
type Row = (u8, &'static [u8], Option<u8>);

/// A world of one repository whose tags go unless their names begin with `keep`.
fn world(rows: &[Row], tags: &[(&str, u8)], claimed: &[u8]) -> RandomFacts {
    let mut repository = Repository::empty("app".parse().unwrap());
    for &(image, children, subject) in rows {
        let media_type = match (children, subject) {
            ([], None) => DOCKER_IMAGE,
            ([], Some(_)) => OCI_IMAGE,
            _ => OCI_INDEX,
        };
        let manifest = Manifest {
            media_type: media_type.into(),
            size: 7,
            config: None,
            blobs: [].into(),
            children: children.iter().map(|&child| digest(child)).collect(),
            subject: subject.map(|subject| Box::new(digest(subject))),
            created_at: None,
            lock: None,
            detail: ManifestDetail::Full,
        };
        repository.manifests.insert(digest(image), manifest);
    }
    for (name, image) in tags {
        let name = name.strip_prefix("sig-").map_or_else(|| (*name).to_owned(), signature_of);
        let (name, digest) = (name.parse().unwrap(), Some(digest(*image)));
        repository.tags.push(Tag { name, digest, pushed_at: None, first_seen: None, lock: None });
    }
    let registry = Registry {
        hosts: vec!["contoso.example".into()],
        repositories: vec![repository],
        ..Registry::empty("contoso".parse().unwrap(), "acr")
    };
    let claims = claimed.iter().map(|&image| id(&digest(image))).collect();
    let source = SourceOutcome {
        name: "aks".parse().unwrap(),
        kind: "kubernetes",
        registries: None,
        state: SourceState::Complete {
            claims,
            unresolved: Vec::new(),
            mentions: Vec::new(),
            as_of: None,
            notes: Vec::new(),
        },
    };
    let mut facts = RandomFacts {
        rules: Rules {
            policies: vec![policy()],
            limits: Limits::default(),
            timezone: TimeZone::UTC,
            undo_window: Duration::from_hours(24),
        },
        inventory: Inventory { registries: vec![registry] },
        claims: Claims { sources: vec![source], ..Claims::default() },
    };
    facts.inventory.sort();
    facts.claims.sort();
    facts
}

/// The name of the signature of an image by its number.
fn signature_of(image: &str) -> String {
    format!("{}.sig", digest(image.parse().unwrap()).to_string().replace(':', "-"))
}

fn policy() -> Policy {
    Policy {
        name: "builds".parse().unwrap(),
        description: None,
        owner: None,
        select: Selector {
            registries: None,
            repositories: None,
            tags: TagSelector::All,
            facts: FactSelector::default(),
        },
        group_by: Vec::new(),
        keep: Keep::Rules(vec![KeepRule::Matching(Globs::new(&["keep*"]).unwrap())]),
        delete_manifest_after: None,
        mode: PolicyMode::Enforce,
        limits: PolicyLimits::default(),
        schedule: None,
        allow_unmatched: AllowUnmatched::None,
        lines: BTreeMap::new(),
        file: "policies.yaml".into(),
        revision: "sha256:0".into(),
    }
}

/// The tags that go once everything that is asked for is read, and what was read.
fn settled(facts: RandomFacts) -> (Vec<String>, Vec<(u8, UnreadCause)>) {
    let mut worlds = Worlds::new(facts);
    worlds.settle(|_| false).unwrap();
    assert_eq!(worlds.lazy.goes().0, worlds.full.goes().0);
    let number = |wanted: &Digest| (0..=u8::MAX).find(|image| digest(*image) == *wanted).unwrap();
    let read = worlds.causes.iter().map(|(digest, cause)| (number(digest), *cause));
    let mut read: Vec<_> = read.collect();
    read.sort_unstable();
    let shown = |name: &String| {
        let name = name.strip_prefix("contoso/app:").unwrap();
        if name.rsplit_once('.').is_some_and(|(_, kind)| kind == "sig") { "sig".to_owned() } else { name.to_owned() }
    };
    (worlds.lazy.goes().0.iter().map(shown).collect(), read)
}

fn going(tags: &[&str]) -> Vec<String> {
    tags.iter().map(|tag| (*tag).to_owned()).collect()
}

#[test]
fn a_kept_index_is_read_for_the_tags_of_its_images_and_an_expiring_one_is_not() {
    let rows: [Row; 6] =
        [(1, &[], None), (2, &[], None), (3, &[1], None), (4, &[2], None), (5, &[], None), (6, &[5], None)];
    let tags = [("keep", 3), ("keep-amd64", 9), ("old", 4), ("amd64", 1), ("old-amd64", 2), ("older", 6)];
    let (gone, read) = settled(world(&rows, &tags, &[]));
    assert_eq!((gone, read), (going(&["old", "old-amd64", "older"]), vec![(3, UnreadCause::Kept)]));
}

#[test]
fn nothing_is_read_where_nothing_goes_or_nothing_that_stays_is_an_index() {
    let rows: [Row; 3] = [(1, &[], None), (2, &[1], None), (3, &[], None)];
    assert_eq!(settled(world(&rows, &[("keep-1", 2), ("keep-2", 3)], &[])), (vec![], vec![]));
    assert_eq!(settled(world(&rows, &[("old", 2), ("keep", 3)], &[])), (going(&["old"]), vec![]));
}

#[test]
fn a_platform_in_use_holds_the_index_around_it() {
    // It has a tag of its own, which says nothing of the index.
    let rows: [Row; 5] = [(1, &[], None), (2, &[], None), (3, &[1, 2], None), (4, &[], None), (5, &[4], None)];
    let tags = [("v1", 3), ("v1-amd64", 1), ("v1-arm64", 2), ("v0", 5)];
    let (gone, read) = settled(world(&rows, &tags, &[1]));
    assert_eq!(gone, going(&["v0"]));
    assert_eq!(read, [(3, UnreadCause::Claimed), (5, UnreadCause::Claimed)]);
}

#[test]
fn an_index_in_use_is_no_reason_to_read_those_that_go() {
    let rows: [Row; 4] = [(1, &[], None), (2, &[1], None), (3, &[], None), (4, &[3], None)];
    let (gone, read) = settled(world(&rows, &[("v1", 2), ("v0", 4)], &[2]));
    assert_eq!((gone, read), (going(&["v0"]), vec![(2, UnreadCause::Claimed)]));
    // Without a tag, an index around it is what keeps it.
    let rows: [Row; 4] = [(1, &[], None), (2, &[1], None), (3, &[2], None), (4, &[1], None)];
    assert_eq!(settled(world(&rows, &[("v1", 3), ("v0", 4)], &[2])).0, going(&["v0"]));
}

#[test]
fn an_untagged_index_may_refer_to_what_stays() {
    let rows: [Row; 5] = [(1, &[], None), (2, &[], None), (3, &[2], Some(1)), (4, &[], None), (5, &[4], None)];
    let (gone, read) = settled(world(&rows, &[("keep", 1), ("part", 2), ("old", 5)], &[]));
    assert_eq!((gone, read), (going(&["old"]), vec![(3, UnreadCause::Kept)]));
}

#[test]
fn the_signature_of_a_platform_that_two_indexes_share_stays_with_the_one_that_stays() {
    let rows: [Row; 4] = [(1, &[], None), (2, &[1], None), (3, &[1], None), (4, &[], None)];
    let tags = [("keep-release", 2), ("build", 3), ("sig-1", 4)];
    assert_eq!(settled(world(&rows, &tags, &[])).0, going(&["build"]));
    let mut certain = world(&rows, &tags, &[]);
    certain.inventory.registries[0].info = Some(registry_info("off"));
    assert_eq!(settled(certain).0, going(&["build"]), "the untag leaves the image, and its signature matters");
}

#[test]
fn the_signature_of_a_platform_goes_with_its_index() {
    let rows: [Row; 4] = [(1, &[], None), (2, &[1], None), (3, &[], None), (4, &[], None)];
    let (gone, read) = settled(world(&rows, &[("keep", 3), ("build", 2), ("sig-1", 4)], &[]));
    assert_eq!((gone, read), (going(&["build", "sig"]), vec![(2, UnreadCause::Companions)]));
}

#[test]
fn what_an_artifact_refers_to_is_read_up_to_the_image() {
    // The signature of an SBOM without a tag of an image that stays.
    let rows: [Row; 4] = [(1, &[], None), (2, &[], Some(1)), (3, &[], Some(2)), (4, &[], None)];
    assert_eq!(settled(world(&rows, &[("keep", 1), ("sbom-sig", 3), ("old", 4)], &[])).0, going(&["old"]));
}

#[test]
fn where_the_untag_leaves_the_manifest_no_index_is_read_for_its_images() {
    let rows: [Row; 3] = [(1, &[], None), (2, &[1], None), (3, &[], None)];
    let tags = [("keep", 2), ("amd64", 1), ("old", 3)];
    let mut facts = world(&rows, &tags, &[]);
    assert_eq!(settled(facts.clone()), (going(&["old"]), vec![(2, UnreadCause::Kept)]));
    facts.inventory.registries[0].info = Some(registry_info("off"));
    assert_eq!(settled(facts.clone()), (going(&["amd64", "old"]), vec![]));
    facts.inventory.registries[0].repositories[0].untagged.insert(digest(3), None);
    assert_eq!(settled(facts).0, going(&["old"]), "something is due for deletion");
}

#[test]
fn an_index_that_goes_only_on_paper_is_read_where_its_images_would_really_go() {
    let rows: [Row; 2] = [(1, &[], None), (2, &[1], None)];
    let mut facts = world(&rows, &[("trial", 2), ("amd64", 1)], &[]);
    let tags = TagSelector::Globs(Globs::new(&["trial"]).unwrap());
    let select = Selector { registries: None, repositories: None, tags, facts: FactSelector::default() };
    let trials = Policy { name: "trials".parse().unwrap(), select, mode: PolicyMode::DryRun, ..policy() };
    facts.rules.policies.push(trials);
    let mut worlds = Worlds::new(facts);
    let before = worlds.lazy.goes();
    assert_eq!((before.0.len(), before.1.len()), (2, 0));
    worlds.settle(|_| false).unwrap();
    assert_eq!(worlds.causes, BTreeMap::from([(digest(2), UnreadCause::Kept)]));
    assert_eq!(worlds.lazy.goes().1, BTreeSet::new());
}

#[test]
fn where_manifests_go_with_their_tags_everything_is_read() {
    let rows: [Row; 3] = [(1, &[], None), (2, &[1], None), (3, &[], Some(1))];
    let mut facts = world(&rows, &[("old", 2), ("older", 1)], &[]);
    facts.inventory.registries[0].removal = RemovalMethod::DeleteManifest;
    let (gone, read) = settled(facts);
    assert_eq!((gone, read), (going(&["old", "older"]), vec![(2, UnreadCause::Kept), (3, UnreadCause::Kept)]));
}

#[test]
fn before_a_deletion_everything_is_read() {
    let rows: [Row; 4] = [(1, &[], None), (2, &[1], None), (3, &[], Some(1)), (4, &[], None)];
    let mut facts = world(&rows, &[("keep", 2)], &[]);
    facts.inventory.registries[0].repositories[0].untagged.insert(digest(4), None);
    assert_eq!(settled(facts), (vec![], vec![(2, UnreadCause::Deletions), (3, UnreadCause::Deletions)]));
}

#[test]
fn unread_is_undecided_and_names_the_index() {
    let rows: [Row; 3] = [(1, &[], None), (2, &[1], None), (3, &[], None)];
    let worlds = Worlds::new(world(&rows, &[("keep", 2), ("old", 3)], &[]));
    let (verdicts, plan) = worlds.lazy.decide();
    assert!(plan.removals.is_empty());
    let old = verdicts.at(TagPosition { registry: 0, repository: 0, tag: 1 }).unwrap();
    assert_eq!(old.verdict, Verdict::Undecided);
    let unread = Reason::IndexUnread { index: Box::new(digest(2)), count: 1 };
    assert!(old.reasons.contains(&unread), "{:?}", old.reasons);
}

#[test]
fn an_index_is_read_if_something_in_use_is_listed_and_nothing_leads_to_it() {
    let rows: [Row; 3] = [(1, &[], None), (2, &[1, 3], None), (3, &[], None)];
    let full = world(&rows, &[("old", 2), ("older", 3)], &[1]);
    let mut lazy = full.clone();
    let repository = &mut lazy.inventory.registries[0].repositories[0];
    repository.unlisted = UnlistedManifests::None;
    // The list of what the index contains leaves out the image in use, which has a row of its own.
    let index = repository.manifests.get_mut(&digest(2)).unwrap();
    (index.children, index.detail) = (vec![digest(3)], ManifestDetail::Listed { image_size: None });
    let image = repository.manifests.remove(&digest(1)).unwrap();
    let (digest_of_image, media_type) = (digest(1), image.media_type);
    let row =
        ListedManifest { digest: digest_of_image, media_type, image_size: None, lock: None, kind: ListedKind::Image };
    repository.listed.push(row);
    let mut worlds = Worlds { full, lazy, requested: BTreeSet::new(), causes: BTreeMap::new() };
    worlds.settle(|_| false).unwrap();
    assert_eq!(worlds.causes, BTreeMap::from([(digest(2), UnreadCause::Claimed)]));
    assert_eq!(worlds.lazy.goes().0, worlds.full.goes().0);
}
