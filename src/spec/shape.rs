//! The shape pass: every unknown, doubled, missing or mistyped key of a file at once.
//!
//! serde stops at the first mistake, so this walks the spanned tree along the JSON Schema made
//! from the same types. Only a file without shape mistakes is decoded.

use std::ops::Range;

use serde_json::{Map, Value};

use super::at::At;
use super::diagnostic::Diagnostic;
use super::near;
use super::tree::{Node, Tree};

/// All shape mistakes of `tree`, in the order of the file.
pub(super) fn check(tree: &Tree, schema: &Value, file: &str) -> Vec<Diagnostic> {
    let mut walk = Walk {
        root: schema,
        file,
        found: Vec::new(),
    };
    let top = Place {
        name: "a pipeline",
        span: first_word(tree, file),
    };
    walk.value(tree, schema, &top);
    walk.found.sort_by_key(|one| (one.span.start, one.span.end));
    walk.found
}

/// Where mistakes without a place of their own are shown: at the key that leads there.
struct Place<'a> {
    name: &'a str,
    span: Range<usize>,
}

struct Walk<'a> {
    root: &'a Value,
    file: &'a str,
    found: Vec<Diagnostic>,
}

/// What a schema allows, `$ref`, `anyOf` and `oneOf` unfolded.
#[derive(Default)]
struct Allowed<'a> {
    anything: bool,
    text: bool,
    number: bool,
    whole: bool,
    boolean: bool,
    null: bool,
    words: Vec<&'a str>,
    items: Vec<&'a Value>,
    tables: Vec<&'a Map<String, Value>>,
    not_yet: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    fn allowed(&self, schema: &'a Value, into: &mut Allowed<'a>) {
        let Value::Object(object) = schema else {
            into.anything |= schema == &Value::Bool(true);
            return;
        };
        into.not_yet.extend(strings(object.get("x-not-yet")));
        let mut described = false;
        if let Some(Value::String(reference)) = object.get("$ref") {
            described = true;
            if let Some(target) = self.root.pointer(reference.trim_start_matches('#')) {
                self.allowed(target, into);
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
                self.allowed(one, into);
            }
        }
        if let Some(Value::String(word)) = object.get("const") {
            into.words.push(word);
            return;
        }
        if object.contains_key("enum") {
            into.words.extend(strings(object.get("enum")));
            return;
        }
        let types: Vec<&str> = match object.get("type") {
            Some(Value::String(one)) => vec![one],
            several => strings(several).collect(),
        };
        for kind in &types {
            match *kind {
                "string" => into.text = true,
                "number" => into.number = true,
                "integer" => into.whole = true,
                "boolean" => into.boolean = true,
                "null" => into.null = true,
                "array" => into.items.extend(object.get("items")),
                "object" => into.tables.push(object),
                _ => {}
            }
        }
        // A schema that says nothing allows everything.
        into.anything |= types.is_empty() && !described;
    }

    fn value(&mut self, tree: &Tree, schema: &'a Value, place: &Place<'_>) {
        let mut allowed = Allowed::default();
        self.allowed(schema, &mut allowed);
        match &tree.node {
            Node::Map(entries) => self.mapping(tree, entries, &allowed, place),
            Node::List(items) if !allowed.items.is_empty() || allowed.anything => {
                for item in items {
                    match allowed.items.first() {
                        Some(inner) => self.value(item, inner, &self.item(item, place)),
                        None => self.anything(item),
                    }
                }
            }
            Node::List(_) => self.wrong_type(tree, &allowed, place),
            _ if allowed.anything => {}
            Node::Null if !allowed.null => self.wrong_type(tree, &allowed, place),
            Node::Null => {}
            Node::Number => {
                let spelled = tree.spelled(self.file);
                let whole = !spelled.contains(['.', 'e', 'E']) || spelled.starts_with("0x");
                if !(allowed.text || allowed.number || allowed.whole && whole) {
                    self.wrong_type(tree, &allowed, place);
                } else if allowed.whole && !allowed.text && spelled.starts_with('-') {
                    // Signed fields accept it, unsigned ones are told by their minimum.
                    self.minimum(tree, schema);
                }
            }
            Node::Bool(_) if !(allowed.boolean || allowed.text) => {
                self.wrong_type(tree, &allowed, place);
            }
            Node::Bool(_) => {}
            Node::Text(text) => self.text(tree, text, &allowed, place),
        }
    }

    fn item<'p>(&self, item: &Tree, place: &Place<'p>) -> Place<'p> {
        Place {
            name: place.name,
            span: first_word(item, self.file),
        }
    }

    /// Duplicate keys are mistakes in free values too.
    fn anything(&mut self, tree: &Tree) {
        match &tree.node {
            Node::Map(entries) => {
                self.duplicates(entries);
                for (_, value) in entries {
                    self.anything(value);
                }
            }
            Node::List(items) => items.iter().for_each(|item| self.anything(item)),
            _ => {}
        }
    }

    fn minimum(&mut self, tree: &Tree, schema: &Value) {
        if schema.get("minimum").is_some() {
            self.push(
                "wrong-type",
                "a number here cannot be negative".to_owned(),
                tree.span.clone(),
                None,
            );
        }
    }

    fn text(&mut self, tree: &Tree, text: &str, allowed: &Allowed<'_>, place: &Place<'_>) {
        if allowed.text || allowed.words.contains(&text) {
            return;
        }
        if allowed.not_yet.contains(&text) {
            return self.not_yet(&format!("{}: {text}", place.name), tree.span.clone());
        }
        let variants: Vec<&str> = variants(&allowed.tables);
        if variants.contains(&text) && variants.len() > 1 {
            let message = format!("`{text}` needs a value");
            let hint = Some(format!("write `{}: {{ {text}: … }}`", place.name));
            return self.push("wrong-type", message, tree.span.clone(), hint);
        }
        let known = allowed.words.iter().chain(&variants).copied();
        let is_slip = near::near(text, known.clone()).is_some();
        if allowed.words.is_empty() || !(allowed.items.is_empty() || is_slip) {
            return self.wrong_type(tree, allowed, place);
        }
        let hint = near::hint(text, known, "allowed here");
        self.push(
            "unknown-value",
            format!("`{}` has no form `{text}`", place.name),
            tree.span.clone(),
            Some(hint),
        );
    }

    fn mapping(
        &mut self,
        tree: &Tree,
        entries: &[(At<String>, Tree)],
        allowed: &Allowed<'a>,
        place: &Place<'_>,
    ) {
        if allowed.tables.is_empty() {
            if allowed.anything {
                return self.anything(tree);
            }
            if let Some((key, _)) = entries
                .iter()
                .find(|(key, _)| allowed.not_yet.contains(&key.value.as_str()))
            {
                return self.not_yet(&key.value, key.span.clone());
            }
            return self.wrong_type(tree, allowed, place);
        }
        self.duplicates(entries);
        let is_choice = allowed.tables.len() > 1;
        let mut chosen: Vec<&At<String>> = Vec::new();
        let mut later = false;
        let mut meant: Vec<&str> = Vec::new();
        for (index, (key, value)) in entries.iter().enumerate() {
            let name = key.value.as_str();
            let doubled = entries[..index]
                .iter()
                .any(|(other, _)| other.value == name);
            let inner = allowed
                .tables
                .iter()
                .find_map(|table| property(table, name));
            let next = Place {
                name,
                span: key.span.clone(),
            };
            if let Some(inner) = inner {
                if !doubled {
                    chosen.push(key);
                    self.value(value, inner, &next);
                }
            } else if allowed.not_yet.contains(&name) {
                later = true;
                self.not_yet(name, key.span.clone());
            } else {
                let known = known_keys(&allowed.tables, &allowed.words);
                meant.extend(near::near(name, known.iter().copied()));
                let hint = near::hint(name, known.iter().copied(), "known here");
                let message = format!("unknown key `{name}` in {}", shown(place.name));
                later |= is_choice;
                self.push("unknown-key", message, key.span.clone(), Some(hint));
            }
        }
        if is_choice {
            self.one_variant(&chosen, later, allowed, place);
        } else if !later {
            self.missing(allowed.tables[0], entries, &meant, place);
        }
    }

    fn one_variant(
        &mut self,
        chosen: &[&At<String>],
        told: bool,
        allowed: &Allowed<'_>,
        place: &Place<'_>,
    ) {
        if let [first, second, ..] = chosen {
            self.push(
                "several-variants",
                format!(
                    "{} takes one of its forms, here are `{}` and `{}`",
                    shown(place.name),
                    first.value,
                    second.value
                ),
                second.span.clone(),
                Some("keep one of them".to_owned()),
            );
        } else if chosen.is_empty() && !told {
            let known: Vec<String> = known_keys(&allowed.tables, &allowed.words)
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            self.push(
                "missing-key",
                format!("{} needs one of its forms", shown(place.name)),
                place.span.clone(),
                Some(format!("known here: {}", known.join(", "))),
            );
        }
    }

    fn missing(
        &mut self,
        table: &'a Map<String, Value>,
        entries: &[(At<String>, Tree)],
        meant: &[&str],
        place: &Place<'_>,
    ) {
        for name in strings(table.get("required")) {
            let is_here = entries.iter().any(|(key, _)| key.value == name);
            // A misspelt key is one mistake, told where it stands.
            if is_here || meant.contains(&name) {
                continue;
            }
            let hint = property(table, name)
                .and_then(|inner| inner.get("x-missing"))
                .and_then(Value::as_str)
                .map(str::to_owned);
            self.push(
                "missing-key",
                format!("{} has no `{name}`", shown(place.name)),
                place.span.clone(),
                Some(hint.unwrap_or_else(|| format!("add `{name}:`"))),
            );
        }
    }

    fn duplicates(&mut self, entries: &[(At<String>, Tree)]) {
        for (index, (key, _)) in entries.iter().enumerate() {
            let earlier = entries[..index].iter().find(|(k, _)| k.value == key.value);
            if let Some((first, _)) = earlier {
                let line = 1 + self.file[..first.span.start.min(self.file.len())]
                    .matches('\n')
                    .count();
                self.push(
                    "duplicate-key",
                    format!("`{}` is here twice", key.value),
                    key.span.clone(),
                    Some(format!("the first one is on line {line}; keep one of them")),
                );
            }
        }
    }

    fn wrong_type(&mut self, tree: &Tree, allowed: &Allowed<'_>, place: &Place<'_>) {
        let mut wanted = Vec::new();
        let words: Vec<String> = allowed
            .words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect();
        if !words.is_empty() {
            wanted.push(words.join(", "));
        }
        let kinds = [
            (allowed.text, "text"),
            (allowed.number, "a number"),
            (allowed.whole && !allowed.number, "a whole number"),
            (allowed.boolean, "`true` or `false`"),
            (!allowed.items.is_empty(), "a list"),
            (!allowed.tables.is_empty(), "a mapping"),
        ];
        wanted.extend(
            kinds
                .iter()
                .filter(|kind| kind.0)
                .map(|kind| kind.1.to_owned()),
        );
        // A list of one is the likeliest meaning of a scalar where a list belongs.
        let hint =
            (!allowed.items.is_empty() && tree.is_scalar() && !matches!(tree.node, Node::Null))
                .then(|| format!("write `{}: [{}]`", place.name, tree.spelled(self.file)));
        let span = match tree.node {
            Node::List(_) | Node::Map(_) | Node::Null => place.span.clone(),
            _ => tree.span.clone(),
        };
        self.push(
            "wrong-type",
            format!(
                "{}: expected {}, found {}",
                shown(place.name),
                wanted.join(" or "),
                tree.kind()
            ),
            span,
            hint,
        );
    }

    fn not_yet(&mut self, name: &str, span: Range<usize>) {
        self.push(
            "not-yet",
            format!("`{name}` is not supported by this version of gleaner yet"),
            span,
            None,
        );
    }

    fn push(
        &mut self,
        code: &'static str,
        message: String,
        span: Range<usize>,
        hint: Option<String>,
    ) {
        self.found.push(Diagnostic {
            code,
            message,
            span,
            hint,
        });
    }
}

