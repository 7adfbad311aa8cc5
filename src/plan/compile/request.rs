//! `get` and `post`, with the source's headers and parameters merged in.

use http::Method;

use super::graphql;
use super::names::Judge;
use super::scope::Scope;
use super::source::headers;
use super::stream::tables;
use super::values;
use crate::plan::language::Template;
use crate::plan::request::{BodyPlan, Once, RequestPlan};
use crate::spec::PipelineSpec;
use crate::spec::at::At;
use crate::spec::choice::Table;
use crate::spec::stream::{BodySpec, OnceSpec, StreamSpec};
use crate::spec::tree::Tree;

/// The request of a stream, or nothing where a mistake was noted.
pub(super) fn request(
    judge: &mut Judge<'_>,
    spec: &PipelineSpec,
    name: &At<String>,
    stream: &StreamSpec,
    scope: &Scope,
) -> Option<RequestPlan> {
    if is_silent(stream) {
        return Some(RequestPlan {
            method: Method::GET,
            target: Template::parse("").ok()?,
            query: Vec::new(),
            headers: Vec::new(),
            body: BodyPlan::None,
            once: Once::No,
        });
    }
    let method = match (&stream.get, &stream.post) {
        (Some(get), None) => Some((Method::GET, get)),
        (None, Some(post)) => Some((Method::POST, post)),
        (Some(get), Some(post)) => {
            let later = if get.span.start > post.span.start {
                get
            } else {
                post
            };
            let message = format!("stream `{}` has both `get` and `post`", name.value);
            judge.wrong("get-and-post", &later.span, message, "keep one of them");
            None
        }
        (None, None) => {
            let message = format!(
                "stream `{}` asks for nothing: it has no `get` and no `post`",
                name.value
            );
            let hint =
                "add `get: /path`; with a `for`, the last value of that stands for the answer";
            judge.wrong("no-request", &name.span, message, hint);
            None
        }
    };
    let target = method
        .as_ref()
        .map(|(_, target)| self::target(judge, target, scope));
    let query = tables(spec.source.query.as_ref(), stream.query.as_ref()).unwrap_or_default();
    let query = values::map(judge, &query.0, scope);
    let all = by_name(spec.source.headers.as_ref(), stream.headers.as_ref());
    let headers = headers(judge, &all, scope);
    let body = match &stream.body {
        None => Some(BodyPlan::None),
        Some(body) => {
            if matches!(&method, Some((Method::GET, _))) {
                let hint = "ask with `post:`, or send the values as `query:`";
                judge.wrong("body-with-get", &body.span, "a `get` carries no body", hint);
            }
            self::body(judge, &body.value, scope)
        }
    };
    let once = self::once(judge, stream, &all);
    Some(RequestPlan {
        method: method?.0,
        target: target??,
        query: query?,
        headers: headers?,
        body: body?,
        once: once?,
    })
}

/// Whether a stream asks for nothing on purpose: the last value of `for` stands for the answer.
pub(super) fn is_silent(stream: &StreamSpec) -> bool {
    let has_for = stream.partitions.as_ref().is_some_and(|t| !t.0.is_empty());
    stream.get.is_none() && stream.post.is_none() && has_for
}

/// What a stream says of requests and answers, though it asks for nothing. What `defaults` say is
/// meant for others.
pub(super) fn silent(judge: &mut Judge<'_>, written: &StreamSpec) {
    let first = |table: Option<&Table<Tree>>| {
        let table = table?;
        table.0.first().map(|(name, _)| name.span.clone())
    };
    let headers = written.headers.as_ref().and_then(|t| t.0.first());
    let cost = written.cost.as_ref().and_then(|t| t.0.first());
    let response = written.responses.as_ref().and_then(|all| all.first());
    let said = [
        ("query", first(written.query.as_ref())),
        ("headers", headers.map(|(name, _)| name.span.clone())),
        ("body", written.body.as_ref().map(|at| at.span.clone())),
        ("cost", cost.map(|(name, _)| name.span.clone())),
        ("format", written.format.as_ref().map(|at| at.span.clone())),
        (
            "max_body",
            written.max_body.as_ref().map(|at| at.span.clone()),
        ),
        ("pages", written.pages.as_ref().map(|at| at.span.clone())),
        ("stop", written.stop.as_ref().map(|at| at.span.clone())),
        ("responses", response.map(|rule| rule.when.span.clone())),
        (
            "conditional",
            written.conditional.as_ref().map(|at| at.span.clone()),
        ),
        ("keep", written.keep.as_ref().map(|at| at.span.clone())),
    ];
    for (key, span) in said {
        if let Some(span) = span {
            let message = format!("`{key}` belongs to a request, and this stream sends none");
            let hint = "add `get: /path`, or remove it";
            judge.wrong("no-request", &span, message, hint);
        }
    }
}

fn target(judge: &mut Judge<'_>, at: &At<String>, scope: &Scope) -> Option<Template> {
    let template = judge.template(at, scope)?;
    let literal = at.value.split("{{").next().unwrap_or("");
    let (message, hint) = if literal.contains("://") {
        (
            "an address of its own is not a path",
            "put scheme and host into `source.url` and the path here",
        )
    } else if !at.value.starts_with('/')
        && !template.begins_with_expression()
        && !at.value.is_empty()
    {
        (
            "the path must begin with `/` or with a template",
            "write `/path`; it is appended to `source.url`",
        )
    } else if literal.contains('?') {
        (
            "the path has a query",
            "write the parameters under `query:`",
        )
    } else if literal.contains('#') {
        (
            "the path has a fragment",
            "remove what follows `#`; it is never sent",
        )
    } else {
        return Some(template);
    };
    judge.wrong("bad-path", &at.span, message, hint);
    None
}

/// Headers of source and stream; names do not care about case, and the stream wins.
fn by_name(
    source: Option<&Table<At<String>>>,
    stream: Option<&Table<At<String>>>,
) -> Vec<(At<String>, At<String>)> {
    let mut all = source.map(|table| table.0.clone()).unwrap_or_default();
    for (name, value) in stream.iter().flat_map(|table| &table.0) {
        match all
            .iter_mut()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            Some(entry) => *entry = (name.clone(), value.clone()),
            None => all.push((name.clone(), value.clone())),
        }
    }
    all
}

/// A key of ours and a header of the file cannot both be sent under one name.
fn once(
    judge: &mut Judge<'_>,
    stream: &StreamSpec,
    headers: &[(At<String>, At<String>)],
) -> Option<Once> {
    let key = match stream.once.as_ref().map(|at| &at.value) {
        None | Some(OnceSpec::Said(false)) => return Some(Once::No),
        Some(OnceSpec::Said(true)) => return Some(Once::Strict),
        Some(OnceSpec::Keyed(keyed)) => &keyed.key,
    };
    if let Some((name, _)) = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(key))
    {
        let message = format!("`{}` is also the key of `once`", name.value);
        judge.wrong(
            "once-key",
            &name.span,
            message,
            "remove it: the key is made for each page",
        );
    }
    judge.header(key).map(Once::Keyed)
}

/// What a request carries.
pub(super) fn body(judge: &mut Judge<'_>, spec: &BodySpec, scope: &Scope) -> Option<BodyPlan> {
    Some(match spec {
        BodySpec::Json(tree) => BodyPlan::Json(values::tree(judge, tree, scope)?),
        BodySpec::Form(table) => BodyPlan::Form(values::map(judge, &table.0, scope)?),
        BodySpec::Text(text) => BodyPlan::Text(judge.template(text, scope)?),
        BodySpec::Graphql(spec) => graphql::body(judge, spec, scope)?,
    })
}
