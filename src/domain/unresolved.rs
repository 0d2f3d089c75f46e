//! Occurrences that name a repository without identifying an image in it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{Digest, Holder, Hosts, Repository, RepositoryName};

/// Hexadecimal digits that name a digest: as many as the field's tools show at least.
const MIN_HEX_DIGITS: usize = 12;

/// An occurrence that names one of the configured repositories, and whose tag is a placeholder, cut off or invalid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnresolvedReference {
    /// The text as it was found.
    pub text: Arc<str>,
    /// The registry's host, lower case; `None` if the text names none, or leaves it open.
    pub host: Option<String>,
    /// The repositories that it may refer to.
    pub path: PathPattern,
    /// The words in the same line or mapping if no tag was written at all: one that names a tag of the repository
    /// resolves the reference. Empty if a tag was written and is open.
    pub adjacent_words: Arc<[Box<str>]>,
    /// The place where it was found.
    pub holder: Arc<Holder>,
}

/// A path with placeholders, each of which matches any text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPattern(Vec<Box<str>>);

impl UnresolvedReference {
    /// Returns true if it does not identify an image of a repository: no adjacent word names a tag there, or a digest
    /// by at least twelve of its digits.
    #[must_use]
    pub fn is_open(&self, images: &ImageNames<'_>) -> bool {
        !self.adjacent_words.iter().any(|word| images.contains(word))
    }
}

/// The names of the images of one repository, each kind sorted on first use.
#[derive(Debug)]
pub struct ImageNames<'r> {
    repository: &'r Repository,
    tags: OnceCell<HashSet<&'r str>>,
    /// The digests in hexadecimal digits, sorted.
    digests: OnceCell<Vec<String>>,
}

impl<'r> ImageNames<'r> {
    /// Creates the names of the images of a repository.
    #[must_use]
    pub fn of(repository: &'r Repository) -> Self {
        Self { repository, tags: OnceCell::new(), digests: OnceCell::new() }
    }

    /// Returns true if a word is a tag, or at least the first twelve digits of a digest.
    fn contains(&self, word: &str) -> bool {
        let repository = self.repository;
        let tags = self.tags.get_or_init(|| repository.tags.iter().map(|tag| tag.name.as_str()).collect());
        tags.contains(word) || self.contains_digest(word)
    }

    fn contains_digest(&self, word: &str) -> bool {
        if word.len() < MIN_HEX_DIGITS || !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return false;
        }
        let repository = self.repository;
        let digests = self.digests.get_or_init(|| {
            let tagged = repository.tags.iter().filter_map(|tag| tag.digest.as_ref());
            let listed = repository.listed.iter().map(|row| &row.digest);
            let known = repository.manifests.keys().chain(tagged).chain(listed);
            let mut digests: Vec<String> = known.map(Digest::hex).collect();
            digests.sort_unstable();
            digests
        });
        let digits = word.to_ascii_lowercase();
        // Digests with this prefix are adjacent, from the first that is not less than it.
        let first = digests.partition_point(|hex| hex.as_str() < digits.as_str());
        digests.get(first).is_some_and(|hex| hex.starts_with(&digits))
    }
}

/// Unresolved references indexed by host and path, so that those that may refer to a repository are found without a
/// scan.
#[derive(Debug)]
pub struct UnresolvedIndex<'a, T> {
    by_host: BTreeMap<Option<&'a str>, HostReferences<'a>>,
    all: Vec<(T, &'a UnresolvedReference)>,
}

/// The positions of the references with one host, or without a host.
#[derive(Debug, Default)]
struct HostReferences<'a> {
    /// By full path.
    exact: HashMap<&'a str, Vec<usize>>,
    /// The references with a placeholder in the path, by the path.
    patterns: HashMap<&'a PathPattern, Vec<usize>>,
}

