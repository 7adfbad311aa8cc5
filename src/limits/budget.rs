//! One budget: what is out, what is used, when it comes back. Plain data under a rule.
//!
//! The law for `N per W`. A permit whose request is unanswered is out. Answered, it comes back at
//! the earlier of `received + W` and `sent + W + J`, where the latter counts only if the round
//! trip shows that the request was not held up by more than J; abandoned, at `abandoned + W + J`.
//! Two users of one permit then arrive at least W apart. `strict` uses receipts only.

use self::told::Told;
use super::calendar::Period;
use super::cell::Pace;
use super::jitter::Jitter;
use super::log::{Answer, Log};
use super::moment::{Moment, Now};
use super::queue::Queue;
use super::rule::{Kind, Rule};
use crate::event::{Name, Wait};

/// One call, or one unit of a cost: amounts are thousandths, because costs have fractions.
pub(super) const CALL: u64 = 1000;

/// The state of one budget.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget {
    /// Who we are among the holders of permits.
    me: u64,
    /// Unanswered requests.
    out: Vec<Out>,
    /// Their sum.
    out_sum: u64,
    log: Log,
    /// The state of its pace.
    tat: Moment,
    period: Option<Period>,
    /// What the API says is left, while that is less than we would use (or is trusted).
    told: Option<Told>,
    pause: Option<(Moment, Name)>,
    /// The processes that wait for it.
    queue: Queue,
    /// So many may be out since the last pause: one, and one more with every answer; 0 is any
    /// number.
    opening: u64,
}

/// As many out since a pause are no crowd any more, however wide the run.
const OPEN: u64 = 64;

/// An unanswered request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Out {
    holder: u64,
    sent: Moment,
    amount: u64,
    /// Whether the pace was charged when it was sent.
    charged: bool,
}

/// What holds a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) until: Answer,
    pub(super) why: Wait,
}

/// What a budget would be after a request; kept only if every budget agrees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Staged {
    tat: Moment,
    charged: bool,
}

impl Budget {
    /// Whether a request of `amount` may go.
    pub(super) fn ask(
        &mut self,
        rule: &Rule,
        now: Now,
        amount: u64,
        jitter: &Jitter,
    ) -> Result<Staged, Held> {
        if let Some((until, told)) = self.pause.as_ref().filter(|(until, _)| *until > now.at) {
            return Err(Held {
                until: Answer::NotBefore(*until),
                why: Wait::Pause {
                    told: told.clone(),
                    scope: None,
                },
            });
        }
        if self.opening > 0 && self.out_since_pause() >= self.opening {
            return Err(Held {
                until: Answer::Unknown(now.at),
                why: rule.wait.clone(),
            });
        }
        let mut staged = Staged {
            tat: self.tat,
            charged: false,
        };
        let told = self.told(now.at, amount);
        let trusted = rule.trust && self.told.is_some();
        let counted = |ours: Answer| {
            if trusted { told } else { ours.or_later(told) }
        };
        let log = |budget: &mut Self| {
            let (out, window) = (budget.out_sum, rule.window);
            counted(budget.log.ask(now.at, rule.capacity, window, out, amount))
        };
        let answer = match &rule.kind {
            Kind::Slots if self.out_sum.saturating_add(amount) <= rule.capacity => Answer::Now,
            Kind::Slots => Answer::Unknown(now.at),
            Kind::Flight => {
                let before = self.queue.before(self.me, now.at).saturating_mul(CALL);
                let out = self.out_sum.saturating_add(before);
                self.log
                    .ask(now.at, rule.capacity, rule.window, out, amount)
            }
            Kind::Window(pace) => {
                log(self).or_later(self.spaced(rule, *pace, now, amount, &mut staged))
            }
            Kind::Calendar(unit, zone, pace) => {
                let out = self.out_sum;
                let guard = jitter.abandoned();
                let period = Period::at(&mut self.period, *unit, zone, now, guard, out);
                let answer = counted(period.ask(rule.capacity, amount, guard));
                answer.or_later(self.spaced(rule, *pace, now, amount, &mut staged))
            }
            Kind::Bucket => {
                let (pace, sound) = rule.bucket(jitter.margin());
                let by_sent = sound && !rule.strict && jitter.is_known();
                self.bucket(rule, pace, by_sent, now, amount, jitter, &mut staged)
            }
            Kind::Counter => {
                let pace = rule.counter(jitter.margin());
                log(self).or_later(self.bucket(rule, pace, true, now, amount, jitter, &mut staged))
            }
        };
        match answer {
            Answer::Now => Ok(staged),
            until => Err(Held {
                until,
                why: rule.wait.clone(),
            }),
        }
    }

    fn spaced(
        &self,
        rule: &Rule,
        pace: Option<Pace>,
        now: Now,
        amount: u64,
        staged: &mut Staged,
    ) -> Answer {
        let Some(pace) = pace else { return Answer::Now };
        match pace.check(self.tat, now.at, rule.in_cells(amount)) {
            Ok(tat) => {
                *staged = Staged { tat, charged: true };
                Answer::Now
            }
            Err(answer) => answer,
        }
    }

