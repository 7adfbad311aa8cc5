//! A page of a partition, from the API or given: of one that asks for nothing the last value of `for`
//! stands for the answer. Either way its records go through `transform`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::attempt::Fetched;
use super::once::Spot;
use super::outcome::Unfetched;
use super::record;
use super::stream::Stream;
use super::trouble;
use crate::failure::Failure;
use crate::plan::request::Rendered;
use crate::records::transform::transform;

impl Stream {
    /// A page of a partition: from the API, or, where nothing is asked, the last value of `for`.
    pub(super) async fn ask(
        &self,
        request: &Rendered,
        spot: &Spot<'_>,
    ) -> Result<Fetched, Unfetched> {
        let fetched = if self.plan().asks {
            (self.fetch(request, &spot.partition.variables, spot)).await?
        } else {
            self.give(request, spot).await?
        };
        if self.plan().transform.is_empty() {
            return Ok(fetched);
        }
        Ok(self.transform(fetched, spot).await?)
    }

    async fn give(&self, request: &Rendered, spot: &Spot<'_>) -> Result<Fetched, Unfetched> {
        let (partition, place) = (spot.partition, spot.text);
        let given = partition.of_for().last();
        let text = given.map_or_else(String::new, |(_, value)| record::text(value));
        let run = &self.run;
        let mut reservation = self.reserve().await?;
        run.budget.learn(text.len());
        reservation.shrink(2 * text.len()); // as text and as lines
        let page = self.selector().select(text.as_bytes()).map_err(|error| {
            let plan = &self.plan().records;
            let from = format!("nothing: it is in `{}`", given.map_or("", |(name, _)| name));
            Unfetched::from(trouble::select(&error, plan, &from, place, |t| {
                run.secrets.scrub(t)
            }))
        })?;
        Ok(Fetched {
            page,
            transformed: None,
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            size: text.len(),
            body: Bytes::from(text).into(),
            url: request.url.clone(),
            last: true,
            took: Duration::ZERO,
            reservation,
        })
    }

    /// Takes the records of a page through the stream's steps.
    async fn transform(
        &self,
        mut fetched: Fetched,
        spot: &Spot<'_>,
    ) -> Result<Fetched, Box<Failure>> {
        let (run, at) = (self.run.clone(), self.at);
        let names = run.names.answer(&spot.partition.variables);
        // A filter may take its time.
        let work = tokio::task::spawn_blocking(move || {
            let steps = &run.plan.streams[at].transform;
            let done = transform(steps, fetched.page.records(), &names);
            done.map(|page| {
                fetched.transformed = Some(page);
                fetched
            })
        });
        match work.await {
            Ok(done) => done.map_err(|error| {
                trouble::transform(&error, spot.text, |text| self.run.secrets.scrub(text))
            }),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}
