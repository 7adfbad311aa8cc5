//! What lies inside of columns that hold objects and arrays, found by all their values: for formats whose
//! columns have structure of their own.
//!
//! An object is its fields, in order of first appearance, an array its elements, and so on down to plain
//! values, which have the types that columns of them would have ([`super::infer`]). Where values differ in
//! kind (an object beside a text), and below `DEEPEST`, JSON text holds them: no value becomes another one.

use super::infer::{Inference, Native};
use super::shape::Shape;
use crate::json;
use crate::plan::typed::Kind;

/// Deeper values stay JSON text: depth is the server's to choose.
const DEEPEST: usize = 32;

/// What holds the values of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// Plain values, or JSON text.
    Plain(Option<Kind>, Native),
    /// Objects with these fields.
    Struct(Vec<(String, Form)>),
    /// Arrays of such values.
    List(Box<Form>),
}

impl Form {
    /// JSON text.
    pub fn json() -> Self {
        Self::Plain(Some(Kind::Json), Native::Json)
    }

    /// Plain values in it, each a column of its own on disk.
    pub fn leaves(&self) -> usize {
        match self {
            Self::Plain(..) => 1,
            Self::Struct(fields) => fields.iter().map(|(_, form)| form.leaves()).sum(),
            Self::List(element) => element.leaves(),
        }
    }
}

/// Looks into the values of columns, known by their numbers.
#[derive(Debug, Clone, Default)]
pub struct Nests {
    /// Of each column its place among the nodes.
    columns: Vec<Option<usize>>,
    nodes: Vec<Node>,
    /// The types of plain values, by node.
    plain: Inference,
}

/// A place in the values of a column.
#[derive(Debug, Clone)]
struct Node {
    /// What the values here are; nothing where all are null.
    sort: Option<Sort>,
    /// Whether JSON text holds them: they differ, or are too deep.
    mixed: bool,
    /// Names of fields, each with its node.
    fields: Shape<usize>,
    element: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Object,
    List,
    Plain,
}

impl Nests {
    /// Takes a value of a column; `""` and `null` are none.
    pub fn cell(&mut self, number: usize, json: &str) {
        if json.is_empty() {
            return;
        }
        if number >= self.columns.len() {
            self.columns.resize(number + 1, None);
        }
        let known = self.columns.get(number).copied().flatten();
        let node = known.unwrap_or_else(|| self.add());
        if let Some(column) = self.columns.get_mut(number) {
            *column = Some(node);
        }
        self.look(node, json, 0);
    }

    /// Places that values were found at.
    pub fn width(&self) -> usize {
        self.nodes.len()
    }

    /// What holds the values of a column.
    pub fn form(&self, number: usize) -> Form {
        match self.columns.get(number) {
            Some(Some(node)) => self.resolve(*node),
            _ => Form::Plain(None, Native::Text),
        }
    }

    fn add(&mut self) -> usize {
        self.nodes.push(Node {
            sort: None,
            mixed: false,
            fields: Shape::new(),
            element: None,
        });
        self.nodes.len() - 1
    }

    fn look(&mut self, at: usize, json: &str, depth: usize) {
        let Some(node) = self.nodes.get_mut(at) else {
            return;
        };
        let sort = match json.as_bytes().first() {
            None | Some(b'n') => return,
            Some(b'{') => Sort::Object,
            Some(b'[') => Sort::List,
            Some(_) => Sort::Plain,
        };
        node.mixed |= *node.sort.get_or_insert(sort) != sort;
        node.mixed |= depth == DEEPEST && sort != Sort::Plain;
        if node.mixed {
            return;
        }
        match sort {
            Sort::Object => {
                let mut hint = 0;
                for (key, value) in json::members(json) {
                    if let Some(below) = self.field(at, &mut hint, key) {
                        self.look(below, value, depth + 1);
                    }
                }
            }
            Sort::List => {
                let known = node.element;
                let below = known.unwrap_or_else(|| self.add());
                if let Some(node) = self.nodes.get_mut(at) {
                    node.element = Some(below);
                }
                for value in json::elements(json) {
                    self.look(below, value, depth + 1);
                }
            }
            Sort::Plain => self.plain.cell(at, json),
        }
    }

