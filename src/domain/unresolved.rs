//! Occurrences that name a repository and leave open which image of it they mean.

use std::sync::Arc;

use super::{Holder, Hosts, RepositoryName, TagName};

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
    /// Returns true if it leaves open which of these tags it means, because none of the words beside it names one.
    #[must_use]
    pub fn is_open<'t>(&self, mut tags: impl Iterator<Item = &'t TagName>) -> bool {
        self.beside.is_empty() || !tags.any(|tag| self.beside.iter().any(|word| **word == *tag.as_str()))
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

impl PathPattern {
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
