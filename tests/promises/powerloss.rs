//! Nothing lost, nothing twice: a run on the store, killed and cut from power before each of its
//! operations, and gone on with until it is done.
//!
//! What runs here is the product's own store, sinks and state over a pretend disk; only the walk is
//! made up, so that every page is known. [`Seen`] is the world outside: it remembers what was
//! promised, whatever the disk forgets.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::OnceLock;

use gleaner::disk::Disk;
use gleaner::plan::sink::{Compression, CsvPlan, ParquetPlan, SinkFormat};
use gleaner::sim::{Lie, Loss, SimDisk, Trouble};
use gleaner::sink::{self, Built, Row, SinkError, Target};
use gleaner::store::cursors::{Cursor, Publish};
use gleaner::store::row::{Facts, PublishIntent, RunStart};
use gleaner::store::run::{OpenRun, RunFolder};
use gleaner::store::space::Floor;
use gleaner::store::state::State;
use gleaner::store::stream::{NewPage, Piece, StreamStore};
use gleaner::store::{StoreError, came, locks, sweep};
use jiff::Timestamp;

const ROOT: &str = "/p";
const STATE: &str = "/home-of-user";
const RUN: &str = "r1";
const STREAMS: [&str; 3] = ["items", "notes", "rows"];
/// Pages as they come: partition and page. Of the second stream out of order.
const ARRIVALS: [&[(u32, u32)]; 3] = [
    &[(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)],
    &[(1, 0), (0, 1), (0, 0), (1, 1)],
    &[(0, 0), (0, 1)],
];
/// Pages that are committed together.
const GROUP: usize = 2;

/// What the world outside has seen.
#[derive(Debug, Default)]
struct Seen {
    /// Pages whose commit was confirmed.
    committed: BTreeSet<(usize, u32, u32)>,
    /// Streams whose publish was confirmed.
    published: BTreeSet<usize>,
    /// Pages that were asked for again although they were committed.
    again: Vec<(usize, u32, u32)>,
}

fn lines(stream: usize, partition: u32, page: u32) -> String {
    // Of different lengths, one without records.
    let records = (partition + 2 * page) % 4;
    let line = |n: u32| {
        let text = "x".repeat(9 * (n as usize + 1));
        format!("{{\"id\":\"{stream}-{partition}-{page}-{n}\",\"text\":\"{text}\"}}\n")
    };
    (0..records).map(line).collect()
}

fn target_path(stream: usize) -> &'static Path {
    Path::new(
        [
            "/p/data/items.ndjson",
            "/p/out/deep/notes.csv",
            "/p/out/rows.parquet",
        ][stream],
    )
}

/// What a stream's file must hold in the end.
fn truth(stream: usize) -> Vec<u8> {
    let mut places = ARRIVALS[stream].to_vec();
    places.sort_unstable();
    let all: String = places
        .iter()
        .map(|(partition, page)| lines(stream, *partition, *page))
        .collect();
    if stream == 0 {
        return all.into_bytes();
    }
    if stream == 2 {
        return stored(&all);
    }
    let cells = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).expect("made here");
        format!(
            "{},{}\r\n",
            row["id"].as_str().unwrap(),
            row["text"].as_str().unwrap()
        )
    };
    let rows: String = all.lines().map(cells).collect();
    format!("id,text\r\n{rows}").into_bytes()
}

/// The Parquet file of these lines, written once where nothing is ever lost.
fn stored(lines: &str) -> Vec<u8> {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().expect("a folder");
        let target = Target::File {
            disk: Disk::system(),
            path: folder.path().join("rows.parquet"),
            compression: Compression::None,
        };
        let written = write(&parquet(), &target, lines).expect("a file");
        let path = written.place().map(|()| folder.path().join("rows.parquet"));
        std::fs::read(path.expect("a file")).expect("readable")
    };
    FILE.get_or_init(make).clone()
}

fn parquet() -> SinkFormat {
    SinkFormat::Parquet(ParquetPlan::default())
}

/// Lines as the rows of a table.
fn write(format: &SinkFormat, target: &Target, lines: &str) -> Result<Built, SinkError> {
    let written = sink::write::<SinkError>(format, target, None, None, &mut |each| {
        lines.lines().try_for_each(|json| {
            each(Row {
                json,
                extras: &[],
                computed: &[],
                member: 0,
            })
        })
    })?;
    Ok(written.file)
}

