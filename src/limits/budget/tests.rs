//! The law against servers that count: any schedule of sends, delays, losses and crashes.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::plan::limit::{Counting, LimitPlan, Spacing};

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

/// The law, and some that look like it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Law {
    Whole,
    /// Counts from sent, always.
    FromSent,
    /// Counts from sent if the round trip was short, without J.
    NoMargin,
    /// Forgets that what was abandoned may still arrive.
    NoFarewell,
    /// Forgets what a holder that died had out.
    NoMourning,
}

const LAWS: [Law; 5] = [
    Law::Whole,
    Law::FromSent,
    Law::NoMargin,
    Law::NoFarewell,
    Law::NoMourning,
];

/// What becomes of one request, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Fate {
    /// Idle time of the sender before it.
    idle: u64,
    /// From sent to arrived.
    there: u64,
    /// From arrived to received.
    back: u64,
    /// Given up so long before it arrives.
    lost: Option<u64>,
    /// Which of those who share the budget sends it.
    sender: usize,
    /// Its sender is killed when it is sent, and found dead so long after.
    killed: Option<u64>,
}

/// What ends a request, or many.
enum End {
    /// Request `i`, sent at that moment, was answered or given up.
    Over(usize, u64),
    /// This holder was found dead.
    Dead(u64),
}

struct Run {
    /// In nanoseconds, in order.
    arrived: Vec<u64>,
    /// How many round trips were believed.
    on_time: usize,
}

/// 2025-01-01 at moment 0; the calendar starts somewhere inside a minute.
fn now(at: u64) -> Now {
    let begin: Timestamp = "2025-01-01T00:00:13.7Z".parse().unwrap();
    Now {
        at: Moment(at),
        calendar: begin + SignedDuration::from_nanos(i64::try_from(at).unwrap()),
    }
}

/// Those who send as early as the budget allows, and what comes of it.
struct Senders<'a> {
    law: Law,
    rule: &'a Rule,
    fates: &'a [Fate],
    budget: Budget,
    jitter: Jitter,
    /// By time and number.
    ends: BTreeMap<(u64, usize), End>,
    /// When each request arrives.
    arrived: Vec<u64>,
    /// Who sends now: one that was killed is followed by another.
    holders: [u64; 3],
    on_time: usize,
}

impl Senders<'_> {
    /// What has ended until then is told to the budget.
    fn catch_up(&mut self, until: u64) {
        while let Some(entry) = self.ends.first_entry().filter(|e| e.key().0 <= until) {
            let ((ended, _), end) = entry.remove_entry();
            let (rule, jitter, ended) = (self.rule, &self.jitter, Moment(ended));
            let (i, sent) = match end {
                End::Over(i, sent) => (i, Moment(sent)),
                End::Dead(holder) if self.law == Law::NoMourning => {
                    self.budget.out.retain(|out| out.holder != holder);
                    self.budget.out_sum = self.budget.out.iter().map(|out| out.amount).sum();
                    continue;
                }
                End::Dead(holder) => {
                    self.budget.died(rule, holder, ended, jitter);
                    continue;
                }
            };
            let lost = self.fates[i].lost.is_some();
            let on_time = jitter.on_time(ended.since(sent));
            self.budget.me = self.holders[self.fates[i].sender];
            let from_sent = match self.law {
                Law::FromSent => true,
                Law::NoMargin => on_time && !lost,
                _ => false,
            };
            if from_sent || lost && self.law == Law::NoFarewell {
                let from = if from_sent { sent } else { ended };
                self.budget.is_back(sent, CALL);
                let back = from.plus(rule.window);
                let log = &mut self.budget.log;
                log.comes_back(back, CALL, rule.capacity, rule.window);
            } else if lost {
                self.budget.abandoned(rule, sent, ended, CALL, jitter);
            } else {
                let costs = (CALL, CALL);
                self.budget.answered(rule, sent, ended, costs, jitter);
            }
            if !lost {
                self.on_time += usize::from(on_time);
                self.jitter.learn(ended.since(sent));
            }
        }
    }

    /// A sender is killed: nothing of its requests is heard any more, and what is on its way
    /// arrives at the latest a second after. Whoever follows reads the budget from a file.
    fn killed(&mut self, at: u64, sender: usize, found: u64) {
        let (fates, arrived) = (self.fates, &mut self.arrived);
        self.ends.retain(|_, end| match end {
            End::Over(i, _) if fates[*i].sender == sender => {
                arrived[*i] = arrived[*i].min(at + S);
                false
            }
            _ => true,
        });
        let dead = self.holders[sender];
        self.holders[sender] = dead + 3;
        self.ends.insert(
            (at + found * MS, usize::MAX - self.arrived.len()),
            End::Dead(dead),
        );
        let bytes = self.budget.encode();
        self.budget = Budget::decode(&bytes, self.holders[sender]).expect("its own bytes");
    }
}

