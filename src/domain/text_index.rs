//! The words of texts, kept so that names of repositories and tags can be found in them without keeping the texts.
//!
//! Only hashes are kept, so that the memory is that of the distinct words. Two words with the same hash make a tag stay
//! that nothing names, never the other way round.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::Holder;

/// Words that say little by themselves: they count only in the same line or mapping as the repository.
const EVERYDAY: [&str; 18] = [
    "canary",
    "dev",
    "develop",
    "development",
    "edge",
    "latest",
    "main",
    "master",
    "nightly",
    "prod",
    "production",
    "release",
    "stable",
    "staging",
    "test",
    "testing",
    "trunk",
    "uat",
];

/// Endings of file names, which are not part of a version in them.
const EXTENSIONS: [&str; 22] = [
    "csv", "env", "gz", "htm", "html", "ini", "json", "lock", "log", "md", "sh", "tar", "tf", "tgz", "toml", "txt",
    "xml", "xz", "yaml", "yml", "zip", "zst",
];

/// Marks of sentences and of Markdown around a word.
const MARKS: [char; 3] = ['.', '-', '_'];

/// Hexadecimal digits that name a digest: as many as the field's tools show at least.
const LEAST_HEX: usize = 12;

/// New words that are collected before they are merged into the others.
const MOST_PENDING: usize = 1 << 19;

/// Words that were added last and are known again at once.
const RECENT: usize = 1 << 15;

/// Words before and after an everyday word, in the same line or mapping, that it is paired with.
const MOST_BESIDE: usize = 64;

/// A line with more words is data, most of which are numbers: these are paired with the nearest words alone.
const LONG: usize = 512;
const NEAR: usize = 8;

/// The distinct words of the texts of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextIndex {
    /// Sorted, each once: by its hash alone, or by hash and place where places are apart.
    words: Vec<IndexedWord>,
    places: Vec<TextPlace>,
    /// The lengths of words of hexadecimal digits, as bits from twelve on.
    hex_lengths: u128,
    by_place: bool,
}

/// Builds a [`TextIndex`], one text after another.
#[derive(Debug, Default)]
pub struct TextIndexBuilder {
    index: TextIndex,
    pending: Vec<IndexedWord>,
    /// The hashes that were added last, each in the slot that its last bits say, with their places.
    recent: Vec<(u64, u32)>,
}

/// A place where words stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextPlace {
    /// A file, by the name that people know it by.
    File(Arc<str>),
    /// Anything else, such as an object of a cluster.
    Holder(Arc<Holder>),
}

/// The reach of a repository's name: where a tag must stand to be taken for one of that repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TextScope {
    /// Anywhere in the source: values, overlays and charts stand in different files.
    #[default]
    Source,
    /// In the same place: one object of a cluster says nothing of another.
    Place,
}

/// A word, and where it stands first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexedWord {
    hash: u64,
    place: u32,
    line: u32,
}

impl TextIndexBuilder {
    /// Creates an empty index for texts of that scope.
    #[must_use]
    pub fn new(scope: TextScope) -> Self {
        let index = TextIndex { by_place: scope == TextScope::Place, ..TextIndex::default() };
        Self { index, pending: Vec::new(), recent: Vec::new() }
    }

    /// Adds a place, and returns the number by which words are added to it.
    ///
    /// # Panics
    /// With more than 2^32 places.
    pub fn place(&mut self, place: TextPlace) -> u32 {
        self.index.places.push(place);
        u32::try_from(self.index.places.len() - 1).expect("fewer than 2^32 places")
    }

    /// Adds the words of one line or one mapping, each with its line.
    pub fn unit(&mut self, place: u32, words: &[(u32, &str)]) {
        for &(line, word) in words {
            each_form(word, &mut |form| self.add(hash_of(form), place, line));
            let bare = word.trim_matches(MARKS);
            if is_hex(bare) {
                self.index.hex_lengths |= hex_bit(bare);
            }
        }
        self.together(place, words);
    }

