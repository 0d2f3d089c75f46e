//! The bytes of a plan, held against a count that is made in another way, whatever the facts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tagwarden::domain::{
    Digest, Inventory, Manifest, ManifestDetail, Plan, Reclaim, ReclaimBytes, ReclaimSum, Registry, Removal,
    SourceState, TagPosition, TagVerdict,
};
use tagwarden::engine::{ClaimedDigests, Verdicts, blob_uses, reclaim};
use tagwarden::workflow::BlobSpool;

use crate::properties::{RandomFacts, Shuffle, now, random_facts};
use crate::scenarios::apply;

/// A world in which nearly everything was read, and a digest has the same size wherever it stands.
fn read_world() -> impl Strategy<Value = RandomFacts> {
    let unsized_images = prop_oneof![4 => Just(BTreeSet::new()), 1 => prop::collection::btree_set(0..12usize, 1..3)];
    (random_facts(), any::<bool>(), unsized_images).prop_map(|(mut world, listed, unsized_images)| {
        for registry in &mut world.inventory.registries {
            registry.gaps.clear();
            for repository in &mut registry.repositories {
                repository.gaps.clear();
                let named: Vec<Digest> = repository.tags.iter().filter_map(|tag| tag.digest.clone()).collect();
                for tag in &mut repository.tags {
                    tag.digest.get_or_insert_with(|| Digest::of(b"unread"));
                }
                for digest in named.into_iter().chain([Digest::of(b"unread")]) {
                    repository.manifests.entry(digest).or_insert_with(plain);
                }
                for (position, manifest) in repository.manifests.values_mut().enumerate() {
                    if let ManifestDetail::Listed { image_size } = &mut manifest.detail {
                        *image_size = if unsized_images.contains(&position) { None } else { Some(7) };
                    }
                    if !listed {
                        manifest.detail = ManifestDetail::Full;
                        manifest.size = 7;
                    }
                }
            }
        }
        world
    })
}

fn plain() -> Manifest {
    Manifest {
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        size: 7,
        config: None,
        blobs: [].into(),
        children: Vec::new(),
        subject: None,
        created_at: None,
        lock: None,
        detail: ManifestDetail::Full,
    }
}

/// The digests that a repository's tags or claims lead to.
fn reached(world: &RandomFacts, inventory: &Inventory, registry: usize, repository: usize) -> BTreeSet<Digest> {
    let registry = &inventory.registries[registry];
    let repository = &registry.repositories[repository];
    let sources = world
        .claims
        .sources
        .iter()
        .filter(|source| source.registries.as_ref().is_none_or(|registries| registries.contains(&registry.name)));
    let claimed: BTreeSet<&Digest> = sources
        .flat_map(|source| match &source.state {
            SourceState::Complete { claims, .. } => claims.as_slice(),
            SourceState::Failed { .. } => &[],
        })
        .filter_map(|claim| claim.image.digest.as_ref())
        .collect();
    let is_claimed = |(_, manifest): &(&Digest, &Manifest)| {
        manifest.config.as_deref().is_some_and(|config| claimed.contains(config))
    };
    let by_config = repository.manifests.iter().filter(is_claimed).map(|(digest, _)| digest.clone());
    // Of one that was not read there may be referrers all the same.
    let by_claim = claimed.iter().copied().cloned().chain(by_config);
    let by_tag = repository.tags.iter().filter_map(|tag| tag.digest.clone());
    let mut open: Vec<Digest> = by_tag.chain(by_claim).collect();
    let mut found = BTreeSet::new();
    while let Some(digest) = open.pop() {
        let refers = |(_, other): &(&Digest, &Manifest)| other.subject.as_deref() == Some(&digest);
        let referrers = repository.manifests.iter().filter(refers).map(|(digest, _)| digest.clone());
        if found.insert(digest.clone()) {
            let children = repository.manifests.get(&digest).into_iter().flat_map(|manifest| manifest.children.clone());
            open.extend(children.chain(referrers));
        }
    }
    found
}

/// What a registry stores for some of its manifests.
fn stored<'a>(manifests: impl IntoIterator<Item = (&'a Digest, &'a Manifest)>) -> BTreeMap<Digest, u64> {
    let blobs = manifests.into_iter().flat_map(|(digest, manifest)| {
        let blobs = manifest.blobs.iter().map(|blob| (blob.digest.clone(), blob.size));
        blobs.chain([(digest.clone(), 7)])
    });
    blobs.collect()
}

/// The bytes of a registry, counted from its end: what is there now, and what could be there without the tags.
fn counted(world: &RandomFacts, plan: &Plan, registry: usize) -> ReclaimBytes {
    let mut after = world.inventory.clone();
    apply(&mut after, plan, &world.rules, now());
    let Registry { repositories, .. } = &world.inventory.registries[registry];
    let (mut staying, mut images) = (BTreeMap::new(), BTreeMap::new());
    for (position, repository) in repositories.iter().enumerate() {
        let before = reached(world, &world.inventory, registry, position);
        let still = reached(world, &after, registry, position);
        let goes = |digest: &Digest| before.contains(digest) && !still.contains(digest);
        staying.extend(stored(repository.manifests.iter().filter(|(digest, _)| !goes(digest))));
        let mut only = world.clone();
        only.claims.sources.clear();
        let at = |tag: usize| {
            plan.removals.iter().any(|removal| {
                let place = removal.position;
                (place.registry as usize, place.repository as usize, place.tag as usize) == (registry, position, tag)
            })
        };
        let mut tag = 0..;
        only.inventory.registries[registry].repositories[position].tags.retain(|_| tag.next().is_some_and(at));
        let removed = reached(&only, &only.inventory, registry, position);
        images.extend(stored(repository.manifests.iter().filter(|(digest, _)| removed.contains(*digest))));
    }
    let sum = |stays: bool| {
        let such = images.iter().filter(|(digest, _)| staying.contains_key(*digest) == stays);
        such.map(|(_, size)| size).sum()
    };
    ReclaimBytes { exclusive: sum(false), shared: sum(true) }
}

