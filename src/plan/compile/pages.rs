//! `pages`: paging styles, and the places of a request that they fill.

use super::names::{Judge, Noted};
use super::scope::Scope;
use super::stream::tables;
use super::{graphql, parents};
use crate::plan::paging::{Paging, TokenFrom};
use crate::plan::path::{Path, Step};
use crate::plan::rendered::form_name;
use crate::plan::request::Slot;
use crate::spec::PipelineSpec;
use crate::spec::at::At;
use crate::spec::near;
use crate::spec::stream::{BodySpec, PagesSpec, StreamSpec};
use crate::spec::tree::{Node, Tree};

/// How the next page is found, or nothing where a mistake was noted.
pub(super) fn pages(
    judge: &mut Judge<'_>,
    spec: &PipelineSpec,
    stream: &StreamSpec,
) -> Option<Paging> {
    let Some(pages) = &stream.pages else {
        return Some(Paging::None { declared: false });
    };
    graphql::places(judge, stream);
    let mut slots = Slots {
        judge,
        spec,
        stream,
    };
    match &pages.value {
        PagesSpec::None => Some(Paging::None { declared: true }),
        PagesSpec::Link => Some(Paging::Link),
        PagesSpec::Next(path) => slots.judge.path(path).map(Paging::Next),
        PagesSpec::Merge(path) => slots.judge.path(path).map(Paging::Merge),
        PagesSpec::Page(page) => {
            let to = slots.to(&page.to);
            let size = slots.size(page.size.as_ref());
            let total = slots.maybe(page.total.as_ref());
            let last = slots.maybe(page.last.as_ref());
            let start = page.start.unwrap_or(1);
            slots.sent_twice("page", &page.to, Some(start));
            Some(Paging::Page {
                to: to?,
                start,
                size: size.ok()?,
                total: total.ok()?,
                last: last.ok()?,
            })
        }
        PagesSpec::Offset(offset) => {
            let to = slots.to(&offset.to);
            let size = slots.size(offset.size.as_ref());
            let total = slots.maybe(offset.total.as_ref());
            let start = offset.start.unwrap_or(0);
            slots.sent_twice("offset", &offset.to, Some(start));
            Some(Paging::Offset {
                to: to?,
                start,
                size: size.ok()?,
                total: total.ok()?,
            })
        }
        PagesSpec::Token(token) => {
            let from = slots.from(&token.from);
            let to = slots.to(&token.to);
            let names = parents::in_sight(spec, stream.partitions.as_ref());
            let scope = Scope::request().and(names.iter().map(String::as_str));
            let start = match &token.start {
                None => Some(None),
                Some(start) => slots.judge.template(start, &scope).map(Some),
            };
            if token.start.is_some() {
                let is_same = token
                    .start
                    .as_ref()
                    .is_some_and(|start| slots.sets(&token.to, start));
                if !is_same {
                    slots.sent_twice("token", &token.to, None);
                }
            }
            Some(Paging::Token {
                from: from?,
                to: to?,
                start: start?,
            })
        }
        PagesSpec::Keyset(keyset) => {
            let field = slots.judge.path(&keyset.field);
            let to = slots.to(&keyset.to);
            let size = slots.size(keyset.size.as_ref());
            Some(Paging::Keyset {
                field: field?,
                to: to?,
                add: keyset.add,
                size: size.ok()?,
            })
        }
    }
}

struct Slots<'j, 'f, 's> {
    judge: &'j mut Judge<'f>,
    spec: &'s PipelineSpec,
    stream: &'s StreamSpec,
}