fn target(disk: &Disk, stream: usize) -> Target {
    Target::File {
        disk: disk.clone(),
        path: target_path(stream).to_owned(),
        compression: Compression::None,
    }
}

fn start() -> RunStart {
    let streams = STREAMS.iter().map(|name| (*name).into()).collect();
    RunStart::new("pipe", streams, Timestamp::UNIX_EPOCH)
}

type Failed = Box<dyn std::error::Error>;

/// One process: goes on with what is there, or begins, and works until it is done.
fn process(disk: &Disk, seen: &mut Seen) -> Result<(), Failed> {
    let (root, now) = (Path::new(ROOT), Timestamp::UNIX_EPOCH);
    let _pipeline = locks::pipeline(disk, root, "pipe", now)?;
    let mut state = State::open(disk, root)?;
    let Some(mut run) = open(disk, root, &state)? else {
        return Ok(());
    };
    for (at, store) in run.streams.iter_mut().enumerate() {
        fetch(store, at, seen)?;
        publish(disk, store, at, &mut state, seen)?;
    }
    run.folder.end(0)?;
    run.folder.remove()?;
    Ok(())
}

/// The run to work at; none if all is done.
fn open(disk: &Disk, root: &Path, state: &State) -> Result<Option<OpenRun>, Failed> {
    let floor = Floor::new(1);
    for id in sweep::run_folders(disk, root)? {
        match RunFolder::open(disk, root, &id, &floor) {
            Ok(open) if open.end.is_none() => return Ok(Some(open)),
            Ok(_) | Err(StoreError::Unbegun { .. }) => sweep::discard(disk, root, &id)?,
            Err(other) => return Err(other.into()),
        }
    }
    for name in STREAMS {
        if !state.is_published(RUN, name)? {
            return Ok(Some(RunFolder::create(disk, root, RUN, start(), &floor)?));
        }
    }
    Ok(None)
}

fn fetch(store: &mut StreamStore, at: usize, seen: &mut Seen) -> Result<(), Failed> {
    let has = |store: &StreamStore, place: (u32, u32)| {
        let mut rows = store.index().rows().iter();
        rows.any(|row| (row.partition, row.page) == place)
    };
    let missing: Vec<_> = ARRIVALS[at]
        .iter()
        .copied()
        .filter(|place| !has(store, *place))
        .collect();
    for group in missing.chunks(GROUP) {
        let texts: Vec<String> = group.iter().map(|(p, n)| lines(at, *p, *n)).collect();
        let pages = group.iter().zip(&texts).map(|((partition, page), text)| {
            if seen.committed.contains(&(at, *partition, *page)) {
                seen.again.push((at, *partition, *page));
            }
            NewPage {
                partition: *partition,
                page: *page,
                request: u64::from(*page),
                lines: text.as_bytes(),
                crc: gleaner::crc::of(text.as_bytes()),
                records: u32::try_from(text.lines().count()).expect("few"),
                piece: Piece::Whole,
                facts: Facts::default(),
            }
        });
        store.commit(pages.collect())?;
        seen.committed
            .extend(group.iter().map(|(p, n)| (at, *p, *n)));
    }
    Ok(())
}

fn publish(
    disk: &Disk,
    store: &mut StreamStore,
    at: usize,
    state: &mut State,
    seen: &mut Seen,
) -> Result<(), Failed> {
    if store.is_published() {
        return Ok(());
    }
    if !state.is_published(RUN, STREAMS[at])? {
        disk.create_folder(
            target_path(at).parent().expect("a folder"),
            gleaner::disk::Access::Umask,
        )?;
        let _lock = locks::target(
            disk,
            Path::new(STATE),
            target_path(at),
            Timestamp::UNIX_EPOCH,
        )?;
        sweep::strays(disk, target_path(at))?;
        store.check()?;
        store.sort();
        let file = build(disk, store, at)?;
        let intent = PublishIntent {
            stream: STREAMS[at].into(),
            target: target_path(at).display().to_string(),
            size: file.bytes(),
            crc: file.crc(),
        };
        store.intend(vec![intent.clone()])?;
        file.place()?;
        if at == 0 {
            keep_raw(disk, store)?;
        }
        state.publish(&[Publish {
            run: RUN,
            pipeline: "pipe",
            stream: STREAMS[at],
            at: Timestamp::UNIX_EPOCH,
            files: &[(intent, store.index().records())],
            cursors: &[cursor(at)],
            base: None,
        }])?;
    }
    seen.published.insert(at);
    store.published()?;
    Ok(())
}

