//! What an answer means for its stream: a page with records, trouble, or a failure.

mod doubt;
pub(super) mod edit;
mod headers;
pub(super) mod large;
pub(super) mod mistakes;
pub(super) mod understand;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use minijinja::Value;
use url::Url;

use super::attempt::once::Spot;
use super::attempt::outcome::{Answer, Good, Outcome, Sent};
use super::attempt::verdict::{self, Trouble, Verdict};
use super::stream::Stream;
use super::trouble;
use crate::event::FailureClass;
use crate::failure::{Exit, Failure};
use crate::plan::json::Numbers;
use crate::plan::request::BodyPlan;
use crate::records::format::Read;
use crate::records::page::Page;
use crate::records::problem::SelectError;
use crate::records::view;

/// What to do where the API refuses somebody who sent no credential.
const ANONYMOUS: &str = "no credential was sent: say which under `source.auth`, or see whether its secret is empty; some APIs also want `contact`";

/// What to do where a partition was begun again and again, or cannot be.
const EXPIRED: &str = "`restart` begins a partition again whose paging has ended; where that does not help, make the partitions smaller, or the pages larger";

/// What to do where the API refuses a token that was had a moment ago.
const STALE: &str = "a new token was refused too: check that `source.auth` has it from the right place, with the `scope` or `audience` that this API asks for, and sends it as the API wants it (`as`)";

/// What to do about errors in an answer that is a success.
const GRAPHQL_ERRORS: &str = "correct the query or its variables; where such an answer means something else, say so: `responses: [{ if: body.errors.0.type == \"RATE_LIMITED\", then: wait }]`";

/// A success that is not what was declared is tried this often: once may be a hiccup of a proxy.
pub(super) const SUSPECT_ATTEMPTS: u32 = 2;

/// Most bytes of an answer in a message.
const MOST_SAMPLE: usize = 160;

/// A body as conditions see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    /// As it came: `text`.
    sent: &'a [u8],
    /// As JSON: `body`.
    json: &'a [u8],
}

impl<'a> Seen<'a> {
    /// A body, and what it is as JSON where it came as something else.
    pub(super) fn of(sent: &'a [u8], json: Option<&'a Bytes>) -> Self {
        Self {
            sent,
            json: json.map_or(sent, |json| json),
        }
    }
}

fn good(answer: Answer, page: Page, last: bool) -> Outcome {
    Outcome::Page(Box::new(Good {
        answer,
        page,
        large: None,
        last,
    }))
}

