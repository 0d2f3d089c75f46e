//! Versions as people write them in tags.

use semver::Prerelease;

use crate::domain::VersionPart;

/// A version: two to four numbers and perhaps a pre-release, ordered as versions are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    numbers: [u64; 4],
    pre: Prerelease,
}

/// The numbers that versions of one line share; zeros beyond.
pub(super) type Line = [u64; 3];

impl Version {
    /// Reads `1.2.3`, `v1.2`, `2024.01.05`, `1.2.3.4`, each perhaps with a pre-release (`-rc.1`) and build metadata (`+…`,
    /// in tags `_…`), which does not count.
    ///
    /// One number alone is no version: `1` and `v2` are names that move from release to release.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let text = text.split(['+', '_']).next().unwrap_or(text);
        let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
        let mut numbers = [0; 4];
        let mut count = 0;
        for part in core.split('.') {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            *numbers.get_mut(count)? = part.parse().ok()?;
            count += 1;
        }
        let pre = pre.map_or(Some(Prerelease::EMPTY), prerelease)?;
        (count >= 2).then_some(Self { numbers, pre })
    }

    /// The line that it belongs to.
    pub(super) fn line(&self, part: VersionPart) -> Line {
        let [major, minor, patch, _] = self.numbers;
        match part {
            VersionPart::Major => [major, 0, 0],
            VersionPart::Minor => [major, minor, 0],
            VersionPart::Patch => [major, minor, patch],
        }
    }

    /// The line as people say it: `1`, `1.2`, `1.2.3`.
    pub(super) fn line_text(&self, part: VersionPart) -> Box<str> {
        let [major, minor, patch, _] = self.numbers;
        match part {
            VersionPart::Major => major.to_string(),
            VersionPart::Minor => format!("{major}.{minor}"),
            VersionPart::Patch => format!("{major}.{minor}.{patch}"),
        }
        .into()
    }
}

/// Reads a pre-release; numbers in it may have leading zeros (`rc.01`), which semver refuses.
fn prerelease(text: &str) -> Option<Prerelease> {
    if text.is_empty() {
        return None;
    }
    Prerelease::new(text).ok().or_else(|| {
        let parts = text.split('.').map(|part| {
            let number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let short = part.trim_start_matches('0');
            if !number {
                part
            } else if short.is_empty() {
                "0"
            } else {
                short
            }
        });
        Prerelease::new(&parts.collect::<Vec<_>>().join(".")).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_people_mean_them() {
        let ascending = [
            "0.9",
            "v1.2.0-rc.01",
            "1.2.0-rc.2",
            "1.2.0-rc.10",
            "1.2",
            "1.2.0.1",
            "V1.2.3",
            "1.10.0",
            "2024.01.05-alpha",
            "2024.01.05",
            "2024.01.10",
        ];
        let versions: Vec<_> = ascending.iter().map(|text| Version::parse(text).expect(text)).collect();
        assert!(versions.is_sorted(), "{versions:?}");
        assert_eq!(Version::parse("1.2"), Version::parse("v01.2.0_build.5"));
    }

    #[test]
    fn what_is_no_version_is_not_the_lowest_one() {
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
