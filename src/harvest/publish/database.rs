//! Tables of SQLite files as outputs of a stream: whose publish it is, and which rows it has to write.
//!
//! With `merge` a table that shows what was gathered up to the last publish only needs the records of
//! this run that count; the base says which these are. One that shows anything else is filled anew
//! from the base, so a table that was lost or has other columns now is whole after the next run.

use super::fitting;
use super::outgoing;
use super::repeats::Repeats;
use super::rows::Rows;
use super::{Output, PublishError};
use crate::failure::{Exit, Failure};
use crate::harvest::merge::gathered::Gathered;
use crate::harvest::merge::{self, Merged, Old};
use crate::plan::sink::{SinkMode, SinkPlan};
use crate::plan::{ColumnFrom, StreamPlan};
use crate::sink::database::{self, Claim, Fill, Place};
use crate::sink::{self, Columns, SinkError, Target};
use crate::store::cursors::Base;
use crate::store::hash::stable;

/// A database that cannot be used, found before the first request.
pub(in crate::harvest) fn failure(stream: &StreamPlan, error: &SinkError) -> Box<Failure> {
    Box::new(Failure {
        exit: if error.is_disk() {
            Exit::Disk
        } else {
            Exit::Failed
        },
        message: format!("{}: {error}", stream.name),
        causes: Vec::new(),
        hint: error.hint(),
    })
}

/// Writes the records of a run: all that there is, or what is added.
pub(in crate::harvest) fn build(
    rows: &Rows<'_>,
    repeats: &mut Repeats,
    sink: &SinkPlan,
    place: &Place,
) -> Result<Output, PublishError> {
    let fill = match sink.mode {
        SinkMode::Append => Fill::Added,
        SinkMode::Replace | SinkMode::Merge => Fill::Whole,
    };
    let claim = claim(rows, sink.mode, None);
    put(rows, sink, place, &claim, fill, &mut |each| {
        outgoing::each_row(rows, repeats, each)
    })
}

/// Brings a table to what was gathered.
pub(in crate::harvest) fn project(
    rows: &Rows<'_>,
    merged: &Merged,
    old: &[Old],
    sink: &SinkPlan,
    place: &Place,
) -> Result<Output, PublishError> {
    // Of several that become one no table shows what is gathered.
    let before = match old {
        [only] => Some(&only.base),
        _ => None,
    };
    let now = merged.new.as_ref().or(before).map(mark);
    let claim = claim(rows, sink.mode, now);
    let last = place.last()?.filter(|last| {
        last.mode == "merge" && last.definition == claim.definition && last.base.is_some()
    });
    let shown = last.and_then(|last| last.base);
    let before = before.map(mark);
    // Since the base that it shows nothing came but the records of this run; done twice, it is the same.
    let fill = if shown.is_some() && (shown == before || shown == claim.base) {
        Fill::Newest
    } else {
        Fill::Whole
    };
    let only = (fill == Fill::Newest).then_some(rows.run.started);
    put(rows, sink, place, &claim, fill, &mut |each| {
        merge::each_row(rows, &merged.path, only, each)
    })
}

fn put(
    rows: &Rows<'_>,
    sink: &SinkPlan,
    place: &Place,
    claim: &Claim,
    fill: Fill,
    each: &mut sink::Rows<'_, PublishError>,
) -> Result<Output, PublishError> {
    let columns = outgoing::columns(rows);
    let columns = Columns::of(&columns);
    let rejects = fitting::rejects(&Target::Table(place.clone()), sink.mode);
    let written = database::write(place, claim, fill, columns, rejects.as_ref(), each)?;
    Ok(written.into())
}

/// Names a state of a base.
fn mark(base: &Base) -> String {
    format!("{}:{}", base.generation, base.run)
}

fn claim(rows: &Rows<'_>, mode: SinkMode, base: Option<String>) -> Claim {
    let run = rows.run;
    let key = rows.members.first().map(|member| member.plan.key.clone());
    Claim {
        pipeline: run.plan.name.clone(),
        stream: rows.names(),
        run: run.id.clone(),
        at: run.world.clock.calendar().to_string(),
        mode,
        // What is added to may hold a record many times.
        key: match mode {
            SinkMode::Append => Vec::new(),
            SinkMode::Replace | SinkMode::Merge => key.unwrap_or_default(),
        },
        definition: definition(rows),
        base,
    }
}

/// What the columns and the keys are made of, as a number. Of which streams there are it depends whose
/// records of before the table shows (`gathered.rs`, `member_of`).
fn definition(rows: &Rows<'_>) -> String {
    let mut parts = vec![Gathered::of(rows).definition];
    parts.extend(rows.run.plan.streams.iter().map(|plan| plan.name.clone()));
    for member in &rows.members {
        for column in member.plan.columns.iter().flatten() {
            parts.push(column.name.clone());
            parts.push(match &column.from {
                ColumnFrom::Path(path) => path.to_string(),
                ColumnFrom::Template(template) => template.written().to_owned(),
                ColumnFrom::Jq(jq) => format!("jq {}", jq.written()),
                ColumnFrom::Nothing => "nothing".to_owned(),
            });
            parts.push(format!("{:?} {:?}", column.typed, column.on_bad));
        }
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    format!("{:016x}", stable(&parts))
}
