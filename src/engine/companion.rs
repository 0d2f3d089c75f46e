//! Signatures, attestations and SBOMs that belong to an image by the name of their tag.

use crate::domain::{Digest, Repository, TagName};

/// The minimum of hex digits in a companion's tag; a longer digest is cut to that length.
const HEX_DIGITS: usize = 64;

/// Returns the digest of the image that a tag accompanies, if its name follows the tag schema for referrers:
/// `sha256-<64 hex>`, alone (OCI distribution specification, referrers tag schema) or with a suffix such as `.sig`,
/// `.att` or `.sbom` (cosign).
///
/// A tag has no room for a full sha512 digest, so the schema cuts it; the missing digits are zeros here.
#[must_use]
pub fn companion_subject(tag: &TagName) -> Option<Digest> {
    if !tag.as_bytes().starts_with(b"sha") {
        return None;
    }
    let text = tag.as_str();
    let (algorithm, rest, digits) = match (text.strip_prefix("sha256-"), text.strip_prefix("sha512-")) {
        (Some(rest), _) => ("sha256", rest, HEX_DIGITS),
        (_, Some(rest)) => ("sha512", rest, 2 * HEX_DIGITS),
        (None, None) => return None,
    };
    let (hex, suffix) = rest.split_once('.').unwrap_or((rest, "sig"));
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let in_suffix = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    if !(HEX_DIGITS..=digits).contains(&hex.len()) || suffix.is_empty() {
        return None;
    }
    if !hex.bytes().all(is_hex) || !suffix.bytes().all(in_suffix) {
        return None;
    }
    format!("{algorithm}:{hex:0<digits$}").parse().ok()
}

/// A tag that accompanies an image.
pub(super) struct Companion {
    /// Its position in the repository.
    pub(super) tag: u32,
    /// The image that it accompanies.
    pub(super) subject: Digest,
}

/// Returns the companions of a repository, by position.
pub(super) fn companions(repository: &Repository) -> Vec<Companion> {
    let found = (0..).zip(&repository.tags).filter_map(|(tag, facts)| {
        let subject = companion_subject(&facts.name)?;
        Some(Companion { tag, subject: complete_digest(repository, subject) })
    });
    found.collect()
}

/// Returns the digest in the repository that begins with a cut one; the cut one if there is none.
fn complete_digest(repository: &Repository, cut: Digest) -> Digest {
    if cut.algorithm() == "sha256" || repository.manifests.contains_key(&cut) {
        return cut;
    }
    let hex = cut.hex();
    let met = repository.manifests.range(&cut..).next().map(|(digest, _)| digest);
    let listed =
        repository.listed.get(repository.listed.partition_point(|row| row.digest < cut)).map(|row| &row.digest);
    let begins = |digest: &&Digest| digest.algorithm() == "sha512" && digest.hex().starts_with(&hex[..HEX_DIGITS]);
    met.into_iter().chain(listed).filter(begins).min().cloned().unwrap_or(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_the_schema_name_their_subject() {
        let digest = Digest::of(b"image");
        let plain = digest.to_string().replace(':', "-");
        for suffix in ["", ".sig", ".att", ".sbom", ".anything-else_1.2"] {
            let tag: TagName = format!("{plain}{suffix}").parse().unwrap();
            assert_eq!(companion_subject(&tag).as_ref(), Some(&digest), "{tag}");
        }
        let cut: TagName = format!("sha512-{}", "ab".repeat(32)).parse().unwrap();
        assert_eq!(companion_subject(&cut).unwrap().hex(), format!("{}{}", "ab".repeat(32), "0".repeat(64)));
    }

    #[test]
    fn other_tags_are_their_own() {
        let hex = Digest::of(b"image").hex();
        let upper = hex.to_uppercase();
        for text in [
            "latest".into(),
            "sha256-abc".into(),
            format!("sha256-{}", &hex[1..]),
            format!("sha256-{hex}0"),
            format!("sha256-{upper}"),
            format!("sha256-{hex}."),
            format!("sha256-{hex}.SIG"),
            format!("sha1-{hex}"),
            format!("x-sha256-{hex}"),
        ] {
            let tag: TagName = text.parse().unwrap();
            assert_eq!(companion_subject(&tag), None, "{tag}");
        }
    }
}
