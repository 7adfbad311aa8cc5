//! What answers say of limits is heeded before a refusal comes, and costs nothing where the limit is
//! ours alone and rightly declared.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gleaner::clock::Instant;
use gleaner::event::{Fact, Wait};
use gleaner::failure::Exit;
use gleaner::sim::limit::Tell;
use gleaner::sim::{Latency, Route, Rules, ServerLimit, SimReply, SimRequest};

use super::fixture::{Ran, Scene, run};

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

/// `count` requests side by side; `more` is of the stream.
fn pipeline(limits: &str, concurrency: usize, count: usize, more: &str) -> String {
    format!(
        "source:
  url: https://api.test
  limits: {limits}
  concurrency: {concurrency}
  retry: {{ attempts: 40, max_wait: 3h, page_deadline: 90d }}
streams:
  a:
    for: {{ n: {{ range: [1, {count}] }} }}
    get: /a/{{{{ n }}}}
    records: data
{more}sink: {{ ndjson: out/a.ndjson }}
"
    )
}

fn api(answer: impl Fn(&SimRequest) -> SimReply + Send + Sync + 'static) -> Rules {
    Rules {
        routes: vec![Route::custom("/a/{n}", Arc::new(answer))],
        latency: Latency::Between(60 * MS, 140 * MS, 7),
        ..Rules::default()
    }
}

fn data(request: &SimRequest, more: &str) -> SimReply {
    let n = request.param("n").expect("a number");
    SimReply::json(200, format!(r#"{{"data":[{{"n":{n}}}]{more}}}"#))
}

fn whole(ran: &Ran, count: usize, what: &str) {
    assert_eq!(ran.lines("out/a.ndjson").len(), count, "{what}");
}

/// A quota in fixed windows, of which somebody else uses some, evenly.
#[derive(Debug)]
struct Shared {
    limit: u64,
    window: Duration,
    others: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    ours: u64,
    most: u64,
    refused: usize,
}

impl Shared {
    fn new(limit: u64, window: Duration, others: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            window,
            others,
            state: Mutex::default(),
        })
    }

    /// What is left after a request at `now`, and until when; `Err` if it is refused.
    fn ask(&self, now: Instant) -> Result<(u64, Instant), Instant> {
        let mut state = self.state.lock().expect("no panic");
        let mut began = *state.began.get_or_insert(now);
        while now >= began + self.window {
            began += self.window;
            (state.began, state.ours) = (Some(began), 0);
        }
        let passed = (now - began).as_secs_f64() / self.window.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a small number"
        )]
        // All of theirs in the first nine tenths of a window.
        let others = (self.others as f64 * (passed / 0.9).min(1.0)) as u64;
        let reset = began + self.window;
        if state.ours + others >= self.limit {
            state.refused += 1;
            return Err(reset);
        }
        state.ours += 1;
        state.most = state.most.max(state.ours);
        Ok((self.limit - state.ours - others, reset))
    }

    fn refused(&self) -> usize {
        self.state.lock().expect("no panic").refused
    }

    /// The most that we got in one window.
    fn most(&self) -> u64 {
        self.state.lock().expect("no panic").most
    }
}

/// How what is left is told: given what is left and in how many seconds there is more.
type Telling = fn(SimReply, u64, u64) -> SimReply;

fn shared_api(quota: &Arc<Shared>, tell: Telling) -> Rules {
    let quota = Arc::clone(quota);
    api(move |request| match quota.ask(request.at) {
        Ok((left, reset)) => {
            let wait = (reset - request.at).as_secs_f64().ceil();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a few seconds"
            )]
            let wait = wait as u64;
            tell(
                data(request, &format!(r#","left":{left},"wait":{wait}"#)),
                left,
                wait,
            )
        }
        Err(reset) => {
            let wait = (reset - request.at).as_secs() + 1;
            SimReply::error(429, "too many").header("retry-after", &wait.to_string())
        }
    })
}

// ---- a limit that is ours alone ---------------------------------------------------------------

