//! Several streams in one table: published together or not at all; of equal keys the later stream's
//! record counts; what `merge` gathered stays whole when streams come to a table and leave it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use std::time::Duration;

use gleaner::failure::Exit;
use gleaner::sim::{Fault, FaultRule};

use crate::fixture::{Scene, forty};
use crate::scene::{Project, Reply, Server};

/// A server that answers each path with what was last said for it; else 500, and once only.
#[derive(Clone, Default)]
struct Says(Arc<Mutex<BTreeMap<String, String>>>);

impl Says {
    fn start(first: &[(&str, &str)]) -> (Self, Server) {
        let says = Self::default();
        for (path, body) in first {
            says.now(path, body);
        }
        let answer = says.clone();
        let server = Server::start(move |request| {
            let target = request.split(' ').nth(1).unwrap_or_default();
            let path = target.split('?').next().unwrap_or_default();
            match answer.0.lock().expect("it").get(path) {
                Some(body) => Reply::json(body.clone()),
                None => Reply::new(404, "{}"),
            }
        });
        (says, server)
    }

    fn now(&self, path: &str, body: &str) {
        let mut all = self.0.lock().expect("it");
        all.insert(path.to_owned(), body.to_owned());
    }

    fn never(&self, path: &str) {
        self.0.lock().expect("it").remove(path);
    }
}

fn pipeline(server: &Server, streams: &str, sink: &str) -> String {
    let url = server.url();
    format!("source: {{ url: \"{url}\", limits: none }}\nstreams:\n{streams}\nsink: {sink}\n")
}

fn read(project: &Project, file: &str) -> String {
    std::fs::read_to_string(project.path().join(file)).expect("a file")
}

fn good(project: &Project, args: &[&str]) -> String {
    let said = project.run(args);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    said.stdout + &said.stderr
}

const TWO: &str = "  b: { get: /b, key: id }\n  a: { get: /a, key: id }";

#[test]
fn the_columns_of_all_streams_and_the_later_of_equal_keys_in_the_place_of_the_first() {
    let (_, server) = Says::start(&[
        (
            "/b",
            r#"[{"id":1,"of":"b"},{"id":2,"of":"b","x":7},{"id":2,"of":"b again"},{"id":4,"x":8}]"#,
        ),
        (
            "/a",
            r#"[{"id":3,"of":"a"},{"id":1,"of":"a","y":{"z":1.10}}]"#,
        ),
    ]);
    let sinks = "[{ csv: data/t.csv }, { ndjson: data/t.ndjson.gz }, { ndjson: data/t.ndjson }]";
    let project = Project::new(&pipeline(&server, TWO, sinks));
    let told = good(&project, &["run", "items"]);
    // In the order of the file, not of the alphabet nor of arrival.
    assert_eq!(
        read(&project, "data/t.csv"),
        "id,of,y.z,x\r\n1,a,1.10,\r\n2,b again,,\r\n4,,,8\r\n3,a,,\r\n"
    );
    assert_eq!(
        read(&project, "data/t.ndjson"),
        "{\"id\":1,\"of\":\"a\",\"y\":{\"z\":1.10}}\n{\"id\":2,\"of\":\"b again\"}\n{\"id\":4,\"x\":8}\n{\"id\":3,\"of\":\"a\"}\n"
    );
    // The file is told of once while it runs and once in the end; each stream tells what it left out.
    assert_eq!(told.matches("data/t.csv (").count(), 2, "{told}");
    assert!(told.matches("1 repeat dropped").count() == 2, "{told}");
    assert!(told.contains("in the table of b"), "{told}");

    // Without a key nothing is a repeat, and lines are copied as they are.
    let streams = "  b: { get: /b }\n  a: { get: /a }";
    project.write(
        "pipelines/items.yaml",
        &pipeline(&server, streams, "{ ndjson: data/t.ndjson }"),
    );
    good(&project, &["run", "items"]);
    assert_eq!(
        read(&project, "data/t.ndjson"),
        "{\"id\":1,\"of\":\"b\"}\n{\"id\":2,\"of\":\"b\",\"x\":7}\n{\"id\":2,\"of\":\"b again\"}\n{\"id\":4,\"x\":8}\n{\"id\":3,\"of\":\"a\"}\n{\"id\":1,\"of\":\"a\",\"y\":{\"z\":1.10}}\n"
    );
    // What is one table in the file is one on standard output.
    let said = project.run(&["run", "items", "--sink", "ndjson=-"]);
    assert_eq!(
        said.stdout,
        read(&project, "data/t.ndjson"),
        "{}",
        said.shown
    );
}

