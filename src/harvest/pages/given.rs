//! A page of a partition, from the API or given: of one that asks for nothing the last value of `for`
//! stands for the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::harvest::attempt::fetched::Fetched;
use crate::harvest::attempt::once::Spot;
use crate::harvest::attempt::outcome::Unfetched;
use crate::harvest::partitions::record;
use crate::harvest::stream::Stream;
use crate::harvest::trouble;
use crate::plan::request::Rendered;

impl Stream {
    /// A page of a partition: from the API, or, where nothing is asked, the last value of `for`.
    pub(in crate::harvest) async fn ask(
        &self,
        request: &Rendered,
        spot: &Spot<'_>,
    ) -> Result<Fetched, Unfetched> {
        if self.plan().asks {
            self.fetch(request, &spot.partition.variables, spot).await
        } else {
            self.give(request, spot).await
        }
    }

    /// The same for those who only look: what `transform` makes of it.
    pub(in crate::harvest) async fn look_at(
        &self,
        request: &Rendered,
        spot: &Spot<'_>,
    ) -> Result<Fetched, Unfetched> {
        let fetched = self.ask(request, spot).await?;
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
        let body = Bytes::from(text);
        let (reader, whole) = (Arc::clone(&self.reader), body.clone());
        let select = move || reader.selector().select(&whole);
        let page = if self.selector().takes_time() {
            match tokio::task::spawn_blocking(select).await {
                Ok(page) => page,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        } else {
            select()
        };
        let page = page.map_err(|error| {
            let plan = &self.plan().records;
            let from = format!("nothing: it is in `{}`", given.map_or("", |(name, _)| name));
            Unfetched::from(trouble::select(&error, plan, &from, place, |t| {
                run.secrets.scrub(t)
            }))
        })?;
        Ok(Fetched {
            page,
            large: None,
            transformed: None,
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            size: body.len(),
            body: body.into(),
            url: request.url.clone(),
            last: true,
            took: Duration::ZERO,
            reservation,
        })
    }
}
