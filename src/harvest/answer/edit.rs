//! Answers that are kept as they came, and what `transform` makes of their records.
//!
//! What was paid for (`once`), and what `keep: raw` asks for, is on the disk as it came before anybody
//! looks into it. So a step that fails, a path that finds nothing, or a program that dies loses no answer that
//! was paid for: a later attempt reads it in another way without asking again. The part of such a
//! stream holds a packed answer before each page. It has a row of its own, which says so; it is no page
//! of the stream, and neither its children nor its outputs see it. With `keep: raw` it gets a file of its own
//! when the stream is published (`raw.rs`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use url::Url;

use super::mistakes;
use crate::crc;
use crate::failure::{Exit, Failure};
use crate::harvest::attempt::fetched::Fetched;
use crate::harvest::attempt::once::{Spot, Unknown};
use crate::harvest::attempt::outcome::{Answer, Good, Outcome, Unfetched};
use crate::harvest::commit::{Committer, New, Staged, What};
use crate::harvest::pages::Got;
use crate::harvest::pages::digest::Digest;
use crate::harvest::stream::Stream;
use crate::harvest::tape;
use crate::plan::request::Rendered;
use crate::records::transform::transform;
use crate::store::hash::stable;
use crate::store::index::PageRow;
use crate::store::row::{Came, Facts};
use crate::store::stream::Piece;
use crate::store::{StoreError, came};

/// Bodies larger than this are packed away from the async threads.
const BLOCKING_FROM: usize = 64 << 10;

/// A page of an earlier attempt.
pub(in crate::harvest) enum Found {
    /// As it would be made now.
    Page(PageRow, Digest),
    /// Not so, but as it came.
    AsItCame(PageRow, Box<Came>),
}

/// Why what came is no page.
enum Unread {
    /// It cannot be read as it is read today.
    Answer(Box<Failure>),
    /// It cannot be had back.
    Here(Box<Failure>),
}

impl From<Box<Failure>> for Unread {
    fn from(failure: Box<Failure>) -> Self {
        Self::Here(failure)
    }
}

/// An answer that is to be kept, without secrets.
#[derive(Debug)]
pub(in crate::harvest) struct Packed {
    frame: Bytes,
    came: Box<Came>,
}

impl Stream {
    /// Whether answers are kept as they came.
    fn keeps_what_came(&self) -> bool {
        self.sendings.is_some() || self.plan().keeps_raw && self.run.options.leaves_trace()
    }

    /// What makes pages of answers is known by this, where it can be done again.
    pub(in crate::harvest) fn reading(&self) -> Option<String> {
        let reading = || format!("{:016x}", stable(&[&self.plan().reading()]));
        self.is_paid().then(reading)
    }

