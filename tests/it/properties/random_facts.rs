//! Small worlds with everything in them, made at random.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;
use tagwarden::domain::{
    AllowUnmatched, ArtifactKind, ArtifactType, Blob, Claim, Claims, CompactTime, DateOrigin, Digest, FactSelector,
    Gap, GapTarget, Globs, Hold, HoldOrigin, Holder, ImageReference, Inventory, Keep, KeepRule, KnownTexts, Limits,
    Lock, Manifest, ManifestDetail, Mention, MentionedImage, Naming, OriginalDate, PathPattern, Period, Plan, Policy,
    PolicyLimits, PolicyMode, PullTime, Registry, RemovalAbility, RemovalMethod, RemovalObstacle, Repository, Rules,
    Selector, SourceOutcome, SourceState, Tag, TagName, TagSelector, TextCondition, TextKind, UnresolvedReference,
    VersionPart, WrittenDuration,
};
use tagwarden::engine::{Verdicts, check, evaluate, plan};

use crate::scenarios::shape::registry_info;

/// Everything a decision is made of.
#[derive(Debug, Clone)]
pub(crate) struct RandomFacts {
    pub(crate) rules: Rules,
    pub(crate) inventory: Inventory,
    pub(crate) claims: Claims,
}

pub(crate) const IMAGES: u8 = 10;

pub(crate) fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

pub(crate) fn digest(image: u8) -> Digest {
    Digest::of(&[image])
}

impl RandomFacts {
    pub(crate) fn decide(&self) -> (Verdicts, Plan) {
        let verdicts = evaluate(&self.rules, &self.inventory, &self.claims, now());
        let plan = plan(&self.rules, &self.inventory, &verdicts, now());
        (verdicts, plan)
    }

    pub(crate) fn findings(&self, verdicts: &Verdicts, plan: &Plan) -> Vec<String> {
        let found = check(&self.rules, &self.inventory, &self.claims, verdicts, plan, now());
        found.iter().map(ToString::to_string).collect()
    }

    /// The expired tags by name, and those of them that would really be removed.
    pub(crate) fn goes(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (_, plan) = self.decide();
        let name = |removal: &tagwarden::domain::Removal| {
            format!("{}/{}:{}", removal.registry, removal.repository, removal.tag)
        };
        let enforced = plan.removals.iter().filter(|removal| removal.enforce).map(name).collect();
        (plan.removals.iter().map(name).collect(), enforced)
    }
}

fn time() -> impl Strategy<Value = Option<CompactTime>> {
    // Few enough values that ties are common; hours, so that buckets have several.
    prop_oneof![
        1 => Just(None),
        8 => (0..60i64).prop_map(|step| Some((now() - SignedDuration::from_hours(step * 11)).into())),
        1 => select(vec![Timestamp::UNIX_EPOCH, now() + SignedDuration::from_hours(1)]).prop_map(|time| Some(time.into())),
    ]
}

fn rarely_locked() -> impl Strategy<Value = Option<Lock>> {
    prop_oneof![19 => Just(None), 1 => select(vec![Some(Lock::Delete), Some(Lock::Write)])]
}

pub(crate) fn tag_name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => (select(vec!["main", "dev", "rel"]), 0..6u8).prop_map(|(branch, n)| format!("{branch}-{n}")),
        3 => (0..3u8, 0..3u8, select(vec!["", "-rc.1", "-rc02", "-rc.1-r1", "-r1", "-slim", "-7-g0a1b2c3"]))
            .prop_map(|(a, b, suffix)| format!("v1.{a}.{b}{suffix}")),
        2 => (0..IMAGES, select(vec!["", ".sig", ".att"]))
            .prop_map(|(image, suffix)| format!("{}{suffix}", digest(image).to_string().replace(':', "-"))),
    ]
}

fn tag() -> impl Strategy<Value = (String, Tag)> {
    let image = prop_oneof![30 => (0..IMAGES).prop_map(Some), 1 => Just(None)];
    (tag_name(), image, time(), time(), rarely_locked()).prop_map(|(name, image, pushed_at, first_seen, lock)| {
        let parsed = name.parse().unwrap();
        (name, Tag { name: parsed, digest: image.map(digest), pushed_at, first_seen, lock })
    })
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let children = prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec((0..IMAGES).prop_map(digest), 1..4)];
    let subject = prop_oneof![4 => Just(None), 1 => (0..IMAGES).prop_map(|image| Some(digest(image)))];
    let config = prop_oneof![Just(None), (100..104u8).prop_map(|config| Some(digest(config)))];
    let blobs = prop::collection::vec((200..206u8).prop_map(|n| Blob { digest: digest(n), size: u64::from(n) }), 0..3);
    (children, subject, config, blobs, time(), rarely_locked()).prop_map(
        |(children, subject, config, blobs, created_at, lock)| Manifest {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            size: 7,
            config: config.map(Box::new),
            blobs: blobs.into(),
            children,
            subject: subject.map(Box::new),
            created_at,
            lock,
            detail: ManifestDetail::Full,
        },
    )
}

