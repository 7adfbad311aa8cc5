//! `limits: auto`: finds what an API allows that does not say so, by asking a little more until it
//! refuses. Additive increase, multiplicative decrease, as TCP does it (RFC 5681 section 3.1).
//!
//! Pure: it hears of answers and refusals and says at what pace and how many at once.

use std::time::Duration;

use super::moment::{Moment, nanos};

/// Where it begins, and what it adds: calls a second.
const FIRST_RATE: f64 = 1.0;
const RATE_STEP: f64 = 0.5;
/// The same for requests in flight.
const FIRST_SLOTS: usize = 2;
/// Answers without a refusal that make a step.
const STEP: u32 = 30;
/// A pace that is used by less than this share is not what holds the run back: nothing would be
/// learned by raising it, and a burst later could go out at a pace that was never tried.
const USED: f64 = 0.7;
/// Slower than one in ten seconds it never gets by itself; the pauses that are asked for do more.
const SLOWEST: f64 = 0.1;
/// Fastest pace: beyond it nothing is held at all.
const FASTEST: f64 = 100_000.0;
/// How near the pace that was refused it comes back at once; from there on slowly again.
const NEAR: f64 = 0.85;
/// Answers since the first refusal that tell what the API allows on the whole.
const TOLD: u64 = 100;

/// The state of the search.
#[derive(Debug, Clone)]
pub(super) struct Auto {
    /// Calls a second.
    rate: f64,
    /// Requests in flight.
    slots: usize,
    /// Most of them.
    most: usize,
    /// Answers since the last step.
    good: u32,
    /// When the first of them was awaited.
    since: Option<Moment>,
    /// The pace that was refused last.
    refused: Option<f64>,
    /// A refusal until then belongs to the same burst.
    quiet: Moment,
    refusals: u64,
    /// The fastest pace that was used for a whole step without refusal.
    best: f64,
    /// The first refusal, and the answers since.
    first: Option<(Moment, u64)>,
}

/// What a run has learned of a limit that nobody told.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// An entry of `limits`: `3/s`.
    pub limit: String,
    /// Requests in flight.
    pub concurrency: usize,
    /// How often the API refused.
    pub refusals: u64,
}

impl Auto {
    /// A search that begins, with at most so many requests in flight.
    pub(super) fn new(most: usize) -> Self {
        Self {
            rate: FIRST_RATE,
            slots: FIRST_SLOTS.min(most.max(1)),
            most: most.max(1),
            good: 0,
            since: None,
            refused: None,
            quiet: Moment(0),
            refusals: 0,
            best: 0.0,
            first: None,
        }
    }

    /// Calls a second now.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// Requests in flight now.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// An answer that was no refusal came; whether that changed anything.
    pub(super) fn answered(&mut self, now: Moment) -> bool {
        if let Some((_, answers)) = &mut self.first {
            *answers += 1;
        }
        let since = *self.since.get_or_insert(now);
        self.good += 1;
        if self.good <= STEP {
            return false;
        }
        let took = seconds(now.since(since)).max(1e-6);
        let used = f64::from(STEP) / took;
        // What began this step was the answer that ended the last.
        (self.good, self.since) = (1, Some(now));
        self.best = self.best.max(used.min(self.rate));
        let before = (self.rate.to_bits(), self.slots);
        self.slots = (self.slots + 1).min(self.most);
        if used >= USED * self.rate {
            self.rate = (self.rate + self.step()).min(FASTEST);
        }
        before != (self.rate.to_bits(), self.slots)
    }

    /// Half of the way back to near the refused pace, else a step.
    fn step(&self) -> f64 {
        let back = self.refused.map_or(0.0, |at| (NEAR * at - self.rate) / 2.0);
        // A step is small for a fast API and large for a slow one.
        back.max(RATE_STEP.min(self.rate / 2.0))
    }

    /// The API refuses until `until`; whether that changed anything.
    pub(super) fn refused(&mut self, now: Moment, until: Moment) -> bool {
        let same_burst = now <= self.quiet;
        self.quiet = self.quiet.max(until).max(now);
        (self.good, self.since) = (0, None);
        self.refusals += 1;
        self.first.get_or_insert((now, 0));
        if same_burst {
            return false;
        }
        self.refused = Some(self.rate);
        self.rate = (self.rate / 2.0).max(SLOWEST);
        self.slots = (self.slots / 2).max(1);
        true
    }

    /// What can be declared from now on; `None` before anything was learned.
    pub(super) fn learned(&self, now: Moment) -> Option<Learned> {
        let rate = match self.first {
            None => self.best,
            // What went through on the whole, pauses included, is allowed in windows of any length.
            Some((first, answers)) if answers >= TOLD => {
                answers as f64 / seconds(now.since(first)).max(1e-6)
            }
            Some(_) => self.rate,
        };
        (rate > 0.0).then(|| Learned {
            limit: written(rate),
            concurrency: self.slots,
            refusals: self.refusals,
        })
    }

    /// From one call to the next.
    pub(super) fn period(&self) -> u64 {
        let period = Duration::try_from_secs_f64(1.0 / self.rate).unwrap_or(Duration::MAX);
        nanos(period).max(1)
    }
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

/// A pace in the short form of limits, never faster than it is.
fn written(rate: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive and at most the fastest pace"
    )]
    let floor = |number: f64| (number.clamp(0.0, 1e9) + 1e-6).floor() as u64;
    let tenth = floor(rate * 10.0);
    if rate >= 10.0 || (tenth > 0 && tenth.is_multiple_of(10)) {
        format!("{}/s", floor(rate))
    } else if tenth > 0 {
        format!("{tenth}/10s")
    } else {
        format!("1/{}s", floor((1.0 / rate.max(1e-6)).ceil()))
    }
}
