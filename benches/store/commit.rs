//! Pages through the store, committed in groups, beside the same bytes written to a file and
//! synced once; the difference is held against what a whole run of these pages costs.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use gleaner::disk::Disk;
use gleaner::store::row::{Facts, RunStart};
use gleaner::store::run::RunFolder;
use gleaner::store::space::Floor;
use gleaner::store::stream::{NewPage, Piece};
use jiff::Timestamp;

use super::gauge::Bars;
use super::gauge::measure::run;
use super::{PER_PAGE, pipeline};

/// Pages, as in the bulk bench at 100 records a page.
const PAGES: u32 = 10_000;
/// Groups that a run of these makes: one each 200 ms.
const GROUPS: u32 = 5;
/// The best of so many counts: what else the machine does only adds.
const ROUNDS: usize = 5;

pub(crate) fn measure(bars: &mut Bars, folder: &Path, url: &str) {
    let page = vec![b'x'; 300 * PER_PAGE];
    let best = |work: &dyn Fn()| {
        let mut least = Spent {
            cpu: f64::INFINITY,
            wall: f64::INFINITY,
        };
        for _ in 0..ROUNDS {
            // What the round before left to be written is none of this one's.
            let _ = Command::new("sync").status();
            let (before, began) = (cpu(), Instant::now());
            work();
            least.cpu = least.cpu.min(cpu() - before);
            least.wall = least.wall.min(began.elapsed().as_secs_f64());
        }
        least
    };
    let plain = best(&|| {
        let mut file = File::create(folder.join("plain")).expect("a file");
        for _ in 0..PAGES {
            file.write_all(&page).expect("room");
        }
        file.sync_data().expect("a disk");
    });
    let stored = best(&|| store(folder, &page));
    pipeline(folder, url, "bulk", PAGES as usize, "");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gleaner"));
    command.current_dir(folder).args(["run", "-q", "bulk"]);
    let whole = run(command);
    println!(
        "commits: {PAGES} pages of 30 kB through the store {:.3} s of CPU and {:.3} s in all, plainly written {:.3} and {:.3} s, a whole run {:.3} and {:.3} s",
        stored.cpu, stored.wall, plain.cpu, plain.wall, whole.cpu, whole.wall
    );
    let (cpu, wall) = (stored.cpu - plain.cpu, stored.wall - plain.wall);
    bars.judge(
        "CPU of commits / CPU of a run without them",
        cpu / (whole.cpu - cpu),
        0.05,
    );
    // At most: a run commits while it fetches, and this does one after the other.
    bars.judge(
        "time of commits / time of a run without them",
        wall / (whole.wall - wall),
        0.05,
    );
}

/// What work cost, in seconds.
struct Spent {
    cpu: f64,
    wall: f64,
}

fn store(folder: &Path, page: &[u8]) {
    let root = folder.join("project");
    let _ = std::fs::remove_dir_all(&root);
    let start = RunStart::new("bench", vec!["records".into()], Timestamp::now());
    let disk = Disk::system();
    std::fs::create_dir_all(&root).expect("a folder");
    let floor = Floor::new(Floor::USUAL);
    let mut open = RunFolder::create(&disk, &root, "bench", start, &floor).expect("a run");
    let stream = open.streams.first_mut().expect("a stream");
    let mut pages = Vec::new();
    for at in 0..PAGES {
        pages.push(NewPage {
            partition: at,
            page: 0,
            request: u64::from(at),
            lines: page,
            // A page of a run is summed up anyway, for the loop guards.
            crc: 0,
            records: 100,
            piece: Piece::Whole,
            facts: Facts {
                content: Some(format!("{at:016x}")),
                ..Facts::default()
            },
        });
        if (at + 1) % (PAGES / GROUPS) == 0 {
            let group = std::mem::take(&mut pages);
            stream.append(group).expect("room");
            let mut group = stream.group().expect("pages");
            group.commit().expect("a disk");
        }
    }
}

/// Seconds of user and system time of this process.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
