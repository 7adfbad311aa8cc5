//! Memory of bodies that are done with, for those that come.
//!
//! A page's body is some hundred kilobytes that live for some milliseconds. Given back to the
//! system and asked for again each time, they cost a page fault for every four kilobytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;

/// Most bytes that are kept for bodies to come.
const MOST: usize = 8 << 20;

/// So many of those that were in use are looked at again each time.
const LOOKED_AT: usize = 4;

/// Memory that bodies take turns in.
#[derive(Debug, Default)]
pub struct Buffers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// When last looked at these still held a body; the oldest first.
    filled: VecDeque<Buffer>,
    /// These hold none. The last is taken first: what was in use last is still near the processor.
    free: Vec<Buffer>,
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
        let mut kept = self.kept();
        kept.look();
        // A small body would hold on to all of a large one.
        let fits = |buffer: &Buffer| buffer.size >= bytes && buffer.size / 2 <= bytes;
        if let Some(at) = kept.free.iter().rposition(fits) {
            let buffer = kept.free.remove(at);
            kept.bytes -= buffer.size;
            return buffer;
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
        if body.is_empty() || size > MOST {
            return body;
        }
        let mut kept = self.kept();
        while kept.bytes + size > MOST {
            kept.forget();
        }
        kept.bytes += size;
        kept.filled.push_back(Buffer { bytes, size });
        body
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Finds those whose bodies are gone: mostly the oldest. One that stays is no reason not to see the others.
    fn look(&mut self) {
        for _ in 0..LOOKED_AT.min(self.filled.len()) {
            let Some(mut buffer) = self.filled.pop_front() else {
                return;
            };
            if buffer.bytes.try_reclaim(buffer.size) {
                self.free.push(buffer);
            } else {
                self.filled.push_back(buffer);
            }
        }
    }

    /// Keeps one less: the one that is free for longest, or else in use for longest.
    fn forget(&mut self) {
        let gone = if self.free.is_empty() {
            self.filled.pop_front()
        } else {
            Some(self.free.remove(0))
        };
        self.bytes -= gone.map_or(self.bytes, |gone| gone.size);
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
    fn what_was_in_use_last_is_taken_first() {
        let buffers = Buffers::default();
        let [first, second] = [(); 2].map(|()| filled(&buffers, 1000));
        let places = [first.as_ptr(), second.as_ptr()];
        drop((first, second));
        let again = [(); 2].map(|()| filled(&buffers, 1000));
        assert_eq!(
            again.each_ref().map(|body| body.as_ptr()),
            [places[1], places[0]]
        );
    }

    #[test]
    fn a_body_that_stays_hides_no_others() {
        let buffers = Buffers::default();
        let stays: Vec<_> = (0..LOOKED_AT).map(|_| filled(&buffers, 1000)).collect();
        let goes = filled(&buffers, 1000);
        let place = goes.as_ptr();
        drop(goes);
        let again = [(); 2].map(|()| filled(&buffers, 1000));
        assert!(again.iter().any(|body| body.as_ptr() == place));
        drop(stays);
    }

    #[test]
    fn empty_bodies_hold_nothing_and_small_ones_little() {
        let buffers = Buffers::default();
        let large = filled(&buffers, 1 << 20);
        assert!((0..100).all(|_| filled(&buffers, 0).is_empty()));
        drop(large);
        let small: Vec<_> = (0..100).map(|_| filled(&buffers, 10)).collect();
        let kept = buffers.kept();
        assert_eq!((kept.free.len(), kept.filled.len()), (1, 100));
        assert!(kept.bytes < (1 << 20) + 100 * 100);
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
        let kept = buffers.kept();
        let all = || kept.free.iter().chain(&kept.filled);
        assert!(all().all(|buffer| buffer.size >= MOST / 4));
        let sum: usize = all().map(|buffer| buffer.size).sum();
        assert_eq!(kept.bytes, sum);
        assert!(sum <= MOST && bodies.len() > all().count());
    }
}