/// Sends as early as the budget allows, and gives the arrivals at the server.
fn drive(law: Law, rule: &Rule, fates: &[Fate]) -> Run {
    let mut all = Senders {
        law,
        rule,
        fates,
        budget: Budget::default(),
        jitter: Jitter::default(),
        ends: BTreeMap::new(),
        arrived: Vec::new(),
        holders: [0, 1, 2],
        on_time: 0,
    };
    let mut at = 0;
    for (i, fate) in fates.iter().enumerate() {
        let mut until = at + fate.idle * MS;
        let staged = loop {
            all.catch_up(until);
            at = at.max(until);
            match all.budget.ask(rule, now(at), CALL, &all.jitter) {
                Ok(staged) => break staged,
                Err(held) => {
                    let end = all.ends.keys().next().map(|(end, _)| *end);
                    until = match held.until {
                        Answer::NotBefore(next) => {
                            assert!(next.0 > at, "an instant to wait for is in the future");
                            end.map_or(next.0, |end| end.min(next.0))
                        }
                        _ => end.expect("a request is unanswered"),
                    };
                }
            }
        };
        all.budget.me = all.holders[fate.sender];
        all.budget.take(rule, now(at), CALL, staged);
        all.arrived.push(at + fate.there * MS);
        let after = match fate.lost {
            Some(early) => fate.there.saturating_sub(early.min(1000)),
            None => fate.there + fate.back,
        };
        all.ends.insert((at + after * MS, i), End::Over(i, at));
        if let Some(found) = fate.killed {
            all.killed(at, fate.sender, found);
        }
    }
    all.arrived.sort_unstable();
    Run {
        arrived: all.arrived,
        on_time: all.on_time,
    }
}

/// Whether some half-open window holds more than `calls` arrivals.
fn breaks_window(arrived: &[u64], calls: usize, window: u64) -> bool {
    arrived.windows(calls + 1).any(|w| w[calls] - w[0] < window)
}

/// Whether a window of some server that lays them end to end holds more: counted window by
/// window, at every phase at which an arrival begins one or is the last of one.
fn breaks_laid_windows(arrived: &[u64], calls: usize, window: u64) -> bool {
    let phases = arrived.iter().flat_map(|at| [*at, *at + 1]);
    phases.map(|begin| window - begin % window).any(|phase| {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for at in arrived {
            *counts.entry((at + phase) / window).or_default() += 1;
        }
        counts.values().any(|count| *count > calls)
    })
}

fn breaks_bucket(arrived: &[u64], size: f64, per_second: f64) -> bool {
    let (mut level, mut last) = (size, 0);
    arrived.iter().any(|&at| {
        level = (level + (at - last) as f64 / S as f64 * per_second).min(size) - 1.0;
        last = at;
        level < -1e-6
    })
}

fn breaks_counter(arrived: &[u64], calls: f64, window: u64) -> bool {
    (0..10).any(|phase| {
        let (mut current, mut before, mut count) = (0, 0.0, 0.0);
        arrived.iter().any(|&at| {
            let at = at + phase * window / 10;
            let index = at / window;
            if index != current {
                before = if index == current + 1 { count } else { 0.0 };
                (current, count) = (index, 0.0);
            }
            count += 1.0;
            let share = (at % window) as f64 / window as f64;
            before * (1.0 - share) + count > calls + 1e-6
        })
    })
}

fn fate() -> impl Strategy<Value = Fate> {
    (
        prop_oneof![4 => Just(0), 1 => 0..3000_u64],
        prop_oneof![2 => Just(0), 2 => 0..50_u64, 1 => 0..2500_u64],
        prop_oneof![2 => Just(0), 2 => 0..50_u64, 1 => 0..2500_u64],
        prop::option::weighted(0.15, 0..1000_u64),
        0..3_usize,
        prop::option::weighted(0.05, 0..4000_u64),
    )
        .prop_map(|(idle, there, back, lost, sender, killed)| Fate {
            idle,
            there,
            back,
            lost,
            sender,
            killed,
        })
}

fn plan(calls: u32, window: u64) -> LimitPlan {
    LimitPlan {
        calls: calls.try_into().unwrap(),
        window: std::time::Duration::from_millis(window),
        spacing: Spacing::Burst,
        ..LimitPlan::parse("1/s").unwrap()
    }
}

