//! Whose turn: permits, windows, scopes, pauses.
//!
//! Every request of a run passes [`Limits::permit`]. All limits that cover it must agree, in one
//! step: all or none. See the design, Limits.
//!
//! - `scope`: which budgets a request needs
//! - `rule`: a limit in numbers
//! - `budget`: the law, over `log` (permits of a window), `cell` (spacing, buckets), `calendar`
//!   (quotas of a day or month), `jitter` (how far round trips can be trusted)
//! - `book`, `sheet`, `library`: budgets that processes share and that outlive them, one file each,
//!   and how they are kept in step with memory
//! - `label`, `queue`, `shelf`: what people call a budget, who waits for it, and all of them at once
//! - `nap`: when to look again at what other processes use
//! - `observe`: what answers say is left, and of which limit
//! - `auto`: the search for a limit that nobody told
//! - `forecast`: how long a run will take at its limits
//! - `gate`: the decision over all budgets, and who may overtake whom
//!
//! This file is the door: who asked first goes first, and it is the one place that waits.

mod auto;
mod book;
mod budget;
mod calendar;
mod cell;
mod forecast;
mod gate;
mod jitter;
mod label;
mod library;
mod log;
mod moment;
mod nap;
mod observe;
mod queue;
mod rule;
mod scope;
mod sheet;
mod shelf;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use url::Url;

use crate::clock::{Clock, Instant};
use crate::event::{Name, Wait};
use crate::plan::limit::LimitPlan;

use self::auto::Auto;
use self::budget::Heard;
use self::gate::{Gate, Refusal, Share};
use self::label::Labels;
use self::library::Library;
use self::moment::{Moment, Now, nanos};
use self::rule::Rule;
use self::scope::{Key, Scopes};

pub use self::auto::Learned;
pub use self::book::{Book, BookProblem, Disagreement};
pub use self::forecast::{Demand, Forecast, Used};
pub use self::label::Scrub;
pub use self::observe::{About, Observation};
pub use self::scope::{Asked, Needs, NoTurn};
pub use self::shelf::{Known, KnownLimit, Member, Next, Shelf};

/// The limits of one source. Clones share them.
#[derive(Debug, Clone)]
pub struct Limits {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    /// The beginning of time; `None` is the start of the machine, as in the book.
    origin: Option<Instant>,
    scopes: Scopes,
    /// What identifies the rules to all processes.
    names: Vec<Option<String>>,
    /// Those who need the same budgets wait in order of arrival (tokio's mutex is fair).
    lines: Mutex<HashMap<Vec<Key>, Line>>,
    gate: Mutex<Gate>,
    /// The search for a limit that nobody told.
    auto: Option<Mutex<Auto>>,
    /// What was taken of each rule by requests that were sent, in thousandths.
    used: Mutex<Vec<u64>>,
}

/// Who asks.
#[derive(Debug, Clone, Default)]
pub struct Asker {
    /// The pipeline, for people who look into the book.
    pub pipeline: String,
    /// Tells the budgets of one credential from another's; it is only hashed.
    pub credential: String,
    /// Takes secrets out of what is written into the book.
    pub scrub: Scrub,
}

type Line = Arc<tokio::sync::Mutex<()>>;

/// Leave to send one request; it occupies a slot among those in flight until it is gone.
///
/// Tell it when the request was answered, or that it was not sent at all. Dropping it means "given up, fate unknown": the server
/// may have counted the request, or may yet do so.
#[must_use = "a permit that is dropped counts as a request whose fate is unknown"]
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    needs: Needs,
    sent: Moment,
    received: Option<Moment>,
    is_unsent: bool,
    /// What the answer told of its cost; `None` until it was answered.
    actual: Option<Vec<(Name, f64)>>,
    /// What the answer told of budgets.
    heard: Vec<(Key, Heard)>,
}

/// A wait that a request is about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What is waited for.
    pub why: Wait,
    /// When it ends at the earliest; `None` while that depends on other requests.
    pub until: Option<Instant>,
}

impl Limits {
    /// Limits of the source at `base`: `plans` already reduced to those that count (`if: auth`).
    pub fn new(clock: Clock, base: &Url, plans: &[LimitPlan], concurrency: usize) -> Self {
        Self::open(clock, base, plans, concurrency, None)
    }

    /// The same, shared with all processes that open the same book, for as long as windows last.
    pub fn booked(
        clock: Clock,
        base: &Url,
        plans: &[LimitPlan],
        concurrency: usize,
        book: Book,
        asker: Asker,
    ) -> Self {
        let library = Library {
            book,
            names: scope::identities(base, plans),
            labels: Labels::new(base, plans, &asker.pipeline, asker.scrub),
            credential: asker.credential,
        };
        Self::open(clock, base, plans, concurrency, Some(library))
    }