    /// The place of a field, made where it is missing.
    fn field(&mut self, at: usize, hint: &mut usize, key: &str) -> Option<usize> {
        let fields = &self.nodes.get(at)?.fields;
        if let Some(place) = fields.find(0, *hint, key) {
            *hint = place + 1;
            return fields.name(0, place).map(|name| name.about);
        }
        let below = self.add();
        let fields = &mut self.nodes.get_mut(at)?.fields;
        let place = fields.add(0, json::unescape(key))?;
        fields.name_mut(0, place)?.about = below;
        *hint = place + 1;
        Some(below)
    }

    fn resolve(&self, at: usize) -> Form {
        let Some(node) = self.nodes.get(at) else {
            return Form::json();
        };
        let width = node.fields.width(0);
        match node.sort {
            _ if node.mixed => Form::json(),
            // Parquet has no struct without fields.
            Some(Sort::Object) if width == 0 => Form::json(),
            Some(Sort::Object) => {
                let names = (0..width).filter_map(|place| node.fields.name(0, place));
                let fields = names.map(|name| (name.text.clone(), self.resolve(name.about)));
                Form::Struct(fields.collect())
            }
            Some(Sort::List) => {
                let element = node.element.map_or_else(Form::json, |at| self.resolve(at));
                Form::List(Box::new(element))
            }
            Some(Sort::Plain) | None => {
                let schema = self.plain.schema(std::iter::once(("", at)));
                let column = schema.columns.first();
                column.map_or_else(Form::json, |column| Form::Plain(column.kind, column.native))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(values: &[&str]) -> Form {
        let mut nests = Nests::default();
        for value in values {
            nests.cell(0, value);
        }
        nests.form(0)
    }

    fn plain(kind: Kind, native: Native) -> Form {
        Form::Plain(Some(kind), native)
    }

    #[test]
    fn objects_are_structs_and_arrays_lists() {
        let found = form(&[
            r#"{"id":1,"tags":["a"],"at":null}"#,
            "null",
            r#"{"tags":[],"id":2.5,"at":"2024-05-01","in":[{"x":true}]}"#,
        ]);
        let Form::Struct(fields) = found else {
            panic!("{found:?}");
        };
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["id", "tags", "at", "in"]);
        assert_eq!(fields[0].1, plain(Kind::Number, Native::Float64));
        assert_eq!(
            fields[1].1,
            Form::List(Box::new(plain(Kind::Text, Native::Text)))
        );
        assert_eq!(fields[2].1, plain(Kind::Date, Native::Date));
        let inner = Form::Struct(vec![(
            "x".to_owned(),
            plain(Kind::Boolean, Native::Boolean),
        )]);
        assert_eq!(fields[3].1, Form::List(Box::new(inner)));
    }

    #[test]
    fn what_differs_in_kind_stays_json_text_there_and_nowhere_else() {
        assert_eq!(form(&[r#"{"a":1}"#, "[1]"]), Form::json());
        assert_eq!(form(&["1", r#""1""#]), Form::json());
        assert_eq!(form(&["{}"]), Form::json());
        let Form::Struct(fields) = form(&[r#"{"a":1,"b":{"c":1}}"#, r#"{"a":"x","b":null}"#])
        else {
            panic!("no struct");
        };
        assert_eq!(fields[0].1, Form::json());
        assert!(matches!(&fields[1].1, Form::Struct(_)));
        assert_eq!(
            form(&["[]", "[null]"]),
            Form::List(Box::new(Form::Plain(None, Native::Text)))
        );
    }

    #[test]
    fn depth_is_harmless() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
            let mut found = &form(&[&deep]);
            let mut depth = 0;
            loop {
                found = match found {
                    Form::List(inner) => inner,
                    Form::Struct(fields) => &fields[0].1,
                    Form::Plain(..) => break,
                };
                depth += 1;
            }
            assert_eq!((depth, found), (DEEPEST, &Form::json()));
        }
    }
}
