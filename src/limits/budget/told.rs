//! What the API says is left of a budget: it lowers the pace before a refusal comes.
//!
//! What others use of a limit (another machine on the same key) is not in our log. An answer that
//! says how much is left shows it: if that is less than our own log would allow until the reset,
//! the difference was used by others, and what the API says binds until then. Our own use alone
//! never gives such a difference, so a limit that is ours and rightly declared loses nothing: the
//! log counts everything that may have arrived in the API's window, unanswered requests included.
//!
//! While it binds: what is left, less our requests that are out, because the API may not have
//! counted them yet, less a little for what others take meanwhile. Of answers out of order the
//! least counts, and one that arrived before it was counted in it. After the reset one request goes
//! alone, and its answer tells anew.
//!
//! Resets are written in whole seconds, and so is the `Date` they are measured against: they are
//! taken to be up to [`ROUNDING`] later, and up to [`EARLY`] earlier, than they say.

use super::super::jitter::Jitter;
use super::super::log::Answer;
use super::super::moment::{Moment, SECOND};
use super::super::rule::{Kind, Rule};
use super::{Budget, CALL};

/// A reset that was cut off to whole seconds is up to this much later.
const ROUNDING: u64 = SECOND;
/// A reset that was rounded up, against a `Date` that was cut off, is up to this much earlier.
const EARLY: u64 = 2 * SECOND;
/// The most that is kept back from others who are as fast: a share of what is left.
const SHARE: u64 = 16;

/// What an answer says of one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limits) struct Heard {
    /// How much is left.
    pub(in crate::limits) remaining: u64,
    /// How long after the answer there is more.
    pub(in crate::limits) resets_in: Option<u64>,
}

/// What is left as the API says, and until when that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limits) struct Told {
    /// So much is left for requests that are not answered yet.
    pub(super) left: u64,
    /// The reset, at the latest.
    pub(super) until: Moment,
    /// What is kept back for what others take before our next request arrives.
    pub(super) guard: u64,
    /// When the answer that said so was received.
    pub(super) seen: Moment,
}

/// When and at what price the request went whose answer says something.
#[derive(Debug, Clone, Copy)]
pub(in crate::limits) struct Exchange {
    pub(in crate::limits) sent: Moment,
    pub(in crate::limits) received: Moment,
    pub(in crate::limits) cost: u64,
}

impl Budget {
    /// What was told says to one more request.
    pub(super) fn told(&self, now: Moment, amount: u64) -> Answer {
        let Some(told) = &self.told else {
            return Answer::Now;
        };
        if told.until <= now {
            return if self.out_sum == 0 {
                Answer::Now
            } else {
                Answer::Unknown(now)
            };
        }
        let wanted = self
            .out_sum
            .saturating_add(told.guard)
            .saturating_add(amount);
        if wanted <= told.left {
            Answer::Now
        } else {
            Answer::NotBefore(told.until)
        }
    }

    /// A request may have been counted, and its answer does not say so.
    pub(super) fn unsaid(&mut self, amount: u64) {
        if let Some(told) = &mut self.told {
            told.left = told.left.saturating_sub(amount);
        }
    }

    /// The answer to a request that is counted here already.
    pub(in crate::limits) fn heard(
        &mut self,
        rule: &Rule,
        of: Exchange,
        heard: Option<Heard>,
        jitter: &Jitter,
    ) {
        let Some(heard) = heard else {
            self.unsaid(of.cost);
            // The one that went alone after the reset told nothing: the API has stopped saying it.
            self.told = self.told.filter(|told| of.sent < told.until);
            return;
        };
        let trip = of.received.since(of.sent);
        let slack = EARLY.saturating_add(trip);
        let known = heard.resets_in.map(|wait| of.received.plus(wait));
        let latest = |reset: Option<Moment>| match reset {
            Some(reset) => reset.plus(ROUNDING),
            None => of.received.plus(rule.window),
        };
        let (until, own) = match &rule.kind {
            Kind::Slots | Kind::Flight => return,
            Kind::Bucket => return self.level(rule, of, heard, jitter),
            Kind::Window(_) | Kind::Counter => {
                let since = known.map_or(of.sent, |reset| Moment(reset.0.saturating_sub(slack)));
                let ours = self.log.since(since);
                let own = ours.map(|ours| {
                    let ours = ours.saturating_add(self.out_sum);
                    rule.capacity.saturating_sub(ours)
                });
                (latest(known), own)
            }
            Kind::Calendar(..) => {
                let Some(period) = &self.period else { return };
                let end = period.end;
                let apart = known.map_or(0, |reset| reset.since(end).max(end.since(reset)));
                let guard = jitter.abandoned();
                // A month may have 31 days, and a day 25 hours.
                let longest = rule.window.saturating_add(rule.window / 16);
                let is_before = end.since(of.sent) > longest || of.sent >= end;
                if is_before || apart > slack.saturating_add(guard) {
                    return;
                }
                let own = rule.capacity.saturating_sub(period.used);
                (end.plus(guard), Some(own))
            }
        };
        if let Some(told) = &mut self.told
            && of.received < told.until
        {
            let is_new = match known {
                Some(_) => until > told.until.plus(slack),
                None => of.sent >= told.seen,
            };
            if until.plus(slack) < told.until {
                // Of the window before.
                return;
            }
            if !is_new {
                if heard.remaining < told.left {
                    (told.left, told.seen) = (heard.remaining, of.received);
                }
                told.until = told.until.min(until);
                return;
            }
        }
        let by_others = own.and_then(|own| own.checked_sub(heard.remaining));
        let by_others = by_others.filter(|amount| *amount > 0);
        self.told = (rule.trust || by_others.is_some()).then(|| Told {
            left: heard.remaining,
            until,
            guard: if rule.trust {
                0
            } else {
                let passed = rule
                    .window
                    .saturating_sub(until.since(of.received))
                    .max(trip);
                guard(by_others.unwrap_or(0), heard.remaining, trip, passed)
            },
            seen: of.received,
        });
    }

