//! The second reading of versions, parsed and ordered in another way.

use crate::domain::VersionPart;

/// A version as parsed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParsedVersion {
    pub(super) order: VersionOrder,
    /// True if it has a suffix without an order, so that it only shares the place.
    pub(super) is_inexact: bool,
}

/// The order of versions: the numbers, then a release after its pre-releases, then the parts of the pre-release, then
/// the commits since then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VersionOrder {
    numbers: Vec<u64>,
    release: bool,
    pre: Vec<Part>,
    commits: u64,
}

/// A part of a pre-release: numbers come first and by size, which for digits is length, then words by their stage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(usize, String),
    Stage(u8),
}

pub(super) fn read(text: &str) -> Option<ParsedVersion> {
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let end = text.find(['_', '+']).unwrap_or(text.len());
    let text = &text[..end];
    let dash = text.find('-').unwrap_or(text.len());
    let mut numbers = Vec::new();
    for number in text[..dash].split('.') {
        numbers.push(number.parse::<u64>().ok().filter(|_| !number.starts_with('+'))?);
    }
    if !(2..=4).contains(&numbers.len()) {
        return None;
    }
    numbers.resize(4, 0);
    let mut place = VersionOrder { numbers, release: true, pre: Vec::new(), commits: 0 };
    let mut pieces: Vec<&str> = match text.get(dash + 1..) {
        None => return Some(ParsedVersion { order: place, is_inexact: false }),
        Some("") => return None,
        Some(suffix) => suffix.split('-').collect(),
    };
    let mut shares = false;
    for at in (1..pieces.len()).rev() {
        if let Some(commits) = commits(pieces[at - 1]).filter(|_| names_a_commit(pieces[at])) {
            place.commits = commits;
            shares = at + 1 < pieces.len();
            pieces.truncate(at - 1);
            break;
        }
    }
    let mut left = pieces.len();
    for (at, piece) in pieces.iter().enumerate() {
        let Some(stages) = Stages::of(piece, pieces.get(at + 1).copied()) else { continue };
        let used = if stages.with_next { 2 } else { 1 };
        left = pieces.len() - used + usize::from(!stages.whole);
        place.release = false;
        place.pre = stages.parts;
        break;
    }
    Some(ParsedVersion { order: place, is_inexact: shares || left > 0 })
}

fn commits(piece: &str) -> Option<u64> {
    piece.parse().ok().filter(|_| !piece.starts_with('+'))
}

/// Returns true for `g` and four to sixty-four hexadecimal digits, unless that is short and a version of gcc.
fn names_a_commit(piece: &str) -> bool {
    let digits = piece.as_bytes().get(1..).unwrap_or_default();
    let hexadecimal = digits.iter().all(|digit| b"0123456789abcdef".contains(digit));
    let gcc = piece.len() <= 7 && piece.starts_with("gcc") && digits[2..].iter().all(u8::is_ascii_digit);
    piece.starts_with('g') && hexadecimal && digits.len() >= 4 && digits.len() <= 64 && !gcc
}

/// A pre-release.
struct Stages {
    parts: Vec<Part>,
    /// True if nothing of the last piece is left over.
    whole: bool,
    /// True if the next piece is its number.
    with_next: bool,
}

impl Stages {
    /// Parses the pre-release at the beginning of a piece of a suffix. `next` is the piece after it.
    fn of(piece: &str, next: Option<&str>) -> Option<Self> {
        let mut names = piece.split('.');
        let head = names.next()?;
        let (word, number, rest) = cut(head);
        let word = word.to_ascii_lowercase();
        let mut stages = Self { parts: vec![Part::Stage(stage(&word)?)], whole: rest.is_empty(), with_next: false };
        // Six digits of a hash at most, or it may be one.
        if is_short(&word) && (!stages.whole || head.len() > 6) {
            return None;
        }
        stages.parts.extend(number);
        if stages.whole {
            stages.take(names);
        }
        if stages.whole && stages.parts.len() == 1 && word.len() > 1 {
            let mut names = next.unwrap_or_default().split('.');
            if let ("", Some(number), "") = cut(names.next().unwrap_or_default()) {
                stages.parts.push(number);
                stages.with_next = true;
                stages.take(names);
            }
        }
        let needs_number = matches!(&*word, "a" | "b" | "m" | "dev");
        (stages.parts.len() > 1 || !needs_number).then_some(stages)
    }

    /// Consumes names as long as they are numbers or stages.
    fn take<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        for name in names {
            let (word, number, rest) = cut(name);
            let word = word.to_ascii_lowercase();
            let stage = stage(&word).filter(|_| !is_short(&word));
            let known = if word.is_empty() { number.is_some() } else { stage.is_some() };
            if !known || !rest.is_empty() {
                self.whole = false;
                return;
            }
            self.parts.extend(stage.map(Part::Stage));
            self.parts.extend(number);
        }
    }
}

