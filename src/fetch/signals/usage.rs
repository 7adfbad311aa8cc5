//! Dialects that put several things into one header: quotients, pairs, windows in the name, JSON.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::dialects::Time;
use super::fields::LONGEST_NAME;
use super::{Found, Signal, Unit, value};

/// More entries of one header are not read.
const MOST: usize = 16;

/// `32/40`, or `api-usage=18/5000, per-app-api-usage=17/250(appName=x)`.
pub(super) fn quotient(text: &str, window: Option<u64>, dialect: &'static str, found: &mut Found) {
    for entry in text.split(',').take(MOST) {
        let (name, share) = match entry.split_once('=') {
            // The parenthesis may hold another sign.
            Some((name, share)) if !name.contains('/') => (Some(name.trim()), share),
            _ => (None, entry),
        };
        let share = share.split('(').next().unwrap_or_default();
        let read = share
            .split_once('/')
            .and_then(|(used, limit)| Some((value::number(used)?, value::count(limit)?)));
        match read {
            Some((used, limit)) if name.is_none_or(|name| name.len() <= LONGEST_NAME) => {
                found.signals.push(Signal {
                    scope: name.map(str::to_owned),
                    limit: Some(limit),
                    used: Some(used),
                    window: window.map(Duration::from_secs),
                    ..Signal::new(dialect)
                });
            }
            _ => found.ignored += 1,
        }
    }
}

/// `total=100; remaining=98; resets=42`, about what the end of the header's name says.
pub(super) fn pairs(
    text: &str,
    scope: &str,
    dialect: &'static str,
    answered: SystemTime,
    found: &mut Found,
) {
    let mut signal = Signal {
        scope: Some(scope.to_owned()),
        ..Signal::new(dialect)
    };
    let mut understood = scope.len() <= LONGEST_NAME;
    for pair in text.split(';').take(MOST) {
        let Some((name, number)) = pair.split_once('=') else {
            understood = false;
            continue;
        };
        match name.trim() {
            "total" => signal.limit = value::count(number),
            "remaining" => signal.remaining = value::number(number),
            "resets" => signal.resets_in = value::ahead(number.trim(), Time::Seconds, answered),
            _ => {}
        }
    }
    understood &= signal.remaining.is_some();
    if understood {
        found.signals.push(signal);
    } else {
        found.ignored += 1;
    }
}

/// A used amount in the window that ends the header's name: `1m`.
pub(super) fn used(text: &str, suffix: &str, unit: &str, dialect: &'static str, found: &mut Found) {
    match (value::number(text), value::span(suffix)) {
        (Some(used), Some(window)) if !window.is_zero() => found.signals.push(Signal {
            unit: Unit::Named(unit.to_owned()),
            used: Some(used),
            window: Some(window),
            ..Signal::new(dialect)
        }),
        _ => found.ignored += 1,
    }
}

/// `{"call_count": 28, "total_time": 25, "total_cputime": 25}` in percent, or a list of such
/// under the ids of accounts; the greatest share counts.
pub(super) fn percent(text: &str, dialect: &'static str, found: &mut Found) {
    let Ok(Value::Object(map)) = serde_json::from_str::<Value>(text) else {
        found.ignored += 1;
        return;
    };
    let before = found.signals.len();
    let top = Value::Object(map);
    let lists = top
        .as_object()
        .into_iter()
        .flat_map(|map| map.values())
        .filter_map(Value::as_array)
        .flatten();
    for entry in std::iter::once(&top).chain(lists).take(MOST) {
        let share = ["call_count", "total_time", "total_cputime"]
            .iter()
            .filter_map(|name| entry.get(name)?.as_f64())
            .filter(|share| share.is_finite() && *share >= 0.0)
            .reduce(f64::max);
        let Some(share) = share else { continue };
        let minutes = entry
            .get("estimated_time_to_regain_access")
            .and_then(Value::as_f64)
            .filter(|minutes| *minutes > 0.0);
        found.signals.push(Signal {
            scope: entry
                .get("type")
                .and_then(Value::as_str)
                .filter(|name| name.len() <= LONGEST_NAME)
                .map(str::to_owned),
            unit: Unit::Named("percent".to_owned()),
            limit: Some(100),
            used: Some(share),
            resets_in: minutes.map(|minutes| value::seconds(minutes * 60.0)),
            ..Signal::new(dialect)
        });
    }
    if found.signals.len() == before {
        found.ignored += 1;
    }
}
