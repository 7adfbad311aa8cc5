//! Fault 13: rows that come, go and move while pages are counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use gleaner::event::Fact;
use gleaner::failure::Exit;
use gleaner::sim::{Route, Rules, SimReply, SimRequest};

use super::{pipeline, refused};
use crate::fixture::{Ran, Scene};

/// Forty rows, ten to a page by offset; before the request of this number (from 0) they change.
fn changing(at: u64, change: fn(&mut Vec<u64>)) -> Rules {
    let rows: Mutex<Vec<u64>> = Mutex::new((1..=40).collect());
    let asked = AtomicU64::new(0);
    let answer = move |request: &SimRequest| {
        let mut rows = rows.lock().expect("no panic");
        if asked.fetch_add(1, Ordering::SeqCst) == at {
            change(&mut rows);
        }
        let from: usize = request
            .param("offset")
            .map_or(0, |text| text.parse().expect("a number"));
        let page: Vec<String> = (rows.iter().skip(from).take(10))
            .map(|id| format!(r#"{{"id":{id}}}"#))
            .collect();
        SimReply::json(
            200,
            format!(r#"{{"data":[{}],"total":{}}}"#, page.join(","), rows.len()),
        )
    };
    Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        ..Rules::default()
    }
}

const PAGES: &str = "pages: { offset: { to: offset, total: total } }";

/// One request at a time, so that the change comes between two pages.
fn yaml(more: &str) -> String {
    pipeline("", &format!("{PAGES}{more}")).replace("concurrency: 4", "concurrency: 1")
}

/// What was told of the data, missing or moved.
fn told(ran: &Ran) -> Vec<String> {
    ran.events
        .iter()
        .filter_map(|event| match &event.fact {
            Fact::Noticed { message, .. } => Some(message.clone()),
            Fact::FellShort { message, .. } => Some(format!("short: {message}")),
            _ => None,
        })
        .collect()
}

fn ids(ran: &Ran) -> Vec<String> {
    ran.lines("out/a.ndjson")
}

#[test]
fn f13_a_row_inserted_before_the_place_repeats_another() {
    let inserts = |rows: &mut Vec<u64>| rows.insert(0, 99);
    let ran = Scene::new(&yaml("\nkey: id"), changing(2, inserts)).run();
    let ran = ran.complete();
    let unique: Vec<String> = (1..=40).map(|id| format!("{{\"id\":{id}}}")).collect();
    // The offsets were known when there were forty: what came to the end is asked for as well.
    assert_eq!(
        ids(&ran),
        unique,
        "no row of the beginning is lost, none doubled"
    );
    assert_eq!(ran.stream("a").repeats, 1);
    let told = told(&ran);
    assert!(
        told.len() == 1
            && told[0].contains("the first page tells of 40 records and the last of 41"),
        "{told:?}"
    );
    // Without a key nobody can tell that a row came twice, but the change is told all the same.
    let ran = Scene::new(&yaml(""), changing(2, inserts)).run();
    assert!(self::told(&ran)[0].contains("40 records and the last of 41"));
}

#[test]
fn f13_a_row_removed_before_the_place_takes_another_along() {
    let removes = |rows: &mut Vec<u64>| {
        rows.remove(0);
    };
    let ran = Scene::new(&yaml("\nkey: id"), changing(2, removes)).run();
    assert_eq!(ids(&ran).len(), 39, "row 21 stood where row 20 had been");
    let told = told(&ran);
    assert!(
        told.iter()
            .any(|told| told.contains("the last of 39") && told.contains("passed over")),
        "{told:?}"
    );
}

#[test]
fn f13_rows_that_change_places_are_a_shortfall_though_the_sum_is_right() {
    // Row 5 and row 25 swap: one comes twice and the other never.
    let swaps = |rows: &mut Vec<u64>| rows.swap(4, 24);
    let ran = Scene::new(&yaml("\nkey: id"), changing(1, swaps)).run();
    assert_eq!(ran.summary.exit, Exit::Held);
    assert_eq!(ids(&ran).len(), 39);
    assert_eq!(ran.stream("a").repeats, 1);
    assert_eq!(ran.stream("a").shortfalls, 1);
    let told = told(&ran);
    assert!(
        told.len() == 1
            && told[0].starts_with(
                "short: the API tells of 40 records, but without repeats its pages held 39"
            ),
        "{told:?}"
    );
    // By policy nothing is published.
    let ran = refused(
        &yaml("\nkey: id\nexpect: { total: total }"),
        changing(1, swaps),
        Exit::Held,
    );
    assert!(
        ran.failure().message.contains("its pages held 39"),
        "{:?}",
        ran.failure()
    );
    // Nothing moved: all is well.
    let still = |_: &mut Vec<u64>| {};
    let ran = Scene::new(
        &yaml("\nkey: id\nexpect: { total: total }"),
        changing(1, still),
    )
    .run();
    assert_eq!(self::told(&ran.complete()), [""; 0]);
}

#[test]
fn f13_a_key_that_stands_in_two_partitions_is_no_shortfall() {
    let answer = |_: &SimRequest| SimReply::json(200, r#"{"data":[{"id":1},{"id":2}],"total":2}"#);
    let rules = Rules {
        routes: vec![Route::custom("/a/{n}", Arc::new(answer))],
        ..Rules::default()
    };
    let stream = "for: { n: [1, 2, 3] }\nkey: id\npages: { page: { to: page, total: total } }\nexpect: { total: total }";
    let yaml = pipeline("", stream).replace("get: /a", "get: /a/{{ n }}");
    let ran = Scene::new(&yaml, rules).run().complete();
    assert_eq!(ids(&ran).len(), 2);
    assert_eq!(ran.stream("a").repeats, 4);
}

#[test]
fn f13_a_shortfall_is_told_and_is_no_success() {
    // The API tells of 40 rows and gives 30.
    let answer = |request: &SimRequest| {
        let from: u64 = request
            .param("offset")
            .map_or(0, |text| text.parse().expect("a number"));
        let page: Vec<String> = (from..(from + 10).min(30))
            .map(|id| format!(r#"{{"id":{id}}}"#))
            .collect();
        SimReply::json(
            200,
            format!(r#"{{"data":[{}],"total":40}}"#, page.join(",")),
        )
    };
    let rules = || Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        ..Rules::default()
    };
    let ran = Scene::new(&yaml(""), rules()).run();
    assert_eq!(ran.summary.exit, Exit::Held);
    assert_eq!(ids(&ran).len(), 30, "what came is published");
    assert!(told(&ran)[0].starts_with("short: the API tells of 40 records, but its pages held 30"));
    refused(&yaml("\nexpect: { total: total }"), rules(), Exit::Held);
}

#[test]
fn f13_what_a_kept_page_told_of_counts_when_a_run_goes_on() {
    let disk = super::ground::pretend();
    let root = std::path::Path::new(super::ground::ROOT);
    let yaml = super::ground::YAML.replace(
        "token: { from: next, to: cursor }",
        "page: { to: cursor, total: total }",
    );
    let api = |total: u64, breaks: bool| {
        let answer = move |request: &SimRequest| {
            let page: u64 = request
                .param("cursor")
                .map_or(1, |text| text.parse().expect("a number"));
            if breaks && page == 4 {
                return SimReply::error(500, "broken");
            }
            let data = match page {
                1..=4 => format!(r#"{{"id":{}}},{{"id":{}}}"#, 2 * page - 1, 2 * page),
                _ => String::new(),
            };
            SimReply::json(200, format!(r#"{{"data":[{data}],"total":{total}}}"#))
        };
        Rules {
            routes: vec![Route::custom("/a", Arc::new(answer))],
            ..Rules::default()
        }
    };
    let run = |rules| {
        let came = super::ground::harvest(disk.door(), root, &yaml, rules);
        disk.kill();
        came
    };
    let came = run(api(8, true));
    assert_eq!(came.exit(), Exit::Resumable, "{}", came.said());
    let came = run(api(9, false));
    assert_eq!(came.exit(), Exit::Held, "{}", came.said());
    assert!(!came.asked.contains(&1), "{:?}", came.asked);
    let told = came.told.join("\n");
    for wanted in [
        "the first page tells of 8 records and the last of 9",
        "the API tells of 9 records, but its pages held 8",
    ] {
        assert!(told.contains(wanted), "{told}");
    }
    let rows = super::ground::output(&disk, "out/a.ndjson");
    assert_eq!(rows.lines().count(), 8, "published all the same");
}
