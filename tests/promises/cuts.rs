//! The whole run, on a disk that is cut from power before each of its operations, or that refuses
//! one: the next run goes on and ends with every record once, and asks for no page that was
//! committed.
//!
//! `powerloss` does the same below the walk, with every lie that a disk can tell.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gleaner::clock::Clock;
use gleaner::event::Fact;
use gleaner::failure::{Exit, Failure};
use gleaner::harvest::events::Events;
use gleaner::harvest::tape::Tape;
use gleaner::harvest::{Harvest, Options, World};
use gleaner::sim::{
    Dataset, Latency, Listing, Loss, MemoryTransport, Paging, Route, Rules, SimApi, SimDisk,
    Trouble,
};
use gleaner::store::history::Status;
use gleaner::store::state::State;

use super::fixture::plan;
use gleaner::sim::in_stopped_time;

const PIPELINE: &str = "source: { url: https://api.test, limits: none, concurrency: 2 }
streams:
  items: { get: /items, query: { per_page: 2 }, records: data, pages: { page: { to: page, size: per_page, total: n } }, sink: { ndjson: data/items.ndjson } }
  notes: { get: /notes, query: { per_page: 2 }, records: data, pages: link, sink: { csv: data/notes.csv } }
";
const PAGES: usize = 5;
const ITEMS: &str = "/p/data/items.ndjson";
const NOTES: &str = "/p/data/notes.csv";

