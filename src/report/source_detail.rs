//! One source in detail, `tagwarden.source/1`: its claims, mentions and unresolved references with their places, and
//! the tags that each protects.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::Timestamp;
use serde::Serialize;

use super::HolderView;
use super::humanize::counted_repositories;
use super::reason::claim_match;
use super::source_counts::{MatchedRepositories, RepositoryAt, matched_repositories};
use crate::domain::{
    Claim, ClaimMatch, Claims, Digest, Holder, Inventory, Mention, MentionedImage, Reason, Registry, SourceName,
    SourceOutcome, SourceState, TagPosition, UnresolvedReference, Verdict,
};
use crate::engine::Verdicts;

/// The `schema` of a [`SourceDetailView`].
const SCHEMA: &str = "tagwarden.source/1";

/// The note on evidence that protects a manifest without a tag.
const UNTAGGED_NOTE: &str = "names an image without a tag, which is not deleted";

/// One source with all of its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceDetailView {
    /// Always `tagwarden.source/1`.
    pub schema: &'static str,
    /// Its name in the settings.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The registries that it protects; `None` means all.
    pub registries: Option<Vec<String>>,
    /// `answered` or `failed`.
    pub state: String,
    /// The time of the query.
    pub evaluated_at: Timestamp,
    /// The time of its evidence.
    pub as_of: Option<Timestamp>,
    /// The label of its failure.
    pub error_kind: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// Remarks for a person, although it answered.
    pub notes: Vec<String>,
    /// The number of tags that its claims and mentions protect right now.
    pub protects: u64,
    /// The number of these that only its mentions protect.
    pub only_mentioned: u64,
    /// The number of tags that its unresolved references keep undecided.
    pub undecided: u64,
    /// The claims, by image.
    pub claims: Vec<ClaimView>,
    /// The words that may mean tags which it does not claim, by place.
    pub mentions: Vec<MentionView>,
    /// The references that name a repository without identifying a tag, by their text.
    pub unresolved: Vec<UnresolvedView>,
}

/// A claim, and the tags that it protects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClaimView {
    /// The image, in normal form.
    pub image: String,
    /// The names that accompany an image id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The place where it occurs, in words.
    pub place: String,
    /// The holder of the claim.
    pub holder: HolderView,
    /// The tags that it protects right now.
    pub tags: Vec<ProtectedTagView>,
    /// The number of tags that are undecided because it may mean them.
    pub undecided: u64,
    /// The reason why it protects nothing; `None` if it protects a tag.
    pub note: Option<String>,
}

/// A word, and the tags that it protects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MentionView {
    /// The word in the form that was looked up.
    pub text: String,
    /// The place where it occurs, in words.
    pub place: String,
    /// The place where it occurs.
    pub holder: HolderView,
    /// The images that it may mean: `registry/repository:tag`, or `registry/repository@digest`.
    pub images: Vec<String>,
    /// The tags that it protects right now.
    pub tags: Vec<ProtectedTagView>,
    /// A note on protected images without a tag; `None` if it protects tags.
    pub note: Option<String>,
}

/// A tag that something protects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProtectedTagView {
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The way in which a claim matches it, as in the reason `claimed`: `tag`, `digest`, `index-contains` and others.
    /// `None` for a mention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The digest that `by` concerns, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// A reference without a tag, and the tags that it keeps undecided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnresolvedView {
    /// The text as it was found.
    pub text: String,
    /// The place where it occurs, in words.
    pub place: String,
    /// The place where it occurs.
    pub holder: HolderView,
    /// The number of tags that are undecided because of it.
    pub undecided: u64,
    /// The number of these that are undecided for no other reason.
    pub undecided_only: u64,
    /// The repositories of these tags.
    pub repositories: Vec<UndecidedRepositoryView>,
    /// Why it keeps no tag undecided; `None` if it does.
    pub note: Option<String>,
    /// The remedy; `None` if it keeps nothing undecided.
    pub remedy: Option<String>,
}

/// A repository with tags that a reference keeps undecided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UndecidedRepositoryView {
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The number of its tags that are undecided because of the reference.
    pub undecided: u64,
}

