//! A number that does not print as it is spelled (`1.10`, `1e3`, forty digits), as a value of templates: it prints
//! as it is spelled, and is the number for all that reckons with it.
//!
//! minijinja has no such number, so it is an object. No operator of minijinja takes one, so none goes wrong without a word:
//! operands go through [`reckoned`] ([`super::guard`]), and so does what is given to filters and tests
//! ([`super::reckon`]).

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{DynObject, Kwargs, Object, ObjectRepr, ValueKind};

/// Deeper lists and objects are left as they are: they are read by recursion.
const DEEPEST: usize = 200;

struct Spelled(String);

impl fmt::Debug for Spelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Object for Spelled {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        read(&self.0).is_none_or(|number| number.is_true())
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = other.downcast_ref::<Self>()?;
        Some(read(&self.0)?.cmp(&read(&other.0)?))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number that prints as it is spelled here.
pub(super) fn spelled(number: &str) -> Value {
    Value::from_object(Spelled(number.to_owned()))
}

/// How such a number is spelled; nothing for all other values.
pub(super) fn spelling(value: &Value) -> Option<&str> {
    value
        .downcast_object_ref::<Spelled>()
        .map(|spelled| spelled.0.as_str())
}

/// The number that a text spells: whole up to 38 digits, else a float.
pub(super) fn read(text: &str) -> Option<Value> {
    let small = text.parse::<i64>().ok().map(Value::from);
    let whole = || text.parse::<i128>().ok().map(Value::from);
    let float = || text.parse::<f64>().ok().map(Value::from);
    small.or_else(whole).or_else(float)
}

/// The number behind a spelling; all else as it is.
pub(super) fn reckoned(value: &Value) -> Value {
    spelling(value)
        .and_then(read)
        .unwrap_or_else(|| value.clone())
}

/// The same, also inside of lists and objects.
pub(super) fn reckoned_within(value: &Value) -> Value {
    within(value, 0).unwrap_or_else(|| value.clone())
}

/// Whether such a number is in a value.
pub(super) fn is_within(value: &Value) -> bool {
    within(value, 0).is_some()
}

/// What a value becomes, where it changes.
fn within(value: &Value, depth: usize) -> Option<Value> {
    if depth > DEEPEST {
        return None;
    }
    match value.kind() {
        ValueKind::Plain => spelling(value).and_then(read),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter().ok()?.collect();
            let changed: Vec<_> = items.iter().map(|item| within(item, depth + 1)).collect();
            if changed.iter().all(Option::is_none) {
                return None;
            }
            let changed = items
                .into_iter()
                .zip(changed)
                .map(|(item, changed)| changed.unwrap_or(item));
            Some(Value::from(changed.collect::<Vec<_>>()))
        }
        ValueKind::Map => {
            let mut is_changed = false;
            let mut pairs = Vec::new();
            for name in value.try_iter().ok()? {
                let member = value.get_item(&name).ok()?;
                let changed = within(&member, depth + 1);
                is_changed |= changed.is_some();
                pairs.push((name, changed.unwrap_or(member)));
            }
            if !is_changed {
                return None;
            }
            Some(if value.is_kwargs() {
                let pairs = pairs.into_iter().map(|(name, it)| (name.to_string(), it));
                pairs.collect::<Kwargs>().into()
            } else {
                Value::from_pairs(pairs)
            })
        }
        _ => None,
    }
}