impl Slots<'_, '_, '_> {
    fn maybe(&mut self, path: Option<&At<String>>) -> Result<Option<Path>, Noted> {
        match path {
            None => Ok(None),
            Some(path) => self.judge.path(path).map(Some).ok_or(Noted),
        }
    }

    fn from(&mut self, at: &At<String>) -> Option<TokenFrom> {
        match at.strip_prefix("headers.") {
            Some(name) => {
                let name = self.judge.header(&at.with(name.to_owned()))?;
                Some(TokenFrom::Header(name))
            }
            None => self.judge.path(at).map(TokenFrom::Body),
        }
    }

    /// A query name, `body.PATH` or `headers.NAME`.
    fn to(&mut self, at: &At<String>) -> Option<Slot> {
        if let Some(name) = at.strip_prefix("headers.") {
            let name = self.judge.header(&at.with(name.to_owned()))?;
            return Some(Slot::Header(name));
        }
        if let Some(path) = at.strip_prefix("body.") {
            if self.members().is_none() {
                let hint = "add `body: { json: … }` or `body: { form: … }` to a `post`, or name a query parameter";
                let message = format!(
                    "`{}` is a place in a body of JSON or of a form, but this stream sends none",
                    at.value
                );
                self.judge.wrong("bad-slot", &at.span, message, hint);
                return None;
            }
            let path = self.judge.path(&at.with(path.to_owned()))?;
            if path.steps.contains(&Step::All) {
                let message = "`*` names several places, a value goes to one";
                self.judge.wrong("bad-slot", &at.span, message, "");
                return None;
            }
            return Some(Slot::Body(path));
        }
        if at.is_empty() {
            self.judge.wrong(
                "bad-slot",
                &at.span,
                "`to` is empty",
                "name a query parameter",
            );
            return None;
        }
        Some(Slot::Query(at.value.clone()))
    }

    /// Whether `query` sets a parameter to just this.
    fn sets(&self, to: &At<String>, value: &At<String>) -> bool {
        let query = tables(self.spec.source.query.as_ref(), self.stream.query.as_ref());
        let query = query.unwrap_or_default();
        let mut own = query.0.iter().filter(|(name, _)| name.value == to.value);
        own.any(|(_, own)| matches!(&own.node, Node::Text(text) if *text == value.value))
    }

    /// A parameter that the request names with a value of its own, though the first page is asked for with
    /// `start`: it would be dropped. The same number twice does no harm.
    fn sent_twice(&mut self, style: &str, to: &At<String>, start: Option<i64>) {
        let query = tables(self.spec.source.query.as_ref(), self.stream.query.as_ref());
        let query = query.unwrap_or_default();
        let Some((name, own)) = query.0.iter().find(|(name, _)| name.value == to.value) else {
            return;
        };
        if matches!(own.node, Node::Null) {
            return;
        }
        let written = own.spelled(self.judge.file).into_owned();
        if start.is_some_and(|start| written == start.to_string()) {
            return;
        }
        let message = format!(
            "`query` sets `{0}`, and so does `pages.{style}` with each page: the value here is never sent",
            to.value
        );
        let hint = if start.is_some() && written.parse::<i64>().is_ok() {
            format!(
                "to begin there, write `start: {written}` under `pages.{style}`, and take it out of `query`"
            )
        } else {
            format!("take it out of `query`; `pages.{style}.start` says where to begin")
        };
        self.judge.wrong("sent-twice", &name.span, message, &hint);
    }

    /// The members of the JSON or form that is sent; none where none is.
    fn members(&self) -> Option<Vec<(&str, &Tree)>> {
        match self.stream.body.as_deref() {
            Some(BodySpec::Json(tree)) => Some(match &tree.node {
                Node::Map(entries) => entries.iter().map(|(k, v)| (k.value.as_str(), v)).collect(),
                _ => Vec::new(),
            }),
            Some(BodySpec::Form(fields)) => Some(
                fields
                    .0
                    .iter()
                    .map(|(k, v)| (k.value.as_str(), v))
                    .collect(),
            ),
            Some(BodySpec::Graphql(spec)) => {
                let variables = spec.variables.as_ref().map_or(&[][..], |table| &table.0);
                Some(
                    variables
                        .iter()
                        .map(|(k, v)| (k.value.as_str(), v))
                        .collect(),
                )
            }
            _ => None,
        }
    }

    /// Where a path into the body leads: that of GraphQL has its variables one level down.
    fn in_body(&self, mut path: Path) -> Option<Path> {
        let members = self.members()?;
        if matches!(self.stream.body.as_deref(), Some(BodySpec::Form(_))) {
            let name = form_name(&path);
            return members.iter().any(|(is, _)| *is == name).then_some(path);
        }
        let is_graphql = matches!(self.stream.body.as_deref(), Some(BodySpec::Graphql(_)));
        let variables = Step::Key("variables".to_owned());
        if is_graphql && path.steps.first() == Some(&variables) {
            path.steps.remove(0);
        }
        let (Step::Key(first), rest) = path.steps.split_first()? else {
            return None;
        };
        let there = members
            .iter()
            .any(|(name, tree)| name == first && holds(tree, rest));
        if is_graphql {
            path.steps.insert(0, variables);
        }
        there.then_some(path)
    }

    /// The parameter that holds the page size: it must be there to be read.
    fn size(&mut self, at: Option<&At<String>>) -> Result<Option<Slot>, Noted> {
        let Some(at) = at else { return Ok(None) };
        let query = tables(self.spec.source.query.as_ref(), self.stream.query.as_ref());
        let query = query.unwrap_or_default();
        if query.get(&at.value).is_some() {
            return Ok(Some(Slot::Query(at.value.clone())));
        }
        let written = at.strip_prefix("body.").unwrap_or(&at.value);
        if let Some(path) = Path::parse(written)
            .ok()
            .and_then(|path| self.in_body(path))
        {
            return Ok(Some(Slot::Body(path)));
        }
        let of_body = self.members().unwrap_or_default();
        let of_body = of_body.iter().map(|(name, _)| *name);
        let of_query = query.0.iter().map(|(name, _)| name.value.as_str());
        let known: Vec<&str> = of_query.chain(of_body).collect();
        let hint = if known.is_empty() {
            format!("add it with its number: `query: {{ {}: 100 }}`", at.value)
        } else {
            near::hint(&at.value, known, "parameters of this stream")
        };
        let message = format!(
            "`size` names `{}`, which is neither in `query` nor in `body`",
            at.value
        );
        self.judge
            .wrong("unknown-parameter", &at.span, message, &hint);
        Err(Noted)
    }
}

fn holds(tree: &Tree, steps: &[Step]) -> bool {
    match (steps, &tree.node) {
        ([], _) => true,
        ([Step::Key(name), rest @ ..], Node::Map(entries)) => entries
            .iter()
            .any(|(key, value)| key.value == *name && holds(value, rest)),
        ([Step::Key(name), rest @ ..], Node::List(items)) => {
            let item = name.parse().ok().and_then(|index: usize| items.get(index));
            item.is_some_and(|item| holds(item, rest))
        }
        _ => false,
    }
}
