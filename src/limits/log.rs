//! The law of one limit, `N per W`: a log of N permits.
//!
//! A permit is out while its request is unanswered. Answered, it comes back a window after the
//! receipt; abandoned, a window and a margin after it was given up. A request reaches the server
//! no later than its answer is received, so two users of one permit arrive at least W apart, and
//! N permits put at most N arrivals into any half-open window W, however delays fall: enough for
//! a sliding log, a fixed window of any phase, and a bucket.
//!
//! It stands alone because it is the authority: spacing only ever adds to it.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::clock::Instant;

/// How long after it was given up a request may still reach the server: a time-out or a reset
/// says nothing about bytes that are on their way.
pub(super) const MARGIN: Duration = Duration::from_secs(1);

/// Windows are cut to a century, so that sums of instants cannot overflow.
pub(super) const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// What a limit says to one more request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It may go now.
    Now,
    /// It may not go before this instant.
    NotBefore(Instant),
    /// Every permit is out with an unanswered request: when one comes back is not known yet,
    /// only that it will not be before this instant.
    Unknown(Instant),
}

impl Answer {
    /// The earliest instant at which the request could go; `None` is now.
    pub(super) fn earliest(self) -> Option<Instant> {
        match self {
            Self::Now => None,
            Self::NotBefore(at) | Self::Unknown(at) => Some(at),
        }
    }
}

/// N permits and where they are. Holds at most N instants, and no more than were ever used.
#[derive(Debug)]
pub(super) struct Log {
    permits: usize,
    window: Duration,
    /// Permits whose request is unanswered.
    out: usize,
    /// When the used ones come back, soonest first.
    back: VecDeque<Instant>,
}

impl Log {
    /// A log with every permit at home.
    pub(super) fn new(calls: NonZeroU32, window: Duration) -> Self {
        Self {
            permits: usize::try_from(calls.get()).unwrap_or(usize::MAX),
            window: window.min(LONGEST),
            out: 0,
            back: VecDeque::new(),
        }
    }

    /// Whether a permit is at home at `now`.
    pub(super) fn ask(&mut self, now: Instant) -> Answer {
        while self.back.front().is_some_and(|at| *at <= now) {
            self.back.pop_front();
        }
        if self.out + self.back.len() < self.permits {
            return Answer::Now;
        }
        match self.back.front() {
            Some(at) => Answer::NotBefore(*at),
            None => Answer::Unknown(now + self.window),
        }
    }

    /// Sends a permit out; only after [`Log::ask`] said so.
    pub(super) fn take(&mut self) {
        self.out += 1;
    }

    /// The answer to a request was received at `now`.
    pub(super) fn answered(&mut self, now: Instant) {
        self.comes_back(now + self.window);
    }

    /// A request was given up at `now`, its fate unknown.
    pub(super) fn abandoned(&mut self, now: Instant) {
        self.comes_back(now + self.window + MARGIN);
    }

