//! A recorded inventory as a file: `tagwarden.inventory/1`. It contains everything that a decision on tags needs, so
//! that policies can be tried on a real inventory if the registry cannot be reached, such as in a pull request.
//!
//! Blobs and the registries' own settings are not in it. It cannot be applied.

mod sources;
mod texts;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::RunError;
use super::diff::DecisionInput;
use crate::domain::{
    Claims, CompactTime, DateOrigin, Digest, Failure, Gap, GapTarget, Inventory, Limits, ListedKind, ListedManifest,
    Lock, Manifest, ManifestDetail, OriginalDate, PullTime, Registry, RegistryInfo, RemovalMethod, Repository,
    RetentionDays, RuleHistory, Tag, UnlistedManifests, UnreadKind,
};
use crate::report::HoldView;
use sources::RecordedSource;
use texts::{RecordedTexts, read_texts, record_texts};

/// The `schema` of a recorded inventory.
const SCHEMA: &str = "tagwarden.inventory/1";

/// The first fault in the text of a recorded inventory.
#[derive(Debug, thiserror::Error)]
pub enum InvalidInventory {
    /// It is not the JSON of a recorded inventory.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// It is another kind of document, or of another version.
    #[error("its schema is `{0}`, and this version reads `{SCHEMA}`")]
    OtherSchema(String),
    /// An invalid name, digest, range or time zone.
    #[error(transparent)]
    Value(Box<dyn Error + Send + Sync>),
    /// An invalid hold.
    #[error(transparent)]
    Hold(#[from] Failure<()>),
    /// An unknown label or a missing part; in words.
    #[error("{0}")]
    Unknown(String),
}

impl InvalidInventory {
    fn value(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Value(Box::new(error))
    }
}

#[derive(Serialize, Deserialize)]
struct InventoryFile {
    schema: String,
    recorded_at: Timestamp,
    timezone: String,
    limits: RecordedLimits,
    registries: Vec<RecordedRegistry>,
    sources: Vec<RecordedSource>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    holds: Vec<HoldView>,
}

#[derive(Serialize, Deserialize)]
struct RecordedLimits {
    untag: u32,
    percent: u32,
    leave: u32,
}

#[derive(Serialize, Deserialize)]
struct RecordedRegistry {
    name: String,
    kind: String,
    endpoint: String,
    hosts: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    other_hosts: Vec<String>,
    removal: String,
    /// True if the registry is known to keep untagged manifests forever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    keeps_untagged: bool,
    /// True if the registry removes signatures along with the last tag of their image.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    expires_companions: bool,
    /// True if the registry deletes a manifest with its last tag.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deletes_with_last_tag: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<RecordedGap>,
    repositories: Vec<RecordedRepository>,
}

#[derive(Serialize, Deserialize)]
struct RecordedRepository {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lock: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<RecordedGap>,
    tags: Vec<RecordedTag>,
    manifests: BTreeMap<String, RecordedManifest>,
    /// The latest times at which tags can have come to manifests, where no more is known of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    latest_pushes: BTreeMap<String, Timestamp>,
    /// The own types of manifests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    artifact_types: BTreeMap<String, String>,
    /// The annotations of manifests that policies ask for; null for one that a manifest does not have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: RecordedTexts,
    /// The same for labels of images.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: RecordedTexts,
    /// The manifests that Tagwarden untagged and may delete, with the time of their last change.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    untagged: BTreeMap<String, Option<Timestamp>>,
    /// The manifests that indexes list for no platform.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attached: Vec<String>,
    /// The other manifests that the registry lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    listed: Vec<RecordedListedManifest>,
    /// The places of manifests that the registry does not list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unlisted: Option<String>,
    /// The time of the read at which tags without a time already existed.
    #[serde(default, alias = "first_look", skip_serializing_if = "Option::is_none")]
    first_read_at: Option<Timestamp>,
    /// The last removal of tags whose use is not on record any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removed_at: Option<Timestamp>,
    /// The last pull of a manifest without a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest_pulled_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct RecordedTag {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pushed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_seen: Option<Timestamp>,
    /// The time of its last pull, where the registry records that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pulled_at: Option<Timestamp>,
    /// True if the registry records pulls and there was none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    never_pulled: bool,
    /// For a restored tag, its original date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    original: Option<RecordedOriginal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lock: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct RecordedOriginal {
    /// `None` if unknown.
    at: Option<Timestamp>,
    /// `pushed`, `created` or `first-seen`.
    by: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct RecordedManifest {
    media_type: String,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    children: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lock: Option<String>,
    /// True if the registry only listed it, so that its configuration and its subject are unknown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    listed: bool,
    /// `index` or `artifact`, for a manifest that no decision needed, so that its images and its subject are unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unread: Option<String>,
}

/// A manifest that the registry lists and that no read manifest leads to.
#[derive(Serialize, Deserialize)]
struct RecordedListedManifest {
    digest: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    media_type: String,
    /// `image`, `artifact` or `index`.
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lock: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct RecordedGap {
    /// The missing information: `catalogue`, `registry-info`, `tag-list`, `manifest-list`, `vanished-tag`, `tag`,
    /// `manifest`, `created`, `configuration` or `referrers`.
    at: String,
    /// The tag or digest concerned.
    #[serde(default, alias = "of", skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    kind: String,
    message: String,
    #[serde(default)]
    has_help: bool,
}

impl DecisionInput {
    /// Formats the input as the text of a file, `tagwarden.inventory/1`.
    ///
    /// # Errors
    /// Fails only if memory runs out.
    pub fn to_json(&self) -> Result<String, RunError> {
        let Limits { untag, percent, leave, .. } = self.limits;
        let recorded = InventoryFile {
            schema: SCHEMA.to_owned(),
            recorded_at: self.read_at,
            timezone: self.timezone.iana_name().unwrap_or("UTC").to_owned(),
            limits: RecordedLimits { untag, percent, leave },
            registries: self.inventory.registries.iter().map(RecordedRegistry::from).collect(),
            sources: self.claims.sources.iter().map(RecordedSource::from).collect(),
            holds: self.claims.holds.iter().map(|hold| HoldView::from(&**hold)).collect(),
        };
        let text = serde_json::to_string(&recorded).map_err(|error| {
            RunError::Output(Failure::new((), "the inventory cannot be written as JSON").caused_by(error))
        })?;
        Ok(text + "\n")
    }

