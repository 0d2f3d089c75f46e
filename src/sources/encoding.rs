//! Encodings of evidence: binary content must not be read as a text without references.

use std::borrow::Cow;

/// First bytes of compressed files, which contain no names of images in plain text.
const COMPRESSED: [(&[u8], &str); 6] = [
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\xfd7zXZ\x00", "XZ"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "LZ4"),
];

/// First bytes of binary files. Those that a text may begin with count only if a NUL byte follows.
const BINARY: [(&[u8], &str); 46] = [
    (b"\x89PNG\r\n\x1a\n", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"GIF87a", "GIF image"),
    (b"GIF89a", "GIF image"),
    (b"BM", "BMP image"),
    (b"RIFF", "WebP image, sound or film"),
    (b"II*\x00", "TIFF image"),
    (b"MM\x00*", "TIFF image"),
    (b"8BPS", "Photoshop image"),
    (b"\x00\x00\x01\x00", "icon"),
    (b"\x00\x00\x02\x00", "cursor"),
    (b"%PDF-", "PDF document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Office document"),
    (b"\x7fELF", "ELF program"),
    (b"MZ", "Windows program"),
    (b"\xca\xfe\xba\xbe", "Java class or program"),
    (b"\xfe\xed\xfa\xce", "Mach-O program"),
    (b"\xfe\xed\xfa\xcf", "Mach-O program"),
    (b"\xce\xfa\xed\xfe", "Mach-O program"),
    (b"\xcf\xfa\xed\xfe", "Mach-O program"),
    (b"\x00asm", "WebAssembly"),
    (b"!<arch>\n", "archive of programs"),
    (b"\xac\xed\x00\x05", "Java objects"),
    (b"\xfe\xed\xfe\xed", "Java keystore"),
    (b"BC\xc0\xde", "LLVM code"),
    (b"dex\n", "Android program"),
    (b"wOFF", "font"),
    (b"wOF2", "font"),
    (b"OTTO", "font"),
    (b"ttcf", "font"),
    (b"\x00\x01\x00\x00\x00", "font"),
    (b"SQLite format 3\x00", "SQLite database"),
    (b"\x89HDF\r\n\x1a\n", "HDF5 data"),
    (b"\x93NUMPY", "NumPy data"),
    (b"\xde\x12\x04\x95", "translations"),
    (b"\x95\x04\x12\xde", "translations"),
    (b"OggS", "sound"),
    (b"fLaC", "sound"),
    (b"ID3", "sound"),
    (b"\xff\xfb", "sound"),
    (b"\x1aE\xdf\xa3", "film"),
    (b"PACK", "git pack"),
    (b"DIRC", "git index"),
    (b"\xfftOc", "git index of a pack"),
    (b"\x00\x00\x00\x01Bud1", "folder settings"),
    (b"\x00\x05\x16\x07", "folder settings"),
];

/// First files of ZIP archives that are documents or programs.
const ZIP_DOCUMENTS: [&[u8]; 9] = [
    b"[Content_Types].xml",
    b"META-INF/",
    b"_rels/",
    b"docProps/",
    b"mimetype",
    b"word/",
    b"xl/",
    b"ppt/",
    b"AndroidManifest.xml",
];

/// Returns the name of a known format that is not text; `None` for anything else, even if it is not text either.
pub(super) fn binary_format(bytes: &[u8]) -> Option<&'static str> {
    let has_nul = || bytes.contains(&0);
    let is_text = |start: &[u8]| start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    let known = BINARY
        .iter()
        .find(|(start, _)| bytes.starts_with(start) && (!is_text(start) || *start == b"%PDF-" || has_nul()));
    if let Some((_, format)) = known {
        return Some(*format);
    }
    if bytes.starts_with(b"PK\x03\x04") {
        let name = bytes.get(30..).unwrap_or_default();
        return ZIP_DOCUMENTS.iter().any(|start| name.starts_with(start)).then_some("document or program in a ZIP");
    }
    if bytes.get(4..8) == Some(b"ftyp") && has_nul() {
        return Some("film or image");
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some("tar archive");
    }
    // Python puts a version number before this.
    (bytes.get(2..4) == Some(b"\r\n") && bytes.get(4..16).is_some_and(|flags| flags.contains(&0)))
        .then_some("Python code")
}

/// Returns the bytes as UTF-8, as far as they are valid: without a byte order mark, and transcoded from UTF-16 if the
/// mark says so (PowerShell's `>` writes that).
///
/// # Errors
/// Returns a message with a remedy if they are compressed, UTF-32, invalid UTF-16, or contain NUL bytes, which no text
/// does.
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
    fn formats_that_are_no_text_are_known() {
        let zip = |name: &[u8]| [&b"PK\x03\x04"[..], &[0; 26], name].concat();
        let tar = [&[b'a'; 257][..], b"ustar", &[0; 250]].concat();
        for (bytes, expected) in [
            (&b"\x89PNG\r\n\x1a\n\0\0"[..], Some("PNG image")),
            (b"\xff\xd8\xff\xe0", Some("JPEG image")),
            (b"GIF89a\0\0", Some("GIF image")),
            (b"GIF89a is a format", None),
            (b"%PDF-1.7", Some("PDF document")),
            (b"\x7fELF\x02", Some("ELF program")),
            (b"MZ\x90\0", Some("Windows program")),
            (b"MZ: a name", None),
            (b"\xca\xfe\xba\xbe\0", Some("Java class or program")),
            (b"\0asm\x01", Some("WebAssembly")),
            (b"\0\0\x01\0", Some("icon")),
            (b"wOF2\0", Some("font")),
            (b"SQLite format 3\0", Some("SQLite database")),
            (b"\xa7\r\r\n\0\0\0\0", None),
            (b"\xa7\x0d\r\n\0\0\0\0\0\0\0\0\0\0\0\0", Some("Python code")),
            (&zip(b"[Content_Types].xml"), Some("document or program in a ZIP")),
            (&zip(b"META-INF/MANIFEST.MF"), Some("document or program in a ZIP")),
            (&zip(b"release.log"), None),
            (&tar, Some("tar archive")),
            (b"\x1f\x8b\x08\0", None),
            (b"c\0o\0n\0", None),
            (b"\xff\xfec\0", None),
            (b"image: a:v1\n", None),
            (b"", None),
        ] {
            assert_eq!(binary_format(bytes), expected, "{bytes:?}");
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
