//! Outputs away from the project that made them: what the demo leaves in an empty folder, or somebody
//! hands on, is described, converted and loaded by what its `datapackage.json` tells.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::parts::part;
use crate::scene::{Project, Reply, Server};

/// What the program says in a folder: exit code, standard output, messages.
fn gleaner(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    of(Command::new(env!("CARGO_BIN_EXE_gleaner")), folder, args)
}

fn of(mut program: Command, folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let state = tempfile::tempdir().expect("a folder");
    let output = program
        .args(args)
        .current_dir(folder)
        .env("GLEANER_STATE_DIR", state.path())
        .env("COLUMNS", "120")
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// What it says, which must go well.
fn good(folder: &Path, args: &[&str]) -> String {
    let (code, said, told) = gleaner(folder, args);
    assert_eq!(code, Some(0), "{args:?}: {said}{told}");
    said
}

/// Why it does not, which is a mistake of the command line.
fn refused(folder: &Path, args: &[&str], why: &str) {
    let (code, said, told) = gleaner(folder, args);
    assert_eq!(code, Some(2), "{args:?}: {said}{told}");
    assert!(told.contains(why), "{args:?}: {told}");
}

/// Columns and their types, as `describe --format json` has them.
fn types(folder: &Path, name: &str) -> Vec<(String, String)> {
    let said = good(folder, &["describe", name, "--format", "json"]);
    let all: Value = serde_json::from_str(&said).expect("JSON");
    let outputs = all.as_array().expect("a list").iter();
    let columns = outputs.flat_map(|output| output["columns"].as_array().expect("columns"));
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    columns
        .map(|column| (text(&column["name"]), text(&column["kind"])))
        .collect()
}

/// README's first steps, in an empty folder.
#[test]
fn what_the_demo_leaves_is_described_converted_and_loaded() {
    let empty = tempfile::tempdir().expect("a folder");
    let here = empty.path();
    good(here, &["demo", "--small"]);
    let said = good(here, &["describe", "demo"]);
    assert!(said.starts_with("articles: "), "{said}");
    assert!(
        said.contains(" rows in data/demo/articles.csv, published "),
        "{said}"
    );
    assert!(said.contains("\nevents: "), "{said}");
    let found = types(here, "demo");
    let has = |name: &str, kind: &str| found.contains(&(name.to_owned(), kind.to_owned()));
    assert!(
        has("created_at", "timestamp") && has("locked", "boolean"),
        "{found:?}"
    );

    // Twice: the file that it wrote is its own to replace; those of a run are not.
    for _ in 0..2 {
        let said = good(here, &["convert", "demo", "--to", "parquet"]);
        assert!(said.contains("in data/demo/articles.parquet"), "{said}");
    }
    let told = &[
        "convert", "demo", "--to", "ndjson", "--stream", "events", "--out",
    ];
    refused(
        here,
        &[told.as_slice(), &["data/demo/articles.csv"]].concat(),
        "is published by runs",
    );

    let said = gleaner(here, &["notebook", "demo", "--engine", "polars"]);
    assert_eq!(said.0, Some(0), "{}", said.2);
    let notebook = here.join("notebooks/demo.ipynb");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/notebooks.py");
    let executed = Command::new(part("data/bin/python"))
        .arg(script)
        .args([&here.join("charts"), &notebook])
        .output()
        .expect("Python");
    let said = String::from_utf8_lossy(&executed.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&executed.stderr);
    assert!(executed.status.success(), "{said}{wrong}");
    assert_eq!(said.trim(), "demo 4", "two charts a stream");
    let text = fs::read_to_string(&notebook).expect("a notebook");
    assert!(
        text.contains("events of a pretend newspaper"),
        "it says what it is about"
    );
    // Dates that say only what is new at each tick: all in full, they run into one another.
    let dates = r#"\"date.converter\": \"concise\""#;
    assert!(text.contains(dates), "{text}");
    // Looking leaves no state behind.
    assert!(!here.join(".gleaner").exists());
}

#[test]
fn a_package_is_read_wherever_it_lies() {
    let server = Server::says(Reply::json(
        r#"[{"id":1,"code":"007","at":"2026-01-01T00:00:00Z"},{"id":2,"code":"0x1","at":null}]"#
            .to_owned(),
    ));
    let text = format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n  \
         one: {{ get: /one, sink: {{ csv: out/one.csv }} }}\n  \
         more: {{ get: /more, sink: {{ csv: out/more/, mode: append }} }}\n  \
         rows: {{ get: /rows, sink: {{ sqlite: out/all.db }} }}\n",
        server.url()
    );
    let project = Project::new(&text).knows(&server);
    for _ in 0..2 {
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
    }
    let want: Vec<(String, String)> = [("id", "integer"), ("code", "text"), ("at", "timestamp")]
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .into();
    let thrice = [want.as_slice(); 3].concat();
    let ours = types(project.path(), "items");
    assert_eq!(ours.len(), 9);

    // Handed on: the folder alone, beside no pipeline.
    let away = tempfile::tempdir().expect("a folder");
    fs::rename(project.path().join("out"), away.path().join("given")).expect("moved");
    for name in ["given/datapackage.json", "given/", "./given"] {
        let found = types(away.path(), name);
        assert_eq!(found, ours, "{name}");
    }
    assert_eq!(types(away.path(), "given/one.csv"), want);
    assert_eq!(types(&away.path().join("given"), "one.csv"), want);
    assert_eq!(types(&away.path().join("given"), "items"), thrice);
    let said = good(
        away.path(),
        &["describe", "given/", "--stream", "more", "--format", "json"],
    );
    let more: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        more[0]["rows"], 4,
        "what runs added to a folder is one output: {said}"
    );
    good(away.path(), &["convert", "given/all.db", "--to", "csv"]);
    let csv = fs::read_to_string(away.path().join("given/rows.csv")).expect("converted");
    assert!(csv.contains("007"), "{csv}");
    let told = gleaner(away.path(), &["notebook", "given/", "--out", "-"]);
    assert_eq!(told.0, Some(0), "{}", told.2);
    assert!(told.1.contains("given/datapackage.json"), "{}", told.1);
    good(
        away.path(),
        &["notebook", "items", "--data", "given", "--out", "-"],
    );

    for name in ["describe", "notebook"] {
        refused(away.path(), &[name, "given/two.csv"], "there is nothing at");
        refused(away.path(), &[name, "given/rows.csv"], "tells of");
        refused(away.path(), &[name, "./"], "tells of");
    }
    refused(
        away.path(),
        &["notebook", "other"],
        "there is no pipeline `other`",
    );
    refused(
        away.path(),
        &["describe", "other"],
        "nothing that other published is there",
    );

    // What a package tells of elsewhere is not read.
    let place = away.path().join("given/datapackage.json");
    let text = fs::read_to_string(&place).expect("it");
    fs::write(away.path().join("one.csv"), "secret\r\n1\r\n").expect("written");
    fs::write(&place, text.replace("\"one.csv\"", "\"../one.csv\"")).expect("written");
    let said = good(away.path(), &["describe", "given/"]);
    assert!(
        !said.contains("secret") && !said.contains("one: "),
        "{said}"
    );
}

