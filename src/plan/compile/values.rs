//! `vars`, and written trees as values: scalars keep their spelling.

use minijinja::Value;
use minijinja::value::ValueKind;
use serde_json::Value as Json;

use super::CompileProblem;
use super::names::Judge;
use super::scope::Scope;
use crate::plan::json::{Numbers, number_to_value};
use crate::plan::number::reckoned;
use crate::plan::request::TreeTemplate;
use crate::spec::at::At;
use crate::spec::choice::Table;
use crate::spec::near;
use crate::spec::tree::{Node, Tree};

/// `vars`, with `--var` in place of what the file says.
pub(super) fn vars(
    judge: &mut Judge<'_>,
    written: Option<&Table<Tree>>,
    given: &[(String, String)],
) -> Result<Value, CompileProblem> {
    let entries = written.map_or(&[][..], |table| &table.0);
    let names = || entries.iter().map(|(key, _)| key.value.as_str());
    for (name, _) in given {
        if !names().any(|known| known == name) {
            return Err(CompileProblem::usage(
                format!("there is no variable `{name}` to set"),
                near::hint(name, names().collect::<Vec<_>>(), "vars of this file"),
            ));
        }
    }
    judge.know_vars(names().map(str::to_owned));
    let mut values = Vec::new();
    for (key, tree) in entries {
        no_template(
            judge,
            tree,
            "`vars` are plain values, templates in them are not rendered",
        );
        let given = given.iter().rev().find(|(name, _)| *name == key.value);
        let value = match (given, &tree.node) {
            (None, _) => variable(tree, judge.file),
            (Some((_, text)), Node::List(_)) => {
                let items = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty());
                items.map(Value::from).collect()
            }
            (Some((_, text)), _) => alike(text, &variable(tree, judge.file)),
        };
        values.push((key.value.clone(), value));
    }
    Ok(Value::from_pairs(values))
}

/// What is given in the place of a number or of `true` and `false` is one too, where it spells one: conditions
/// compare it as they would what is written. All else is text.
fn alike(text: &str, written: &Value) -> Value {
    let value = match reckoned(written).kind() {
        ValueKind::Number => number(text),
        ValueKind::Bool => text.parse::<bool>().ok().map(Value::from),
        _ => None,
    };
    value.unwrap_or_else(|| Value::from(text))
}

/// A number that prints as it is spelled, if it is one in JSON too.
fn number(spelled: &str) -> Option<Value> {
    is_json_number(spelled).then(|| number_to_value(spelled, Numbers::Spelled))
}

/// A value of `vars`: every number is one, however it is spelled. Items of lists are read as those of `for`, which they
/// may become.
fn variable(tree: &Tree, file: &str) -> Value {
    match &tree.node {
        Node::Number => number(&tree.spelled(file)).unwrap_or_else(|| value(tree, file)),
        Node::Map(entries) => {
            let entries = entries.iter();
            Value::from_pairs(entries.map(|(key, tree)| (key.value.clone(), variable(tree, file))))
        }
        _ => value(tree, file),
    }
}

/// Notes every template inside a tree that must be plain.
pub(super) fn no_template(judge: &mut Judge<'_>, tree: &Tree, why: &str) {
    match &tree.node {
        Node::Text(text) if text.contains("{{") || text.contains("{%") => {
            judge.wrong(
                "template-place",
                &tree.span,
                why,
                "use the template where the value is sent",
            );
        }
        Node::List(items) => items.iter().for_each(|item| no_template(judge, item, why)),
        Node::Map(entries) => entries
            .iter()
            .for_each(|(_, value)| no_template(judge, value, why)),
        _ => {}
    }
}

