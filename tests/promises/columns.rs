//! What becomes of records on their way out: typed columns, jq, transform steps. Row for row, with the
//! real binary.

use crate::scene::{Project, Reply, Said, Server};

/// A pipeline with one stream, `items`, that is served `body`.
fn pipeline(server: &Server, stream: &str, sink: &str) -> String {
    let url = server.url();
    format!(
        "source: {{ url: \"{url}\", limits: none }}\nstreams:\n  items:\n    get: /items\n{stream}\nsink: {{ {sink} }}\n"
    )
}

/// What a run makes of a body.
struct Ran {
    project: Project,
    server: Server,
    said: Said,
}

impl Ran {
    #[track_caller]
    fn of(body: &str, stream: &str, sink: &str) -> Self {
        let server = Server::says(Reply::json(body));
        let project = Project::new(&pipeline(&server, stream, sink)).knows(&server);
        let said = project.run(&["run", "items"]);
        Self {
            project,
            server,
            said,
        }
    }

    #[track_caller]
    fn good(body: &str, stream: &str, sink: &str) -> Self {
        let ran = Self::of(body, stream, sink);
        assert_eq!(ran.said.code, Some(0), "{}", ran.said.shown);
        ran
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.project.path().join(file)).expect("a file")
    }

    fn has(&self, file: &str) -> bool {
        self.project.path().join(file).exists()
    }
}

const CSV: &str = "csv: data/items.csv";

/// One record with every spelling that types are for.
const SPELLINGS: &str = r#"[{"id":"00123","n":"2023","long":1234567890123456789012345,"price":"1.10","ok":"True",
  "day":"20240501","ms":1714557600123,"at":"2024-05-01T12:00:00+02:00","local":"01.05.2024 12:00","raw":{"a":[1, 2]},"none":null},
  {"id":7,"n":5.0,"long":1e3,"price":2,"ok":0,"day":20240502,"ms":"0","at":"2024-05-01","local":"","raw":"x"}]"#;

#[test]
fn every_type_has_one_form() {
    let columns = r#"
    columns:
      id: { type: text }
      n: { type: integer }
      long: { type: integer }
      price: { type: number }
      ok: { type: boolean }
      day: { type: date, format: "%Y%m%d" }
      time: { from: ms, type: timestamp, format: epoch_ms }
      at: { type: timestamp }
      local: { type: timestamp, format: "%d.%m.%Y %H:%M", zone: Europe/Berlin }
      raw: { type: json }
      none: { type: integer }"#;
    let ran = Ran::good(
        SPELLINGS,
        &format!(
            "{columns}\n    sink: [{{ csv: data/items.csv }}, {{ ndjson: data/items.ndjson }}]"
        ),
        CSV,
    );
    assert_eq!(
        ran.read("data/items.csv").replace("\r\n", "\n"),
        "id,n,long,price,ok,day,time,at,local,raw,none\n\
         00123,2023,1234567890123456789012345,1.10,true,2024-05-01,2024-05-01T10:00:00.123Z,2024-05-01T10:00:00Z,2024-05-01T10:00:00Z,\"{\"\"a\"\":[1,2]}\",\n\
         7,5,1000,2,false,2024-05-02,1970-01-01T00:00:00Z,2024-05-01T00:00:00Z,,x,\n"
    );
    // In NDJSON types are those of JSON.
    assert_eq!(
        ran.read("data/items.ndjson"),
        concat!(
            r#"{"id":"00123","n":2023,"long":1234567890123456789012345,"price":1.10,"ok":true,"day":"2024-05-01","time":"2024-05-01T10:00:00.123Z","at":"2024-05-01T10:00:00Z","local":"2024-05-01T10:00:00Z","raw":{"a":[1,2]},"none":null}"#,
            "\n",
            r#"{"id":"7","n":5,"long":1000,"price":2,"ok":false,"day":"2024-05-02","time":"1970-01-01T00:00:00Z","at":"2024-05-01T00:00:00Z","local":null,"raw":"x","none":null}"#,
            "\n"
        )
    );
}

