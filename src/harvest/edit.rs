//! What `transform` makes of a page.
//!
//! What was paid for (`once`) is on the disk as it came before a step touches it: a step that fails, or
//! brings the program down, loses nothing, and other steps are done to it without asking again. So
//! the part of such a stream holds each page twice. The one that came has a row of its own, which
//! says so; it is no page of the stream, and neither its children nor its outputs see it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};

use super::attempt::Fetched;
use super::commit::{Committer, New, Staged, What};
use super::digest::Digest;
use super::mistakes;
use super::once::Spot;
use super::pages::Got;
use super::stream::Stream;
use crate::crc;
use crate::failure::{Exit, Failure};
use crate::plan::request::Rendered;
use crate::records::page::Page;
use crate::records::transform::transform;
use crate::store::StoreError;
use crate::store::hash::stable;
use crate::store::index::PageRow;
use crate::store::stream::Piece;

/// A page of an earlier attempt.
pub(super) enum Found {
    /// As it would be made now.
    Page(PageRow),
    /// Not so, but as it came.
    AsItCame(PageRow),
}

impl Stream {
    /// Whether its pages are kept as they came too.
    fn keeps_what_came(&self) -> bool {
        self.is_paid() && !self.plan().transform.is_empty()
    }

    /// What its steps are known by, where pages are kept as they came too.
    pub(super) fn steps(&self) -> Option<String> {
        let steps = || format!("{:016x}", stable(&[&self.plan().steps()]));
        self.keeps_what_came().then(steps)
    }

    /// The records of a page that was fetched become those that are kept.
    pub(super) async fn edit(
        &self,
        fetched: Fetched,
        digest: &Digest,
        spot: &Spot<'_>,
        committer: &Committer,
    ) -> Result<Fetched, Box<Failure>> {
        if fetched.large.is_some() {
            return Ok(fetched);
        }
        let mut facts = self.written(digest);
        // What must not be written down is asked for again in any case.
        if self.keeps_what_came() && !facts.is_empty() {
            (facts.raw, facts.steps) = (true, None);
            let lines = fetched.page.lines.clone();
            let (partition, page) = (spot.partition.ordinal, spot.page);
            let came = Staged {
                partition,
                page,
                what: What::New(Box::new(New {
                    crc: crc::of(&lines),
                    lines,
                    records: u32::try_from(fetched.page.count()).unwrap_or(u32::MAX),
                    print: spot.print,
                    facts,
                    piece: Piece::Whole,
                    _reservation: None,
                })),
            };
            committer.commit(came).await?;
            self.arrived(partition, page);
        }
        self.transform(fetched, spot).await
    }

    /// A page of an earlier attempt, with what came taken through the steps of today.
    pub(super) async fn redo(
        self: &Arc<Self>,
        found: Found,
        digest: &Digest,
        request: &Rendered,
        spot: &Spot<'_>,
    ) -> Result<Got, Box<Failure>> {
        let row = match found {
            Found::Page(row) => return Ok(Got::Kept(row)),
            Found::AsItCame(row) => row,
        };
        let mut reservation = self.reserve().await?;
        let stream = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            let recall = stream.recall();
            recall.map(|recall| recall.records(&row)).transpose()
        });
        let lines = match read.await {
            Ok(lines) => lines.map_err(StoreError::into_failure)?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let lines = Bytes::from(lines.unwrap_or_default());
        self.run.budget.learn(lines.len());
        reservation.shrink(lines.len());
        let came = Fetched {
            page: Page::of_lines(lines),
            large: None,
            transformed: None,
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            size: 0,
            body: BytesMut::new(),
            url: request.url.clone(),
            last: digest.ended,
            took: Duration::ZERO,
            reservation,
        };
        let done = self.transform(came, spot).await?;
        Ok(Got::Redone(Box::new(done)))
    }

    /// Takes the records of a page through the stream's steps.
    pub(super) async fn transform(
        &self,
        fetched: Fetched,
        spot: &Spot<'_>,
    ) -> Result<Fetched, Box<Failure>> {
        self.transform_from(fetched, 0, spot).await
    }

    /// The same for a piece of a page, before which so many records came.
    pub(super) async fn transform_from(
        &self,
        mut fetched: Fetched,
        first: usize,
        spot: &Spot<'_>,
    ) -> Result<Fetched, Box<Failure>> {
        if self.plan().transform.is_empty() {
            return Ok(fetched);
        }
        let (run, at) = (self.run.clone(), self.at);
        let names = run.names.answer(&spot.partition.variables);
        // A filter may take its time.
        let work = tokio::task::spawn_blocking(move || {
            let steps = &run.plan.streams[at].transform;
            let done = transform(steps, first, fetched.page.records(), &names);
            done.map(|page| {
                fetched.transformed = Some(page);
                fetched
            })
        });
        match work.await {
            Ok(done) => done.map_err(|error| {
                let is_kept = self.sendings.is_some() && self.keeps_what_came();
                let scrub = |text: &str| self.run.secrets.scrub(text);
                mistakes::transform(&error, spot.text, is_kept, scrub)
            }),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// That an answer was paid for and is here only as steps left it that are not those of today.
    pub(super) fn came_otherwise(&self, place: &str) -> Box<Failure> {
        let message = format!("{place}: its answer is not here as it came, and was paid for");
        let mut failure = Failure::new(Exit::Failed, self.run.secrets.scrub(&message));
        failure.hint = Some(
            "take the change of `transform` back, or give up what the run keeps with `--fresh`"
                .to_owned(),
        );
        Box::new(failure)
    }
}
