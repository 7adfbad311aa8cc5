//! Limits as a whole, in paused time, against a server that audits its arrivals.

mod book;
mod flight;
mod policies;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::plan::limit::Spacing;

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

/// A limit as `plan` would read it.
pub(super) fn plan(calls: u32, window: Duration, spacing: Spacing) -> LimitPlan {
    LimitPlan {
        calls: NonZeroU32::new(calls).expect("a limit allows something"),
        window,
        spacing,
        written: format!("{calls}/{window:?}"),
        ..LimitPlan::parse("1/s").expect("a limit")
    }
}

/// Limits of `https://api.test/v1`.
fn limits(clock: Clock, plans: &[LimitPlan], slots: usize) -> Limits {
    let base = Url::parse("https://api.test/v1").expect("a URL");
    Limits::new(clock, &base, plans, slots)
}

/// What a GET of `path` needs, with a variable and a cost.
fn needs_of(
    limits: &Limits,
    path: &str,
    repo: &str,
    cost: &[(Name, f64)],
) -> Result<Needs, NoTurn> {
    let url = Url::parse("https://api.test/v1").and_then(|url| url.join(path));
    limits.needs(&Asked {
        method: &http::Method::GET,
        url: &url.expect("a URL"),
        credential: true,
        variables: &[("repo".to_owned(), minijinja::Value::from(repo))],
        cost,
    })
}

fn needs(limits: &Limits) -> Needs {
    needs_of(limits, "/v1/items", "", &[]).expect("a limit covers it")
}

/// How the network and the server behave.
#[derive(Clone, Copy)]
struct Weather {
    there: (u32, u32),
    back: (u32, u32),
    /// One in so many requests is given up by the sender.
    lost: Option<u32>,
}

/// A permit; one that never comes fails the test instead of hanging it.
async fn turn(limits: &Limits) -> Permit {
    let needs = needs(limits);
    let permit = limits.permit(&needs, |_| {}, |_, _| {});
    let patience = Duration::from_hours(24);
    let permit = limits.shared.clock.timeout(patience, permit).await;
    permit.expect("a turn comes within a day")
}