#[test]
fn true_words_about_a_true_limit_cost_no_use() {
    let tells = [Tell::XRateLimit, Tell::RateLimit];
    for (written, calls, window) in [
        ("300/min", 300, 60 * SEC),
        ("{ limit: 300/min, spread: false }", 300, 60 * SEC),
        ("{ limit: 60/min, spread: true }", 60, 60 * SEC),
        ("400/h", 400, 3600 * SEC),
    ] {
        for (fixed, concurrency) in [(true, 16), (false, 5)] {
            let took = |tell: Tell| {
                let mut limit = if fixed {
                    ServerLimit::fixed(calls, window)
                } else {
                    ServerLimit::sliding(calls, window)
                };
                limit.tell = tell;
                let rules = Rules {
                    limits: vec![limit],
                    ..api(|request| data(request, ""))
                };
                let count = calls * 3;
                let yaml = pipeline(&format!("[{written}]"), concurrency, count, "");
                let ran = Scene::new(&yaml, rules).travel(50 * MS, 3).run().complete();
                whole(&ran, count, written);
                assert_eq!(ran.api.audit().refusals(), 0, "{written}");
                assert_eq!(ran.summary.ignored_signals, 0, "{written}");
                // Each permit is used once in a window and what the network takes.
                let arrivals = ran.api.audit().arrivals();
                let between = arrivals[calls..].iter().zip(&arrivals);
                let between: f64 = between.map(|(b, a)| (*b - *a).as_secs_f64()).sum();
                let windows = between / window.as_secs_f64();
                let used = (count - calls) as f64 / windows;
                (ran.summary.took.as_secs_f64(), used)
            };
            let (silent, _) = took(Tell::Nothing);
            for tell in tells {
                let (told, used) = took(tell);
                let what = format!("{written} {tell:?}, fixed {fixed}, {concurrency} at once");
                assert!(told <= silent * 1.001, "{what}: {told} after {silent}");
                assert!(used >= 0.99, "{what}: {used}");
            }
        }
    }
}

// ---- a limit that others use too --------------------------------------------------------------