    /// Adds words of one line or mapping, each with its line, as standing beside each other, and not by themselves.
    pub fn together(&mut self, place: u32, words: &[(u32, &str)]) {
        let bare = words.iter().map(|(_, word)| word.trim_matches(MARKS)).enumerate();
        let everyday: Vec<(usize, &str)> = bare.filter(|(_, word)| !word.is_empty() && is_everyday(word)).collect();
        if !everyday.is_empty() {
            let names = names(words);
            for (at, word) in everyday {
                let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
                let reach = if is_number && words.len() > LONG { NEAR } else { MOST_BESIDE };
                let word = word.to_ascii_lowercase();
                let first = names.partition_point(|(name, ..)| name + reach < at);
                for (_, line, name) in names[first..].iter().take_while(|(name, ..)| *name <= at + reach) {
                    self.add(hash_of_pair(name, &word), place, *line);
                }
            }
        }
        if self.pending.len() >= MOST_PENDING {
            self.merge();
        }
    }

    fn add(&mut self, hash: u64, place: u32, line: u32) {
        if self.recent.is_empty() {
            self.recent.resize(RECENT, (0, u32::MAX));
        }
        // Where places are not apart, the first one of a word is enough.
        let known = (hash, if self.index.by_place { place } else { 0 });
        let slot = usize::try_from(hash % RECENT as u64).unwrap_or_default();
        if self.recent[slot] != known {
            self.recent[slot] = known;
            self.pending.push(IndexedWord { hash, place, line });
        }
    }

    /// Returns the finished index.
    #[must_use]
    pub fn finish(mut self) -> TextIndex {
        self.merge();
        self.index.words.shrink_to_fit();
        self.index
    }

    fn merge(&mut self) {
        let by_place = self.index.by_place;
        let same = |a: &IndexedWord, b: &IndexedWord| a.hash == b.hash && (!by_place || a.place == b.place);
        self.pending.sort_unstable();
        self.pending.dedup_by(|a, b| same(a, b));
        if !by_place {
            // Most are known after the first texts. Both are sorted, so one walk through them finds which.
            let mut known = self.index.words.iter().map(|word| word.hash).peekable();
            self.pending.retain(|word| {
                while known.next_if(|known| *known < word.hash).is_some() {}
                known.peek() != Some(&word.hash)
            });
            if self.pending.is_empty() {
                return;
            }
        }
        self.index.words.append(&mut self.pending);
        // Two sorted runs, which a stable sort only merges.
        self.index.words.sort();
        self.index.words.dedup_by(|a, b| same(a, b));
    }
}

impl TextIndex {
    /// Returns true if no text was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Returns true if a repository and a tag must stand in the same place.
    #[must_use]
    pub fn is_by_place(&self) -> bool {
        self.by_place
    }

    /// Returns the places of a word, in order: the first one alone where places are not apart.
    #[must_use]
    pub fn find(&self, word: &str) -> &[IndexedWord] {
        self.at(hash_of(word))
    }

    /// Returns the places where an everyday word stands in one line or mapping with a name in lower case.
    #[must_use]
    pub fn find_beside(&self, name: &str, everyday: &str) -> &[IndexedWord] {
        self.at(hash_of_pair(name, &everyday.to_ascii_lowercase()))
    }

    fn at(&self, hash: u64) -> &[IndexedWord] {
        let start = self.words.partition_point(|word| word.hash < hash);
        let length = self.words[start..].iter().take_while(|word| word.hash == hash).count();
        &self.words[start..start + length]
    }

