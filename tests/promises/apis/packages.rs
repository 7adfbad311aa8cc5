//! What shipped pipelines publish, read by programs of others: `frictionless` validates the
//! `datapackage.json` of every output, and notebooks execute from top to bottom.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use gleaner::failure::Exit;
use serde_json::Value as Json;

use super::PAIRS;
use super::play::{Pair, project};
use super::show::{Cast, Show, perform, plan};
use super::stage::Upset;
use crate::parts::part;
use crate::scene::{Project, Reply, Server};

/// The Python that `tests/run` has put the readers into.
fn python(script: &str) -> Command {
    let mut command = Command::new(part("data/bin/python"));
    command.arg(project().join("tests/real").join(script));
    command
}

/// Harvests a shipped pipeline; its file is in the project afterwards.
fn harvest(pair: &'static Pair) -> Show {
    let plan = plan(&pair.name, &pair.pipeline).expect("a plan");
    let show = perform(Cast::new(pair), plan, Upset::default()).expect("a run");
    let exit = show.summary.exit;
    assert!(
        matches!(exit, Exit::Complete | Exit::Held),
        "{}: {}",
        pair.name,
        show.failures()
    );
    let folder = show.root.path().join("pipelines");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(format!("{}.yaml", pair.name)), &pair.pipeline).expect("written");
    show
}

fn shipped() -> impl Iterator<Item = &'static Pair> {
    PAIRS.iter().filter(|pair| pair.shipped)
}

/// Every `datapackage.json` below a folder.
fn packages(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            packages(&path, found);
        } else if path
            .file_name()
            .is_some_and(|name| name == "datapackage.json")
        {
            found.insert(path);
        }
    }
}

#[test]
fn frictionless_validates_the_outputs_of_every_shipped_pipeline() {
    let (mut all, mut shows) = (BTreeSet::new(), Vec::new());
    for pair in shipped() {
        let show = harvest(pair);
        let mut found = BTreeSet::new();
        packages(show.root.path(), &mut found);
        let mut told = BTreeSet::new();
        for place in &found {
            let package: Json =
                serde_json::from_slice(&std::fs::read(place).expect("it")).expect("JSON");
            for resource in package["resources"].as_array().expect("a list") {
                told.insert(place.with_file_name(resource["path"].as_str().expect("a path")));
            }
        }
        let published = show.summary.streams.iter().flat_map(|stream| &stream.files);
        let published: BTreeSet<PathBuf> = published.map(|file| file.path.clone()).collect();
        assert_eq!(told, published, "{}", pair.name);
        all.extend(found);
        shows.push(show);
    }
    let checked = python("packages.py").args(&all).output().expect("Python");
    let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && all.len() >= 20, "{said}");

    // A row that nobody told of is seen, so the validation looks at the data.
    let first = |place: &&PathBuf| {
        let package = std::fs::read(place).expect("it");
        let package: Json = serde_json::from_slice(&package).expect("JSON");
        place.with_file_name(package["resources"][0]["path"].as_str().expect("a path"))
    };
    let is_csv = |place: &&PathBuf| first(place).extension().is_some_and(|it| it == "csv");
    let place = all.iter().find(is_csv).expect("one of CSV");
    let file = first(&place);
    let mut text = std::fs::read_to_string(&file).expect("text");
    let last = text.lines().last().expect("a line").to_owned();
    text = format!("{text}{last}\n");
    std::fs::write(&file, text).expect("written");
    let checked = python("packages.py").arg(place).output().expect("Python");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(
        !checked.status.success() && said.contains("row-count"),
        "{said}"
    );
}

/// Pipelines whose notebooks are executed in the usual tests; `GLEANER_NOTEBOOKS=FOLDER` takes all
/// of them, and keeps the charts there.
const EXECUTED: [&str; 2] = ["usgs_earthquakes", "github_issues"];

