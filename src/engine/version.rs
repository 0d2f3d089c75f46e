//! Versions as people write them in tags.

use semver::Prerelease;

use crate::domain::VersionPart;

/// A place in the order of versions. Versions without an order share one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VersionOrder {
    numbers: [u64; 4],
    /// Empty for a release, which comes after its pre-releases.
    pre: Prerelease,
    /// Commits since then, as `git describe` counts them.
    commits: u64,
}

/// The version of a tag: two to four numbers, perhaps a pre-release, perhaps commits since then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    /// Its place.
    pub(super) order: VersionOrder,
    /// True if it has a suffix without an order relative to that version, so it only shares the place.
    pub(super) is_inexact: bool,
}

/// The numbers that versions of one line share; zeros beyond.
pub(super) type Line = [u64; 3];

/// The version that was read from a tag, in the tag's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionReading {
    /// The numbers, such as `1.2.3`.
    pub numbers: String,
    /// The pre-release, such as `rc10`.
    pub pre_release: Option<String>,
    /// Commits since then, as `git describe` counts them.
    pub commits: u64,
    /// The suffix that has no order and shares the place of the version, such as `-alpine3.20`.
    pub suffix: Option<String>,
    /// The build metadata, which does not count, such as `_build.5`.
    pub metadata: Option<String>,
}

/// The words of pre-releases, each with the identifier that it is ordered by. Development comes first: it runs parallel
/// to the stages of a release, and must not displace a candidate.
const PRE_RELEASE_WORDS: [(&str, &str); 17] = [
    ("canary", "a-canary"),
    ("dev", "a-dev"),
    ("next", "a-next"),
    ("nightly", "a-nightly"),
    ("snapshot", "a-snapshot"),
    ("a", "b-alpha"),
    ("alpha", "b-alpha"),
    ("b", "c-beta"),
    ("beta", "c-beta"),
    ("m", "d-milestone"),
    ("milestone", "d-milestone"),
    ("ea", "e-ea"),
    ("pre", "e-preview"),
    ("prerelease", "e-preview"),
    ("preview", "e-preview"),
    ("cr", "f-rc"),
    ("rc", "f-rc"),
];

/// The words that mean a pre-release only with a number. Alone they are flavours of a release: `1.2.3-dev` may be the
/// image with development tools.
const NUMBERED_WORDS: [&str; 4] = ["a", "b", "dev", "m"];

/// The length of the shortest hash that git abbreviates to by itself. `b12ac3f` is not the twelfth beta.
const MIN_HASH_LENGTH: usize = 7;

impl Version {
    /// Reads `1.2.3`, `v1.2`, `2024.01.05`, `1.2.3.4`, each perhaps with a suffix and build metadata (`+…`, in tags
    /// `_…`), which does not count. Of the suffix, a known pre-release (`-rc.1`, `-rc1`, `-rc-1`) and the commits of
    /// `git describe` (`-5-g0123abc`) have an order; all else shares the place.
    ///
    /// One number alone is not a version: `1` and `v2` are names that move from release to release.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let VersionParts { numbers, pre, commits, shared, .. } = VersionParts::of(text)?;
        Some(Self { order: VersionOrder { numbers, pre, commits }, is_inexact: !shared.is_empty() })
    }

    /// Returns its line.
    pub(super) fn line(&self, part: VersionPart) -> Line {
        let [major, minor, patch, _] = self.order.numbers;
        match part {
            VersionPart::Major => [major, 0, 0],
            VersionPart::Minor => [major, minor, 0],
            VersionPart::Patch => [major, minor, patch],
        }
    }

    /// Returns the line in usual form: `1`, `1.2`, `1.2.3`.
    pub(super) fn line_text(&self, part: VersionPart) -> Box<str> {
        let [major, minor, patch, _] = self.order.numbers;
        match part {
            VersionPart::Major => major.to_string(),
            VersionPart::Minor => format!("{major}.{minor}"),
            VersionPart::Patch => format!("{major}.{minor}.{patch}"),
        }
        .into()
    }
}