#[test]
fn each_stream_fills_the_columns_in_its_own_way() {
    let (_, server) = Says::start(&[
        ("/a", r#"[{"id":1,"name":"ann","age":"7"}]"#),
        ("/b/x", r#"[{"user":{"id":2,"born":2000}}]"#),
        ("/b/y", r#"[{"user":{"id":1,"born":1990}}]"#),
    ]);
    let streams = "  a: { get: /a, key: id, columns: { id: , name: , age: { from: age, type: integer } } }
  b: { for: { p: [x, y] }, get: \"/b/{{ p }}\", key: id, columns: { from: \"{{ p }}\", id: user.id, born: user.born } }";
    let wanted = "id,name,age,from,born\r\n1,,,y,1990\r\n2,,,x,2000\r\n";
    for mode in ["replace", "merge"] {
        let sink = format!("{{ csv: data/t.csv, mode: {mode} }}");
        let project = Project::new(&pipeline(&server, streams, &sink));
        // Twice: of `merge` the second projects what the first gathered.
        for _ in 0..2 {
            good(&project, &["run", "items"]);
            assert_eq!(read(&project, "data/t.csv"), wanted, "{mode}");
        }
    }
}

#[test]
fn one_cursor_tells_which_is_newer_and_two_do_not() {
    let (_, server) = Says::start(&[
        (
            "/a",
            r#"[{"id":1,"at":9,"of":"a"},{"id":2,"at":1,"of":"a"},{"id":3,"at":4,"of":"a"}]"#,
        ),
        (
            "/b",
            r#"[{"id":1,"at":5,"n":5,"of":"b"},{"id":2,"at":2,"n":9,"of":"b"},{"id":2,"at":3,"n":8,"of":"b"},{"id":3,"at":4,"n":4,"of":"b"}]"#,
        ),
    ]);
    let a = r#"  a: { get: /a, key: id, query: { s: "{{ cursor.from }}" }, cursor: { field: at, format: integer, start: 0 }, columns: { id: , at: , of: } }"#;
    for (field, wanted) in [
        // As within a stream: the greatest cursor, and of equal ones the later.
        ("at", "id,at,of\r\n1,9,a\r\n2,3,b\r\n3,4,b\r\n"),
        // The later stream's, which within it is the greatest of its own.
        ("n", "id,at,of\r\n1,5,b\r\n2,2,b\r\n3,4,b\r\n"),
    ] {
        let b = a
            .replace("a: {", "b: {")
            .replace("/a", "/b")
            .replace("field: at", &format!("field: {field}"));
        for sink in [
            "{ csv: data/t.csv, mode: merge }",
            "{ csv: data/t/, mode: append }",
        ] {
            let project = Project::new(&pipeline(&server, &format!("{a}\n{b}"), sink));
            good(&project, &["run", "items"]);
            let file = project.files().into_iter().find(|file| {
                let hidden = file.components().any(|part| part.as_os_str() == ".gleaner");
                !hidden
                    && file.extension().is_some_and(|e| e == "csv")
                    && !file.ends_with("items.csv")
            });
            let text = std::fs::read_to_string(file.expect("a file")).expect("text");
            assert_eq!(text, wanted, "{field} {sink}");
        }
    }
}

#[test]
fn if_one_stream_fails_the_table_and_all_cursors_stay() {
    let (says, server) = Says::start(&[
        ("/a", r#"[{"id":1,"at":1}]"#),
        ("/b", r#"[{"id":2,"at":2}]"#),
    ]);
    let cursor = r#"key: id, query: { s: "{{ cursor.from }}" }, cursor: { field: at, format: integer, start: 0 }"#;
    let streams = format!(
        "  a: {{ get: /a, {cursor} }}\n  b: {{ get: /b, {cursor}, expect: {{ min_records: 1 }} }}"
    );
    let project = Project::new(&pipeline(
        &server,
        &streams,
        "{ csv: data/t.csv, mode: merge }",
    ));
    good(&project, &["run", "items"]);
    let before = read(&project, "data/t.csv");
    assert_eq!(before, "id,at\r\n1,1\r\n2,2\r\n");

    says.now("/a", r#"[{"id":3,"at":3}]"#);
    for (wrong, code) in [(None, 1), (Some("[]"), 3)] {
        match wrong {
            None => says.never("/b"),
            Some(body) => says.now("/b", body),
        }
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(code), "{}", said.shown);
        assert!(
            said.stderr
                .contains("a: held, for `b` of the same table is not published"),
            "{}",
            said.shown
        );
        assert_eq!(read(&project, "data/t.csv"), before);
    }
    says.now("/b", r#"[{"id":4,"at":4}]"#);
    let from = server.heard().len();
    good(&project, &["run", "items"]);
    assert_eq!(read(&project, "data/t.csv").lines().count(), 5);
    // Neither cursor had moved before.
    let asked = server.heard()[from..].join("");
    assert!(
        asked.contains("/a?s=1 ") && asked.contains("/b?s=2 "),
        "{asked}"
    );
    let from = server.heard().len();
    good(&project, &["run", "items", "--stream", "b"]);
    let asked = server.heard()[from..].join("");
    assert!(
        asked.contains("/b?s=4 ") && !asked.contains("/a"),
        "{asked}"
    );
}

/// Whoever of a table comes after the one that failed hears of it, and waits for nobody.
#[test]
fn a_stream_that_is_whole_after_another_one_failed_is_held() {
    let stream = "records: data, pages: { page: { to: page, total: n } }";
    let yaml = format!(
        "source: {{ url: https://api.test, limits: none }}\nstreams:\n  a: {{ get: /a, {stream} }}\n  b: {{ get: /b, {stream} }}\nsink: {{ ndjson: out/t.ndjson }}\n"
    );
    let refused = FaultRule::always("/b", Fault::status(403));
    let later = FaultRule::nth_of("/a", 2, Fault::status_retry_after(503, "60"));
    let mut rules = forty("/a", vec![refused, later]);
    rules.routes.extend(forty("/b", Vec::new()).routes);
    // Should it wait for ever, somebody asks it to stop.
    let scene = Scene::new(&yaml, rules).file("out/t.ndjson", "old");
    let ran = scene.stop_after(Duration::from_hours(1)).run();
    assert_eq!(ran.stream("a").pages, 4, "whole");
    let failure = ran.failure();
    assert_eq!(failure.exit, Exit::Failed, "{failure:?}");
    assert!(
        failure
            .message
            .contains("held, for `b` of the same table is not published"),
        "{failure:?}"
    );
    assert_eq!(ran.text("out/t.ndjson"), "old");
}

#[test]
fn a_held_table_is_published_by_a_person_as_one() {
    let (says, server) = Says::start(&[
        ("/a", r#"[{"id":1,"at":1}]"#),
        ("/b", r#"[{"id":2,"at":2}]"#),
    ]);
    let cursor = r#"key: id, query: { s: "{{ cursor.from }}" }, cursor: { field: at, format: integer, start: 0 }"#;
    let streams = format!(
        "  a: {{ get: /a, {cursor} }}\n  b: {{ get: /b, {cursor}, expect: {{ min_records: 2 }} }}"
    );
    let sink = "{ csv: data/t.csv, mode: merge }";
    let project = Project::new(&pipeline(&server, &streams, sink));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(3), "{}", said.shown);
    assert!(!project.path().join("data/t.csv").exists());
    let runs = project.run(&["runs", "--json"]).stdout;
    let runs: serde_json::Value = serde_json::from_str(&runs).expect("JSON");
    let id = runs[0]["run"].as_str().expect("an id").to_owned();
    let asked = server.heard().len();
    let told = good(&project, &["runs", "publish", &id]);
    assert!(told.contains("published all the same"), "{told}");
    assert_eq!(server.heard().len(), asked, "nothing is asked");
    assert_eq!(read(&project, "data/t.csv"), "id,at\r\n1,1\r\n2,2\r\n");

    // The cursors of both have moved, and what was gathered is there.
    says.now("/a", r#"[{"id":3,"at":3}]"#);
    says.now("/b", r#"[{"id":4,"at":4},{"id":5,"at":5}]"#);
    good(&project, &["run", "items"]);
    let heard = server.heard()[asked..].join("");
    assert!(
        heard.contains("/a?s=1 ") && heard.contains("/b?s=2 "),
        "{heard}"
    );
    assert_eq!(read(&project, "data/t.csv").lines().count(), 6);
}

#[test]
fn a_part_of_a_table_is_refused_where_it_would_take_the_place_of_all() {
    let (_, server) = Says::start(&[("/a", r#"[{"id":1}]"#), ("/b", r#"[{"id":2}]"#)]);
    for sink in ["{ csv: data/t.csv }", "{ csv: data/t/, mode: append }"] {
        let project = Project::new(&pipeline(&server, TWO, sink));
        let said = project.run(&["run", "items", "--stream", "a"]);
        assert_eq!(said.code, Some(2), "{}", said.shown);
        assert!(
            said.stderr.contains("a writes one table with b"),
            "{}",
            said.shown
        );
        assert!(server.heard().is_empty());
    }
    // A sample takes nothing's place, and what `merge` gathered of others stays.
    let project = Project::new(&pipeline(&server, TWO, "{ csv: data/t.csv }"));
    good(
        &project,
        &["run", "items", "--stream", "a", "--limit-records", "1"],
    );
    assert_eq!(read(&project, "data/t.sample.csv"), "id\r\n1\r\n");
    good(&project, &["run", "items", "--limit-records", "1"]);
    assert_eq!(read(&project, "data/t.sample.csv"), "id\r\n2\r\n1\r\n");
    project.write(
        "pipelines/items.yaml",
        &pipeline(&server, TWO, "{ csv: data/t.csv, mode: merge }"),
    );
    good(&project, &["run", "items", "--stream", "b"]);
    good(&project, &["run", "items", "--stream", "a"]);
    assert_eq!(read(&project, "data/t.csv"), "id\r\n1\r\n2\r\n");
}

#[test]
fn a_child_and_its_parent_may_write_one_table() {
    let (says, server) = Says::start(&[
        ("/a", r#"[{"id":1},{"id":2}]"#),
        ("/b/1", r#"[{"id":11}]"#),
        ("/b/2", r#"[{"id":21}]"#),
    ]);
    let streams = "  a: { get: /a, key: id }\n  b: { for: { up: { stream: a } }, get: \"/b/{{ up.id }}\", key: id }\n  c: { for: { up: { stream: b } }, get: \"/b/{{ up.id }}\", sink: { csv: data/c.csv } }";
    says.now("/b/11", "[]");
    says.now("/b/21", "[]");
    let project = Project::new(&pipeline(
        &server,
        streams,
        "{ csv: data/t.csv, mode: merge }",
    ));
    good(&project, &["run", "items"]);
    assert_eq!(read(&project, "data/t.csv"), "id\r\n1\r\n2\r\n11\r\n21\r\n");
    says.never("/b/2");
    says.now("/a", r#"[{"id":2},{"id":3}]"#);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert_eq!(read(&project, "data/t.csv").lines().count(), 5);
}

#[test]
fn streams_come_to_a_table_and_leave_it() {
    let (says, server) = Says::start(&[
        ("/a", r#"[{"id":1,"of":"a"},{"id":5,"of":"a"}]"#),
        ("/b", r#"[{"id":2,"of":"b"},{"id":5,"of":"b"}]"#),
    ]);
    let project = Project::new(&pipeline(
        &server,
        TWO,
        "{ csv: \"data/{{ stream }}.csv\", mode: merge }",
    ));
    good(&project, &["run", "items"]);
    assert_eq!(read(&project, "data/a.csv"), "id,of\r\n1,a\r\n5,a\r\n");
    // What both gathered is in the table, though nothing of it comes again.
    says.now("/a", r#"[{"id":3,"of":"a"}]"#);
    says.now("/b", "[]");
    let one = "{ csv: data/t.csv, mode: merge }";
    project.write("pipelines/items.yaml", &pipeline(&server, TWO, one));
    good(&project, &["run", "items"]);
    let all = read(&project, "data/t.csv");
    for row in ["1,a", "2,b", "3,a"] {
        assert!(all.contains(row), "{all}");
    }
    assert_eq!(all.lines().count(), 5, "{all}");
    says.now("/a", "[]");
    // The streams in another order are the same table.
    let turned = "  a: { get: /a, key: id }\n  b: { get: /b, key: id }";
    project.write("pipelines/items.yaml", &pipeline(&server, turned, one));
    good(&project, &["run", "items"]);
    assert_eq!(read(&project, "data/t.csv"), all);
    // Apart again, each has its own.
    project.write(
        "pipelines/items.yaml",
        &pipeline(
            &server,
            TWO,
            "{ csv: \"data/{{ stream }}.csv\", mode: merge }",
        ),
    );
    good(&project, &["run", "items"]);
    let (a, b) = (read(&project, "data/a.csv"), read(&project, "data/b.csv"));
    assert!(
        a.contains("1,a") && a.contains("3,a") && !a.contains("2,b"),
        "{a}"
    );
    assert!(b.contains("2,b") && !b.contains("1,a"), "{b}");
    assert_eq!(a.lines().count() + b.lines().count(), 6, "{a}{b}");
    // Together once more; a stream that is gone from the file leaves its records.
    project.write("pipelines/items.yaml", &pipeline(&server, TWO, one));
    good(&project, &["run", "items"]);
    project.write(
        "pipelines/items.yaml",
        &pipeline(&server, "  b: { get: /b, key: id }", one),
    );
    good(&project, &["run", "items"]);
    assert_eq!(read(&project, "data/t.csv"), all);
    // To forget what one of them gathered forgets the table.
    project.write("pipelines/items.yaml", &pipeline(&server, TWO, one));
    good(&project, &["run", "items"]);
    good(
        &project,
        &["state", "reset", "items", "--stream", "a", "--base"],
    );
    says.now("/b", r#"[{"id":7}]"#);
    good(&project, &["run", "items"]);
    assert_eq!(read(&project, "data/t.csv"), "id\r\n7\r\n");
}

#[test]
fn a_table_of_a_database_and_what_is_told_of_it() {
    let (says, server) = Says::start(&[
        ("/a", r#"[{"id":1,"of":"a"},{"id":2,"of":"a","n":1}]"#),
        ("/b", r#"[{"id":2,"of":"b","x":{"y":1.5}}]"#),
    ]);
    let turned = "  a: { get: /a, key: id }\n  b: { get: /b, key: id }";
    let query = "SELECT id, of, n, \"x.y\" FROM both ORDER BY id";
    let table = |project: &Project| -> Vec<(i64, String, Option<i64>, Option<f64>)> {
        let there = rusqlite::Connection::open(project.path().join("data/t.db")).expect("it");
        let mut rows = there.prepare(query).expect("columns of both");
        let rows = rows.query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        });
        let rows = rows.expect("rows").map(|row| row.expect("a row"));
        rows.collect()
    };
    let row = |id, of: &str, n, y| (id, of.to_owned(), n, y);
    for mode in ["replace", "merge"] {
        let sink = format!(
            "[{{ sqlite: {{ path: data/t.db, table: both }}, mode: {mode} }}, {{ csv: data/t.csv, mode: {mode} }}]"
        );
        let project = Project::new(&pipeline(&server, turned, &sink));
        good(&project, &["run", "items"]);
        let first = [row(1, "a", None, None), row(2, "b", None, Some(1.5))];
        if mode == "replace" {
            // The columns of records that gave way are none of the table's.
            let said = read(&project, "data/t.csv");
            assert_eq!(said, "id,of,x.y\r\n1,a,\r\n2,b,1.5\r\n");
        } else {
            says.now("/a", r#"[{"id":3,"of":"a","n":4}]"#);
            says.now("/b", r#"[{"id":1,"of":"b"}]"#);
            good(&project, &["run", "items"]);
            let wanted = [
                row(1, "b", None, None),
                first[1].clone(),
                row(3, "a", Some(4), None),
            ];
            assert_eq!(table(&project), wanted);
            // One of them alone adds to what all gathered.
            says.now("/b", r#"[{"id":9,"of":"b"}]"#);
            good(&project, &["run", "items", "--stream", "b"]);
            assert_eq!(table(&project).len(), 4);
        }
        let told = read(&project, "data/datapackage.json");
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        let resources = told["resources"].as_array().expect("resources");
        assert_eq!(resources.len(), 2, "{told}");
        for resource in resources {
            assert_eq!(resource["rows"], if mode == "merge" { 4 } else { 2 });
            assert_eq!(
                resource["gleaner"]["streams"],
                serde_json::json!(["a", "b"])
            );
            assert_eq!(resource["schema"]["primaryKey"], serde_json::json!(["id"]));
        }
        // Whichever of them is asked for, its notebook loads the table.
        let stream = ["notebook", "items", "--stream", "b", "--out", "-"];
        assert!(good(&project, &stream).contains("data/t.csv"));
    }
    // A stream that leaves takes its records along, out of the database too.
    let apart = "  a: { get: /a, key: id, sink: { csv: data/a.csv, mode: merge } }\n  b: { get: /b, key: id, sink: { sqlite: { path: data/t.db, table: both }, mode: merge } }";
    let one = "{ sqlite: { path: data/t.db, table: both }, mode: merge }";
    says.now("/a", r#"[{"id":1,"of":"a"}]"#);
    says.now("/b", r#"[{"id":2,"of":"b","n":1,"x":{"y":1.5}}]"#);
    let project = Project::new(&pipeline(&server, TWO, one));
    good(&project, &["run", "items"]);
    assert_eq!(
        table(&project),
        [row(1, "a", None, None), row(2, "b", Some(1), Some(1.5))]
    );
    project.write("pipelines/items.yaml", &pipeline(&server, apart, one));
    says.now("/b", "[]");
    good(&project, &["run", "items"]);
    assert_eq!(table(&project), [row(2, "b", Some(1), Some(1.5))]);
    assert_eq!(read(&project, "data/a.csv"), "id,of\r\n1,a\r\n");

    // Tables of one file are outputs of their own; one of them written in two ways is refused.
    let own = "{ sqlite: data/t.db }";
    let project = Project::new(&pipeline(&server, TWO, own));
    good(&project, &["check", "items"]);
    let other = TWO.replace(
        "get: /a, key: id",
        "get: /a, key: id, sink: { sqlite: { path: data/t.db, table: B }, mode: merge }",
    );
    let project = Project::new(&pipeline(
        &server,
        &other,
        "{ sqlite: { path: data/t.db, table: b } }",
    ));
    let said = project.run(&["check", "items"]);
    assert_eq!(said.code, Some(4), "{}", said.shown);
    assert!(said.shown.contains("sink-shared"), "{}", said.shown);
}

#[test]
fn one_stream_of_several_goes_where_the_command_line_says_alone() {
    let (_, server) = Says::start(&[("/a", r#"[{"id":1}]"#), ("/b", r#"[{"id":2},{"id":3}]"#)]);
    for sink in ["{ csv: \"data/{{ stream }}.csv\" }", "{ csv: data/t.csv }"] {
        let project = Project::new(&pipeline(&server, TWO, sink));
        // Twice: the second finds what the first published.
        for _ in 0..2 {
            good(
                &project,
                &["run", "items", "--stream", "a", "--sink", "csv=x/a.csv"],
            );
            assert_eq!(read(&project, "x/a.csv"), "id\r\n1\r\n", "{sink}");
        }
        for (to, wanted, size) in [
            ("csv=-", "id\r\n2\r\n3\r\n", 10),
            ("ndjson=-", "{\"id\":2}\n{\"id\":3}\n", 18),
        ] {
            let said = project.run(&["run", "items", "--stream", "b", "--sink", to]);
            assert_eq!(said.stdout, wanted, "{sink}: {}", said.shown);
            let told = format!("standard output ({size} B)");
            assert!(said.stderr.contains(&told), "{}", said.stderr);
        }
        assert!(!project.path().join("data/t.csv").exists());
        let all = project.run(&["run", "items", "--sink", "csv=x/all.csv"]);
        // What is no table in the file is none elsewhere.
        assert_eq!(
            all.code,
            Some(if sink.contains("stream") { 2 } else { 0 }),
            "{}",
            all.shown
        );
    }
    // In the place of a table that others write too, it would lose their records.
    let project = Project::new(&pipeline(&server, TWO, "{ csv: data/t.csv }"));
    let said = project.run(&["run", "items", "--stream", "a", "--sink", "csv=data/t.csv"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    assert!(
        said.stderr.contains("would lose their records"),
        "{}",
        said.stderr
    );
}

/// Rows of CSV and of a table are their cells: records without any are not told as rows that nobody finds.
#[test]
fn records_without_a_field_are_rows_only_where_a_row_can_be_empty() {
    for (sink, code) in [
        ("csv: data/items.csv", 1),
        ("sqlite: data/items.db", 1),
        ("csv: data/parts, mode: append", 1),
        ("sqlite: data/items.db, mode: append", 1),
        ("ndjson: data/items.ndjson", 0),
        ("parquet: data/items.parquet", 0),
    ] {
        for (body, code) in [("[{},{}]", code), ("[]", 0), (r#"[{},{"a":null}]"#, 0)] {
            let server = Server::says(Reply::json(body));
            let project = Project::new(&format!(
                "source: {{ url: \"{}\", limits: none }}\nstreams:\n  items: {{ get: /items }}\nsink: {{ {sink} }}\n",
                server.url()
            ));
            let project = project.knows(&server);
            let said = project.run(&["run", "items"]);
            assert_eq!(said.code, Some(code), "{sink}, {body}: {}", said.shown);
            if code == 1 {
                project.is_untouched();
            }
            let why = said.shown.contains("no record has a field");
            assert_eq!(why, code == 1, "{sink}, {body}: {}", said.shown);
        }
    }
}
