//! The sliding window: a log of N permits.
//!
//! A permit is out while its request is unanswered, and comes back when no window that holds its
//! arrival can hold its next user's too. So N permits put at most N arrivals into any half-open
//! window, however delays fall: enough for a sliding log, a fixed window of any phase, and a
//! bucket. When a permit comes back is [`super::budget`]'s to say; here they are kept and counted.

use std::collections::VecDeque;

use super::moment::Moment;

/// Most entries that are kept exactly; finer ones are rounded up to steps of the window, at the
/// price of one step in so many.
const ENTRIES: u64 = 1024;

/// How long what came back is remembered, at most; answers are rarely later.
const KEPT: u64 = 5_000_000_000;
/// Steps that it is remembered in.
const STEPS: u64 = 16;

/// What a limit says to one more request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It may go now.
    Now,
    /// It may not go before this moment.
    NotBefore(Moment),
    /// That depends on unanswered requests; for ranking, about when.
    Unknown(Moment),
}

impl Answer {
    /// The earliest moment at which the request could go; `None` is now.
    pub(super) fn earliest(self) -> Option<Moment> {
        match self {
            Self::Now => None,
            Self::NotBefore(at) | Self::Unknown(at) => Some(at),
        }
    }

    /// The answer that ends later.
    pub(super) fn or_later(self, other: Self) -> Self {
        if other.earliest() > self.earliest() {
            other
        } else {
            self
        }
    }
}

/// Used permits on their way back. How many are out with unanswered requests is known elsewhere.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    /// When amounts come back, soonest first.
    back: VecDeque<(Moment, u64)>,
    /// Their sum.
    used: u64,
    /// What came back lately, at the latest: servers may still count it.
    home: VecDeque<(Moment, u64)>,
    /// What came back before this is forgotten.
    forgotten: Moment,
}

impl Log {
    /// Whether `amount` of `capacity` is at home at `now`, while `out` is with unanswered requests.
    pub(super) fn ask(
        &mut self,
        now: Moment,
        capacity: u64,
        window: u64,
        out: u64,
        amount: u64,
    ) -> Answer {
        while let Some((at, amount)) = self.back.pop_front_if(|(at, _)| *at <= now) {
            self.used -= amount;
            self.came_home(at, amount, window);
        }
        let wanted = out.saturating_add(self.used).saturating_add(amount);
        let Some(lacking) = wanted.checked_sub(capacity).filter(|lacking| *lacking > 0) else {
            return Answer::Now;
        };
        let mut freed = 0_u64;
        for (at, amount) in &self.back {
            freed += amount;
            if freed >= lacking {
                return Answer::NotBefore(*at);
            }
        }
        Answer::Unknown(now.plus(window))
    }

    /// `amount` comes back at `at`.
    pub(super) fn comes_back(&mut self, at: Moment, amount: u64, capacity: u64, window: u64) {
        let step = if capacity > ENTRIES * super::budget::CALL {
            (window / ENTRIES).max(1)
        } else {
            1
        };
        let at = Moment(at.0.div_ceil(step).saturating_mul(step));
        self.used += amount;
        // Nearly always the last place; abandoned ones come back later than some that follow.
        let place = self.back.partition_point(|(other, _)| *other < at);
        match self.back.get_mut(place) {
            Some((other, sum)) if *other == at => *sum += amount,
            _ => self.back.insert(place, (at, amount)),
        }
    }

    fn came_home(&mut self, at: Moment, amount: u64, window: u64) {
        let kept = window.min(KEPT);
        let step = (kept / STEPS).max(1);
        match self.home.back_mut() {
            Some((last, sum)) if last.0 / step == at.0 / step => {
                (*last, *sum) = (at, *sum + amount);
            }
            _ => self.home.push_back((at, amount)),
        }
        while let Some((gone, _)) = self.home.pop_front_if(|(old, _)| old.plus(kept) < at) {
            self.forgotten = gone;
        }
    }

    /// All that comes back, or came back, after `since`; nothing if that is no longer known.
    pub(super) fn since(&self, since: Moment) -> Option<u64> {
        let later = |(at, amount): &(Moment, u64)| if *at > since { *amount } else { 0 };
        (since >= self.forgotten).then(|| self.home.iter().chain(&self.back).map(later).sum())
    }

    /// What is on its way back, and what came back lately, soonest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Moment, u64)> {
        self.home.iter().chain(&self.back).copied()
    }

    /// What came back before this is forgotten.
    pub(super) fn forgotten(&self) -> Moment {
        self.forgotten
    }

    /// A log with these entries, soonest first.
    pub(super) fn of(entries: impl Iterator<Item = (Moment, u64)>, forgotten: Moment) -> Self {
        let back: VecDeque<_> = entries.collect();
        let used = back.iter().map(|(_, amount)| amount).sum();
        Self {
            back,
            used,
            home: VecDeque::new(),
            forgotten,
        }
    }

    /// Whether nothing is on its way back.
    pub(super) fn is_empty(&self, now: Moment) -> bool {
        self.back.back().is_none_or(|(at, _)| *at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::budget::CALL;

    #[test]
    fn says_when() {
        let (mut log, s) = (Log::default(), 1_000_000_000);
        let now = Moment(5 * s);
        let ask = |log: &mut Log, now, out: u64, amount: u64| {
            log.ask(now, 3 * CALL, 10 * s, out * CALL, amount * CALL)
        };
        assert_eq!(ask(&mut log, now, 2, 1), Answer::Now);
        assert_eq!(ask(&mut log, now, 3, 1), Answer::Unknown(now.plus(10 * s)));
        log.comes_back(Moment(17 * s), CALL, 3 * CALL, 10 * s);
        log.comes_back(Moment(16 * s), CALL, 3 * CALL, 10 * s);
        assert_eq!(ask(&mut log, now, 1, 1), Answer::NotBefore(Moment(16 * s)));
        assert_eq!(ask(&mut log, now, 0, 3), Answer::NotBefore(Moment(17 * s)));
        assert_eq!(ask(&mut log, now, 1, 3), Answer::Unknown(now.plus(10 * s)));
        assert_eq!(ask(&mut log, Moment(17 * s), 0, 3), Answer::Now);
        assert!(log.is_empty(now));
    }

    #[test]
    fn big_windows_take_little_room() {
        let (mut log, s) = (Log::default(), 1_000_000_000);
        let capacity = 1_000_000 * CALL;
        for i in 0..200_000 {
            let at = Moment(60 * s + i * 300_000);
            log.comes_back(at, CALL, capacity, 60 * s);
        }
        assert!(log.back.len() <= 1026, "{}", log.back.len());
        assert!(log.back.iter().map(|(_, n)| n).sum::<u64>() == 200_000 * CALL);
        assert!(log.back.front().unwrap().0 >= Moment(60 * s));
    }
}
