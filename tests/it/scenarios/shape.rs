//! How a scenario is written, and what it becomes.

mod past;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tagwarden::domain::{
    Blob, Claim, Claims, CoverageBasis, DateOrigin, Digest, Gap, GapTarget, Hold, HoldOrigin, Holder, ImageReference,
    Inventory, Limits, Lock, Manifest, ManifestDetail, Mention, MentionedImage, Naming, OriginalDate, PathPattern,
    PermissionMode, Policy, PullTime, RangeSelection, Registry, RegistryInfo, RegistryName, RemovalAbility,
    RemovalMethod, RemovalObstacle, Repository, RepositoryName, RetentionDays, RuleHistory, RuleId, RuleKey, Rules,
    ServiceTier, SourceOutcome, SourceState, Tag, UnlistedManifests, UnresolvedReference, UntaggedManifest,
};
use tagwarden::policy;

use super::manifest_shape::ManifestShape;

/// A scenario. Images are written by short names; `{name}` stands for the digest in tags (`{app}.sig`) and claims
/// (`shop/api@{app}`), of the algorithm sha512 where the name begins with `long-`. Times are ages (`20d`), `+2d` for what has not come yet, or absolute.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) lesson: String,
    #[serde(default)]
    now: Option<Timestamp>,
    #[serde(default)]
    timezone: Option<String>,
    #[serde(default)]
    limits: Bounds,
    /// The list of a policy file, as text.
    policies: String,
    /// What is said of the only registry, `contoso`.
    #[serde(default)]
    registry: RegistryShape,
    #[serde(default)]
    repositories: BTreeMap<String, RepositoryShape>,
    /// Instead of `registry` and `repositories`, where there are several.
    #[serde(default)]
    registries: BTreeMap<String, RegistryShape>,
    #[serde(default)]
    sources: BTreeMap<String, SourceShape>,
    /// `registry/repository:tag +14d`: until when, and `@image` after the tag for its digest then.
    #[serde(default)]
    holds: Vec<String>,
    /// A line for each tag: its place, its verdict, its reasons. Runs of blanks count as one.
    expect: String,
    #[serde(default)]
    refusals: Vec<String>,
    #[serde(default)]
    drift: Vec<String>,
    #[serde(default)]
    bytes: Vec<String>,
    /// A line for each untagged manifest whose time is over, for what waits, and for what is refused of that.
    #[serde(default)]
    deletions: Vec<String>,
    /// By what rules that match nothing are judged: `whole` or `last`. Without it, they are not.
    #[serde(default)]
    judged: Option<String>,
    /// Rules that matched before: `policy key rule`.
    #[serde(default)]
    matched_before: Vec<String>,
    /// Rules that the last whole plan found to match nothing.
    #[serde(default)]
    unmatched_before: Vec<String>,
    /// A line for each rule that matches nothing.
    #[serde(default)]
    unmatched: Vec<String>,
}

/// As generous as can be, so that a scenario about something else needs no limits.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Bounds {
    untag: u32,
    percent: u32,
    leave: u32,
    delete: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { untag: 1000, percent: 100, leave: 0, delete: 1000 }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word that a scenario may say by itself")]
