//! A permit in process, when nothing binds: taken, received, answered.

use std::time::Instant;

use gleaner::clock::Clock;
use gleaner::limits::Limits;

use super::{Bars, base, needs, plans, quantile, turn};

const PERMITS: usize = 1_000_000;
/// Permits between two looks at the clock, so that looking is not what is measured.
const BATCH: usize = 20;

pub(crate) fn measure(bars: &mut Bars) {
    println!("a permit in process, {PERMITS} in a row, nothing binds");
    for written in [
        &["100_000_000/s"][..],
        &["100_000_000/s", "4_000_000_000/h"],
    ] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let mut nanos = runtime.block_on(async {
            let limits = Limits::new(Clock::system(), &base(), &plans(written), 16);
            let needs = needs(&limits);
            let mut nanos = Vec::with_capacity(PERMITS / BATCH);
            for _ in 0..PERMITS / BATCH {
                let began = Instant::now();
                for _ in 0..BATCH {
                    turn(&limits, &needs).await;
                }
                nanos.push(super::nanos(began.elapsed()) / BATCH as u64);
            }
            nanos
        });
        nanos.sort_unstable();
        let (p50, p99) = (quantile(&nanos, 0.5), quantile(&nanos, 0.99));
        let count = written.len();
        println!("  limits: {count}, p50 {p50:.0} ns, p99 {p99:.0} ns");
        bars.judge(
            &format!("permit in process, limits: {count}, p50 in microseconds"),
            p50 / 1e3,
            2.0,
        );
    }
}
