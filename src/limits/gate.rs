//! The decision: may this request go now, and if not, what holds it.
//!
//! Pure: it is told the time and never waits. All budgets of a request are judged in one step,
//! and taken all or none, so nothing is ever held while something else is waited for.
//!
//! Requests that need the same budgets stand in one line, and each line's head is known here. A
//! head may overtake earlier heads that wait for something else. It may not take what an earlier
//! one waited for, unless that will be back before the earlier one can go at all: so no line
//! starves between two budgets, and none stands still for a budget that it does not need.

use std::collections::{HashMap, hash_map};
use std::sync::Arc;

use tokio::sync::Notify;

use super::budget::{Heard, Held};
use super::jitter::Jitter;
use super::library::{Entry, Fact, Library};
use super::log::Answer;
use super::moment::{Moment, Now, SECOND};
use super::rule::Rule;
use super::scope::{Key, Needs};
use crate::event::{Name, Wait};

/// Budgets above which idle ones are looked for.
const MANY: usize = 1024;

/// Most time that what was taken is out before its answer, when reckoning whether it will be
/// back in time for somebody else.
const FLIGHT: u64 = SECOND;

/// Everything that may hold a request of one source.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) rules: Arc<[Rule]>,
    budgets: HashMap<Key, Entry>,
    /// Where budgets are shared with other processes, if they are.
    library: Option<Library>,
    /// What the user should know.
    pub(super) told: Vec<String>,
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
    /// How many stand in its line, itself included.
    line: u64,
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
    /// Other processes may change this at any time.
    pub(super) is_shared: bool,
    /// Only because others were at a file that very moment.
    pub(super) is_busy: bool,
}

/// What an answer means to one budget.
#[derive(Debug, Clone)]
pub(super) struct Share {
    pub(super) key: Key,
    pub(super) reserved: u64,
    pub(super) actual: u64,
    /// What the API says of it.
    pub(super) heard: Option<Heard>,
}

