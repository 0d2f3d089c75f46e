//! An index of the words of texts, in which names of repositories and tags are looked up without keeping the texts.
//!
//! Only hashes are kept, so memory grows with the number of distinct words. A hash collision can only retain a tag that
//! nothing names, never the other way round.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::quality::FixedState;

use super::Holder;

/// Words that are not specific by themselves: they count only in the same line or mapping as the repository.
const COMMON_WORDS: [&str; 18] = [
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

/// Punctuation of sentences and of Markdown around a word.
const PUNCTUATION: [char; 3] = ['.', '-', '_'];

/// Hexadecimal digits that name a digest: as many as the field's tools show at least.
const MIN_HEX_DIGITS: usize = 12;

/// The numbers of hexadecimal digits of whole digests: sha256 and sha512.
const WHOLE_DIGESTS: [usize; 2] = [64, 128];

/// New words that are collected before they are merged into the others.
const MAX_PENDING: usize = 1 << 19;

/// Cache slots for recently added words.
const RECENT_SLOTS: usize = 1 << 15;

/// Words that share the leading bits of their hashes, on average.
const WORDS_PER_BUCKET: usize = 4;

/// Words before and after an everyday word, in the same line or mapping, that it is paired with.
const PAIRING_WINDOW: usize = 64;

/// A line with more words is data, most of which are numbers: these are paired with the nearest words alone.
const LONG_LINE: usize = 512;
const LONG_LINE_WINDOW: usize = 8;

/// The distinct words of the texts of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextIndex {
    /// Sorted, each once: by its hash alone, or by hash and place where places are apart.
    words: Vec<IndexedWord>,
    /// The position of the first word of each bucket, and the end of the last one. The leading bits of a hash select
    /// its bucket.
    buckets: Vec<u32>,
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
    /// The recently added hashes, each in the slot that its last bits select, with their places.
    recent: Vec<(u64, u32)>,
    unit: Unit,
}

/// Records the words of a text once, for texts that occur in many places.
#[derive(Debug)]
pub struct WordRecorder {
    builder: TextIndexBuilder,
    /// The number of the text, so that texts do not share recent words.
    text: u32,
}

/// The words of a text that occurs in many places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedWords {
    /// The distinct words, each with the line of its first occurrence.
    words: Box<[(u64, u32)]>,
    hex_lengths: u128,
}

/// The words of one line or mapping that may be paired, by their positions.
#[derive(Debug, Default)]
struct Unit {
    names: Vec<Name>,
    common_words: Vec<CommonWord>,
}

/// A word that may name a repository, in one of its forms.
#[derive(Debug)]
struct Name {
    position: usize,
    line: u32,
    hash: u64,
}

/// A word that is not specific by itself.
#[derive(Debug)]
struct CommonWord {
    position: usize,
    is_number: bool,
    hash: u64,
}

/// A place where words occur.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextPlace {
    /// A file, by the name that people know.
    File(Arc<str>),
    /// Anything else, such as an object of a cluster.
    Holder(Arc<Holder>),
}

/// The scope of a repository's name: where a tag must occur to be taken for one of that repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TextScope {
    /// Anywhere in the source: values, overlays and charts are in different files.
    #[default]
    Source,
    /// In the same place: objects of a cluster are independent of each other.
    Place,
}

