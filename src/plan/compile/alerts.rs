//! `schedule.on_failure` and `schedule.ping`: addresses, a command.
//!
//! A run that nobody watches needs none of it, so secrets that only stand here may be missing.

use super::names::Judge;
use super::scope::Scope;
use crate::plan::alerts::{AlertPlan, PingPlan};
use crate::plan::language::Template;
use crate::spec::at::At;
use crate::spec::choice::ScalarOr;
use crate::spec::schedule::{OnFailureSpec, ScheduleSpec};

/// Who hears; nothing where a mistake was noted.
pub(super) fn alerts(judge: &mut Judge<'_>, spec: Option<&ScheduleSpec>) -> Option<AlertPlan> {
    let Some(spec) = spec else {
        return Some(AlertPlan::default());
    };
    judge.aside(|judge| {
        let on_failure = spec.on_failure.as_ref();
        let webhook = each(judge, on_failure.and_then(|at| at.value.webhook.as_ref()));
        let command = command(judge, on_failure);
        let ping = match spec.ping.as_ref().map(|at| &at.value) {
            None => Some(None),
            Some(ScalarOr::Short(base)) => {
                let at = spec.ping.as_ref().map(|at| at.with(base.clone()));
                each(judge, at.as_ref()).map(|base| base.map(PingPlan::Below))
            }
            Some(ScalarOr::Long(ping)) => {
                let start = each(judge, ping.start.as_ref());
                let success = each(judge, ping.success.as_ref());
                let failure = each(judge, ping.failure.as_ref());
                (|| {
                    Some(Some(PingPlan::Each {
                        start: start?,
                        success: success?,
                        failure: failure?,
                    }))
                })()
            }
        };
        Some(AlertPlan {
            webhook: webhook?,
            command: command?,
            ping: ping?,
        })
    })
}

/// An address, if there is one; nothing where a mistake was noted.
#[expect(clippy::option_option, reason = "none written, or none good")]
fn each(judge: &mut Judge<'_>, at: Option<&At<String>>) -> Option<Option<Template>> {
    let Some(at) = at else { return Some(None) };
    let template = judge.template(at, &Scope::alert())?;
    let is_http = at.starts_with("http://") || at.starts_with("https://");
    if is_http || template.begins_with_expression() {
        return Some(Some(template));
    }
    let message = format!("`{}` is no http or https URL", at.value);
    let hint = "as in `https://hooks.example.org/…`, or a secret: `\"{{ secret.WEBHOOK }}\"`";
    judge.wrong("bad-alert", &at.span, message, hint);
    None
}

#[expect(clippy::option_option, reason = "none written, or none good")]
fn command(judge: &mut Judge<'_>, at: Option<&At<OnFailureSpec>>) -> Option<Option<Vec<String>>> {
    let Some(at) = at else { return Some(None) };
    let Some(command) = &at.value.command else {
        if at.value.webhook.is_none() {
            let message = "`on_failure` says nothing to do";
            judge.wrong("bad-alert", &at.span, message, "add `webhook` or `command`");
            return None;
        }
        return Some(None);
    };
    let words: Vec<String> = match &command.value {
        ScalarOr::Short(text) if text.trim().is_empty() => Vec::new(),
        ScalarOr::Short(text) => ["sh", "-c", text].map(str::to_owned).to_vec(),
        ScalarOr::Long(words) => words.iter().map(|word| word.value.clone()).collect(),
    };
    if words
        .first()
        .is_none_or(|program| program.trim().is_empty())
    {
        let hint = "a program and its arguments: `[notify-send, gleaner]`; text is run by `sh -c`";
        judge.wrong(
            "bad-alert",
            &command.span,
            "`command` names no program",
            hint,
        );
        return None;
    }
    Some(Some(words))
}
