//! One page, however many attempts it takes: permit, send, redirect, read, judge, decode; then
//! again, or give up. The only place of the run that waits before a repeat.

pub mod backoff;
pub(super) mod budget;
pub(super) mod circuit;
pub(super) mod exchange;
pub(super) mod fetched;
pub(super) mod hosts;
pub mod once;
pub(super) mod outcome;
pub(super) mod ready;
pub(super) mod sendings;
pub(super) mod told;
pub(super) mod turn;
pub(super) mod unchanged;
pub(super) mod verdict;

use std::sync::Arc;

use bytes::BytesMut;
use minijinja::Value;
use url::Url;

use self::backoff::Backoff;
use self::circuit::Came;
use self::exchange::Errand;
use self::fetched::Fetched;
use self::once::Spot;
use self::outcome::{Answer, Good, Outcome, Sent, Unfetched};
use self::turn::Under;
use super::answer::large::WHOLE;
use super::answer::understand::unread;
use super::stream::Stream;
use super::trouble;
use crate::clock::Instant;
use crate::event::{Fact, FailureClass};
use crate::failure::{Exit, Failure};
use crate::fetch::body::Beyond;
use crate::fetch::large::{Body, Spill};
use crate::fetch::redirect::{self, Hop};
use crate::fetch::transport::{Reach, Request, Response};
use crate::fetch::{agent, body};
use crate::limits::{self, Permit};
use crate::plan::request::Rendered;

/// So many tokens are tried for one page, where other processes have them made.
const MOST_TOKENS: u32 = 4;

impl Stream {
    /// Fetches one page. `variables` are the `for` values of its partition, `spot` is where it
    /// stands.
    pub(super) async fn fetch(
        &self,
        request: &Rendered,
        variables: &[(String, Value)],
        spot: &Spot<'_>,
    ) -> Result<Fetched, Unfetched> {
        self.refuse_repeat(spot)?;
        let (run, place) = (&self.run, spot.text);
        let retry = run.plan.source.retry;
        let mut reservation = self.reserve().await?;
        let started = run.world.clock.now();
        let mut backoff: Option<Backoff> = None;
        let mut attempt = 0;
        let mut not_ready_since = None;
        // What this attempt has cost its host's budget for retries.
        let mut taken = 0;
        // So many tokens were refused, one after the other.
        let mut refused = 0;
        loop {
            attempt += 1;
            let mut under = Under::default();
            under.room = reservation.room();
            let began = run.world.clock.now();
            under.left = backoff.as_ref().map(|backoff| (began, backoff.left()));
            let outcome = self
                .attempt(request, variables, spot, attempt, &mut under)
                .await?;
            // The page's time runs from what was sent first; a wait for a turn is not its fault.
            if let Some(begun) = &mut backoff {
                begun.excuse(under.in_line);
            }
            let sent = under.may_have_acted(&outcome);
            self.attempted(spot, sent);
            let trouble = match outcome {
                Outcome::Page(good) => {
                    let Good {
                        answer,
                        page,
                        large,
                        last,
                    } = *good;
                    // What is unpacked or is no JSON may grow.
                    let in_memory = if large.is_some() { 0 } else { answer.size };
                    let needed = in_memory.max(page.lines.len());
                    under.room.hold(needed).await;
                    if large.is_none() {
                        run.budget.learn(needed);
                    }
                    reservation.keep(std::mem::take(&mut under.room));
                    let occupied = answer.body.len() + page.lines.len();
                    reservation.shrink(occupied.max(in_memory));
                    run.hosts.give_back(&request.url, taken);
                    let Answer {
                        status,
                        headers,
                        body,
                        large: _,
                        size,
                        url,
                        took,
                    } = answer;
                    return Ok(Fetched {
                        page,
                        large,
                        transformed: None,
                        status,
                        headers,
                        body,
                        size,
                        url,
                        last,
                        took,
                        reservation,
                    });
                }
                Outcome::Fail(failure) => return Err(failure.into()),
                Outcome::NotReady(not_ready) => {
                    // The host answers: trouble before that has passed, and only so much in a row is too much.
                    // A rule's `within` sees to the end.
                    (attempt, refused) = (0, 0);
                    backoff = None;
                    run.hosts
                        .give_back(&request.url, std::mem::take(&mut taken));
                    drop(under);
                    drop(reservation);
                    let shown = self.show(request);
                    self.rest(&not_ready, &mut not_ready_since, &shown, place)
                        .await?;
                    reservation = self.reserve().await?;
                    continue;
                }
                Outcome::Refused(failure) => {
                    return Err(Unfetched {
                        is_refused: true,
                        ..failure.into()
                    });
                }
                Outcome::Unread(answer, failure) => {
                    let came = Some(self.pack_answer(*answer).await?);
                    return Err(Unfetched {
                        came,
                        ..failure.into()
                    });
                }
                Outcome::Expired(failure) => {
                    return Err(Unfetched {
                        is_expired: true,
                        ..failure.into()
                    });
                }
                Outcome::TooLarge(failure) => {
                    return Err(Unfetched {
                        is_too_large: true,
                        ..failure.into()
                    });
                }
                Outcome::Stale(_) if run.replays_renewal(refused, MOST_TOKENS) => {
                    refused += 1;
                    attempt -= 1;
                    continue;
                }
                Outcome::Stale(failure) => {
                    let (Some(carried), Some(tokens)) = (under.token.take(), &run.tokens) else {
                        return Err(failure.into());
                    };
                    // One that another process had may have been taken back long ago.
                    let is_enough = refused >= MOST_TOKENS || (refused > 0 && carried.is_new);
                    let has_acted = self.plan().request.once.is_strict() && sent == Sent::Perhaps;
                    if is_enough || has_acted {
                        return Err(failure.into());
                    }
                    tokens.refuse(&carried);
                    refused += 1;
                    // It was the token's fault, not the page's.
                    attempt -= 1;
                    continue;
                }
                Outcome::Trouble(mut trouble, _) => {
                    refused = 0;
                    trouble.message = run.secrets.scrub(&trouble.message);
                    trouble
                }
            };
            let now = run.world.clock.now();
            let backoff = backoff.get_or_insert_with(|| {
                let took = now.saturating_duration_since(began + under.in_line);
                Backoff::new(
                    run.world.clock,
                    retry.page_deadline.saturating_sub(took),
                    run.seed ^ request.fingerprint(),
                )
            });
            let most = self.most_attempts(trouble.class);
            let refused_repeat = self.plan().request.once.is_strict() && sent == Sent::Perhaps;
            let delay = if attempt >= most || refused_repeat {
                None
            } else {
                backoff.next()
            };
            // A throttle is paid for by its pause.
            let paid = match delay {
                Some(_) if trouble.class != FailureClass::Throttle => {
                    run.hosts.repeat(&request.url, trouble.slow)
                }
                _ => Some(0),
            };
            taken = paid.unwrap_or_default();
            let delay = delay.filter(|_| paid.is_some());
            let too_long = trouble.told.filter(|told| *told > retry.max_wait);
            let again = match (delay, too_long) {
                (Some(delay), None) => Some(now + trouble.delay(delay)),
                _ => None,
            };
            self.emit(Fact::AttemptFailed {
                stream: self.name.clone(),
                place: place.to_owned(),
                request: self.show(request),
                class: trouble.class,
                message: trouble.message.clone(),
                attempt,
                of: most,
                retry_at: again.map(|at| run.world.clock.calendar_at(at)),
            });
            let Some(again) = again else {
                let passed = now.saturating_duration_since(started);
                let said_why = refused_repeat || too_long.is_some() || run.was_reached();
                let failure = trouble::given_up(
                    &trouble,
                    &self.show(request),
                    place,
                    attempt,
                    passed,
                    too_long.map(|t| (t, retry.max_wait)),
                    refused_repeat,
                );
                let failure = if paid.is_none() {
                    trouble::unpaid(failure)
                } else if said_why {
                    failure
                } else {
                    trouble::never_answered(failure)
                };
                return Err(Unfetched {
                    is_refused: trouble.class == FailureClass::Suspect
                        && failure.exit == Exit::Failed
                        && !refused_repeat,
                    ..failure.into()
                });
            };
            self.wait_out(&trouble, again, &mut under).await?;
        }
    }

