//! Queries of all sources.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tracing::Instrument as _;
use tracing::field::Empty;

use super::acr_pulls::AcrPulls;
use super::azure::AzureWorkloads;
use super::docker::Docker;
use super::git_history::GitHistory;
use super::http_references::HttpReferences;
use super::image_references::ImageReferences;
use super::kubernetes::Kubernetes;
use super::release_records::ReleaseRecords;
use super::{Source, SourceError, SourceEvidence, SourceKind, SourceSettings, truncate_messages};
use crate::domain::{
    Claim, Claims, Holder, Hosts, ImageReference, Inventory, Mention, MentionedImage, Naming, PathPattern,
    RegistryName, SourceName, SourceOutcome, SourceState, SourceTexts, UnresolvedReference, UntaggedManifest,
    is_public_registry,
};
use crate::engine;
use crate::http_client::RetryPolicy;

/// Evidence may be this much ahead of the local clock.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// Most unknown hosts that a message names.
const MOST_HOSTS: usize = 10;

/// Creates the source that the settings describe. `hosts` are those of the registries that it protects.
#[must_use]
pub fn source(settings: &SourceSettings, hosts: &[String]) -> Box<dyn Source> {
    match &settings.kind {
        SourceKind::ReleaseRecords(files) if settings.max_age.is_some() => {
            Box::new(ReleaseRecords::new(files.clone()).with_age_limit())
        }
        SourceKind::ReleaseRecords(files) => Box::new(ReleaseRecords::new(files.clone())),
        SourceKind::ImageReferences(files) => {
            Box::new(ImageReferences::new(files.clone(), hosts.to_vec(), settings.texts.clone()))
        }
        SourceKind::Kubernetes(kind) => {
            Box::new(Kubernetes::new((**kind).clone(), hosts.to_vec(), settings.texts.clone(), settings.allow_empty))
        }
        SourceKind::HttpReferences(document) => {
            let source = HttpReferences::new(document.clone(), hosts.to_vec(), RetryPolicy::default());
            Box::new(source.with_texts(settings.texts.clone()))
        }
        SourceKind::Docker(socket) => Box::new(Docker::new(socket.clone(), RetryPolicy::default())),
        SourceKind::Azure(service, scope) => {
            let (hosts, texts) = (hosts.to_vec(), settings.texts.clone());
            Box::new(AzureWorkloads::new(*service, scope.clone(), hosts, texts, RetryPolicy::default()))
        }
        SourceKind::AcrPulls(pulls) => Box::new(AcrPulls::new((**pulls).clone(), RetryPolicy::default())),
        SourceKind::GitHistory(history) => {
            Box::new(GitHistory::new(history.clone(), hosts.to_vec(), settings.texts.clone()))
        }
    }
}

/// The registries and their contents, which sources refer to.
#[derive(Debug, Clone, Copy)]
pub struct GatherContext<'a> {
    /// The hosts of each registry, aliases included.
    pub hosts: &'a [(RegistryName, Vec<String>)],
    /// The contents of the registries.
    pub inventory: &'a Inventory,
    /// The manifests that Tagwarden untagged, whose former tags may be mentioned, too.
    pub untagged: &'a [UntaggedManifest],
}

/// Queries all sources at once about a known inventory, in which the mentions of their texts are looked up.
pub async fn gather_about(
    sources: Vec<(SourceSettings, Box<dyn Source>)>,
    known: GatherContext<'_>,
    now: Timestamp,
    at: Timestamp,
) -> Claims {
    let mut claims = gather(sources, known.hosts, now, at).await;
    record_mentions(&mut claims, known.inventory, known.untagged);
    claims
}

