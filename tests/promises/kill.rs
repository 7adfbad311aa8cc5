//! Nothing lost, nothing twice: the program is killed at random moments and started again until it
//! is done. The files are those of an undisturbed run, and no committed page is asked for again.
//!
//! `GLEANER_KILL_ROUNDS` says how often, `GLEANER_KILL_SEED` with which seed it begins; `.ci/full`
//! asks for a thousand.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gleaner::clock::Clock;
use gleaner::sim::{Dataset, End, Latency, Listing, Paging, Route, Rules, Server, SimApi};
use rusqlite::{Connection, OptionalExtension as _};

use super::real_time::{millis, pass};
use super::scene::{Project, but_the_run};

/// Rounds of the usual tests.
const ROUNDS: u64 = 30;
/// A round is killed this often at most; then it may end.
const MOST_KILLS: u32 = 8;
/// What the latest process said, for a round that fails.
const SAID: &str = "said";
/// Records of a stream; pages hold ten.
const RECORDS: usize = 150;

/// Every style of paging: name, query, `pages`, and how the API pages.
fn styles() -> Vec<(&'static str, &'static str, &'static str, Paging)> {
    vec![
        (
            "page",
            "per_page: 10",
            "{ page: { to: page, size: per_page } }",
            Paging::page(),
        ),
        (
            "total",
            "per_page: 10",
            "{ page: { to: page, size: per_page, total: n } }",
            Paging::page_total("n"),
        ),
        (
            "offset",
            "limit: 10",
            "{ offset: { to: offset, size: limit } }",
            Paging::offset(),
        ),
        (
            "token",
            "limit: 10",
            "{ token: { from: next_cursor, to: cursor } }",
            Paging::token(End::Null),
        ),
        (
            "next",
            "limit: 10",
            "{ next: next }",
            Paging::next_url(true, End::Absent),
        ),
        ("link", "per_page: 10", "link", Paging::link()),
        (
            "keyset",
            "limit: 10",
            "{ keyset: { field: id, to: after, size: limit } }",
            Paging::keyset(),
        ),
    ]
}

fn data(of: &str) -> Arc<Dataset> {
    let texts = (1..=RECORDS).map(|id| {
        format!(r#"{{"id":{id},"of":"{of}","text":"two\nlines, \"quoted\"","price":{id}.10}}"#)
    });
    Arc::new(Dataset::from_texts(texts))
}

/// An API with a list for each style, one that is merged, and one with partitions.
fn rules() -> Rules {
    let mut routes: Vec<Route> = styles()
        .into_iter()
        .map(|(name, _, _, paging)| {
            Route::list(&format!("/{name}"), Listing::new(data(name), paging))
        })
        .collect();
    let merged = Listing::new(data("merged"), Paging::token(End::Null));
    routes.push(Route::list("/merged", merged));
    // Two streams in one table; of equal keys the later one's records count.
    for side in ["left", "right"] {
        let records = Listing::new(data(side), Paging::token(End::Null));
        routes.push(Route::list(&format!("/{side}"), records));
    }
    for part in 1..=6 {
        let path = format!("/parts/{part}");
        let records = Listing::new(data(&path), Paging::link());
        routes.push(Route::list(&path, records));
    }
    Rules {
        routes,
        latency: Latency::Between(Duration::ZERO, Duration::from_millis(6), 11),
        ..Rules::default()
    }
}

fn pipeline(url: &str, concurrency: u32) -> String {
    let mut yaml = format!(
        "source: {{ url: \"{url}\", limits: none, concurrency: {concurrency} }}\nstreams:\n"
    );
    for (name, query, pages, _) in styles() {
        let _ = writeln!(
            yaml,
            "  {name}: {{ get: /{name}, query: {{ {query} }}, records: data, pages: {pages}, key: id }}"
        );
    }
    yaml.push_str(
        "  parts:\n    for: { part: { range: [1, 6] } }\n    get: \"/parts/{{ part }}\"\n    query: { per_page: 50 }\n    records: data\n    pages: link\n",
    );
    yaml.push_str(
        "  merged: { get: /merged, query: { limit: 10, since: \"{{ cursor.from }}\" }, records: data, pages: { token: { from: next_cursor, to: cursor } }, key: id, cursor: { field: id, format: integer, start: 0 }, sink: [ { csv: out/merged.csv, mode: merge }, { ndjson: out/merged.ndjson, mode: merge }, { parquet: out/merged.parquet, mode: merge } ] }\n",
    );
    yaml.push_str(
        "  left: { get: /left, query: { limit: 10 }, records: data, pages: { token: { from: next_cursor, to: cursor } }, key: id, sink: [ { ndjson: out/both.ndjson }, { csv: out/both.csv.gz } ] }\n  right: { get: /right, query: { limit: 10 }, records: data, pages: { token: { from: next_cursor, to: cursor } }, key: id, sink: [ { ndjson: out/both.ndjson }, { csv: out/both.csv.gz } ] }\n",
    );
    yaml.push_str(
        "sink: [ { ndjson: \"out/{{ stream }}.ndjson\" }, { csv: \"out/{{ stream }}.csv.gz\" }, { parquet: { path: \"out/{{ stream }}.parquet\", nested: true } } ]\n",
    );
    yaml
}

fn outputs(project: &Project) -> BTreeMap<String, Vec<u8>> {
    let folder = project.path().join("out");
    let Ok(entries) = std::fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            let bytes = std::fs::read(&path).expect("readable");
            (name.into_owned(), but_the_run(bytes))
        })
        // It tells of runs and times.
        .filter(|(name, _)| !name.ends_with("datapackage.json"))
        .collect()
}