impl ProtectedTagView {
    /// Returns `registry/repository:tag`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

/// Creates the view of one source, or returns `None` if no source has that name.
#[must_use]
pub fn source_detail(
    (inventory, claims, verdicts): (&Inventory, &Claims, &Verdicts),
    name: &SourceName,
    evaluated_at: Timestamp,
) -> Option<SourceDetailView> {
    let source = claims.sources.iter().find(|source| source.name == *name)?;
    let reached = ReachedTags::new(inventory, verdicts, name);
    let open = UndecidedIndex::new(inventory, claims, verdicts, source);
    let claim = |claim| reached.claim(claim, source, inventory);
    let unresolved = source.unresolved().iter().zip(&open.references);
    let view = SourceDetailView {
        schema: SCHEMA,
        name: source.name.to_string(),
        kind: source.kind.to_owned(),
        registries: source.registries.as_ref().map(|names| names.iter().map(ToString::to_string).collect()),
        state: "answered".to_owned(),
        evaluated_at,
        as_of: None,
        error_kind: None,
        error: None,
        notes: Vec::new(),
        protects: reached.protects,
        only_mentioned: reached.only_mentioned,
        undecided: open.total(),
        claims: source.claims().iter().map(claim).collect(),
        mentions: reached.mentions(source, inventory),
        unresolved: unresolved.map(|(one, meaning)| open.view(one, meaning, inventory)).collect(),
    };
    Some(match &source.state {
        SourceState::Complete { as_of, notes, .. } => SourceDetailView { as_of: *as_of, notes: notes.clone(), ..view },
        SourceState::Failed { kind, message } => SourceDetailView {
            state: "failed".to_owned(),
            error_kind: Some((*kind).to_owned()),
            error: Some(message.to_string()),
            ..view
        },
    })
}

/// Tags by the matching text and its holder.
type ByText<'a> = BTreeMap<(&'a str, &'a Holder), Vec<ProtectedTagView>>;

/// The tags that one source matches.
#[derive(Default)]
struct ReachedTags<'a> {
    claimed: ByText<'a>,
    mentioned: ByText<'a>,
    /// The undecided tags that a claim on a digest may refer to.
    possibly_claimed: BTreeMap<(&'a Digest, &'a Holder), u64>,
    protects: u64,
    only_mentioned: u64,
}

impl<'a> ReachedTags<'a> {
    fn new(inventory: &Inventory, verdicts: &'a Verdicts, name: &SourceName) -> Self {
        let mut reached = Self::default();
        for found in &verdicts.tags {
            let mut protects = false;
            for reason in &found.reasons {
                let (tags, by) = match reason {
                    Reason::Claimed(one) if one.source == *name => {
                        let tags = reached.claimed.entry((&*one.reference, &*one.holder)).or_default();
                        (tags, Some(&one.by))
                    }
                    Reason::Mentioned(one) if one.source == *name => {
                        (reached.mentioned.entry((&*one.text, &*one.holder)).or_default(), None)
                    }
                    Reason::MaybeClaimed(one) if one.source == *name && found.verdict == Verdict::Undecided => {
                        *reached.possibly_claimed.entry((&one.digest, &*one.holder)).or_default() += 1;
                        continue;
                    }
                    _ => continue,
                };
                protects = true;
                // The reasons of a tag are ordered: of several matches of one claim the strongest counts.
                let Some(tag) = protected(inventory, found.position, by) else { continue };
                if tags.last().is_none_or(|last| last.name() != tag.name()) {
                    tags.push(tag);
                }
            }
            reached.protects += u64::from(protects);
            let is_mention = |reason: &Reason| matches!(reason, Reason::Mentioned(one) if one.source == *name);
            let mut keeping = found.reasons.iter().filter(|reason| reason.implied_verdict() != Verdict::Expired);
            reached.only_mentioned += u64::from(protects && keeping.all(is_mention));
        }
        reached
    }

    fn claim(&self, claim: &Claim, source: &SourceOutcome, inventory: &Inventory) -> ClaimView {
        let image = claim.text();
        let tags = self.claimed.get(&(image.as_str(), &*claim.holder)).cloned().unwrap_or_default();
        let digest = claim.image.digest.as_ref();
        let undecided = digest.and_then(|digest| self.possibly_claimed.get(&(digest, &*claim.holder)));
        let undecided = undecided.copied().unwrap_or_default();
        let idle = tags.is_empty() && undecided == 0;
        let holder = HolderView::from(&*claim.holder);
        ClaimView {
            image,
            names: claim.image_id_names().iter().map(ToString::to_string).collect(),
            place: holder.describe(),
            holder,
            tags,
            undecided,
            note: idle.then(|| idle_note(claim, source, inventory).to_owned()),
        }
    }