/// What a registry that only lists an image says of it.
fn listed() -> impl Strategy<Value = Manifest> {
    (prop::option::of(200..300u64), rarely_locked()).prop_map(|(image_size, lock)| Manifest {
        media_type: "application/vnd.docker.distribution.manifest.v2+json".into(),
        size: 0,
        config: None,
        blobs: [].into(),
        children: Vec::new(),
        subject: None,
        created_at: None,
        lock,
        detail: ManifestDetail::Listed { image_size },
    })
}

pub(crate) fn gap() -> impl Strategy<Value = Gap> {
    let at = prop_oneof![
        Just(GapTarget::Catalogue),
        Just(GapTarget::TagList),
        (0..IMAGES).prop_map(|image| GapTarget::Manifest(digest(image))),
        (0..IMAGES).prop_map(|image| GapTarget::CreationTime(digest(image))),
        (0..IMAGES).prop_map(|image| GapTarget::Referrers(digest(image))),
        tag_name().prop_map(|tag| GapTarget::VanishedTag(tag.parse().unwrap())),
        Just(GapTarget::InvalidName("-x".into())),
        (0..IMAGES).prop_map(|image| GapTarget::ListedDigest(digest(image))),
        tag_name().prop_map(|tag| GapTarget::Tag(tag.parse().unwrap())),
    ];
    at.prop_map(|at| Gap { target: at, kind: "http-500", has_help: false, message: "".into() })
}

fn rarely_gaps() -> impl Strategy<Value = Vec<Gap>> {
    prop_oneof![9 => Just(vec![]), 1 => prop::collection::vec(gap(), 1..12)]
}

fn repository(name: &'static str) -> impl Strategy<Value = Repository> {
    let tags = prop::collection::vec(tag(), 0..14);
    let manifests =
        prop::collection::btree_map((0..IMAGES).prop_map(digest), prop_oneof![4 => manifest(), 1 => listed()], 0..12);
    let originals = prop::collection::btree_map(tag_name().prop_map(|name| name.parse().unwrap()), original(), 0..3);
    let removed = prop::option::weighted(0.2, (0..900i64).prop_map(|hours| now() - SignedDuration::from_hours(hours)));
    let facts = (tags, manifests, rarely_gaps(), originals, time(), any::<bool>(), removed);
    let strategy = facts.prop_map(move |(tags, manifests, gaps, originals, first_look, all_pulls, removed)| {
        let mut repository = Repository::empty(name.parse().unwrap());
        repository.first_read_at = first_look;
        repository.removed_at = removed.map(Into::into);
        let tags: HashMap<String, Tag> = tags.into_iter().collect();
        repository.tags = tags.into_values().collect();
        repository.manifests = manifests;
        let own = ["", "application/vnd.oci.image.config.v1+json", "application/vnd.cncf.helm.config.v1+json"];
        let kinds: Vec<Digest> = repository.manifests.keys().cloned().collect();
        for digest in kinds {
            let drawn = usize::from(digest.to_string().as_bytes()[9]) + repository.tags.len();
            if let Some(own) = own.get(drawn % 5) {
                repository.artifact_types.insert(digest, (*own).into());
            }
        }
        draw_texts(&mut repository);
        repository.gaps = gaps;
        repository.original_dates = originals;
        let there: BTreeSet<&TagName> = repository.tags.iter().map(|tag| &tag.name).collect();
        repository.original_dates.retain(|tag, _| there.contains(tag));
        // Drawn by its name and its digest, so that most have some pull, some never had one, and of some nobody knows.
        let pulls = repository.tags.iter().map(|tag| {
            let drawn = Digest::of(format!("{} {:?}", tag.name, tag.digest).as_bytes()).hex();
            let drawn = i64::from_str_radix(&drawn[..6], 16).unwrap();
            let at = now() - SignedDuration::from_hours(drawn % 900 - 20);
            let unknown = all_pulls.then_some(PullTime::Never);
            let pulled = [unknown, Some(PullTime::Never), Some(PullTime::At(at.into())), Some(PullTime::At(at.into()))];
            (tag.name.clone(), pulled[usize::try_from(drawn % 4).unwrap()])
        });
        let pulls: Vec<_> = pulls.collect();
        repository.pull_times = pulls.into_iter().filter_map(|(tag, pulled)| Some((tag, pulled?))).collect();
        repository
    });
    strategy.boxed()
}

