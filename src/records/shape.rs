//! Records that are not written as objects: parallel arrays, rows by position, entries by name.
//!
//! The values are slices of the page, as everywhere; only braces and names are added.

use std::collections::{HashMap, HashSet};

use super::page::{Made, Page};
use super::problem::{self, SelectError};
use crate::count::plural;
use crate::json;
use crate::plan::path::Path;
use crate::plan::{RowNames, Shape};

/// How records begin that are no objects, in a [`Page`].
const WRAPPED: &str = "{\"value\":";

/// The records that are made of what was found at the records' path.
pub(super) fn records(found: &Page, shape: &Shape, path: &Path) -> Result<Page, SelectError> {
    let mut out = Made::new(Page {
        wants: found.wants.clone(),
        nulls: found.nulls,
        absent: found.absent,
        ..Page::default()
    });
    let mut names: Option<Vec<String>> = match shape {
        Shape::Rows(RowNames::Given(names)) => Some(names.iter().map(|n| spelled(n)).collect()),
        _ => None,
    };
    let is_one = found.count() == 1;
    for (index, line) in found.records().enumerate() {
        let value = unwrapped(line);
        let done = match (shape, &names) {
            (Shape::Plain | Shape::Filtered(_), _) => out.add(value),
            (Shape::Zip, _) => zip(value, &mut out),
            (Shape::Rows(_), Some(names)) => row(value, names, &mut out),
            (Shape::Rows(_), None) => header(value).map(|first| names = Some(first)),
            (Shape::Entries { key }, _) => entries(value, key, &mut out),
        };
        done.map_err(|what| SelectError::Shape {
            key: key(shape),
            path: path.clone(),
            number: (!is_one).then_some(index + 1),
            what,
            sample: problem::around(value, 0, problem::SAMPLE),
        })?;
    }
    Ok(out.page())
}

/// What the pipeline file calls a shape.
fn key(shape: &Shape) -> &'static str {
    match shape {
        Shape::Plain | Shape::Filtered(_) => "records",
        Shape::Zip => "records.zip",
        Shape::Rows(_) => "records.rows",
        Shape::Entries { .. } => "records.entries",
    }
}

/// What was found, as it stood in the page. An object that says `value` itself is read alike: what is
/// wrong with it is told anyway.
fn unwrapped(line: &str) -> &str {
    let inner = line.strip_prefix(WRAPPED).and_then(|l| l.strip_suffix('}'));
    match inner {
        // One that has more members is not wrapped.
        Some(inner) if json::members(line).count() == 1 => inner,
        _ => line,
    }
}

fn kind(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a truth value",
        Some(b'n') | None => "null",
        Some(_) => "a number",
    }
}

/// A record for each position of the arrays in an object; what is no array holds for all.
fn zip(value: &str, out: &mut Made) -> Result<(), String> {
    if !value.starts_with('{') {
        return Err(format!("it is {} and no object of arrays", kind(value)));
    }
    let mut members: Vec<(&str, &str)> = Vec::new();
    let mut places = HashMap::new();
    for (name, value) in json::members(value) {
        let place = *places.entry(name).or_insert(members.len());
        // Where a name is there twice, the last one counts.
        match members.get_mut(place) {
            Some(known) => known.1 = value,
            None => members.push((name, value)),
        }
    }
    if members.is_empty() {
        return Ok(());
    }
    let is_array = |value: &str| value.starts_with('[');
    if !members.iter().any(|(_, value)| is_array(value)) {
        return Err("there is no array in it".to_owned());
    }
    let mut columns: Vec<_> = members
        .iter()
        .map(|(name, value)| {
            (
                *name,
                *value,
                is_array(value).then(|| json::elements(value)),
            )
        })
        .collect();
    let mut record = String::new();
    loop {
        record.clear();
        let (mut ended, mut going) = (false, false);
        for (name, whole, elements) in &mut columns {
            let value = match elements {
                None => *whole,
                Some(elements) => {
                    let Some(value) = elements.next() else {
                        ended = true;
                        continue;
                    };
                    going = true;
                    value
                }
            };
            member(&mut record, name, value);
        }
        match (going, ended) {
            (true, false) => {
                record.push('}');
                out.add(&record)?;
            }
            (false, _) => return Ok(()),
            (true, true) => return Err(unequal(&members)),
        }
    }
}

fn unequal(members: &[(&str, &str)]) -> String {
    let lengths = members
        .iter()
        .filter(|(_, value)| value.starts_with('['))
        .map(|(name, value)| (json::unescape(name), json::elements(value).count()));
    let lengths: Vec<_> = lengths.collect();
    let first = lengths.first().map_or(0, |(_, count)| *count);
    // One of each length says it.
    let other = lengths.iter().find(|(_, count)| *count != first);
    let named = lengths.first().into_iter().chain(other);
    let named: Vec<String> = named
        .map(|(name, count)| format!("`{name}` has {}", plural(*count as u64, "element")))
        .collect();
    format!("the arrays are not equally long: {}", named.join(" and "))
}

