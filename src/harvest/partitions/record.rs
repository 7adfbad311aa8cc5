//! A record of another stream as a value: its text is looked into where a template looks, and it
//! is known by its key, so that a new version of it is the same parent.

use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, ValueKind};

use crate::json;
use crate::plan::json::{Json, Numbers};
use crate::plan::path::{Path, Step};
use crate::plan::window::Window;
use crate::plan::{ColumnFrom, StreamPlan};
use crate::records::view;

/// A record that has a key.
struct Keyed {
    record: DynObject,
    text: Arc<str>,
    /// Its key's values, as JSON.
    key: String,
}

impl Object for Keyed {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        self.record.repr()
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.record.get_value(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.record.enumerate()
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.record.is_true()
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Where the parts of a stream's key are in its records. What comes from its partition is seen in
/// the partition's own variables.
pub(in crate::harvest) fn key(plan: &StreamPlan) -> Vec<Path> {
    let is_made = |name: &String| {
        let column = plan.columns.iter().flatten().find(|c| c.name == *name);
        column.is_some_and(|column| matches!(column.from, ColumnFrom::Jq(_)))
    };
    if plan.key.iter().any(is_made) {
        // What a filter makes is nowhere in the record: it is known by all of its text.
        return Vec::new();
    }
    let variable = |name: &String| plan.partitions.iter().any(|(known, _)| known == name);
    let places = plan.key.iter().filter_map(|name| match &plan.columns {
        Some(columns) => match &columns.iter().find(|column| column.name == *name)?.from {
            ColumnFrom::Path(path) => Some(path.clone()),
            ColumnFrom::Template(_) | ColumnFrom::Jq(_) | ColumnFrom::Nothing => None,
        },
        None if variable(name) => None,
        None => Some(Path::parse(name).unwrap_or_else(|_| Path {
            steps: vec![Step::Key(name.clone())],
        })),
    });
    places.collect()
}

/// What a record is for expressions, which compare.
pub(in crate::harvest) fn numeric(line: &str) -> Value {
    view::of_json(plain(line), Numbers::Numeric)
}

/// A record as a variable's value. What came as a plain value is that value.
pub(in crate::harvest) fn value(line: &str, key: &[Path]) -> Value {
    let text = plain(line);
    let value = view::of_json(text, Numbers::Spelled);
    let found: Vec<&str> = key
        .iter()
        .filter_map(|path| json::get(line, path))
        .collect();
    if found.is_empty() || found.len() < key.len() {
        return value;
    }
    let key = match found[..] {
        [one] => one.to_owned(),
        _ => format!("[{}]", found.join(",")),
    };
    keyed(value, text, key)
}

fn keyed(value: Value, text: &str, key: String) -> Value {
    match value.as_object() {
        Some(record) => Value::from_object(Keyed {
            record: record.clone(),
            text: text.into(),
            key,
        }),
        None => value,
    }
}

/// A record that was made of a plain value, as that value.
fn plain(line: &str) -> &str {
    let mut members = json::members(line);
    match (members.next(), members.next()) {
        (Some(("value", value)), None) if !value.starts_with(['{', '[']) => value,
        _ => line,
    }
}

/// What a parent is known by, if it has a key: JSON.
pub(in crate::harvest) fn known_by(value: &Value) -> Option<&str> {
    let keyed = value.downcast_object_ref::<Keyed>()?;
    Some(&keyed.key)
}

/// A value as JSON text; records as they were sent.
pub(in crate::harvest) fn text(value: &Value) -> String {
    if let Some(keyed) = value.downcast_object_ref::<Keyed>() {
        return keyed.text.to_string();
    }
    if let Some(text) = view::text(value) {
        return text.to_owned();
    }
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
        && let Ok(items) = value.try_iter()
    {
        let items: Vec<String> = items.map(|item| text(&item)).collect();
        return format!("[{}]", items.join(","));
    }
    match Json::from_value(value) {
        Ok(json) => json.to_string(),
        Err(_) => "null".to_owned(),
    }
}

/// Variables as a text that [`of_text`] reads.
pub(in crate::harvest) fn to_text(variables: &[(String, Value)]) -> String {
    let lines = variables.iter().map(|(name, value)| {
        let name = json::quoted(name);
        // A window is more than what is seen in it.
        if let Some(window) = Window::of(value)
            && let Some(zone) = window.zone()
        {
            let (from, to) = (window.from, window.to);
            return format!("[{name},[\"{from}\",\"{to}\",{}]]", json::quoted(zone));
        }
        let key = known_by(value).unwrap_or("null");
        format!("[{name},{},{key}]", text(value))
    });
    format!("[{}]", lines.collect::<Vec<_>>().join(","))
}

/// Variables as they were.
pub(in crate::harvest) fn of_text(all: &str) -> Option<Vec<(String, Value)>> {
    json::elements(all)
        .map(|one| {
            let mut parts = json::elements(one);
            let name = json::plain(parts.next()?).into_owned();
            let text = parts.next()?;
            let value = match parts.next() {
                None => {
                    let window: Vec<_> = json::elements(text).map(json::plain).collect();
                    let [from, to, zone] = &window[..] else {
                        return None;
                    };
                    Value::from_object(Window::restore(from, to, zone)?)
                }
                Some("null") => view::of_json(text, Numbers::Spelled),
                Some(key) => keyed(view::of_json(text, Numbers::Spelled), text, key.to_owned()),
            };
            Some((name, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_back_as_they_were() {
        let key = [Path::parse("id").expect("a path")];
        let line =
            r#"{"id":12345678901234567890123,"price":1.10,"tags":["a","ä\n"],"in":{"x":null}}"#;
        let record = value(line, &key);
        assert_eq!(known_by(&record), Some("12345678901234567890123"));
        assert_eq!(text(&record), line);
        let window = Window::restore(
            "2024-03-30T23:00:00Z",
            "2024-03-31T22:00:00Z",
            "Europe/Berlin",
        );
        let window = window.expect("a window");
        let batch = Value::from(vec![record.clone(), Value::from("00123")]);
        let before = vec![
            ("record".to_owned(), record),
            ("batch".to_owned(), batch),
            ("text".to_owned(), Value::from("a\"b")),
            ("number".to_owned(), Value::from(7)),
            ("none".to_owned(), Value::from(())),
            ("day".to_owned(), Value::from_object(window.clone())),
        ];
        let written = to_text(&before);
        let after = of_text(&written).expect("variables");
        assert_eq!(to_text(&after), written);
        assert_eq!(known_by(&after[0].1), known_by(&before[0].1));
        assert_eq!(text(&after[1].1), format!("[{line},\"00123\"]"));
        assert_eq!(after[2].1.as_str(), Some("a\"b"));
        assert_eq!(Window::of(&after[5].1), Some(&window));
        assert_eq!(after[5].1.to_string(), "2024-03-31");
    }

    #[test]
    fn what_came_as_a_plain_value_is_one() {
        assert_eq!(value(r#"{"value":17}"#, &[]), Value::from(17));
        assert_eq!(value(r#"{"value":"x"}"#, &[]).as_str(), Some("x"));
        assert_eq!(value(r#"{"value":1,"b":2}"#, &[]).kind(), ValueKind::Map);
    }
}
