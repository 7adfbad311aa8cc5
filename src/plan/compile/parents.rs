//! `{stream: NAME}` in `for`: which streams are parents of which, and what a child sees of them.

use std::num::NonZeroUsize;

use super::names::Judge;
use super::scope::Scope;
use super::stream::tables;
use crate::plan::partition::Generator;
use crate::spec::PipelineSpec;
use crate::spec::at::At;
use crate::spec::choice::Table;
use crate::spec::near;
use crate::spec::stream::{ForSpec, GeneratorSpec};

/// The variables that templates of a stream see: its own, each after those of the stream it runs
/// over.
pub(super) fn in_sight(spec: &PipelineSpec, own: Option<&Table<At<ForSpec>>>) -> Vec<String> {
    let mut found = Vec::new();
    collect(spec, own, &mut Vec::new(), &mut found);
    found
}

/// The variables of the partitions of the stream `name`: what its children inherit.
pub(super) fn variables(spec: &PipelineSpec, name: &str) -> Vec<String> {
    in_sight(spec, of(spec, name).as_ref())
}

/// `for` of a stream, `defaults` merged in.
fn of(spec: &PipelineSpec, name: &str) -> Option<Table<At<ForSpec>>> {
    let base = spec.defaults.as_ref().and_then(|d| d.partitions.as_ref());
    tables(base, spec.streams.get(name)?.partitions.as_ref())
}

fn collect(
    spec: &PipelineSpec,
    table: Option<&Table<At<ForSpec>>>,
    above: &mut Vec<String>,
    found: &mut Vec<String>,
) {
    for (variable, one) in table.iter().flat_map(|table| &table.0) {
        if let Some(parent) = parent(&one.value)
            && !above.contains(&parent.value)
        {
            above.push(parent.value.clone());
            collect(spec, of(spec, parent).as_ref(), above, found);
            above.pop();
        }
        if !found.contains(&variable.value) {
            found.push(variable.value.clone());
        }
    }
}

/// Whether a stream runs over windows of time, its own or those of a stream above it. A variable
/// that says nothing of what it runs over, a mistake of its own, may have been meant as one.
pub(super) fn has_windows(spec: &PipelineSpec, name: &str) -> bool {
    runs_over_windows(spec, name, &mut Vec::new())
}

fn runs_over_windows(spec: &PipelineSpec, name: &str, seen: &mut Vec<String>) -> bool {
    if seen.iter().any(|known| known == name) {
        return false;
    }
    seen.push(name.to_owned());
    let table = of(spec, name).unwrap_or_default();
    table.0.iter().any(|(_, one)| match &one.value {
        ForSpec::Generated(long) => match &long.stream {
            Some(parent) => runs_over_windows(spec, parent, seen),
            None => long.dates.is_some() || (long.range.is_none() && long.file.is_none()),
        },
        ForSpec::List(_) | ForSpec::Text(_) => false,
    })
}

fn parent(one: &ForSpec) -> Option<&At<String>> {
    match one {
        ForSpec::Generated(long) => long.stream.as_ref(),
        ForSpec::List(_) | ForSpec::Text(_) => None,
    }
}

/// Whether `from` runs, over however many others, over records of `to`.
fn reaches(spec: &PipelineSpec, from: &str, to: &str, seen: &mut Vec<String>) -> bool {
    if from == to {
        return true;
    }
    if seen.iter().any(|known| known == from) {
        return false;
    }
    seen.push(from.to_owned());
    let table = of(spec, from).unwrap_or_default();
    let mut parents = table.0.iter().filter_map(|(_, one)| parent(&one.value));
    parents.any(|parent| reaches(spec, parent, to, seen))
}

/// `{stream: …}`, or nothing where a mistake was noted. `scope` is what templates of `for` see
/// here, the parent's variables among it.
pub(super) fn generator(
    judge: &mut Judge<'_>,
    spec: &PipelineSpec,
    (stream, variable): (&At<String>, &At<String>),
    parent: &At<String>,
    long: &GeneratorSpec,
    scope: &Scope,
) -> Option<Generator> {
    let is_known = spec.streams.get(parent).is_some();
    let is_loop = is_known && reaches(spec, parent, stream, &mut Vec::new());
    if !is_known {
        let names = spec.streams.0.iter().map(|(name, _)| name.value.as_str());
        let hint = near::hint(parent, names.collect::<Vec<_>>(), "streams of this file");
        let message = format!("there is no stream `{}`", parent.value);
        judge.wrong("unknown-stream", &parent.span, message, &hint);
    } else if is_loop {
        let message = if parent.value == stream.value {
            format!("`{}` runs over its own records", stream.value)
        } else {
            format!(
                "`{}` runs over records of `{}`, which runs over records of `{0}`",
                stream.value, parent.value
            )
        };
        let hint = "a stream begins with what is known: a list, a range, a file, or one request";
        judge.wrong("stream-loop", &parent.span, message, hint);
    }
    let batch = match &long.batch {
        None => Some(None),
        Some(at) => {
            let size = usize::try_from(at.value).ok().and_then(NonZeroUsize::new);
            if size.is_none() {
                let message = format!("a batch of {} holds nothing", at.value);
                let hint = "write how many records one request takes: `batch: 100`";
                judge.wrong("bad-number", &at.span, message, hint);
            }
            size.map(Some)
        }
    };
    let only = match &long.only {
        None => Some(None),
        Some(at) => {
            let names = scope.names.iter().map(String::as_str);
            let scope = Scope::only(variable).and(names);
            judge.expr(at, &scope).map(Some)
        }
    };
    let is_good = is_known && !is_loop;
    Some(Generator::Stream {
        stream: parent.value.clone(),
        only: only?,
        batch: batch?,
    })
    .filter(|_| is_good)
}
