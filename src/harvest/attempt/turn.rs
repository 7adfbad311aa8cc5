//! The turn of a request: what it costs at most, the wait for its permit, and what it cost in fact,
//! as its answer tells.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, StatusCode};
use minijinja::Value;
use tokio::sync::Notify;

use super::budget::Reservation;
use super::outcome::Sent;
use super::told::Told;
use super::verdict::Trouble;
use crate::clock::Instant;
use crate::event::{Fact, FailureClass, Name, Wait};
use crate::failure::Failure;
use crate::fetch::room::Room;
use crate::harvest::answer::Seen;
use crate::harvest::answer::mistakes;
use crate::harvest::run::interrupted;
use crate::harvest::stream::Stream;
use crate::harvest::tokens::Token;
use crate::harvest::trouble;
use crate::limits::{Needs, Permit, Turn};

/// The least time that a repeat gets.
const LEAST: Duration = Duration::from_secs(1);

/// What an attempt went out under.
#[derive(Default)]
pub(in crate::harvest) struct Under {
    /// The limits of its last request: what a throttle holds.
    pub(in crate::harvest) needs: Option<Needs>,
    /// How long it waited for its turns.
    pub(in crate::harvest) in_line: Duration,
    /// The permit of its last request, answered in full: given back when the answer is judged,
    /// so that nobody takes it between a refusal and the pause that the refusal brings.
    pub(in crate::harvest) held: Option<Held>,
    /// The token that its last request carried.
    pub(in crate::harvest) token: Option<Arc<Token>>,
    /// Whether one of its requests may have been acted on, as far as status or error tell.
    pub(in crate::harvest) acted: Sent,
    /// Whether one that led on to another may have been.
    pub(in crate::harvest) led: Sent,
    /// For a repeat: when it began, and how much of the page's time was left then.
    pub(in crate::harvest) left: Option<(Instant, Duration)>,
    /// Room for the answer; what is more than was set aside goes back with the attempt.
    pub(in crate::harvest) room: Room,
}

/// The permit of an answered request, and what the answer says of limits.
pub(in crate::harvest) struct Held {
    pub(in crate::harvest) permit: Permit,
    /// What the request cost in fact, by unit.
    pub(in crate::harvest) spent: Vec<(Name, f64)>,
    /// What is left, and who wants to be left alone.
    pub(in crate::harvest) told: Told,
}

impl Under {
    /// How long what is sent now may take: as long as an attempt may, or what is left of the page's time,
    /// which waits for turns are no part of. A second at least: what has less need not be sent.
    pub(in crate::harvest) fn time(&self, whole: Duration, now: Instant) -> Duration {
        let Some((began, left)) = self.left else {
            return whole;
        };
        let gone = now.saturating_duration_since(began);
        let left = (left + self.in_line).saturating_sub(gone);
        whole.min(left.max(LEAST))
    }

