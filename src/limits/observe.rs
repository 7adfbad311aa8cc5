//! What an answer says is left, and of which limit that is said.
//!
//! Whoever reads answers hands over observations, never answers. A header rarely says which limit
//! it is about: it is taken to be the one of the same size, else the one of the same window, else
//! the only one that counts the same; where there are several, it says nothing.

use std::time::Duration;

use super::budget::{CALL, Heard};
use super::moment::{SECOND, nanos};
use super::rule::{Kind, Rule};
use super::scope::{Key, Needs, thousandths};
use super::{Limits, Permit};
use crate::clock::Instant;
use crate::event::Name;

/// More than so many times the limit cannot be left of it.
const MOST: f64 = 10.0;

/// The unit of allowances that are told as a share of the whole.
const PERCENT: &str = "percent";

/// What an answer says is left of an allowance.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Which.
    pub about: About,
    /// Calls, or units, that are left, where that is told.
    pub remaining: Option<f64>,
    /// How long after the answer there is more.
    pub resets_in: Option<Duration>,
}

/// The allowance that an observation is about.
#[derive(Debug, Clone, PartialEq)]
pub enum About {
    /// The limit at this place among those that the limits were made from.
    Limit(usize),
    /// The one that fits.
    Like {
        /// What is counted, if not calls.
        unit: Option<Name>,
        /// How much there is in a window.
        limit: Option<u64>,
        /// How long the window is.
        window: Option<Duration>,
    },
}

/// The observation makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Nonsense;

impl Permit {
    /// What the answer says is left. Of several that are about the same limit the least counts.
    /// Gives the number of those that make no sense.
    pub fn observe(&mut self, observations: &[Observation]) -> u32 {
        let mut ignored = 0;
        for one in observations {
            match of(&self.needs, &self.shared.rules(), one, observations) {
                Ok(None) => {}
                Ok(Some((key, heard))) => match self.heard.iter_mut().find(|(of, _)| *of == key) {
                    Some((_, known)) if known.remaining <= heard.remaining => {}
                    Some((_, known)) => *known = heard,
                    None => self.heard.push((key, heard)),
                },
                Err(Nonsense) => ignored += 1,
            }
        }
        ignored
    }
}

impl Limits {
    /// Holds every request that needs the limit at this place, of the budget in `needs`, until
    /// `until` (never shortens a pause), because the server said `told`.
    pub fn pause_limit(&self, needs: &Needs, place: usize, until: Instant, told: &str) {
        let shared = &self.shared;
        let (now, until) = (shared.now(), shared.moment(until));
        let keys = needs.parts.iter().map(|(key, _)| key);
        let keys = keys.filter(|key| key.0 == place + 1);
        shared.gate().pause_all(keys, now, until, &Name::from(told));
    }
}

impl Needs {
    /// Whether the limit at this place counts the request.
    pub fn include(&self, place: usize) -> bool {
        self.parts.iter().any(|(key, _)| key.0 == place + 1)
    }
}

/// The budget that one of `all` is about, and what it says of it.
fn of(
    needs: &Needs,
    rules: &[Rule],
    one: &Observation,
    all: &[Observation],
) -> Result<Option<(Key, Heard)>, Nonsense> {
    let Some(told) = one.remaining else {
        return Ok(None);
    };
    if !(told >= 0.0 && told.is_finite()) {
        return Err(Nonsense);
    }
    let mut resets_in = one.resets_in.map(nanos);
    let mut remaining = told;
    let key = match &one.about {
        About::Limit(place) => {
            let Some(key) = counted(needs, rules).find(|key| key.0 == place + 1) else {
                return Ok(None);
            };
            let rule = &rules[key.0];
            let too_late = resets_in.is_some_and(|wait| wait > longest(rule));
            if !rule.trust && (too_late || told > MOST * calls(rule)) {
                return Err(Nonsense);
            }
            key
        }
        About::Like {
            unit,
            limit,
            window,
        } => {
            if limit.is_some_and(|limit| told > MOST * limit as f64) {
                return Err(Nonsense);
            }
            let is_share = unit.as_deref() == Some(PERCENT);
            let fits = |key: &&Key| {
                let rule = &rules[key.0];
                let same_unit = rule.unit == *unit || is_share && rule.unit.is_none();
                same_unit && resets_in.is_none_or(|wait| wait <= longest(rule))
            };
            let fitting: Vec<&Key> = counted(needs, rules).filter(fits).collect();
            let size = limit.filter(|_| !is_share);
            let Some(key) = likely(&fitting, rules, size, *window) else {
                return Ok(None);
            };
            if rules[key.0].explicit {
                return Ok(None);
            }
            if is_share {
                // Shares are whole percents: up to one more may be left.
                remaining = calls(&rules[key.0]) * (told + 1.0) / 100.0;
            }
            let own = all
                .iter()
                .filter(|other| other.about == About::Limit(key.0 - 1));
            let own = own.filter_map(|other| other.resets_in).max();
            resets_in = own.map(nanos).or(resets_in);
            key
        }
    };
    let remaining = thousandths(remaining).ok_or(Nonsense)?;
    let heard = Heard {
        remaining,
        resets_in,
    };
    Ok(Some((Key::clone(key), heard)))
}

/// The budgets of limits that are declared in numbers and run out: what is in flight does not, and
/// nobody tells what is left of it.
fn counted<'a>(needs: &'a Needs, rules: &[Rule]) -> impl Iterator<Item = &'a Key> {
    let parts = needs.parts.iter().map(|(key, _)| key);
    let runs_out = |rule: &Rule| rule.declared > 0 && rule.length().is_some();
    parts.filter(move |key| runs_out(&rules[key.0]))
}

/// The one of the same size, else of the same window, else the only one.
fn likely<'a>(
    fitting: &[&'a Key],
    rules: &[Rule],
    size: Option<u64>,
    window: Option<Duration>,
) -> Option<&'a Key> {
    let find = |same: &dyn Fn(&Rule) -> bool| fitting.iter().find(|key| same(&rules[key.0]));
    let by_size = size.and_then(|size| find(&|rule| size.saturating_mul(CALL) == rule.declared));
    let by_window = || window.and_then(|window| find(&|rule| nanos(window) == rule.window));
    let only = || fitting.first().filter(|_| fitting.len() == 1);
    by_size.or_else(by_window).or_else(only).copied()
}

fn calls(rule: &Rule) -> f64 {
    rule.declared as f64 / CALL as f64
}

/// The latest reset that a limit can have: a window away, however it is rounded, and a month may
/// have 31 days. A bucket is full again when it has leaked.
fn longest(rule: &Rule) -> u64 {
    let window = match rule.kind {
        Kind::Bucket => {
            let (pace, _) = rule.bucket(0);
            pace.period.saturating_mul(rule.in_cells(rule.declared))
        }
        _ => rule.window,
    };
    window
        .saturating_add(window / 16)
        .saturating_add(2 * SECOND)
}
