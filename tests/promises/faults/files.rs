//! Faults 32 to 34 and 36: columns that come and go, cells with everything in them, names that
//! climb, and variables that are not there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use gleaner::sim::{Dataset, Latency, Listing, Paging, Route, Rules};

use super::pipeline;
use crate::fixture::Scene;
use crate::parts::part;
use crate::scene::{Project, Reply, Server};

fn csv(stream: &str) -> String {
    pipeline(", concurrency: 16", stream)
        .replace("concurrency: 4, ", "")
        .replace("ndjson: out/a.ndjson", "csv: out/a.csv")
}

fn served(records: Vec<String>, latency: Latency) -> Rules {
    let listing = Listing::new(Dataset::from_texts(records), Paging::page_total("n")).size(10);
    Rules {
        routes: vec![Route::list("/a", listing)],
        latency,
        ..Rules::default()
    }
}

// ---- 32 --------------------------------------------------------------------------------------

#[test]
fn f32_columns_stand_in_the_same_order_however_pages_came() {
    // Each page brings a column of its own, and `v` is of another type on each.
    let kinds = ["1", "1.5", "\"one\"", "true", "null", "[1,2]", "{\"w\":1}"];
    let records = || {
        (0..200)
            .map(|id: usize| {
                let page = id / 10;
                format!(
                    r#"{{"id":{id},"v":{},"c{}":"{page}"}}"#,
                    kinds[page % kinds.len()],
                    (page * 7) % 20
                )
            })
            .collect::<Vec<_>>()
    };
    let pages = "pages: { page: { to: page, total: n } }";
    let one = csv(pages).replace("concurrency: 16", "concurrency: 1");
    let calm = Scene::new(&one, served(records(), Latency::None))
        .run()
        .complete();
    let wanted = calm.text("out/a.csv");
    let mut header = "id,v".to_owned();
    for page in 0..20 {
        write!(header, ",c{}", page * 7 % 20).expect("to a string");
        if page == 6 {
            header.push_str(",v.w");
        }
    }
    let shown = wanted.lines().next().expect("a header");
    let mut got: Vec<&str> = shown.split(',').collect();
    let mut expected: Vec<&str> = header.split(',').collect();
    assert_eq!(got[0], "id");
    got.sort_unstable();
    expected.sort_unstable();
    assert_eq!(got, expected);
    for seed in 0..10 {
        let weather = Latency::Between(Duration::ZERO, Duration::from_secs(3), seed);
        let ran = Scene::new(&csv(pages), served(records(), weather))
            .run()
            .complete();
        assert!(ran.text("out/a.csv") == wanted, "seed {seed}");
    }
}

#[test]
fn f32_five_thousand_columns() {
    let record = |from: usize| {
        let members: Vec<String> = (from..from + 5000)
            .map(|n| format!(r#""k{n}":{n}"#))
            .collect();
        format!("{{{}}}", members.join(","))
    };
    let records = vec![record(0), record(1)];
    let ran = Scene::new(
        &csv("pages: { page: { to: page, total: n } }"),
        served(records, Latency::None),
    )
    .run()
    .complete();
    let text = ran.text("out/a.csv");
    let rows: Vec<Vec<&str>> = text.lines().map(|row| row.split(',').collect()).collect();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.len() == 5001));
    assert_eq!(
        (rows[0][5000], rows[1][5000], rows[2][5000]),
        ("k5000", "", "5000")
    );
    assert_eq!((rows[1][0], rows[2][0]), ("0", ""));
}

// ---- 33 --------------------------------------------------------------------------------------

/// Reads a CSV file as others do, and prints the rows as JSON.
const READER: &str = "
import csv, json, sys
csv.field_size_limit(1 << 30)
with open(sys.argv[1], newline='', encoding='utf-8') as file:
    print(json.dumps(list(csv.reader(file))))
";

#[test]
fn f33_cells_with_everything_in_them_are_read_back_the_same() {
    let cells = [
        "plain".to_owned(),
        "a \"quoted\" word, and a comma".to_owned(),
        "\"".to_owned(),
        "two\nlines".to_owned(),
        "two\r\nlines".to_owned(),
        "one\rreturn".to_owned(),
        "\r".to_owned(),
        "=1+1".to_owned(),
        "+49 30 1234".to_owned(),
        "-5".to_owned(),
        "@SUM(A1)".to_owned(),
        "\tindented".to_owned(),
        "  spaces  ".to_owned(),
        "nothing\u{0}ness".to_owned(),
        "👩‍👩‍👧 Übergröße 東京".to_owned(),
        "\u{feff}mark".to_owned(),
        "\u{2028}\u{85}\u{b}\u{c}\u{1c}".to_owned(),
        "\\N \\\" '".to_owned(),
        "x\"\n,".repeat(2_500_000),
    ];
    let records: Vec<String> = cells
        .iter()
        .enumerate()
        .map(|(id, cell)| serde_json::json!({ "id": id, "cell": cell, "last": "z" }).to_string())
        .collect();
    let ran = Scene::new(
        &csv("pages: { page: { to: page, total: n } }"),
        served(records, Latency::None),
    )
    .run()
    .complete();
    let path = ran.path("out/a.csv");
    let mut wanted = vec![vec!["id".to_owned(), "cell".to_owned(), "last".to_owned()]];
    wanted.extend(
        cells
            .into_iter()
            .enumerate()
            .map(|(id, cell)| vec![id.to_string(), cell, "z".to_owned()]),
    );
    // A crate of the same language, and the reader that most people have.
    let read: Vec<Vec<String>> = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_path(&path)
        .expect("the file")
        .records()
        .map(|row| row.expect("a row").iter().map(str::to_owned).collect())
        .collect();
    assert!(read == wanted, "the csv crate reads something else");
    let python = Command::new(part("py/bin/python"))
        .args(["-c", READER])
        .arg(&path)
        .stderr(Stdio::inherit())
        .output()
        .expect("tests/run installs it");
    let read: Vec<Vec<String>> = serde_json::from_slice(&python.stdout).expect("rows");
    for (n, (read, wanted)) in read.iter().zip(&wanted).enumerate() {
        assert!(
            read == wanted,
            "Python's csv reads row {n} otherwise: {:.80}",
            read[1]
        );
    }
    assert_eq!(read.len(), wanted.len());
}

