//! Failures that may go away are tried again as told; those that do not end the stream, with the
//! right exit code, and leave what was there before.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gleaner::event::{Fact, FailureClass};
use gleaner::failure::Exit;
use gleaner::sim::{Fault, FaultRule, Latency, Route, Rules, SimReply, SimRequest};

use super::fixture::{Ran, Scene, forty, run};
use super::scene::Project;

const SEC: Duration = Duration::from_secs(1);

/// A pipeline with one stream `a` at `/a`.
fn pipeline(source: &str, stream: &str) -> String {
    format!(
        "source: {{ url: https://api.test, limits: none, concurrency: 4{source} }}
streams:
  a:
    get: /a
    records: data
    pages: {{ page: {{ to: page, total: n }} }}
{stream}
sink: {{ ndjson: \"out/{{{{ stream }}}}.ndjson\" }}
"
    )
}

fn says(ran: &Ran, wanted: &str) {
    let failure = ran.failure();
    let all = format!(
        "{} {:?} {:?}",
        failure.message, failure.causes, failure.hint
    );
    assert!(all.contains(wanted), "{all}");
}

/// Failed attempts of a class.
fn troubles(ran: &Ran, class: FailureClass) -> usize {
    ran.facts(|fact| matches!(fact, Fact::AttemptFailed { class: c, .. } if *c == class))
}

#[test]
fn what_may_go_away_is_tried_again() {
    let faults = [
        Fault::status(500),
        Fault::status(502),
        Fault::status(503),
        Fault::status(504),
        Fault::status(408),
        Fault::status(425),
        Fault::status(522),
        Fault::Reset,
        Fault::TruncatedBody,
        Fault::Stall,
        Fault::EmptyBody,
        Fault::HtmlLogin200,
        Fault::BadJson,
        Fault::Redirect("/a?page=2".to_owned()),
        Fault::status_retry_after(503, "7"),
        Fault::status_retry_after(429, "7"),
        Fault::status_retry_after(403, "7"),
    ];
    for fault in faults {
        let shown = format!("{fault:?}");
        let ran = run(
            &pipeline("", ""),
            forty("/a", vec![FaultRule::nth(2, fault)]),
        );
        assert_eq!(
            ran.summary.exit,
            Exit::Complete,
            "{shown}: {:?}",
            ran.summary.streams
        );
        assert_eq!(ran.lines("out/a.ndjson").len(), 40, "{shown}");
        assert_eq!(ran.requests(), 5, "{shown}");
        assert_eq!(ran.summary.requests, 5, "{shown}: every request is counted");
    }
}

#[test]
fn what_will_not_go_away_is_not_tried_again() {
    for status in [400, 401, 403, 404, 405, 410, 418, 422, 451, 501] {
        let ran = run(
            &pipeline("", ""),
            forty("/a", vec![FaultRule::always("/a", Fault::status(status))]),
        );
        assert_eq!(ran.failure().exit, Exit::Failed);
        assert_eq!(ran.requests(), 1, "{status}");
        assert!(!ran.path("out/a.ndjson").exists());
    }
}

#[test]
fn attempts_are_spent_in_the_end() {
    for (fault, class) in [
        (Fault::status(500), FailureClass::Transient),
        (Fault::Reset, FailureClass::Transient),
        (Fault::Stall, FailureClass::Transient),
        (Fault::status(429), FailureClass::Throttle),
    ] {
        let yaml = pipeline(", retry: { attempts: 4 }", "");
        let ran = run(&yaml, forty("/a", vec![FaultRule::always("/a", fault)]));
        assert_eq!(ran.failure().exit, Exit::Resumable);
        assert_eq!(ran.requests(), 4);
        assert_eq!(troubles(&ran, class), 4);
        says(&ran, "tried 4 times over");
    }
    // Nobody listens there.
    let mut nobody = forty("/a", Vec::new());
    nobody.unreachable.push("https://api.test".to_owned());
    let ran = run(&pipeline("", "    once: true"), nobody);
    assert_eq!(ran.failure().exit, Exit::Resumable);
    assert_eq!(
        troubles(&ran, FailureClass::Transient),
        6,
        "never sent, so tried again"
    );
    // The page's time ends before its attempts do.
    let yaml = pipeline(", retry: { attempts: 1000, page_deadline: 5min }", "");
    let ran = run(
        &yaml,
        forty("/a", vec![FaultRule::always("/a", Fault::status(500))]),
    );
    assert_eq!(ran.failure().exit, Exit::Resumable);
    assert!(
        (200 * SEC..=301 * SEC).contains(&ran.summary.took),
        "{:?}",
        ran.summary.took
    );
}

#[test]
fn a_wait_that_is_longer_than_allowed_ends_the_run_and_says_when() {
    for status in [429, 503] {
        let fault = Fault::status_retry_after(status, "7200");
        let ran = run(
            &pipeline("", ""),
            forty("/a", vec![FaultRule::nth(1, fault)]),
        );
        assert_eq!(ran.failure().exit, Exit::Resumable);
        says(&ran, "run again in 2h");
        says(&ran, "`retry.max_wait` (15min)");
        assert_eq!(ran.requests(), 1);
        assert_eq!(ran.summary.took, Duration::ZERO);
    }
    let yaml = pipeline(", retry: { max_wait: 3h }", "");
    let fault = Fault::status_retry_after(429, "7200");
    let ran = run(&yaml, forty("/a", vec![FaultRule::nth(1, fault)]));
    assert_eq!(
        ran.summary.exit,
        Exit::Complete,
        "{:?}",
        ran.summary.streams
    );
    assert!(ran.summary.took >= 7200 * SEC);
}

#[test]
fn once_is_not_repeated_where_it_may_have_been_done() {
    let yaml = pipeline("", "    once: true");
    for fault in [
        Fault::Reset,
        Fault::TruncatedBody,
        Fault::Stall,
        Fault::status(500),
        Fault::EmptyBody,
    ] {
        let shown = format!("{fault:?}");
        let ran = run(&yaml, forty("/a", vec![FaultRule::nth(1, fault)]));
        assert_eq!(ran.failure().exit, Exit::Failed, "{shown}");
        says(&ran, "`once: true`");
        assert_eq!(ran.requests(), 1, "{shown}");
    }
    for fault in [
        Fault::status(429),
        Fault::status_retry_after(429, "3"),
        Fault::status_retry_after(503, "3"),
    ] {
        let ran = run(&yaml, forty("/a", vec![FaultRule::nth(1, fault)])).complete();
        assert_eq!(ran.requests(), 5);
    }
}

#[test]
fn answers_mean_what_the_rules_say() {
    let page = |faults: Vec<FaultRule>, then: &str| {
        let yaml = pipeline("", &format!("    responses: [ {then} ]"));
        run(&yaml, forty("/a", faults))
    };
    let nth = |n, status| {
        let body = r#"{"error":"no such page","code":7}"#.to_owned();
        vec![FaultRule::nth(n, Fault::Status(status, Vec::new(), body))]
    };
    let ran = page(nth(2, 404), "{ if: status == 404, then: retry }").complete();
    assert_eq!((ran.lines("out/a.ndjson").len(), ran.requests()), (40, 5));
    let ran = page(nth(2, 400), "{ if: body.code == 7, then: { wait: 10min } }").complete();
    assert_eq!((ran.lines("out/a.ndjson").len(), ran.requests()), (40, 5));
    assert!(ran.summary.took >= 600 * SEC && ran.summary.took < 660 * SEC);
    let ran = page(nth(2, 200), "{ if: body.code == 7, then: wait }").complete();
    assert!(ran.summary.took >= 60 * SEC, "as told, else a minute");
    let ran = page(nth(1, 200), "{ if: \"'no such' in text\", then: skip }").complete();
    assert_eq!((ran.text("out/a.ndjson").as_str(), ran.requests()), ("", 1));
    let ran = page(Vec::new(), "{ if: last.id == 20, then: stop }").complete();
    assert_eq!((ran.lines("out/a.ndjson").len(), ran.requests()), (20, 2));
    let ran = page(
        nth(3, 503),
        "{ if: status == 503, then: { fail: \"closed: {{ body.error }}\" } }",
    );
    assert_eq!(
        (ran.failure().exit, ran.summary.exit),
        (Exit::Failed, Exit::Failed)
    );
    says(&ran, "closed: no such page");
    // A field that is not there is nothing, and the built-in verdict holds.
    let ran = page(nth(2, 500), "{ if: body.gone.deeper > 3, then: fail }").complete();
    assert_eq!(ran.requests(), 5);
}

#[test]
fn a_stream_that_fails_leaves_the_others() {
    let good = "  b:\n    get: /b\n    records: data\n    pages: { page: { to: page, total: n } }";
    for (status, exit) in [(404, Exit::Failed), (500, Exit::Resumable)] {
        let yaml = pipeline("", good);
        let mut rules = forty("/a", vec![FaultRule::always("/a", Fault::status(status))]);
        rules.routes.extend(forty("/b", Vec::new()).routes);
        rules.latency = Latency::Fixed(SEC);
        let ran = Scene::new(&yaml, rules).file("out/a.ndjson", "old").run();
        assert_eq!(ran.summary.exit, exit);
        assert_eq!(ran.failure().exit, exit);
        assert_eq!(ran.text("out/a.ndjson"), "old");
        assert!(ran.stream("b").failure.is_none());
        assert_eq!(ran.lines("out/b.ndjson").len(), 40);
        assert_eq!(ran.stream("b").files[0].rows, 40);
    }
}

#[test]
fn one_page_of_many_that_fails_publishes_nothing() {
    let fault = FaultRule {
        of: gleaner::sim::fault::Of::Containing("page=3".to_owned()),
        turn: gleaner::sim::fault::Turn::Every(1),
        fault: Fault::status(500),
    };
    let yaml = pipeline("", "");
    let ran = Scene::new(&yaml, forty("/a", vec![fault]))
        .file("out/a.ndjson", "old")
        .run();
    assert_eq!(ran.summary.exit, Exit::Resumable);
    assert_eq!(ran.text("out/a.ndjson"), "old");
    says(&ran, "page 3");
}

// ---- stopping --------------------------------------------------------------------------------

/// What is in flight may end for so long.
const GRACE: Duration = Duration::from_secs(8);

/// Asks for a stop after `wait`: it comes at once, or `late` by the grace, and nothing is published.
fn stopped(rules: Rules, source: &str, wait: Duration, late: Duration) -> Ran {
    let yaml = pipeline(source, "");
    let ran = Scene::new(&yaml, rules)
        .file("out/a.ndjson", "old")
        .stop_after(wait)
        .run();
    assert_eq!(ran.summary.exit, Exit::Interrupted);
    assert_eq!(ran.text("out/a.ndjson"), "old");
    let beside: Vec<String> = ran
        .files()
        .into_iter()
        .filter(|f| f.starts_with("out"))
        .collect();
    assert_eq!(beside, ["out/a.ndjson"], "nothing half-written");
    assert_eq!(ran.summary.took, wait + late);
    ran
}

#[test]
fn a_stop_is_heard_wherever_the_run_waits() {
    let slow = Rules {
        latency: Latency::Fixed(30 * SEC),
        ..forty("/a", Vec::new())
    };
    let ran = stopped(slow, "", 35 * SEC, GRACE);
    assert_eq!(ran.requests(), 4, "in flight");
    let backoff = forty("/a", vec![FaultRule::always("/a", Fault::status(500))]);
    stopped(
        backoff,
        ", retry: { attempts: 100 }",
        20 * SEC,
        Duration::ZERO,
    );
    let told = forty(
        "/a",
        vec![FaultRule::nth(2, Fault::status_retry_after(429, "600"))],
    );
    stopped(told, "", 30 * SEC, Duration::ZERO);
    let drip = Fault::SlowDrip {
        piece: 1,
        every: 5 * SEC,
    };
    stopped(
        forty("/a", vec![FaultRule::nth(3, drip)]),
        "",
        30 * SEC,
        GRACE,
    );
    let turn = pipeline("", "").replace("limits: none", "limits: [1/min]");
    let ran = Scene::new(&turn, forty("/a", Vec::new()))
        .stop_after(90 * SEC)
        .run();
    assert_eq!((ran.summary.exit, ran.requests()), (Exit::Interrupted, 2));
    assert_eq!(ran.summary.took, 90 * SEC);
}

#[test]
fn what_is_already_asked_for_before_the_start_is_heard_too() {
    let answer = |_: &SimRequest| SimReply::json(200, r#"{"data":[{"id":1}],"n":1000000}"#);
    let rules = Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        ..Rules::default()
    };
    let yaml = pipeline("", "");
    let ran = Scene::new(&yaml, rules).stop_after(Duration::ZERO).run();
    assert_eq!(ran.summary.exit, Exit::Interrupted);
    assert!(ran.requests() < 1000, "{}", ran.requests());
}

#[test]
fn a_deadline_counts_from_the_beginning_and_not_while_others_are_told_of_it() {
    let yaml = pipeline("", "");
    let rules = || Rules {
        latency: Latency::Fixed(SEC),
        ..forty("/a", Vec::new())
    };
    let ran = Scene::new(&yaml, rules())
        .deadline(10 * SEC, 60 * SEC)
        .run();
    assert_eq!(ran.summary.exit, Exit::Complete);
    let ran = Scene::new(&yaml, rules())
        .deadline(SEC, Duration::ZERO)
        .run();
    assert_eq!(ran.summary.exit, Exit::Resumable);
    says(&ran, "not complete by its deadline of 1s");
}

#[test]
fn the_time_of_a_page_cuts_its_last_attempt() {
    let source =
        ", retry: { attempts: 9, page_deadline: 25s }, timeouts: { headers: 10s, attempt: 10s }";
    let rules = Rules {
        latency: Latency::Fixed(3600 * SEC),
        ..forty("/a", Vec::new())
    };
    let ran = run(&pipeline(source, ""), rules.clone());
    assert_eq!(ran.failure().exit, Exit::Resumable);
    assert_eq!(ran.requests(), 3, "two whole ones and what was left");
    assert_eq!(ran.summary.took.as_secs(), 25, "{:?}", ran.summary.took);
    // The first has the whole time of an attempt, whatever that of a page is.
    let source = ", retry: { page_deadline: 2s }, timeouts: { headers: 10s, attempt: 10s }";
    let ran = run(&pipeline(source, ""), rules);
    assert_eq!((ran.requests(), ran.summary.took), (1, 10 * SEC));
}

/// Answers one request on each connection and closes it when the next one comes, unheard: as servers
/// do whose idle time is over at that moment. Counts the requests that it heard, and those that it did not.
fn forgetful() -> (std::net::SocketAddr, Arc<[AtomicUsize; 2]>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let (of_all, ends) = (Arc::clone(&counts), 12);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let of_all = Arc::clone(&of_all);
            std::thread::spawn(move || {
                let [heard, unheard] = &*of_all;
                let mut request = [0; 4096];
                let length = stream.read(&mut request).expect("a request");
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let page = request.split("page=").nth(1).expect("a page");
                let page = page.split([' ', '&']).next().expect("a number");
                let body = match page.parse::<u32>() {
                    Ok(page) if page <= ends => format!("[{{\"id\":{page}}}]"),
                    _ => "[]".to_owned(),
                };
                heard.fetch_add(1, Ordering::Relaxed);
                let start = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all((start + &body).as_bytes()).expect("sent");
                if stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {
                    unheard.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    (address, counts)
}

#[test]
fn a_kept_connection_that_ends_is_no_failed_attempt() {
    for once in [false, true] {
        let (address, counts) = forgetful();
        let project = Project::new(&format!(
            "source: {{ url: \"http://{address}\", limits: none, concurrency: 1, retry: {{ attempts: 1 }} }}
streams: {{ items: {{ get: /items, once: {once}, pages: {{ page: {{ to: page }} }} }} }}
sink: {{ csv: data/items.csv }}
"
        ));
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        let rows = std::fs::read_to_string(project.path().join("data/items.csv"));
        assert_eq!(rows.expect("rows").lines().count(), 13);
        let [heard, unheard] = counts.each_ref().map(|n| n.load(Ordering::Relaxed));
        assert_eq!(heard, 13);
        // What acts or costs goes on no connection that was kept.
        assert_eq!(unheard == 0, once, "{unheard}");
    }
}