/// Queries all sources at once.
///
/// Anything short of a full and plausible answer is a failure of the source, never an absence: an error, a panic, its
/// deadline, evidence that is too old, an answer without claims (or with too few) on the registries it protects.
///
/// `hosts` are those of each registry, aliases included. Mentions in texts are looked up later, when a registry's tags
/// are known; so a source with nothing else may yet turn out to be empty, see [`SourceTexts::unless_mentioned`].
///
/// The age of evidence is measured at `now`, and its content evaluated at `at`: they differ if a person asks for the
/// verdicts of another day.
pub async fn gather(
    sources: Vec<(SourceSettings, Box<dyn Source>)>,
    hosts: &[(RegistryName, Vec<String>)],
    now: Timestamp,
    at: Timestamp,
) -> Claims {
    let answers = sources.into_iter().map(|(settings, source)| async move {
        let span = tracing::info_span!("source", source = %settings.name, kind = settings.kind.label(), error = Empty);
        let answer = query_source(&settings, &*source, at).instrument(span.clone()).await;
        let (state, texts) = match answer.and_then(|evidence| validate(&settings, evidence, hosts, now)) {
            Ok((state, texts)) => (state, Some(texts)),
            Err(error) => {
                span.record("error", error.kind);
                (SourceState::Failed { kind: error.kind, message: error.chain().into() }, None)
            }
        };
        let SourceSettings { name, kind, registries, .. } = settings;
        (SourceOutcome { name, kind: kind.label(), registries, state }, texts)
    });
    let (sources, texts): (Vec<SourceOutcome>, Vec<Option<SourceTexts>>) = join_all(answers).await.into_iter().unzip();
    let with_texts =
        |(source, texts): (&SourceOutcome, Option<SourceTexts>)| Some((source.name.clone(), texts?.into()));
    let texts = sources.iter().zip(texts).filter_map(with_texts).collect();
    let mut claims = Claims { sources, texts, ..Claims::default() };
    claims.sort();
    claims
}

async fn query_source(
    settings: &SourceSettings,
    source: &dyn Source,
    at: Timestamp,
) -> Result<SourceEvidence, SourceError> {
    let asking = AssertUnwindSafe(source.query(at)).catch_unwind();
    match tokio::time::timeout(settings.deadline, asking).await {
        Ok(Ok(evidence)) => evidence,
        Ok(Err(_)) => Err(SourceError::panicked()),
        Err(_) => {
            let message = format!(
                "it took longer than {}; find out why, or give it a longer `deadline`",
                humantime::format_duration(settings.deadline)
            );
            Err(SourceError::new("deadline", message))
        }
    }
}

/// Checks that an answer is reliable.
fn validate(
    settings: &SourceSettings,
    evidence: SourceEvidence,
    hosts: &[(RegistryName, Vec<String>)],
    now: Timestamp,
) -> Result<(SourceState, SourceTexts), SourceError> {
    let SourceEvidence { mut claims, mut unresolved, texts, report_only_texts: report_only, as_of, mut notes, ended } =
        evidence;
    check_age(settings, as_of, now)?;
    claims.sort();
    claims.dedup();

    let protects =
        |name: &RegistryName| settings.registries.as_ref().is_none_or(|names: &Vec<RegistryName>| names.contains(name));
    let others: Vec<Vec<String>> = hosts
        .iter()
        .map(|(own, _)| hosts.iter().filter(|(name, _)| name != own).flat_map(|(_, hosts)| hosts.clone()).collect())
        .collect();
    let names_one = |claim: &Claim, ours: bool| {
        hosts
            .iter()
            .zip(&others)
            .any(|((name, own), others)| (!ours || protects(name)) && claim.may_match_registry(Hosts::new(own, others)))
    };
    let relevant = claims.iter().filter(|claim| names_one(claim, true)).count();
    let is_open = unresolved.iter().any(|one| {
        let Some((host, path)) = one.host.as_deref().zip(one.path.literal()) else { return true };
        let mut protected = hosts.iter().zip(&others).filter(|((name, _), _)| protects(name));
        protected.any(|((_, own), others)| Hosts::new(own, others).repository_path(host, path).is_some())
    });
    let unknown = unknown_hosts(claims.iter().filter(|claim| !names_one(claim, false)));

    let mut unless_mentioned = None;
    if relevant == 0 && !is_open && !settings.allow_empty {
        let message = if let (true, Some(first)) = (claims.is_empty(), ended.first()) {
            let more = match ended.len() {
                1 => String::new(),
                count => format!(", and {} more have ended", count - 1),
            };
            format!("it protects nothing: {first}{more}; correct the dates, or add a record of what is released")
        } else if claims.is_empty() {
            "it answered with no claim at all; if that is right, write `allow_empty = true`".to_owned()
        } else if unknown.is_empty() {
            format!("none of its {} claims names a registry that it protects; correct its `registries`", claims.len())
        } else {
            format!(
                "none of its {} claims names a known registry, but these hosts: {}; if one of them is a registry of \
                 the settings, add it to the registry's `aliases`",
                claims.len(),
                join_hosts(&unknown)
            )
        };
        if texts.is_empty() {
            return Err(SourceError::new(EMPTY, message));
        }
        unless_mentioned = Some(message.into());
    }
    if let Some(least) = settings.min_claims
        && relevant < least
    {
        let message =
            format!("it makes {relevant} claims, and `min_claims` asks for {least}; find out what is missing");
        return Err(SourceError::new("too-few", message));
    }
    if !unknown.is_empty() {
        notes.push(format!(
            "hosts that no registry is known by: {}; if one of them is a registry of the settings, add it to the \
             registry's `aliases`",
            join_hosts(&unknown)
        ));
    }
    let readings = RecordReadings::of(&claims, &unresolved, hosts);
    notes.extend(truncate_messages(readings.notes));
    claims.extend(readings.claims);
    unresolved.extend(readings.unresolved);
    let state = SourceState::Complete { claims, unresolved, mentions: Vec::new(), as_of, notes };
    Ok((state, SourceTexts { protecting: texts, report_only, unless_mentioned }))
}

