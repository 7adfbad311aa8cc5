//! What answers mean where the file says so: waits in words, refusals quoted, pages given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gleaner::event::{Fact, Wait};
use gleaner::failure::Exit;
use gleaner::sim::{Latency, Route, Rules, SimReply, SimRequest};

use super::fixture::{Ran, Scene, run};

/// Streams of one page each, `a` at `/a`, with these rules.
fn pipeline(responses: &str) -> String {
    format!(
        "source: {{ url: https://api.test, limits: none, auth: {{ bearer: \"{{{{ secret.KEY | default('') }}}}\" }} }}
streams:
  a:
    for: {{ n: [1, 2, 3] }}
    get: /a/{{{{ n }}}}
    records: data
    responses: {responses}
sink: {{ ndjson: out/a.ndjson }}
"
    )
}

fn serve(answer: impl Fn(&SimRequest) -> SimReply + Send + Sync + 'static) -> Rules {
    Rules {
        routes: vec![Route::custom("/a/{n}", Arc::new(answer))],
        ..Rules::default()
    }
}

fn good(request: &SimRequest) -> SimReply {
    let n = request.param("n").expect("in the path");
    SimReply::json(200, format!(r#"{{"data":[{{"id":{n}}}]}}"#))
}

/// How long after the first request the second to `/a/1` came.
fn pause(ran: &Ran) -> Duration {
    let entries = ran.api.audit().entries();
    let times: Vec<_> = entries
        .iter()
        .filter(|e| e.target == "/a/1")
        .map(|e| e.at)
        .collect();
    assert_eq!(times.len(), 2);
    times[1] - times[0]
}

#[test]
fn how_long_to_wait_is_read_from_the_answers_own_words() {
    for (then, body, seconds) in [
        (
            r#"{ wait: "{{ body.seconds }}s" }"#,
            r#"{"seconds":95}"#,
            95,
        ),
        (r#"{ wait: "{{ body.seconds }}" }"#, r#"{"seconds":95}"#, 95),
        (
            r#"{ wait: "{{ body.error | regex('in ([0-9]+) seconds') }}s" }"#,
            r#"{"error":"too many requests, more in 4 0r in 47 seconds"}"#,
            47,
        ),
        (
            r#"{ wait: "{{ text | regex('[0-9]+min') }}" }"#,
            r#"wait "2min""#,
            120,
        ),
        (
            r#"{ wait: "{{ body.at }}" }"#,
            r#"{"at":"2026-11-22T02:30:40Z"}"#,
            40,
        ),
        // What says nothing leaves it to the headers.
        (r#"{ wait: "{{ body.gone.deeper }}s" }"#, "{}", 20),
        (
            r#"{ wait: "{{ body.s | regex('x') }}" }"#,
            r#"{"s":"y"}"#,
            20,
        ),
        ("wait", r#"{"seconds":95}"#, 20),
    ] {
        let first = AtomicUsize::new(0);
        let rules = serve(move |request| {
            if request.path == "/a/1" && first.fetch_add(1, Ordering::SeqCst) == 0 {
                return SimReply::json(400, body).header("retry-after", "20");
            }
            good(request)
        });
        let yaml = pipeline(&format!("[{{ if: status == 400, then: {then} }}]"));
        let yaml = yaml.replace("limits: none", "limits: none, concurrency: 1");
        let ran = run(&yaml, rules).complete();
        let waited = pause(&ran);
        assert_eq!(waited.as_secs(), seconds, "{then}: {waited:?}");
        assert_eq!(ran.lines("out/a.ndjson").len(), 3);
    }
}

#[test]
fn a_page_is_tried_so_often_and_then_skipped() {
    let rules = || {
        serve(|request| match request.path.as_str() {
            "/a/2" => SimReply::error(500, "broken row"),
            _ => good(request),
        })
    };
    let yaml = pipeline(
        "[{ if: status == 500 and attempt < 3, then: retry }, { if: status == 500, then: skip }]",
    );
    let ran = run(&yaml, rules()).complete();
    assert_eq!(ran.lines("out/a.ndjson"), [r#"{"id":1}"#, r#"{"id":3}"#]);
    let targets = ran.targets();
    assert_eq!(targets.iter().filter(|target| *target == "/a/2").count(), 3);
    // Without the second rule it is no success.
    let ran = run(
        &pipeline("[{ if: status == 500 and attempt < 3, then: retry }]"),
        rules(),
    );
    assert_eq!(ran.summary.exit, Exit::Resumable);
}

#[test]
fn no_rows_here_is_what_the_rules_call_so() {
    for status in [204, 404] {
        let rules = serve(move |request| match request.path.as_str() {
            "/a/2" => SimReply::new(status, &[], ""),
            _ => good(request),
        });
        let yaml = pipeline(&format!("[{{ if: status == {status}, then: skip }}]"));
        let ran = run(&yaml, rules).complete();
        assert_eq!(ran.lines("out/a.ndjson"), [r#"{"id":1}"#, r#"{"id":3}"#]);
    }
}

#[test]
fn a_failure_quotes_the_server_once_shortened_and_on_one_line() {
    let message = |responses: &str, body: &'static str| {
        let ran = run(
            &pipeline(responses),
            serve(move |_| SimReply::json(200, body)),
        );
        assert_eq!(ran.summary.exit, Exit::Failed);
        let message = ran.failure().message.clone();
        message.split_once(": ").expect("a place").1.to_owned()
    };
    let says = r#"[{ if: not body.ok, then: { fail: "it says {{ body.error }} {{ body.gone.deeper }}" } }]"#;
    assert_eq!(
        message(says, r#"{"ok":false,"error":"not_in_channel"}"#),
        "it says not_in_channel"
    );
    assert_eq!(
        message(
            says,
            r#"{"ok":false,"error":"a","detail":"see\n\u001b[2Jthe manual"}"#
        ),
        "it says a: \"see [2Jthe manual\""
    );
    let long = message(
        says,
        Box::leak(format!(r#"{{"error":"{}"}}"#, "x".repeat(9000)).into()),
    );
    assert!(long.len() < 800, "{} bytes", long.len());
    assert_eq!(
        message(
            "[{ if: not body.ok, then: fail }]",
            r#"{"ok":false,"error":"bad_auth"}"#
        ),
        "the answer matches `not body.ok`: \"bad_auth\""
    );
}

/// Seconds after the start at which a path was asked for.
fn seconds(ran: &Ran, path: &str) -> Vec<u64> {
    let entries = ran.api.audit().entries();
    let start = entries[0].at;
    let of_path = entries.iter().filter(|entry| entry.target == path);
    of_path.map(|entry| (entry.at - start).as_secs()).collect()
}

/// `/a/1` is not ready before it was asked for so often.
fn slow(times: usize) -> Rules {
    let asked = AtomicUsize::new(0);
    serve(move |request| {
        if request.path == "/a/1" && asked.fetch_add(1, Ordering::SeqCst) < times {
            let reply = SimReply::json(200, r#"{"status":"RUNNING"}"#);
            return if times == 2 {
                reply.header("retry-after", "60")
            } else {
                reply
            };
        }
        good(request)
    })
}

const NOT_READY: &str =
    "[{ if: body.status == 'RUNNING', then: { again: { every: 10s, within: 25s } } }]";

#[test]
fn what_is_not_ready_is_asked_for_again_and_holds_nobody_else() {
    // One side by side, one attempt, one permit a second: none of them is used up by waiting.
    let yaml = pipeline(&NOT_READY.replace("25s", "2h"));
    let yaml = yaml.replace(
        "limits: none",
        "limits: [1 in flight], concurrency: 1, retry: { attempts: 1 }",
    );
    let ran = run(&yaml, slow(4)).complete();
    assert_eq!(seconds(&ran, "/a/1"), [0, 10, 20, 30, 40]);
    assert_eq!(seconds(&ran, "/a/2"), [0]);
    assert_eq!(seconds(&ran, "/a/3"), [0]);
    assert_eq!(
        ran.lines("out/a.ndjson"),
        [r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":3}"#]
    );
    let waits = ran.facts(|fact| {
        matches!(fact, Fact::WaitBegan { why: Wait::NotReady { told }, .. } if told.contains("RUNNING"))
    });
    assert_eq!(waits, 4);
    assert_eq!(
        ran.facts(|fact| matches!(fact, Fact::AttemptFailed { .. })),
        0
    );
    // Who asks for more time gets it.
    let ran = run(&yaml, slow(2)).complete();
    assert_eq!(seconds(&ran, "/a/1"), [0, 60, 120]);
}

#[test]
fn trouble_between_answers_that_are_not_ready_is_counted_anew() {
    // The host answers in between: neither its attempts nor its time add up over hours of asking.
    for (retry, troubles) in [
        ("attempts: 2", &[0, 5, 9][..]),
        ("page_deadline: 30s", &[0]),
    ] {
        let asked = AtomicUsize::new(0);
        let mut rules = serve(move |request| {
            if request.param("n").as_deref() == Some("1") {
                let nth = asked.fetch_add(1, Ordering::SeqCst);
                if troubles.contains(&nth) {
                    return SimReply::error(503, "down");
                }
                if nth < 14 {
                    return SimReply::json(200, r#"{"status":"RUNNING","data":[]}"#);
                }
            }
            good(request)
        });
        rules.latency = Latency::Fixed(Duration::from_secs(4));
        let yaml = pipeline(&NOT_READY.replace("25s", "2h"));
        let yaml = yaml.replace(
            "limits: none",
            &format!("limits: none, retry: {{ {retry} }}"),
        );
        let ran = run(&yaml, rules).complete();
        assert_eq!(seconds(&ran, "/a/1").len(), 15, "{retry}");
    }
}

#[test]
fn what_is_never_ready_is_given_up_and_the_rest_is_kept() {
    let ran = run(&pipeline(NOT_READY), slow(100));
    assert_eq!(ran.summary.exit, Exit::Resumable);
    assert_eq!(
        seconds(&ran, "/a/1"),
        [0, 10, 20, 25],
        "and once more at the end"
    );
    assert_eq!(
        ran.failure().message,
        "a, page 1 of n=1: not ready within 25s: the answer matches `body.status == 'RUNNING'`"
    );
    let yaml = pipeline(NOT_READY);
    let again = Scene::new(&yaml, slow(0)).within(ran.root).run().complete();
    assert_eq!(again.targets(), ["/a/1"]);
    assert_eq!(again.lines("out/a.ndjson").len(), 3);
}

/// Partitions whose pages are led on by a token, and whose tokens end `dies` times at the second page.
fn scrolled(dies: usize) -> (Ran, usize) {
    let ended = AtomicUsize::new(0);
    let rules = serve(move |request| {
        let n: u64 = request.param("n").expect("n").parse().expect("a number");
        let page: u64 = request.param("t").map_or(0, |t| t.parse().expect("t"));
        if n == 2 && page % 10 == 1 && ended.load(Ordering::SeqCst) < dies {
            ended.fetch_add(1, Ordering::SeqCst);
            return SimReply::json(404, r#"{"error":"search_context_missing_exception"}"#);
        }
        // What comes after a new beginning is of another view of the data.
        let view = 100 * u64::try_from(ended.load(Ordering::SeqCst)).expect("few");
        let next = if page % 10 < 2 {
            (page + 1).to_string()
        } else {
            "null".to_owned()
        };
        let id = 10 * n + page % 10 + if n == 2 { view } else { 0 };
        SimReply::json(200, format!(r#"{{"data":[{{"id":{id}}}],"next":{next}}}"#))
    });
    let yaml = pipeline("[{ if: status == 404 and 'search_context' in text, then: restart }]")
        .replace(
            "    records: data\n",
            "    records: data\n    pages: { token: { from: next, to: t } }\n",
        );
    let ran = run(&yaml, rules);
    let first = ran.api.audit().entries();
    let asked = first.iter().filter(|entry| entry.target == "/a/2").count();
    (ran, asked)
}

#[test]
fn a_partition_whose_paging_ended_is_begun_again_and_gives_way_in_one_step() {
    let (ran, asked) = scrolled(2);
    assert_eq!(ran.summary.exit, Exit::Complete, "{:?}", ran.summary);
    assert_eq!(asked, 3);
    // Nothing of the views before is there.
    assert_eq!(
        ran.text("out/a.ndjson"),
        "{\"id\":10}\n{\"id\":11}\n{\"id\":12}\n{\"id\":220}\n{\"id\":221}\n{\"id\":222}\n{\"id\":30}\n{\"id\":31}\n{\"id\":32}\n"
    );
    assert_eq!(ran.summary.streams[0].records, 9);
    // It is no endless loop.
    let (ran, asked) = scrolled(usize::MAX);
    assert_eq!(ran.summary.exit, Exit::Failed);
    let failure = ran.summary.streams[0].failure.as_ref().expect("a failure");
    assert!(
        failure.message.contains("it was begun again 3 times"),
        "{failure:?}"
    );
    assert!(
        failure.message.contains("search_context_missing"),
        "{failure:?}"
    );
    assert_eq!(asked, 4);
}

#[test]
fn a_first_page_that_is_refused_has_nothing_to_begin_again() {
    let rules = serve(|request| match request.path.as_str() {
        "/a/2" => SimReply::json(410, r#"{"error":"gone"}"#),
        _ => good(request),
    });
    let ran = run(&pipeline("[{ if: status == 410, then: restart }]"), rules);
    assert_eq!(ran.summary.exit, Exit::Failed);
    let asked = ran.api.audit().entries();
    assert_eq!(
        asked.iter().filter(|entry| entry.target == "/a/2").count(),
        1
    );
}
