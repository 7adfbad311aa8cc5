//! The turn of a request: what it costs at most, the wait for its permit, and what it cost in fact,
//! as its answer tells.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use minijinja::Value;

use super::stream::Stream;
use super::trouble;
use crate::event::{Fact, Name, Wait};
use crate::failure::Failure;
use crate::limits::{Needs, Permit, Turn};

/// What an attempt went out under.
#[derive(Default)]
pub(super) struct Under {
    /// The limits of its last request: what a throttle holds.
    pub(super) needs: Option<Needs>,
    /// How long it waited for its turns.
    pub(super) in_line: Duration,
    /// The permit of its last request, answered in full: given back when the answer is judged,
    /// so that nobody takes it between a refusal and the pause that the refusal brings.
    pub(super) held: Option<Held>,
}

/// A permit and what its request cost in fact, by unit.
pub(super) type Held = (Permit, Vec<(Name, f64)>);

impl Under {
    pub(super) fn give_back(&mut self) {
        if let Some((permit, spent)) = self.held.take() {
            permit.answered(spent);
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
    pub(super) fn cost(
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
                Err(problem) => Err(trouble::rule(
                    &format!("cost.{}", cost.unit),
                    &problem,
                    place,
                )),
            })
            .collect()
    }

    /// Waits for a permit, telling what it waits for.
    pub(super) async fn permit(&self, needs: &Needs) -> Result<Permit, Box<Failure>> {
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
        let taken = self.run.limits.permit(
            needs,
            |turn| {
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
        let permit = self.run.until_stopped(taken).await;
        for message in self.run.limits.notices() {
            self.emit(Fact::Noticed {
                stream: self.name.clone(),
                message,
            });
        }
        permit
    }

    /// What it cost in fact, by unit; a unit that the answer does not tell is left out, and then
    /// stays charged at most.
    pub(super) fn spent(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &Bytes,
        variables: &[(String, Value)],
        attempt: u32,
    ) -> Vec<(Name, f64)> {
        let told = || self.plan().cost.iter().filter(|cost| cost.actual.is_some());
        if told().next().is_none() {
            return Vec::new();
        }
        let names = self.answer_names(status, headers, body, variables, attempt, None);
        told()
            .filter_map(|cost| {
                let number = cost.actual.as_ref()?.number(&names).ok()?;
                Some((Name::from(cost.unit.as_str()), number))
            })
            .collect()
    }
}
