//! The second check of untagged manifests that would be deleted, each by itself.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use super::evidence::{RegistryEvidence, RepositoryEvidence, UncertainEvidence};
use super::{Violation, accompanies};
use crate::domain::{
    Claims, Deletion, Deletions, Digest, Gap, GapTarget, Inventory, Manifest, Policy, PolicyMode, RegistryName,
    Repository, RepositoryName, Rules, TagName, TagSelector, UntaggedManifest,
};
use crate::engine::companion::companion_subject;
use crate::engine::mentions::{MentionIndex, former_manifests};
use crate::engine::placed_digests::PlacedDigests;

/// Returns all deletions that the facts do not support; empty if all is well.
#[must_use]
pub fn check_deletions(
    rules: &Rules,
    inventory: &Inventory,
    claims: &Claims,
    untagged: &[UntaggedManifest],
    others: &BTreeSet<(RegistryName, RepositoryName, Digest)>,
    deletions: &Deletions,
    now: Timestamp,
) -> Vec<Violation> {
    let placed = PlacedDigests::of(inventory, claims);
    check_deletions_among(rules, (inventory, claims, &placed), (untagged, others), deletions, now)
}

/// Does the same for an inventory with only some of the repositories in which digests were found.
#[expect(clippy::too_many_lines, reason = "one look at each deletion, in the order in which its facts are known")]
pub(in crate::engine) fn check_deletions_among(
    rules: &Rules,
    (inventory, claims, placed): (&Inventory, &Claims, &PlacedDigests),
    (untagged_list, others): (&[UntaggedManifest], &BTreeSet<(RegistryName, RepositoryName, Digest)>),
    deletions: &Deletions,
    now: Timestamp,
) -> Vec<Violation> {
    let mut findings = Vec::new();
    let untagged: HashMap<ManifestKey<'_>, &UntaggedManifest> =
        untagged_list.iter().map(|one| ((&one.registry, &one.repository, &one.digest), one)).collect();
    let former = former_manifests(untagged_list);
    let evidence: HashMap<&RegistryName, (RegistryEvidence<'_>, MentionIndex<'_>)> = inventory
        .registries
        .iter()
        .filter(|registry| deletions.deletable().any(|deletion| deletion.registry == registry.name))
        .map(|registry| {
            let found = (RegistryEvidence::new(registry, claims, now), MentionIndex::new(registry, claims));
            (&registry.name, found)
        })
        .collect();
    let mut around: Option<(RepositoryEvidence<'_, '_>, ManifestReferences<'_>)> = None;
    // All planned deletions, and the enforced ones: a dry run removes no dependency of anything.
    let (mut going, mut really): (HashSet<ManifestKey<'_>>, HashSet<ManifestKey<'_>>) = Default::default();
    for deletion in deletions.deletable() {
        let place = |digest| (&deletion.registry, &deletion.repository, digest);
        let all = deletion.dependents.iter().map(|along| &along.digest).chain([&deletion.digest]).map(place);
        really.extend(all.clone().filter(|_| deletion.enforce));
        going.extend(all);
    }
    for deletion in deletions.deletable() {
        let mut held = |by: String| findings.push(Violation::ProtectedTag { image: image(deletion), by });
        let registry = inventory.registry(deletion.registry.as_str());
        let repository = registry.and_then(|registry| registry.repository(deletion.repository.as_str()));
        let known = untagged.get(&(&deletion.registry, &deletion.repository, &deletion.digest)).copied();
        let apart = (deletion.registry.clone(), deletion.repository.clone(), deletion.digest.clone());
        let foreign = repository
            .filter(|_| known.is_none() && !others.contains(&apart))
            .and_then(|repository| left_by_others(rules, repository, deletion));
        let (Some(known), Some(registry), Some(repository)) = (known.or(foreign.as_ref()), registry, repository) else {
            findings.push(Violation::UnfoundedRemoval { image: image(deletion) });
            continue;
        };
        let Some((of_registry, mentions)) = evidence.get(&registry.name) else { continue };
        if around.as_ref().is_none_or(|(_, around)| !std::ptr::eq(around.repository, repository)) {
            let former = former.get(&(&registry.name, &repository.name)).map(Vec::as_slice).unwrap_or_default();
            let mentions = mentions.in_repository(registry, repository, former);
            let here = of_registry.in_repository(&mentions);
            let loose = here.uncertain_evidence(repository, placed);
            around = Some((here, ManifestReferences::new(repository, loose)));
            check_order(repository, deletions, (&deletion.registry, &untagged), &mut held);
        }
        let Some((evidence, around)) = &around else { continue };
        if !registry.lists_untagged {
            held("its registry hides what has no tag".to_owned());
        }
        evidence.failed.iter().cloned().for_each(&mut held);
        let hides = |gap: &&Gap| gap.may_hide_tag() || matches!(gap.target, GapTarget::VanishedTag(_));
        let unread = registry.gaps.iter().chain(&repository.gaps).find(hides);
        if let Some(gap) = unread {
            held(format!("unread: {}", gap.target));
        }
        if let Some(unread) = around.unread {
            held(format!("unread: {unread}"));
        }
        let (held_tags, held_digests) = evidence.holds_in(repository);
        let lost =
            repository.untagged_history.iter().filter_map(|past| past.former_tags.get(&deletion.digest)).flatten();
        let lost: Vec<&TagName> = lost.collect();
        for tag in known.tags.iter().map(|tag| &tag.name).chain(lost.iter().copied()) {
            if held_tags.contains(tag) {
                held(format!("a hold on {tag}"));
            }
            evidence.claim_on_tag(repository, tag).into_iter().for_each(&mut held);
            around.loose.ranged.claim_on(tag).into_iter().for_each(&mut held);
            evidence.mention_of(tag).into_iter().for_each(&mut held);
        }
        for tag in known.tags.iter().filter(|tag| tag.restored) {
            held(format!("its tag {} was put back", tag.name));
        }
        if repository.lock.is_some() {
            held("a lock on its repository".to_owned());
        }
        around.loose.unresolved.iter().cloned().for_each(&mut held);
        check_policies(rules, known, deletion, repository, now, &mut held);
        let goes = if deletion.enforce { &really } else { &going };
        let gone = |digest: &Digest| goes.contains(&(&deletion.registry, &deletion.repository, digest));
        let along = deletion.dependents.iter().map(|along| &along.digest);
        for digest in std::iter::once(&deletion.digest).chain(along) {
            let itself = *digest == deletion.digest;
            let own = known.manifest.as_ref().filter(|_| itself);
            let Some(manifest) = own.or_else(|| repository.manifests.get(digest)) else {
                held(format!("{digest} was not read"));
                continue;
            };
            around.check_deletion((evidence, &held_digests), digest, manifest, &gone, &mut held);
            if registry.deletes_index_contents && manifest.is_index() {
                held(format!("its registry, which deletes what index {digest} lists"));
            }
            let apart = (registry.name.clone(), repository.name.clone(), digest.clone());
            if !itself && (others.contains(&apart) || !around.is_dependent(digest, &gone)) {
                held(format!("{digest} does not depend on what is removed"));
            }
            let by_itself = untagged.contains_key(&(&deletion.registry, &deletion.repository, digest))
                || repository.untagged_history.is_some()
                    && !untagged_periods(rules, &deletion.registry, repository).is_empty();
            if !itself && by_itself {
                held(format!("{digest} is to be judged by itself"));
            }
            let own = known.tags.iter().map(|tag| &tag.name).chain(lost.iter().copied());
            let named = own.filter(|_| itself).filter_map(companion_subject);
            let subjects = manifest.subject.as_deref().cloned().into_iter().chain(named);
            for subject in subjects.filter(|one| repository.manifests.contains_key(one) && !gone(one)) {
                held(format!("{subject}, which {digest} refers to"));
            }
        }
    }
    findings
}

/// The key of a manifest.
type ManifestKey<'a> = (&'a RegistryName, &'a RepositoryName, &'a Digest);

