//! Ranges of versions as Helm, Argo CD and Flux write them, and the tags that they select.
//!
//! The grammar is that of the library that these tools share (<https://github.com/Masterminds/semver>), with npm's
//! additions. The tools differ in which tags they read as versions, and in which pre-releases a range contains. A range
//! selects the highest version by each of these readings, so that it claims whatever any of them would run.

use std::fmt;
use std::str::FromStr;

use semver::{BuildMetadata, Prerelease};

/// The versions of a range that are claimed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RangeSelection {
    /// The highest one, with and without pre-releases.
    #[default]
    Highest,
    /// Each one.
    All,
}

/// A range of versions, such as `~1.2`, `>=1.2.0 <2` or `1.x || 3.x`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionRange {
    text: Box<str>,
    /// Alternatives; a version must satisfy all parts of one of them.
    alternatives: Vec<Vec<Part>>,
}

/// An invalid range of versions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid range of versions `{text}`")]
pub struct InvalidRange {
    /// The text, cut after 160 characters.
    pub text: String,
}

/// A tag that reads as a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagVersion {
    version: Version,
    form: Form,
}

/// The pre-releases that a range contains. Tools differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prereleases {
    /// None.
    Excluded,
    /// Pre-releases between its bounds, but none of an upper bound itself: `<2` does not contain `2.0.0-rc.1`.
    Included,
    /// All that precede its upper bound, also `2.0.0-rc.1` for `<2`.
    InOrder,
}

/// Three numbers and a pre-release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Version {
    numbers: [u64; 3],
    pre: Prerelease,
}

