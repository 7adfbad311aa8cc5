//! `signals` of a limit: where answers say how much of it is left.

use super::names::Judge;
use super::scope::Scope;
use crate::plan::language::Expr;
use crate::plan::limit::{Left, SignalsPlan};
use crate::spec::at::At;
use crate::spec::source::SignalsSpec;

/// The signals of one limit, or nothing where a mistake was noted.
pub(super) fn signals(judge: &mut Judge<'_>, written: &At<SignalsSpec>) -> Option<SignalsPlan> {
    let spec = &written.value;
    let trust = spec.trust.unwrap_or(false);
    let all = [&spec.remaining, &spec.used, &spec.reset, &spec.pause];
    if !trust && all.iter().all(|one| one.is_none()) {
        let hint = "say where answers tell it, as in `signals: { remaining: body.quota_remaining }`, or remove `signals`";
        judge.wrong("bad-limit", &written.span, "`signals` says nothing", hint);
        return None;
    }
    if let (Some(_), Some(used)) = (&spec.remaining, &spec.used) {
        let message = "a limit cannot have both `remaining` and `used`";
        let hint = "each tells the other: keep the one that the API sends";
        judge.wrong("bad-limit", &used.span, message, hint);
        return None;
    }
    // All of them are judged, so that all mistakes are told at once.
    let [remaining, used, reset, pause] = all.map(|one| expr(judge, one.as_ref()));
    let left = match (remaining?, used?) {
        (Some(remaining), _) => Some(Left::Remaining(remaining)),
        (None, used) => used.map(Left::Used),
    };
    Some(SignalsPlan {
        left,
        reset: reset?,
        pause: pause?,
        trust,
    })
}

/// The expression, if one is written; nothing where it is wrong.
fn expr(judge: &mut Judge<'_>, written: Option<&At<String>>) -> Option<Option<Expr>> {
    written.map_or(Some(None), |at| judge.expr(at, &Scope::signals()).map(Some))
}
