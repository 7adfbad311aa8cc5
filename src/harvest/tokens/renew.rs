//! Having a token made: the call of a token endpoint or a login, with permits and retries like any request.
//!
//! It follows no redirect, goes to the address in the file and nowhere else, and carries nothing of the
//! API's own credential. On a task of its own, for a stream that fails takes its tasks with it, and an
//! answer that nobody reads may hold the only token that is left.

use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use tokio::sync::OwnedMutexGuard;

use super::auth;
use super::{How, Login, Statement, Token, Tokens};
use crate::clock::Instant;
use crate::event::{Fact, FailureClass};
use crate::failure::{Exit, Failure};
use crate::fetch::agent;
use crate::fetch::credentials::Credentials;
use crate::fetch::grant::Granted;
use crate::fetch::transport::{Boxed, Request};
use crate::harvest::answer::SUSPECT_ATTEMPTS;
use crate::harvest::attempt::backoff::Backoff;
use crate::harvest::attempt::circuit::Came;
use crate::harvest::attempt::exchange::Errand;
use crate::harvest::attempt::outcome::{Answer, Outcome};
use crate::harvest::attempt::turn::Under;
use crate::harvest::attempt::verdict::Trouble;
use crate::harvest::run::Run;
use crate::harvest::stream::Stream;
use crate::harvest::trouble;
use crate::limits;
use crate::plan::auth::{AuthPlan, TokenPlan};

/// Where a call for a token is made, for people.
pub(in crate::harvest) const PLACE: &str = "auth";

/// A statement is dated back by so much, for clocks differ (GitHub asks for it), but by a quarter of its
/// life at most.
const DATED_BACK: Duration = Duration::from_mins(1);

/// What an answer comes to that brings no token.
pub(in crate::harvest) enum Said {
    /// It may be asked again.
    Again(Trouble),
    /// It may not.
    Fail(Box<Failure>),
}

/// What an answer came to, and when it was asked for.
pub(in crate::harvest) type Reading<'a> =
    dyn Fn(&Answer) -> Result<Granted, Said> + Send + Sync + 'a;

