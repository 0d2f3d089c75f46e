//! The answers of the sources in a recorded inventory.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{InvalidInventory, LabelInterner, parse};
use crate::domain::{
    Claim, Holder, ImageReference, Mention, MentionedImage, Naming, PathPattern, RangeSelection, Release,
    ReleaseStatus, SourceOutcome, SourceState, UnresolvedReference, VersionRange,
};
use crate::report::HolderView;

#[derive(Serialize, Deserialize)]
pub(super) struct RecordedSource {
    name: String,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registries: Option<Vec<String>>,
    /// Why it failed; `None` if it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<RecordedFailure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    as_of: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    claims: Vec<RecordedClaim>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unresolved: Vec<RecordedUnresolved>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mentions: Vec<RecordedMention>,
}

#[derive(Serialize, Deserialize)]
struct RecordedFailure {
    kind: String,
    message: String,
}

#[derive(Serialize, Deserialize)]
struct RecordedClaim {
    image: String,
    holder: HolderView,
    /// The way in which the image was named, unless by its reference: `corrected`, `joined`, `range`, `all-in-range`,
    /// `paired` or `unpaired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    naming: Option<String>,
    /// The range of versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    /// The names that came with an image id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct RecordedUnresolved {
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// The literal parts of its path.
    path: Vec<String>,
    /// The adjacent words, one of which may resolve it.
    #[serde(default, alias = "beside", skip_serializing_if = "Vec::is_empty")]
    nearby: Vec<String>,
    holder: HolderView,
}

#[derive(Serialize, Deserialize)]
struct RecordedMention {
    registry: String,
    repository: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    text: String,
    holder: HolderView,
}

impl From<&SourceOutcome> for RecordedSource {
    fn from(source: &SourceOutcome) -> Self {
        let (failure, as_of) = match &source.state {
            SourceState::Complete { as_of, .. } => (None, *as_of),
            SourceState::Failed { kind, message } => {
                (Some(RecordedFailure { kind: (*kind).to_owned(), message: message.to_string() }), None)
            }
        };
        let registries = source.registries.as_ref();
        Self {
            name: source.name.to_string(),
            kind: source.kind.to_owned(),
            registries: registries.map(|names| names.iter().map(ToString::to_string).collect()),
            failure,
            as_of,
            claims: source.claims().iter().map(RecordedClaim::from).collect(),
            unresolved: source.unresolved().iter().map(RecordedUnresolved::from).collect(),
            mentions: source.mentions().iter().map(RecordedMention::from).collect(),
        }
    }
}

impl RecordedSource {
    pub(super) fn read(self, labels: &mut LabelInterner) -> Result<SourceOutcome, InvalidInventory> {
        let state = if let Some(failure) = self.failure {
            SourceState::Failed { kind: labels.intern(&failure.kind), message: failure.message.into() }
        } else {
            let claims = self.claims.into_iter().map(RecordedClaim::read).collect::<Result<_, _>>()?;
            let unresolved = self.unresolved.into_iter().map(RecordedUnresolved::read).collect::<Result<_, _>>()?;
            let mentions = self.mentions.into_iter().map(RecordedMention::read).collect::<Result<_, _>>()?;
            SourceState::Complete { claims, unresolved, mentions, as_of: self.as_of, notes: Vec::new() }
        };
        let registries = self.registries.map(|names| names.iter().map(|name| parse(name)).collect());
        Ok(SourceOutcome {
            name: parse(&self.name)?,
            kind: labels.intern(&self.kind),
            registries: registries.transpose()?,
            state,
        })
    }
}

impl From<&Claim> for RecordedClaim {
    fn from(claim: &Claim) -> Self {
        let naming = match &claim.naming {
            Naming::Written => None,
            Naming::Corrected => Some("corrected"),
            Naming::Joined => Some("joined"),
            Naming::Range(_, RangeSelection::Highest) => Some("range"),
            Naming::Range(_, RangeSelection::All) => Some("all-in-range"),
            Naming::ContainerImageId(_) => Some("paired"),
            Naming::ObjectImageId(_) => Some("unpaired"),
        };
        Self {
            image: claim.image.to_string(),
            holder: HolderView::from(&*claim.holder),
            naming: naming.map(str::to_owned),
            range: claim.range().map(|(range, _)| range.to_string()),
            names: claim.image_id_names().iter().map(ToString::to_string).collect(),
        }
    }
}