    /// Returns the first place that names a digest by its hexadecimal digits, by at least twelve of them, and these.
    #[must_use]
    pub fn find_digest<'h>(&self, hex: &'h str) -> Option<(IndexedWord, &'h str)> {
        let occurs = |start: &&str| self.hex_lengths & hex_bit(start) != 0;
        let starts = (LEAST_HEX..=hex.len()).rev().filter_map(|length| hex.get(..length));
        starts.filter(occurs).find_map(|start| Some((*self.find(start).first()?, start)))
    }

    /// Returns the place of a word as people find it by hand.
    #[must_use]
    pub fn holder(&self, word: IndexedWord) -> Option<Arc<Holder>> {
        let place = self.places.get(usize::try_from(word.place).ok()?)?;
        Some(match place {
            TextPlace::File(path) => Arc::new(Holder::File { path: path.to_string(), line: word.line }),
            TextPlace::Holder(holder) => Arc::clone(holder),
        })
    }
}

impl IndexedWord {
    /// The number of its place.
    #[must_use]
    pub fn place(self) -> u32 {
        self.place
    }
}

/// Returns true for a word that says little by itself, such as `latest` or a plain number.
#[must_use]
pub fn is_everyday(word: &str) -> bool {
    let number = word.bytes().all(|byte| byte.is_ascii_digit());
    number || EVERYDAY.iter().any(|known| word.eq_ignore_ascii_case(known))
}

fn is_hex(word: &str) -> bool {
    word.len() >= LEAST_HEX && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The bit for the length of a word of hexadecimal digits; the longest are those of sha512.
fn hex_bit(word: &str) -> u128 {
    let above = u32::try_from(word.len() - LEAST_HEX).unwrap_or(u32::MAX);
    1_u128.checked_shl(above).unwrap_or_default()
}

/// Gives each form in which a word may name a repository or tag: as it stands, without the punctuation around it, without
/// a file's ending, in lower case, and with `_` for `+`, which Helm writes in tags.
fn each_form(word: &str, visit: &mut impl FnMut(&str)) {
    if word.contains('+') {
        each_form(&word.replace('+', "_"), visit);
        word.split('+').filter(|part| !part.is_empty()).for_each(|part| each_form(part, visit));
        return;
    }
    let mut cased = |form: &str| {
        if form.is_empty() {
            return;
        }
        visit(form);
        if form.bytes().any(|byte| byte.is_ascii_uppercase()) {
            visit(&form.to_ascii_lowercase());
        }
    };
    cased(word);
    let mut bare = word.trim_matches(MARKS);
    if bare != word {
        cased(bare);
    }
    while let Some((stem, ending)) = bare.rsplit_once('.')
        && EXTENSIONS.iter().any(|known| ending.eq_ignore_ascii_case(known))
    {
        cased(stem);
        bare = stem;
    }
    each_part(word, visit);
}

/// Gives the parts of the name of an environment variable: `SHOP_API_TAG` names `shop_api`, and `api`.
fn each_part(word: &str, visit: &mut impl FnMut(&str)) {
    let is_variable = word.contains('_')
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if !is_variable {
        return;
    }
    let lower = word.to_ascii_lowercase();
    lower.match_indices('_').for_each(|(at, _)| visit(&lower[..at]));
    lower.split('_').filter(|part| !part.is_empty()).for_each(visit);
}

/// The names that words may be, in each of their forms, with their positions and lines.
fn names(words: &[(u32, &str)]) -> Vec<(usize, u32, String)> {
    let mut names: Vec<(usize, u32, String)> = Vec::new();
    for (at, &(line, word)) in words.iter().enumerate() {
        each_form(word, &mut |form| {
            if form.bytes().any(|byte| byte.is_ascii_alphabetic()) {
                let name = form.to_ascii_lowercase();
                if names.last().is_none_or(|(last, _, known)| (*last, known) != (at, &name)) {
                    names.push((at, line, name));
                }
            }
        });
    }
    names
}

/// The hash of a word. Its keys are fixed, so that equal texts give equal plans.
fn hash_of(word: &str) -> u64 {
    hash_of_pair(word, "")
}

fn hash_of_pair(name: &str, everyday: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, everyday).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