    /// A bucket that is charged by what is sent, or by what is received. What may still arrive
    /// later than it was charged for is held in it until the answer.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of `ask`, split for reading"
    )]
    fn bucket(
        &self,
        rule: &Rule,
        pace: Pace,
        by_sent: bool,
        now: Now,
        amount: u64,
        jitter: &Jitter,
        staged: &mut Staged,
    ) -> Answer {
        let cells = rule.in_cells(amount);
        let late = |out: &&Out| !by_sent || !out.charged || jitter.overdue(out.sent, now.at);
        let held = self.out.iter().filter(late).map(|out| out.amount).sum();
        let held = rule.in_cells(held);
        if held > 0 && held.saturating_add(cells) > pace.burst {
            return Answer::Unknown(now.at.plus(pace.period));
        }
        match pace.check(self.tat, now.at, cells.saturating_add(held)) {
            Ok(_) if by_sent => {
                *staged = Staged {
                    tat: pace.charge(self.tat, now.at, cells),
                    charged: true,
                };
                Answer::Now
            }
            Ok(_) => Answer::Now,
            Err(answer) => answer,
        }
    }

    /// A request goes, as staged by the [`Budget::ask`] just before.
    pub(super) fn take(&mut self, rule: &Rule, now: Now, amount: u64, staged: Staged) {
        self.tat = staged.tat;
        self.queue.served(self.me);
        self.out_sum = self.out_sum.saturating_add(amount);
        self.out.push(Out {
            holder: self.me,
            sent: now.at,
            amount,
            charged: staged.charged,
        });
        if let (Kind::Calendar(..), Some(period)) = (&rule.kind, &mut self.period) {
            period.take(amount);
        }
    }

    /// Those that were sent before it and are still out must not hold up the others.
    fn out_since_pause(&self) -> u64 {
        let ended = self.pause.as_ref().map_or(Moment(0), |(until, _)| *until);
        let since = self.out.iter().filter(|out| out.sent >= ended);
        since.count() as u64
    }

    fn is_back(&mut self, sent: Moment, amount: u64) -> bool {
        let me = self.me;
        let found = |out: &Out| out.holder == me && out.sent == sent && out.amount == amount;
        let Some(at) = self.out.iter().position(found) else {
            return false;
        };
        self.out_sum = self.out_sum.saturating_sub(amount);
        self.out.swap_remove(at).charged
    }

    /// The request sent at `sent` was answered at `received` and cost `actual`.
    pub(super) fn answered(
        &mut self,
        rule: &Rule,
        sent: Moment,
        received: Moment,
        (reserved, actual): (u64, u64),
        jitter: &Jitter,
    ) {
        let charged = self.is_back(sent, reserved);
        let ended = self.pause.as_ref().map_or(Moment(0), |(until, _)| *until);
        if self.opening > 0 && sent >= ended {
            self.opening = (self.opening + 1) % OPEN;
        }
        let on_time = !rule.strict && jitter.on_time(received.since(sent));
        let mut back = received.plus(rule.window);
        if on_time {
            back = back.min(sent.plus(rule.window).plus(jitter.margin()));
        }
        match &rule.kind {
            Kind::Slots | Kind::Flight => {}
            Kind::Window(pace) => {
                self.log
                    .comes_back(back, actual, rule.capacity, rule.window);
                self.settle(rule, *pace, received, (reserved, actual));
            }
            Kind::Calendar(_, _, pace) => {
                if let Some(period) = &mut self.period {
                    period.settle((reserved, actual));
                    period.arrived(received, actual, jitter.abandoned());
                }
                self.settle(rule, *pace, received, (reserved, actual));
            }
            Kind::Bucket => {
                let (pace, sound) = rule.bucket(jitter.margin());
                if charged && on_time && sound {
                    self.settle(rule, Some(pace), received, (reserved, actual));
                } else {
                    self.tat = pace.charge(self.tat, received, rule.in_cells(actual));
                }
            }
            Kind::Counter => {
                self.log
                    .comes_back(back, actual, rule.capacity, rule.window);
                if jitter.is_known() && !on_time {
                    let pace = rule.counter(jitter.margin());
                    self.tat = pace.charge(self.tat, received, rule.in_cells(actual));
                }
            }
        }
    }

    /// The difference between what was reserved and what it cost comes back, or is charged.
    fn settle(&mut self, rule: &Rule, pace: Option<Pace>, now: Moment, costs: (u64, u64)) {
        let Some(pace) = pace else { return };
        let (reserved, actual) = (rule.in_cells(costs.0), rule.in_cells(costs.1));
        self.tat = match actual.checked_sub(reserved) {
            None => pace.refund(self.tat, reserved - actual),
            Some(0) => self.tat,
            Some(more) => pace.charge(self.tat, now, more),
        };
    }

    /// The request sent at `sent` was given up at `now`; it may have arrived, or may yet do so.
    pub(super) fn abandoned(
        &mut self,
        rule: &Rule,
        sent: Moment,
        now: Moment,
        amount: u64,
        jitter: &Jitter,
    ) {
        self.is_back(sent, amount);
        self.gone(rule, now, amount, jitter);
    }

    /// The request of the permit that was taken at `taken` was never sent: it costs nothing.
    pub(super) fn unsent(&mut self, rule: &Rule, taken: Moment, now: Moment, amount: u64) {
        let charged = self.is_back(taken, amount);
        if let (Kind::Calendar(..), Some(period)) = (&rule.kind, &mut self.period) {
            period.settle((amount, 0));
        }
        // A pause has used up the pace since, so that those who wait for its end go one by one.
        let is_paused = self.pause.as_ref().is_some_and(|(until, _)| *until > now);
        if !charged || is_paused {
            return;
        }
        let pace = match &rule.kind {
            Kind::Window(pace) | Kind::Calendar(_, _, pace) => *pace,
            Kind::Bucket => Some(rule.bucket(0).0),
            // No more than was charged, whatever the margin was then.
            Kind::Counter => Some(rule.counter(0)),
            Kind::Slots | Kind::Flight => None,
        };
        if let Some(pace) = pace {
            self.tat = pace.refund(self.tat, rule.in_cells(amount));
        }
    }

    /// What was sent and never answered may arrive until a margin from now.
    fn gone(&mut self, rule: &Rule, now: Moment, amount: u64, jitter: &Jitter) {
        let gone = now.plus(jitter.abandoned());
        self.unsaid(amount);
        match &rule.kind {
            Kind::Slots => {}
            // The server may be busy with it for a while more.
            Kind::Flight => {
                self.log
                    .comes_back(gone, amount, rule.capacity, rule.window);
            }
            Kind::Window(_) => {
                let back = gone.plus(rule.window);
                self.log
                    .comes_back(back, amount, rule.capacity, rule.window);
            }
            Kind::Calendar(..) => {
                if let Some(period) = &mut self.period {
                    period.arrived(gone, amount, jitter.abandoned());
                }
            }
            Kind::Bucket => {
                let (pace, _) = rule.bucket(jitter.margin());
                self.tat = pace.charge(self.tat, gone, rule.in_cells(amount));
            }
            Kind::Counter => {
                let back = gone.plus(rule.window);
                self.log
                    .comes_back(back, amount, rule.capacity, rule.window);
                let pace = rule.counter(jitter.margin());
                self.tat = pace.charge(self.tat, gone, rule.in_cells(amount));
            }
        }
    }

    /// So many of our requests wait for it, the first of them until `until` if that is known. Gives
    /// whether that is news to others.
    pub(super) fn waits(&mut self, now: Moment, until: Option<Moment>, count: u64) -> bool {
        self.queue.waits(self.me, now, until, count)
    }

    /// Others who hold permits.
    pub(super) fn others(&self) -> impl Iterator<Item = u64> {
        let me = self.me;
        self.out
            .iter()
            .map(|out| out.holder)
            .filter(move |holder| *holder != me)
    }

    /// When the newest of the unanswered requests was sent.
    pub(super) fn newest(&self) -> Option<Moment> {
        self.out.iter().map(|out| out.sent).max()
    }

    /// A holder was found dead at `now`: all it had out is given up.
    pub(super) fn died(&mut self, rule: &Rule, holder: u64, now: Moment, jitter: &Jitter) {
        let (dead, rest) = self.out.iter().partition(|out| out.holder == holder);
        self.out = rest;
        let dead: Vec<Out> = dead;
        for out in dead {
            self.out_sum = self.out_sum.saturating_sub(out.amount);
            self.gone(rule, now, out.amount, jitter);
        }
    }

    /// Holds everything until `until`, unless it is held longer already. The pause uses up what
    /// the spacing would allow at once, and one goes first, then more with each answer: those who
    /// waited come in no crowd.
    pub(super) fn pause(&mut self, rule: &Rule, now: Moment, until: Moment, told: &Name) {
        let held_until = self.pause.as_ref().map_or(now, |(until, _)| *until);
        if until <= held_until.max(now) {
            return;
        }
        self.pause = Some((until, told.clone()));
        self.opening = 1;
        match &rule.kind {
            Kind::Window(Some(pace)) | Kind::Calendar(_, _, Some(pace)) => {
                self.tat = pace.drained(self.tat, until);
            }
            Kind::Bucket => {
                let (pace, _) = rule.bucket(0);
                self.tat = pace.drained(self.tat, until);
            }
            _ => {}
        }
    }

    /// Whether it is as good as new.
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        self.out.is_empty()
            && self.log.is_empty(now)
            && self.tat <= now
            && self.told.as_ref().is_none_or(|told| told.until <= now)
            && self.pause.as_ref().is_none_or(|(until, _)| *until <= now)
            && self
                .period
                .as_ref()
                .is_none_or(|period| period.is_over(now))
    }
}

pub(super) mod look;
mod stored;
mod told;

pub(super) use self::told::{Exchange, Heard};

#[cfg(test)]
mod tests;