/// Whether the state says that a run is complete: the kill came before its ledger said so too, and what comes next is another
/// run.
fn is_over(project: &Path, ledger: &Path) -> bool {
    let run = ledger.parent().and_then(Path::file_name).expect("a run");
    // Nothing is mended by looking: at a copy.
    let copy = tempfile::tempdir().expect("a folder");
    for file in ["state.db", "state.db-wal"] {
        let from = project.join(".gleaner").join(file);
        if from.exists() {
            std::fs::copy(from, copy.path().join(file)).expect("a copy");
        }
    }
    let state = Connection::open(copy.path().join("state.db")).expect("a state");
    let text = "SELECT status = 'complete' FROM runs WHERE id = ?1";
    let row = state.query_row(text, [run.to_string_lossy()], |row| row.get(0));
    row.optional().expect("a table of runs").unwrap_or(false)
}

/// Stream, partition and page of every row that is committed in the run that is there.
fn committed(project: &Path) -> HashSet<(String, u64, u64)> {
    let mut rows = HashSet::new();
    for ledger in ledgers(project) {
        if is_over(project, &ledger) {
            continue;
        }
        let bytes = std::fs::read(ledger).expect("a ledger");
        let mut rest = &bytes[..];
        while let Some((head, after)) = rest.split_at_checked(18) {
            let number = |text: &[u8]| {
                let text = std::str::from_utf8(text).ok()?;
                u32::from_str_radix(text, 16).ok()
            };
            let (Some(len), Some(crc)) = (number(&head[..8]), number(&head[9..17])) else {
                break;
            };
            let Some((frame, after)) = after.split_at_checked(len as usize) else {
                break;
            };
            if gleaner::crc::of(frame) != crc {
                break;
            }
            for line in frame.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()) {
                let row: serde_json::Value = serde_json::from_slice(line).expect("JSON");
                if row["row"] == "run_end" {
                    // It is over; what comes next is another run.
                    rows.clear();
                }
                if row["row"] == "page" {
                    let number = |name: &str| row[name].as_u64().expect("a number");
                    let stream = row["stream"].as_str().expect("a name").to_owned();
                    rows.insert((stream, number("partition"), number("page")));
                }
            }
            rest = after;
        }
    }
    rows
}

fn ledgers(project: &Path) -> Vec<PathBuf> {
    let Ok(runs) = std::fs::read_dir(project.join(".gleaner/runs")) else {
        return Vec::new();
    };
    runs.map(|run| run.expect("an entry").path().join("ledger"))
        .filter(|ledger| ledger.exists())
        .collect()
}

/// What an undisturbed run asked and wrote.
struct Truth {
    outputs: BTreeMap<String, Vec<u8>>,
    /// Target → stream, partition, page.
    places: BTreeMap<String, (String, u64, u64)>,
    /// How long one takes that is killed in the rounds, in milliseconds: a machine that is busy needs longer, and all of a run is
    /// to be cut off somewhere.
    took: u64,
}