// ---- 34 --------------------------------------------------------------------------------------

/// Every file below a folder, from there.
fn below(folder: &Path, from: &Path, into: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            below(&path, from, into);
        } else {
            let relative = path.strip_prefix(from).expect("below");
            into.push(relative.to_string_lossy().into_owned());
        }
    }
}

#[test]
fn f34_names_that_climb_hide_or_are_too_long_stay_inside() {
    let server = Server::says(Reply::json(r#"[{"id":1}]"#));
    let long = "x".repeat(300);
    for name in [
        "..",
        ".",
        "a/b",
        "../a",
        "/a",
        "a\\\\b",
        "a\\0b",
        "a\\nb",
        "a\\e[2Jb",
        ".a",
        "CON",
        "a b",
        "-rf",
        "~",
        "%2e%2e",
        "\\u202Egpj.a",
        long.as_str(),
    ] {
        for sink in [
            "data/{{ stream }}.csv",
            "data/{{ stream }}/rows.csv",
            "{{ stream }}",
            "data/{{ stream }}/",
            "{{ stream }}/",
            "./",
        ] {
            // What is added to a folder is told of beside that folder; that of the project, inside.
            let adds = sink.ends_with('/');
            let mode = if adds { "append" } else { "replace" };
            let project = Project::new("");
            project.write(
                "inner/pipelines/items.yaml",
                &format!(
                    "source: {{ url: \"{}\", limits: none }}\nstreams:\n  \"{name}\":\n    get: /items\nsink:\n  csv: \"{sink}\"\n  mode: {mode}\n",
                    server.url()
                ),
            );
            project.write("inner/data/.keep", "");
            let inner = project.path().join("inner");
            let output = project
                .command(&["run", "items"])
                .current_dir(&inner)
                .output()
                .expect("it starts");
            let said = project.said(&["run", "items"], &output);
            let code = said.code.expect("an end");
            assert!([0, 1, 2, 4, 73].contains(&code), "{name}: {}", said.shown);
            assert!(
                !said.stderr.contains('\u{1b}'),
                "{name}: an escape on the screen"
            );
            let mut files = Vec::new();
            below(project.path(), project.path(), &mut files);
            files.retain(|file| !file.starts_with("inner/.gleaner"));
            files.sort();
            let known = [
                "data/items.csv",
                "inner/data/.keep",
                "inner/pipelines/items.yaml",
                "pipelines/items.yaml",
            ];
            let (told, new): (Vec<&String>, Vec<&String>) = files
                .iter()
                .filter(|file| !known.contains(&file.as_str()))
                .partition(|file| file.ends_with("/datapackage.json"));
            for known in known {
                assert!(
                    files.iter().any(|file| file == known),
                    "{name}: {known} is gone"
                );
            }
            assert_eq!(
                new.len(),
                usize::from(code == 0),
                "{name} in {sink}: {new:?}\n{}",
                said.shown
            );
            assert!(new.iter().all(|file| file.starts_with("inner/")), "{new:?}");
            let beside = new.iter().map(|file| {
                let folder = Path::new(file).parent().expect("a folder");
                let above = folder
                    .parent()
                    .filter(|_| adds && folder != Path::new("inner"));
                above.unwrap_or(folder).join("datapackage.json")
            });
            let told: Vec<PathBuf> = told.iter().map(PathBuf::from).collect();
            assert_eq!(told, beside.collect::<Vec<_>>(), "{name} in {sink}");
            assert!(
                told.iter().all(|file| file.starts_with("inner")),
                "{told:?}"
            );
        }
    }
}

// ---- 36 --------------------------------------------------------------------------------------

#[test]
fn f36_a_variable_that_is_not_set_is_named_before_any_request() {
    let server = Server::says(Reply::json(r#"[{"id":1}]"#));
    let project = Project::new(&format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n  items:\n    get: \"/items/{{{{ env.PLACE_OF_ITEMS }}}}\"\nsink:\n  csv: data/items.csv\n",
        server.url()
    ));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    assert!(said.stderr.contains("PLACE_OF_ITEMS"), "{}", said.shown);
    project.is_untouched();
    assert_eq!(server.heard(), [""; 0]);
}
