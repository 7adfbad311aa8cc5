//! What makes a plan the same plan: the fields that decide which pages are asked for and which
//! records are taken out of them.
//!
//! A run that was cut off goes on only under the same identity, for pages asked for by one plan
//! and pages asked for by another are not one harvest. Each field has a name of its own, so that
//! a refusal can say what was changed. What may change between two attempts is left out: limits,
//! concurrency, patience, credentials, and all that happens after a page is kept (columns, key,
//! `expect`, sinks).

use std::fmt::Write;

use super::dates::Edge;
use super::json::Json;
use super::language::{Expr, Template};
use super::paging::{Paging, TokenFrom};
use super::partition::{Generator, ListItem};
use super::request::{BodyPlan, RequestPlan, Slot, TreeTemplate};
use super::{Plan, ResponseRule, RowNames, Shape, StreamPlan, Then};

/// A field's name, as in `streams.issues.pages`, and what it says.
pub type Field = (String, String);

/// The key of rules; a field for each.
const RULES: &str = "responses";

impl Plan {
    /// What makes it the same plan for the streams that are `chosen`, in the order of the file.
    pub fn identity(&self, chosen: &dyn Fn(&StreamPlan) -> bool) -> Vec<Field> {
        let mut fields = vec![(
            "source.url".to_owned(),
            self.source.url.written().to_owned(),
        )];
        if let Ok(names) = self.vars.try_iter() {
            for name in names {
                let value = self.vars.get_item(&name).unwrap_or_default();
                let json = Json::from_value(&value).map(|json| json.to_string());
                fields.push((format!("vars.{name}"), json.unwrap_or_default()));
            }
        }
        for stream in self.streams.iter().filter(|stream| chosen(stream)) {
            stream.identify(&mut fields);
        }
        fields
    }
}

impl StreamPlan {
    /// All that decides what becomes of an answer.
    pub fn reading(&self) -> String {
        let format = self.format.kind.as_ref().map(|_| self.format.to_string());
        [format.unwrap_or_default(), self.found(), self.steps()].join("\n")
    }

    /// All that decides what `transform` makes of a record.
    fn steps(&self) -> String {
        let steps: Vec<String> = (self.transform.iter())
            .map(|step| step.step.to_string())
            .collect();
        steps.join("\n")
    }

    /// All that decides which records are found in an answer.
    fn found(&self) -> String {
        let optional = if self.records.optional { "?" } else { "" };
        let (path, shape) = (&self.records.path, shape(&self.records.shape));
        format!("{path}{optional}{shape}")
    }

    fn identify(&self, fields: &mut Vec<Field>) {
        let mut add = |key: &str, text: String| {
            fields.push((format!("streams.{}.{key}", self.name), text));
        };
        for (variable, generator) in &self.partitions {
            add(&format!("for.{variable}"), self::generator(generator));
        }
        let RequestPlan {
            method,
            target,
            query,
            headers,
            body,
            once: _,
        } = &self.request;
        let verb = if self.asks {
            method.as_str().to_ascii_lowercase()
        } else {
            "nothing".to_owned()
        };
        add(&verb, target.written().to_owned());
        for (parameter, value) in query {
            add(&format!("query.{parameter}"), tree(value));
        }
        for (header, value) in headers {
            add(&format!("headers.{header}"), value.written().to_owned());
        }
        if !matches!(body, BodyPlan::None) {
            add("body", self::body(body));
        }
        add("pages", paging(&self.paging));
        // What was paid for is kept as it came too, and can be read in another way.
        if !self.request.once.acts() {
            add("records", self.found());
            if self.format.kind.is_some() {
                add("format", self.format.to_string());
            }
            if !self.transform.is_empty() {
                add("transform", self.steps());
            }
        }
        if let Some(stop) = &self.stop {
            add("stop", stop.written().to_owned());
        }
        for (when, then) in self.responses.iter().filter_map(rule) {
            add(&format!("{RULES} {when}"), then.to_owned());
        }
        if let Some(total) = &self.expect.total {
            // Its values are kept with each page.
            add("expect.total", total.to_string());
        }
    }
}

/// Whether a field that was not there before changes nothing of what is kept: a rule judges only
/// pages that are still to come.
pub fn may_come_later(name: &str) -> bool {
    name.splitn(3, '.')
        .nth(2)
        .is_some_and(|key| key.starts_with(RULES))
}

