//! Policies, seen from a removal: at least one must select its tag, and none of those may keep it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::date::{no_later_than, tag_date};
use super::members::{Member, image_times, newest_image_times, periods_of};
use super::undated::UndatedImages;
use super::version::{ParsedVersion, VersionOrder, read};
use super::{RemovalPolicies, TagRemoval, TagSet, Violation, accompanies};
use crate::domain::{
    ArtifactType, CompactTime, Digest, DigestMap, Gap, Globs, Keep, KeepRule, KnownTexts, Period, Policy, PolicyMode,
    PullTime, Registry, Repository, Rules, Tag, TagSelector, TextCondition, VersionPart, WrittenDuration,
};

/// Checks every policy for removals in one repository. Returns the policies that expire each, by name.
pub(super) fn check_rules<'a>(
    rules: &'a Rules,
    registry: &Registry,
    repository: &Repository,
    going: &[TagRemoval<'a>],
    now: Timestamp,
    findings: &mut Vec<Violation>,
) -> RemovalPolicies<'a> {
    let mut owners = RemovalPolicies::new(repository.tags.len());
    let mut dry = TagSet::of(repository, []);
    let mut policies: Vec<&Policy> =
        rules.policies.iter().filter(|policy| applies_to(policy, registry, repository)).collect();
    policies.sort_by_key(|policy| &policy.name);
    for policy in policies {
        let members = members(policy, repository, now);
        let open = open_members(policy, repository, now);
        let kept = kept(policy, repository, &members, &rules.timezone, now);
        for one in going.iter().filter(|one| open.contains(one.removal.position.tag)) {
            let by = format!("policy {} may select it", policy.name);
            findings.push(Violation::ProtectedTag { image: one.image(), by });
        }
        let selected = TagSet::of(repository, members.values().flatten().map(|member| member.position));
        // There may be a hundred thousand of them.
        drop(members);
        for one in going.iter().filter(|one| selected.contains(one.removal.position.tag)) {
            owners.add(one.removal.position.tag, &policy.name);
            if kept.contains(one.removal.position.tag) {
                let by = format!("policy {} keeps it", policy.name);
                findings.push(Violation::ProtectedTag { image: one.image(), by });
            }
            if policy.mode == PolicyMode::DryRun {
                dry.insert(one.removal.position.tag);
            }
        }
    }
    for one in going {
        let at = one.removal.position;
        let image = || one.image();
        if one.removal.companion_of.is_some() {
            owners.set(at.tag, &one.removal.policy);
        }
        let own = owners.get(at);
        if own.is_empty() {
            findings.push(Violation::ProtectedTag { image: image(), by: "no policy selects it".to_owned() });
        } else if own.first() != Some(&&one.removal.policy) {
            findings.push(Violation::FactMismatch { image: image(), what: "the policy that does not keep it" });
        } else if !own.iter().copied().eq(one.removal.policies.iter()) {
            // A refusal of a policy covers a removal by this list.
            findings.push(Violation::FactMismatch { image: image(), what: "the list of policies that expire it" });
        }
        if one.removal.companion_of.is_none() && one.removal.enforce && dry.contains(at.tag) {
            findings.push(Violation::WronglyEnforced { image: image(), why: "a policy only reports it".to_owned() });
        }
    }
    owners
}

fn applies_to(policy: &Policy, registry: &Registry, repository: &Repository) -> bool {
    let registry_named = match &policy.select.registries {
        Some(names) => names.contains(&registry.name),
        None => true,
    };
    registry_named
        && match &policy.select.repositories {
            Some(globs) => globs.matches(repository.name.as_str()),
            None => true,
        }
}

