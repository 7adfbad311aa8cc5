//! `limits` of the source, and `cost` of the streams, which must fit each other.

use std::num::NonZeroU32;
use std::ops::Range;

use globset::GlobBuilder;

use super::names::Judge;
use super::scope::Scope;
use super::signals;
use super::stream::merged;
use crate::plan::auth::AuthPlan;
use crate::plan::limit::{
    CalendarUnit, Counting, LimitPlan, LimitWhen, Per, Route, SignalsPlan, Spacing,
};
use crate::plan::measure::Measure;
use crate::plan::{CostPlan, SourcePlan};
use crate::spec::PipelineSpec;
use crate::spec::at::At;
use crate::spec::choice::ScalarOr;
use crate::spec::near;
use crate::spec::source::{LimitSpec, LimitWhenSpec, LongLimitSpec};
use crate::spec::stream::StreamSpec;

type OneOrList = ScalarOr<String, Vec<At<String>>>;

/// One limit, or nothing where a mistake was noted.
pub(super) fn limit(judge: &mut Judge<'_>, spec: &LimitSpec) -> Option<LimitPlan> {
    match &spec.value {
        ScalarOr::Short(short) => rate(judge, &spec.with(short.clone())),
        ScalarOr::Long(long) => {
            let plan = rate(judge, &long.limit);
            let routes = many(long.routes.as_ref());
            let routes: Vec<_> = routes.iter().map(|one| route(judge, one)).collect();
            let per = long.per.as_ref().map(|per| self::per(&many(Some(per))));
            let plan = plan?;
            let counting = counting(judge, long, &plan);
            if let Some(name) = long
                .shared_as
                .as_ref()
                .filter(|name| name.trim().is_empty())
            {
                let hint =
                    "write a name that all pipelines of this API use, as in `shared_as: arxiv`";
                judge.wrong("bad-name", &name.span, "`shared_as` is empty", hint);
            }
            let reserve = reserve(judge, long.reserve.as_ref(), &plan);
            let signals = long.signals.as_ref();
            let signals = signals.map_or_else(
                || Some(SignalsPlan::default()),
                |written| signals::signals(judge, written),
            );
            let spacing = match long.spread {
                None => Spacing::Usual,
                Some(true) => Spacing::Even,
                Some(false) => Spacing::Burst,
            };
            Some(LimitPlan {
                when: match long.when.as_deref() {
                    None => LimitWhen::Always,
                    Some(LimitWhenSpec::Auth) => LimitWhen::Auth,
                    Some(LimitWhenSpec::NotAuth) => LimitWhen::NoAuth,
                },
                routes: routes.into_iter().collect::<Option<_>>()?,
                per,
                counting: counting?,
                spacing,
                reserve: reserve?,
                shared_as: long.shared_as.as_ref().map(|name| name.value.clone()),
                strict: long.strict.unwrap_or(false),
                signals: signals?,
                ..plan
            })
        }
    }
}

fn rate(judge: &mut Judge<'_>, written: &At<String>) -> Option<LimitPlan> {
    LimitPlan::parse(written)
        .map_err(|message| {
            let hint = if message.contains("`5000/h`") {
                ""
            } else {
                "write calls per time: `5000/h`, `80/min`, `1/3s`"
            };
            judge.wrong("bad-limit", &written.span, message, hint);
        })
        .ok()
}

/// One or many, each with its place.
fn many(spec: Option<&At<OneOrList>>) -> Vec<At<String>> {
    match spec {
        None => Vec::new(),
        Some(at) => match &at.value {
            ScalarOr::Short(one) => vec![at.with(one.clone())],
            ScalarOr::Long(all) => all.clone(),
        },
    }
}

fn per(names: &[At<String>]) -> Vec<Per> {
    let one = |name: &At<String>| match name.as_str() {
        "host" => Per::Host,
        "credential" => Per::Credential,
        variable => Per::Variable(variable.to_owned()),
    };
    names.iter().map(one).collect()
}