    /// Packs an answer.
    pub(in crate::harvest) async fn pack(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        url: &Url,
        body: Bytes,
    ) -> Result<Packed, Box<Failure>> {
        let cleaner = tape::cleaner(&self.run.secrets, &self.run.credentials);
        let mut came = Box::new(Came {
            url: cleaner.address(url),
            status: status.as_u16(),
            headers: cleaner.heard(headers),
            size: 0,
            received: self.run.world.clock.calendar(),
        });
        let is_large = body.len() > BLOCKING_FROM;
        let work = move || {
            let clean = cleaner.body(&body);
            came.size = clean.len() as u64;
            let frame = came::pack(&clean)?.into();
            Ok(Packed { frame, came })
        };
        let packed = if is_large {
            match tokio::task::spawn_blocking(work).await {
                Ok(packed) => packed,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        } else {
            work()
        };
        packed.map_err(|error: io::Error| {
            let message = format!("{}: an answer cannot be packed: {error}", self.name);
            Box::new(Failure::new(Exit::Failed, message))
        })
    }

    /// Packs an answer that cannot be read.
    pub(in crate::harvest) async fn pack_answer(
        &self,
        answer: Answer,
    ) -> Result<Box<Packed>, Box<Failure>> {
        let (body, headers) = (answer.body.freeze(), &answer.headers);
        let packed = self.pack(answer.status, headers, &answer.url, body);
        Ok(Box::new(packed.await?))
    }

    /// A page from the API; its answer is kept before anybody looks into its records.
    pub(in crate::harvest) async fn ask_and_keep(
        &self,
        request: &Rendered,
        spot: &Spot<'_>,
        committer: &Committer,
    ) -> Result<Fetched, Unfetched> {
        match self.ask(request, spot).await {
            Ok(mut fetched) if self.keeps_what_came() => {
                let body = std::mem::take(&mut fetched.body).freeze();
                let (status, url) = (fetched.status, &fetched.url);
                let packed = self.pack(status, &fetched.headers, url, body.clone());
                self.put_away(packed.await?, spot, committer).await?;
                fetched.body = body.into();
                Ok(fetched)
            }
            Ok(fetched) => Ok(fetched),
            Err(mut unfetched) => {
                if let Some(packed) = unfetched.came.take() {
                    self.put_away(*packed, spot, committer).await?;
                    self.cannot_read(spot, &unfetched.failure);
                }
                Err(unfetched)
            }
        }
    }

    async fn put_away(
        &self,
        Packed { frame, came }: Packed,
        spot: &Spot<'_>,
        committer: &Committer,
    ) -> Result<(), Box<Failure>> {
        let (partition, page) = (spot.partition.ordinal, spot.page);
        let came = Staged {
            partition,
            page,
            what: What::New(Box::new(New {
                crc: crc::of(&frame),
                lines: frame,
                records: 0,
                print: spot.print,
                facts: Facts {
                    came: Some(came),
                    ..Facts::default()
                },
                piece: Piece::Whole,
                _reservation: None,
            })),
        };
        committer.commit(came).await?;
        self.arrived(partition, page);
        Ok(())
    }

    /// A page of an earlier attempt; what came is read as it is read today.
    pub(in crate::harvest) async fn again_of(
        self: &Arc<Self>,
        found: Found,
        request: &Rendered,
        spot: &Spot<'_>,
        size: Option<u64>,
        committer: &Committer,
    ) -> Result<(Got, Digest), Unfetched> {
        let (row, came) = match found {
            Found::Page(row, digest) => return Ok((Got::Kept(row), digest)),
            Found::AsItCame(row, came) => (row, came),
        };
        match self.read_again(row, came, request, spot).await {
            Ok(fetched) => {
                let digest = self.digest(&fetched, size);
                Ok((Got::Redone(Box::new(fetched)), digest))
            }
            // Nobody can read it; then it may be asked for again.
            Err(Unread::Answer(_)) if self.run.options.unknown == Unknown::Resend => {
                let fetched = self.ask_and_keep(request, spot, committer).await?;
                let digest = self.digest(&fetched, size);
                Ok((Got::Fetched(Box::new(fetched)), digest))
            }
            Err(Unread::Answer(failure)) => {
                self.cannot_read(spot, &failure);
                Err(failure.into())
            }
            Err(Unread::Here(failure)) => Err(failure.into()),
        }
    }

    async fn read_again(
        self: &Arc<Self>,
        row: PageRow,
        came: Box<Came>,
        request: &Rendered,
        spot: &Spot<'_>,
    ) -> Result<Fetched, Unread> {
        let mut reservation = self.reserve().await?;
        let (stream, told) = (Arc::clone(self), came.clone());
        let read = tokio::task::spawn_blocking(move || {
            let recall = stream.recall();
            recall.map(|recall| recall.body(&row, &told)).transpose()
        });
        let body = match read.await {
            Ok(body) => body.map_err(StoreError::into_failure)?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let body = body.unwrap_or_default();
        let mut headers = HeaderMap::new();
        for (name, value) in &came.headers {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                headers.append(name, value);
            }
        }
        let mut answer = Answer {
            status: StatusCode::from_u16(came.status).unwrap_or_default(),
            headers,
            size: body.len(),
            body: BytesMut::from(&body[..]),
            large: None,
            url: Url::parse(&came.url).unwrap_or_else(|_| request.url.clone()),
            took: Duration::ZERO,
        };
        let attempts = self.run.plan.source.retry.attempts;
        let outcome = match self.understand(&mut answer, false, spot.text).await {
            Ok((read, _)) => {
                let variables = &spot.partition.variables;
                self.judge(answer, read, variables, spot, attempts)
            }
            Err(outcome) => outcome,
        };
        let Good {
            answer, page, last, ..
        } = match outcome {
            Outcome::Page(good) => *good,
            Outcome::Fail(failure)
            | Outcome::Refused(failure)
            | Outcome::Unread(_, failure)
            | Outcome::TooLarge(failure)
            | Outcome::Expired(failure)
            | Outcome::Stale(failure) => return Err(Unread::Answer(failure)),
            Outcome::Trouble(..) | Outcome::NotReady(_) => {
                return Err(Unread::Answer(self.came_otherwise(spot.text)));
            }
        };
        let occupied = answer.body.len() + page.lines.len();
        self.run.budget.learn(occupied);
        reservation.shrink(occupied);
        Ok(Fetched {
            page,
            large: None,
            transformed: None,
            status: answer.status,
            headers: answer.headers,
            size: 0,
            body: answer.body,
            url: answer.url,
            last,
            took: Duration::ZERO,
            reservation,
        })
    }

    /// A page with its records as they are kept.
    pub(in crate::harvest) async fn edit(
        &self,
        got: Got,
        spot: &Spot<'_>,
    ) -> Result<Got, Box<Failure>> {
        Ok(match got {
            Got::Fetched(page) => Got::Fetched(Box::new(self.transform(*page, spot).await?)),
            Got::Redone(page) => Got::Redone(Box::new(self.transform(*page, spot).await?)),
            Got::Kept(row) => Got::Kept(row),
        })
    }

    /// Takes the records of a page through the stream's steps.
    pub(in crate::harvest) async fn transform(
        &self,
        fetched: Fetched,
        spot: &Spot<'_>,
    ) -> Result<Fetched, Box<Failure>> {
        // One that comes in pieces goes through them piece by piece.
        if fetched.large.is_some() {
            return Ok(fetched);
        }
        self.transform_from(fetched, 0, spot).await
    }

    /// The same for a piece of a page, before which so many records came.
    pub(in crate::harvest) async fn transform_from(
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
                let scrub = |text: &str| self.run.secrets.scrub(text);
                mistakes::transform(&error, spot.text, self.sendings.is_some(), scrub)
            }),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// That an answer was paid for and is here only as it was read then, which is not how it is read
    /// today.
    pub(in crate::harvest) fn came_otherwise(&self, place: &str) -> Box<Failure> {
        let message = format!("{place}: its answer is not here as it came, and was paid for");
        let mut failure = Failure::new(Exit::Failed, self.run.secrets.scrub(&message));
        failure.hint = Some(
            "take the change of `records`, `format`, `responses` or `transform` back, or give up what the run keeps with `--fresh`"
                .to_owned(),
        );
        Box::new(failure)
    }
}
