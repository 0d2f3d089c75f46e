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
    "csv", "env", "gz", "htm", "html", "ini", "json", "lock", "log", "md", "sh", "tar", "tf", "tgz", "toml", "txt", "xml",
    "xz", "yaml", "yml", "zip", "zst",
];

/// Hexadecimal digits that name a digest: as many as the field's tools show at least.
const LEAST_HEX: usize = 12;

/// New words that are collected before they are merged into the others.
const MOST_PENDING: usize = 1 << 20;

/// Words of one line or mapping that an everyday word is paired with. A longer line is cut into parts.
const MOST_BESIDE: usize = 64;

/// The distinct words of the texts of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextIndex {
    /// Sorted, each once: by its hash alone, or by hash and place where places are apart.
    words: Vec<IndexedWord>,
    places: Vec<TextPlace>,
    /// The lengths of words of hexadecimal digits, as bits.
    hex_lengths: u128,
    by_place: bool,
}

/// Builds a [`TextIndex`], one text after another.
#[derive(Debug, Default)]
pub struct TextIndexBuilder {
    index: TextIndex,
    pending: Vec<IndexedWord>,
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
        Self { index, pending: Vec::new() }
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
        for part in words.chunks(MOST_BESIDE) {
            let everyday: Vec<&str> = part.iter().map(|(_, word)| *word).filter(|word| is_everyday(word)).collect();
            for &(line, word) in part {
                let mut add = |hash| self.pending.push(IndexedWord { hash, place, line });
                each_form(word, &mut |form| {
                    add(hash_of(form));
                    if everyday.is_empty() || !form.bytes().any(|byte| byte.is_ascii_alphabetic()) {
                        return;
                    }
                    let name = form.to_ascii_lowercase();
                    everyday.iter().for_each(|everyday| add(hash_of_pair(&name, everyday)));
                });
                if is_hex(word) {
                    self.index.hex_lengths |= 1_u128.checked_shl(length(word)).unwrap_or_default();
                }
            }
        }
        if self.pending.len() >= MOST_PENDING {
            self.merge();
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
            // Most are known after the first texts; the others need no second sort of everything.
            let known = &self.index.words;
            self.pending.retain(|word| known.binary_search_by_key(&word.hash, |known| known.hash).is_err());
        }
        self.index.words.append(&mut self.pending);
        self.index.words.sort_unstable();
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
        self.at(hash_of_pair(name, everyday))
    }

    fn at(&self, hash: u64) -> &[IndexedWord] {
        let start = self.words.partition_point(|word| word.hash < hash);
        let length = self.words[start..].iter().take_while(|word| word.hash == hash).count();
        &self.words[start..start + length]
    }

    /// Returns the first place that names a digest by its hexadecimal digits, by at least twelve of them, and these.
    #[must_use]
    pub fn find_digest<'h>(&self, hex: &'h str) -> Option<(IndexedWord, &'h str)> {
        let occurs = |start: &&str| self.hex_lengths.checked_shr(length(start)).is_some_and(|bits| bits & 1 == 1);
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

fn length(word: &str) -> u32 {
    u32::try_from(word.len()).unwrap_or(u32::MAX)
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
    let mut bare = word.trim_matches(['.', '-', '_']);
    if bare != word {
        cased(bare);
    }
    while let Some((stem, ending)) = bare.rsplit_once('.')
        && EXTENSIONS.iter().any(|known| ending.eq_ignore_ascii_case(known))
    {
        cased(stem);
        bare = stem;
    }
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