/// A tree as a template value. A number stays one only if it prints as it was spelled: items of `for` tell partitions
/// apart, also those that are kept.
pub(super) fn value(tree: &Tree, file: &str) -> Value {
    match &tree.node {
        Node::Null => Value::from(()),
        Node::Bool(yes) => Value::from(*yes),
        Node::Text(text) => Value::from(text.as_str()),
        Node::Number => {
            let spelled = tree.spelled(file);
            if let Ok(whole) = spelled.parse::<i64>()
                && whole.to_string() == spelled
            {
                return Value::from(whole);
            }
            match spelled.parse::<f64>() {
                Ok(real) if real.is_finite() && Value::from(real).to_string() == spelled => {
                    Value::from(real)
                }
                _ => Value::from(spelled.as_ref()),
            }
        }
        Node::List(items) => items.iter().map(|item| value(item, file)).collect(),
        Node::Map(entries) => {
            let entries = entries.iter();
            Value::from_pairs(entries.map(|(key, tree)| (key.value.clone(), value(tree, file))))
        }
    }
}

/// A tree whose texts may be templates.
pub(super) fn tree(judge: &mut Judge<'_>, tree: &Tree, scope: &Scope) -> Option<TreeTemplate> {
    Some(match &tree.node {
        Node::Text(text) if text.contains("{{") || text.contains("{%") || text.contains("{#") => {
            let at = At {
                value: text.clone(),
                span: tree.span.clone(),
            };
            TreeTemplate::Template(judge.template(&at, scope)?)
        }
        Node::List(items) => {
            let items: Vec<_> = items
                .iter()
                .map(|item| self::tree(judge, item, scope))
                .collect();
            TreeTemplate::List(items.into_iter().collect::<Option<_>>()?)
        }
        Node::Map(entries) => TreeTemplate::Map(map(judge, entries, scope)?),
        _ => literal(tree, judge.file),
    })
}

/// A mapping whose values may hold templates; every mistake in it is noted.
pub(super) fn map(
    judge: &mut Judge<'_>,
    entries: &[(At<String>, Tree)],
    scope: &Scope,
) -> Option<Vec<(String, TreeTemplate)>> {
    let all: Vec<_> = entries
        .iter()
        .map(|(key, value)| Some((key.value.clone(), tree(judge, value, scope)?)))
        .collect();
    all.into_iter().collect()
}

fn literal(tree: &Tree, file: &str) -> TreeTemplate {
    let spelled = tree.spelled(file).into_owned();
    let json = match &tree.node {
        Node::Null => "null".to_owned(),
        Node::Bool(_) => spelled.clone(),
        // JSON knows fewer spellings of numbers than YAML: `007` and `.5` are sent as text.
        Node::Number if is_json_number(&spelled) => spelled.clone(),
        _ => Json::from(spelled.as_str()).to_string(),
    };
    TreeTemplate::Literal { json, spelled }
}

fn is_json_number(spelled: &str) -> bool {
    serde_json::from_str::<&serde_json::value::RawValue>(spelled).is_ok_and(|raw| {
        raw.get() == spelled && spelled.starts_with(|c: char| c == '-' || c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_of_the_kind_that_is_written_where_it_can_be() {
        for (text, written, kind) in [
            ("5", Value::from(3), ValueKind::Number),
            ("2.5", Value::from(3), ValueKind::Number),
            ("2024-05", Value::from(2024), ValueKind::String),
            ("007", Value::from(3), ValueKind::String),
            (" 5", Value::from(3), ValueKind::String),
            ("2.40", Value::from(3), ValueKind::Plain),
            ("3", number("2.40").unwrap(), ValueKind::Number),
            ("1e3", number("2.40").unwrap(), ValueKind::Plain),
            ("true", Value::from(false), ValueKind::Bool),
            ("yes", Value::from(false), ValueKind::String),
            ("5", Value::from("3"), ValueKind::String),
        ] {
            let value = alike(text, &written);
            let spelled = value.to_string();
            assert!(
                value.kind() == kind && spelled.eq_ignore_ascii_case(text),
                "{text}: {spelled}"
            );
        }
    }
}