/// The ways in which tags are written as versions, from what every tool accepts to what only some do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// `1.2.3`.
    Exact,
    /// `v1.2.3`.
    Prefixed,
    /// `1.2`, `v1`, and what has leading zeros.
    Loose,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    In(Interval),
    NotIn(Interval),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Interval {
    low: Option<Low>,
    high: Option<High>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Low {
    version: Version,
    inclusive: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct High {
    version: Version,
    inclusive: bool,
    /// True if written as `<` and a version without a pre-release: tools differ on the pre-releases of that version.
    below: bool,
}

impl VersionRange {
    /// Returns the text as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns true if it is one whole version and not a range of several.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        let [parts] = &self.alternatives[..] else { return false };
        let [Part::In(Interval { low: Some(low), high: Some(high) })] = &parts[..] else { return false };
        low.inclusive && high.inclusive && low.version == high.version
    }

    /// Returns true if a tag reads as a version in the range.
    #[must_use]
    pub fn matches(&self, tag: &str, prereleases: Prereleases) -> bool {
        TagVersion::read(tag).is_some_and(|version| self.contains(&version, prereleases))
    }

    /// Returns true if the range contains a version.
    #[must_use]
    pub fn contains(&self, version: &TagVersion, prereleases: Prereleases) -> bool {
        let version = &version.version;
        if prereleases == Prereleases::Excluded && !version.pre.is_empty() {
            return false;
        }
        let met = |part: &Part| match part {
            Part::In(interval) => interval.contains(version, prereleases),
            Part::NotIn(interval) => !interval.contains(version, prereleases),
        };
        self.alternatives.iter().any(|parts| parts.iter().all(met))
    }

    /// Returns the versions that the range claims, in order: the highest by each reading, or all.
    #[must_use]
    pub fn pick<'v, T: Copy + Ord>(
        &self,
        versions: impl IntoIterator<Item = (T, &'v TagVersion)>,
        ranges: RangeSelection,
    ) -> Vec<T> {
        let mut all = Vec::new();
        let mut highest: [[(Option<&Version>, Vec<T>); 3]; 3] = Default::default();
        for (item, tag) in versions {
            if !self.contains(tag, Prereleases::InOrder) {
                continue;
            }
            if ranges == RangeSelection::All {
                all.push(item);
                continue;
            }
            for (prereleases, by_form) in Prereleases::ALL.into_iter().zip(&mut highest) {
                if !self.contains(tag, prereleases) {
                    continue;
                }
                for (form, (known, items)) in Form::ALL.into_iter().zip(by_form) {
                    if tag.form > form {
                        continue;
                    }
                    if known.is_none_or(|known| *known < tag.version) {
                        *known = Some(&tag.version);
                        items.clear();
                    }
                    // Versions that differ only in their build metadata have no order, so any of them may be meant.
                    if *known == Some(&tag.version) {
                        items.push(item);
                    }
                }
            }
        }
        all.extend(highest.into_iter().flatten().flat_map(|(_, items)| items));
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Prereleases {
    /// Every reading.
    pub const ALL: [Self; 3] = [Self::Excluded, Self::Included, Self::InOrder];
}

impl Form {
    const ALL: [Self; 3] = [Self::Exact, Self::Prefixed, Self::Loose];
}

impl TagVersion {
    /// Parses a tag, or returns `None` if it is not a version. Build metadata, which Helm writes after `_`, is ignored.
    #[must_use]
    pub fn read(tag: &str) -> Option<Self> {
        let bare = tag.strip_prefix(['v', 'V']).unwrap_or(tag);
        let mut form = if bare.len() == tag.len() { Form::Exact } else { Form::Prefixed };
        let (rest, build) = bare.split_once(['_', '+']).map_or((bare, None), |(rest, build)| (rest, Some(build)));
        let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
        if build.is_some_and(|build| build.is_empty() || BuildMetadata::new(build).is_err()) {
            form = Form::Loose;
        }
        let mut numbers = [0; 3];
        let mut count = 0;
        for part in core.split('.') {
            *numbers.get_mut(count)? = number(part)?;
            count += 1;
            if part.len() > 1 && part.starts_with('0') {
                form = Form::Loose;
            }
        }
        if count < 3 {
            form = Form::Loose;
        }
        Some(Self { version: Version { numbers, pre: pre.map_or(Some(Prerelease::EMPTY), prerelease)? }, form })
    }
}

impl Interval {
    fn contains(&self, version: &Version, prereleases: Prereleases) -> bool {
        let above =
            self.low.as_ref().is_none_or(|low| *version > low.version || low.inclusive && *version == low.version);
        let below = self.high.as_ref().is_none_or(|high| {
            if high.inclusive && *version == high.version {
                return true;
            }
            let of_bound = version.numbers == high.version.numbers && !version.pre.is_empty();
            *version < high.version && !(high.below && of_bound && prereleases == Prereleases::Included)
        });
        above && below
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for VersionRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let text = text.trim();
        // An empty text means any version.
        let text = if text.is_empty() { "*" } else { text };
        let any: Option<Vec<Vec<Part>>> = text.split("||").map(alternative).collect();
        let invalid = || InvalidRange { text: text.chars().take(160).collect() };
        Ok(Self { text: text.into(), alternatives: any.ok_or_else(invalid)? })
    }
}

/// Operators, of which the longest that fits counts.
const OPERATORS: [&str; 11] = ["!=", ">=", "=>", "<=", "=<", "~>", "=", ">", "<", "~", "^"];

/// Parses the parts of one alternative, or returns `None` if it is invalid.
fn alternative(text: &str) -> Option<Vec<Part>> {
    let is_operator = |c: char| "=!<>~^".contains(c);
    let mut spaced = String::with_capacity(text.len());
    for c in text.chars() {
        let joined = spaced.ends_with(|last: char| !is_operator(last) && !last.is_whitespace());
        if is_operator(c) && joined {
            spaced.push(' ');
        }
        spaced.push(if c == ',' { ' ' } else { c });
    }
    let mut words = spaced.split_whitespace().peekable();
    let mut parts = Vec::new();
    while let Some(word) = words.next() {
        let operator = OPERATORS.into_iter().find(|operator| word.starts_with(operator)).unwrap_or_default();
        let rest = &word[operator.len()..];
        let rest = if rest.is_empty() { words.next()? } else { rest };
        let version = Partial::read(rest)?;
        if operator.is_empty() && words.next_if_eq(&"-").is_some() {
            parts.push(part(">=", version));
            parts.push(part("<=", Partial::read(words.next()?)?));
        } else {
            parts.push(part(operator, version));
        }
    }
    (!parts.is_empty()).then_some(parts)
}

/// A version of which the last numbers may be missing.
struct Partial {
    /// Zero where missing.
    version: Version,
    /// The numbers that are written.
    count: usize,
}

impl Partial {
    fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let text = text.split('+').next().unwrap_or(text);
        let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
        let mut numbers = [0; 3];
        let (mut count, mut any) = (0, false);
        for (at, part) in core.split('.').enumerate() {
            let place = numbers.get_mut(at)?;
            if matches!(part, "x" | "X" | "*") {
                any = true;
                continue;
            }
            let read = number(part)?;
            // `1.x.3` means `1.x`.
            if !any {
                *place = read;
                count += 1;
            }
        }
        // The missing part begins with its first pre-release.
        let pre = match pre {
            Some(pre) => prerelease(pre)?,
            None if count < 3 => first(),
            None => Prerelease::EMPTY,
        };
        Some(Self { version: Version { numbers, pre }, count })
    }

    /// Returns the lowest version above all that begin with these numbers.
    fn next(&self, numbers: usize) -> Option<Version> {
        let mut next = Version { numbers: [0; 3], pre: first() };
        let last = numbers.min(self.count).checked_sub(1)?;
        next.numbers[..=last].copy_from_slice(&self.version.numbers[..=last]);
        next.numbers[last] = next.numbers[last].saturating_add(1);
        Some(next)
    }
}

fn part(operator: &str, partial: Partial) -> Part {
    let whole = partial.count == 3;
    let up_to = |next: Option<Version>| next.map(|version| High { version, inclusive: false, below: false });
    let from = |version: Version| Some(Low { version, inclusive: true });
    let every = || {
        if whole {
            let high = High { version: partial.version.clone(), inclusive: true, below: false };
            Interval { low: from(partial.version.clone()), high: Some(high) }
        } else {
            Interval { low: from(partial.version.clone()), high: up_to(partial.next(partial.count)) }
        }
    };
    // No version is above or below an arbitrary one, so such a part contains everything.
    if partial.count == 0 {
        return Part::In(Interval::default());
    }
    Part::In(match operator {
        "!=" => return Part::NotIn(every()),
        ">" if whole => Interval { low: Some(Low { version: partial.version, inclusive: false }), high: None },
        ">" => Interval { low: partial.next(partial.count).and_then(from), high: None },
        ">=" | "=>" => Interval { low: from(partial.version), high: None },
        "<" => {
            let written = whole && !partial.version.pre.is_empty();
            let Version { numbers, pre } = partial.version;
            let pre = if written { pre } else { Prerelease::EMPTY };
            let high = High { version: Version { numbers, pre }, inclusive: false, below: !written };
            Interval { low: None, high: Some(high) }
        }
        "<=" | "=<" => Interval { low: None, high: every().high },
        "~" | "~>" => Interval { low: from(partial.version.clone()), high: up_to(partial.next(2)) },
        "^" => {
            let leading = partial.version.numbers.iter().take_while(|number| **number == 0).count();
            Interval { low: from(partial.version.clone()), high: up_to(partial.next(leading + 1)) }
        }
        _ => every(),
    })
}

fn first() -> Prerelease {
    Prerelease::new("0").unwrap_or_default()
}

fn prerelease(text: &str) -> Option<Prerelease> {
    Prerelease::new(text).ok().filter(|pre| !pre.is_empty())
}

/// Parses a number that consists of digits alone.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> VersionRange {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn ranges_hold_the_versions_that_tools_find_in_them() {
        for (text, inside, outside) in [
            ("1.2.3", &["1.2.3", "v1.2.3", "1.2.3_build.5"][..], &["1.2.4", "1.2.3-rc.1", "1.2"][..]),
            ("v1.2.3", &["1.2.3", "v1.2.3"], &["1.2.4"]),
            ("=1.2.3", &["1.2.3"], &["1.2.2"]),
            ("1.2", &["1.2.0", "1.2.9", "1.2"], &["1.3.0", "1.1.9"]),
            ("1", &["1.0.0", "1.9.9", "v1"], &["2.0.0", "0.9.0"]),
            ("1.x", &["1.0.0", "1.9.9"], &["2.0.0", "0.9.0"]),
            ("1.2.*", &["1.2.0", "1.2.10"], &["1.3.0"]),
            ("1.X.3", &["1.0.0", "1.9.9"], &["2.0.0"]),
            ("*", &["0.0.1", "99.0.0"], &["latest", "main-1.2.3", "1.2.3.4"]),
            ("", &["0.0.1"], &["latest"]),
            (">=*", &["1.0.0"], &[]),
            ("~1.2", &["1.2.0", "1.2.9"], &["1.3.0", "1.1.0"]),
            ("~1.2.3", &["1.2.3", "1.2.9"], &["1.2.2", "1.3.0"]),
            ("~1", &["1.0.0", "1.9.0"], &["2.0.0"]),
            ("~>1.2", &["1.2.5"], &["1.3.0"]),
            ("^1.2.3", &["1.2.3", "1.9.0"], &["1.2.2", "2.0.0"]),
            ("^1", &["1.0.0", "1.9.0"], &["2.0.0"]),
            ("^0.2.3", &["0.2.3", "0.2.9"], &["0.3.0", "0.2.2"]),
            ("^0.0.3", &["0.0.3"], &["0.0.4", "0.0.2"]),
            ("^0.0", &["0.0.1"], &["0.1.0"]),
            ("^0", &["0.0.1", "0.9.0"], &["1.0.0"]),
            (">=1.2.0 <2", &["1.2.0", "1.99.0"], &["2.0.0", "1.1.9"]),
            (">= 1.2.0, < 2.0.0", &["1.2.0", "1.99.0"], &["2.0.0"]),
            (">=1.2.0<2", &["1.2.0"], &["2.0.0"]),
            ("=> 1.2.0 =< 1.4", &["1.2.0", "1.4.9"], &["1.5.0"]),
            (">1.2", &["1.3.0", "2.0.0"], &["1.2.9"]),
            (">1.2.3", &["1.2.4"], &["1.2.3"]),
            ("<=1.2", &["1.2.9", "0.1.0"], &["1.3.0"]),
            ("<=1.2.3", &["1.2.3"], &["1.2.4"]),
            ("<1.2", &["1.1.9"], &["1.2.0"]),
            ("1.2 - 1.4", &["1.2.0", "1.4.9"], &["1.1.9", "1.5.0"]),
            ("1.2.1 - 1.4.5", &["1.2.1", "1.4.5"], &["1.2.0", "1.4.6"]),
            ("!=1.2.3", &["1.2.4", "1.2.2"], &["1.2.3"]),
            (">=1 !=1.2.x", &["1.1.0", "1.3.0"], &["1.2.0", "1.2.9"]),
            ("^1 || ^3", &["1.5.0", "3.0.0"], &["2.0.0", "4.0.0"]),
            ("~1.2 || >=2.0.0, <2.1", &["1.2.5", "2.0.9"], &["1.3.0", "2.1.0"]),
        ] {
            let range = range(text);
            for tag in inside {
                assert!(range.matches(tag, Prereleases::Excluded), "{text} holds {tag}");
            }
            for tag in outside {
                assert!(!range.matches(tag, Prereleases::Excluded), "{text} does not hold {tag}");
            }
        }
    }

    #[test]
    fn readings_differ_in_pre_releases_alone() {
        // Tag, and the readings by which it is inside.
        for (text, tag, expected) in [
            ("~1.2", "1.2.4-rc.1", [false, true, true]),
            ("~1.2", "1.3.0-rc.1", [false, false, false]),
            ("~1.2", "1.2.0-rc.1", [false, true, true]),
            ("~1.2.0", "1.2.0-rc.1", [false, false, false]),
            ("^1", "2.0.0-rc.1", [false, false, false]),
            ("1.x", "1.0.0-rc.1", [false, true, true]),
            ("*", "0.0.0-dev", [false, true, true]),
            (">=1.2.0 <2", "2.0.0-rc.1", [false, false, true]),
            (">=1.2.0 <2.0.0-0", "2.0.0-rc.1", [false, false, false]),
            (">=1.2.0-0", "1.2.0-rc.1", [false, true, true]),
            ("~1.2-0", "1.2.0-rc.1", [false, true, true]),
            ("1.2.3-rc.1", "1.2.3-rc.1", [false, true, true]),
            ("<=1.2.3", "1.2.3-rc.1", [false, true, true]),
            ("1.2.3 - 2", "2.9.0", [true, true, true]),
            (">0.0.0-0", "0.1.0-alpha.1", [false, true, true]),
        ] {
            let found = Prereleases::ALL.map(|reading| range(text).matches(tag, reading));
            assert_eq!(found, expected, "{text} and {tag}");
        }
    }

    #[test]
    fn the_highest_version_of_each_reading_is_picked() {
        for (text, tags, expected) in [
            ("~1.2", "1.2.3 1.2.10 1.2.9 1.3.0 latest", "1.2.10"),
            ("~1.2", "1.2.3 1.2.4-rc.1 1.2.4-rc.10 1.2.4-rc.9", "1.2.3 1.2.4-rc.10"),
            ("~1.2", "1.2.4 1.2.4-rc.1", "1.2.4"),
            (">=1.0.0 <2", "1.9.0 1.9.1-rc.1 2.0.0-rc.1", "1.9.0 1.9.1-rc.1 2.0.0-rc.1"),
            ("1.x", "1.8.3 v1.9.0 1.10", "1.10 1.8.3 v1.9.0"),
            ("1.x", "1.8.3 v1.8.0", "1.8.3"),
            (">=2023", "2023.12.01 2024.01.05 2024.2.1", "2024.2.1"),
            ("^1", "1.2.3_build.5 1.2.3_build.6 1.2.2", "1.2.3_build.5 1.2.3_build.6"),
            ("^3", "1.0.0 2.0.0", ""),
        ] {
            let names: Vec<&str> = tags.split(' ').collect();
            let read: Vec<(&str, TagVersion)> =
                names.iter().filter_map(|tag| Some((*tag, TagVersion::read(tag)?))).collect();
            let versions = || read.iter().map(|(tag, version)| (*tag, version));
            assert_eq!(range(text).pick(versions(), RangeSelection::Highest).join(" "), expected, "{text} of {tags}");
            let mut all: Vec<&str> =
                names.iter().copied().filter(|tag| range(text).matches(tag, Prereleases::InOrder)).collect();
            all.sort_unstable();
            assert_eq!(range(text).pick(versions(), RangeSelection::All), all, "{text} of {tags}");
        }
    }

    #[test]
    fn other_texts_are_not_ranges() {
        for text in [
            "latest",
            "main",
            "1.2.3.4",
            "^",
            ">=",
            "1 -",
            "- 1",
            "^1 ||",
            "1..2",
            "${VERSION}",
            "1.2.3-",
            "99999999999999999999",
            "sha256:abc",
            "1.2.3rc1",
            "HEAD",
        ] {
            assert!(text.parse::<VersionRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_shows_as_it_was_written() {
        assert_eq!(range(" ~1.2 ").to_string(), "~1.2");
        assert_eq!(range("").to_string(), "*");
    }

    #[test]
    fn one_whole_version_is_exact() {
        for (text, exact) in
            [("1.2.3", true), ("v1.2.3-rc.1", true), ("=1.2.3", true), ("1.2", false), ("*", false), ("~1.2.3", false)]
        {
            assert_eq!(range(text).is_exact(), exact, "{text}");
        }
    }
}
