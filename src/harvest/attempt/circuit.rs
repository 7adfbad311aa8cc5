//! How a host is spared while it does not answer well: a budget for retries, and a circuit that
//! lets one probe through where many requests failed.
//!
//! Pure: it is told the time and what came of each request, and answers what may be done; who
//! waits is `hosts`. The retry budget is that of the AWS SDKs ("standard" retry mode), the circuit
//! the usual breaker with a half-open state, except that it opens up step by step.

use std::time::Duration;

use crate::clock::Instant;

/// So many failures without a good answer between them open the circuit.
const FAILURES: u32 = 5;
/// The first probe comes this long after the circuit opened; each further one twice as long
/// after the one before it.
const FIRST_PROBE: Duration = Duration::from_secs(1);
/// Probes are never further apart.
const PROBE_EVERY: Duration = Duration::from_mins(1);

/// Tokens of a fresh budget, and the most it holds.
const TOKENS: u32 = 500;
/// What a retry takes; its success gives that back.
const RETRY: u32 = 5;
/// What a retry after a time-out takes: the server was busy with it all the while.
const SLOW_RETRY: u32 = 10;
/// What any answer gives.
const SUCCESS: u32 = 1;

/// What came of a request, as far as its host is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::harvest) enum Came {
    /// It was answered: whatever the answer says, the host is well.
    Answer,
    /// It was asked to come later; no fault of the host.
    Throttle,
    /// No answer, or one that says the host is not well.
    Failure,
    /// Nobody knows, the request was not sent or given up by us.
    Nothing,
}

/// Whether a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::harvest) enum Ask {
    /// It may.
    Go,
    /// Not before this instant, and then as the only one.
    Probe(Instant),
    /// Not before a request in flight has come to something.
    Later,
    /// Never: the host has been away for too long, since this instant.
    Gone(Instant),
}

/// A request that may go; to be handed back with what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::harvest) struct Ticket {
    /// Outages and pauses that had begun by then: what comes of a request that was sent before one
    /// says little about the time after it.
    era: u64,
    probe: bool,
}

/// The standing of one host.
#[derive(Debug)]
pub(in crate::harvest) struct Circuit {
    state: State,
    /// Failures since the last good answer.
    failures: u32,
    /// Requests of this era in flight; one that hangs since before it must not hold up the others.
    in_flight: u32,
    /// Outages and pauses so far.
    era: u64,
    /// As many in flight need no watching.
    wide: u32,
    /// A longer outage is the end.
    patience: Duration,
    tokens: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// All is well.
    Closed,
    /// Back from an outage or a pause: at most so many in flight, one more with every answer.
    Opening { most: u32 },
    /// Away.
    Open {
        since: Instant,
        /// The next probe.
        next: Instant,
        /// How long to wait after it, should it fail.
        step: Duration,
        probing: bool,
    },
}

impl Circuit {
    /// A host that is well. `wide` is the run's concurrency, `patience` the longest outage.
    pub(in crate::harvest) fn new(wide: u32, patience: Duration) -> Self {
        Self {
            state: State::Closed,
            failures: 0,
            in_flight: 0,
            era: 0,
            wide,
            patience,
            tokens: TOKENS,
        }
    }

    /// Whether a request may go at `now`.
    pub(in crate::harvest) fn ask(&self, now: Instant) -> Ask {
        match self.state {
            State::Opening { most } if self.in_flight >= most => Ask::Later,
            State::Open { since, next, .. } if next > since + self.patience => Ask::Gone(since),
            State::Open { probing: true, .. } => Ask::Later,
            State::Open { next, .. } if next > now => Ask::Probe(next),
            State::Closed | State::Opening { .. } | State::Open { .. } => Ask::Go,
        }
    }

    /// A request goes, as [`Circuit::ask`] said it may.
    pub(in crate::harvest) fn go(&mut self) -> Ticket {
        self.in_flight += 1;
        let probe = match &mut self.state {
            State::Open { probing, .. } => {
                *probing = true;
                true
            }
            _ => false,
        };
        Ticket {
            era: self.era,
            probe,
        }
    }

    /// Whether a ticket given out before still holds: an outage that began since takes it back,
    /// and so does a pause where `pauses` says so.
    pub(in crate::harvest) fn holds(&self, ticket: Ticket, pauses: bool) -> bool {
        let current = ticket.era == self.era;
        match self.state {
            State::Closed => true,
            State::Opening { .. } => current || !pauses,
            State::Open { .. } => current && ticket.probe,
        }
    }

