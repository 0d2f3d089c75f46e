//! Texts that occur by the million: shared ones and short ones.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// A text shared by reasons and removals. One word wide where `Arc<str>` takes two: there are millions of references
/// and few texts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedText(Arc<Box<str>>);

impl Deref for SharedText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SharedText {
    fn from(text: &str) -> Self {
        Self(Arc::new(text.into()))
    }
}

impl From<String> for SharedText {
    fn from(text: String) -> Self {
        Self(Arc::new(text.into()))
    }
}

impl fmt::Display for SharedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for SharedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// A text that mostly is short: up to 22 bytes need no memory elsewhere, longer ones are shared by their clones.
#[derive(Clone)]
pub(super) struct ShortText(Kind);

#[derive(Clone)]
enum Kind {
    Inline { length: u8, bytes: [u8; INLINE] },
    Shared(Arc<str>),
}

const INLINE: usize = 22;

impl ShortText {
    /// Returns the bytes of the text without UTF-8 validation.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Kind::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Kind::Shared(text) => text.as_bytes(),
        }
    }
}

impl Deref for ShortText {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Kind::Inline { .. } => std::str::from_utf8(self.as_bytes()).expect("it was copied from a whole text"),
            Kind::Shared(text) => text,
        }
    }
}

impl From<&str> for ShortText {
    fn from(text: &str) -> Self {
        let mut bytes = [0; INLINE];
        Self(match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(start), Ok(length)) => {
                start.copy_from_slice(text.as_bytes());
                Kind::Inline { length, bytes }
            }
            _ => Kind::Shared(text.into()),
        })
    }
}

// Comparison and hashing match those of `str`, as `Borrow<str>` requires for lookups.
impl PartialEq for ShortText {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for ShortText {}

impl PartialOrd for ShortText {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ShortText {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for ShortText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        str::hash(self, state);
    }
}

impl fmt::Display for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_are_what_they_were_made_of_at_every_length() {
        assert_eq!(size_of::<ShortText>(), 24);
        let texts: Vec<String> = (0..=128).map(|length| "ä".repeat(length / 2) + &"x".repeat(length % 2)).collect();
        for (a, b) in texts.iter().flat_map(|a| texts.iter().map(move |b| (a, b))) {
            let (short_a, short_b) = (ShortText::from(&**a), ShortText::from(&**b));
            assert_eq!(&*short_a, a);
            assert_eq!(short_a.cmp(&short_b), a.cmp(b));
            assert_eq!(short_a == short_b, a == b);
        }
    }
}