/// Returns the rank of a word of pre-releases.
fn stage(word: &str) -> Option<u8> {
    Some(match word {
        "canary" => 0,
        "dev" => 1,
        "next" => 2,
        "nightly" => 3,
        "snapshot" => 4,
        "alpha" | "a" => 10,
        "beta" | "b" => 20,
        "milestone" | "m" => 30,
        "ea" => 40,
        "preview" | "pre" | "prerelease" => 41,
        "rc" | "cr" => 50,
        _ => return None,
    })
}

/// Returns true for words that may also be the beginning of something else.
fn is_short(word: &str) -> bool {
    matches!(word, "a" | "b" | "m" | "ea")
}

/// Splits off letters and the number after them, and returns the rest.
fn cut(name: &str) -> (&str, Option<Part>, &str) {
    let letters = name.bytes().take_while(u8::is_ascii_alphabetic).count();
    let digits = name[letters..].bytes().take_while(u8::is_ascii_digit).count();
    let number = name[letters..letters + digits].trim_start_matches('0');
    let number = (digits > 0).then(|| Part::Number(number.len(), number.to_owned()));
    (&name[..letters], number, &name[letters + digits..])
}

impl ParsedVersion {
    pub(super) fn line(&self, part: VersionPart) -> &[u64] {
        match part {
            VersionPart::Major => &self.order.numbers[..1],
            VersionPart::Minor => &self.order.numbers[..2],
            VersionPart::Patch => &self.order.numbers[..3],
        }
    }
}

impl VersionOrder {
    /// Returns true for a release itself, without commits since then.
    pub(super) fn is_release(&self) -> bool {
        self.release && self.commits == 0
    }

    /// Returns true for the release that another place's pre-release leads to.
    pub(super) fn is_release_of(&self, other: &Self) -> bool {
        self.is_release() && self.numbers == other.numbers && !other.release
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::super::version::Version;
    use super::*;

    /// Texts near versions: few numbers, so that many are equal, and every kind of suffix, several at once.
    fn text() -> impl Strategy<Value = String> {
        const PIECES: &str = "rc1 rc.1 rc RC10 rc2 rc01 rc1abc rc.1.x rc..1 cr2 alpha alpha2 alpha.10 a1 a a1234567 \
            beta.2.3 beta.rc.1 b12ac3f b2 ea ea1 ea12345 ea.1b m3 M m.4 milestone pre preview.6.2 dev dev.5 dev.a1 \
            snapshot SNAPSHOT.7 next nightly.20240101 canary.ea alpine3.20 debian r3 1 12 0.3 g0a1b2c3 gabcd gcc12 \
            dirty";
        let core = vec!["1.2", "1.2.3", "1.2.3", "01.2.03", "1.2.3.4", "1.10.0", "1", "1.x", "1.2.3.4.5", "1..2"];
        let core = select(core);
        let metadata = select(vec!["", "", "", "_b.5", "+5-rc1"]);
        let pieces: Vec<&str> = PIECES.split_whitespace().chain([""]).collect();
        let pieces = prop::collection::vec(select(pieces), 0..5);
        (select(vec!["", "v", "V"]), core, pieces, metadata).prop_map(|(v, core, pieces, metadata)| {
            let suffix: String = pieces.iter().flat_map(|piece| ["-", *piece]).collect();
            format!("{v}{core}{suffix}{metadata}")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn both_readers_read_and_order_alike(a in text(), b in text()) {
            let (first, other) = ((read(&a), read(&b)), (Version::parse(&a), Version::parse(&b)));
            for (read, version) in [(&first.0, &other.0), (&first.1, &other.1)] {
                prop_assert_eq!(
                    read.as_ref().map(|one| (one.is_inexact, one.line(VersionPart::Patch).to_vec())),
                    version.as_ref().map(|one| (one.is_inexact, one.line(VersionPart::Patch).to_vec()))
                );
            }
            if let ((Some(a), Some(b)), (Some(c), Some(d))) = (first, other) {
                prop_assert_eq!(a.order.cmp(&b.order), c.order.cmp(&d.order));
                prop_assert_eq!(a.order.is_release_of(&b.order), d.order.release() == Some(c.order));
            }
        }

        #[test]
        fn the_order_is_total(a in text(), b in text(), c in text()) {
            let versions = [a, b, c].map(|text| Version::parse(&text).map(|version| version.order));
            let [Some(a), Some(b), Some(c)] = versions else { return Ok(()) };
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&b).is_eq(), a == b);
            prop_assert!(a > b || b > c || a <= c);
            prop_assert!(a >= b || b >= c || a < c);
        }
    }
}
