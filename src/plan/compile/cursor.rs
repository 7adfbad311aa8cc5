//! `cursor`: what makes a run ask only for what is new, and whether the stream can have one.

use jiff::tz::TimeZone;

use super::dates;
use super::names::{CursorSight, Judge, Noted};
use super::sink;
use crate::plan::cursor::{Bound, CursorPlan};
use crate::plan::duration;
use crate::plan::position::{Format, Lookback};
use crate::spec::PipelineSpec;
use crate::spec::at::At;
use crate::spec::cursor::CursorSpec;
use crate::spec::sink::ModeSpec;
use crate::spec::stream::StreamSpec;

/// The cursor of a stream, or nothing where a mistake was noted; templates that are judged from
/// now on see it.
pub(super) fn cursor(
    judge: &mut Judge<'_>,
    spec: &PipelineSpec,
    name: &At<String>,
    stream: &StreamSpec,
) -> Result<Option<CursorPlan>, Noted> {
    judge.cursor_used = false;
    let Some(written) = &stream.cursor else {
        judge.cursor = CursorSight::None;
        return Ok(None);
    };
    judge.cursor = CursorSight::Unclear;
    replaced(judge, spec, name, stream);
    let plan = plan(judge, written, stream).ok_or(Noted)?;
    judge.cursor = CursorSight::Seen {
        has_end: plan.end.is_some() || plan.format.is_time(),
        is_time: plan.format.is_time(),
    };
    Ok(Some(plan))
}

fn plan(judge: &mut Judge<'_>, spec: &CursorSpec, stream: &StreamSpec) -> Option<CursorPlan> {
    let field = match &spec.field {
        None => None,
        Some(at) => Some(judge.path(at)?),
    };
    let format = match &spec.format {
        None => Format::Iso,
        Some(at) => match Format::parse(at) {
            Ok(format) => format,
            Err((message, hint)) => {
                judge.wrong("bad-cursor", &at.span, message, &hint);
                return None;
            }
        },
    };
    if field.is_none() {
        if let Some(at) = &spec.format {
            let hint = "add `field:`, or remove `format`: without a field the end of the last window counts";
            judge.wrong("bad-cursor", &at.span, "`format` belongs to `field`", hint);
        }
        if spec.newest_first == Some(true) {
            let message = "`newest_first` needs `field`: how else is a record told to be old?";
            let hint = "add `field: updated_at`";
            judge.wrong("bad-cursor", &spec.start.span, message, hint);
        }
    }
    let newest_first = spec.newest_first.unwrap_or(false);
    let total = stream
        .expect
        .as_ref()
        .and_then(|expect| expect.total.as_ref());
    if newest_first && let Some(total) = total {
        let message = "`expect.total` cannot hold where the paging ends at old records";
        judge.wrong(
            "bad-cursor",
            &total.span,
            message,
            "remove it, or `newest_first`",
        );
    }
    let zone = dates::zone_of(stream);
    let start = bound(judge, &spec.start, &format, &zone);
    let end = match &spec.end {
        None => Some(None),
        Some(end) => bound(judge, end, &format, &zone).map(Some),
    };
    let lookback = match &spec.lookback {
        None => Some(None),
        Some(at) => lookback(judge, at, &format).map(Some),
    };
    Some(CursorPlan {
        written: spec
            .field
            .as_ref()
            .map(|field| field.value.clone())
            .unwrap_or_default(),
        field,
        format,
        start: start?,
        end: end?,
        lookback: lookback?,
        newest_first,
        zone,
    })
}

fn bound(
    judge: &mut Judge<'_>,
    at: &At<String>,
    format: &Format,
    zone: &TimeZone,
) -> Option<Bound> {
    match Bound::parse_in(at, format, zone) {
        Ok(bound) => Some(bound),
        Err(message) => {
            judge.wrong("bad-cursor", &at.span, message, "");
            None
        }
    }
}

fn lookback(judge: &mut Judge<'_>, at: &At<String>, format: &Format) -> Option<Lookback> {
    let (message, hint) = match format {
        Format::Integer => match at.trim().parse::<u64>() {
            Ok(count) => return Some(Lookback::Count(i128::from(count))),
            Err(_) => (
                format!("`{}` cannot be taken off a whole number", at.value),
                "write a number, as in `lookback: 1000`",
            ),
        },
        Format::Text => (
            "nothing can be taken off text".to_owned(),
            "remove `lookback`",
        ),
        _ => match duration::parse(at) {
            Ok(duration) => return Some(Lookback::Time(duration)),
            Err(message) => (message, ""),
        },
    };
    judge.wrong("bad-cursor", &at.span, message, hint);
    None
}

/// A sink that replaces its file would throw away what earlier runs fetched.
fn replaced(judge: &mut Judge<'_>, spec: &PipelineSpec, name: &At<String>, stream: &StreamSpec) {
    for sink in sink::written(spec, stream) {
        let replaces = |mode: &At<ModeSpec>| mode.value == ModeSpec::Replace;
        if sink.mode.as_ref().is_none_or(replaces) {
            let place = sink.mode.as_ref().map(|mode| mode.span.clone());
            let place = place.or_else(|| sink::path(sink).map(|path| path.span));
            let message = format!(
                "stream `{}` has a `cursor`, but this sink replaces its file: what earlier runs fetched would be gone",
                name.value
            );
            let hint = "add `mode: merge` (needs a `key`: newest version of each record) or `mode: append` (a file each run, in a folder)";
            judge.wrong(
                "cursor-with-replace",
                &place.unwrap_or_else(|| name.span.clone()),
                message,
                hint,
            );
        }
    }
}

/// A cursor that no request looks at narrows nothing; to be asked when all templates of the
/// stream were judged.
pub(super) fn used(judge: &mut Judge<'_>, stream: &StreamSpec) {
    let Some(cursor) = &stream.cursor else { return };
    let seen = matches!(judge.cursor, CursorSight::Seen { .. });
    if seen && !judge.cursor_used && cursor.newest_first != Some(true) {
        let message = "no request uses `cursor.from`, so every run would fetch everything";
        let hint = "send it, as in `query: { since: \"{{ cursor.from }}\" }`, or add `newest_first: true` if that is how pages come";
        judge.wrong("unused-cursor", &cursor.start.span, message, hint);
    }
}