fn registry(name: &'static str) -> impl Strategy<Value = Registry> {
    let repositories = (repository("app"), repository("lib/core")).prop_map(|(a, b)| vec![a, b]);
    let removal = select(vec![RemovalMethod::Untag, RemovalMethod::DeleteManifest]);
    let impossible = RemovalAbility::Impossible(RemovalObstacle::NoUntag);
    let able = select(vec![RemovalAbility::Able, RemovalAbility::Unknown, impossible]);
    let denied = || RemovalObstacle::Denied { message: "no right".into() };
    let obstacles = prop::bool::weighted(0.2)
        .prop_map(move |denies| denies.then(|| ("app".parse().unwrap(), denied())).into_iter().collect());
    let retention = select(vec![None, None, Some("off"), Some("unread"), Some("0"), Some("6"), Some("7")]);
    let unread = prop::bool::weighted(0.1).prop_map(|unread| {
        let gap = Gap { target: GapTarget::RegistryInfo, kind: "http-403", has_help: false, message: "".into() };
        unread.then_some(gap).into_iter().collect()
    });
    let clock = select(vec![None, Some(0), Some(120), Some(121), Some(-120), Some(-121)]);
    let itself = (obstacles, retention, prop::bool::weighted(0.3), unread, clock);
    let strategy =
        (repositories, removal, able, itself).prop_map(move |(repositories, removal, ability, itself)| Registry {
            obstacles: itself.0,
            info: itself.1.map(registry_info),
            accepts_retention: itself.2,
            gaps: itself.3,
            clock_ahead: itself.4.map(SignedDuration::from_secs),
            endpoint: format!("https://{name}.example"),
            hosts: vec![format!("{name}.example")],
            removal,
            ability,
            repositories,
            ..Registry::empty(name.parse().unwrap(), "distribution")
        });
    strategy.boxed()
}

pub(super) fn rule() -> impl Strategy<Value = KeepRule> {
    let count = || (1..4u32).prop_map(|count| count.try_into().unwrap());
    prop_oneof![
        count().prop_map(KeepRule::Newest),
        (1..400i64).prop_map(|hours| KeepRule::Within(WrittenDuration {
            duration: SignedDuration::from_hours(hours),
            written: format!("{hours}h").into(),
        })),
        (select(vec![Period::Day, Period::Week, Period::Month, Period::Year]), count())
            .prop_map(|(period, count)| KeepRule::Bucketed { period, count }),
        (select(vec![VersionPart::Major, VersionPart::Minor, VersionPart::Patch]), count())
            .prop_map(|(version, count)| KeepRule::NewestPer { version, count }),
        (1..400i64).prop_map(|hours| KeepRule::PulledWithin(WrittenDuration {
            duration: SignedDuration::from_hours(hours),
            written: format!("{hours}h").into(),
        })),
        select(vec!["main-*", "*-1", "v*"]).prop_map(|glob| KeepRule::Matching(Globs::new(&[glob]).unwrap())),
    ]
}

/// Annotations and labels of a team, drawn by the digest: known, known to be absent, or unknown.
fn draw_texts(repository: &mut Repository) {
    for digest in repository.manifests.keys().cloned().collect::<Vec<_>>() {
        for (kind, at) in [(TextKind::Annotation, 10), (TextKind::Label, 11)] {
            let drawn = usize::from(digest.to_string().as_bytes()[at]) + repository.tags.len();
            let value = match drawn % 6 {
                0 => None,
                1 => Some("cart"),
                2 | 3 => Some("checkout"),
                _ => continue,
            };
            let known = KnownTexts::from([("team".into(), value.map(Into::into))]);
            repository.known_texts_mut(kind).insert(digest.clone(), known);
        }
    }
}

/// What a policy asks of facts; mostly nothing.
pub(crate) fn facts() -> impl Strategy<Value = FactSelector> {
    let idle = prop::option::weighted(0.3, select(vec![0i64, 50, 200, 400, 650]));
    let image = || ArtifactType::Kind(ArtifactKind::Image);
    let types = [
        vec![image()],
        vec![image(), ArtifactType::Kind(ArtifactKind::Index)],
        vec![ArtifactType::MediaType("application/vnd.cncf.helm.config.v1+json".into())],
    ];
    let types = prop::option::weighted(0.3, select(types.to_vec()));
    let texts = || {
        let team = select(vec!["checkout", "c*", "*"]);
        let one = team.prop_map(|value| vec![TextCondition::new("team", &[value]).unwrap()]);
        prop_oneof![4 => Just(Vec::new()), 1 => one]
    };
    (idle, types, texts(), texts()).prop_map(|(idle, types, annotations, labels)| FactSelector {
        types,
        annotations,
        labels,
        idle: idle.map(|hours| WrittenDuration {
            duration: SignedDuration::from_hours(hours),
            written: format!("{hours}h").into(),
        }),
    })
}

