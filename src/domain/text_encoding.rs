//! Text files as editors and shells leave them.

use std::io;

/// Bytes that are not text in a known encoding, with what they look like and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// Bytes that UTF-8 does not have.
    #[error("not valid UTF-8 (line {line}); save it as UTF-8")]
    Utf8 {
        /// The line of the first such byte.
        line: usize,
    },
    /// Letters as a single byte each, with the line of the first.
    #[error("not valid UTF-8 (line {line}): it seems to be Latin-1 or Windows-1252; save it as UTF-8")]
    Latin1 {
        /// The line of the first such byte.
        line: usize,
    },
    /// Compressed by gzip.
    #[error("compressed by gzip; decompress it")]
    Gzip,
    /// A byte order mark of UTF-16, and something else after it.
    #[error("not valid UTF-16, although it begins with its byte order mark; save it as UTF-8")]
    Utf16,
    /// UTF-16 that does not say so.
    #[error("UTF-16 without a byte order mark; save it as UTF-8")]
    UnmarkedUtf16,
    /// An encoding that hardly anything writes.
    #[error("UTF-32; save it as UTF-8")]
    Utf32,
}

impl From<InvalidText> for io::Error {
    fn from(invalid: InvalidText) -> Self {
        Self::new(io::ErrorKind::InvalidData, invalid)
    }
}

/// Decodes the bytes of a file that a person hands over, without a byte order mark.
///
/// PowerShell's `>` writes UTF-16, and several editors of Windows put a mark before UTF-8. Encodings that do not name
/// themselves are refused rather than guessed.
///
/// # Errors
/// Returns an error if they are neither UTF-8 nor marked UTF-16.
pub fn decode_text(bytes: Vec<u8>) -> Result<String, InvalidText> {
    let wide = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, odd) = rest.as_chunks();
        let units: Vec<u16> = pairs.iter().copied().map(unit).collect();
        let text = if odd.is_empty() { String::from_utf16(&units).ok() } else { None };
        text.ok_or(InvalidText::Utf16)
    };
    match bytes.as_slice() {
        [0x1f, 0x8b, ..] => Err(InvalidText::Gzip),
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Err(InvalidText::Utf32),
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => decode_utf8(rest.to_vec(), |_| false),
        // An ASCII letter beside a zero byte, as each of them is in UTF-16.
        [first, 0, ..] | [0, first, ..] if first.is_ascii() && *first != 0 => Err(InvalidText::UnmarkedUtf16),
        _ => decode_utf8(bytes, is_latin1),
    }
}

fn decode_utf8(bytes: Vec<u8>, is_latin1: fn(&[u8]) -> bool) -> Result<String, InvalidText> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|&byte| byte == b'\n').count();
        if is_latin1(error.as_bytes()) { InvalidText::Latin1 { line } } else { InvalidText::Utf8 { line } }
    })
}

/// Returns true if only single letters and signs beyond ASCII stand in a text, as Latin-1 and Windows-1252 write them.
fn is_latin1(bytes: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    bytes.iter().any(u8::is_ascii_alphabetic) && !bytes.iter().any(is_control) && !bytes.contains(&0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(mark: &[u8], text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        mark.iter().copied().chain(text.encode_utf16().flat_map(bytes)).collect()
    }

    #[test]
    fn marks_are_not_part_of_a_text() {
        for bytes in [
            "hé\r\n".into(),
            "\u{feff}hé\r\n".into(),
            wide(b"\xff\xfe", "hé\r\n", u16::to_le_bytes),
            wide(b"\xfe\xff", "hé\r\n", u16::to_be_bytes),
        ] {
            assert_eq!(decode_text(bytes).as_deref(), Ok("hé\r\n"));
        }
        assert_eq!(decode_text(Vec::new()).as_deref(), Ok(""));
    }

    #[test]
    fn other_encodings_are_named() {
        for (bytes, expected) in [
            (b"\xff".to_vec(), InvalidText::Utf8 { line: 1 }),
            (b"a\n\xe9\n".to_vec(), InvalidText::Latin1 { line: 2 }),
            (b"\x1f\x8b\x08\x00".to_vec(), InvalidText::Gzip),
            (b"a\x01\xe9".to_vec(), InvalidText::Utf8 { line: 1 }),
            (b"\xef\xbb\xbfa\n\n\xff".to_vec(), InvalidText::Utf8 { line: 3 }),
            (b"\xff\xfeh".to_vec(), InvalidText::Utf16),
            (b"\xff\xfe\x00\xd8".to_vec(), InvalidText::Utf16),
            (wide(b"", "{\"", u16::to_le_bytes), InvalidText::UnmarkedUtf16),
            (wide(b"", "{\"", u16::to_be_bytes), InvalidText::UnmarkedUtf16),
            (b"\xff\xfe\x00\x00h\x00\x00\x00".to_vec(), InvalidText::Utf32),
        ] {
            assert_eq!(decode_text(bytes.clone()), Err(expected), "{bytes:?}");
        }
    }
}