    /// Parses the text of such a file.
    ///
    /// # Errors
    /// Returns the first error in the text.
    pub fn from_json(text: &str) -> Result<Self, InvalidInventory> {
        let recorded: InventoryFile = serde_json::from_str(text)?;
        if recorded.schema != SCHEMA {
            return Err(InvalidInventory::OtherSchema(recorded.schema));
        }
        let mut labels = LabelInterner::default();
        let RecordedLimits { untag, percent, leave } = recorded.limits;
        let registries: Result<_, InvalidInventory> =
            recorded.registries.into_iter().map(|one| one.read(&mut labels)).collect();
        let sources: Result<_, InvalidInventory> =
            recorded.sources.into_iter().map(|one| one.read(&mut labels)).collect();
        let holds = recorded
            .holds
            .iter()
            .map(|view| Ok(Arc::new(view.to_hold()?)))
            .collect::<Result<Vec<_>, InvalidInventory>>();
        let (mut inventory, mut claims) =
            (Inventory { registries: registries? }, Claims { sources: sources?, holds: holds?, ..Claims::default() });
        inventory.sort();
        claims.sort();
        Ok(Self {
            inventory,
            claims,
            read_at: recorded.recorded_at,
            timezone: TimeZone::get(&recorded.timezone).map_err(InvalidInventory::value)?,
            limits: Limits { untag, percent, leave, ..Limits::default() },
            history: RuleHistory::default(),
            from_file: true,
        })
    }
}

/// Interned labels with a static lifetime, each leaked once: commands that read a file end soon after.
#[derive(Default)]
struct LabelInterner(BTreeSet<&'static str>);

impl LabelInterner {
    fn intern(&mut self, text: &str) -> &'static str {
        if let Some(label) = self.0.get(text) {
            return label;
        }
        let label: &'static str = Box::leak(text.to_owned().into_boxed_str());
        self.0.insert(label);
        label
    }
}

fn parse<T: std::str::FromStr<Err: Error + Send + Sync + 'static>>(text: &str) -> Result<T, InvalidInventory> {
    text.parse().map_err(InvalidInventory::value)
}

fn parse_optional<T: std::str::FromStr<Err: Error + Send + Sync + 'static>>(
    text: Option<&str>,
) -> Result<Option<T>, InvalidInventory> {
    text.map(parse).transpose()
}

fn parse_lock(label: Option<&str>) -> Result<Option<Lock>, InvalidInventory> {
    let known = [Lock::Delete, Lock::Write, Lock::DeleteAndWrite];
    let of = |label: &str| known.into_iter().find(|lock| lock.label() == label);
    label.map(|label| of(label).ok_or_else(|| InvalidInventory::Unknown(format!("unknown lock `{label}`")))).transpose()
}

fn lock_label(lock: Option<Lock>) -> Option<String> {
    lock.map(|lock| lock.label().to_owned())
}

impl From<&Registry> for RecordedRegistry {
    fn from(registry: &Registry) -> Self {
        Self {
            name: registry.name.to_string(),
            kind: registry.kind.to_owned(),
            endpoint: registry.endpoint.clone(),
            hosts: registry.hosts.clone(),
            other_hosts: registry.other_hosts.clone(),
            removal: registry.removal.label().to_owned(),
            expires_companions: registry.expires_companions,
            deletes_with_last_tag: registry.deletes_with_last_tag,
            keeps_untagged: registry.info.as_ref().is_some_and(|info| info.untagged_retention == RetentionDays::Off),
            gaps: registry.gaps.iter().map(RecordedGap::from).collect(),
            repositories: registry.repositories.iter().map(RecordedRepository::from).collect(),
        }
    }
}

impl RecordedRegistry {
    fn read(self, labels: &mut LabelInterner) -> Result<Registry, InvalidInventory> {
        let removal = [RemovalMethod::Untag, RemovalMethod::DeleteManifest];
        let removal = removal.into_iter().find(|method| method.label() == self.removal);
        let repositories: Result<_, InvalidInventory> =
            self.repositories.into_iter().map(|one| one.read(labels)).collect();
        let gaps: Result<_, InvalidInventory> = self.gaps.into_iter().map(|one| one.read(labels)).collect();
        Ok(Registry {
            endpoint: self.endpoint,
            hosts: self.hosts,
            other_hosts: self.other_hosts,
            removal: removal.ok_or_else(|| InvalidInventory::Unknown(format!("unknown removal `{}`", self.removal)))?,
            info: self.keeps_untagged.then(RegistryInfo::that_keeps_untagged),
            expires_companions: self.expires_companions,
            deletes_with_last_tag: self.deletes_with_last_tag,
            repositories: repositories?,
            gaps: gaps?,
            ..Registry::empty(parse(&self.name)?, labels.intern(&self.kind))
        })
    }
}

impl From<&Repository> for RecordedRepository {
    fn from(repository: &Repository) -> Self {
        let manifests = repository.manifests.iter();
        Self {
            name: repository.name.to_string(),
            lock: lock_label(repository.lock),
            gaps: repository.gaps.iter().map(RecordedGap::from).collect(),
            tags: repository.tags.iter().map(|tag| RecordedTag::new(tag, repository)).collect(),
            manifests: manifests.map(|(digest, one)| (digest.to_string(), RecordedManifest::from(one))).collect(),
            latest_pushes: (repository.latest_pushes.iter())
                .map(|(digest, at)| (digest.to_string(), at.timestamp()))
                .collect(),
            artifact_types: (repository.artifact_types.iter())
                .map(|(digest, own)| (digest.to_string(), own.to_string()))
                .collect(),
            annotations: record_texts(&repository.annotations),
            labels: record_texts(&repository.labels),
            untagged: repository.untagged.iter().map(|(digest, changed)| (digest.to_string(), *changed)).collect(),
            attached: repository.attached.iter().map(ToString::to_string).collect(),
            listed: repository.listed.iter().map(RecordedListedManifest::from).collect(),
            unlisted: Some(repository.unlisted.label().to_owned()),
            first_read_at: repository.first_read_at.map(CompactTime::timestamp),
            removed_at: repository.removed_at.map(CompactTime::timestamp),
            digest_pulled_at: repository.digest_pulled_at.map(CompactTime::timestamp),
        }
    }
}

impl RecordedRepository {
    fn read(self, labels: &mut LabelInterner) -> Result<Repository, InvalidInventory> {
        let originals = self.tags.iter().filter_map(|tag| Some((parse(&tag.name), tag.original.as_ref()?.read())));
        let originals: Result<_, InvalidInventory> = originals.map(|(name, original)| Ok((name?, original?))).collect();
        let pulls = self.tags.iter().filter_map(|tag| Some((parse(&tag.name), tag.pull_time()?)));
        let pulls: Result<_, InvalidInventory> = pulls.map(|(name, pulled)| Ok((name?, pulled))).collect();
        let tags: Result<_, InvalidInventory> = self.tags.into_iter().map(RecordedTag::read).collect();
        let gaps: Result<_, InvalidInventory> = self.gaps.into_iter().map(|one| one.read(labels)).collect();
        let manifests = self.manifests.into_iter().map(|(digest, one)| Ok((parse::<Digest>(&digest)?, one.read()?)));
        Ok(Repository {
            tags: tags?,
            original_dates: originals?,
            pull_times: pulls?,
            manifests: manifests.collect::<Result<_, InvalidInventory>>()?,
            latest_pushes: read_by_digest(self.latest_pushes)?,
            artifact_types: read_by_digest(self.artifact_types)?,
            annotations: read_texts(self.annotations)?,
            labels: read_texts(self.labels)?,
            untagged: read_by_digest(self.untagged)?,
            attached: self.attached.iter().map(|digest| parse(digest)).collect::<Result<_, _>>()?,
            listed: read_listed(self.listed)?,
            unlisted: read_unlisted(self.unlisted.as_deref())?,
            first_read_at: self.first_read_at.map(Into::into),
            removed_at: self.removed_at.map(Into::into),
            digest_pulled_at: self.digest_pulled_at.map(Into::into),
            gaps: gaps?,
            lock: parse_lock(self.lock.as_deref())?,
            ..Repository::empty(parse(&self.name)?)
        })
    }
}

fn read_by_digest<T, U: From<T>>(map: BTreeMap<String, T>) -> Result<BTreeMap<Digest, U>, InvalidInventory> {
    map.into_iter().map(|(digest, value)| Ok((parse(&digest)?, value.into()))).collect()
}

impl RecordedTag {
    fn new(tag: &Tag, repository: &Repository) -> Self {
        let pulled = repository.pull_times.get(&tag.name);
        Self {
            name: tag.name.to_string(),
            digest: tag.digest.as_ref().map(ToString::to_string),
            pushed_at: tag.pushed_at.map(CompactTime::timestamp),
            first_seen: tag.first_seen.map(CompactTime::timestamp),
            pulled_at: pulled.and_then(|pulled| pulled.at()).map(CompactTime::timestamp),
            never_pulled: pulled == Some(&PullTime::Never),
            original: repository.original_dates.get(&tag.name).map(RecordedOriginal::from),
            lock: lock_label(tag.lock),
        }
    }