#[test]
fn notebooks_execute_from_top_to_bottom() {
    let kept = std::env::var_os("GLEANER_NOTEBOOKS").map(PathBuf::from);
    let scratch = tempfile::tempdir().expect("a folder");
    let charts = kept.clone().unwrap_or_else(|| scratch.path().to_owned());
    let one = std::env::var("PLAY").ok();
    let wanted = |pair: &Pair| match &one {
        Some(one) => pair.name == *one,
        None => kept.is_some() || EXECUTED.contains(&pair.name.as_str()),
    };
    let (mut notebooks, mut shows) = (Vec::new(), Vec::new());
    for pair in shipped().filter(|pair| wanted(pair)) {
        let show = harvest(pair);
        for engine in ["pandas", "polars", "duckdb"] {
            let place = show
                .root
                .path()
                .join(format!("notebooks/{}.{engine}.ipynb", pair.name));
            let said = Command::new(env!("CARGO_BIN_EXE_gleaner"))
                .current_dir(show.root.path())
                .args(["notebook", &pair.name, "--engine", engine, "--out"])
                .arg(&place)
                .output()
                .expect("the program starts");
            let told = String::from_utf8_lossy(&said.stderr);
            assert!(said.status.success(), "{}, {engine}: {told}", pair.name);
            notebooks.push((place, pair.name.clone()));
        }
        shows.push(show);
    }
    assert!(!notebooks.is_empty());
    let places = notebooks.iter().map(|(place, _)| place);
    let executed = python("notebooks.py")
        .arg(&charts)
        .args(places)
        .output()
        .expect("Python");
    let said = String::from_utf8_lossy(&executed.stdout);
    let wrong = String::from_utf8_lossy(&executed.stderr);
    assert!(executed.status.success(), "{said}{wrong}");
    for (place, name) in &notebooks {
        let stem = place.file_stem().expect("a name").to_string_lossy();
        let drawn = said
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{stem} ")));
        let drawn: usize = drawn.expect("it was executed").parse().expect("a number");
        assert!(
            drawn >= 2 && drawn.is_multiple_of(2),
            "{name}: {drawn} charts in {stem}"
        );
    }
}

/// Records with a column of each type.
fn measured() -> String {
    let record = |n: usize| {
        let (day, hour) = (1 + n % 28, n % 24);
        let city = ["Ulm", "Köln", "NA"][n % 3];
        format!(
            r#"{{"id":{n},"name":"place, \"{n}\"","day":"2026-03-{day:02}","at":"2026-03-{day:02}T{hour:02}:00:00+01:00",
            "ms":{},"city":"{city}","ok":{},"score":{},"value":{}.5,"tags":["a",{n}],"long":{}12345678901234567890,"none":null}}"#,
            1_772_000_000_000_u64 + n as u64 * 3_600_000,
            if n.is_multiple_of(5) {
                "null".to_owned()
            } else {
                n.is_multiple_of(2).to_string()
            },
            n * n % 97,
            n * 7 % 31,
            n + 1,
        )
    };
    let all: Vec<String> = (0..120).map(record).collect();
    format!("[{}]", all.join(","))
}

