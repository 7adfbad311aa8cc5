//! Whether a run can be gone on with under the plan of today: what it asks must not have changed.

use std::fmt::Write;

use crate::failure::Failure;
use crate::harvest::run::Run;
use crate::plan::StreamPlan;
use crate::plan::identity::may_come_later;
use crate::plan::partition::Generator;
use crate::store::row::{Identity, RunStart};

/// So many names of changed fields are told.
const SHOWN: usize = 4;

/// Refuses to go on with a run that asked for something else, and names the fields.
pub(in crate::harvest) fn refuse_change(run: &Run, start: &RunStart) -> Result<(), Box<Failure>> {
    let of_run = |stream: &StreamPlan| start.streams.iter().any(|name| **name == *stream.name);
    // Without a choice, a stream that came to the file belongs to the run too.
    let all = run.options.streams.is_empty();
    let now = identity(run, &|stream| all || of_run(stream));
    let before = &start.identity;
    let mut changed = before.changed(&now);
    changed.retain(|name| before.has(name) || !may_come_later(name));
    if changed.is_empty() {
        return Ok(());
    }
    if run.options.reextracts() {
        return Err(Box::new(
            Failure::usage(format!(
                "what run {} keeps was asked for otherwise: {} changed since",
                run.id,
                listed(&changed)
            ))
            .hint("columns, key, `expect` and sinks may change; for the rest run again, or take the change back"),
        ));
    }
    Err(Box::new(
        Failure::usage(format!(
            "run {} is not finished and cannot go on: {} changed since",
            run.id,
            listed(&changed)
        ))
        .hint("`--fresh` discards what it keeps and starts anew; or take the change back"),
    ))
}

/// What must stay the same while a run is unfinished.
pub(in crate::harvest) fn identity(run: &Run, chosen: &dyn Fn(&StreamPlan) -> bool) -> Identity {
    let mut identity = Identity::default();
    for (name, text) in run.plan.identity(chosen) {
        identity.add(&name, &[&text]);
    }
    for (name, value) in run.secrets.env() {
        identity.add(&format!("env.{name}"), &[value]);
    }
    for stream in run.plan.streams.iter().filter(|stream| chosen(stream)) {
        if let Some(cursor) = &stream.cursor {
            // Pages of two windows are not one harvest.
            let window = format!("{cursor:?} {:?}", run.options.backfill);
            identity.add(&format!("streams.{}.cursor", stream.name), &[&window]);
        }
        for (variable, generator) in &stream.partitions {
            let Generator::File { path, .. } = generator else {
                continue;
            };
            // A path that takes other variables: the fingerprint of each request holds them.
            if let Ok(path) = path.text(&run.names.request(&[]))
                && let Ok(bytes) = std::fs::read(run.world.root.join(&path))
            {
                let field = format!("streams.{}.for.{variable}: {path}", stream.name);
                identity.add(&field, &[&String::from_utf8_lossy(&bytes)]);
            }
        }
    }
    identity
}

/// `a`, `b` and 3 more
fn listed(names: &[String]) -> String {
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}
