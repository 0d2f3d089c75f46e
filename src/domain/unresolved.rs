//! Occurrences that name a repository and leave open which image of it they mean.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Holder, Hosts, Repository, RepositoryName};

/// An occurrence that names a repository of ours, and whose tag is a placeholder, cut off or invalid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnresolvedReference {
    /// The text as it was met.
    pub text: Arc<str>,
    /// The registry's host, lower case; `None` where the text names none, or leaves it open.
    pub host: Option<String>,
    /// The repositories that it may mean.
    pub path: PathPattern,
    /// The words in the same line or mapping, where no tag was written at all: one that names a tag of the repository
    /// settles it. Empty where a tag was written and is open.
    pub beside: Arc<[Box<str>]>,
    /// Where it was met.
    pub holder: Arc<Holder>,
}

/// A path with placeholders in it, each of which may stand for anything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPattern(Vec<Box<str>>);

impl UnresolvedReference {
    /// Returns true if it leaves open which image of that repository it means, because none of the words beside it names a
    /// tag there, or a digest by at least twelve of its digits.
    #[must_use]
    pub fn is_open(&self, repository: &Repository) -> bool {
        let names_tag = |word: &str| repository.tags.iter().any(|tag| tag.name.as_str() == word);
        let tagged = || repository.tags.iter().filter_map(|tag| tag.digest.as_ref());
        let is_hex = |word: &str| word.len() >= 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let names_digest = |word: &str| {
            let mut digests = repository.manifests.keys().chain(tagged());
            is_hex(word) && digests.any(|digest| digest.hex().starts_with(&word.to_ascii_lowercase()))
        };
        !self.beside.iter().any(|word| names_tag(word) || names_digest(word))
    }

    /// Returns true if it may mean that repository of the registry with those names. Without a host it means the
    /// repository of that path in every registry.
    #[must_use]
    pub fn may_mean(&self, hosts: Hosts<'_>, repository: &RepositoryName) -> bool {
        match &self.host {
            Some(host) => hosts.spellings(host, repository.as_str()).iter().any(|path| self.path.matches(path)),
            None => self.path.matches(repository.as_str()),
        }
    }
}

/// Unresolved references by what they name, so that those that may mean a repository are found without looking at all.
#[derive(Debug)]
pub struct UnresolvedIndex<'a, T> {
    /// By host, then by whole path.
    whole: BTreeMap<Option<&'a str>, HashMap<&'a str, Vec<usize>>>,
    /// Those with a placeholder in the path.
    patterns: Vec<usize>,
    all: Vec<(T, &'a UnresolvedReference)>,
}

impl<'a, T> UnresolvedIndex<'a, T> {
    /// Creates an index of references, each with something that belongs to it.
    #[must_use]
    pub fn new(all: Vec<(T, &'a UnresolvedReference)>) -> Self {
        let mut whole: BTreeMap<Option<&str>, HashMap<&str, Vec<usize>>> = BTreeMap::new();
        let mut patterns = Vec::new();
        for (at, (_, one)) in all.iter().enumerate() {
            match one.path.whole() {
                Some(path) => whole.entry(one.host.as_deref()).or_default().entry(path).or_default().push(at),
                None => patterns.push(at),
            }
        }
        Self { whole, patterns, all }
    }

    /// Returns those that may mean that repository of the registry with those names, in the order that they came in.
    #[must_use]
    pub fn that_may_mean(&self, hosts: Hosts<'_>, repository: &RepositoryName) -> Vec<&(T, &'a UnresolvedReference)> {
        let mut found: Vec<usize> = self.patterns.clone();
        found.retain(|&at| self.all[at].1.may_mean(hosts, repository));
        for (host, by_path) in &self.whole {
            let paths = match host {
                Some(host) => hosts.spellings(host, repository.as_str()),
                None => vec![repository.as_str().to_owned()],
            };
            found.extend(paths.iter().filter_map(|path| by_path.get(path.as_str())).flatten());
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|at| &self.all[at]).collect()
    }
}

impl PathPattern {
    /// Returns the path, where it has no placeholder.
    #[must_use]
    pub fn whole(&self) -> Option<&str> {
        match &self.0[..] {
            [whole] => Some(whole),
            _ => None,
        }
    }

    /// A pattern of the literal parts of a path, with a placeholder between each and the next; one part is a whole path.
    #[must_use]
    pub fn of(parts: &[&str]) -> Self {
        Self(parts.iter().map(|&part| part.into()).collect())
    }

    /// Its literal parts.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|part| &**part)
    }

    /// Returns true if a path may be what the pattern stands for.
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
