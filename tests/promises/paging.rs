//! Every record of every page, once, in order, whatever the paging style and the weather.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use gleaner::event::Fact;
use gleaner::failure::Exit;
use gleaner::sim::{
    Dataset, End, Fault, FaultRule, Latency, Listing, Paging, Route, Rules, SimReply, SimRequest,
};

use super::fixture::{Ran, Scene, run};

pub(crate) const MS: Duration = Duration::from_millis(1);

// ---- a hundred thousand ----------------------------------------------------------------------

const MANY: usize = 100_000;

/// Records whose values are lost by careless programs, and what CSV makes of them.
pub(crate) struct Truth {
    pub(crate) data: Arc<Dataset>,
    pub(crate) ndjson: String,
    csv: String,
}

pub(crate) fn truth(count: usize) -> Truth {
    let mut texts = Vec::with_capacity(count);
    let mut ndjson = String::new();
    let mut csv = "id,big,price,user.name\r\n".to_owned();
    for id in 1..=count {
        let big = format!("9{:024}", id * 7);
        let (name, cell) = match id % 5 {
            0 => (r#""a, \"b\"""#, r#""a, ""b""""#),
            1 => (r#""00123""#, "00123"),
            2 => ("null", ""),
            3 => (r#""two\nlines""#, "\"two\nlines\""),
            _ => (r#""Übergröße 東京""#, "Übergröße 東京"),
        };
        let price = id % 90;
        let text =
            format!(r#"{{"id":{id},"big":{big},"price":{price}.10,"user":{{"name":{name}}}}}"#);
        writeln!(ndjson, "{text}").expect("to a string");
        write!(csv, "{id},{big},{price}.10,{cell}\r\n").expect("to a string");
        texts.push(text);
    }
    Truth {
        data: Arc::new(Dataset::from_texts(texts)),
        ndjson,
        csv,
    }
}

static HUNDRED_THOUSAND: LazyLock<Truth> = LazyLock::new(|| truth(MANY));

/// A pipeline with one stream `a` at `/a`, both sinks.
pub(crate) fn pipeline(concurrency: usize, query: &str, pages: &str) -> String {
    format!(
        "source: {{ url: https://api.test, limits: none, concurrency: {concurrency} }}
streams:
  a:
    get: /a
    query: {{ {query} }}
    records: data
    pages: {pages}
sink: [ {{ ndjson: out/a.ndjson }}, {{ csv: out/a.csv }} ]
"
    )
}

fn listing(paging: Paging) -> Listing {
    Listing::new(HUNDRED_THOUSAND.data.clone(), paging)
}

pub(crate) fn serve(listing: Listing) -> Rules {
    Rules {
        routes: vec![Route::list("/a", listing)],
        ..Rules::default()
    }
}

pub(crate) fn compare(ran: &Ran, truth: &Truth, what: &str) {
    for (path, wanted) in [("out/a.ndjson", &truth.ndjson), ("out/a.csv", &truth.csv)] {
        let got = ran.text(path);
        if got != *wanted {
            let at = got.lines().zip(wanted.lines()).position(|(a, b)| a != b);
            panic!(
                "{what}: {path} differs, first at line {at:?}; {} and {} lines",
                got.lines().count(),
                wanted.lines().count()
            );
        }
    }
}

/// One style at concurrency 1 and, in bad weather, at 16.
fn complete(query: &str, pages: &str, listing: Listing, requests: usize) {
    let truth = &*HUNDRED_THOUSAND;
    let calm = run(&pipeline(1, query, pages), serve(listing.clone())).complete();
    compare(&calm, truth, "one at a time");
    assert_eq!(calm.requests(), requests, "and no request more than needed");
    let rough = Rules {
        latency: Latency::Between(5 * MS, 900 * MS, 3),
        faults: vec![
            FaultRule::every(23, Fault::status(503)),
            FaultRule::every(31, Fault::Reset),
            FaultRule::every(37, Fault::TruncatedBody),
        ],
        gzip: true,
        ..serve(listing)
    };
    let rough = run(&pipeline(16, query, pages), rough).complete();
    compare(&rough, truth, "sixteen at a time with faults");
    assert!(rough.api.audit().faults() >= 3, "there were faults");
    assert_eq!(
        rough.requests(),
        requests + usize::try_from(rough.api.audit().faults()).expect("few")
    );
    assert_eq!(rough.stream("a").records, MANY as u64);
}

#[test]
fn page_numbers() {
    complete(
        "per_page: 1000",
        "{ page: { to: page, size: per_page } }",
        listing(Paging::page()),
        101,
    );
}

#[test]
fn page_numbers_side_by_side() {
    complete(
        "per_page: 1000",
        "{ page: { to: page, size: per_page, total: meta.total } }",
        listing(Paging::page_total("meta.total")),
        100,
    );
}

#[test]
fn offsets() {
    complete(
        "limit: 1000",
        "{ offset: { to: offset, size: limit, total: count } }",
        listing(Paging::offset_total("count")),
        100,
    );
}

#[test]
fn tokens() {
    complete(
        "limit: 1000",
        "{ token: { from: next_cursor, to: cursor } }",
        listing(Paging::token(End::Null)),
        100,
    );
}

#[test]
fn next_urls() {
    complete(
        "limit: 1000",
        "{ next: next }",
        listing(Paging::next_url(true, End::Absent)),
        100,
    );
}

#[test]
fn links() {
    complete("per_page: 1000", "link", listing(Paging::link()), 100);
}

#[test]
fn keysets() {
    complete(
        "limit: 1000",
        "{ keyset: { field: id, to: after, size: limit } }",
        listing(Paging::keyset()),
        101,
    );
}

// ---- ends of lists ---------------------------------------------------------------------------

/// Runs over `count` records; the answers must be complete.
fn few(
    count: usize,
    concurrency: usize,
    query: &str,
    pages: &str,
    paging: Paging,
    cap: usize,
) -> Ran {
    let truth = truth(count);
    let mut listing = Listing::new(truth.data.clone(), paging);
    listing.max_size = cap;
    let ran = run(&pipeline(concurrency, query, pages), serve(listing)).complete();
    if count > 0 {
        compare(
            &ran,
            &truth,
            &format!("{count} records, {pages}, cap {cap}"),
        );
    } else {
        assert_eq!(ran.text("out/a.ndjson"), "");
        assert!(
            ran.path("out/a.csv").exists(),
            "an empty list is an empty file"
        );
    }
    ran
}

#[test]
fn a_server_that_caps_the_page_size_loses_nothing() {
    for concurrency in [1, 8] {
        for (query, pages, paging) in [
            (
                "per_page: 100",
                "{ page: { to: page, size: per_page } }",
                Paging::page(),
            ),
            (
                "per_page: 100",
                "{ page: { to: page, size: per_page, total: n } }",
                Paging::page_total("n"),
            ),
            (
                "limit: 100",
                "{ offset: { to: offset, size: limit } }",
                Paging::offset(),
            ),
            (
                "limit: 100",
                "{ offset: { to: offset, size: limit, total: n } }",
                Paging::offset_total("n"),
            ),
            (
                "limit: 100",
                "{ keyset: { field: id, to: after, size: limit } }",
                Paging::keyset(),
            ),
        ] {
            for count in [0, 1, 29, 30, 31, 60, 95, 100, 101, 200] {
                few(count, concurrency, query, pages, paging.clone(), 30);
            }
        }
    }
}

#[test]
fn lists_end_without_a_request_too_many() {
    let page = "{ page: { to: page, size: per_page, total: n } }";
    let offset = "{ offset: { to: offset, size: limit, total: n } }";
    for concurrency in [1, 8] {
        for (count, requests) in [
            (0, 1),
            (1, 1),
            (50, 1),
            (51, 2),
            (100, 2),
            (101, 3),
            (500, 10),
        ] {
            let ran = few(
                count,
                concurrency,
                "per_page: 50",
                page,
                Paging::page_total("n"),
                1000,
            );
            assert_eq!(ran.requests(), requests, "page, {count}");
            let ran = few(
                count,
                concurrency,
                "limit: 50",
                offset,
                Paging::offset_total("n"),
                1000,
            );
            assert_eq!(ran.requests(), requests, "offset, {count}");
            let last = "{ page: { to: page, last: headers.x } }".replace("headers.x", "last");
            let ran = few(
                count,
                concurrency,
                "per_page: 50",
                &last,
                Paging::page_last("last"),
                1000,
            );
            assert_eq!(ran.requests(), requests, "last, {count}");
        }
    }
    // Without a total the end shows on a short page, once a full one was seen.
    let ran = few(
        120,
        8,
        "per_page: 50",
        "{ page: { to: page, size: per_page } }",
        Paging::page(),
        1000,
    );
    assert_eq!(ran.requests(), 3);
    let ran = few(
        120,
        8,
        "limit: 50",
        "{ offset: { to: offset, size: limit } }",
        Paging::offset(),
        1000,
    );
    assert_eq!(ran.requests(), 3);
}

#[test]
fn a_short_first_page_is_not_taken_for_a_small_server() {
    // Offset goes on by what came, even where pages grow and shrink.
    let truth = truth(200);
    let data = truth.data.texts();
    let sizes = [7_usize, 30, 1, 12, 30];
    let answer = move |request: &SimRequest| {
        let from: usize = request
            .param("offset")
            .map_or(0, |text| text.parse().expect("a number"));
        let size = sizes[from % sizes.len()];
        let page = data[from.min(data.len())..(from + size).min(data.len())].join(",");
        SimReply::json(200, format!(r#"{{"data":[{page}],"n":{}}}"#, data.len()))
    };
    let rules = Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        ..Rules::default()
    };
    for pages in [
        "{ offset: { to: offset, size: limit } }",
        "{ offset: { to: offset, size: limit, total: n } }",
    ] {
        for concurrency in [1, 8] {
            let ran = run(&pipeline(concurrency, "limit: 30", pages), rules.clone()).complete();
            compare(&ran, &truth, pages);
        }
    }
}

#[test]
fn an_empty_page_among_others_is_not_the_end_where_the_end_is_known() {
    for empty in [1_usize, 3] {
        let answer = move |request: &SimRequest| {
            let page: usize = request
                .param("page")
                .expect("a page")
                .parse()
                .expect("a number");
            let data = match page {
                _ if page == empty => String::new(),
                1..=5 => format!(r#"{{"id":{page}}},{{"id":-{page}}}"#),
                _ => String::new(),
            };
            // It tells of one page more than was asked for, for ever; the first answer counts.
            let last = (page + 1).max(5);
            SimReply::json(200, format!(r#"{{"data":[{data}],"last":{last}}}"#))
        };
        let rules = Rules {
            routes: vec![Route::custom("/a", Arc::new(answer))],
            ..Rules::default()
        };
        let side_by_side = pipeline(8, "", "{ page: { to: page, last: last } }");
        let in_turn = side_by_side.replace("    pages", "    stop: last.id == 77\n    pages");
        for yaml in [side_by_side, in_turn] {
            let ran = run(&yaml, rules.clone());
            // Nothing else shows that its records are missing.
            assert_eq!(ran.summary.exit, Exit::Held, "{:?}", ran.summary);
            let wanted = format!("page {empty} held no records, but pages after it did");
            let told = |fact: &Fact| matches!(fact, Fact::FellShort { message, .. } if message.contains(&wanted));
            assert_eq!(ran.facts(told), 1);
            assert_eq!(ran.lines("out/a.ndjson").len(), 8, "page {empty} is empty");
            assert!(ran.requests() <= 6, "{}", ran.requests());
        }
    }
}

#[test]
fn any_style_any_size_any_weather() {
    let styles = [
        (
            "per_page",
            "{ page: { to: page, size: per_page } }",
            Paging::page(),
        ),
        ("per_page", "{ page: { to: page } }", Paging::page()),
        (
            "per_page",
            "{ page: { to: page, size: per_page, total: n } }",
            Paging::page_total("n"),
        ),
        (
            "per_page",
            "{ page: { to: page, total: n } }",
            Paging::page_total("n"),
        ),
        (
            "per_page",
            "{ page: { to: page, last: n } }",
            Paging::page_last("n"),
        ),
        (
            "limit",
            "{ offset: { to: offset, size: limit } }",
            Paging::offset(),
        ),
        ("limit", "{ offset: { to: offset } }", Paging::offset()),
        (
            "limit",
            "{ offset: { to: offset, size: limit, total: n } }",
            Paging::offset_total("n"),
        ),
        (
            "limit",
            "{ offset: { to: offset, total: n } }",
            Paging::offset_total("n"),
        ),
        (
            "limit",
            "{ token: { from: next_cursor, to: cursor } }",
            Paging::token(End::Absent),
        ),
        (
            "limit",
            "{ token: { from: next_cursor, to: cursor } }",
            Paging::token(End::Empty),
        ),
        (
            "limit",
            "{ next: next }",
            Paging::next_url(false, End::Null),
        ),
        ("per_page", "link", Paging::link()),
        (
            "limit",
            "{ keyset: { field: id, to: after, size: limit } }",
            Paging::keyset(),
        ),
        (
            "limit",
            "{ keyset: { field: id, to: after } }",
            Paging::keyset(),
        ),
    ];
    for seed in 0..150 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let (param, pages, paging) = styles[dice.usize(..styles.len())].clone();
        let truth = truth(dice.usize(1..80));
        let mut listing = Listing::new(truth.data.clone(), paging);
        let asked = dice.usize(1..30);
        listing.max_size = if dice.bool() { 1000 } else { dice.usize(1..30) };
        let rules = Rules {
            latency: Latency::Between(Duration::ZERO, dice.u32(0..2000) * MS, seed),
            faults: vec![
                FaultRule::every(dice.u64(3..20), Fault::status(500)),
                FaultRule::every(dice.u64(3..20), Fault::TruncatedBody),
                FaultRule::every(dice.u64(3..20), Fault::status_retry_after(429, "3")),
            ],
            gzip: dice.bool(),
            ..serve(listing)
        };
        let concurrency = dice.usize(1..20);
        let yaml = pipeline(concurrency, &format!("{param}: {asked}"), pages)
            .replace("limits: none", "limits: none, retry: { attempts: 50 }");
        let ran = run(&yaml, rules).complete();
        compare(
            &ran,
            &truth,
            &format!("seed {seed}: {pages}, {asked} asked"),
        );
    }
}

// ---- other places ----------------------------------------------------------------------------

#[test]
fn page_numbers_in_a_header_and_tokens_in_a_json_body() {
    let truth = truth(95);
    let mut paging = Paging::page();
    if let Paging::Page { param, .. } = &mut paging {
        "header:x-page".clone_into(param);
    }
    let by_header = Listing::new(truth.data.clone(), paging).size(10);
    let yaml = pipeline(8, "", "{ page: { to: headers.x-page, start: 1 } }");
    compare(&run(&yaml, serve(by_header)).complete(), &truth, "header");

    let mut by_body = Listing::new(truth.data.clone(), Paging::token_in_body(End::Absent)).size(10);
    by_body.size_param = Some("body.limit".to_owned());
    let yaml = pipeline(
        8,
        "",
        "{ token: { from: paging.next.after, to: body.after } }",
    )
    .replace(
        "get: /a",
        "post: /a\n    body: { json: { limit: 10, filter: { big: 12345678901234567890123456 } } }",
    );
    let ran = run(&yaml, serve(by_body)).complete();
    compare(&ran, &truth, "body");
    assert_eq!(ran.requests(), 10);
    assert!(ran.api.audit().entries().iter().all(|e| e.method == "POST"));
}

#[test]
fn every_style_that_fills_a_form() {
    // 25 records, ten to a page: of what number, offset, token or id the form asks for.
    let answer = |request: &SimRequest| {
        let form: BTreeMap<_, _> = url::form_urlencoded::parse(&request.body)
            .into_owned()
            .collect();
        assert_eq!(
            request.headers["content-type"],
            "application/x-www-form-urlencoded"
        );
        assert_eq!(form["filter[state]"], "all");
        let of = |name: &str| {
            form.get(name)
                .map(|text| text.parse::<u64>().expect("a number"))
        };
        let from = of("page")
            .map(|page| (page - 1) * 10)
            .or(of("skip"))
            .or(of("cursor"))
            .or(of("page[after]"))
            .unwrap_or(0);
        let most = of("limit").expect("a size");
        let ids: Vec<String> = (from + 1..=(from + most).min(25))
            .map(|id| format!(r#"{{"id":{id}}}"#))
            .collect();
        let next = match from + most {
            next @ ..25 => next.to_string(),
            _ => "null".to_owned(),
        };
        SimReply::json(
            200,
            format!(r#"{{"data":[{}],"next":{next},"n":25}}"#, ids.join(",")),
        )
    };
    for pages in [
        "{ page: { to: body.page, size: limit } }",
        "{ page: { to: body.page, size: body.limit, total: n } }",
        "{ offset: { to: body.skip, size: limit, total: n } }",
        "{ offset: { to: body.skip, size: limit } }",
        "{ token: { from: next, to: body.cursor } }",
        "{ keyset: { field: id, to: 'body.\"page[after]\"', size: limit } }",
    ] {
        let yaml = pipeline(4, "", pages).replace(
            "get: /a",
            "post: /a\n    body: { form: { limit: 10, 'filter[state]': all } }",
        );
        let rules = Rules {
            routes: vec![Route::custom("/a", Arc::new(answer))],
            ..Rules::default()
        };
        let ran = run(&yaml, rules).complete();
        assert_eq!(ran.lines("out/a.ndjson").len(), 25, "{pages}");
    }
}

#[test]
fn a_keyset_adds_to_ids_of_any_length() {
    for first in [
        "9223372036854775800",
        "18446744073709551600",
        "9999999999999999999999990",
    ] {
        let first: u128 = first.parse().expect("a number");
        let answer = move |request: &SimRequest| {
            let from = request
                .param("since")
                .map_or(first, |id| id.parse().expect("an id"));
            let ids: Vec<String> = (from..(from + 10).min(first + 25))
                .map(|id| format!(r#"{{"id":"{id}"}}"#))
                .collect();
            SimReply::json(200, format!(r#"{{"data":[{}]}}"#, ids.join(",")))
        };
        let rules = Rules {
            routes: vec![Route::custom("/a", Arc::new(answer))],
            ..Rules::default()
        };
        let yaml = pipeline(1, "", "{ keyset: { field: id, to: since, add: 1 } }");
        let ran = run(&yaml, rules).complete();
        let wanted: Vec<String> = (first..first + 25)
            .map(|id| format!(r#"{{"id":"{id}"}}"#))
            .collect();
        assert_eq!(ran.lines("out/a.ndjson"), wanted);
    }
}

/// `MediaWiki`'s way: the last page has no `continue`, and each one names what to send beside, or in
/// place of, what the first request sent.
pub(crate) fn wiki(count: usize) -> Rules {
    let answer = move |request: &SimRequest| {
        assert_eq!(request.param("list").as_deref(), Some("changes"));
        let from = match request.param("rccontinue") {
            None => 0,
            Some(token) => {
                let token = token.strip_prefix("at|").expect("our token");
                token.parse::<usize>().expect("a number")
            }
        };
        // What is named only once must not be sent with the next page.
        assert_eq!(
            request.param("once").is_some(),
            from == 10,
            "{}",
            request.target
        );
        let expected = if from == 0 { "" } else { "-||" };
        assert_eq!(request.param("continue").unwrap_or_default(), expected);
        let to = (from + 10).min(count);
        let ids: Vec<String> = (from..to).map(|id| format!(r#"{{"id":{id}}}"#)).collect();
        let once = if to == 10 {
            r#""once":true,"none":null,"#
        } else {
            ""
        };
        let next = if to < count {
            format!(r#","continue":{{{once}"rccontinue":"at|{to}","continue":"-||"}}"#)
        } else {
            String::new()
        };
        SimReply::json(200, format!(r#"{{"data":[{}]{next}}}"#, ids.join(",")))
    };
    Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        latency: Latency::Fixed(10 * MS),
        ..Rules::default()
    }
}

#[test]
fn members_of_an_object_go_into_the_next_query() {
    let yaml = pipeline(4, "list: changes, continue: ''", "{ merge: continue }");
    let ran = run(&yaml, wiki(45)).complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 45);
    assert_eq!(
        ran.targets()[..3],
        [
            "/a?list=changes",
            "/a?list=changes&once=true&rccontinue=at%7C10&continue=-%7C%7C",
            "/a?list=changes&rccontinue=at%7C20&continue=-%7C%7C",
        ]
    );
    for (next, problem) in [
        (r#""x""#, "not an object"),
        (r#"{"a":{"b":1}}"#, "no objects or lists"),
    ] {
        let body = format!(r#"{{"data":[{{"id":1}}],"continue":{next}}}"#);
        let rules = Rules {
            routes: vec![Route::fixed("/a", 200, &[], body)],
            ..Rules::default()
        };
        let message = run(&yaml, rules).failure().message.clone();
        assert!(message.contains(problem), "{message}");
    }
}

#[test]
fn a_walk_by_merge_that_is_stopped_goes_on_with_the_same_bytes() {
    let yaml = pipeline(1, "list: changes", "{ merge: continue }");
    let whole = run(&yaml, wiki(45)).complete();
    for stop in [5, 15, 25, 35] {
        let stopped = Scene::new(&yaml, wiki(45)).stop_after(stop * MS).run();
        assert_eq!(stopped.summary.exit, Exit::Interrupted);
        let asked = stopped.requests();
        let ran = Scene::new(&yaml, wiki(45))
            .within(stopped.root)
            .run()
            .complete();
        assert_eq!(ran.text("out/a.ndjson"), whole.text("out/a.ndjson"));
        assert_eq!(asked + ran.requests(), 5, "after {stop} ms: no page twice");
    }
}

#[test]
fn numbers_stay_as_they_were_spelled() {
    let record = r#"{"id":1234567890123456789012345,"p":1.10,"e":1E5,"z":-0.0,"t":"00123","n":{"deep":9007199254740993}}"#;
    let rules = serve(Listing::new(Dataset::from_texts([record]), Paging::Whole));
    let ran = run(&pipeline(1, "", "none"), rules.clone()).complete();
    assert_eq!(ran.text("out/a.ndjson"), format!("{record}\n"));
    assert_eq!(
        ran.text("out/a.csv"),
        "id,p,e,z,t,n.deep\r\n1234567890123456789012345,1.10,1E5,-0.0,00123,9007199254740993\r\n"
    );
    // Chosen columns keep the spelling as well.
    let yaml = pipeline(1, "", "none").replace(
        "    pages: none",
        "    pages: none\n    key: id\n    columns: { id: , price: p, deep: n.deep, t: }",
    );
    let ran = run(&yaml, rules).complete();
    assert_eq!(
        ran.text("out/a.ndjson"),
        "{\"id\":1234567890123456789012345,\"price\":1.10,\"deep\":9007199254740993,\"t\":\"00123\"}\n"
    );
    assert_eq!(
        ran.text("out/a.csv"),
        "id,price,deep,t\r\n1234567890123456789012345,1.10,9007199254740993,00123\r\n"
    );
}

/// An API that caps a page by its size in bytes: what an offset passes over is never asked for.
#[test]
fn a_short_page_between_pages_side_by_side_is_no_success() {
    let rules = |capped: usize| {
        let answer = move |request: &SimRequest| {
            let from: usize = request
                .param("o")
                .map_or(0, |text| text.parse().expect("a number"));
            let most = if from == 20 { capped } else { 10 };
            let ids: Vec<String> = (from..(from + most).min(95))
                .map(|id| format!(r#"{{"id":{id}}}"#))
                .collect();
            SimReply::json(200, format!(r#"{{"data":[{}],"n":95}}"#, ids.join(",")))
        };
        Rules {
            routes: vec![Route::custom("/a", Arc::new(answer))],
            ..Rules::default()
        }
    };
    let yaml = pipeline(8, "", "{ offset: { to: o, total: n } }");
    let ran = Scene::new(&yaml, rules(5)).file("out/a.csv", "old").run();
    assert_eq!(ran.summary.exit, Exit::Held);
    assert_eq!(ran.text("out/a.csv"), "old");
    let failure = ran.failure();
    assert_eq!(
        failure.message,
        "a: page 3 held 5 records where the first page held 10, and all pages together hold 90 of the 95 that the API tells of; without `total` in `pages` they come one after the other, and none is taken to be like the first"
    );
    // As it says: one after the other, nothing is passed over.
    let in_turn = pipeline(8, "", "{ offset: { to: o } }");
    let ran = run(&in_turn, rules(5)).complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 95);
    assert_eq!(
        run(&yaml, rules(10)).complete().lines("out/a.ndjson").len(),
        95
    );
}