#[test]
fn variables_filters_and_places_are_columns() {
    let stream = r#"
    for: { repo: [tokio, hyper] }
    query: { of: "{{ repo }}" }
    columns:
      repo: "{{ repo }}"
      n: "{{ index }}"
      day: { from: "{{ run.date }}", type: date }
      pdf: { jq: '.links[] | select(.type == "pdf") | .href' }
      all: { jq: '.links[].type' }
      count: { jq: '.links | length', type: integer }
      none: { jq: empty }"#;
    let body =
        r#"[{"links":[{"type":"pdf","href":"a.pdf"},{"type":"html","href":"b"}]},{"links":[]}]"#;
    let ran = Ran::good(body, stream, CSV);
    let text = ran.read("data/items.csv").replace("\r\n", "\n");
    let day = text
        .lines()
        .nth(1)
        .and_then(|line| line.split(',').nth(2))
        .expect("a day");
    assert_eq!(day.len(), 10, "{text}");
    assert_eq!(
        text.replace(day, "DAY"),
        "repo,n,day,pdf,all,count,none\n\
         tokio,0,DAY,a.pdf,\"[\"\"pdf\"\",\"\"html\"\"]\",2,\n\
         tokio,1,DAY,,,0,\n\
         hyper,0,DAY,a.pdf,\"[\"\"pdf\"\",\"\"html\"\"]\",2,\n\
         hyper,1,DAY,,,0,\n"
    );
}

#[test]
fn a_value_that_does_not_fit_fails_on_the_first_page() {
    // The API has a second page, which is not asked for.
    let server = Server::start(|request| {
        let body = if request.contains("page=2") {
            "[]"
        } else {
            r#"[{"amount":"1.50"},{"amount":"12,50"}]"#
        };
        Reply::json(body)
    });
    let stream = "    pages: { page: { to: page } }\n    columns: { amount: { type: number } }";
    let project = Project::new(&pipeline(&server, stream, CSV)).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    project.is_untouched();
    assert_eq!(server.heard().len(), 1, "{:?}", server.heard());
    insta::assert_snapshot!("column_misfit", said.shown);

    // Corrected, the run goes on with what it has: columns do not belong to its identity.
    let stream = stream.replace("number", "text");
    project.write("pipelines/items.yaml", &pipeline(&server, &stream, CSV));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
}

#[test]
fn a_value_that_does_not_fit_later_fails_the_publish_and_what_was_fetched_stays() {
    let server = Server::start(|request| {
        Reply::json(match request.contains("page=1") {
            true => r#"[{"amount":1}]"#,
            false if request.contains("page=2") => r#"[{"amount":"much"}]"#,
            false => "[]",
        })
    });
    let stream = "    pages: { page: { to: page } }\n    columns: { amount: { type: integer } }";
    let project = Project::new(&pipeline(&server, stream, CSV)).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    project.is_untouched();
    assert!(
        said.stderr
            .contains("column `amount`: \"much\" is not a whole number"),
        "{}",
        said.shown
    );
    assert!(
        said.stderr.contains("the record is {\"amount\":\"much\"}"),
        "{}",
        said.shown
    );
    assert!(
        said.stderr.contains("pipelines/items.yaml:6:16"),
        "{}",
        said.shown
    );
    let asked = server.heard().len();

    let stream = stream.replace("integer }", "integer, on_bad_value: null }");
    project.write("pipelines/items.yaml", &pipeline(&server, &stream, CSV));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(
        server.heard().len(),
        asked,
        "published again without a request"
    );
    let text = std::fs::read_to_string(project.path().join("data/items.csv")).expect("a file");
    assert_eq!(text, "amount\r\n1\r\n\"\"\r\n");
    assert!(
        said.stderr.contains("`amount` is null in 1 record whose"),
        "{}",
        said.shown
    );
}

