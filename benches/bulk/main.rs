//! Bulk and latency: `gleaner run` beside a bare hyper client and a tuned aiohttp script, all
//! against the same server in another process. See `benches/README.md` for what is measured.
//!
//! ```sh
//! cargo bench --bench bulk                     # 1,000,000 records
//! GLEANER_BENCH_RECORDS=100000 cargo bench --bench bulk
//! ```
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints, and stops at the first surprise"
)]
#![allow(missing_docs)]

mod bare;
#[path = "../gauge/mod.rs"]
mod gauge;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gleaner::sim::data::{Shape, records};
use gleaner::sim::paging::Paging;
use gleaner::sim::rules::{Latency, Listing, Route, Rules};

use self::gauge::Bars;
use self::gauge::measure::{Cost, least, run};
use self::gauge::project;
use self::gauge::server::{self, ServerProcess};

/// Requests in flight, for all three.
const IN_FLIGHT: usize = 16;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("serve") => serve(&arguments[2..]),
        Some("bare") => bare::main(&arguments[2..]),
        _ => compare(),
    }
}

/// `serve RECORDS LATENCY_MS`: the server, until its standard input closes.
fn serve(arguments: &[String]) {
    let count: usize = arguments[0].parse().expect("a count");
    let latency: u64 = arguments[1].parse().expect("milliseconds");
    let data = std::sync::Arc::new(records(count, &Shape::default()));
    let listing = |size| {
        Listing::new(data.clone(), Paging::page_total("meta.total"))
            .size(size)
            .records_at("data")
    };
    let rules = Rules {
        routes: vec![
            Route::list("/by100", listing(100)),
            Route::list("/by1000", listing(1000)),
            Route::list("/by10", listing(10)),
        ],
        latency: if latency == 0 {
            Latency::None
        } else {
            Latency::Fixed(Duration::from_millis(latency))
        },
        counters_only: true,
        ..Rules::default()
    };
    server::serve(rules);
}

fn compare() {
    let total = project::records(1_000_000);
    let folder = project::folder("bulk");
    println!(
        "bulk: {total} records of about 300 bytes, {IN_FLIGHT} in flight, loopback; CPU is user + system of the client\n"
    );
    let server = ServerProcess::start(&[total.to_string(), "0".to_owned()]);
    let mut bars = Bars::default();
    for size in [100, 1000] {
        let pages = total / size;
        let url = format!("{}/by{size}", server.url);
        // The caches of the server, so that the first in line does not pay for them.
        let _ = bare(&folder, &url, size, pages);
        println!("{size} a page, {pages} pages");
        let floor = || bare(&folder, &url, size, pages);
        let ours = |format| gleaner(&folder, &server.url, size, format, "bulk", total);
        let (ndjson, csv) = (|| ours("ndjson"), || ours("csv"));
        let theirs = |format, uvloop| aiohttp(&folder, &url, size, pages, format, uvloop);
        let (peer_ndjson, peer_csv) = (|| theirs("ndjson", false), || theirs("csv", false));
        let (floor, ndjson, csv, peers) = if has_peer() {
            let [floor, ndjson, peer_ndjson, csv, peer_csv] =
                least([&floor, &ndjson, &peer_ndjson, &csv, &peer_csv]);
            (floor, ndjson, csv, Some((peer_ndjson, peer_csv)))
        } else {
            let [floor, ndjson, csv] = least([&floor, &ndjson, &csv]);
            (floor, ndjson, csv, None)
        };
        floor.print("(a) bare hyper to file", None);
        ndjson.print("gleaner NDJSON", Some(&floor));
        csv.print("gleaner CSV", Some(&floor));
        bars.judge(
            &format!("NDJSON CPU / bare ({size} a page)"),
            ndjson.cpu / floor.cpu,
            2.0,
        );
        bars.judge(
            &format!("peak memory of NDJSON in MB ({size} a page)"),
            ndjson.peak_mb,
            100.0,
        );
        bars.judge(
            &format!("peak memory of CSV in MB ({size} a page)"),
            csv.peak_mb,
            100.0,
        );
        if let Some((peer_ndjson, peer_csv)) = peers {
            // Not a bar, but who would tune further would do this next.
            for format in ["ndjson", "csv"] {
                theirs(format, true).print(&format!("aiohttp + uvloop {format}"), Some(&floor));
            }
            peer_ndjson.print("(b) aiohttp NDJSON", Some(&floor));
            peer_csv.print("(b) aiohttp CSV", Some(&floor));
            bars.judge(
                &format!("NDJSON CPU / aiohttp ({size} a page)"),
                ndjson.cpu / peer_ndjson.cpu,
                0.2,
            );
            bars.judge(
                &format!("CSV CPU / aiohttp ({size} a page)"),
                csv.cpu / peer_csv.cpu,
                0.25,
            );
        }
        println!();
    }
    drop(server);
    let server = ServerProcess::start(&["20000", "100"].map(str::to_owned));
    let [slow] = least([&|| gleaner(&folder, &server.url, 10, "ndjson", "latency", 20_000)]);
    let ideal = 2_000.0 * 0.1 / 32.0;
    println!(
        "latency: 2,000 pages of 100 ms, 32 in flight: {:.2} s, ideal {ideal:.2} s",
        slow.wall
    );
    bars.judge("latency / ideal", slow.wall / ideal, 1.05);
    bars.print();
}

