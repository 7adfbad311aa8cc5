//! What the pretend API saw: every arrival, and checks over them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderName, Method};

use crate::clock::Instant;
use crate::count::{plural, thousands};

/// The log of one API. Holds no credentials, only whether there were any.
#[derive(Debug)]
pub struct Audit {
    /// Whether only numbers are kept.
    counters_only: bool,
    seen: Mutex<Seen>,
}

/// One request as the log keeps it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it arrived, stamped before anything was done with it.
    pub at: Instant,
    /// Its method.
    pub method: Method,
    /// Scheme, host and port.
    pub origin: String,
    /// Path and query; the value of a credential in the query is replaced by `***`.
    pub target: String,
    /// The names of its headers.
    pub headers: Vec<HeaderName>,
    /// Its `User-Agent`.
    pub user_agent: Option<String>,
    /// Whether it carried `Authorization`, `Cookie` or what the API asks for; never the value.
    pub credentials: bool,
    /// What came of it.
    pub outcome: Outcome,
}

impl Entry {
    /// Whether a header was there.
    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|one| one == name)
    }
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered with this status.
    Answered(u16),
    /// Refused by a limit with this status; not to be tried again before the instant.
    Refused(u16, Instant),
    /// A fault befell it; the status, where one was sent.
    Faulted(Option<u16>),
}

impl Outcome {
    /// The status that was sent, if any.
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Answered(status) | Self::Refused(status, _) => Some(status),
            Self::Faulted(status) => status,
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    /// All arrivals; kept even where entries are not, for the windows.
    arrivals: Vec<Instant>,
    entries: Vec<Entry>,
    /// When each refusal was given, and until when.
    pauses: Vec<(Instant, Instant)>,
    faults: u64,
    in_flight: usize,
    in_flight_max: usize,
}

