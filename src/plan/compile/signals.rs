//! `signals` of a limit: where answers say how much of it is left.

use super::names::Judge;
use super::scope::Scope;
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
    let judged = all.map(|one| one.as_ref().map(|at| judge.expr(at, &Scope::signals())));
    if judged.iter().any(|one| matches!(one, Some(None))) {
        return None;
    }
    let [remaining, used, reset, pause] = judged.map(Option::flatten);
    Some(SignalsPlan {
        left: remaining.map(Left::Remaining).or(used.map(Left::Used)),
        reset,
        pause,
        trust,
    })
}
