//! `gleaner convert`: from every published format to every other, with the types that were published; what
//! runs publish is never written over (Into the notebook, Build).

use std::fs;

use rusqlite::Connection;

use crate::scene::{Project, Reply, Server};
use crate::types::{hostile, readback};

const FORMATS: [&str; 4] = ["csv", "ndjson", "parquet", "sqlite"];

/// All twelve ways between formats, with hostile values and with 5,000 columns, read back by others.
#[test]
fn every_format_becomes_every_other() {
    let (_bodies, server) = hostile();
    let pipeline = format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n  hostile: {{ get: /hostile }}\n  \
         wide: {{ get: /wide }}\nsink:\n  - csv: data/{{{{ stream }}}}.csv\n  \
         - parquet: data/{{{{ stream }}}}.parquet\n  - ndjson: data/{{{{ stream }}}}.ndjson\n",
        server.url()
    );
    let project = Project::new(&pipeline).knows(&server);
    let tables = pipeline.split("  wide").next().expect("the beginning");
    let tables = format!("{tables}sink: {{ sqlite: data/all.db }}\n");
    fs::write(project.path().join("pipelines/tables.yaml"), tables).expect("written");
    for name in ["items", "tables"] {
        let said = project.run(&["run", name]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
    }
    let out = project.path().join("out");
    let mut ways = 0;
    for from in FORMATS {
        for to in FORMATS.into_iter().filter(|to| *to != from) {
            for stream in ["hostile", "wide"] {
                if stream == "wide" && from == "sqlite" {
                    continue;
                }
                let name = if from == "sqlite" { "tables" } else { "items" };
                let file = out.join(format!("{stream}.{from}.{to}"));
                let file = file.to_str().expect("a path");
                let said = project.run(&[
                    "convert", name, "--stream", stream, "--from", from, "--to", to, "--out", file,
                ]);
                if stream == "wide" && to == "sqlite" {
                    // No table has 5,000 columns (docs/outputs.md).
                    assert_eq!(said.code, Some(1), "{}", said.shown);
                    assert!(said.shown.contains("2,000 columns"), "{}", said.shown);
                    assert!(!out.join(file).exists());
                    continue;
                }
                assert_eq!(said.code, Some(0), "{}", said.shown);
                ways += 1;
            }
        }
    }
    assert_eq!(ways, 12 + 6);
    let (good, said) = readback("matrix", &out);
    assert!(good, "{said}");
    assert_eq!(said.lines().count(), ways, "{said}");
}

/// Streams of a pipeline are tables of one database, beside tables of others.
#[test]
fn a_database_gets_a_table_for_each_stream_and_keeps_what_it_had() {
    let server = Server::start(|request| {
        Reply::json(if request.contains("/items") {
            r#"[{"id":1,"ok":true,"long":1234567890123456789012345},{"id":2,"ok":null,"long":5}]"#
        } else {
            r#"[{"name":"a","price":1.5}]"#
        })
    });
    let pipeline = |sink: &str| {
        format!(
            "source: {{ url: \"{}\", limits: none }}\nstreams:\n  items: {{ get: /items }}\n  \
             others: {{ get: /others }}\nsink: {sink}\n",
            server.url()
        )
    };
    let project = Project::new(&pipeline("{ csv: \"data/{{ stream }}.csv\" }")).knows(&server);
    let good = |args: &[&str]| {
        let said = project.run(args);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        said.stdout
    };
    good(&["run", "items"]);
    let path = project.path().join("share.db");
    let theirs = Connection::open(&path).expect("a database");
    let made = "CREATE TABLE mine (n INTEGER); INSERT INTO mine VALUES (7)";
    theirs.execute_batch(made).expect("a table");
    drop(theirs);
    let to = ["convert", "items", "--to", "sqlite", "--out", "share.db"];
    // Twice: a table that `convert` wrote is written anew.
    for _ in 0..2 {
        let said = good(&to);
        assert!(said.contains("items: 2 rows in share.db#items"), "{said}");
        assert!(said.contains("others: 1 row in share.db#others"), "{said}");
    }
    let all = Connection::open(&path).expect("a database");
    let text = "SELECT (SELECT group_concat(id || ' ' || typeof(ok) || ' ' || long) FROM items)
                || ' ' || (SELECT price FROM others) || ' ' || (SELECT n FROM mine)";
    let rows: String = all.query_row(text, [], |row| row.get(0)).expect("rows");
    assert_eq!(rows, "1 integer 1234567890123456789012345,2 null 5 1.5 7");
    let text = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%STRICT%'";
    let strict: i64 = all.query_row(text, [], |row| row.get(0)).expect("tables");
    // With the two of the ledger.
    assert_eq!(strict, 4);
    drop(all);
    // Left alone it goes beside what was read.
    let said = good(&["convert", "items", "--stream", "others", "--to", "sqlite"]);
    assert!(said.contains("data/others.db#others"), "{said}");
    // A run does not write into what `convert` wrote, nor `convert` into what runs write.
    let file = project.path().join("pipelines/items.yaml");
    fs::write(&file, pipeline("{ sqlite: share.db }")).expect("written");
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    let why = "the table `items` was written by `gleaner convert`";
    assert!(said.shown.contains(why), "{}", said.shown);
    let sinks = "[{ csv: \"data/{{ stream }}.csv\" }, { sqlite: data/run.db }]";
    fs::write(&file, pipeline(sinks)).expect("written");
    good(&["run", "items"]);
    // As the state knows, as the table itself says of a file that nobody knows, and as datapackage.json tells.
    let data = project.path().join("data");
    fs::copy(data.join("run.db"), data.join("copy.db")).expect("a copy");
    let refused = |out: &str, code: i32| {
        let to = ["convert", "data/items.csv", "--to", "sqlite", "--out", out];
        let said = project.run(&to);
        assert_eq!(said.code, Some(code), "{}", said.shown);
        assert!(said.shown.contains("publish"), "{}", said.shown);
    };
    refused("data/run.db", 2);
    refused("data/copy.db", 1);
    fs::remove_dir_all(project.path().join(".gleaner")).expect("removed");
    refused("data/run.db", 2);
}

