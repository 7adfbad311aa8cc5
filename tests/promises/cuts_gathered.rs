//! As `cuts`, with streams whose outputs hold what all runs gathered: merged, appended, made of
//! pages that did not change, and two that write one table. A second night is cut off at each of its operations; in the end every
//! record is there once, in its newest state, and the cursors stand where the night after begins.
//!
//! `GLEANER_CUTS=all` tries everything that a disk may lose at each operation.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gleaner::failure::Exit;
use gleaner::sim::{Latency, Lie, Loss, Route, Rules, SimDisk, SimReply, SimRequest, Trouble};

use super::cuts::{Did, leaves_nothing, process_of};

const PIPELINE: &str = r#"source: { url: https://api.test, limits: none, concurrency: 2 }
defaults: { records: data, pages: { token: { from: next, to: page } }, key: id }
streams:
  merged: { get: /merged, query: { since: "{{ cursor.from }}" }, cursor: { field: at, format: integer, start: 0 }, sink: [ { csv: data/merged.csv, mode: merge }, { ndjson: data/merged.ndjson, mode: merge } ] }
  added: { get: /added, query: { since: "{{ cursor.from }}" }, cursor: { field: at, format: integer, start: 0 }, sink: { ndjson: data/added/, mode: append } }
  same: { get: /same, conditional: true, sink: { ndjson: data/same.ndjson } }
  odd: { get: /odd, query: { since: "{{ cursor.from }}" }, cursor: { field: at, format: integer, start: 0 } }
  even: { get: /even, query: { since: "{{ cursor.from }}" }, cursor: { field: at, format: integer, start: 0 } }
sink: [ { csv: data/both.csv, mode: merge }, { ndjson: data/both.ndjson, mode: merge } ]
"#;
const STREAMS: [&str; 5] = ["merged", "added", "same", "odd", "even"];
const NIGHTS: [&str; 3] = [
    "2026-11-21T02:30:00Z",
    "2026-11-22T02:30:00Z",
    "2026-11-23T02:30:00Z",
];
/// Records of a page.
const SIZE: u64 = 2;

/// The records of a night: id, when it was changed, version. In the second some are changed and some
/// are new; in the third nothing happened.
fn records(night: usize) -> Vec<(u64, u64, u64)> {
    match night {
        0 => (1..=6).map(|id| (id, id, 1)).collect(),
        _ => (1..=9)
            .map(|id| {
                if id > 3 {
                    (id, 10 + id, 2)
                } else {
                    (id, id, 1)
                }
            })
            .collect(),
    }
}