fn route(judge: &mut Judge<'_>, written: &At<String>) -> Option<Route> {
    let hint =
        "a path with `*` for one part and `**` for many, as in `/search/**` or `GET /items/*`";
    let (method, path) = match written.split_once(' ') {
        Some((method, path)) => (Some(method.to_ascii_uppercase()), path.trim()),
        None => (None, written.as_str()),
    };
    let method = method.map(|method| http::Method::from_bytes(method.as_bytes()));
    if !path.starts_with(['/', '*']) || matches!(method, Some(Err(_))) {
        let message = format!("`{}` is not a route", written.value);
        judge.wrong("bad-route", &written.span, message, hint);
        return None;
    }
    match GlobBuilder::new(path).literal_separator(true).build() {
        Ok(glob) => Some(Route {
            method: method.and_then(Result::ok),
            path: glob.compile_matcher(),
        }),
        Err(error) => {
            judge.wrong("bad-route", &written.span, error.kind().to_string(), hint);
            None
        }
    }
}

/// How the API counts; two ways at once are a mistake.
fn counting(judge: &mut Judge<'_>, long: &LongLimitSpec, plan: &LimitPlan) -> Option<Counting> {
    let counter = long.counter.as_ref().filter(|counter| counter.value);
    let ways = [
        long.burst.as_ref().map(|at| ("burst", &at.span)),
        long.calendar.as_ref().map(|at| ("calendar", &at.span)),
        counter.map(|at| ("counter", &at.span)),
    ];
    let ways: Vec<_> = ways.into_iter().flatten().collect();
    if let Counting::InFlight = plan.counting {
        let spread = long.spread.map(|_| ("spread", &long.limit.span));
        let strict = long.strict.map(|_| ("strict", &long.limit.span));
        let Some((way, span)) = ways.iter().copied().chain(spread).chain(strict).next() else {
            return Some(Counting::InFlight);
        };
        let message = format!("`{way}` has no meaning for requests in flight");
        let hint = format!("remove `{way}`: a request in flight counts until it is answered");
        judge.wrong("bad-limit", span, message, &hint);
        return None;
    }
    if let [(one, _), (other, span), ..] = ways[..] {
        let message = format!("a limit cannot have both `{one}` and `{other}`");
        let hint = "each says how the API counts: keep the one that its documentation names";
        judge.wrong("bad-limit", span, message, hint);
        return None;
    }
    if let (Some(spread), [(way @ ("burst" | "counter"), span)]) = (long.spread, &ways[..]) {
        let message = format!("`spread: {spread}` has no meaning beside `{way}`");
        judge.wrong("bad-limit", span, message, "remove `spread`");
        return None;
    }
    if let Some(at) = &long.burst {
        let size = u32::try_from(at.value).ok().and_then(NonZeroU32::new);
        if size.is_none() {
            let message = format!("`burst` must be from 1 to {}", u32::MAX);
            judge.wrong("bad-number", &at.span, message, "");
        }
        return size.map(Counting::Bucket);
    }
    if let Some(at) = &long.calendar {
        return calendar(judge, at, plan);
    }
    if let (Some(at), Some(unit)) = (counter, &plan.unit) {
        let message = format!("`counter` paces calls, and this limit counts in `{unit}`");
        judge.wrong("bad-limit", &at.span, message, "use `spread: true`");
        return None;
    }
    Some(counter.map_or(Counting::Window, |_| Counting::Counter))
}

fn calendar(judge: &mut Judge<'_>, at: &At<String>, plan: &LimitPlan) -> Option<Counting> {
    let Some(unit) = CalendarUnit::of(plan.window) else {
        let message = format!("`{plan}` has no window of the calendar");
        let hint = "with `calendar` the time is one of `1min`, `1h`, `1d`, `1mo`";
        judge.wrong("bad-limit", &at.span, message, hint);
        return None;
    };
    let zone = judge.zone(at)?;
    Some(Counting::Calendar(unit, zone))
}

