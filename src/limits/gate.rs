//! The decision: may this request go now, and if not, what holds it.
//!
//! Pure: it is told the time and never waits. All budgets of a request are judged in one step,
//! and taken all or none, so nothing is ever held while something else is waited for.
//!
//! Requests that need the same budgets stand in one line, and each line's head is known here. A
//! head may overtake earlier heads that wait for something else. It may not take what an earlier
//! one waited for, unless that will be back before the earlier one can go at all: so no line
//! starves between two budgets, and none stands still for a budget that it does not need.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::budget::{Budget, Held};
use super::jitter::Jitter;
use super::log::Answer;
use super::moment::{Moment, Now};
use super::rule::Rule;
use super::scope::{Key, Needs};
use crate::event::{Name, Wait};

/// Budgets above which idle ones are looked for.
const MANY: usize = 1024;

/// Most time that what was taken is out before its answer, when reckoning whether it will be
/// back in time for somebody else.
const FLIGHT: u64 = 1_000_000_000;

/// Everything that may hold a request of one source.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) rules: Arc<[Rule]>,
    budgets: HashMap<Key, Budget>,
    pub(super) jitter: Jitter,
    /// First come first.
    heads: Vec<Head>,
    tickets: u64,
    sweep_at: usize,
}

/// One that is next in its line.
#[derive(Debug)]
struct Head {
    ticket: u64,
    needs: Needs,
    /// What it has waited for.
    claims: Vec<Key>,
    /// What it waits for now, and until when if that is known.
    binding: Option<(Key, Option<Moment>)>,
    wake: Arc<Notify>,
}

/// What a request waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) why: Wait,
    pub(super) until: Option<Moment>,
}

impl Gate {
    /// An open gate. The first rule is the slots.
    pub(super) fn new(rules: Arc<[Rule]>) -> Self {
        Self {
            rules,
            budgets: HashMap::new(),
            jitter: Jitter::default(),
            heads: Vec::new(),
            tickets: 0,
            sweep_at: MANY,
        }
    }

    /// A number for one that arrives.
    pub(super) fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// One has become the head of its line.
    pub(super) fn arrive(&mut self, ticket: u64, needs: &Needs) -> Arc<Notify> {
        let wake = Arc::new(Notify::new());
        let place = self.heads.partition_point(|head| head.ticket < ticket);
        let head = Head {
            ticket,
            needs: needs.clone(),
            claims: Vec::new(),
            binding: None,
            wake: Arc::clone(&wake),
        };
        self.heads.insert(place, head);
        wake
    }

    /// A head is gone, with a permit or without.
    pub(super) fn leave(&mut self, ticket: u64, now: Moment) {
        self.heads.retain(|head| head.ticket != ticket);
        self.wake(now);
    }

    /// Takes all that a head needs; or takes nothing and says what binds, which is what ends last.
    pub(super) fn take(&mut self, ticket: u64, now: Now) -> Result<(), Refusal> {
        let Some(at) = self.heads.iter().position(|head| head.ticket == ticket) else {
            return Ok(());
        };
        let (earlier, rest) = self.heads.split_at_mut(at);
        let asker = &mut rest[0];
        let mut binding: Option<(Answer, Wait, Key)> = None;
        let mut staged = Vec::with_capacity(asker.needs.parts.len());
        for (key, amount) in &asker.needs.parts {
            let rule = &self.rules[key.0];
            let budget = self.budgets.entry(Arc::clone(key)).or_default();
            let mut answer = budget.ask(rule, now, *amount, &self.jitter);
            let is_claimed = |other: &Head| other.holds(key, rule, now.at);
            if answer.is_ok() && earlier.iter().any(is_claimed) {
                answer = Err(Held {
                    until: Answer::Unknown(now.at),
                    why: rule.wait.clone(),
                });
            }
            match answer {
                Ok(next) => staged.push(next),
                Err(held) => {
                    let later = |(other, _, _): &(Answer, Wait, Key)| {
                        held.until.earliest() > other.earliest()
                    };
                    if binding.as_ref().is_none_or(later) {
                        binding = Some((held.until, held.why, Arc::clone(key)));
                    }
                }
            }
        }
        let Some((answer, why, key)) = binding else {
            for ((key, amount), staged) in asker.needs.parts.iter().zip(staged) {
                if let Some(budget) = self.budgets.get_mut(key) {
                    budget.take(&self.rules[key.0], now, *amount, staged);
                }
            }
            return Ok(());
        };
        let until = match answer {
            Answer::NotBefore(at) => Some(at),
            Answer::Now | Answer::Unknown(_) => None,
        };
        if !asker.claims.contains(&key) {
            asker.claims.push(Arc::clone(&key));
        }
        asker.binding = Some((key, until));
        Err(Refusal { why, until })
    }

    /// The answer to a request was received, and each budget hears what it cost. `trip` is its
    /// round trip.
    pub(super) fn answered(
        &mut self,
        parts: &[(Key, u64, u64)],
        sent: Moment,
        received: Moment,
        now: Moment,
    ) {
        for (key, reserved, actual) in parts {
            let rule = &self.rules[key.0];
            let budget = self.budgets.entry(Arc::clone(key)).or_default();
            budget.answered(rule, sent, received, (*reserved, *actual), &self.jitter);
        }
        self.jitter.learn(received.since(sent));
        self.sweep(now);
        self.wake(now);
    }

    /// A request was given up at `now`, its fate unknown.
    pub(super) fn abandoned(&mut self, needs: &Needs, sent: Moment, now: Moment) {
        for (key, amount) in &needs.parts {
            let rule = &self.rules[key.0];
            let budget = self.budgets.entry(Arc::clone(key)).or_default();
            budget.abandoned(rule, sent, now, *amount, &self.jitter);
        }
        self.wake(now);
    }

    /// Holds every request that needs a limit of `needs`, or all where there are no limits.
    pub(super) fn pause(&mut self, needs: &Needs, now: Moment, until: Moment, told: &Name) {
        let limits = usize::from(needs.parts.len() > 1);
        for (key, _) in &needs.parts[limits..] {
            let rule = &self.rules[key.0];
            let budget = self.budgets.entry(Arc::clone(key)).or_default();
            budget.pause(rule, now, until, told);
        }
        self.wake(now);
    }

    /// Wakes every head that is not behind an earlier one.
    fn wake(&self, now: Moment) {
        for (at, head) in self.heads.iter().enumerate() {
            let blocked = head.needs.parts.iter().any(|(key, _)| {
                let rule = &self.rules[key.0];
                self.heads[..at]
                    .iter()
                    .any(|other| other.holds(key, rule, now))
            });
            if !blocked {
                head.wake.notify_one();
            }
        }
    }

    #[cfg(test)]
    pub(super) fn budgets(&self) -> usize {
        self.budgets.len()
    }

    /// Forgets budgets that are as good as new, now and then.
    fn sweep(&mut self, now: Moment) {
        if self.budgets.len() > self.sweep_at {
            self.budgets.retain(|_, budget| !budget.is_idle(now));
            self.sweep_at = MANY.max(2 * self.budgets.len());
        }
    }
}

impl Head {
    /// Whether nobody behind it may take from a budget.
    fn holds(&self, key: &Key, rule: &Rule, now: Moment) -> bool {
        let spared = |(binding, until): &(Key, Option<Moment>)| {
            let back = now.plus(rule.window).plus(FLIGHT);
            binding != key && until.is_some_and(|until| until >= back)
        };
        self.claims.contains(key) && !self.binding.as_ref().is_some_and(spared)
    }
}