impl Stream {
    /// What the answer means, and its records if it is a page.
    pub(super) fn judge(
        &self,
        answer: Answer,
        read: Read,
        variables: &[(String, Value)],
        spot: &Spot<'_>,
        attempt: u32,
    ) -> Outcome {
        let place = spot.text;
        let now = self.run.world.clock.calendar();
        let selected = read.page;
        let json = read.json;
        let by_rules = if self.plan().responses.is_empty() {
            None
        } else {
            let names = self.answer_names(
                answer.status,
                &answer.headers,
                Seen::of(&answer.body, json.as_ref()),
                variables,
                attempt,
                selected.as_ref().ok(),
            );
            match verdict::by_rules(&self.plan().responses, &names, &answer.headers, now) {
                Ok(verdict) => verdict,
                Err(problem) => {
                    let sample = self.beginning(&answer.body);
                    let failure = mistakes::rule("responses", &problem, place, sample);
                    return self.unread(answer, failure, Outcome::Fail);
                }
            }
        };
        let by_rules = by_rules.or_else(|| self.by_key(answer.status));
        let by_default = || match self.by_status(&answer, now) {
            Verdict::Accept if self.has_graphql_errors(&answer.body) => Verdict::Fail {
                message: "the API answers with `errors`".to_owned(),
                hint: Some(GRAPHQL_ERRORS.to_owned()),
            },
            verdict => verdict,
        };
        let is_ruled = by_rules.is_some();
        match by_rules.unwrap_or_else(by_default) {
            Verdict::Accept if !is_ruled => {
                let selected = selected.and_then(|page| self.undoubted(page, spot.is_later));
                self.accept(answer, selected, place, attempt, false)
            }
            Verdict::Accept => self.accept(answer, selected, place, attempt, false),
            Verdict::Last => self.accept(answer, selected, place, attempt, true),
            Verdict::Skip => good(answer, Page::default(), true),
            Verdict::Expired(message) => {
                let message = self.quote(&message, &answer.body);
                let hint = Some(EXPIRED.to_owned());
                Outcome::Expired(self.refuse(Verdict::Fail { message, hint }, &answer.url, place))
            }
            Verdict::TooLarge(message) => {
                let message = self.quote(&message, &answer.body);
                let verdict = Verdict::Fail {
                    message,
                    hint: None,
                };
                Outcome::TooLarge(self.refuse(verdict, &answer.url, place))
            }
            Verdict::NotReady(not_ready) => Outcome::NotReady(not_ready),
            Verdict::Trouble(mut trouble) => {
                trouble.message = self.quote(&trouble.message, &answer.body);
                // 429, and 503 with a hint, prove that nothing was done (RFC 6585, section 4).
                let sent = if trouble.class == FailureClass::Throttle {
                    Sent::No
                } else {
                    Sent::Perhaps
                };
                Outcome::Trouble(trouble, sent)
            }
            Verdict::Stale { message } => {
                let message = self.quote(&message, &answer.body);
                let hint = Some(STALE.to_owned());
                Outcome::Stale(self.refuse(Verdict::Fail { message, hint }, &answer.url, place))
            }
            Verdict::Fail { message, hint } => {
                let message = self.quote(&message, &answer.body);
                let anonymous =
                    self.run.credentials.is_empty() && matches!(answer.status.as_u16(), 401 | 403);
                let hint = hint.map(|hint| {
                    if anonymous {
                        ANONYMOUS.to_owned()
                    } else {
                        hint
                    }
                });
                let failure = self.refuse(Verdict::Fail { message, hint }, &answer.url, place);
                match answer.status.as_u16() {
                    // It is the one who asks that is refused (RFC 9110, sections 15.5.2, 15.5.4 and
                    // 15.5.8).
                    401 | 403 | 407 => Outcome::Fail(failure),
                    _ => Outcome::Refused(failure),
                }
            }
        }
    }

    /// Judges by status; where tokens end, a 401 is about the token (RFC 6750, section 3.1).
    fn by_status(&self, answer: &Answer, now: jiff::Timestamp) -> Verdict {
        if answer.status == StatusCode::UNAUTHORIZED && self.run.renews() {
            let message = verdict::show(answer.status);
            return Verdict::Stale { message };
        }
        verdict::by_status(answer.status, &answer.headers, now)
    }

    /// How often a page is tried whose attempts end so.
    pub(super) fn most_attempts(&self, class: FailureClass) -> u32 {
        let attempts = self.run.plan.source.retry.attempts;
        match class {
            FailureClass::Suspect if self.plan().request.once.is_strict() => 1,
            FailureClass::Suspect => SUSPECT_ATTEMPTS.min(attempts),
            _ => attempts,
        }
    }

    /// An answer that fails the stream.
    pub(super) fn refuse(&self, verdict: Verdict, url: &Url, place: &str) -> Box<Failure> {
        let (message, hint) = match verdict {
            Verdict::Fail { message, hint } => (message, hint),
            other => (format!("{other:?}"), None),
        };
        Box::new(Failure {
            exit: Exit::Failed,
            message: self.run.secrets.scrub(&trouble::at(place, &message)),
            causes: vec![format!("asked {}", self.show_asked(url))],
            hint,
        })
    }

