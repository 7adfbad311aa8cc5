//! What an answer means: a pure judgement; nobody sleeps here.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use minijinja::Value;

use super::ready::NotReady;
use crate::event::FailureClass;
use crate::fetch::signals;
use crate::harvest::trouble::shorten;
use crate::plan::language::{LanguageProblem, Template};
use crate::plan::{Pause, ResponseRule, Then, duration};

/// What an answer means.
#[derive(Debug, PartialEq)]
pub(in crate::harvest) enum Verdict {
    /// A page.
    Accept,
    /// No rows here, and none after.
    Skip,
    /// A page, the last of its partition.
    Last,
    /// Not a page; may be tried again.
    Trouble(Trouble),
    /// Not a page: the window of time holds too much.
    TooLarge(String),
    /// Not a page: what led to it leads nowhere any more.
    Expired(String),
    /// The token is refused.
    Stale {
        /// What the answer says.
        message: String,
    },
    /// Not a page yet.
    NotReady(NotReady),
    /// Not a page; the stream fails.
    Fail {
        /// What went wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

/// An attempt that did not bring a page.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::harvest) struct Trouble {
    /// Its class.
    pub(in crate::harvest) class: FailureClass,
    /// What went wrong.
    pub(in crate::harvest) message: String,
    /// How long the server asked us to wait.
    pub(in crate::harvest) told: Option<Duration>,
    /// Whether time ran out: it kept the server busy for long.
    pub(in crate::harvest) slow: bool,
    /// What to do about it, where that is not the same for all of its class.
    pub(in crate::harvest) hint: Option<&'static str>,
}

impl Trouble {
    /// One that may go away by itself.
    pub(in crate::harvest) fn transient(message: String) -> Self {
        Self {
            class: FailureClass::Transient,
            message,
            told: None,
            slow: false,
            hint: None,
        }
    }
}

/// The least pause for a throttle.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

impl Trouble {
    /// How long to wait, given the jittered `backoff`: never less than told.
    pub(in crate::harvest) fn delay(&self, backoff: Duration) -> Duration {
        match (self.class, self.told) {
            (FailureClass::Throttle, Some(told)) if told >= LEAST_PAUSE => told,
            // "Now" from a server that has just refused is not to be taken at its word.
            (FailureClass::Throttle, _) => backoff.max(LEAST_PAUSE),
            (_, told) => backoff.max(told.unwrap_or_default()),
        }
    }
}

/// An empty allowance without a time, and `wait` without one, pause everything for this long.
const UNTOLD_WAIT: Duration = Duration::from_mins(1);

/// Most characters of a text that a rule makes for people: it may quote a whole body.
const MOST_TEXT: usize = 500;

/// Judges by the stream's own rules; `None` leaves it to [`by_status`].
pub(in crate::harvest) fn by_rules(
    rules: &[ResponseRule],
    names: &Value,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Option<Verdict>, LanguageProblem> {
    for rule in rules {
        if !rule.when.holds(names)? {
            continue;
        }
        let because = || format!("the answer matches `{}`", rule.when.written());
        return Ok(Some(match &rule.then {
            Then::Accept => Verdict::Accept,
            Then::Skip => Verdict::Skip,
            Then::Stop => Verdict::Last,
            Then::Retry => Verdict::Trouble(Trouble {
                told: signals::retry_after(headers, now),
                ..Trouble::transient(because())
            }),
            Then::Wait(pause) => {
                let (said, unreadable) = match pause {
                    Pause::AsTold => (None, None),
                    Pause::Time(time) => (Some(*time), None),
                    Pause::Said(template) => said_wait(template, names, headers, now),
                };
                let told = said
                    .or_else(|| told_wait(headers, now))
                    .unwrap_or(UNTOLD_WAIT);
                Verdict::Trouble(Trouble {
                    class: FailureClass::Throttle,
                    message: because() + &unreadable.unwrap_or_default(),
                    told: Some(told),
                    slow: false,
                    hint: None,
                })
            }
            Then::Split => Verdict::TooLarge(because()),
            Then::Restart => Verdict::Expired(because()),
            Then::RefreshAuth => Verdict::Stale { message: because() },
            Then::Again { every, within } => Verdict::NotReady(NotReady {
                message: because(),
                // Who says later is not asked sooner.
                every: signals::retry_after(headers, now).map_or(*every, |told| told.max(*every)),
                within: *within,
            }),
            Then::Fail(text) => Verdict::Fail {
                message: match text {
                    Some(text) => shorten(&text.text(names)?, MOST_TEXT),
                    None => because(),
                },
                hint: None,
            },
        }));
    }
    Ok(None)
}

/// How long an answer asks to wait in words of its own: a duration, seconds, or an instant. What is
/// not readable is said; then the headers count.
fn said_wait(
    template: &Template,
    names: &Value,
    headers: &HeaderMap,
    now: Timestamp,
) -> (Option<Duration>, Option<String>) {
    let text = match template.text(names) {
        Ok(text) => text,
        Err(problem) => return (None, Some(format!(" (its wait is unknown: {problem})"))),
    };
    let text = text.trim();
    let said = duration::parse(text)
        .ok()
        .or_else(|| signals::resets_in(text, headers, now));
    let unreadable = said.is_none().then(|| {
        let text = shorten(text, 60);
        format!(" (its wait is not readable: `{text}`)")
    });
    (said, unreadable)
}

/// Judges by status and headers (RFC 9110, section 15).
pub(in crate::harvest) fn by_status(
    status: StatusCode,
    headers: &HeaderMap,
    now: Timestamp,
) -> Verdict {
    let told = if status.is_success() {
        None
    } else {
        signals::retry_after(headers, now)
    };
    let trouble = |class, told| {
        Verdict::Trouble(Trouble {
            class,
            message: show(status),
            told,
            slow: false,
            hint: None,
        })
    };
    match status.as_u16() {
        // They have no body (RFC 9110, sections 15.3.5 and 15.3.6), so no records either.
        code @ (204 | 205) => Verdict::Fail {
            message: show(status),
            hint: advice(code),
        },
        200..=299 => Verdict::Accept,
        429 => trouble(FailureClass::Throttle, told_wait(headers, now)),
        503 | 403 if told.is_some() => trouble(FailureClass::Throttle, told),
        403 if signals::remaining_zero(headers) => trouble(
            FailureClass::Throttle,
            told_wait(headers, now).or(Some(UNTOLD_WAIT)),
        ),
        // 52x: what reverse proxies say of an origin they cannot reach.
        408 | 425 | 500 | 502..=504 | 520..=529 => trouble(FailureClass::Transient, told),
        code => Verdict::Fail {
            message: show(status),
            hint: advice(code),
        },
    }
}

/// Retry-After, else the reset that goes with an empty allowance.
fn told_wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    signals::retry_after(headers, now).or_else(|| {
        signals::remaining_zero(headers)
            .then(|| signals::reset(headers, now))
            .flatten()
    })
}

/// `404 Not Found`.
pub(in crate::harvest) fn show(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

fn advice(code: u16) -> Option<String> {
    Some(
        match code {
            204 | 205 => "an answer without a body; if the API says \"no rows here\" like this, add `responses: [{ if: status == 204, then: skip }]`",
            401 => "check the credential under `source.auth`: is the secret set, current, and of the right kind?",
            403 => "the credential is known but may not read this; check its scopes, or `contact` if the API wants one",
            404 => "check `get` and its variables; if the API says 404 for \"no rows here\", add `responses: [{ if: status == 404, then: skip }]`",
            400 | 422 => "the API does not like the request; compare `query` and `body` with its documentation",
            405 => "the API wants another method; use `post:` in place of `get:`, or the other way round",
            410 => "the API has moved or ended this address; look for its successor",
            413 | 414 => "the request is too long for the API; ask for fewer ids at once",
            304 => "the API says that nothing has changed (RFC 9110, section 15.4.5), and nobody asked whether: look for an `If-None-Match` or `If-Modified-Since` among the headers, or a proxy on the way",
            300..=399 => "the API redirects without saying where to",
            _ => return None,
        }
        .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::language::Expr;

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().expect("a time")
    }

    fn class(status: u16, headers: &[(&'static str, &'static str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a value"));
        }
        match by_status(StatusCode::from_u16(status).expect("a status"), &map, now()) {
            Verdict::Trouble(t) => {
                format!("{:?} {}", t.class, t.told.map_or(-1.0, |d| d.as_secs_f64()))
            }
            Verdict::Fail { .. } => "fail".to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_status_has_a_class() {
        assert_eq!(class(200, &[]), "Accept");
        assert_eq!(class(204, &[]), "fail");
        assert_eq!(class(429, &[]), "Throttle -1");
        assert_eq!(class(429, &[("retry-after", "30")]), "Throttle 30");
        assert_eq!(
            class(
                429,
                &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "12")]
            ),
            "Throttle 12"
        );
        assert_eq!(class(503, &[]), "Transient -1");
        assert_eq!(class(503, &[("retry-after", "5")]), "Throttle 5");
        assert_eq!(class(403, &[]), "fail");
        assert_eq!(class(403, &[("x-ratelimit-remaining", "0")]), "Throttle 60");
        for status in [408, 425, 500, 502, 504, 520, 524] {
            assert_eq!(class(status, &[]), "Transient -1", "{status}");
        }
        for status in [301, 400, 401, 404, 405, 410, 418, 451, 501] {
            assert_eq!(class(status, &[]), "fail", "{status}");
        }
    }

    #[test]
    fn a_throttle_waits_as_told_but_never_not_at_all() {
        let delay = |told: Option<u64>| {
            let trouble = Trouble {
                class: FailureClass::Throttle,
                message: String::new(),
                told: told.map(Duration::from_secs),
                slow: false,
                hint: None,
            };
            trouble.delay(Duration::from_millis(300)).as_secs()
        };
        assert_eq!(delay(Some(30)), 30);
        assert_eq!(delay(Some(0)), 1);
        assert_eq!(delay(None), 1);
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let rule = |when: &str, then| ResponseRule {
            when: Expr::parse(when).expect("an expression"),
            then,
        };
        let rules = [
            rule("status == 404", Then::Skip),
            rule("status >= 400", Then::Fail(None)),
            rule("body.gone.deeper", Then::Accept),
        ];
        let names = |status: u16| Value::from_pairs([("status", status)]);
        let judge = |status| {
            by_rules(&rules, &names(status), &HeaderMap::new(), now()).expect("no problem")
        };
        assert_eq!(judge(404), Some(Verdict::Skip));
        assert_eq!(
            judge(410),
            Some(Verdict::Fail {
                message: "the answer matches `status >= 400`".to_owned(),
                hint: None
            })
        );
        assert_eq!(judge(200), None);
    }
}