/// Returns true if something was pushed to a repository or pulled from it since a time; `None` if nobody can say.
fn used_since(repository: &Repository, start: Timestamp, now: Timestamp) -> Option<bool> {
    let since = |time: Timestamp| (start..=now).contains(&time);
    let dates = || repository.tags.iter().map(|tag| (tag, tag_date(repository, tag, now).timestamp()));
    let pull = |tag: &Tag| match repository.pull_times.get(&tag.name)? {
        PullTime::Never => Some(None),
        PullTime::At(at) => Some(Some(at.timestamp())).filter(|at| at.is_none_or(|at| at <= now)),
    };
    let by_digest = repository.digest_pulled_at.map(CompactTime::timestamp);
    if by_digest.is_some_and(since)
        || dates().any(|(tag, date)| date.is_some_and(since) || pull(tag).flatten().is_some_and(since))
    {
        return Some(true);
    }
    let is_old = |(tag, date): (&Tag, Option<Timestamp>)| {
        date.or_else(|| no_later_than(repository, tag, now)).is_some_and(|latest| latest < start) && pull(tag).is_some()
    };
    let hides = repository.gaps.iter().any(Gap::may_hide_tag);
    let removed = repository.removed_at.is_some_and(|at| at.timestamp() >= start);
    let ahead = by_digest.is_some_and(|at| at > now);
    (!hides && !removed && !ahead && dates().all(is_old)).then_some(false)
}

/// The words for types, by what `artifactType` or the type of the configuration begin with.
const WORDS: [(&str, &str); 18] = [
    ("image", "application/vnd.oci.image.config.v1+json"),
    ("image", "application/vnd.docker.container.image.v1+json"),
    ("chart", "application/vnd.cncf.helm.config.v1+json"),
    ("signature", "application/vnd.dev.cosign.artifact.sig.v1+json"),
    ("signature", "application/vnd.cncf.notary.signature"),
    ("signature", "application/vnd.cncf.notary.v2.signature"),
    ("signature", "application/vnd.dev.sigstore.bundle"),
    ("attestation", "application/vnd.in-toto+json"),
    ("attestation", "application/vnd.dsse.envelope.v1+json"),
    ("attestation", "application/vnd.dev.cosign.artifact.att.v1+json"),
    ("sbom", "application/spdx+json"),
    ("sbom", "text/spdx+json"),
    ("sbom", "text/spdx"),
    ("sbom", "application/vnd.syft+json"),
    ("sbom", "application/vnd.dev.cosign.artifact.sbom.v1+json"),
    ("sbom", "application/vnd.cyclonedx"),
    ("wasm", "application/vnd.wasm."),
    ("cache", "application/vnd.buildkit.cacheconfig."),
];

/// Returns true if a tag names an artifact of one of the types; `None` if nobody can say.
fn has_type(types: &[ArtifactType], repository: &Repository, tag: &Tag) -> Option<bool> {
    let digest = tag.digest.as_ref();
    let manifest = digest.and_then(|digest| Some((digest, repository.manifests.get(digest)?)));
    let own = digest.and_then(|digest| repository.artifact_types.get(digest));
    let media_type = manifest.map_or_else(String::new, |(_, manifest)| manifest.media_type.to_string());
    let wanted: BTreeSet<&str> = types.iter().map(ArtifactType::written).collect();
    if wanted.contains(media_type.as_str()) {
        return Some(true);
    }
    let is_index = media_type.ends_with("image.index.v1+json") || media_type.ends_with("manifest.list.v2+json");
    let is_first_format = media_type.starts_with("application/vnd.docker.distribution.manifest.v1+");
    if let Some(own) = own {
        let word = WORDS.iter().find(|(word, begin)| {
            let open = begin.ends_with('.') || begin.ends_with("bundle") || begin.ends_with("cyclonedx");
            let fits = if open { own.starts_with(begin) } else { **own == **begin };
            fits && (*word == "cache" || !is_index && !is_first_format)
        });
        let word = match word {
            Some((word, _)) => word,
            None if is_index => "index",
            None if is_first_format => "image",
            None => "",
        };
        return Some(wanted.contains(word) || wanted.contains(&**own));
    }
    let named = wanted.iter().any(|text| text.contains('/'));
    if is_first_format && wanted.contains("image") {
        return Some(true);
    }
    // Without more, an index may be a cache, and a single manifest is surely not an index.
    let surely_other = |word: &&str| match *word {
        "index" => {
            !is_index
                && (media_type.ends_with(".manifest.v1+json")
                    || media_type.ends_with(".manifest.v2+json")
                    || is_first_format)
        }
        "cache" => is_first_format,
        _ => is_index || is_first_format,
    };
    (!named && wanted.iter().all(surely_other)).then_some(false)
}

