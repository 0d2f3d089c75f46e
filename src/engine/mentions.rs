//! Words of texts that may name tags: finding them, and the tags that they protect.
//!
//! A text that is not understood may still name an image. So a tag is retained if a source contains its name and also
//! names its repository. That retains too much now and then; the reason contains the place, and the source's setting
//! `mentions` disables it.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::graph::{Graph, Node};
use super::reason_table::ReasonTable;
use crate::domain::{
    Claims, Digest, IndexedWord, Inventory, Mention, MentionReason, MentionedImage, Reason, Registry, RegistryName,
    Repository, RepositoryName, SourceName, TagName, TextIndex, UnlistedContent, UntaggedManifest, is_common_word,
};

/// A tag of this length with a digit in it does not match by chance, and needs no repository beside it.
const MIN_DISTINCTIVE_LENGTH: usize = 10;

/// Finds the tags and digests of an inventory that occur in texts, and the former tags of untagged manifests.
///
/// `covers` returns true for the registries that the source protects.
#[must_use]
pub fn find_mentions(
    inventory: &Inventory,
    untagged: &[UntaggedManifest],
    covers: impl Fn(&RegistryName) -> bool,
    texts: &TextIndex,
) -> Vec<Mention> {
    if texts.is_empty() {
        return Vec::new();
    }
    let former = former_manifests(untagged);
    let mut found = Vec::new();
    for registry in inventory.registries.iter().filter(|registry| covers(&registry.name)) {
        for repository in &registry.repositories {
            let former = former.get(&(&registry.name, &repository.name)).map(Vec::as_slice).unwrap_or_default();
            found.extend(find_in_repository(registry, repository, former, texts));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Manifests that were untagged before, by repository.
pub(super) type FormerManifests<'a> = HashMap<(&'a RegistryName, &'a RepositoryName), Vec<&'a UntaggedManifest>>;

pub(super) fn former_manifests(untagged: &[UntaggedManifest]) -> FormerManifests<'_> {
    let mut former = FormerManifests::new();
    for one in untagged {
        former.entry((&one.registry, &one.repository)).or_default().push(one);
    }
    former
}

/// Finds the tags and digests of one repository that occur in texts, sorted.
pub(super) fn find_in_repository(
    registry: &Registry,
    repository: &Repository,
    former: &[&UntaggedManifest],
    texts: &TextIndex,
) -> Vec<Mention> {
    let mut found = Vec::new();
    let mut add = |image: MentionedImage, text: &str, word: IndexedWord| {
        let Some(holder) = texts.holder(word) else { return };
        let (registry, repository) = (registry.name.clone(), repository.name.clone());
        found.push(Mention { registry, repository, image, text: text.into(), holder });
    };
    let names = RepositoryNames::of(&repository.name, texts);
    let mut joined = String::new();
    let history = repository.untagged_history.as_deref();
    let elsewhere = history.into_iter().flat_map(|history| history.former_tags.values().flatten());
    let former_tags = former.iter().flat_map(|one| &one.tags).map(|tag| &tag.name).chain(elsewhere);
    for tag in repository.tags.iter().map(|tag| &tag.name).chain(former_tags) {
        if let Some((word, text)) = names.find(tag, &mut joined) {
            add(MentionedImage::Tag(tag.clone()), &text, word);
        }
    }
    let listed = repository.manifests.iter().map(|(digest, manifest)| (digest, manifest.config.as_deref()));
    let tagged = repository.tags.iter().filter_map(|tag| Some((tag.digest.as_ref()?, None)));
    let tagged = tagged.chain(repository.listed.iter().map(|row| (&row.digest, None)));
    let gone = former.iter().map(|one| (&one.digest, None));
    let mut seen = HashSet::new();
    for (digest, config) in listed.chain(tagged).chain(gone) {
        if !seen.insert(digest) {
            continue;
        }
        for hex in std::iter::once(digest).chain(config).map(Digest::hex) {
            if let Some((word, start)) = texts.find_digest(&hex) {
                add(MentionedImage::Digest(digest.clone()), start, word);
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The ways in which texts write one repository, and their places.
struct RepositoryNames<'t> {
    texts: &'t TextIndex,
    /// Its last segment, and its path with each of `-`, `_` and `.` for the slashes; in lower case.
    names: Vec<String>,
    /// The numbers of the places that have one of them, sorted.
    places: Vec<u32>,
}

impl<'t> RepositoryNames<'t> {
    fn of(repository: &RepositoryName, texts: &'t TextIndex) -> Self {
        let path = repository.as_str().to_ascii_lowercase();
        let mut names: Vec<String> = vec![path.rsplit('/').next().unwrap_or(&path).to_owned()];
        if path.contains('/') {
            names.extend(["-", "_", "."].map(|mark| path.replace('/', mark)));
        }
        let found = names.iter().flat_map(|name| texts.find(name)).map(|word| word.place());
        let mut places: Vec<u32> = found.collect();
        places.sort_unstable();
        places.dedup();
        Self { texts, names, places }
    }

    /// Returns true if a text has one of them.
    fn occur(&self) -> bool {
        !self.places.is_empty()
    }

    /// Returns the first word that may name a tag of the repository, and the word as it was looked up. `joined` is a
    /// buffer, the same for all tags.
    fn find(&self, tag: &TagName, joined: &mut String) -> Option<(IndexedWord, String)> {
        let tag = tag.as_str();
        let without_v = tag.strip_prefix('v').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let with_v = tag.starts_with(|c: char| c.is_ascii_digit()).then(|| format!("v{tag}"));
        let forms = [Some(tag), without_v, with_v.as_deref()];
        forms.into_iter().flatten().find_map(|form| self.find_form(form, joined))
    }

    fn find_form(&self, form: &str, joined: &mut String) -> Option<(IndexedWord, String)> {
        if is_common_word(form) {
            let mut beside = self.names.iter().filter(|name| *name != form);
            return beside
                .find_map(|name| self.texts.find_adjacent(name, form).first())
                .map(|word| (*word, form.to_owned()))
                .or_else(|| self.find_joined(form, joined));
        }
        let telling = form.len() >= MIN_DISTINCTIVE_LENGTH && form.bytes().any(|byte| byte.is_ascii_digit());
        let here = |word: &&IndexedWord| {
            telling
                || if self.texts.is_by_place() {
                    self.places.binary_search(&word.place()).is_ok()
                } else {
                    !self.places.is_empty()
                }
        };
        // A repository's own name is not one of its tags.
        let own = self.names.iter().any(|name| name == form);
        let alone = self.texts.find(form).iter().find(here).filter(|_| !own);
        alone.map(|word| (*word, form.to_owned())).or_else(|| self.find_joined(form, joined))
    }

    /// Returns the first word that is a name of the repository and a form of the tag in one.
    fn find_joined(&self, form: &str, joined: &mut String) -> Option<(IndexedWord, String)> {
        for name in &self.names {
            for mark in ["-", "_"] {
                joined.clear();
                joined.extend([name.as_str(), mark, form]);
                if let Some(word) = self.texts.find(joined).first() {
                    return Some((*word, joined.clone()));
                }
            }
        }
        None
    }
}

/// The mentions of the sources that cover one registry: mentions found before, by repository, and the texts to look
/// them up in.
pub(super) struct MentionIndex<'a> {
    recorded: HashMap<&'a RepositoryName, Vec<(&'a SourceName, &'a Mention)>>,
    texts: Vec<(&'a SourceName, &'a TextIndex)>,
}

/// The mentions of one repository, each with its source.
#[derive(Default)]
pub(super) struct RepositoryMentions<'a> {
    all: Vec<(&'a SourceName, Cow<'a, Mention>)>,
    /// The positions of the mentions of each tag.
    tags: HashMap<TagName, Vec<usize>>,
    /// The positions of the mentions of each digest.
    digests: HashMap<Digest, Vec<usize>>,
    /// True if a text has a whole digest, and names the repository.
    names_digest: bool,
}

impl<'a> MentionIndex<'a> {
    pub(super) fn new(registry: &Registry, claims: &'a Claims) -> Self {
        let mut recorded: HashMap<_, Vec<_>> = HashMap::new();
        for source in claims.sources.iter().filter(|source| source.covers(&registry.name)) {
            for mention in source.mentions().iter().filter(|mention| mention.registry == registry.name) {
                recorded.entry(&mention.repository).or_default().push((&source.name, mention));
            }
        }
        let covering = claims.sources.iter().filter(|source| source.covers(&registry.name) && !source.has_failed());
        let texts = covering.filter_map(|source| Some((&source.name, &claims.texts.get(&source.name)?.protecting)));
        Self { recorded, texts: texts.filter(|(_, texts)| !texts.is_empty()).collect() }
    }

    /// Finds the mentions of one repository. `former` are the manifests of it that were untagged before.
    pub(super) fn in_repository(
        &self,
        registry: &Registry,
        repository: &Repository,
        former: &[&UntaggedManifest],
    ) -> RepositoryMentions<'a> {
        let mut here = RepositoryMentions::default();
        for &(source, mention) in self.recorded.get(&repository.name).into_iter().flatten() {
            here.add(source, Cow::Borrowed(mention));
        }
        for &(source, texts) in &self.texts {
            for mention in find_in_repository(registry, repository, former, texts) {
                here.add(source, Cow::Owned(mention));
            }
            here.names_digest |= texts.names_whole_digest() && RepositoryNames::of(&repository.name, texts).occur();
        }
        here
    }
}

impl<'a> RepositoryMentions<'a> {
    fn add(&mut self, source: &'a SourceName, mention: Cow<'a, Mention>) {
        let places = match &mention.image {
            MentionedImage::Tag(tag) => self.tags.entry(tag.clone()).or_default(),
            MentionedImage::Digest(digest) => self.digests.entry(digest.clone()).or_default(),
        };
        places.push(self.all.len());
        self.all.push((source, mention));
    }

    /// Returns all mentions, each with its source.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a SourceName, &Mention)> {
        self.all.iter().map(|(source, mention)| (*source, &**mention))
    }

    /// Returns true if a text may name content of the repository that is not listed. Nobody writes down the digest of an
    /// index within an index.
    pub(super) fn may_name_unlisted(&self, content: UnlistedContent) -> bool {
        self.names_digest && content == UnlistedContent::Anything
    }

    /// Adds the words that may name a tag of the repository as reasons, unless the same source claims it by name.
    /// Returns the nodes of mentioned digests.
    pub(super) fn add_reasons(&self, repository: &Repository, graph: &Graph<'_>, found: &mut ReasonTable) -> Vec<Node> {
        if self.all.is_empty() {
            return Vec::new();
        }
        let tags: HashMap<&TagName, u32> = repository.tags.iter().map(|tag| &tag.name).zip(0..).collect();
        let mut nodes = Vec::new();
        for (source, mention) in self.iter() {
            match &mention.image {
                MentionedImage::Tag(name) => {
                    if let Some(&tag) = tags.get(name)
                        && !found.is_claimed_by(tag, source)
                    {
                        found.add(tag, Reason::Mentioned(Box::new(mention_reason(source, mention))));
                    }
                }
                MentionedImage::Digest(digest) => {
                    let Some(node) = graph.node(digest) else { continue };
                    nodes.push(node);
                    let places = std::iter::once(node).chain(graph.claimed_ancestors(node));
                    for tag in places.flat_map(|place| graph.tags(place).collect::<Vec<_>>()) {
                        if !found.is_claimed_by(tag, source) {
                            found.add(tag, Reason::Mentioned(Box::new(mention_reason(source, mention))));
                        }
                    }
                }
            }
        }
        nodes
    }

    /// Returns the mentions of tags, by name alone, and of digests, in order.
    pub(super) fn matching<'b>(
        &self,
        tags: impl Iterator<Item = &'b TagName>,
        digests: impl Iterator<Item = &'b Digest>,
    ) -> Vec<MentionReason> {
        let tags = tags.filter_map(|tag| self.tags.get(tag));
        let digests = digests.filter_map(|digest| self.digests.get(digest));
        let places: BTreeSet<usize> = tags.chain(digests).flatten().copied().collect();
        places.into_iter().map(|at| &self.all[at]).map(|(source, mention)| mention_reason(source, mention)).collect()
    }
}

fn mention_reason(source: &SourceName, mention: &Mention) -> MentionReason {
    MentionReason { source: source.clone(), text: Arc::clone(&mention.text), holder: Arc::clone(&mention.holder) }
}

#[cfg(test)]
mod tests;
