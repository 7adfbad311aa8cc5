//! Scopes, costs and fairness; and the policies of real APIs, at full use.

use super::*;
use crate::plan::limit::{CalendarUnit, Counting, Per, Route};

/// How long it takes until `needs` gets a turn.
pub(super) async fn waits(limits: &Limits, needs: &Needs) -> (Permit, Duration) {
    let clock = limits.shared.clock;
    let start = clock.now();
    let permit = limits.permit(needs, |_| {}, |_, _| {});
    let permit = clock.timeout(Duration::from_hours(24), permit).await;
    (
        permit.expect("a turn comes within a day"),
        clock.now() - start,
    )
}

fn route(path: &str) -> Vec<Route> {
    let glob = globset::GlobBuilder::new(path)
        .literal_separator(true)
        .build();
    vec![Route {
        method: None,
        path: glob.expect("a glob").compile_matcher(),
    }]
}

fn parsed(written: &str) -> LimitPlan {
    LimitPlan::parse(written).expect("a limit")
}

#[tokio::test(start_paused = true)]
async fn routes_select_and_what_no_limit_covers_is_an_error() {
    let list = LimitPlan {
        routes: route("/list/*"),
        ..parsed("1/min")
    };
    let whole = LimitPlan {
        routes: route("/v1/search"),
        ..parsed("2/min")
    };
    let limits = super::limits(Clock::system(), &[list, whole], 8);
    let rules = |path: &str| -> Result<Vec<usize>, NoTurn> {
        let needs = needs_of(&limits, path, "", &[])?;
        Ok(needs.parts.iter().map(|(key, _)| key.0).collect())
    };
    assert_eq!(rules("/v1/list/a"), Ok(vec![0, 1]));
    assert_eq!(rules("/v1/search"), Ok(vec![0, 2]));
    let uncovered = |path: &str| NoTurn::Uncovered {
        method: http::Method::GET,
        path: path.to_owned(),
    };
    assert_eq!(rules("/v1/list/a/b"), Err(uncovered("/v1/list/a/b")));
    assert_eq!(rules("/v1/other"), Err(uncovered("/v1/other")));
}

