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
