//! What an answer says of limits, whether it brings a page or not: read by the file's own `signals`,
//! or by the headers that are known.
//!
//! A throttle is not read here: its pause says all. What cannot be read, or makes no sense, is
//! counted for the end of the run and otherwise left alone.

use std::time::Duration;

use http::HeaderMap;
use minijinja::Value;

use super::turn::Under;
use crate::fetch::signals::{self, Unit};
use crate::harvest::stream::Stream;
use crate::limits::{About, Needs, Observation};
use crate::plan::duration;
use crate::plan::language::Expr;
use crate::plan::limit::{Left, LimitPlan};

/// What an answer says of limits.
#[derive(Debug, Default)]
pub(in crate::harvest) struct Told {
    observations: Vec<Observation>,
    pauses: Vec<Pause>,
    /// Values that could not be read.
    ignored: u32,
}

/// A wish to be left alone for a while.
#[derive(Debug)]
struct Pause {
    /// The limit's place.
    limit: usize,
    wait: Duration,
    /// Who says so, for people.
    told: String,
}

impl Stream {
    /// Whether some limit has `signals` of its own to be read from an answer.
    pub(in crate::harvest) fn reads_signals(&self) -> bool {
        let limits = &self.run.counted;
        limits
            .iter()
            .any(|limit| limit.signals.expressions().next().is_some())
    }

    /// What an answer says of the limits in `needs`; `names` are those of the answer, where some
    /// limit reads them.
    pub(in crate::harvest) fn told(
        &self,
        needs: &Needs,
        headers: &HeaderMap,
        names: Option<&Value>,
    ) -> Told {
        let limits = &self.run.counted;
        let mut told = Told::default();
        if limits.iter().all(LimitPlan::is_auto) {
            return told;
        }
        let now = self.run.world.clock.calendar();
        let read = signals::read(headers, now);
        told.ignored += read.ignored;
        let is_fresh = !signals::is_kept(headers);
        for (at, plan) in limits.iter().enumerate() {
            let (signals, Some(names)) = (&plan.signals, names) else {
                continue;
            };
            if !needs.include(at) {
                continue;
            }
            if let Some(expr) = &signals.pause
                && let Some(wait) = told.value(expr, names, wait)
                && !wait.is_zero()
            {
                told.pauses.push(Pause {
                    limit: at,
                    wait,
                    told: format!("`{}` is {}", expr.written(), duration::show(wait)),
                });
            }
            if !is_fresh {
                continue;
            }
            let reset = |text: &str| signals::resets_in(text, headers, now);
            let resets_in = signals
                .reset
                .as_ref()
                .and_then(|expr| told.value(expr, names, reset));
            let remaining = match &signals.left {
                None => None,
                Some(Left::Remaining(expr)) => told.value(expr, names, number),
                Some(Left::Used(expr)) => {
                    let used = told.value(expr, names, number);
                    used.map(|used| (plan.granted() as f64 - used).max(0.0))
                }
            };
            told.observations.push(Observation {
                about: About::Limit(at),
                remaining,
                resets_in,
            });
        }
        for signal in read.signals {
            told.observations.push(Observation {
                about: About::Like {
                    unit: match signal.unit {
                        Unit::Calls => None,
                        Unit::Named(unit) => Some(unit.into()),
                    },
                    limit: signal.limit,
                    window: signal.window,
                },
                remaining: signal.remaining,
                resets_in: signal.resets_in,
            });
        }
        told
    }

    /// Does as told, before the permit is given back: nobody takes it in between.
    pub(in crate::harvest) fn heed(&self, under: &mut Under) {
        let (Some(needs), Some(held)) = (&under.needs, &mut under.held) else {
            return;
        };
        let told = std::mem::take(&mut held.told);
        let run = &self.run;
        let senseless = held.permit.observe(&told.observations);
        run.ignore_signals(told.ignored.saturating_add(senseless));
        for pause in told.pauses {
            let until = run.world.clock.now() + pause.wait;
            run.limits
                .pause_limit(needs, pause.limit, until, &pause.told);
        }
    }
}

impl Told {
    /// The value of an expression, read; what is there and cannot be read is counted.
    fn value<T>(
        &mut self,
        expr: &Expr,
        names: &Value,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let found = match expr.value(names) {
            Ok(value) if value.is_undefined() || value.is_none() => return None,
            Ok(value) => read(value.to_string().trim()),
            Err(_) => None,
        };
        if found.is_none() {
            self.ignored += 1;
        }
        found
    }
}

fn number(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

/// Seconds, `1m30s` as headers write it, or `15min` as this program does.
fn wait(text: &str) -> Option<Duration> {
    signals::wait(text).or_else(|| duration::parse(text).ok())
}
