//! What an answer says about allowances and waiting: a pure reading of its headers.
//!
//! - `dialects`: which headers say what, the one table of their names
//! - `value`: numbers and times as they are written
//! - `fields`: `RateLimit` and `RateLimit-Policy`
//! - `usage`: several things in one header
//! - `reference`: the manual's page, written from the table
//!
//! Servers send anything: every value is cut off by length before it is parsed, and what cannot
//! be read is counted and left alone.

mod dialects;
mod fields;
pub mod reference;
mod usage;
mod value;

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::AGE;
use jiff::Timestamp;

use self::dialects::{DIALECTS, Dialect, Form, Plain, Time, WAITS, Window};

/// A longer header value is not read at all.
const LONGEST: usize = 1024;
/// JSON about several accounts is longer.
const LONGEST_JSON: usize = 4096;
/// More signals of one answer are not kept.
const MOST_SIGNALS: usize = 32;

/// What an answer says about one allowance.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// The API's name for the budget, where it has one.
    pub scope: Option<String>,
    /// What is counted.
    pub unit: Unit,
    /// How much there is in a window.
    pub limit: Option<u64>,
    /// How much is left; from limit and used where it is not said.
    pub remaining: Option<f64>,
    /// How much is used.
    pub used: Option<f64>,
    /// How long the window is.
    pub window: Option<Duration>,
    /// How long after the answer there is more, by the answer's own clock.
    pub resets_in: Option<Duration>,
    /// The dialect it was read by.
    pub dialect: &'static str,
}

/// What an allowance counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// Requests.
    Calls,
    /// Something else: tokens, weight, percent.
    Named(String),
}

/// All that an answer says, and how many values could not be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// The allowances.
    pub signals: Vec<Signal>,
    /// Values of known headers that were not understood.
    pub ignored: u32,
}

impl Signal {
    fn new(dialect: &'static str) -> Self {
        Self {
            scope: None,
            unit: Unit::Calls,
            limit: None,
            remaining: None,
            used: None,
            window: None,
            resets_in: None,
            dialect,
        }
    }

    fn is_exhausted(&self) -> bool {
        self.remaining.is_some_and(|left| left <= 0.0)
    }
}

/// What an answer says about allowances now. One that a cache has kept for a while (RFC 9111
/// section 5.1) says nothing: its numbers are of the past.
pub fn read(headers: &HeaderMap, now: Timestamp) -> Found {
    if is_kept(headers) {
        Found::default()
    } else {
        said(headers, now)
    }
}

/// Whether a cache has kept an answer for a while (RFC 9111 section 5.1).
pub fn is_kept(headers: &HeaderMap) -> bool {
    headers
        .get(AGE)
        .and_then(|value| value::text(value, value::SHORT))
        .and_then(value::number)
        .is_some_and(|age| age > 0.0)
}

/// How long after the answer a reset lies that somebody has read from it: a number of seconds from
/// now or since 1970, a date, or a duration; nothing if it makes no sense.
pub fn resets_in(text: &str, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if text.len() > LONGEST {
        return None;
    }
    value::ahead(text, Time::Seconds, value::answered(headers, now))
}

/// A time to wait that somebody has read from an answer: seconds, or `1m30s`.
pub fn wait(text: &str) -> Option<Duration> {
    value::window(text, Time::Seconds)
        .or_else(|| (value::number(text) == Some(0.0)).then_some(Duration::ZERO))
}

/// How long a refusal asks to wait (`Retry-After`, RFC 9110 section 10.2.3, and its relatives);
/// nothing if it cannot be read.
///
/// A date is measured against the answer's own `Date`, so that a wrong clock on either side does
/// not matter; `now` stands in where there is none. Of several, the longest counts.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let answered = value::answered(headers, now);
    waits(headers, answered).flatten().max()
}

