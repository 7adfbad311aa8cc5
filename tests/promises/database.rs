//! `sqlite: PATH`: a typed table a stream, whose rows are there once or not at all, whatever happens.

use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::real_time::until_or_end;
use crate::scene::{Project, Reply, Server};

/// A server whose answer to every request is what was last said.
#[derive(Clone)]
struct Says(Arc<Mutex<String>>);

impl Says {
    fn start(first: &str) -> (Self, Server) {
        let says = Self(Arc::new(Mutex::new(first.to_owned())));
        let answer = says.clone();
        let server = Server::start(move |_| Reply::json(answer.0.lock().expect("it").clone()));
        (says, server)
    }

    fn now(&self, body: &str) {
        body.clone_into(&mut self.0.lock().expect("it"));
    }
}

fn pipeline(server: &Server, stream: &str, sink: &str) -> String {
    let url = server.url();
    format!(
        "source: {{ url: \"{url}\", limits: none }}\nstreams:\n  items: {{ get: /items, {stream} }}\nsink: {{ {sink} }}\n"
    )
}

fn good(project: &Project, args: &[&str]) -> String {
    let said = project.run(args);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    said.stdout + &said.stderr
}

fn open(project: &Project) -> Connection {
    Connection::open(project.path().join("data/x.db")).expect("a database")
}

/// All rows of a query, cells as SQL shows them.
fn rows(from: &Connection, query: &str) -> Vec<String> {
    let mut asked = from.prepare(query).expect(query);
    let width = asked.column_count();
    let rows = asked.query_map([], |row| {
        let cells = (0..width).map(|at| {
            row.get(at).map(|value: Value| match value {
                Value::Null => "-".to_owned(),
                Value::Integer(number) => number.to_string(),
                Value::Real(number) => format!("{number:?}"),
                Value::Text(text) => format!("'{text}'"),
                Value::Blob(_) => "blob".to_owned(),
            })
        });
        Ok(cells.collect::<rusqlite::Result<Vec<_>>>()?.join(" "))
    });
    rows.expect(query).map(|row| row.expect("a row")).collect()
}

fn declared(from: &Connection, table: &str) -> String {
    let text = "SELECT sql FROM sqlite_schema WHERE name = ?1";
    from.query_row(text, [table], |row| row.get(0))
        .expect("a table")
}

const SQLITE: &str = "sqlite: data/x.db";

#[test]
fn columns_have_the_types_of_their_values() {
    let (says, server) = Says::start(
        r#"[{"id":1,"ID":"a","big":1234567890123456789012345,"price":1.5,"ok":true,"at":"2024-05-01T00:00:00Z","zip":"00123","tags":["x",1],"user":{"name":"é\u0000\r\n\"q\""},"mixed":5,"none":null},
            {"id":2,"ID":"b","big":7,"price":3,"ok":false,"at":"2024-05-02T10:00:00+02:00","zip":"77","tags":[],"user":{"name":"=1+1"},"mixed":"5"}]"#,
    );
    let project = Project::new(&pipeline(&server, "key: id", SQLITE));
    good(&project, &["run", "items"]);
    let there = open(&project);
    assert_eq!(
        declared(&there, "items"),
        "CREATE TABLE \"items\" (\"id\" INTEGER, \"ID_2\" TEXT, \"big\" TEXT, \"price\" REAL, \"ok\" INTEGER, \"at\" TEXT, \"zip\" TEXT, \"tags\" TEXT, \"user.name\" TEXT, \"mixed\" TEXT, \"none\" TEXT, PRIMARY KEY (\"id\")) STRICT"
    );
    assert_eq!(
        rows(&there, "SELECT * FROM items"),
        [
            "1 'a' '1234567890123456789012345' 1.5 1 '2024-05-01T00:00:00Z' '00123' '[\"x\",1]' 'é\0\r\n\"q\"' '5' -",
            "2 'b' '7' 3.0 0 '2024-05-02T10:00:00+02:00' '77' '[]' '=1+1' '\"5\"' -",
        ]
    );
    assert_eq!(
        rows(
            &there,
            "SELECT name, source, type FROM _gleaner_columns WHERE position IN (2, 5, 10, 11) ORDER BY position"
        ),
        [
            "'ID_2' 'ID' 'text'",
            "'ok' 'ok' 'boolean'",
            "'mixed' 'mixed' 'json'",
            "'none' 'none' -"
        ]
    );
    let told = "SELECT \"table\", pipeline, stream, mode, rows FROM _gleaner";
    assert_eq!(rows(&there, told), ["'items' 'items' 'items' 'replace' 2"]);

    // A reader that is at work sees the old rows to its end, and is in nobody's way.
    there
        .execute_batch("BEGIN; SELECT * FROM items")
        .expect("a look");
    assert_eq!(rows(&there, "SELECT count(*) FROM items"), ["2"]);
    says.now(r#"[{"id":"x","new":1}]"#);
    good(&project, &["run", "items"]);
    assert_eq!(
        rows(&there, "SELECT count(*), max(price) FROM items"),
        ["2 3.0"]
    );
    there.execute_batch("COMMIT").expect("the end");
    let there = open(&project);
    assert_eq!(rows(&there, "SELECT * FROM items"), ["'x' 1"]);
    // An empty answer empties the table, and it keeps its columns.
    says.now("[]");
    good(&project, &["run", "items"]);
    assert!(rows(&there, "SELECT id, new FROM items").is_empty());
    assert_eq!(
        rows(&there, "SELECT count(*), count(DISTINCT run) FROM _gleaner"),
        ["3 3"]
    );
}