fn json((id, at, version): (u64, u64, u64)) -> String {
    format!(r#"{{"id":{id},"at":{at},"v":{version}}}"#)
}

/// `since` is the last that is known; pages have an `ETag`, of what is on them.
fn answer(night: usize, request: &SimRequest) -> SimReply {
    let number = |name: &str| request.param(name).map_or(0, |n| n.parse().expect("n"));
    let (since, page) = (number("since"), number("page"));
    let all: Vec<_> = records(night)
        .into_iter()
        .filter(|(_, at, _)| *at > since)
        .filter(|(id, ..)| match request.path.as_str() {
            "/odd" => id % 2 == 1,
            "/even" => id % 2 == 0,
            _ => true,
        })
        .collect();
    let from = usize::try_from(page * SIZE).expect("few");
    let rows: Vec<String> = all
        .iter()
        .skip(from)
        .take(2)
        .map(|record| json(*record))
        .collect();
    let next = if from + rows.len() < all.len() {
        (page + 1).to_string()
    } else {
        "null".to_owned()
    };
    let body = format!(r#"{{"data":[{}],"next":{next}}}"#, rows.join(","));
    let tag = format!("\"{:x}\"", gleaner::crc::of(body.as_bytes()));
    let known = request.headers.get("if-none-match");
    if known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return SimReply::new(304, &[("etag", &tag)], "");
    }
    SimReply::json(200, body).header("etag", &tag)
}

fn rules(night: usize) -> Rules {
    let route = |path: &str| {
        let answer = move |request: &SimRequest| answer(night, request);
        Route::custom(path, Arc::new(answer))
    };
    Rules {
        routes: STREAMS.map(|name| route(&format!("/{name}"))).into(),
        // So that there are several groups.
        latency: Latency::Fixed(Duration::from_millis(150)),
        ..Rules::default()
    }
}

fn process(disk: &SimDisk, night: usize) -> Did {
    // What was cut off in the second night goes on in it.
    process_of(disk, PIPELINE, rules(night), NIGHTS[night])
}

/// A project in which the first night went well.
fn first_night() -> SimDisk {
    let disk = SimDisk::new(Path::new("/p"));
    let did = process(&disk, 0);
    assert_eq!(did.exit, Exit::Complete, "{:?}", did.failure);
    // What it had no need to sync must not look like a loss of the second.
    disk.set_trouble(Trouble::None);
    disk
}

fn lines(rows: impl IntoIterator<Item = (u64, u64, u64)>) -> String {
    rows.into_iter().map(|row| json(row) + "\n").collect()
}

/// What an output must hold after a night.
fn truth(path: &str, night: usize) -> String {
    if path.ends_with("csv") {
        let rows = records(night);
        let rows = rows
            .into_iter()
            .map(|(id, at, v)| format!("{id},{at},{v}\r\n"));
        return format!("id,at,v\r\n{}", rows.collect::<String>());
    }
    lines(records(night))
}

const REPLACED: [&str; 5] = [
    "data/merged.csv",
    "data/merged.ndjson",
    "data/same.ndjson",
    "data/both.csv",
    "data/both.ndjson",
];

fn text(bytes: Option<Vec<u8>>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8(bytes).expect("text"))
}

/// What was appended, a text for each file, by name.
fn added(disk: &SimDisk) -> Vec<String> {
    let files = disk.files().into_iter().filter(|(path, _)| {
        let hidden = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with('.');
        path.starts_with("/p/data/added") && !path.file_name().is_some_and(hidden)
    });
    files
        .map(|(_, bytes)| text(Some(bytes)).expect("text"))
        .collect()
}

/// What the second night adds.
fn added_then() -> String {
    lines(records(1).into_iter().filter(|(_, at, _)| *at > 6))
}

/// What anybody sees at this moment is what was before, or what shall be. Says whether all is done.
fn seen_from_outside(disk: &SimDisk, what: &str) -> bool {
    let mut is_over = true;
    for path in REPLACED {
        let found = text(disk.read(&Path::new("/p").join(path))).expect("it is there");
        let is_new = found == truth(path, 1);
        assert!(is_new || found == truth(path, 0), "{what}: {path}: {found}");
        is_over &= is_new;
    }
    let (found, first) = (added(disk), lines(records(0)));
    let is_new = found == [first.clone(), added_then()];
    assert!(is_new || found == [first], "{what}: added: {found:?}");
    is_over && is_new
}

/// Goes on until it is done, and makes sure of the night after.
fn goes_on(disk: &SimDisk, before: &Did, what: &str) {
    let is_over = seen_from_outside(disk, what);
    let did = process(disk, 1);
    assert_eq!(did.exit, Exit::Complete, "{what}: {:?}", did.failure);
    assert!(seen_from_outside(disk, what), "{what}: not all is there");
    for (stream, pages) in STREAMS.into_iter().zip([3, 3, 5, 2, 2]) {
        let of_stream = before.committed.iter().filter(|(name, _)| name == stream);
        let committed: u64 = of_stream.map(|(_, pages)| pages).sum();
        let path = format!("/{stream}");
        let asked = did.asked.iter().filter(|target| target.starts_with(&path));
        let asked = asked.count() as u64;
        assert!(
            is_over || asked + committed <= pages,
            "{what}: {committed} pages of {stream} were committed and {asked} asked for again"
        );
    }
    leaves_nothing(disk, what);
    let did = process(disk, 2);
    assert_eq!(did.exit, Exit::Complete, "{what}: {:?}", did.failure);
    assert!(seen_from_outside(disk, what), "{what}: a quiet night");
    for (stream, since) in [("merged", 19), ("added", 19), ("odd", 19), ("even", 18)] {
        let wanted = format!("/{stream}?since={since}");
        let asked = did.asked.iter().filter(|target| target.contains(stream));
        let asked: Vec<_> = asked.collect();
        assert_eq!(asked, [&wanted], "{what}: the cursor");
    }
}

