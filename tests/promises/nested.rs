//! Nested Parquet: objects and arrays are structs and lists with types, and every reader has the values
//! that the API sent (Into the notebook; docs/types.md).

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::parts::part;
use crate::scene::{Project, Reply, Server};

const BODY: &str = r#"[
 {"id":7,"user":{"login":"ada","id":9007199254740993,"since":"2024-05-01T12:00:00+02:00","plan":{"name":"pro","price":1.5}},
  "labels":[{"name":"bug","color":"f00"},{"name":"\u00fc","color":null,"uses":3}],"grid":[[1,2],[],null],"mixed":1,"hollow":{},"odd.name":{"a.b":true,"\"":"q"}},
 {"id":-3,"user":{"login":null,"plan":null},"labels":[],"grid":null,"mixed":{"a":1},"hollow":null,"odd.name":{}},
 {"id":9,"user":null,"labels":null,"mixed":"x"},
 {"id":8,"user":{"plan":{"price":2}},"labels":[null,{"uses":4}],"grid":[],"odd.name":{"a.b":null}}]"#;

fn project(server: &Server, sink: &str, more: &str) -> Project {
    let pipeline = format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n  items: {{ get: /items{more} }}\nsink: {sink}\n",
        server.url()
    );
    Project::new(&pipeline).knows(server)
}

/// What `tests/real/nested.py` finds in a file.
#[track_caller]
fn read_by_others(project: &Project, file: &Path) {
    let body = project.path().join("body.json");
    fs::write(&body, BODY).expect("a file");
    let output = Command::new(part("data/bin/python"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/nested.py"))
        .args([file, &body])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
}

#[test]
fn objects_and_arrays_are_structs_and_lists_to_every_reader() {
    let server = Server::says(Reply::json(BODY));
    let sink = "{ parquet: { path: data/items.parquet, nested: true } }";
    let project = project(&server, sink, "");
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let file = project.path().join("data/items.parquet");
    read_by_others(&project, &file);
    // It can be read back here too: a column with structure is JSON in other formats.
    let said = project.run(&["convert", "items", "--to", "ndjson"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let lines = fs::read_to_string(project.path().join("data/items.ndjson")).expect("a file");
    let first = lines.lines().next().expect("a line");
    assert_eq!(
        first,
        concat!(
            r#"{"id":7,"user":{"login":"ada","id":9007199254740993,"since":"2024-05-01T10:00:00Z","plan":{"name":"pro","price":1.5}},"#,
            r#""labels":[{"name":"bug","color":"f00","uses":null},{"name":"ü","color":null,"uses":3}],"grid":[[1,2],[],null],"#,
            r#""mixed":1,"hollow":{},"odd.name":{"a.b":true,"\"":"q"}}"#
        )
    );
    let said = project.run(&["describe", "items", "--format", "json"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(
        said.stdout.contains(r#""name": "labels""#),
        "{}",
        said.stdout
    );
}

#[test]
fn declared_columns_have_structure_where_no_type_says_otherwise() {
    let server = Server::says(Reply::json(BODY));
    let sink = "{ parquet: { path: data/items.parquet, nested: true } }";
    let columns =
        ", columns: { id: , who: user, plan: user.plan, text: { from: labels, type: json } }";
    let project = project(&server, sink, columns);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let script = "import sys, pyarrow.parquet as pq\n\
        s = pq.read_schema(sys.argv[1])\n\
        print(s.names, [str(s.field(n).type)[:6] for n in s.names])";
    let output = Command::new(part("data/bin/python"))
        .args(["-c", script])
        .arg(project.path().join("data/items.parquet"))
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        said.trim(),
        "['id', 'who', 'plan', 'text'] ['int64', 'struct', 'struct', 'string']"
    );
}

#[test]
fn what_was_published_as_lines_becomes_nested_too() {
    let server = Server::says(Reply::json(BODY));
    let project = project(&server, "{ ndjson: data/items.ndjson }", "");
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let said = project.run(&["convert", "items", "--to", "parquet", "--nested"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let flat = project.run(&["convert", "items", "--to", "csv", "--nested"]);
    assert_eq!(flat.code, Some(2), "{}", flat.shown);
    let script =
        "import sys, pyarrow.parquet as pq\nprint(pq.read_table(sys.argv[1])['labels'][1].as_py())";
    let output = Command::new(part("data/bin/python"))
        .args(["-c", script])
        .arg(project.path().join("data/items.parquet"))
        .output()
        .expect("python runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "[]");
}
