//! How long a run takes at its limits at least: reckoned ahead, from the numbers that the gate
//! keeps to. Nothing is taken; what is used by now is as the book tells, if one is looked into.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Limits;
use super::book::BookProblem;
use super::budget::look::Look;
use super::calendar;
use super::cell::Pace;
use super::moment::Now;
use super::rule::{Kind, Rule};
use super::scope::{self, Key, Needs, units};
use super::shelf::{self, Shelf};
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
        for (key, amount) in needs.parts.iter() {
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
    /// The window's length; what is in flight has none.
    pub window: Option<Duration>,
    /// Its budgets that the run needs: more than one where `per` tells them apart.
    pub budgets: usize,
    /// Calls, or units, that the run needs, of all its budgets together.
    pub needs: f64,
    /// Those of the budget that is needed most.
    pub most: f64,
    /// Used by now, of the budget that will be fullest.
    pub used: f64,
    /// What that one comes to: used by now, and needed.
    pub fullest: f64,
    /// From the first to the last request that the limit allows, if nothing else holds them.
    pub time: Duration,
}

/// The book, and whose budgets are looked for in it.
#[derive(Debug)]
pub struct Used<'a> {
    /// The book.
    pub shelf: &'a Shelf,
    /// The source's credential, as for [`super::Asker`].
    pub credential: &'a str,
}

/// The budgets that a run needs of one limit.
#[derive(Debug, Default)]
struct Budgets {
    number: usize,
    sum: u64,
    most: u64,
    /// Used and needed of the fullest.
    used: u64,
    fullest: u64,
    time: u64,
}

impl Limits {
    /// What each limit means for a run that asks for `demand`, in the order of the file. Nothing
    /// can be said of one that is yet to be found. Without a book every window counts as fresh.
    ///
    /// # Errors
    /// The book cannot be read.
    pub fn forecast(
        &self,
        demand: &Demand,
        used: Option<&Used<'_>>,
    ) -> Result<Vec<Forecast>, BookProblem> {
        let shared = &self.shared;
        if shared.auto.is_some() {
            return Ok(Vec::new());
        }
        let now = shelf::now(&shared.clock);
        let files = used.map(|used| used.shelf.files()).transpose()?;
        let rules = shared.rules();
        let mut all: Vec<Budgets> = rules.iter().map(|_| Budgets::default()).collect();
        for (key, amount) in &demand.amounts {
            let (Some(rule), Some(budgets)) = (rules.get(key.0), all.get_mut(key.0)) else {
                continue;
            };
            let look = used.zip(files.as_ref()).and_then(|(used, files)| {
                let identity = scope::identity(&shared.names, used.credential, key)?;
                used.shelf.look(files, &identity, rule, now)
            });
            budgets.add(rule, *amount, look.as_ref(), now);
        }
        let rules = rules.iter().zip(&all).skip(1);
        let forecast = |(rule, budgets): (&Rule, &Budgets)| Forecast {
            limit: rule.name(),
            unit: rule.unit.clone(),
            allows: units(rule.per_window()),
            window: rule.length(),
            budgets: budgets.number,
            needs: units(budgets.sum),
            most: units(budgets.most),
            used: units(budgets.used),
            fullest: units(budgets.fullest),
            time: Duration::from_nanos(budgets.time),
        };
        Ok(rules.map(forecast).collect())
    }
}

impl Budgets {
    /// One more, of which `amount` is needed.
    fn add(&mut self, rule: &Rule, amount: u64, look: Option<&Look>, now: Now) {
        let used = look.map_or(0, |look| look.used.min(rule.capacity));
        let full = used.saturating_add(amount);
        self.number += 1;
        self.sum = self.sum.saturating_add(amount);
        self.most = self.most.max(amount);
        if full > self.fullest {
            (self.used, self.fullest) = (used, full);
        }
        self.time = self.time.max(rule.time(amount, look, now));
    }
}

impl Rule {
    /// Nanoseconds from now to the last of requests that cost `amount` together, if nothing else
    /// holds them.
    fn time(&self, amount: u64, look: Option<&Look>, now: Now) -> u64 {
        if amount == 0 {
            return 0;
        }
        let cells = self.in_cells(amount);
        let charged = look.map_or(0, |look| look.tat.since(now.at));
        let paced = |pace: Option<Pace>| {
            pace.map_or(0, |pace| {
                let all = pace.period.saturating_mul(cells).saturating_add(charged);
                all.saturating_sub(pace.period.saturating_mul(pace.burst))
            })
        };
        let time = match &self.kind {
            // What is in flight is back with its answer: that takes no time of the limit's.
            Kind::Slots | Kind::Flight => 0,
            Kind::Window(pace) => self.windows(amount, look, now).max(paced(*pace)),
            Kind::Calendar(unit, zone, pace) => {
                let used = look.map_or(0, |look| look.used.min(self.capacity));
                let needed = used.saturating_add(amount).div_ceil(self.capacity.max(1));
                // The windows that begin after this one.
                let further = needed.saturating_sub(1);
                let mut at = now.calendar;
                for _ in 0..further.min(LOOKED_UP) {
                    at = calendar::boundary(*unit, zone, at);
                }
                let looked_up =
                    u64::try_from(at.duration_since(now.calendar).as_nanos()).unwrap_or(0);
                let beyond = further
                    .saturating_sub(LOOKED_UP)
                    .saturating_mul(self.window);
                looked_up.saturating_add(beyond).max(paced(*pace))
            }
            Kind::Bucket => paced(Some(self.bucket(0).0)),
            Kind::Counter => self
                .windows(amount, look, now)
                .max(paced(Some(self.counter(0)))),
        };
        let paused = look.and_then(|look| look.paused.as_ref());
        time.max(paused.map_or(0, |(until, _)| until.since(now.at)))
    }