#[test]
fn what_others_use_is_left_to_them_without_a_refusal() {
    let explicit = "[{ limit: 100/min, signals: { remaining: body.left, reset: body.wait } }]";
    let tellings: [(&str, &str, Telling); 5] = [
        ("ratelimit-*", "[100/min]", |reply, left, wait| {
            reply
                .header("ratelimit-limit", "100")
                .header("ratelimit-remaining", &left.to_string())
                .header("ratelimit-reset", &wait.to_string())
        }),
        ("x-ratelimit-*", "[100/min, 1000/h]", |reply, left, wait| {
            reply
                .header("date", "Sun, 22 Nov 2026 01:00:00 GMT")
                .header("x-ratelimit-limit", "100")
                .header("x-ratelimit-remaining", &left.to_string())
                .header("x-ratelimit-reset", &(1_795_309_200 + wait).to_string())
        }),
        ("RateLimit", "[100/min]", |reply, left, wait| {
            reply
                .header("ratelimit-policy", r#""a";q=100;w=60"#)
                .header("ratelimit", &format!(r#""a";r={left};t={wait}"#))
        }),
        ("body", explicit, |reply, _, _| reply),
        // Explicit words win over headers.
        ("body and headers", explicit, |reply, _, wait| {
            reply
                .header("ratelimit-limit", "100")
                .header("ratelimit-remaining", "0")
                .header("ratelimit-reset", &wait.to_string())
        }),
    ];
    for (what, limits, tell) in tellings {
        let quota = Shared::new(100, 60 * SEC, 50);
        let yaml = pipeline(limits, 8, 300, "");
        let ran = run(&yaml, shared_api(&quota, tell)).complete();
        whole(&ran, 300, what);
        assert_eq!(quota.refused(), 0, "{what}");
        // What is left is used: all but what is kept back.
        assert!(quota.most() >= 46, "{what}: {} of 50", quota.most());
        assert!(
            ran.summary.took <= 8 * 60 * SEC,
            "{what}: {:?}",
            ran.summary.took
        );
        assert_eq!(ran.summary.ignored_signals, 0, "{what}");
    }
    // Without a word it is refused: the check can fail.
    let quota = Shared::new(100, 60 * SEC, 50);
    let ran = run(
        &pipeline("[100/min]", 8, 300, ""),
        shared_api(&quota, |reply, _, _| reply),
    );
    whole(&ran.complete(), 300, "silent");
    assert!(quota.refused() > 0);
}

#[test]
fn a_limit_declared_too_high_is_corrected_by_the_first_answer() {
    let quota = Shared::new(30, 60 * SEC, 0);
    let tell: Telling = |reply, left, wait| {
        reply
            .header("x-ratelimit-limit", "30")
            .header("x-ratelimit-remaining", &left.to_string())
            .header("x-ratelimit-reset", &wait.to_string())
    };
    let ran = run(&pipeline("[600/min]", 4, 100, ""), shared_api(&quota, tell)).complete();
    whole(&ran, 100, "all");
    assert_eq!(quota.refused(), 0);
    assert!(ran.summary.took <= 4 * 62 * SEC, "{:?}", ran.summary.took);
}

#[test]
fn what_is_left_is_never_taken_for_room_in_flight() {
    let without_reset: Telling = |reply, left, _| {
        reply
            .header("x-ratelimit-limit", "30")
            .header("x-ratelimit-remaining", &left.to_string())
    };
    // A reset so near that requests in flight could be meant.
    let with_reset: Telling = |reply, left, wait| {
        reply
            .header("x-ratelimit-limit", "30")
            .header("x-ratelimit-remaining", &left.to_string())
            .header("x-ratelimit-reset", &wait.to_string())
    };
    for (limits, tell, window) in [
        // Of the same size, and first in the list.
        ("[30 in flight, 600/min]", without_reset, 60 * SEC),
        ("[600/2s, 8 in flight]", with_reset, 2 * SEC),
    ] {
        let quota = Shared::new(30, window, 0);
        let ran = run(&pipeline(limits, 4, 100, ""), shared_api(&quota, tell)).complete();
        whole(&ran, 100, limits);
        assert_eq!(quota.refused(), 0, "{limits}");
    }
}

#[test]
fn only_who_is_trusted_raises() {
    // Declared 20/min, and the API grants 100 and says so.
    let tell: Telling = |reply, left, wait| {
        reply
            .header("ratelimit-limit", "100")
            .header("ratelimit-remaining", &left.to_string())
            .header("ratelimit-reset", &wait.to_string())
    };
    let took = |limits: &str| {
        let quota = Shared::new(100, 60 * SEC, 0);
        let ran = run(&pipeline(limits, 8, 300, ""), shared_api(&quota, tell)).complete();
        whole(&ran, 300, limits);
        assert_eq!(quota.refused(), 0, "{limits}");
        (ran.summary.took.as_secs(), quota.most())
    };
    let (declared, most) = took("[20/min]");
    assert!(declared >= 13 * 60 && most <= 20, "{declared} s, {most}");
    let (trusted, most) = took("[{ limit: 20/min, signals: { trust: true } }]");
    assert!(trusted <= 200 && most == 100, "{trusted} s, {most}");
}

// ---- words in bodies --------------------------------------------------------------------------

/// A bucket of points that leaks, of which others take some too.
#[derive(Debug)]
struct Bucket {
    size: f64,
    rate: f64,
    state: Mutex<Option<(Instant, f64)>>,
}

impl Bucket {
    /// What is left after so many points are taken at `now`; `None` if there are not so many.
    fn take(&self, now: Instant, points: f64) -> Option<f64> {
        let mut state = self.state.lock().expect("no panic");
        let (then, left) = state.unwrap_or((now, self.size));
        let grown = (now - then).as_secs_f64() * self.rate;
        let left = (left + grown).min(self.size);
        let after = left - points;
        *state = Some((now, if after < 0.0 { left } else { after }));
        (after >= 0.0).then_some(after)
    }
}

#[test]
fn shopify_says_in_the_body_what_is_in_the_bucket() {
    // 1,000 points that come back at 50/s; a page may cost 50 and costs 30. Another app of the
    // shop has left 100 of them.
    let ask = |signals: &str| {
        let bucket = Bucket {
            size: 1000.0,
            rate: 50.0,
            state: Mutex::default(),
        };
        let refused = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&refused);
        let rules = api(move |request| {
            if bucket.state.lock().expect("no panic").is_none() {
                bucket.take(request.at, 900.0);
            }
            let Some(left) = bucket.take(request.at, 30.0) else {
                *counted.lock().expect("no panic") += 1;
                let body = r#"{"errors":[{"extensions":{"code":"THROTTLED"}}]}"#;
                return SimReply::json(200, body);
            };
            let status = format!(
                r#","extensions":{{"cost":{{"requestedQueryCost":50,"actualQueryCost":30,"throttleStatus":{{"maximumAvailable":1000.0,"currentlyAvailable":{left},"restoreRate":50.0}}}}}}"#
            );
            data(request, &status)
        });
        let limits = format!("[{{ limit: 50 points/s, burst: 1000{signals} }}]");
        let more =
            "    cost: { points: { at_most: 50, actual: body.extensions.cost.actualQueryCost } }
    responses:
      - { if: 'body.errors.0.extensions.code == \"THROTTLED\"', then: { wait: 5s } }
";
        let ran = run(&pipeline(&limits, 2, 100, more), rules).complete();
        whole(&ran, 100, signals);
        let refused = *refused.lock().expect("no panic");
        (refused, ran.summary.took.as_secs_f64())
    };
    let (refused, took) =
        ask(", signals: { remaining: body.extensions.cost.throttleStatus.currentlyAvailable }");
    assert_eq!(refused, 0);
    // 3,000 points, 100 of them at once: 58 s.
    assert!((57.0..64.0).contains(&took), "{took}");
    // What is not read cannot help: the check can fail.
    assert!(ask("").0 > 0);
}

#[test]
fn github_says_in_the_body_what_is_left_of_its_points() {
    let left = Arc::new(Mutex::new(None::<(Instant, u64)>));
    let refused = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&refused);
    // 500 points an hour, 2 a page; somebody else has used 400 of this hour's.
    let rules = api(move |request| {
        let mut left = left.lock().expect("no panic");
        let (began, points) = left.get_or_insert((request.at, 100));
        if request.at >= *began + 3600 * SEC {
            (*began, *points) = (request.at, 500);
        }
        if *points < 2 {
            *counted.lock().expect("no panic") += 1;
            return SimReply::error(403, "rate limited").header("retry-after", "3600");
        }
        *points -= 2;
        let wait = (*began + 3600 * SEC) - request.at;
        let date = "Sun, 22 Nov 2026 00:00:00 GMT";
        let at = 3600.min(wait.as_secs() + 1);
        let reset = format!(
            "2026-11-22T{:02}:{:02}:{:02}Z",
            at / 3600,
            at / 60 % 60,
            at % 60
        );
        let n = request.param("n").expect("a number");
        let body = format!(
            r#"{{"data":{{"nodes":[{{"n":{n}}}],"rateLimit":{{"limit":500,"remaining":{points},"resetAt":"{reset}","cost":2}}}}}}"#
        );
        SimReply::json(200, body).header("date", date)
    });
    let limits = "[{ limit: 500 points/h, signals: { remaining: body.data.rateLimit.remaining, reset: body.data.rateLimit.resetAt } }]";
    let more = "    cost: { points: { at_most: 5, actual: body.data.rateLimit.cost } }\n";
    let yaml = pipeline(limits, 6, 200, more)
        .replace(
            "get: /a/{{ n }}",
            "post: /a/{{ n }}\n    body: { json: { query: q } }",
        )
        .replace("records: data", "records: data.nodes");
    let ran = run(&yaml, rules).complete();
    whole(&ran, 200, "all");
    assert_eq!(*refused.lock().expect("no panic"), 0);
    // 100 points of the first hour, 300 of the second.
    assert!(ran.summary.took <= 3700 * SEC, "{:?}", ran.summary.took);
}

#[test]
fn a_pause_beside_a_good_answer_holds_its_limit_and_no_other() {
    let rules = Rules {
        routes: vec![
            Route::custom(
                "/a/{n}",
                Arc::new(|request: &SimRequest| {
                    let more = if request.path == "/a/5" {
                        r#","backoff":10"#
                    } else {
                        ""
                    };
                    data(request, more)
                }),
            ),
            Route::custom("/b/{n}", Arc::new(|request: &SimRequest| data(request, ""))),
        ],
        latency: Latency::Fixed(100 * MS),
        ..Rules::default()
    };
    let limits = "[{ limit: 30/s, routes: '/a/*', signals: { pause: body.backoff } }, { limit: 1/s, routes: '/b/*', spread: true }]";
    let yaml = pipeline(limits, 4, 40, "")
        .replace("out/a.ndjson", "\"out/{{ stream }}.ndjson\"")
        .replace(
            "sink:",
            "  b:\n    for: { n: { range: [1, 8] } }\n    get: /b/{{ n }}\n    records: data\nsink:",
        );
    let ran = run(&yaml, rules).complete();
    whole(&ran, 40, "a");
    assert_eq!(ran.lines("out/b.ndjson").len(), 8);
    let entries = ran.api.audit().entries();
    let told = entries
        .iter()
        .find(|one| one.target == "/a/5")
        .expect("asked")
        .at
        + 100 * MS;
    let inside = |prefix: &str| {
        let quiet = told..told + 10 * SEC;
        entries
            .iter()
            .filter(|one| one.target.starts_with(prefix) && quiet.contains(&one.at))
            .count()
    };
    assert_eq!(inside("/a/"), 0);
    assert!(inside("/b/") >= 5, "{}", inside("/b/"));
    let pauses = ran.facts(|fact| {
        matches!(fact, Fact::WaitBegan { why: Wait::Pause { told, .. }, .. } if &**told == "`body.backoff` is 10s")
    });
    assert_eq!(pauses, 1);
    assert!(
        (10..13).contains(&ran.summary.took.as_secs()),
        "{:?}",
        ran.summary.took
    );
}

#[test]
fn a_pause_longer_than_max_wait_ends_the_run_resumably() {
    let rules = api(|request| data(request, r#","backoff":"5h""#));
    let limits = "[{ limit: 30/s, signals: { pause: body.backoff } }]";
    let ran = run(&pipeline(limits, 1, 40, ""), rules);
    assert_eq!(ran.summary.exit, Exit::Resumable);
    let message = ran.failure().to_string();
    assert!(
        message.contains("`body.backoff` is 5h") && message.contains("`retry.max_wait` (3h)"),
        "{message}"
    );
    assert_eq!(ran.requests(), 1);
}

// ---- nonsense ---------------------------------------------------------------------------------

#[test]
fn nonsense_is_counted_and_changes_nothing() {
    let answer = |words: &'static [(&'static str, &'static str)]| {
        let rules = api(move |request| {
            let reply = data(request, r#","left":"some","wait":-3"#);
            words.iter().fold(
                reply.header("date", "Sun, 22 Nov 2026 02:30:00 GMT"),
                |reply, (name, value)| reply.header(name, value),
            )
        });
        let limits = "[{ limit: 100/min, signals: { reset: body.nothing } }, { limit: 1000/h, signals: { remaining: body.left } }]";
        let ran = run(&pipeline(limits, 4, 50, ""), rules).complete();
        whole(&ran, 50, "all");
        (ran.summary.took, ran.summary.ignored_signals)
    };
    let long: &'static str = "1".repeat(2000).leak();
    let (undisturbed, garbage) = answer(&[]);
    // `left` is no number, in each of fifty.
    assert_eq!(garbage, 50);
    for (words, each) in [
        // The reset is an hour in the past.
        (
            &[
                ("x-ratelimit-limit", "100"),
                ("x-ratelimit-remaining", "99"),
                ("x-ratelimit-reset", "1795310000"),
            ][..],
            1,
        ),
        // More is left than there can be.
        (
            &[
                ("x-ratelimit-limit", "100"),
                ("x-ratelimit-remaining", "5000"),
                ("x-ratelimit-reset", "30"),
            ],
            1,
        ),
        (
            &[
                ("ratelimit-limit", "many"),
                ("ratelimit-remaining", "-1"),
                ("ratelimit-reset", "soon"),
            ],
            3,
        ),
        (&[("retry-after", "whenever")], 1),
    ] {
        let (took, counted) = answer(words);
        assert_eq!(took, undisturbed, "{words:?}");
        assert_eq!(counted, 50 + 50 * each, "{words:?}");
    }
    let too_long = Box::leak(Box::new([("ratelimit-remaining", long)]));
    assert_eq!(answer(too_long), (undisturbed, 100));
    // The last call of all costs nothing extra; what a cache has kept is of the past.
    let kept = &[
        ("age", "30"),
        ("ratelimit-limit", "100"),
        ("ratelimit-remaining", "0"),
        ("ratelimit-reset", "30"),
    ];
    assert_eq!(answer(kept), (undisturbed, 0));
}

#[test]
fn a_share_in_percent_is_of_the_only_limit_there_is() {
    // Meta: a share of 200 an hour, of which somebody else has used three quarters.
    let used = Arc::new(Mutex::new(150));
    let counted = Arc::clone(&used);
    let rules = api(move |request| {
        let mut used = counted.lock().expect("no panic");
        *used += 1;
        let share = *used / 2;
        data(request, "").header(
            "x-app-usage",
            &format!(r#"{{"call_count":{share},"total_time":1,"total_cputime":1}}"#),
        )
    });
    let yaml = pipeline("[200/h]", 4, 60, "");
    let ran = run(&yaml, rules).complete();
    whole(&ran, 60, "all");
    // About fifty were left; the rest came an hour later.
    assert!(ran.summary.took >= 3590 * SEC, "{:?}", ran.summary.took);
}

// ---- cost -------------------------------------------------------------------------------------

#[test]
fn what_is_reserved_is_settled_by_the_answer_for_the_routes_that_cost() {
    // A request may cost 50 tokens, and costs 10: five times as many go as were reserved. Other
    // routes cost none of them.
    let run_with = |actual: &str| {
        let rules = Rules {
            routes: vec![
                Route::custom(
                    "/a/{n}",
                    Arc::new(|request: &SimRequest| data(request, r#","usage":{"total":10}"#)),
                ),
                Route::custom("/b/{n}", Arc::new(|request: &SimRequest| data(request, ""))),
            ],
            latency: Latency::Fixed(100 * MS),
            ..Rules::default()
        };
        let limits = "[{ limit: 500 tokens/min, routes: 'GET /a/*', spread: false }, { limit: 20/s, spread: false }]";
        let more = format!("    cost: {{ tokens: {{ at_most: 50{actual} }} }}\n");
        let yaml = pipeline(limits, 4, 120, &more)
            .replace("out/a.ndjson", "\"out/{{ stream }}.ndjson\"")
            .replace(
                "sink:",
                "  b:\n    for: { n: { range: [1, 100] } }\n    get: /b/{{ n }}\n    records: data\nsink:",
            );
        let ran = run(&yaml, rules).complete();
        whole(&ran, 120, actual);
        assert_eq!(ran.lines("out/b.ndjson").len(), 100);
        let audit = ran.api.audit();
        let others = audit.entries();
        let last = others
            .iter()
            .filter(|one| one.target.starts_with("/b/"))
            .map(|one| one.at)
            .max();
        let b_took = last.expect("asked") - others[0].at;
        assert!(b_took <= 30 * SEC, "{b_took:?}");
        (
            audit.max_in_window_under("/a/", 60 * SEC),
            ran.summary.took.as_secs(),
        )
    };
    let (most, took) = run_with(", actual: body.usage.total");
    // Of 500, four in flight hold 50 each; the rest is settled.
    assert!(
        (45..=50).contains(&most) && (120..=200).contains(&took),
        "{most} in {took} s"
    );
    let (most, took) = run_with("");
    assert!(most == 10 && took >= 11 * 60, "{most} in {took} s");
}

#[test]
fn others_of_any_size_are_met_with_hardly_a_refusal() {
    let both: Telling = |reply, left, wait| {
        reply
            .header("ratelimit-remaining", &left.to_string())
            .header("ratelimit-reset", &wait.to_string())
    };
    let left_only: Telling =
        |reply, left, _| reply.header("ratelimit-remaining", &left.to_string());
    let refused = |seed: u64, tell: Telling| {
        let mut dice = fastrand::Rng::with_seed(seed);
        let limit = dice.u64(20..200);
        let window = Duration::from_secs(dice.u64(10..120));
        let others = limit * dice.u64(5..90) / 100;
        let quota = Shared::new(limit, window, others);
        let (low, concurrency) = (dice.u32(1..100), dice.usize(1..12));
        let mut rules = shared_api(&quota, tell);
        rules.latency = Latency::Between(low * MS, dice.u32(low..low + 300) * MS, seed);
        let count = usize::try_from(limit - others).expect("a few") * 4;
        let limits = format!("[{limit}/{}s]", window.as_secs());
        let ran = run(&pipeline(&limits, concurrency, count, ""), rules).complete();
        whole(&ran, count, &limits);
        // Those in flight when somebody takes the last one.
        let most = concurrency * 2;
        (quota.refused(), most)
    };
    let (mut told, mut silent) = (0, 0);
    for seed in 0..24 {
        let (refusals, most) = refused(seed, if seed % 2 == 0 { both } else { left_only });
        assert!(refusals <= most, "seed {seed}: {refusals}");
        told += refusals;
        silent += refused(seed, |reply, _, _| reply).0;
    }
    assert!(
        told <= 12 && silent >= 5 * told.max(5),
        "{told} of {silent}"
    );
}