fn bare(folder: &Path, url: &str, size: usize, pages: usize) -> Cost {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args([
            "bare",
            &format!("{url}?per_page={size}&page="),
            &pages.to_string(),
            &IN_FLIGHT.to_string(),
        ])
        .arg(folder.join("bare.out"));
    run(command)
}

/// Where the Python side is installed.
fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real/peer/bin/python")
}

fn has_peer() -> bool {
    let is_there = python().exists();
    if !is_there {
        println!("(b) is not installed: see benches/README.md");
    }
    is_there
}

fn aiohttp(
    folder: &Path,
    url: &str,
    size: usize,
    pages: usize,
    format: &str,
    uvloop: bool,
) -> Cost {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python());
    command
        .arg(root.join("benches/bulk/aiohttp_peer.py"))
        .arg(format!("{url}?per_page={size}&page={{page}}"))
        .args([
            "--pages",
            &pages.to_string(),
            "--records",
            "data",
            "--workers",
            &IN_FLIGHT.to_string(),
            "--format",
            format,
        ])
        .arg("--out")
        .arg(folder.join(format!("aiohttp.{format}")));
    if uvloop {
        command.arg("--uvloop");
    }
    let cost = run(command);
    judge_output(
        &folder.join(format!("aiohttp.{format}")),
        format,
        pages * size,
    );
    cost
}

/// Every record is there, as far as their number tells.
fn judge_output(file: &Path, format: &str, total: usize) {
    let rows = if format == "csv" {
        let read = csv::Reader::from_path(file).expect("the output");
        read.into_byte_records().count()
    } else {
        let out = std::fs::read(file).expect("the output");
        memchr::memchr_iter(b'\n', &out).count()
    };
    assert_eq!(rows, total, "records of {}", file.display());
}

fn gleaner(folder: &Path, base: &str, size: usize, format: &str, name: &str, total: usize) -> Cost {
    let in_flight = if name == "latency" { 32 } else { IN_FLIGHT };
    let text = format!(
        "about: The bench.\nsource:\n  url: {base}\n  limits: none\n  concurrency: {in_flight}\nstreams:\n  records:\n    get: /by{size}\n    query: {{ per_page: {size} }}\n    \
         pages: {{ page: {{ to: page, size: per_page, total: meta.total }} }}\n    records: data\nsink: {{ {format}: out/{name}.{format} }}\n"
    );
    project::pipeline(folder, name, &text);
    let cost = project::harvest(folder, name);
    judge_output(&folder.join(format!("out/{name}.{format}")), format, total);
    cost
}
