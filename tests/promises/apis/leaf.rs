//! Which records of a play a request asks for: its page, and what is told of the next.

use std::collections::BTreeMap;

use minijinja::{Value, context};
use serde_json::Value as Json;

use super::deal::Record;
use super::play::{By, Pages, Reply};
use super::words::spelt;

/// A page of records.
pub(crate) struct Page<'a> {
    pub(crate) rows: Vec<&'a Record>,
    /// Values for the answer: `total`, `more`, `next` and the like.
    pub(crate) told: BTreeMap<&'static str, Value>,
}

/// One page out of all records.
pub(crate) fn cut<'a, 'p>(
    rows: &[&'a Record],
    pages: &'p Pages,
    names: &Value,
) -> Result<Page<'a>, (String, Option<&'p Reply>)> {
    let plain = |why: String| (why, None);
    let asked = pages.size.as_ref().map(|size| size.eval(names));
    let mut size = match asked.filter(|asked| !asked.is_undefined() && !asked.is_none()) {
        None => pages.plain,
        Some(asked) => asked
            .to_string()
            .parse::<usize>()
            .ok()
            .filter(|asked| *asked > 0)
            .ok_or_else(|| plain(format!("a page size of {asked}")))?,
    };
    if size > pages.most {
        if !pages.caps {
            return Err(plain(format!(
                "a page size of {size}, at most {}",
                pages.most
            )));
        }
        size = pages.most;
    }
    let at = pages.at.as_ref().map(|at| at.eval(names));
    let at = at.filter(|at| !at.is_undefined() && !at.is_none());
    let number = |default: i64| -> Result<i64, (String, Option<&'p Reply>)> {
        let Some(at) = &at else { return Ok(default) };
        at.to_string()
            .parse::<i64>()
            .ok()
            .filter(|at| *at >= default)
            .ok_or_else(|| plain(format!("a page at {at}, the first is {default}")))
    };
    let start = pages.start.as_ref().and_then(Json::as_i64);
    let from = match pages.by {
        By::Head => 0,
        By::Page => {
            let first = start.unwrap_or(1);
            usize::try_from(number(first)? - first)
                .unwrap_or(usize::MAX)
                .saturating_mul(size)
        }
        By::Offset => {
            let first = start.unwrap_or(0);
            usize::try_from(number(first)? - first).unwrap_or(usize::MAX)
        }
        By::Token => match (&at, &pages.start) {
            (None, None) => 0,
            (None, Some(first)) => return Err(plain(format!("no token; the first is {first}"))),
            (Some(at), first)
                if first
                    .as_ref()
                    .is_some_and(|first| spelt(first) == at.to_string()) =>
            {
                0
            }
            (Some(at), _) => untoken(&at.to_string())
                .ok_or_else(|| plain(format!("{at} is no token of ours")))?,
        },
        By::After => match &at {
            None => 0,
            Some(at) => {
                let field = pages.field.as_ref().expect("`after` has a `field`");
                let found = rows.iter().position(|row| {
                    field
                        .eval(&context! { row => row.value.clone() })
                        .to_string()
                        == at.to_string()
                });
                found.ok_or_else(|| plain(format!("no record {at}")))? + 1
            }
        },
    };
    let total = rows.len();
    if let Some(deep) = pages.deep.filter(|deep| from.saturating_add(size) > *deep) {
        let why = format!(
            "record {} and on; no further than {deep}",
            from.saturating_add(size)
        );
        return Err((why, pages.too_deep.as_ref()));
    }
    let from = from.min(total);
    let until = from.saturating_add(size).min(total);
    let more = until < total;
    let told = BTreeMap::from([
        ("total", Value::from(total)),
        ("size", Value::from(size)),
        ("at", Value::from(from)),
        ("until", Value::from(until)),
        ("more", Value::from(more)),
        ("page", Value::from(from / size + 1)),
        ("pages", Value::from(total.div_ceil(size).max(1))),
        (
            "next",
            if more {
                Value::from(token(until))
            } else {
                Value::UNDEFINED
            },
        ),
        ("token", Value::from(token(until))),
    ]);
    Ok(Page {
        rows: rows[from..until].to_vec(),
        told,
    })
}

/// A token that says nothing and must be escaped in a query to come back whole.
fn token(at: usize) -> String {
    format!("c+/{:08x}==", at ^ 0x5bd1_e995)
}

fn untoken(text: &str) -> Option<usize> {
    let hex = text.strip_prefix("c+/")?.strip_suffix("==")?;
    Some(usize::from_str_radix(hex, 16).ok()? ^ 0x5bd1_e995)
}
