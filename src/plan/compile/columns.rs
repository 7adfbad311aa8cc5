//! `columns` and `key`: what becomes of a record on its way out.

use jiff::tz::TimeZone;

use super::names::Judge;
use super::scope::Scope;
use crate::plan::path::{Path, Step};
use crate::plan::position::Format;
use crate::plan::typed::{Kind, OnBad, Typed};
use crate::plan::{ColumnFrom, ColumnPlan};
use crate::spec::at::At;
use crate::spec::choice::{ScalarOr, Table};
use crate::spec::near;
use crate::spec::stream::{ColumnKindSpec, ColumnSpec, LongColumnSpec, OnBadSpec, StreamSpec};

/// All columns, or nothing where a mistake was noted.
pub(super) fn columns(
    judge: &mut Judge<'_>,
    table: &Table<ColumnSpec>,
    scope: &Scope,
) -> Option<Vec<ColumnPlan>> {
    let all: Vec<_> = (table.0.iter())
        .map(|(name, column)| self::column(judge, name, column, scope))
        .collect();
    all.into_iter().collect()
}

fn column(
    judge: &mut Judge<'_>,
    name: &At<String>,
    spec: &ColumnSpec,
    scope: &Scope,
) -> Option<ColumnPlan> {
    let plan = match &spec.0 {
        None => ColumnPlan::new(&name.value, own_name(name)),
        Some(at) => match &at.value {
            ScalarOr::Short(written) => {
                let from = from(judge, &at.with(written.clone()), scope)?;
                ColumnPlan::new(&name.value, from)
            }
            ScalarOr::Long(long) => self::long(judge, name, long, scope)?,
        },
    };
    let place = match (&spec.0, &plan.from) {
        (Some(at), _) if matches!(at.value, ScalarOr::Short(_)) => &at.span,
        _ => &name.span,
    };
    Some(ColumnPlan {
        place: Some(judge.place(place)),
        ..plan
    })
}

/// A bare name that is no path (`@id`) is the name of one field.
fn own_name(name: &At<String>) -> ColumnFrom {
    ColumnFrom::Path(Path::parse(&name.value).unwrap_or_else(|_| Path {
        steps: vec![Step::Key(name.value.clone())],
    }))
}

fn from(judge: &mut Judge<'_>, at: &At<String>, scope: &Scope) -> Option<ColumnFrom> {
    if at.contains("{{") || at.contains("{%") {
        judge.template(at, scope).map(ColumnFrom::Template)
    } else {
        judge.path(at).map(ColumnFrom::Path)
    }
}

fn long(
    judge: &mut Judge<'_>,
    name: &At<String>,
    spec: &LongColumnSpec,
    scope: &Scope,
) -> Option<ColumnPlan> {
    let from = match (&spec.from, &spec.jq) {
        (None, None) => Some(own_name(name)),
        (Some(at), None) => self::from(judge, at, scope),
        (None, Some(at)) => judge.jq(at).map(ColumnFrom::Jq),
        (Some(_), Some(jq)) => {
            let message = "a column comes `from` a place or is made by `jq`, not both";
            judge.wrong(
                "several-variants",
                &jq.span,
                message,
                "keep one; `jq: .a.b` looks into a field",
            );
            None
        }
    };
    let typed = self::typed(judge, spec);
    if let Some(at) = &spec.on_bad_value
        && spec.kind.is_none()
        && spec.jq.is_none()
    {
        let hint = "add `type:`";
        judge.wrong(
            "bad-column",
            &at.span,
            "without a type no value is bad",
            hint,
        );
    }
    let on_bad = match spec.on_bad_value.as_ref().map(|at| at.value) {
        None | Some(OnBadSpec::Fail) => OnBad::Fail,
        Some(OnBadSpec::Null) => OnBad::Null,
        Some(OnBadSpec::Reject) => OnBad::Reject,
    };
    Some(ColumnPlan {
        typed: typed.ok()?,
        on_bad,
        ..ColumnPlan::new(&name.value, from?)
    })
}

/// The type, if there is one; `Err` where a mistake was noted.
fn typed(judge: &mut Judge<'_>, spec: &LongColumnSpec) -> Result<Option<Typed>, ()> {
    let kind = spec.kind.as_ref().map(|kind| match kind.value {
        ColumnKindSpec::Text => Kind::Text,
        ColumnKindSpec::Integer => Kind::Integer,
        ColumnKindSpec::Number => Kind::Number,
        ColumnKindSpec::Boolean => Kind::Boolean,
        ColumnKindSpec::Date => Kind::Date,
        ColumnKindSpec::Timestamp => Kind::Timestamp,
        ColumnKindSpec::Json => Kind::Json,
    });
    let is_time = matches!(kind, Some(Kind::Date | Kind::Timestamp));
    let mut good = true;
    for (key, at) in [("format", &spec.format), ("zone", &spec.zone)] {
        if let Some(at) = at
            && !is_time
        {
            let message = format!("`{key}` is for columns of type `date` and `timestamp`");
            judge.wrong(
                "bad-column",
                &at.span,
                message,
                "add such a `type`, or remove it",
            );
            good = false;
        }
    }
    let format = match &spec.format {
        Some(at) if is_time => match Format::parse(at) {
            Ok(format) if format.is_time() => Some(format),
            Ok(_) => {
                let message = format!("`{}` is no way to spell a time", at.value);
                let hint = "write `iso`, `epoch`, `epoch_ms`, or a pattern such as `%d/%m/%Y`";
                judge.wrong("bad-column", &at.span, message, hint);
                None
            }
            Err((message, hint)) => {
                judge.wrong("bad-column", &at.span, message, &hint);
                None
            }
        },
        _ => Some(Format::Iso),
    };
    let zone = match &spec.zone {
        None => Some(TimeZone::UTC),
        Some(at) => judge.zone(at),
    };
    let (Some(format), Some(zone), true) = (format, zone, good) else {
        return Err(());
    };
    Ok(kind.map(|kind| Typed { kind, format, zone }))
}

/// Names of output columns that together identify a record.
pub(super) fn key(judge: &mut Judge<'_>, spec: &StreamSpec) -> Vec<String> {
    let names: Vec<At<String>> = match &spec.key {
        None => Vec::new(),
        Some(at) => match &at.value {
            ScalarOr::Short(name) => vec![at.with(name.clone())],
            ScalarOr::Long(names) => names.clone(),
        },
    };
    if let Some(columns) = &spec.columns {
        let known = || columns.0.iter().map(|(name, _)| name.value.as_str());
        for name in &names {
            if !known().any(|column| column == name.value) {
                let hint = near::hint(name, known().collect::<Vec<_>>(), "columns");
                let message = format!("`key` names `{}`, which is not a column", name.value);
                judge.wrong("unknown-column", &name.span, message, &hint);
            }
        }
    }
    names.into_iter().map(|name| name.value).collect()
}