fn image(deletion: &Deletion) -> String {
    format!("{}/{}@{}", deletion.registry, deletion.repository, deletion.digest)
}

/// Checks the grace period by the policies of then and of now.
fn check_policies(
    rules: &Rules,
    known: &UntaggedManifest,
    deletion: &Deletion,
    repository: &Repository,
    now: Timestamp,
    held: &mut impl FnMut(String),
) {
    let changed = repository.untagged.get(&deletion.digest).copied().flatten();
    let removed = known.tags.iter().map(|tag| tag.at).chain(changed).max();
    let last = check_free_period(rules, known, repository, (removed, now), held);
    let Some(last) = last else {
        return held("nobody knows when it was untagged".to_owned());
    };
    for policy in untagged_periods(rules, &known.registry, repository) {
        if !deletion.policies.contains(&policy.name) {
            held(format!("policy {} has a say as well", policy.name));
        }
    }
    let then = known.tags.iter().flat_map(|tag| &tag.policies);
    let own = || known.tags.iter().filter(|tag| !accompanies(&tag.name));
    let now_too = rules.policies.iter().filter(|policy| own().any(|tag| selects(policy, known, &tag.name)));
    for name in deletion.policies.iter().chain(then).chain(now_too.map(|policy| &policy.name)) {
        let policy = rules.policies.iter().find(|policy| policy.name == *name);
        let after = policy.and_then(|policy| match &policy.select.tags {
            TagSelector::Untagged(after) => Some(after),
            TagSelector::All | TagSelector::Globs(_) | TagSelector::Pattern(_) => policy.delete_manifest_after.as_ref(),
        });
        match after.map(|after| now.duration_since(last) >= after.duration) {
            None => held(format!("policy {name} does not say so")),
            Some(false) => held(format!("the time of policy {name} is not over")),
            Some(true) => {}
        }
        if deletion.enforce && policy.is_none_or(|policy| policy.mode != PolicyMode::Enforce) {
            held(format!("policy {name} does not enforce"));
        }
    }
    for (tag, name) in own().flat_map(|tag| tag.policies.iter().map(move |name| (tag, name))) {
        let policy = rules.policies.iter().find(|policy| policy.name == *name);
        if policy.is_some_and(|policy| !selects(policy, known, &tag.name)) {
            held(format!("policy {name} does not select {} any more", tag.name));
        }
    }
    if known.tags.iter().any(|tag| tag.policies.is_empty()) {
        held("nobody knows which policy expired one of its tags".to_owned());
    }
}

