//! What a request costs, where limits count in units: at most, before it is sent; in fact, as its
//! answer tells.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use minijinja::Value;

use super::stream::Stream;
use super::trouble;
use crate::event::Name;
use crate::failure::Failure;

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
        let names = self.answer_names(&status, headers, body, variables, attempt, None);
        told()
            .filter_map(|cost| {
                let number = cost.actual.as_ref()?.number(&names).ok()?;
                Some((Name::from(cost.unit.as_str()), number))
            })
            .collect()
    }
}
