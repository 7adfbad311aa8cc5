//! Answers with status 200 that are no data, and lists that look whole and are not: an error in
//! words, paging that finds nothing, totals that are wrong, empty pages, a copy of another page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gleaner::event::Fact;
use gleaner::failure::Exit;
use gleaner::sim::{Route, Rules, SimReply, SimRequest};

use super::fixture::{Ran, Scene};

/// A pipeline with one stream `a` at `/a`.
fn pipeline(stream: &str) -> String {
    format!(
        "source: {{ url: https://api.test, limits: none, concurrency: 1, retry: {{ attempts: 3 }} }}
streams:
  a:
    get: /a
    {}
sink: {{ ndjson: out/a.ndjson }}
",
        stream.replace('\n', "\n    ")
    )
}

fn serve(answer: impl Fn(&SimRequest) -> SimReply + Send + Sync + 'static) -> Rules {
    Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        ..Rules::default()
    }
}

fn number(request: &SimRequest, name: &str) -> Option<u64> {
    request.param(name)?.parse().ok()
}

/// Records of page `page`, from 1, two on each.
fn records(page: u64) -> String {
    let (first, second) = (page * 2 - 1, page * 2);
    format!(r#"[{{"id":{first},"name":"a"}},{{"id":{second},"name":"b"}}]"#)
}

/// Five pages, with every way to the next one, of which the third is `odd`.
fn with_third(odd: SimReply, is_root: bool) -> Rules {
    serve(move |request| {
        let page = number(request, "page").unwrap_or(1);
        let data = match page {
            3 => return odd.clone(),
            1..=5 => records(page),
            _ => "[]".to_owned(),
        };
        let next = if page < 5 { page + 1 } else { 0 };
        let text = if is_root {
            data
        } else {
            format!(r#"{{"data":{data},"next":{next}}}"#).replace(":0}", ":null}")
        };
        let reply = SimReply::json(200, text);
        match next {
            0 => reply,
            next => reply.header("link", &format!("</a?page={next}>; rel=\"next\"")),
        }
    })
}

/// The third page as it should be.
fn third(is_root: bool) -> SimReply {
    let data = records(3);
    let text = if is_root {
        data
    } else {
        format!(r#"{{"data":{data},"next":4}}"#)
    };
    SimReply::json(200, text).header("link", "</a?page=4>; rel=\"next\"")
}

fn fails(ran: &Ran, wanted: &str) {
    let failure = ran.failure();
    assert_eq!(failure.exit, Exit::Failed, "{failure:#?}");
    assert!(failure.message.contains(wanted), "{}", failure.message);
    assert!(!ran.path("out/a.ndjson").exists(), "nothing is published");
}

fn notes(ran: &Ran, wanted: &str) -> usize {
    ran.facts(|fact| matches!(fact, Fact::Noticed { message, .. } if message.contains(wanted)))
}

const LINK: &str = "pages: link";
const PAGE: &str = "pages: { page: { to: page } }";
const TOKEN: &str = "pages: { token: { from: next, to: page } }";

// ---- an error in words -----------------------------------------------------------------------

#[test]
fn an_error_in_the_middle_of_a_list_is_no_record_and_not_its_end() {
    let limited = r#"{"message":"API rate limit exceeded"}"#;
    let quota = r#"{"data":"quota exceeded"}"#;
    let later = r#"{"data":null,"status":"error","message":"try later"}"#;
    for (pages, records, body, wanted) in [
        (
            LINK,
            None,
            limited,
            "the body is an object with other members",
        ),
        (PAGE, None, limited, "API rate limit exceeded"),
        (LINK, None, r#""rate limited""#, "the body is a text"),
        (PAGE, None, "0", "the body is a single value"),
        (PAGE, Some("data"), quota, "`data` is a text"),
        (TOKEN, Some("data"), quota, "quota exceeded"),
        (TOKEN, Some("data"), r#"{"data":false}"#, "a single value"),
        (PAGE, Some("data"), later, "with `message`: \"try later\""),
        (TOKEN, Some("data"), r#"{"data":null}"#, "`data` is null"),
        (
            LINK,
            Some("data"),
            r#"{"data":{"code":7}}"#,
            "other members",
        ),
        (
            PAGE,
            Some("{ optional: data }"),
            r#"{"error":"x"}"#,
            "no records, but `error`",
        ),
        (
            PAGE,
            Some("data"),
            r#"{"errors":["x"],"data":[]}"#,
            "no records, but `errors`",
        ),
    ] {
        let mut stream = pages.to_owned();
        if let Some(records) = records {
            stream = format!("records: {records}\n{stream}");
        }
        let yaml = pipeline(&stream);
        let is_root = records.is_none();
        let ran = Scene::new(&yaml, with_third(SimReply::json(200, body), is_root)).run();
        fails(&ran, wanted);
        assert_eq!(ran.requests(), 4, "asked once more: {body}");
        // The pages before are kept, and know of an attempt that begins with them what is odd.
        let odd = with_third(SimReply::json(200, body), is_root);
        let again = Scene::new(&yaml, odd).within(ran.root).run();
        fails(&again, wanted);
        // Where a link or token led there, that may have ended: then all is asked for again.
        let asked = if pages == PAGE { 2 } else { 6 };
        assert_eq!(again.requests(), asked, "{body}");
        let well = with_third(third(is_root), is_root);
        let ran = Scene::new(&yaml, well).within(again.root).run().complete();
        assert_eq!(ran.lines("out/a.ndjson").len(), 10, "{body}");
        // A rule of the pipeline is believed.
        let ruled = pipeline(&format!(
            "{stream}\nresponses: [{{ if: status == 200, then: accept }}]"
        ));
        let odd = with_third(SimReply::json(200, body), is_root);
        Scene::new(&ruled, odd).run().complete();
    }
}

#[test]
fn an_only_page_that_is_an_error_is_no_record() {
    for (stream, body, wanted) in [
        ("records: data", r#"{"data":"quota"}"#, "`data` is a text"),
        ("records: data", r#"{"data":7}"#, "a single value"),
        ("pages: none", r#""slow down""#, "the body is a text"),
        ("", r#"{"error":"quota"}"#, "the body is an error"),
        (
            "records: data",
            r#"{"data":{"errors":[{"detail":"x"}],"code":9}}"#,
            "`data` is an error",
        ),
        (
            "records: data",
            r#"{"data":[],"error":{"code":1,"message":"x"}}"#,
            "but `error`",
        ),
    ] {
        let body = body.to_owned();
        let rules = serve(move |_| SimReply::json(200, body.clone()));
        fails(&Scene::new(&pipeline(stream), rules).run(), wanted);
    }
}

#[test]
fn what_only_looks_like_an_error_is_data() {
    // A lone text that the pipeline knows what to do with.
    let [x, value, word] = [r#"{"data":"x"}"#, r#"{"value":"x"}"#, r#"{"word":"x"}"#];
    for (stream, body, lines) in [
        ("", "9130260", r#"{"value":9130260}"#),
        (
            "",
            r#"{"message":"https://a.test/dog.jpg","status":"success"}"#,
            r#"{"message":"https://a.test/dog.jpg","status":"success"}"#,
        ),
        ("", r#"{"id":1,"error":"x"}"#, r#"{"id":1,"error":"x"}"#),
        ("records: data", r#"{"data":null,"message":"ok"}"#, ""),
        ("records: data", r#"{"data":[],"error":null}"#, ""),
        ("records: data", r#"{"data":[],"errors":[],"error":0}"#, ""),
        (
            "records: data",
            r#"{"data":[],"error":{"code":0,"message":"OK"}}"#,
            "",
        ),
        ("records: { jq: .data }", x, value),
        ("records: data\ncolumns: { word: { jq: .value } }", x, word),
        ("records: data\nkey: value", x, value),
        ("records: data\ncolumns: { word: value }", x, word),
    ] {
        let shown = format!("{stream}: {body}");
        let body = body.to_owned();
        let rules = serve(move |_| SimReply::json(200, body.clone()));
        let ran = Scene::new(&pipeline(stream), rules).run().complete();
        assert_eq!(ran.text("out/a.ndjson").trim_end(), lines, "{shown}");
    }
    // One record instead of an array of one, and null for no records after the last page; what every page says
    // is no error.
    let rules = serve(|request| {
        let data = match number(request, "page") {
            Some(page @ 1..=2) => records(page),
            Some(3) => r#"{"id":5,"name":"c","more":true}"#.to_owned(),
            _ => "null".to_owned(),
        };
        let says = "Data retrieved successfully";
        SimReply::json(200, format!(r#"{{"data":{data},"message":"{says}"}}"#))
    });
    let yaml = pipeline(&format!("records: data\n{PAGE}"));
    let ran = Scene::new(&yaml, rules).run().complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 5);
}

#[test]
fn null_on_a_last_page_that_says_where_the_next_one_is_not_is_no_error() {
    // What Go servers send after a page that was exactly full.
    for (pages, last) in [
        (TOKEN, r#""next":"""#),
        (TOKEN, r#""next":null"#),
        ("pages: { next: next }", r#""next":null"#),
        ("pages: { merge: next }", r#""next":{}"#),
    ] {
        let rules = |words: &'static str| {
            serve(move |request| {
                let is_first = request.param("page").is_none();
                let words = if is_first { "" } else { words };
                let (data, next) = match number(request, "page") {
                    None if pages == TOKEN => (records(1), r#""next":2"#),
                    None if pages.contains("merge") => (records(1), r#""next":{"page":2}"#),
                    None => (records(1), r#""next":"/a?page=2""#),
                    Some(_) => ("null".to_owned(), last),
                };
                SimReply::json(200, format!(r#"{{"data":{data},{next}{words}}}"#))
            })
        };
        let yaml = pipeline(&format!("records: data\n{pages}"));
        let ran = Scene::new(&yaml, rules("")).run().complete();
        assert_eq!(ran.lines("out/a.ndjson").len(), 2, "{pages}: {last}");
        // Words beside it are an error all the same.
        let ran = Scene::new(&yaml, rules(r#","message":"try later""#)).run();
        fails(&ran, "with `message`: \"try later\"");
    }
}

#[test]
fn the_first_page_of_a_half_is_led_to_by_nobody() {
    let rules = serve(|request| {
        let (from, last) = (request.param("from"), request.param("last"));
        let data = match (from.as_deref(), last.as_deref()) {
            (Some("2026-01-03"), Some("2026-01-06")) => return SimReply::error(400, "too much"),
            (Some("2026-01-03"), _) => records(1),
            _ => "null".to_owned(),
        };
        SimReply::json(200, format!(r#"{{"data":{data}}}"#))
    });
    let yaml = pipeline(&format!(
        "for: {{ span: {{ dates: 4d, from: 2026-01-03, to: 2026-01-07 }} }}
query: {{ from: '{{{{ span.from | date }}}}', last: '{{{{ span.last }}}}' }}
responses: [{{ if: status == 400, then: split }}]
records: data
{TOKEN}"
    ));
    let ran = Scene::new(&yaml, rules).run().complete();
    assert_eq!(ran.requests(), 3, "{:?}", ran.targets());
    assert_eq!(ran.lines("out/a.ndjson").len(), 2);
}

#[test]
fn what_transform_makes_of_records_is_not_what_comes() {
    let yaml = pipeline(&format!("transform: [{{ jq: '{{x: .id}}' }}]\n{PAGE}"));
    let rules = |second: SimReply| {
        serve(move |request| match number(request, "page") {
            Some(2) => second.clone(),
            Some(3) => SimReply::json(200, "[]"),
            _ => SimReply::json(200, records(1)),
        })
    };
    for (second, wanted) in [
        (r#"{"id":3,"name":"c"}"#, None),
        (r#"{"x":3,"warning":"slow down"}"#, Some("other members")),
    ] {
        let ran = Scene::new(&yaml, rules(SimReply::error(503, "down"))).run();
        assert_eq!(ran.summary.exit, Exit::Resumable);
        // A run that goes on is as wise as one that was not stopped.
        let second = SimReply::json(200, second);
        let ran = Scene::new(&yaml, rules(second)).within(ran.root).run();
        match wanted {
            Some(wanted) => fails(&ran, wanted),
            None => assert_eq!(ran.complete().lines("out/a.ndjson").len(), 3),
        }
    }
}

// ---- paging that finds nothing ---------------------------------------------------------------

#[test]
fn paging_that_finds_nothing_where_there_is_more_is_told() {
    let rules = || with_third(third(false), false);
    for (pages, sign) in [
        ("pages: { token: { from: nxt, to: page } }", "rel=\"next\""),
        (
            "pages: { token: { from: headers.X-Nxt, to: page } }",
            "rel=\"next\"",
        ),
        ("pages: { next: links.nxt }", "rel=\"next\""),
        ("pages: { merge: nxt }", "rel=\"next\""),
    ] {
        let yaml = pipeline(&format!("records: data\n{pages}"));
        let ran = Scene::new(&yaml, rules()).run();
        fails(&ran, "but `pages` finds no next one in it");
        fails(&ran, sign);
        assert_eq!(ran.requests(), 1);
    }
    let in_body = serve(|_| SimReply::json(200, r#"{"data":[{"id":1}],"next_cursor":"x"}"#));
    let yaml = pipeline(&format!("records: data\n{LINK}"));
    fails(&Scene::new(&yaml, in_body).run(), "it has a `next_cursor`");
    // The last page may be the first, and what leads on from other pages may look otherwise.
    let yaml = pipeline(&format!("records: data\n{TOKEN}"));
    let one = serve(|_| SimReply::json(200, r#"{"data":[{"id":1}],"next":null}"#));
    Scene::new(&yaml, one).run().complete();
    let ran = Scene::new(&yaml, rules()).run().complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 10);
}

#[test]
fn a_short_page_that_says_there_is_more_is_not_the_last() {
    for sign in ["link", "has_more"] {
        let rules = serve(move |request| {
            let page = number(request, "page").unwrap_or(1);
            let data = match page {
                1 => records(page),
                2 => r#"[{"id":3}]"#.to_owned(),
                _ => return SimReply::error(503, "down"),
            };
            let text = format!(r#"{{"data":{data},"has_more":{}}}"#, sign != "link");
            let reply = SimReply::json(200, text);
            if sign == "link" {
                return reply.header("link", "</a?page=9>; rel=\"next\"");
            }
            reply
        });
        let yaml =
            pipeline("records: data\nquery: { n: 2 }\npages: { page: { to: page, size: n } }");
        // It breaks off after the short page, and still knows what that said.
        let ran = Scene::new(&yaml, rules).run();
        assert_eq!(ran.summary.exit, Exit::Resumable, "{:#?}", ran.failure());
        assert_eq!(ran.requests(), 5);
        let rules = serve(|request| match number(request, "page") {
            Some(3) => SimReply::json(200, format!(r#"{{"data":{}}}"#, records(3))),
            Some(4) => SimReply::json(200, r#"{"data":[{"id":9}]}"#),
            _ => SimReply::error(418, "not again"),
        });
        let again = Scene::new(&yaml, rules).within(ran.root).run().complete();
        assert_eq!(again.lines("out/a.ndjson").len(), 6, "{sign}");
    }
}

// ---- totals ----------------------------------------------------------------------------------

/// Five pages of two records, by number or offset, that tell of so many.
fn told(total: &'static str, pages: u64) -> Rules {
    serve(move |request| {
        let page = match number(request, "skip") {
            Some(skip) => skip / 2 + 1,
            None => number(request, "page").unwrap_or(1),
        };
        let data = if page <= pages {
            records(page)
        } else {
            "[]".to_owned()
        };
        SimReply::json(200, format!(r#"{{"data":{data},"total":{total}}}"#))
    })
}

const BY_PAGE: &str = "pages: { page: { to: page, total: total } }";
const BY_OFFSET: &str = "pages: { offset: { to: skip, total: total } }";

#[test]
fn a_total_that_is_too_low_is_not_the_end_of_the_list() {
    for pages in [BY_PAGE, BY_OFFSET] {
        for more in ["", "\nstop: last.id == 77"] {
            let yaml = pipeline(&format!("records: data\n{pages}{more}"));
            let ran = Scene::new(&yaml, told("5", 5)).run().complete();
            assert_eq!(ran.lines("out/a.ndjson").len(), 10, "{pages}");
            assert_eq!(notes(&ran, "tells of 5 records, but its pages held 10"), 1);
            // One that is right costs no request.
            let ran = Scene::new(&yaml, told("10", 5)).run().complete();
            assert_eq!(ran.requests(), 5, "{pages}");
            assert_eq!(notes(&ran, "records"), 0);
        }
    }
}

#[test]
fn a_total_is_a_whole_number_or_it_is_told() {
    for pages in [BY_PAGE, BY_OFFSET] {
        let yaml = pipeline(&format!("records: data\n{pages}"));
        let ran = Scene::new(&yaml, told("10.0", 3)).run();
        assert_eq!(ran.summary.exit, Exit::Held);
        let short = |fact: &Fact| matches!(fact, Fact::FellShort { message, .. } if message.contains("10 records, but its pages held 6"));
        assert_eq!(ran.facts(short), 1);
        for unread in [r#""1,250""#, r#"{"value":10}"#, "10.5"] {
            let ran = Scene::new(&yaml, told(unread, 5)).run().complete();
            assert_eq!(ran.lines("out/a.ndjson").len(), 10);
            assert_eq!(notes(&ran, "is no whole number in the first page"), 1);
        }
        let yaml = yaml.replace("total: total", "total: meta.total");
        let ran = Scene::new(&yaml, told("10", 5)).run().complete();
        assert_eq!(ran.lines("out/a.ndjson").len(), 10);
        assert_eq!(
            notes(&ran, "total: meta.total` is not in the first page"),
            1
        );
    }
    let yaml = pipeline("records: data\npages: { page: { to: page, last: lst } }");
    let ran = Scene::new(&yaml, told("10", 5)).run().complete();
    assert_eq!(notes(&ran, "`pages.page.last: lst` is not in"), 1);
}

// ---- empty pages -----------------------------------------------------------------------------

#[test]
fn pages_that_stay_empty_end_the_run_and_the_next_one_goes_on() {
    let rules = || {
        serve(|request| {
            let at = number(request, "c").unwrap_or(0);
            let data = match at {
                0 => records(1),
                1500 => records(2),
                _ => "[]".to_owned(),
            };
            let next = match at {
                1500 => "null".to_owned(),
                at => (at + 1).to_string(),
            };
            SimReply::json(200, format!(r#"{{"data":{data},"next":{next}}}"#))
        })
    };
    let yaml = pipeline("records: data\npages: { token: { from: next, to: c } }");
    let ran = Scene::new(&yaml, rules()).run();
    fails(&ran, "1000 pages in a row hold no records");
    assert_eq!(ran.requests(), 1001);
    let hint = ran.failure().hint.clone().unwrap_or_default();
    assert!(hint.contains("`stop: count == 0`"), "{hint}");
    let again = Scene::new(&yaml, rules()).within(ran.root).run().complete();
    assert_eq!(again.requests(), 500);
    assert_eq!(again.lines("out/a.ndjson").len(), 4);
    let yaml = yaml.replace("    records", "    stop: count == 0\n    records");
    let ran = Scene::new(&yaml, rules()).run().complete();
    assert_eq!(ran.requests(), 2);
}

// ---- a copy of another page ------------------------------------------------------------------

#[test]
fn a_page_that_was_once_a_copy_does_not_stick() {
    // Page 3 is once a copy of the first; or of the last, so that the wrong one is kept; or the first of it.
    for (wrong, copied) in [(3, 1), (3, 5), (1, 3)] {
        let bad = Arc::new(AtomicU64::new(1));
        let is_bad = bad.clone();
        let rules = || {
            let is_bad = is_bad.clone();
            serve(move |request| {
                let page = number(request, "page").unwrap_or(1);
                let bad = is_bad.load(Ordering::Relaxed) == 1;
                let shown = if page == wrong && bad { copied } else { page };
                let data = records(shown);
                SimReply::json(200, format!(r#"{{"data":{data},"total":10}}"#))
            })
        };
        let yaml = pipeline(&format!("records: data\n{BY_PAGE}"));
        let ran = Scene::new(&yaml, rules()).run();
        fails(&ran, "the same records as another page");
        // While it stays so, it stays told.
        let ran = Scene::new(&yaml, rules()).within(ran.root).run();
        fails(&ran, "the same records as another page");
        assert!(ran.requests() <= 2, "{}", ran.requests());
        bad.store(0, Ordering::Relaxed);
        let ran = Scene::new(&yaml, rules()).within(ran.root).run().complete();
        let wanted: Vec<String> = (1..=10)
            .map(|id| {
                format!(
                    r#"{{"id":{id},"name":"{}"}}"#,
                    if id % 2 == 1 { "a" } else { "b" }
                )
            })
            .collect();
        assert_eq!(
            ran.lines("out/a.ndjson"),
            wanted,
            "{wrong}, a copy of {copied}"
        );
    }
}