/// What `keep: raw` leaves of the first stream: each page as it lies in the part, and a line for it.
fn keep_raw(disk: &Disk, store: &StreamStore) -> Result<(), Failed> {
    let mut writer = came::Writer::create(disk, Path::new(ROOT), "pipe", RUN, STREAMS[0])?;
    for row in store.index().rows() {
        let at = writer.frame(store.part().file(), row.start, row.len)?;
        writer.line(&format!("{at} {}", row.len))?;
    }
    Ok(writer.finish()?)
}

/// Both files that `keep: raw` leaves, as they must be once the stream is published.
fn raw_truth() -> [(std::path::PathBuf, Vec<u8>); 2] {
    let mut places = ARRIVALS[0].to_vec();
    places.sort_unstable();
    let (mut bodies, mut told) = (Vec::new(), String::new());
    for (partition, page) in places {
        let page = lines(0, partition, page);
        // Text takes everything.
        let _ = writeln!(told, "{} {}", bodies.len(), page.len());
        bodies.extend_from_slice(page.as_bytes());
    }
    let folder = came::folder(Path::new(ROOT), "pipe", RUN);
    [
        (came::bodies(&folder, STREAMS[0]), bodies),
        (came::lines(&folder, STREAMS[0]), told.into_bytes()),
    ]
}

fn cursor(at: usize) -> Cursor {
    Cursor {
        pipeline: "pipe".to_owned(),
        stream: STREAMS[at].to_owned(),
        partition: String::new(),
        field: "id".to_owned(),
        value: "9".to_owned(),
        format: "integer".to_owned(),
        run: RUN.to_owned(),
        updated: Timestamp::UNIX_EPOCH,
    }
}

/// The first stream as it is: the part itself where that can be. The second as CSV, the third as Parquet.
fn build(disk: &Disk, store: &StreamStore, at: usize) -> Result<Built, Failed> {
    let target = target(disk, at);
    let ranges = store.index().ranges();
    if at == 0 {
        let mut out = target.open()?;
        let adopted = match ranges[..] {
            [whole] if whole.end == store.part().len() => {
                out.adopt(store.part().path(), whole.crc)?
            }
            _ => false,
        };
        if !adopted {
            for range in ranges {
                out.copy(store.part().file(), range.start, range.end, range.crc)?;
            }
        }
        return Ok(out.close()?);
    }
    let mut text = Vec::new();
    for range in ranges {
        let from = text.len();
        text.resize(from + usize::try_from(range.end - range.start)?, 0);
        store.part().read(range.start, &mut text[from..])?;
    }
    let text = String::from_utf8(text)?;
    let csv = SinkFormat::Csv(CsvPlan {
        delimiter: b',',
        null: String::new(),
        spreadsheet_safe: false,
    });
    let format = if at == 1 { csv } else { parquet() };
    Ok(write(&format, &target, &text)?)
}

/// A project that has published before.
fn project(lie: Lie) -> SimDisk {
    let disk = SimDisk::new(Path::new(ROOT));
    let door = disk.door();
    let private = gleaner::disk::Access::Private;
    door.create_folder(Path::new(STATE), private)
        .expect("a disk");
    let mut out = target(&door, 0).open().expect("a disk");
    out.write_all(b"old\n").expect("a disk");
    out.finish().expect("a disk");
    disk.set_lie(lie);
    disk.set_trouble(Trouble::None);
    disk
}

