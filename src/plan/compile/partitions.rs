//! `for`: variables and what they run over.

use std::collections::HashSet;
use std::ops::Range;

use super::names::Judge;
use super::scope::{RESERVED, Scope};
use super::{dates, parents, values};
use crate::plan::partition::{Generator, ListItem};
use crate::spec::PipelineSpec;
use crate::spec::at::At;
use crate::spec::choice::Table;
use crate::spec::stream::{ForSpec, GeneratorSpec};
use crate::spec::tree::{Node, Tree};

/// The variables of a stream, or nothing where a mistake was noted.
pub(super) fn partitions(
    judge: &mut Judge<'_>,
    spec: &PipelineSpec,
    stream: &At<String>,
    table: Option<&Table<At<ForSpec>>>,
) -> Option<Vec<(String, Generator)>> {
    let pipeline = spec;
    let mut scope = Scope::partitions();
    let mut all = Vec::new();
    let count = table.map_or(0, |table| table.0.len());
    for (at, (name, spec)) in table.iter().flat_map(|table| &table.0).enumerate() {
        variable(judge, name);
        let generator = match &spec.value {
            ForSpec::List(items) => list(judge, items, &name.span, &scope),
            ForSpec::Text(text) => template(judge, &spec.with(text.clone()), &scope),
            ForSpec::Generated(long) => match (&long.stream, &long.dates) {
                (None, Some(step)) => {
                    unowned(judge, long);
                    dates::generator(judge, name, long, step, at + 1 == count, &scope)
                }
                (Some(parent), _) => {
                    let inherited = parents::variables(pipeline, parent);
                    scope = scope.and(inherited.iter().map(String::as_str));
                    alone(judge, long, parent);
                    parents::generator(judge, pipeline, (stream, name), parent, long, &scope)
                }
                (None, None) => generated(judge, long, &name.span, &scope),
            },
        };
        all.push(generator.map(|generator| (name.value.clone(), generator)));
        scope = scope.and([name.value.as_str()]);
    }
    all.into_iter().collect()
}

fn variable(judge: &mut Judge<'_>, name: &At<String>) {
    let mut letters = name.chars();
    let begins = letters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !begins || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        let message = format!("`{}` cannot name a variable", name.value);
        judge.wrong(
            "bad-name",
            &name.span,
            message,
            "use letters, digits and `_`, so that templates can say it",
        );
    } else if RESERVED.contains(&name.value.as_str()) {
        let message = format!("`{}` has a meaning of its own in templates", name.value);
        judge.wrong("reserved-name", &name.span, message, "choose another name");
    }
}

fn list(
    judge: &mut Judge<'_>,
    items: &[Tree],
    span: &Range<usize>,
    scope: &Scope,
) -> Option<Generator> {
    if items.is_empty() {
        judge.wrong(
            "empty-for",
            span,
            "an empty list asks for nothing",
            "list at least one value",
        );
        return None;
    }
    twice(judge, items);
    let all: Vec<_> = items.iter().map(|tree| item(judge, tree, scope)).collect();
    all.into_iter().collect::<Option<_>>().map(Generator::List)
}

/// What stands twice is asked for twice, and its records come twice.
fn twice(judge: &mut Judge<'_>, items: &[Tree]) {
    let mut known = HashSet::new();
    for tree in items {
        let value = values::value(tree, judge.file);
        if !known.insert(serde_json::to_string(&value).unwrap_or_default()) {
            judge.wrong(
                "repeated-value",
                &tree.span,
                format!("`{value}` stands in this list already: its records would come twice"),
                "leave one of them out",
            );
        }
    }
}

fn item(judge: &mut Judge<'_>, tree: &Tree, scope: &Scope) -> Option<ListItem> {
    if let Node::Text(text) = &tree.node
        && (text.contains("{{") || text.contains("{%"))
    {
        let at = At {
            value: text.clone(),
            span: tree.span.clone(),
        };
        return judge.template(&at, scope).map(ListItem::Template);
    }
    values::no_template(
        judge,
        tree,
        "a template cannot stand inside a list or mapping of `for`",
    );
    Some(ListItem::Value(values::value(tree, judge.file)))
}

fn template(judge: &mut Judge<'_>, at: &At<String>, scope: &Scope) -> Option<Generator> {
    let template = judge.template(at, scope)?;
    if template.is_literal() {
        let hint = format!(
            "a list of one is `[{}]`; a variable is `\"{{{{ vars.{} }}}}\"`",
            at.value, at.value
        );
        judge.wrong(
            "bad-for",
            &at.span,
            "this is neither a list nor a template",
            &hint,
        );
        return None;
    }
    Some(Generator::Template(template))
}