    /// Returns the words that protect something which no claim of the source protects, by place.
    fn mentions(&self, source: &SourceOutcome, inventory: &Inventory) -> Vec<MentionView> {
        let mut words: BTreeMap<(&Holder, &str), Vec<&Mention>> = BTreeMap::new();
        for mention in source.mentions() {
            words.entry((&*mention.holder, &*mention.text)).or_default().push(mention);
        }
        let view = |((holder, text), mentions): ((&Holder, &str), Vec<&Mention>)| {
            let tags = self.mentioned.get(&(text, holder)).cloned().unwrap_or_default();
            let untagged = tags.is_empty() && mentions.iter().any(|mention| !is_tagged(mention, inventory));
            let holder = HolderView::from(holder);
            (untagged || !tags.is_empty()).then(|| MentionView {
                text: text.to_owned(),
                place: holder.describe(),
                holder,
                images: mentions.into_iter().map(name).collect(),
                tags,
                note: untagged.then(|| UNTAGGED_NOTE.to_owned()),
            })
        };
        words.into_iter().filter_map(view).collect()
    }
}

/// Names the image that a mention may mean.
fn name(mention: &Mention) -> String {
    let Mention { registry, repository, image, .. } = mention;
    match image {
        MentionedImage::Tag(tag) => format!("{registry}/{repository}:{tag}"),
        MentionedImage::Digest(digest) => format!("{registry}/{repository}@{digest}"),
    }
}

/// Returns true if a tag leads to the image that a mention names: the claims of its source then protect that tag.
fn is_tagged(mention: &Mention, inventory: &Inventory) -> bool {
    let registry = inventory.registry(mention.registry.as_str());
    let Some(repository) = registry.and_then(|registry| registry.repository(mention.repository.as_str())) else {
        return false;
    };
    match &mention.image {
        MentionedImage::Tag(tag) => repository.tag(tag.as_str()).is_some(),
        MentionedImage::Digest(digest) => {
            repository.tags.iter().any(|tag| tag.digest.as_ref() == Some(digest))
                || repository.manifests.values().any(|manifest| manifest.children.contains(digest))
        }
    }
}

/// Explains a claim that protects no tag.
fn idle_note(claim: &Claim, source: &SourceOutcome, inventory: &Inventory) -> &'static str {
    let ours: Vec<&Registry> = inventory.registries.iter().filter(|registry| source.covers(&registry.name)).collect();
    let mut all = ours.iter().flat_map(|registry| &registry.repositories);
    let digest = claim.image.digest.as_ref();
    // A digest counts whatever its host.
    if digest.is_some_and(|digest| {
        all.any(|found| found.manifests.contains_key(digest) || found.listed_manifest(digest).is_some())
    }) {
        UNTAGGED_NOTE
    } else if !ours.iter().any(|registry| claim.may_match_registry(registry.host_names())) {
        "names no registry that the source protects"
    } else if !ours.iter().all(|registry| registry.is_complete()) {
        "names no tag that could be read"
    } else if claim.range().is_some() {
        "no tag is a version in the range"
    } else if digest.is_some() && claim.image.tag.is_none() {
        "names no image that exists"
    } else {
        "names no tag that exists"
    }
}

fn protected(inventory: &Inventory, at: TagPosition, by: Option<&ClaimMatch>) -> Option<ProtectedTagView> {
    let registry = inventory.registries.get(at.registry as usize)?;
    let repository = registry.repositories.get(at.repository as usize)?;
    let tag = repository.tags.get(at.tag as usize)?;
    let (by, digest) = by.map(claim_match).unzip();
    Some(ProtectedTagView {
        registry: registry.name.to_string(),
        repository: repository.name.to_string(),
        tag: tag.name.to_string(),
        by: by.map(str::to_owned),
        digest: digest.flatten().map(ToString::to_string),
    })
}

/// The tags that unresolved references keep undecided.
struct UndecidedIndex {
    /// The meaning of each reference of the source.
    references: Vec<Rc<MatchedRepositories>>,
    repositories: BTreeMap<RepositoryAt, RepositoryUndecided>,
}

