//! Large values in fewer bytes.
//!
//! Stored is either the value itself, or `C1 4C`, the length of the value (4 bytes, little
//! endian) and an LZ4 block. A value that begins with `C1` by itself is stored behind `C1 50`.

use std::sync::Arc;

use bytes::Bytes;

use super::transform::{FRAME, Transform, Transformed};
use crate::capabilities::Capabilities;
use crate::driver::{DriverError, StateDriver};
use crate::error::ErrorKind;

const LZ4: u8 = b'L';
const PLAIN: u8 = b'P';
const HEADER: usize = 6;
/// What a value may grow by: the two bytes before one that begins like a frame.
const OVERHEAD: usize = 2;
/// No LZ4 block becomes more than this many times its size.
const MOST_EXPANSION: usize = 255;

/// Compresses values above a size with LZ4, where that makes them smaller; others are stored as
/// they are. So the values of programs that compress nothing can be read, and small ones can be
/// read by them.
///
/// Counters stay plain text, and the backend counts as before.
#[derive(Debug, Clone, Copy)]
pub struct Compression {
    above: usize,
    most: usize,
}

impl Compression {
    /// Compresses values of more than this many bytes, at least 64.
    pub const fn above(bytes: usize) -> Self {
        Compression {
            above: if bytes < 64 { 64 } else { bytes },
            most: 16 * 1024 * 1024,
        }
    }

    /// The largest value in bytes before compression; default 16 MiB, at most 4 GiB. A stored
    /// value that claims to become more is refused before memory is taken for it, and one that is
    /// to be stored is [`TooLarge`](crate::ErrorKind::TooLarge).
    #[must_use]
    pub const fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.most = if bytes > u32::MAX as usize {
            u32::MAX as usize
        } else {
            bytes
        };
        self
    }

    pub(super) fn driver(self, inner: Arc<dyn StateDriver>) -> Arc<dyn StateDriver> {
        Transformed::driver(inner, self)
    }

    /// The frame, if it is smaller than the value.
    fn compressed(&self, value: &[u8]) -> Option<Bytes> {
        if value.len() <= self.above {
            return None;
        }
        let length = u32::try_from(value.len()).ok()?;
        let room = HEADER + lz4_flex::block::get_maximum_output_size(value.len());
        let mut frame = vec![0; room];
        let (header, block) = frame.split_at_mut(HEADER);
        let [l0, l1, l2, l3] = length.to_le_bytes();
        header.copy_from_slice(&[FRAME, LZ4, l0, l1, l2, l3]);
        let written = lz4_flex::block::compress_into(value, block).ok()?;
        frame.truncate(HEADER + written);
        (frame.len() < value.len()).then(|| Bytes::from(frame.into_boxed_slice()))
    }

    fn decompressed(&self, block: &[u8]) -> Result<Bytes, DriverError> {
        let Some((length, block)) = block.split_first_chunk() else {
            return Err(damaged());
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > self.most {
            let most = self.most;
            let message = format!("the stored value claims {length} bytes, {most} are allowed");
            return Err(DriverError::new(ErrorKind::TooLarge, message));
        }
        if length > block.len().saturating_mul(MOST_EXPANSION) {
            return Err(damaged());
        }
        match lz4_flex::block::decompress(block, length) {
            Ok(value) if value.len() == length => Ok(value.into()),
            _ => Err(damaged()),
        }
    }
}

impl Transform for Compression {
    fn seal(&self, _: &str, value: Bytes) -> Result<Bytes, DriverError> {
        if let Some(frame) = self.compressed(&value) {
            return Ok(frame);
        }
        if value.first() != Some(&FRAME) {
            return Ok(value);
        }
        let mut frame = Vec::with_capacity(OVERHEAD + value.len());
        frame.extend_from_slice(&[FRAME, PLAIN]);
        frame.extend_from_slice(&value);
        Ok(frame.into())
    }

    fn open(&self, _: &str, stored: Bytes) -> Result<Bytes, DriverError> {
        match &*stored {
            [FRAME, LZ4, block @ ..] => self.decompressed(block),
            [FRAME, PLAIN, ..] => Ok(stored.slice(OVERHEAD..)),
            [FRAME, ..] => Err(damaged()),
            _ => Ok(stored),
        }
    }

    fn capabilities(&self, inside: Capabilities) -> Capabilities {
        let most = match inside.max_value_bytes {
            usize::MAX => self.most,
            bytes => self.most.min(bytes.saturating_sub(OVERHEAD)),
        };
        inside.with_max_value_bytes(most)
    }

    fn keeps_integers(&self) -> bool {
        true
    }
}

#[cold]
fn damaged() -> DriverError {
    let message = "the stored bytes are no value that this layer has compressed, or are damaged";
    DriverError::new(ErrorKind::Decode, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(value: &[u8]) -> Bytes {
        let layer = Compression::above(64);
        layer.seal("k", Bytes::copy_from_slice(value)).unwrap()
    }

    fn opened(stored: &[u8]) -> Result<Bytes, DriverError> {
        Compression::above(64).open("k", Bytes::copy_from_slice(stored))
    }

    #[test]
    fn large_values_shrink_and_small_or_dense_ones_stay_as_they_are() {
        let large = b"{\"a\":[1,2,3]}".repeat(1000);
        let stored = sealed(&large);
        assert!(stored.len() < large.len() / 10, "{}", stored.len());
        assert_eq!(opened(&stored).unwrap(), large);
        let dense: Vec<u8> = (0..500_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        for plain in [&b"{}"[..], b"", &[b'x'; 64], &dense] {
            assert_eq!(sealed(plain), plain);
            assert_eq!(opened(plain).unwrap(), plain);
        }
    }

    #[test]
    fn values_that_look_like_frames_come_back_as_they_were() {
        let long = [&[FRAME, LZ4, 0, 0, 0, 0][..], &[0; 100]].concat();
        for odd in [&[FRAME][..], &[FRAME, LZ4], &[FRAME, PLAIN, 1], &long] {
            let stored = sealed(odd);
            assert_ne!(stored, odd);
            assert_eq!(opened(&stored).unwrap(), odd);
        }
    }

    #[test]
    fn a_bomb_is_refused_before_memory_is_taken() {
        let frame =
            |length: u32, block: &[u8]| [&[FRAME, LZ4][..], &length.to_le_bytes(), block].concat();
        let error = opened(&frame(u32::MAX, &[0; 100])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let error = opened(&frame(1_000_000, &[0; 100])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        let mut stored = sealed(&[b'x'; 10_000]).to_vec();
        stored[2..6].copy_from_slice(&9_999_u32.to_le_bytes());
        assert_eq!(opened(&stored).unwrap_err().kind(), ErrorKind::Decode);
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let stored = sealed(&b"the quick brown fox ".repeat(20));
        for at in 0..stored.len() {
            let mut damaged = stored.to_vec();
            damaged[at] ^= 0x55;
            let _ = opened(&damaged);
            let _ = opened(&stored[..at]);
        }
        assert_eq!(
            opened(&[FRAME, b'?']).unwrap_err().kind(),
            ErrorKind::Decode
        );
        assert_eq!(opened(&stored[..4]).unwrap_err().kind(), ErrorKind::Decode);
    }
}
