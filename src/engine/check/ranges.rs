//! The second reading of version ranges, with a separate order.

use std::collections::HashMap;

use crate::domain::{Claim, Prereleases, RangeSelection, Repository, TagName, VersionRange};

/// The claims on ranges of versions in one repository.
pub(super) struct RangeClaims<'a>(Vec<RangeClaim<'a>>);

struct RangeClaim<'a> {
    claim: &'a Claim,
    range: &'a VersionRange,
    all: bool,
    /// The highest version there, by how it must be written and by the position of the reading of pre-releases.
    highest: HashMap<(u8, usize), Order>,
}

/// The order of versions: the numbers, then true for a release, then the parts of the pre-release.
type Order = (Vec<u64>, bool, Vec<Part>);

/// A part of a pre-release: numbers come first and by size, which for digits is length.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(usize, String),
    Word(String),
}

impl<'a> RangeClaims<'a> {
    pub(super) fn new(claims: impl Iterator<Item = &'a Claim>, repository: &Repository) -> Self {
        let ranges = claims.filter_map(|claim| {
            let (range, ranges) = claim.range()?;
            Some(RangeClaim { claim, range, all: ranges == RangeSelection::All, highest: HashMap::new() })
        });
        let mut claimed = Self(ranges.collect());
        if claimed.0.is_empty() {
            return claimed;
        }
        for tag in &repository.tags {
            let Some((written, order)) = read(tag.name.as_str()) else { continue };
            for one in &mut claimed.0 {
                one.add(tag.name.as_str(), written, &order);
            }
        }
        claimed
    }

    /// Returns the claim whose range selects a tag as the highest version, or one that claims all versions. Also for a
    /// tag that no longer exists.
    pub(super) fn claim_on(&self, tag: &TagName) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let (written, order) = read(tag.as_str())?;
        let one = self.0.iter().find(|one| one.claims(tag.as_str(), written, &order))?;
        Some(format!("a claim on {}", one.claim.text()))
    }
}

impl RangeClaim<'_> {
    fn add(&mut self, tag: &str, written: u8, order: &Order) {
        for (reading, prereleases) in Prereleases::ALL.into_iter().enumerate() {
            if self.all || !self.range.matches(tag, prereleases) {
                continue;
            }
            for strictness in written..=LOOSE {
                let highest = self.highest.entry((strictness, reading)).or_insert_with(|| order.clone());
                if *order > *highest {
                    highest.clone_from(order);
                }
            }
        }
    }

    fn claims(&self, tag: &str, written: u8, order: &Order) -> bool {
        let mut readings = Prereleases::ALL.into_iter().enumerate();
        readings.any(|(reading, prereleases)| {
            let highest = |strictness| self.highest.get(&(strictness, reading)).is_none_or(|highest| order >= highest);
            self.range.matches(tag, prereleases) && (self.all || (written..=LOOSE).any(highest))
        })
    }
}

/// The form that only some tools read as a version; below it, with a `v`, and below that, exact.
const LOOSE: u8 = 2;

fn read(tag: &str) -> Option<(u8, Order)> {
    let bare = tag.trim_start_matches(['v', 'V']);
    if tag.len() - bare.len() > 1 {
        return None;
    }
    let build = bare.find(['_', '+']);
    let version = &bare[..build.unwrap_or(bare.len())];
    let dash = version.find('-');
    let mut numbers = Vec::new();
    let mut loose = build.is_some_and(|at| !is_dotted(&bare[at + 1..]));
    for number in version[..dash.unwrap_or(version.len())].split('.') {
        if !is_number(number) {
            return None;
        }
        loose |= number.starts_with('0') && number != "0";
        numbers.push(number.parse().ok()?);
    }
    loose |= numbers.len() < 3;
    if numbers.len() > 3 {
        return None;
    }
    numbers.resize(3, 0);
    let pre = dash.map_or("", |at| &version[at + 1..]);
    if dash.is_some() && !is_dotted(pre) {
        return None;
    }
    let mut parts = Vec::new();
    for part in pre.split('.').filter(|part| !part.is_empty()) {
        // Tools refuse zeros before a number here.
        if is_number(part) && part.starts_with('0') && part != "0" {
            return None;
        }
        let word = || Part::Word(part.to_owned());
        parts.push(if is_number(part) { Part::Number(part.len(), part.to_owned()) } else { word() });
    }
    let written = if loose { LOOSE } else { u8::from(tag.len() != bare.len()) };
    Some((written, (numbers, dash.is_none(), parts)))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns true for letters, digits and dashes, in parts joined by dots.
fn is_dotted(text: &str) -> bool {
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    text.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Holder, ImageReference, Naming, Tag, TagVersion};

    fn claim(range: &str, ranges: RangeSelection) -> Claim {
        Claim {
            image: ImageReference::parse_verbatim("contoso.azurecr.io/shop/api").unwrap(),
            holder: Arc::new(Holder::File { path: "Chart.yaml".to_owned(), line: 1 }),
            naming: Naming::Range(Arc::new(range.parse().unwrap()), ranges),
        }
    }

    proptest! {
        #[test]
        fn both_find_the_same_tags(
            tags in prop::collection::btree_set(
                "v?[012](\\.[0-3]|\\.0[12]){0,3}(-(rc|alpha)?\\.?[0-9]{1,2})?(_b[.]?[1-3_]?)?",
                1..12,
            ),
            range in "([~^]|>=|<|>|<=|!=|)[012](\\.[0-3]){0,2}(-rc\\.1)?( <2)?( \\|\\| 1\\.x)?|\\*",
            all in any::<bool>(),
        ) {
            let ranges = if all { RangeSelection::All } else { RangeSelection::Highest };
            let claim = claim(&range, ranges);
            let mut repository = Repository::empty("shop/api".parse().unwrap());
            let names = tags.iter().filter_map(|name| name.parse::<TagName>().ok());
            repository.tags = names
                .map(|name| Tag { name, digest: None, pushed_at: None, first_seen: None, lock: None })
                .collect();
            let ranged = RangeClaims::new(std::iter::once(&claim), &repository);
            let names = || repository.tags.iter().map(|tag| tag.name.as_str());
            let found: BTreeSet<&str> = repository
                .tags
                .iter()
                .filter(|tag| ranged.claim_on(&tag.name).is_some())
                .map(|tag| tag.name.as_str())
                .collect();
            let read: Vec<(&str, TagVersion)> =
                names().filter_map(|name| Some((name, TagVersion::read(name)?))).collect();
            let (range, ranges) = claim.range().unwrap();
            let picked = range.pick(read.iter().map(|(name, version)| (*name, version)), ranges);
            prop_assert_eq!(found, picked.into_iter().collect::<BTreeSet<_>>());
        }
    }
}
