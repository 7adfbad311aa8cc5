//! What a child process costs: CPU from the kernel's account of children waited for, memory from
//! its high-water mark.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What one run of a program cost.
pub(crate) struct Cost {
    /// Seconds of user and system time.
    pub cpu: f64,
    /// Seconds on the wall.
    pub wall: f64,
    /// Most resident memory.
    pub peak_mb: f64,
}

impl Cost {
    pub(crate) fn print(&self, what: &str, floor: Option<&Cost>) {
        let ratio = floor
            .map(|floor| format!(", CPU {:.2} x (a)", self.cpu / floor.cpu))
            .unwrap_or_default();
        println!(
            "  {what:<24} CPU {:>6.2} s  wall {:>6.2} s  peak {:>6.1} MB{ratio}",
            self.cpu, self.wall, self.peak_mb
        );
    }
}

/// Runs of each program.
const ROUNDS: usize = 5;

/// The least that each program costs in so many runs: what else the machine does only adds. They take
/// turns, so that a slow spell is not one program's. Its memory is the most.
pub(crate) fn least<const N: usize>(programs: [&dyn Fn() -> Cost; N]) -> [Cost; N] {
    let mut least = programs.map(|program| program());
    for _ in 1..ROUNDS {
        for (least, program) in least.iter_mut().zip(programs) {
            let cost = program();
            *least = Cost {
                cpu: least.cpu.min(cost.cpu),
                wall: least.wall.min(cost.wall),
                peak_mb: least.peak_mb.max(cost.peak_mb),
            };
        }
    }
    least
}

/// More than any program here writes.
const WARMED: usize = 768 << 20;

/// Takes much memory and gives it back. A virtual machine hands what it has not used for seconds back to its
/// host, and then pays for each page once more: a fifth of a run, and only of one whose memory is not what
/// the one before it has just let go.
fn warm() {
    let taken = vec![1_u8; WARMED];
    drop(std::hint::black_box(taken));
}

/// Runs a program to its end, which must be good. What others have left to be written is brought
/// to the disk first, so that none pays for the one before it.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
pub(crate) fn run(mut command: Command) -> Cost {
    let _ = Command::new("sync").status();
    warm();
    let before = children_cpu();
    let began = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kb = 0_u64;
    let exit = loop {
        if let Ok(text) = std::fs::read_to_string(&status) {
            let high = text.lines().find_map(|line| {
                line.strip_prefix("VmHWM:")?
                    .trim()
                    .strip_suffix(" kB")?
                    .parse()
                    .ok()
            });
            peak_kb = peak_kb.max(high.unwrap_or(0));
        }
        if let Some(exit) = child.try_wait().expect("the program can be waited for") {
            break exit;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(exit.success(), "{command:?} ended with {exit}");
    Cost {
        cpu: children_cpu() - before,
        wall: began.elapsed().as_secs_f64(),
        peak_mb: peak_kb as f64 / 1024.0,
    }
}

/// `cutime` and `cstime` of proc(5), in seconds; the kernel counts them in hundredths.
fn children_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a Linux machine");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> = after_name
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    (fields[13] + fields[14]) / 100.0
}