fn selects(policy: &Policy, known: &UntaggedManifest, tag: &TagName) -> bool {
    let here = policy.select.repositories.as_ref().is_none_or(|globs| globs.matches(known.repository.as_str()));
    let named = match &policy.select.tags {
        TagSelector::All => true,
        TagSelector::Globs(globs) => globs.matches(tag.as_str()),
        TagSelector::Pattern(pattern) => pattern.is_match(tag.as_str()),
        TagSelector::Untagged(_) => false,
    };
    policy.covers(&known.registry) && here && named
}

/// The policies that have manifests without a tag deleted in a repository.
fn untagged_periods<'r>(rules: &'r Rules, registry: &RegistryName, repository: &Repository) -> Vec<&'r Policy> {
    let speaks = |policy: &&Policy| {
        let Policy { select, .. } = policy;
        let here = select.registries.as_ref().is_none_or(|names| names.contains(registry));
        let there = select.repositories.as_ref().is_none_or(|globs| globs.matches(repository.name.as_str()));
        matches!(select.tags, TagSelector::Untagged(_)) && here && there
    };
    rules.policies.iter().filter(speaks).collect()
}

/// A manifest that Tagwarden took no tag from, where it is there without a tag and a policy has such manifests deleted.
fn left_by_others(rules: &Rules, repository: &Repository, deletion: &Deletion) -> Option<UntaggedManifest> {
    repository.untagged_history.as_ref()?;
    let is_listed = repository.manifests.contains_key(&deletion.digest);
    let is_meant = !untagged_periods(rules, &deletion.registry, repository).is_empty();
    (is_listed && is_meant).then(|| UntaggedManifest {
        registry: deletion.registry.clone(),
        repository: repository.name.clone(),
        digest: deletion.digest.clone(),
        tags: Vec::new(),
        manifest: None,
    })
}