impl Gate {
    /// An open gate. The first rule is the slots.
    pub(super) fn new(rules: Arc<[Rule]>, library: Option<Library>) -> Self {
        Self {
            rules,
            budgets: HashMap::new(),
            library,
            told: Vec::new(),
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

    /// The budget that a head waits for.
    pub(super) fn binding(&self, ticket: u64) -> Option<Key> {
        let head = self.heads.iter().find(|head| head.ticket == ticket)?;
        head.binding.as_ref().map(|(key, _)| Arc::clone(key))
    }

    /// For how long the newest request has been out under the budget that a head waits for.
    pub(super) fn newest(&self, ticket: u64, now: Moment) -> u64 {
        let entry = self.binding(ticket).and_then(|key| self.budgets.get(&key));
        let sent = entry.and_then(|entry| entry.budget.newest());
        sent.map_or(0, |sent| now.since(sent))
    }

    /// One has become the head of its line.
    pub(super) fn arrive(&mut self, ticket: u64, needs: &Needs) -> Arc<Notify> {
        let wake = Arc::new(Notify::new());
        let place = self.heads.partition_point(|head| head.ticket < ticket);
        let head = Head {
            ticket,
            needs: needs.clone(),
            line: 1,
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
    /// So many stand in its `line`, itself included.
    pub(super) fn take(&mut self, ticket: u64, line: u64, now: Now) -> Result<(), Refusal> {
        let Some(at) = self.heads.iter().position(|head| head.ticket == ticket) else {
            return Ok(());
        };
        self.heads[at].line = line;
        let needs = self.heads[at].needs.clone();
        for (i, (key, _)) in needs.parts.iter().enumerate() {
            if !self.begin(key, now) {
                for (key, _) in &needs.parts[..i] {
                    self.end(key, now);
                }
                return Err(Refusal {
                    why: self.rules[key.0].wait.clone(),
                    until: None,
                    is_shared: true,
                    is_busy: true,
                });
            }
        }
        let taken = self.decide(at, &needs, now);
        for (key, _) in needs.parts.iter() {
            self.end(key, now);
        }
        taken
    }

    /// The decision itself, over budgets that are up to date.
    fn decide(&mut self, at: usize, needs: &Needs, now: Now) -> Result<(), Refusal> {
        let (earlier, rest) = self.heads.split_at_mut(at);
        let mut binding: Option<(Answer, Wait, Key)> = None;
        let mut staged = Vec::with_capacity(needs.parts.len());
        for (key, amount) in needs.parts.iter() {
            let rule = &self.rules[key.0];
            let Some(entry) = self.budgets.get_mut(key) else {
                continue;
            };
            let mut answer = entry.budget.ask(rule, now, *amount, &self.jitter);
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
            for ((key, amount), staged) in needs.parts.iter().zip(staged) {
                if let Some(entry) = self.budgets.get_mut(key) {
                    entry.budget.take(&self.rules[key.0], now, *amount, staged);
                    entry.changed();
                }
            }
            return Ok(());
        };
        let until = match answer {
            Answer::NotBefore(at) => Some(at),
            Answer::Now | Answer::Unknown(_) => None,
        };
        let is_shared = self.budgets.get(&key).is_some_and(Entry::is_shared);
        if let Some(asker) = rest.first_mut() {
            if !asker.claims.contains(&key) {
                asker.claims.push(Arc::clone(&key));
            }
            asker.binding = Some((Arc::clone(&key), until));
        }
        let waits = |head: &&Head| {
            head.binding
                .as_ref()
                .is_some_and(|(bound, _)| *bound == key)
        };
        let count = self.heads.iter().filter(waits).map(|head| head.line).sum();
        if let Some(entry) = self.budgets.get_mut(&key) {
            entry.waits(now.at, until, count);
        }
        Err(Refusal {
            why,
            until,
            is_shared,
            is_busy: false,
        })
    }

    fn begin(&mut self, key: &Key, now: Now) -> bool {
        let rule = &self.rules[key.0];
        let (library, told) = (self.library.as_ref(), &mut self.told);
        let entry = match self.budgets.entry(Arc::clone(key)) {
            hash_map::Entry::Occupied(entry) => entry.into_mut(),
            hash_map::Entry::Vacant(place) => place.insert(Entry::new(key, rule, library, told)),
        };
        entry.begin(rule, library, now, &self.jitter, told)
    }

    fn end(&mut self, key: &Key, now: Now) {
        if let Some(entry) = self.budgets.get_mut(key) {
            let (library, told) = (self.library.as_ref(), &mut self.told);
            entry.end(&self.rules[key.0], library, now, told);
        }
    }

    /// Something happened to a budget. If others are at its file, it is written next time.
    fn happened(&mut self, key: &Key, fact: Fact, now: Now) {
        let rule = &self.rules[key.0];
        let (library, told) = (self.library.as_ref(), &mut self.told);
        self.budgets
            .entry(Arc::clone(key))
            .or_insert_with(|| Entry::new(key, rule, library, told))
            .note(fact);
        if self.begin(key, now) {
            self.end(key, now);
        }
    }

    /// The answer to a request was received, and each budget hears what it cost.
    pub(super) fn answered(&mut self, parts: &[Share], sent: Moment, received: Moment, now: Now) {
        for part in parts {
            let fact = Fact::Answered {
                sent,
                received,
                reserved: part.reserved,
                actual: part.actual,
                heard: part.heard,
            };
            self.happened(&part.key, fact, now);
        }
        self.jitter.learn(received.since(sent));
        self.sweep(now.at);
        self.wake(now.at);
    }

    /// A request was given up at `now`, its fate unknown.
    pub(super) fn abandoned(&mut self, needs: &Needs, sent: Moment, now: Now) {
        for &(ref key, amount) in needs.parts.iter() {
            let at = now.at;
            self.happened(key, Fact::Abandoned { sent, at, amount }, now);
        }
        self.wake(now.at);
    }

    /// A permit that was taken at `taken` comes back: nothing was sent.
    pub(super) fn unsent(&mut self, needs: &Needs, taken: Moment, now: Now) {
        for &(ref key, amount) in needs.parts.iter() {
            let at = now.at;
            self.happened(key, Fact::Unsent { taken, at, amount }, now);
        }
        self.wake(now.at);
    }

    /// Holds every request that needs a limit of `needs`, or all where there are no limits.
    pub(super) fn pause(&mut self, needs: &Needs, now: Now, until: Moment, told: &Name) {
        let limits = usize::from(needs.parts.len() > 1);
        let keys = needs.parts[limits..].iter().map(|(key, _)| key);
        self.pause_all(keys, now, until, told);
    }

    /// Holds every request that needs one of these.
    pub(super) fn pause_all<'a>(
        &mut self,
        keys: impl Iterator<Item = &'a Key>,
        now: Now,
        until: Moment,
        told: &Name,
    ) {
        for key in keys {
            let (at, told) = (now.at, told.clone());
            self.happened(key, Fact::Paused { at, until, told }, now);
        }
        self.wake(now.at);
    }

    /// Writes what others kept us from writing; nobody asks any more.
    pub(super) fn close(&mut self, now: Now) {
        let keys: Vec<Key> = self.budgets.keys().cloned().collect();
        let mut all_written = true;
        for key in keys {
            let is_written = |entry: &Entry| entry.is_written();
            if !self.budgets.get(&key).is_some_and(is_written) {
                let begun = self.begin(&key, now);
                if begun {
                    self.end(&key, now);
                }
                all_written &= begun;
            }
        }
        if let (true, Some(library)) = (all_written, &self.library) {
            library.book.retire();
        }
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
            self.budgets.retain(|_, entry| !entry.is_idle(now));
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