/// A word with the place and line of its first occurrence.
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
        Self { index, ..Self::default() }
    }

    /// Adds a place, and returns the number by which words are added to it.
    ///
    /// # Panics
    /// If there are more than 2^32 places.
    pub fn add_place(&mut self, place: TextPlace) -> u32 {
        self.index.places.push(place);
        u32::try_from(self.index.places.len() - 1).expect("fewer than 2^32 places")
    }

    /// Adds the words of one line or one mapping, each with its line.
    pub fn add_unit(&mut self, place: u32, words: &[(u32, &str)]) {
        self.add_words(place, words, true);
    }

    /// Adds words of one line or mapping, each with its line, as pairs only and not by themselves.
    pub fn add_adjacent(&mut self, place: u32, words: &[(u32, &str)]) {
        if words.iter().any(|(_, word)| is_common_word(word.trim_matches(PUNCTUATION))) {
            self.add_words(place, words, false);
        }
    }

    /// Adds recorded words.
    pub fn add_recorded(&mut self, place: u32, recorded: &RecordedWords) {
        self.index.hex_lengths |= recorded.hex_lengths;
        for &(hash, line) in &recorded.words {
            self.add(hash, place, line);
        }
        self.merge_if_full();
    }

    fn add_words(&mut self, place: u32, words: &[(u32, &str)], by_themselves: bool) {
        let mut unit = std::mem::take(&mut self.unit);
        unit.names.clear();
        unit.common_words.clear();
        for (position, &(line, word)) in words.iter().enumerate() {
            visit_forms(word, &mut |form, characters| {
                let hash = hash_of(form);
                if by_themselves {
                    if characters.is_hex() && form.len() >= MIN_HEX_DIGITS {
                        self.index.hex_lengths |= hex_bit(form.len());
                    }
                    self.add(hash, place, line);
                }
                // Each form with capitals also occurs in lower case.
                if characters.contain_any(Characters::LOWER) && !characters.contain_any(Characters::UPPER) {
                    unit.names.push(Name { position, line, hash });
                }
            });
            let bare = word.trim_matches(PUNCTUATION);
            if is_common_word(bare) && !bare.is_empty() {
                let is_number = bare.bytes().all(|byte| byte.is_ascii_digit());
                let hash = if is_number { hash_of(bare) } else { hash_of(&bare.to_ascii_lowercase()) };
                unit.common_words.push(CommonWord { position, is_number, hash });
            }
        }
        let mut first = 0;
        for &CommonWord { position, is_number, hash } in &unit.common_words {
            let reach = if is_number && words.len() > LONG_LINE { LONG_LINE_WINDOW } else { PAIRING_WINDOW };
            // Positions ascend, and so do those of the names.
            let within = |name: &Name, reach: usize| name.position + reach >= position;
            while unit.names.get(first).is_some_and(|name| !within(name, PAIRING_WINDOW)) {
                first += 1;
            }
            let near = unit.names[first..].iter().skip_while(|name| !within(name, reach));
            for name in near.take_while(|name| name.position <= position + reach) {
                self.add(pair_hash(name.hash, hash), place, name.line);
            }
        }
        self.unit = unit;
        self.merge_if_full();
    }

    fn add(&mut self, hash: u64, place: u32, line: u32) {
        if self.recent.is_empty() {
            self.recent.resize(RECENT_SLOTS, (0, u32::MAX));
        }
        // If places are not distinguished, the first place of a word is enough.
        let known = (hash, if self.index.by_place { place } else { 0 });
        let slot = usize::try_from(hash % RECENT_SLOTS as u64).unwrap_or_default();
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
        self.index.sort_into_buckets();
        self.index
    }

    fn merge_if_full(&mut self) {
        if self.pending.len() >= MAX_PENDING {
            self.merge();
        }
    }

    fn merge(&mut self) {
        let by_place = self.index.by_place;
        let same = |a: &IndexedWord, b: &IndexedWord| a.hash == b.hash && (!by_place || a.place == b.place);
        self.pending.sort_unstable();
        self.pending.dedup_by(|a, b| same(a, b));
        if !by_place {
            // Most are known after the first texts. Both lists are sorted, so one merge walk finds them.
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

impl Default for WordRecorder {
    fn default() -> Self {
        Self { builder: TextIndexBuilder::new(TextScope::Place), text: 0 }
    }
}

impl WordRecorder {
    /// Returns the words that `read` adds to an index at a place.
    pub fn record(&mut self, read: impl FnOnce(&mut TextIndexBuilder, u32)) -> RecordedWords {
        self.text = self.text.wrapping_add(1);
        read(&mut self.builder, self.text);
        self.builder.merge();
        let words = self.builder.index.words.drain(..).map(|word| (word.hash, word.line)).collect();
        RecordedWords { words, hex_lengths: std::mem::take(&mut self.builder.index.hex_lengths) }
    }
}

impl TextIndex {
    /// Returns true if no text was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Returns true if a text has a word as long as a whole digest, of hexadecimal digits alone.
    #[must_use]
    pub fn names_whole_digest(&self) -> bool {
        WHOLE_DIGESTS.iter().any(|&digits| self.hex_lengths & hex_bit(digits) != 0)
    }

    /// Returns true if a repository and a tag must occur in the same place.
    #[must_use]
    pub fn is_by_place(&self) -> bool {
        self.by_place
    }

    /// Returns the places of a word, in order; only the first one if places are not distinguished.
    #[must_use]
    pub fn find(&self, word: &str) -> &[IndexedWord] {
        self.words_with_hash(hash_of(word))
    }

    /// Returns the places where an everyday word occurs in one line or mapping with a name in lower case.
    #[must_use]
    pub fn find_adjacent(&self, name: &str, everyday: &str) -> &[IndexedWord] {
        self.words_with_hash(pair_hash(hash_of(name), hash_of(&everyday.to_ascii_lowercase())))
    }

    fn words_with_hash(&self, hash: u64) -> &[IndexedWord] {
        let bucket = self.bucket(hash);
        let Some(&[from, to]) = self.buckets.get(bucket..bucket + 2).and_then(<[u32]>::as_array) else { return &[] };
        let words = &self.words[from as usize..to as usize];
        let start = words.partition_point(|word| word.hash < hash);
        let length = words[start..].partition_point(|word| word.hash == hash);
        &words[start..start + length]
    }

    /// Returns the bucket of a hash: its leading bits, as many as the number of buckets needs.
    fn bucket(&self, hash: u64) -> usize {
        let bits = self.buckets.len().saturating_sub(1).checked_ilog2().unwrap_or_default();
        usize::try_from(hash.checked_shr(u64::BITS - bits).unwrap_or_default()).unwrap_or_default()
    }

    fn sort_into_buckets(&mut self) {
        // One more than a power of two, for the end of the last one.
        let count = (self.words.len() / WORDS_PER_BUCKET).next_power_of_two();
        self.buckets = vec![0; count + 1];
        let mut sizes = vec![0_u32; count];
        for word in &self.words {
            sizes[self.bucket(word.hash)] += 1;
        }
        let mut end = 0;
        for (bucket, size) in self.buckets[1..].iter_mut().zip(sizes) {
            end += size;
            *bucket = end;
        }
    }

    /// Returns the first place that names a digest by at least twelve of its hexadecimal digits, and these digits.
    #[must_use]
    pub fn find_digest<'h>(&self, hex: &'h str) -> Option<(IndexedWord, &'h str)> {
        let occurs = |start: &&str| self.hex_lengths & hex_bit(start.len()) != 0;
        let starts = (MIN_HEX_DIGITS..=hex.len()).rev().filter_map(|length| hex.get(..length));
        starts.filter(occurs).find_map(|start| Some((*self.find(start).first()?, start)))
    }

    /// Returns the holder for the place of a word.
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
    /// Returns the number of its place.
    #[must_use]
    pub fn place(self) -> u32 {
        self.place
    }
}

/// Returns true for a word that is not specific by itself, such as `latest` or a plain number.
#[must_use]
pub fn is_common_word(word: &str) -> bool {
    let number = word.bytes().all(|byte| byte.is_ascii_digit());
    number || COMMON_WORDS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// The kinds of characters in a word, as bits.
#[derive(Debug, Clone, Copy)]
struct Characters(u8);

impl Characters {
    const LOWER: u8 = 1;
    const UPPER: u8 = 1 << 1;
    const DOT: u8 = 1 << 2;
    /// The characters of [`PUNCTUATION`] without the dot.
    const DASH: u8 = 1 << 3;
    const PLUS: u8 = 1 << 4;
    const NOT_HEX: u8 = 1 << 5;

    const OF_BYTES: [u8; 256] = {
        let mut kinds = [0; 256];
        let mut byte = 0_u8;
        loop {
            let kind = match byte {
                b'a'..=b'z' => Self::LOWER,
                b'A'..=b'Z' => Self::UPPER,
                b'.' => Self::DOT,
                b'-' | b'_' => Self::DASH,
                b'+' => Self::PLUS,
                _ => 0,
            };
            kinds[byte as usize] = kind | if byte.is_ascii_hexdigit() { 0 } else { Self::NOT_HEX };
            if byte == u8::MAX {
                break;
            }
            byte += 1;
        }
        kinds
    };

    fn of(word: &str) -> Self {
        Self(word.bytes().fold(0, |kinds, byte| kinds | Self::OF_BYTES[usize::from(byte)]))
    }

    fn contain_any(self, kinds: u8) -> bool {
        self.0 & kinds != 0
    }

    fn is_hex(self) -> bool {
        !self.contain_any(Self::NOT_HEX)
    }
}

/// Returns the bit for words of so many hexadecimal digits; the longest are those of sha512.
fn hex_bit(digits: usize) -> u128 {
    let above = u32::try_from(digits - MIN_HEX_DIGITS).unwrap_or(u32::MAX);
    1_u128.checked_shl(above).unwrap_or_default()
}

/// Visits each form in which a word may name a repository or tag: unchanged, without the punctuation around it, without
/// a file extension, in lower case, and with `_` for `+`, which Helm writes in tags.
fn visit_forms(word: &str, visit: &mut impl FnMut(&str, Characters)) {
    let characters = Characters::of(word);
    if !characters.contain_any(Characters::PLUS | Characters::DOT | Characters::DASH) {
        return visit_cases(word, characters, visit);
    }
    if characters.contain_any(Characters::PLUS) {
        visit_forms(&word.replace('+', "_"), visit);
        word.split('+').filter(|part| !part.is_empty()).for_each(|part| visit_forms(part, visit));
        return;
    }
    visit_cases(word, characters, visit);
    let mut bare = word.trim_matches(PUNCTUATION);
    if bare.len() != word.len() {
        visit_cases(bare, Characters::of(bare), visit);
    }
    while characters.contain_any(Characters::DOT)
        && let Some((stem, ending)) = bare.rsplit_once('.')
        && EXTENSIONS.iter().any(|known| ending.eq_ignore_ascii_case(known))
    {
        visit_cases(stem, Characters::of(stem), visit);
        bare = stem;
    }
    if characters.contain_any(Characters::UPPER) && !characters.contain_any(Characters::LOWER | Characters::DOT) {
        visit_variable_parts(word, visit);
    }
}

/// Visits a form unchanged and, if it has capitals, in lower case.
fn visit_cases(form: &str, characters: Characters, visit: &mut impl FnMut(&str, Characters)) {
    if form.is_empty() {
        return;
    }
    visit(form, characters);
    if characters.contain_any(Characters::UPPER) {
        let lower = form.to_ascii_lowercase();
        visit(&lower, Characters::of(&lower));
    }
}

/// Visits the parts of an environment variable's name: `SHOP_API_TAG` names `shop_api`, and `api`.
fn visit_variable_parts(word: &str, visit: &mut impl FnMut(&str, Characters)) {
    let is_variable = word.contains('_')
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if !is_variable {
        return;
    }
    let mut visit = |part: &str| visit(part, Characters::of(part));
    let lower = word.to_ascii_lowercase();
    lower.match_indices('_').for_each(|(at, _)| visit(&lower[..at]));
    lower.split('_').filter(|part| !part.is_empty()).for_each(visit);
}

/// Returns the hash of a word. The keys are fixed, so that equal texts give equal plans.
fn hash_of(word: &str) -> u64 {
    FixedState::default().hash_one(word)
}

/// Returns the hash of a name beside an everyday word, by the hashes of the two, which are not interchangeable.
fn pair_hash(name: u64, everyday: u64) -> u64 {
    name ^ everyday.rotate_left(32)
}

#[cfg(test)]
mod tests;
