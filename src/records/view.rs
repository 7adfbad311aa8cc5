//! JSON text as a template value that is looked into only where a template looks.
//!
//! `not body.has_more` scans one level of the body; nothing becomes a tree. Members, elements,
//! lengths, truth and iteration work as for any other value; a missing member is undefined.
//! `plan::json` is the other way to read JSON: a tree, for what is edited.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};

use crate::json;
use crate::plan::json::{Numbers, number_to_value};

/// Deeper than this, what is inside is given as text: engines walk values by recursion.
const DEEPEST: usize = 100;

/// An object or an array inside a shared text.
struct JsonView {
    text: Arc<str>,
    at: Range<usize>,
    numbers: Numbers,
    depth: usize,
    /// Where the elements of an array are, found at the first look at one.
    elements: OnceLock<Vec<Range<usize>>>,
}

/// A body as a value; `None` where it is not JSON.
pub fn of_body(body: &[u8], numbers: Numbers) -> Option<Value> {
    let text = std::str::from_utf8(body).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_json::from_str::<&serde_json::value::RawValue>(text).ok()?;
    Some(of_json(text, numbers))
}

/// Text that is known to be JSON as a value.
pub fn of_json(text: &str, numbers: Numbers) -> Value {
    let text = text.trim_ascii();
    if !text.starts_with(['{', '[']) {
        return leaf(text, numbers);
    }
    Value::from_object(JsonView {
        text: Arc::from(text),
        at: 0..text.len(),
        numbers,
        depth: 0,
        elements: OnceLock::new(),
    })
}

/// The text of such a value; `None` for any other.
pub fn text(value: &Value) -> Option<&str> {
    let view = value.downcast_object_ref::<JsonView>()?;
    Some(view.json())
}

/// A value that has nothing inside.
fn leaf(spelled: &str, numbers: Numbers) -> Value {
    match spelled.as_bytes().first() {
        None => Value::UNDEFINED,
        Some(b'n') => Value::from(()),
        Some(b't') => Value::from(true),
        Some(b'f') => Value::from(false),
        Some(b'"' | b'{' | b'[') => Value::from(json::plain(spelled).into_owned()),
        Some(_) => number_to_value(spelled, numbers),
    }
}

impl JsonView {
    fn json(&self) -> &str {
        self.text.get(self.at.clone()).unwrap_or_default()
    }

    /// Where a slice of this view's text is.
    fn range(&self, inner: &str) -> Range<usize> {
        let start = inner.as_ptr() as usize - self.text.as_ptr() as usize;
        start..start + inner.len()
    }

    fn value(&self, at: Range<usize>) -> Value {
        let spelled = self.text.get(at.clone()).unwrap_or_default();
        if !spelled.starts_with(['{', '[']) {
            return leaf(spelled, self.numbers);
        }
        if self.depth >= DEEPEST {
            return Value::from(spelled);
        }
        Value::from_object(Self {
            text: Arc::clone(&self.text),
            at,
            numbers: self.numbers,
            depth: self.depth + 1,
            elements: OnceLock::new(),
        })
    }

    fn elements(&self) -> &[Range<usize>] {
        self.elements.get_or_init(|| {
            json::elements(self.json())
                .map(|element| self.range(element))
                .collect()
        })
    }
}

impl Object for JsonView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.json().starts_with('[') {
            ObjectRepr::Seq
        } else {
            ObjectRepr::Map
        }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        if let Some(name) = key.as_str() {
            return self.get_value_by_str(name);
        }
        let index = key.as_usize()?;
        let at = self.elements().get(index)?;
        Some(self.value(at.clone()))
    }

    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<Value> {
        let (_, found) = json::members(self.json())
            .filter(|(key, _)| json::key_is(key, name))
            .last()?;
        Some(self.value(self.range(found)))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        if self.json().starts_with('[') {
            return Enumerator::Seq(self.elements().len());
        }
        let mut seen = HashSet::new();
        let names = json::members(self.json())
            .map(|(key, _)| json::unescape(key))
            .filter(|name| seen.insert(name.clone()))
            .map(|name| Value::from(name.into_owned()))
            .collect();
        Enumerator::Values(names)
    }

    fn is_true(self: &Arc<Self>) -> bool {
        let json = self.json();
        json::elements(json).next().is_some() || json::members(json).next().is_some()
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json())
    }
}

impl fmt::Debug for JsonView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json())
    }
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};

    use super::*;

    const BODY: &str = r#"{"has_more":false,"errors":[{"type":"LIMIT","n":2}],"empty":{},"none":null,
        "id":1234567890123456789012345,"huge":1234567890123456789012345678901234567890123,
        "price":1.10,"half":0.5,"name":"a\u00e9","twice":1,"twice":2,"items":[3,1,2]}"#;

    fn eval(expression: &str, numbers: Numbers) -> String {
        let env = Environment::new();
        let body = of_body(BODY.as_bytes(), numbers).unwrap();
        let value = env
            .compile_expression(expression)
            .unwrap()
            .eval(context! { body })
            .unwrap();
        value.to_string()
    }

    #[test]
    fn conditions_look_into_a_body() {
        let holds = |e| eval(e, Numbers::Numeric);
        assert_eq!(holds("not body.has_more"), "True");
        assert_eq!(holds("body.errors[0].type == 'LIMIT'"), "True");
        assert_eq!(holds("body.errors[-1].n + 1"), "3");
        assert_eq!(holds("body.missing is undefined"), "True");
        assert_eq!(holds("body.none is none"), "True");
        assert_eq!(
            holds("not body.empty and body.errors | length == 1"),
            "True"
        );
        assert_eq!(holds("body.items | sort | join('-')"), "1-2-3");
        assert_eq!(holds("body.items[1:] | list | length"), "2");
        assert_eq!(holds("body | list | first"), "has_more");
        assert_eq!(holds("'price' in body and body.price > 1"), "True");
        assert_eq!(holds("body.twice"), "2");
        assert_eq!(holds("body.name"), "aé");
        assert_eq!(holds("body.id + 1"), "1234567890123456789012346");
    }

    #[test]
    fn templates_keep_the_spelling() {
        let shown = |e| eval(e, Numbers::Spelled);
        assert_eq!(shown("body.price"), "1.10");
        assert_eq!(shown("body.half is number"), "True");
        assert_eq!(shown("body.id"), "1234567890123456789012345");
        assert_eq!(
            shown("body.huge"),
            "1234567890123456789012345678901234567890123"
        );
        assert_eq!(shown("body.errors"), r#"[{"type":"LIMIT","n":2}]"#);
    }

    #[test]
    fn a_body_that_is_not_json_is_none_and_depth_is_harmless() {
        assert!(of_body(b"<html>", Numbers::Numeric).is_none());
        let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
        let value = of_body(deep.as_bytes(), Numbers::Numeric).unwrap();
        assert_eq!(value.len(), Some(1));
        assert!(serde_json::to_string(&value).unwrap().len() > 50_000);
        assert_eq!(of_json(" 5 ", Numbers::Numeric), Value::from(5));
    }
}