struct RegistryShape {
    hosts: Vec<String>,
    removal: String,
    impossible: bool,
    /// Repositories in which nothing can be removed.
    obstacles: Vec<String>,
    /// What the registry does with untagged manifests: `off`, `unread`, or days. Without it, nobody was asked.
    retention: Option<String>,
    accepts_retention: bool,
    accepts_same_content: bool,
    /// Seconds by which its clock is ahead.
    clock_ahead: Option<i64>,
    gaps: Vec<String>,
    hides_untagged: bool,
    /// Where its repositories may have manifests that are not listed; nowhere unless it hides untagged ones.
    unlisted: Option<String>,
    expires_companions: bool,
    deletes_with_last_tag: bool,
    deletes_index_contents: bool,
    repositories: BTreeMap<String, RepositoryShape>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RepositoryShape {
    lock: Option<String>,
    gaps: Vec<String>,
    /// `image`, `image 20d` (its push), or more.
    tags: BTreeMap<String, TagShape>,
    /// Those about which there is something to say; the others are plain images.
    manifests: BTreeMap<String, ManifestShape>,
    /// Images that are named and were not read.
    absent: Vec<String>,
    /// Those that indexes list for no platform.
    attached: Vec<String>,
    /// When the registry was first looked at: the tags without a time were there already.
    first_read_at: Option<String>,
    /// When Tagwarden last removed a tag whose use went with it.
    removed_at: Option<String>,
    /// The images that Tagwarden took tags from: `tag policy+policy 20d`, with `back` where it was put back since.
    untagged: BTreeMap<String, Vec<String>>,
    /// Images whose time is not asked about that it took tags from as well.
    others: Vec<String>,
    /// When the registry says that an untagged image was last changed.
    changed: BTreeMap<String, String>,
    /// Since when earlier runs found an image free that no tag names.
    free: BTreeMap<String, String>,
    /// Tags that images had and that somebody else removed.
    former: BTreeMap<String, Vec<String>>,
}

impl RegistryShape {
    fn unlisted(&self) -> UnlistedManifests {
        match &self.unlisted {
            Some(label) => UnlistedManifests::from_label(label).unwrap(),
            None if self.hides_untagged => UnlistedManifests::default(),
            None => UnlistedManifests::None,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TagShape {
    Short(String),
    Long(LongTag),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LongTag {
    image: Option<String>,
    pushed: Option<String>,
    seen: Option<String>,
    /// It was restored, and had this time before; `unknown` where nobody knows it.
    original: Option<String>,
    /// Its last pull, or `never`. Without it, the time is unknown.
    pulled: Option<String>,
    lock: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SourceShape {
    /// References. An image id is `{config}`, with ` as ` and the names of its container behind it, or ` among ` and
    /// those of the object that runs it. ` in ` or ` all in ` stands before a range of versions.
    claims: Vec<String>,
    /// Paths with an open tag, with the host where there is one; `*` stands for a placeholder in it.
    unresolved: Vec<String>,
    /// `registry/repository:tag` or `registry/repository@image`.
    mentions: Vec<String>,
    registries: Option<Vec<String>>,
    failed: Option<String>,
}

/// A scenario as the engine sees it.
pub(crate) struct ScenarioFacts {
    pub(crate) rules: Rules,
    pub(crate) inventory: Inventory,
    pub(crate) claims: Claims,
    pub(crate) untagged: Vec<UntaggedManifest>,
    pub(crate) others: BTreeSet<(RegistryName, RepositoryName, Digest)>,
    pub(crate) now: Timestamp,
    pub(crate) basis: CoverageBasis,
    pub(crate) history: RuleHistory,
    pub(crate) bytes: bool,
    pub(crate) names: Names,
}

/// The short names of digests.
#[derive(Default)]
pub(crate) struct Names(RefCell<BTreeMap<Digest, String>>);

impl Names {
    fn digest(&self, name: &str) -> Digest {
        let mut digest = Digest::of(name.as_bytes());
        if name.starts_with("long-") {
            digest = format!("sha512:{0}{0}", digest.hex()).parse().unwrap();
        }
        self.0.borrow_mut().insert(digest.clone(), name.to_owned());
        digest
    }

    pub(crate) fn of(&self, digest: &Digest) -> String {
        self.0.borrow().get(digest).cloned().unwrap_or_else(|| digest.to_string())
    }

    /// Puts short names for the digests in a tag.
    pub(crate) fn short(&self, tag: &str) -> String {
        let names = self.0.borrow();
        let name = names.iter().find(|(digest, _)| tag.starts_with(&digest.to_string().replace(':', "-")));
        name.map_or_else(
            || tag.to_owned(),
            |(digest, name)| tag.replace(&digest.to_string().replace(':', "-"), &format!("{{{name}}}")),
        )
    }

    /// Puts digests for `{name}`, with `joint` between algorithm and value.
    fn long(&self, text: &str, joint: &str) -> String {
        let Some((before, rest)) = text.split_once('{') else { return text.to_owned() };
        let (name, after) = rest.split_once('}').expect("a closing brace");
        format!("{before}{}{}", self.digest(name).to_string().replace(':', joint), self.long(after, joint))
    }
}

impl Scenario {
    /// What should come of it, in the form in which it is compared.
    pub(crate) fn expected(&self) -> Vec<String> {
        let plain = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut lines: Vec<String> = self.expect.lines().map(plain).filter(|line| !line.is_empty()).collect();
        for (word, more) in [
            ("refused", &self.refusals),
            ("drift", &self.drift),
            ("bytes", &self.bytes),
            ("deletion", &self.deletions),
            ("unmatched", &self.unmatched),
        ] {
            lines.extend(more.iter().map(|line| format!("{word} {}", plain(line))));
        }
        lines
    }

    pub(crate) fn stage(&self, name: &str) -> ScenarioFacts {
        let now = self.now.unwrap_or_else(|| "2026-11-23T12:00:00Z".parse().unwrap());
        let names = Names::default();
        let list = self.policies.replace('\n', "\n  ");
        let policies = policy::parse(name, &format!("policies:\n  {list}"))
            .unwrap_or_else(|problems| panic!("{name}: {problems:#?}"));
        let timezone = self.timezone.as_ref().map_or(TimeZone::UTC, |zone| TimeZone::get(zone).unwrap());
        let Bounds { untag, percent, leave, delete } = self.limits;
        let scene = Scene { now, names: &names, policies: &policies.clone() };
        let mut registries: Vec<Registry> =
            self.registries.iter().map(|(name, shape)| scene.registry(name, shape, &shape.repositories)).collect();
        if registries.is_empty() {
            registries.push(scene.registry("contoso", &self.registry, &self.repositories));
        }
        let sources = self.sources.iter().map(|(name, shape)| scene.source(name, shape)).collect();
        let names_of = |registry: &Registry| (registry.name.clone(), registry.hosts.clone());
        let known: Vec<_> = registries.iter().map(names_of).collect();
        for registry in &mut registries {
            let others = known.iter().filter(|(name, _)| *name != registry.name);
            registry.other_hosts = others.flat_map(|(_, hosts)| hosts.clone()).collect();
        }
        self.fill_past(&scene, &policies, &mut registries);
        let holds = self.holds.iter().map(|text| scene.hold(text, &registries)).collect();
        let (mut inventory, mut claims) = (Inventory { registries }, Claims { sources, holds, ..Claims::default() });
        inventory.sort();
        claims.sort();
        let undo_window = Duration::from_hours(24 * 7);
        let rules = Rules { policies, limits: Limits { untag, percent, leave, delete }, timezone, undo_window };
        let mut everywhere: Vec<(&str, &BTreeMap<String, RepositoryShape>)> =
            self.registries.iter().map(|(name, shape)| (name.as_str(), &shape.repositories)).collect();
        everywhere.push(("contoso", &self.repositories));
        let (mut untagged, mut others) = (Vec::new(), BTreeSet::new());
        for (registry, (repository, shape)) in
            everywhere.iter().flat_map(|(name, there)| there.iter().map(move |one| (*name, one)))
        {
            let place =
                || -> (RegistryName, RepositoryName) { (registry.parse().unwrap(), repository.parse().unwrap()) };
            untagged.extend(shape.untagged.iter().map(|(image, tags)| scene.untagged(place(), image, tags, shape)));
            others.extend(shape.others.iter().map(|image| (place().0, place().1, names.digest(image))));
        }
        let basis = match self.judged.as_deref() {
            None => CoverageBasis::NotChecked,
            Some("whole") => CoverageBasis::FullInventory,
            Some("last") => CoverageBasis::LastFullPlan,
            Some(other) => panic!("{name}: no such basis: {other}"),
        };
        let before = now - SignedDuration::from_hours(24);
        let endpoints = || inventory.registries.iter().map(|registry| (registry.endpoint.clone(), before));
        let history = RuleHistory {
            matched: self.matched_before.iter().map(|line| (rule(line), endpoints().collect())).collect(),
            unmatched: self.unmatched_before.iter().map(|line| (rule(line), before)).collect(),
        };
        let bytes = !self.bytes.is_empty();
        ScenarioFacts { rules, inventory, claims, untagged, others, now, basis, history, bytes, names }
    }
}

/// A rule by its policy, its key and its text.
fn rule(line: &str) -> RuleId {
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    let [policy, key, written] = &words[..] else { panic!("a rule is a policy, a key and a text: {line}") };
    RuleId { policy: policy.parse().unwrap(), key: RuleKey::from_label(key).expect(key), written: (*written).into() }
}

struct Scene<'a> {
    now: Timestamp,
    names: &'a Names,
    policies: &'a [Policy],
}

impl Scene<'_> {
    fn time(&self, text: &str) -> Timestamp {
        let span = |text: &str| SignedDuration::try_from(humantime::parse_duration(text).expect(text)).unwrap();
        if let Some(ahead) = text.strip_prefix('+') {
            self.now + span(ahead)
        } else if text.contains('T') {
            text.parse().expect(text)
        } else {
            self.now - span(text)
        }
    }

    fn gap(&self, text: &str) -> Gap {
        let (what, of) = text.split_once(' ').unwrap_or((text, ""));
        let at = match what {
            "catalogue" => GapTarget::Catalogue,
            "registry-info" => GapTarget::RegistryInfo,
            "tag-list" => GapTarget::TagList,
            "vanished" => GapTarget::VanishedTag(of.parse().unwrap()),
            "invalid-name" => GapTarget::InvalidName(of.into()),
            "listed-digest" => GapTarget::ListedDigest(self.names.digest(of)),
            "tag" => GapTarget::Tag(of.parse().unwrap()),
            "manifest" => GapTarget::Manifest(self.names.digest(of)),
            "created" => GapTarget::CreationTime(self.names.digest(of)),
            "referrers" => GapTarget::Referrers(self.names.digest(of)),
            _ => panic!("no such gap: {text}"),
        };
        Gap { target: at, kind: "http-500", has_help: false, message: "the registry failed".into() }
    }

    fn registry(&self, name: &str, shape: &RegistryShape, there: &BTreeMap<String, RepositoryShape>) -> Registry {
        let hosts = if shape.hosts.is_empty() { vec![format!("{name}.example")] } else { shape.hosts.clone() };
        Registry {
            endpoint: format!("https://{}", hosts[0]),
            hosts,
            removal: match shape.removal.as_str() {
                "" | "untag" => RemovalMethod::Untag,
                "manifest" => RemovalMethod::DeleteManifest,
                other => panic!("no such removal: {other}"),
            },
            ability: if shape.impossible {
                RemovalAbility::Impossible(RemovalObstacle::NoUntag)
            } else {
                RemovalAbility::Able
            },
            obstacles: shape
                .obstacles
                .iter()
                .map(|name| (name.parse().unwrap(), RemovalObstacle::Denied { message: "no right".into() }))
                .collect(),
            info: shape.retention.as_deref().map(registry_info),
            accepts_retention: shape.accepts_retention,
            accepts_same_content: shape.accepts_same_content,
            clock_ahead: shape.clock_ahead.map(SignedDuration::from_secs),
            repositories: there.iter().map(|(name, one)| self.repository(name, one, shape.unlisted())).collect(),
            gaps: shape.gaps.iter().map(|gap| self.gap(gap)).collect(),
            lists_untagged: !shape.hides_untagged,
            expires_companions: shape.expires_companions,
            deletes_with_last_tag: shape.deletes_with_last_tag,
            deletes_index_contents: shape.deletes_index_contents,
            ..Registry::empty(name.parse().unwrap(), "distribution")
        }
    }

    fn repository(&self, name: &str, shape: &RepositoryShape, unlisted: UnlistedManifests) -> Repository {
        let mut repository = Repository { unlisted, ..Repository::empty(name.parse().unwrap()) };
        repository.lock = shape.lock.as_deref().map(lock);
        repository.first_read_at = shape.first_read_at.as_ref().map(|time| self.time(time).into());
        repository.gaps = shape.gaps.iter().map(|gap| self.gap(gap)).collect();
        repository.removed_at = shape.removed_at.as_ref().map(|time| self.time(time).into());
        for (name, shape) in &shape.tags {
            repository.tags.push(self.tag(name, shape));
            if let TagShape::Long(LongTag { pulled: Some(pulled), .. }) = shape {
                let pulled = if pulled == "never" { PullTime::Never } else { PullTime::At(self.time(pulled).into()) };
                repository.set_pull_time(self.names.long(name, "-").parse().unwrap(), pulled);
            }
            if let TagShape::Long(LongTag { original: Some(original), .. }) = shape {
                let at = || OriginalDate::Known(self.time(original).into(), DateOrigin::Pushed);
                let original = if original == "unknown" { OriginalDate::Unknown } else { at() };
                repository.original_dates.insert(name.parse().unwrap(), original);
            }
        }
        for (name, manifest) in &shape.manifests {
            repository.manifests.insert(self.names.digest(name), self.manifest(manifest));
            manifest.record(&self.names.digest(name), self.policies, &mut repository);
        }
        let children = shape.manifests.values().flat_map(|manifest| &manifest.children);
        let mut named: Vec<Digest> = children.map(|child| self.names.digest(child)).collect();
        named.extend(repository.tags.iter().filter_map(|tag| tag.digest.clone()));
        named.extend(shape.untagged.keys().map(|image| self.names.digest(image)));
        repository.attached = shape.attached.iter().map(|name| self.names.digest(name)).collect();
        let absent: Vec<Digest> = shape.absent.iter().map(|name| self.names.digest(name)).collect();
        for digest in named.into_iter().filter(|digest| !absent.contains(digest)) {
            repository.manifests.entry(digest).or_insert_with(|| self.manifest(&ManifestShape::default()));
        }
        for image in shape.untagged.keys().chain(shape.changed.keys()) {
            let digest = self.names.digest(image);
            if repository.manifests.contains_key(&digest) {
                repository.untagged.insert(digest, shape.changed.get(image).map(|time| self.time(time)));
            }
        }
        repository
    }

    fn tag(&self, name: &str, shape: &TagShape) -> Tag {
        let mut tag = Tag {
            name: self.names.long(name, "-").parse().expect(name),
            digest: None,
            pushed_at: None,
            first_seen: None,
            lock: None,
        };
        match shape {
            TagShape::Short(text) => {
                let (image, pushed) = text.split_once(' ').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
                tag.digest = Some(self.names.digest(image));
                tag.pushed_at = pushed.map(|time| self.time(time).into());
            }
            TagShape::Long(long) => {
                tag.digest = long.image.as_ref().map(|image| self.names.digest(image));
                tag.pushed_at = long.pushed.as_ref().map(|time| self.time(time).into());
                tag.first_seen = long.seen.as_ref().map(|time| self.time(time).into());
                tag.lock = long.lock.as_deref().map(lock);
            }
        }
        tag
    }

    fn manifest(&self, shape: &ManifestShape) -> Manifest {
        let digest = |name: &String| self.names.digest(name);
        let blob = |text: &String| {
            let (name, size) = text.split_once(' ').expect("a blob is a name and its bytes");
            Blob { digest: self.names.digest(name), size: size.parse().unwrap() }
        };
        let media_type = if shape.children.is_empty() { "manifest" } else { "index" };
        Manifest {
            media_type: shape
                .media_type
                .clone()
                .unwrap_or_else(|| format!("application/vnd.oci.image.{media_type}.v1+json"))
                .into(),
            size: shape.size,
            config: shape.config.as_ref().map(digest).map(Box::new),
            blobs: shape.blobs.iter().map(blob).collect(),
            children: shape.children.iter().map(digest).collect(),
            subject: shape.subject.as_ref().map(digest).map(Box::new),
            created_at: shape.created.as_ref().map(|time| self.time(time).into()),
            lock: shape.lock.as_deref().map(lock),
            detail: shape
                .listed
                .as_ref()
                .map_or(ManifestDetail::Full, |bytes| ManifestDetail::Listed { image_size: bytes.parse().ok() }),
        }
    }

    /// A hold on a tag of a registry at its address.
    fn hold(&self, text: &str, registries: &[Registry]) -> Arc<Hold> {
        let (image, until) = text.split_once(' ').expect("a hold is an image and its end");
        let (place, tag) = image.split_once(':').expect("a tag");
        let (registry, repository) = place.split_once('/').expect("a registry and a repository");
        let (tag, digest) =
            tag.split_once('@').map_or((tag, None), |(tag, image)| (tag, Some(self.names.digest(image))));
        let endpoint = registries.iter().find(|one| one.name.as_str() == registry).map(|one| one.endpoint.as_str());
        Arc::new(Hold {
            registry: registry.parse().unwrap(),
            endpoint: endpoint.unwrap_or("https://elsewhere.example").into(),
            repository: repository.parse().unwrap(),
            tag: tag.parse().unwrap(),
            digest,
            reason: "incident".into(),
            by: "ada@here".into(),
            since: self.now,
            until: self.time(until),
            origin: HoldOrigin::Person,
        })
    }

    fn source(&self, name: &str, shape: &SourceShape) -> SourceOutcome {
        let holder = || Arc::new(Holder::File { path: format!("{name}.txt"), line: 1 });
        let names = |text: &str| -> Arc<[ImageReference]> {
            let names = text.split_whitespace().map(|name| ImageReference::parse_verbatim(name).expect(name));
            names.collect::<Vec<_>>().into()
        };
        let ranged = |text: &String| {
            let words = [(" all in ", RangeSelection::All), (" in ", RangeSelection::Highest)];
            words.into_iter().find_map(|(word, ranges)| {
                let (image, range) = text.split_once(word)?;
                let naming = Naming::Range(Arc::new(range.parse().expect(text)), ranges);
                Some(Claim { naming, ..Claim::new(ImageReference::parse_verbatim(image).expect(text), holder()) })
            })
        };
        let claim = |text: &String| {
            if let Some(claim) = ranged(text) {
                return claim;
            }
            let (image, naming) = match (text.split_once(" as "), text.split_once(" among ")) {
                (Some((image, all)), _) => (image, Naming::ContainerImageId(names(all))),
                (_, Some((image, all))) => (image, Naming::ObjectImageId(names(all))),
                _ => (text.as_str(), Naming::Written),
            };
            let image = self.names.long(image, ":").parse().expect(text);
            Claim { naming, ..Claim::new(image, holder()) }
        };
        let unresolved = |text: &String| {
            let (host, path) = match text.split_once('/') {
                Some((host, path)) if host.contains('.') => (Some(host.to_owned()), path),
                _ => (None, text.as_str()),
            };
            let (path, beside) = path.split_once(" beside ").unwrap_or((path, ""));
            let parts: Vec<&str> = path.split('*').collect();
            let beside = beside.split_whitespace().map(Into::into).collect();
            let (text, path) = (text.as_str().into(), PathPattern::of(&parts));
            UnresolvedReference { text, host, path, adjacent_words: beside, holder: holder() }
        };
        let mention = |text: &String| {
            let (place, image, tag) = if let Some((place, image)) = text.split_once('@') {
                (place, MentionedImage::Digest(self.names.digest(image)), image)
            } else {
                let (place, tag) = text.rsplit_once(':').expect(text);
                (place, MentionedImage::Tag(tag.parse().expect(text)), tag)
            };
            let (registry, repository) = place.split_once('/').expect(text);
            let (registry, repository) = (registry.parse().expect(text), repository.parse().expect(text));
            Mention { registry, repository, image, text: tag.into(), holder: holder() }
        };
        let state = match &shape.failed {
            Some(message) => SourceState::Failed { kind: "unreadable", message: message.as_str().into() },
            None => SourceState::Complete {
                claims: shape.claims.iter().map(claim).collect(),
                unresolved: shape.unresolved.iter().map(unresolved).collect(),
                mentions: shape.mentions.iter().map(mention).collect(),
                as_of: None,
                notes: Vec::new(),
            },
        };
        let registries = |names: &Vec<String>| names.iter().map(|name| name.parse().unwrap()).collect();
        SourceOutcome {
            name: name.parse().unwrap(),
            kind: "image-references",
            registries: shape.registries.as_ref().map(registries),
            state,
        }
    }
}

/// An Azure registry with that retention policy.
pub(crate) fn registry_info(retention: &str) -> RegistryInfo {
    RegistryInfo {
        subscription: "00000000-0000-0000-0000-000000000001".into(),
        resource_group: "rg".into(),
        resource: "contoso".into(),
        tier: Some(ServiceTier::Premium),
        untagged_retention: match retention {
            "off" => RetentionDays::Off,
            "unread" => RetentionDays::Unknown,
            days => RetentionDays::Days(days.parse().unwrap()),
        },
        soft_delete: RetentionDays::Off,
        permissions: Some(PermissionMode::Registry),
        replicas: Vec::new(),
        stored_bytes: None,
        cleanup_rules: Vec::new(),
    }
}

fn lock(text: &str) -> Lock {
    let known = [("delete", Lock::Delete), ("write", Lock::Write), ("delete+write", Lock::DeleteAndWrite)];
    known.into_iter().find(|(name, _)| *name == text).unwrap_or_else(|| panic!("no such lock: {text}")).1
}