    fn comes_back(&mut self, at: Instant) {
        self.out = self.out.saturating_sub(1);
        // Nearly always the last place; abandoned ones come back later than some that follow.
        let place = self.back.partition_point(|other| *other <= at);
        self.back.insert(place, at);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::Clock;

    /// What becomes of one request, in milliseconds.
    #[derive(Debug, Clone, Copy)]
    struct Fate {
        /// Idle time of the sender before it.
        idle: u64,
        /// From sent to arrived.
        there: u64,
        /// From arrived to received; a lost one is given up so long before it arrives, at most
        /// the margin.
        back: u64,
        lost: bool,
    }

    /// The law, and two that look like it.
    #[derive(Clone, Copy, PartialEq)]
    enum Rule {
        Law,
        /// Counts from sent.
        FromSent,
        /// Forgets the margin of abandoned requests.
        NoMargin,
    }

    /// Sends as early as the log allows and gives the arrivals at the server.
    fn arrivals(rule: Rule, calls: u32, window: u64, fates: &[Fate]) -> Vec<u64> {
        let ms = Duration::from_millis;
        let start = Clock::system().now();
        let calls = NonZeroU32::new(calls).unwrap();
        let mut log = Log::new(calls, ms(window));
        let mut arrived = Vec::new();
        let mut ends: BTreeMap<(u64, usize), bool> = BTreeMap::new();
        let mut now = 0;
        for (i, fate) in fates.iter().enumerate() {
            let mut until = now + fate.idle;
            loop {
                // All that ends up to `until`, each at its own time.
                while let Some(end) = ends.first_entry().filter(|e| e.key().0 <= until) {
                    let ((at, _), lost) = end.remove_entry();
                    if rule == Rule::FromSent {
                    } else if lost && rule != Rule::NoMargin {
                        log.abandoned(start + ms(at));
                    } else {
                        log.answered(start + ms(at));
                    }
                }
                now = now.max(until);
                match log.ask(start + ms(now)) {
                    Answer::Now => break,
                    Answer::NotBefore(at) => {
                        let at = u64::try_from((at - start).as_millis()).unwrap();
                        assert!(at > now, "an instant to wait for is in the future");
                        until = ends.keys().next().map_or(at, |(end, _)| at.min(*end));
                    }
                    Answer::Unknown(_) => {
                        until = ends.keys().next().expect("a permit is out").0;
                    }
                }
            }
            log.take();
            assert!(log.out + log.back.len() <= log.permits, "memory is bounded");
            if rule == Rule::FromSent {
                log.answered(start + ms(now));
            }
            arrived.push(now + fate.there);
            if fate.lost {
                let given_up = fate.there.saturating_sub(fate.back.min(1000));
                ends.insert((now + given_up, i), true);
            } else {
                ends.insert((now + fate.there + fate.back, i), false);
            }
        }
        arrived.sort_unstable();
        arrived
    }

    /// Whether some half-open window holds more than `calls` arrivals.
    fn broken(arrived: &[u64], calls: u32, window: u64) -> bool {
        arrived
            .windows(calls as usize + 1)
            .any(|w| w[w.len() - 1] - w[0] < window)
    }

    fn fate() -> impl Strategy<Value = Fate> {
        (
            prop_oneof![4 => Just(0), 1 => 0..3000_u64],
            prop_oneof![2 => Just(0), 2 => 0..50_u64, 1 => 0..2500_u64],
            prop_oneof![2 => Just(0), 2 => 0..50_u64, 1 => 0..2500_u64],
            prop::bool::weighted(0.15),
        )
            .prop_map(|(idle, there, back, lost)| Fate {
                idle,
                there,
                back,
                lost,
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn at_most_n_arrive_in_any_window(
            calls in 1..12_u32,
            window in prop_oneof![Just(1000_u64), 1..5000_u64],
            fates in prop::collection::vec(fate(), 1..80),
        ) {
            let arrived = arrivals(Rule::Law, calls, window, &fates);
            prop_assert!(!broken(&arrived, calls, window), "{arrived:?}");
        }
    }

    /// The property above is able to fail: on rules that are nearly the law, it does.
    #[test]
    fn other_rules_break_the_limit() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut seen = [0, 0, 0];
        for _ in 0..100 {
            let fates: Vec<Fate> = (0..60)
                .map(|_| Fate {
                    idle: 0,
                    there: rng.u64(0..900),
                    back: rng.u64(0..900),
                    lost: rng.u8(0..4) == 0,
                })
                .collect();
            for (i, rule) in [Rule::Law, Rule::FromSent, Rule::NoMargin]
                .into_iter()
                .enumerate()
            {
                seen[i] += u32::from(broken(&arrivals(rule, 5, 1000, &fates), 5, 1000));
            }
        }
        let [law, from_sent, no_margin] = seen;
        assert_eq!(law, 0);
        assert!(from_sent > 50, "only {from_sent} of 100 schedules broke it");
        assert!(no_margin > 50, "only {no_margin} of 100 schedules broke it");
    }

    #[test]
    fn says_when() {
        let now = Clock::system().now();
        let s = Duration::from_secs;
        let mut log = Log::new(NonZeroU32::new(2).unwrap(), s(10));
        assert_eq!(log.ask(now), Answer::Now);
        log.take();
        log.take();
        assert_eq!(log.ask(now), Answer::Unknown(now + s(10)));
        log.abandoned(now + s(1));
        assert_eq!(log.ask(now + s(1)), Answer::NotBefore(now + s(12)));
        // A receipt later than a loss may still come back before it.
        log.answered(now + s(1));
        assert_eq!(log.ask(now + s(1)), Answer::NotBefore(now + s(11)));
        assert_eq!(log.ask(now + s(11)), Answer::Now);
    }
}