#[test]
fn streams_are_tables_of_one_file_beside_those_of_others() {
    let (_, server) = Says::start(r#"[{"id":1},{"id":2}]"#);
    let url = server.url();
    let text = |sink: &str| {
        format!(
            "source: {{ url: \"{url}\", limits: none }}\nstreams:\n  a: {{ get: /a }}\n  b: {{ get: /b, columns: {{ n: {{ from: id, type: number }} }} }}\nsink: {sink}\n"
        )
    };
    let project = Project::new(&text("{ sqlite: data/x.db }"));
    project.write("data/.keep", "");
    open(&project)
        .execute_batch("CREATE TABLE mine (x); INSERT INTO mine VALUES (5); CREATE TABLE t_b (y)")
        .expect("a table of somebody");
    good(&project, &["run", "items"]);
    let there = open(&project);
    assert_eq!(
        rows(
            &there,
            "SELECT a.id, n, x FROM a JOIN b ON a.id = n JOIN mine"
        ),
        ["1 1.0 5", "2 2.0 5"]
    );
    // What is not ours is not written, and that is told before anything is asked.
    let asked = server.heard().len();
    project.write(
        "pipelines/items.yaml",
        &text("{ sqlite: { path: data/x.db, table: \"t_{{ stream }}\" } }"),
    );
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(
        said.stderr
            .contains("a table `t_b` that no run of a pipeline has made"),
        "{}",
        said.shown
    );
    assert_eq!(server.heard().len(), asked);
    project.write("pipelines/other.yaml", &text("{ sqlite: data/x.db }"));
    let said = project.run(&["run", "other"]);
    assert!(
        said.stderr
            .contains("the table `a` belongs to the pipeline items"),
        "{}",
        said.shown
    );
    project.write(
        "data/no.db",
        "this is no database, but it is long enough to be taken for one",
    );
    let said = project.run(&["run", "items", "--sink", "sqlite=data/no.db"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(said.stderr.contains("no SQLite file"), "{}", said.shown);
    assert_eq!(server.heard().len(), asked);
}

#[test]
fn append_adds_rows_and_columns_and_makes_room_in_types() {
    let (says, server) = Says::start(r#"[{"id":1,"n":1,"ok":true,"t":"a"}]"#);
    let project = Project::new(&pipeline(
        &server,
        "key: id",
        "sqlite: data/x.db, mode: append",
    ));
    good(&project, &["run", "items"]);
    // Fractions, a mixture, a new column, one that is missing.
    says.now(r#"[{"id":1,"n":2.5,"ok":"maybe","new":7}]"#);
    good(&project, &["run", "items"]);
    says.now("[]");
    good(&project, &["run", "items"]);
    let there = open(&project);
    assert_eq!(
        rows(&there, "SELECT id, n, ok, t, new FROM items"),
        ["1 1.0 'true' 'a' -", "1 2.5 '\"maybe\"' - 7"]
    );
    assert_eq!(
        rows(&there, "SELECT count(DISTINCT _run) FROM items"),
        ["2"]
    );
    // Whole numbers that no float holds do not become floats.
    says.now(r#"[{"id":9007199254740993,"n":1}]"#);
    good(&project, &["run", "items"]);
    says.now(r#"[{"id":0.5,"n":1}]"#);
    good(&project, &["run", "items"]);
    assert_eq!(
        rows(&there, "SELECT id FROM items"),
        ["'1'", "'1'", "'9007199254740993'", "'0.5'"]
    );
}

#[test]
fn merge_holds_the_newest_version_of_every_record() {
    let (says, server) = Says::start(
        r#"[{"id":2,"at":5,"v":"new"},{"id":10,"at":1,"v":"x"},{"id":1,"at":1,"v":"n"}]"#,
    );
    let stream = r#"key: id, query: { s: "{{ cursor.from }}" }, cursor: { field: at, format: integer, start: 0 }"#;
    let sink = "sqlite: data/x.db, mode: merge";
    let project = Project::new(&pipeline(&server, stream, sink));
    good(&project, &["run", "items"]);
    let there = open(&project);
    there
        .execute_batch("CREATE VIEW seen AS SELECT id, v FROM items; UPDATE items SET v = 'by hand' WHERE id = 10")
        .expect("a view");
    // A copy that lags sends an older version; one is new, and has a new column.
    says.now(r#"[{"id":2,"at":3,"v":"stale"},{"id":3,"at":6,"v":"added","more":true}]"#);
    good(&project, &["run", "items"]);
    let all = "SELECT id, at, v, more FROM items ORDER BY id";
    assert_eq!(
        rows(&there, all),
        // Only what is newer was written.
        [
            "1 1 'n' -",
            "2 5 'new' -",
            "3 6 'added' 1",
            "10 1 'by hand' -"
        ]
    );
    assert_eq!(rows(&there, "SELECT count(*) FROM seen"), ["4"]);
    drop(there);
    // A file that was lost is whole after the next run, though that brings one record.
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(project.path().join(format!("data/x.db{end}")));
    }
    says.now(r#"[{"id":4,"at":7,"v":"later"}]"#);
    good(&project, &["run", "items"]);
    let whole = [
        "1 1 'n' -",
        "2 5 'new' -",
        "3 6 'added' 1",
        "4 7 'later' -",
        "10 1 'x' -",
    ];
    assert_eq!(rows(&open(&project), all), whole);
    // So is one that gets other columns.
    project.write(
        "pipelines/items.yaml",
        &pipeline(
            &server,
            &format!("columns: {{ id: , twice: {{ jq: .at * 2 }} }}, {stream}"),
            sink,
        ),
    );
    says.now("[]");
    good(&project, &["run", "items"]);
    assert_eq!(
        rows(&open(&project), "SELECT * FROM items ORDER BY id"),
        ["1 2", "2 10", "3 12", "4 14", "10 2"]
    );
}

#[test]
fn a_key_with_null_is_one_row_all_the_same() {
    let (says, server) = Says::start(r#"[{"a":1,"b":null,"v":1},{"a":1,"b":2,"v":1}]"#);
    let stream = r#"key: [a, b], query: { s: "{{ cursor.from }}" }, cursor: { field: v, format: integer, start: 0 }"#;
    let project = Project::new(&pipeline(&server, stream, "sqlite: data/x.db, mode: merge"));
    good(&project, &["run", "items"]);
    says.now(r#"[{"a":1,"b":null,"v":2},{"a":2,"b":null,"v":3}]"#);
    good(&project, &["run", "items"]);
    assert_eq!(
        rows(&open(&project), "SELECT * FROM items ORDER BY v, b"),
        ["1 2 1", "1 - 2", "2 - 3"]
    );
}

#[test]
fn what_a_database_cannot_be_is_told_by_check() {
    let (_, server) = Says::start("[]");
    for (sink, told) in [
        ("sqlite: x.db.gz", "neither compressed"),
        ("sqlite: \"-\"", "neither compressed"),
        ("sqlite: { path: x.db, table: sqlite_x }", "are taken"),
        ("sqlite: x.db, csv: x.csv", "a sink has one format"),
    ] {
        let project = Project::new(&pipeline(&server, "key: id", sink));
        let said = project.run(&["check", "items"]);
        assert_eq!(said.code, Some(4), "{}", said.shown);
        assert!(
            said.stdout.contains(told) || said.stderr.contains(told),
            "{sink}: {}",
            said.shown
        );
    }
    let twice = "sink: [ { sqlite: x.db }, { sqlite: { path: x.db, table: \"{{ stream }}\" } } ]";
    let text = pipeline(&server, "key: id", SQLITE).replace("sink: { sqlite: data/x.db }", twice);
    let said = Project::new(&text).run(&["check", "items"]);
    assert_eq!(said.code, Some(4), "{}", said.shown);
}

/// How many records a stream brings that is killed while it publishes.
const MANY: usize = 40_000;

/// The program is killed with `SIGKILL` while its transaction is open; the old rows are there then,
/// and the new ones exactly once after the next run, which asks for nothing.
#[test]
fn killed_in_mid_publish_every_row_is_there_exactly_once_in_the_end() {
    let page = |from: usize, version: u32| {
        let all = (from..from + MANY).map(|id| {
            // Wide, so that the rows do not all wait in memory for the commit.
            let text = "some bytes ".repeat(30);
            format!(r#"{{"id":{id},"v":{version},"text":"{text}{id}"}}"#)
        });
        format!("[{}]", all.collect::<Vec<_>>().join(","))
    };
    for (mode, before, after) in [
        (
            "replace",
            vec!["1 40000 0 39999"],
            vec!["2 40000 20000 59999"],
        ),
        (
            "append",
            vec!["1 40000 0 39999"],
            vec!["1 40000 0 39999", "2 40000 20000 59999"],
        ),
        (
            "merge",
            vec!["1 40000 0 39999"],
            vec!["1 20000 0 19999", "2 40000 20000 59999"],
        ),
    ] {
        let (says, server) = Says::start(&page(0, 1));
        let project = Project::new(&pipeline(
            &server,
            "key: id",
            &format!("sqlite: data/x.db, mode: {mode}"),
        ));
        good(&project, &["run", "items", "-q"]);
        let seen = || {
            rows(
                &open(&project),
                "SELECT v, count(*), min(id), max(id) FROM items GROUP BY v ORDER BY v",
            )
        };
        assert_eq!(seen(), before, "{mode}");
        says.now(&page(MANY / 2, 2));
        let log = project.path().join("data/x.db-wal");
        let mut child = project
            .command(&["run", "items", "-q"])
            .spawn()
            .expect("it starts");
        // The transaction writes beside the file; what is in the log is not committed yet.
        let is_alive = until_or_end(&mut child, "a transaction that writes", || {
            std::fs::metadata(&log).map_or(0, |log| log.len()) >= 2 << 20
        });
        assert!(is_alive, "{mode}: it was too quick");
        child.kill().expect("a kill");
        assert!(
            child.wait().expect("an end").code().is_none(),
            "{mode}: it was killed"
        );
        assert_eq!(seen(), before, "{mode}: nobody sees half");
        let asked = server.heard().len();
        good(&project, &["run", "items", "-q"]);
        assert_eq!(server.heard().len(), asked, "{mode}: all was there already");
        assert_eq!(seen(), after, "{mode}");
        assert_eq!(
            rows(
                &open(&project),
                "SELECT count(*), count(DISTINCT run) FROM _gleaner"
            ),
            ["2 2"],
            "{mode}"
        );
        let check = "PRAGMA integrity_check";
        assert_eq!(rows(&open(&project), check), ["'ok'"], "{mode}");
    }
}
