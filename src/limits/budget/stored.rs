//! A budget as bytes, for the book; and what is left of one after a restart of the machine.

use jiff::Timestamp;

use super::told::Told;
use super::{Budget, Out};
use crate::event::Name;
use crate::limits::calendar::Period;
use crate::limits::jitter::Jitter;
use crate::limits::log::Log;
use crate::limits::moment::{Moment, Now, SECOND};
use crate::limits::queue::{Queue, Waiting};
use crate::limits::rule::{Kind, Rule};

/// The longest window that counts as full when nothing better is known.
const SHORT: u64 = 3600 * SECOND;

/// Why a long quota is held after its book was unreadable.
const UNREADABLE: &str = "its book was unreadable; it counts as used up for an hour";

/// Begins those who wait.
const QUEUE: u64 = u64::from_le_bytes(*b"waiting1");

/// Most bytes of what a server said that are kept.
const TOLD: usize = 200;

impl Budget {
    /// An unused budget.
    pub(in crate::limits) fn of(me: u64) -> Self {
        Self {
            me,
            ..Self::default()
        }
    }

    /// A budget of which nothing is known: short windows count as full.
    pub(in crate::limits) fn full(me: u64, rule: &Rule, now: Now, from: Moment) -> Self {
        let mut budget = Self::of(me);
        if rule.window > SHORT {
            return budget;
        }
        match &rule.kind {
            // Nobody's requests outlive the machine's start.
            Kind::Slots | Kind::Flight => {}
            Kind::Window(_) | Kind::Counter => {
                let back = from.plus(rule.window);
                budget
                    .log
                    .comes_back(back, rule.capacity, rule.capacity, rule.window);
            }
            Kind::Calendar(unit, zone, _) => {
                Period::at(&mut budget.period, *unit, zone, now, 0, rule.capacity);
            }
            Kind::Bucket => {
                let (pace, _) = rule.bucket(0);
                budget.tat = pace.charge(Moment(0), from, rule.in_cells(rule.capacity));
            }
        }
        budget
    }

    /// A budget whose book was unreadable: used up for its window, but for an hour at the most. What
    /// was used of a longer quota is not known any more: to stand still for a month would be worse
    /// than to be refused, and the user is told.
    pub(in crate::limits) fn damaged(me: u64, rule: &Rule, now: Now) -> Self {
        let mut budget = Self::full(me, rule, now, now.at);
        if rule.window > SHORT {
            budget.pause = Some((now.at.plus(SHORT), UNREADABLE.into()));
        }
        budget
    }

