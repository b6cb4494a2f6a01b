//! A buffer for each thread, in which values are written whose length is not known before.

use std::cell::Cell;

use bytes::Bytes;

/// A buffer with more in it than this is given away instead of being copied and kept.
const KEPT: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What `write` appends to an empty buffer, without any spare room: memory keeps these bytes.
pub(super) fn written<E>(write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Bytes, E> {
    // Taken out meanwhile: while one value is written, its code may store another.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    write(&mut buffer)?;
    if buffer.len() > KEPT {
        return Ok(Bytes::from(buffer.into_boxed_slice()));
    }
    let bytes = Bytes::copy_from_slice(&buffer);
    // Where the thread is being torn down there is no place for it any more.
    let _ = BUFFER.try_with(|kept| kept.set(buffer));
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn of(bytes: &[u8]) -> Bytes {
        let write = |buffer: &mut Vec<u8>| {
            buffer.extend_from_slice(bytes);
            Ok::<(), Infallible>(())
        };
        written(write).unwrap()
    }

    #[test]
    fn values_share_nothing_whatever_their_size() {
        let large = vec![b'x'; 3 * KEPT];
        let values = [of(b"abc"), of(&large), of(b""), of(b"d")];
        assert_eq!(values.map(|value| value.len()), [3, 3 * KEPT, 0, 1]);
        assert_eq!((of(&large), of(b"abc")), (large.into(), "abc".into()));
    }

    #[test]
    fn a_value_may_write_another_and_a_failure_leaves_nothing() {
        let both = written(|outer| {
            outer.extend_from_slice(b"out");
            outer.extend_from_slice(&of(b"in"));
            Ok::<(), Infallible>(())
        });
        assert_eq!(both.unwrap(), "outin");
        let failed = written(|buffer| {
            buffer.extend_from_slice(b"half");
            Err(())
        });
        assert_eq!((failed, of(b"whole")), (Err(()), "whole".into()));
    }

    #[test]
    fn a_buffer_that_grew_for_a_large_value_is_not_kept() {
        of(b"small");
        of(&vec![b'x'; 3 * KEPT]);
        let kept = BUFFER.take();
        assert!(kept.capacity() <= 2 * KEPT, "{}", kept.capacity());
    }
}