/// One request at a time tells in which order the pages of each list come.
fn undisturbed(server: &Server) -> Truth {
    let project = Project::new(&pipeline(&server.url(), 1));
    let from = server.api().audit().requests();
    let said = project.run(&["run", "items", "-q"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let entries = server.api().audit().entries().split_off(from);
    let clock = Clock::system();
    let began = clock.now();
    assert!(run_for(&Project::new(&pipeline(&server.url(), 8)), None));
    let took = millis(clock.now().duration_since(began));
    let mut places = BTreeMap::new();
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for entry in &entries {
        let path = entry.target.split('?').next().unwrap_or_default();
        let page = next.entry(path.to_owned()).or_default();
        let place = match path.strip_prefix("/parts/") {
            Some(part) => (
                "parts".to_owned(),
                part.parse::<u64>().expect("n") - 1,
                *page,
            ),
            None => (path.trim_start_matches('/').to_owned(), 0, *page),
        };
        assert!(places.insert(entry.target.clone(), place).is_none());
        *page += 1;
    }
    Truth {
        outputs: outputs(&project),
        places,
        took,
    }
}

/// Runs the program for so long; whether it came to its end before.
fn run_for(project: &Project, life: Option<Duration>) -> bool {
    let said = std::fs::File::create(project.path().join(SAID)).expect("a file");
    let mut child = project
        .command(&["run", "items"])
        .stderr(said)
        .spawn()
        .expect("the program starts");
    if let Some(life) = life {
        pass(life);
        child.kill().expect("a kill");
    }
    let status = child.wait().expect("an end");
    assert!(status.code().is_none_or(|code| code == 0), "{status}");
    status.success()
}

fn round(seed: u64, server: &Server, truth: &Truth) -> (u32, usize) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let project = Project::new(&pipeline(&server.url(), 8));
    let audit = server.api().audit();
    let mut kills = 0;
    let mut spared = 0;
    loop {
        let known = committed(project.path());
        let from = audit.requests();
        let life = (kills < MOST_KILLS).then(|| Duration::from_millis(dice.u64(1..=truth.took)));
        let done = run_for(&project, life);
        for entry in &audit.entries()[from..] {
            // Killed when all was done, it began another run, whose window begins later.
            let target = entry.target.replace("since=150", "since=0");
            let place = truth.places.get(&target);
            let place = place.unwrap_or_else(|| panic!("seed {seed}: {} was asked", entry.target));
            assert!(
                !known.contains(place),
                "seed {seed}: {place:?} was committed and asked for again after {kills} kills: {}\n{}",
                entry.target,
                std::fs::read_to_string(project.path().join(SAID)).unwrap_or_default()
            );
        }
        spared = spared.max(known.len());
        // A reader never sees a file that is not whole.
        for (name, bytes) in outputs(&project) {
            if !name.starts_with('.') {
                assert!(
                    truth.outputs.get(&name) == Some(&bytes),
                    "seed {seed}: {name}"
                );
            }
        }
        if done {
            break;
        }
        kills += 1;
    }
    assert_eq!(
        outputs(&project).keys().collect::<Vec<_>>(),
        truth.outputs.keys().collect::<Vec<_>>(),
        "seed {seed}"
    );
    assert!(
        ledgers(project.path()).is_empty(),
        "a run that is over is gone"
    );
    (kills, spared)
}

#[test]
fn a_run_that_is_killed_at_any_moment_ends_as_if_it_had_not_been() {
    let server = Server::start_on_own_thread(SimApi::new(rules())).expect("a port");
    let truth = undisturbed(&server);
    // Three files a stream, Parquet among them.
    assert_eq!(truth.outputs.len(), 29);
    let rounds = std::env::var("GLEANER_KILL_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |n| n.parse().expect("a number of rounds"));
    let first = std::env::var("GLEANER_KILL_SEED").ok();
    let first: u64 = first.map_or(0, |n| n.parse().expect("a seed"));
    let (mut kills, mut spared) = (0, 0);
    for seed in first..first + rounds {
        let (killed, kept) = round(seed, &server, &truth);
        kills += killed;
        spared += kept;
    }
    // Else nothing was tried.
    assert!(u64::from(kills) > rounds / 2, "{kills} kills");
    assert!(
        spared > 0,
        "no killed run had committed a page; an undisturbed one takes {} ms",
        truth.took
    );
}