/// Looks whether a manifest was found free for as long as each policy on manifests without a tag wants, and for as long as an
/// untag is to be undoable. Returns the time at which the last thing happened to it, from which other policies count.
fn check_free_period(
    rules: &Rules,
    known: &UntaggedManifest,
    repository: &Repository,
    (removed, now): (Option<Timestamp>, Timestamp),
    held: &mut impl FnMut(String),
) -> Option<Timestamp> {
    let policies = untagged_periods(rules, &known.registry, repository);
    if policies.is_empty() {
        return removed;
    }
    let Some(past) = &repository.untagged_history else {
        held("nobody knows since when it is free".to_owned());
        return removed;
    };
    let found_free = past.free_since.get(&known.digest).copied().unwrap_or(past.read_at);
    let start = removed.into_iter().chain(past.changed_at.get(&known.digest).copied()).fold(found_free, Timestamp::max);
    if now.duration_since(start).as_secs_f64() < rules.undo_window.as_secs_f64() {
        held("it is free for less than the time for which an untag is to be undoable".to_owned());
    }
    Some(start)
}

/// Looks whether there is an order in which each manifest goes after the indexes that list it and after what it refers to.
/// A manifest also refers to the image after which a tag that it had is named.
fn check_order(
    repository: &Repository,
    deletions: &Deletions,
    (registry, untagged): (&RegistryName, &HashMap<ManifestKey<'_>, &UntaggedManifest>),
    held: &mut impl FnMut(String),
) {
    let named_subjects = |digest: &Digest| -> Vec<Digest> {
        let own = untagged.get(&(registry, &repository.name, digest)).into_iter().flat_map(|known| &known.tags);
        let lost = repository.untagged_history.iter().filter_map(|past| past.former_tags.get(digest)).flatten();
        own.map(|tag| &tag.name).chain(lost).filter_map(companion_subject).collect()
    };
    let here = deletions.deletable().filter(|one| one.registry == *registry && one.repository == repository.name);
    let here = here.filter(|one| one.dependents.is_empty() && repository.untagged_history.is_some());
    let mut left: BTreeSet<&Digest> = here.map(|one| &one.digest).collect();
    loop {
        let mut blocked = HashSet::new();
        for digest in left.iter().copied() {
            let Some(manifest) = repository.manifests.get(digest) else { continue };
            blocked.extend(&manifest.children);
            let named = named_subjects(digest);
            if manifest.subject.as_deref().into_iter().chain(&named).any(|subject| left.contains(subject)) {
                blocked.insert(digest);
            }
        }
        let before = left.len();
        left.retain(|digest| blocked.contains(digest));
        if left.len() == before {
            break;
        }
    }
    if let Some(first) = left.first() {
        held(format!("{first}, which must go before itself"));
    }
}

/// What tags, lists and refers to each manifest of a repository.
struct ManifestReferences<'a> {
    repository: &'a Repository,
    tags: HashMap<&'a Digest, &'a TagName>,
    /// The tags that are named after a digest, by their prefix.
    named: HashMap<&'a str, &'a TagName>,
    parents: HashMap<&'a Digest, Vec<&'a Digest>>,
    referrers: HashMap<&'a Digest, Vec<&'a Digest>>,
    loose: UncertainEvidence<'a>,
    /// The first manifest that was not read.
    unread: Option<&'a Digest>,
}

