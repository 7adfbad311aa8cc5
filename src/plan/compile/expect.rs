//! `expect`: shares, columns that are there, instants that can be read.

use std::time::Duration;

use super::names::Judge;
use crate::plan::expect::{ExpectPlan, FreshPlan, SchemaRule};
use crate::plan::position::Format;
use crate::spec::at::At;
use crate::spec::choice::ScalarOr;
use crate::spec::expect::{ColumnsWordSpec, ExpectSpec, FreshSpec, SchemaWordSpec};
use crate::spec::near;
use crate::spec::stream::StreamSpec;

/// What a stream says, and `defaults` where it says nothing.
pub(super) fn merged(base: Option<&ExpectSpec>, over: Option<&ExpectSpec>) -> Option<ExpectSpec> {
    let (Some(base), Some(over)) = (base, over) else {
        return over.or(base).cloned();
    };
    Some(ExpectSpec {
        total: over.total.clone().or_else(|| base.total.clone()),
        min_records: over.min_records.or(base.min_records),
        max_pages: over.max_pages.or(base.max_pages),
        max_drop: over.max_drop.clone().or_else(|| base.max_drop.clone()),
        unique: over.unique.clone().or_else(|| base.unique.clone()),
        fresh: over.fresh.clone().or_else(|| base.fresh.clone()),
        nulls: super::stream::tables(base.nulls.as_ref(), over.nulls.as_ref()),
        schema: over.schema.clone().or_else(|| base.schema.clone()),
        columns: over.columns.clone().or_else(|| base.columns.clone()),
    })
}

/// The checks of a stream, or nothing where a mistake was noted.
pub(super) fn expect(judge: &mut Judge<'_>, stream: &StreamSpec) -> Option<ExpectPlan> {
    let Some(spec) = &stream.expect else {
        return Some(ExpectPlan::default());
    };
    let total = spec.total.as_ref().map(|path| judge.path(path));
    let max_drop = spec.max_drop.as_ref().map(|at| share(judge, at));
    let unique: Vec<At<String>> = match &spec.unique {
        None => Vec::new(),
        Some(at) => match &at.value {
            ScalarOr::Short(name) => vec![at.with(name.clone())],
            ScalarOr::Long(names) => names.clone(),
        },
    };
    let mut good = true;
    for name in &unique {
        good &= is_column(judge, stream, "expect.unique", name);
    }
    let fresh = spec.fresh.as_ref().map(|at| fresh(judge, &at.value));
    let mut nulls = Vec::new();
    for (name, most) in spec.nulls.iter().flat_map(|table| &table.0) {
        good &= is_column(judge, stream, "expect.nulls", name);
        nulls.push(share(judge, most).map(|share| (name.value.clone(), share)));
    }
    let closed = (spec.columns.as_ref()).filter(|at| at.value == ColumnsWordSpec::Closed);
    if let Some(at) = closed
        && stream.columns.is_none()
    {
        let message = "`expect.columns` is `closed`, and the stream declares no `columns`";
        let hint = "declare `columns`, or leave this out; `schema: same` holds what earlier runs did not have";
        judge.wrong("bad-expect", &at.span, message, hint);
        good = false;
    }
    good.then_some(())?;
    Some(ExpectPlan {
        total: match total {
            None => None,
            Some(total) => Some(total?),
        },
        min_records: spec.min_records,
        max_pages: spec.max_pages,
        max_drop: match max_drop {
            None => None,
            Some(share) => Some(share?),
        },
        unique: unique.into_iter().map(|name| name.value).collect(),
        fresh: match fresh {
            None => None,
            Some(fresh) => Some(fresh?),
        },
        nulls: nulls.into_iter().collect::<Option<_>>()?,
        schema: spec.schema.as_ref().map(|at| match at.value {
            SchemaWordSpec::Same => SchemaRule::Same,
            SchemaWordSpec::Grow => SchemaRule::Grow,
        }),
        closed: closed.is_some(),
    })
}

/// `50%`, as 50.
fn share(judge: &mut Judge<'_>, at: &At<String>) -> Option<f64> {
    let share = at.trim().strip_suffix('%');
    let share = share.and_then(|share| share.trim().parse::<f64>().ok());
    let share = share.filter(|share| (0.0..=100.0).contains(share));
    if share.is_none() {
        let message = format!("`{}` is not a share of 0% to 100%", at.value);
        judge.wrong("bad-share", &at.span, message, "write it as `5%`");
    }
    share
}

fn fresh(judge: &mut Judge<'_>, spec: &FreshSpec) -> Option<FreshPlan> {
    let field = judge.path(&spec.field);
    let within = judge.duration(Some(&spec.within), Duration::ZERO);
    let format = match &spec.format {
        None => Some(Format::Iso),
        Some(at) => match Format::parse(at) {
            Ok(format) if format.is_time() => Some(format),
            Ok(_) => {
                let message = format!("`{}` is no way to spell a time", at.value);
                let hint = "write `iso`, `epoch`, `epoch_ms`, or a pattern such as `%d/%m/%Y`";
                judge.wrong("bad-expect", &at.span, message, hint);
                None
            }
            Err((message, hint)) => {
                judge.wrong("bad-expect", &at.span, message, &hint);
                None
            }
        },
    };
    Some(FreshPlan {
        field: field?,
        written: spec.field.value.clone(),
        format: format?,
        within,
    })
}

/// Whether an output column has this name, as far as they are declared.
fn is_column(judge: &mut Judge<'_>, stream: &StreamSpec, key: &str, name: &At<String>) -> bool {
    let Some(columns) = &stream.columns else {
        return true;
    };
    let known = || columns.0.iter().map(|(name, _)| name.value.as_str());
    let is_known = known().any(|column| column == name.value);
    if !is_known {
        let hint = near::hint(name, known().collect::<Vec<_>>(), "columns");
        let message = format!("`{key}` names `{}`, which is not a column", name.value);
        judge.wrong("unknown-column", &name.span, message, &hint);
    }
    is_known
}