/// The tags of one repository that unresolved references keep undecided, whichever source has them.
#[derive(Default)]
struct RepositoryUndecided {
    tags: u64,
    /// The tags that are undecided for no other reason.
    only: u64,
    /// The number of unresolved references there.
    references: u64,
}

impl UndecidedIndex {
    fn new(inventory: &Inventory, claims: &Claims, verdicts: &Verdicts, source: &SourceOutcome) -> Self {
        let mut kept: BTreeMap<RepositoryAt, RepositoryUndecided> = BTreeMap::new();
        for found in verdicts.tags.iter().filter(|found| found.verdict == Verdict::Undecided) {
            let is_open = |reason: &Reason| matches!(reason, Reason::UnresolvedReference(_));
            let mut missing = found.reasons.iter().filter(|reason| reason.implied_verdict() == Verdict::Undecided);
            if found.reasons.iter().any(is_open) {
                let kept = kept.entry((found.position.registry, found.position.repository)).or_default();
                kept.tags += 1;
                kept.only += u64::from(missing.all(is_open));
            }
        }
        let mut own = Vec::new();
        for other in &claims.sources {
            let meanings = matched_repositories(inventory, other);
            for place in meanings.iter().flat_map(|meaning| &meaning.ambiguous_in) {
                if let Some(kept) = kept.get_mut(place) {
                    kept.references += 1;
                }
            }
            if other.name == source.name {
                own = meanings;
            }
        }
        Self { references: own, repositories: kept }
    }

    /// Counts the tags that all references of the source keep undecided.
    fn total(&self) -> u64 {
        let places: BTreeSet<&RepositoryAt> =
            self.references.iter().flat_map(|meaning| &meaning.ambiguous_in).collect();
        places.into_iter().filter_map(|place| self.repositories.get(place)).map(|kept| kept.tags).sum()
    }

    fn view(&self, one: &UnresolvedReference, meaning: &MatchedRepositories, inventory: &Inventory) -> UnresolvedView {
        let here = || meaning.ambiguous_in.iter().filter_map(|place| Some((place, self.repositories.get(place)?)));
        let alone = here().filter(|(_, kept)| kept.references == 1).map(|(_, kept)| kept.only);
        let undecided: u64 = here().map(|(_, kept)| kept.tags).sum();
        let in_repository = |(&(registry, repository), kept): (&RepositoryAt, &RepositoryUndecided)| {
            let registry = inventory.registries.get(registry as usize)?;
            let repository = registry.repositories.get(repository as usize)?;
            Some(UndecidedRepositoryView {
                registry: registry.name.to_string(),
                repository: repository.name.to_string(),
                undecided: kept.tags,
            })
        };
        let holder = HolderView::from(&*one.holder);
        let keeps = undecided > 0;
        UnresolvedView {
            text: one.text.to_string(),
            place: holder.describe(),
            undecided,
            undecided_only: alone.sum(),
            repositories: here().filter_map(in_repository).collect(),
            note: (!keeps).then(|| harmless_note(meaning)),
            remedy: keeps.then(|| remedy(&holder).to_owned()),
            holder,
        }
    }
}

/// Explains a reference that keeps no tag undecided.
fn harmless_note(meaning: &MatchedRepositories) -> String {
    match (meaning.ambiguous_in.len() as u64, meaning.is_resolved) {
        (0, true) => "keeps no tag undecided: a word beside it names a tag of the repository".to_owned(),
        (0, false) => "keeps no tag undecided: it names no repository that was read".to_owned(),
        (open, _) => format!("keeps no tag undecided: no other tag of {} would be removed", counted_repositories(open)),
    }
}

/// Returns the remedy for a reference that does not identify a tag.
fn remedy(holder: &HolderView) -> &'static str {
    match holder {
        HolderView::File { .. } | HolderView::Release { .. } => {
            "write the tag where the reference stands, or set `unresolved = \"note\"`: for the source, or for some of \
             its files by `paths` in `exceptions`"
        }
        HolderView::Pull { .. } => "the pull is of an unknown image; it ends with the source's `within`",
        HolderView::Workload { .. } | HolderView::Hold { .. } => {
            "give the object a tag, or set `unresolved = \"note\"`: for the source, or for some kinds of objects by \
             `kinds` in `exceptions`"
        }
    }
}
