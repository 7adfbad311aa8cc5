//! Parquet: the memory of a run that publishes very many rows, and time and size beside pyarrow
//! writing the same rows. See `benches/README.md`.
//!
//! ```sh
//! cargo bench --bench parquet                                   # 10,000,000 rows
//! GLEANER_BENCH_RECORDS=1000000 cargo bench --bench parquet     # a quick look
//! ```
//!
//! Both sides are processes of their own that read the same lines of JSON and write a file; the two
//! files must hold the same rows.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints, and stops at the first surprise"
)]
#![allow(missing_docs)]

#[path = "../gauge/mod.rs"]
mod gauge;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use gleaner::disk::Disk;
use gleaner::plan::sink::{Compression, ParquetPlan, SinkFormat};
use gleaner::sim::data::Dataset;
use gleaner::sim::paging::Paging;
use gleaner::sim::rules::{Listing, Route, Rules};
use gleaner::sink::{Row, SinkError, Target, write};

use self::gauge::Bars;
use self::gauge::measure::{Cost, run};
use self::gauge::project;
use self::gauge::server::{self, ServerProcess};

const RECORDS: usize = 10_000_000;
/// Records of a partition; the server holds one.
const PER_PARTITION: usize = 100_000;
const PER_PAGE: usize = 1_000;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match &args[..] {
        [_, work, ..] if work == "serve" => return serve(),
        [_, work, lines, out] if work == "write" => return ours(Path::new(lines), Path::new(out)),
        _ => {}
    }
    let records = project::records(RECORDS);
    let folder = project::folder("parquet");
    println!("parquet: {records} rows of 10 columns; CPU is user + system");
    let mut bars = Bars::default();
    harvest(&mut bars, &folder, records);
    beside(&mut bars, &folder, records);
    let _ = std::fs::remove_dir_all(&folder);
    bars.print();
}

/// A whole run, from the first request to the file.
fn harvest(bars: &mut Bars, folder: &Path, records: usize) {
    let server = ServerProcess::start(&[]);
    let pipeline = format!(
        "about: The bench.\nsource: {{ url: \"{}\", limits: none, concurrency: 16 }}\nstreams:\n  rows:\n    for: {{ part: {{ range: [1, {}] }} }}\n    \
         get: /items\n    query: {{ part: \"{{{{ part }}}}\", per_page: {PER_PAGE} }}\n    \
         pages: {{ page: {{ to: page, size: per_page, total: meta.total }} }}\n    records: data\nsink: {{ parquet: rows.parquet }}\n",
        server.url,
        records.div_ceil(PER_PARTITION)
    );
    project::pipeline(folder, "rows", &pipeline);
    let cost = project::harvest(folder, "rows");
    cost.print("gleaner run, all of it", None);
    bars.judge("peak memory of the run in MB", cost.peak_mb, 300.0);
}

/// The writing alone, beside pyarrow's.
fn beside(bars: &mut Bars, folder: &Path, records: usize) {
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/real/data/bin/python");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/parquet/peer.py");
    let lines = folder.join("rows.ndjson");
    prepare(&lines, records);
    let (mine, theirs) = (folder.join("ours.parquet"), folder.join("theirs.parquet"));
    let gleaner = measured(
        Command::new(std::env::current_exe().expect("this program")),
        &lines,
        &mine,
    );
    gleaner.print("gleaner, lines to Parquet", None);
    bars.judge("peak memory of the writing in MB", gleaner.peak_mb, 300.0);
    if !Path::new(python).exists() {
        println!("  pyarrow is not installed: `tests/run` does that");
        return;
    }
    let mut peer = Command::new(python);
    peer.arg(script);
    let pyarrow = measured(peer, &lines, &theirs);
    pyarrow.print("pyarrow, the same", None);
    let check = Command::new(python)
        .args([script, "check"])
        .args([&mine, &theirs])
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        check.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&check.stderr)
    );
    let counts: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(counts[0], records.to_string(), "every row is there");
    let size = |path: &Path| std::fs::metadata(path).expect("a file").len() as f64;
    let (ours, others) = (size(&mine), size(&theirs));
    println!(
        "  the same rows in {:.1} MB and {} row groups, pyarrow's {:.1} MB and {}",
        ours / 1e6,
        counts[1],
        others / 1e6,
        counts[3]
    );
    bars.judge("CPU / pyarrow", gleaner.cpu / pyarrow.cpu, 1.0);
    bars.judge("wall / pyarrow", gleaner.wall / pyarrow.wall, 1.5);
    bars.judge("size / pyarrow", ours / others, 1.0);
}

