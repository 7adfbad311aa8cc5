//! The numbers of a limit: what its plan comes to, in the units that budgets reckon in.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::budget::CALL;
use super::cell::Pace;
use super::moment::{SECOND, nanos};
use crate::event::{Name, Wait};
use crate::plan::limit::{CalendarUnit, Counting, LimitPlan, Spacing};

/// Timers tick in milliseconds and wake late; with this much time's worth of calls at once, what
/// a late wake-up lost is made up for and the declared rate is reached.
const LATENESS: u64 = 20_000_000;

/// The longest window that is spaced unless the file says otherwise: at most a minute is then
/// lost by a short job, while a bigger one would have used the window up anyway.
const SHORT: u64 = 60 * SECOND;

/// A finer pace than this would be rounded by more than a tenth of a percent.
const FINEST: u64 = 4096;

/// One limit in numbers. Amounts are thousandths of a call or unit, times nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// What a wait for it is called.
    pub(super) wait: Wait,
    /// What is counted, if not calls.
    pub(super) unit: Option<Name>,
    /// What the API grants: of a bucket its size, else what a window allows, the reserve
    /// included; 0 where nobody has declared that.
    pub(super) declared: u64,
    /// Whether what the API says of it counts where it is more.
    pub(super) trust: bool,
    /// Whether the file says where what is left is told: no header is taken for that.
    pub(super) explicit: bool,
    /// The most in any window.
    pub(super) capacity: u64,
    /// The window's length.
    pub(super) window: u64,
    /// Whether only receipts count.
    pub(super) strict: bool,
    /// How it is kept.
    pub(super) kind: Kind,
    /// Amount of one cell of the paces.
    cell: u64,
    /// Cells per window.
    cells: u64,
}

/// How a limit is kept.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Requests in flight of one process: comes back with the answer.
    Slots,
    /// Requests in flight of all processes: comes back with the answer, in order of arrival among
    /// those who wait.
    Flight,
    /// The log of permits, spaced or not.
    Window(Option<Pace>),
    /// A bucket, of which the capacity is the size.
    Bucket,
    /// Windows of the calendar, spaced or not.
    Calendar(CalendarUnit, TimeZone, Option<Pace>),
    /// The log, and the even pace that a sliding counter needs.
    Counter,
}

impl Rule {
    /// Requests in flight.
    pub(super) fn slots(most: usize) -> Self {
        let most = u64::try_from(most.max(1)).unwrap_or(u64::MAX);
        Self {
            wait: Wait::Concurrency,
            unit: None,
            declared: 0,
            trust: false,
            explicit: false,
            capacity: most.saturating_mul(CALL),
            window: 0,
            strict: false,
            kind: Kind::Slots,
            cell: CALL,
            cells: 1,
        }
    }

    /// One call a period, as long as nobody knows better.
    pub(super) fn paced(period: u64) -> Self {
        Self {
            wait: Wait::Limit {
                limit: "auto".into(),
                scope: None,
            },
            unit: None,
            declared: 0,
            trust: false,
            explicit: false,
            // Only the pace holds anything.
            capacity: u64::MAX / 4,
            window: SECOND,
            strict: false,
            kind: Kind::Window(Some(Pace::new(1, period, LATENESS.div_ceil(period.max(1))))),
            cell: CALL,
            cells: 1,
        }
    }

    /// The numbers of a limit.
    pub(super) fn new(plan: &LimitPlan) -> Self {
        let window = nanos(plan.window).max(1);
        let calls = u64::from(plan.calls.get());
        let kept = calls.saturating_sub(u64::from(plan.reserve)).max(1);
        let per_window = kept * CALL;
        let cell = cell_amount(per_window, window, plan.unit.is_some());
        let per_pace = (per_window / cell).max(1);
        let trust = plan.signals.trust;
        let usual = || {
            // The pace of a number that may be too small would hold back what is really there.
            if trust && plan.spacing == Spacing::Usual {
                return None;
            }
            let burst = burst(plan.spacing, per_pace, CALL.div_ceil(cell), window);
            // A log of N lets through nothing that a cell of burst N would hold back.
            (burst < per_pace).then(|| Pace::new(per_pace, window, burst))
        };
        let (kind, capacity) = match &plan.counting {
            Counting::Window => (Kind::Window(usual()), per_window),
            Counting::Counter => (Kind::Counter, per_window),
            Counting::Calendar(unit, zone) => {
                (Kind::Calendar(*unit, zone.clone(), usual()), per_window)
            }
            Counting::InFlight => (Kind::Flight, per_window),
            Counting::Auto => return Self::paced(window),
            Counting::Bucket(size) => {
                // The reserve is a share of the bucket too.
                let size = (u64::from(size.get()) * kept / calls).max(1) * CALL;
                (Kind::Bucket, size)
            }
        };
        Self {
            wait: Wait::Limit {
                limit: plan.written.as_str().into(),
                scope: None,
            },
            unit: plan.unit.as_deref().map(Into::into),
            declared: plan.granted().saturating_mul(CALL),
            trust,
            explicit: plan.signals.left.is_some(),
            capacity,
            window,
            strict: plan.strict,
            kind,
            cell,
            cells: per_pace,
        }
    }

    /// The limit as written; nothing for the slots.
    pub(super) fn name(&self) -> Name {
        match &self.wait {
            Wait::Limit { limit, .. } => limit.clone(),
            _ => Name::default(),
        }
    }

    /// Its window; what is in flight has none.
    pub(super) fn length(&self) -> Option<Duration> {
        let is_windowed = !matches!(self.kind, Kind::Slots | Kind::Flight);
        is_windowed.then(|| Duration::from_nanos(self.window))
    }

