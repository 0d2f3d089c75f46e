//! Bodies of responses: undoes content codings that were not requested, and parses JSON leniently.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit, decompress_to_vec_zlib_with_limit};
use serde::de::DeserializeOwned;

/// First bytes of a gzip member (RFC 1952, 2.3.1), with its only method.
const GZIP_MAGIC: &[u8] = b"\x1f\x8b\x08";
/// The byte order mark of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Decodes the content codings of a body, to at most `limit` bytes.
///
/// No coding is ever requested, but proxies and caches compress all the same. A coding that the header names and the
/// body does not have is ignored: proxies decompress bodies and leave the header. JSON that is compressed without a
/// header is recognized by its first bytes, which no JSON has.
///
/// # Errors
/// Returns a description of an unknown coding, a broken one, or a result beyond the limit.
pub(super) fn decode(headers: &HeaderMap, body: Vec<u8>, limit: usize) -> Result<Vec<u8>, String> {
    let named = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings: Vec<String> =
        named.flat_map(|value| value.split(',')).map(|one| one.trim().to_lowercase()).collect();
    codings.retain(|coding| !matches!(coding.as_str(), "" | "identity" | "none" | "utf-8" | "aws-chunked"));
    if codings.is_empty() {
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        return if body.starts_with(GZIP_MAGIC) && kind.contains("json") { gunzip(&body, limit) } else { Ok(body) };
    }
    let mut body = body;
    for coding in codings.iter().rev() {
        body = match coding.as_str() {
            _ if body.is_empty() => body,
            "gzip" | "x-gzip" if body.starts_with(GZIP_MAGIC) => gunzip(&body, limit)?,
            "deflate" if is_zlib(&body) => unpack(decompress_to_vec_zlib_with_limit(&body, limit), limit)?,
            "gzip" | "x-gzip" | "deflate" => body,
            other => return Err(format!("it is encoded as `{}`, which was not asked for", super::one_line(other))),
        };
    }
    Ok(body)
}

/// Returns true for a zlib header (RFC 1950, 2.2), whose two bytes are a multiple of 31.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [first, second, ..] if first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)).is_multiple_of(31))
}

fn gunzip(body: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    let packed = gzip_payload(body).ok_or("its gzip header is broken")?;
    unpack(decompress_to_vec_with_limit(packed, limit), limit)
}

fn unpack(outcome: Result<Vec<u8>, miniz_oxide::inflate::DecompressError>, limit: usize) -> Result<Vec<u8>, String> {
    outcome.map_err(|error| match error.status {
        TINFLStatus::HasMoreOutput => format!("it unpacks to more than {limit} bytes"),
        _ => "it is packed, and broken or cut".to_owned(),
    })
}

/// Returns the compressed data of a gzip member, after its header.
fn gzip_payload(body: &[u8]) -> Option<&[u8]> {
    let flags = *body.get(3)?;
    let mut rest = body.get(10..)?;
    if flags & 0x04 != 0 {
        let [low, high, ..] = rest else { return None };
        rest = rest.get(2 + usize::from(u16::from_le_bytes([*low, *high]))..)?;
    }
    // The name and the comment, each terminated by a zero.
    for flag in [0x08, 0x10] {
        if flags & flag != 0 {
            rest = rest.get(rest.iter().position(|byte| *byte == 0)? + 1..)?;
        }
    }
    if flags & 0x02 != 0 { rest.get(2..) } else { Some(rest) }
}

/// Parses JSON leniently: skips a byte order mark, as RFC 8259 allows, and replaces bytes that are not UTF-8, so that
/// an odd letter in a label does not hide a digest.
///
/// # Errors
/// Returns those of `serde_json`. Their text may quote the input.
pub(crate) fn parse_json_lossy<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    // Pages of lists are long, and the check is many times as fast as the replacement.
    match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_str(&String::from_utf8_lossy(body)),
    }
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

    use super::*;

    fn headers(coding: &str, kind: &str) -> HeaderMap {
        let pairs = [(CONTENT_ENCODING, coding), (CONTENT_TYPE, kind)];
        pairs
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect()
    }

    /// A gzip member with a name, a comment, an extra field and a header check.
    fn gzip(text: &[u8], flags: u8) -> Vec<u8> {
        let mut packed = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
        if flags & 4 != 0 {
            packed.extend(b"\x02\x00xx");
        }
        if flags & 8 != 0 {
            packed.extend(b"name\0");
        }
        if flags & 16 != 0 {
            packed.extend(b"comment\0");
        }
        if flags & 2 != 0 {
            packed.extend(b"hc");
        }
        packed.extend(compress_to_vec(text, 6));
        packed.extend([0; 8]);
        packed
    }

    #[test]
    fn codings_that_nobody_asked_for_are_undone() {
        let text = br#"{"tags":["a"]}"#;
        let zlib = compress_to_vec_zlib(text, 6);
        for (coding, kind, body) in [
            ("", "application/json", text.to_vec()),
            ("identity", "", text.to_vec()),
            ("Identity, none", "", text.to_vec()),
            ("gzip", "", gzip(text, 0)),
            ("GZIP", "", gzip(text, 0x1e)),
            ("x-gzip", "", gzip(text, 8)),
            ("identity, gzip", "", gzip(text, 0)),
            ("gzip, gzip", "", gzip(&gzip(text, 0), 0)),
            ("deflate", "", zlib),
            ("gzip", "", text.to_vec()),
            ("deflate", "", text.to_vec()),
            ("", "application/json; charset=utf-8", gzip(text, 0)),
        ] {
            assert_eq!(decode(&headers(coding, kind), body, 1 << 10).as_deref(), Ok(&text[..]), "{coding} {kind}");
        }
        let layer = gzip(text, 0);
        assert_eq!(
            decode(&headers("", "application/octet-stream"), layer.clone(), 99),
            Ok(layer),
            "its digest is of this"
        );
        assert_eq!(decode(&headers("gzip", ""), Vec::new(), 99), Ok(Vec::new()), "an answer to a HEAD");
    }

    #[test]
    fn a_coding_that_is_not_understood_broken_or_a_bomb_is_an_error() {
        let bomb = gzip(&vec![b' '; 1 << 20], 0);
        let mut cut = gzip(b"many words, not all of which arrive: 0123456789 abcdefghijkl", 0);
        cut.truncate(24);
        for (coding, body, word) in [
            ("br", b"x".to_vec(), "`br`"),
            ("gzip, zstd", b"x".to_vec(), "`zstd`"),
            ("gzip", bomb, "more than"),
            ("gzip", cut, "broken or cut"),
            ("gzip", b"\x1f\x8b\x08\x04".to_vec(), "header"),
        ] {
            let error = decode(&headers(coding, ""), body, 1 << 16).unwrap_err();
            assert!(error.contains(word), "{coding}: {error}");
        }
    }

    #[test]
    fn json_is_read_behind_a_mark_and_around_odd_letters() {
        type Map = std::collections::BTreeMap<String, String>;
        for text in [&b"{\"a\":\"b\"}"[..], b"\xef\xbb\xbf{\"a\":\"b\"}", b"\xef\xbb\xbf \r\n{\"a\":\"b\"}\n"] {
            assert_eq!(parse_json_lossy::<Map>(text).unwrap()["a"], "b");
        }
        assert_eq!(parse_json_lossy::<Map>(b"{\"a\":\"M\xfcnchen\"}").unwrap()["a"], "M\u{fffd}nchen");
        assert!(parse_json_lossy::<Map>(b"\xff\xfe{\0").is_err());
    }
}