/// Every header that says how long to wait, read; `None` for what cannot be.
fn waits(headers: &HeaderMap, answered: SystemTime) -> impl Iterator<Item = Option<Duration>> + '_ {
    WAITS.iter().flat_map(move |(name, unit, _)| {
        headers.get_all(*name).iter().map(move |value| {
            let text = value::text(value, value::SHORT)?;
            match value::number(text) {
                Some(n) if *unit == Time::Milliseconds => Some(value::seconds(n / 1e3)),
                Some(n) => Some(value::seconds(n)),
                None => value::date(text)
                    .map(|at| value::until(at, answered))
                    .or_else(|| value::span(text)),
            }
        })
    })
}

/// Whether a header says that nothing is left.
pub fn remaining_zero(headers: &HeaderMap) -> bool {
    // No time is looked at, so any will do.
    said(headers, Timestamp::UNIX_EPOCH)
        .signals
        .iter()
        .any(Signal::is_exhausted)
}

/// When there is more, as said of the exhausted allowances (the last of them, lest we come too
/// early), or else of the first that says it.
pub fn reset(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let signals = said(headers, now).signals;
    let exhausted = signals.iter().filter(|signal| signal.is_exhausted());
    exhausted
        .filter_map(|signal| signal.resets_in)
        .max()
        .or_else(|| signals.iter().find_map(|signal| signal.resets_in))
}

fn said(headers: &HeaderMap, now: Timestamp) -> Found {
    let answered = value::answered(headers, now);
    let mut reader = Reader {
        headers,
        answered,
        claimed: Vec::new(),
        found: Found::default(),
    };
    for dialect in DIALECTS {
        reader.dialect(dialect);
    }
    let mut found = reader.found;
    let unread = waits(headers, answered).filter(Option::is_none).count();
    found.ignored += u32::try_from(unread).unwrap_or(u32::MAX);
    join_policies(&mut found.signals);
    for signal in &mut found.signals {
        if let (None, Some(limit), Some(used)) = (signal.remaining, signal.limit, signal.used) {
            signal.remaining = Some((limit as f64 - used).max(0.0));
        }
    }
    if found.signals.len() > MOST_SIGNALS {
        let more = found.signals.len() - MOST_SIGNALS;
        found.ignored += u32::try_from(more).unwrap_or(u32::MAX);
        found.signals.truncate(MOST_SIGNALS);
    }
    found
}

/// Policies stand in a header of their own (`100;w=60`): the window belongs to the allowance of
/// the same size.
fn join_policies(signals: &mut Vec<Signal>) {
    let is_policy = |s: &Signal| s.remaining.is_none() && s.used.is_none() && s.scope.is_none();
    let mut at = 0;
    while at < signals.len() {
        let (limit, window) = (signals[at].limit, signals[at].window);
        let joined = is_policy(&signals[at])
            && window.is_some()
            && signals.iter_mut().any(|other| {
                let same = !is_policy(other) && other.limit == limit && other.window.is_none();
                if same {
                    other.window = window;
                }
                same
            });
        if joined {
            signals.remove(at);
        } else {
            at += 1;
        }
    }
}

struct Reader<'a> {
    headers: &'a HeaderMap,
    answered: SystemTime,
    /// Headers that a dialect has read.
    claimed: Vec<&'static str>,
    found: Found,
}