/// What is wrong with what anybody can see at this moment, whatever is under way.
fn seen_from_outside(disk: &SimDisk, seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let state = State::open(&disk.door(), Path::new(ROOT));
    for (at, old) in [(0, Some(b"old\n".to_vec())), (1, None), (2, None)] {
        let found = disk.read(target_path(at));
        let is_new = found.as_ref() == Some(&truth(at));
        if !is_new && found != old {
            let text = found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            wrong.push(format!("{} is neither old nor new: {text:?}", STREAMS[at]));
        }
        if seen.published.contains(&at) && !is_new {
            wrong.push(format!("{} was published and is gone", STREAMS[at]));
        }
        if at == 0 {
            for (path, truth) in raw_truth() {
                let found = disk.read(&path);
                // Another file is never half of it; and what was published has it.
                if found.as_ref() != Some(&truth)
                    && (found.is_some() || seen.published.contains(&at))
                {
                    wrong.push(format!("{} is not what came", path.display()));
                }
            }
        }
        match state.as_ref().map(|s| s.cursor("pipe", STREAMS[at], "")) {
            Ok(Ok(Some(_))) if !is_new => {
                wrong.push(format!(
                    "{}: the cursor moved without the file",
                    STREAMS[at]
                ));
            }
            Ok(Ok(_)) => {}
            other => wrong.push(format!("the state: {other:?}")),
        }
    }
    wrong
}

/// What is wrong when a run has ended well.
fn at_the_end(disk: &SimDisk, seen: &Seen) -> Vec<String> {
    let mut wrong = seen_from_outside(disk, seen);
    for (at, name) in STREAMS.iter().enumerate() {
        if disk.read(target_path(at)) != Some(truth(at)) {
            wrong.push(format!("{name} is not what the server holds"));
        }
    }
    if !seen.again.is_empty() {
        wrong.push(format!(
            "committed pages were fetched again: {:?}",
            seen.again
        ));
    }
    let expected = [
        "/p/.gleaner/locks/pipe.lock",
        "/p/.gleaner/raw/pipe/r1/items.ndjson",
        "/p/.gleaner/raw/pipe/r1/items.zst",
        "/p/.gleaner/state.db",
        "/p/data/items.ndjson",
        "/p/out/deep/notes.csv",
        "/p/out/rows.parquet",
    ];
    let left: Vec<String> = disk
        .files()
        .keys()
        .filter(|path| path.starts_with(ROOT))
        .map(|path| path.display().to_string())
        .collect();
    if left != expected {
        wrong.push(format!("left behind: {left:?}"));
    }
    wrong
}

/// Ends the process before operation `at`, lets the disk lose what `ends` says, and goes on.
fn interrupted(lie: Lie, cuts: &[(u64, Option<Loss>)]) -> (bool, Vec<String>) {
    let disk = project(lie);
    let mut seen = Seen::default();
    let mut wrong = Vec::new();
    let mut was_cut = false;
    for (at, loss) in cuts {
        disk.set_trouble(Trouble::Power(*at));
        let ended = process(&disk.door(), &mut seen);
        was_cut = disk.operations() >= *at;
        if let (Err(error), false) = (&ended, was_cut) {
            wrong.push(format!("without a cut: {error:?}"));
        }
        match loss {
            Some(loss) => disk.crash(*loss),
            None => disk.kill(),
        }
        wrong.extend(seen_from_outside(&disk, &seen));
        disk.set_trouble(Trouble::None);
    }
    if let Err(error) = process(&disk.door(), &mut seen) {
        wrong.push(format!("cannot go on: {error} {error:?}"));
    } else {
        wrong.extend(at_the_end(&disk, &seen));
    }
    (was_cut, wrong)
}

/// Every operation in turn, with everything that the disk may lose, until enough is found.
fn violations(lie: Lie, enough: usize) -> (u64, Vec<String>) {
    let mut found = Vec::new();
    let losses: Vec<Option<Loss>> = Loss::all().map(Some).chain([None]).collect();
    for at in 1.. {
        let mut was_cut = false;
        for loss in &losses {
            let (cut, wrong) = interrupted(lie, &[(at, *loss)]);
            was_cut |= cut;
            found.extend(wrong.iter().map(|what| format!("{at}, {loss:?}: {what}")));
        }
        if !was_cut || found.len() >= enough {
            return (at, found);
        }
    }
    (0, found)
}

