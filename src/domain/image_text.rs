//! Annotations and labels: texts by key that come with an image, and what selectors ask of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Digest, FactSelector, Globs, Repository, Rules, SharedText};

/// A kind of texts by key that come with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TextKind {
    /// Annotations of a manifest.
    Annotation,
    /// Labels in the configuration of an image.
    Label,
}

/// Everything that is known of one image's annotations or labels: only keys that policies ask for, with `None` for a key
/// that the image does not have. A key that is not in it is unknown.
pub type KnownTexts = BTreeMap<SharedText, Option<SharedText>>;

/// A condition of a selector: one annotation or label, with its possible values.
#[derive(Debug, Clone)]
pub struct TextCondition {
    /// The key.
    pub key: SharedText,
    values: Globs,
    written: Vec<String>,
}

impl TextKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Annotation, Self::Label];

    /// Returns the key in policy files.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Annotation => "annotations",
            Self::Label => "labels",
        }
    }
}

impl TextCondition {
    /// Compiles the globs for the values of a key. `*` alone means any value, also one with slashes.
    ///
    /// # Errors
    /// Returns the position of the first invalid glob, and its error.
    pub fn new<S: AsRef<str>>(key: &str, values: &[S]) -> Result<Self, (usize, globset::Error)> {
        let written: Vec<String> = values.iter().map(|value| value.as_ref().to_owned()).collect();
        let compiled: Vec<&str> = written.iter().map(|value| if value == "*" { "**" } else { value }).collect();
        Ok(Self { key: key.into(), values: Globs::new(&compiled)?, written })
    }

    /// Returns true if the condition allows a value.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        self.values.matches(value)
    }

    /// Returns the globs as written.
    #[must_use]
    pub fn written(&self) -> &[String] {
        &self.written
    }
}

impl PartialEq for TextCondition {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.written) == (&other.key, &other.written)
    }
}

impl Eq for TextCondition {}

impl FactSelector {
    /// Returns the conditions on annotations or labels.
    #[must_use]
    pub fn texts(&self, kind: TextKind) -> &[TextCondition] {
        match kind {
            TextKind::Annotation => &self.annotations,
            TextKind::Label => &self.labels,
        }
    }
}

impl Rules {
    /// Returns the keys of annotations or labels that policies ask for.
    #[must_use]
    pub fn asked_keys(&self, kind: TextKind) -> BTreeSet<SharedText> {
        let asked = self.policies.iter().flat_map(|policy| policy.select.facts.texts(kind));
        asked.map(|condition| condition.key.clone()).collect()
    }
}

impl Repository {
    /// Returns what is known of annotations or labels, by manifest.
    #[must_use]
    pub fn known_texts(&self, kind: TextKind) -> &BTreeMap<Digest, KnownTexts> {
        match kind {
            TextKind::Annotation => &self.annotations,
            TextKind::Label => &self.labels,
        }
    }

    /// Returns the same, to be changed.
    pub fn known_texts_mut(&mut self, kind: TextKind) -> &mut BTreeMap<Digest, KnownTexts> {
        match kind {
            TextKind::Annotation => &mut self.annotations,
            TextKind::Label => &mut self.labels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_match_by_globs_and_a_star_alone_means_any() {
        let cases: [(&[&str], &str, bool); 11] = [
            (&["checkout"], "checkout", true),
            (&["checkout"], "Checkout", false),
            (&["checkout"], "checkout-2", false),
            (&["https://github.com/acme/*"], "https://github.com/acme/shop", true),
            (&["https://github.com/acme/*"], "https://github.com/acme/shop/tree", false),
            (&["https://github.com/acme/**"], "https://github.com/acme/shop/tree", true),
            (&["*"], "https://github.com/acme/shop", true),
            (&["*"], "", true),
            (&["*", "!legacy"], "a/b", true),
            (&["*", "!legacy"], "legacy", false),
            (&["a", "b-?"], "b-1", true),
        ];
        for (globs, value, expected) in cases {
            let condition = TextCondition::new("team", globs).unwrap();
            assert_eq!(condition.matches(value), expected, "{globs:?} {value}");
            assert_eq!(condition.written(), globs);
        }
    }
}