fn measured(mut command: Command, lines: &Path, out: &Path) -> Cost {
    command.arg("write").arg(lines).arg(out);
    run(command)
}

/// What a publish does: columns and types are found by all rows, then these are written.
fn ours(lines: &Path, out: &Path) {
    let target = Target::File {
        disk: Disk::system(),
        path: out.to_owned(),
        compression: Compression::None,
    };
    let format = SinkFormat::Parquet(ParquetPlan::default());
    let written = write::<SinkError>(&format, &target, None, None, &mut |each| {
        let mut file = BufReader::with_capacity(1 << 20, File::open(lines).expect("the lines"));
        let mut json = String::new();
        while file.read_line(&mut json).expect("a line") > 0 {
            each(Row {
                json: json.trim_end(),
                extras: &[],
                computed: &[],
                member: 0,
            })?;
            json.clear();
        }
        Ok(())
    });
    let written = written.map_err(|e| e.to_string()).expect("rows");
    written
        .file
        .place()
        .map_err(|e| e.to_string())
        .expect("a file");
}

/// The records of one partition, until the standard input closes.
fn serve() {
    let mut dice = fastrand::Rng::with_seed(1);
    let texts = (0..PER_PARTITION).map(|n| {
        let mut text = String::new();
        record(n, &mut dice, &mut text);
        text
    });
    let listing = Listing::new(
        Arc::new(Dataset::from_texts(texts)),
        Paging::page_total("meta.total"),
    )
    .size(PER_PAGE)
    .records_at("data");
    server::serve(Rules {
        routes: vec![Route::list("/items", listing)],
        counters_only: true,
        ..Rules::default()
    });
}

fn prepare(lines: &Path, records: usize) {
    let mut dice = fastrand::Rng::with_seed(1);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(lines).expect("the lines"));
    let mut text = String::new();
    for n in 0..records {
        text.clear();
        record(n, &mut dice, &mut text);
        writeln!(out, "{text}").expect("a line");
    }
    out.flush().expect("the lines");
}

const STATES: [&str; 3] = ["open", "closed", "draft"];
const LOGINS: [&str; 6] = ["ada", "grace", "linus", "hedy", "bjørn", "margaret"];
const NOTES: [&str; 4] = [
    "plain words about a long walk along the river",
    r#"said \"enough\", twice, and left, comma after comma"#,
    "naïve café, Übergröße, 東京タワー, Ελλάδα",
    r"first line\nsecond line, with a comma",
];

fn record(n: usize, dice: &mut fastrand::Rng, text: &mut String) {
    let user = dice.usize(..LOGINS.len());
    let note = match dice.usize(..8) {
        place if place < NOTES.len() => format!("\"{}\"", NOTES[place]),
        _ => "null".to_owned(),
    };
    let (day, hour, minute, second) = (n / 86_400 % 28 + 1, n / 3_600 % 24, n / 60 % 60, n % 60);
    let _ = write!(
        text,
        concat!(
            r#"{{"id":{},"title":"Something breaks when \"x\" is {n}","state":"{}","#,
            r#""user":{{"login":"{}","id":{}}},"score":{}.{:02},"comments":{},"#,
            r#""created_at":"2024-05-{day:02}T{hour:02}:{minute:02}:{second:02}Z","locked":{},"note":{note}}}"#
        ),
        1_000_000 + n,
        STATES[dice.usize(..STATES.len())],
        LOGINS[user],
        9_007_199_254_740_993_u64 + user as u64,
        dice.u32(..100),
        dice.u32(..100),
        dice.u32(..50),
        dice.bool(),
        n = n,
        day = day,
        hour = hour,
        minute = minute,
        second = second,
        note = note,
    );
}