    /// The budget as bytes.
    pub(in crate::limits) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        let mut put = |value: u64| bytes.extend_from_slice(&value.to_le_bytes());
        put(self.tat.0);
        put(self.out.len() as u64);
        for out in &self.out {
            put(out.holder);
            put(out.sent.0);
            put(out.amount);
            put(u64::from(out.charged));
        }
        put(self.log.forgotten().0);
        put(self.log.entries().count() as u64);
        for (at, amount) in self.log.entries() {
            put(at.0);
            put(amount);
        }
        put(u64::from(self.period.is_some()));
        if let Some(period) = &self.period {
            put(period.ends.as_microsecond().cast_unsigned());
            put(period.end.0);
            put(period.used);
            put(period.both);
        }
        put(u64::from(self.told.is_some()));
        if let Some(told) = &self.told {
            put(told.left);
            put(told.until.0);
            put(told.guard);
            put(told.seen.0);
        }
        let (until, told) = match &self.pause {
            Some((until, told)) => (until.0, &told[..told.floor_char_boundary(TOLD)]),
            None => (0, ""),
        };
        put(self.opening);
        put(until);
        put(told.len() as u64);
        bytes.extend_from_slice(told.as_bytes());
        // Added later: what came before reads no further, and what is not there is empty.
        let mut put = |value: u64| bytes.extend_from_slice(&value.to_le_bytes());
        put(QUEUE);
        put(self.queue.all().len() as u64);
        for one in self.queue.all() {
            put(one.holder);
            put(one.since.0);
            put(one.said.0);
            put(one.count);
        }
        bytes
    }

    /// The budget of these bytes, if they are one.
    pub(in crate::limits) fn decode(mut bytes: &[u8], me: u64) -> Option<Self> {
        let bytes = &mut bytes;
        let tat = Moment(take(bytes)?);
        let mut out = Vec::new();
        for _ in 0..take(bytes)? {
            out.push(Out {
                holder: take(bytes)?,
                sent: Moment(take(bytes)?),
                amount: take(bytes)?,
                charged: take(bytes)? != 0,
            });
        }
        let forgotten = Moment(take(bytes)?);
        let mut entries = Vec::new();
        for _ in 0..take(bytes)? {
            entries.push((Moment(take(bytes)?), take(bytes)?));
        }
        let period = match take(bytes)? {
            0 => None,
            _ => Some(Period {
                ends: Timestamp::from_microsecond(take(bytes)?.cast_signed()).ok()?,
                end: Moment(take(bytes)?),
                used: take(bytes)?,
                both: take(bytes)?,
            }),
        };
        let heard = match take(bytes)? {
            0 => None,
            _ => Some(Told {
                left: take(bytes)?,
                until: Moment(take(bytes)?),
                guard: take(bytes)?,
                seen: Moment(take(bytes)?),
            }),
        };
        let opening = take(bytes)?;
        let until = Moment(take(bytes)?);
        let length = usize::try_from(take(bytes)?).ok()?;
        let told = bytes.split_off(..length)?;
        let told = Name::from(String::from_utf8_lossy(told));
        let mut queue = Vec::new();
        if !bytes.is_empty() && take(bytes)? == QUEUE {
            for _ in 0..take(bytes)? {
                queue.push(Waiting {
                    holder: take(bytes)?,
                    since: Moment(take(bytes)?),
                    said: Moment(take(bytes)?),
                    count: take(bytes)?,
                });
            }
        }
        Some(Self {
            me,
            queue: Queue::of(queue),
            out_sum: out.iter().map(|out| out.amount).sum(),
            out,
            log: Log::of(entries.into_iter(), forgotten),
            tat,
            period,
            told: heard,
            opening,
            pause: (until > Moment(0)).then_some((until, told)),
        })
    }

    /// The budget that was written at `written`, before the machine was started anew: nobody of
    /// then holds a permit any more. Short windows count as full from the start; in longer ones
    /// what was used comes back when the calendar says, and never sooner than it would have
    /// if the clock was set back meanwhile.
    pub(in crate::limits) fn after_reboot(
        self,
        rule: &Rule,
        written: Now,
        now: Now,
        jitter: &Jitter,
    ) -> Self {
        let passed = now.calendar.duration_since(written.calendar).as_nanos();
        let passed = u64::try_from(passed).unwrap_or(0);
        let here = |then: Moment| now.at.plus(then.since(written.at).saturating_sub(passed));
        let mut budget = Self::full(self.me, rule, now, Moment(0));
        if rule.window > SHORT {
            let entries = self.log.entries().map(|(at, amount)| (here(at), amount));
            budget.log = Log::of(entries, now.at);
            budget.tat = here(self.tat);
            budget.period = self.period.map(|period| Period {
                end: here(period.end),
                ..period
            });
            for out in &self.out {
                budget.gone(rule, now.at, out.amount, jitter);
            }
        }
        budget.told = self.told.map(|told| Told {
            until: here(told.until),
            seen: Moment(0),
            ..told
        });
        budget.opening = self.opening;
        budget.pause = self.pause.map(|(until, told)| (here(until), told));
        budget
    }
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let number = bytes.split_off(..8)?;
    Some(u64::from_le_bytes(number.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::limit::LimitPlan;

    const S: u64 = 1_000_000_000;

    fn now(seconds: u64, calendar: &str) -> Now {
        Now {
            at: Moment(seconds * S),
            calendar: calendar.parse().unwrap(),
        }
    }

    fn rule(written: &str) -> Rule {
        Rule::new(&LimitPlan::parse(written).unwrap())
    }

    /// Used `used` times at `now`, the last one unanswered.
    fn used(rule: &Rule, now: Now, used: usize) -> Budget {
        let (mut budget, jitter) = (Budget::of(1), Jitter::default());
        for i in 0..used {
            let staged = budget.ask(rule, now, 1000, &jitter).unwrap();
            budget.take(rule, now, 1000, staged);
            if i + 1 < used {
                budget.answered(rule, now.at, now.at, (1000, 1000), &jitter);
            }
        }
        budget
    }

    fn next(budget: &mut Budget, rule: &Rule, now: Now) -> Option<u64> {
        let held = budget.ask(rule, now, 1000, &Jitter::default()).err()?;
        held.until.earliest().map(|at| at.since(now.at) / S)
    }

    #[test]
    fn bytes_and_back() {
        let now = now(100, "2025-01-01T00:00:00Z");
        let rule = rule("5/h");
        let mut budget = used(&rule, now, 3);
        budget.pause(&rule, now.at, Moment(130 * S), &"429: slow down, ü".into());
        Period::at(
            &mut budget.period,
            crate::plan::limit::CalendarUnit::Day,
            &jiff::tz::TimeZone::UTC,
            now,
            0,
            7,
        );
        budget.told = Some(Told {
            left: 7000,
            until: Moment(150 * S),
            guard: 1000,
            seen: Moment(101 * S),
        });
        let before = budget.encode().len();
        budget.waits(now.at, None, 3);
        let bytes = budget.encode();
        let again = Budget::decode(&bytes, 1).unwrap();
        assert_eq!(format!("{again:?}"), format!("{budget:?}"));
        // Where the queue begins it may end: so it was written before there was one.
        let old = before - 16;
        for end in (0..bytes.len()).filter(|end| *end != old) {
            assert!(Budget::decode(&bytes[..end], 1).is_none(), "{end}");
        }
        assert!(Budget::decode(&bytes[..old], 1).is_some());
    }

    #[test]
    fn short_windows_count_as_full_from_the_boot() {
        let rule = rule("5/min");
        let before = used(&rule, now(5000, "2025-01-01T00:00:00Z"), 1);
        let written = now(5000, "2025-01-01T00:00:00Z");
        let after = now(20, "2025-01-01T00:01:00Z");
        let mut budget = before.after_reboot(&rule, written, after, &Jitter::default());
        assert_eq!(next(&mut budget, &rule, after), Some(40));
    }

    #[test]
    fn long_quotas_survive_a_reboot_and_a_clock_set_back() {
        let rule = rule("5/d");
        let written = now(5000, "2025-01-01T10:00:00Z");
        let before = used(&rule, written, 5);
        for (calendar, hours) in [
            ("2025-01-01T12:00:00Z", 22),
            ("2025-01-01T09:00:00Z", 24),
            ("2025-01-02T09:00:00Z", 1),
        ] {
            let after = now(20, calendar);
            let mut budget = before
                .clone()
                .after_reboot(&rule, written, after, &Jitter::default());
            assert_eq!(
                next(&mut budget, &rule, after),
                Some(hours * 3600),
                "{calendar}"
            );
        }
    }
}