impl VersionOrder {
    /// Returns the place of the release of a pre-release; `None` for a release.
    pub(super) fn release(&self) -> Option<Self> {
        (!self.pre.is_empty()).then_some(Self { numbers: self.numbers, pre: Prerelease::EMPTY, commits: 0 })
    }
}

/// Describes the reading of a text as a version; `None` if it is not one.
pub(super) fn read_version(text: &str) -> Option<VersionReading> {
    let parts = VersionParts::of(text)?;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Some(VersionReading {
        numbers: parts.core.to_owned(),
        pre_release: some(&parts.written),
        commits: parts.commits,
        suffix: some(&parts.shared),
        metadata: some(parts.metadata),
    })
}

/// The parts of a text.
struct VersionParts<'a> {
    core: &'a str,
    numbers: [u64; 4],
    pre: Prerelease,
    /// The pre-release as it is written.
    written: String,
    commits: u64,
    /// The part of the suffix that has no order.
    shared: String,
    metadata: &'a str,
}

impl<'a> VersionParts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let (version, metadata) = text.split_at(text.find(['+', '_']).unwrap_or(text.len()));
        let (core, suffix) = version.split_once('-').map_or((version, None), |(core, suffix)| (core, Some(suffix)));
        let numbers = numbers(core)?;
        if suffix == Some("") {
            return None;
        }
        let segments: Vec<&str> = suffix.into_iter().flat_map(|suffix| suffix.split('-')).collect();
        let (before, commits, after) = match git_describe_suffix(&segments) {
            Some((at, commits)) => (&segments[..at], commits, &segments[at + 2..]),
            None => (&segments[..], 0, &segments[..0]),
        };
        let found = (0..before.len()).find_map(|at| Some((at, PreRelease::of(&before[at..])?)));
        let (pre, written, shared) = match found {
            Some((at, found)) => {
                let pre = Prerelease::new(&found.order.join(".")).ok()?;
                let shared = join_segments(&before[..at]) + found.rest + &join_segments(&before[at + found.segments..]);
                (pre, found.written, shared)
            }
            None => (Prerelease::EMPTY, String::new(), join_segments(before)),
        };
        Some(Self { core, numbers, pre, written, commits, shared: shared + &join_segments(after), metadata })
    }
}

/// Joins segments.
fn join_segments(segments: &[&str]) -> String {
    segments.iter().flat_map(|segment| ["-", *segment]).collect()
}

/// Reads two to four numbers with dots between them.
fn numbers(core: &str) -> Option<[u64; 4]> {
    let mut numbers = [0; 4];
    let mut count = 0;
    for part in core.split('.') {
        if !is_number(part) {
            return None;
        }
        *numbers.get_mut(count)? = part.parse().ok()?;
        count += 1;
    }
    (count >= 2).then_some(numbers)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Finds what `git describe` adds to a tag, `-<commits>-g<hash>`: its position, and the commits.
fn git_describe_suffix(segments: &[&str]) -> Option<(usize, u64)> {
    segments.windows(2).enumerate().rev().find_map(|(at, pair)| {
        let commits = pair[0].parse().ok().filter(|_| is_number(pair[0]))?;
        is_described_hash(pair[1]).then_some((at, commits))
    })
}

/// Returns true for `g` and an abbreviated hash. (`gcc12` is a compiler.)
fn is_described_hash(segment: &str) -> bool {
    let Some(hash) = segment.strip_prefix('g') else { return false };
    let compiler = hash.len() < MIN_HASH_LENGTH && hash.strip_prefix("cc").is_some_and(is_number);
    (4..=64).contains(&hash.len()) && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) && !compiler
}

/// A pre-release at the beginning of some segments of a suffix.
struct PreRelease<'a> {
    /// The identifiers that it is ordered by.
    order: Vec<&'a str>,
    /// As it is written.
    written: String,
    /// The number of segments in it.
    segments: usize,
    /// The end of the last of these, which does not belong to it.
    rest: &'a str,
}