fn shown(name: &str) -> String {
    if name.contains(' ') {
        name.to_owned()
    } else {
        format!("`{name}`")
    }
}

fn strings(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let list = value.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

/// The schema of a key: its own, or that of all keys of a free mapping.
fn property<'a>(table: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let own = table.get("properties").and_then(|all| all.get(name));
    own.or_else(|| {
        let free = table.get("additionalProperties");
        free.filter(|schema| *schema != &Value::Bool(false))
    })
}

fn keys<'a>(table: &&'a Map<String, Value>) -> impl Iterator<Item = &'a str> + use<'a> {
    let properties = table.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
}

fn known_keys<'a>(tables: &[&'a Map<String, Value>], words: &[&'a str]) -> Vec<&'a str> {
    // Words stand alone, so they help only where a choice between forms is made.
    let words = if tables.len() > 1 { words } else { &[] };
    let all = words.iter().copied().chain(tables.iter().flat_map(keys));
    all.filter(|name| *name != "none").collect()
}

fn variants<'a>(tables: &[&'a Map<String, Value>]) -> Vec<&'a str> {
    if tables.len() > 1 {
        tables.iter().flat_map(keys).collect()
    } else {
        Vec::new()
    }
}

/// The span of what one sees first: a mapping's first key, or the value itself.
fn first_word(tree: &Tree, file: &str) -> Range<usize> {
    let span = match &tree.node {
        Node::Map(entries) => entries.first().map_or(&tree.span, |(key, _)| &key.span),
        Node::List(items) => items.first().map_or(&tree.span, |item| &item.span),
        _ => &tree.span,
    };
    span.start.min(file.len())..span.end.min(file.len())
}
