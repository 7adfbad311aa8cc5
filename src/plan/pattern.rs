//! Regular expressions of templates and conditions: `text | regex('in ([0-9]+) seconds')`. The one
//! file that imports `regex`, whose searches take linear time whatever the text: what is searched
//! comes from servers.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use minijinja::{Error, ErrorKind, Value};
use regex::{Regex, RegexBuilder};

/// Memory that one compiled pattern may take.
const LARGEST: usize = 1 << 20;
/// Patterns that are kept compiled; a file has a few.
const MOST_KEPT: usize = 64;

static KEPT: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);

/// Compiles a pattern.
///
/// # Errors
/// What is wrong with it.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(LARGEST)
        .build()
        .map_err(|problem| {
            let all = problem.to_string();
            let last = all.lines().last().unwrap_or_default();
            let last = last.strip_prefix("error: ").unwrap_or(last);
            format!("the pattern `{pattern}`: {last}")
        })
}

/// What the first group of a pattern matches in a text, or all of the match where there is no group;
/// nothing where there is no match, and of nothing.
pub(super) fn find(value: &Value, pattern: &str) -> Result<Value, Error> {
    if value.is_undefined() || value.is_none() {
        return Ok(Value::UNDEFINED);
    }
    let regex =
        kept(pattern).map_err(|message| Error::new(ErrorKind::InvalidOperation, message))?;
    let text = value.to_string();
    let found = regex.captures(&text).and_then(|groups| {
        let part = if groups.len() > 1 {
            groups.get(1)
        } else {
            groups.get(0)
        };
        part.map(|part| Value::from(part.as_str()))
    });
    Ok(found.unwrap_or(Value::UNDEFINED))
}

fn kept(pattern: &str) -> Result<Regex, String> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = kept.get(pattern) {
        return Ok(regex.clone());
    }
    let regex = compile(pattern)?;
    if kept.len() >= MOST_KEPT {
        kept.clear();
    }
    kept.insert(pattern.to_owned(), regex.clone());
    Ok(regex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_group_counts() {
        let find = |text: &str, pattern| find(&Value::from(text), pattern).expect("a pattern");
        let prose = "too many requests, try again in 4711 seconds";
        assert_eq!(find(prose, "in ([0-9]+) seconds").as_str(), Some("4711"));
        assert_eq!(find(prose, "[0-9]+").as_str(), Some("4711"));
        assert!(find(prose, "in (x)? minutes").is_undefined());
        assert!(find(prose, "(x)?many").is_undefined());
        let of_nothing = super::find(&Value::UNDEFINED, "x").expect("nothing");
        assert!(of_nothing.is_undefined());
        assert_eq!(find("17", "^[0-9]+$").as_str(), Some("17"));
    }

    #[test]
    fn a_pattern_that_is_none_or_too_large_is_refused() {
        let message = compile("in ([0-9]+ seconds").expect_err("refused");
        assert!(message.contains("unclosed group"), "{message}");
        assert!(compile("(a{1000}){1000}").is_err());
    }
}
