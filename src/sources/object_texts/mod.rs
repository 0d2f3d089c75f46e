//! The texts of objects from an API: pod templates, custom resources, resources of Azure.
//!
//! An object may name an image in any of its strings: in the environment of a container, an argument, an annotation.
//! Adjacent strings form a unit: those of one mapping, those of one list, each line of a longer text. Objects of a
//! cluster share most of their units, so each unit is stored once.

mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use self::walk::{WalkResult, add_words, walk};
use super::document::Node;
use super::known_hosts::KnownHosts;
use super::text::{self, MentionEffect, ObjectReferences, TextSettings, UnresolvedEffect, read_object};
use crate::domain::{
    Holder, ImageReference, Naming, PathPattern, RecordedWords, TextIndex, TextIndexBuilder, TextPlace, TextScope,
    UnresolvedReference, WordRecorder, is_common_word,
};

pub(super) use walk::from_json;

/// The texts of the objects of a source.
#[derive(Debug)]
pub(super) struct ObjectTexts<K> {
    /// Each unit once, by its hash.
    units: HashMap<u64, Unit>,
    /// The units of each object.
    objects: HashMap<K, HashSet<u64>>,
}

/// Adjacent strings.
#[derive(Debug)]
struct Unit {
    text: Box<str>,
    /// True if its lines are independent of each other.
    by_line: bool,
}

/// An image in the texts of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TextImage {
    /// The container that it is in; empty if there is none.
    pub(super) container: Box<str>,
    /// The line of its node.
    pub(super) line: u32,
    pub(super) kind: TextImageKind,
}

/// The meaning of a text for images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TextImageKind {
    /// The text of a field that the runtime reads as an image.
    SpecField(String),
    /// A reference in any other text.
    Image(ImageReference, Naming),
    /// A reference that leaves open which image it means.
    Unresolved(UnresolvedText),
    /// A remark for people.
    Note(String),
}

/// A reference that does not identify an image of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct UnresolvedText {
    pub(super) text: Arc<str>,
    pub(super) host: Option<String>,
    pub(super) path: PathPattern,
    /// The adjacent words, if no tag was written at all.
    pub(super) nearby_words: Arc<[Box<str>]>,
    /// The image that tools would take, if no tag was written at all.
    pub(super) latest: Option<ImageReference>,
}

