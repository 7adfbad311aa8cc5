//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers), as they are sent.
//!
//! Structured fields (RFC 9651) in the drafts; in the wild also with a quoted parameter name
//! (`"fixed window";"api";q=500`), a bare number (`100;w=60`), or a dictionary (`limit=100,
//! remaining=50, reset=5`, draft -07). A strict parser would drop all of these, so this one is
//! lenient: it splits at commas and semicolons outside quotes and takes what it knows.

use std::time::{Duration, SystemTime};

use super::dialects::Time;
use super::{Found, Signal, Unit, value};

/// More items are not read; no API has so many limits.
const MOST_ITEMS: usize = 16;
/// A longer name is no name.
pub(super) const LONGEST_NAME: usize = 64;

/// One member of a list.
#[derive(Debug, Default)]
struct Item<'a> {
    /// Quoted texts and tokens; the last one names the budget.
    names: Vec<&'a str>,
    /// A leading number.
    number: Option<&'a str>,
    params: Vec<(&'a str, &'a str)>,
}

impl Item<'_> {
    fn param(&self, names: &[&str]) -> Option<&str> {
        let found = self.params.iter().find(|(name, _)| names.contains(name));
        found.map(|(_, value)| *value)
    }

    fn scope(&self) -> Option<String> {
        self.names.last().map(|name| (*name).to_owned())
    }
}

/// What a policy grants.
#[derive(Debug)]
struct Policy {
    names: Vec<String>,
    limit: Option<u64>,
    window: Option<Duration>,
    unit: Unit,
}

/// Reads both headers into `found`.
pub(super) fn read(
    items: &[&str],
    policies: &[&str],
    dialect: &'static str,
    answered: SystemTime,
    found: &mut Found,
) {
    let mut granted = Vec::new();
    let parsed: Vec<Item<'_>> = policies
        .iter()
        .flat_map(|text| split(text, found))
        .collect();
    for item in parsed {
        match policy(&item) {
            Some(policy) => granted.push(policy),
            None => found.ignored += 1,
        }
    }
    let mut whole = Item::default();
    let mut signals = Vec::new();
    let parsed: Vec<Item<'_>> = items.iter().flat_map(|text| split(text, found)).collect();
    for item in parsed {
        if item.names.is_empty() && item.param(&["r"]).is_none() && !item.params.is_empty() {
            // One key of a dictionary.
            whole.params.extend(item.params);
            continue;
        }
        match allowance(&item, &["r"], &["t"], dialect, answered, found) {
            Some(signal) => signals.push((item.names, signal)),
            None => found.ignored += 1,
        }
    }
    if !whole.params.is_empty() {
        let read = allowance(&whole, &["remaining"], &["reset"], dialect, answered, found);
        match read {
            Some(mut signal) => {
                signal.limit = whole.param(&["limit"]).and_then(value::count);
                signals.push((Vec::new(), signal));
            }
            None => found.ignored += 1,
        }
    }
    for (names, mut signal) in signals {
        let matching = granted.iter().position(|policy| {
            if names.is_empty() {
                policy.names.is_empty() && (signal.limit.is_none() || signal.limit == policy.limit)
            } else {
                names
                    .iter()
                    .any(|name| policy.names.iter().any(|n| n == name))
            }
        });
        if let Some(at) = matching {
            let policy = granted.remove(at);
            signal.limit = signal.limit.or(policy.limit);
            signal.window = policy.window;
            signal.unit = policy.unit;
        }
        found.signals.push(signal);
    }
    for policy in granted {
        found.signals.push(Signal {
            scope: policy.names.last().cloned(),
            unit: policy.unit,
            limit: policy.limit,
            window: policy.window,
            ..Signal::new(dialect)
        });
    }
}

fn allowance(
    item: &Item<'_>,
    remaining: &[&str],
    reset: &[&str],
    dialect: &'static str,
    answered: SystemTime,
    found: &mut Found,
) -> Option<Signal> {
    let remaining = item.param(remaining).and_then(value::number)?;
    let reset = item.param(reset);
    let resets_in = reset.and_then(|text| value::ahead(text, Time::Seconds, answered));
    if reset.is_some() && resets_in.is_none() {
        found.ignored += 1;
    }
    Some(Signal {
        scope: item.scope(),
        remaining: Some(remaining),
        resets_in,
        ..Signal::new(dialect)
    })
}

/// A policy grants something: `"burst";q=100;w=60`, or `100;w=60` before draft -08.
fn policy(item: &Item<'_>) -> Option<Policy> {
    let limit = item.param(&["q"]).or(item.number)?;
    let window = item.param(&["w", "window"]);
    Some(Policy {
        names: item.names.iter().map(|name| (*name).to_owned()).collect(),
        limit: Some(value::count(limit)?),
        window: match window {
            Some(text) => Some(value::window(text, Time::Seconds)?),
            None => None,
        },
        unit: match item.param(&["qu"]) {
            None | Some("requests") => Unit::Calls,
            Some(other) => Unit::Named(other.to_owned()),
        },
    })
}

/// The window beside the first number of `100, 100;window=60, 1000;w=3600`: that of the item with
/// the same number.
pub(super) fn window_of(text: &str, limit: u64) -> Option<Duration> {
    let mut none = Found::default();
    split(text, &mut none).iter().find_map(|item| {
        let same = item.number.and_then(value::count) == Some(limit);
        let window = same.then(|| item.param(&["w", "window"])).flatten()?;
        value::window(window, Time::Seconds)
    })
}

/// The members of a list; what cannot be split is counted, not guessed at.
fn split<'a>(text: &'a str, found: &mut Found) -> Vec<Item<'a>> {
    let Some(members) = outside_quotes(text, ',') else {
        found.ignored += 1;
        return Vec::new();
    };
    let mut items = Vec::new();
    for member in members {
        if items.len() == MOST_ITEMS {
            found.ignored += 1;
            break;
        }
        match item(member) {
            Some(item) => items.push(item),
            None => found.ignored += 1,
        }
    }
    items
}

fn item(member: &str) -> Option<Item<'_>> {
    let mut item = Item::default();
    for (at, part) in outside_quotes(member, ';')?.into_iter().enumerate() {
        let part = part.trim();
        if let Some(name) = quoted(part) {
            item.names.push(name);
        } else if let Some((name, value)) = part.split_once('=') {
            let value = value.trim();
            item.params
                .push((name.trim(), quoted(value).unwrap_or(value)));
        } else if at > 0 || part.is_empty() {
            // A parameter without a value says nothing here.
            if at == 0 {
                return None;
            }
        } else if value::number(part).is_some() {
            item.number = Some(part);
        } else {
            item.names.push(part);
        }
    }
    let named = |name: &&str| !name.is_empty() && name.len() <= LONGEST_NAME;
    item.names.iter().all(named).then_some(item)
}

/// The inside of `"…"`. Escapes are left as they are: a name is compared, never shown as code.
fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

/// Splits at `at` outside of quotes; nothing if a quote stays open.
fn outside_quotes(text: &str, at: char) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut start, mut inside, mut escaped) = (0, false, false);
    for (n, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if inside && c == '\\' {
            escaped = true;
        } else if c == '"' {
            inside = !inside;
        } else if c == at && !inside {
            parts.push(&text[start..n]);
            start = n + c.len_utf8();
        }
    }
    parts.push(&text[start..]);
    (!inside).then_some(parts)
}