/// Sends `requests` with `workers` tasks; gives the arrivals at the server, in order.
async fn drive(limits: &Limits, workers: usize, requests: usize, weather: Weather) -> Vec<Instant> {
    let clock = limits.shared.clock;
    let left = Arc::new(AtomicUsize::new(requests));
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..workers {
        let (limits, left, arrived) = (limits.clone(), left.clone(), arrived.clone());
        let mut random = fastrand::Rng::with_seed(worker as u64);
        tasks.spawn(async move {
            while left
                .try_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
            {
                let permit = turn(&limits).await;
                let sent = clock.now();
                let there = MS * random.u32(weather.there.0..=weather.there.1);
                let back = MS * random.u32(weather.back.0..=weather.back.1);
                if weather.lost.is_some_and(|n| random.u32(0..n) == 0) {
                    // Given up on the way; it arrives all the same, up to the margin later.
                    let late = MS * random.u32(0..=1000);
                    clock.sleep_until(sent + there).await;
                    drop(permit);
                    arrived.lock().unwrap().push(sent + there + late);
                } else {
                    clock.sleep_until(sent + there).await;
                    arrived.lock().unwrap().push(clock.now());
                    clock.sleep_until(clock.now() + back).await;
                    permit.answered(Vec::new());
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let mut arrived = std::mem::take(&mut *arrived.lock().unwrap());
    arrived.sort_unstable();
    arrived
}

/// Half-open windows that hold more than `calls` arrivals.
fn violations(arrived: &[Instant], plan: &LimitPlan) -> usize {
    arrived
        .windows(plan.calls.get() as usize + 1)
        .filter(|w| w[w.len() - 1] - w[0] < plan.window)
        .count()
}

const CALM: Weather = Weather {
    there: (25, 25),
    back: (25, 25),
    lost: None,
};

const ROUGH: Weather = Weather {
    there: (0, 900),
    back: (0, 900),
    lost: Some(10),
};

#[tokio::test(start_paused = true)]
async fn no_window_is_ever_exceeded() {
    let clock = Clock::system();
    for (calls, window) in [(1, 3 * SEC), (10, SEC), (80, 60 * SEC), (60, 3600 * SEC)] {
        for spacing in [Spacing::Usual, Spacing::Even, Spacing::Burst] {
            for weather in [CALM, ROUGH] {
                let plan = plan(calls, window, spacing);
                let limits = self::limits(clock, std::slice::from_ref(&plan), 16);
                let requests = 3 * calls as usize + 20;
                let arrived = drive(&limits, 24, requests, weather).await;
                assert_eq!(arrived.len(), requests);
                assert_eq!(violations(&arrived, &plan), 0, "{plan} {spacing:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn several_limits_hold_at_once() {
    let clock = Clock::system();
    let plans = [
        plan(5, SEC, Spacing::Usual),
        plan(60, 60 * SEC, Spacing::Usual),
        plan(200, 600 * SEC, Spacing::Usual),
    ];
    let limits = self::limits(clock, &plans, 8);
    let start = clock.now();
    let arrived = drive(&limits, 16, 450, ROUGH).await;
    for plan in &plans {
        assert_eq!(violations(&arrived, plan), 0, "{plan}");
    }
    // 450 calls at 200 per 10 min: two windows and the start of a third. A permit of one limit
    // that leaked while another refused would make this longer.
    let took = clock.now() - start;
    assert!(took < 1300 * SEC, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_steady_limit_is_used() {
    let clock = Clock::system();
    let plan = plan(10, SEC, Spacing::Usual);
    let limits = self::limits(clock, std::slice::from_ref(&plan), 8);
    let start = clock.now();
    let arrived = drive(&limits, 16, 1000, CALM).await;
    let rate = arrived.len() as f64 / (clock.now() - start).as_secs_f64();
    // A permit is back a window after its receipt: the round trip is the price of certainty.
    let ideal = 10.0 / 1.05;
    assert_eq!(violations(&arrived, &plan), 0);
    assert!(rate >= 0.99 * ideal, "{rate:.3}/s of {ideal:.3}/s");
}

#[tokio::test(start_paused = true)]
async fn first_come_first_served() {
    let clock = Clock::system();
    let limits = self::limits(clock, &[plan(10, SEC, Spacing::Usual)], 8);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..50 {
        let (limits, order) = (limits.clone(), order.clone());
        tasks.spawn(async move {
            // Every fifth asks at the very instant at which one who waits may go.
            clock.sleep_until(clock.now() + 20 * MS * i).await;
            let permit = turn(&limits).await;
            order.lock().unwrap().push(i);
            clock
                .sleep_until(clock.now() + MS * (400 * ((i * 7) % 5)))
                .await;
            permit.answered(Vec::new());
        });
    }
    tasks.join_all().await;
    assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_everyone_and_lets_them_go_one_by_one() {
    let clock = Clock::system();
    let limits = self::limits(clock, &[plan(40, 4 * SEC, Spacing::Usual)], 8);
    let start = clock.now();
    let until = start + 30 * SEC;
    limits.pause(
        &needs(&limits),
        start + 20 * SEC,
        "503 with Retry-After: 20",
    );
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (limits, heard) = (limits.clone(), heard.clone());
        tasks.spawn(async move {
            let ended = |turn: &Turn, took| heard.lock().unwrap().push((turn.clone(), took));
            limits
                .permit(&needs(&limits), |_| {}, ended)
                .await
                .answered(Vec::new());
            clock.now()
        });
    }
    // Prolonged while they wait; a shorter one after it changes nothing.
    clock.sleep_until(start + 10 * SEC).await;
    limits.pause(&needs(&limits), until, "429 with Retry-After: 20");
    limits.pause(&needs(&limits), start + 11 * SEC, "429 with Retry-After: 1");
    let mut went = tasks.join_all().await;
    went.sort_unstable();
    let expected: Vec<_> = (0..6).map(|i| until + MS * 100 * i).collect();
    assert_eq!(went, expected);
    let heard = heard.lock().unwrap();
    let told = |told: &str| Wait::Pause {
        told: told.into(),
        scope: None,
    };
    assert_eq!(heard[0].0.why, told("503 with Retry-After: 20"));
    assert_eq!(heard[0].1, 10 * SEC);
    assert_eq!(heard[1].0.why, told("429 with Retry-After: 20"));
    assert_eq!(heard[1].0.until, Some(until));
    assert_eq!(heard[1].1, 20 * SEC);
    assert_eq!(heard.len(), 2 + 5, "then five waits for the spacing");
}

#[tokio::test(start_paused = true)]
async fn dropping_a_wait_takes_nothing() {
    let clock = Clock::system();
    let limits = self::limits(clock, &[plan(2, 10 * SEC, Spacing::Burst)], 1);
    let start = clock.now();
    let first = turn(&limits).await;
    // One gives up at the head (waiting for the slot), one in the line behind it.
    let (mut began, mut ended) = (Vec::new(), Vec::new());
    {
        let needs = needs(&limits);
        let head = limits.permit(
            &needs,
            |t| began.push(t.clone()),
            |t, d| ended.push((t.clone(), d)),
        );
        let behind = limits.permit(&needs, |_| {}, |_, _| {});
        let both = async { tokio::join!(head, behind) };
        assert!(clock.timeout(SEC, both).await.is_err());
    }
    let slot = Turn {
        why: Wait::Concurrency,
        until: None,
    };
    assert_eq!(began, std::slice::from_ref(&slot));
    assert_eq!(ended, [(slot, SEC)], "a wait that began ends");
    first.answered(Vec::new());
    turn(&limits).await.answered(Vec::new());
    // Both permits are used; one gives up waiting for the window.
    let needs = needs(&limits);
    let third = limits.permit(&needs, |_| {}, |_, _| {});
    assert!(clock.timeout(5 * SEC, third).await.is_err());
    // Nothing was lost: the two permits are back a window after their receipts.
    turn(&limits).await.answered(Vec::new());
    assert_eq!(clock.now() - start, 11 * SEC);
    let last = turn(&limits).await;
    assert_eq!(clock.now() - start, 11 * SEC);
    drop(last);
    // Given up: back a window and the margin later, while the one before is back sooner.
    turn(&limits).await.answered(Vec::new());
    assert_eq!(clock.now() - start, 21 * SEC);
    turn(&limits).await.answered(Vec::new());
    assert_eq!(clock.now() - start, 22 * SEC);
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_bounded_and_used() {
    let clock = Clock::system();
    let limits = self::limits(clock, &[], 4);
    let (flying, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let start = clock.now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (limits, flying, most) = (limits.clone(), flying.clone(), most.clone());
        tasks.spawn(async move {
            let only_slots = |turn: &Turn| assert_eq!(turn.why, Wait::Concurrency);
            let needs = needs(&limits);
            let permit = limits.permit(&needs, only_slots, |_, _| {});
            let permit = clock.timeout(SEC * 60, permit).await.expect("a slot");
            most.fetch_max(
                flying.fetch_add(1, Ordering::Relaxed) + 1,
                Ordering::Relaxed,
            );
            clock.sleep_until(clock.now() + 100 * MS).await;
            flying.fetch_sub(1, Ordering::Relaxed);
            permit.answered(Vec::new());
        });
    }
    tasks.join_all().await;
    assert_eq!(most.load(Ordering::Relaxed), 4);
    assert_eq!(clock.now() - start, 2500 * MS, "no slot is ever idle");
}

#[tokio::test(start_paused = true)]
async fn unanswered_requests_hold_a_limit_without_a_known_end() {
    let clock = Clock::system();
    let limits = self::limits(clock, &[plan(1, 3 * SEC, Spacing::Usual)], 8);
    let start = clock.now();
    let slow = turn(&limits).await;
    tokio::spawn(async move {
        clock.sleep_until(start + 5 * SEC).await;
        slow.answered(Vec::new());
    });
    let mut began = Vec::new();
    let mut ended = Vec::new();
    let needs = needs(&limits);
    let next = limits.permit(&needs, |t| began.push(t.until), |_, took| ended.push(took));
    let next = clock.timeout(SEC * 60, next).await.expect("a turn");
    next.answered(Vec::new());
    assert_eq!(began, [None, Some(start + 8 * SEC)]);
    assert_eq!(ended, [5 * SEC, 3 * SEC]);
    assert_eq!(clock.now() - start, 8 * SEC);
}
