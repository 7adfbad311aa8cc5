//! The decision: may the next request go at this instant, and if not, what holds it.
//!
//! Pure: it is told the time and never waits. Slots, pause and all limits are judged in one
//! step, and taken all or none, so nothing is ever held while something else is waited for.

use crate::clock::Instant;
use crate::event::{Name, Wait};
use crate::plan::limit::LimitPlan;

use super::Turn;
use super::cell::Spacer;
use super::log::{Answer, Log};

/// Everything that may hold a request of one source.
#[derive(Debug)]
pub(super) struct Gate {
    slots: usize,
    in_flight: usize,
    pause: Option<Pause>,
    limits: Vec<Limit>,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    told: Name,
}

#[derive(Debug)]
struct Limit {
    written: Name,
    log: Log,
    spacer: Option<Spacer>,
}

impl Gate {
    /// An open gate: `plans` are the limits, `slots` the most requests in flight.
    pub(super) fn new(plans: &[LimitPlan], slots: usize, now: Instant) -> Self {
        let limits = plans
            .iter()
            .map(|plan| Limit {
                written: Name::from(plan.written.as_str()),
                log: Log::new(plan.calls, plan.window),
                spacer: Spacer::new(plan, now),
            })
            .collect();
        Self {
            slots: slots.max(1),
            in_flight: 0,
            pause: None,
            limits,
        }
    }

    /// Takes a slot and a permit of every limit; or takes nothing and says what binds, which is
    /// what ends last.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Turn> {
        let mut binding = Binding::default();
        if self.in_flight >= self.slots {
            binding.held(Answer::Unknown(now), || Wait::Concurrency);
        }
        if let Some(pause) = self.pause.as_ref().filter(|pause| pause.until > now) {
            binding.held(Answer::NotBefore(pause.until), || Wait::Pause {
                told: pause.told.clone(),
            });
        }
        for limit in &mut self.limits {
            let spacing = match &limit.spacer {
                Some(spacer) => spacer.ask(now),
                None => Answer::Now,
            };
            for answer in [limit.log.ask(now), spacing] {
                binding.held(answer, || Wait::Limit {
                    limit: limit.written.clone(),
                });
            }
        }
        if let Some((_, turn)) = binding.0 {
            return Err(turn);
        }
        self.in_flight += 1;
        for limit in &mut self.limits {
            limit.log.take();
            if let Some(spacer) = &limit.spacer {
                spacer.keep();
            }
        }
        Ok(())
    }

    /// The answer to a request was received at `now`.
    pub(super) fn answered(&mut self, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        for limit in &mut self.limits {
            limit.log.answered(now);
        }
    }

    /// A request was given up at `now`, its fate unknown.
    pub(super) fn abandoned(&mut self, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        for limit in &mut self.limits {
            limit.log.abandoned(now);
        }
    }

    /// Holds everything until `until`, unless it is held longer already. The pause uses up what
    /// the spacing would allow at once, so that those who waited go one by one.
    pub(super) fn pause(&mut self, now: Instant, until: Instant, told: &str) {
        let held_until = self.pause.as_ref().map_or(now, |pause| pause.until);
        if until <= held_until.max(now) {
            return;
        }
        self.pause = Some(Pause {
            until,
            told: Name::from(told),
        });
        for spacer in self.limits.iter().filter_map(|l| l.spacer.as_ref()) {
            spacer.drain(now, until);
        }
    }
}

/// What holds a request longest, as far as asked.
#[derive(Default)]
struct Binding(Option<(Instant, Turn)>);

