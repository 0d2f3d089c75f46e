//! Stored parts of plans: Zstandard, with the digests beside it.
//!
//! The hex digits of a digest neither repeat nor compress to less than the bytes that they encode, and interrupt
//! repetitions around them. So digests are stored as bytes, and each leaves one byte in the text that is compressed.

use std::io;

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// Zstandard's own default: higher levels take several times as long for a few percent.
const COMPRESSION_LEVEL: i32 = 3;

/// The beginning of a digest in a text.
const DIGEST_PREFIX: &[u8] = b"sha256:";

/// Bytes of a digest.
const DIGEST_BYTES: usize = 32;

/// The byte in the text in place of the next digest. JSON escapes it wherever else it occurs.
const PLACEHOLDER: u8 = 1;

/// The same for the digest before once more: a view names its digest, and the commands that show it do, too.
const REPEATED: u8 = 2;

/// In place of the number of digests: the text was left unchanged.
const VERBATIM: u32 = u32::MAX;

/// Compresses bytes, usually JSON, independently. [`decompress`] restores them.
#[must_use]
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    compress_at(bytes, COMPRESSION_LEVEL)
}

/// Compresses as fast as possible, for data that is read back soon.
#[must_use]
pub fn compress_fast(bytes: &[u8]) -> Vec<u8> {
    compress_at(bytes, 1)
}

fn compress_at(bytes: &[u8], level: i32) -> Vec<u8> {
    if memchr::memchr2(PLACEHOLDER, REPEATED, bytes).is_none()
        && let Some((count, digests, text)) = take_digests(bytes)
    {
        return [&count.to_le_bytes()[..], &digests, &pack(&text, level)].concat();
    }
    [&VERBATIM.to_le_bytes()[..], &pack(bytes, level)].concat()
}

/// Restores the input of [`compress`].
///
/// # Errors
/// Returns an error if `packed` is damaged.
pub fn decompress(packed: &[u8]) -> io::Result<Vec<u8>> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the compressed data is damaged");
    let (count, rest) = packed.split_first_chunk().ok_or_else(damaged)?;
    let count = u32::from_le_bytes(*count);
    let length = if count == VERBATIM { Some(0) } else { (count as usize).checked_mul(DIGEST_BYTES) };
    let (digests, text) = length.and_then(|length| rest.split_at_checked(length)).ok_or_else(damaged)?;
    let text = zstd::stream::decode_all(text).map_err(|_| damaged())?;
    if count == VERBATIM {
        return Ok(text);
    }
    let mut bytes = Vec::with_capacity(text.len() + digests.len() * 2 + (count as usize) * DIGEST_PREFIX.len());
    let mut digests = digests.chunks_exact(DIGEST_BYTES);
    let mut last = None;
    let mut rest = &text[..];
    while let Some(at) = memchr::memchr2(PLACEHOLDER, REPEATED, rest) {
        let (before, behind) = rest.split_at(at);
        bytes.extend_from_slice(before);
        if behind[0] == PLACEHOLDER {
            last = Some(digests.next().ok_or_else(damaged)?);
        }
        bytes.extend_from_slice(DIGEST_PREFIX);
        for half in last.ok_or_else(damaged)?.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
            bytes.push(hex_digit(half));
        }
        rest = &behind[1..];
    }
    bytes.extend_from_slice(rest);
    if digests.next().is_none() { Ok(bytes) } else { Err(damaged()) }
}

/// Extracts the digests from a text: returns their number, their concatenated bytes, and the text without them. One that
/// repeats the one before is not counted. `None` if there are too many to count.
fn take_digests(bytes: &[u8]) -> Option<(u32, Vec<u8>, Vec<u8>)> {
    let (mut count, mut digests, mut text) = (0_u32, Vec::new(), Vec::with_capacity(bytes.len() / 2));
    let mut rest = bytes;
    let finder = memchr::memmem::Finder::new(DIGEST_PREFIX);
    while let Some(start) = finder.find(rest) {
        let (before, from) = rest.split_at(start);
        let (prefix, behind) = from.split_at(DIGEST_PREFIX.len());
        text.extend_from_slice(before);
        if let Some(digest) = parse_digest(behind) {
            rest = &behind[2 * DIGEST_BYTES..];
            if digests.ends_with(&digest) {
                text.push(REPEATED);
                continue;
            }
            count = count.checked_add(1).filter(|count| *count != VERBATIM)?;
            digests.extend_from_slice(&digest);
            text.push(PLACEHOLDER);
        } else {
            text.extend_from_slice(prefix);
            rest = behind;
        }
    }
    text.extend_from_slice(rest);
    Some((count, digests, text))
}