    /// One attempt, redirects included: each hop takes a permit of its own.
    async fn attempt(
        &self,
        request: &Rendered,
        variables: &[(String, Value)],
        spot: &Spot<'_>,
        attempt: u32,
        under: &mut Under,
    ) -> Result<Outcome, Box<Failure>> {
        let place = spot.text;
        let mut bare = Request {
            method: request.method.clone(),
            url: request.url.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
            reach: Reach::default(),
            private: false,
            fresh: self.is_paid(),
        };
        agent::fill(&mut bare.headers, &self.run.agent);
        self.put_key(&mut bare.headers, spot);
        let mut known = self.known(request).await;
        if let Some(known) = &known {
            known.ask(&mut bare.headers);
        }
        let cost = self.cost(variables, place)?;
        let mut hops = 0;
        loop {
            let (wire, credential) = match self.admit(&mut bare) {
                Ok(admitted) => admitted,
                Err(why) => {
                    let message = format!("the address is refused: {why}");
                    let hint = why.hint();
                    return Ok(Outcome::Fail(trouble::refused(
                        &message,
                        hint.as_deref(),
                        place,
                    )));
                }
            };
            let needs = self.run.limits.needs(&limits::Asked {
                method: &bare.method,
                url: &bare.url,
                credential,
                variables,
                cost: &cost,
            });
            let needs = match needs {
                Ok(needs) => under.needs.insert(needs).clone(),
                Err(why) => return Ok(Outcome::Fail(trouble::no_turn(&why, place))),
            };
            let errand = Errand::Page {
                spot,
                trusted: credential,
            };
            let exchanged = self.exchange(wire, &errand, &needs, under);
            let (response, sent_at, permit, pass) = match exchanged.await? {
                Ok(exchanged) => exchanged,
                Err(outcome) => return Ok(outcome),
            };
            let is_known = known.as_ref().is_some_and(|k| k.is_answer(response.status));
            if response.status.is_redirection() && !is_known {
                // The body of a redirect is never decoded: it has nothing for us.
                permit.answered(Vec::new());
                pass.came(Came::Answer);
                match redirect::next_hop(
                    &bare,
                    response.status,
                    &response.headers,
                    &self.run.policy,
                    hops,
                ) {
                    Hop::Follow(next) => {
                        bare = *next;
                        self.run.credentials.strip(&mut bare.url);
                        hops += 1;
                        continue;
                    }
                    Hop::Refused { message, hint } => {
                        return Ok(Outcome::Fail(trouble::refused(
                            &message,
                            hint.as_deref(),
                            place,
                        )));
                    }
                    Hop::None => {
                        let verdict = verdict::by_status(
                            response.status,
                            &response.headers,
                            self.run.world.clock.calendar(),
                        );
                        return Ok(Outcome::Fail(self.refuse(verdict, &bare.url, place)));
                    }
                }
            }
            let status = response.status;
            let asked = (variables, place, attempt);
            let beyond = self.may_be_large(spot, status, &response.headers);
            let read = self
                .read((response, sent_at), permit, under, bare.url, beyond, asked)
                .await?;
            let read = match (read, &mut known) {
                (Ok(answer), Some(known)) if is_known => self.again(known, answer).await,
                (read, _) => read,
            };
            let read = match read {
                Ok(mut answer) => match self.understand(&mut answer, beyond.is_some(), place).await
                {
                    Ok(read) => Ok((answer, read)),
                    Err(outcome) => Err(outcome),
                },
                Err(outcome) => Err(outcome),
            };
            let outcome = match read {
                Ok((answer, (read, large))) => {
                    let mut outcome = self.judge(answer, read, variables, spot, attempt);
                    if let Outcome::Page(good) = &mut outcome
                        && good.page.before > 0
                    {
                        good.large = large;
                    }
                    outcome
                }
                Err(outcome) => {
                    pass.came(outcome.came(None));
                    return Ok(outcome);
                }
            };
            // A throttle says all by its pause.
            if !outcome.is_throttle() {
                self.heed(under);
            }
            pass.came(match outcome.came(Some(status)) {
                // What the limits of its scope hold back is no matter of the host: others may ask it.
                Came::Throttle if !self.run.plan.source.limits.is_empty() => Came::Answer,
                came => came,
            });
            if let (Outcome::Page(good), Some(known), false) = (&outcome, known, is_known)
                && good.large.is_none()
            {
                self.keep_copy(known, &good.answer).await;
            }
            return Ok(outcome);
        }
    }

