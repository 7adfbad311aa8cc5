//! A permit through the book that processes share: this program starts itself as each of them.
//!
//! - paced: every process asks at an even rate and nothing binds: what a permit costs
//! - greedy: all ask for more than there is: whether what is there is used

use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gleaner::clock::Clock;
use gleaner::limits::{Asker, Book, Limits};

use super::{Bars, base, needs, plans, quantile, turn};

const PROCESSES: u32 = 4;
const RATE: u32 = 2000;
const SECONDS: u32 = 5;

pub(crate) fn measure(bars: &mut Bars) {
    println!("{PROCESSES} processes share a book, {SECONDS} s");
    let mut nanos = together("paced", "1_000_000/s");
    nanos.sort_unstable();
    let (p50, p99) = (quantile(&nanos, 0.5), quantile(&nanos, 0.99));
    println!(
        "  {RATE}/s in all, {} permits: p50 {:.1} microseconds, p99 {:.1}",
        nanos.len(),
        p50 / 1e3,
        p99 / 1e3
    );
    bars.judge(
        "permit through the book, p50 in microseconds",
        p50 / 1e3,
        100.0,
    );
    bars.judge(
        "permit through the book, p99 in milliseconds",
        p99 / 1e6,
        1.0,
    );

    let taken = together("greedy", &format!("{RATE}/s")).len();
    let ideal = RATE * SECONDS;
    println!("  as many as they can at {RATE}/s: {taken}, ideal {ideal}");
    bars.judge(
        "ideal / permits taken",
        f64::from(ideal) / taken as f64,
        1.03,
    );
}

/// What each permit took, of all processes.
fn together(mode: &str, limit: &str) -> Vec<u64> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("limits-book");
    let _ = std::fs::remove_dir_all(&folder);
    let mut holders: Vec<Child> = (0..PROCESSES)
        .map(|_| start(mode, limit, &folder))
        .collect();
    // All have opened the book before the first asks.
    let mut outputs: Vec<_> = holders
        .iter_mut()
        .map(|holder| {
            let mut output = BufReader::new(holder.stdout.take().expect("its output"));
            output.read_line(&mut String::new()).expect("it is ready");
            output
        })
        .collect();
    for holder in &mut holders {
        let mut input = holder.stdin.take().expect("its input");
        input.write_all(b"\n").expect("it listens");
    }
    let mut figures = String::new();
    for output in &mut outputs {
        output.read_to_string(&mut figures).expect("its figures");
    }
    for holder in &mut holders {
        assert!(holder.wait().expect("it ends").success());
    }
    let figures = figures.lines().map(|line| line.parse().expect("a figure"));
    figures.collect()
}

fn start(mode: &str, limit: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["holder", mode, limit])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process starts")
}

/// `holder MODE LIMIT FOLDER`: one of the processes. Says that it is ready, waits for a line,
/// and tells what each permit took, in nanoseconds.
pub(crate) fn holder(arguments: &[String]) {
    let [mode, limit, folder] = arguments else {
        panic!("holder MODE LIMIT FOLDER");
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let nanos = runtime.block_on(async {
        let book = Book::open(Path::new(folder)).expect("a book");
        let plans = plans(&[limit]);
        let clock = Clock::system();
        let asker = Asker {
            credential: "token".to_owned(),
            ..Asker::default()
        };
        let limits = Limits::booked(clock, &base(), &plans, 16, book, asker);
        println!("ready");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("a beginning");
        if mode == "paced" {
            paced(clock, &limits).await
        } else {
            greedy(&limits).await
        }
    });
    let lines: Vec<String> = nanos.iter().map(u64::to_string).collect();
    println!("{}", lines.join("\n"));
}

/// Asks evenly, its share of the rate.
async fn paced(clock: Clock, limits: &Limits) -> Vec<u64> {
    let needs = needs(limits);
    let every = Duration::from_secs(1) * PROCESSES / RATE;
    let began = clock.now();
    let mut nanos = Vec::new();
    for n in 0..RATE * SECONDS / PROCESSES {
        clock.sleep_until(began + every * n).await;
        let asked = Instant::now();
        turn(limits, &needs).await;
        nanos.push(super::nanos(asked.elapsed()));
    }
    nanos
}

/// Asks again as soon as it was answered.
async fn greedy(limits: &Limits) -> Vec<u64> {
    let needs = needs(limits);
    let began = Instant::now();
    let mut nanos = Vec::new();
    loop {
        let asked = Instant::now();
        turn(limits, &needs).await;
        if began.elapsed() >= Duration::from_secs(u64::from(SECONDS)) {
            return nanos;
        }
        nanos.push(super::nanos(asked.elapsed()));
    }
}