    /// The most that a whole window allows.
    pub(super) fn per_window(&self) -> u64 {
        match self.kind {
            Kind::Bucket => self.cells.saturating_mul(self.cell),
            _ => self.capacity,
        }
    }

    /// An amount in cells, rounded up.
    pub(super) fn in_cells(&self, amount: u64) -> u64 {
        amount.div_ceil(self.cell)
    }

    /// The amount of so many cells.
    pub(super) fn of_cells(&self, cells: u64) -> u64 {
        cells.saturating_mul(self.cell)
    }

    /// The pace of a bucket whose size is reduced by what `margin` of delays may add, and whether
    /// charging what is sent, instead of what is received, is sound with it.
    pub(super) fn bucket(&self, margin: u64) -> (Pace, bool) {
        let pace = Pace::new(self.cells, self.window, self.capacity / self.cell);
        let slack = margin.div_ceil(pace.period);
        match pace.burst.checked_sub(slack) {
            Some(burst) if burst >= self.in_cells(CALL) => (Pace { burst, ..pace }, true),
            _ => (pace, false),
        }
    }

    /// The pace that a sliding counter never refuses: N - 1 in a window and J.
    pub(super) fn counter(&self, margin: u64) -> Pace {
        let window = self.window.saturating_add(margin);
        match self.cells {
            // One in two windows: the one before is then empty.
            0 | 1 => Pace::new(1, window.saturating_mul(2), 1),
            cells => Pace::new(cells - 1, window, 1),
        }
    }
}

/// The amount of one cell: a call, or as little of a unit as a pace in nanoseconds can express.
fn cell_amount(per_window: u64, window: u64, is_unit: bool) -> u64 {
    let mut cell = if is_unit { 1 } else { CALL };
    let coarse = |cell: u64| {
        let cells = (per_window / cell).max(1);
        u32::try_from(cells).is_ok() && window / cells >= FINEST
    };
    while is_unit && !coarse(cell) && cell.saturating_mul(10) <= per_window {
        cell *= 10;
    }
    cell
}

/// How many cells may go at once; a call is `call` of them.
fn burst(spacing: Spacing, cells: u64, call: u64, window: u64) -> u64 {
    let late = u128::from(cells) * u128::from(LATENESS);
    let late = u64::try_from(late.div_ceil(u128::from(window))).unwrap_or(u64::MAX);
    let late = late.max(call);
    match spacing {
        // Short windows: a tenth of the window at once makes small jobs quick, and the rest
        // comes evenly, so that a server which counts in smaller steps is not hit by it all.
        // At least two: a page and the next should not wait for each other.
        Spacing::Usual if window <= SHORT => late.max(2 * call).max(cells / 10),
        // Long windows: a job of 30 calls under 5000/h should take seconds, not 20 minutes.
        Spacing::Usual | Spacing::Burst => cells,
        Spacing::Even => late,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts() {
        const S: u64 = 1_000_000_000;
        for (calls, secs, spacing, expected) in [
            (2, 1, Spacing::Usual, 2),
            (10, 1, Spacing::Usual, 2),
            (80, 60, Spacing::Usual, 8),
            (60, 61, Spacing::Usual, 60),
            (5000, 3600, Spacing::Usual, 5000),
            (10, 1, Spacing::Even, 1),
            (1000, 1, Spacing::Even, 20),
            (1020, 1, Spacing::Even, 21),
            (10, 1, Spacing::Burst, 10),
        ] {
            let burst = burst(spacing, calls, 1, secs * S);
            assert_eq!(burst, expected, "{calls} per {secs} s {spacing:?}");
        }
    }

    #[test]
    fn windows_used_at_once_need_no_cell() {
        for written in ["5000/h", "1/3s", "2/s"] {
            let rule = Rule::new(&LimitPlan::parse(written).unwrap());
            assert!(matches!(rule.kind, Kind::Window(None)), "{written}");
        }
    }

    #[test]
    fn cells_of_units_are_as_fine_as_a_pace_can_be() {
        for (written, cell) in [
            ("10/s", CALL),
            ("600 weight/min", 1),
            ("90000 tokens/min", 10),
            ("4_000_000_000 tokens/min", 1_000_000),
        ] {
            let rule = Rule::new(&LimitPlan::parse(written).unwrap());
            assert_eq!(rule.cell, cell, "{written}");
        }
    }

    #[test]
    fn reserves_are_left() {
        let mut plan = LimitPlan::parse("100/min").unwrap();
        plan.reserve = 10;
        assert_eq!(Rule::new(&plan).capacity, 90 * CALL);
        plan.counting = Counting::Bucket(20.try_into().unwrap());
        assert_eq!(Rule::new(&plan).capacity, 18 * CALL);
    }

    #[test]
    fn buckets_shrink_by_the_margin() {
        let mut plan = LimitPlan::parse("2/s").unwrap();
        plan.counting = Counting::Bucket(40.try_into().unwrap());
        let rule = Rule::new(&plan);
        let ms = |n| nanos(Duration::from_millis(n));
        let (pace, sent) = rule.bucket(ms(20));
        assert_eq!((pace.burst, pace.period, sent), (39, ms(500), true));
        // With delays of more than the whole bucket only receipts are safe.
        let (pace, sent) = rule.bucket(ms(20_000));
        assert_eq!((pace.burst, sent), (40, false));
    }

    #[test]
    fn counters_are_paced_below_the_limit() {
        let mut plan = LimitPlan::parse("101/min").unwrap();
        plan.counting = Counting::Counter;
        let ms = |n| nanos(Duration::from_millis(n));
        assert_eq!(Rule::new(&plan).counter(ms(50)).period, ms(60_050) / 100);
    }
}
