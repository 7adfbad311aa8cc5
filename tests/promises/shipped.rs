//! Every file in `pipelines/` names its schema and the day on which its limits were checked, and is
//! run: the demo here, all others by the suite `apis`, against the plays in `tests/apis/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use gleaner::clock::Clock;
use gleaner::disk::Disk;
use gleaner::failure::Exit;
use gleaner::harvest::events::Events;
use gleaner::harvest::summary::Summary;
use gleaner::harvest::{Harvest, Options, World};
use gleaner::plan::Plan;
use gleaner::plan::auth::AuthPlan;
use gleaner::plan::compile::{Overrides, compile};
use gleaner::sim::demo;
use gleaner::sim::{MemoryTransport, Route, Rules, SimApi};
use gleaner::spec::load;

use gleaner::sim::in_stopped_time;

// ---- running ---------------------------------------------------------------------------------

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Reads and checks a shipped pipeline, with its own variables.
fn plan(name: &str) -> Plan {
    let path = project().join("pipelines").join(format!("{name}.yaml"));
    let written = load::read(&path).unwrap_or_else(|e| panic!("{name}: {e:#?}"));
    compile(&written, &Overrides::default()).unwrap_or_else(|e| panic!("{name}: {e:#?}"))
}

/// What a run left behind.
struct Ran {
    summary: Summary,
    api: Arc<SimApi>,
    root: tempfile::TempDir,
}

/// Runs a shipped pipeline against `rules` in stopped time.
fn run(name: &str, rules: Rules) -> Ran {
    let root = tempfile::tempdir().expect("a temporary folder");
    let (summary, api) = in_stopped_time(async {
        let clock = Clock::simulated("2026-11-22T02:30:00Z".parse().expect("an instant"));
        let api = SimApi::with_clock(rules, clock);
        let (_asks, stop) = tokio::sync::watch::channel(false);
        let world = World {
            clock,
            transport: MemoryTransport::shared(Arc::clone(&api)),
            disk: Disk::system(),
            root: root.path().to_owned(),
            events: Events::new(clock, |_| {}),
            stop,
        };
        let harvest = Harvest::open(plan(name), world, Options::default())
            .unwrap_or_else(|f| panic!("{name}: {f:?}"));
        (harvest.run().await, api)
    });
    let failures: Vec<_> = summary
        .streams
        .iter()
        .filter_map(|stream| stream.failure.as_ref())
        .collect();
    assert_eq!(summary.exit, Exit::Complete, "{name}: {failures:#?}");
    assert_eq!(api.audit().refusals(), 0, "{name}: the stand-in refused");
    Ran { summary, api, root }
}

impl Ran {
    fn csv(&self, path: &str) -> Vec<Vec<String>> {
        csv::ReaderBuilder::new()
            .has_headers(false)
            .from_path(self.root.path().join(path))
            .unwrap_or_else(|e| panic!("{path}: {e}"))
            .records()
            .map(|row| {
                row.expect("well-formed CSV")
                    .iter()
                    .map(str::to_owned)
                    .collect()
            })
            .collect()
    }
}

/// Checks that no two rows share the cell in `column`, and returns how many there are.
fn distinct(rows: &[Vec<String>], column: usize) -> usize {
    let seen: BTreeSet<_> = rows.iter().map(|row| &row[column]).collect();
    assert_eq!(seen.len(), rows.len(), "each row once");
    rows.len()
}

// ---- the files -------------------------------------------------------------------------------

#[test]
fn every_file_is_run() {
    let shipped: BTreeSet<String> = fs::read_dir(project().join("pipelines"))
        .expect("the folder is there")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    for name in shipped.iter().filter(|name| *name != "demo") {
        let play = project().join(format!("tests/apis/{name}.play.yaml"));
        assert!(play.exists(), "{name} has no play in tests/apis");
    }
    assert!(shipped.contains("demo"));
    for name in &shipped {
        let source = plan(name).source;
        // Who sends no key is known by the contact alone; the demo speaks to this machine.
        assert!(
            name == "demo" || !matches!(source.auth, AuthPlan::None) || source.contact.is_some(),
            "{name} names a contact"
        );
        let text = fs::read_to_string(project().join(format!("pipelines/{name}.yaml")));
        let text = text.expect("the file is text");
        assert!(
            text.starts_with("# yaml-language-server: $schema=../docs/pipeline.schema.json\n"),
            "{name} names its schema"
        );
        assert!(
            name == "demo" || text.contains("checked on 2026-"),
            "{name} says when its limits were checked"
        );
    }
}

#[test]
fn whole_files_in_the_docs_pass_check() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("it.yaml");
    let mut seen = 0;
    for page in ["README.md", "docs/language.md"] {
        let text = fs::read_to_string(project().join(page)).expect("the page is text");
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            if !(block.contains("source:\n") && block.contains("streams:\n")) {
                continue;
            }
            seen += 1;
            fs::write(&path, block).expect("a file");
            let written = load::read(&path).unwrap_or_else(|e| panic!("{page}: {e:#?}"));
            compile(&written, &Overrides::default()).unwrap_or_else(|e| panic!("{page}: {e:#?}"));
        }
    }
    assert_eq!(seen, 2, "one whole file on each page");
}

#[test]
fn demo_runs_against_its_pretend_api() {
    let mut rules = demo::demo_api();
    for route in &mut rules.routes {
        route.origin = Some("http://127.0.0.1:8080".to_owned());
    }
    let ran = run("demo", rules);
    let articles = ran.csv("data/demo/articles.csv");
    let events = ran.csv("data/demo/events.csv");
    let id = |rows: &[Vec<String>]| rows[0].iter().position(|name| name == "id").expect("an id");
    assert_eq!(
        distinct(&articles[1..], id(&articles)),
        demo::ARTICLES_IN.iter().sum::<usize>()
    );
    assert_eq!(distinct(&events[1..], id(&events)), demo::EVENT_COUNT);
    assert_eq!(ran.api.audit().faults(), demo::FAULTS);
    assert!(ran.api.audit().max_in_window(demo::WINDOW) <= demo::LIMIT);
    assert_eq!(ran.summary.streams.len(), 2);
}

#[test]
fn usgs_earthquakes_with_nothing_to_tell() {
    let empty = Route::fixed("/fdsnws/event/1/query", 204, &[], "");
    let rules = Rules {
        routes: vec![empty.at("https://earthquake.usgs.gov")],
        ..Rules::default()
    };
    let ran = run("usgs_earthquakes", rules);
    assert_eq!(ran.summary.streams[0].records, 0);
}