impl<'a> PreRelease<'a> {
    fn of(segments: &[&'a str]) -> Option<Self> {
        let first = *segments.first()?;
        let (word, digits, rest) = runs(first);
        let mut order = vec![identifier(word)?];
        let vague = word.len() == 1 || is_hexadecimal(word);
        let whole = rest.is_empty() || rest.starts_with('.');
        if vague && (!whole || word.len() + digits.len() >= MIN_HASH_LENGTH) {
            return None;
        }
        if !digits.is_empty() {
            order.push(without_leading_zeros(digits));
        }
        let mut rest = if whole { dotted(rest, &mut order) } else { rest };
        let mut written = first[..first.len() - rest.len()].to_owned();
        let mut taken = 1;
        // `rc-1` is `rc.1`.
        if let (1, true, Some(&next)) = (order.len(), rest.is_empty() && word.len() > 1, segments.get(1))
            && let ("", digits, after) = runs(next)
            && !digits.is_empty()
            && (after.is_empty() || after.starts_with('.'))
        {
            order.push(without_leading_zeros(digits));
            rest = dotted(after, &mut order);
            written.extend(["-", &next[..next.len() - rest.len()]]);
            taken = 2;
        }
        let alone = order.len() == 1 && NUMBERED_WORDS.iter().any(|known| known.eq_ignore_ascii_case(word));
        (!alone).then_some(Self { order, written, segments: taken, rest })
    }
}

/// Consumes further identifiers of a text, each after a dot: numbers, and words of pre-releases perhaps with a number.
/// Returns the rest.
fn dotted<'a>(mut rest: &'a str, order: &mut Vec<&'a str>) -> &'a str {
    while let Some(next) = rest.strip_prefix('.') {
        let (word, digits, after) = runs(next);
        let known = if word.len() > 1 && !is_hexadecimal(word) { identifier(word) } else { None };
        let right = if word.is_empty() { !digits.is_empty() } else { known.is_some() };
        if !right || !(after.is_empty() || after.starts_with('.')) {
            break;
        }
        order.extend(known);
        if !digits.is_empty() {
            order.push(without_leading_zeros(digits));
        }
        rest = after;
    }
    rest
}

/// Splits off the letters at the beginning of a text and the digits after them, and returns the rest.
fn runs(text: &str) -> (&str, &str, &str) {
    let (word, rest) = text.split_at(text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let (digits, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    (word, digits, rest)
}

fn identifier(word: &str) -> Option<&'static str> {
    PRE_RELEASE_WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, identifier)| *identifier)
}

