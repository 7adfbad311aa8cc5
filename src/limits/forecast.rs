//! How long a run takes at its limits at least: reckoned ahead, from the numbers that the gate
//! keeps to. Pure, and nothing is taken.
//!
//! What others have used of a limit is not known here, so every window counts as fresh.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Limits;
use super::calendar;
use super::cell::Pace;
use super::rule::{Kind, Rule};
use super::scope::{Key, Needs, units};
use crate::event::Name;

/// Windows of the calendar that are looked up one by one; what is beyond is reckoned.
const LOOKED_UP: u64 = 1000;

/// What a run will ask of its limits.
#[derive(Debug, Default)]
pub struct Demand {
    amounts: HashMap<Key, u64>,
}

impl Demand {
    /// So many requests like this one.
    pub fn add(&mut self, needs: &Needs, times: u64) {
        for (key, amount) in &needs.parts {
            let sum = self.amounts.entry(Arc::clone(key)).or_default();
            *sum = sum.saturating_add(amount.saturating_mul(times));
        }
    }
}

/// What one limit means for a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// The limit, as written.
    pub limit: Name,
    /// What it counts, if not calls.
    pub unit: Option<Name>,
    /// Most calls, or units, in a window, without the reserve.
    pub allows: f64,
    /// The window's length.
    pub window: Duration,
    /// Its budgets that the run needs: more than one where `per` tells them apart.
    pub budgets: usize,
    /// Calls, or units, that the run needs, of all its budgets together.
    pub needs: f64,
    /// Those of the budget that is needed most.
    pub most: f64,
    /// From the first to the last request that the limit allows, if nothing else holds them.
    pub time: Duration,
}

impl Limits {
    /// What each limit means for a run that asks for `demand`, in the order of the file. Nothing
    /// can be said of one that is yet to be found.
    pub fn forecast(&self, demand: &Demand) -> Vec<Forecast> {
        if self.shared.auto.is_some() {
            return Vec::new();
        }
        let now = self.shared.clock.calendar();
        let rules = self.shared.rules.iter().enumerate().skip(1);
        rules
            .map(|(at, rule)| {
                let of = |(key, amount): (&Key, &u64)| (key.0 == at).then_some(*amount);
                let amounts: Vec<u64> = demand.amounts.iter().filter_map(of).collect();
                let most = amounts.iter().copied().max().unwrap_or(0);
                let sum = amounts
                    .iter()
                    .fold(0_u64, |sum, one| sum.saturating_add(*one));
                Forecast {
                    limit: rule.name(),
                    unit: rule.unit.clone(),
                    allows: units(rule.per_window()),
                    window: Duration::from_nanos(rule.window),
                    budgets: amounts.len(),
                    needs: units(sum),
                    most: units(most),
                    time: Duration::from_nanos(rule.time(most, now)),
                }
            })
            .collect()
    }
}

