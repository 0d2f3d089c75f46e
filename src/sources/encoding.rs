//! Encodings of evidence: what is not text must not be read as text without a reference in it.

use std::borrow::Cow;

/// First bytes of compressed files. Names of images stand in none of them in the clear.
const COMPRESSED: [(&[u8], &str); 6] = [
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\xfd7zXZ\x00", "XZ"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "LZ4"),
];

/// Returns the bytes as UTF-8, as far as they are valid: without a byte order mark, and transcoded from UTF-16 where
/// the mark says so (PowerShell's `>` writes that).
///
/// # Errors
/// When they are compressed, UTF-32, invalid UTF-16, or contain NUL bytes, which no text does: the message says which,
/// and what to do.
pub(super) fn utf8(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    if let Some((_, format)) = COMPRESSED.iter().find(|(start, _)| bytes.starts_with(start)) {
        return Err(format!("compressed ({format}), so nothing in it can be read; provide it uncompressed"));
    }
    if bytes.starts_with(b"\xff\xfe\x00\x00") || bytes.starts_with(b"\x00\x00\xfe\xff") {
        return Err("UTF-32 is not supported; provide it as UTF-8".to_owned());
    }
    if let Some(rest) = bytes.strip_prefix(b"\xff\xfe") {
        return utf16(rest, u16::from_le_bytes);
    }
    if let Some(rest) = bytes.strip_prefix(b"\xfe\xff") {
        return utf16(rest, u16::from_be_bytes);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.contains(&0) {
        return Err(
            "not text: it contains NUL bytes (binary, or UTF-16 without a byte order mark); provide it as UTF-8, \
                    or keep it out of the glob"
                .to_owned(),
        );
    }
    Ok(Cow::Borrowed(bytes))
}

fn utf16(bytes: &[u8], unit: impl Fn([u8; 2]) -> u16) -> Result<Cow<'_, [u8]>, String> {
    let (pairs, rest) = bytes.as_chunks();
    let invalid = || "invalid UTF-16; provide it as UTF-8".to_owned();
    if !rest.is_empty() {
        return Err(invalid());
    }
    let units = pairs.iter().copied().map(unit);
    let text: String = char::decode_utf16(units).collect::<Result<_, _>>().map_err(|_| invalid())?;
    if text.contains('\0') {
        return Err("not text: it contains NUL characters; keep it out of the glob".to_owned());
    }
    Ok(Cow::Owned(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16_of(text: &str, big: bool) -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    }

    #[test]
    fn text_is_found_in_the_encodings_that_name_themselves() {
        let text = "ok: contoso.azurecr.io/shop/api:v1 – ü 🦀\n";
        for bytes in [
            text.as_bytes().to_vec(),
            format!("\u{feff}{text}").into_bytes(),
            utf16_of(text, false),
            utf16_of(text, true),
        ] {
            assert_eq!(utf8(&bytes).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn what_is_not_text_says_so() {
        let bare: Vec<u8> = "a:v1".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let odd = [&utf16_of("a", false)[..], b"x"].concat();
        for (bytes, words) in [
            (b"\x1f\x8b\x08\x00".to_vec(), "gzip"),
            (b"PK\x03\x04".to_vec(), "ZIP"),
            (b"\x28\xb5\x2f\xfdx".to_vec(), "Zstandard"),
            (bare, "NUL"),
            (b"a\0b".to_vec(), "NUL"),
            (odd, "UTF-16"),
            (utf16_of("a\0b", true), "NUL"),
            (b"\xff\xfe\x00\xd8".to_vec(), "invalid UTF-16"),
            (b"\xff\xfe\x00\x00a\0\0\0".to_vec(), "UTF-32"),
        ] {
            let error = utf8(&bytes).unwrap_err();
            assert!(error.contains(words), "{bytes:?}: {error}");
        }
    }
}