pub(crate) fn policy(name: &'static str) -> impl Strategy<Value = Policy> {
    let tags = prop_oneof![
        Just((TagSelector::All, vec![])),
        select(vec!["main-*", "v*", "*-*"])
            .prop_map(|glob| (TagSelector::Globs(Globs::new(&[glob, "!dev-1"]).unwrap()), vec![])),
        Just((
            TagSelector::Pattern(regex::Regex::new(r"\A(?:(?<branch>[a-z]+)-?(?<version>\d.*)?)\z").unwrap()),
            vec!["branch".to_owned()]
        )),
    ];
    let keep = prop_oneof![
        1 => Just(Keep::None),
        6 => (prop::collection::vec(rule(), 1..3), prop::option::weighted(0.2, 1..4u32)).prop_map(|(mut rules, limit)| {
            rules.extend(limit.and_then(|count| Some(KeepRule::AtMost(count.try_into().ok()?))));
            Keep::Rules(rules)
        }),
    ];
    let registries = prop_oneof![3 => Just(None), 1 => Just(Some(vec!["contoso".parse().unwrap()]))];
    let limits = (prop::option::of(0..4u32), prop::option::of(0..100u32));
    let strategy = (tags, keep, any::<bool>(), registries, limits, facts()).prop_map(
        move |((tags, group_by), keep, enforce, registries, (untag, percent), facts)| Policy {
            name: name.parse().unwrap(),
            description: None,
            owner: None,
            select: Selector { registries, repositories: None, tags, facts },
            group_by,
            keep,
            delete_manifest_after: None,
            mode: if enforce { PolicyMode::Enforce } else { PolicyMode::DryRun },
            limits: PolicyLimits { untag, percent },
            schedule: None,
            allow_unmatched: AllowUnmatched::None,
            lines: BTreeMap::new(),
            file: "policies.yaml".into(),
            revision: "sha256:0".into(),
        },
    );
    strategy.boxed()
}

pub(crate) fn claim() -> impl Strategy<Value = Claim> {
    prop_oneof![8 => named_claim(), 1 => nameless_claim(), 1 => crate::version_ranges::ranged(named_claim())]
}

fn nameless_claim() -> impl Strategy<Value = Claim> {
    let name = || select(vec!["contoso.example/app", "lib/core", "fabrikam.example/app", "mirror.example/app"]);
    let names = prop::collection::vec(name(), 1..3).prop_map(|names| -> Arc<[ImageReference]> {
        names.into_iter().map(|name| ImageReference::parse_verbatim(name).unwrap()).collect()
    });
    let naming = prop_oneof![
        1 => Just(Naming::Written),
        3 => names.clone().prop_map(Naming::ContainerImageId),
        1 => names.prop_map(Naming::ObjectImageId),
    ];
    (prop_oneof![0..IMAGES, 100..104u8, Just(250)], naming)
        .prop_map(|(image, naming)| Claim { naming, ..id(&digest(image)) })
}

pub(crate) fn id(digest: &Digest) -> Claim {
    let holder = Holder::File { path: "values.yaml".into(), line: 9 };
    Claim::new(digest.to_string().parse().unwrap(), Arc::new(holder))
}

pub(crate) fn unresolved() -> impl Strategy<Value = UnresolvedReference> {
    let host = select(vec![None, Some("contoso.example"), Some("mirror.example")]);
    let path = select(vec![&["app"][..], &["lib/", ""], &["nothing"]]);
    let beside = select(vec![&[][..], &["v1"], &["nothing"]]);
    (host, path, beside).prop_map(|(host, path, beside)| UnresolvedReference {
        text: "${OPEN}".into(),
        adjacent_words: beside.iter().map(|&word| word.into()).collect(),
        host: host.map(str::to_owned),
        path: PathPattern::of(path),
        holder: Arc::new(Holder::File { path: "values.yaml".into(), line: 7 }),
    })
}

