//! How fast records pass from pages to files, beside what a tree of the same page costs.
//!
//! `cargo bench --bench records`: megabytes of input a CPU second, one thread, best of several.
#![allow(missing_docs)]
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures and prints"
)]

use std::hint::black_box;
use std::io::Write as _;
use std::time::Instant;

use gleaner::disk::Disk;
use gleaner::plan::path::Path;
use gleaner::plan::sink::{Compression, CsvPlan, SinkFormat};
use gleaner::plan::{ColumnFrom, ColumnPlan};
use gleaner::records::select::Selector;
use gleaner::sink::csv::Csv;
use gleaner::sink::project::Projector;
use gleaner::sink::{Columns, Row, Sink as _, SinkError, Target, write};

const PAGES: usize = 200;
const PER_PAGE: usize = 100;

fn record(n: usize) -> String {
    format!(
        concat!(
            r#"{{"id":{n},"number":{m},"title":"Something breaks when \"x\" is {n}","state":"open","#,
            r#""locked":false,"comments":{c},"score":{c}.50,"user":{{"login":"user{m}","id":{m},"type":"User"}},"#,
            r#""labels":[{{"name":"bug"}},{{"name":"help"}}],"milestone":null,"#,
            r#""created_at":"2024-05-01T10:00:00Z","updated_at":"2024-05-02T11:30:00Z"}}"#
        ),
        n = 1_000_000 + n,
        m = n % 9_000,
        c = n % 17,
    )
}

/// CPU seconds of this thread, or of the wall clock where the system does not say.
fn seconds(start: Instant) -> f64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse::<f64>().ok())
        .map_or_else(|| start.elapsed().as_secs_f64(), |nanos| nanos / 1e9)
}

fn measure(what: &str, bytes: usize, base: Option<f64>, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    let best = (0..9)
        .map(|_| {
            let before = seconds(start);
            work();
            seconds(start) - before
        })
        .fold(f64::INFINITY, f64::min);
    let speed = bytes as f64 / 1e6 / best;
    let ratio = base.map_or(String::new(), |base| {
        format!("  {:5.1} x a tree", speed / base)
    });
    println!("{what:<44} {speed:7.0} MB/s{ratio}");
    speed
}

fn main() {
    let pages: Vec<String> = (0..PAGES)
        .map(|page| {
            let records: Vec<_> = (0..PER_PAGE).map(|n| record(page * PER_PAGE + n)).collect();
            format!(
                r#"{{"total":20000,"items":[{}],"next":"https://api.example/items?page={page}"}}"#,
                records.join(",")
            )
        })
        .collect();
    let bytes: usize = pages.iter().map(String::len).sum();
    println!(
        "{PAGES} pages of {PER_PAGE} records of {} bytes",
        bytes / PAGES / PER_PAGE
    );

    let tree = measure("a serde_json tree of each page", bytes, None, || {
        for page in &pages {
            black_box(serde_json::from_str::<serde_json::Value>(page).ok());
        }
    });

    let (items, total, next) = (path("items"), path("total"), path("next"));
    let selector = Selector::new(&items, false, &[&total, &next]);
    measure("select, with total and next", bytes, Some(tree), || {
        for page in &pages {
            black_box(selector.select(page.as_bytes()).ok());
        }
    });

    let lines: Vec<String> = pages
        .iter()
        .filter_map(|page| selector.select(page.as_bytes()).ok())
        .filter_map(|page| String::from_utf8(page.lines.into()).ok())
        .collect();
    let plan = CsvPlan {
        delimiter: b',',
        null: String::new(),
        spreadsheet_safe: false,
    };
    let columns: Vec<ColumnPlan> = [
        "id",
        "number",
        "title",
        "state",
        "locked",
        "comments",
        "score",
        "user.login",
        "user.id",
        "user.type",
        "labels",
        "milestone",
        "created_at",
        "updated_at",
    ]
    .into_iter()
    .map(|name| ColumnPlan::new(name, ColumnFrom::Path(path(name))))
    .collect();

    let mut projector = Projector::new(&columns);
    measure("projection alone, 14 columns", bytes, Some(tree), || {
        let mut cells = Vec::new();
        for line in lines.iter().flat_map(|page| page.lines()) {
            let _ = projector.cells(line, &[], &mut cells);
            black_box(&cells);
        }
    });
    measure("projection and csv in memory", bytes, Some(tree), || {
        let mut out = Csv::new(Vec::with_capacity(bytes), &plan);
        let mut cells = Vec::new();
        for line in lines.iter().flat_map(|page| page.lines()) {
            let _ = projector.cells(line, &[], &mut cells);
            let _ = cells.iter().try_for_each(|cell| out.cell(cell));
            let _ = out.end_row();
        }
        black_box(out.finish().map(|bytes| bytes.len()).ok());
    });

    let folder = std::env::temp_dir();
    let path = folder.join(format!("gleaner-bench-{}.csv", std::process::id()));
    let target = Target::File {
        disk: Disk::system(),
        path: path.clone(),
        compression: Compression::None,
    };
    let csv = SinkFormat::Csv(plan);
    let declared = [&columns[..]];
    for (what, columns) in [
        ("csv file, 14 declared columns", Columns::of(&declared)),
        ("csv file, columns found", None),
    ] {
        measure(what, bytes, Some(tree), || {
            let written = write::<SinkError>(&csv, &target, columns, None, &mut |each| {
                lines
                    .iter()
                    .flat_map(|page| page.lines())
                    .try_for_each(|json| {
                        each(Row {
                            json,
                            extras: &[],
                            computed: &[],
                            member: 0,
                        })
                    })
            });
            black_box(written.and_then(|w| w.file.place()).ok());
        });
    }
    let _ = std::fs::remove_file(path);
    let _ = std::io::stdout().flush();
}

fn path(written: &str) -> Path {
    Path {
        steps: written
            .split('.')
            .map(|name| gleaner::plan::path::Step::Key(name.to_owned()))
            .collect(),
    }
}
