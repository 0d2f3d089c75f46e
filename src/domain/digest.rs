//! Content digests, as the OCI image specification writes them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256, Sha512};

/// The address of content: `sha256:<64 hex>` or `sha512:<128 hex>`, always lower case.
///
/// These are the two algorithms that the OCI image specification registers for new content. Ordered by algorithm, then
/// by value, which is also the order of the written form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Repr {
    Sha256([u8; 32]),
    Sha512(Arc<[u8; 64]>),
}

/// A map by digests, which need no hash that is safe from floods: they are hashes themselves.
pub type DigestMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A set of digests, hashed in the same way.
pub type DigestSet<K> = HashSet<K, foldhash::fast::RandomState>;

/// Error for an invalid digest. Displays the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid digest: expected `sha256:` and 64 hex digits, or `sha512:` and 128")]
pub struct InvalidDigest {
    /// The invalid text.
    pub text: String,
}

impl Digest {
    /// Returns the sha256 digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Repr::Sha256(Sha256::digest(bytes).into()))
    }

    /// Returns true if `bytes` have this digest.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        match &self.0 {
            Repr::Sha256(expected) => Sha256::digest(bytes).as_slice() == expected,
            Repr::Sha512(expected) => Sha512::digest(bytes).as_slice() == expected.as_slice(),
        }
    }

    /// Returns `sha256` or `sha512`.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.0 {
            Repr::Sha256(_) => "sha256",
            Repr::Sha512(_) => "sha512",
        }
    }

    /// Returns the value in lower-case hex digits, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        let bytes = self.bytes();
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        text
    }

    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Sha256(value) => value,
            Repr::Sha512(value) => value.as_slice(),
        }
    }

    /// Returns the first half of a sha256 value, or the first quarter of a sha512 value. Collisions do not occur by
    /// chance, but can be searched for, so this serves for figures and not for decisions.
    #[must_use]
    pub fn prefix(&self) -> u128 {
        self.bytes().first_chunk().copied().map_or(0, u128::from_be_bytes)
    }

    /// Returns the first twelve hex digits with the algorithm, for people: `sha256:13e367d31ae8`.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{}:{}", self.algorithm(), &self.hex()[..12])
    }
}

/// Hashes a part of the value: a digest is as good as random, and millions of them are looked up.
impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.bytes()[..16]);
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != N * 2 {
        return None;
    }
    let (mut out, mut all) = ([0; N], 0);
    for (slot, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
        all |= high | low;
        *slot = (high << 4) | (low & 15);
    }
    (all < 16).then_some(out)
}

/// The values of hex digits by their bytes; more than 15 for other bytes. A table, because lists have a digest in each row.
const NIBBLES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        let digit = HEX[value as usize];
        values[digit as usize] = value;
        values[digit.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    values
};

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let repr = match text.split_once(':') {
            Some(("sha256", hex)) => unhex(hex).map(Repr::Sha256),
            Some(("sha512", hex)) => unhex(hex).map(|value| Repr::Sha512(Arc::new(value))),
            _ => None,
        };
        repr.map(Self).ok_or_else(|| InvalidDigest { text: text.chars().take(160).collect() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_written_and_verified() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest: Digest = empty.parse().unwrap();
        assert_eq!(digest.to_string(), empty);
        assert_eq!(digest.short(), "sha256:e3b0c44298fc");
        assert!(digest.matches(b""));
        assert!(!digest.matches(b"x"));
        assert_eq!(Digest::of(b""), digest);
        assert_eq!(empty.to_uppercase().replace("SHA256", "sha256").parse::<Digest>().unwrap(), digest);
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for text in ["", "sha256:", "sha256:e3b0", "md5:d41d8cd98f00b204e9800998ecf8427e", "latest"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        let long = format!("sha256:{}g", "0".repeat(63));
        assert!(long.parse::<Digest>().is_err());
    }
}