    fn open(
        clock: Clock,
        base: &Url,
        plans: &[LimitPlan],
        concurrency: usize,
        library: Option<Library>,
    ) -> Self {
        let slots = std::iter::once(Rule::slots(concurrency));
        let rules = slots.chain(plans.iter().map(Rule::new)).collect();
        let shared = Arc::new(Shared {
            clock,
            origin: library.is_none().then(|| clock.now()),
            scopes: Scopes::new(base, plans),
            names: scope::identities(base, plans),
            lines: Mutex::default(),
            gate: Mutex::new(Gate::new(rules, library)),
            auto: Auto::wanted(plans, concurrency),
            used: Mutex::default(),
        });
        if let Some(auto) = &shared.auto {
            shared.paced(auto);
        }
        Self { shared }
    }

    /// What a request needs for its turn.
    pub fn needs(&self, asked: &Asked<'_>) -> Result<Needs, NoTurn> {
        self.shared.scopes.needs(&self.shared.rules(), asked)
    }

    /// Waits for a turn, first come first served among those who wait for the same, and takes
    /// everything it needs in one step.
    ///
    /// Only the first of those who need the same budgets reports: `began` hears each wait it
    /// begins (what binds, [`Wait::Concurrency`] too), `ended` the same wait and how long it
    /// took. A wait whose reason or end changes is ended and begun anew. Dropping the future ends
    /// the wait and takes nothing.
    pub async fn permit(
        &self,
        needs: &Needs,
        mut began: impl FnMut(&Turn),
        ended: impl FnMut(&Turn, Duration),
    ) -> Permit {
        let shared = &self.shared;
        let ticket = shared.gate().ticket();
        let place = Place::new(shared, needs);
        let _head = place.line.lock().await;
        let head = Head {
            shared,
            ticket,
            wake: shared.gate().arrive(ticket, needs),
        };
        // Dropped first, so that a wait has ended before the next one begins.
        let mut report = Report {
            clock: shared.clock,
            current: None,
            ended,
        };
        let mut told: Option<Refusal> = None;
        loop {
            let now = shared.now();
            let Err(refusal) = shared.gate().take(ticket, place.len(), now) else {
                return Permit {
                    shared: Arc::clone(shared),
                    needs: needs.clone(),
                    sent: now.at,
                    received: None,
                    is_unsent: false,
                    actual: None,
                    heard: Vec::new(),
                };
            };
            if refusal.is_busy {
                head.wait(Some(nap::look_again(shared.clock.now(), None, 0)))
                    .await;
                continue;
            }
            let is_shared = refusal.is_shared;
            let turn = shared.scoped(ticket, shared.turn(&refusal));
            let until = turn.until;
            // Instants of the book differ from look to look by what a clock takes to be read.
            if told.as_ref() != Some(&refusal) {
                report.end();
                began(&turn);
                report.current = Some((turn, shared.clock.now()));
                told = Some(refusal);
            }
            let until = if is_shared {
                let age = shared.gate().newest(ticket, now.at);
                Some(nap::look_again(shared.clock.now(), until, age))
            } else {
                until
            };
            head.wait(until).await;
        }
    }

    /// Holds every request that needs a limit of `needs` until `until` (never shortens a pause),
    /// because the server said `told`.
    pub fn pause(&self, needs: &Needs, until: Instant, told: &str) {
        let shared = &self.shared;
        let (now, until) = (shared.now(), shared.moment(until));
        shared.searched(|auto| auto.refused(now.at, until));
        shared.gate().pause(needs, now, until, &Name::from(told));
    }

    /// What the user should know of the book, once.
    pub fn notices(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.gate().told)
    }

    /// Calls, or units of a cost, that were taken of each limit, by its name as written.
    pub fn used(&self) -> BTreeMap<Name, f64> {
        let used = self.shared.used.lock();
        let used = used.unwrap_or_else(PoisonError::into_inner);
        let mut all = BTreeMap::new();
        // The first are the slots.
        for (rule, amount) in self.shared.rules().iter().zip(used.iter()).skip(1) {
            *all.entry(rule.name()).or_default() += *amount as f64 / 1000.0;
        }
        all
    }

    /// J, the bound of the network's jitter that permits are reckoned with now.
    pub fn margin(&self) -> Duration {
        Duration::from_nanos(self.shared.gate().jitter.margin())
    }
}

