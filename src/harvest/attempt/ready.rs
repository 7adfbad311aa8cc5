//! Answers that say "not ready yet": a report that is still made, a job that runs. To ask again later
//! is no attempt, and whoever waits for that holds nothing that others could use: no permit, no bytes
//! of the budget, no place among the partitions side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Instant;
use crate::event::Wait;
use crate::failure::Failure;
use crate::harvest::stream::Stream;
use crate::harvest::trouble;

/// Partitions of a stream that may rest beside those at work: each is a task in memory.
const MOST_RESTING: usize = 1000;

/// An answer that is not there yet.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::harvest) struct NotReady {
    /// What it said.
    pub(in crate::harvest) message: String,
    /// When to ask again, after this answer.
    pub(in crate::harvest) every: Duration,
    /// How long to go on, after the first such answer.
    pub(in crate::harvest) within: Duration,
}

/// How many partitions of a stream rest.
#[derive(Debug, Clone, Default)]
pub(in crate::harvest) struct Resting(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    count: AtomicUsize,
    /// One more began to rest.
    more: Notify,
}

impl Resting {
    /// How many do, as far as others may take their places.
    pub(in crate::harvest) fn count(&self) -> usize {
        self.0.count.load(Ordering::Relaxed).min(MOST_RESTING)
    }

    /// Waits for one that begins to rest.
    pub(in crate::harvest) async fn more(&self) {
        self.0.more.notified().await;
    }

    fn begin(&self) -> Rest<'_> {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.more.notify_one();
        Rest(self)
    }
}

/// A partition that rests.
struct Rest<'r>(&'r Resting);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stream {
    /// Waits until it is time to ask again; a failure once that was tried for long enough. `since` is
    /// when the first such answer came.
    pub(in crate::harvest) async fn rest(
        &self,
        not_ready: &NotReady,
        since: &mut Option<Instant>,
        request: &str,
        place: &str,
    ) -> Result<(), Box<Failure>> {
        let now = self.run.world.clock.now();
        let until = *since.get_or_insert(now) + not_ready.within;
        let message = self.run.secrets.scrub(&not_ready.message);
        if now >= until {
            return Err(trouble::never_ready(
                &message,
                request,
                place,
                not_ready.within,
            ));
        }
        let told = Wait::NotReady {
            told: message.into(),
        };
        // The last look is at the end, not before it.
        let at = (now + not_ready.every).min(until);
        let _rest = self.resting.begin();
        self.wait_until(at, told).await
    }
}
