//! `limits: auto`: finds what an API allows that does not say so, by asking a little more until it
//! refuses. Additive increase, multiplicative decrease, as TCP does it (RFC 5681 section 3.1).
//!
//! Pure: it hears of answers and refusals and says at what pace and how many at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::moment::{Moment, nanos};
use super::rule::Rule;
use super::{Limits, Shared};
use crate::plan::limit::LimitPlan;

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
/// What was sent before a pause may be refused this many nanoseconds after it still.
const STRAGGLING: u64 = 1_000_000_000;
/// Of the pace that went through this share is declared: the last window may have been a full one.
const SAFE: f64 = 0.95;
/// A whole number of calls a second is good enough from this share of the pace on.
const NEAR_WHOLE: f64 = 0.9;
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
    /// The refusal before, and the answers since.
    before: Option<(Moment, u64)>,
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
            before: None,
            first: None,
        }
    }

    /// A search, where the limits ask for one.
    pub(super) fn wanted(plans: &[LimitPlan], most: usize) -> Option<Mutex<Self>> {
        (plans.iter().any(LimitPlan::is_auto)).then(|| Mutex::new(Self::new(most)))
    }

    /// An answer that was no refusal came; whether that changed anything.
    pub(super) fn answered(&mut self, now: Moment) -> bool {
        for (_, answers) in self.first.iter_mut().chain(&mut self.before) {
            *answers += 1;
        }
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
        let late = if same_burst { 0 } else { STRAGGLING };
        self.quiet = self.quiet.max(until.max(now).plus(late));
        (self.good, self.since) = (0, None);
        self.refusals += 1;
        self.first.get_or_insert((now, 0));
        if same_burst {
            return false;
        }
        // With a long window the pace at its end tells less than what went through from refusal
        // to refusal.
        let through = self
            .before
            .filter(|(_, answers)| *answers >= u64::from(STEP));
        let through =
            through.map(|(at, answers)| answers as f64 / seconds(now.since(at)).max(1e-6));
        self.refused = Some(through.map_or(self.rate, |pace| self.rate.min(pace / NEAR)));
        self.before = Some((now, 0));
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
                SAFE * answers as f64 / seconds(now.since(first)).max(1e-6)
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
    use std::collections::VecDeque;
    use std::sync::Arc;

    use proptest::prelude::*;
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
        assert_eq!((auto.rate, auto.slots), (4.0, 3));
        // An answer to what was sent before tells nothing.
        assert!(!auto.answered(at(16)));
        assert!(auto.refused(at(17), at(18)));
        assert_eq!((auto.rate, auto.slots, auto.refusals), (2.0, 1, 3));
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

    /// A server that allows `calls` in any `window` and says when to come back.
    struct Server {
        calls: usize,
        window: Duration,
        arrived: VecDeque<Instant>,
        refusals: u64,
        accepted: Vec<Instant>,
    }

    impl Server {
        fn ask(&mut self, now: Instant) -> Result<(), Instant> {
            while self
                .arrived
                .front()
                .is_some_and(|at| *at + self.window <= now)
            {
                self.arrived.pop_front();
            }
            if let (true, Some(first)) = (self.arrived.len() >= self.calls, self.arrived.front()) {
                self.refusals += 1;
                return Err(*first + self.window);
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

    /// Works for half an hour; gives the server, what was learned, and when it ended.
    fn half_an_hour(
        calls: usize,
        window: Duration,
        latency: Duration,
    ) -> (Server, Learned, Instant) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let clock = Clock::simulated("2026-11-22T02:30:00Z".parse().expect("an instant"));
            let base = Url::parse("https://api.test").expect("a URL");
            let limits = Limits::new(clock, &base, &[LimitPlan::auto()], 16);
            let server = Arc::new(Mutex::new(Server {
                calls,
                window,
                arrived: VecDeque::new(),
                refusals: 0,
                accepted: Vec::new(),
            }));
            let end = clock.now() + Duration::from_mins(30);
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..16 {
                let (limits, server) = (limits.clone(), server.clone());
                tasks.spawn(async move {
                    let needs = needs(&limits);
                    while clock.now() < end {
                        let mut permit = limits.permit(&needs, |_| {}, |_, _| {}).await;
                        clock.sleep_until(clock.now() + latency / 2).await;
                        let answer = server.lock().expect("no panic").ask(clock.now());
                        clock.sleep_until(clock.now() + latency / 2).await;
                        permit.received();
                        if let Err(until) = answer {
                            limits.pause(&needs, until, "429");
                        }
                        permit.answered(Vec::new());
                    }
                });
            }
            while tasks.join_next().await.is_some() {}
            let server = Arc::into_inner(server).expect("all ended").into_inner();
            (
                server.expect("no panic"),
                limits.learned().expect("half an hour teaches"),
                end,
            )
        })
    }

    proptest! {
        // The bounds are aims, not laws: the same cases each time.
        #![proptest_config(ProptestConfig { cases: 6, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

        #[test]
        fn hidden_limits_are_found(
            (calls, secs) in prop_oneof![
                (2_usize..20).prop_map(|calls| (calls, 1_u64)),
                (20_usize..200).prop_map(|calls| (calls, 10)),
                (60_usize..300).prop_map(|calls| (calls, 60)),
            ],
            millis in 20_u64..250,
        ) {
            let window = Duration::from_secs(secs);
            let hidden = calls as f64 / window.as_secs_f64();
            let (server, learned, end) = half_an_hour(calls, window, Duration::from_millis(millis));
            let half = end - Duration::from_mins(15);
            let late = server.accepted.iter().filter(|at| **at >= half).count();
            let pace = late as f64 / 900.0;
            // Halving and coming back leaves three quarters at best; few calls a window, and long
            // windows, which are overshot before they refuse, leave less.
            prop_assert!(pace >= 0.55 * hidden, "{} of {}", pace, hidden);
            let share = server.refusals as f64 / server.accepted.len() as f64;
            prop_assert!(share <= 0.02, "{} of {} refused", server.refusals, server.accepted.len());
            let plan = LimitPlan::parse(&learned.limit).expect("a limit");
            let told = f64::from(plan.calls.get()) / plan.window.as_secs_f64();
            prop_assert!((0.5..1.0001).contains(&(told / hidden)), "{} of {}", learned.limit, hidden);
        }
    }
}
