//! `body: graphql`: the document is sent as it is written, so what can be said of it offline is
//! whether the variables that it declares and those that are sent are the same.

use super::names::Judge;
use super::scope::Scope;
use super::values;
use crate::plan::path::{Path, Step};
use crate::plan::request::BodyPlan;
use crate::spec::at::At;
use crate::spec::near;
use crate::spec::stream::{BodySpec, GraphqlSpec, PagesSpec, StreamSpec};

/// The checked body, or nothing where a mistake was noted.
pub(super) fn body(judge: &mut Judge<'_>, spec: &GraphqlSpec, scope: &Scope) -> Option<BodyPlan> {
    let query = &spec.query;
    if query.trim().is_empty() {
        judge.wrong("bad-graphql", &query.span, "the query is empty", "");
    }
    // In no place of the grammar do two braces open side by side, but inside of texts.
    if code(query).contains("{{") {
        judge.wrong(
            "template-place",
            &query.span,
            "the query is sent as it is written, templates in it are not rendered",
            "declare a variable, as in `query($name: String!)`, and give it under `variables:`",
        );
    }
    let given = spec.variables.as_ref().map_or(&[][..], |table| &table.0);
    let declared = declared(query);
    for (name, _) in given {
        if !declared.contains(&name.value.as_str()) {
            unknown(judge, &name.value, name, &declared);
        }
    }
    Some(BodyPlan::Graphql {
        query: query.value.clone(),
        variables: values::map(judge, given, scope)?,
    })
}

/// Where paging puts something into a GraphQL request, that must be one of its variables.
pub(super) fn places(judge: &mut Judge<'_>, stream: &StreamSpec) {
    let (Some(BodySpec::Graphql(spec)), Some(pages)) =
        (stream.body.as_deref(), stream.pages.as_deref())
    else {
        return;
    };
    let to = match pages {
        PagesSpec::Page(page) => &page.to,
        PagesSpec::Offset(offset) => &offset.to,
        PagesSpec::Token(token) => &token.to,
        PagesSpec::Keyset(keyset) => &keyset.to,
        PagesSpec::None | PagesSpec::Link | PagesSpec::Next(_) | PagesSpec::Merge(_) => return,
    };
    let Some(Ok(path)) = to.strip_prefix("body.").map(Path::parse) else {
        return;
    };
    let declared = declared(&spec.query);
    match path.steps.as_slice() {
        [Step::Key(part), Step::Key(name), ..] if part == "variables" => {
            if !declared.contains(&name.as_str()) {
                unknown(judge, name, to, &declared);
            }
        }
        _ => {
            let message = format!("`{}` is no place of a GraphQL request", to.value);
            let hint = "name a variable, as in `body.variables.after`";
            judge.wrong("bad-slot", &to.span, message, hint);
        }
    }
}

fn unknown(judge: &mut Judge<'_>, name: &str, at: &At<String>, declared: &[&str]) {
    let hint = if declared.is_empty() {
        format!("declare it, as in `query(${name}: String)`")
    } else {
        near::hint(name, declared.to_vec(), "variables of this query")
    };
    let message = format!("the query has no variable `${name}`");
    judge.wrong("unknown-variable", &at.span, message, &hint);
}

/// The variables that a document uses or declares.
fn declared(query: &str) -> Vec<&str> {
    let mut names: Vec<&str> = query
        .split('$')
        .skip(1)
        .map(|after| {
            let end = after.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
            &after[..end.unwrap_or(after.len())]
        })
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A document without its texts.
fn code(query: &str) -> String {
    query.split('"').step_by(2).collect()
}
