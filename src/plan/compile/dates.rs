//! `for: { day: { dates: 1d } }`: the grid, whether somebody says where it begins, and `split`, which
//! needs such windows.

use jiff::tz::TimeZone;

use super::names::{CursorSight, Judge};
use super::parents;
use super::scope::Scope;
use crate::plan::cursor::Bound;
use crate::plan::dates::{DatesPlan, Edge, Grid};
use crate::plan::partition::Generator;
use crate::plan::position::Format;
use crate::spec::PipelineSpec;
use crate::spec::at::At;
use crate::spec::choice::{ScalarOr, Table};
use crate::spec::stream::{ForSpec, GeneratorSpec, ResponseSpec, StreamSpec, ThenWord};

/// The windows of a variable, or nothing where a mistake was noted.
pub(super) fn generator(
    judge: &mut Judge<'_>,
    name: &At<String>,
    spec: &GeneratorSpec,
    step: &At<String>,
    is_last: bool,
    scope: &Scope,
) -> Option<Generator> {
    let stray = [
        ("range", spec.range.as_ref().map(|at| &at.span)),
        ("file", spec.file.as_ref().map(|at| &at.span)),
        ("step", spec.step.as_ref().map(|at| &at.span)),
        ("column", spec.column.as_ref().map(|at| &at.span)),
    ];
    for (key, span) in stray {
        if let Some(span) = span {
            let message = format!("`{key}` and `dates` exclude each other");
            judge.wrong("several-variants", span, message, "keep one of them");
        }
    }
    let zone = match &spec.zone {
        None => Some(TimeZone::UTC),
        Some(at) => zone(judge, at),
    };
    let grid = match Grid::parse(step, zone.clone().unwrap_or(TimeZone::UTC)) {
        Ok(grid) => Some(grid),
        Err((message, hint)) => {
            judge.wrong("bad-dates", &step.span, message, hint);
            None
        }
    };
    let zone = zone?;
    let from = edge(judge, spec.from.as_ref(), &zone, scope);
    let to = edge(judge, spec.to.as_ref(), &zone, scope);
    if spec.from.is_none() {
        match judge.cursor {
            CursorSight::None => judge.wrong(
                "bad-dates",
                &step.span,
                "nothing says where these windows begin",
                "add `from: 2024-01-01`, or a `cursor` to the stream",
            ),
            CursorSight::Seen { is_time: false, .. } => judge.wrong(
                "bad-dates",
                &step.span,
                "the cursor of this stream is no time, so windows cannot begin there",
                "add `from:` and `to:`",
            ),
            CursorSight::Seen { .. } | CursorSight::Unclear => {}
        }
        judge.cursor_used = true;
        if !is_last {
            let message = format!(
                "`{}` begins where the cursor stands, so it comes last",
                name.value
            );
            let hint = "a cursor is kept for each combination of the other variables: put them before it, or say `from:`";
            judge.wrong("bad-dates", &name.span, message, hint);
        }
    }
    Some(Generator::Dates(Box::new(DatesPlan {
        grid: grid?,
        from: from?,
        to: to?,
    })))
}

/// `split` where there is no window to halve. A rule of `defaults` or `source` may be meant for the
/// other streams of the file, so it needs windows in one of them.
pub(super) fn divisible(judge: &mut Judge<'_>, spec: &PipelineSpec, name: &str, own: &StreamSpec) {
    let is_wrong =
        |rule: &&ResponseSpec| matches!(rule.then.value, ScalarOr::Short(ThenWord::Split));
    let mut wrong = Vec::new();
    if !parents::has_windows(spec, name) {
        wrong.extend(own.responses.iter().flatten().filter(is_wrong));
    }
    let mut streams = spec.streams.0.iter();
    if !streams.any(|(name, _)| parents::has_windows(spec, name)) {
        let defaults = spec.defaults.iter().flat_map(|all| &all.responses);
        let shared = defaults.chain(&spec.source.responses).flatten();
        wrong.extend(shared.filter(is_wrong));
    }
    for rule in wrong {
        let message = "there is no window of time to halve: `for` has no `dates`";
        let hint = "add one and send it, as in `for: { day: { dates: 1d } }`; else write `fail`";
        judge.wrong("nothing-to-split", &rule.then.span, message, hint);
    }
}

/// A zone of the database.
pub(super) fn zone(judge: &mut Judge<'_>, at: &At<String>) -> Option<TimeZone> {
    if let Ok(zone) = TimeZone::get(&at.value) {
        return Some(zone);
    }
    let message = format!("`{}` is not a time zone", at.value);
    let hint = "write `UTC` or a name such as `Europe/Berlin`";
    judge.wrong("bad-zone", &at.span, message, hint);
    None
}

#[expect(
    clippy::option_option,
    reason = "a mistake, nothing written, or an edge"
)]
fn edge(
    judge: &mut Judge<'_>,
    at: Option<&At<String>>,
    zone: &TimeZone,
    scope: &Scope,
) -> Option<Option<Edge>> {
    let Some(at) = at else { return Some(None) };
    if at.contains("{{") {
        let template = judge.template(at, scope)?;
        return Some(Some(Edge::Template(template)));
    }
    match Bound::parse_in(at, &Format::Iso, zone) {
        Ok(bound) => Some(Some(Edge::Bound(bound))),
        Err(message) => {
            judge.wrong("bad-dates", &at.span, message, "");
            None
        }
    }
}

/// The zone whose days the windows of a stream are: `start` and `end` of its cursor are days of it
/// too.
pub(super) fn zone_of(stream: &StreamSpec) -> TimeZone {
    let all = stream
        .partitions
        .iter()
        .flat_map(|table: &Table<At<ForSpec>>| &table.0);
    all.filter_map(|(_, generator)| match &generator.value {
        ForSpec::Generated(long) if long.dates.is_some() && long.from.is_none() => {
            long.zone.as_ref()
        }
        _ => None,
    })
    .find_map(|zone| TimeZone::get(zone).ok())
    .unwrap_or(TimeZone::UTC)
}
