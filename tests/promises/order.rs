//! Records stand in the order of the file and its pages, each key once, however answers came in.

use std::fmt::Write as _;
use std::sync::Arc;

use gleaner::sim::{Dataset, End, Latency, Listing, Paging, Route, Rules, SimReply, SimRequest};

use super::fixture::{Scene, run};
use super::paging::{MS, pipeline, serve, truth};

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
    let yaml = r"
source: { url: https://api.test, limits: none }
streams:
  a:
    for: { tag: [x, y] }
    get: /{{ tag }}
    pages: none
    records: data
    key: id
sink: { csv: out/a.csv }
";
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

// ---- pages that differ a little in size --------------------------------------------------------

/// Room is set aside by what pages were before. Of those a little larger none waits for another:
/// once each round of pages took as long as the writer waits for one that is late.
#[test]
fn pages_a_little_larger_than_those_before_come_side_by_side() {
    const PAGES: usize = 320;
    let answer = |request: &SimRequest| {
        let page = request.param("page").expect("a page");
        let page: usize = page.parse().expect("a number");
        let pad = "x".repeat(20_000 + 10 * page);
        SimReply::json(
            200,
            format!(r#"{{"data":[{{"page":{page},"pad":"{pad}"}}],"last":{PAGES}}}"#),
        )
    };
    let rules = Rules {
        routes: vec![Route::custom("/x", Arc::new(answer))],
        latency: Latency::Fixed(100 * MS),
        ..Rules::default()
    };
    let ran = run(
        r"
source: { url: https://api.test, limits: none, concurrency: 32 }
streams:
  a: { get: /x, records: data, pages: { page: { to: page, last: last } } }
sink: { ndjson: out/a.ndjson }
",
        rules,
    )
    .complete();
    assert_eq!(ran.stream("a").pages, PAGES as u64);
    // The first page alone, the others 32 at a time.
    let ideal = 100 * MS * u32::try_from(1 + (PAGES - 1).div_ceil(32)).expect("few");
    assert!(
        ran.summary.took < ideal + ideal / 10,
        "{:?}",
        ran.summary.took
    );
}