fn is_hexadecimal(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns a number without leading zeros, which semver refuses.
fn without_leading_zeros(digits: &str) -> &str {
    let short = digits.trim_start_matches('0');
    if short.is_empty() { "0" } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> VersionOrder {
        Version::parse(text).unwrap_or_else(|| panic!("{text}")).order
    }

    #[test]
    fn versions_are_ordered_as_people_mean_them() {
        let ascending = [
            "0.9",
            "1.1.1-rc1",
            "1.1.1-rc2",
            "1.1.1-rc9",
            "1.1.1-rc10",
            "v1.2.0-nightly.20240101",
            "1.2.0-alpha",
            "1.2.0-alpha.1",
            "1.2.0-alpha2",
            "1.2.0-Alpha10",
            "1.2.0-alpha.beta",
            "1.2.0-beta.2",
            "1.2.0-b11",
            "1.2.0-M3",
            "1.2.0-preview.6.23330.14",
            "1.2.0-preview.10",
            "v1.2.0-rc.01",
            "v1.2.0-rc.1-5-g0a1b2c3",
            "1.2.0-rc-2",
            "1.2.0-rc.10",
            "1.2.0-rc.10.99999999999999999999999",
            "1.2",
            "v1.2.0-5-gabc123",
            "v1.2.0-12-g0000000",
            "1.2.0.1",
            "V1.2.3",
            "1.10.0",
            "2024.01.05-alpha",
            "2024.01.05",
            "2024.01.10",
        ];
        let places: Vec<_> = ascending.iter().map(|text| place(text)).collect();
        assert!(places.is_sorted_by(|a, b| a < b), "{places:#?}");
        assert_eq!(Version::parse("1.2"), Version::parse("v01.2.0_build.5"));
    }

    #[test]
    fn what_has_no_order_shares_a_place() {
        for (text, of) in [
            ("1.2.3-1", "1.2.3"),
            ("1.2.3-r1", "1.2.3"),
            ("1.2.3-r10", "1.2.3"),
            ("1.2.3-alpine3.20", "1.2.3"),
            ("1.2.3-slim", "1.2.3"),
            ("1.2.3-debian-12-r3", "1.2.3"),
            ("1.2.3-amd64", "1.2.3"),
            ("1.2.3-dev", "1.2.3"),
            ("1.2.3-b", "1.2.3"),
            ("1.2.3-b12ac3f", "1.2.3"),
            ("1.2.3-a1234567", "1.2.3"),
            ("1.2.3-ea1b2c3", "1.2.3"),
            ("1.2.3-20240101120000-0a1b2c3d4e5f", "1.2.3"),
            ("1.2.3-5-gcc12", "1.2.3"),
            ("1.2.3-5-g0a1", "1.2.3"),
            ("1.2.3--x", "1.2.3"),
            ("1.2.3-rc1-alpine3.20", "1.2.3-rc.1"),
            ("1.2.3-alpine3.20-rc1", "1.2.3-rc.1"),
            ("1.2.3-rc.1-2", "1.2.3-rc.1"),
            ("1.2.3-rc1abc", "1.2.3-rc.1"),
            ("1.2.3-SNAPSHOT.0a1b2c3", "1.2.3-snapshot"),
            ("1.2.3-dev.7.0a1b2c3", "1.2.3-dev-7"),
            ("1.2.3-5-g0a1b2c3-dirty", "1.2.3-5-g0000"),
        ] {
            let version = Version::parse(text).expect(text);
            assert_eq!((&version.order, version.is_inexact), (&place(of), true), "{text}");
        }
        for text in ["1.2.3", "v1.2.3_build", "1.2.3-rc1", "1.2.3-rc-1", "1.2.3-5-g0a1b2c3", "1.2.3-0-g0a1b2c3"] {
            assert!(!Version::parse(text).expect(text).is_inexact, "{text}");
        }
        assert_eq!(place("1.2.3-0-g0a1b2c3"), place("1.2.3"));
    }

    #[test]
    fn a_pre_release_leads_to_its_release() {
        assert_eq!(place("1.2.3").release(), None);
        assert_eq!(place("1.2.3-5-g0a1b2c3").release(), None);
        assert_eq!(place("1.2.3-rc1").release(), Some(place("1.2.3")));
        assert_eq!(place("1.2.3-rc1-5-g0a1b2c3").release(), Some(place("1.2.3")));
    }

    #[test]
    fn a_reading_has_the_tags_own_words() {
        let read = |text: &str| {
            let VersionReading { numbers, pre_release, commits, suffix, metadata } = read_version(text).expect(text);
            let part = |part: Option<String>| part.unwrap_or_default();
            format!("{numbers}|{}|{commits}|{}|{}", part(pre_release), part(suffix), part(metadata))
        };
        assert_eq!(read("v1.2.3"), "1.2.3||0||");
        assert_eq!(read("1.2.3-alpine3.20"), "1.2.3||0|-alpine3.20|");
        assert_eq!(read("1.1.1-rc10"), "1.1.1|rc10|0||");
        assert_eq!(read("2024.01.05-RC-1.2-x_b.5"), "2024.01.05|RC-1.2|0|-x|_b.5");
        assert_eq!(read("v1.0.0-slim-rc.1-5-g0a1b2c3-dirty"), "1.0.0|rc.1|5|-slim-dirty|");
        assert_eq!(read_version("latest"), None);
    }

    #[test]
    fn what_is_not_a_version_is_not_the_lowest_one() {
        for text in ["", "v", "7", "latest", "1.x", "1.2.3rc1", "1..2", "1.2.3-", "1.2.3.4.5", "1.99999999999999999999"]
        {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn lines_are_cut_where_asked() {
        let version = Version::parse("v1.2.3-rc.1").unwrap();
        assert_eq!(&*version.line_text(VersionPart::Major), "1");
        assert_eq!(&*version.line_text(VersionPart::Minor), "1.2");
        assert_eq!(&*version.line_text(VersionPart::Patch), "1.2.3");
        assert_eq!(version.line(VersionPart::Patch), Version::parse("1.2.3").unwrap().line(VersionPart::Patch));
    }
}
