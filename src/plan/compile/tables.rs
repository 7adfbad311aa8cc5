//! Tables: streams that name one file write it together, so what they say of it must agree.

use std::collections::HashMap;
use std::ops::Range;

use super::names::Judge;
use super::sink;
use super::stream::merged;
use crate::plan::language::Template;
use crate::plan::sink::is_by_stream;
use crate::plan::{ColumnFrom, ColumnPlan, StreamPlan};
use crate::spec::PipelineSpec;
use crate::spec::at::At;
use crate::spec::stream::StreamSpec;

/// The paths that a stream writes, as they stand in the file.
pub(super) fn files(spec: &PipelineSpec, stream: &StreamSpec) -> Vec<String> {
    let merged = merged(spec.defaults.as_ref(), stream);
    let paths = sink::written(spec, &merged).iter().filter_map(sink::output);
    paths.map(|path| path.value).collect()
}

/// Whether streams that write these paths write the same files.
pub(super) fn is_shared(paths: &[String]) -> bool {
    let by_stream = |path: &String| Template::parse(path).is_ok_and(|path| is_by_stream(&path));
    !paths.is_empty() && !paths.iter().any(by_stream)
}

/// Judges all tables, and gives the streams of each the columns of all of them.
pub(super) fn tables(judge: &mut Judge<'_>, spec: &PipelineSpec, streams: &mut [StreamPlan]) {
    twice(judge, spec);
    let tables = found(judge, spec, streams);
    waits(judge, spec, streams, &tables);
    for table in tables.iter().filter(|table| table.len() > 1) {
        if agree(judge, spec, streams, table) {
            unite(streams, table);
        }
    }
}

/// A stream whose sinks name one file.
fn twice(judge: &mut Judge<'_>, spec: &PipelineSpec) {
    for (name, stream) in &spec.streams.0 {
        let merged = merged(spec.defaults.as_ref(), stream);
        let mut seen: Vec<String> = Vec::new();
        for path in sink::written(spec, &merged).iter().filter_map(sink::output) {
            if seen.contains(&path.value) {
                let message = format!("stream `{}` writes this file twice", name.value);
                judge.wrong("sink-shared", &path.span, message, "leave one of them out");
            }
            seen.push(path.value);
        }
    }
}

/// The streams of each table, by their places among the plans.
fn found(judge: &mut Judge<'_>, spec: &PipelineSpec, streams: &[StreamPlan]) -> Vec<Vec<usize>> {
    let mut tables: Vec<Vec<usize>> = Vec::new();
    for (at, stream) in streams.iter().enumerate() {
        let mut home = None;
        for (number, table) in tables.iter().enumerate() {
            let Some(other) = table.first().and_then(|first| streams.get(*first)) else {
                continue;
            };
            let meets = stream.sinks.iter().any(|sink| {
                !sink.is_by_stream() && other.sinks.iter().any(|o| o.place() == sink.place())
            });
            if !meets {
                continue;
            }
            let mut both = stream.sinks.iter().zip(&other.sinks);
            if stream.sinks.len() == other.sinks.len()
                && both.all(|(a, b)| a.is_same(b) && !a.is_by_stream())
            {
                home = Some(number);
            } else {
                judge.wrong(
                    "sink-shared",
                    &place(spec, stream),
                    format!(
                        "streams `{}` and `{}` both write this file, but not all of their sinks are the same",
                        other.name, stream.name
                    ),
                    "streams that write one table have all sinks in common: say them once, under the file's `sink`; or put `{{ stream }}` into the path",
                );
            }
        }
        match home.and_then(|number| tables.get_mut(number)) {
            Some(table) => table.push(at),
            None => tables.push(vec![at]),
        }
    }
    tables
}

/// The streams of a table are published together, so none of them may wait for what waits for another.
fn waits(
    judge: &mut Judge<'_>,
    spec: &PipelineSpec,
    streams: &[StreamPlan],
    tables: &[Vec<usize>],
) {
    let home: HashMap<&str, usize> = tables
        .iter()
        .enumerate()
        .flat_map(|(number, table)| table.iter().map(move |at| (*at, number)))
        .filter_map(|(at, number)| Some((streams.get(at)?.name.as_str(), number)))
        .collect();
    let of_table = |number: usize| {
        let members = tables.get(number).into_iter().flatten();
        members.filter_map(|at| streams.get(*at))
    };
    for (number, table) in tables
        .iter()
        .enumerate()
        .filter(|(_, table)| table.len() > 1)
    {
        // All that its streams run over, outside of it.
        let mut due: Vec<(usize, &str)> = Vec::new();
        let mut seen = Vec::new();
        let parents = |table: usize| {
            of_table(table)
                .flat_map(StreamPlan::parents)
                .filter_map(|parent| Some((*home.get(parent)?, parent)))
                .filter(move |(other, _)| *other != table)
                .collect::<Vec<_>>()
        };
        due.extend(parents(number));
        while let Some((other, parent)) = due.pop() {
            if other == number {
                let names: Vec<&str> = of_table(number).map(|one| one.name.as_str()).collect();
                let last = table.last().and_then(|at| streams.get(*at));
                let Some(last) = last else { break };
                judge.wrong(
                    "sink-shared",
                    &place(spec, last),
                    format!(
                        "the table of `{}` would wait for itself: a stream between two of its streams runs over the records of `{parent}` and is published after them",
                        names.join("` and `")
                    ),
                    "give them files of their own: put `{{ stream }}` into the path",
                );
                break;
            }
            if !seen.contains(&other) {
                seen.push(other);
                due.extend(parents(other));
            }
        }
    }
}

