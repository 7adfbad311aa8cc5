//! What is due, decided as values: nothing here waits, writes or runs.
//!
//! A planned time is due once its jitter has passed. Of those that are due the latest is *late* at worst
//! if it is not more than [`LATE`] ago; all others were *missed*, for nobody was there. What is decided about
//! a time settles it for ever, and the mark moves behind it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::plan::schedule::{Missed, Overlap, SchedulePlan};

/// A run that begins so much after its time is late; later it was missed.
pub const LATE: SignedDuration = SignedDuration::from_hours(1);

/// So many missed times are settled at once: what `missed: all` has left over is due when these are done.
const AT_ONCE: usize = 100;

/// More times than these are not counted one by one.
const COUNTED: usize = 1_000;

/// What goes on of a pipeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Busy {
    /// A run is under way.
    pub runs: bool,
    /// So many times wait for their run.
    pub waiting: usize,
    /// What runs or waits was left by a scheduler that has ended: it was not at work, and in nobody's
    /// way, when the times passed that are due now.
    pub inherited: bool,
}

/// What is decided about a time that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The time; the latest of those it stands for.
    pub at: Timestamp,
    /// How many times it stands for.
    pub times: u32,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It runs as soon as nothing is in its way.
    Run,
    /// It is left out: it passed while nobody was there.
    Missed,
    /// It is left out: the run before goes on.
    Overlaps,
    /// It is left out: another one waits already.
    Queued,
}

/// All that is decided at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// All times up to here are settled.
    pub mark: Timestamp,
    /// In order.
    pub settled: Vec<Settled>,
}

/// Now, and since when this scheduler is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Now.
    pub now: Timestamp,
    /// When the scheduler began.
    pub since: Timestamp,
}

/// Decides about all times behind `mark` that are due.
pub fn settle(
    plan: &SchedulePlan,
    jitter: SignedDuration,
    mark: Timestamp,
    busy: Busy,
    Moment { now, since }: Moment,
) -> Verdict {
    let nothing = |mark| Verdict {
        mark,
        settled: Vec::new(),
    };
    if plan.missed == Missed::All && busy.waiting > 0 {
        // Those that wait come first; nothing is forgotten while the mark stays.
        return nothing(mark);
    }
    let Ok(until) = now.checked_sub(jitter) else {
        return nothing(mark);
    };
    let Some(due) = Due::between(plan, mark, until) else {
        return nothing(mark);
    };
    let is_late = until.duration_since(due.last) <= LATE;
    let was_there = due.last.checked_add(jitter).is_ok_and(|at| at >= since);
    let mut settled = Vec::new();
    if plan.missed == Missed::All && due.times > 1 {
        let first = due.first.iter().take(AT_ONCE);
        settled.extend(first.map(|at| Settled {
            at: *at,
            times: 1,
            fate: Fate::Run,
        }));
    } else {
        let (missed, times) = match plan.missed {
            // A time that is too late to be late is a missed one.
            Missed::Skip if is_late => (due.times - 1, 1),
            Missed::Skip => (due.times, 0),
            Missed::Once | Missed::All => (0, due.times),
        };
        if missed > 0 {
            let last = if is_late {
                due.before_last
            } else {
                Some(due.last)
            };
            settled.extend(last.map(|at| Settled {
                at,
                times: missed,
                fate: Fate::Missed,
            }));
        }
        if times > 0 {
            settled.push(Settled {
                at: due.last,
                times,
                fate: fate(plan.overlap, busy, was_there),
            });
        }
    }
    let mark = settled.last().map_or(mark, |last| last.at);
    Verdict { mark, settled }
}

/// What becomes of a time that is to run; `was_there` says that the scheduler was when it came.
fn fate(overlap: Overlap, busy: Busy, was_there: bool) -> Fate {
    let is_free = !busy.runs && busy.waiting == 0;
    let after_the_inherited = busy.inherited && !was_there && busy.waiting <= 1;
    if is_free || after_the_inherited {
        return Fate::Run;
    }
    match overlap {
        Overlap::Skip => Fate::Overlaps,
        Overlap::Queue if busy.waiting > 0 => Fate::Queued,
        Overlap::Queue => Fate::Run,
    }
}

/// The times that are due.
struct Due {
    /// Some of the first.
    first: Vec<Timestamp>,
    before_last: Option<Timestamp>,
    last: Timestamp,
    /// How many; where they are very many, how many were counted.
    times: u32,
}

impl Due {
    /// Times behind `mark`, up to `until`.
    fn between(plan: &SchedulePlan, mark: Timestamp, until: Timestamp) -> Option<Self> {
        let mut first: Vec<Timestamp> = times(plan, mark, until).take(COUNTED).collect();
        let mut times_seen = u32::try_from(first.len()).unwrap_or(u32::MAX);
        let mut last_two: Vec<Timestamp> = first.iter().rev().take(2).copied().collect();
        if first.len() == COUNTED {
            // Every minute of years: only the end of it matters, sought further and further back.
            let mut reach = SignedDuration::from_hours(1);
            loop {
                let from = until.checked_sub(reach).unwrap_or(mark).max(mark);
                let tail: Vec<Timestamp> = times(plan, from, until).collect();
                if tail.len() >= 2 || from == mark {
                    last_two = tail.iter().rev().take(2).copied().collect();
                    break;
                }
                reach = reach.saturating_mul(4);
            }
            times_seen = times_seen.max(2);
        }
        let last = *last_two.first()?;
        first.truncate(AT_ONCE);
        Some(Self {
            first,
            before_last: last_two.get(1).copied(),
            last,
            times: times_seen,
        })
    }
}

/// Times behind `mark`, up to `until`, in order.
fn times(
    plan: &SchedulePlan,
    mark: Timestamp,
    until: Timestamp,
) -> impl Iterator<Item = Timestamp> + '_ {
    std::iter::successors(plan.next(mark), |at| plan.next(*at)).take_while(move |at| *at <= until)
}

/// How much later than planned a pipeline starts: the same for a name every night, in whole seconds,
/// spread over the time that the schedule allows.
pub fn jitter(name: &str, most: Duration) -> SignedDuration {
    let seconds = most.as_secs();
    if seconds == 0 {
        return SignedDuration::ZERO;
    }
    let place = crate::store::hash::stable(&["jitter", name]) % (seconds + 1);
    SignedDuration::from_secs(i64::try_from(place).unwrap_or_default())
}

/// From where the times of a schedule count that nobody knew before: all that are due later, and of those that were due
/// within `reach` before `now` the latest. None of them was missed.
pub fn begin(
    plan: &SchedulePlan,
    jitter: SignedDuration,
    now: Timestamp,
    reach: SignedDuration,
) -> Timestamp {
    let before = |span| now.checked_sub(span).unwrap_or(now);
    let (since, until) = (before(reach.saturating_add(jitter)), before(jitter));
    let latest = times(plan, since, until).last();
    latest
        .and_then(|at| at.checked_sub(SignedDuration::from_secs(1)).ok())
        .unwrap_or(until)
}

/// When the first time behind `mark` is due.
pub fn next(plan: &SchedulePlan, jitter: SignedDuration, mark: Timestamp) -> Option<Timestamp> {
    plan.next(mark)?.checked_add(jitter).ok()
}
