//! Conditions compare only what has an order: a missing field is not less than 3.
//!
//! minijinja orders values of different kinds by their kind, so `body.left <= 0` would hold where
//! `left` is missing, and end a stream early without a word. Where both sides of `<`, `<=`, `>`
//! or `>=` are plain (a path, a number, a quoted text), the comparison is compiled with a guard:
//! it holds only between two numbers or two texts. Other forms are left as they are.

use std::ops::Range;

use minijinja::value::ValueKind;
use minijinja::{Environment, Value};

use super::names::Scan;

const TEST: &str = "orderable_with";

/// Adds the test that guards are made of.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_test(TEST, |one: &Value, other: &Value| {
        one.kind() == other.kind() && matches!(one.kind(), ValueKind::Number | ValueKind::String)
    });
}

/// The expression with its comparisons guarded; `None` where there is nothing to guard.
pub(super) fn guarded(written: &str) -> Option<String> {
    let mut text = String::new();
    let mut done = 0;
    for at in Scan::expression(written).signs() {
        if !matches!(written.as_bytes()[at], b'<' | b'>') {
            continue;
        }
        let end = at
            + if written[at + 1..].starts_with('=') {
                2
            } else {
                1
            };
        let (Some(left), Some(right)) = (left_of(written, at), right_of(written, end)) else {
            continue;
        };
        let comparison = &written[left.start..right.end];
        let (one, other) = (&written[left.clone()], &written[right.clone()]);
        let before = &written[done..left.start];
        text.extend([
            before, "(", comparison, " and ", one, " is ", TEST, "(", other, "))",
        ]);
        done = right.end;
    }
    (done > 0).then(|| text + &written[done..])
}

/// The plain operand that ends before a sign, if it is the whole of that side.
fn left_of(written: &str, sign: usize) -> Option<Range<usize>> {
    let end = written[..sign].trim_end().len();
    let side = &written[..end];
    let start = match side.chars().next_back()? {
        quote @ ('"' | '\'') => {
            let start = side[..end - 1].rfind(quote)?;
            // Where a backslash stands, only a parser knows which quote opens the text.
            if side[start..].contains('\\') {
                return None;
            }
            start
        }
        _ => side.trim_end_matches(is_plain).len(),
    };
    let before = written[..start].trim_end();
    let word = &before[before.trim_end_matches(is_plain).len()..];
    let is_whole = before.is_empty() || before.ends_with('(') || is_connective(word);
    (start < end && is_whole && !is_connective(&written[start..end])).then_some(start..end)
}

/// The plain operand that begins after a sign, if it is the whole of that side.
fn right_of(written: &str, sign: usize) -> Option<Range<usize>> {
    let start = written.len() - written[sign..].trim_start().len();
    let side = &written[start..];
    let length = match side.chars().next()? {
        quote @ ('"' | '\'') => {
            let length = side[1..].find(quote)? + 2;
            if side[..length].contains('\\') {
                return None;
            }
            length
        }
        '-' => 1 + plain_length(&side[1..]),
        _ => plain_length(side),
    };
    let after = side[length..].trim_start();
    let word = &after[..plain_length(after)];
    let is_whole = after.is_empty() || after.starts_with(')') || is_connective(word);
    (length > 0 && is_whole && !is_connective(&side[..length])).then_some(start..start + length)
}

fn plain_length(text: &str) -> usize {
    text.find(|c| !is_plain(c)).unwrap_or(text.len())
}

/// What paths and numbers are written with.
fn is_plain(c: char) -> bool {
    c == '_' || c == '.' || c.is_alphanumeric()
}

/// Words that bind weaker than a comparison.
fn is_connective(word: &str) -> bool {
    matches!(word, "and" | "or" | "not" | "if" | "else")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_comparisons_are_guarded_and_others_left() {
        for (written, expected) in [
            ("a.b < 3", Some("(a.b < 3 and a.b is orderable_with(3))")),
            (
                "not(a>=-1)or b",
                Some("not((a>=-1 and a is orderable_with(-1)))or b"),
            ),
            (
                "x and 'm' <= body.0.t and not c > d",
                Some(
                    "x and ('m' <= body.0.t and 'm' is orderable_with(body.0.t)) \
                     and not (c > d and c is orderable_with(d))",
                ),
            ),
            ("1 < a < 3", None),
            ("a | length > 3", None),
            ("a + 1 > b", None),
            ("a > b + 1", None),
            ("f(a) > 3", None),
            ("'a < 3' == b", None),
            ("a == 3", None),
        ] {
            assert_eq!(guarded(written).as_deref(), expected, "{written}");
        }
    }
}
