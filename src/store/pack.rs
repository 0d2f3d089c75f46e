//! Plans as they are kept: zlib, packed while they are written.

use std::io;

use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::{MZFlush, MZStatus};

/// How hard it tries, of ten. Digests do not pack and everything else repeats at once, so that more effort takes several
/// times as long for little.
const LEVEL: i32 = 1;

/// How much is packed at once, and how much room there is for what comes of it.
const CHUNK: usize = 64 << 10;

/// What `write` writes, packed. What it writes is never held whole.
pub(super) fn pack(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let flags = create_comp_flags_from_zip_params(LEVEL, 15, 0);
    let packer = Packer { compressor: Box::new(CompressorOxide::new(flags)), packed: Vec::new(), room: vec![0; CHUNK] };
    let mut out = io::BufWriter::with_capacity(CHUNK, packer);
    write(&mut out)?;
    let mut packer = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    packer.push(&[], MZFlush::Finish)?;
    Ok(packer.packed)
}

struct Packer {
    compressor: Box<CompressorOxide>,
    packed: Vec<u8>,
    room: Vec<u8>,
}

impl Packer {
    fn push(&mut self, mut bytes: &[u8], flush: MZFlush) -> io::Result<()> {
        loop {
            let step = deflate(&mut self.compressor, bytes, &mut self.room, flush);
            bytes = &bytes[step.bytes_consumed..];
            self.packed.extend_from_slice(&self.room[..step.bytes_written]);
            match step.status {
                Ok(MZStatus::StreamEnd) => return Ok(()),
                Ok(_) if bytes.is_empty() && flush == MZFlush::None => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(io::Error::other(format!("it cannot be packed: {error:?}"))),
            }
        }
    }
}

impl io::Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes, MZFlush::None)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_at_every_size() {
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17] {
            // Text that repeats, and bytes that hardly do.
            let mixed = |at: usize| if at.is_multiple_of(3) { 7 } else { ((at * at) >> 5).to_le_bytes()[0] };
            let bytes: Vec<u8> = (0..size).map(mixed).collect();
            let packed = pack(|out| bytes.chunks(1000).try_for_each(|part| out.write_all(part))).unwrap();
            assert_eq!(miniz_oxide::inflate::decompress_to_vec_zlib(&packed).unwrap(), bytes, "{size}");
        }
        assert!(pack(|_| Err(io::Error::other("no"))).is_err());
    }
}
