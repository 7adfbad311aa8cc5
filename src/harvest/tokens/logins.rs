//! What the answer to a login says: the token, and how long it holds.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::fetch::grant::seconds;
use crate::harvest::attempt::outcome::Answer;
use crate::json;
use crate::plan::auth::{Expiry, TokenPlan, TokenSource};
use crate::plan::paging::TokenFrom;
use crate::plan::path::Path;

/// Numbers below are seconds from now (up to some thirty years), those above a moment in seconds since
/// 1970, and the largest in milliseconds.
const MOMENTS: f64 = 1e9;
const MILLIS: f64 = 1e11;

/// The token, and how long it holds; or what is missing.
pub(in crate::harvest) fn read(
    plan: &TokenPlan,
    answer: &Answer,
    now: Timestamp,
) -> Result<(String, Option<Duration>), String> {
    let TokenSource::Login(login) = &plan.from else {
        return Err("it is no login".to_owned());
    };
    let token = match find(&login.token, answer)? {
        serde_json::Value::String(text) if !text.trim().is_empty() => text,
        serde_json::Value::Number(number) => number.to_string(),
        _ => return Err(format!("there is no token at `{}`", shown(&login.token))),
    };
    let lifetime = match &login.expires {
        Expiry::Untold => None,
        Expiry::After(time) => Some(*time),
        Expiry::Told(from) => match find(from, answer)? {
            serde_json::Value::Null => None,
            told => {
                let life = lifetime(&told, now);
                Some(life.ok_or_else(|| format!("`{}` is no time", shown(from)))?)
            }
        },
    };
    Ok((token, lifetime))
}

fn find(from: &TokenFrom, answer: &Answer) -> Result<serde_json::Value, String> {
    let found = match from {
        TokenFrom::Header(name) => {
            let value = answer.headers.get(name);
            value.map(|value| {
                String::from_utf8_lossy(value.as_bytes())
                    .into_owned()
                    .into()
            })
        }
        TokenFrom::Body(path) => in_body(path, &answer.body),
    };
    found.ok_or_else(|| format!("the answer has no `{}`", shown(from)))
}

fn in_body(path: &Path, body: &[u8]) -> Option<serde_json::Value> {
    let text = std::str::from_utf8(body).ok()?;
    match serde_json::from_str::<&serde_json::value::RawValue>(text) {
        Ok(whole) => {
            let raw = json::get(whole.get(), path)?;
            serde_json::from_str(raw).ok()
        }
        // An answer that is nothing but the token.
        Err(_) if path.steps.is_empty() => Some(text.trim().into()),
        Err(_) => None,
    }
}

fn shown(from: &TokenFrom) -> String {
    match from {
        TokenFrom::Header(name) => format!("headers.{name}"),
        TokenFrom::Body(path) => path.to_string(),
    }
}

/// How long from `now`: seconds, or until a moment.
fn lifetime(told: &serde_json::Value, now: Timestamp) -> Option<Duration> {
    let until = |moment: Timestamp| {
        let left = Duration::try_from(moment.duration_since(now));
        Some(left.unwrap_or_default())
    };
    let number = match told {
        serde_json::Value::Number(number) => number.as_f64(),
        serde_json::Value::String(text) => text.trim().parse().ok(),
        _ => return None,
    };
    match (number, told) {
        (Some(number), _) if number >= MOMENTS => {
            let second = if number >= MILLIS {
                number / 1e3
            } else {
                number
            };
            until(Timestamp::from_duration(jiff::SignedDuration::from_secs_f64(second)).ok()?)
        }
        (Some(_), _) => seconds(told),
        (None, serde_json::Value::String(text)) => {
            let text = text.trim();
            if let Ok(moment) = text.parse::<Timestamp>() {
                return until(moment);
            }
            if let Ok(moment) = httpdate::parse_http_date(text) {
                return until(Timestamp::try_from(moment).ok()?);
            }
            // Without a zone it is UTC, as APIs mean it.
            let civil: DateTime = text.parse().ok()?;
            until(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
        }
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_told_in_many_ways() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let life = |json: &str| {
            lifetime(&serde_json::from_str(json).unwrap(), now).map(|life| life.as_secs())
        };
        for json in [
            "1800",
            "\"1800\"",
            "1795350600",
            "1795350600000",
            "\"1795350600\"",
            "\"2026-11-22T12:30:00Z\"",
            "\"2026-11-22T13:30:00+01:00\"",
            "\"2026-11-22T12:30:00\"",
            "\"2026-11-22 12:30:00\"",
            "\"Sun, 22 Nov 2026 12:30:00 GMT\"",
        ] {
            assert_eq!(life(json), Some(1800), "{json}");
        }
        assert_eq!(life("\"2026-11-22T11:00:00Z\""), Some(0));
        assert_eq!(life("\"soon\""), None);
        assert_eq!(life("true"), None);
        assert_eq!(life("-5"), None);
    }

    #[test]
    fn a_token_is_found_where_it_stands() {
        let path = |text: &str| Path::parse(text).unwrap();
        let found = |at: &str, body: &str| in_body(&path(at), body.as_bytes());
        assert_eq!(
            found("data.session", r#"{"data":{"session":"s"}}"#),
            Some("s".into())
        );
        assert_eq!(found("$", "\"s\""), Some("s".into()));
        assert_eq!(found("$", "s-e_s.s\n"), Some("s-e_s.s".into()));
        assert_eq!(found("data.other", r#"{"data":{}}"#), None);
        assert_eq!(found("data", "<html>"), None);
    }
}