impl<'a> Reader<'a> {
    fn dialect(&mut self, dialect: &Dialect) {
        let marked = dialect
            .marker
            .is_none_or(|marker| self.headers.contains_key(marker));
        if !marked {
            return;
        }
        let name = dialect.name;
        match dialect.form {
            Form::Plain(plain) => self.plain(&plain, name),
            Form::Fields {
                items,
                policies,
                unit,
            } => {
                let (items, policies) = (self.all(items, LONGEST), self.all(policies, LONGEST));
                let first = self.found.signals.len();
                fields::read(&items, &policies, name, self.answered, &mut self.found);
                for signal in &mut self.found.signals[first..] {
                    if let (Some(unit), Unit::Calls) = (unit, &signal.unit) {
                        signal.unit = Unit::Named(unit.to_owned());
                    }
                }
            }
            Form::Quotient { header, window } => {
                for text in self.all(header, LONGEST) {
                    usage::quotient(text, window, name, &mut self.found);
                }
            }
            Form::Pairs(prefix) => {
                for (rest, text) in self.beginning(prefix) {
                    usage::pairs(text, rest, name, self.answered, &mut self.found);
                }
            }
            Form::Used { prefix, unit } => {
                for (rest, text) in self.beginning(prefix) {
                    usage::used(text, rest, unit, name, &mut self.found);
                }
            }
            Form::Percent(header) => {
                for text in self.all(header, LONGEST_JSON) {
                    usage::percent(text, name, &mut self.found);
                }
            }
        }
    }

    fn plain(&mut self, plain: &Plain, dialect: &'static str) {
        let counts = [plain.limit, plain.remaining, plain.used];
        let there = |name: &&'static str| self.headers.contains_key(*name);
        let counts: Vec<&'static str> = counts.into_iter().flatten().filter(there).collect();
        if counts.is_empty() || counts.iter().any(|name| self.claimed.contains(name)) {
            return;
        }
        self.claimed.extend(counts);
        let limit = self.get(plain.limit, |text| value::count(first(text)));
        let remaining = self.get(plain.remaining, |text| value::number(first(text)));
        let used = self.get(plain.used, value::number);
        let answered = self.answered;
        let resets_in = plain.reset.and_then(|(name, expects)| {
            self.get(Some(name), |text| value::ahead(text, expects, answered))
        });
        let window = match plain.window {
            Window::Seconds(seconds) => Some(Duration::from_secs(seconds)),
            Window::Header(name, expects) => {
                self.get(Some(name), |text| value::window(text, expects))
            }
            Window::Unsaid => limit.and_then(|limit| {
                let text = value::text(self.headers.get(plain.limit?)?, LONGEST)?;
                fields::window_of(text, limit)
            }),
        };
        if limit.is_none() && remaining.is_none() && used.is_none() {
            return;
        }
        let scope = self.get(plain.scope, |text| {
            (!text.is_empty() && text.len() <= fields::LONGEST_NAME).then(|| text.to_owned())
        });
        self.found.signals.push(Signal {
            scope,
            unit: plain
                .unit
                .map_or(Unit::Calls, |unit| Unit::Named(unit.to_owned())),
            limit,
            remaining,
            used,
            window,
            resets_in,
            dialect,
        });
    }

    /// One header, read; what is there and cannot be read is counted.
    fn get<T>(
        &mut self,
        name: Option<&'static str>,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Option<T> {
        let value = self.headers.get(name?)?;
        let read = value::text(value, LONGEST).and_then(read);
        if read.is_none() {
            self.found.ignored += 1;
        }
        read
    }

    /// All values of a header that are short enough.
    fn all(&mut self, name: &str, longest: usize) -> Vec<&'a str> {
        let mut texts = Vec::new();
        for value in self.headers.get_all(name) {
            match value::text(value, longest) {
                Some(text) => texts.push(text),
                None => self.found.ignored += 1,
            }
        }
        texts
    }

    /// Headers whose names begin with `prefix`: the rest of the name, and the value.
    fn beginning(&mut self, prefix: &str) -> Vec<(&'a str, &'a str)> {
        let mut texts = Vec::new();
        for (name, value) in self.headers {
            let Some(rest) = name.as_str().strip_prefix(prefix) else {
                continue;
            };
            match value::text(value, LONGEST) {
                Some(text) => texts.push((rest, text)),
                None => self.found.ignored += 1,
            }
        }
        texts
    }
}

/// Some write a list, `0, 100;window=60`; the binding count comes first.
fn first(text: &str) -> &str {
    text.split([',', ';']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