/// The bytes of a registry's removals, counted repository by repository from its end, each as if it stood alone.
fn spooled(world: &RandomFacts, (verdicts, plan): (&Verdicts, &Plan), at: u32) -> Vec<Option<ReclaimBytes>> {
    let registry = &world.inventory.registries[at as usize];
    let claimed = ClaimedDigests::of(&world.claims, &registry.name);
    let alone = |position: TagPosition| TagPosition { registry: 0, repository: 0, ..position };
    let removals_in = |number: u32| -> Vec<Removal> {
        let there = plan.removals.iter();
        let there = there.filter(|one| (one.position.registry, one.position.repository) == (at, number));
        there.map(|one| Removal { position: alone(one.position), ..one.clone() }).collect()
    };
    let mut spool = BlobSpool::new(None);
    for (number, repository) in (0..).zip(&registry.repositories).collect::<Vec<(u32, _)>>().into_iter().rev() {
        let there = verdicts.tags.iter();
        let there = there.filter(|one| (one.position.registry, one.position.repository) == (at, number));
        let here: Vec<TagVerdict> =
            there.map(|one| TagVerdict { position: alone(one.position), ..one.clone() }).collect();
        let blobs = blob_uses(registry, repository, &claimed, &here, &removals_in(number), &[]);
        spool.add(number, blobs).unwrap();
    }
    let mut settled = spool.settle().unwrap();
    let numbers = (0..).zip(&registry.repositories).map(|(number, _)| number);
    numbers.flat_map(|number| settled.next_repository(number, removals_in(number).len(), 0).unwrap().removals).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_are_those_that_another_count_finds(world in read_world()) {
        let (verdicts, plan) = world.decide();
        let bytes = reclaim(&world.inventory, &world.claims, &verdicts, &plan);
        for found in bytes.registries.iter().filter(|found| found.sum().unknown == 0) {
            let at = world.inventory.registries.iter().position(|registry| registry.name == found.registry).unwrap();
            prop_assert_eq!(found.sum().bytes, counted(&world, &plan, at), "{:#?}", plan.removals);
        }
    }

    #[test]
    fn bytes_of_repositories_by_themselves_are_those_of_the_whole(world in prop_oneof![random_facts(), read_world()]) {
        let (verdicts, plan) = world.decide();
        let bytes = reclaim(&world.inventory, &world.claims, &verdicts, &plan);
        for (at, registry) in (0..).zip(&world.inventory.registries) {
            let there = plan.removals.iter().zip(&bytes.removals);
            let expected = there.filter(|(removal, _)| removal.registry == registry.name).map(|(_, bytes)| *bytes);
            let expected: Vec<Option<ReclaimBytes>> = expected.collect();
            prop_assert_eq!(spooled(&world, (&verdicts, &plan), at), expected);
        }
    }

    #[test]
    fn parts_add_up(world in prop_oneof![random_facts(), read_world()]) {
        let (verdicts, plan) = world.decide();
        let bytes = reclaim(&world.inventory, &world.claims, &verdicts, &plan);
        prop_assert_eq!(bytes.removals.len(), plan.removals.len());
        let all = bytes.removals.iter().copied().map(ReclaimSum::from);
        prop_assert_eq!(all.fold(ReclaimSum::default(), ReclaimSum::plus), bytes.sum());
        prop_assert_eq!(bytes.sum().removals, plan.removals.len() as u64);
        prop_assert!(bytes.registries.is_sorted_by(|a, b| a.registry < b.registry));
        for registry in &bytes.registries {
            prop_assert!(registry.repositories.is_sorted_by(|a, b| a.0 < b.0));
            for (repository, sum) in &registry.repositories {
                let there = plan.removals.iter().zip(&bytes.removals);
                let there = there.filter(|(at, _)| at.registry == registry.registry && at.repository == *repository);
                let there = there.map(|(_, bytes)| ReclaimSum::from(*bytes));
                prop_assert_eq!(there.fold(ReclaimSum::default(), ReclaimSum::plus), *sum);
            }
        }
    }

    #[test]
    fn bytes_go_by_tags_and_not_by_the_order_of_a_list(world in read_world(), seed in any::<u64>()) {
        let (verdicts, plan) = world.decide();
        let bytes = reclaim(&world.inventory, &world.claims, &verdicts, &plan);
        let mut other = plan.clone();
        Shuffle(seed).shuffle(&mut other.removals);
        let found = reclaim(&world.inventory, &world.claims, &verdicts, &other);
        let by_tag = |plan: &Plan, bytes: &Reclaim| -> BTreeMap<_, _> {
            plan.removals.iter().map(|removal| removal.position).zip(bytes.removals.clone()).collect()
        };
        prop_assert_eq!(by_tag(&other, &found), by_tag(&plan, &bytes));
        prop_assert_eq!(found.registries, bytes.registries);
    }
}
