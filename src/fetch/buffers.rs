//! Memory of bodies that are done with, for those that come.
//!
//! A page's body is some hundred kilobytes that live for some milliseconds. Given back to the
//! system and asked for again each time, they cost a page fault for every four kilobytes.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::BytesMut;

/// Most bytes that are kept for bodies to come.
const MOST: usize = 16 << 20;

/// Memory that bodies take turns in.
#[derive(Debug, Default)]
pub struct Buffers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Each with its size; some still hold a body.
    buffers: VecDeque<(usize, BytesMut)>,
    bytes: usize,
}

/// Memory for one body.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    pub(super) bytes: BytesMut,
    /// All that is occupied, of which the body may use a part.
    size: usize,
}

impl Buffers {
    /// An empty buffer with room for so many bytes at least; a new one where that is not known.
    pub(super) fn take(&self, bytes: usize) -> Buffer {
        if bytes == 0 {
            return Buffer::default();
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = kept
            .buffers
            .iter_mut()
            .position(|(size, buffer)| *size >= bytes && buffer.try_reclaim(bytes));
        if let Some((size, bytes)) = free.and_then(|at| kept.buffers.remove(at)) {
            kept.bytes -= size;
            return Buffer { bytes, size };
        }
        drop(kept);
        Buffer {
            bytes: BytesMut::with_capacity(bytes),
            size: 0,
        }
    }

    /// The body in a buffer. What it occupies can be taken again once the body is dropped.
    pub(super) fn fill(&self, buffer: Buffer) -> BytesMut {
        let Buffer { mut bytes, size } = buffer;
        let size = size.max(bytes.capacity());
        let body = bytes.split();
        if body.is_empty() {
            return body;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.bytes + size > MOST
            && let Some((size, _)) = kept.buffers.pop_front()
        {
            kept.bytes -= size;
        }
        if size <= MOST {
            kept.bytes += size;
            kept.buffers.push_back((size, bytes));
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffers: &Buffers, bytes: usize) -> BytesMut {
        let mut buffer = buffers.take(bytes);
        buffer.bytes.resize(bytes, 7);
        buffers.fill(buffer)
    }

    #[test]
    fn memory_is_taken_again_once_its_body_is_dropped() {
        let buffers = Buffers::default();
        let first = filled(&buffers, 1000);
        let place = first.as_ptr();
        let second = filled(&buffers, 1000);
        assert_ne!(second.as_ptr(), place);
        let part = first.freeze().slice(500..510);
        assert_ne!(filled(&buffers, 1000).as_ptr(), place);
        drop(part);
        let again: Vec<_> = (0..3).map(|_| filled(&buffers, 900)).collect();
        assert!(again.iter().any(|body| body.as_ptr() == place));
    }

    #[test]
    fn empty_bodies_hold_nothing_and_small_ones_count_in_full() {
        let buffers = Buffers::default();
        let large = filled(&buffers, 1 << 20);
        assert!((0..100).all(|_| filled(&buffers, 0).is_empty()));
        drop(large);
        let small: Vec<_> = (0..100).map(|_| filled(&buffers, 10)).collect();
        let kept = buffers.0.lock().unwrap();
        assert_eq!((kept.bytes, kept.buffers.len()), (1 << 20, 1));
        drop(small);
    }

    #[test]
    fn no_more_is_kept_than_a_little() {
        let buffers = Buffers::default();
        for _ in 0..5 {
            drop(filled(&buffers, MOST / 2));
        }
        drop(filled(&buffers, MOST + 1));
        let bodies: Vec<_> = (0..9).map(|_| filled(&buffers, MOST / 4)).collect();
        let kept = buffers.0.lock().unwrap();
        assert!(kept.buffers.iter().all(|(size, _)| *size >= MOST / 4));
        let sum: usize = kept.buffers.iter().map(|(size, _)| size).sum();
        assert_eq!(kept.bytes, sum);
        assert!(sum <= MOST && bodies.len() > kept.buffers.len());
    }
}