#[test]
fn a_power_cut_at_any_moment_leaves_what_was_gathered_whole() {
    let losses: Vec<Option<Loss>> = Loss::all().map(Some).chain([None]).collect();
    let all = std::env::var_os("GLEANER_CUTS").is_some();
    let mut kept = 0;
    for at in 1_u64.. {
        // Else one of them in turn, so that neighbours differ.
        let some = (0..if all { losses.len() as u64 } else { 1 }).map(|n| at + n);
        let mut was_cut = false;
        for n in some {
            let loss = losses[usize::try_from(n).expect("few") % losses.len()];
            let disk = first_night();
            disk.set_trouble(Trouble::Power(at));
            let did = process(&disk, 1);
            was_cut |= disk.operations() >= at;
            match loss {
                Some(loss) => disk.crash(loss),
                None => disk.kill(),
            }
            disk.set_trouble(Trouble::None);
            kept += did.committed.len();
            goes_on(&disk, &did, &format!("operation {at}, {loss:?}"));
        }
        if !was_cut {
            assert!(at > 100 && kept > 0, "only {at} operations");
            return;
        }
    }
}

/// What syncs nothing, of files or of folders, is found out: else the cuts would show little.
#[test]
fn a_disk_that_lies_is_found_out() {
    let loss = Loss {
        data: gleaner::sim::platter::Data::Lost,
        names: gleaner::sim::platter::Names::Lost,
    };
    for lie in [Lie::Data, Lie::Folders] {
        let mut found = false;
        for at in (30..).step_by(10) {
            let disk = first_night();
            disk.set_lie(lie);
            disk.set_trouble(Trouble::Power(at));
            let did = process(&disk, 1);
            let was_cut = disk.operations() >= at;
            disk.crash(loss);
            disk.set_lie(Lie::None);
            disk.set_trouble(Trouble::None);
            let judged = std::panic::AssertUnwindSafe(|| goes_on(&disk, &did, "a lie"));
            found = std::panic::catch_unwind(judged).is_err();
            if found || !was_cut {
                break;
            }
        }
        assert!(found, "{lie:?} makes no difference");
    }
}

#[test]
fn any_call_may_fail_and_what_was_gathered_stays_whole() {
    for always in [false, true] {
        // Each call fails once or for ever, or both.
        let (from, step) = match std::env::var_os("GLEANER_CUTS") {
            Some(_) => (1, 1),
            None => (1 + u64::from(always), 2),
        };
        for at in (from..).step_by(step) {
            let disk = first_night();
            disk.set_trouble(if always {
                Trouble::Always(at, ErrorKind::StorageFull)
            } else {
                Trouble::Once(at, ErrorKind::Other)
            });
            let did = process(&disk, 1);
            let failed = disk.operations() >= at;
            let log = disk.log();
            let called = usize::try_from(at).ok().and_then(|at| log.get(at - 1));
            let what = format!("{at} {called:?}, always {always}: {:?}", did.failure);
            disk.set_trouble(Trouble::None);
            if did.exit == Exit::Complete {
                assert!(seen_from_outside(&disk, &what), "{what}: not all is there");
            } else {
                assert_eq!(did.exit, Exit::Disk, "{what}");
                goes_on(&disk, &did, &what);
            }
            if !failed {
                break;
            }
        }
    }
}