/// What is left to others, rounded up.
fn reserve(judge: &mut Judge<'_>, at: Option<&At<String>>, plan: &LimitPlan) -> Option<u32> {
    let Some(at) = at else { return Some(0) };
    let calls = plan.calls.get();
    let amount = match at.trim().strip_suffix('%') {
        Some(share) => share.trim().parse::<f64>().ok().map(|share| {
            let amount = f64::from(calls) * share / 100.0;
            amount.ceil()
        }),
        None => at.trim().parse::<u32>().ok().map(f64::from),
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked in the same line"
    )]
    let amount = amount
        .filter(|amount| *amount >= 0.0 && *amount < f64::from(calls))
        .map(|amount| amount as u32);
    if amount.is_none() {
        let message = format!("`reserve` leaves nothing of `{plan}`, or is no number");
        let hint = "write a share or a number below the limit: `10%`, `500`";
        judge.wrong("bad-number", &at.span, message, hint);
    }
    amount
}

/// A request that no limit counts would be sent without any.
pub(super) fn covered(
    judge: &mut Judge<'_>,
    limits: &[LimitPlan],
    auth: Option<&AuthPlan>,
    span: &Range<usize>,
) {
    let (never, sent) = match auth {
        None => return,
        Some(AuthPlan::None) => (LimitWhen::Auth, "without a credential"),
        Some(_) => (LimitWhen::NoAuth, "with a credential"),
    };
    if !limits.is_empty() && limits.iter().all(|limit| limit.when == never) {
        let message = format!("no limit counts requests {sent}, and this source sends such");
        let hint = "add a limit for them, or one without `if`";
        judge.wrong("no-limits", span, message, hint);
    }
}

/// The `cost` of a stream.
pub(super) fn cost(
    judge: &mut Judge<'_>,
    spec: &StreamSpec,
    before: &Scope,
    after: &Scope,
) -> Option<Vec<CostPlan>> {
    let table = spec.cost.as_ref().map_or(&[][..], |table| &table.0);
    let all: Vec<_> = table
        .iter()
        .map(|(unit, at)| {
            let (at_most, actual) = match &at.value {
                ScalarOr::Short(text) => (measure(judge, &at.with(text.clone()), before), None),
                ScalarOr::Long(long) => {
                    let at_most = measure(judge, &long.at_most, before);
                    let actual = long.actual.as_ref();
                    (at_most, actual.map(|actual| measure(judge, actual, after)))
                }
            };
            Some(CostPlan {
                unit: unit.value.clone(),
                at_most: at_most?,
                actual: match actual {
                    None => None,
                    Some(actual) => Some(actual?),
                },
            })
        })
        .collect();
    all.into_iter().collect()
}

fn measure(judge: &mut Judge<'_>, at: &At<String>, scope: &Scope) -> Option<Measure> {
    if at.contains("{{") || at.contains("{%") {
        judge.template(at, scope).map(Measure::Template)
    } else {
        judge.expr(at, scope).map(Measure::Expr)
    }
}

fn written(spec: &PipelineSpec) -> Vec<At<String>> {
    let Some(ScalarOr::Long(all)) = spec.source.limits.as_deref() else {
        return Vec::new();
    };
    let rate = |one: &LimitSpec| match &one.value {
        ScalarOr::Short(short) => one.with(short.clone()),
        ScalarOr::Long(long) => long.limit.clone(),
    };
    all.iter().map(rate).collect()
}