/// Returns true if an image has one of the values for each key; `None` if some value is unknown and the others fit.
fn has_values(wanted: &[TextCondition], texts: Option<&KnownTexts>) -> Option<bool> {
    let (mut unknown, mut differs) = (0, 0);
    for one in wanted {
        match texts.and_then(|texts| texts.get(&one.key)) {
            None => unknown += 1,
            Some(Some(value)) if one.matches(value) => {}
            Some(_) => differs += 1,
        }
    }
    match (differs, unknown) {
        (0, 0) => Some(true),
        (0, _) => None,
        _ => Some(false),
    }
}

/// Returns true if a tag has the facts that a policy asks for; `None` if one of them is unknown, and none differs.
fn has_facts(policy: &Policy, repository: &Repository, tag: &Tag, used: Option<bool>) -> Option<bool> {
    let facts = &policy.select.facts;
    let typed = facts.types.as_ref().map_or(Some(true), |types| has_type(types, repository, tag));
    let idle = facts.idle.as_ref().map_or(Some(true), |_| used.map(|used| !used));
    let digest = tag.digest.as_ref();
    let annotated = has_values(&facts.annotations, digest.and_then(|digest| repository.annotations.get(digest)));
    let labelled = has_values(&facts.labels, digest.and_then(|digest| repository.labels.get(digest)));
    let all = [typed, idle, annotated, labelled];
    if all.contains(&Some(false)) { Some(false) } else { (!all.contains(&None)).then_some(true) }
}

/// Returns true if the repository was used as lately as a policy with `idle` asks; `None` if nobody can say, or it does not
/// ask.
fn used_lately(policy: &Policy, repository: &Repository, now: Timestamp) -> Option<bool> {
    let idle = policy.select.facts.idle.as_ref()?;
    // Before the calendar begins, nothing was used.
    used_since(repository, now.checked_sub(idle.duration).unwrap_or(Timestamp::MIN), now)
}

/// Returns the tags that a policy may select, for all that is known.
fn open_members(policy: &Policy, repository: &Repository, now: Timestamp) -> TagSet {
    let mut open = TagSet::of(repository, []);
    if policy.select.facts.is_empty() {
        return open;
    }
    let used = used_lately(policy, repository, now);
    for (position, tag) in (0..).zip(&repository.tags) {
        let named = match &policy.select.tags {
            TagSelector::All => true,
            TagSelector::Globs(globs) => globs.matches(tag.name.as_str()),
            TagSelector::Pattern(pattern) => pattern.captures(tag.name.as_str()).is_some(),
            TagSelector::Untagged(_) => false,
        };
        if named && !accompanies(&tag.name) && has_facts(policy, repository, tag, used).is_none() {
            open.insert(position);
        }
    }
    open
}

/// The tags that a policy selects, by the values of its groups.
type Groups<'a> = BTreeMap<Vec<&'a str>, Vec<Member<'a>>>;

