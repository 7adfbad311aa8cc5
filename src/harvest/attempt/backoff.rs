//! How long to wait before a page is tried again.
//!
//! The schedule is the `backoff` crate's exponential one; its clock, its deadline and its jitter
//! are ours. The crate is unmaintained (RUSTSEC-2025-0012, and RUSTSEC-2024-0384 for its
//! `instant`), so this file alone imports it, and for the schedule alone: its retry loop lets a
//! Retry-After pass the deadline, and its jitter can neither be seeded nor reach zero.

use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::exponential::ExponentialBackoff;

use crate::clock::Clock;

/// The longest delay before the first retry.
const BASE: Duration = Duration::from_secs(1);

/// The longest delay before any retry.
const CAP: Duration = Duration::from_mins(1);

/// The delays between the attempts at one page; ends at the page's deadline.
#[derive(Debug)]
pub struct Backoff {
    schedule: ExponentialBackoff<Monotonic>,
    random: fastrand::Rng,
}

impl Backoff {
    /// Begins the time of a page, which ends `page_deadline` from now. The same `seed` gives the
    /// same delays.
    pub fn new(clock: Clock, page_deadline: Duration, seed: u64) -> Self {
        let clock = Monotonic(clock);
        let schedule = ExponentialBackoff {
            current_interval: BASE,
            initial_interval: BASE,
            randomization_factor: 0.0,
            multiplier: 2.0,
            max_interval: CAP,
            start_time: backoff::Clock::now(&clock),
            max_elapsed_time: Some(page_deadline),
            clock,
        };
        Self {
            schedule,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// What is left of the page's time.
    pub fn left(&self) -> Duration {
        let most = self.schedule.max_elapsed_time.unwrap_or(Duration::MAX);
        most.saturating_sub(self.schedule.get_elapsed_time())
    }

    /// Leaves `wait`, which is over, out of the page's time.
    pub fn excuse(&mut self, wait: Duration) {
        self.schedule.start_time += wait;
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    /// The next delay: anything from nothing to the schedule's step ("full jitter"), so that
    /// requests which failed together do not come back together. `None` once the deadline has
    /// passed or the step would pass it.
    fn next(&mut self) -> Option<Duration> {
        let step = self.schedule.next_backoff()?;
        let most = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX);
        Some(Duration::from_nanos(self.random.u64(0..=most)))
    }
}

/// The clock of the run, as the crate asks for it.
#[derive(Debug)]
struct Monotonic(Clock);

impl backoff::Clock for Monotonic {
    fn now(&self) -> std::time::Instant {
        self.0.now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    async fn delays(deadline: Duration, seed: u64) -> (Vec<Duration>, Duration) {
        let clock = Clock::system();
        let start = clock.now();
        let mut delays = Vec::new();
        for delay in Backoff::new(clock, deadline, seed) {
            delays.push(delay);
            clock.sleep_until(clock.now() + delay).await;
        }
        (delays, clock.now() - start)
    }

    #[tokio::test(start_paused = true)]
    async fn doubles_from_a_second_to_a_minute() {
        let mut longest = [Duration::ZERO; 9];
        let mut shortest = [Duration::MAX; 9];
        for seed in 0..300 {
            let mut backoff = Backoff::new(Clock::system(), 3600 * SEC, seed);
            for i in 0..9 {
                let delay = backoff.next().unwrap();
                longest[i] = longest[i].max(delay);
                shortest[i] = shortest[i].min(delay);
            }
        }
        for (i, secs) in [1, 2, 4, 8, 16, 32, 60, 60, 60].into_iter().enumerate() {
            let step = SEC * secs;
            assert!(longest[i] <= step, "step {i}: {:?}", longest[i]);
            // Full jitter: of 300 draws some lie near each end.
            assert!(longest[i] > step * 9 / 10, "step {i}: {:?}", longest[i]);
            assert!(shortest[i] < step / 10, "step {i}: {:?}", shortest[i]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_seed_gives_its_delays_again() {
        let (first, _) = delays(600 * SEC, 7).await;
        assert_eq!(delays(600 * SEC, 7).await.0, first);
        assert_ne!(delays(600 * SEC, 8).await.0, first);
    }

    #[tokio::test(start_paused = true)]
    async fn ends_at_the_deadline() {
        for seed in 0..50 {
            let (delays, took) = delays(300 * SEC, seed).await;
            assert!(delays.len() > 5, "{delays:?}");
            assert!(took <= 300 * SEC, "never past it: {took:?}");
            assert!(took >= 239 * SEC, "at most one step before it: {took:?}");
        }
        let clock = Clock::system();
        let mut backoff = Backoff::new(clock, 10 * SEC, 1);
        assert!(backoff.next().is_some());
        clock.sleep_until(clock.now() + 11 * SEC).await;
        assert_eq!(backoff.next(), None);
    }
}