/// Second readings of release records with a slip in the registry: its name in the settings instead of its host, or a
/// host that no registry is known by.
///
/// A record states that an image was released, so a slip must not end its protection. Claiming too much only keeps too
/// much.
#[derive(Default)]
struct RecordReadings {
    claims: Vec<Claim>,
    unresolved: Vec<UnresolvedReference>,
    notes: Vec<String>,
}

impl RecordReadings {
    fn of(claims: &[Claim], unresolved: &[UnresolvedReference], hosts: &[(RegistryName, Vec<String>)]) -> Self {
        let mut readings = Self::default();
        let is_record = |holder: &Holder| matches!(holder, Holder::Release(_));
        for Claim { image, holder, naming } in claims.iter().filter(|claim| is_record(&claim.holder)) {
            let Some(path) = image.repository.as_ref().filter(|_| *naming == Naming::Written) else { continue };
            let Some((host, path)) = second_reading(image.host.as_deref(), path.as_str(), hosts) else { continue };
            // A digest protects its image wherever the record says it is.
            let digest = image.digest.clone().filter(|_| host.is_some());
            if image.tag.is_none() && digest.is_none() {
                continue;
            }
            let Ok(path) = path.parse() else { continue };
            let second = ImageReference { host, repository: Some(path), tag: image.tag.clone(), digest };
            readings.notes.push(match &second.host {
                Some(_) => format!("`{image}` begins with the name of a registry, so `{second}` is protected as well"),
                None => {
                    format!("no registry is known by the host of `{image}`, so `{second}` is protected in every one")
                }
            });
            readings.claims.push(Claim { image: second, holder: Arc::clone(holder), naming: Naming::Corrected });
        }
        for one in unresolved.iter().filter(|one| is_record(&one.holder)) {
            let Some(path) = one.path.literal() else { continue };
            if let Some((host, path)) = second_reading(one.host.as_deref(), path, hosts) {
                readings.unresolved.push(UnresolvedReference { host, path: PathPattern::of(&[&path]), ..one.clone() });
            }
        }
        readings
    }
}

/// Returns the second reading of a host and a path, if there is a slip in them.
fn second_reading(
    host: Option<&str>,
    path: &str,
    hosts: &[(RegistryName, Vec<String>)],
) -> Option<(Option<String>, String)> {
    let Some(host) = host else {
        let (first, rest) = path.split_once('/')?;
        let (_, own) = hosts.iter().find(|(name, _)| name.as_str().eq_ignore_ascii_case(first))?;
        let known = own.iter().find(|host| !host.contains('/'))?;
        return Some((Some(known.trim_end_matches(":443").to_owned()), rest.to_owned()));
    };
    let is_known = hosts.iter().any(|(_, own)| Hosts::new(own, &[]).repository_path(host, path).is_some());
    (!is_known && !is_public_registry(host)).then(|| (None, path.to_owned()))
}