/// Parses the lower-case hex digits of a digest at the beginning of a text.
fn parse_digest(text: &[u8]) -> Option<[u8; DIGEST_BYTES]> {
    let mut digest = [0; DIGEST_BYTES];
    for (byte, pair) in digest.iter_mut().zip(text.get(..2 * DIGEST_BYTES)?.chunks_exact(2)) {
        *byte = (hex_value(pair[0])? << 4) | hex_value(pair[1])?;
    }
    Some(digest)
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn hex_digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

fn pack(bytes: &[u8], level: i32) -> Vec<u8> {
    zstd::bulk::compress(bytes, level).expect("memory takes what is compressed")
}

/// A plan as older versions stored it, whole and in plain zlib, decompressed while it is read.
pub(super) struct Decompressor {
    packed: Vec<u8>,
    at: usize,
    state: Box<InflateState>,
}

impl Decompressor {
    pub(super) fn new(packed: Vec<u8>) -> Self {
        Self { packed, at: 0, state: InflateState::new_boxed(DataFormat::Zlib) }
    }
}

impl io::Read for Decompressor {
    /// # Errors
    /// Returns an error if the compressed data is damaged.
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            let step = inflate(&mut self.state, &self.packed[self.at..], room, MZFlush::None);
            self.at += step.bytes_consumed;
            match step.status {
                Ok(MZStatus::StreamEnd) => return Ok(step.bytes_written),
                Ok(_) | Err(MZError::Buf) if step.bytes_written > 0 || room.is_empty() => return Ok(step.bytes_written),
                Ok(_) if step.bytes_consumed > 0 => {}
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "the packed plan is damaged")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_is_compressed_comes_back_exactly() {
        let digest = "sha256:00ff11223344556677889900aabbccddeeff00112233445566778899aabbccdd";
        let texts = [
            String::new(),
            "[]".to_owned(),
            digest.to_owned(),
            format!("[\"{digest}\",\"{digest}\",\"{digest}0\"]"),
            // None of these is a digest in its canonical spelling.
            digest.to_uppercase(),
            digest[..70].to_owned(),
            digest.replace("sha256", "sha512"),
            "sha256:sha256:".repeat(3) + digest,
            format!("{digest}\u{1}{digest}"),
            format!("{digest}\u{2}{digest}"),
            format!("{digest}{digest}{}{}{digest}", digest.replace("00ff", "ff00"), digest.replace("00ff", "ff00")),
            "ä".repeat(200_000),
        ];
        for text in texts {
            let packed = compress(text.as_bytes());
            assert_eq!(decompress(&packed).unwrap(), text.as_bytes(), "{text:.80}");
            for cut in [0, 3, packed.len() / 2, packed.len() - 1] {
                assert!(decompress(&packed[..cut]).is_err(), "{text:.80} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_digest_takes_little_more_than_its_bytes() {
        let views = |n: u32| {
            let one = |number| {
                let digest = crate::domain::Digest::of(&u32::to_le_bytes(number));
                format!("{{\"repository\":\"shop/api\",\"digest\":\"{digest}\",\"verify\":\"show shop/api@{digest}\"}}")
            };
            (0..n).map(one).collect::<Vec<_>>().join(",")
        };
        let packed = compress(views(1000).as_bytes()).len();
        assert!(packed < 1000 * 34, "{packed} bytes");
    }

    /// As versions before 0018 of the tables stored it: a digest that repeats was stored again.
    #[test]
    fn what_an_older_version_compressed_is_read() {
        let digest = "sha256:00ff11223344556677889900aabbccddeeff00112233445566778899aabbccdd";
        let bytes = parse_digest(&digest.as_bytes()[DIGEST_PREFIX.len()..]).unwrap();
        let packed = [&2_u32.to_le_bytes()[..], &bytes, &bytes, &pack(b"[\x01,\x01]", 3)].concat();
        assert_eq!(decompress(&packed).unwrap(), format!("[{digest},{digest}]").into_bytes());
        let missing = [&1_u32.to_le_bytes()[..], &bytes, &pack(b"[\x02,\x01]", 3)].concat();
        assert!(decompress(&missing).is_err(), "nothing to repeat");
    }

    #[test]
    fn a_plan_of_an_older_version_is_read_in_pieces() {
        let bytes: Vec<u8> = (0..300_000_usize).map(|at| ((at * at) >> 5).to_le_bytes()[0]).collect();
        let packed = miniz_oxide::deflate::compress_to_vec_zlib(&bytes, 1);
        let mut whole = Vec::new();
        Decompressor::new(packed.clone()).read_to_end(&mut whole).unwrap();
        assert!(whole == bytes);
        for cut in [packed.len() / 2, packed.len() - 5] {
            assert!(Decompressor::new(packed[..cut].to_vec()).read_to_end(&mut Vec::new()).is_err(), "cut at {cut}");
        }
    }
}