impl<K> Default for ObjectTexts<K> {
    fn default() -> Self {
        Self { units: HashMap::new(), objects: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> ObjectTexts<K> {
    /// Adds the texts of a part of an object, and returns the images in them. `read` are the strings that were parsed
    /// as images before. A part without new units for the object was read before; of it only the images of containers
    /// are returned.
    pub(super) fn read(&mut self, object: &K, mut part: Node, read: &[&str], hosts: &KnownHosts) -> Vec<TextImage> {
        if !self.objects.contains_key(object) {
            self.objects.insert(object.clone(), HashSet::new());
        }
        let Some(own) = self.objects.get_mut(object) else { return Vec::new() };
        let WalkResult { images: mut spots, containers, multiline: long, is_new } =
            walk(&mut part, read, &mut self.units, own);
        if is_new {
            let found = text_images(read_object(&part, &long, hosts), &containers);
            for spot in &found {
                if let TextImageKind::Unresolved(open) = &spot.kind
                    && let Some(words) = open.everyday_words()
                {
                    add_words(&words, &mut self.units, own);
                }
            }
            spots.extend(found);
        }
        spots
    }

    /// Adds the texts of other objects, or of other parts of the same ones.
    pub(super) fn merge(&mut self, other: Self) {
        self.units.extend(other.units);
        for (object, units) in other.objects {
            self.objects.entry(object).or_default().extend(units);
        }
    }

    /// Returns the words of all texts: those that protect, and those whose mentions are only reported. `holder` returns
    /// the name by which people know an object; texts of the same name share one place.
    pub(super) fn index(
        self,
        settings: &TextSettings,
        mut holder: impl FnMut(K) -> Arc<Holder>,
    ) -> (TextIndex, TextIndex) {
        let Self { units, objects } = self;
        let mut places: BTreeMap<Arc<Holder>, BTreeSet<u64>> = BTreeMap::new();
        for (object, own) in objects {
            places.entry(holder(object)).or_default().extend(own);
        }
        // Pods of a template share their units: the words of these are extracted once.
        let mut uses: HashMap<u64, usize> = HashMap::new();
        for hash in places.values().flatten() {
            *uses.entry(*hash).or_default() += 1;
        }
        let mut word_recorder = WordRecorder::default();
        let mut recorded: HashMap<u64, RecordedWords> = HashMap::new();
        let mut texts = TextIndexBuilder::new(TextScope::Place);
        let mut reported = TextIndexBuilder::new(TextScope::Place);
        for (holder, own) in places {
            let index = match effects(settings, &holder).0 {
                MentionEffect::Protect => &mut texts,
                MentionEffect::Report => &mut reported,
                MentionEffect::Off => continue,
            };
            let place = index.add_place(TextPlace::Holder(holder));
            for (hash, unit) in own.iter().filter_map(|hash| Some((hash, units.get(hash)?))) {
                if uses.get(hash).is_some_and(|uses| *uses > 1) {
                    let read = || word_recorder.record(|index, place| unit.add_words(index, place));
                    index.add_recorded(place, recorded.entry(*hash).or_insert_with(read));
                } else {
                    unit.add_words(index, place);
                }
            }
        }
        (texts.finish(), reported.finish())
    }
}

impl Unit {
    fn add_words(&self, index: &mut TextIndexBuilder, place: u32) {
        if self.by_line || !self.text.contains('\n') {
            text::add_lines(index, place, &self.text);
        } else {
            text::add_lines(index, place, &self.text.replace('\n', " "));
        }
    }
}

/// Converts the findings in a part of an object. `containers` are those in it, with their first and last lines.
fn text_images(found: ObjectReferences, containers: &[(u32, u32, Box<str>)]) -> Vec<TextImage> {
    let ObjectReferences { images, unresolved, notes } = found;
    let spot = |line: u32, what: TextImageKind| {
        let around = containers.iter().filter(|(first, last, _)| (*first..=*last).contains(&line));
        let container = around.min_by_key(|(first, last, _)| last - first).map(|(_, _, name)| name.clone());
        TextImage { container: container.unwrap_or_default(), line, kind: what }
    };
    let mut open: Vec<(u32, UnresolvedText)> = unresolved.into_iter().map(|(line, one)| (line, one.into())).collect();
    let mut spots = Vec::new();
    for (line, image, naming) in images {
        // The image that tools would take as `latest` accompanies the reference without a tag.
        let own = open.iter_mut().find(|(at, open)| *at == line && open.matches(&image));
        match own {
            Some((_, open)) if naming == Naming::Written => open.latest = Some(image),
            _ => spots.push(spot(line, TextImageKind::Image(image, naming))),
        }
    }
    spots.extend(open.into_iter().map(|(line, open)| spot(line, TextImageKind::Unresolved(open))));
    spots.extend(notes.into_iter().map(|(line, what)| spot(line, TextImageKind::Note(what))));
    spots
}

impl UnresolvedText {
    /// Returns the everyday words beside it and the repository's name in one text: such a word counts as a tag only
    /// beside its repository.
    fn everyday_words(&self) -> Option<String> {
        let everyday: Vec<&str> =
            self.nearby_words.iter().map(|word| &**word).filter(|word| is_common_word(word)).collect();
        let path = self.path.parts().last().filter(|_| !everyday.is_empty())?;
        let name = path.rsplit('/').next().unwrap_or(path);
        Some(format!("{name} {}", everyday.join(" ")))
    }

    /// Returns true for the image that tools would take for a reference without a tag.
    fn matches(&self, image: &ImageReference) -> bool {
        let is_latest = image.digest.is_none() && image.tag.as_ref().is_some_and(|tag| tag.as_str() == "latest");
        let path = image.repository.as_ref().map(|path| PathPattern::of(&[path.as_str()]));
        is_latest && image.host == self.host && path.as_ref() == Some(&self.path)
    }
}

impl From<UnresolvedReference> for UnresolvedText {
    fn from(open: UnresolvedReference) -> Self {
        let UnresolvedReference { text, host, path, adjacent_words: beside, .. } = open;
        Self { text, host, path, nearby_words: beside, latest: None }
    }
}

/// Keeps only references that retain tags, by the settings, and returns notes about the rest.
pub(super) fn filter_unresolved(unresolved: &mut Vec<UnresolvedReference>, settings: &TextSettings) -> Vec<String> {
    let mut notes = Vec::new();
    unresolved.retain_mut(|open| {
        let (mentions, effect) = effects(settings, &open.holder);
        if effect == UnresolvedEffect::Keep {
            if mentions != MentionEffect::Protect {
                // A tag beside it that nothing protects must not resolve it.
                open.adjacent_words = [].into();
            }
            return true;
        }
        let place = match &*open.holder {
            Holder::Workload { namespace, kind, name, .. } => format!("{kind} {namespace}/{name}: "),
            Holder::File { .. } | Holder::Release(_) | Holder::Pull { .. } | Holder::Hold { .. } => String::new(),
        };
        notes.push(format!(
            "{place}`{}` leaves open which tag it means, and `unresolved` keeps nothing because of it",
            open.text
        ));
        false
    });
    notes
}

/// Returns the effects of the texts of an object: `paths` of exceptions are matched against `namespace/name`, for Azure
/// `group/name`.
fn effects(settings: &TextSettings, holder: &Holder) -> (MentionEffect, UnresolvedEffect) {
    match holder {
        Holder::Workload { namespace, kind, name, .. } => settings.effects(&format!("{namespace}/{name}"), Some(kind)),
        Holder::File { path, .. } => settings.effects(path, None),
        Holder::Release(_) | Holder::Pull { .. } | Holder::Hold { .. } => (settings.mentions, settings.unresolved),
    }
}
