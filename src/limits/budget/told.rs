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
use super::super::moment::Moment;
use super::super::rule::{Kind, Rule};
use super::{Budget, CALL};

const SECOND: u64 = 1_000_000_000;
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
            Kind::Slots => return,
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
