//! Blobs: small ones as bytes, layers as a recipe that is evaluated whenever they are read.

use std::sync::Arc;

use axum::body::Bytes;
use sha2::{Digest as _, Sha256};

use crate::domain::Digest;

/// The content behind a digest.
///
/// A layer of 30 MB costs its recipe only; its bytes exist while they are hashed, once, and while they are sent.
#[derive(Debug, Clone)]
pub struct Blob {
    digest: Digest,
    length: u64,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Bytes),
    Layer(Arc<LayerRecipe>),
}

/// The recipe of a layer: an uncompressed tar archive of one file, whose content repeats one block.
#[derive(Debug)]
struct LayerRecipe {
    header: [u8; TAR_BLOCK],
    block: Bytes,
    file_length: u64,
}

/// The size of a tar block; archives end with two blocks of zeros.
const TAR_BLOCK: usize = 512;
/// The size of the pieces in which layers are generated and sent.
const CHUNK_SIZE: usize = 64 * 1024;

impl Blob {
    /// Creates a blob of those bytes.
    #[must_use]
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::with_digest(Digest::of(&bytes), bytes)
    }

    /// Creates a blob of bytes with a known digest, of any algorithm.
    #[must_use]
    pub fn with_digest(digest: Digest, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest, length: bytes.len() as u64, content: Content::Bytes(bytes) }
    }

    /// Creates an uncompressed layer with one file of `file_length` bytes at `path`; equal arguments give equal layers.
    ///
    /// Container engines can unpack it. Being uncompressed, its digest is also its `diff_id`.
    ///
    /// # Panics
    /// If `path` has more than the 100 bytes that a plain tar header holds.
    #[must_use]
    pub fn layer(path: &str, file_length: u64) -> Self {
        let recipe =
            LayerRecipe { header: tar_header(path, file_length), block: block(path, file_length), file_length };
        let mut hash = Sha256::new();
        let mut length = 0;
        for piece in recipe.chunks() {
            hash.update(&piece);
            length += piece.len() as u64;
        }
        let digest = hash.finalize().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        let digest = digest.parse().expect("a hash written as hex is a digest");
        Self { digest, length, content: Content::Layer(Arc::new(recipe)) }
    }

    /// Returns its digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns its length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns its bytes, in pieces.
    #[must_use]
    pub fn chunks(&self) -> Box<dyn Iterator<Item = Bytes> + Send> {
        match &self.content {
            Content::Bytes(bytes) => Box::new(std::iter::once(bytes.clone())),
            Content::Layer(recipe) => Box::new(recipe.chunks()),
        }
    }
}

impl LayerRecipe {
    fn chunks(&self) -> impl Iterator<Item = Bytes> + Send + use<> {
        let (block, length, piece) = (self.block.clone(), self.file_length, CHUNK_SIZE as u64);
        let body = (0..length.div_ceil(piece)).map(move |index| {
            let left = usize::try_from((length - index * piece).min(piece)).expect("a piece fits into memory");
            block.slice(..left)
        });
        let padding = usize::try_from(length.next_multiple_of(TAR_BLOCK as u64) - length).expect("less than a block");
        let end = Bytes::from(vec![0; padding + 2 * TAR_BLOCK]);
        std::iter::once(Bytes::copy_from_slice(&self.header)).chain(body).chain(std::iter::once(end))
    }
}

/// Bytes that look random, from a xorshift generator seeded with the name and length of the file.
fn block(path: &str, file_length: u64) -> Bytes {
    let seed = Sha256::digest(format!("{path}\n{file_length}"));
    let mut state = u64::from_le_bytes(seed[..8].try_into().expect("eight of 32 bytes")) | 1;
    let length = usize::try_from(file_length).unwrap_or(CHUNK_SIZE).min(CHUNK_SIZE);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// Returns the header of a regular file, in the `ustar` format of POSIX.
fn tar_header(path: &str, file_length: u64) -> [u8; TAR_BLOCK] {
    let mut header = [0; TAR_BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    assert!(path.len() <= 100, "a plain tar header holds 100 bytes of path");
    put(0, path);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{file_length:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let checksum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{checksum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(blob: &Blob) -> Vec<u8> {
        blob.chunks().flatten().collect()
    }

    #[test]
    fn a_layer_is_what_its_digest_and_length_say() {
        for length in [0, 1, 511, 512, 65_535, 65_536, 65_537, 200_000] {
            let layer = Blob::layer("app/server", length);
            let bytes = bytes(&layer);
            assert_eq!(bytes.len() as u64, layer.length());
            assert_eq!(bytes.len() % TAR_BLOCK, 0);
            assert!(layer.digest().matches(&bytes), "{length}");
            assert_eq!(&bytes[257..262], b"ustar");
        }
    }

    #[test]
    fn equal_recipes_give_equal_layers_and_others_do_not() {
        let layer = Blob::layer("a", 1000);
        assert_eq!(layer.digest(), Blob::layer("a", 1000).digest());
        assert_ne!(layer.digest(), Blob::layer("b", 1000).digest());
        assert_ne!(layer.digest(), Blob::layer("a", 1001).digest());
    }
}
