//! What must not be published is not: paging that goes in circles, answers that hold less than
//! they tell of, paging that was forgotten. The old file stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gleaner::event::Fact;
use gleaner::failure::Exit;
use gleaner::sim::{Dataset, Listing, Paging, Route, Rules, SimReply, SimRequest};

use super::fixture::{Ran, Scene};

/// A pipeline with one stream `a` at `/a`.
fn pipeline(stream: &str) -> String {
    format!(
        "source: {{ url: https://api.test, limits: none, concurrency: 4 }}
streams:
  a:
    get: /a
    records: data
    {}
sink: {{ ndjson: out/a.ndjson }}
",
        stream.replace('\n', "\n    ")
    )
}

/// A server that answers so, and has enough after a few hundred requests.
fn custom(answer: impl Fn(&SimRequest) -> SimReply + Send + Sync + 'static) -> Rules {
    let asked = AtomicU64::new(0);
    let patient = move |request: &SimRequest| match asked.fetch_add(1, Ordering::Relaxed) {
        0..300 => answer(request),
        _ => SimReply::error(418, "asked for ever"),
    };
    Rules {
        routes: vec![Route::custom("/a", Arc::new(patient))],
        ..Rules::default()
    }
}

fn numbered(count: usize) -> Dataset {
    Dataset::from_texts((1..=count).map(|id| format!(r#"{{"id":{id}}}"#)))
}

/// Runs with an old file in place; it must fail, and the old file must stay as it was.
fn refused(stream: &str, rules: Rules, exit: Exit) -> Ran {
    let yaml = pipeline(stream);
    let ran = Scene::new(&yaml, rules).file("out/a.ndjson", "old\n").run();
    assert_eq!(ran.failure().exit, exit, "{:#?}", ran.failure());
    assert_eq!(ran.summary.exit, exit);
    assert_eq!(ran.text("out/a.ndjson"), "old\n");
    let beside: Vec<String> = ran
        .files()
        .into_iter()
        .filter(|f| f.starts_with("out"))
        .collect();
    assert_eq!(beside, ["out/a.ndjson"], "nothing half-written");
    ran
}

fn says(ran: &Ran, wanted: &str) {
    let message = &ran.failure().message;
    assert!(message.contains(wanted), "{message}");
}

// ---- circles ---------------------------------------------------------------------------------

const PAGE: &str = r#"{"data":[{"id":1},{"id":2}],"total":1000,"next":"t","last":500}"#;

#[test]
fn a_server_that_ignores_the_page_parameter() {
    for pages in [
        "pages: { page: { to: page } }",
        "pages: { page: { to: page, total: total } }",
        "pages: { page: { to: page, last: last } }",
        "pages: { offset: { to: offset } }",
        "pages: { offset: { to: offset, total: total } }",
        "pages: { token: { from: next, to: cursor } }",
        "query: { n: 2 }\npages: { keyset: { field: id, to: after, size: n } }",
    ] {
        let ran = refused(pages, custom(|_| SimReply::json(200, PAGE)), Exit::Failed);
        says(&ran, "goes round in circles");
        assert!(ran.requests() <= 10, "{pages}: {} requests", ran.requests());
    }
}

#[test]
fn a_server_that_repeats_its_last_page_for_ever() {
    // It tells of 1000 records, but from page 5 on the answers are the same.
    let answer = |request: &SimRequest| {
        let page: usize = request
            .param("page")
            .expect("a page")
            .parse()
            .expect("a number");
        let id = page.min(5) * 2;
        let data = format!(
            r#"{{"data":[{{"id":{id}}},{{"id":{}}}],"total":1000}}"#,
            id + 1
        );
        SimReply::json(200, data)
    };
    for pages in [
        "pages: { page: { to: page } }",
        "pages: { page: { to: page, total: total } }",
    ] {
        let ran = refused(pages, custom(answer), Exit::Failed);
        says(&ran, "goes round in circles");
        assert!(ran.requests() < 20, "{}", ran.requests());
    }
}

#[test]
fn a_token_that_comes_again_and_links_in_a_circle() {
    // New records each time, so only the requests tell.
    let answer = |request: &SimRequest| {
        let at = fresh();
        let next = if request.param("cursor").as_deref() == Some("A") {
            "B"
        } else {
            "A"
        };
        SimReply::json(
            200,
            format!(r#"{{"data":[{{"at":{at}}}],"next":"{next}","url":"/a?cursor={next}"}}"#),
        )
        .header("link", &format!("</a?cursor={next}>; rel=\"next\""))
    };
    for pages in [
        "pages: { token: { from: next, to: cursor } }",
        "pages: { next: url }",
        "pages: link",
    ] {
        let ran = refused(pages, custom(answer), Exit::Failed);
        says(&ran, "the same request comes again");
        assert_eq!(ran.requests(), 3, "start, A, B: {pages}");
    }
    let stuck = |_: &SimRequest| {
        let at = fresh();
        SimReply::json(200, format!(r#"{{"data":[{{"at":{at}}}],"next":"A"}}"#))
    };
    let ran = refused(
        "pages: { token: { from: next, to: cursor } }",
        custom(stuck),
        Exit::Failed,
    );
    assert_eq!(ran.requests(), 2);
}

#[test]
fn a_token_in_a_post_body_that_comes_again() {
    let stuck = |_: &SimRequest| {
        let at = fresh();
        SimReply::json(200, format!(r#"{{"data":[{{"at":{at}}}],"next":7}}"#))
    };
    let yaml =
        pipeline("body: { json: { size: 2 } }\npages: { token: { from: next, to: body.after } }")
            .replace("get: /a", "post: /a");
    let ran = Scene::new(&yaml, custom(stuck)).run();
    says(&ran, "the same request comes again");
    assert_eq!(ran.requests(), 2);
}

/// The first page is new; then come the same records, each time with another `at`. From page
/// `breaks_at` on the server is down.
fn in_a_circle(breaks_at: u64) -> Rules {
    custom(move |request: &SimRequest| {
        let page: u64 = request
            .param("cursor")
            .map_or(1, |page| page.parse().expect("a number"));
        if page >= breaks_at {
            return SimReply::error(500, "down");
        }
        let next = page + 1;
        SimReply::json(
            200,
            format!(
                r#"{{"data":[{{"id":1,"at":{page}}},{{"id":2,"at":{page}}}],"next":"{next}"}}"#
            ),
        )
    })
}

#[test]
fn a_run_that_goes_on_knows_the_keys_that_it_kept() {
    let yaml = pipeline("key: id\npages: { token: { from: next, to: cursor } }");
    let whole = Scene::new(&yaml, in_a_circle(u64::MAX)).run();
    says(&whole, "three pages brought no new key");
    assert_eq!(
        whole.requests(),
        4,
        "one that is new, and three that are not"
    );
    // It breaks off at each of the pages, and goes on.
    for breaks_at in 2..=4 {
        let ran = Scene::new(&yaml, in_a_circle(breaks_at)).run();
        assert_eq!(ran.summary.exit, Exit::Resumable, "{:#?}", ran.failure());
        let again = Scene::new(&yaml, in_a_circle(u64::MAX))
            .within(ran.root)
            .run();
        says(&again, "three pages brought no new key");
        assert_eq!(
            again.requests() as u64,
            5 - breaks_at,
            "broken off at {breaks_at}"
        );
        // What was found does not change when it is tried once more.
        let more = Scene::new(&yaml, in_a_circle(u64::MAX))
            .within(again.root)
            .run();
        says(&more, "three pages brought no new key");
        assert_eq!(more.requests(), 1);
    }
}

#[test]
fn single_records_that_are_alike_are_no_circle() {
    let answer = |request: &SimRequest| {
        let page: usize = request
            .param("page")
            .expect("a page")
            .parse()
            .expect("a number");
        let data = ["{\"v\":1}", "{\"v\":2}", "{\"v\":1}", ""][(page - 1).min(3)];
        SimReply::json(200, format!(r#"{{"data":[{data}]}}"#))
    };
    let yaml = pipeline("pages: { page: { to: page } }");
    let ran = Scene::new(&yaml, custom(answer)).run().complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 3);
}

// ---- what is expected ------------------------------------------------------------------------

#[test]
fn fewer_records_than_the_api_tells_of_are_held() {
    let answer = |request: &SimRequest| {
        let page: usize = request
            .param("page")
            .expect("a page")
            .parse()
            .expect("a number");
        let data = if page <= 3 {
            format!(r#"{{"id":{page}}}"#)
        } else {
            String::new()
        };
        SimReply::json(200, format!(r#"{{"data":[{data}],"total":5}}"#))
    };
    for pages in ["{ to: page }", "{ to: page, total: total }"] {
        let stream = format!("pages: {{ page: {pages} }}\nexpect: {{ total: total }}");
        let ran = refused(&stream, custom(answer), Exit::Held);
        says(&ran, "tells of 5 records, but its pages held 3");
    }
    // Without `expect.total` they are published, and the shortfall is told.
    let yaml = pipeline("pages: { page: { to: page, total: total } }");
    let ran = Scene::new(&yaml, custom(answer)).run();
    let told = |fact: &Fact| matches!(fact, Fact::FellShort { message, .. } if message.contains("5 records, but its pages held 3"));
    assert_eq!(ran.facts(told), 1);
    assert_eq!(ran.summary.exit, Exit::Held);
    assert_eq!(ran.lines("out/a.ndjson").len(), 3);
}

#[test]
fn too_few_records_and_too_many_pages_are_held() {
    let listing = || Rules {
        routes: vec![Route::list(
            "/a",
            Listing::new(numbered(30), Paging::page_total("n")).size(10),
        )],
        ..Rules::default()
    };
    let paged = "pages: { page: { to: page, total: n } }";
    let ran = refused(
        &format!("{paged}\nexpect: {{ min_records: 31 }}"),
        listing(),
        Exit::Held,
    );
    says(&ran, "30 records, but `expect.min_records` wants 31");
    for pages in [paged, "pages: { page: { to: page } }"] {
        let ran = refused(
            &format!("{pages}\nexpect: {{ max_pages: 2 }}"),
            listing(),
            Exit::Held,
        );
        says(&ran, "reached `expect.max_pages: 2`");
        assert!(ran.requests() <= 2, "{}", ran.requests());
    }
    let enough = pipeline(&format!(
        "{paged}\nexpect: {{ min_records: 30, max_pages: 3, total: n }}"
    ));
    Scene::new(&enough, listing()).run().complete();
}

#[test]
fn pages_that_were_forgotten() {
    let link = |_: &SimRequest| {
        SimReply::json(200, r#"{"data":[{"id":1}]}"#).header("link", "</a?page=2>; rel=\"next\"")
    };
    let ran = refused("", custom(link), Exit::Failed);
    says(&ran, "the stream has no `pages`");
    let hint = ran.failure().hint.clone().unwrap_or_default();
    assert!(hint.contains("pages: link"), "{hint}");
    let total =
        |_: &SimRequest| SimReply::json(200, r#"{"data":[{"id":1},{"id":2}],"total":1000}"#);
    let ran = refused("expect: { total: total }", custom(total), Exit::Failed);
    says(&ran, "it tells of 1000 records and holds 2");
    for (beside, wanted) in [
        (r#""next":"https://api.test/a?page=2""#, "it has a `next`"),
        (r#""next_cursor":"x""#, "it has a `next_cursor`"),
        (r#""has_more":true"#, "`has_more` is true"),
        (
            r#""meta":{"pagination":{"next":2}}"#,
            "it has a `meta.pagination.next`",
        ),
    ] {
        let body = format!(r#"{{"data":[{{"id":1}}],{beside}}}"#);
        let answer = move |_: &SimRequest| SimReply::json(200, body.clone());
        let ran = refused("", custom(answer.clone()), Exit::Failed);
        says(&ran, wanted);
        says(&ran, "the stream has no `pages`");
        let hint = ran.failure().hint.clone().unwrap_or_default();
        assert!(
            hint.contains("`pages: none` if one page is meant"),
            "{hint}"
        );
        // Said out loud, one page is meant.
        Scene::new(&pipeline("pages: none"), custom(answer))
            .run()
            .complete();
    }
    // An answer that is one record has nothing beside it.
    let one = |_: &SimRequest| SimReply::json(200, r#"{"id":1,"next":"b","has_more":true}"#);
    let yaml = pipeline("").replace("    records: data\n", "");
    Scene::new(&yaml, custom(one)).run().complete();
    let said = pipeline("pages: none");
    Scene::new(&said, custom(link)).run().complete();
}

#[test]
fn a_record_path_that_matches_nothing_and_a_page_of_markup() {
    let other = |_: &SimRequest| SimReply::json(200, r#"{"results":[1]}"#);
    let ran = refused("", custom(other), Exit::Failed);
    assert_eq!(ran.requests(), 2, "once more, in case it was a hiccup");
    let login = |_: &SimRequest| {
        SimReply::new(
            200,
            &[("content-type", "text/html")],
            "<html>please log in</html>",
        )
    };
    let ran = refused("", custom(login), Exit::Failed);
    assert_eq!(ran.requests(), 2);
}

/// Something new at every call.
fn fresh() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}
