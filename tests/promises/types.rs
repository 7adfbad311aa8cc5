//! Outputs that others read: what an API sent comes back equal from every format, by every program that
//! people read them with, or is refused as docs/types.md says (Into the notebook, round trips).

use std::fs;
use std::process::Command;

use crate::parts::part;
use crate::scene::{Project, Reply, Server};

/// Runs `tests/real/readback.py` with the Python that has the readers.
fn readback(what: &str, folder: &std::path::Path) -> (bool, String) {
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

/// Hostile values in every format: quotes, line ends, NUL, emoji, formulas, 10 MB cells, integers of 25
/// digits, 1e400, 00123, mixed types; and 5,000 columns.
#[test]
fn hostile_values_come_back_from_every_format() {
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
    let (good, said) = readback("check", project.path());
    assert!(good, "{said}");
    // Nothing was passed over: three bodies by nine readers, and those of JSON.
    assert!(said.lines().count() >= 33, "{said}");
}

/// The same data make the same file, whatever the run is called and when it was.
#[test]
fn parquet_files_name_the_plan_and_not_the_run() {
    let server = Server::says(Reply::json(
        r#"[{"id":1,"at":"2024-05-01T00:00:00Z","n":0.5},{"id":2,"at":null,"n":null}]"#,
    ));
    let pipeline = format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n  items: {{ get: /items }}\n\
         sink: {{ parquet: data/items.parquet }}\n",
        server.url()
    );
    let project = Project::new(&pipeline).knows(&server);
    let mut files = Vec::new();
    for _ in 0..2 {
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        files.push(fs::read(project.path().join("data/items.parquet")).expect("a file"));
    }
    assert!(files[0] == files[1], "two runs made two files");
    let text = String::from_utf8_lossy(&files[0]).into_owned();
    for told in ["gleaner.plan", "gleaner.pipeline", "gleaner.stream"] {
        assert!(text.contains(told), "{told}");
    }
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
