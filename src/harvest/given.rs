//! A page of a partition that asks for nothing: the last value of `for` stands for the answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::attempt::Fetched;
use super::once::Spot;
use super::outcome::Unfetched;
use super::record;
use super::stream::Stream;
use super::trouble;
use crate::plan::request::Rendered;

impl Stream {
    /// A page of a partition: from the API, or, where nothing is asked, the last value of `for`.
    pub(super) async fn ask(
        &self,
        request: &Rendered,
        spot: &Spot<'_>,
    ) -> Result<Fetched, Unfetched> {
        let (partition, place) = (spot.partition, spot.text);
        if self.plan().asks {
            return self.fetch(request, &partition.variables, spot).await;
        }
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
}