    /// What came of a request.
    pub(in crate::harvest) fn came(&mut self, ticket: Ticket, came: Came, now: Instant) {
        let current = ticket.era == self.era;
        if current {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        match came {
            Came::Answer => {
                self.give_back(SUCCESS);
                self.failures = 0;
                self.state = match self.state {
                    State::Closed => State::Closed,
                    State::Opening { .. } if !current => self.state,
                    State::Opening { most } if most + 1 >= self.wide => State::Closed,
                    State::Opening { most } => State::Opening { most: most + 1 },
                    // An answer shows that it is back, even if it was asked for long ago.
                    State::Open { .. } => State::Opening { most: 2 },
                };
            }
            // The host is there and wants less: it is not asked by many at once.
            // Several that were in flight are refused together, and that is one refusal.
            Came::Throttle => {
                self.failures = 0;
                if current || !matches!(self.state, State::Opening { .. }) {
                    self.state = State::Opening { most: 1 };
                    self.begin_era();
                }
            }
            Came::Failure => self.failed(ticket, now),
            Came::Nothing => {
                if let State::Open { probing, .. } = &mut self.state
                    && ticket.probe
                    && current
                {
                    *probing = false;
                }
            }
        }
    }

    fn failed(&mut self, ticket: Ticket, now: Instant) {
        match &mut self.state {
            State::Open {
                next,
                step,
                probing,
                ..
            } => {
                if ticket.probe && ticket.era == self.era {
                    *probing = false;
                    *step = (*step * 2).min(PROBE_EVERY);
                    *next = now + *step;
                }
            }
            // Sent before the last outage or pause, which is known.
            _ if ticket.era != self.era => {}
            _ => {
                self.failures += 1;
                if self.failures >= FAILURES {
                    self.failures = 0;
                    self.begin_era();
                    self.state = State::Open {
                        since: now,
                        next: now + FIRST_PROBE,
                        step: FIRST_PROBE,
                        probing: false,
                    };
                }
            }
        }
    }

    fn begin_era(&mut self) {
        self.era += 1;
        self.in_flight = 0;
    }

    /// Takes what the repeat of a failed request costs and says how much that was; `None` if the
    /// budget does not hold it, and then there is no repeat. While the circuit is open it costs
    /// nothing: the circuit itself bounds what is sent.
    pub(in crate::harvest) fn repeat(&mut self, slow: bool) -> Option<u32> {
        let cost = match self.state {
            State::Open { .. } => 0,
            _ if slow => SLOW_RETRY,
            _ => RETRY,
        };
        self.tokens = self.tokens.checked_sub(cost)?;
        Some(cost)
    }

    /// What a repeat took comes back, for it was answered.
    pub(in crate::harvest) fn give_back(&mut self, taken: u32) {
        self.tokens = self.tokens.saturating_add(taken).min(TOKENS);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Clock;

    const SEC: Duration = Duration::from_secs(1);

    fn circuit() -> (Circuit, Instant) {
        (Circuit::new(16, 1800 * SEC), Clock::system().now())
    }

    /// Opens the circuit with five failures at `now`.
    fn open(circuit: &mut Circuit, now: Instant) {
        let tickets: Vec<Ticket> = (0..FAILURES).map(|_| circuit.go()).collect();
        for ticket in tickets {
            circuit.came(ticket, Came::Failure, now);
        }
    }

    #[test]
    fn probes_come_alone_and_ever_later_until_patience_ends() {
        let (mut circuit, start) = circuit();
        open(&mut circuit, start);
        let mut now = start;
        let mut waits = Vec::new();
        loop {
            match circuit.ask(now) {
                Ask::Probe(at) => {
                    waits.push((at - now).as_secs());
                    now = at;
                }
                Ask::Go => {
                    let probe = circuit.go();
                    assert_eq!(circuit.ask(now), Ask::Later, "one at a time");
                    circuit.came(probe, Came::Failure, now);
                }
                Ask::Gone(since) => {
                    assert_eq!(since, start);
                    break;
                }
                Ask::Later => panic!("nothing is in flight"),
            }
        }
        assert_eq!(waits[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(now <= start + 1800 * SEC && now >= start + 1740 * SEC);
    }

    #[test]
    fn a_good_probe_opens_up_step_by_step() {
        let (mut circuit, start) = circuit();
        open(&mut circuit, start);
        let now = start + SEC;
        assert_eq!(circuit.ask(now), Ask::Go);
        let mut flying = vec![circuit.go()];
        let mut most = Vec::new();
        while circuit.state != State::Closed {
            for ticket in std::mem::take(&mut flying) {
                circuit.came(ticket, Came::Answer, now);
            }
            while circuit.ask(now) == Ask::Go && flying.len() < 20 {
                flying.push(circuit.go());
            }
            most.push(flying.len());
        }
        assert_eq!(most, [2, 4, 8, 20], "then all that want");
    }

    #[test]
    fn answers_between_failures_keep_it_closed() {
        let (mut circuit, now) = circuit();
        for n in 0..50 {
            let ticket = circuit.go();
            let came = if n % 5 == 4 {
                Came::Answer
            } else {
                Came::Failure
            };
            circuit.came(ticket, came, now);
            assert_eq!(circuit.ask(now), Ask::Go);
        }
    }

    #[test]
    fn stragglers_of_an_outage_neither_prolong_it_nor_hide_its_end() {
        let (mut circuit, start) = circuit();
        let early = [circuit.go(), circuit.go()];
        open(&mut circuit, start);
        assert!(
            !circuit.holds(early[0], false),
            "what has not gone must ask again"
        );
        circuit.came(early[0], Came::Failure, start + SEC / 2);
        assert_eq!(circuit.ask(start), Ask::Probe(start + SEC));
        circuit.came(early[1], Came::Answer, start + SEC / 2);
        assert_eq!(circuit.ask(start + SEC / 2), Ask::Go, "it answers");
    }

    #[test]
    fn a_probe_that_was_given_up_leaves_its_place() {
        let (mut circuit, start) = circuit();
        open(&mut circuit, start);
        let probe = circuit.go();
        assert!(circuit.holds(probe, true));
        circuit.came(probe, Came::Nothing, start + SEC);
        assert_eq!(circuit.ask(start + SEC), Ask::Go);
    }

    #[test]
    fn after_a_throttle_one_goes_first() {
        let (mut circuit, now) = circuit();
        let flying: Vec<Ticket> = (0..16).map(|_| circuit.go()).collect();
        circuit.came(flying[0], Came::Throttle, now);
        assert_eq!(
            circuit.ask(now),
            Ask::Go,
            "what is in flight holds up nobody"
        );
        let first = circuit.go();
        assert_eq!(circuit.ask(now), Ask::Later);
        // What was sent before says nothing about the time after.
        for ticket in &flying[1..8] {
            circuit.came(*ticket, Came::Throttle, now);
        }
        for ticket in &flying[8..] {
            circuit.came(*ticket, Came::Answer, now);
        }
        assert_eq!(circuit.ask(now), Ask::Later);
        circuit.came(first, Came::Throttle, now);
        assert_eq!(circuit.state, State::Opening { most: 1 });
        let second = circuit.go();
        circuit.came(second, Came::Answer, now);
        assert_eq!(circuit.state, State::Opening { most: 2 });
    }

    #[test]
    fn the_budget_ends_and_success_refills_it() {
        let (mut circuit, now) = circuit();
        let mut repeats = 0;
        while circuit.repeat(false).is_some() {
            repeats += 1;
        }
        assert_eq!(repeats, 100);
        for _ in 0..10 {
            let ticket = circuit.go();
            circuit.came(ticket, Came::Answer, now);
        }
        assert_eq!(circuit.repeat(true), Some(10), "ten answers pay for it");
        assert_eq!(circuit.repeat(false), None);
        circuit.give_back(10);
        assert_eq!(circuit.repeat(true), Some(10), "one that helped is free");
        open(&mut circuit, now);
        assert_eq!(circuit.repeat(true), Some(0), "an outage costs nothing");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Whatever comes of requests: while it is open at most one is let through at a time, and
        /// when nothing is in flight somebody may go, at once or at a known instant.
        #[test]
        fn nobody_waits_for_nothing(steps in prop::collection::vec((0u8..6, 0u64..90, 0usize..32), 1..200)) {
            let (mut circuit, mut now) = circuit();
            let mut flying: Vec<Ticket> = Vec::new();
            for (what, wait, which) in steps {
                now += Duration::from_secs(wait);
                if what == 0 || flying.is_empty() {
                    if circuit.ask(now) == Ask::Go {
                        let open = matches!(circuit.state, State::Open { .. });
                        flying.push(circuit.go());
                        prop_assert!(!open || circuit.ask(now) != Ask::Go);
                    }
                } else {
                    let ticket = flying.swap_remove(which % flying.len());
                    let came = [Came::Failure, Came::Failure, Came::Answer, Came::Throttle, Came::Nothing];
                    circuit.came(ticket, came[usize::from(what) - 1], now);
                }
                if flying.is_empty() {
                    prop_assert!(circuit.ask(now) != Ask::Later);
                }
            }
        }
    }
}
