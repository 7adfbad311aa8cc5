//! Outputs that others read: what an API sent comes back equal from every format, by every program that
//! people read them with, or is refused as docs/types.md says (Into the notebook, round trips).

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::parts::part;
use crate::scene::{Project, Reply, Server, but_the_run};

/// Runs `tests/real/readback.py` with the Python that has the readers.
pub(crate) fn readback(what: &str, folder: &std::path::Path) -> (bool, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/readback.py");
    let output = Command::new(part("data/bin/python"))
        .args([script, what])
        .arg(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python runs");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// An API that answers with hostile values; its bodies are in the folder.
pub(crate) fn hostile() -> (tempfile::TempDir, Server) {
    let bodies = tempfile::tempdir().expect("a folder");
    let (good, said) = readback("make", bodies.path());
    assert!(good, "{said}");
    let folder = bodies.path().to_owned();
    let server = Server::start(move |request| {
        let name = ["hostile", "tame", "wide"];
        let name = name.iter().find(|name| request.contains(*name));
        let path = folder.join(format!("{}.json", name.expect("a known path")));
        Reply::json(fs::read_to_string(path).expect("a body"))
    });
    (bodies, server)
}

/// Hostile values in every format: quotes, line ends, NUL, emoji, formulas, 10 MB cells, integers of 25
/// digits, 1e400, 00123, mixed types; and 5,000 columns.
#[test]
fn hostile_values_come_back_from_every_format() {
    let (_bodies, server) = hostile();
    let pipeline = format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n  hostile: {{ get: /hostile }}\n  \
         tame: {{ get: /tame }}\n  wide: {{ get: /wide }}\nsink:\n  \
         - csv: data/{{{{ stream }}}}.csv\n  - parquet: data/{{{{ stream }}}}.parquet\n  \
         - ndjson: data/{{{{ stream }}}}.ndjson\n",
        server.url()
    );
    let project = Project::new(&pipeline).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    // A table takes no 5,000 columns: that is told, and the others are there.
    let tables = format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n  hostile: {{ get: /hostile }}\n  \
         tame: {{ get: /tame }}\n  wide: {{ get: /wide }}\n\
         sink: {{ sqlite: \"data/{{{{ stream }}}}.db\" }}\n",
        server.url()
    );
    let other = project.path().join("pipelines/tables.yaml");
    fs::write(other, tables).expect("written");
    let said = project.run(&["run", "tables"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(
        said.shown.contains("more than 1,999 different fields"),
        "{}",
        said.shown
    );
    let (good, said) = readback("check", project.path());
    assert!(good, "{said}");
    // Nothing was passed over: three bodies by nine readers, two tables by three, and those of JSON.
    assert!(said.lines().count() >= 43, "{said}");
    // The same out of what the API sent, without a request; then Parquet out of tables.
    let again = tempfile::tempdir().expect("a folder");
    let data = again.path().join("data");
    fs::create_dir(&data).expect("a folder");
    let copy = |file: &str| {
        fs::copy(project.path().join("data").join(file), data.join(file)).expect("a copy");
    };
    let convert = |pipeline: &str, stream: &str, from: &str, to: &str| {
        let out = data.join(format!("{stream}.{to}"));
        let out = out.to_str().expect("a path");
        let said = project.run(&[
            "convert", pipeline, "--stream", stream, "--from", from, "--to", to, "--out", out,
        ]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
    };
    for stream in ["hostile", "tame", "wide"] {
        copy(&format!("{stream}.ndjson"));
        convert("items", stream, "ndjson", "csv");
        convert("items", stream, "ndjson", "parquet");
    }
    copy("hostile.db");
    copy("tame.db");
    let (good, said) = readback("check", again.path());
    assert!(good, "converted: {said}");
    for stream in ["hostile", "tame"] {
        convert("tables", stream, "sqlite", "parquet");
    }
    let (good, said) = readback("check", again.path());
    assert!(good, "converted from tables: {said}");
}

/// The footer names the plan and the run, as pyarrow reads it; all else is the same bytes in each run that
/// finds the same, and a run that is published again has them all.
#[test]
fn parquet_files_name_the_plan_and_the_run_and_differ_in_that_alone() {
    let server = Server::says(Reply::json(
        r#"[{"id":1,"at":"2024-05-01T00:00:00Z","n":0.5},{"id":2,"at":null,"n":null}]"#,
    ));
    let pipeline = format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n  items: {{ get: /items }}\n\
         sink: {{ parquet: data/items.parquet }}\n",
        server.url()
    );
    let project = Project::new(&pipeline).knows(&server);
    let script = "import sys, json, pyarrow.parquet as pq\n\
        told = {k.decode(): v.decode() for k, v in pq.read_metadata(sys.argv[1]).metadata.items()}\n\
        print(json.dumps(told))";
    let footer = |file: &str| -> Value {
        let read = Command::new(part("data/bin/python"))
            .args(["-c", script])
            .arg(project.path().join(file))
            .output();
        let said = read.expect("python runs").stdout;
        serde_json::from_slice(&said).expect("a footer")
    };
    let file = || fs::read(project.path().join("data/items.parquet")).expect("a file");
    let told = || -> Value {
        let text = fs::read(project.path().join("data/datapackage.json")).expect("a file");
        let package: Value = serde_json::from_slice(&text).expect("JSON");
        package["resources"][0]["gleaner"].clone()
    };
    let (mut files, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        done(&project, &["run", "items", "--keep-parts"]);
        let (footer, told) = (footer("data/items.parquet"), told());
        for name in ["plan", "pipeline", "stream", "run"] {
            assert_eq!(footer[format!("gleaner.{name}")], told[name], "{name}");
        }
        files.push(file());
        ids.push(told["run"].as_str().expect("an id").to_owned());
    }
    assert!(ids[0] != ids[1] && files[0] != files[1], "{ids:?}");
    let same = but_the_run(files[0].clone()) == but_the_run(files[1].clone());
    assert!(same, "two runs differ in more than the run");
    done(&project, &["reextract", &ids[1]]);
    assert!(file() == files[1], "published again, it is the same file");
    // What is made of it says which run published that.
    done(&project, &["convert", "items", "--to", "csv"]);
    fs::remove_file(project.path().join("data/items.parquet")).expect("removed");
    let from = project.path().join("pipelines/items.yaml");
    fs::write(
        from,
        pipeline.replace("parquet: data/items.parquet", "csv: data/other.csv"),
    )
    .expect("written");
    done(&project, &["run", "items"]);
    done(&project, &["convert", "items", "--to", "parquet"]);
    let other = footer("data/other.parquet");
    assert_eq!(other["gleaner.run"], told()["run"]);
}

#[test]
fn what_no_machine_type_holds_is_told_before_anything_changes() {
    let server = Server::says(Reply::json(
        r#"[{"id":1,"n":12345678901234567890123},{"id":2,"n":5}]"#,
    ));
    let pipeline = |more: &str| {
        format!(
            "source: {{ url: \"{}\", limits: none }}\nstreams:\n  items:\n    get: /items\n    \
             columns: {{ id: {{ type: integer }}, n: {{ type: integer{more} }} }}\n\
             sink: {{ parquet: data/items.parquet }}\n",
            server.url()
        )
    };
    let project = Project::new(&pipeline("")).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(
        said.shown
            .contains("column `n`: 12345678901234567890123 is beyond the 64 bits"),
        "{}",
        said.shown
    );
    assert!(!project.path().join("data/items.parquet").exists());
    let project = Project::new(&pipeline(", on_bad_value: reject")).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(3), "{}", said.shown);
    let rejects = fs::read_to_string(project.path().join("data/items.parquet.rejects.ndjson"));
    assert!(rejects.expect("a file").contains("12345678901234567890123"));
}

const RECORDS: &str = r#"[{"id":1,"code":"00123","at":"2024-05-01T12:00:00+02:00","n":0.5,"tags":["a"],"long":1},
  {"id":2,"code":"","at":null,"n":1234567,"tags":null,"long":1234567890123456789012345},
  {"id":"3","code":"x","at":"2024-05-02T00:00:00.25Z","n":null,"tags":[],"long":null}]"#;

/// A project whose stream `items` was published with these sinks.
fn published(sinks: &str) -> Project {
    let server = Server::says(Reply::json(RECORDS));
    let pipeline = format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n  items: {{ get: /items }}\nsink: {sinks}\n",
        server.url()
    );
    let project = Project::new(&pipeline).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    project
}

/// A command that sends nothing: its API is gone by now.
#[track_caller]
fn done(project: &Project, args: &[&str]) -> String {
    let said = project.run(args);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    said.stdout
}

#[test]
fn describe_tells_what_was_published() {
    let sinks =
        "[{ ndjson: data/items.ndjson }, { csv: data/items.csv }, { parquet: data/items.parquet }]";
    let project = published(sinks);
    let json = done(&project, &["describe", "items", "--format", "json"]);
    let all: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&all[0]["stream"], &all[0]["format"]),
        (&"items".into(), &"parquet".into())
    );
    assert_eq!(all[0]["rows"], 3);
    let told = |name: &str, what: &str| {
        let columns = all[0]["columns"].as_array().expect("columns").iter();
        let mut named = columns.filter(|column| column["name"] == name);
        named.next().expect("the column")[what].clone()
    };
    for (name, kind, native, nulls) in [
        ("id", "json", "json", 0),
        ("code", "text", "text", 0),
        ("at", "timestamp", "micros", 1),
        ("n", "number", "float64", 1),
        ("tags", "json", "json", 1),
        ("long", "integer", "text", 1),
    ] {
        assert_eq!(told(name, "kind"), kind, "{name}");
        assert_eq!(told(name, "native"), native, "{name}");
        assert_eq!(told(name, "nulls"), nulls, "{name}");
    }
    assert_eq!(told("long", "max"), "1234567890123456789012345");
    assert_eq!(told("at", "min"), "\"2024-05-01T10:00:00Z\"");
    // JSON knows its own types, and says what made a column wider.
    let table = done(&project, &["describe", "items", "--from", "ndjson"]);
    assert!(
        table.contains("items: 3 rows in data/items.ndjson"),
        "{table}"
    );
    assert!(table.contains("integer wide"), "{table}");
    assert!(
        table.contains("`id` was integer (1) until row 3: \"3\""),
        "{table}"
    );
    let markdown = done(
        &project,
        &["describe", "items", "--format", "markdown", "--from", "csv"],
    );
    assert!(
        markdown.contains("| column | type | nulls | least | greatest | examples |"),
        "{markdown}"
    );
    assert!(
        markdown.lines().any(|line| line.starts_with("| code | ")),
        "{markdown}"
    );
    let said = project.run(&["describe", "items", "--stream", "others"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
}

#[test]
fn convert_writes_what_was_published_in_another_format() {
    let project = published("{ ndjson: data/items.ndjson.gz }");
    let said = done(&project, &["convert", "items", "--to", "parquet"]);
    assert!(
        said.contains("items: 3 rows in data/items.parquet"),
        "{said}"
    );
    done(
        &project,
        &[
            "convert",
            "items",
            "--to",
            "csv",
            "--out",
            "share/items.csv.zst",
        ],
    );
    assert!(project.path().join("share/items.csv.zst").exists());
    // What a run publishes is never written over, and nothing is converted to what it is.
    for (args, why) in [
        (&["--to", "ndjson"][..], "is published as ndjson alone"),
        (
            &["--to", "csv", "--out", "data/items.ndjson.gz"],
            "is published by runs",
        ),
        (
            &["--to", "parquet", "--out", "x.parquet.gz"],
            "compressed inside",
        ),
        (
            &["--to", "csv", "--from", "csv"],
            "that is the format it has",
        ),
    ] {
        let said = project.run(&[&["convert", "items"], args].concat());
        assert_eq!(said.code, Some(2), "{}", said.shown);
        assert!(said.shown.contains(why), "{}", said.shown);
    }
}

#[test]
fn types_survive_every_way_between_formats() {
    let project = published("{ parquet: data/items.parquet }");
    done(&project, &["convert", "items", "--to", "ndjson"]);
    let lines = fs::read_to_string(project.path().join("data/items.ndjson")).expect("a file");
    assert_eq!(
        lines,
        concat!(
            r#"{"id":1,"code":"00123","at":"2024-05-01T10:00:00Z","n":0.5,"tags":["a"],"long":1}"#,
            "\n",
            r#"{"id":2,"code":"","at":null,"n":1234567.0,"tags":null,"long":1234567890123456789012345}"#,
            "\n",
            r#"{"id":"3","code":"x","at":"2024-05-02T00:00:00.25Z","n":null,"tags":[],"long":null}"#,
            "\n"
        )
    );
    done(&project, &["convert", "items", "--to", "csv"]);
    let text = fs::read_to_string(project.path().join("data/items.csv")).expect("a file");
    assert_eq!(
        text.replace("\r\n", "\n"),
        "id,code,at,n,tags,long\n1,00123,2024-05-01T10:00:00Z,0.5,\"[\"\"a\"\"]\",1\n\
         2,\"\",,1234567.0,,1234567890123456789012345\n3,x,2024-05-02T00:00:00.25Z,,[],\n"
    );
}

/// A table of SQLite gives back what it was filled with.
#[test]
fn a_table_is_described_and_converted() {
    let project = published("{ sqlite: data/all.db, datapackage: false }");
    let table = done(&project, &["describe", "items"]);
    assert!(
        table.contains("items: 3 rows in data/all.db#items,"),
        "{table}"
    );
    assert!(table.contains("integer wide"), "{table}");
    for to in ["ndjson", "csv", "parquet"] {
        let said = done(&project, &["convert", "items", "--to", to]);
        assert!(
            said.contains(&format!("3 rows in data/items.{to}")),
            "{said}"
        );
    }
    let lines = fs::read_to_string(project.path().join("data/items.ndjson")).expect("a file");
    let number: serde_json::Value = serde_json::from_str("1234567.0").expect("a number");
    let records: Vec<serde_json::Value> = (lines.lines())
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let sent: serde_json::Value = serde_json::from_str(RECORDS).expect("JSON");
    for (got, sent) in records.iter().zip(sent.as_array().expect("records")) {
        for name in ["id", "code", "at", "tags", "long"] {
            assert_eq!(got[name], sent[name], "{name} of {got}");
        }
    }
    assert_eq!((records.len(), &records[1]["n"]), (3, &number));
    // What convert wrote is nobody's output.
    let said = project.run(&["convert", "items", "--to", "csv", "--from", "ndjson"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
}

/// Files that runs added to a folder are one table.
#[test]
fn a_folder_of_files_is_one_output() {
    let project = published("{ csv: data/items/, mode: append }");
    let table = done(&project, &["describe", "items"]);
    assert!(table.contains("items: 3 rows in data/items,"), "{table}");
    done(&project, &["convert", "items", "--to", "parquet"]);
    assert!(project.path().join("data/items.parquet").exists());
}

/// A type never changes in silence: what became wider is told with the value that did it, once, and
/// `expect.schema` holds it with values and their pages.
#[test]
fn a_column_that_became_wider_is_told_and_can_be_held() {
    let bodies = [
        r#"[{"id":1,"n":1,"code":7},{"id":2,"n":2,"code":8}]"#,
        r#"[{"id":1,"n":1,"code":7},{"id":2,"n":2.5,"code":"8a"}]"#,
    ];
    let turn = Arc::new(AtomicUsize::new(0));
    let now = turn.clone();
    let server = Server::start(move |_| Reply::json(bodies[now.load(Ordering::Relaxed)]));
    let pipeline = |more: &str| {
        format!(
            "source: {{ url: \"{}\", limits: none }}\nstreams:\n  items: {{ get: /items{more} }}\n\
             sink: {{ parquet: data/items/, mode: append }}\n",
            server.url()
        )
    };
    let project = Project::new(&pipeline("")).knows(&server);
    let first = done_telling(&project);
    assert!(!first.contains("column `"), "{first}");
    turn.store(1, Ordering::Relaxed);
    let second = done_telling(&project);
    for told in [
        "column `n` was integer in earlier runs and is number: 2.5 in row 2, after 1; what earlier runs added keeps its type",
        "column `code` was integer in earlier runs and is json: \"8a\" in row 2, after 7",
    ] {
        assert!(second.contains(told), "{second}");
    }
    // By now it is known to be so.
    let third = done_telling(&project);
    assert!(!third.contains("column `"), "{third}");

    turn.store(0, Ordering::Relaxed);
    let project = Project::new(&pipeline(", expect: { schema: grow }")).knows(&server);
    done_telling(&project);
    turn.store(1, Ordering::Relaxed);
    let held = project.run(&["run", "items"]);
    assert_eq!(held.code, Some(3), "{}", held.shown);
    let told =
        "`code` was integer and is text (\"8a\" in page 1, record 2, beside 7 in page 1, record 1)";
    assert!(held.shown.contains(told), "{}", held.shown);
    let files = fs::read_dir(project.path().join("data/items")).expect("a folder");
    assert_eq!(files.count(), 1, "nothing was added");
}

/// What a run that ends well tells people.
#[track_caller]
fn done_telling(project: &Project) -> String {
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    said.shown
}

/// The views that docs/outputs.md gives for DuckDB, executed as they stand there.
#[test]
fn the_views_of_the_docs_show_what_was_sent() {
    let server = Server::says(Reply::json(
        r#"[{"id":1,"code":"00123","text":"","who":"NA","n":0.5,"at":"2024-05-01T12:00:00Z"},
            {"id":2,"code":"1.10","text":null,"who":"null","n":null,"at":null}]"#,
    ));
    let pipeline = format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n  issues:\n    get: /issues\n    sink:\n      \
         - csv: data/github_issues/issues.csv\n      - ndjson: data/github_issues/issues.ndjson\n      \
         - parquet: data/github_issues/issues.parquet\n      - sqlite: data/github_issues.db\n  \
         events: {{ get: /events, sink: {{ ndjson: data/events/, mode: append }} }}\n",
        server.url()
    );
    let project = Project::new(&pipeline).knows(&server);
    for _ in 0..2 {
        done(&project, &["run", "items"]);
    }
    let here = env!("CARGO_MANIFEST_DIR");
    let read = Command::new(part("data/bin/python"))
        .arg(format!("{here}/tests/real/views.py"))
        .arg(format!("{here}/docs/outputs.md"))
        .current_dir(project.path())
        .output()
        .expect("python runs");
    let (said, wrong) = (
        String::from_utf8_lossy(&read.stdout).into_owned(),
        String::from_utf8_lossy(&read.stderr).into_owned(),
    );
    assert!(read.status.success(), "{said}{wrong}");
    let views: Vec<Value> = (said.lines())
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let (read, skipped): (Vec<&Value>, Vec<&Value>) =
        views.iter().partition(|view| view["skipped"].is_null());
    // CSV, NDJSON, a folder of it, Parquet; and SQLite, whose extension is not here.
    assert_eq!((read.len(), skipped.len()), (4, 1), "{said}");
    for (nth, view) in read.iter().enumerate() {
        let names = serde_json::json!(["id", "code", "text", "who", "n", "at"]);
        assert_eq!(view["columns"], names, "{view}");
        let rows = view["rows"].as_array().expect("rows");
        // Two runs have added to the folder.
        assert_eq!(rows.len(), if nth == 2 { 4 } else { 2 }, "{view}");
        let (first, last) = (&rows[0], &rows[rows.len() - 1]);
        let cells = |row: &Value| row.as_array().expect("cells")[..5].to_vec();
        let want =
            serde_json::json!([[1, "00123", "", "NA", 0.5], [2, "1.10", null, "null", null]]);
        assert_eq!(
            cells(first),
            want[0].as_array().expect("cells")[..],
            "{view}"
        );
        assert_eq!(
            cells(last),
            want[1].as_array().expect("cells")[..],
            "{view}"
        );
        assert!(
            view["types"][5]
                .as_str()
                .expect("a type")
                .contains("TIMESTAMP"),
            "{view}"
        );
    }
}
