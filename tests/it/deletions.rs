//! What holds of every deletion of untagged manifests, whatever the facts.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tagwarden::domain::{
    Claim, Deletion, Deletions, Digest, FactSelector, Keep, Lock, Manifest, ManifestDetail, Policy, PolicyMode,
    RegistryName, RemovedTag, RepositoryName, Selector, SourceState, Tag, TagSelector, UntaggedHistory,
    UntaggedManifest, WrittenDuration,
};
use tagwarden::engine;

use crate::properties::{
    IMAGES, RandomFacts, Shuffle, claim, digest, gap, mention, now, policy, random_facts, tag_name,
};

type Place = (RegistryName, RepositoryName, Digest);

/// A world with manifests that tags were taken from.
#[derive(Debug, Clone)]
struct CleanupFacts {
    world: RandomFacts,
    untagged: Vec<UntaggedManifest>,
    others: BTreeSet<Place>,
}

/// What is drawn of one untagged manifest: where, which, its tags with age in hours and policies, and when it changed.
type RandomInput = (bool, bool, u8, Vec<(String, i64, Vec<&'static str>, bool)>, Option<i64>);

fn random_input() -> impl Strategy<Value = RandomInput> {
    let policies = prop_oneof![
        6 => Just(vec!["one"]),
        1 => Just(vec![]),
        1 => Just(vec!["one", "two"]),
        1 => Just(vec!["gone"]),
    ];
    let tag = (tag_name(), 1..800i64, policies, prop::bool::weighted(0.05));
    let changed = prop_oneof![3 => Just(None), 1 => (1..800i64).prop_map(Some)];
    (any::<bool>(), any::<bool>(), 0..IMAGES, prop::collection::vec(tag, 1..3), changed)
}

fn cleanup_facts() -> impl Strategy<Value = CleanupFacts> {
    let many = prop::collection::vec(random_input(), 1..16);
    let others = prop::collection::vec((any::<bool>(), any::<bool>(), 0..IMAGES), 0..3);
    let graces = prop::collection::vec(prop::option::weighted(0.9, 168..500i64), 3);
    let keep_tags = prop::collection::vec(prop::bool::weighted(0.1), 14);
    let bare = (prop::bool::weighted(0.9), prop::bool::weighted(0.7), prop::bool::weighted(0.9));
    let all = prop::option::weighted(0.5, (168..500i64, prop::bool::weighted(0.8), random_past()));
    let input = (random_facts(), many, others, graces, keep_tags, bare, all);
    input.prop_map(|(mut world, many, others, graces, tags, bare, all)| {
        for (policy, hours) in world.rules.policies.iter_mut().zip(graces) {
            let span = |hours: i64| WrittenDuration {
                duration: SignedDuration::from_hours(hours),
                written: format!("{hours}h").into(),
            };
            policy.delete_manifest_after = hours.map(span);
        }
        if bare.1 {
            world.claims.sources.clear();
            world.claims.holds.clear();
        }
        for registry in &mut world.inventory.registries {
            registry.lists_untagged = bare.0;
            for repository in &mut registry.repositories {
                let mut kept = tags.iter().copied().cycle();
                repository.tags.retain(|_| kept.next().unwrap_or_default());
                if bare.2 {
                    repository.gaps.clear();
                    repository.manifests.values_mut().for_each(|manifest| manifest.lock = None);
                }
            }
        }
        let place = |world: &RandomFacts, registry: bool, repository: bool, image: u8| -> Place {
            let registry = &world.inventory.registries[usize::from(registry)];
            (registry.name.clone(), registry.repositories[usize::from(repository)].name.clone(), digest(image))
        };
        let mut untagged: BTreeMap<Place, UntaggedManifest> = BTreeMap::new();
        for (in_registry, in_repository, image, taken, changed) in many {
            let (registry, name, digest) = place(&world, in_registry, in_repository, image);
            let found =
                &mut world.inventory.registries[usize::from(in_registry)].repositories[usize::from(in_repository)];
            let listed = found.manifests.get(&digest);
            if listed.is_some() {
                let changed = changed.map(|hours| now() - SignedDuration::from_hours(hours));
                found.untagged.insert(digest.clone(), changed);
            }
            let manifest = listed.filter(|manifest| manifest.detail == ManifestDetail::Full).cloned();
            let mut tags: BTreeMap<String, RemovedTag> = BTreeMap::new();
            for (name, hours, policies, put_back) in taken {
                let at = now() - SignedDuration::from_hours(hours);
                let policies = policies.into_iter().map(|name| name.parse().unwrap()).collect();
                tags.insert(name.clone(), RemovedTag { name: name.parse().unwrap(), at, policies, restored: put_back });
            }
            let tags = tags.into_values().collect();
            let one = UntaggedManifest {
                registry: registry.clone(),
                repository: name.clone(),
                digest: digest.clone(),
                tags,
                manifest,
            };
            untagged.insert((registry, name, digest), one);
        }
        let others = others.into_iter().map(|(registry, repository, image)| place(&world, registry, repository, image));
        let others = others.filter(|place| !untagged.contains_key(place)).collect();
        if let Some((hours, enforce, past)) = all {
            judge_all(&mut world, (hours, enforce), &past);
        }
        world.inventory.sort();
        CleanupFacts { world, untagged: untagged.into_values().collect(), others }
    })
}

/// Since how many hours each image is found free, and when it changed.
type RandomPast = Vec<(Option<i64>, Option<i64>)>;

fn random_past() -> impl Strategy<Value = RandomPast> {
    let free = prop::option::weighted(0.8, 1..900i64);
    prop::collection::vec((free, prop::option::weighted(0.3, 1..900i64)), usize::from(IMAGES))
}

/// Has a policy speak of all manifests without a tag, with that past.
fn judge_all(world: &mut RandomFacts, (hours, enforce): (i64, bool), past: &RandomPast) {
    let after = WrittenDuration { duration: SignedDuration::from_hours(hours), written: format!("{hours}h").into() };
    let first = world.rules.policies[0].clone();
    world.rules.policies.push(Policy {
        name: "stale".parse().unwrap(),
        select: Selector {
            registries: None,
            repositories: None,
            tags: TagSelector::Untagged(after),
            facts: FactSelector::default(),
        },
        group_by: Vec::new(),
        keep: Keep::None,
        delete_manifest_after: None,
        mode: if enforce { PolicyMode::Enforce } else { PolicyMode::DryRun },
        ..first
    });
    let ago = |hours: i64| now() - SignedDuration::from_hours(hours);
    for registry in world.inventory.registries.iter_mut().filter(|registry| registry.lists_untagged) {
        for repository in &mut registry.repositories {
            if repository.digests_without_tag().next().is_none() {
                continue;
            }
            let images = || (0..IMAGES).map(digest).zip(past);
            let history = UntaggedHistory {
                read_at: now(),
                free_since: images().filter_map(|(digest, (free, _))| Some((digest, ago((*free)?)))).collect(),
                changed_at: images().filter_map(|(digest, (_, changed))| Some((digest, ago((*changed)?)))).collect(),
                ..UntaggedHistory::default()
            };
            repository.untagged_history = Some(Box::new(history));
        }
    }
}

impl CleanupFacts {
    fn decide(&self) -> Deletions {
        let RandomFacts { rules, inventory, claims } = &self.world;
        engine::plan_deletions(rules, inventory, claims, &self.untagged, &self.others, now())
    }

    fn violations(&self, found: &Deletions) -> Vec<String> {
        let RandomFacts { rules, inventory, claims } = &self.world;
        let findings = engine::check_deletions(rules, inventory, claims, &self.untagged, &self.others, found, now());
        findings.iter().map(ToString::to_string).collect()
    }

    /// Everything that goes, and what of it would really be deleted.
    fn deleted_manifests(&self) -> (BTreeSet<Place>, BTreeSet<Place>) {
        let found = self.decide();
        let places = |enforced: bool| {
            let going = found.deletable().filter(move |deletion| deletion.enforce || !enforced);
            going.flat_map(places).collect()
        };
        (places(false), places(true))
    }

    /// Whether no more goes than in `other`.
    fn deletes_no_more_than(&self, other: &Self) -> bool {
        let ((all, enforced), (before, before_enforced)) = (self.deleted_manifests(), other.deleted_manifests());
        all.is_subset(&before) && enforced.is_subset(&before_enforced)
    }

    fn repository(&mut self, place: (bool, bool)) -> &mut tagwarden::domain::Repository {
        &mut self.world.inventory.registries[usize::from(place.0)].repositories[usize::from(place.1)]
    }
}

fn places(deletion: &Deletion) -> Vec<Place> {
    let along = deletion.dependents.iter().map(|along| &along.digest);
    let all = std::iter::once(&deletion.digest).chain(along);
    all.map(|digest| (deletion.registry.clone(), deletion.repository.clone(), digest.clone())).collect()
}

fn plain(children: Vec<Digest>, subject: Option<Digest>) -> Manifest {
    Manifest {
        media_type: "application/vnd.oci.image.index.v1+json".into(),
        size: 7,
        config: None,
        blobs: [].into(),
        children,
        subject: subject.map(Box::new),
        created_at: None,
        lock: None,
        detail: ManifestDetail::Full,
    }
}

/// The properties below say nothing unless some of these worlds, of which each looks at as many, have something to
/// delete, and something that goes along.
#[test]
fn something_goes_in_these_worlds() {
    let mut runner = TestRunner::deterministic();
    let (mut going, mut along, mut staying) = (0, 0, 0);
    for _ in 0..512 {
        let found = cleanup_facts().new_tree(&mut runner).unwrap().current().decide();
        going += found.deletable().count();
        along += found.deletable().map(|deletion| deletion.dependents.len()).sum::<usize>();
        staying += found.eligible.iter().filter(|deletion| !deletion.is_deletable()).count();
    }
    assert!(going > 100 && along > 5 && staying > 100, "{going} go, {along} along, {staying} stay");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn other_eyes_find_nothing(after in cleanup_facts()) {
        let found = after.decide();
        prop_assert_eq!(after.violations(&found), Vec::<String>::new());
        // Nothing goes twice.
        let all: Vec<Place> = found.deletable().flat_map(places).collect();
        prop_assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len());
    }

    #[test]
    fn other_eyes_see_a_kept_manifest_deleted(after in cleanup_facts(), which in any::<Index>()) {
        let mut found = after.decide();
        let kept: Vec<usize> = (0..found.eligible.len()).filter(|&at| !found.eligible[at].is_deletable()).collect();
        if kept.is_empty() {
            return Ok(());
        }
        let forged = &mut found.eligible[kept[which.index(kept.len())]];
        forged.retain_reasons.clear();
        prop_assert!(!after.violations(&found).is_empty());
    }

    #[test]
    fn other_eyes_see_more_go_along(after in cleanup_facts(), which in any::<Index>(), image in 0..IMAGES) {
        let mut found = after.decide();
        let going: Vec<usize> = (0..found.eligible.len()).filter(|&at| found.eligible[at].is_deletable()).collect();
        if going.is_empty() {
            return Ok(());
        }
        let all: BTreeSet<Place> = found.deletable().flat_map(places).collect();
        let forged = &mut found.eligible[going[which.index(going.len())]];
        let place = (forged.registry.clone(), forged.repository.clone(), digest(image));
        let registry = after.world.inventory.registry(place.0.as_str()).unwrap();
        let manifests = &registry.repository(place.1.as_str()).unwrap().manifests;
        // What depends on nothing at all certainly does not depend on this.
        let listed = manifests.values().any(|manifest| manifest.children.contains(&place.2));
        if all.contains(&place) || listed || manifests.get(&place.2).is_some_and(|manifest| manifest.subject.is_some()) {
            return Ok(());
        }
        forged.dependents.push(tagwarden::domain::Dependent { role: tagwarden::domain::DependentRole::Child, digest: digest(image) });
        prop_assert!(!after.violations(&found).is_empty());
    }

    #[test]
    fn the_order_of_what_is_read_does_not_matter(after in cleanup_facts(), seed in any::<u64>()) {
        let mut other = after.clone();
        let mut order = Shuffle(seed);
        order.shuffle(&mut other.untagged);
        other.untagged.iter_mut().for_each(|untagged| order.shuffle(&mut untagged.tags));
        order.shuffle(&mut other.world.rules.policies);
        order.shuffle(&mut other.world.claims.sources);
        order.shuffle(&mut other.world.inventory.registries);
        for registry in &mut other.world.inventory.registries {
            order.shuffle(&mut registry.repositories);
            for repository in &mut registry.repositories {
                order.shuffle(&mut repository.tags);
                order.shuffle(&mut repository.gaps);
                repository.manifests.values_mut().for_each(|manifest| order.shuffle(&mut manifest.children));
            }
        }
        prop_assert_eq!(other.deleted_manifests(), after.deleted_manifests());
        other.world.inventory.sort();
        other.world.claims.sort();
        prop_assert_eq!(other.decide(), after.decide());
    }

    #[test]
    fn a_claim_more_never_deletes_more(after in cleanup_facts(), claim in claim()) {
        let mut more = after.clone();
        let answers = more.world.claims.sources.iter_mut().map(|source| &mut source.state);
        let Some(SourceState::Complete { claims, .. }) = answers.last() else { return Ok(()) };
        let claim: Claim = claim;
        claims.push(claim);
        more.world.claims.sort();
        prop_assert!(more.deletes_no_more_than(&after));
    }

    #[test]
    fn a_mention_more_never_deletes_more(after in cleanup_facts(), mention in mention()) {
        let mut more = after.clone();
        let answers = more.world.claims.sources.iter_mut().map(|source| &mut source.state);
        let Some(SourceState::Complete { mentions, .. }) = answers.last() else { return Ok(()) };
        mentions.push(mention);
        more.world.claims.sort();
        prop_assert!(more.deletes_no_more_than(&after));
    }

    #[test]
    fn a_source_lost_never_deletes_more(after in cleanup_facts()) {
        let mut less = after.clone();
        let Some(source) = less.world.claims.sources.first_mut() else { return Ok(()) };
        source.state = SourceState::Failed { kind: "unreadable", message: "".into() };
        prop_assert!(less.deletes_no_more_than(&after));
    }

    #[test]
    fn a_gap_more_never_deletes_more(after in cleanup_facts(), gap in gap(), place in any::<(bool, bool)>()) {
        let mut less = after.clone();
        less.repository(place).gaps.push(gap);
        less.world.inventory.sort();
        prop_assert!(less.deletes_no_more_than(&after));
    }

    #[test]
    fn a_shorter_past_never_deletes_more(after in cleanup_facts(), place in any::<(bool, bool)>(), image in 0..IMAGES, hours in prop::option::of(1..200i64)) {
        let mut less = after.clone();
        let Some(past) = &mut less.repository(place).untagged_history else { return Ok(()) };
        match (hours, past.free_since.get(&digest(image)).copied()) {
            (Some(hours), Some(since)) => drop(past.free_since.insert(digest(image), since + SignedDuration::from_hours(hours))),
            (Some(hours), None) => drop(past.changed_at.insert(digest(image), now() - SignedDuration::from_hours(hours))),
            (None, _) => drop(past.free_since.remove(&digest(image))),
        }
        prop_assert!(less.deletes_no_more_than(&after));
    }

    #[test]
    fn a_lock_more_never_deletes_more(after in cleanup_facts(), place in any::<(bool, bool)>(), image in prop::option::of(0..IMAGES)) {
        let mut more = after.clone();
        let repository = more.repository(place);
        match image.and_then(|image| repository.manifests.get_mut(&digest(image))) {
            Some(manifest) => manifest.lock = Some(Lock::Delete),
            None => repository.lock = Some(Lock::Write),
        }
        prop_assert!(more.deletes_no_more_than(&after));
    }

    #[test]
    fn a_tag_more_never_deletes_more(after in cleanup_facts(), place in any::<(bool, bool)>(), image in 0..IMAGES, name in tag_name()) {
        let mut more = after.clone();
        let repository = more.repository(place);
        let name: tagwarden::domain::TagName = name.parse().unwrap();
        if repository.tags.iter().any(|tag| tag.name == name) {
            return Ok(());
        }
        repository.tags.push(Tag { name, digest: Some(digest(image)), pushed_at: None, first_seen: None, lock: None });
        more.world.inventory.sort();
        prop_assert!(more.deletes_no_more_than(&after));
    }

    #[test]
    fn an_index_or_a_referrer_more_never_deletes_more(
        after in cleanup_facts(),
        place in any::<(bool, bool)>(),
        children in prop::collection::vec(0..IMAGES, 0..3),
        subject in prop::option::of(0..IMAGES),
    ) {
        let mut more = after.clone();
        // One that is both may take what it lists along with what it refers to.
        let children = children.into_iter().filter(|_| subject.is_none()).map(digest).collect();
        more.repository(place).manifests.insert(digest(60), plain(children, subject.map(digest)));
        // It may go along itself, and nothing else may that did not before.
        let new = digest(60);
        let goes = |after: &CleanupFacts| {
            let (all, _) = after.deleted_manifests();
            all.into_iter().filter(|(_, _, digest)| *digest != new).collect::<BTreeSet<_>>()
        };
        prop_assert!(goes(&more).is_subset(&goes(&after)));
    }

    #[test]
    fn a_policy_more_never_deletes_more(after in cleanup_facts(), policy in policy("zz"), hours in prop::option::of(168..500i64)) {
        let mut more = after.clone();
        let mut policy = policy;
        policy.delete_manifest_after =
            hours.map(|hours| WrittenDuration { duration: SignedDuration::from_hours(hours), written: "".into() });
        more.world.rules.policies.push(policy);
        prop_assert!(more.deletes_no_more_than(&after));
    }

    #[test]
    fn a_manifest_known_more_never_deletes_more(after in cleanup_facts(), which in any::<Index>()) {
        let mut more = after.clone();
        let (all, _) = after.deleted_manifests();
        if all.is_empty() {
            return Ok(());
        }
        let place = all.iter().nth(which.index(all.len())).unwrap().clone();
        if more.untagged.iter().any(|one| (one.registry.clone(), one.repository.clone(), one.digest.clone()) == place) {
            return Ok(());
        }
        more.others.insert(place.clone());
        prop_assert!(more.deletes_no_more_than(&after));
        prop_assert!(!more.deleted_manifests().0.contains(&place));
    }

    #[test]
    fn deciding_again_after_deleting_deletes_nothing(after in cleanup_facts(), part in select(vec!["all", "enforced"])) {
        let (all, enforced) = after.deleted_manifests();
        let gone = if part == "all" { &all } else { &enforced };
        let mut left = after.clone();
        for registry in &mut left.world.inventory.registries {
            for repository in &mut registry.repositories {
                let here = |digest: &Digest| gone.contains(&(registry.name.clone(), repository.name.clone(), digest.clone()));
                repository.manifests.retain(|digest, _| !here(digest));
                repository.untagged.retain(|digest, _| !here(digest));
            }
        }
        let again = left.deleted_manifests().0;
        prop_assert!(again.is_subset(&all.difference(gone).cloned().collect()), "{again:?}");
    }
}
