//! Text files as editors and shells of Windows save them.

/// The bytes of a text with a byte order mark: in UTF-8, and in UTF-16 of both orders.
pub(crate) fn as_windows_saves(text: &str) -> [Vec<u8>; 3] {
    let wide = |mark: &[u8], bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        mark.iter().copied().chain(text.encode_utf16().flat_map(bytes)).collect()
    };
    [
        [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        wide(b"\xff\xfe", u16::to_le_bytes),
        wide(b"\xfe\xff", u16::to_be_bytes),
    ]
}