/// The length of the prefix of such a tag: algorithm, dash, 64 hex digits.
const DIGEST_TAG_LENGTH: usize = "sha256-".len() + 64;

impl<'a> ManifestReferences<'a> {
    fn new(repository: &'a Repository, loose: UncertainEvidence<'a>) -> Self {
        let (mut holders, mut referrers) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (digest, manifest) in &repository.manifests {
            manifest.children.iter().for_each(|child| holders.entry(child).or_default().push(digest));
            manifest.subject.iter().for_each(|subject| referrers.entry(&**subject).or_default().push(digest));
        }
        let tags = repository.tags.iter();
        let named = tags.clone().filter(|tag| accompanies(&tag.name));
        let named = named.filter_map(|tag| Some((tag.name.as_str().get(..DIGEST_TAG_LENGTH)?, &tag.name))).collect();
        let tags = tags.filter_map(|tag| Some((tag.digest.as_ref()?, &tag.name))).collect();
        let unread = repository.unread().next().map(|(digest, _)| digest);
        Self { repository, tags, named, parents: holders, referrers, loose, unread }
    }

    /// Checks the tags, claims, locks, indexes and referrers of a manifest that is deleted.
    fn check_deletion(
        &self,
        (evidence, held_digests): (&RepositoryEvidence<'_, '_>, &HashSet<&Digest>),
        digest: &Digest,
        manifest: &Manifest,
        gone: &impl Fn(&Digest) -> bool,
        held: &mut impl FnMut(String),
    ) {
        let hex = digest.hex();
        let name = format!("{}-{}", digest.algorithm(), hex.get(..64).unwrap_or(&hex));
        for tag in self.tags.get(digest).into_iter().chain(self.named.get(name.as_str())) {
            held(format!("tag {tag} of {digest}"));
        }
        let manifests = &self.repository.manifests;
        let holders = self.parents.get(digest).into_iter().chain(self.referrers.get(digest)).flatten();
        holders.filter(|holder| !gone(holder)).for_each(|holder| held(format!("{holder} holds {digest}")));
        let mut open: Vec<(&Digest, Option<&Manifest>)> = vec![(digest, Some(manifest))];
        let mut seen = HashSet::new();
        while let Some((next, facts)) = open.pop() {
            if !seen.insert(next) {
                continue;
            }
            if manifests.get(next).is_some_and(|listed| listed.lock.is_some()) {
                held(format!("a lock on {next}"));
            }
            if held_digests.contains(next) {
                held(format!("a hold on {next}"));
            }
            if let Some(word) = evidence.mention_of_digest(next) {
                held(format!("the word {word}, which may mean {next}"));
            }
            let config = facts.and_then(|facts| facts.config.as_deref());
            for claimed in [Some(next), config].into_iter().flatten().filter(|digest| evidence.digests.contains(digest))
            {
                held(format!("a claim on {claimed}"));
            }
            let unread = facts.is_none_or(Manifest::has_unknown_config) && !self.repository.attached.contains(next);
            if let Some(loose) = self.loose.may_match(next, config, unread) {
                held(format!("perhaps a claim on {loose}"));
            }
            let children = facts.into_iter().flat_map(|facts| &facts.children);
            open.extend(children.map(|child| (child, manifests.get(child))));
        }
    }

    /// Returns true if a deleted index lists the manifest, or if it refers to a deleted manifest.
    fn is_dependent(&self, digest: &Digest, gone: &impl Fn(&Digest) -> bool) -> bool {
        let listed = self.parents.get(digest).into_iter().flatten().any(|index| gone(index));
        let subject = self.repository.manifests.get(digest).and_then(|facts| facts.subject.as_deref());
        listed || subject.is_some_and(gone)
    }
}