impl Binding {
    /// Hears one more answer; of two that end together the first one stays.
    fn held(&mut self, answer: Answer, why: impl FnOnce() -> Wait) {
        let until = match answer {
            Answer::Now => return,
            Answer::NotBefore(at) => Some(at),
            Answer::Unknown(_) => None,
        };
        let Some(earliest) = answer.earliest() else {
            return;
        };
        if self.0.as_ref().is_none_or(|(other, _)| *other < earliest) {
            self.0 = Some((earliest, Turn { why: why(), until }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::limits::tests::plan;
    use crate::plan::limit::Spacing;

    const SEC: Duration = Duration::from_secs(1);

    fn limit(written: &str) -> Wait {
        Wait::Limit {
            limit: written.into(),
        }
    }

    fn refusal(gate: &mut Gate, now: Instant) -> (Wait, Option<Instant>) {
        let turn = gate.take(now).expect_err("it is held");
        (turn.why, turn.until)
    }

    #[test]
    fn all_or_none() {
        let now = Clock::system().now();
        let plans = [
            plan(100, SEC * 60, Spacing::Even),
            plan(2, SEC, Spacing::Burst),
            plan(1, SEC * 10, Spacing::Burst),
        ];
        let mut gate = Gate::new(&plans, 8, now);
        gate.take(now).unwrap();
        gate.answered(now);
        // Refused ever so often by the last of three, nothing of the others is used up.
        for _ in 0..200 {
            let (why, until) = refusal(&mut gate, now + SEC);
            assert_eq!(
                (why, until),
                (limit(&plans[2].written), Some(now + SEC * 10))
            );
        }
        assert_eq!(gate.in_flight, 0);
        let later = now + SEC * 10;
        assert_eq!(gate.limits[0].log.ask(later), Answer::Now);
        gate.take(later).unwrap();
        gate.answered(later);
        assert_eq!(gate.limits[1].log.ask(later), Answer::Now);
        assert_eq!(
            gate.limits[0].spacer.as_ref().unwrap().ask(later),
            Answer::NotBefore(later + SEC * 60 / 100)
        );
    }

    #[test]
    fn what_ends_last_binds() {
        let now = Clock::system().now();
        let plans = [
            plan(1, SEC, Spacing::Burst),
            plan(10, SEC * 60, Spacing::Even),
        ];
        let mut gate = Gate::new(&plans, 1, now);
        gate.take(now).unwrap();
        // The spacing ends in 6 s, known; the unanswered one is a second away at the earliest.
        assert_eq!(
            refusal(&mut gate, now),
            (limit(&plans[1].written), Some(now + SEC * 6))
        );
        assert_eq!(
            refusal(&mut gate, now + SEC * 6),
            (limit(&plans[0].written), None)
        );
        gate.answered(now + SEC * 6);
        assert_eq!(
            refusal(&mut gate, now + SEC * 6),
            (limit(&plans[0].written), Some(now + SEC * 7))
        );
        let until = now + SEC * 8;
        gate.pause(now + SEC * 6, until, "503");
        let told = Wait::Pause { told: "503".into() };
        assert_eq!(refusal(&mut gate, now + SEC * 6), (told, Some(until)));
        gate.take(until).unwrap();
    }

    #[test]
    fn slots_alone_are_concurrency() {
        let now = Clock::system().now();
        let mut gate = Gate::new(&[], 2, now);
        gate.take(now).unwrap();
        gate.take(now).unwrap();
        assert_eq!(refusal(&mut gate, now), (Wait::Concurrency, None));
        gate.abandoned(now);
        gate.take(now).unwrap();
    }

    #[test]
    fn pauses_never_shrink() {
        let now = Clock::system().now();
        let mut gate = Gate::new(&[], 2, now);
        gate.pause(now, now + SEC * 30, "429 with Retry-After: 30");
        gate.pause(now, now + SEC * 10, "429 with Retry-After: 10");
        let (why, until) = refusal(&mut gate, now + SEC * 29);
        let told = "429 with Retry-After: 30".into();
        assert_eq!((why, until), (Wait::Pause { told }, Some(now + SEC * 30)));
        gate.pause(now + SEC * 29, now + SEC * 40, "again");
        assert_eq!(
            refusal(&mut gate, now + SEC * 30).1,
            Some(now + SEC * 40),
            "a later one prolongs it"
        );
        gate.take(now + SEC * 40).unwrap();
        // One in the past changes nothing.
        gate.pause(now + SEC * 50, now + SEC * 45, "late");
        gate.take(now + SEC * 50).unwrap();
    }
}