    /// Reads the answer whole; the permit is held until the answer is judged.
    pub(super) async fn read(
        &self,
        (mut response, sent_at): (Response, Instant),
        permit: Permit,
        under: &mut Under,
        url: Url,
        beyond: Option<&Arc<dyn Spill>>,
        (variables, place, attempt): (&[(String, Value)], &str, u32),
    ) -> Result<Result<Answer, Outcome>, Box<Failure>> {
        let run = &self.run;
        let clock = run.world.clock;
        let timeouts = run.plan.source.timeouts;
        let watch = body::Watch {
            clock,
            idle: timeouts.idle,
            deadline: sent_at + under.time(timeouts.attempt, sent_at),
            cap: match beyond {
                Some(_) => self.most_body(),
                None => self.most_whole(),
            },
        };
        let beyond = beyond.map(|spill| Beyond {
            spill,
            whole: WHOLE.min(watch.cap),
        });
        let read = body::read_or_spill(
            response.status,
            &response.headers,
            &mut *response.body,
            &watch,
            beyond,
            &mut under.room,
        );
        let read = run.in_flight(read, self.is_paid()).await?;
        // Nobody looks into one that is not here.
        let nothing = BytesMut::new();
        let seen = read.as_ref().ok().map(|body| match body {
            Body::Whole(body) => body,
            Body::Large(_) => &nothing,
        });
        let said = (response.status, &response.headers, seen);
        let held = self.hold(permit, under.needs.as_ref(), said, variables, attempt);
        under.held = Some(held);
        let took = clock.now().saturating_duration_since(sent_at);
        Ok(match read {
            Ok(body) => {
                let (size, body, large) = match body {
                    Body::Whole(body) => (body.len(), body, None),
                    Body::Large(large) => {
                        let size = usize::try_from(large.len()).unwrap_or(usize::MAX);
                        (size, BytesMut::new(), Some(large))
                    }
                };
                Ok(Answer {
                    status: response.status,
                    headers: response.headers,
                    size,
                    body,
                    large,
                    url,
                    took,
                })
            }
            Err(error) => Err(unread(&error, place)),
        })
    }
}