/// A database that was handed on in a folder that cannot be written, as on a CD or a share of others.
#[cfg(unix)]
#[test]
fn a_table_in_a_folder_that_cannot_be_written_is_read() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    let server = Server::says(Reply::json(r#"[{"id":1},{"id":2}]"#));
    let pipeline = format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n  items: {{ get: /items }}\n\
         sink: {{ sqlite: data/x.db }}\n",
        server.url()
    );
    let project = Project::new(&pipeline).knows(&server);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let given = tempfile::tempdir().expect("a folder");
    for file in ["x.db", "datapackage.json"] {
        let from = project.path().join("data").join(file);
        fs::copy(from, given.path().join(file)).expect("a copy");
    }
    let mode = |mode: u32| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(given.path(), mode).expect("a mode");
    };
    let open = tempfile::tempdir().expect("a folder");
    let describe = || {
        let binary = env!("CARGO_BIN_EXE_gleaner");
        let mut program = Command::new(binary);
        // Nothing keeps root out: `nobody` looks then, with a copy of the program where everybody may go. Another process
        // makes it: a program that this one has open to write while it starts others could not be started.
        if fs::write(given.path().join("probe"), "").is_ok() {
            fs::remove_file(given.path().join("probe")).expect("removed");
            let all = fs::Permissions::from_mode(0o755);
            fs::set_permissions(open.path(), all).expect("a mode");
            let copy = open.path().join("gleaner");
            let copied = Command::new("install")
                .args(["-m", "755", binary])
                .arg(&copy)
                .status();
            assert!(copied.expect("install, of coreutils").success());
            program = Command::new(copy);
            program.uid(65_534);
        }
        of(program, given.path(), &["describe", "x.db"])
    };
    mode(0o555);
    let (code, said, told) = describe();
    assert_eq!(code, Some(0), "{said}{told}");
    assert!(said.contains("items: 2 rows in x.db#items"), "{said}");
    // Rows that stand in a log which cannot be read are not passed over.
    mode(0o755);
    fs::write(given.path().join("x.db-wal"), [1; 64]).expect("a file");
    mode(0o555);
    let (code, said, told) = describe();
    assert_eq!(code, Some(73), "{said}{told}");
    mode(0o755);
}