    fn accept(
        &self,
        answer: Answer,
        selected: Result<Page, SelectError>,
        place: &str,
        attempt: u32,
        last: bool,
    ) -> Outcome {
        // An answer without the records may be a hiccup too; said again, the path is what is wrong.
        let is_final = |error: &SelectError| match error {
            SelectError::Twice { .. } | SelectError::TooMuch => true,
            error => {
                let is_ours = error.is_ours() || self.is_paid();
                is_ours && attempt >= self.most_attempts(FailureClass::Suspect)
            }
        };
        match selected {
            Ok(page) => good(answer, page, last),
            Err(error) if !is_final(&error) => {
                let message = self.run.secrets.scrub(&format!(
                    "{} with a body that is no data: {error}",
                    verdict::show(answer.status)
                ));
                Outcome::Trouble(
                    Trouble {
                        // A file that just stops is what a broken connection leaves.
                        class: if error.is_cut() {
                            FailureClass::Transient
                        } else {
                            FailureClass::Suspect
                        },
                        message,
                        told: None,
                        slow: false,
                        hint: error.hint(),
                    },
                    Sent::Perhaps,
                )
            }
            Err(error) => {
                let failure = trouble::select(
                    &error,
                    &self.plan().records,
                    &self.show_asked(&answer.url),
                    place,
                    |t| self.run.secrets.scrub(t),
                );
                self.unread(answer, failure, Outcome::Refused)
            }
        }
    }

    /// An answer that fails the stream; what was paid for is kept all the same.
    fn unread(
        &self,
        answer: Answer,
        mut failure: Box<Failure>,
        usual: impl FnOnce(Box<Failure>) -> Outcome,
    ) -> Outcome {
        // Of nothing there is nothing to be read in another way.
        let is_something = answer.status.is_success() && !answer.body.is_empty();
        if !(self.sendings.is_some() && is_something) {
            return usual(failure);
        }
        let hint = failure.hint.take();
        let hint =
            hint.unwrap_or_else(|| "compare `format` and `records` with the answer".to_owned());
        failure.hint = Some(mistakes::kept(&hint));
        Outcome::Unread(Box::new(answer), failure)
    }

    /// How an answer begins, for people.
    pub(super) fn beginning(&self, body: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(body.get(..MOST_SAMPLE).unwrap_or(body));
        let more = if body.len() > MOST_SAMPLE { "…" } else { "" };
        let text = trouble::shorten(&text, MOST_SAMPLE) + more;
        let said = format!("the answer is {text}");
        (text.len() > more.len()).then(|| self.run.secrets.scrub(&said))
    }

    /// What was asked at last, after redirects, for people.
    fn show_asked(&self, url: &Url) -> String {
        let method = &self.plan().request.method;
        format!("{method} {}", self.run.show_url(url))
    }

    /// `message`, and what the server said of it, unless that is in it.
    fn quote(&self, message: &str, body: &[u8]) -> String {
        match trouble::server_words(body) {
            Some(words) if !message.contains(words.trim_matches('"')) => {
                format!("{message}: {}", self.run.secrets.scrub(&words))
            }
            _ => message.to_owned(),
        }
    }

    /// Whether a success of GraphQL tells of errors: part of its data may be missing
    /// (GraphQL specification, October 2021, section 7.1.2).
    fn has_graphql_errors(&self, body: &[u8]) -> bool {
        #[derive(serde::Deserialize)]
        struct Answer {
            #[serde(default)]
            errors: Option<Vec<serde::de::IgnoredAny>>,
        }
        matches!(self.plan().request.body, BodyPlan::Graphql { .. })
            && serde_json::from_slice::<Answer>(body)
                .is_ok_and(|answer| answer.errors.is_some_and(|errors| !errors.is_empty()))
    }

    /// What `responses` and `stop` see.
    pub(super) fn answer_names(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: Seen<'_>,
        variables: &[(String, Value)],
        attempt: u32,
        page: Option<&Page>,
    ) -> Value {
        let mut more = variables.to_vec();
        more.push(("status".to_owned(), Value::from(status.as_u16())));
        more.push(("headers".to_owned(), headers::value(headers)));
        more.push(("attempt".to_owned(), Value::from(attempt)));
        more.push((
            "body".to_owned(),
            view::of_body(body.json, Numbers::Numeric).unwrap_or(Value::UNDEFINED),
        ));
        if self.reads_text {
            more.push((
                "text".to_owned(),
                Value::from(String::from_utf8_lossy(body.sent).into_owned()),
            ));
        }
        if let Some(page) = page {
            more.push(("count".to_owned(), Value::from(page.count())));
            if let Some(last) = page.last() {
                more.push(("last".to_owned(), view::of_json(last, Numbers::Numeric)));
            }
        }
        self.run.names.answer(&more)
    }
}
