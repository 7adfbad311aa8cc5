//! `streams`: one kind of record each, with what `defaults` and `source` say merged in.

use std::time::Duration;

use super::names::Judge;
use super::scope::Scope;
use super::{
    auth, columns, cursor, dates, expect, format, limits, pages, parents, partitions, records,
    request, sink, transform,
};
use crate::plan::language::Template;
use crate::plan::paging::Paging;
use crate::plan::{Pause, ResponseRule, StreamPlan, Then, duration};
use crate::spec::PipelineSpec;
use crate::spec::at::At;
use crate::spec::choice::{ScalarOr, Table};
use crate::spec::stream::{ResponseSpec, StreamSpec, ThenSpec, ThenWord};

/// All streams that have no mistake; mistakes are noted.
pub(super) fn streams(
    judge: &mut Judge<'_>,
    spec: &PipelineSpec,
    need_sinks: bool,
) -> Vec<StreamPlan> {
    if spec.streams.0.is_empty() {
        let hint = "add a stream: `streams: { items: { get: /items } }`";
        judge.wrong(
            "no-streams",
            &spec.source.span,
            "this pipeline has no streams",
            hint,
        );
    }
    let plans: Vec<_> = spec
        .streams
        .0
        .iter()
        .map(|(name, written)| stream(judge, spec, name, written, need_sinks))
        .collect();
    plans.into_iter().flatten().collect()
}

fn stream(
    judge: &mut Judge<'_>,
    spec: &PipelineSpec,
    name: &At<String>,
    written: &StreamSpec,
    need_sinks: bool,
) -> Option<StreamPlan> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(fits) {
        let message = format!("`{}` cannot name a stream", name.value);
        judge.wrong(
            "bad-name",
            &name.span,
            message,
            "use letters, digits, `_` and `-`: names become files",
        );
    }
    let merged = merged(spec.defaults.as_ref(), written);
    let cursor = cursor::cursor(judge, spec, name, &merged);
    let partitions = partitions::partitions(judge, spec, name, merged.partitions.as_ref());
    let variables = parents::in_sight(spec, merged.partitions.as_ref());
    let see = |scope: Scope| scope.and(variables.iter().map(String::as_str));
    let asks = !request::is_silent(&merged);
    if !asks {
        request::silent(judge, written);
    }

    let request = request::request(judge, spec, name, &merged, &see(Scope::request()));
    let paging = pages::pages(judge, spec, &merged);
    let answer = see(Scope::answer());
    let cost = limits::cost(judge, &merged, &see(Scope::cost()), &answer);
    let stop = merged.stop.as_ref().map(|stop| judge.expr(stop, &answer));
    let own = merged.responses.iter().flatten();
    let rules = own.chain(spec.source.responses.iter().flatten());
    auth::renewable(judge, &spec.source, &rules.clone().collect::<Vec<_>>());
    dates::divisible(judge, spec, name, written);
    let is_once = request.as_ref().is_some_and(|r| r.once.is_strict());
    let responses: Vec<_> = rules
        .map(|rule| response(judge, rule, &answer, is_once))
        .collect();
    let records = records::records(judge, &merged);
    let sight = see(Scope::transform());
    let transform = transform::transform(judge, merged.transform.as_ref(), &sight);
    let columns = (merged.columns.as_ref())
        .map(|table| columns::columns(judge, table, &see(Scope::column())));
    let shown = columns.as_ref().and_then(|columns| columns.as_deref());
    let format = format::format(judge, &merged, records.as_ref(), shown);
    let key = columns::key(judge, &merged);
    let expect = expect::expect(judge, &merged);
    cursor::used(judge, &merged);
    let conditional = conditional(judge, &merged);
    let sinks = sink::sinks(judge, spec, name, &merged, need_sinks);
    Some(StreamPlan {
        name: name.value.clone(),
        partitions: partitions?,
        asks,
        request: request?,
        // What is given whole has no second page.
        paging: if asks {
            paging?
        } else {
            Paging::None { declared: true }
        },
        cost: cost?,
        stop: match stop {
            None => None,
            Some(stop) => Some(stop?),
        },
        responses: responses.into_iter().collect::<Option<_>>()?,
        format: format?,
        records: records?,
        transform: transform?,
        columns: match columns {
            None => None,
            Some(columns) => Some(columns?),
        },
        key,
        cursor: cursor.ok()?,
        conditional,
        keeps_raw: asks && merged.keep.is_some(),
        expect: expect?,
        sinks: sinks?,
    })
}

