//! Whose turn: permits, windows, pauses.
//!
//! Every request of a run passes [`Limits::permit`]. All limits of the source must agree, in one
//! step: all or none. See the design, section 5.
//!
//! - `log`: the law of one limit, N permits
//! - `cell`: spacing inside its window, added to the law
//! - `gate`: the decision over slots, pause and all limits
//!
//! This file is the door: who asked first goes first, and it is the one place that waits.

mod cell;
mod gate;
mod log;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::{Clock, Instant};
use crate::event::Wait;
use crate::plan::limit::LimitPlan;

use self::gate::Gate;

/// The limits of one source. Clones share them.
#[derive(Debug, Clone)]
pub struct Limits {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    /// Held by whoever is next; the others wait in order of arrival (tokio's mutex is fair).
    line: tokio::sync::Mutex<()>,
    gate: Mutex<Gate>,
    /// Tells the one at the head of the line that the gate has changed.
    changed: Notify,
}

/// Leave to send one request; it occupies a slot among those in flight until it is gone.
///
/// Tell it when the request was answered. Dropping it means "given up, fate unknown": the server
/// may have counted the request, or may yet do so.
#[must_use = "a permit that is dropped counts as a request whose fate is unknown"]
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    answered: bool,
}

/// A wait that a request is about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What is waited for.
    pub why: Wait,
    /// When it ends at the earliest; `None` while that depends on unanswered requests.
    pub until: Option<Instant>,
}

impl Limits {
    /// Limits of one source: `plans` already reduced to those that count (`if: auth`).
    pub fn new(clock: Clock, plans: &[LimitPlan], concurrency: usize) -> Self {
        let shared = Arc::new(Shared {
            clock,
            line: tokio::sync::Mutex::default(),
            gate: Mutex::new(Gate::new(plans, concurrency, clock.now())),
            changed: Notify::new(),
        });
        Self { shared }
    }

    /// Waits for a turn, first come first served, and takes everything it needs in one step.
    ///
    /// Only the one at the head of the line reports: `began` hears each wait it begins (what
    /// binds, [`Wait::Concurrency`] too), `ended` the same wait and how long it took. So times
    /// of different waits never overlap and may be added up. A wait whose reason or end changes
    /// is ended and begun anew. Dropping the future ends the wait and takes nothing.
    pub async fn permit(
        &self,
        mut began: impl FnMut(&Turn),
        ended: impl FnMut(&Turn, Duration),
    ) -> Permit {
        let shared = &self.shared;
        // Dropped after `report`, so that a wait has ended before the next one begins.
        let _head = shared.line.lock().await;
        let mut report = Report {
            clock: shared.clock,
            current: None,
            ended,
        };
        loop {
            let now = shared.clock.now();
            let taken = shared.gate().take(now);
            let Err(turn) = taken else {
                return Permit {
                    shared: Arc::clone(shared),
                    answered: false,
                };
            };
            let until = turn.until;
            if report
                .current
                .as_ref()
                .is_none_or(|(other, _)| *other != turn)
            {
                report.end();
                began(&turn);
                report.current = Some((turn, now));
            }
            shared.wait(until).await;
        }
    }

    /// Holds every request until `until` (never shortens a pause), because the server said `told`.
    pub fn pause(&self, until: Instant, told: &str) {
        let now = self.shared.clock.now();
        self.shared.gate().pause(now, until, told);
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        // The gate is whole after every step that could panic, so a poisoned one is still right.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `until` or until the gate has changed, whichever is first.
    async fn wait(&self, until: Option<Instant>) {
        let changed = self.changed.notified();
        match until {
            // Either end is a reason to ask the gate again.
            Some(until) => (self.clock.timeout_at(until, changed).await).unwrap_or_default(),
            None => changed.await,
        }
    }
}

impl Permit {
    /// The answer arrived whole (or failed after its headers): the permit returns a window later.
    pub fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        let mut gate = self.shared.gate();
        if self.answered {
            gate.answered(now);
        } else {
            gate.abandoned(now);
        }
        drop(gate);
        self.shared.changed.notify_one();
    }
}

/// Reports the end of every wait whose beginning was reported, however it ends.
struct Report<F: FnMut(&Turn, Duration)> {
    clock: Clock,
    current: Option<(Turn, Instant)>,
    ended: F,
}

impl<F: FnMut(&Turn, Duration)> Report<F> {
    fn end(&mut self) {
        if let Some((turn, since)) = self.current.take() {
            let took = self.clock.now().saturating_duration_since(since);
            (self.ended)(&turn, took);
        }
    }
}

impl<F: FnMut(&Turn, Duration)> Drop for Report<F> {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