impl RecordedClaim {
    fn read(self) -> Result<Claim, InvalidInventory> {
        let names = self.names.iter().map(|name| ImageReference::parse_verbatim(name).map_err(InvalidInventory::value));
        let names = names.collect::<Result<Vec<_>, _>>()?.into();
        let naming = match self.naming.as_deref() {
            None => Naming::Written,
            Some("corrected") => Naming::Corrected,
            Some("joined") => Naming::Joined,
            Some("range") => Naming::Range(parse_range(self.range)?, RangeSelection::Highest),
            Some("all-in-range") => Naming::Range(parse_range(self.range)?, RangeSelection::All),
            Some("paired") => Naming::ContainerImageId(names),
            Some("unpaired") => Naming::ObjectImageId(names),
            Some(other) => return Err(InvalidInventory::Unknown(format!("unknown naming `{other}` of a claim"))),
        };
        let image = match naming {
            // It has neither tag nor digest.
            Naming::Range(..) => ImageReference::parse_verbatim(&self.image).map_err(InvalidInventory::value)?,
            _ => parse(&self.image)?,
        };
        Ok(Claim { image, holder: Arc::new(holder_from_view(self.holder)?), naming })
    }
}

fn parse_range(text: Option<String>) -> Result<Arc<VersionRange>, InvalidInventory> {
    let text =
        text.ok_or_else(|| InvalidInventory::Unknown("a claim on a range of versions has no `range`".to_owned()))?;
    text.parse().map(Arc::new).map_err(InvalidInventory::value)
}

impl From<&UnresolvedReference> for RecordedUnresolved {
    fn from(unresolved: &UnresolvedReference) -> Self {
        let UnresolvedReference { text, host, path, adjacent_words, holder } = unresolved;
        let path = path.parts().map(str::to_owned).collect();
        let nearby = adjacent_words.iter().map(ToString::to_string).collect();
        Self { text: text.to_string(), host: host.clone(), path, nearby, holder: HolderView::from(&**holder) }
    }
}

impl RecordedUnresolved {
    fn read(self) -> Result<UnresolvedReference, InvalidInventory> {
        let parts: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let (path, holder) = (PathPattern::of(&parts), Arc::new(holder_from_view(self.holder)?));
        let adjacent_words = self.nearby.into_iter().map(String::into_boxed_str).collect();
        Ok(UnresolvedReference { text: self.text.into(), host: self.host, path, adjacent_words, holder })
    }
}

impl From<&Mention> for RecordedMention {
    fn from(mention: &Mention) -> Self {
        let (tag, digest) = match &mention.image {
            MentionedImage::Tag(tag) => (Some(tag.to_string()), None),
            MentionedImage::Digest(digest) => (None, Some(digest.to_string())),
        };
        Self {
            registry: mention.registry.to_string(),
            repository: mention.repository.to_string(),
            tag,
            digest,
            text: mention.text.to_string(),
            holder: HolderView::from(&*mention.holder),
        }
    }
}

impl RecordedMention {
    fn read(self) -> Result<Mention, InvalidInventory> {
        let image = match (self.tag, self.digest) {
            (Some(tag), None) => MentionedImage::Tag(parse(&tag)?),
            (None, Some(digest)) => MentionedImage::Digest(parse(&digest)?),
            _ => return Err(InvalidInventory::Unknown("a mention has either a `tag` or a `digest`".to_owned())),
        };
        Ok(Mention {
            registry: parse(&self.registry)?,
            repository: parse(&self.repository)?,
            image,
            text: self.text.into(),
            holder: Arc::new(holder_from_view(self.holder)?),
        })
    }
}

fn holder_from_view(view: HolderView) -> Result<Holder, InvalidInventory> {
    Ok(match view {
        HolderView::File { file, line } => Holder::File { path: file, line },
        HolderView::Pull { at, identity, client } => Holder::Pull { at, identity, client },
        HolderView::Hold { by, reason, until } => Holder::Hold { by, reason, until },
        HolderView::Workload { place, namespace, workload, name, container } => {
            Holder::Workload { place, namespace, kind: workload, name, container }
        }
        HolderView::Release {
            file,
            line,
            service,
            environment,
            owner,
            approved_by,
            build,
            branch,
            released_at,
            status,
            keep_until,
        } => Holder::Release(Release {
            path: file,
            line,
            service,
            environment,
            owner,
            approved_by,
            build,
            branch,
            released_at,
            status: match status.as_str() {
                "active" => ReleaseStatus::Active,
                "rollback" => ReleaseStatus::Rollback,
                other => return Err(InvalidInventory::Unknown(format!("unknown status `{other}` of a release"))),
            },
            keep_until,
        }),
    })
}
