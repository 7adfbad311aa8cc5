//! Room in memory for one body: what was set aside for it, and beyond that the right to be larger,
//! which one body at a time has.
//!
//! How large a body is shows only while it comes. What waits here waits in the middle of an answer,
//! so that the server is slowed by its own connection; whoever has the right waits for nobody, so
//! that it is given back.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::buffers::Buffers;

/// Room for one body. The default is without bounds.
#[derive(Debug, Default)]
pub struct Room {
    /// Bytes; beyond these the right is needed.
    set_aside: usize,
    larger: Option<Arc<Semaphore>>,
    /// Where its memory comes from.
    pub(super) buffers: Arc<Buffers>,
    /// The right to be larger, given back when dropped.
    alone: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Room for so many bytes; `larger` holds one permit for all bodies that share it.
    pub fn new(set_aside: usize, larger: Arc<Semaphore>, buffers: Arc<Buffers>) -> Self {
        Self {
            set_aside,
            larger: Some(larger),
            buffers,
            alone: None,
        }
    }

    /// Waits until there is room for a body of so many bytes.
    pub async fn hold(&mut self, bytes: usize) {
        if let Some(larger) = &self.larger
            && bytes > self.set_aside
            && self.alone.is_none()
        {
            // It is never closed.
            self.alone = Arc::clone(larger).acquire_owned().await.ok();
        }
    }

    /// The body takes no more than was set aside after all.
    pub(super) fn give_back(&mut self) {
        self.alone = None;
    }

    /// Whether there is room for a body of so many bytes without a wait.
    pub fn has(&self, bytes: usize) -> bool {
        self.larger.is_none() || self.alone.is_some() || bytes <= self.set_aside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_body_at_a_time_is_larger() {
        let larger = Arc::new(Semaphore::new(1));
        let mut first = Room::new(10, Arc::clone(&larger), Arc::default());
        let mut second = Room::new(10, Arc::clone(&larger), Arc::default());
        first.hold(10).await;
        second.hold(10).await;
        assert_eq!(larger.available_permits(), 1);
        first.hold(11).await;
        first.hold(1000).await;
        assert!(first.has(5000) && !second.has(11));
        assert!(second.has(10));
        let waits = tokio::spawn(async move {
            second.hold(11).await;
            second
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(first);
        assert!(waits.await.expect("no panic").has(11));
        assert!(Room::default().has(usize::MAX));
    }
}
