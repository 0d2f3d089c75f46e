//! Text files as editors and shells leave them.

/// Returns the bytes as text without a byte order mark, or `None` if they are not text.
///
/// PowerShell's `>` writes UTF-16, and several editors of Windows put a mark before UTF-8.
pub(super) fn decode(bytes: Vec<u8>) -> Option<String> {
    let wide = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, odd) = rest.as_chunks();
        let units: Vec<u16> = pairs.iter().copied().map(unit).collect();
        odd.is_empty().then(|| String::from_utf16(&units).ok()).flatten()
    };
    match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => std::str::from_utf8(rest).ok().map(str::to_owned),
        _ => String::from_utf8(bytes).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_no_part_of_a_text() {
        let wide = |mark: &[u8], bytes: fn(u16) -> [u8; 2]| {
            let text = "hé\r\n".encode_utf16().flat_map(bytes);
            mark.iter().copied().chain(text).collect::<Vec<u8>>()
        };
        for bytes in [
            "hé\r\n".into(),
            "\u{feff}hé\r\n".into(),
            wide(b"\xff\xfe", u16::to_le_bytes),
            wide(b"\xfe\xff", u16::to_be_bytes),
        ] {
            assert_eq!(decode(bytes).as_deref(), Some("hé\r\n"));
        }
        for bytes in [&b"\xff"[..], b"\xff\xfeh", b"\xff\xfe\x00\xd8", b"\xef\xbb\xbf\xff"] {
            assert_eq!(decode(bytes.to_vec()), None, "{bytes:?}");
        }
        assert_eq!(decode(Vec::new()).as_deref(), Some(""));
    }
}