/// A project whose streams have records of two fields, each with its path in them.
fn streams(names: &[&str], sink: &str) -> (Project, Server) {
    let server = Server::start(|request| {
        let name = request.split(['/', ' ']).nth(2).unwrap_or_default();
        Reply::json(format!(
            r#"[{{"id":1,"of":"{name}"}},{{"id":2,"of":"{name}"}}]"#
        ))
    });
    let all: Vec<String> = (names.iter())
        .map(|name| format!("  {name}: {{ get: /{name} }}\n"))
        .collect();
    let pipeline = format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n{}sink: {sink}\n",
        server.url(),
        all.concat()
    );
    let project = Project::new(&pipeline).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    (project, server)
}

/// Also where no `datapackage.json` tells of it, and by whatever way its file is called.
#[test]
fn what_runs_publish_is_theirs_by_every_way_to_it() {
    let sink = "{ sqlite: { path: out/s.db, table: \"T{{ stream }}\" }, datapackage: false }";
    let (project, _server) = streams(&["a", "b"], sink);
    let csv = project.path().join("pipelines/more.yaml");
    let pipeline = fs::read_to_string(project.path().join("pipelines/items.yaml")).expect("a file");
    let pipeline = pipeline.replace(
        sink,
        "{ csv: \"out/d_{{ stream }}.csv\", datapackage: false }",
    );
    fs::write(csv, pipeline).expect("written");
    assert_eq!(project.run(&["run", "more"]).code, Some(0));
    std::os::unix::fs::symlink("out", project.path().join("link")).expect("a link");
    std::os::unix::fs::symlink("out/s.db", project.path().join("one.db")).expect("a link");
    let before = project.files();
    let bytes = || {
        before
            .iter()
            .filter(|path| path.starts_with(project.path().join("out")))
            .map(|path| fs::read(path).expect("a file"))
            .collect::<Vec<_>>()
    };
    let were = bytes();
    for (name, stream, to, out) in [
        ("items", "a", "csv", "out/s.db"),
        ("items", "a", "csv", "link/s.db"),
        ("items", "a", "ndjson", "one.db"),
        ("items", "b", "csv", "pipelines/../out/d_a.csv"),
        ("items", "b", "csv", "link/d_a.csv"),
        ("more", "a", "sqlite", "out/d_b.csv"),
        ("more", "a", "ndjson", "pipelines/../out/./d_b.csv"),
    ] {
        let said = project.run(&[
            "convert", name, "--stream", stream, "--to", to, "--out", out,
        ]);
        assert_eq!(said.code, Some(2), "{out}: {}", said.shown);
        assert!(
            said.shown.contains("is published by runs"),
            "{}",
            said.shown
        );
        assert_eq!(bytes(), were, "{out}");
    }
    // A table called otherwise is free.
    let to = [
        "convert",
        "more",
        "--stream",
        "a",
        "--to",
        "sqlite",
        "--out",
        "link/s.db",
    ];
    let said = project.run(&to);
    assert_eq!(said.code, Some(0), "{}", said.shown);
}

