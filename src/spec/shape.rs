//! The shape pass: every unknown, doubled, missing or mistyped key of a file at once.
//!
//! serde stops at the first mistake, so this walks the spanned tree along the JSON Schema made
//! from the same types. What is wrong is left out by `prune`, so that the rest can be decoded.

use std::ops::Range;

use serde_json::{Map, Value};

use super::allowed::{Allowed, known_keys, note, property, strings, variants};
use super::at::At;
use super::diagnostic::Diagnostic;
use super::near;
use super::prune::Wrong;
use super::tree::{Node, Tree};

/// All shape mistakes of `tree`, in the order of the file.
pub(super) fn check(tree: &Tree, schema: &Value, file: &str) -> (Vec<Diagnostic>, Wrong) {
    let mut walk = Walk {
        root: schema,
        file,
        found: Vec::new(),
        wrong: Wrong::default(),
    };
    let top = Place {
        name: "a pipeline",
        span: first_word(tree, file),
    };
    walk.value(tree, schema, &top);
    walk.found.sort_by_key(|one| (one.span.start, one.span.end));
    (walk.found, walk.wrong)
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
    wrong: Wrong,
}

impl<'a> Walk<'a> {
    fn value(&mut self, tree: &Tree, schema: &'a Value, place: &Place<'_>) {
        let allowed = Allowed::of(schema, self.root);
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
            Node::Null | Node::Bool(_) => {}
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
            self.wrong.values.insert(tree.span.start);
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
        self.wrong.values.insert(tree.span.start);
        if allowed.not_yet.contains(&text) {
            return self.not_yet(&format!("{}: {text}", place.name), tree.span.clone());
        }
        let variants: Vec<&str> = variants(&allowed.tables);
        if variants.contains(&text) && variants.len() > 1 {
            let message = format!("`{text}` needs a value");
            let hint = Some(format!("write `{}: {{ {text}: … }}`", place.name));
            return self.push("wrong-type", message, tree.span.clone(), hint);
        }
        let longer = variants.iter().filter(|name| !allowed.words.contains(name));
        let known = allowed.words.iter().chain(longer).copied();
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
                self.wrong.values.insert(tree.span.start);
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
            if doubled || inner.is_none() {
                self.wrong.keys.insert(key.span.start);
            }
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
        let stays = |name: &str| {
            entries.iter().any(|(key, value)| {
                key.value == name
                    && !self.wrong.keys.contains(&key.span.start)
                    && !self.wrong.values.contains(&value.span.start)
            })
        };
        let is_whole = if is_choice {
            entries.len() == 1 && chosen.iter().all(|key| stays(&key.value)) && !chosen.is_empty()
        } else {
            strings(allowed.tables[0].get("required"))
                .all(|name| stays(name) || note(allowed.tables[0], name).is_some())
        };
        if !is_whole {
            self.wrong.values.insert(tree.span.start);
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
            let hint = note(table, name).map(str::to_owned);
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
        self.wrong.values.insert(tree.span.start);
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

/// The span of what one sees first: a mapping's first key, or the value itself.
fn first_word(tree: &Tree, file: &str) -> Range<usize> {
    let span = match &tree.node {
        Node::Map(entries) => entries.first().map_or(&tree.span, |(key, _)| &key.span),
        Node::List(items) => items.first().map_or(&tree.span, |item| &item.span),
        _ => &tree.span,
    };
    span.start.min(file.len())..span.end.min(file.len())
}
