//! What is compared and reckoned with in templates and conditions goes by values, and never by kinds: a missing
//! field is not less than 3, and text that stands where a number is meant is told.
//!
//! minijinja orders values of different kinds by their kind: `body.left <= 0` would hold where `left` is missing and
//! end a stream early, `record.price > 2` would never hold where an API sends `"2.50"`, both without a word; and `"2.50" * 2` is
//! `2.502.50`. So both are compiled as calls of functions of ours ([`super::guard`]). Nothing is equal to nothing, be it null or missing, and has
//! no order; two numbers and two texts have one; all else is an error. Only `==` between different kinds is no error,
//! since APIs mix them, but for a text that spells the same number otherwise.

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::number::{self, reckoned, reckoned_within};

pub(super) const COMPARE: &str = "__compare";
pub(super) const NUMBER: &str = "__number";
pub(super) const FACTOR: &str = "__factor";
/// Most characters of a text in a message.
const MOST_SHOWN: usize = 40;

/// Adds what guarded text calls, and the tests that compare (`is gt 3`, `select("gt", 3)`).
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_function(COMPARE, |state: &mut State, parts: Rest<Value>| {
        let mut parts = parts.0.into_iter();
        let Some(mut one) = parts.next() else {
            return Ok(true);
        };
        while let (Some(sign), Some(other)) = (parts.next(), parts.next()) {
            let sign = sign.as_str().unwrap_or_default();
            for side in [&one, &other] {
                if side.is_undefined() {
                    // Says what is missing, where templates are strict.
                    state.apply_filter("float", std::slice::from_ref(side))?;
                }
            }
            if !compare(&one, sign, &other)? {
                return Ok(false);
            }
            one = other;
        }
        Ok(true)
    });
    environment.add_function(NUMBER, |value: &Value| operand(value));
    environment.add_function(FACTOR, |value: &Value| match operand(value)? {
        text if text.kind() == ValueKind::String => Err(wrong(format!(
            "{} cannot be multiplied; write `| float` or `| int` behind it",
            shown(&text)
        ))),
        value => Ok(value),
    });
    environment.add_test("in", |one: &Value, other: &Value| compare(one, "in", other));
    for (sign, names) in [
        ("==", ["eq", "equalto", "=="]),
        ("!=", ["ne", "!=", "!="]),
        ("<", ["lt", "lessthan", "<"]),
        ("<=", ["le", "<=", "<="]),
        (">", ["gt", "greaterthan", ">"]),
        (">=", ["ge", ">=", ">="]),
    ] {
        for name in names {
            environment.add_test(name, move |one: &Value, other: &Value| {
                compare(one, sign, other)
            });
        }
    }
}

/// What stands beside a sign of arithmetic.
fn operand(value: &Value) -> Result<Value, Error> {
    match reckoned(value) {
        // Its place names what has no value.
        nothing if is_nothing(&nothing) => Err(ErrorKind::UndefinedError.into()),
        value => Ok(value),
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_undefined() || value.is_none()
}

fn compare(one: &Value, sign: &str, other: &Value) -> Result<bool, Error> {
    match sign {
        "==" | "!=" => return Ok(equal(one, other)? == (sign == "==")),
        "in" | "not in" => return Ok(contains(other, one)? == (sign == "in")),
        _ => {}
    }
    let (one, other) = (&reckoned(one), &reckoned(other));
    if is_nothing(one) || is_nothing(other) {
        return Ok(false);
    }
    if one.kind() != other.kind() || !matches!(one.kind(), ValueKind::Number | ValueKind::String) {
        let is_text = |value: &Value| value.kind() == ValueKind::String;
        let advice = if is_text(one) || is_text(other) {
            "; write `| float` or `| int` behind the text"
        } else {
            ""
        };
        return Err(wrong(format!(
            "{} and {} have no order{advice}",
            shown(one),
            shown(other)
        )));
    }
    Ok(match sign {
        "<" => one < other,
        "<=" => one <= other,
        ">" => one > other,
        _ => one >= other,
    })
}

/// A number is equal to a text that spells it the same, since APIs write one field now so and now so. A
/// text that means the same number and spells it otherwise is a mistake: nobody means `"2.50" == 2.5` to be
/// false.
fn equal(one: &Value, other: &Value) -> Result<bool, Error> {
    let (first, second) = (&reckoned_within(one), &reckoned_within(other));
    for (text, written, meant) in [(first, other, second), (second, one, first)] {
        let Some(text) = text.as_str().filter(|_| meant.is_number()) else {
            continue;
        };
        if text == written.to_string() {
            return Ok(true);
        }
        if number::read(text.trim()).as_ref() == Some(meant) {
            return Err(wrong(format!(
                "the text {text:?} and {} are the same number, spelled in two ways; write `| float` or `| int` behind the text",
                shown(meant)
            )));
        }
    }
    // A missing field and null mean the same: one API ends with `"next": null`, another leaves it out.
    Ok(first == second || (is_nothing(first) && is_nothing(second)))
}

/// Whether something is an element of a list, a name in an object, or in a text. Elements are the same as for `==`.
fn contains(container: &Value, value: &Value) -> Result<bool, Error> {
    if let Some(text) = container.as_str() {
        // A missing field prints as nothing, which every text has in it.
        return Ok(!is_nothing(value) && text.contains(&*value.to_string()));
    }
    match container.kind() {
        // As nothing holds of a missing field, nothing is in it.
        ValueKind::Undefined | ValueKind::None => Ok(false),
        ValueKind::Map => {
            let name = reckoned(value);
            // Names are texts: only a number may be equal to one without being it.
            Ok(!container.get_item(&name)?.is_undefined()
                || (name.is_number() && is_among(container, value)?))
        }
        ValueKind::Seq | ValueKind::Iterable => is_among(container, value),
        _ => Err(wrong(format!(
            "`in` looks into a list, an object or a text, and not into {}",
            shown(&reckoned(container))
        ))),
    }
}

/// Whether an element is equal; that one is spelled otherwise is a mistake only if none is.
fn is_among(container: &Value, value: &Value) -> Result<bool, Error> {
    let mut alike = None;
    for item in container.try_iter()? {
        match equal(value, &item) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => alike = alike.or(Some(error)),
        }
    }
    alike.map_or(Ok(false), Err)
}

pub(super) fn wrong(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// A value in a message.
pub(super) fn shown(value: &Value) -> String {
    match value.kind() {
        ValueKind::String => {
            let text = value.to_string();
            let mut short: String = text.chars().take(MOST_SHOWN).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            format!("the text {short:?}")
        }
        ValueKind::Number => format!("the number {value}"),
        ValueKind::Bool if value.is_true() => "true".to_owned(),
        ValueKind::Bool => "false".to_owned(),
        ValueKind::Undefined | ValueKind::None => "nothing".to_owned(),
        ValueKind::Map => "an object".to_owned(),
        _ => "a list".to_owned(),
    }
}