/// Two outputs that would be one are told of before anything is written.
#[test]
fn no_conversion_takes_the_place_of_another() {
    let (project, _server) = streams(&["A", "a", "b"], "{ csv: \"data/{{ stream }}1.csv\" }");
    let to = ["convert", "items", "--to", "sqlite", "--out", "x.db"];
    let said = project.run(&to);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    assert!(
        said.shown.contains("A and a would both be written to"),
        "{}",
        said.shown
    );
    assert!(!project.path().join("x.db").exists());
    let one = |stream, out| {
        let to = [
            "convert", "items", "--stream", stream, "--to", "sqlite", "--out", out,
        ];
        let said = project.run(&to);
        assert_eq!(said.code, Some(0), "{}", said.shown);
    };
    one("A", "x.db");
    one("a", "y.db");
    // Side by side they are files of their own.
    let said = project.run(&["convert", "items", "--to", "parquet"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);

    // A stream that has the format already keeps the others from being half done.
    let sinks = "[{ ndjson: \"data/{{ stream }}.ndjson\" }]";
    let (project, _server) = streams(&["a"], sinks);
    let said = project.run(&["convert", "items", "--to", "ndjson"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    assert!(
        said.shown.contains("a is published as ndjson alone"),
        "{}",
        said.shown
    );
    assert!(
        said.shown.contains("another format with --to"),
        "{}",
        said.shown
    );
}

/// Rows of streams that write one table stand once in what becomes of it.
#[test]
fn a_table_that_streams_share_is_converted_once() {
    let (project, _server) = streams(&["a", "b"], "{ csv: data/all.csv }");
    let good = |args: &[&str]| {
        let said = project.run(args);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        said.stdout
    };
    // As the state knows, and as datapackage.json tells.
    for _ in 0..2 {
        let said = good(&["convert", "data/all.csv", "--to", "sqlite"]);
        assert_eq!(said.lines().count(), 1, "{said}");
        let said = good(&["convert", "items", "--to", "sqlite", "--out", "x.db"]);
        assert!(said.starts_with("a, b: 4 rows in x.db#all ("), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let rows = Connection::open(project.path().join("x.db")).expect("a database");
        let text = "SELECT count(*) || ' ' || (SELECT group_concat(name) FROM sqlite_schema
                    WHERE type = 'table' AND name NOT LIKE '!_%' ESCAPE '!') FROM \"all\"";
        let rows: String = rows.query_row(text, [], |row| row.get(0)).expect("rows");
        assert_eq!(rows, "4 all");
        let said = good(&["convert", "items", "--stream", "b", "--to", "parquet"]);
        assert!(
            said.starts_with("a, b: 4 rows in data/all.parquet ("),
            "{said}"
        );
        let said = good(&["describe", "items"]);
        assert_eq!(said.matches("4 rows in data/all.csv").count(), 1, "{said}");
        let told: serde_json::Value =
            serde_json::from_str(&good(&["describe", "data/", "--format", "json"])).expect("JSON");
        assert_eq!(told[0]["streams"], serde_json::json!(["a", "b"]), "{told}");
        assert_eq!(told.as_array().map(Vec::len), Some(1), "{told}");
        let state = project.path().join(".gleaner");
        if state.exists() {
            fs::remove_dir_all(state).expect("removed");
        }
    }
    // Runs that add: one table of all files.
    let sink = "{ csv: out/parts, mode: append }";
    let (project, _server) = streams(&["a", "b"], sink);
    assert_eq!(project.run(&["run", "items"]).code, Some(0));
    let said = project.run(&["convert", "items", "--to", "ndjson"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(
        said.stdout
            .starts_with("a, b: 8 rows in out/parts.ndjson ("),
        "{}",
        said.shown
    );
}

/// A project that was moved knows its outputs by what is beside them.
#[test]
fn a_project_that_was_moved_finds_its_outputs() {
    let server = Server::says(Reply::json(r#"[{"id":1},{"id":2}]"#));
    let pipeline = format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams: {{ items: {{ get: /items }} }}\n\
         sink: {{ csv: data/items.csv }}\n",
        server.url()
    );
    let project = Project::new(&pipeline).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let before: Vec<_> = fs::read_dir(project.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    let moved = project.path().join("moved");
    fs::create_dir(&moved).expect("a folder");
    for path in before {
        fs::rename(&path, moved.join(path.file_name().expect("a name"))).expect("moved");
    }
    let args = ["describe", "items"];
    let said = project.command(&args).current_dir(&moved).output();
    let said = project.said(&args, &said.expect("it ran"));
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(said.stdout.contains("2 rows"), "{}", said.shown);
}