/// Units of limits that no stream has a cost for, and costs that no limit counts.
pub(super) fn units(judge: &mut Judge<'_>, spec: &PipelineSpec) {
    let limits: Vec<(At<String>, LimitPlan)> = written(spec)
        .into_iter()
        .filter_map(|at| LimitPlan::parse(&at).ok().map(|plan| (at, plan)))
        .collect();
    let counted = || limits.iter().filter_map(|(_, plan)| plan.unit.as_deref());
    let defaults = spec.defaults.iter();
    let streams = spec.streams.0.iter().map(|(_, stream)| stream);
    let costs: Vec<&At<String>> = defaults
        .chain(streams)
        .flat_map(|stream| stream.cost.iter().flat_map(|table| &table.0))
        .map(|(unit, _)| unit)
        .collect();
    for (at, plan) in &limits {
        let Some(unit) = &plan.unit else { continue };
        if !costs.iter().any(|cost| cost.value == *unit) {
            let message = format!("no stream says what a request costs in `{unit}`");
            let hint =
                format!("add `cost: {{ {unit}: … }}` to the streams; one that has none costs 1");
            judge.wrong("no-cost", &at.span, message, &hint);
        }
    }
    for cost in costs {
        if !counted().any(|unit| unit == cost.value) {
            let message = format!("no limit counts `{}`", cost.value);
            let hint = near::hint(cost, counted().collect::<Vec<_>>(), "units of the limits");
            let hint = if hint.is_empty() {
                format!(
                    "add one, as in `limits: [600 {}/min]`, or remove it",
                    cost.value
                )
            } else {
                hint
            };
            judge.wrong("unknown-unit", &cost.span, message, &hint);
        }
    }
}

/// Names in `per` that no stream has a variable for.
pub(super) fn names(judge: &mut Judge<'_>, spec: &PipelineSpec) {
    let Some(ScalarOr::Long(all)) = spec.source.limits.as_deref() else {
        return;
    };
    let tables = spec
        .defaults
        .iter()
        .chain(spec.streams.0.iter().map(|(_, stream)| stream));
    let variables = tables.flat_map(|stream| stream.partitions.iter().flat_map(|table| &table.0));
    let mut known: Vec<&str> = variables.map(|(name, _)| name.value.as_str()).collect();
    known.extend(["host", "credential"]);
    for one in all {
        let ScalarOr::Long(long) = &one.value else {
            continue;
        };
        for name in many(long.per.as_ref()) {
            if !known.contains(&name.as_str()) {
                let message = format!(
                    "`per` names `{}`, which no stream has under `for`",
                    name.value
                );
                let hint = near::hint(&name, known.clone(), "names that have a budget each");
                judge.wrong("unknown-name", &name.span, message, &hint);
            }
        }
    }
}

/// Streams whose requests no limit covers, as far as their paths are written out.
pub(super) fn uncovered(judge: &mut Judge<'_>, spec: &PipelineSpec, source: Option<&SourcePlan>) {
    let Some(source) = source.filter(|source| !source.limits.is_empty()) else {
        return;
    };
    let Some(base) = url::Url::parse(&spec.source.url).ok() else {
        return;
    };
    for (_, stream) in &spec.streams.0 {
        let stream = merged(spec.defaults.as_ref(), stream);
        let (method, at) = match (&stream.get, &stream.post) {
            (Some(get), None) => (http::Method::GET, get),
            (None, Some(post)) => (http::Method::POST, post),
            _ => continue,
        };
        if at.contains('{') || !at.starts_with('/') {
            continue;
        }
        let path = at.split(['?', '#']).next().unwrap_or_default();
        let whole = format!("{}{path}", base.path().trim_end_matches('/'));
        let fits = |route: &Route| {
            route.method.as_ref().is_none_or(|m| *m == method)
                && (route.path.is_match(path) || route.path.is_match(&whole))
        };
        let is_covered =
            |limit: &LimitPlan| limit.routes.is_empty() || limit.routes.iter().any(fits);
        if !source.limits.iter().any(is_covered) {
            let message = format!("no limit covers `{path}`");
            let hint = "add a limit whose `routes` match it, or one without `routes`";
            judge.wrong("no-limits", &at.span, message, hint);
        }
    }
}