fn rule(calls: u32, window: u64, strict: bool, counting: Counting) -> Rule {
    Rule::new(&LimitPlan {
        counting,
        strict,
        ..plan(calls, window)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn at_most_n_arrive_in_any_window(
        calls in 1..12_u32,
        window in prop_oneof![Just(1000_u64), 1..5000_u64],
        fates in prop::collection::vec(fate(), 1..90),
    ) {
        let window_rule = rule(calls, window, false, Counting::Window);
        let arrived = drive(Law::Whole, &window_rule, &fates).arrived;
        let (calls, window) = (calls as usize, window * MS);
        prop_assert!(!breaks_window(&arrived, calls, window), "{arrived:?}");
        prop_assert!(!breaks_laid_windows(&arrived, calls, window), "{arrived:?}");
    }

    #[test]
    fn a_bucket_never_runs_over(
        calls in 1..12_u32,
        size in 1..20_u32,
        fates in prop::collection::vec(fate(), 1..90),
    ) {
        let bucket = rule(calls, 1000, false, Counting::Bucket(size.try_into().unwrap()));
        let arrived = drive(Law::Whole, &bucket, &fates).arrived;
        prop_assert!(!breaks_bucket(&arrived, f64::from(size), f64::from(calls)), "{arrived:?}");
    }
}

/// A network with some jitter, and rare long delays on the way there; requests that are lost, and
/// senders that die.
fn weather(random: &mut fastrand::Rng, requests: usize, jitter: u64) -> Vec<Fate> {
    (0..requests)
        .map(|_| Fate {
            idle: 0,
            there: 30
                + random.u64(0..=jitter)
                + if random.u32(0..500) == 0 {
                    random.u64(300..3000)
                } else {
                    0
                },
            back: 30 + random.u64(0..=jitter),
            lost: (random.u32(0..50) == 0).then(|| random.u64(0..1000)),
            sender: random.usize(0..3),
            killed: (random.u32(0..100) == 0).then(|| random.u64(0..300)),
        })
        .collect()
}

/// Long runs, in which round trips come to be believed; and rules that are nearly the law, which
/// break the limit there: so this is able to fail.
#[test]
fn believed_round_trips_keep_the_law_and_its_mutants_break_it() {
    let mut broken = BTreeMap::new();
    for (seed, jitter) in (0..30).zip([0, 10, 60, 200].into_iter().cycle()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let fates = weather(&mut random, 1500, jitter);
        for law in LAWS {
            for (calls, window) in [(5, 1000), (1, 300), (60, 5000)] {
                let window_rule = rule(calls, window, false, Counting::Window);
                let run = drive(law, &window_rule, &fates);
                let breaks = breaks_window(&run.arrived, calls as usize, window * MS);
                *broken.entry(format!("{law:?}")).or_insert(0) += u32::from(breaks);
                assert!(run.on_time > 500, "{}", run.on_time);
            }
        }
    }
    assert_eq!(broken["Whole"], 0, "{broken:?}");
    for mutant in &LAWS[1..] {
        let mutant = &*format!("{mutant:?}");
        assert!(broken[mutant] > 20, "{broken:?}");
    }
}

#[test]
fn other_ways_of_counting_hold_too() {
    for (seed, jitter) in (0..20).zip([0, 10, 15].into_iter().cycle()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let fates = weather(&mut random, 1500, jitter);
        let bucket = rule(2, 1000, false, Counting::Bucket(40.try_into().unwrap()));
        let run = drive(Law::Whole, &bucket, &fates);
        assert!(!breaks_bucket(&run.arrived, 40.0, 2.0), "bucket {seed}");
        let counter = rule(100, 5000, false, Counting::Counter);
        let run = drive(Law::Whole, &counter, &fates);
        assert!(
            !breaks_counter(&run.arrived, 100.0, 5000 * MS),
            "counter {seed}"
        );
        let minutes = Counting::Calendar(
            crate::plan::limit::CalendarUnit::Minute,
            jiff::tz::TimeZone::UTC,
        );
        let minutes = rule(100, 60_000, false, minutes);
        let run = drive(Law::Whole, &minutes, &fates);
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        for at in &run.arrived {
            // The server's clock is half a second off.
            *counts.entry((at + 14_200 * MS) / (60 * S)).or_default() += 1;
        }
        assert!(counts.values().all(|n| *n <= 100), "calendar {counts:?}");
    }
}

/// At least 99 % of the limit, where the window is a hundred times the round trip and more.
#[test]
fn what_is_allowed_is_used() {
    let calm = |requests| {
        vec![
            Fate {
                idle: 0,
                there: 25,
                back: 25,
                lost: None,
                sender: 0,
                killed: None,
            };
            requests
        ]
    };
    let minute = Counting::Calendar(
        crate::plan::limit::CalendarUnit::Minute,
        jiff::tz::TimeZone::UTC,
    );
    for (calls, window, counting, requests) in [
        (10, 5000, Counting::Window, 2000),
        (600, 300_000, Counting::Window, 6000),
        (1, 5000, Counting::Window, 300),
        (2000, 60_000, Counting::Window, 20_000),
        (2, 1000, Counting::Bucket(40.try_into().unwrap()), 2000),
        (1000, 60_000, minute, 10_000),
    ] {
        for strict in [false, true] {
            let window_rule = rule(calls, window, strict, counting.clone());
            let run = drive(Law::Whole, &window_rule, &calm(requests));
            let took = run.arrived[requests - 1] - run.arrived[0];
            let ideal = requests as f64 / f64::from(calls) * (window * MS) as f64;
            // What goes at once at the end or the beginning is no pace: one window is forgiven.
            let is_sliding = !matches!(counting, Counting::Calendar(..));
            let ideal = ideal
                - if is_sliding {
                    (window * MS) as f64
                } else {
                    0.0
                };
            let used = ideal / took as f64;
            assert!(
                used >= 0.99,
                "{calls}/{window} {counting:?} {strict}: {used}"
            );
        }
    }
}
