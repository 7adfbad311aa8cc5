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

impl Buffers {
    /// An empty buffer with room for so many bytes at least.
    pub(super) fn take(&self, bytes: usize) -> BytesMut {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = kept
            .buffers
            .iter_mut()
            .position(|(size, buffer)| *size >= bytes && buffer.try_reclaim(bytes));
        if let Some((size, buffer)) = free.and_then(|at| kept.buffers.remove(at)) {
            kept.bytes -= size;
            return buffer;
        }
        drop(kept);
        BytesMut::with_capacity(bytes)
    }

    /// The body in a buffer. What it occupies can be taken again once the body is dropped.
    pub(super) fn fill(&self, mut buffer: BytesMut) -> BytesMut {
        let size = buffer.capacity();
        let body = buffer.split();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.bytes + size > MOST
            && let Some((size, _)) = kept.buffers.pop_front()
        {
            kept.bytes -= size;
        }
        if size <= MOST {
            kept.bytes += size;
            kept.buffers.push_back((size, buffer));
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffers: &Buffers, bytes: usize) -> BytesMut {
        let mut buffer = buffers.take(bytes);
        buffer.resize(bytes, 7);
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
    fn no_more_is_kept_than_a_little() {
        let buffers = Buffers::default();
        for _ in 0..5 {
            drop(filled(&buffers, MOST / 2));
        }
        drop(filled(&buffers, MOST + 1));
        let bodies: Vec<_> = (0..9).map(|_| filled(&buffers, MOST / 4)).collect();
        let kept = buffers.0.lock().unwrap();
        let sum: usize = kept.buffers.iter().map(|(size, _)| size).sum();
        assert_eq!(kept.bytes, sum);
        assert!(sum <= MOST && bodies.len() > kept.buffers.len());
    }
}
