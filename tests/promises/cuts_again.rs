//! `reextract`, cut off at each of its operations: whoever comes next knows that some outputs are new and
//! others old, and ends it before the pipeline does anything new. Tables, a table that several streams write,
//! files that runs add to a folder and what runs gather, among the outputs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use gleaner::clock::Clock;
use gleaner::event::Fact;
use gleaner::failure::Exit;
use gleaner::harvest::events::Events;
use gleaner::harvest::ground::reextract::{finish, unended};
use gleaner::harvest::ground::release::NothingSent;
use gleaner::harvest::{Harvest, Options, World};
use gleaner::sim::{MemoryTransport, Route, Rules, SimApi, SimDisk, SimReply, Trouble};
use gleaner::store::history::RunRecord;
use gleaner::store::state::State;
use rusqlite::Connection;

use super::fixture::plan;
use super::scene::but_the_run;
use gleaner::sim::in_stopped_time;

/// With the columns that the streams have before and after.
fn pipeline(columns: &str) -> String {
    format!(
        r"source: {{ url: https://api.test, limits: none, concurrency: 2 }}
defaults: {{ key: id, columns: {columns} }}
streams:
  whole: {{ get: /whole, sink: [ {{ csv: data/whole.csv }}, {{ ndjson: data/whole.ndjson }}, {{ parquet: data/whole.parquet }} ] }}
  added: {{ get: /added, sink: [ {{ csv: data/added/, mode: append }}, {{ sqlite: data/added.db, mode: append }} ] }}
  merged: {{ get: /merged, sink: [ {{ csv: data/merged.csv, mode: merge }}, {{ sqlite: data/merged.db, mode: merge }} ] }}
  left: {{ get: /left, sink: {{ sqlite: {{ path: data/both.db, table: both }} }} }}
  right: {{ get: /right, sink: {{ sqlite: {{ path: data/both.db, table: both }} }} }}
"
    )
}

const OLD: &str = "{ id: , was: at }";
const NEW: &str = "{ id: , at: , name: }";

