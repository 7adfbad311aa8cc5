//! Types of columns from one publish to the next: one that has become wider is told, for those who read
//! the files have to know, and no type is changed in silence.
//!
//! Types are those of the outputs, kept in the history; what is compared with is the widest of the runs
//! before. `expect.schema` holds such a change; without it, it is published and told.

use std::collections::BTreeMap;

use crate::failure::Failure;
use crate::harvest::ground::standing::SharedState;
use crate::harvest::publish::Output;
use crate::harvest::stream::Stream;
use crate::plan::sink::SinkMode;
use crate::plan::typed::Kind;
use crate::sink::infer::{Column, Mixing, join};

/// The types of an output's columns, by name.
pub(in crate::harvest) type Types = BTreeMap<String, Kind>;

/// The types of what is about to be published; those that are wider than before are told.
pub(in crate::harvest) fn types<'o>(
    stream: &Stream,
    outputs: impl Iterator<Item = &'o Output>,
    state: Option<&SharedState>,
) -> Result<Option<Types>, Box<Failure>> {
    let run = &stream.run;
    let mut schemas = outputs.filter_map(|output| output.schema.as_ref());
    let (Some(schema), true) = (schemas.next(), run.options.limit_records.is_none()) else {
        return Ok(None);
    };
    let known: Vec<Types> = stream.noted(state, "types", |_| true)?;
    let was = |name: &str| {
        let kinds = known.iter().filter_map(|types| types.get(name).copied());
        kinds.reduce(|one, other| join(one, other, Mixing::Exact))
    };
    for column in &schema.columns {
        let (Some(was), Some(is)) = (was(&column.name), column.kind) else {
            continue;
        };
        if join(was, is, Mixing::Exact) != was {
            stream.notice(&widened(
                column,
                was,
                is,
                stream.plan().sinks.iter().map(|s| s.mode),
            ));
        }
    }
    let types = schema.columns.iter();
    let types = types.filter_map(|column| Some((column.name.clone(), column.kind?)));
    Ok(Some(types.collect()))
}

fn widened(column: &Column, was: Kind, is: Kind, modes: impl Iterator<Item = SinkMode>) -> String {
    let example = match &column.widened {
        Some(by) => format!(": {} in row {}, after {}", by.by, by.row, by.was),
        None => match column.examples.first() {
            Some(value) => format!(": {value}"),
            None => String::new(),
        },
    };
    let mut modes = modes;
    let old = if modes.any(|mode| mode == SinkMode::Append) {
        "; what earlier runs added keeps its type"
    } else {
        ""
    };
    format!(
        "column `{}` was {was} in earlier runs and is {is}{example}{old}; `expect.schema` would hold it",
        column.name
    )
}
