//! Records without declared columns: every field is a column, nested objects dotted, arrays and
//! what is nested too deep as JSON text.
//!
//! A column is the path of its members, found in order of first appearance. A path that only ever
//! was null or `{}` is no column of its own once it has columns below it.

use std::borrow::Cow;
use std::collections::HashSet;

use super::shape::Shape;
use crate::json;

/// Deeper objects stay JSON text: flattening goes by recursion, depth is the server's to choose.
const DEEPEST: usize = 32;

/// Finds the columns of records and takes records apart into them.
#[derive(Debug, Clone)]
pub struct Flattener {
    shape: Shape<Option<usize>>,
    columns: Vec<Found>,
    /// How deep objects are taken apart.
    deepest: usize,
}

/// A column as found.
#[derive(Debug, Clone)]
struct Found {
    path: Vec<String>,
    /// Whether all its values were null or `{}`.
    hollow: bool,
}

/// The columns to write: which of those found, under which headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The headers, all different.
    pub names: Vec<String>,
    /// For each header the column's number in order of appearance.
    pub order: Vec<usize>,
    /// The headers of what stands before these.
    pub others: Vec<String>,
}

impl Default for Flattener {
    fn default() -> Self {
        Self::new()
    }
}

impl Flattener {
    /// Knows no columns yet.
    pub fn new() -> Self {
        Self {
            shape: Shape::new(),
            columns: Vec::new(),
            deepest: DEEPEST,
        }
    }

    /// Takes nothing apart but the record itself.
    pub fn shallow() -> Self {
        Self {
            deepest: 0,
            ..Self::new()
        }
    }

    /// How many columns were found.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Takes a record apart into cells by column number, as spelled; `""` is null or missing.
    pub fn cells<'a>(&mut self, record: &'a str, cells: &mut Vec<Cow<'a, str>>) {
        cells.clear();
        cells.resize(self.columns.len(), Cow::Borrowed(""));
        self.object(0, record, 0, cells);
    }

    fn object<'a>(
        &mut self,
        level: usize,
        object: &'a str,
        depth: usize,
        cells: &mut Vec<Cow<'a, str>>,
    ) {
        let mut hint = 0;
        for (key, value) in json::members(object) {
            let Some(place) = self
                .shape
                .find(level, hint, key)
                .or_else(|| self.shape.add(level, json::unescape(key)))
            else {
                return;
            };
            hint = place + 1;
            let first = value.as_bytes().first();
            let hollow = match first {
                Some(b'{') => json::is_empty_object(value),
                Some(b'n') => true,
                _ => false,
            };
            if first == Some(&b'{')
                && !hollow
                && depth < self.deepest
                && let Some(below) = self.shape.below(level, place)
            {
                self.object(below, value, depth + 1, cells);
                continue;
            }
            let Some(column) = self.column(level, place) else {
                return;
            };
            if let Some(found) = self.columns.get_mut(column) {
                found.hollow &= hollow;
            }
            if column >= cells.len() {
                cells.resize(column + 1, Cow::Borrowed(""));
            }
            if let Some(cell) = cells.get_mut(column) {
                *cell = Cow::Borrowed(if first == Some(&b'n') { "" } else { value });
            }
        }
    }

    /// The column of a name, made where missing.
    #[inline]
    fn column(&mut self, level: usize, place: usize) -> Option<usize> {
        let new = self.columns.len();
        let name = self.shape.name_mut(level, place)?;
        if let Some(known) = name.about {
            return Some(known);
        }
        name.about = Some(new);
        let path = self.path(level, place);
        self.columns.push(Found { path, hollow: true });
        Some(new)
    }

    /// The names from the record down to a place; slow, but asked once a column.
    fn path(&self, level: usize, place: usize) -> Vec<String> {
        let mut path = Vec::new();
        let mut at = Some((level, place));
        while let Some((level, place)) = at {
            path.extend(self.shape.name(level, place).map(|n| n.text.clone()));
            at = self.shape.parent(level);
        }
        path.reverse();
        path
    }

    /// The columns as they would be written now, after those of `others`; of these the ones that
    /// have the name of a record's own field are left out.
    pub fn layout(&self, others: &[String]) -> Layout {
        let parents: HashSet<&[String]> = self
            .columns
            .iter()
            .flat_map(|c| (1..c.path.len()).filter_map(|n| c.path.get(..n)))
            .collect();
        let is_parent = |column: &Found| column.hollow && parents.contains(column.path.as_slice());
        let own: HashSet<&String> = (self.columns.iter().filter(|c| !is_parent(c)))
            .filter_map(|column| match column.path.as_slice() {
                [name] => Some(name),
                _ => None,
            })
            .collect();
        let others: Vec<String> = (others.iter().filter(|name| !own.contains(name)))
            .cloned()
            .collect();
        let mut used: HashSet<String> = others.iter().cloned().collect();
        let mut layout = Layout {
            others,
            ..Layout::default()
        };
        for (number, column) in self.columns.iter().enumerate() {
            if is_parent(column) {
                continue;
            }
            let name = header(&column.path, &used);
            used.insert(name.clone());
            layout.names.push(name);
            layout.order.push(number);
        }
        layout
    }
}