/// Whether the streams of a table have one key and columns that fit together.
fn agree(
    judge: &mut Judge<'_>,
    spec: &PipelineSpec,
    streams: &[StreamPlan],
    table: &[usize],
) -> bool {
    let mut members = table.iter().filter_map(|at| streams.get(*at));
    let Some(first) = members.next() else {
        return false;
    };
    let mut is_well = true;
    let mut wrong = |span: &Range<usize>, message: String, hint: &str| {
        judge.wrong("sink-shared", span, message, hint);
        is_well = false;
    };
    let mut kinds: HashMap<&str, &ColumnPlan> = HashMap::new();
    let columns = |stream: &StreamPlan| stream.columns.is_some();
    let names = format!("`{}`", first.name);
    for column in first.columns.iter().flatten() {
        kinds.insert(&column.name, column);
    }
    for stream in members {
        let both = format!("streams {names} and `{}` write one table", stream.name);
        if stream.key != first.key {
            let show = |key: &[String]| match key {
                [] => "none".to_owned(),
                key => format!("`{}`", key.join(", ")),
            };
            wrong(
                &place(spec, stream),
                format!(
                    "{both}, but their keys differ: {} and {}",
                    show(&first.key),
                    show(&stream.key)
                ),
                "give them the same `key`, as under `defaults`: it tells that two of their records are one",
            );
        }
        if columns(stream) != columns(first) {
            wrong(
                &place(spec, stream),
                format!("{both}, but only one of them has `columns`"),
                "declare columns for both, or for none",
            );
            continue;
        }
        for column in stream.columns.iter().flatten() {
            let known = *kinds.entry(&column.name).or_insert(column);
            let kind = |column: &ColumnPlan| column.typed.as_ref().map(|typed| typed.kind);
            if kind(known) != kind(column) {
                let show = |column: &ColumnPlan| match kind(column) {
                    Some(kind) => format!("{kind}"),
                    None => "without a type".to_owned(),
                };
                wrong(
                    &place(spec, stream),
                    format!(
                        "{both}, but its column `{}` is {} in one and {} in the other",
                        column.name,
                        show(known),
                        show(column)
                    ),
                    "give it the same `type` in both",
                );
            }
        }
    }
    is_well
}

/// Gives the streams of a table all columns of the table, in order of first appearance.
fn unite(streams: &mut [StreamPlan], table: &[usize]) {
    let mut all: Vec<ColumnPlan> = Vec::new();
    for at in table {
        for column in streams
            .get(*at)
            .into_iter()
            .flat_map(|one| one.columns.iter().flatten())
        {
            if !all.iter().any(|known| known.name == column.name) {
                all.push(absent(column));
            }
        }
    }
    for at in table {
        let Some(columns) = streams.get_mut(*at).and_then(|one| one.columns.as_mut()) else {
            continue;
        };
        let mut own: HashMap<String, ColumnPlan> = std::mem::take(columns)
            .into_iter()
            .map(|column| (column.name.clone(), column))
            .collect();
        let united = all
            .iter()
            .map(|one| own.remove(&one.name).unwrap_or_else(|| absent(one)));
        *columns = united.collect();
    }
}

/// A column that only other streams have; it keeps its type.
fn absent(column: &ColumnPlan) -> ColumnPlan {
    ColumnPlan {
        typed: column.typed.clone(),
        ..ColumnPlan::new(column.name.clone(), ColumnFrom::Nothing)
    }
}

/// Where a stream names its file; that of a plan whose sinks come from elsewhere is its name.
fn place(spec: &PipelineSpec, stream: &StreamPlan) -> Range<usize> {
    let written = spec
        .streams
        .0
        .iter()
        .find(|(name, _)| name.value == stream.name);
    let Some((name, one)) = written else {
        return 0..0;
    };
    let merged = merged(spec.defaults.as_ref(), one);
    let path: Option<At<String>> = sink::written(spec, &merged).iter().find_map(sink::path);
    path.map_or_else(|| name.span.clone(), |path| path.span)
}