/// The kind of failure of a source without evidence about the registries that it protects.
const EMPTY: &str = "empty";

/// Marks sources without any evidence about their registries as failed, given those that mention a tag, and returns
/// true if there are any.
pub fn fail_empty_sources(claims: &mut Claims, mentioning: &BTreeSet<SourceName>) -> bool {
    let mut found = false;
    for source in &mut claims.sources {
        let message = claims.texts.get(&source.name).and_then(|texts| texts.unless_mentioned.clone());
        if let Some(message) = message.filter(|_| !source.has_failed() && !mentioning.contains(&source.name)) {
            source.state = SourceState::Failed { kind: EMPTY, message };
            found = true;
        }
    }
    found
}

/// Looks up the mentions of the sources' texts in an inventory, and replaces the texts with them. `untagged` are
/// manifests that Tagwarden untagged, whose former tags may be mentioned, too.
pub fn record_mentions(claims: &mut Claims, inventory: &Inventory, untagged: &[UntaggedManifest]) {
    let mut mentioning = BTreeSet::new();
    for source in &mut claims.sources {
        let Some(texts) = claims.texts.get(&source.name) else { continue };
        let registries = source.registries.clone();
        let covers = |name: &RegistryName| registries.as_ref().is_none_or(|names| names.contains(name));
        let reported = engine::find_mentions(inventory, untagged, covers, &texts.report_only);
        let found = engine::find_mentions(inventory, untagged, covers, &texts.protecting);
        if !found.is_empty() {
            mentioning.insert(source.name.clone());
        }
        if let SourceState::Complete { mentions, notes, .. } = &mut source.state {
            *mentions = found;
            notes.extend(truncate_messages(reported.iter().map(mention_note).collect()));
        }
    }
    fail_empty_sources(claims, &mentioning);
    claims.texts.clear();
}

/// Describes a mention that protects nothing, for people who decide whether it should.
#[must_use]
pub fn mention_note(mention: &Mention) -> String {
    let Mention { registry, repository, image, text, holder } = mention;
    let image = match image {
        MentionedImage::Tag(tag) => format!("{registry}/{repository}:{tag}"),
        MentionedImage::Digest(digest) => format!("{registry}/{repository}@{digest}"),
    };
    let place = match &**holder {
        Holder::File { path, line } => format!("{path}:{line}"),
        Holder::Workload { namespace, kind, name, .. } => format!("{kind} {namespace}/{name}"),
        Holder::Release(_) | Holder::Pull { .. } | Holder::Hold { .. } => String::new(),
    };
    format!("{place}: `{text}` may mean {image}, and `mentions` does not protect it")
}

fn check_age(settings: &SourceSettings, as_of: Option<Timestamp>, now: Timestamp) -> Result<(), SourceError> {
    let Some(max_age) = settings.max_age else { return Ok(()) };
    let limit = humantime::format_duration(max_age);
    let Some(as_of) = as_of else {
        let message = format!("its evidence has no time, and `max_age` is {limit}; give it a `generated_at`");
        return Err(SourceError::new("too-old", message));
    };
    let age = now.duration_since(as_of);
    if age > SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX) {
        let message = format!("its evidence is of {as_of}, and `max_age` is {limit}; find out why it is not renewed");
        return Err(SourceError::new("too-old", message));
    }
    if age < -CLOCK_TOLERANCE {
        let message =
            format!("its evidence is of {as_of}, which has not come yet, so its age is unknown; check the clocks");
        return Err(SourceError::new("in-the-future", message));
    }
    Ok(())
}

/// Returns each unknown host with the number of claims that name it, most first.
fn unknown_hosts<'a>(claims: impl Iterator<Item = &'a Claim>) -> Vec<(&'a str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for host in claims.filter_map(|claim| claim.image.host.as_deref()) {
        *counts.entry(host).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

fn join_hosts(hosts: &[(&str, usize)]) -> String {
    let mut text: Vec<String> =
        hosts.iter().take(MOST_HOSTS).map(|(host, count)| format!("{host} ({count})")).collect();
    if hosts.len() > MOST_HOSTS {
        text.push(format!("and {} more", hosts.len() - MOST_HOSTS));
    }
    text.join(", ")
}
