//! What it costs to give records another shape: a jq filter, and columns with types, beside the same
//! work in Python. See `benches/README.md`.
//!
//! ```sh
//! cargo bench --bench shape                                    # 1,000,000 records
//! GLEANER_BENCH_RECORDS=100000 cargo bench --bench shape       # a quick look
//! ```
//!
//! Each side is a process of its own that reads the same file, a page on a line, and writes a file;
//! the two files must be the same, byte for byte.
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
use std::path::Path as FilePath;
use std::process::Command;

use gleaner::disk::Disk;
use gleaner::plan::jq::Jq;
use gleaner::plan::path::Path;
use gleaner::plan::place::Place;
use gleaner::plan::position::Format;
use gleaner::plan::sink::{Compression, CsvPlan, SinkFormat};
use gleaner::plan::transform::{Step, StepPlan};
use gleaner::plan::typed::{Kind, Typed};
use gleaner::plan::{ColumnFrom, ColumnPlan};
use gleaner::records::select::Selector;
use gleaner::records::transform::transform;
use gleaner::sink::{Columns, Row, SinkError, Target, write};
use jiff::tz::TimeZone;

use self::gauge::measure::{Cost, least, run};
use self::gauge::{Bars, project};

const RECORDS: usize = 1_000_000;
const PER_PAGE: usize = 100;

/// What `peer.py` does by hand.
const FILTER: &str = "select(.comments > 3) | {id, title, author: .user.login, labels: [.labels[].name], rank: (.comments * 10 + .number % 7)}";

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, work, pages, out] = &args[..] {
        return match work.as_str() {
            "jq" => filter(pages, out),
            _ => typed(pages, FilePath::new(out)),
        };
    }
    let records = project::records(RECORDS);
    let folder = project::folder("shape");
    let pages = folder.join("pages.jsonl");
    prepare(&pages, records);
    let mut bars = Bars::default();
    println!("shape: {records} records, {PER_PAGE} to a page; CPU and wall of whole processes");
    for (work, what) in [
        ("jq", "a jq filter, to NDJSON"),
        ("typed", "8 typed columns, to CSV"),
    ] {
        let (ours, theirs) = (
            folder.join(format!("{work}.ours")),
            folder.join(format!("{work}.python")),
        );
        let gleaner = || {
            let this = std::env::current_exe().expect("this program");
            measured(Command::new(this), work, &pages, &ours)
        };
        let python = || {
            let mut python = Command::new("python3");
            python.arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/benches/shape/peer.py"
            ));
            measured(python, work, &pages, &theirs)
        };
        let [gleaner, python] = least([&gleaner, &python]);
        assert!(
            std::fs::read(&ours).expect("ours") == std::fs::read(&theirs).expect("Python's"),
            "{} and {} differ",
            ours.display(),
            theirs.display()
        );
        println!("{what}");
        gleaner.print("gleaner", None);
        python.print("python3, json and dict", None);
        println!(
            "  gleaner / python3: CPU {:.3}, wall {:.3}",
            gleaner.cpu / python.cpu,
            gleaner.wall / python.wall
        );
        // What a filter does is a few lines of Python, and interpreted on both sides: no bar.
        if work == "typed" {
            let ratio = gleaner.cpu / python.cpu;
            bars.judge("typed columns, CPU / python3", ratio, 0.25);
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
    bars.print();
}

fn measured(mut command: Command, work: &str, pages: &FilePath, out: &FilePath) -> Cost {
    command.arg(work).arg(pages).arg(out);
    run(command)
}

