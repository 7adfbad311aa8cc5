//! `limits: auto`: finds what an API allows that does not say so, by asking a little more until it
//! refuses.
//!
//! Before the first refusal the pace rises by a share of itself. A refusal shows a ceiling: what
//! went through before it. The pace falls to three quarters, comes back to the ceiling quickly and
//! then slowly, rests there, and goes beyond it slowly and then quickly: the curve of CUBIC (RFC
//! 9438 section 4.2), for paces. Requests in flight follow additive increase and multiplicative
//! decrease (Chiu and Jain, "Analysis of the increase and decrease algorithms for congestion
//! avoidance in computer networks", 1989).
//!
//! Pure: it hears of answers and refusals and says at what pace and how many at once.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::moment::{Moment, SECOND, nanos};
use super::rule::Rule;
use super::{Limits, Shared};
use crate::plan::limit::LimitPlan;

/// Where it begins: calls a second, and requests in flight.
const FIRST_RATE: f64 = 1.0;
const FIRST_SLOTS: usize = 2;
/// Answers without a refusal that make a step.
const STEP: u32 = 30;
/// By how much the pace rises with a step as long as nothing was refused: calls a second, and the
/// most as a share of the pace.
const RATE_STEP: f64 = 0.5;
const LARGEST_STEP: f64 = 0.5;
/// What a refusal leaves of the pace.
const LEFT: f64 = 0.75;
/// How long it takes to come back to the ceiling: many windows are shorter than that, so that the
/// pace rises by little within one, and what is refused is near the truth.
const COMING_BACK: f64 = 120.0;
/// And in answers, for slow APIs.
const COMING_BACK_ANSWERS: f64 = 120.0;
/// What went through is averaged over this time, in nanoseconds, and over twice the longest pause
/// that was told: a window is not much longer than what a full one makes wait.
const AVERAGED: u64 = 60 * SECOND;
/// The longest time that answers are remembered.
const REMEMBERED: u64 = 3600 * SECOND;
/// A pace that is used by less than this share is not what holds the run back: nothing would be
/// learned by raising it, and a burst later could go out at a pace that was never tried.
const USED: f64 = 0.7;
/// Slower than one in ten seconds it never gets by itself; the pauses that are asked for do more.
const SLOWEST: f64 = 0.1;
/// Fastest pace: beyond it nothing is held at all.
const FASTEST: f64 = 100_000.0;
/// What was sent before a pause may be refused this many nanoseconds after it still.
const STRAGGLING: u64 = SECOND;
/// Of the pace that went through this share is declared: the last window may have been a full one.
const SAFE: f64 = 0.95;
/// A whole number of calls a second is good enough from this share of the pace on.
const NEAR_WHOLE: f64 = 0.9;
/// Answers since a refusal that tell what the API allows on the whole.
const TOLD: u64 = 100;
/// Bursts of refusals that are remembered.
const BURSTS: usize = 64;

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
    /// The pace that the last refusal showed to be about what is allowed, and for how many seconds
    /// the pace has been in use since.
    ceiling: Option<(f64, f64)>,
    /// A refusal until then belongs to the same burst.
    quiet: Moment,
    /// The longest pause that was told.
    longest: u64,
    refusals: u64,
    /// Refusals whose permits have not come back: those are no answers.
    refused: u64,
    /// All answers, and how many there were at some moments, a second apart or more.
    answers: u64,
    marks: VecDeque<(Moment, u64)>,
    /// The fastest pace that was used for a whole step without refusal.
    best: f64,
    /// When bursts of refusals began, and the answers before each.
    full: VecDeque<(Moment, u64)>,
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
            ceiling: None,
            quiet: Moment(0),
            longest: 0,
            refusals: 0,
            refused: 0,
            answers: 0,
            marks: VecDeque::new(),
            best: 0.0,
            full: VecDeque::new(),
        }
    }

    /// A search, where the limits ask for one.
    pub(super) fn wanted(plans: &[LimitPlan], most: usize) -> Option<Mutex<Self>> {
        (plans.iter().any(LimitPlan::is_auto)).then(|| Mutex::new(Self::new(most)))
    }

    /// An answer came; whether that changed anything.
    pub(super) fn answered(&mut self, now: Moment) -> bool {
        if self.refused > 0 {
            self.refused -= 1;
            return false;
        }
        self.mark(now);
        self.answers += 1;
        if now <= self.quiet {
            return false;
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
            self.rise(took);
        }
        before != (self.rate.to_bits(), self.slots)
    }

    /// The pace was in use for so many seconds more, and may rise.
    fn rise(&mut self, took: f64) {
        let rate = match &mut self.ceiling {
            None => self.rate + RATE_STEP.min(LARGEST_STEP * self.rate),
            Some((ceiling, age)) => {
                *age += took;
                let back = COMING_BACK.max(COMING_BACK_ANSWERS / *ceiling);
                let from_there = (*age - back) / back;
                *ceiling * (1.0 + (1.0 - LEFT) * from_there.powi(3))
            }
        };
        self.rate = rate.max(self.rate).min(FASTEST);
    }

    /// The API refuses until `until`; whether that changed anything.
    pub(super) fn refused(&mut self, now: Moment, until: Moment) -> bool {
        let same_burst = now <= self.quiet;
        let late = if same_burst { 0 } else { STRAGGLING };
        self.quiet = self.quiet.max(until.max(now).plus(late));
        (self.good, self.since) = (0, None);
        self.refusals += 1;
        self.refused += 1;
        self.longest = self.longest.max(until.since(now));
        if same_burst {
            return false;
        }
        self.full.truncate(BURSTS - 1);
        self.full.push_front((now, self.answers));
        let ceiling = self.went_through(now).unwrap_or(self.rate).min(self.rate);
        self.ceiling = Some((ceiling, 0.0));
        self.rate = (LEFT * ceiling).max(SLOWEST);
        self.slots = (self.slots / 2).max(1);
        true
    }

    /// Remembers how many answers there were.
    fn mark(&mut self, now: Moment) {
        if (self.marks.back()).is_none_or(|(at, _)| now.since(*at) >= SECOND) {
            self.marks.push_back((now, self.answers));
            let is_old = |(at, _): &mut (Moment, u64)| now.since(*at) > REMEMBERED;
            while self.marks.pop_front_if(is_old).is_some() {}
        }
    }

    /// Answers a second, lately: pauses included, for they are part of what is allowed.
    fn went_through(&self, now: Moment) -> Option<f64> {
        let span = AVERAGED.max(self.longest.saturating_mul(2));
        let begin = self.marks.partition_point(|(at, _)| now.since(*at) > span);
        let (at, answers) = self.marks.get(begin)?;
        let answers = self.answers - answers;
        (answers >= u64::from(STEP)).then(|| answers as f64 / seconds(now.since(*at)).max(1e-6))
    }

    /// What can be declared from now on; `None` before anything was learned.
    pub(super) fn learned(&self, now: Moment) -> Option<Learned> {
        // From one full window to now: what went through, pauses included, was allowed; and the
        // longer that is, the less it matters how full the window is now.
        let long = (2 * AVERAGED).max(self.longest.saturating_mul(3));
        let since = |(at, before): &(Moment, u64)| {
            let (answers, took) = (self.answers - before, now.since(*at));
            (answers >= TOLD && took >= long).then(|| answers as f64 / seconds(took))
        };
        let rate = match self.full.iter().filter_map(since).reduce(f64::max) {
            Some(allowed) => SAFE * allowed,
            None if self.full.is_empty() => self.best,
            None => {
                let begin = self.marks.front().map_or(now, |(at, _)| *at);
                let whole = seconds(now.since(begin)).max(1e-6);
                self.rate.min(SAFE * self.answers as f64 / whole)
            }
        };
        (rate > 0.0).then(|| Learned {
            limit: written(rate),
            concurrency: self.slots,
            refusals: self.refusals,
        })
    }

    /// From one call to the next.
    fn period(&self) -> u64 {
        let period = Duration::try_from_secs_f64(1.0 / self.rate).unwrap_or(Duration::MAX);
        nanos(period).max(1)
    }
}