fn rules() -> Rules {
    let streams = ["whole", "added", "merged", "left", "right"];
    let routes = streams.into_iter().enumerate().map(|(nth, name)| {
        let records = (1..=2).map(|n| {
            let id = 10 * nth + n;
            format!(r#"{{"id":{id},"at":{n},"name":"{name} {n}"}}"#)
        });
        let body = format!("[{}]", records.collect::<Vec<_>>().join(","));
        Route::custom(
            &format!("/{name}"),
            Arc::new(move |_| SimReply::json(200, body.clone())),
        )
    });
    Rules {
        routes: routes.collect(),
        ..Rules::default()
    }
}

/// What a process is for.
enum Work<'r> {
    /// A run that keeps its parts.
    Run,
    /// What it keeps is published again.
    Again(&'r RunRecord),
    /// What a run does first.
    Finish(&'r RunRecord),
}

/// One process; how it ended, and what it told of the run.
fn process(disk: &SimDisk, columns: &str, work: &Work<'_>) -> (Exit, Vec<String>) {
    in_stopped_time(async {
        let clock = Clock::simulated("2026-11-22T02:30:00Z".parse().expect("an instant"));
        let (_asks, stop) = tokio::sync::watch::channel(false);
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let world = World {
            clock,
            transport: match work {
                Work::Run => MemoryTransport::shared(SimApi::with_clock(rules(), clock)),
                Work::Again(_) | Work::Finish(_) => Arc::new(NothingSent),
            },
            disk: disk.door(),
            root: "/p".into(),
            events: Events::new(clock, move |event| {
                if let Fact::RunNoticed { message } = &event.fact {
                    heard.lock().expect("no panic").push(message.clone());
                }
            }),
            stop,
        };
        let of = |run: &RunRecord| Options::to_reextract(&world.disk, &world.root, run);
        let plan = plan(&pipeline(columns));
        let options = match work {
            Work::Run => Options {
                keep_parts: true,
                ..Options::default()
            },
            Work::Again(run) => of(run),
            Work::Finish(run) => {
                finish(plan, &world, of(run)).await;
                let told = std::mem::take(&mut *told.lock().expect("no panic"));
                return (Exit::Complete, told);
            }
        };
        let exit = match Harvest::open(plan, world, options) {
            Err(failure) => failure.exit,
            Ok(harvest) => harvest.run().await.exit,
        };
        let told = std::mem::take(&mut *told.lock().expect("no panic"));
        (exit, told)
    })
}

fn state(disk: &SimDisk) -> State {
    State::open(&disk.door(), Path::new("/p")).expect("a state")
}

/// What everybody sees: the bytes of each file, the rows of each table; whichever run it was of.
fn outputs(disk: &SimDisk, run: &RunRecord) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for (path, bytes) in disk.files() {
        let name = path.file_name().expect("a name").to_string_lossy();
        let is_ours = path.starts_with("/p/data") && !name.starts_with('.');
        if is_ours && name != "datapackage.json" {
            let name = path.display().to_string().replace(&run.id, "RUN");
            all.insert(name, but_the_run(bytes));
        }
    }
    for table in ["added", "merged", "both"] {
        let place = Path::new("/p/data").join(format!("{table}.db"));
        let place = disk.door().database(&place).expect("a database");
        let from = Connection::open(place).expect("open");
        let mut asked = from
            .prepare(&format!("SELECT * FROM {table} ORDER BY id"))
            .expect("a table");
        let names: Vec<String> = asked.column_names().map(str::to_owned).collect();
        let rows = asked.query_map([], |row| {
            let cell = |at| Ok(format!("{:?}", row.get_ref(at)?));
            (0..names.len()).map(cell).collect::<Result<Vec<_>, _>>()
        });
        let rows: Vec<Vec<String>> = rows.expect("rows").map(|row| row.expect("a row")).collect();
        let text =
            format!("{names:?} {rows:?}").replace(&format!("{:?}", run.id.as_bytes()), "RUN");
        all.insert(table.to_owned(), text.into_bytes());
    }
    all
}

fn first_run(columns: &str) -> (SimDisk, RunRecord) {
    let disk = SimDisk::new(Path::new("/p"));
    assert_eq!(process(&disk, columns, &Work::Run).0, Exit::Complete);
    let mut runs = state(&disk).runs(None).expect("runs");
    (disk, runs.pop().expect("a run"))
}

#[test]
fn wherever_it_is_cut_off_the_next_process_knows_and_ends_it() {
    let (disk, run) = first_run(OLD);
    let old = outputs(&disk, &run);
    let (exit, _) = process(&disk, NEW, &Work::Again(&run));
    assert_eq!(exit, Exit::Complete);
    let new = outputs(&disk, &run);
    // Just what a run under that file would have written.
    let (fresh, other) = first_run(NEW);
    let fresh = outputs(&fresh, &other);
    // But for a table that grows: its columns stay, for rows of other runs may be in there.
    for (name, bytes) in new.iter().filter(|(name, _)| *name != "added") {
        let text = String::from_utf8_lossy;
        assert_eq!(text(bytes), text(&fresh[name]), "{name}");
    }
    assert_eq!(old.len(), 8, "{:?}", old.keys());
    assert!(old.iter().all(|(name, bytes)| new[name] != *bytes));
    assert!(unended(&state(&disk), "p").expect("runs").is_none());
    let (mut at, mut mixed) = (0, 0);
    loop {
        at += 1;
        let (disk, run) = first_run(OLD);
        disk.set_trouble(Trouble::Power(at));
        process(&disk, NEW, &Work::Again(&run));
        let was_cut = disk.operations() >= at;
        disk.kill();
        disk.set_trouble(Trouble::None);
        let what = format!("operation {at}");
        let seen = outputs(&disk, &run);
        let is_new = |name: &String| seen[name] == new[name];
        for name in seen.keys() {
            assert!(is_new(name) || seen[name] == old[name], "{what}: {name}");
        }
        let count = seen.keys().filter(|name| is_new(name)).count();
        let left = unended(&state(&disk), "p").expect("runs");
        if !was_cut {
            assert!(count == 8 && left.is_none(), "{what}: {count} new");
            break;
        }
        let is_mixed = 0 < count && count < 8;
        mixed += usize::from(is_mixed);
        assert!(!is_mixed || left.is_some(), "{what}: nobody knows");
        let Some(run) = left else {
            // Not begun, or ended but for its farewell.
            assert!(count == 0 || count == 8, "{what}");
            continue;
        };
        let (_, told) = process(&disk, NEW, &Work::Finish(&run));
        assert_eq!(told.len(), 1, "{what}: {told:?}");
        assert!(told[0].contains("now it is"), "{what}: {told:?}");
        assert!(outputs(&disk, &run) == new, "{what}: not all is new");
        assert!(unended(&state(&disk), "p").expect("runs").is_none());
    }
    assert!(at > 80 && mixed > 30, "{at} operations, {mixed} mixed");
}