fn generator(generator: &Generator) -> String {
    match generator {
        Generator::List(items) => items.iter().fold("list".to_owned(), |mut text, item| {
            let _ = match item {
                ListItem::Value(value) => {
                    let json = serde_json::to_string(value).unwrap_or_default();
                    write!(text, "\n{json}")
                }
                ListItem::Template(template) => write!(text, "\n{}", quoted(template.written())),
            };
            text
        }),
        Generator::Template(template) => format!("template {}", template.written()),
        Generator::Range { from, to, step } => format!("range {from} {to} {step}"),
        Generator::Dates(dates) => {
            let edge = |edge: Option<&Edge>| match edge {
                None => "-".to_owned(),
                Some(Edge::Bound(bound)) => format!("{bound:?}"),
                Some(Edge::Template(template)) => quoted(template.written()),
            };
            let (from, to) = (edge(dates.from.as_ref()), edge(dates.to.as_ref()));
            format!("dates {} {from} {to}", dates.grid)
        }
        Generator::File { path, column } => format!("file {} {column:?}", path.written()),
        Generator::Stream {
            stream,
            only,
            batch,
        } => format!(
            "stream {stream} {batch:?} {}",
            only.as_ref().map_or("", Expr::written)
        ),
    }
}

/// A list and a text that looks like one must not be the same.
fn quoted(text: &str) -> String {
    format!("template {}", serde_json::Value::from(text))
}

fn tree(value: &TreeTemplate) -> String {
    match value {
        TreeTemplate::Literal { json, .. } => json.clone(),
        TreeTemplate::Template(template) => quoted(template.written()),
        TreeTemplate::List(items) => {
            let items: Vec<String> = items.iter().map(tree).collect();
            format!("[{}]", items.join(","))
        }
        TreeTemplate::Map(members) => format!("{{{}}}", pairs(members)),
    }
}

fn pairs(members: &[(String, TreeTemplate)]) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| format!("{}:{}", serde_json::Value::from(name.as_str()), tree(value)))
        .collect();
    members.join(",")
}

fn body(body: &BodyPlan) -> String {
    match body {
        BodyPlan::None => String::new(),
        BodyPlan::Json(value) => format!("json {}", tree(value)),
        BodyPlan::Form(members) => format!("form {}", pairs(members)),
        BodyPlan::Text(template) => format!("text {}", template.written()),
        BodyPlan::Graphql { query, variables } => {
            format!("graphql {{{}}} {query}", pairs(variables))
        }
    }
}

fn paging(paging: &Paging) -> String {
    let path = |path: Option<&super::path::Path>| path.map_or("-".to_owned(), ToString::to_string);
    let place = |size: &Option<Slot>| size.as_ref().map_or("-".to_owned(), slot);
    match paging {
        // Both ask for one page.
        Paging::None { .. } => "none".to_owned(),
        Paging::Link => "link".to_owned(),
        Paging::Next(at) => format!("next {at}"),
        Paging::Page {
            to,
            start,
            size,
            total,
            last,
        } => format!(
            "page {} {start} {} {} {}",
            slot(to),
            place(size),
            path(total.as_ref()),
            path(last.as_ref())
        ),
        Paging::Offset {
            to,
            start,
            size,
            total,
        } => format!(
            "offset {} {start} {} {}",
            slot(to),
            place(size),
            path(total.as_ref())
        ),
        Paging::Token { from, to, start } => {
            let from = match from {
                TokenFrom::Body(at) => format!("body {at}"),
                TokenFrom::Header(name) => format!("header {name}"),
            };
            let start = start.as_ref().map_or("-", Template::written);
            format!("token {from} {} {start}", slot(to))
        }
        Paging::Keyset {
            field,
            to,
            add,
            size,
        } => format!("keyset {field} {} {add:?} {}", slot(to), place(size)),
        Paging::Merge(at) => format!("merge {at}"),
    }
}

fn shape(shape: &Shape) -> String {
    match shape {
        Shape::Plain => String::new(),
        Shape::Zip => " zip".to_owned(),
        Shape::Rows(RowNames::Given(names)) => format!(" rows {names:?}"),
        Shape::Rows(RowNames::First) => " rows first".to_owned(),
        Shape::Entries { key } => format!(" entries {key:?}"),
        Shape::Filtered(jq) => format!(" jq {}", jq.written()),
    }
}

fn slot(slot: &Slot) -> String {
    match slot {
        Slot::Query(name) => format!("query.{name}"),
        Slot::Body(path) => format!("body.{path}"),
        Slot::Header(name) => format!("headers.{name}"),
    }
}

/// A rule that made pages what they are; the others only say how to get one.
fn rule(rule: &ResponseRule) -> Option<(&str, &'static str)> {
    let then = match &rule.then {
        Then::Accept => "accept",
        Then::Skip => "skip",
        Then::Stop => "stop",
        Then::Split => "split",
        Then::Retry
        | Then::Wait(_)
        | Then::Restart
        | Then::Again { .. }
        | Then::RefreshAuth
        | Then::Fail(_) => {
            return None;
        }
    };
    Some((rule.when.written(), then))
}