/// A row by position; what it lacks at its end is absent.
fn row(value: &str, names: &[String], out: &mut Made) -> Result<(), String> {
    if !value.starts_with('[') {
        return Err(format!("it is {} and no row of values", kind(value)));
    }
    let mut record = String::new();
    let mut elements = json::elements(value);
    for name in names {
        let Some(value) = elements.next() else { break };
        member(&mut record, name, value);
    }
    let more = elements.count();
    if more > 0 {
        return Err(format!(
            "it has {} where there are {}",
            plural((names.len() + more) as u64, "value"),
            plural(names.len() as u64, "name")
        ));
    }
    if record.is_empty() {
        record.push('{');
    }
    record.push('}');
    out.add(&record)
}

/// A name as JSON spells it between quotes.
fn spelled(name: &str) -> String {
    let quoted = json::quoted(name);
    quoted
        .get(1..quoted.len() - 1)
        .unwrap_or_default()
        .to_owned()
}

/// The names in the first row.
fn header(value: &str) -> Result<Vec<String>, String> {
    if !value.starts_with('[') {
        return Err(format!("it is {} and no row of names", kind(value)));
    }
    let (mut names, mut seen) = (Vec::new(), HashSet::new());
    for name in json::elements(value) {
        if name.starts_with(['{', '[', 'n']) {
            return Err(format!("{} in the row of names is no name", kind(name)));
        }
        let name = json::plain(name);
        let spelled = spelled(&name);
        if !seen.insert(spelled.clone()) {
            return Err(format!("the row of names has `{name}` twice"));
        }
        names.push(spelled);
    }
    Ok(names)
}

/// A record for each member of an object: what it is, with its name.
fn entries(value: &str, key: &str, out: &mut Made) -> Result<(), String> {
    if !value.starts_with('{') {
        return Err(format!("it is {} and no object of entries", kind(value)));
    }
    let quoted = json::quoted(key);
    for (name, value) in json::members(value) {
        if value.starts_with('[') {
            for one in json::elements(value) {
                entry(&quoted, key, name, one, out)?;
            }
        } else {
            entry(&quoted, key, name, value, out)?;
        }
    }
    Ok(())
}

fn entry(quoted: &str, key: &str, name: &str, value: &str, out: &mut Made) -> Result<(), String> {
    let mut record = format!("{{{quoted}:\"{name}\"");
    if value.starts_with('{') {
        if json::members(value).any(|(known, _)| json::key_is(known, key)) {
            return Err(format!(
                "the entry `{}` has a field `{key}` itself; choose another `key`",
                json::unescape(name)
            ));
        }
        if json::is_empty_object(value) {
            record.push('}');
        } else {
            record.push(',');
            record.push_str(value.get(1..).unwrap_or_default());
        }
    } else {
        record.push_str(",\"value\":");
        record.push_str(value);
        record.push('}');
    }
    out.add(&record)
}

