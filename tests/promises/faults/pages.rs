//! Faults 12 and 28 to 30: pages that lead nowhere, and pages that are not what they should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gleaner::event::{Fact, FailureClass};
use gleaner::failure::Exit;
use gleaner::sim::{Route, Rules, SimReply, SimRequest};

use super::{pipeline, refused, says};
use crate::fixture::Scene;

/// A server that answers so, told how often it was asked before; it has enough after a hundred.
fn custom(answer: impl Fn(&SimRequest, u64) -> SimReply + Send + Sync + 'static) -> Rules {
    let asked = AtomicU64::new(0);
    let patient = move |request: &SimRequest| match asked.fetch_add(1, Ordering::Relaxed) {
        n @ 0..100 => answer(request, n),
        _ => SimReply::error(418, "asked for ever"),
    };
    Rules {
        routes: vec![Route::custom("/a", Arc::new(patient))],
        ..Rules::default()
    }
}

/// A number out of the query.
fn number(request: &SimRequest, name: &str) -> u64 {
    request
        .param(name)
        .map_or(0, |text| text.parse().expect("a number"))
}

#[test]
fn f12_the_same_page_under_a_new_token_each_time() {
    let same = |n: u64| format!(r#"{{"data":[{{"id":1}},{{"id":2}}],"next":"t{n}"}}"#);
    let ran = refused(
        &pipeline("", "pages: { token: { from: next, to: cursor } }"),
        custom(move |_, n| SimReply::json(200, same(n))),
        Exit::Failed,
    );
    assert_eq!(ran.requests(), 2);
    says(&ran, &["page 2", "goes round in circles"]);

    let link = |n: u64| format!("</a?cursor=t{n}>; rel=\"next\"");
    let ran = refused(
        &pipeline("", "pages: link"),
        custom(move |_, n| {
            SimReply::json(200, r#"{"data":[{"id":1},{"id":2}]}"#).header("link", &link(n))
        }),
        Exit::Failed,
    );
    assert_eq!(ran.requests(), 2);
    says(&ran, &["page 2", "goes round in circles"]);
}

#[test]
fn f12_the_same_keys_with_something_new_beside_them() {
    // Every answer differs by a time stamp, so only the key tells.
    let answer = |_: &SimRequest, n: u64| {
        SimReply::json(
            200,
            format!(r#"{{"data":[{{"id":1,"seen":{n}}},{{"id":2,"seen":{n}}}],"next":"t{n}"}}"#),
        )
    };
    let ran = refused(
        &pipeline("", "key: id\npages: { token: { from: next, to: cursor } }"),
        custom(answer),
        Exit::Failed,
    );
    assert_eq!(ran.requests(), 4, "the first, and three without a new key");
    says(&ran, &["page 4", "no new key"]);
}

#[test]
fn f12_a_keyset_whose_boundary_is_inclusive() {
    // `after` is taken for "from": the last record of a page is the first of the next, and the
    // last of all comes again for ever.
    let answer = |request: &SimRequest, _: u64| {
        let from = number(request, "after").max(1);
        let ids: Vec<String> = (from..=25)
            .take(10)
            .map(|id| format!(r#"{{"id":{id}}}"#))
            .collect();
        SimReply::json(200, format!(r#"{{"data":[{}]}}"#, ids.join(",")))
    };
    let keyset = "key: id\npages: { keyset: { field: id, to: after } }";
    let ran = refused(&pipeline("", keyset), custom(answer), Exit::Failed);
    says(&ran, &["goes round in circles", "`>=`", "`add: 1`"]);
    assert!(ran.requests() <= 3 + 2, "{}", ran.requests());
    // Where the size is known the short page is the last, and the key removes what came twice.
    let sized = "query: { n: 10 }\nkey: id\npages: { keyset: { field: id, to: after, size: n } }";
    let ran = Scene::new(&pipeline("", sized), custom(answer))
        .run()
        .complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 25);
    assert_eq!(ran.stream("a").repeats, 2);
}

// ---- 28 --------------------------------------------------------------------------------------

#[test]
fn f28_a_success_without_data_is_tried_twice_and_never_an_empty_file() {
    for (body, sample) in [
        ("<html><title>Sign in</title></html>", "Sign in"),
        ("", "empty"),
        ("{}", "data"),
        ("null", "null"),
        (r#"[{"id":1}]"#, "data"),
        (r#"{"error":"try later"}"#, "error"),
    ] {
        let answer = move |_: &SimRequest, _: u64| SimReply::json(200, body);
        let ran = refused(&pipeline("", "pages: none"), custom(answer), Exit::Failed);
        assert_eq!(ran.requests(), 2, "{body}");
        let whole = pipeline("", "pages: none").replace("    records: data\n", "");
        if body == "null" {
            let ran = refused(&whole, custom(answer), Exit::Failed);
            assert_eq!(
                ran.requests(),
                2,
                "no answer at all, wherever the records are"
            );
        }
        let suspect = ran.facts(|fact| {
            matches!(
                fact,
                Fact::AttemptFailed {
                    class: FailureClass::Suspect,
                    ..
                }
            )
        });
        assert!(suspect >= 1, "{body}");
        says(&ran, &["a, page 1", sample]);
        // A hiccup is no failure.
        let once = move |_: &SimRequest, n: u64| match n {
            0 => SimReply::json(200, body),
            _ => SimReply::json(200, r#"{"data":[{"id":1}]}"#),
        };
        let ran = Scene::new(&pipeline("", "pages: none"), custom(once))
            .run()
            .complete();
        assert_eq!(ran.text("out/a.ndjson"), "{\"id\":1}\n", "{body}");
    }
}

// ---- 29 --------------------------------------------------------------------------------------

#[test]
fn f29_records_that_are_missing_on_one_page_are_no_end() {
    let answer = |request: &SimRequest, _: u64| {
        let page = number(request, "page");
        SimReply::json(
            200,
            match page {
                5 => r#"{"items":[],"last":9}"#.to_owned(),
                1..=9 => format!(r#"{{"data":[{{"id":{page}}},{{"id":-{page}}}],"last":9}}"#),
                _ => r#"{"data":[],"last":9}"#.to_owned(),
            },
        )
    };
    for pages in [
        "pages: { page: { to: page } }",
        "pages: { page: { to: page, last: last } }",
    ] {
        let ran = refused(&pipeline("", pages), custom(answer), Exit::Failed);
        says(&ran, &["a, page 5", "data", "items"]);
    }
}

// ---- 30 --------------------------------------------------------------------------------------

#[test]
fn f30_what_json_allows_is_kept_to_the_letter() {
    let deep = format!(r#"{{"d":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    for record in [
        deep.as_str(),
        r#"{"id":1234567890123456789012345}"#,
        r#"{"n":1e400}"#,
        r#"{"n":-0.0}"#,
        r#"{"k":1,"k":2}"#,
        r#"{"s":"\ud800"}"#,
        r#"{"s":"\u0000\u001b[2J"}"#,
    ] {
        for mark in ["", "\u{feff}"] {
            let body = format!("{mark}{{\"data\":[{record}]}}");
            let answer = move |_: &SimRequest, _: u64| SimReply::json(200, body.clone());
            let ran = Scene::new(&pipeline("", "pages: none"), custom(answer))
                .run()
                .complete();
            let shown: String = record.chars().take(40).collect();
            assert!(ran.text("out/a.ndjson") == format!("{record}\n"), "{shown}");
        }
    }
}

#[test]
fn f30_what_json_does_not_allow_fails_the_page_by_its_name() {
    // Depth is allowed, but no reader of the output would take it.
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (record, says_where) in [
        ("{\"n\":NaN}", "NaN"),
        ("{\"n\":01}", "01"),
        ("{\"n\":1,}", "}"),
        ("{\"s\":\"\n\"}", ""),
        ("{\"s\":\"\\x41\"}", ""),
        ("[[[[", ""),
        (deep.as_str(), "nests deeper than 128 levels"),
    ] {
        let third = format!("{{\"data\":[{{\"id\":0}},{record}]}}");
        let answer = move |request: &SimRequest, _: u64| match number(request, "page") {
            3 => SimReply::json(200, third.clone()),
            page => SimReply::json(200, format!(r#"{{"data":[{{"id":{page}}}]}}"#)),
        };
        let ran = refused(
            &pipeline("", "pages: { page: { to: page } }"),
            custom(answer),
            Exit::Failed,
        );
        says(&ran, &["a, page 3", says_where]);
        assert_eq!(ran.requests(), 4, "{says_where}: page 3 twice");
    }
}
