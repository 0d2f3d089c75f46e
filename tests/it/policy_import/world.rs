//! Random repositories, and what policies remove of them.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;
use tagwarden::domain::{
    Claims, CoverageBasis, Digest, Inventory, Limits, Lock, Manifest, ManifestDetail, Policy, Registry, Repository,
    RuleHistory, Rules, Tag,
};
use tagwarden::engine::decide_inventory;

/// A tag of a random repository.
#[derive(Debug, Clone)]
pub(crate) struct WorldTag {
    pub(crate) name: String,
    pub(crate) image: u8,
    /// Seconds since it was pushed.
    pub(crate) age: i64,
    pub(crate) locked: bool,
}

/// A random repository.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) repository: String,
    pub(crate) tags: Vec<WorldTag>,
    /// The ages of images without a tag.
    pub(crate) untagged: Vec<i64>,
}

/// The times of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// Each tag has its own.
    OfTags,
    /// All tags of an image have the image's.
    OfImages,
}

const NAMES: [&str; 36] = [
    "latest",
    "main",
    "master",
    "develop",
    "v1",
    "v1.2.3",
    "v1.2.4",
    "v2.0.0",
    "v2.1-prod",
    "v10.1.0",
    "v10.2.0",
    "1.4.0",
    "release-1",
    "release-2",
    "dev",
    "dev-1",
    "dev-12",
    "pr-7",
    "pr-18",
    "main-1",
    "main-2",
    "main-10",
    "prod-1",
    "prod-2",
    "prod-web-1",
    "staging-3",
    "build-9",
    "feature-x",
    "rc1",
    "my-rc2",
    "abcdef01",
    "0123abc",
    "a-prod",
    "DEV-1",
    "x",
    "web",
];

pub(crate) fn now() -> Timestamp {
    "2026-11-30T12:00:00Z".parse().unwrap()
}

/// Ages around the days that rules name, with ties.
fn age() -> impl Strategy<Value = i64> {
    let days = select(vec![0i64, 1, 2, 3, 5, 7, 10, 13, 14, 15, 29, 30, 31, 45, 60, 91, 400]);
    (days, select(vec![0i64, 1, 3600, 7200])).prop_map(|(days, more)| days * 86_400 + more)
}

pub(crate) fn world(repositories: Vec<String>, times: Times, one_tag_each: bool) -> impl Strategy<Value = World> {
    let tag = (select(NAMES.to_vec()), 0..8u8, age(), prop::bool::weighted(0.1));
    let images = prop::collection::vec(age(), 40);
    (select(repositories), prop::collection::vec(tag, 0..16), images, prop::collection::vec(age(), 0..4)).prop_map(
        move |(repository, tags, images, untagged)| {
            let mut seen = BTreeSet::new();
            let mut world = World { repository, tags: Vec::new(), untagged };
            for (name, image, age, locked) in tags {
                if !seen.insert(name) {
                    continue;
                }
                let image = if one_tag_each { u8::try_from(world.tags.len()).unwrap() } else { image };
                let age = if times == Times::OfImages { images[usize::from(image)] } else { age };
                let locked = locked && !one_tag_each;
                world.tags.push(WorldTag { name: name.to_owned(), image, age, locked });
            }
            if one_tag_each {
                world.untagged.clear();
            }
            world
        },
    )
}

fn digest(image: u8) -> Digest {
    Digest::of(&[image])
}

/// The tags that the policies remove.
pub(crate) fn removed(policies: Vec<Policy>, world: &World) -> BTreeSet<String> {
    let pushed = |age: i64| Some((now() - SignedDuration::from_secs(age)).into());
    let mut repository = Repository::empty(world.repository.parse().unwrap());
    for tag in &world.tags {
        repository.tags.push(Tag {
            name: tag.name.parse().unwrap(),
            digest: Some(digest(tag.image)),
            pushed_at: pushed(tag.age),
            first_seen: None,
            lock: tag.locked.then_some(Lock::Delete),
        });
        repository.manifests.entry(digest(tag.image)).or_insert_with(|| Manifest {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            size: 7,
            config: None,
            blobs: [].into(),
            children: Vec::new(),
            subject: None,
            created_at: None,
            lock: None,
            detail: ManifestDetail::Full,
        });
    }
    repository.tags.sort_by(|a, b| a.name.cmp(&b.name));
    let registry =
        Registry { repositories: vec![repository], ..Registry::empty("contoso".parse().unwrap(), "distribution") };
    let rules = Rules {
        policies,
        limits: Limits { untag: u32::MAX, percent: 100, leave: 0, delete: u32::MAX },
        timezone: TimeZone::UTC,
        undo_window: std::time::Duration::from_hours(24),
    };
    let inventory = Inventory { registries: vec![registry] };
    let history = (RuleHistory::default(), CoverageBasis::NotChecked);
    let decision = decide_inventory(&rules, &inventory, &Claims::default(), now(), history);
    assert!(decision.violations.is_empty(), "{:?}", decision.violations);
    decision.plan.removals.iter().map(|removal| removal.tag.to_string()).collect()
}