impl Audit {
    /// An empty log.
    pub fn new(counters_only: bool) -> Self {
        Self {
            counters_only,
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an arrival down; `entry` is asked for only where entries are kept.
    pub(super) fn arrived(&self, at: Instant, outcome: Outcome, entry: impl FnOnce() -> Entry) {
        let mut seen = self.seen();
        seen.arrivals.push(at);
        match outcome {
            Outcome::Answered(_) => {}
            Outcome::Refused(_, until) => seen.pauses.push((at, until)),
            Outcome::Faulted(_) => seen.faults += 1,
        }
        seen.in_flight += 1;
        seen.in_flight_max = seen.in_flight_max.max(seen.in_flight);
        if !self.counters_only {
            seen.entries.push(entry());
        }
    }

    /// Writes down that a request's answer is over.
    pub(super) fn left(&self) {
        let mut seen = self.seen();
        seen.in_flight = seen.in_flight.saturating_sub(1);
    }

    /// How many requests arrived.
    pub fn requests(&self) -> usize {
        self.seen().arrivals.len()
    }

    /// How many a limit refused.
    pub fn refusals(&self) -> usize {
        self.seen().pauses.len()
    }

    /// How many a fault befell.
    pub fn faults(&self) -> u64 {
        self.seen().faults
    }

    /// How many are being answered now.
    pub fn in_flight(&self) -> usize {
        self.seen().in_flight
    }

    /// How many were being answered at once, at most.
    pub fn in_flight_max(&self) -> usize {
        self.seen().in_flight_max
    }

    /// All entries, by arrival; none where only numbers are kept.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = self.seen().entries.clone();
        entries.sort_by_key(|entry| entry.at);
        entries
    }

    /// Entries for one path.
    pub fn entries_for(&self, path: &str) -> Vec<Entry> {
        let mut entries = self.entries();
        entries.retain(|entry| entry.target.split('?').next() == Some(path));
        entries
    }

    /// All arrivals, in order.
    pub fn arrivals(&self) -> Vec<Instant> {
        let mut arrivals = self.seen().arrivals.clone();
        arrivals.sort_unstable();
        arrivals
    }

    /// The most arrivals in any span as long as `window`, its end left out: the strictest
    /// reading of "so many per window", whatever kind of window the server lays.
    pub fn max_in_window(&self, window: Duration) -> usize {
        most(&self.arrivals(), window)
    }

    /// The same for the requests to one origin whose path begins with `prefix`.
    pub fn max_in_window_at(&self, origin: &str, prefix: &str, window: Duration) -> usize {
        let arrivals: Vec<Instant> = self
            .entries()
            .iter()
            .filter(|entry| entry.origin == origin && entry.target.starts_with(prefix))
            .map(|entry| entry.at)
            .collect();
        most(&arrivals, window)
    }

    /// The same for the requests whose path begins with `prefix`.
    pub fn max_in_window_under(&self, prefix: &str, window: Duration) -> usize {
        let arrivals: Vec<Instant> = self
            .entries()
            .iter()
            .filter(|entry| entry.target.starts_with(prefix))
            .map(|entry| entry.at)
            .collect();
        most(&arrivals, window)
    }

    /// The most arrivals in one window of a server that lays windows end to end, whichever phase
    /// they have: counted window by window, for every phase at which an arrival begins one.
    pub fn max_in_fixed_window(&self, window: Duration) -> usize {
        most_laid(&self.arrivals(), window)
    }

    /// The most that a bucket holds which each arrival fills by one and which leaks `requests`
    /// per `window`.
    pub fn max_in_bucket(&self, requests: usize, window: Duration) -> f64 {
        fullest(&self.arrivals(), requests, window)
    }

    /// Arrivals at or after an instant.
    pub fn calls_since(&self, from: Instant) -> usize {
        let arrivals = self.arrivals();
        arrivals.len() - arrivals.partition_point(|at| *at < from)
    }

    /// Arrivals during a pause that a refusal asked for, without those within `grace` of that
    /// refusal (they were on their way).
    pub fn calls_after_pause(&self, grace: Duration) -> usize {
        let arrivals = self.arrivals();
        let pauses = self.seen().pauses.clone();
        arrivals
            .iter()
            .filter(|at| {
                pauses
                    .iter()
                    .any(|(from, until)| **at > *from + grace && *at < until)
            })
            .count()
    }

    /// One line: `1,204 requests, never more than 20 in any second, 3 faults survived`.
    pub fn summary(&self, window: Duration) -> String {
        let mut line = format!(
            "{}, never more than {} in any {}, {} survived",
            plural(self.requests() as u64, "request"),
            thousands(self.max_in_window(window) as u64),
            span(window),
            plural(self.faults(), "fault"),
        );
        let refusals = self.refusals() as u64;
        if refusals > 0 {
            line.push_str(", ");
            line.push_str(&plural(refusals, "request"));
            line.push_str(" refused");
        }
        line
    }
}

/// The most of ascending instants in a span without its end.
fn most(arrivals: &[Instant], window: Duration) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in arrivals.iter().enumerate() {
        while first < last && arrivals[first] + window <= *at {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

/// The most of ascending instants in one of the windows that lie end to end.
fn most_laid(arrivals: &[Instant], window: Duration) -> usize {
    let Some(first) = arrivals.first() else {
        return 0;
    };
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let length = nanos(window).max(1);
    let at: Vec<u64> = arrivals.iter().map(|at| nanos(*at - *first)).collect();
    let mut most = 0;
    for begin in &at {
        // Windows begin at `begin` and whole lengths before and after it.
        let phase = length - begin % length;
        let (mut index, mut count) = (None, 0);
        for at in &at {
            let here = Some((at + phase) / length);
            count = if here == index { count + 1 } else { 1 };
            index = here;
            most = most.max(count);
        }
    }
    most
}

/// How full ascending arrivals make a leaking bucket.
fn fullest(arrivals: &[Instant], requests: usize, window: Duration) -> f64 {
    let leak = requests as f64 / window.as_secs_f64().max(1e-9);
    let (mut level, mut fullest, mut last) = (0.0_f64, 0.0_f64, None);
    for at in arrivals {
        let passed = last.map_or(Duration::ZERO, |last| *at - last);
        level = (level - passed.as_secs_f64() * leak).max(0.0) + 1.0;
        fullest = fullest.max(level);
        last = Some(*at);
    }
    fullest
}

fn span(window: Duration) -> String {
    match window.as_secs() {
        1 if window.subsec_nanos() == 0 => "second".to_owned(),
        60 => "minute".to_owned(),
        3600 => "hour".to_owned(),
        _ => format!("{window:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn windows_leave_their_end_out() {
        let start = Clock::system().now();
        let arrivals: Vec<Instant> = [0, 0, 400, 999, 1000, 1400]
            .iter()
            .map(|at| start + ms(*at))
            .collect();
        assert_eq!(most(&arrivals, ms(1000)), 4);
        assert_eq!(most(&arrivals, ms(400)), 2);
        assert_eq!(most(&arrivals, ms(1401)), 6);
        assert_eq!(most(&[], ms(1)), 0);
        // Windows laid end to end, at the worst phase: as many, no more.
        assert_eq!(most_laid(&arrivals, ms(1000)), 4);
        assert_eq!(most_laid(&arrivals, ms(400)), 2);
        assert_eq!(most_laid(&arrivals, ms(1401)), 6);
        assert_eq!(most_laid(&[], ms(1)), 0);
    }

    #[test]
    fn a_bucket_leaks_between_arrivals() {
        let start = Clock::system().now();
        let at = |times: &[u64]| -> Vec<Instant> { times.iter().map(|t| start + ms(*t)).collect() };
        let close = |one: f64, other: f64| (one - other).abs() < 1e-9;
        assert!(close(fullest(&at(&[0, 0, 0, 1000]), 2, ms(1000)), 3.0));
        assert!(close(fullest(&at(&[0, 250, 500]), 2, ms(1000)), 2.0));
        assert!(close(fullest(&at(&[0, 500, 1000]), 2, ms(1000)), 1.0));
        assert!(close(fullest(&[], 2, ms(1000)), 0.0));
    }

    #[test]
    fn counters_and_summary_without_entries() {
        let audit = Audit::new(true);
        let start = Clock::system().now();
        let entry = || unreachable!("entries are off");
        for n in 0..1200 {
            audit.arrived(start + ms(n * 50), Outcome::Answered(200), entry);
            audit.left();
        }
        let end = start + ms(70_000);
        audit.arrived(end, Outcome::Faulted(Some(503)), entry);
        assert_eq!(
            audit.summary(ms(1000)),
            "1,201 requests, never more than 20 in any second, 1 fault survived"
        );
        audit.arrived(end, Outcome::Refused(429, end + ms(2000)), entry);
        audit.arrived(end + ms(10), Outcome::Answered(200), entry);
        audit.arrived(end + ms(1500), Outcome::Answered(200), entry);
        audit.arrived(end + ms(2000), Outcome::Answered(200), entry);
        assert_eq!(audit.calls_after_pause(ms(100)), 1);
        assert_eq!(audit.calls_since(end + ms(1500)), 2);
        assert_eq!((audit.refusals(), audit.faults()), (1, 1));
        assert_eq!((audit.in_flight(), audit.in_flight_max()), (5, 5));
        assert!(audit.entries().is_empty());
        assert!(
            audit
                .summary(ms(500))
                .ends_with("1 fault survived, 1 request refused")
        );
        assert!(audit.summary(ms(500)).contains("in any 500ms"));
    }
}