fn members<'a>(policy: &Policy, repository: &'a Repository, now: Timestamp) -> Groups<'a> {
    let by_version = policy.keep.rules().iter().any(|rule| matches!(rule, KeepRule::NewestPer { .. }));
    let names_version = match &policy.select.tags {
        TagSelector::Pattern(pattern) => pattern.capture_names().flatten().any(|named| named == "version"),
        TagSelector::All | TagSelector::Globs(_) | TagSelector::Untagged(_) => false,
    };
    let mut groups = Groups::new();
    let mut group: Vec<&str> = Vec::new();
    let used = used_lately(policy, repository, now);
    for (position, tag) in (0..).zip(&repository.tags) {
        let name = tag.name.as_str();
        let mut version = Some(name);
        group.clear();
        match &policy.select.tags {
            TagSelector::Globs(globs) if !globs.matches(name) => continue,
            TagSelector::Pattern(pattern) => {
                let Some(captures) = pattern.captures(name) else { continue };
                group.extend(policy.group_by.iter().map(|by| captures.name(by).map_or("", |found| found.as_str())));
                if names_version {
                    version = captures.name("version").map(|found| found.as_str());
                }
            }
            TagSelector::All | TagSelector::Globs(_) => {}
            TagSelector::Untagged(_) => continue,
        }
        if accompanies(&tag.name) || has_facts(policy, repository, tag, used) != Some(true) {
            continue;
        }
        let time = tag_date(repository, tag, now).timestamp();
        let latest_possible = if time.is_none() { no_later_than(repository, tag, now) } else { None };
        let member = Member {
            tag,
            version: version.filter(|_| by_version).and_then(read).map(Box::new),
            position,
            time: time.map(CompactTime::from),
            latest_possible: latest_possible.map(CompactTime::from),
        };
        // Few of the tags are the first of their group.
        match groups.get_mut(&group) {
            Some(members) => members.push(member),
            None => drop(groups.insert(group.clone(), vec![member])),
        }
    }
    groups
}

fn kept(policy: &Policy, repository: &Repository, groups: &Groups<'_>, timezone: &TimeZone, now: Timestamp) -> TagSet {
    let mut kept = TagSet::of(repository, []);
    for members in groups.values() {
        match &policy.keep {
            Keep::All => members.iter().for_each(|member| kept.insert(member.position)),
            Keep::None => {}
            Keep::Rules(rules) => {
                let (times, undated) = (image_times(members), UndatedImages::of(members));
                let mut unsure = BTreeSet::new();
                let limit =
                    rules.iter().find_map(|rule| if let KeepRule::AtMost(count) = rule { Some(count) } else { None });
                let mut limited: Vec<&Member<'_>> = Vec::new();
                for rule in rules {
                    let keeps = keep_test(rule, members, &times, (timezone, repository), now);
                    let by_rank =
                        matches!(rule, KeepRule::Newest(_) | KeepRule::Bucketed { .. } | KeepRule::PulledWithin(_));
                    let is_sure = |member: &Member<'_>| {
                        !matches!(rule, KeepRule::PulledWithin(_)) || last_use(member, repository, now).is_some()
                    };
                    let perhaps = undated.perhaps_kept(rule, members, &times, timezone);
                    let mut perhaps: BTreeSet<u32> = perhaps.into_iter().collect();
                    for member in members.iter().filter(|member| keeps(member)) {
                        perhaps.remove(&member.position);
                        if limit.is_some() && by_rank && member.time().is_some() && is_sure(member) {
                            limited.push(member);
                        } else {
                            kept.insert(member.position);
                        }
                    }
                    unsure.extend(perhaps);
                }
                if let Some(count) = limit {
                    let young = rules.iter().filter(|rule| matches!(rule, KeepRule::Within(_)));
                    let young: Vec<_> =
                        young.map(|rule| keep_test(rule, members, &times, (timezone, repository), now)).collect();
                    let young = members.iter().filter(|member| young.iter().any(|keeps| keeps(member)));
                    keep_at_most(count.get(), &limited, young, &undated, &mut kept);
                }
                // No limit concerns what is kept for a time that is not known.
                for position in unsure {
                    kept.insert(position);
                }
            }
        }
    }
    kept
}

/// The last pull or push of a tag, where that is surely known: a pull that has not come yet is not.
fn last_use(member: &Member<'_>, repository: &Repository, now: Timestamp) -> Option<Timestamp> {
    let pushed = member.time()?;
    match repository.pull_times.get(&member.tag.name)? {
        PullTime::Never => Some(pushed),
        PullTime::At(at) => Some(at.timestamp()).filter(|pulled| *pulled <= now).map(|pulled| pulled.max(pushed)),
    }
}

