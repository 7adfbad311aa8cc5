//! Every record of every page, once, in order, whatever the paging style and the weather.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use gleaner::failure::Exit;
use gleaner::sim::{
    Dataset, End, Fault, FaultRule, Latency, Listing, Paging, Route, Rules, SimReply, SimRequest,
};

use super::fixture::{Ran, Scene, run};

const MS: Duration = Duration::from_millis(1);

// ---- a hundred thousand ----------------------------------------------------------------------

const MANY: usize = 100_000;

/// Records whose values are lost by careless programs, and what CSV makes of them.
struct Truth {
    data: Arc<Dataset>,
    ndjson: String,
    csv: String,
}

fn truth(count: usize) -> Truth {
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
fn pipeline(concurrency: usize, query: &str, pages: &str) -> String {
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

fn serve(listing: Listing) -> Rules {
    Rules {
        routes: vec![Route::list("/a", listing)],
        ..Rules::default()
    }
}

fn compare(ran: &Ran, truth: &Truth, what: &str) {
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
    complete(
        "per_page: 999",
        "{ page: { to: page, last: pages } }",
        listing(Paging::page_last("pages")),
        101,
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

// ---- partitions ------------------------------------------------------------------------------

/// Partitions of different sizes under `/x/{kind}/{n}`, each record naming its own.
fn partitioned() -> Rules {
    let answer = |request: &SimRequest| {
        let (kind, n) = (
            request.param("kind").expect("kind"),
            request.param("n").expect("n"),
        );
        let page: usize = request
            .param("page")
            .map_or(1, |text| text.parse().expect("a number"));
        let count = (kind.len() * 7 + n.parse::<usize>().expect("a number") * 13) % 31;
        if count == 5 {
            return SimReply::error(404, "nothing here");
        }
        let from = ((page - 1) * 4).min(count);
        let records: Vec<String> = (from..(from + 4).min(count))
            .map(|at| format!(r#"{{"at":{at}}}"#))
            .collect();
        SimReply::json(
            200,
            format!(r#"{{"data":[{}],"n":{count}}}"#, records.join(",")),
        )
    };
    Rules {
        routes: vec![Route::custom("/x/{kind}/{n}", Arc::new(answer))],
        latency: Latency::Between(MS, 700 * MS, 9),
        ..Rules::default()
    }
}

const PARTITIONS: &str = r#"
source: { url: https://api.test, limits: none, concurrency: WIDTH }
streams:
  a:
    for:
      kind: [b, a, ccc, dddd]
      n: { range: [1, 20] }
    get: /x/{{ kind }}/{{ n }}
    query: { per_page: 4 }
    records: data
    pages: { page: { to: page, size: per_page, total: n } }
    responses: [ { if: status == 404, then: skip } ]
    columns: { kind: "{{ kind }}", n: "{{ n }}", at: }
sink: [ { ndjson: out/a.ndjson }, { csv: out/a.csv } ]
"#;

#[test]
fn partitions_stand_in_the_order_of_the_file() {
    let mut wanted = "kind,n,at\r\n".to_owned();
    for kind in ["b", "a", "ccc", "dddd"] {
        for n in 1..=20 {
            let count = (kind.len() * 7 + n * 13) % 31;
            for at in 0..if count == 5 { 0 } else { count } {
                write!(wanted, "{kind},{n},{at}\r\n").expect("to a string");
            }
        }
    }
    let mut outputs = Vec::new();
    for width in ["1", "16"] {
        let ran = run(&PARTITIONS.replace("WIDTH", width), partitioned()).complete();
        assert_eq!(ran.text("out/a.csv"), wanted, "width {width}");
        assert_eq!(ran.stream("a").partitions, 80);
        outputs.push(ran.text("out/a.ndjson"));
    }
    assert_eq!(outputs[0], outputs[1]);
    assert!(outputs[0].starts_with("{\"kind\":\"b\",\"n\":1,\"at\":0}\n"));
}

#[test]
fn a_list_from_a_file_is_walked_in_its_order() {
    let yaml = PARTITIONS
        .replace("{ range: [1, 20] }", "{ file: in/ids.csv, column: id }")
        .replace("[b, a, ccc, dddd]", "[a]")
        .replace("WIDTH", "4");
    let ran = Scene::new(&yaml, partitioned())
        .file("in/ids.csv", "name,id\nx,8\ny,2\nz,4\n")
        .run()
        .complete();
    let mut ns: Vec<String> = ran
        .lines("out/a.csv")
        .iter()
        .skip(1)
        .map(|line| line.split(',').nth(1).expect("n").to_owned())
        .collect();
    ns.dedup();
    assert_eq!(ns, ["8", "2", "4"]);
}

#[test]
fn stop_ends_the_paging_and_keeps_the_page() {
    let truth = truth(100);
    let listing = Listing::new(truth.data.clone(), Paging::page_total("n")).size(10);
    let yaml = pipeline(8, "", "{ page: { to: page, total: n } }")
        .replace("    pages", "    stop: last.id >= 25\n    pages");
    let ran = run(&yaml, serve(listing)).complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 30);
    assert_eq!(ran.requests(), 3);
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
        "a, page 3: it held 5 records where the first page held 10, and all pages together hold 90 of the 95 that the API tells of"
    );
    // As the hint says: one after the other, nothing is passed over.
    let in_turn = pipeline(8, "", "{ offset: { to: o } }");
    let ran = run(&in_turn, rules(5)).complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 95);
    assert_eq!(
        run(&yaml, rules(10)).complete().lines("out/a.ndjson").len(),
        95
    );
}

/// What `check` lets a rule name is there when the rule is judged.
#[test]
fn a_stop_sees_the_environment() {
    let yaml = pipeline(8, "", "{ page: { to: page, total: n } }").replace(
        "    pages",
        "    stop: env.GLEANER_TEST_STOP == 'yes'\n    pages",
    );
    for (value, requests) in [("yes", 1), ("no", 10)] {
        let listing = Listing::new(truth(100).data, Paging::page_total("n")).size(10);
        let ran = Scene::new(&yaml, serve(listing))
            .file(".env", &format!("GLEANER_TEST_STOP={value}\n"))
            .run()
            .complete();
        assert_eq!(ran.requests(), requests, "{value}");
    }
}

// ---- keys ------------------------------------------------------------------------------------

#[test]
fn of_records_with_one_key_the_later_stands_in_the_place_of_the_first() {
    let texts = [
        r#"{"id":1,"v":"a"}"#,
        r#"{"id":2,"v":"b"}"#,
        r#"{"id":3,"v":"c"}"#,
        r#"{"id":1,"v":"d"}"#,
        r#"{"id":4,"v":"e"}"#,
        r#"{"id":1,"v":"f"}"#,
        r#"{"id":3,"v":"g"}"#,
        r#"{"id":"1","v":"text is another key"}"#,
    ];
    for concurrency in [1, 8] {
        let rules = Rules {
            latency: Latency::Between(MS, 900 * MS, 4),
            ..serve(Listing::new(Dataset::from_texts(texts), Paging::page_total("n")).size(2))
        };
        let yaml = pipeline(concurrency, "", "{ page: { to: page, total: n } }")
            .replace("    pages", "    key: id\n    pages");
        let ran = run(&yaml, rules).complete();
        assert_eq!(
            ran.lines("out/a.ndjson"),
            [texts[5], texts[1], texts[6], texts[4], texts[7]]
        );
        assert_eq!(ran.stream("a").repeats, 3);
        assert_eq!(ran.stream("a").files[0].rows, 5);
    }
}

#[test]
fn a_later_record_brings_the_variables_of_its_own_partition() {
    // Record 1 is found under both tags; what counts is found under the second, as its second.
    let answer = |request: &SimRequest| {
        SimReply::json(
            200,
            match request.param("tag").as_deref() {
                Some("x") => r#"{"data":[{"id":1,"v":"old"},{"id":2,"v":"b"}]}"#,
                _ => r#"{"data":[{"id":3,"v":"c"},{"id":1,"v":"new"}]}"#,
            },
        )
    };
    let rules = Rules {
        routes: vec![Route::custom("/{tag}", Arc::new(answer))],
        ..Rules::default()
    };
    let yaml = r#"
source: { url: https://api.test, limits: none }
streams:
  a:
    for: { tag: [x, y] }
    get: /{{ tag }}
    pages: none
    records: data
    key: id
sink: { csv: out/a.csv }
"#;
    let ran = run(yaml, rules.clone()).complete();
    assert_eq!(
        ran.text("out/a.csv"),
        "tag,id,v\r\ny,1,new\r\nx,2,b\r\ny,3,c\r\n"
    );
    let columns =
        "    key: id\n    columns: { id: , v: , tag: \"{{ tag }}\", at: \"{{ index }}\" }";
    let ran = run(&yaml.replace("    key: id", columns), rules).complete();
    assert_eq!(
        ran.text("out/a.csv"),
        "id,v,tag,at\r\n1,new,y,1\r\n2,b,x,1\r\n3,c,y,0\r\n"
    );
}

// ---- a few records only ----------------------------------------------------------------------

#[test]
fn a_record_limit_writes_beside_and_asks_for_no_more_than_needed() {
    let truth = truth(1000);
    for (query, pages, paging) in [
        (
            "",
            "{ page: { to: page, total: n } }",
            Paging::page_total("n"),
        ),
        (
            "",
            "{ token: { from: next_cursor, to: cursor } }",
            Paging::token(End::Null),
        ),
    ] {
        let listing = Listing::new(truth.data.clone(), paging).size(10);
        let yaml = pipeline(8, query, pages).replace(
            "    pages",
            "    expect: { min_records: 500, total: n }\n    pages",
        );
        let ran = Scene::new(&yaml, serve(listing))
            .file("out/a.csv", "old")
            .limit_records(25)
            .run()
            .complete();
        assert_eq!(ran.requests(), 3);
        assert_eq!(ran.text("out/a.csv"), "old", "the target stays");
        let wanted: Vec<&str> = truth.ndjson.lines().take(25).collect();
        assert_eq!(ran.lines("out/a.sample.ndjson"), wanted);
        assert!(ran.path("out/a.sample.csv").exists());
        assert!(!ran.path("out/a.ndjson").exists());
    }
    // Partitions come one by one as well.
    let ran = Scene::new(&PARTITIONS.replace("WIDTH", "16"), partitioned())
        .limit_records(9)
        .run()
        .complete();
    assert_eq!(ran.lines("out/a.sample.ndjson").len(), 9);
    assert_eq!(ran.requests(), 3, "{:?}", ran.targets());
}