    /// What is left of a bucket: a fuller one than ours would be is taken over.
    fn level(&mut self, rule: &Rule, of: Exchange, heard: Heard, jitter: &Jitter) {
        let (pace, _) = rule.bucket(jitter.margin());
        let used = rule.capacity.saturating_sub(heard.remaining);
        let ahead = |from: Moment, amount: u64| {
            from.plus(pace.period.saturating_mul(rule.in_cells(amount)))
        };
        // What is out may be in it, but only what was charged is in ours.
        let uncharged = self.out.iter().filter(|out| !out.charged);
        let uncharged: u64 = uncharged.map(|out| out.amount).sum();
        let ours = ahead(self.tat.max(of.sent), uncharged.saturating_add(CALL));
        let ours = ours.plus(jitter.margin());
        if rule.trust || ahead(of.sent, used) > ours {
            self.tat = ahead(of.received, used.saturating_add(self.out_sum));
        }
    }
}

/// What others may take in two round trips, if they go on as they did; at least one call.
fn guard(by_others: u64, left: u64, trip: u64, passed: u64) -> u64 {
    let share = u128::from(by_others) * u128::from(trip) * 2 / u128::from(passed.max(1));
    let share = u64::try_from(share).unwrap_or(u64::MAX);
    share.saturating_add(CALL).min(CALL.max(left / SHARE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::moment::Now;
    use crate::plan::limit::{CalendarUnit, Counting, LimitPlan, SignalsPlan};

    const S: u64 = SECOND;

    fn now(seconds: u64) -> Now {
        let start: jiff::Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let passed = jiff::SignedDuration::from_secs(seconds.cast_signed());
        Now {
            at: Moment(seconds * S),
            calendar: start + passed,
        }
    }

    fn plan(written: &str) -> LimitPlan {
        LimitPlan::parse(written).unwrap()
    }

    /// A budget and its requests, all sent at once and answered a tenth of a second later.
    struct One {
        rule: Rule,
        budget: Budget,
        jitter: Jitter,
    }

    impl One {
        fn new(plan: &LimitPlan) -> Self {
            Self {
                rule: Rule::new(plan),
                budget: Budget::of(1),
                jitter: Jitter::default(),
            }
        }

        fn ask(&mut self, at: u64) -> Option<Answer> {
            let staged = self.budget.ask(&self.rule, now(at), CALL, &self.jitter);
            staged.err().map(|held| held.until)
        }

        fn send(&mut self, at: u64) {
            let staged = self.budget.ask(&self.rule, now(at), CALL, &self.jitter);
            self.budget
                .take(&self.rule, now(at), CALL, staged.expect("it may go"));
        }

        /// The one that was sent at `at` hears that so much is left.
        fn hear(&mut self, at: u64, left: Option<u64>, resets_in: Option<u64>) {
            let (sent, received) = (Moment(at * S), Moment(at * S + S / 10));
            let cost = (CALL, CALL);
            self.budget
                .answered(&self.rule, sent, received, cost, &self.jitter);
            let exchange = Exchange {
                sent,
                received,
                cost: CALL,
            };
            let heard = left.map(|left| Heard {
                remaining: left * CALL,
                resets_in: resets_in.map(|wait| wait * S),
            });
            self.budget.heard(&self.rule, exchange, heard, &self.jitter);
        }

        fn left(&self) -> Option<u64> {
            self.budget.told.map(|told| told.left / CALL)
        }
    }

    #[test]
    fn our_own_use_is_no_news() {
        let mut one = One::new(&plan("100/h"));
        for _ in 0..8 {
            one.send(10);
        }
        // Eight are out, and answered out of order: each counts those that arrived before it.
        for left in [93, 97, 92, 99, 98, 94, 96, 95] {
            one.hear(10, Some(left), Some(3600));
            assert_eq!(one.left(), None, "{left}");
        }
        // One less can only be somebody else's.
        one.send(11);
        one.hear(11, Some(90), Some(3599));
        assert_eq!(one.left(), Some(90));
    }

    #[test]
    fn the_least_that_was_told_counts_less_what_is_out() {
        let mut one = One::new(&plan("100/h"));
        for _ in 0..4 {
            one.send(10);
        }
        one.hear(10, Some(5), Some(600));
        // Three are out, and one is kept back.
        assert_eq!(one.ask(11), None);
        one.hear(10, Some(3), Some(600));
        assert_eq!(
            (one.left(), one.ask(11)),
            (Some(3), Some(Answer::NotBefore(Moment(611 * S + S / 10))))
        );
        // It arrived before the last one did.
        one.hear(10, Some(4), Some(600));
        assert_eq!((one.left(), one.ask(11)), (Some(3), None));
        // One that does not say is taken to have been counted after.
        one.hear(10, None, None);
        assert_eq!(one.left(), Some(2));
        one.send(12);
        assert!(one.ask(12).is_some());
        one.budget
            .abandoned(&one.rule, Moment(12 * S), Moment(30 * S), CALL, &one.jitter);
        assert_eq!(one.left(), Some(1));
        assert!(one.ask(600).is_some());
    }

    #[test]
    fn after_the_reset_one_goes_alone_and_its_answer_tells() {
        let mut one = One::new(&plan("100/h"));
        one.send(10);
        one.hear(10, Some(0), Some(600));
        assert!(one.ask(611).is_some());
        one.send(612);
        assert_eq!(one.ask(612), Some(Answer::Unknown(Moment(612 * S))));
        let again = one.budget.clone();
        // All is new, and ours.
        one.hear(612, Some(99), Some(3600));
        assert_eq!((one.left(), one.ask(613)), (None, None));
        // Others were faster.
        one.budget = again.clone();
        one.hear(612, Some(0), Some(3600));
        assert!(one.left() == Some(0) && one.ask(613).is_some());
        // The API says nothing any more.
        one.budget = again;
        one.hear(612, None, None);
        assert_eq!((one.left(), one.ask(613)), (None, None));
    }

    #[test]
    fn what_came_back_just_now_is_remembered() {
        // A permit comes back while the answer that counts it is on its way.
        let mut one = One::new(&plan("3/10s"));
        for at in [1, 1, 9] {
            one.send(at);
            one.hear(at, None, None);
        }
        one.send(12);
        assert!(one.budget.log.since(Moment(10 * S)) == Some(3 * CALL));
        one.hear(12, Some(0), Some(1));
        assert_eq!(one.left(), None);
    }

    #[test]
    fn of_a_calendar_quota_what_is_told_of_another_window_is_not_heard() {
        let counting = Counting::Calendar(CalendarUnit::Hour, jiff::tz::TimeZone::UTC);
        let mut one = One::new(&LimitPlan {
            counting,
            ..plan("100/h")
        });
        one.send(1800);
        one.hear(1800, Some(99), None);
        assert_eq!(one.left(), None);
        one.send(1801);
        // It starts anew in twenty minutes: some other window.
        one.hear(1801, Some(3), Some(1200));
        assert_eq!(one.left(), None);
        one.send(1802);
        one.hear(1802, Some(40), Some(1798));
        assert_eq!(one.left(), Some(40));
        one.send(3599);
        // The hour is over when its answer is heard.
        assert_eq!(one.ask(3602), Some(Answer::Unknown(Moment(3602 * S))));
        one.hear(3599, Some(39), None);
        assert_eq!(one.ask(3603), None);
    }

    #[test]
    fn a_trusted_word_stands_in_the_place_of_the_log() {
        let signals = SignalsPlan {
            trust: true,
            ..SignalsPlan::default()
        };
        let mut one = One::new(&LimitPlan {
            signals,
            ..plan("2/h")
        });
        one.send(10);
        one.hear(10, Some(50), Some(600));
        for _ in 0..50 {
            one.send(11);
        }
        assert!(one.ask(11).is_some());
        for _ in 0..50 {
            one.hear(11, Some(0), Some(599));
        }
        // The log is far above two an hour; the API has counted anew.
        one.send(613);
        assert!(one.ask(613).is_some());
        one.hear(613, Some(99), Some(3600));
        assert_eq!(one.ask(614), None);
    }
}