fn rules() -> Rules {
    let data = Dataset::from_texts((1..=2 * PAGES).map(|id| format!(r#"{{"id":{id}}}"#)));
    let data = Arc::new(data);
    Rules {
        routes: vec![
            Route::list(
                "/items",
                Listing::new(data.clone(), Paging::page_total("n")),
            ),
            Route::list("/notes", Listing::new(data, Paging::link())),
        ],
        // So that there are several groups.
        latency: Latency::Fixed(Duration::from_millis(150)),
        ..Rules::default()
    }
}

fn truth(path: &str) -> Vec<u8> {
    let line = |id: usize| match path {
        ITEMS => format!("{{\"id\":{id}}}\n"),
        _ => format!("{id}\r\n"),
    };
    let head = if path == ITEMS { "" } else { "id\r\n" };
    let rows: String = (1..=2 * PAGES).map(line).collect();
    let text = format!("{head}{rows}");
    text.into_bytes()
}

/// A disk with an old file in one place.
fn disk() -> SimDisk {
    let disk = SimDisk::new(Path::new("/p"));
    let door = disk.door();
    door.create_folder(Path::new("/p/data"), gleaner::disk::Access::Umask)
        .expect("a folder");
    let file = door.open(
        Path::new(ITEMS),
        gleaner::disk::Open::New(gleaner::disk::Access::Umask),
    );
    let file = file.expect("a file");
    file.append(b"old\n").expect("written");
    file.sync_data().expect("synced");
    door.sync_folder(Path::new("/p/data")).expect("synced");
    door.sync_folder(Path::new("/p")).expect("synced");
    disk
}

/// What a process did.
pub(crate) struct Did {
    pub(crate) exit: Exit,
    pub(crate) failure: Option<Failure>,
    /// Paths and queries that were asked.
    pub(crate) asked: Vec<String>,
    /// Pages that it said were committed, by stream.
    pub(crate) committed: Vec<(String, u64)>,
}

fn process(disk: &SimDisk) -> Did {
    process_of(disk, PIPELINE, rules(), "2026-11-22T02:30:00Z")
}

/// One process that runs a pipeline of the project `/p`, from its start to its end.
pub(crate) fn process_of(disk: &SimDisk, pipeline: &str, rules: Rules, now: &str) -> Did {
    process_with(disk, pipeline, rules, now, Options::default())
}

/// The same, with what it is asked to do differently.
fn process_with(disk: &SimDisk, pipeline: &str, rules: Rules, now: &str, options: Options) -> Did {
    in_stopped_time(async {
        let clock = Clock::simulated(now.parse().expect("an instant"));
        let api = SimApi::with_clock(rules, clock);
        let (_asks, stop) = tokio::sync::watch::channel(false);
        let committed = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&committed);
        let world = World {
            clock,
            transport: MemoryTransport::shared(Arc::clone(&api)),
            disk: disk.door(),
            root: "/p".into(),
            events: Events::new(clock, move |event| {
                if let Fact::Committed { stream, pages, .. } = &event.fact {
                    let mut heard = heard.lock().expect("no panic");
                    heard.push((stream.to_string(), *pages));
                }
            }),
            stop,
        };
        let (exit, failure) = match Harvest::open(plan(pipeline), world, options) {
            Err(failure) => (failure.exit, Some(*failure)),
            Ok(harvest) => {
                let summary = harvest.run().await;
                let of_streams = summary.streams.into_iter().find_map(|s| s.failure);
                (summary.exit, of_streams.or(summary.failure))
            }
        };
        let entries = api.audit().entries();
        let committed = std::mem::take(&mut *committed.lock().expect("no panic"));
        Did {
            exit,
            failure,
            asked: entries.into_iter().map(|entry| entry.target).collect(),
            committed,
        }
    })
}

/// Goes on until it is done; what is wrong then.
fn goes_on(disk: &SimDisk, before: &Did, what: &str) {
    for path in [ITEMS, NOTES] {
        let found = disk.read(Path::new(path));
        let old = (path == ITEMS).then(|| b"old\n".to_vec());
        assert!(
            found == old || found.as_ref() == Some(&truth(path)),
            "{what}: {path} is neither old nor new: {found:?}"
        );
    }
    // Then the run was over but for its farewell, and the next one is another.
    let is_over = [ITEMS, NOTES]
        .iter()
        .all(|path| disk.read(Path::new(path)) == Some(truth(path)));
    let did = process(disk);
    assert_eq!(did.exit, Exit::Complete, "{what}: {:?}", did.failure);
    for path in [ITEMS, NOTES] {
        let found = disk.read(Path::new(path));
        assert!(
            found.as_ref() == Some(&truth(path)),
            "{what}: {path}: {found:?}"
        );
    }
    let asked: BTreeSet<&String> = did.asked.iter().collect();
    assert_eq!(
        asked.len(),
        did.asked.len(),
        "{what}: a page was asked twice"
    );
    for stream in ["items", "notes"] {
        let of_stream = before.committed.iter().filter(|(name, _)| name == stream);
        let committed: u64 = of_stream.map(|(_, pages)| pages).sum();
        let path = format!("/{stream}?");
        let again = asked.iter().filter(|t| t.starts_with(&path)).count();
        assert!(
            is_over || again as u64 + committed <= PAGES as u64,
            "{what}: {committed} pages of {stream} were committed and {again} asked for again"
        );
    }
    leaves_nothing(disk, what);
    tells_all_of_runs(disk, what);
}

/// Whatever is complete says in the history what it came to: later runs compare themselves with that.
fn tells_all_of_runs(disk: &SimDisk, what: &str) {
    let state = State::open(&disk.door(), Path::new("/p")).expect("a state");
    let runs = state.runs(None).expect("readable");
    assert!(!runs.is_empty(), "{what}: no run is known");
    for run in runs {
        assert!(!run.status.is_open(), "{what}: {run:?} is open");
        if run.status == Status::Complete {
            assert_eq!(run.exit, Some(0), "{what}: {run:?}");
            assert!(run.ended.is_some(), "{what}: {run:?}");
            assert_eq!(run.counts.rows, 4 * PAGES as u64, "{what}: {run:?}");
            assert_eq!(
                run.files.as_array().map(Vec::len),
                Some(2),
                "{what}: {run:?}"
            );
        }
    }
}

/// Nothing of a run stays when all is published.
pub(crate) fn leaves_nothing(disk: &SimDisk, what: &str) {
    let left = disk.files().into_keys().filter(|path| {
        let hidden = path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with('.'));
        path.starts_with("/p/.gleaner/runs") || hidden && path.starts_with("/p/data")
    });
    let left: Vec<_> = left.collect();
    assert!(left.is_empty(), "{what}: {left:?} is left behind");
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_committed() {
    let losses: Vec<Option<Loss>> = Loss::all().map(Some).chain([None]).collect();
    let mut kept = 0;
    for at in 1.. {
        let mut was_cut = false;
        for loss in &losses {
            let disk = disk();
            disk.set_trouble(Trouble::Power(at));
            let did = process(&disk);
            was_cut |= disk.operations() >= at;
            match loss {
                Some(loss) => disk.crash(*loss),
                None => disk.kill(),
            }
            disk.set_trouble(Trouble::None);
            kept += did.committed.len();
            goes_on(&disk, &did, &format!("operation {at}, {loss:?}"));
        }
        if !was_cut {
            assert!(at > 60 && kept > 0, "only {at} operations");
            return;
        }
    }
}

#[test]
fn any_call_may_fail_and_the_next_run_makes_it_good() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for always in [false, true] {
            for at in 1.. {
                let disk = disk();
                disk.set_trouble(if always {
                    Trouble::Always(at, kind)
                } else {
                    Trouble::Once(at, kind)
                });
                let did = process(&disk);
                let failed = disk.operations() >= at;
                let what = format!("operation {at}, {kind:?}, always: {always}");
                if did.exit == Exit::Complete {
                    for path in [ITEMS, NOTES] {
                        assert_eq!(disk.read(Path::new(path)), Some(truth(path)), "{what}");
                    }
                } else {
                    assert!(
                        matches!(did.exit, Exit::Disk | Exit::Failed),
                        "{what}: {:?}",
                        did.failure
                    );
                    disk.set_trouble(Trouble::None);
                    goes_on(&disk, &did, &what);
                }
                if !failed {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_recording_that_cannot_be_ended_is_no_success_in_the_history() {
    let mut published = 0;
    for at in 1.. {
        let disk = disk();
        disk.set_trouble(Trouble::Once(at, ErrorKind::Other));
        let options = Options {
            tape: Tape::Record("/p/tape".into()),
            ..Options::default()
        };
        let did = process_with(&disk, PIPELINE, rules(), "2026-11-22T02:30:00Z", options);
        let failed = disk.operations() >= at;
        disk.set_trouble(Trouble::None);
        let state = State::open(&disk.door(), Path::new("/p")).expect("a state");
        let runs = state.runs(None).expect("readable");
        for run in runs.iter().filter(|run| !run.status.is_open()) {
            let what = format!("operation {at}: {:?}: {run:?}", did.failure);
            assert_eq!(run.exit, Some(did.exit.code()), "{what}");
            assert_eq!(run.failure.is_some(), did.exit != Exit::Complete, "{what}");
            published += u32::from(run.status == Status::Complete && did.exit == Exit::Disk);
        }
        if !failed {
            assert!(published > 0, "the recording never failed");
            return;
        }
    }
}