    fn pull_time(&self) -> Option<PullTime> {
        let never = self.never_pulled.then_some(PullTime::Never);
        self.pulled_at.map(|at| PullTime::At(at.into())).or(never)
    }

    fn read(self) -> Result<Tag, InvalidInventory> {
        Ok(Tag {
            name: parse(&self.name)?,
            digest: parse_optional(self.digest.as_deref())?,
            pushed_at: self.pushed_at.map(Into::into),
            first_seen: self.first_seen.map(Into::into),
            lock: parse_lock(self.lock.as_deref())?,
        })
    }
}

impl From<&OriginalDate> for RecordedOriginal {
    fn from(original: &OriginalDate) -> Self {
        match original {
            OriginalDate::Known(at, by) => Self { at: Some(at.timestamp()), by: Some(by.label().to_owned()) },
            OriginalDate::Unknown => Self { at: None, by: None },
        }
    }
}

impl RecordedOriginal {
    fn read(&self) -> Result<OriginalDate, InvalidInventory> {
        let by = self.by.as_deref().map(|by| {
            DateOrigin::from_label(by).ok_or_else(|| InvalidInventory::Unknown(format!("unknown origin `{by}`")))
        });
        Ok(match (self.at, by.transpose()?) {
            (Some(at), Some(by)) => OriginalDate::Known(at.into(), by),
            // An incomplete date is unknown.
            _ => OriginalDate::Unknown,
        })
    }
}

impl From<&ListedManifest> for RecordedListedManifest {
    fn from(row: &ListedManifest) -> Self {
        Self {
            digest: row.digest.to_string(),
            media_type: row.media_type.to_string(),
            kind: row.kind.label().to_owned(),
            lock: lock_label(row.lock),
        }
    }
}

impl RecordedListedManifest {
    fn read(self) -> Result<ListedManifest, InvalidInventory> {
        Ok(ListedManifest {
            digest: parse(&self.digest)?,
            media_type: self.media_type.into(),
            image_size: None,
            lock: parse_lock(self.lock.as_deref())?,
            kind: listed_kind(&self.kind)?,
        })
    }
}

/// Inventories of earlier versions do not have it.
fn read_unlisted(label: Option<&str>) -> Result<UnlistedManifests, InvalidInventory> {
    let Some(label) = label else { return Ok(UnlistedManifests::default()) };
    UnlistedManifests::from_label(label).ok_or_else(|| InvalidInventory::Unknown(format!("unknown label `{label}`")))
}

fn read_listed(recorded: Vec<RecordedListedManifest>) -> Result<Vec<ListedManifest>, InvalidInventory> {
    let mut rows: Vec<ListedManifest> =
        recorded.into_iter().map(RecordedListedManifest::read).collect::<Result<_, _>>()?;
    rows.sort_by(|a, b| a.digest.cmp(&b.digest));
    Ok(rows)
}

fn listed_kind(label: &str) -> Result<ListedKind, InvalidInventory> {
    ListedKind::from_label(label)
        .ok_or_else(|| InvalidInventory::Unknown(format!("unknown kind of manifest `{label}`")))
}

fn unread_kind(label: &str) -> Result<UnreadKind, InvalidInventory> {
    listed_kind(label)?
        .unread()
        .ok_or_else(|| InvalidInventory::Unknown(format!("unknown kind of unread manifest `{label}`")))
}

impl From<&Manifest> for RecordedManifest {
    fn from(manifest: &Manifest) -> Self {
        Self {
            media_type: manifest.media_type.to_string(),
            size: manifest.size,
            config: manifest.config.as_ref().map(ToString::to_string),
            children: manifest.children.iter().map(ToString::to_string).collect(),
            subject: manifest.subject.as_ref().map(ToString::to_string),
            created_at: manifest.created_at.map(CompactTime::timestamp),
            lock: lock_label(manifest.lock),
            listed: matches!(manifest.detail, ManifestDetail::Listed { .. }),
            unread: manifest.unread_kind().map(|kind| kind.label().to_owned()),
        }
    }
}

impl RecordedManifest {
    fn read(self) -> Result<Manifest, InvalidInventory> {
        Ok(Manifest {
            media_type: self.media_type.into(),
            size: self.size,
            config: parse_optional::<Digest>(self.config.as_deref())?.map(Box::new),
            blobs: [].into(),
            children: self.children.iter().map(|digest| parse(digest)).collect::<Result<_, _>>()?,
            subject: parse_optional::<Digest>(self.subject.as_deref())?.map(Box::new),
            created_at: self.created_at.map(Into::into),
            lock: parse_lock(self.lock.as_deref())?,
            detail: match (self.unread.as_deref().map(unread_kind).transpose()?, self.listed) {
                (Some(kind), _) => ManifestDetail::Unread { image_size: None, kind },
                (None, true) => ManifestDetail::Listed { image_size: None },
                (None, false) => ManifestDetail::Full,
            },
        })
    }
}

impl From<&Gap> for RecordedGap {
    fn from(gap: &Gap) -> Self {
        let (at, subject) = match &gap.target {
            GapTarget::Catalogue => ("catalogue", None),
            GapTarget::RegistryInfo => ("registry-info", None),
            GapTarget::TagList => ("tag-list", None),
            GapTarget::ManifestList => ("manifest-list", None),
            GapTarget::VanishedTag(tag) => ("vanished-tag", Some(tag.to_string())),
            GapTarget::InvalidName(name) => ("invalid-name", Some(name.to_string())),
            GapTarget::ListedDigest(digest) => ("listed-digest", Some(digest.to_string())),
            GapTarget::Tag(tag) => ("tag", Some(tag.to_string())),
            GapTarget::Manifest(digest) => ("manifest", Some(digest.to_string())),
            GapTarget::CreationTime(digest) => ("created", Some(digest.to_string())),
            GapTarget::Configuration(digest) => ("configuration", Some(digest.to_string())),
            GapTarget::Referrers(digest) => ("referrers", Some(digest.to_string())),
            GapTarget::Records => ("records", None),
        };
        let (kind, message) = (gap.kind.to_owned(), gap.message.to_string());
        Self { at: at.to_owned(), subject, kind, message, has_help: gap.has_help }
    }
}

impl RecordedGap {
    fn read(self, labels: &mut LabelInterner) -> Result<Gap, InvalidInventory> {
        let of = self.subject.as_deref().unwrap_or_default();
        let at = match self.at.as_str() {
            "catalogue" => GapTarget::Catalogue,
            "registry-info" | "particulars" => GapTarget::RegistryInfo,
            "tag-list" => GapTarget::TagList,
            "manifest-list" => GapTarget::ManifestList,
            "vanished-tag" => GapTarget::VanishedTag(parse(of)?),
            "invalid-name" => GapTarget::InvalidName(of.into()),
            "listed-digest" => GapTarget::ListedDigest(parse(of)?),
            "tag" => GapTarget::Tag(parse(of)?),
            "manifest" => GapTarget::Manifest(parse(of)?),
            "created" => GapTarget::CreationTime(parse(of)?),
            "configuration" => GapTarget::Configuration(parse(of)?),
            "referrers" => GapTarget::Referrers(parse(of)?),
            "records" => GapTarget::Records,
            // An unknown gap must never be dropped.
            other => return Err(InvalidInventory::Unknown(format!("unknown gap `{other}`"))),
        };
        Ok(Gap { target: at, kind: labels.intern(&self.kind), has_help: self.has_help, message: self.message.into() })
    }
}
