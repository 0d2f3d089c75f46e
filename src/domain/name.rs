//! The names of things: registries, repositories, tags, policies, sources.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use super::SharedText;
use super::interned::ShortText;

/// Error for an invalid name. Displays the text and the violated rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}: {rule}")]
pub struct InvalidName {
    /// The invalid text, cut after 160 characters.
    pub text: String,
    /// The kind of name that was expected.
    pub what: &'static str,
    /// The rule for such names.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident($text:ty), $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($text);

        impl $name {
            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Returns the bytes of the text, which are cheaper to access.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidName { text: text.chars().take(160).collect(), what: $what, rule: $rule })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A registry's name in the settings, such as `contoso`.
    RegistryName(SharedText),
    "registry name",
    "letters, digits, `-`, `_` and `.`, at most 64",
    is_label
);
name!(
    /// A policy's name in its file.
    PolicyName(SharedText),
    "policy name",
    "letters, digits, `-`, `_` and `.`, at most 64",
    is_label
);
name!(
    /// A source's name in the settings, such as `aks-prod`.
    SourceName(SharedText),
    "source name",
    "letters, digits, `-`, `_` and `.`, at most 64",
    is_label
);
name!(
    /// A repository inside its registry, such as `shop/api`, without the host.
    ///
    /// The grammar is that of the OCI distribution specification: lower-case path segments joined by `/`.
    RepositoryName(SharedText),
    "repository name",
    "lower-case path segments of letters and digits joined by `.`, `_`, `__` or dashes, at most 255 characters",
    is_repository
);
name!(
    /// A tag, without its repository.
    ///
    /// The grammar is that of the OCI distribution specification: at most 128 of `[A-Za-z0-9_.-]`, not starting with
    /// `.` or `-`.
    TagName(ShortText),
    "tag",
    "at most 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`",
    is_tag
);

impl TagName {
    /// The name of no tag, for what is journaled and reported of a manifest that Tagwarden took no tag from. No text reads as
    /// it.
    #[must_use]
    pub fn none() -> Self {
        Self("".into())
    }

    /// Returns true for [`TagName::none`].
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Reads a recorded name back, that of no tag included.
    ///
    /// # Errors
    /// If it is another text than a tag can have.
    pub fn from_record(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() { Ok(Self::none()) } else { text.parse() }
    }
}

fn is_label(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !matches!(text.as_bytes()[0], b'-' | b'.')
}

fn is_repository(text: &str) -> bool {
    text.len() <= 255 && text.split('/').all(is_segment)
}

/// Returns true for `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`. Written by hand because every listed repository passes through
/// it.
fn is_segment(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    text.split(|c: char| alphanumeric(c.try_into().unwrap_or(0)))
        .all(|joint| joint.is_empty() || matches!(joint, "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_follow_the_distribution_grammar() {
        for good in ["a", "shop/api", "shop/api-v2", "a--b", "a__b", "a.b/c_d/e", "0/1"] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "Shop", "a..b", "a___b", "-a", "a-", "a._b", "a b", "ä"] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_follow_the_distribution_grammar() {
        for good in ["latest", "_x", "V1.2.3-rc.1", &"a".repeat(128)] {
            assert!(good.parse::<TagName>().is_ok(), "{good}");
        }
        for bad in ["", ".x", "-x", "a/b", "a b", "ü", &"a".repeat(129)] {
            assert!(bad.parse::<TagName>().is_err(), "{bad}");
        }
    }
}
