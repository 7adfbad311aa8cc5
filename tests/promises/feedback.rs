//! What is done about refusals and outages: a pause holds everybody and nobody comes early or in a
//! crowd; a host that is away is asked by one, and asked for as long as somebody waits.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use gleaner::clock::Instant;
use gleaner::event::{Fact, Wait};
use gleaner::failure::Exit;
use gleaner::sim::audit::Outcome;
use gleaner::sim::{Fault, FaultRule, Latency, Route, Rules, SimReply, SimRequest};

use super::fixture::{Ran, run};

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);
/// How long an answer takes.
const ROUND: Duration = Duration::from_millis(100);

/// Sixteen at a time, one page a partition.
fn pipeline(partitions: usize) -> String {
    format!(
        "source: {{ url: https://api.test, limits: none, concurrency: 16 }}
streams:
  a:
    for: {{ n: {{ range: [1, {partitions}] }} }}
    get: /a/{{{{ n }}}}
    columns: {{ n: }}
sink: {{ ndjson: \"out/{{{{ stream }}}}.ndjson\" }}
"
    )
}

/// An API that answers by a closure, each answer after [`ROUND`].
fn answering(answer: impl Fn(&SimRequest) -> SimReply + Send + Sync + 'static) -> Rules {
    Rules {
        routes: vec![Route::custom("/a/{n}", Arc::new(answer))],
        latency: Latency::Fixed(ROUND),
        ..Rules::default()
    }
}

fn good(_: &SimRequest) -> SimReply {
    SimReply::json(200, r#"[{"n":1}]"#)
}

/// An API that refuses the fifth request with these headers.
fn refusing_the_fifth(status: u16, headers: &[(&str, &str)]) -> Rules {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Rules {
        faults: vec![FaultRule::nth(
            5,
            Fault::Status(status, headers, String::new()),
        )],
        ..answering(good)
    }
}

fn sent(ran: &Ran) -> usize {
    ran.facts(|fact| matches!(fact, Fact::RequestSent { .. }))
}

/// When the answer to the only faulted request was received, and all arrivals from then on.
fn after_the_refusal(ran: &Ran) -> (Instant, Vec<Instant>) {
    let entries = ran.api.audit().entries();
    let refused: Vec<Instant> = entries
        .iter()
        .filter(|entry| matches!(entry.outcome, Outcome::Faulted(_)))
        .map(|entry| entry.at + ROUND)
        .collect();
    let [refused] = refused[..] else {
        panic!("one request is refused, not {}", refused.len());
    };
    let arrivals = ran.api.audit().arrivals();
    // Those in flight at that time were sent before it.
    let after = arrivals.into_iter().filter(|at| *at >= refused).collect();
    (refused, after)
}

// ---- pauses ----------------------------------------------------------------------------------

#[test]
fn one_refusal_pauses_all_sixteen_until_told_and_not_a_moment_less() {
    let own_clock = ("date", "Sun, 22 Nov 2026 01:00:00 GMT");
    for (headers, told) in [
        (vec![("retry-after", "7")], 7 * SEC),
        (vec![("retry-after", "2.5")], 2500 * MS),
        (vec![("retry-after-ms", "2500")], 2500 * MS),
        // The server's clock is an hour and a half behind; its own Date tells.
        (
            vec![own_clock, ("retry-after", "Sun, 22 Nov 2026 01:00:20 GMT")],
            20 * SEC,
        ),
        (
            vec![("retry-after", "Sun, 22 Nov 2026 02:31:00 GMT")],
            59_900 * MS,
        ),
        // Nothing usable: a second at the least.
        (
            vec![own_clock, ("retry-after", "Sat, 21 Nov 2026 01:00:00 GMT")],
            SEC,
        ),
        (vec![("retry-after", "0")], SEC),
        (vec![("retry-after", "-30")], SEC),
        (vec![("retry-after", "as soon as possible")], SEC),
        (vec![], SEC),
        // No Retry-After, but nothing left and a reset.
        (
            vec![("ratelimit-remaining", "0"), ("ratelimit-reset", "9")],
            9 * SEC,
        ),
    ] {
        let ran = run(&pipeline(64), refusing_the_fifth(429, &headers)).complete();
        let (refused, after) = after_the_refusal(&ran);
        assert_eq!(ran.requests(), 65, "{headers:?}: all once, one twice");
        let pause = after[0] - refused;
        assert!(pause >= told, "{headers:?}: early, {pause:?}");
        assert!(pause <= told + MS, "{headers:?}: late, {pause:?}");
        let paused = ran.facts(|fact| {
            matches!(
                fact,
                Fact::WaitBegan {
                    why: Wait::Pause { .. },
                    ..
                }
            )
        });
        assert_eq!(paused, 1, "{headers:?}: one pause for all");
    }
}

const SECOND_STREAM: &str = "  b:
    for: { n: { range: [1, 100] } }
    get: /a/{{ n }}
    columns: { n: }
sink:";

#[test]
fn after_a_pause_they_come_one_first_and_never_in_a_crowd() {
    let rules = refusing_the_fifth(429, &[("retry-after", "30")]);
    // Two streams of sixteen tasks: half of them are in the line for a slot when it happens.
    let yaml = pipeline(100).replace("sink:", SECOND_STREAM);
    let ran = run(&yaml, rules).complete();
    let (_, after) = after_the_refusal(&ran);
    let mut rounds: Vec<usize> = Vec::new();
    for at in &after {
        let round = (*at - after[0]).as_nanos() / ROUND.as_nanos();
        let round = usize::try_from(round).expect("few");
        rounds.resize(rounds.len().max(round + 1), 0);
        rounds[round] += 1;
    }
    assert_eq!(rounds[..5], [1, 2, 4, 8, 16], "{rounds:?}");
    assert!(rounds.iter().all(|many| *many <= 16), "{rounds:?}");
}

#[test]
fn a_wait_longer_than_allowed_ends_the_run_and_says_when_to_come_back() {
    for (told, says) in [
        ("57539", "run again in 15h 59min,"),
        ("2700.2", "run again in 45min 1s,"),
        ("1000000000000", "run again in 36600d,"),
    ] {
        let ran = run(
            &pipeline(64),
            refusing_the_fifth(429, &[("retry-after", told)]),
        );
        assert_eq!(ran.summary.exit, Exit::Resumable, "{told}");
        let failure = ran.failure();
        assert_eq!(failure.exit, Exit::Resumable);
        let hint = failure.hint.as_deref().unwrap_or_default();
        assert!(hint.starts_with(says), "{told}: {hint}");
        assert!(failure.message.contains("max_wait"), "{failure}");
        assert!(ran.summary.took < SEC, "nobody sleeps: {:?}", ran.summary);
        assert!(ran.requests() <= 32, "{}", ran.requests());
    }
}

// ---- outages ---------------------------------------------------------------------------------

/// Answers 503 while the time since the first request lies in one of these.
fn away(spans: Vec<(Duration, Duration)>) -> Rules {
    let first: OnceLock<Instant> = OnceLock::new();
    answering(move |request| {
        let passed = request.at - *first.get_or_init(|| request.at);
        if spans
            .iter()
            .any(|(from, to)| (*from..*to).contains(&passed))
        {
            SimReply::error(503, "away")
        } else {
            good(request)
        }
    })
}

#[test]
fn a_server_that_is_down_for_good_meets_no_storm() {
    let mut refusing = answering(good);
    refusing.unreachable = vec!["https://api.test".to_owned()];
    for (what, rules) in [
        ("connections are refused", refusing),
        ("503", away(vec![(Duration::ZERO, 1_000_000 * SEC)])),
    ] {
        let ran = run(&pipeline(64), rules);
        assert_eq!(ran.summary.exit, Exit::Resumable, "{what}");
        let failure = ran.failure();
        assert!(
            failure.message.contains("the server has not answered for"),
            "{what}: {failure}"
        );
        // Sixteen at first, then one a minute for half an hour.
        assert!(sent(&ran) <= 16 + 40, "{what}: {}", sent(&ran));
        let took = ran.summary.took;
        assert!(took > 25 * 60 * SEC && took <= 31 * 60 * SEC, "{took:?}");
    }
}

#[test]
fn a_server_that_comes_back_is_found_within_a_minute_and_not_run_over() {
    let down = 5 * 60 * SEC;
    let ran = run(&pipeline(200), away(vec![(SEC, SEC + down)])).complete();
    let arrivals = ran.api.audit().arrivals();
    let end = arrivals[0] + SEC + down;
    let during = arrivals
        .iter()
        .filter(|at| **at >= arrivals[0] + SEC && **at < end)
        .count();
    assert!(during <= 16 + 12, "{during} requests while it was away");
    let back: Vec<Instant> = arrivals.into_iter().filter(|at| *at >= end).collect();
    assert!(back[0] - end <= 60 * SEC, "{:?}", back[0] - end);
    let at_once = back.iter().filter(|at| **at < back[0] + ROUND).count();
    assert_eq!(at_once, 1, "one asks first");
    assert_eq!(ran.stream("a").records, 200);
}

#[test]
fn short_hiccups_cost_little() {
    let spans = vec![(SEC, 2 * SEC), (10 * SEC, 11 * SEC)];
    let ran = run(&pipeline(4000), away(spans)).complete();
    assert!(ran.summary.took < 45 * SEC, "{:?}", ran.summary.took);
}

/// Fails this share of requests, by dice.
fn failing(percent: u32) -> Rules {
    let dice = Mutex::new(fastrand::Rng::with_seed(7));
    answering(move |request| {
        if dice.lock().expect("no panic").u32(0..100) < percent {
            SimReply::error(500, "bad luck")
        } else {
            good(request)
        }
    })
}

#[test]
fn repeats_are_paid_for_by_answers() {
    let ran = run(&pipeline(1000), failing(10)).complete();
    assert_eq!(ran.stream("a").records, 1000);

    // Two in five come through: sooner or later every page would, at the server's cost.
    let patient = pipeline(4000).replace("limits: none", "limits: none, retry: { attempts: 1000 }");
    let ran = run(&patient, failing(60));
    assert_eq!(ran.summary.exit, Exit::Resumable);
    let failure = ran.failure();
    let causes = failure.causes.join("; ");
    assert!(causes.contains("retry budget"), "{failure:?}");
    let answers = ran.facts(|fact| matches!(fact, Fact::PageFetched { .. }));
    assert!(answers < 1000, "{answers} of 4000 before it is noticed");
    assert!(sent(&ran) < 3000, "{}", sent(&ran));
}

#[test]
fn after_a_pause_its_own_scope_opens_step_by_step_and_no_other_scope_waits() {
    let refusing = Fault::Status(
        429,
        vec![("retry-after".into(), "30".into())],
        String::new(),
    );
    let rules = Rules {
        routes: vec![
            Route::custom("/a/{n}", Arc::new(good)),
            Route::custom("/b/{n}", Arc::new(good)),
        ],
        faults: vec![FaultRule::nth_of("/a/20", 1, refusing)],
        latency: Latency::Fixed(ROUND),
        ..Rules::default()
    };
    // Nothing spaces the calls of `a`; those of `b` come twice a second.
    let limits =
        "[{ limit: 1000/h, routes: '/a/*' }, { limit: 2/s, routes: '/b/*', spread: true }]";
    let yaml = pipeline(100)
        .replace("limits: none", &format!("limits: {limits}"))
        .replace(
            "sink:",
            "  b:\n    for: { n: { range: [1, 70] } }\n    get: /b/{{ n }}\n    columns: { n: }\nsink:",
        );
    let ran = run(&yaml, rules).complete();
    let (refused, after) = after_the_refusal(&ran);
    let entries = ran.api.audit().entries();
    let of = |stream: &str| -> Vec<Duration> {
        let those = entries.iter().filter(|one| one.target.starts_with(stream));
        let since = those.filter(|one| one.at >= refused);
        since.map(|one| one.at - refused).collect()
    };
    assert!(after.len() > 100);
    let inside = of("/b/").iter().filter(|at| **at < 30 * SEC).count();
    // Two permits, each back after a second and a round trip.
    assert!(inside >= 52, "{inside} in the pause of others");
    let a = of("/a/");
    assert!(a[0] >= 30 * SEC, "{a:?}");
    // One first, and one more at a time with every answer: one, two, four, eight.
    for (most, step) in [(1, 1), (3, 2), (7, 3), (15, 4)] {
        let by = 30 * SEC + ROUND * step;
        let sent = a.iter().filter(|at| **at + MS <= by).count();
        assert!(sent <= most, "{sent} within {step} round trips: {a:?}");
    }
}
