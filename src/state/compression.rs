//! Plans as they are kept: zlib, packed while they are written.

use std::io;
use std::sync::Arc;

use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// How hard it tries, of ten. Digests do not pack and everything else repeats at once, so that more effort takes several
/// times as long for little.
const COMPRESSION_LEVEL: i32 = 1;

/// How much is packed at once, and how much room there is for what comes of it.
const CHUNK: usize = 64 << 10;

/// Bytes after which a part is handed on.
const PART: usize = 256 << 10;

/// Packs what `write` writes, and hands it on in parts. Neither is ever held whole.
pub(super) fn compress(
    write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    take: impl FnMut(Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    let flags = create_comp_flags_from_zip_params(COMPRESSION_LEVEL, 15, 0);
    let compressor = Box::new(CompressorOxide::new(flags));
    let packer = Compressor {
        deflate: compressor,
        packed: Vec::with_capacity(PART + CHUNK),
        buffer: vec![0; CHUNK],
        emit: take,
    };
    let mut out = io::BufWriter::with_capacity(CHUNK, packer);
    write(&mut out)?;
    let mut packer = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    packer.push(&[], MZFlush::Finish)?;
    (packer.emit)(packer.packed)
}

struct Compressor<F> {
    deflate: Box<CompressorOxide>,
    packed: Vec<u8>,
    buffer: Vec<u8>,
    emit: F,
}

impl<F: FnMut(Vec<u8>) -> io::Result<()>> Compressor<F> {
    fn push(&mut self, mut bytes: &[u8], flush: MZFlush) -> io::Result<()> {
        loop {
            let step = deflate(&mut self.deflate, bytes, &mut self.buffer, flush);
            bytes = &bytes[step.bytes_consumed..];
            self.packed.extend_from_slice(&self.buffer[..step.bytes_written]);
            if self.packed.len() >= PART {
                (self.emit)(std::mem::replace(&mut self.packed, Vec::with_capacity(PART + CHUNK)))?;
            }
            match step.status {
                Ok(MZStatus::StreamEnd) => return Ok(()),
                Ok(_) if bytes.is_empty() && flush == MZFlush::None => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(io::Error::other(format!("it cannot be packed: {error:?}"))),
            }
        }
    }
}

impl<F: FnMut(Vec<u8>) -> io::Result<()>> io::Write for Compressor<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes, MZFlush::None)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A packed plan, unpacked while it is read. A clone goes on from the same place, so that one kept at some place leads
/// back there without reading what comes before.
#[derive(Clone)]
pub struct Decompressor {
    packed: Arc<Vec<u8>>,
    at: usize,
    state: Box<InflateState>,
}

impl Decompressor {
    pub(super) fn new(packed: Vec<u8>) -> Self {
        Self { packed: Arc::new(packed), at: 0, state: InflateState::new_boxed(DataFormat::Zlib) }
    }
}

impl io::Read for Decompressor {
    /// # Errors
    /// When what was packed is damaged.
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

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unpacker at {} of {}", self.at, self.packed.len())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_is_packed_comes_back_at_every_size() {
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17, 5 * PART] {
            // Text that repeats, and bytes that hardly do.
            let mixed = |at: usize| if at.is_multiple_of(3) { 7 } else { ((at * at) >> 5).to_le_bytes()[0] };
            let bytes: Vec<u8> = (0..size).map(mixed).collect();
            let mut packed = Vec::new();
            let keep = |part: Vec<u8>| {
                assert!(part.len() < PART + CHUNK);
                packed.extend(part);
                Ok(())
            };
            compress(|out| bytes.chunks(1000).try_for_each(|part| out.write_all(part)), keep).unwrap();
            assert_eq!(miniz_oxide::inflate::decompress_to_vec_zlib(&packed).unwrap(), bytes, "{size}");

            let mut unpacker = Decompressor::new(packed.clone());
            let mut start = vec![0; size / 3];
            unpacker.read_exact(&mut start).unwrap();
            let mut again = unpacker.clone();
            for rest in [&mut unpacker, &mut again] {
                let mut whole = start.clone();
                rest.read_to_end(&mut whole).unwrap();
                assert_eq!(whole, bytes, "{size}");
            }
            for cut in [packed.len() / 2, packed.len() - 5] {
                let read = Decompressor::new(packed[..cut].to_vec()).read_to_end(&mut Vec::new());
                assert!(read.is_err(), "{size} cut at {cut}");
            }
        }
        assert!(compress(|_| Err(io::Error::other("no")), |_| Ok(())).is_err());
        assert!(compress(|_| Ok(()), |_| Err(io::Error::other("no"))).is_err());
    }
}
