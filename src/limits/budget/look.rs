//! A budget as one sees it who only looks.

use super::{Budget, CALL};
use crate::event::Name;
use crate::limits::calendar::Period;
use crate::limits::jitter::Jitter;
use crate::limits::log::Answer;
use crate::limits::moment::{Moment, Now};
use crate::limits::queue::Waiting;
use crate::limits::rule::{Kind, Rule};

/// What is to be seen of a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::limits) struct Look {
    /// Used now, unanswered requests included.
    pub(in crate::limits) used: u64,
    /// When one more call may go.
    pub(in crate::limits) next: Answer,
    /// When all of it is free again, if nobody uses it and those under way are answered now.
    pub(in crate::limits) whole: Moment,
    /// Until when it is paused, and what the server said.
    pub(in crate::limits) paused: Option<(Moment, Name)>,
    /// Unanswered, by holder.
    pub(in crate::limits) out: Vec<(u64, u64)>,
    /// What is used comes back then, soonest first, unanswered requests as if they were answered now.
    pub(in crate::limits) back: Vec<(Moment, u64)>,
    /// The state of its pace.
    pub(in crate::limits) tat: Moment,
    /// Who waits.
    pub(in crate::limits) waiting: Vec<Waiting>,
}

impl Budget {
    /// Looks at it.
    pub(in crate::limits) fn look(&mut self, rule: &Rule, now: Now) -> Look {
        // What this process has seen of the network is not what the users of the budget have.
        let jitter = Jitter::default();
        let next = match self.ask(rule, now, CALL.min(rule.capacity), &jitter) {
            Ok(_) => Answer::Now,
            Err(held) => held.until,
        };
        let under_way = match rule.length() {
            Some(_) if !self.out.is_empty() => rule.window,
            // What is in flight is back with its answer, whenever that is.
            _ => 0,
        };
        let mut back: Vec<(Moment, u64)> = self.log.entries().collect();
        back.retain(|(at, _)| *at > now.at);
        if self.out_sum > 0 {
            back.push((now.at.plus(under_way), self.out_sum));
            back.sort_unstable();
        }
        let mut tat = self.tat;
        let mut whole = now.at.plus(under_way);
        let used = match &rule.kind {
            Kind::Slots => self.out_sum,
            Kind::Window(_) | Kind::Counter | Kind::Flight => {
                whole = back.last().map_or(whole, |(at, _)| whole.max(*at));
                back.iter().map(|(_, amount)| amount).sum()
            }
            Kind::Calendar(unit, zone, _) => {
                let guard = jitter.abandoned();
                let period = Period::at(&mut self.period, *unit, zone, now, guard, self.out_sum);
                if period.used > 0 {
                    whole = whole.max(period.end.plus(guard));
                }
                period.used
            }
            Kind::Bucket => {
                let (pace, _) = rule.bucket(0);
                let charged = self.out.iter().filter(|out| !out.charged);
                let held: u64 = charged.map(|out| out.amount).sum();
                tat = pace.charge(self.tat, now.at, rule.in_cells(held));
                whole = whole.max(tat);
                let cells = tat.since(now.at).div_ceil(pace.period);
                rule.of_cells(cells).min(rule.capacity)
            }
        };
        // Others, on other machines, may have used more than we know.
        let told = self.told.as_ref().filter(|told| told.until > now.at);
        let used = told.map_or(used, |told| {
            whole = whole.max(told.until);
            let left = told.left.saturating_sub(self.out_sum);
            let told = rule.capacity.saturating_sub(left);
            if rule.trust { told } else { used.max(told) }
        });
        let paused = self.pause.clone().filter(|(until, _)| *until > now.at);
        if let Some((until, _)) = &paused {
            whole = whole.max(*until);
        }
        let mut out: Vec<(u64, u64)> = Vec::new();
        for one in &self.out {
            match out.iter_mut().find(|(holder, _)| *holder == one.holder) {
                Some((_, sum)) => *sum += one.amount,
                None => out.push((one.holder, one.amount)),
            }
        }
        Look {
            used,
            next,
            whole,
            paused,
            out,
            back,
            tat,
            waiting: self.queue.lately(now.at).collect(),
        }
    }
}