/// The dotted name of a path; where another column has it, odd names quoted, then all, then numbered.
fn header(path: &[String], used: &HashSet<String>) -> String {
    let quote = |name: &String, always: bool| {
        if always || name.is_empty() || name.contains(['.', '"']) {
            format!("\"{}\"", name.replace('"', "\\\""))
        } else {
            name.clone()
        }
    };
    let join = |always| path.iter().map(|n| quote(n, always)).collect::<Vec<_>>();
    let plain = path.join(".");
    let dotted = [plain.clone(), join(false).join("."), join(true).join(".")];
    dotted
        .into_iter()
        .chain((2..=used.len() + 2).map(|n| format!("{plain}_{n}")))
        .find(|name| !used.contains(name))
        .unwrap_or(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn table(records: &[&str]) -> (Vec<String>, Vec<Vec<String>>) {
        let mut flattener = Flattener::new();
        let mut rows = Vec::new();
        for record in records {
            let mut cells = Vec::new();
            flattener.cells(record, &mut cells);
            rows.push(cells.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
        let layout = flattener.layout(&[]);
        for row in &mut rows {
            *row = layout
                .order
                .iter()
                .map(|n| row.get(*n).cloned().unwrap_or_default())
                .collect();
        }
        (layout.names, rows)
    }

    #[test]
    fn objects_are_dotted_and_arrays_stay_text() {
        let (names, rows) = table(&[
            r#"{"id":1,"user":{"login":"a","plan":{"x":1.10}},"tags":["a", {"b":1}]}"#,
            r#"{"tags":[],"new":true,"id":2}"#,
        ]);
        assert_eq!(names, ["id", "user.login", "user.plan.x", "tags", "new"]);
        assert_eq!(rows[0], ["1", "\"a\"", "1.10", r#"["a", {"b":1}]"#, ""]);
        assert_eq!(rows[1], ["2", "", "", "[]", "true"]);
    }

    #[test]
    fn a_null_or_empty_parent_is_no_column_beside_its_children() {
        let (names, rows) = table(&[
            r#"{"user":null,"meta":{},"only":null}"#,
            r#"{"user":{"login":"x"},"meta":{},"only":{}}"#,
        ]);
        assert_eq!(names, ["meta", "only", "user.login"]);
        assert_eq!(rows[1], ["{}", "{}", "\"x\""]);
        let (names, _) = table(&[r#"{"user":"text"}"#, r#"{"user":{"login":"x"}}"#]);
        assert_eq!(names, ["user", "user.login"]);
    }

    #[test]
    fn different_paths_get_different_headers() {
        let (names, rows) = table(&[r#"{"a":{"b":1},"a.b":2,"\"a.b\"":3}"#]);
        assert_eq!(names, ["a.b", "\"a.b\"", "\"\\\"a.b\\\"\""]);
        assert_eq!(rows[0], ["1", "2", "3"]);
        let mut flattener = Flattener::new();
        flattener.cells(r#"{"repo":1,"x":2}"#, &mut Vec::new());
        let layout = flattener.layout(&["repo".to_owned(), "n".to_owned()]);
        assert_eq!((layout.others[0].as_str(), layout.others.len()), ("n", 1));
        assert_eq!(layout.names, ["repo", "x"]);
    }

    #[test]
    fn depth_is_harmless_and_of_equal_names_the_last_counts() {
        let deep = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
        let (names, _) = table(&[&deep]);
        assert_eq!(names.len(), 1);
        let (_, rows) = table(&[r#"{"a":1,"a":2}"#]);
        assert_eq!(rows[0], ["2"]);
    }

    fn leaves(prefix: &str, value: &Value, out: &mut Vec<(String, String)>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            let name = format!("{prefix}{name}");
            match value {
                Value::Object(inner) if !inner.is_empty() => {
                    leaves(&format!("{name}."), value, out);
                }
                Value::Null => out.push((name, String::new())),
                other => out.push((name, other.to_string())),
            }
        }
    }

    fn record() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<i8>().prop_map(Value::from)];
        let object = leaf.prop_recursive(3, 20, 4, |inner| {
            prop::collection::vec(("[a-e]", inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
        });
        prop::collection::vec(("[a-e]", object), 0..5)
            .prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn every_leaf_is_in_its_column(records in prop::collection::vec(record(), 1..6)) {
            let texts: Vec<String> = records.iter().map(Value::to_string).collect();
            let (names, rows) = table(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            for (record, row) in records.iter().zip(&rows) {
                let mut wanted = Vec::new();
                leaves("", record, &mut wanted);
                for (name, value) in &wanted {
                    match names.iter().position(|n| n == name) {
                        Some(at) => prop_assert_eq!(&row[at], value),
                        None => prop_assert!(["", "{}"].contains(&value.as_str()), "lost {}", name),
                    }
                }
                let filled = row.iter().filter(|cell| !cell.is_empty()).count();
                prop_assert!(filled <= wanted.len());
            }
        }
    }
}
