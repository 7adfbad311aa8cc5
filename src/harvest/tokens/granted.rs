//! What the answer of a token endpoint or a login comes to: a token, another try, or a failure that says
//! what to do. Nothing is sent here.

use http::StatusCode;

use super::logins;
use super::renew::{PLACE, Said};
use crate::clock::Instant;
use crate::event::FailureClass;
use crate::failure::{Exit, Failure};
use crate::fetch::grant::{self, Grant, Granted, Refusal};
use crate::fetch::transport::Request;
use crate::harvest::attempt::outcome::Answer;
use crate::harvest::attempt::verdict::{self, Trouble, Verdict};
use crate::harvest::stream::Stream;
use crate::harvest::trouble;
use crate::plan::auth::TokenPlan;

/// Error codes of token endpoints that pass (RFC 6749, section 4.1.2.1; RFC 8628, section 3.5).
const PASSING: [&str; 3] = ["temporarily_unavailable", "server_error", "slow_down"];

impl Stream {
    /// Calls a token endpoint; `ungranted` is what to do where it does not take what it was sent.
    pub(in crate::harvest) async fn granted(
        &self,
        request: &Request,
        grant: &Grant,
        plan: &TokenPlan,
        ungranted: &str,
    ) -> Result<(Granted, Instant), Box<Failure>> {
        let is_basic = grant.shown_client().is_some();
        let reading =
            |answer: &Answer| self.read_grant(answer, plan.carry_said, is_basic, ungranted);
        self.call(request, &reading).await
    }

    /// What a token endpoint's answer says (RFC 6749, sections 5.1 and 5.2).
    fn read_grant(
        &self,
        answer: &Answer,
        any_kind: bool,
        is_basic: bool,
        ungranted: &str,
    ) -> Result<Granted, Said> {
        let shown = self.run.show_url(&answer.url);
        let refusal = match grant::read(answer.status, &answer.body) {
            Ok(granted) => {
                let kind = granted.kind.as_deref().unwrap_or("bearer");
                if any_kind || kind.eq_ignore_ascii_case("bearer") {
                    return Ok(granted);
                }
                let kind = trouble::shorten(kind, 40);
                let message = format!("{shown} gave a token of the kind \"{kind}\"");
                let hint = "a token that is not called `bearer` is sent as its API says: write it under `as`";
                return Err(self.failed(&message, Some(hint)));
            }
            Err(refusal) => refusal,
        };
        let by_status = self.status_of(answer);
        match (refusal, by_status) {
            (Refusal::Error { code, words }, Verdict::Accept | Verdict::Fail { .. }) => {
                let shown_code = trouble::shorten(&code, 60);
                let words = words.map_or(String::new(), |words| {
                    format!(" (\"{}\")", trouble::shorten(&words, 200))
                });
                let message = format!("{shown} refuses: {shown_code}{words}");
                if PASSING.contains(&code.as_str()) {
                    return Err(Said::Again(Trouble::transient(message)));
                }
                Err(self.failed(&message, Some(advice(&code, is_basic, ungranted))))
            }
            (_, Verdict::Accept) => Err(self.suspect(answer, "is no token answer")),
            (_, other) => Err(self.refused(answer, other)),
        }
    }

    /// What a login's answer says.
    pub(in crate::harvest) fn read_login(
        &self,
        answer: &Answer,
        plan: &TokenPlan,
    ) -> Result<Granted, Said> {
        match self.status_of(answer) {
            Verdict::Accept => {}
            other => return Err(self.refused(answer, other)),
        }
        match logins::read(plan, answer, self.run.world.clock.calendar()) {
            Ok((access, lifetime)) => Ok(Granted {
                access,
                kind: None,
                lifetime,
                refresh: None,
            }),
            Err(problem) => {
                let shown = self.run.show_url(&answer.url);
                let message = self.quoted(&format!("{shown}: {problem}"), answer);
                let hint = "compare `token` and `expires` under `source.auth.login` with an answer of the API";
                Err(self.failed(&message, Some(hint)))
            }
        }
    }

    fn status_of(&self, answer: &Answer) -> Verdict {
        let now = self.run.world.clock.calendar();
        match answer.status {
            // Logins may answer with nothing but a header.
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT => Verdict::Accept,
            status => verdict::by_status(status, &answer.headers, now),
        }
    }

    /// An answer whose status says that it brings no token.
    fn refused(&self, answer: &Answer, verdict: Verdict) -> Said {
        let shown = self.run.show_url(&answer.url);
        match verdict {
            Verdict::Trouble(mut trouble) => {
                let message = format!("{shown} answers {}", trouble.message);
                trouble.message = self.quoted(&message, answer);
                Said::Again(trouble)
            }
            Verdict::Fail { message, hint } => {
                let message = self.quoted(&format!("{shown} answers {message}"), answer);
                let hint = match answer.status.as_u16() {
                    400 | 401 | 403 | 422 => Some(
                        "the credential under `source.auth` is not taken: are its secrets set, current, and of the right kind?",
                    ),
                    300..=399 => Some(
                        "a call that carries secrets follows no redirect: write the address that is meant under `source.auth`",
                    ),
                    404 | 405 | 410 => {
                        Some("check the address under `source.auth` with the API's documentation")
                    }
                    _ => hint.as_deref(),
                };
                self.failed(&message, hint)
            }
            _ => self.suspect(answer, "is not understood"),
        }
    }

    fn suspect(&self, answer: &Answer, what: &str) -> Said {
        let shown = self.run.show_url(&answer.url);
        let status = verdict::show(answer.status);
        let message = format!("the answer of {shown} ({status}) {what}");
        Said::Again(Trouble {
            class: FailureClass::Suspect,
            message: self.quoted(&message, answer),
            told: None,
            slow: false,
            hint: None,
        })
    }

    fn quoted(&self, message: &str, answer: &Answer) -> String {
        match trouble::server_words(&answer.body) {
            Some(words) => format!("{message}: {}", self.run.secrets.scrub(&words)),
            None => message.to_owned(),
        }
    }

    fn failed(&self, message: &str, hint: Option<&str>) -> Said {
        let message = self.run.secrets.scrub(&trouble::at(PLACE, message));
        let mut failure = Failure::new(Exit::Failed, message);
        failure.hint = hint.map(str::to_owned);
        Said::Fail(Box::new(failure))
    }
}

/// What to do about an error of RFC 6749, section 5.2.
fn advice<'a>(code: &str, is_basic: bool, ungranted: &'a str) -> &'a str {
    match code {
        "invalid_client" if is_basic => {
            "check `id` and `secret` under `source.auth`; some servers want them in the form: `in: body`"
        }
        "invalid_client" => {
            "check `id` and `secret` under `source.auth`; some servers want them in a header: `in: basic`"
        }
        "invalid_grant" if !ungranted.is_empty() => ungranted,
        "unauthorized_client" => {
            "the client is known but may not have tokens like this: see what its registration allows"
        }
        "unsupported_grant_type" => {
            "this server gives no tokens like this: see which of client_credentials, refresh_token, jwt and login its documentation names"
        }
        "invalid_scope" => "check `scope` under `source.auth` with the API's documentation",
        "invalid_request" => {
            "something is missing or wrong in the form: see whether the server wants `scope`, `audience` or members of its own (`form`)"
        }
        _ => "look at the message of the server, and at its documentation",
    }
}