/// Keeps of what rules by rank keep the newest so many images, those that are young enough to stay anyway among them.
fn keep_at_most<'m, 'a: 'm>(
    count: u32,
    limited: &[&'m Member<'a>],
    young: impl Iterator<Item = &'m Member<'a>>,
    undated: &UndatedImages<'_>,
    kept: &mut TagSet,
) {
    let mut newest: BTreeMap<&Digest, Timestamp> = BTreeMap::new();
    for member in limited.iter().copied().chain(young) {
        if let (Some(digest), Some(time)) = (member.digest(), member.time()) {
            let known = newest.entry(digest).or_insert(time);
            *known = (*known).max(time);
        }
    }
    let mut places: Vec<Timestamp> = newest.values().copied().collect();
    places.sort_unstable();
    for member in limited {
        let time = member.digest().and_then(|digest| newest.get(digest).copied()).or(member.time());
        let time = time.max(undated.latest(member));
        let newer = |time: Timestamp| places.len() - places.partition_point(|place| *place <= time);
        if time.is_none_or(|time| newer(time) < count as usize) {
            kept.insert(member.position);
        }
    }
}

type KeepTest<'a> = Box<dyn Fn(&Member<'_>) -> bool + 'a>;

/// Returns a rule as a predicate that is true for tags that it keeps.
fn keep_test<'a>(
    rule: &'a KeepRule,
    members: &[Member<'_>],
    times: &'a DigestMap<&Digest, Timestamp>,
    (timezone, repository): (&TimeZone, &'a Repository),
    now: Timestamp,
) -> KeepTest<'a> {
    let image_time = |member: &Member<'_>| member.digest().and_then(|d| times.get(d).copied()).or(member.time());
    match rule {
        KeepRule::Matching(globs) => Box::new(|member| globs.matches(member.tag.name.as_str())),
        KeepRule::ImageWith { tags, within } => {
            let asked = images_with(repository, tags.as_ref(), within.as_ref(), now);
            Box::new(move |member| {
                asked.iter().all(|images| match (member.digest(), images.contains(&None)) {
                    (_, true) => true,
                    (None, false) => !images.is_empty(),
                    (digest, false) => images.contains(&digest),
                })
            })
        }
        KeepRule::AtMost(_) => Box::new(|_| false),
        KeepRule::PulledWithin(span) => {
            let is_idle = |member: &&Member<'_>| {
                last_use(member, repository, now).is_some_and(|last| now.duration_since(last) > span.duration)
            };
            let idle = TagSet::of(repository, members.iter().filter(is_idle).map(|member| member.position));
            Box::new(move |member| !idle.contains(member.position))
        }
        KeepRule::Within(span) => {
            let begin = now.checked_sub(span.duration).ok();
            Box::new(move |member| {
                let time = member.time().or(member.latest_possible());
                time.zip(begin).is_none_or(|(time, begin)| time >= begin)
            })
        }
        KeepRule::Newest(count) => {
            let cutoff = newest_image_times(times).get(count.get() as usize - 1).copied();
            Box::new(move |member| match member.time().or(member.latest_possible()) {
                Some(own) => cutoff.is_none_or(|cutoff| image_time(member).max(Some(own)) >= Some(cutoff)),
                None => true,
            })
        }
        KeepRule::Bucketed { period, count } => {
            let kept = newest_of_periods(members, *period, count.get() as usize, timezone);
            let kept = TagSet::of(repository, kept);
            Box::new(move |member| kept.contains(member.position))
        }
        KeepRule::NewestPer { version, count } => {
            let kept = TagSet::of(repository, highest(members, *version, count.get() as usize));
            Box::new(move |member| member.version.is_none() || kept.contains(member.position))
        }
    }
}

