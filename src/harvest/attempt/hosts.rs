//! The hosts of a run and who may ask them: waits where `circuit` says so.
//!
//! A request passes its host first and the limits after that, so that what waits for a host that
//! is away, or for its turn after a pause, holds no permit and no slot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use url::{Position, Url};

use super::circuit::{Ask, Came, Circuit, Ticket};
use crate::clock::{Clock, Instant};
use crate::event::{Fact, FailureClass, Wait};
use crate::failure::Failure;
use crate::harvest::stream::Stream;
use crate::harvest::trouble;
use crate::limits::{Needs, Permit};

/// The hosts of a run.
#[derive(Debug)]
pub(in crate::harvest) struct Hosts {
    clock: Clock,
    /// The run's concurrency.
    wide: u32,
    /// The longest outage.
    patience: Duration,
    known: Mutex<HashMap<String, Arc<Host>>>,
}

#[derive(Debug)]
struct Host {
    /// Held by whoever is next; the others wait in order of arrival (tokio's mutex is fair).
    line: tokio::sync::Mutex<()>,
    circuit: Mutex<Circuit>,
    /// Tells the one at the head of the line that the circuit has changed.
    changed: Notify,
}

/// Leave to ask a host; says what came of it. Dropping it means that nobody knows.
#[must_use = "a pass that is dropped counts as a request that was not sent"]
#[derive(Debug)]
pub(in crate::harvest) struct Pass {
    host: Arc<Host>,
    clock: Clock,
    ticket: Option<Ticket>,
}

/// A host has not answered for this long, and nobody waits for it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::harvest) struct Gone(pub(in crate::harvest) Duration);

impl Hosts {
    /// No host is known yet.
    pub(in crate::harvest) fn new(clock: Clock, concurrency: usize, patience: Duration) -> Self {
        Self {
            clock,
            wide: u32::try_from(concurrency).unwrap_or(u32::MAX),
            patience,
            known: Mutex::default(),
        }
    }

    fn of(&self, url: &Url) -> Arc<Host> {
        // Its origin, where a serialization would format the address anew each time.
        let name = [
            &url[..Position::AfterScheme],
            &url[Position::BeforeHost..Position::AfterPort],
        ]
        .concat();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let host = known.entry(name).or_insert_with(|| {
            Arc::new(Host {
                line: tokio::sync::Mutex::default(),
                circuit: Mutex::new(Circuit::new(self.wide, self.patience)),
                changed: Notify::new(),
            })
        });
        Arc::clone(host)
    }

    /// Waits until the host of `url` may be asked, first come first served. Who is to send the
    /// next probe of a host that is away hears of it in `probe`.
    async fn pass(&self, url: &Url, mut probe: impl FnMut(Instant)) -> Result<Pass, Gone> {
        let host = self.of(url);
        let head = host.line.lock().await;
        loop {
            let now = self.clock.now();
            let until = {
                let mut circuit = host.circuit();
                match circuit.ask(now) {
                    Ask::Go => {
                        let ticket = Some(circuit.go());
                        drop(circuit);
                        drop(head);
                        return Ok(Pass {
                            host,
                            clock: self.clock,
                            ticket,
                        });
                    }
                    Ask::Gone(since) => return Err(Gone(now.saturating_duration_since(since))),
                    Ask::Probe(at) => Some(at),
                    Ask::Later => None,
                }
            };
            let changed = host.changed.notified();
            match until {
                Some(at) => {
                    probe(at);
                    // Either end is a reason to ask again.
                    (self.clock.timeout_at(at, changed).await).unwrap_or_default();
                }
                None => changed.await,
            }
        }
    }

    /// Takes what the repeat of a failed request to the host of `url` costs, see
    /// [`Circuit::repeat`].
    pub(in crate::harvest) fn repeat(&self, url: &Url, slow: bool) -> Option<u32> {
        self.of(url).circuit().repeat(slow)
    }

    /// A repeat that took this much was answered.
    pub(in crate::harvest) fn give_back(&self, url: &Url, taken: u32) {
        if taken > 0 {
            self.of(url).circuit().give_back(taken);
        }
    }
}

impl Host {
    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        // The circuit is whole after every step, so a poisoned one is still right.
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Tells what came of the request.
    pub(in crate::harvest) fn came(mut self, came: Came) {
        self.tell(came);
    }

    /// Whether it still holds, see [`Circuit::holds`].
    fn holds(&self, pauses: bool) -> bool {
        self.ticket
            .is_some_and(|ticket| self.host.circuit().holds(ticket, pauses))
    }

    fn tell(&mut self, came: Came) {
        if let Some(ticket) = self.ticket.take() {
            let now = self.clock.now();
            self.host.circuit().came(ticket, came, now);
            self.host.changed.notify_one();
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.tell(Came::Nothing);
    }
}

impl Stream {
    /// Waits until the host may be asked, then for a permit; adds the latter wait to `in_line`.
    pub(in crate::harvest) async fn turn(
        &self,
        url: &Url,
        place: &str,
        needs: &Needs,
        in_line: &mut Duration,
    ) -> Result<(Pass, Permit), Box<Failure>> {
        let run = &self.run;
        loop {
            let mut wait = ProbeWait {
                stream: self,
                began: None,
            };
            let pass = run
                .until_stopped(run.hosts.pass(url, |at| wait.begin(at)))
                .await?;
            drop(wait);
            let pass = pass.map_err(|gone| {
                let failure = trouble::gone(gone.0, &run.show_url(url), place);
                if run.was_reached() {
                    failure
                } else {
                    trouble::never_answered(failure)
                }
            })?;
            let asked_at = run.world.clock.now();
            let permit = self.permit(needs, place).await?;
            *in_line += run.world.clock.now().saturating_duration_since(asked_at);
            // After a pause, limits let out no crowd by themselves; without any, those that were in
            // the line for a slot must stand in line again.
            if pass.holds(run.plan.source.limits.is_empty()) {
                return Ok((pass, permit));
            }
            permit.unsent();
        }
    }
}

/// The wait before a probe, told as it begins and ends.
struct ProbeWait<'a> {
    stream: &'a Stream,
    began: Option<(u64, Instant)>,
}

impl ProbeWait<'_> {
    const WHY: Wait = Wait::Backoff {
        class: FailureClass::Transient,
    };

    fn begin(&mut self, until: Instant) {
        self.end();
        let run = &self.stream.run;
        let id = run.wait_id();
        self.stream.emit(Fact::WaitBegan {
            stream: self.stream.name.clone(),
            id,
            why: Self::WHY,
            until: Some(run.world.clock.calendar_at(until)),
        });
        self.began = Some((id, run.world.clock.now()));
    }

    fn end(&mut self) {
        if let Some((id, began)) = self.began.take() {
            let now = self.stream.run.world.clock.now();
            self.stream.emit(Fact::WaitEnded {
                stream: self.stream.name.clone(),
                id,
                why: Self::WHY,
                took: now.saturating_duration_since(began),
            });
        }
    }
}

impl Drop for ProbeWait<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