#[test]
fn whatever_a_power_cut_takes_nothing_is_lost_or_doubled() {
    let (operations, found) = violations(Lie::None, usize::MAX);
    assert!(operations > 60, "only {operations} operations");
    assert!(
        found.is_empty(),
        "{} violations:\n{}",
        found.len(),
        found[..found.len().min(20)].join("\n")
    );
}

#[test]
fn each_sync_and_each_cut_is_needed() {
    for lie in [Lie::Data, Lie::Folders, Lie::Late(".part"), Lie::Cuts] {
        let (_, found) = violations(lie, 1);
        assert!(!found.is_empty(), "{lie:?} makes no difference");
    }
}

#[test]
fn a_second_power_cut_while_going_on_changes_nothing() {
    // Cuts at places that are far apart, each followed by cuts at all places.
    for first in (11..120).step_by(19) {
        for second in 1.. {
            let mut was_cut = false;
            for (one, two) in Loss::all().zip(Loss::all().skip(3)).step_by(3) {
                let (cut, wrong) =
                    interrupted(Lie::None, &[(first, Some(one)), (second, Some(two))]);
                was_cut |= cut;
                assert!(
                    wrong.is_empty(),
                    "{first} {one:?}, {second} {two:?}: {wrong:#?}"
                );
            }
            if !was_cut {
                break;
            }
        }
    }
}

#[test]
fn any_call_may_fail_once_or_from_then_on() {
    for kind in [
        ErrorKind::Other,
        ErrorKind::StorageFull,
        ErrorKind::PermissionDenied,
    ] {
        for always in [false, true] {
            for at in 1.. {
                let disk = project(Lie::None);
                let mut seen = Seen::default();
                disk.set_trouble(if always {
                    Trouble::Always(at, kind)
                } else {
                    Trouble::Once(at, kind)
                });
                let ended = process(&disk.door(), &mut seen);
                let operations = disk.operations();
                disk.kill();
                let told = format!("{kind:?} at {at}, always {always}: {ended:?}");
                let wrong = seen_from_outside(&disk, &seen);
                assert!(wrong.is_empty(), "{told}: {wrong:#?}");
                let again = process(&disk.door(), &mut seen);
                assert!(again.is_ok(), "{told}, then {again:?}");
                let wrong = at_the_end(&disk, &seen);
                assert!(wrong.is_empty(), "{told}: {wrong:#?}");
                if operations < at {
                    assert!(ended.is_ok(), "{told}");
                    break;
                }
            }
        }
    }
}

/// After a sync that failed Linux shows to the next process what never reached the disk, and calls
/// the next sync of it a success.
#[test]
fn a_sync_that_failed_is_not_believed_by_the_next_process() {
    let loss = Loss {
        data: gleaner::sim::platter::Data::Lost,
        names: gleaner::sim::platter::Names::Lost,
    };
    let fails = |disk: &SimDisk, at: u64, seen: &mut Seen| {
        disk.set_trouble(Trouble::Once(at, ErrorKind::Other));
        let ended = process(&disk.door(), seen);
        let log = disk.log();
        disk.kill();
        let called = usize::try_from(at)
            .ok()
            .and_then(|at| log.get(at - 1).cloned());
        called.map(|called| (called, ended.is_ok()))
    };
    for at in 1.. {
        let Some((called, _)) = fails(&project(Lie::None), at, &mut Seen::default()) else {
            break;
        };
        if !called.starts_with("sync") {
            continue;
        }
        for cut in (1..).step_by(3) {
            let disk = project(Lie::None);
            let mut seen = Seen::default();
            fails(&disk, at, &mut seen);
            disk.set_trouble(Trouble::Power(cut));
            let _ = process(&disk.door(), &mut seen);
            let was_cut = disk.operations() >= cut;
            disk.crash(loss);
            let mut wrong = seen_from_outside(&disk, &seen);
            match process(&disk.door(), &mut seen) {
                Ok(()) => wrong.extend(at_the_end(&disk, &seen)),
                Err(error) => wrong.push(format!("cannot go on: {error}")),
            }
            assert!(
                wrong.is_empty(),
                "{at} {called}, then cut at {cut}: {wrong:#?}"
            );
            if !was_cut {
                break;
            }
        }
    }
}