/// The images with a tag of such a name, and those with a tag of such a time; `None` where such a tag's image is unknown.
fn images_with<'a>(
    repository: &'a Repository,
    tags: Option<&Globs>,
    within: Option<&WrittenDuration>,
    now: Timestamp,
) -> Vec<BTreeSet<Option<&'a Digest>>> {
    let own = || repository.tags.iter().filter(|tag| !accompanies(&tag.name));
    let named = tags.map(|globs| own().filter(|tag| globs.matches(tag.name.as_str())).map(|tag| tag.digest.as_ref()));
    let recent = within.map(|span| {
        let is_recent = |tag: &&Tag| {
            let latest = tag_date(repository, tag, now).timestamp().or_else(|| no_later_than(repository, tag, now));
            latest.and_then(|time| time.checked_add(span.duration).ok()).is_none_or(|end| end >= now)
        };
        own().filter(is_recent).map(|tag| tag.digest.as_ref())
    });
    named.map(Iterator::collect).into_iter().chain(recent.map(Iterator::collect)).collect()
}

/// The tags of the newest image of each of the last `count` periods, found period by period, and the tags without a
/// time that are not surely older than these images.
fn newest_of_periods(members: &[Member<'_>], period: Period, count: usize, timezone: &TimeZone) -> Vec<u32> {
    let periods = periods_of(members, period, timezone);
    let mut kept = Vec::new();
    for there in periods.values().rev().take(count) {
        let newest = there.iter().map(|member| member.time()).max();
        let images: BTreeSet<_> = there.iter().filter(|m| Some(m.time()) == newest).map(|m| m.digest()).collect();
        kept.extend(there.iter().filter(|member| images.contains(&member.digest())).map(|member| member.position));
    }
    let newest = |there: &Vec<&Member<'_>>| there.iter().filter_map(|member| member.time()).max();
    let oldest = periods.values().rev().nth(count - 1).and_then(newest);
    let undated = members.iter().filter(|member| member.time().is_none());
    let surely_older =
        |member: &&Member<'_>| oldest.zip(member.latest_possible()).is_some_and(|(oldest, bound)| bound < oldest);
    kept.extend(undated.filter(|member| !surely_older(member)).map(|member| member.position));
    kept
}

/// Returns the tags of the highest `count` versions of each line. Images with equal versions share a place, and a
/// release that only such shared places represent does not displace its pre-releases.
fn highest(members: &[Member<'_>], part: VersionPart, count: usize) -> Vec<u32> {
    let mut lines: HashMap<&[u64], Vec<(&ParsedVersion, &Member<'_>)>> = HashMap::new();
    for member in members {
        if let Some(version) = &member.version {
            lines.entry(version.line(part)).or_default().push((version, member));
        }
    }
    let mut kept = Vec::new();
    for line in lines.into_values() {
        // An image counts by its highest version, certainly if one of its tags has it without a suffix.
        let mut best: DigestMap<&Digest, (&VersionOrder, bool)> = DigestMap::default();
        for (version, member) in &line {
            let Some(digest) = member.digest() else { continue };
            let found = (&version.order, !version.is_inexact);
            best.entry(digest).and_modify(|best| *best = (*best).max(found)).or_insert(found);
        }
        let mut places: BTreeMap<&VersionOrder, bool> = BTreeMap::new();
        for &(place, sure) in best.values() {
            *places.entry(place).or_default() |= sure;
        }
        let mut staying: BTreeSet<&VersionOrder> = BTreeSet::new();
        let mut vague: Option<&VersionOrder> = None;
        for (higher, (&place, &sure)) in places.iter().rev().enumerate() {
            let uncounted = vague.is_some_and(|vague| vague.is_release_of(place));
            if higher < count + usize::from(uncounted) {
                staying.insert(place);
            }
            if !sure && place.is_release() {
                vague = Some(place);
            }
        }
        // A tag without a digest is unknown.
        let stays = |member: &Member<'_>| member.digest().is_none_or(|digest| staying.contains(best[digest].0));
        kept.extend(line.iter().filter(|(_, member)| stays(member)).map(|(_, member)| member.position));
    }
    kept
}
