//! As `cuts_gathered`, with outputs that are tables: a second night is cut off at each of its
//! operations, those right before and after the commit of a table among them; in the end every row
//! is there once, and the file's ledger knows of each publish once.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gleaner::failure::Exit;
use gleaner::sim::{Latency, Route, Rules, SimDisk, SimReply, SimRequest, Trouble};
use rusqlite::Connection;
use serde_json::Value as Json;

use super::cuts::{Did, process_of};

const PIPELINE: &str = r#"source: { url: https://api.test, limits: none, concurrency: 2 }
defaults: { key: id, query: { since: "{{ cursor.from }}" } }
streams:
  whole: { get: /whole, query: { since: "" }, sink: { sqlite: data/whole.db } }
  added: { get: /added, cursor: { field: at, format: integer, start: 0 }, sink: { sqlite: data/added.db, mode: append } }
  merged: { get: /merged, cursor: { field: at, format: integer, start: 0 }, sink: [ { sqlite: data/merged.db, mode: merge }, { csv: data/merged.csv, mode: merge } ] }
"#;
const NIGHTS: [&str; 2] = ["2026-11-21T02:30:00Z", "2026-11-22T02:30:00Z"];

/// id, when it was changed.
fn records(night: usize) -> Vec<(u64, u64)> {
    match night {
        0 => vec![(1, 1), (2, 2), (3, 3)],
        _ => vec![(1, 1), (2, 12), (3, 3), (4, 14)],
    }
}

fn rules(night: usize) -> Rules {
    let answer = move |request: &SimRequest| {
        let since = request.param("since").map_or(0, |n| n.parse().expect("n"));
        let rows = records(night).into_iter().filter(|(_, at)| *at > since);
        let rows: Vec<String> = rows
            .map(|(id, at)| format!(r#"{{"id":{id},"at":{at}}}"#))
            .collect();
        SimReply::json(200, format!("[{}]", rows.join(",")))
    };
    let route = |path: &str| Route::custom(path, Arc::new(answer));
    Rules {
        routes: vec![route("/whole"), route("/added"), route("/merged")],
        latency: Latency::Fixed(Duration::from_millis(150)),
        ..Rules::default()
    }
}

fn process(disk: &SimDisk, night: usize) -> Did {
    process_of(disk, PIPELINE, rules(night), NIGHTS[night])
}

/// What a table holds, and how many publishes its ledger knows of.
fn table(disk: &SimDisk, name: &str) -> (Vec<(u64, u64)>, u64) {
    let place = disk
        .door()
        .database(&Path::new("/p/data").join(format!("{name}.db")));
    let from = Connection::open(place.expect("a database")).expect("open");
    let mut asked = from
        .prepare(&format!("SELECT id, at FROM {name} ORDER BY id, at"))
        .expect("a table");
    let rows = asked
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("rows");
    let rows = rows.map(|row| row.expect("a row")).collect();
    let publishes = from.query_row("SELECT count(*) FROM _gleaner", [], |row| row.get(0));
    (rows, publishes.expect("a ledger"))
}

fn truth(name: &str, night: usize) -> Vec<(u64, u64)> {
    let mut rows = records(night);
    if name == "added" && night == 1 {
        rows = vec![(1, 1), (2, 2), (2, 12), (3, 3), (4, 14)];
    }
    rows
}

/// What anybody sees is what was before, or what shall be; says whether all is done.
fn seen(disk: &SimDisk, what: &str) -> bool {
    let mut is_over = true;
    for name in ["whole", "added", "merged"] {
        let (rows, publishes) = table(disk, name);
        let is_new = rows == truth(name, 1);
        assert!(is_new || rows == truth(name, 0), "{what}: {name}: {rows:?}");
        assert_eq!(publishes, 1 + u64::from(is_new), "{what}: {name}: {rows:?}");
        is_over &= is_new;
    }
    is_over
}

/// What is there is what `datapackage.json` tells of, with its size and checksum.
fn told(disk: &SimDisk, what: &str) {
    let text = disk.read(Path::new("/p/data/datapackage.json"));
    let package: Json = serde_json::from_slice(&text.expect(what)).expect("JSON");
    let resources = package["resources"].as_array().expect("a list");
    assert_eq!(resources.len(), 4, "{what}: {package:#}");
    for resource in resources {
        if resource["format"] == "csv" {
            let file = disk.read(Path::new("/p/data/merged.csv")).expect("it");
            let hash = format!("crc32c:{:08x}", crc32c::crc32c(&file));
            assert_eq!(
                (&resource["hash"], &resource["bytes"]),
                (&hash.into(), &file.len().into()),
                "{what}"
            );
        }
        let rows = resource["rows"].as_u64().expect("a number");
        // What is added is what one run has found.
        assert_eq!(
            rows,
            if resource["gleaner"]["mode"] == "append" {
                2
            } else {
                4
            },
            "{what}: {resource:#}"
        );
    }
}

fn first_night() -> SimDisk {
    let disk = SimDisk::new(Path::new("/p"));
    let did = process(&disk, 0);
    assert_eq!(did.exit, Exit::Complete, "{:?}", did.failure);
    disk.set_trouble(Trouble::None);
    disk
}

#[test]
fn a_table_has_every_row_once_wherever_its_publish_is_cut_off() {
    let (mut at, mut between) = (0, 0);
    loop {
        at += 1;
        let disk = first_night();
        disk.set_trouble(Trouble::Power(at));
        process(&disk, 1);
        let was_cut = disk.operations() >= at;
        disk.kill();
        disk.set_trouble(Trouble::None);
        let what = format!("operation {at}");
        let is_over = seen(&disk, &what);
        if !was_cut {
            assert!(is_over);
            break;
        }
        // Cut off when some tables were committed and others were not.
        between += u64::from(
            !is_over
                && ["whole", "added", "merged"]
                    .iter()
                    .any(|name| table(&disk, name).1 == 2),
        );
        let did = process(&disk, 1);
        assert_eq!(did.exit, Exit::Complete, "{what}: {:?}", did.failure);
        // A run that was over already is followed by another, which finds nothing new.
        if !is_over {
            assert!(seen(&disk, &what), "{what}: not all is there");
            told(&disk, &what);
        }
        let text = disk
            .read(Path::new("/p/data/merged.csv"))
            .expect("the other output");
        assert_eq!(text, b"id,at\r\n1,1\r\n2,12\r\n3,3\r\n4,14\r\n", "{what}");
    }
    assert!(
        at > 100 && between > 10,
        "{at} operations, {between} between tables"
    );
}

#[test]
fn any_call_may_fail_and_a_table_has_every_row_once() {
    for at in (1..).step_by(2) {
        let disk = first_night();
        disk.set_trouble(Trouble::Once(at, ErrorKind::StorageFull));
        let did = process(&disk, 1);
        let failed = disk.operations() >= at;
        let log = disk.log();
        let called = usize::try_from(at).ok().and_then(|at| log.get(at - 1));
        let what = format!("{at} {called:?}: {:?}", did.failure);
        disk.set_trouble(Trouble::None);
        if did.exit == Exit::Complete {
            assert!(seen(&disk, &what), "{what}: not all is there");
        } else {
            seen(&disk, &what);
            assert_eq!(did.exit, Exit::Disk, "{what}");
            let did = process(&disk, 1);
            assert_eq!(did.exit, Exit::Complete, "{what}: {:?}", did.failure);
        }
        if !failed {
            break;
        }
    }
}
