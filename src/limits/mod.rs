//! Whose turn: permits, windows, pauses.
//!
//! Every request of a run passes [`Limits::permit`]. All limits of the source must agree, in one
//! step: all or none. See the design, section 5.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Instant};
use crate::event::Wait;
use crate::plan::limit::LimitPlan;

/// The limits of one source.
#[derive(Debug, Clone)]
pub struct Limits {
    _inner: Arc<()>,
}

/// Leave to send one request. Tell it what became of the request; dropping it means "unknown".
#[derive(Debug)]
pub struct Permit {}

/// A wait that a request is about to begin.
#[derive(Debug, Clone)]
pub struct Turn {
    /// What is waited for.
    pub why: Wait,
    /// When it ends at the earliest, where known.
    pub until: Option<Instant>,
}

impl Limits {
    /// Limits of one source: `plans` already reduced to those that count (`if: auth`).
    pub fn new(clock: Clock, plans: &[LimitPlan], concurrency: usize) -> Self {
        let _ = (clock, plans, concurrency);
        todo!()
    }

    /// Waits for a turn, first come first served. `began` hears each wait (limit, pause) that
    /// begins, `ended` how long it took; waiting for concurrency alone is not reported.
    pub async fn permit(
        &self,
        began: impl FnMut(&Turn),
        ended: impl FnMut(&Turn, Duration),
    ) -> Permit {
        let _ = (began, ended);
        todo!()
    }

    /// Holds every request until `until` (never shortens a pause), because the server said `told`.
    pub fn pause(&self, until: Instant, told: &str) {
        let _ = (until, told);
        todo!()
    }
}

impl Permit {
    /// The answer arrived whole (or failed after its headers): the permit returns a window later.
    pub fn answered(self) {
        todo!()
    }
}