/// Every format, also packed, in the files of one run or of several.
#[test]
fn notebooks_load_every_format() {
    let server = Server::says(Reply::json(measured()));
    let pipeline = format!(
        r#"source: {{ url: "{}", limits: none }}
defaults: {{ get: /records, key: id }}
streams:
  as_parquet: {{ sink: {{ parquet: data/as.parquet }} }}
  as_lines: {{ sink: {{ ndjson: data/as.ndjson.zst }} }}
  as_cells: {{ sink: {{ csv: {{ path: data/as.csv.gz, delimiter: ";", "null": "\\N" }} }} }}
  more_parquet: {{ sink: {{ parquet: data/more_parquet/, mode: append }} }}
  more_cells: {{ sink: {{ csv: data/more_cells/, mode: append }} }}
  as_table: {{ sink: {{ sqlite: data/all.db, mode: append }} }}
"#,
        server.url()
    );
    let project = Project::new(&pipeline).knows(&server);
    for _ in 0..2 {
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
    }
    let files = [
        "as_parquet",
        "as_lines",
        "as_cells",
        "more_parquet",
        "more_cells",
    ];
    let mut notebooks = Vec::new();
    for engine in ["pandas", "polars", "duckdb"] {
        let mut args = vec!["notebook", "items", "--engine", engine, "--out"];
        let out = format!("notebooks/{engine}.ipynb");
        args.push(&out);
        // DuckDB reads SQLite by an extension, which it fetches from outside.
        let streams = files
            .iter()
            .chain((engine != "duckdb").then_some(&"as_table"));
        args.extend(streams.flat_map(|stream| ["--stream", stream]));
        let said = project.run(&args);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        notebooks.push(project.path().join(&out));
    }
    let kept = std::env::var_os("GLEANER_NOTEBOOKS").map(PathBuf::from);
    let charts = kept.unwrap_or_else(|| project.path().join("charts"));
    let executed = python("notebooks.py")
        .arg(&charts)
        .args(&notebooks)
        .output();
    let executed = executed.expect("Python");
    let said = String::from_utf8_lossy(&executed.stdout);
    let wrong = String::from_utf8_lossy(&executed.stderr);
    assert!(executed.status.success(), "{said}{wrong}");
    for (engine, streams) in [("pandas", 6), ("polars", 6), ("duckdb", 5)] {
        assert!(
            said.contains(&format!("{engine} {}\n", 2 * streams)),
            "{said}"
        );
        let executed = std::fs::read_to_string(charts.join(format!("{engine}.ipynb")));
        let executed: Json = serde_json::from_str(&executed.expect("it")).expect("JSON");
        let loaded = rows_told(&executed);
        // What runs added is there twice.
        let twice = |stream: &str| stream.starts_with("more_") || stream == "as_table";
        for stream in files.iter().chain((streams == 6).then_some(&"as_table")) {
            let rows = if twice(stream) { 240 } else { 120 };
            assert!(
                loaded.contains(&format!("{stream}: {rows} rows")),
                "{engine}: {stream}: {loaded:?}"
            );
        }
    }
}

/// The lines `STREAM: N rows` that a notebook has printed.
fn rows_told(notebook: &Json) -> Vec<String> {
    let cells = notebook["cells"].as_array().expect("cells").iter();
    let printed = cells.map(|cell| -> String {
        // What one line is may come as two outputs: the kernel hands on what it has now and then.
        let outputs = cell["outputs"].as_array().into_iter().flatten();
        let texts = outputs.filter_map(|output| output["text"].as_array());
        texts.flatten().filter_map(Json::as_str).collect()
    });
    let printed: Vec<String> = printed.collect();
    let lines = printed.iter().flat_map(|text| text.lines().map(str::trim));
    let rows = lines.filter(|line| line.ends_with(" rows"));
    rows.map(str::to_owned).collect()
}

/// What the docs show is what the program makes: the example data, byte by byte, and the notebook,
/// cell by cell.
#[test]
fn the_example_is_what_its_command_makes() {
    let scratch = tempfile::tempdir().expect("a folder");
    let run = |folder: &Path, args: &[&str]| {
        let said = Command::new(env!("CARGO_BIN_EXE_gleaner"))
            .current_dir(folder)
            .args(args)
            .output()
            .expect("the program starts");
        let told = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.success(), "{told}");
        String::from_utf8(said.stdout).expect("text")
    };
    run(
        scratch.path(),
        &["demo", "--small", "--into", "data/example", "-q"],
    );
    let read = |folder: &Path, path: &str| std::fs::read(folder.join(path)).expect("a file");
    for file in ["data/example/articles.csv", "data/example/events.csv"] {
        assert!(
            read(scratch.path(), file) == read(&project(), file),
            "{file}"
        );
    }
    let checked = python("packages.py")
        .arg(project().join("data/example/datapackage.json"))
        .output();
    let checked = checked.expect("Python");
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );

    let cells = |notebook: &[u8]| -> Vec<Json> {
        let notebook: Json = serde_json::from_slice(notebook).expect("JSON");
        let cells = notebook["cells"].as_array().expect("cells").iter();
        cells.map(|cell| cell["source"].clone()).collect()
    };
    let docs = project().join("docs/notebooks");
    let made = run(
        &docs,
        &[
            "notebook",
            "demo",
            "--data",
            "../../data/example",
            "--out",
            "-",
        ],
    );
    let shown = read(&docs, "demo.ipynb");
    assert_eq!(
        cells(made.as_bytes()),
        cells(&shown),
        "docs/notebooks.md says how to renew it"
    );
    let text = String::from_utf8(shown).expect("text");
    assert_eq!(text.matches("\"image/png\"").count(), 4, "it was executed");
}