/// A word that may mean a tag or an image; most of these are there.
pub(crate) fn mention() -> impl Strategy<Value = Mention> {
    let tag = tag_name().prop_map(|tag| MentionedImage::Tag(tag.parse().unwrap()));
    let image = prop_oneof![tag, (0..IMAGES).prop_map(|image| MentionedImage::Digest(digest(image)))];
    let place = (select(vec!["contoso", "fabrikam"]), select(vec!["app", "lib/core"]));
    (place, image, 0..2u32).prop_map(|((registry, repository), image, line)| Mention {
        registry: registry.parse().unwrap(),
        repository: repository.parse().unwrap(),
        image,
        text: "word".into(),
        holder: Arc::new(Holder::File { path: "notes.md".into(), line }),
    })
}

fn named_claim() -> impl Strategy<Value = Claim> {
    let place = select(vec!["contoso.example/app", "app", "fabrikam.example/lib/core", "ghcr.io/app"]);
    let digests = prop_oneof![(0..IMAGES).prop_map(digest), (100..104u8).prop_map(digest)];
    (place, prop::option::of(tag_name()), prop::option::of(digests), 0..3u32).prop_map(|(place, tag, digest, line)| {
        let tag = tag.map_or(String::new(), |tag| format!(":{tag}"));
        let digest = digest.map_or(String::new(), |digest| format!("@{digest}"));
        let holder = Holder::File { path: "values.yaml".into(), line };
        Claim::new(format!("{place}{tag}{digest}").parse().unwrap(), Arc::new(holder))
    })
}

/// A hold on a tag and mostly its digest, mostly in force, mostly on a registry that is there.
pub(crate) fn hold() -> impl Strategy<Value = Arc<Hold>> {
    let place = select(vec!["https://contoso.example", "https://fabrikam.example", "https://gone.example"]);
    let hours = select(vec![-1i64, 0, 1, 300]);
    (place, select(vec!["app", "lib/core"]), tag_name(), prop::option::of((0..IMAGES).prop_map(digest)), hours)
        .prop_map(|(endpoint, repository, tag, digest, hours)| {
            Arc::new(Hold {
                registry: "contoso".parse().unwrap(),
                endpoint: endpoint.into(),
                repository: repository.parse().unwrap(),
                tag: tag.parse().unwrap(),
                digest,
                reason: "incident".into(),
                by: "ada@here".into(),
                since: now() - SignedDuration::from_hours(9),
                until: now() + SignedDuration::from_hours(hours),
                origin: HoldOrigin::Person,
            })
        })
}

/// What a restored tag counts by.
fn original() -> impl Strategy<Value = OriginalDate> {
    time().prop_map(|time| time.map_or(OriginalDate::Unknown, |time| OriginalDate::Known(time, DateOrigin::Created)))
}

fn source(name: &'static str) -> impl Strategy<Value = SourceOutcome> {
    let claims = prop::collection::vec(claim(), 0..3);
    let open = prop_oneof![9 => Just(vec![]), 1 => prop::collection::vec(unresolved(), 1..3)];
    let mentions = prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(mention(), 1..4)];
    let registries = prop_oneof![2 => Just(None), 1 => Just(Some(vec!["fabrikam".parse().unwrap()]))];
    (claims, open, mentions, registries).prop_map(move |(claims, unresolved, mentions, registries)| SourceOutcome {
        name: name.parse().unwrap(),
        kind: "image-references",
        registries,
        state: SourceState::Complete { claims, unresolved, mentions, as_of: None, notes: Vec::new() },
    })
}

pub(crate) fn random_facts() -> impl Strategy<Value = RandomFacts> {
    let registries = (registry("contoso"), registry("fabrikam")).prop_map(|(a, b)| vec![a, b]);
    let sources = (source("aks"), source("releases")).prop_map(|(a, b)| vec![a, b]);
    let policies = (policy("one"), prop::option::of(policy("three")), prop::option::of(policy("two")));
    let limits = (0..12u32, 0..=100u32, 0..3u32);
    let evidence = (sources, prop::collection::vec(hold(), 0..3));
    (registries, evidence, policies, limits).prop_map(
        |(registries, (sources, holds), (a, b, c), (untag, percent, leave))| {
            let mut world = RandomFacts {
                rules: Rules {
                    policies: [Some(a), b, c].into_iter().flatten().collect(),
                    limits: Limits { untag, percent, leave, ..Limits::default() },
                    timezone: TimeZone::get("Europe/London").unwrap(),
                    undo_window: Duration::from_hours(24 * 7),
                },
                inventory: Inventory { registries },
                claims: Claims { sources, holds, ..Claims::default() },
            };
            world.inventory.sort();
            world.claims.sort();
            world
        },
    )
}

/// An order that a number gives.
pub(crate) struct Shuffle(pub(crate) u64);

impl Shuffle {
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pick = usize::try_from(self.0 >> 33).unwrap_or(0) % (end + 1);
            list.swap(end, pick);
        }
    }
}