impl Shared {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        // The gate is whole after every step that could panic, so a poisoned one is still right.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what was taken, reserved or told.
    fn use_up<'a>(&self, parts: impl Iterator<Item = (&'a Key, u64)>) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, amount) in parts {
            if used.len() <= key.0 {
                used.resize(key.0 + 1, 0);
            }
            used[key.0] += amount;
        }
    }

    /// The rules as they are now: a search for a limit changes them.
    fn rules(&self) -> Arc<[Rule]> {
        Arc::clone(&self.gate().rules)
    }

    fn moment(&self, at: Instant) -> Moment {
        if let Some(origin) = self.origin {
            return Moment(nanos(at.saturating_duration_since(origin)));
        }
        let ahead = nanos(at.saturating_duration_since(self.clock.now()));
        self.now().at.plus(ahead)
    }

    fn now(&self) -> Now {
        let since = match self.origin {
            Some(origin) => self.clock.now().saturating_duration_since(origin),
            None => self.clock.since_boot(),
        };
        Now {
            at: Moment(nanos(since)),
            calendar: self.clock.calendar(),
        }
    }

    /// A wait for a limit or a pause, with the scope of the budget that binds.
    fn scoped(&self, ticket: u64, mut turn: Turn) -> Turn {
        if let Wait::Limit { scope, .. } | Wait::Pause { scope, .. } = &mut turn.why {
            let key = self.gate().binding(ticket);
            *scope = key.and_then(|key| self.scopes.label(&key));
        }
        turn
    }

    fn turn(&self, refusal: &Refusal) -> Turn {
        // Beyond what the clock can tell is as good as unknown.
        let instant = |at: Moment| {
            if let Some(origin) = self.origin {
                return origin.checked_add(Duration::from_nanos(at.0));
            }
            let ahead = Duration::from_nanos(at.since(self.now().at));
            self.clock.now().checked_add(ahead)
        };
        Turn {
            why: refusal.why.clone(),
            until: refusal.until.and_then(instant),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let now = self.now();
        self.gate().close(now);
    }
}

/// A place in the line of those who need the same budgets.
struct Place<'a> {
    shared: &'a Shared,
    keys: Vec<Key>,
    line: Line,
}

impl<'a> Place<'a> {
    fn new(shared: &'a Shared, needs: &Needs) -> Self {
        let keys: Vec<Key> = needs.parts.iter().map(|(key, _)| Arc::clone(key)).collect();
        let mut lines = shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = Arc::clone(lines.entry(keys.clone()).or_default());
        drop(lines);
        Self { shared, keys, line }
    }

    /// How many stand in the line: all who hold it but the map.
    fn len(&self) -> u64 {
        (Arc::strong_count(&self.line) as u64).saturating_sub(1)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let lines = &self.shared.lines;
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's own and ours: nobody else stands in it.
        if Arc::strong_count(&self.line) == 2 {
            lines.remove(&self.keys);
        }
    }
}

/// Being the first of a line.
struct Head<'a> {
    shared: &'a Shared,
    ticket: u64,
    wake: Arc<tokio::sync::Notify>,
}

impl Head<'_> {
    /// Waits until `until` or until something has changed, whichever is first.
    async fn wait(&self, until: Option<Instant>) {
        let changed = self.wake.notified();
        match until {
            // Either end is a reason to ask the gate again.
            Some(until) => (self.shared.clock.timeout_at(until, changed).await).unwrap_or_default(),
            None => changed.await,
        }
    }
}

impl Drop for Head<'_> {
    fn drop(&mut self) {
        let now = self.shared.now().at;
        self.shared.gate().leave(self.ticket, now);
    }
}

impl Permit {
    /// The head of the answer arrived now: the request has reached the server before.
    pub fn received(&mut self) {
        self.received = Some(self.shared.now().at);
    }

    /// The answer arrived whole (or failed after its headers) and told what it cost, as far as
    /// `actual` says; the rest cost what was reserved.
    pub fn answered(mut self, actual: Vec<(Name, f64)>) {
        self.actual = Some(actual);
    }

    /// Nothing was sent under it, and nothing will be: it costs none of the limits.
    pub fn unsent(mut self) {
        self.is_unsent = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let shared = &self.shared;
        let now = shared.now();
        if self.actual.is_some() {
            shared.searched(|auto| auto.answered(now.at));
        }
        let mut gate = shared.gate();
        if self.is_unsent {
            gate.unsent(&self.needs, self.sent, now);
            return;
        }
        let Some(actual) = &self.actual else {
            shared.use_up(self.needs.parts.iter().map(|(key, amount)| (key, *amount)));
            gate.abandoned(&self.needs, self.sent, now);
            return;
        };
        let rules = Arc::clone(&gate.rules);
        let parts: Vec<Share> = self
            .needs
            .parts
            .iter()
            .map(|(key, reserved)| {
                let unit = rules[key.0].unit.as_ref();
                let told = unit.and_then(|unit| actual.iter().find(|(name, _)| name == unit));
                let actual = told.and_then(|(_, cost)| scope::thousandths(*cost));
                let heard = self.heard.iter().find(|(of, _)| of == key);
                Share {
                    key: Arc::clone(key),
                    reserved: *reserved,
                    actual: actual.unwrap_or(*reserved),
                    heard: heard.map(|(_, heard)| *heard),
                }
            })
            .collect();
        shared.use_up(parts.iter().map(|share| (&share.key, share.actual)));
        let received = self.received.unwrap_or(now.at);
        gate.answered(&parts, self.sent, received, now);
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