#[tokio::test(start_paused = true)]
async fn each_value_has_a_budget_and_waiting_for_one_stops_no_other() {
    let per = LimitPlan {
        per: Some(vec![Per::Variable("repo".to_owned())]),
        ..parsed("1/min")
    };
    let limits = super::limits(Clock::system(), &[per, parsed("5/s")], 2);
    let of = |repo: &str| needs_of(&limits, "/v1/items", repo, &[]).unwrap();
    waits(&limits, &of("a")).await.0.answered(Vec::new());
    let held = tokio::spawn({
        let (limits, needs) = (limits.clone(), of("a"));
        async move { waits(&limits, &needs).await.1 }
    });
    tokio::task::yield_now().await;
    // The line of `a` is held; `b` and `c` pass it.
    for repo in ["b", "c", "d", "e"] {
        let (permit, took) = waits(&limits, &of(repo)).await;
        permit.answered(Vec::new());
        assert!(took < 2 * SEC, "{repo} {took:?}");
    }
    let took = held.await.unwrap();
    assert!(took >= 59 * SEC && took < 61 * SEC, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_starves_between_two_budgets() {
    // One wants both; two crowds want one each, and use them up as fast as they may.
    let first = LimitPlan {
        routes: route("/{both,left}"),
        ..parsed("2/10s")
    };
    let second = LimitPlan {
        routes: route("/{both,right}"),
        ..parsed("3/15s")
    };
    let limits = super::limits(Clock::system(), &[first, second], 8);
    let mut crowd = tokio::task::JoinSet::new();
    for path in ["/v1/left", "/v1/right"].repeat(6) {
        let limits = limits.clone();
        crowd.spawn(async move {
            let needs = needs_of(&limits, path, "", &[]).unwrap();
            loop {
                waits(&limits, &needs).await.0.answered(Vec::new());
            }
        });
    }
    let both = needs_of(&limits, "/v1/both", "", &[]).unwrap();
    for _ in 0..10 {
        let (permit, took) = waits(&limits, &both).await;
        permit.answered(Vec::new());
        assert!(took < 60 * SEC, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn costs_are_reserved_and_settled() {
    let limits = super::limits(Clock::system(), &[parsed("100 tokens/2min")], 8);
    let tokens = |n: f64| vec![(Name::from("tokens"), n)];
    let of = |n: f64| needs_of(&limits, "/v1/items", "", &tokens(n));
    let needs = of(80.0).unwrap();
    let (permit, _) = waits(&limits, &needs).await;
    permit.answered(tokens(9.5));
    // 70.5 came back at once; then less was reserved than it cost, and the next one pays.
    let (permit, took) = waits(&limits, &of(90.5).unwrap()).await;
    assert_eq!(took, Duration::ZERO);
    permit.answered(tokens(130.0));
    let (permit, took) = waits(&limits, &of(1.0).unwrap()).await;
    assert_eq!(took, 120 * SEC);
    drop(permit);
    assert!(matches!(of(100.5), Err(NoTurn::TooCostly { .. })));
    assert!(matches!(of(f64::NAN), Err(NoTurn::BadCost { .. })));
    assert!(of(100.0).is_ok() && of(0.0).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_throttle_pauses_the_limits_it_met_and_no_others() {
    let limit = |path: &str| LimitPlan {
        routes: route(path),
        ..parsed("100/min")
    };
    let limits = super::limits(Clock::system(), &[limit("/a"), limit("/b")], 8);
    let a = needs_of(&limits, "/v1/a", "", &[]).unwrap();
    let b = needs_of(&limits, "/v1/b", "", &[]).unwrap();
    limits.pause(&a, limits.shared.clock.now() + 30 * SEC, "429");
    let (permit, took) = waits(&limits, &b).await;
    permit.answered(Vec::new());
    assert_eq!(took, Duration::ZERO);
    let (permit, took) = waits(&limits, &a).await;
    permit.answered(Vec::new());
    assert_eq!(took, 30 * SEC);
    // Without limits the pause is for all.
    let limits = super::limits(Clock::system(), &[], 8);
    let all = needs(&limits);
    limits.pause(&all, limits.shared.clock.now() + 30 * SEC, "429");
    assert_eq!(waits(&limits, &all).await.1, 30 * SEC);
}

#[tokio::test(start_paused = true)]
async fn many_values_do_not_pile_up() {
    let per = LimitPlan {
        per: Some(vec![Per::Variable("repo".to_owned())]),
        ..parsed("5/s")
    };
    let clock = Clock::system();
    let limits = super::limits(clock, &[per], 8);
    for i in 0..20_000 {
        let needs = needs_of(&limits, "/v1/items", &i.to_string(), &[]).unwrap();
        waits(&limits, &needs).await.0.answered(Vec::new());
        if i % 100 == 0 {
            clock.sleep_until(clock.now() + 100 * MS).await;
        }
    }
    assert!(limits.shared.gate().budgets() < 4096);
    assert_eq!(limits.shared.lines.lock().unwrap().len(), 0);
}

/// Runs `workers` tasks on `paths` until `until`, one round trip of 50 ms each; gives the moment
/// of each arrival by path.
async fn work(
    limits: &Limits,
    workers: usize,
    paths: &[(&'static str, f64)],
    unit: &str,
    lasting: Duration,
) -> Vec<(Duration, &'static str)> {
    let clock = limits.shared.clock;
    let start = clock.now();
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..workers {
        let (limits, arrived) = (limits.clone(), arrived.clone());
        let (path, cost) = paths[worker % paths.len()];
        let needs = needs_of(&limits, path, "", &[(Name::from(unit), cost)]).expect("covered");
        tasks.spawn(async move {
            while clock.now() < start + lasting {
                let permit = limits.permit(&needs, |_| {}, |_, _| {}).await;
                clock.sleep_until(clock.now() + 25 * MS).await;
                arrived.lock().unwrap().push((clock.now() - start, path));
                clock.sleep_until(clock.now() + 25 * MS).await;
                permit.answered(Vec::new());
            }
        });
    }
    clock.sleep_until(start + lasting).await;
    tasks.shutdown().await;
    let mut arrived = std::mem::take(&mut *arrived.lock().unwrap());
    arrived.retain(|(at, _)| *at < lasting);
    arrived.sort_unstable();
    arrived
}

/// Most in any half-open window.
fn most(arrived: &[(Duration, &str)], window: Duration, on: impl Fn(&str) -> bool) -> usize {
    let times: Vec<_> = arrived
        .iter()
        .filter(|(_, p)| on(p))
        .map(|(t, _)| *t)
        .collect();
    let count = |i: usize| {
        times[i..]
            .iter()
            .take_while(|t| t.saturating_sub(times[i]) < window)
            .count()
    };
    (0..times.len()).map(count).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn github() {
    // 5000/h, 900 points/min (a GET is 1), 100 in flight, and 30 searches a minute beside.
    let search = LimitPlan {
        routes: route("/search/**"),
        ..parsed("30/min")
    };
    let plans = [parsed("5000/h"), parsed("900 points/min"), search];
    let limits = super::limits(Clock::system(), &plans, 100);
    let paths = [("/v1/repos/a", 1.0), ("/v1/search/issues", 1.0)];
    let arrived = work(&limits, 120, &paths, "points", Duration::from_hours(2)).await;
    assert_eq!(most(&arrived, 3600 * SEC, |_| true), 5000);
    assert!(most(&arrived, 60 * SEC, |_| true) <= 900);
    let searches = most(&arrived, 60 * SEC, |path| path.starts_with("/v1/search"));
    assert_eq!(searches, 30);
    assert!(arrived.len() >= 9900, "{}", arrived.len());
}

#[tokio::test(start_paused = true)]
async fn shopify() {
    // A bucket of 40 that leaks 2 a second: 40 at once, and then the full rate.
    let bucket = LimitPlan {
        counting: Counting::Bucket(40.try_into().unwrap()),
        ..parsed("2/s")
    };
    let limits = super::limits(Clock::system(), &[bucket], 8);
    let arrived = work(&limits, 16, &[("/v1/a", 1.0)], "", 1000 * SEC).await;
    for (i, (at, _)) in arrived.iter().enumerate() {
        // The i-th may come as soon as 40 and the leak until then allow.
        assert!(
            (i + 1) as f64 <= 40.0 + 2.0 * at.as_secs_f64() + 1e-9,
            "{i} {at:?}"
        );
    }
    assert!(arrived[35].0 < SEC, "{:?}", arrived[35]);
    assert!(arrived.len() >= 1980, "{}", arrived.len());
}

#[tokio::test(start_paused = true)]
async fn open_meteo() {
    // A request for many days weighs more; three windows at once.
    let plans = ["600 weight/min", "5000 weight/h", "10000 weight/d"].map(parsed);
    let limits = super::limits(Clock::system(), &plans, 8);
    let weight = 365.0 / 14.0;
    let arrived = work(
        &limits,
        16,
        &[("/v1/a", weight)],
        "weight",
        Duration::from_hours(30),
    )
    .await;
    let weigh = |n: usize| n as f64 * weight;
    for (window, limit) in [(60, 600.0), (3600, 5000.0), (86400, 10_000.0)] {
        let used = weigh(most(&arrived, SEC * window, |_| true));
        assert!(
            used <= limit && used > limit - 2.0 * weight,
            "{window} {used}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn arxiv() {
    // One every three seconds, one connection.
    let limits = super::limits(Clock::system(), &[parsed("1/3s")], 1);
    let arrived = work(&limits, 4, &[("/v1/a", 1.0)], "", 3000 * SEC).await;
    assert_eq!(most(&arrived, 3 * SEC, |_| true), 1);
    assert!(arrived.len() >= 980, "{}", arrived.len());
}

#[tokio::test(start_paused = true)]
async fn binance() {
    // Weight, counted in the clock's own minutes.
    let minutes = LimitPlan {
        counting: Counting::Calendar(CalendarUnit::Minute, jiff::tz::TimeZone::UTC),
        ..parsed("6000 weight/min")
    };
    let begin = "2025-01-01T00:00:20Z".parse().unwrap();
    let limits = super::limits(Clock::simulated(begin), &[minutes], 20);
    let arrived = work(&limits, 20, &[("/v1/a", 20.0)], "weight", 640 * SEC).await;
    let mut minutes = std::collections::BTreeMap::new();
    for (at, _) in &arrived {
        *minutes.entry((at.as_secs() + 20) / 60).or_insert(0) += 20;
    }
    assert!(minutes.values().all(|used| *used <= 6000), "{minutes:?}");
    let full = minutes.range(1..=10).map(|(_, used)| used);
    assert!(full.sum::<i32>() >= 59_400, "{minutes:?}");
}

#[tokio::test(start_paused = true)]
async fn companies_house() {
    // 600 per five minutes, windows fixed at an unknown phase.
    let limits = super::limits(Clock::system(), &[parsed("600/5min")], 8);
    let arrived = work(&limits, 8, &[("/v1/a", 1.0)], "", 3600 * SEC).await;
    assert_eq!(most(&arrived, 300 * SEC, |_| true), 600);
    assert!(arrived.len() >= 7128, "{}", arrived.len());
}

#[tokio::test(start_paused = true)]
async fn waits_name_the_budget() {
    let search = LimitPlan {
        routes: route("/search/**"),
        ..parsed("1/min")
    };
    let repo = LimitPlan {
        per: Some(vec![Per::Variable("repo".to_owned()), Per::Host]),
        ..parsed("2/h")
    };
    let limits = super::limits(Clock::system(), &[search, repo, parsed("3/d")], 8);
    let mut scopes = Vec::new();
    for (path, repo) in [
        ("/v1/search/a", "a"),
        ("/v1/search/b", "b"),
        ("/v1/x", "b"),
        ("/v1/x", "c"),
    ] {
        let needs = needs_of(&limits, path, repo, &[]).expect("covered");
        let permit = limits.permit(
            &needs,
            |turn| {
                if let Wait::Limit { limit, scope } = &turn.why {
                    scopes.push(Wait::limit(limit, scope.as_deref()));
                }
            },
            |_, _| {},
        );
        permit.await.answered(Vec::new());
    }
    assert_eq!(scopes, ["1/min (/search/**)", "3/d"]);
    let needs = needs_of(&limits, "/v1/x", "c", &[]).expect("covered");
    let first = &needs.parts[1].0;
    let label = limits.shared.scopes.label(first);
    assert_eq!(label.as_deref(), Some("repo=c, api.test"));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_costs_nothing() {
    let zone = jiff::tz::TimeZone::UTC;
    let of = |written: &str, counting| LimitPlan {
        counting,
        ..LimitPlan::parse(written).unwrap()
    };
    let bucket = Counting::Bucket(2.try_into().unwrap());
    for plan in [
        plan(2, 60 * SEC, Spacing::Burst),
        plan(2, 60 * SEC, Spacing::Even),
        of("1/min", bucket),
        of("3/min", Counting::Counter),
        of("2/h", Counting::Calendar(CalendarUnit::Hour, zone)),
        of("1 in flight", Counting::InFlight),
    ] {
        let clock = Clock::simulated("2025-01-01T00:10:00Z".parse().unwrap());
        let limits = super::limits(clock, std::slice::from_ref(&plan), 2);
        let start = clock.now();
        for _ in 0..50 {
            turn(&limits).await.unsent();
        }
        turn(&limits).await.answered(Vec::new());
        // A counter's pace keeps the margin that it may have been charged with.
        assert!(clock.now() - start < SEC, "{plan}");
        // And a round trip that was none teaches nothing.
        assert!(!limits.shared.gate().jitter.is_known());
        assert!(limits.shared.gate().jitter.overdue(Moment(0), Moment(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_no_way_around_a_pause() {
    let clock = Clock::system();
    let limits = super::limits(clock, &[plan(100, 10 * SEC, Spacing::Usual)], 20);
    let permits: Vec<_> = [turn(&limits).await, turn(&limits).await].into();
    let until = clock.now() + 30 * SEC;
    limits.pause(&needs(&limits), until, "429");
    permits.into_iter().for_each(Permit::unsent);
    for i in 0..5 {
        turn(&limits).await.answered(Vec::new());
        assert_eq!(clock.now(), until + 100 * MS * i);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_names_the_budget_that_it_holds_and_holds_no_other() {
    let clock = Clock::system();
    let plan = LimitPlan {
        per: Some(vec![Per::Variable("repo".to_owned())]),
        ..plan(100, SEC, Spacing::Burst)
    };
    let limits = super::limits(clock, &[plan], 4);
    let of = |repo| needs_of(&limits, "/v1/items", repo, &[]).unwrap();
    limits.pause(&of("a/b"), clock.now() + 60 * SEC, "429");
    let mut why = Vec::new();
    for (repo, waits) in [("c/d", Duration::ZERO), ("a/b", 60 * SEC)] {
        let start = clock.now();
        let needs = of(repo);
        let permit = limits.permit(&needs, |turn| why.push(turn.why.clone()), |_, _| {});
        permit.await.answered(Vec::new());
        assert_eq!(clock.now() - start, waits, "{repo}");
    }
    let pause = Wait::Pause {
        told: "429".into(),
        scope: Some("repo=a/b".into()),
    };
    assert_eq!(why, [pause]);
}
