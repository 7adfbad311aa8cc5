//! `transform`: steps on whole records.

use super::names::Judge;
use super::scope::Scope;
use crate::plan::path::Path;
use crate::plan::transform::{Source, Step, StepPlan};
use crate::spec::at::At;
use crate::spec::choice::{ScalarOr, Table};
use crate::spec::transform::TransformSpec;

/// All steps, or nothing where a mistake was noted.
pub(super) fn transform(
    judge: &mut Judge<'_>,
    steps: Option<&Vec<At<TransformSpec>>>,
    scope: &Scope,
) -> Option<Vec<StepPlan>> {
    let all: Vec<_> = (steps.into_iter().flatten())
        .map(|step| self::step(judge, step, scope))
        .collect();
    all.into_iter().collect()
}

fn step(judge: &mut Judge<'_>, at: &At<TransformSpec>, scope: &Scope) -> Option<StepPlan> {
    let spec = &at.value;
    let mut found = Vec::new();
    if let Some(when) = &spec.only {
        found.push((&when.span, judge.expr(when, scope).map(Step::Where)));
    }
    if let Some(path) = &spec.explode {
        let step = one_place(judge, path).map(|path| Step::Explode {
            path,
            keep_empty: spec.keep_empty.as_ref().is_some_and(|keep| keep.value),
        });
        found.push((&path.span, step));
    } else if let Some(keep) = &spec.keep_empty {
        let message = "`keep_empty` belongs to `explode`";
        judge.wrong(
            "bad-transform",
            &keep.span,
            message,
            "add `explode: PATH`, or remove it",
        );
        return None;
    }
    if let Some(members) = &spec.add {
        found.push((&members.span, add(judge, members, scope)));
    }
    if let Some(names) = &spec.rename {
        let all: Vec<_> = (names.0.iter())
            .map(|(old, new)| Some((one_place(judge, old)?, new.value.clone())))
            .collect();
        let all: Option<Vec<_>> = all.into_iter().collect();
        found.push((&names.span, all.map(Step::Rename)));
    }
    if let Some(paths) = &spec.drop {
        let paths_written = match &paths.value {
            ScalarOr::Short(path) => vec![paths.with(path.clone())],
            ScalarOr::Long(paths) => paths.clone(),
        };
        let all: Vec<_> = paths_written.iter().map(|path| judge.path(path)).collect();
        let all: Option<Vec<_>> = all.into_iter().collect();
        found.push((&paths.span, all.map(Step::Drop)));
    }
    if let Some(jq) = &spec.jq {
        found.push((&jq.span, judge.jq(jq).map(Step::Jq)));
    }
    match &mut found[..] {
        [(span, step)] => Some(StepPlan {
            place: judge.place(span),
            step: step.take()?,
        }),
        [] => {
            let hint = "write one of `where`, `explode`, `add`, `rename`, `drop`, `jq`";
            judge.wrong(
                "empty-step",
                &at.span,
                "a step without anything to do",
                hint,
            );
            None
        }
        [_, (second, _), ..] => {
            let hint = "write a list item for each: steps are done in the order of the list";
            judge.wrong("several-variants", second, "a step does one thing", hint);
            None
        }
    }
}

/// A path to one place, which is not the record itself.
fn one_place(judge: &mut Judge<'_>, at: &At<String>) -> Option<Path> {
    let path = judge.path(at)?;
    if path.is_many() || path.steps.is_empty() {
        let message = format!("`{path}` is not one place inside a record");
        judge.wrong(
            "bad-path",
            &at.span,
            message,
            "name a member, as in `labels` or `user.login`",
        );
        return None;
    }
    Some(path)
}

fn add(judge: &mut Judge<'_>, members: &Table<At<String>>, scope: &Scope) -> Option<Step> {
    let all: Vec<_> = (members.0.iter())
        .map(|(name, written)| {
            let template = judge.template(written, scope)?;
            let source = match copied(&written.value) {
                Some(path) => Source::Copy(path, template.place()),
                None => Source::Template(template),
            };
            Some((name.value.clone(), source))
        })
        .collect();
    all.into_iter().collect::<Option<_>>().map(Step::Add)
}

/// The place that `{{ record.a.b }}` copies: no template could hold every value as it is spelled.
fn copied(written: &str) -> Option<Path> {
    let inner = written
        .trim()
        .strip_prefix("{{")?
        .strip_suffix("}}")?
        .trim();
    let place = inner.strip_prefix("record.")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if !place.chars().all(plain) {
        return None;
    }
    Path::parse(place).ok()
}
