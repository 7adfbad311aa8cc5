//! A run of very many records in very many partitions: its memory, and how soon it goes on after
//! kill -9 near its end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::gauge::Bars;
use super::gauge::measure::run;
use super::{PER_PAGE, pipeline};

pub(crate) fn measure(bars: &mut Bars, folder: &Path, url: &str) {
    let partitions: usize = std::env::var("GLEANER_BENCH_PARTITIONS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(100_000);
    pipeline(folder, url, "long", partitions, "");
    let total = partitions * PER_PAGE;
    let committed = killed(folder, partitions - partitions / 20);
    let began = Instant::now();
    let mut child = events(folder);
    let asked = lines(&mut child).any(|line| line.contains(r#""event":"request_sent""#));
    let soon = began.elapsed().as_secs_f64();
    lines(&mut child).for_each(drop);
    assert!(child.wait().expect("an end").success());
    assert_eq!(
        written(folder, "long"),
        total,
        "every record is there, once"
    );
    // A group is what came in 200 ms: of a small run the last one holds all that was left.
    assert_eq!(
        asked,
        committed < partitions as u64,
        "it asks for what is missing, and for nothing else"
    );
    if asked {
        println!(
            "{total} records in {partitions} partitions, killed near the end: asks again after {soon:.2} s"
        );
        bars.judge("seconds until a run so large asks again", soon, 1.0);
    } else {
        println!(
            "{partitions} partitions were all committed before the kill: too few to see how soon it asks again"
        );
    }

    let mut command = Command::new(env!("CARGO_BIN_EXE_gleaner"));
    command.current_dir(folder).args(["run", "-q", "long"]);
    let whole = run(command);
    whole.print("the whole run", None);
    assert_eq!(
        written(folder, "long"),
        total,
        "every record is there, once"
    );
    bars.judge(
        "peak memory in MB of 10,000,000 records in 100,000 partitions",
        whole.peak_mb,
        150.0,
    );

    // Half of it with a key: more than is sorted in memory.
    pipeline(
        folder,
        url,
        "keyed",
        partitions / 2,
        "    key: [part, id]\n",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_gleaner"));
    command.current_dir(folder).args(["run", "-q", "keyed"]);
    let keyed = run(command);
    keyed.print("half of it, with a key", None);
    assert_eq!(
        written(folder, "keyed"),
        total / 2,
        "every record is there, once"
    );
    bars.judge(
        "peak memory in MB of 5,000,000 records with a key",
        keyed.peak_mb,
        150.0,
    );

    // The same with a key that the records of all partitions share: nearly all of them come again.
    pipeline(folder, url, "again", partitions / 2, "    key: id\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gleaner"));
    command.current_dir(folder).args(["run", "-q", "again"]);
    let again = run(command);
    again.print("and most come again", None);
    assert_eq!(written(folder, "again"), PER_PAGE, "each of them once");
    bars.judge(
        "peak memory in MB of 5,000,000 records that come again",
        again.peak_mb,
        150.0,
    );
}

/// A run that is killed when so many of its pages are committed; how many were.
fn killed(folder: &Path, pages: usize) -> u64 {
    let mut child = events(folder);
    let mut committed = 0;
    for line in lines(&mut child) {
        let event: serde_json::Value = serde_json::from_str(&line).expect("an event");
        if event["event"] == "committed" {
            committed += event["pages"].as_u64().unwrap_or(0);
        }
        if committed >= pages as u64 {
            break;
        }
    }
    child.kill().expect("a process");
    // What it committed between that event and its death.
    for line in lines(&mut child) {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if event["event"] == "committed" {
            committed += event["pages"].as_u64().unwrap_or(0);
        }
    }
    child.wait().expect("an end");
    committed
}

fn events(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_gleaner"))
        .current_dir(folder)
        .args(["run", "--json", "long"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

fn lines(child: &mut Child) -> impl Iterator<Item = String> {
    let out = child.stdout.as_mut().expect("its output");
    BufReader::new(out).lines().map_while(Result::ok)
}

fn written(folder: &Path, name: &str) -> usize {
    let file = std::fs::File::open(folder.join(format!("out/{name}.ndjson"))).expect("the output");
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut count = 0;
    loop {
        let bytes = reader.fill_buf().expect("readable");
        if bytes.is_empty() {
            return count;
        }
        count += memchr::memchr_iter(b'\n', bytes).count();
        let read = bytes.len();
        reader.consume(read);
    }
}