impl Limits {
    /// What the search for a limit that nobody told has come to; `None` where there was none.
    pub fn learned(&self) -> Option<Learned> {
        let auto = self.shared.auto.as_ref()?;
        let auto = auto.lock().unwrap_or_else(PoisonError::into_inner);
        auto.learned(self.shared.now().at)
    }
}

impl Shared {
    /// Tells the search, if there is one, and keeps to what it says.
    pub(super) fn searched(&self, heard: impl FnOnce(&mut Auto) -> bool) {
        let Some(auto) = &self.auto else { return };
        if heard(&mut auto.lock().unwrap_or_else(PoisonError::into_inner)) {
            self.paced(auto);
        }
    }

    /// Makes the rules what the search says.
    pub(super) fn paced(&self, auto: &Mutex<Auto>) {
        let auto = auto.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = [Rule::slots(auto.slots), Rule::paced(auto.period())];
        self.gate().rules = rules.into();
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
    let whole = floor(rate);
    // A whole number reads better, if it gives little away.
    if whole as f64 >= NEAR_WHOLE * rate {
        return format!("{whole}/s");
    }
    let millis = floor((1000.0 / rate.max(1e-6)).ceil());
    if millis.is_multiple_of(1000) {
        format!("1/{}s", millis / 1000)
    } else {
        format!("1/{millis}ms")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use url::Url;

    use super::super::{Asked, Needs};
    use super::*;
    use crate::clock::{Clock, Instant};

    #[test]
    fn paces_are_written_as_limits_and_never_faster() {
        for (rate, expected) in [
            (7.2, "7/s"),
            (7.9, "1/127ms"),
            (2.0, "2/s"),
            (1.5, "1/667ms"),
            (0.5, "1/2s"),
            (0.3, "1/3334ms"),
            (151.3, "151/s"),
        ] {
            assert_eq!(written(rate), expected, "{rate}");
            let plan = LimitPlan::parse(expected).expect("a limit");
            let pace = f64::from(plan.calls.get()) / plan.window.as_secs_f64();
            assert!(pace <= rate + 1e-9 && pace >= 0.9 * rate, "{rate}: {pace}");
        }
    }

    #[test]
    fn a_burst_of_refusals_is_one() {
        let mut auto = Auto::new(8);
        (auto.rate, auto.slots) = (8.0, 6);
        let at = |secs: u64| Moment(secs * 1_000_000_000);
        assert!(auto.refused(at(10), at(15)));
        assert!(!auto.refused(at(11), at(16)));
        assert_eq!((auto.rate, auto.slots), (6.0, 3));
        // The permits of both come back, and an answer to what was sent before tells nothing.
        for _ in 0..3 {
            assert!(!auto.answered(at(16)));
        }
        assert_eq!(auto.answers, 1);
        assert!(auto.refused(at(17), at(18)));
        assert_eq!((auto.rate, auto.slots, auto.refusals), (4.5, 1, 3));
    }

    #[test]
    fn it_comes_back_to_the_ceiling_rests_there_and_goes_on() {
        let mut auto = Auto::new(8);
        let begin = Moment(1_000_000_000);
        let mut now = begin;
        auto.rate = 8.0;
        auto.refused(now, now.plus(1));
        let mut paces = Vec::new();
        while seconds(now.since(begin)) < 300.0 {
            paces.push((seconds(now.since(begin)), auto.rate));
            now = now.plus(auto.period());
            auto.answered(now);
        }
        let at = |secs: f64| paces[paces.partition_point(|(at, _)| *at < secs)].1;
        assert!((paces[0].1 - 6.0).abs() < 1e-9);
        assert!((7.4..7.9).contains(&at(60.0)), "{}", at(60.0));
        assert!((7.9..8.1).contains(&at(120.0)), "{}", at(120.0));
        assert!((8.1..8.5).contains(&at(180.0)), "{}", at(180.0));
        assert!((9.4..10.4).contains(&at(240.0)), "{}", at(240.0));
    }

    #[test]
    fn a_pace_that_is_not_used_does_not_rise() {
        let mut auto = Auto::new(4);
        for second in 0..1000 {
            auto.answered(Moment(second * 5_000_000_000));
        }
        assert!(auto.rate <= FIRST_RATE, "{}", auto.rate);
        assert_eq!(
            auto.learned(Moment(0)).map(|l| l.limit).as_deref(),
            Some("1/5s")
        );
    }

    /// A server that allows so many calls in any window, or in windows laid end to end, and says
    /// when to come back.
    #[derive(Debug, Clone, Copy)]
    struct Hidden {
        calls: usize,
        window: Duration,
        is_fixed: bool,
        latency: Duration,
    }

    struct Server {
        hidden: Hidden,
        began: Instant,
        arrived: VecDeque<Instant>,
        refusals: u64,
        /// Refusals after a second without any, or more.
        bursts: u64,
        last: Option<Instant>,
        accepted: Vec<Instant>,
    }

    impl Server {
        fn ask(&mut self, now: Instant) -> Result<(), Instant> {
            let Hidden { calls, window, .. } = self.hidden;
            let until = if self.hidden.is_fixed {
                while self.began + window <= now {
                    self.began += window;
                    self.arrived.clear();
                }
                Some(self.began + window)
            } else {
                while self
                    .arrived
                    .pop_front_if(|at| *at + window <= now)
                    .is_some()
                {}
                self.arrived.front().map(|first| *first + window)
            };
            if let (true, Some(until)) = (self.arrived.len() >= calls, until) {
                let gap = self.last.replace(now).map(|last| now - last);
                self.bursts += u64::from(gap.is_none_or(|gap| gap >= Duration::from_secs(1)));
                self.refusals += 1;
                return Err(until);
            }
            self.arrived.push_back(now);
            self.accepted.push(now);
            Ok(())
        }
    }

    fn needs(limits: &Limits) -> Needs {
        let asked = Asked {
            method: &http::Method::GET,
            url: &Url::parse("https://api.test/items").expect("a URL"),
            credential: false,
            variables: &[],
            cost: &[],
        };
        limits.needs(&asked).expect("covered")
    }

    /// Works for half an hour; gives the server, what was learned every five minutes, and when
    /// it ended.
    fn half_an_hour(hidden: Hidden) -> (Server, Vec<Learned>, Instant) {
        crate::sim::in_stopped_time(async {
            let clock = Clock::simulated("2026-11-22T02:30:00Z".parse().expect("an instant"));
            let base = Url::parse("https://api.test").expect("a URL");
            let limits = Limits::new(clock, &base, &[LimitPlan::auto()], 16);
            let server = Arc::new(Mutex::new(Server {
                hidden,
                began: clock.now(),
                arrived: VecDeque::new(),
                refusals: 0,
                bursts: 0,
                last: None,
                accepted: Vec::new(),
            }));
            let begin = clock.now();
            let end = begin + Duration::from_mins(30);
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..16 {
                let (limits, server) = (limits.clone(), server.clone());
                tasks.spawn(async move {
                    let needs = needs(&limits);
                    while clock.now() < end {
                        let mut permit = limits.permit(&needs, |_| {}, |_, _| {}).await;
                        clock.sleep_until(clock.now() + hidden.latency / 2).await;
                        let answer = server.lock().expect("no panic").ask(clock.now());
                        clock.sleep_until(clock.now() + hidden.latency / 2).await;
                        permit.received();
                        if let Err(until) = answer {
                            limits.pause(&needs, until, "429");
                        }
                        permit.answered(Vec::new());
                    }
                });
            }
            let mut learned = Vec::new();
            for minutes in (5..30).step_by(5) {
                clock
                    .sleep_until(begin + Duration::from_mins(minutes))
                    .await;
                learned.extend(limits.learned());
            }
            while tasks.join_next().await.is_some() {}
            learned.extend(limits.learned());
            let server = Arc::into_inner(server).expect("all ended").into_inner();
            (server.expect("no panic"), learned, end)
        })
    }

    fn hidden(seed: u64) -> Hidden {
        let mut dice = fastrand::Rng::with_seed(seed);
        let (calls, secs) = match dice.u32(0..4) {
            0 => (dice.usize(2..10), 1),
            1 => (dice.usize(20..60), 10),
            2 => (dice.usize(60..200), 60),
            _ => (dice.usize(150..600), 300),
        };
        Hidden {
            calls,
            window: Duration::from_secs(secs),
            is_fixed: dice.bool(),
            latency: Duration::from_millis(dice.u64(20..250)),
        }
    }

    /// From the quarter of an hour on at least 70 % of what is hidden is used, bursts of refusals
    /// come once in 100 s at most, and what is told in the end is 70 % to all of it. (Most cases
    /// are better: 88 % to 101 %, 6 to 16 bursts in half an hour, 80 % to 90 %.)
    fn find(seeds: std::ops::Range<u64>) {
        for seed in seeds {
            let hidden = hidden(seed);
            let pace = hidden.calls as f64 / hidden.window.as_secs_f64();
            let (server, learned, end) = half_an_hour(hidden);
            let half = end - Duration::from_mins(15);
            let late = server.accepted.iter().filter(|at| **at >= half).count();
            let used = late as f64 / 900.0 / pace;
            assert!(used >= 0.7, "{used:.2} of {hidden:?}");
            assert!(server.bursts <= 18, "{} bursts, {hidden:?}", server.bursts);
            let share = server.refusals as f64 / server.accepted.len() as f64;
            assert!(share <= 0.01, "{share} refused, {hidden:?}");
            let told = |learned: &Learned| {
                let plan = LimitPlan::parse(&learned.limit).expect("a limit");
                f64::from(plan.calls.get()) / plan.window.as_secs_f64() / pace
            };
            // Before a refusal nothing is known of a long window.
            for learned in learned.iter().filter(|learned| learned.refusals > 0) {
                let told = told(learned);
                assert!(told <= 1.0 + 1e-9, "{told:.2}: {learned:?}, {hidden:?}");
            }
            let last = learned.last().map(told);
            assert!(last >= Some(0.7), "{last:?} of {hidden:?}");
        }
    }

    #[test]
    fn hidden_limits_are_found() {
        find(0..15);
    }

    #[test]
    fn more_hidden_limits_are_found() {
        find(15..30);
    }
}
