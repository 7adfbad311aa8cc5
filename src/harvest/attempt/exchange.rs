//! What goes on the wire, and its way there: credentials, turn, and the answer's head.

use http::Method;
use url::Url;

use super::hosts::Pass;
use super::once::Spot;
use super::outcome::{Asked, Outcome, Sent, timed_out, transient};
use super::turn::Under;
use crate::clock::Instant;
use crate::event::Fact;
use crate::failure::Failure;
use crate::fetch::origin::Refusal;
use crate::fetch::transport::{Request, Response, SendErrorKind};
use crate::harvest::stream::Stream;
use crate::harvest::tokens::renew::PLACE;
use crate::limits::{Needs, Permit};
use crate::plan::duration::show;

/// A token that ends while its request stands in line is renewed, and the request stands in line again;
/// so often, for the line may be longer than any token lives.
const ROUNDS: u32 = 3;

/// An answer's head with all that its request went out under, or what came in its place.
type Exchanged = Result<(Response, Instant, Permit, Pass), Outcome>;

/// What a request is sent for.
pub(in crate::harvest) enum Errand<'a> {
    /// A page.
    Page {
        /// Where it stands.
        spot: &'a Spot<'a>,
        /// Whether it may carry the token of the run, where there is one.
        trusted: bool,
    },
    /// A token.
    Token {
        /// Whether the answer is worth waiting for, whoever asks to stop: what it was had for is used up.
        is_paid: bool,
    },
}

impl Errand<'_> {
    /// Where it stands, for people.
    fn place(&self) -> &str {
        match self {
            Self::Page { spot, .. } => spot.text,
            Self::Token { .. } => PLACE,
        }
    }
}

impl Stream {
    /// What goes on the wire for a request: with credentials where its origin may see them, and
    /// otherwise without anything that may hold a secret. `Err` says why nothing goes. Whether a
    /// credential goes with it; a token is put on it last.
    pub(in crate::harvest) fn admit(&self, bare: &mut Request) -> Result<(Request, bool), Refusal> {
        let run = &self.run;
        let judgement = run.policy.judge(&bare.url);
        judgement.admit(bare)?;
        if !judgement.credentials() && run.secrets.is_in(bare.url.as_str()) {
            return Err(Refusal::Secret {
                origin: bare.url.origin().ascii_serialization(),
            });
        }
        let mut wire = bare.clone();
        if run.tokens.is_some() {
            run.credentials.detach(&mut wire);
        } else {
            run.credentials.apply(&judgement, &mut wire);
        }
        let credential = judgement.credentials() && !run.credentials.is_empty();
        Ok((wire, credential))
    }

    /// Sends one request under a permit; the permit stays out until the answer is read. Where it went on a
    /// connection that was kept and is gone, it is sent once more, at once, on one of its own and under a
    /// permit of its own (RFC 9110 section 9.2.2): no attempt has failed.
    pub(in crate::harvest) async fn exchange(
        &self,
        mut wire: Request,
        errand: &Errand<'_>,
        needs: &Needs,
        under: &mut Under,
    ) -> Result<Exchanged, Box<Failure>> {
        if !wire.fresh {
            let sent = self.sent(&mut wire, errand, needs, under).await?;
            if let Some(exchanged) = sent {
                return Ok(exchanged);
            }
            wire.fresh = true;
        }
        let sent = self.sent(&mut wire, errand, needs, under).await?;
        Ok(sent.unwrap_or_else(|| {
            Err(transient(
                "the connection was closed before an answer".to_owned(),
                Sent::Perhaps,
            ))
        }))
    }

    /// Sends one request once; nothing where the connection was kept and is gone.
    async fn sent(
        &self,
        wire: &mut Request,
        errand: &Errand<'_>,
        needs: &Needs,
        under: &mut Under,
    ) -> Result<Option<Exchanged>, Box<Failure>> {
        let run = &self.run;
        let clock = run.world.clock;
        let timeouts = run.plan.source.timeouts;
        let (pass, mut permit) = self.go(wire, errand, needs, under).await?;
        let is_paid = match errand {
            Errand::Page { spot, .. } => {
                if let Err(failure) = self.announce(spot).await {
                    permit.unsent();
                    return Err(failure);
                }
                self.is_paid()
            }
            Errand::Token { is_paid } => *is_paid,
        };
        self.emit(Fact::RequestSent {
            stream: self.name.clone(),
        });
        let sent_at = clock.now();
        let patience = timeouts.headers.min(under.time(timeouts.attempt, sent_at));
        let head = run
            .in_flight(
                clock.timeout_at(sent_at + patience, run.world.transport.send(wire.clone())),
                is_paid,
            )
            .await?;
        let outcome = match head {
            Ok(Ok(response)) => {
                permit.received();
                under.heard(&wire.method, response.status);
                run.mark_reached();
                return Ok(Some(Ok((response, sent_at, permit, pass))));
            }
            Ok(Err(error)) if error.kind == SendErrorKind::Dropped => return Ok(None),
            Ok(Err(error)) => {
                under.unheard(&error);
                self.send_trouble(
                    &error,
                    &self.asked_of(&wire.method, &wire.url),
                    errand.place(),
                )
            }
            Err(_) => timed_out(format!("no answer within {}", show(patience))),
        };
        pass.came(outcome.came(None));
        Ok(Some(Err(outcome)))
    }

    /// Waits for the token and for the turn, in this order: who waits for a token holds no permit.
    async fn go(
        &self,
        wire: &mut Request,
        errand: &Errand<'_>,
        needs: &Needs,
        under: &mut Under,
    ) -> Result<(Pass, Permit), Box<Failure>> {
        let run = &self.run;
        let mut rounds = 0;
        loop {
            let mut token = match errand {
                Errand::Page { trusted: true, .. } => self.ready().await?,
                _ => None,
            };
            let turn = self.turn(&wire.url, errand.place(), needs, &mut under.in_line);
            let (pass, permit) = turn.await?;
            if let (Some(held), Some(tokens)) = (&mut token, &run.tokens) {
                match tokens.fresh(run.world.clock.now()) {
                    Some(newest) => *held = newest,
                    None if rounds < ROUNDS => {
                        rounds += 1;
                        permit.unsent();
                        continue;
                    }
                    None => {}
                }
                held.credentials.attach(wire);
            }
            under.token = token;
            return Ok((pass, permit));
        }
    }

    fn asked_of(&self, method: &Method, url: &Url) -> Asked {
        Asked {
            request: format!("{method} {}", self.run.show_url(url)),
            origin: url.origin().ascii_serialization(),
        }
    }
}