impl Stream {
    /// The token that requests carry now; `None` where the credential is one that lasts.
    pub(in crate::harvest) async fn ready(&self) -> Result<Option<Arc<Token>>, Box<Failure>> {
        let run = &self.run;
        let Some(tokens) = &run.tokens else {
            return Ok(None);
        };
        if let Some(token) = tokens.fresh(run.world.clock.now()) {
            return Ok(Some(token));
        }
        let line = Arc::clone(&tokens.line).lock_owned();
        let line = run.until_stopped(line).await?;
        // Whoever stood in line before may have had it made.
        if let Some(token) = tokens.fresh(run.world.clock.now()) {
            return Ok(Some(token));
        }
        if let Some(failure) = tokens.failed() {
            return Err(failure);
        }
        match tokio::spawn(have(Arc::clone(run), self.at, line)).await {
            Ok(had) => had.map(Some),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// A new token.
    async fn renew(&self) -> Result<Token, Box<Failure>> {
        let run = &self.run;
        let (Some(tokens), AuthPlan::Token(plan)) = (&run.tokens, &run.plan.source.auth) else {
            return Err(Box::new(Failure::usage("there is no token to renew")));
        };
        match &tokens.how {
            How::Client(grant) => {
                let form = [("grant_type", "client_credentials")];
                let request = grant.request(&form);
                let (granted, had) = self.granted(&request, grant, plan, "").await?;
                self.token(plan, granted.access, had, granted.lifetime)
            }
            How::Assertion { statement, grant } => {
                let signed = self.sign(statement)?;
                let form = [
                    ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                    ("assertion", signed.as_str()),
                ];
                let request = grant.request(&form);
                let hint = "the server does not take the statement: check `iss`, `sub`, `aud`, `kid` and this machine's clock";
                let (granted, had) = self.granted(&request, grant, plan, hint).await?;
                self.token(plan, granted.access, had, granted.lifetime)
            }
            How::Refresh { grant, first, file } => self.refresh(grant, first, file, plan).await,
            How::Signed(statement) => {
                let had = run.world.clock.now();
                let signed = self.sign(statement)?;
                let life = statement.lifetime.saturating_sub(back(statement.lifetime));
                self.token(plan, signed, had, Some(life))
            }
            How::Login(login) => {
                let request = self.login_request(login)?;
                let reading = |answer: &Answer| self.read_login(answer, plan);
                let (granted, had) = self.call(&request, &reading).await?;
                self.token(plan, granted.access, had, granted.lifetime)
            }
        }
    }

    /// A token that was had, hidden from now on.
    pub(in crate::harvest) fn token(
        &self,
        plan: &TokenPlan,
        text: String,
        had: Instant,
        lifetime: Option<Duration>,
    ) -> Result<Token, Box<Failure>> {
        let run = &self.run;
        run.secrets.learn("access token", &text);
        let credentials = auth::credentials(&plan.carry, &run.names, Some(&text))?;
        Ok(Token::new(text, credentials, had, lifetime))
    }

    /// Signs a statement that holds from now on.
    fn sign(&self, statement: &Statement) -> Result<String, Box<Failure>> {
        let now = self.run.world.clock.calendar().as_second();
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let begins = now - seconds(back(statement.lifetime));
        let ends = begins.saturating_add(seconds(statement.lifetime));
        let mut claims = statement.claims.clone();
        claims.push(("iat".to_owned(), begins.to_string()));
        claims.push(("exp".to_owned(), ends.to_string()));
        if statement.is_exchanged && !claims.iter().any(|(name, _)| name == "jti") {
            // Servers may refuse a statement that they have seen (RFC 7523, section 3).
            let id = format!("\"{:016x}{:016x}\"", fastrand::u64(..), fastrand::u64(..));
            claims.push(("jti".to_owned(), id));
        }
        let signed = statement.key.sign(statement.kid.as_deref(), &claims);
        let signed = signed.map_err(|problem| {
            Box::new(Failure::new(Exit::Failed, format!("{PLACE}: {problem}")))
        })?;
        self.run.secrets.learn("signed statement", &signed);
        Ok(signed)
    }

    fn login_request(&self, login: &Login) -> Result<Request, Box<Failure>> {
        let mut request = login.request.clone();
        if let Some(statement) = &login.statement {
            let signed = Credentials::bearer(&self.sign(statement)?);
            let signed = signed.map_err(|problem| {
                Box::new(Failure::usage(format!("`source.auth.login`: {problem}")))
            })?;
            request.headers.remove(AUTHORIZATION);
            signed.attach(&mut request);
        }
        Ok(request)
    }

    /// Sends it until there is an answer that decides; and when the deciding one was asked for.
    pub(in crate::harvest) async fn call(
        &self,
        request: &Request,
        reading: &Reading<'_>,
    ) -> Result<(Granted, Instant), Box<Failure>> {
        let run = &self.run;
        let (clock, retry) = (run.world.clock, run.plan.source.retry);
        let started = clock.now();
        let shown = format!("{} {}", request.method, run.show_url(&request.url));
        let mut backoff: Option<Backoff> = None;
        let (mut attempt, mut taken) = (0, 0);
        loop {
            attempt += 1;
            let mut under = Under::default();
            let mut trouble = match self.one_call(request, &mut under, reading).await? {
                Ok(granted) => {
                    run.hosts.give_back(&request.url, taken);
                    return Ok(granted);
                }
                Err(Said::Fail(failure)) => return Err(failure),
                Err(Said::Again(trouble)) => trouble,
            };
            trouble.message = run.secrets.scrub(&trouble.message);
            if let Some(begun) = &mut backoff {
                begun.excuse(under.in_line);
            }
            let backoff = backoff.get_or_insert_with(|| {
                Backoff::new(clock, retry.page_deadline, run.seed ^ u64::from(attempt))
            });
            let most = match trouble.class {
                FailureClass::Suspect => SUSPECT_ATTEMPTS.min(retry.attempts),
                _ => retry.attempts,
            };
            let is_over = run.tokens.as_ref().is_some_and(Tokens::is_closed);
            let delay = (attempt < most && !is_over)
                .then(|| backoff.next())
                .flatten();
            let paid = match delay {
                Some(_) if trouble.class != FailureClass::Throttle => {
                    run.hosts.repeat(&request.url, trouble.slow)
                }
                _ => Some(0),
            };
            taken = paid.unwrap_or_default();
            let too_long = trouble.told.filter(|told| *told > retry.max_wait);
            let again = delay.filter(|_| paid.is_some() && too_long.is_none());
            let again = again.map(|delay| clock.now() + trouble.delay(delay));
            self.emit(Fact::AttemptFailed {
                stream: self.name.clone(),
                place: PLACE.to_owned(),
                request: shown.clone(),
                class: trouble.class,
                message: trouble.message.clone(),
                attempt,
                of: most,
                retry_at: again.map(|at| clock.calendar_at(at)),
            });
            let Some(again) = again else {
                let passed = clock.now().saturating_duration_since(started);
                let too_long = too_long.map(|told| (told, retry.max_wait));
                let mut failure =
                    trouble::given_up(&trouble, &shown, PLACE, attempt, passed, too_long, false);
                if trouble.class == FailureClass::Suspect {
                    let hint =
                        "check the address under `source.auth`: what answers there gives no tokens";
                    failure.hint = Some(hint.to_owned());
                }
                return Err(if paid.is_none() {
                    trouble::unpaid(failure)
                } else {
                    failure
                });
            };
            self.wait_out(&trouble, again, &mut under).await?;
        }
    }

    /// One call, under a permit of its own.
    async fn one_call(
        &self,
        request: &Request,
        under: &mut Under,
        reading: &Reading<'_>,
    ) -> Result<Result<(Granted, Instant), Said>, Box<Failure>> {
        let run = &self.run;
        let mut wire = request.clone();
        agent::fill(&mut wire.headers, &run.agent);
        let needs = run.limits.needs(&limits::Asked {
            method: &wire.method,
            url: &wire.url,
            credential: true,
            variables: &[],
            cost: &[],
        });
        let needs = match needs {
            Ok(needs) => under.needs.insert(needs).clone(),
            Err(why) => return Ok(Err(Said::Fail(trouble::no_turn(&why, PLACE)))),
        };
        let url = wire.url.clone();
        let changes = |tokens: &Tokens| matches!(tokens.how, How::Refresh { .. });
        let errand = Errand::Token {
            is_paid: run.tokens.as_ref().is_some_and(changes),
        };
        let sent = self.exchange(wire, &errand, &needs, under).await?;
        let (response, sent_at, permit, pass) = match sent {
            Ok(exchanged) => exchanged,
            Err(outcome) => return Ok(Err(said(outcome))),
        };
        let status = response.status;
        let asked = (&[][..], PLACE, 1);
        let read = self.read((response, sent_at), permit, under, url, None, asked);
        let answer = match read.await? {
            Ok(answer) => answer,
            Err(outcome) => {
                pass.came(outcome.came(None));
                return Ok(Err(said(outcome)));
            }
        };
        let granted = reading(&answer);
        let class = match &granted {
            Err(Said::Again(trouble)) => Some(trouble.class),
            _ => None,
        };
        if class != Some(FailureClass::Throttle) {
            self.heed(under);
        }
        pass.came(match class {
            Some(FailureClass::Throttle) if run.plan.source.limits.is_empty() => Came::Throttle,
            Some(FailureClass::Transient) if !status.is_success() => Came::Failure,
            _ => Came::Answer,
        });
        Ok(granted.map(|granted| (granted, sent_at)))
    }
}

/// Has a token made, and tells all who wait. Boxed, for it sends like any request, and a request waits
/// for a token.
fn have(
    run: Arc<Run>,
    at: usize,
    line: OwnedMutexGuard<()>,
) -> Boxed<'static, Result<Arc<Token>, Box<Failure>>> {
    Box::pin(async move {
        let stream = Stream::new(Arc::clone(&run), at);
        let had = stream.renew().await;
        let told = match (had, &run.tokens) {
            (Ok(token), Some(tokens)) => Ok(tokens.hold(token)),
            (Err(failure), Some(tokens)) => {
                let failure = run.secrets.scrub_failure(failure);
                tokens.fail(&failure);
                Err(failure)
            }
            (Ok(_), None) => Err(crate::harvest::run::interrupted()),
            (Err(failure), None) => Err(failure),
        };
        drop(line);
        told
    })
}

fn back(lifetime: Duration) -> Duration {
    DATED_BACK.min(lifetime / 4)
}

fn said(outcome: Outcome) -> Said {
    match outcome {
        Outcome::Trouble(trouble, _) => Said::Again(trouble),
        Outcome::Fail(failure)
        | Outcome::Stale(failure)
        | Outcome::Refused(failure)
        | Outcome::Unread(_, failure)
        | Outcome::TooLarge(failure)
        | Outcome::Expired(failure) => Said::Fail(failure),
        Outcome::Page(..) | Outcome::NotReady(_) => {
            Said::Again(Trouble::transient("an answer without meaning".to_owned()))
        }
    }
}
