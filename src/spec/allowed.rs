//! What one place of a JSON Schema allows, with `$ref`, `anyOf` and `oneOf` unfolded.

use serde_json::{Map, Value};

/// What a schema allows, `$ref`, `anyOf` and `oneOf` unfolded.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each type that JSON Schema knows"
)]
pub(super) struct Allowed<'a> {
    pub(super) anything: bool,
    pub(super) text: bool,
    pub(super) number: bool,
    pub(super) whole: bool,
    pub(super) boolean: bool,
    pub(super) null: bool,
    pub(super) words: Vec<&'a str>,
    pub(super) items: Vec<&'a Value>,
    pub(super) tables: Vec<&'a Map<String, Value>>,
    pub(super) not_yet: Vec<&'a str>,
}

impl<'a> Allowed<'a> {
    /// What `schema`, a part of `root`, allows.
    pub(super) fn of(schema: &'a Value, root: &'a Value) -> Self {
        let mut all = Self::default();
        all.unfold(schema, root);
        all
    }

    fn unfold(&mut self, schema: &'a Value, root: &'a Value) {
        let Value::Object(object) = schema else {
            self.anything |= schema == &Value::Bool(true);
            return;
        };
        self.not_yet.extend(strings(object.get("x-not-yet")));
        let mut described = false;
        if let Some(Value::String(reference)) = object.get("$ref") {
            described = true;
            if let Some(target) = root.pointer(reference.trim_start_matches('#')) {
                self.unfold(target, root);
            }
        }
        for key in ["anyOf", "oneOf"] {
            for one in object
                .get(key)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                described = true;
                self.unfold(one, root);
            }
        }
        if let Some(Value::String(word)) = object.get("const") {
            self.words.push(word);
            return;
        }
        if object.contains_key("enum") {
            self.words.extend(strings(object.get("enum")));
            return;
        }
        let types: Vec<&str> = match object.get("type") {
            Some(Value::String(one)) => vec![one],
            several => strings(several).collect(),
        };
        for kind in &types {
            match *kind {
                "string" => self.text = true,
                "number" => self.number = true,
                "integer" => self.whole = true,
                "boolean" => self.boolean = true,
                "null" => self.null = true,
                "array" => self.items.extend(object.get("items")),
                "object" => self.tables.push(object),
                _ => {}
            }
        }
        // A schema that says nothing allows everything.
        self.anything |= types.is_empty() && !described;
    }
}

/// The texts of a list.
pub(super) fn strings(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let list = value.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

/// The schema of a key: its own, or that of all keys of a free mapping.
pub(super) fn property<'a>(table: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let own = table.get("properties").and_then(|all| all.get(name));
    own.or_else(|| {
        let free = table.get("additionalProperties");
        free.filter(|schema| *schema != &Value::Bool(false))
    })
}

/// What to do where a key is missing that the types do not insist on.
pub(super) fn note<'a>(table: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    property(table, name)?.get("x-missing")?.as_str()
}

fn keys(table: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let properties = table.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
}

/// All keys and words that may stand here.
pub(super) fn known_keys<'a>(tables: &[&'a Map<String, Value>], words: &[&'a str]) -> Vec<&'a str> {
    // Words stand alone, so they help only where a choice between forms is made.
    let words = if tables.len() > 1 { words } else { &[] };
    let all = words
        .iter()
        .copied()
        .chain(tables.iter().copied().flat_map(keys));
    all.filter(|name| *name != "none").collect()
}

/// Keys of which exactly one may stand here.
pub(super) fn variants<'a>(tables: &[&'a Map<String, Value>]) -> Vec<&'a str> {
    if tables.len() > 1 {
        tables.iter().copied().flat_map(keys).collect()
    } else {
        Vec::new()
    }
}
