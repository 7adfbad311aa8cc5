//! Faults 38 and 39: clocks that jump, and pages that are larger than anybody thought.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gleaner::fetch::transport::{
    BodySource, Boxed, Request, Response, SendError, SharedTransport, Transport,
};
use gleaner::sim::{Fault, FaultRule, Latency, Route, Rules, ServerLimit, SimReply, SimRequest};
use jiff::SignedDuration;

use super::pipeline;
use crate::fixture::Scene;

const SEC: Duration = Duration::from_secs(1);

fn numbers(limits: &str, count: usize) -> String {
    let stream = format!("for: {{ n: {{ range: [1, {count}] }} }}");
    pipeline("", &stream)
        .replace("get: /a", "get: /a/{{ n }}")
        .replace("limits: none", &format!("limits: {limits}"))
}

fn answering(body: &str) -> Rules {
    let body = Bytes::from(body.to_owned());
    let answer = move |_: &SimRequest| SimReply::json(200, body.clone());
    Rules {
        routes: vec![Route::custom("/a/{n}", Arc::new(answer))],
        latency: Latency::Fixed(SEC / 10),
        ..Rules::default()
    }
}

// ---- 38 --------------------------------------------------------------------------------------

#[test]
fn f38_the_limits_hold_whatever_the_calendar_shows() {
    let hour = SignedDuration::from_hours(1);
    let rules = || Rules {
        limits: vec![ServerLimit::sliding(20, 60 * SEC)],
        ..answering(r#"{"data":[{"id":1}]}"#)
    };
    let yaml = numbers("[20/min]", 200);
    let calm = Scene::new(&yaml, rules()).run().complete();
    for jumps in [
        vec![(30 * SEC, hour)],
        vec![(30 * SEC, -hour)],
        vec![
            (70 * SEC, -hour),
            (80 * SEC, hour * 2),
            (200 * SEC, -hour * 30),
        ],
    ] {
        let ran = Scene::new(&yaml, rules()).set(&jumps).run().complete();
        assert_eq!(ran.api.audit().refusals(), 0, "{jumps:?}");
        assert!(ran.api.audit().max_in_window(60 * SEC) <= 20, "{jumps:?}");
        assert_eq!(
            ran.summary.took, calm.summary.took,
            "{jumps:?}: nobody waits for a clock"
        );
    }
}

#[test]
fn f38_a_pause_lasts_as_long_as_told_though_the_clock_is_set() {
    let hour = SignedDuration::from_hours(1);
    for by in [hour, -hour] {
        let rules = Rules {
            faults: vec![FaultRule::nth(1, Fault::status_retry_after(429, "600"))],
            ..answering(r#"{"data":[{"id":1}]}"#)
        };
        let ran = Scene::new(&numbers("none", 3), rules)
            .set(&[(60 * SEC, by)])
            .run()
            .complete();
        let took = ran.summary.took;
        assert!((600 * SEC..602 * SEC).contains(&took), "{by}: {took:?}");
    }
}

// ---- 39 --------------------------------------------------------------------------------------

/// The bytes of all answers that are being read, now and at most.
#[derive(Debug, Default)]
struct Level {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A transport that keeps the level.
#[derive(Debug)]
struct Gauge {
    below: SharedTransport,
    level: Arc<Level>,
}

impl Transport for Gauge {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, SendError>> {
        Box::pin(async move {
            let mut response = self.below.send(request).await?;
            response.body = Box::new(GaugedBody {
                below: response.body,
                level: Arc::clone(&self.level),
                bytes: 0,
            });
            Ok(response)
        })
    }
}

struct GaugedBody {
    below: Box<dyn BodySource>,
    level: Arc<Level>,
    bytes: usize,
}

impl BodySource for GaugedBody {
    fn chunk(&mut self) -> Boxed<'_, Result<Option<Bytes>, SendError>> {
        Box::pin(async move {
            let chunk = self.below.chunk().await?;
            let length = chunk.as_ref().map_or(0, Bytes::len);
            self.bytes += length;
            let now = self.level.now.fetch_add(length, Ordering::SeqCst) + length;
            self.level.most.fetch_max(now, Ordering::SeqCst);
            Ok(chunk)
        })
    }
}

impl Drop for GaugedBody {
    fn drop(&mut self) {
        self.level.now.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

#[test]
fn f39_pages_larger_than_anybody_thought_come_one_at_a_time() {
    const PAGE: usize = 4 << 20;
    // Sixteen at once, a piece of each in turn, before anybody knows how large a page is.
    let drip = Fault::SlowDrip {
        piece: 64 << 10,
        every: SEC / 10,
    };
    let cell = "x".repeat(PAGE);
    let rules = Rules {
        faults: vec![FaultRule::every(1, drip)],
        ..answering(&format!(r#"{{"data":[{{"cell":"{cell}"}}]}}"#))
    };
    let yaml = numbers("none", 32).replace("concurrency: 4", "concurrency: 16");
    let level = Arc::new(Level::default());
    let kept = Arc::clone(&level);
    let ran = Scene::new(&yaml, rules)
        .over(move |below| Arc::new(Gauge { below, level: kept }))
        .run()
        .complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 32);
    assert_eq!(ran.requests(), 32, "waiting for room is no time-out");
    assert_eq!(
        ran.api.audit().in_flight_max(),
        16,
        "they came side by side"
    );
    let most = level.most.load(Ordering::SeqCst);
    // Half of 32 MiB, since a page stands in memory twice, and the one that goes on alone.
    assert!(most <= (16 << 20) + PAGE, "{most} bytes at once");
}
