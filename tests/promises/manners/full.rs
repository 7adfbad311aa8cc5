//! Full use: while work is queued, at least 99 % of what the limits allow, wherever a window is a
//! hundred times as long as a round trip and as what the network's delays differ by.

use std::time::Duration;

use gleaner::clock::Instant;
use gleaner::sim::{Latency, Rules, ServerLimit};

use super::super::fixture::Scene;
use super::super::way::Way;
use super::{MS, SEC, pipeline, rules, whole};

/// When the last of `count` requests could arrive at the earliest after the first, if all that
/// the limits allow were used the moment it is allowed.
fn ideal(limits: &[ServerLimit], count: usize) -> Duration {
    let mut arrivals: Vec<Duration> = Vec::with_capacity(count);
    for n in 0..count {
        let of = |limit: &ServerLimit| {
            let before = n.checked_sub(limit.requests);
            before.map_or(Duration::ZERO, |before| arrivals[before] + limit.window)
        };
        let at = limits.iter().map(of).max().unwrap_or_default();
        arrivals.push(at.max(arrivals.last().copied().unwrap_or_default()));
    }
    arrivals.last().copied().unwrap_or_default()
}

#[test]
fn nearly_all_of_what_is_allowed_is_used() {
    for seed in 0..24 {
        let mut dice = fastrand::Rng::with_seed(seed);
        // Delays of three seconds now and then, and windows that are a hundred times as long as
        // the margin which that makes; or neither.
        let is_rough = dice.bool();
        let windows: &[(&str, u32)] = if is_rough {
            &[("10min", 600), ("h", 3600), ("6h", 21_600), ("d", 86_400)]
        } else {
            &[("10s", 10), ("min", 60), ("7min", 420), ("h", 3600)]
        };
        let (mut limits, mut written) = (Vec::new(), Vec::new());
        for _ in 0..dice.usize(1..=4) {
            let (window, secs) = windows[dice.usize(..windows.len())];
            let calls = dice.usize(5..=60);
            let spread = ["", ", spread: true", ", spread: false", ", strict: true"];
            let spread = spread[dice.usize(..spread.len())];
            written.push(format!("{{ limit: {calls}/{window}{spread} }}"));
            limits.push(ServerLimit::sliding(calls, secs * SEC));
        }
        let most = if is_rough { 2000 } else { 64 };
        let (travel, low) = (dice.u32(0..most) * MS, dice.u32(0..most / 4) * MS);
        let high = low + dice.u32(0..most / 4) * MS;
        let api = Rules {
            limits: limits.clone(),
            latency: Latency::Between(low, high, seed),
            ..rules()
        };
        // Whole windows of the limit that binds, and the first request of the next.
        let binding = limits.iter().max_by(|one, other| {
            let pace = |limit: &ServerLimit| limit.window.as_secs_f64() / limit.requests as f64;
            pace(one).total_cmp(&pace(other))
        });
        let calls = binding.expect("there is one").requests;
        let count = calls * 350_usize.div_ceil(calls) + 1;
        let yaml = pipeline(&format!("[{}]", written.join(", ")), 64, count)
            .replace("headers: 5s", "headers: 30s");
        let held_up = if is_rough { 500 } else { 0 };
        let ran = Scene::new(&yaml, api)
            .way(Way::of(travel, seed).held_up(held_up))
            .run()
            .complete();
        whole(&ran, count, &yaml);
        assert_eq!(ran.api.audit().refusals(), 0, "seed {seed}: {written:?}");
        let arrivals: Vec<Instant> = ran.api.audit().arrivals();
        let took = arrivals[count - 1] - arrivals[0];
        let used = ideal(&limits, count).as_secs_f64() / took.as_secs_f64();
        assert!(used >= 0.99, "seed {seed}: {used:.4} of {written:?}");
    }
}
