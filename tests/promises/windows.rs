//! Windows of time: the same grid in every run, from where the cursor stands, whatever the zone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gleaner::event::Fact;
use gleaner::failure::Exit;
use gleaner::sim::{Latency, Route, Rules, SimReply, SimRequest};

use super::fixture::{Ran, Scene};

const NIGHT: &str = "2026-11-22T02:30:00Z";
const NEXT: &str = "2026-11-23T02:30:00Z";

/// Answers with one record that holds what was asked.
fn echo() -> Rules {
    let answer = |request: &SimRequest| {
        let asked: serde_json::Map<String, serde_json::Value> = request
            .query
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        let asked = serde_json::Value::from(asked);
        SimReply::json(200, format!(r#"{{"data":[{asked}]}}"#))
    };
    Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        latency: Latency::Fixed(Duration::from_millis(10)),
        ..Rules::default()
    }
}

fn pipeline(variables: &str, query: &str, cursor: &str, key: &str) -> String {
    format!(
        "source: {{ url: https://api.test, limits: none, concurrency: 1 }}
streams:
  a:
    for: {{ {variables} }}
    get: /a
    query: {{ {query} }}
    records: data
    key: {key}
    {cursor}
sink: {{ csv: out/a.csv, mode: merge }}
"
    )
}

/// What was asked, without the path.
fn asked(ran: &Ran) -> Vec<String> {
    let targets = ran.targets().into_iter();
    targets
        .map(|target| {
            target
                .trim_start_matches("/a?")
                .replace("%3A", ":")
                .replace("%2B", "+")
        })
        .collect()
}

#[test]
fn days_go_on_where_the_cursor_of_each_combination_stands() {
    let yaml = |cities: &str| {
        pipeline(
            &format!("city: [{cities}], day: {{ dates: 1d }}"),
            "city: '{{ city }}', day: '{{ day.from | date }}', last: '{{ day.last }}', days: '{{ day.days }}'",
            "cursor: { start: 2026-11-19, end: today, lookback: 1d }",
            "[city, day]",
        )
    };
    let ran = Scene::new(&yaml("x, y"), echo()).at(NIGHT).run().complete();
    let day =
        |city: &str, day: u32| format!("city={city}&day=2026-11-{day}&last=2026-11-{day}&days=1");
    let first: Vec<String> = ["x", "y"]
        .iter()
        .flat_map(|city| (19..22).map(move |at| day(city, at)))
        .collect();
    assert_eq!(asked(&ran), first, "whole days, and today is not over");
    assert_eq!(ran.lines("out/a.csv").len(), 1 + 6);

    // The next night: a day of lookback, the day since, and all of a city that was added.
    let yaml = yaml("x, y, z");
    let ran = Scene::new(&yaml, echo())
        .at(NEXT)
        .within(ran.root)
        .run()
        .complete();
    let mut second: Vec<String> = ["x", "y"]
        .iter()
        .flat_map(|city| (21..23).map(move |at| day(city, at)))
        .collect();
    second.extend((19..23).map(|at| day("z", at)));
    assert_eq!(asked(&ran), second);
    assert_eq!(ran.lines("out/a.csv").len(), 1 + 12, "no day twice");
}

#[test]
fn a_window_begins_alike_in_every_run_and_ends_where_the_cursor_does() {
    let yaml = pipeline(
        "week: { dates: 7d }",
        "from: '{{ week.from }}', to: '{{ week.to }}', last: '{{ week.last }}', days: '{{ week.days }}'",
        "cursor: { start: 2026-11-04 }",
        "from",
    );
    let ran = Scene::new(&yaml, echo()).at(NIGHT).run().complete();
    let week = |from: u32, to: &str, last: u32, days: u32| {
        format!(
            "from=2026-11-{from:02}T00:00:00Z&to=2026-11-{to}&last=2026-11-{last:02}&days={days}"
        )
    };
    assert_eq!(
        asked(&ran),
        [
            week(4, "09T00:00:00Z", 8, 5),
            week(9, "16T00:00:00Z", 15, 7),
            week(16, "22T02:30:00Z", 22, 7),
        ]
    );
    // On Sunday night the week had begun on Monday; on Monday night it is asked for whole.
    let ran = Scene::new(&yaml, echo())
        .at(NEXT)
        .within(ran.root)
        .run()
        .complete();
    assert_eq!(
        asked(&ran),
        [
            week(16, "23T00:00:00Z", 22, 7),
            week(23, "23T02:30:00Z", 23, 1)
        ]
    );
    assert_eq!(ran.lines("out/a.csv").len(), 1 + 4);
}

#[test]
fn days_of_a_zone_begin_at_its_own_midnight() {
    let yaml = pipeline(
        "day: { dates: 1d, zone: Europe/Berlin }",
        "day: '{{ day.from | date }}', from: '{{ day.from }}', seconds: '{{ (day.to | epoch) - (day.from | epoch) }}'",
        "cursor: { start: 2026-10-24, end: 2026-10-27 }",
        "day",
    );
    let ran = Scene::new(&yaml, echo()).at(NIGHT).run().complete();
    assert_eq!(
        asked(&ran),
        [
            "day=2026-10-24&from=2026-10-24T00:00:00+02:00&seconds=86400",
            "day=2026-10-25&from=2026-10-25T00:00:00+02:00&seconds=90000",
            "day=2026-10-26&from=2026-10-26T00:00:00+01:00&seconds=86400",
        ],
        "the clocks went back on the 25th"
    );
}

#[test]
fn given_ends_are_kept_and_the_cursor_is_for_the_request() {
    let yaml = pipeline(
        "span: { dates: 1y, from: 2024-03-01, to: now }",
        "from: '{{ span.from }}', to: '{{ span.to }}', at: '{{ cursor.to }}', since: '{{ cursor.from }}'",
        "cursor: { field: at, start: 2020-01-01 }",
        "from",
    );
    let years = |now: &str, since: &str| {
        [
            ("2024-03-01", "2025-01-01"),
            ("2025-01-01", "2026-01-01"),
            ("2026-01-01", ""),
        ]
        .map(|(from, to)| {
            let to = if to.is_empty() {
                now.to_owned()
            } else {
                format!("{to}T00:00:00Z")
            };
            format!("from={from}T00:00:00Z&to={to}&at={now}&since={since}")
        })
    };
    let ran = Scene::new(&yaml, echo()).at(NIGHT).run().complete();
    assert_eq!(asked(&ran), years(NIGHT, "2020-01-01T00:00:00Z"));
    let ran = Scene::new(&yaml, echo())
        .at(NEXT)
        .within(ran.root)
        .run()
        .complete();
    assert_eq!(asked(&ran), years(NEXT, NIGHT));
}

#[test]
fn ends_may_come_from_variables_that_stand_before() {
    let yaml = pipeline(
        "shop: [{ id: 1, since: 2026-11-20 }, { id: 2, since: 'today - 1d' }], day: { dates: 1d, from: '{{ shop.since }}', to: today }",
        "shop: '{{ shop.id }}', day: '{{ day.from | date }}'",
        "",
        "[shop, day]",
    );
    let yaml = yaml.replace(", mode: merge", "");
    let ran = Scene::new(&yaml, echo()).at(NIGHT).run().complete();
    assert_eq!(
        asked(&ran),
        [
            "shop=1&day=2026-11-20",
            "shop=1&day=2026-11-21",
            "shop=2&day=2026-11-21"
        ]
    );
    let wrong = yaml.replace("'today - 1d'", "soon");
    let failure = Scene::new(&wrong, echo()).at(NIGHT).run();
    assert_eq!(failure.summary.exit, Exit::Usage);
    assert!(
        failure.failure().message.contains("`soon` is not a date"),
        "{:?}",
        failure.failure()
    );
}

#[test]
fn the_cursor_moves_to_the_greatest_value_of_all_windows() {
    let yaml = pipeline(
        "city: [x, y], day: { dates: 1d, from: 2026-11-18, to: 2026-11-21 }",
        "city: '{{ city }}', day: '{{ day.from }}', since: '{{ cursor.from }}'",
        "cursor: { field: day, start: 2026-01-01 }",
        "[city, day]",
    );
    let ran = Scene::new(&yaml, echo()).at(NIGHT).run().complete();
    let ran = Scene::new(&yaml, echo())
        .at(NEXT)
        .within(ran.root)
        .run()
        .complete();
    let all = asked(&ran);
    assert_eq!(all.len(), 6);
    assert!(
        all.iter()
            .all(|one| one.ends_with("since=2026-11-20T00:00:00Z")),
        "{all:?}"
    );
}

#[test]
fn a_run_that_is_stopped_goes_on_with_the_windows_it_began_with() {
    let yaml = pipeline(
        "city: [x, y], day: { dates: 6h }",
        "city: '{{ city }}', from: '{{ day.from }}', to: '{{ day.to }}'",
        "cursor: { start: 2026-11-21 }",
        "[city, from]",
    );
    let whole = Scene::new(&yaml, echo()).at(NIGHT).run().complete();
    assert_eq!(whole.requests(), 10);
    for stop in [5, 35, 75] {
        let stop = Duration::from_millis(stop);
        let stopped = Scene::new(&yaml, echo()).at(NIGHT).stop_after(stop).run();
        assert_eq!(stopped.summary.exit, Exit::Interrupted);
        let before = stopped.requests();
        // Hours later: the run's windows are those of its beginning.
        let later = "2026-11-22T14:00:00Z";
        let ran = Scene::new(&yaml, echo())
            .at(later)
            .within(stopped.root)
            .run()
            .complete();
        assert_eq!(ran.text("out/a.csv"), whole.text("out/a.csv"));
        assert_eq!(before + ran.requests(), 10, "no window twice");
    }
}

// ---- windows that hold too much ---------------------------------------------------------------

/// Three records a day, of the days that are asked for.
fn of_days(request: &SimRequest) -> Vec<String> {
    let day = |name: &str| -> jiff::civil::Date {
        request.param(name).expect("a day").parse().expect("a date")
    };
    let (from, last) = (day("from"), day("last"));
    let days = (last - from).get_days() + 1;
    let of_day = |n| {
        let day = from + jiff::ToSpan::days(n);
        (0..3).map(move |i| format!(r#"{{"id":"{day}-{i}"}}"#))
    };
    (0..days).flat_map(of_day).collect()
}

fn too_many() -> SimReply {
    SimReply::json(400, r#"{"message":"exceeds the search limit"}"#)
}

/// At most so many records an answer; pages of four.
fn capped(most: usize, first_page_tells: bool) -> Rules {
    let answer = move |request: &SimRequest| {
        let ids = of_days(request);
        let at: usize = request
            .param("o")
            .map_or(0, |at| at.parse().expect("a number"));
        if ids.len() > most && (first_page_tells || at + 4 > most) {
            return too_many();
        }
        let page: Vec<String> = ids.into_iter().skip(at).take(4).collect();
        SimReply::json(200, format!(r#"{{"data":[{}]}}"#, page.join(",")))
    };
    Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        latency: Latency::Fixed(Duration::from_millis(10)),
        ..Rules::default()
    }
}

/// The same by numbered pages, of which each tells the total: those behind the first come side by
/// side, and any of them may find that there are too many.
fn side_by_side(most: usize, seed: u64) -> Rules {
    let answer = move |request: &SimRequest| {
        let ids = of_days(request);
        let page: usize = request
            .param("page")
            .map_or(1, |n| n.parse().expect("a number"));
        if page * 4 > most {
            return too_many();
        }
        let total = ids.len();
        let data: Vec<String> = ids.into_iter().skip((page - 1) * 4).take(4).collect();
        let data = data.join(",");
        SimReply::json(200, format!(r#"{{"total":{total},"data":[{data}]}}"#))
    };
    let (least, longest) = (Duration::from_millis(1), Duration::from_millis(90));
    Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        latency: Latency::Between(least, longest, seed),
        ..Rules::default()
    }
}

const SPLITS: &str = "source: { url: https://api.test, limits: none, concurrency: 2 }
streams:
  a:
    for: { city: [x, y], span: { dates: 1mo, from: 2026-10-01, to: 2026-11-01 } }
    get: /a
    query: { city: '{{ city }}', from: '{{ span.from | date }}', last: '{{ span.last }}', limit: 4 }
    pages: { offset: { to: o, size: limit } }
    responses: [{ if: status == 400 and 'search limit' in text, then: split }]
    records: data
sink: { csv: out/a.csv }
";

#[test]
fn a_window_that_holds_too_much_is_halved_until_it_fits() {
    for first_page_tells in [true, false] {
        let whole = Scene::new(SPLITS, capped(1000, true)).run().complete();
        let split = Scene::new(SPLITS, capped(20, first_page_tells))
            .run()
            .complete();
        assert_eq!(whole.lines("out/a.csv").len(), 1 + 2 * 93);
        assert_eq!(
            split.text("out/a.csv"),
            whole.text("out/a.csv"),
            "{first_page_tells}"
        );
        // Killed anywhere, it goes on to the same bytes.
        for stop in [15, 45, 95, 145] {
            let stop = Duration::from_millis(stop);
            let rules = capped(20, first_page_tells);
            let stopped = Scene::new(SPLITS, rules.clone()).stop_after(stop).run();
            assert_eq!(stopped.summary.exit, Exit::Interrupted);
            let before = stopped.requests();
            let ran = Scene::new(SPLITS, rules)
                .within(stopped.root)
                .run()
                .complete();
            assert_eq!(ran.text("out/a.csv"), whole.text("out/a.csv"));
            assert!(
                ran.requests() < split.requests(),
                "{before} and {}",
                ran.requests()
            );
        }
    }
    let ran = Scene::new(SPLITS, capped(2, true)).run();
    assert_eq!(ran.summary.exit, Exit::Failed);
    let message = &ran.failure().message;
    assert!(message.contains("cannot be halved any more"), "{message}");
}

#[test]
fn a_window_is_halved_while_its_pages_come_side_by_side() {
    let yaml = SPLITS
        .replace("concurrency: 2", "concurrency: 6")
        .replace("limit: 4 }", "per_page: 4 }")
        .replace(
            "offset: { to: o, size: limit }",
            "page: { to: page, size: per_page, total: total }",
        );
    let whole = Scene::new(SPLITS, capped(1000, true)).run().complete();
    let mut taken_back = 0;
    for seed in 0..8 {
        let split = Scene::new(&yaml, side_by_side(20, seed)).run().complete();
        assert!(split.text("out/a.csv") == whole.text("out/a.csv"), "{seed}");
        let back = |fact: &Fact| matches!(fact, Fact::PagesVoid { pages, .. } if *pages > 0);
        taken_back += split.facts(back);
        let stop = Duration::from_millis(40 + 50 * seed);
        let stopped = Scene::new(&yaml, side_by_side(20, seed))
            .stop_after(stop)
            .run();
        assert_eq!(stopped.summary.exit, Exit::Interrupted);
        let root = stopped.root;
        let ran = Scene::new(&yaml, side_by_side(20, seed + 100))
            .within(root)
            .run();
        assert!(
            ran.complete().text("out/a.csv") == whole.text("out/a.csv"),
            "{seed}"
        );
    }
    assert!(taken_back > 8, "{taken_back} times");
}

#[test]
fn children_of_a_window_that_was_halved_come_once() {
    let child = "  b: { for: { one: { stream: a } }, get: '/b/{{ one.id }}', records: data }\nsink: { csv: 'out/{{ stream }}.csv' }\n";
    let yaml = SPLITS.replace("sink: { csv: out/a.csv }\n", child);
    assert_ne!(yaml, SPLITS);
    let with_children = |most: usize, first_page_tells: bool| {
        let mut rules = capped(most, first_page_tells);
        let answer = |request: &SimRequest| {
            let id = request.path.rsplit('/').next().unwrap_or_default();
            SimReply::json(200, format!(r#"{{"data":[{{"of":"{id}"}}]}}"#))
        };
        rules.routes.push(Route::custom("/b/*", Arc::new(answer)));
        rules
    };
    let whole = Scene::new(&yaml, with_children(1000, true))
        .run()
        .complete();
    for first_page_tells in [true, false] {
        let rules = with_children(20, first_page_tells);
        let split = Scene::new(&yaml, rules).run().complete();
        for out in ["out/a.csv", "out/b.csv"] {
            assert_eq!(split.text(out), whole.text(out), "{out} {first_page_tells}");
        }
    }
}

#[test]
fn records_that_were_taken_back_lead_to_no_request_that_acts() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&heard);
    let order = move |request: &SimRequest| {
        let id = request.path.rsplit('/').next().unwrap_or_default();
        log.lock().expect("the log").push(id.to_owned());
        SimReply::json(200, format!(r#"{{"of":"{id}"}}"#))
    };
    // The whole window fails on its second page, before the first is told of; its halves do not know
    // what that one held.
    let window = |request: &SimRequest| {
        let (from, last) = (request.param("from"), request.param("last"));
        let from = from.expect("a day");
        let is_whole = from == "2026-01-01" && last.as_deref() == Some("2026-01-04");
        let data = match (is_whole, request.param("o").as_deref().unwrap_or("0")) {
            (true, "0") => r#"{"id":"gone-1"},{"id":"gone-2"}"#.to_owned(),
            (true, _) => return SimReply::json(400, r#"{"message":"search limit"}"#),
            (false, "0") => format!(r#"{{"id":"{from}"}}"#),
            (false, _) => String::new(),
        };
        SimReply::json(200, format!(r#"{{"data":[{data}]}}"#))
    };
    let rules = Rules {
        routes: vec![
            Route::custom("/a", Arc::new(window)),
            Route::custom("/b/*", Arc::new(order)),
        ],
        latency: Latency::Fixed(Duration::from_millis(50)),
        ..Rules::default()
    };
    let yaml = "source: { url: https://api.test, limits: none, concurrency: 4 }
streams:
  a:
    for: { span: { dates: 4d, from: 2026-01-01, to: 2026-01-05 } }
    get: /a
    query: { from: '{{ span.from | date }}', last: '{{ span.last }}', limit: 2 }
    pages: { offset: { to: o, size: limit } }
    responses: [{ if: status == 400, then: split }]
    records: data
    sink: none
  b: { for: { one: { stream: a } }, get: '/b/{{ one.id }}', once: true }
sink: { csv: out/b.csv }
";
    let ran = Scene::new(yaml, rules).run().complete();
    assert_eq!(ran.lines("out/b.csv").len(), 3);
    let mut heard = heard.lock().expect("the log").clone();
    heard.sort_unstable();
    assert_eq!(heard, ["2026-01-01", "2026-01-03"]);
}

#[test]
fn records_that_were_taken_back_lead_to_no_request_that_is_not_under_way() {
    // The second window is taken back while children of the first still have their turn and the third has many
    // pages to come; the halves hold others.
    let window = |request: &SimRequest| {
        let (from, last) = (request.param("from"), request.param("last"));
        let from = from.expect("a day");
        let is_whole = last.as_deref() == Some("2026-01-10") && from == "2026-01-07";
        let many = |name: &str| {
            let all: Vec<String> = (0..60)
                .map(|n| format!(r#"{{"id":"{name}-{n}","go":{}}}"#, n < 20))
                .collect();
            all.join(",")
        };
        let offset = request
            .param("o")
            .map_or(0, |o| o.parse().expect("a number"));
        let data = match (from.as_str(), offset) {
            ("2026-01-03", 0) => many("first"),
            (_, 0..300) if is_whole => many(&format!("gone-{offset}")),
            _ if is_whole => return SimReply::json(400, r#"{"message":"search limit"}"#),
            ("2026-01-11", 0..3000) => many(&format!("third-{offset}")),
            (_, 0) => format!(r#"{{"id":"{from}","go":true}}"#),
            _ => String::new(),
        };
        SimReply::json(200, format!(r#"{{"data":[{data}]}}"#))
    };
    let child = |request: &SimRequest| {
        let id = request.path.rsplit('/').next().unwrap_or_default();
        SimReply::json(200, format!(r#"{{"of":"{id}"}}"#))
    };
    let rules = Rules {
        routes: vec![
            Route::custom("/a", Arc::new(window)),
            Route::custom("/b/*", Arc::new(child)),
        ],
        latency: Latency::Fixed(Duration::from_millis(50)),
        ..Rules::default()
    };
    let yaml = "source: { url: https://api.test, limits: none, concurrency: 3 }
streams:
  a:
    for: { span: { dates: 4d, from: 2026-01-03, to: 2026-01-15 } }
    get: /a
    query: { from: '{{ span.from | date }}', last: '{{ span.last }}', limit: 60 }
    pages: { offset: { to: o, size: limit } }
    responses: [{ if: status == 400, then: split }]
    records: data
    sink: none
  b: { for: { one: { stream: a, where: one.go and not 'third' in one.id } }, get: '/b/{{ one.id }}' }
sink: { csv: out/b.csv }
";
    let ran = Scene::new(yaml, rules).run().complete();
    let entries = ran.api.audit().entries();
    let all: Vec<&str> = entries.iter().map(|it| it.target.as_str()).collect();
    // The children ran beside their parents: else nothing is shown.
    let first = all.iter().position(|it| it.starts_with("/b/first"));
    let last = all.iter().rposition(|it| it.starts_with("/a?"));
    assert!(first.is_some() && first < last, "{all:?}");
    let gone: Vec<_> = all.iter().filter(|it| it.contains("gone")).collect();
    assert!(gone.is_empty(), "{gone:?}");
    assert_eq!(ran.lines("out/b.csv").len(), 1 + 20 + 2);
}
