//! Declared limits hold, seen from the server, to the last request; what a server asks for is kept.

use std::sync::Arc;
use std::time::Duration;

use gleaner::sim::limit::RetryForm;
use gleaner::sim::{Fault, FaultRule, Latency, Route, Rules, ServerLimit, SimReply, SimRequest};

use super::fixture::{Ran, Scene};

mod any;
mod full;
mod sockets;

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

/// `count` requests, side by side, under `limits`.
fn pipeline(limits: &str, concurrency: usize, count: usize) -> String {
    format!(
        "source:
  url: https://api.test
  limits: {limits}
  concurrency: {concurrency}
  retry: {{ attempts: 40, max_wait: 2d, page_deadline: 90d }}
  timeouts: {{ headers: 5s }}
streams:
  a:
    for: {{ n: {{ range: [1, {count}] }} }}
    get: /a/{{{{ n }}}}
    records: data
sink: {{ ndjson: out/a.ndjson }}
"
    )
}

fn rules() -> Rules {
    let answer = |request: &SimRequest| {
        let n = request.param("n").expect("a number");
        SimReply::json(200, format!(r#"{{"data":[{{"n":{n}}}]}}"#))
    };
    Rules {
        routes: vec![Route::custom("/a/{n}", Arc::new(answer))],
        ..Rules::default()
    }
}

fn whole(ran: &Ran, count: usize, what: &str) {
    let wanted: Vec<String> = (1..=count).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    assert_eq!(ran.lines("out/a.ndjson"), wanted, "{what}");
}

// ---- the law ---------------------------------------------------------------------------------

#[test]
fn the_allowance_is_used() {
    for (written, calls, window) in [
        ("20/s", 20, SEC),
        ("300/min", 300, 60 * SEC),
        ("100/10s", 100, 10 * SEC),
    ] {
        let rtt = 80 * MS;
        let rules = Rules {
            limits: vec![ServerLimit::sliding(calls, window)],
            latency: Latency::Fixed(rtt),
            ..rules()
        };
        let count = calls * 8;
        let ran = Scene::new(&pipeline(&format!("[{written}]"), 32, count), rules)
            .run()
            .complete();
        whole(&ran, count, written);
        assert_eq!(ran.api.audit().refusals(), 0);
        assert!(ran.api.audit().in_flight_max() <= 32);
        // What the law leaves: each of N permits is used once in a window and a round trip.
        let ideal = (window + rtt).as_secs_f64() * (count as f64 / calls as f64 - 1.0);
        let used = ideal / ran.summary.took.as_secs_f64();
        assert!(used >= 0.85, "{written}: {used:.2} of the allowance");
    }
}

#[test]
fn redirects_and_retries_count_as_requests() {
    // Each page is moved once, and each moved one fails once.
    let answer = |request: &SimRequest| {
        let n = request.param("n").expect("a number");
        SimReply::new(302, &[("location", &format!("/moved/{n}"))], "")
    };
    let mut rules = rules();
    rules.routes[0].path = "/moved/{n}".to_owned();
    rules.routes.push(Route::custom("/a/{n}", Arc::new(answer)));
    rules.limits = vec![ServerLimit::sliding(5, 10 * SEC)];
    rules.latency = Latency::Between(10 * MS, 400 * MS, 5);
    rules.faults = vec![FaultRule::every(3, Fault::status(500))];
    let ran = Scene::new(&pipeline("[5/10s]", 8, 30), rules)
        .run()
        .complete();
    whole(&ran, 30, "all");
    let audit = ran.api.audit();
    assert!(audit.max_in_window(10 * SEC) <= 5);
    assert_eq!(audit.refusals(), 0);
    assert!(ran.requests() >= 75, "{}", ran.requests());
}

#[test]
fn a_request_that_was_given_up_may_still_arrive() {
    // Patience ends before many requests have arrived; those count when they do.
    let yaml = pipeline("[{ limit: 5/10s, spread: false }]", 5, 40)
        .replace("headers: 5s", "headers: 500ms");
    let ran = Scene::new(&yaml, rules())
        .travel(1400 * MS, 3)
        .run()
        .complete();
    whole(&ran, 40, "all");
    let audit = ran.api.audit();
    assert!(
        audit.requests() > 80,
        "many were given up: {}",
        audit.requests()
    );
    assert!(audit.max_in_window(10 * SEC) <= 5);
}

#[test]
fn waiting_for_a_turn_does_not_use_up_the_time_of_a_page() {
    // One request an hour: a page that fails twice is asked for again hours later.
    let rules = Rules {
        faults: vec![FaultRule::first_of("/a/1", 2, Fault::status(503))],
        ..rules()
    };
    let yaml = pipeline("[1/h]", 4, 6).replace("page_deadline: 90d", "page_deadline: 30min");
    let ran = Scene::new(&yaml, rules).run().complete();
    whole(&ran, 6, "all");
    assert_eq!(ran.requests(), 8);
    assert!(ran.summary.took >= 7 * 3600 * SEC);
}

// ---- the server's word -----------------------------------------------------------------------

#[test]
fn a_pause_holds_everything_until_it_is_over() {
    for (retry, status) in [
        (RetryForm::Seconds, 429),
        (RetryForm::Date, 429),
        (RetryForm::Seconds, 503),
        (RetryForm::Seconds, 403),
    ] {
        // The server allows less than was declared, so this shows a breach as well.
        let mut limit = ServerLimit::sliding(10, 30 * SEC);
        limit.retry = retry;
        limit.status = status;
        let rules = Rules {
            limits: vec![limit],
            latency: Latency::Between(20 * MS, 250 * MS, 8),
            ..rules()
        };
        for limits in ["none", "[100/s]"] {
            let ran = Scene::new(&pipeline(limits, 12, 80), rules.clone())
                .run()
                .complete();
            whole(&ran, 80, limits);
            let audit = ran.api.audit();
            assert!(audit.refusals() > 0, "the check can fail");
            assert!(audit.max_in_window(30 * SEC) > 10, "the check can fail");
            // A refusal is on its way for a latency at most; after that there is silence.
            assert_eq!(
                audit.calls_after_pause(250 * MS),
                0,
                "{retry:?} {status} {limits}"
            );
        }
    }
}

#[test]
fn one_told_to_wait_holds_all_streams() {
    let told = Fault::status_retry_after(429, "120");
    let rules = Rules {
        latency: Latency::Fixed(100 * MS),
        faults: vec![FaultRule::nth(9, told)],
        ..rules()
    };
    let yaml = pipeline("none", 4, 20).replace(
        "sink: { ndjson: out/a.ndjson }",
        "  b:\n    for: { n: { range: [1, 20] } }\n    get: /a/{{ n }}\n    records: data\nsink: { ndjson: \"out/{{ stream }}.ndjson\" }",
    );
    let ran = Scene::new(&yaml, rules).run().complete();
    whole(&ran, 20, "both");
    assert_eq!(ran.lines("out/b.ndjson").len(), 20);
    let entries = ran.api.audit().entries();
    let told_at = entries[8].at;
    let inside = entries
        .iter()
        .filter(|entry| entry.at > told_at + 100 * MS && entry.at < told_at + 120 * SEC)
        .count();
    assert_eq!(inside, 0);
    assert!(ran.summary.took >= 120 * SEC);
    assert!(
        ran.summary.waited.keys().any(|name| name.contains("pause")),
        "{:?}",
        ran.summary.waited
    );
}

#[test]
fn an_empty_allowance_with_a_reset_is_a_refusal_to_wait_for() {
    // As GitHub does: 403, nothing left, seconds since 1970.
    let mut limit = ServerLimit::fixed(10, 60 * SEC);
    limit.retry = RetryForm::Silent;
    limit.status = 403;
    limit.tell = gleaner::sim::limit::Tell::XRateLimit;
    let rules = Rules {
        limits: vec![limit],
        latency: Latency::Fixed(50 * MS),
        ..rules()
    };
    let ran = Scene::new(&pipeline("none", 4, 35), rules).run().complete();
    whole(&ran, 35, "all");
    let audit = ran.api.audit();
    assert!(audit.refusals() > 0);
    assert_eq!(audit.calls_after_pause(50 * MS), 0);
}

#[test]
fn a_limit_that_nobody_tells_is_found_and_told() {
    for retry in [RetryForm::Seconds, RetryForm::Silent] {
        let mut limit = ServerLimit::sliding(40, 10 * SEC);
        limit.retry = retry;
        let rules = Rules {
            limits: vec![limit],
            latency: Latency::Between(20 * MS, 120 * MS, 6),
            ..rules()
        };
        let count = 3000;
        let ran = Scene::new(&pipeline("auto", 8, count), rules)
            .run()
            .complete();
        whole(&ran, count, "auto");
        let audit = ran.api.audit();
        let refused = audit.refusals() as f64 / count as f64;
        assert!(refused > 0.0 && refused < 0.02, "{retry:?}: {refused}");
        let used = count as f64 / ran.summary.took.as_secs_f64() / 4.0;
        assert!(used >= 0.7, "{retry:?}: {used:.2} of 4/s");
        let learned = ran.summary.learned.as_ref().expect("it was searched for");
        let told = gleaner::plan::limit::LimitPlan::parse(&learned.limit).expect("a limit");
        let told = f64::from(told.calls.get()) / told.window.as_secs_f64() / 4.0;
        assert!((0.7..=1.0).contains(&told), "{retry:?}: {learned:?}");
    }
}