fn generated(
    judge: &mut Judge<'_>,
    spec: &GeneratorSpec,
    span: &Range<usize>,
    scope: &Scope,
) -> Option<Generator> {
    let forms = "a list, a template, `{ range: [1, 500] }`, `{ file: ids.csv }`, `{ dates: 1d }` or `{ stream: NAME }`";
    unowned(judge, spec);
    windowless(judge, spec);
    match (&spec.range, &spec.file) {
        (Some(_), Some(file)) => {
            judge.wrong(
                "several-variants",
                &file.span,
                "`range` and `file` exclude each other",
                "keep one of them",
            );
            None
        }
        (None, None) => {
            judge.wrong(
                "bad-for",
                span,
                "this runs over nothing",
                &format!("write {forms}"),
            );
            None
        }
        (Some(range), None) => {
            if let Some(column) = &spec.column {
                judge.wrong(
                    "bad-for",
                    &column.span,
                    "`column` belongs to `file`",
                    "remove it",
                );
            }
            self::range(judge, range, spec.step.as_ref())
        }
        (None, Some(file)) => {
            if let Some(step) = &spec.step {
                judge.wrong(
                    "bad-for",
                    &step.span,
                    "`step` belongs to `range`",
                    "remove it",
                );
            }
            let path = judge.template(file, scope)?;
            Some(Generator::File {
                path,
                column: spec.column.as_ref().map(|column| column.value.clone()),
            })
        }
    }
}

/// What belongs to `stream`, without one.
fn unowned(judge: &mut Judge<'_>, spec: &GeneratorSpec) {
    let stray = [
        ("where", spec.only.as_ref().map(|at| &at.span)),
        ("batch", spec.batch.as_ref().map(|at| &at.span)),
    ];
    for (key, span) in stray {
        if let Some(span) = span {
            let message = format!("`{key}` belongs to `stream`");
            let hint = "name the stream whose records are meant: `{ stream: NAME, … }`";
            judge.wrong("bad-for", span, message, hint);
        }
    }
}

/// What belongs to `dates`, without any.
fn windowless(judge: &mut Judge<'_>, spec: &GeneratorSpec) {
    let stray = [("from", &spec.from), ("to", &spec.to), ("zone", &spec.zone)];
    for (key, at) in stray {
        if let Some(at) = at {
            let message = format!("`{key}` belongs to `dates`");
            let hint = "say how long each window is, as in `dates: 1d`";
            judge.wrong("bad-for", &at.span, message, hint);
        }
    }
}

/// Whatever else stands beside `stream`.
fn alone(judge: &mut Judge<'_>, spec: &GeneratorSpec, parent: &At<String>) {
    windowless(judge, spec);
    let several = [
        ("range", spec.range.as_ref().map(|at| &at.span)),
        ("file", spec.file.as_ref().map(|at| &at.span)),
        ("dates", spec.dates.as_ref().map(|at| &at.span)),
    ];
    for (key, span) in several {
        if span.is_some() {
            let message = format!("`{key}` and `stream` exclude each other");
            judge.wrong(
                "several-variants",
                &parent.span,
                message,
                "keep one of them",
            );
        }
    }
    let stray = [
        ("step", "range", spec.step.as_ref().map(|at| &at.span)),
        ("column", "file", spec.column.as_ref().map(|at| &at.span)),
    ];
    for (key, owner, span) in stray {
        if let Some(span) = span {
            let message = format!("`{key}` belongs to `{owner}`");
            judge.wrong("bad-for", span, message, "remove it");
        }
    }
}

fn range(judge: &mut Judge<'_>, at: &At<Vec<i64>>, step: Option<&At<i64>>) -> Option<Generator> {
    let &[from, to] = at.value.as_slice() else {
        judge.wrong(
            "bad-range",
            &at.span,
            "a range has a first and a last number",
            "write `range: [1, 500]`",
        );
        return None;
    };
    let by = step.map_or(1, |step| step.value);
    let at = step.map_or(&at.span, |step| &step.span);
    if by == 0 {
        judge.wrong("bad-range", at, "a step of 0 never ends", "");
        return None;
    }
    if (by > 0 && from > to) || (by < 0 && from < to) {
        let hint = if by > 0 {
            "write the smaller number first, or `step: -1`"
        } else {
            "write the larger number first"
        };
        judge.wrong("bad-range", at, "this range is empty", hint);
        return None;
    }
    Some(Generator::Range { from, to, step: by })
}