#[test]
fn rejected_records_are_kept_and_no_success() {
    let body = r#"[{"id":1,"n":"5"},{"id":2,"n":"x","s":[1.10]},{"id":3,"n":null}]"#;
    let stream = "    columns: { id: , n: { type: integer, on_bad_value: reject } }";
    let ran = Ran::of(body, stream, CSV);
    assert_eq!(ran.said.code, Some(3), "{}", ran.said.shown);
    assert_eq!(ran.read("data/items.csv"), "id,n\r\n1,5\r\n3,\r\n");
    assert_eq!(
        ran.read("data/items.csv.rejects.ndjson"),
        "{\"column\":\"n\",\"value\":\"x\",\"reason\":\"is not a whole number\",\"record\":{\"id\":2,\"n\":\"x\",\"s\":[1.10]}}\n"
    );
    insta::assert_snapshot!("column_rejected", ran.said.shown);

    // Once all fit, the old rejects are gone and the run is a success.
    let text = pipeline(&ran.server, &stream.replace("integer", "text"), CSV);
    ran.project.write("pipelines/items.yaml", &text);
    let said = ran.project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(!ran.has("data/items.csv.rejects.ndjson"));
}

#[test]
fn rejects_of_a_folder_stand_beside_it_and_standard_output_has_none() {
    let body = r#"[{"n":1},{"n":"x"}]"#;
    let stream = "    columns: { n: { type: integer, on_bad_value: reject } }";
    let ran = Ran::of(body, stream, "ndjson: data/all/, mode: append");
    assert_eq!(ran.said.code, Some(3), "{}", ran.said.shown);
    let names = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(ran.project.path().join(folder)).expect("a folder");
        entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    };
    let (added, rejects) = (names("data/all"), names("data/all.rejects"));
    assert_eq!(added.len(), 1, "{added:?}");
    assert_eq!(rejects, [format!("{}.rejects.ndjson", added[0])]);

    let said = ran.project.run(&["run", "items", "--sink", "ndjson=-"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(
        said.stderr.contains("is not a whole number"),
        "{}",
        said.shown
    );
}

#[test]
fn the_typed_value_is_the_key() {
    let body = r#"[{"id":"1","v":"a"},{"id":1.0,"v":"b"},{"id":"01","v":"c"},{"id":2,"v":"d"}]"#;
    let typed = "    key: id\n    columns: { id: { type: integer }, v: }";
    let merge = "csv: data/items.csv, mode: merge";
    for sink in [CSV, merge] {
        let ran = Ran::good(body, typed, sink);
        assert_eq!(
            ran.read("data/items.csv"),
            "id,v\r\n1,c\r\n2,d\r\n",
            "{sink}"
        );
    }
    // Without a type they are four.
    let ran = Ran::good(body, "    key: id\n    columns: { id: , v: }", CSV);
    assert_eq!(ran.read("data/items.csv").lines().count(), 5);
    // What a filter makes is a key too.
    let ran = Ran::good(
        body,
        "    key: id\n    columns: { id: { jq: .id | tonumber | floor }, v: }",
        merge,
    );
    assert_eq!(ran.read("data/items.csv").lines().count(), 3);
}

#[test]
fn a_type_that_changes_sorts_the_base_anew() {
    let server = Server::says(Reply::json(r#"[{"id":"10","v":1},{"id":"9","v":2}]"#));
    let merge = "csv: data/items.csv, mode: merge";
    let stream = "    key: id\n    columns: { id: , v: }";
    let project = Project::new(&pipeline(&server, stream, merge)).knows(&server);
    let read = || std::fs::read_to_string(project.path().join("data/items.csv")).expect("a file");
    assert_eq!(project.run(&["run", "items"]).code, Some(0));
    assert_eq!(read(), "id,v\r\n10,1\r\n9,2\r\n", "as text");
    let stream = "    key: id\n    columns: { id: { type: integer }, v: }";
    project.write("pipelines/items.yaml", &pipeline(&server, stream, merge));
    assert_eq!(project.run(&["run", "items"]).code, Some(0));
    assert_eq!(read(), "id,v\r\n9,2\r\n10,1\r\n", "as numbers");
}

#[test]
fn a_filter_that_fails_names_the_record() {
    let body = r#"[{"id":1,"tags":["a"]},{"id":2,"tags":7}]"#;
    let stream = "    columns: { id: , first: { jq: '.tags[0]' } }";
    let ran = Ran::of(body, stream, CSV);
    assert_eq!(ran.said.code, Some(1), "{}", ran.said.shown);
    ran.project.is_untouched();
    insta::assert_snapshot!("column_filter", ran.said.shown);
}

#[test]
fn steps_are_done_in_their_order_and_nothing_else_changes() {
    let body = r#"{"data":[{"id":1.10,"tags":["a","b"],"user":{"login":"x","id":12345678901234567890123},"drop":0},
        {"id":2,"tags":[],"user":null,"drop":1},{"id":3,"tags":["c"],"user":{"login":"y"},"drop":2,"hidden":true}]}"#;
    let stream = r#"
    for: { repo: [tokio] }
    records: data
    query: { repo: "{{ repo }}" }
    transform:
      - where: not record.hidden
      - { explode: tags, keep_empty: true }
      - rename: { tags: tag, user.login: name }
      - add: { repo: "{{ repo }}", copy: "{{ record.id }}", n: "{{ index }}" }
      - drop: [drop]
      - jq: 'if .tag then . else ., {last: .id} end'"#;
    let ran = Ran::good(body, stream, "ndjson: data/items.ndjson");
    assert_eq!(
        ran.read("data/items.ndjson"),
        concat!(
            r#"{"id":1.10,"tag":"a","user":{"name":"x","id":12345678901234567890123},"repo":"tokio","copy":1.10,"n":0}"#,
            "\n",
            r#"{"id":1.10,"tag":"b","user":{"name":"x","id":12345678901234567890123},"repo":"tokio","copy":1.10,"n":0}"#,
            "\n",
            r#"{"id":2,"tag":null,"user":null,"repo":"tokio","copy":2,"n":1}"#,
            "\n",
            r#"{"last":2}"#,
            "\n",
        )
    );
}

/// However it is spelled, in the file or on the command line; what is sent is as spelled.
#[test]
fn a_number_in_vars_is_one_for_conditions() {
    let body = r#"[{"price":2.4},{"price":2.50},{"price":1001},{"price":3.0}]"#;
    let server = Server::says(Reply::json(body));
    let stream = "    query: { v: \"{{ vars.min }}\" }\n    transform:\n      - where: vars.min < record.price < vars.more.most";
    let file = format!(
        "vars: {{ min: 2.40, more: {{ most: 1e3 }} }}\n{}",
        pipeline(&server, stream, "ndjson: data/items.ndjson")
    );
    let project = Project::new(&file).knows(&server);
    for (min, found) in [
        (None, "2.50 3.0"),
        (Some("2.750"), "3.0"),
        (Some("7e-1"), "2.4 2.50 3.0"),
    ] {
        let given = min.map(|min| format!("min={min}"));
        let mut args = vec!["run", "items"];
        args.extend(given.iter().flat_map(|given| ["--var", given]));
        let said = project.run(&args);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        let read = std::fs::read_to_string(project.path().join("data/items.ndjson"));
        let read = read.expect("the output");
        let prices: Vec<&str> = (read.lines())
            .map(|line| line.trim_start_matches("{\"price\":").trim_end_matches('}'))
            .collect();
        assert_eq!(prices.join(" "), found, "{min:?}");
        let sent = format!("v={} ", min.unwrap_or("2.40"));
        assert!(
            server.heard().iter().any(|line| line.contains(&sent)),
            "{:?}",
            server.heard()
        );
    }
    // What spells none is a text.
    let said = project.run(&["run", "items", "--var", "min=cheap"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(said.shown.contains("have no order"), "{}", said.shown);
}

#[test]
fn paging_goes_by_what_the_api_gave() {
    // Pages of two; the steps leave nothing of the first and make four records of the second.
    let server = Server::start(|request| {
        Reply::json(match () {
            () if request.contains("page=1") => r#"[{"l":[],"id":1},{"l":[],"id":2}]"#,
            () if request.contains("page=2") => r#"[{"l":[1,2,3],"id":3},{"l":[4],"id":4}]"#,
            () if request.contains("page=3") => r#"[{"l":[5],"id":5}]"#,
            () => "[]",
        })
    });
    let stream = "    query: { n: 2 }\n    pages: { page: { to: page, size: n } }\n    transform: [{ explode: l }]";
    let project = Project::new(&pipeline(&server, stream, CSV)).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let text = std::fs::read_to_string(project.path().join("data/items.csv")).expect("a file");
    assert_eq!(text, "l,id\r\n1,3\r\n2,3\r\n3,3\r\n4,4\r\n5,5\r\n");
    assert_eq!(server.heard().len(), 3, "the third page was short");
}

#[test]
fn pages_side_by_side_are_transformed_too() {
    let server = Server::start(|request| {
        Reply::json(match () {
            () if request.contains("page=1") => r#"{"total":3,"rows":[{"l":[1,2],"id":1}]}"#,
            () if request.contains("page=2") => r#"{"total":3,"rows":[{"l":[],"id":2}]}"#,
            () => r#"{"total":3,"rows":[{"l":[3,4],"id":3}]}"#,
        })
    });
    let stream = "    query: { n: 1 }\n    records: rows\n    pages: { page: { to: page, size: n, total: total } }\n    transform: [{ explode: l }]";
    let project = Project::new(&pipeline(&server, stream, CSV)).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let text = std::fs::read_to_string(project.path().join("data/items.csv")).expect("a file");
    assert_eq!(text, "l,id\r\n1,1\r\n2,1\r\n3,3\r\n4,3\r\n");
}

#[test]
fn a_run_goes_on_over_transformed_pages_and_a_changed_step_is_refused() {
    let server = Server::start(|request| {
        let broken = request.contains("page=2");
        if broken {
            return Reply::new(404, "not yet");
        }
        Reply::json(r#"[{"l":[1,2],"id":1}]"#)
    });
    let stream = "    query: { n: 1 }\n    pages: { page: { to: page, size: n } }\n    transform: [{ explode: l }]";
    let project = Project::new(&pipeline(&server, stream, CSV)).knows(&server);
    assert_eq!(project.run(&["run", "items"]).code, Some(1));
    let changed = stream.replace("{ explode: l }", "{ drop: l }");
    project.write("pipelines/items.yaml", &pipeline(&server, &changed, CSV));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    assert!(
        said.stderr.contains("streams.items.transform"),
        "{}",
        said.shown
    );
}

#[test]
fn a_step_that_fails_names_the_record_and_its_place() {
    let body = r#"[{"id":1,"at":{"x":1}},{"id":2,"at":"soon"}]"#;
    for (name, step) in [
        ("step_jq", "jq: .at.x"),
        ("step_add", "add: { x: \"{{ record.at.x + 1 }}\" }"),
    ] {
        let stream = format!("    transform:\n      - where: record.id > 0\n      - {step}");
        let ran = Ran::of(body, &stream, CSV);
        assert_eq!(ran.said.code, Some(1), "{}", ran.said.shown);
        ran.project.is_untouched();
        insta::assert_snapshot!(name, ran.said.shown);
    }
}

#[test]
fn a_filter_that_never_ends_is_cut() {
    let stream = "    transform: [{ jq: 'def f: 1 + f; f' }]";
    let ran = Ran::of(r#"[{"id":1}]"#, stream, CSV);
    assert_eq!(ran.said.code, Some(1), "{}", ran.said.shown);
    assert!(
        ran.said.stderr.contains("calls itself too deep"),
        "{}",
        ran.said.shown
    );
}

#[test]
fn keys_and_types_are_those_of_transformed_records() {
    let body = r#"[{"o":{"id":"2","v":1}},{"o":{"id":"1","v":2}},{"o":{"id":"2","v":3}}]"#;
    let stream =
        "    transform: [{ jq: .o }]\n    key: id\n    columns: { id: { type: integer }, v: }";
    let ran = Ran::good(body, stream, "csv: data/items.csv, mode: merge");
    assert_eq!(ran.read("data/items.csv"), "id,v\r\n1,2\r\n2,3\r\n");
}

// ---- records by a filter --------------------------------------------------------------------

#[test]
fn records_by_a_filter_page_stop_and_total_as_others_do() {
    let server = Server::start(|request| {
        let page = |at: usize| {
            let ids: Vec<String> = (0..2)
                .map(|n| format!(r#""{}":{{"n":1.{n}0}}"#, at * 2 + n))
                .collect();
            format!(
                r#"{{"total":6,"hits":{{{}}},"noise":[1,2]}}"#,
                ids.join(",")
            )
        };
        Reply::json(match request.split_once("page=") {
            Some((_, rest)) if rest.starts_with('2') => page(1),
            Some((_, rest)) if rest.starts_with('3') => page(2),
            _ => page(0),
        })
    });
    let records = "records: { jq: '.hits | to_entries[] | {id: (.key | tonumber)} + .value' }";
    let text = |more: &str| {
        format!(
            "source: {{ url: \"{}\", limits: none }}
streams:
  items:
    get: /items
    query: {{ size: 2 }}
    {records}
    {more}
    key: id
sink: {{ ndjson: data/items.ndjson }}
",
            server.url()
        )
    };
    let all = [
        r#"{"id":0,"n":1.00}"#,
        r#"{"id":1,"n":1.10}"#,
        r#"{"id":2,"n":1.00}"#,
        r#"{"id":3,"n":1.10}"#,
        r#"{"id":4,"n":1.00}"#,
        r#"{"id":5,"n":1.10}"#,
    ];
    for (more, rows, requests) in [
        (
            "pages: { page: { to: page, size: size, total: total } }",
            6,
            3,
        ),
        (
            "pages: { page: { to: page, size: size } }\n    expect: { total: total }\n    stop: last.id >= 5",
            6,
            3,
        ),
        (
            "pages: { page: { to: page } }\n    stop: last.id == 3 and count == 2",
            4,
            2,
        ),
    ] {
        let project = Project::new(&text(more)).knows(&server);
        let before = server.heard().len();
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(0), "{more}: {}", said.shown);
        let read = std::fs::read_to_string(project.path().join("data/items.ndjson"));
        let read = read.expect("an output");
        assert_eq!(read.lines().collect::<Vec<_>>(), all[..rows], "{more}");
        assert_eq!(server.heard().len() - before, requests, "{more}");
    }
    // Fewer than are told of are held, as with a path.
    let more = "pages: none\n    expect: { total: total }";
    let project = Project::new(&text(more)).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(3), "{}", said.shown);
}

#[test]
fn a_filter_takes_apart_what_came_in_any_format_and_what_nobody_asked_for() {
    let csv = Reply::new(200, "name;n\nann;1\nbob;2\n").header("content-type", "text/csv");
    let server = Server::says(csv);
    let text = format!(
        "source: {{ url: \"{}\", limits: none }}
streams:
  items:
    get: /items
    format: {{ csv: {{ delimiter: \";\" }} }}
    records: {{ jq: 'map(.n |= tonumber) | {{all: ., sum: (map(.n) | add)}}' }}
    sink: {{ ndjson: data/items.ndjson }}
  names:
    for: {{ item: {{ stream: items }} }}
    records: {{ jq: '.all[].name' }}
    sink: {{ ndjson: data/names.ndjson }}
sink: {{ csv: none.csv }}
",
        server.url()
    );
    let project = Project::new(&text).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let read = |file: &str| std::fs::read_to_string(project.path().join(file)).expect("a file");
    assert_eq!(
        read("data/items.ndjson"),
        "{\"all\":[{\"name\":\"ann\",\"n\":1},{\"name\":\"bob\",\"n\":2}],\"sum\":3}\n"
    );
    assert_eq!(
        read("data/names.ndjson"),
        "{\"value\":\"ann\"}\n{\"value\":\"bob\"}\n"
    );
}

// ---- preview ----------------------------------------------------------------------------------

#[test]
fn a_preview_shows_declared_columns_and_what_does_not_fit() {
    let body = r#"[{"id":"7","price":"1.10","user":{"login":"ann"},"at":"2024-05-01T12:00:00+02:00"},
        {"id":"8","price":"12,50","user":{"login":"bob"},"at":"2024-05-02T12:00:00+02:00"}]"#;
    let server = Server::says(Reply::json(body));
    let stream = r#"
    for: { repo: [tokio] }
    query: { repo: "{{ repo }}" }
    columns:
      repo: "{{ repo }}"
      id: { type: integer }
      price: { type: number }
      author: user.login
      at: { type: timestamp }
      first: { jq: '.user.login[:1]' }"#;
    let project = Project::new(&pipeline(&server, stream, CSV)).knows(&server);
    let said = project.run(&["preview", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    insta::assert_snapshot!("preview_columns", said.shown);
    let said = project.run(&["preview", "items", "--columns"]);
    insta::assert_snapshot!("preview_drafts_columns", said.shown);
}

/// What the columns leave out is told once a stream, to people and programs, and is in the history; where all is
/// read, nothing is.
#[test]
fn fields_that_no_column_reads_are_told() {
    let body = r#"[{"id":1,"user":{"name":"a","age":3},"tags":[{"n":1}],"raw":{"x":{"y":1}}},
        {"id":2,"odd name":null,"user":{"name":"b","at":{"city":1}},"late":true,"\u0061":1}]"#;
    let columns = "    columns: { id: , name: user.name, city: user.at.city, tag: tags.0.n, raw: , x: raw.x, a: { jq: .a } }";
    let sinks = [
        CSV,
        "ndjson: data/items.ndjson",
        "parquet: data/items.parquet",
        "sqlite: data/items.db",
    ];
    for sink in sinks {
        let ran = Ran::good(body, columns, sink);
        let told = "unread    items: 3 fields that no column reads: \"odd name\", late, user.age\n";
        assert!(ran.said.stderr.contains(told), "{}", ran.said.shown);
        let said = ran.project.run(&["run", "items", "--json"]);
        let events = said.stdout.lines();
        let events: Vec<&str> = events
            .filter(|line| line.contains("fields_unread"))
            .collect();
        assert_eq!(events.len(), 1, "{}", said.shown);
        assert!(
            events[0].contains(r#""stream":"items","fields":["\"odd name\"","late","user.age"]"#),
            "{}",
            events[0]
        );
        let said = ran.project.run(&["history", "items", "--json"]);
        let runs: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
        let unread = &runs[0]["streams"][0]["unread"];
        assert_eq!(unread.as_array().map(Vec::len), Some(3), "{}", said.stdout);
    }
    for columns in [
        "",
        "    columns: { all: $ }",
        "    columns: { id: , user: , tags: , raw: , odd: '\"odd name\"', late: , a: }",
    ] {
        let ran = Ran::good(body, columns, CSV);
        assert!(!ran.said.stderr.contains("unread"), "{}", ran.said.shown);
    }
}