impl Rule {
    /// Nanoseconds from the first to the last of requests that cost `amount` together.
    fn time(&self, amount: u64, now: Timestamp) -> u64 {
        let cells = self.in_cells(amount);
        let paced = |pace: Option<Pace>| {
            pace.map_or(0, |pace| {
                pace.period.saturating_mul(cells.saturating_sub(pace.burst))
            })
        };
        // The windows that begin after the first.
        let further = amount.div_ceil(self.capacity.max(1)).saturating_sub(1);
        let windows = further.saturating_mul(self.window);
        match &self.kind {
            Kind::Slots => 0,
            Kind::Window(pace) => windows.max(paced(*pace)),
            Kind::Calendar(unit, zone, pace) => {
                let mut at = now;
                for _ in 0..further.min(LOOKED_UP) {
                    at = calendar::boundary(*unit, zone, at);
                }
                let looked_up = u64::try_from(at.duration_since(now).as_nanos()).unwrap_or(0);
                let beyond = further
                    .saturating_sub(LOOKED_UP)
                    .saturating_mul(self.window);
                looked_up.saturating_add(beyond).max(paced(*pace))
            }
            Kind::Bucket => paced(Some(self.bucket(0).0)),
            Kind::Counter => windows.max(paced(Some(self.counter(0)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::super::Asked;
    use super::*;
    use crate::clock::Clock;
    use crate::plan::limit::{CalendarUnit, Counting, LimitPlan, Per, Spacing};

    fn limits(clock: Clock, plans: &[LimitPlan]) -> Limits {
        let base = Url::parse("https://api.test/v1").expect("a URL");
        Limits::new(clock, &base, plans, 8)
    }

    fn needs(limits: &Limits, repo: &str, cost: f64) -> Needs {
        let asked = Asked {
            method: &http::Method::GET,
            url: &Url::parse("https://api.test/v1/items").expect("a URL"),
            credential: false,
            variables: &[("repo".to_owned(), minijinja::Value::from(repo))],
            cost: &[("weight".into(), cost)],
        };
        limits.needs(&asked).expect("covered")
    }

    fn parsed(written: &str) -> LimitPlan {
        LimitPlan::parse(written).expect("a limit")
    }

    /// The gate itself, asked by one who never does anything else, takes as long as forecast.
    #[tokio::test(start_paused = true)]
    async fn forecasts_are_what_the_gate_does() {
        let bucket = Counting::Bucket(40.try_into().expect("some"));
        let zone = jiff::tz::TimeZone::UTC;
        let plans = [
            (parsed("10/s"), 95, 1.0),
            (parsed("80/min"), 200, 1.0),
            (parsed("100/h"), 250, 1.0),
            (parsed("1/3s"), 20, 1.0),
            (parsed("600 weight/min"), 300, 7.0),
            (
                LimitPlan {
                    spacing: Spacing::Even,
                    ..parsed("60/min")
                },
                90,
                1.0,
            ),
            (
                LimitPlan {
                    counting: bucket,
                    ..parsed("2/s")
                },
                100,
                1.0,
            ),
            (
                LimitPlan {
                    counting: Counting::Counter,
                    ..parsed("30/min")
                },
                70,
                1.0,
            ),
            (
                LimitPlan {
                    counting: Counting::Calendar(CalendarUnit::Hour, zone),
                    ..parsed("50/h")
                },
                120,
                1.0,
            ),
        ];
        for (plan, requests, cost) in plans {
            let clock = Clock::simulated("2026-11-22T02:30:00Z".parse().expect("an instant"));
            let limits = limits(clock, std::slice::from_ref(&plan));
            let needs = needs(&limits, "", cost);
            let mut demand = Demand::default();
            demand.add(&needs, requests);
            let [forecast] = &limits.forecast(&demand)[..] else {
                panic!("one limit");
            };
            let start = clock.now();
            for _ in 1..requests {
                limits
                    .permit(&needs, |_| {}, |_, _| {})
                    .await
                    .answered(Vec::new());
            }
            drop(limits.permit(&needs, |_| {}, |_, _| {}).await);
            let (took, told) = (clock.now() - start, forecast.time);
            let share = took.as_secs_f64() / told.as_secs_f64();
            assert!(
                (0.97..1.08).contains(&share),
                "{plan}: {took:?} instead of {told:?}"
            );
        }
    }

    #[test]
    fn the_fullest_budget_counts_and_all_are_summed() {
        let plan = LimitPlan {
            per: Some(vec![Per::Variable("repo".to_owned())]),
            ..parsed("100/h")
        };
        let limits = limits(Clock::system(), &[plan]);
        let mut demand = Demand::default();
        for (repo, times) in [("a", 20), ("b", 350), ("c", 100)] {
            demand.add(&needs(&limits, repo, 1.0), times);
        }
        let [forecast] = &limits.forecast(&demand)[..] else {
            panic!("one limit");
        };
        assert_eq!(forecast.budgets, 3);
        assert_eq!((forecast.needs, forecast.most), (470.0, 350.0));
        assert_eq!(forecast.time, Duration::from_hours(3));
    }

    #[test]
    fn what_is_not_needed_takes_no_time() {
        let limits = limits(Clock::system(), &[parsed("1/h")]);
        let [forecast] = &limits.forecast(&Demand::default())[..] else {
            panic!("one limit");
        };
        assert_eq!((forecast.time, forecast.budgets), (Duration::ZERO, 0));
    }
}