    /// The same for a log of permits: each is back a window after it was used, those that are used
    /// by now when the log says.
    fn windows(&self, amount: u64, look: Option<&Look>, now: Now) -> u64 {
        let rounds = (amount - 1) / self.capacity.max(1);
        let last = amount - rounds * self.capacity;
        let back = look.map_or(&[][..], |look| &look.back);
        let used: u64 = back.iter().map(|(_, amount)| amount).sum();
        let mut free = self.capacity.saturating_sub(used);
        let mut offset = 0;
        for (at, amount) in back {
            if free >= last {
                break;
            }
            free += amount;
            offset = at.since(now.at);
        }
        rounds.saturating_mul(self.window).saturating_add(offset)
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::super::{Asked, Asker, Book};
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
            let [forecast] = &limits.forecast(&demand, None).expect("no book is read")[..] else {
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

    /// So too where some of it is used already, by another process, as the book tells.
    #[tokio::test(start_paused = true)]
    async fn what_is_used_by_now_is_taken_off() {
        let zone = jiff::tz::TimeZone::UTC;
        let of = |written, counting| LimitPlan {
            counting,
            ..parsed(written)
        };
        let bucket = Counting::Bucket(40.try_into().expect("some"));
        let plans = [
            (parsed("100/h"), 60, 30, 40.0),
            (parsed("100/h"), 60, 90, 40.0),
            (parsed("100/h"), 60, 250, 40.0),
            (parsed("80/min"), 70, 200, 10.0),
            (of("2/s", bucket), 40, 100, 80.0),
            (of("30/min", Counting::Counter), 20, 40, 10.0),
            (
                of("50/h", Counting::Calendar(CalendarUnit::Hour, zone)),
                30,
                120,
                20.0,
            ),
        ];
        for (plan, before, requests, left_now) in plans {
            let folder = tempfile::tempdir().expect("a folder");
            let clock = Clock::simulated("2026-11-22T02:30:00Z".parse().expect("an instant"));
            let base = Url::parse("https://api.test/v1").expect("a URL");
            let book = || Book::open(folder.path()).expect("a book");
            let open = || {
                let asker = Asker::default();
                Limits::booked(clock, &base, std::slice::from_ref(&plan), 8, book(), asker)
            };
            let turn = async |limits: &Limits| {
                let needs = needs(limits, "", 1.0);
                limits.permit(&needs, |_| {}, |_, _| {}).await
            };
            let other = open();
            for _ in 0..before {
                turn(&other).await.answered(Vec::new());
            }
            let mut demand = Demand::default();
            let limits = open();
            demand.add(&needs(&limits, "", 1.0), requests);
            let shelf = Shelf::open(folder.path()).expect("a book").expect("a book");
            let used = Used {
                shelf: &shelf,
                credential: "",
            };
            let Ok([forecast]) = limits
                .forecast(&demand, Some(&used))
                .map(|all| <[Forecast; 1]>::try_from(all).expect("one limit"))
            else {
                panic!("the book is read");
            };
            if !matches!(plan.counting, Counting::Bucket(_)) && plan.window > Duration::from_mins(1)
            {
                let after = (forecast.allows - forecast.fullest).max(0.0);
                let told = (forecast.allows - forecast.used, after);
                let right = (left_now, (left_now - requests as f64).max(0.0));
                assert_eq!(told, right, "{plan}");
            }
            let start = clock.now();
            for _ in 1..requests {
                turn(&limits).await.answered(Vec::new());
            }
            drop(turn(&limits).await);
            let (took, told) = (clock.now() - start, forecast.time);
            let apart = took.abs_diff(told);
            assert!(
                apart < plan.window.mul_f64(0.08) + took.mul_f64(0.03),
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
        let [forecast] = &limits.forecast(&demand, None).expect("no book is read")[..] else {
            panic!("one limit");
        };
        assert_eq!(forecast.budgets, 3);
        assert_eq!((forecast.needs, forecast.most), (470.0, 350.0));
        assert_eq!(forecast.time, Duration::from_hours(3));
    }

    #[test]
    fn what_is_not_needed_takes_no_time() {
        let limits = limits(Clock::system(), &[parsed("1/h")]);
        let [forecast] = &limits
            .forecast(&Demand::default(), None)
            .expect("no book is read")[..]
        else {
            panic!("one limit");
        };
        assert_eq!((forecast.time, forecast.budgets), (Duration::ZERO, 0));
    }
}