fn prepare(pages: &FilePath, records: usize) {
    let mut out = BufWriter::new(File::create(pages).expect("the file of pages"));
    for first in (0..records).step_by(PER_PAGE) {
        let all = first..(first + PER_PAGE).min(records);
        let page = all.fold(String::new(), |mut page, n| {
            page.push_str(if page.is_empty() { "" } else { "," });
            record(n, &mut page);
            page
        });
        writeln!(out, r#"{{"total":{records},"items":[{page}]}}"#).expect("a page");
    }
    out.flush().expect("the file of pages");
}

fn record(n: usize, page: &mut String) {
    let (number, comments, day) = (n % 9_000, n % 17, n % 28 + 1);
    let _ = write!(
        page,
        concat!(
            r#"{{"id":{},"number":{number},"title":"Something breaks when \"x\" is {n}","state":"open","#,
            r#""locked":"false","comments":{comments},"score":"{comments}.50","user":{{"login":"user{number}","id":{number}}},"#,
            r#""labels":[{{"name":"bug"}},{{"name":"help"}}],"milestone":null,"#,
            r#""created_at":"2024-05-{day:02}T10:00:00+02:00","due":"202405{day:02}"}}"#
        ),
        1_000_000 + n,
        number = number,
        n = n,
        comments = comments,
        day = day,
    );
}

/// Each page's records, one on a line.
fn each_page(pages: &str, mut take: impl FnMut(&gleaner::records::page::Page)) {
    let selector = Selector::new(&path("items"), false, &[]);
    let file = BufReader::new(File::open(pages).expect("the file of pages"));
    for line in file.lines() {
        let line = line.expect("a page");
        take(&selector.select(line.as_bytes()).expect("records"));
    }
}

fn filter(pages: &str, out: &str) {
    let steps = [StepPlan {
        step: Step::Jq(Jq::parse(FILTER).expect("a filter")),
        place: Place::new(FilePath::new("x.yaml"), FILTER, &(0..1)),
    }];
    let mut out = BufWriter::new(File::create(out).expect("an output"));
    let names = minijinja::Value::from_pairs([("repo", "x")]);
    each_page(pages, |page| {
        let page = transform(&steps, 0, page.records(), &names).expect("records");
        out.write_all(&page.lines).expect("a disk");
    });
    out.flush().expect("a disk");
}

fn typed(pages: &str, out: &FilePath) {
    let column = |name: &str, from: &str, kind: Kind, format: &str| ColumnPlan {
        typed: Some(Typed {
            kind,
            format: match format {
                "" => Format::Iso,
                pattern => Format::parse(pattern).expect("a pattern"),
            },
            zone: TimeZone::UTC,
        }),
        ..ColumnPlan::new(name, ColumnFrom::Path(path(from)))
    };
    let columns = [
        column("id", "id", Kind::Integer, ""),
        column("title", "title", Kind::Text, ""),
        column("author", "user.login", Kind::Text, ""),
        column("comments", "comments", Kind::Integer, ""),
        column("score", "score", Kind::Number, ""),
        column("locked", "locked", Kind::Boolean, ""),
        column("created_at", "created_at", Kind::Timestamp, ""),
        column("due", "due", Kind::Date, "%Y%m%d"),
    ];
    let csv = SinkFormat::Csv(CsvPlan {
        delimiter: b',',
        null: String::new(),
        spreadsheet_safe: false,
    });
    let target = Target::File {
        disk: Disk::system(),
        path: out.to_owned(),
        compression: Compression::None,
    };
    let declared = [&columns[..]];
    let declared = Columns::of(&declared);
    let written = write::<SinkError>(&csv, &target, declared, None, &mut |each| {
        let mut failed = None;
        each_page(pages, |page| {
            for json in page.records() {
                let row = Row {
                    json,
                    extras: &[],
                    computed: &[],
                    member: 0,
                };
                if let Err(error) = each(row) {
                    failed.get_or_insert(error);
                }
            }
        });
        failed.map_or(Ok(()), Err)
    });
    let written = written.map_err(|e| e.to_string()).expect("rows");
    written
        .file
        .place()
        .map_err(|e| e.to_string())
        .expect("a file");
}

fn path(written: &str) -> Path {
    Path::parse(written).expect("a path")
}