/// Adds a member whose name is spelled as JSON between quotes.
fn member(record: &mut String, name: &str, value: &str) {
    record.push(if record.is_empty() { '{' } else { ',' });
    record.push('"');
    record.push_str(name);
    record.push_str("\":");
    record.push_str(value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::super::select::Selector;
    use super::*;
    use crate::plan::RecordsPlan;

    fn read(path: &str, shape: Shape, body: &str) -> Result<Vec<Value>, SelectError> {
        let plan = RecordsPlan {
            path: Path::parse(path).unwrap(),
            optional: false,
            shape,
            place: None,
        };
        let page = Selector::shaped(&plan, &[]).select(body.as_bytes())?;
        assert_eq!(page.records().count(), page.count());
        let lines = page.records();
        Ok(lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect())
    }

    fn said(path: &str, shape: Shape, body: &str) -> String {
        read(path, shape, body).unwrap_err().to_string()
    }

    fn names(names: &[&str]) -> Shape {
        Shape::Rows(RowNames::Given(
            names.iter().map(|n| (*n).to_owned()).collect(),
        ))
    }

    fn by(key: &str) -> Shape {
        Shape::Entries {
            key: key.to_owned(),
        }
    }

    #[test]
    fn parallel_arrays_become_records() {
        let body =
            r#"{"units":{"t":"s"},"daily":{"time":["a","b"], "max":[1.10,null],"zone":"UTC"}}"#;
        assert_eq!(
            read("daily", Shape::Zip, body).unwrap(),
            [
                json!({"time":"a","max":1.10,"zone":"UTC"}),
                json!({"time":"b","max":null,"zone":"UTC"})
            ]
        );
        assert_eq!(
            read("*.d", Shape::Zip, r#"[{"d":{"a":[1]}},{"d":{"a":[2,3]}}]"#)
                .unwrap()
                .len(),
            3
        );
        assert_eq!(
            read("$", Shape::Zip, r#"{"a\"":[1]}"#).unwrap(),
            [json!({"a\"": 1})]
        );
        assert!(
            read("$", Shape::Zip, r#"{"a":[],"b":[]}"#)
                .unwrap()
                .is_empty()
        );
        assert!(read("d", Shape::Zip, r#"{"d":null}"#).unwrap().is_empty());
        assert!(read("d", Shape::Zip, r#"{"d":{}}"#).unwrap().is_empty());
        assert_eq!(
            said("d", Shape::Zip, r#"{"d":{"t":[1,2],"s":[1,2],"u":[1]}}"#),
            "`records.zip: d`: the arrays are not equally long: `t` has 2 elements and `u` has 1 element; it begins \"{\\\"t\\\":[1,2],\\\"s\\\":[1,2],\\\"u\\\":[1]}\""
        );
        assert!(said("d", Shape::Zip, r#"{"d":{"t":1}}"#).contains("no array in it"));
        assert!(said("d", Shape::Zip, r#"{"d":[[1]]}"#).contains("it is an array and no object"));
        assert!(said("e", Shape::Zip, r#"{"d":1}"#).contains("nothing at the records path `e`"));
    }

    #[test]
    fn rows_by_position_become_records() {
        let shape = || names(&["time", "a\"b"]);
        assert_eq!(
            read("$", shape(), r#"[[1,"x"],[2],null,[]]"#).unwrap(),
            [json!({"time":1,"a\"b":"x"}), json!({"time":2}), json!({})]
        );
        let error = said("$", shape(), "[[1,2],[1,2,3]]");
        assert!(
            error.starts_with("`records.rows: $`, no. 2: it has 3 values where there are 2 names"),
            "{error}"
        );
        assert!(said("$", shape(), r#"[{"a":1}]"#).contains("it is an object and no row"));
        let first = || Shape::Rows(RowNames::First);
        assert_eq!(
            read("$", first(), r#"[["NAME","state"],["Ohio","39"]]"#).unwrap(),
            [json!({"NAME":"Ohio","state":"39"})]
        );
        assert!(said("$", first(), r#"[["a","a"]]"#).contains("`a` twice"));
        assert!(said("$", first(), r#"[["a",[1]]]"#).contains("an array in the row of names"));
    }

    #[test]
    fn entries_become_records() {
        let body =
            r#"{"d":{"2024-01-01":[{"id":"1"},7],"2024-01-02":{"id":"2"},"é\"":{}, "n":null}}"#;
        assert_eq!(
            read("d", by("date"), body).unwrap(),
            [
                json!({"date":"2024-01-01","id":"1"}),
                json!({"date":"2024-01-01","value":7}),
                json!({"date":"2024-01-02","id":"2"}),
                json!({"date":"é\""}),
                json!({"date":"n","value":null}),
            ]
        );
        assert!(
            said("d", by("id"), body).contains("the entry `2024-01-01` has a field `id` itself")
        );
        assert!(said("d", by("k"), r#"{"d":[1]}"#).contains("it is a number and no object"));
        assert!(read("d", by("k"), r#"{"d":[]}"#).unwrap().is_empty());
    }

    #[test]
    fn a_missing_one_may_be_optional() {
        let plan = RecordsPlan {
            path: Path::parse("a.b").unwrap(),
            optional: true,
            shape: Shape::Zip,
            place: None,
        };
        let page = Selector::shaped(&plan, &[]).select(b"{}").unwrap();
        assert!(page.absent && page.count() == 0);
    }

    #[test]
    fn what_would_grow_without_end_is_refused() {
        let long = "x".repeat(1 << 20);
        let body = format!("{{\"s\":\"{long}\",\"a\":[{}1]}}", "1,".repeat(1 << 20));
        assert!(said("$", Shape::Zip, &body).contains("larger than 256 MiB"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn zip_and_rows_are_what_trees_show(
            columns in prop::collection::hash_map("[a-c\"\\\\é]{1,2}", any::<i32>(), 1..5),
            count in 0_usize..5,
            pretty: bool,
        ) {
            let show = |value: &Value| if pretty { serde_json::to_string_pretty(value).unwrap() } else { value.to_string() };
            let list: Vec<(String, i32)> = columns.into_iter().collect();
            let at = |n: usize, seed: i32| json!([seed, n]);
            let zipped: Map<String, Value> = list
                .iter()
                .map(|(name, seed)| (name.clone(), (0..count).map(|n| at(n, *seed)).collect()))
                .collect();
            let rows: Vec<Value> = (0..count)
                .map(|n| list.iter().map(|(_, seed)| at(n, *seed)).collect())
                .collect();
            let expected: Vec<Value> = (0..count)
                .map(|n| Value::Object(list.iter().map(|(name, seed)| (name.clone(), at(n, *seed))).collect()))
                .collect();
            let body = show(&json!({ "x": zipped }));
            prop_assert_eq!(read("x", Shape::Zip, &body).unwrap(), expected.clone());
            let given: Vec<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
            let body = show(&json!({ "x": rows }));
            prop_assert_eq!(read("x", names(&given), &body).unwrap(), expected.clone());
            let mut first = vec![json!(given)];
            first.extend(rows);
            let body = show(&json!(first));
            prop_assert_eq!(read("$", Shape::Rows(RowNames::First), &body).unwrap(), expected);
        }
    }
}