impl<'a, T> UnresolvedIndex<'a, T> {
    /// Creates an index of references, each with an associated value.
    #[must_use]
    pub fn new(all: Vec<(T, &'a UnresolvedReference)>) -> Self {
        let mut by_host: BTreeMap<Option<&'a str>, HostReferences<'a>> = BTreeMap::new();
        for (at, &(_, one)) in all.iter().enumerate() {
            let of_host = by_host.entry(one.host.as_deref()).or_default();
            match one.path.literal() {
                Some(path) => of_host.exact.entry(path).or_default().push(at),
                None => of_host.patterns.entry(&one.path).or_default().push(at),
            }
        }
        Self { by_host, all }
    }

    /// Returns the references that may refer to that repository of the registry with those names, in input order. A
    /// reference without a host refers to the repository of that path in every registry.
    #[must_use]
    pub fn matching(&self, hosts: Hosts<'_>, repository: &RepositoryName) -> Vec<&(T, &'a UnresolvedReference)> {
        let mut found: Vec<usize> = Vec::new();
        for (host, of_host) in &self.by_host {
            let paths = match host {
                Some(host) => hosts.paths_for(host, repository.as_str()),
                None => vec![repository.as_str().to_owned()],
            };
            found.extend(paths.iter().filter_map(|path| of_host.exact.get(path.as_str())).flatten());
            let patterns = of_host.patterns.iter();
            let matching = patterns.filter(|(pattern, _)| paths.iter().any(|path| pattern.matches(path)));
            found.extend(matching.flat_map(|(_, places)| places));
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|at| &self.all[at]).collect()
    }
}

impl PathPattern {
    /// Returns the path if it has no placeholder.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match &self.0[..] {
            [whole] => Some(whole),
            _ => None,
        }
    }

    /// Creates a pattern from the literal parts of a path, with a placeholder between each two; a single part is a
    /// whole path.
    #[must_use]
    pub fn of(parts: &[&str]) -> Self {
        Self(parts.iter().map(|&part| part.into()).collect())
    }

    /// Returns its literal parts.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|part| &**part)
    }

    /// Returns true if the pattern matches a path.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let (first, rest) = match &self.0[..] {
            [] => return true,
            [whole] => return **whole == *path,
            [first, rest @ ..] => (first, rest),
        };
        let Some(mut left) = path.strip_prefix(&**first) else { return false };
        let Some((last, between)) = rest.split_last() else { return true };
        for part in between {
            match left.split_once(&**part) {
                Some((_, after)) => left = after,
                None => return false,
            }
        }
        left.ends_with(&**last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Manifest, ManifestDetail, Tag};

    fn reference(host: Option<&str>, path: &[&str], beside: &[&str]) -> UnresolvedReference {
        UnresolvedReference {
            text: "${OPEN}".into(),
            host: host.map(str::to_owned),
            path: PathPattern::of(path),
            adjacent_words: beside.iter().map(|&word| word.into()).collect(),
            holder: Arc::new(Holder::File { path: "values.yaml".into(), line: 7 }),
        }
    }

    /// The sha256 digest that begins with these digits, padded with zeros.
    fn digest(start: &str) -> Digest {
        format!("sha256:{start:0<64}").parse().unwrap()
    }

    fn repository(tags: &[(&str, Option<Digest>)], manifests: &[Digest]) -> Repository {
        let mut repository = Repository::empty("shop/api".parse().unwrap());
        let tag = |(name, digest): &(&str, Option<Digest>)| Tag {
            name: name.parse().unwrap(),
            digest: digest.clone(),
            pushed_at: None,
            first_seen: None,
            lock: None,
        };
        repository.tags = tags.iter().map(tag).collect();
        let manifest = Manifest {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            size: 7,
            config: None,
            blobs: [].into(),
            children: Vec::new(),
            subject: None,
            created_at: None,
            lock: None,
            detail: ManifestDetail::Full,
        };
        repository.manifests = manifests.iter().map(|digest| (digest.clone(), manifest.clone())).collect();
        repository
    }

    #[test]
    fn a_word_beside_settles_a_reference_by_a_tag_or_twelve_digits_of_a_digest() {
        let long: Digest = format!("sha512:{:0<128}", "c0ffeec0ffee").parse().unwrap();
        let tags = [("v2", Some(long)), ("v1", Some(digest("1234567890ab"))), ("unread", None)];
        let repository = repository(&tags, &[digest("dddddddddddd4"), digest("dddddddddddd2"), digest("1234567890ab")]);
        let images = ImageNames::of(&repository);
        let (whole, longer) = (format!("{:0<64}", "1234567890ab"), format!("{:0<65}", "1234567890ab"));
        for (beside, expected) in [
            (&[][..], true),
            (&["nothing"], true),
            (&["v1"], false),
            (&["unread"], false),
            (&["nothing", "v2"], false),
            (&["V1"], true),
            (&["v"], true),
            (&["v11"], true),
            (&["1234567890ab"], false),
            (&["1234567890AB"], false),
            (&["1234567890a"], true),
            (&["1234567890ac"], true),
            (&["234567890ab0"], true),
            (&["1234567890abz"], true),
            (&[whole.as_str()], false),
            (&[longer.as_str()], true),
            (&["c0ffeec0ffee"], false),
            (&["c0ffeec0ffee1"], true),
            // Of a manifest, and between the digests of two.
            (&["dddddddddddd"], false),
            (&["dddddddddddd2"], false),
            (&["dddddddddddd3"], true),
            (&["dddddddddddd4"], false),
            (&["dddddddddddd5"], true),
            // Before and after all others.
            (&["000000000000"], true),
            (&["ffffffffffff"], true),
            (&["ffffffffffff", "dddddddddddd"], false),
        ] {
            assert_eq!(reference(None, &["shop/api"], beside).is_open(&images), expected, "{beside:?}");
        }
        let empty = Repository::empty("shop/web".parse().unwrap());
        for word in ["v1", "1234567890ab"] {
            assert!(reference(None, &["shop/web"], &[word]).is_open(&ImageNames::of(&empty)), "{word}");
        }
    }

    #[test]
    fn references_are_found_by_host_and_by_path_or_pattern() {
        let own = ["contoso.azurecr.io", "harbor.example/proxy"].map(str::to_owned);
        let others = ["fabrikam.example".to_owned()];
        let all = [
            reference(Some("contoso.azurecr.io"), &["shop/", ""], &[]),
            reference(Some("harbor.example"), &["proxy/shop/", ""], &[]),
            reference(Some("harbor.example"), &["shop/", ""], &[]),
            reference(Some("fabrikam.example"), &["shop/", ""], &[]),
            reference(None, &["", "/api"], &[]),
            reference(None, &["shop/api"], &[]),
            // The same as the first, found a second time.
            reference(Some("contoso.azurecr.io"), &["shop/", ""], &["v1"]),
            reference(Some("contoso.azurecr.io"), &["shop/api"], &[]),
            reference(Some("harbor.example"), &["proxy/shop/api"], &[]),
            reference(Some("harbor.example"), &["shop/api"], &[]),
        ];
        let index = UnresolvedIndex::new(all.iter().enumerate().collect());
        for (repository, expected) in [
            ("shop/api", &[0_usize, 1, 4, 5, 6, 7, 8][..]),
            ("shop/web", &[0, 1, 6]),
            ("proxy/shop/api", &[4]),
            ("other/api", &[4]),
            ("other/web", &[]),
        ] {
            let found = index.matching(Hosts::new(&own, &others), &repository.parse().unwrap());
            let found: Vec<usize> = found.into_iter().map(|(at, _)| *at).collect();
            assert_eq!(found, expected, "{repository}");
        }
    }

    #[test]
    fn a_pattern_matches_by_its_literal_parts() {
        for (parts, path, expected) in [
            (&["shop/api"][..], "shop/api", true),
            (&["shop/api"], "shop/apis", false),
            (&["shop/", ""], "shop/api", true),
            (&["shop/", ""], "shop/team/api", true),
            (&["shop/", ""], "other/api", false),
            (&["", "/api"], "shop/api", true),
            (&["", "/api"], "shop/web", false),
            (&["shop/", "-", "-x"], "shop/a-b-x", true),
            (&["shop/", "-", "-x"], "shop/a-x", false),
            (&["ab", "b"], "ab", false),
            (&["", ""], "anything", true),
        ] {
            assert_eq!(PathPattern::of(parts).matches(path), expected, "{parts:?} {path}");
        }
    }
}