    pub(in crate::harvest) fn give_back(&mut self) {
        if let Some(held) = self.held.take() {
            held.permit.answered(held.spent);
        }
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Stream {
    /// What a request may cost at most, by unit.
    pub(in crate::harvest) fn cost(
        &self,
        variables: &[(String, Value)],
        place: &str,
    ) -> Result<Vec<(Name, f64)>, Box<Failure>> {
        let costs = &self.plan().cost;
        if costs.is_empty() {
            return Ok(Vec::new());
        }
        let names = self.run.names.output(variables);
        costs
            .iter()
            .map(|cost| match cost.at_most.number(&names) {
                Ok(number) => Ok((Name::from(cost.unit.as_str()), number)),
                Err(problem) => Err(mistakes::rule(
                    &format!("cost.{}", cost.unit),
                    &problem,
                    place,
                    None,
                )),
            })
            .collect()
    }

    /// Waits for a permit, telling what it waits for. A pause longer than `retry.max_wait` is not
    /// waited for.
    pub(in crate::harvest) async fn permit(
        &self,
        needs: &Needs,
        place: &str,
    ) -> Result<Permit, Box<Failure>> {
        let clock = self.run.world.clock;
        let id = self.run.wait_id();
        // Values of `for` may come from the environment.
        let told = |turn: &Turn| {
            let mut why = turn.why.clone();
            if let Wait::Limit { scope, .. } | Wait::Pause { scope, .. } = &mut why {
                let scrubbed = scope.take().map(|it| self.run.secrets.scrub(&it).into());
                *scope = scrubbed;
            }
            why
        };
        let silent = |turn: &Turn| turn.why == Wait::Concurrency;
        let most = self.run.plan.source.retry.max_wait;
        let (mut too_long, gives_up) = (None, Notify::new());
        let taken = self.run.limits.permit(
            needs,
            |turn| {
                let wait = turn
                    .until
                    .map(|at| at.saturating_duration_since(clock.now()));
                if let (Wait::Pause { told, .. }, Some(wait)) = (&turn.why, wait)
                    && wait > most
                {
                    too_long = Some((told.clone(), wait));
                    gives_up.notify_one();
                }
                if !silent(turn) {
                    let until = turn.until.map(|at| clock.calendar_at(at));
                    self.emit(Fact::WaitBegan {
                        stream: self.name.clone(),
                        id,
                        why: told(turn),
                        until,
                    });
                }
            },
            |turn, took| {
                if !silent(turn) {
                    self.emit(Fact::WaitEnded {
                        stream: self.name.clone(),
                        id,
                        why: told(turn),
                        took,
                    });
                }
            },
        );
        let taken = async {
            tokio::select! {
                permit = taken => Some(permit),
                () = gives_up.notified() => None,
            }
        };
        let taken = self.run.until_stopped(taken).await;
        for message in self.run.limits.notices() {
            self.emit(Fact::Noticed {
                stream: self.name.clone(),
                message,
            });
        }
        match (taken?, too_long) {
            (Some(permit), _) => Ok(permit),
            (None, told) => {
                let (told, wait) = told.unwrap_or_default();
                let told = trouble::at(place, &told);
                Err(trouble::asks_too_much(&told, Vec::new(), wait, most))
            }
        }
    }

    /// Room for a page.
    pub(in crate::harvest) async fn reserve(&self) -> Result<Reservation, Box<Failure>> {
        let reserved = self.run.until_stopped(self.run.budget.reserve()).await?;
        reserved.ok_or_else(interrupted)
    }

    /// Waits, and tells for what.
    pub(in crate::harvest) async fn wait_until(
        &self,
        at: Instant,
        why: Wait,
    ) -> Result<(), Box<Failure>> {
        let clock = self.run.world.clock;
        let began = clock.now();
        let id = self.run.wait_id();
        self.emit(Fact::WaitBegan {
            stream: self.name.clone(),
            id,
            why: why.clone(),
            until: Some(clock.calendar_at(at)),
        });
        let waited = self.run.until_stopped(clock.sleep_until(at)).await;
        self.emit(Fact::WaitEnded {
            stream: self.name.clone(),
            id,
            why,
            took: clock.now().saturating_duration_since(began),
        });
        waited
    }

    /// Waits until a request may be repeated. A throttle holds its whole scope, once, and this task then
    /// waits for its turn like the rest.
    pub(in crate::harvest) async fn wait_out(
        &self,
        trouble: &Trouble,
        again: Instant,
        under: &mut Under,
    ) -> Result<(), Box<Failure>> {
        if let (FailureClass::Throttle, Some(needs)) = (trouble.class, &under.needs) {
            self.run.limits.pause(needs, again, &trouble.message);
            return Ok(());
        }
        under.give_back();
        let why = Wait::Backoff {
            class: trouble.class,
        };
        self.wait_until(again, why).await
    }

    /// What the answer says of limits: what the request cost in fact, by unit (a unit that it does
    /// not tell is left out, and then stays charged at most), and what is left.
    pub(in crate::harvest) fn hold(
        &self,
        permit: Permit,
        needs: Option<&Needs>,
        (status, headers, body): (StatusCode, &HeaderMap, Option<&BytesMut>),
        variables: &[(String, Value)],
        attempt: u32,
    ) -> Held {
        let tells = self.plan().cost.iter().filter(|cost| cost.actual.is_some());
        let is_read = tells.clone().next().is_some() || self.reads_signals();
        // Half a body tells nothing.
        let names = body.filter(|_| is_read).map(|body| {
            let seen = Seen::of(body, None);
            self.answer_names(status, headers, seen, variables, attempt, None)
        });
        let spent = names.iter().flat_map(|names| {
            tells.clone().filter_map(move |cost| {
                let number = cost.actual.as_ref()?.number(names).ok()?;
                Some((Name::from(cost.unit.as_str()), number))
            })
        });
        Held {
            permit,
            spent: spent.collect(),
            told: needs
                .map(|needs| self.told(needs, headers, names.as_ref()))
                .unwrap_or_default(),
        }
    }
}