/// What a stream says, and `defaults` where it says nothing: mappings merge by key, `responses`
/// follow one another, the rest is replaced.
pub(super) fn merged(defaults: Option<&StreamSpec>, stream: &StreamSpec) -> StreamSpec {
    let Some(base) = defaults else {
        return stream.clone();
    };
    let is_asked = stream.get.is_some() || stream.post.is_some();
    let asked = if is_asked { stream } else { base };
    StreamSpec {
        partitions: tables(base.partitions.as_ref(), stream.partitions.as_ref()),
        get: asked.get.clone(),
        post: asked.post.clone(),
        query: tables(base.query.as_ref(), stream.query.as_ref()),
        headers: tables(base.headers.as_ref(), stream.headers.as_ref()),
        body: stream.body.clone().or_else(|| base.body.clone()),
        once: stream.once.clone().or_else(|| base.once.clone()),
        cost: tables(base.cost.as_ref(), stream.cost.as_ref()),
        format: stream.format.clone().or_else(|| base.format.clone()),
        max_body: stream.max_body.clone().or_else(|| base.max_body.clone()),
        records: stream.records.clone().or_else(|| base.records.clone()),
        pages: stream.pages.clone().or_else(|| base.pages.clone()),
        stop: stream.stop.clone().or_else(|| base.stop.clone()),
        responses: match (&stream.responses, &base.responses) {
            (Some(first), Some(then)) => Some(first.iter().chain(then).cloned().collect()),
            (one, other) => one.clone().or_else(|| other.clone()),
        },
        key: stream.key.clone().or_else(|| base.key.clone()),
        transform: (stream.transform.clone()).or_else(|| base.transform.clone()),
        columns: tables(base.columns.as_ref(), stream.columns.as_ref()),
        cursor: stream.cursor.clone().or_else(|| base.cursor.clone()),
        conditional: stream
            .conditional
            .clone()
            .or_else(|| base.conditional.clone()),
        keep: stream.keep.clone().or_else(|| base.keep.clone()),
        expect: expect::merged(base.expect.as_ref(), stream.expect.as_ref()),
        sink: stream.sink.clone().or_else(|| base.sink.clone()),
    }
}

/// Two mappings as one: a key of `over` takes the place of the same key of `base`.
pub(super) fn tables<T: Clone>(
    base: Option<&Table<T>>,
    over: Option<&Table<T>>,
) -> Option<Table<T>> {
    let (Some(base), Some(over)) = (base, over) else {
        return over.or(base).cloned();
    };
    let mut all = base.0.clone();
    for (key, value) in &over.0 {
        match all.iter_mut().find(|(known, _)| known.value == key.value) {
            Some(entry) => *entry = (key.clone(), value.clone()),
            None => all.push((key.clone(), value.clone())),
        }
    }
    Some(Table(all))
}

/// Only a `get` can be asked for on a condition (RFC 9110, section 13.1.2).
fn conditional(judge: &mut Judge<'_>, spec: &StreamSpec) -> bool {
    let Some(at) = spec.conditional.as_ref().filter(|at| at.value) else {
        return false;
    };
    if spec.post.is_some() {
        let message = "only a `get` can be asked for on a condition";
        judge.wrong(
            "bad-conditional",
            &at.span,
            message,
            "remove it, or use `get:`",
        );
    }
    true
}

/// How long to wait before asking again for what is not ready, and for how long in all.
const EVERY: Duration = Duration::from_secs(10);
const WITHIN: Duration = Duration::from_hours(1);

fn response(
    judge: &mut Judge<'_>,
    spec: &ResponseSpec,
    scope: &Scope,
    is_once: bool,
) -> Option<ResponseRule> {
    let when = judge.expr(&spec.when, scope);
    let then = match &spec.then.value {
        ScalarOr::Short(word) => Some(match word {
            ThenWord::Accept => Then::Accept,
            ThenWord::Skip => Then::Skip,
            ThenWord::Retry => Then::Retry,
            ThenWord::Wait => Then::Wait(Pause::AsTold),
            ThenWord::Stop => Then::Stop,
            ThenWord::Split => Then::Split,
            ThenWord::Restart => Then::Restart,
            ThenWord::RefreshAuth => Then::RefreshAuth,
            ThenWord::Fail => Then::Fail(None),
        }),
        ScalarOr::Long(ThenSpec::Fail(text)) => fail(judge, text, scope),
        ScalarOr::Long(ThenSpec::Again(_)) if is_once => {
            let message = "`again` sends the request again, which `once: true` rules out";
            let hint = "give the order in one stream with `once`, and ask after it in another one that runs over its records; where the API knows a repeat by a key, write `once: { key: HEADER }`";
            judge.wrong("once-again", &spec.then.span, message, hint);
            None
        }
        ScalarOr::Long(ThenSpec::Again(again)) => Some(Then::Again {
            every: judge.duration(again.every.as_ref(), EVERY),
            within: judge.duration(again.within.as_ref(), WITHIN),
        }),
        ScalarOr::Long(ThenSpec::Wait(at)) if at.contains("{{") || at.contains("{%") => {
            let template = judge.answer_template(at, scope);
            template.map(|template| Then::Wait(Pause::Said(template)))
        }
        ScalarOr::Long(ThenSpec::Wait(at)) => match duration::parse(&at.value) {
            Ok(duration) => Some(Then::Wait(Pause::Time(duration))),
            Err(message) => {
                judge.wrong("bad-duration", &at.span, message, "");
                None
            }
        },
    };
    Some(ResponseRule {
        when: when?,
        then: then?,
    })
}

fn fail(judge: &mut Judge<'_>, text: &At<String>, scope: &Scope) -> Option<Then> {
    let template: Template = judge.answer_template(text, scope)?;
    Some(Then::Fail(Some(template)))
}
