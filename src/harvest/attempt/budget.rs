//! How many bytes of pages may be between the network and the disk.
//!
//! Bytes are reserved before a permit is taken, so a slow disk slows the fetch and a permit never
//! waits. A page's size is unknown before it comes: the largest seen so far is reserved and a quarter
//! more, since the pages of an API differ a little. One that turns out larger than that goes on
//! alone: others that do so too wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fetch::buffers::Buffers;
use crate::fetch::room::Room;

/// Bytes of all pages that are being fetched or written.
const TOTAL: u32 = 32 * 1024 * 1024;
/// Reserved for the first pages, before any size is known.
const FIRST_GUESS: u32 = 256 * 1024;
/// A page may stand in memory as a body and as lines.
const COPIES: u32 = 2;

/// The byte budget of a run.
#[derive(Debug, Clone)]
pub(in crate::harvest) struct Budget {
    bytes: Arc<Semaphore>,
    /// The right to be larger than what was reserved.
    larger: Arc<Semaphore>,
    guess: Arc<AtomicU32>,
    buffers: Arc<Buffers>,
}

/// Bytes held for one page; given back when dropped.
#[derive(Debug)]
pub(in crate::harvest) struct Reservation {
    held: OwnedSemaphorePermit,
    larger: Arc<Semaphore>,
    buffers: Arc<Buffers>,
    /// The right to be larger, if the page needed it.
    outgrown: Room,
}

impl Reservation {
    /// Room for one answer.
    pub(in crate::harvest) fn room(&self) -> Room {
        Room::new(
            self.held.num_permits() / COPIES as usize,
            Arc::clone(&self.larger),
            Arc::clone(&self.buffers),
        )
    }

    /// The page has come and needs the room that its answer took.
    pub(in crate::harvest) fn keep(&mut self, room: Room) {
        self.outgrown = room;
    }

    /// The page came and occupies so much: what was reserved beyond that goes back.
    pub(in crate::harvest) fn shrink(&mut self, bytes: usize) {
        let excess = self.held.num_permits().saturating_sub(bytes);
        drop(self.held.split(excess));
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: Arc::new(Semaphore::new(TOTAL as usize)),
            larger: Arc::new(Semaphore::new(1)),
            guess: Arc::new(AtomicU32::new(FIRST_GUESS)),
            buffers: Arc::default(),
        }
    }
}

impl Budget {
    /// Waits until there is room for one more page. A single page may be larger than everything:
    /// it then takes the whole budget and goes alone.
    pub(in crate::harvest) async fn reserve(&self) -> Option<Reservation> {
        let want = self
            .guess
            .load(Ordering::Relaxed)
            .saturating_mul(COPIES)
            .min(TOTAL);
        let held = self.bytes.clone().acquire_many_owned(want).await.ok()?;
        Some(Reservation {
            held,
            larger: Arc::clone(&self.larger),
            buffers: Arc::clone(&self.buffers),
            outgrown: Room::default(),
        })
    }

    /// A page of this size came: what is reserved next time.
    pub(in crate::harvest) fn learn(&self, bytes: usize) {
        let bytes = u32::try_from(bytes.saturating_add(bytes / 4)).unwrap_or(u32::MAX);
        // The first real page replaces the guess; from then on the largest counts.
        let _ = self
            .guess
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |guess| {
                if guess == FIRST_GUESS {
                    Some(bytes.max(1024))
                } else {
                    (bytes > guess).then_some(bytes)
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_that_differ_a_little_need_no_right() {
        let budget = Budget::default();
        budget.learn(30_000);
        let room = budget.reserve().await.expect("a reservation").room();
        assert!(room.has(37_000) && !room.has(40_000));
    }

    #[tokio::test]
    async fn pages_larger_than_the_budget_go_alone() {
        let budget = Budget::default();
        budget.learn(10 * TOTAL as usize);
        let held = budget.reserve().await.expect("a reservation");
        assert_eq!(budget.bytes.available_permits(), 0);
        drop(held);
        assert_eq!(budget.bytes.available_permits(), TOTAL as usize);
    }
}
